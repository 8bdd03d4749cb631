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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from posixpath import basename
from shlex import quote
from typing import Any

from vrooli_cli.errors import ExpressionError, Pointer, Problem
from vrooli_cli.language.expressions import Expression, Reference, compile_value
from vrooli_cli.language.shapes import Ids
from vrooli_cli.language.values import text_of
from vrooli_cli.model.values import lean

MAX_STRING = 131_072  # bytes of one string of argv or the environment, its NUL included (Linux, MAX_ARG_STRLEN)
MAX_STRINGS = 1_500_000  # bytes of all of them; the kernel takes a quarter of the stack limit, mostly 2 MiB

_HOLE = "\0"  # what stands for a hole in the text of a word; a script cannot hold one


class RenderedScript(str):
    """The text for ``sh -c``, with the variables that must be in its environment.

    It is a ``str`` (so a schema that wants text takes it) that holds no value; the values are in :attr:`environment`.

    Attributes:
        told: The command as people read it, in questions and events: as written, with quoted values for the holes.
    """

    environment: Mapping[str, str]
    told: str

    def __new__(cls, text: str, environment: Mapping[str, str], told: str = "") -> RenderedScript:
        """The script and its variables."""
        made = super().__new__(cls, text)
        made.environment = dict(environment)
        made.told = told or text
        return made

    def __getnewargs__(self) -> tuple[str, Mapping[str, str], str]:  # type: ignore[override]
        return str(self), self.environment, self.told


def told(value: Any) -> Any:
    """A value as people, digests and events see it: a rendered script with its values, anything else as it is."""
    return value.told if type(value) is RenderedScript else value


@lean()
class _Slot:
    """One hole: its expression, and how the script refers to it."""

    expression: Expression
    reference: str


@lean()
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
        shown: list[str] = []
        environment: dict[str, str] = {}
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
                shown.append(part)
                continue
            text = _checked(part.expression, text_of(part.expression.evaluate(names)))
            shown.append(text if part.expression.raw else quote(text))
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
        return RenderedScript(script, environment, "".join(shown))


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
    raw: str, *, pointer: Pointer = (), problems: list[Problem] | None = None, dashed: Ids = ()
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
            hint = "leave out `| raw` unless that is meant"
            found.append(Problem(pointer, message, hint, warning=True, within=segment.text))
        elif number in lexer.refused:
            found.append(_refusal(segment, lexer.refused[number], pointer))
    if problems is not None:
        problems.extend(found)
    elif errors := [problem for problem in found if not problem.warning]:
        raise ExpressionError(str(errors[0]))
    return ShellCommand(tuple(parts), value.references)


def _refusal(expression: Expression, place: str, pointer: Pointer) -> Problem:
    told = repr(expression)
    message = f"in a string command, {told} cannot stand {place}"
    env = f'write `env: {{VALUE: "{told}"}}` beside `command` and "$VALUE" in it'
    argv = f'or give the arguments as a list: `command: [PROGRAM, "{told}"]`'
    return Problem(pointer, message, f"{env}, {argv}", within=expression.text)


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


@lean(frozen=False)
class _Piece:
    """One word of a command: its text without quotes, holes as NUL."""

    text: str = ""
    holes: list[int] = field(default_factory=list)
    quoted: bool = False


@lean(frozen=False)
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
        self.at = 0
        self.end = len(self._symbols)
        self._reason = ""
        self.assigned = _Assigned()
        self.places: dict[int, str] = {}
        self.refused: dict[int, str] = {}

    def read(self) -> None:
        """The whole script."""
        while self.at < self.end:
            self.code("")
        if self.assigned.computed:
            for piece in self.assigned.pieces:
                self.refuse(piece, "in an assignment beside `declare -i` or `-n`, where the shell computes it")

    # -- small steps --

    def peek(self, ahead: int = 0) -> str | int:
        at = self.at + ahead
        return self._symbols[at] if at < self.end else ""

    def place(self, reference: str, reason: str = "") -> None:
        """The hole here, and on."""
        number = self._symbols[self.at]
        self.at += 1
        if isinstance(number, int):
            self.places[number] = reference
            if reason or self._reason:
                self.refused.setdefault(number, self._reason or reason)

    @contextmanager
    def refusing(self, reason: str) -> Iterator[None]:
        """Every hole inside is refused."""
        outer, self._reason = self._reason, self._reason or reason
        try:
            yield
        finally:
            self._reason = outer

    # -- commands --

    def code(self, closing: str) -> None:
        """Commands, up to and over ``closing``."""
        _Code(self, closing).read()

    # -- words --

    def word(self) -> _Piece:
        """One word, up to the character that ends it."""
        piece = _Piece()
        while self.at < self.end:
            symbol = self.peek()
            if isinstance(symbol, int):
                piece.holes.append(symbol)
                piece.text += _HOLE
                self.place(_WORD)
            elif symbol == "(" and _ASSIGNMENT.fullmatch(piece.text) and not piece.quoted:
                self.at += 1
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
            self.at += 1
            return
        start = self.at
        reader(self)
        if symbol != "$":
            piece.quoted = True
        inside = self._symbols[start : self.at]
        piece.holes += [one for one in inside if isinstance(one, int)]
        if symbol in "'\"\\":
            inside = inside[1:-1] if symbol != "\\" else inside[1:]
        piece.text += "".join(_HOLE if isinstance(one, int) else one for one in inside)

    def _array(self) -> None:
        """The words of ``name=( … )``; a subscript in it is arithmetic."""
        while self.at < self.end and self.peek() != ")":
            symbol = self.peek()
            if isinstance(symbol, str) and (symbol in _BLANK or symbol in ";&|<>(\n"):
                self.at += 1
                continue
            piece = self.word()
            if piece.text.startswith("["):
                self.refuse(piece, "in the subscript of an array")
        self.at += 1

    def refuse(self, piece: _Piece, reason: str) -> None:
        for number in piece.holes:
            self.refused.setdefault(number, reason)

    # -- quotes and expansions --

    def _single(self) -> None:
        """``'…'``."""
        self.at += 1
        while self.at < self.end:
            symbol = self.peek()
            if isinstance(symbol, int):
                self.place(_CUT)
                continue
            self.at += 1
            if symbol == "'":
                return

    def _double(self) -> None:
        """``"…"``."""
        self.at += 1
        while self.at < self.end:
            if self.peek() == '"':
                self.at += 1
                return
            self._quoted_symbol(_BARE)

    def _quoted_symbol(self, reference: str) -> None:
        """One symbol where only a backslash, ``$`` and a backtick have a meaning."""
        symbol = self.peek()
        if isinstance(symbol, int):
            self.place(reference)
        elif symbol == "\\":
            self._escape()
        elif symbol == "$":
            self._dollar(quoted=True)
        elif symbol == "`":
            self._backtick()
        else:
            self.at += 1

    def _escape(self) -> None:
        """A backslash and what it escapes."""
        self.at += 1
        if isinstance(self.peek(), int):
            self.place(_WORD, "after a backslash")
        else:
            self.at = min(self.at + 1, self.end)

    def _backtick(self) -> None:
        self.at += 1
        with self.refusing("inside backticks"):
            self._until("`")

    def _until(self, closing: str) -> None:
        """Up to and over a closing character that no backslash escapes."""
        while self.at < self.end:
            symbol = self.peek()
            if isinstance(symbol, int):
                self.place(_WORD)
            elif symbol == "\\":
                self._escape()
            else:
                self.at += 1
                if symbol == closing:
                    return

    def _unquoted_dollar(self) -> None:
        self._dollar(quoted=False)

    def _dollar(self, *, quoted: bool) -> None:
        """``$`` and what it begins."""
        following = self.peek(1)
        if isinstance(following, int):
            self.at += 1
            self.place(_WORD, "after `$` (leave out the `$`)")
        elif following == "(":
            self._substitution(quoted=quoted)
        elif following == "{":
            self._parameter(quoted=quoted)
        elif following == "[":
            self.at += 2
            with self.refusing("in arithmetic"):
                self._until("]")
        elif following in ("'", '"') and not quoted:
            self.at += 2
            with self.refusing(f"in ${following}…{following}"):
                self._until(following)
        else:
            self.at += 1

    def _substitution(self, *, quoted: bool) -> None:
        """``$( … )`` and ``$(( … ))``."""
        if self.peek(2) == "(":
            self.at += 3
            self.arithmetic()
            return
        self.at += 2
        if quoted:
            self.code(")")
            return
        with self.refusing("in `$( … )` without double quotes around it"):
            self.code(")")

    def arithmetic(self) -> None:
        """Up to and over ``))``."""
        depth = 2
        with self.refusing("in arithmetic"):
            while self.at < self.end and depth:
                symbol = self.peek()
                if isinstance(symbol, int):
                    self.place(_WORD)
                    continue
                depth += {"(": 1, ")": -1}.get(symbol, 0)
                self.at += 1

    def _parameter(self, *, quoted: bool) -> None:
        """``${ … }``: in double quotes a value may stand after ``:-``, ``:=``, ``:+``, ``:?``, ``#`` and ``%``."""
        self.at += 2
        head = ""
        while isinstance(symbol := self.peek(), str) and symbol and symbol not in "}$`'\"\\" and len(head) < 200:
            if (match := _PARAMETER.match(head)) and symbol not in "-=+?#%":
                break
            head += symbol
            self.at += 1
        match = _PARAMETER.match(head)
        operator = match[1] if match else ""
        reference = _WORD if operator.startswith(("#", "%")) else _BARE
        with self.refusing("" if quoted and match else "in `${ … }`"):
            while self.at < self.end:
                if self.peek() == "}":
                    self.at += 1
                    return
                self._parameter_symbol(reference, operator)

    def _parameter_symbol(self, reference: str, operator: str) -> None:
        symbol = self.peek()
        if symbol == '"' or (symbol == "'" and operator.startswith(("#", "%"))):
            with self.refusing("in quotes inside `${ … }`"):
                self._double() if symbol == '"' else self._single()
        else:
            self._quoted_symbol(reference)

    # -- here-documents --

    def heredoc_start(self) -> _Heredoc:
        """What stands after ``<<``."""
        tabs = self.peek() == "-"
        self.at += tabs
        while self.peek() in _BLANK:
            self.at += 1
        with self.refusing("in the delimiter of a here-document"):
            piece = self.word()
        return _Heredoc(piece.text, piece.quoted, tabs)

    def heredoc_body(self, document: _Heredoc) -> None:
        """The lines up to and over the delimiter's."""
        start = stop = self.at
        while stop < self.end:
            line_end = stop
            while line_end < self.end and self._symbols[line_end] != "\n":
                line_end += 1
            line = "".join(_HOLE if isinstance(one, int) else one for one in self._symbols[stop:line_end])
            after = min(line_end + 1, self.end)
            if (line.lstrip("\t") if document.tabs else line) == document.delimiter:
                break
            stop = after
        else:
            after = self.end
        outer, self.end = self.end, stop
        self.at = start
        with self.refusing("in a here-document with a quoted delimiter" if document.quoted else ""):
            while self.at < self.end:
                if document.quoted:
                    self.place(_BARE)
                else:
                    self._quoted_symbol(_BARE)
        self.end = outer
        self.at = after


_QUOTES: dict[str, Callable[[_Lexer], None]] = {
    "'": _Lexer._single,
    '"': _Lexer._double,
    "\\": _Lexer._escape,
    "$": _Lexer._unquoted_dollar,
    "`": _Lexer._backtick,
}


# -- commands ----------------------------------------------------------------------------------------------------------


class _Code:
    """Commands in parentheses, or the whole script: words are collected until a command ends, then judged."""

    def __init__(self, lexer: _Lexer, closing: str) -> None:
        self._lexer = lexer
        self._closing = closing
        self._words: list[_Piece] = []
        self._documents: list[_Heredoc] = []
        #: One for each `case` that is open: True while its next words are patterns.
        self._cases: list[bool] = []

    def read(self) -> None:
        """Up to and over the closing parenthesis."""
        lexer = self._lexer
        while lexer.at < lexer.end:
            symbol = lexer.peek()
            if symbol == ")" and self._closing and not self._in_pattern():
                lexer.at += 1
                break
            self._step(symbol)
        self._finish()

    def _in_pattern(self) -> bool:
        return bool(self._cases) and self._cases[-1]

    def _step(self, symbol: str | int) -> None:
        reader = _STEPS.get(symbol) if isinstance(symbol, str) else None
        if reader is not None:
            reader(self)
        elif symbol == "\\" and self._lexer.peek(1) == "\n":
            self._lexer.at += 2
        else:
            self._word()

    def _blank(self) -> None:
        self._lexer.at += 1

    def _newline(self) -> None:
        self._finish()
        self._lexer.at += 1
        documents, self._documents = self._documents, []
        for document in documents:
            self._lexer.heredoc_body(document)

    def _comment(self) -> None:
        lexer = self._lexer
        while lexer.at < lexer.end and lexer.peek() != "\n":
            lexer.place(_BARE)

    def _operator(self) -> None:
        """``;``, ``&`` and ``|``, single or double."""
        lexer = self._lexer
        symbol, following = lexer.peek(), lexer.peek(1)
        if symbol == "&" and following == ">":
            lexer.at += 1
            self._redirection()
            return
        self._finish()
        lexer.at += 1
        if symbol == ";" and following in (";", "&"):
            lexer.at += 1
            if self._cases:
                self._cases[-1] = True

    def _open(self) -> None:
        """``(``: a subshell, a function's parentheses, ``((`` or the beginning of a pattern."""
        lexer = self._lexer
        if self._in_pattern():
            lexer.at += 1
        elif lexer.peek(1) == "(" and (not self._words or self._words[0].text == "for"):
            lexer.at += 2
            lexer.arithmetic()
        else:
            lexer.at += 1
            lexer.code(")")
            self._finish()

    def _close(self) -> None:
        """The ``)`` of a pattern."""
        self._lexer.at += 1
        self._finish()
        if self._cases:
            self._cases[-1] = False

    def _redirection(self) -> None:
        """``<``, ``>`` and what belongs to them; a process substitution."""
        lexer = self._lexer
        if self._words and self._words[-1].text.isdigit() and str(lexer.peek(-1)).isdigit():
            self._words.pop()
        if lexer.peek(1) == "(":
            lexer.at += 2
            lexer.code(")")
            self._words.append(_Piece("<()"))
            return
        if lexer.peek() == "<" and lexer.peek(1) == "<" and lexer.peek(2) != "<":
            lexer.at += 2
            self._documents.append(lexer.heredoc_start())
            return
        while lexer.peek() in ("<", ">", "&", "|"):
            lexer.at += 1
        while lexer.peek() in _BLANK:
            lexer.at += 1
        lexer.word()

    def _word(self) -> None:
        lexer = self._lexer
        piece = lexer.word()
        plain = "" if piece.quoted or piece.holes else piece.text
        if plain == "esac" and self._cases and not self._words:
            self._cases.pop()
            return
        if self._in_pattern():
            return
        if not self._words and plain == "[[":
            self._test()
        elif self._words or (plain not in _RESERVED and plain not in _CLOSERS):
            self._words.append(piece)
            if plain == "in" and len(self._words) == 3 and self._words[0].text == "case":
                self._words = []
                self._cases.append(True)

    def _test(self) -> None:
        """``[[ … ]]``."""
        lexer = self._lexer
        with lexer.refusing("in `[[ … ]]` (use `[ … ]`)"):
            while lexer.at < lexer.end:
                symbol = lexer.peek()
                if symbol == "]" and lexer.peek(1) == "]":
                    lexer.at += 2
                    return
                if isinstance(symbol, str) and symbol in _META:
                    lexer.at += 1
                elif lexer.word().text == "]]":
                    return

    def _finish(self) -> None:
        """The command has ended: judge its words."""
        words, self._words = self._words, []
        if words and not self._in_pattern():
            for piece, reason in _judge(words, self._lexer.assigned):
                self._lexer.refuse(piece, reason)


_STEPS: dict[str, Callable[[_Code], None]] = {
    " ": _Code._blank,
    "\t": _Code._blank,
    "\r": _Code._blank,
    "\n": _Code._newline,
    "#": _Code._comment,
    ";": _Code._operator,
    "&": _Code._operator,
    "|": _Code._operator,
    "(": _Code._open,
    ")": _Code._close,
    "<": _Code._redirection,
    ">": _Code._redirection,
}


# -- commands that read their arguments again --------------------------------------------------------------------------

Refusal = tuple[_Piece, str]

# fmt: off
# Every argument is code, or names a variable whose subscript would be computed.
_READS_ALL = frozenset({
    "alias", "bind", "compgen", "complete", "declare", "eval", "function", "getopts", "let", "mapfile", "parallel",
    "read", "readarray", "trap", "typeset", "unset", "watch",
})
# `NAME=value` is safe, a computed name is not.
_ASSIGNERS = frozenset({"export", "local", "readonly"})
# The shell reads the value of these again.
_MAGIC = frozenset({
    "BASHOPTS", "BASH_ARGV0", "BASH_ENV", "DIRSTACK", "ENV", "EPOCHSECONDS", "GROUPS", "HISTCMD", "LINENO", "OPTIND",
    "PROMPT_COMMAND", "PS0", "PS1", "PS2", "PS3", "PS4", "RANDOM", "SECONDS", "SHELLOPTS", "SRANDOM",
})
# fmt: on
_SHELLS = frozenset(["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "yash", "fish"])

# Option letters whose argument is a program; options before it that take an argument of their own.
_PROGRAM_OPTIONS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(_SHELLS, ("c", "oO")),
    "python": ("c", "WX"),
    "python3": ("c", "WX"),
    "pypy3": ("c", "WX"),
    "perl": ("eE", "I"),
    "ruby": ("e", "rI"),
    "node": ("ep", "r"),
    "php": ("rBRE", "d"),
    "lua": ("e", "l"),
    "Rscript": ("e", ""),
}
_LONG_PROGRAM_OPTIONS = frozenset(["eval", "print", "expression", "source", "command", "execute"])
# A command that runs another one: its own options that take an argument.
_RUNNERS: dict[str, str] = {
    "builtin": "",
    "command": "",
    "doas": "uC",
    "env": "uCS",
    "exec": "a",
    "nohup": "",
    "setsid": "",
    "sudo": "ugpChrtTUD",
}
_OTHER_RUNNERS = frozenset(
    ["chroot", "find", "flock", "ionice", "nice", "script", "stdbuf", "strace", "su", "time", "timeout", "xargs"]
)
_SSH_OPTIONS = "BbcDEeFIiJLlmOoPpQRSWw"


def _judge(words: Sequence[_Piece], assigned: _Assigned) -> Iterator[Refusal]:
    """The words of one simple command that cannot hold a value, each with the place in words."""
    first = 0
    while first < len(words) and (match := _ASSIGNMENT.match(words[first].text)):
        yield from _judge_assignment(words[first], match[1], assigned)
        first += 1
    if first < len(words):
        yield from _judge_command(words[first:], assigned)


def _judge_assignment(piece: _Piece, name: str, assigned: _Assigned) -> Iterator[Refusal]:
    if name in _MAGIC:
        yield piece, f"as the value of {name}, which the shell reads again"
    assigned.pieces.append(piece)


def _judge_command(words: Sequence[_Piece], assigned: _Assigned) -> Iterator[Refusal]:
    head, rest = words[0], words[1:]
    if head.holes:
        subscript = "[" in head.text.partition(_HOLE)[0]
        yield head, "in the subscript of an array" if subscript else "as the command's own name"
        return
    name = basename(head.text)
    if name in _READS_ALL:
        if name in ("declare", "typeset"):
            assigned.notice(rest)
        yield from ((piece, f"as an argument of `{name}`") for piece in rest)
    elif name in _ASSIGNERS:
        assigned.notice(rest)
        yield from _judge_assigner(name, rest, assigned)
    elif name in ("for", "select"):
        yield from ((piece, f"as the variable of `{name}`") for piece in rest[:1])
        assigned.pieces += rest[2:]
    elif name in ("source", "."):
        yield from ((piece, f"as the script of `{name}`") for piece in rest[:1])
    elif name == "printf" and rest and rest[0].text.startswith("-v"):
        yield from ((piece, "as an argument of `printf -v`") for piece in rest)
    elif name in ("[", "test") and any(piece.text in ("-v", "-R") for piece in rest):
        yield from ((piece, f"as an argument of `{name} -v`") for piece in rest)
    else:
        yield from _judge_program(name, rest, assigned)


def _judge_assigner(name: str, rest: Sequence[_Piece], assigned: _Assigned) -> Iterator[Refusal]:
    for piece in rest:
        match = _ASSIGNMENT.match(piece.text)
        if match:
            yield from _judge_assignment(piece, match[1], assigned)
        elif piece.holes:
            yield piece, f"as a name of `{name}`"


def _judge_program(name: str, rest: Sequence[_Piece], assigned: _Assigned) -> Iterator[Refusal]:
    """Commands whose program is one of their arguments, and commands that run another one."""
    if name in _RUNNERS or name in _OTHER_RUNNERS:
        yield from _judge_runner(name, rest, assigned)
    elif name in _PROGRAM_OPTIONS:
        letters, taking = _PROGRAM_OPTIONS[name]
        yield from ((piece, f"as the program of `{name}`") for piece in _option_programs(rest, letters, taking))
    elif name in ("awk", "gawk", "mawk", "nawk"):
        yield from ((piece, f"as the program of `{name}`") for piece in _first_or_option(rest, "e", "FvfliE", "fE"))
    elif name in ("sed", "gsed"):
        yield from ((piece, f"as the program of `{name}`") for piece in _first_or_option(rest, "e", "l", "f"))
    elif name == "ssh":
        after_host = list(_positionals(rest, _SSH_OPTIONS))[1:]
        yield from ((piece, "in the command of `ssh`") for piece in after_host)


def _judge_runner(name: str, rest: Sequence[_Piece], assigned: _Assigned) -> Iterator[Refusal]:
    asks_only = name == "command" and any(piece.text in ("-v", "-V") for piece in rest[:1])
    if name in _RUNNERS and not asks_only:
        run = next((one for one in _positionals(rest, _RUNNERS[name]) if not _ASSIGNMENT.match(one.text)), None)
        if run is not None and run.holes:
            yield run, "as the command's own name"
    if name in ("su", "script", "flock"):
        yield from ((piece, f"as the program of `{name}`") for piece in _option_programs(rest, "c", "", stop=False))
    for index, piece in enumerate(rest):
        inner = "" if piece.holes else basename(piece.text)
        if inner in _PROGRAM_OPTIONS or inner in _READS_ALL or inner in _READS_PROGRAM:
            yield from _judge_command(rest[index:], assigned)
            return


_READS_PROGRAM = frozenset(["awk", "gawk", "mawk", "nawk", "sed", "gsed", "ssh"])


def _head(piece: _Piece) -> str:
    """What stands before the first hole of a word."""
    return piece.text.partition(_HOLE)[0]


def _positionals(pieces: Sequence[_Piece], taking: str) -> Iterator[_Piece]:
    """The first argument that is no option and belongs to none, and everything after it."""
    skip = False
    for index, piece in enumerate(pieces):
        text = _head(piece)
        if skip:
            skip = False
        elif text.startswith("-") and len(text) > 1:
            skip = len(text) == 2 and text[1] in taking
        else:
            yield from pieces[index:]
            return


def _option_programs(pieces: Sequence[_Piece], letters: str, taking: str, *, stop: bool = True) -> Iterator[_Piece]:
    """The arguments of the options that take a program; attached ones, too."""
    expected = skip = False
    for piece in pieces:
        text = _head(piece)
        if expected:
            yield piece
        if skip or (expected and not text.startswith("-")):
            expected = skip = False
            continue
        expected = False
        if not text.startswith(("-", "+")):
            if stop:
                return
        elif text.startswith("--"):
            if text[2:].partition("=")[0] in _LONG_PROGRAM_OPTIONS:
                yield piece
                expected = "=" not in text
        elif any(letter in text[1:] for letter in letters):
            yield piece
            expected = not piece.holes
        else:
            skip = len(text) == 2 and text[1] in taking


def _first_or_option(pieces: Sequence[_Piece], letters: str, taking: str, files: str) -> Iterator[_Piece]:
    """The programs given by options, or else the first argument (of awk and sed), unless it comes from a file."""
    options = list(_option_programs(pieces, letters, taking, stop=False))
    yield from options
    heads = [_head(piece) for piece in pieces]
    if not options and not any(text[:1] == "-" and text[1:2] != "-" and text[-1:] in files for text in heads):
        yield from list(_positionals(pieces, taking))[:1]


class _Assigned:
    """Assignments of the script; where a variable has the integer or the name attribute, bash reads them again."""

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self.computed = False

    def notice(self, options: Sequence[_Piece]) -> None:
        """The arguments of ``declare`` and its like."""
        flags = "".join(piece.text for piece in options if piece.text.startswith("-"))
        self.computed = self.computed or "i" in flags or "n" in flags
