"""One attempt at work: its clock, what it has carried out so far, and the one way in which a strategy calls a tool.

The way of a call: validate → gate → ``tool/called`` → (log on disk, for ``once``) → host → validate →
``tool/returned``. ``tool/called`` stands in the log before a ``once`` effect begins, so that a crash in between is
never taken for a call that was not made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from vrooli_cli.errors import VrooliError
from vrooli_cli.gate import Action, Admission
from vrooli_cli.model.events import ToolCalled, ToolReturned
from vrooli_cli.model.run import EFFECTS_ORDER, Effects, ExecutionError
from vrooli_cli.tier3.plain import abridged, plain_result
from vrooli_cli.tier3.registry import Tool, ToolRegistry
from vrooli_cli.tier3.scope import STOP, CalledOff, Scope, StepCall, ToolInvocation, ToolOutcome

_FREE = Admission()
_STOPPED: Final = {"code": "CANCELLED", "message": "the call was stopped"}


class ToolFailure(VrooliError):
    """A tool call that failed, on its way from the host through a strategy to the executor.

    Attributes:
        error: The failure as the host told it.
    """

    def __init__(self, error: ExecutionError) -> None:
        super().__init__(error.message, code=error.code, tier=error.tier, step=error.step, context=error.context)
        self.error = error


def stronger(one: Effects, other: Effects) -> Effects:
    """The effect that is harder to repeat."""
    return one if EFFECTS_ORDER[one] >= EFFECTS_ORDER[other] else other


class Attempt:
    """What a strategy works with.

    Attributes:
        call: What was asked.
        scope: The live handles.
        effects: The strongest effect that was carried out so far.
        credits: What was spent so far.
        memory_mb: The most that a command has used.
        clock: The step's time-out; None without one.
    """

    __slots__ = ("_left", "_waits", "call", "clock", "credits", "effects", "memory_mb", "scope")

    def __init__(self, call: StepCall, scope: Scope) -> None:
        self.call = call
        self.scope = scope
        self.effects: Effects = "none"
        self.credits = 0
        self.memory_mb = 0
        self.clock: asyncio.Timeout | None = None
        self._waits = 0
        self._left: float | None = None

    @property
    def tools(self) -> ToolRegistry:
        """The tools that this attempt may name."""
        tools: ToolRegistry = self.scope.tools
        return tools

    @property
    def seconds_left(self) -> float | None:
        """What is left of the step's time-out; None without one."""
        if self.clock is None:
            return None
        when = self.clock.when()
        return self._left if when is None else max(0.0, when - asyncio.get_running_loop().time())

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The step's time-out stands still in here: a person is asked, credits or a permit are queued for.

        Several calls of one step may wait at the same time; the clock goes on when the last of them does.
        """
        if self._waits == 0 and self.clock is not None and not self.clock.expired():
            self._left = self.seconds_left
            self.clock.reschedule(None)
        self._waits += 1
        try:
            yield
        finally:
            self._waits -= 1
            if self._waits == 0 and self._left is not None and self.clock is not None and not self.clock.expired():
                self.clock.reschedule(asyncio.get_running_loop().time() + self._left)

    async def call_tool(
        self,
        tool: Tool,
        parameters: Mapping[str, Any],
        *,
        written: bool = True,
        effects: Effects | None = None,
        call_id: str | None = None,
    ) -> Any:
        """One call of one tool, through every check.

        Args:
            tool: From :attr:`tools`.
            parameters: Rendered, or a model's arguments.
            written: False when a model chose the call: permission defaults differ and the journal keeps all of it.
            effects: The step's own word on what the call does; None is the tool's.
            call_id: The model's name of the call.

        Returns:
            What the tool answered: plain data.

        Raises:
            VrooliError: ``PARAMETER_INVALID``, a refusal of the gate, ``CREDITS_EXHAUSTED``.
            ToolFailure: The tool failed, or its answer is not valid.
        """
        scope, call = self.scope, self.call
        plain = tool.plain(parameters)
        tool.validate(plain)
        declared = tool.effects_for(plain)
        does = effects or declared
        admission = await self._admit(tool, parameters, stronger(does, declared), written)
        if tool.credits:
            self._charge(tool)
        scope.emit(
            ToolCalled(
                execution_id=scope.execution_id,
                step_id=call.address,
                attempt=call.attempt,
                tool_name=tool.name,
                effects=does,
                parameters=abridged(plain) if written else plain,
                call_id=call_id,
            )
        )
        invocation = ToolInvocation(
            tool=tool.name,
            parameters=parameters,
            address=call.address,
            attempt=call.attempt,
            effects=does,
            admission=admission,
            seconds=self.seconds_left,
            memory_mb=call.memory_mb,
            written=written,
            agent=call.agent,
            call_id=call_id,
            resources=call.resources,
        )
        if does == "once":
            await self._synced(tool, invocation)
        self.effects = stronger(self.effects, does)
        outcome = await self._performed(tool, invocation)
        if outcome.error is not None:
            raise ToolFailure(outcome.error)
        return outcome.result

    async def _admit(self, tool: Tool, parameters: Mapping[str, Any], effects: Effects, written: bool) -> Admission:
        scope, call = self.scope, self.call
        if scope.gate.quick(tool.traits, scope.policy, effects, written=written):
            return _FREE
        action = Action(
            execution_id=scope.execution_id,
            address=call.address,
            tool=tool.traits,
            parameters=parameters,
            effects=effects,
            written=written,
            agent=call.agent,
            folder=scope.folder,
            roots=scope.roots,
        )
        return await scope.gate.admit(action, scope.policy, scope.emit, waiting=self.waiting)

    def _charge(self, tool: Tool) -> None:
        """Take the price of one call; CREDITS_EXHAUSTED when it is not there."""
        scope = self.scope
        scope.account.charge(tool.credits, execution_id=scope.execution_id, step_id=self.call.address, emit=scope.emit)
        self.credits += tool.credits

    async def _synced(self, tool: Tool, invocation: ToolInvocation) -> None:
        """``tool/called`` is on disk; a call that is stopped before that has not begun, and that is told."""
        started = self.scope.clock.monotonic()
        try:
            await self.scope.synced()
        except asyncio.CancelledError:
            self._tell(tool, invocation, started, ToolOutcome(), _STOPPED, begun=False)
            raise

    async def _performed(self, tool: Tool, invocation: ToolInvocation) -> ToolOutcome:
        """The host's outcome, checked and told; also told when the call is stopped."""
        scope = self.scope
        started = scope.clock.monotonic()
        cancel: asyncio.CancelledError | None = None
        if self.clock is not None and getattr(scope.host, "queues", False):
            scope = scope.child(waiting=self.waiting)
        try:
            outcome = await scope.host.call(invocation, scope)
        except CalledOff as stop:
            cancel = asyncio.CancelledError(*stop.args)  # time-outs of asyncio know no other class
            if stop.outcome is None:
                self._tell(tool, invocation, started, ToolOutcome(), _STOPPED, begun=False)
                raise cancel from None
            outcome = stop.outcome
        except asyncio.CancelledError:
            self._tell(tool, invocation, started, ToolOutcome(), _STOPPED)
            raise
        self.memory_mb = max(self.memory_mb, outcome.memory_mb)
        if outcome.error is None:
            try:
                outcome.result = plain_result(outcome.result)
                tool.validate_result(outcome.result)
            except VrooliError as error:
                outcome.error = ExecutionError.of(error, step=self.call.address, tier="tier3")
        self._tell(tool, invocation, started, outcome, outcome.error.wire() if outcome.error else None)
        if cancel is not None:
            if outcome.error is not None or invocation.call_id is not None or not is_announced(cancel, scope):
                raise cancel
            take_back_cancel()  # it is done, and its result is that of the step
        return outcome

    def _tell(
        self,
        tool: Tool,
        invocation: ToolInvocation,
        started: float,
        outcome: ToolOutcome,
        error: Mapping[str, Any] | None,
        *,
        begun: bool | None = None,
    ) -> None:
        scope = self.scope
        scope.emit(
            ToolReturned(
                execution_id=scope.execution_id,
                step_id=invocation.address,
                attempt=invocation.attempt,
                tool_name=tool.name,
                duration_ms=round((scope.clock.monotonic() - started) * 1000),
                success=error is None,
                credits=tool.credits or None,
                error=error,
                result=None if invocation.written or error else outcome.result,
                begun=begun,
                call_id=invocation.call_id,
            )
        )


def is_announced(stop: asyncio.CancelledError, scope: Scope) -> bool:
    """True when the cancel is a stop of this attempt, and not of whoever waits for it."""
    return stop.args == (STOP,) or (scope.cancelled is not None and scope.cancelled.is_set())


def take_back_cancel() -> None:
    """This task's cancel was ours and has been obeyed: the task may go on."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
