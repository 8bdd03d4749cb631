"""JSON Schema: our own quick way and jsonschema's say the same, in sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from vrooli_cli.errors import DefinitionError
from vrooli_cli.language.schema import check_schema, coerce_text, compile_schema


def told(schema: Any, value: Any) -> list[str]:
    return [str(violation) for violation in compile_schema(schema).check(value)]


OBJECT = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "minimum": 1},
        "mode": {"enum": ["create", "append"]},
        "name": {"type": ["string", "null"], "maxLength": 3, "pattern": "^a"},
        "rows": {"type": "array", "items": {"type": "object", "required": ["id"]}, "maxItems": 2},
        "any": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "required": ["count"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"count": 1, "name": None, "any": None}, []),
        ({"count": 2.0}, []),
        ({"count": True}, ["count: must be an integer, not true"]),
        ({"count": 1.5}, ["count: must be an integer, not a number"]),
        ({"count": 0}, ["count: must be at least 1, not 0"]),
        ({}, ["'count' is missing"]),
        ({"count": 1, "mode": "apend"}, ['mode: must be one of "create", "append"; did you mean \'append\'?']),
        ({"count": 1, "name": "abcd"}, ["name: must have at most 3 characters, not 4"]),
        ({"count": 1, "name": "b"}, ['name: must match the pattern "^a"']),
        ({"count": 1, "rows": [{"id": 1}, {}, 3]}, None),
        ({"count": 1, "any": "x"}, ["any: must be an integer or null, not text"]),
        ({"count": 1, "cuont": 1}, ["\"cuont\" is not known here; did you mean 'count'?"]),
        ([], ["must be a map, not a list"]),
    ],
)
def test_violations_are_sentences(value: Any, expected: list[str] | None) -> None:
    found = told(OBJECT, value)
    if expected is None:
        assert found == [
            "rows: must have at most 2 items, not 3",
            "rows[1]: 'id' is missing",
            "rows[2]: must be a map, not a number",
        ]
    else:
        assert found == expected


def test_a_long_value_is_never_echoed() -> None:
    secret = "s" * 5_000
    for schema in ({"enum": ["a"]}, {"type": "integer"}, {"not": {"type": "string"}}, {"oneOf": [{"type": "integer"}]}):
        assert all(len(line) < 200 and secret[:200] not in line for line in told(schema, secret))


leaves = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from([1.0, 1.5, "", "a", "ab", "abc"])
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8
)
types = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
simple = st.fixed_dictionaries(
    {},
    optional={
        "type": types | st.lists(types, min_size=1, max_size=2, unique=True),
        "enum": st.lists(values, min_size=1, max_size=3),
        "const": values,
        "minimum": st.integers(-1, 2),
        "exclusiveMaximum": st.integers(-1, 2),
        "minLength": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "pattern": st.sampled_from(["a", "^b", "c$"]),
    },
)
schemas = st.recursive(
    simple | st.booleans(),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "items": inner,
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "additionalProperties": inner,
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "minItems": st.integers(0, 2),
        },
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(schema=schemas, value=values)
def test_the_quick_way_agrees_with_jsonschema(schema: Any, value: Any) -> None:
    found = compile_schema(schema).check(value)
    assert (not found) == Draft202012Validator(schema).is_valid(value)
    full = {"allOf": [schema]} if schema is not False else False  # a keyword that is not ours: the other way
    assert bool(compile_schema(full).check(value)) == bool(found)


def test_other_keywords_are_left_to_jsonschema() -> None:
    schema = {
        "properties": {"a": {"uniqueItems": True}, "b": {"$ref": "#/$defs/even"}, "c": {"oneOf": [{"type": "string"}]}},
        "$defs": {"even": {"type": "integer", "multipleOf": 2}},
        "unevaluatedProperties": False,
    }
    assert told(schema, {"a": [1, 1], "b": 3, "c": 1, "d": 1}) == [
        "a: must not hold the same item twice",
        "b: must be a multiple of 2, not 3",
        "c: must fit one of the 1 forms of `oneOf`",
        '"d" is not known here; it takes a, b, c',
    ]


def test_nothing_is_fetched_for_a_reference() -> None:
    [line] = told({"$ref": "http://127.0.0.1:9/schema.json"}, 1)
    assert "which is not in it" in line


@pytest.mark.parametrize(
    ("schema", "line"),
    [
        ({"type": "strng"}, "type: there is no type \"strng\"; did you mean 'string'?"),
        ({"enum": 3}, "enum: must be a list, not a number"),
        ({"minimum": "1"}, "minimum: must be a number, not text"),
        (
            {"properties": {"a": {"type": 3}}},
            "properties.a.type: must be the name of a type or a list of names, not a number",
        ),
        ({"items": {"pattern": "("}}, "items.pattern: is not a regular expression"),
        ({"oneOf": 3}, "oneOf: must be a list, not a number"),
        ({"uniqueItems": "yes"}, "uniqueItems: must be true or false, not text"),
        (3, "a schema must be a map, not a number"),
    ],
)
def test_a_wrong_schema_is_told_as_such(schema: Any, line: str) -> None:
    assert str(check_schema(schema)[0]).startswith(line)
    with pytest.raises(DefinitionError) as error:
        compile_schema(schema)
    assert error.value.problems[0].pointer == check_schema(schema)[0].path


def test_deep_nesting_ends_in_a_sentence() -> None:
    schema: Any = {}
    value: Any = 1
    for _ in range(3_000):
        schema, value = {"items": schema}, [value]
    assert check_schema(schema)
    assert compile_schema({"type": "array"}).check(value) == []


@pytest.mark.parametrize(
    ("text", "schema", "expected"),
    [
        ("5", {"type": "integer"}, 5),
        ("-7", {"type": "integer"}, -7),
        ("5.0", {"type": "integer"}, 5),
        ("1e3", {"type": "number"}, 1000.0),
        ("5", {"type": "number"}, 5),
        ("true", {"type": "boolean"}, True),
        ("null", {"type": ["integer", "null"]}, None),
        ("5", {"type": ["integer", "string"]}, 5),
        ("5", {"type": ["string", "integer"]}, "5"),
        ("x", {"type": ["integer", "string"]}, "x"),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("true", {"type": "string"}, "true"),
        ("true", {}, "true"),
        ("2", {"enum": [1, 2]}, 2),
        ("2", {"enum": ["2"]}, "2"),
        ("3", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 3),
    ],
)
def test_text_of_the_command_line_gets_the_declared_type(text: str, schema: dict[str, Any], expected: Any) -> None:
    found = coerce_text(text, schema)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(("integer", text) for text in ("x", "5.5", "1_0", "", "9" * 5_000)),
        *(("number", text) for text in ("nan", "inf", "1e999")),
        *(("boolean", text) for text in ("yes", "True")),
        *(("array", text) for text in ("{}", "[", "[" * 100_000)),
        ("object", "[]"),
    ],
)
def test_text_that_is_not_of_the_type_is_refused_in_one_line(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match="is not") as error:
        coerce_text(text, {"type": kind})
    assert len(str(error.value)) < 200


@given(values)
def test_json_text_of_a_list_or_map_comes_back(value: Any) -> None:
    wrapped = {"v": value}
    assert coerce_text(json.dumps(wrapped), {"type": "object"}) == wrapped


def test_simple_schemas_do_not_import_jsonschema() -> None:
    script = (
        "import sys; from vrooli_cli.language.schema import compile_schema;"
        "schema = {'type': 'object', 'properties': {'a': {'anyOf': [{'type': 'integer'}]}}};"
        "assert compile_schema(schema).check({'a': 'x'});"
        "assert 'jsonschema' not in sys.modules and 'jinja2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
