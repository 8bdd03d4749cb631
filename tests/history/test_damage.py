"""Rows of the journal that are not what was written are one line at every verb; what a model cost is found in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
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
    ],
    ids=["a line", "half a row", "an empty row", "bytes"],
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
