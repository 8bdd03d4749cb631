"""Plain data to a :class:`SwarmDefinition` (spec swarm.md): ``forms`` checks keys, this what hangs together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from vrooli_cli.errors import Pointer, Problem
from vrooli_cli.loading import forms
from vrooli_cli.loading.home import Base
from vrooli_cli.loading.routine import (
    Made,
    Resolve,
    StepReader,
    findings_of,
    is_schema,
    placed,
    read_common,
    read_limits,
    read_permissions,
)
from vrooli_cli.loading.shapes import Findings
from vrooli_cli.loading.text import SourceMap
from vrooli_cli.model.routine import PRIORITIES, Limits
from vrooli_cli.model.swarm import (
    DEFAULT_COMPLEXITY,
    MOST_TASKS,
    AgentDefinition,
    Assignment,
    Planner,
    SubTask,
    SwarmDefinition,
    Synthesis,
)

TASK_INPUTS = ("task", "goal", "dependencies")
"""What tier 1 gives an agent's routine beside the swarm's inputs, as far as it declares them."""
_RESERVED = ("goal", "tasks")

ReadConstraints = Callable[[str, Pointer, Findings], tuple[str, Any]]
"""Gives the key of an organisation's file, and its data when the file is YAML."""


def read_swarm(
    data: Any,
    *,
    path: str,
    key: str,
    folder: str,
    source: SourceMap | None,
    base: Base,
    resolve: Resolve,
    constraints: ReadConstraints,
) -> tuple[SwarmDefinition, list[Problem]]:
    """The swarm as far as it can be understood, and everything that is wrong with it.

    Args:
        data: What the file holds; a map.
        path: The file's name for people.
        key: Its key in the bundle.
        folder: What its paths are relative to.
        source: Where things stand.
        base: What the project says.
        resolve: Finds the routines that it names.
        constraints: Reads the organisation when it stands in a file of its own.
    """
    findings = findings_of(source)
    made = forms.SWARM.read(data, (), findings)
    common = read_common(made, path, findings, base, resolve)
    for name in _RESERVED:
        if name in common["inputs"]:
            findings.add(("inputs", name), f"{name!r} means something in a swarm's expressions", at_key=True)
    agents = _agents(made.get("agents", ()), path, findings, resolve)
    tasks = _tasks(made["tasks"], findings) if "tasks" in made else None
    understood = all("id" in entry and "capabilities" in entry for entry in made.get("agents", ()))
    _check_tasks(tasks or (), agents if understood else (), findings)
    constraints_key, organisation = _constraints(made.get("constraints"), findings, constraints)
    leader = made.get("team", {}).get("leader")
    if leader is not None:
        _known(leader, "agent", {agent.id: agent for agent in agents}, ("team", "leader"), findings)
    reader = StepReader(findings, common["defaults"], resolve)
    swarm = SwarmDefinition(
        goal=made.get("goal", ""),
        agents=agents,
        path=path,
        key=key,
        folder=folder,
        tasks=tasks,
        constraints=organisation,
        constraints_key=constraints_key,
        leader=leader,
        planner=Planner(**made.get("planner", {})),
        assignments=_assignments(made, tasks, agents, findings),
        synthesis=_synthesis(made, findings),
        knowledge=made.get("knowledge", ()),
        handlers=reader.handlers(made.get("handlers", {}), ()),
        **common,
    )
    return swarm, placed(findings, source)


def _agents(made: Any, path: str, findings: Findings, resolve: Resolve) -> tuple[AgentDefinition, ...]:
    agents: dict[str, AgentDefinition] = {}
    for n, entry in enumerate(made):
        at: Pointer = ("agents", n)
        agent = _agent(entry, at, path, findings, resolve)
        if agent.id and agent.id in agents:
            first = findings.where((*agents[agent.id].pointer, "id"))
            findings.add((*at, "id"), f"the agent {agent.id!r} is there twice, first at {first}")
        agents.setdefault(agent.id, agent)
    return tuple(agents.values())


def _agent(made: Made, at: Pointer, path: str, findings: Findings, resolve: Resolve) -> AgentDefinition:
    reference = made.get("routine")
    if reference is not None and "system" in made:
        message = "an agent with a `routine` has no use for `system`: the routine's steps have their own"
        findings.warn((*at, "system"), message)
    return AgentDefinition(
        id=made.get("id", ""),
        capabilities=made.get("capabilities", ()),
        name=made.get("name", ""),
        description=made.get("description", ""),
        max_concurrent_tasks=made.get("max_concurrent_tasks", 1),
        current_load=made.get("current_load", 0),
        model=made.get("model", ()),
        system=made.get("system"),
        tools=made.get("tools", ()),
        reference=reference,
        target=resolve(reference, (*at, "routine"), findings) if reference is not None else "",
        permissions=read_permissions(made.get("permissions", {}), (*at, "permissions"), path, findings),
        reveal=made.get("reveal", ()),
        limits=read_limits(made["allocation"]) if "allocation" in made else Limits(),
        pointer=at,
    )


def _tasks(made: Any, findings: Findings) -> tuple[SubTask, ...]:
    tasks: dict[str, SubTask] = {}
    for n, entry in enumerate(made):
        at: Pointer = ("tasks", n)
        task = SubTask(
            id=entry.get("id", ""),
            description=entry.get("description", ""),
            dependencies=entry.get("dependencies", ()),
            required_capabilities=entry.get("required_capabilities", ()),
            estimated_complexity=entry.get("estimated_complexity", DEFAULT_COMPLEXITY),
            priority=PRIORITIES[entry.get("priority", "medium")],
            pointer=at,
        )
        if task.id and task.id in tasks:
            first = findings.where((*tasks[task.id].pointer, "id"))
            findings.add((*at, "id"), f"the task {task.id!r} is there twice, first at {first}")
        tasks.setdefault(task.id, task)
    return tuple(tasks.values())


def _check_tasks(tasks: tuple[SubTask, ...], agents: tuple[AgentDefinition, ...], findings: Findings) -> None:
    """Edges lead to tasks and in no circle; some agent can do each task."""
    if len(tasks) > MOST_TASKS:
        message = f"{len(tasks)} tasks; a swarm has at most {MOST_TASKS}"
        findings.add(("tasks",), message, "let an agent do several of them in a routine")
        return
    known = {task.id: task for task in tasks}
    for task in tasks:
        for n, other in enumerate(task.dependencies):
            at = (*task.pointer, "dependencies", n)
            if other == task.id:
                findings.add(at, f"{other!r} depends on itself: {other} → {other}", code="CYCLE")
            else:
                _known(other, "task", known, at, findings)
        _check_capable(task, agents, findings)
    graph = {task.id: [d for d in task.dependencies if d in known and d != task.id] for task in tasks}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        path = list(reversed(error.args[1]))
        at = next(task.pointer for task in tasks if task.id == path[0])
        findings.add((*at, "dependencies"), f"tasks wait for each other: {' → '.join(path)}", code="CYCLE")


def _check_capable(task: SubTask, agents: tuple[AgentDefinition, ...], findings: Findings) -> None:
    needed = set(task.required_capabilities)
    if not agents or any(needed <= set(agent.capabilities) for agent in agents):
        return
    held = dict.fromkeys(capability for agent in agents for capability in agent.capabilities)
    at = (*task.pointer, "required_capabilities")
    nobody = sorted(needed - held.keys())
    if nobody:
        hint = findings.suggest(nobody[0], held)
        findings.add(at, f"no agent is capable of {', '.join(nobody)}, which {task.id!r} needs", hint, code=_INFEASIBLE)
    else:
        message = f"no one agent is capable of all that {task.id!r} needs: {', '.join(sorted(needed))}"
        findings.add(at, message, "divide the task, or give an agent more capabilities", code=_INFEASIBLE)


_INFEASIBLE = "TEAM_INFEASIBLE"


def _known(name: str, kind: str, known: Mapping[str, object], at: Pointer, findings: Findings) -> bool:
    if name in known:
        return True
    findings.add(at, f"there is no {kind} {name!r}", findings.suggest(name, known))
    return False


def _assignments(
    made: Made,
    tasks: tuple[SubTask, ...] | None,
    agents: tuple[AgentDefinition, ...],
    findings: Findings,
) -> dict[str, Assignment]:
    entries: Mapping[str, Made] = made.get("assignments", {})
    if entries and tasks is None:
        findings.add(("assignments",), "`assignments` need `tasks`", at_key=True)
        return {}
    by_task = {task.id: task for task in tasks or ()}
    by_agent = {agent.id: agent for agent in agents}
    assignments = {}
    for name, entry in entries.items():
        at: Pointer = ("assignments", name)
        agent = entry.get("agent")
        if not _known(name, "task", by_task, at, findings) or agent is None:
            continue
        if not _known(agent, "agent", by_agent, (*at, "agent"), findings):
            continue
        lacking = set(by_task[name].required_capabilities) - set(by_agent[agent].capabilities)
        if lacking:
            message = f"{agent!r} is not capable of {', '.join(sorted(lacking))}, which {name!r} needs"
            findings.add((*at, "agent"), message, code=_INFEASIBLE)
        assignments[name] = Assignment(agent, entry.get("reason", ""))
    return assignments


def _constraints(raw: Any, findings: Findings, read: ReadConstraints) -> tuple[str, Mapping[str, Any] | None]:
    if raw is None or isinstance(raw, dict):
        return "", raw
    key, data = read(raw, ("constraints",), findings)
    if data is not None and not isinstance(data, dict):
        findings.add(("constraints",), f"{raw!r} does not hold an organisation", "it is a map with `structural`…")
        return key, None
    # A file may hold the organisation itself, or under the key that a swarm has for it.
    return key, data["constraints"] if data and set(data) == {"constraints"} else data


def _synthesis(made: Made, findings: Findings) -> Synthesis | None:
    entry = made.get("synthesis")
    if not entry or "prompt" not in entry:
        return None
    if "output_schema" in entry:
        is_schema(entry["output_schema"], ("synthesis", "output_schema"), findings)
    return Synthesis(**entry)
