from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.errors import DefinitionError
from vrooli_cli.gate import Action, Glob, Policy, check, parse_rule
from vrooli_cli.model.routine import Permissions, Rule

Call = Callable[..., Action]
Make = Callable[..., Policy]


def slow_glob(glob: str, text: str) -> bool:
    """The meaning of a glob, in the simplest words there are."""
    pattern = "".join(".*" if char == "*" else "." if char == "?" else re.escape(char) for char in glob)
    return re.fullmatch(pattern, text, re.DOTALL) is not None


@given(st.text("ab*?/\n", max_size=8), st.text("ab/\n", max_size=12))
def test_a_glob_means_what_the_plain_translation_means(glob: str, text: str) -> None:
    assert Glob(glob).matches(text) == slow_glob(glob, text)


@pytest.mark.parametrize("glob", ["*a" * 500 + "b", "a*" * 900, "*?a" * 300 + "b", "?" * 1500 + "*b*" + "?" * 400])
def test_a_hostile_text_is_matched_in_one_pass(glob: str) -> None:
    text = "a" * 1_000_000 + "c"
    started = time.perf_counter()
    Glob(glob).matches(text)
    assert time.perf_counter() - started < 2.0


@pytest.mark.parametrize(
    ("text", "tool", "argument", "glob"),
    [
        ("shell", "shell", "", None),
        (" git.* ", "git.*", "", None),
        ("shell(git *)", "shell", "", "git *"),
        ("http(host=*.x.org)", "http", "host", "*.x.org"),
        ("shell(echo (x))", "shell", "", "echo (x)"),
        ("file_write(path=a=b)", "file_write", "path", "a=b"),
        ("http(https://x.org/?a=b)", "http", "", "https://x.org/?a=b"),
    ],
)
def test_a_rule_is_read_in_its_three_forms(text: str, tool: str, argument: str, glob: str | None) -> None:
    rule = parse_rule(text)
    assert (rule.tool, rule.argument, rule.glob) == (tool, argument, glob)


@pytest.mark.parametrize(
    "text", ["", "  ", "shell(", "shell(git", "shell()", "shell( )", "a b", "sh€ll", "x" * 3000, "(x)"]
)
def test_a_malformed_rule_is_a_problem_and_never_a_silent_no_match(text: str) -> None:
    with pytest.raises(DefinitionError):
        parse_rule(text)
    with pytest.raises(DefinitionError):
        Policy().narrow("routine", Permissions(deny=(Rule(text),)))
    [problem] = check(Permissions(deny=(Rule("echo"), Rule(text))))
    assert problem.pointer == ("permissions", "deny", 1)
    assert not problem.warning


@given(st.text(max_size=40))
def test_any_text_is_either_a_rule_or_a_problem(text: str) -> None:
    problems = check(Permissions(allow=(Rule(text),)))
    try:
        parse_rule(text)
    except DefinitionError:
        assert problems
    else:
        assert all(problem.warning for problem in problems)


KNOWN = {"shell": ("command", "cwd"), "http": ("url", "method"), "file_read": ("path",)}


@pytest.mark.parametrize(
    ("text", "message", "hint", "warning"),
    [
        ("shel(git *)", "names no tool", "did you mean 'shell'?", False),
        ("zzzzzz", "names no tool", "", True),
        ("shell(comand=x)", "no parameter 'comand'", "did you mean 'command'?", False),
        ("shell(FOO=1 make)", "no parameter 'FOO'", "shell(command=FOO=…)", False),
        ("http(hots=*.x.org)", "no parameter 'hots'", "did you mean 'host'?", False),
    ],
)
def test_check_knows_the_tools_and_their_parameters(text: str, message: str, hint: str, warning: bool) -> None:
    [problem] = check(Permissions(allow=(Rule(text),)), tools=KNOWN)
    assert message in problem.message
    assert hint in problem.hint
    assert problem.warning is warning


@pytest.mark.parametrize("text", ["git.status", "git.*", "shell", "http(host=*.x.org)", "file_*", "shell(cwd=/tmp/*)"])
def test_check_is_silent_about_good_rules(text: str) -> None:
    assert check(Permissions(allow=(Rule(text),)), tools=KNOWN, servers=["git"]) == []


def test_check_warns_of_a_denial_that_a_text_command_escapes() -> None:
    [problem] = check(Permissions(deny=(Rule("shell(rm *)"),)), tools=KNOWN)
    assert problem.warning
    assert "argv lists only" in problem.message
    assert check(Permissions(deny=(Rule("shell"), Rule("shell(*)"))), tools=KNOWN) == []


def test_check_warns_of_a_url_glob_without_a_scheme() -> None:
    [problem] = check(Permissions(allow=(Rule("http(*x.org*)"),)), tools=KNOWN)
    assert problem.warning


@pytest.mark.parametrize(
    ("rule", "argv", "matches"),
    [
        ("shell(git *)", ["git", "log"], True),
        ("shell(git *)", ["git"], True),
        ("shell(pip? install *)", ["pip3", "install"], True),
        ("shell(*)", [], True),
        ("shell(git*)", [], False),
        ("shell(git *)", ["gitx", "log"], False),
        ("shell(git *)", ["git log; rm -rf /"], False),
        ("shell(git log)", ["git", "log", "-p"], False),
        ("shell(git log *)", ["git", "log", "a b", "c"], True),
        ("shell(git *)", ["/usr/bin/git", "log"], False),
        ("shell(* --version)", ["python", "--version"], True),
        ("shell(command=git *)", ["git", "push"], True),
        ("shell(sleep 1)", ["sleep", 1], True),
    ],
)
def test_an_argv_list_is_matched_as_its_shell_joined_text(
    rule: str, argv: list[str], matches: bool, call: Call, policy: Make
) -> None:
    verdict = policy(allow=[rule]).judge(call("shell", command=argv))
    assert verdict.decision == ("allow" if matches else "deny")


@pytest.mark.parametrize("argv", [["rm", "-rf", "x"], ["/bin/rm", "-rf", "x"], ["./rm", "x"], ["rm"]])
def test_a_denied_program_is_denied_under_every_path(argv: list[str], call: Call, policy: Make) -> None:
    assert policy(deny=["shell(rm *)"]).judge(call("shell", command=argv)).decision == "deny"


@pytest.mark.parametrize("rule", ["shell(git *)", "shell(git log)", "shell(command=g*)", "shell(?*)"])
def test_a_string_command_is_never_matched_by_a_narrow_glob(rule: str, call: Call, policy: Make) -> None:
    action = call("shell", command="git log")
    assert policy(allow=[rule]).judge(action).decision == "deny"
    assert not parse_rule(rule).matches(action, allowing=False)


@pytest.mark.parametrize("rule", ["shell", "shell(*)", "shell(**)", "shell(command=*)", "sh*", "*"])
def test_a_string_command_is_matched_by_bare_rules(rule: str, call: Call, policy: Make) -> None:
    assert policy(allow=[rule]).judge(call("shell", command="git log; x")).decision == "allow"
    assert policy(deny=[rule]).judge(call("shell", command="git log; x")).decision == "deny"


def test_names_are_globs_and_main_arguments_the_first_declared_parameter(call: Call, policy: Make) -> None:
    only = policy(allow=["git.*(/repo/*)"])
    assert only.judge(call("git.status", repo="/repo/a")).decision == "allow"
    assert only.judge(call("git.log", repo="/else")).decision == "deny"
    assert only.judge(call("echo", message="x")).decision == "allow"


def test_other_arguments_are_matched_by_name_and_defaults_count(call: Call, policy: Make) -> None:
    get_only = policy(deny=["http(method=POST)"], allow=["http(method=get)"])
    assert get_only.judge(call("http", url="http://x.org/")).decision == "allow"
    assert get_only.judge(call("http", url="http://x.org/", method="post")).decision == "deny"
    assert policy(deny=["shell(cwd=/etc*)"]).judge(call("shell", command=["ls"])).decision == "allow"
    assert policy(deny=["shell(cwd=/etc*)"]).judge(call("shell", command=["ls"], cwd="/etc")).decision == "deny"


@pytest.mark.parametrize(("value", "glob"), [(3, "3"), (True, "true"), ({"a": [1]}, '{"a": [1]}'), (None, "")])
def test_values_that_are_no_text_are_matched_as_json(value: object, glob: str, call: Call) -> None:
    rule = parse_rule(f"echo({glob})" if glob else "echo(x)")
    assert rule.matches(call("echo", message=value), allowing=True) is (value is not None)
