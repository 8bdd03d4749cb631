"""The tree of a run: its frames and nodes, how they are opened, left behind by a retry, and opened again by a resume.

Nothing here is called but by :mod:`vrooli_cli.tier2.evolve`, for a fact, and by what looks for a node.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from vrooli_cli.errors import IllegalMove
from vrooli_cli.model.addresses import without_turn
from vrooli_cli.model.run import StepStatus
from vrooli_cli.tier2.context import BlackboardManager, RunContext
from vrooli_cli.tier2.once import Once, is_doubtful
from vrooli_cli.tier2.plan import RoutinePlan
from vrooli_cli.tier2.state import (
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
    Node,
    Phase,
    ReadyHeap,
)

_OPEN = (PENDING, READY, RETRYING, SUSPENDED)


class Places:
    """Where everything in a run is, and what stands there.

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
        #: What steps in such a frame have done, or above which a resume does something again.
        self.once = Once()
        #: Large results that are in the store, by address: how many steps may still read one, and what reads it again.
        self._wanted: dict[str, tuple[int, Callable[[bool], Any]]] = {}
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
        base = without_turn(address)
        if base != address:
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
            self._begin_anew(child)
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

    def _told_story(self) -> list[str]:
        return [f"{kind} {step_id} ({status.value})" for kind, step_id, status in self._story]

    # -- opening ------------------------------------------------------------------------------------------------------

    def _begin(self, node: Node, now: int) -> None:
        if self.once.allowed:
            self.once.begin(node)
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
            self._begin_anew(node)
            if not node.waiting:
                self.agenda.append(("node", node))
        if not frame.remaining:
            self.agenda.append(("frame", frame))

    def _begin_anew(self, node: Node) -> None:
        """A node that has just been made, at a place where something may have happened before."""
        self.once.inherit(node)
        if self.spent:
            node.attempt = node.first = self.spent.get(node.here, 0)

    def _note_attempts(self, node: Node) -> None:
        """Attempts made at a place that may be opened again: numbers are never used twice."""
        if node.attempt:
            self.spent[node.here] = node.attempt

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

    # -- leaving behind -----------------------------------------------------------------------------------------------

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
            if note:
                self._note_attempts(inner)
            self._let_go(inner, note=note)
            self.nodes.pop(inner.address, None)
            self.suspended.pop(inner.address, None)

    def _leave_inside(self, node: Node) -> None:
        """A retry replaces the inside: attempts go on counting, and what must not happen twice is kept."""
        for inner in self.inner_nodes(node):
            self._note_attempts(inner)
            if inner.frame.home is None:
                self.once.leave(inner)
                self._leave_inside(inner)
            else:  # a handler belongs to one end of its routine; the next end has its own
                self._let_go(inner, note=True)
            self.nodes.pop(inner.address, None)
            self.suspended.pop(inner.address, None)
        if node.inside is not None and node.inside.is_routine:
            self.frames.pop(node.inside.run.execution_id, None)
        node.inside = None
        node.loop = None

    def _forget_handlers(self, frame: Frame, names: Iterable[str]) -> None:
        """These will run anew; numbers of attempts are never used twice."""
        for name in names:
            for node in frame.handlers.pop(name).nodes:
                self._note_attempts(node)
                self._let_go(node, note=True)
                self.nodes.pop(node.address, None)
                self.suspended.pop(node.address, None)

    # -- resume -------------------------------------------------------------------------------------------------------

    def _reopen(self, frame: Frame) -> None:
        """Opens again what did not complete, and everything that came after it; the rest stands."""
        frame.failure = None
        frame.stopping = False
        frame.halt = None
        frame.held = []
        reset = self._to_reset(frame)
        frame.phase = Phase.MAIN
        frame.handler = None
        if reset:
            self._forget_handlers(frame, list(frame.handlers))  # there will be another end
        else:
            self._reopen_handlers(frame)
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

    def _reopen_handlers(self, frame: Frame) -> None:
        """The graph stands: its end goes on with the first handler that did not complete, and those after it."""
        names = list(frame.handlers)
        for number, name in enumerate(names, 1):
            handler = frame.handlers[name]
            self._reopen(handler)
            if handler.remaining:
                frame.phase, frame.handler = Phase(name), handler
                self._forget_handlers(frame, names[number:])
                return

    def _to_reset(self, frame: Frame) -> set[int]:
        reset: set[int] = set()
        for batch in frame.graph.batches:
            for index in batch:
                node = frame.nodes[index]
                if not self._stands(node) or node.tainted or any(parent in reset for parent in node.plan.parents):
                    reset.add(index)
        return reset

    def _stands(self, node: Node) -> bool:
        """True for what is not done again for its own sake."""
        if node.status is COMPLETED:
            return not self.once.allows(node)
        return node.status is SKIPPED or (node.status is FAILED and node.continued)

    def _reset(self, node: Node, *, after_reset: bool) -> None:
        asks = node.status is SUSPENDED and not (node.reason == "OUTCOME_UNKNOWN" and self.once.allows(node))
        if asks and not after_reset:
            self.suspended[node.address] = node
            self.agenda.append(("ask", node))
            return
        anew = after_reset or node.status is COMPLETED
        if anew and (node.loop is not None or node.inside is not None):
            self._leave_inside(node)  # what it waits for is done again: it begins anew when that has ended
        loop, inside, status = node.loop, node.inside, node.status
        self.suspended.pop(node.address, None)
        self._clear(node, anew=anew)
        if anew and status in TERMINAL:
            return
        if loop is not None:
            self._reset_loop(node, loop)
        elif inside is not None:
            node.inside = inside
            self._go_on(node)
            if inside.is_routine:
                self.frames[inside.run.execution_id] = inside
            for inner in inside.nodes:
                self.nodes[inner.address] = inner
            self._reopen(inside)

    def _go_on(self, node: Node) -> None:
        """A composite goes on with what is open inside: that is an attempt of this life."""
        node.status = RUNNING
        node.started_ns = self.started_ns
        node.first = min(node.first, node.attempt - 1)

    def _clear(self, node: Node, *, anew: bool) -> None:
        """A new activation of a node; what it has done, or may have done, is not forgotten."""
        turn, previous, status = node.turn, node.previous, node.status
        unknown = status is not COMPLETED and is_doubtful(node) and not self.once.allows(node)
        if status in TERMINAL:
            node.first = node.attempt
        if status is COMPLETED:
            self.once.leave(node)
        # Turns that have done something stay done; else a step that begins anew begins with its first turn.
        begins = anew and (status is COMPLETED or node.effects != "once")
        if begins:
            self._note_attempts(node)
        node.clear()
        node.unknown = unknown
        if begins:
            node.attempt = node.first = self.spent.get(node.here, 0)
        else:
            node.turn, node.previous = turn, previous

    def _reset_loop(self, node: Node, loop: Loop) -> None:
        node.loop = loop
        self._go_on(node)
        loop.failure = None
        loop.stopped = loop.queued = False
        loop.running = 0
        loop.counts = dict.fromkeys(loop.counts, 0)
        for child in loop.children.values():
            if self._stands(child):
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
