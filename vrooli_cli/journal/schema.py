"""The tables, and how an older store becomes a newer one: forward only, each step adds."""

from __future__ import annotations

import sqlite3
from typing import Final

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # The hot path: one row a commit; `data` is `n` events, a line each. The row number is the run key
        # and the number of the first event (`place` below), so rows of a run lie together in order without an index:
        # an index is a second page a commit, half the price again.
        "CREATE TABLE log(place INTEGER PRIMARY KEY, n INTEGER NOT NULL, data BLOB NOT NULL)",
        # Cold: written at a run's start, at a change of status and at its end. What is large stands last.
        "CREATE TABLE runs(key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, kind TEXT NOT NULL,"
        " path TEXT NOT NULL, status TEXT NOT NULL, started_ns INTEGER NOT NULL, ended_ns INTEGER, parent TEXT,"
        " user TEXT NOT NULL, error_code TEXT, credits INTEGER NOT NULL, owner TEXT NOT NULL, definition TEXT,"
        " context TEXT, settings TEXT, inputs TEXT)",
        # Definitions by their hash: a hundred runs of one routine keep its text once.
        "CREATE TABLE texts(sha TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
        # Which run's log names which file of the blobs folder.
        "CREATE TABLE blobs(sha TEXT NOT NULL, run INTEGER NOT NULL, PRIMARY KEY(sha, run)) WITHOUT ROWID",
        "CREATE INDEX blobs_run ON blobs(run)",
        "CREATE TABLE cache(key TEXT PRIMARY KEY, run INTEGER, address TEXT NOT NULL, expires_ns INTEGER,"
        " data BLOB NOT NULL)",
        "CREATE TABLE plans(key TEXT PRIMARY KEY, used_ns INTEGER NOT NULL, data BLOB NOT NULL)",
        "CREATE TABLE inbox(id INTEGER PRIMARY KEY, run INTEGER NOT NULL, command TEXT NOT NULL)",
        "CREATE INDEX inbox_run ON inbox(run)",
    ),
    # Version 2 has the tables of 1: `log.n` holds a sum above its low 32 bits, the data of `cache` and `plans` begins
    # with one (sums.py). What was kept before has none and is still read; a process of version 1 that is at work while
    # this is done can go on.
    (),
)
VERSION: Final = len(MIGRATIONS)


def place(run: int, first: int) -> int:
    """The number of the row whose first event has number ``first``; a run has up to 2**32 events."""
    return run << 32 | first


def version_of(database: sqlite3.Connection) -> int:
    """Which migrations this store has had; 0 for a new one."""
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(database: sqlite3.Connection) -> None:
    """Bring the store to :data:`VERSION` in one transaction. The caller holds the store's own flock."""
    database.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[version_of(database) :]:
            for statement in statements:
                database.execute(statement)
        database.execute(f"PRAGMA user_version={VERSION}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
