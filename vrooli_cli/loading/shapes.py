"""What a value of a file may look like: each shape reads plain data, says what is wrong with it, and is JSON Schema.

One table of shapes (``forms``) is the only place that knows the keys of a file, their types and their descriptions: the
loader checks with it and editors complete with it. ``read`` is straight-line Python and not a validation library's:
files of 10,000 steps are read in the time that a parser takes, and the messages are ours, in the words of the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from vrooli_cli.errors import Guesses, Pointer, Problem
from vrooli_cli.loading.durations import EXAMPLE, PATTERN, parse_duration
from vrooli_cli.model.values import lean

JsonSchema = dict[str, Any]
Definitions = dict[str, JsonSchema]

# A hostile file can be wrong in a million places; nobody reads on after these.
MOST_PROBLEMS = 1000
# What a database and a reader of JSON can hold.
_LARGEST = 2**63 - 1


class Findings:
    """The problems of one file, in the order in which they were found.

    Attributes:
        problems: At most ``MOST_PROBLEMS``; ``count`` goes on counting.
        where: Gives the words for a place ("line 12"); the pointer itself for data that has no lines.
    """

    __slots__ = ("_guesses", "count", "problems", "where")

    def __init__(self, where: Callable[[Pointer], str] | None = None) -> None:
        self.problems: list[Problem] = []
        self.count = 0
        self.where = where or _path
        self._guesses = Guesses()

    def add(self, at: Pointer, message: str, hint: str = "", *, at_key: bool = False, code: str = "") -> None:
        """Note that something is wrong."""
        self.count += 1
        if self.count <= MOST_PROBLEMS:
            self.problems.append(Problem(at, message, hint, code=code or "DEFINITION_INVALID", at_key=at_key))
        elif self.count == MOST_PROBLEMS + 1:
            self.problems.append(Problem((), f"more than {MOST_PROBLEMS} problems; the rest is not shown"))

    def warn(self, at: Pointer, message: str, hint: str = "") -> None:
        """Note what is worth saying but stops nothing."""
        if len(self.problems) <= MOST_PROBLEMS:
            self.problems.append(Problem(at, message, hint, warning=True))

    def suggest(self, word: object, known: Collection[str]) -> str:
        """``did you mean 'x'?``, or nothing when none is near or the file has used up what guessing may cost."""
        if not isinstance(word, str) or self.count > MOST_PROBLEMS:
            return ""
        return self._guesses.near(word, lambda: known)


def _path(at: Pointer) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".") or "the file"


def found(raw: object) -> str:
    """What was found instead, in words."""
    match raw:
        case None:
            return "nothing"
        case bool():
            return "true" if raw else "false"
        case int() | float():
            return f"the number {raw!r}" if abs(raw) < 1e15 else "a number"
        case str():
            return f"the text {shorten(raw)!r}" if raw else "an empty text"
        case Mapping():
            return "a map"
        case list() | tuple():
            return "a list"
    return "something else"


def shorten(text: str, limit: int = 40) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def label(at: Pointer) -> str:
    """How a message names the value at ``at``: its key, with the position for an item of a list."""
    positions = ""
    for part in reversed(at):
        if isinstance(part, str):
            return f"{part}{positions}"
        positions = f"[{part}]{positions}"
    return f"item {positions}" if positions else "the file"


def has_expression(raw: object) -> bool:
    """True when ``{{`` stands in a text anywhere in the value, so that it is not known before the run."""
    if isinstance(raw, str):
        return "{{" in raw or "{%" in raw
    if not isinstance(raw, (dict, list)):
        return False
    pending: list[object] = [raw]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and ("{{" in value or "{%" in value):
            return True
    return False


class Shape(Protocol):
    """What a value may look like."""

    @property
    def expected(self) -> str:
        """The words for it, with their article: ``a list of texts``."""
        ...

    def fits(self, raw: object) -> bool:
        """True when the value is of this kind, right or wrong inside; chooses between short and long forms."""
        ...

    def read(self, raw: Any, at: Pointer, findings: Findings) -> Any:
        """The normalised value; what is wrong goes to ``findings`` and the answer has no meaning then."""
        ...

    def schema(self, definitions: Definitions) -> JsonSchema:
        """As JSON Schema; maps with a name put themselves into ``definitions``."""
        ...


def refuse(shape: Shape, raw: object, at: Pointer, findings: Findings, hint: str = "") -> None:
    """Note that a value has another kind than its shape."""
    findings.add(at, f"`{label(at)}` must be {shape.expected}, not {found(raw)}", hint)


@lean()
class Text:
    """A string.

    Attributes:
        pattern: What the whole text must look like; ``expected`` then says it in words.
        static: True where no expression may stand, because it is read before anything runs.
        empty: True when an empty text means something.
    """

    expected: str = "a text"
    pattern: re.Pattern[str] | None = None
    static: bool = False
    empty: bool = True

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, str)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> str | None:
        """See :class:`Shape`."""
        if not isinstance(raw, str):
            scalar = isinstance(raw, (bool, int, float)) and self._takes(str(raw))
            refuse(self, raw, at, findings, "put it in quotes" if scalar else "")
            return None
        if self.static and "{{" in raw:
            message = f"`{label(at)}` cannot hold an expression: it is read before anything runs"
            findings.add(at, message, "write the name itself")
        elif not self._takes(raw):
            refuse(self, raw, at, findings)
        return raw

    def _takes(self, text: str) -> bool:
        if self.pattern is not None:
            return self.pattern.fullmatch(text) is not None
        return self.empty or bool(text.strip())

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        made: JsonSchema = {"type": "string"}
        if self.pattern is not None:
            made["pattern"] = f"^(?:{self.pattern.pattern})$"
        elif not self.empty:
            made["pattern"] = r"\S"
        if self.static and self.pattern is None:
            made["not"] = {"pattern": r"\{\{"}
        return made


@lean()
class Word:
    """One of a few words.

    Attributes:
        beside: What may stand instead of a word, for messages.
    """

    words: tuple[str, ...]
    beside: str = ""

    @property
    def expected(self) -> str:
        """See :class:`Shape`."""
        return any_of((*self.words, self.beside) if self.beside else self.words)

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, str)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> str | None:
        """See :class:`Shape`."""
        if isinstance(raw, str) and raw in self.words:
            return raw
        refuse(self, raw, at, findings, findings.suggest(raw, self.words))
        return None

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        return {"enum": list(self.words)}


def any_of(words: Sequence[str]) -> str:
    """``a, b or c``."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


@lean()
class Flag:
    """True or false; YAML 1.2 knows no other words for it."""

    expected: str = "true or false"

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, bool)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> bool:
        """See :class:`Shape`."""
        if not isinstance(raw, bool):
            refuse(self, raw, at, findings)
        return raw is True

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        return {"type": "boolean"}


@lean()
class Number:
    """A finite number within bounds, both included.

    Attributes:
        whole: True when only an integer will do.
        text: True when the digits may stand in quotes (credits, which no JSON reader may round).
        over: True when the number must be above ``least``.
    """

    least: float | None = 0
    most: float | None = None
    whole: bool = False
    text: bool = False
    over: bool = False

    @property
    def expected(self) -> str:
        """See :class:`Shape`."""
        kind = "a whole number" if self.whole else "a number"
        if self.least is None:
            return kind
        if self.over:
            return f"{kind} above {self.least:g}"
        if self.most is None:
            return f"{kind}, at least {self.least:g}"
        return f"{kind} from {self.least:g} to {self.most:g}"

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, (int, float)) and not isinstance(raw, bool)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> int | float:
        """See :class:`Shape`."""
        if self.text and isinstance(raw, str) and raw.isascii() and raw.isdigit() and len(raw) <= 30:
            raw = int(raw)
        if not self.fits(raw) or not self._holds(raw):
            refuse(self, raw, at, findings)
            return 0
        number: int | float = raw
        return number

    def _holds(self, raw: float) -> bool:
        if isinstance(raw, float) and (self.whole or not math.isfinite(raw)):
            return False
        low = -_LARGEST if self.least is None else self.least
        high = _LARGEST if self.most is None else self.most
        return low <= raw <= high and not (self.over and raw == low)

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        made: JsonSchema = {"type": "integer" if self.whole else "number"}
        if self.least is not None:
            made["exclusiveMinimum" if self.over else "minimum"] = self.least
        if self.most is not None:
            made["maximum"] = self.most
        return {"anyOf": [made, {"type": "string", "pattern": "^[0-9]{1,30}$"}]} if self.text else made


@lean()
class Duration:
    """A duration; read as milliseconds.

    Attributes:
        positive: True when nothing at all makes no sense, as for a time-out.
        dynamic: True when ``{{ }}`` may stand for it; such text stays as it is.
    """

    positive: bool = True
    dynamic: bool = False
    expected: str = EXAMPLE

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, (str, int, float)) and not isinstance(raw, bool)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> int | str:
        """See :class:`Shape`."""
        if self.dynamic and isinstance(raw, str) and "{{" in raw:
            return raw
        if not self.fits(raw):
            refuse(self, raw, at, findings)
            return 0
        try:
            milliseconds = parse_duration(raw)
        except ValueError as error:
            findings.add(at, f"`{label(at)}`: {error}")
            return 0
        if self.positive and not milliseconds:
            findings.add(at, f"`{label(at)}` must be longer than nothing")
        return milliseconds

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        number: JsonSchema = {"type": "number", "description": "Seconds."}
        number["exclusiveMinimum" if self.positive else "minimum"] = 0
        text = {"type": "string", "pattern": PATTERN, "description": "With units ms, s, m, h and d, e.g. 1h30m."}
        dynamic = [{"type": "string", "pattern": r"\{\{", "description": "An expression."}] if self.dynamic else []
        return {"anyOf": [text, number, *dynamic], "examples": ["30s", "1h30m"]}


@lean()
class Value:
    """Any value; ``{{ }}`` in its texts is rendered when its step runs."""

    expected: str = "a value"

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return True

    def read(self, raw: Any, at: Pointer, findings: Findings) -> Any:
        """See :class:`Shape`."""
        return raw

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        return {}


@lean()
class Expr:
    """An expression, with or without its braces; what is not text stands for itself.

    Attributes:
        condition: True when the answer must be true or false.
    """

    condition: bool = False

    @property
    def expected(self) -> str:
        """See :class:`Shape`."""
        return "an expression that is true or false" if self.condition else "an expression"

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, (str, bool, type(None))) if self.condition else raw is not None

    def read(self, raw: Any, at: Pointer, findings: Findings) -> Any:
        """See :class:`Shape`."""
        if not self.fits(raw) or (isinstance(raw, str) and not raw.strip()):
            refuse(self, raw, at, findings)
        return raw

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        kinds = ("boolean", "null") if self.condition else ("number", "boolean", "array", "object")
        return {"anyOf": [{"type": "string", "pattern": r"\S"}, *({"type": kind} for kind in kinds)]}


@lean()
class ListOf:
    """A list of values of one shape; read as a tuple."""

    item: Shape
    expected: str = "a list"
    least: int = 0
    unique: bool = False

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, list)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> tuple[Any, ...]:
        """See :class:`Shape`."""
        if not isinstance(raw, list):
            alone = isinstance(raw, str) and self.item.fits(raw)
            refuse(self, raw, at, findings, f"write [{shorten(raw)}]" if alone else "")
            return ()
        if len(raw) < self.least:
            findings.add(at, f"`{label(at)}` must have at least {self.least} item{'s' if self.least > 1 else ''}")
        read = self.item.read
        values = tuple([read(value, (*at, position), findings) for position, value in enumerate(raw)])
        if self.unique and len(raw) > 1:
            _no_twins(values, at, findings)
        return values

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        made: JsonSchema = {"type": "array", "items": self.item.schema(definitions)}
        if self.least:
            made["minItems"] = self.least
        if self.unique:
            made["uniqueItems"] = True
        return made


def _no_twins(values: tuple[Any, ...], at: Pointer, findings: Findings) -> None:
    seen: set[str] = set()
    for position, value in enumerate(values):
        if isinstance(value, str):
            if value in seen:
                findings.add((*at, position), f"{shorten(value)!r} stands in `{label(at)}` twice")
            seen.add(value)


@lean()
class MapOf:
    """A map from free names to values of one shape.

    Attributes:
        key: What a name must look like.
        key_words: The same in words, e.g. ``a name``.
    """

    item: Shape
    expected: str = "a map"
    key: re.Pattern[str] | None = None
    key_words: str = "a name"

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, dict)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> dict[str, Any]:
        """See :class:`Shape`."""
        if not isinstance(raw, dict):
            refuse(self, raw, at, findings)
            return {}
        made = {}
        for key, value in raw.items():
            if not isinstance(key, str) or (self.key is not None and not self.key.fullmatch(key)):
                words = f"{shorten(str(key))!r} in `{label(at)}` is not {self.key_words}"
                findings.add((*at, key), words, "" if isinstance(key, str) else "put it in quotes", at_key=True)
            else:
                made[key] = self.item.read(value, (*at, key), findings)
        return made

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        made: JsonSchema = {"type": "object", "additionalProperties": self.item.schema(definitions)}
        if self.key is not None:
            made["propertyNames"] = {"pattern": f"^(?:{self.key.pattern})$"}
        return made


@lean()
class Either:
    """A short form or a long one; the kind of the value decides which.

    Attributes:
        forms: Each with the function that turns what it read into the common form.
    """

    forms: tuple[tuple[Shape, Callable[[Any], Any]], ...]
    words: str = ""

    @property
    def expected(self) -> str:
        """See :class:`Shape`."""
        return self.words or " or ".join(shape.expected for shape, _ in self.forms)

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return any(shape.fits(raw) for shape, _ in self.forms)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> Any:
        """See :class:`Shape`."""
        for shape, normalise in self.forms:
            if shape.fits(raw):
                before = findings.count
                value = shape.read(raw, at, findings)
                return normalise(value) if findings.count == before else None
        refuse(self, raw, at, findings)
        return None

    def schema(self, definitions: Definitions) -> JsonSchema:
        """See :class:`Shape`."""
        return {"anyOf": [shape.schema(definitions) for shape, _ in self.forms]}


def same(value: Any) -> Any:
    """The value itself: the normalisation of a long form."""
    return value


@lean()
class Key:
    """One key of a :class:`Form`.

    Attributes:
        about: The sentence that an editor shows.
        alias: Another name that means the same.
        default: What holds when it is not written; for editors.
    """

    shape: Shape
    about: str
    alias: str = ""
    required: bool = False
    default: Any = None
    examples: tuple[Any, ...] = ()

    def schema(self, definitions: Definitions) -> JsonSchema:
        """The key's part of ``properties``."""
        made: JsonSchema = {"description": self.about, **self.shape.schema(definitions)}
        if self.default is not None:
            made["default"] = self.default
        if self.examples:
            made["examples"] = list(self.examples)
        return made


@lean()
class Form:
    """A map with known keys.

    Attributes:
        name: Its name among the schema's definitions.
        keys: Key → what may stand there.
        about: The sentence that an editor shows.
        one_of: Keys of which exactly one is written.
        extra: JSON Schema keywords beside those that follow from the keys.
    """

    name: str
    about: str
    keys: Mapping[str, Key]
    one_of: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    expected: str = "a map"
    _names: dict[str, tuple[str, Shape]] = field(default_factory=dict, repr=False, compare=False)
    _required: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, key in self.keys.items():
            self._names[name] = (name, key.shape)
            if key.alias:
                self._names[key.alias] = (name, key.shape)
        required = tuple(name for name, key in self.keys.items() if key.required)
        object.__setattr__(self, "_required", required)

    @property
    def names(self) -> Iterable[str]:
        """Every key that may be written, aliases too."""
        return self._names

    def fits(self, raw: object) -> bool:
        """See :class:`Shape`."""
        return isinstance(raw, dict)

    def read(self, raw: Any, at: Pointer, findings: Findings) -> dict[str, Any]:
        """The values by key, aliases folded; a key that is not written, or is wrong, is not there.

        A list or map of forms is there also when something in it is wrong: the rest of it can still be checked.
        """
        if not isinstance(raw, dict):
            refuse(self, raw, at, findings)
            return {}
        made: dict[str, Any] = {}
        names = self._names
        for written, value in raw.items():
            known = names.get(written)
            if known is None:
                self._unknown(written, at, findings)
                continue
            name, shape = known
            before = findings.count
            read = shape.read(value, (*at, written), findings)
            if written != name and name in raw:
                findings.add((*at, written), f"`{written}` means `{name}`, which is written too", at_key=True)
            elif findings.count == before or (isinstance(shape, ListOf | MapOf) and isinstance(shape.item, Form)):
                made[name] = read
        for name in self._required:
            if name not in raw:
                findings.add(at, f"{self.name} needs `{name}`", self.keys[name].about)
        if self.one_of:
            self._exactly_one(raw, at, findings)
        return made

    def _unknown(self, written: object, at: Pointer, findings: Findings) -> None:
        hint = findings.suggest(written, tuple(self._names))
        if not hint and len(self._names) <= 12:
            hint = f"keys are {', '.join(self.keys)}"
        key: Any = written
        findings.add((*at, key), f"{shorten(str(written))!r} is not a key of {self.name}", hint, at_key=True)

    def _exactly_one(self, raw: Mapping[str, Any], at: Pointer, findings: Findings) -> None:
        written = [name for name in self.one_of if name in raw]
        if not written:
            findings.add(at, f"{self.name} needs one of {', '.join(self.one_of)}")
        for other in written[1:]:
            message = f"{self.name} has both `{written[0]}` and `{other}`; it can have only one of them"
            findings.add((*at, other), message, at_key=True)

    def schema(self, definitions: Definitions) -> JsonSchema:
        """A reference to the definition, which is made on first use."""
        slug = self.name.removeprefix("a ").removeprefix("an ").replace(" ", "-")
        if slug not in definitions:
            definitions[slug] = {}  # stands here while its parts are made: a step holds steps
            definitions[slug] = self.body(definitions)
        return {"$ref": f"#/$defs/{slug}"}

    def body(self, definitions: Definitions) -> JsonSchema:
        """The definition itself."""
        properties: JsonSchema = {}
        conflicts = []
        for name, key in self.keys.items():
            properties[name] = key.schema(definitions)
            if key.alias:
                properties[key.alias] = {**properties[name], "description": f"The same as `{name}`."}
                conflicts.append({"not": {"properties": {name: True, key.alias: True}, "required": [name, key.alias]}})
        made: JsonSchema = {
            "type": "object",
            "description": self.about,
            "properties": properties,
            "additionalProperties": False,
        }
        if self._required:
            made["required"] = list(self._required)
        if self.one_of:
            made["oneOf"] = one_of(self.one_of)
        if conflicts:
            made["allOf"] = conflicts
        return {**made, **self.extra}


def one_of(names: Iterable[str]) -> list[JsonSchema]:
    """Exactly one of these keys; each branch says that its key exists, as strict validators want."""
    return [{"properties": {name: True}, "required": [name]} for name in names]
