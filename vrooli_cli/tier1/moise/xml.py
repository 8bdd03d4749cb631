"""The XML form of an organisation, as the Moise and JaCaMo projects write it (``os.xml``), and the door for files.

A file goes three steps: the parser makes a small tree with lines (no document type, no entities, nothing fetched,
bounded in size, depth and count); the tree is held against the published schema (``os.xsd``: elements, their order and
number, attributes and their types); what passes becomes the plain data of the YAML form, which ``spec`` reads. So both
forms have one meaning and one set of checks, and every problem still knows its line here.

``include-group-specification`` names a file beside the including one; it holds a ``group-specification``, or a whole
organisation, whose roles, schemes and norms come with its group. A role that a group lists needs no definition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

from vrooli_cli.errors import DefinitionError, Pointer, Problem, did_you_mean
from vrooli_cli.loading.includes import MOST_INCLUDES, beside, is_plain_name
from vrooli_cli.model.organization import OrganisationSpec
from vrooli_cli.tier1.moise.spec import read_organisation

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_ELEMENTS = 100_000

_NAMESPACE = re.compile(r"https?://(moise\.sourceforge\.net|moise-lang\.github\.io)/os")
_SEPARATOR = "\n"


def load_organisation(path: str | Path) -> OrganisationSpec:
    """The organisation in a file: Moise XML, or the YAML form, alone or under ``constraints:``.

    Raises:
        DefinitionError: With every problem found, as ``file:line:column``.
    """
    file = Path(path)
    text = _read(file)
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
    root = _parse(text, file)
    conversion = _Conversion(file, included)
    conversion.validate(root, "organisational-specification")
    data: dict[str, Any] = {} if conversion.problems else conversion.organisation(root)
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


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refusal(file, f"cannot be read: {error.strerror or error}") from None
    if len(text) > MAX_BYTES:
        raise _too_large(file)
    return text


def _too_large(file: Path) -> DefinitionError:
    return _refusal(file, f"is larger than {MAX_BYTES // 2**20} MiB")


def _refusal(file: Path, message: str, line: int = 0, column: int = 0) -> DefinitionError:
    return DefinitionError([Problem((), message, file=str(file), line=line, column=column)])


# The tree


@dataclass(slots=True)
class _Element:
    """An element: its local name, plain attributes, children, its own text, and where it starts."""

    name: str
    attributes: dict[str, str]
    line: int
    column: int
    file: Path
    children: list[_Element] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> Iterator[_Element]:
        """The children called ``name``."""
        return (c for c in self.children if c.name == name)

    def first(self, name: str) -> _Element | None:
        """The first child called ``name``."""
        return next(self.all(name), None)

    def of(self, outer: str, inner: str) -> list[_Element]:
        """The ``inner`` children of all ``outer`` children."""
        return [c for o in self.all(outer) for c in o.all(inner)]


def _parse(text: bytes | str, file: Path) -> _Element:
    parser = expat.ParserCreate("utf-8" if isinstance(text, str) else None, namespace_separator=_SEPARATOR)
    builder = _Builder(parser, file)
    try:
        parser.Parse(text.encode("utf-8", "replace") if isinstance(text, str) else text, True)
    except expat.ExpatError as error:
        message = f"not well-formed XML: {expat.ErrorString(error.code)}"
        raise _refusal(file, message, error.lineno, error.offset + 1) from None
    assert builder.root is not None  # a well-formed document has a root
    return builder.root


class _Builder:
    """Builds the tree from the parser's calls, and refuses what an organisation file has no use for."""

    def __init__(self, parser: expat.XMLParserType, file: Path) -> None:
        self.root: _Element | None = None
        self._parser = parser
        self._file = file
        self._open: list[_Element] = []
        self._count = 0
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._doctype

    def _refuse(self, message: str) -> DefinitionError:
        return _refusal(self._file, message, self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= MAX_DEPTH:
            raise self._refuse(f"elements are nested deeper than {MAX_DEPTH}")
        if self._count > MAX_ELEMENTS:
            raise self._refuse(f"more than {MAX_ELEMENTS} elements")
        namespace, _, local = name.rpartition(_SEPARATOR)
        if not _NAMESPACE.fullmatch(namespace):
            raise self._refuse(f"<{local}> is not in the namespace http://moise.sourceforge.net/os")
        plain = {k: v for k, v in attributes.items() if _SEPARATOR not in k}
        line, column = self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1
        element = _Element(local, plain, line, column, self._file)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        self._open[-1].text += text

    def _doctype(self, *_: object) -> None:
        raise self._refuse("a document type (and with it, entities) is not allowed here")


# The schema


class _Attribute(NamedTuple):
    required: bool
    accepts: Callable[[str], object]
    expected: str


class _Child(NamedTuple):
    name: str
    type: str
    min: int = 0
    max: int | None = 1


class _Type(NamedTuple):
    attributes: Mapping[str, _Attribute] = {}
    children: tuple[_Child, ...] = ()
    text: bool = False


def _one_of(*words: str, required: bool = False) -> _Attribute:
    return _Attribute(required, lambda v: v in words, "one of " + ", ".join(words))


def _matching(pattern: str, expected: str) -> _Attribute:
    return _Attribute(False, re.compile(pattern).fullmatch, expected)


_ANY = _Attribute(False, lambda _: True, "text")
_ID = _Attribute(True, bool, "a name")
_TEXT = _Attribute(True, lambda _: True, "text")
_COUNT = _matching(r"\s*(\+?\d{1,9}|-0+)\s*", "a whole number, 0 or more")
_INTEGER = _Attribute(True, re.compile(r"\s*[+-]?\d{1,9}\s*").fullmatch, "a whole number")
_BOOLEAN = _matching(r"\s*(true|false|1|0)\s*", "true or false")
_RATE = _matching(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", "a number")
_SCOPE = _one_of("intra-group", "inter-group")
_BOUNDS = {"min": _COUNT, "max": _COUNT}
_RELATION = {"scope": _SCOPE, "extends-subgroups": _BOOLEAN, "bi-dir": _BOOLEAN}
_PROPERTIES = _Child("properties", "properties")
_MANY = None
_GOAL_ATTRIBUTES = {
    "id": _ID,
    "min": _COUNT,
    "ds": _ANY,
    "type": _one_of("performance", "achievement", "maintenance"),
    "ttf": _ANY,
    "location": _ANY,
}
_GOAL_CHILDREN = (
    _Child("argument", "argument", 0, _MANY),
    _Child("depends-on", "depends-on", 0, _MANY),
    _Child("plan", "plan"),
)
_EXCEPTION_REPORT = (
    _Child("argument", "arity", 0, _MANY),
    _Child("raise-goal", "report-goal", 1, _MANY),
    _Child("handle-goal", "report-goal", 1, _MANY),
)
_ACCOUNT_REPORT = (
    _Child("argument", "arity", 0, _MANY),
    _Child("context-goal", "report-goal", 0, _MANY),
    _Child("requesting-goal", "report-goal", 1, _MANY),
    _Child("accounting-goal", "report-goal", 1, _MANY),
    _Child("treatment-goal", "report-goal", 0, _MANY),
)
_REPORT_GOALS = ("raise", "handle", "context", "requesting", "accounting", "treatment")

_TYPES: Mapping[str, _Type] = {
    "organisational-specification": _Type(
        {"id": _ANY, "os-version": _TEXT},
        (
            _PROPERTIES,
            _Child("structural-specification", "structural"),
            _Child("functional-specification", "functional"),
            _Child("normative-specification", "normative"),
        ),
    ),
    "structural": _Type(
        {},
        (
            _PROPERTIES,
            _Child("role-definitions", "role-definitions"),
            _Child("link-types", "link-types"),
            _Child("group-specification", "group"),
        ),
    ),
    "role-definitions": _Type({}, (_Child("role", "role-definition", 0, _MANY),)),
    "role-definition": _Type({"id": _ID}, (_PROPERTIES, _Child("extends", "extends", 0, _MANY))),
    "extends": _Type({"role": _ANY}),
    "link-types": _Type({}, (_Child("link-type", "reference", 1, _MANY),)),
    "reference": _Type({"id": _ID}),
    "group": _Type(
        {"id": _ID, **_BOUNDS},
        (
            _PROPERTIES,
            _Child("roles", "roles"),
            _Child("links", "links"),
            _Child("subgroups", "subgroups", 0, _MANY),
            _Child("formation-constraints", "formation-constraints"),
        ),
    ),
    "roles": _Type({}, (_Child("role", "role", 1, _MANY),)),
    "role": _Type({"id": _ID, **_BOUNDS}),
    "links": _Type({}, (_Child("link", "link", 1, _MANY),)),
    "link": _Type({"from": _ID, "to": _ID, "type": _ID, **_RELATION}),
    "subgroups": _Type(
        {},
        (
            _Child("include-group-specification", "include", 0, _MANY),
            _Child("group-specification", "group", 0, _MANY),
        ),
    ),
    "include": _Type({"uri": _ID}),
    "formation-constraints": _Type(
        {},
        (
            _Child("cardinality", "cardinality", 0, _MANY),
            _Child("compatibility", "compatibility", 0, _MANY),
        ),
    ),
    "cardinality": _Type({"id": _ID, "object": _one_of("role", "group", required=True), **_BOUNDS}),
    "compatibility": _Type({"from": _ID, "to": _ID, "type": _ANY, **_RELATION}),
    "functional": _Type({}, (_PROPERTIES, _Child("scheme", "scheme", 0, _MANY))),
    "scheme": _Type(
        {"id": _ANY},
        (
            _PROPERTIES,
            _Child("goal", "goal", 1),
            _Child("notification-policy", "notification-policy", 0, _MANY),
            _Child("mission", "mission", 0, _MANY),
        ),
    ),
    "goal": _Type(_GOAL_ATTRIBUTES, _GOAL_CHILDREN),
    "report-goal": _Type({**_GOAL_ATTRIBUTES, "when": _ANY}, _GOAL_CHILDREN),
    "argument": _Type({"id": _ID, "value": _ANY}),
    "depends-on": _Type({"goal": _ID}),
    "plan": _Type(
        {"operator": _one_of("sequence", "choice", "parallel", required=True), "success-rate": _RATE},
        (_PROPERTIES, _Child("goal", "goal", 1, _MANY)),
    ),
    "mission": _Type(
        {"id": _ID, **_BOUNDS},
        (
            _PROPERTIES,
            _Child("goal", "reference", 1, _MANY),
            _Child("preferred", "preferred", 0, _MANY),
        ),
    ),
    "preferred": _Type({"mission": _ID}),
    "notification-policy": _Type(
        {
            "id": _ID,
            "target": _ID,
            "condition": _TEXT,
            "type": _one_of("exception", "accountability", required=True),
        },
        (_PROPERTIES, _Child("report", "report", 1, _MANY)),
    ),
    "report": _Type({"id": _ID}, _EXCEPTION_REPORT),
    "account-report": _Type({"id": _ID}, _ACCOUNT_REPORT),
    "arity": _Type({"id": _ID, "arity": _INTEGER}),
    "normative": _Type(
        {},
        (_PROPERTIES, _Child("norm", "norm", 0, _MANY), _Child("npl-norms", "npl-norms")),
    ),
    "norm": _Type(
        {
            "id": _ID,
            "condition": _ANY,
            "role": _ID,
            "type": _one_of("obligation", "permission", required=True),
            "mission": _ID,
            "time-constraint": _ANY,
        }
    ),
    "npl-norms": _Type(text=True),
    "properties": _Type({}, (_Child("property", "property", 1, _MANY),)),
    "property": _Type({"id": _ID, "value": _TEXT}),
}
"""The complex types of ``os.xsd``, and the one way in which an element's type hangs on its parent's."""


# From the tree to the data


class _Conversion:
    """Holds a tree against the schema and turns it into plain data, keeping where everything came from."""

    def __init__(self, file: Path, included: Mapping[str, str] | None) -> None:
        self.file = file
        self._texts = included
        self.problems: list[Problem] = []
        self._places: dict[Pointer, _Element] = {}
        self._includes = 0
        self._guests: list[_Element] = []  # the organisations of which a group is included

    def wrong(self, element: _Element, message: str, hint: str = "") -> None:
        """Record a problem at an element."""
        place = {"file": str(element.file), "line": element.line, "column": element.column}
        self.problems.append(Problem((), message, hint, **place))  # type: ignore[arg-type]

    def placed(self, problem: Problem) -> Problem:
        """The problem with the line of the nearest element that its pointer leads to."""
        at = problem.pointer
        while at not in self._places and at:
            at = at[:-1]
        element = self._places[at]
        return replace(problem, file=str(element.file), line=element.line, column=element.column)

    # Against the schema

    def validate(self, element: _Element, type_name: str) -> None:
        """Record everything in which ``element`` differs from its type."""
        if len(self.problems) > 100:  # a file of another kind altogether; more lines would not help
            return
        if type_name == "organisational-specification" and element.name != type_name:
            self.wrong(element, f"expected <{type_name}>, found <{element.name}>")
            return
        if type_name == "report" and not (element.first("raise-goal") or element.first("handle-goal")):
            type_name = "account-report"
        kind = _TYPES[type_name]
        self._validate_attributes(element, kind)
        if element.text.strip() and not kind.text:
            self.wrong(element, f"<{element.name}> holds elements only, found text")
        self._validate_children(element, kind)

    def _validate_attributes(self, element: _Element, kind: _Type) -> None:
        for name, value in element.attributes.items():
            known = kind.attributes.get(name)
            if known is None:
                hint = did_you_mean(name, kind.attributes) or f"known: {', '.join(kind.attributes) or 'none'}"
                self.wrong(element, f"<{element.name}> has no attribute {name!r}", hint)
            elif not known.accepts(value):
                self.wrong(element, f"attribute {name!r} of <{element.name}> must be {known.expected}, found {value!r}")
        for name, known in kind.attributes.items():
            if known.required and name not in element.attributes:
                self.wrong(element, f"<{element.name}> lacks the attribute {name!r}")

    def _validate_children(self, element: _Element, kind: _Type) -> None:
        order = {child.name: rank for rank, child in enumerate(kind.children)}
        reached = 0
        for child in element.children:
            rank = order.get(child.name)
            if rank is None:
                hint = did_you_mean(child.name, order) or f"known: {', '.join(order) or 'none'}"
                self.wrong(child, f"<{child.name}> is not expected in <{element.name}>", hint)
                continue
            if rank < reached:
                message = f"<{child.name}> is out of place in <{element.name}>"
                self.wrong(child, message, f"the order is {', '.join(order)}")
            reached = max(reached, rank)
            self.validate(child, kind.children[rank].type)
        for expected in kind.children:
            count = sum(1 for _ in element.all(expected.name))
            if count < expected.min:
                self.wrong(element, f"<{element.name}> lacks <{expected.name}>")
            if expected.max is not None and count > expected.max:
                self.wrong(element, f"<{element.name}> has more than one <{expected.name}>")

    # To the data

    def organisation(self, root: _Element) -> dict[str, Any]:
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

    def _parts(self, root: _Element, key: str) -> list[_Element]:
        """One specification of the organisation, and of those that it includes a group of."""
        return [p for source in (root, *self._guests) if (p := source.first(f"{key}-specification")) is not None]

    def _at(self, element: _Element, *pointer: str | int) -> None:
        self._places[pointer] = element

    def _named(self, elements: Iterator[_Element] | list[_Element], what: str, *at: str | int) -> Iterator[_Element]:
        """The elements with an id of their own, each told where it stands; a second one of a name is a problem."""
        for element in elements:
            name = element.attributes["id"]
            if (*at, name) in self._places:
                first = self._places[(*at, name)]
                self.wrong(element, f"the {what} {name!r} is defined twice", f"first in line {first.line}")
                continue
            self._at(element, *at, name)
            yield element

    def _structural(self, parts: list[_Element]) -> dict[str, Any]:
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

    def _guest_roles(self) -> Iterator[_Element]:
        for guest in self._guests:
            for part in guest.all("structural-specification"):
                yield from part.of("role-definitions", "role")

    def _group(self, element: _Element, at: Pointer) -> dict[str, Any]:
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

    def _subgroups(self, element: _Element, at: Pointer) -> dict[str, Any]:
        parts = [part for subgroups in element.all("subgroups") for part in subgroups.children]
        groups = [g for part in parts for g in (self._included(part) if part.name.startswith("include") else [part])]
        return {
            group.attributes["id"]: self._group(group, (*at, group.attributes["id"]))
            for group in self._named(groups, "group", *at)
        }

    def _included(self, element: _Element) -> list[_Element]:
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
        return self._group_in(_parse(_read(file), file))

    def _known(self, element: _Element, file: Path, text: str | None) -> list[_Element]:
        """The group specification in a text that was read with the organisation."""
        if text is None:
            self.wrong(element, f"include {file.name!r}: beside this one no such file can be read")
            return []
        if len(text) > MAX_BYTES:
            raise _too_large(file)
        return self._group_in(_parse(text, file))

    def _group_in(self, root: _Element) -> list[_Element]:
        before = len(self.problems)
        if root.name == "group-specification":
            self.validate(root, "group")
            found = [root]
        else:
            self.validate(root, "organisational-specification")
            found = root.of("structural-specification", "group-specification")
            self._guests.append(root)
        return found if len(self.problems) == before else []

    def _listed(self, elements: list[_Element], at: Pointer) -> list[_Element]:
        for i, element in enumerate(elements):
            self._at(element, *at, i)
        return elements

    def _relations(self, elements: list[_Element], at: Pointer, *also: str) -> list[dict[str, Any]]:
        return [
            {key: e.attributes[key] for key in ("from", "to", *also)}
            | _filled(
                scope=e.attributes.get("scope"),
                extends_subgroups=_truth(e, "extends-subgroups"),
                bidirectional=_truth(e, "bi-dir"),
            )
            for e in self._listed(elements, at)
        ]

    def _functional(self, parts: list[_Element]) -> dict[str, Any]:
        at = ("functional", "schemes")
        elements = [scheme for part in parts for scheme in part.all("scheme")]
        for i, scheme in enumerate(elements, start=1):
            scheme.attributes.setdefault("id", f"scheme{i}")
        schemes = {
            scheme.attributes["id"]: self._scheme(scheme, (*at, scheme.attributes["id"]))
            for scheme in self._named(elements, "scheme", *at)
        }
        return _filled(schemes=schemes, properties=_properties(parts[0]))

    def _scheme(self, element: _Element, at: Pointer) -> dict[str, Any]:
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

    def _goals(self, element: _Element, at: Pointer, goals: dict[str, Any], *, again: bool = False) -> None:
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

    def _notification(self, element: _Element, at: Pointer, goals: dict[str, Any]) -> dict[str, Any]:
        attributes = element.attributes
        reports = []
        for report in element.all("report"):
            told = [g for g in report.children if g.name.removesuffix("-goal") in _REPORT_GOALS]
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

    def _normative(self, parts: list[_Element]) -> dict[str, Any]:
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


def _role_data(role: _Element) -> dict[str, Any]:
    supers = [e.attributes["role"] for e in role.all("extends") if e.attributes.get("role")]
    return _filled(extends=supers, properties=_properties(role))


def _listed_roles(groups: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """The roles that can be played in the groups and their subgroups."""
    for group in groups.values():
        yield from group.get("roles", ())
        yield from _listed_roles(group.get("subgroups", {}))


def _properties(element: _Element) -> dict[str, str]:
    return {p.attributes["id"]: p.attributes["value"] for p in element.of("properties", "property")}


def _count(element: _Element, name: str) -> int | None:
    value = element.attributes.get(name)
    return None if value is None else int(value)


def _bounds(element: _Element) -> dict[str, int]:
    return {name: count for name in ("min", "max") if (count := _count(element, name)) is not None}


def _truth(element: _Element, name: str) -> bool:
    return element.attributes.get(name, "").strip() in ("true", "1")
