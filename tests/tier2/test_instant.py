"""Steps that answer at once need no task; what they do, and what stands in the log, is what every step does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.journal import open_store
from vrooli_cli.model.routine import Bundle, ChildRoutine, OnError, Routine, Step, ToolCall
from vrooli_cli.model.run import ExecutionContext, ExecutionResult, RoutineExecutionInput, TierExecutionRequest
from vrooli_cli.tier2 import run as shell
from vrooli_cli.tier2.tier import PreparedRun
from vrooli_cli.tier3.registry import Tool, ToolContext

ANYTHING = {"type": "object", "properties": {"message": {}}}


def prepared(architecture: ExecutionArchitecture, *steps: Step, child: Routine | None = None) -> PreparedRun:
    routines = {"m": Routine(name="m", steps=steps, key="m")} | ({"c": child} if child is not None else {})
    asked = RoutineExecutionInput(routine_id="m", bundle=Bundle("m", routines))
    request = TierExecutionRequest(context=ExecutionContext(execution_id="r"), input=asked)
    return architecture.tier2.prepare(request)


async def done(*steps: Step, tools: tuple[Tool, ...] = ()) -> ExecutionResult:
    async with ExecutionArchitecture(tools=tools) as architecture:
        return await prepared(architecture, *steps).run()


def echo(name: str, message: Any, **more: Any) -> Step:
    return Step(id=name, action=ToolCall("echo", {"message": message}), **more)


async def test_an_instant_tool_that_waits_after_all_is_waited_for() -> None:
    waits: list[bool] = []

    async def late(params: dict[str, Any], context: ToolContext) -> Any:
        await asyncio.sleep(0)
        waits.append(asyncio.current_task() is not None)
        try:
            await asyncio.wait_for(asyncio.sleep(10), 0.01)
        except TimeoutError:
            return params["message"]

    tool = Tool(name="late", description="", schema=ANYTHING, execute=late, effects="none", instant=True)
    steps = [Step(id=f"s{i}", action=ToolCall("late", {"message": i})) for i in range(3)]
    result = await done(*steps, tools=(tool,))
    assert result.success and result.result == {"s0": 0, "s1": 1, "s2": 2} and waits == [True] * 3


async def test_an_instant_tool_that_waits_is_stopped_by_a_cancel() -> None:
    started = asyncio.Event()

    async def forever(params: dict[str, Any], context: ToolContext) -> Any:
        started.set()
        await asyncio.Event().wait()

    tool = Tool(name="forever", description="", schema=ANYTHING, execute=forever, effects="none", instant=True)
    async with ExecutionArchitecture(tools=(tool,)) as architecture:
        run = prepared(architecture, echo("a", 1), Step(id="b", action=ToolCall("forever", {}), after=("a",)))
        task = asyncio.create_task(run.run())
        await started.wait()
        run.cancel()
        result = await task
    assert (result.status.value, result.steps["b"].status.value) == ("cancelled", "cancelled")


async def test_an_instant_step_with_effects_waits_for_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "TURN_SECONDS", 60.0)
    store = open_store(tmp_path / "s.db")
    stored: list[int] = []

    async def effect(params: dict[str, Any], context: ToolContext) -> Any:
        stored.append(sum(b'"step_id":"b"' in line and b"tool/called" in line for line in store.read(1)))

    tool = Tool(name="effect", description="", schema=ANYTHING, execute=effect, effects="once", instant=True)
    async with ExecutionArchitecture(store=store, tools=(tool,)) as architecture:
        run = prepared(architecture, echo("a", 1), Step(id="b", action=ToolCall("effect", {}), after=("a",)))
        assert (await run.run()).success
    assert stored == [1]


async def test_a_failure_of_an_instant_step_is_taken_as_any_other() -> None:
    fails = Step(id="f", action=ToolCall("fail", {"message": "no"}), on_error=OnError("recover", "saved"))
    result = await done(echo("a", 1), fails, echo("b", "{{ steps.f.result }}"))
    assert result.success and result.result == {"a": 1, "b": "saved"}


async def test_the_log_gives_the_lines_that_were_told(tmp_path: Path) -> None:
    child = Routine(name="c", steps=(echo("x", "ü\t\n\"'\\ \u2028"), echo("y", "{{ steps.x.result }}")), key="c")
    store, told = open_store(tmp_path / "s.db"), bytearray()
    call = Step(id="c", action=ChildRoutine("c", "c", {}))
    async with ExecutionArchitecture(store=store) as architecture:
        run = prepared(architecture, echo("a", 1), call, echo("b", "{{ steps.c.result.y }}"), child=child)
        run.channel.sink(told.extend)
        assert (await run.run()).success
        key, _ = store.find("r")
        assert b"".join(store.read(key)) == bytes(told)
        lines = list(store.read(key))
        assert [list(store.read(key, first)) for first in (1, 5, len(lines))] == [lines, lines[4:], lines[-1:]]
