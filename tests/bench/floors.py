"""What cannot be avoided: bare asyncio with a row of SQLite a step, and bare asyncio that starts processes."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from shapes import SHAPES, Clock, asked, tell

ROW = b"x" * 200


def database(folder: str) -> sqlite3.Connection:
    """A store as vrooli's: WAL, synced at checkpoints."""
    made = sqlite3.connect(Path(folder) / "floor.db", isolation_level=None)
    for pragma in ("journal_mode=wal", "synchronous=normal", "wal_autocheckpoint=4000"):
        made.execute(f"pragma {pragma}")
    made.execute("create table log(place integer primary key, data blob)")
    return made


async def steps(workload: str, count: int, folder: str) -> None:
    """Every step is a task and a committed row; a step starts when its parents have ended."""
    graph, store = SHAPES[workload](count), database(folder)
    waiting = {name: len(parents) for name, parents in graph}
    children: dict[str, list[str]] = {name: [] for name, _ in graph}
    for name, parents in graph:
        for parent in parents:
            children[parent].append(name)
    loop, over, tasks = asyncio.get_running_loop(), asyncio.Event(), set()
    left = count

    def start(name: str) -> None:
        task = loop.create_task(step(name))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def step(name: str) -> None:
        nonlocal left
        store.execute("begin immediate")
        store.execute("insert into log(data) values(?)", (ROW,))
        store.execute("commit")
        for child in children[name]:
            waiting[child] -= 1
            if not waiting[child]:
                start(child)
        left -= 1
        if not left:
            over.set()

    clock = Clock()
    for name, parents in graph:
        if not parents:
            start(name)
    await over.wait()
    tell(clock(), processor=clock.processor())


async def sleeps(count: int) -> None:
    """50 ms each, a hundred at once."""
    slots = asyncio.Semaphore(100)

    async def one() -> None:
        async with slots:
            await asyncio.sleep(0.05)

    clock = Clock()
    await asyncio.gather(*(one() for _ in range(count)))
    tell(clock(), processor=clock.processor())


async def spawns(count: int) -> None:
    """``true`` by a shell, eight at once, its output read."""
    slots = asyncio.Semaphore(8)

    async def one() -> None:
        async with slots:
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "true", stdout=pipe, stderr=pipe)
            await process.communicate()

    clock = Clock()
    await asyncio.gather(*(one() for _ in range(count)))
    tell(clock(), processor=clock.processor())


if __name__ == "__main__":
    name, number, where = asked()
    work = {"sleep": sleeps, "shell": spawns}
    asyncio.run(work[name](number) if name in work else steps(name, number, where))
