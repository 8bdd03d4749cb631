"""The graphs that everybody runs: name and parents of each step, parents first. Uses nothing but the standard library,
because the scripts of the peers import it in their own environments.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable

Graph = list[tuple[str, tuple[str, ...]]]


def chain(count: int) -> Graph:
    """Each step waits for the one before."""
    return [(f"s{i}", (f"s{i - 1}",) if i else ()) for i in range(count)]


def fan(count: int) -> Graph:
    """One step, then all the others at once, then one that waits for all of them."""
    middle: Graph = [(f"s{i}", ("first",)) for i in range(count - 2)]
    return [("first", ()), *middle, ("last", tuple(name for name, _ in middle))]


def layered(count: int) -> Graph:
    """Ten layers; each step waits for three random ones of the layer above."""
    chance, width = random.Random(8), count // 10
    graph: Graph = []
    for layer in range(10):
        for place in range(width):
            above = sorted({chance.randrange(width) for _ in range(3)}) if layer else []
            graph.append((f"s{layer}_{place}", tuple(f"s{layer - 1}_{one}" for one in above)))
    return graph


SHAPES: dict[str, Callable[[int], Graph]] = {"chain": chain, "fan": fan, "layered": layered}


def asked() -> tuple[str, int, str]:
    """The command line of every script: a workload, a number of steps, an empty folder to work in."""
    return sys.argv[1], int(sys.argv[2]), sys.argv[3]


def tell(seconds: float, **more: float) -> None:
    """What a script measured, for ``bench.py``: the run alone, without loading and start-up.

    ``processor``: seconds of processor time of the run, of what runs in this very process; a busy machine changes
    them less.
    """
    print(json.dumps({"run": seconds, **more}), flush=True)


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._processor = time.process_time()

    def __call__(self) -> float:
        return time.perf_counter() - self._start

    def processor(self) -> float:
        """Of processor time of this process."""
        return time.process_time() - self._processor
