"""What the norms and links of an organisation mean for one agent at one moment: pure functions, no state, no clock.

They are asked twice, when a team is planned and at the call (spec swarm.md, "Constraints: MOISE+"). A norm binds the
players of its role and of every sub-role. An answer names agent, role and norm, so that it can be shown as it is.

Links (Hübner, Sichman & Boissier 2002): authority over somebody implies communication to them. Communication from A to
B is read as "A tells B", so B may read A's results; who has authority over somebody may read their results too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from vrooli_cli.loading.durations import parse_duration
from vrooli_cli.model.organization import Link, Norm, Scheme
from vrooli_cli.tier1.moise.structure import Structure, mission_in

_UNITS: Final = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "week": 604_800,
    "month": 2_592_000,
    "year": 31_536_000,
}
_MOISE_DURATION = re.compile(r"(?:[`\s]*now[`\s]*\+)?[`\s]*(\d+(?:\.\d+)?)\s+([a-z]+?)s?[`\s]*", re.IGNORECASE)


class Played(Protocol):
    """Who plays what where."""

    @property
    def agent(self) -> str:
        """The agent."""

    @property
    def role(self) -> str:
        """The role."""

    @property
    def group(self) -> str:
        """The group in which it is played."""

    @property
    def kind(self) -> str:
        """The specification of that group."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A norm that an agent would break, or has broken.

    Attributes:
        role: The role by which the agent is bound; the roles it plays when a norm is missing.
        norm: Id of the norm; empty when what is wrong is that there is none.
        message: One line for people.
    """

    agent: str
    role: str
    norm: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Obligation:
    """What an agent must do, and until when.

    Attributes:
        norm: Id of the norm, or of the mission that brings the goal with it.
        mission: The mission to commit to, or that was committed to.
        goal: The goal to achieve; None for the obligation to commit.
        due: Moment at which it is unfulfilled, on the scale of the given times, in seconds; None is never.
    """

    agent: str
    role: str
    norm: str
    scheme: str
    mission: str
    goal: str | None
    due: float | None


def seconds(text: str | None) -> float | None:
    """A time to fulfil in seconds: ``1h30m``, ``20 minutes``, ``1 day``; None where it is not a span of time."""
    if text is None:
        return None
    try:
        return parse_duration(text) / 1000
    except ValueError:
        found = _MOISE_DURATION.fullmatch(text)
        unit = _UNITS.get(found.group(2).lower()) if found else None
        return float(found.group(1)) * unit if found and unit else None


# Permissions and prohibitions


def prohibited(
    structure: Structure, agent: str, roles: Collection[str], matches: Callable[[str], bool]
) -> Violation | None:
    """The prohibition that closes an action for an agent; None when none does.

    Args:
        structure: The organisation.
        agent: Who is about to act.
        roles: The roles it plays.
        matches: Whether a pattern (``shell(*)``) speaks of the action; the gate's own matcher, so that the patterns of
            norms and of permissions are one language.
    """
    for role in sorted(roles):
        for norm in structure.norms_of(role):
            pattern = next((p for p in norm.actions if matches(p)), None)
            if norm.type == "prohibition" and pattern is not None:
                message = f"norm {norm.id!r} prohibits {pattern!r} for role {role!r}, which {agent!r} plays"
                return Violation(agent, role, norm.id, message)
    return None


def not_permitted(
    structure: Structure, scheme: Scheme, agent: str, roles: Collection[str], goal: str
) -> Violation | None:
    """Why an agent may not do a goal: no obligation or permission for a mission that holds it, or a prohibition."""
    missions = [m.id for m in scheme.missions.values() if goal in m.goals]
    refusals = [mission_refused(structure, scheme, agent, roles, mission) for mission in missions]
    if refusals and None in refusals:
        return None
    if any(r.norm for r in refusals if r):
        return next(r for r in refusals if r and r.norm)
    played = ", ".join(sorted(roles)) or "no role"
    which = (
        f"a mission with goal {goal!r} ({', '.join(missions)})"
        if missions
        else f"goal {goal!r}, which is in no mission"
    )
    return Violation(agent, played, "", f"{agent!r} (plays {played}) has no obligation or permission for {which}")


def mission_refused(
    structure: Structure, scheme: Scheme, agent: str, roles: Collection[str], mission: str
) -> Violation | None:
    """Why an agent may not commit to a mission; None when it may."""
    granted = False
    for role in sorted(roles):
        for norm in _norms_for(structure, scheme, role, mission):
            if norm.type == "prohibition":
                message = f"norm {norm.id!r} prohibits mission {mission!r} for role {role!r}, which {agent!r} plays"
                return Violation(agent, role, norm.id, message)
            granted = True
    if granted:
        return None
    played = ", ".join(sorted(roles)) or "no role"
    message = f"{agent!r} (plays {played}) has no obligation or permission for mission {mission!r}"
    return Violation(agent, played, "", message)


def assignment_violations(
    structure: Structure,
    schemes: Iterable[Scheme],
    roles_of: Mapping[str, Collection[str]],
    assignments: Mapping[str, Collection[str]],
) -> list[Violation]:
    """Every agent that was given a goal which it may not do, e.g. by hand in a frozen plan.

    Args:
        structure: The organisation.
        schemes: The schemes at work.
        roles_of: Agent → the roles it plays.
        assignments: Id of a task → its agents; tasks that name no goal are free.
    """
    found = []
    for scheme in schemes:
        for task, agents in assignments.items():
            goal = task.removeprefix(f"{scheme.id}.")
            if goal in scheme.goals:
                refusals = (not_permitted(structure, scheme, a, roles_of.get(a, ()), goal) for a in sorted(agents))
                found += [r for r in refusals if r]
    return found


def _norms_for(structure: Structure, scheme: Scheme, role: str, mission: str) -> list[Norm]:
    return [n for n in structure.norms_of(role) if n.mission and mission_in(scheme, n.mission) == mission]


# Obligations in time


def commitment_obligations(
    structure: Structure, scheme: Scheme, plays: Iterable[Played], since: float
) -> list[Obligation]:
    """The missions that players are obliged to commit to, each due its norm's time after ``since``."""
    found: dict[tuple[str, str, str], Obligation] = {}
    for play in plays:
        for mission in scheme.missions:
            for norm in _norms_for(structure, scheme, play.role, mission):
                if norm.type == "obligation":
                    due = _later(since, norm.ttf)
                    duty = Obligation(play.agent, play.role, norm.id, scheme.id, mission, None, due)
                    found.setdefault((play.agent, norm.id, mission), duty)
    return list(found.values())


def goal_obligation(
    structure: Structure, scheme: Scheme, agent: str, roles: Collection[str], goal: str, since: float
) -> Obligation | None:
    """The duty of a committed agent to achieve a goal that is enabled since ``since``; None if no mission has it."""
    for role in sorted(roles):
        for mission in scheme.missions.values():
            norms = _norms_for(structure, scheme, role, mission.id) if goal in mission.goals else []
            if norms:
                due = _later(since, scheme.goals[goal].ttf)
                return Obligation(agent, role, norms[0].id, scheme.id, mission.id, goal, due)
    return None


def unfulfilled(
    obligations: Iterable[Obligation], fulfilled: Callable[[Obligation], bool], now: float
) -> list[Obligation]:
    """The obligations that are past their time and not fulfilled, the oldest first."""
    late = [o for o in obligations if o.due is not None and now > o.due and not fulfilled(o)]
    return sorted(late, key=lambda o: (o.due or 0.0, o.agent, o.norm, o.goal or ""))


def violated(obligation: Obligation) -> Violation:
    """An unfulfilled obligation in words."""
    what = f"achieve {obligation.goal!r}" if obligation.goal else f"commit to {obligation.mission!r}"
    message = f"{obligation.agent!r} ({obligation.role}) has not fulfilled norm {obligation.norm!r} in time: {what}"
    return Violation(obligation.agent, obligation.role, obligation.norm, message)


def escalation(structure: Structure, plays: Sequence[Played], agent: str) -> tuple[tuple[str, ...], ...]:
    """Who has authority over an agent, level by level upwards: its superiors, theirs, … nobody twice."""
    seen, level = {agent}, {agent}
    levels: list[tuple[str, ...]] = []
    while True:
        above = {
            boss.agent
            for boss in plays
            if boss.agent not in seen
            and any(p.agent in level and linked(structure, boss, p, {"authority"}) for p in plays)
        }
        if not above:
            return tuple(levels)
        levels.append(tuple(sorted(above)))
        seen |= above
        level = above


# Links


def linked(structure: Structure, source: Played, target: Played, types: Collection[str]) -> bool:
    """True when a link of one of ``types`` leads from one player to another, by its scope and inheritance.

    An intra-group link holds within a group, an inter-group link in whatever groups the two are (2002).
    """
    scopes = {"inter-group", "intra-group"} if source.group == target.group else {"inter-group"}
    links: dict[Link, None] = dict.fromkeys((*structure.links_in(source.kind), *structure.links_in(target.kind)))
    return any(x.type in types and x.scope in scopes and structure.joined(x, source.role, target.role) for x in links)


def readable(structure: Structure, plays: Sequence[Played], reader: str, writer: str) -> bool:
    """May ``reader`` read what ``writer`` has put on the blackboard?

    Everybody may read everything where the organisation declares no communication link, and always their own.
    """
    if reader == writer or not structure.restricts_communication:
        return True
    readers = [p for p in plays if p.agent == reader]
    writers = [p for p in plays if p.agent == writer]
    told = any(linked(structure, w, r, {"communication", "authority"}) for w in writers for r in readers)
    return told or any(linked(structure, r, w, {"authority"}) for w in writers for r in readers)


def _later(since: float, ttf: str | None) -> float | None:
    span = seconds(ttf)
    return None if span is None else since + span
