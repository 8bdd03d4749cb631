"""Shapes: one parse for many expressions, and never another meaning than that of a parse of each."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrooli_cli.errors import ExpressionError, Problem
from vrooli_cli.language import expressions
from vrooli_cli.language.expressions import Mode, compile_value

DASHED = {"a-b", "a-b-1", "up-per"}
NAMES: dict[str, Any] = {
    "steps": {
        "a": {"result": {"n": 3, "rows": [{"n": 1}, {"n": 2}], "text": "Hi"}},
        "a-b": {"result": {"n": 4}},
        "a-b-1": {"result": 5},
        "b": {"result": None},
        "up-per": {"result": "x"},
    },
    "b": 2,
    "x": {"0": "zero", "upper": "a key", "_own": 1, "e5": 6},
    "list": [10, 20, 30],
}


def meaning(text: str, mode: Mode) -> Any:
    """Everything that a text comes to: problems, references, value or error."""
    problems: list[Problem] = []
    made = compile_value(text, mode=mode, problems=problems, dashed=DASHED, pointer=("p",))
    if problems:
        return [str(problem) + problem.within for problem in problems]
    references = [(one.path, one.computed, one.guarded, one.pointer) for one in made.references]
    try:
        found = made.evaluate(NAMES)
    except ExpressionError as error:
        found = f"error {error}"
    return references, type(found).__name__, repr(found), repr(made)


def meaning_without_shapes(text: str, mode: Mode) -> Any:
    """The same, each expression parsed by itself and each text cut by Jinja's lexer."""
    with (
        patch.object(expressions, "shape_of", lambda text, dashed: None),
        patch.object(expressions, "_holes", lambda raw: None),
    ):
        return meaning(text, mode)


@pytest.mark.parametrize(
    "text",
    [
        "steps.a.result.n | abs",
        "steps.a.result.text.upper()",
        "x.upper | length",
        "x._own + 1",
        "x['_own'] + 1",
        "x.0 ~ ''",
        "x . upper ~ ''",
        "x.e5 + 1.5e1",
        "'a' 'b' ~ \"c\"",
        "'it' ~ \"it's\"",
        "'a\\nb' | length",
        "'þ0' ~ x.upper",
        "x.þ0 | default('none')",
        "steps.a-b.result.n + 1",
        "steps.a-b-1.result + steps.a-b.result.n",
        "steps.a-b-1-b | default(0)",
        "steps.a-b.result.n-b",
        "steps.b-b | default(1)",
        "steps.a-1.5 | default(1)",
        "steps.up-per.result.upper()",
        "steps.upper() | default(1)",
        "steps.a.result-1 | default(1)",
        "list[1] - 1",
        "list[-1] -1",
        "list[- 1] + 007",
        "list[0:2] | sum",
        "b is divisibleby 2",
        "b is eq 2 and steps.a.result.n is not eq 3",
        "steps.a.result.rows | map(attribute='n') | sum(start=10)",
        "steps.a.result.rows | selectattr('n', '>', 1) | list",
        "{'steps': {'a': 5}}.steps.a-b",
        "{'k': x.upper, 'l': [1, 2.5, 99999999999999999999999]}",
        "100000000000000000000 + b",
        "x.a.upper | default('d') | upper",
        "steps.a.nothing.more | default('x' ~ b)",
        "steps[b].result | default('x')",
        "list[steps.a.result.n - 3]",
        "1 if x.upper else 'no'",
        "not x.upper",
        "x.upper | nofilter",
        "x.upper is notest",
        "x.upper | replace.it",
        "x.upper is a.b",
        "x..upper",
        "x.",
        "(x.upper",
        "x.upper)",
        "x.upper x.upper",
        "'open ~ x.upper",
        "x.if ~ 1",
        "'{{'",
        "''",
        "null ~ x.upper",
        "b\n+\nx.e5",
    ],
)
def test_a_shape_means_what_its_expression_means(text: str) -> None:
    for written, mode in ((text, "expression"), (f"{{{{ {text} }}}}", "value"), (f"a {{{{{text}}}}} b", "value")):
        assert meaning(written, mode) == meaning_without_shapes(written, mode)  # type: ignore[arg-type]


names = ["steps", "tasks", "x", "b", ".a", ".upper", ".0", "._own", "-b", "-1", "('k')", "()", "[0]", "['n']", "[b]"]
words = [
    "1",
    "2.5",
    "'t'",
    '"u"',
    "'a\\'b'",
    " ",
    " + ",
    " ~ ",
    " | ",
    "upper",
    "default(1)",
    "length",
    " is ",
    "eq(3)",
]
marks = [" if ", " else ", "not ", "and", ",", "(", ")", "[", "]", "{{", "}}", "{", "}", "text ", "{%", "\n", "'", "\\"]
parts = st.sampled_from([*names, *words, *marks])


@settings(max_examples=1_000, deadline=None)
@given(st.lists(parts, min_size=1, max_size=10).map("".join), st.sampled_from(["expression", "value", "template"]))
def test_no_text_has_another_meaning_for_its_shape(text: str, mode: Mode) -> None:
    assert meaning(text, mode) == meaning_without_shapes(text, mode)
    hole = f"{{{{ {text} }}}} and {{{{ {text} }}}}"
    assert meaning(hole, mode) == meaning_without_shapes(hole, mode)


@pytest.mark.parametrize(
    "text",
    [
        "{{ steps.s@.result | upper }}",
        "{{ steps.s-@.result.rows | map(attribute='f@') | join(', @') }}",
        "{{ steps.s@.result.count > @ and steps.s@.status == 'completed' }}",
        "from {{ steps.s@.result | length }} to {{ inputs.t@ | default('@') }}",
    ],
)
def test_expressions_of_one_shape_are_parsed_once(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = expressions._parse_expression.__wrapped__

    def counted(text: str) -> Any:
        parsed.append(text)
        return parse(text)

    counted.__wrapped__ = counted  # type: ignore[attr-defined]
    monkeypatch.setattr(expressions, "_parse_expression", counted)
    expressions._parse_shape.cache_clear()
    ids = frozenset(f"s-{n}" for n in range(500))
    made = [compile_value(text.replace("@", str(n)), dashed=ids) for n in range(500)]
    assert len(parsed) == text.count("{{")
    paths = {str(key) for one in made for reference in one.references for key in reference.path}
    assert len(paths) > 500


def test_a_long_expression_and_one_in_other_letters_are_parsed_by_themselves() -> None:
    names = {"x": {"a": "é"}}
    assert compile_value("{{ x.a ~ 'ü' }}").evaluate(names) == "éü"
    long = " ~ ".join(["x.a"] * 60)
    assert compile_value(long, mode="expression").evaluate(names) == "é" * 60
