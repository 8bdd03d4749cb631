"""The door of tier 2: a request comes in, a routine is planned and run, a result goes out; no failure is raised.

``prepare`` makes everything that can be refused before anything runs; what it returns is a run that has only to be
started, so that a view, files and signals can be attached to it first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vrooli_cli.bus import Channel
from vrooli_cli.errors import DefinitionError, Problem, StoreError, VrooliError
from vrooli_cli.ledger import ResourceTracker
from vrooli_cli.loading.bundle import bundle_of_workflow
from vrooli_cli.model.events import Event
from vrooli_cli.model.plan import PlanSummary
from vrooli_cli.model.routine import Bundle
from vrooli_cli.model.run import (
    ExecutionContext,
    ExecutionError,
    ExecutionResult,
    ExecutionStatus,
    ResourceAllocation,
    RoutineExecutionInput,
    TierExecutionRequest,
)
from vrooli_cli.model.swarm import SwarmBundle
from vrooli_cli.tier2.context import BlackboardManager, RunContext, check_inputs
from vrooli_cli.tier2.machine import Answered, MachineOptions, Resumed, RunMachine, RunStarted, Stimulus
from vrooli_cli.tier2.plan import DependencyResolver, RoutinePlan, summarise
from vrooli_cli.tier2.reuse import Reuse
from vrooli_cli.tier2.run import RunShell, result_of
from vrooli_cli.tier3.registry import ToolRegistry
from vrooli_cli.tier3.scope import Scope, StepRunner

INBOX_SECONDS: Final = 1.0
"""How often a run looks for what other processes ask of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to run, beside what to run; the flags of ``vrooli run``.

    Attributes:
        run_id: None makes a new one.
        environ: The environment that the run may look at.
        settings: What the history keeps so that a resume can say it again.
        earlier: The run whose results are used where nothing has changed.
        forced: Steps that run all the same, with what is inside them.
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
    cache: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the architecture is told when a root run opens.

    Attributes:
        log: The facts of an earlier life of this run, when it goes on.
    """

    context: ExecutionContext
    allocation: ResourceAllocation
    options: RunOptions
    bundle: Bundle | SwarmBundle
    plan: Any
    inputs: Mapping[str, Any]
    log: Sequence[tuple[Event, int]] = ()


async def _nothing_to_settle() -> None:
    """Nobody works beside the run."""


@dataclass(slots=True)
class Opened:
    """What the architecture made for a root run.

    Attributes:
        narrow: Makes the scope of a child run from its parent's.
        settle: Waits for what works beside the run (event agents), before its result is made.
        reuse: Results of other runs.
        commands: What other processes have left for this run since the last look; None when nobody can.
        close: Writes the run's end into the history and lets go of everything; the last thing that happens.
    """

    channel: Channel
    scope: Scope
    narrow: Callable[[RunContext, Scope], Scope]
    close: Callable[[ExecutionResult], Any]
    work_dir: str = ""
    settle: Callable[[], Awaitable[None]] = _nothing_to_settle
    commands: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    reuse: Reuse | None = None


class PreparedRun:
    """A run that has only to be started.

    Attributes:
        summary: The plan as a view may see it.
        channel: Where a view, files and handlers listen.
        bug: What ended the run if it was a bug of ours.
    """

    def __init__(
        self,
        plan: RoutinePlan,
        machine: RunMachine,
        shell: RunShell,
        opened: Opened,
        context: ExecutionContext,
        tracker: ResourceTracker,
        allocation: ResourceAllocation,
        first: Stimulus | None = None,
    ) -> None:
        self.plan = plan
        self.machine = machine
        self.shell = shell
        self.context = context
        self.summary: PlanSummary = summarise(plan)
        self.channel = opened.channel
        self.scope = opened.scope
        self.bug: Exception | None = None
        self._opened = opened
        self._tracker = tracker
        self._allocation = allocation
        self._first = first

    @property
    def run_id(self) -> str:
        """The execution id of the root run."""
        return self.context.execution_id

    @property
    def waiting(self) -> list[tuple[str, str]]:
        """Address and code of every step that waits for a person."""
        return self.shell.waiting

    def cancel(self, reason: str = "user") -> None:
        """Ask the run to stop."""
        self.shell.cancel(reason)

    async def run(self) -> ExecutionResult:
        """Run to the end or the suspension.

        Raises:
            asyncio.CancelledError: The caller was cancelled; every attempt has been stopped.
        """
        clock = self.scope.clock
        await self._tracker.start_tracking(
            self.run_id, self._allocation, account=self.scope.account, cancel=lambda: self.cancel("user")
        )
        inbox = asyncio.create_task(self._listen(), name=f"inbox:{self.run_id}")
        try:
            now = clock.now_ns()  # not when it was prepared: what lies between belongs to no step
            await self.shell.run(replace(self._first, now=now) if self._first is not None else RunStarted(now))
        except* Exception as bugs:
            self.bug = bugs.exceptions[0]
        finally:
            inbox.cancel()
        await self._opened.settle()
        result = self._result()
        try:
            await self._opened.close(result)
        except VrooliError as error:  # what cannot be stored has not succeeded
            result = _failed(result, ExecutionError.of(error))
        self._tracker.set_status(self.run_id, result.status)
        await self._tracker.stop_tracking(self.run_id)
        return result

    async def _listen(self) -> None:
        """Does what other processes ask of this run: answers of approvals, a cancel."""
        while self._opened.commands is not None:
            await asyncio.sleep(INBOX_SECONDS)
            try:
                commands = self._opened.commands()
            except StoreError:  # whoever needs the store is told by the channel
                continue
            for command in commands:
                self._obey(command)

    def _obey(self, command: Mapping[str, Any]) -> None:
        if command.get("do") == "cancel":
            self.cancel("user")
        elif (given := answer_in(command, self.scope.clock.now_ns())) is not None:
            self.shell.tell(given)

    def _result(self) -> ExecutionResult:
        machine = self.machine
        elapsed = machine.active_ns // 1_000_000
        result = result_of(machine, self.context, elapsed)
        used = self.scope.account.used
        if used != machine.credits:
            usage = result.resources_used.model_copy(update={"credits_used": str(used)})
            result = result.model_copy(update={"resources_used": usage})
        if self.bug is not None:
            cause = f"{type(self.bug).__name__}: {self.bug}"[:500]
            error = ExecutionError(code="INTERNAL", message="a bug in vrooli ended the run", tier="tier2", cause=cause)
            return _failed(result, error)
        if self.channel.failure is not None and result.success:
            return _failed(result, ExecutionError.of(self.channel.failure, tier="tier2"))
        return result


def _failed(result: ExecutionResult, error: ExecutionError) -> ExecutionResult:
    changes = {"success": False, "status": ExecutionStatus.FAILED, "error": error, "result": None}
    return result.model_copy(update=changes)


def answer_in(command: Mapping[str, Any], now: int) -> Answered | None:
    """The answer that a command of the inbox is: ``{"do": "approve" or "reject", "step": …, "by": …}``."""
    if command.get("do") not in ("approve", "reject"):
        return None
    approved = command["do"] == "approve"
    return Answered(now, str(command.get("step", "")), approved, str(command.get("by", "")), command.get("comment"))


class RunStateMachine:
    """Runs routines.

    Args:
        runner: Does attempts: tier 3's executor, or a wrapper around it.
        tools: The tools that files may name.
        tracker: Who is at work, for status and cancel.
        opener: Makes channel and scope of a new root run.
    """

    def __init__(
        self,
        runner: StepRunner,
        tools: ToolRegistry,
        tracker: ResourceTracker,
        opener: Callable[[Opening], Opened],
    ) -> None:
        self.runner = runner
        self.tools = tools
        self._tracker = tracker
        self._opener = opener
        self._active: dict[str, PreparedRun] = {}

    def plan(self, bundle: Bundle) -> tuple[RoutinePlan | None, list[Problem]]:
        """The plan of a bundle, or None; and all that is wrong or worth a warning. Problems name their file by key."""
        resolver = DependencyResolver(bundle, self.tools)
        plan = resolver.create_execution_plan()
        for key in bundle.routines:
            resolver.create_execution_plan(key)
        wrong = [problem for problem in resolver.problems if not problem.warning]
        return (None if wrong else plan), resolver.problems

    def prepare(
        self,
        request: TierExecutionRequest,
        options: RunOptions | None = None,
        *,
        plan: RoutinePlan | None = None,
        log: Sequence[tuple[Event, int]] = (),
        resumed: Resumed | None = None,
    ) -> PreparedRun:
        """Everything that can be refused before a step runs.

        Args:
            request: With a RoutineExecutionInput.
            options: How to run.
            plan: When the caller has planned the bundle already.
            log: The facts of the run's earlier life, with their times.
            resumed: How a run with a ``log`` goes on.

        Raises:
            DefinitionError: The routine cannot be run as it is written.
            InputError: Its inputs are not right.
            StoreError: The run cannot be written down.
        """
        asked = request.input
        if not isinstance(asked, RoutineExecutionInput):
            raise TypeError("tier 2 executes a RoutineExecutionInput")
        options = options or RunOptions()
        bundle = asked.bundle
        if bundle is None:
            if asked.workflow is None:
                raise DefinitionError([Problem((), "a routine needs a workflow or a bundle")])
            bundle = bundle_of_workflow(asked.workflow, asked.routine_id, asked.parameters)
        if plan is None:
            plan, problems = self.plan(bundle)
            if plan is None:
                raise _refusal(problems)
        inputs = check_inputs(plan.routine, asked.parameters, options.environ)
        return self._prepared(request, options, bundle, plan, inputs, log, resumed)

    def _prepared(
        self,
        request: TierExecutionRequest,
        options: RunOptions,
        bundle: Bundle,
        plan: RoutinePlan,
        inputs: Mapping[str, Any],
        log: Sequence[tuple[Event, int]],
        resumed: Resumed | None,
    ) -> PreparedRun:
        context, allocation = request.context, request.allocation
        opened = self._opener(
            Opening(
                context=context,
                allocation=allocation,
                options=options,
                bundle=bundle,
                plan=plan,
                inputs=inputs,
                log=log,
            )
        )
        machine = RunMachine(
            plan,
            context.execution_id,
            inputs,
            _machine_options(request, options, opened.work_dir),
            blackboard=BlackboardManager(),
        )
        for fact, at in log:
            machine.evolve(fact, at)
        shell = RunShell(machine, opened.channel, self.runner, opened.scope, opened.narrow, opened.reuse)
        prepared = PreparedRun(plan, machine, shell, opened, context, self._tracker, allocation, resumed)
        self._active[context.execution_id] = prepared
        return prepared

    def child(
        self,
        plan: RoutinePlan,
        execution_id: str,
        inputs: Mapping[str, Any],
        *,
        address: str,
        parent_execution_id: str,
        channel: Channel,
        scope: Scope,
        narrow: Callable[[RunContext, Scope], Scope],
        options: MachineOptions,
        blackboard: BlackboardManager,
        log: Sequence[tuple[Event, int]] = (),
    ) -> RunShell:
        """A task of a swarm: a run of its own in the root's log, under ``address`` (``task:load``).

        Its events carry ``execution_id``, the addresses of its steps begin with ``address/``. The caller starts it with
        ``RunStarted`` (or ``Resumed`` after a ``log``) and reads its machine's ``status``, ``result`` and ``error``.
        """
        options = replace(options, parent_execution_id=parent_execution_id, parent_step_id=address)
        machine = RunMachine(plan, execution_id, inputs, options, address=address, blackboard=blackboard)
        for fact, at in log:
            machine.evolve(fact, at)
        return RunShell(machine, channel, self.runner, scope, narrow)

    async def execute(self, request: TierExecutionRequest, *, scope: Scope | None = None) -> ExecutionResult:
        """Run a routine; every failure is a result. See :meth:`prepare` for what is refused (``status: failed``)."""
        del scope  # a root run's handles are the architecture's; a swarm's tasks come through `prepare`
        try:
            prepared = self.prepare(request)
        except VrooliError as error:
            failed = ExecutionStatus.FAILED
            return ExecutionResult(
                success=False, status=failed, context=request.context, error=ExecutionError.of(error)
            )
        try:
            return await prepared.run()
        finally:
            self._active.pop(prepared.run_id, None)

    async def get_execution_status(self, execution_id: str) -> ExecutionStatus:
        """Where a run, or a child run of one that is at work, is; UnknownRunError (a KeyError) for an unknown id."""
        for prepared in self._active.values():
            status = prepared.shell.status_of(execution_id)
            if status is not None:
                return status
        return await self._tracker.get_execution_status(execution_id)

    async def cancel_execution(self, execution_id: str) -> None:
        """Ask a run to stop, from any task; its ``execute`` returns with status ``cancelled``."""
        await self._tracker.cancel_execution(execution_id)


def _refusal(problems: Sequence[Problem]) -> DefinitionError:
    wrong = [problem for problem in problems if not problem.warning]
    codes = {problem.code for problem in wrong}
    return DefinitionError(wrong, code=codes.pop() if len(codes) == 1 else None)


def _machine_options(request: TierExecutionRequest, options: RunOptions, work_dir: str) -> MachineOptions:
    limits = (request.allocation.max_duration_ms, request.options.timeout_ms, options.timeout_ms)
    durations = [limit for limit in limits if limit is not None]
    return MachineOptions(
        max_concurrent=request.allocation.max_concurrent_steps,
        keep_going=options.keep_going,
        schedule=options.schedule,
        max_duration_ms=min(durations) if durations else None,
        grace_ms=options.grace_ms,
        environ=options.environ,
        work_dir=work_dir,
        parent_execution_id=request.context.parent_execution_id,
        reuse=options.earlier is not None,
        cache=options.cache,
    )
