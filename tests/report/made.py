"""Histories and pages of runs that never happened, made of events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from vrooli_cli.journal.history import fold
from vrooli_cli.model import events as e
from vrooli_cli.model.history import RunHistory
from vrooli_cli.model.plan import PlannedStep, PlanSummary
from vrooli_cli.model.store import RunRecord

START = datetime(2026, 1, 1, tzinfo=UTC)


def wires(*facts: tuple[int, e.Event]) -> list[dict[str, Any]]:
    """(milliseconds, fact) → events as they stand in the log."""
    made = []
    for number, (ms, fact) in enumerate(facts, 1):
        event = e.ExecutionEvent(
            type=fact.type,
            execution_id=fact.execution_id,
            payload=fact.payload(),
            tier=fact.tier,
            id=f"r-{number}",
            seq=number,
            timestamp=START + timedelta(milliseconds=ms),
        )
        made.append(event.wire())
    return made


def step(name: str, at: int, took: int, *, error: Mapping[str, Any] | None = None, result: Any = None) -> list[Any]:
    """The events of a step with one attempt."""
    common: dict[str, Any] = {"execution_id": "r", "step_id": name}
    begun = (at, e.ExecutionStarted(attempt=1, tool_name="shell", **common))
    if error is None:
        verdict: e.Event = e.StepCompleted(result=result, duration_ms=took, **common)
        ended: e.Event = e.ExecutionCompleted(attempt=1, duration_ms=took, **common)
    else:
        verdict = e.StepFailed(error=error, duration_ms=took, **common)
        ended = e.ExecutionFailed(attempt=1, duration_ms=took, error=error, **common)
    return [begun, (at + took, ended), (at + took, verdict)]


def talk(name: str, at: int, words: str) -> list[Any]:
    """The events of a step in which a model calls a tool and then answers."""
    common: dict[str, Any] = {"execution_id": "r", "step_id": name, "attempt": 1}
    model: dict[str, Any] = {**common, "model": "m-2026"}
    asked = [{"role": "system", "content": words}, {"role": "user", "content": words}]
    use = {"id": "c", "function": {"name": "file_read", "arguments": json.dumps({"path": words})}}
    tool: dict[str, Any] = {**common, "tool_name": "file_read"}
    return [
        (at, e.ExecutionStarted(model="m", strategy="reasoning", **common)),
        (at, e.AIRequested(messages=asked, turn=1, **model)),
        (at + 1, e.AIResponded(duration_ms=1, turn=1, tool_calls=[use], credits=3, usage={"input_tokens": 5}, **model)),
        (at + 1, e.ToolCalled(effects="none", parameters={"path": words}, call_id="c", **tool)),
        (at + 2, e.ToolReturned(duration_ms=1, result=words, **tool)),
        (at + 2, e.AIRequested(turn=2, **model)),
        (at + 3, e.AIResponded(duration_ms=1, turn=2, text=words, credits=3, usage={"input_tokens": 5}, **model)),
        (at + 3, e.ExecutionCompleted(duration_ms=3, **common)),
        (at + 3, e.StepCompleted(execution_id="r", step_id=name, result=words, duration_ms=3)),
    ]


def run_of(
    facts: Iterable[Any], *, error: Mapping[str, Any] | None = None, result: Any = None, name: str = "made"
) -> Any:
    """(history, events) of a run with these facts."""
    inner = sorted(facts, key=lambda fact: fact[0])
    last = max((ms for ms, _ in inner), default=0)
    end: e.Event = (
        e.RoutineFailed(execution_id="r", routine=name, error=error)
        if error is not None
        else e.RoutineCompleted(execution_id="r", routine=name, result=result)
    )
    start = e.RoutineStarted(execution_id="r", routine=name, step_count=len(inner))
    lines = wires((0, start), *inner, (last, end))
    record = RunRecord(id="r", name=name, started_ns=round(START.timestamp()) * 10**9, status="completed")
    history: RunHistory = fold(1, record, lines)
    return history, lines


def plan_of(parents: Mapping[str, tuple[str, ...]]) -> PlanSummary:
    """A plan of these steps, batches made from their parents."""
    depth: dict[str, int] = {}
    for name, above in parents.items():
        depth[name] = 1 + max((depth[parent] for parent in above), default=-1)
    batches = tuple(
        tuple(name for name in parents if depth[name] == level) for level in range(max(depth.values(), default=-1) + 1)
    )
    steps = {name: PlannedStep(name, "tool", "shell", parents=above) for name, above in parents.items()}
    return PlanSummary("made", batches, steps)
