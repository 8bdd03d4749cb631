"""One picture of a run: plain values of what is visible, which any thread may draw."""

from __future__ import annotations

from vrooli_cli.model.values import lean
from vrooli_cli.view.told import Told


@lean(kw_only=True, frozen=False)
class Row:
    """A step or task, or something at work inside of one (``depth`` 1); changed only while a picture is made.

    Attributes:
        batch: Shown at the left, from 1; 0 leaves the place empty.
        ms: How long it took, or has worked so far (``live``); -1 when there is nothing to say.
        composite: Has children: ``done``, ``failed`` and ``total`` count them (``total`` 0: nobody knows how many).
        note: Why it failed, was skipped or waits; what it is busy with.
    """

    status: int
    name: str
    depth: int = 0
    batch: int = 0
    strategy: str = ""
    label: str = ""
    attempt: int = 0
    turn: int = 0
    ms: int = -1
    live: bool = False
    credits: int = 0
    note: str = ""
    composite: bool = False
    done: int = 0
    failed: int = 0
    total: int = 0


@lean()
class Bar:
    """A batch of which not every step has a row; ``tally`` counts its steps by state."""

    batch: int
    size: int
    tally: tuple[int, ...]


@lean()
class More:
    """What has no row, counted by state."""

    counts: tuple[int, ...]


@lean()
class Speech:
    """The end of what a model says; ``said`` counts characters so far."""

    name: str
    model: str
    said: int
    text: str
    rows: int


@lean()
class Place:
    """A member of the team: ``load`` of ``limit`` places taken, and by what."""

    name: str
    roles: str
    load: int
    limit: int
    doing: str
    violations: int


@lean()
class TeamPart:
    """The swarm's half of the picture.

    Attributes:
        places: Members with a line of their own, busy ones first.
        rows: Lines that they may take.
        others: Members without a line: (busy, idle).
    """

    goal: str
    places: tuple[Place, ...]
    rows: int
    others: tuple[int, int]
    violations: int
    last_violation: str


@lean(kw_only=True)
class Screen:
    """Everything that is drawn, and the room there is.

    Attributes:
        counts: Units by state (``view.board``).
        batch: The first batch that has not ended, from 1.
        credit_limit: None when there is no limit, or nobody said.
    """

    width: int
    height: int
    name: str
    run_id: str
    status: str
    elapsed_ms: int
    noun: str
    done: int
    total: int
    counts: tuple[int, ...]
    batch: int
    batches: int
    credits: int
    reserved: int
    credit_limit: int | None
    tokens_in: int
    tokens_out: int
    notice: str = ""
    team: TeamPart | None = None
    rows: tuple[Row | Bar | More, ...] = ()
    tail: tuple[Told, ...] = ()
    speeches: tuple[Speech, ...] = ()
