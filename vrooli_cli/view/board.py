"""Where every step (of a routine) or task (of a swarm) is: a few small integers each, and sums that are always right.

Every change of state goes through :meth:`Board.move`, which keeps the sums; nothing is ever counted by looking at all.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable

WAITING, READY, RUNNING, RETRYING, SUSPENDED, COMPLETED, FAILED, SKIPPED, CANCELLED = range(9)
STATES = 9
_LOOK_AHEAD = 256


def ended(status: int) -> bool:
    """True for a state that is an end."""
    return status >= COMPLETED


class Board:
    """The units of a run in the order of their batches.

    Attributes:
        names: Their ids.
        batch: The batch of each, from 0.
        status: The state of each.
        counts: Units by state; ``sum(counts) == total``.
        recent: Positions of the units that ended last, newest last.
        unseen: Units that are known to exist by number only (a run without a plan).
    """

    __slots__ = (
        "_at",
        "_current",
        "_cursor",
        "_starts",
        "_tally",
        "attempts",
        "batch",
        "counts",
        "credits",
        "duration",
        "names",
        "recent",
        "status",
        "unseen",
    )

    def __init__(self) -> None:
        self.names: list[str] = []
        self._at: dict[str, int] = {}
        self.batch = array("l")
        self.status = bytearray()
        self.attempts = array("l")
        self.duration = array("q")
        self.credits = array("q")
        self.counts = [0] * STATES
        self.recent: deque[int] = deque(maxlen=64)
        self.unseen = 0
        self._tally: list[int] = []
        self._starts: list[int] = []
        self._cursor: list[int] = []
        self._current = 0

    @property
    def total(self) -> int:
        """How many there are, seen or not."""
        return len(self.names) + self.unseen

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return len(self._starts)

    @property
    def done(self) -> int:
        """How many have ended, whatever the verdict."""
        counts = self.counts
        return counts[COMPLETED] + counts[FAILED] + counts[SKIPPED] + counts[CANCELLED]

    def find(self, name: str) -> int:
        """The position of a unit, -1 when there is none of that name."""
        return self._at.get(name, -1)

    def add_batch(self, names: Iterable[str]) -> None:
        """A further batch of waiting units; names that are known already are left where they are."""
        fresh = [name for name in dict.fromkeys(names) if name not in self._at]
        batch, first = len(self._starts), len(self.names)
        self._starts.append(first)
        self._cursor.append(first)
        self._tally.extend([0] * STATES)
        self._append(fresh, batch)

    def add(self, name: str) -> int:
        """A unit that nobody had announced, in the last batch; its position."""
        if not self._starts:
            self.add_batch(())
        self._append([name], len(self._starts) - 1)
        return len(self.names) - 1

    def _append(self, names: list[str], batch: int) -> None:
        first, many = len(self.names), len(names)
        self.names.extend(names)
        self._at.update(zip(names, range(first, first + many), strict=True))
        self.batch.extend([batch] * many)
        self.status.extend(bytes(many))
        for column in (self.attempts, self.duration, self.credits):
            column.extend([0] * many)
        known = min(self.unseen, many)
        self.unseen -= known
        self.counts[WAITING] += many - known
        self._tally[batch * STATES + WAITING] += many

    def expect(self, total: int) -> None:
        """There are ``total`` units, named or not yet."""
        more = max(0, total - len(self.names)) - self.unseen
        self.unseen += more
        self.counts[WAITING] += more

    def move(self, unit: int, status: int) -> None:
        """Gives a unit another state."""
        old = self.status[unit]
        if old == status:
            return
        self.status[unit] = status
        self.counts[old] -= 1
        self.counts[status] += 1
        row = self.batch[unit] * STATES
        self._tally[row + old] -= 1
        self._tally[row + status] += 1
        if status >= COMPLETED:
            self.recent.append(unit)

    def reopen(self) -> None:
        """What had not completed waits again (a resumed run). The only look at every unit, once a resume."""
        for unit, status in enumerate(self.status):
            if status not in (WAITING, COMPLETED):
                self.move(unit, WAITING)
        self._cursor = list(self._starts)
        self._current = 0
        self.recent.clear()

    def tally(self, batch: int) -> list[int]:
        """Units of a batch by state."""
        return self._tally[batch * STATES : batch * STATES + STATES]

    def span(self, batch: int) -> range:
        """The positions of a batch's units."""
        last = batch + 1 >= len(self._starts)
        return range(self._starts[batch], len(self.names) if last else self._starts[batch + 1])

    def current(self) -> int:
        """The first batch that has not ended; the last one when all have."""
        while self._current + 1 < len(self._starts) and self._over(self._current):
            self._current += 1
        return self._current

    def _over(self, batch: int) -> bool:
        return sum(self.tally(batch)[COMPLETED:]) == len(self.span(batch))

    def next_waiting(self, batch: int, wanted: int) -> list[int]:
        """The next few units of a batch that have not started; looks at a bounded number of them."""
        span = self.span(batch)
        cursor = max(self._cursor[batch], span.start)
        while cursor < span.stop and self.status[cursor] > READY:
            cursor += 1
        self._cursor[batch] = cursor
        found: list[int] = []
        for unit in range(cursor, min(span.stop, cursor + _LOOK_AHEAD)):
            if len(found) >= wanted:
                break
            if self.status[unit] <= READY:
                found.append(unit)
        return found
