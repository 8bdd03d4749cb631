"""The organisation engine: a MOISE+ organisation at work, one operation at a time.

An :class:`Organisation` holds who plays what, who is committed to what, and which goals are reached. Every operation
either keeps the rules of the specification, or raises :class:`OrganisationError` and changes nothing.

The rules, as published (Hübner, Sichman & Boissier 2002 and 2007; the Moise tutorial and API pages), and where those
leave room, as the reference implementation's verdicts show them:

* A role is adopted if it can be played in the group, has a free place there, and goes together with every role that the
  agent already has: by an intra-group compatibility for roles in the same group, by an inter-group one otherwise. As in
  the reference, a compatibility in one direction lets nobody in here; allocation, which follows the papers, uses it.
  Sub-roles inherit compatibilities and norms; they do not count as players of their super-role.
* A group is well formed if each of its roles and kinds of subgroup is within bounds and every subgroup is well formed.
  Only a well-formed group can be made responsible for a scheme; it stays responsible when it changes later.
* An agent may commit to a mission while the scheme's root goal is open and a role that it plays, in a responsible group
  or below one, is obliged or permitted to. It is *obliged* by roles in the responsible group itself, as long as the
  mission lacks agents. A role that has a norm for a mission of the agent is not left.
* A mission is left when its goals are decided or only maintained, or when the scheme is over.
* A scheme is well formed if every mission has enough agents; only then do goals become enabled.
* A goal with sub-goals waits for all of its plan, or for one branch of a choice; and like a leaf for the goal before it
  in the sequence, or for what its super-goal waits for. Nothing becomes enabled under a satisfied or impossible goal.
  ``depends-on`` orders the tasks of a swarm (``schemes``); it is no matter of a goal's state.
* A goal that was told to be enabled stays so until it is decided: somebody may be at work on it.
* A goal is satisfied when ``min`` achievements are told, by default one for each commitment to it. A goal that nobody
  is committed to follows its plan by itself; one with committed agents has to be told about.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from vrooli_cli.errors import OrganisationError
from vrooli_cli.model.organization import Cardinality, Goal, OrganisationSpec, Plan, Scheme
from vrooli_cli.tier1.moise.structure import Structure, mission_in

_GRANTING = ("obligation", "permission")


class GoalState(StrEnum):
    """What can be said of a goal."""

    WAITING = "waiting"
    ENABLED = "enabled"
    SATISFIED = "satisfied"
    IMPOSSIBLE = "impossible"


@dataclass(slots=True, eq=False)
class _Group:
    """A group: its kind, the group it is part of, and who plays what in it (pairs of agent and role)."""

    name: str
    kind: str
    parent: _Group | None
    players: list[tuple[str, str]] = field(default_factory=list)
    subgroups: list[_Group] = field(default_factory=list)

    def count(self, role: str) -> int:
        """How many play exactly ``role`` here."""
        return sum(1 for _, played in self.players if played == role)

    def lineage(self) -> Iterator[_Group]:
        """The group itself, then the group it is part of, up to the root."""
        at: _Group | None = self
        while at is not None:
            yield at
            at = at.parent


@dataclass(slots=True, eq=False)
class _SchemeRun:
    """A scheme at work.

    Attributes:
        achieved: Achievements by goal: the reference counts an agent's repetition too.
        states: What is known of a goal beyond waiting.
    """

    spec: Scheme
    responsible: list[_Group] = field(default_factory=list)
    commitments: list[tuple[str, str]] = field(default_factory=list)
    achieved: dict[str, int] = field(default_factory=dict)
    states: dict[str, GoalState] = field(default_factory=dict)
    super_goal: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for goal in self.spec.goals.values():
            if goal.plan:
                self.super_goal.update(dict.fromkeys(goal.plan.goals, goal.id))

    @property
    def is_open(self) -> bool:
        """True until the root goal is decided."""
        return not self.is_decided(self.spec.root)

    def is_satisfied(self, goal: str) -> bool:
        """True when ``goal`` is reached."""
        return self.states.get(goal) is GoalState.SATISFIED

    def is_impossible(self, goal: str) -> bool:
        """True when ``goal`` was given up."""
        return self.states.get(goal) is GoalState.IMPOSSIBLE

    def is_decided(self, goal: str) -> bool:
        """True when ``goal`` is satisfied or impossible."""
        return self.is_satisfied(goal) or self.is_impossible(goal)

    def count(self, mission: str) -> int:
        """How many agents are committed to ``mission``."""
        return sum(1 for _, committed in self.commitments if committed == mission)

    def committed_agents(self, goal: str) -> list[str]:
        """The agents whose missions hold ``goal``, one as often as its missions do."""
        return [a for a, m in self.commitments if goal in self.spec.missions[m].goals]

    def super_goals(self, goal: str) -> Iterator[str]:
        """The goals above ``goal``, nearest first."""
        at = self.super_goal.get(goal)
        while at is not None:
            yield at
            at = self.super_goal.get(at)


class Organisation:
    """A running organisation of one specification, with any number of groups and one scheme."""

    def __init__(self, spec: OrganisationSpec) -> None:
        self.spec = spec
        self.structure = Structure(spec)
        self._agents: dict[str, None] = {}
        self._groups: dict[str, _Group] = {}
        self._scheme: _SchemeRun | None = None

    # Structure

    def add_agent(self, agent: str) -> None:
        """Let an agent in.

        Raises:
            OrganisationError: ``consistency`` if it is in already.
        """
        _require(agent not in self._agents, f"agent {agent!r} is in the organisation already")
        self._agents[agent] = None

    def create_group(self, spec_id: str, name: str, parent: str | None = None) -> None:
        """Create a group called ``name`` of the kind ``spec_id``, as a part of the group ``parent`` if that is given.

        Raises:
            OrganisationError: ``consistency`` for an unknown kind, a name that is taken, or a kind that has no place
                there; ``cardinality`` if there are as many groups of that kind as there may be.
        """
        _require(spec_id in self.structure.groups, f"no group specification {spec_id!r}")
        above = None if parent is None else self._group(parent)
        home = self.structure.parent[spec_id]
        _require(
            home == (above.kind if above else None),
            f"a group of kind {spec_id!r} is created " + (f"in a group of kind {home!r}" if home else "at the root"),
        )
        if above is None:
            bounds, beside = self.structure.root_cardinality(spec_id), list(self._groups.values())
        else:
            bounds, beside = self.structure.subgroup_cardinality(above.kind, spec_id), above.subgroups
        count = sum(1 for g in beside if g.kind == spec_id)
        where = f"group {above.name!r}" if above else "the organisation"
        _bounded(bounds, count + 1, f"{where} has as many {spec_id!r} groups as it may ({bounds.max})")
        _require(name not in self._groups, f"there is a group {name!r} already")
        group = _Group(name, spec_id, above)
        self._groups[name] = group
        if above is not None:
            above.subgroups.append(group)

    def adopt_role(self, agent: str, role: str, group: str) -> None:
        """Let ``agent`` play ``role`` in ``group``.

        Raises:
            OrganisationError: ``consistency`` if the role cannot be played there, is played by the agent already, or is
                not compatible with a role that it plays; ``cardinality`` if the role has no free place.
        """
        self._known(agent)
        where = self._group(group)
        _require(role in self.structure.groups[where.kind].roles, f"role {role!r} cannot be played in group {group!r}")
        _require((agent, role) not in where.players, f"{agent!r} plays {role!r} in {group!r} already")
        bounds = self.structure.role_cardinality(where.kind, role)
        full = f"group {group!r} has as many {role!r} players as it may ({bounds.max})"
        _bounded(bounds, where.count(role) + 1, full)
        everywhere = self.spec.structural.roles[role].cardinality
        total = sum(g.count(role) for g in self._groups.values())
        _bounded(everywhere, total + 1, f"the organisation has as many {role!r} players as it may ({everywhere.max})")
        for other, played in self._played(agent):
            _require(
                self._together(played, role, where, same_instance=other is where),
                f"{agent!r} plays {played!r} in {other.name!r}, which is not compatible with {role!r} in {group!r}",
            )
        where.players.append((agent, role))

    def leave_role(self, agent: str, role: str, group: str) -> None:
        """Let ``agent`` give up ``role`` in ``group``.

        Raises:
            OrganisationError: ``consistency`` if it does not play it, or if the role has a norm for a mission that the
                agent is committed to, in a responsible group.
        """
        self._known(agent)
        where = self._group(group)
        _require((agent, role) in where.players, f"{agent!r} does not play {role!r} in {group!r}")
        for mission in self._missions(agent):
            granted = where in self._running().responsible and mission in self._normed(role, _GRANTING)
            _require(not granted, f"{agent!r} needs {role!r} for the mission {mission!r}")
        where.players.remove((agent, role))

    def group_well_formed(self, group: str) -> list[str]:
        """Why ``group`` is not well formed, a reason a line; empty when it is.

        Raises:
            OrganisationError: ``consistency`` for an unknown group.
        """
        return self._group_faults(self._group(group))

    # Functioning

    def create_scheme(self, spec_id: str) -> None:
        """Start the scheme ``spec_id``.

        Raises:
            OrganisationError: ``consistency`` if it is unknown, or if a scheme is at work already.
        """
        _require(spec_id in self.spec.functional.schemes, f"no scheme {spec_id!r}")
        _require(self._scheme is None, "this organisation has started its scheme already")
        self._scheme = _SchemeRun(self.spec.functional.schemes[spec_id])

    def make_responsible(self, group: str) -> None:
        """Make ``group`` responsible for the scheme, so that its players may commit to missions.

        Raises:
            OrganisationError: ``consistency`` if it is not well formed.
        """
        scheme, where = self._running(), self._group(group)
        faults = self._group_faults(where)
        _require(not faults, f"group {group!r} is not well formed: " + "; ".join(faults))
        if where not in scheme.responsible:
            scheme.responsible.append(where)

    def scheme_well_formed(self) -> list[str]:
        """Why the scheme is not well formed, a reason a line; empty when it is."""
        scheme = self._running()
        return [
            f"mission {m.id!r} has {scheme.count(m.id)} agents and needs {m.cardinality.min}"
            for m in scheme.spec.missions.values()
            if m.cardinality.lacks(scheme.count(m.id))
        ]

    def commit(self, agent: str, mission: str) -> None:
        """Commit ``agent`` to ``mission``.

        Raises:
            OrganisationError: ``consistency`` if the scheme's root goal is decided, the agent is committed already, or
                no role it plays in a responsible group or below one permits it; ``cardinality`` if the mission is full.
        """
        scheme = self._running()
        self._known(agent)
        _require(mission in scheme.spec.missions, f"scheme {scheme.spec.id!r} has no mission {mission!r}")
        _require(scheme.is_open, f"scheme {scheme.spec.id!r} is over")
        _require((agent, mission) not in scheme.commitments, f"{agent!r} is committed to {mission!r} already")
        _require(
            self._permits(self._played(agent), mission),
            f"no role that {agent!r} plays in a responsible group permits the mission {mission!r}",
        )
        bounds = scheme.spec.missions[mission].cardinality
        _bounded(bounds, scheme.count(mission) + 1, f"mission {mission!r} has as many agents as it may ({bounds.max})")
        scheme.commitments.append((agent, mission))

    def uncommit(self, agent: str, mission: str) -> None:
        """Release ``agent`` from ``mission``.

        Raises:
            OrganisationError: ``consistency`` if it is not committed to it, or if a goal of the mission is still open
                while the scheme is; a goal that is only maintained is never reached and holds nobody.
        """
        scheme = self._running()
        _require((agent, mission) in scheme.commitments, f"{agent!r} is not committed to {mission!r}")
        for goal in scheme.spec.missions[mission].goals if scheme.is_open else ():
            free = scheme.is_decided(goal) or scheme.spec.goals[goal].type == "maintenance"
            _require(free, f"the goal {goal!r} of mission {mission!r} is still open")
        scheme.commitments.remove((agent, mission))

    def obligations(self, agent: str) -> set[str]:
        """The missions that ``agent`` must commit to now: obliged by a role, not yet committed, lacking agents.

        Raises:
            OrganisationError: ``consistency`` for an unknown agent.
        """
        self._known(agent)
        scheme = self._scheme
        if scheme is None or not scheme.is_open:
            return set()
        roles = [role for group, role in self._played(agent) if group in scheme.responsible]
        obliged = {mission for role in roles for mission in self._normed(role, {"obligation"})}
        mine = set(self._missions(agent))
        return {m for m in obliged - mine if scheme.spec.missions[m].cardinality.lacks(scheme.count(m))}

    def achieve(self, agent: str, goal: str) -> None:
        """Tell that ``agent`` has achieved ``goal``.

        Raises:
            OrganisationError: ``not_enabled`` if the goal is not enabled; ``consistency`` if the agent is not committed
                to it.
        """
        scheme, spec = self._running(), self._goal(goal)
        self._known(agent)
        if self._state(spec) is not GoalState.ENABLED:
            raise OrganisationError("not_enabled", f"the goal {goal!r} is not enabled")
        committed = scheme.committed_agents(goal)
        _require(agent in committed, f"{agent!r} is not committed to a mission with the goal {goal!r}")
        scheme.achieved[goal] = scheme.achieved.get(goal, 0) + 1
        if scheme.achieved[goal] >= (len(committed) if spec.min is None else spec.min):
            self._settle(goal, GoalState.SATISFIED, self._follows_satisfied)

    def set_impossible(self, agent: str, goal: str) -> None:
        """Tell that ``goal`` cannot be achieved, or is no longer; one committed agent's word is enough.

        Raises:
            OrganisationError: ``consistency`` if the agent is not committed to it.
        """
        scheme = self._running()
        self._goal(goal)
        self._known(agent)
        _require(agent in scheme.committed_agents(goal), f"{agent!r} is not committed to the goal {goal!r}")
        self._settle(goal, GoalState.IMPOSSIBLE, self._follows_impossible)

    def goal_states(self) -> dict[str, GoalState]:
        """The state of every goal of the scheme, by id; empty before a scheme is started."""
        return {} if self._scheme is None else {g.id: self._state(g) for g in self._scheme.spec.goals.values()}

    # Questions of the rules

    def _group_faults(self, group: _Group) -> list[str]:
        spec = self.structure.groups[group.kind]
        faults = []
        for role in spec.roles:
            bounds = self.structure.role_cardinality(group.kind, role)
            faults += _out_of_bounds(bounds, group.count(role), f"{role!r} players")
        for kind in spec.subgroups:
            bounds = self.structure.subgroup_cardinality(group.kind, kind.id)
            count = sum(1 for g in group.subgroups if g.kind == kind.id)
            faults += _out_of_bounds(bounds, count, f"{kind.id!r} groups")
        return faults + [f"subgroup {g.name!r} is not well formed" for g in group.subgroups if self._group_faults(g)]

    def _together(self, played: str, role: str, group: _Group, *, same_instance: bool) -> bool:
        """True when a player of ``played`` may adopt ``role`` in ``group``."""
        return self.structure.compatible(played, role, group.kind, same_instance=same_instance, one_way=False)

    def _normed(self, role: str, types: Collection[str]) -> set[str]:
        """The missions of the scheme that norms of ``types`` give to players of ``role``."""
        scheme = self._running()
        return {
            mission
            for norm in self.structure.norms_of(role)
            if norm.type in types and norm.mission and (mission := mission_in(scheme.spec, norm.mission))
        }

    def _permits(self, played: list[tuple[_Group, str]], mission: str) -> bool:
        responsible = self._running().responsible
        roles = [role for group, role in played if any(g in responsible for g in group.lineage())]
        forbidden = any(mission in self._normed(role, {"prohibition"}) for role in roles)
        return not forbidden and any(mission in self._normed(role, _GRANTING) for role in roles)

    def _state(self, goal: Goal) -> GoalState:
        """The state of a goal; that it is enabled is remembered."""
        states = self._running().states
        if goal.id not in states and self._becomes_enabled(goal):
            states[goal.id] = GoalState.ENABLED
        return states.get(goal.id, GoalState.WAITING)

    def _becomes_enabled(self, goal: Goal) -> bool:
        scheme = self._running()
        if self.scheme_well_formed() or not self._reached(goal.id):
            return False
        above = [self._state(scheme.spec.goals[g]) for g in scheme.super_goals(goal.id)]
        if GoalState.SATISFIED in above or GoalState.IMPOSSIBLE in above:
            return False
        done = [scheme.is_satisfied(g) for g in goal.plan.goals] if goal.plan else []
        return any(done) if goal.plan and goal.plan.operator == "choice" else all(done)

    def _reached(self, goal: str) -> bool:
        """True when the goals before ``goal`` in the sequences around it are satisfied."""
        scheme = self._running()
        at = goal
        for above in scheme.super_goals(goal):
            plan = scheme.spec.goals[above].plan
            if plan and plan.operator == "sequence" and (position := plan.goals.index(at)):
                return scheme.is_satisfied(plan.goals[position - 1])
            at = above
        return True

    def _follows_satisfied(self, plan: Plan) -> bool:
        """True when what is satisfied of a plan satisfies the goal above: the last of a sequence, one of a choice."""
        done = [self._running().is_satisfied(g) for g in plan.goals]
        if plan.operator == "sequence":
            return done[-1]
        return any(done) if plan.operator == "choice" else all(done)

    def _follows_impossible(self, plan: Plan) -> bool:
        """True when what is impossible of a plan makes the goal above so: any part of it, every branch of a choice."""
        lost = [self._running().is_impossible(g) for g in plan.goals]
        return all(lost) if plan.operator == "choice" else any(lost)

    def _settle(self, goal: str, state: GoalState, follows: Callable[[Plan], bool]) -> None:
        """Decide ``goal``, and every goal above it that follows from its plan and has nobody to speak for it."""
        scheme = self._running()
        scheme.states[goal] = state
        for above in scheme.super_goals(goal):
            plan = scheme.spec.goals[above].plan
            if scheme.committed_agents(above) or plan is None or not follows(plan):
                return
            scheme.states[above] = state

    # Looking things up

    def _played(self, agent: str) -> list[tuple[_Group, str]]:
        return [(g, role) for g in self._groups.values() for player, role in g.players if player == agent]

    def _missions(self, agent: str) -> list[str]:
        return [m for a, m in self._scheme.commitments if a == agent] if self._scheme else []

    def _known(self, agent: str) -> None:
        _require(agent in self._agents, f"no agent {agent!r} in the organisation")

    def _group(self, name: str) -> _Group:
        _require(name in self._groups, f"no group {name!r}")
        return self._groups[name]

    def _goal(self, goal: str) -> Goal:
        goals = self._running().spec.goals
        _require(goal in goals, f"the scheme has no goal {goal!r}")
        return goals[goal]

    def _running(self) -> _SchemeRun:
        if self._scheme is None:
            raise OrganisationError("consistency", "no scheme has been started")
        return self._scheme


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise OrganisationError("consistency", otherwise)


def _bounded(bounds: Cardinality, count: int, otherwise: str) -> None:
    if bounds.exceeds(count):
        raise OrganisationError("cardinality", otherwise)


def _out_of_bounds(bounds: Cardinality, count: int, what: str) -> list[str]:
    if bounds.lacks(count):
        return [f"{count} {what}, at least {bounds.min} needed"]
    return [f"{count} {what}, at most {bounds.max} allowed"] if bounds.exceeds(count) else []
