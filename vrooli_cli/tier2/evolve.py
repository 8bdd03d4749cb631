"""What each fact does to the state: the only code that assigns to it.

``evolve`` is called for every event in the turn that made it, and for every event of a log when a run is resumed; so a
resumed machine knows what the uncut one knew. Facts of tier 3 that concern one call only (``ai/*``, ``ledger/*``) leave
the machine as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heappop
from typing import Any

from vrooli_cli.errors import ExpressionError, IllegalMove
from vrooli_cli.language.values import text_of
from vrooli_cli.model import events as e
from vrooli_cli.model.addresses import is_handler
from vrooli_cli.model.clock import active_ns
from vrooli_cli.model.routine import Group
from vrooli_cli.model.run import CONVERSATION_OVER, StepStatus
from vrooli_cli.tier2.context import RunContext
from vrooli_cli.tier2.once import asks_a_model
from vrooli_cli.tier2.places import Places
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
    Kept,
    Limiter,
    Loop,
    Names,
    Node,
    Phase,
    ReadyHeap,
)

_PERMISSIONS = (e.ApprovalRequested, e.ApprovalGranted, e.ApprovalDenied)

# Which statuses a step's event may find it in: every legal move, and no other (spec engine.md, b).
MOVES: dict[type[e.Event], tuple[StepStatus, ...]] = {
    e.StepReady: (PENDING, READY, RETRYING),
    e.StepExpanded: (PENDING,),
    e.ExecutionStarted: (PENDING, READY, RETRYING),
    e.ExecutionCompleted: (RUNNING,),
    e.ExecutionFailed: (RUNNING,),
    e.ExecutionCancelled: (RUNNING,),
    e.StepRetrying: (PENDING, READY, RUNNING, SUSPENDED),
    e.StepIterated: (PENDING, READY, RUNNING, SUSPENDED),
    e.StepCompleted: (PENDING, READY, RUNNING, RETRYING, SUSPENDED),
    e.StepFailed: (PENDING, READY, RUNNING, RETRYING, SUSPENDED),
    e.StepCancelled: (PENDING, READY, RUNNING, RETRYING, SUSPENDED),
    e.StepSkipped: (PENDING,),
    e.StepReused: (PENDING,),
    e.StepSuspended: (PENDING, READY),
    e.ApprovalRequested: (PENDING, READY, RETRYING, SUSPENDED),
    e.ApprovalGranted: (PENDING, READY, SUSPENDED),
    e.ApprovalDenied: (PENDING, READY, SUSPENDED),
    e.ContextSet: (PENDING, READY, RUNNING, RETRYING, SUSPENDED),
    e.ContextExported: (PENDING, READY, RUNNING, RETRYING, SUSPENDED),
}


class RunState(Places):
    """A run as the log tells it: every fact has a method here, and nothing else changes what it knows."""

    def evolve(self, event: e.Event, now: int) -> None:
        """Apply one fact. Raises IllegalMove for a fact that does not fit, with the node's story."""
        self.seen_ns = now
        handler = _HANDLERS.get(type(event))
        if handler is None:
            return
        legal = MOVES.get(type(event))
        if legal is None:
            handler(self, event, now)
            return
        step_id: str = event.step_id  # type: ignore[attr-defined]
        if type(event) is e.StepReady and self._is_handler(step_id):
            self._open_handler(step_id)
            return
        if step_id in self.running and type(event) in _PERMISSIONS:
            return  # a rule's `ask` inside an attempt: tier 3's own affair
        node = self.node_at(step_id)
        self._story.append((event.type, step_id, node.status))
        if node.status not in legal:
            story = [line for line in self._told_story() if f" {node.address}" in line]
            raise IllegalMove(f"{event.type} finds {step_id!r} {node.status.value}; its story: {story}")
        handler(self, node, event, now)

    def _is_handler(self, step_id: str) -> bool:
        return is_handler(step_id)

    # routine

    def _routine_started(self, event: e.RoutineStarted, now: int) -> None:
        if event.parent_step_id is None or event.execution_id == self.root_id:
            self.status = "running"
            self.started_ns = now
            self.root.run.started_ns = event.started_ns or now
            self._begin_routine(self.root)
            return
        node = self.node_at(event.parent_step_id)
        plan = node.plan.child
        assert plan is not None
        self._begin(node, now)
        run = RunContext(plan, event.execution_id, dict(event.inputs or {}), self.blackboard, node.frame.run)
        run.started_ns = event.started_ns or now
        limits, limiter = plan.routine.limits, self.limiter_of(node)
        if limits.max_concurrent_steps is not None:
            limiter = Limiter(limits.max_concurrent_steps, limiter)
        frame = Frame(
            plan.graph, run, address=node.here, owner=node, outer=None, limiter=limiter, rank=node.rank, is_routine=True
        )
        node.inside = frame
        self.frames[event.execution_id] = frame
        self._begin_routine(frame)

    def _begin_routine(self, frame: Frame) -> None:
        run, routine = frame.run, frame.run.plan.routine
        run.work_dir = self._work_dir
        run.secrets = {name: self._environ.get(source, "") for name, source in routine.secrets.items()}
        run.env = env = {name: self._environ.get(name, "") for name, raw in routine.env.items() if raw is None}
        names = Names(frame, None, self.blackboard)
        try:
            for name, value in run.plan.vars:
                run.vars[name] = value.evaluate(names)
            for name, value in run.plan.env:
                env[name] = text_of(value.evaluate(names))
        except ExpressionError as failure:
            error = {"code": failure.code, "message": f"vars: {failure.message}", "tier": "tier2", "step": None}
            self.agenda.append(("halt", (frame, error)))
        self._open(frame)

    def _routine_ended(self, event: Any, now: int) -> None:
        frame = self.frames[event.execution_id]
        frame.phase = Phase.OVER
        frame.handler = None
        if frame is not self.root:
            if type(event) is not e.RoutineFailed:
                self.frames.pop(event.execution_id, None)
            return
        self.active_ns = active_ns(event.duration_ms, self.active_ns, now - self.started_ns)
        if type(event) is e.RoutineCompleted:
            self.status, self.result = "completed", event.result
        elif type(event) is e.RoutineFailed:
            self.status, self.error = "failed", event.error
        else:
            self.status = "cancelled"

    def _routine_suspended(self, event: e.RoutineSuspended, now: int) -> None:
        self.status = "suspended"
        self.active_ns = active_ns(event.duration_ms, self.active_ns, now - self.started_ns)

    def _routine_resumed(self, event: e.RoutineResumed, now: int) -> None:
        self.status = "running"
        self.error = None
        self.result = None
        self.resumptions = event.resumption
        self.started_ns = now
        if event.active_ms is not None:
            self.active_ns = event.active_ms * 1_000_000
        self.once.allowed = {step for step, word in (event.assume or {}).items() if word == "rerun"}
        self.agenda.clear()
        self.heap = ReadyHeap()
        self.delayed.clear()
        self.asking.clear()
        for limiter in (self.limiter, *self._limiters.values(), *(frame.limiter for frame in self.frames.values())):
            limiter.waiting.clear()
        self._reopen(self.root)

    # steps

    def _step_ready(self, node: Node, event: e.StepReady, now: int) -> None:
        if isinstance(node.plan.step.action, Group):
            self._begin(node, now)
            assert node.plan.inside is not None
            frame = Frame(
                node.plan.inside,
                node.frame.run,
                address=node.here,
                owner=node,
                outer=node.frame,
                limiter=self.limiter_of(node),
                rank=node.rank,
            )
            self._enter(node, frame)
        else:
            node.status = READY

    def _step_expanded(self, node: Node, event: e.StepExpanded, now: int) -> None:
        node.loop = Loop(list(event.items), tuple(event.keys) if event.keys is not None else None)
        self._begin(node, now)
        self.agenda.append(("loop", node))

    def _execution_started(self, node: Node, event: e.ExecutionStarted, now: int) -> None:
        node.status = RUNNING
        node.attempt = event.attempt
        node.started_ns = node.started_ns or now
        node.calling = None
        node.unknown = False
        if self.once.allowed:
            self.once.begin(node)
        self.delayed.discard(node.address)
        self.running[event.step_id] = node
        self._see_batch(node)
        self.steps_executed += 1
        for limiter in self.limiter_of(node).chain():
            limiter.used += 1

    def _execution_ended(self, node: Node, event: Any, now: int) -> None:
        if event.step_id not in self.running:
            return
        del self.running[event.step_id]
        used = event.resources_used if type(event) is not e.ExecutionCancelled else {}
        if used:
            self.credits += int(used.get("credits_used", 0))
            self.memory_mb = max(self.memory_mb, int(used.get("memory_used_mb", 0)))
        if type(event) is not e.ExecutionCancelled:
            node.carried_out(event.effects)
        for limiter in self.limiter_of(node).chain():
            limiter.used -= 1
            if limiter.waiting:
                self.heap.put_back(heappop(limiter.waiting))
        node.status = READY
        if type(event) is e.ExecutionFailed:
            node.unknown = event.effects == "once" and _is_over(node, event.error)
        elif type(event) is e.ExecutionCancelled:
            node.unknown = "once" in (node.calling or {}).values()
            if event.interrupted:
                node.attempt -= 1  # the same attempt is made again, under its own number
        if node.unknown:  # it may have happened, and is taken for done until a person has said more
            node.carried_out("once")

    def _tool_called(self, event: e.ToolCalled, now: int) -> None:
        node = self._quietly(event.step_id)
        if node is not None and event.effects != "none":
            node.calling = {**(node.calling or {}), event.call_id: event.effects}

    def _tool_returned(self, event: e.ToolReturned, now: int) -> None:
        node = self._quietly(event.step_id)
        if node is None or node.calling is None or event.call_id not in node.calling:
            return
        if event.begun is False:
            del node.calling[event.call_id]
            return
        node.carried_out(node.calling[event.call_id])
        code = (event.error or {}).get("code")
        unknown = code == "CANCELLED"  # nobody knows how far it came
        if event.call_id is None:  # its result is in the end of the attempt, or lost; nobody replays it
            unknown = unknown or event.success or code == "OUTCOME_UNKNOWN"
        if not unknown:
            del node.calling[event.call_id]  # a model has several calls under way at once

    def _quietly(self, address: str) -> Node | None:
        return self.running.get(address)

    def _step_retrying(self, node: Node, event: e.StepRetrying, now: int) -> None:
        node.status = RETRYING
        node.unknown = False  # who wrote a retry has said so
        node.error = event.error
        self.delayed.add(node.address)
        self._leave_inside(node)

    def _step_iterated(self, node: Node, event: e.StepIterated, now: int) -> None:
        self._leave_inside(node)
        if self._may_return(node):
            self._note_attempts(node)
        node.turn = event.iteration + 1
        node.previous = event.result
        node.attempt = node.first = self.spent.get(node.here, 0)
        if event.delay_ms:
            node.status = RETRYING
            self.delayed.add(node.address)
        else:
            node.status = PENDING

    def _step_completed(self, node: Node, event: e.StepCompleted, now: int) -> None:
        node.result = event.result
        node.error = event.error
        node.unknown = False
        node.counts = node.parts()
        if node.loop is not None or node.inside is not None:
            self._let_go(node, note=self._may_return(node))
        node.inside = None
        if node.loop is not None:
            node.loop.children.clear()
        self._end(node, COMPLETED, event.duration_ms)

    def _step_reused(self, node: Node, event: e.StepReused, now: int) -> None:
        node.result = event.result
        node.reused = True
        self._see_batch(node)
        if event.from_run is None:
            self.once.use(node)
        self._end(node, COMPLETED, 0)

    def _step_failed(self, node: Node, event: e.StepFailed, now: int) -> None:
        node.error = event.error
        node.continued = bool(event.continued)
        node.unknown = node.unknown and node.status is READY  # else a person has said what became of it
        if not node.continued:
            if node.parent is not None and node.parent.loop is not None:
                node.parent.loop.failure = node.parent.loop.failure or event.error
            elif node.frame.failure is None:
                node.frame.failure = event.error
        self._end(node, FAILED, event.duration_ms)

    def _step_cancelled(self, node: Node, event: e.StepCancelled, now: int) -> None:
        node.reason = event.reason
        self._end(node, CANCELLED, event.duration_ms)

    def _step_skipped(self, node: Node, event: e.StepSkipped, now: int) -> None:
        node.reason = event.reason
        node.tainted = node.tainted or bool(event.tainted)
        self._end(node, SKIPPED, 0)

    def _end(self, node: Node, status: StepStatus, duration_ms: int) -> None:
        node.status = status
        node.duration_ms = duration_ms
        node.asking = False
        self.delayed.discard(node.address)
        self.suspended.pop(node.address, None)
        self.asking.discard(node.address)
        parent = node.parent
        if parent is not None:
            assert parent.loop is not None
            parent.loop.running -= 1
            parent.loop.counts[status] += 1
            self.nodes.pop(node.address, None)
            self.agenda.append(("loop", parent))
            return
        frame = node.frame
        frame.remaining -= 1
        self._end_in_batch(frame, node)
        for index in node.plan.children:
            self._parent_ended(frame.nodes[index], node)
        if self._wanted:
            self._used(frame, node)
        if not frame.remaining:
            self.agenda.append(("frame", frame))

    def keep(self, address: str, read: Callable[[bool], Any]) -> None:
        """A step's result is in the store: it leaves the memory when every step below has ended.

        Whoever asks for it afterwards (outputs, handlers) makes ``read`` read it again.
        """
        node = self.nodes.get(address)
        if node is None or node.status is not COMPLETED or node.parent is not None:
            return
        below = sum(node.frame.nodes[index].status not in TERMINAL for index in node.plan.children)
        if below:
            self._wanted[address] = (below, read)
        else:
            node.result = Kept(read)

    def _used(self, frame: Frame, node: Node) -> None:
        """A step has ended, and with it what it may have read."""
        for index in node.plan.parents:
            above = frame.nodes[index]
            if above.address in self._wanted:
                below, read = self._wanted.pop(above.address)
                if below > 1:
                    self._wanted[above.address] = (below - 1, read)
                elif above.status is COMPLETED:
                    above.result = Kept(read)

    def _parent_ended(self, child: Node, node: Node) -> None:
        child.waiting -= 1
        if node.status is COMPLETED:
            child.good_parents += 1
        elif node.status is FAILED:
            child.failed_parents += 1
            child.tainted = child.tainted or not node.continued
        elif node.tainted:  # left out because of a failure above it: for those below, that failure goes on
            child.failed_parents += 1
            child.tainted = True
        elif node.status is SKIPPED:
            child.skipped_parents += 1
        if not child.waiting and child.status is PENDING:
            self.agenda.append(("node", child))

    def _end_in_batch(self, frame: Frame, node: Node) -> None:
        left = frame.batch_left
        left[node.plan.batch] -= 1
        if not left[node.plan.batch]:
            self.agenda.append(("batch", (frame, node.plan.batch)))
        while frame.current_batch < len(left) - 1 and not left[frame.current_batch]:
            frame.current_batch += 1
            self.agenda.extend(("node", held) for held in frame.held)
            frame.held = []

    def _step_suspended(self, node: Node, event: e.StepSuspended, now: int) -> None:
        node.status = SUSPENDED
        node.deadline = event.deadline
        node.reason = event.code
        node.asking = False
        self.asking.discard(node.address)
        self.suspended[node.address] = node

    def _approval_requested(self, node: Node, event: e.ApprovalRequested, now: int) -> None:
        node.asking = True
        if node.status in (SUSPENDED, RETRYING):  # asked again: in a later life, after a delay
            node.status = PENDING
            self.suspended.pop(node.address, None)
            self.delayed.discard(node.address)
        node.started_ns = node.started_ns or now
        self.asking.add(node.address)
        self._see_batch(node)

    def _approval_granted(self, node: Node, event: e.ApprovalGranted, now: int) -> None:
        if event.digest:
            self.grants[node.address] = event.digest
        self._answered(node)

    def _approval_denied(self, node: Node, event: e.ApprovalDenied, now: int) -> None:
        self._answered(node)

    def _answered(self, node: Node) -> None:
        node.asking = False
        node.status = READY
        node.reason = ""
        node.deadline = None
        self.asking.discard(node.address)
        self.suspended.pop(node.address, None)

    def _context_set(self, node: Node, event: e.ContextSet, now: int) -> None:
        node.frame.run.vars.update(event.values)

    def _context_exported(self, node: Node, event: e.ContextExported, now: int) -> None:
        self.blackboard.write(event.values)
        owner: Node | None = node
        while owner is not None:
            owner.exports = {**(owner.exports or {}), **event.values}
            owner = owner.parent or owner.frame.container


def _is_over(node: Node, error: Mapping[str, Any]) -> bool:
    """True for a failure after which a conversation with a model can only begin anew."""
    return asks_a_model(node) and error.get("code") in CONVERSATION_OVER


_HANDLERS: dict[type[e.Event], Callable[..., None]] = {
    e.RoutineStarted: RunState._routine_started,
    e.RoutineCompleted: RunState._routine_ended,
    e.RoutineFailed: RunState._routine_ended,
    e.RoutineCancelled: RunState._routine_ended,
    e.RoutineSuspended: RunState._routine_suspended,
    e.RoutineResumed: RunState._routine_resumed,
    e.StepReady: RunState._step_ready,
    e.StepExpanded: RunState._step_expanded,
    e.ExecutionStarted: RunState._execution_started,
    e.ExecutionCompleted: RunState._execution_ended,
    e.ExecutionFailed: RunState._execution_ended,
    e.ExecutionCancelled: RunState._execution_ended,
    e.ToolCalled: RunState._tool_called,
    e.ToolReturned: RunState._tool_returned,
    e.StepRetrying: RunState._step_retrying,
    e.StepIterated: RunState._step_iterated,
    e.StepCompleted: RunState._step_completed,
    e.StepFailed: RunState._step_failed,
    e.StepCancelled: RunState._step_cancelled,
    e.StepSkipped: RunState._step_skipped,
    e.StepReused: RunState._step_reused,
    e.StepSuspended: RunState._step_suspended,
    e.ApprovalRequested: RunState._approval_requested,
    e.ApprovalGranted: RunState._approval_granted,
    e.ApprovalDenied: RunState._approval_denied,
    e.ContextSet: RunState._context_set,
    e.ContextExported: RunState._context_exported,
}
