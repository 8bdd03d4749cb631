"""vrooli itself, in this process: load a file, plan it, run it with a store on disk, and say what each took."""

from __future__ import annotations

import asyncio
import gc
import resource
from pathlib import Path

from shapes import SHAPES, Clock, asked, tell

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.journal import open_store
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.limits import Limits
from vrooli_cli.model.run import ResourceAllocation


def routine(workload: str, count: int) -> str:
    """The YAML of a workload."""
    lines = [f"name: {workload}", "steps:"]
    if workload == "sleep":
        lines += ["  - id: s", f"    for_each: {{ items: '{{{{ range({count}) | list }}}}' }}", "    wait: 50ms"]
    elif workload == "shell":
        lines += [f"  - {{ id: s{i}, tool: shell, parameters: {{ command: 'true' }} }}" for i in range(count)]
    else:
        for name, parents in SHAPES[workload](count):
            lines += [f"  - id: {name}", "    tool: echo", "    parameters: { message: 1 }"]
            if parents:
                lines.append(f"    depends_on: [{', '.join(parents)}]")
    return "\n".join(lines) + "\n"


async def run(workload: str, count: int, folder: Path) -> None:
    """One run, told."""
    file = folder / f"{workload}.yaml"
    file.write_text(routine(workload, count))
    gc.set_threshold(500_000, 20, 50)  # as the command line has it: until the run begins, and in the run
    first = folder / "first.yaml"
    first.write_text(routine("chain", 1))
    async with ExecutionArchitecture(store=open_store(folder / "journal.db")) as architecture:
        architecture.prepare(load_bundle(first), {})  # first imports belong to start-up
        clock = Clock()
        loaded = load_bundle(file, limits=Limits(file_bytes=1 << 30, nodes=100_000_000))
        load = clock()
        slots = {"sleep": 100, "shell": 8}.get(workload, 8)
        prepared = architecture.prepare(loaded, {}, allocation=ResourceAllocation(max_concurrent_steps=slots))
        plan, before = clock() - load, clock.processor()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        clock = Clock()
        result = await prepared.run()
        took, processor = clock(), clock.processor()
    assert result.success, result.error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tell(took, processor=processor, all=before + processor, load=load, plan=plan, memory_mb=peak)


if __name__ == "__main__":
    name, number, where = asked()
    asyncio.run(run(name, number, Path(where)))
