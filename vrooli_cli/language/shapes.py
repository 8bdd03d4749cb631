"""What many expressions of a file have in common, so that it is parsed once.

In a generated file every step has its own ids in the same expression: ``steps.s17.result | upper``, ``steps.s18.result
| upper``. Jinja's parser takes some hundred microseconds for each; finding the words in which they differ takes ten.
:func:`shape_of` puts a slot into the place of every field's name, text and whole number, which leaves the *shape*; what
stood there is kept beside it. A tree of a shape stands for all its expressions: a node that holds a :class:`Slot` takes
the word of the expression that is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Any, Final

_MARK: Final = "þ"  # a letter to Jinja; the texts that have shapes are ASCII
_NUMBER: Final = 10**20  # added to the place of a number's slot; numbers that have slots are smaller
_LONGEST: Final = 1_000  # letters of an expression that has a shape

# What is swallowed whole, so that nothing in it is taken for a field: an id of a step with what may be its dashes, a
# name, a number, a text. A quote that begins no plain text ends the search.
_PARTS: Final = re.compile(
    r"""(?<![\w.])(?P<root>steps|tasks)\.(?P<run>[A-Za-z_][\w-]*)(?P<after>\.\d)?
    | [A-Za-z_]\w*
    | (?P<dot>\.\s*)(?P<field>[A-Za-z_]\w*)
    | (?<!-)(?<!-\ )(?P<number>0|[1-9]\d{0,14})(?![\w.]) | \d[\w.]* | \.\s*\d[\w.]*
    | '(?P<text>[^'\\\r\n]*)' | "(?P<quoted>[^"\\\r\n]*)"
    | (?P<odd>['"\\])""",
    re.VERBOSE | re.ASCII,
)
_CALL: Final = re.compile(r"\s*\(")


class Slot(int):
    """In a tree: the place of a word among those that were left out of its shape."""

    __slots__ = ()


Ids = Container[str]
"""Ids of steps with ``-`` in them, which an expression may write ``steps.a-b``; only asked with ``in``."""

Words = tuple[str | int, ...]
"""What stood in the slots of one expression, in order."""


def shape_of(text: str, dashed: Ids) -> tuple[str, Words] | None:
    """The shape of an expression, and what was left out; None for one that has to be parsed by itself.

    Args:
        text: Without braces.
        dashed: The ids with ``-`` that may be written ``steps.a-b``.
    """
    if len(text) > _LONGEST or not text.isascii():
        return None
    words: list[str | int] = []
    shape: list[str] = []
    end = 0
    for part in _PARTS.finditer(text):
        kind = part.lastgroup
        if kind is None:
            continue
        if kind in ("odd", "after"):
            return None
        if kind == "run":
            put = _step(part, dashed, words, text)
        elif kind == "field":
            put = _field(part["dot"], part["field"], part.end(), words, text)
        elif kind == "number":
            words.append(int(part["number"]))
            put = str(_NUMBER + len(words) - 1)
        else:
            words.append(part[kind])
            put = f"'{_MARK}{len(words) - 1}'"
        shape += (text[end : part.start()], put)
        end = part.end()
    if not words:
        return None
    return "".join((*shape, text[end:])), tuple(words)


def _step(part: re.Match[str], dashed: Ids, words: list[str | int], text: str) -> str:
    """``steps.a-b``: the longest id with dashes that there is, or the first name and a subtraction."""
    run = part["run"]
    known = dashed_id(run, dashed)
    if known is not None:
        words.append(known)
        return f"{part['root']}['{_MARK}{len(words) - 1}']{run[len(known) :]}"
    name, dash, rest = run.partition("-")
    end = part.end() if not dash else part.start() + len(part["root"]) + 1 + len(name)
    return part["root"] + _field(".", name, end, words, text) + dash + rest


def _field(dot: str, name: str, end: int, words: list[str | int], text: str) -> str:
    """A slot, but for the name of a method and one that is refused."""
    if name[0] == "_" or _CALL.match(text, end):
        return dot + name
    words.append(name)
    return f"{dot}{_MARK}{len(words) - 1}"


def dashed_id(run: str, dashed: Ids) -> str | None:
    """The longest of these ids that a run of words and dashes begins with and that ends at one of its dashes."""
    end = len(run)
    while "-" in run[:end]:
        if run[:end] in dashed:
            return run[:end]
        end = run.rfind("-", 0, end)
    return None


def open_slots(nodes: Iterable[Any], count: int) -> bool:
    """Put slots into a tree that was parsed from a shape; False unless each is found in exactly one place."""
    found: list[int] = []
    for node in nodes:
        kind = type(node).__name__
        attribute = "attr" if kind == "Getattr" else "value" if kind == "Const" else ""
        place = _place(getattr(node, attribute)) if attribute else None
        if place is not None:
            found.append(place)
            setattr(node, attribute, Slot(place))
    return sorted(found) == list(range(count))


def _place(word: Any) -> int | None:
    """Which slot a word of a shape stands for."""
    if type(word) is int and word >= _NUMBER:
        return word - _NUMBER
    if isinstance(word, str) and word.startswith(_MARK) and word[1:].isdecimal():
        return int(word[1:])
    return None
