"""The team manager: capable agents, their places, the least makespan, the same answer each time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import permutations, product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrooli_cli.errors import VrooliError
from vrooli_cli.model.run import Agent
from vrooli_cli.model.swarm import SubTask
from vrooli_cli.tier1.team import TeamManager, TeamStructure


def agent(id: str, *capabilities: str, places: int = 1, load: int = 0) -> Agent:
    return Agent(id=id, capabilities=capabilities, max_concurrent_tasks=places, current_load=load)


def task(id: str, *needs: str, after: Sequence[str] = (), size: int = 5, priority: int = 1) -> SubTask:
    return SubTask(
        id=id,
        required_capabilities=needs,
        dependencies=tuple(after),
        estimated_complexity=size,
        priority=priority,
    )


def who(team: TeamStructure) -> dict[str, tuple[str, ...]]:
    return {name: placed.agents for name, placed in team.placements.items()}


def test_only_a_capable_agent_gets_a_task_and_the_reason_says_why() -> None:
    team = TeamManager().form_optimal_team(
        [agent("a", "paint"), agent("b", "draw", "paint")], [task("t", "paint", "draw")]
    )
    assert who(team) == {"t": ("b",)}
    assert team.placements["t"].reason == "the only agent capable of draw, paint"


def test_places_bound_what_runs_at_one_moment_and_never_the_total() -> None:
    tasks = [task(f"t{n}", "c", size=2) for n in range(6)]
    assert TeamManager().form_optimal_team([agent("a", "c", places=2)], tasks).makespan == 6
    assert TeamManager().form_optimal_team([agent("a", "c", places=3, load=2)], tasks).makespan == 12


def test_independent_tasks_are_spread_and_equal_plans_prefer_the_first_ids() -> None:
    agents = [agent(name, "c") for name in ("b", "a", "c")]
    assert who(TeamManager().form_optimal_team(agents, [task("x", "c"), task("y", "c")])) == {"x": ("a",), "y": ("b",)}


def test_the_lower_peak_load_wins_among_teams_that_end_at_the_same_time() -> None:
    chain = [task("x", "c"), task("y", "c", after=["x"])]
    team = TeamManager().form_optimal_team([agent("a", "c"), agent("b", "c")], chain)
    assert team.makespan == 10
    assert sorted(team.loads.values()) == [5, 5]


def test_a_task_that_nobody_can_do_names_the_rules_in_conflict() -> None:
    with pytest.raises(VrooliError) as caught:
        TeamManager().form_optimal_team([agent("a", "c"), agent("b", "d")], [task("x", "fly"), task("y", "c", "d")])
    assert caught.value.code == "TEAM_INFEASIBLE"
    assert caught.value.context["tasks"] == ["x", "y"]
    assert "no agent is capable of fly" in caught.value.context["rules"]
    assert "no one agent is capable of c and d" in caught.value.context["rules"]


def test_an_agent_without_a_free_place_gets_nothing() -> None:
    team = TeamManager().form_optimal_team([agent("a", "c", load=1), agent("b", "c")], [task("x", "c")])
    assert who(team) == {"x": ("b",)}
    with pytest.raises(VrooliError, match="places taken"):
        TeamManager().form_optimal_team([agent("a", "c", load=1)], [task("x", "c")])


def test_fixed_agents_stay_and_a_goal_may_have_several() -> None:
    agents = [agent(name, "c") for name in "abc"]
    tasks = [task("x"), task("y", after=["x"])]
    team = TeamManager().form_optimal_team(agents, tasks, fixed={"x": ("c", "a")}, reasons={"x": "because"})
    assert team.placements["x"].agents == ("c", "a")
    assert team.placements["x"].reason == "because"
    assert team.placements["y"].start == 5
    assert team.wire()["x"] == {"agent": "c", "reason": "because", "agents": ["c", "a"]}


@st.composite
def instances(draw: st.DrawFn) -> tuple[list[SubTask], list[Agent]]:
    count = draw(st.integers(1, 6))
    agents = [
        agent(f"a{n}", *draw(st.sets(st.sampled_from("xyz"), min_size=1)), places=draw(st.integers(1, 2)))
        for n in range(draw(st.integers(1, 3)))
    ]
    held = sorted({capability for one in agents for capability in one.capabilities})
    tasks = [
        task(
            f"t{n}",
            draw(st.sampled_from(held)),
            after=[f"t{m}" for m in range(n) if draw(st.integers(0, 3)) == 0],
            size=draw(st.integers(1, 10)),
        )
        for n in range(count)
    ]
    return tasks, agents


def ends(tasks: Sequence[SubTask], agents: Sequence[Agent], chosen: Sequence[str], order: Sequence[int]) -> int:
    """The makespan when agents never wait: a second, slow telling of the rule."""
    start: dict[str, int] = {}
    over: dict[str, int] = {}
    now = 0
    while len(start) < len(tasks):
        for at in order:
            one = tasks[at]
            if one.id in start or any(over.get(name, now + 1) > now for name in one.dependencies):
                continue
            busy = sum(
                1
                for other in range(len(tasks))
                if chosen[other] == chosen[at] and _runs(tasks, other, start, over, now)
            )
            if busy < next(a.max_concurrent_tasks for a in agents if a.id == chosen[at]):
                start[one.id], over[one.id] = now, now + one.estimated_complexity
        later = [moment for moment in over.values() if moment > now]
        now = min(later, default=now)
    return max(over.values())


def _runs(tasks: Sequence[SubTask], at: int, start: dict[str, int], over: dict[str, int], now: int) -> bool:
    name = tasks[at].id
    return name in start and start[name] <= now < over[name]


def optimum(tasks: Sequence[SubTask], agents: Sequence[Agent], enough: int) -> int:
    """The least makespan by trying everything, until one is as good as ``enough``."""
    best = 10**9
    able = [[a.id for a in agents if set(t.required_capabilities) <= set(a.capabilities)] for t in tasks]
    orders: list[tuple[int, ...]] = list(permutations(range(len(tasks))))
    for chosen in product(*able):
        for order in orders:
            best = min(best, ends(tasks, agents, chosen, order))
            if best < enough:
                return best
    return best


def bound(tasks: Sequence[SubTask]) -> int:
    """The longest chain: no team is quicker."""
    over: dict[str, int] = {}
    for one in tasks:
        over[one.id] = one.estimated_complexity + max((over[name] for name in one.dependencies), default=0)
    return max(over.values())


@settings(max_examples=60, deadline=None)
@given(instances())
def test_the_makespan_is_within_five_per_cent_of_the_optimum(instance: tuple[list[SubTask], list[Agent]]) -> None:
    tasks, agents = instance
    team = TeamManager().form_optimal_team(agents, tasks)
    if team.makespan == bound(tasks):
        return
    small = tasks[:5]
    team = TeamManager().form_optimal_team(agents, small)
    if team.makespan > bound(small):
        assert team.makespan <= 1.05 * optimum(small, agents, team.makespan)


@settings(max_examples=40, deadline=None)
@given(instances())
def test_a_team_keeps_capabilities_and_its_promise_of_time(instance: tuple[list[SubTask], list[Agent]]) -> None:
    tasks, agents = instance
    team = TeamManager().form_optimal_team(agents, tasks)
    by_id = {one.id: one for one in agents}
    chosen = []
    for one in tasks:
        (name,) = team.placements[one.id].agents
        assert set(one.required_capabilities) <= set(by_id[name].capabilities)
        chosen.append(name)
    order = sorted(range(len(tasks)), key=lambda at: (team.placements[tasks[at].id].start, at))
    assert ends(tasks, agents, chosen, order) == team.makespan
    assert TeamManager().form_optimal_team(list(reversed(agents)), tasks) == team


def packed(chance: Random, width: int, length: int) -> tuple[list[SubTask], list[Agent]]:
    """A swarm whose optimum is ``length``: the time of every place is cut into tasks, without a gap."""
    agents = [agent(f"a{n}", "any", f"only{n % 2}", places=chance.randint(1, 2)) for n in range(width)]
    cut: list[tuple[int, int, str]] = []
    for one in agents:
        for _ in range(one.max_concurrent_tasks):
            at = 0
            while at < length:
                size = min(chance.randint(1, 10), length - at)
                cut.append((at, at + size, chance.choice(["any", one.capabilities[1]])))
                at += size
    chance.shuffle(cut)
    tasks = []
    for n, (start, end, need) in enumerate(cut):
        before = [m for m, other in enumerate(cut) if other[1] <= start]
        after = [f"t{m}" for m in sorted(chance.sample(before, min(len(before), chance.randint(0, 2))))]
        tasks.append(task(f"t{n}", need, after=after, size=end - start))
    return tasks, agents


def test_teams_of_known_optimum_are_met_within_five_per_cent() -> None:
    gaps = []
    for seed in range(6):
        chance = Random(seed)
        tasks, agents = packed(chance, chance.randint(2, 5), 40)
        gaps.append(TeamManager().form_optimal_team(agents, tasks).makespan / 40 - 1)
    assert max(gaps) <= 0.05
    assert sum(gaps) / len(gaps) <= 0.025


def test_a_plan_that_moves_of_single_tasks_cannot_mend_is_left_for_another_beginning() -> None:
    agents = [agent("a0", "p", "r"), agent("a1", "r"), agent("a2", "r"), agent("a3", "p", "q")]
    sizes = (2, 8, 5, 3, 2, 9, 1, 10, 7, 8, 10)
    needs = "pqprqpppr" + "rp"
    after: dict[int, tuple[int, ...]] = {4: (1, 2, 0), 5: (0, 4, 3), 6: (1,), 7: (0, 3, 2), 8: (3, 4), 9: (4,)}
    after[10] = (0, 1)
    tasks = [
        task(f"t{n}", needs[n], after=[f"t{m}" for m in after.get(n, ())], size=size) for n, size in enumerate(sizes)
    ]
    assert TeamManager().form_optimal_team(agents, tasks).makespan == 24


def large(seed: int) -> Iterator[tuple[list[SubTask], list[Agent]]]:
    chance = Random(seed)
    agents = [agent(f"g{n:02}", *chance.sample("abcdefgh", 4), places=chance.randint(1, 3)) for n in range(50)]
    for most in (1, 3):
        yield (
            [
                task(
                    f"t{n}",
                    chance.choice("abcdefgh"),
                    after=sorted({f"t{chance.randrange(n)}" for _ in range(chance.randint(0, most))} if n else ()),
                    size=chance.randint(1, 10),
                )
                for n in range(500)
            ],
            agents,
        )


def test_five_hundred_tasks_and_fifty_agents_take_less_than_two_seconds() -> None:
    for tasks, agents in large(7):
        before = time.process_time()
        team = TeamManager().form_optimal_team(agents, tasks)
        assert time.process_time() - before < 2
        assert len(team.placements) == 500
