"""The organisation engine: what each operation demands, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.moise.examples import cooking_kitchen, kitchen, staffed_kitchen
from vrooli_cli.model.organization import OrganisationSpec
from vrooli_cli.tier1.moise import GoalState, Organisation, OrganisationError
from vrooli_cli.tier1.moise.schemes import scheme_graph
from vrooli_cli.tier1.moise.structure import Structure


def refused(operation: Callable[..., object], *args: object) -> str:
    """The kind with which an operation is refused."""
    with pytest.raises(OrganisationError) as caught:
        operation(*args)
    assert caught.value.message
    return caught.value.kind


def states(org: Organisation, *goals: str) -> list[str]:
    return [org.goal_states()[g].value for g in goals]


# Groups and roles


def test_a_group_is_created_where_its_kind_belongs() -> None:
    org = Organisation(kitchen())
    assert refused(org.create_group, "shift", "s") == "consistency"
    org.create_group("restaurant", "r")
    assert refused(org.create_group, "restaurant", "r2", "r") == "consistency"
    assert refused(org.create_group, "pantry", "p") == "consistency"
    assert refused(org.create_group, "shift", "s", "nowhere") == "consistency"
    org.create_group("shift", "s", "r")
    assert refused(org.create_group, "shift", "s", "r") == "consistency", "the name is taken"
    org.create_group("shift", "s2", "r")
    assert refused(org.create_group, "shift", "s3", "r") == "cardinality"


def test_a_role_is_adopted_once_where_it_is_listed_and_while_there_is_room() -> None:
    org = staffed_kitchen()
    assert refused(org.adopt_role, "eve", "chef", "s") == "consistency", "not a role of that group"
    assert refused(org.adopt_role, "eve", "staff", "r") == "consistency", "an abstract role"
    assert refused(org.adopt_role, "bob", "cook", "s") == "consistency", "played already"
    assert refused(org.adopt_role, "zoe", "waiter", "s") == "consistency", "an unknown agent"
    assert refused(org.adopt_role, "eve", "cook", "s") == "cardinality"
    assert refused(org.adopt_role, "dee", "cook", "s") == "cardinality", "room is looked at before compatibility"
    org.adopt_role("eve", "waiter", "s")


def test_a_second_role_must_go_together_with_every_role_played() -> None:
    org = staffed_kitchen()
    org.adopt_role("bob", "waiter", "s")  # cook ↔ waiter, extended from the restaurant
    assert refused(org.adopt_role, "bob", "critic", "s") == "consistency", "as a waiter yes, as a cook no"
    org.adopt_role("dee", "critic", "s")  # waiter ↔ critic


def one_way(**more: Any) -> OrganisationSpec:
    compatibilities = [{"from": "cook", "to": "waiter", "extends_subgroups": True, **more}]
    return kitchen(structural__groups__restaurant__compatibilities=compatibilities)


def test_a_compatibility_in_one_direction_is_no_door_here_but_is_one_to_allocation() -> None:
    spec = one_way()
    org = staffed_kitchen(spec)
    assert refused(org.adopt_role, "bob", "waiter", "s") == "consistency", "the role entered is its target only"
    assert refused(org.adopt_role, "dee", "baker", "s") == "consistency", "waiter → cook is not declared"
    structure = Structure(spec)
    assert structure.compatible("cook", "waiter", "shift", same_instance=True)
    assert not structure.compatible("waiter", "cook", "shift", same_instance=True)


def test_a_compatibility_of_a_role_with_itself_needs_no_second_direction() -> None:
    org = staffed_kitchen(one_way(**{"to": "staff", "from": "staff"}))
    org.adopt_role("bob", "waiter", "s")


def test_what_the_group_that_is_entered_says_of_compatibility_counts() -> None:
    pair = {"from": "chef", "to": "waiter", "scope": "inter-group", "bidirectional": True}
    there = staffed_kitchen(kitchen(structural__groups__restaurant__compatibilities=[pair]))
    assert refused(there.adopt_role, "ana", "waiter", "s") == "consistency", "the chef's group says so, the shift not"
    spec = kitchen(structural__groups__restaurant__subgroups__shift__compatibilities=[pair])
    staffed_kitchen(spec).adopt_role("ana", "waiter", "s")


def test_sub_roles_inherit_compatibilities_but_do_not_count_as_their_super_role() -> None:
    org = staffed_kitchen()
    org.leave_role("bob", "cook", "s")
    org.leave_role("cid", "cook", "s")
    org.adopt_role("eve", "baker", "s")
    assert any("'cook'" in reason for reason in org.group_well_formed("s"))
    org.adopt_role("eve", "waiter", "s")  # baker is a cook, cook → waiter


def test_scope_tells_one_group_from_two() -> None:
    org = staffed_kitchen()
    org.adopt_role("ana", "waiter", "s")  # chef → waiter, inter-group
    org.create_group("shift", "s2", "r")
    assert refused(org.adopt_role, "bob", "waiter", "s2") == "consistency", "cook → waiter is intra-group"
    assert refused(org.adopt_role, "dee", "waiter", "s2") == "consistency", "the same role in two groups"


def test_a_role_has_room_in_the_whole_organisation() -> None:
    org = Organisation(kitchen(structural__roles__waiter={"extends": ["staff"], "max": 1}))
    org.create_group("restaurant", "r")
    for name in ("s", "s2"):
        org.create_group("shift", name, "r")
    for agent in ("ana", "bob"):
        org.add_agent(agent)
    org.adopt_role("ana", "waiter", "s")
    assert refused(org.adopt_role, "bob", "waiter", "s2") == "cardinality"


def test_formation_cardinalities_take_the_place_of_what_the_lists_say() -> None:
    cardinalities = [
        {"group": "shift", "max": 3},
        {"role": "chef", "max": 2},
        {"group": "restaurant", "max": 1},
        {"role": "chef"},
    ]
    org = Organisation(kitchen(structural__groups__restaurant__cardinalities=cardinalities))
    org.create_group("restaurant", "r")
    assert org.group_well_formed("r") == [], "no chef and no shift are needed any more"
    for name in ("s", "s2", "s3"):
        org.create_group("shift", name, "r")
    assert refused(org.create_group, "shift", "s4", "r") == "cardinality"
    assert refused(org.create_group, "restaurant", "r") == "cardinality", "one such root, said before its name"
    for agent in ("ana", "bob", "cid"):
        org.add_agent(agent)
    org.adopt_role("ana", "chef", "r")
    org.adopt_role("bob", "chef", "r")
    assert refused(org.adopt_role, "cid", "chef", "r") == "cardinality"


def test_a_group_is_well_formed_with_all_its_subgroups() -> None:
    org = staffed_kitchen()
    assert org.group_well_formed("r") == []
    org.leave_role("dee", "waiter", "s")
    assert org.group_well_formed("s") == ["0 'waiter' players, at least 1 needed"]
    assert org.group_well_formed("r") == ["subgroup 's' is not well formed"]
    empty = Organisation(kitchen())
    empty.create_group("restaurant", "r")
    assert len(empty.group_well_formed("r")) == 2, "no chef, no shift"


# Responsibility, norms, missions


def test_only_a_well_formed_group_becomes_responsible() -> None:
    org = Organisation(kitchen())
    org.create_group("restaurant", "r")
    assert refused(org.make_responsible, "r") == "consistency", "no scheme"
    org.create_scheme("dinner")
    assert refused(org.make_responsible, "r") == "consistency"
    assert refused(org.create_scheme, "dinner") == "consistency", "one is at work"
    assert org.goal_states()["served"] is GoalState.WAITING


def test_a_commitment_needs_a_norm_of_a_role_in_a_responsible_group() -> None:
    org = staffed_kitchen()
    assert refused(org.commit, "eve", "cooking") == "consistency"
    assert refused(org.commit, "bob", "lead") == "consistency"
    assert refused(org.commit, "bob", "washing") == "consistency"
    org.commit("ana", "lead")  # a permission is enough
    org.commit("ana", "dressing")  # inherited from staff
    assert refused(org.commit, "ana", "lead") == "consistency", "committed already, said before it is full"


def test_a_mission_takes_no_more_than_its_maximum() -> None:
    org = staffed_kitchen()
    org.commit("bob", "cooking")
    org.commit("cid", "cooking")
    org.adopt_role("eve", "baker", "s")
    assert refused(org.commit, "eve", "cooking") == "cardinality"
    assert refused(org.commit, "dee", "cooking") == "consistency", "a missing norm is said before the mission is full"


def test_an_agent_is_obliged_while_the_mission_lacks_agents() -> None:
    org = staffed_kitchen()
    assert org.obligations("bob") == org.obligations("cid") == {"cooking"}
    assert org.obligations("ana") == set(), "a permission obliges to nothing"
    assert org.obligations("dee") == {"service"}, "named with its scheme"
    org.commit("bob", "cooking")
    assert org.obligations("cid") == set()
    assert refused(org.obligations, "zoe") == "consistency"


def test_a_group_is_responsible_for_those_below_it_in_permission_not_in_obligation() -> None:
    org = Organisation(kitchen())
    for agent in ("ana", "bob", "dee"):
        org.add_agent(agent)
    org.create_group("restaurant", "r")
    org.create_group("shift", "s", "r")
    org.adopt_role("ana", "chef", "r")
    org.adopt_role("bob", "cook", "s")
    org.adopt_role("dee", "waiter", "s")
    org.create_scheme("dinner")
    org.make_responsible("r")
    assert org.obligations("bob") == set(), "the shift itself is not responsible"
    org.commit("bob", "cooking")  # but it is part of a group that is
    other = Organisation(kitchen())
    other.add_agent("bob")
    other.create_group("restaurant", "r")
    other.create_group("shift", "s", "r")
    other.adopt_role("bob", "cook", "s")
    other.create_scheme("dinner")
    assert refused(other.commit, "bob", "cooking") == "consistency", "nobody is responsible"


def test_a_role_is_kept_while_a_mission_needs_it() -> None:
    org = cooking_kitchen()
    assert refused(org.leave_role, "bob", "cook", "s") == "consistency"
    assert refused(org.leave_role, "bob", "waiter", "s") == "consistency", "not played"
    org.adopt_role("bob", "waiter", "s")
    org.leave_role("bob", "waiter", "s")
    org.commit("bob", "dressing")
    org.adopt_role("bob", "waiter", "s")
    assert refused(org.leave_role, "bob", "waiter", "s") == "consistency", (
        "a norm of it says dressing, as the cook's does"
    )


def test_a_role_without_a_norm_for_the_missions_of_its_player_is_left() -> None:
    org = Organisation(kitchen())
    for agent in ("bob", "dee"):
        org.add_agent(agent)
    org.create_group("restaurant", "r")
    org.create_group("shift", "s", "r")
    org.adopt_role("bob", "cook", "s")
    org.adopt_role("dee", "waiter", "s")
    org.create_scheme("dinner")
    org.make_responsible("s")
    org.adopt_role("bob", "waiter", "s")
    org.commit("bob", "cooking")
    org.leave_role("bob", "waiter", "s")


def test_a_mission_is_left_when_its_goals_are_decided() -> None:
    org = cooking_kitchen()
    assert refused(org.uncommit, "dee", "cooking") == "consistency", "not committed"
    assert refused(org.uncommit, "bob", "cooking") == "consistency", "its goals are open"
    org.achieve("ana", "planned")
    org.achieve("bob", "soup")
    assert refused(org.uncommit, "bob", "cooking") == "consistency", "one of its goals is open"
    org.achieve("bob", "roast")
    org.achieve("cid", "roast")
    org.uncommit("bob", "cooking")
    assert refused(org.uncommit, "bob", "cooking") == "consistency"


def test_nobody_is_held_by_a_scheme_that_is_over_or_by_what_is_only_maintained() -> None:
    over = cooking_kitchen()
    over.set_impossible("ana", "served")
    over.uncommit("bob", "cooking")
    kept = cooking_kitchen(kitchen(functional__schemes__dinner__goals__brought={"type": "maintenance"}))
    kept.uncommit("dee", "service")


def test_a_prohibition_of_a_mission_beats_the_permission() -> None:
    norms = [
        {"id": "a", "role": "staff", "type": "permission", "mission": "cooking"},
        {"id": "b", "role": "waiter", "type": "prohibition", "mission": "cooking"},
    ]
    org = Organisation(kitchen(normative__norms=norms))
    for agent in ("ana", "bob", "dee"):
        org.add_agent(agent)
    org.create_group("restaurant", "r")
    org.create_group("shift", "s", "r")
    org.adopt_role("ana", "chef", "r")
    org.adopt_role("bob", "cook", "s")
    org.adopt_role("dee", "waiter", "s")
    org.create_scheme("dinner")
    org.make_responsible("s")
    org.commit("bob", "cooking")
    assert refused(org.commit, "dee", "cooking") == "consistency"


# Goals


def test_no_goal_is_enabled_before_every_mission_has_its_agents() -> None:
    org = staffed_kitchen()
    org.commit("ana", "lead")
    assert len(org.scheme_well_formed()) == 2
    assert set(org.goal_states().values()) == {GoalState.WAITING}
    assert refused(org.achieve, "ana", "planned") == "not_enabled"


def test_a_sequence_orders_and_a_parallel_does_not() -> None:
    org = cooking_kitchen()
    assert states(org, "planned", "soup", "roast", "brought") == ["enabled", "waiting", "waiting", "waiting"]
    org.achieve("ana", "planned")
    assert states(org, "planned", "soup", "roast", "brought") == ["satisfied", "enabled", "enabled", "waiting"]


def test_achieving_is_for_committed_agents_on_enabled_goals() -> None:
    org = cooking_kitchen()
    assert refused(org.achieve, "bob", "soup") == "not_enabled", "said before commitment is asked for"
    assert refused(org.achieve, "bob", "planned") == "consistency"
    org.achieve("ana", "planned")
    assert refused(org.achieve, "ana", "planned") == "not_enabled", "satisfied already"
    assert refused(org.achieve, "ana", "unheard_of") == "consistency"


def test_min_agents_satisfy_a_goal_and_by_default_all_who_are_committed() -> None:
    org = cooking_kitchen()
    org.achieve("ana", "planned")
    org.achieve("bob", "soup")
    org.achieve("bob", "roast")
    assert states(org, "soup", "roast", "cooked") == ["satisfied", "enabled", "waiting"]
    org.achieve("cid", "roast")
    assert states(org, "roast", "cooked", "plain", "fancy") == ["satisfied", "satisfied", "enabled", "enabled"]


def test_what_one_agent_achieves_is_achieved_for_all_in_an_achievement_goal() -> None:
    org = cooking_kitchen(kitchen(functional__schemes__dinner__goals__roast={"type": "achievement"}))
    org.achieve("ana", "planned")
    org.achieve("bob", "roast")
    assert states(org, "roast") == ["satisfied"]


def test_each_commitment_to_a_goal_asks_for_an_achievement() -> None:
    missions = {"m": {"goals": ["a"]}, "n": {"goals": ["a"]}}
    norms = [{"role": "r", "type": "permission", "mission": m} for m in missions]
    spec = kitchen(
        structural={"roles": {"r": {}}, "groups": {"g": {"roles": {"r": {}}}}},
        functional={"schemes": {"s": {"goals": {"a": {}}, "missions": missions}}},
        normative={"norms": norms},
    )
    org = Organisation(spec)
    org.add_agent("ana")
    org.create_group("g", "g")
    org.adopt_role("ana", "r", "g")
    org.create_scheme("s")
    org.make_responsible("g")
    for mission in missions:
        org.commit("ana", mission)
    org.achieve("ana", "a")
    assert states(org, "a") == ["enabled"]
    org.achieve("ana", "a")
    assert states(org, "a") == ["satisfied"]


def test_a_goal_told_to_be_enabled_stays_so_until_it_is_decided() -> None:
    org = cooking_kitchen()
    org.commit("dee", "dressing")
    org.achieve("ana", "planned")
    for agent, goal in (("bob", "soup"), ("bob", "roast"), ("cid", "roast")):
        org.achieve(agent, goal)
    assert states(org, "plain", "fancy") == ["enabled", "enabled"]
    org.achieve("dee", "plain")
    org.uncommit("bob", "cooking")
    org.uncommit("cid", "cooking")
    assert org.scheme_well_formed()
    assert states(org, "dressed", "fancy") == ["satisfied", "enabled"], "somebody may be at work on it"
    assert states(org, "brought") == ["waiting"], "its turn has come, but nobody was told"


def test_one_branch_satisfies_a_choice_and_closes_the_others() -> None:
    org = cooking_kitchen()
    org.commit("dee", "dressing")
    org.achieve("ana", "planned")
    for agent, goal in (("bob", "soup"), ("bob", "roast"), ("cid", "roast"), ("dee", "fancy")):
        org.achieve(agent, goal)
    assert states(org, "fancy", "dressed", "plain", "brought") == ["satisfied", "satisfied", "waiting", "enabled"]


def test_a_goal_with_committed_agents_has_to_be_told_about() -> None:
    org = cooking_kitchen()
    org.commit("dee", "dressing")
    org.achieve("ana", "planned")
    for agent, goal in (("bob", "soup"), ("bob", "roast"), ("cid", "roast"), ("dee", "plain"), ("dee", "brought")):
        assert states(org, "served") == ["waiting"]
        org.achieve(agent, goal)
    assert states(org, "served") == ["enabled"], "ana leads, so it does not follow by itself"
    org.achieve("ana", "served")
    assert states(org, "served") == ["satisfied"]
    assert refused(org.commit, "cid", "dressing") == "consistency", "the scheme is over"
    assert org.obligations("bob") == set()


def test_an_impossible_goal_takes_those_above_with_it_up_to_one_with_a_voice() -> None:
    org = cooking_kitchen()
    assert refused(org.set_impossible, "dee", "soup") == "consistency"
    org.set_impossible("bob", "soup")  # one agent's word, and before it is enabled
    assert states(org, "soup", "cooked", "roast", "served") == ["impossible", "impossible", "waiting", "waiting"]
    org.set_impossible("ana", "served")
    assert states(org, "planned", "served") == ["enabled", "impossible"], "told above, when all was well"
    assert states(org, "brought") == ["waiting"]
    assert refused(org.commit, "dee", "dressing") == "consistency"


def test_a_choice_is_impossible_when_every_branch_is() -> None:
    org = cooking_kitchen()
    org.commit("dee", "dressing")
    org.set_impossible("dee", "plain")
    assert states(org, "dressed") == ["waiting"]
    org.set_impossible("dee", "fancy")
    assert states(org, "dressed") == ["impossible"]


def test_what_was_satisfied_can_be_lost_and_is_waited_for_no_longer() -> None:
    org = cooking_kitchen()
    org.achieve("ana", "planned")
    org.set_impossible("ana", "planned")
    assert states(org, "planned", "soup") == ["impossible", "waiting"]
    assert refused(org.achieve, "ana", "planned") == "not_enabled"


def test_depends_on_is_no_matter_of_a_state() -> None:
    goals = {"all": {"plan": {"parallel": ["a", "b"]}}, "a": {}, "b": {"depends_on": ["a"]}}
    spec = kitchen(
        functional={"schemes": {"s": {"goals": goals, "missions": {"m": {"goals": ["a", "b"]}}}}}, normative={}
    )
    org = Organisation(spec)
    org.create_scheme("s")
    assert states(org, "a", "b") == ["enabled", "enabled"]
    assert scheme_graph(spec.functional.schemes.values()).tasks["b"].dependencies == ("a",), (
        "of the order of tasks it is"
    )


# Properties

AGENTS = st.sampled_from("abcdef")
ROLES = st.sampled_from(["chef", "cook", "baker", "waiter", "critic"])
GROUPS = st.sampled_from(["r", "s", "s2"])
MISSIONS = st.sampled_from(["lead", "cooking", "dressing", "service"])
GOALS = st.sampled_from(["planned", "soup", "roast", "plain", "fancy", "brought", "served", "cooked"])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["adopt_role", "leave_role"]), AGENTS, ROLES, GROUPS),
        st.tuples(st.just("make_responsible"), GROUPS),
        st.tuples(st.sampled_from(["commit", "uncommit"]), AGENTS, MISSIONS),
        st.tuples(st.sampled_from(["achieve", "set_impossible"]), AGENTS, GOALS),
    ),
    max_size=80,
)
CREW = [("a", "chef", "r"), ("b", "cook", "s"), ("c", "waiter", "s"), ("d", "cook", "s2"), ("e", "waiter", "s2")]


def picture(org: Organisation) -> Any:
    """All that can be asked."""
    return (
        [org.group_well_formed(g) for g in ("r", "s", "s2")],
        org.scheme_well_formed(),
        [sorted(org.obligations(a)) for a in "abcdef"],
        org.goal_states(),
    )


@settings(max_examples=150, deadline=None)
@given(OPERATIONS)
def test_a_refused_operation_changes_nothing_and_what_is_decided_or_told_stays(
    operations: list[tuple[str, ...]],
) -> None:
    org = Organisation(kitchen())
    for agent in "abcdef":
        org.add_agent(agent)
    org.create_group("restaurant", "r")
    org.create_group("shift", "s", "r")
    org.create_group("shift", "s2", "r")
    org.create_scheme("dinner")
    for member in CREW:
        org.adopt_role(*member)
    org.make_responsible("r")
    org.make_responsible("s")
    for name, *args in operations:
        before = picture(org)
        try:
            getattr(org, name)(*args)
        except OrganisationError:
            assert picture(org) == before
        after = org.goal_states()
        for goal, state in before[-1].items():
            if state is GoalState.IMPOSSIBLE:
                assert after[goal] is state
            if state is GoalState.SATISFIED:
                assert after[goal] is not GoalState.WAITING
                assert after[goal] is state or name == "set_impossible"
            if state is GoalState.ENABLED:
                assert after[goal] is not GoalState.WAITING
            if state is GoalState.WAITING and org.scheme_well_formed():
                assert after[goal] is not GoalState.ENABLED
