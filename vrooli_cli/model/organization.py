"""A MOISE+ organisation: the structural, the functional and the normative specification as frozen values.

The three dimensions of Hübner, Sichman & Boissier (2002; 2007) and what the XML form of the Moise project adds to them.
Both written forms, YAML (spec swarm.md, "Constraints: MOISE+") and ``os.xml``, load to these values; the rules that
give them meaning are in ``tier1.moise``.

A cardinality is a pair of bounds, ``max=None`` is "no bound". Durations (``ttf``) stay as they were written, as the
Moise form allows free text there; ``tier1.moise.norms.seconds`` reads them. Mappings keep the order of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from vrooli_cli.model.values import lean

Scope = Literal["intra-group", "inter-group"]
PlanOperator = Literal["sequence", "choice", "parallel"]
GoalType = Literal["performance", "achievement", "maintenance"]
Deontic = Literal["obligation", "permission", "prohibition"]
ReportGoalKind = Literal["raise", "handle", "context", "requesting", "accounting", "treatment"]
Properties = Mapping[str, str]

ROOT_ROLE = "soc"
"""The root of every role hierarchy; it needs no definition and nobody plays it."""


@lean()
class Cardinality:
    """How many: at least ``min``, at most ``max`` (None: any number)."""

    min: int = 0
    max: int | None = None

    def lacks(self, count: int) -> bool:
        """True when ``count`` is below the lower bound."""
        return count < self.min

    def exceeds(self, count: int) -> bool:
        """True when ``count`` is above the upper bound."""
        return self.max is not None and count > self.max


ANY_NUMBER = Cardinality()


@lean()
class Role:
    """A role and what it inherits from.

    Attributes:
        extends: The direct super-roles.
        cardinality: Players in the whole organisation, over all groups.
        capabilities: What an agent must be able to do to play it.
    """

    id: str
    extends: tuple[str, ...] = ()
    cardinality: Cardinality = ANY_NUMBER
    capabilities: tuple[str, ...] = ()
    properties: Properties = field(default_factory=dict)


@lean()
class Link:
    """Players of ``source`` have a link (authority, communication or acquaintance) to players of ``target``."""

    source: str
    target: str
    type: str
    scope: Scope = "intra-group"
    extends_subgroups: bool = False
    bidirectional: bool = False


@lean()
class Compatibility:
    """Who plays ``source`` may also play ``target``: in the same group (intra) or in two different groups (inter)."""

    source: str
    target: str
    scope: Scope = "intra-group"
    extends_subgroups: bool = False
    bidirectional: bool = False


@lean()
class FormationCardinality:
    """A bound on a role or a subgroup that a group states besides its own lists: it counts over all its subgroups."""

    object: Literal["role", "group"]
    id: str
    cardinality: Cardinality


@lean()
class GroupSpec:
    """A kind of group.

    Attributes:
        roles: The roles that can be played in it, with how many players each.
        cardinality: How many instances a parent group may have.
        subgroups: The kinds of group that it may contain.
    """

    id: str
    roles: Mapping[str, Cardinality] = field(default_factory=dict)
    cardinality: Cardinality = ANY_NUMBER
    subgroups: tuple[GroupSpec, ...] = ()
    links: tuple[Link, ...] = ()
    compatibilities: tuple[Compatibility, ...] = ()
    cardinalities: tuple[FormationCardinality, ...] = ()
    properties: Properties = field(default_factory=dict)


@lean()
class StructuralSpec:
    """Roles, groups, and the links and compatibilities that hold in every group of the organisation."""

    roles: Mapping[str, Role] = field(default_factory=dict)
    groups: Mapping[str, GroupSpec] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    compatibilities: tuple[Compatibility, ...] = ()
    link_types: tuple[str, ...] = ()
    properties: Properties = field(default_factory=dict)


@lean()
class Plan:
    """How a goal decomposes: its sub-goals in order, and whether all (in order or not) or one of them is needed."""

    operator: PlanOperator
    goals: tuple[str, ...]
    success_rate: float | None = None
    properties: Properties = field(default_factory=dict)


@lean()
class Goal:
    """A goal of a scheme.

    Attributes:
        min: Agents who must achieve it before it counts as satisfied; None is all who are committed to it.
        ttf: Time to fulfil, as written.
        arguments: Argument name → value, None when it is bound later.
        depends_on: Goals that must be satisfied first, besides what the plans say.
        plan: None for a leaf.
    """

    id: str
    description: str = ""
    min: int | None = None
    type: GoalType | None = None
    ttf: str | None = None
    location: str | None = None
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    plan: Plan | None = None


@lean()
class Mission:
    """A set of goals that an agent commits to as a whole."""

    id: str
    goals: tuple[str, ...]
    cardinality: Cardinality = ANY_NUMBER
    preferred: tuple[str, ...] = ()
    properties: Properties = field(default_factory=dict)


@lean()
class ReportGoal:
    """One goal of a report; ``goal`` names a goal of the scheme that stands outside its tree."""

    kind: ReportGoalKind
    goal: str
    when: str | None = None


@lean()
class Report:
    """What is told when a notification policy fires; ``arguments`` maps a name to its arity."""

    id: str
    goals: tuple[ReportGoal, ...]
    arguments: Mapping[str, int] = field(default_factory=dict)


@lean()
class NotificationPolicy:
    """Exceptions and accountability of a goal (Moise 1.1): who reports what, and when."""

    id: str
    target: str
    condition: str
    type: Literal["exception", "accountability"]
    reports: tuple[Report, ...]
    properties: Properties = field(default_factory=dict)


@lean()
class Scheme:
    """A goal tree and its missions.

    Attributes:
        root: The goal that the scheme is for.
        goals: Every goal by id: the tree in the order of the file, then the goals of the notification policies.
    """

    id: str
    root: str
    goals: Mapping[str, Goal]
    missions: Mapping[str, Mission] = field(default_factory=dict)
    notifications: tuple[NotificationPolicy, ...] = ()
    properties: Properties = field(default_factory=dict)


@lean()
class FunctionalSpec:
    """The schemes by id."""

    schemes: Mapping[str, Scheme] = field(default_factory=dict)
    properties: Properties = field(default_factory=dict)


@lean()
class Norm:
    """What a role must, may or must not do.

    Attributes:
        mission: ``MISSION`` or ``SCHEME.MISSION``; None for a prohibition of actions only.
        actions: Patterns of tools and actions that a prohibition closes, e.g. ``shell(*)``.
        ttf: The time in which an obligation must be fulfilled, as written.
    """

    id: str
    type: Deontic
    role: str
    mission: str | None = None
    actions: tuple[str, ...] = ()
    condition: str | None = None
    ttf: str | None = None


@lean()
class NormativeSpec:
    """The norms; ``npl`` is the text of free normative programs, kept but not interpreted."""

    norms: tuple[Norm, ...] = ()
    npl: str | None = None
    properties: Properties = field(default_factory=dict)


@lean()
class OrganisationSpec:
    """A whole organisation.

    Attributes:
        assignments: Agent → roles that the file fixes; the rest is solved for.
    """

    id: str = ""
    version: str | None = None
    structural: StructuralSpec = field(default_factory=StructuralSpec)
    functional: FunctionalSpec = field(default_factory=FunctionalSpec)
    normative: NormativeSpec = field(default_factory=NormativeSpec)
    assignments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    properties: Properties = field(default_factory=dict)
