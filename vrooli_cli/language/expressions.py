"""Expressions: what stands between ``{{`` and ``}}``, and the values written with them (spec routine.md, "Values").

:func:`compile_value` turns plain data of a file into a :class:`Value`: it is read once, when the file is loaded, and
every mistake is found then. What is evaluated later is never rendered again.

Two ways lead to the same meaning, and a property test holds them equal. A dotted path (``steps.log.result['stdout']``)
is recognised by a small pattern and walked by a loop: no import, well under a microsecond. Everything else is parsed by
jinja2 (imported on first need, here and nowhere else) and walked by :mod:`vrooli_cli.language.evaluation`, which is
imported then, too.
"""

from __future__ import annotations

import re
import warnings
from collections import ChainMap, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, lru_cache
from itertools import groupby, takewhile
from typing import Any, ClassVar, Literal, TypeAlias

from vrooli_cli.errors import ExpressionError, Pointer, Problem
from vrooli_cli.language.shapes import Ids, Slot, Words, dashed_id, open_slots, shape_of
from vrooli_cli.language.values import OUTPUT, Missing, MissingName, lookup, text_of, too_large, weigh
from vrooli_cli.model.values import lean

Mode = Literal["value", "expression", "template", "literal"]

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_PATH = rf"{_IDENTIFIER}(?:\.[A-Za-z][\w-]*|\[(?:0|-?[1-9]\d{{0,8}})\]|\['[^'\\\r\n]*'\]|\[\"[^\"\\\r\n]*\"\])*"
_WHOLE = re.compile(rf"\s*\{{\{{\s*({_PATH})\s*\}}\}}\s*", re.ASCII)
_BARE = re.compile(rf"\s*({_PATH})\s*", re.ASCII)
_HOLE = re.compile(r"\{\{(?![-+])((?:[^{}'\"\\]|'[^'{}\\]*'|\"[^\"{}\\]*\")*+)(?<![-+])\}\}")
_ALONE = re.compile(r"\s*\{\{(?![-+])([^\r]*)(?<![-+])\}\}\s*")
_DASHED = re.compile(r"(?:steps|tasks)\.[A-Za-z_]\w*-")
_KEYS = re.compile(r"\.([\w-]+)|\[(-?\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]", re.ASCII)
_MARKS = re.compile(r"\{[{%#]")

# Words that Jinja's grammar takes for itself: a path cannot begin with them.
_RESERVED = frozenset(
    ("and", "else", "false", "False", "if", "in", "is", "none", "None", "not", "or", "true", "True", "null")
)
_STEP_ROOTS = frozenset({"steps", "tasks"})

_LONG = 10_000  # letters; a longer text is counted by its tokens before it is parsed
_MAX_HOLES = 10_000
_MAX_TOKENS = 4_000


@lean()
class Reference:
    """One use of a name.

    Attributes:
        path: The name, and the constant keys that follow it: ``("steps", "log", "result", "stdout")``.
        computed: The next key is not a constant (``steps[x]``).
        guarded: ``default()``, ``is defined`` or ``is undefined`` asks whether it is there.
        pointer: Where the text stands that uses it.
    """

    path: tuple[str | int, ...]
    computed: bool = False
    guarded: bool = False
    pointer: Pointer = ()


class Expression:
    """One expression: what it names, and its value.

    Attributes:
        text: The source, without braces.
        references: The names that it uses; variables of its own loops are not among them.
        raw: ``| raw`` is its last filter: a shell command takes the value as part of its text.
        literal: Its text when it only writes braces (``{{ '{{' }}``), else None.
    """

    __slots__ = ("references", "text")

    raw: bool = False
    literal: str | None = None

    def __init__(self, text: str, references: tuple[Reference, ...]) -> None:
        self.text = text
        self.references = references

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The value, with its type; raises ExpressionError."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{{{{ {self.text} }}}}"


class PathExpression(Expression):
    """``a.b['c'][0]``."""

    __slots__ = ("keys", "root")

    def __init__(self, text: str, path: tuple[str | int, ...], pointer: Pointer) -> None:
        super().__init__(text, (Reference(path, pointer=pointer),))
        self.root = str(path[0])
        self.keys = path[1:]

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The value at the end of the path."""
        try:
            value = names[self.root]
        except KeyError:
            value = MissingName(names, self.root)
        for key in self.keys:
            value = value[key] if type(value) is dict and key in value else lookup(value, key)
        if isinstance(value, Missing):
            raise _told(self.text, value.error())
        return value


class TreeExpression(Expression):
    """Any other expression, as jinja2 parsed it."""

    __slots__ = ("literal", "node", "raw", "words")

    def __init__(self, text: str, node: Any, references: tuple[Reference, ...], words: Words = ()) -> None:
        super().__init__(text, references)
        self.node = node
        self.words = words
        self.raw = type(node).__name__ == "Filter" and node.name == "raw"
        constant = node.value if type(node).__name__ == "Const" else None
        self.literal = constant if isinstance(constant, str) and set(constant) <= set("{}%#") else None

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The value, computed within the bounds."""
        from vrooli_cli.language import evaluation

        try:
            value = evaluation.evaluate(self.node, names, self.words)
            if isinstance(value, str | list | tuple | Mapping | float):
                weigh(value)
        except ExpressionError as error:
            raise _told(self.text, error) from None
        return value


def _told(text: str, error: ExpressionError) -> ExpressionError:
    line = " ".join(text.split())
    line = line if len(line) <= 80 else line[:79] + "…"
    return ExpressionError(f"{{{{ {line} }}}}: {error.message}", code=error.code, context=error.context)


Segment: TypeAlias = str | Expression


class Value:
    """A value of the file, ready to be evaluated.

    Attributes:
        raw: The data as written; the value itself when it is constant.
        is_constant: No name is used: :attr:`raw` is the value, for no work at all.
        references: Every use of a name, in order.
        segments: For a text, its literal pieces and its expressions, in order; empty for other data and for templates
            with ``{% for %}`` or ``{% if %}``.
    """

    __slots__ = ("raw", "references", "segments")

    is_constant: ClassVar[bool] = False

    def __init__(self, raw: Any, references: tuple[Reference, ...] = (), segments: tuple[Segment, ...] = ()) -> None:
        self.raw = raw
        self.references = references
        self.segments = segments

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The value under these names, with its type; raises ExpressionError, one line."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.raw!r})"


class Constant(Value):
    """What names nothing. Shared, not copied: nobody changes it."""

    __slots__ = ()

    is_constant = True

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The data itself."""
        return self.raw


class Whole(Value):
    """One expression and nothing else: it keeps its type."""

    __slots__ = ("expression",)

    def __init__(self, raw: str, expression: Expression) -> None:
        super().__init__(raw, expression.references, (expression,))
        self.expression = expression

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The expression's value."""
        return self.expression.evaluate(names)


class Text(Value):
    """Text around expressions: it becomes text."""

    __slots__ = ()

    def __init__(self, raw: str, segments: tuple[Segment, ...]) -> None:
        used = tuple(ref for part in segments if not isinstance(part, str) for ref in part.references)
        super().__init__(raw, used, segments)

    def evaluate(self, names: Mapping[str, Any]) -> str:
        """The pieces joined; lists and maps as JSON, null as nothing."""
        parts: list[str] = []
        size = 0
        for part in self.segments:
            if not isinstance(part, str):
                value = part.evaluate(names)
                part = value if type(value) is str else _text(part, value)
            size += len(part)
            if size > OUTPUT:
                too_large()
            parts.append(part)
        return "".join(parts)


def _text(expression: Expression, value: Any) -> str:
    try:
        return text_of(value)
    except (ValueError, RecursionError, TypeError) as error:
        raise _told(expression.text, ExpressionError(f"the value cannot be written as text: {error}")) from None
    except ExpressionError as error:
        raise _told(expression.text, error) from None


class Template(Value):
    """Text with ``{% for %}`` and ``{% if %}``."""

    __slots__ = ("body",)

    def __init__(self, raw: str, body: list[Any], references: tuple[Reference, ...]) -> None:
        super().__init__(raw, references)
        self.body = body

    def evaluate(self, names: Mapping[str, Any]) -> str:
        """The text."""
        from vrooli_cli.language import evaluation

        return evaluation.render(self.body, names)


class Container(Value):
    """A list or a map with expressions inside; its keys are text as written."""

    __slots__ = ("_keys", "_parts")

    def __init__(self, raw: Any, keys: tuple[Any, ...] | None, parts: tuple[Value, ...]) -> None:
        self.raw = raw
        self.segments = ()
        self._keys = keys
        self._parts = parts

    @property
    def references(self) -> tuple[Reference, ...]:  # type: ignore[override]
        """Those of its parts."""
        return tuple(ref for part in self._parts for ref in part.references)

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """A new list or map."""
        values = [part.raw if part.is_constant else part.evaluate(names) for part in self._parts]
        return values if self._keys is None else dict(zip(self._keys, values, strict=True))


class Deferred(Value):
    """A text that was checked before (a stored plan): it is parsed when it is first needed."""

    __slots__ = ("_made", "_make")

    def __init__(self, raw: str, make: Callable[[], Value]) -> None:
        self.raw = raw
        self._make = make
        self._made: Value | None = None

    def _value(self) -> Value:
        if self._made is None:
            self._made = self._make()
        return self._made

    @property
    def references(self) -> tuple[Reference, ...]:  # type: ignore[override]
        """The uses of names; asking parses the text."""
        return self._value().references

    @property
    def segments(self) -> tuple[Segment, ...]:  # type: ignore[override]
        """The pieces; asking parses the text."""
        return self._value().segments

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The value, after parsing it the first time."""
        return self._value().evaluate(names)


def compile_value(
    raw: Any,
    *,
    mode: Mode = "value",
    pointer: Pointer = (),
    problems: list[Problem] | None = None,
    dashed: Ids = (),
    deferred: bool = False,
) -> Value:
    """Read a value of a file.

    Args:
        raw: Plain data; texts in lists and maps are read, too.
        mode: ``value``: a text that is one whole ``{{ expression }}`` keeps its type, text around it makes text.
            ``expression``: a text is an expression, braces or not; other data stands for itself. ``template``: text
            that may also hold ``{% for %}`` and ``{% if %}``. ``literal``: nothing is read.
        pointer: Where the data stands in its document.
        problems: What is wrong is added here, with the inner text's pointer, and null stands in for that text; without
            a list the first problem is raised as ExpressionError.
        dashed: The ids with ``-`` that may be written ``steps.a-b``; a set when there are many.
        deferred: The data was compiled without a problem before: texts that need jinja2 are parsed when first used.
    """
    if mode == "literal" or raw is None or (type(raw) is str and mode != "expression" and "{" not in raw):
        return Constant(raw)
    found: list[Problem] = []
    value = _Reader(mode, found, dashed, deferred=deferred).read(raw, pointer)
    if found and problems is None:
        raise ExpressionError(str(found[0]))
    if problems is not None:
        problems.extend(found)
    return value


@lru_cache(maxsize=256)
def _compiled(text: str, dashed: tuple[str, ...]) -> Value:
    return compile_value(text, mode="expression", dashed=dashed)


@lean()
class BoundExpression:
    """What ``assert.that`` and ``table.where`` receive; plain data, so it may cross to another process.

    Attributes:
        text: The expression as written, braces or not.
        names: The values of the names that the expression uses and the tool does not bind itself.
        dashed: The ids with ``-`` that it may name.
    """

    text: str
    names: Mapping[str, Any]
    dashed: tuple[str, ...] = ()

    def evaluate(self, **bound: Any) -> Any:
        """The expression's value, with the tool's own names over the run's; raises ExpressionError."""
        return _compiled(self.text, self.dashed).evaluate(ChainMap(bound, self.names))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return self.text


# -- reading -----------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads one value and everything in it."""

    def __init__(self, mode: Mode, problems: list[Problem], dashed: Ids, *, deferred: bool = False) -> None:
        self._mode = mode
        self._problems = problems
        self._dashed = dashed
        self._deferred = deferred

    def read(self, raw: Any, pointer: Pointer) -> Value:
        if isinstance(raw, str):
            return self._text(raw, pointer)
        if isinstance(raw, Mapping):
            inner = self._inner()
            parts = tuple(inner.read(one, (*pointer, key)) for key, one in raw.items())
            return self._container(raw, tuple(raw), parts)
        if isinstance(raw, list | tuple):
            inner = self._inner()
            return self._container(raw, None, tuple(inner.read(one, (*pointer, i)) for i, one in enumerate(raw)))
        return Constant(raw)

    def _inner(self) -> _Reader:
        return self if self._mode == "value" else self._as("value")

    def _as(self, mode: Mode) -> _Reader:
        return _Reader(mode, self._problems, self._dashed, deferred=self._deferred)

    def _later(self, raw: str, pointer: Pointer) -> Value:
        mode, dashed = self._mode, self._dashed
        return Deferred(raw, lambda: compile_value(raw, mode=mode, pointer=pointer, dashed=dashed))

    @staticmethod
    def _container(raw: Any, keys: tuple[Any, ...] | None, parts: tuple[Value, ...]) -> Value:
        if not all(part.is_constant for part in parts):
            return Container(raw, keys, parts)
        if all(part.raw is one for part, one in zip(parts, raw.values() if keys is not None else raw, strict=True)):
            return Constant(raw)
        values = [part.raw for part in parts]
        return Constant(values if keys is None else dict(zip(keys, values, strict=True)))

    def _text(self, raw: str, pointer: Pointer) -> Value:
        if self._mode == "expression":
            return self._expression(raw, pointer)
        if "{" not in raw or not _MARKS.search(raw):
            return Constant(raw)
        match = _WHOLE.fullmatch(raw) if self._mode == "value" else None
        found = self._path(match[1], pointer) if match else None
        if found is not None:
            return Whole(raw, found)
        pieces = _holes(raw)
        try:
            if pieces is not None:
                with suppress(_Mistake):  # Jinja's lexer says what is wrong
                    return self._cut(raw, pieces, pointer)
            return self._parsed(raw, pointer)
        except _NotNow:
            return self._later(raw, pointer)
        except _Mistake as mistake:
            self._problems.append(Problem(pointer, str(mistake), mistake.hint, within=mistake.within))
            return Constant(None)

    def _expression(self, raw: str, pointer: Pointer) -> Value:
        if raw.lstrip().startswith("{{"):
            value = self._as("value")._text(raw, pointer)
            if isinstance(value, Whole | Constant | Deferred):
                return value
            self._problems.append(Problem(pointer, "one expression was expected here, not text around expressions"))
            return Constant(None)
        try:
            return Whole(raw, self._code(raw.strip(), pointer))
        except _NotNow:
            return self._later(raw, pointer)
        except _Mistake as mistake:
            self._problems.append(Problem(pointer, str(mistake), mistake.hint, within=mistake.within))
            return Constant(None)

    def _path(self, text: str, pointer: Pointer) -> PathExpression | None:
        """The path, if its words are names; a dash is only understood in the id of a step."""
        if "[" not in text and "-" not in text:
            path = tuple(text.split("."))
            return PathExpression(text, path, pointer) if path[0] not in _RESERVED else None
        found = list(_KEYS.finditer(text))
        head = text[: found[0].start()] if found else text
        if head in _RESERVED:
            return None
        for index, key in enumerate(found):
            if key[1] and "-" in key[1] and (index or head not in _STEP_ROOTS or key[1] not in self._dashed):
                return None
        keys = (int(key[2]) if key.lastindex == 2 else key[key.lastindex or 0] for key in found)
        return PathExpression(text, (head, *keys), pointer)

    def _parsed(self, raw: str, pointer: Pointer) -> Value:
        """The value of a text that jinja2 has to cut."""
        if self._deferred:
            raise _NotNow
        pieces = _scan(raw, statements=self._mode == "template")
        if pieces is None:
            body = _parse_template(_undash(raw, self._dashed, None))
            return Template(raw, body, tuple(_references(body, frozenset(), pointer)))
        return self._cut(raw, pieces, pointer)

    def _cut(self, raw: str, pieces: list[tuple[bool, str]], pointer: Pointer) -> Value:
        """The value of a text in pieces."""
        segments = tuple([self._code(text.strip(), pointer) if is_code else text for is_code, text in pieces])
        expressions = [part for part in segments if not isinstance(part, str)]
        if not expressions:
            return Constant("".join(str(part) for part in segments))
        alone = len(expressions) == 1 and all(not part.strip() for part in segments if isinstance(part, str))
        return Whole(raw, expressions[0]) if alone and self._mode == "value" else Text(raw, segments)

    def _code(self, text: str, pointer: Pointer) -> Expression:
        """A path, for which jinja2 is not needed, or a tree."""
        match = _BARE.fullmatch(text)
        found = self._path(match[1], pointer) if match else None
        if found is not None:
            return found
        if self._deferred:
            raise _NotNow
        shape = shape_of(text, self._dashed)
        tree = _parse_shape(shape[0], len(shape[1])) if shape is not None else None
        if shape is not None and tree is not None:
            return tree.filled(text, shape[1], pointer)
        node = _parse_expression(_undash(text, self._dashed, "variable"))
        return TreeExpression(text, node, tuple(_references([node], frozenset(), pointer)))


def _merged(pieces: Iterable[tuple[bool, str]]) -> Iterator[tuple[bool, str]]:
    """Neighbouring literal pieces as one (a raw block and the text beside it)."""
    for is_code, group in groupby(pieces, key=lambda piece: piece[0]):
        if is_code:
            yield from group
        else:
            yield False, "".join(text for _, text in group)


class _NotNow(Exception):
    """Jinja2 is needed, and is to be imported when the text is first used."""


class _Mistake(Exception):
    """What is wrong with a text, what to do, and the words of the text that are meant."""

    def __init__(self, message: str, hint: str = "", within: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.within = within


# -- jinja2's grammar --------------------------------------------------------------------------------------------------


@cache
def _environment() -> Any:
    """Jinja's sandbox, of which only the lexer and the parser are ever used."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(optimized=False, autoescape=False, keep_trailing_newline=True)


@contextmanager
def _one_line_errors(text: str) -> Iterator[None]:
    """Whatever Jinja's lexer and parser raise, as one mistake."""
    from jinja2 import TemplateSyntaxError

    try:
        with warnings.catch_warnings() if "\\" in text else nullcontext():
            if "\\" in text:  # Python warns of a backslash that escapes nothing; Jinja keeps it
                warnings.simplefilter("ignore")
            yield
    except TemplateSyntaxError as error:
        raise _Mistake(f"the expression cannot be read: {error.message}", within=_line(text, error.lineno)) from None
    except RecursionError:
        raise _Mistake("the expression is nested too deeply") from None
    except ValueError:
        raise _Mistake("the expression cannot be read: a number in it has too many digits") from None


def _tokens(text: str, state: str | None) -> Iterator[tuple[str, str]]:
    """Jinja's own tokens as (kind, text), white space included; a text with too many is refused before it is parsed."""
    count = holes = 0
    for _, kind, piece in _environment().lexer.tokeniter(text, None, state=state):
        if kind in ("variable_begin", "block_begin"):
            count, holes = 0, holes + 1
        count += kind != "whitespace"
        if count > _MAX_TOKENS or holes > _MAX_HOLES:
            raise _Mistake("the text has too many expressions, or one is too long", "split it into steps or `vars:`")
        yield kind, piece


def _holes(raw: str) -> list[tuple[bool, str]] | None:
    """The pieces of a text, as :func:`_scan` has them, when its every mark begins a plain hole; else None.

    Jinja's lexer takes the leftmost mark and ends at the first braces that close no bracket and stand in no text: at
    the same places, when each piece is an expression by itself.
    """
    pieces: list[tuple[bool, str]] = []
    end = 0
    for hole in _HOLE.finditer(raw):
        before = raw[end : hole.start()]
        if before.endswith("{") or _MARKS.search(before) or len(pieces) > 2 * _MAX_HOLES:
            return None
        pieces += ((False, before), (True, hole[1])) if before else ((True, hole[1]),)
        end = hole.end()
    rest = raw[end:]
    if "\r" in raw or _MARKS.search(rest):
        return None
    return [*pieces, (False, rest)] if rest else pieces


def _scan(raw: str, *, statements: bool) -> list[tuple[bool, str]] | None:
    """The text's pieces in order, as (is an expression, text); None when it holds statements and may."""
    if raw.count("}}") == 1 and "}}}" not in raw and len(_MARKS.findall(raw)) == 1:
        whole = _ALONE.fullmatch(raw)
        if whole:
            return [(True, whole[1])]
    if "\r" not in raw:
        return _pieces(raw, statements)
    # The lexer would turn a carriage return into a line feed; inside an expression it is only white space.
    mark = next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in raw)
    try:
        pieces = _pieces(raw.replace("\r", mark), statements)
    except _Mistake:
        return _pieces(raw, statements)
    return pieces and [(is_code, text.replace(mark, "\r")) for is_code, text in pieces]


def _pieces(raw: str, statements: bool) -> list[tuple[bool, str]] | None:
    pieces: list[tuple[bool, str]] = []
    code: list[str] | None = None
    with _one_line_errors(raw):
        for kind, piece in _tokens(raw, None):
            if kind == "data":
                pieces.append((False, piece))
            elif kind == "variable_begin":
                code = []
            elif kind == "variable_end":
                pieces.append((True, "".join(code or ())))
                code = None
            elif code is not None:
                code.append(piece)
            elif kind == "block_begin" and statements:
                return None
            elif kind in ("block_begin", "comment_begin") and not statements:
                raise _statement(piece[:2])
    if code is not None:
        rest = "{{" + "".join(code)
        raise _Mistake("the expression is not closed: `}}` is missing", within=rest[:200].strip())
    return list(_merged(pieces))


def _statement(mark: str) -> _Mistake:
    hint = f"to write it as text: {{{{ '{mark}' }}}}"
    if mark == "{%":
        return _Mistake("`{%` has a meaning only in prompt, system and the template tool", hint, mark)
    return _Mistake("`{#` is not understood here", hint, mark)


def _line(text: str, number: int) -> str:
    """The line of that number, from 1, or the last before it that says something."""
    return next((line.strip() for line in reversed(text.splitlines()[:number]) if line.strip()), "")[:200]


@lru_cache(maxsize=1024)
def _parse_expression(text: str) -> Any:
    """The tree of one expression, checked."""
    from jinja2.parser import Parser

    from vrooli_cli.language import evaluation

    if not text:
        raise _Mistake("the expression is empty")
    with _one_line_errors(text):
        if len(text) > _LONG:
            deque(_tokens(text, "variable"), maxlen=0)
        parser = Parser(_environment(), text, state="variable")
        node = parser.parse_expression()
        rest = parser.stream.current
        if rest.type != "eof":
            message = f"the expression cannot be read: {rest.value!r:.40} is not expected there"
            raise _Mistake(message, within=_line(text, rest.lineno))
    for message in evaluation.check(node):
        raise _Mistake(message, within=_line(text, 1))
    return node


class _Shape:
    """The tree of a shape, and the names that it uses, with slots in their paths."""

    __slots__ = ("_node", "_references")

    def __init__(self, node: Any) -> None:
        self._node = node
        self._references = tuple(_references([node], frozenset(), ()))

    def filled(self, text: str, words: Words, pointer: Pointer) -> TreeExpression:
        """The expression that has these words."""
        references = tuple(
            Reference(
                tuple([words[key] if type(key) is Slot else key for key in one.path]),
                one.computed,
                one.guarded,
                pointer,
            )
            for one in self._references
        )
        return TreeExpression(text, self._node, references, words)


@lru_cache(maxsize=1024)
def _parse_shape(shape: str, count: int) -> _Shape | None:
    """The tree of a shape with so many slots; None when its expressions have to be parsed one by one."""
    from jinja2.nodes import Node

    try:
        node = _parse_expression.__wrapped__(shape)
    except _Mistake:  # the expression itself says what is wrong
        return None
    if type(node).__name__ == "Const" or not open_slots([node, *node.find_all(Node)], count):
        return None
    return _Shape(node)


def _parse_template(text: str) -> list[Any]:
    from vrooli_cli.language import evaluation

    with _one_line_errors(text):
        deque(_tokens(text, None), maxlen=0)
        body: list[Any] = _environment().parse(text).body
    for message in evaluation.check_template(body):
        raise _Mistake(message)
    return body


def _undash(text: str, dashed: Ids, state: str | None) -> str:
    """``steps.a-b`` written as ``steps['a-b']`` for the ids given, longest first; never inside a literal."""
    if not _DASHED.search(text):
        return text
    with _one_line_errors(text):
        tokens = list(_tokens(text, state))
    out: list[str] = []
    index = 0
    while index < len(tokens):
        end = _dotted_step(tokens, index)
        if end:
            run = "".join(piece for _, piece in tokens[index + 2 : end])
            name = dashed_id(run, dashed)
            if name is not None:
                out.append(f"{tokens[index][1]}['{name}']{run[len(name) :]}")
                index = end
                continue
        out.append(tokens[index][1])
        index += 1
    return "".join(out)


def _dotted_step(tokens: Sequence[tuple[str, str]], index: int) -> int:
    """Where the run of name, number and ``-`` tokens ends that follows ``steps.`` at ``index``; 0 if there is none."""
    if tokens[index][1] not in _STEP_ROOTS or tokens[index][0] != "name" or (index and tokens[index - 1][1] == "."):
        return 0
    if index + 2 >= len(tokens) or tokens[index + 1][1] != "." or tokens[index + 2][0] != "name":
        return 0
    end = index + 2
    while end < len(tokens) and (tokens[end][0] in ("name", "integer") or tokens[end][1] == "-"):
        end += 1
    return end


# -- references --------------------------------------------------------------------------------------------------------

_ASKS = {"Filter": {"default", "d"}, "Test": {"defined", "undefined"}}


def _references(
    nodes: Sequence[Any], bound: frozenset[str], pointer: Pointer, guarded: bool = False
) -> Iterator[Reference]:
    """Every use of a name in some trees, but for the variables that their own loops bind."""
    for node in nodes:
        kind = type(node).__name__
        if kind in ("Name", "Getattr", "Getitem"):
            yield from _chain(node, bound, pointer, guarded)
        elif kind == "Call":
            callee = [node.node.node] if type(node.node).__name__ == "Getattr" else []
            yield from _references([*callee, *node.args, *node.kwargs], bound, pointer)
        elif kind in _ASKS:
            yield from _references([node.node], bound, pointer, node.name in _ASKS[kind])
            yield from _references([*node.args, *node.kwargs], bound, pointer)
        elif kind == "For":
            yield from _references([node.iter], bound, pointer)
            inside = bound | {"loop"} | {name.name for name in _targets(node.target)}
            yield from _references([*([node.test] if node.test else ()), *node.body], inside, pointer)
            yield from _references(node.else_, bound, pointer)
        else:
            yield from _references(list(node.iter_child_nodes()), bound, pointer)


def _targets(target: Any) -> Iterator[Any]:
    if type(target).__name__ == "Name":
        yield target
    else:
        for part in target.items:
            yield from _targets(part)


def _chain(node: Any, bound: frozenset[str], pointer: Pointer, guarded: bool) -> Iterator[Reference]:
    links: list[str | int | None] = []
    while type(node).__name__ != "Name":
        kind = type(node).__name__
        if kind == "Getattr":
            links.append(node.attr)
        elif kind == "Getitem":
            key = _constant_key(node.arg)
            links.append(key)
            if key is None:
                yield from _references([node.arg], bound, pointer)
        else:
            yield from _references([node], bound, pointer, guarded)
            return
        node = node.node
    if node.name in bound or node.name == "null":
        return
    links.reverse()
    keys = [key for key in takewhile(lambda key: key is not None, links) if key is not None]
    yield Reference((node.name, *keys), len(keys) < len(links), guarded, pointer)


def _constant_key(arg: Any) -> str | int | None:
    kind = type(arg).__name__
    if kind == "Const" and type(arg.value) in (str, int, Slot):
        return arg.value  # type: ignore[no-any-return]
    if kind == "Neg" and type(arg.node).__name__ == "Const" and type(arg.node.value) is int:
        return -arg.node.value
    return None
