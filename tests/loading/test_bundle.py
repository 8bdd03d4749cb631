"""A file and everything that it reaches: names to files, circles, depth, parameters, hostile files."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from vrooli_cli.errors import DefinitionError, InputError, Problem
from vrooli_cli.loading.bundle import LoadedBundle, bundle_of_workflow, load_bundle, steps_of
from vrooli_cli.loading.inputs import read_values, resolve_inputs, resolve_secrets
from vrooli_cli.loading.routine import build_routine
from vrooli_cli.loading.text import Limits
from vrooli_cli.model.routine import Bundle, ChildRoutine, Routine, ToolCall
from vrooli_cli.model.run import ParallelBranch, StepDependency, WorkflowDefinition, WorkflowStep
from vrooli_cli.model.swarm import SwarmBundle

ECHO = "steps: [{id: a, tool: echo}]\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "routines").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*targets: str) -> str:
    return "steps:\n" + "".join(f"  - {{id: s{n}, routine: {target}}}\n" for n, target in enumerate(targets))


def bundle_of(loaded: LoadedBundle) -> Bundle:
    assert isinstance(loaded.bundle, Bundle)
    return loaded.bundle


def targets(routine: Routine) -> list[str]:
    return [Path(s.action.target).name for s in steps_of(routine) if isinstance(s.action, ChildRoutine)]


def refused(path: str, **options: object) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load_bundle(path, **options)  # type: ignore[arg-type]
    return [str(problem) for problem in caught.value.problems]


# Names to files


def test_every_routine_that_is_reached_is_there_once(here: Path) -> None:
    (here / "main.yaml").write_text(call("sub/one.yaml", "two", "sub/one.yaml"))
    (here / "sub").mkdir()
    (here / "sub/one.yaml").write_text(call("leaf.yaml"))  # relative to the file that names it
    (here / "sub/leaf.yaml").write_text(ECHO)
    (here / "routines/two.yml").write_text(ECHO)
    loaded = load_bundle("main.yaml")
    bundle = bundle_of(loaded)
    assert sorted(Path(key).name for key in bundle.routines) == ["leaf.yaml", "main.yaml", "one.yaml", "two.yml"]
    assert targets(bundle.routine) == ["one.yaml", "two.yml", "one.yaml"]
    assert bundle.routine.path == "main.yaml" and bundle.main == str(here / "main.yaml") == loaded.main
    assert bundle.texts[bundle.main] == (here / "main.yaml").read_text()
    assert loaded.sources[bundle.main].locate(("steps", 1)) == (3, 5)


def test_a_bare_name_is_a_routine_of_the_project_from_any_folder_in_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "routines/notes.yaml").write_text(ECHO)
    (here / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(here / "deep/er")
    assert bundle_of(load_bundle("notes")).routine.name == "notes"


def test_a_folder_of_the_same_name_does_not_hide_a_routine(here: Path) -> None:
    (here / "notes").mkdir()
    (here / "routines/notes.yaml").write_text(ECHO)
    assert bundle_of(load_bundle("notes")).routine.name == "notes"


def test_stdin_is_a_file_too_and_names_files_relative_to_the_current_folder(here: Path) -> None:
    (here / "child.yaml").write_text(ECHO)
    for stdin in (call("child.yaml").encode(), io.BytesIO(call("child.yaml").encode())):
        bundle = bundle_of(load_bundle("-", stdin=stdin))
        assert (bundle.main, bundle.routine.name, targets(bundle.routine)) == ("-", "stdin", ["child.yaml"])
    assert refused("-", stdin=b"steps: []")[0].startswith("<stdin>:1:8: ")


def test_a_routine_that_is_not_there_is_told_with_what_may_be_meant(here: Path) -> None:
    (here / "routines/notes.yaml").write_text(ECHO)
    (here / "main.yaml").write_text(call("nots", "routines/note.yaml"))
    first, second = refused("main.yaml")
    assert first.startswith("main.yaml:2:23: there is no routine 'nots'") and "did you mean 'notes'?" in first
    assert "did you mean 'routines/notes.yaml'?" in second
    assert refused("main.yml") == ["main.yml: there is no such file or routine (did you mean 'main.yaml'?)"]
    assert refused("") == ["'': there is no such file or routine"]


def test_the_digest_changes_with_any_byte_of_any_file(here: Path) -> None:
    (here / "main.yaml").write_text(call("child.yaml"))
    digests = set()
    for text in (ECHO, ECHO + "\n", ECHO + "# x"):
        (here / "child.yaml").write_text(text)
        digests.add(load_bundle("main.yaml").bundle.digest)
    assert len(digests) == 3 and all(len(digest) == 64 for digest in digests)


def test_a_child_is_no_swarm(here: Path) -> None:
    (here / "main.yaml").write_text(call("swarm.yaml"))
    (here / "swarm.yaml").write_text("goal: x\nagents: [{id: a, capabilities: []}]")
    assert refused("main.yaml") == [
        "swarm.yaml:1:1: this is a swarm; a routine was expected here (a routine has `steps`)"
    ]


# Circles and depth


@pytest.mark.parametrize("through", ["{id: x, routine: a.yaml}", "{id: x, parallel: [{id: y, routine: a.yaml}]}"])
def test_a_routine_that_reaches_itself_is_refused_with_its_path(here: Path, through: str) -> None:
    (here / "a.yaml").write_text(call("b.yaml"))
    (here / "b.yaml").write_text(f"steps: [{through}]")
    (problem,) = refused("a.yaml")
    assert problem.startswith("b.yaml:1:") and problem.endswith("a.yaml → b.yaml → a.yaml")
    (here / "c.yaml").write_text(call("c.yaml"))
    assert refused("c.yaml") == ["c.yaml:2:23: a routine cannot reach itself: c.yaml → c.yaml"]


@pytest.mark.parametrize(("children", "fine"), [(16, True), (17, False), (300, False)])
def test_calls_go_sixteen_deep_and_no_deeper(here: Path, children: int, fine: bool) -> None:
    for n in range(children):
        (here / f"r{n}.yaml").write_text(call(f"r{n + 1}.yaml"))
    (here / f"r{children}.yaml").write_text(ECHO)
    if fine:
        assert len(bundle_of(load_bundle("r0.yaml")).routines) == 17
    else:
        (problem,) = refused("r0.yaml")
        assert "more than 16 deep: r0.yaml → r1.yaml" in problem and len(problem) < 400


def test_a_diamond_is_no_circle(here: Path) -> None:
    (here / "a.yaml").write_text(call("b.yaml", "c.yaml"))
    (here / "b.yaml").write_text(call("d.yaml"))
    (here / "c.yaml").write_text(call("d.yaml"))
    (here / "d.yaml").write_text(ECHO)
    assert len(bundle_of(load_bundle("a.yaml")).routines) == 4


def test_a_project_agent_may_be_run_by_itself(here: Path) -> None:
    (here / "vrooli.yaml").write_text("events: [{subscribe: '**/failed', routine: alert}]")
    (here / "routines/alert.yaml").write_text("inputs: {event: {}}\n" + ECHO)
    (agent,) = bundle_of(load_bundle("alert")).routine.events
    assert isinstance(agent.action, ChildRoutine) and agent.action.target.endswith("alert.yaml")


# Parameters, tools


def test_the_parameters_of_a_child_are_checked_against_its_inputs(here: Path) -> None:
    (here / "child.yaml").write_text(
        "inputs: {n: {type: integer}, m: {type: string, default: x}, o: {type: string, required: false}}\n" + ECHO
    )
    (here / "main.yaml").write_text(
        "steps:\n"
        "  - {id: a, routine: child.yaml, with: {n: 1, o: null}}\n"
        "  - {id: b, routine: child.yaml, with: {n: '{{ 1 }}'}}\n"
    )
    load_bundle("main.yaml")
    (here / "main.yaml").write_text("steps: [{id: a, routine: child.yaml, parameters: {n: one, mm: 2}}]")
    assert refused("main.yaml") == [
        "main.yaml:1:54: the input 'n' of child.yaml: must be an integer, not text",
        "main.yaml:1:59: child.yaml has no input 'mm' (did you mean 'm'?)",
    ]


def test_a_tool_that_nobody_has_is_told_when_the_tools_are_known(here: Path) -> None:
    (here / "main.yaml").write_text(
        "mcp_servers: {git: {command: x}}\n"
        "steps: [{id: a, tool: shel}, {id: b, tool: git.status}, {id: c, prompt: x, tools: [git.*, http, shel]}]"
    )
    load_bundle("main.yaml")
    with pytest.raises(DefinitionError) as caught:
        load_bundle("main.yaml", known_tools={"shell", "http"})
    assert caught.value.code == "TOOL_NOT_FOUND"
    assert [problem.column for problem in caught.value.problems] == [23, 97]
    assert "did you mean 'shell'?" in caught.value.problems[0].hint


def test_problems_can_be_had_together_with_what_was_understood(here: Path) -> None:
    (here / "main.yaml").write_text("steps: [{id: a, tool: shel}, {id: b, tol: x}]")
    loaded = load_bundle("main.yaml", known_tools={"shell"}, raises=False)
    assert not loaded.sound and len(loaded.problems) == 2
    assert [step.id for step in bundle_of(loaded).routine.steps] == ["a", "b"]


def test_problems_of_other_floors_are_placed_by_their_files_key(here: Path) -> None:
    (here / "main.yaml").write_text(call("child.yaml"))
    (here / "child.yaml").write_text(ECHO)
    loaded = load_bundle("main.yaml")
    found = [Problem(("steps", 0), "one"), Problem(("steps", 0, "tool"), "two", file=str(here / "child.yaml"))]
    assert [str(problem) for problem in loaded.place(found)] == ["main.yaml:2:5: one", "child.yaml:1:23: two"]


# Swarms


def test_a_swarm_brings_its_agents_routines_and_its_constraints(here: Path) -> None:
    (here / "swarm.yaml").write_text(
        "goal: x\ninputs: {topic: {default: a}}\nconstraints: org/os.yaml\n"
        "agents: [{id: a, capabilities: [w], routine: write.yaml}]"
    )
    (here / "write.yaml").write_text("inputs: {task: {}, goal: {}, dependencies: {}, topic: {}}\n" + ECHO)
    (here / "org").mkdir()
    (here / "org/os.yaml").write_text("structural: {roles: {a: {}}}")
    bundle = load_bundle("swarm.yaml").bundle
    assert isinstance(bundle, SwarmBundle)
    assert bundle.swarm.agents[0].target in bundle.routines
    assert bundle.swarm.constraints == {"structural": {"roles": {"a": {}}}}
    assert bundle.texts[bundle.swarm.constraints_key].startswith("structural")
    (here / "write.yaml").write_text("inputs: {tone: {}}\n" + ECHO)
    assert "needs the input 'tone'" in refused("swarm.yaml")[0]
    (here / "org/os.yaml").write_text("structural: [")
    assert any(line.startswith("org/os.yaml:1:") for line in refused("swarm.yaml"))


# Hostile files


def test_what_is_no_regular_file_is_one_line(here: Path) -> None:
    os.mkfifo(here / "pipe.yaml")
    (here / "folder.yaml").mkdir()
    (here / "loop.yaml").symlink_to("loop.yaml")
    (here / "secret.yaml").write_text(ECHO)
    (here / "secret.yaml").chmod(0)
    (here / "large.yaml").write_text("# " + "x" * 5000)
    (here / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01\x02" * 10)
    for name in ("pipe", "folder", "loop", "large", "binary"):
        (problem, *rest) = refused(f"{name}.yaml", limits=Limits(file_bytes=1000))
        assert problem.startswith(f"{name}.yaml") and not rest and "\n" not in problem, problem
    if os.geteuid():
        assert "permission denied" in refused("secret.yaml")[0]
    for name in ("\0", "a\0b.yaml", "x" * 5000, "x" * 5000 + ".yaml", "/dev/zero", ".", "..", "/"):
        assert len(refused(name)) == 1


def test_a_broken_file_of_a_child_is_told_with_its_own_name(here: Path) -> None:
    (here / "main.yaml").write_text(call("pipe.yaml", "bad.yaml"))
    os.mkfifo(here / "pipe.yaml")
    (here / "bad.yaml").write_text("steps: [")
    lines = refused("main.yaml")
    assert lines[0].startswith("pipe.yaml: this is a pipe") and lines[1].startswith("bad.yaml:1:")


def test_too_many_files_are_refused(here: Path) -> None:
    for n in range(1010):
        (here / f"r{n}.yaml").write_text(ECHO)
    (here / "main.yaml").write_text(call(*(f"r{n}.yaml" for n in range(1010))))
    begin = time.perf_counter()
    assert "more than 1000 files" in refused("main.yaml")[0]
    assert time.perf_counter() - begin < 5


# The seed's workflows


def test_a_workflow_of_the_seeds_types_is_a_bundle() -> None:
    workflow = WorkflowDefinition(
        steps=(
            WorkflowStep(id="step-1", name="Echo", tool_name="echo", parameters={"message": "{{input}}"}),
            WorkflowStep(id="step-2", tool_name="echo", timeout_ms=1500),
            WorkflowStep(id="step-3", tool_name="echo"),
        ),
        dependencies=(StepDependency(from_step="step-1", to_step="step-2"),),
        parallel_branches=(ParallelBranch(id="b", steps=("step-2", "step-3")),),
    )
    bundle = bundle_of_workflow(workflow, "My Routine", {"input": "Hello"})
    routine = bundle.routine
    assert (bundle.main, routine.name, list(routine.inputs)) == ("My Routine", "My Routine", ["input"])
    assert [step.after for step in routine.steps] == [(), ("step-1",), ("step-2",)]
    assert routine.steps[0].action == ToolCall("echo", {"message": "{{input}}"})
    assert routine.steps[1].timeout_ms == 1500
    assert resolve_inputs(routine.inputs, values={"input": [1]}) == {"input": [1]}


def test_a_wrong_workflow_is_refused_like_a_file() -> None:
    edge = StepDependency(from_step="a", to_step="b")
    with pytest.raises(DefinitionError, match="no step has the id 'b'"):
        bundle_of_workflow(WorkflowDefinition(steps=(WorkflowStep(id="a", tool_name="x"),), dependencies=(edge,)), "r")


# Inputs

INPUTS = build_routine(
    {
        "inputs": {
            "repo": {"type": "string", "default": "."},
            "limit": {"type": "integer", "minimum": 1},
            "tags": {"type": "array", "required": False},
            "token": {"type": "string", "secret": True, "env": "TOKEN", "minLength": 4, "required": False},
        },
        "steps": [{"id": "a", "tool": "echo"}],
    }
).inputs


def test_inputs_come_from_flags_then_values_then_the_environment_then_defaults(here: Path) -> None:
    (here / "five.txt").write_text("5\n")
    resolved = resolve_inputs(INPUTS, {"limit": "@five.txt"}, {"limit": 9, "tags": ["x"]}, {"TOKEN": "abcd"})
    assert resolved == {"repo": ".", "limit": 5, "tags": ["x"], "token": "abcd"}
    assert resolve_inputs(INPUTS, {"limit": "-", "repo": "@@me"}, read_stdin=lambda: "7") == {
        "repo": "@me",
        "limit": 7,
        "tags": None,
        "token": None,
    }


def test_everything_that_is_wrong_with_inputs_is_told_at_once_and_no_secret_with_it() -> None:
    with pytest.raises(InputError) as caught:
        resolve_inputs(INPUTS, {"rep": "x", "token": "abc", "repo": "@missing"}, {"tags": 5}, {})
    lines = caught.value.message.splitlines()
    assert len(lines) == 5 and caught.value.code == "INPUT_INVALID"
    assert "there is no input 'rep'; did you mean 'repo'?" in lines
    assert "input 'limit': is missing; give it with -i limit=…" in lines
    assert "input 'token': the value does not fit" in lines
    assert any("'repo'" in line and "no such file" in line for line in lines)
    assert not any("abc" in line for line in lines)


def test_a_file_of_inputs_is_a_map(here: Path) -> None:
    (here / "in.json").write_text('{"limit": 3}')
    (here / "in.yaml").write_text("- 3")
    assert read_values("in.json") == {"limit": 3}
    assert read_values("-", read_stdin=lambda: "limit: 4") == {"limit": 4}
    for wrong in ("in.yaml", "none.yaml"):
        with pytest.raises(InputError):
            read_values(wrong)


def test_secrets_are_read_from_the_environment() -> None:
    environ = {"A": "long enough", "B": "xyz"}
    assert resolve_secrets({"a": "A", "b": "B"}, environ) == {"a": "long enough", "b": "xyz"}
    with pytest.raises(InputError, match="the environment variable A is not set"):
        resolve_secrets({"a": "A"}, {"A": ""})


def test_an_agent_whose_routine_is_not_there_is_told(here: Path) -> None:
    stdin = b"goal: x\nagents: [{id: a, capabilities: [], routine: gone.yaml}]"
    assert len(refused("-", stdin=stdin)) == 1
