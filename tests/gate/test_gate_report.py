from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.gate import Action, PlannedCall, Policy, ToolTraits, effects_report, traits_of
from vrooli_cli.model.routine import Permissions, Rule

SHELL = traits_of("shell", {"properties": {"command": {}}}, asks=True)
HTTP = traits_of("http", {"properties": {"url": {}}}, asks=True)
WRITE = traits_of("file_write", {"properties": {"path": {}}}, asks=True)
MCP = traits_of("git.status", {"properties": {"repo": {}}}, asks=True, origin="mcp:git")
ECHO = traits_of("echo", {"properties": {"message": {}}})


@pytest.mark.parametrize(
    ("tool", "main", "rule"),
    [
        (SHELL, "git log | head", "shell"),
        (SHELL, ["git", "log", "--oneline"], "shell(git log --oneline)"),
        (SHELL, ["git", "log", None, "-p"], "shell(git log *)"),
        (SHELL, ["git", "log", ("v", None)], "shell(git log *)"),
        (SHELL, [None, "x"], "shell"),
        (SHELL, ["A=1", "x"], "shell(command=A=1 x)"),
        (SHELL, ["A=b"], "shell(command=A=b)"),
        (HTTP, "https://api.x.org/v1?q=1", "http(host=api.x.org)"),
        (HTTP, ("https://api.x.org/", None), "http(host=api.x.org)"),
        (HTTP, ("https://api.x.org", None), "http"),
        (HTTP, ("https://", None, ".x.org/"), "http"),
        (HTTP, None, "http"),
        (WRITE, "out/report.md", "file_write(out/report.md)"),
        (WRITE, ("out/", None, ".md"), "file_write(out/*)"),
        (WRITE, (None, ".md"), "file_write"),
        (WRITE, "~", "file_write(./~)"),
        (MCP, "x", "git.status"),
    ],
)
def test_the_narrowest_rule_of_a_call(tool: ToolTraits, main: Any, rule: str) -> None:
    [line] = effects_report([PlannedCall("s", tool, "once", main)]).effects
    assert line.rule == rule


def test_calls_without_effects_need_no_rule_and_bare_rules_swallow_narrow_ones() -> None:
    report = effects_report(
        [
            PlannedCall("a", ECHO, "none", "x"),
            PlannedCall("b", SHELL, "once", ["ls"]),
            PlannedCall("c", SHELL, "once", "ls | wc"),
            PlannedCall("d", HTTP, "idempotent", "https://x.org"),
            PlannedCall("e", HTTP, "idempotent", "https://x.org/b"),
        ]
    )
    assert [line.address for line in report.effects] == ["b", "c", "d", "e"]
    assert report.rules == ("http(host=x.org)", "shell")


TEXT = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12)


@given(st.lists(TEXT, min_size=1, max_size=4), st.integers(0, 4), TEXT)
def test_the_rules_of_a_plan_allow_what_was_planned(argv: list[str], known: int, late: str) -> None:
    planned = [part if at < known else None for at, part in enumerate(argv)]
    calls = [PlannedCall("s", SHELL, "once", planned)]
    rules = effects_report(calls).rules
    policy = Policy().narrow("routine", Permissions(allow=tuple(Rule(text) for text in rules)))
    real = [late if part is None else part for part in planned]
    action = Action(execution_id="r", address="s", tool=SHELL, parameters={"command": real})
    assert policy.judge(action).decision == "allow"


@given(
    st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=12),
    st.sampled_from(["", "out/"]),
)
def test_the_rule_of_a_written_path_allows_that_path(name: str, folder: str) -> None:
    rules = effects_report([PlannedCall("s", WRITE, "once", f"{folder}{name}")]).rules
    policy = Policy().narrow("routine", Permissions(allow=tuple(Rule(text) for text in rules)))
    action = Action(
        execution_id="r", address="s", tool=WRITE, parameters={"path": f"{folder}{name}"}, folder="/f", roots=("/",)
    )
    assert policy.judge(action).decision == "allow"


def test_the_fixtures_and_the_report_speak_of_the_same_tools(tools: dict[str, ToolTraits]) -> None:
    make: Callable[[str], ToolTraits] = tools.__getitem__
    assert (make("shell").command, make("http").url, make("file_write").paths) == ("command", "url", ("path",))
