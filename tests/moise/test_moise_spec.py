"""The YAML form: what is wrong is told with its pointer, what is right survives a round trip."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.moise.examples import KITCHEN, changed, kitchen
from vrooli_cli.errors import DefinitionError, Pointer
from vrooli_cli.model.organization import OrganisationSpec
from vrooli_cli.tier1.moise.spec import check, organisation_from_data, organisation_to_data, read_organisation

# The example of the swarm specification, its ellipses filled in.
SPECIFIED: dict[str, Any] = {
    "structural": {
        "roles": {
            "player": {},
            "staff": None,
            "leader": {"extends": "player"},
            "back": {"extends": ["player"]},
            "coach": {"extends": ["staff"], "min": 1, "max": 1, "capabilities": ["planning"]},
        },
        "links": [
            {"from": "coach", "to": "player", "type": "authority", "scope": "intra-group", "bidirectional": False}
        ],
        "compatibilities": [{"from": "leader", "to": "back", "scope": "intra-group", "bidirectional": True}],
        "groups": {
            "team": {"roles": {"player": {"min": 1, "max": 11}, "coach": {"min": 1, "max": 1}}, "subgroups": {}}
        },
    },
    "functional": {
        "schemes": {
            "s1": {
                "goals": {
                    "g0": {"plan": {"sequence": ["g1", "g2"]}},
                    "g1": {"min": 2, "ttf": "1h"},
                    "g2": {"plan": {"parallel": ["g3", "g4"]}},
                    "g3": None,
                    "g4": {},
                },
                "missions": {"m1": {"min": 1, "max": 2, "goals": ["g1"]}},
            }
        }
    },
    "normative": {
        "norms": [
            {"id": "n1", "role": "coach", "type": "obligation", "mission": "m1", "condition": "x", "ttf": "5m"},
            {"type": "permission", "role": "player", "mission": "m1"},
            {"type": "prohibition", "role": "player", "actions": ["shell(*)"]},
        ]
    },
    "assignments": {"alice": ["coach"]},
}


def test_the_form_of_the_specification_is_read() -> None:
    spec = organisation_from_data(SPECIFIED)
    scheme = spec.functional.schemes["s1"]
    assert scheme.root == "g0", "the one goal that is in no plan"
    assert spec.structural.roles["leader"].extends == ("player",)
    assert [n.id for n in spec.normative.norms] == ["n1", "norm2", "norm3"]
    assert spec.normative.norms[2].actions == ("shell(*)",)
    assert spec.assignments == {"alice": ("coach",)}


def test_nothing_at_all_is_an_organisation_without_rules() -> None:
    assert organisation_from_data(None) == organisation_from_data({}) == OrganisationSpec()


@pytest.mark.parametrize(
    ("path", "value", "pointer", "message"),
    [
        ("struktural", {}, ("struktural",), "unknown key 'struktural'"),
        ("structural", [], ("structural",), "expected a map, got a list"),
        ("structural__roles__cook__extends", ["stuff"], ("structural", "roles", "cook", "extends", 0), "unknown role"),
        ("structural__roles__cook__min", "two", ("structural", "roles", "cook", "min"), "must be a whole number"),
        ("structural__roles__cook__max", True, ("structural", "roles", "cook", "max"), "must be a whole number"),
        ("structural__roles__staff__extends", ["cook"], ("structural", "roles", "staff"), "inherits from itself"),
        ("structural__links", [{"from": "cook"}], ("structural", "links", 0), "'to' is missing"),
        (
            "structural__groups__bar",
            {"roles": {"barista": {}}},
            ("structural", "groups", "bar", "roles", "barista"),
            "unknown",
        ),
        (
            "structural__groups__bar",
            {"cardinalities": [{"min": 1}]},
            ("structural", "groups", "bar", "cardinalities", 0),
            "either",
        ),
        (
            "structural__groups__bar",
            {"subgroups": {"shift": {}}},
            ("structural", "groups"),
            "'shift' is specified twice",
        ),
        ("functional__schemes__dinner__goals__soup__plan", {"race": ["a"]}, None, "unknown key 'race'"),
        ("functional__schemes__dinner__goals__soup__plan", {"sequence": []}, None, "at least one goal"),
        ("functional__schemes__dinner__goals__soup__plan", {"sequence": ["soop"]}, None, "unknown goal 'soop'"),
        ("functional__schemes__dinner__goals__soup__plan", {"sequence": ["served"]}, None, "is a sub-goal of itself"),
        (
            "functional__schemes__dinner__goals__soup__plan",
            {"choice": ["roast"]},
            None,
            "is in the plan of 'cooked' already",
        ),
        ("functional__schemes__dinner__goals__extra", {}, None, "are in no plan"),
        ("functional__schemes__dinner__goals__soup__depends_on", ["salt"], None, "unknown goal 'salt'"),
        ("functional__schemes__dinner__goals__soup__type", "perform", None, "'type' must be one of"),
        ("functional__schemes__dinner__missions__lead__goals", ["plan"], None, "unknown goal 'plan'"),
        ("functional__schemes__dinner__missions__lead__goals", [], None, "needs at least one goal"),
        ("functional__schemes__empty", {}, ("functional", "schemes", "empty"), "needs a root goal"),
        (
            "normative__norms",
            [{"role": "cook", "type": "obligation"}],
            ("normative", "norms", 0),
            "speaks of a 'mission'",
        ),
        ("normative__norms", [{"role": "cook", "mission": "lead"}], ("normative", "norms", 0), "'type' is missing"),
        (
            "normative__norms",
            [{"role": "cook", "type": "must", "mission": "lead"}],
            ("normative", "norms", 0, "type"),
            "one of",
        ),
        (
            "normative__norms",
            [{"role": "cook", "type": "permission", "mission": "x"}],
            ("normative", "norms", 0, "mission"),
            "x",
        ),
        (
            "normative__norms",
            [{"role": "cook", "type": "obligation", "mission": "lead", "actions": ["a"]}],
            ("normative", "norms", 0, "actions"),
            "only a prohibition",
        ),
        ("assignments", {"ana": ["king"]}, ("assignments", "ana", 0), "unknown role 'king'"),
        ("assignments", {"ana": [7]}, ("assignments", "ana", 0), "expected a name"),
    ],
)
def test_a_mistake_is_told_with_its_pointer(path: str, value: Any, pointer: Pointer | None, message: str) -> None:
    found = check(changed(KITCHEN, **{path: value}), ("constraints",))
    assert any(message in str(p) and (pointer is None or p.pointer == ("constraints", *pointer)) for p in found), found


def test_every_mistake_is_told_and_raised_together() -> None:
    data = changed(KITCHEN, structural__roles__cook__min=-1, functional__schemes__dinner__goals__soup__min="x", odd=1)
    assert len(check(data)) == 3
    with pytest.raises(DefinitionError) as caught:
        organisation_from_data(data)
    assert len(caught.value.problems) == 3


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-2, 3) | st.text("abg", max_size=2) | st.floats(allow_nan=False),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "structural",
                        "functional",
                        "normative",
                        "roles",
                        "groups",
                        "subgroups",
                        "schemes",
                        "goals",
                        "missions",
                        "plan",
                        "sequence",
                        "choice",
                        "norms",
                        "type",
                        "role",
                        "mission",
                        "links",
                        "extends",
                        "min",
                        "a",
                        "b",
                        "g",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=25,
    )
)
def test_any_data_gives_an_organisation_or_problems(data: Any) -> None:
    spec, problems = read_organisation(data)
    if not problems:
        assert organisation_from_data(organisation_to_data(spec)) == spec


def test_the_kitchen_round_trips() -> None:
    assert organisation_from_data(organisation_to_data(kitchen())) == kitchen()


# Organisations of many shapes, for the round trip

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
BOUNDS = st.fixed_dictionaries({}, optional={"min": st.integers(0, 3), "max": st.integers(3, 6)})
RELATIONS = {
    "scope": st.sampled_from(["intra-group", "inter-group"]),
    "extends_subgroups": st.booleans(),
    "bidirectional": st.booleans(),
}
ROLE = NAMES.map(lambda n: f"role_{n}")
LINK = st.fixed_dictionaries(
    {"from": ROLE, "to": ROLE, "type": st.sampled_from(["authority", "x"])}, optional=RELATIONS
)
COMPATIBILITY = st.fixed_dictionaries({"from": ROLE, "to": ROLE}, optional=RELATIONS)
GOAL = st.fixed_dictionaries(
    {},
    optional={
        "description": st.text(max_size=5),
        "min": st.integers(0, 3),
        "type": st.sampled_from(["performance", "achievement", "maintenance"]),
        "ttf": st.sampled_from(["1h", "2 days"]),
        "location": st.text(min_size=1, max_size=3),
        "arguments": st.dictionaries(NAMES, st.none() | st.text(max_size=3), max_size=2),
        "depends_on": st.lists(st.sampled_from(["root", "left"]), max_size=2),
    },
)


@st.composite
def organisations(draw: st.DrawFn) -> dict[str, Any]:
    """Valid data with every kind of part."""
    group = st.fixed_dictionaries(
        {"roles": st.dictionaries(ROLE, BOUNDS, max_size=3)},
        optional={
            "links": st.lists(LINK, max_size=2),
            "compatibilities": st.lists(COMPATIBILITY, max_size=2),
            "cardinalities": st.lists(BOUNDS.map(lambda b: {"role": "role_a", **b}), max_size=2),
            "properties": st.dictionaries(NAMES, st.text(max_size=3), max_size=2),
        },
    )
    operator = draw(st.sampled_from(["sequence", "choice", "parallel"]))
    goals = {name: draw(GOAL) for name in ("root", "left", "right")}
    goals["root"]["plan"] = {operator: ["left", "right"], "success_rate": draw(st.floats(0, 1))}
    return {
        "id": draw(st.text(max_size=3)),
        "structural": {
            "roles": {f"role_{n}": {"extends": ["role_a"] if n != "a" else [], **draw(BOUNDS)} for n in "abcde"},
            "groups": {
                "top": {**draw(group), "subgroups": {"sub": {**draw(group), **draw(BOUNDS)}}},
                "side": draw(group),
            },
            "links": draw(st.lists(LINK, max_size=2)),
        },
        "functional": {
            "schemes": {
                "s": {"goals": goals, "missions": {"m": {**draw(BOUNDS), "goals": ["left"], "preferred": ["m"]}}}
            }
        },
        "normative": {
            "norms": [
                {"role": draw(ROLE), "type": draw(st.sampled_from(["obligation", "permission"])), "mission": "m"},
                {"role": "soc", "type": "prohibition", "actions": draw(st.lists(NAMES, min_size=1, max_size=3))},
            ]
        },
        "assignments": draw(st.dictionaries(NAMES, st.lists(ROLE, max_size=2), max_size=2)),
    }


@settings(max_examples=80, deadline=None)
@given(organisations())
def test_organisations_of_every_shape_round_trip(data: dict[str, Any]) -> None:
    spec = organisation_from_data(data)
    assert organisation_from_data(organisation_to_data(spec)) == spec
