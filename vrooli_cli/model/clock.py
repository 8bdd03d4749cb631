"""Time and identity as things that are handed in, so that a test can freeze both."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Clock(Protocol):
    """Where time comes from."""

    def now_ns(self) -> int:
        """Wall time, nanoseconds since 1970."""

    def monotonic(self) -> float:
        """Seconds that never jump, from an arbitrary start."""


class Ids(Protocol):
    """Where new identities come from."""

    def new(self) -> str:
        """A fresh run id: text that sorts by age, safe in file names and URLs."""


class SystemClock:
    """The machine's own time."""

    def now_ns(self) -> int:
        """Wall time, nanoseconds since 1970."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds since the machine's start."""
        return time.monotonic()


class RandomIds:
    """Ids that nobody has to coordinate: milliseconds in base 32, then 40 random bits; so `runs list` sorts by age."""

    _ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"

    def new(self) -> str:
        """Such as ``1jb3k9x2a-7f3q0d2m`` (9 + 8 characters)."""
        return f"{self._base32(time.time_ns() // 1_000_000, 9)}-{self._base32(uuid.uuid4().int >> 88, 8)}"

    def _base32(self, number: int, width: int) -> str:
        digits = []
        for _ in range(width):
            number, digit = divmod(number, 32)
            digits.append(self._ALPHABET[digit])
        return "".join(reversed(digits))


def ns_of(moment: datetime) -> int:
    """Nanoseconds since 1970; exact, unlike ``timestamp()``."""
    return (moment - _EPOCH) // _MICROSECOND * 1000


def active_ns(told_ms: int, before: int, life: int) -> int:
    """How long a run has been at work over all its lives, in nanoseconds, when one of them is over.

    Args:
        told_ms: What the event that ended it says of all of them, and lists and the next life count; 0 in an older log.
        before: Nanoseconds of the lives before it.
        life: Its own, by the times of its events, which the log has cut.
    """
    return told_ms * 1_000_000 or before + max(0, life)


def child_id(root: str, address: str, attempt: int) -> str:
    """The execution id of a child run: the same for the same place in the same run, also after a resume."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{root}/{address}@{attempt}"))
