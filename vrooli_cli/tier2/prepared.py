"""What every root run has, of a routine or of a swarm: how it is opened, run to its end, watched and stopped.

Tier 1 stands on tier 2, so both find it here: :class:`Prepared` is one run, :class:`Tier` the door behind which a
tier's runs are.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

from vrooli_cli.bus import Channel
from vrooli_cli.errors import StoreError, VrooliError, innermost
from vrooli_cli.journal.inbox import Inbox
from vrooli_cli.ledger import ResourceTracker
from vrooli_cli.model.events import Event
from vrooli_cli.model.plan import PlanSummary
from vrooli_cli.model.routine import Bundle
from vrooli_cli.model.run import (
    ExecutionContext,
    ExecutionError,
    ExecutionResult,
    ExecutionStatus,
    ResourceAllocation,
    TierExecutionRequest,
)
from vrooli_cli.model.swarm import SwarmBundle
from vrooli_cli.model.values import lean
from vrooli_cli.tier2.context import RunContext
from vrooli_cli.tier2.reuse import Reuse
from vrooli_cli.tier2.stimuli import Answered
from vrooli_cli.tier3.scope import Scope

INBOX_SECONDS: Final = 1.0
"""How often a run looks for what other processes ask of it."""


@lean(kw_only=True)
class RunOptions:
    """How to run, beside what to run; the flags of ``vrooli run``.

    Attributes:
        run_id: None makes a new one.
        environ: The environment that the run may look at.
        settings: What the history keeps so that a resume can say it again.
        earlier: The run whose results are used where nothing has changed.
        forced: Steps that run all the same, with what is inside them.
        plan_only: A swarm ends when it has a team, so nobody but its planner is asked.
        cache: False with ``--no-cache``: steps with ``cache`` use and keep nothing.
    """

    keep_going: bool = False
    schedule: str | None = None
    timeout_ms: int | None = None
    grace_ms: int = 5000
    environ: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    earlier: str | None = None
    forced: tuple[str, ...] = ()
    plan_only: bool = False
    cache: bool = True


@lean(kw_only=True)
class Opening:
    """What the architecture is told when a root run opens.

    Attributes:
        log: The facts of an earlier life of this run, when it goes on.
        assume: What a person says of steps whose outcome is unknown.
    """

    context: ExecutionContext
    allocation: ResourceAllocation
    options: RunOptions
    bundle: Bundle | SwarmBundle
    plan: Any
    inputs: Mapping[str, Any]
    log: Sequence[tuple[Event, int]] = ()
    assume: Mapping[str, str] = field(default_factory=dict)


async def _nothing_to_settle() -> None:
    """Nobody works beside the run."""


@lean(frozen=False)
class Opened:
    """What the architecture made for a root run.

    Attributes:
        narrow: Makes the scope of a child run from its parent's.
        settle: Waits for what works beside the run (event agents), before its result is made.
        reuse: Results of other runs.
        inbox: What other processes leave for this run; None when nobody can.
        close: Writes the run's end into the history and lets go of everything; the last thing that happens.
    """

    channel: Channel
    scope: Scope
    narrow: Callable[[RunContext, Scope], Scope]
    close: Callable[[ExecutionResult], Any]
    work_dir: str = ""
    settle: Callable[[], Awaitable[None]] = _nothing_to_settle
    inbox: Inbox | None = None
    reuse: Reuse | None = None


class Shell(Protocol):
    """What a run asks of the shell around its machine."""

    def cancel(self, reason: str) -> None:
        """Ask the run to stop."""

    def status_of(self, execution_id: str) -> ExecutionStatus | None:
        """The status of the run or of one inside it; None for another's."""


class Prepared(ABC):
    """A root run that has only to be started.

    Attributes:
        tier: Whose errors its own failures are.
        summary: The plan as a view may see it.
        channel: Where a view, files and handlers listen.
        bug: What ended the run if it was a bug of ours.
    """

    tier: ClassVar[Literal["tier1", "tier2"]]

    def __init__(
        self,
        shell: Shell,
        summary: PlanSummary,
        opened: Opened,
        request: TierExecutionRequest,
        tracker: ResourceTracker,
    ) -> None:
        self.context = request.context
        self.summary = summary
        self.channel = opened.channel
        self.scope: Scope = opened.scope
        self.bug: BaseException | None = None
        self._shell = shell
        self._opened = opened
        self._tracker = tracker
        self._allocation = request.allocation

    @property
    def run_id(self) -> str:
        """The execution id of the root run."""
        return self.context.execution_id

    @property
    @abstractmethod
    def waiting(self) -> list[tuple[str, str]]:
        """Address and code of every step that waits for a person."""

    def cancel(self, reason: str = "user") -> None:
        """Ask the run to stop."""
        self._shell.cancel(reason)

    def status_of(self, execution_id: str) -> ExecutionStatus | None:
        """The status of this run or of one inside it; None for another's."""
        return self._shell.status_of(execution_id)

    async def run(self) -> ExecutionResult:
        """Run to the end or the suspension.

        Raises:
            asyncio.CancelledError: The caller was cancelled; everything in the run has been stopped.
        """
        await self._tracker.start_tracking(
            self.run_id, self._allocation, account=self.scope.account, cancel=self.cancel
        )
        inbox = asyncio.create_task(self._listen(), name=f"inbox:{self.run_id}")
        try:
            await self._go(self.scope.clock.now_ns())  # not when it was prepared: what lies between belongs to no step
        except* Exception as bugs:
            self.bug = innermost(bugs)
        finally:
            inbox.cancel()
            self._let_go()
        await self._opened.settle()
        result = self._checked(self._result())
        try:
            await self._opened.close(result)
        except VrooliError as error:  # what cannot be stored has not succeeded
            result = _failed(result, ExecutionError.of(error))
        self._tracker.set_status(self.run_id, result.status)
        await self._tracker.stop_tracking(self.run_id)
        return result

    @abstractmethod
    async def _go(self, now: int) -> None:
        """Have the shell run from its first stimulus to the end."""

    @abstractmethod
    def _answer(self, given: Answered) -> None:
        """A person's answer from another process."""

    @abstractmethod
    def _result(self) -> ExecutionResult:
        """What the machine has to show for itself."""

    def _let_go(self) -> None:
        """Close what was opened beside the run."""
        return

    async def _listen(self) -> None:
        """Does what other processes ask of this run: answers of approvals, a cancel."""
        inbox = self._opened.inbox
        while inbox is not None:
            await asyncio.sleep(INBOX_SECONDS)
            try:
                commands = inbox.new()
            except StoreError:  # whoever needs the store is told by the channel
                continue
            for command in commands:
                given = answer_in(command, self.scope.clock.now_ns())
                if command.get("do") == "cancel":
                    self.cancel()
                elif given is not None:
                    self._answer(given)

    def _checked(self, result: ExecutionResult) -> ExecutionResult:
        """A bug of ours, or a journal that could not be written, is a failure whatever the steps did."""
        if self.bug is not None:
            cause = f"{type(self.bug).__name__}: {self.bug}"[:500]
            message = "a bug in vrooli ended the run"
            return _failed(result, ExecutionError(code="INTERNAL", message=message, tier=self.tier, cause=cause))
        if self.channel.failure is not None and result.success:
            return _failed(result, ExecutionError.of(self.channel.failure, tier=self.tier))
        return result


def _failed(result: ExecutionResult, error: ExecutionError) -> ExecutionResult:
    return replace(result, success=False, status=ExecutionStatus.FAILED, error=error, result=None)


def answer_in(command: Mapping[str, Any], now: int) -> Answered | None:
    """The answer that a command of the inbox is: ``{"do": "approve" or "reject", "step": …, "by": …}``."""
    if command.get("do") not in ("approve", "reject"):
        return None
    approved = command["do"] == "approve"
    return Answered(now, str(command.get("step", "")), approved, str(command.get("by", "")), command.get("comment"))


PreparedT = TypeVar("PreparedT", bound=Prepared)


class Tier(ABC, Generic[PreparedT]):
    """The door of a tier that runs root runs.

    Args:
        tracker: Who is at work, for status and cancel.
        opener: Makes channel and scope of a new root run.
    """

    def __init__(self, tracker: ResourceTracker, opener: Callable[[Opening], Opened]) -> None:
        self._tracker = tracker
        self._opener = opener
        self._active: dict[str, PreparedT] = {}

    @abstractmethod
    def prepare(self, request: TierExecutionRequest, options: RunOptions | None = None) -> PreparedT:
        """Everything that can be refused before anything runs; raises VrooliError."""

    async def execute(self, request: TierExecutionRequest) -> ExecutionResult:
        """Run to the end; every failure is a result. See :meth:`prepare` for what is refused (``status: failed``)."""
        try:
            prepared = self.prepare(request)
        except VrooliError as error:
            failed = ExecutionStatus.FAILED
            told = ExecutionError.of(error)
            return ExecutionResult(success=False, status=failed, context=request.context, error=told)
        try:
            return await prepared.run()
        finally:
            self._active.pop(prepared.run_id, None)

    async def get_execution_status(self, execution_id: str) -> ExecutionStatus:
        """Where a run, or a run inside one that is at work, is; UnknownRunError (a KeyError) for an unknown id."""
        for prepared in self._active.values():
            status = prepared.status_of(execution_id)
            if status is not None:
                return status
        return await self._tracker.get_execution_status(execution_id)

    async def cancel_execution(self, execution_id: str) -> None:
        """Ask a run to stop, from any task; its ``execute`` returns with status ``cancelled``."""
        await self._tracker.cancel_execution(execution_id)
