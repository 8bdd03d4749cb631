"""Plain data to a routine: goldens of good and bad files, and the rules that need more than one look.

A case is a folder of ``tests/goldens/loading`` with ``file.yaml`` and ``expected.txt``: the model without its defaults,
or the problems. ``UPDATE_GOLDENS=1`` writes them anew; read the diff.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrooli_cli.errors import DefinitionError
from vrooli_cli.loading import forms
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.durations import LONGEST_MS, format_duration, parse_duration
from vrooli_cli.loading.home import Base
from vrooli_cli.loading.report import format_problems
from vrooli_cli.loading.routine import build_routine, read_routine
from vrooli_cli.loading.shapes import MOST_PROBLEMS
from vrooli_cli.loading.text import read_text
from vrooli_cli.loading.write import plain_yaml
from vrooli_cli.model.routine import Defaults, Limits, Routine, Step
from vrooli_cli.model.run import ExecutionStrategy

GOLDENS = Path(__file__).parent.parent / "goldens" / "loading"
TOOLS = ("echo", "shell", "http", "file_read", "table")


def plain(value: Any) -> Any:
    """A model as data, without what is as by default; pointers and keys (paths of this machine) are left out."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        made = {}
        for field in dataclasses.fields(value):
            one = getattr(value, field.name)
            factory = field.default_factory
            default = factory() if factory is not dataclasses.MISSING else field.default
            if field.name not in ("pointer", "key", "folder", "target") and one != default:
                made[field.name] = plain(one)
        return made or type(value).__name__
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def outcome(path: Path) -> tuple[str, str]:
    try:
        loaded = load_bundle(path, known_tools=TOOLS)
    except DefinitionError as error:
        return "bad", format_problems(error.problems) + "\n"
    return "good", plain_yaml(plain(loaded.definition)) + format_problems(loaded.warnings)


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDENS.iterdir()))
def test_a_file_loads_as_its_golden_says(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDENS / case)
    kind, told = outcome(Path("file.yaml"))
    golden = GOLDENS / case / "expected.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(told, encoding="utf-8")
    assert told == golden.read_text(encoding="utf-8")
    assert case.startswith(kind)


def routine(text: str, base: Base | None = None) -> Routine:
    document = read_text(text, "r.yaml")
    made, problems = read_routine(document.data, path="r.yaml", source=document.source, base=base or Base())
    assert not [problem for problem in problems if not problem.warning], format_problems(problems)
    assert made is not None
    return made


def told(text: str) -> list[str]:
    document = read_text(text, "r.yaml")
    return [str(problem) for problem in read_routine(document.data, path="r.yaml", source=document.source)[1]]


def step(text: str) -> Step:
    return routine(f"steps:\n  - {{id: a, {text}}}\n").steps[0]


# Defaults


def test_a_step_takes_what_defaults_say_and_keeps_what_it_says_itself() -> None:
    made = routine(
        """
        defaults: {timeout: 1m, retry: {max_attempts: 4}, on_error: continue, strategy: reasoning, model: big}
        steps:
          - {id: a, tool: echo}
          - {id: b, tool: echo, timeout: 5s, retry: {max_attempts: 2}, on_error: fail}
          - {id: p, prompt: Hello}
          - {id: q, prompt: Hello, strategy: conversational, model: small}
          - {id: g, parallel: [{id: i, tool: echo}]}
        """
    )
    a, b, p, q, group = made.steps
    assert (a.timeout_ms, a.on_error.kind, a.model) == (60_000, "continue", ())
    assert a.retry is not None and (a.retry.max_attempts, a.retry.written) == (4, False)
    assert a.strategy is ExecutionStrategy.DETERMINISTIC
    assert b.retry is not None and (b.timeout_ms, b.on_error.kind, b.retry.written) == (5000, "fail", True)
    assert (p.strategy, p.model) == (ExecutionStrategy.REASONING, ("big",))
    assert (q.strategy, q.model) == (ExecutionStrategy.CONVERSATIONAL, ("small",))
    assert (group.retry, group.timeout_ms) == (None, None)  # its steps have them
    assert group.action.steps[0].timeout_ms == 60_000  # type: ignore[union-attr]


def test_a_file_goes_before_its_project_part_by_part() -> None:
    base = Base(
        defaults=Defaults(timeout_ms=1, model=("project",)),
        limits=Limits(max_credits=5, max_memory_mb=7),
        env={"A": "1", "B": "1"},
        policy={"reasoning": "deny", "conversational": "allow"},
        models={"default": {"model": "m"}},
    )
    made = routine(
        """
        defaults: {timeout: 2ms}
        allocation: {max_credits: 9}
        env: {B: 2}
        policy: {strategies: {reasoning: allow, conversational: ask}}
        steps: [{id: p, prompt: Hello}]
        """,
        base,
    )
    assert (made.steps[0].timeout_ms, made.steps[0].model) == (2, ("project",))
    assert (made.limits.max_credits, made.limits.max_memory_mb) == (9, 7)
    assert made.env == {"A": "1", "B": "2"}
    assert made.policy == {"reasoning": "deny", "conversational": "ask"}, "a policy only narrows"
    assert made.extras == {"models": {"default": {"model": "m"}}}


def test_the_strategy_follows_from_the_action() -> None:
    assert step("tool: echo").strategy is ExecutionStrategy.DETERMINISTIC
    assert step("tool: echo, strategy: reasoning").strategy is ExecutionStrategy.REASONING
    assert step("prompt: Hello").strategy is ExecutionStrategy.CONVERSATIONAL
    assert step("prompt: Hello, tools: [echo]").strategy is ExecutionStrategy.REASONING
    assert step("wait: 1s").strategy is None


def test_the_lower_of_credits_and_cost_holds() -> None:
    assert step("tool: echo, allocation: {max_cost: 0.5}").limits == Limits(max_credits=500_000)
    assert step("tool: echo, allocation: {max_cost: 0.5, max_credits: 7}").limits == Limits(max_credits=7)
    assert step("tool: echo, allocation: {max_credits: '12345678901'}").limits == Limits(max_credits=12345678901)


# Edges


def test_edges_of_every_form_become_what_a_step_waits_for() -> None:
    made = routine(
        """
        dependencies: [{from: a, to: d}]
        parallel_branches: [{id: x, steps: [b, c]}]
        steps:
          - {id: a, tool: echo}
          - {id: b, tool: echo}
          - {id: c, tool: echo, needs: [a]}
          - {id: d, tool: echo, depends_on: [b]}
        """
    )
    assert [one.after for one in made.steps] == [(), (), ("b", "a"), ("a", "b")]
    assert [one.branch for one in made.steps] == ["", "x", "x", ""]


def test_a_null_condition_is_still_a_condition() -> None:
    assert (step("tool: echo, when: null").has_when, step("tool: echo, when: null").when) == (True, None)
    assert not step("tool: echo").has_when


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps: [{id: a, tool: echo}]\nname: 5", "`name` must be a name of a-z, 0-9, _ and -"),
        ("steps: [{id: a, tool: echo, needs: [b]}]", "no step has the id 'b'"),
        ("steps: [{id: build, tool: echo}, {id: b, tool: echo, needs: [biuld]}]", "did you mean 'build'?"),
        ("steps: [{id: a, tool: echo, needs: [a]}]", "'a' depends on itself: a → a"),
        ("steps: [{id: a, tool: echo}]\ngoal: x", "'goal' is not a key of a routine"),
        ("kind: swarm\nsteps: []", "this is a swarm; a routine was expected here"),
        ("inputs: {run: {}}\nsteps: [{id: a, tool: echo}]", "'run' means something in expressions"),
        ("secrets: {x: {environ: Y}}\nsteps: [{id: a, tool: echo}]", "'environ' is not a key of a secret"),
        ("steps: [{id: a, tool: echo, resources: {gpu: -1}}]", "`gpu` must be a number from 0"),
        ("steps: [{id: a, tool: echo, timeout: 4000d}]", "a duration is at most 3650d"),
        ("permissions: {allow: ['shell git']}\nsteps: [{id: a, tool: echo}]", "must be a rule such as shell"),
        ("events: [{subscribe: '**', tool: t, barrier: true}]\nsteps: [{id: a, tool: echo}]", "can be a barrier"),
        ("steps: [{id: a, with: {}}]", "the step 'a' has nothing to do"),
        ("steps: [{id: a, tool: echo}]\ninputs: {x: }", "`x` must be a map such as {type: string}, not nothing"),
        ("cases: []\nroutine: x", "this looks like a test file"),
        ("- a", "the file holds a list"),
        ("steps: [{id: a, prompt: ''}]", "`prompt` must be a text for the model, not an empty text"),
        ("steps: [{id: a, tool: echo, on_error: {recovr: 1}}]", "did you mean 'recover'?"),
        ("steps: [{id: a, tool: echo, output_schema: {type: txt}}]", "there is no type"),
        ("inputs: {x: {type: integer, default: a}}\nsteps: [{id: a, tool: echo}]", "the default of 'x' does not fit"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_place(text: str, expected: str) -> None:
    lines = told(text)
    assert any(expected in line for line in lines), lines
    assert all(line.startswith("r.yaml:") and "\n" not in line for line in lines)


def test_a_short_secret_in_a_file_is_a_warning() -> None:
    text = "inputs: {pin: {type: string, secret: true, default: '123'}}\nsteps: [{id: a, tool: echo}]"
    assert routine(text).inputs["pin"].secret
    assert "shorter than 4 characters" in told(text)[0]


def test_a_code_that_is_almost_one_of_ours_is_a_warning() -> None:
    text = "steps: [{id: a, tool: echo, retry: {on: [TOOL_FAILD, MY_OWN_CODE, NOT_FOUND, STEP_TIMEOUT]}}]"
    assert step("tool: echo, retry: {on: [TOOL_FAILD, MY_OWN_CODE]}").retry is not None
    assert told(text) == [
        "r.yaml:1:42: no error of vrooli has the code TOOL_FAILD (did you mean 'TOOL_FAILED'?)",
    ]


def test_a_bad_step_does_not_make_those_wrong_that_depend_on_it() -> None:
    lines = told("steps: [{id: a, tol: echo}, {id: b, tool: echo, needs: [a]}]")
    assert len(lines) == 1 and "did you mean 'tool'" in lines[0]


def test_groups_are_nested_so_deep_and_no_deeper() -> None:
    def nested(depth: int) -> dict[str, Any]:
        inner: dict[str, Any] = {"id": f"s{depth}", "tool": "echo"}
        for level in reversed(range(depth)):
            inner = {"id": f"s{level}", "parallel": [inner]}
        return {"steps": [inner]}

    build_routine(nested(32))
    with pytest.raises(DefinitionError, match="nested more than 32 deep"):
        build_routine(nested(200))


# Durations


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        *(("30s", 30_000), ("1h30m", 5_400_000), ("250ms", 250), ("1.5h", 5_400_000), ("1d 2h", 93_600_000)),
        *((10, 10_000), ("10", 10_000), (0.25, 250), ("0", 0), (" 5 m ", 300_000), (".5s", 500)),
    ],
)
def test_a_duration_is_read_in_milliseconds(text: str | float, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", "5x", "5 minutes", "1m1h", "1h1h", "1h30", "-1s", "1e3s", "1_0s", "٣s", "5S", True, -1),
        *(float("nan"), float("inf"), 10**400, "9" * 400, "4000d", None, [1]),
    ],
)
def test_what_is_no_duration_is_refused_in_one_line(text: Any) -> None:
    with pytest.raises(ValueError) as caught:
        parse_duration(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@given(st.integers(0, LONGEST_MS))
def test_a_duration_that_is_printed_is_read_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


# Anything at all

KEYS = st.sampled_from([*forms.ROUTINE.names, *forms.STEP.names, *forms.INPUT.names, *forms.FOR_EACH.names])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["a", "{{ x }}"])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.integers(), inner, max_size=3),
    max_leaves=8,
)
OPTIONAL = {key: ANYTHING for key in forms.ROUTINE.names if key != "steps"}
STEPS = st.lists(st.dictionaries(st.sampled_from([*forms.STEP.names]), ANYTHING, max_size=6), max_size=4)


@settings(max_examples=150, deadline=None)
@given(ANYTHING | st.fixed_dictionaries({"steps": STEPS}, optional=OPTIONAL))
def test_whatever_the_data_is_only_problems_come_out(data: Any) -> None:
    try:
        build_routine(data)
    except DefinitionError as error:
        assert error.problems
        assert all(problem.message and "\n" not in problem.message for problem in error.problems)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_one_wrong_value_in_a_good_file_is_found_where_it_stands(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(set(forms.STEP.names) - {"parameters", "with", "id"})))
    wrong = data.draw(st.sampled_from([{"no_such_key": 1}, {1: 2}, [[[]]], float("nan")]))
    if key in ("set", "export", "for_each", "matrix", "output_schema", "resources"):
        wrong = 5
    raw = {"id": "a", key: wrong} | ({} if key in forms.ACTIONS else {"tool": "echo"})
    problems = read_routine({"steps": [raw]})[1]
    assert any(problem.pointer[:3] == ("steps", 0, key) for problem in problems), problems


@pytest.mark.parametrize(
    "data",
    [
        {"steps": [{"id": f"s{n}", "tool": "echo", "depends_on": [f"t{n}"]} for n in range(5000)]},
        {"steps": [{"id": f"s{n}", "tool": "echo", f"key{n}": 1} for n in range(5000)]},
        {"steps": [{"id": "same", "tool": "echo"} for _ in range(20000)]},
        {"steps": [{"id": "a", "tool": "echo"}], "inputs": {f"steps{n}": {"typ": 1} for n in range(5000)}},
        {"steps": [{"id": "a", "tool": "x" * 10**6, "depends_on": ["y" * 10**6] * 50}]},
    ],
    ids=["unknown ids", "unknown keys", "one id", "inputs", "long names"],
)
def test_a_file_that_is_wrong_everywhere_is_refused_quickly(data: dict[str, Any]) -> None:
    begin = time.perf_counter()
    problems = read_routine(data)[1]
    assert time.perf_counter() - begin < 5
    assert 0 < len(problems) <= MOST_PROBLEMS + 1
    assert all(len(problem.message) < 1000 for problem in problems)
