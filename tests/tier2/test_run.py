"""The shell of tier 2 with everything real under it: tools, processes, the bus and a store on disk."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.journal import open_store
from vrooli_cli.language.masking import show
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.routine import Bundle, Routine, Step, ToolCall
from vrooli_cli.model.run import (
    ExecutionContext,
    ExecutionResult,
    ExecutionStatus,
    ResourceAllocation,
    RoutineExecutionInput,
    TierExecutionRequest,
)
from vrooli_cli.tier2.prepared import RunOptions
from vrooli_cli.tier2.tier import PreparedRun
from vrooli_cli.tier3.registry import Tool, ToolContext


class Probe:
    """A tool that notes who runs beside whom."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.order: list[str] = []
        self.ended: list[str] = []
        self.peak = 0

    async def __call__(self, params: dict[str, Any], context: ToolContext, /) -> Any:
        self.now.add(context.step_id)
        self.order.append(context.step_id)
        self.peak = max(self.peak, len(self.now))
        await asyncio.sleep(params.get("seconds", 0))
        self.now.discard(context.step_id)
        self.ended.append(context.step_id)
        return params.get("seconds", 0)

    @property
    def tool(self) -> Tool:
        """The tool ``probe``."""
        schema = {"type": "object", "properties": {"seconds": {"type": "number"}}}
        return Tool(name="probe", description="Sleeps.", schema=schema, execute=self, effects="none")


@pytest.fixture
def probe() -> Probe:
    """A fresh probe."""
    return Probe()


@pytest.fixture
async def house(probe: Probe, tmp_path: Path) -> AsyncIterator[ExecutionArchitecture]:
    """A house with the probe in its box and a journal on disk."""
    store = open_store(tmp_path / "store.db")
    async with ExecutionArchitecture(store=store, tools=[probe.tool], folder=str(tmp_path)) as architecture:
        yield architecture


def prepared(house: ExecutionArchitecture, steps: list[Step], slots: int = 8, **options: Any) -> PreparedRun:
    """A run of a graph of steps."""
    bundle = Bundle("m", {"m": Routine(name="m", steps=tuple(steps), key="m")})
    request = TierExecutionRequest(
        context=ExecutionContext(execution_id=f"run-{random.random()}"),
        input=RoutineExecutionInput(routine_id="m", bundle=bundle),
        allocation=ResourceAllocation(max_concurrent_steps=slots),
    )
    return house.tier2.prepare(request, RunOptions(**options))


def probing(name: str, seconds: float = 0, *, after: tuple[str, ...] = ()) -> Step:
    """A step that sleeps."""
    return Step(id=name, action=ToolCall("probe", {"seconds": seconds}), after=after)


async def from_yaml(house: ExecutionArchitecture, folder: Path, text: str, **options: Any) -> ExecutionResult:
    """The result of a routine file."""
    (folder / "r.yaml").write_text(text)
    loaded = load_bundle(folder / "r.yaml")
    return await house.prepare(loaded, {}, options=RunOptions(**options)).run()


async def test_every_step_runs_once_after_its_parents_and_never_more_than_the_limit(
    house: ExecutionArchitecture, probe: Probe
) -> None:
    chance = random.Random(7)
    steps = [
        probing(f"s{i}", 0.001, after=tuple({f"s{chance.randrange(i)}" for _ in range(min(i, 3))})) for i in range(300)
    ]
    result = await prepared(house, steps, slots=5).run()
    assert result.success
    assert sorted(probe.order) == sorted(step.id for step in steps)
    assert probe.peak <= 5
    ended = {name: number for number, name in enumerate(probe.ended)}
    began = {name: number for number, name in enumerate(probe.order)}
    for step in steps:
        assert all(ended[parent] <= began[step.id] for parent in step.after)


async def test_a_wide_run_takes_as_long_as_its_critical_path(house: ExecutionArchitecture, probe: Probe) -> None:
    steps = [probing("start")] + [probing(f"w{i}", 0.2, after=("start",)) for i in range(50)]
    began = time.perf_counter()
    assert (await prepared(house, steps, slots=50).run()).success
    assert probe.peak == 50
    assert time.perf_counter() - began < 0.2 * 4


async def test_nobody_sees_an_event_before_it_is_in_the_log(house: ExecutionArchitecture, probe: Probe) -> None:
    run = prepared(house, [probing("a"), probing("b", after=("a",))])
    missing: list[int] = []

    def look(event: ExecutionEvent) -> None:
        logged = {seen.seq for seen in house.event_bus.history()}
        if event.seq not in logged:
            missing.append(event.seq)

    run.channel.fold(look)
    assert (await run.run()).success
    assert not missing


async def test_a_finished_run_is_in_the_history_with_its_status(house: ExecutionArchitecture, probe: Probe) -> None:
    run = prepared(house, [probing("a")])
    await run.run()
    _, record = house.store.find(run.run_id)
    assert record.status == "completed"
    assert record.ended_ns is not None


async def test_a_cancelled_run_leaves_no_process(house: ExecutionArchitecture, tmp_path: Path) -> None:
    import psutil

    steps = [Step(id=f"s{i}", action=ToolCall("shell", {"command": "sleep 60 & sleep 60"})) for i in range(4)]
    run = prepared(house, steps, grace_ms=300)
    running = asyncio.create_task(run.run())
    for _ in range(1000):
        if sum(child.name() == "sleep" for child in psutil.Process().children(recursive=True)) >= 8:
            break
        await asyncio.sleep(0.02)
    run.cancel("user")
    result = await asyncio.wait_for(running, 10)
    assert result.status is ExecutionStatus.CANCELLED
    assert {step.status.value for step in result.steps.values()} == {"cancelled"}
    assert not [child for child in psutil.Process().children(recursive=True) if child.name() == "sleep"]


async def test_a_step_time_out_and_a_run_time_out_are_told_apart(house: ExecutionArchitecture, tmp_path: Path) -> None:
    step = await from_yaml(house, tmp_path, "steps: [{id: a, wait: 20s, timeout: 50ms}]")
    assert step.error is not None
    assert step.error.code == "STEP_TIMEOUT"
    run = await from_yaml(house, tmp_path, "steps: [{id: a, wait: 20s}]\nallocation: {max_duration: 50ms}")
    assert run.error is not None
    assert run.error.code == "RUN_TIMEOUT"


async def test_a_value_in_a_command_is_one_argument_and_never_code(
    house: ExecutionArchitecture, tmp_path: Path
) -> None:
    text = """
vars: {evil: "$(touch pwned) ; touch pwned ' \\" `touch pwned`"}
steps:
  - {id: a, tool: shell, parameters: {command: "printf '%s|%s' {{ vars.evil }} \\"{{ vars.evil }}\\""}}
outputs: {o: "{{ steps.a.result.stdout }}"}
"""
    result = await from_yaml(house, tmp_path, text)
    evil = "$(touch pwned) ; touch pwned ' \" `touch pwned`"
    assert result.result == {"o": f"{evil}|{evil}"}
    assert not (tmp_path / "pwned").exists()


async def test_a_secret_is_masked_in_everything_that_is_stored(house: ExecutionArchitecture, tmp_path: Path) -> None:
    canary = "hunter2-canary"
    text = """
inputs: {token: {type: string, secret: true}}
steps:
  - {id: a, tool: shell, parameters: {command: 'echo "$TOKEN"', env: {TOKEN: "{{ token }}"}}}
"""
    (tmp_path / "s.yaml").write_text(text)
    run = house.prepare(load_bundle(tmp_path / "s.yaml"), {"token": canary})
    result = await run.run()
    assert result.success
    stored = (tmp_path / "store.db").read_bytes() + (tmp_path / "store.db-wal").read_bytes()
    assert canary.encode() not in stored
    assert b"***" in b"".join(show(line) for line in house.store.read(run.channel.key))


async def test_a_bug_ends_the_run_as_internal_and_is_kept_for_the_report(
    house: ExecutionArchitecture, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(house, [probing("a")])

    def broken(stimulus: object) -> object:
        raise RuntimeError("a bug")

    monkeypatch.setattr(run.machine, "handle", broken)
    result = await run.run()
    assert result.error is not None
    assert result.error.code == "INTERNAL"
    assert isinstance(run.bug, RuntimeError)
