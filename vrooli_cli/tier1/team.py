"""Who does which task, where no organisation binds the team: capable agents, least expected completion time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vrooli_cli.errors import VrooliError
from vrooli_cli.model.run import Agent
from vrooli_cli.model.swarm import SubTask
from vrooli_cli.tier1.schedule import Instance, loads, solve


@dataclass(frozen=True, slots=True)
class Placement:
    """Who does a task.

    Attributes:
        agents: One, or as many as the goal needs.
        start: When it is expected to start, in units of complexity.
    """

    task: str
    agents: tuple[str, ...]
    reason: str
    start: int = 0


@dataclass(frozen=True, slots=True)
class TeamStructure:
    """A team.

    Attributes:
        placements: By task, in the order of the tasks.
        makespan: When the last task is expected to end, in units of complexity.
        loads: The work of each agent, for each of its places.
        leader: Who leads.
        roles: Agent → the roles that it plays; empty without an organisation.
        organisation: Groups, plays and commitments as plain data; None without an organisation.
        branches: Id of a choice → its branches in the order to try; the first one is taken.
    """

    placements: Mapping[str, Placement]
    makespan: int = 0
    loads: Mapping[str, float] = field(default_factory=dict)
    leader: str | None = None
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    organisation: Mapping[str, Any] | None = None
    branches: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def get_agent_for_task(self, task: str) -> str | None:
        """Who does a task; the first of several, None for a task that is not in the plan."""
        placed = self.placements.get(task)
        return placed.agents[0] if placed is not None else None

    def wire(self) -> dict[str, dict[str, Any]]:
        """Task → ``{agent, reason}``, ``agents`` too where there are several, as events and frozen plans have it."""
        return {
            task: {"agent": placed.agents[0], "reason": placed.reason}
            | ({"agents": list(placed.agents)} if len(placed.agents) > 1 else {})
            for task, placed in self.placements.items()
        }


class TeamManager:
    """Gives tasks to capable agents.

    ``max_concurrent_tasks`` bounds what an agent does at one moment, never its total. Of all teams the one with the
    least makespan is wanted (``estimated_complexity`` is a task's duration), then the lower peak load, then the agents
    that come first by id; equal input gives an equal team. How near it comes: :mod:`vrooli_cli.tier1.schedule`.
    """

    def form_optimal_team(
        self,
        agents: Sequence[Agent],
        tasks: Sequence[SubTask],
        *,
        fixed: Mapping[str, Sequence[str]] | None = None,
        reasons: Mapping[str, str] | None = None,
        leader: str | None = None,
    ) -> TeamStructure:
        """A team for these tasks.

        Args:
            agents: Who is there; their order is of no weight.
            tasks: Dependencies that are not among them are done already.
            fixed: Task → its agents, where that is decided.
            reasons: Why, for those.
            leader: Kept in the result.

        Raises:
            VrooliError: ``TEAM_INFEASIBLE``; its context has the ``tasks`` and the ``rules`` in conflict.
        """
        fixed, reasons = fixed or {}, reasons or {}
        crew = sorted(agents, key=lambda agent: agent.id)
        able = {task.id: tuple(fixed.get(task.id, ())) or capable(task, crew) for task in tasks}
        lacking = [task for task in tasks if not able[task.id]]
        if lacking:
            raise infeasible(lacking, crew)
        jobs = [(task, n) for task in tasks for n in range(len(fixed.get(task.id, ())) or 1)]
        instance = _instance(jobs, crew, able, fixed)
        plan, makespan, starts = solve(instance)
        chosen: dict[str, list[str]] = {}
        first: dict[str, int] = {}
        for (task, _), agent, start in zip(jobs, plan.agents, starts, strict=True):
            chosen.setdefault(task.id, []).append(crew[agent].id)
            first[task.id] = min(start, first.get(task.id, start))
        placements = {
            task.id: Placement(
                task.id,
                tuple(chosen[task.id]),
                reasons.get(task.id) or _reason(task, able[task.id], first[task.id], len(crew)),
                first[task.id],
            )
            for task in tasks
        }
        work = dict(zip((agent.id for agent in crew), loads(instance, plan.agents), strict=True))
        return TeamStructure(placements, makespan, work, leader)


def places(agent: Agent) -> int:
    """How many tasks the agent may do at one moment here."""
    return max(agent.max_concurrent_tasks - agent.current_load, 0)


def capable(task: SubTask, agents: Iterable[Agent]) -> tuple[str, ...]:
    """The agents that have every capability that a task asks for and a place at all, in their order."""
    needed = set(task.required_capabilities)
    return tuple(agent.id for agent in agents if needed <= set(agent.capabilities) and places(agent))


def infeasible(tasks: Sequence[SubTask], agents: Sequence[Agent]) -> VrooliError:
    """``TEAM_INFEASIBLE`` for tasks that no agent can do, with the rules that are in conflict."""
    rules: list[str] = []
    for task in tasks:
        needed = sorted(task.required_capabilities)
        held = {capability for agent in agents for capability in agent.capabilities}
        nobody = [capability for capability in needed if capability not in held]
        rules.append(f"task {task.id!r} needs an agent capable of {', '.join(needed) or 'anything'}")
        if nobody:
            rules.append(f"no agent is capable of {', '.join(nobody)}")
        elif any(set(needed) <= set(agent.capabilities) for agent in agents):
            rules.append("every capable agent has all its places taken (current_load)")
        else:
            rules.append(f"no one agent is capable of {' and '.join(needed)}")
    rules = list(dict.fromkeys(rules))
    named = ", ".join(repr(task.id) for task in tasks[:10])
    return VrooliError(
        f"no team can do {named}: {'; '.join(rules[:6])}",
        code="TEAM_INFEASIBLE",
        tier="tier1",
        context={"tasks": [task.id for task in tasks], "rules": rules},
    )


def _instance(
    jobs: Sequence[tuple[SubTask, int]],
    crew: Sequence[Agent],
    able: Mapping[str, Sequence[str]],
    fixed: Mapping[str, Sequence[str]],
) -> Instance:
    number = {agent.id: at for at, agent in enumerate(crew)}
    parts: dict[str, list[int]] = {}
    for at, (task, _) in enumerate(jobs):
        parts.setdefault(task.id, []).append(at)
    return Instance(
        durations=[task.estimated_complexity for task, _ in jobs],
        parents=[[part for name in task.dependencies for part in parts.get(name, ())] for task, _ in jobs],
        eligible=[
            [number[fixed[task.id][n]]] if task.id in fixed else [number[name] for name in able[task.id]]
            for task, n in jobs
        ],
        places=[max(places(agent), 1) for agent in crew],
        priorities=[task.priority for task, _ in jobs],
    )


def _reason(task: SubTask, able: Sequence[str], start: int, everybody: int) -> str:
    needed = ", ".join(sorted(task.required_capabilities))
    what = f"capable of {needed}" if needed else "free to do it"
    if len(able) == 1 and everybody > 1:
        return f"the only agent {what}"
    if len(able) == 1:
        return what
    return f"{what}; of {len(able)} such agents the one with which the team is done first (starts at {start})"
