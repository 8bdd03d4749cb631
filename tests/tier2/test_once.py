"""What has happened and must not happen twice: retries and resumes around steps whose effects are ``once``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.tier2.simulate import World, echo, failure, plan_of, step
from vrooli_cli.model import events as e
from vrooli_cli.model.routine import ChildRoutine, ForEach, Group, OnError, Prompt, Repeat, Routine, Step
from vrooli_cli.model.run import ExecutionStrategy, RetryPolicy
from vrooli_cli.tier2.plan import RoutinePlan
from vrooli_cli.tier2.state import Node
from vrooli_cli.tier3.scope import Outcome

Said = Outcome | str | None


class Story:
    """One run and its later lives; every outcome is what ``says`` gives, and a step with the tool ``pay`` pays."""

    def __init__(self, plan: RoutinePlan, says: Callable[[str, int], Said]) -> None:
        self.life = 1
        self._says = says
        self.world = World(plan, self._script)
        self.world.run()

    def _script(self, node: Node, address: str, attempt: int) -> Outcome:
        said = self._says(address, self.life)
        if isinstance(said, Outcome):
            return said
        if said is not None:
            return failure(said)
        result = address if node.plan.kind == "prompt" else echo(self.world.machine, node).result
        return Outcome(result=result, effects="once" if node.plan.label == "pay" else "none")

    def resume(self, **how: Any) -> list[str]:
        """What the next life starts."""
        self.life += 1
        before, self.world = self.world, World(self.world.plan, self._script)
        self.world = before.resumed_at(len(before.log), **how)
        return [address for address, _ in self.world.started]

    @property
    def status(self) -> str | None:
        return self.world.status

    def reused(self) -> list[str]:
        return [event.step_id for event in self.world.log if isinstance(event, e.StepReused)]


def told(plan: RoutinePlan, *failing: str) -> Story:
    """A story in which these addresses fail in the first life."""
    return Story(plan, lambda address, life: "TOOL_FAILED" if life == 1 and address in failing else None)


def paid(code: str) -> Outcome:
    """An attempt that carried out its effect, and failed after that."""
    failed = failure(code)
    return Outcome(error=failed.error, effects="once")


# --- a resume above a step that has completed ------------------------------------------------------------------------

ABOVE = [
    step("a"),
    step("note", tool="pay", after=("a",), trigger_rule="all_done"),
    step("see", after=("note",), trigger_rule="all_done"),
]


def test_a_once_step_below_a_step_that_runs_again_is_reused_and_those_below_it_run_again() -> None:
    story = told(plan_of(ABOVE), "a")
    assert (story.status, story.world.statuses["note"]) == ("failed", "completed")
    assert story.resume() == ["a", "see"]
    assert (story.status, story.reused()) == ("completed", ["note"])
    assert story.world.results["note"] == "x"


def test_who_wants_a_once_step_again_says_so() -> None:
    story = told(plan_of(ABOVE), "a")
    assert story.resume(assume={"note": "rerun"}) == ["a", "note", "see"]
    assert story.reused() == []


def test_a_person_may_have_any_completed_once_step_again_with_what_is_inside() -> None:
    inner = (step("x", tool="pay"), step("y", "{{ steps.x.result }}"))
    group = Step(id="g", action=Group(inner))
    each = step("l", "{{ item }}", tool="pay", for_each=ForEach([1, 2]))
    story = told(plan_of([group, each, step("z", after=("g", "l"))]), "z")
    assert story.resume(assume={"g": "rerun", "l": "rerun"}) == ["g/x", "l[0]", "l[1]", "g/y", "z"]
    assert story.world.results["l"] == [1, 2]


@pytest.mark.parametrize("lives", [1, 2, 3])
def test_a_once_step_is_reused_in_every_later_life(lives: int) -> None:
    story = Story(plan_of(ABOVE), lambda address, life: "TOOL_FAILED" if address == "a" and life <= lives else None)
    started = [address for _ in range(lives) for address in story.resume()]
    assert story.status == "completed"
    assert "note" not in started


@pytest.mark.parametrize(
    "work",
    [
        {"action": Group((step("x", tool="pay"),))},
        {"action": step("n", "{{ item }}", tool="pay").action, "for_each": ForEach([1, 2])},
        {"action": ChildRoutine("child", "child", {})},
    ],
    ids=["group", "loop", "child"],
)
def test_a_finished_container_that_has_done_something_once_is_reused_whole(work: dict[str, Any]) -> None:
    container = Step(id="n", after=("a",), trigger_rule="all_done", **work)
    children = {"child": Routine(name="child", steps=(step("x", tool="pay"),), key="child")}
    story = told(plan_of([step("a"), container, step("z", after=("n",))], children=children), "a")
    before = story.world.results["n"]
    assert before
    assert story.resume() == ["a", "z"]
    assert (story.status, story.reused(), story.world.results["n"]) == ("completed", ["n"], before)


def test_what_a_reused_step_sets_is_there_in_a_new_frame() -> None:
    inner = (
        step("pay", 7, tool="pay", set={"n": "{{ result }}"}),
        step("then", "{{ vars.n }}", after=("pay",)),
        step("bad", after=("then",)),
    )
    called = Routine(name="child", steps=inner, key="child", vars={"n": 0}, outputs={"n": "{{ steps.then.result }}"})
    retry = RetryPolicy(max_attempts=2, delay_ms=0, written=True)
    plan = plan_of([Step(id="c", action=ChildRoutine("child", "child", {}), retry=retry)], children={"child": called})
    tries: list[str] = []

    def says(address: str, life: int) -> Said:
        tries.append(address)
        return "TOOL_FAILED" if address == "c/bad" and tries.count(address) == 1 else None

    story = Story(plan, says)
    assert tries == ["c/pay", "c/then", "c/bad", "c/then", "c/bad"]
    assert story.world.results["c"] == {"n": 7}


# --- loops -----------------------------------------------------------------------------------------------------------


def items_after(lists: Sequence[list[Any]], **keys: Any) -> tuple[list[Any], list[Any]]:
    """What a group of ``get`` and a paying loop over what it got paid, when the loop is cut after its first item."""
    got = iter(lists)
    inner = (
        step("get"),
        step("each", "{{ item }}", tool="pay", for_each=ForEach("steps.get.result", max_concurrent=1, **keys)),
    )
    group = Step(id="g", action=Group(inner), retry=RetryPolicy(max_attempts=2, delay_ms=0, written=True))
    done: list[Any] = []
    world: World

    def script(node: Node, address: str, attempt: int) -> Outcome:
        if address == "g/get":
            return Outcome(result=next(got))
        item = echo(world.machine, node).result
        if "bad" in (item, item["n"] if isinstance(item, dict) else item):
            return failure()
        done.append(item)
        return Outcome(result=item, effects="once")

    world = World(plan_of([group]), script)
    world.run()
    assert world.status == "completed"
    return done, world.results["g"]["each"]


def test_the_items_of_a_loop_that_begins_anew_are_known_by_what_they_are() -> None:
    done, result = items_after([["a", "bad"], ["c", "a"]])
    assert done == ["a", "c"], "a is not paid again at its new position, and c is not taken for a"
    assert result == ["c", "a"]


def test_two_equal_items_of_which_one_was_done_are_done_once_each() -> None:
    done, result = items_after([["a", "bad"], ["a", "a"]])
    assert (done, result) == (["a", "a"], ["a", "a"])


def test_the_items_of_a_loop_with_a_key_are_known_by_it() -> None:
    old, new, bad = {"id": 1, "n": "old"}, {"id": 1, "n": "new"}, {"id": 2, "n": "bad"}
    assert items_after([[old, bad], [new]], key="{{ item.id }}") == ([old], [old])


# --- conversations with models ---------------------------------------------------------------------------------------

TALKS: dict[str, dict[str, Any]] = {
    "prompt": {"action": Prompt("Do it."), "strategy": ExecutionStrategy.REASONING},
    "chosen": {"action": step("talk", tool="pay").action, "strategy": ExecutionStrategy.REASONING},
}


@pytest.mark.parametrize("kind", sorted(TALKS))
@pytest.mark.parametrize("code", ["AI_OUTPUT_INVALID", "AI_REFUSED", "OUTPUT_INVALID"])
@pytest.mark.parametrize(
    ("word", "status", "started"), [("done", "completed", ["z"]), ("rerun", "completed", ["talk", "z"])]
)
def test_a_conversation_that_came_to_its_end_after_an_effect_is_asked_about(
    kind: str, code: str, word: str, status: str, started: list[str]
) -> None:
    plan = plan_of([Step(id="talk", pointer=("steps", "talk"), **TALKS[kind]), step("z", after=("talk",))])
    story = Story(plan, lambda address, life: paid(code) if life == 1 and address == "talk" else None)
    assert story.status == "failed"
    assert story.resume() == []
    assert (story.status, story.world.statuses["talk"]) == ("suspended", "suspended")
    assert [(node.address, node.reason) for node in story.world.machine.suspended.values()] == [
        ("talk", "OUTCOME_UNKNOWN")
    ]
    assert story.resume(assume={"talk": word}) == started
    assert story.status == status


def test_a_conversation_that_was_cut_off_goes_on_by_itself() -> None:
    plan = plan_of([Step(id="talk", **TALKS["prompt"])])
    story = Story(plan, lambda address, life: paid("AI_UNAVAILABLE") if life == 1 else None)
    assert (story.resume(), story.status) == (["talk"], "completed")


def test_a_tool_step_that_failed_runs_again_whatever_it_did() -> None:
    story = Story(plan_of([step("p", tool="pay")]), lambda address, life: paid("TOOL_FAILED") if life == 1 else None)
    assert (story.resume(), story.status) == (["p"], "completed")


def test_an_effect_that_nobody_knows_of_is_asked_about_also_when_the_run_was_stopped_in_that_moment() -> None:
    """The worker of a call has died, and that is told between a cancel and the end of the attempt."""
    story = told(plan_of([step("p", tool="pay")]))
    world = story.world
    begun = next(n for n, event in enumerate(world.log, 1) if isinstance(event, e.ExecutionStarted))
    call: dict[str, Any] = {"execution_id": "run", "step_id": "p", "attempt": 1}
    unknown = {"code": "OUTCOME_UNKNOWN", "message": "its worker is gone"}
    world.log[begun:] = [
        e.ToolCalled(tool_name="pay", effects="once", **call),
        e.ToolReturned(tool_name="pay", duration_ms=1, success=False, error=unknown, **call),
        e.ExecutionCancelled(reason="user", **call),
    ]
    world.times[begun:] = [world.times[begun - 1]] * 3
    assert (story.resume(), story.status) == ([], "suspended")
    assert (story.resume(assume={"p": "done"}), story.status) == ([], "completed")


def test_who_has_answered_is_not_asked_again() -> None:
    plan = plan_of([Step(id="talk", **TALKS["prompt"])])
    ends: list[Said] = [paid("AI_REFUSED"), "AI_UNAVAILABLE", None]
    story = Story(plan, lambda address, life: ends.pop(0))
    assert story.resume() == []
    assert (story.resume(assume={"talk": "rerun"}), story.status) == (["talk"], "failed")
    assert (story.resume(), story.status) == (["talk"], "completed")


def test_what_is_assumed_to_have_failed_is_a_failure_like_others() -> None:
    plan = plan_of([Step(id="talk", **TALKS["prompt"])])
    story = Story(plan, lambda address, life: paid("AI_REFUSED") if life == 1 else None)
    assert (story.resume(assume={"talk": "failed"}), story.status) == ([], "failed")
    assert (story.resume(), story.status) == (["talk"], "completed")


def test_a_written_retry_is_consent() -> None:
    retry = RetryPolicy(max_attempts=2, delay_ms=0, written=True)
    tries: list[str] = []

    def says(address: str, life: int) -> Said:
        tries.append(address)
        return paid("AI_OUTPUT_INVALID") if len(tries) == 1 else None

    story = Story(plan_of([Step(id="talk", retry=retry, **TALKS["prompt"])]), says)
    assert (story.status, tries) == ("completed", ["talk", "talk"])


def test_a_retry_around_a_conversation_that_did_something_asks() -> None:
    retry = RetryPolicy(max_attempts=2, delay_ms=0, written=True)
    group = Step(id="g", action=Group((Step(id="talk", **TALKS["prompt"]),)), retry=retry)
    tries: list[str] = []

    def says(address: str, life: int) -> Said:
        tries.append(address)
        return paid("AI_OUTPUT_INVALID") if len(tries) == 1 else None

    story = Story(plan_of([group]), says)
    assert (story.status, tries) == ("suspended", ["g/talk"])
    assert story.resume(assume={"g/talk": "done"}) == []
    assert story.status == "completed"


def test_a_retry_around_a_conversation_that_was_cut_off_asks() -> None:
    retry = RetryPolicy(max_attempts=2, delay_ms=0, written=True)
    group = Step(id="g", action=Group((Step(id="talk", **TALKS["prompt"]),)), retry=retry)
    story = Story(plan_of([group]), lambda address, life: paid("AI_UNAVAILABLE") if life == 1 else None)
    assert (story.status, [name for name, _ in story.world.started]) == ("suspended", ["g/talk"])
    assert (story.resume(assume={"g/talk": "rerun"}), story.status) == (["g/talk"], "completed")


def test_what_is_assumed_done_is_not_done_again_by_a_later_life() -> None:
    talk = Step(id="talk", after=("a",), trigger_rule="all_done", **TALKS["prompt"])

    def says(address: str, life: int) -> Said:
        if address == "talk":
            return paid("AI_REFUSED")
        return "TOOL_FAILED" if address == "a" and life <= 2 else None

    story = Story(plan_of([step("a"), talk]), says)
    assert story.resume(assume={"talk": "done"}) == ["a"]
    assert (story.resume(), story.status) == (["a"], "completed")


def test_what_nobody_knows_is_asked_only_where_it_would_run() -> None:
    talk = Step(id="talk", after=("a",), **TALKS["prompt"])

    def says(address: str, life: int) -> Said:
        if address == "talk":
            return paid("AI_REFUSED")
        return "TOOL_FAILED" if life == 2 else None

    story = Story(plan_of([step("a"), step("b"), talk]), says)
    assert (story.status, story.resume(), story.status) == ("failed", [], "suspended")


# --- the ends of routines --------------------------------------------------------------------------------------------


def test_an_end_that_failed_goes_on_with_the_handler_that_failed() -> None:
    handlers = {"success": (step("tell", tool="pay"),), "finally": (step("clean"), step("sweep", after=("clean",)))}
    story = told(plan_of([step("a")], handlers=handlers), "handlers.finally/clean")
    assert story.status == "failed"
    assert story.resume() == ["handlers.finally/clean", "handlers.finally/sweep"]
    assert story.status == "completed"


def test_handlers_after_the_one_that_failed_have_their_turn_again() -> None:
    handlers = {"success": (step("tell"), step("bell", after=("tell",))), "finally": (step("clean"),)}
    story = told(plan_of([step("a")], handlers=handlers), "handlers.success/tell")
    assert [name for name, _ in story.world.started][-1] == "handlers.finally/clean"
    assert story.resume() == ["handlers.success/tell", "handlers.success/bell", "handlers.finally/clean"]


def test_another_end_has_its_own_handlers() -> None:
    story = told(plan_of([step("a"), step("b")], handlers={"finally": (step("clean", tool="pay"),)}), "b")
    assert story.resume() == ["b", "handlers.finally/clean"]


def test_every_attempt_of_a_child_has_its_own_end() -> None:
    called = Routine(name="child", steps=(step("x"),), key="child", handlers={"finally": (step("clean", tool="pay"),)})
    retry = RetryPolicy(max_attempts=2, delay_ms=0, written=True)
    plan = plan_of([Step(id="c", action=ChildRoutine("child", "child", {}), retry=retry)], children={"child": called})
    tries: list[str] = []

    def says(address: str, life: int) -> Said:
        tries.append(address)
        return "TOOL_FAILED" if address == "c/x" and tries.count(address) == 1 else None

    assert Story(plan, says).status == "completed"
    assert tries == ["c/x", "c/handlers.finally/clean", "c/x", "c/handlers.finally/clean"]


def test_handlers_of_a_resumed_end_see_how_the_run_stands() -> None:
    handlers = {"success": (step("tell", "{{ run.status }}"),)}
    whole = World(plan_of([step("a")], handlers=handlers)).run()
    begun = next(
        at for at, event in enumerate(whole.log) if getattr(event, "step_id", "").startswith("handlers.success/")
    )
    cut = whole.resumed_at(begun + 1)
    tell = cut.machine.root.handlers["success"].nodes[0]
    assert (cut.status, tell.result) == ("completed", "completed")


# --- repeat, recover -------------------------------------------------------------------------------------------------


def test_a_turn_of_a_repeat_that_is_retried_keeps_its_own_turn_only() -> None:
    inner = (step("pay", "{{ iteration }}", tool="pay"), step("then", "{{ steps.pay.result }}"))
    retry = RetryPolicy(max_attempts=2, delay_ms=0, written=True)
    group = Step(id="g", action=Group(inner), repeat=Repeat("result.then >= 2"), retry=retry)
    tries: list[str] = []

    def says(address: str, life: int) -> Said:
        tries.append(address)
        return "TOOL_FAILED" if address == "g#2/then" and tries.count(address) == 1 else None

    story = Story(plan_of([group]), says)
    assert story.status == "completed"
    assert tries == ["g#1/pay", "g#1/then", "g#2/pay", "g#2/then", "g#2/then"]


def test_a_failure_that_was_recovered_from_stands() -> None:
    talk = Step(id="talk", on_error=OnError("recover", "instead"), **TALKS["prompt"])
    story = Story(
        plan_of([talk, step("z", after=("talk",))]),
        lambda address, life: paid("AI_REFUSED") if address == "talk" else "TOOL_FAILED" if life == 1 else None,
    )
    assert (story.resume(), story.status, story.world.results["talk"]) == (["z"], "completed", "instead")
