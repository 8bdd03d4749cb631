"""Check sums of what the store keeps: a bit that a disk has turned is told, and never taken for a result.

SQLite finds damage in its own pages, not in what stands in them. A sum costs under a microsecond a commit.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

_MASK: Final = 0x7FFF_FFFF  # 31 bits: with the count below them a positive number of SQLite's 64
_MARK: Final = b"\0"  # what an earlier vrooli kept without a sum is JSON, and never begins so


def counted(count: int, data: bytes) -> int:
    """The number of the events in a row and the sum of its data, as one number."""
    return (crc32(data) & _MASK) << 32 | count


def count_of(number: int, data: bytes) -> int:
    """How many events a row has; -1 when its data is not what was summed. Rows of an earlier vrooli have no sum."""
    kept, count = number >> 32, number & 0xFFFF_FFFF
    return count if kept in (0, crc32(data) & _MASK) else -1


def summed(data: bytes) -> bytes:
    """Data with its sum before it."""
    return _MARK + crc32(data).to_bytes(4, "big") + data


def intact(kept: bytes) -> bytes | None:
    """What :func:`summed` was given; None when it is not that any more."""
    if not kept.startswith(_MARK):
        return kept
    data = kept[5:]
    return data if kept[1:5] == crc32(data).to_bytes(4, "big") else None
