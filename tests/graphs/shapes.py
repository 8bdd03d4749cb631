"""Shapes of workflow graphs, and the truth about them that needs no engine: descendants, critical path, work."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Parents = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Graph:
    """Steps in the order of the file, each with those it waits for.

    Attributes:
        seconds: How long a step takes; nothing is no time.
        failing: The steps that fail when they run.
    """

    parents: Parents
    seconds: Mapping[str, float] = field(default_factory=dict)
    failing: frozenset[str] = frozenset()

    def descendants(self, roots: Iterable[str]) -> set[str]:
        """Everybody who waits for one of ``roots``, however far; ``roots`` themselves only where they do."""
        children: dict[str, list[str]] = {}
        for name, parents in self.parents.items():
            for parent in parents:
                children.setdefault(parent, []).append(name)
        found: set[str] = set()
        left = list(roots)
        while left:
            for child in children.get(left.pop(), ()):
                if child not in found:
                    found.add(child)
                    left.append(child)
        return found

    def critical_path(self) -> float:
        """Seconds of the longest path; ``parents`` must be in topological order."""
        ends: dict[str, float] = {}
        for name, parents in self.parents.items():
            ends[name] = self.seconds.get(name, 0) + max((ends[parent] for parent in parents), default=0)
        return max(ends.values())

    def graham(self, slots: int) -> float:
        """No list scheduling on so many slots takes longer (Graham 1969): W / m + (1 - 1 / m) CP."""
        return sum(self.seconds.values()) / slots + (1 - 1 / slots) * self.critical_path()

    def shuffled(self, seed: int) -> Graph:
        """The same graph in a file of another order."""
        names = list(self.parents)
        random.Random(seed).shuffle(names)
        return Graph({name: self.parents[name] for name in names}, self.seconds, self.failing)

    def write(self, folder: Path) -> Path:
        """A routine file of probe steps."""
        steps = []
        for name, parents in self.parents.items():
            given = {"seconds": self.seconds.get(name, 0), "fails": name in self.failing}
            step = {"id": name, "tool": "probe", "parameters": given}
            steps.append(json.dumps({**step, "depends_on": list(parents)} if parents else step))
        file = folder / "graph.yaml"
        file.write_text("steps:\n" + "".join(f"  - {step}\n" for step in steps))
        return file


def chain(length: int) -> Graph:
    """One after the other."""
    return Graph({f"s{i}": (f"s{i - 1}",) if i else () for i in range(length)})


def fan(width: int) -> Graph:
    """One, then many, then one that waits for them all."""
    middle = {f"m{i}": ("first",) for i in range(width)}
    return Graph({"first": (), **middle, "last": tuple(middle)})


def layered(layers: int, width: int, waits: int, seed: int, prefix: str = "") -> Graph:
    """Layers, each step with some parents at random in the one before."""
    chance = random.Random(seed)
    parents: dict[str, tuple[str, ...]] = {}
    before: list[str] = []
    for layer in range(layers):
        here = [f"{prefix}l{layer}_{i}" for i in range(width)]
        parents |= {name: tuple(chance.sample(before, min(waits, len(before)))) for name in here}
        before = here
    return Graph(parents)


def tangled(size: int, seed: int) -> Graph:
    """Any number of parents anywhere before."""
    chance = random.Random(seed)
    names = [f"t{i}" for i in range(size)]
    return Graph({name: tuple(chance.sample(names[:i], min(i, chance.randrange(5)))) for i, name in enumerate(names)})


def pipeline() -> Graph:
    """What a build really looks like."""
    return Graph(
        {
            "checkout": (),
            "install": ("checkout",),
            "lint": ("install",),
            "unit-tests": ("install",),
            "build": ("install",),
            "package": ("build", "unit-tests"),
            "deploy": ("package", "lint"),
        }
    )


def timed(graph: Graph, low: float, high: float, seed: int) -> Graph:
    """The same graph with steps that take their time."""
    chance = random.Random(seed)
    return Graph(graph.parents, {name: chance.uniform(low, high) for name in graph.parents}, graph.failing)


def broken(graph: Graph, share: float, seed: int) -> Graph:
    """The same graph where some steps fail."""
    chance = random.Random(seed)
    failing = frozenset(name for name in graph.parents if chance.random() < share)
    return Graph(graph.parents, graph.seconds, failing)
