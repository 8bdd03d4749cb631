"""The machine of tier 1: stages, places, priorities, adaptation, the end, and resume at every prefix of every log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tier1.simulate import End, World, agent, failed, plan_of, task
from tests.tier2.simulate import step
from vrooli_cli.errors import IllegalMove
from vrooli_cli.model import events as e
from vrooli_cli.model.swarm import Assignment, Synthesis
from vrooli_cli.tier1.decisions import SwarmOptions
from vrooli_cli.tier1.instructions import StartTask
from vrooli_cli.tier2.stimuli import CancelRequested

DIAMOND = [task("a", "c"), task("b", "c", after=["a"]), task("c", "c", after=["a"]), task("d", "c", after=["b", "c"])]
CREW = [agent("x", "c"), agent("y", "c")]


def test_given_tasks_run_in_phases_and_their_results_are_the_result() -> None:
    world = World(plan_of(CREW, DIAMOND)).run()
    assert world.status == "completed"
    assert set(world.machine.result) == {"a", "b", "c", "d"}
    assert world.machine.blackboard["a"] == world.results["a"]
    phases = [event.tasks for event in world.of(e.PhaseStarted)]
    assert phases == [("a",), ("b", "c"), ("d",)]
    assert [event.phase for event in world.of(e.PhaseCompleted)] == [0, 1, 2]
    assert world.of(e.GoalDecomposed)[0].source == "given"
    assert all(event.reason for event in world.of(e.TaskAssigned))


def test_an_agent_never_does_more_at_once_than_it_has_places() -> None:
    tasks = [task(f"t{n}", "c") for n in range(12)]
    world = World(plan_of([agent("x", "c", places=3)], tasks), lambda order: End(delay=10)).run()
    assert world.peak == {"x": 3}
    assert world.now - world.times[0] == 40 * 1_000_000


def test_a_higher_priority_goes_first_when_places_are_short() -> None:
    tasks = [task("low", "c", priority=0), task("high", "c", priority=2), task("mid", "c", priority=1)]
    world = World(plan_of([agent("x", "c")], tasks)).run()
    assert [order.task for order in world.started] == ["high", "mid", "low"]


def test_batched_phases_wait_for_each_other() -> None:
    tasks = [task("a", "c"), task("slow", "c"), task("b", "c", after=["a"])]
    plan = plan_of([agent("x", "c", places=5)], tasks, schedule="batched")
    ends = {"a": 1, "slow": 50, "b": 1}
    world = World(plan, lambda order: End(delay=ends[order.task])).run()
    order = [event.task_id for event in world.log if isinstance(event, e.TaskStarted | e.TaskCompleted)]
    assert order.index("b") > [i for i, name in enumerate(order) if name == "slow"][1]


def test_a_failed_task_is_retried_by_another_capable_agent() -> None:
    def script(order: StartTask) -> End:
        return failed() if order.agent == "x" else End(result=order.agent)

    world = World(plan_of([*CREW, agent("z", "other")], [task("t", "c")]), script).run()
    assert world.status == "completed"
    assert [order.address for order in world.started] == ["task:t", "task:t@2"]
    (moved,) = world.of(e.TaskReassigned)
    assert (moved.from_agent, moved.agent_id) == ("x", "y")
    assert "TOOL_FAILED" in moved.reason


def test_a_task_that_carried_out_a_once_effect_is_given_to_nobody_else() -> None:
    world = World(plan_of(CREW, [task("t", "c")]), lambda order: failed(effects="once")).run()
    assert world.status == "failed"
    assert len(world.started) == 1


@pytest.mark.parametrize("code", ["CREDITS_EXHAUSTED", "APPROVAL_DENIED", "OUTCOME_UNKNOWN", "MEMORY_EXCEEDED"])
def test_some_failures_would_meet_every_agent(code: str) -> None:
    world = World(plan_of(CREW, [task("t", "c")]), lambda order: failed(code)).run()
    assert world.status == "failed"
    assert world.machine.error is not None
    assert world.machine.error["code"] == code
    assert len(world.started) == 1


def test_an_agents_own_credits_are_not_the_others() -> None:
    def script(order: StartTask) -> End:
        return failed("CREDITS_EXHAUSTED", account="run>task:t") if order.agent == "x" else End()

    assert World(plan_of(CREW, [task("t", "c")]), script).run().status == "completed"


def test_a_failure_stops_what_has_not_started_and_lets_the_rest_finish() -> None:
    tasks = [task("bad", "c"), task("slow", "d"), task("after", "c", after=["bad"]), task("later", "d", after=["slow"])]

    def script(order: StartTask) -> End:
        return failed() if order.task == "bad" else End(delay=20)

    world = World(plan_of([agent("x", "c"), agent("y", "d")], tasks), script).run()
    assert world.status == "failed"
    assert world.statuses == {"bad": "failed", "slow": "completed", "after": "pending", "later": "ready"}
    assert world.machine.error is not None
    assert world.machine.error["step"] == "task:bad/work"


def test_with_keep_going_everything_that_does_not_depend_on_the_failure_runs() -> None:
    tasks = [task("bad", "c"), task("after", "c", after=["bad"]), task("free", "d"), task("more", "d", after=["free"])]

    def script(order: StartTask) -> End:
        return failed() if order.task == "bad" else End()

    plan = plan_of([agent("x", "c"), agent("y", "d")], tasks)
    world = World(plan, script, SwarmOptions(keep_going=True)).run()
    assert world.status == "failed"
    assert world.statuses == {"bad": "failed", "after": "pending", "free": "completed", "more": "completed"}


REVISED = {
    "tasks": [
        {"id": "again", "description": "another way", "dependencies": ["a"], "required_capabilities": ["c"]},
        {"id": "d", "description": "the end", "dependencies": ["again", "b"], "required_capabilities": ["c"]},
    ]
}


def bad_c(order: StartTask) -> End:
    if order.task == "c":
        return failed()
    return End(result=f"{order.task}!", delay=5 if order.task == "b" else 1)


def test_the_open_part_is_planned_again_once_and_finished_tasks_are_kept() -> None:
    world = World(plan_of(CREW, DIAMOND), bad_c, SwarmOptions(can_ask=True), {"revise": [REVISED]}).run()
    assert world.status == "completed", world.machine.error
    (revised,) = world.of(e.PlanRevised)
    assert [one["id"] for one in revised.tasks] == ["a", "b", "again", "d"]
    assert world.results == {"a": "a!", "b": "b!", "again": "again!", "d": "d!"}
    assert [order.task for order in world.started].count("a") == 1
    told = world.questions[0].messages[-1]["content"]
    assert '"a": "a!"' in told
    assert "TOOL_FAILED" in told


def test_a_second_failure_is_not_planned_again() -> None:
    def script(order: StartTask) -> End:
        return failed() if order.task in ("c", "again") else End()

    world = World(plan_of(CREW, DIAMOND), script, SwarmOptions(can_ask=True), {"revise": [REVISED, REVISED]}).run()
    assert world.status == "failed"
    assert len(world.questions) == 1


def test_without_an_answer_the_task_s_own_failure_stands() -> None:
    world = World(plan_of(CREW, DIAMOND), bad_c, SwarmOptions(can_ask=True)).run()
    assert world.machine.error is not None
    assert world.machine.error["code"] == "TOOL_FAILED"
    assert "no other plan could be made: nobody" in world.machine.error["message"]


def test_a_revision_is_repaired_too_and_may_not_take_ids_of_what_is_kept() -> None:
    bad = {"tasks": [{"id": "a", "required_capabilities": ["c"]}]}
    world = World(plan_of(CREW, DIAMOND), bad_c, SwarmOptions(can_ask=True), {"revise": [bad, REVISED]}).run()
    assert world.status == "completed"
    assert "the id 'a' belongs to a task that is done" in world.questions[1].messages[-1]["content"]


def test_a_frozen_plan_is_never_planned_again() -> None:
    plan = plan_of(CREW, DIAMOND, assignments={"a": Assignment("y", "because")})
    world = World(plan, bad_c, SwarmOptions(can_ask=True), {"revise": [REVISED]}).run()
    assert world.status == "failed"
    assert world.questions == []
    assert world.started[0].agent == "y"


def test_plan_only_ends_with_the_team() -> None:
    world = World(plan_of(CREW, DIAMOND), options=SwarmOptions(plan_only=True)).run()
    assert world.status == "completed"
    assert world.started == []
    assert world.of(e.TeamFormed)[0].makespan == 15


def test_a_cancel_stops_every_task_and_then_runs_finally() -> None:
    plan = plan_of(CREW, DIAMOND, handlers={"finally": (step("f"),), "failure": (step("g"),)})
    world = World(plan, lambda order: End(delay=100))
    world.push(CancelRequested(0, "user"), 10)
    world.run()
    assert world.status == "cancelled"
    assert [order.name for order in world.handled] == ["finally"]
    assert world.statuses["a"] == "failed"
    assert world.machine.tasks["a"].error == {
        "code": "CANCELLED",
        "message": "user",
        "tier": "tier1",
        "step": "task:a",
    }


def test_the_swarm_s_time_is_up() -> None:
    world = World(plan_of(CREW, DIAMOND), lambda order: End(delay=100), SwarmOptions(max_duration_ms=150)).run()
    assert world.status == "failed"
    assert world.machine.error is not None
    assert world.machine.error["code"] == "RUN_TIMEOUT"


def test_a_cancel_while_the_model_is_asked_waits_for_no_answer() -> None:
    world = World(plan_of(CREW), answers={"decompose": []})
    world.push(CancelRequested(0, "user"), 0)
    assert world.run().status == "cancelled"


def test_handlers_follow_the_verdict_and_a_failing_one_fails_the_swarm() -> None:
    handlers = {"success": (step("s"),), "failure": (step("g"),), "finally": (step("f"),)}
    good = World(plan_of(CREW, [task("t", "c")], handlers=handlers)).run()
    assert [order.name for order in good.handled] == ["success", "finally"]
    bad = World(plan_of(CREW, [task("t", "c")], handlers=handlers), handlers={"finally": "failed"}).run()
    assert bad.status == "failed"
    lost = World(plan_of(CREW, [task("t", "c")], handlers=handlers), lambda order: failed()).run()
    assert [order.name for order in lost.handled] == ["failure", "finally"]


def test_the_synthesis_is_the_last_word_and_outputs_may_use_it() -> None:
    synthesis = Synthesis("sum up {{ tasks.t.result }}")
    plan = plan_of(CREW, [task("t", "c")], synthesis=synthesis)
    assert World(plan, answers={"synthesize": ["all is well"]}).run().machine.result == {"synthesis": "all is well"}
    outputs = {"said": "{{ synthesis }}", "who": "{{ tasks.t.agent }}"}
    plan = plan_of(CREW, [task("t", "c")], synthesis=synthesis, outputs=outputs)
    world = World(plan, answers={"synthesize": ["well"]}).run()
    assert world.machine.result == {"said": "well", "who": "x"}


def test_an_output_without_a_value_fails_the_swarm() -> None:
    world = World(
        plan_of(CREW, [task("t", "c")], outputs={"o": "{{ tasks.t.result.nothing }}"}), lambda o: End(result={})
    ).run()
    assert world.machine.error is not None
    assert world.machine.error["code"] == "EXPRESSION_ERROR"


def test_a_suspended_task_suspends_the_swarm_when_nothing_else_runs() -> None:
    def script(order: StartTask) -> End:
        return End("suspended") if order.task == "b" and not order.again else End(delay=9)

    world = World(plan_of(CREW, DIAMOND), script).run()
    assert world.status == "suspended"
    (event,) = world.of(e.SwarmSuspended)
    assert event.tasks == ("b",)
    assert world.statuses["c"] == "completed"
    resumed = world.resumed_at(len(world.log))
    assert resumed.status == "completed"
    assert [order.task for order in resumed.started] == ["b", "d"]
    assert resumed.started[0].again


def test_a_fact_that_does_not_fit_raises_with_the_story() -> None:
    world = World(plan_of(CREW, [task("t", "c")])).run()
    with pytest.raises(IllegalMove, match="task:t"):
        world.machine.evolve(e.TaskCompleted(execution_id="run", task_id="t", agent_id="x"), 0)


# --- resume ----------------------------------------------------------------------------------------------------------


def snapshot(world: World) -> dict[str, Any]:
    return {
        "status": world.status,
        "results": world.results,
        "result": world.machine.result,
        "blackboard": dict(world.machine.blackboard),
    }


def test_a_swarm_resumed_at_any_moment_ends_as_the_uncut_one() -> None:
    answers: dict[str, list[Any]] = {"revise": [REVISED], "synthesize": ["done"]}
    plan = plan_of(CREW, DIAMOND, synthesis=Synthesis("say {{ goal }}"))
    whole = World(plan, bad_c, SwarmOptions(can_ask=True), answers).run()
    assert whole.status == "completed", whole.machine.error
    for prefix in range(len(whole.log) + 1):
        cut = whole.resumed_at(prefix)
        assert snapshot(cut) == snapshot(whole), prefix
        done = {event.task_id for event in whole.log[:prefix] if isinstance(event, e.TaskCompleted)}
        assert not done & {order.task for order in cut.started}, "a finished task was run again"


@st.composite
def swarms(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    count = draw(st.integers(1, 7))
    crew = [
        agent(f"a{n}", "c", *draw(st.sets(st.sampled_from("de"))), places=draw(st.integers(1, 2))) for n in range(3)
    ]
    crew.append(agent("all", "c", "d", "e"))
    tasks = [
        task(
            f"t{n}",
            draw(st.sampled_from("cde")),
            after=[f"t{m}" for m in range(n) if draw(st.integers(0, 2)) == 0],
            priority=draw(st.integers(0, 2)),
        )
        for n in range(count)
    ]
    outcomes = {
        (f"t{n}", name): draw(st.sampled_from(["ok", "ok", "ok", "fail", "once", "suspend"]))
        for n in range(count)
        for name in ("a0", "a1", "a2", "all")
    }
    delays = {f"t{n}": draw(st.integers(1, 9)) for n in range(count)}
    options = SwarmOptions(keep_going=draw(st.booleans()), schedule=draw(st.sampled_from(["eager", "batched"])))

    def script(order: StartTask) -> End:
        kind = outcomes[order.task, order.agent]
        if kind == "suspend" and not order.again:
            return End("suspended", delay=delays[order.task])
        if kind in ("fail", "once"):
            return failed(effects="once" if kind == "once" else "none", delay=delays[order.task])
        return End(result=f"{order.task} by {order.agent}", delay=delays[order.task])

    return plan_of(crew, tasks), script, options


@settings(max_examples=60, deadline=None)
@given(swarms(), st.data())
def test_every_random_swarm_ends_and_its_log_folds_to_the_same_state(
    drawn: tuple[Any, Any, Any], data: st.DataObject
) -> None:
    plan, script, options = drawn
    world = World(plan, script, options).run()
    assert world.status in ("completed", "failed", "suspended")
    if world.status == "completed":
        assert set(world.statuses.values()) == {"completed"}
    for order in world.started:
        needs = set(plan.given[[t.id for t in plan.given].index(order.task)].required_capabilities)
        assert needs <= set(plan.members[order.agent].definition.capabilities)
    prefix = data.draw(st.integers(0, len(world.log)))
    cut = world.resumed_at(prefix)
    while cut.status == "suspended":
        cut = cut.resumed_at(len(cut.log))
    done = {event.task_id for event in world.log[:prefix] if isinstance(event, e.TaskCompleted)}
    assert not done & {order.task for order in cut.started}
    if world.status == "completed":
        assert cut.status == "completed"
