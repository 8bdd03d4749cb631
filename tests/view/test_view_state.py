"""The fold: what events do to the state, in any order, at what cost."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.view.synthetic import (
    RUN,
    START,
    Teller,
    begin,
    begin_loop,
    error,
    fail,
    finish,
    plan_of,
    prompt,
    small_plan,
    small_run,
    spend,
    swarm_run,
    told,
    tool,
    wide_plan,
    wide_run,
)
from vrooli_cli.model import events as e
from vrooli_cli.model.plan import PlannedStep
from vrooli_cli.view import board as b
from vrooli_cli.view.pick import heights, picture
from vrooli_cli.view.screen import More, Row
from vrooli_cli.view.state import FAILURES_KEPT, STREAM_KEPT, ViewState, parent_address


def fold(events: list[e.ExecutionEvent], plan: Any = None) -> ViewState:
    state = ViewState(plan)
    for event in events:
        state.apply(event)
    assert state.ignored == 0
    return state


def say(state: ViewState, *facts: e.Event) -> ViewState:
    for fact in facts:
        state.apply(told(fact))
    return state


Made = Callable[[str], e.Event]
VERDICTS: list[tuple[Made, int]] = [
    (lambda s: e.StepReady(execution_id=RUN, step_id=s), b.READY),
    (lambda s: e.ExecutionStarted(execution_id=RUN, step_id=s, attempt=1), b.RUNNING),
    (lambda s: e.StepRetrying(execution_id=RUN, step_id=s, attempt=1, delay_ms=5, error=error("x")), b.RETRYING),
    (lambda s: e.StepSuspended(execution_id=RUN, step_id=s, reason="asks"), b.SUSPENDED),
    (lambda s: e.StepCompleted(execution_id=RUN, step_id=s), b.COMPLETED),
    (lambda s: e.StepReused(execution_id=RUN, step_id=s, reason="unchanged"), b.COMPLETED),
    (lambda s: e.StepFailed(execution_id=RUN, step_id=s, error=error("x")), b.FAILED),
    (lambda s: e.StepSkipped(execution_id=RUN, step_id=s, reason="when"), b.SKIPPED),
    (lambda s: e.StepCancelled(execution_id=RUN, step_id=s, reason="user"), b.CANCELLED),
]


@pytest.mark.parametrize(("make", "status"), VERDICTS)
def test_an_event_gives_its_step_a_state(make: Made, status: int) -> None:
    state = say(ViewState(small_plan()), make("log"))
    assert state.board.status[state.board.find("log")] == status
    assert state.board.counts[status] == 1 and sum(state.board.counts) == 6
    assert ("log" in state.running) == (status == b.RUNNING)
    assert ("log" in state.parked) == (status in (b.RETRYING, b.SUSPENDED))


@pytest.mark.parametrize(
    ("address", "outer"),
    [
        ("fan[3]", "fan"),
        ("fan[3]/x", "fan[3]"),
        ("a/fan[k-1]", "a/fan"),
        ("poll#2/x", "poll"),
        ("fan[1]#2/x", "fan[1]"),
        ("group/inner", "group"),
        ("step", ""),
        ("handlers.finally/f", ""),
        ("call/handlers.finally/f", ""),
        ("task:load/inner", ""),
        ("task:load/group/inner", "task:load/group"),
    ],
)
def test_an_address_says_what_is_around_it(address: str, outer: str) -> None:
    assert parent_address(address) == outer


def test_a_loop_counts_its_children_and_shows_only_those_at_work() -> None:
    state = fold(small_run()[1], small_plan())
    loop = state.groups["fetch"]
    assert (loop.done, loop.failed, loop.total) == (11, 1, 40)
    assert [address for address in state.running if address.startswith("fetch[")] == ["fetch[12]", "fetch[13]"]
    assert list(state.failed) == ["fetch[7]"]
    assert state.board.counts[b.RUNNING] == 2  # fetch and summarize; children are no steps of the plan


def test_a_group_a_child_routine_and_a_repeat_are_composites() -> None:
    inner = plan_of([[tool("x"), tool("y")]], "group")
    group = PlannedStep(id="group", kind="parallel")
    call = PlannedStep(id="call", kind="routine", label="other")
    poll = PlannedStep(id="poll", kind="tool", label="http", loop="repeat")
    plan = plan_of([[group, call, poll]], "mixed", group=inner)
    state = say(
        ViewState(plan),
        e.StepReady(execution_id=RUN, step_id="group"),
        e.ExecutionStarted(execution_id=RUN, step_id="group/x", attempt=1, tool_name="shell"),
        e.StepCompleted(execution_id=RUN, step_id="group/x"),
        e.RoutineStarted(
            execution_id="c", routine="other", step_count=9, parent_execution_id=RUN, parent_step_id="call"
        ),
        e.ExecutionStarted(execution_id=RUN, step_id="poll#1", attempt=1),
        e.StepIterated(execution_id=RUN, step_id="poll", iteration=1),
        e.ExecutionStarted(execution_id=RUN, step_id="poll#2", attempt=1),
    )
    assert (state.groups["group"].done, state.groups["group"].total) == (1, 2)
    assert state.groups["call"].total == 9
    assert state.running["poll"].turn == 2
    assert state.board.counts[b.RUNNING] == 3
    assert len(state.board.names) == 3


def test_handlers_run_beside_the_steps_of_the_plan() -> None:
    state = say(
        ViewState(small_plan()),
        e.StepReady(execution_id=RUN, step_id="handlers.finally"),
        e.ExecutionStarted(execution_id=RUN, step_id="handlers.finally/clean", attempt=1),
    )
    assert state.board.total == 6 and state.board.counts[b.WAITING] == 6
    rows = picture(state, 80, 24, START).rows
    assert any(isinstance(row, Row) and row.name == "handlers.finally/clean" for row in rows)
    say(state, e.StepCompleted(execution_id=RUN, step_id="handlers.finally/clean"))
    assert not state.running


def test_credits_are_counted_once_when_they_are_settled() -> None:
    teller = Teller()
    begin(teller, "summarize")
    spend(teller, "summarize", 100, 1)
    spend(teller, "fetch[3]", 7, 2)
    teller.say(e.LedgerReserved(execution_id=RUN, step_id="review", reservation="r3", credits=50, account="x"))
    state = fold(teller.events, small_plan())
    assert (state.credits, state.reserved) == (107, 50)
    assert [state.board.credits[state.board.find(name)] for name in ("summarize", "fetch")] == [100, 7]


def test_tokens_and_the_end_of_the_stream_come_with_the_answer() -> None:
    usage = {"input_tokens": 120, "output_tokens": 40}
    state = ViewState(small_plan())
    say(state, e.AIDelta(execution_id=RUN, step_id="summarize", attempt=1, text="x" * 50_000))
    assert state.streams["summarize"].kept <= 2 * STREAM_KEPT
    say(
        state,
        e.AIResponded(execution_id=RUN, step_id="summarize", attempt=1, model="m", duration_ms=3, usage=usage),
    )
    assert not state.streams and (state.tokens_in, state.tokens_out) == (120, 40)


def test_throttling_and_fallback_show_on_the_row() -> None:
    state = ViewState(plan_of([[prompt("ask")]], "r"))
    say(
        state,
        e.ExecutionStarted(execution_id=RUN, step_id="ask", attempt=1, model="small"),
        e.AIThrottled(execution_id=RUN, step_id="ask", attempt=1, model="small", delay_ms=9000, reason="429"),
    )
    row = picture(state, 80, 24, START + timedelta(seconds=2)).rows[0]
    assert isinstance(row, Row) and row.note == "again in 7s · throttled: 429"
    say(
        state,
        e.AIFallback(execution_id=RUN, step_id="ask", attempt=1, model="small", to_model="large", reason="down"),
    )
    row = picture(state, 80, 24, START + timedelta(seconds=20)).rows[0]
    assert isinstance(row, Row) and (row.label, row.note) == ("large", "instead of small: down")


def test_without_a_plan_steps_appear_as_they_are_heard_of() -> None:
    teller = Teller()
    teller.say(e.RoutineStarted(execution_id=RUN, routine="r", step_count=5))
    begin(teller, "a")
    finish(teller, "a", 3)
    begin(teller, "b")
    state = fold(teller.events)
    assert (state.board.total, sum(state.board.counts), state.board.done) == (5, 5, 1)
    assert state.board.names == ["a", "b"]


def test_a_resumed_run_opens_again_what_had_not_completed() -> None:
    plan, events, _ = small_run()
    state = fold(events, plan)
    state.apply(told(e.RoutineFailed(execution_id=RUN, routine="r", error=error("x"))))
    assert (state.status, state.error[0]) == ("failed", "TOOL_FAILED")
    state.apply(told(e.RoutineResumed(execution_id=RUN, routine="r")))
    assert state.status == "running"
    assert state.board.counts[b.COMPLETED] == 2 and state.board.counts[b.WAITING] == 4
    assert not state.running and not state.failed and state.groups["fetch"].done == 11


def test_what_was_cancelled_in_a_group_is_not_done_when_the_run_goes_on() -> None:
    def of(kind: type[Any], step: str, **more: Any) -> e.Event:
        event: e.Event = kind(execution_id=RUN, step_id=step, **more)
        return event

    state = say(
        ViewState(),
        e.RoutineStarted(execution_id=RUN, routine="r", step_count=1),
        of(e.ExecutionStarted, "g/a", attempt=1),
        of(e.StepCompleted, "g/a", attempts=1),
        of(e.ExecutionStarted, "g/b", attempt=1),
        of(e.StepCancelled, "g/b", reason="user"),
        of(e.StepCancelled, "g", reason="user"),
        e.RoutineCancelled(execution_id=RUN, routine="r", reason="user"),
    )
    assert state.groups["g"].done == 2
    say(state, e.RoutineResumed(execution_id=RUN, routine="r"))
    assert state.groups["g"].done == 1
    say(state, of(e.ExecutionStarted, "g/b", attempt=2), of(e.StepCompleted, "g/b", attempts=2))
    assert state.groups["g"].done == 2


def test_a_child_runs_end_is_not_the_runs_end() -> None:
    state = say(
        ViewState(),
        e.RoutineStarted(execution_id=RUN, routine="r", step_count=1),
        e.RoutineCompleted(execution_id="child", routine="c"),
    )
    assert state.status == "running"


def test_a_swarm_knows_who_does_what() -> None:
    state = fold(swarm_run(4, 12)[1])
    crew = state.crew
    assert crew is not None and crew.goal.startswith("Review the storage engine")
    assert [len(member.tasks) for member in crew.members.values()] == [0, 0, 0, 1] or sum(
        len(member.tasks) for member in crew.members.values()
    ) == state.board.counts[b.RUNNING]
    assert state.board.batches == 4 and state.board.total == 12
    assert crew.violations == 1 and crew.members["writer-03"].violations == 1


def test_only_tasks_are_counted_in_a_swarm() -> None:
    assignments = {"plan": {"agent": "a", "agents": ["a", "b"], "reason": "both"}}
    part = "task:plan[1]/work"
    state = say(
        ViewState(),
        e.SwarmStarted(execution_id=RUN, goal="g", agent_count=2),
        e.LedgerSettled(execution_id=RUN, step_id="plan", reservation="r1", credits=5, account=""),
        e.GoalDecomposed(execution_id=RUN, goal="g", tasks=[{"id": "plan"}], source="scheme"),
        e.TeamFormed(execution_id=RUN, assignments=assignments),
        e.TaskStarted(execution_id=RUN, task_id="plan", agent_id="b", attempt=1, task_execution_id="x"),
        e.ExecutionStarted(execution_id="x", step_id=part, attempt=1),
        e.LedgerSettled(execution_id="x", step_id=part, reservation="r2", credits=7, account=""),
        e.StepCompleted(execution_id="x", step_id=part, duration_ms=3),
        e.ExecutionStarted(execution_id="y", step_id="events.0-1/do", attempt=1),
        e.StepCompleted(execution_id="y", step_id="events.0-1/do", duration_ms=3),
        e.LedgerSettled(execution_id=RUN, step_id="synthesis", reservation="r3", credits=2, account=""),
    )
    assert (state.board.names, state.board.total) == (["plan"], 1)
    assert state.board.credits[0] == 7, "what the planner spent is not the task's"
    assert state.credits == 14


def test_the_steps_of_event_agents_are_no_steps_of_the_run() -> None:
    state = say(
        ViewState(plan_of([[tool("a")]], "r")),
        e.RoutineStarted(execution_id=RUN, routine="r", step_count=1),
        e.ExecutionStarted(execution_id="y", step_id="events.0-1/do", attempt=1),
        e.StepCompleted(execution_id="y", step_id="events.0-1/do", duration_ms=3),
    )
    assert state.board.total == 1


def test_a_reassigned_task_is_no_failure_any_more() -> None:
    facts: list[e.Event] = [
        e.SwarmStarted(execution_id=RUN, goal="g", agent_count=2),
        e.TaskStarted(execution_id=RUN, task_id="t", agent_id="a", attempt=1, task_execution_id="x"),
        e.TaskFailed(execution_id=RUN, task_id="t", agent_id="a", error=error("x")),
        e.TaskReassigned(execution_id=RUN, task_id="t", agent_id="b", from_agent="a", reason="failed"),
        e.TaskStarted(execution_id=RUN, task_id="t", agent_id="b", attempt=2, task_execution_id="y"),
    ]
    state = say(ViewState(), *facts)
    assert (state.failures, state.failed) == (0, {})
    assert state.crew is not None and list(state.crew.busy) == ["b"]


def test_a_task_of_several_agents_is_done_with_its_last_part() -> None:
    def done(agent: str) -> e.Event:
        return e.TaskCompleted(execution_id=RUN, task_id="t", agent_id=agent, result=1)

    assignments = {"t": {"agent": "a", "agents": ["a", "b"], "reason": "both"}}
    state = say(
        ViewState(),
        e.SwarmStarted(execution_id=RUN, goal="g", agent_count=2),
        e.GoalDecomposed(execution_id=RUN, goal="g", tasks=[{"id": "t"}], source="scheme"),
        e.TeamFormed(execution_id=RUN, assignments=assignments),
        *(
            e.TaskStarted(execution_id=RUN, task_id="t", agent_id=agent, attempt=1, task_execution_id=agent)
            for agent in "ab"
        ),
        done("a"),
    )
    assert state.board.counts[b.RUNNING] == 1
    row = next(row for row in picture(state, 80, 24, START).rows if isinstance(row, Row) and row.name == "t")
    assert (row.label, row.note, row.live) == ("b", "1 of 2 done", True)
    say(state, done("b"))
    assert state.board.counts[b.COMPLETED] == 1 == state.board.total


def test_a_task_that_a_revision_leaves_out_does_not_wait_any_more() -> None:
    state = say(
        ViewState(),
        e.GoalDecomposed(execution_id=RUN, goal="g", tasks=[{"id": "a"}, {"id": "b"}], source="model"),
        e.PlanRevised(
            execution_id=RUN, tasks=[{"id": "a"}, {"id": "c"}], assignments={}, reason="b failed", source="model"
        ),
    )
    assert (state.board.counts[b.WAITING], state.board.counts[b.SKIPPED]) == (2, 1)


def test_tasks_on_a_cycle_are_still_shown() -> None:
    tasks = [{"id": "a", "dependencies": ["b"]}, {"id": "b", "dependencies": ["a"]}, {"id": "c"}]
    state = say(ViewState(), e.GoalDecomposed(execution_id=RUN, goal="g", tasks=tasks, source="model"))
    assert sorted(state.board.names) == ["a", "b", "c"]


# --- any order, any content ------------------------------------------------------------------------------------------

_RUNS = [event.fact for run in (small_run(), wide_run(2, 5, 0.9), swarm_run(3, 8)) for event in run[1]]
_FACTS = [fact for fact in _RUNS if fact is not None]
_TERMINAL = [
    e.RoutineFailed(execution_id=RUN, routine="r", error=error("x")),
    e.RoutineResumed(execution_id=RUN, routine="r"),
    e.RoutineSuspended(execution_id=RUN, routine="r", steps=("log",)),
    e.SwarmResumed(execution_id=RUN, goal="g"),
    *(make(step) for make, _ in VERDICTS for step in ("log", "fetch[2]", "new", "fetch[1]/deep[2]/x", "poll#4/y")),
]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(_FACTS + _TERMINAL), max_size=60), st.booleans(), st.integers(1, 130))
def test_events_in_any_order_never_raise_and_the_sums_stay_right(
    facts: list[e.Event], planned: bool, width: int
) -> None:
    state = ViewState(small_plan() if planned else None)
    for fact in facts:
        state.apply(told(fact))
        board = state.board
        assert sum(board.counts) == board.total
        assert [board.counts[s] for s in range(1, b.STATES)] == [board.status.count(s) for s in range(1, b.STATES)]
        assert all(sum(board.tally(n)) == len(board.span(n)) for n in range(board.batches))
    assert state.ignored == 0
    for height in (2, 9, 24):
        rows = picture(state, width, height, START).rows
        assert len(rows) <= max(1, height)


def _broken(kind: type[e.Event], value: Any) -> e.Event:
    import dataclasses

    return kind(**{f.name: value for f in dataclasses.fields(kind)})


@pytest.mark.parametrize("value", [None, "text", -1, 10**40, 1.5, [], {}, {"a": {"b": []}}, object(), "\x1b[2J\ud800"])
def test_a_fact_with_odd_content_disturbs_nothing(value: Any) -> None:
    state = ViewState(small_plan())
    for kind in e.event_types().values():
        state.apply(told(_broken(kind, value)))
    board = state.board
    assert sum(board.counts) == board.total
    assert sum(sum(board.tally(n)) for n in range(board.batches)) == len(board.names)
    picture(state, 80, 24, START)


def test_an_event_that_a_caller_made_up_is_ignored() -> None:
    state = ViewState()
    state.apply(e.ExecutionEvent(type="mine/thing", execution_id="x", payload={"a": 1}))
    assert state.ignored == 0 and not state.tail


# --- cost, as counts -------------------------------------------------------------------------------------------------


def _apply(state: ViewState, events: list[e.ExecutionEvent]) -> None:
    for event in events:
        state.apply(event)


def calls_of(work: Callable[[], object]) -> int:
    """Calls of Python functions and of built-in ones: a measure of work that no busy machine changes."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.disable()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def _per_event(each: int) -> float:
    plan, events, _ = wide_run(5, each, 1.0)
    state = ViewState(plan)
    return calls_of(lambda: _apply(state, events)) / len(events)


def test_an_event_costs_the_same_among_a_hundred_steps_and_among_thousands() -> None:
    _per_event(2)
    few, many = _per_event(20), _per_event(800)
    assert many <= few * 1.05
    assert many < 25


def _loop_cost(items: int) -> float:
    teller = Teller()
    begin_loop(teller, "fetch", items)
    for item in range(items):
        begin(teller, f"fetch[{item}]")
        if item % 7:
            finish(teller, f"fetch[{item}]", 3)
        else:
            fail(teller, f"fetch[{item}]", 3, "x")
    state = ViewState(small_plan())
    return calls_of(lambda: _apply(state, teller.events)) / len(teller.events)


def test_a_child_of_a_loop_costs_the_same_among_ten_and_among_ten_thousand() -> None:
    few, many = _loop_cost(100), _loop_cost(5000)
    assert many <= few * 1.05


def test_a_picture_costs_by_the_rows_of_the_screen_and_not_by_the_steps() -> None:
    costs = []
    for each in (60, 1600):
        plan, events, now = wide_run(5, each, 0.3)
        state = fold(events, plan)
        picture(state, 80, 24, now)
        costs.append(calls_of(lambda state=state, now=now: picture(state, 80, 24, now)))  # type: ignore[misc]
    assert costs[1] <= costs[0] * 1.3
    assert costs[1] < 1500


def test_the_state_of_a_long_run_is_bounded() -> None:
    plan, events, _ = wide_run(5, 800, 1.0)
    state = fold(events, plan)
    assert len(state.failed) <= FAILURES_KEPT and not state.running and not state.parked and not state.groups
    assert len(state.tail) <= 24 and len(state.board.recent) <= 64


def test_failures_beyond_the_kept_ones_are_counted() -> None:
    teller = Teller()
    for number in range(200):
        fail(teller, f"split-{number:04}", 1, "x")
    state = fold(teller.events, wide_plan(1, 200))
    assert (len(state.failed), state.failures) == (FAILURES_KEPT, 200)
    assert next(iter(state.failed)) == "split-0000"


# --- the choice of rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height", range(2, 60))
@pytest.mark.parametrize("speaking", [False, True])
def test_the_parts_of_a_picture_fit_the_terminal(height: int, speaking: bool) -> None:
    room = heights(height, speaking=speaking, notice=True)
    used = 4 + room.body + (room.tail + 1 if room.tail else 0) + (room.speech + 1 if room.speech else 0)
    assert room.body >= 0 and (height < 12 or used <= height)


def test_what_runs_and_what_failed_is_in_sight_among_eight_thousand() -> None:
    plan, events, now = wide_run(5, 1600, 0.3)
    state = fold(events, plan)
    rows = picture(state, 80, 30, now).rows
    names = {row.name for row in rows if isinstance(row, Row)}
    assert set(state.running) <= names
    assert set(list(state.failed)[:4]) <= names
    more = rows[-1]
    assert isinstance(more, More)
    assert sum(more.counts) + len(names) == 8000


def test_every_step_has_a_row_where_there_is_room() -> None:
    plan, events, now = wide_run(5, 6, 0.5)
    rows = picture(fold(events, plan), 80, 50, now).rows
    assert [row.name for row in rows if isinstance(row, Row)] == [name for batch in plan.batches for name in batch]
