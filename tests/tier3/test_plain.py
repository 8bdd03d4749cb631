"""What may be a result."""

from __future__ import annotations

import json
import math
from datetime import date
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.errors import ToolError
from vrooli_cli.tier3.plain import MAX_DEPTH, abridged, plain_result

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_is_given_back_itself(value: Any) -> None:
    assert plain_result(value) is value


@given(PLAIN)
def test_tuples_and_mappings_become_lists_and_maps(value: Any) -> None:
    wrapped = (value, MappingProxyType({"inner": (value,)}))
    assert plain_result(wrapped) == [value, {"inner": [value]}]
    assert json.loads(json.dumps(plain_result(wrapped))) == [value, {"inner": [value]}]


class Colour(StrEnum):
    RED = "red"


def test_an_enum_becomes_its_value() -> None:
    result = plain_result({"colour": Colour.RED})
    assert type(result["colour"]) is str and result == {"colour": "red"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "the result is nan"),
        ({"a": [1, math.inf]}, "result.a[1] is inf"),
        ({"a": b"x"}, "result.a is bytes"),
        ([{1, 2}], "result[0] is a set"),
        ({"when": date(2026, 1, 1)}, "isoformat"),
        ({"path": Path("x")}, "str("),
        ({"a": {1: 2}}, "result.a has the key 1"),
        ({"a": object()}, "result.a is a object"),
        ({"a": "\ud800"}, "surrogate"),
        ({"\udcff": 1}, "surrogate"),
        ([10**5_000], "whole number"),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(ToolError) as caught:
        plain_result(value)
    assert caught.value.code == "OUTPUT_INVALID" and said in caught.value.message
    assert "\n" not in caught.value.message


def test_a_result_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ToolError, match="contains itself"):
        plain_result(loop)


def test_depth_and_size_are_bounded() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert plain_result(deep) is deep
    with pytest.raises(ToolError, match="levels deep"):
        plain_result([deep])
    block = "x" * (1 << 20)
    with pytest.raises(ToolError, match="larger than 64 MiB"):
        plain_result([block] * 65)


def test_a_shared_value_is_counted_as_often_as_it_would_be_written() -> None:
    value: Any = ["x" * 100]
    for _ in range(40):
        value = [value, value]
    with pytest.raises(ToolError, match="larger than"):
        plain_result(value)


def test_events_keep_long_parameters_in_part() -> None:
    short = {"a": 1, "b": "text", "c": None}
    assert abridged(short) is short
    cut = abridged({"rows": [{"n": n} for n in range(1_000)], "content": "y" * 10_000, "deep": [[[[[[[[1]]]]]]]]})
    assert len(cut["rows"]) == 51 and "1,000 items" in cut["rows"][-1]
    assert len(json.dumps(cut)) < 5_000
