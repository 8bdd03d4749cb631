"""Norms and links: what they mean for one agent at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.moise.examples import kitchen
from vrooli_cli.model.organization import OrganisationSpec
from vrooli_cli.tier1.moise import norms
from vrooli_cli.tier1.moise.spec import organisation_from_data
from vrooli_cli.tier1.moise.structure import Structure

DINNER = kitchen().functional.schemes["dinner"]
HOUSE = Structure(kitchen())


@dataclass(frozen=True)
class Play:
    agent: str
    role: str
    group: str = "s"
    kind: str = "shift"


def matching(action: str) -> Any:
    return lambda pattern: fnmatchcase(action, pattern)


# Permissions and prohibitions


def test_a_prohibition_closes_actions_of_its_role_and_names_itself() -> None:
    violation = norms.prohibited(HOUSE, "eve", ["waiter", "critic"], matching("shell(rm -r .)"))
    assert violation is not None
    assert (violation.agent, violation.role, violation.norm) == ("eve", "critic", "n5")
    assert str(violation) == "norm 'n5' prohibits 'shell(*)' for role 'critic', which 'eve' plays"
    assert norms.prohibited(HOUSE, "eve", ["critic"], matching("file_read")) is None
    assert norms.prohibited(HOUSE, "ana", ["chef"], matching("shell(ls)")) is None


def test_a_prohibition_is_inherited() -> None:
    banned = [{"id": "p", "role": "staff", "type": "prohibition", "actions": ["http_*"]}]
    house = Structure(kitchen(normative__norms=banned))
    assert norms.prohibited(house, "bob", ["baker"], matching("http_request"))


def test_a_goal_is_for_agents_with_a_norm_for_a_mission_that_holds_it() -> None:
    assert norms.not_permitted(HOUSE, DINNER, "bob", ["cook"], "soup") is None
    assert norms.not_permitted(HOUSE, DINNER, "bob", ["baker"], "soup") is None, "inherited"
    assert norms.not_permitted(HOUSE, DINNER, "dee", ["waiter"], "brought") is None, "named with its scheme"
    violation = norms.not_permitted(HOUSE, DINNER, "dee", ["waiter"], "soup")
    assert violation is not None
    assert violation.norm == ""
    assert "'dee' (plays waiter) has no obligation or permission for a mission with goal 'soup'" in violation.message
    nobody = norms.not_permitted(HOUSE, DINNER, "zoe", [], "cooked")
    assert nobody is not None
    assert "which is in no mission" in nobody.message


def test_a_prohibited_mission_is_refused_even_where_another_role_permits_it() -> None:
    rules = [
        {"id": "yes", "role": "cook", "type": "permission", "mission": "cooking"},
        {"id": "no", "role": "waiter", "type": "prohibition", "mission": "cooking"},
    ]
    house = Structure(kitchen(normative__norms=rules))
    assert norms.mission_refused(house, DINNER, "bob", ["cook"], "cooking") is None
    refusal = norms.not_permitted(house, DINNER, "bob", ["cook", "waiter"], "soup")
    assert refusal is not None
    assert (refusal.norm, refusal.role) == ("no", "waiter")


def test_a_plan_written_by_hand_is_checked() -> None:
    roles = {"bob": ["cook"], "dee": ["waiter"]}
    given = {"soup": ["bob", "dee"], "roast": ["bob"], "sweep": ["dee"], "dinner.brought": ["bob"]}
    found = norms.assignment_violations(HOUSE, [DINNER], roles, given)
    assert [(v.agent, v.role) for v in found] == [("dee", "waiter"), ("bob", "cook")]


# Time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("20 minutes", 1200),
        ("1 day", 86_400),
        ("7 days", 604_800),
        ("1 hour", 3600),
        ("10 seconds", 10),
        ("`now`+`1 day`", 86_400),
        ("soon", None),
        ("3 fortnights", None),
        ("", None),
        (None, None),
    ],
)
def test_times_of_both_forms_are_read(text: str | None, expected: float | None) -> None:
    assert norms.seconds(text) == expected


def test_an_obligation_is_unfulfilled_after_its_time() -> None:
    duties = norms.commitment_obligations(
        HOUSE, DINNER, [Play("bob", "cook"), Play("cid", "baker"), Play("dee", "waiter")], 100
    )
    assert [(o.agent, o.norm, o.mission, o.due) for o in duties] == [
        ("bob", "n2", "cooking", 700),
        ("cid", "n2", "cooking", 700),
        ("dee", "n4", "service", None),
    ]
    assert norms.unfulfilled(duties, lambda _: False, 700) == []
    late = norms.unfulfilled(duties, lambda o: o.agent == "bob", 701)
    assert [o.agent for o in late] == ["cid"]
    violation = norms.violated(late[0])
    assert (violation.agent, violation.role, violation.norm) == ("cid", "baker", "n2")
    assert "commit to 'cooking'" in violation.message


def test_a_goal_is_due_its_own_time_after_it_was_enabled() -> None:
    duty = norms.goal_obligation(HOUSE, DINNER, "ana", ["chef"], "planned", 10)
    assert duty is not None
    assert (duty.goal, duty.mission, duty.norm, duty.due) == ("planned", "lead", "n1", 3610)
    assert norms.goal_obligation(HOUSE, DINNER, "ana", ["chef"], "soup", 10) is None
    assert "achieve 'planned'" in norms.violated(duty).message


# Links


def organisation(links: list[dict[str, Any]], group_links: list[dict[str, Any]] | None = None) -> OrganisationSpec:
    roles = {"boss": {}, "lead": {}, "dev": {}, "intern": {"extends": ["dev"]}}
    team = {"roles": {"lead": {}, "dev": {}, "intern": {}}, "links": group_links or []}
    groups = {"firm": {"roles": {"boss": {}}, "subgroups": {"team": team}}}
    return organisation_from_data({"structural": {"roles": roles, "links": links, "groups": groups}})


BOSS, LEAD = Play("b", "boss", "firm", "firm"), Play("l", "lead", "t1", "team")
DEV, INTERN, OTHER = Play("d", "dev", "t1", "team"), Play("i", "intern", "t1", "team"), Play("o", "dev", "t2", "team")
PLAYS = [BOSS, LEAD, DEV, INTERN, OTHER]


def link(source: str, target: str, kind: str, scope: str = "intra-group", both: bool = False) -> dict[str, Any]:
    return {"from": source, "to": target, "type": kind, "scope": scope, "bidirectional": both}


def test_an_unfulfilled_obligation_escalates_level_by_level_along_authority() -> None:
    spec = organisation([link("boss", "lead", "authority", "inter-group")], [link("lead", "dev", "authority")])
    structure = Structure(spec)
    assert norms.escalation(structure, PLAYS, "i") == (("l",), ("b",)), "an intern is a dev"
    assert norms.escalation(structure, PLAYS, "o") == (), "the lead of another team has no authority"
    assert norms.escalation(structure, PLAYS, "b") == ()


def test_authority_in_a_circle_ends() -> None:
    structure = Structure(organisation([link("lead", "dev", "authority", both=True)]))
    assert norms.escalation(structure, PLAYS, "d") == (("l",), ("i",)), "each once, the agent itself never"


def test_everybody_reads_everything_where_no_communication_link_is_declared() -> None:
    structure = Structure(organisation([link("boss", "lead", "authority", "inter-group")]))
    assert norms.readable(structure, PLAYS, "d", "o")


def test_communication_lets_the_target_read_the_source() -> None:
    structure = Structure(organisation([link("dev", "lead", "communication")]))
    assert norms.readable(structure, PLAYS, "l", "d")
    assert norms.readable(structure, PLAYS, "l", "i"), "an intern is a dev"
    assert not norms.readable(structure, PLAYS, "d", "l")
    assert not norms.readable(structure, PLAYS, "l", "o"), "another group"
    assert not norms.readable(structure, PLAYS, "d", "i")
    assert norms.readable(structure, PLAYS, "d", "d"), "one's own"


def test_a_link_in_both_directions_and_in_whatever_groups() -> None:
    structure = Structure(
        organisation(
            [link("dev", "dev", "communication", "inter-group"), link("lead", "dev", "communication", both=True)]
        )
    )
    assert norms.readable(structure, PLAYS, "d", "o") and norms.readable(structure, PLAYS, "o", "d")
    assert norms.readable(structure, PLAYS, "d", "l") and norms.readable(structure, PLAYS, "l", "d")
    assert norms.readable(structure, PLAYS, "d", "i"), "whatever groups they are in"
    within = Structure(organisation([link("dev", "dev", "communication")]))
    assert norms.readable(within, PLAYS, "d", "i") and not norms.readable(within, PLAYS, "d", "o")


def test_authority_implies_communication_and_sight() -> None:
    structure = Structure(
        organisation([link("boss", "lead", "authority", "inter-group"), link("intern", "intern", "communication")])
    )
    assert norms.readable(structure, PLAYS, "l", "b")
    assert norms.readable(structure, PLAYS, "b", "l")
    assert not norms.readable(structure, PLAYS, "b", "d")


def test_acquaintance_is_not_enough_to_read() -> None:
    links = [link("lead", "dev", "acquaintance"), link("intern", "lead", "communication")]
    structure = Structure(organisation(links))
    assert not norms.readable(structure, PLAYS, "d", "l")


def test_a_link_of_a_group_holds_in_its_subgroups_only_when_it_extends() -> None:
    def spec(extends: bool) -> Structure:
        groups = {
            "firm": {
                "roles": {"boss": {}},
                "links": [{**link("dev", "dev", "communication"), "extends_subgroups": extends}],
                "subgroups": {"team": {"roles": {"dev": {}}}},
            }
        }
        data = {"structural": {"roles": {"boss": {}, "dev": {}}, "groups": groups}}
        return Structure(organisation_from_data(data))

    plays = [Play("x", "dev", "t", "team"), Play("y", "dev", "t", "team")]
    assert norms.readable(spec(True), plays, "x", "y")
    assert not norms.readable(spec(False), plays, "x", "y")
