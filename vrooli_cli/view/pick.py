"""State → picture: which rows are worth the room there is.

When every step has room, every step has a row. Else what runs and what failed comes first, then what waits for a retry
or for a person, then what comes next and what has just ended; the rest is counted. The work is O(rows of the screen).
"""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import NamedTuple

from vrooli_cli.view.board import COMPLETED, FAILED, RUNNING, SKIPPED, SUSPENDED
from vrooli_cli.view.crew import Crew
from vrooli_cli.view.screen import Bar, More, Place, Row, Screen, Speech, TeamPart
from vrooli_cli.view.state import Failure, Node, ViewState, milliseconds
from vrooli_cli.view.text import duration, line, place
from vrooli_cli.view.told import Told, told_of

_SPEECHES = 2


class Heights(NamedTuple):
    """How the rows of the terminal are shared out."""

    body: int
    tail: int
    speech: int


def heights(rows: int, *, speaking: bool, notice: bool) -> Heights:
    """The room of each part of a picture of ``rows`` rows; the body gets what the others leave."""
    if rows < 12:
        return Heights(max(0, rows - (2 if rows > 3 else 1)), 0, 0)
    tail = min(max(rows // 6, 3), 8)
    speech = min(max(rows // 4, 3), 10) if speaking else 0
    taken = 3 + notice + (tail + 1) + (speech + 1 if speech else 0)
    return Heights(rows - taken, tail, speech)


def picture(state: ViewState, width: int, height: int, now: datetime) -> Screen:
    """What is visible of a run at a moment, for a terminal of that size; the last row is left free."""
    room = heights(max(1, height - 1), speaking=bool(state.streams), notice=bool(state.notice))
    board, body = state.board, room.body
    team = None
    if state.crew is not None and body > 4:
        team = _team(state, state.crew, body, width, now)
        body -= team.rows + 2 + (1 if team.violations else 0)
    rows = Chooser(state, now).rows(body)
    spare = max(0, body - len(rows))
    return Screen(
        width=width,
        height=height,
        name=state.name,
        run_id=state.run_id,
        status=state.status,
        elapsed_ms=state.elapsed_ms(now),
        noun="task" if state.crew is not None else "step",
        done=board.done,
        total=board.total,
        counts=tuple(board.counts),
        batch=board.current() + 1 if board.batches else 0,
        batches=board.batches,
        credits=state.credits,
        reserved=max(0, state.reserved),
        credit_limit=state.credit_limit,
        tokens_in=state.tokens_in,
        tokens_out=state.tokens_out,
        notice=state.notice,
        team=team,
        rows=rows,
        tail=_last(state, room.tail),
        speeches=_speeches(state, room.speech + min(spare, 6) if room.speech else 0),
    )


def _last(state: ViewState, wanted: int) -> tuple[Told, ...]:
    tail = state.tail
    return tuple(told_of(tail[index]) for index in range(max(0, len(tail) - wanted), len(tail)))


def _speeches(state: ViewState, rows: int) -> tuple[Speech, ...]:
    """The models that spoke last; each has a line with its name and some of its text."""
    many = min(len(state.streams), _SPEECHES, rows // 3)
    if many < 1:
        return ()
    latest = list(islice(reversed(state.streams.values()), many))
    return tuple(
        Speech(stream.name, stream.model, stream.said, "".join(stream.chunks), rows // many - 1)
        for stream in reversed(latest)
    )


class Chooser:
    """Chooses rows for one picture."""

    def __init__(self, state: ViewState, now: datetime) -> None:
        self.state = state
        self.board = state.board
        self.now = now
        self.left = 0
        self.brief = False
        self.units: dict[int, Row] = {}
        self.children: dict[int, list[Row]] = {}

    def rows(self, room: int) -> tuple[Row | Bar | More, ...]:
        """At most ``room`` rows, in the order of the batches."""
        if room <= 0:
            return ()
        board = self.board
        if board.total <= room and not board.unseen:
            self.left = room
            for unit in range(len(board.names)):
                self._unit(unit)
            self._children()
            return self._in_order(bars=0)
        self.brief = self.state.crew is not None  # the team's lines say what is done inside of the tasks
        bars = min(3, room // 6) if board.batches > 1 or room > 3 else 0
        self.left = room - 1 - bars
        self._what_matters()
        ordered = self._in_order(bars)
        unused = bars - sum(isinstance(row, Bar) for row in ordered)
        if unused:
            self.left += unused
            self._what_matters()
            ordered = self._in_order(bars - unused)
        return (*ordered, self._more())

    def _what_matters(self) -> None:
        """Running and failed first, then parked, then what comes next and what has just ended."""
        state, board, room = self.state, self.board, self.left
        self._failures(max(1, room // 3))
        self._nodes(state.running, room)
        self._failures(room)
        self._nodes(state.parked, room)
        batch = board.current() if board.batches else 0
        upcoming = board.next_waiting(batch, room) if board.batches else []
        for unit in upcoming[: (self.left + 1) // 2]:
            self._unit(unit)
        for unit in islice(reversed(board.recent), room):
            self._unit(unit)
        for unit in upcoming:
            self._unit(unit)

    def _children(self) -> None:
        state, room = self.state, self.left
        self._nodes(state.running, room)
        self._nodes(state.parked, room)
        self._failures(room)

    def _nodes(self, nodes: dict[str, Node], room: int) -> None:
        for node in islice(nodes.values(), room * 2 + 8):
            if self.left <= 0:
                return
            if node.unit >= 0 and (self.brief or self._name(node.unit) == node.address):
                self._unit(node.unit)
            else:
                self._child(node.unit, self._node_row(node))

    def _failures(self, room: int) -> None:
        stop = self.left - room
        for failure in self.state.failed.values():
            if self.left <= max(0, stop):
                return
            unit = failure.unit
            if unit >= 0 and (self._name(unit) == failure.address or self.board.status[unit] == FAILED):
                self._unit(unit)  # a failed unit passes on what failed inside of it
            else:
                self._child(unit, self._failure_row(failure))

    def _name(self, unit: int) -> str:
        return self.board.names[unit]

    def _unit(self, unit: int) -> bool:
        if unit in self.units:
            return True
        if self.left <= 0:
            return False
        self.left -= 1
        self.units[unit] = self._unit_row(unit)
        return True

    def _child(self, unit: int, row: Row) -> None:
        inside = self.children.setdefault(unit, [])
        if any(row.name == known.name for known in inside) or (unit >= 0 and not self._unit(unit)) or self.left <= 0:
            return
        self.left -= 1
        inside.append(row)

    # -- one row ------------------------------------------------------------------------------------------------------

    def _unit_row(self, unit: int) -> Row:
        state, board = self.state, self.board
        name, status = board.names[unit], board.status[unit]
        node = state.running.get(name) or state.parked.get(name) or state.groups.get(name)
        row = self._live_row(node, name) if node is not None else self._still_row(unit, name)
        row.status, row.name, row.depth = status, line(name, 120), 0
        row.credits = board.credits[unit]
        row.attempt = max(row.attempt, board.attempts[unit])
        row.note = row.note or self._why(unit, name, status)
        if status in (COMPLETED, FAILED):
            row.ms = board.duration[unit]
        row.live = row.live and status == RUNNING
        return row

    def _why(self, unit: int, name: str, status: int) -> str:
        if status == FAILED and (failure := self.state.failed.get(name)) is not None:
            return _reason(failure)
        return self.state.notes.get(unit, "") if status in (SKIPPED, COMPLETED) else ""

    def _still_row(self, unit: int, name: str) -> Row:
        crew = self.state.crew
        if crew is not None:
            return self._task_row(crew, name)
        planned = self.state.planned(name)
        if planned is None:
            return Row(status=0, name="")
        composite = bool(planned.loop) or planned.kind in ("parallel", "routine")
        label = planned.loop or (planned.label if planned.kind != "parallel" else "parallel")
        return Row(
            status=0,
            name="",
            strategy="" if composite else line(planned.strategy, 20),
            label=line(label or planned.kind, 60),
        )

    def _task_row(self, crew: Crew, name: str) -> Row:
        agent = crew.members.get(crew.agent_of.get(name, ""))
        if agent is None:
            return Row(status=0, name="")
        workers = crew.workers(name)
        if not workers:
            return Row(status=0, name="", label=agent.name)
        ms = milliseconds(min(worker.tasks[name] for worker in workers), self.now)
        label = ", ".join(worker.name for worker in workers[:3])
        return Row(status=0, name="", label=label, ms=ms, live=True, note=crew.progress(name))

    def _live_row(self, node: Node, name: str) -> Row:
        row = self._node_row(node)
        if self.state.crew is not None:
            row.label = self._task_row(self.state.crew, name).label
        return row

    def _node_row(self, node: Node) -> Row:
        planned = self.state.planned(node.address)
        label = node.label
        if node.composite and planned is not None and not node.address.endswith("]"):
            label = planned.loop or label or planned.kind
        return Row(
            status=node.status,
            name=self._relative(node.address, node.unit),
            depth=0 if node.unit < 0 else 1,
            strategy="" if node.composite else node.strategy,
            label=label,
            attempt=node.attempt,
            turn=node.turn,
            ms=milliseconds(node.since, self.now) if node.status == RUNNING else -1,
            live=node.status == RUNNING,
            credits=node.credits,
            note=self._note(node),
            composite=node.composite,
            done=node.done,
            failed=node.failed,
            total=max(node.total, node.done + node.failed) if node.total else 0,
        )

    def _note(self, node: Node) -> str:
        if node.status == SUSPENDED:
            return f"waits: {node.note}" if node.note else "waits for an answer"
        if node.until is None or node.until <= self.now:
            return node.note
        again = f"again in {duration(milliseconds(self.now, node.until) + 999, whole=True)}"
        return " · ".join(part for part in (again, node.note) if part)

    def _failure_row(self, failure: Failure) -> Row:
        return Row(
            status=FAILED,
            name=self._relative(failure.address, failure.unit),
            depth=0 if failure.unit < 0 else 1,
            attempt=failure.attempts,
            ms=failure.ms,
            note=_reason(failure),
        )

    def _relative(self, address: str, unit: int) -> str:
        if unit < 0:
            return place(address, 120)
        if address.startswith("task:"):
            return place(address.partition("/")[2], 120)
        return place(address[len(self._name(unit)) :].removeprefix("/"), 120)

    # -- putting together ---------------------------------------------------------------------------------------------

    def _in_order(self, bars: int) -> tuple[Row | Bar, ...]:
        board = self.board
        shown = sorted(self.units)
        many: dict[int, int] = {}
        for unit in shown:
            many[board.batch[unit]] = many.get(board.batch[unit], 0) + 1
        out: list[Row | Bar] = []
        last = -1
        for unit in shown:
            batch = board.batch[unit]
            number = batch + 1 if batch != last and board.batches > 1 else 0
            if batch != last and bars and many[batch] < len(board.span(batch)):
                bars -= 1
                out.append(Bar(batch + 1, len(board.span(batch)), tuple(board.tally(batch))))
                number = 0
            last = batch
            self.units[unit].batch = number
            out.append(self.units[unit])
            out.extend(self.children.get(unit, ()))
        out.extend(self.children.get(-1, ()))
        return tuple(out)

    def _more(self) -> More:
        counts = list(self.board.counts)
        for row in self.units.values():
            counts[row.status] -= 1
        return More(tuple(counts))


def _reason(failure: Failure) -> str:
    return ": ".join(part for part in (failure.code, failure.message) if part)


def _team(state: ViewState, crew: Crew, body: int, width: int, now: datetime) -> TeamPart:
    """Busy members first; two or three side by side where they would not have room below each other."""
    rows = max(1, min(len(crew.members), (body - 2) // 2))
    columns = max(1, min(-(-len(crew.members) // rows), width // 38))
    wanted = rows * columns
    inside = _busy_inside(state) if width // columns >= 50 else {}
    members = list(islice(crew.busy.values(), wanted))
    busy = len(members)
    if busy < wanted:
        members += list(islice((m for m in crew.members.values() if not m.tasks), wanted - busy))
    places = tuple(
        Place(
            member.name,
            member.roles,
            len(member.tasks),
            member.limit,
            ", ".join(_doing(state, inside, task, since, now) for task, since in islice(member.tasks.items(), 3)),
            member.violations,
        )
        for member in members
    )
    rows = -(-len(places) // columns)
    others = (len(crew.busy) - busy, len(crew.members) - len(crew.busy) - (len(members) - busy))
    return TeamPart(crew.goal, places, rows, others, crew.violations, crew.last_violation)


def _busy_inside(state: ViewState) -> dict[int, Node]:
    """Task → the step of it that works, among the first few at work."""
    inside: dict[int, Node] = {}
    for node in islice(state.running.values(), 128):
        if not node.composite:
            inside.setdefault(node.unit, node)
    return inside


def _doing(state: ViewState, inside: dict[int, Node], task: str, since: datetime, now: datetime) -> str:
    node = inside.get(state.board.find(task))
    what = f" {node.note or node.label}" if node is not None and (node.note or node.label) else ""
    return f"{line(task, 40)} {duration(milliseconds(since, now), whole=True)}{what}"
