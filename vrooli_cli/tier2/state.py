"""What the machine of tier 2 knows: nodes, frames, slots, loops; and the names that expressions see.

A *node* is one step at one place of a run: a step of a graph, one child of a loop. A *frame* is one running graph: the
root's, a group's, a child routine's, a handler's. Everything nested is a frame, so there is one table of moves, one
count of slots and one cancel. Only ``RunMachine.evolve`` assigns to any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from heapq import heappop, heappush
from typing import Any

from vrooli_cli.model.run import EFFECTS_ORDER, StepStatus
from vrooli_cli.tier2.context import RunContext
from vrooli_cli.tier2.plan import GraphPlan, StepPlan

PENDING, READY, RUNNING, RETRYING, SUSPENDED = (
    StepStatus.PENDING,
    StepStatus.READY,
    StepStatus.RUNNING,
    StepStatus.RETRYING,
    StepStatus.SUSPENDED,
)
COMPLETED, FAILED, SKIPPED, CANCELLED = (
    StepStatus.COMPLETED,
    StepStatus.FAILED,
    StepStatus.SKIPPED,
    StepStatus.CANCELLED,
)
TERMINAL = frozenset({COMPLETED, FAILED, SKIPPED, CANCELLED})

Rank = tuple[int, ...]


class Limiter:
    """A number of slots inside the slots of its parent: a run, a child routine or a step with an ``allocation``.

    Nodes that found it full wait here and come back to the machine's heap when a slot is free, so a full child never
    blocks the steps beside it.
    """

    __slots__ = ("limit", "parent", "used", "waiting")

    def __init__(self, limit: int, parent: Limiter | None = None) -> None:
        self.limit = limit
        self.parent = parent
        self.used = 0
        self.waiting: list[tuple[Rank, int, Node]] = []

    def chain(self) -> Iterator[Limiter]:
        """This one and all around it."""
        limiter: Limiter | None = self
        while limiter is not None:
            yield limiter
            limiter = limiter.parent

    def full(self) -> Limiter | None:
        """The innermost limiter without a free slot, or None."""
        for limiter in self.chain():
            if limiter.used >= limiter.limit:
                return limiter
        return None


class Loop:
    """A ``for_each`` or ``matrix`` at work; its items are computed once and never again.

    Attributes:
        cursor: The next child to start.
        running: Children started and not ended.
        queued: True while the loop's token ("my next child") is on the heap.
    """

    __slots__ = ("children", "counts", "cursor", "failure", "index_of", "items", "keys", "queued", "running", "stopped")

    def __init__(self, items: list[Any], keys: tuple[str, ...] | None) -> None:
        self.items = items
        self.keys = keys
        self.index_of = {key: index for index, key in enumerate(keys)} if keys is not None else None
        self.children: dict[int, Node] = {}
        self.cursor = 0
        self.running = 0
        self.counts = {COMPLETED: 0, FAILED: 0, SKIPPED: 0, CANCELLED: 0}
        self.failure: Mapping[str, Any] | None = None
        self.stopped = False
        self.queued = False

    def key(self, index: int) -> str:
        """The child's name in paths."""
        return self.keys[index] if self.keys is not None else str(index)

    def index(self, key: str) -> int:
        """The position of the child with that name."""
        return self.index_of[key] if self.index_of is not None else int(key)

    @property
    def done(self) -> int:
        """Children that have ended."""
        return sum(self.counts.values())


class Kept:
    """A large result that is in the store and not in memory any more.

    Attributes:
        read: Reads it again: True as people may see it, False as it was.
    """

    __slots__ = ("read",)

    def __init__(self, read: Callable[[bool], Any]) -> None:
        self.read = read


class Node:
    """One step at one place of a run.

    Attributes:
        address: Its path in the root run.
        loop_index: Its position when it is a child of a loop, else -1.
        waiting: Parents that have not ended.
        failed_parents, good_parents, skipped_parents: How the others ended.
        tainted: A failure that nobody took lies above it.
        attempt: The number of the attempt at work or last made; ``first`` is the number before this activation's first.
        turn: The iteration of a ``repeat``, from 1.
        counts: How the parts of a group or child run ended, kept when its inside is let go.
        calling: The effects of tool calls that were begun and not answered, by call id; looked at after a stop or a
            crash.
        unknown: True when such a call was ``once`` and nobody knows whether it happened.
        effects: The strongest effect that was carried out here or inside.
    """

    __slots__ = (
        "_result",
        "address",
        "asking",
        "attempt",
        "calling",
        "continued",
        "counts",
        "deadline",
        "duration_ms",
        "effects",
        "error",
        "exports",
        "failed_parents",
        "first",
        "frame",
        "good_parents",
        "inside",
        "item",
        "loop",
        "loop_index",
        "parent",
        "plan",
        "previous",
        "rank",
        "reason",
        "reused",
        "skipped_parents",
        "started_ns",
        "status",
        "tainted",
        "turn",
        "unknown",
        "waiting",
    )

    def __init__(self, plan: StepPlan, frame: Frame, address: str, rank: Rank, parent: Node | None = None) -> None:
        self.plan = plan
        self.frame = frame
        self.address = address
        self.rank = rank
        self.parent = parent
        self.loop_index = -1
        self.item: Any = None
        self.waiting = len(plan.parents) if parent is None else 0
        self.tainted = False
        self.failed_parents = self.good_parents = self.skipped_parents = 0
        self.attempt = self.first = 0
        self.effects = "none"
        self.clear()

    def clear(self) -> None:
        """Everything that a new activation starts without; counters of parents and attempts stay."""
        self.status = PENDING
        self.turn = 1
        self.calling: dict[str | None, str] | None = None
        self.unknown = False
        self.previous: Any = None
        self._result: Any = None
        self.error: Mapping[str, Any] | None = None
        self.exports: Mapping[str, Any] | None = None
        self.counts: dict[str, int] | None = None
        self.reason = ""
        self.started_ns = 0
        self.duration_ms = 0
        self.loop: Loop | None = None
        self.inside: Frame | None = None
        self.continued = self.reused = self.asking = False
        self.deadline: int | None = None

    @property
    def result(self) -> Any:
        """What the step gave; read from the store again when it was large and nobody was left to use it."""
        result = self._result
        return result.read(False) if type(result) is Kept else result

    @result.setter
    def result(self, value: Any) -> None:
        self._result = value

    @property
    def kept(self) -> Kept | None:
        """What reads the result, when it is in the store only."""
        result = self._result
        return result if type(result) is Kept else None

    @property
    def is_loop(self) -> bool:
        """True for the node that stands for a whole ``for_each``."""
        return self.plan.step.for_each is not None and self.parent is None

    @property
    def here(self) -> str:
        """The address of what runs now: ``poll#3`` in the third turn of a ``repeat``."""
        if self.plan.step.repeat is None or self.is_loop:
            return self.address
        return f"{self.address}#{self.turn}"

    @property
    def cancelled_parents(self) -> int:
        """Parents that were cancelled, once all have ended."""
        ended = self.good_parents + self.failed_parents + self.skipped_parents
        return len(self.plan.parents) - ended if self.parent is None else 0

    @property
    def attempts(self) -> int:
        """Attempts made in this activation."""
        return self.attempt - self.first

    @property
    def standing(self) -> StepStatus:
        """The status as people are told it: a composite in which everything open waits for them waits, too."""
        loop, inside = self.loop, self.inside
        if self.status is not RUNNING or (loop is None and inside is None):
            return self.status
        if loop is not None:
            inner = {child.standing for child in loop.children.values()}
        else:
            assert inside is not None
            inner = {node.standing for node in (inside.handler or inside).nodes}
        waits = SUSPENDED in inner and inner.isdisjoint((RUNNING, READY, RETRYING))
        return SUSPENDED if waits else RUNNING

    def parts(self) -> dict[str, int] | None:
        """How many parts of a composite are where; None for a step that has none."""
        if self.loop is not None:
            counts = {status.value: count for status, count in self.loop.counts.items() if count}
            for child in self.loop.children.values():
                if child.status not in TERMINAL:
                    status = child.standing
                    counts[status.value] = counts.get(status.value, 0) + 1
            unborn = len(self.loop.items) - sum(counts.values())
            return counts | ({PENDING.value: unborn + counts.get(PENDING.value, 0)} if unborn else {})
        return self.counts if self.inside is None else self.inside.parts()

    def carried_out(self, effects: str | None) -> None:
        """Notes an effect, here and in everything around."""
        node: Node | None = self
        while node is not None and effects and EFFECTS_ORDER[effects] > EFFECTS_ORDER[node.effects]:
            node.effects = effects
            node = node.parent or node.frame.container

    def view(self) -> dict[str, Any]:
        """What ``steps.ID`` is in expressions."""
        return {
            "result": self.result,
            "status": self.status.value,
            "error": dict(self.error) if self.error is not None else None,
            "attempts": self.attempts,
            "duration_ms": self.duration_ms,
            "exports": dict(self.exports) if self.exports else {},
        }


class Halt:
    """Why something is being stopped, and as what it will end.

    Attributes:
        error: The error that the halted node ends with; None ends it as cancelled.
        hard: True when running attempts are stopped too, not only unstarted ones left out.
    """

    __slots__ = ("error", "hard", "reason")

    def __init__(self, reason: str, *, hard: bool, error: Mapping[str, Any] | None = None) -> None:
        self.reason = reason
        self.hard = hard
        self.error = error


class Phase(Enum):
    """Where a routine's frame is: its graph, then the handlers of its end, then over."""

    MAIN = "main"
    SUCCESS = "success"
    FAILURE = "failure"
    FINALLY = "finally"
    OVER = "over"


class Frame:
    """One running graph.

    Attributes:
        owner: The node whose inside this is; None for the root and for handlers.
        outer: The frame whose names are visible from here; None for a routine, which sees only its inputs.
        home: For a handler: the frame of the routine that it belongs to.
        remaining: Nodes that have not ended.
        failure: The first failure, in time, that no ``on_error`` took.
        stopping: True once that failure has kept the other steps from starting.
        phase: For a routine's main frame: which of its graphs runs.
        handler: The handler frame at work.
    """

    __slots__ = (
        "address",
        "batch_left",
        "batch_seen",
        "current_batch",
        "failure",
        "graph",
        "halt",
        "handler",
        "handlers",
        "held",
        "home",
        "is_routine",
        "limiter",
        "nodes",
        "outer",
        "owner",
        "phase",
        "prefix",
        "rank",
        "remaining",
        "run",
        "stopping",
    )

    def __init__(
        self,
        graph: GraphPlan,
        run: RunContext,
        *,
        address: str,
        owner: Node | None,
        outer: Frame | None,
        limiter: Limiter,
        rank: Rank = (),
        is_routine: bool = False,
        home: Frame | None = None,
    ) -> None:
        self.graph = graph
        self.run = run
        self.address = address
        self.prefix = f"{address}/" if address else ""
        self.owner = owner
        self.outer = outer
        self.limiter = limiter
        self.rank = rank
        self.is_routine = is_routine
        self.home = home
        self.failure: Mapping[str, Any] | None = None
        self.stopping = False
        self.halt: Halt | None = None
        self.phase = Phase.MAIN
        self.handler: Frame | None = None
        self.handlers: dict[str, Frame] = {}
        self.remaining = len(graph.steps)
        self.batch_left = [len(batch) for batch in graph.batches]
        self.batch_seen = [False] * len(graph.batches)
        self.current_batch = 0
        #: With ``schedule: batched``: nodes that are ready before their batch's turn.
        self.held: list[Node] = []
        self.nodes = [
            Node(plan, self, self.prefix + plan.step.id, (*rank, plan.batch, plan.index)) for plan in graph.steps
        ]

    @property
    def container(self) -> Node | None:
        """The node around this graph; for a handler the one around its routine."""
        return self.home.owner if self.home is not None else self.owner

    def parts(self) -> dict[str, int]:
        """How many of its steps are where."""
        counts: dict[str, int] = {}
        for node in self.nodes:
            status = node.standing.value
            counts[status] = counts.get(status, 0) + 1
        return counts

    def node(self, step_id: str) -> Node:
        """The node of a step of this graph."""
        return self.nodes[self.graph.by_id[step_id].index]


class StepsView(Mapping[str, Any]):
    """What ``steps`` is in expressions: the steps of this frame and of all frames around it."""

    __slots__ = ("_frame",)

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __getitem__(self, name: str) -> Any:
        frame: Frame | None = self._frame
        while frame is not None:
            plan = frame.graph.by_id.get(name)
            if plan is not None:
                return frame.nodes[plan.index].view()
            frame = frame.outer
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        frame: Frame | None = self._frame
        while frame is not None:
            yield from frame.graph.by_id
            frame = frame.outer

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Names(Mapping[str, Any]):
    """Every name that an expression of a node may use (spec routine.md, "Values"); looked up only when asked for."""

    __slots__ = ("_blackboard", "_extra", "_frame", "_node")

    def __init__(
        self, frame: Frame, node: Node | None, blackboard: Mapping[str, Any], extra: Mapping[str, Any] | None = None
    ) -> None:
        self._frame = frame
        self._node = node
        self._blackboard = blackboard
        self._extra = extra or {}

    def __getitem__(self, name: str) -> Any:
        if name == "steps":
            return StepsView(self._frame)
        if name in self._extra:
            return self._extra[name]
        run = self._frame.run
        found = self._from_loops(name)
        if found is not _MISSING:
            return found
        if name in run.inputs:
            return run.inputs[name]
        return self._root(name, run)

    def _root(self, name: str, run: RunContext) -> Any:
        if name == "vars":
            return run.vars
        if name == "inputs":
            return run.inputs
        if name == "blackboard":
            return self._blackboard
        if name == "run":
            return run.facts()
        if name == "env":
            return run.env
        if name == "secrets":
            return run.secrets
        raise KeyError(name)

    def _from_loops(self, name: str) -> Any:
        """``item``, ``index``, ``previous``, ``iteration`` of this node and of the loops around it."""
        node, frame = self._node, self._frame
        while True:
            if node is not None:
                found = _loop_name(node, name)
                if found is not _MISSING:
                    return found
            if frame.is_routine or frame.owner is None:  # a child routine does not see the loops around its call
                return _MISSING
            node, frame = frame.owner, frame.owner.frame

    def __iter__(self) -> Iterator[str]:
        yield from ("steps", "inputs", "vars", "env", "secrets", "blackboard", "run")
        yield from self._extra
        yield from self._frame.run.inputs

    def __len__(self) -> int:
        return sum(1 for _ in self)


_MISSING = object()


def _loop_name(node: Node, name: str) -> Any:
    if node.loop_index >= 0:
        loop = node.plan.step.for_each
        if loop is not None and name == loop.alias:
            return node.item
        if name == "index":
            return node.loop_index
    if node.plan.step.repeat is not None and not node.is_loop:
        if name == "previous":
            return node.previous
        if name == "iteration":
            return node.turn
    return _MISSING


class ReadyHeap:
    """Nodes that may start, best first: higher priority, earlier batch, file order, item.

    Entries are hints: whoever takes one looks whether the node still wants to start. So a fold over a log, which never
    takes anything, leaves a heap that is right.
    """

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[Rank, int, Node]] = []
        self._count = 0

    def push(self, node: Node, rank: Rank | None = None) -> None:
        """Add a node (a loop stands for its next child)."""
        self._count += 1
        key = (-node.plan.step.priority, *(rank or node.rank))
        heappush(self._heap, (key, self._count, node))

    def put_back(self, entry: tuple[Rank, int, Node]) -> None:
        """Add an entry that was taken before."""
        heappush(self._heap, entry)

    def pop(self) -> tuple[Rank, int, Node]:
        """Take the best entry."""
        return heappop(self._heap)

    def __bool__(self) -> bool:
        return bool(self._heap)
