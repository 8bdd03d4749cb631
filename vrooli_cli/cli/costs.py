"""What a routine will cost, from low to high, before it runs (spec ai.md, "Credits"; cli.md, ``plan``).

*Low* is a run in which nothing fails: every step that must happen, once, with the text that the file itself holds and
no answer. *High* is the worst case of every step whose connections hold (one that breaks off is paid for and asked
for again), or the run's ceiling where the worst case is not known, because a text, the items of a loop or what tools
answer is known to the run only. The ledger holds the ceiling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from vrooli_cli.errors import ExpressionError
from vrooli_cli.model.values import lean

if TYPE_CHECKING:
    from vrooli_cli.architecture import ExecutionArchitecture
    from vrooli_cli.language.expressions import Value
    from vrooli_cli.tier1.plan import SwarmPlan
    from vrooli_cli.tier2.plan import GraphPlan, RoutinePlan, StepPlan
    from vrooli_cli.tier3.ai.manager import BoundAI
    from vrooli_cli.tier3.registry import Tool, ToolRegistry

_MESSAGE: Final = 16  # tokens that a message costs beside its text
_FRAME: Final = 512  # bytes of a request around its texts, at the most
_REPAIRS: Final = 2  # also of an empty answer, so also of a step without a schema


@lean()
class Cost:
    """Credits from low to high.

    Attributes:
        high: None when nothing but a ceiling bounds it.
    """

    low: int = 0
    high: int | None = 0

    def __add__(self, other: Cost) -> Cost:
        high = None if self.high is None or other.high is None else self.high + other.high
        return Cost(self.low + other.low, high)

    def under(self, ceiling: int | None) -> Cost:
        """The same below a ceiling."""
        if ceiling is None:
            return self
        high = ceiling if self.high is None else min(self.high, ceiling)
        return Cost(min(self.low, ceiling), high)

    def times(self, least: int, most: int | None) -> Cost:
        """That often."""
        high = 0 if self.high == 0 else None if self.high is None or most is None else self.high * most
        return Cost(self.low * least, high)


@lean()
class Estimate:
    """The cost of a routine.

    Attributes:
        cost: Under the ceiling of the run.
        ceiling: Of the run.
        bounded: False when the high end is the ceiling because the worst case is not known.
        asks: First model of a step, as the file calls it → the models behind, in order of fallback.
    """

    cost: Cost
    ceiling: int
    bounded: bool
    asks: Mapping[str, tuple[str, ...]]


def estimate(architecture: ExecutionArchitecture, plan: RoutinePlan) -> Estimate:
    """The cost of a sound plan, under the models, tools and limits of an architecture."""
    ceiling = int(architecture.allocation(plan.routine).max_credits)
    asks: dict[str, tuple[str, ...]] = {}
    whole = _Counting(architecture, plan, asks, _defaults(plan)).routine()
    return Estimate(whole.under(ceiling), ceiling, whole.high is not None, asks)


def tools_of_swarms(architecture: ExecutionArchitecture) -> ToolRegistry:
    """The tools that the agents of a swarm may be offered."""
    from vrooli_cli.tier1.tools import swarm_tools

    known = architecture.tools
    return known.overlay(tool for tool in swarm_tools() if known.get_tool(tool.name) is None)


def estimate_swarm(architecture: ExecutionArchitecture, plan: SwarmPlan) -> Estimate:
    """The cost of a swarm: planning, the tasks as they are given out, the last word.

    A task that fails goes to another agent, and the model may be asked for another plan; so nothing but the ceiling
    bounds a swarm in which anything costs.
    """
    ceiling = int(architecture.allocation(plan.swarm).max_credits)
    asks: dict[str, tuple[str, ...]] = {}
    models = architecture.ai.bind(plan.swarm.extras.get("models"))
    tools = tools_of_swarms(architecture)

    def work(agent: str) -> Cost:
        return _Counting(architecture, plan.members[agent].plan, asks, {}, tools).routine()

    def asked(names: Sequence[str], size: int, max_tokens: int | None) -> Cost:
        asks[names[0] if names else "default"] = tuple(target.model for target in models.models.targets(names))
        return Cost(models.cost(size, names=names, max_tokens=max_tokens)[0], None)

    swarm, total = plan.swarm, Cost()
    if plan.needs_planner:
        told = plan.decomposer.question(swarm.goal, plan.agents)
        total += asked(swarm.planner.model or plan.planner_models, _bytes(told), swarm.planner.max_tokens)
    team = plan.known_team
    for placed in team.placements.values() if team is not None else ():
        for agent in placed.agents:
            total += work(agent)
    if swarm.synthesis is not None:
        last = swarm.synthesis
        total += asked(last.model or plan.planner_models, _bytes(last.prompt), last.max_tokens)
    named = dict(asks)
    high = 0 if total.high == 0 and all(work(agent).high == 0 for agent in plan.members) else None
    whole = Cost(total.low, high)
    return Estimate(whole.under(ceiling), ceiling, high is not None, named)


class _Counting:
    """Adds up one routine; its child routines have models and inputs of their own."""

    def __init__(
        self,
        architecture: ExecutionArchitecture,
        plan: RoutinePlan,
        asks: dict[str, tuple[str, ...]],
        names: Mapping[str, Any],
        tools: ToolRegistry | None = None,
    ) -> None:
        self._architecture = architecture
        self._tools = tools or architecture.tools
        self._plan = plan
        self._models: BoundAI = architecture.ai.bind(plan.routine.extras.get("models"))
        self._asks = asks
        self._names = names

    def routine(self) -> Cost:
        """Its graph; a handler may not be needed."""
        total = self._graph(self._plan.graph)
        for handler in self._plan.handlers.values():
            total += self._graph(handler).times(0, 1)
        return total

    def _graph(self, graph: GraphPlan) -> Cost:
        total, optional = Cost(), set[int]()
        for plan in sorted(graph.steps, key=lambda one: one.batch):
            cost = self._step(plan)
            if _may_be_skipped(plan, optional):
                optional.add(plan.index)
                cost = cost.times(0, 1)
            total += cost
        return total

    def _step(self, plan: StepPlan) -> Cost:
        """One step, with its repetitions and retries."""
        step, cost = plan.step, self._once(plan)
        if step.repeat is not None:
            cost = cost.times(1, step.repeat.max)
        if step.retry is not None:
            cost = cost.times(1, step.retry.max_attempts)
        if plan.items is not None or plan.axes:
            count = self._count(plan)
            cost = cost.times(count or 0, count)
        return cost.under(step.limits.max_credits if step.limits is not None else None)

    def _once(self, plan: StepPlan) -> Cost:
        if plan.inside is not None:
            return self._graph(plan.inside)
        if plan.child is not None:
            child = _Counting(self._architecture, plan.child, self._asks, {}, self._tools).routine()
            return child.under(plan.child.routine.limits.max_credits)
        if plan.kind == "prompt":
            return self._prompt(plan)
        if plan.tool is None:
            return Cost()
        if plan.step.strategy is not None and plan.step.strategy.value == "reasoning":
            return self._asked(plan, (), [plan.tool], asks=1 + _REPAIRS, known=False)
        return Cost(plan.tool.credits, plan.tool.credits)

    def _prompt(self, plan: StepPlan) -> Cost:
        from vrooli_cli.model.routine import Prompt

        action = plan.step.action
        assert isinstance(action, Prompt), "a prompt step has a prompt"
        tools = self._offered(action.tools)
        asks = (action.max_turns if tools else 1) + _REPAIRS
        known = not tools and not action.context
        return self._asked(plan, [value for _, value in plan.prompt], tools, asks=asks, known=known)

    def _asked(self, plan: StepPlan, values: Sequence[Value], tools: Sequence[Tool], *, asks: int, known: bool) -> Cost:
        """What asking costs: the texts and schemas that are sent, and an answer of at most ``max_tokens``."""
        step = plan.step
        texts = [self._text(value) for value in values]
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text, _ in texts)
        around = len(texts) * _MESSAGE + _FRAME + sum(_bytes(tool.schema) + _bytes(tool.description) for tool in tools)
        if step.output_schema is not None:
            around += 2 * _bytes(step.output_schema)
        targets = self._models.models.targets(step.model)
        self._asks[step.model[0] if step.model else "default"] = tuple(target.model for target in targets)
        bound = getattr(step.action, "max_tokens", None)
        least = self._models.cost(size, names=step.model, max_tokens=bound)[0]
        most = self._models.cost(size + around, names=step.model, max_tokens=bound, asks=asks)[1]
        is_known = (known and all(whole for _, whole in texts)) or most == 0
        return Cost(least, most if is_known else None)

    def _offered(self, patterns: Sequence[str]) -> list[Tool]:
        if not patterns:
            return []
        from vrooli_cli.tier3.strategies_ai import offered

        return offered(patterns, self._tools)

    def _text(self, value: Value) -> tuple[str, bool]:
        """The text of a value as far as it is known, and whether that is all."""
        if all(reference.path[0] in self._names for reference in value.references):
            try:
                return _as_text(value.evaluate({**self._names, "inputs": self._names})), True
            except ExpressionError:
                pass
        return "".join(part for part in value.segments if isinstance(part, str)), False

    def _count(self, plan: StepPlan) -> int | None:
        """How many items a loop has; None when the run alone knows it."""
        total = 1
        for value in [plan.items] if plan.items is not None else [axis for _, axis in plan.axes]:
            if any(reference.path[0] not in self._names for reference in value.references):
                return None
            try:
                items = value.evaluate({**self._names, "inputs": self._names})
            except ExpressionError:
                return None
            if not isinstance(items, list | tuple | dict):
                return None
            total *= len(items)
        return total


def _may_be_skipped(plan: StepPlan, optional: set[int]) -> bool:
    """True for a step that a sound run may leave out: by its own condition, or with all that it waits for."""
    step = plan.step
    if step.has_when or step.trigger_rule == "any_failed":
        return True
    return bool(plan.parents) and optional.issuperset(plan.parents) and step.trigger_rule != "all_done"


def _defaults(plan: RoutinePlan) -> dict[str, Any]:
    """The inputs of a plain call."""
    return {name: one.default for name, one in plan.routine.inputs.items() if one.has_default and not one.env}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _bytes(value: Any) -> int:
    return len(_as_text(value).encode("utf-8", "surrogatepass"))
