"""The YAML form of an organisation: plain data (maps, lists, texts, numbers) to an :class:`OrganisationSpec` and back.

Reading never stops at the first mistake: every problem comes with the pointer of the value that is wrong, which
whoever knows the file (YAML loading, ``xml``) turns into a line. ``organisation_to_data(spec)`` gives data that reads
back to an equal value, so both written forms can be compared and converted.

The keys, besides those of spec swarm.md: a group takes ``links``, ``compatibilities`` and ``cardinalities`` of its own
(``[{role: leader, min: 1, max: 1}]``, counted over its subgroups), relations take ``extends_subgroups``, goals take
``description, min, type, ttf, location, arguments, depends_on, plan``; ``link_types``, ``notifications``, ``npl`` and
``properties`` hold what the Moise form has. ``structural.links`` and ``structural.compatibilities`` hold everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args

from vrooli_cli.errors import DefinitionError, Pointer, Problem, did_you_mean
from vrooli_cli.model.organization import (
    ROOT_ROLE,
    Cardinality,
    Compatibility,
    Deontic,
    FormationCardinality,
    FunctionalSpec,
    Goal,
    GoalType,
    GroupSpec,
    Link,
    Mission,
    Norm,
    NormativeSpec,
    NotificationPolicy,
    OrganisationSpec,
    Plan,
    PlanOperator,
    Report,
    ReportGoal,
    ReportGoalKind,
    Role,
    Scheme,
    Scope,
    StructuralSpec,
)
from vrooli_cli.tier1.moise.structure import mission_scheme, walk_groups

T = TypeVar("T")

MAX_DEPTH = 64
"""How deep groups may be nested."""


def organisation_from_data(data: object) -> OrganisationSpec:
    """The organisation that plain data describes.

    Raises:
        DefinitionError: With every problem; their pointers start at ``data``.
    """
    spec, problems = read_organisation(data)
    if problems:
        raise DefinitionError(problems)
    return spec


def read_organisation(data: object, at: Pointer = ()) -> tuple[OrganisationSpec, list[Problem]]:
    """The organisation as far as it can be understood, and everything that is wrong with it.

    Args:
        data: What a YAML reader gives for ``constraints:``.
        at: The pointer of ``data`` in its file.
    """
    problems: list[Problem] = []
    root = _Node(data, at, problems)
    root.only("id", "version", "structural", "functional", "normative", "assignments", "properties")
    spec = OrganisationSpec(
        id=root.text("id") or "",
        version=root.text("version"),
        structural=_structural(root.child("structural")),
        functional=_functional(root.child("functional")),
        normative=_normative(root.child("normative")),
        assignments={agent: node.names() for agent, node in root.entries("assignments")},
        properties=root.texts("properties"),
    )
    return spec, problems + (check_references(spec, at) if not problems else [])


def check(data: object, at: Pointer = ()) -> list[Problem]:
    """Everything that is wrong with an organisation given as plain data."""
    return read_organisation(data, at)[1]


# Reading


class _Node:
    """A value of the data with its pointer; asking it for a wrong type records a problem and goes on."""

    __slots__ = ("at", "problems", "value")

    def __init__(self, value: object, at: Pointer, problems: list[Problem]) -> None:
        self.value = value
        self.at = at
        self.problems = problems

    def wrong(self, message: str, *key: str | int, hint: str = "", at_key: bool = False) -> None:
        """Record a problem here, or at the value under ``key``."""
        self.problems.append(Problem((*self.at, *key), message, hint, at_key=at_key))

    def map(self) -> Mapping[str, object]:
        """The value as a map with text keys; nothing at all is an empty one."""
        if self.value is None:
            return {}
        if not isinstance(self.value, Mapping):
            self.wrong(f"expected a map, got {_kind(self.value)}")
            return {}
        return {k if isinstance(k, str) else str(k): v for k, v in self.value.items()}

    def only(self, *keys: str) -> None:
        """Record every key that is not one of ``keys``."""
        for key in self.map():
            if key not in keys:
                hint = did_you_mean(key, keys) or f"known: {', '.join(keys)}"
                self.wrong(f"unknown key {key!r}", key, hint=hint, at_key=True)

    def has(self, key: str) -> bool:
        """True when the map says something under ``key``."""
        return self.map().get(key) is not None

    def child(self, key: str | int) -> _Node:
        """The value under ``key``; None where there is none."""
        return _Node(self.map().get(str(key)), (*self.at, key), self.problems)

    def entries(self, key: str) -> list[tuple[str, _Node]]:
        """The map under ``key`` as pairs of name and value."""
        inner = self.child(key)
        return [(name, _Node(value, (*inner.at, name), self.problems)) for name, value in inner.map().items()]

    def items(self) -> list[_Node]:
        """The value as a list; nothing at all is an empty one."""
        if self.value is None:
            return []
        if not isinstance(self.value, (list, tuple)):
            self.wrong(f"expected a list, got {_kind(self.value)}")
            return []
        return [_Node(v, (*self.at, i), self.problems) for i, v in enumerate(self.value)]

    def names(self) -> tuple[str, ...]:
        """The value as a list of texts; a single text is a list of one."""
        if isinstance(self.value, str):
            return (self.value,)
        for item in self.items():
            if not isinstance(item.value, str):
                item.wrong(f"expected a name, got {_kind(item.value)}")
        return tuple(i.value for i in self.items() if isinstance(i.value, str))

    def text(self, key: str, *, required: bool = False) -> str | None:
        """The text under ``key``; a number is taken as it prints."""
        value = self.map().get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            self.wrong(f"{key!r} must be text, got {_kind(value)}", key)
        elif required and not value:
            self.wrong(f"{key!r} is missing")
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """The whole number under ``key``, 0 or more."""
        value = self.map().get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value if isinstance(value, int) else None
        self.wrong(f"{key!r} must be a whole number, 0 or more", key)
        return None

    def flag(self, key: str) -> bool:
        """The truth value under ``key``, False where there is none."""
        value = self.map().get(key)
        if value is not None and not isinstance(value, bool):
            self.wrong(f"{key!r} must be true or false, got {_kind(value)}", key)
        return value is True

    def texts(self, key: str) -> dict[str, str]:
        """The map of texts under ``key``; numbers and truth values are taken as they print."""
        found = {}
        for name, node in self.entries(key):
            if isinstance(node.value, (list, tuple, Mapping)):
                node.wrong(f"expected text, got {_kind(node.value)}")
            else:
                found[name] = _printed(node.value)
        return found

    def choice(self, key: str, allowed: Iterable[T], default: T) -> T:
        """The text under ``key`` if it is one of ``allowed``."""
        known = tuple(allowed)
        value = self.map().get(key)
        for one in known:
            if value == one:
                return one
        if value is not None:
            hint = did_you_mean(str(value), map(str, known))
            self.wrong(f"{key!r} must be one of {', '.join(map(str, known))}", key, hint=hint)
        return default

    def bounds(self) -> Cardinality:
        """``min`` and ``max`` of the map."""
        low, high = self.number("min") or 0, self.number("max")
        if high is not None and high < low:
            self.wrong(f"'max' ({high}) is less than 'min' ({low})", "max")
        return Cardinality(low, high)


def _kind(value: object) -> str:
    names = {bool: "true or false", str: "text", int: "a number", float: "a number", type(None): "nothing"}
    return names.get(type(value), "a map" if isinstance(value, Mapping) else "a list")


def _printed(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _structural(node: _Node) -> StructuralSpec:
    node.only("roles", "links", "compatibilities", "groups", "link_types", "properties")
    roles = {name: _role(name, n) for name, n in node.entries("roles")}
    groups = {name: _group(name, n, 1) for name, n in node.entries("groups")}
    if not roles:  # an organisation without role definitions plays the roles that its groups list
        roles = {name: Role(name) for group in walk_groups(groups.values()) for name in group.roles}
    return StructuralSpec(
        roles=roles,
        groups=groups,
        links=_links(node),
        compatibilities=_compatibilities(node),
        link_types=node.child("link_types").names(),
        properties=node.texts("properties"),
    )


def _role(name: str, node: _Node) -> Role:
    node.only("extends", "min", "max", "capabilities", "properties")
    return Role(
        name,
        node.child("extends").names(),
        node.bounds(),
        node.child("capabilities").names(),
        node.texts("properties"),
    )


def _group(name: str, node: _Node, depth: int) -> GroupSpec:
    node.only("roles", "min", "max", "subgroups", "links", "compatibilities", "cardinalities", "properties")
    if depth > MAX_DEPTH:
        node.wrong(f"groups are nested deeper than {MAX_DEPTH}")
        return GroupSpec(name)
    roles = {}
    for role, inner in node.entries("roles"):
        inner.only("min", "max")
        roles[role] = inner.bounds()
    return GroupSpec(
        id=name,
        roles=roles,
        cardinality=node.bounds(),
        subgroups=tuple(_group(sub, n, depth + 1) for sub, n in node.entries("subgroups")),
        links=_links(node),
        compatibilities=_compatibilities(node),
        cardinalities=tuple(c for n in node.child("cardinalities").items() if (c := _formation(n))),
        properties=node.texts("properties"),
    )


def _formation(node: _Node) -> FormationCardinality | None:
    node.only("role", "group", "min", "max")
    bounds = node.bounds()
    if node.has("role") == node.has("group"):
        node.wrong("a cardinality names either a 'role' or a 'group'")
        return None
    of: Literal["role", "group"] = "role" if node.has("role") else "group"
    name = node.text(of)
    return FormationCardinality(of, name, bounds) if name else None


def _links(node: _Node) -> tuple[Link, ...]:
    found = []
    for item in node.child("links").items():
        item.only("from", "to", "type", "scope", "extends_subgroups", "bidirectional")
        (source, target), (scope, extends, both) = _ends(item), _reach(item)
        found.append(Link(source, target, item.text("type", required=True) or "", scope, extends, both))
    return tuple(found)


def _compatibilities(node: _Node) -> tuple[Compatibility, ...]:
    found = []
    for item in node.child("compatibilities").items():
        item.only("from", "to", "scope", "extends_subgroups", "bidirectional")
        (source, target), (scope, extends, both) = _ends(item), _reach(item)
        found.append(Compatibility(source, target, scope, extends, both))
    return tuple(found)


def _ends(node: _Node) -> tuple[str, str]:
    return node.text("from", required=True) or "", node.text("to", required=True) or ""


def _reach(node: _Node) -> tuple[Scope, bool, bool]:
    scope: Scope = node.choice("scope", get_args(Scope), "intra-group")
    return scope, node.flag("extends_subgroups"), node.flag("bidirectional")


def _functional(node: _Node) -> FunctionalSpec:
    node.only("schemes", "properties")
    schemes = {name: s for name, n in node.entries("schemes") if (s := _scheme(name, n))}
    return FunctionalSpec(schemes, node.texts("properties"))


def _scheme(name: str, node: _Node) -> Scheme | None:
    node.only("root", "goals", "missions", "notifications", "properties")
    goals = {goal: _goal(goal, n) for goal, n in node.entries("goals")}
    notifications = tuple(_notification(n) for n in node.child("notifications").items())
    apart = {g.goal for policy in notifications for report in policy.reports for g in report.goals}
    before = len(node.problems)
    _check_tree(node, goals)
    root = node.text("root") or _root(node, goals, apart)
    if root is None or len(node.problems) > before:
        return None
    if root not in goals:
        node.wrong(f"unknown goal {root!r}", "root", hint=did_you_mean(root, goals))
    return Scheme(
        id=name,
        root=root,
        goals=goals,
        missions={mission: _mission(mission, n) for mission, n in node.entries("missions")},
        notifications=notifications,
        properties=node.texts("properties"),
    )


def _check_tree(node: _Node, goals: Mapping[str, Goal]) -> None:
    """Every sub-goal is defined, has one place in the tree, and is not above itself."""
    above: dict[str, str] = {}
    for goal in goals.values():
        for place, sub in enumerate(goal.plan.goals if goal.plan else ()):
            where = ("goals", goal.id, "plan", goal.plan.operator if goal.plan else "", place)
            if sub not in goals:
                node.wrong(f"unknown goal {sub!r}", *where, hint=did_you_mean(sub, goals) or "define it under 'goals'")
            elif sub in above:
                node.wrong(f"the goal {sub!r} is in the plan of {above[sub]!r} already", *where)
            else:
                above[sub] = goal.id
    for goal_id in goals:
        at, seen = goal_id, {goal_id}
        while (at := above.get(at, "")) and at not in seen:
            seen.add(at)
        if at == goal_id:
            node.wrong(f"the goal {goal_id!r} is a sub-goal of itself", "goals", goal_id, at_key=True)


def _root(node: _Node, goals: Mapping[str, Goal], apart: set[str]) -> str | None:
    below = {sub for goal in goals.values() if goal.plan for sub in goal.plan.goals}
    roots = [goal for goal in goals if goal not in below and goal not in apart]
    if len(roots) == 1:
        return roots[0]
    if roots:
        names = ", ".join(map(repr, roots))
        node.wrong(f"the goals {names} are in no plan", "goals", hint="a scheme has one root goal")
    else:
        node.wrong("a scheme needs a root goal")
    return None


def _goal(name: str, node: _Node) -> Goal:
    node.only("description", "min", "type", "ttf", "location", "arguments", "depends_on", "plan")
    types: tuple[GoalType | None, ...] = get_args(GoalType)
    kind, low = node.choice("type", types, None), node.number("min")
    return Goal(
        id=name,
        description=node.text("description") or "",
        min=1 if low is None and kind == "achievement" else low,  # what one agent achieves is achieved for all
        type=kind,
        ttf=node.text("ttf"),
        location=node.text("location"),
        arguments={a: None if n.value is None else _printed(n.value) for a, n in node.entries("arguments")},
        depends_on=node.child("depends_on").names(),
        plan=_plan(node.child("plan")) if node.has("plan") else None,
    )


def _plan(node: _Node) -> Plan | None:
    operators: tuple[PlanOperator, ...] = get_args(PlanOperator)
    node.only(*operators, "success_rate", "properties")
    said = [o for o in operators if node.has(o)]
    if len(said) != 1:
        node.wrong(f"a plan is one of {', '.join(operators)}, with the list of its goals")
        return None
    goals = node.child(said[0]).names()
    if not goals:
        node.wrong("a plan needs at least one goal", said[0])
        return None
    rate = node.child("success_rate").value
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float))):
        node.wrong("'success_rate' must be a number", "success_rate")
        rate = None
    return Plan(said[0], goals, None if rate is None else float(rate), node.texts("properties"))


def _mission(name: str, node: _Node) -> Mission:
    node.only("goals", "min", "max", "preferred", "properties")
    goals = tuple(dict.fromkeys(node.child("goals").names()))
    if not goals:
        node.wrong(f"the mission {name!r} needs at least one goal", "goals")
    return Mission(name, goals, node.bounds(), node.child("preferred").names(), node.texts("properties"))


def _notification(node: _Node) -> NotificationPolicy:
    node.only("id", "target", "condition", "type", "reports", "properties")
    return NotificationPolicy(
        id=node.text("id", required=True) or "",
        target=node.text("target", required=True) or "",
        condition=node.text("condition", required=True) or "",
        type=node.choice("type", ("exception", "accountability"), "exception"),
        reports=tuple(_report(n) for n in node.child("reports").items()),
        properties=node.texts("properties"),
    )


def _report(node: _Node) -> Report:
    node.only("id", "arguments", "goals")
    goals = []
    for item in node.child("goals").items():
        item.only(*get_args(ReportGoalKind), "when")
        kinds: list[ReportGoalKind] = [k for k in get_args(ReportGoalKind) if item.has(k)]
        if len(kinds) == 1 and (goal := item.text(kinds[0])):
            goals.append(ReportGoal(kinds[0], goal, item.text("when")))
        else:
            item.wrong(f"expected one of {', '.join(get_args(ReportGoalKind))} with a goal")
    arguments = {name: _arity(n) for name, n in node.entries("arguments")}
    return Report(node.text("id", required=True) or "", tuple(goals), arguments)


def _arity(node: _Node) -> int:
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    node.wrong("an arity is a whole number")
    return 0


def _normative(node: _Node) -> NormativeSpec:
    node.only("norms", "npl", "properties")
    norms = tuple(_norm(n, f"norm{i}") for i, n in enumerate(node.child("norms").items(), start=1))
    return NormativeSpec(norms, node.text("npl"), node.texts("properties"))


def _norm(node: _Node, default_id: str) -> Norm:
    node.only("id", "role", "type", "mission", "actions", "condition", "ttf")
    types: tuple[Deontic, ...] = get_args(Deontic)
    if not node.has("type"):
        node.wrong("'type' is missing", hint=f"one of {', '.join(types)}")
    norm = Norm(
        id=node.text("id") or default_id,
        type=node.choice("type", types, "permission"),
        role=node.text("role", required=True) or "",
        mission=node.text("mission"),
        actions=node.child("actions").names(),
        condition=node.text("condition"),
        ttf=node.text("ttf"),
    )
    if norm.type != "prohibition" and norm.actions:
        node.wrong("only a prohibition has 'actions'", "actions", at_key=True)
    if not norm.mission and not norm.actions:
        node.wrong("a norm speaks of a 'mission'" + (" or of 'actions'" if norm.type == "prohibition" else ""))
    return norm


# References


def check_references(spec: OrganisationSpec, at: Pointer = ()) -> list[Problem]:
    """Every name that leads nowhere, and every role that inherits from itself."""
    problems: list[Problem] = []

    def refer(name: str, known: Iterable[str], what: str, *where: str | int) -> None:
        names = list(known)
        if name not in names:
            problems.append(Problem((*at, *where), f"unknown {what} {name!r}", did_you_mean(name, names)))

    _check_structural(spec, refer)
    problems.extend(
        Problem((*at, "structural", "roles", role), f"the role {role!r} inherits from itself", at_key=True)
        for role in _inheriting_from_themselves(spec.structural.roles)
    )
    problems.extend(
        Problem((*at, "structural", "groups"), f"the group {group!r} is specified twice")
        for group in _repeated(g.id for g in walk_groups(spec.structural.groups.values()))
    )
    for scheme in spec.functional.schemes.values():
        _check_scheme(scheme, refer)
    _check_normative(spec, refer)
    return problems


_Refer = Callable[..., None]


def _check_structural(spec: OrganisationSpec, refer: _Refer) -> None:
    roles = [*spec.structural.roles, ROOT_ROLE]
    for role in spec.structural.roles.values():
        for i, ancestor in enumerate(role.extends):
            refer(ancestor, roles, "role", "structural", "roles", role.id, "extends", i)
    _check_relations(spec.structural, roles, refer, ("structural",))
    for group in spec.structural.groups.values():
        _check_group(group, spec, refer, ("structural", "groups", group.id))
    for agent, played in spec.assignments.items():
        for i, name in enumerate(played):
            refer(name, spec.structural.roles, "role", "assignments", agent, i)


def _check_group(group: GroupSpec, spec: OrganisationSpec, refer: _Refer, where: Pointer) -> None:
    roles = [*spec.structural.roles, ROOT_ROLE]
    groups = [g.id for g in walk_groups(spec.structural.groups.values())]
    for role in group.roles:
        refer(role, spec.structural.roles, "role", *where, "roles", role)
    _check_relations(group, roles, refer, where)
    for i, bound in enumerate(group.cardinalities):
        known = roles if bound.object == "role" else groups
        refer(bound.id, known, bound.object, *where, "cardinalities", i, bound.object)
    for sub in group.subgroups:
        _check_group(sub, spec, refer, (*where, "subgroups", sub.id))


def _check_relations(of: GroupSpec | StructuralSpec, roles: list[str], refer: _Refer, where: Pointer) -> None:
    both: list[tuple[str, tuple[Link | Compatibility, ...]]]
    both = [("links", of.links), ("compatibilities", of.compatibilities)]
    for kind, relations in both:
        for i, relation in enumerate(relations):
            refer(relation.source, roles, "role", *where, kind, i, "from")
            refer(relation.target, roles, "role", *where, kind, i, "to")


def _inheriting_from_themselves(roles: Mapping[str, Role]) -> Iterator[str]:
    for role in roles:
        todo, seen = list(roles[role].extends), set[str]()
        while todo and role not in seen:
            above = todo.pop()
            if above in roles and above not in seen:
                seen.add(above)
                todo.extend(roles[above].extends)
        if role in seen:
            yield role


def _check_scheme(scheme: Scheme, refer: _Refer) -> None:
    where = ("functional", "schemes", scheme.id)
    reported = {g.goal for p in scheme.notifications for r in p.reports for g in r.goals}
    for goal in scheme.goals.values():
        for i, other in enumerate(goal.depends_on):
            refer(other, scheme.goals, "goal", *where, "goals", goal.id, "depends_on", i)
    for mission in scheme.missions.values():
        for i, name in enumerate(mission.goals):
            refer(name, scheme.goals, "goal", *where, "missions", mission.id, "goals", i)
        for i, name in enumerate(mission.preferred):
            refer(name, scheme.missions, "mission", *where, "missions", mission.id, "preferred", i)
    for name in sorted(reported - scheme.goals.keys()):
        refer(name, scheme.goals, "goal", *where, "notifications")


def _check_normative(spec: OrganisationSpec, refer: _Refer) -> None:
    missions = [m for s in spec.functional.schemes.values() for m in s.missions]
    roles = [*spec.structural.roles, ROOT_ROLE]
    for i, norm in enumerate(spec.normative.norms):
        refer(norm.role, roles, "role", "normative", "norms", i, "role")
        if norm.mission and mission_scheme(spec, norm.mission) is None:
            refer(norm.mission, missions, "mission", "normative", "norms", i, "mission")


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [n for n in names if n in seen or seen.add(n)]  # type: ignore[func-returns-value]


# Writing


def organisation_to_data(spec: OrganisationSpec) -> dict[str, Any]:
    """Plain data that reads back to an equal organisation; what is at its default is left out."""
    structural, functional, normative = spec.structural, spec.functional, spec.normative
    return _filled(
        id=spec.id,
        version=spec.version,
        structural=_filled(
            roles={r.id: _role_data(r) for r in structural.roles.values()},
            links=[_link_data(x) for x in structural.links],
            compatibilities=[_compatibility_data(x) for x in structural.compatibilities],
            groups={g.id: _group_data(g) for g in structural.groups.values()},
            link_types=list(structural.link_types),
            properties=dict(structural.properties),
        ),
        functional=_filled(
            schemes={s.id: _scheme_data(s) for s in functional.schemes.values()}, properties=dict(functional.properties)
        ),
        normative=_filled(
            norms=[_norm_data(n) for n in normative.norms], npl=normative.npl, properties=dict(normative.properties)
        ),
        assignments={agent: list(roles) for agent, roles in spec.assignments.items()},
        properties=dict(spec.properties),
    )


def _filled(**values: Any) -> dict[str, Any]:
    return {k.rstrip("_"): v for k, v in values.items() if v is not None and v is not False and v not in ("", {}, [])}


def _bounds_data(cardinality: Cardinality) -> dict[str, Any]:
    return _filled(min=cardinality.min or None, max=cardinality.max)


def _role_data(role: Role) -> dict[str, Any]:
    return _filled(
        extends=list(role.extends),
        **_bounds_data(role.cardinality),
        capabilities=list(role.capabilities),
        properties=dict(role.properties),
    )


def _group_data(group: GroupSpec) -> dict[str, Any]:
    return _filled(
        **_bounds_data(group.cardinality),
        roles={role: _bounds_data(bounds) for role, bounds in group.roles.items()},
        links=[_link_data(x) for x in group.links],
        compatibilities=[_compatibility_data(x) for x in group.compatibilities],
        cardinalities=[{c.object: c.id, **_bounds_data(c.cardinality)} for c in group.cardinalities],
        subgroups={sub.id: _group_data(sub) for sub in group.subgroups},
        properties=dict(group.properties),
    )


def _link_data(link: Link) -> dict[str, Any]:
    ends = {"from": link.source, "to": link.target, "type": link.type}
    return ends | _reach_data(link)


def _compatibility_data(compatibility: Compatibility) -> dict[str, Any]:
    return {"from": compatibility.source, "to": compatibility.target} | _reach_data(compatibility)


def _reach_data(relation: Link | Compatibility) -> dict[str, Any]:
    return _filled(
        scope=relation.scope, extends_subgroups=relation.extends_subgroups, bidirectional=relation.bidirectional
    )


def _scheme_data(scheme: Scheme) -> dict[str, Any]:
    return _filled(
        root=scheme.root,
        goals={g.id: _goal_data(g) for g in scheme.goals.values()},
        missions={m.id: _mission_data(m) for m in scheme.missions.values()},
        notifications=[_notification_data(n) for n in scheme.notifications],
        properties=dict(scheme.properties),
    )


def _goal_data(goal: Goal) -> dict[str, Any]:
    plan = goal.plan
    return _filled(
        description=goal.description,
        min=goal.min,
        type=goal.type,
        ttf=goal.ttf,
        location=goal.location,
        arguments=dict(goal.arguments),
        depends_on=list(goal.depends_on),
        plan=plan
        and {plan.operator: list(plan.goals)}
        | _filled(success_rate=plan.success_rate, properties=dict(plan.properties)),
    )


def _mission_data(mission: Mission) -> dict[str, Any]:
    return _filled(
        **_bounds_data(mission.cardinality),
        goals=list(mission.goals),
        preferred=list(mission.preferred),
        properties=dict(mission.properties),
    )


def _notification_data(policy: NotificationPolicy) -> dict[str, Any]:
    reports = [
        _filled(
            id=report.id,
            arguments=dict(report.arguments),
            goals=[_filled(**{g.kind: g.goal}, when=g.when) for g in report.goals],
        )
        for report in policy.reports
    ]
    return _filled(
        id=policy.id,
        target=policy.target,
        condition=policy.condition,
        type=policy.type,
        reports=reports,
        properties=dict(policy.properties),
    )


def _norm_data(norm: Norm) -> dict[str, Any]:
    return _filled(
        id=norm.id,
        role=norm.role,
        type=norm.type,
        mission=norm.mission,
        actions=list(norm.actions),
        condition=norm.condition,
        ttf=norm.ttf,
    )
