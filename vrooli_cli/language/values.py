"""What expressions work on: reading a field, the text of a value, and the bounds that keep every evaluation short.

Shared by the path evaluator, the interpreter and the filters, so that ``a.b`` and the text of ``true`` mean one thing.
Values are plain data (null, true/false, numbers, text, lists, maps) or mapping-like views of it; nothing here reads a
Python attribute of a value or calls one, which is why an expression cannot leave its sandbox.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any, NoReturn

from vrooli_cli.errors import ExpressionError, did_you_mean

SECONDS = 1.0  # of wall time an evaluation (spec routine.md, "Values")
OUTPUT = 16 << 20  # bytes that one value may come to
WORK = 256 << 20  # bytes that one evaluation may make in all, thrown away or not
ITEMS = 1_000_000  # of one list that an expression makes
RANGE = 100_000  # numbers of range()
BITS = 4_096  # of a whole number that an expression makes

_TICKS = 500  # between two looks at the clock
_SHOWN = 8  # keys that an error lists


class Missing:
    """What is not there. ``default()``, ``is defined`` and a further field take it; any other use is an error."""

    __slots__ = ("_key", "_value")

    def __init__(self, value: object, key: object) -> None:
        self._value = value
        self._key = key

    def error(self) -> ExpressionError:
        """The sentence that says what was looked for, and what is there instead; never a value of the data."""
        value, key = self._value, self._key
        if isinstance(value, Mapping):
            return ExpressionError(f"there is no field {shown(key)}{_instead(key, value)}")
        if isinstance(value, list | tuple | str) and isinstance(key, int):
            return ExpressionError(f"there is no position {key} in {describe(value)} of length {len(value)}")
        return ExpressionError(f"{describe(value)} has no field {shown(key)}")


class MissingName(Missing):
    """A name that nothing defines."""

    __slots__ = ()

    def error(self) -> ExpressionError:
        """The sentence, with the nearest name that there is."""
        known = self._value if isinstance(self._value, Mapping) else {}
        return ExpressionError(f"there is no name {shown(self._key)}{_instead(self._key, known)}")


def _instead(key: object, known: Mapping[Any, Any]) -> str:
    names = [name for name in known if isinstance(name, str)]
    hint = did_you_mean(key, names) if isinstance(key, str) and len(names) <= 1_000 else ""
    if hint:
        return f"; {hint}"
    listed = ", ".join(shown(name) for name in names[:_SHOWN])
    more = ", …" if len(names) > _SHOWN else ""
    return f"; it has {listed}{more}" if names else "; it is empty"


def shown(key: object) -> str:
    """A key as an error shows it: quoted, on one line, at most about 60 characters."""
    told = repr(key) if isinstance(key, str | int | float | bool) else describe(key)
    return told if len(told) <= 60 else told[:59] + "…"


def describe(value: object) -> str:
    """The kind of a value in the user's words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true/false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a map"
        case _:
            return f"a {type(value).__name__}"


def lookup(value: Any, key: Any) -> Any:
    """``value.key`` or ``value[key]``: a key of a map, a position of a list or text; a field of null is null.

    Returns:
        The value, or a :class:`Missing`.
    """
    if value is None or isinstance(value, Missing):
        return value
    if isinstance(value, Mapping):
        try:
            return value[key]
        except (KeyError, TypeError):
            return Missing(value, key)
    if isinstance(value, list | tuple | str) and type(key) is int and -len(value) <= key < len(value):
        return value[key]
    return Missing(value, key)


def text_of(value: Any) -> str:
    """The text that a value becomes where there is text around it (spec routine.md, "Values")."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, list | tuple | Mapping):
        return json_of(value)
    return str(value)


def json_of(value: Any, indent: int | None = None) -> str:
    """A value as JSON, with Python's default separators; letters outside ASCII stay readable."""
    weigh(value)
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_plain)


def _plain(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise ExpressionError(f"a value of type {type(value).__name__} cannot be written as JSON")


def weigh(value: Any) -> int:
    """The rough size of a value in bytes, counting a shared part as often as it is reached.

    Raises:
        ExpressionError: It is over the limit, or holds a number that JSON cannot write.
    """
    total = 0
    stack: list[Iterable[Any]] = [(value,)]
    while stack:
        for item in stack.pop():
            kind = type(item)
            if kind is str:
                total += len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
            elif kind is int or item is None or kind is bool:
                total += 8
            elif kind is float:
                total += 8
                if not math.isfinite(item):
                    raise ExpressionError("the result is not a finite number")
            elif isinstance(item, list | tuple):
                total += 16 * len(item)
                stack.append(item)
            elif isinstance(item, Mapping):
                total += 32 * len(item)
                stack += (tuple(item), tuple(item.values()))
            if total > OUTPUT:
                too_large()
    return total


def too_large() -> NoReturn:
    """Raises the one error for a value over the limit."""
    raise ExpressionError(f"the value is too large: an expression may make at most {OUTPUT >> 20} MiB")


class Budget:
    """What one evaluation may still use: wall time, and bytes of everything that it makes.

    There is no signal and no thread: every node, every element of a loop or a filter is a tick, and whatever can grow
    is charged *before* it is made. A single operation on data within the bounds takes some tens of milliseconds.
    """

    __slots__ = ("_deadline", "_ticks", "_work")

    def __init__(self, seconds: float = SECONDS) -> None:
        self._deadline = monotonic() + seconds
        self._ticks = _TICKS
        self._work = WORK

    def tick(self) -> None:
        """One small piece of work."""
        self._ticks -= 1
        if self._ticks <= 0:
            self._look()

    def _look(self) -> None:
        self._ticks = _TICKS
        if monotonic() > self._deadline:
            raise ExpressionError(f"the expression took longer than {SECONDS:g} s")

    def charge(self, size: int) -> None:
        """``size`` bytes are about to be made."""
        self._work -= size
        if size > OUTPUT or self._work < 0:
            too_large()
        if size > 65_536:
            self._look()

    def items(self, count: int) -> None:
        """A list of ``count`` items is about to be made."""
        if count > ITEMS:
            raise ExpressionError(f"the list is too long: an expression may make at most {ITEMS:,} items")
        self.charge(8 * count)

    def each(self, values: Iterable[Any]) -> Iterable[Any]:
        """The values, a tick each."""
        for value in values:
            self.tick()
            yield value
