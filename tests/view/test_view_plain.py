"""Lines for log files: which ones, and that each is one line."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from tests.view import synthetic
from tests.view.synthetic import RUN, Teller, begin, begin_loop, error, fail, finish, plan_of, small_plan, tool
from vrooli_cli.model import events as e
from vrooli_cli.view.plain import PlainView

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S ")


async def log_of(
    plan: Any, events: list[e.ExecutionEvent], *, level: int = 0, environ: dict[str, str] | None = None
) -> list[str]:
    stream = io.StringIO()
    view = PlainView(stream, plan, run_id=RUN, level=level, environ=environ or {})
    view.start()
    for event in events:
        view.apply(event)
    await view.scribe.told(5)
    lines = stream.getvalue().splitlines()
    await view.stop(None)
    assert view.state.ignored == 0
    return lines


async def test_the_log_of_a_small_run() -> None:
    from tests.view.test_view_screen import golden

    plan, events, _ = synthetic.small_run()
    golden("plain-small", "\n".join(await log_of(plan, events)) + "\n")
    golden("plain-small-verbose", "\n".join(await log_of(plan, events, level=1)) + "\n")


async def test_every_line_is_one_event_with_its_time() -> None:
    for run in (synthetic.small_run(), synthetic.hostile_run(), synthetic.swarm_run()):
        for text in await log_of(run[0], run[1], level=1):
            assert STAMP.match(text), text
            assert text.isprintable()


@pytest.mark.parametrize("items", [10_000, 20])
async def test_a_long_loop_is_told_by_its_failures_and_by_tenths(items: int) -> None:
    teller = Teller()
    begin_loop(teller, "fetch", items)
    for item in range(items):
        begin(teller, f"fetch[{item}]")
        if item in (3, 17):
            fail(teller, f"fetch[{item}]", 9, "404")
        else:
            finish(teller, f"fetch[{item}]", 9)
    lines = await log_of(small_plan(), teller.events)
    assert sum("✗ fetch[" in text for text in lines) == 2
    if items > 20:
        assert len(lines) == 1 + 2 + 10
        assert "fetch progress: 10,000/10,000, 2 failed" in lines[-1]
    else:
        assert len(lines) == 1 + 2 * items


@pytest.mark.parametrize(("items", "told"), [(21, 0), (20, 40)])
async def test_child_routines_are_told_by_the_step_that_runs_them_and_not_one_by_one_in_a_long_loop(
    items: int, told: int
) -> None:
    teller = Teller()
    begin_loop(teller, "fetch", items)
    for item in range(items):
        step = f"fetch[{item}]"
        teller.say(e.RoutineStarted(execution_id=f"c{item}", routine="leaf", step_count=2, parent_step_id=step))
        teller.say(e.RoutineCompleted(execution_id=f"c{item}", routine="leaf", parent_step_id=step))
        finish(teller, step, 9)
    lines = [text for text in await log_of(small_plan(), teller.events) if " routine " in text]
    assert len([text for text in lines if " fetch[" in text]) == told
    assert not told or any("● fetch[3] routine started: leaf, 2 steps" in text for text in lines)


async def test_a_long_run_is_told_by_its_failures_and_by_tenths() -> None:
    plan, events, _ = synthetic.wide_run(5, 1600, 1.0)
    lines = await log_of(plan, events)
    assert len(lines) == 1 + 20 + 10
    assert len(await log_of(plan, events[:400], level=1)) > 250


async def test_quiet_tells_only_what_went_wrong_and_nothing_of_a_success() -> None:
    plan, events, _ = synthetic.small_run()
    lines = await log_of(plan, events, level=-1)
    assert len(lines) == 1 and "404" in lines[0]
    stream = io.StringIO()
    view = PlainView(stream, plan, level=-1, environ={})
    view.start()
    await view.stop({"status": "completed"})
    assert stream.getvalue() == ""


async def test_the_summary_follows_the_lines() -> None:
    stream = io.StringIO()
    view = PlainView(stream, None, run_id=RUN, environ={})
    view.start()
    wire = {"status": "failed", "error": error("no input named x", "INPUT_INVALID"), "duration_ms": 2}
    await view.stop(wire)
    assert stream.getvalue().splitlines() == [
        "✗ run  INPUT_INVALID  no input named x",
        f"✗ run failed after 2ms · 0 steps · {RUN}",  # nothing ran, so there is nothing to resume
    ]


@pytest.mark.parametrize(
    ("environ", "coloured", "styled"),
    [({}, False, False), ({"FORCE_COLOR": "1"}, True, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, True)],
)
async def test_colours_only_when_forced(environ: dict[str, str], coloured: bool, styled: bool) -> None:
    text = "\n".join(await log_of(*synthetic.small_run()[:2], environ=environ))
    assert ("\x1b[31m" in text) == coloured and ("\x1b[2m" in text) == styled


async def test_a_log_without_unicode_is_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    view = PlainView(stream, plan_of([[tool("größe")]], "r"), environ={})
    view.start()
    view.apply(synthetic.told(e.StepFailed(execution_id=RUN, step_id="größe", error=error("überlauf ✗"))))
    await view.stop(None)
    assert raw.getvalue().isascii() and b"gr\\xf6\\xdfe" in raw.getvalue()


async def test_a_stream_that_takes_nothing_loses_lines_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from vrooli_cli.view import terminal

    monkeypatch.setattr(terminal, "BACKLOG", 3)
    stream = io.StringIO()
    view = PlainView(stream, None, environ={})
    for number in range(5):
        view.print(f"line {number}")
    view.start()
    await view.stop(None, hint="")
    assert stream.getvalue().splitlines()[:2] == ["line 0", "… 2 lines were left out: the terminal took nothing"]
