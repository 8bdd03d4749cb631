"""Where things stand in a text: pointers and offsets to ``file:line:column`` and an excerpt with a caret.

While a file is read, one node is noted for each value, in the order of the text, as four parallel columns (20 bytes a
value; the keys are the data's own). That costs about a twentieth of the reading; reading again when a problem has to be
shown would cost nothing before, but would double the time of the worst file. The rest waits until somebody asks: lines
are counted, and the children of a node indexed, at the first question.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from vrooli_cli.errors import Pointer, Problem

EXCERPT_CELLS: Final = 76
"""Terminal cells of an excerpt at most, so that it stands in 80 columns."""

OPEN: Final = 2**32 - 1
"""The end of a collection whose end has not been read (yet)."""

_CELLS_BEFORE_CARET: Final = 50
_TAB: Final = "    "
_CHUNK_BITS: Final = 16
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PLAIN_LINE: Final = re.compile(r"[\x20-\x7e]*")


def visible(text: str) -> str:
    """``text`` on one line with nothing that moves a cursor, colours, or reorders: such characters become escapes."""
    if _PLAIN_LINE.fullmatch(text):
        return text
    return "".join(map(_visible, text))


def shown(word: str) -> str:
    """A word of the user's inside a sentence: in quotes, on one line, at most 40 characters."""
    return f"'{visible(word if len(word) <= 40 else word[:39] + '…')}'"


def _visible(char: str) -> str:
    if char == "\t":
        return _TAB
    if unicodedata.category(char) not in _HIDDEN:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _words(text: str) -> re.Pattern[str]:
    """These words, whatever white space a folded value has between them, and no longer name than they are."""
    words = r"\s+".join(map(re.escape, text.split()))
    before = r"(?<![\w.])" if text[:1].isalnum() or text[:1] == "_" else ""
    after = r"(?![\w-])" if text[-1:].isalnum() or text[-1:] == "_" else ""
    return re.compile(before + words + after)


def _cells(text: str) -> int:
    """Terminal cells of one character as it is shown; an escape is ASCII."""
    if len(text) > 1:
        return len(text)
    if unicodedata.category(text) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(text) in "WF" else 1


# What a key may be written as: other floors point at the long name (spec routine.md, "Keys").
_WRITTEN_AS: dict[str | int, str] = {"parameters": "with", "depends_on": "needs"}


class Places:
    """The values of a document in the order of the text, as parallel columns; node 0 is the root.

    Attributes:
        names: The mapping key of a value; None for the root and for items of a list.
        keys: Offset of that key; of the value itself where there is none.
        values: Offset of the value.
        ends: The number of the node after the last one inside a collection, :data:`OPEN` until that is known; 0 for a
            scalar.
        links: Node of an alias to the node of its anchor.
    """

    __slots__ = ("_children", "ends", "keys", "links", "names", "values")

    def __init__(self) -> None:
        self.names: list[str | None] = []
        self.keys = array("I")
        self.values = array("I")
        self.ends = array("I")
        self.links: dict[int, int] = {}
        self._children: dict[int, dict[str | int, int]] = {}

    def note(self, name: str | None, key: int, value: int) -> int:
        """Add a scalar, or a collection whose end is set later; returns the number of nodes."""
        self.names.append(name)
        self.keys.append(key)
        self.values.append(value)
        self.ends.append(0)
        return len(self.ends)

    def innermost_open(self) -> int:
        """The last collection whose end has not been read; the root when there is none."""
        return next((node for node in range(len(self.ends) - 1, 0, -1) if self.ends[node] == OPEN), 0)

    def find(self, pointer: Pointer) -> tuple[int, bool]:
        """The node at ``pointer``, or its nearest ancestor, and whether it is the node itself."""
        node = 0
        for part in pointer:
            inside = self.children(self.links.get(node, node))
            child = inside.get(part)
            if child is None and part in _WRITTEN_AS:
                child = inside.get(_WRITTEN_AS[part])
            if child is None:
                return node, False
            node = child
        return node, True

    def children(self, node: int) -> dict[str | int, int]:
        """The nodes directly inside a node, by key or position; the first one where a key stands twice."""
        if node not in self._children:
            index: dict[str | int, int] = {}
            for position, child in enumerate(self._inside(node)):
                name = self.names[child]
                index.setdefault(position if name is None else name, child)
            self._children[node] = index
        return self._children[node]

    def _inside(self, node: int) -> Iterator[int]:
        child, end = node + 1, min(self.ends[node], len(self.ends))
        while child < end:
            yield child
            child = self.ends[child] or child + 1


class SourceMap:
    """One text, its name, and where each of its values stands.

    Offsets are characters from the start of ``text``, which has no byte order mark and whose lines end with LF: the
    reader turns CRLF and CR into LF, as YAML itself does. NEL, LS and PS end no line, as in editors.
    """

    def __init__(self, name: str, text: str, places: Places | None = None) -> None:
        self.name = name
        self.text = text
        self._places = places or Places()
        self._lines_before: array[int] | None = None

    def locate(self, pointer: Pointer, at_key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at ``pointer``; of its nearest ancestor when nothing stands there.

        Args:
            pointer: Keys and positions from the root.
            at_key: The place of the mapping key rather than of its value.
        """
        return self.line_column(self._offset(pointer, at_key))

    def place(self, problem: Problem) -> Problem:
        """``problem`` with file, line, column and excerpt; as it is if it has a line, or belongs to another file."""
        if problem.line or (problem.file and problem.file != self.name):
            return problem
        offset = self._offset(problem.pointer, problem.at_key)
        return self._placed(problem, self._offset_within(problem, offset) if problem.within else offset)

    def problem(
        self, offset: int, message: str, hint: str = "", *, pointer: Pointer = (), warning: bool = False
    ) -> Problem:
        """A problem of the text itself, at ``offset``."""
        return self._placed(Problem(pointer, message, hint, warning=warning), offset)

    def innermost_open(self) -> int:
        """The offset of the collection that the reader was in when it had to stop."""
        return self._places.values[self._places.innermost_open()] if self._places.values else 0

    def line_column(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1 and in characters, of an offset."""
        offset = self._inside(offset)
        chunk = offset >> _CHUNK_BITS
        line = self._chunks()[chunk] + self._breaks(chunk << _CHUNK_BITS, offset)
        return line + 1, offset - self._line_start(offset) + 1

    def excerpt(self, offset: int) -> str:
        """The line at ``offset`` with a caret under it: cut to 76 cells, controls escaped, tabs as four spaces.

        Empty when the whole text is.
        """
        if not self.text.strip():
            return ""
        offset = self._inside(offset)
        start = max(self._line_start(offset), offset - 2 * EXCERPT_CELLS)
        end = min(self._line_end(offset), offset + 2 * EXCERPT_CELLS)
        before = [_visible(char) for char in self.text[start:offset]]
        after = [_visible(char) for char in self.text[offset:end]]
        cut_left = start > self._line_start(offset)
        width = sum(map(_cells, before))
        first = 0
        while width > _CELLS_BEFORE_CARET:
            width -= _cells(before[first])
            first += 1
        if first or cut_left:
            before, width = ["…", *before[first:]], width + 1
        rest, cut = _fit(after, EXCERPT_CELLS - width - 1)
        more = "…" if cut or end < self._line_end(offset) else ""
        return f"{''.join(before)}{rest}{more}".rstrip() + f"\n{' ' * width}^"

    def _placed(self, problem: Problem, offset: int) -> Problem:
        line, column = self.line_column(offset)
        return replace(problem, file=self.name, line=line, column=column, excerpt=self.excerpt(offset))

    def _offset(self, pointer: Pointer, at_key: bool) -> int:
        if not self._places.values:
            return 0
        node, exact = self._places.find(pointer)
        return (self._places.keys if at_key and exact else self._places.values)[node]

    def _offset_within(self, problem: Problem, start: int) -> int:
        """Where the words stand inside the text at ``start``: in an expression of it, if it has any."""
        node, exact = self._places.find(problem.pointer)
        if not exact or self._places.ends[node]:
            return start
        keys = self._places.keys
        end = keys[node + 1] if node + 1 < len(keys) else len(self.text)
        code = "{" in problem.within or self.text.find("{{", start, end) < 0
        for found in _words(problem.within).finditer(self.text, start, end):
            if code or self.text.rfind("{{", start, found.start()) > self.text.rfind("}}", start, found.start()):
                return found.start()
        return start

    def _inside(self, offset: int) -> int:
        """``offset``, or the end of the last line that holds something when it lies beyond."""
        if offset < len(self.text):
            return max(offset, 0)
        return len(self.text.rstrip(" \t\n"))

    def _chunks(self) -> array[int]:
        """Line breaks before each chunk of 64 Ki characters, counted once."""
        if self._lines_before is None:
            counts, total, size = array("I"), 0, 1 << _CHUNK_BITS
            for start in range(0, len(self.text) + 1, size):
                counts.append(total)
                total += self._breaks(start, min(start + size, len(self.text)))
            self._lines_before = counts
        return self._lines_before

    def _breaks(self, start: int, end: int) -> int:
        return self.text.count("\n", start, end)

    def _line_start(self, offset: int) -> int:
        return self.text.rfind("\n", 0, offset) + 1

    def _line_end(self, offset: int) -> int:
        end = self.text.find("\n", offset)
        return len(self.text) if end < 0 else end


def _fit(chars: list[str], room: int) -> tuple[str, bool]:
    """As many of the characters as fit in ``room`` cells, and whether some are left."""
    for position, char in enumerate(chars):
        room -= _cells(char)
        if room < 0:
            return "".join(chars[:position]), True
    return "".join(chars), False
