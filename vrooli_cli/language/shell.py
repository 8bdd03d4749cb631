"""String commands: a value never enters the text of a script (spec routine.md, "Shell text"; engine.md (i)).

Each ``{{ }}`` of a string command becomes a reference to a shell variable. The value travels in the environment as
``VROOLI_1``, and a prologue on the script's first line copies it to ``__vr1`` and unsets it, so nothing is exported
further and nothing stands in the process list. By POSIX the result of a parameter expansion is never read as syntax
again, so *safety does not depend on the lexer below*: a wrong guess of it gives wrong text, never execution.

The lexer finds the place of each hole, because the reference must be written to fit it: bare, in double quotes, in
single quotes, in a here-document. And it finds the places where a command would read its argument as code (``eval``,
``sh -c``, arithmetic, …): those are refused when the file is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from posixpath import basename
from typing import Any

from vrooli_cli.errors import ExpressionError, Pointer, Problem
from vrooli_cli.language.expressions import Expression, Reference, compile_value
from vrooli_cli.language.values import text_of

MAX_STRING = 131_072  # bytes of one string of argv or the environment, its NUL included (Linux, MAX_ARG_STRLEN)
MAX_STRINGS = 1_500_000  # bytes of all of them; the kernel takes a quarter of the stack limit, mostly 2 MiB

_HOLE = "\0"  # what stands for a hole in the text of a word; a script cannot hold one


class RenderedScript(str):
    """The text for ``sh -c``, with the variables that must be in its environment.

    It is a ``str`` (so a schema that wants text takes it) that holds no value; the values are in :attr:`environment`.
    """

    environment: Mapping[str, str]

    def __new__(cls, text: str, environment: Mapping[str, str]) -> RenderedScript:
        """The script and its variables."""
        made = super().__new__(cls, text)
        made.environment = dict(environment)
        return made

    def __getnewargs__(self) -> tuple[str, Mapping[str, str]]:  # type: ignore[override]
        return str(self), self.environment


@dataclass(frozen=True, slots=True)
class _Slot:
    """One hole: its expression, and how the script refers to it."""

    expression: Expression
    reference: str


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A string command, read once.

    Attributes:
        parts: Literal text and slots, in order.
        references: Every use of a name.
    """

    parts: tuple[str | _Slot, ...]
    references: tuple[Reference, ...]

    def render(self, names: Mapping[str, Any]) -> RenderedScript:
        """The script and its variables for these names.

        Raises:
            ExpressionError: An expression fails; with the code ``PARAMETER_INVALID``, a value holds a NUL, is no valid
                text or is larger than the kernel lets one string be.
        """
        out: list[str] = []
        environment: dict[str, str] = {}
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
                continue
            text = _checked(part.expression, text_of(part.expression.evaluate(names)))
            if part.expression.raw:
                out.append(text)
                continue
            number = len(environment) + 1
            environment[f"VROOLI_{number}"] = text
            out.append(part.reference.replace("#", str(number)))
        if sum(map(len, environment.values())) > MAX_STRINGS:
            raise _invalid("the values of the command are too large together; pass the largest with `stdin:`")
        script = _prologue(len(environment)) + "".join(out)
        if len(script.encode("utf-8", "surrogatepass")) >= MAX_STRING:
            raise _invalid(f"the command is longer than {MAX_STRING // 1024} KiB; put the script into a file")
        return RenderedScript(script, environment)


def _prologue(count: int) -> str:
    """Copies the variables to names that are not exported, and unsets them; on the first line, so that lines keep."""
    if not count:
        return ""
    numbers = range(1, count + 1)
    names = " ".join(f"__vr{number}" for number in numbers)
    copies = " ".join(f"__vr{number}=$VROOLI_{number};" for number in numbers)
    return f"unset -v {names}; {copies} unset -v {' '.join(f'VROOLI_{number}' for number in numbers)}; "


def _checked(expression: Expression, text: str) -> str:
    try:
        size = len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise _invalid(f"{expression!r} is not valid text for a command") from None
    if "\0" in text:
        raise _invalid(f"{expression!r} holds a NUL character, which no command can take; pass it with `stdin:`")
    if size + len("VROOLI_000=") >= MAX_STRING:
        raise _invalid(
            f"{expression!r} has {size:,} bytes; one value of a command may have about {MAX_STRING // 1024} KiB: "
            "pass it with `stdin:`"
        )
    return text


def _invalid(message: str) -> ExpressionError:
    return ExpressionError(message, code="PARAMETER_INVALID")


def compile_command(
    raw: str, *, pointer: Pointer = (), problems: list[Problem] | None = None, dashed: Collection[str] = ()
) -> ShellCommand:
    """Read a string command.

    Args:
        raw: As the file has it.
        pointer: Where it stands in its document.
        problems: Mistakes and refused places are added here, ``| raw`` as a warning; without a list the first mistake
            is raised as ExpressionError.
        dashed: The ids with ``-`` that may be written ``steps.a-b``.
    """
    found: list[Problem] = []
    value = compile_value(raw, pointer=pointer, problems=found, dashed=dashed)
    segments = value.segments or (str(value.raw or ""),)
    lexer = _Lexer(segments)
    lexer.read()
    parts: list[str | _Slot] = []
    for number, segment in enumerate(segments):
        if isinstance(segment, str) or segment.literal is not None:
            parts.append(segment if isinstance(segment, str) else str(segment.literal))
            continue
        parts.append(_Slot(segment, lexer.places.get(number, _WORD)))
        if segment.raw:
            message = f"{segment!r} becomes part of the command's text, so the shell reads it as code"
            found.append(Problem(pointer, message, "leave out `| raw` unless that is meant", warning=True))
        elif number in lexer.refused:
            found.append(_refusal(segment, lexer.refused[number], pointer))
    if problems is not None:
        problems.extend(found)
    elif errors := [problem for problem in found if not problem.warning]:
        raise ExpressionError(str(errors[0]))
    return ShellCommand(tuple(parts), value.references)


def _refusal(expression: Expression, place: str, pointer: Pointer) -> Problem:
    told = repr(expression)
    message = f"{told} cannot stand {place} of a string command"
    env = f'write `env: {{VALUE: "{told}"}}` beside `command` and "$VALUE" in it'
    argv = f'or give the arguments as a list: `command: [PROGRAM, "{told}"]`'
    return Problem(pointer, message, f"{env}, {argv}")


# -- places ------------------------------------------------------------------------------------------------------------

_WORD = '"${__vr#}"'  # in a word, an assignment, a redirection's target, a pattern
_BARE = "${__vr#}"  # inside double quotes and here-documents
_CUT = "'\"${__vr#}\"'"  # inside single quotes

_BLANK = frozenset(" \t\r")
_META = frozenset(" \t\r\n;&|<>()")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[[^\0\]]*\])?\+?=")
_PARAMETER = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-])(:?[-=+?]|##?|%%?)\Z")
_RESERVED = frozenset(["if", "then", "else", "elif", "do", "while", "until", "!", "{", "time"])
_CLOSERS = frozenset(["fi", "done", "}"])


@dataclass(slots=True)
class _Piece:
    """One word of a command: its text without quotes, holes as NUL."""

    text: str = ""
    holes: list[int] = field(default_factory=list)
    quoted: bool = False


@dataclass(slots=True)
class _Heredoc:
    delimiter: str
    quoted: bool
    tabs: bool


class _Lexer:
    """Walks the literal text once and notes the place of every hole.

    Attributes:
        places: Hole → how it is referred to.
        refused: Hole → the place, in words, where it cannot stand.
    """

    def __init__(self, segments: Sequence[str | Expression]) -> None:
        self._symbols: list[str | int] = []
        for number, segment in enumerate(segments):
            text = segment if isinstance(segment, str) else segment.literal
            if text is None:
                self._symbols.append(number)
            else:
                self._symbols.extend(text)
        self._at = 0
        self._end = len(self._symbols)
        self._reason = ""
        self._integers = False
        self.places: dict[int, str] = {}
        self.refused: dict[int, str] = {}

    def read(self) -> None:
        """The whole script."""
        while self._at < self._end:
            self._code("")
        for number in self.places:
            if self._reason:
                self.refused.setdefault(number, self._reason)

    # -- small steps --

    def _peek(self, ahead: int = 0) -> str | int:
        at = self._at + ahead
        return self._symbols[at] if at < self._end else ""

    def _place(self, reference: str, reason: str = "") -> None:
        """The hole here, and on."""
        number = self._symbols[self._at]
        self._at += 1
        if isinstance(number, int):
            self.places[number] = reference
            if reason or self._reason:
                self.refused.setdefault(number, self._reason or reason)

    @contextmanager
    def _refusing(self, reason: str) -> Iterator[None]:
        """Every hole inside is refused."""
        outer, self._reason = self._reason, self._reason or reason
        try:
            yield
        finally:
            self._reason = outer

    # -- commands --

    def _code(self, closing: str) -> None:
        """Commands, up to and over ``closing``."""
        _Code(self, closing).read()

    # -- words --

    def _word(self) -> _Piece:
        """One word, up to the character that ends it."""
        piece = _Piece()
        while self._at < self._end:
            symbol = self._peek()
            if isinstance(symbol, int):
                piece.holes.append(symbol)
                piece.text += _HOLE
                self._place(_WORD)
            elif symbol == "(" and _ASSIGNMENT.fullmatch(piece.text) and not piece.quoted:
                self._at += 1
                self._array()
            elif symbol in _META:
                break
            else:
                self._part(symbol, piece)
        return piece

    def _part(self, symbol: str, piece: _Piece) -> None:
        reader = _QUOTES.get(symbol)
        if reader is None:
            piece.text += symbol
            self._at += 1
            return
        start = self._at
        reader(self)
        if symbol != "$":
            piece.quoted = True
        inside = self._symbols[start : self._at]
        piece.holes += [one for one in inside if isinstance(one, int)]
        if symbol in "'\"\\":
            inside = inside[1:-1] if symbol != "\\" else inside[1:]
        piece.text += "".join(_HOLE if isinstance(one, int) else one for one in inside)

    def _array(self) -> None:
        """The words of ``name=( … )``; a subscript in it is arithmetic."""
        while self._at < self._end and self._peek() != ")":
            symbol = self._peek()
            if isinstance(symbol, str) and (symbol in _BLANK or symbol in ";&|<>(\n"):
                self._at += 1
                continue
            piece = self._word()
            if piece.text.startswith("["):
                self._refuse(piece, "in the subscript of an array")
        self._at += 1

    def _refuse(self, piece: _Piece, reason: str) -> None:
        for number in piece.holes:
            self.refused.setdefault(number, reason)

    # -- quotes and expansions --

    def _single(self) -> None:
        """``'…'``."""
        self._at += 1
        while self._at < self._end:
            symbol = self._peek()
            if isinstance(symbol, int):
                self._place(_CUT)
                continue
            self._at += 1
            if symbol == "'":
                return

    def _double(self) -> None:
        """``"…"``."""
        self._at += 1
        while self._at < self._end:
            if self._peek() == '"':
                self._at += 1
                return
            self._quoted_symbol(_BARE)

    def _quoted_symbol(self, reference: str) -> None:
        """One symbol where only ``\\``, ``$`` and a backtick have a meaning."""
        symbol = self._peek()
        if isinstance(symbol, int):
            self._place(reference)
        elif symbol == "\\":
            self._escape()
        elif symbol == "$":
            self._dollar(quoted=True)
        elif symbol == "`":
            self._backtick()
        else:
            self._at += 1

    def _escape(self) -> None:
        """A backslash and what it escapes."""
        self._at += 1
        if isinstance(self._peek(), int):
            self._place(_WORD, "after a backslash")
        else:
            self._at = min(self._at + 1, self._end)

    def _backtick(self) -> None:
        self._at += 1
        with self._refusing("inside backticks"):
            self._until("`")

    def _until(self, closing: str) -> None:
        """Up to and over a closing character that no backslash escapes."""
        while self._at < self._end:
            symbol = self._peek()
            if isinstance(symbol, int):
                self._place(_WORD)
            elif symbol == "\\":
                self._escape()
            else:
                self._at += 1
                if symbol == closing:
                    return

    def _unquoted_dollar(self) -> None:
        self._dollar(quoted=False)

    def _dollar(self, *, quoted: bool) -> None:
        """``$`` and what it begins."""
        following = self._peek(1)
        if isinstance(following, int):
            self._at += 1
            self._place(_WORD, "after `$` (leave out the `$`)")
        elif following == "(":
            self._substitution(quoted=quoted)
        elif following == "{":
            self._parameter(quoted=quoted)
        elif following == "[":
            self._at += 2
            with self._refusing("in arithmetic"):
                self._until("]")
        elif following in ("'", '"') and not quoted:
            self._at += 2
            with self._refusing(f"in ${following}…{following}"):
                self._until(following)
        else:
            self._at += 1

    def _substitution(self, *, quoted: bool) -> None:
        """``$( … )`` and ``$(( … ))``."""
        if self._peek(2) == "(":
            self._at += 3
            self._arithmetic()
            return
        self._at += 2
        if quoted:
            self._code(")")
            return
        with self._refusing("in `$( … )` without double quotes around it"):
            self._code(")")

    def _arithmetic(self) -> None:
        """Up to and over ``))``."""
        depth = 2
        with self._refusing("in arithmetic"):
            while self._at < self._end and depth:
                symbol = self._peek()
                if isinstance(symbol, int):
                    self._place(_WORD)
                    continue
                depth += {"(": 1, ")": -1}.get(symbol, 0)
                self._at += 1

    def _parameter(self, *, quoted: bool) -> None:
        """``${ … }``: in double quotes a value may stand after ``:-``, ``:=``, ``:+``, ``:?``, ``#`` and ``%``."""
        self._at += 2
        head = ""
        while isinstance(symbol := self._peek(), str) and symbol and symbol not in "}$`'\"\\" and len(head) < 200:
            if (match := _PARAMETER.match(head)) and symbol not in "-=+?#%":
                break
            head += symbol
            self._at += 1
        match = _PARAMETER.match(head)
        operator = match[1] if match else ""
        reference = _WORD if operator.startswith(("#", "%")) else _BARE
        with self._refusing("" if quoted and match else "in `${ … }`"):
            while self._at < self._end:
                if self._peek() == "}":
                    self._at += 1
                    return
                self._parameter_symbol(reference, operator)

    def _parameter_symbol(self, reference: str, operator: str) -> None:
        symbol = self._peek()
        if symbol == '"' or (symbol == "'" and operator.startswith(("#", "%"))):
            with self._refusing("in quotes inside `${ … }`"):
                self._double() if symbol == '"' else self._single()
        else:
            self._quoted_symbol(reference)

    # -- here-documents --

    def _heredoc_start(self) -> _Heredoc:
        """What stands after ``<<``."""
        tabs = self._peek() == "-"
        self._at += tabs
        while self._peek() in _BLANK:
            self._at += 1
        with self._refusing("in the delimiter of a here-document"):
            piece = self._word()
        return _Heredoc(piece.text, piece.quoted, tabs)

    def _heredoc_body(self, document: _Heredoc) -> None:
        """The lines up to and over the delimiter's."""
        start = stop = self._at
        while stop < self._end:
            line_end = stop
            while line_end < self._end and self._symbols[line_end] != "\n":
                line_end += 1
            line = "".join(_HOLE if isinstance(one, int) else one for one in self._symbols[stop:line_end])
            after = min(line_end + 1, self._end)
            if (line.lstrip("\t") if document.tabs else line) == document.delimiter:
                break
            stop = after
        else:
            after = self._end
        outer, self._end = self._end, stop
        self._at = start
        with self._refusing("in a here-document with a quoted delimiter" if document.quoted else ""):
            while self._at < self._end:
                if document.quoted:
                    self._place(_BARE)
                else:
                    self._quoted_symbol(_BARE)
        self._end = outer
        self._at = after


_QUOTES: dict[str, Callable[[_Lexer], None]] = {
    "'": _Lexer._single,
    '"': _Lexer._double,
    "\\": _Lexer._escape,
    "$": _Lexer._unquoted_dollar,
    "`": _Lexer._backtick,
}
