"""The machine of tier 2, by hand-made stories and by random ones against a slow, simple model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tier2.simulate import World, echo, failure, plan_of, step
from vrooli_cli.errors import IllegalMove
from vrooli_cli.model import events as e
from vrooli_cli.model.routine import (
    Approval,
    ChildRoutine,
    ForEach,
    Group,
    Limits,
    OnError,
    Repeat,
    Routine,
    Step,
    TriggerRule,
)
from vrooli_cli.model.run import RetryPolicy
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.plan import NoSuchStep
from vrooli_cli.tier2.state import Node
from vrooli_cli.tier2.stimuli import CancelRequested
from vrooli_cli.tier3.scope import Outcome

KEEP_GOING = MachineOptions(keep_going=True)


def fails(*addresses: str, code: str = "TOOL_FAILED") -> Any:
    """A script in which these addresses fail, each time."""

    def script(node: Node, address: str, attempt: int) -> Outcome:
        return failure(code) if address in addresses else Outcome(result=address)

    return script


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_an_address_is_walked_through_groups_loops_routines_and_handlers() -> None:
    child = Routine(name="c", steps=(step("inner"),), key="c", handlers={"finally": (step("tidy"),)})
    call = Step(
        id="call", action=ChildRoutine("./c.yaml", "c", {}), for_each=ForEach([1, 2]), pointer=("steps", "call")
    )
    group = Step(id="g", action=Group((step("a"), call)), pointer=("steps", "g"))
    plan = plan_of([step("first"), group], children={"c": child}, handlers={"failure": (step("mend"),)})

    def way(address: str) -> list[tuple[str, str, str]]:
        return [(one.around, one.owner.routine.name, one.step.step.id) for one in plan.along(address)]

    inside = [("", "r", "g"), ("g/", "r", "call")]
    assert way("g/call[1]") == inside
    assert way("g/call[1]/inner#2") == [*inside, ("g/call[1]/", "c", "inner")]
    assert way("g/call[1]/handlers.finally/tidy") == [*inside, ("g/call[1]/handlers.finally/", "c", "tidy")]
    assert way("handlers.failure/mend") == [("handlers.failure/", "r", "mend")] and way("handlers.failure") == []
    for address, around, ids in (
        ("gone", "", ("first", "g")),
        ("g/gone/x", "g/", ("a", "call")),
        ("g/handlers.failure/mend", "g/", ("a", "call")),
        ("first/x", "first/", ()),
        ("g/call/handlers.failure", "g/call/", ("inner",)),
    ):
        with pytest.raises(NoSuchStep) as caught:
            list(plan.along(address))
        assert (caught.value.around, caught.value.ids) == (around, ids)


# --- order and failure -----------------------------------------------------------------------------------------------


def test_a_reference_is_a_dependency_and_keeps_its_type() -> None:
    world = World(plan_of([step("b", "{{ steps.a.result + 1 }}"), step("a", 1)])).run()
    assert world.status == "completed"
    assert world.machine.result == {"b": 2}
    assert [address for address, _ in world.started] == ["a", "b"]


def test_a_failed_step_skips_its_dependants_and_cancels_the_rest() -> None:
    steps = [step("bad"), step("after", after=("bad",)), step("w"), step("later", after=("w",))]
    world = World(plan_of(steps), fails("bad")).run()
    assert world.status == "failed"
    assert world.statuses == {"bad": "failed", "after": "skipped", "w": "completed", "later": "cancelled"}
    assert world.machine.error is not None
    assert world.machine.error["code"] == "TOOL_FAILED"


def test_keep_going_runs_all_but_the_descendants() -> None:
    steps = [step("bad"), step("after", after=("bad",)), step("w"), step("later", after=("w",))]
    world = World(plan_of(steps), fails("bad"), KEEP_GOING).run()
    assert world.statuses == {"bad": "failed", "after": "skipped", "w": "completed", "later": "completed"}


def test_a_join_below_a_skipped_descendant_does_not_run_either() -> None:
    steps = [step("bad"), step("mid", after=("bad",)), step("good"), step("join", after=("mid", "good"))]
    world = World(plan_of(steps), fails("bad"), KEEP_GOING).run()
    assert world.statuses["join"] == "skipped"


@pytest.mark.parametrize(
    ("rule", "parents", "status"),
    [
        ("none_failed", "cc", "completed"),
        ("none_failed", "cs", "completed"),
        ("none_failed", "ss", "skipped"),
        ("none_failed", "cf", "skipped"),
        ("none_failed", "ck", "completed"),
        ("all_succeeded", "cc", "completed"),
        ("all_succeeded", "cs", "skipped"),
        ("all_succeeded", "ck", "skipped"),
        ("all_done", "cf", "completed"),
        ("all_done", "ss", "completed"),
        ("any_failed", "cc", "skipped"),
        ("any_failed", "cf", "completed"),
        ("any_failed", "ck", "completed"),
        ("any_succeeded", "cf", "completed"),
        ("any_succeeded", "ff", "skipped"),
        ("any_succeeded", "ss", "skipped"),
    ],
)
def test_trigger_rules(rule: TriggerRule, parents: str, status: str) -> None:
    made = [_parent(f"p{i}", kind) for i, kind in enumerate(parents)]
    below = step("x", after=tuple(parent.id for parent in made), trigger_rule=rule)
    bad = [parent.id for parent, kind in zip(made, parents, strict=True) if kind in "fk"]
    world = World(plan_of([*made, below]), fails(*bad), KEEP_GOING).run()
    assert world.statuses["x"] == status


def _parent(name: str, kind: str) -> Step:
    """c completes, s is skipped, f fails, k fails and the run keeps on (``on_error: continue``)."""
    if kind == "s":
        return step(name, when="false", has_when=True)
    return step(name, on_error=OnError("continue" if kind == "k" else "fail"))


def test_after_a_failure_only_what_asks_for_failures_still_starts() -> None:
    steps = [
        step("bad"),
        step("slow"),
        step("clean", after=("bad",), trigger_rule="any_failed"),
        step("report", after=("clean",), trigger_rule="all_done"),
        step("next", after=("slow",)),
        step("tail", after=("slow",), trigger_rule="all_done"),
    ]
    world = World(plan_of(steps), fails("bad")).run()
    assert world.statuses == {
        "bad": "failed",
        "slow": "completed",
        "clean": "completed",
        "report": "completed",
        "next": "cancelled",
        "tail": "cancelled",
    }


def test_a_batch_waits_for_the_one_before_it_when_batched() -> None:
    def script(node: Node, address: str, attempt: int) -> tuple[Outcome, int]:
        return Outcome(result=1), 50 if address == "slow" else 1

    steps = [step("slow"), step("quick"), step("next", after=("quick",))]
    eager = World(plan_of(steps), script).run()
    batched = World(plan_of(steps, schedule="batched"), script).run()
    ends = "tier2/step/completed"
    assert [x.step_id for x in eager.log if isinstance(x, e.StepCompleted)] == ["quick", "next", "slow"]
    assert [x.step_id for x in batched.log if isinstance(x, e.StepCompleted)] == ["quick", "slow", "next"]
    assert batched.types("next")[-1] == ends


def test_priority_goes_first_when_slots_are_few() -> None:
    steps = [step("a"), step("b", priority=0), step("c", priority=2), step("d")]
    world = World(plan_of(steps), options=MachineOptions(max_concurrent=1)).run()
    assert [address for address, _ in world.started][1:] == ["c", "d", "b"]


# --- when, on_error, set, export -------------------------------------------------------------------------------------


def test_when_must_be_a_boolean() -> None:
    world = World(plan_of([step("a", when="'yes'", has_when=True)])).run()
    assert world.machine.error is not None
    assert world.machine.error["code"] == "EXPRESSION_ERROR"


def test_recover_completes_with_a_value_that_sees_the_error() -> None:
    plan = plan_of([step("a", on_error=OnError("recover", "{{ error.code }}")), step("b", "{{ steps.a.result }}")])

    def script(node: Node, address: str, attempt: int) -> Outcome:
        return failure() if address == "a" else echo(world.machine, node)

    world = World(plan, script)
    world.run()
    assert world.results == {"a": "TOOL_FAILED", "b": "TOOL_FAILED"}


@pytest.mark.parametrize("code", ["RUN_TIMEOUT", "CREDITS_EXHAUSTED", "MEMORY_EXCEEDED", "STORE_ERROR"])
def test_on_error_never_takes_the_end_of_the_run(code: str) -> None:
    for kind in ("continue", "recover"):
        world = World(plan_of([step("a", on_error=OnError(kind, 1))]), fails("a", code=code)).run()
        assert world.status == "failed"


def test_a_denial_is_taken_by_recover_only() -> None:
    denied = fails("a", code="PERMISSION_DENIED")
    assert World(plan_of([step("a", on_error=OnError("continue"))]), denied).run().status == "failed"
    assert World(plan_of([step("a", on_error=OnError("recover", 1))]), denied).run().status == "completed"


def test_set_is_seen_by_readers_and_export_by_everybody() -> None:
    steps = [
        step("r", "{{ vars.n }}"),
        step("w", 3, set={"n": "{{ result * 2 }}"}, export={"shared": "{{ result }}"}),
        step("b", "{{ blackboard.shared }}", after=("w",)),
    ]
    world = World(plan_of(steps, vars={"n": 1})).run()
    assert world.results == {"r": 6, "w": 3, "b": 3}


# --- retry, repeat ---------------------------------------------------------------------------------------------------


def test_retry_waits_without_a_slot_and_counts_the_first_try() -> None:
    def script(node: Node, address: str, attempt: int) -> Outcome:
        return failure() if address == "a" and attempt < 3 else Outcome(result=attempt)

    retry = RetryPolicy(max_attempts=3, delay_ms=1000, backoff=2, jitter=0)
    steps = [step("a", retry=retry), step("b"), step("c")]
    world = World(plan_of(steps), script, MachineOptions(max_concurrent=1)).run()
    assert world.results["a"] == 3
    assert [x.delay_ms for x in world.log if isinstance(x, e.StepRetrying)] == [1000, 2000]
    assert [address for address, _ in world.started] == ["a", "b", "c", "a", "a"]


def test_retry_only_on_the_codes_that_are_named() -> None:
    retry = RetryPolicy(max_attempts=3, on=("STEP_TIMEOUT",))
    assert World(plan_of([step("a", retry=retry)]), fails("a")).run().started == [("a", 1)]
    timed = World(plan_of([step("a", retry=retry)]), fails("a", code="STEP_TIMEOUT")).run()
    assert len(timed.started) == 3


def test_a_default_retry_never_repeats_a_once_effect() -> None:
    def script(node: Node, address: str, attempt: int) -> Outcome:
        return Outcome(error=failure().error, effects="once")

    for written, attempts in ((False, 1), (True, 2)):
        retry = RetryPolicy(max_attempts=2, delay_ms=0, written=written)
        assert len(World(plan_of([step("a", tool="pay", retry=retry)]), script).run().started) == attempts


def test_repeat_goes_on_until_it_holds() -> None:
    plan = plan_of([step("p", "{{ iteration }}", repeat=Repeat("result >= 3")), step("q", "{{ steps.p.result }}")])
    world = World(plan).run()
    assert world.results == {"p": 3, "q": 3}
    assert [address for address, _ in world.started] == ["p#1", "p#2", "p#3", "q"]


def test_repeat_fails_when_it_is_exhausted() -> None:
    world = World(plan_of([step("p", repeat=Repeat("false", max=4, delay_ms=10))])).run()
    assert world.machine.error is not None
    assert world.machine.error["code"] == "REPEAT_EXHAUSTED"
    assert len(world.started) == 4


# --- loops, groups, child runs ---------------------------------------------------------------------------------------


def test_for_each_keeps_the_order_of_its_items() -> None:
    plan = plan_of([step("each", "{{ item * 2 }}", for_each=ForEach([3, 1, 2]))])
    world = World(plan).run()
    assert world.results == {"each": [6, 2, 4]}


def test_a_map_gives_keys_and_values_and_null_is_an_error() -> None:
    pairs = World(plan_of([step("e", "{{ item.key }}={{ item.value }}", for_each=ForEach({"a": 1, "b": 2}))])).run()
    assert pairs.results["e"] == ["a=1", "b=2"]
    nothing = World(plan_of([step("e", for_each=ForEach("{{ none }}"))])).run()
    assert nothing.status == "failed"
    empty = World(plan_of([step("e", for_each=ForEach([]))])).run()
    assert empty.results == {"e": []}


def test_when_is_asked_once_unless_it_names_the_item() -> None:
    loop = ForEach([1, 2, 3])
    each = World(plan_of([step("e", "{{ item }}", for_each=loop, when="item != 2", has_when=True)])).run()
    assert each.results["e"] == [1, None, 3]
    once = World(plan_of([step("e", "{{ item }}", for_each=loop, when="false", has_when=True)])).run()
    assert once.statuses == {"e": "skipped"}


def test_a_matrix_is_the_product_of_its_axes() -> None:
    loop = ForEach({"os": ["a", "b"], "py": "[1, 2]"}, matrix=True)
    world = World(plan_of([step("m", "{{ item.os }}{{ item.py }}", for_each=loop)])).run()
    assert world.results["m"] == ["a1", "a2", "b1", "b2"]


def test_fail_fast_starts_no_further_child() -> None:
    plan = plan_of([step("e", for_each=ForEach(list(range(10)), max_concurrent=2))])
    world = World(plan, fails("e[1]")).run()
    assert len(world.started) <= 3
    slow = plan_of([step("e", for_each=ForEach(list(range(10)), max_concurrent=2, fail_fast=False))])
    assert len(World(slow, fails("e[1]")).run().started) == 10


def test_children_that_may_fail_leave_null() -> None:
    plan = plan_of([step("e", for_each=ForEach([0, 1, 2]), on_error=OnError("continue"))])
    world = World(plan, fails("e[1]")).run()
    assert world.status == "completed"
    assert world.results["e"] == ["e[0]", None, "e[2]"]


def test_keys_name_children_and_must_be_unique() -> None:
    plan = plan_of([step("e", "{{ item }}", for_each=ForEach(["x/y", "b"], key="item"))])
    assert [address for address, _ in World(plan).run().started] == ["e[x%2Fy]", "e[b]"]
    twice = World(plan_of([step("e", for_each=ForEach(["a", "a"], key="item"))])).run()
    assert twice.machine.error is not None
    assert "names item 0 and item 1" in twice.machine.error["message"]


def test_never_more_at_once_than_a_loop_or_its_step_allows() -> None:
    def peak_of(plan_step: Step) -> int:
        return World(plan_of([plan_step]), lambda n, a, t: (Outcome(), 10)).run().peak

    assert peak_of(step("e", for_each=ForEach(list(range(30)), max_concurrent=3))) == 3
    assert peak_of(step("e", for_each=ForEach(list(range(30))), limits=Limits(max_concurrent_steps=2))) == 2
    assert peak_of(step("e", for_each=ForEach(list(range(30))))) == 8


def test_a_group_is_its_own_graph_and_its_result_a_map() -> None:
    inner = (step("x", 1), step("y", "{{ steps.x.result + steps.before.result }}"))
    plan = plan_of([step("before", 10), Step(id="g", action=Group(inner)), step("z", "{{ steps.g.result.y }}")])
    world = World(plan).run()
    assert world.results["g"] == {"x": 1, "y": 11}
    assert world.results["z"] == 11
    assert [address for address, _ in world.started] == ["before", "g/x", "g/y", "z"]


def test_a_retried_group_keeps_what_may_happen_only_once() -> None:
    def script(node: Node, address: str, attempt: int) -> Outcome:
        if address == "g/pay":
            return Outcome(result="paid", effects="once")
        return failure() if attempt == 1 else Outcome(result="ok")

    inner = (step("pay", tool="pay"), step("then", after=("pay",)))
    retry = RetryPolicy(max_attempts=2, delay_ms=0)
    world = World(plan_of([Step(id="g", action=Group(inner), retry=retry)]), script).run()
    assert world.results["g"] == {"pay": "paid", "then": "ok"}
    assert world.started == [("g/pay", 1), ("g/then", 1), ("g/then", 2)]


def test_a_group_that_takes_too_long_fails_with_its_time_out() -> None:
    inner = (step("x"), step("y"))
    plan = plan_of([Step(id="g", action=Group(inner), timeout_ms=50), step("z", after=("g",))])
    world = World(plan, lambda n, a, t: (Outcome(), 1000)).run()
    assert world.machine.error is not None
    assert world.machine.error["code"] == "STEP_TIMEOUT"
    assert world.statuses == {"g": "failed", "z": "skipped"}


CHILD = Routine(name="child", steps=(step("in", "{{ who }}!"),), key="child", outputs={"text": "{{ steps.in.result }}"})


def child(**keys: Any) -> Step:
    """A call of the child routine."""
    return Step(id="c", action=ChildRoutine("child", "child", {"who": "Ada"}), **keys)


def with_child(steps: Sequence[Step], **routine: Any) -> Any:
    """A plan in which ``child`` takes one input."""
    from dataclasses import replace

    from vrooli_cli.model.routine import Input

    declared = replace(CHILD, inputs={"who": Input("who", {"type": "string"})}, **routine)
    return plan_of(steps, children={"child": declared})


def test_a_child_routine_has_its_own_names_and_execution() -> None:
    world = World(with_child([child(), step("z", "{{ steps.c.result.text }}")])).run()
    assert world.results["z"] == "Ada!"
    began = [x for x in world.log if isinstance(x, e.RoutineStarted)]
    assert [x.parent_step_id for x in began] == [None, "c"]
    assert began[1].parent_execution_id == "run"
    assert began[1].execution_id != "run"


def test_a_child_never_runs_more_at_once_than_it_allows_nor_than_its_parent() -> None:
    from dataclasses import replace

    many = tuple(step(f"s{i}") for i in range(10))
    limits = Limits(max_concurrent_steps=3)
    routine = replace(CHILD, steps=many, outputs=None, limits=limits)
    plan = plan_of([Step(id="c", action=ChildRoutine("child", "child", {}))], children={"child": routine})
    for most, peak in ((8, 3), (2, 2)):
        options = MachineOptions(max_concurrent=most)
        assert World(plan, lambda n, a, t: (Outcome(), 10), options).run().peak == peak


# --- handlers, approvals, cancel, time -------------------------------------------------------------------------------


def handler(name: str) -> dict[str, tuple[Step, ...]]:
    """One handler step that says what it saw."""
    return {name: (step("h", "{{ run.status }} {{ run.error.code }}"),)}


def test_handlers_see_how_the_run_ended() -> None:
    handlers = {name: (step(f"h_{name}", "{{ run.status }}"),) for name in ("success", "failure", "finally")}
    good = World(plan_of([step("a")], handlers=handlers)).run()
    assert [a for a, _ in good.started] == ["a", "handlers.success/h_success", "handlers.finally/h_finally"]
    bad = World(plan_of([step("a")], handlers=handlers), fails("a")).run()
    assert [a for a, _ in bad.started] == ["a", "handlers.failure/h_failure", "handlers.finally/h_finally"]


def test_a_failing_finally_fails_the_run() -> None:
    world = World(plan_of([step("a")], handlers=handler("finally")), fails("handlers.finally/h")).run()
    assert world.status == "failed"


def test_an_approval_that_nobody_can_give_suspends_the_run_at_its_last_step() -> None:
    plan = plan_of([Step(id="ok", action=Approval("Ship?")), step("z", after=("ok",)), step("w")])
    world = World(plan).run()
    assert world.status == "suspended"
    assert world.statuses == {"ok": "suspended", "z": "pending", "w": "completed"}


@pytest.mark.parametrize(("answer", "status"), [(True, "completed"), (False, "failed")])
def test_an_answer_decides(answer: bool, status: str) -> None:
    plan = plan_of([Step(id="ok", action=Approval("Ship?")), step("z", after=("ok",))])
    world = World(plan, answers={"ok": answer}).run()
    assert world.status == status


@pytest.mark.parametrize(("on_timeout", "status"), [("approve", "completed"), ("reject", "failed")])
def test_a_short_gate_is_waited_for_and_its_time_out_answers(on_timeout: Any, status: str) -> None:
    plan = plan_of([Step(id="ok", action=Approval("Ship?", 500, on_timeout)), step("z", after=("ok",))])
    assert World(plan).run().status == status
    long = plan_of([Step(id="ok", action=Approval("Ship?", 3_600_000, on_timeout)), step("z", after=("ok",))])
    assert World(long).run().status == "suspended"


def test_approval_required_asks_with_the_parameters_before_the_step() -> None:
    plan = plan_of([step("a", "rm", approval_required=True)])
    world = World(plan, answers={"a": True}).run()
    asked = next(x for x in world.log if isinstance(x, e.ApprovalRequested))
    assert '"rm"' in asked.prompt
    assert world.status == "completed"
    assert World(plan, answers={"a": False}).run().machine.error["code"] == "APPROVAL_DENIED"  # type: ignore[index]


def test_a_cancel_stops_everything_but_finally() -> None:
    plan = plan_of([step("a"), step("b", after=("a",))], handlers=handler("finally"))

    def script(node: Node, address: str, attempt: int) -> tuple[Outcome, int]:
        return Outcome(result=1), 100 if address == "a" else 1

    world = World(plan, script)
    world.push(CancelRequested(0, "user"), 20)
    world.run()
    assert world.status == "cancelled"
    assert world.statuses == {"a": "cancelled", "b": "cancelled"}
    assert [address for address, _ in world.started] == ["a", "handlers.finally/h"]


def test_the_run_s_time_runs_out() -> None:
    options = MachineOptions(max_duration_ms=50)
    world = World(plan_of([step("a"), step("b")]), lambda n, a, t: (Outcome(), 1000), options).run()
    assert world.status == "failed"
    assert world.machine.error is not None
    assert world.machine.error["code"] == "RUN_TIMEOUT"


def test_an_illegal_move_tells_the_story() -> None:
    world = World(plan_of([step("a")])).run()
    with pytest.raises(IllegalMove, match=r"finds 'a' completed; its story: .*step/completed a"):
        world.machine.evolve(e.StepSkipped(execution_id="run", step_id="a", reason=""), 0)


# --- resume ----------------------------------------------------------------------------------------------------------

STORIES: dict[str, Any] = {
    "chain": lambda: plan_of([step("a", 1), step("b", "{{ steps.a.result }}"), step("c", "{{ steps.b.result }}")]),
    "loop": lambda: plan_of([step("e", "{{ item }}", for_each=ForEach([1, 2, 3])), step("z", "{{ steps.e.result }}")]),
    "group": lambda: plan_of(
        [Step(id="g", action=Group((step("x", 1), step("y", "{{ steps.x.result }}")))), step("z", after=("g",))],
        handlers={"finally": (step("f"),)},
    ),
    "child": lambda: with_child([child(), step("z", "{{ steps.c.result.text }}")]),
    "repeat": lambda: plan_of([step("p", "{{ iteration }}", repeat=Repeat("result >= 3"))]),
    "nested": lambda: plan_of(
        [
            Step(
                id="f",
                for_each=ForEach([1, 2]),
                action=Group((step("i", "{{ item }}"), step("j", "{{ steps.i.result + item }}"))),
            ),
            step("z", "{{ steps.f.result }}"),
        ]
    ),
    "vars": lambda: plan_of(
        [
            step("w", 3, set={"n": "{{ result }}"}, export={"k": "{{ result }}"}),
            step("r", "{{ vars.n + blackboard.k }}"),
        ],
        vars={"n": 0},
    ),
}


@pytest.mark.parametrize("story", sorted(STORIES))
def test_a_run_resumed_at_any_event_ends_as_the_uncut_one(story: str) -> None:
    whole = World(STORIES[story]()).run()
    assert whole.status == "completed"
    for prefix in range(len(whole.log)):
        cut = whole.resumed_at(prefix)
        assert (cut.status, cut.results, cut.machine.result) == ("completed", whole.results, whole.machine.result), (
            prefix
        )
        done = {x.step_id for x in whole.log[:prefix] if isinstance(x, e.StepCompleted)}
        again = {address.partition("#")[0] for address, _ in cut.started}
        assert not done & again, f"completed steps ran again after event {prefix}"


def test_a_failed_run_goes_on_with_what_failed_and_what_came_after() -> None:
    broken = {"now": True}

    def script(node: Node, address: str, attempt: int) -> Outcome:
        return failure() if address == "b" and broken["now"] else Outcome(result=address)

    plan = plan_of([step("a"), step("b", after=("a",)), step("c", after=("b",)), step("d", after=("a",))])
    failed = World(plan, script).run()
    assert failed.status == "failed"
    broken["now"] = False
    resumed = failed.resumed_at(len(failed.log))
    assert resumed.status == "completed"
    assert [address for address, _ in resumed.started] == ["b", "c"]


def test_a_once_step_caught_in_flight_asks() -> None:
    plan = plan_of([step("pay", tool="pay"), step("z", after=("pay",))])
    whole = World(plan).run()
    cut = next(i for i, event in enumerate(whole.log) if isinstance(event, e.ExecutionStarted)) + 1
    called = e.ToolCalled(execution_id="run", step_id="pay", attempt=1, tool_name="pay", effects="once")
    whole.log.insert(cut, called)
    whole.times.insert(cut, whole.times[cut])
    asked = whole.resumed_at(cut + 1)
    assert asked.status == "suspended"
    assert asked.statuses["pay"] == "suspended"
    for word, status in (("done", "completed"), ("rerun", "completed"), ("failed", "failed")):
        assert whole.resumed_at(cut + 1, assume={"pay": word}).status == status


# --- random graphs against a slow, simple model ----------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to 12 steps in topological order, with rules, failures, skips and what becomes of failures."""
    rules = st.sampled_from(["none_failed", "none_failed", "all_succeeded", "all_done", "any_failed", "any_succeeded"])
    made: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 12))):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        made.append(
            {
                "parents": sorted(parents),
                "rule": draw(rules) if parents else "none_failed",
                "fails": draw(st.integers(0, 3)) == 0,
                "when": draw(st.integers(0, 4)) != 0,
                "on_error": draw(st.sampled_from(["fail", "fail", "continue", "recover"])),
                "ms": draw(st.integers(1, 20)),
            }
        )
    return made


def model(graph: list[dict[str, Any]]) -> list[str]:
    """What must become of each step with ``--keep-going``, by the words of the specification and nothing else.

    ``F`` failed and nobody took it, or left out because of such a failure above; ``k`` failed and taken.
    """
    ended: list[str] = []
    for one in graph:
        above = [ended[parent] for parent in one["parents"]]
        bad, ok = any(x in "Fx" for x in above), above.count("c")
        runs = {
            "none_failed": not bad and not (above and all(x == "s" for x in above)),
            "all_succeeded": ok == len(above),
            "all_done": True,
            "any_failed": any(x in "Fxk" for x in above),
            "any_succeeded": ok > 0,
        }[one["rule"]]
        if not runs:
            ended.append("x" if bad else "s")
        elif not one["when"]:
            # a step that chose not to run although a failure is above it still passes that failure on
            ended.append("x" if bad else "s")
        elif one["fails"]:
            ended.append({"fail": "F", "continue": "k", "recover": "c"}[one["on_error"]])
        else:
            ended.append("c")
    return ended


def built(graph: list[dict[str, Any]]) -> Any:
    """The plan of a random graph."""
    steps = [
        step(
            f"s{i}",
            after=tuple(f"s{parent}" for parent in one["parents"]),
            trigger_rule=one["rule"],
            when=one["when"],
            has_when=True,
            on_error=OnError(one["on_error"], 0),
        )
        for i, one in enumerate(graph)
    ]
    return plan_of(steps)


def scripted(graph: list[dict[str, Any]]) -> Any:
    """Who fails, and how long each takes."""

    def script(node: Node, address: str, attempt: int) -> tuple[Outcome, int]:
        one = graph[int(address[1:])]
        return (failure() if one["fails"] else Outcome(result=address)), one["ms"]

    return script


WORD = {"c": "completed", "s": "skipped", "x": "skipped", "F": "failed", "k": "failed"}


@settings(max_examples=300, deadline=None)
@given(graphs(), st.integers(1, 4))
def test_keep_going_does_what_the_simple_model_says(graph: list[dict[str, Any]], slots: int) -> None:
    options = MachineOptions(keep_going=True, max_concurrent=slots)
    world = World(built(graph), scripted(graph), options).run()
    said = model(graph)
    assert list(world.statuses.values()) == [WORD[x] for x in said]
    assert world.status == ("failed" if "F" in said else "completed")
    assert world.peak <= slots
    assert len(set(world.started)) == len(world.started)


@settings(max_examples=200, deadline=None)
@given(graphs(), st.integers(1, 4), st.data())
def test_a_stopping_run_starts_nothing_new_and_resumes_to_the_same_end(
    graph: list[dict[str, Any]], slots: int, data: st.DataObject
) -> None:
    options = MachineOptions(max_concurrent=slots)
    world = World(built(graph), scripted(graph), options).run()
    first = next(
        (i for i, event in enumerate(world.log) if isinstance(event, e.StepFailed) and not event.continued), None
    )
    if first is not None:
        assert world.status == "failed"
        late = {x.step_id for x in world.log[first:] if isinstance(x, e.ExecutionStarted)}
        assert all(graph[int(name[1:])]["rule"] in ("all_done", "any_failed") for name in late)
    else:
        assert world.status == "completed"
        cut = world.resumed_at(data.draw(st.integers(0, len(world.log))))
        assert cut.statuses == world.statuses


@settings(max_examples=100, deadline=None)
@given(graphs(), st.integers(1, 60))
def test_a_cancel_at_any_moment_leaves_nothing_running(graph: list[dict[str, Any]], when: int) -> None:
    world = World(built(graph), scripted(graph), MachineOptions(max_concurrent=2))
    world.push(CancelRequested(0, "user"), when)
    world.run()
    assert not world.machine.running
    assert world.status in ("cancelled", "completed", "failed")


def test_the_work_of_a_step_does_not_grow_with_the_graph() -> None:
    def events_of(count: int) -> int:
        steps = [step("s0")] + [step(f"s{i}", after=(f"s{i - 1}",)) for i in range(1, count)]
        return len(World(plan_of(steps)).run().log)

    assert (events_of(200) - events_of(100)) / 100 == 5  # batch started and completed, attempt started and ended, step
