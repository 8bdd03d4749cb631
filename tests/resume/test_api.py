"""Resume from Python: what the ledger, approvals and time of earlier lives mean for the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.errors import InputError, ToolError, UnknownRunError
from vrooli_cli.journal import open_store
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.project import Settings
from vrooli_cli.model.run import ExecutionResult
from vrooli_cli.tier2.tier import PreparedRun
from vrooli_cli.tier3.registry import Tool, ToolContext

PAID = """
steps:
  - {id: a, tool: paid}
  - {id: b, tool: paid, depends_on: [a]}
  - {id: gate, tool: gate, depends_on: [b], effects: none}
  - {id: c, tool: paid, depends_on: [gate]}
"""


class Counted:
    """A tool that costs 40 credits, and one that fails until it is told not to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.open = False

    async def pay(self, params: dict[str, Any], context: ToolContext, /) -> Any:
        self.calls.append(context.step_id)
        return len(self.calls)

    async def gate(self, params: dict[str, Any], context: ToolContext, /) -> Any:
        if not self.open:
            raise ToolError("closed")

    @property
    def tools(self) -> list[Tool]:
        schema: dict[str, Any] = {"type": "object", "properties": {}}
        return [
            Tool(name="paid", description="", schema=schema, execute=self.pay, effects="none", credits=40),
            Tool(name="gate", description="", schema=schema, execute=self.gate, effects="none"),
        ]


async def lived(folder: Path, counted: Counted, credits: int, resume: bool) -> ExecutionResult:
    """One life of the run, in a house of its own on the same store."""
    store = open_store(folder / "s.db")
    settings = Settings(max_credits=credits)
    async with ExecutionArchitecture(settings, store=store, tools=counted.tools, folder=str(folder)) as house:
        if resume:
            prepared = house.resume("last")
        else:
            (folder / "r.yaml").write_text(PAID)
            prepared = house.prepare(load_bundle(folder / "r.yaml"), {})
        assert isinstance(prepared, PreparedRun)
        return await prepared.run()


async def test_credits_count_over_all_lives(tmp_path: Path) -> None:
    counted = Counted()
    first = await lived(tmp_path, counted, 100, resume=False)
    assert first.error is not None
    assert first.resources_used.credits_used == "80"
    counted.open = True
    second = await lived(tmp_path, counted, 100, resume=True)
    assert second.error is not None
    assert second.error.code == "CREDITS_EXHAUSTED"
    third = await lived(tmp_path, counted, 120, resume=True)
    assert third.success
    assert third.resources_used.credits_used == "120"
    assert counted.calls == ["a", "b", "c"]
    assert third.steps["a"].reused
    assert third.context.execution_id == first.context.execution_id


async def test_a_run_at_work_or_over_is_not_resumed(tmp_path: Path) -> None:
    counted = Counted()
    counted.open = True
    async with ExecutionArchitecture(store=open_store(tmp_path / "s.db"), tools=counted.tools) as house:
        (tmp_path / "r.yaml").write_text(PAID)
        prepared = house.prepare(load_bundle(tmp_path / "r.yaml"), {})
        with pytest.raises(InputError, match="is at work"):
            house.resume(prepared.run_id)
        assert isinstance(prepared, PreparedRun)
        assert (await prepared.run()).success
        with pytest.raises(InputError, match="has completed"):
            house.resume(prepared.run_id)
        with pytest.raises(UnknownRunError):
            house.resume("nope")


async def test_a_workflow_of_the_seeds_types_is_resumed_from_its_record(tmp_path: Path) -> None:
    from vrooli_cli.model.run import (
        ExecutionContext,
        RoutineExecutionInput,
        TierExecutionRequest,
        WorkflowDefinition,
        WorkflowStep,
    )

    counted = Counted()
    steps = (WorkflowStep(id="a", tool_name="paid"), WorkflowStep(id="g", tool_name="gate"))
    asked = RoutineExecutionInput(routine_id="r", workflow=WorkflowDefinition(steps=steps))
    async with ExecutionArchitecture(store=open_store(tmp_path / "s.db"), tools=counted.tools) as house:
        request = TierExecutionRequest(context=ExecutionContext(execution_id="mine"), input=asked)
        assert not (await house.tier2.execute(request)).success
    counted.open = True
    async with ExecutionArchitecture(store=open_store(tmp_path / "s.db"), tools=counted.tools) as house:
        prepared = house.resume("mine")
        assert isinstance(prepared, PreparedRun)
        assert (await prepared.run()).success
    assert counted.calls == ["a"]
