from __future__ import annotations

import json
import timeit
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.gate import Action, Gate, Policy, ToolTraits, Verdict, judge_strategy, traits_of
from vrooli_cli.model.routine import Permissions, Rule

Call = Callable[..., Action]
Make = Callable[..., Policy]
STRICT = {"allow": 0, "ask": 1, "deny": 2}


def level(**lists: Iterable[str]) -> Permissions:
    """``level(allow=["echo"], deny=[…])``."""
    return Permissions(**{effect: tuple(Rule(text, "r.yaml:7") for text in texts) for effect, texts in lists.items()})


SHELL = traits_of("shell", {"properties": {"command": {}}}, asks=True)
ECHO = traits_of("echo", {"properties": {"message": {}}})
HTTP = traits_of("http", {"properties": {"url": {}}}, asks=True)
READ = traits_of("file_read", {"properties": {"path": {}}})

RULES = st.sampled_from(
    [
        "*", "shell", "echo", "http", "file_read", "file_*", "s*", "shell(*)", "shell(git *)", "shell(git log)",
        "shell(rm *)",
        "echo(a*)", "echo(message=*b)", "http(https://x.org/*)", "http(host=*.org)", "http(host=x.org)", "*(a*)",
        "file_read(/etc/*)", "file_read(*)", "file_read(src/*)", "file_read(*.md)",
    ]
)  # fmt: skip
LISTS = st.lists(RULES, max_size=3)
LEVELS = st.builds(lambda allow, ask, deny: level(allow=allow, ask=ask, deny=deny), LISTS, LISTS, LISTS)
CALLS: st.SearchStrategy[tuple[ToolTraits, dict[str, Any]]] = st.sampled_from(
    [
        (SHELL, {"command": ["git", "log"]}),
        (SHELL, {"command": ["git", "push"]}),
        (SHELL, {"command": ["/bin/rm", "x"]}),
        (SHELL, {"command": "git log"}),
        (ECHO, {"message": "ab"}),
        (ECHO, {"message": "zz"}),
        (HTTP, {"url": "https://x.org/a"}),
        (HTTP, {"url": "http://y.org"}),
        (READ, {"path": "/etc/passwd"}),
        (READ, {"path": "src/a.md"}),
        (READ, {"path": "a.txt"}),
    ]
)


@st.composite
def actions(draw: st.DrawFn) -> Action:
    tool, parameters = draw(CALLS)
    effects = draw(st.sampled_from(["none", "idempotent", "once"]))
    return Action(
        execution_id="r",
        address="s",
        tool=tool,
        parameters=parameters,
        written=draw(st.booleans()),
        effects=effects,  # type: ignore[arg-type]
        folder="/nonexistent",
    )


def built(levels: list[Permissions]) -> Policy:
    policy = Policy()
    for at, one in enumerate(levels):
        policy = policy.narrow(f"level {at}", one)
    return policy


@given(st.lists(LEVELS, min_size=1, max_size=3), LEVELS, actions())
def test_an_inner_level_never_widens_what_outer_rules_decided(
    outer: list[Permissions], inner: Permissions, action: Action
) -> None:
    before = built(outer).judge(action)
    after = built(outer).narrow("inner", inner).judge(action)
    if before.rule != "default":  # where no rule had spoken, the inner one may: defaults are not a level
        assert STRICT[after.decision] >= STRICT[before.decision]


@given(st.lists(LEVELS, max_size=3), LEVELS, actions())
def test_a_written_call_of_a_tool_that_is_not_confined_is_never_widened_at_all(
    outer: list[Permissions], inner: Permissions, action: Action
) -> None:
    if action.written and not action.tool.confined:
        before = built(outer).judge(action)
        after = built(outer).narrow("inner", inner).judge(action)
        assert STRICT[after.decision] >= STRICT[before.decision]


@given(st.lists(LEVELS, max_size=2), st.lists(LEVELS, max_size=2), st.sampled_from(["*", "exact"]), actions())
def test_a_denial_at_any_level_wins(
    before: list[Permissions], after: list[Permissions], rule: str, action: Action
) -> None:
    denied = level(deny=[action.tool.name if rule == "exact" else rule])
    assert built([*before, denied, *after]).judge(action).decision == "deny"


@given(st.lists(LEVELS, max_size=3), actions())
def test_the_order_of_levels_does_not_change_the_verdict(levels: list[Permissions], action: Action) -> None:
    assert built(levels).judge(action).decision == built(levels[::-1]).judge(action).decision


@given(st.lists(LEVELS, max_size=3), actions())
def test_the_quick_way_and_the_long_way_agree(levels: list[Permissions], action: Action) -> None:
    policy = built(levels)
    if Gate().quick(action.tool, policy, action.effects, written=action.written):
        assert policy.judge(action).decision == "allow"


def test_deny_wins_then_ask_then_allow(call: Call, policy: Make) -> None:
    action = call("shell", command=["git", "push"])
    assert policy(allow=["shell"], ask=["shell(git *)"]).judge(action).decision == "ask"
    assert policy(allow=["shell(git push)"], ask=["shell"], deny=["shell(* push)"]).judge(action).decision == "deny"


def test_an_allow_rule_closes_its_tool_and_no_other(call: Call, policy: Make) -> None:
    only_git = policy(allow=["shell(git *)"], ask=["shell(make *)"])
    assert only_git.judge(call("shell", command=["git", "log"])).decision == "allow"
    assert only_git.judge(call("shell", command=["make"])).decision == "ask"
    refused = only_git.judge(call("shell", command=["ls"]))
    assert (refused.decision, refused.source) == ("deny", "r.yaml:7")
    assert "shell(git *)" in refused.reason
    assert only_git.judge(call("http", url="http://x.org")).decision == "allow"


@pytest.mark.parametrize(
    ("tool", "parameters", "effects", "written", "decision"),
    [
        ("echo", {"message": "x"}, "none", False, "allow"),
        ("shell", {"command": "ls"}, "once", True, "allow"),
        ("shell", {"command": "ls"}, "once", False, "ask"),
        ("http", {"url": "http://x.org"}, "idempotent", True, "allow"),
        ("http", {"url": "http://x.org"}, "idempotent", False, "ask"),
        ("file_write", {"path": "x"}, "idempotent", True, "allow"),
        ("file_write", {"path": "x"}, "idempotent", False, "ask"),
        ("file_read", {"path": "x"}, "idempotent", False, "allow"),
        ("git.log", {"repo": "."}, "once", True, "allow"),
        ("git.log", {"repo": "."}, "once", False, "ask"),
        ("git.status", {"repo": "."}, "none", False, "allow"),
    ],
)
def test_defaults(
    tool: str, parameters: dict[str, object], effects: str, written: bool, decision: str, call: Call
) -> None:
    action = call(tool, **parameters, _effects=effects, _written=written)
    assert Policy().judge(action).decision == decision


def test_an_allow_rule_lifts_the_default_question_for_a_models_call(call: Call, policy: Make) -> None:
    allowing = policy(allow=["shell(git *)"])
    assert allowing.judge(call("shell", command=["git", "log"], _written=False)).decision == "allow"


def test_an_empty_level_is_no_level() -> None:
    policy = Policy()
    assert policy.narrow("routine", Permissions()) is policy
    assert policy.narrow("project", level(deny=["x"])).narrow("agent", level(allow=["y"])).levels == (
        "project",
        "agent",
    )


def test_the_quick_way_costs_less_than_two_microseconds(tools: dict[str, ToolTraits], policy: Make) -> None:
    gate, made = Gate(), policy(deny=["shell(rm *)"])
    best = min(timeit.repeat(lambda: gate.quick(tools["echo"], made, "none"), number=2000, repeat=5)) / 2000
    assert best < 2e-6 * 5  # five times the bar: other work runs on this machine


@pytest.mark.parametrize(
    ("levels", "decision", "source"),
    [
        ([], "allow", "built in"),
        ([("vrooli.yaml:3", {"reasoning": "ask"}), ("r.yaml:9", {"reasoning": "allow"})], "ask", "vrooli.yaml:3"),
        ([("vrooli.yaml:3", {"reasoning": "ask"}), ("r.yaml:9", {"reasoning": "deny"})], "deny", "r.yaml:9"),
        ([("vrooli.yaml:3", {"conversational": "deny"})], "allow", "built in"),
    ],
)
def test_a_strategy_is_judged_by_the_strictest_policy(
    levels: list[tuple[str, dict[str, str]]], decision: str, source: str
) -> None:
    verdict = judge_strategy(levels, "reasoning")
    assert isinstance(verdict, Verdict)
    assert (verdict.decision, verdict.source) == (decision, source)


def test_verdicts_read_well_in_json() -> None:
    assert json.dumps(judge_strategy([], "x").reason)
