"""From YAML events to plain data, with every bound held before anything is built.

The events come from libyaml, which keeps its stack on the heap and looks at most 1,024 characters ahead, so that it is
safe as long as nobody asks for more events: its scanner takes quadratic time in the depth of flow collections, and its
*loader*, which is not used here, recurses in C and ends the process. Depth, nodes and aliases are therefore counted
event by event, and the first one over a limit is the last one read. Where PyYAML was built without libyaml its own
parser gives the same events, more slowly.

Mapping keys are text: ``1:``, ``true:``, ``on:`` and ``null:`` are the keys ``"1"``, ``"true"``, ``"on"``, ``"null"``.

An alias is the very value of its anchor, not a copy: what is read must not be changed in place. Its nodes, characters
and depth count again at each use, so that a reader who walks the data is never surprised by its size.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import yaml
from yaml import events
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner, ScannerError

from vrooli_cli.errors import Problem, did_you_mean
from vrooli_cli.loading.limits import Limits
from vrooli_cli.loading.scalars import PLAINLY_TEXT, Doubtful, Scalar, resolve
from vrooli_cli.loading.source import OPEN, Places, SourceMap, shown
from vrooli_cli.model.values import lean

# Any, because the stubs let a mark be None, which no parser makes.
_Alias: Final[Any] = events.AliasEvent
_MapEnd: Final[Any] = events.MappingEndEvent
_MapStart: Final[Any] = events.MappingStartEvent
_Scalar: Final[Any] = events.ScalarEvent
_ListEnd: Final[Any] = events.SequenceEndEvent
_StreamEnd: Final[Any] = events.StreamEndEvent

_REMEMBERED: Final = 1 << 16  # spellings; a file with more of them repeats itself little
_ODD_KEYS: Final = frozenset({"", "<<"})
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BLANK: Final = re.compile(r"(?:[ \t\n\x85\u2028\u2029]++|#[^\n\x85\u2028\u2029]*+)*+")
_DIRECTIVE: Final = re.compile(r"%YAML[ \t]+1\.[12][ \t]*+(?:#[^\n]*+)?(?=\n)")


class Stop(Exception):
    """Reading cannot go on; what is wrong stands among the problems."""


@lean(frozen=False)
class _Anchor:
    """A value that aliases may name.

    While the value is open, ``nodes`` and ``characters`` are the counters as they stood at its beginning; afterwards
    they are its size, and ``levels`` the collections inside each other that it adds to the depth of an alias.
    """

    name: str
    node: int
    nodes: int
    characters: int
    deepest: int
    levels: int = 0
    text: str | None = None
    value: Any = None


class _Plain(dict[str, Scalar]):
    """Unquoted scalars to values: each spelling is resolved once, and equal texts become one string."""

    def __missing__(self, text: str) -> Scalar:
        value = text if text[:1] in PLAINLY_TEXT else resolve(text)
        if len(self) < _REMEMBERED:
            self[text] = value
        return value


class _PurePythonParser(Reader, Scanner, Parser):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)

    def get_event(self) -> Any:
        """The next event; half a surrogate pair written as an escape is refused, as libyaml does."""
        event = cast(Any, super()).get_event()
        if type(event) is _Scalar and event.style == '"' and _SURROGATE.search(event.value):
            mark = event.start_mark
            raise ScannerError("while scanning a quoted scalar", mark, "found invalid Unicode character", mark)
        return event


def _event_source(text: str) -> Callable[[], Any]:
    cyaml: Any = getattr(yaml, "cyaml", None)
    parser = cyaml.CParser(text) if yaml.__with_libyaml__ else _PurePythonParser(text)
    get_event: Callable[[], Any] = parser.get_event
    return get_event


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without the cyclic garbage collector, which would walk the growing data over and over: it doubles the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Composer:
    """One text to one value; ``places``, ``problems`` and ``warnings`` fill up on the way.

    ::

        compose         the root, then nothing but white space
          _value        a marked scalar, an alias, or a collection
            _pairs      the inside of a map  } plain and quoted scalars without anchor and tag
            _items      the inside of a list } are handled on the spot: the hot path

    Attributes:
        offset: How far the reading has certainly come, for errors that carry no place.
    """

    def __init__(self, source: SourceMap, places: Places, limits: Limits) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.offset = 0
        self._source = source
        self._places = places
        self._limits = limits
        self._room = limits.nodes  # what aliases add is taken from it
        self._added = 0  # characters that aliases added
        self._plain = _Plain()
        self._keys: dict[str, str] = {}
        self._anchors: dict[str, _Anchor] = {}
        self._anchored = 0
        self._open: list[_Anchor] = []
        self._duplicates: list[tuple[int, str, int]] = []
        self._next: Callable[[], Any] = lambda: None

    def compose(self) -> Any:
        """The value of the document.

        Raises:
            Stop: When a limit, or a construct that cannot be skipped, ended the reading.
            yaml.YAMLError: For a mistake of syntax.
        """
        self._check_prologue()
        self._next = _event_source(self._source.text)
        self._next()  # the start of the stream
        if type(self._next()) is _StreamEnd:
            raise self._empty()
        event = self._next()
        if type(event) is _Scalar and event.implicit[0] and not event.value:
            raise self._empty()
        root = self._value(event, None, event.start_mark.index, 0)
        self._check_rest(self._next())
        return root

    def finish(self) -> list[Problem]:
        """Every problem found, in the order of the text; says where the first of two equal keys stands."""
        for node, key, offset in self._duplicates:
            first, _ = self._source.line_column(self._places.keys[self._places.children(node)[key]])
            message = f"the key {shown(key)} is already there, in line {first}"
            self.problems.append(self._source.problem(offset, message, "remove or rename one of the two"))
        self._duplicates.clear()
        return sorted(self.problems, key=lambda problem: (problem.line, problem.column))

    # The hot path ---------------------------------------------------------------------------------------------------

    def _pairs(self, node: int, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        next_event, remembered, plain, note = self._next, self._keys.setdefault, self._plain, self._places.note
        while type(event := next_event()) is not _MapEnd:
            if type(event) is _Scalar and event.anchor is event.tag is None and event.value not in _ODD_KEYS:
                key = remembered(event.value, event.value)
            else:
                key = self._odd_key(event)
            start = event.start_mark.index
            if key in result:
                self._duplicate(node, key, start)
            event = next_event()
            if type(event) is not _Scalar or event.anchor or event.tag:
                result[key] = self._value(event, key, start, depth)
                continue
            try:
                result[key] = event.value if event.style else plain[event.value]
            except Doubtful as doubtful:
                result[key] = self._doubtful(doubtful, event)
            if note(key, start, event.start_mark.index) > self._room:
                raise self._too_many_nodes(start)
        self.offset = event.end_mark.index
        return result

    def _items(self, depth: int) -> list[Any]:
        result: list[Any] = []
        next_event, plain, note = self._next, self._plain, self._places.note
        while type(event := next_event()) is not _ListEnd:
            start = event.start_mark.index
            if type(event) is not _Scalar or event.anchor or event.tag:
                result.append(self._value(event, None, start, depth))
                continue
            try:
                result.append(event.value if event.style else plain[event.value])
            except Doubtful as doubtful:
                result.append(self._doubtful(doubtful, event))
            if note(None, start, start) > self._room:
                raise self._too_many_nodes(start)
        self.offset = event.end_mark.index
        return result

    # Everything else ------------------------------------------------------------------------------------------------

    def _value(self, event: Any, name: str | None, start: int, depth: int) -> Any:
        at = event.start_mark.index
        if type(event) is _Alias:
            self._note(name, start, at)
            return self._alias(event, depth)
        if event.tag is not None:
            self._tag(at)
        anchor = self._anchor(event, depth) if event.anchor else None
        self._note(name, start, at)
        if type(event) is _Scalar:
            value, text = self._scalar(event), event.value
            self.offset = event.end_mark.index
        else:
            value, text = self._collection(event, depth + 1, anchor), None
        if anchor:
            self._close(anchor, depth, value, text)
        return value

    def _scalar(self, event: Any) -> Scalar:
        try:
            return event.value if event.style else self._plain[event.value]
        except Doubtful as doubtful:
            return self._doubtful(doubtful, event)

    def _collection(self, event: Any, depth: int, anchor: _Anchor | None) -> Any:
        if depth > self._limits.depth:
            raise self._too_deep(event.start_mark.index)
        if anchor:
            self._open.append(anchor)
        if self._open:
            self._open[-1].deepest = max(self._open[-1].deepest, depth)
        ends = self._places.ends
        node = len(ends) - 1
        ends[node] = OPEN
        value = self._pairs(node, depth) if type(event) is _MapStart else self._items(depth)
        ends[node] = len(ends)
        if anchor:
            self._open.pop()
        return value

    def _note(self, name: str | None, start: int, at: int) -> None:
        if self._places.note(name, start, at) > self._room:
            raise self._too_many_nodes(at)

    # Anchors and aliases

    def _nodes(self) -> int:
        return len(self._places.ends) + self._limits.nodes - self._room

    def _anchor(self, event: Any, depth: int) -> _Anchor:
        at = event.start_mark.index
        self._anchored += 1
        if self._anchored > self._limits.anchors:
            raise self._stop(at, f"more than {self._limits.anchors:,} anchors", "name fewer values with '&'")
        return _Anchor(event.anchor, len(self._places.ends), self._nodes(), at + self._added, depth)

    def _close(self, anchor: _Anchor, depth: int, value: Any, text: str | None) -> None:
        anchor.nodes = self._nodes() - anchor.nodes
        anchor.characters = self.offset + self._added - anchor.characters
        anchor.levels = anchor.deepest - depth
        anchor.value, anchor.text = value, text
        if self._open:
            self._open[-1].deepest = max(self._open[-1].deepest, anchor.deepest)
        self._anchors[anchor.name] = anchor

    def _alias(self, event: Any, depth: int) -> Any:
        at = event.start_mark.index
        anchor = self._target(event)
        if anchor is None:
            return None
        self._room -= anchor.nodes - 1
        self._added += anchor.characters
        if len(self._places.ends) > self._room:
            raise self._too_many_nodes(at)
        if self._added > self._limits.characters:
            limit = f"{self._limits.characters:,} characters"
            raise self._stop(at, f"aliases make this file longer by more than {limit}", "write less, or fewer aliases")
        if depth + anchor.levels > self._limits.depth:
            raise self._too_deep(at)
        if self._open:
            self._open[-1].deepest = max(self._open[-1].deepest, depth + anchor.levels)
        self._places.links[len(self._places.ends) - 1] = anchor.node
        return anchor.value

    def _target(self, event: Any) -> _Anchor | None:
        name = event.anchor
        anchor = self._anchors.get(name)
        if self._open and any(open_anchor.name == name for open_anchor in self._open):
            message = f"the value of the anchor {shown(name)} contains itself"
            self._report(event.start_mark.index, message, "write the inner value out")
            return None
        if anchor is None:
            near = did_you_mean(name, list(self._anchors)[:1000])
            quotes = "a value that begins with '*' must stand in quotes if text is meant"
            message = f"no anchor {shown(name)} stands above this alias"
            self._report(event.start_mark.index, message, near or quotes)
        return anchor

    # Keys

    def _odd_key(self, event: Any) -> str:
        if type(event) is _Alias:
            return self._alias_key(event)
        at = event.start_mark.index
        if type(event) is not _Scalar:
            raise self._complex_key(at)
        text: str = event.value
        if event.tag is not None:
            self._tag(at)
        if event.anchor:
            self.offset = event.end_mark.index
            anchor = self._anchor(event, 0)
            anchor.nodes -= 1  # a key is no node of its own, but an alias to it may be one
            self._close(anchor, 0, self._scalar(event), text)
        if text == "<<" and not event.style:
            self._report(at, "merge keys (<<) are not supported", "write the keys out where they are needed")
        if text == "" and not event.style:
            self._report(at, "a key is missing before ':'", 'write a key, or "" if the empty text is meant')
        return text

    def _alias_key(self, event: Any) -> str:
        anchor = self._target(event)
        if anchor and anchor.text is None:
            raise self._complex_key(event.start_mark.index)
        return anchor.text if anchor and anchor.text is not None else f"*{event.anchor}"

    def _duplicate(self, node: int, key: str, offset: int) -> None:
        if key == "<<":
            return  # refused already
        self._duplicates.append((node, key, offset))
        self._check_count()

    # Problems

    def _report(self, offset: int, message: str, hint: str = "") -> None:
        self.problems.append(self._source.problem(offset, message, hint))
        self._check_count()

    def _check_count(self) -> None:
        if len(self.problems) + len(self._duplicates) >= self._limits.problems:
            raise Stop

    def _stop(self, offset: int, message: str, hint: str = "") -> Stop:
        self.problems.append(self._source.problem(offset, message, hint))
        return Stop()

    def _doubtful(self, doubtful: Doubtful, event: Any) -> Scalar:
        if doubtful.fatal:
            self._report(event.start_mark.index, doubtful.message, doubtful.hint)
            return None
        if len(self.warnings) < self._limits.problems:
            at = event.start_mark.index
            self.warnings.append(self._source.problem(at, doubtful.message, doubtful.hint, warning=True))
        else:
            self._plain[event.value] = doubtful.value
        return doubtful.value

    def _tag(self, offset: int) -> None:
        hint = "put the value in quotes if the '!' belongs to it; else remove the tag"
        self._report(offset, "tags (words that begin with '!') are not allowed", hint)

    def _empty(self) -> Stop:
        return self._stop(0, "the file is empty", "write at least one key, as in 'name: example'")

    def _too_deep(self, offset: int) -> Stop:
        message = f"more than {self._limits.depth} levels inside each other"
        return self._stop(offset, message, "nest less, or raise limits.depth")

    def _too_many_nodes(self, offset: int) -> Stop:
        message = f"more than {self._limits.nodes:,} values, aliases expanded"
        return self._stop(offset, message, "split the file, or raise limits.nodes")

    def _complex_key(self, offset: int) -> Stop:
        if self._source.text.startswith("{", offset) and self._source.text.endswith("{", 0, offset):
            message = "an expression must stand in quotes when a value begins with it"
            return self._stop(offset - 1, message, 'write "{{ … }}" around the whole value')
        return self._stop(offset, "a key must be text, not a list or a map", "write 'key: value'")

    # Around the document

    def _check_prologue(self) -> None:
        text = self._source.text
        at = _blank_end(text, 0)
        directive = _DIRECTIVE.match(text, at)
        if directive:
            at = _blank_end(text, directive.end())
        if text.startswith("...", at) and not text[at + 3 : at + 4].strip():
            raise self._empty()
        if text.startswith("%", at) and text[at - 1 : at] in ("", "\n"):
            raise self._stop(at, "directives (lines that begin with '%') are not used here", "remove the line")

    def _check_rest(self, event: Any) -> None:
        """The end of the document is not the parser's to judge: a second one could hold anything."""
        text = self._source.text
        at = _blank_end(text, event.end_mark.index)
        if text.startswith("---", at):
            raise self._stop(at, "a second document begins here; a file holds one", "make it a file of its own")
        if at < len(text):
            hint = "a file holds one value: give all its keys the same indentation"
            raise self._stop(at, "unexpected text after the end of the value", hint)


def _blank_end(text: str, start: int) -> int:
    blank = _BLANK.match(text, start)
    return blank.end() if blank else start
