"""A run from a stored plan and one from the file are the same run; whatever has changed is read again."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.language_cases.story import Stage, Told, tell
from tests.language_cases.test_cases import CASES, NAMES
from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.journal import open_store
from vrooli_cli.loading.bundle import load_bundle, load_stored
from vrooli_cli.loading.loaded import LoadedBundle
from vrooli_cli.loading.project import load_project
from vrooli_cli.loading.recall import recall, recall_recorded
from vrooli_cli.model.routine import Bundle
from vrooli_cli.tier2.plan import GraphPlan, RoutinePlan
from vrooli_cli.tier2.tier import PreparedRun
from vrooli_cli.tier3.registry import Tool, ToolContext

ROUTINES = Path(__file__).parent.parent.parent / "routines"
GOOD = [name for name in NAMES if (CASES / name / "expected.json").exists()]


def wires(told: Told) -> list[Any]:
    """The events of each step as the log has them; where real time takes part, without it and in no order.

    Which of two steps that end at one moment is told first hangs on how much of it fits into a slice of real time.
    """
    lines = [event.wire() for event in told.events]
    if told.seconds is None or any(line["payload"].get("effects") == "once" for line in lines):  # waits for the disk
        return sorted(map(_timeless, lines), key=json.dumps)
    numbered = [{**line, "seq": 0, "id": ""} for line in lines]
    return sorted(numbered, key=lambda line: (line["execution_id"], str(line["payload"].get("step_id"))))


def _timeless(line: dict[str, Any]) -> dict[str, Any]:
    payload = {name: value for name, value in line["payload"].items() if not name.endswith(("_ms", "_ns", "_id"))}
    step = line["payload"].get("step_id")
    return {"type": line["type"], "in": line["execution_id"], "step": step, "payload": sorted(payload)}


@pytest.mark.parametrize("name", GOOD[::4])
def test_a_run_from_the_stored_plan_has_the_events_of_a_run_from_the_file(name: str, tmp_path: Path) -> None:
    lives: list[Told] = []
    for number in (0, 1):
        folder = tmp_path / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(CASES / name, folder)
        store = tmp_path / f"{number}.db"
        if number:
            copy_plans(tmp_path / "0.db", store)
        told = tell(folder, store)
        assert isinstance(told, Told)
        lives.append(told)
    assert [told.recalled for told in lives] == [False, True]
    assert wires(lives[1]) == wires(lives[0])
    if "once" not in json.dumps([event.payload for event in lives[0].events]):  # the disk's time is none of a run's
        assert lives[1].golden() == lives[0].golden()


def copy_plans(source: Path, target: Path) -> None:
    open_store(target).close()
    with sqlite3.connect(target) as database:
        database.execute("ATTACH ? AS other", (str(source),))
        database.execute("INSERT INTO plans SELECT * FROM other.plans")
    database.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a routine that calls another one."""
    (tmp_path / "routines").mkdir()
    write(tmp_path / "routines/child.yaml", inputs={"n": {"type": "integer"}}, steps=[echo("c", "{{ inputs.n + 1 }}")])
    write(
        tmp_path / "routines/main.yaml",
        steps=[echo("a", 1), {"id": "b", "routine": "child", "parameters": {"n": "{{ steps.a.result }}"}}],
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def write(path: Path, **data: Any) -> None:
    path.write_text(json.dumps(data))


def echo(name: str, message: Any) -> dict[str, Any]:
    return {"id": name, "tool": "echo", "parameters": {"message": message}}


def prepared(loaded: LoadedBundle, store: Path, *tools: Tool) -> PreparedRun:
    """The run of what was loaded; its plan is kept in the store."""
    house = ExecutionArchitecture(store=open_store(store), project=loaded.project, tools=tools)
    run = house.prepare(loaded, {})
    assert isinstance(run, PreparedRun)
    house._remember()
    return run


def again(asked: str, store: Path) -> LoadedBundle | None:
    journal = open_store(store)
    try:
        return recall(asked, journal)
    finally:
        journal.close()


def shape(graph: GraphPlan) -> Any:
    """Everything of a plan but its texts."""
    return graph.batches, [
        (
            *(step.step, step.kind, step.index, step.batch, step.parents, step.children, step.when_per_item),
            *(step.timeout_ms, step.label, step.tool and step.tool.name, step.child and step.child.routine.key),
            step.parameters and list(step.parameters.bound),
            step.inside and shape(step.inside),
        )
        for step in graph.steps
    ]


FILES = [
    *(path for path in sorted(ROUTINES.glob("*.yaml")) if ".test." not in path.name),
    *(CASES / name / "routine.yaml" for name in GOOD[1::3]),
]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem if path.parent == ROUTINES else path.parent.name)
def test_a_checked_plan_comes_back_as_it_was(file: Path, tmp_path: Path) -> None:
    loaded = load_bundle(file, project=load_project(file.parent))
    if not isinstance(loaded.bundle, Bundle):
        pytest.skip("a swarm plans when it runs")
    house = ExecutionArchitecture(store=open_store(tmp_path / "s.db"), project=loaded.project, tools=Stage().tools())
    plan, problems = house._plan(loaded)
    assert isinstance(plan, RoutinePlan), problems
    house._remember()
    back = recall(str(file), house.store)
    assert back is not None
    assert back.bundle == loaded.bundle
    made, told = house._plan(back)
    assert isinstance(made, RoutinePlan)
    assert shape(made.graph) == shape(plan.graph)
    assert {name: shape(graph) for name, graph in made.handlers.items()} == {
        name: shape(graph) for name, graph in plan.handlers.items()
    }
    assert told == problems
    house.store.close()


@pytest.mark.parametrize("asked", ["main", "routines/main.yaml", "./routines/main.yaml"])
def test_a_file_is_found_again_by_the_words_that_it_was_asked_by(asked: str, place: Path) -> None:
    loaded = load_bundle(asked)
    assert again(asked, place / "s.db") is None
    prepared(loaded, place / "s.db")
    back = again(asked, place / "s.db")
    assert back is not None
    assert back.bundle == loaded.bundle
    assert back.project == loaded.project


def change_the_file(place: Path) -> None:
    write(place / "routines/main.yaml", steps=[echo("a", 2)])


def change_a_file_that_it_calls(place: Path) -> None:
    write(place / "routines/child.yaml", inputs={"n": {}}, steps=[echo("c", 2)])


def remove_a_file(place: Path) -> None:
    (place / "routines/child.yaml").unlink()


def hide_a_file_behind_another(place: Path) -> None:
    write(place / "routines/child.yml", inputs={"n": {}}, steps=[echo("c", 2)])
    (place / "routines/child.yaml").rename(place / "routines/other.yaml")


def say_something_in_the_project(place: Path) -> None:
    write(place / "vrooli.yaml", defaults={"timeout": "1s"})


@pytest.mark.parametrize(
    "change",
    [
        change_the_file,
        change_a_file_that_it_calls,
        remove_a_file,
        hide_a_file_behind_another,
        say_something_in_the_project,
    ],
)
def test_a_change_is_seen(change: Any, place: Path) -> None:
    prepared(load_bundle("main"), place / "s.db")
    assert again("main", place / "s.db") is not None
    change(place)
    assert again("main", place / "s.db") is None


def test_a_file_of_the_same_size_and_time_is_still_read(place: Path) -> None:
    file = place / "routines/main.yaml"
    prepared(load_bundle("main"), place / "s.db")
    about = file.stat()
    file.write_text(file.read_text().replace('"message": 1', '"message": 2'))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert file.stat().st_size == about.st_size
    assert again("main", place / "s.db") is None


@pytest.mark.parametrize("rows", ["where", "what"])
def test_damaged_rows_are_loaded_again(rows: str, place: Path) -> None:
    prepared(load_bundle("main"), place / "s.db")
    with sqlite3.connect(place / "s.db") as database:
        order = "length(data)" if rows == "where" else "length(data) DESC"
        database.execute(f"UPDATE plans SET data = x'00' WHERE key = (SELECT key FROM plans ORDER BY {order} LIMIT 1)")
    database.close()
    assert again("main", place / "s.db") is None


async def _nothing(params: dict[str, Any], context: ToolContext, /) -> Any:
    return None


def tool(**properties: Any) -> Tool:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return Tool(name="own", description="own", schema=schema, execute=_nothing, origin="own.py:1")


def test_a_tool_that_has_changed_is_checked_again(place: Path) -> None:
    write(place / "routines/main.yaml", steps=[{"id": "a", "tool": "own", "parameters": {"x": 1}}])
    prepared(load_bundle("main"), place / "s.db", tool(x={"type": "integer"}))
    back = again("main", place / "s.db")
    assert back is not None
    house = ExecutionArchitecture(store=open_store(place / "s.db"), tools=[tool(y={"type": "integer"})])
    problems = [problem for problem in house.check(back) if not problem.warning]
    assert [(problem.message, problem.line > 0) for problem in problems] == [
        ("the tool 'own' has no parameter 'x'", True)
    ]


def test_a_recorded_definition_comes_back_for_a_resume(place: Path) -> None:
    run = prepared(load_bundle("main"), place / "s.db")
    journal = open_store(place / "s.db")
    record = journal.find(run.run_id)[1]
    assert record.definition is not None
    back = recall_recorded(record.definition, journal)
    assert back is not None
    assert back.bundle == load_stored(record.definition).bundle
    assert back.recalled is not None


def test_problems_at_run_time_name_their_line(place: Path) -> None:
    prepared(load_bundle("main"), place / "s.db")
    back = again("main", place / "s.db")
    assert back is not None
    key = back.main
    assert back.sources[key].locate(("steps", 1)) == load_bundle("main").sources[key].locate(("steps", 1))


def test_a_run_that_is_not_kept_keeps_no_plan(place: Path) -> None:
    house = ExecutionArchitecture()
    house.prepare(load_bundle("main"), {})
    house._remember()
    assert recall("main", house.store) is None
