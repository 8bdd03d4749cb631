"""JSON Schema: what a value must look like, told in plain sentences (draft 2020-12; spec routine.md, "Inputs").

Most schemas that people write use a handful of keywords, and those are checked here. A schema with anything else is
given to jsonschema, which is imported then, here and nowhere else; nothing is ever fetched for a ``$ref``. Both ways
have JSON's idea of a type: ``true`` is not an integer, ``1.0`` is one. ``format`` is a note, as the standard has it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import islice
from typing import Any, NamedTuple

from vrooli_cli.errors import DefinitionError, Problem, did_you_mean
from vrooli_cli.language.values import describe

_MAX_VIOLATIONS = 100
_MAX_PATTERN = 1_000  # letters
_MAX_MATCHED = 10_000  # letters that a pattern is tried on
_SHOWN = 80  # letters of a value in a sentence

Path = tuple[str | int, ...]
Accepts = Callable[[Any], bool]


class Violation(NamedTuple):
    """One way in which a value does not fit.

    Attributes:
        path: Keys and positions from the checked value to the one that is meant.
        message: One sentence, e.g. ``must be an integer, not text``.
    """

    path: Path
    message: str

    def __str__(self) -> str:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).lstrip(".")
        return f"{place}: {self.message}" if place else self.message


class Schema:
    """A schema, ready to check values; made by :func:`compile_schema`."""

    __slots__ = ("_accepts", "_properties", "_schema", "_simple")

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._simple = _is_simple(schema)
        self._accepts: Accepts | None = None
        self._properties: dict[str, Schema] = {}

    def check(self, value: Any) -> list[Violation]:
        """Every violation, in order; empty when the value fits. It never raises for a value."""
        try:
            if not self._simple:
                return list(islice(_full(self._schema, value), _MAX_VIOLATIONS))
            if self._accepts is None:
                self._accepts = _acceptor(self._schema)
            if self._accepts(value):
                return []
            return list(islice(_walk(self._schema, value, ()), _MAX_VIOLATIONS))
        except RecursionError:
            return [Violation((), "is nested too deeply")]

    def check_property(self, name: str, value: Any) -> list[Violation]:
        """The violations of one property, with paths from the property; none when the schema does not know it."""
        schema = self._properties.get(name)
        if schema is None:
            properties = self._schema.get("properties", {}) if isinstance(self._schema, Mapping) else {}
            schema = self._properties[name] = Schema(properties.get(name, True))
        return schema.check(value)


def compile_schema(schema: Any) -> Schema:
    """A schema (a map, or true or false), ready to check values.

    Raises:
        DefinitionError: It is not a schema; the problems' pointers begin at the schema.
    """
    wrong = check_schema(schema)
    if wrong:
        raise DefinitionError([Problem(one.path, one.message) for one in wrong])
    return Schema(schema)


# -- values in sentences -----------------------------------------------------------------------------------------------

_KIND = {
    "null": "null",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "a map",
}


def _kind(value: Any) -> str:
    """The JSON type of a value, in words; of a boolean, which one."""
    return str(value).lower() if isinstance(value, bool) else describe(value)


def _short(value: Any) -> str:
    """A value in a sentence: as JSON, at most about 80 letters."""
    if isinstance(value, str):
        value = value[: _SHOWN + 1]
    elif isinstance(value, list | tuple | Mapping) and len(value) > _SHOWN:
        return f"{_kind(value)} of {len(value)}"
    told = json.dumps(value, ensure_ascii=False, default=str)
    return told if len(told) <= _SHOWN else told[: _SHOWN - 1] + "…"


def _plural(count: Any, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


# -- the keywords that are checked here --------------------------------------------------------------------------------


def is_type(value: Any, name: str) -> bool:
    """True when a value has the JSON Schema type of that name."""
    test = _TYPES.get(name)
    return test is not None and test(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Accepts] = {
    "null": lambda value: value is None,
    "boolean": lambda value: value is True or value is False,
    "integer": lambda value: type(value) is int or (isinstance(value, float) and value.is_integer()),
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list | tuple),
    "object": lambda value: type(value) is dict or isinstance(value, Mapping),
}


def _same(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def _type(wanted: Any, value: Any, _: Mapping[str, Any]) -> str:
    names = [wanted] if isinstance(wanted, str) else wanted
    if any(is_type(value, name) for name in names):
        return ""
    return f"must be {' or '.join(_KIND.get(name, str(name)) for name in names)}, not {_kind(value)}"


def _enum(wanted: Any, value: Any, _: Mapping[str, Any]) -> str:
    if any(_same(value, one) for one in wanted):
        return ""
    words = [one for one in wanted if isinstance(one, str)]
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    listed = ", ".join(_short(one) for one in wanted[:10]) + (", …" if len(wanted) > 10 else "")
    return f"must be one of {listed}" + (f"; {hint}" if hint else "")


def _const(wanted: Any, value: Any, _: Mapping[str, Any]) -> str:
    return "" if _same(value, wanted) else f"must be {_short(wanted)}"


def _bound(holds: Callable[[Any, Any], bool], words: str) -> Callable[[Any, Any, Mapping[str, Any]], str]:
    def check(limit: Any, value: Any, _: Mapping[str, Any]) -> str:
        if not _is_number(value) or holds(value, limit):
            return ""
        return f"must be {words} {limit}, not {_short(value)}"

    return check


def _length(
    kind: str, holds: Callable[[int, Any], bool], words: str, unit: str
) -> Callable[[Any, Any, Mapping[str, Any]], str]:
    def check(limit: Any, value: Any, _: Mapping[str, Any]) -> str:
        if not is_type(value, kind) or holds(len(value), limit):
            return ""
        return f"must have {words} {_plural(limit, unit)}, not {len(value)}"

    return check


def _pattern(wanted: Any, value: Any, _: Mapping[str, Any]) -> str:
    if not isinstance(value, str):
        return ""
    if len(value) > _MAX_MATCHED:
        return f"is too long for its pattern: at most {_MAX_MATCHED:,} letters"
    return "" if _compiled(wanted).search(value) else f"must match the pattern {_short(wanted)}"


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_KEYWORDS: dict[str, Callable[[Any, Any, Mapping[str, Any]], str]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "minimum": _bound(lambda value, limit: bool(value >= limit), "at least"),
    "maximum": _bound(lambda value, limit: bool(value <= limit), "at most"),
    "exclusiveMinimum": _bound(lambda value, limit: bool(value > limit), "more than"),
    "exclusiveMaximum": _bound(lambda value, limit: bool(value < limit), "less than"),
    "minLength": _length("string", lambda size, limit: bool(size >= limit), "at least", "character"),
    "maxLength": _length("string", lambda size, limit: bool(size <= limit), "at most", "character"),
    "minItems": _length("array", lambda size, limit: bool(size >= limit), "at least", "item"),
    "maxItems": _length("array", lambda size, limit: bool(size <= limit), "at most", "item"),
    "pattern": _pattern,
}

_STRUCTURE = frozenset({"items", "required", "properties", "additionalProperties", "anyOf"})
_NOTES = frozenset(
    (
        "title",
        "description",
        "default",
        "examples",
        "format",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
        "$schema",
    )
)


def _is_simple(schema: Any) -> bool:
    """True when the keywords above say everything, at every level."""
    if isinstance(schema, bool):
        return True
    if not isinstance(schema, Mapping):
        return False
    for key in schema:
        if key not in _KEYWORDS and key not in _STRUCTURE and key not in _NOTES:
            return False
    return all(_is_simple(inner) for _, inner in _inner(schema))


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The schemas inside a schema, of the keywords that are checked here."""
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield (key,), schema[key]
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        for name, inner in properties.items():
            yield ("properties", name), inner
    choices = schema.get("anyOf")
    if isinstance(choices, list | tuple):
        for index, inner in enumerate(choices):
            yield ("anyOf", index), inner


def _acceptor(schema: Any) -> Accepts:
    """Whether a value fits, without a word on why not: most do, and a run asks this of every call of a tool."""
    if isinstance(schema, bool):
        return lambda _: schema
    parts = [_keyword_acceptor(key, wanted, schema) for key, wanted in schema.items() if key in _KEYWORDS]
    if "anyOf" in schema:
        choices = [_acceptor(choice) for choice in schema["anyOf"]]
        parts.append(lambda value: any(choice(value) for choice in choices))
    if "items" in schema:
        item = _acceptor(schema["items"])
        parts.append(lambda value: not isinstance(value, list | tuple) or all(map(item, value)))
    if not schema.keys().isdisjoint(("properties", "required", "additionalProperties")):
        parts.append(_map_acceptor(schema))
    if len(parts) == 1:
        return parts[0]
    return lambda value: all(part(value) for part in parts)


def _keyword_acceptor(key: str, wanted: Any, schema: Mapping[str, Any]) -> Accepts:
    if key == "type" and isinstance(wanted, str):
        return _TYPES[wanted]
    check = _KEYWORDS[key]
    return lambda value: not check(wanted, value, schema)


def _map_acceptor(schema: Mapping[str, Any]) -> Accepts:
    properties = {name: _acceptor(inner) for name, inner in schema.get("properties", {}).items()}
    required = tuple(schema.get("required", ()))
    others = _acceptor(schema.get("additionalProperties", True))

    def accepts(value: Any) -> bool:
        if type(value) is not dict and not isinstance(value, Mapping):
            return True
        for name in required:
            if name not in value:
                return False
        return all(properties.get(name, others)(one) for name, one in value.items())

    return accepts


def _walk(schema: Any, value: Any, path: Path) -> Iterator[Violation]:
    if schema is True:
        return
    if schema is False:
        yield Violation(path, "is not allowed here")
        return
    for key, wanted in schema.items():
        check = _KEYWORDS.get(key)
        message = check(wanted, value, schema) if check else ""
        if message:
            yield Violation(path, message)
            if key == "type":
                return
    if "anyOf" in schema:
        yield from _any_of(schema["anyOf"], value, path)
    if isinstance(value, Mapping):
        yield from _walk_map(schema, value, path)
    elif isinstance(value, list | tuple) and "items" in schema:
        for index, item in enumerate(value):
            yield from _walk(schema["items"], item, (*path, index))


def _walk_map(schema: Mapping[str, Any], value: Mapping[str, Any], path: Path) -> Iterator[Violation]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield Violation(path, f"{name!r} is missing")
    others = schema.get("additionalProperties", True)
    for name, one in value.items():
        if name in properties:
            yield from _walk(properties[name], one, (*path, name))
        elif others is False:
            yield Violation(path, _unknown(name, properties))
        elif others is not True:
            yield from _walk(others, one, (*path, name))


def _unknown(name: Any, known: Mapping[str, Any]) -> str:
    hint = did_you_mean(str(name), known) or (f"it takes {', '.join(list(known)[:10])}" if known else "it takes none")
    return f"{_short(str(name))} is not known here; {hint}"


def _any_of(choices: Sequence[Any], value: Any, path: Path) -> Iterator[Violation]:
    nearest: list[Violation] = []
    for choice in choices:
        found = list(_walk(choice, value, path))
        if not found:
            return
        if not nearest or _depth(found) > _depth(nearest):
            nearest = found
    kinds = [choice.get("type") for choice in choices if isinstance(choice, Mapping)]
    if _depth(nearest) > len(path) or not all(isinstance(kind, str) for kind in kinds):
        yield from nearest
    else:
        names = " or ".join(_KIND.get(str(kind), str(kind)) for kind in dict.fromkeys(kinds))
        yield (
            nearest[0]
            if any(is_type(value, str(kind)) for kind in kinds)
            else Violation(path, f"must be {names}, not {_kind(value)}")
        )


def _depth(found: Sequence[Violation]) -> int:
    return max((len(violation.path) for violation in found), default=0)


# -- everything else: jsonschema ---------------------------------------------------------------------------------------


@cache
def _validator_class() -> Any:
    from jsonschema import Draft202012Validator, validators

    checker = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "array": lambda _, value: is_type(value, "array"),
            "object": lambda _, value: is_type(value, "object"),
            "integer": lambda _, value: is_type(value, "integer"),
        }
    )
    return validators.extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, {"pattern": _bounded_pattern}, type_checker=checker
    )


def _bounded_pattern(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    message = _pattern(wanted, value, schema)
    if message:
        yield ValidationError(message)


def _full(schema: Any, value: Any) -> Iterator[Violation]:
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        for found in _validator_class()(schema, registry=Registry()).iter_errors(value):
            for error in _reasons(found):
                yield Violation(tuple(error.absolute_path), _sentence(error))
    except Unresolvable as error:
        yield Violation((), f"cannot be checked: the schema refers to {_short(str(error.ref))}, which is not in it")
    except re.error as error:
        yield Violation((), f"cannot be checked: a pattern of the schema is not one: {error}")


def _reasons(error: Any) -> Iterator[Any]:
    """What is wrong within the one form of a choice whose type the value has; else that it has none of them."""
    forms: dict[Any, list[Any]] = {}
    if error.validator in ("anyOf", "oneOf"):
        for one in error.context:
            forms.setdefault(next(iter(one.schema_path), None), []).append(one)
    meant = [found for found in forms.values() if not any(one.validator == "type" and not one.path for one in found)]
    if len(meant) != 1:
        yield error
        return
    for one in meant[0]:
        yield from _reasons(one)


def _sentence(error: Any) -> str:
    """An error of jsonschema in our words; its own never when they hold a long value."""
    keyword, wanted, value = error.validator, error.validator_value, error.instance
    if keyword in _KEYWORDS:
        return _KEYWORDS[keyword](wanted, value, {}) or str(error.message)[:200]
    match keyword:
        case "required":
            missing = [name for name in wanted if name not in value]
            return next(
                (f"{name!r} is missing" for name in missing if repr(name) in error.message), error.message[:200]
            )
        case "additionalProperties" | "unevaluatedProperties":
            known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
            extra = [name for name in value if name not in known]
            return _unknown(extra[0], known) if extra else "has a key that is not known here"
        case "oneOf" | "anyOf":
            return f"must fit one of the {len(wanted)} forms of `{keyword}`"
        case "not":
            return "must not have this form"
        case "multipleOf":
            return f"must be a multiple of {wanted}, not {_short(value)}"
        case "uniqueItems":
            return "must not hold the same item twice"
    fits = len(error.message) <= 2 * _SHOWN and "\n" not in error.message
    return str(error.message) if fits else f"does not satisfy `{keyword}: {_short(wanted)}`"


# -- schemas that people write -----------------------------------------------------------------------------------------

_COUNT = {"type": "integer", "minimum": 0}
_FORMS: dict[str, Any] = {
    "enum": {"type": "array", "minItems": 1},
    "minimum": {"type": "number"},
    "maximum": {"type": "number"},
    "exclusiveMinimum": {"type": "number"},
    "exclusiveMaximum": {"type": "number"},
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "required": {"type": "array", "items": {"type": "string"}},
    "properties": {"type": "object"},
    "anyOf": {"type": "array", "minItems": 1},
    "title": {"type": "string"},
    "description": {"type": "string"},
    "format": {"type": "string"},
    "examples": {"type": "array"},
}


def check_schema(schema: Any) -> list[Violation]:
    """What is wrong with a schema as such: unknown types, patterns that are none, wrong forms of keywords."""
    try:
        found = list(_check_level(schema, ()))
        if not found and not _is_simple(schema):
            found = list(_check_full(schema))
    except RecursionError:
        return [Violation((), "is nested too deeply")]
    return found[:_MAX_VIOLATIONS]


def _check_level(schema: Any, path: Path) -> Iterator[Violation]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield Violation(path, f"a schema must be a map, not {_kind(schema)}")
        return
    for key, form in _FORMS.items():
        if key in schema:
            yield from _walk(form, schema[key], (*path, key))
    if "type" in schema:
        yield from _check_type(schema["type"], (*path, "type"))
    if "pattern" in schema:
        yield from _check_pattern(schema["pattern"], (*path, "pattern"))
    for where, inner in _inner(schema):
        yield from _check_level(inner, (*path, *where))


def _check_type(wanted: Any, path: Path) -> Iterator[Violation]:
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, list | tuple) or not names:
        yield Violation(path, f"must be the name of a type or a list of names, not {_kind(wanted)}")
        return
    for name in names:
        if not isinstance(name, str) or name not in _KIND:
            hint = did_you_mean(str(name), _KIND) or f"there are {', '.join(_KIND)}"
            yield Violation(path, f"there is no type {_short(name)}; {hint}")


def _check_pattern(pattern: Any, path: Path) -> Iterator[Violation]:
    if not isinstance(pattern, str) or len(pattern) > _MAX_PATTERN:
        yield Violation(path, f"must be a regular expression of at most {_MAX_PATTERN:,} letters")
        return
    try:
        _compiled(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        yield Violation(path, f"is not a regular expression: {error}")


def _check_full(schema: Any) -> Iterator[Violation]:
    from jsonschema import Draft202012Validator

    for error in _validator_class()(Draft202012Validator.META_SCHEMA).iter_errors(schema):
        yield Violation(tuple(error.absolute_path), _sentence(error))


# -- text from the command line ----------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,5})?")


def coerce_text(text: str, schema: Mapping[str, Any]) -> Any:
    """Text of the command line as the declared type; the result is still to be checked against the schema.

    Args:
        text: As given.
        schema: Its ``type`` decides, a list of types in its order; without one, ``anyOf``, then ``enum``, else text.

    Raises:
        ValueError: The text is none of the types; one line that says what was expected.
    """
    names = types_of(schema, schema)
    if not names:
        return _from_enum(text, schema.get("enum"))
    for name in names:
        try:
            return _READERS[name](text)
        except (ValueError, RecursionError):
            continue
    raise ValueError(f"{_short(text)} is not {' or '.join(_EXPECTED[name] for name in names)}")


def types_of(schema: Mapping[str, Any], whole: Mapping[str, Any], depth: int = 0) -> list[str]:
    """The types that a schema allows; what it refers to stands in the ``$defs`` of the whole one."""
    schema = _definition(schema, whole) or schema
    wanted = schema.get("type")
    if wanted is None:
        choices = [choice for choice in schema.get("anyOf", ()) if isinstance(choice, Mapping)]
        deeper = depth < _DEEPEST  # a definition may refer to itself
        return [name for choice in choices if deeper for name in types_of(choice, whole, depth + 1)]
    return [name for name in ([wanted] if isinstance(wanted, str) else wanted) if name in _READERS]


def _definition(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any] | None:
    section, _, name = str(schema.get("$ref", "")).removeprefix("#/").partition("/")
    found = whole.get(section, {}).get(name) if section in ("$defs", "definitions") else None
    return found if isinstance(found, Mapping) else None


def _from_enum(text: str, choices: Any) -> Any:
    if not isinstance(choices, list | tuple) or text in choices:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if any(_same(value, one) for one in choices) else text


def _read_integer(text: str) -> int:
    if _INTEGER.fullmatch(text.strip()):
        return int(text)
    number = _read_number(text)
    if not float(number).is_integer():
        raise ValueError(text)
    return int(number)


def _read_number(text: str) -> int | float:
    text = text.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text) or not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _read_word(words: Mapping[str, Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text.strip() not in words:
            raise ValueError(text)
        return words[text.strip()]

    return read


def _read_json(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = json.loads(text)
        if not isinstance(value, kind):
            raise ValueError(text)
        return value

    return read


_DEEPEST = 8  # choices within choices

_READERS: dict[str, Callable[[str], Any]] = {
    "string": lambda text: text,
    "integer": _read_integer,
    "number": _read_number,
    "boolean": _read_word({"true": True, "false": False}),
    "null": _read_word({"null": None}),
    "array": _read_json(list),
    "object": _read_json(dict),
}

_EXPECTED = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": 'a JSON list such as ["a", "b"]',
    "object": 'a JSON map such as {"a": 1}',
}
