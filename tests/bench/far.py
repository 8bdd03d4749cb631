"""Short calls on a Dask cluster: vrooli beside plain ``distributed``, in turn on the same three workers.

``python -m tests.bench.far [CALLS] [ROUNDS]`` prints seconds of wall and of CPU (driver, scheduler, workers) and the
ratios of the medians. vrooli has everything on that a run has: validation, gate, events, a journal on disk. *once* is a
tool that says nothing of its effects, so each call is seen to that it happens at most once.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from distributed import Client

from tests.dask.conftest import Farm, Member, farming
from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.journal import open_store
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.project import load_project
from vrooli_cli.loading.settings import Settings

_TOOL = '''
from vrooli_cli import tool

@tool(effects="none")
def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b

@tool
def add_once(a: int, b: int = 1) -> int:
    """Adds, and must not do it twice: a tool that says nothing of its effects."""
    return a + b
'''
_ROUTINE = """
allocation: {max_concurrent_steps: %d}
steps:
  - {id: warm, tool: %s, parameters: {a: 1}}
  - {id: many, needs: [warm], tool: %s, parameters: {a: "{{ item }}"}, for_each: {items: "{{ range(%d) | list }}"}}
outputs: {sum: "{{ steps.many.result | sum }}"}
"""


def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


class Meter:
    """Wall and CPU from one moment to another."""

    def __init__(self, members: list[Member]) -> None:
        self._processes = [psutil.Process(), *(psutil.Process(member.pid) for member in members)]
        self._began = (0.0, 0.0)
        self.wall = self.cpu = 0.0

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), sum(sum(process.cpu_times()[:2]) for process in self._processes)

    def start(self) -> None:
        """From now."""
        self._began = self._now()

    def stop(self) -> None:
        """To now."""
        self.wall, self.cpu = (now - then for now, then in zip(self._now(), self._began, strict=True))


async def plain(address: str, calls: int, meter: Meter, folder: Path) -> None:
    """What somebody writes who has only ``distributed``."""
    make: Any = Client
    async with make(address, asynchronous=True, set_as_default=False) as client:
        await client.gather(client.map(add, range(20), pure=False))
        meter.start()
        found = await client.gather(client.map(add, range(calls), pure=False))
        meter.stop()
        assert sum(found) == calls * (calls + 1) // 2


async def ours(address: str, calls: int, meter: Meter, folder: Path, *, tool: str, slots: int) -> None:
    """The same as a routine; the connection and the tools are there after its first step."""
    (folder / "tools").mkdir(exist_ok=True)
    (folder / "tools" / "add.py").write_text(_TOOL)
    (folder / "vrooli.yaml").touch()
    (folder / "r.yaml").write_text(_ROUTINE % (slots, tool, tool, calls))
    with tempfile.TemporaryDirectory() as history:
        store, project = open_store(Path(history, "s.db")), load_project(folder)
        settings = Settings(executor=f"dask:{address}")
        async with ExecutionArchitecture(settings, project=project, store=store, folder=str(folder)) as house:
            run = house.prepare(load_bundle(str(folder / "r.yaml"), project=project), {})

            def note(event: Any) -> None:
                if event.type == "tier2/step/completed" and event.payload["step_id"] == "warm":
                    meter.start()
                elif event.type == "tier2/routine/completed":
                    meter.stop()

            run.channel.fold(note)
            result = await run.run()
            assert result.result == {"sum": calls * (calls + 1) // 2}, result.error


def measure(farm: Farm, calls: int, rounds: int) -> None:
    """Each in turn, and the medians."""
    scheduler = farm.scheduler()
    members = [scheduler, *(farm.worker(scheduler) for _ in range(3))]
    ways: dict[str, Callable[[str, int, Meter, Path], Awaitable[None]]] = {
        "plain": plain,
        "vrooli": partial(ours, tool="add", slots=calls),
        "vrooli, once": partial(ours, tool="add_once", slots=calls),
        "vrooli, once, -j 500": partial(ours, tool="add_once", slots=500),
    }
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        for name, way in ways.items():
            meter = Meter(members)
            asyncio.run(way(scheduler.address, calls, meter, farm.folder))  # type: ignore[arg-type]
            found[name].append((meter.wall, meter.cpu))
            print(f"{name:20} {calls} calls  {meter.wall:6.2f} s  CPU {meter.cpu:6.2f} s", flush=True)
    medians = {name: tuple(map(statistics.median, zip(*rows, strict=True))) for name, rows in found.items()}
    plain_wall, plain_cpu = medians.pop("plain")
    for name, (wall, cpu) in medians.items():
        print(f"{name:20} / plain distributed: wall {wall / plain_wall:.2f}, CPU {cpu / plain_cpu:.2f}")


def main() -> None:
    """Read the command line."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as folder:
        for farm in farming(Path(folder)):
            measure(farm, calls, rounds)


if __name__ == "__main__":
    main()
