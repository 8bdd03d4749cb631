"""Who is working on a run: a lock that the kernel lets go at the instant its process dies."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote

from vrooli_cli.errors import StoreError
from vrooli_cli.journal.faults import os_fault

_TRIES: Final = 5  # somebody who only asks whether a run is alive holds a shared lock for microseconds


class Lease:
    """The right to work on one run, until :meth:`release` or the end of the process.

    It never expires while its process lives, however busy; it needs no clock and no renewal.
    """

    __slots__ = ("_descriptor", "_earlier", "_held", "_path", "run_id")

    def __init__(self, run_id: str, descriptor: int | None, path: Path | None, held: set[str]) -> None:
        self.run_id = run_id
        self._descriptor = descriptor
        self._path = path
        self._held = held
        self._earlier = b"" if descriptor is None else _content(descriptor)

    def note(self, data: bytes) -> None:
        """Leave word for whoever finds the run dead (:meth:`Leases.notes`): lines, in place of those noted before.

        What earlier owners noted, who died, stays. A disk that takes no more is told elsewhere.
        """
        if self._descriptor is not None:
            data = self._earlier + data
            with suppress(OSError):
                os.pwrite(self._descriptor, data, 0)
                os.ftruncate(self._descriptor, len(data))

    def release(self) -> None:
        """Let others work on the run. A second call does nothing."""
        self._held.discard(self.run_id)
        if self._descriptor is not None and self._path is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):
                self._path.unlink()
            os.close(descriptor)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class Leases:
    """The leases of one store; ``folder`` is None for a store in memory, whose runs nobody else can see."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._held: set[str] = set()

    def take(self, run_id: str) -> Lease | None:
        """The lease of a run; None when somebody (this process included) holds it.

        Raises:
            StoreError: The folder of the locks cannot be written.
        """
        if run_id in self._held:
            return None
        if self._folder is None:
            self._held.add(run_id)
            return Lease(run_id, None, None, self._held)
        path = self._folder / _file_name(run_id)
        for attempt in range(_TRIES):
            descriptor = _lock(path)
            if descriptor is not None:
                self._held.add(run_id)
                return Lease(run_id, descriptor, path, self._held)
            if attempt + 1 < _TRIES:
                time.sleep(0.002)
        return None

    def notes(self, run_id: str) -> bytes:
        """What the owners of a run noted who did not release it; the last line may be half of one."""
        if self._folder is None:
            return b""
        try:
            return (self._folder / _file_name(run_id)).read_bytes()
        except OSError:
            return b""

    def is_held(self, run_id: str) -> bool:
        """Whether a living process, this one included, works on the run."""
        if run_id in self._held:
            return True
        if self._folder is None:
            return False
        try:
            descriptor = os.open(self._folder / _file_name(run_id), os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of the file that is at ``path`` now."""
    while True:
        descriptor = open_lock(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        try:
            here = path.stat()
        except OSError:
            here = None
        if here is not None and here.st_ino == os.fstat(descriptor).st_ino:
            return descriptor
        os.close(descriptor)  # its last owner removed the file between our open and our lock


def open_lock(path: Path) -> int:
    """Open a lock file, made with its folder when it is not there.

    Raises:
        StoreError: It cannot be made.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise os_fault(error, str(path.parent)) from error
    except OSError as error:
        raise _told(error, path) from error


def _told(error: OSError, path: Path) -> StoreError:
    return os_fault(error, str(path.parent))


def _file_name(run_id: str) -> str:
    """A caller's own ids may hold anything; ``.`` is quoted by hand so that ``..`` stays in the folder."""
    name = quote(run_id, safe="", errors="surrogatepass").replace(".", "%2E")
    if len(name) > 200:
        return hashlib.sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()
    return name
