"""The organisation engine: what each operation demands, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.moise.examples import cooking_kitchen, kitchen, staffed_kitchen
from vrooli_cli.tier1.moise import GoalState, Organisation, OrganisationError


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


def test_a_second_role_must_be_allowed_by_every_role_played() -> None:
    org = staffed_kitchen()
    org.adopt_role("bob", "waiter", "s")  # cook → waiter, extended from the restaurant
    assert refused(org.adopt_role, "dee", "baker", "s") == "consistency", "waiter → cook is not declared"
    assert refused(org.adopt_role, "bob", "critic", "s") == "consistency", "as a waiter yes, as a cook no"
    org.adopt_role("dee", "critic", "s")  # waiter ↔ critic


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


def test_formation_cardinalities_narrow_the_bounds_of_the_group() -> None:
    spec = kitchen(
        structural__groups__restaurant__cardinalities=[{"group": "shift", "max": 1}, {"role": "chef", "min": 0}]
    )
    org = Organisation(spec)
    org.create_group("restaurant", "r")
    org.create_group("shift", "s", "r")
    assert refused(org.create_group, "shift", "s2", "r") == "cardinality"


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


def test_roles_in_groups_that_are_not_responsible_bind_to_nothing() -> None:
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
    assert org.obligations("bob") == set()
    assert refused(org.commit, "bob", "cooking") == "consistency"


def test_a_role_is_kept_while_a_mission_needs_it() -> None:
    org = cooking_kitchen()
    assert refused(org.leave_role, "bob", "cook", "s") == "consistency"
    assert refused(org.leave_role, "bob", "waiter", "s") == "consistency", "not played"
    org.adopt_role("bob", "waiter", "s")
    org.leave_role("bob", "waiter", "s")
    org.commit("bob", "dressing")
    org.adopt_role("bob", "waiter", "s")
    assert refused(org.leave_role, "bob", "cook", "s") == "consistency", "dressing another role permits, cooking not"


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
    assert states(org, "planned", "served") == ["waiting", "impossible"]
    assert refused(org.commit, "dee", "dressing") == "consistency"


def test_a_choice_is_impossible_when_every_branch_is() -> None:
    org = cooking_kitchen()
    org.commit("dee", "dressing")
    org.set_impossible("dee", "plain")
    assert states(org, "dressed") == ["waiting"]
    org.set_impossible("dee", "fancy")
    assert states(org, "dressed") == ["impossible"]


def test_a_satisfied_goal_stays_satisfied() -> None:
    org = cooking_kitchen()
    org.achieve("ana", "planned")
    assert refused(org.set_impossible, "ana", "planned") == "consistency"


def test_depends_on_is_waited_for_besides_the_plan() -> None:
    goals = {"all": {"plan": {"parallel": ["a", "b"]}}, "a": {}, "b": {"depends_on": ["a"]}}
    spec = kitchen(
        functional={"schemes": {"s": {"goals": goals, "missions": {"m": {"goals": ["a", "b"]}}}}}, normative={}
    )
    org = Organisation(spec)
    org.create_scheme("s")
    assert states(org, "a", "b") == ["enabled", "waiting"]


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
def test_a_refused_operation_changes_nothing_and_decided_goals_stay(operations: list[tuple[str, ...]]) -> None:
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
            if state in (GoalState.SATISFIED, GoalState.IMPOSSIBLE):
                assert after[goal] is state
        if org.scheme_well_formed():
            assert GoalState.ENABLED not in after.values()
        if after["cooked"] is GoalState.SATISFIED:
            assert after["soup"] is after["roast"] is GoalState.SATISFIED
