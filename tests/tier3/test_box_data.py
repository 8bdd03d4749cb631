"""``query``, ``template``, ``table``, ``assert`` and ``fail``."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tier3.conftest import Bench
from vrooli_cli.language.expressions import BoundExpression
from vrooli_cli.tier3.box.table import _grouped, _sorted, _table
from vrooli_cli.tier3.registry import ToolContext

# --- query and template ---


async def test_a_query_picks(bench: Bench) -> None:
    data = {"items": [{"n": 1, "p": 5}, {"n": 2, "p": 50}]}
    assert await bench.result("query", data=data, expression="items[?p > `10`].n") == [2]
    assert await bench.result("query", data=data, expression="nothing.here") is None


@pytest.mark.parametrize("expression", ["a[", "]", "foo(", "nope(@)", "\x00"])
async def test_a_bad_query_is_one_line(bench: Bench, expression: str) -> None:
    error = await bench.error("query", data={}, expression=expression)
    assert error.code in {"PARAMETER_INVALID", "EXPRESSION_ERROR"} and "\n" not in error.message


async def test_a_template_sees_its_data_and_nothing_else(bench: Bench) -> None:
    text = "{% for one in names %}- {{ one }}\n{% endfor %}"
    assert await bench.result("template", text=text, data={"names": ["a", "{{ b }}"]}) == "- a\n- {{ b }}\n"
    error = await bench.error("template", text="{{ steps }}", data={})
    assert error.code == "EXPRESSION_ERROR"


async def test_a_template_can_stand_in_a_file(bench: Bench) -> None:
    (bench.folder / "t.md").write_text("Hello {{ who }}")
    outcome = await bench.do("template", {"path": "t.md", "data": {"who": "you"}})
    assert outcome.result == "Hello you" and outcome.effects == "idempotent"
    assert (await bench.do("template", {"text": "x"})).effects == "none"


@pytest.mark.parametrize("params", [{}, {"text": "a", "path": "b"}, {"text": "{% for %}"}, {"text": "{{ 1 + }}"}])
async def test_a_template_that_cannot_be_read_is_refused(bench: Bench, params: dict[str, Any]) -> None:
    assert (await bench.error("template", **params)).code == "PARAMETER_INVALID"


async def test_a_template_file_outside_is_refused_by_the_gate(bench: Bench) -> None:
    assert (await bench.error("template", path="/etc/hostname")).code == "PERMISSION_DENIED"


async def test_a_runaway_template_ends(bench: Bench) -> None:
    text = "{% for a in range(90000) %}{% for b in range(90000) %}{{ a * b }}{% endfor %}{% endfor %}"
    assert (await bench.error("template", text=text)).code == "EXPRESSION_ERROR"


# --- assert and fail ---


async def test_every_condition_that_does_not_hold_is_listed(bench: Bench) -> None:
    that = [BoundExpression("n > 3", {"n": 2}), BoundExpression("n < 3", {"n": 2}), BoundExpression("n == 9", {"n": 2})]
    error = await bench.error("assert", that=that, message="numbers")
    assert error.code == "TOOL_FAILED" and error.context["failed"] == ["n > 3", "n == 9"]
    assert error.message == "numbers: not true: n > 3; not true: n == 9"


async def test_conditions_that_hold_pass(bench: Bench) -> None:
    assert await bench.result("assert", that=["1 < 2", True, "{{ 'a' in 'abc' }}"]) == {"passed": 3}
    assert (await bench.error("assert", that=[None])).code == "TOOL_FAILED"


@pytest.mark.parametrize("condition", ["'text'", "1", "[1]", "missing.name"])
async def test_only_true_false_and_null_are_conditions(bench: Bench, condition: str) -> None:
    assert (await bench.error("assert", that=condition)).code == "EXPRESSION_ERROR"


async def test_fail_fails_as_it_is_told(bench: Bench) -> None:
    error = await bench.error("fail", message="no luck", code="NO_LUCK")
    assert (error.code, error.message, error.context) == ("NO_LUCK", "no luck", {"code": "NO_LUCK"})
    assert (await bench.error("fail")).code == "TOOL_FAILED"
    assert (await bench.error("fail", code="not a code")).code == "PARAMETER_INVALID"


# --- table ---

CELL = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-5, 5)
    | st.text("ab", max_size=2)
    | st.lists(st.integers(0, 1), max_size=1)
)
NUMBER = st.none() | st.integers(-100, 100) | st.floats(-100, 100, allow_nan=False)
ROWS = st.lists(st.fixed_dictionaries({"n": NUMBER}, optional={"k": CELL, "m": CELL}), max_size=12)


def rank(value: Any) -> int:
    """Written apart from the tool: null, true/false, numbers, text, the rest."""
    kinds: list[Callable[[Any], bool]] = [
        lambda one: one is None,
        lambda one: isinstance(one, bool),
        lambda one: isinstance(one, int | float),
        lambda one: isinstance(one, str),
        lambda one: True,
    ]
    return next(at for at, is_kind in enumerate(kinds) if is_kind(value))


def less(one: Any, other: Any) -> bool:
    if rank(one) != rank(other):
        return rank(one) < rank(other)
    if rank(one) == 4:
        return json.dumps(one) < json.dumps(other)
    return bool(one < other) if one is not None else False


def same(one: Any, other: Any) -> bool:
    return not less(one, other) and not less(other, one)


@given(ROWS)
def test_sorting_is_a_stable_order_with_null_last(rows: list[dict[str, Any]]) -> None:
    numbered = [{**row, "at": at} for at, row in enumerate(rows)]
    for name, backwards in (("k", False), ("-k", True)):
        found = _sorted(list(numbered), name)
        assert sorted(row["at"] for row in found) == list(range(len(rows)))
        for one, other in pairwise(found):
            a, b = one.get("k"), other.get("k")
            if a is None:
                assert b is None and one["at"] < other["at"]
            elif b is not None:
                assert not (less(a, b) if backwards else less(b, a))
                if same(a, b):
                    assert one["at"] < other["at"]


@given(ROWS)
def test_groups_partition_the_rows_and_sums_are_sums(rows: list[dict[str, Any]]) -> None:
    wanted = {"rows": "count", "some": ["count", "n"], "sum": ["sum", "n"], "min": ["min", "n"], "mean": ["mean", "n"]}
    found = _grouped(list(rows), ["k"], wanted)
    left = list(rows)
    for group in found:
        members = [row for row in left if same(row.get("k"), group["k"])]
        left = [row for row in left if not same(row.get("k"), group["k"])]
        values = [row["n"] for row in members if row["n"] is not None]
        assert (group["rows"], group["some"]) == (len(members), len(values)) and members
        assert math.isclose(group["sum"], sum(values), abs_tol=1e-9)
        assert group["min"] == (min(values) if values else None)
        assert group["mean"] == (None if not values else pytest.approx(sum(values) / len(values)))
    assert left == []


@settings(max_examples=50)
@given(ROWS, st.integers(-100, 100), st.integers(0, 8))
def test_where_sort_and_limit_are_plain_python(rows: list[dict[str, Any]], least: int, limit: int) -> None:
    where = BoundExpression("row.n is not none and row.n >= least", {"least": least})
    context = ToolContext.__new__(ToolContext)
    context.stopped = False
    context.scope = type("S", (), {"cancelled": None})()
    found = _table({"rows": rows, "where": where, "sort": ["-n"], "limit": limit}, context)
    kept = [row for row in rows if row["n"] is not None and row["n"] >= least]
    assert found == sorted(kept, key=lambda row: -row["n"])[:limit]


async def test_a_table_through_the_door(bench: Bench) -> None:
    rows = [{"team": "a", "p": 3}, {"team": "b", "p": 5}, {"team": "a", "p": 4}, {"team": None}]
    found = await bench.result(
        "table", rows=rows, group_by="team", aggregate={"total": ["sum", "p"], "n": "count"}, sort=["-total", "team"]
    )
    assert found == [
        {"team": "a", "total": 7, "n": 2},
        {"team": "b", "total": 5, "n": 1},
        {"team": None, "total": 0, "n": 1},
    ]
    assert await bench.result("table", rows=rows, aggregate={"most": ["max", "p"]}) == [{"most": 5}]
    assert await bench.result("table", rows=[], aggregate={"n": ["count"]}) == [{"n": 0}]
    assert await bench.result("table", rows=rows, where="row.team == 'b'") == [rows[1]]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"rows": [1]}, "PARAMETER_INVALID"),
        ({"rows": [{"a": 1}], "aggregate": {"s": ["median", "a"]}}, "PARAMETER_INVALID"),
        ({"rows": [{"a": "x"}], "aggregate": {"s": ["sum", "a"]}}, "PARAMETER_INVALID"),
        ({"rows": [{"a": "x"}], "aggregate": {"s": ["sum"]}}, "PARAMETER_INVALID"),
        ({"rows": [{"a": 1}], "where": "row.b > 1"}, "EXPRESSION_ERROR"),
        ({"rows": [{"a": 1}], "where": "row.a"}, "EXPRESSION_ERROR"),
        ({"rows": [], "limit": -1}, "PARAMETER_INVALID"),
    ],
)
async def test_a_table_that_makes_no_sense_is_refused(bench: Bench, params: dict[str, Any], code: str) -> None:
    assert (await bench.error("table", **params)).code == code


async def test_a_long_filter_can_be_stopped(bench: Bench) -> None:
    rows = [{"a": number} for number in range(400_000)]
    task = bench.start("table", {"rows": rows, "where": BoundExpression("row.a % 7 == 3", {})})
    await asyncio.sleep(0.3)
    outcome = await bench.stop(task)
    assert outcome.error is not None and outcome.error.code == "CANCELLED"
