"""Durations as people write them: ``30s``, ``1h30m``, ``250ms``, a bare number is seconds (spec routine.md)."""

from __future__ import annotations

import re

UNITS_MS: dict[str, int] = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
LONGEST_MS = 3650 * UNITS_MS["d"]
"""Ten years; what is longer is a slip of the hand, and timers would not hold it."""

EXAMPLE = "a duration such as 30s, 5m or 1h30m"
# The same form for editors: JSON Schema's `pattern` of a duration's text.
PATTERN = r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*((ms|s|m|h|d)\s*(([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(ms|s|m|h|d)\s*)*)?$"

_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*")
_ORDER = tuple(UNITS_MS)


def parse_duration(text: str | int | float) -> int:
    """A duration in milliseconds.

    Args:
        text: ``500ms``, ``30s``, ``5m``, ``2h``, ``1d``, a combination from the largest unit to the smallest
            (``1h30m``), or a bare number, which is seconds.

    Raises:
        ValueError: It is no duration, or longer than ten years; the message is one line for people.
    """
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError(f"expected {EXAMPLE}")
    milliseconds = _parts(text) if isinstance(text, str) else text * 1000
    if not 0 <= milliseconds <= LONGEST_MS:  # also refuses NaN
        raise ValueError("a duration is not negative" if milliseconds < 0 else "a duration is at most 3650d")
    return round(milliseconds)


def _parts(text: str) -> float:
    text = text.strip()
    if len(text) > 60 or not text.isascii():
        raise ValueError(f"expected {EXAMPLE}")
    total, position, last = 0.0, 0, -1
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise ValueError(f"{text!r} is not {EXAMPLE}")
        number, unit = part.groups()
        if not unit and (position or part.end() < len(text)):
            raise ValueError(f"{text!r}: the number {number} has no unit; units are ms, s, m, h and d")
        total += float(number) * _unit(unit or "s", text)
        rank = _ORDER.index(unit or "s")
        if rank <= last:
            raise ValueError(f"{text!r}: write each unit once, the largest first, as in 1h30m")
        last, position = rank, part.end()
    if last < 0:
        raise ValueError(f"expected {EXAMPLE}")
    return total


def _unit(unit: str, text: str) -> int:
    try:
        return UNITS_MS[unit]
    except KeyError:
        raise ValueError(f"{text!r}: {unit!r} is not a unit; units are ms, s, m, h and d") from None


def format_duration(milliseconds: int) -> str:
    """The shortest exact text that :func:`parse_duration` reads back, e.g. ``1h30m``; ``0s`` for nothing."""
    parts = []
    for unit, size in UNITS_MS.items():
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
