"""Allocation: it keeps every rule, it is the best there is, and where there is none it names a smallest conflict."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import chain, combinations, permutations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.moise.examples import KITCHEN, ByThePapers, changed, kitchen
from vrooli_cli.errors import OrganisationError, VrooliError
from vrooli_cli.model.organization import OrganisationSpec, Scheme
from vrooli_cli.tier1.moise import Organisation
from vrooli_cli.tier1.moise.organizer import MOISEOrganizer, TeamAllocation
from vrooli_cli.tier1.moise.spec import organisation_from_data


@dataclass
class Agent:
    id: str
    capabilities: tuple[str, ...] = ()
    max_concurrent_tasks: int = 1


@dataclass
class Task:
    id: str
    required_capabilities: tuple[str, ...] = ()
    estimated_complexity: int = 5


def crew(names: str, **capabilities: str) -> list[Agent]:
    return [Agent(name, tuple(capabilities.get(name, "").split())) for name in names.split()]


def organize(agents: list[Agent], spec: OrganisationSpec, tasks: list[Task] | None = None) -> TeamAllocation:
    return MOISEOrganizer().organize_team(agents, spec, tasks or [])


def conflict(agents: list[Agent], spec: OrganisationSpec, tasks: list[Task] | None = None) -> list[str]:
    with pytest.raises(VrooliError) as caught:
        organize(agents, spec, tasks)
    assert caught.value.code == "TEAM_INFEASIBLE"
    rules: list[str] = caught.value.context["rules"]
    assert all(rule in caught.value.message for rule in rules)
    return rules


def enacted(spec: OrganisationSpec, agents: list[Agent], team: TeamAllocation) -> Organisation:
    """The team in the engine, which refuses what breaks a rule."""
    org = ByThePapers(spec)
    for agent in agents:
        org.add_agent(agent.id)
    for group in team.groups:
        org.create_group(group.kind, group.name, group.parent)
    for play in team.plays:
        org.adopt_role(play.agent, play.role, play.group)
    for scheme in spec.functional.schemes:
        org.create_scheme(scheme)
        for group in team.groups:
            org.make_responsible(group.name)
    for commitment in team.commitments:
        org.commit(commitment.agent, commitment.mission)
    return org


# Examples


def test_a_team_is_allocated_with_a_reason_for_everything() -> None:
    agents = crew("ana bob cid")
    team = organize(agents, kitchen())
    assert [(p.agent, p.role) for p in team.plays] == [("ana", "chef"), ("bob", "cook"), ("cid", "waiter")]
    assert {(c.agent, c.mission) for c in team.commitments} >= {("ana", "lead"), ("bob", "cooking"), ("cid", "service")}
    reasons = (
        [p.reason for p in team.plays] + [c.reason for c in team.commitments] + [a.reason for a in team.assignments]
    )
    assert all(reasons)
    assert team.agents_of("soup") == ("bob",)
    org = enacted(kitchen(), agents, team)
    assert org.scheme_well_formed() == []


def test_the_allocated_team_reaches_the_root_goal_in_the_order_of_its_tasks() -> None:
    agents = crew("ana bob cid dee")
    team = organize(agents, kitchen())
    org = enacted(kitchen(), agents, team)
    picks = {choice: branches[0] for choice, branches in team.branches.items()}
    for task in team.graph.picked(picks):
        for agent in team.agents_of(task.id):
            org.achieve(agent, task.goal)
    assert org.goal_states()["served"] == "satisfied"


def test_a_group_that_nobody_needs_is_not_there_with_what_it_would_need() -> None:
    cellar = {"min": 2, "max": 4, "roles": {"cook": {"max": 0}}}
    house = {
        "roles": {"staff": {"min": 2}, "guide": {"max": 2}, "clerk": {"min": 1}, "cook": {"min": 1, "max": 2}},
        "compatibilities": [
            {"from": "staff", "to": "guide", "extends_subgroups": True},
            {"from": "staff", "to": "clerk", "scope": "inter-group"},
            {"from": "staff", "to": "staff", "scope": "inter-group", "extends_subgroups": True},
        ],
        "subgroups": {"annex": {"max": 2, "roles": {"staff": {}}, "subgroups": {"cellar": cellar}}},
    }
    kinds = {"staff": {}, "guide": {"extends": "staff"}, "clerk": {"extends": "guide"}, "cook": {"extends": "guide"}}
    norms = [("clerk", "obligation", "open"), ("guide", "permission", "open"), ("guide", "obligation", "see")]
    norms += [("staff", "obligation", "keep"), ("cook", "obligation", "keep")]
    goals = {"all": {"plan": {"parallel": ["way", "end"]}}, "way": {"plan": {"choice": ["one", "two"]}}}
    missions = {
        "open": {"min": 1, "goals": ["one", "way"]},
        "see": {"goals": ["one", "all", "two"]},
        "keep": {"min": 2, "max": 4, "goals": ["end", "way", "one", "two"]},
    }
    spec = organisation_from_data(
        {
            "structural": {"roles": kinds, "groups": {"house": house}},
            "functional": {
                "schemes": {"s": {"goals": {**goals, "one": {}, "two": {}, "end": {}}, "missions": missions}}
            },
            "normative": {"norms": [{"role": r, "type": t, "mission": m} for r, t, m in norms]},
        }
    )
    for size in range(3, 8):
        agents = crew(" ".join("abcdefg"[:size]))
        enacted(spec, agents, organize(agents, spec))


def test_roles_go_to_capable_agents() -> None:
    spec = kitchen(structural__roles__cook={"extends": ["staff"], "capabilities": ["knives"]})
    team = organize(crew("ana bob cid", cid="knives"), spec)
    assert team.roles_of("cid") == ("cook",)
    assert conflict(crew("ana bob cid"), spec) == [
        "group 'restaurant' has at least 1 group(s) 'shift'",
        "role 'cook' takes agents capable of knives",
        "at least 1 player(s) of 'cook' in group 'shift'",
    ]


def test_capabilities_are_inherited_with_the_role() -> None:
    roles = {"staff": {"capabilities": ["badge"]}, "cook": {"extends": ["staff"], "min": 1}}
    spec = organisation_from_data({"structural": {"roles": roles}})
    assert organize(crew("ana bob", bob="badge"), spec).roles_of("bob") == ("cook",)


def test_fixed_roles_are_kept_and_are_the_only_ones() -> None:
    spec = kitchen(assignments={"cid": ["chef"], "ana": []})
    team = organize(crew("ana bob cid dee"), spec)
    assert team.roles_of("cid") == ("chef",)
    assert team.roles_of("ana") == ()
    assert next(p.reason for p in team.plays if p.agent == "cid") == "fixed by assignments"
    with pytest.raises(VrooliError, match="no agent 'zoe'"):
        organize(crew("ana bob cid"), kitchen(assignments={"zoe": ["chef"]}))


def test_too_few_agents_name_the_roles_that_do_not_go_together() -> None:
    rules = conflict(crew("ana"), kitchen())
    assert rules[0] == "group 'restaurant' has at least 1 group(s) 'shift'"
    assert any("nobody plays" in rule for rule in rules)


def test_a_conflict_is_a_smallest_one() -> None:
    assignments = {"ana": ["chef"], "bob": ["chef"]}
    assert conflict(crew("ana bob cid dee"), kitchen(assignments=assignments)) == [
        "at most 1 player(s) of 'chef' in group 'restaurant'",
        "'ana' plays 'chef' (assignments)",
        "'bob' plays 'chef' (assignments)",
    ]


def test_an_obligation_commits_until_the_mission_is_full() -> None:
    more = {"cook": {"min": 3, "max": 3}, "baker": {}, "waiter": {"min": 1}, "critic": {}}
    spec = kitchen(structural__groups__restaurant__subgroups__shift__roles=more)
    team = organize(crew("ana bob cid dee eve"), spec)
    cooks = {p.agent for p in team.plays if p.role == "cook"}
    cooking = {c.agent for c in team.commitments if c.mission == "cooking"}
    assert len(cooks) == 3
    assert len(cooking) == 2, "the mission takes two"
    assert cooking < cooks


def test_a_goal_that_needs_two_agents_has_two() -> None:
    spec = kitchen(functional__schemes__dinner__goals__soup={"min": 2})
    team = organize(crew("ana bob cid dee"), spec)
    assert len(team.agents_of("soup")) == 2
    rules = conflict(crew("ana bob cid dee"), kitchen(functional__schemes__dinner__goals__soup={"min": 3}))
    assert "goal 'soup' needs 3 committed agent(s)" in rules


def test_a_goal_without_a_mission_is_open_only_as_one_branch_of_several() -> None:
    missions = changed(KITCHEN)["functional"]["schemes"]["dinner"]["missions"]
    missions["dressing"]["goals"] = ["fancy"]
    spec = kitchen(functional__schemes__dinner__missions=missions)
    assert organize(crew("ana bob cid"), spec).branches == {"dressed": (1,)}
    missions["dressing"]["goals"] = ["soup"]
    rules = conflict(crew("ana bob cid"), kitchen(functional__schemes__dinner__missions=missions))
    assert any(rule.endswith("and is part of no mission") for rule in rules)


def test_branches_that_the_team_can_do_stand_in_the_order_of_the_file() -> None:
    assert organize(crew("ana bob cid"), kitchen()).branches == {"dressed": (0, 1)}


def test_more_groups_are_opened_where_the_rules_need_them() -> None:
    structural = {
        "roles": {"member": {"min": 5}},
        "groups": {"club": {"subgroups": {"table": {"max": 3, "roles": {"member": {"max": 2}}}}}},
    }
    agents = crew("a b c d e")
    team = organize(agents, organisation_from_data({"structural": structural}))
    assert [g.name for g in team.groups] == ["club", "table", "table2", "table3"]
    structural["groups"]["club"]["subgroups"]["table"]["max"] = 2  # type: ignore[index]
    assert conflict(agents, organisation_from_data({"structural": structural})) == [
        "at most 2 player(s) of 'member' in group 'table'",
        "at least 5 player(s) of 'member' in the organisation",
    ]


def test_a_bound_over_subgroups_is_kept() -> None:
    structural = {
        "roles": {"leader": {}, "back": {}},
        "groups": {
            "team": {
                "cardinalities": [{"role": "leader", "min": 1, "max": 1}],
                "subgroups": {
                    "attack": {"min": 1, "roles": {"leader": {"max": 1}}},
                    "defence": {"min": 1, "roles": {"leader": {"max": 1}, "back": {"min": 1}}},
                },
            }
        },
    }
    team = organize(crew("a b c"), organisation_from_data({"structural": structural}))
    assert [p.role for p in team.plays].count("leader") == 1


def test_roles_that_allow_each_other_in_a_circle_are_not_played_by_one_agent() -> None:
    pairs = [{"from": a, "to": b} for a, b in ("ab", "bc", "ca")]
    structural: dict[str, Any] = {
        "roles": {"a": {}, "b": {}, "c": {}},
        "groups": {"g": {"roles": {r: {"min": 1} for r in "abc"}, "compatibilities": pairs}},
    }
    spec = organisation_from_data({"structural": structural})
    agents = crew("x y")
    team = organize(agents, spec)
    assert sorted(len(team.roles_of(a)) for a in "xy") == [1, 2]
    enacted(spec, agents, team)
    assert conflict(crew("x"), spec)


def test_an_organisation_without_groups_has_one_for_everybody() -> None:
    spec = organisation_from_data({"structural": {"roles": {"reviewer": {"min": 2}}}})
    team = organize(crew("a b c"), spec)
    assert [(p.agent, p.group) for p in team.plays] == [("a", "organisation"), ("b", "organisation")]


# Tasks


def test_tasks_go_to_capable_agents_and_even_the_load_out() -> None:
    tasks = [Task(f"t{i}", ("x",), weight) for i, weight in enumerate([9, 2, 3, 4, 5, 7])]
    team = organize(crew("ana bob cid", ana="x", bob="x y"), OrganisationSpec(), tasks)
    loads = {a: sum(t.estimated_complexity for t in tasks if a in team.agents_of(t.id)) for a in ("ana", "bob", "cid")}
    assert loads == {"ana": 15, "bob": 15, "cid": 0}


def test_a_task_that_nobody_can_do_is_the_conflict() -> None:
    agents = crew("ana bob", ana="x")
    with pytest.raises(VrooliError) as caught:
        organize(agents, OrganisationSpec(), [Task("ok", ("x",)), Task("odd", ("z", "x"))])
    assert caught.value.context == {"rules": ["task 'odd' needs an agent capable of x, z"], "tasks": ["odd"]}


def test_a_task_named_like_a_goal_is_done_by_committed_agents() -> None:
    team = organize(crew("ana bob cid"), kitchen(), [Task("soup"), Task("sweep")])
    assert team.agents_of("soup") == ("bob",)
    assert len(team.agents_of("sweep")) == 1


# Properties


def subsets(items: list[Any]) -> Any:
    return chain.from_iterable(combinations(items, n) for n in range(len(items) + 1))


@st.composite
def small_organisations(draw: st.DrawFn) -> OrganisationSpec:
    """One group, three roles, two missions: small enough to try every allocation."""
    roles = ["a", "b", "c"]
    pair = st.fixed_dictionaries({"from": st.sampled_from(roles), "to": st.sampled_from(roles)})
    bounds = st.sampled_from([{}, {"min": 1}, {"max": 1}, {"min": 1, "max": 2}, {"min": 2}])
    norm = st.fixed_dictionaries(
        {
            "role": st.sampled_from(roles),
            "type": st.sampled_from(["obligation", "permission", "permission", "prohibition"]),
            "mission": st.sampled_from(["m", "n"]),
        }
    )
    need = st.sampled_from([{}, {"min": 1}, {"min": 2}])
    goals = {
        "root": {"plan": {draw(st.sampled_from(["sequence", "choice"])): ["g", "h"]}},
        "g": draw(need),
        "h": draw(need),
    }
    return organisation_from_data(
        {
            "structural": {
                "roles": {"a": {}, "b": {"extends": draw(st.sampled_from([[], ["a"]]))}, "c": {}},
                "groups": {
                    "t": {
                        "roles": {r: draw(bounds) for r in roles},
                        "compatibilities": draw(st.lists(pair, max_size=3)),
                    }
                },
            },
            "functional": {
                "schemes": {
                    "s": {
                        "goals": goals,
                        "missions": {"m": {"goals": ["g"], **draw(bounds)}, "n": {"goals": ["g", "h"], **draw(bounds)}},
                    }
                }
            },
            "normative": {"norms": draw(st.lists(norm, min_size=1, max_size=5))},
        }
    )


def playable(spec: OrganisationSpec, agents: list[str], plays: list[tuple[str, str]]) -> Organisation | None:
    """The roles in the engine, in whatever order it takes them; None when it takes none, or some lack."""
    org = ByThePapers(spec)
    org.create_group("t", "t")
    for agent in agents:
        org.add_agent(agent)
        mine = [role for who, role in plays if who == agent]
        if not any(adopted(org, agent, order) for order in permutations(mine)):
            return None
    return org if not org.group_well_formed("t") else None


def adopted(org: Organisation, agent: str, order: tuple[str, ...]) -> bool:
    done: list[str] = []
    try:
        for role in order:
            org.adopt_role(agent, role, "t")
            done.append(role)
    except OrganisationError:
        for role in done:
            org.leave_role(agent, role, "t")
        return False
    return True


def acceptable(spec: OrganisationSpec, scheme: Scheme, org: Organisation, plays: Any, commits: Any) -> bool:
    """The rest of the rules, written down without the organizer's help."""
    counts = {m: [a for a, x in commits if x == m] for m in scheme.missions}
    for mission in scheme.missions.values():
        cardinality = mission.cardinality
        if cardinality.lacks(len(counts[mission.id])) or cardinality.exceeds(len(counts[mission.id])):
            return False
    for norm in spec.normative.norms:
        for agent, role in plays:
            if norm.type == "obligation" and norm.mission and org.structure.is_a(role, norm.role):
                full = scheme.missions[norm.mission].cardinality.max == len(counts[norm.mission])
                if (agent, norm.mission) not in commits and not full:
                    return False
    plan = scheme.goals["root"].plan
    assert plan
    staffed = [
        len({a for a, m in commits if g in scheme.missions[m].goals}) >= (scheme.goals[g].min or 1) for g in plan.goals
    ]
    return any(staffed) if plan.operator == "choice" else all(staffed)


def every_allocation(spec: OrganisationSpec, agents: list[str]) -> Any:
    """All allocations that keep the rules, as (plays, commitments)."""
    scheme = spec.functional.schemes["s"]
    for plays in subsets(list(product(agents, "abc"))):
        if playable(spec, agents, plays) is None:
            continue
        for commits in subsets(list(product(agents, "mn"))):
            org = playable(spec, agents, plays)
            assert org
            org.create_scheme("s")
            org.make_responsible("t")
            try:
                for agent, mission in commits:
                    org.commit(agent, mission)
            except OrganisationError:
                continue
            if acceptable(spec, scheme, org, plays, commits):
                yield plays, commits


def cost(spec: OrganisationSpec, plays: Any, commits: Any) -> tuple[int, int]:
    """The peak of work, then the number of roles."""
    sizes = {m.id: len(m.goals) for m in spec.functional.schemes["s"].missions.values()}
    work = [sum(sizes[m] for who, m in commits if who == a) for a in {a for a, _ in commits}]
    return max(work, default=0), len(plays)


@settings(max_examples=60, deadline=None)
@given(small_organisations())
def test_the_allocation_is_the_best_of_all_or_there_is_none(spec: OrganisationSpec) -> None:
    agents = ["x", "y"]
    best = min((cost(spec, p, c) for p, c in every_allocation(spec, agents)), default=None)
    try:
        team = organize(crew("x y"), spec)
    except VrooliError as error:
        assert error.code == "TEAM_INFEASIBLE"
        assert best is None
        return
    assert best == cost(spec, [(p.agent, p.role) for p in team.plays], [(c.agent, c.mission) for c in team.commitments])
    enacted(spec, crew("x y"), team)


@settings(max_examples=25, deadline=None)
@given(small_organisations(), st.randoms(use_true_random=False))
def test_the_order_of_the_agents_is_of_no_weight(spec: OrganisationSpec, chance: random.Random) -> None:
    agents = crew("x y z")
    shuffled = list(agents)
    chance.shuffle(shuffled)
    answers: list[Any] = []
    for members in (agents, shuffled, agents):
        try:
            answers.append(organize(members, spec))
        except VrooliError as error:
            answers.append(error.context["rules"])
    assert answers[0] == answers[1] == answers[2]
