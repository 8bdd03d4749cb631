"""Who waits for whom because of a variable (spec routine.md, "Order").

All that write one variable must follow one another, and a reader waits for those that do not wait for it. What lies
below a step is asked of one pass over the graph from its ends, in which every writer is a bit; an edge is added only
where a path does not say the same already, so a counter may go through as many steps as you like.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from vrooli_cli.model.routine import Group, Step


class Unordered(NamedTuple):
    """Two steps that write the same, in file order, and neither waits for the other."""

    what: str
    one: str
    other: str


class Setters:
    """The writers of each variable of one graph.

    Args:
        steps: By id.
        edges: Step → those that it waits for, as far as the file says so.
        order: The ids, in a topological order.
        writers: Variable → the steps that write it, in file order.
        readers: Variable → the steps that read it.

    Attributes:
        unordered: What is wrong, at most one pair for each variable.
    """

    def __init__(
        self,
        steps: Mapping[str, Step],
        edges: Mapping[str, Collection[str]],
        order: Sequence[str],
        writers: Mapping[str, Sequence[str]],
        readers: Mapping[str, Collection[str]],
    ) -> None:
        self._steps = steps
        self._edges = edges
        self._writers = writers
        self._readers = readers
        place = {name: at for at, name in enumerate(order)}
        self._sorted = {what: sorted(names, key=place.__getitem__) for what, names in writers.items()}
        wanted = {one for names in self._sorted.values() for one in names[:-1]}
        wanted.update(reader for what in self._sorted for reader in readers.get(what, ()))
        self._bits = {
            name: bit for bit, name in enumerate({one: None for some in self._sorted.values() for one in some})
        }
        self._below = self._look(order, wanted)
        self.unordered = tuple(self._unordered())

    def _look(self, order: Sequence[str], wanted: set[str]) -> dict[str, int]:
        """For those of ``wanted``: the writers below it; what is behind the pass is forgotten."""
        below: dict[str, int] = dict.fromkeys(order, 0)
        kept: dict[str, int] = {}
        for name in reversed(order):
            here = below.pop(name)
            if name in wanted:
                kept[name] = here
            if name in self._bits:
                here |= 1 << self._bits[name]
            if here:
                for need in self._edges[name]:
                    below[need] |= here
        return kept

    def _is_below(self, name: str, writer: str) -> bool:
        return bool(self._below[name] >> self._bits[writer] & 1)

    def _unordered(self) -> Iterator[Unordered]:
        for what, names in self._sorted.items():
            for one, other in pairwise(names):
                if not self._is_below(one, other):
                    first, second = sorted((one, other), key=self._writers[what].index)
                    yield Unordered(what, first, second)
                    break

    def edges(self) -> Iterator[tuple[str, str]]:
        """(writer, reader) for every reader: what it must wait for besides."""
        wrong = {found.what for found in self.unordered}
        for what, names in self._sorted.items():
            if what in wrong:
                continue
            at: dict[int, list[str]] = {}
            for reader in sorted(self._readers.get(what, ())):
                at.setdefault(self._above(names, reader), []).append(reader)
            kept: list[str] = []
            for many, writer in enumerate(names, 1):
                kept = [*self._not_seen_through(what, writer, kept), writer]
                for reader in at.get(many, ()):
                    yield from ((one, reader) for one in self._for(reader, kept, names[:many]))

    def _above(self, names: Sequence[str], reader: str) -> int:
        """How many of the writers come before the reader: those below it are the last ones."""
        many = bisect_left(names, True, key=lambda one: self._is_below(reader, one))
        return many - 1 if many and names[many - 1] == reader else many

    def _for(self, reader: str, kept: Sequence[str], every: Sequence[str]) -> Sequence[str]:
        return kept if self._steps[reader].trigger_rule == "none_failed" else every

    def _not_seen_through(self, what: str, writer: str, before: list[str]) -> list[str]:
        """Those of the writers before this one whose end may mean something for a reader that waits for this one.

        One that always runs, unless something above it failed or all of it was skipped, hands on what became of the
        steps that it waits for itself: a reader that runs when nothing has failed need not ask those.
        """
        step = self._steps[writer]
        if step.has_when or step.trigger_rule != "none_failed" or step.for_each or isinstance(step.action, Group):
            return before
        if writer in self._readers.get(what, ()):
            return []
        return [one for one in before if one not in self._edges[writer]]
