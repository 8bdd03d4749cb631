"""The published schema of organisations, ``os.xsd``: elements, their order and number, attributes and their types."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from vrooli_cli.errors import Problem, did_you_mean
from vrooli_cli.tier1.moise.xml_tree import Element

ROOT = "organisational-specification"
GROUP = "group"
_MOST_PROBLEMS = 100  # a file of another kind altogether; more lines would not help


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
REPORT_GOALS = ("raise", "handle", "context", "requesting", "accounting", "treatment")

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


def schema_problems(root: Element, type_name: str) -> list[Problem]:
    """Everything in which an element differs from its type, the first hundred of it.

    Args:
        root: The element, with all below it.
        type_name: ``ROOT`` or ``GROUP``.
    """
    if type_name == ROOT and root.name != ROOT:
        return [root.problem(f"expected <{ROOT}>, found <{root.name}>")]
    return list(islice(_differences(root, type_name), _MOST_PROBLEMS))


def _differences(element: Element, type_name: str) -> Iterator[Problem]:
    if type_name == "report" and not (element.first("raise-goal") or element.first("handle-goal")):
        type_name = "account-report"
    kind = _TYPES[type_name]
    yield from _wrong_attributes(element, kind)
    if element.text.strip() and not kind.text:
        yield element.problem(f"<{element.name}> holds elements only, found text")
    yield from _wrong_children(element, kind)


def _wrong_attributes(element: Element, kind: _Type) -> Iterator[Problem]:
    for name, value in element.attributes.items():
        known = kind.attributes.get(name)
        if known is None:
            hint = did_you_mean(name, kind.attributes) or f"known: {', '.join(kind.attributes) or 'none'}"
            yield element.problem(f"<{element.name}> has no attribute {name!r}", hint)
        elif not known.accepts(value):
            yield element.problem(f"attribute {name!r} of <{element.name}> must be {known.expected}, found {value!r}")
    for name, known in kind.attributes.items():
        if known.required and name not in element.attributes:
            yield element.problem(f"<{element.name}> lacks the attribute {name!r}")


def _wrong_children(element: Element, kind: _Type) -> Iterator[Problem]:
    order = {child.name: rank for rank, child in enumerate(kind.children)}
    reached = 0
    for child in element.children:
        rank = order.get(child.name)
        if rank is None:
            hint = did_you_mean(child.name, order) or f"known: {', '.join(order) or 'none'}"
            yield child.problem(f"<{child.name}> is not expected in <{element.name}>", hint)
            continue
        if rank < reached:
            yield child.problem(
                f"<{child.name}> is out of place in <{element.name}>", f"the order is {', '.join(order)}"
            )
        reached = max(reached, rank)
        yield from _differences(child, kind.children[rank].type)
    for expected in kind.children:
        count = sum(1 for _ in element.all(expected.name))
        if count < expected.min:
            yield element.problem(f"<{element.name}> lacks <{expected.name}>")
        if expected.max is not None and count > expected.max:
            yield element.problem(f"<{element.name}> has more than one <{expected.name}>")
