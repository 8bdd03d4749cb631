"""Organisations made up for these tests, in the YAML form."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from vrooli_cli.model.organization import OrganisationSpec
from vrooli_cli.tier1.moise.organisation import Organisation
from vrooli_cli.tier1.moise.spec import organisation_from_data

KITCHEN: dict[str, Any] = {
    "id": "kitchen",
    "structural": {
        "roles": {
            "staff": {},
            "chef": {"extends": ["staff"]},
            "cook": {"extends": ["staff"]},
            "baker": {"extends": ["cook"]},
            "waiter": {"extends": ["staff"]},
            "critic": {},
        },
        "groups": {
            "restaurant": {
                "roles": {"chef": {"min": 1, "max": 1}},
                "links": [
                    {
                        "from": "chef",
                        "to": "staff",
                        "type": "authority",
                        "scope": "inter-group",
                        "extends_subgroups": True,
                    }
                ],
                "compatibilities": [
                    {
                        "from": "chef",
                        "to": "waiter",
                        "scope": "inter-group",
                        "extends_subgroups": True,
                        "bidirectional": True,
                    },
                    {"from": "cook", "to": "waiter", "extends_subgroups": True, "bidirectional": True},
                ],
                "subgroups": {
                    "shift": {
                        "min": 1,
                        "max": 2,
                        "roles": {
                            "cook": {"min": 1, "max": 2},
                            "baker": {"max": 1},
                            "waiter": {"min": 1, "max": 3},
                            "critic": {"max": 1},
                        },
                        "compatibilities": [{"from": "waiter", "to": "critic", "bidirectional": True}],
                    }
                },
            }
        },
    },
    "functional": {
        "schemes": {
            "dinner": {
                "goals": {
                    "served": {"plan": {"sequence": ["planned", "cooked", "dressed", "brought"]}},
                    "planned": {"ttf": "1h"},
                    "cooked": {"plan": {"parallel": ["soup", "roast"]}},
                    "soup": {"min": 1},
                    "roast": {},
                    "dressed": {"plan": {"choice": ["plain", "fancy"]}},
                    "plain": {"min": 1},
                    "fancy": {"min": 1},
                    "brought": {"depends_on": ["soup"]},
                },
                "missions": {
                    "lead": {"min": 1, "max": 1, "goals": ["planned", "served"]},
                    "cooking": {"min": 1, "max": 2, "goals": ["soup", "roast"]},
                    "dressing": {"goals": ["plain", "fancy"]},
                    "service": {"min": 1, "goals": ["brought"]},
                },
            }
        }
    },
    "normative": {
        "norms": [
            {"id": "n1", "role": "chef", "type": "permission", "mission": "lead"},
            {"id": "n2", "role": "cook", "type": "obligation", "mission": "cooking", "ttf": "10m"},
            {"id": "n3", "role": "staff", "type": "permission", "mission": "dressing"},
            {"id": "n4", "role": "waiter", "type": "obligation", "mission": "dinner.service"},
            {"id": "n5", "role": "critic", "type": "prohibition", "actions": ["shell(*)", "file_write"]},
        ]
    },
}


class ByThePapers(Organisation):
    """The engine with compatibilities in one direction, as published and as allocation takes them."""

    def _together(self, played: str, role: str, group: Any, *, same_instance: bool) -> bool:
        return self.structure.compatible(played, role, group.kind, same_instance=same_instance)


def kitchen(**changes: Any) -> OrganisationSpec:
    """The kitchen; ``part__key__key=value`` replaces a value deep inside."""
    return organisation_from_data(changed(KITCHEN, **changes))


def changed(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy of the data in which ``part__key__key=value`` are replaced."""
    copy = deepcopy(data)
    for path, value in changes.items():
        *way, last = path.split("__")
        at = copy
        for key in way:
            at = at.setdefault(key, {})
        at[last] = value
    return copy


def staffed_kitchen(spec: OrganisationSpec | None = None) -> Organisation:
    """A kitchen at the start of a dinner: ana is chef, bob and cid cook, dee waits; all groups are responsible."""
    org = Organisation(spec or kitchen())
    for agent in ("ana", "bob", "cid", "dee", "eve"):
        org.add_agent(agent)
    org.create_group("restaurant", "r")
    org.create_group("shift", "s", "r")
    org.adopt_role("ana", "chef", "r")
    org.adopt_role("bob", "cook", "s")
    org.adopt_role("cid", "cook", "s")
    org.adopt_role("dee", "waiter", "s")
    org.create_scheme("dinner")
    org.make_responsible("r")
    org.make_responsible("s")
    return org


def cooking_kitchen(spec: OrganisationSpec | None = None) -> Organisation:
    """The staffed kitchen with everybody committed, so that the scheme is well formed."""
    org = staffed_kitchen(spec)
    for agent, mission in (("ana", "lead"), ("bob", "cooking"), ("cid", "cooking"), ("dee", "service")):
        org.commit(agent, mission)
    return org
