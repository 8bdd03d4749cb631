"""Tier 3's door: one attempt of one step, always answered with a value.

::

    UnifiedExecutor.attempt     one StepCall → strategy → Outcome, under the step's time-out: what tier 2 uses
    UnifiedExecutor.execute     the seed's public door: a request → attempts, with the request's retry policy → result

Every way in which an attempt can end is in :meth:`UnifiedExecutor.attempt`, and nowhere else.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from vrooli_cli.errors import ToolError, VrooliError
from vrooli_cli.ledger import ResourceTracker
from vrooli_cli.model.events import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
)
from vrooli_cli.model.run import (
    ExecutionContext,
    ExecutionError,
    ExecutionResult,
    ExecutionStatus,
    ResourceAllocation,
    StepExecutionInput,
    StepResult,
    StepStatus,
    TierExecutionRequest,
    next_delay,
)
from vrooli_cli.tier3.attempt import Attempt, ToolFailure, is_announced, take_back_cancel
from vrooli_cli.tier3.host import error_of
from vrooli_cli.tier3.registry import ToolRegistry
from vrooli_cli.tier3.scope import Outcome, Scope, StepCall
from vrooli_cli.tier3.strategies import StrategyFactory, strategy_of

Scopes = Callable[[ExecutionContext, ResourceAllocation], Scope]
"""Makes the live handles of a request that comes without them; the architecture's."""

Closing = Callable[[Scope, ExecutionResult], Awaitable[None]]
"""Lets go of what :data:`Scopes` made, once the result is there."""


class UnifiedExecutor:
    """Does steps, one attempt at a time.

    Args:
        tool_registry: The tools of a request that brings no scope.
        strategy_factory: Strategy → executor.
        resource_tracker: Who is at work, for status and cancel.
        event_bus: Not used by the engine, whose news goes through ``scope.emit``; kept for callers of the seed's API.
        scopes: Makes the handles of a request that comes without.
        closing: Lets go of them at its end, whatever the result is.
    """

    def __init__(
        self,
        tool_registry: ToolRegistry,
        strategy_factory: StrategyFactory,
        resource_tracker: ResourceTracker,
        event_bus: object = None,
        *,
        scopes: Scopes | None = None,
        closing: Closing | None = None,
    ) -> None:
        self.tool_registry = tool_registry
        self.event_bus = event_bus
        self._strategies = strategy_factory
        self._tracker = resource_tracker
        self._scopes = scopes
        self._closing = closing

    async def attempt(self, call: StepCall, scope: Scope) -> Outcome:
        """Exactly one attempt.

        The step's time-out runs here, and stands still while the attempt queues or asks (:meth:`Attempt.waiting`). A
        cancel is an outcome (``CANCELLED``) when it was announced, by ``task.cancel(STOP)`` or by ``scope.cancelled``;
        any other one propagates.
        """
        attempt = Attempt(call, scope)
        try:
            if call.timeout_ms is None:
                result = await self._perform(attempt)
            else:
                async with asyncio.timeout(call.timeout_ms / 1000) as clock:
                    attempt.clock = clock
                    result = await self._perform(attempt)
        except asyncio.CancelledError as stop:
            if not is_announced(stop, scope):
                raise
            take_back_cancel()
            return _ended(attempt, ExecutionError(code="CANCELLED", message="the step was stopped", tier="tier3"))
        except Exception as error:
            return _ended(attempt, _told(attempt, error))
        return Outcome(result, None, attempt.effects, attempt.credits, attempt.memory_mb)

    async def _perform(self, attempt: Attempt) -> Any:
        call, scope = attempt.call, attempt.scope
        if call.kind == "wait":
            await asyncio.sleep(call.wait_ms / 1000)
            return {"waited_ms": call.wait_ms}
        strategy = strategy_of(call)
        if scope.strategies:
            await scope.gate.admit_strategy(
                strategy.value,
                scope.strategies,
                execution_id=scope.execution_id,
                address=call.address,
                emit=scope.emit,
                waiting=attempt.waiting,
            )
        return await self._strategies.get_strategy(strategy).execute(attempt)

    # --- the public door ---------------------------------------------------------------------------------------------

    async def execute(self, request: TierExecutionRequest, *, scope: Scope | None = None) -> ExecutionResult:
        """Do one step, with the attempts that ``options.retry_policy`` allows; a failure is a result.

        Raises:
            InputError: An execution of this id is at work.
            TypeError: ``request.input`` is not a StepExecutionInput, or there is nobody to make a scope.
        """
        if not isinstance(request.input, StepExecutionInput):
            raise TypeError("tier 3 executes a StepExecutionInput")
        if scope is not None:
            return await self._execute(request, request.input, scope)
        if self._scopes is None:
            raise TypeError("this executor was made without `scopes`; pass a scope")
        scope = self._scopes(request.context, request.allocation)
        result = await self._execute(request, request.input, scope)
        if self._closing is not None:
            await self._closing(scope, result)
        return result

    async def _execute(self, request: TierExecutionRequest, step: StepExecutionInput, scope: Scope) -> ExecutionResult:
        scope = scope.child(cancelled=asyncio.Event(), tools=scope.tools or self.tool_registry)
        return await _Execution(request, step, scope, self._tracker).run(self.attempt)

    async def get_execution_status(self, execution_id: str) -> ExecutionStatus:
        """Where an execution of :meth:`execute` is; UnknownRunError (a KeyError) for an unknown id."""
        return await self._tracker.get_execution_status(execution_id)

    async def cancel_execution(self, execution_id: str) -> None:
        """Ask an execution to stop, from any task; its ``execute`` returns with status ``cancelled``."""
        await self._tracker.cancel_execution(execution_id)


class _Execution:
    """One request on its way through the public door."""

    def __init__(
        self, request: TierExecutionRequest, step: StepExecutionInput, scope: Scope, tracker: ResourceTracker
    ) -> None:
        self._request = request
        self._step = step
        self._scope = scope
        self._tracker = tracker
        self._id = request.context.execution_id
        self._started = scope.clock.monotonic()
        self._attempts = 0

    async def run(self, attempt: Callable[[StepCall, Scope], Any]) -> ExecutionResult:
        """Every attempt, then the result; the tracker knows of it from the first moment to the last."""
        task, cancelled = asyncio.current_task(), self._scope.cancelled
        assert task is not None and cancelled is not None

        def cancel() -> None:
            if not cancelled.is_set():
                cancelled.set()
                task.cancel()

        await self._tracker.start_tracking(
            self._id, self._request.allocation, account=self._scope.account, cancel=cancel
        )
        try:
            outcome = await self._bounded(attempt)
            status = _status(outcome)
            self._tracker.note(self._id, steps=1, memory_mb=outcome.memory_mb)
            self._tracker.set_status(self._id, status)
        except asyncio.CancelledError:
            self._tracker.set_status(self._id, ExecutionStatus.CANCELLED)
            raise
        finally:
            await self._tracker.stop_tracking(self._id)
        return await self._result(outcome, status)

    async def _bounded(self, attempt: Callable[[StepCall, Scope], Any]) -> Outcome:
        """All attempts within the request's own duration."""
        limits = [self._request.options.timeout_ms, self._request.allocation.max_duration_ms]
        given = [limit for limit in limits if limit is not None]
        if not given:
            return await self._attempts_of(attempt)
        try:
            async with asyncio.timeout(min(given) / 1000):
                return await self._attempts_of(attempt)
        except TimeoutError:
            message = f"the request took longer than {min(given)} ms"
            error = ExecutionError(code="RUN_TIMEOUT", message=message, tier="tier3", step=self._step.step_id)
            outcome = Outcome(error=error)
            self._emit_end(outcome, self._started)
            return outcome

    async def _attempts_of(self, attempt: Callable[[StepCall, Scope], Any]) -> Outcome:
        policy = self._request.options.retry_policy
        while True:
            outcome = await self._one(attempt)
            if outcome.error is None or policy is None or (outcome.effects == "once" and not policy.written):
                return outcome
            delay = next_delay(policy, self._attempts, outcome.error, self._id, self._step.step_id)
            if delay is None:
                return outcome
            try:
                await asyncio.sleep(delay / 1000)
            except asyncio.CancelledError as stop:
                if not is_announced(stop, self._scope):
                    raise
                take_back_cancel()
                error = ExecutionError(code="CANCELLED", message="stopped before the next attempt", tier="tier3")
                return Outcome(error=error, effects=outcome.effects)

    async def _one(self, attempt: Callable[[StepCall, Scope], Any]) -> Outcome:
        self._attempts += 1
        step, scope = self._step, self._scope
        call = StepCall(
            address=step.step_id,
            attempt=self._attempts,
            kind="tool",
            strategy=step.strategy,
            tool=step.tool_name,
            parameters=step.parameters,
            memory_mb=self._request.allocation.max_memory_mb,
        )
        scope.emit(
            ExecutionStarted(
                execution_id=self._id,
                step_id=step.step_id,
                attempt=self._attempts,
                strategy=step.strategy.value,
                tool_name=step.tool_name,
            )
        )
        started = scope.clock.monotonic()
        outcome: Outcome = await attempt(call, scope)
        self._emit_end(outcome, started)
        return outcome

    def _emit_end(self, outcome: Outcome, started: float) -> None:
        scope, step_id = self._scope, self._step.step_id
        duration = round((scope.clock.monotonic() - started) * 1000)
        used = {"credits_used": str(outcome.credits), "memory_used_mb": outcome.memory_mb}
        if outcome.error is None:
            scope.emit(
                ExecutionCompleted(
                    execution_id=self._id,
                    step_id=step_id,
                    attempt=self._attempts,
                    duration_ms=duration,
                    resources_used=used,
                )
            )
        elif outcome.error.code == "CANCELLED":
            scope.emit(
                ExecutionCancelled(
                    execution_id=self._id,
                    step_id=step_id,
                    attempt=self._attempts,
                    reason=outcome.error.message,
                    duration_ms=duration,
                )
            )
        else:
            scope.emit(
                ExecutionFailed(
                    execution_id=self._id,
                    step_id=step_id,
                    attempt=self._attempts,
                    duration_ms=duration,
                    error=outcome.error.wire(),
                    resources_used=used,
                )
            )

    async def _result(self, outcome: Outcome, status: ExecutionStatus) -> ExecutionResult:
        usage = await self._tracker.get_usage(self._id)
        step = StepResult(
            status=StepStatus(status.value),
            attempts=self._attempts,
            duration_ms=usage.duration_ms,
            result=outcome.result,
            error=outcome.error,
        )
        return ExecutionResult(
            success=outcome.error is None,
            status=status,
            context=self._request.context,
            result=outcome.result,
            error=outcome.error,
            resources_used=usage,
            duration_ms=usage.duration_ms,
            steps={self._step.step_id: step},
        )


def _status(outcome: Outcome) -> ExecutionStatus:
    if outcome.error is None:
        return ExecutionStatus.COMPLETED
    return ExecutionStatus.CANCELLED if outcome.error.code == "CANCELLED" else ExecutionStatus.FAILED


def _ended(attempt: Attempt, error: ExecutionError) -> Outcome:
    """A failed outcome; the error names its step."""
    if error.step is None:
        error = replace(error, step=attempt.call.address)
    return Outcome(None, error, attempt.effects, attempt.credits, attempt.memory_mb)


def _told(attempt: Attempt, error: Exception) -> ExecutionError:
    """The value of whatever a strategy raised."""
    if isinstance(error, ToolFailure):
        return error.error
    if isinstance(error, TimeoutError) and attempt.clock is not None and attempt.clock.expired():
        seconds = (attempt.call.timeout_ms or 0) / 1000
        message = f"the step took longer than its time-out of {seconds:g} s"
        return ExecutionError(code="STEP_TIMEOUT", message=message, tier="tier3", context={"timeout_s": seconds})
    if isinstance(error, ToolError):
        return error_of(error, attempt.call.address)
    if isinstance(error, VrooliError):
        return ExecutionError.of(error, step=attempt.call.address, tier="tier3")
    cause = f"{type(error).__name__}: {error}"[:500]
    return ExecutionError(
        code="INTERNAL",
        message=f"tier 3 failed in a way that nobody foresaw: {cause}",
        tier="tier3",
        context={"traceback": "".join(traceback.format_exception(error))[-8_000:]},
        cause=cause,
    )
