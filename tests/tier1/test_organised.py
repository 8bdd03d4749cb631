"""A swarm under an organisation: schemes as tasks, goals of several agents, choices, norms, duties, links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tier1.simulate import MS, End, World, agent, failed, plan_of, task
from tests.tier2.simulate import tools
from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.errors import Problem
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.model import events as e
from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.run import ExecutionResult
from vrooli_cli.model.swarm import Assignment, SwarmBundle, SwarmDefinition
from vrooli_cli.tier1.instructions import StartTask
from vrooli_cli.tier1.plan import plan_swarm
from vrooli_cli.tier3.ai.scripted import ScriptedAI


def scheme(goals: dict[str, Any], missions: dict[str, Any], norms: list[Any], **structural: Any) -> dict[str, Any]:
    return {
        "structural": {"roles": {"worker": {}, "boss": {}}, **structural},
        "functional": {"schemes": {"s": {"goals": goals, "missions": missions}}},
        "normative": {"norms": norms},
    }


def obliged(mission: str, role: str = "worker", **keys: Any) -> dict[str, Any]:
    return {"id": f"n-{mission}", "role": role, "type": "obligation", "mission": mission, **keys}


SEQUENCE = {"g": {"plan": {"sequence": ["one", "two"]}}, "one": {}, "two": {}}
CREW = [agent("ana", places=2), agent("ben", places=2), agent("cid", places=2)]


def test_a_scheme_is_the_task_graph_and_no_model_is_asked() -> None:
    rules = scheme(SEQUENCE, {"m": {"goals": ["one", "two"], "min": 1, "max": 1}}, [obliged("m")])
    world = World(plan_of(CREW, constraints=rules)).run()
    assert world.status == "completed", world.machine.error
    assert [order.task for order in world.started] == ["one", "two"]
    assert world.of(e.GoalDecomposed)[0].source == "scheme"
    formed = world.of(e.TeamFormed)[0]
    assert any("worker" in roles for roles in formed.roles.values())
    assert "committed to mission 'm'" in formed.assignments["one"]["reason"]


def test_a_goal_for_n_agents_is_done_by_n_agents() -> None:
    goals = {"g": {"plan": {"sequence": ["review", "sum"]}}, "review": {"min": 3}, "sum": {"min": 1}}
    missions = {"m": {"goals": ["review"], "min": 3, "max": 3}, "k": {"goals": ["sum"], "min": 1, "max": 1}}
    rules = scheme(goals, missions, [obliged("m"), {**obliged("k"), "type": "permission"}])
    world = World(plan_of(CREW, constraints=rules), lambda order: End(result=order.address)).run()
    assert world.status == "completed", world.machine.error
    reviews = [order for order in world.started if order.task == "review"]
    assert {order.agent for order in reviews} == {"ana", "ben", "cid"}
    assert [order.address for order in reviews] == ["task:review[0]", "task:review[1]", "task:review[2]"]
    assert world.results["review"] == {order.agent: order.address for order in reviews}
    assert world.machine.blackboard["review"] == world.results["review"]


CHOICE = {
    "g": {"plan": {"sequence": ["way", "end"]}},
    "way": {"plan": {"choice": ["left", "right"]}},
    "left": {"plan": {"sequence": ["l1", "l2"]}},
    "l1": {},
    "l2": {},
    "right": {},
    "end": {},
}
ALL = {"m": {"goals": ["l1", "l2", "right", "end"], "min": 1, "max": 3}}


def test_a_choice_takes_its_first_branch() -> None:
    world = World(plan_of(CREW, constraints=scheme(CHOICE, ALL, [obliged("m")]))).run()
    assert [order.task for order in world.started if order.agent == world.started[0].agent] == ["l1", "l2", "end"]


def test_a_choice_falls_back_to_another_branch_when_nobody_can_do_the_first() -> None:
    def script(order: StartTask) -> End:
        return failed() if order.task == "l2" else End(result=order.task)

    one = {"m": {"goals": ["l1", "l2", "right", "end"], "min": 1, "max": 1}}
    world = World(plan_of(CREW, constraints=scheme(CHOICE, one, [obliged("m")])), script).run()
    assert world.status == "completed", world.machine.error
    (revised,) = world.of(e.PlanRevised)
    assert revised.source == "choice"
    assert revised.tried == {"way": ["left"]}
    assert [one["id"] for one in revised.tasks] == ["l1", "right", "end"]
    assert world.results["right"] == "right"
    for prefix in range(len(world.log) + 1):
        assert world.resumed_at(prefix).status == "completed", prefix


def test_a_choice_among_given_tasks_falls_back_too_and_keeps_what_the_file_says() -> None:
    def script(order: StartTask) -> End:
        return failed() if order.task == "l2" else End(result=order.task)

    one = {"m": {"goals": ["l1", "l2", "right", "end"], "min": 1, "max": 1}}
    tasks = [task("l1", size=9), task("l2", after=["l1"]), task("tell", after=["l2"]), task("note")]
    plan = plan_of(
        CREW,
        tasks,
        constraints=scheme(CHOICE, one, [obliged("m")]),
        assignments={"tell": Assignment("cid", "because"), "l1": Assignment("ana", "")},
    )
    world = World(plan, script).run()
    assert world.status == "completed", world.machine.error
    (revised,) = world.of(e.PlanRevised)
    found = {one["id"]: one["dependencies"] for one in revised.tasks}
    assert found == {"l1": [], "right": [], "tell": ["right"], "note": []}, "no `end`: the file left it out"
    assert next(one for one in revised.tasks if one["id"] == "l1")["estimated_complexity"] == 9
    assert revised.assignments["tell"]["agent"] == "cid"
    for prefix in range(len(world.log) + 1):
        assert world.resumed_at(prefix).status == "completed", prefix


def test_a_choice_without_another_branch_fails() -> None:
    def script(order: StartTask) -> End:
        return failed() if order.task in ("l2", "right") else End()

    world = World(plan_of(CREW, constraints=scheme(CHOICE, ALL, [obliged("m")])), script).run()
    assert world.status == "failed"
    assert world.machine.error is not None
    assert world.machine.error["step"].startswith("task:right")


def test_a_task_is_reassigned_only_to_who_is_permitted() -> None:
    rules = scheme(SEQUENCE, {"m": {"goals": ["one", "two"], "min": 1, "max": 1}}, [obliged("m", "boss")])
    rules["structural"]["groups"] = {"all": {"roles": {"worker": {"min": 2, "max": 2}, "boss": {"min": 1, "max": 1}}}}
    world = World(plan_of(CREW, constraints=rules), lambda order: failed()).run()
    assert world.status == "failed"
    assert len({order.agent for order in world.started}) == 1


def test_an_obligation_past_its_time_is_told_and_escalates_along_authority() -> None:
    goals = {"g": {"plan": {"sequence": ["one", "two"]}}, "one": {"ttf": "1s"}, "two": {}}
    missions = {"m": {"goals": ["one"], "min": 1, "max": 1}, "k": {"goals": ["two"], "min": 1, "max": 1}}
    rules = scheme(goals, missions, [obliged("m"), obliged("k", "boss", ttf="10s")])
    rules["structural"]["links"] = [{"from": "boss", "to": "worker", "type": "authority", "scope": "intra-group"}]
    rules["structural"]["groups"] = {"all": {"roles": {"worker": {"min": 1, "max": 1}, "boss": {"min": 1, "max": 1}}}}
    rules["assignments"] = {"ana": ["worker"], "ben": ["boss"]}
    world = World(plan_of(CREW, constraints=rules), lambda order: End(delay=3000)).run()
    assert world.status == "completed"
    (late,) = world.of(e.NormViolated)
    assert (late.agent_id, late.role, late.task_id, late.escalated_to) == ("ana", "worker", "one", "ben")
    assert world.times[world.log.index(late)] - world.times[0] == 1000 * MS
    assert {event.norm for event in world.of(e.NormFulfilled)} == {"n-m", "n-k"}


def problems_of(**keys: Any) -> list[Problem]:
    swarm = SwarmDefinition(name="s", goal="g", key="swarm", agents=tuple(CREW), **keys)
    return plan_swarm(SwarmBundle(swarm), tools())[1]


def test_an_organisation_that_no_team_can_keep_is_refused_at_load() -> None:
    rules = scheme(SEQUENCE, {"m": {"goals": ["one", "two"], "min": 4}}, [obliged("m")])
    (problem,) = problems_of(constraints=rules)
    assert problem.code == "TEAM_INFEASIBLE"
    assert problem.pointer == ("constraints",)
    assert "'m'" in problem.message


def test_an_assignment_against_a_norm_is_refused_at_load() -> None:
    rules = scheme(SEQUENCE, {"m": {"goals": ["one", "two"], "min": 1, "max": 1}}, [obliged("m", "boss")])
    rules["structural"]["groups"] = {"all": {"roles": {"worker": {"min": 2, "max": 2}, "boss": {"min": 1, "max": 1}}}}
    rules["assignments"] = {"ana": ["boss"], "ben": ["worker"], "cid": ["worker"]}
    given = (task("one"), task("two", after=["one"]))
    found = problems_of(constraints=rules, tasks=given, assignments={"one": Assignment("ben")})
    assert [(one.code, one.pointer) for one in found] == [("NORM_VIOLATED", ("assignments", "one", "agent"))]
    assert "'ben' (plays worker)" in found[0].message


def test_mistakes_in_an_organisation_have_pointers() -> None:
    found = problems_of(constraints={"structural": {"roles": {"a": {"extends": ["nobody"]}}}})
    assert found
    assert found[0].pointer[:2] == ("constraints", "structural")


# --- with everything real --------------------------------------------------------------------------------------------

ROUTINE = {
    "name": "do",
    "inputs": {"task": {"type": "object"}, "dependencies": {"type": "object"}},
    "steps": [{"id": "x", "tool": "echo", "parameters": {"message": "{{ task.id }} by {{ task.agent }}"}}],
    "outputs": {"text": "{{ steps.x.result }}", "before": "{{ dependencies }}"},
}


async def run_files(
    folder: Path, swarm: dict[str, Any], ai: Any = None, **files: Any
) -> tuple[ExecutionResult, list[ExecutionEvent]]:
    for name, data in {"do": ROUTINE, **files}.items():
        (folder / f"{name}.yaml").write_text(json.dumps(data))
    (folder / "s.yaml").write_text(json.dumps({"name": "s", "goal": "g", **swarm}))
    async with ExecutionArchitecture(ai=ai, folder=str(folder)) as architecture:
        prepared = architecture.prepare(load_bundle(folder / "s.yaml"), {})
        result = await prepared.run()
        assert prepared.bug is None, prepared.bug
        return result, architecture.event_bus.history()


PROHIBITED: dict[str, Any] = {
    "structural": {"roles": {"reviewer": {}}, "groups": {"g": {"roles": {"reviewer": {"min": 1, "max": 3}}}}},
    "normative": {"norms": [{"id": "no-write", "role": "reviewer", "type": "prohibition", "actions": ["file_write"]}]},
    "assignments": {"ana": ["reviewer"]},
}


async def test_a_prohibition_closes_a_tool_at_the_call_with_agent_role_norm_and_step(tmp_path: Path) -> None:
    write = {
        "name": "write",
        "steps": [{"id": "w", "tool": "file_write", "parameters": {"path": "out.txt", "content": "x"}}],
    }
    swarm = {
        "agents": [{"id": "ana", "capabilities": ["c"], "routine": "write.yaml"}],
        "tasks": [{"id": "t", "description": "d", "required_capabilities": ["c"]}],
        "constraints": PROHIBITED,
    }
    result, events = await run_files(tmp_path, swarm, write=write)
    assert result.error is not None
    assert result.error.code == "NORM_VIOLATED"
    assert result.error.step == "task:t/w"
    (violation,) = [event.payload for event in events if event.type == "tier1/norm/violated"]
    assert violation["agent_id"] == "ana"
    assert violation["role"] == "reviewer"
    assert violation["norm"] == "no-write"
    assert violation["step_id"] == "task:t/w"
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(("condition", "written"), [("strict", False), ("not strict", True), ("agent == 'ben'", True)])
async def test_a_prohibition_holds_where_its_condition_does(tmp_path: Path, condition: str, written: bool) -> None:
    write = {
        "name": "write",
        "steps": [{"id": "w", "tool": "file_write", "parameters": {"path": "out.txt", "content": "x"}}],
    }
    (norm,) = PROHIBITED["normative"]["norms"]
    swarm = {
        "inputs": {"strict": {"default": True}},
        "agents": [{"id": "ana", "capabilities": ["c"], "routine": "write.yaml"}],
        "tasks": [{"id": "t", "description": "d", "required_capabilities": ["c"]}],
        "constraints": {**PROHIBITED, "normative": {"norms": [{**norm, "condition": condition}]}},
    }
    result, _ = await run_files(tmp_path, swarm, write=write)
    assert result.success is written, result.error


@pytest.mark.parametrize(("calm", "who"), [(True, "ana"), (False, "ben")])
def test_a_permission_counts_only_where_its_condition_holds(calm: bool, who: str) -> None:
    rules = scheme(
        {"g": {"plan": {"sequence": ["one"]}}, "one": {}},
        {"m": {"goals": ["one"], "min": 1, "max": 1}},
        [
            {"id": "p", "role": "worker", "type": "permission", "mission": "m", "condition": "vars.calm"},
            {"id": "q", "role": "boss", "type": "permission", "mission": "m", "condition": "not vars.calm"},
        ],
    )
    rules["assignments"] = {"ana": ["worker"], "ben": ["boss"]}
    plan = plan_of([agent("ana"), agent("ben")], constraints=rules, vars={"calm": calm})
    world = World(plan).run()
    assert world.status == "completed", world.machine.error
    assert [order.agent for order in world.started] == [who]


@pytest.mark.parametrize(
    ("condition", "told"), [("tasks.one.status != 'completed'", 1), ("tasks.one.status != 'running'", 0)]
)
def test_an_obligation_is_violated_only_while_its_condition_holds(condition: str, told: int) -> None:
    rules = scheme(
        {"g": {"plan": {"sequence": ["one"]}}, "one": {}},
        {"m": {"goals": ["one"], "min": 1, "max": 1}},
        [{**obliged("m", ttf="1s"), "condition": condition}],
    )
    world = World(plan_of([agent("ana")], constraints=rules), lambda order: End(delay=5_000)).run()
    assert world.status == "completed", world.machine.error
    assert len(world.of(e.NormViolated)) == told


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16"])
def test_an_organisation_in_any_encoding_that_it_declares_is_read(tmp_path: Path, encoding: str) -> None:
    text = f"""<?xml version="1.0" encoding="{encoding}"?>
<organisational-specification os-version="0.8" xmlns="http://moise.sourceforge.net/os">
  <structural-specification>
    <role-definitions><role id="w"/></role-definitions>
    <group-specification id="g"><roles><role id="w"/></roles></group-specification>
  </structural-specification>
  <functional-specification>
    <scheme id="s"><goal id="top" ds="écrire"/><mission id="m" min="1"><goal id="top"/></mission></scheme>
  </functional-specification>
  <normative-specification><norm id="n" type="obligation" role="w" mission="m"/></normative-specification>
</organisational-specification>"""
    (tmp_path / "os.xml").write_bytes(text.encode(encoding))
    swarm = {"name": "s", "goal": "g", "agents": [{"id": "a", "capabilities": []}], "constraints": "os.xml"}
    (tmp_path / "swarm.yaml").write_text(json.dumps(swarm), encoding="utf-8")
    bundle = load_bundle(tmp_path / "swarm.yaml").bundle
    assert isinstance(bundle, SwarmBundle)
    plan, problems = plan_swarm(bundle, tools())
    assert plan is not None, problems
    assert [(one.id, one.description) for one in plan.known_tasks] == [("top", "écrire")]


async def test_a_models_call_against_a_norm_goes_back_to_the_model_and_is_told(tmp_path: Path) -> None:
    swarm = {
        "agents": [{"id": "ana", "capabilities": ["c"], "tools": ["file_write"]}],
        "tasks": [{"id": "t", "description": "d", "required_capabilities": ["c"]}],
        "constraints": PROHIBITED,
    }
    call = {"tool_calls": [{"name": "file_write", "arguments": {"path": "out.txt", "content": "x"}}]}
    ai = ScriptedAI([call, "I may not write, so here it is."])
    result, events = await run_files(tmp_path, swarm, ai)
    assert result.success, result.error
    assert result.result == {"t": "I may not write, so here it is."}
    assert [event.payload["norm"] for event in events if event.type == "tier1/norm/violated"] == ["no-write"]
    assert not (tmp_path / "out.txt").exists()


LINKED = {
    "structural": {
        "roles": {"a": {}, "b": {}, "c": {}},
        "links": [{"from": "a", "to": "b", "type": "communication", "scope": "intra-group"}],
        "groups": {"g": {"roles": {role: {"min": 1, "max": 1} for role in "abc"}}},
    },
    "assignments": {"ana": ["a"], "ben": ["b"], "cid": ["c"]},
}


@pytest.mark.parametrize(("reader", "sees"), [("ben", True), ("cid", False)])
async def test_communication_links_decide_whose_results_an_agent_may_read(
    tmp_path: Path, reader: str, sees: bool
) -> None:
    look = {
        "name": "look",
        "inputs": {"dependencies": {"type": "object"}},
        "steps": [
            {"id": "keys", "tool": "blackboard_read"},
            {"id": "one", "tool": "blackboard_read", "parameters": {"key": "first"}, "on_error": {"recover": "hidden"}},
        ],
        "outputs": {"keys": "{{ steps.keys.result }}", "one": "{{ steps.one.result }}", "given": "{{ dependencies }}"},
    }
    swarm = {
        "agents": [
            {"id": "ana", "capabilities": ["write"], "routine": "do.yaml"},
            {"id": "ben", "capabilities": ["ben"], "routine": "look.yaml"},
            {"id": "cid", "capabilities": ["cid"], "routine": "look.yaml"},
        ],
        "tasks": [
            {"id": "first", "required_capabilities": ["write"]},
            {"id": "second", "required_capabilities": [reader], "dependencies": ["first"]},
        ],
        "constraints": LINKED,
    }
    result, _ = await run_files(tmp_path, swarm, look=look)
    assert result.success, result.error
    first = {"text": "first by ana", "before": {}}
    seen = result.result["second"]
    assert seen == {
        "keys": ["first"] if sees else [],
        "one": first if sees else "hidden",
        "given": {"first": first} if sees else {},
    }


async def test_an_organisation_may_stand_in_an_xml_file(tmp_path: Path) -> None:
    (tmp_path / "os.xml").write_text(
        """<?xml version="1.0"?>
<organisational-specification id="o" os-version="0.8" xmlns="http://moise.sourceforge.net/os">
  <structural-specification>
    <role-definitions><role id="worker"/></role-definitions>
    <group-specification id="g"><roles><role id="worker" min="1" max="2"/></roles></group-specification>
  </structural-specification>
  <functional-specification>
    <scheme id="s">
      <goal id="root"><plan operator="sequence"><goal id="one"/><goal id="two"/></plan></goal>
      <mission id="m" min="1" max="1"><goal id="one"/><goal id="two"/></mission>
    </scheme>
  </functional-specification>
  <normative-specification><norm id="n" type="obligation" role="worker" mission="m"/></normative-specification>
</organisational-specification>"""
    )
    swarm = {"agents": [{"id": "ana", "capabilities": [], "routine": "do.yaml"}], "constraints": "os.xml"}
    result, _ = await run_files(tmp_path, swarm)
    assert result.success, result.error
    assert result.result["two"]["text"] == "two by ana"
