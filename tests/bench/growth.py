"""How cost grows with the size of a graph: what people call, as processes, on graphs of 100 to 100,000 steps.

    python tests/bench/growth.py [--shape chain] [--sizes 100 1000 10000 100000]

Every graph ends with a step that fails until a file is there, so that each run fails once, is resumed and completes.
Said are processor seconds and peak memory, medians of three up to 10,000 steps, and the exponent with which cost grows
from the last size but one to the last, beside that of the smallest, which is start-up. 1.0 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from shapes import SHAPES


class Cost(NamedTuple):
    """One process, from start to end."""

    seconds: float
    megabytes: float


def routine(shape: str, count: int) -> str:
    """A graph of that many steps; the last one looks for the file ``go``."""
    lines = ["name: growth", "steps:"]
    name = ""
    for name, parents in SHAPES[shape](count - 1):
        lines += [f"  - id: {name}", "    tool: echo", "    parameters: { message: 1 }"]
        if parents:
            lines.append(f"    depends_on: [{', '.join(parents)}]")
    command = "{ command: [test, -f, go] }"
    lines += ["  - id: gate", f"    depends_on: [{name}]", "    tool: shell", "    effects: none"]
    return "\n".join([*lines, f"    parameters: {command}"]) + "\n"


class Folder:
    """Where the commands of one size run, with a journal of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environ = {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder)}
        self._environ.pop("PYTHONDONTWRITEBYTECODE", None)

    def call(self, *words: str, code: int = 0) -> Cost:
        """One command, and what it costs; it must end with that exit code."""
        command = [sys.executable, "-m", "vrooli_cli", *words]
        null = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=self.folder, env=self._environ, stdout=null, stderr=null)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == code, (words, process.returncode)
        return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)

    def last(self) -> str:
        """The id of the newest run."""
        command = [sys.executable, "-m", "vrooli_cli", "runs", "list", "-o", "json"]
        said = subprocess.run(command, cwd=self.folder, env=self._environ, check=True, capture_output=True)
        return str(json.loads(said.stdout)[0]["id"])

    def log(self) -> Cost:
        """Megabytes of the journal, for comparison in the same table."""
        size = sum(file.stat().st_size for file in self.folder.rglob("*.db*") if file.is_file())
        return Cost(math.nan, size / (1 << 20))


def costs(folder: Folder) -> Iterator[tuple[str, Cost]]:
    """Every command on the graph that lies in the folder."""
    yield "validate", folder.call("validate", "growth.yaml")
    yield "plan", folder.call("plan", "growth.yaml")
    yield "run, the first time", folder.call("run", "growth.yaml", "-q", code=1)
    yield "journal", folder.log()
    yield "run, unchanged", folder.call("run", "growth.yaml", "-q", code=1)
    run = folder.last()
    yield "runs show", folder.call("runs", "show", run)
    (folder.folder / "go").touch()
    yield "resume", folder.call("resume", run, "-q")
    yield "report", folder.call("report", run)


def measure(shape: str, size: int) -> dict[str, Cost]:
    """All commands on a graph of that size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "growth.yaml").write_text(routine(shape, size))
        return dict(costs(Folder(folder)))


def middle(rounds: list[dict[str, Cost]]) -> dict[str, Cost]:
    """The medians of some rounds."""
    return {name: Cost(*map(median, zip(*(one[name] for one in rounds), strict=True))) for name in rounds[0]}


def exponent(sizes: list[int], costs: list[float]) -> float:
    """How the last size's cost grows from that of the one before it, both beside the smallest's."""
    before, after = (cost - costs[0] for cost in costs[-2:])
    return math.log(max(after, 1e-3) / max(before, 1e-3)) / math.log(sizes[-1] / sizes[-2])


def table(found: dict[int, dict[str, Cost]]) -> Iterator[str]:
    """Everything as Markdown."""
    sizes = list(found)
    yield "| | " + " | ".join(f"{size:,} steps" for size in sizes) + " | exponent |"
    yield "| --- |" + " ---: |" * (len(sizes) + 1)
    for name, first in found[sizes[0]].items():
        cells, size_only = [], math.isnan(first.seconds)
        for size in sizes:
            cost = found[size][name]
            time = "" if size_only else f"{cost.seconds:.2f} s, "
            cells.append(f"{time}{cost.megabytes:,.1f} MB" if size_only else f"{time}{cost.megabytes:,.0f} MB")
        measured = [found[size][name][1 if size_only else 0] for size in sizes]
        yield f"| {name} | {' | '.join(cells)} | {exponent(sizes, measured):.2f} |"


def main() -> None:
    """Parse the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="chain")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    flags = parser.parse_args()
    if len(flags.sizes) < 3:
        parser.error("--sizes: three at the least; the smallest is taken for start-up")
    measure(flags.shape, 100)  # what is cold before the first command of all belongs to nobody
    found = {}
    for size in flags.sizes:
        found[size] = middle([measure(flags.shape, size) for _ in range(3 if size <= 10_000 else 1)])
        sys.stderr.write(f"{size:,} steps done\n")
    sys.stdout.write("\n".join(table(found)) + "\n")


if __name__ == "__main__":
    main()
