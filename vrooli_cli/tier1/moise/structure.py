"""What follows from a structural specification: role inheritance, the group tree, compatibility and links by scope.

Everything here is derived once from the frozen values and then only looked up; engine, organizer and norms ask the same
questions and get the same answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from vrooli_cli.model.organization import (
    ANY_NUMBER,
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
        self._answers: dict[tuple[str, str, str, bool, bool], bool] = {}  # allocation asks the same a thousand times
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

        A formation constraint of the group takes the place of what the role list says.
        """
        spec = self.groups[group]
        return _stated(spec, "role", role) or spec.roles[role]

    def subgroup_cardinality(self, parent: str, group: str) -> Cardinality:
        """The bounds on instances of the kind ``group`` in one instance of ``parent``."""
        return _stated(self.groups[parent], "group", group) or self.groups[group].cardinality

    def root_cardinality(self, group: str) -> Cardinality:
        """The bounds on instances of a root kind of group, which it states as a formation constraint on itself."""
        return _stated(self.groups[group], "group", group) or ANY_NUMBER

    def compatible(self, played: str, wanted: str, in_group: str, *, same_instance: bool, one_way: bool = True) -> bool:
        """May a player of ``played`` also play ``wanted`` in a group of kind ``in_group``?

        What counts is what the kind of group that is entered says, its parents' extended relations included, as in the
        reference implementation.

        Args:
            played: The role that the agent plays.
            wanted: The role it would play as well.
            in_group: The kind of group it would play that in.
            same_instance: True when it is the same group, which is what the scope of a compatibility speaks of.
            one_way: As published, a compatibility that is not bidirectional leads from its source to its target. False:
                it leads nowhere else but from its source to itself, as in the reference, which looks compatibilities up
                by the role that is entered.
        """
        question = (played, wanted, in_group, same_instance, one_way)
        answer = self._answers.get(question)
        if answer is None:
            scope = "intra-group" if same_instance else "inter-group"
            answer = any(
                c.scope == scope
                and self._joins(c, played, wanted)
                and (one_way or c.bidirectional or self.is_a(wanted, c.source))
                for c in self._compatibilities[in_group]
            )
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


def _stated(group: GroupSpec, kind: Literal["role", "group"], name: str) -> Cardinality | None:
    """What the formation constraints of a group say of a role or a subgroup, the last one that says anything."""
    said = (c.cardinality for c in group.cardinalities if (c.object, c.id) == (kind, name))
    return next((c for c in reversed(list(said)) if c != ANY_NUMBER), None)


def _ancestry(role: str, roles: Mapping[str, Role]) -> frozenset[str]:
    found: set[str] = set()
    todo = [role]
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            todo.extend(roles[at].extends if at in roles else ())
    return frozenset(found)
