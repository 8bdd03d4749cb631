"""Values that fit a JSON Schema: small, readable, and the same each time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from vrooli_cli.language.schema import compile_schema

_DEPTH: Final = 8
_FORMATS: Final = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT1M",
    "email": "ada@example.org",
    "idn-email": "ada@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/",
    "url": "https://example.org/",
    "uri-reference": "/",
    "iri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "json-pointer": "/a",
    "regex": ".*",
    "path": "file.txt",
}


class CannotGenerate(Exception):
    """No value was found; the text says for what."""


def generate(schema: Mapping[str, Any] | bool, name: str = "text") -> Any:
    """A value that fits a schema: its default, constant, first enumerated or first example where it has one.

    Args:
        schema: JSON Schema, draft 2020-12; references into itself are followed.
        name: What texts that may be anything say.

    Raises:
        CannotGenerate: The schema asks for more than is known here (``not``, odd patterns, contradictions).
    """
    value = _Maker(schema if isinstance(schema, Mapping) else {}).make(schema, name, 0)
    wrong = compile_schema(dict(schema) if isinstance(schema, Mapping) else {}).check(value)
    if wrong:
        raise CannotGenerate(str(wrong[0]))
    return value


class _Maker:
    """Makes values under one root schema, in which references are looked up."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def make(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            if schema is False:
                raise CannotGenerate(f"{name}: nothing is allowed here")
            return name
        schema = self._flat(schema, depth)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("enum", "examples"):
            if schema.get(key):
                return schema[key][0]
        return self._typed(schema, name, depth)

    def _flat(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """Without ``$ref``, ``allOf`` and the first branch of ``anyOf`` and ``oneOf`` that works."""
        if depth > 4 * _DEPTH:
            raise CannotGenerate("the schema goes on for ever")
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return self._flat(_merged(self._target(schema["$ref"]), rest), depth + 1)
        for part in schema.get("allOf", ()):
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            schema = _merged(rest, self._flat(part, depth + 1) if isinstance(part, Mapping) else {})
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                rest = {other: value for other, value in schema.items() if other != key}
                return self._branch(rest, schema[key], depth)
        return schema

    def _branch(self, rest: Mapping[str, Any], branches: Sequence[Any], depth: int) -> Mapping[str, Any]:
        """The branch that gives a value; one of another type than null before null."""
        ordered = sorted(branches, key=lambda one: isinstance(one, Mapping) and one.get("type") == "null")
        for branch in ordered:
            if isinstance(branch, Mapping):
                merged = self._flat(_merged(rest, branch), depth + 1)
                try:
                    self.make(merged, "text", depth + 1)
                except CannotGenerate:
                    continue
                return merged
        raise CannotGenerate("none of its alternatives can be made up")

    def _target(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise CannotGenerate(f"the reference {reference!r} leads nowhere")
        return found

    def _typed(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null"), "null")
        if kind is None:
            kind = _guessed(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        if kind == "boolean":
            return True
        return None if kind == "null" else _text(schema, name)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required = list(schema.get("required") or ())
        wanted = required if depth >= _DEPTH else [*properties, *(key for key in required if key not in properties)]
        made = {}
        for key in wanted:
            inner = properties.get(key, schema.get("additionalProperties", True))
            try:
                made[key] = self.make(inner, key, depth + 1)
            except CannotGenerate:
                if key in required:
                    raise
        more = schema.get("additionalProperties", True)
        for number in range(len(made), schema.get("minProperties", 0)):
            made[f"key{number}"] = self.make(more, f"key{number}", depth + 1)
        if not made and isinstance(more, Mapping) and depth < _DEPTH:
            made["key"] = self.make(more, "key", depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        made = [self.make(one, name, depth + 1) for one in schema.get("prefixItems") or ()]
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", math.inf)
        items = schema.get("items", True)
        want = least if depth >= _DEPTH or items is False else max(least, 1)
        while len(made) < min(want, most):
            one = self.make(items, name, depth + 1)
            if schema.get("uniqueItems") and one in made:
                one = _other(one, len(made), items)
            made.append(one)
        return made


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    made = {**one, **other}
    for key in ("properties", "$defs"):
        if key in one and key in other:
            made[key] = {**one[key], **other[key]}
    if "required" in one and "required" in other:
        made["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return made


def _other(value: Any, number: int, schema: Any) -> Any:
    """Another value than those before: the list must have no twins."""
    if isinstance(schema, Mapping) and len(schema.get("enum", ())) > number:
        return schema["enum"][number]
    if isinstance(value, str):
        return f"{value}{number + 1}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value + number
    raise CannotGenerate("a list of several different items")


def _guessed(schema: Mapping[str, Any]) -> str:
    if "properties" in schema or "required" in schema or "additionalProperties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema or "minItems" in schema:
        return "array"
    return "number" if "minimum" in schema or "maximum" in schema or "multipleOf" in schema else "string"


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    step = schema.get("multipleOf", 1 if whole else 0)
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    value = 1 if least is None and (most is None or most >= 1) else least if least is not None else most
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        value = schema["exclusiveMinimum"] + (step or _between(schema["exclusiveMinimum"], most))
    elif "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        value = schema["exclusiveMaximum"] - (step or 1)
    if step:
        upward = math.ceil(value / step) * step
        value = upward if most is None or upward <= most else math.floor(value / step) * step
    return int(value) if whole or value == int(value) else value


def _between(least: float, most: float | None) -> float:
    return 1 if most is None or most > least + 1 else (most - least) / 2


def _text(schema: Mapping[str, Any], name: str) -> str:
    if "pattern" in schema:
        return _matching(schema["pattern"])
    text: str = _FORMATS.get(schema.get("format", ""), name)
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    while len(text) < least:
        text += text or "x"
    return (
        text[: int(most)] if len(text) > most else text[:least] if 0 < least < len(text) and least > len(name) else text
    )


def _matching(pattern: str) -> str:
    """A short text in which the pattern is found."""
    import re._parser as parser  # type: ignore[import-not-found] # the only reader of patterns that there is

    try:
        text = "".join(_piece(*node) for node in parser.parse(pattern))
    except (re.error, KeyError, ValueError, TypeError, RecursionError, OverflowError):
        raise CannotGenerate(f"a text that matches {pattern!r:.60}") from None
    if not re.search(pattern, text):
        raise CannotGenerate(f"a text that matches {pattern!r:.60}")
    return text


def _piece(kind: Any, value: Any) -> str:
    """The text of one node of a parsed pattern."""
    name = str(kind)
    if name == "LITERAL":
        return chr(value)
    if name == "NOT_LITERAL":
        return "b" if chr(value) == "a" else "a"
    if name == "ANY":
        return "a"
    if name == "IN":
        return _one_of(value)
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, inner = value
        count = min(max(int(least), 1), int(most))
        return "".join(_piece(*node) for node in inner) * count
    if name in ("SUBPATTERN", "ATOMIC_GROUP"):
        inner = value[-1] if name == "SUBPATTERN" else value
        return "".join(_piece(*node) for node in inner)
    if name == "BRANCH":
        return "".join(_piece(*node) for node in value[1][0])
    if name in ("AT", "ASSERT_NOT"):
        return ""
    raise ValueError(name)


_CATEGORIES: Final = {"CATEGORY_DIGIT": "1", "CATEGORY_WORD": "a", "CATEGORY_SPACE": " ", "CATEGORY_NOT_SPACE": "a"}
_CATEGORIES_MORE: Final = {"CATEGORY_NOT_DIGIT": "a", "CATEGORY_NOT_WORD": "-"}


def _one_of(choices: Sequence[Any]) -> str:
    kind, value = choices[0]
    name = str(kind)
    if name == "NEGATE":
        refused = re.compile("[^" + re.escape("".join(map(_literal, choices[1:]))) + "]") if choices[1:] else None
        return next(letter for letter in "a1-_ A~" if refused is None or refused.match(letter))
    if name == "RANGE":
        return chr(value[0])
    if name == "CATEGORY":
        return {**_CATEGORIES, **_CATEGORIES_MORE}[str(value)]
    return chr(value)


def _literal(choice: Any) -> str:
    kind, value = choice
    if str(kind) == "LITERAL":
        return chr(value)
    if str(kind) == "RANGE":
        return "".join(map(chr, range(value[0], min(value[1], value[0] + 200) + 1)))
    return {"CATEGORY_SPACE": " \t\n", "CATEGORY_DIGIT": "0123456789", "CATEGORY_WORD": "aA1_"}.get(str(value), "")
