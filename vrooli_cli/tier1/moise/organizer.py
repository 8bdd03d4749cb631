"""Who plays what, who is committed to what, who does which task: exact, or shown to be impossible.

:class:`MOISEOrganizer` writes an organisation's rules down as decisions (agent × role × group, agent × mission) and
lets a solver decide them (``solver``, where the choice of the library and its measures stand). Of all allocations that
keep the rules it takes one with the lowest peak of mission work, then with the fewest roles, then the first by agent
id, so equal input gives an equal team. If there is none, it says which rules are in conflict: a smallest set of them.

What the rules say (spec swarm.md, "Constraints: MOISE+"):

* Every root group has one instance; subgroups have what their bounds ask for, and more where the rules need them.
* Roles take capable agents, within the bounds of group and organisation; two roles of one agent are compatible.
* An obligation of a played role commits the agent to the mission, until the mission is full; nobody is committed
  without an obligation or a permission, or against a prohibition; missions are within bounds.
* A goal that somebody has to achieve has as many committed agents as it needs; a choice has one such branch.
* A task that is no goal goes to a capable agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Protocol

from vrooli_cli.errors import VrooliError
from vrooli_cli.model.organization import ANY_NUMBER, Goal, GroupSpec, Norm, OrganisationSpec, Scheme
from vrooli_cli.tier1.moise.schemes import SchemeGraph, SchemeTask, scheme_graph
from vrooli_cli.tier1.moise.solver import Rules, Solution
from vrooli_cli.tier1.moise.structure import Structure, mission_in

DEFAULT_COMPLEXITY = 5
MAX_GROUPS = 200
_EVERYBODY = "organisation"


class AgentLike(Protocol):
    """What the organizer asks of an agent."""

    @property
    def id(self) -> str:
        """Unique in the swarm."""

    @property
    def capabilities(self) -> Iterable[str]:
        """What it can do."""

    @property
    def max_concurrent_tasks(self) -> int:
        """How many tasks it runs at one moment; it bounds no total, so it is of no weight here."""


class TaskLike(Protocol):
    """What the organizer asks of a task; one whose id is a goal's stands for that goal."""

    @property
    def id(self) -> str:
        """Unique in the swarm."""

    @property
    def required_capabilities(self) -> Iterable[str]:
        """What its agent must be able to do."""

    @property
    def estimated_complexity(self) -> int | None:
        """From 1 to 10, 5 where nobody said."""


@dataclass(frozen=True, slots=True)
class AllocatedGroup:
    """A group of the team: its name, its kind, the group that it is part of."""

    name: str
    kind: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class RolePlay:
    """``agent`` plays ``role`` in ``group``, a group of that ``kind``, because of ``reason``."""

    agent: str
    role: str
    group: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Commitment:
    """``agent`` is committed to ``mission`` of ``scheme``, because of ``reason``."""

    agent: str
    scheme: str
    mission: str
    reason: str


@dataclass(frozen=True, slots=True)
class TaskAssignment:
    """``agent`` does ``task``, because of ``reason``; a goal that needs several agents has several of these."""

    task: str
    agent: str
    reason: str


@dataclass(frozen=True, slots=True)
class TeamAllocation:
    """A team that keeps every rule.

    Attributes:
        graph: The tasks of the schemes; empty when the organisation has none.
        branches: Id of a choice → the numbers of the branches that the team can do, in the order to try.
        plays: An agent's roles stand in an order in which it can adopt them.
    """

    groups: tuple[AllocatedGroup, ...]
    plays: tuple[RolePlay, ...]
    commitments: tuple[Commitment, ...]
    assignments: tuple[TaskAssignment, ...]
    graph: SchemeGraph
    branches: Mapping[str, tuple[int, ...]]

    def roles_of(self, agent: str) -> tuple[str, ...]:
        """The roles that an agent plays, each once."""
        return tuple(dict.fromkeys(p.role for p in self.plays if p.agent == agent))

    def agents_of(self, task: str) -> tuple[str, ...]:
        """Who does a task."""
        return tuple(a.agent for a in self.assignments if a.task == task)


class MOISEOrganizer:
    """Allocates agents to the roles, groups, missions and tasks of an organisation."""

    def organize_team(
        self,
        agents: Sequence[AgentLike],
        spec: OrganisationSpec,
        tasks: Sequence[TaskLike] = (),
        *,
        schemes: Sequence[str] | None = None,
    ) -> TeamAllocation:
        """A team of ``agents`` for the organisation, its schemes and the given tasks.

        Args:
            agents: Who is there; their order is of no weight.
            spec: The organisation.
            tasks: Tasks besides those of the schemes, or in the place of a goal whose name they carry.
            schemes: The schemes to carry out; all of them by default.

        Raises:
            VrooliError: ``TEAM_INFEASIBLE``, with the smallest set of rules in conflict in its message and in
                ``context["rules"]``, and the tasks among them in ``context["tasks"]``.
        """
        wanted = [s for s in spec.functional.schemes.values() if schemes is None or s.id in schemes]
        most = 1
        while True:
            encoding = _Encoding(_with_groups(spec), agents, wanted, tasks, most)
            with Solution(encoding.rules, encoding.circles) as solution:
                taken = _best(encoding, solution)
                if taken is not None:
                    return _Team(encoding, taken).allocation()
                if not encoding.cut_short or most >= len(agents):
                    raise _infeasible(solution.conflict(), tasks)
            most *= 2


def _best(encoding: _Encoding, solution: Solution) -> frozenset[int] | None:
    """The best allocation, or None when there is none."""
    taken = solution.found()
    if taken is None:
        return None
    taken = solution.minimize(taken, encoding.work())
    taken = solution.minimize(taken, [list(encoding.plays.values())])
    return solution.prefer(taken, [*encoding.plays.values(), *encoding.commits.values()])


def _infeasible(rules: list[str], tasks: Sequence[TaskLike]) -> VrooliError:
    listed = "; ".join(rules)
    concerned = [t.id for t in tasks if any(rule.startswith(f"task {t.id!r} ") for rule in rules)]
    return VrooliError(
        f"no team of these agents can keep these rules together: {listed}",
        code="TEAM_INFEASIBLE",
        tier="tier1",
        context={"rules": rules, "tasks": concerned},
    )


def _with_groups(spec: OrganisationSpec) -> OrganisationSpec:
    """The organisation with one group for all its roles, where it specifies no group."""
    if spec.structural.groups:
        return spec
    everybody = GroupSpec(_EVERYBODY, roles=dict.fromkeys(spec.structural.roles, ANY_NUMBER))
    return replace(spec, structural=replace(spec.structural, groups={_EVERYBODY: everybody}))


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    """A group that may be created; ``exists`` is the decision whether it is."""

    name: str
    kind: GroupSpec
    parent: _Slot | None
    exists: int

    def within(self, other: _Slot) -> bool:
        """True for ``other`` itself and all that is part of it."""
        return self is other or (self.parent is not None and self.parent.within(other))


class _Encoding:
    """The organisation's rules on these agents, as decisions.

    Attributes:
        plays: (agent, slot, role) → its decision.
        commits: (agent, scheme, mission) → its decision.
        cut_short: True when a group may have more instances than were offered.
    """

    def __init__(
        self,
        spec: OrganisationSpec,
        agents: Sequence[AgentLike],
        schemes: Sequence[Scheme],
        tasks: Sequence[TaskLike],
        most: int,
    ) -> None:
        self.spec = spec
        self.structure = Structure(spec)
        self.agents = sorted(agents, key=lambda a: a.id)
        self.schemes = schemes
        self.tasks = tasks
        self.graph = scheme_graph(schemes)
        self.rules = Rules()
        self.slots: list[_Slot] = []
        self.plays: dict[tuple[str, _Slot, str], int] = {}
        self.commits: dict[tuple[str, str, str], int] = {}
        self.cut_short = False
        self._most = most
        self._roles_of: dict[str, list[tuple[str, int]]] = {a.id: [] for a in self.agents}
        for root in spec.structural.groups.values():
            self._open(root, None)
        self._decide_plays()
        self._bound_groups()
        self._bound_roles()
        self._keep_compatibilities()
        self._keep_assignments()
        for scheme in schemes:
            self._decide_commitments(scheme)
            self._keep_norms(scheme)
            self._keep_goals(scheme)
        self._keep_tasks()

    def work(self) -> list[list[int]]:
        """For each agent its commitments, each as often as its mission has goals."""
        sizes = {(s.id, m.id): len(m.goals) for s in self.schemes for m in s.missions.values()}
        return [
            [
                x
                for (who, scheme, mission), x in self.commits.items()
                if who == a.id
                for _ in range(sizes[scheme, mission])
            ]
            for a in self.agents
        ]

    def circles(self, taken: frozenset[int]) -> list[list[int]]:
        """Clauses against roles of one agent that allow each other in a circle, so that none can be adopted first.

        Two roles that do not go together at all are the business of a rule, and of no clause here.
        """
        clauses = []
        for agent in self.agents:
            mine = [(s, r) for (a, s, r), x in self.plays.items() if a == agent.id and x in taken]
            _, circle = self.adoption_order(mine)
            if circle and all(self._leads(p, q) or self._leads(q, p) for p, q in combinations(circle, 2)):
                clauses += [[-self.plays[a.id, slot, role] for slot, role in circle] for a in self.agents]
        return clauses

    def adoption_order(self, plays: list[tuple[_Slot, str]]) -> tuple[list[tuple[_Slot, str]], list[tuple[_Slot, str]]]:
        """The roles of one agent in an order in which each can be adopted, and those that have no place in it."""
        ordered: list[tuple[_Slot, str]] = []
        left = list(plays)
        while left:
            first = next((p for p in left if all(self._leads(p, other) for other in left if other is not p)), None)
            if first is None:
                break
            ordered.append(first)
            left.remove(first)
        return ordered, left

    def players(self, role: str, slot: _Slot | None = None) -> list[int]:
        """The decisions to play ``role``, in ``slot`` and its subgroups or anywhere."""
        return [x for (_, s, r), x in self.plays.items() if r == role and (slot is None or s.within(slot))]

    def committed(self, scheme: str, mission: str) -> list[int]:
        """The decisions to be committed to a mission."""
        return [self.commits[a.id, scheme, mission] for a in self.agents]

    # Groups and roles

    def _open(self, kind: GroupSpec, parent: _Slot | None) -> None:
        """Offer the instances of a kind of group, with all that may be in them."""
        exists: list[int] = []
        for number in range(self._instances(kind, parent)):
            prefix = f"{parent.name}." if parent and parent.parent is not None else ""
            name = prefix + (kind.id if number == 0 else f"{kind.id}{number + 1}")
            slot = _Slot(name, kind, parent, self.rules.decision())
            if parent is None:
                self.rules.at_least(1, [slot.exists], None)
            else:
                self.rules.implies(slot.exists, [parent.exists], None)
            if exists:  # the instances are alike: they are used in order
                self.rules.implies(slot.exists, [exists[-1]], None)
            exists.append(slot.exists)
            self.slots.append(slot)
            for sub in kind.subgroups:
                self._open(sub, slot)
        if parent is not None:
            bounds = self.structure.subgroup_cardinality(parent.kind.id, kind.id)
            rule = f"group {parent.kind.id!r} has at least {bounds.min} group(s) {kind.id!r}"
            self.rules.at_least(bounds.min, exists, rule, [parent.exists])

    def _instances(self, kind: GroupSpec, parent: _Slot | None) -> int:
        if parent is None:
            return 1
        bounds = self.structure.subgroup_cardinality(parent.kind.id, kind.id)
        highest = max(len(self.agents), bounds.min) if bounds.max is None else bounds.max
        room = max(MAX_GROUPS - len(self.slots), 0)
        offered = min(highest, max(bounds.min, self._most), room)
        self.cut_short = self.cut_short or offered < min(highest, room)
        return offered

    def _decide_plays(self) -> None:
        for slot in self.slots:
            for role in slot.kind.roles:
                needed = self._capabilities(role)
                for agent in self.agents:
                    play = self.plays[agent.id, slot, role] = self.rules.decision()
                    self._roles_of[agent.id].append((role, play))
                    self.rules.implies(play, [slot.exists], None)
                    if not needed <= set(agent.capabilities):
                        listed = ", ".join(sorted(needed))
                        self.rules.at_least(1, [-play], f"role {role!r} takes agents capable of {listed}")

    def _capabilities(self, role: str) -> set[str]:
        roles = self.spec.structural.roles
        return {c for r in self.structure.ancestry(role) if r in roles for c in roles[r].capabilities}

    def _bound_groups(self) -> None:
        for slot in self.slots:
            for role in slot.kind.roles:
                bounds = self.structure.role_cardinality(slot.kind.id, role)
                here = [self.plays[a.id, slot, role] for a in self.agents]
                where = f"in group {slot.kind.id!r}"
                self._bound(here, bounds.min, bounds.max, f"player(s) of {role!r} {where}", slot)
            for constraint in slot.kind.cardinalities:
                if constraint.object == "role" and constraint.id not in slot.kind.roles:
                    bounds = constraint.cardinality
                    what = f"player(s) of {constraint.id!r} in group {slot.kind.id!r} and its subgroups"
                    self._bound(self.players(constraint.id, slot), bounds.min, bounds.max, what, slot)

    def _bound_roles(self) -> None:
        for role in self.spec.structural.roles.values():
            bounds = role.cardinality
            what = f"player(s) of {role.id!r} in the organisation"
            self._bound(self.players(role.id), bounds.min, bounds.max, what, None)

    def _bound(self, decisions: list[int], low: int, high: int | None, what: str, slot: _Slot | None) -> None:
        when = [] if slot is None else [slot.exists]
        self.rules.at_least(low, decisions, f"at least {low} {what}" if low else None, when)
        if high is not None:
            self.rules.at_most(high, decisions, f"at most {high} {what}")

    def _keep_compatibilities(self) -> None:
        """No two roles of one agent that neither allows the other; the order of adoption is free."""
        places = [(slot, role) for slot in self.slots for role in slot.kind.roles]
        for (one_slot, one), (other_slot, other) in combinations(places, 2):
            same = one_slot is other_slot
            if self._allows(one, other, other_slot, same) or self._allows(other, one, one_slot, same):
                continue
            where = f"in one group {one_slot.kind.id!r}" if same else "in two groups"
            first, second = sorted((one, other))
            rule = f"nobody plays {first!r} and {second!r} {where}"
            for agent in self.agents:
                pair = self.plays[agent.id, one_slot, one], self.plays[agent.id, other_slot, other]
                self.rules.at_most(1, pair, rule)

    def _leads(self, one: tuple[_Slot, str], other: tuple[_Slot, str]) -> bool:
        """True when who plays ``one`` may adopt ``other`` after it."""
        return self._allows(one[1], other[1], other[0], one[0] is other[0])

    def _allows(self, played: str, wanted: str, slot: _Slot, same: bool) -> bool:
        return self.structure.compatible(played, wanted, slot.kind.id, same_instance=same)

    def _keep_assignments(self) -> None:
        known = {a.id for a in self.agents}
        for agent, roles in self.spec.assignments.items():
            if agent not in known:
                raise VrooliError(f"assignments: there is no agent {agent!r}", code="DEFINITION_INVALID", tier="tier1")
            for role in roles:
                mine = [x for (a, _, r), x in self.plays.items() if (a, r) == (agent, role)]
                self.rules.at_least(1, mine, f"{agent!r} plays {role!r} (assignments)")
            for (a, _, role), play in self.plays.items():
                if a == agent and role not in roles:
                    self.rules.at_least(
                        1, [-play], f"{agent!r} plays only {', '.join(roles) or 'nothing'} (assignments)"
                    )

    # Missions and goals

    def _decide_commitments(self, scheme: Scheme) -> None:
        for mission in scheme.missions.values():
            for agent in self.agents:
                self.commits[agent.id, scheme.id, mission.id] = self.rules.decision()
            everybody = self.committed(scheme.id, mission.id)
            bounds, what = mission.cardinality, f"agent(s) committed to mission {mission.id!r}"
            self._bound(everybody, bounds.min, bounds.max, what, None)

    def _keep_norms(self, scheme: Scheme) -> None:
        for mission in scheme.missions:
            norms = [n for n in self.spec.normative.norms if n.mission and mission_in(scheme, n.mission) == mission]
            granting = [n for n in norms if n.type != "prohibition"]
            names = ", ".join(n.id for n in granting) or "none"
            for agent in self.agents:
                commit = self.commits[agent.id, scheme.id, mission]
                allowed = [x for n in granting for x in self._bound_by(n, agent.id)]
                self.rules.implies(commit, allowed, f"only roles with a norm for it ({names}) do mission {mission!r}")
                for norm in norms:
                    if norm.type == "prohibition":
                        rule = f"norm {norm.id!r}: {norm.role!r} is prohibited from mission {mission!r}"
                        for play in self._bound_by(norm, agent.id):
                            self.rules.implies(play, [-commit], rule)
            for norm in norms:
                if norm.type == "obligation":
                    self._oblige(norm, scheme, mission)

    def _oblige(self, norm: Norm, scheme: Scheme, mission: str) -> None:
        """Who plays the role is committed, or the mission is full."""
        rule = f"norm {norm.id!r}: {norm.role!r} is obliged to mission {mission!r}"
        high = scheme.missions[mission].cardinality.max
        full: list[int] = []
        if high is not None:
            full = [self.rules.decision()]
            self.rules.at_least(high, self.committed(scheme.id, mission), None, full)
        for agent in self.agents:
            commit = self.commits[agent.id, scheme.id, mission]
            for play in self._bound_by(norm, agent.id):
                self.rules.implies(play, [commit, *full], rule)

    def _bound_by(self, norm: Norm, agent: str) -> Iterator[int]:
        """The decisions by which ``agent`` would play a role that the norm speaks of."""
        return (play for role, play in self._roles_of[agent] if self.structure.is_a(role, norm.role))

    def _keep_goals(self, scheme: Scheme) -> None:
        """The root goal can be reached: all parts of a sequence or parallel, one branch of a choice."""
        needed = {goal: self.rules.decision() for goal in scheme.goals}
        self.rules.at_least(1, [needed[scheme.root]], None)
        tasks = {t.goal: t for t in self.graph.tasks.values() if t.scheme == scheme.id}
        for goal in scheme.goals.values():
            if goal.plan and goal.plan.operator == "choice":
                self.rules.implies(needed[goal.id], [needed[g] for g in goal.plan.goals], None)
            elif goal.plan:
                self.rules.at_least(len(goal.plan.goals), [needed[g] for g in goal.plan.goals], None, [needed[goal.id]])
            if goal.id in tasks:
                self._staff(scheme, goal, needed[goal.id])

    def _staff(self, scheme: Scheme, goal: Goal, needed: int) -> None:
        missions = [m.id for m in scheme.missions.values() if goal.id in m.goals]
        count = max(goal.min or 1, 1)
        rule = f"goal {goal.id!r} needs {count} committed agent(s)" + (
            "" if missions else ", and is part of no mission"
        )
        staff = []
        for agent in self.agents:
            mine = [self.commits[agent.id, scheme.id, m] for m in missions]
            if len(mine) > 1:
                either = self.rules.decision()
                self.rules.implies(either, mine, None)
                mine = [either]
            staff += mine
        self.rules.at_least(count, staff, rule, [needed])

    def _keep_tasks(self) -> None:
        for task in self.tasks:
            if task.id not in self.graph.tasks and not self.able(task):
                listed = ", ".join(sorted(task.required_capabilities))
                self.rules.at_least(1, [], f"task {task.id!r} needs an agent capable of {listed}")

    def able(self, task: TaskLike) -> list[AgentLike]:
        """The agents that have every capability that a task asks for."""
        needed = set(task.required_capabilities)
        return [a for a in self.agents if needed <= set(a.capabilities)]


class _Team:
    """The team that a solution stands for, with the reason of every part."""

    def __init__(self, encoding: _Encoding, taken: frozenset[int]) -> None:
        self._encoding = encoding
        played = [key for key, x in encoding.plays.items() if x in taken]
        self._plays = [
            (agent.id, slot, role)
            for agent in encoding.agents
            for slot, role in encoding.adoption_order([(s, r) for a, s, r in played if a == agent.id])[0]
        ]
        self._commits = [key for key, x in encoding.commits.items() if x in taken]
        self._slots = [s for s in encoding.slots if s.exists in taken and self._is_used(s)]
        self._load: dict[str, int] = {a.id: 0 for a in encoding.agents}

    def allocation(self) -> TeamAllocation:
        """All of it as values."""
        encoding = self._encoding
        assignments = [a for task in self._largest_first() for a in self._assign(task)]
        order = {name: i for i, name in enumerate([*(t.id for t in encoding.tasks), *encoding.graph.tasks])}
        return TeamAllocation(
            groups=tuple(AllocatedGroup(s.name, s.kind.id, s.parent.name if s.parent else None) for s in self._slots),
            plays=tuple(RolePlay(a, r, s.name, s.kind.id, self._why_plays(a, s, r)) for a, s, r in self._plays),
            commitments=tuple(Commitment(a, s, m, self._why_commits(a, s, m)) for a, s, m in self._commits),
            assignments=tuple(sorted(assignments, key=lambda a: (order[a.task], a.agent))),
            graph=encoding.graph,
            branches={c: b for s in encoding.schemes for c, b in self._branches(s)},
        )

    def _is_used(self, slot: _Slot) -> bool:
        """A group in which somebody plays, or that must be there because its parent is."""
        if slot.parent is None or any(s.within(slot) for _, s, _ in self._plays):
            return True
        needed = self._encoding.structure.subgroup_cardinality(slot.parent.kind.id, slot.kind.id).min > 0
        return needed and self._is_used(slot.parent)

    def _largest_first(self) -> list[TaskLike | SchemeTask]:
        """Goals whose agents are given, then the others from the largest on, which evens the loads out."""
        encoding = self._encoding
        others = [t for t in encoding.tasks if t.id not in encoding.graph.tasks]
        goals = sorted(encoding.graph.tasks.values(), key=lambda t: t.agents is not None)
        return [*goals, *sorted(others, key=lambda t: -(t.estimated_complexity or DEFAULT_COMPLEXITY))]

    def _assign(self, task: TaskLike | SchemeTask) -> Iterator[TaskAssignment]:
        if isinstance(task, SchemeTask):
            yield from self._assign_goal(task)
            return
        able = self._encoding.able(task)
        agent = min(able, key=lambda a: (self._load[a.id], a.id)).id
        needed = ", ".join(sorted(task.required_capabilities))
        reason = "is free to" if not needed else f"is capable of {needed}"
        if len(able) > 1:
            reason += f"; the least loaded of {len(able)} such agents ({self._load[agent]})"
        self._load[agent] += task.estimated_complexity or DEFAULT_COMPLEXITY
        yield TaskAssignment(task.id, agent, reason)

    def _assign_goal(self, task: SchemeTask) -> Iterator[TaskAssignment]:
        committed = self._committed(task.scheme, task.goal)
        by_load = sorted(committed, key=lambda a: (self._load[a], a))
        chosen = by_load if task.agents is None else by_load[: max(task.agents, 1)]
        for agent in sorted(chosen):
            self._load[agent] += DEFAULT_COMPLEXITY
            missions = ", ".join(repr(m) for m in committed[agent])
            reason = f"is committed to mission {missions}"
            if len(chosen) < len(committed):
                reason += f"; {len(chosen)} of {len(committed)} committed agents are needed"
            yield TaskAssignment(task.id, agent, reason)

    def _committed(self, scheme: str, goal: str) -> dict[str, list[str]]:
        """The agents committed to a goal, with the missions by which they are."""
        spec = self._encoding.spec.functional.schemes[scheme]
        found: dict[str, list[str]] = {}
        for agent, s, mission in self._commits:
            if s == scheme and goal in spec.missions[mission].goals:
                found.setdefault(agent, []).append(mission)
        return found

    def _branches(self, scheme: Scheme) -> Iterator[tuple[str, tuple[int, ...]]]:
        for goal in scheme.goals.values():
            if goal.plan and goal.plan.operator == "choice":
                task_id = goal.id if goal.id in self._encoding.graph.choices else f"{scheme.id}.{goal.id}"
                yield task_id, tuple(i for i, g in enumerate(goal.plan.goals) if self._reachable(scheme, g))

    def _reachable(self, scheme: Scheme, name: str) -> bool:
        goal = scheme.goals[name]
        in_mission = any(name in m.goals for m in scheme.missions.values())
        if (in_mission or not goal.plan) and len(self._committed(scheme.id, name)) < max(goal.min or 1, 1):
            return False
        if goal.plan is None:
            return True
        some = any if goal.plan.operator == "choice" else all
        return some(self._reachable(scheme, sub) for sub in goal.plan.goals)

    def _why_plays(self, agent: str, slot: _Slot, role: str) -> str:
        encoding = self._encoding
        if role in encoding.spec.assignments.get(agent, ()):
            return "fixed by assignments"
        missions = [m for a, s, m in self._commits if a == agent and self._granting(role, s, m)]
        if missions:
            return "needed for mission " + ", ".join(map(repr, dict.fromkeys(missions)))
        bounds = encoding.structure.role_cardinality(slot.kind.id, role)
        return f"group {slot.kind.id!r} needs {bounds.min} of {role!r}" if bounds.min else f"{role!r} is needed"

    def _why_commits(self, agent: str, scheme: str, mission: str) -> str:
        for who, _, role in self._plays:
            if who == agent and (norms := self._granting(role, scheme, mission)):
                norm = next((n for n in norms if n.type == "obligation"), norms[0])
                return f"{norm.type} {norm.id!r} of role {role!r}"
        return "is committed"

    def _granting(self, role: str, scheme: str, mission: str) -> list[Norm]:
        spec = self._encoding.spec.functional.schemes[scheme]
        norms = self._encoding.structure.norms_of(role)
        return [n for n in norms if n.type != "prohibition" and n.mission and mission_in(spec, n.mission) == mission]


__all__ = [
    "AgentLike",
    "AllocatedGroup",
    "Commitment",
    "MOISEOrganizer",
    "RolePlay",
    "TaskAssignment",
    "TaskLike",
    "TeamAllocation",
]
