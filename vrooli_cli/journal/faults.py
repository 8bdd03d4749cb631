"""What SQLite and the file system refuse, as one line a person can act on."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from vrooli_cli.errors import StoreError
from vrooli_cli.model.store import Busy

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_ELSEWHERE = "or pass another --store FILE"
_DAMAGED = f"is damaged; move it away (a new one is made), restore a copy {_ELSEWHERE}"
_ADVICE = {
    sqlite3.SQLITE_FULL: f"cannot be written, the disk is full; free some space {_ELSEWHERE}",
    sqlite3.SQLITE_IOERR: f"cannot be read or written (input/output error); check disk and quota {_ELSEWHERE}",
    sqlite3.SQLITE_READONLY: f"cannot be written; make the file and its folder writable {_ELSEWHERE}",
    sqlite3.SQLITE_PERM: f"cannot be written; make the file and its folder writable {_ELSEWHERE}",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: f"is not a vrooli store; check the name {_ELSEWHERE}",
}


REFUSALS = sqlite3.Error, UnicodeDecodeError
"""What sqlite3 raises; the second where a damaged file spoils the very words of an error."""


def fault(error: Exception, place: str) -> Exception:
    """The exception to raise for one of SQLite's: :class:`Busy` when the same may work in a moment."""
    if isinstance(error, UnicodeDecodeError):
        return damaged(place)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the family, e.g. of SQLITE_BUSY_SNAPSHOT
    if code in _BUSY:
        return Busy(str(error))
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreError(f"the store {place} {_cannot_open(Path(place))}")
    return StoreError(f"the store {place} {_ADVICE.get(code, f'failed: {error}')}")


def damaged(place: str) -> StoreError:
    """For rows that SQLite reads and that are not what was written."""
    return StoreError(f"the store {place} {_DAMAGED}")


def locked(place: str) -> StoreError:
    """For a lock that was not let go in time."""
    return StoreError(f"the store {place} stays locked by another process; end that process {_ELSEWHERE}")


def os_fault(error: OSError, place: str) -> StoreError:
    """For a file beside the store."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(f"{place} cannot be written, the disk is full; free some space {_ELSEWHERE}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreError(f"{place} cannot be written; make the folder writable {_ELSEWHERE}")
    return StoreError(f"{place} cannot be read or written: {error.strerror}; check disk and folder {_ELSEWHERE}")


def _cannot_open(place: Path) -> str:
    if place.is_dir():
        return f"is a folder; name a file in it {_ELSEWHERE}"
    if not place.parent.is_dir():
        return f"cannot be made, there is no folder {place.parent}; make the folder {_ELSEWHERE}"
    return f"cannot be opened; make the file and its folder writable {_ELSEWHERE}"
