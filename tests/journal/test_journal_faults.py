"""What a disk, a folder or a file may refuse: one line that names the file and says what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vrooli_cli.errors import StoreError
from vrooli_cli.journal import SqliteStore
from vrooli_cli.journal import store as store_module
from vrooli_cli.journal.schema import VERSION
from vrooli_cli.model.store import LogBatch, RunRecord


def refused(place: Path) -> str:
    with pytest.raises(StoreError) as told:
        SqliteStore(place)
    message = told.value.message
    assert str(place) in message and "\n" not in message
    assert "--store" in message, "what to do"
    assert told.value.code == "STORE_ERROR"
    return message


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "there is no folder" in refused(tmp_path / "none" / "s.db")


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"name: not a store\n" * 100, b"\0" * 5000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_no_store(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "s.db"
    place.write_bytes(content)
    assert "is not a vrooli store" in refused(place) or "is damaged" in refused(place)
    assert place.read_bytes() == content, "and it is left as it is"


def test_a_store_of_a_newer_vrooli(tmp_path: Path) -> None:
    place = tmp_path / "s.db"
    SqliteStore(place).close()
    database = sqlite3.connect(place)
    database.execute(f"PRAGMA user_version={VERSION + 1}")
    database.close()
    assert "written by a newer vrooli" in refused(place)


def test_a_file_system_without_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "s.db"
    SqliteStore(place).close()
    database = sqlite3.connect(place)
    database.execute("PRAGMA journal_mode=DELETE")
    database.close()
    assert "network disk" in refused(place)


def test_a_damaged_file_is_told_when_it_is_read(tmp_path: Path) -> None:
    place = tmp_path / "s.db"
    store = SqliteStore(place)
    key = store.open_run(RunRecord(id="r", name="r"))
    for first in range(1, 300):
        store.append([LogBatch(key, first, 1, b"x" * 3000 + b"\n")])
    store.close()
    data = bytearray(place.read_bytes())
    data[4096 * 3 :] = b"\xa5" * (len(data) - 4096 * 3)
    place.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged") as told:
        damaged = SqliteStore(place)
        try:
            list(damaged.read(key))
        finally:
            damaged.close()
    assert str(place) in told.value.message


def test_a_store_that_another_process_keeps_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "WAIT_SECONDS", 0.1)
    store = SqliteStore(tmp_path / "s.db")
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"stays locked by another process.*--store"):
        store.open_run(RunRecord(id="r", name="r"))
    other.execute("ROLLBACK")
    other.close()
    store.open_run(RunRecord(id="r", name="r"))
    store.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    key = store.open_run(RunRecord(id="r", name="r"))
    store.close()
    with pytest.raises(StoreError):
        store.append([LogBatch(key, 1, 1, b"x\n")])
    with pytest.raises(StoreError):
        store.update_run(key, status="failed")


# --- as an ordinary user, with a real limit on the size of files ------------------------------------------------------

READ_ONLY = """
import os, sys
from vrooli_cli.errors import StoreError
from vrooli_cli.journal import SqliteStore
from vrooli_cli.model.store import RunRecord
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    store = SqliteStore(sys.argv[1])
    store.open_run(RunRecord(id="r", name="r"))
except StoreError as error:
    print(error.message)
"""
FULL_DISK = """
import resource, sys
from vrooli_cli.errors import StoreError
from vrooli_cli.journal import SqliteStore
from vrooli_cli.model.store import LogBatch, RunRecord
store = SqliteStore(sys.argv[1])
key = store.open_run(RunRecord(id="r", name="r"))
if sys.argv[2] != "-":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
written = 0
try:
    while written < 1000:
        store.append([LogBatch(key, written + 1, 1, b"x" * 20_000 + b"\\n")])
        written += 1
except StoreError as error:
    print(written, error.message)
try:
    store.put_blob(bytes(10_000_000))
except StoreError as error:
    print("blob", error.message)
print(sum(1 for _ in store.read(key)))
store.close()
"""


def run_script(script: str, *args: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def locked_folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "folder"
    folder.mkdir()
    for above in (tmp_path, *tmp_path.parents):
        if not above.stat().st_mode & 0o001:
            if above.stat().st_uid != os.getuid():
                pytest.skip("an ordinary user cannot come here")
            above.chmod(above.stat().st_mode | 0o011)
    yield folder
    folder.chmod(0o755)


def test_a_read_only_folder(locked_folder: Path) -> None:
    place = locked_folder / "s.db"
    locked_folder.chmod(0o555)
    (told,) = run_script(READ_ONLY, str(place))
    assert str(place) in told and "writable" in told and "--store" in told


def test_a_read_only_file(locked_folder: Path) -> None:
    place = locked_folder / "s.db"
    SqliteStore(place).close()
    place.chmod(0o444)
    locked_folder.chmod(0o555)
    (told,) = run_script(READ_ONLY, str(place))
    assert str(place) in told and "writable" in told and "--store" in told


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    failed, blob, kept = run_script(FULL_DISK, str(tmp_path / "s.db"), "2000000")
    written, message = failed.split(" ", 1)
    assert 10 < int(written) < 1000
    assert str(tmp_path / "s.db") in message and "--store" in message
    assert "the disk is full" in blob
    assert kept == written, "what was taken is there, and nothing of what was not"


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        failed, blob, kept = run_script(FULL_DISK, str(disk / "s.db"), "-")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    written, message = failed.split(" ", 1)
    assert "the disk is full" in message and str(disk / "s.db") in message
    assert "the disk is full" in blob
    assert kept == written
