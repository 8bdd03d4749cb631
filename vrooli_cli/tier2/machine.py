"""The brain of tier 2: stimulus in, events and instructions out. No clock, no randomness, no I/O.

``handle`` is the only door. Inside, *decide* (this module) makes events and instructions, and *evolve*
(:mod:`vrooli_cli.tier2.evolve`) applies each event to the state at once. Resume is the fold of the log by ``evolve``
and then ``handle(Resumed(…))``.

What stops a run (a :class:`Halt`, ``stopping``) is no fact: a run that goes on starts without it.

Wrappers of a step, outermost first: trigger_rule → when → for_each/matrix → (when, if it names the item) →
approval_required → repeat → retry → timeout → action → on_error → set/export.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush
from typing import Any
from urllib.parse import quote

from vrooli_cli.errors import ExpressionError, IllegalMove, InputError, VrooliError
from vrooli_cli.language.expressions import Value
from vrooli_cli.language.shell import told
from vrooli_cli.model import events as e
from vrooli_cli.model.clock import child_id
from vrooli_cli.model.routine import Approval
from vrooli_cli.model.run import DENIALS, NEVER_TAKEN, ExecutionError, next_delay
from vrooli_cli.model.values import lean
from vrooli_cli.tier2.context import BlackboardManager, check_inputs
from vrooli_cli.tier2.evolve import RunState
from vrooli_cli.tier2.plan import RoutinePlan, StepPlan
from vrooli_cli.tier2.state import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    READY,
    RETRYING,
    RUNNING,
    SKIPPED,
    SUSPENDED,
    TERMINAL,
    Frame,
    Halt,
    Loop,
    Names,
    Node,
    Phase,
)
from vrooli_cli.tier3.scope import Outcome

SECOND = 1_000_000_000
FINALLY_NS = 30 * SECOND
"""How long the handlers may take once the run has been cancelled or its time is up (spec routine.md)."""
WAITED_APPROVAL_MS = 60_000
"""A gate that nobody here can answer is waited for when its time-out is at most this; else the run is suspended."""

TimerKey = tuple[str, ...]

# --- stimuli: what the machine is told -------------------------------------------------------------------------------


@lean()
class RunStarted:
    """Begin."""

    now: int


@lean()
class Resumed:
    """Go on after a suspension, a failure, a cancel or a crash.

    Attributes:
        assume: Address → ``done``, ``failed`` or ``rerun``, for steps whose outcome is unknown.
        answers: Address → the person's answer, given while no process ran.
    """

    now: int
    assume: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, Answered] = field(default_factory=dict)


@lean()
class AttemptEnded:
    """Tier 3 has an outcome."""

    now: int
    address: str
    attempt: int
    outcome: Outcome


@lean()
class TimerFired:
    """A timer that was set has come."""

    now: int
    key: TimerKey


@lean()
class Answered:
    """A person answered; ``approved`` None says that nobody can answer here."""

    now: int
    address: str
    approved: bool | None
    by: str = ""
    comment: str | None = None


@lean()
class LookedUp:
    """Whether a result of another run stands for a step that is about to start.

    Attributes:
        stands: True: ``result`` is the step's, and ``reason`` says why; False: it runs, and ``reason`` says why.
    """

    now: int
    address: str
    stands: bool
    result: Any = None
    reason: str = ""
    from_run: str = ""


@lean()
class CancelRequested:
    """Stop: by a user, a signal, a parent, or a store that failed."""

    now: int
    reason: str
    error: Mapping[str, Any] | None = None


Stimulus = RunStarted | Resumed | AttemptEnded | TimerFired | Answered | LookedUp | CancelRequested

# --- instructions: what the machine asks of its shell ----------------------------------------------------------------


@lean()
class StartAttempt:
    """Have tier 3 do one attempt."""

    node: Node
    address: str
    attempt: int


@lean()
class CancelAttempt:
    """Stop an attempt, gently first."""

    address: str


@lean()
class KillAttempt:
    """Stop an attempt that did not stop in its grace time."""

    address: str


@lean()
class SetTimer:
    """Tell me at ``at`` (nanoseconds since 1970)."""

    key: TimerKey
    at: int


@lean()
class ClearTimer:
    """Never mind."""

    key: TimerKey


@lean()
class AskApproval:
    """Ask a person, or say that nobody is there."""

    address: str
    prompt: str
    digest: str
    deadline: int | None


@lean()
class LookUp:
    """See whether a result of another run stands for this step."""

    node: Node
    address: str


@lean()
class EndRun:
    """The root run is over, or suspended."""

    status: str


Instruction = StartAttempt | CancelAttempt | KillAttempt | SetTimer | ClearTimer | AskApproval | LookUp | EndRun


@lean()
class Turn:
    """What came of one stimulus: first the events are made durable, then the instructions are performed."""

    events: Sequence[e.Event]
    instructions: Sequence[Instruction]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """How a run is run; none of it is part of the routine's meaning.

    Attributes:
        environ: Where ``env``, ``secrets`` and inputs with ``env`` are read; it was looked at once, at the start.
        work_dir: What ``run.work_dir`` says.
        grace_ms: From "please stop" to "stop".
        reuse: Look up every step before it starts, not only those with ``cache``.
        cache: Look up those with ``cache``.
    """

    max_concurrent: int = 8
    keep_going: bool = False
    schedule: str | None = None
    max_duration_ms: int | None = None
    grace_ms: int = 5000
    environ: Mapping[str, str] = field(default_factory=dict)
    work_dir: str = ""
    parent_execution_id: str | None = None
    parent_step_id: str | None = None
    reuse: bool = False
    cache: bool = False


class RunMachine(RunState):
    """One root run of a routine with everything nested in it."""

    def __init__(
        self,
        plan: RoutinePlan,
        execution_id: str,
        inputs: Mapping[str, Any],
        options: MachineOptions,
        *,
        address: str = "",
        blackboard: BlackboardManager | None = None,
    ) -> None:
        super().__init__(
            plan,
            execution_id,
            inputs,
            max_concurrent=options.max_concurrent,
            address=address,
            blackboard=blackboard,
            environ=options.environ,
            work_dir=options.work_dir,
        )
        self.options = options
        self.schedule = options.schedule or plan.routine.schedule
        self._events: list[e.Event] = []
        self._instructions: list[Instruction] = []
        self._now = 0
        self._cancelled: Halt | None = None
        self._answers: dict[str, Answered] = {}
        self._assume: dict[str, str] = {}
        self._waited: set[str] = set()
        self._looking: set[str] = set()
        self._again: dict[str, str] = {}

    # -- the door -----------------------------------------------------------------------------------------------------

    def handle(self, stimulus: Stimulus) -> Turn:
        """Take in one stimulus; the state is changed by the events that are returned, and by nothing else."""
        self._now = stimulus.now
        self.live = True
        _DECIDE[type(stimulus)](self, stimulus)
        self._advance()
        turn = Turn(self._events, self._instructions)
        self._events, self._instructions = [], []
        return turn

    @property
    def over(self) -> bool:
        """True at a real end; False while running and when suspended."""
        return self.root.phase is Phase.OVER

    def names(self, node: Node, extra: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The names that the texts of a node see."""
        return Names(node.frame, node, self.blackboard, extra)

    # -- stimuli ------------------------------------------------------------------------------------------------------

    def _on_started(self, stimulus: RunStarted) -> None:
        options = self.options
        self._emit(
            e.RoutineStarted(
                execution_id=self.root_id,
                routine=self.plan.routine.name,
                step_count=self.plan.step_count,
                inputs=dict(self.root.run.inputs),
                parent_execution_id=options.parent_execution_id,
                parent_step_id=options.parent_step_id,
                started_ns=self._now,
            )
        )
        self._run_timer()

    def _run_timer(self) -> None:
        if self.options.max_duration_ms is not None:
            left = self.options.max_duration_ms * 1_000_000 - self.active_ns
            self._do(SetTimer(("duration", self.root_id), self._now + max(0, left)))

    def _on_resumed(self, stimulus: Resumed) -> None:
        self._cancelled = None
        self._answers = dict(stimulus.answers)
        self._assume = dict(stimulus.assume)
        active = self.active_ns
        if self.status == "running":  # its process died: that life lasted until its last event
            active += max(0, self.seen_ns - self.started_ns)
        for address, node in list(self.running.items()):
            self._emit(
                e.ExecutionCancelled(
                    execution_id=node.frame.run.execution_id,
                    step_id=address,
                    attempt=node.attempt,
                    reason="the process died",
                    interrupted=True,
                )
            )
        self._emit(
            e.RoutineResumed(
                execution_id=self.root_id,
                routine=self.plan.routine.name,
                assume=dict(stimulus.assume) or None,
                resumption=self.resumptions + 1,
                active_ms=active // 1_000_000,
            )
        )
        self._run_timer()
        for node in list(self.nodes.values()):
            if node.inside is not None and node.status is RUNNING:
                self._watch_time(node)

    def _on_attempt_ended(self, stimulus: AttemptEnded) -> None:
        node = self.running.get(stimulus.address)
        if node is None or node.attempt != stimulus.attempt:
            return  # a late word of an attempt that was given up
        outcome = stimulus.outcome
        execution_id = node.frame.run.execution_id
        duration = self._duration(node)
        used = _used(outcome, duration)
        effects = None if outcome.effects == "none" else outcome.effects
        if outcome.error is None:
            self._emit(
                e.ExecutionCompleted(
                    execution_id=execution_id,
                    step_id=stimulus.address,
                    attempt=node.attempt,
                    duration_ms=duration,
                    resources_used=used,
                    effects=effects,
                )
            )
            self._succeeded(node, outcome.result)
        elif outcome.error.code == "CANCELLED" and (halt := self._halt_of(node)) is not None:
            self._emit(
                e.ExecutionCancelled(
                    execution_id=execution_id,
                    step_id=stimulus.address,
                    attempt=node.attempt,
                    reason=halt.reason,
                    duration_ms=duration,
                )
            )
            self._cancel_node(node, halt.reason)
        else:
            error = outcome.error.wire() | {"step": outcome.error.step or node.address}
            self._emit(
                e.ExecutionFailed(
                    execution_id=execution_id,
                    step_id=stimulus.address,
                    attempt=node.attempt,
                    duration_ms=duration,
                    error=error,
                    resources_used=used,
                    effects=effects,
                )
            )
            self._attempt_failed(node, error)

    def _on_timer(self, stimulus: TimerFired) -> None:
        kind, *rest = stimulus.key
        _TIMERS[kind](self, *rest)

    def _retry_due(self, address: str) -> None:
        node = self.nodes.get(address)
        if node is not None and node.status is RETRYING:
            self.delayed.discard(address)
            self._attempt(node)

    def _time_is_up(self, address: str, attempt: str) -> None:
        """A composite's time-out: its inside is stopped, and the attempt fails with STEP_TIMEOUT."""
        node = self.nodes.get(address)
        if node is None or node.status is not RUNNING or node.inside is None or str(node.attempt) != attempt:
            return
        limit = node.plan.timeout_ms or 0
        error = _error("STEP_TIMEOUT", f"the step took longer than {_span(limit)}", node.address, "tier2")
        self._halt_frame(node.inside, Halt("the step's time is up", hard=True, error=error))

    def _duration_is_up(self, execution_id: str) -> None:
        frame = self.frames.get(execution_id)
        if frame is None or frame.phase is not Phase.MAIN:
            return
        limit = self.options.max_duration_ms if frame is self.root else frame.run.plan.routine.limits.max_duration_ms
        who = "the run" if frame is self.root else f"the routine {frame.run.name}"
        step = frame.owner.here if frame.owner is not None else None
        error = _error("RUN_TIMEOUT", f"{who} took longer than {_span(limit or 0)}", step, "tier2")
        halt = Halt("the run's time is up", hard=True, error=error)
        if frame is self.root:
            self._cancelled = halt
            self._kill_timer()
        self._halt_frame(frame, halt)

    def _kill_due(self) -> None:
        """The grace time is over; handlers that began since are not meant."""
        for address, node in self.running.items():
            if self._halt_around(node.frame) is not None:
                self._do(KillAttempt(address))

    def _finally_due(self, execution_id: str) -> None:
        """The handlers of a routine that was stopped have had their time."""
        frame = self.frames.get(execution_id)
        if frame is not None and frame.handler is not None:
            self._halt_frame(frame.handler, Halt("the handlers took longer than 30 s", hard=True))
            self._kill_timer()

    def _finally_timer(self, frame: Frame) -> None:
        self._do(SetTimer(("finally", frame.run.execution_id), self._now + FINALLY_NS))

    def _approval_due(self, address: str) -> None:
        node = self.nodes.get(address)
        action = node.plan.step.action if node is not None else None
        if node is None or not (node.asking or node.status is SUSPENDED) or not isinstance(action, Approval):
            return
        self._answer(node, Answered(self._now, address, action.on_timeout == "approve", by="timeout"))

    def _on_answered(self, stimulus: Answered) -> None:
        node = self.nodes.get(stimulus.address)
        if node is None or not (node.asking or node.status is SUSPENDED):
            return
        if stimulus.approved is not None:
            self._answer(node, stimulus)
        elif node.asking:
            self._suspend(node)

    def _on_looked_up(self, stimulus: LookedUp) -> None:
        address = stimulus.address
        self._looking.discard(address)
        node = self.nodes.get(address)
        if node is None or node.status is not PENDING:
            return  # it was stopped meanwhile
        if stimulus.stands:
            self._reuse(node, stimulus.result, stimulus.reason, stimulus.from_run)
        else:
            self._again[address] = stimulus.reason
            self._prepare(node)

    def _on_cancel(self, stimulus: CancelRequested) -> None:
        if self.over or self._cancelled is not None:
            return
        self._cancelled = Halt(stimulus.reason, hard=True, error=stimulus.error)
        self._kill_timer()
        root = self.root
        if root.phase is Phase.MAIN:
            self._halt_frame(root, self._cancelled)
        elif root.handler is not None:
            if root.phase is Phase.FINALLY:
                self._finally_timer(root)
            else:
                self._halt_frame(root.handler, self._cancelled)

    def _kill_timer(self) -> None:
        self._do(SetTimer(("kill",), self._now + (self.options.grace_ms + 1000) * 1_000_000))

    # -- the loop of a turn -------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        agenda = self.agenda
        while True:
            if agenda:
                kind, what = agenda.popleft()
                _AGENDA[kind](self, what)
            elif self.heap and self.limiter.used < self.limiter.limit and not self.over:
                self._take()
            else:
                break
        if not self.over and self._idle():
            self._suspend_run()

    def _idle(self) -> bool:
        busy = self.running or self.delayed or self.asking or self._waited or self._looking
        return not busy and self.status == "running"

    def _suspend_run(self) -> None:
        if not self.suspended:
            story = [node.address for node in self.root.nodes if node.status not in TERMINAL][:20]
            raise IllegalMove(f"the run is stuck: nothing runs and nothing waits, open are {story}")
        unknown = any(node.reason == "OUTCOME_UNKNOWN" for node in self.suspended.values())
        code = "OUTCOME_UNKNOWN" if unknown else "APPROVAL_REQUIRED"
        self._emit(
            e.RoutineSuspended(
                execution_id=self.root_id,
                routine=self.plan.routine.name,
                steps=tuple(itertools.islice(self.suspended, 100)),
                code=code,
                duration_ms=self._elapsed(),
            )
        )
        self._do(EndRun("suspended"))

    def _take(self) -> None:
        entry = self.heap.pop()
        node = entry[2]
        if node.is_loop:
            self._next_child(node, entry)
            return
        if node.status not in (PENDING, READY) or node.asking or node.unknown:
            return
        full = self.limiter_of(node).full()
        if full is not None:
            heappush(full.waiting, entry)
            return
        self._start(node)

    def _start(self, node: Node) -> None:
        step = node.plan.step
        self._batch_started(node)
        tool = node.plan.tool
        label = node.plan.label
        address = node.here
        attempt = node.attempt + 1
        self._emit(
            e.ExecutionStarted(
                execution_id=node.frame.run.execution_id,
                step_id=address,
                attempt=attempt,
                strategy=step.strategy.value if step.strategy is not None else None,
                tool_name=label if node.plan.kind == "tool" else None,
                model=label if node.plan.kind == "prompt" else None,
                effects=step.effects or (tool.effects if tool is not None else None),
                reason=self._again.pop(node.address, None) or None if self._again else None,
            )
        )
        self._do(StartAttempt(node, address, attempt))

    def _batch_started(self, node: Node) -> None:
        frame = node.frame
        batch = node.plan.batch
        if not frame.is_routine or frame.batch_seen[batch]:
            return
        members = frame.graph.batches[batch]
        self._emit(
            e.BatchStarted(
                execution_id=frame.run.execution_id,
                batch=batch,
                steps=tuple(frame.graph.steps[index].step.id for index in members[:100]),
                count=len(members),
            )
        )

    def _batch_ended(self, what: tuple[Frame, int]) -> None:
        frame, batch = what
        if frame.is_routine and frame.batch_seen[batch] and not frame.batch_left[batch]:
            count = len(frame.graph.batches[batch])
            self._emit(e.BatchCompleted(execution_id=frame.run.execution_id, batch=batch, count=count))

    # -- one step, from the outside in --------------------------------------------------------------------------------

    def _consider(self, node: Node) -> None:
        """All parents have ended: may it start?"""
        if node.status is not PENDING or node.asking or node.address in self._looking:
            return
        if node.unknown:
            self._unknown(node)
            return
        frame = node.frame
        if node.parent is None and not self._admitted(node, frame):
            return
        kept = self.kept.get(node.address, self)
        if kept is not self:
            self._emit(
                e.StepReused(
                    execution_id=frame.run.execution_id,
                    step_id=node.address,
                    reason="its effect may happen only once, and it has completed",
                    result=kept,
                )
            )
            return
        if self._asks_when(node) and not self._when(node):
            return
        if node.is_loop:
            if node.loop is None:
                self._expand(node)
        else:
            self._prepare(node)

    def _admitted(self, node: Node, frame: Frame) -> bool:
        """True when nothing around the step keeps it from starting now; else it has been dealt with."""
        if frame.halt is not None:
            self._cancel_node(node, frame.halt.reason)
        elif reason := self._trigger(node):
            self._skip(node, reason, tainted=node.tainted)
        elif frame.stopping and not node.tainted:
            self._cancel_node(node, _stopping(frame))
        elif node.cancelled_parents and node.plan.step.trigger_rule not in ("all_done", "any_failed"):
            self._cancel_node(node, f"dependency {self._bad_parent(node)} was cancelled")
        elif self.schedule == "batched" and frame.is_routine and node.plan.batch > frame.current_batch:
            frame.held.append(node)
        else:
            return True
        return False

    def _trigger(self, node: Node) -> str:
        """Why the trigger rule keeps the step from running, or "" (spec routine.md, ``trigger_rule``)."""
        total = len(node.plan.parents)
        rule = node.plan.step.trigger_rule
        if rule == "none_failed":
            if node.tainted:
                return self._blames(node)
            if total and node.skipped_parents == total:
                return "every dependency was skipped"
        elif rule == "all_succeeded" and node.good_parents < total:
            return f"dependency {self._bad_parent(node)} did not succeed"
        elif rule == "any_failed" and not node.failed_parents:
            return "no dependency failed"
        elif rule == "any_succeeded" and total and not node.good_parents:
            return "no dependency succeeded"
        return ""

    def _bad_parent(self, node: Node) -> str:
        bad = self._bad_parents(node)
        return bad[0].plan.step.id if bad else "?"

    def _bad_parents(self, node: Node) -> list[Node]:
        """Parents that did not complete, the worst first: failed, left out because of a failure, any other."""
        parents = [node.frame.nodes[index] for index in node.plan.parents]
        bad = [other for other in parents if other.status is not COMPLETED]
        return sorted(bad, key=lambda other: (other.status is not FAILED or other.continued, not other.tainted))

    def _blames(self, node: Node) -> str:
        """Why a step below a failure is left out, by its nearest cause."""
        for parent in self._bad_parents(node):
            if parent.status is FAILED:
                return f"dependency {parent.plan.step.id} failed"
            if parent.status is SKIPPED:
                return f"dependency {parent.plan.step.id} was skipped"
        return _stopping(node.frame)

    def _skip(self, node: Node, reason: str, *, tainted: bool = False) -> None:
        self._emit(
            e.StepSkipped(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                reason=reason,
                tainted=True if tainted else None,
            )
        )

    def _asks_when(self, node: Node) -> bool:
        plan = node.plan
        if plan.when is None or node.turn > 1:
            return False
        if plan.step.for_each is None:
            return True
        return plan.when_per_item if node.parent is not None else not plan.when_per_item

    def _when(self, node: Node) -> bool:
        """True to go on; else the step has been skipped or has failed."""
        assert node.plan.when is not None
        try:
            answer = node.plan.when.evaluate(self.names(node))
            if answer is not None and not isinstance(answer, bool):
                raise ExpressionError(f"`when` must give true or false, not {_kind(answer)}")
        except ExpressionError as error:
            self._settle_failure(node, self._expression_failed(node, "when", error))
            return False
        if not answer:
            self._skip(node, "`when` is false")
        return bool(answer)

    # -- loops --------------------------------------------------------------------------------------------------------

    def _expand(self, node: Node) -> None:
        try:
            items = self._items(node)
            keys = self._keys(node, items)
        except ExpressionError as error:
            self._fail(node, self._expression_failed(node, "for_each", error))
            return
        self._batch_started(node)
        self._emit(
            e.StepExpanded(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                count=len(items),
                items=items,
                keys=keys,
            )
        )

    def _items(self, node: Node) -> list[Any]:
        names = self.names(node)
        if node.plan.items is None:
            axes = []
            for axis, value in node.plan.axes:
                values = value.evaluate(names)
                if not isinstance(values, list):
                    raise ExpressionError(f"the matrix axis {axis!r} must be a list, not {_kind(values)}")
                axes.append(values)
            labels = [axis for axis, _ in node.plan.axes]
            return [dict(zip(labels, combination, strict=True)) for combination in itertools.product(*axes)]
        items = node.plan.items.evaluate(names)
        if isinstance(items, Mapping):
            return [{"key": key, "value": value} for key, value in items.items()]
        if not isinstance(items, list | tuple):
            raise ExpressionError(f"for_each needs a list or a map, not {_kind(items)}")
        return list(items)

    def _keys(self, node: Node, items: list[Any]) -> tuple[str, ...] | None:
        value = node.plan.key
        if value is None:
            return None
        loop = node.plan.step.for_each
        assert loop is not None
        keys: dict[str, int] = {}
        for index, item in enumerate(items):
            text = value.evaluate(self.names(node, {loop.alias: item, "index": index}))
            if isinstance(text, bool) or not isinstance(text, str | int):
                raise ExpressionError(f"the key of item {index} must be text, not {_kind(text)}")
            key = _address_key(str(text))
            if key in keys:
                raise ExpressionError(f"the key {str(text)[:60]!r} names item {keys[key]} and item {index}")
            keys[key] = index
        return tuple(keys)

    def _loop_moves(self, node: Node) -> None:
        """A child started or ended, or the loop has just been opened."""
        loop = node.loop
        if loop is None or node.status is not RUNNING:
            return
        step = node.plan.step.for_each
        assert step is not None
        if loop.failure is not None and step.fail_fast and not self.options.keep_going:
            loop.stopped = True
        everything = loop.cursor >= len(loop.items)
        if loop.running:
            if not everything and not loop.stopped:
                self._queue_child(node, loop, step.max_concurrent)
        elif everything or loop.stopped:
            self._loop_ends(node, loop)
        else:
            self._queue_child(node, loop, step.max_concurrent)

    def _queue_child(self, node: Node, loop: Loop, limit: int | None) -> None:
        if not loop.queued and (limit is None or loop.running < limit):
            loop.queued = True
            self.heap.push(node, (*node.rank, loop.cursor))

    def _next_child(self, node: Node, entry: tuple[tuple[int, ...], int, Node]) -> None:
        loop = node.loop
        if loop is None or node.status is not RUNNING or loop.stopped or loop.cursor >= len(loop.items):
            if loop is not None:
                loop.queued = False
            return
        full = self.limiter_of(node).full()
        if full is not None:
            heappush(full.waiting, entry)
            return
        loop.queued = False
        child = self.child_of(node, loop.cursor)
        self._consider(child)
        self.agenda.append(("loop", node))

    def _loop_ends(self, node: Node, loop: Loop) -> None:
        halt = node.frame.halt
        if loop.failure is not None:
            self._fail(node, dict(loop.failure))
        elif loop.cursor < len(loop.items) or loop.counts[CANCELLED]:
            reason = halt.reason if halt is not None else _stopping(node.frame)
            self._cancel_node(node, reason)
        else:
            results = [loop.children[index].result for index in range(len(loop.items))]
            self._complete(node, results)

    # -- attempts -----------------------------------------------------------------------------------------------------

    def _prepare(self, node: Node) -> None:
        """Look for a result that stands, ask for approval where the step says so, then go on to the first attempt."""
        if self._looks_up(node):
            self._looking.add(node.address)
            self._do(LookUp(node, node.here))
            return
        if node.plan.step.approval_required:
            try:
                prompt, digest = self._approval_question(node)
            except (ExpressionError, InputError) as error:
                self._attempt_failed(node, self._expression_failed(node, "parameters", error))
                return
            if self.grants.get(node.address) != digest:
                self._ask(node, prompt, digest, None)
                return
        self._attempt(node)

    def _looks_up(self, node: Node) -> bool:
        options, plan = self.options, node.plan
        if not (options.reuse or (options.cache and plan.step.cache is not None)) or node.address in self._again:
            return False
        return plan.kind in ("tool", "prompt", "wait") and node.turn == 1 and not node.attempts

    def _reuse(self, node: Node, result: Any, reason: str, from_run: str) -> None:
        """The result of another run stands; what the step sets and exports is made of it as always."""
        self._batch_started(node)
        if self._assign(node, result):
            execution_id = node.frame.run.execution_id
            event = e.StepReused(
                execution_id=execution_id, step_id=node.address, reason=reason, result=result, from_run=from_run
            )
            self._emit(event)

    def _attempt(self, node: Node) -> None:
        kind = node.plan.kind
        if kind in ("tool", "prompt", "wait"):
            self._queue(node)
        elif kind == "approval":
            self._ask_for_step(node)
        elif kind == "parallel":
            self._batch_started(node)
            self._emit(e.StepReady(execution_id=node.frame.run.execution_id, step_id=node.here))
            self._watch_time(node)
        else:
            self._call(node)

    def _queue(self, node: Node) -> None:
        limiter = self.limiter_of(node)
        if node.status is RETRYING:
            node.status = READY  # its delay is over; the fact is the next execution/started
        if limiter.full() is None:
            if not self.heap:  # the common case of a chain: nobody else waits
                self._start(node)
                return
        elif node.status is PENDING and node.parent is None:
            self._emit(e.StepReady(execution_id=node.frame.run.execution_id, step_id=node.here))
        self.heap.push(node)

    def _call(self, node: Node) -> None:
        """Open a child routine."""
        plan = node.plan.child
        parameters = node.plan.parameters
        if plan is None or parameters is None:
            raise IllegalMove(f"{node.address} calls a routine that was not planned")
        try:
            inputs = check_inputs(plan.routine, parameters.render(self.names(node)), self.options.environ)
        except (ExpressionError, InputError) as error:
            self._attempt_failed(node, self._expression_failed(node, "parameters", error))
            return
        self._batch_started(node)
        address = node.here
        execution_id = child_id(self.root_id, address, node.attempt + 1)
        self._emit(
            e.RoutineStarted(
                execution_id=execution_id,
                routine=plan.routine.name,
                step_count=plan.step_count,
                inputs=inputs,
                parent_execution_id=node.frame.run.execution_id,
                parent_step_id=address,
                started_ns=self._now,
            )
        )
        self._watch_time(node)

    def _watch_time(self, node: Node) -> None:
        """The time-out of a composite step, and the ``max_duration`` of the routine inside."""
        timeout = node.plan.timeout_ms
        if timeout is not None:
            self._do(SetTimer(("timeout", node.address, str(node.attempt)), self._now + timeout * 1_000_000))
        if node.inside is not None and node.inside.is_routine:
            run = node.inside.run
            limit = run.plan.routine.limits.max_duration_ms
            if limit is not None:
                self._do(SetTimer(("duration", run.execution_id), self._now + limit * 1_000_000))

    def _unwatch_time(self, node: Node) -> None:
        if node.plan.timeout_ms is not None and node.inside is not None:
            self._do(ClearTimer(("timeout", node.address, str(node.attempt))))
            if node.inside.is_routine and node.inside.run.plan.routine.limits.max_duration_ms is not None:
                self._do(ClearTimer(("duration", node.inside.run.execution_id)))

    def _succeeded(self, node: Node, result: Any) -> None:
        repeat = node.plan.step.repeat
        if repeat is None:
            self._complete(node, result)
            return
        assert node.plan.until is not None
        try:
            answer = node.plan.until.evaluate(self.names(node, {"result": result}))
            if answer is not None and not isinstance(answer, bool):
                raise ExpressionError(f"`until` must give true or false, not {_kind(answer)}")
        except ExpressionError as error:
            self._settle_failure(node, self._expression_failed(node, "repeat.until", error))
            return
        if answer:
            self._complete(node, result)
        elif node.turn >= repeat.max:
            message = f"`until` did not hold in {repeat.max} turns"
            self._settle_failure(node, _error("REPEAT_EXHAUSTED", message, node.address, "tier2"))
        elif self._leaving(node):
            self._cancel_node(node, self._leaving(node))
        else:
            self._iterate(node, result, repeat.delay_ms)

    def _iterate(self, node: Node, result: Any, delay_ms: int) -> None:
        self._emit(
            e.StepIterated(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                iteration=node.turn,
                result=result,
                delay_ms=delay_ms,
            )
        )
        if delay_ms:
            self._do(SetTimer(("retry", node.address), self._now + delay_ms * 1_000_000))
        else:
            self._attempt(node)

    def _attempt_failed(self, node: Node, error: Mapping[str, Any]) -> None:
        delay = None if self._leaving(node) else self._retry_delay(node, error)
        if delay is None:
            self._settle_failure(node, error)
            return
        self._emit(
            e.StepRetrying(
                execution_id=node.frame.run.execution_id,
                step_id=node.here,
                attempt=node.attempt,
                delay_ms=delay,
                error=error,
            )
        )
        if delay:
            self._do(SetTimer(("retry", node.address), self._now + delay * 1_000_000))
        else:
            self._retry_due(node.address)

    def _retry_delay(self, node: Node, error: Mapping[str, Any]) -> int | None:
        policy = node.plan.step.retry
        if policy is None or (node.effects == "once" and not policy.written):
            return None
        delay = next_delay(policy, node.attempts, ExecutionError(**error), self.root_id, node.here)
        if delay is None or node.plan.retry_when is None:
            return delay
        try:
            wanted = node.plan.retry_when.evaluate(self.names(node, {"error": dict(error)}))
        except ExpressionError:
            return None
        return delay if wanted else None

    def _settle_failure(self, node: Node, error: Mapping[str, Any]) -> None:
        """No further attempt: what ``on_error`` makes of it."""
        policy = node.plan.step.on_error
        code = error["code"]
        if policy.kind == "fail" or code in NEVER_TAKEN or node.is_loop:
            self._fail(node, error)
        elif policy.kind == "recover":
            assert node.plan.recover is not None
            try:
                value = node.plan.recover.evaluate(self.names(node, {"error": dict(error)}))
            except ExpressionError as failure:
                self._fail(node, self._expression_failed(node, "on_error.recover", failure))
                return
            self._complete(node, value, error=error)
        else:
            self._fail(node, error, continued=code not in DENIALS)

    def _fail(self, node: Node, error: Mapping[str, Any], *, continued: bool = False) -> None:
        self._unwatch_time(node)
        self._emit(
            e.StepFailed(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                error=error,
                attempts=node.attempts,
                duration_ms=self._duration(node),
                continued=True if continued else None,
                effects=None if node.effects == "none" else node.effects,
            )
        )
        if not continued and node.parent is None and not self.options.keep_going and not node.frame.stopping:
            self._stop(node.frame)

    def _complete(self, node: Node, result: Any, error: Mapping[str, Any] | None = None) -> None:
        self._unwatch_time(node)
        if not self._assign(node, result, recovered=error is not None):
            return
        self._emit(
            e.StepCompleted(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                result=result,
                attempts=node.attempts,
                duration_ms=self._duration(node),
                recovered=True if error is not None else None,
                error=error,
                effects=None if node.effects == "none" else node.effects,
            )
        )

    def _assign(self, node: Node, result: Any, *, recovered: bool = False) -> bool:
        """``set`` and ``export`` of a step that has a result; False when that failed, and the step with it."""
        plan = node.plan
        if not (plan.set or plan.export) or node.parent is not None:
            return True
        names = self.names(node, {"result": result})
        try:
            values = {name: value.evaluate(names) for name, value in plan.set}
            exports = {name: value.evaluate(names) for name, value in plan.export}
        except ExpressionError as failure:
            wrong = self._expression_failed(node, "set or export", failure)
            if recovered:  # `recover` has had its turn
                self._fail(node, wrong)
            else:
                self._settle_failure(node, wrong)
            return False
        execution_id = node.frame.run.execution_id
        if values:
            self._emit(e.ContextSet(execution_id=execution_id, step_id=node.address, values=values))
        if exports:
            self._emit(e.ContextExported(execution_id=execution_id, step_id=node.address, values=exports))
        return True

    # -- approvals ----------------------------------------------------------------------------------------------------

    def _approval_question(self, node: Node) -> tuple[str, str]:
        plan = node.plan
        parts: dict[str, Any] = {}
        names = self.names(node)
        if plan.parameters is not None:
            parts["parameters"] = {name: told(one) for name, one in plan.parameters.render(names).items()}
        for name, value in plan.prompt:
            parts[name] = value.evaluate(names)
        shown = json.dumps(parts, default=str, ensure_ascii=False, sort_keys=True)
        digest = hashlib.sha256(f"{plan.label}\0{shown}".encode()).hexdigest()[:32]
        what = " ".join(word for word in (plan.kind, plan.label) if word)
        return f"Run {node.address} ({what}) with {shown[:2000]}?", digest

    def _ask_for_step(self, node: Node) -> None:
        action = node.plan.step.action
        assert isinstance(action, Approval)
        try:
            prompt = str(node.plan.prompt[0][1].evaluate(self.names(node)))
        except ExpressionError as error:
            self._attempt_failed(node, self._expression_failed(node, "approval", error))
            return
        deadline = None
        if action.timeout_ms is not None:
            deadline = node.deadline or self._now + action.timeout_ms * 1_000_000
            self._do(SetTimer(("approval", node.address), deadline))
        self._ask(node, prompt, "", deadline)

    def _ask(self, node: Node, prompt: str, digest: str, deadline: int | None) -> None:
        self._batch_started(node)
        self._emit(
            e.ApprovalRequested(
                execution_id=node.frame.run.execution_id, step_id=node.address, prompt=prompt, digest=digest or None
            )
        )
        given = self._answers.pop(node.address, None)
        if given is not None and given.approved is not None:
            self._answer(node, given)
        else:
            self._do(AskApproval(node.address, prompt, digest, deadline))

    def _ask_again(self, node: Node) -> None:
        """A suspended step of a run that goes on."""
        if node.status is not SUSPENDED:
            return
        if node.reason == "OUTCOME_UNKNOWN":
            self._unknown(node)
            return
        given = self._answers.pop(node.address, None)
        if given is not None and given.approved is not None:
            self._answer(node, given)
        elif node.deadline is not None and node.deadline <= self._now:
            self._approval_due(node.address)
        elif isinstance(node.plan.step.action, Approval):
            self._ask_for_step(node)
        else:
            self._prepare(node)

    def _answer(self, node: Node, answer: Answered) -> None:
        execution_id = node.frame.run.execution_id
        is_step = node.plan.kind == "approval"
        self._waited.discard(node.address)
        self._do(ClearTimer(("approval", node.address)))
        fact = e.ApprovalGranted if answer.approved else e.ApprovalDenied
        digest = None if is_step else self._approval_question(node)[1]
        self._emit(
            fact(
                execution_id=execution_id,
                step_id=node.address,
                by=answer.by,
                comment=answer.comment,
                digest=digest,
            )
        )
        if not answer.approved:
            said = f": {answer.comment}" if answer.comment else ""
            message = f"{answer.by or 'somebody'} rejected the step {node.address}{said}"
            self._attempt_failed(node, _error("APPROVAL_DENIED", message, node.address, "tier2"))
        elif is_step:
            result = {"approved": True, "by": answer.by, "comment": answer.comment}
            self._succeeded(node, result)
        else:
            self._attempt(node)

    def _suspend(self, node: Node) -> None:
        action = node.plan.step.action
        deadline = None
        if isinstance(action, Approval) and action.timeout_ms is not None:
            if action.timeout_ms <= WAITED_APPROVAL_MS:
                self._waited.add(node.address)
            deadline = self._now + action.timeout_ms * 1_000_000
        self._emit(
            e.StepSuspended(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                reason="it needs an approval, and nobody is here to give it",
                deadline=deadline,
            )
        )

    def _unknown(self, node: Node) -> None:
        """A ``once`` call was under way when the process died: nobody knows whether it happened."""
        answer = self._assume.pop(node.address, None) or self._assume.pop(node.here, None)
        if answer is None:
            if node.status is not SUSPENDED:
                self._emit(
                    e.StepSuspended(
                        execution_id=node.frame.run.execution_id,
                        step_id=node.address,
                        reason="OUTCOME_UNKNOWN",
                        code="OUTCOME_UNKNOWN",
                    )
                )
            return
        node.unknown = False
        if answer == "done":
            self._complete(node, None)
        elif answer == "failed":
            message = "it was under way when the process died, and is assumed to have failed"
            self._settle_failure(node, _error("TOOL_FAILED", message, node.address, "tier2"))
        else:
            self.suspended.pop(node.address, None)
            node.status = PENDING
            self._attempt(node)

    # -- stopping -----------------------------------------------------------------------------------------------------

    def _halt_of(self, node: Node) -> Halt | None:
        """What stops this node from outside, nearest first."""
        return self._halt_around(node.frame) or self._cancelled

    def _halt_around(self, frame: Frame) -> Halt | None:
        """What stops this graph and everything in it; a handler goes on when its routine was stopped."""
        around: Frame | None = frame
        while around is not None:
            if around.halt is not None and around.halt.hard:
                return around.halt
            around = around.owner.frame if around.owner is not None else None
        return None

    def _leaving(self, node: Node) -> str:
        """Why nothing new may start here, or ""."""
        frame = node.frame
        if frame.halt is not None:
            return frame.halt.reason
        if frame.stopping:
            return _stopping(frame)
        if node.parent is not None and node.parent.loop is not None and node.parent.loop.stopped:
            return "another item of the loop failed"
        return ""

    def _stop(self, frame: Frame) -> None:
        """The first failure that nobody took: only what is downstream of it, and asks for failures, still starts."""
        frame.stopping = True
        self._taint(frame)
        reason = _stopping(frame)
        for index in itertools.chain.from_iterable(frame.graph.batches):
            node = frame.nodes[index]
            if node.status in TERMINAL:
                continue
            if node.status is RUNNING:
                self._stop_inside(node, Halt(reason, hard=False))
            elif node.status in (RETRYING, SUSPENDED) or node.asking:
                self._cancel_node(node, reason)
            elif node.plan.step.trigger_rule in ("all_done", "any_failed"):
                continue
            elif node.tainted:
                self._skip(node, self._blames(node), tainted=True)
            else:
                self._cancel_node(node, reason)

    def _taint(self, frame: Frame) -> None:
        """Marks everything downstream of a failure; batches are in topological order, so one pass does."""
        bad = {n.plan.index for n in frame.nodes if n.status is FAILED and not n.continued}
        for batch in frame.graph.batches:
            for index in batch:
                node = frame.nodes[index]
                if node.status not in TERMINAL and any(parent in bad for parent in node.plan.parents):
                    bad.add(index)
                    node.tainted = True

    def _stop_inside(self, node: Node, halt: Halt) -> None:
        """What a halt does to a running step: composite ones are halted inside, attempts only by a hard one."""
        loop, inside = node.loop, node.inside
        if loop is not None:
            loop.stopped = True
            for child in list(loop.children.values()):
                if child.status is RUNNING:
                    self._stop_inside(child, halt)
                elif child.status not in TERMINAL:
                    self._cancel_node(child, halt.reason)
            self.agenda.append(("loop", node))
        elif inside is not None:
            self._halt_frame(inside, halt)
        elif halt.hard:
            self._do(CancelAttempt(node.here))

    def _halt_started(self, what: tuple[Frame, Mapping[str, Any]]) -> None:
        """A routine whose ``vars`` have no value cannot begin."""
        frame, error = what
        self._halt_frame(frame, Halt("its variables have no value", hard=True, error=error))

    def _halt_frame(self, frame: Frame, halt: Halt) -> None:
        if frame.halt is not None and (frame.halt.hard or not halt.hard):
            return
        frame.halt = halt
        for node in frame.nodes:
            if node.status is RUNNING:
                self._stop_inside(node, Halt(halt.reason, hard=halt.hard))
            elif node.status not in TERMINAL:
                self._cancel_node(node, halt.reason)
        handler = frame.handler
        if handler is not None and frame.phase is not Phase.FINALLY:
            self._halt_frame(handler, halt)
        elif handler is not None and halt.hard:
            self._finally_timer(frame)

    def _cancel_node(self, node: Node, reason: str) -> None:
        self._unwatch_time(node)
        if node.status is RETRYING:
            self._do(ClearTimer(("retry", node.address)))
        if node.asking or node.status is SUSPENDED:
            self._waited.discard(node.address)
            self._do(ClearTimer(("approval", node.address)))
        self._emit(
            e.StepCancelled(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                reason=reason,
                attempts=node.attempts,
                duration_ms=self._duration(node) if node.started_ns else 0,
            )
        )

    # -- the end of a graph -------------------------------------------------------------------------------------------

    def _conclude(self, frame: Frame) -> None:
        """Every node of a frame has ended."""
        if frame.remaining or frame.phase is Phase.OVER:
            return
        if frame.home is not None:
            if frame.home.handler is frame:
                frame.home.handler = None
                self._next_handler(frame.home)
        elif frame.is_routine:
            if frame.phase is Phase.MAIN:
                self._next_handler(frame)
        else:
            self._group_ends(frame)

    def _group_ends(self, frame: Frame) -> None:
        owner = frame.owner
        assert owner is not None
        if owner.inside is not frame or owner.status is not RUNNING:
            return
        halt = frame.halt
        if halt is not None and halt.error is not None:
            self._attempt_failed(owner, halt.error)
        elif halt is not None and halt.hard:
            self._cancel_node(owner, halt.reason)
        elif frame.failure is not None:
            self._attempt_failed(owner, frame.failure)
        elif halt is not None and any(node.status is CANCELLED for node in frame.nodes):
            self._cancel_node(owner, halt.reason)
        else:
            self._succeeded(owner, {node.plan.step.id: node.result for node in frame.nodes})

    def _next_handler(self, frame: Frame) -> None:
        """After the graph: success or failure, then finally; then the end (spec routine.md, ``handlers``)."""
        status, error, result = self._verdict(frame)
        order = {"completed": ("success", "finally"), "failed": ("failure", "finally")}.get(status, ("finally",))
        for name in order:
            if name in frame.run.plan.handlers and name not in frame.handlers:
                frame.run.status, frame.run.error = status, error
                path = f"{frame.prefix}handlers.{name}"
                self._emit(e.StepReady(execution_id=frame.run.execution_id, step_id=path))
                if self._cancelled is not None or self._halt_around(frame) is not None:
                    self._finally_timer(frame)
                return
        self._routine_over(frame, status, error, result)

    def _verdict(self, frame: Frame) -> tuple[str, Mapping[str, Any] | None, Any]:
        """Status, error and result of a routine whose graph has ended, with the handlers that have run so far."""
        halt = frame.halt or (self._cancelled if frame is self.root else None)
        if halt is not None and halt.hard:
            return ("failed", halt.error, None) if halt.error is not None else ("cancelled", None, None)
        if frame.failure is not None:
            return "failed", frame.failure, None
        if halt is not None and any(node.status is CANCELLED for node in frame.nodes):
            return "cancelled", None, None
        for handler in frame.handlers.values():
            if handler.failure is not None:
                return "failed", handler.failure, None
        try:
            return "completed", None, self._result(frame)
        except ExpressionError as failure:
            return "failed", _error("EXPRESSION_ERROR", f"outputs: {failure.message}", None, "tier2"), None

    def _result(self, frame: Frame) -> Any:
        outputs = frame.run.plan.outputs
        if outputs is not None:
            names = Names(frame, None, self.blackboard)
            return {name: value.evaluate(names) for name, value in outputs}
        return {
            node.plan.step.id: node.result
            for node in frame.nodes
            if node.status is COMPLETED and not node.plan.children
        }

    def _routine_over(self, frame: Frame, status: str, error: Mapping[str, Any] | None, result: Any) -> None:
        run = frame.run
        owner = frame.owner
        common: dict[str, Any] = {
            "execution_id": run.execution_id,
            "routine": run.name,
            "duration_ms": self._elapsed() if owner is None else max(0, self._now - run.started_ns) // 1_000_000,
            "parent_step_id": owner.here if owner is not None else None,
        }
        if status == "completed":
            self._emit(e.RoutineCompleted(result=result, **common))
        elif status == "failed":
            assert error is not None
            self._emit(e.RoutineFailed(error=error, **common))
        else:
            halt = frame.halt or self._cancelled
            self._emit(e.RoutineCancelled(reason=halt.reason if halt is not None else "cancelled", **common))
        if owner is None:
            self._do(EndRun(status))
        elif status == "completed":
            self._succeeded(owner, result)
        elif status == "failed":
            assert error is not None
            self._attempt_failed(owner, error)
        else:
            halt = frame.halt
            self._cancel_node(owner, halt.reason if halt is not None else "cancelled")

    # -- small things -------------------------------------------------------------------------------------------------

    def _emit(self, event: e.Event) -> None:
        self._events.append(event)
        self.evolve(event, self._now)

    def _do(self, instruction: Instruction) -> None:
        self._instructions.append(instruction)

    def _duration(self, node: Node) -> int:
        return max(0, self._now - node.started_ns) // 1_000_000 if node.started_ns else 0

    def _elapsed(self) -> int:
        """Active milliseconds of the root run, over all its lives."""
        return (self.active_ns + max(0, self._now - self.started_ns)) // 1_000_000

    def _expression_failed(self, node: Node, where: str, error: VrooliError) -> dict[str, Any]:
        code = "EXPRESSION_ERROR" if isinstance(error, ExpressionError) else error.code
        return _error(code, f"{where}: {error.message}", node.address, "tier2")


def _error(code: str, message: str, step: str | None, tier: str) -> dict[str, Any]:
    return {"code": code, "message": message, "tier": tier, "step": step}


def _stopping(frame: Frame) -> str:
    failed = frame.failure or {}
    return f"the run is stopping: {failed.get('step') or 'a step'} failed"


def _used(outcome: Outcome, duration_ms: int) -> dict[str, Any]:
    if not outcome.credits and not outcome.memory_mb:
        return {}
    return {
        "credits_used": str(outcome.credits),
        "duration_ms": duration_ms,
        "memory_used_mb": outcome.memory_mb,
        "steps_executed": 1,
    }


def _address_key(text: str) -> str:
    """A loop key as it stands in addresses: percent-encoded, at most 80 characters and a hash."""
    encoded = quote(text, safe="-_").replace(".", "%2E").replace("~", "%7E")
    if len(encoded) <= 80:
        return encoded
    return f"{encoded[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _span(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:g} s"


def _kind(value: Any) -> str:
    words = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "a map"}
    return "null" if value is None else words.get(type(value), type(value).__name__)


def constant(value: Value | None) -> Any:
    """The value of a constant text, for plans that want to know it before the run; None when it is not constant."""
    return value.evaluate({}) if value is not None and value.is_constant else None


_DECIDE: dict[type, Callable[[RunMachine, Any], None]] = {
    RunStarted: RunMachine._on_started,
    Resumed: RunMachine._on_resumed,
    AttemptEnded: RunMachine._on_attempt_ended,
    TimerFired: RunMachine._on_timer,
    Answered: RunMachine._on_answered,
    LookedUp: RunMachine._on_looked_up,
    CancelRequested: RunMachine._on_cancel,
}
_TIMERS: dict[str, Callable[..., None]] = {
    "retry": RunMachine._retry_due,
    "timeout": RunMachine._time_is_up,
    "duration": RunMachine._duration_is_up,
    "kill": RunMachine._kill_due,
    "finally": RunMachine._finally_due,
    "approval": RunMachine._approval_due,
}
_AGENDA: dict[str, Callable[[RunMachine, Any], None]] = {
    "node": RunMachine._consider,
    "loop": RunMachine._loop_moves,
    "frame": RunMachine._conclude,
    "batch": RunMachine._batch_ended,
    "ask": RunMachine._ask_again,
    "halt": RunMachine._halt_started,
}


def walk(plan: RoutinePlan) -> Iterator[StepPlan]:
    """Every step of a plan, inner ones after their group; child routines are not entered."""
    graphs = [plan.graph, *plan.handlers.values()]
    while graphs:
        for step in graphs.pop(0).steps:
            yield step
            if step.inside is not None:
                graphs.append(step.inside)
