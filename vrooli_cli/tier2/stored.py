"""Plans as whole numbers, and plans made again from them: what was checked once is not checked a second time.

Written down is what only reading an expression or networkx tells: edges and batches of every graph, which conditions
name the item of their loop, and the names that the expressions of tools use. All else is in the definition. A plan that
is made again parses a text when it is first evaluated, so neither networkx nor jinja2 is imported for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from vrooli_cli.errors import Pointer
from vrooli_cli.language.expressions import Value, compile_value
from vrooli_cli.language.shapes import Ids
from vrooli_cli.language.shell import RenderedScript, compile_command
from vrooli_cli.model.routine import Bundle, Routine, Step, ToolCall
from vrooli_cli.tier2.plan import (
    Bound,
    DependencyResolver,
    GraphPlan,
    Level,
    RoutineCompiler,
    RoutinePlan,
    Script,
    StepPlan,
)
from vrooli_cli.tier3.registry import Tool, ToolRegistry


class _StalePlan(Exception):
    """What was written down does not fit the definition; the bundle has to be planned again."""


def written(plan: RoutinePlan) -> dict[str, Any] | None:
    """The plan and those of the routines that it calls, by key; None when it cannot be made again exactly.

    Each is ``[graphs, bound]``, in the order in which compiling ends them: for a graph ``[batch of each step, parents
    of each step, positions of steps whose condition names the item]``, for an expression of a tool ``[text, names,
    steps, dashed]``.
    """
    plans: dict[str, Any] = {}
    return plans if _write(plan, plans) else None


def _write(plan: RoutinePlan, plans: dict[str, Any]) -> bool:
    if plan.routine.key in plans:
        return True
    graphs: list[Any] = []
    bound: list[Any] = []
    plans[plan.routine.key] = [graphs, bound]
    return all(_write_graph(graph, graphs, bound, plans) for graph in (plan.graph, *plan.handlers.values()))


def _write_graph(graph: GraphPlan, graphs: list[Any], bound: list[Any], plans: dict[str, Any]) -> bool:
    for step in graph.steps:
        if step.inside is not None and not _write_graph(step.inside, graphs, bound, plans):
            return False
        if step.child is not None and not _write(step.child, plans):
            return False
        if step.parameters is not None:
            if _is_odd(step):
                return False
            bound += [list(one) for one in step.parameters.bound]
    steps = graph.steps
    per_item = [step.index for step in steps if step.when_per_item]
    graphs.append([[step.batch for step in steps], [list(step.parents) for step in steps], per_item])
    return True


def _is_odd(step: StepPlan) -> bool:
    """A command that only writes braces: it is no script, but only jinja2 sees that."""
    action = step.step.action
    if not isinstance(action, ToolCall) or action.tool != "shell" or step.parameters is None:
        return False
    command = action.parameters.get("command")
    return isinstance(command, str) and "{{" in command and "command" in step.parameters.values


def plan_again(bundle: Bundle, tools: ToolRegistry, plans: Mapping[str, Any]) -> RoutinePlan | None:
    """The plan of a bundle from what :func:`written` gave for it and the same tools; None when that does not fit."""
    try:
        return _StoredResolver(bundle, tools, plans).create_execution_plan()
    except (_StalePlan, LookupError, TypeError, ValueError):
        return None


class _StoredResolver(DependencyResolver):
    """Makes the plans of a bundle again."""

    def __init__(self, bundle: Bundle, tools: ToolRegistry, plans: Mapping[str, Any]) -> None:
        super().__init__(bundle, tools)
        self._written = plans

    def _compiler(self, routine: Routine) -> RoutineCompiler:
        """One that looks nothing up and checks nothing; raises _StalePlan when nothing is written of the routine."""
        if routine.key not in self._written:
            raise _StalePlan(routine.key)
        return _Again(self, routine, *self._written[routine.key])


class _Again(RoutineCompiler):
    """Compiles one routine by what is written of its plan."""

    def __init__(
        self, resolver: DependencyResolver, routine: Routine, graphs: Iterable[Any], bound: Iterable[Any]
    ) -> None:
        super().__init__(resolver, routine)
        self._graphs: Iterator[Any] = iter(graphs)
        self._written_bound: Iterator[Any] = iter(bound)

    def compile(self) -> RoutinePlan:
        plan = super().compile()
        if next(self._graphs, None) is not None or next(self._written_bound, None) is not None:
            raise _StalePlan(self._routine.key)
        return plan

    def _look_around(self) -> None:
        """Names were checked before."""

    def _ordered(self, steps: Sequence[Step], plans: list[StepPlan], level: Level) -> GraphPlan:
        batches, parents, per_item = next(self._graphs, ((), (), ()))
        if len(batches) != len(plans) or len(parents) != len(plans):
            raise _StalePlan(self._routine.key)
        children: list[list[int]] = [[] for _ in plans]
        members: list[list[int]] = [[] for _ in range(max(batches, default=-1) + 1)]
        for plan in plans:
            plan.batch = batches[plan.index]
            plan.parents = tuple(parents[plan.index])
            members[plan.batch].append(plan.index)
            for parent in plan.parents:
                children[parent].append(plan.index)
        for plan, below in zip(plans, children, strict=True):
            plan.children = tuple(below)
        for index in per_item:
            plans[index].when_per_item = True
        return GraphPlan(plans, tuple(tuple(one) for one in members))

    def _value(
        self,
        raw: Any,
        where: Pointer,
        level: Level,
        *,
        extra: tuple[str, ...] = (),
        mode: Literal["value", "expression", "template"] = "value",
        allowed: tuple[str, ...] | None = None,
    ) -> Value:
        return compile_value(raw, mode=mode, pointer=where, dashed=level.dashed, deferred=True)

    def _names_item(self, when: Value, item: tuple[str, ...]) -> bool:
        return False  # written down for the graph

    def _template(self, raw: Any, where: Pointer) -> None:
        """It was read before."""

    def _bound_text(
        self, raw: Any, where: Pointer, level: Level, extra: tuple[str, ...], bound: frozenset[str]
    ) -> Bound:
        text, names, steps, dashed = next(self._written_bound, (None, (), (), ()))
        if text is None:
            raise _StalePlan(self._routine.key)
        return Bound(text, tuple(names), tuple(steps), tuple(dashed))

    def _shell(
        self, raw: Any, where: Pointer, level: Level, extra: tuple[str, ...], values: dict[str, Value]
    ) -> Script | None:
        value = self._value(raw, where, level)
        if not isinstance(raw, str) or value.is_constant:
            values["command"] = value
            return None
        return _LaterScript(raw, where, level.dashed)

    def _check_parameters(self, tool: Tool, action: ToolCall, values: Mapping[str, Value], here: Pointer) -> None:
        """They were checked against the same schema."""

    def _cacheable(self, plan: StepPlan) -> None:
        """It was warned of before."""

    def _no_secret(self, value: Value, where: Pointer, what: str, hint: str, allowed: Sequence[str] = ()) -> None:
        """There is none."""


class _LaterScript:
    """A string command that is read when it is first rendered."""

    def __init__(self, raw: str, pointer: Pointer, dashed: Ids) -> None:
        self._raw = raw
        self._pointer = pointer
        self._dashed = dashed
        self._made: Script | None = None

    def render(self, names: Mapping[str, Any]) -> RenderedScript:
        """As :meth:`~vrooli_cli.language.shell.ShellCommand.render`."""
        if self._made is None:
            self._made = compile_command(self._raw, pointer=self._pointer, dashed=self._dashed)
        return self._made.render(names)
