"""Expressions: types, text, what is missing, the two evaluators, references, and the bounds."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import StrictUndefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vrooli_cli.errors import ExpressionError, Problem
from vrooli_cli.language import expressions, filters
from vrooli_cli.language.expressions import BoundExpression, Mode, TreeExpression, Value, Whole, compile_value

NAMES: dict[str, Any] = {
    "repo": ".",
    "limit": 3,
    "flag": True,
    "nothing": None,
    "rows": [{"name": "b", "n": 2}, {"name": "a", "n": 1}, {"name": "c", "n": 2}],
    "steps": {
        "log": {"result": {"stdout": "one\ntwo", "items": [1, 2], "keys": 7, "get": 8}},
        "a-b": {"result": 10},
        "a": {"result": 7},
        "none": {"result": None},
    },
    "b": 2,
    "big": "x" * 1000,
}


def value(raw: Any, mode: Mode = "value", **names: Any) -> Any:
    return compile_value(raw, mode=mode).evaluate({**NAMES, **names})


def problems(raw: Any, mode: Mode = "value") -> list[Problem]:
    found: list[Problem] = []
    compile_value(raw, mode=mode, problems=found, pointer=("here",))
    return found


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("{{ limit }}", 3),
        (" {{ limit }}\n", 3),
        ("{{ steps.log.result.items }}", [1, 2]),
        ("{{ steps['log'][\"result\"].items[-1] }}", 2),
        ("{{ rows[0].name }}", "b"),
        ("{{ limit + 1 }}", 4),
        ("{{ nothing }}", None),
        ("{{ flag and limit > 2 }}", True),
        ("{{ {'a': [1, {'b': 2}]} }}", {"a": [1, {"b": 2}]}),
        ("{{ null }}", None),
        ("{{ 'yes' if flag else 'no' }}", "yes"),
        ("{{ 'yes' if not flag }}", None),
        ("{{ rows | map(attribute='n') | sum }}", 5),
        ("{{ big.upper()[:3] }}", "XXX"),
    ],
)
def test_a_whole_expression_keeps_its_type(raw: str, expected: Any) -> None:
    found = value(raw)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("-n{{ limit }}", "-n3"),
        ("{{ flag }}{{ nothing }}!", "true!"),
        ("{{ steps.log.result }}.", json.dumps(NAMES["steps"]["log"]["result"]) + "."),
        ("é {{ ['é', 1.5, none] }}", 'é ["é", 1.5, null]'),
        ("{{ limit }} {{ limit + 1 }}", "3 4"),
        ("\r\n{{ limit }}\r\n{{ limit * 2 }}\r\n", "\r\n3\r\n6\r\n"),
        ("{{ '{{' }} {{ repo }} }}", "{{ . }}"),
        ("{% raw %}{{ not }}{% endraw %} {{ repo }}", "{{ not }} ."),
        ("{ {{ repo }} }", "{ . }"),
    ],
)
def test_text_around_an_expression_makes_text(raw: str, expected: str) -> None:
    assert value(raw) == expected


def test_what_names_nothing_is_constant_and_shared() -> None:
    raw = {"a": ["x", 1, None], "b": "no braces { here"}
    made = compile_value(raw)
    assert made.is_constant
    assert made.evaluate({}) is raw
    literal = compile_value("{% raw %}${{ x }}{% endraw %}")
    assert literal.is_constant
    assert literal.raw == literal.evaluate({}) == "${{ x }}"


def test_lists_and_maps_are_made_anew_with_their_texts_evaluated() -> None:
    assert value({"{{ limit }}": ["{{ limit }}", "n={{ limit }}", 4]}) == {"{{ limit }}": [3, "n=3", 4]}


def test_what_a_tool_returned_is_never_rendered_again() -> None:
    assert value("{{ x }}", x="{{ limit }}") == "{{ limit }}"
    assert value("a{{ x }}", x="{{ limit }}") == "a{{ limit }}"


@pytest.mark.parametrize("raw", ["limit + 1", "{{ limit + 1 }}", "  limit+1 "])
def test_where_an_expression_is_expected_braces_may_be_left_out(raw: str) -> None:
    assert value(raw, "expression") == 4


@pytest.mark.parametrize("raw", [True, 3, None, ["a"], {"k": "v"}])
def test_where_an_expression_is_expected_other_data_stands_for_itself(raw: Any) -> None:
    assert value(raw, "expression") == raw


@pytest.mark.parametrize("raw", ["x {{ limit }}", "{{ limit }} x", "a }} {{ b", "", "{{ }}", "limit limit"])
def test_where_one_expression_is_expected_anything_else_is_a_problem(raw: str) -> None:
    [problem] = problems(raw, "expression")
    assert problem.pointer == ("here",)
    assert "\n" not in str(problem)


def test_a_template_has_loops_and_conditions() -> None:
    text = "{% for r in rows if r.n > 1 %}{{ loop.index }}{{ r.name }}{% if not loop.last %},{% endif %}{% endfor %}"
    assert value(text, "template") == "1b,2c"
    assert value("{% for r in [] %}x{% else %}none{% endfor %}", "template") == "none"
    assert value("{% for k, v in {'a': 1} | items %}{{ k }}={{ v }}{% endfor %}", "template") == "a=1"
    assert value("{{ limit }}", "template") == "3"


@pytest.mark.parametrize("raw", ["{% set x = 1 %}", "{% include 'x' %}", "{% macro m() %}{% endmacro %}", "{% if %}"])
def test_a_template_has_nothing_else(raw: str) -> None:
    assert problems(raw, "template")


@pytest.mark.parametrize("raw", ["a {% if x %}b{% endif %}", "${#name}", "{# note #}", "{{ limit }}{% raw"])
def test_statements_and_comments_are_problems_in_values(raw: str) -> None:
    assert len(problems(raw)) == 1


# -- names and fields --------------------------------------------------------------------------------------------------


def test_a_field_of_a_map_is_always_the_key() -> None:
    assert value("{{ steps.log.result.keys }}") == 7
    assert value("{{ steps.log.result.get + 1 }}") == 9
    assert value("{{ m.items | length }}", m={"items": [1, 2, 3]}) == 3


def test_a_field_of_null_is_null() -> None:
    assert value("{{ steps.none.result.x.y }}") is None
    assert value("{{ steps.none.result.x[0] | default('d') }}") is None
    assert value("{{ nothing.x ~ 'a' }}") == "a"


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ("{{ steps.log.result.sdtout }}", "did you mean 'stdout'?"),
        ("{{ steps.log.nope.stdout }}", "there is no field 'nope'"),
        ("{{ rows[7] }}", "there is no position 7 in a list of length 3"),
        ("{{ limit.x }}", "a number has no field 'x'"),
        ("{{ limits }}", "did you mean 'limit'?"),
        ("{{ steps.log.result.nope + 1 }}", "there is no field 'nope'"),
        ("{{ steps.log.result.nope or 1 }}", "there is no field 'nope'"),
        ("{{ limit + repo }}", "a number + text has no meaning"),
        ("{{ limit < repo }}", "a number and text have no order"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ rows.items() }}", None),
        ("{{ limit | length }}", "was expected, not a number"),
        ("{{ repo | replace }}", "missing"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(raw: str, part: str | None) -> None:
    if part is None:
        assert problems(raw)
        return
    with pytest.raises(ExpressionError) as error:
        value(raw)
    assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.code == "EXPRESSION_ERROR"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("{{ steps.log.result.nope | default('d') }}", "d"),
        ("{{ steps.nope.result.x.y | default('d') }}", "d"),
        ("{{ nope | d(4) }}", 4),
        ("{{ rows[9].n | default(0) }}", 0),
        ("{{ limit.x | default('d') }}", "d"),
        ("{{ nothing | default('d') }}", None),
        ("{{ nothing | default('d', true) }}", "d"),
        ("{{ steps.nope is defined }}", False),
        ("{{ steps.log is defined and steps.log.result.keys }}", 7),
        ("{{ [] | first | default('d') }}", "d"),
        ("{{ rows | map(attribute='x', default=1) | list }}", [1, 1, 1]),
    ],
)
def test_default_takes_what_is_missing(raw: str, expected: Any) -> None:
    assert value(raw) == expected


class Lazy(Mapping[str, Any]):
    """Like tier 2's views: no dict, and costly to list."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


def test_names_and_values_may_be_mappings_that_are_no_dicts() -> None:
    names = Lazy({"steps": Lazy({"a": Lazy({"result": 1})})})
    assert compile_value("{{ steps.a.result }}").evaluate(names) == 1
    assert compile_value("{{ steps.a.result + 1 }}").evaluate(names) == 2
    assert compile_value("x{{ steps.a }}").evaluate(names) == 'x{"result": 1}'
    assert compile_value("{{ steps.a | items }}").evaluate(names) == [["result", 1]]


# -- two evaluators, one meaning ---------------------------------------------------------------------------------------

keys = st.sampled_from(["a", "b", "items", "x1", "_u"])
data = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "text", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
links = st.one_of(
    st.sampled_from([".a", ".b", ".items", ".x1"]),
    st.sampled_from(["['a']", '["b"]', "['_u']", "['']"]),
    st.integers(-2, 2).map(lambda index: f"[{index}]"),
)


@settings(max_examples=200, deadline=None)
@given(data=st.dictionaries(keys, data), root=keys, links=st.lists(links, max_size=4))
def test_the_walk_of_a_path_and_the_interpreter_agree(data: dict[str, Any], root: str, links: list[str]) -> None:
    text = root + "".join(links)
    quick = compile_value(f"{{{{ {text} }}}}")
    assert not isinstance(quick.segments[0], TreeExpression)
    slow = TreeExpression(text, expressions._parse_expression(text), ())
    assert _outcome(lambda: quick.evaluate(data)) == _outcome(lambda: slow.evaluate(data))


def _outcome(work: Any) -> tuple[str, Any]:
    try:
        found = work()
    except ExpressionError as error:
        return "error", str(error)
    return type(found).__name__, found


fragments = st.sampled_from(
    [
        "{{ a }}",
        "{{a.b['c'][0]}}",
        "{{ steps.x-y }}",
        "{",
        "}",
        "{{",
        "}}",
        "text ",
        "'",
        "\n",
        "-",
        "{{ 'q' }}",
        "{%",
        "{#",
        " ",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(fragments, max_size=6).map("".join))
def test_text_is_cut_where_jinja_cuts_it(raw: str) -> None:
    found: list[Problem] = []
    made = compile_value(raw, problems=found, dashed={"x-y"})
    try:
        body = ImmutableSandboxedEnvironment(keep_trailing_newline=True).parse(raw).body
    except Exception:
        assert found or raw.strip().startswith("{#")
        return
    if found:
        assert any(mark in raw for mark in ("{%", "{#"))
        return
    pieces = [piece for node in body if isinstance(node, nodes.Output) for piece in node.nodes]
    expected = [piece.data if isinstance(piece, nodes.TemplateData) else "{{}}" for piece in pieces]
    cut = ["{{}}" if not isinstance(part, str) else part for part in made.segments] or [str(made.raw)]
    alone = isinstance(made, Whole)  # white space around it is not kept
    assert "".join(cut) == ("".join(expected).strip() if alone else "".join(expected))


numbers = st.integers(-5, 5).map(str) | st.sampled_from(["2.5", "n", "m"])
texts = st.sampled_from(["'ab'", "'B c'", "t", "''"])
lists = st.sampled_from(["[3, 1, 2]", "rows", "['b', 'A']", "[]"])


def _numbers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["+", "-", "*", "//", "%", "/"])
    return st.one_of(
        st.tuples(inner, operators, inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda one: f"({one} | abs)"),
        inner.map(lambda one: f"({one} | round(1))"),
        inner.map(lambda one: f"(-{one})"),
        lists.map(lambda one: f"({one} | length)"),
        texts.map(lambda one: f"({one} | length)"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]} if {two[0]} < {two[1]} else {two[1]})"),
    )


arithmetic = st.recursive(numbers, _numbers, max_leaves=6)
textual = st.one_of(
    st.tuples(
        texts, st.sampled_from(["upper", "lower", "title", "capitalize", "trim", "reverse", "wordcount", "e"])
    ).map(lambda parts: f"{parts[0]} | {parts[1]}"),
    st.tuples(texts, st.integers(0, 12)).map(lambda parts: f"{parts[0]} | center({parts[1]})"),
    st.tuples(texts, texts).map(lambda two: f"{two[0]} ~ {two[1]}"),
    st.tuples(texts, texts).map(lambda two: f"{two[0]} in {two[1]}"),
    texts.map(lambda one: f"{one} | replace('b', 'xy') | truncate(3, true, '.', 0)"),
    texts.map(lambda one: f"({one} ~ 'é&/ ') | urlencode"),
    arithmetic.map(lambda one: f"'%08.3f|%s' | format({one}, 'z')"),
)
listed = st.one_of(
    lists.map(lambda one: f"{one} | list | batch(2, 0) | list"),
    lists.map(lambda one: f"{one} | slice(2) | list"),
    st.sampled_from(["[3, 1, 2, 3]", "['b', 'A', 'b']", "['x']"]).map(lambda one: f"{one} | unique | sort | list"),
    st.just("rows | sort(attribute='k,v') | map(attribute='v') | join(', ')"),
    st.just("rows | selectattr('k', 'eq', 'a') | map(attribute='v') | list"),
    st.just("rows | rejectattr('k', '==', 'a') | map(attribute='v') | sum"),
    st.just("rows | groupby('k') | map(attribute='grouper') | list"),
    st.just("rows | map(attribute='v') | max"),
    st.just("{'b': 1, 'A': 2} | dictsort | map('first') | list"),
    st.just("[1, none, 0, 'a'] | select | list"),
    st.just("[1, 2, 3] | select('odd') | list"),
    st.just("(1, 2) == (1, 2) and [1, 2][::-1] == [2, 1]"),
)


@settings(max_examples=200, deadline=None)
@given(text=arithmetic | textual | listed)
def test_the_interpreter_means_what_jinja_means(text: str) -> None:
    names = {
        "n": 4,
        "m": -1.5,
        "t": "hello World",
        "rows": [{"k": "b", "v": 1}, {"k": "a", "v": 3}, {"k": "a", "v": 2}],
    }
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    try:
        expected = environment.compile_expression(text, undefined_to_none=False)(**names)
    except (ZeroDivisionError, TypeError):
        with pytest.raises(ExpressionError):
            value(text, "expression", **names)
        return
    found = value(text, "expression", **names)
    assert found == (list(expected) if isinstance(expected, tuple) else expected)


# -- references --------------------------------------------------------------------------------------------------------


def paths(made: Value) -> list[tuple[tuple[str | int, ...], bool, bool]]:
    return [(one.path, one.computed, one.guarded) for one in made.references]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("{{ steps.log.result['a'][0] }}", [(("steps", "log", "result", "a", 0), False, False)]),
        ("{{ steps[repo].x }}", [(("repo",), False, False), (("steps",), True, False)]),
        ("{{ a.b | default(c) }}", [(("a", "b"), False, True), (("c",), False, False)]),
        ("{{ a.b is defined }}", [(("a", "b"), False, True)]),
        ("{{ a.b.upper() ~ range(n) }}", [(("a", "b"), False, False), (("n",), False, False)]),
        ("{{ a[1:n] }}", [(("n",), False, False), (("a",), True, False)]),
        ("{{ a[-1] + null }}", [(("a", -1), False, False)]),
        ("{{ {a: b} }}", [(("a",), False, False), (("b",), False, False)]),
    ],
)
def test_references_are_the_static_paths_of_names(raw: str, expected: list[Any]) -> None:
    assert paths(compile_value(raw)) == expected


def test_variables_of_a_loop_are_no_references() -> None:
    raw = "{% for k, v in a.b if k != c %}{{ loop.index }}{{ k }}{{ d }}{% else %}{{ k }}{% endfor %}"
    made = compile_value(raw, mode="template")
    assert [one.path for one in made.references] == [("a", "b"), ("c",), ("d",), ("k",)]


def test_a_reference_knows_where_its_text_stands() -> None:
    made = compile_value({"k": ["x", "{{ a }}"]}, pointer=("steps", 0))
    assert made.references[0].pointer == ("steps", 0, "k", 1)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("{{ steps.a-b.result }}", 10),
        ("{{ steps.a-b.result + 1 }}", 11),
        ("{{ steps.a.result-b }}", 5),
        ("{{ steps.a.result - b }}", 5),
        ("{{ 'steps.a-b' ~ steps.a-b.result }}", "steps.a-b10"),
        ("x{{ steps.a-b.result }}", "x10"),
        ("{{ {'steps': {'a': 5}}.steps.a-b }}", 3),
    ],
)
def test_a_dash_is_understood_in_ids_that_exist(raw: str, expected: Any) -> None:
    assert compile_value(raw, dashed={"a-b"}).evaluate(NAMES) == expected


def test_the_longest_id_that_exists_is_taken() -> None:
    names = {"steps": {"a-b": 5, "a-b-1": 7}, "c": 1}
    assert compile_value("{{ steps.a-b-c }}", dashed={"a-b", "a-b-1"}).evaluate(names) == 4
    assert compile_value("{{ steps.a-b-1-c }}", dashed={"a-b", "a-b-1"}).evaluate(names) == 6


def test_without_such_an_id_a_dash_subtracts() -> None:
    assert [one.path for one in compile_value("{{ steps.a-b }}").references] == [("steps", "a"), ("b",)]


# -- problems ----------------------------------------------------------------------------------------------------------


def test_every_problem_is_collected_with_its_pointer() -> None:
    found: list[Problem] = []
    compile_value({"a": "{{ x | nope }}", "b": ["{{ 1 + }}", "{{ ok }}"]}, problems=found, pointer=("p",))
    assert [problem.pointer for problem in found] == [("p", "a"), ("p", "b", 0)]


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ("{{ x | uper }}", "did you mean 'upper'?"),
        ("{{ x is defind }}", "did you mean 'defined'?"),
        ("{{ lenght(x) }}", "there is no function"),
        ("{{ x.__class__ }}", "a field beginning with `_`"),
        ("{{ x['a'].format(1) }}", "there is no method 'format'"),
        ("{{ x()() }}", "a value cannot be called"),
        ("{{ x | join(*y) }}", "arguments"),
        ("{{ x", "`}}` is missing"),
        ("{{ [" + "a, " * 250 + "] }}", "more than 200 parts"),
        ("{{ " + "(" * 400 + "a" + ")" * 400 + " }}", "nested too deeply"),
        ("{{ " + "-" * 120 + "a }}", "nested more than"),
        ("{{ " + "9" * 5000 + " }}", "too many digits"),
        ("{{ 'a\\d' }}{{ '", "cannot be read"),
    ],
)
def test_mistakes_are_found_when_the_file_is_loaded(raw: str, part: str) -> None:
    found = problems(raw)
    assert len(found) == 1
    assert part in str(found[0])
    assert "\n" not in str(found[0])


# -- bounds ------------------------------------------------------------------------------------------------------------

BOMBS = [
    "{{ range(10**9) | list }}",
    "{{ range(0, 10**30) | list }}",
    "{{ [0] * 10**8 }}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ 2 ** (10**9) }}",
    "{{ ((9 ** 9) ** 99) ** 99 }}",
    "{{ big | center(10**9) }}",
    "{{ big | indent(10**9) }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ '%.999999999f' % 1.0 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ ([[0] * 100000] * 100000) | tojson }}",
    "{{ ([[0] * 100000] * 100000) == ([[0] * 100000] * 100000) }}",
    "{{ [big * 10000] | map('replace', 'x', big) | list }}",
    "{{ range(100000) | map('string') | map('center', 10000) | join }}",
    "{{ (big * 10000).split('x') | map('center', 5000) | list }}",
    "{{ (big * 16000).split('x') }}",
    "{{ big | replace('', big * 1000) }}",
    "{{ big | wordwrap(1, wrapstring=big * 1000) }}",
    "{{ range(100000) | batch(1, 0) | map('tojson', 16) | map('center', 9999) | list }}",
    "{{ range(100) | slice(10**9) }}",
    "{{ 5 | round(-(10**9)) }}",
    "{{ (big * 16000) ~ (big * 16000) }}",
    "{{ ('[' * 100000) | fromjson }}",
    "{{ 1e308 * 10 }}",
    "{{ range(100000) | map('int') | map('string') | map('fromjson') | map('batch', 2) | list }}",
]
TEMPLATE_BOMBS = [
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}",
    "{% for a in [[1, 1]] %}" + "{% for a in [[a, a]] %}" * 30 + "{{ a }}" + "{% endfor %}" * 31,
    "{% for a in [[1, 1]] %}"
    + "{% for a in [[a, a]] %}" * 30
    + "{{ a == a ~ '' or [a] == [a] }}"
    + "{% endfor %}" * 31,
]


@pytest.mark.parametrize(("raw", "mode"), [*((b, "value") for b in BOMBS), *((b, "template") for b in TEMPLATE_BOMBS)])
def test_what_would_never_end_ends_in_one_line(raw: str, mode: Mode) -> None:
    start = monotonic()
    made = compile_value(raw, mode=mode)
    assert monotonic() - start < 1, "nothing is computed when a file is loaded"
    with pytest.raises(ExpressionError) as error:
        made.evaluate(NAMES)
    assert "\n" not in str(error.value)
    assert monotonic() - start < 4  # the bound is 1 s; a busy machine gets some more


@pytest.mark.parametrize(
    "raw",
    [
        "{{ a }}" * 200_000,
        "{{ " + "a+" * 500_000 + "a }}",
        "{{ " + "a." * 500_000 + "a }}",
        "{{" * 500_000,
        "{{ [" + "[" * 500_000,
        "{{ '" + "a" * 1_000_000,
        "{% raw %}" * 200_000,
        "{{ a }} {" * 100_000 + "{%",
        "{{ -}}" + " " * 1_000_000 + "{{",
    ],
)
def test_a_hostile_text_is_refused_quickly(raw: str) -> None:
    start = monotonic()
    found = problems(raw)
    assert monotonic() - start < 4
    assert all("\n" not in str(problem) for problem in found)


def test_large_data_passes_through_where_nothing_is_made_of_it() -> None:
    large = "x" * (20 << 20)
    assert value("{{ x }}", x=large) is large
    with pytest.raises(ExpressionError, match="too large"):
        value("a{{ x }}", x=large)


# -- for tools ---------------------------------------------------------------------------------------------------------


def test_a_bound_expression_sees_its_own_names_over_the_runs() -> None:
    bound = BoundExpression("row.n > least", {"least": 1, "row": None})
    assert [bound.evaluate(row=row) for row in NAMES["rows"]] == [True, False, True]
    assert pickle.loads(pickle.dumps(bound)) == bound
    assert str(bound) == "row.n > least"


def test_every_filter_and_test_has_its_line_of_help() -> None:
    for table in (filters.FILTERS, filters.TESTS, filters.FUNCTIONS, filters.METHODS):
        assert all(line.endswith((".", ":")) or "``" in line for line in table.values()), table


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("'é/b' | b64encode | b64decode", "é/b"),
        ("'{\"a\": [1, null]}' | fromjson", {"a": [1, None]}),
        ("{'b': '<é>', 'a': 1} | tojson", '{"b": "<é>", "a": 1}'),
        ("'/a/b/c.txt' | basename ~ ' ' ~ '/a/b/c.txt' | dirname", "c.txt /a/b"),
        ("1536 | filesizeformat(true)", "1.5 KiB"),
        ("'a,b,,c'.split(',')", ["a", "b", "", "c"]),
        ("'42' | int + ('x' | int(7)) + ('0x10' | int(0, 16))", 65),
        ("' a  b ' | trim | wordcount", 2),
        ("{'x': 1, 'y': 'ü &'} | urlencode", "x=1&y=%C3%BC%20%26"),
        ("range(1, 10, 4) | map('string') | join('-')", "1-5-9"),
    ],
)
def test_filters_of_our_own(raw: str, expected: Any) -> None:
    assert value(raw, "expression") == expected


def test_paths_are_read_and_walked_without_jinja() -> None:
    script = (
        "import sys; from vrooli_cli.language.expressions import compile_value as c;"
        "n = {'steps': {'a-b': {'result': [1]}}, 'x': 2};"
        "assert c('{{ steps.a-b.result[0] }}', dashed={'a-b'}).evaluate(n) == 1;"
        "assert c('a {{ x }} b {{ x }}').evaluate(n) == 'a 2 b 2';"
        "assert c('x', mode='expression').evaluate(n) == 2;"
        "assert 'jinja2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_was_checked_before_is_parsed_when_it_is_first_used() -> None:
    script = (
        "import sys; from vrooli_cli.language.expressions import compile_value as c;"
        "v = c({'a': '{{ x + 1 }}', 'b': 'x{{ x }}'}, deferred=True); w = c('x + 1', mode='expression', deferred=True);"
        "assert 'jinja2' not in sys.modules and not v.is_constant and not w.is_constant"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    made = compile_value({"a": "{{ limit + 1 }}", "b": "x{{ limit }}"}, deferred=True)
    assert made.evaluate(NAMES) == {"a": 4, "b": "x3"}
    assert compile_value("limit + 1", mode="expression", deferred=True).evaluate(NAMES) == 4
    assert compile_value("{{ limit + 1 }}", mode="expression", deferred=True).references[0].path == ("limit",)
