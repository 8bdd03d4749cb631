"""Where the nodes of a layered graph go: Sugiyama's method in its simplest form, columns from left to right.

Layers are the topological batches. An edge over more than one column gets a bend in each column between, so that it
runs between nodes, not through them; the order in a column is the barycentre of its neighbours, swept both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 6
MOST_BENDS = 4000
BEND_ROWS = 0.3


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing in units: columns and rows.

    Attributes:
        places: Node → (column, row); rows may be halves.
        ways: (from, to) → the places that the edge runs through, both ends included.
        columns: How many.
        rows: How high the highest column is.
    """

    places: Mapping[str, tuple[int, float]]
    ways: Mapping[tuple[str, str], tuple[tuple[int, float], ...]]
    columns: int
    rows: float


def lay_out(layers: Sequence[Sequence[str]], edges: Sequence[tuple[str, str]]) -> Layout:
    """Places for every node of the layers; edges that name others, or run backwards, are left out."""
    column = {name: index for index, layer in enumerate(layers) for name in layer}
    edges = [(a, b) for a, b in edges if a in column and b in column and column[a] < column[b]]
    order: list[list[str]] = [list(layer) for layer in layers]
    chains = _with_bends(order, edges, column)
    up: dict[str, list[str]] = {}
    down: dict[str, list[str]] = {}
    for chain in chains.values():
        for a, b in pairwise(chain):
            down.setdefault(a, []).append(b)
            up.setdefault(b, []).append(a)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        neighbours = up if forward else down
        indices = range(1, len(order)) if forward else range(len(order) - 2, -1, -1)
        for index in indices:
            _sort(order, index, index - 1 if forward else index + 1, neighbours)
    heights = [sum(map(_height, layer)) for layer in order]
    rows = max(heights, default=0.0)
    places: dict[str, tuple[int, float]] = {}
    for index, layer in enumerate(order):
        at = (rows - heights[index]) / 2
        for name in layer:
            places[name] = index, at + (_height(name) - 1) / 2
            at += _height(name)
    ways = {edge: tuple(places[name] for name in chain) for edge, chain in chains.items()}
    known = {name: places[name] for name in column}
    return Layout(known, ways, len(order), rows)


def _height(name: str) -> float:
    """A line needs less room than a box."""
    return BEND_ROWS if name.startswith("\0") else 1.0


def _with_bends(
    order: list[list[str]], edges: Sequence[tuple[str, str]], column: Mapping[str, int]
) -> dict[tuple[str, str], list[str]]:
    """Every edge as a chain of neighbours; bends are put into the layers between."""
    chains: dict[tuple[str, str], list[str]] = {}
    bends = 0
    for a, b in edges:
        between = range(column[a] + 1, column[b])
        chain = [a]
        if bends + len(between) <= MOST_BENDS:
            bends += len(between)
            for index in between:
                bend = f"\0{a}\0{b}\0{index}"
                order[index].append(bend)
                chain.append(bend)
        chains[a, b] = [*chain, b]
    return chains


def _sort(order: list[list[str]], index: int, beside: int, neighbours: Mapping[str, list[str]]) -> None:
    position = {name: row for row, name in enumerate(order[beside])}
    middle = (len(order[beside]) - 1) / 2

    def weight(entry: tuple[int, str]) -> float:
        rows = [position[name] for name in neighbours.get(entry[1], ()) if name in position]
        return sum(rows) / len(rows) if rows else entry[0] * middle / max(1, (len(order[index]) - 1) / 2 or 1)

    order[index] = [name for _, name in sorted(enumerate(order[index]), key=weight)]
