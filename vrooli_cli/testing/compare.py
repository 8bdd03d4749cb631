"""What was expected against what came: the differences, each one line that names its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

REST: Final = "*"
"""The last item of an expected list that stands for all further ones."""

_SHOWN: Final = 200


def differences(expected: Any, got: Any, place: str, *, exact: bool) -> Iterator[str]:
    """Every difference between data.

    Args:
        expected: What the case says.
        got: What came.
        place: What the place is called.
        exact: False lets maps have further keys, and :data:`REST` end a list.
    """
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        yield from _maps(expected, got, place, exact)
    elif _is_list(expected) and _is_list(got):
        yield from _lists(list(expected), list(got), place, exact)
    elif isinstance(expected, str) and isinstance(got, str) and "\n" in expected + got:
        yield from _texts(expected, got, place)
    elif not _same(expected, got):
        yield f"{place}: expected {told(expected)}, got {told(got)}"


def _maps(expected: Mapping[str, Any], got: Mapping[str, Any], place: str, exact: bool) -> Iterator[str]:
    for key, value in expected.items():
        if key not in got:
            yield f"{place}: expected the key {key!r}, got {_keys(got)}"
        else:
            yield from differences(value, got[key], f"{place}.{key}", exact=exact)
    if exact:
        for key in got:
            if key not in expected:
                yield f"{place}: got the key {key!r} that was not expected, with {told(got[key])}"


def _lists(expected: list[Any], got: list[Any], place: str, exact: bool) -> Iterator[str]:
    open_end = not exact and bool(expected) and expected[-1] == REST
    wanted = expected[:-1] if open_end else expected
    for n, (one, other) in enumerate(zip(wanted, got, strict=False)):
        yield from differences(one, other, f"{place}[{n}]", exact=exact)
    if len(got) < len(wanted):
        yield f"{place}: expected {_items(len(wanted))}{' at least' if open_end else ''}, got {_items(len(got))}"
    elif len(got) > len(wanted) and not open_end:
        extra = f"the first one more is {told(got[len(wanted)])}"
        yield f"{place}: expected {_items(len(wanted))}, got {len(got)}; {extra}"


def _texts(expected: str, got: str, place: str) -> Iterator[str]:
    """The first line in which two texts differ."""
    if expected == got:
        return
    lines, others = expected.split("\n"), got.split("\n")
    pairs = zip_longest(lines, others)
    n, (one, other) = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
    wanted = "the end of the text" if one is None else told(one)
    came = "the end of the text" if other is None else told(other)
    yield f"{place}, line {n + 1}: expected {wanted}, got {came}"


def matches(expected: Any, got: Any) -> bool:
    """True when ``expected`` is a part of ``got``."""
    return next(differences(expected, got, "", exact=False), None) is None


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"


def _keys(got: Mapping[str, Any]) -> str:
    return f"the keys {', '.join(map(str, list(got)[:12]))}" if got else "none"


def told(value: Any) -> str:
    """A value in one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
