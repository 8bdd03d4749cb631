"""The asyncio shell around the machine of tier 2, and the door of the tier.

The shell has no opinion. It tells the machine what happened, publishes the events of the turn, and performs the
instructions once the commit that holds them is through. The stimuli of one loop iteration are told in one turn of a
millisecond at the most: completions that come together share a commit, and a thousand of them do not stop the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from vrooli_cli.bus import Channel
from vrooli_cli.errors import ExpressionError, StoreError, VrooliError
from vrooli_cli.gate import Answer, Question
from vrooli_cli.language.expressions import Value
from vrooli_cli.language.shorten import cut
from vrooli_cli.ledger import Account
from vrooli_cli.loading.durations import parse_duration
from vrooli_cli.model.events import Event, EventMetadata, StepCompleted
from vrooli_cli.model.routine import Prompt
from vrooli_cli.model.run import (
    ExecutionContext,
    ExecutionError,
    ExecutionResult,
    ExecutionStatus,
    ResourceUsage,
    StepResult,
    StepStatus,
    cancelled_error,
    waiting_error,
)
from vrooli_cli.tier2.context import RunContext
from vrooli_cli.tier2.instructions import (
    AskApproval,
    CancelAttempt,
    ClearTimer,
    EndRun,
    Instruction,
    KillAttempt,
    LookUp,
    SetTimer,
    StartAttempt,
)
from vrooli_cli.tier2.machine import RunMachine
from vrooli_cli.tier2.reuse import Reuse, Wanted
from vrooli_cli.tier2.state import Frame, Node
from vrooli_cli.tier2.stimuli import Answered, AttemptEnded, CancelRequested, LookedUp, Stimulus
from vrooli_cli.tier2.timers import Timers
from vrooli_cli.tier3.memory import MemoryMeter
from vrooli_cli.tier3.scope import STOP, Outcome, Scope, StepCall, StepRunner

TURN_SECONDS = 0.001
"""How long a turn takes in what has happened before a commit, and what comes of it, and the rest of the loop go on."""
RESULT_LIMIT = 64 * 1024
"""A step's result above this many characters of JSON is cut where it is shown (spec cli.md)."""
_HIDDEN_FROM = 4
"""A secret of fewer characters is masked only as a whole value (spec tools.md)."""


class RunShell:
    """Performs one machine's instructions.

    Args:
        machine: The brain; nobody else may touch it while the shell runs.
        channel: Where events go; commits them.
        runner: Does attempts.
        scope: The live handles of the root run; those of child runs are narrowed from it.
        scopes: Narrows a scope for a child routine's run.
        reuse: Results of other runs; None when nothing is looked up.
    """

    def __init__(
        self,
        machine: RunMachine,
        channel: Channel,
        runner: StepRunner,
        scope: Scope,
        scopes: Callable[[RunContext, Scope], Scope],
        reuse: Reuse | None = None,
    ) -> None:
        self.machine = machine
        self._reuse = reuse
        self._cached: dict[str, str] = {}
        self._channel = channel
        self._runner = runner
        self._clock = scope.clock
        self._narrow = scopes
        self._root_scope = scope
        self._scopes: dict[str, Scope] = {}
        self._stimuli: deque[Stimulus] = deque()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, asyncio.Task[None]] = {}
        self._stopped: set[str] = set()
        self._timers = Timers(scope.clock, self.tell)
        self._ended: asyncio.Future[str] | None = None
        self._group: asyncio.TaskGroup | None = None

    async def run(self, first: Stimulus) -> str:
        """From the first stimulus to the end or the suspension of the run; the status it ended with.

        A failure of a step never comes out of here. What does: ``asyncio.CancelledError`` when the caller itself is
        cancelled, and whatever a bug raises.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._channel.before_flush(self._turn)
        self._channel.on_failure(self._store_failed)
        self._channel.on_blob(self._kept)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._stimuli.appendleft(first)  # a cancel may have come before the run began
                self._channel.wake()
                status = await self._ended
                for task in (*self._asked.values(), *self._tasks.values()):
                    task.cancel()
        finally:
            self._timers.close()
            self._channel.forget(self._turn)
        return status

    def _kept(self, fact: Event, read: Callable[[bool], Any]) -> None:
        if isinstance(fact, StepCompleted):
            self.machine.keep(fact.step_id, read)

    def tell(self, stimulus: Stimulus) -> None:
        """A stimulus for the next turn."""
        self._stimuli.append(stimulus)
        self._channel.wake()

    def cancel(self, reason: str) -> None:
        """Ask the run to stop; it stops its steps, runs its ``finally`` and ends. Waits for no reader of our output."""
        self._stimuli.append(CancelRequested(self._clock.now_ns(), reason))
        self._channel.wake(urgent=True)

    def answer(self, address: str, answer: Answer) -> None:
        """A person's answer from elsewhere (another process, a test)."""
        now = self._clock.now_ns()
        self.tell(Answered(now, address, answer.approved, answer.by, answer.comment))

    @property
    def waiting(self) -> list[tuple[str, str]]:
        """Address and code of every step that waits for a person."""
        return [(address, node.reason) for address, node in self.machine.suspended.items()]

    def status_of(self, execution_id: str) -> ExecutionStatus | None:
        """The status of this run or of a child run in it."""
        frame = self.machine.frames.get(execution_id)
        if frame is None:
            return None
        if frame.owner is None:
            return ExecutionStatus(self.machine.status)
        waits = frame.owner.standing is StepStatus.SUSPENDED
        return ExecutionStatus.SUSPENDED if waits else ExecutionStatus.RUNNING

    # -- turns --------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Tell the machine what happened since the last turn; called by the bus, right before it commits.

        When much has happened at once, the rest is for the next turn: who comes first need not wait for who comes last,
        and steps that began together do not go on in step.
        """
        if not self._stimuli:
            return
        instructions: list[Instruction] = []
        until = self._clock.monotonic() + TURN_SECONDS
        try:
            while True:
                instructions += self._told(self._stimuli.popleft(), until)
                if not self._stimuli or self._clock.monotonic() >= until:
                    break
        except Exception as bug:  # the machine is pure: whatever it raises is a bug, and the run cannot go on
            self._give_up(bug)
            return
        if instructions or self._stimuli:
            self._channel.after_commit(lambda: self._perform(instructions))

    def _told(self, stimulus: Stimulus, until: float) -> Sequence[Instruction]:
        """Publish what came of one stimulus; the instructions that have to wait for the commit.

        An attempt that touches nothing and answers at once does not wait for it: nobody can see that it has begun, and
        after a crash it is simply made again. So a chain of such steps is one commit, within bounds.
        """
        turn = self.machine.handle(stimulus)
        publish = self._channel.publish
        for event in turn.events:
            publish(event)
        left = []
        for order in turn.instructions:
            if type(order) is StartAttempt and self._is_pure(order.node) and self._clock.monotonic() < until:
                self._start(order)
            else:
                left.append(order)
        return left

    def _is_pure(self, node: Node) -> bool:
        """True when an attempt waits for nothing, touches nothing, and nobody has to be asked."""
        plan, root = node.plan, self._root_scope
        tool = plan.tool
        if tool is None or not plan.instant or plan.effects != "none" or root.slots is not None or root.strategies:
            return False
        if node.frame.run.execution_id not in self._scopes:  # it is made once the run's start has been committed
            return False
        scope = self._scope_of(node)
        return scope.gate.quick(tool.traits, scope.policy, "none")

    def _give_up(self, bug: Exception) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(bug)

    def _store_failed(self, error: StoreError) -> None:
        """Nothing new starts; what runs may finish; the run fails whatever its steps did."""
        failure = ExecutionError(code="STORE_ERROR", message=error.message)
        self.tell(CancelRequested(self._clock.now_ns(), "the journal cannot be written", failure.wire()))

    def _perform(self, instructions: list[Instruction]) -> None:
        try:
            for instruction in instructions:
                _PERFORM[type(instruction)](self, instruction)
        except Exception as bug:
            self._give_up(bug)
        if self._stimuli:
            self._channel.wake()

    def _start(self, order: StartAttempt) -> None:
        assert self._group is not None
        if self._channel.failure is not None:  # nothing new begins that could not be written down
            error = ExecutionError.of(self._channel.failure, step=order.node.address, tier="tier2")
            self.tell(AttemptEnded(self._clock.now_ns(), order.address, order.attempt, Outcome(error=error)))
            return
        work: Coroutine[Any, Any, None] = self._attempt(order)
        if order.node.plan.instant:
            try:
                waits_for = work.send(None)
            except StopIteration:
                return
            work = _begun(work, waits_for)  # somebody around the tool waits after all
        self._tasks[order.address] = self._group.create_task(work, name=f"step:{order.address}")

    def _cancel_attempt(self, order: CancelAttempt) -> None:
        task = self._tasks.get(order.address)
        if task is not None:
            self._stopped.add(order.address)
            # Not at once: a task that is cancelled before its first step never enters `_attempt`, and nobody is told.
            asyncio.get_running_loop().call_soon(task.cancel, STOP)

    def _set_timer(self, order: SetTimer) -> None:
        self._timers.set(order)

    def _clear_timer(self, order: ClearTimer) -> None:
        self._timers.clear(order)
        if order.key[0] == "approval":
            asked = self._asked.pop(order.key[1], None)
            if asked is not None and asked is not asyncio.current_task():
                asked.cancel()

    def _ask(self, order: AskApproval) -> None:
        assert self._group is not None
        self._asked[order.address] = self._group.create_task(self._asking(order), name=f"ask:{order.address}")

    def _look_up(self, order: LookUp) -> None:
        """A look into the journal; quick, and the step runs when it fails."""
        node, wanted = order.node, Wanted()
        try:
            if self._reuse is not None:
                wanted = self._reuse.look(self.machine, node)
        except VrooliError:  # what cannot be rendered fails in its attempt, and a store that has failed tells by itself
            pass
        if wanted.key:
            self._cached[order.address] = wanted.key
        found, now = wanted.found, self._clock.now_ns()
        if found is None:
            self.tell(LookedUp(now, node.address, False, reason=wanted.reason))
        else:
            self.tell(LookedUp(now, node.address, True, found.result, found.reason, found.from_run))

    def _end(self, order: EndRun) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(order.status)

    # -- attempts -----------------------------------------------------------------------------------------------------

    async def _attempt(self, order: StartAttempt) -> None:
        address = order.address
        outcome = await self._outcome(order)
        key = self._cached.pop(address, "") if self._cached and outcome.error is None else ""
        if key and self._reuse is not None:
            with suppress(VrooliError):
                self._reuse.keep(order.node, key, outcome)
        self._tasks.pop(address, None)
        self._stopped.discard(address)
        self.tell(AttemptEnded(self._clock.now_ns(), address, order.attempt, outcome))

    async def _outcome(self, order: StartAttempt) -> Outcome:
        node, address = order.node, order.address
        try:
            scope = self._scope_of(node)
            call = self._render(node, address, order.attempt)
            if scope.slots is None:
                return await self._runner.attempt(call, scope)
            async with scope.slots:
                return await self._runner.attempt(call, scope)
        except VrooliError as error:
            return Outcome.failed(error, step=node.address)
        except asyncio.CancelledError:
            if address not in self._stopped or self._ended is None or self._ended.done():
                raise
            return Outcome(error=ExecutionError(code="CANCELLED", message="the step was stopped", step=node.address))

    def _scope_of(self, node: Node) -> Scope:
        """What is around the node, and the node's own ``allocation``, which holds for all its attempts together."""
        around = self._scope_around(node.frame)
        limits = node.plan.step.limits
        if limits is None or node.is_loop:
            return around
        credits = limits.max_credits
        memory = limits.max_memory_mb if node.inside is not None else None  # a single command's is with its call
        if credits is None and memory is None:
            return around
        scope = self._scopes.get(node.address)
        if scope is None:
            changes: dict[str, Any] = {}
            if credits is not None:
                changes["account"] = Account(node.address, credits, around.account)
            if memory is not None:
                above, run = around.memory, around.execution_id
                changes["memory"] = MemoryMeter(memory, above, emit=around.emit, execution_id=run)
            scope = self._scopes[node.address] = around.child(**changes)
        return scope

    def _scope_around(self, frame: Frame) -> Scope:
        """Of a group: its step's; of a routine or a handler: the run's."""
        if frame.is_routine or frame.owner is None:
            return self._scope_of_run(frame.home or frame)
        return self._scope_of(frame.owner)

    def _scope_of_run(self, frame: Frame) -> Scope:
        run = frame.run
        scope = self._scopes.get(run.execution_id)
        if scope is None:
            if frame.owner is None:
                scope = self._root_scope.child(env=dict(run.env))
            else:
                scope = self._narrow(run, self._scope_of(frame.owner))
                metadata = EventMetadata(scope.correlation_id, scope.user_id, scope.swarm_id)
                self._channel.adopt(run.execution_id, metadata)
            self._scopes[run.execution_id] = scope
        return scope

    def _render(self, node: Node, address: str, attempt: int) -> StepCall:
        plan, step = node.plan, node.plan.step
        parameters, prompt, wait_ms = _NOTHING, _NOTHING, 0
        if plan.kind == "tool":
            parameters = self._parameters(node)
        elif plan.kind == "wait":
            assert plan.wait is not None
            wait_ms = _wait_ms(plan.wait, self.machine.names(node))
        else:
            names = self.machine.names(node)
            prompt = _prompt_keys(step.action, self.machine.blackboard)
            prompt.update((name, value.evaluate(names)) for name, value in plan.prompt)
        return StepCall(
            address=address,
            attempt=attempt,
            kind=plan.kind,  # type: ignore[arg-type] # nothing else is attempted
            strategy=step.strategy,
            tool=plan.label if plan.kind == "tool" else "",
            parameters=parameters,
            prompt=prompt,
            models=step.model,
            output_schema=step.output_schema,
            effects=step.effects,
            priority=step.priority,
            timeout_ms=plan.timeout_ms,
            memory_mb=step.limits.max_memory_mb if step.limits is not None else None,
            wait_ms=wait_ms,
            agent=self._root_scope.agent,
            resources=step.resources,
        )

    def _parameters(self, node: Node) -> Mapping[str, Any]:
        parameters = node.plan.parameters
        assert parameters is not None
        if parameters.constant is not None:
            return parameters.constant
        rendered = parameters.render(self.machine.names(node))
        if self._root_scope.secrets and "command" in rendered:
            self._no_secret(parameters.computed("command", rendered))
        return rendered

    def _no_secret(self, texts: list[str]) -> None:
        """Loading refuses the names of secrets in commands; here, what has become of them on the way of a result."""
        for name, secret in self._root_scope.secrets.items():
            if len(secret) >= _HIDDEN_FROM and any(secret in text for text in texts):
                message = f"the secret {name!r} would stand in a command; pass it with `env:` or `stdin:`"
                raise VrooliError(message, code="PARAMETER_INVALID", tier="tier2")

    async def _asking(self, order: AskApproval) -> None:
        scope = self._root_scope
        question = Question(
            address=order.address,
            prompt=order.prompt,
            digest=order.digest,
            execution_id=self.machine.root_id,
            timeout_ms=None,
        )
        answer = await scope.gate.approver.ask(question)
        self._asked.pop(order.address, None)
        now = self._clock.now_ns()
        if isinstance(answer, Answer):
            self.tell(Answered(now, order.address, answer.approved, answer.by, answer.comment))
        else:
            self.tell(Answered(now, order.address, None))


async def _begun(work: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """Goes on, as a task, with a coroutine that was begun outside of one and waits for something."""
    await _Rest(work, waits_for)


class _Rest:
    """Awaits a coroutine from where it stands."""

    def __init__(self, work: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._work = work
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            try:
                sent = yield waits_for
            except BaseException as thrown:
                step = partial(self._work.throw, thrown)
            else:
                step = partial(self._work.send, sent)
            try:
                waits_for = step()
            except StopIteration:
                return


_NOTHING: Mapping[str, Any] = {}

_PERFORM: Mapping[type, Callable[[RunShell, Any], None]] = {
    StartAttempt: RunShell._start,
    CancelAttempt: RunShell._cancel_attempt,
    KillAttempt: RunShell._cancel_attempt,
    SetTimer: RunShell._set_timer,
    ClearTimer: RunShell._clear_timer,
    AskApproval: RunShell._ask,
    LookUp: RunShell._look_up,
    EndRun: RunShell._end,
}


def _wait_ms(duration: Value, names: Mapping[str, Any]) -> int:
    """Loading has made milliseconds of what the file says; what an expression gives is still as people write it."""
    if isinstance(duration.raw, int):
        return duration.raw
    try:
        return parse_duration(duration.evaluate(names))
    except ValueError as error:
        raise ExpressionError(f"wait: {error}") from None


def _prompt_keys(action: Any, blackboard: Mapping[str, Any]) -> dict[str, Any]:
    assert isinstance(action, Prompt)
    return {
        "context_values": {key: blackboard[key] for key in action.context if key in blackboard},
        "tools": action.tools,
        "max_turns": action.max_turns,
        "temperature": action.temperature,
        "max_tokens": action.max_tokens,
        "seed": action.seed,
        "stop": action.stop,
        "context": action.context,
        "reveal": action.reveal,
    }


# --- what a machine has to show for itself ---------------------------------------------------------------------------


def result_of(machine: RunMachine, context: ExecutionContext, elapsed_ms: int) -> ExecutionResult:
    """The ExecutionResult of a run, at any moment of it."""
    status = ExecutionStatus(machine.status)
    error = ExecutionError(**machine.error) if machine.error is not None else None
    if status is ExecutionStatus.SUSPENDED:
        error = waiting_error(machine.suspension, tuple(machine.suspended))
    elif status is ExecutionStatus.CANCELLED:
        error = error or cancelled_error("tier2")
    usage = ResourceUsage(
        credits_used=str(machine.credits),
        duration_ms=elapsed_ms,
        memory_used_mb=machine.memory_mb,
        steps_executed=machine.steps_executed,
    )
    return ExecutionResult(
        success=status is ExecutionStatus.COMPLETED,
        status=status,
        context=context,
        result=machine.result,
        error=error,
        resources_used=usage,
        duration_ms=elapsed_ms,
        steps={node.address: step_result(node) for node in _shown(machine.root)},
    )


def _shown(root: Frame) -> list[Node]:
    shown = list(root.nodes)
    for handler in root.handlers.values():
        shown.extend(handler.nodes)
    return shown


def step_result(node: Node) -> StepResult:
    """One step of an ExecutionResult."""
    kept = node.kept  # then it is cut, and so without secrets: half a secret is not known
    return StepResult(
        status=node.standing,
        attempts=node.attempts,
        duration_ms=node.duration_ms,
        reused=node.reused,
        result=node.result if kept is None else cut(kept.read(True), RESULT_LIMIT),
        truncated=kept is not None,
        error=ExecutionError(**node.error) if node.error is not None else None,
        reason=node.reason or None,
        counts=node.parts(),
    )
