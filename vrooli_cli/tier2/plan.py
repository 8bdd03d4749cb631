"""Routine → plan: compiled texts, edges, topological batches; and everything that can be wrong with a graph.

A plan is made once for each routine of a bundle and shared by every frame that runs it. The edges of a graph are what
the file says (``Step.after``) and what its texts imply: naming ``steps.x`` is enough to wait for x, reading ``vars.v``
waits for the steps that set v (spec routine.md, "Order"). networkx finds cycles and generations; it is imported here
only, and only when a plan is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from heapq import nsmallest
from typing import Any, Literal, NamedTuple, Protocol

from vrooli_cli.errors import Guesses, Pointer, Problem
from vrooli_cli.language.expressions import BoundExpression, Value, compile_value
from vrooli_cli.language.shell import RenderedScript, compile_command
from vrooli_cli.language.values import text_of
from vrooli_cli.model.addresses import HANDLER, static
from vrooli_cli.model.plan import PlannedStep, PlanSummary
from vrooli_cli.model.routine import (
    HANDLERS,
    Approval,
    Bundle,
    ChildRoutine,
    Group,
    Prompt,
    Routine,
    Step,
    ToolCall,
    Wait,
)
from vrooli_cli.model.run import Effects, ExecutionStrategy
from vrooli_cli.model.values import lean
from vrooli_cli.tier2.setters import Setters
from vrooli_cli.tier3.registry import Tool, ToolRegistry

STEP_FIELDS = ("result", "status", "error", "attempts", "duration_ms", "exports")
RUN_FIELDS = ("id", "name", "started_at", "status", "error", "work_dir")
_ROOTS = ("inputs", "vars", "env", "secrets", "steps", "blackboard", "run")

Kind = Literal["tool", "prompt", "routine", "parallel", "wait", "approval"]
_KINDS: dict[type, Kind] = {
    ToolCall: "tool",
    Prompt: "prompt",
    ChildRoutine: "routine",
    Group: "parallel",
    Wait: "wait",
    Approval: "approval",
}


class Bound(NamedTuple):
    """An expression for the tool: its text, the names and steps of the run that it uses, and the ids with ``-``."""

    text: str
    names: tuple[str, ...]
    steps: tuple[str, ...]
    dashed: tuple[str, ...]

    def bind(self, names: Mapping[str, Any]) -> BoundExpression:
        """With the values that these names have now: plain data, it may cross to another process."""
        values = {name: names[name] for name in self.names}
        if self.steps:
            steps = names["steps"]
            values["steps"] = {step: steps[step] for step in self.steps}
        return BoundExpression(self.text, values, self.dashed)


class Script(Protocol):
    """A string command that depends on the run."""

    def render(self, names: Mapping[str, Any], /) -> RenderedScript:
        """The script and its variables; raises ExpressionError."""


class Undecided(Exception):
    """The file alone does not say it: a parameter is computed as the run goes on."""


class _Written(Mapping[str, Any]):
    """What is known of parameters before the run."""

    def __init__(self, known: Mapping[str, Any], computed: Collection[str]) -> None:
        self._known = known
        self._computed = computed

    def __getitem__(self, name: str) -> Any:
        if name in self._computed:
            raise Undecided(name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        yield from (*self._known, *self._computed)

    def __len__(self) -> int:
        return len(self._known) + len(self._computed)


class Parameters:
    """The parameters of one step, ready to be rendered.

    Attributes:
        constant: What they are when nothing in them depends on the run.
    """

    __slots__ = ("_parts", "_shell", "constant", "values")

    def __init__(
        self,
        values: Mapping[str, Value],
        bound: Mapping[str, Bound | list[Bound]],
        shell: Script | None,
    ) -> None:
        self.values = values
        self._parts = bound
        self._shell = shell
        constant = not bound and shell is None and all(value.is_constant for value in values.values())
        self.constant = {name: value.evaluate({}) for name, value in values.items()} if constant else None

    def render(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of this attempt; raises ExpressionError. A constant one costs a look."""
        if self.constant is not None:
            return self.constant
        rendered = {name: value.evaluate(names) for name, value in self.values.items()}
        for name, part in self._parts.items():
            rendered[name] = [one.bind(names) for one in part] if isinstance(part, list) else part.bind(names)
        if self._shell is not None:
            rendered["command"] = self._shell.render(names)
        return rendered

    @property
    def written(self) -> Mapping[str, Any]:
        """The parameters as far as the file says them; a look at one that is computed raises Undecided."""
        known = {name: value.evaluate({}) for name, value in self.values.items() if value.is_constant}
        computed = {*self.values, *self._parts, *(("command",) if self._shell is not None else ())} - known.keys()
        return _Written(known, computed)

    @property
    def bound(self) -> Iterator[Bound]:
        """The expressions that the tool evaluates, in order."""
        for part in self._parts.values():
            yield from part if isinstance(part, list) else (part,)

    def computed(self, name: str, rendered: Mapping[str, Any]) -> list[str]:
        """The texts of one rendered parameter (a text, a list of texts, a script) that expressions had a part in."""
        value = rendered.get(name)
        if isinstance(value, RenderedScript):
            return list(value.environment.values())
        raw = self.values[name].raw if name in self.values else None
        if isinstance(raw, list) and isinstance(value, list):
            pairs = zip(raw, value, strict=False)
        else:
            pairs = zip((raw,), (value,), strict=False)
        return [text_of(one) for source, one in pairs if isinstance(source, str) and "{{" in source]


@lean(kw_only=True, frozen=False)
class StepPlan:
    """One step, compiled.

    Attributes:
        index: Its position in its graph, in file order.
        batch: Its topological generation in its graph.
        parents, children: Positions in the graph.
        when_per_item: True when ``when`` names the item, so each child of the loop asks it.
        inside: The graph of a ``parallel`` group.
        child: The plan of a ``routine`` step's target.
        tool: The tool, when it was known at load.
        timeout_ms: Of one attempt: the step's own, or the duration of its ``allocation`` if that is less.
        label: What the view shows beside the id.
    """

    step: Step
    kind: Kind
    index: int = 0
    batch: int = 0
    parents: tuple[int, ...] = ()
    children: tuple[int, ...] = ()
    when: Value | None = None
    when_per_item: bool = False
    items: Value | None = None
    axes: tuple[tuple[str, Value], ...] = ()
    key: Value | None = None
    until: Value | None = None
    retry_when: Value | None = None
    recover: Value | None = None
    set: tuple[tuple[str, Value], ...] = ()
    export: tuple[tuple[str, Value], ...] = ()
    parameters: Parameters | None = None
    prompt: tuple[tuple[str, Value], ...] = ()
    wait: Value | None = None
    cache_key: Value | None = None
    inside: GraphPlan | None = None
    child: RoutinePlan | None = None
    tool: Tool | None = None
    timeout_ms: int | None = field(init=False)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        limits = self.step.limits
        given = [self.step.timeout_ms, limits.max_duration_ms if limits is not None else None]
        self.timeout_ms = min((limit for limit in given if limit is not None), default=None)
        self.label = _label(self.step)

    @property
    def instant(self) -> bool:
        """True when an attempt ends in the moment in which it begins."""
        return self.tool is not None and self.tool.instant and self.timeout_ms is None

    @property
    def by_model(self) -> bool:
        """True when the step names a strategy in which a model decides."""
        return self.step.strategy not in (None, ExecutionStrategy.DETERMINISTIC)

    @property
    def effects(self) -> Effects | None:
        """What an attempt does to the world, as far as the file says; None when computed parameters decide."""
        try:
            return self.effects_with(self.written)
        except Undecided:
            return None

    @property
    def written(self) -> Mapping[str, Any]:
        """See :attr:`Parameters.written`; nothing where the tool's effects do not depend on its parameters."""
        if self.parameters is None or self.tool is None or self.tool.effects_of is None:
            return {}
        return self.parameters.written

    def effects_with(self, parameters: Mapping[str, Any]) -> Effects | None:
        """What an attempt with these parameters does to the world; None when only its tool knows.

        Raises:
            Undecided: See :attr:`Parameters.written`.
        """
        if self.step.effects is not None or self.tool is None:
            return self.step.effects
        return self.tool.effects_for(parameters)

    def why_not_cached(self, parameters: Mapping[str, Any]) -> str:
        """Why a ``cache`` keeps nothing of an attempt with these parameters; empty when it may.

        Raises:
            Undecided: See :attr:`Parameters.written`.
        """
        if self.step.repeat is not None:
            return "it repeats"
        effects = self.effects_with(parameters) if self.kind == "tool" and not self.by_model else None
        return f"its effects are `{effects}`" if effects not in (None, "none") else ""


def _label(step: Step) -> str:
    action = step.action
    if isinstance(action, ToolCall):
        return action.tool
    if isinstance(action, ChildRoutine):
        return action.reference
    if isinstance(action, Prompt):
        return step.model[0] if step.model else "default"
    return ""


@lean(frozen=False)
class GraphPlan:
    """The graph of a routine, a group or a handler; ``steps`` in file order."""

    steps: list[StepPlan] = field(default_factory=list)
    batches: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        self.by_id = {plan.step.id: plan for plan in self.steps}

    by_id: dict[str, StepPlan] = field(init=False, default_factory=dict)


@lean(frozen=False)
class RoutinePlan:
    """A routine, compiled."""

    routine: Routine
    graph: GraphPlan
    handlers: Mapping[str, GraphPlan]
    outputs: tuple[tuple[str, Value], ...] | None
    vars: tuple[tuple[str, Value], ...]
    env: tuple[tuple[str, Value], ...] = ()

    @property
    def step_count(self) -> int:
        """Steps of the main graph."""
        return len(self.graph.steps)

    def along(self, address: str) -> Iterator[Passed]:
        """The steps that an address leads through, the outermost first.

        Raises:
            NoSuchStep: Where it leads on to a step that the plan does not have; after the steps before it.
        """
        plan, graph, around = self, self.graph, ""
        for part in address.split("/"):
            name = static(part)
            handler = plan.handlers.get(name.removeprefix(HANDLER)) if name.startswith(HANDLER) else None
            if handler is not None and graph is plan.graph:
                graph = handler
            else:
                step = graph.by_id.get(name)
                if step is None:
                    raise NoSuchStep(around, name, tuple(graph.by_id))
                yield Passed(around, plan, graph, step)
                plan = step.child or plan
                graph = step.child.graph if step.child is not None else step.inside or GraphPlan()
            around += f"{part}/"


@lean()
class Passed:
    """A step on the way to an address: what stands before its id there, whose it is, and the graph that it is in."""

    around: str
    owner: RoutinePlan
    graph: GraphPlan
    step: StepPlan


class NoSuchStep(LookupError):
    """An address names a step that the plan does not have.

    Attributes:
        around: The part of the address that leads somewhere, with its ``/``.
        name: The id that is not there.
        ids: Those that are.
    """

    def __init__(self, around: str, name: str, ids: tuple[str, ...]) -> None:
        super().__init__(f"there is no step {around}{name}")
        self.around, self.name, self.ids = around, name, ids


class _Dashed(Container[str]):
    """The ids of a graph and of those around it; each graph's are there once, however many are inside."""

    __slots__ = ("_around", "_ids")

    def __init__(self, ids: set[str], around: _Dashed | None) -> None:
        self._ids = ids
        self._around = around

    def __contains__(self, name: object) -> bool:
        graph: _Dashed | None = self
        while graph is not None:
            if name in graph._ids:
                return True
            graph = graph._around
        return False


class Level:
    """One graph while it is compiled: who is visible here, and what the step being compiled needs."""

    def __init__(self, ids: Iterable[str], parent: Level | None, *, name: str, ended: bool = False) -> None:
        self.ids = set(ids)
        self.parent = parent
        #: Ids that expressions may write as ``steps.a-b``.
        self.dashed: _Dashed = _Dashed(self.ids, parent.dashed if parent is not None else None)
        self.name = name
        self.ended = ended  # True for the main graph seen from a handler: every step has ended, no edge is needed
        self.current = ""
        self.needs: dict[str, set[str]] = {}
        self.reads: dict[str, set[str]] = {}
        self.sets: dict[str, dict[str, Pointer]] = {}
        self.exports: dict[str, dict[str, Pointer]] = {}

    def begin(self, step: Step) -> None:
        """This step is compiled from here on."""
        self.current = step.id
        self.needs[step.id] = set(step.after)

    def outward(self) -> Iterator[Level]:
        """This graph and those around it."""
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent


class DependencyResolver:
    """Makes plans: the seed's name for what turns a workflow into batches.

    One resolver plans one bundle; the plans of its routines are shared, and :attr:`problems` holds all that is wrong.
    """

    def __init__(self, bundle: Bundle, tools: ToolRegistry | None = None, *, known_tools_only: bool = True) -> None:
        self.problems: list[Problem] = []
        self.guesses = Guesses()
        self._bundle = bundle
        self._tools = tools if tools is not None else ToolRegistry()
        self._strict = known_tools_only
        self._plans: dict[str, RoutinePlan] = {}
        self._open: set[str] = set()  # being planned: a call back into one of them is a circle, and loading has said so

    def create_execution_plan(self, key: str | None = None) -> RoutinePlan:
        """The plan of a routine of the bundle, the main one by default. Look at :attr:`problems` before using it."""
        key = key or self._bundle.main
        if key not in self._plans:
            self._open.add(key)
            self._plans[key] = self._compiler(self._bundle.routines[key]).compile()
            self._open.discard(key)
        return self._plans[key]

    def _compiler(self, routine: Routine) -> RoutineCompiler:
        return RoutineCompiler(self, routine)

    def tool(self, name: str) -> Tool | None:
        """The tool of that name, if it is known before the run."""
        return self._tools.get_tool(name)

    def tool_problem(self, name: str, pointer: Pointer, file: str) -> None:
        """Notes that there is no such tool."""
        if "." in name and not self._strict:  # a tool of an MCP server is known once the server has started
            return
        hint = self.guesses.near(name, lambda: [tool.name for tool in self._tools])
        if any(tool.origin == f"mcp:{name.partition('.')[0]}" for tool in self._tools):
            hint = f"{hint or 'see `vrooli tools list`.'} If it is new, `vrooli tools lock` pins it"
        message = f"there is no tool {name if len(name) <= 80 else name[:79] + '…'!r}"
        self.problems.append(
            Problem(pointer, message, hint or "`vrooli tools list` shows them", "TOOL_NOT_FOUND", file=file)
        )

    def child_routine(self, key: str) -> Routine | None:
        """A routine of the bundle, not planned."""
        return self._bundle.routines.get(key)

    def child_plan(self, key: str) -> RoutinePlan | None:
        """The plan of a child routine; None when the bundle does not have it, or calls go in a circle."""
        return self.create_execution_plan(key) if key in self._bundle.routines and key not in self._open else None


class RoutineCompiler:
    """Compiles one routine; a problem is noted and compilation goes on, so that all are found at once."""

    def __init__(self, resolver: DependencyResolver, routine: Routine) -> None:
        self._resolver = resolver
        self._routine = routine
        #: Names that enclosing loops give to the steps inside their groups, outermost first.
        self._extras: list[tuple[str, ...]] = []
        self._look_around()

    def _look_around(self) -> None:
        """What the routine as a whole has: steps, variables, secrets."""
        routine = self._routine
        self._places = dict(_all_steps(routine))
        self._vars = set(routine.vars) | {name for step, _ in self._places.values() for name in step.set}
        self._secrets = _secret_places(routine, (step for step, _ in self._places.values()))

    # -- routine ------------------------------------------------------------------------------------------------------

    def compile(self) -> RoutinePlan:
        """The plan; what is wrong is told to the resolver."""
        routine = self._routine
        main = Level((step.id for step in routine.steps), None, name="the routine")
        graph = self._graph(routine.steps, main)
        handlers = {}
        for name in HANDLERS:
            if name in routine.handlers:
                steps = routine.handlers[name]
                seen = Level((step.id for step in routine.steps), None, name="the routine", ended=True)
                level = Level((step.id for step in steps), seen, name=f"handlers.{name}")
                handlers[name] = self._graph(steps, level)
        over = Level((step.id for step in routine.steps), None, name="the routine", ended=True)
        outputs = None
        if routine.outputs is not None:
            outputs = tuple((name, self._value(raw, ("outputs", name), over)) for name, raw in routine.outputs.items())
        start = Level((), None, name="the routine")
        variables = tuple(
            (name, self._value(raw, ("vars", name), start, allowed=("inputs", "env", "run", "secrets")))
            for name, raw in routine.vars.items()
        )
        env = tuple(
            (name, self._value(raw, ("env", name), start, allowed=("inputs", "vars", "run", "secrets")))
            for name, raw in routine.env.items()
            if raw is not None
        )
        return RoutinePlan(routine, graph, handlers, outputs, variables, env)

    def _problem(
        self,
        pointer: Pointer,
        message: str,
        hint: str = "",
        code: str = "DEFINITION_INVALID",
        path: tuple[Any, ...] = (),
        *,
        at_key: bool = False,
        warning: bool = False,
    ) -> None:
        """Notes what is wrong; ``path`` is the reference that is meant, in the text at ``pointer``."""
        within = ".".join(str(key) for key in path)
        problem = Problem(pointer, message, hint, code, at_key, within=within, file=self._routine.key, warning=warning)
        self._resolver.problems.append(problem)

    def _near(self, word: str, known: Callable[[], Collection[str]]) -> str:
        return self._resolver.guesses.near(word, known)

    # -- one graph ----------------------------------------------------------------------------------------------------

    def _graph(self, steps: Sequence[Step], level: Level) -> GraphPlan:
        plans = []
        for index, step in enumerate(steps):
            level.begin(step)
            plans.append(self._step(step, index, level))
        return self._ordered(steps, plans, level)

    def _ordered(self, steps: Sequence[Step], plans: list[StepPlan], level: Level) -> GraphPlan:
        graph = GraphPlan(plans)
        edges = {step.id: {need for need in level.needs[step.id] if need in level.ids} for step in steps}
        self._branches(steps, edges)
        _connect(graph, self._generations(steps, edges, level))
        return graph

    def _branches(self, steps: Sequence[Step], edges: Mapping[str, set[str]]) -> None:
        """Branches are side by side: nothing in one may wait for another (spec routine.md, "Order")."""
        branch_of = {step.id: step.branch for step in steps if step.branch}
        for step in steps:
            for need in edges[step.id] if step.branch else ():
                other = branch_of.get(need, step.branch)
                if other != step.branch and need not in step.after:  # what the file says itself, loading has refused
                    message = f"{step.id!r} of the branch {step.branch!r} uses {need!r} of the branch {other!r}"
                    self._problem(step.pointer, message, "branches run side by side; take one out of its branch")

    def _generations(
        self, steps: Sequence[Step], edges: dict[str, set[str]], level: Level
    ) -> tuple[dict[str, set[str]], list[list[str]]]:
        import networkx as nx

        graph: Any = nx.DiGraph()
        graph.add_nodes_from(step.id for step in steps)
        graph.add_edges_from((need, name) for name, needs in edges.items() for need in needs)
        self._order_setters(steps, graph, edges, level)
        try:
            generations = [list(batch) for batch in nx.topological_generations(graph)]
        except nx.NetworkXUnfeasible:
            self._cycle(nx.find_cycle(graph), steps)
            return edges, [[step.id for step in steps]]
        return edges, generations

    def _cycle(self, cycle: Sequence[tuple[str, str]], steps: Sequence[Step]) -> None:
        path = [edge[0] for edge in cycle]
        if len(path) == 1:  # an edge or a reference to itself, told where it stands
            return
        first = min(range(len(path)), key=lambda i: path[i])
        path = path[first:] + path[:first]
        shown = [*path, path[0]] if len(path) <= 12 else [*path[:10], "…", path[-1], path[0]]
        pointer = next(step.pointer for step in steps if step.id == path[0])
        self._problem(
            pointer, "these steps wait for each other: " + " → ".join(shown), "remove one of these edges", "CYCLE"
        )

    def _order_setters(self, steps: Sequence[Step], graph: Any, edges: dict[str, set[str]], level: Level) -> None:
        """Readers of a variable wait for its setters, unless a setter already waits for the reader."""
        import networkx as nx

        writers = {**level.sets, **{f"blackboard.{key}": found for key, found in level.exports.items()}}
        asked = {what: list(found) for what, found in writers.items() if len(found) > 1 or what in level.reads}
        if not asked or not nx.is_directed_acyclic_graph(graph):  # of a cycle nobody is before another
            return
        by_id = {step.id: step for step in steps}
        setters = Setters(by_id, edges, list(nx.topological_sort(graph)), asked, level.reads)
        for what, one, other in setters.unordered:
            shown = what if what.startswith("blackboard.") else f"vars.{what}"
            self._problem(
                writers[what][other],
                f"{one!r} and {other!r} both write {shown} and neither waits for the other",
                f"add `depends_on: [{one}]` to {other!r}",
            )
        for setter, reader in list(setters.edges()):
            edges[reader].add(setter)
            graph.add_edge(setter, reader)

    # -- one step -----------------------------------------------------------------------------------------------------

    def _step(self, step: Step, index: int, level: Level) -> StepPlan:
        plan = StepPlan(step=step, kind=_KINDS[type(step.action)], index=index)
        here = step.pointer
        item: tuple[str, ...] = ()
        if step.for_each is not None:
            item = (step.for_each.alias, "index")
            self._loop(plan, level)
        turn = ("previous", "iteration") if step.repeat else ()
        inner = (*item, *turn)
        if step.has_when:
            plan.when = self._value(step.when, (*here, "when"), level, extra=item, mode="expression")
            plan.when_per_item = bool(item) and self._names_item(plan.when, item)
        if step.repeat is not None:
            plan.until = self._value(
                step.repeat.until, (*here, "repeat", "until"), level, extra=(*inner, "result"), mode="expression"
            )
        if step.retry is not None and step.retry.when is not None:
            plan.retry_when = self._value(
                step.retry.when, (*here, "retry", "when"), level, extra=(*inner, "error"), mode="expression"
            )
        if step.on_error.kind == "recover":
            plan.recover = self._value(
                step.on_error.value, (*here, "on_error", "recover"), level, extra=(*item, "error")
            )
        if step.cache is not None and step.cache.key is not None:
            plan.cache_key = self._value(step.cache.key, (*here, "cache", "key"), level, extra=inner)
        self._action(plan, level, inner)
        self._cacheable(plan)
        self._writes(plan, level)
        return plan

    def _cacheable(self, plan: StepPlan) -> None:
        """Warns of a ``cache`` that keeps nothing."""
        if plan.step.cache is None:
            return
        try:
            reason = plan.why_not_cached(plan.written)
        except Undecided:
            return
        if reason:
            hint = "leave out `cache`"
            if plan.step.repeat is None:
                hint = f"write `effects: none` if it changes nothing; otherwise {hint}"
            message = f"nothing of this step is cached: {reason}"
            self._problem((*plan.step.pointer, "cache"), message, hint, at_key=True, warning=True)

    def _names_item(self, when: Value, item: tuple[str, ...]) -> bool:
        return any(ref.path[0] in item for ref in when.references)

    def _loop(self, plan: StepPlan, level: Level) -> None:
        loop = plan.step.for_each
        assert loop is not None
        where = (*plan.step.pointer, "matrix" if loop.matrix else "for_each")
        if loop.matrix:
            plan.axes = tuple(
                (axis, self._value(raw, (*where, axis), level, mode="expression")) for axis, raw in loop.items.items()
            )
        else:
            plan.items = self._value(loop.items, where, level, mode="expression")
        if loop.key is not None:
            plan.key = self._value(loop.key, (*where, "key"), level, extra=(loop.alias, "index"), mode="expression")

    def _writes(self, plan: StepPlan, level: Level) -> None:
        step = plan.step
        plan.set = self._assigned(step.set, (*step.pointer, "set"), level)
        plan.export = self._assigned(step.export, (*step.pointer, "export"), level)
        for outer in level.outward():
            if outer.ended:
                break
            for name in step.set:
                outer.sets.setdefault(name, {}).setdefault(outer.current, (*step.pointer, "set", name))
            for name in step.export:
                outer.exports.setdefault(name, {}).setdefault(outer.current, (*step.pointer, "export", name))

    def _assigned(self, values: Mapping[str, Any], where: Pointer, level: Level) -> tuple[tuple[str, Value], ...]:
        return tuple((name, self._value(raw, (*where, name), level, extra=("result",))) for name, raw in values.items())

    def _action(self, plan: StepPlan, level: Level, extra: tuple[str, ...]) -> None:
        action, here = plan.step.action, plan.step.pointer
        if isinstance(action, ToolCall):
            self._tool(plan, action, level, extra)
        elif isinstance(action, ChildRoutine):
            values = self._values(action.parameters, (*here, "parameters"), level, extra)
            plan.parameters = Parameters(values, {}, None)
            plan.child = self._resolver.child_plan(action.target)
        elif isinstance(action, Group):
            inside = Level((step.id for step in action.steps), level, name=f"the group {plan.step.id!r}")
            self._extras.append(extra)
            plan.inside = self._graph(action.steps, inside)
            self._extras.pop()
        elif isinstance(action, Prompt):
            self._prompt(plan, action, level, extra)
        elif isinstance(action, Wait):
            plan.wait = self._value(action.duration, (*here, "wait"), level, extra=extra)
        else:
            text = self._value(action.prompt, (*here, "approval"), level, extra=extra)
            plan.prompt = (("prompt", text),)

    def _tool(self, plan: StepPlan, action: ToolCall, level: Level, extra: tuple[str, ...]) -> None:
        here = (*plan.step.pointer, "parameters")
        tool = plan.tool = self._resolver.tool(action.tool)
        if tool is None:
            self._resolver.tool_problem(action.tool, (*plan.step.pointer, "tool"), self._routine.key)
        bound: dict[str, Bound | list[Bound]] = {}
        values: dict[str, Value] = {}
        shell: Script | None = None
        for name, raw in action.parameters.items():
            where = (*here, name)
            if tool is not None and name in tool.literal:
                values[name] = compile_value(raw, mode="literal")
                self._template(raw, where)
            elif tool is not None and name in tool.expressions:
                bound[name] = self._bound(raw, where, level, extra, tool.bound)
            elif action.tool == "shell" and name == "command":
                shell = self._shell(raw, where, level, extra, values)
            else:
                values[name] = self._value(raw, where, level, extra=extra)
        plan.parameters = Parameters(values, bound, shell)
        if tool is not None:
            self._check_parameters(tool, action, values, here)

    def _template(self, raw: Any, where: Pointer) -> None:
        """A literal text is rendered by its tool; that it can be read is known now. Its names are the tool's data."""
        problems: list[Problem] = []
        compile_value(raw, mode="template", pointer=where, problems=problems)
        self._resolver.problems.extend(_in_file(problems, self._routine.key))

    def _bound(
        self, raw: Any, where: Pointer, level: Level, extra: tuple[str, ...], bound: frozenset[str]
    ) -> Bound | list[Bound]:
        if isinstance(raw, list):
            return [self._bound_text(one, (*where, i), level, extra, bound) for i, one in enumerate(raw)]
        return self._bound_text(raw, where, level, extra, bound)

    def _bound_text(
        self, raw: Any, where: Pointer, level: Level, extra: tuple[str, ...], bound: frozenset[str]
    ) -> Bound:
        text = raw if isinstance(raw, str) else str(raw).lower() if isinstance(raw, bool) else str(raw)
        value = self._value(text, where, level, extra=(*extra, *bound), mode="expression")
        paths = {ref.path for ref in value.references}
        used = {str(path[0]) for path in paths} - bound - {"steps"}
        steps = sorted({str(path[1]) for path in paths if path[0] == "steps" and len(path) > 1})
        return Bound(text, tuple(sorted(used)), tuple(steps), tuple(step for step in steps if "-" in step))

    def _shell(
        self, raw: Any, where: Pointer, level: Level, extra: tuple[str, ...], values: dict[str, Value]
    ) -> Script | None:
        value = self._value(raw, where, level, extra=extra)
        self._no_secret(value, where, "a command", "pass it with `env:` or `stdin:`")
        if value.is_constant or not isinstance(raw, str):
            values["command"] = value
            return None
        problems: list[Problem] = []
        command = compile_command(raw, pointer=where, problems=problems, dashed=level.dashed)
        self._resolver.problems.extend(_in_file(problems, self._routine.key))
        return command

    def _check_parameters(self, tool: Tool, action: ToolCall, values: Mapping[str, Value], here: Pointer) -> None:
        known = tool.schema.get("properties", {})
        closed = tool.schema.get("additionalProperties") is False
        for name in action.parameters:
            if closed and name not in known:
                hint = self._near(name, lambda: known) or f"it takes {', '.join(known) or 'none'}"
                self._problem((*here, name), f"the tool {tool.name!r} has no parameter {name!r}", hint, at_key=True)
        for name in tool.schema.get("required", ()):
            if name not in action.parameters:
                self._problem((*here[:-1], "tool"), f"the tool {tool.name!r} needs the parameter {name!r}")
        for name, value in values.items():
            if value.is_constant and name in known:
                for violation in tool.check_parameter(name, value.raw):
                    self._problem((*here, name, *violation.path), f"{tool.name}.{name}: {violation.message}")

    def _prompt(self, plan: StepPlan, action: Prompt, level: Level, extra: tuple[str, ...]) -> None:
        here = plan.step.pointer
        parts = [("prompt", self._value(action.prompt, (*here, "prompt"), level, extra=extra, mode="template"))]
        if action.system is not None:
            parts.append(("system", self._value(action.system, (*here, "system"), level, extra=extra, mode="template")))
        if action.messages:
            messages = [dict(message) for message in action.messages]
            parts.append(("messages", self._value(messages, (*here, "messages"), level, extra=extra)))
        hint = "list it under `reveal:` if the model may see it"
        for name, value in parts:
            self._no_secret(value, (*here, name), "a prompt", hint, allowed=action.reveal)
        plan.prompt = tuple(parts)

    def _no_secret(self, value: Value, where: Pointer, what: str, hint: str, allowed: Sequence[str] = ()) -> None:
        for ref in value.references:
            name = _secret_name(ref.path, self._secrets)
            if name is not None and name not in allowed:
                place = ref.pointer or where
                self._problem(place, f"the secret {name!r} would stand in {what}", hint, path=ref.path)

    # -- values and names ---------------------------------------------------------------------------------------------

    def _values(self, raw: Mapping[str, Any], where: Pointer, level: Level, extra: tuple[str, ...]) -> dict[str, Value]:
        return {name: self._value(one, (*where, name), level, extra=extra) for name, one in raw.items()}

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
        problems: list[Problem] = []
        value = compile_value(raw, mode=mode, pointer=where, problems=problems, dashed=level.dashed)
        if problems:
            self._resolver.problems.extend(_in_file(problems, self._routine.key))
        if value.references:
            names = (*extra, *(name for frame in self._extras for name in frame))
            for ref in value.references:
                self._reference(ref.path, ref.computed, getattr(ref, "pointer", ()) or where, level, names, allowed)
        return value

    def _reference(
        self,
        path: tuple[Any, ...],
        computed: bool,
        where: Pointer,
        level: Level,
        extra: tuple[str, ...],
        allowed: tuple[str, ...] | None,
    ) -> None:
        root = path[0]
        if root in extra or (root in self._routine.inputs and (allowed is None or "inputs" in allowed)):
            return
        if root not in _ROOTS or (allowed is not None and root not in allowed):
            self._unknown_name(path, where, extra, allowed)
        elif root == "steps":
            self._step_reference(path, computed, where, level)
        elif len(path) > 1:
            self._root_field(path, where, level)
        elif root == "vars":
            self._reads(None, level)

    def _unknown_name(
        self, path: tuple[Any, ...], where: Pointer, extra: tuple[str, ...], allowed: tuple[str, ...] | None
    ) -> None:
        root = str(path[0])
        roots = _ROOTS if allowed is None else allowed
        known = list(dict.fromkeys((*extra, *self._routine.inputs, *roots)))
        if root in self._places:
            hint = f"the result of a step is `steps.{root}.result`"
        elif root in self._vars:
            hint = f"a run variable is `vars.{root}`"
        else:
            hint = self._near(root, lambda: known) or f"known names: {', '.join(known[:12])}"
        self._problem(where, f"there is no name {root!r} here", hint, path=path[:1])

    def _root_field(self, path: tuple[Any, ...], where: Pointer, level: Level) -> None:
        root, name = path[0], str(path[1])
        routine = self._routine
        known: Collection[str] | None = {
            "inputs": routine.inputs,
            "vars": self._vars,
            "env": routine.env,
            "secrets": routine.secrets,
            "run": RUN_FIELDS,
        }.get(root)
        if known is not None and name not in known:
            names = known
            hint = self._near(name, lambda: sorted(names)) or (
                f"there is {', '.join(nsmallest(12, names))}" if names else f"declare it under `{root}:`"
            )
            self._problem(where, f"there is no {root}.{name}", hint, path=path[:2])
        elif root == "vars":
            self._reads(name, level)

    def _reads(self, name: str | None, level: Level) -> None:
        for outer in level.outward():
            if outer.ended or not outer.current:
                break
            for variable in (name,) if name is not None else self._vars:
                outer.reads.setdefault(variable, set()).add(outer.current)

    def _step_reference(self, path: tuple[Any, ...], computed: bool, where: Pointer, level: Level) -> None:
        if len(path) < 2:
            hint = "write the id in the file: `steps.ID.result`"
            self._problem(
                where, "a step must be named by its id, not computed" if computed else "`steps` needs an id", hint
            )
            return
        name = str(path[1])
        for outer in level.outward():
            if name not in outer.ids:
                continue
            if not outer.ended and outer.current:
                if outer.current == name:
                    self._self_reference(path, where, inside=outer is not level)
                    return
                outer.needs[outer.current].add(name)
            break
        else:
            self._unknown_step(path, where, level)
            return
        if len(path) > 2 and path[2] not in STEP_FIELDS:
            hint = self._near(str(path[2]), lambda: STEP_FIELDS) or f"there is {', '.join(STEP_FIELDS)}"
            self._problem(where, f"steps.{name} has no field {path[2]!r}", hint, path=path[:3])
        elif len(path) > 3 and path[2] == "result":
            self._result_field(path, where)

    def _self_reference(self, path: tuple[Any, ...], where: Pointer, *, inside: bool) -> None:
        name = str(path[1])
        what = f"the step {name!r} is named inside itself" if inside else f"the step {name!r} refers to itself"
        self._problem(where, what, "in `set`, `export` and `repeat` its result is `result`", "CYCLE", path[:2])

    def _unknown_step(self, path: tuple[Any, ...], where: Pointer, level: Level) -> None:
        name = str(path[1])
        if name in self._places:
            there = self._places[name][1]
            message = f"{level.name} cannot see the step {name!r}, it belongs to {there}"
            self._problem(where, message, self._seen_as(name), path=path[:2])
            return
        hint = self._near(name, lambda: [other for outer in level.outward() for other in outer.ids]) or "check the id"
        self._problem(where, f"there is no step {name!r}", hint, path=path[:2])

    def _seen_as(self, name: str) -> str:
        """How the result of a nested step is reached from outside."""
        group = next(
            (one for one, _ in self._places.values() if isinstance(one.action, Group) and _holds(one.action, name)),
            None,
        )
        if group is None:
            return "the steps of a handler are seen by each other only"
        if group.for_each is not None:
            return f"the items' results are `steps.{group.id}.result[INDEX].{name}`"
        return f"its result is `steps.{group.id}.result.{name}`"

    def _result_field(self, path: tuple[Any, ...], where: Pointer) -> None:
        """What a child routine with declared outputs, or a group, cannot have is known before it runs."""
        name, key = str(path[1]), str(path[3])
        step = self._places[name][0]
        if step.for_each is not None:
            return
        known: Collection[str] | None = None
        if isinstance(step.action, Group):
            known = [inner.id for inner in step.action.steps]
        elif isinstance(step.action, ChildRoutine):
            child = self._resolver.child_routine(step.action.target)
            known = child.outputs if child is not None else None
        if known is not None and key not in known:
            names = known
            hint = self._near(key, lambda: names) or f"there is {', '.join(list(names)[:12])}"
            self._problem(where, f"the result of {name!r} has no {key!r}", hint, path=path[:4])


def _holds(group: Group, name: str) -> bool:
    return any(inner.id == name for inner in group.steps)


def _secret_name(path: tuple[Any, ...], secrets: Mapping[tuple[str, ...], str]) -> str | None:
    """The secret that a reference leads to, if it does."""
    if path[0] == "secrets":
        return str(path[1]) if len(path) > 1 else "secrets"
    return secrets.get(path[:1]) or secrets.get(path[:2])


def _secret_places(routine: Routine, steps: Iterable[Step]) -> dict[tuple[str, ...], str]:
    """Every name by which a secret can be read, and which one: inputs, and what is made of them by name."""
    found: dict[tuple[str, ...], str] = {}
    for name, declared in routine.inputs.items():
        if declared.secret:
            found |= {(name,): name, ("inputs", name): name}
    copies = [(("vars", name), raw) for name, raw in routine.vars.items()]
    copies += [(("env", name), raw) for name, raw in routine.env.items() if raw is not None]
    copies += [(("vars", name), raw) for step in steps for name, raw in step.set.items()]
    copies = [(place, raw) for place, raw in copies if isinstance(raw, str | list | Mapping)]
    if not copies or not (found or routine.secrets):
        return found
    texts = [(place, compile_value(raw, problems=[]).references) for place, raw in copies]
    for _ in texts:  # a copy of a copy of a secret is one, too
        before = len(found)
        for place, references in texts:
            secret = next((one for ref in references if (one := _secret_name(ref.path, found))), None)
            if secret is not None:
                found.setdefault(place, secret)
        if len(found) == before:
            break
    return found


def _in_file(problems: Iterable[Problem], file: str) -> Iterator[Problem]:
    from dataclasses import replace

    for problem in problems:
        yield replace(problem, file=file)


def _all_steps(routine: Routine) -> Iterator[tuple[str, tuple[Step, str]]]:
    def walk(steps: Iterable[Step], owner: str) -> Iterator[tuple[str, tuple[Step, str]]]:
        for step in steps:
            yield step.id, (step, owner)
            if isinstance(step.action, Group):
                yield from walk(step.action.steps, f"the group {step.id!r}")

    for name, steps in routine.handlers.items():
        yield from walk(steps, f"handlers.{name}")
    yield from walk(routine.steps, "the routine")


def _connect(graph: GraphPlan, order: tuple[dict[str, set[str]], list[list[str]]]) -> None:
    edges, generations = order
    by_id = graph.by_id
    children: list[list[int]] = [[] for _ in graph.steps]
    for plan in graph.steps:
        plan.parents = tuple(sorted(by_id[need].index for need in edges[plan.step.id]))
        for parent in plan.parents:
            children[parent].append(plan.index)
    for plan, below in zip(graph.steps, children, strict=True):
        plan.children = tuple(below)
    batches = []
    for number, names in enumerate(generations):
        members = sorted(by_id[name].index for name in names)
        batches.append(tuple(members))
        for index in members:
            graph.steps[index].batch = number
    graph.batches = tuple(batches)


def summarise(plan: RoutinePlan, lines: Callable[[str, Pointer], int] = lambda file, pointer: 0) -> PlanSummary:
    """The plan as everybody may see it; ``lines(file key, pointer)`` gives a step's line."""
    nested: dict[str, PlanSummary] = {}

    def graph_summary(graph: GraphPlan, owner: RoutinePlan, prefix: str, name: str) -> PlanSummary:
        for step in graph.steps:
            path = prefix + step.step.id
            if step.inside is not None:
                nested[path] = graph_summary(step.inside, owner, f"{path}/", step.step.id)
            elif step.child is not None:
                nested[path] = routine_summary(step.child, f"{path}/")
        steps = {
            step.step.id: _planned(step, graph, lines(owner.routine.key, step.step.pointer)) for step in graph.steps
        }
        batches = tuple(tuple(graph.steps[i].step.id for i in batch) for batch in graph.batches)
        routine = owner.routine
        return PlanSummary(name, batches, steps, routine.description, routine.path, routine.schedule)

    def routine_summary(owner: RoutinePlan, prefix: str) -> PlanSummary:
        for handler, graph in owner.handlers.items():
            path = f"{prefix}handlers.{handler}"
            nested[path] = graph_summary(graph, owner, f"{path}/", handler)
        return graph_summary(owner.graph, owner, prefix, owner.routine.name)

    top = routine_summary(plan, "")
    return PlanSummary(top.name, top.batches, top.steps, top.description, top.path, top.schedule, nested)


def _planned(plan: StepPlan, graph: GraphPlan, line: int) -> PlannedStep:
    step, action = plan.step, plan.step.action
    waits = action.duration if isinstance(action, Wait) and isinstance(action.duration, int) else None
    loop = "repeat" if step.repeat else ""
    if step.for_each is not None:
        loop = "matrix" if step.for_each.matrix else "for_each"
    return PlannedStep(
        id=step.id,
        kind=plan.kind,
        label=plan.label,
        name=step.name,
        strategy=step.strategy.value if step.strategy else "",
        loop=loop,
        line=line,
        parents=tuple(graph.steps[i].step.id for i in plan.parents),
        duration_ms=waits,
    )
