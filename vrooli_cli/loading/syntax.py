"""Mistakes of YAML syntax, in words of the person who wrote the file.

The parser says what it expected in its own terms, and often at the place where it gave up rather than where the
mistake is. The rules below look at its message *and* at the text around, the most telling one first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import yaml
from yaml.reader import ReaderError

from vrooli_cli.errors import Problem
from vrooli_cli.loading.source import SourceMap, shown

_UNPRINTABLE: Final = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BARE_EXPRESSION: Final = re.compile(r"(?:^|[:\[,-])[ \t]*(\{[{%])")
_TAB_INDENT: Final = re.compile(r"[ ]*(\t)")
_CLOSED_QUOTE: Final = re.compile(r"""["'][ \t]*$""")
_LINE: Final = re.compile(r"[^\n]*")
_GLUED_COLON: Final = re.compile(r"[ -]*[\w.-]+(:)(?![ /]|$)")
_NO_COLON: Final = "a line among the keys of a map without ':'"
_WINDOW: Final = 2000


class _Mistake(NamedTuple):
    """What the parser said: `at` is where it gave up, `since` where the thing began that it was reading."""

    source: SourceMap
    context: str
    problem: str
    since: int
    at: int

    def before(self, offset: int) -> str:
        """The line up to an offset, its last 2,000 characters."""
        text = self.source.text[max(0, offset - _WINDOW) : offset]
        return text[text.rfind("\n") + 1 :]

    def after(self, offset: int) -> str:
        """The line from an offset on, at most 2,000 characters."""
        line = _LINE.match(self.source.text, offset, offset + _WINDOW)
        return line.group() if line else ""

    def at_end(self) -> bool:
        return not self.source.text[self.at : self.at + _WINDOW].strip() and self.at + _WINDOW >= len(self.source.text)

    def line(self, offset: int) -> int:
        return self.source.line_column(offset)[0]

    def told(self, offset: int, message: str, hint: str = "") -> Problem:
        return self.source.problem(offset, message, hint)


_Rule = Callable[[_Mistake], Problem | None]


def explain(error: yaml.YAMLError, source: SourceMap) -> Problem:
    """One problem, with its place and what to do, for an error of PyYAML's parsers."""
    if isinstance(error, ReaderError):
        return unprintable(source)
    context, problem = (str(getattr(error, name, None) or "") for name in ("context", "problem"))
    at = _index(getattr(error, "problem_mark", None), 0)
    mistake = _Mistake(source, context, problem, _index(getattr(error, "context_mark", None), at), at)
    for rule in _RULES:
        told = rule(mistake)
        if told:
            return told
    return mistake.told(mistake.at, f"this is not valid YAML: {shown(problem or str(error))}")


def _index(mark: object, default: int) -> int:
    index = getattr(mark, "index", None)
    return index if isinstance(index, int) else default


def unprintable(source: SourceMap) -> Problem:
    """The first character that YAML does not allow."""
    found = _UNPRINTABLE.search(source.text)
    if found is None:
        return source.problem(0, "this is not text that YAML allows", "save the file as UTF-8")
    code = ord(found.group())
    if code == 0:
        hint = "is this a text file? UTF-16 needs a byte order mark; UTF-8 is best"
    elif 0xD800 <= code < 0xE000:
        hint = "write the whole character, not half of a surrogate pair"
    else:
        hint = f'in double quotes it can be written as "\\u{code:04x}"' if code < 0x10000 else "remove it"
    return source.problem(found.start(), f"the character U+{code:04X} is not allowed in YAML", hint)


def _tab(mistake: _Mistake) -> Problem | None:
    """The line where it gave up, or the one where that began, is indented with a tab."""
    for offset in (mistake.at, mistake.since):
        before = mistake.before(offset)
        tab = _TAB_INDENT.match(before + mistake.after(offset))
        if tab:
            return mistake.told(offset - len(before) + tab.start(1), "a tab cannot indent a line", "use spaces")
    return None


def _expression(mistake: _Mistake) -> Problem | None:
    """``message: {{ x }} and more``: a flow map to YAML."""
    before = mistake.before(mistake.at)
    bare = _BARE_EXPRESSION.search(before + mistake.after(mistake.at)[:2])
    if bare is None:
        return None
    offset = mistake.at - len(before) + bare.start(1)
    message = "an expression must stand in quotes when a value begins with it"
    return mistake.told(offset, message, 'write "{{ … }}" around the whole value')


def _quote(mistake: _Mistake) -> Problem | None:
    if "quoted scalar" not in mistake.context:
        return None
    if "unexpected" in mistake.problem:
        return mistake.told(mistake.since, "this quote is never closed", "add the closing quote where the value ends")
    escape = mistake.after(mistake.at)[:2]
    if "unknown escape" in mistake.problem:
        # libyaml stands at the backslash, PyYAML behind it
        at = mistake.at if escape.startswith("\\") else mistake.at - 1
        escape = mistake.source.text[at : at + 2]
        message = f"{shown(escape)} is not an escape that double quotes know"
        return mistake.told(at, message, "use single quotes, or write the backslash twice")
    if "Unicode" in mistake.problem:
        message = "this escape is no character of its own (half of a surrogate pair, or beyond U+10FFFF)"
        return mistake.told(mistake.at, message, "write the character itself, or as \\UXXXXXXXX")
    return mistake.told(mistake.at, "this escape needs more hexadecimal digits", "\\xXX, \\uXXXX or \\UXXXXXXXX")


def _sigil(mistake: _Mistake) -> Problem | None:
    """A value that begins with a character that means something to YAML."""
    first = mistake.after(mistake.at)[:1]
    if "alias" in mistake.context or "anchor" in mistake.context:
        sign = "*" if "alias" in mistake.context else "&"
        return mistake.told(mistake.since, f"a value cannot begin with '{sign}'", "put the value in quotes")
    if "cannot start any token" in mistake.problem:
        if first == "\t":
            return mistake.told(mistake.at, "a tab cannot stand here", "use spaces")
        return mistake.told(mistake.at, f"a value cannot begin with {shown(first)}", "put the value in quotes")
    if "tag" in mistake.context or "tag handle" in mistake.problem:
        hint = "put the value in quotes if the '!' belongs to it; else remove the tag"
        return mistake.told(mistake.since, "tags (words that begin with '!') are not allowed", hint)
    if "directive" in mistake.context or "directive" in mistake.problem:
        return mistake.told(mistake.at, "directives (lines that begin with '%') are not used here", "remove the line")
    if "block scalar" in mistake.context:
        message = "after '|' or '>' only '+', '-' and a digit may stand, and the text begins on the next line"
        return mistake.told(mistake.at, message, "put the text on the next line, indented")
    return None


def _colon(mistake: _Mistake) -> Problem | None:
    if "mapping values are not allowed" in mistake.problem:
        return _second_colon(mistake)
    if "could not find expected ':'" in mistake.problem or "could not found expected ':'" in mistake.problem:
        return mistake.told(mistake.since, _NO_COLON, "write 'key: value', or indent the text of '|'")
    if "entries are not allowed" in mistake.problem:
        return mistake.told(mistake.at, "a list cannot begin here", "begin it on a line of its own, with '- '")
    if "mapping keys are not allowed" in mistake.problem:
        return mistake.told(mistake.at, "'?' cannot stand here", "put the value in quotes")
    return None


def _second_colon(mistake: _Mistake) -> Problem:
    """A ':' after something that has its value already: on this line, or as a plain text that began on one above."""
    before = mistake.before(mistake.at)
    if ": " in before:
        return mistake.told(mistake.at, "a ':' inside a value without quotes", "put the whole value in quotes")
    start = mistake.at - len(before)
    text = mistake.source.text[max(0, start - _WINDOW) : start].rstrip()
    above = text[text.rfind("\n") + 1 :]
    above_at = max(0, start - _WINDOW) + len(text) - len(above)
    glued = _GLUED_COLON.match(above)
    if glued:
        return mistake.told(above_at + glued.start(1), "a space is missing after ':'", "write 'key: value'")
    if ":" not in above:
        indent = len(above) - len(above.lstrip())
        return mistake.told(above_at + indent, _NO_COLON, "write 'key: value', or indent the text of '|'")
    message = "this key is indented below a key that has a value already"
    hint = "give it the indentation of the other keys of its map, or end the line above with ':'"
    return mistake.told(start + len(before) - len(before.lstrip()), message, hint)


def _depth(mistake: _Mistake) -> Problem | None:
    """Newer libyaml has a bound of its own, which a raised limit does not move."""
    if "nesting depth" not in mistake.problem:
        return None
    return mistake.told(mistake.at, "too many levels inside each other for this Python's YAML reader", "nest less")


def _bracket(mistake: _Mistake) -> Problem | None:
    if "flow" not in mistake.context:
        return None
    began = mistake.source.innermost_open()
    opening = mistake.source.text[began : began + 1]
    closing = "']'" if opening == "[" else "'}'"
    if opening not in ("[", "{"):
        return None
    if mistake.at_end():
        return mistake.told(began, f"this '{opening}' is never closed", f"add {closing}")
    line = mistake.line(began)
    where = f"in line {line}" if line != mistake.line(mistake.at) else "in this line"
    message = f"expected ',' or {closing} for the '{opening}' that was opened {where}"
    return mistake.told(mistake.at, message, "values with brackets, commas or ': ' in them must stand in quotes")


def _indentation(mistake: _Mistake) -> Problem | None:
    if "block" not in mistake.context:
        return None
    before = mistake.before(mistake.at)
    if before.strip(" -"):
        if _CLOSED_QUOTE.search(before):
            return mistake.told(mistake.at, "text after the closing quote", "put the whole value in quotes")
        if before.rstrip().endswith((":", "-")):
            first = shown(mistake.after(mistake.at)[:1])
            return mistake.told(mistake.at, f"a value cannot begin with {first}", "put the value in quotes")
        return mistake.told(mistake.at, "unexpected text after the end of the value", "put the whole value in quotes")
    if mistake.after(mistake.at).startswith(":"):
        return mistake.told(mistake.at, "a key is missing before ':'", "write 'key: value'")
    line, column = mistake.source.line_column(mistake.since)
    things = "items ('- ') of the list" if "collection" in mistake.context else "keys of the map"
    hint = f"it begins at column {column}; give this line that indentation, or that of another map around it"
    return mistake.told(mistake.at, f"this line does not line up with the {things} that begins in line {line}", hint)


_RULES: Final[tuple[_Rule, ...]] = (_depth, _tab, _expression, _quote, _sigil, _colon, _bracket, _indentation)
