"""Rows of the journal that are not what was written are one line at every verb; what a model cost is found in them."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.resume.conftest import Shell
from vrooli_cli.bus import EventBus
from vrooli_cli.journal import open_store
from vrooli_cli.journal.cost import costs
from vrooli_cli.model.clock import SystemClock
from vrooli_cli.model.events import AIResponded, EventMetadata, StepCompleted
from vrooli_cli.model.store import RunRecord

TWO = "steps: [{id: a, tool: echo, parameters: {message: 1}}, {id: b, depends_on: [a], wait: 1ms}]"
VERBS = ("runs show last", "runs logs last", "runs export last", "report last page.html", "rerun last --failed -q")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.replace(b'{"step_id', b'["step_id', 1),
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\xff\x00" * 20,
        lambda data: data.replace(b'"attempts":1', b'"attempts":3'),
    ],
    ids=["a line", "half a row", "an empty row", "bytes", "a value"],
)
def test_a_damaged_row_is_one_line_and_no_bug(vrooli: Shell, spoil: Callable[[bytes], bytes]) -> None:
    assert vrooli("run", vrooli.write(TWO)).code == 0
    with closing(sqlite3.connect(vrooli.store)) as database, database:
        place, data = database.execute("SELECT place, data FROM log ORDER BY place LIMIT 1 OFFSET 1").fetchone()
        database.execute("UPDATE log SET data=? WHERE place=?", (spoil(data), place))
    for verb in VERBS:
        said = vrooli(*verb.split())
        assert said.code == 1, verb
        assert "damaged" in said.err.splitlines()[-1], verb
        assert len(vrooli.runs()) == 1, "nothing began"


@pytest.mark.parametrize("what", ["definition", "inputs", "status"])
def test_a_damaged_run_is_one_line_and_no_bug(vrooli: Shell, what: str) -> None:
    assert vrooli("run", vrooli.write(TWO)).code == 0
    with closing(sqlite3.connect(vrooli.store)) as database, database:
        if what == "definition":
            database.execute("UPDATE texts SET data=?", (zlib.compress(b'{"main": "another"}'),))
        else:
            database.execute(f"UPDATE runs SET {what}='x[1'")
    for verb in VERBS:
        said = vrooli(*verb.split())
        assert said.code == 1, verb
        assert "damaged" in said.err.splitlines()[-1], verb


def test_a_large_result_that_is_lost_is_told_and_never_printed_as_the_result(vrooli: Shell) -> None:
    step = "{id: a, tool: echo, parameters: {message: \"{{ 'x' * 90000 }}\"}}"
    text = f"{{steps: [{step}], outputs: {{x: '{{{{ steps.a.result }}}}'}}}}"
    assert vrooli("run", vrooli.write(text)).code == 0
    assert vrooli("resume", "last").out == "x" * 90_000 + "\n"
    for blob in Path(f"{vrooli.store}.blobs").glob("*/*"):
        blob.write_bytes(b"y" + blob.read_bytes()[1:])
    for verb, code in (("runs show -o json", 0), ("runs export", 0), ("resume last", 1)):
        said = vrooli(*verb.split())
        assert said.code == code, verb
        assert "beside the store is damaged" in said.err.splitlines()[-1], verb
    assert said.out == ""


def test_what_is_kept_for_other_runs_is_made_again_when_it_is_damaged(vrooli: Shell) -> None:
    text = "steps: [{id: a, tool: echo, cache: {ttl: 1h}, parameters: {message: kept}}]"
    argv = ["run", str(vrooli.write(text)), "-o", "json"]
    assert vrooli(*argv).json["steps"]["a"]["reused"] is False
    assert vrooli(*argv).json["steps"]["a"]["reused"] is True
    with closing(sqlite3.connect(vrooli.store)) as database, database:
        for table in ("cache", "plans"):
            for key, data in database.execute(f"SELECT key, data FROM {table}").fetchall():
                database.execute(f"UPDATE {table} SET data=? WHERE key=?", (data.replace(b"kept", b"lost"), key))
    said = vrooli(*argv).json
    assert (said["steps"]["a"]["reused"], said["result"]) == (False, {"a": "kept"})


def test_a_store_of_the_first_version_is_read_and_gone_on_with(vrooli: Shell) -> None:
    """Rows, cached results and plans without a sum; the same file has both from then on."""
    text = "steps: [{id: a, tool: echo, cache: {ttl: 1h}, parameters: {message: 1}}, {id: b, tool: fail}]"
    assert vrooli("run", vrooli.write(text)).code == 1
    with closing(sqlite3.connect(vrooli.store)) as database, database:
        database.execute("UPDATE log SET n=n & 4294967295")
        for table in ("cache", "plans"):
            database.execute(f"UPDATE {table} SET data=substr(data, 6)")
        database.execute("PRAGMA user_version=1")
    before = vrooli.history()
    assert before.steps["a"].status == "completed"
    assert vrooli("resume", "last").code == 1
    assert vrooli("run", vrooli.write(text), "-o", "json").json["steps"]["a"]["reused"] is True
    with closing(sqlite3.connect(vrooli.store)) as database:
        assert database.execute("PRAGMA user_version").fetchone()[0] == 2
        sums = [number >> 32 for (number,) in database.execute("SELECT n FROM log ORDER BY place")]
    assert not all(sums)
    assert any(sums)


async def test_what_models_cost_is_added_up_from_the_rows_as_they_are_kept() -> None:
    store = open_store(":memory:")
    bus = EventBus(store, SystemClock())
    channel = bus.open(RunRecord(id="r", name="r", status="completed"), EventMetadata())
    for nth in range(3):
        model = "large" if nth else "small"
        about: dict[str, Any] = {"model": model, "credits": 7, "usage": {"input_tokens": 10, "output_tokens": 5}}
        channel.publish(AIResponded(execution_id="r", step_id=f"s{nth}", attempt=1, duration_ms=1, **about))
    channel.publish(StepCompleted(execution_id="r", step_id="x", result="it says tier3/ai/responded", attempts=1))
    await bus.close()
    found = {line.name: (line.calls, line.credits, line.input_tokens) for line in costs(store, "model")}
    assert found == {"large": (2, 14, 20), "small": (1, 7, 10)}
