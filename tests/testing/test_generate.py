"""Made-up values fit their schema, and are the same each time."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrooli_cli.testing.generate import CannotGenerate, generate

NAMES = st.sampled_from(["a", "b", "name"])


def bounded(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(st.integers(-50, 50), st.integers(0, 100)).map(
        lambda pair: {"type": kind, "minimum": pair[0], "maximum": pair[0] + pair[1]}
    )


LEAVES = st.one_of(
    bounded("integer"),
    bounded("number"),
    st.integers(-9, 9).map(lambda n: {"type": "number", "exclusiveMinimum": n}),
    st.integers(-9, 9).map(lambda n: {"type": "integer", "exclusiveMaximum": n}),
    st.integers(1, 9).map(lambda n: {"type": "integer", "multipleOf": n, "minimum": 4}),
    st.tuples(st.integers(0, 9), st.integers(0, 9)).map(
        lambda pair: {"type": "string", "minLength": pair[0], "maxLength": pair[0] + pair[1]}
    ),
    st.sampled_from([r"^[a-f0-9]{7}$", r"\d+-\w", "^(x|y)z?$", "[^a-z]b", r"^v\d+\.\d+$"]).map(
        lambda p: {"type": "string", "pattern": p}
    ),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, {"const": [1]}, {"enum": ["x", "y"]}]),
    st.sampled_from(["date-time", "email", "uri", "uuid", "path"]).map(lambda f: {"type": "string", "format": f}),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, max_size=3).map(
            lambda p: {"type": "object", "properties": p, "required": list(p), "additionalProperties": False}
        ),
        st.tuples(inner, st.integers(0, 3)).map(lambda p: {"type": "array", "items": p[0], "minItems": p[1]}),
        st.lists(inner, min_size=1, max_size=3).map(lambda many: {"anyOf": many}),
        inner.map(lambda one: {"$ref": "#/$defs/one", "$defs": {"one": one}} if "$defs" not in repr(one) else one),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(schema=SCHEMAS)
def test_a_made_up_value_fits_its_schema(schema: dict[str, Any]) -> None:
    if "$ref" in repr({key: value for key, value in schema.items() if key != "$ref"}):
        return  # a reference is relative to the root; made here only at the top
    value = generate(schema)
    jsonschema.Draft202012Validator(schema).validate(value)
    assert generate(schema) == value


def test_texts_are_named_after_their_key() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}, "tags": {"type": "array", "items": {}}}}
    assert generate(schema) == {"title": "title", "tags": ["tags"]}


def test_a_recursive_schema_ends() -> None:
    schema = {
        "$ref": "#/$defs/node",
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
    }
    value = generate(schema)
    jsonschema.Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize("schema", [False, {"not": {}}, {"type": "string", "pattern": r"(?<=x)y\bz"}])
def test_what_cannot_be_made_up_says_so(schema: Any) -> None:
    with pytest.raises(CannotGenerate):
        generate(schema)


def test_a_pattern_is_matched_by_what_it_makes() -> None:
    for pattern in (r"^#[0-9a-fA-F]{6}$", r"^(\d{3}-){2}\d{4}$", r"^[^\s@]+@[^\s@]+\.[a-z]{2,}$"):
        assert re.search(pattern, generate({"type": "string", "pattern": pattern}))
