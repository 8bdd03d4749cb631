"""The JSON Schemas for editors, against a validator that others wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from vrooli_cli.loading import forms
from vrooli_cli.loading.routine import read_routine
from vrooli_cli.loading.schemas import KINDS, FileKind, json_schema
from vrooli_cli.loading.text import read_text

GOLDENS = Path(__file__).parent.parent / "goldens" / "loading"
ROUTINE = Draft202012Validator(json_schema("routine"))
# What only the loader can know: ids, edges, what fits an action, what other files say.
ONLY_LOADED = {"bad-graph", "bad-children", "bad-recursion", "bad-infeasible", "bad-empty", "bad-nothing"}


def data_of(case: str) -> Any:
    path = GOLDENS / case / "file.yaml"
    return read_text(path.read_bytes(), "file.yaml").data


def validator(case: str) -> Draft202012Validator:
    return Draft202012Validator(json_schema("swarm" if case.endswith(("swarm", "infeasible")) else "routine"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_has_a_valid_schema(kind: FileKind) -> None:
    schema = json_schema(kind)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema") and schema["description"]


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDENS.glob("good-*")))
def test_good_files_satisfy_the_schema(case: str) -> None:
    assert [error.message for error in validator(case).iter_errors(data_of(case))] == []


@pytest.mark.parametrize("case", sorted({path.name for path in GOLDENS.glob("bad-*")} - ONLY_LOADED))
def test_bad_files_do_not_satisfy_the_schema(case: str) -> None:
    assert not validator(case).is_valid(data_of(case))


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for title, body in [("", schema), *schema["$defs"].items()]:
        for name, one in body.get("properties", {}).items():
            yield f"{title}/{name}", one


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "events"])
def test_every_key_is_explained(kind: FileKind) -> None:
    found = dict(properties(json_schema(kind)))
    assert found and [place for place, one in found.items() if len(one.get("description", "")) < 5] == []


def test_aliases_are_keys_of_the_schema_and_exclude_each_other() -> None:
    def steps(**keys: Any) -> dict[str, Any]:
        return {"steps": [{"id": "a", "tool": "echo", **keys}]}

    assert ROUTINE.is_valid(steps(**{"with": {"x": 1}, "needs": ["b"]}))
    assert not ROUTINE.is_valid(steps(**{"with": {}, "parameters": {}}))
    assert not ROUTINE.is_valid(steps(prompt="x"))
    assert not ROUTINE.is_valid({"steps": [{"id": "a"}]})


def test_test_files_and_projects_are_described() -> None:
    case = {
        "name": "groups commits",
        "inputs": {"repo": ".", "limit": 3},
        "stubs": {"log": {"stdout": "a\nb", "exit_code": 0}},
        "replies": [{"themes": [{"name": "fixes"}]}],
        "clock": "2026-01-01T00:00:00Z",
        "expect": {
            "status": "completed",
            "outputs": {"themes": []},
            "steps": {"log": "completed"},
            "calls": [{"tool": "shell", "parameters": {"command": ["git", "*"]}}],
            "that": ["steps.notes.attempts == 1"],
            "events": ["tier3/ai/responded"],
        },
    }
    test = Draft202012Validator(json_schema("test"))
    assert test.is_valid({"routine": "r.yaml", "cases": [case, {"name": "made up", "generate": True}]})
    assert not test.is_valid({"routine": "r.yaml", "cases": [{**case, "expects": {}}]})
    project = Draft202012Validator(json_schema("project"))
    assert project.is_valid(
        {"limits": {"file_mb": 32}, "agents": {"monitor": False}, "permissions": {"deny": ["shell"]}}
    )
    assert not project.is_valid({"steps": []})


VALUES = st.sampled_from(
    [
        *("a", "", "30s", "1h30m", "5x", "{{ x }}", "fail", "high", "reasoning", "none", 0, 1, -1, 0.5, 10**6),
        *(True, None, [], ["a"], ["a", "a"], [1], {}, {"a": 1}, {"recover": 1}, {"items": "x"}),
        *({"max_attempts": 2}, {"until": "x"}),
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(set(forms.STEP.names) - {"id", "depends_on", "needs"})), VALUES, max_size=4)
)
def test_what_the_loader_takes_the_schema_takes(keys: dict[str, Any]) -> None:
    """An editor must never mark as wrong what runs; the other way round it may know less."""
    data = {"steps": [{"id": "a", **keys}]}
    if not [problem for problem in read_routine(data)[1] if not problem.warning]:
        assert [error.message for error in ROUTINE.iter_errors(data)] == []


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(set(forms.STEP.names) - {"id", "output_schema", *forms.ACTIONS})), VALUES)
def test_what_the_schema_takes_of_one_key_the_loader_takes_too(key: str, value: Any) -> None:
    data = {"steps": [{"id": "a", "tool": "echo", key: value}]}
    problems = [problem for problem in read_routine(data)[1] if not problem.warning]
    if ROUTINE.is_valid(data):
        words = (
            "steps;",
            "no step has",
            "a tool step",
            "`matrix` needs",
            "is not a unit",
            "must be longer",
            "no type",
            "itself",
        )
        assert all(any(word in problem.message for word in words) for problem in problems), problems


def test_every_line_of_a_run_satisfies_the_schema_of_events(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("steps: [{id: a, tool: echo, parameters: {message: 1}}, {id: b, tool: fail}]\n")
    vrooli = str(Path(sys.executable).with_name("vrooli"))
    command = [vrooli, "run", "r.yaml", "--no-store", "-o", "ndjson", "-q"]
    lines = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False).stdout
    events = Draft202012Validator(json_schema("events"))
    found = [json.loads(line) for line in lines.splitlines()]
    assert (found[0]["type"], found[-1]["type"]) == ("tier2/routine/started", "result")
    assert [error.message for one in found for error in events.iter_errors(one)] == []
    for wrong in ({**found[0], "payload": {}}, {**found[-1], "steps": None}, {**found[0], "type": "tier2/other"}):
        assert not events.is_valid(wrong)
