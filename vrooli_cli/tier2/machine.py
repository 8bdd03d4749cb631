"""The brain of tier 2: stimulus in, events and instructions out. No clock, no randomness, no I/O.

``handle`` is the only door. Inside, *decide* (this module and the classes that it stands on, see
:class:`~vrooli_cli.tier2.decisions.Deciding`) makes events and instructions, and *evolve*
(:mod:`vrooli_cli.tier2.evolve`) applies each event to the state at once. Resume is the fold of the log by ``evolve``
and then ``handle(Resumed(…))``.

Wrappers of a step, outermost first: trigger_rule → when → for_each/matrix → (when, if it names the item) →
approval_required → repeat → retry → timeout → action → on_error → set/export.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heappush
from typing import Any

from vrooli_cli.errors import ExpressionError, IllegalMove
from vrooli_cli.model import events as e
from vrooli_cli.tier2.decisions import expression_failed, step_error, yes_or_no
from vrooli_cli.tier2.endings import Endings
from vrooli_cli.tier2.instructions import EndRun, Instruction, KillAttempt, SetTimer, Turn
from vrooli_cli.tier2.state import PENDING, READY, RUNNING, SUSPENDED, TERMINAL, Frame, Halt, Node, Phase
from vrooli_cli.tier2.stimuli import (
    Answered,
    AttemptEnded,
    CancelRequested,
    LookedUp,
    Resumed,
    RunStarted,
    Stimulus,
    TimerFired,
)
from vrooli_cli.tier2.stopping import bad_parents, blames, stopping_reason
from vrooli_cli.tier3.scope import Outcome


class RunMachine(Endings):
    """One root run of a routine with everything nested in it."""

    def handle(self, stimulus: Stimulus) -> Turn[Instruction]:
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
        self._assume = {step: word for step, word in stimulus.assume.items() if word != "rerun"}
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
        for frame in self.frames.values():
            if frame.handler is not None:
                frame.run.status, frame.run.error, _ = self._verdict(frame)
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

    # -- timers -------------------------------------------------------------------------------------------------------

    def _on_timer(self, stimulus: TimerFired) -> None:
        kind, *rest = stimulus.key
        _TIMERS[kind](self, *rest)

    def _time_is_up(self, address: str, attempt: str) -> None:
        """A composite's time-out: its inside is stopped, and the attempt fails with STEP_TIMEOUT."""
        node = self.nodes.get(address)
        if node is None or node.status is not RUNNING or node.inside is None or str(node.attempt) != attempt:
            return
        limit = node.plan.timeout_ms or 0
        error = step_error("STEP_TIMEOUT", f"the step took longer than {_span(limit)}", node.address)
        self._halt_frame(node.inside, Halt("the step's time is up", hard=True, error=error))

    def _duration_is_up(self, execution_id: str) -> None:
        frame = self.frames.get(execution_id)
        if frame is None or frame.phase is not Phase.MAIN:
            return
        limit = self.options.max_duration_ms if frame is self.root else frame.run.plan.routine.limits.max_duration_ms
        who = "the run" if frame is self.root else f"the routine {frame.run.name}"
        step = frame.owner.here if frame.owner is not None else None
        error = step_error("RUN_TIMEOUT", f"{who} took longer than {_span(limit or 0)}", step)
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

    @property
    def suspension(self) -> str:
        """The code of what the run waits for; an outcome that nobody knows goes first."""
        unknown = any(node.reason == "OUTCOME_UNKNOWN" for node in self.suspended.values())
        return "OUTCOME_UNKNOWN" if unknown else "APPROVAL_REQUIRED"

    def _suspend_run(self) -> None:
        if not self.suspended:
            story = [node.address for node in self.root.nodes if node.status not in TERMINAL][:20]
            raise IllegalMove(f"the run is stuck: nothing runs and nothing waits, open are {story}")
        self._emit(
            e.RoutineSuspended(
                execution_id=self.root_id,
                routine=self.plan.routine.name,
                steps=tuple(itertools.islice(self.suspended, 100)),
                code=self.suspension,
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

    def _batch_ended(self, what: tuple[Frame, int]) -> None:
        frame, batch = what
        if frame.is_routine and frame.batch_seen[batch] and not frame.batch_left[batch]:
            count = len(frame.graph.batches[batch])
            self._emit(e.BatchCompleted(execution_id=frame.run.execution_id, batch=batch, count=count))

    # -- may a step start ---------------------------------------------------------------------------------------------

    def _consider(self, node: Node) -> None:
        """All parents have ended: may it start?"""
        if node.status is not PENDING or node.asking or node.address in self._looking:
            return
        frame = node.frame
        if node.parent is None and not self._admitted(node, frame):
            return
        if node.unknown:
            self._unknown(node)
            return
        for result in self.once.results(node):
            self._reuse(node, result, "its effect may happen only once, and it has completed", None)
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
        elif reason := _kept_by_trigger(node):
            self._skip(node, reason, tainted=node.tainted)
        elif frame.stopping and not node.tainted:
            self._cancel_node(node, stopping_reason(frame))
        elif node.cancelled_parents and node.plan.step.trigger_rule not in ("all_done", "any_failed"):
            self._cancel_node(node, f"dependency {_bad_parent(node)} was cancelled")
        elif self.schedule == "batched" and frame.is_routine and node.plan.batch > frame.current_batch:
            frame.held.append(node)
        else:
            return True
        return False

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
            answer = yes_or_no("when", node.plan.when.evaluate(self.names(node)))
        except ExpressionError as error:
            self._settle_failure(node, expression_failed(node, "when", error))
            return False
        if not answer:
            self._skip(node, "`when` is false")
        return answer


def _kept_by_trigger(node: Node) -> str:
    """Why the trigger rule keeps the step from running, or "" (spec routine.md, ``trigger_rule``)."""
    total = len(node.plan.parents)
    rule = node.plan.step.trigger_rule
    if rule == "none_failed":
        if node.tainted:
            return blames(node)
        if total and node.skipped_parents == total:
            return "every dependency was skipped"
    elif rule == "all_succeeded" and node.good_parents < total:
        return f"dependency {_bad_parent(node)} did not succeed"
    elif rule == "any_failed" and not node.failed_parents:
        return "no dependency failed"
    elif rule == "any_succeeded" and total and not node.good_parents:
        return "no dependency succeeded"
    return ""


def _bad_parent(node: Node) -> str:
    bad = bad_parents(node)
    return bad[0].plan.step.id if bad else "?"


def _used(outcome: Outcome, duration_ms: int) -> dict[str, Any]:
    if not outcome.credits and not outcome.memory_mb:
        return {}
    return {
        "credits_used": str(outcome.credits),
        "duration_ms": duration_ms,
        "memory_used_mb": outcome.memory_mb,
        "steps_executed": 1,
    }


def _span(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:g} s"


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
