"""Goldens of the screen: what a person sees, row by row. ``UPDATE_GOLDENS=1`` writes them anew; read the diff."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.view import synthetic
from tests.view.synthetic import RUN, Teller, begin, error, fail, finish, plan_of, small_plan, tool
from vrooli_cli.model import events as e
from vrooli_cli.model.plan import PlanSummary
from vrooli_cli.view.frame import COLOURS, TIER_COLOURS, Look, draw, plain_lines
from vrooli_cli.view.line import Line
from vrooli_cli.view.pick import picture
from vrooli_cli.view.record import record_svg
from vrooli_cli.view.state import ViewState
from vrooli_cli.view.summary import final_summary, in_short

GOLDENS = Path(__file__).parent.parent / "goldens" / "view"
Run = tuple[PlanSummary | None, list[e.ExecutionEvent], datetime]


def golden(name: str, text: str) -> None:
    path = GOLDENS / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def one_step() -> Run:
    plan, teller = plan_of([[tool("hello")]], "hello"), Teller()
    synthetic.started(teller, plan)
    begin(teller, "hello", plan.steps["hello"])
    teller.wait(1500)
    return plan, teller.events, teller.now


def suspended_run() -> Run:
    plan, teller = small_plan(), Teller()
    synthetic.started(teller, plan)
    for name in ("log", "tags"):
        begin(teller, name, plan.steps[name])
        finish(teller, name, 90)
    teller.say(e.StepSuspended(execution_id=RUN, step_id="publish", reason="approval", prompt="Publish 1.4.0?"))
    teller.say(e.StepSkipped(execution_id=RUN, step_id="review", reason="when: inputs.review is false"))
    teller.say(e.ResourcesWarning(execution_id=RUN, resource="credits", used=800_000, limit=1_000_000))
    teller.say(e.RoutineSuspended(execution_id=RUN, routine=plan.name, steps=("publish",)))
    return plan, teller.events, teller.now


RUNS: dict[str, Callable[[], Run]] = {
    "one": one_step,
    "small": synthetic.small_run,
    "thirty": lambda: synthetic.wide_run(5, 6, 0.55),
    "eightthousand": lambda: synthetic.wide_run(5, 1600, 0.3),
    "swarm": synthetic.swarm_run,
    "hostile": synthetic.hostile_run,
    "suspended": suspended_run,
}


def folded(run: Run) -> ViewState:
    state = ViewState(run[0], run_id=RUN, credit_limit=1_000_000)
    for event in run[1]:
        state.apply(event)
    assert state.ignored == 0
    return state


def screen_of(run: Run, width: int, height: int, *, unicode: bool = True) -> list[Line]:
    return draw(picture(folded(run), width, height, run[2]), Look(unicode, UTC))


@pytest.mark.parametrize(("width", "height"), [(60, 24), (80, 24), (120, 40)])
@pytest.mark.parametrize("name", RUNS)
def test_the_screen_of_a_run(name: str, width: int, height: int) -> None:
    golden(f"{name}-{width}", plain_lines(screen_of(RUNS[name](), width, height)))


def test_the_screen_without_unicode() -> None:
    text = plain_lines(screen_of(synthetic.small_run(), 80, 24, unicode=False))
    assert text.isascii()
    golden("small-80-ascii", text)


def test_the_colours_of_a_screen() -> None:
    marked = "\n".join(text.rich().markup for text in screen_of(synthetic.small_run(), 80, 24))
    golden("small-80-colours", marked + "\n")


def test_no_colour_depends_on_the_background() -> None:
    for style in [*COLOURS.values(), *TIER_COLOURS.values()]:
        assert style in {"dim", "cyan", "yellow", "magenta", "green", "red"}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(RUNS)), st.integers(1, 200), st.integers(1, 70), st.booleans())
def test_a_screen_never_leaves_its_terminal(name: str, width: int, height: int, unicode: bool) -> None:
    state, now = kept(name)
    lines = draw(picture(state, width, height, now), Look(unicode, UTC))
    assert len(lines) <= max(1, height - 1)
    for text in lines:
        assert text.width == cell_len(text.plain) <= width, text.plain
        assert text.plain.isprintable()
        assert unicode or text.plain.isascii()


@lru_cache(None)
def kept(name: str) -> tuple[ViewState, datetime]:
    run = RUNS[name]()
    return folded(run), run[2]


def test_a_width_that_is_too_small_still_says_what_runs() -> None:
    text = plain_lines(screen_of(synthetic.small_run(), 20, 8))
    assert "fetch" in text


def test_a_name_is_not_cut_where_there_is_room_for_it() -> None:
    name = "publish-to-package-registry-eu-west"
    plan, teller = plan_of([[tool("checkout"), tool(name)]], "release"), Teller()
    synthetic.started(teller, plan)
    begin(teller, name, plan.steps[name])
    for width in (70, 80, 120):
        assert name in plain_lines(screen_of((plan, teller.events, teller.now), width, 20)).split("\n\n")[1]


# --- the summary -----------------------------------------------------------------------------------------------------


def lines_of(state: ViewState, wire: dict[str, Any] | None, hint: str | None = None) -> str:
    return plain_lines(final_summary(state, wire, hint, look=Look(), width=80))


def failed_run() -> Run:
    plan, teller = small_plan(), Teller()
    synthetic.started(teller, plan)
    begin(teller, "log", plan.steps["log"])
    finish(teller, "log", 140)
    begin(teller, "fetch[3]", plan.steps["fetch"])
    stderr = "curl: (6) Could not resolve host: example.org\n::error file=x::mine\n"
    teller.wait(230)
    fail(teller, "fetch[3]", 90, "exit 6", stderr=stderr, exit_code=6)
    passed_on = error("exit 6", step="fetch[3]")
    teller.say(e.StepFailed(execution_id=RUN, step_id="fetch", error=passed_on, duration_ms=95))
    teller.say(e.StepSkipped(execution_id=RUN, step_id="publish", reason="dependency fetch failed", tainted=True))
    teller.say(e.RoutineFailed(execution_id=RUN, routine=plan.name, error=passed_on, duration_ms=321))
    return plan, teller.events, teller.now


def test_the_summary_of_a_failure_begins_with_its_cause_and_ends_with_the_command() -> None:
    state = folded(failed_run())
    wire = {"status": "failed", "error": error("exit 6", step="fetch[3]"), "duration_ms": 321, "result": None}
    text = lines_of(state, wire)
    golden("summary-failed", text)
    assert text.count("exit 6") == 1
    assert not any(part.lstrip().startswith("::") for part in text.splitlines())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_reason_of_a_failure_is_told_whole_over_as_many_lines_as_it_takes(width: int) -> None:
    state = folded(failed_run())
    reason = "tape.yaml has no answer to ask, turn 1; nearest is exchange 12 (ask, turn 2), which differs at " + (
        "messages[1].content, character 173: recorded 'the old words', asked 'the new words'. Record it again"
    )
    wire = {"status": "failed", "error": error(reason, step="ask", code="AI_UNAVAILABLE"), "duration_ms": 1}
    lines = [line.plain for line in final_summary(state, wire, look=Look(), width=width)]
    assert max(len(line) for line in lines if not line.startswith("  vrooli")) <= width
    assert reason in " ".join(line.strip() for line in lines)


def test_the_summary_of_a_success_shows_outputs_in_short() -> None:
    wire = {
        "status": "completed",
        "duration_ms": 12_400,
        "resources_used": {"credits_used": "1240"},
        "result": {"notes": "# New\n" + "x" * 5000, "count": 12, "rows": [1, 2, 3], "ok": True, "map": {"a": 1}},
    }
    golden("summary-completed", lines_of(folded(synthetic.small_run()), wire))


def test_the_summary_counts_the_outputs_that_it_leaves_out() -> None:
    wire = {"status": "completed", "duration_ms": 1, "result": {f"o{number}": number for number in range(20)}}
    assert "\n  … 12 more outputs\n" in lines_of(folded(synthetic.small_run()), wire)


def test_the_summary_of_a_suspension_says_which_command_answers() -> None:
    golden("summary-suspended", lines_of(folded(suspended_run()), {"status": "suspended", "duration_ms": 200}))


def test_an_unknown_outcome_is_answered_by_an_assumption() -> None:
    teller = Teller()
    synthetic.started(teller, small_plan())
    unknown = e.StepSuspended(execution_id=RUN, step_id="fetch[3]", reason="it was running", code="OUTCOME_UNKNOWN")
    teller.say(unknown)
    text = lines_of(folded((small_plan(), teller.events, teller.now)), {"status": "suspended"})
    assert f"vrooli resume {RUN} --assume 'fetch[3]'=done" in text


def test_the_summary_needs_no_result() -> None:
    text = lines_of(folded(failed_run()), None)
    assert "release-notes failed after 230ms" in text
    assert f"vrooli resume {RUN}" in text


def test_a_hint_replaces_the_command_and_an_empty_one_leaves_it_out() -> None:
    state = folded(failed_run())
    assert "vrooli run x --keep-going" in lines_of(state, None, "vrooli run x --keep-going")
    assert "vrooli resume" not in lines_of(state, None, "")


def test_a_value_of_any_size_is_said_in_short() -> None:
    assert in_short(list(range(10**5))) == "100,000 items"
    assert len(in_short("x" * 10**6)) < 110
    assert in_short({str(n): n for n in range(10**5)}) == "{0, 1, 2, 3, …}"
    assert [in_short(value) for value in (None, True, 1.5)] == ["null", "true", "1.5"]


# --- the picture for papers ------------------------------------------------------------------------------------------


def test_a_run_is_recorded_as_an_svg_that_fetches_nothing(tmp_path: Path) -> None:
    plan, events, _ = synthetic.small_run()
    path = tmp_path / "screen.svg"
    record_svg(events, plan, path, moment=0.6, title="vrooli run")
    svg = path.read_text(encoding="utf-8")
    assert svg.startswith("<svg") and "release-notes" in svg and "summarize" in svg
    assert "@font-face" not in svg and "url(http" not in svg
    record_svg(events, plan, path, moment=0.6, title="vrooli run")
    assert path.read_text(encoding="utf-8") == svg


def test_the_recorded_end_carries_the_summary(tmp_path: Path) -> None:
    plan, events, _ = failed_run()
    record_svg(events, plan, tmp_path / "end.svg", width=80)
    assert "resume" in (tmp_path / "end.svg").read_text(encoding="utf-8")
