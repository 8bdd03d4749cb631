"""`vrooli runs …`: what the history says of runs, at the command line."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.resume.conftest import Shell
from vrooli_cli.bus import EventBus
from vrooli_cli.cli.app import run_command_line
from vrooli_cli.journal import open_store
from vrooli_cli.journal.history import events, fold, result_of
from vrooli_cli.model.clock import SystemClock
from vrooli_cli.model.events import AIResponded, EventMetadata
from vrooli_cli.model.store import RunRecord

GOOD = """
inputs: {n: {type: integer, default: 2}}
steps:
  - {id: a, tool: echo, parameters: {message: "{{ n }}"}}
  - {id: each, for_each: [1, 2, 3], tool: echo, parameters: {message: "{{ item * n }}"}}
  - {id: sum, tool: echo, parameters: {message: "{{ steps.each.result | sum }}"}}
outputs: {sum: "{{ steps.sum.result }}"}
"""
BAD = r"""
steps:
  - {id: fine, tool: echo, parameters: {message: 1}}
  - {id: taken, tool: fail, parameters: {message: "never mind"}, on_error: continue}
  - {id: broken, depends_on: [fine], tool: shell, parameters: {command: 'printf "a\033[31mred\001" >&2; exit 3'}}
  - {id: after, depends_on: [broken], tool: echo, parameters: {message: 1}}
"""


@pytest.fixture
def two(vrooli: Shell) -> Shell:
    """A good run and a bad one after it."""
    vrooli("run", vrooli.write(GOOD, "good.yaml"))
    vrooli("run", vrooli.write(BAD, "bad.yaml"))
    return vrooli


def test_list_shows_the_newest_first_and_filters(two: Shell) -> None:
    rows = two("runs", "list", "--json").json
    assert [(row["name"], row["status"]) for row in rows] == [("bad", "failed"), ("good", "completed")]
    assert rows[0]["error_code"] == "TOOL_FAILED"
    assert [row["name"] for row in two("runs", "list", "--status", "failed", "-o", "json").json] == ["bad"]
    assert [row["name"] for row in two("runs", "list", "--name", "good", "-o", "json").json] == ["good"]
    assert two("runs", "list", "--since", "1h", "-n", "1", "-o", "json").json[0]["name"] == "bad"
    assert two("runs", "list", "--since", "2999-01-01", "-o", "json").json == []
    assert two("runs", "list", "--since", "yesterday").code == 2
    assert "bad" in two("runs", "list").out


@pytest.mark.parametrize("file", ["good", "bad"])
def test_show_prints_the_result_that_the_run_printed(vrooli: Shell, file: str) -> None:
    path = vrooli.write(GOOD if file == "good" else BAD, f"{file}.yaml")
    printed = vrooli("run", path, "-o", "json").json
    shown = vrooli("runs", "show", "last", "-o", "json")
    assert shown.code == 0
    again = shown.json
    for result in (printed, again):  # sampled, and not in the log when it is nothing
        result["resources_used"].pop("memory_used_mb")
    assert again == printed
    text = vrooli("runs", "show", "last").out
    assert ("broken" in text) is (file == "bad")


def test_a_terminal_gets_what_matters_of_very_many_steps(vrooli: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[dict[str, Any]] = [{"id": f"s{i}", "tool": "echo", "with": {"message": str(i)}} for i in range(1000)]
    steps[700] |= {"tool": "fail", "on_error": "continue"}
    steps[800] |= {"when": False}
    file = vrooli.write(json.dumps({"steps": steps}))
    assert vrooli("run", file, "-q").code == 0
    whole = vrooli("runs", "show", "last").out
    assert sum(" completed" in line for line in whole.splitlines()) == 998 + 1
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = vrooli("runs", "show", "last").out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("steps"))
    assert lines[at] == "steps  998 completed, 1 failed, 1 skipped"
    assert [line.split()[:2] for line in lines[at + 1 : at + 4]] == [
        ["s700", "failed"],
        ["s800", "skipped"],
        ["s0", "completed"],
    ]
    assert "  … 900 more; `vrooli runs show RUN | less` or -o json has them all" in lines
    assert "  … 898 more; -o json has them all" in lines
    assert len(lines) < 220


def test_show_of_a_suspended_run_lists_what_is_still_to_come(vrooli: Shell) -> None:
    text = "steps: [{id: ask, approval: sure?}, {id: later, depends_on: [ask], tool: fail}]"
    printed = vrooli("run", vrooli.write(text), "--no-input", "-o", "json").json
    shown = vrooli("runs", "show", "last", "-o", "json").json
    assert shown["steps"] == printed["steps"]
    assert shown["status"] == "suspended"
    assert list(shown["steps"]) == ["ask", "later"]
    assert shown["error"] == printed["error"] and shown["error"]["step"] == "ask"


def test_show_of_a_suspended_swarm_says_what_the_run_said(vrooli: Shell) -> None:
    vrooli.write("{name: work, steps: [{id: ask, approval: sure?}, {id: more, approval: really?}]}", "work.yaml")
    swarm = "{name: s, goal: g, agents: [{id: a, capabilities: [], routine: work.yaml}], tasks: [{id: t}, {id: u}]}"
    printed = vrooli("run", vrooli.write(swarm, "s.yaml"), "--no-input", "-o", "json").json
    assert printed["error"]["code"] == "APPROVAL_REQUIRED" and printed["error"]["step"] == "task:t/ask"
    assert vrooli("runs", "show", "last", "-o", "json").json["error"] == printed["error"]


ROUTINES = {
    "work": "{name: work, steps: [{id: w, tool: echo}, {id: x, depends_on: [w], tool: echo}]}",
    "bad": "{name: bad, steps: [{id: w, tool: fail, parameters: {message: no}}, {id: x, depends_on: [w], tool: echo}]}",
    "ask": "{name: ask, steps: [{id: w, approval: sure?}, {id: x, depends_on: [w], tool: echo}]}",
    "slow": "{name: slow, steps: [{id: w, wait: 30s}, {id: x, depends_on: [w], tool: echo}]}",
}
TASKS = "tasks: [{id: t}, {id: u, depends_on: [t]}, {id: v, depends_on: [u]}, {id: free}]"
TWO = """{structural: {roles: {worker: {}}}, functional: {schemes: {s: {
    goals: {g: {plan: {sequence: [t, u]}}, t: {min: 2}, u: {}},
    missions: {m: {goals: [t], min: 2, max: 2}, k: {goals: [u], min: 1, max: 1}}}}},
    normative: {norms: [{id: n, role: worker, type: obligation, mission: m},
                        {id: o, role: worker, type: permission, mission: k}]}}"""


def swarm_of(vrooli: Shell, agents: str, rest: str) -> Path:
    """The file of a swarm whose agents do everything with these routines."""
    for name, text in ROUTINES.items():
        vrooli.write(text.replace("tool: echo}", "tool: echo, parameters: {message: hi}}"), f"{name}.yaml")
    crew = ", ".join(
        f"{{id: a{n}, capabilities: [], routine: {name}.yaml}}" for n, name in enumerate(agents.split("+"))
    )
    return vrooli.write(f"{{name: s, goal: g, agents: [{crew}], {rest}}}", "s.yaml")


SWARMS = [
    ("work", TASKS, ()),
    ("bad", TASKS, ()),
    ("bad", TASKS, ("--keep-going",)),
    ("ask", TASKS, ()),
    ("slow", f"{TASKS}, allocation: {{max_duration: 300ms}}", ()),
    ("bad+work", "tasks: [{id: t}, {id: u, depends_on: [t]}], assignments: {t: {agent: a0}}", ()),
    ("work+work", f"constraints: {TWO}", ()),
    ("work+bad", f"constraints: {TWO}", ()),
    ("work+ask", f"constraints: {TWO}", ()),
]


@pytest.mark.parametrize(("agents", "rest", "flags"), SWARMS)
def test_show_of_a_swarm_says_of_its_tasks_what_the_run_said(
    vrooli: Shell, agents: str, rest: str, flags: tuple[str, ...]
) -> None:
    printed = vrooli("run", swarm_of(vrooli, agents, rest), "--no-input", "-o", "json", *flags).json
    shown = vrooli("runs", "show", "last", "-o", "json").json
    assert shown["steps"] == printed["steps"]
    assert (shown["status"], shown["error"]) == (printed["status"], printed["error"])
    assert any("counts" in step for step in printed["steps"].values())
    if printed["status"] == "failed":  # and so it is in its next life
        again = vrooli("resume", "last", "--no-input", "-o", "json", *flags).json
        shown = vrooli("runs", "show", "last", "-o", "json").json
        assert shown["steps"] == again["steps"]
        executed = [one["resources_used"]["steps_executed"] for one in (printed, again, shown)]
        assert executed[0] < executed[1] == executed[2]


def test_a_swarm_says_in_its_log_what_became_of_the_tasks_that_never_began(vrooli: Shell) -> None:
    printed = vrooli("run", swarm_of(vrooli, "bad", TASKS), "-o", "json").json["steps"]
    assert printed["task:u"] == {"status": "skipped", "reason": "dependency t did not complete"}
    assert printed["task:free"] == {"status": "cancelled", "reason": "the swarm is stopping: task:t/w failed"}
    with closing(open_store(vrooli.store)) as store:
        key, record = store.find("last")
        lines = [dict(line, payload=dict(line["payload"])) for line in events(store, key)]
        assert set(lines[-1]["payload"]["not_run"]) == {"u", "v", "free"}
        for line in lines:  # as an older vrooli wrote it
            line["payload"].pop("not_run", None)
            line["payload"].pop("counts", None)
        assert result_of(fold(key, record, lines), store).wire()["steps"] == printed


def test_the_tasks_of_a_run_that_only_planned_are_to_be_done(vrooli: Shell) -> None:
    vrooli("run", swarm_of(vrooli, "work", TASKS), "--plan-only")
    steps = vrooli("runs", "show", "last", "-o", "json").json["steps"]
    assert steps["task:t"] == steps["task:free"] == {"status": "pending"}


def test_a_handlers_steps_are_no_part_of_the_counts_of_its_routine(vrooli: Shell) -> None:
    step = "{id: a, tool: echo, parameters: {message: a}}"
    vrooli.write(f"{{name: child, steps: [{step}], handlers: {{finally: [{step.replace('a,', 'f,')}]}}}}", "child.yaml")
    printed = vrooli("run", vrooli.write("steps: [{id: c, routine: ./child.yaml}]"), "-o", "json").json["steps"]
    assert vrooli("runs", "show", "last", "-o", "json").json["steps"] == printed
    assert printed["c"]["counts"] == {"completed": 1}


def test_what_waits_inside_a_group_or_a_child_has_begun_in_both(vrooli: Shell) -> None:
    vrooli.write("{name: child, steps: [{id: ask, approval: sure?}]}", "child.yaml")
    text = "steps: [{id: g, parallel: [{id: x, approval: a}]}, {id: c, routine: ./child.yaml}]"
    printed = vrooli("run", vrooli.write(text), "--no-input", "-o", "json").json["steps"]
    assert printed["g"]["attempts"] == printed["c"]["attempts"] == 1
    assert vrooli("runs", "show", "last", "-o", "json").json["steps"] == printed


def test_a_loop_over_nothing_has_counts_of_nothing_in_both(vrooli: Shell) -> None:
    path = vrooli.write("steps: [{id: e, for_each: [], tool: echo, parameters: {message: hi}}]")
    printed = vrooli("run", path, "-o", "json").json["steps"]
    assert printed["e"]["counts"] == {}
    assert vrooli("runs", "show", "last", "-o", "json").json["steps"] == printed


def test_a_prefix_that_two_runs_share_is_refused(two: Shell) -> None:
    ids = [row["id"] for row in two("runs", "list", "-o", "json").json]
    common = "".join(a for a, b in zip(*ids, strict=True) if a == b)[:3]
    said = two("runs", "show", common)
    assert said.code == 2
    assert "several runs begin" in said.err
    assert two("runs", "show", ids[0][:-1], "-o", "json").json["context"]["execution_id"] == ids[0]


@pytest.mark.parametrize(
    "argv", [["show"], ["events"], ["logs"], ["diff", "last"], ["export"], ["diff"], ["nope"]], ids=" ".join
)
def test_an_unknown_run_is_exit_2(vrooli: Shell, argv: list[str]) -> None:
    assert vrooli("runs", *argv, "nope").code == 2
    if argv[0] in ("show", "events", "logs", "export"):
        assert "there is no run yet" in vrooli("runs", argv[0]).err


def test_events_are_the_lines_of_the_run(two: Shell) -> None:
    lines = [json.loads(line) for line in two("runs", "events", "last").out.splitlines()]
    assert [event["seq"] for event in lines] == list(range(1, len(lines) + 1))
    failed = two("runs", "events", "last", "--type", "**/failed").out.splitlines()
    assert {json.loads(line)["type"] for line in failed} == {
        "tier3/execution/failed",
        "tier2/step/failed",
        "tier2/routine/failed",
    }
    only = two("runs", "events", "last", "--step", "broken", "-o", "json").json
    assert {event["payload"]["step_id"] for event in only} == {"broken"}
    assert json.loads(two("runs", "events", "last", "--from", "5").out.splitlines()[0])["seq"] == 5


def test_logs_say_what_the_plain_view_said(vrooli: Shell) -> None:
    said = vrooli("run", vrooli.write(BAD))
    view = [line for line in said.err.splitlines() if line[:2] == "20"]
    logs = vrooli("runs", "logs", "last").out.splitlines()
    assert logs == view
    assert all("\x1b" not in line for line in logs)


def test_logs_of_a_run_at_work_are_followed_to_its_end(vrooli: Shell) -> None:
    text = "steps: [{id: a, wait: 700ms}, {id: b, depends_on: [a], wait: 700ms}]"
    argv = [sys.executable, "-m", "vrooli_cli", "run", str(vrooli.write(text)), "-q"]
    process = subprocess.Popen(argv, cwd=vrooli.folder, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (vrooli.store.exists() and vrooli.runs()) and time.monotonic() < deadline:
        time.sleep(0.05)
    said = vrooli("runs", "logs", "last", "-f")
    assert process.wait(20) == 0
    assert "routine completed" in said.out
    assert "b step completed" in said.out


def test_diff_is_0_for_the_same_and_1_for_another(vrooli: Shell) -> None:
    file = vrooli.write(GOOD)
    for argv in ([], [], ["-i", "n=3"]):
        vrooli("run", file, *argv)
    newest, second, first = (run.id for run in vrooli.runs())
    assert vrooli("runs", "diff", first, second).code == 0
    said = vrooli("runs", "diff", second, newest, "-o", "json")
    assert said.code == 1
    assert said.json["inputs"] == [{"where": "n", "before": 2, "after": 3}]
    assert said.json["outputs"] == [{"where": "result.sum", "before": 12, "after": 18}]
    assert said.json["definition"] == said.json["path"] == []
    vrooli.write(GOOD.replace("| sum", "| max"))
    vrooli("run", file)
    said = vrooli("runs", "diff", newest, "last")
    assert said.code == 1
    assert "| max" in said.out


def test_diff_of_paths_names_the_steps(vrooli: Shell) -> None:
    text = "steps: [{id: a, when: 'EXPR', tool: echo, parameters: {message: 1}}]"
    for expression in ("true", "false"):
        vrooli("run", vrooli.write(text.replace("EXPR", expression)))
    newest, first = (run.id for run in vrooli.runs())
    assert vrooli("runs", "diff", first, newest, "--json").json["path"] == [
        {"where": "a", "before": "completed", "after": "skipped"}
    ]


def test_export_is_a_document_or_a_trace(two: Shell) -> None:
    document = two("runs", "export", "last").json
    assert document["result"]["status"] == "failed"
    assert document["run"]["definition"]["texts"]
    assert len(document["events"]) == len(two("runs", "events", "last").out.splitlines())
    trace = two("runs", "export", "last", "-o", "otlp").json
    spans = trace["resourceSpans"][0]["scopeSpans"][0]["spans"]
    ids = {span["spanId"] for span in spans}
    assert len(ids) == len(spans)
    roots = [span for span in spans if not span["parentSpanId"]]
    assert [span["name"] for span in roots] == ["invoke_workflow bad"]
    assert all(span["parentSpanId"] in ids for span in spans if span not in roots)
    assert {len(span["traceId"]) for span in spans} == {32}
    assert all(int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) for span in spans)
    failed = {span["name"] for span in spans if span["status"].get("code") == 2}
    assert "broken" in failed


def test_prune_forgets_what_is_over(two: Shell) -> None:
    assert two("runs", "prune").code == 2
    assert "1 run forgotten" in two("runs", "prune", "--keep", "1").err
    assert [row["name"] for row in two("runs", "list", "--json").json] == ["bad"]
    assert two("runs", "prune", "--older-than", "1d", "--json").json == {"forgotten": 0}


# --- JUnit, annotations, the summary ---------------------------------------------------------------------------------


def test_junit_has_a_case_a_step_and_is_xml_whatever_was_printed(vrooli: Shell) -> None:
    assert vrooli("run", vrooli.write(BAD).name, "--junit", "j.xml").code == 1
    suite = ElementTree.parse(vrooli.folder / "j.xml").getroot()[0]
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert set(cases) == {"fine", "taken", "broken", "after"}
    assert suite.get("tests") == "4"
    assert suite.get("failures") == "1"
    assert suite.get("skipped") == "2"
    broken = cases["broken"]
    assert broken.get("file") == "r.yaml"
    assert broken.get("line") == "5"
    failure = broken.find("failure")
    assert failure is not None
    assert failure.get("type") == "TOOL_FAILED"
    assert (broken.findtext("system-err") or "").startswith("a\\x1b[31mred")
    skipped = cases["taken"].find("skipped")
    assert skipped is not None
    assert "never mind" in str(skipped.get("message"))


def test_another_programs_parser_reads_the_junit_file(vrooli: Shell) -> None:
    parser = pytest.importorskip("junitparser")
    assert vrooli("run", vrooli.write(BAD).name, "--junit", "j.xml").code == 1
    (suite,) = parser.JUnitXml.fromfile(str(vrooli.folder / "j.xml"))
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 0, 2)
    results = {case.name: [type(result).__name__ for result in case.result] for case in suite}
    assert results == {"fine": [], "taken": ["Skipped"], "broken": ["Failure"], "after": ["Skipped"]}
    assert all(case.time >= 0 and case.classname == "r" for case in suite)


def test_a_run_that_failed_without_a_failed_step_is_a_failed_case(vrooli: Shell) -> None:
    vrooli("run", vrooli.write("steps: [{id: a, wait: 5s}]"), "--timeout", "50ms", "--junit", "j.xml")
    suite = ElementTree.parse(vrooli.folder / "j.xml").getroot()[0]
    assert suite.get("failures") == "1"
    assert [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None] == ["(run)"]


def test_github_sees_every_failure_beside_its_line_and_a_summary(
    vrooli: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(vrooli.folder / "summary.md"))
    said = vrooli("run", vrooli.write(BAD).name)
    commands = [line for line in said.err.splitlines() if line.startswith("::")]
    assert any(line.startswith("::error file=r.yaml,line=5") for line in commands)
    assert any(line.startswith("::warning file=r.yaml,line=4") for line in commands)
    assert len(commands) == 2
    summary = (vrooli.folder / "summary.md").read_text()
    assert summary.startswith("### ❌ r failed")
    assert "TOOL\\_FAILED" in summary
    vrooli("run", vrooli.write(GOOD))
    assert "✅ r completed" in (vrooli.folder / "summary.md").read_text()


@pytest.mark.parametrize("flag", ["--junit", "--report", "--record"])
def test_a_paper_that_cannot_be_written_stops_the_run_before_it_begins(vrooli: Shell, flag: str) -> None:
    assert vrooli("run", vrooli.write(GOOD), flag, "no/such/folder/x").code == 2
    assert vrooli("run", vrooli.write(GOOD), flag, vrooli.folder).code == 2
    assert not vrooli.store.exists()


def test_report_writes_one_page(two: Shell) -> None:
    said = two("report", "last", "page.html")
    assert said.code == 0
    assert said.out == ""
    assert "page.html" in said.err
    assert "What failed, and why" in (two.folder / "page.html").read_text()
    said = two("report", "last")
    assert list(two.folder.glob("report-*.html"))
    assert two("report", "nope").code == 2
    assert two("report", "last", "no/such/x.html").code == 2


def test_a_run_without_a_store_leaves_its_papers_all_the_same(vrooli: Shell) -> None:
    said = vrooli("run", vrooli.write(GOOD), "--no-store", "--report", "r.html", "--junit", "j.xml")
    assert said.code == 0
    assert (vrooli.folder / "r.html").exists()
    assert (vrooli.folder / "j.xml").exists()


# --- many runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["routine", "swarm"])
def test_list_and_show_tell_the_time_at_work_over_all_lives(vrooli: Shell, kind: str) -> None:
    text = "{name: ask, steps: [{id: w, approval: sure?}]}"
    path = vrooli.write(text, "ask.yaml")
    address = "w"
    if kind == "swarm":
        agents = "[{id: a, capabilities: [], routine: ask.yaml}]"
        path = vrooli.write(f"{{name: s, goal: g, agents: {agents}, tasks: [{{id: t}}]}}", "s.yaml")
        address = "task:t/w"

    def told() -> tuple[int, int]:
        (listed,) = vrooli("runs", "list", "-o", "json").json
        shown = vrooli("runs", "show", "last", "-o", "json").json["duration_ms"]
        return listed["duration_ms"], shown

    assert vrooli("run", path, "--no-input").code == 5
    first = told()
    time.sleep(1.2)
    assert vrooli("approve", "last", address, "--resume").code == 0
    listed, shown = told()
    assert first[0] == first[1] <= listed == shown
    record = vrooli.history().record
    assert record.ended_ns is not None and (record.ended_ns - record.started_ns) // 1_000_000 >= listed + 1000


def filled(place: Path, count: int) -> None:
    """So many runs in the journal at ``place``, each a copy of one of those that are there."""
    with closing(sqlite3.connect(place)) as database, database:
        names = [column[1] for column in database.execute("PRAGMA table_info(runs)")][1:]
        bases = database.execute("SELECT * FROM runs").fetchall()
        logs = [
            database.execute("SELECT place & 4294967295, n, data FROM log WHERE place>>32=?", (key,)).fetchall()
            for key, *_ in bases
        ]
        for number in range(count):
            key, base, log = number + 1000, bases[number % len(bases)], logs[number % len(bases)]
            row = dict(zip(names, base[1:], strict=True)) | {"id": f"run-{number:06}", "started_ns": number * 10**9}
            database.execute(f"INSERT INTO runs VALUES(?{', ?' * len(names)})", (key, *row.values()))
            own = row["id"].encode()
            database.executemany(
                "INSERT INTO log VALUES(?, ?, ?)",
                [(key << 32 | at, n, data.replace(base[1].encode(), own)) for at, n, data in log],
            )


async def talked(place: Path) -> None:
    """A run in which models answered ten times."""
    store = open_store(place)
    bus = EventBus(store, SystemClock())
    channel = bus.open(RunRecord(id="talked", name="talked", status="completed"), EventMetadata())
    for nth in range(10):
        answer: dict[str, Any] = {"text": "many words " * 40, "credits": 9, "usage": {"input_tokens": 5}}
        channel.publish(
            AIResponded(execution_id="talked", step_id=f"s{nth}", attempt=1, duration_ms=1, model="m", **answer)
        )
    await bus.close()
    store.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of ten thousand runs: good ones, bad ones, and ones in which models answered."""
    folder = tmp_path_factory.mktemp("many")
    place = folder / "many.db"
    for name, text in (("good", GOOD), ("bad", BAD)):
        (folder / f"{name}.yaml").write_text(text)
        run_command_line(["run", str(folder / f"{name}.yaml"), "--store", str(place), "--view", "none", "-o", "none"])
    asyncio.run(talked(place))
    filled(place, 10_000)
    return place


@pytest.mark.parametrize(
    "argv",
    [
        ["list"],
        ["list", "--status", "failed"],
        ["list", "--name", "good", "-n", "5"],
        ["list", "--since", "1d"],
        ["list", "-n", "10000", "-o", "json"],
        ["show", "last"],
        ["show", "run-005000"],
        ["cost"],
        ["cost", "--by", "day"],
        ["cost", "--by", "model"],
        ["cost", "--by", "run"],
        ["events", "last"],
        ["logs", "last"],
        ["diff", "last", "run-000001"],
        ["export", "last"],
        ["export", "last", "-o", "otlp"],
        ["prune", "--keep", "9900"],
        ["prune", "--older-than", "1970-01-01T00:05:00"],
    ],
    ids=" ".join,
)
def test_ten_thousand_runs_stay_quick(vrooli: Shell, many: Path, argv: list[str]) -> None:
    vrooli("runs", argv[0], *(["last", "last"] if argv[0] == "diff" else ["--help"]), "--store", many)  # imports
    began = time.process_time()
    assert vrooli("runs", *argv, "--store", many).code in (0, 1)
    assert time.process_time() - began < 0.5
