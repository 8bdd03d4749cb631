"""What the tests of tier 3 share: a bench on which one step can be done with real handles around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vrooli_cli.gate import Gate, Policy
from vrooli_cli.ledger import Account, ResourceTracker
from vrooli_cli.model.clock import SystemClock
from vrooli_cli.model.events import Event
from vrooli_cli.tier3.box import default_tools
from vrooli_cli.tier3.executor import UnifiedExecutor
from vrooli_cli.tier3.host import LocalHost
from vrooli_cli.tier3.memory import MemoryMeter
from vrooli_cli.tier3.registry import Tool, ToolRegistry
from vrooli_cli.tier3.scope import STOP, Outcome, Scope, StepCall
from vrooli_cli.tier3.strategies import StrategyFactory


@dataclass
class Bench:
    """Everything that a step needs, real; only the event bus is a list."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tools = ToolRegistry(default_tools())
        self.host = LocalHost()
        self.account = Account("run", 1_000)
        self.executor = UnifiedExecutor(self.tools, StrategyFactory(self.tools), ResourceTracker())
        self.scope = Scope(
            execution_id="run",
            root_id="run",
            emit=self.events.append,
            account=self.account,
            gate=Gate(),
            policy=Policy(),
            tools=self.tools,
            host=self.host,
            clock=SystemClock(),
            folder=str(self.folder),
            grace=0.5,
            memory=MemoryMeter(emit=self.events.append, execution_id="run"),
        )

    def add(self, tool: Tool) -> None:
        """One more tool."""
        self.tools.register_tool(tool)

    def call(self, tool: str, parameters: Mapping[str, Any] | None = None, /, **more: Any) -> StepCall:
        """A step of that tool."""
        return StepCall(address="s", attempt=1, kind="tool", tool=tool, parameters=parameters or {}, **more)

    async def do(self, tool: str, parameters: Mapping[str, Any] | None = None, /, **more: Any) -> Outcome:
        """One attempt."""
        return await self.executor.attempt(self.call(tool, parameters, **more), self.scope)

    async def result(self, tool: str, /, **parameters: Any) -> Any:
        """The result of an attempt that has to succeed."""
        outcome = await self.do(tool, parameters)
        assert outcome.error is None, outcome.error
        return outcome.result

    async def error(self, tool: str, /, **parameters: Any) -> Any:
        """The error of an attempt that has to fail."""
        outcome = await self.do(tool, parameters)
        assert outcome.error is not None, outcome.result
        return outcome.error

    def start(self, tool: str, parameters: Mapping[str, Any] | None = None, /, **more: Any) -> asyncio.Task[Outcome]:
        """The attempt as a task of its own, as tier 2's shell has it."""
        return asyncio.create_task(self.do(tool, parameters, **more))

    async def stop(self, task: asyncio.Task[Outcome]) -> Outcome:
        """Cancel it the way tier 2's shell does."""
        task.cancel(STOP)
        return await task

    def types(self) -> list[str]:
        """The types of what was said, in order."""
        return [event.type for event in self.events]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.host.aclose(grace=0.2)
