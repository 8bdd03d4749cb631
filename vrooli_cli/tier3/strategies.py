"""How tier 3 does a step: one :class:`StrategyExecutor` a strategy, found by the factory (spec ai.md, "Strategies")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from vrooli_cli.errors import ToolError, VrooliError
from vrooli_cli.language.schema import Schema, compile_schema
from vrooli_cli.model.run import ExecutionStrategy
from vrooli_cli.tier3.attempt import Attempt
from vrooli_cli.tier3.registry import ToolRegistry
from vrooli_cli.tier3.scope import StepCall


class StrategyExecutor(Protocol):
    """One way of doing a step."""

    async def execute(self, attempt: Attempt) -> Any:
        """The step's result as plain data, checked against its ``output_schema``; VrooliError when it fails."""


class OutputSchemas:
    """The ``output_schema`` of steps, compiled once each: a loop of 10,000 children has one."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, tuple[Mapping[str, Any], Schema]] = {}

    def compiled(self, schema: Mapping[str, Any]) -> Schema:
        """The schema ready to check; kept by identity, with the mapping so that the identity stays its own."""
        known = self._known.get(id(schema))
        if known is None:
            if len(self._known) >= 1_000:
                self._known.clear()
            known = self._known[id(schema)] = (schema, compile_schema(schema))
        return known[1]

    def check(self, schema: Mapping[str, Any], result: Any) -> None:
        """Raises ToolError ``OUTPUT_INVALID`` that names the first violations."""
        violations = self.compiled(schema).check(result)
        if violations:
            told = "; ".join(str(violation) for violation in violations[:5])
            raise ToolError(f"the result does not fit output_schema: {told}", code="OUTPUT_INVALID")


class DeterministicStrategy:
    """One call of the step's tool with the parameters as they are."""

    __slots__ = ("_schemas",)

    def __init__(self) -> None:
        self._schemas = OutputSchemas()

    async def execute(self, attempt: Attempt) -> Any:
        """What the tool returns."""
        call = attempt.call
        tool = attempt.tools.require(call.tool)
        result = await attempt.call_tool(tool, call.parameters, written=call.written, effects=call.effects)
        if call.output_schema is not None:
            self._schemas.check(call.output_schema, result)
        return result


class StrategyFactory:
    """Strategy → its executor; each is made when it is first asked for.

    Args:
        tool_registry: The tools of the process; an attempt's own overlay goes before it.
        ai_services: The seam to models; None where nothing may ask one.
    """

    __slots__ = ("_ai", "_made", "_tools")

    def __init__(self, tool_registry: ToolRegistry | None = None, ai_services: Any = None) -> None:
        self._tools = tool_registry
        self._ai = ai_services
        self._made: dict[ExecutionStrategy, StrategyExecutor] = {
            ExecutionStrategy.DETERMINISTIC: DeterministicStrategy()
        }

    def get_strategy(self, strategy: ExecutionStrategy) -> StrategyExecutor:
        """The executor of a strategy.

        Raises:
            VrooliError: ``AI_UNAVAILABLE`` when it needs a model and this vrooli has none.
        """
        made = self._made.get(strategy)
        if made is None:
            made = self._made[strategy] = self._with_model(strategy)
        return made

    def _with_model(self, strategy: ExecutionStrategy) -> StrategyExecutor:
        try:
            from importlib import import_module

            module = import_module("vrooli_cli.tier3.strategies_ai")
        except ModuleNotFoundError as error:
            if error.name != "vrooli_cli.tier3.strategies_ai":
                raise
            message = f"the strategy {strategy.value} needs a model, and this vrooli has none to ask"
            raise VrooliError(message, code="AI_UNAVAILABLE", tier="tier3") from None
        made: StrategyExecutor = module.make_strategy(strategy, self._tools, self._ai)
        return made


def strategy_of(call: StepCall) -> ExecutionStrategy:
    """The step's own word, else what its action means (spec routine.md, "Steps")."""
    if call.strategy is not None:
        return call.strategy
    if call.kind == "tool":
        return ExecutionStrategy.DETERMINISTIC
    return ExecutionStrategy.REASONING if call.prompt.get("tools") else ExecutionStrategy.CONVERSATIONAL
