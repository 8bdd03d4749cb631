"""What the screen knows: a pure fold of events (engine.md (j)).

:meth:`ViewState.apply` is called for every event, on the loop, so it looks nothing up by scanning and never raises;
:func:`vrooli_cli.view.pick.picture` takes what is visible, and only that. Text from outside is made harmless where it
enters (``view.text``); keys stay as they came, because they are looked up and never shown.

Addresses (engine.md (b)) say whose child a step is: ``group/inner``, ``fan[key]``, ``fan[key]/inner``, ``poll#3``,
``handlers.finally/f``, ``task:load/inner``. The first part is a *unit* of the :class:`~vrooli_cli.view.board.Board`;
what lies below gets a :class:`Node` only while it is at work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from vrooli_cli.model import events as e
from vrooli_cli.model.addresses import HANDLER, TASK, is_handler, root_of, static, turn_of, without_turn
from vrooli_cli.model.plan import PlannedStep, PlanSummary
from vrooli_cli.view.board import (
    CANCELLED,
    COMPLETED,
    FAILED,
    READY,
    RETRYING,
    RUNNING,
    SKIPPED,
    SUSPENDED,
    WAITING,
    Board,
)
from vrooli_cli.view.crew import Crew
from vrooli_cli.view.text import REASON_LIMIT, block, line, place
from vrooli_cli.view.told import WORDS_OF, Heard, reason_of

FAILURES_KEPT = 50
NOTES_KEPT = 200
TAIL_KEPT = 24
STREAM_KEPT = 4_000
UNPRICED_KEPT = 8
STREAMS_KEPT = 32
_COMPOSITE = frozenset({"parallel", "routine"})
_NOT_PLANNED = (HANDLER, "events.")


class Node:
    """A step at work, or a composite step (loop, group, child routine) that has begun and not ended.

    Attributes:
        unit: The position on the board of the unit it belongs to, -1 for a handler's.
        owner: The composite around it.
        since: When it came to its present state.
        until: When a retry follows.
        total: Children of a composite; 0 while nobody knows.
        done: Those that ended without failing.
        lapsed: Those of ``done`` that did not complete either: a resumed run decides on them again.
        turn: The turn of a ``repeat``.
        note: What it is busy with, one line.
    """

    # Defaults of the class: a step at work is made with four assignments, not seventeen.
    status = RUNNING
    composite = False
    attempt = 1
    strategy = label = note = ""
    until: datetime | None = None
    credits = done = failed = lapsed = total = turn = 0

    def __init__(self, address: str, unit: int, owner: Node | None, at: datetime) -> None:
        self.address = address
        self.unit = unit
        self.owner = owner
        self.since = at


class Failure:
    """Why a step failed; all text is harmless.

    Attributes:
        tail: The last lines that a command wrote.
        cause: The address of the step whose failure this one only passes on, or empty.
    """

    __slots__ = ("address", "attempts", "cause", "code", "continued", "message", "ms", "name", "tail", "unit")

    def __init__(self, address: str, unit: int, error: object, attempts: int, ms: int, *, continued: bool) -> None:
        self.address = address
        self.unit = unit
        self.name = place(address, 120)
        self.code, self.message = reason_of(error, REASON_LIMIT)
        self.attempts = attempts
        self.ms = ms
        self.continued = continued
        self.tail = stderr_tail(error)
        step = error.get("step") if isinstance(error, Mapping) else None
        self.cause = step if isinstance(step, str) and step != address else ""


class Stream:
    """The end of what one model says."""

    __slots__ = ("chunks", "kept", "model", "name", "said")

    def __init__(self, name: str, model: str) -> None:
        self.name = name
        self.model = model
        self.chunks: deque[str] = deque()
        self.kept = 0
        self.said = 0

    def feed(self, text: str) -> None:
        """Add text; the oldest is let go."""
        self.said += len(text)
        harmless = block(text[-STREAM_KEPT:])
        self.chunks.append(harmless)
        self.kept += len(harmless)
        while self.kept - len(self.chunks[0]) >= STREAM_KEPT:
            self.kept -= len(self.chunks.popleft())


def stderr_tail(error: object, rows: int = 6) -> tuple[str, ...]:
    """The last lines that a failed command wrote to stderr, harmless."""
    context = error.get("context") if isinstance(error, Mapping) else None
    if not isinstance(context, Mapping):
        return ()
    text = next((text for key in ("stderr", "stderr_tail") if isinstance(text := context.get(key), str)), "")
    return tuple(line(part, 200) for part in text[-4_000:].splitlines()[-rows:] if part.strip())


def _whole(value: object) -> int:
    """A count from outside, as one that fits a column of the board."""
    return min(value, 1 << 60) if type(value) is int and value > 0 else 0


@lru_cache(1024)
def _label(text: str) -> str:
    """The name of a tool, a model or a strategy: few, and said again and again."""
    return line(text, 60)


_static = lru_cache(4096)(static)


def parent_address(address: str) -> str:
    """The composite around an address: ``fan`` of ``fan[3]``, ``fan[3]`` of ``fan[3]/x``, ``poll`` of ``poll#2/x``.

    Empty for a step of the root graph, a handler's own and a task's own graph: there is nobody who counts them.
    """
    if address.endswith("]"):
        return address[: address.rfind("[")]
    outer = address.rpartition("/")[0]
    last = outer.rpartition("/")[2]
    if last.startswith((HANDLER, TASK)):
        return ""
    return without_turn(outer)


class ViewState:
    """A run as a person wants to see it.

    Args:
        plan: The routine's graph; without one, steps appear as they are heard of.
        run_id: Shown beside the name; the first event's, when it is left out.
        credit_limit: The root account's limit, when there is one.

    Attributes:
        board: Every step (of a swarm: every task) with its state.
        running: Address → node, for what works now, oldest first.
        parked: The same for what waits for a retry or for a person.
        groups: Composites that have begun; they are in ``running`` too while they have not failed.
        failed: The first failures, by address; ``failures`` counts all.
        asked: Address → (question, code) of what waits for a person.
        notes: Unit → why it was skipped or reused (the first ones).
        tail: The last events that say something.
        streams: Address → what a model is saying, the latest last.
        crew: Goal, team and norms of a swarm, or None.
        dirty: True when something changed since whoever draws set it to False.
        ignored: Events that could not be understood.
    """

    def __init__(self, plan: PlanSummary | None = None, *, run_id: str = "", credit_limit: int | None = None) -> None:
        self.plan = plan
        self.name = line(plan.name, 80) if plan else ""
        self.run_id = line(run_id, 60)
        self.root = run_id
        self.status = "pending"
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self.seen: datetime | None = None
        self.credit_limit = credit_limit
        self.credits = self.reserved = self.tokens_in = self.tokens_out = 0
        self.unpriced: dict[str, None] = {}  # models whose tokens count as 0, since nobody knows their price
        self.error: tuple[str, str] = ("", "")
        self.notice = ""
        self.board = Board()
        self.running: dict[str, Node] = {}
        self.parked: dict[str, Node] = {}
        self.groups: dict[str, Node] = {}
        self.failed: dict[str, Failure] = {}
        self.failures = 0
        self.asked: dict[str, tuple[str, str]] = {}
        self.notes: dict[int, str] = {}
        self.tail: deque[Heard] = deque(maxlen=TAIL_KEPT)
        self.streams: dict[str, Stream] = {}
        self.crew: Crew | None = None
        self.dirty = True
        self.ignored = 0
        self._reservations: dict[str, int] = {}
        for batch in plan.batches if plan else ():
            self.board.add_batch(batch)

    def apply(self, event: e.ExecutionEvent) -> None:
        """Takes one event in. What it cannot understand it counts and leaves alone; it never raises."""
        fact = event.fact
        if fact is None:
            return
        try:
            kind, at = type(fact), event.timestamp
            fold = _FOLDS.get(kind)
            if fold is not None:
                fold(self, fact, at)
            words_of = WORDS_OF.get(kind)
            if words_of is not None and (fact.execution_id == self.root or not self._said_already(fact.type)):
                words = words_of(fact)
                if words is not None:
                    self.tail.append((at, kind, words))
            self.seen = at
            self.dirty = True
        except Exception:  # a view cannot disturb a run: one odd event is not shown
            self.ignored += 1

    def _said_already(self, kind: str) -> bool:
        """True for news of a child run that a line of its parent says as well."""
        return kind.startswith("tier2/batch/") or (self.crew is not None and kind.startswith("tier2/routine/"))

    def elapsed_ms(self, now: datetime) -> int:
        """Milliseconds since the start, up to the end."""
        if self.started is None:
            return 0
        return max(0, _ms((self.ended or now) - self.started))

    def planned(self, address: str) -> PlannedStep | None:
        """What the plan says of the step at an address, at any depth."""
        if self.plan is None:
            return None
        outer, _, name = _static(address).rpartition("/")
        graph = self.plan.nested.get(outer) if outer else self.plan
        return graph.steps.get(name) if graph else None

    # -- the places of steps ------------------------------------------------------------------------------------------

    def _unit(self, address: str) -> int:
        """The unit that an address belongs to; one that nobody announced is added. -1 outside of the plan.

        Handlers and event agents are, and of a swarm all that is no task: its planning, its last word.
        """
        root = root_of(address)
        if root.startswith(TASK):
            return self._known(root.removeprefix(TASK))
        if self.crew is not None or root.startswith(_NOT_PLANNED):
            return -1
        return self._known(root)

    def _known(self, name: str) -> int:
        unit = self.board.find(name)
        return unit if unit >= 0 else self.board.add(name)

    def _own(self, address: str) -> int:
        """The unit that *is* this address, or -1 when it lies inside of one or outside of the plan."""
        if self.crew is not None:
            return -1
        unit = self.board.find(address)
        if unit >= 0 or "/" in address or "[" in address or ":" in address or address.startswith(_NOT_PLANNED):
            return unit
        return self.board.add(address)

    def _owner(self, address: str, at: datetime) -> Node | None:
        outer = parent_address(address)
        if not outer:
            return None
        return self.groups.get(outer) or self._open(outer, at)

    def _node(self, address: str, own: int, at: datetime) -> Node:
        if own >= 0:
            return Node(address, own, None, at)
        owner = self._owner(address, at)
        return Node(address, owner.unit if owner is not None else self._unit(address), owner, at)

    def _open(self, address: str, at: datetime) -> Node:
        """A composite step has begun: by its own event, or because something inside it did."""
        node = self.groups.get(address)
        own = self._own(address)
        if node is None:
            node = self.running.get(address) or self._node(address, own, at)
            node.composite = True
            planned = self.planned(address)
            if planned is not None:
                node.label = line(planned.label, 60)
            node.total = node.total or self._inside(address, planned)
            self.groups[address] = node
        if address not in self.running:
            node.status, node.since = RUNNING, at
            self.running[address] = node
            self.parked.pop(address, None)
        if own >= 0:
            self.board.move(own, RUNNING)
        return node

    def _inside(self, address: str, planned: PlannedStep | None) -> int:
        """The children of a group or child routine; a loop's are counted by its own event."""
        if self.plan is None or (planned is not None and planned.loop and not address.endswith("]")):
            return 0
        graph = self.plan.nested.get(_static(address))
        return len(graph.steps) if graph else 0

    def _at_work(self, address: str, at: datetime) -> Node:
        own = self._own(address)
        node = self.running.get(address)
        if node is None:
            node = self.parked.pop(address, None) if self.parked else None
            if node is None:
                node = self._node(address, own, at)
            else:
                node.status, node.since, node.until, node.note = RUNNING, at, None, ""
            self.running[address] = node
        else:
            node.since, node.until, node.note = at, None, ""
        if own >= 0:
            self.board.move(own, RUNNING)
        return node

    def _park(self, address: str, status: int, at: datetime) -> Node:
        own = self._own(address)
        node = self.running.pop(address, None) or self.parked.get(address)
        if node is None:
            node = self._node(address, own, at)
        node.status, node.since = status, at
        self.parked[address] = node
        if own >= 0:
            self.board.move(own, status)
        return node

    def _end(self, address: str, status: int, at: datetime, attempts: int = 0, ms: int = 0) -> int:
        """A step's verdict; its unit when it is one, else -1."""
        node = self.running.pop(address, None)
        if node is None and self.parked:
            node = self.parked.pop(address, None)
        if self.streams:
            self.streams.pop(address, None)
        if self.asked:
            self.asked.pop(address, None)
        if self.groups and status == COMPLETED:
            self.groups.pop(address, None)
        own = self._own(address)
        if own >= 0:
            board = self.board
            board.attempts[own], board.duration[own] = _whole(attempts), _whole(ms)
            board.move(own, status)
            return own
        owner = node.owner if node is not None else self._owner(address, at)
        if owner is not None:
            if status == FAILED:
                owner.failed += 1
            else:
                owner.done += 1
                owner.lapsed += status != COMPLETED
        return own

    def _note(self, unit: int, text: str) -> None:
        if unit >= 0 and text and len(self.notes) < NOTES_KEPT:
            self.notes[unit] = line(text, 160)

    def _charge(self, address: str, credits: int) -> None:
        self.credits += credits
        node = self.running.get(without_turn(address)) or self.parked.get(without_turn(address))
        if node is not None:
            node.credits += credits
        unit = node.unit if node is not None else self._unit(address) if address else -1
        if unit >= 0:
            self.board.credits[unit] += credits

    # -- the run as a whole -------------------------------------------------------------------------------------------

    def _began(self, at: datetime, root: str, name: str) -> None:
        self.root = root
        self.run_id = self.run_id or line(root, 60)
        self.name = self.name or line(name, 80)
        self.started = self.started or at
        self.ended = None
        self.status = "running"

    def _over(self, status: str, at: datetime) -> None:
        self.status, self.ended = status, at
        if status == "suspended":
            for address in list(self.running):  # nothing works any more: it waits for what is inside
                self._park(address, SUSPENDED, at)

    def _routine_started(self, fact: e.RoutineStarted, at: datetime) -> None:
        if fact.parent_execution_id is None and self.crew is None:
            self._began(at, fact.execution_id, fact.routine)
            if self.plan is None:
                self.board.expect(_whole(fact.step_count))
        elif fact.parent_step_id and not fact.parent_step_id.startswith(TASK):
            node = self._open(without_turn(fact.parent_step_id), at)
            node.total = node.total or _whole(fact.step_count)

    def _routine_over(
        self, fact: e.RoutineCompleted | e.RoutineFailed | e.RoutineCancelled | e.RoutineSuspended, at: datetime
    ) -> None:
        if fact.execution_id != self.root:
            return
        self._over(fact.type.rpartition("/")[2], at)
        if isinstance(fact, e.RoutineFailed):
            self.error = reason_of(fact.error, REASON_LIMIT)

    def _routine_resumed(self, fact: e.RoutineResumed, at: datetime) -> None:
        if self.crew is None:
            self._reopen(at, fact.execution_id, fact.routine)

    def _reopen(self, at: datetime, root: str, name: str) -> None:
        self._began(at, root, name)
        self.board.reopen()
        self.running.clear()
        self.parked.clear()
        self.failed.clear()
        self.streams.clear()
        self.asked.clear()
        self.failures = 0
        for group in self.groups.values():
            group.done -= group.lapsed
            group.failed = group.lapsed = 0

    # -- steps --------------------------------------------------------------------------------------------------------

    def _step_ready(self, fact: e.StepReady, at: datetime) -> None:
        address = without_turn(fact.step_id)
        if is_handler(address):
            return
        planned = self.planned(address)
        if address in self.groups or (planned is not None and planned.kind in _COMPOSITE):
            self._open(address, at)
        else:
            unit = self._own(address)
            if unit >= 0 and self.board.status[unit] == WAITING:
                self.board.move(unit, READY)

    def _step_completed(self, fact: e.StepCompleted, at: datetime) -> None:
        unit = self._end(fact.step_id, COMPLETED, at, fact.attempts, fact.duration_ms)
        if fact.recovered:
            self._note(unit, f"recovered: {reason_of(fact.error)[0]}")

    def _step_failed(self, fact: e.StepFailed, at: datetime) -> None:
        unit = self._end(fact.step_id, FAILED, at, fact.attempts, fact.duration_ms)
        self.failures += 1
        if len(self.failed) < FAILURES_KEPT:
            at_unit = unit if unit >= 0 else self._unit(fact.step_id)
            self.failed[fact.step_id] = Failure(
                fact.step_id,
                at_unit,
                fact.error,
                _whole(fact.attempts),
                _whole(fact.duration_ms),
                continued=bool(fact.continued),
            )

    def _step_cancelled(self, fact: e.StepCancelled, at: datetime) -> None:
        self._end(fact.step_id, CANCELLED, at, fact.attempts, fact.duration_ms)

    def _step_skipped(self, fact: e.StepSkipped, at: datetime) -> None:
        self._note(self._end(fact.step_id, SKIPPED, at), fact.reason)

    def _step_reused(self, fact: e.StepReused, at: datetime) -> None:
        self._note(self._end(fact.step_id, COMPLETED, at), f"reused: {fact.reason}")

    def _step_retrying(self, fact: e.StepRetrying, at: datetime) -> None:
        address = without_turn(fact.step_id)
        node = self._park(address, RETRYING, at)
        node.attempt = _whole(fact.attempt)
        node.until = at + timedelta(milliseconds=_whole(fact.delay_ms))
        node.note = ": ".join(part for part in reason_of(fact.error) if part)
        self.streams.pop(fact.step_id, None)

    def _step_suspended(self, fact: e.StepSuspended, at: datetime) -> None:
        node = self._park(fact.step_id, SUSPENDED, at)
        node.note = line(fact.prompt or fact.reason)
        self.asked[fact.step_id] = (node.note, line(fact.code, 40))

    def _step_expanded(self, fact: e.StepExpanded, at: datetime) -> None:
        self._open(fact.step_id, at).total = _whole(fact.count)

    def _step_iterated(self, fact: e.StepIterated, at: datetime) -> None:
        self._at_work(fact.step_id, at).turn = _whole(fact.iteration) + 1

    # -- attempts -----------------------------------------------------------------------------------------------------

    def _execution_started(self, fact: e.ExecutionStarted, at: datetime) -> None:
        address = fact.step_id
        base = without_turn(address)
        node = self._at_work(base, at)
        if fact.attempt != 1:
            node.attempt = _whole(fact.attempt)
        if base is not address:
            node.turn = turn_of(address)
        label = fact.model or fact.tool_name
        if label:
            node.label = _label(label)
        if fact.strategy:
            node.strategy = _label(fact.strategy)

    def _execution_over(
        self, fact: e.ExecutionCompleted | e.ExecutionFailed | e.ExecutionCancelled, at: datetime
    ) -> None:
        self.streams.pop(fact.step_id, None)

    def _tool_called(self, fact: e.ToolCalled, at: datetime) -> None:
        node = self.running.get(without_turn(fact.step_id))
        if node is not None and fact.call_id:
            node.note = f"→ {line(fact.tool_name, 60)}"

    def _tool_returned(self, fact: e.ToolReturned, at: datetime) -> None:
        node = self.running.get(without_turn(fact.step_id))
        if node is not None and fact.call_id:
            node.note = ""

    def _ai_requested(self, fact: e.AIRequested, at: datetime) -> None:
        if fact.unpriced and len(self.unpriced) < UNPRICED_KEPT:
            self.unpriced[line(fact.model, 60)] = None
        node = self.running.get(without_turn(fact.step_id))
        if node is not None:
            node.label, node.note = line(fact.model, 60), ""

    def _ai_delta(self, fact: e.AIDelta, at: datetime) -> None:
        stream = self.streams.pop(fact.step_id, None)
        if stream is None:
            node = self.running.get(without_turn(fact.step_id))
            stream = Stream(line(fact.step_id, 80), node.label if node is not None else "")
        self.streams[fact.step_id] = stream  # the latest last
        if len(self.streams) > STREAMS_KEPT:
            del self.streams[next(iter(self.streams))]
        stream.feed(fact.text)

    def _ai_responded(self, fact: e.AIResponded, at: datetime) -> None:
        self.streams.pop(fact.step_id, None)
        usage = fact.usage or {}
        self.tokens_in += _whole(usage.get("input_tokens", usage.get("prompt_tokens")))
        self.tokens_out += _whole(usage.get("output_tokens", usage.get("completion_tokens")))
        node = self.running.get(without_turn(fact.step_id))
        if node is not None:
            node.note = ""

    def _ai_throttled(self, fact: e.AIThrottled, at: datetime) -> None:
        self.streams.pop(fact.step_id, None)
        node = self.running.get(without_turn(fact.step_id))
        if node is not None:
            node.note = line(f"throttled: {fact.reason}", 120)
            node.until = at + timedelta(milliseconds=_whole(fact.delay_ms))

    def _ai_fallback(self, fact: e.AIFallback, at: datetime) -> None:
        node = self.running.get(without_turn(fact.step_id))
        if node is not None:
            node.label, node.note = line(fact.to_model, 60), line(f"instead of {fact.model}: {fact.reason}", 120)

    def _reserved(self, fact: e.LedgerReserved, at: datetime) -> None:
        credits = _whole(fact.credits)
        self.reserved += credits - self._reservations.get(fact.reservation, 0)
        self._reservations[fact.reservation] = credits

    def _settled(self, fact: e.LedgerSettled, at: datetime) -> None:
        self.reserved -= self._reservations.pop(fact.reservation, 0)
        self._charge(fact.step_id, _whole(fact.credits))

    def _limit(self, fact: e.ResourcesWarning | e.ResourcesExhausted, at: datetime) -> None:
        word = "exhausted" if isinstance(fact, e.ResourcesExhausted) else "nearly used"
        self.notice = line(f"{fact.resource} {word}: {fact.used:,} of {fact.limit:,}", 120)

    def _approval_requested(self, fact: e.ApprovalRequested, at: datetime) -> None:
        self.asked[fact.step_id] = (line(fact.prompt), "APPROVAL_REQUIRED")

    def _approval_answered(self, fact: e.ApprovalGranted | e.ApprovalDenied, at: datetime) -> None:
        self.asked.pop(fact.step_id, None)

    # -- swarms -------------------------------------------------------------------------------------------------------

    def _the_crew(self) -> Crew:
        if self.crew is None:
            self.crew = Crew()
        return self.crew

    def _swarm_started(self, fact: e.SwarmStarted, at: datetime) -> None:
        self._began(at, fact.execution_id, fact.swarm or "swarm")
        self._the_crew().goal = line(fact.goal)

    def _swarm_over(self, fact: e.SwarmCompleted | e.SwarmFailed | e.SwarmCancelled, at: datetime) -> None:
        self._over(fact.type.rpartition("_")[2], at)
        if isinstance(fact, e.SwarmFailed):
            self.error = reason_of(fact.error, REASON_LIMIT)

    def _swarm_suspended(self, fact: e.SwarmSuspended, at: datetime) -> None:
        self._over("suspended", at)
        for task in fact.tasks:
            self.board.move(self._known(task), SUSPENDED)

    def _swarm_resumed(self, fact: e.SwarmResumed, at: datetime) -> None:
        self._the_crew().goal = line(fact.goal)
        self._the_crew().idle()
        self._reopen(at, fact.execution_id, self.name)

    def _decomposed(self, fact: e.GoalDecomposed | e.PlanRevised, at: datetime) -> None:
        for phase in self._the_crew().learn_tasks(fact.tasks):
            if any(self.board.find(task) < 0 for task in phase):  # else the plan has told it
                self.board.add_batch(phase)

    def _plan_revised(self, fact: e.PlanRevised, at: datetime) -> None:
        crew = self._the_crew()
        before = crew.tasks
        self._decomposed(fact, at)
        crew.assign(fact.assignments)
        for task in before - crew.tasks:  # out of the plan: it will not be done
            unit = self.board.find(task)
            if unit >= 0 and self.board.status[unit] < COMPLETED:
                self.board.move(unit, SKIPPED)

    def _team_formed(self, fact: e.TeamFormed, at: datetime) -> None:
        self._the_crew().form(fact.agents, fact.roles, fact.assignments)

    def _team_updated(self, fact: e.TeamUpdated, at: datetime) -> None:
        self._the_crew().assign(fact.assignments)

    def _norm_violated(self, fact: e.NormViolated, at: datetime) -> None:
        self._the_crew().violated(fact.agent_id, fact.norm, fact.reason)

    def _task_assigned(self, fact: e.TaskAssigned | e.TaskReassigned, at: datetime) -> None:
        self._known(fact.task_id)
        self._the_crew().assign({fact.task_id: fact.agent_id})

    def _task_started(self, fact: e.TaskStarted, at: datetime) -> None:
        crew = self._the_crew()
        unit = self._known(fact.task_id)
        crew.takes(fact.agent_id, fact.task_id, at)
        self.board.attempts[unit] = _whole(fact.attempt)
        self.board.move(unit, RUNNING)

    def _task_completed(self, fact: e.TaskCompleted, at: datetime) -> None:
        last = self._the_crew().completes(fact.task_id)
        unit = self._task_ended(fact, COMPLETED if last else RUNNING)
        self.board.credits[unit] = max(self.board.credits[unit], _whole(fact.credits))

    def _task_failed(self, fact: e.TaskFailed, at: datetime) -> None:
        unit = self._task_ended(fact, FAILED)
        self.failures += 1
        if len(self.failed) < FAILURES_KEPT or fact.task_id in self.failed:
            ms = _whole(fact.duration_ms)
            self.failed[fact.task_id] = Failure(fact.task_id, unit, fact.error, 1, ms, continued=False)

    def _task_ended(self, fact: e.TaskCompleted | e.TaskFailed, status: int) -> int:
        self._the_crew().leaves(fact.agent_id, fact.task_id)
        unit = self._known(fact.task_id)
        self.board.duration[unit] = _whole(fact.duration_ms)
        self.board.move(unit, status)
        return unit

    def _task_reassigned(self, fact: e.TaskReassigned, at: datetime) -> None:
        self._task_assigned(fact, at)
        at_work = self._the_crew().workers(fact.task_id)
        self.board.move(self._known(fact.task_id), RUNNING if at_work else WAITING)
        if self.failed.pop(fact.task_id, None) is not None:
            self.failures -= 1


def _ms(span: timedelta) -> int:
    return span.days * 86_400_000 + span.seconds * 1000 + span.microseconds // 1000


def milliseconds(since: datetime, now: datetime) -> int:
    """Whole milliseconds from one moment to another, never negative."""
    return max(0, _ms(now - since))


Fold = Callable[[ViewState, Any, datetime], None]
_FOLDS: dict[type[e.Event], Fold] = {
    e.RoutineStarted: ViewState._routine_started,
    e.RoutineCompleted: ViewState._routine_over,
    e.RoutineFailed: ViewState._routine_over,
    e.RoutineCancelled: ViewState._routine_over,
    e.RoutineSuspended: ViewState._routine_over,
    e.RoutineResumed: ViewState._routine_resumed,
    e.StepReady: ViewState._step_ready,
    e.StepCompleted: ViewState._step_completed,
    e.StepFailed: ViewState._step_failed,
    e.StepCancelled: ViewState._step_cancelled,
    e.StepSkipped: ViewState._step_skipped,
    e.StepReused: ViewState._step_reused,
    e.StepRetrying: ViewState._step_retrying,
    e.StepSuspended: ViewState._step_suspended,
    e.StepExpanded: ViewState._step_expanded,
    e.StepIterated: ViewState._step_iterated,
    e.ExecutionStarted: ViewState._execution_started,
    e.ExecutionCompleted: ViewState._execution_over,
    e.ExecutionFailed: ViewState._execution_over,
    e.ExecutionCancelled: ViewState._execution_over,
    e.ToolCalled: ViewState._tool_called,
    e.ToolReturned: ViewState._tool_returned,
    e.AIRequested: ViewState._ai_requested,
    e.AIDelta: ViewState._ai_delta,
    e.AIResponded: ViewState._ai_responded,
    e.AIThrottled: ViewState._ai_throttled,
    e.AIFallback: ViewState._ai_fallback,
    e.LedgerReserved: ViewState._reserved,
    e.LedgerSettled: ViewState._settled,
    e.ResourcesWarning: ViewState._limit,
    e.ResourcesExhausted: ViewState._limit,
    e.ApprovalRequested: ViewState._approval_requested,
    e.ApprovalGranted: ViewState._approval_answered,
    e.ApprovalDenied: ViewState._approval_answered,
    e.SwarmStarted: ViewState._swarm_started,
    e.SwarmCompleted: ViewState._swarm_over,
    e.SwarmFailed: ViewState._swarm_over,
    e.SwarmCancelled: ViewState._swarm_over,
    e.SwarmSuspended: ViewState._swarm_suspended,
    e.SwarmResumed: ViewState._swarm_resumed,
    e.GoalDecomposed: ViewState._decomposed,
    e.PlanRevised: ViewState._plan_revised,
    e.TeamFormed: ViewState._team_formed,
    e.TeamUpdated: ViewState._team_updated,
    e.NormViolated: ViewState._norm_violated,
    e.TaskAssigned: ViewState._task_assigned,
    e.TaskStarted: ViewState._task_started,
    e.TaskCompleted: ViewState._task_completed,
    e.TaskFailed: ViewState._task_failed,
    e.TaskReassigned: ViewState._task_reassigned,
}
