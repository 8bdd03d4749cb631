"""What tests of models share: a scope whose news is kept, a registry of small tools, one attempt at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from vrooli_cli.gate import AutoApprove, Gate, Policy
from vrooli_cli.language.masking import Masker
from vrooli_cli.ledger import Account, ResourceTracker
from vrooli_cli.model.clock import SystemClock
from vrooli_cli.model.events import Event
from vrooli_cli.model.run import ExecutionStrategy
from vrooli_cli.tier3.executor import UnifiedExecutor
from vrooli_cli.tier3.host import LocalHost
from vrooli_cli.tier3.registry import Tool, ToolContext, ToolRegistry
from vrooli_cli.tier3.scope import Outcome, Scope, StepCall
from vrooli_cli.tier3.strategies import StrategyFactory

E = TypeVar("E", bound=Event)


async def _add(params: dict[str, Any], context: ToolContext) -> Any:
    return {"sum": params["a"] + params["b"]}


async def _slow(params: dict[str, Any], context: ToolContext) -> Any:
    await asyncio.sleep(params["seconds"])
    return f"slept {params['seconds']}"


async def _boom(params: dict[str, Any], context: ToolContext) -> Any:
    raise ValueError("no such thing")


NUMBER = {"type": "number"}
ADD = Tool(
    name="math.add",
    description="Adds two numbers.",
    schema={
        "type": "object",
        "properties": {"a": NUMBER, "b": NUMBER},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    execute=_add,
    effects="none",
    origin="test",
)
SLOW = Tool(
    name="slow",
    description="Sleeps.",
    schema={"type": "object", "properties": {"seconds": NUMBER}, "required": ["seconds"]},
    execute=_slow,
    effects="none",
    origin="test",
)
BOOM = Tool(name="boom", description="Fails.", schema={"type": "object"}, execute=_boom, effects="none", origin="test")
PAY = Tool(
    name="pay",
    description="Happens once.",
    schema={"type": "object", "properties": {"amount": NUMBER}},
    execute=_add,
    effects="once",
    origin="test",
)


class Desk:
    """A place to do one step at.

    Attributes:
        facts: Everything that was said.
    """

    def __init__(
        self,
        ai: Any = None,
        *,
        limit: int | None = None,
        secrets: Mapping[str, str] | None = None,
        tools: tuple[Tool, ...] = (ADD, SLOW, BOOM),
        policy: Policy | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.facts: list[Event] = []
        self.account = Account("run", limit)
        self.registry = ToolRegistry(tools)
        self.scope = Scope(
            execution_id="run",
            root_id="run",
            emit=self.facts.append,
            account=self.account,
            gate=gate or Gate(AutoApprove()),
            policy=policy or Policy(),
            tools=self.registry,
            host=LocalHost(),
            clock=SystemClock(),
            ai=ai,
            masker=Masker(secrets) if secrets else None,
            secrets=secrets or {},
        )
        self.executor = UnifiedExecutor(self.registry, StrategyFactory(self.registry, None), ResourceTracker())

    async def prompt(self, text: str = "Hello", *, address: str = "step", **keys: Any) -> Outcome:
        """The outcome of a prompt step."""
        fixed = {name: keys.pop(name) for name in ("output_schema", "timeout_ms", "models", "strategy") if name in keys}
        call = StepCall(address=address, attempt=1, kind="prompt", prompt={"prompt": text, **keys}, **fixed)
        return await self.executor.attempt(call, self.scope)

    async def chosen(self, tool: str, **parameters: Any) -> Outcome:
        """The outcome of a tool step whose arguments a model chooses."""
        call = StepCall(
            address="step",
            attempt=1,
            kind="tool",
            tool=tool,
            parameters=parameters,
            strategy=ExecutionStrategy.REASONING,
        )
        return await self.executor.attempt(call, self.scope)

    def told(self, kind: type[E]) -> list[E]:
        """The facts of one kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]


def result(outcome: Outcome) -> Any:
    """The result of an attempt that must have succeeded."""
    assert outcome.error is None, outcome.error
    return outcome.result


def code(outcome: Outcome) -> str:
    """The code of an attempt that must have failed."""
    assert outcome.error is not None
    return outcome.error.code
