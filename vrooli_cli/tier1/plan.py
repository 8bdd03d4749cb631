"""Swarm → plan: its texts compiled, its agents' routines planned, its organisation read; and everything that is wrong.

What can be known before a run is known here: names in ``outputs`` and handlers, tasks that nobody can do, rules of an
organisation that no team can keep, assignments that a norm forbids (spec swarm.md). Problems name their file by key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from vrooli_cli.errors import DefinitionError, Pointer, Problem, VrooliError, did_you_mean
from vrooli_cli.language.expressions import Mode, Value, compile_value
from vrooli_cli.language.values import text_of
from vrooli_cli.loading.files import shown
from vrooli_cli.loading.text import read_text
from vrooli_cli.model.organization import OrganisationSpec
from vrooli_cli.model.plan import PlannedStep, PlanSummary
from vrooli_cli.model.routine import Bundle, Input, OnError, Prompt, Routine, Step
from vrooli_cli.model.run import Agent, ExecutionStrategy
from vrooli_cli.model.swarm import AgentDefinition, SubTask, SwarmBundle, SwarmDefinition
from vrooli_cli.tier1.decompose import GoalDecomposer, capability_violations, find_circle, graph_violations
from vrooli_cli.tier1.names import ROOTS, TASK_FIELDS
from vrooli_cli.tier1.organise import Organised, roles_of
from vrooli_cli.tier1.team import TeamManager, TeamStructure
from vrooli_cli.tier1.tools import swarm_tools
from vrooli_cli.tier2.plan import RUN_FIELDS, DependencyResolver, GraphPlan, RoutinePlan
from vrooli_cli.tier3.registry import ToolRegistry

TASK_STEP = "work"
"""The one step of a task whose agent has no routine of its own."""
_TASK_INPUTS = ("task", "goal", "dependencies")
_TEXTS_OF_STEPS = ("action", "when", "set", "export", "for_each", "repeat", "on_error")
_ANYTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """How an agent does a task.

    Attributes:
        definition: As the file says.
        plan: Its routine, or one reasoning step.
        takes: The inputs of that routine.
        has_routine: False for the one reasoning step, whose result is the task's.
    """

    definition: AgentDefinition
    plan: RoutinePlan
    takes: frozenset[str]
    has_routine: bool


@dataclass(slots=True, kw_only=True)
class SwarmPlan:
    """A swarm, compiled.

    Attributes:
        agents: The members as the team manager sees them.
        given: The file's tasks; None when there are none.
        task_ids: Every task that the file knows of; None when a model will say.
        organisation: None without constraints.
        conditions: Norm → the expression under which it holds, where the file gives one.
    """

    swarm: SwarmDefinition
    bundle: SwarmBundle
    agents: tuple[Agent, ...]
    members: Mapping[str, AgentPlan]
    handlers: Mapping[str, RoutinePlan]
    goal: Value
    given: tuple[SubTask, ...] | None
    descriptions: Mapping[str, Value]
    task_ids: tuple[str, ...] | None
    outputs: tuple[tuple[str, Value], ...] | None
    synthesis: Value | None
    synthesis_system: Value | None
    vars: tuple[tuple[str, Value], ...]
    env: tuple[tuple[str, Value], ...]
    organisation: Organised | None
    conditions: Mapping[str, Value]
    decomposer: GoalDecomposer
    graph: GraphPlan = field(default_factory=GraphPlan)
    _teams: dict[Any, TeamStructure] = field(default_factory=dict, repr=False)
    _known: list[tuple[SubTask, ...]] = field(default_factory=list, repr=False)

    @property
    def routine(self) -> SwarmDefinition:
        """The definition, under the name that a routine's plan has for its own."""
        return self.swarm

    @property
    def planner_models(self) -> tuple[str, ...]:
        """Whom the planner and the synthesis ask where they name no model: the leader's."""
        leader = self.members.get(self.swarm.leader or "")
        return leader.definition.model if leader is not None else ()

    @property
    def needs_planner(self) -> bool:
        """True when a model has to divide the goal."""
        return self.given is None and (self.organisation is None or not self.organisation.graph.tasks)

    def asking(self) -> list[tuple[tuple[str, ...], Pointer]]:
        """The models that will surely be asked, with the place that says so.

        Where the tasks are known these are the planner's, those of the agents without a routine that have a task, and
        the synthesis'.
        """
        found: list[tuple[tuple[str, ...], Pointer]] = []
        swarm = self.swarm
        if self.needs_planner:
            found.append(
                (swarm.planner.model or self.planner_models, ("planner",) if swarm.planner.model else ("goal",))
            )
        team = self.known_team
        busy = {agent for placed in team.placements.values() for agent in placed.agents} if team is not None else set()
        for name, member in self.members.items():
            if name in busy and not member.has_routine:
                found.append((member.plan.graph.steps[0].step.model, member.definition.pointer))
        if swarm.synthesis is not None:
            found.append((swarm.synthesis.model or self.planner_models, ("synthesis",)))
        return found

    def rendered_tasks(self, names: Mapping[str, Any]) -> tuple[SubTask, ...]:
        """The file's tasks with their descriptions rendered; raises ExpressionError."""
        return tuple(
            replace(task, description=text_of(self.descriptions[task.id].evaluate(names))) for task in self.given or ()
        )

    def settings(self, inputs: Mapping[str, Any], environ: Mapping[str, str], run: Mapping[str, Any]) -> dict[str, Any]:
        """What ``vars``, ``env``, ``secrets`` and ``run`` are in this run; raises ExpressionError."""
        secrets = {name: environ.get(source, "") for name, source in self.swarm.secrets.items()}
        env = {name: environ.get(name, "") for name, raw in self.swarm.env.items() if raw is None}
        variables: dict[str, Any] = {}
        found = {"inputs": inputs, "vars": variables, "env": env, "secrets": secrets, "run": run}
        names = {**inputs, **found}
        for name, value in self.vars:
            variables[name] = value.evaluate(names)
        for name, value in self.env:
            env[name] = text_of(value.evaluate(names))
        return found

    def form(
        self,
        tasks: Sequence[SubTask],
        fixed: Mapping[str, Sequence[str]] | None = None,
        off: frozenset[str] = frozenset(),
    ) -> TeamStructure:
        """The team for these tasks; VrooliError ``TEAM_INFEASIBLE`` when there is none.

        Args:
            tasks: All of the plan.
            fixed: Task → its agents, beside what the file assigns.
            off: Norms that do not hold now.
        """
        key = tuple(replace(task, description="", pointer=()) for task in tasks), str(fixed), off
        if key not in self._teams:
            self._teams[key] = self._formed(tasks, fixed, off)
        return self._teams[key]

    def _formed(
        self, tasks: Sequence[SubTask], fixed: Mapping[str, Sequence[str]] | None, off: frozenset[str]
    ) -> TeamStructure:
        swarm = self.swarm
        known = {task.id for task in tasks}
        given = {name: one for name, one in swarm.assignments.items() if name in known}
        if self.organisation is not None:
            organisation = self.organisation.without_norms(off)
            free = [task for task in tasks if task.id not in organisation.graph.tasks]
            allocation = organisation.allocate(self.agents, free)
            return organisation.team(allocation, tasks, self.agents, fixed=given, leader=swarm.leader)
        chosen = {name: [one.agent] for name, one in given.items()}
        reasons = {name: one.reason or "as the file says" for name, one in given.items()}
        for name, agents in (fixed or {}).items():
            chosen[name] = list(agents)
            reasons[name] = "has it already"
        return TeamManager().form_optimal_team(self.agents, tasks, fixed=chosen, reasons=reasons, leader=swarm.leader)

    def result(self, names: Mapping[str, Any], synthesis: Any, results: Mapping[str, Any]) -> Any:
        """What the swarm answers: ``outputs``, else the model's last word, else the results by task.

        Raises:
            ExpressionError: An output has no value.
        """
        if self.outputs is not None:
            made = {name: value.evaluate(names) for name, value in self.outputs}
            used = any(ref.path[0] == "synthesis" for _, value in self.outputs for ref in value.references)
            if self.synthesis is not None and not used:
                made.setdefault("synthesis", synthesis)
            return made
        if self.synthesis is not None:
            return synthesis if isinstance(synthesis, dict) else {"synthesis": synthesis}
        return dict(results)

    def summary(self, lines: Any = lambda pointer: 0) -> PlanSummary:
        """The task graph as the view and ``vrooli plan`` see it; empty where a model has yet to make it."""
        tasks = self.known_tasks
        team = self._team_or_none(tasks)
        steps = {}
        for task in tasks:
            label = ", ".join(team.placements[task.id].agents) if team is not None else ""
            steps[task.id] = PlannedStep(
                id=task.id,
                kind="routine",
                label=label,
                name=task.description.split("\n", 1)[0][:80],
                line=lines(task.pointer),
                parents=tuple(name for name in task.dependencies if name in {one.id for one in tasks}),
            )
        swarm = self.swarm
        return PlanSummary(
            swarm.name, generations(tasks), steps, swarm.description or swarm.goal, swarm.path, swarm.schedule
        )

    @property
    def known_tasks(self) -> tuple[SubTask, ...]:
        """The tasks as far as they are known before the run."""
        if not self._known:
            self._known.append(self._tasks_of_file())
        return self._known[0]

    @property
    def known_team(self) -> TeamStructure | None:
        """The team for these tasks; None where there is none, or nothing to do yet."""
        return self._team_or_none(self.known_tasks)

    def _tasks_of_file(self) -> tuple[SubTask, ...]:
        if self.given is not None:
            return self.given
        if self.organisation is None or not self.organisation.graph.tasks:
            return ()
        try:
            return self.organisation.tasks(self.organisation.allocate(self.agents))
        except VrooliError:
            return self.organisation.every_task

    def _team_or_none(self, tasks: Sequence[SubTask]) -> TeamStructure | None:
        try:
            return self.form(tasks) if tasks else None
        except VrooliError:
            return None


def generations(tasks: Sequence[SubTask]) -> tuple[tuple[str, ...], ...]:
    """The phases of a task graph, each in the order of the tasks."""
    import networkx as nx

    graph: Any = nx.DiGraph()
    graph.add_nodes_from(task.id for task in tasks)
    graph.add_edges_from((name, task.id) for task in tasks for name in task.dependencies if name in graph)
    order = {task.id: at for at, task in enumerate(tasks)}
    return tuple(tuple(sorted(phase, key=order.__getitem__)) for phase in nx.topological_generations(graph))


def plan_swarm(bundle: SwarmBundle, tools: ToolRegistry) -> tuple[SwarmPlan | None, list[Problem]]:
    """The plan of a swarm, or None; and all that is wrong or worth a warning."""
    compiler = _Compiler(bundle, tools)
    plan = compiler.compile()
    problems = list(dict.fromkeys(compiler.problems))
    wrong = [problem for problem in problems if not problem.warning]
    return (None if wrong else plan), problems


class _Compiler:
    """Compiles one swarm; a problem is noted and compilation goes on, so that all are found at once."""

    def __init__(self, bundle: SwarmBundle, tools: ToolRegistry) -> None:
        self.problems: list[Problem] = []
        self._bundle = bundle
        self._swarm = bundle.swarm
        self._tools = tools.overlay(tool for tool in swarm_tools() if tools.get_tool(tool.name) is None)
        self._vars = set(self._swarm.vars)
        self._dashed: frozenset[str] = frozenset()
        self._tasks: tuple[str, ...] | None = None

    def compile(self) -> SwarmPlan | None:
        swarm = self._swarm
        organisation = self._organisation()
        self._tasks = self._known_tasks(organisation)
        self._dashed = frozenset(name for name in self._tasks or () if "-" in name)
        start = ("inputs", "vars", "env", "run")
        resolver, members, handlers = self._routines()
        plan = SwarmPlan(
            swarm=swarm,
            bundle=self._bundle,
            agents=tuple(agent.agent for agent in swarm.agents),
            members=members,
            handlers=handlers,
            goal=self._told(swarm.goal, ("goal",), start),
            given=swarm.tasks,
            descriptions={
                task.id: self._told(task.description, (*task.pointer, "description"), (*start, "goal"))
                for task in swarm.tasks or ()
            },
            task_ids=self._tasks,
            outputs=self._outputs(),
            synthesis=self._synthesis("prompt"),
            synthesis_system=self._synthesis("system"),
            vars=tuple(
                (name, self._value(raw, ("vars", name), ("inputs", "env", "run", "secrets")))
                for name, raw in swarm.vars.items()
            ),
            env=tuple(
                (name, self._value(raw, ("env", name), ("inputs", "vars", "run", "secrets")))
                for name, raw in swarm.env.items()
                if raw is not None
            ),
            organisation=organisation,
            conditions=self._conditions(organisation),
            decomposer=GoalDecomposer(swarm.planner),
        )
        for key in self._bundle.routines:
            resolver.create_execution_plan(key)
        self.problems += resolver.problems
        if graph_violations(swarm.tasks or ()):  # loading has told it
            return None
        if not any(not problem.warning for problem in self.problems):
            self._check_team(plan)
        return plan

    # -- the organisation ---------------------------------------------------------------------------------------------

    def _organisation(self) -> Organised | None:
        spec = self._spec()
        if spec is None:
            return None
        organised = Organised(spec)
        circle = find_circle({name: task.dependencies for name, task in organised.graph.tasks.items()})
        if circle:
            self._problem(("constraints",), f"goals wait for each other: {' → '.join(circle)}", code="CYCLE")
            return None
        return organised

    def _spec(self) -> OrganisationSpec | None:
        from vrooli_cli.tier1.moise.spec import read_organisation
        from vrooli_cli.tier1.moise.xml import organisation_from_xml

        swarm = self._swarm
        if swarm.constraints is not None and swarm.constraints_key:
            return self._spec_of_file(swarm.constraints, swarm.constraints_key)
        if swarm.constraints is not None:
            spec, problems = read_organisation(swarm.constraints, ("constraints",))
            self.problems += [replace(one, file=swarm.key) for one in problems]
            return None if problems else spec
        if not swarm.constraints_key:
            return None
        texts, file = self._bundle.texts, Path(swarm.constraints_key)
        beside = {Path(key).name: text for key, text in texts.items() if Path(key).parent == file.parent}
        try:
            return organisation_from_xml(texts.get(swarm.constraints_key, ""), Path(shown(file)), beside)
        except DefinitionError as error:
            self.problems += error.problems
            return None

    def _spec_of_file(self, data: Mapping[str, Any], key: str) -> OrganisationSpec | None:
        """The organisation in a YAML file of its own; its problems have that file's lines."""
        from vrooli_cli.tier1.moise.spec import read_organisation

        text = self._bundle.texts.get(key, "")
        document = read_text(text.encode(), shown(Path(key))) if text else None
        whole = document.data if document is not None else None
        wrapped = isinstance(whole, dict) and set(whole) == {"constraints"}
        spec, problems = read_organisation(data, ("constraints",) if wrapped else ())
        self.problems += [document.source.place(one) if document is not None else one for one in problems]
        return None if problems else spec

    def _conditions(self, organisation: Organised | None) -> dict[str, Value]:
        """The conditions of norms; those of XML files are in another language and hold always."""
        if organisation is None or self._swarm.constraints is None:
            return {}
        at: Pointer = ("constraints", "normative", "norms")
        return {
            norm.id: self._value(
                norm.condition,
                (*at, n, "condition"),
                (*ROOTS, "agent") if norm.type == "prohibition" else ROOTS,
                mode="expression",
            )
            for n, norm in enumerate(organisation.spec.normative.norms)
            if norm.condition
        }

    def _known_tasks(self, organisation: Organised | None) -> tuple[str, ...] | None:
        if self._swarm.tasks is not None:
            return tuple(task.id for task in self._swarm.tasks)
        if organisation is not None and organisation.graph.tasks:
            return tuple(organisation.graph.tasks)
        return None

    def _check_team(self, plan: SwarmPlan) -> None:
        """That a team can do what is known, and that no norm forbids what the file assigns."""
        tasks = plan.known_tasks
        if not tasks and plan.organisation is None:
            return
        try:
            team = plan.form(tasks)
        except VrooliError as error:
            at: Pointer = ("constraints",) if plan.organisation is not None else ("tasks",)
            if not all(capability_violations(task, plan.agents) for task in self._blamed(tasks, error)):
                self._problem(at, error.message, code=error.code)  # else loading has told it, task by task
            return
        if plan.organisation is None:
            return
        plays = (team.organisation or {}).get("plays", ())
        for name, given in self._swarm.assignments.items():
            roles = roles_of([_play(row) for row in plays], given.agent)
            violation = plan.organisation.not_permitted(given.agent, name, roles)
            if violation is not None:
                self._problem(("assignments", name, "agent"), violation.message, code="NORM_VIOLATED")

    def _blamed(self, tasks: Sequence[SubTask], error: VrooliError) -> list[SubTask]:
        """The tasks that an error is about; every one when it names none."""
        named = error.context.get("tasks") or [task.id for task in tasks]
        return [task for task in tasks if task.id in named]

    # -- routines -----------------------------------------------------------------------------------------------------

    def _routines(self) -> tuple[DependencyResolver, dict[str, AgentPlan], dict[str, RoutinePlan]]:
        swarm = self._swarm
        made = {f"agent:{agent.id}": self._task_routine(agent) for agent in swarm.agents if agent.reference is None}
        made |= {f"handlers.{name}": self._handler_routine(name, steps) for name, steps in swarm.handlers.items()}
        routines = {**self._bundle.routines, **made}
        resolver = DependencyResolver(Bundle(next(iter(routines), ""), routines), self._tools)
        members = {}
        for agent in swarm.agents:
            key = agent.target if agent.reference is not None else f"agent:{agent.id}"
            if key in routines:
                plan = resolver.create_execution_plan(key)
                takes = frozenset(plan.routine.inputs)
                members[agent.id] = AgentPlan(agent, plan, takes, agent.reference is not None)
        handlers = {name: resolver.create_execution_plan(f"handlers.{name}") for name in swarm.handlers}
        for name, steps in swarm.handlers.items():
            self._check_tasks_in(steps, ("handlers", name))
        return resolver, members, handlers

    def _task_routine(self, agent: AgentDefinition) -> Routine:
        """One reasoning step with the agent's persona and tools."""
        swarm = self._swarm
        step = Step(
            id=TASK_STEP,
            name=agent.name,
            action=Prompt(
                prompt="{{ task.briefing }}",
                system=agent.system or _persona(agent),
                tools=agent.tools,
                reveal=agent.reveal,
            ),
            pointer=agent.pointer,
            strategy=ExecutionStrategy.REASONING,
            model=agent.model or swarm.defaults.model,
            timeout_ms=swarm.defaults.timeout_ms,
            retry=swarm.defaults.retry,
            on_error=swarm.defaults.on_error or OnError(),
        )
        return self._made(f"agent:{agent.id}", agent.name or agent.id, (step,))

    def _handler_routine(self, name: str, steps: tuple[Step, ...]) -> Routine:
        return self._made(f"handlers.{name}", f"handlers.{name}", steps, ("goal", "tasks"))

    def _made(self, key: str, name: str, steps: tuple[Step, ...], given: Sequence[str] = _TASK_INPUTS) -> Routine:
        swarm = self._swarm
        inputs = {**swarm.inputs, **{word: Input(word, _ANYTHING, required=False) for word in given}}
        return Routine(
            name=name,
            steps=steps,
            path=swarm.path,
            key=swarm.key,
            inputs=inputs,
            vars=swarm.vars,
            env=swarm.env,
            secrets=swarm.secrets,
            extras={"models": swarm.extras["models"]} if "models" in swarm.extras else {},
        )

    # -- values and names ---------------------------------------------------------------------------------------------

    def _outputs(self) -> tuple[tuple[str, Value], ...] | None:
        swarm = self._swarm
        if swarm.outputs is None:
            return None
        names = (*ROOTS, "synthesis") if swarm.synthesis is not None else ROOTS
        return tuple((name, self._value(raw, ("outputs", name), names)) for name, raw in swarm.outputs.items())

    def _synthesis(self, key: str) -> Value | None:
        synthesis = self._swarm.synthesis
        raw = getattr(synthesis, key) if synthesis is not None else None
        if raw is None:
            return None
        return self._told(raw, ("synthesis", key), ROOTS, template=True)

    def _told(self, raw: Any, at: Pointer, roots: Sequence[str], *, template: bool = False) -> Value:
        """A text that a model is told: no secret may stand in it."""
        value = self._value(raw, at, roots, mode="template" if template else "value")
        for ref in value.references:
            name = str(ref.path[1] if ref.path[0] == "inputs" and len(ref.path) > 1 else ref.path[0])
            declared = self._swarm.inputs.get(name)
            if ref.path[0] == "secrets" or (declared is not None and declared.secret):
                hint = "let the agent that needs it have it, with `reveal:` or in a routine"
                self._problem(at, f"the secret {ref.path[-1]!r} would stand in a prompt", hint)
        return value

    def _value(self, raw: Any, at: Pointer, roots: Sequence[str], *, mode: Mode = "value") -> Value:
        problems: list[Problem] = []
        value = compile_value(raw, pointer=at, problems=problems, dashed=self._dashed, mode=mode)
        self.problems += [replace(problem, file=self._swarm.key) for problem in problems]
        for ref in value.references:
            self._check_name(ref.path, ref.computed, ref.pointer or at, roots)
        return value

    def _check_name(self, path: tuple[Any, ...], computed: bool, at: Pointer, roots: Sequence[str]) -> None:
        root = path[0]
        if root in self._swarm.inputs and "inputs" in roots:
            return
        if root not in roots:
            known = [*self._swarm.inputs, *roots]
            hint = f"the result of a task is `tasks.{root}.result`" if root in (self._tasks or ()) else ""
            self._problem(
                at, f"there is no name {root!r} here", hint or did_you_mean(str(root), known) or _listed(known)
            )
        elif root == "tasks":
            self._check_task_name(path, computed, at)
        elif len(path) > 1:
            self._check_field(str(root), str(path[1]), at)

    def _check_task_name(self, path: tuple[Any, ...], computed: bool, at: Pointer) -> None:
        if self._tasks is None or computed or len(path) < 2:
            return
        name = str(path[1])
        if name not in self._tasks:
            hint = did_you_mean(name, self._tasks) or _listed(self._tasks)
            self._problem(at, f"there is no task {name!r}", hint)
        elif len(path) > 2 and path[2] not in TASK_FIELDS:
            hint = did_you_mean(str(path[2]), TASK_FIELDS) or _listed(TASK_FIELDS)
            self._problem(at, f"tasks.{name} has no field {path[2]!r}", hint)

    def _check_field(self, root: str, name: str, at: Pointer) -> None:
        swarm = self._swarm
        known: Collection[str] | None = {
            "inputs": swarm.inputs,
            "vars": swarm.vars,
            "env": swarm.env,
            "secrets": swarm.secrets,
            "run": RUN_FIELDS,
        }.get(root)
        if known is not None and name not in known:
            hint = did_you_mean(name, known) or (_listed(known) if known else f"declare it under `{root}:`")
            self._problem(at, f"there is no {root}.{name}", hint)

    def _check_tasks_in(self, value: Any, at: Pointer) -> None:
        """The tasks that texts of a handler name; all else of them is checked as in a routine."""
        if isinstance(value, str):
            self._check_tasks_in_text(value, at)
            return
        if isinstance(value, Step):
            at = value.pointer
            parts: Iterable[Any] = (getattr(value, name) for name in _TEXTS_OF_STEPS)
        elif isinstance(value, Mapping):
            parts = value.values()
        elif isinstance(value, list | tuple):
            parts = value
        else:
            parts = [getattr(value, one.name) for one in fields_of(value)] if is_dataclass(value) else ()
        for part in parts:
            self._check_tasks_in(part, at)

    def _check_tasks_in_text(self, text: str, at: Pointer) -> None:
        if "tasks" in text and "{{" in text:
            for ref in compile_value(text, problems=[], dashed=self._dashed).references:
                if ref.path[0] == "tasks":
                    self._check_task_name(ref.path, ref.computed, at)

    def _problem(self, at: Pointer, message: str, hint: str = "", code: str = "DEFINITION_INVALID") -> None:
        self.problems.append(Problem(at, message, hint, code, file=self._swarm.key))


def _play(row: Sequence[str]) -> Any:
    from vrooli_cli.tier1.organise import Play

    return Play(*row)


def _persona(agent: AgentDefinition) -> str:
    about = f" {agent.description.strip()}" if agent.description.strip() else ""
    able = f" You are capable of {', '.join(agent.capabilities)}." if agent.capabilities else ""
    return (
        f"You are {agent.name or agent.id}, a member of a team of agents.{about}{able} Do the task that you are given."
    )


def _listed(names: Iterable[str]) -> str:
    return f"there is {', '.join(list(names)[:12])}"
