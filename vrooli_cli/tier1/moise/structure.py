"""What follows from a structural specification: role inheritance, the group tree, compatibility and links by scope.

Everything here is derived once from the frozen values and then only looked up; engine, organizer and norms ask the same
questions and get the same answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from vrooli_cli.model.organization import (
    ROOT_ROLE,
    Cardinality,
    Compatibility,
    GroupSpec,
    Link,
    Norm,
    OrganisationSpec,
    Role,
    Scheme,
)


def walk_groups(groups: Iterable[GroupSpec]) -> Iterator[GroupSpec]:
    """Every group specification of the trees, parents first, in the order of the file."""
    for group in groups:
        yield group
        yield from walk_groups(group.subgroups)


class Structure:
    """The closed-over facts of an organisation's structure.

    Attributes:
        spec: The organisation they were derived from.
        groups: Every kind of group by id.
        parent: Kind of group → the kind that contains it; None for a root.
        restricts_communication: True when a communication link is declared anywhere.
    """

    def __init__(self, spec: OrganisationSpec) -> None:
        self.spec = spec
        structural = spec.structural
        self.groups: dict[str, GroupSpec] = {g.id: g for g in walk_groups(structural.groups.values())}
        self.parent: dict[str, str | None] = dict.fromkeys(structural.groups)
        for group in self.groups.values():
            self.parent.update(dict.fromkeys((sub.id for sub in group.subgroups), group.id))
        self._ancestry = {role: _ancestry(role, structural.roles) for role in structural.roles}
        self._compatibilities = {g: tuple(self._visible_compatibilities(g)) for g in self.groups}
        self._answers: dict[tuple[str, str, str, bool], bool] = {}  # allocation asks the same a thousand times
        self._links = {g: tuple(self._visible_links(g)) for g in self.groups}
        declared = [*structural.links, *(x for g in self.groups.values() for x in g.links)]
        self.restricts_communication = any(x.type == "communication" for x in declared)

    def is_a(self, role: str, ancestor: str) -> bool:
        """True when ``role`` is ``ancestor`` or inherits from it."""
        return role == ancestor or ancestor == ROOT_ROLE or ancestor in self._ancestry.get(role, frozenset())

    def ancestry(self, role: str) -> frozenset[str]:
        """The role itself and all that it inherits from."""
        return self._ancestry.get(role, frozenset({role}))

    def lineage(self, group: str) -> Iterator[GroupSpec]:
        """The kind of group, then its parent, up to the root."""
        at: str | None = group
        while at is not None:
            yield self.groups[at]
            at = self.parent[at]

    def role_cardinality(self, group: str, role: str) -> Cardinality:
        """The bounds on players of ``role`` in one group of that kind.

        A formation constraint on a role that can be played in the group itself narrows what the role list says.
        """
        spec = self.groups[group]
        extra = (c.cardinality for c in spec.cardinalities if (c.object, c.id) == ("role", role))
        return _narrowed(spec.roles[role], extra)

    def subgroup_cardinality(self, parent: str, group: str) -> Cardinality:
        """The bounds on instances of the kind ``group`` in one instance of ``parent``."""
        constraints = self.groups[parent].cardinalities
        own = self.groups[group].cardinality
        return _narrowed(own, (c.cardinality for c in constraints if (c.object, c.id) == ("group", group)))

    def compatible(self, played: str, in_group: str, wanted: str, *, same_instance: bool) -> bool:
        """May a player of ``played`` in a group of kind ``in_group`` also play ``wanted``?

        What counts is what the kind of group of the role already played says, its parents' extended relations included
        (C-intra and C-inter of a group specification, 2002).

        Args:
            played: The role that the agent plays.
            in_group: The kind of group it plays it in.
            wanted: The role it would play as well.
            same_instance: True when that is in the same group, which is what the scope of a compatibility speaks of.
        """
        question = (played, in_group, wanted, same_instance)
        answer = self._answers.get(question)
        if answer is None:
            scope = "intra-group" if same_instance else "inter-group"
            visible = self._compatibilities[in_group]
            answer = any(c.scope == scope and self._joins(c, played, wanted) for c in visible)
            self._answers[question] = answer
        return answer

    def norms_of(self, role: str) -> tuple[Norm, ...]:
        """The norms that bind players of ``role``, its own and inherited ones, in the order of the file."""
        return tuple(n for n in self.spec.normative.norms if self.is_a(role, n.role))

    def joined(self, link: Link, source: str, target: str) -> bool:
        """True when ``link`` leads from a player of ``source`` to a player of ``target``, inheritance considered."""
        return self._joins(link, source, target)

    def links_in(self, group: str) -> tuple[Link, ...]:
        """The links that hold in groups of a kind: its own, and those of its parents that extend to subgroups."""
        return self._links.get(group, self.spec.structural.links)

    def _visible_links(self, group: str) -> Iterator[Link]:
        yield from self.spec.structural.links
        for spec in self.lineage(group):
            yield from (x for x in spec.links if spec.id == group or x.extends_subgroups)

    def _visible_compatibilities(self, group: str) -> Iterator[Compatibility]:
        yield from self.spec.structural.compatibilities
        for spec in self.lineage(group):
            yield from (c for c in spec.compatibilities if spec.id == group or c.extends_subgroups)

    def _joins(self, relation: Compatibility | Link, source: str, target: str) -> bool:
        if self.is_a(source, relation.source) and self.is_a(target, relation.target):
            return True
        return relation.bidirectional and self.is_a(target, relation.source) and self.is_a(source, relation.target)


def mission_scheme(spec: OrganisationSpec, reference: str) -> Scheme | None:
    """The scheme of a mission that a norm names as ``MISSION`` or ``SCHEME.MISSION``; None when there is none."""
    return next((s for s in spec.functional.schemes.values() if mission_in(s, reference) is not None), None)


def mission_in(scheme: Scheme, reference: str) -> str | None:
    """The id within ``scheme`` of a mission named as ``MISSION`` or ``SCHEME.MISSION``; None when it has none such."""
    if reference in scheme.missions:
        return reference
    prefix, _, mission = reference.partition(".")
    return mission if prefix == scheme.id and mission in scheme.missions else None


def _narrowed(base: Cardinality, others: Iterable[Cardinality]) -> Cardinality:
    for other in others:
        bounds = [m for m in (base.max, other.max) if m is not None]
        base = Cardinality(max(base.min, other.min), min(bounds, default=None))
    return base


def _ancestry(role: str, roles: Mapping[str, Role]) -> frozenset[str]:
    found: set[str] = set()
    todo = [role]
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            todo.extend(roles[at].extends if at in roles else ())
    return frozenset(found)
