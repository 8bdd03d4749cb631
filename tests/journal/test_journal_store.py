"""The store of runs: the log, the history, leases, commands, results; on disk and in memory alike."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vrooli_cli.errors import InputError, StoreError, UnknownRunError
from vrooli_cli.journal import Lease, SqliteStore, default_store_path, open_store
from vrooli_cli.journal import blobs as blobs_module
from vrooli_cli.journal.schema import VERSION
from vrooli_cli.model.store import Busy, LogBatch, RunRecord, Store


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.ns = 1_000

    def now_ns(self) -> int:
        return self.ns

    def monotonic(self) -> float:
        return self.ns / 1e9


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "runs.db" if request.param == "file" else ":memory:", clock=clock)
    yield store
    store.close()
    store.close()


def batch(run: int, first: int, count: int, text: str = "") -> LogBatch:
    return LogBatch(
        run, first, count, b"".join(b'{"n":%d}%b\n' % (n, text.encode()) for n in range(first, first + count))
    )


def numbers(store: SqliteStore, key: int, first: int = 0) -> list[int]:
    return [int(re.findall(rb"\d+", line)[0]) for line in store.read(key, first)]


def test_it_is_what_the_engine_asks_of_a_store(store: SqliteStore) -> None:
    asked: Store = store
    assert asked.find is not None


def test_runs_are_read_back_in_order_from_any_number(store: SqliteStore) -> None:
    one, two = store.open_run(RunRecord(id="one", name="r")), store.open_run(RunRecord(id="two", name="r"))
    first = 1
    for count in [3, 1, 4, 1, 5] * 120:  # more rows than are read at once
        store.append([batch(one, first, count), batch(two, first, count)])
        first += count
    assert numbers(store, one) == numbers(store, two) == list(range(1, first))
    for start in (0, 1, 2, 3, 4, 8, 9, first - 2, first - 1):
        assert numbers(store, one, start) == list(range(max(1, start), first))
    assert numbers(store, one, first) == []
    assert numbers(store, 99) == []


def test_reading_and_writing_go_on_side_by_side(store: SqliteStore) -> None:
    key = store.open_run(RunRecord(id="one", name="r"))
    for first in range(1, 601):
        store.append([batch(key, first, 1)])
    reader = store.read(key)
    seen = [next(reader) for _ in range(300)]
    store.append([batch(key, 601, 2)])
    seen += list(reader)
    assert len(seen) == 602


def test_all_batches_of_a_commit_or_none(store: SqliteStore) -> None:
    key = store.open_run(RunRecord(id="one", name="r"))
    store.append([batch(key, 1, 2)])
    with pytest.raises(StoreError):
        store.append([batch(key, 3, 1), batch(key, 1, 2)])
    assert numbers(store, key) == [1, 2]
    store.append([batch(key, 3, 1)])
    assert numbers(store, key) == [1, 2, 3]


def test_a_record_is_read_back_as_it_was_written(store: SqliteStore) -> None:
    record = RunRecord(
        id="a-1",
        name="release",
        kind="swarm",
        path="routines/release.yaml",
        status="completed",
        started_ns=5,
        ended_ns=9,
        parent="b",
        user="me",
        error_code="TOOL_FAILED",
        credits=2**60,
        definition={"main": "größe: {{ x }}\n" * 1000},
        inputs={"n": [1, None]},
        settings={"max_concurrent": 4},
        context={"correlation_id": "c"},
    )
    key = store.open_run(record)
    assert store.find("a-1") == (key, record)
    store.update_run(key, status="failed", credits=3, settings=None, definition={"other": "text"})
    _, changed = store.find("a-1")
    assert (changed.status, changed.credits, changed.settings) == ("failed", 3, None)
    assert changed.definition == {"other": "text"}
    store.update_run(key)
    with pytest.raises(TypeError, match="colour"):
        store.update_run(key, colour="red")


def test_an_id_is_used_once(store: SqliteStore) -> None:
    store.open_run(RunRecord(id="a", name="r"))
    with pytest.raises(InputError, match="already; resume it"):
        store.open_run(RunRecord(id="a", name="r"))
    store.open_run(RunRecord(id="b", name="r"))


def test_a_run_is_found_by_id_by_unique_prefix_and_as_the_last(store: SqliteStore) -> None:
    with pytest.raises(UnknownRunError, match="no run yet"):
        store.find("last")
    keys = {name: store.open_run(RunRecord(id=name, name="r")) for name in ("abc", "abcd", "abde", "x%_")}
    store.open_run(RunRecord(id="zzz", name="events", kind="events"))
    assert store.find("abc")[0] == keys["abc"], "an exact id wins over being a prefix"
    assert store.find("abd")[0] == keys["abde"]
    assert store.find("last")[0] == keys["x%_"]
    assert store.find("x%")[0] == keys["x%_"]
    with pytest.raises(UnknownRunError, match="several runs begin with 'ab'"):
        store.find("ab")
    for unknown in ("_", "%", "", "abcde", "z", "'; DROP TABLE runs; --"):
        with pytest.raises(KeyError):
            store.find(unknown)


# --- the history ------------------------------------------------------------------------------------------------------


def test_the_history_is_newest_first_and_filtered(store: SqliteStore) -> None:
    for index in range(6):
        name, status = ("a", "completed") if index % 2 else ("b", "cancelled")
        store.open_run(RunRecord(id=f"r{index}", name=name, status=status, started_ns=index, inputs={"x": 1}))
    store.open_run(RunRecord(id="own", name="events", kind="events"))
    assert [record.id for record in store.runs()] == ["r5", "r4", "r3", "r2", "r1", "r0"]
    assert [record.id for record in store.runs(status="completed", limit=2)] == ["r5", "r3"]
    assert [record.id for record in store.runs(name="b", since_ns=2)] == ["r4", "r2"]
    assert store.runs()[0].inputs is None, "a list needs no inputs"
    assert store.runs(limit=0) == []


def test_a_run_whose_process_died_shows_as_interrupted(store: SqliteStore) -> None:
    lease = store.lease("alive")
    assert lease is not None
    key = store.open_run(RunRecord(id="alive", name="r", status="running"))
    store.open_run(RunRecord(id="dead", name="r", status="running"))
    store.open_run(RunRecord(id="failed", name="r", status="failed", error_code="TOOL_FAILED"))
    assert [(r.id, r.error_code) for r in store.runs(status="failed")] == [
        ("failed", "TOOL_FAILED"),
        ("dead", "INTERRUPTED"),
    ]
    assert [r.id for r in store.runs(status="running")] == ["alive"]
    assert store.find("dead")[1].error_code == "INTERRUPTED"
    lease.release()
    assert store.find("alive")[1].status == "failed"
    store.update_run(key, status="completed")
    assert store.find("alive")[1].status == "completed"


def test_ten_thousand_runs_are_listed_and_found_quickly(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "many.db")
    rows = [(f"r{n:05}", n) for n in range(10_000)]
    with store._writing() as database:
        database.executemany(
            "INSERT INTO runs(id, name, kind, path, status, started_ns, user, credits, owner, inputs)"
            " VALUES(?, 'r', 'routine', '', 'completed', ?, '', 0, '', json_object('x', hex(zeroblob(500))))",
            rows,
        )
    began = time.perf_counter()
    assert len(store.runs()) == 10_000
    assert len(store.runs(name="r", since_ns=9_990, limit=5)) == 5
    assert store.find("r05000")[1].started_ns == 5000
    assert store.find("last")[1].id == "r09999"
    assert time.perf_counter() - began < 0.5
    store.close()


# --- leases and commands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_id", ["1jb3k9x2a-7f3q0d2m", "../../etc/passwd", "..", "ü" * 300, "a/b\0c", "\ud800"])
def test_a_lease_is_held_by_one_until_it_is_released(store: SqliteStore, run_id: str, tmp_path: Path) -> None:
    assert not store.is_alive(run_id)
    lease = store.lease(run_id)
    assert lease is not None
    assert store.is_alive(run_id)
    assert store.lease(run_id) is None
    with store.lease("other") or pytest.fail("the other is free"):
        pass
    lease.release()
    lease.release()
    assert not store.is_alive(run_id)
    with store.lease(run_id) or pytest.fail("it is free again"):
        assert store.is_alive(run_id)
    outside = [path for path in tmp_path.iterdir() if not path.name.startswith("runs.db")]
    assert outside == []
    locks = tmp_path / "runs.db.locks"
    assert not locks.is_dir() or [path.name for path in locks.iterdir()] == [".init"], "no lock file stays"


def test_two_stores_on_one_file_see_each_others_leases(tmp_path: Path) -> None:
    one, two = SqliteStore(tmp_path / "s.db"), SqliteStore(tmp_path / "s.db")
    lease = one.lease("r")
    assert lease is not None and two.is_alive("r") and two.lease("r") is None
    lease.release()
    other = two.lease("r")
    assert other is not None and one.lease("r") is None
    other.release()
    one.close()
    two.close()


def test_a_lock_on_a_file_that_is_gone_is_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = (SqliteStore(tmp_path / "s.db") for _ in range(3))
    first = one.lease("r")
    assert first is not None
    real = fcntl.flock
    others: list[Lease | None] = []

    def at_the_worst_moment(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        first.release()  # the file that `two` has just opened is removed, and another one is locked in its place
        others.append(three.lease("r"))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", at_the_worst_moment)
    assert two.lease("r") is None
    (other,) = others
    assert other is not None
    other.release()
    for store in (one, two, three):
        store.close()


def test_a_command_reaches_whoever_works_on_the_run_once(store: SqliteStore) -> None:
    key = store.open_run(RunRecord(id="run-1", name="r"))
    other = store.open_run(RunRecord(id="x", name="r"))
    store.send("run", {"do": "approve", "step": "deploy", "comment": "ok ü"})
    store.send("run-1", {"do": "cancel"})
    assert store.commands(other) == []
    (first, approve), (second, cancel) = store.commands(key)
    assert (approve, cancel) == ({"do": "approve", "step": "deploy", "comment": "ok ü"}, {"do": "cancel"})
    assert store.commands(key) == [(first, approve), (second, cancel)], "reading is not forgetting"
    store.forget(key, [first])
    assert store.commands(key) == [(second, cancel)]
    store.forget(key)
    assert store.commands(key) == []
    with pytest.raises(UnknownRunError):
        store.send("nobody", {})


# --- results, cache, plans --------------------------------------------------------------------------------------------


def test_a_large_result_is_kept_by_its_content(store: SqliteStore) -> None:
    digest = store.put_blob(b"x" * 100_000)
    assert store.put_blob(b"x" * 100_000) == digest
    assert store.get_blob(digest) == b"x" * 100_000
    with pytest.raises(StoreError, match="missing beside the store"):
        store.get_blob("0" * 64)


def test_a_damaged_result_is_told_and_not_used(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    digest = store.put_blob(b"x" * 1000)
    path = tmp_path / "s.db.blobs" / digest[:2] / digest
    path.write_bytes(b"y" * 1000)
    with pytest.raises(StoreError, match="is damaged"):
        store.get_blob(digest)
    store.close()


def test_a_cached_result_expires(store: SqliteStore, clock: Clock) -> None:
    store.cache_put("k", b"for good")
    store.cache_put("t", b"for a while", ttl_ms=5, run=1, address="a/b")
    assert store.cache_get("k") == b"for good" and store.cache_get("t") == b"for a while"
    clock.ns += 5_000_000
    assert store.cache_get("t") is None
    assert store.cache_get("k") == b"for good"
    store.cache_put("k", b"anew")
    assert store.cache_get("k") == b"anew"
    assert store.cache_get("unknown") is None


def test_the_newest_plans_are_kept(store: SqliteStore, clock: Clock) -> None:
    for index in range(503):
        clock.ns += 1
        store.plan_put(f"p{index}", b"plan %d" % index)
    assert store.plan_get("p2") is None
    assert store.plan_get("p3") == b"plan 3"
    assert store.plan_get("p502") == b"plan 502"


# --- prune ------------------------------------------------------------------------------------------------------------


def test_prune_forgets_what_is_old_and_over_with_all_that_belongs_to_it(
    store: SqliteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "_YOUNG_SECONDS", -10)
    keys, digests = {}, {}
    for index, status in enumerate(["completed", "running", "suspended", "failed", "completed"]):
        name = f"r{index}"
        keys[name] = store.open_run(
            RunRecord(
                id=name, name="r", status=status, started_ns=index, definition={"text": "same" if index else "own"}
            )
        )
        digests[name] = store.put_blob(b"%d" % (index // 2))
        store.append([LogBatch(keys[name], 1, 1, b'{"n":1,"$blob":"%b"}\n' % digests[name].encode())])
    lease = store.lease("r1")
    assert lease is not None
    store.send("r3", {"do": "cancel"})
    store.cache_put("old", b"x", ttl_ms=1)
    clock.ns += 10_000_000
    assert store.prune() == 0
    assert store.prune(older_than_ns=4) == 2
    assert [record.id for record in store.runs()] == ["r4", "r2", "r1"]
    assert numbers(store, keys["r0"]) == [] and numbers(store, keys["r1"]) == [1]
    assert store.get_blob(digests["r2"]) == b"1", "r2 names what r3 named as well"
    assert store.get_blob(digests["r1"]) == b"0"
    assert store.find("r4")[1].definition == {"text": "same"}
    assert store._database.execute("SELECT count(*) FROM texts").fetchone() == (1,)
    lease.release()
    assert store.prune(keep=1) == 1, "r1 has died meanwhile"
    assert store.prune(keep=0) == 1
    assert [record.id for record in store.runs()] == ["r2"], "a suspended run waits for its person"
    for name in ("r0", "r4"):
        with pytest.raises(StoreError):
            store.get_blob(digests[name])
    for table in ("inbox", "cache"):
        assert store._database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_prune_leaves_young_results_alone_and_gives_room_back(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    key = store.open_run(RunRecord(id="r", name="r", status="completed"))
    for first in range(1, 200):
        store.append([batch(key, first, 1, "x" * 20_000)])
    digest = store.put_blob(b"about to be named")
    store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (tmp_path / "s.db").stat().st_size
    assert store.prune(keep=0) == 1
    assert store.get_blob(digest) == b"about to be named"
    store.close()
    assert (tmp_path / "s.db").stat().st_size < before / 10


# --- durability -------------------------------------------------------------------------------------------------------


async def test_synced_means_that_the_log_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = os.fdatasync

    def counted(descriptor: int) -> None:
        calls.append(
            Path(f"/proc/self/fd/{descriptor}").resolve().name if Path("/proc/self/fd").exists() else "s.db-wal"
        )
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    store = SqliteStore(tmp_path / "s.db")
    key = store.open_run(RunRecord(id="r", name="r"))
    await asyncio.sleep(0.3)
    assert calls == ["s.db-wal"], "a run's first commit is not left to the next second"
    calls.clear()
    store.append([batch(key, 1, 1)])
    began = time.monotonic()
    await asyncio.gather(*(store.synced() for _ in range(50)))
    assert time.monotonic() - began < 0.9, "who waits does not wait for the second to pass"
    assert 1 <= len(calls) <= 2 and set(calls) == {"s.db-wal"}, "and never the database file itself"
    await store.synced()
    assert len(calls) <= 2
    store.append([batch(key, 2, 1)])
    await asyncio.sleep(1.3)
    assert len(calls) in (2, 3), "once a second, unasked"
    store.append([batch(key, 3, 1)])
    store.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors by /proc")
async def test_the_log_is_opened_for_syncing_once_and_closed_with_the_store(tmp_path: Path) -> None:
    def of_the_syncer() -> list[str]:
        found = [str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
        return [name for name in found if name == str(tmp_path / "s.db-wal")]

    store = SqliteStore(tmp_path / "s.db")
    key = store.open_run(RunRecord(id="r", name="r"))
    sqlites = len(of_the_syncer())
    for number in range(1, 4):
        store.append([batch(key, number, 1)])
        await store.synced()
        assert len(of_the_syncer()) <= sqlites + 1
    store.close()
    assert of_the_syncer() == []


async def test_a_disk_that_refuses_to_sync_fails_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    store = SqliteStore(tmp_path / "s.db")
    key = store.open_run(RunRecord(id="r", name="r"))
    monkeypatch.setattr(os, "fdatasync", broken)
    store.append([batch(key, 1, 1)])
    with pytest.raises(StoreError, match="Input/output error"):
        await store.synced()
    with pytest.raises(StoreError):
        store.append([batch(key, 2, 1)])
    store.close()


async def test_full_means_synced_at_every_commit(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db", full=True)
    key = store.open_run(RunRecord(id="r", name="r"))
    assert store._database.execute("PRAGMA synchronous").fetchone() == (2,)
    store.append([batch(key, 1, 1)])
    await asyncio.wait_for(store.synced(), 1)
    store.close()


def test_the_file_is_set_up_as_decided(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    store.open_run(RunRecord(id="r", name="r"))
    found = {
        name: store._database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "busy_timeout", "wal_autocheckpoint", "user_version")
    }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 1,
        "busy_timeout": 0,
        "wal_autocheckpoint": 4000,
        "user_version": VERSION,
    }
    store.close()


def test_a_commit_of_one_run_writes_one_page(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    key = store.open_run(RunRecord(id="r", name="r"))
    wal = tmp_path / "s.db-wal"
    sizes = []
    for first in range(1, 101):
        before = wal.stat().st_size
        store.append([batch(key, first, 1)])
        sizes.append(wal.stat().st_size - before)
    assert sorted(sizes)[80] <= 4096 + 24
    store.close()


def test_what_another_process_commits_is_busy_and_not_waited_for(tmp_path: Path) -> None:
    store, other = SqliteStore(tmp_path / "s.db"), sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    key = store.open_run(RunRecord(id="r", name="r"))
    other.execute("BEGIN IMMEDIATE")
    began = time.perf_counter()
    for batches in ([batch(key, 1, 1)], [batch(key, 1, 1), batch(key, 2, 1)]):
        with pytest.raises(Busy):
            store.append(batches)
    assert time.perf_counter() - began < 0.1
    other.execute("ROLLBACK")
    store.append([batch(key, 1, 1)])
    assert numbers(store, key) == [1]
    other.close()
    store.close()


def test_the_users_own_store_is_made_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "deep" / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    store = open_store()
    store.open_run(RunRecord(id="r", name="r"))
    assert default_store_path().is_file() and default_store_path().is_relative_to(tmp_path)
    assert default_store_path().parent.stat().st_mode & 0o077 == 0, "what ran is nobody else's business"
    store.close()


def test_a_store_in_memory_is_let_go_of_with_its_owner() -> None:
    store = open_store(":memory:")
    database = store._database
    del store
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.execute("SELECT 1")
