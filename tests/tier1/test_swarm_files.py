"""Swarm files run with everything real but the model: tasks, values, limits, suspension, resume, frozen plans."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.errors import DefinitionError, VrooliError
from vrooli_cli.gate import Answer, Deferred, Question
from vrooli_cli.journal import open_store
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.text import read_text
from vrooli_cli.model.run import ExecutionStatus
from vrooli_cli.model.store import LogBatch
from vrooli_cli.tier1.swarm import PreparedSwarm
from vrooli_cli.tier2.prepared import RunOptions
from vrooli_cli.tier3.ai.scripted import ScriptedAI
from vrooli_cli.tier3.registry import Tool, ToolContext

DO: dict[str, Any] = {
    "name": "do",
    "inputs": {"task": {"type": "object"}, "goal": {"type": "string"}, "dependencies": {"type": "object"}},
    "steps": [{"id": "x", "tool": "echo", "parameters": {"message": "did {{ task.id }}"}}],
    "outputs": {"text": "{{ steps.x.result }}", "before": "{{ dependencies }}", "goal": "{{ goal }}"},
}
AGENT = {"id": "a", "capabilities": ["c"], "routine": "do.yaml"}
TASKS = [
    {"id": "t1", "description": "first", "required_capabilities": ["c"]},
    {"id": "t2", "description": "then", "required_capabilities": ["c"], "dependencies": ["t1"]},
]
SWARM: dict[str, Any] = {"name": "s", "goal": "the goal", "agents": [AGENT], "tasks": TASKS}


class Files:
    """A folder with a swarm, and architectures over one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("do", DO)

    def write(self, name: str, data: Any) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    def architecture(self, **keys: Any) -> ExecutionArchitecture:
        return ExecutionArchitecture(folder=str(self.folder), **keys)

    def prepare(self, architecture: ExecutionArchitecture, given: Any = None, **swarm: Any) -> PreparedSwarm:
        path = self.write("s", {**SWARM, **swarm})
        prepared = architecture.prepare(load_bundle(path), given or {})
        assert isinstance(prepared, PreparedSwarm)
        return prepared

    async def run(self, given: Any = None, *, ai: Any = None, tools: Any = None, **swarm: Any) -> Any:
        async with self.architecture(ai=ai, tools=tools) as architecture:
            prepared = self.prepare(architecture, given, **swarm)
            result = await prepared.run()
            assert prepared.bug is None, prepared.bug
            return result


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def test_an_agents_routine_gets_task_goal_dependencies_and_the_inputs_that_it_declares(files: Files) -> None:
    files.write(
        "do",
        {
            **DO,
            "inputs": {**DO["inputs"], "file": {"type": "string"}},
            "outputs": {**DO["outputs"], "file": "{{ file }}"},
        },
    )
    result = await files.run({"file": "a.csv"}, inputs={"file": {"type": "string"}, "other": {"default": 1}})
    assert result.success, result.error
    first, second = result.result["t1"], result.result["t2"]
    assert first == {"text": "did t1", "before": {}, "goal": "the goal", "file": "a.csv"}
    assert second["before"] == {"t1": first}
    assert [(path, step.status.value) for path, step in result.steps.items()] == [
        ("task:t1", "completed"),
        ("task:t2", "completed"),
    ]


async def test_texts_of_the_file_are_rendered_once_and_outputs_see_every_name(files: Files) -> None:
    outputs = {
        "o": "{{ tasks.t2.result.text }} by {{ tasks.t2.agent }}: {{ tasks.t1.status }}",
        "more": "{{ [goal, who, vars.x, blackboard.t1.text, run.name] }}",
    }
    result = await files.run(
        {"who": "{{ 1 + 1 }}"},
        goal="help {{ who }}",
        inputs={"who": {"type": "string"}},
        vars={"x": "{{ who }}!"},
        outputs=outputs,
    )
    assert result.success, result.error
    assert result.result["o"] == "did t2 by a: completed"
    assert result.result["more"] == ["help {{ 1 + 1 }}", "{{ 1 + 1 }}", "{{ 1 + 1 }}!", "did t1", "s"]


def problems(files: Files, **swarm: Any) -> list[str]:
    path = files.write("s", {**SWARM, **swarm})
    loaded = load_bundle(path, raises=False)
    return [str(problem) for problem in files.architecture().check(loaded)]


def test_names_that_cannot_exist_are_found_at_load_with_their_place(files: Files) -> None:
    found = problems(
        files,
        outputs={"a": "{{ tasks.t3.result }}", "b": "{{ tasks.t1.reslt }}", "c": "{{ nothing }}", "d": "{{ t1 }}"},
        handlers={"finally": [{"id": "f", "tool": "echo", "parameters": {"message": "{{ tasks.zz.result }} {{ q }}"}}]},
        synthesis={"prompt": "{% for t in taks %}{{ t }}{% endfor %}"},
    )
    text = "\n".join(found)
    for needle in (
        "no task 't3'",
        "no field 'reslt'",
        "no name 'nothing'",
        "tasks.t1.result",
        "no task 'zz'",
        "'taks'",
    ):
        assert needle in text, needle
    assert "no name 'q'" in text
    assert all("s.yaml:1:" in one for one in found), found


def test_given_tasks_that_nobody_can_do_are_infeasible_before_anything_runs(files: Files) -> None:
    files.write("s", {**SWARM, "tasks": [{"id": "t", "required_capabilities": ["fly"]}]})
    with pytest.raises(DefinitionError) as caught:
        load_bundle(files.folder / "s.yaml")
    assert caught.value.code == "TEAM_INFEASIBLE"
    assert len(problems(files, tasks=[{"id": "t", "required_capabilities": ["fly"]}])) == 1
    busy = [{**AGENT, "current_load": 1}]
    (found,) = problems(files, agents=busy)
    assert "places taken" in found


def test_mistakes_in_an_edited_plan_are_told_together_with_their_places(files: Files) -> None:
    tasks = [
        {"id": "a", "dependencies": ["b"]},
        {"id": "b", "dependencies": ["a"]},
        {"id": "c", "dependencies": ["c", "zz"]},
    ]
    found = problems(files, tasks=tasks, assignments={"a": {"agent": "nobody"}, "d": {"agent": "a"}}, outputs={})
    for needle in (
        "tasks wait for each other: a → b → a",
        "'c' depends on itself",
        "there is no task 'zz'",
        "there is no agent 'nobody'",
        "there is no task 'd'",
    ):
        assert sum(needle in one for one in found) == 1, (needle, found)
    assert len(found) == 5


def test_a_secret_may_not_stand_in_what_a_model_is_told(files: Files) -> None:
    secret = {"token": {"type": "string", "secret": True, "default": "s3cr3t"}}
    for keys in ({"goal": "use {{ token }}"}, {"synthesis": {"prompt": "{{ inputs.token }}"}}):
        (found,) = problems(files, inputs=secret, **keys)
        assert "the secret 'token' would stand in a prompt" in found


def test_mistakes_in_an_organisation_s_own_file_have_its_lines(files: Files) -> None:
    files.write("org", "constraints:\n  structural:\n    roles:\n      a: {extends: [nobody]}\n")
    (found,) = problems(files, constraints="org.yaml")
    assert "org.yaml:4:" in found


async def test_handlers_see_the_tasks_and_the_verdict(files: Files) -> None:
    handler = {
        "id": "note",
        "tool": "file_write",
        "parameters": {"path": "note.txt", "content": "{{ run.status }} {{ tasks.t2.result.text }} {{ goal }}"},
    }
    result = await files.run(handlers={"success": [handler]})
    assert result.success, result.error
    assert (files.folder / "note.txt").read_text() == "completed did t2 the goal"


async def test_a_failing_task_moves_to_another_agent_with_its_own_execution(files: Files) -> None:
    bad = {"name": "bad", "steps": [{"id": "x", "tool": "fail", "parameters": {"message": "not me"}}]}
    files.write("bad", bad)
    agents = [{"id": "a", "capabilities": ["c"], "routine": "bad.yaml"}, {**AGENT, "id": "b"}]
    result = await files.run(agents=agents, tasks=TASKS[:1])
    assert result.success, result.error
    assert result.steps["task:t1"].attempts == 2


async def test_agents_permissions_narrow_and_a_denial_names_the_step(files: Files) -> None:
    files.write("do", {"steps": [{"id": "x", "tool": "file_list", "parameters": {"glob": "*"}}]})
    result = await files.run(agents=[{**AGENT, "permissions": {"deny": ["file_list"]}}], tasks=TASKS[:1])
    assert result.error is not None
    assert (result.error.code, result.error.step) == ("PERMISSION_DENIED", "task:t1/x")


async def test_slots_are_one_pool_of_the_whole_swarm(files: Files) -> None:
    files.write("do", {"steps": [{"id": f"w{n}", "wait": "40ms"} for n in range(3)]})
    tasks = [{"id": f"t{n}", "required_capabilities": ["c"]} for n in range(3)]
    started = asyncio.get_running_loop().time()
    result = await files.run(
        agents=[{**AGENT, "max_concurrent_tasks": 3}], tasks=tasks, allocation={"max_concurrent_steps": 3}
    )
    assert result.success
    assert asyncio.get_running_loop().time() - started >= 0.12


async def _paid(params: dict[str, Any], context: ToolContext, /) -> Any:
    return params


PAY = Tool(name="pay", description="", schema={"type": "object"}, execute=_paid, effects="none", credits=60)


async def test_the_swarms_credits_are_one_ledger_and_end_it(files: Files) -> None:
    files.write("do", {"steps": [{"id": "x", "tool": "pay"}]})
    agents = [AGENT, {**AGENT, "id": "b"}]
    result = await files.run(agents=agents, tools=[PAY], allocation={"max_credits": 100})
    assert result.error is not None
    assert (result.error.code, result.error.step) == ("CREDITS_EXHAUSTED", "task:t2/x")
    assert result.resources_used.credits_used == "60"
    assert result.steps["task:t2"].attempts == 1


async def test_an_agents_own_credits_move_the_task_to_another(files: Files) -> None:
    files.write("do", {"steps": [{"id": "x", "tool": "pay"}]})
    agents = [{**AGENT, "allocation": {"max_credits": 50}}, {**AGENT, "id": "b"}]
    result = await files.run(agents=agents, tasks=TASKS[:1], tools=[PAY])
    assert result.success, result.error
    assert result.steps["task:t1"].attempts == 2


async def test_a_cancel_from_another_task_stops_everything(files: Files) -> None:
    files.write("do", {"steps": [{"id": "x", "tool": "shell", "parameters": {"command": ["sleep", "30"]}}]})
    async with files.architecture() as architecture:
        prepared = files.prepare(architecture)
        running = asyncio.create_task(prepared.run())
        await asyncio.sleep(0.3)
        assert await architecture.tier1.get_execution_status(prepared.run_id) is ExecutionStatus.RUNNING
        await architecture.tier1.cancel_execution(prepared.run_id)
        result = await asyncio.wait_for(running, 10)
    assert result.status is ExecutionStatus.CANCELLED
    assert result.steps["task:t1"].status.value == "cancelled"
    assert result.steps["task:t2"].status.value == "skipped"


async def test_the_swarms_time_out_is_its_failure(files: Files) -> None:
    files.write("do", {"steps": [{"id": "x", "wait": "20s"}]})
    result = await files.run(allocation={"max_duration": "200ms"})
    assert result.error is not None
    assert result.error.code == "RUN_TIMEOUT"


# --- knowledge -------------------------------------------------------------------------------------------------------


async def test_knowledge_goes_to_the_planner_to_the_agent_and_to_who_asks(files: Files) -> None:
    (files.folder / "facts.md").write_text("# Blue whales\n\nThey weigh 190 tons.\n")
    plan = {"tasks": [{"id": "t", "description": "How heavy are blue whales?", "required_capabilities": ["c"]}]}
    search = {"tool_calls": [{"name": "knowledge_search", "arguments": {"query": "whales"}}]}
    ai = ScriptedAI([plan, search, "190 tons"])
    path = files.write(
        "s",
        {
            "name": "s",
            "goal": "Learn of blue whales",
            "agents": [{"id": "a", "capabilities": ["c"], "tools": ["knowledge_search"]}],
            "knowledge": ["*.md"],
        },
    )
    async with files.architecture(ai=ai) as architecture:
        result = await architecture.prepare(load_bundle(path), {}).run()
    assert result.result == {"t": "190 tons"}
    planner, briefed, after = ai.requests
    assert "They weigh 190 tons." in str(planner.messages)
    assert "[facts.md:1]" in str(briefed.messages)
    assert "facts.md:1" in str(after.messages[-1])


# --- frozen plans ----------------------------------------------------------------------------------------------------


async def test_a_frozen_plan_reads_runs_and_asks_nobody(files: Files) -> None:
    odd = "Write {{ this }} and {% that %} down: it is 5 o'clock"
    plan = {
        "tasks": [
            {"id": "one", "description": odd, "required_capabilities": ["c"], "priority": "high"},
            {"id": "two", "dependencies": ["one"], "required_capabilities": ["c"], "estimated_complexity": 2},
        ]
    }
    path = files.write(
        "s",
        "name: s\ngoal: the goal   # a comment\nagents:\n"
        "- {id: a, capabilities: [c], routine: do.yaml}\n"
        "- {id: b, capabilities: [c]}\n",
    )
    async with files.architecture(ai=ScriptedAI([plan])) as architecture:
        prepared = architecture.prepare(load_bundle(path), {})
        assert isinstance(prepared, PreparedSwarm)
        text = await prepared.plan_only()
    data = read_text(text.encode(), "plan.yaml").data
    assert list(data) == ["name", "goal", "agents", "tasks", "assignments"]
    assert [one["id"] for one in data["tasks"]] == ["one", "two"]
    assert all(one["reason"] for one in data["assignments"].values())
    for one in data["assignments"].values():
        one["agent"] = "a"
    files.write("plan", json.dumps(data))
    ai = ScriptedAI([])
    async with files.architecture(ai=ai) as architecture:
        prepared = architecture.prepare(load_bundle(files.folder / "plan.yaml"), {})
        result = await prepared.run()
    assert result.success, result.error
    assert ai.requests == []
    assert prepared.machine.tasks["one"].spec.description == odd  # type: ignore[union-attr]


async def test_planning_that_fails_raises(files: Files) -> None:
    async with files.architecture(ai=ScriptedAI(["{}"] * 3)) as architecture:
        path = files.write("s", {"name": "s", "goal": "g", "agents": [AGENT]})
        prepared = architecture.prepare(load_bundle(path), {})
        assert isinstance(prepared, PreparedSwarm)
        with pytest.raises(VrooliError) as caught:
            await prepared.plan_only()
    assert caught.value.code == "DECOMPOSITION_INVALID"


# --- suspension and resume -------------------------------------------------------------------------------------------

ASKING = {
    "name": "do",
    "inputs": {"task": {"type": "object"}},
    "steps": [
        {
            "id": "before",
            "tool": "shell",
            "parameters": {"command": ["sh", "-c", 'echo "$1" >> ran.txt', "_", "{{ task.id }}"]},
        },
        {"id": "ok", "approval": "Go on with {{ task.id }}?", "depends_on": ["before"]},
    ],
    "outputs": {"by": "{{ steps.ok.result.by }}"},
}


class Once:
    """Somebody who is there from the second question on."""

    def __init__(self, answers: bool) -> None:
        self.answers = answers

    async def ask(self, question: Question) -> Answer | Deferred:
        return Answer(True, "me") if self.answers else Deferred.DEFERRED


async def test_an_approval_in_a_task_suspends_the_swarm_and_a_resume_goes_on_there(files: Files) -> None:
    files.write("do", ASKING)
    store = str(files.folder / "store.db")
    async with files.architecture(store=open_store(store), approver=Once(False)) as architecture:
        prepared = files.prepare(architecture)
        result = await prepared.run()
        assert result.status is ExecutionStatus.SUSPENDED
        assert result.steps["task:t1"].status.value == "suspended"
        assert result.error is not None
        assert (result.error.code, result.error.step) == ("APPROVAL_REQUIRED", "task:t1/ok")
        run_id = prepared.run_id
    async with files.architecture(store=open_store(store), approver=Once(True)) as architecture:
        result = await architecture.resume(run_id).run()
        assert result.success, result.error
        assert result.result == {"t1": {"by": "me"}, "t2": {"by": "me"}}
    assert (files.folder / "ran.txt").read_text() == "t1\nt2\n"


async def test_finished_tasks_are_reused_and_failed_ones_go_on_inside(files: Files) -> None:
    flaky = {
        "name": "do",
        "inputs": {"task": {"type": "object"}},
        "steps": [
            {
                "id": "once",
                "tool": "shell",
                "parameters": {"command": ["sh", "-c", 'echo "$1" >> ran.txt', "_", "{{ task.id }}"]},
            },
            {
                "id": "door",
                "tool": "shell",
                "effects": "idempotent",
                "parameters": {"command": ["test", "-e", "{{ task.id }}.open"]},
                "depends_on": ["once"],
            },
        ],
        "outputs": {"text": "{{ task.id }} done"},
    }
    files.write("do", flaky)
    (files.folder / "t1.open").touch()
    store = str(files.folder / "store.db")
    async with files.architecture(store=open_store(store)) as architecture:
        prepared = files.prepare(architecture)
        result = await prepared.run()
        assert result.error is not None
        assert result.error.step == "task:t2/door"
    (files.folder / "t2.open").touch()
    async with files.architecture(store=open_store(store)) as architecture:
        again = architecture.resume(prepared.run_id)
        result = await again.run()
        assert result.success, result.error
        assert result.steps["task:t1"].reused
        assert not result.steps["task:t2"].reused
        assert result.result == {"t1": {"text": "t1 done"}, "t2": {"text": "t2 done"}}
    assert (files.folder / "ran.txt").read_text() == "t1\nt2\n"


@pytest.fixture
async def architecture(files: Files) -> AsyncIterator[ExecutionArchitecture]:
    async with files.architecture() as made:
        yield made


async def test_keep_going_runs_what_does_not_depend_on_a_failure(
    files: Files, architecture: ExecutionArchitecture
) -> None:
    files.write("bad", {"name": "bad", "steps": [{"id": "x", "tool": "fail", "parameters": {"message": "no"}}]})
    agents = [{"id": "b", "capabilities": ["bad"], "routine": "bad.yaml"}, AGENT]
    tasks = [{"id": "bad", "required_capabilities": ["bad"]}, *TASKS, {"id": "after", "dependencies": ["bad"]}]
    path = files.write("s", {**SWARM, "agents": agents, "tasks": tasks})
    result = await architecture.prepare(load_bundle(path), {}, options=RunOptions(keep_going=True)).run()
    statuses = {path: step.status.value for path, step in result.steps.items()}
    assert statuses == {
        "task:bad": "failed",
        "task:t1": "completed",
        "task:t2": "completed",
        "task:after": "skipped",
    }


COUNTED = {
    "name": "do",
    "inputs": {"task": {"type": "object"}, "dependencies": {"type": "object"}},
    "steps": [
        {"id": "a", "tool": "echo", "parameters": {"message": "{{ task.id }}"}, "export": {"last": "{{ task.id }}"}},
        {"id": "b", "tool": "echo", "parameters": {"message": "{{ steps.a.result }}{{ dependencies | length }}"}},
    ],
    "outputs": {"text": "{{ steps.b.result }}"},
}


async def test_a_swarm_whose_process_died_at_any_event_ends_the_same(files: Files) -> None:
    files.write("do", COUNTED)
    handlers = {"success": [{"id": "h", "tool": "echo", "parameters": {"message": "{{ tasks.t3.result }}"}}]}
    tasks = [*TASKS, {"id": "t3", "required_capabilities": ["c"], "dependencies": ["t1", "t2"]}]
    outputs = {"all": "{{ tasks }}", "last": "{{ blackboard.last }}"}
    store = open_store(":memory:")
    async with files.architecture(store=store) as architecture:
        prepared = files.prepare(architecture, tasks=tasks, handlers=handlers, outputs=outputs)
        whole = await prepared.run()
        assert whole.success, whole.error
        key, record = store.find(prepared.run_id)
        lines = list(store.read(key))
    assert len(lines) > 40
    for cut in range(len(lines)):
        other = open_store(":memory:")
        number = other.open_run(replace(record, status="running", ended_ns=None))
        other.append([LogBatch(number, 1, cut, b"".join(lines[:cut]))] if cut else [])
        done = {json.loads(line)["payload"]["task_id"] for line in lines[:cut] if b'"tier1/task/completed"' in line}
        async with files.architecture(store=other) as architecture:
            again = architecture.resume(prepared.run_id)
            result = await again.run()
            assert again.bug is None, (cut, again.bug)
            assert result.result == whole.result, cut
            facts = [json.loads(line) for line in other.read(number, cut + 1)]
        started = {fact["payload"]["task_id"] for fact in facts if fact["type"] == "tier1/task/started"}
        assert not started & done, cut
        steps = [json.loads(line) for line in lines[:cut] if b'"tier2/step/completed"' in line] + [
            fact for fact in facts if fact["type"] == "tier2/step/completed"
        ]
        names = [step["payload"]["step_id"] for step in steps if step["payload"]["step_id"].startswith("task:")]
        assert sorted(names) == sorted(set(names)), f"a step was repeated after a cut at {cut}"
