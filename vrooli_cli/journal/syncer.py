"""The thread that brings commits to the disk: once a second while there are new ones, and when somebody waits.

It opens the ``-wal`` file only. Closing a descriptor of the database file itself would drop the locks that SQLite holds
on it in this process (POSIX locks belong to the file, not to the descriptor). The folder's entry of a new ``-wal``
needs nothing: SQLite syncs header and folder when it makes one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from vrooli_cli.errors import StoreError
from vrooli_cli.journal.faults import os_fault

INTERVAL_SECONDS: Final = 1.0


class Syncer:
    """Counts commits and syncs them in the background.

    The thread gets the interpreter's lock only when the loop lets go of it, and whoever waits for a sync waits for that
    each time. So the thread wakes once, syncs a descriptor that it keeps, and answers all who waited with one word.

    Attributes:
        failure: The disk refused; what was committed since the last sync may be lost on a power loss.
    """

    def __init__(self, wal: Path) -> None:
        self.failure: StoreError | None = None
        self._wal = wal
        self._descriptor = -1
        self._commits = 0
        self._synced = 0
        self._thread: threading.Thread | None = None
        self._urgent = threading.Event()
        self._ended = False
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []

    def committed(self, *, urgent: bool = False) -> None:
        """One more commit is in the page cache; ``urgent`` has it synced now instead of within a second."""
        self._commits += 1
        if urgent:
            self._urgent.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vrooli-sync", daemon=True)
            self._thread.start()

    async def synced(self) -> None:
        """Return once every commit so far is on the disk; all who wait share one sync.

        Raises:
            StoreError: The disk refused.
        """
        if self._synced < self._commits:
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            with self._lock:  # who comes after the last answer has to see why it was the last
                if self.failure is not None:
                    raise StoreError(self.failure.message)
                self._waiting.append(_Waiting(self._commits, loop, done))
            self._urgent.set()
            await done
        if self.failure is not None:
            raise StoreError(self.failure.message)

    def close(self) -> None:
        """Sync what is left and end the thread."""
        if self._thread is None:
            return
        self._ended = True
        self._urgent.set()
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
        while self.failure is None and not (self._ended and self._synced == self._commits):
            self._urgent.wait(INTERVAL_SECONDS)
            self._urgent.clear()
            if self._synced != self._commits:
                self._sync()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _sync(self) -> None:
        commits = self._commits
        try:
            self._sync_file()
        except OSError as error:
            self.failure = os_fault(error, str(self._wal))
        self._synced = commits
        with self._lock:
            ready = [one for one in self._waiting if one.commits <= commits or self.failure is not None]
            self._waiting = [one for one in self._waiting if one not in ready]
        for loop in {one.loop for one in ready}:
            answered = [one.done for one in ready if one.loop is loop]
            with suppress(RuntimeError):  # that loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_resolve, answered)

    def _sync_file(self) -> None:
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self._wal, os.O_RDWR)
            except FileNotFoundError:
                return  # the last checkpoint has brought all of it into the database file, and synced that
        _data_sync(self._descriptor)


class _Waiting(NamedTuple):
    """Somebody who waits until so many commits are on the disk."""

    commits: int
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


def _data_sync(descriptor: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:  # macOS has none
        os.fsync(descriptor)


def _resolve(answered: list[asyncio.Future[None]]) -> None:
    for done in answered:
        if not done.done():
            done.set_result(None)
