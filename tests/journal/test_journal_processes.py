"""Many processes on one store: they start at once, write at once, and die at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vrooli_cli.journal import SqliteStore
from vrooli_cli.model.store import RunRecord

WRITER = """
import asyncio, sys
from vrooli_cli.bus import EventBus
from vrooli_cli.journal import SqliteStore
from vrooli_cli.model.clock import SystemClock
from vrooli_cli.model.events import EventMetadata, StepReady
from vrooli_cli.model.store import RunRecord

async def main(place, name, count):
    store = SqliteStore(place)
    lease = store.lease(name)
    bus = EventBus(store, SystemClock())
    channel = bus.open(RunRecord(id=name, name="r", status="running"), EventMetadata())
    for step in range(count):
        channel.publish(StepReady(execution_id=name, step_id=str(step)))
        await channel.committed()
        print(step, flush=True)
    store.update_run(channel.key, status="completed")
    await bus.close()
    store.close()
    lease.release()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def writer(place: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(place), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_twelve_processes_start_at_once_on_one_new_store_and_all_write_everything(tmp_path: Path) -> None:
    place = tmp_path / "new.db"
    running = {f"run{index}": writer(place, f"run{index}", 50) for index in range(12)}
    for name, process in running.items():
        out, errors = process.communicate(timeout=50)
        assert (process.returncode, errors, len(out.split())) == (0, "", 50), name
    store = SqliteStore(place)
    records = store.runs()
    assert {record.id for record in records} == set(running)
    assert {record.status for record in records} == {"completed"}
    for name in running:
        key, _ = store.find(name)
        assert [json.loads(line)["seq"] for line in store.read(key)] == list(range(1, 51))
    store.close()


@pytest.mark.parametrize("after", [0, 7, 60])
def test_after_kill_9_everything_that_was_reported_is_there_and_the_run_is_free_at_once(
    tmp_path: Path, after: int
) -> None:
    place = tmp_path / "s.db"
    process = writer(place, "victim", 1_000_000)
    assert process.stdout is not None and process.stderr is not None
    reported = -1
    while reported < after:
        reported = int(process.stdout.readline())
    store = SqliteStore(place)
    assert store.is_alive("victim") and store.lease("victim") is None
    assert store.find("victim")[1].status == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    began = time.perf_counter()
    lease = store.lease("victim")
    assert lease is not None and time.perf_counter() - began < 0.1
    lease.release()
    reported = int(([str(reported), *process.stdout.read().split()])[-1])
    key, record = store.find("victim")
    assert (record.status, record.error_code) == ("failed", "INTERRUPTED")
    assert [json.loads(line)["seq"] for line in store.read(key)][: reported + 1] == list(range(1, reported + 2))
    process.stdout.close()
    process.stderr.close()
    store.close()


def test_a_child_that_outlives_its_killed_parent_does_not_keep_the_lease(tmp_path: Path) -> None:
    script = """
import subprocess, sys
from vrooli_cli.journal import SqliteStore
store = SqliteStore(sys.argv[1])
lease = store.lease("r")
child = subprocess.Popen(["sleep", "20"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""
    command = [sys.executable, "-c", script, str(tmp_path / "s.db")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    orphan = int(process.stdout.readline())
    store = SqliteStore(tmp_path / "s.db")
    assert store.is_alive("r")
    process.kill()
    process.wait()
    process.stdout.close()
    try:
        os.kill(orphan, 0)
        assert not store.is_alive("r")
    finally:
        os.kill(orphan, signal.SIGKILL)
    store.close()


def test_asking_whether_a_run_lives_never_costs_another_its_lease(tmp_path: Path) -> None:
    script = """
import sys
from vrooli_cli.journal import SqliteStore
store = SqliteStore(sys.argv[1])
print("go", flush=True)
while True:
    store.is_alive("r")
"""
    command = [sys.executable, "-c", script, str(tmp_path / "s.db")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    store = SqliteStore(tmp_path / "s.db")
    try:
        for _ in range(300):
            lease = store.lease("r")
            assert lease is not None
            lease.release()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        store.close()


def test_a_store_can_be_read_while_another_process_writes(tmp_path: Path) -> None:
    place = tmp_path / "s.db"
    SqliteStore(place).close()
    process = writer(place, "w", 300)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    store = SqliteStore(place)
    key, _ = store.find("w")
    seen: list[int] = []
    while len(seen) < 300:
        more = [json.loads(line)["seq"] for line in store.read(key, len(seen) + 1)]
        seen += more
        if not more:
            time.sleep(0.002)
    assert seen == list(range(1, 301))
    _, errors = process.communicate(timeout=20)
    assert errors == ""
    assert store.find("w")[1] == RunRecord(id="w", name="r", status="completed", started_ns=0, definition=None)
    store.close()
