"""The report's text: nothing of others' words becomes markup, nothing is fetched, it stays small."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.made import plan_of, run_of, step, talk
from vrooli_cli.model import events as e
from vrooli_cli.view.report import report_page
from vrooli_cli.view.report.layout import lay_out
from vrooli_cli.view.report.room import fair, fitted
from vrooli_cli.view.report.timeline import Axis, critical_path, rows_of, tasks_plan

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`<!--\x1b[2J\u202e\x00\ud800"


class Read(HTMLParser):
    """What a browser would make of the page, as far as the standard library can say."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.data = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script" and self.tags[-1][1].get("id") == "data":
            self.data += data
        self.words.append(data)


def hostile() -> tuple[Any, list[dict[str, Any]]]:
    error = {"code": EVIL, "message": EVIL, "step": EVIL, "context": {EVIL: EVIL, "stderr": EVIL + "\n" + EVIL}}
    facts = [*step("ok", 0, 5, result={EVIL: EVIL}), *step(EVIL, 5, 5, error=error)]
    common: dict[str, Any] = {"execution_id": "r", "step_id": "ok", "attempt": 1, "model": EVIL}
    facts += [
        (3, e.AIRequested(messages=[{"role": EVIL, "content": EVIL}], **common)),
        (4, e.AIResponded(duration_ms=1, text=EVIL, tool_calls=[EVIL], credits=3, usage={EVIL: 2}, **common)),
        (4, e.StepSkipped(execution_id="r", step_id="s" + EVIL, reason=EVIL)),
    ]
    history, lines = run_of(facts, error=error, name=EVIL)
    return history, lines


def test_others_words_are_never_markup() -> None:
    history, lines = hostile()
    page = report_page(history, plan_of({"ok": (), EVIL: ("ok",)}), lines)
    page.encode("utf-8")
    read = Read(page)
    assert not read.open
    scripts = [attrs for tag, attrs in read.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    assert not [tag for tag, _ in read.tags if tag in ("img", "iframe", "object", "link", "base")]
    assert not [name for _, attrs in read.tags for name in attrs if name.startswith("on")]
    data = json.loads(read.data)
    assert {"steps", "types", "places", "events"} == data.keys()
    assert all("<" not in line for line in read.data.splitlines())
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", page)


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60))
def test_any_text_at_all_is_only_text(text: str) -> None:
    history, lines = run_of(step("a", 0, 1, result=text), result={"x": text}, name=text)
    read = Read(report_page(history, None, lines))
    assert not read.open
    assert len([tag for tag, _ in read.tags if tag == "script"]) == 2


def test_the_page_asks_the_network_for_nothing_and_allows_one_script() -> None:
    history, lines = hostile()
    page = report_page(history, None, lines)
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "url(" not in page
    assert "@import" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "script-src 'sha256-" in policy[1]
    assert "unsafe-eval" not in policy[1]


def test_the_failure_stands_first() -> None:
    error = {"code": "TOOL_FAILED", "message": "exited with 3", "step": "b", "context": {"exit_code": 3}}
    history, lines = run_of([*step("a", 0, 5), *step("b", 5, 5, error=error)], error=error)
    page = report_page(history, plan_of({"a": (), "b": ("a",)}), lines)
    sections = re.findall(r'<section id="(\w+)"', page)
    assert sections == ["failure", "graph", "timeline", "steps", "events"]
    assert "exited with 3" in page[: page.index('id="graph"')]


def test_three_hundred_steps_with_much_to_say_stay_under_a_megabyte() -> None:
    names = [f"step-{n}" for n in range(300)]
    facts = [fact for n, name in enumerate(names) for fact in step(name, n, 3, result={"stdout": "x" * 60_000})]
    history, lines = run_of(facts)
    parents = {name: (names[n - 7],) if n > 6 else () for n, name in enumerate(names)}
    page = report_page(history, plan_of(parents), lines)
    assert len(page.encode()) < 1_000_000


@pytest.mark.parametrize("words", ["word and word ", '{"<a & b>": "\n"}, ', "長い答え "])
def test_three_hundred_steps_that_talk_with_models_stay_under_a_megabyte(words: str) -> None:
    names = [f"a-rather-long-step-name-{n}" for n in range(300)]
    history, lines = run_of([fact for n, name in enumerate(names) for fact in talk(name, 2 * n, words * 300)])
    parents = {name: (names[n - 7],) if n > 6 else () for n, name in enumerate(names)}
    page = report_page(history, plan_of(parents), lines)
    assert 500_000 < len(page.encode()) < 1_000_000


def test_short_texts_leave_their_room_to_long_ones() -> None:
    assert fair([10, 20, 1_000, 2_000], 630) == 300
    assert fair([10, 20], 630) == 20
    shown = fitted(["short", "long " * 1_000], 500, 10_000, len)
    assert shown[0] == "short"
    assert 400 < len(shown[1]) < 600


def test_a_conversation_is_told_with_what_the_tools_answered() -> None:
    history, lines = run_of(talk("ask", 0, "words"))
    read = Read(report_page(history, None, lines))
    roles = ["system", "user", "calls file_read", "file_read returned", "answer"]
    assert [word for word in read.words if word in roles] == roles
    assert history.steps["ask"].label == "m-2026"


def test_a_step_is_told_with_what_it_was_called_with() -> None:
    command = ["sh", "-c", "echo it's here"]
    called = e.ToolCalled(
        execution_id="r", step_id="a", attempt=1, tool_name="shell", effects="once", parameters={"command": command}
    )
    error = {"code": "TOOL_FAILED", "message": "exited with 3", "step": "a"}
    history, lines = run_of([*step("a", 0, 5, error=error), (2, called)], error=error)
    page = Read(report_page(history, None, lines))
    told = "command: sh -c 'echo it'\"'\"'s here'"
    assert told in page.words
    assert [text for title, text in json.loads(page.data)["steps"][0]["texts"] if title == "Parameters"] == [told]


def test_what_is_inside_a_step_stands_below_it() -> None:
    facts = [*step("outer/a", 0, 5), *step("other", 1, 9), *step("outer/b", 5, 5), *step("outer", 0, 20)]
    history, lines = run_of(facts)
    read = Read(report_page(history, None, lines))
    rows = [attrs["data-step"] for tag, attrs in read.tags if tag == "tr" and "data-is" in attrs]
    assert rows == ["outer", "outer/a", "outer/b", "other"]


@pytest.mark.parametrize("count", [0, 1, 3_500])
def test_a_run_of_any_size_has_a_report(count: int) -> None:
    facts = [fact for n in range(count) for fact in step(f"s{n}", n, 2)]
    history, lines = run_of(facts)
    page = report_page(history, plan_of({f"s{n}": () for n in range(count)}), lines)
    assert len(page.encode()) < 8_000_000


def test_the_critical_path_follows_the_parent_that_ended_last() -> None:
    facts = [*step("a", 0, 10), *step("b", 0, 50), *step("c", 50, 5), *step("d", 10, 5)]
    history, _ = run_of(facts)
    plan = plan_of({"a": (), "b": (), "c": ("a", "b"), "d": ("a",)})
    assert critical_path(history, plan) == ["b", "c"]


def test_of_steps_that_ended_in_one_commit_the_last_batch_was_waited_for() -> None:
    history, _ = run_of([*step("a", 0, 50), *step("b", 50, 0)])
    assert critical_path(history, plan_of({"a": (), "b": ("a",)})) == ["a", "b"]


def test_the_critical_path_looks_at_each_step_a_few_times_however_long_it_is() -> None:
    compared = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    count = 300
    names = [Name(f"s{n}") for n in range(count)]
    history, _ = run_of([fact for n, name in enumerate(names) for fact in step(str(name), n, 1)])
    plan = plan_of({name: (names[n - 1],) if n else () for n, name in enumerate(names)})
    compared = 0
    assert critical_path(history, plan) == list(map(str, names))
    assert compared <= 12 * count


def test_time_between_two_lives_takes_no_room() -> None:
    axis = Axis([[0, 100], [1_000_000, 1_000_100]])
    assert axis.at(0) == 0
    assert axis.at(100) < axis.at(1_000_000) < 0.55
    assert axis.at(1_000_100) == pytest.approx(1.0, abs=0.02)
    assert axis.ticks()[0] == 0


def test_an_attempt_whose_process_died_ends_with_its_life() -> None:
    about: dict[str, Any] = {"execution_id": "r", "step_id": "a", "attempt": 1}
    facts: list[tuple[int, e.Event]] = [
        (0, e.ExecutionStarted(tool_name="shell", **about)),
        (40, e.ContextSet(execution_id="r", step_id="b", values={"last": "event of the first life"})),
        (9_000, e.ExecutionCancelled(reason="died", duration_ms=0, interrupted=True, **about)),
        (9_000, e.RoutineResumed(execution_id="r", routine="made", active_ms=40)),
        (9_000, e.ExecutionStarted(tool_name="shell", **about)),
        (9_060, e.ExecutionCompleted(duration_ms=60, **about)),
        (9_060, e.StepCompleted(execution_id="r", step_id="a", duration_ms=60)),
    ]
    history, _ = run_of(facts)
    axis = Axis(history.stretches)
    assert axis.total_ms == 100
    (row,) = rows_of(history, axis, {}, [])
    (died, done) = row.bars
    assert died.left + died.width < done.left < 0.45
    assert done.left + done.width == pytest.approx(1, abs=0.001)


def test_a_suspended_run_says_which_command_answers() -> None:
    waits = e.StepSuspended(execution_id="r", step_id="it's", reason="sure?", code="APPROVAL_REQUIRED")
    history, _ = run_of([*step("a", 0, 5), (6, waits)])
    history.status, history.ended = "suspended", False
    words = Read(report_page(history, plan_of({"a": (), "it's": ("a",)}))).words
    assert """vrooli approve r 'it'"'"'s' --resume""" in words
    assert "critical path" not in words


def test_every_node_has_its_own_place_and_edges_run_forward() -> None:
    layers = [["a", "b"], ["c"], ["d", "e", "f"]]
    edges = [("a", "c"), ("a", "f"), ("c", "d"), ("b", "e"), ("f", "a"), ("x", "d")]
    layout = lay_out(layers, edges)
    assert len(set(layout.places.values())) == 6
    assert set(layout.ways) == {("a", "c"), ("a", "f"), ("c", "d"), ("b", "e")}
    for way in layout.ways.values():
        columns = [place[0] for place in way]
        assert columns == list(range(columns[0], columns[-1] + 1))


def test_the_tasks_of_a_swarm_are_its_graph_and_its_phases() -> None:
    """Also the parts of a task that several agents do, each beside its own agent."""
    tasks = [{"id": "look", "dependencies": []}, {"id": "say", "dependencies": ["look"]}]
    facts: list[tuple[int, e.Event]] = [
        (0, e.GoalDecomposed(execution_id="r", goal="g", tasks=tasks, source="given")),
    ]
    for number, agent in enumerate(("ann", "bob")):
        run, inner = f"part{number}", f"task:look[{number}]"
        about: dict[str, Any] = {"execution_id": run, "routine": agent}
        facts += [
            (1, e.TaskStarted(execution_id="r", task_id="look", agent_id=agent, attempt=1, task_execution_id=run)),
            (2, e.RoutineStarted(step_count=1, parent_execution_id="r", parent_step_id=inner, **about)),
            (50, e.RoutineCompleted(duration_ms=48, **about)),
            (60, e.TaskCompleted(execution_id="r", task_id="look", agent_id=agent, duration_ms=58)),
        ]
    history, _ = run_of(facts)
    steps = history.steps
    assert {name: (step.status, step.agent) for name, step in steps.items() if name.endswith("]")} == {
        "task:look[0]": ("completed", "ann"),
        "task:look[1]": ("completed", "bob"),
    }
    plan = tasks_plan(history)
    assert plan is not None
    assert plan.batches == (("task:look",), ("task:say",))
    words = Read(report_page(history)).words
    assert {"Phase 1", "Phase 1 · ann", "Phase 1 · bob"} <= set(words)


def test_of_many_outputs_each_is_shown_as_its_beginning() -> None:
    many = {f"out{n}": {"text": "long " * 50} for n in range(20)}
    few, _ = run_of(step("a", 0, 10), result={"one": many["out1"]})
    much, _ = run_of(step("a", 0, 10), result=many)
    assert (report_page(few).count("<details"), report_page(much).count("<details")) == (0, 20)
