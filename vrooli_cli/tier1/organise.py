"""An organisation at work in a swarm: its schemes as tasks, its team, and who may do what there.

What the rules mean stands in :mod:`vrooli_cli.tier1.moise`; here they are asked for one swarm. Everything is pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vrooli_cli.errors import VrooliError
from vrooli_cli.model.organization import Goal, OrganisationSpec
from vrooli_cli.model.run import Agent
from vrooli_cli.model.swarm import Assignment, SubTask
from vrooli_cli.tier1.moise import norms
from vrooli_cli.tier1.moise.organizer import MOISEOrganizer, TeamAllocation
from vrooli_cli.tier1.moise.schemes import SchemeGraph, SchemeTask, scheme_graph
from vrooli_cli.tier1.moise.structure import Structure
from vrooli_cli.tier1.team import TeamManager, TeamStructure

Tried = Mapping[str, Collection[str]]
"""Id of a choice → its branches (goals) that have failed."""


@dataclass(frozen=True, slots=True)
class Play:
    """Who plays what where; what norms and links are asked about."""

    agent: str
    role: str
    group: str
    kind: str


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that an agent is obliged to.

    Attributes:
        tasks: What must be done; all of them.
        seconds: From when the duty begins to when it is violated; None is never.
        goal: The task of a duty that is about one goal's own time; "" for a mission.
    """

    agent: str
    role: str
    norm: str
    tasks: tuple[str, ...]
    seconds: float | None
    goal: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Names the duty in a swarm."""
        return self.norm, self.agent, self.goal


class Organised:
    """The organisation of a swarm.

    Attributes:
        graph: The tasks of its schemes.
    """

    def __init__(self, spec: OrganisationSpec) -> None:
        self.spec = spec
        self.structure = Structure(spec)
        self.schemes = spec.functional.schemes
        self.graph: SchemeGraph = scheme_graph(self.schemes.values())

    def without_norms(self, ids: Collection[str]) -> Organised:
        """The same organisation while these norms do not hold."""
        if not ids:
            return self
        normative = self.spec.normative
        kept = tuple(norm for norm in normative.norms if norm.id not in ids)
        return Organised(replace(self.spec, normative=replace(normative, norms=kept)))

    # -- tasks --------------------------------------------------------------------------------------------------------

    def without(self, tried: Tried) -> Organised:
        """The same organisation whose choices have lost the branches that failed."""
        if not any(tried.values()):
            return self
        schemes = {}
        for scheme in self.schemes.values():
            goals = {name: self._reduced(scheme.id, goal, tried) for name, goal in scheme.goals.items()}
            schemes[scheme.id] = replace(scheme, goals=goals)
        functional = replace(self.spec.functional, schemes=schemes)
        return Organised(replace(self.spec, functional=functional))

    def _reduced(self, scheme: str, goal: Goal, tried: Tried) -> Goal:
        gone = tried.get(goal.id) or tried.get(f"{scheme}.{goal.id}") or ()
        if goal.plan is None or not gone:
            return goal
        return replace(goal, plan=replace(goal.plan, goals=tuple(one for one in goal.plan.goals if one not in gone)))

    def branches(self, choice: str) -> tuple[str, ...]:
        """The goals that a choice is between."""
        for scheme in self.schemes.values():
            name = choice.removeprefix(f"{scheme.id}.") if choice not in scheme.goals else choice
            goal = scheme.goals.get(name)
            if goal is not None and goal.plan is not None and goal.plan.operator == "choice":
                return goal.plan.goals
        return ()

    def tasks(self, allocation: TeamAllocation) -> tuple[SubTask, ...]:
        """The tasks to do, each choice on its first branch that the team can do."""
        picks = {choice: order[0] for choice, order in allocation.branches.items() if order}
        return tuple(_subtask(task) for task in self.graph.picked(picks))

    def instead(self, goals: Sequence[SubTask], given: Mapping[str, SubTask], choice: str) -> tuple[SubTask, ...]:
        """Given tasks when a choice among them takes another branch.

        Args:
            goals: The tasks of the schemes with that branch.
            given: The tasks until now. Goals of another branch go, and who waited for one waits for the new ones.
            choice: What is new is inside of it; other goals that the file left out stay out.
        """
        new = [task for task in goals if task.id not in given and self._is_inside(task.id, choice)]
        fresh = tuple(task.id for task in new)
        kept = {task.id for task in goals} | {name for name in given if self.goal_of(name) is None}
        stay = [task for name, task in given.items() if name in kept]
        return (*(self._waiting(task, kept, fresh) for task in stay), *new)

    def _is_inside(self, task: str, choice: str) -> bool:
        goal = self.goal_of(task)
        return goal is not None and any(name == choice for name, _ in goal.branches)

    def _waiting(self, task: SubTask, kept: Collection[str], fresh: tuple[str, ...]) -> SubTask:
        left = tuple(name for name in task.dependencies if name in kept)
        return task if len(left) == len(task.dependencies) else replace(task, dependencies=(*left, *fresh))

    @property
    def every_task(self) -> tuple[SubTask, ...]:
        """The tasks of all branches, side by side."""
        return tuple(_subtask(task) for task in self.graph.tasks.values())

    def goal_of(self, task: str) -> SchemeTask | None:
        """The goal that a task stands for."""
        return self.graph.tasks.get(task)

    # -- the team -----------------------------------------------------------------------------------------------------

    def allocate(self, agents: Sequence[Agent], tasks: Sequence[SubTask] = ()) -> TeamAllocation:
        """Roles, missions and goals for agents; ``TEAM_INFEASIBLE`` with the rules in conflict."""
        return MOISEOrganizer().organize_team(agents, self.spec, tasks)

    def team(
        self,
        allocation: TeamAllocation,
        tasks: Sequence[SubTask],
        agents: Sequence[Agent],
        *,
        fixed: Mapping[str, Assignment] | None = None,
        leader: str | None = None,
    ) -> TeamStructure:
        """A team that keeps the allocation: goals to who is committed, other tasks as the team manager does."""
        chosen: dict[str, tuple[str, ...]] = {}
        reasons: dict[str, str] = {}
        for task in tasks:
            if task.id in self.graph.tasks:
                chosen[task.id] = allocation.agents_of(task.id)
                reasons[task.id] = next((a.reason for a in allocation.assignments if a.task == task.id), "")
        for name, given in (fixed or {}).items():
            others = tuple(agent for agent in chosen.get(name, ())[1:] if agent != given.agent)
            if given.agent not in chosen.get(name, ()):
                chosen[name] = (given.agent, *others)
            reasons[name] = given.reason or reasons.get(name) or "as the file says"
        lacking = [task for task in tasks if task.id in chosen and not chosen[task.id]]
        if lacking:
            named = ", ".join(task.id for task in lacking)
            raise VrooliError(f"nobody is committed to {named}", code="TEAM_INFEASIBLE", tier="tier1")
        formed = TeamManager().form_optimal_team(agents, tasks, fixed=chosen, reasons=reasons, leader=leader)
        roles = {agent.id: played for agent in agents if (played := allocation.roles_of(agent.id))}
        return replace(formed, roles=roles, organisation=_wire(allocation), branches=allocation.branches)

    # -- norms --------------------------------------------------------------------------------------------------------

    def not_permitted(self, agent: str, task: str, roles: Collection[str]) -> norms.Violation | None:
        """Why an agent may not do a task; None for tasks that are no goals."""
        goal = self.goal_of(task)
        if goal is None:
            return None
        return norms.not_permitted(self.structure, self.schemes[goal.scheme], agent, roles, goal.goal)

    def readable(self, plays: Sequence[Play], reader: str, writer: str) -> bool:
        """May ``reader`` see what ``writer`` has put on the blackboard?"""
        return norms.readable(self.structure, plays, reader, writer)

    def superiors(self, plays: Sequence[Play], agent: str) -> tuple[tuple[str, ...], ...]:
        """Who has authority over an agent, level by level upwards."""
        return norms.escalation(self.structure, plays, agent)

    def duties(self, plays: Sequence[Play], assignments: Mapping[str, Sequence[str]]) -> list[Duty]:
        """What the agents of a plan are obliged to: their goals of a mission within the norm's time."""
        found: dict[tuple[str, str], Duty] = {}
        for scheme in self.schemes.values():
            for duty in norms.commitment_obligations(self.structure, scheme, plays, 0.0):
                goals = scheme.missions[duty.mission].goals
                mine = tuple(
                    task
                    for task, agents in assignments.items()
                    if duty.agent in agents
                    and (goal := self.goal_of(task)) is not None
                    and goal.scheme == scheme.id
                    and goal.goal in goals
                )
                if mine:
                    made = Duty(duty.agent, duty.role, duty.norm, mine, duty.due)
                    found.setdefault((duty.norm, duty.agent), made)
        return list(found.values())

    def goal_duty(self, task: str, agent: str, roles: Collection[str]) -> Duty | None:
        """The duty to achieve a goal in its own time, from when it can be worked on; None when it has none."""
        goal = self.goal_of(task)
        span = norms.seconds(goal.ttf) if goal is not None else None
        if goal is None or span is None:
            return None
        duty = norms.goal_obligation(self.structure, self.schemes[goal.scheme], agent, roles, goal.goal, 0.0)
        role, norm = (duty.role, duty.norm) if duty is not None else (", ".join(roles), f"ttf of {goal.goal}")
        return Duty(agent, role, norm, (task,), span, task)


def plays_of(wire: Mapping[str, Any] | None) -> tuple[Play, ...]:
    """Who plays what, from a ``team/formed`` event."""
    return tuple(Play(*row) for row in (wire or {}).get("plays", ()))


def roles_of(plays: Iterable[Play], agent: str) -> tuple[str, ...]:
    """The roles of an agent, each once."""
    return tuple(dict.fromkeys(play.role for play in plays if play.agent == agent))


def _subtask(task: SchemeTask) -> SubTask:
    return SubTask(id=task.id, description=task.description, dependencies=task.dependencies)


def _wire(allocation: TeamAllocation) -> dict[str, Any]:
    return {
        "groups": [[group.name, group.kind, group.parent] for group in allocation.groups],
        "plays": [[play.agent, play.role, play.group, play.kind] for play in allocation.plays],
        "commitments": [[one.agent, one.scheme, one.mission, one.reason] for one in allocation.commitments],
    }
