"""Event agents: they listen, act beside the run, start nothing themselves, and guard actions as barriers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from vrooli_cli.agents import Monitor, Security
from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.errors import DefinitionError
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.project import load_project
from vrooli_cli.model import events as e
from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.run import ExecutionResult
from vrooli_cli.tier3.ai.scripted import ScriptedAI

ECHO = {"id": "a", "tool": "echo", "parameters": {"message": "hi"}}


async def run(
    folder: Path, ai: Any = None, given: dict[str, Any] | None = None, **keys: Any
) -> tuple[ExecutionResult, list[ExecutionEvent]]:
    path = folder / "r.yaml"
    path.write_text(json.dumps({"name": "r", **keys}))
    project = load_project(folder)
    async with ExecutionArchitecture(ai=ai, folder=str(folder), project=project) as architecture:
        prepared = architecture.prepare(load_bundle(path, project=project), given or {})
        result = await prepared.run()
        assert prepared.bug is None, prepared.bug
        return result, architecture.event_bus.history()


def findings(events: list[ExecutionEvent]) -> list[Any]:
    return [event.payload for event in events if event.type == "agent/finding"]


async def test_an_agent_acts_on_the_events_that_it_has_subscribed_to(tmp_path: Path) -> None:
    agent = {
        "subscribe": "tier2/step/completed",
        "when": "event.payload.step_id == 'a'",
        "tool": "file_write",
        "parameters": {"path": "seen.txt", "content": "{{ event.payload.result }} {{ who }}"},
    }
    result, _ = await run(
        tmp_path, steps=[ECHO, {**ECHO, "id": "b"}], events=[agent], inputs={"who": {"default": "me"}}
    )
    assert result.success
    assert (tmp_path / "seen.txt").read_text() == "hi me"


async def test_what_an_agent_causes_starts_no_agent(tmp_path: Path) -> None:
    agent = {"subscribe": "**", "tool": "echo", "parameters": {"message": "{{ event.type }}"}, "max_runs": 1000}
    _, events = await run(tmp_path, steps=[ECHO], events=[agent])
    started = [event for event in events if event.type == "tier2/routine/started"]
    own = {event.execution_id for event in started if (event.payload.get("parent_step_id") or "").startswith("events.")}
    told = [e for e in events if e.type == "tier2/step/completed" and e.execution_id in own]
    others = [event.type for event in events if event.execution_id not in own]
    assert len(others) > 5
    assert sorted(event.payload["result"] for event in told) == sorted(others)


async def test_max_runs_bounds_an_agent(tmp_path: Path) -> None:
    steps = [{"id": "f", "for_each": "[1, 2, 3, 4, 5]", "tool": "echo", "parameters": {"message": "{{ item }}"}}]
    agent = {"subscribe": "tier3/tool/called", "max_runs": 2, "tool": "echo", "parameters": {"message": "x"}}
    _, events = await run(tmp_path, steps=steps, events=[agent])
    started = [e for e in events if e.type == "tier2/routine/started" and e.payload["routine"].startswith("events.")]
    assert len(started) == 2


async def test_a_failing_agent_is_a_warning_and_the_run_succeeds(tmp_path: Path) -> None:
    agent = {"name": "alarm", "subscribe": "tier2/routine/completed", "tool": "fail", "parameters": {"message": "no"}}
    bad_when = {"subscribe": "tier2/step/completed", "when": "event.nothing.at.all", "tool": "echo"}
    bad_when["parameters"] = {"message": "x"}  # type: ignore[assignment]
    result, events = await run(tmp_path, steps=[ECHO], events=[agent, bad_when])
    assert result.success
    told = findings(events)
    assert [one["severity"] for one in told] == ["warning", "warning"]
    assert any(one["agent"] == "alarm" and one["message"] == "failed: no" for one in told)
    assert any("`when` failed" in one["message"] for one in told)


async def test_the_run_waits_for_its_agents_and_their_cost_is_on_its_ledger(tmp_path: Path) -> None:
    (tmp_path / "alert.yaml").write_text(
        json.dumps(
            {
                "name": "alert",
                "inputs": {"event": {"type": "object"}},
                "steps": [
                    {"id": "w", "wait": "200ms"},
                    {
                        "id": "x",
                        "tool": "file_write",
                        "depends_on": ["w"],
                        "parameters": {"path": "late.txt", "content": "{{ event.type }}"},
                    },
                ],
            }
        )
    )
    agent = {"subscribe": "tier2/routine/completed", "routine": "alert.yaml"}
    prompt = {"subscribe": "tier2/step/completed", "prompt": "Say something about {{ event.payload.step_id }}."}
    ai = ScriptedAI([{"text": "fine", "usage": {"input_tokens": 10, "output_tokens": 5}}])
    result, events = await run(tmp_path, ai, steps=[ECHO], events=[agent, prompt])
    assert result.success
    assert (tmp_path / "late.txt").read_text() == "tier2/routine/completed"
    assert findings(events) == []
    settled = [event.payload for event in events if event.type == "tier3/ledger/settled"]
    assert [one["account"].split(">")[1] for one in settled] == ["events.1-1"]
    assert "Say something about a." in str(ai.requests[0].messages[-1])


def guard(verdict: Any, **keys: Any) -> dict[str, Any]:
    return {
        "name": "warden",
        "subscribe": "safety/pre_action",
        "barrier": True,
        "tool": "echo",
        "parameters": {"message": verdict},
        **keys,
    }


WRITE = {"id": "w", "tool": "file_write", "parameters": {"path": "out.txt", "content": "x"}}


async def test_a_barrier_denies_and_the_action_does_not_happen(tmp_path: Path) -> None:
    said = {"verdict": "{{ 'deny' if event.payload.tool_name == 'file_write' else 'allow' }}", "reason": "not today"}
    result, events = await run(tmp_path, steps=[ECHO, WRITE], events=[guard(said)])
    assert result.error is not None
    assert result.error.code == "PERMISSION_DENIED"
    assert "not today" in result.error.message
    assert not (tmp_path / "out.txt").exists()
    verdicts = [event.payload for event in events if event.type == "safety/verdict"]
    assert [(one["guard"], one["verdict"]) for one in verdicts] == [("warden", "deny")]
    assert [event.payload["tool_name"] for event in events if event.type == "safety/pre_action"] == ["file_write"]


@pytest.mark.parametrize("said", [{"verdict": "maybe"}, "allow", None, {"reason": "forgot"}])
async def test_anything_but_allow_is_deny(tmp_path: Path, said: Any) -> None:
    result, _ = await run(tmp_path, steps=[WRITE], events=[guard(said)])
    assert result.error is not None
    assert result.error.code == "PERMISSION_DENIED"


async def test_a_barrier_that_allows_lets_the_action_through_as_often_as_it_is_asked(tmp_path: Path) -> None:
    write = {"tool": "file_write", "parameters": {"path": "o{{ item }}.txt", "content": "x"}}
    steps = [{"id": "f", "for_each": "[1, 2, 3]", **write}]
    result, _ = await run(tmp_path, steps=steps, events=[guard({"verdict": "allow"}, max_runs=1)])
    assert result.success, result.error
    assert all(os.path.exists(tmp_path / f"o{n}.txt") for n in (1, 2, 3))  # noqa: ASYNC240, PTH110


async def test_a_barrier_without_an_answer_in_time_denies(tmp_path: Path) -> None:
    slow = {
        "subscribe": "safety/pre_action",
        "barrier": True,
        "timeout": "300ms",
        "tool": "shell",
        "parameters": {"command": ["sleep", "5"]},
    }
    result, _ = await run(tmp_path, steps=[WRITE], events=[slow])
    assert result.error is not None
    assert result.error.code == "PERMISSION_DENIED"
    assert not (tmp_path / "out.txt").exists()


async def test_a_prompt_may_be_a_guard(tmp_path: Path) -> None:
    agent = {"subscribe": "safety/pre_action", "barrier": True, "prompt": "May this be? {{ event.payload }}"}
    ai = ScriptedAI([{"json": {"verdict": "allow", "reason": "harmless"}}])
    result, _ = await run(tmp_path, ai, steps=[WRITE], events=[agent])
    assert result.success, result.error


async def test_a_child_routines_agents_hear_the_child_and_nothing_else(tmp_path: Path) -> None:
    heard = {
        "subscribe": "tier2/step/completed",
        "when": "event.payload.step_id != word",
        "tool": "echo",
        "parameters": {"message": "{{ word }} heard {{ event.payload.step_id }}"},
    }
    child = {
        "name": "child",
        "inputs": {"word": {"type": "string"}},
        "steps": [{**WRITE, "id": "inner"}],
        "events": [heard, guard({"verdict": "allow", "reason": "{{ word }}"})],
    }
    (tmp_path / "child.yaml").write_text(json.dumps(child))
    call = {"id": "call", "routine": "child.yaml", "parameters": {"word": "hello"}, "depends_on": ["a"]}
    outer = {**WRITE, "id": "outer", "parameters": {"path": "outer.txt", "content": "x"}}
    result, events = await run(tmp_path, steps=[ECHO, outer, call])
    assert result.success, result.error
    said = [e.payload["result"] for e in events if e.type == "tier2/step/completed"]
    assert "hello heard call/inner" in said
    assert not any(str(one).startswith("hello heard a") for one in said)
    verdicts = [event.payload for event in events if event.type == "safety/verdict"]
    assert [(one["step_id"], one["reason"]) for one in verdicts] == [("call/inner", "hello")]


async def test_mistakes_of_agents_are_found_when_the_file_is_loaded(tmp_path: Path) -> None:
    agent = {"subscribe": "**", "when": "evnt.type == 'x'", "tool": "echo", "parameters": {"message": "{{ steps.a }}"}}
    with pytest.raises(DefinitionError) as caught:
        await run(tmp_path, steps=[ECHO], events=[agent])
    told = [problem.message for problem in caught.value.problems]
    assert "there is no name 'evnt' here" in told
    assert "there is no step 'a'" in told
    assert all(problem.line for problem in caught.value.problems)


async def test_denied_calls_and_secrets_in_outputs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_OF_MINE", "s3cr3t-value")
    steps = [
        {"id": "show", "tool": "echo", "parameters": {"message": "it is {{ token }}"}},
        {"id": "no", "tool": "file_read", "parameters": {"path": "x"}, "on_error": {"recover": None}},
    ]
    _, events = await run(
        tmp_path,
        steps=steps,
        inputs={"token": {"type": "string", "secret": True, "env": "TOKEN_OF_MINE"}},
        permissions={"deny": ["file_read"]},
    )
    told = [one["message"] for one in findings(events)]
    assert "the output of show held a secret; it is masked wherever it is shown or kept" in told
    assert any(one.startswith("a call of file_read by no was denied") for one in told)


async def test_a_project_turns_a_built_in_agent_off(tmp_path: Path) -> None:
    (tmp_path / "vrooli.yaml").write_text("agents: {security: false}\n")
    steps = [{"id": "no", "tool": "file_read", "parameters": {"path": "x"}}]
    _, events = await run(tmp_path, steps=steps, permissions={"deny": ["file_read"]})
    assert findings(events) == []


def done(step: str, ms: int) -> e.ExecutionCompleted:
    return e.ExecutionCompleted(execution_id="r", step_id=step, attempt=1, duration_ms=ms)


def test_the_monitor_finds_slow_steps_once_and_only_beside_others() -> None:
    monitor = Monitor()
    assert list(monitor.hear(done("first", 60_000))) == []
    for n in range(20):
        assert list(monitor.hear(done(f"quick[{n}]", 100))) == []
    (found,) = monitor.hear(done("slow[1]", 30_000))
    assert found.step_id == "slow"
    assert list(monitor.hear(done("slow[2]", 30_000))) == []


def test_the_monitor_finds_a_high_rate_of_errors_once() -> None:
    monitor = Monitor()
    bad = e.ExecutionFailed(execution_id="r", step_id="x", attempt=1, duration_ms=1, error={})
    told = [found for _ in range(30) for found in monitor.hear(bad)]
    assert [found.message for found in told] == ["10 of 10 attempts have failed"]


def test_the_monitor_names_who_spends() -> None:
    monitor = Monitor()
    for step, credits in (("a", 10), ("b[1]", 40), ("b[2]", 40)):
        fact = e.LedgerSettled(execution_id="r", step_id=step, reservation="r1", credits=credits, account="r")
        assert list(monitor.hear(fact)) == []
    (found,) = monitor.hear(e.ResourcesWarning(execution_id="r", resource="credits", used=90, limit=100))
    assert found.message == "90 % of 100 credits are used; most by b 80, a 10"


def test_security_says_the_same_thing_once() -> None:
    security = Security(has_secrets=False)
    denied = e.PermissionDenied(
        execution_id="r", step_id="s", tool_name="shell", rule="deny: shell", source="f:1", reason="no", agent_id="bob"
    )
    told = [found for _ in range(3) for found in security.hear(denied)]
    assert [found.message for found in told] == ["a call of shell by bob (s) was denied by deny: shell"]
