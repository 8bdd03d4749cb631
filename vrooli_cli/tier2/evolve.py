"""What each fact does to the state: the only code that assigns to it.

``evolve`` is called for every event in the turn that made it, and for every event of a log when a run is resumed; so a
resumed machine knows what the uncut one knew. Facts of tier 3 that concern one call only (``ai/*``, ``ledger/*``) leave
the machine as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from heapq import heappop
from typing import Any

from vrooli_cli.errors import ExpressionError, IllegalMove
from vrooli_cli.language.values import text_of
from vrooli_cli.model import events as e
from vrooli_cli.model.routine import Group
from vrooli_cli.model.run import StepStatus
from vrooli_cli.tier2.context import BlackboardManager, RunContext
from vrooli_cli.tier2.plan import RoutinePlan
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
    Limiter,
    Loop,
    Names,
    Node,
    Phase,
    ReadyHeap,
)

_PERMISSIONS = (e.ApprovalRequested, e.ApprovalGranted, e.ApprovalDenied)
_OPEN = (PENDING, READY, RETRYING, SUSPENDED)

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


class RunState:
    """A run as the log tells it.

    Attributes:
        root: The frame of the routine itself.
        nodes: Address → node, for every node that has not been left behind.
        running: Address → node of each attempt at work.
        suspended: Address → node that waits for a person.
        delayed: Addresses that wait for a retry or the next turn of a ``repeat``.
        agenda: What must be decided next; hints, checked when taken.
        heap: Nodes that may start.
        blackboard: One a run tree.
        status: Of the root run.
    """

    def __init__(
        self,
        plan: RoutinePlan,
        execution_id: str,
        inputs: Mapping[str, Any],
        *,
        max_concurrent: int,
        address: str = "",
        blackboard: BlackboardManager | None = None,
        environ: Mapping[str, str] | None = None,
        work_dir: str = "",
    ) -> None:
        self.plan = plan
        self.root_id = execution_id
        self.nodes: dict[str, Node] = {}
        self.running: dict[str, Node] = {}
        self.suspended: dict[str, Node] = {}
        self.delayed: set[str] = set()
        self.asking: set[str] = set()
        self.agenda: deque[tuple[str, Any]] = deque()
        self.heap = ReadyHeap()
        self.blackboard = blackboard if blackboard is not None else BlackboardManager()
        self.limiter = Limiter(max_concurrent)
        self._limiters: dict[str, Limiter] = {}
        self.status = "pending"
        self.error: Mapping[str, Any] | None = None
        self.result: Any = None
        self.started_ns = 0
        self.active_ns = 0  # of earlier lives of this run
        self.seen_ns = 0  # of the last event
        self.resumptions = 0
        self.steps_executed = 0
        self.credits = 0
        self.memory_mb = 0
        #: False while a log is folded: what may be asked of it afterwards is not known yet.
        self.live = False
        #: Attempts already made at an address by a frame that a retry has replaced: numbers are never used twice.
        self.spent: dict[str, int] = {}
        #: Address → digest of what a person has said yes to: asked again only when the parameters differ.
        self.grants: dict[str, str] = {}
        #: Results of ``once`` steps in such a frame; they are not repeated.
        self.kept: dict[str, Any] = {}
        self._environ = environ or {}
        self._work_dir = work_dir
        run = RunContext(plan, execution_id, inputs, self.blackboard)
        self.root = Frame(
            plan.graph, run, address=address, owner=None, outer=None, limiter=self.limiter, is_routine=True
        )
        self.frames: dict[str, Frame] = {execution_id: self.root}
        self._story: deque[tuple[str, str, StepStatus]] = deque(maxlen=200)

    # -- finding things -----------------------------------------------------------------------------------------------

    def node_at(self, address: str) -> Node:
        """The node of an address; a loop's child is made when it is first spoken of."""
        node = self.nodes.get(address)
        if node is not None:
            return node
        base, _, turn = address.rpartition("#")
        if base and turn.isdigit():
            return self.node_at(base)
        if address.endswith("]"):
            parent, _, key = address[:-1].rpartition("[")
            loop_node = self.node_at(parent)
            if loop_node.loop is not None:
                return self.child_of(loop_node, loop_node.loop.index(key))
        raise IllegalMove(f"no step at {address!r}; last moves: {self._told_story()[-20:]}")

    def child_of(self, node: Node, index: int) -> Node:
        """The child of a loop, made on first use."""
        loop = node.loop
        assert loop is not None
        child = loop.children.get(index)
        if child is None:
            address = f"{node.address}[{loop.key(index)}]"
            child = Node(node.plan, node.frame, address, (*node.rank, index), parent=node)
            child.loop_index = index
            child.item = loop.items[index]
            child.attempt = child.first = self.spent.get(address, 0)
            loop.children[index] = child
            loop.cursor = max(loop.cursor, index + 1)
            loop.running += 1
            self.nodes[address] = child
        return child

    def inner_nodes(self, node: Node) -> Iterator[Node]:
        """The nodes directly inside a composite: of its frame, or the children of its loop."""
        if node.loop is not None:
            yield from list(node.loop.children.values())
        elif node.inside is not None:
            yield from node.inside.nodes
            for handler in node.inside.handlers.values():
                yield from handler.nodes

    # -- evolve -------------------------------------------------------------------------------------------------------

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

    def _told_story(self) -> list[str]:
        return [f"{kind} {step_id} ({status.value})" for kind, step_id, status in self._story]

    def _is_handler(self, step_id: str) -> bool:
        return step_id.rpartition("/")[2].startswith("handlers.")

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

    def limiter_of(self, node: Node) -> Limiter:
        """The slots that a node starts in: its frame's, or fewer by its own ``allocation``."""
        limits = node.plan.step.limits
        if limits is None or limits.max_concurrent_steps is None:
            return node.frame.limiter
        owner = node.parent or node
        key = owner.address
        limiter = self._limiters.get(key)
        if limiter is None:
            limiter = self._limiters[key] = Limiter(limits.max_concurrent_steps, node.frame.limiter)
        return limiter

    def _begin(self, node: Node, now: int) -> None:
        node.status = RUNNING
        node.attempt += 1
        node.started_ns = node.started_ns or now
        self.delayed.discard(node.address)
        self._see_batch(node)

    def _see_batch(self, node: Node) -> None:
        frame = node.frame
        if frame.is_routine and node.parent is None:
            frame.batch_seen[node.plan.batch] = True

    def _enter(self, node: Node, frame: Frame) -> None:
        node.inside = frame
        self._open(frame)

    def _open(self, frame: Frame) -> None:
        for node in frame.nodes:
            self.nodes[node.address] = node
            spent = self.spent.get(node.address)
            if spent:
                node.attempt = node.first = spent
            if not node.waiting:
                self.agenda.append(("node", node))
        if not frame.remaining:
            self.agenda.append(("frame", frame))

    def _open_handler(self, address: str) -> None:
        prefix, _, name = address.rpartition("handlers.")
        around = prefix.rstrip("/")
        home = self.root if around == self.root.address else self._routine_frame(around)
        plan = home.run.plan.handlers[name]
        home.phase = Phase(name)
        frame = Frame(
            plan, home.run, address=address, owner=None, outer=home, limiter=home.limiter, rank=home.rank, home=home
        )
        home.handler = home.handlers[name] = frame
        self._open(frame)

    def _routine_frame(self, address: str) -> Frame:
        frame = self.node_at(address).inside
        assert frame is not None
        return frame

    def _routine_ended(self, event: Any, now: int) -> None:
        frame = self.frames[event.execution_id]
        frame.phase = Phase.OVER
        frame.handler = None
        if frame is not self.root:
            if type(event) is not e.RoutineFailed:
                self.frames.pop(event.execution_id, None)
            return
        self.active_ns += max(0, now - self.started_ns)
        if type(event) is e.RoutineCompleted:
            self.status, self.result = "completed", event.result
        elif type(event) is e.RoutineFailed:
            self.status, self.error = "failed", event.error
        else:
            self.status = "cancelled"

    def _routine_suspended(self, event: e.RoutineSuspended, now: int) -> None:
        self.status = "suspended"
        self.active_ns += max(0, now - self.started_ns)

    def _routine_resumed(self, event: e.RoutineResumed, now: int) -> None:
        self.status = "running"
        self.error = None
        self.result = None
        self.resumptions = event.resumption
        self.started_ns = now
        if event.active_ms is not None:
            self.active_ns = event.active_ms * 1_000_000
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
        if type(event) is e.ExecutionCancelled and event.interrupted:
            node.attempt -= 1  # the same attempt is made again, under its own number
            node.unknown = "once" in (node.calling or {}).values()

    def _tool_called(self, event: e.ToolCalled, now: int) -> None:
        node = self._quietly(event.step_id)
        if node is not None and event.effects != "none":
            node.calling = {**(node.calling or {}), event.call_id: event.effects}

    def _tool_returned(self, event: e.ToolReturned, now: int) -> None:
        node = self._quietly(event.step_id)
        if node is not None and node.calling is not None and event.call_id in node.calling:
            node.carried_out(node.calling.pop(event.call_id))  # a model has several calls under way at once

    def _quietly(self, address: str) -> Node | None:
        return self.running.get(address)

    def _step_retrying(self, node: Node, event: e.StepRetrying, now: int) -> None:
        node.status = RETRYING
        node.error = event.error
        self.delayed.add(node.address)
        self._leave_inside(node)

    def _may_return(self, node: Node) -> bool:
        """True when what lies inside a completed step may be opened again: by a retry around it, or by a resume."""
        if not self.live:
            return True
        around = node.parent or node.frame.container
        while around is not None:
            if around.plan.step.retry is not None:
                return True
            around = around.parent or around.frame.container
        return False

    def _let_go(self, node: Node, *, note: bool) -> None:
        """What lies inside has ended for good; its attempts are noted where it may be opened again."""
        for inner in self.inner_nodes(node):
            if note and inner.attempt:
                self.spent[inner.address] = inner.attempt
            self._let_go(inner, note=note)
            self.nodes.pop(inner.address, None)

    def _leave_inside(self, node: Node) -> None:
        """A retry replaces the inside: attempts go on counting, and what must not happen twice is kept."""
        for inner in self.inner_nodes(node):
            if inner.attempt:
                self.spent[inner.address] = inner.attempt
            if inner.status is COMPLETED and inner.effects == "once":
                self.kept[inner.address] = inner.result
            self._leave_inside(inner)
            self.nodes.pop(inner.address, None)
            self.suspended.pop(inner.address, None)
        if node.inside is not None and node.inside.is_routine:
            self.frames.pop(node.inside.run.execution_id, None)
        node.inside = None
        node.loop = None

    def _step_iterated(self, node: Node, event: e.StepIterated, now: int) -> None:
        self._leave_inside(node)
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
        self._end(node, COMPLETED, 0)

    def _step_failed(self, node: Node, event: e.StepFailed, now: int) -> None:
        node.error = event.error
        node.continued = bool(event.continued)
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
        if not frame.remaining:
            self.agenda.append(("frame", frame))

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
        if node.status is SUSPENDED:  # asked again in a later life
            node.status = PENDING
            self.suspended.pop(node.address, None)
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

    # -- resume -------------------------------------------------------------------------------------------------------

    def _reopen(self, frame: Frame) -> None:
        """Opens again what did not complete, and everything that came after it; the rest stands."""
        frame.failure = None
        frame.stopping = False
        frame.halt = None
        frame.held = []
        reset = self._to_reset(frame)
        if reset or frame.phase in (Phase.MAIN, Phase.OVER):
            frame.phase = Phase.MAIN
            frame.handler = None
            frame.handlers.clear()
        else:  # the graph stands, and the process died in a handler: it goes on there
            for handler in frame.handlers.values():
                self._reopen(handler)
        for index in sorted(reset):
            self._reset(frame.nodes[index], after_reset=any(p in reset for p in frame.nodes[index].plan.parents))
        frame.remaining = len(reset)
        frame.current_batch = 0
        for batch, members in enumerate(frame.graph.batches):
            frame.batch_left[batch] = sum(1 for index in members if index in reset)
        for index in reset:
            self._recount(frame, frame.nodes[index], reset)
        for node in frame.nodes:
            if node.plan.index not in reset:
                node.reused = node.status is COMPLETED
        while frame.current_batch < len(frame.batch_left) - 1 and not frame.batch_left[frame.current_batch]:
            frame.current_batch += 1
        if not reset:
            self.agenda.append(("frame", frame))

    def _to_reset(self, frame: Frame) -> set[int]:
        reset: set[int] = set()
        for batch in frame.graph.batches:
            for index in batch:
                node = frame.nodes[index]
                stands = node.status in (COMPLETED, SKIPPED) or (node.status is FAILED and node.continued)
                if not stands or node.tainted or any(parent in reset for parent in node.plan.parents):
                    reset.add(index)
        return reset

    def _reset(self, node: Node, *, after_reset: bool) -> None:
        loop, inside, status = node.loop, node.inside, node.status
        if status is SUSPENDED and not after_reset:
            self.suspended[node.address] = node
            self.agenda.append(("ask", node))
            return
        if after_reset and (loop is not None or inside is not None):
            self._leave_inside(node)  # what it waits for is done again: it begins anew when that has ended
            loop = inside = None
        if status in TERMINAL:
            node.first = node.attempt
        self.suspended.pop(node.address, None)
        turn, previous, unknown = node.turn, node.previous, node.unknown
        node.clear()
        if after_reset and status in TERMINAL:
            return
        node.turn, node.previous, node.unknown = turn, previous, unknown
        if loop is not None:
            self._reset_loop(node, loop)
        elif inside is not None:
            node.inside = inside
            node.status = RUNNING
            if inside.is_routine:
                self.frames[inside.run.execution_id] = inside
            for inner in inside.nodes:
                self.nodes[inner.address] = inner
            self._reopen(inside)

    def _reset_loop(self, node: Node, loop: Loop) -> None:
        node.loop = loop
        node.status = RUNNING
        loop.failure = None
        loop.stopped = loop.queued = False
        loop.running = 0
        loop.counts = dict.fromkeys(loop.counts, 0)
        for child in loop.children.values():
            stands = child.status in (COMPLETED, SKIPPED) or (child.status is FAILED and child.continued)
            if stands:
                loop.counts[child.status] += 1
            else:
                loop.running += 1
                self.nodes[child.address] = child
                self._reset(child, after_reset=False)
                self.agenda.append(("node", child))
        self.agenda.append(("loop", node))

    def _recount(self, frame: Frame, node: Node, reset: set[int]) -> None:
        node.tainted = False
        node.failed_parents = node.good_parents = node.skipped_parents = 0
        node.waiting = sum(1 for parent in node.plan.parents if parent in reset)
        for parent in node.plan.parents:
            if parent not in reset:
                other = frame.nodes[parent]
                node.good_parents += other.status is COMPLETED
                node.failed_parents += other.status is FAILED
                node.skipped_parents += other.status is SKIPPED
        if not node.waiting and node.status in _OPEN and node.status is not SUSPENDED:
            self.agenda.append(("node", node))


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
