"""``make bench``: vrooli, the floors and the peers on the same work, in turn, and a table of it.

Every measurement is a process of its own; each round runs all of them once, A B C A B C, and the table has the medians.
A peer gets an environment of its own in ``--folder``; one that cannot be installed is left out, and a line says so.

    python tests/bench/bench.py                     everything, some 40 minutes
    python tests/bench/bench.py --only vrooli floor --rounds 3
    python tests/bench/bench.py --rounds 1 --most 100       does every peer work here?
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TIMEOUT = 300.0
GRAPHS = ("chain", "fan", "layered")
COLUMNS = [(shape, count) for shape in GRAPHS for count in (100, 1_000, 10_000)]
WORK = [*COLUMNS, ("sleep", 1_000), ("shell", 200)]


class Start(NamedTuple):
    """Something that people start, and the imports that it cannot do without."""

    told: str
    words: tuple[str, ...]
    modules: str


STARTS = (
    Start("`vrooli --help`", ("--help",), "typer, rich"),
    Start(
        "`vrooli run` of one step, first time",
        ("run", "one.yaml", "-q", "--store", "FRESH.db"),
        "typer, rich, pydantic, networkx, yaml, jinja2, asyncio, sqlite3",
    ),
    Start(
        "`vrooli run` of one step, unchanged",
        ("run", "one.yaml", "-q"),
        "typer, rich, pydantic, asyncio, sqlite3",
    ),
)


class Peer(NamedTuple):
    """Something that runs graphs.

    Attributes:
        needs: What pip installs; for Dagu what npm does.
        most: Larger graphs are not asked of it: they take minutes.
        work: The workloads beside graphs that it can do.
    """

    name: str
    script: str
    needs: tuple[str, ...] = ()
    most: int = 10_000
    work: tuple[str, ...] = ()


PEERS = (
    Peer("floor", "floors.py", work=("sleep", "shell")),
    Peer("vrooli", "ours.py", work=("sleep", "shell")),
    Peer("make -j8", "peers/run_make.py", work=("shell",), most=1_000),
    Peer("doit", "peers/run_doit.py", ("doit",), most=1_000),
    Peer("langgraph", "peers/run_langgraph.py", ("langgraph", "langgraph-checkpoint-sqlite"), most=1_000),
    Peer("prefect", "peers/run_prefect.py", ("prefect", "fastapi==0.139.0"), most=100),
    Peer("dagster", "peers/run_dagster.py", ("dagster",), most=100),
    Peer("dagu", "peers/run_dagu.py", ("@dagu-org/dagu-linux-x64",), most=100, work=("shell",)),
)


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stderr.write(f"{text}\n")


def _place(peer: Peer, shape: str, count: int) -> str:
    return f"{peer.name}, {shape} of {count:,}"


class Bench:
    """One run of the harness.

    Args:
        folder: Where the peers' environments are kept between runs.
        most: Steps of the largest graph.
    """

    def __init__(self, folder: Path, rounds: int, only: list[str], most: int = 10_000) -> None:
        self.folder = folder
        self.rounds = rounds
        self.done = 0
        self.most = most
        self.peers = [peer for peer in PEERS if not only or peer.name.split()[0] in only]
        self.versions: dict[str, str] = {}
        self.times: dict[tuple[str, str, int], list[dict[str, float]]] = {}
        self.starts: dict[str, list[tuple[float, float]]] = {}
        self.failed: dict[str, str] = {}
        self.slow: set[tuple[str, str, int]] = set()  # what is not asked for again

    # -- environments -------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Make what is not there; a peer without it is left out."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for peer in list(self.peers):
            try:
                self.versions[peer.name] = self._installed(peer)
            except (OSError, subprocess.CalledProcessError) as error:
                self.failed[peer.name] = str(error).splitlines()[0][:200]
                self.peers.remove(peer)
                say(f"{peer.name}: left out: {self.failed[peer.name]}")

    def _installed(self, peer: Peer) -> str:
        if peer.name == "dagu":
            binary = self._dagu(peer)
            return self._said([str(binary), "version"])
        if peer.name.startswith("make"):
            return self._said(["make", "--version"])
        if peer.name == "vrooli":
            return version("vrooli")
        if not peer.needs:
            return f"Python {platform.python_version()}"
        python = self._python(peer)
        if not python.exists():
            say(f"{peer.name}: installing")
            subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
            pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            subprocess.run([*pip, *peer.needs], check=True)
        code = f"from importlib.metadata import version; print(version({peer.needs[0]!r}))"
        return self._said([str(python), "-c", code])

    def _python(self, peer: Peer) -> Path:
        if not peer.needs or peer.name == "dagu":
            return Path(sys.executable)
        return self.folder / peer.name / "bin" / "python"

    def _dagu(self, peer: Peer) -> Path:
        binary = self.folder / "dagu" / "node_modules" / peer.needs[0] / "bin" / "dagu"
        if not binary.exists():
            (self.folder / "dagu").mkdir(exist_ok=True)
            npm = ["npm", "install", "--silent", "--no-fund", "--no-audit", *peer.needs]
            subprocess.run(npm, cwd=self.folder / "dagu", check=True)
        os.environ["BENCH_DAGU"] = str(binary)
        return binary

    @staticmethod
    def _said(command: list[str]) -> str:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return ((done.stdout or done.stderr).strip().splitlines() or [""])[0]

    # -- measuring ----------------------------------------------------------------------------------------------------

    def measure(self) -> Iterator[int]:
        """All rounds; the number of each when it is done."""
        for number in range(1, self.rounds + 1):
            for shape, count in WORK:
                for peer in self.peers:
                    if self._does(peer, shape, count):
                        self._one(peer, shape, count)
            if any(peer.name == "vrooli" for peer in self.peers):
                self._start_up()
            self.done = number
            say(f"round {number} of {self.rounds} done")
            yield number

    def _does(self, peer: Peer, shape: str, count: int) -> bool:
        if shape not in GRAPHS:
            return shape in peer.work
        return count <= min(peer.most, self.most) and (peer.name, shape, count) not in self.slow

    def _one(self, peer: Peer, shape: str, count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = [str(self._python(peer)), str(HERE / peer.script), shape, str(count), folder]
            environ = {**os.environ, "PYTHONPATH": str(HERE)}
            try:
                done = subprocess.run(
                    command, env=environ, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=True
                )
                told = json.loads(done.stdout.strip().splitlines()[-1])
            except subprocess.TimeoutExpired:
                self.slow.add((peer.name, shape, count))
                self._miss(peer, shape, count, f"more than {TIMEOUT:.0f} s")
            except (subprocess.CalledProcessError, IndexError, ValueError) as error:
                lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
                self._miss(peer, shape, count, lines[-1][:200] if lines else "failed")
            else:
                self.times.setdefault((peer.name, shape, count), []).append(told)
                self.failed.pop(_place(peer, shape, count), None)

    def _miss(self, peer: Peer, shape: str, count: int, why: str) -> None:
        if (peer.name, shape, count) not in self.times:  # another round may have gone well
            self.failed[_place(peer, shape, count)] = why
        say(f"{_place(peer, shape, count)}: {why}")

    def _start_up(self) -> None:
        """Each start and its floor in turn; the first of each fills the caches and does not count."""
        with tempfile.TemporaryDirectory() as folder:
            routine = "name: one\nsteps:\n  - { id: a, tool: echo, parameters: { message: 1 } }\n"
            (Path(folder) / "one.yaml").write_text(routine)
            environ = {**os.environ, "XDG_STATE_HOME": folder, "HOME": folder}
            environ.pop("PYTHONDONTWRITEBYTECODE", None)
            for start in STARTS:
                for number in range(6):
                    words = [word.replace("FRESH", str(number)) for word in start.words]
                    pair = (["-m", "vrooli_cli", *words], ["-c", f"import {start.modules}"])
                    ours, floor = (self._seconds([sys.executable, *one], folder, environ) for one in pair)
                    if number:
                        self.starts.setdefault(start.told, []).append((ours, floor))

    @staticmethod
    def _seconds(command: list[str], folder: str, environ: dict[str, str]) -> float:
        began = time.perf_counter()
        subprocess.run(command, env=environ, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    # -- the table ----------------------------------------------------------------------------------------------------

    def table(self) -> str:
        """Everything as Markdown."""
        return "\n".join([*self._steps(), "", *self._other(), "", *self._started(), "", *self._notes()]) + "\n"

    def _median(self, peer: Peer, shape: str, count: int, key: str = "run") -> float | None:
        found = [one[key] for one in self.times.get((peer.name, shape, count), ()) if key in one]
        return statistics.median(found) if found else None

    def _steps(self) -> Iterator[str]:
        yield "## The cost of a step, in microseconds"
        yield ""
        yield "The run alone: no start-up, no loading (make and Dagu: the whole command). In brackets: times the floor."
        yield ""
        yield from self._by_graph(self.peers, "run")
        yield ""
        yield "The same in processor time, which a busy machine changes less, also with loading and planning."
        yield ""
        ours = [peer for peer in self.peers if peer.name in ("floor", "vrooli")]
        yield from self._by_graph(ours, "processor")
        yield from self._rows([peer for peer in ours if peer.name == "vrooli"], "all", ", loaded and planned")

    def _by_graph(self, peers: list[Peer], key: str) -> Iterator[str]:
        yield "| | " + " | ".join(f"{shape} {count:,}" for shape, count in COLUMNS) + " |"
        yield "| --- |" + " ---: |" * len(COLUMNS)
        yield from self._rows(peers, key)

    def _rows(self, peers: list[Peer], key: str, more: str = "") -> Iterator[str]:
        floor = next((peer for peer in self.peers if peer.name == "floor"), None)
        for peer in peers:
            cells = []
            for shape, count in COLUMNS:
                took = self._median(peer, shape, count, key)
                least = self._median(floor, shape, count, "run" if key == "run" else "processor") if floor else None
                ratio = f" ({took / least:.1f})" if took and least and peer is not floor else ""
                cells.append(f"{took / count * 1e6:,.0f}{ratio}" if took is not None else "–")
            yield f"| {peer.name}{more} | " + " | ".join(cells) + " |"

    def _other(self) -> Iterator[str]:
        yield "## Sleeps and processes, loading, memory"
        yield ""
        yield "| | 1,000 sleeps of 50 ms, 100 at once | 200 × `true`, 8 at once |"
        yield "| --- | ---: | ---: |"
        for peer in self.peers:
            if peer.work:
                cells = [self._median(peer, "sleep", 1_000), self._median(peer, "shell", 200)]
                yield f"| {peer.name} | " + " | ".join(f"{one:.2f} s" if one else "–" for one in cells) + " |"
        ours = next((peer for peer in self.peers if peer.name == "vrooli"), None)
        if ours is not None:
            yield ""
            yield "| vrooli | load, µs a step | plan, µs a step | run, µs a step | peak memory |"
            yield "| --- | ---: | ---: | ---: | ---: |"
            for shape in GRAPHS:
                for count in (1_000, 10_000):
                    if self._median(ours, shape, count) is None:
                        continue
                    times = [self._median(ours, shape, count, key) or 0 for key in ("load", "plan", "run")]
                    memory = self._median(ours, shape, count, "memory_mb") or 0
                    told = " | ".join(f"{one / count * 1e6:,.0f}" for one in times)
                    yield f"| {shape} {count:,} | {told} | {memory:.0f} MB |"

    def _started(self) -> Iterator[str]:
        if not self.starts:  # vrooli was not asked for
            return
        yield "## Start-up"
        yield ""
        yield "Milliseconds; the ratio is the median of pairs that ran one after the other."
        yield ""
        yield "| | ms | what it has to import | ms | ratio |"
        yield "| --- | ---: | --- | ---: | ---: |"
        for start in STARTS:
            pairs = self.starts[start.told]
            ours, floor = (statistics.median(one) * 1000 for one in zip(*pairs, strict=True))
            ratio = statistics.median(one / other for one, other in pairs)
            yield f"| {start.told} | {ours:.0f} | `import {start.modules}` | {floor:.0f} | {ratio:.2f} |"

    def _notes(self) -> Iterator[str]:
        today = datetime.now(UTC).date().isoformat()
        yield f"{today}, medians of {self.done}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores,"
        yield f"Python {platform.python_version()}. Versions: "
        yield "; ".join(f"{name} {version}" for name, version in self.versions.items()) + "."
        for name, why in self.failed.items():
            yield f"* {name}: {why}"


def main() -> None:
    """Parse the flags, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=int, default=10_000, help="steps of the largest graph")
    parser.add_argument("--only", nargs="*", default=[], help="names of peers, e.g. vrooli floor doit")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vrooli-bench")
    parser.add_argument("--out", type=Path, help="write the table there too, after the line '<!-- bench -->'")
    flags = parser.parse_args()
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(HERE.parent.parent / "vrooli_cli")], check=True)
    if not shutil.which("make"):
        say("make: not found")
    bench = Bench(flags.folder, flags.rounds, flags.only, flags.most)
    bench.install()
    for _ in bench.measure():
        if flags.out is not None:  # after every round, so that a run that is stopped has not been for nothing
            head = flags.out.read_text().partition("<!-- bench -->")[0] if flags.out.exists() else ""
            flags.out.write_text(f"{head}<!-- bench -->\n\n{bench.table()}")
    sys.stdout.write(bench.table())


if __name__ == "__main__":
    main()
