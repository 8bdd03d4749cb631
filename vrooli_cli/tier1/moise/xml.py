"""The XML form of an organisation, as the Moise and JaCaMo projects write it (``os.xml``), and the door for files.

A file goes three steps: it becomes a small tree with lines (``xml_tree``), which is held against the published schema
(``xml_schema``); what passes becomes the plain data of the YAML form, which ``spec`` reads. So both forms have one
meaning and one set of checks, and every problem still knows its line here.

``include-group-specification`` names a file beside the including one; it holds a ``group-specification``, or a whole
organisation, whose roles, schemes and norms come with its group. A role that a group lists needs no definition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vrooli_cli.errors import DefinitionError, Pointer, Problem
from vrooli_cli.loading.includes import MOST_INCLUDES, beside, is_plain_name
from vrooli_cli.model.organization import OrganisationSpec
from vrooli_cli.tier1.moise.spec import read_organisation
from vrooli_cli.tier1.moise.xml_schema import GROUP, REPORT_GOALS, ROOT, schema_problems
from vrooli_cli.tier1.moise.xml_tree import MAX_BYTES, Element, parse_xml, read_bounded, too_large


def load_organisation(path: str | Path) -> OrganisationSpec:
    """The organisation in a file: Moise XML, or the YAML form, alone or under ``constraints:``.

    Raises:
        DefinitionError: With every problem found, as ``file:line:column``.
    """
    file = Path(path)
    text = read_bounded(file)
    if text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return organisation_from_xml(text, file)
    return _from_yaml(file)


def organisation_from_xml(text: bytes | str, file: Path, included: Mapping[str, str] | None = None) -> OrganisationSpec:
    """The organisation in the text of an XML file.

    Args:
        text: The bytes of the file, or its text whatever encoding it declares.
        file: Its path: for messages, and for includes beside it.
        included: Name → text of the files beside it that were read already; None: they are read from the disk.

    Raises:
        DefinitionError: With every problem found.
    """
    root = parse_xml(text, file)
    wrong = schema_problems(root, ROOT)
    if wrong:
        raise DefinitionError(wrong)
    conversion = _Conversion(file, included)
    data = conversion.organisation(root)
    if conversion.problems:
        raise DefinitionError(conversion.problems)
    spec, problems = read_organisation(data)
    if problems:
        raise DefinitionError([conversion.placed(p) for p in problems])
    return spec


def _from_yaml(file: Path) -> OrganisationSpec:
    from vrooli_cli.loading.text import read_file  # yaml is imported only for files that need it

    document = read_file(file)
    data = document.data
    at: Pointer = ()
    if isinstance(data, dict) and set(data) == {"constraints"}:  # as it stands in a swarm
        data, at = data["constraints"], ("constraints",)
    spec, problems = read_organisation(data, at)
    if problems:
        raise DefinitionError([document.source.place(p) for p in problems])
    return spec


class _Conversion:
    """Turns a tree into plain data, keeping where everything came from."""

    def __init__(self, file: Path, included: Mapping[str, str] | None) -> None:
        self.file = file
        self._texts = included
        self.problems: list[Problem] = []
        self._places: dict[Pointer, Element] = {}
        self._includes = 0
        self._guests: list[Element] = []  # the organisations of which a group is included

    def wrong(self, element: Element, message: str, hint: str = "") -> None:
        """Record a problem at an element."""
        self.problems.append(element.problem(message, hint))

    def placed(self, problem: Problem) -> Problem:
        """The problem with the line of the nearest element that its pointer leads to."""
        at = problem.pointer
        while at not in self._places and at:
            at = at[:-1]
        element = self._places[at]
        return replace(problem, file=str(element.file), line=element.line, column=element.column)

    def organisation(self, root: Element) -> dict[str, Any]:
        """The plain data of the whole file."""
        self._at(root)
        parts = {"structural": self._structural, "functional": self._functional, "normative": self._normative}
        data: dict[str, Any] = _filled(
            id=root.attributes.get("id"), version=root.attributes.get("os-version"), properties=_properties(root)
        )
        for key, convert in parts.items():  # the structure first: it tells what is included
            found = self._parts(root, key)
            if found:
                self._at(found[0], key)
                data[key] = convert(found)
        return data

    def _parts(self, root: Element, key: str) -> list[Element]:
        """One specification of the organisation, and of those that it includes a group of."""
        return [p for source in (root, *self._guests) if (p := source.first(f"{key}-specification")) is not None]

    def _at(self, element: Element, *pointer: str | int) -> None:
        self._places[pointer] = element

    def _named(self, elements: Iterator[Element] | list[Element], what: str, *at: str | int) -> Iterator[Element]:
        """The elements with an id of their own, each told where it stands; a second one of a name is a problem."""
        for element in elements:
            name = element.attributes["id"]
            if (*at, name) in self._places:
                first = self._places[(*at, name)]
                self.wrong(element, f"the {what} {name!r} is defined twice", f"first in line {first.line}")
                continue
            self._at(element, *at, name)
            yield element

    def _structural(self, parts: list[Element]) -> dict[str, Any]:
        at, element = ("structural",), parts[0]
        roles = {}
        for role in self._named(element.of("role-definitions", "role"), "role", *at, "roles"):
            roles[role.attributes["id"]] = _role_data(role)
        groups = {}
        for group in self._named(element.all("group-specification"), "group", *at, "groups"):
            groups[group.attributes["id"]] = self._group(group, (*at, "groups", group.attributes["id"]))
        for role in self._guest_roles():
            if role.attributes["id"] not in roles:
                self._at(role, *at, "roles", role.attributes["id"])
                roles[role.attributes["id"]] = _role_data(role)
        for name in _listed_roles(groups):
            roles.setdefault(name, {})
        link_types = [e.attributes["id"] for e in element.of("link-types", "link-type")]
        return _filled(roles=roles, groups=groups, link_types=link_types, properties=_properties(element))

    def _guest_roles(self) -> Iterator[Element]:
        for guest in self._guests:
            for part in guest.all("structural-specification"):
                yield from part.of("role-definitions", "role")

    def _group(self, element: Element, at: Pointer) -> dict[str, Any]:
        roles = {
            role.attributes["id"]: _bounds(role)
            for role in self._named(element.of("roles", "role"), "role", *at, "roles")
        }
        constraints = element.of("formation-constraints", "cardinality")
        return _filled(
            **_bounds(element),
            roles=roles,
            links=self._relations(element.of("links", "link"), (*at, "links"), "type"),
            compatibilities=self._relations(
                element.of("formation-constraints", "compatibility"), (*at, "compatibilities")
            ),
            cardinalities=[
                {c.attributes["object"]: c.attributes["id"], **_bounds(c)}
                for c in self._listed(constraints, (*at, "cardinalities"))
            ],
            subgroups=self._subgroups(element, (*at, "subgroups")),
            properties=_properties(element),
        )

    def _subgroups(self, element: Element, at: Pointer) -> dict[str, Any]:
        parts = [part for subgroups in element.all("subgroups") for part in subgroups.children]
        groups = [g for part in parts for g in (self._included(part) if part.name.startswith("include") else [part])]
        return {
            group.attributes["id"]: self._group(group, (*at, group.attributes["id"]))
            for group in self._named(groups, "group", *at)
        }

    def _included(self, element: Element) -> list[Element]:
        """The group specification of the file that ``element`` names; a plain name beside the including file."""
        uri = element.attributes["uri"]
        self._includes += 1
        if self._includes > MOST_INCLUDES:
            self.wrong(element, f"more than {MOST_INCLUDES} includes, or an include of itself")
            return []
        if not is_plain_name(uri):
            self.wrong(element, f"include {uri!r}: only a file beside this one can be included, by its plain name")
            return []
        file = element.file.parent / uri
        if self._texts is not None:
            return self._known(element, file, self._texts.get(uri))
        if beside(element.file, uri) is None:
            self.wrong(element, f"include {uri!r}: only a file beside this one can be included")
            return []
        if not file.is_file():
            self.wrong(element, f"include {uri!r}: there is no such file beside this one")
            return []
        return self._group_in(parse_xml(read_bounded(file), file))

    def _known(self, element: Element, file: Path, text: str | None) -> list[Element]:
        """The group specification in a text that was read with the organisation."""
        if text is None:
            self.wrong(element, f"include {file.name!r}: beside this one no such file can be read")
            return []
        if len(text) > MAX_BYTES:
            raise too_large(file)
        return self._group_in(parse_xml(text, file))

    def _group_in(self, root: Element) -> list[Element]:
        is_group = root.name == "group-specification"
        wrong = schema_problems(root, GROUP if is_group else ROOT)
        if wrong:
            self.problems += wrong
            return []
        if is_group:
            return [root]
        self._guests.append(root)
        return root.of("structural-specification", "group-specification")

    def _listed(self, elements: list[Element], at: Pointer) -> list[Element]:
        for i, element in enumerate(elements):
            self._at(element, *at, i)
        return elements

    def _relations(self, elements: list[Element], at: Pointer, *also: str) -> list[dict[str, Any]]:
        return [
            {key: e.attributes[key] for key in ("from", "to", *also)}
            | _filled(
                scope=e.attributes.get("scope"),
                extends_subgroups=_truth(e, "extends-subgroups"),
                bidirectional=_truth(e, "bi-dir"),
            )
            for e in self._listed(elements, at)
        ]

    def _functional(self, parts: list[Element]) -> dict[str, Any]:
        at = ("functional", "schemes")
        elements = [scheme for part in parts for scheme in part.all("scheme")]
        for i, scheme in enumerate(elements, start=1):
            scheme.attributes.setdefault("id", f"scheme{i}")
        schemes = {
            scheme.attributes["id"]: self._scheme(scheme, (*at, scheme.attributes["id"]))
            for scheme in self._named(elements, "scheme", *at)
        }
        return _filled(schemes=schemes, properties=_properties(parts[0]))

    def _scheme(self, element: Element, at: Pointer) -> dict[str, Any]:
        goals: dict[str, Any] = {}
        for goal in element.all("goal"):
            self._goals(goal, at, goals)
        policies = self._listed(list(element.all("notification-policy")), (*at, "notifications"))
        notifications = [self._notification(policy, at, goals) for policy in policies]
        missions = {}
        for mission in self._named(element.all("mission"), "mission", *at, "missions"):
            name = mission.attributes["id"]
            references = list({g.attributes["id"]: g for g in mission.all("goal")}.values())
            self._listed(references, (*at, "missions", name, "goals"))
            self._listed(list(mission.all("preferred")), (*at, "missions", name, "preferred"))
            missions[name] = _filled(
                **_bounds(mission),
                goals=[g.attributes["id"] for g in references],
                preferred=[p.attributes["mission"] for p in mission.all("preferred")],
                properties=_properties(mission),
            )
        root = next(element.all("goal")).attributes["id"]
        return _filled(
            root=root, goals=goals, missions=missions, notifications=notifications, properties=_properties(element)
        )

    def _goals(self, element: Element, at: Pointer, goals: dict[str, Any], *, again: bool = False) -> None:
        """Add a goal and those of its plan; ``again`` allows a name that is known, as reports share goals."""
        name = element.attributes["id"]
        if name in goals:
            if not again:
                self.wrong(element, f"the goal {name!r} is defined twice in its scheme")
            return
        self._at(element, *at, "goals", name)
        dependencies = self._listed(list(element.all("depends-on")), (*at, "goals", name, "depends_on"))
        goals[name] = goal = _filled(
            description=element.attributes.get("ds"),
            min=_count(element, "min"),
            type=element.attributes.get("type"),
            ttf=element.attributes.get("ttf"),
            location=element.attributes.get("location"),
            arguments={a.attributes["id"]: a.attributes.get("value") for a in element.all("argument")},
            depends_on=[d.attributes["goal"] for d in dependencies],
        )
        plan = element.first("plan")
        if plan is not None:
            rate = plan.attributes.get("success-rate")
            goal["plan"] = {plan.attributes["operator"]: [g.attributes["id"] for g in plan.all("goal")]} | _filled(
                success_rate=float(rate) if rate else None, properties=_properties(plan)
            )
            for sub in plan.all("goal"):
                self._goals(sub, at, goals)

    def _notification(self, element: Element, at: Pointer, goals: dict[str, Any]) -> dict[str, Any]:
        attributes = element.attributes
        reports = []
        for report in element.all("report"):
            told = [g for g in report.children if g.name.removesuffix("-goal") in REPORT_GOALS]
            for goal in told:
                self._goals(goal, at, goals, again=True)
            reports.append(
                _filled(
                    id=report.attributes["id"],
                    arguments={a.attributes["id"]: int(a.attributes["arity"]) for a in report.all("argument")},
                    goals=[
                        _filled(when=g.attributes.get("when")) | {g.name.removesuffix("-goal"): g.attributes["id"]}
                        for g in told
                    ],
                )
            )
        keys = ("id", "target", "condition", "type")
        return {key: attributes[key] for key in keys} | _filled(reports=reports, properties=_properties(element))

    def _normative(self, parts: list[Element]) -> dict[str, Any]:
        norms = [
            _filled(
                id=n.attributes["id"],
                role=n.attributes["role"],
                type=n.attributes["type"],
                mission=n.attributes["mission"],
                condition=n.attributes.get("condition"),
                ttf=n.attributes.get("time-constraint"),
            )
            for n in self._listed([n for part in parts for n in part.all("norm")], ("normative", "norms"))
        ]
        npl = parts[0].first("npl-norms")
        return _filled(norms=norms, npl=npl.text.strip() if npl else None, properties=_properties(parts[0]))


def _filled(**values: Any) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None and v not in ("", {}, [])}


def _role_data(role: Element) -> dict[str, Any]:
    supers = [e.attributes["role"] for e in role.all("extends") if e.attributes.get("role")]
    return _filled(extends=supers, properties=_properties(role))


def _listed_roles(groups: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """The roles that can be played in the groups and their subgroups."""
    for group in groups.values():
        yield from group.get("roles", ())
        yield from _listed_roles(group.get("subgroups", {}))


def _properties(element: Element) -> dict[str, str]:
    return {p.attributes["id"]: p.attributes["value"] for p in element.of("properties", "property")}


def _count(element: Element, name: str) -> int | None:
    value = element.attributes.get(name)
    return None if value is None else int(value)


def _bounds(element: Element) -> dict[str, int]:
    return {name: count for name in ("min", "max") if (count := _count(element, name)) is not None}


def _truth(element: Element, name: str) -> bool:
    return element.attributes.get(name, "").strip() in ("true", "1")
