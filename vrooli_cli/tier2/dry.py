"""What a run would do, as far as it is known before anything has happened (``vrooli run --dry-run``).

Nothing is called, stored or asked. A step is ``pending`` when it would run, ``skipped`` when it surely would not, and
``unknown`` when that depends on what other steps do. Of its parameters, each value that needs no result is rendered;
the others stay as they are written. Secrets count as unknown, so none is ever shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from itertools import islice, product
from typing import Any, Literal

from vrooli_cli.errors import ExpressionError
from vrooli_cli.language.expressions import Reference, Value, compile_value
from vrooli_cli.language.shapes import Ids
from vrooli_cli.model.routine import Approval, Group, Prompt, Step, ToolCall, Wait
from vrooli_cli.model.values import lean
from vrooli_cli.tier2.plan import GraphPlan, RoutinePlan, StepPlan

ITEMS_SHOWN = 100
"""Children of one loop that are listed; all are counted."""

DryStatus = Literal["pending", "skipped", "unknown"]
_UNKNOWN = object()


@lean()
class DryStep:
    """One step as it would begin.

    Attributes:
        address: Its path, as in events.
        parameters: Rendered where known; what is not known is the text of the file.
        reason: Why it is skipped or unknown.
        count: Of a loop: its children, when their number is known.
    """

    address: str
    status: DryStatus
    kind: str
    label: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    count: int | None = None

    def wire(self) -> dict[str, Any]:
        """The plain form of ``--dry-run -o json``."""
        plain: dict[str, Any] = {"status": self.status, "action": self.kind}
        plain |= {"name": self.label} if self.label else {}
        plain |= {"parameters": dict(self.parameters)} if self.parameters else {}
        plain |= {"reason": self.reason} if self.reason else {}
        plain |= {"count": self.count} if self.count is not None else {}
        return plain


@lean()
class _Known:
    """The names whose values are known here.

    Attributes:
        values: Name → value.
        unset: Variables that some step writes: their value is not known.
        secret: Inputs that are never shown.
    """

    values: Mapping[str, Any]
    unset: frozenset[str]
    secret: frozenset[str]

    def knows(self, reference: Reference) -> bool:
        path = reference.path
        root = path[0]
        if root not in self.values or reference.computed or root in self.secret:
            return False
        inner = path[1] if len(path) > 1 else None
        if root == "inputs":
            return (inner is not None and inner not in self.secret) or (inner is None and not self.secret)
        if root == "vars":
            return (inner is not None and inner not in self.unset) or (inner is None and not self.unset)
        return root != "run" or inner == "name"

    def has(self, value: Value) -> bool:
        return all(self.knows(reference) for reference in value.references)

    def value(self, value: Value) -> Any:
        """Its value, or ``_UNKNOWN``."""
        return value.evaluate(self.values) if self.has(value) else _UNKNOWN

    def rendered(self, raw: Any, dashed: Ids) -> Any:
        """Plain data with every text in it rendered that can be."""
        if isinstance(raw, Mapping):
            return {key: self.rendered(one, dashed) for key, one in raw.items()}
        if isinstance(raw, list | tuple):
            return [self.rendered(one, dashed) for one in raw]
        if not isinstance(raw, str):
            return raw
        value = compile_value(raw, dashed=dashed, problems=[])
        try:
            return value.evaluate(self.values) if self.has(value) else raw
        except ExpressionError as error:
            return f"{raw}  (fails: {error.message})"

    def also(self, **more: Any) -> _Known:
        return _Known({**self.values, **more}, self.unset, self.secret)


def dry_run(
    plan: RoutinePlan, inputs: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> dict[str, DryStep]:
    """Every step by its address, in the order of batches, handlers last.

    Args:
        plan: A plan without problems.
        inputs: Checked values of all inputs.
        environ: Where ``env:`` looks.
    """
    walk = _Walk(environ or {})
    return {step.address: step for step in walk.routine(plan, inputs, "", "pending")}


class _Walk:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def routine(
        self, plan: RoutinePlan, inputs: Mapping[str, Any], prefix: str, status: DryStatus
    ) -> Iterator[DryStep]:
        known = self._known(plan, inputs)
        yield from self._graph(plan.graph, known, prefix, status)
        for name, graph in plan.handlers.items():
            certain = status if name == "finally" else "unknown"
            reason = "" if name == "finally" else f"only after {name}"
            yield from self._graph(graph, known, f"{prefix}handlers.{name}/", certain, reason)

    def _known(self, plan: RoutinePlan, inputs: Mapping[str, Any]) -> _Known:
        routine = plan.routine
        unset = frozenset(name for step in _steps(plan) for name in step.set)
        secret = frozenset(name for name, declared in routine.inputs.items() if declared.secret)
        env = {
            name: self._environ[name] for name, value in routine.env.items() if value is None and name in self._environ
        }
        names: dict[str, Any] = {**inputs, "inputs": inputs, "run": {"name": routine.name}}
        known = _Known({**names, "env": env}, unset, secret)
        variables: dict[str, Any] = {}
        for name, value in plan.vars:
            found = self._quietly(known, value)
            if found is _UNKNOWN:
                unset |= {name}
            else:
                variables[name] = found
        env |= {name: found for name, value in plan.env if (found := self._quietly(known, value)) is not _UNKNOWN}
        return _Known({**names, "env": env, "vars": variables}, unset, secret)

    @staticmethod
    def _quietly(known: _Known, value: Value) -> Any:
        try:
            return known.value(value)
        except ExpressionError:
            return _UNKNOWN

    def _graph(
        self, graph: GraphPlan, known: _Known, prefix: str, status: DryStatus, reason: str = ""
    ) -> Iterator[DryStep]:
        dashed = graph.by_id.keys()
        verdicts: dict[int, DryStatus] = {}
        for batch in graph.batches:
            for index in batch:
                plan = graph.steps[index]
                verdict, why = self._verdict(plan, [verdicts[parent] for parent in plan.parents], known)
                if verdict == "pending" and status != "pending":
                    verdict, why = status, reason
                verdicts[index] = verdict
                yield from self._step(plan, prefix + plan.step.id, verdict, why, known, dashed)

    def _verdict(self, plan: StepPlan, parents: Sequence[DryStatus], known: _Known) -> tuple[DryStatus, str]:
        verdict, why = _by_rule(plan.step, parents)
        if verdict == "skipped" or plan.when is None or plan.when_per_item:
            return verdict, why
        try:
            holds = known.value(plan.when)
        except ExpressionError as error:
            return "unknown", f"`when` fails: {error.message}"
        if holds is _UNKNOWN:
            return "unknown", "`when` needs what is not known yet"
        return (verdict, why) if holds else ("skipped", "`when` is false")

    def _step(
        self, plan: StepPlan, address: str, status: DryStatus, reason: str, known: _Known, dashed: Ids
    ) -> Iterator[DryStep]:
        step = plan.step
        if step.for_each is None:
            yield from self._single(plan, address, status, reason, known, dashed)
            return
        items = self._items(plan, known)
        count = None if items is None else len(items)
        parameters = {} if items is not None else _parameters(plan, known, dashed)
        yield DryStep(address, status, plan.kind, plan.label, parameters, reason, count)
        for index, item in islice(enumerate(items or ()), ITEMS_SHOWN):
            inside = known.also(**{step.for_each.alias: item, "index": index})
            verdict, why = (status, reason) if not plan.when_per_item else self._item_verdict(plan, status, inside)
            key = self._key(plan, inside, index)
            yield from self._single(plan, f"{address}[{key}]", verdict, why, inside, dashed)

    def _item_verdict(self, plan: StepPlan, status: DryStatus, known: _Known) -> tuple[DryStatus, str]:
        assert plan.when is not None
        holds = self._quietly(known, plan.when)
        if holds is _UNKNOWN:
            return "unknown", "`when` needs what is not known yet"
        return (status, "") if holds else ("skipped", "`when` is false")

    def _key(self, plan: StepPlan, known: _Known, index: int) -> object:
        key = self._quietly(known, plan.key) if plan.key is not None else index
        return index if key is _UNKNOWN else key

    def _items(self, plan: StepPlan, known: _Known) -> list[Any] | None:
        """The items of a loop; None when they are not known yet."""
        if plan.axes:
            axes = {name: self._quietly(known, value) for name, value in plan.axes}
            if not all(isinstance(axis, list | tuple) for axis in axes.values()):
                return None
            return [dict(zip(axes, point, strict=True)) for point in product(*axes.values())]
        found = self._quietly(known, plan.items) if plan.items is not None else _UNKNOWN
        if isinstance(found, Mapping):
            return [{"key": key, "value": value} for key, value in found.items()]
        return list(found) if isinstance(found, list | tuple) else None

    def _single(
        self, plan: StepPlan, address: str, status: DryStatus, reason: str, known: _Known, dashed: Ids
    ) -> Iterator[DryStep]:
        yield DryStep(address, status, plan.kind, plan.label, _parameters(plan, known, dashed), reason)
        if status == "skipped":
            return
        if plan.inside is not None:
            yield from self._graph(plan.inside, known, f"{address}/", status, reason)
        elif plan.child is not None:
            yield from self.routine(plan.child, self._child_inputs(plan, known), f"{address}/", status)

    def _child_inputs(self, plan: StepPlan, known: _Known) -> dict[str, Any]:
        """What of a child's inputs is known."""
        assert plan.child is not None and plan.parameters is not None
        given = plan.parameters.values
        inputs: dict[str, Any] = {}
        for name, declared in plan.child.routine.inputs.items():
            found = self._quietly(known, given[name]) if name in given else declared.default
            if found is not _UNKNOWN:
                inputs[name] = found
        return inputs


def _by_rule(step: Step, parents: Sequence[DryStatus]) -> tuple[DryStatus, str]:
    """What ``trigger_rule`` says when every step that runs succeeds."""
    rule = step.trigger_rule
    if rule == "all_done" or not parents:
        return "pending", ""
    if rule == "any_failed":
        return "unknown", "runs only after a failure"
    gone = parents.count("skipped")
    if gone == len(parents):
        return "skipped", "everything it depends on is skipped"
    if rule == "all_succeeded" and gone:
        return "skipped", "a step it depends on is skipped"
    certain = "pending" in parents if rule != "all_succeeded" else "unknown" not in parents
    return ("pending", "") if certain else ("unknown", "a step it depends on may be skipped")


def _parameters(plan: StepPlan, known: _Known, dashed: Ids) -> dict[str, Any]:
    action, tool = plan.step.action, plan.tool
    if isinstance(action, Group):
        return {}
    if isinstance(action, Wait):
        written: Any = {"wait": f"{action.duration / 1000:g}s" if isinstance(action.duration, int) else action.duration}
    elif isinstance(action, Approval):
        written = {"prompt": action.prompt}
    elif isinstance(action, Prompt):
        written = {"prompt": action.prompt} | ({"system": action.system} if action.system else {})
        if "{%" in action.prompt + (action.system or ""):
            return dict(written)
    elif isinstance(action, ToolCall):
        literal = tool.literal | tool.expressions if tool is not None else frozenset()
        kept = {name: raw for name, raw in action.parameters.items() if name in literal}
        return {
            name: known.rendered(raw, dashed) if name not in kept else raw for name, raw in action.parameters.items()
        }
    else:
        written = action.parameters
    rendered: dict[str, Any] = known.rendered(written, dashed)
    return rendered


def _steps(plan: RoutinePlan) -> Iterator[Step]:
    """Every step that may write a variable of this routine."""
    pending = [plan.graph, *plan.handlers.values()]
    while pending:
        for step in pending.pop().steps:
            yield step.step
            if step.inside is not None:
                pending.append(step.inside)
