"""What may leave a tool: plain data that JSON can say, within bounds (spec routine.md, "Values")."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from enum import Enum
from os import PathLike
from typing import Any, Final

from vrooli_cli.errors import ToolError

MAX_BYTES: Final = 64 << 20
MAX_NODES: Final = 2_000_000
MAX_DEPTH: Final = 100
_MAX_BITS: Final = 4_096  # of a whole number: the bound of expressions, too
_SHOWN: Final = 2_000  # characters of a text, and items of a list, that the event of a written call keeps
_CONSTANTS: Final = frozenset({bool, type(None)})


def plain_result(value: Any) -> Any:
    """``value`` itself when it is plain data; tuples, other mappings and enums become lists, maps and their values.

    Raises:
        ToolError: ``OUTPUT_INVALID``, with the place and what stands there.
    """
    kind = type(value)
    if kind in _CONSTANTS or (kind is str and len(value) < _SHOWN and value.isascii()):
        return value
    check = _Check()
    try:
        return value if check.is_plain(value, 0) else _rebuilt(value)
    except _Unfit as unfit:
        place = "" if unfit.value is None else next((path for path, one in _walk(value) if one is unfit.value), "")
        told = f"the result{place} {unfit.reason}"
        raise ToolError(told, code="OUTPUT_INVALID", retryable=False) from None


class _Unfit(Exception):
    """A value that has no place in a result."""

    def __init__(self, value: Any, reason: str) -> None:
        self.value = value
        self.reason = reason


class _Check:
    """One pass over a result; every value costs a part of the bounds."""

    __slots__ = ("nodes", "size")

    def __init__(self) -> None:
        self.size = MAX_BYTES
        self.nodes = MAX_NODES

    def is_plain(self, value: Any, depth: int) -> bool:
        """True when nothing has to be rebuilt.

        Raises:
            _Unfit: It cannot be.
        """
        kind = type(value)
        if kind is str:
            self._take(value, _size(value))
        elif kind is dict:
            self._enter(value, depth, 16 * len(value))
            fits = [self._key(key, value) and self.is_plain(one, depth + 1) for key, one in value.items()]
            return all(fits)
        elif kind is list:
            self._enter(value, depth, 8 * len(value))
            fits = [self.is_plain(one, depth + 1) for one in value]
            return all(fits)
        else:
            return self._other(value, kind, depth)
        return True

    def _other(self, value: Any, kind: type, depth: int) -> bool:
        self._take(value, 8)
        if kind in _CONSTANTS:
            return True
        if kind is int or kind is float:
            _number(value)
            return True
        if isinstance(value, Enum | str | int | float):
            self.is_plain(_value_of(value), depth)
            return False
        if isinstance(value, tuple | list):
            self.is_plain(list(value), depth)
            return False
        if isinstance(value, Mapping):
            self.is_plain(dict(value), depth)
            return False
        raise _Unfit(value, _named(value))

    def _key(self, key: Any, where: Any) -> bool:
        if not isinstance(key, str):
            raise _Unfit(where, f"has the key {key!r:.40}; keys of a map must be text")
        return self.is_plain(key, 0)

    def _enter(self, value: Any, depth: int, size: int) -> None:
        if depth >= MAX_DEPTH:
            raise _Unfit(None, f"is nested more than {MAX_DEPTH} levels deep, or contains itself")
        self._take(value, size)

    def _take(self, value: Any, size: int) -> None:
        self.size -= size
        self.nodes -= 1
        if self.size < 0 or self.nodes < 0:
            bound = f"{MAX_BYTES >> 20} MiB or {MAX_NODES:,} values"
            raise _Unfit(None, f"is larger than {bound}; write it to a file and return the path")


def _size(text: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        reason = "holds half of a surrogate pair, which is not Unicode text; decode it with errors='replace'"
        raise _Unfit(text, reason) from None


def _number(value: float) -> None:
    if isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            raise _Unfit(value, f"is a whole number of more than {_MAX_BITS} bits")
    elif not math.isfinite(value):
        raise _Unfit(value, f"is {value}, which JSON cannot say; return null or text")


def _value_of(value: Any) -> Any:
    """A subclass's plain value: of an enum its value, of other text and numbers the text and number."""
    if isinstance(value, Enum):
        return value.value
    plain: Callable[[Any], Any] = str.__str__ if isinstance(value, str) else float if isinstance(value, float) else int
    return plain(value)


def _named(value: Any) -> str:
    """What a value is that cannot be a result, and what to do."""
    if isinstance(value, bytes | bytearray | memoryview):
        return "is bytes, which JSON cannot say; decode them, or return them as base64"
    if isinstance(value, set | frozenset):
        return "is a set, which JSON cannot say; return sorted(…)"
    if isinstance(value, datetime | date):
        return f"is a {type(value).__name__}, which JSON cannot say; return its .isoformat()"
    if isinstance(value, PathLike):
        return "is a path object, which JSON cannot say; return str(…)"
    return f"is a {type(value).__name__}, which JSON cannot say; return text, numbers, lists and maps"


def _walk(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every value with its place; only for telling where something unfit stands."""
    yield path, value
    if depth > MAX_DEPTH:
        return
    inner: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Mapping):
        inner = ((f".{key}", one) for key, one in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"[{at}]", one) for at, one in enumerate(value))
    for name, one in inner:
        yield from _walk(one, path + name, depth + 1)


def _rebuilt(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_rebuilt(key): _rebuilt(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rebuilt(one) for one in value]
    if isinstance(value, Enum):
        return _rebuilt(value.value)
    if isinstance(value, str | int | float) and type(value) not in (str, int, float, bool):
        return _value_of(value)
    return value


def abridged(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parameters as the event of a written call keeps them: long texts and long lists are cut, and say so."""
    for value in parameters.values():
        if not _is_short(value):
            return {key: _cut(value) for key, value in parameters.items()}
    return parameters


def _is_short(value: Any) -> bool:
    kind = type(value)
    return (kind is str and len(value) <= _SHOWN) or kind in _CONSTANTS or kind is int or kind is float


def _cut(value: Any, left: int = 6) -> Any:
    if isinstance(value, str):
        return str(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]}… ({len(value):,} characters)"
    if isinstance(value, Mapping):
        return _cut_map(value, left)
    if isinstance(value, list | tuple):
        if left == 0 and value:
            return [f"… ({len(value):,} items)"]
        kept = [_cut(one, left - 1) for one in value[:_KEPT]]
        return kept if len(value) <= _KEPT else [*kept, f"… ({len(value):,} items)"]
    return value


def _cut_map(value: Mapping[str, Any], left: int) -> Mapping[str, Any]:
    if left == 0 and value:
        return {"…": f"{len(value):,} keys"}
    kept = {key: _cut(one, left - 1) for key, one in list(value.items())[:_KEPT]}
    if len(value) > _KEPT:
        kept["…"] = f"{len(value):,} keys"
    return kept


_KEPT: Final = 50  # items of one list or map in the event of a written call
