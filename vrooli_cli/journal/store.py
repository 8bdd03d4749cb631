"""The store of runs on SQLite: the history, the event log, and what outlives a run (spec engine.md, c).

The hot path is :meth:`SqliteStore.append`: one row a commit, on the loop's thread, without an fsync (WAL,
``synchronous=NORMAL``); it never waits for a lock but raises :class:`Busy`. Everything else is cold: written at a
run's start, at a change of its status and at its end, and may wait up to 5 s for another process's commit.

Beside the file ``S`` stand ``S-wal`` and ``S-shm`` (SQLite's), ``S.locks/`` (a lock a living run, with the
commands that are at work, should its process be killed) and ``S.blobs/`` (large results by content).
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from vrooli_cli.errors import InputError, StoreError, UnknownRunError
from vrooli_cli.journal.blobs import Blobs
from vrooli_cli.journal.faults import REFUSALS, damaged, fault, locked, os_fault
from vrooli_cli.journal.lease import Lease, Leases, open_lock
from vrooli_cli.journal.rows import lines_of, payloads_of
from vrooli_cli.journal.schema import VERSION, migrate, place, version_of
from vrooli_cli.journal.sums import count_of, counted, intact, summed
from vrooli_cli.journal.syncer import Syncer
from vrooli_cli.model.clock import Clock, SystemClock
from vrooli_cli.model.run import ExecutionStatus
from vrooli_cli.model.store import Busy, LogBatch, RunRecord

MEMORY: Final = ":memory:"
EVENTS_KIND: Final = "events"
"""The kind of the run that holds a caller's own events; no history lists it."""
WAIT_SECONDS: Final = 5.0

_INSERT: Final = "INSERT INTO log VALUES(? << 32 | ?, ?, ?)"
_PAGE: Final = 256  # rows of the log read at once
_SLIM = "key, id, name, kind, path, status, started_ns, ended_ns, parent, user, error_code, credits"
_JSON_COLUMNS = frozenset({"context", "settings", "inputs"})
_COLUMNS = frozenset(_SLIM.split(", ")[2:]) | _JSON_COLUMNS | {"definition"}
_OPEN = ("pending", "running")  # a run of this status whose lease is free has died
_STATUSES: Final = frozenset(ExecutionStatus)
_KEPT_PLANS: Final = 500
_NAMED_LATER: Final = 1000  # blobs that no row has named yet


def default_store_path() -> Path:
    """Where runs are kept when nobody says otherwise: ``journal.db`` in the user's state folder."""
    from platformdirs import user_state_dir

    return Path(user_state_dir("vrooli")) / "journal.db"


def open_store(place: str | Path | None = None, *, full: bool = False) -> SqliteStore:
    """The store at ``place``; without one the user's own, whose folder is made.

    Raises:
        StoreError: It cannot be opened.
    """
    if place is None:
        place = default_store_path()
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise os_fault(error, str(place.parent)) from error
    return SqliteStore(place, full=full)


class SqliteStore:
    """Runs in one SQLite file that many processes share, or in memory.

    Args:
        place: The file, made when it is not there (its folder must be), or ``:memory:``.
        full: Sync every commit to the disk (``store: {sync: full}``) instead of once a second.
        clock: For the expiry of cached results.

    Raises:
        StoreError: It cannot be opened, is damaged, is no store, or was written by a newer vrooli.
    """

    def __init__(self, place: str | Path = MEMORY, *, full: bool = False, clock: Clock | None = None) -> None:
        self.place = str(place)
        self._memory = self.place == MEMORY
        self._clock: Clock = clock or SystemClock()
        self._full = full
        self._leases = Leases(None if self._memory else Path(f"{self.place}.locks"))
        self._blobs = Blobs(None if self._memory else Path(f"{self.place}.blobs"))
        self._unnamed: dict[str, None] = {}
        self._syncer = None if self._memory or full else Syncer(Path(f"{self.place}-wal"))
        self._database = self._open()
        if self._memory:  # made for an architecture that nobody has to close: it goes when its owner does
            weakref.finalize(self, self._database.close)

    def _open(self) -> sqlite3.Connection:
        try:
            database = sqlite3.connect(
                self.place, isolation_level=None, timeout=WAIT_SECONDS, check_same_thread=False, cached_statements=64
            )
        except REFUSALS as error:
            raise self._told(error) from error
        try:
            self._prepare(database)
        except BaseException as error:
            database.close()
            if isinstance(error, REFUSALS):
                raise self._told(error) from error
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        version = version_of(database)
        if version < VERSION:
            self._initialise(database)
        elif version > VERSION:
            raise StoreError(
                f"the store {self.place} was written by a newer vrooli; update vrooli, or pass another --store FILE"
            )
        if not self._memory and database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            raise StoreError(
                f"the store {self.place} is on a file system without shared memory (a network disk?);"
                " pass a --store FILE on a local disk"
            )
        database.execute(f"PRAGMA synchronous={'FULL' if self._full else 'NORMAL'}")
        database.execute("PRAGMA wal_autocheckpoint=4000")
        database.execute("PRAGMA busy_timeout=0")

    def _initialise(self, database: sqlite3.Connection) -> None:
        """Make or migrate the tables; one process at a time, the others find them made."""
        if self._memory:
            migrate(database)
            return
        descriptor = open_lock(Path(f"{self.place}.locks") / ".init")
        try:
            _lock_within(descriptor, WAIT_SECONDS, self.place)
            database.execute("PRAGMA journal_mode=WAL").fetchone()
            if version_of(database) < VERSION:
                migrate(database)
        finally:
            os.close(descriptor)

    # --- the hot path -------------------------------------------------------------------------------------------------

    def append(self, batches: Sequence[LogBatch]) -> None:
        """All batches in one transaction, or none; in the page cache when it returns.

        Raises:
            Busy: Another process is committing; nothing was written.
            StoreError: The store has failed for good.
        """
        if self._syncer is not None and self._syncer.failure is not None:
            raise StoreError(self._syncer.failure.message)
        execute = self._database.execute
        try:
            if len(batches) == 1 and not self._unnamed:
                execute(_INSERT, _row(batches[0]))  # one statement is a transaction of its own
            else:
                execute("BEGIN IMMEDIATE")
                self._database.executemany(_INSERT, map(_row, batches))
                named = self._name_blobs(batches) if self._unnamed else ()
                execute("COMMIT")
                for digest in named:
                    self._unnamed.pop(digest, None)
        except REFUSALS as error:
            raise self._undone(error) from error
        if self._syncer is not None:
            self._syncer.committed()

    def _name_blobs(self, batches: Sequence[LogBatch]) -> list[str]:
        """Note which runs name the blobs that were put lately, so that prune knows what is still in use."""
        named = []
        for digest in self._unnamed:
            text = digest.encode()
            runs = {batch.run for batch in batches if text in batch.data}
            self._database.executemany("INSERT OR IGNORE INTO blobs VALUES(?, ?)", [(digest, run) for run in runs])
            if runs:
                named.append(digest)
        return named

    # --- runs ---------------------------------------------------------------------------------------------------------

    def open_run(self, record: RunRecord) -> int:
        """Write a new run's row; its key.

        It goes to the disk at once, in the background: waiting for that here costs a run of one step some 10 ms, and
        nothing depends on it before :meth:`synced`.

        Raises:
            InputError: There is a run of this id.
            StoreError: It cannot be written.
        """
        definition, sha = _packed(record.definition)
        row = (
            *(record.id, record.name, record.kind, record.path, record.status, record.started_ns, record.ended_ns),
            *(record.parent, record.user, record.error_code, record.credits, _owner(), sha),
            *(_text(record.context), _text(record.settings), _text(record.inputs)),
        )
        marks = ", ".join("?" * len(row))
        with self._writing(urgent=True) as database:
            if database.execute("SELECT 1 FROM runs WHERE id=?", (record.id,)).fetchone():
                raise InputError(f"there is a run {record.id!r} already; resume it, or give the new one another id")
            if definition is not None:
                database.execute("INSERT OR IGNORE INTO texts VALUES(?, ?)", (sha, definition))
            cursor = database.execute(
                "INSERT INTO runs(id, name, kind, path, status, started_ns, ended_ns, parent, user, error_code,"
                f" credits, owner, definition, context, settings, inputs) VALUES({marks})",
                row,
            )
            return int(cursor.lastrowid or 0)

    def update_run(self, key: int, **changes: Any) -> None:
        """Change columns of a run's row, named as in :class:`RunRecord`.

        Raises:
            StoreError: It cannot be written.
        """
        if unknown := set(changes) - _COLUMNS:
            raise TypeError(f"a run has no {', '.join(sorted(unknown))}")
        if not changes:
            return
        with self._writing() as database:
            if "definition" in changes:
                definition, changes["definition"] = _packed(changes["definition"])
                if definition is not None:
                    row = changes["definition"], definition
                    database.execute("INSERT OR IGNORE INTO texts VALUES(?, ?)", row)
            for name in _JSON_COLUMNS & changes.keys():
                changes[name] = _text(changes[name])
            columns = ", ".join(f"{name}=?" for name in changes)
            database.execute(f"UPDATE runs SET {columns} WHERE key=?", (*changes.values(), key))

    def find(self, run_id: str) -> tuple[int, RunRecord]:
        """The run with this id, else the only one whose id begins so, else for ``last`` the newest.

        A run whose process has died shows as ``failed`` with ``INTERRUPTED``.

        Raises:
            UnknownRunError: There is none, or there are several.
        """
        with self._reading() as database:
            row = database.execute("SELECT key FROM runs WHERE id=?", (run_id,)).fetchone() or self._guess(run_id)
            if not isinstance(row[0], int):
                raise damaged(self.place)
            slim = database.execute(f"SELECT {_SLIM} FROM runs WHERE key=?", row).fetchone()
            large = database.execute(
                "SELECT context, settings, inputs, sha, data FROM runs LEFT JOIN texts ON sha=definition WHERE key=?",
                row,
            ).fetchone()
        try:
            context, settings, inputs = (json.loads(text) if text else None for text in large[:3])
            definition = _unpacked(*large[3:])
        except (ValueError, TypeError, zlib.error) as error:
            raise damaged(self.place) from error
        record = replace(self._shown(slim), context=context, settings=settings, inputs=inputs, definition=definition)
        return slim[0], record

    def _guess(self, text: str) -> tuple[int]:
        if text == "last":
            query, values = "SELECT key, id FROM runs WHERE kind<>? ORDER BY key DESC LIMIT 1", (EVENTS_KIND,)
            rows = self._database.execute(query, values).fetchall()
            told = "there is no run yet"
        else:
            query = "SELECT key, id FROM runs WHERE id>=? AND id<? AND kind<>? ORDER BY key DESC LIMIT 4"
            rows = self._database.execute(query, (text, text + "\U0010ffff", EVENTS_KIND)).fetchall() if text else []
            told = f"no run has the id {text!r}; `vrooli runs list` shows them"
        if len(rows) > 1:
            names = ", ".join(id_ for _, id_ in rows[:3])
            raise UnknownRunError(f"several runs begin with {text!r}: {names}{', …' if len(rows) > 3 else ''}")
        if not rows:
            raise UnknownRunError(told)
        return (rows[0][0],)

    def runs(
        self,
        status: str | None = None,
        name: str | None = None,
        since_ns: int | None = None,
        limit: int | None = None,
    ) -> list[RunRecord]:
        """The history, newest first, without definition, inputs, settings and context.

        Args:
            status: Only these; a run whose process has died counts as ``failed`` (with ``INTERRUPTED``).
            name: Only runs of this name.
            since_ns: Only runs started then or later.
            limit: At most so many.
        """
        conditions, values = _those(name, since_ns)
        query = f"SELECT {_SLIM} FROM runs WHERE {conditions}"
        if status is not None:
            query += " AND (status=? OR status IN (?, ?))"
            values += [status, *_OPEN]
        found: list[RunRecord] = []
        with self._reading() as database:
            for row in database.execute(query + " ORDER BY key DESC", values):
                if limit is not None and len(found) >= limit:
                    break
                record = self._shown(row)
                if status is None or record.status == status:
                    found.append(record)
        return found

    def _shown(self, row: Sequence[Any]) -> RunRecord:
        record = RunRecord(*row[1:])
        if record.status not in _STATUSES or not all(isinstance(one, int) for one in (row[0], record.started_ns)):
            raise damaged(self.place)
        if record.status in _OPEN and not self._leases.is_held(record.id):
            return replace(record, status="failed", error_code="INTERRUPTED")
        return record

    def read(self, key: int, first: int = 0) -> Iterator[bytes]:
        """The run's lines from event ``first`` on, in order, each with its newline.

        Safe beside writing, also from other processes; what is committed while it reads may be read or not.
        """
        begin, end = place(key, 0), place(key + 1, 0)
        with self._reading() as database:
            query = "SELECT max(place) FROM log WHERE place BETWEEN ? AND ?"
            at = database.execute(query, (begin, place(key, first))).fetchone()[0] or begin
        due = None
        while True:
            with self._reading() as database:
                query = "SELECT place, n, data FROM log WHERE place>=? AND place<? ORDER BY place LIMIT ?"
                rows = database.execute(query, (at, end, _PAGE)).fetchall()
            for at, number, data in rows:
                count, lines = self._lines(number, data, at - begin)
                if len(lines) != count or due not in (None, at):  # numbers have no gaps: a row is broken, or gone
                    raise damaged(self.place)
                due = at + count
                yield from lines[max(0, first - (at - begin)) :]
            if len(rows) < _PAGE:
                return
            at += 1

    def _lines(self, number: int, data: bytes, first: int) -> tuple[int, list[bytes]]:
        """How many events a row of the log should have, and its lines."""
        try:
            return count_of(number, data), lines_of(data, first)
        except (ValueError, TypeError, AttributeError) as error:  # also no number or no bytes at all
            raise damaged(self.place) from error

    def payloads(self, kind: str, name: str | None = None, since_ns: int | None = None) -> Iterator[tuple[str, bytes]]:
        """(run id, payload) of every event of one type, of all runs or of those that :meth:`runs` would list.

        Nothing else is decoded, not even where the lines around it begin.
        """
        conditions, values = _those(name, since_ns)
        query = (
            "SELECT id, n, data FROM runs CROSS JOIN log ON place>=key << 32 AND place<(key + 1) << 32"
            f" WHERE {conditions}"
        )
        text = kind.encode()
        with self._reading() as database:
            for run_id, number, data in database.execute(query, values):
                if not isinstance(data, bytes):
                    raise damaged(self.place)
                if text not in data:  # SQLite's own instr() takes twice as long
                    continue
                if count_of(number, data) < 0:
                    raise damaged(self.place)
                for payload in payloads_of(data, text):
                    yield run_id, payload

    def last_payloads(self, kinds: Mapping[str, str]) -> dict[str, bytes]:
        """Run id → payload of the last event of the type that ``kinds`` has for it, if it is among its log's last.

        Only the last rows of each log are looked into; one that is damaged says nothing.
        """
        query = (
            "SELECT n, data FROM log WHERE place>=(SELECT key FROM runs WHERE id=?) << 32"
            " AND place<((SELECT key FROM runs WHERE id=?) + 1) << 32 ORDER BY place DESC LIMIT 4"
        )
        found: dict[str, bytes] = {}
        with self._reading() as database:
            for run_id, kind in kinds.items():
                text = kind.encode()
                for number, data in database.execute(query, (run_id, run_id)):
                    whole = isinstance(number, int) and isinstance(data, bytes)
                    sound = whole and text in data and count_of(number, data) >= 0
                    payloads = list(payloads_of(data, text)) if sound else []
                    if payloads:
                        found[run_id] = payloads[-1]
                        break
        return found

    # --- leases and commands ------------------------------------------------------------------------------------------

    def lease(self, run_id: str) -> Lease | None:
        """The right to work on a run; None when a living process has it. Take it before :meth:`open_run`.

        Raises:
            StoreError: The folder of the locks cannot be written.
        """
        return self._leases.take(run_id)

    def is_alive(self, run_id: str) -> bool:
        """Whether a living process works on the run."""
        return self._leases.is_held(run_id)

    def notes(self, run_id: str) -> bytes:
        """What a dead owner of the run noted in its lease."""
        return self._leases.notes(run_id)

    def send(self, run_id: str, command: Mapping[str, Any]) -> None:
        """Leave a command (approve, reject, cancel) for whoever works on the run.

        Raises:
            UnknownRunError: There is no such run.
        """
        key, _ = self.find(run_id)
        with self._writing() as database:
            database.execute("INSERT INTO inbox(run, command) VALUES(?, ?)", (key, json.dumps(dict(command))))

    def commands(self, run_key: int) -> list[tuple[int, dict[str, Any]]]:
        """The commands left for a run, oldest first, each with its number; its owner asks once a second.

        They stay until :meth:`forget`: an owner that dies in between has lost nothing.
        """
        query = "SELECT id, command FROM inbox WHERE run=? ORDER BY id"
        with self._reading() as database:
            rows = database.execute(query, (run_key,)).fetchall()
        try:
            return [(number, json.loads(text)) for number, text in rows]
        except ValueError as error:
            raise damaged(self.place) from error

    def forget(self, run_key: int, numbers: Sequence[int] | None = None) -> None:
        """Drop commands that have been obeyed; without numbers all of the run."""
        with self._reading() as database:
            if not database.execute("SELECT 1 FROM inbox WHERE run=? LIMIT 1", (run_key,)).fetchone():
                return
        with self._writing() as database:
            if numbers is None:
                database.execute("DELETE FROM inbox WHERE run=?", (run_key,))
            else:
                database.executemany("DELETE FROM inbox WHERE run=? AND id=?", [(run_key, one) for one in numbers])

    # --- blobs, cache, plans ------------------------------------------------------------------------------------------

    def put_blob(self, data: bytes) -> str:
        """Keep a large value beside the log, on the disk when it returns; its sha256 in hex.

        Raises:
            StoreError: It cannot be written.
        """
        digest = self._blobs.put(data)
        self._unnamed[digest] = None
        if len(self._unnamed) > _NAMED_LATER:
            del self._unnamed[next(iter(self._unnamed))]
        return digest

    def get_blob(self, digest: str) -> bytes:
        """What :meth:`put_blob` kept.

        Raises:
            StoreError: It is missing or damaged.
        """
        return self._blobs.get(digest)

    def cache_get(self, key: str) -> bytes | None:
        """A result kept across runs, unless it has expired or is damaged."""
        with self._reading() as database:
            row = database.execute("SELECT data, expires_ns FROM cache WHERE key=?", (key,)).fetchone()
        if row is None or (row[1] is not None and row[1] <= self._clock.now_ns()):
            return None
        return intact(row[0])

    def cache_put(
        self, key: str, data: bytes, *, ttl_ms: int | None = None, run: int | None = None, address: str = ""
    ) -> None:
        """Keep a result across runs, for ``ttl_ms`` milliseconds or for good; ``run``, ``address``: whose it was."""
        expires = None if ttl_ms is None else self._clock.now_ns() + ttl_ms * 1_000_000
        with self._writing() as database:
            row = key, run, address, expires, summed(data)
            database.execute("INSERT OR REPLACE INTO cache VALUES(?, ?, ?, ?, ?)", row)

    def plan_get(self, key: str) -> bytes | None:
        """A stored, checked plan, unless it is damaged."""
        with self._reading() as database:
            row = database.execute("SELECT data FROM plans WHERE key=?", (key,)).fetchone()
        return None if row is None else intact(row[0])

    def plan_put(self, key: str, data: bytes) -> None:
        """Keep a checked plan; the 500 newest stay."""
        with self._writing() as database:
            database.execute("INSERT OR REPLACE INTO plans VALUES(?, ?, ?)", (key, self._clock.now_ns(), summed(data)))
            database.execute(
                "DELETE FROM plans WHERE key IN (SELECT key FROM plans ORDER BY used_ns DESC LIMIT -1 OFFSET ?)",
                (_KEPT_PLANS,),
            )

    # --- keeping it small ---------------------------------------------------------------------------------------------

    def prune(self, older_than_ns: int | None = None, keep: int | None = None) -> int:
        """Forget runs that are over: those started before ``older_than_ns``, and all but the ``keep`` newest.

        A run that is alive or suspended stays. Results that no run names go too, an hour after they were written.

        Returns:
            How many runs were forgotten.
        """
        doomed = self._doomed(older_than_ns, keep)
        for start in range(0, len(doomed), 100):  # short transactions: others commit between them
            keys = [(key,) for key in doomed[start : start + 100]]
            with self._writing() as database:
                pairs = [(key, key + 1) for (key,) in keys]
                database.executemany("DELETE FROM log WHERE place>=? << 32 AND place<? << 32", pairs)
                for table, column in (("blobs", "run"), ("inbox", "run"), ("runs", "key")):
                    database.executemany(f"DELETE FROM {table} WHERE {column}=?", keys)
        with self._writing() as database:
            database.execute(
                "DELETE FROM texts WHERE sha NOT IN (SELECT definition FROM runs WHERE definition NOTNULL)"
            )
            database.execute("DELETE FROM cache WHERE expires_ns<=?", (self._clock.now_ns(),))
        self._remove_blobs()
        if doomed:
            self._shrink()
        return len(doomed)

    def _doomed(self, older_than_ns: int | None, keep: int | None) -> list[int]:
        if older_than_ns is None and keep is None:
            return []
        with self._reading() as database:
            rows = database.execute(f"SELECT {_SLIM} FROM runs ORDER BY key DESC").fetchall()
        doomed = []
        for position, row in enumerate(rows):
            record = self._shown(row)
            old = older_than_ns is not None and record.started_ns < older_than_ns
            if (old or (keep is not None and position >= keep)) and record.status not in (*_OPEN, "suspended"):
                doomed.append(row[0])
        return doomed

    def _remove_blobs(self) -> None:
        for digest in self._blobs.old():
            with self._reading() as database:
                named = database.execute("SELECT 1 FROM blobs WHERE sha=?", (digest,)).fetchone()
            if named is None and digest not in self._unnamed:
                self._blobs.remove(digest)

    def _shrink(self) -> None:
        """Give the freed pages back to the disk when they are many, unless somebody is at work in the file."""
        try:
            free = self._database.execute("PRAGMA freelist_count").fetchone()[0]
            if free * 4 > self._database.execute("PRAGMA page_count").fetchone()[0]:
                self._database.execute(
                    "VACUUM"
                )  # rewrites what is left; the next runs fill fewer free pages by themselves
        except REFUSALS as error:
            told = self._told(error)
            if not isinstance(told, Busy):
                raise told from error

    # --- the file -----------------------------------------------------------------------------------------------------

    async def synced(self) -> None:
        """Return once everything appended so far would survive a power loss; all who wait share one sync.

        Raises:
            StoreError: The disk refused.
        """
        if self._syncer is not None:
            await self._syncer.synced()

    def close(self) -> None:
        """Bring what is left to the disk and let go of the file. A second call does nothing."""
        if self._syncer is not None:
            self._syncer.close()
        self._database.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._database
        except REFUSALS as error:
            told = self._told(error)
            raise (locked(self.place) if isinstance(told, Busy) else told) from error

    @contextmanager
    def _writing(self, *, urgent: bool = False) -> Iterator[sqlite3.Connection]:
        """A cold transaction: waits up to 5 s for others, and undoes everything when its body raises.

        ``urgent`` has it synced in the background now rather than within a second.
        """
        database = self._database
        try:
            database.execute(f"PRAGMA busy_timeout={round(WAIT_SECONDS * 1000)}")
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        except REFUSALS as error:
            told = self._undone(error)
            raise (locked(self.place) if isinstance(told, Busy) else told) from error
        except BaseException:
            self._roll_back()
            raise
        finally:
            with suppress(sqlite3.Error):  # closed or broken: the caller's own error says so
                database.execute("PRAGMA busy_timeout=0")
        if self._syncer is not None:
            self._syncer.committed(urgent=urgent)

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # SQLite may have undone it by itself
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    def _undone(self, error: Exception) -> Exception:
        self._roll_back()
        return self._told(error)

    def _told(self, error: Exception) -> Exception:
        return fault(error, self.place)


def _row(batch: LogBatch) -> tuple[int, int, int, bytes]:
    return batch.run, batch.first, counted(batch.count, batch.data), batch.data


def _those(name: str | None, since_ns: int | None) -> tuple[str, list[Any]]:
    """The condition, and its values, of the runs that are meant; never those that only hold a caller's own events."""
    conditions, values = "kind<>?", list[Any]([EVENTS_KIND])
    for condition, value in (("name=?", name), ("started_ns>=?", since_ns)):
        if value is not None:
            conditions += f" AND {condition}"
            values.append(value)
    return conditions, values


def _lock_within(descriptor: int, seconds: float, place: str) -> None:
    """Take a flock, waiting; for the moment in which a new store is made."""
    import fcntl

    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                raise locked(place) from None
            time.sleep(0.005)
        else:
            return


def _packed(definition: Mapping[str, Any] | None) -> tuple[bytes | None, str | None]:
    """A definition small, and its hash."""
    if definition is None:
        return None, None
    data = json.dumps(definition, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
    return zlib.compress(data, 1), hashlib.sha256(data).hexdigest()


def _unpacked(sha: str | None, packed: bytes | None) -> dict[str, Any] | None:
    """What :func:`_packed` was given; ValueError or zlib.error when it is not that any more."""
    if sha is None or packed is None:
        return None
    data = zlib.decompress(packed)
    if hashlib.sha256(data).hexdigest() != sha:
        raise ValueError(sha)
    return dict(json.loads(data))


def _text(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _owner() -> str:
    """For people who look into the table; the lease is what counts."""
    return f"{os.getpid()}@{os.uname().nodename}"
