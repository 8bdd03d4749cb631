"""When every task would start, and who would do it: the search for the least makespan (spec swarm.md, "Form the team").

The model is the one that tier 1 runs by: an agent starts a task of its own as soon as the task's dependencies are done
and one of its places is free, higher priority first; it never waits for a better one. So a plan is an agent for each
job and an order, and :func:`simulate` says when it ends.

List scheduling by longest tail (Graham 1969; Topcuoglu et al. 2002, "HEFT") gives the first plan. It is improved by a
local search of a fixed number of moves, small instances by branch and bound. There is no clock in it, and chance only
from a fixed seed: equal input gives an equal plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from random import Random
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")

_MOVES = 6_000
_MOVED_JOBS = 360_000
"""Moves of the local search: at most so many, and so many jobs simulated for them."""
_ROUNDS, _FEW = 6, 60
"""The moves are divided among so many beginnings, for at most so many jobs."""
_MEMORY = 200
"""A plan is taken when it is no worse than that of so many moves ago."""
_TO_OTHER_AGENT, _IN_EXCHANGE, _NEAR = 0.6, 0.3, 6
"""Share of moves to another agent, of these in exchange, and for a job that starts at most so much earlier or later."""
_SMALL = 30
_NODES = 20_000
"""Branch and bound is for at most so many jobs, and looks at no more nodes."""


@dataclass(slots=True)
class Instance:
    """Jobs and agents as numbers.

    Attributes:
        durations: Of each job.
        parents: The jobs that each one waits for.
        eligible: The agents that may do each job, in the order in which they are preferred.
        places: Jobs that each agent may do at one moment.
        priorities: Higher goes first when an agent is short of places.
        together: Jobs of one group need different agents.
    """

    durations: Sequence[int]
    parents: Sequence[Sequence[int]]
    eligible: Sequence[Sequence[int]]
    places: Sequence[int]
    priorities: Sequence[int]
    together: Sequence[Sequence[int]] = ()
    children: list[list[int]] = field(init=False)
    tails: list[int] = field(init=False)
    apart: dict[int, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.children = [[] for _ in self.durations]
        for job, above in enumerate(self.parents):
            for parent in above:
                self.children[parent].append(job)
        self.tails = [0] * len(self.durations)
        for job in reversed(self.order()):
            self.tails[job] = self.durations[job] + max((self.tails[c] for c in self.children[job]), default=0)
        self.apart = {job: [o for o in group if o != job] for group in self.together for job in group}

    def order(self) -> list[int]:
        """The jobs, parents first."""
        left = [len(above) for above in self.parents]
        ready = [job for job, count in enumerate(left) if not count]
        for job in ready:
            for child in self.children[job]:
                left[child] -= 1
                if not left[child]:
                    ready.append(child)
        return ready

    def bound(self) -> int:
        """No plan ends earlier: the longest chain, and the work that only some agents may do."""
        least = max(self.tails, default=0)
        groups: dict[frozenset[int], int] = {}
        for job, agents in enumerate(self.eligible):
            able = frozenset(agents)
            groups[able] = groups.get(able, 0) + self.durations[job]
        for able in [*groups, frozenset(range(len(self.places)))]:
            work = sum(amount for other, amount in groups.items() if other <= able)
            room = sum(self.places[agent] for agent in able)
            if room:
                least = max(least, -(-work // room))
        return least


class Plan(NamedTuple):
    """Agent and rank of each job; lower rank goes first among jobs of one priority."""

    agents: list[int]
    ranks: list[int]


def simulate(instance: Instance, plan: Plan, limit: int | None = None) -> tuple[int, list[int]]:
    """When the last job ends, and when each starts; given up as soon as ``limit`` is passed."""
    durations, agents, children = instance.durations, plan.agents, instance.children
    left = [len(above) for above in instance.parents]
    starts = [0] * len(durations)
    free = list(instance.places)
    keys = list(zip((-priority for priority in instance.priorities), plan.ranks, range(len(durations)), strict=True))
    queues: list[list[tuple[int, int, int]]] = [[] for _ in free]
    for job, count in enumerate(left):
        if not count:
            heappush(queues[agents[job]], keys[job])
    running: list[tuple[int, int]] = []
    now = 0
    touched: Iterable[int] = range(len(free))
    while True:
        for agent in touched:
            queue = queues[agent]
            while queue and free[agent]:
                job = heappop(queue)[2]
                free[agent] -= 1
                starts[job] = now
                heappush(running, (now + durations[job], job))
        if not running or (limit is not None and now > limit):
            return now, starts
        now, changed = running[0][0], set()
        while running and running[0][0] == now:
            job = heappop(running)[1]
            free[agents[job]] += 1
            changed.add(agents[job])
            changed.update(_release(children[job], left, agents, queues, keys))
        touched = sorted(changed)


def _release(
    children: Sequence[int],
    left: list[int],
    agents: Sequence[int],
    queues: list[list[tuple[int, int, int]]],
    keys: Sequence[tuple[int, int, int]],
) -> Iterator[int]:
    """Queue the children that have waited for this job alone; the agents that get them."""
    for child in children:
        left[child] -= 1
        if not left[child]:
            heappush(queues[agents[child]], keys[child])
            yield agents[child]


def solve(instance: Instance) -> tuple[Plan, int, list[int]]:
    """A plan, its makespan, and when each job starts."""
    plan = _listed(instance)
    makespan, starts = simulate(instance, plan)
    least = instance.bound()
    if makespan > least:
        plan = _Search(instance, plan, makespan, least).search()
        makespan, starts = simulate(instance, plan)
    if makespan > least and len(instance.durations) <= _SMALL:
        exact = _Exact(instance, plan, makespan, least)
        plan = exact.search()
    plan = _evened(instance, plan)
    makespan, starts = simulate(instance, plan)
    return plan, makespan, starts


def loads(instance: Instance, agents: Sequence[int]) -> list[float]:
    """The work of each agent for each of its places."""
    work = [0] * len(instance.places)
    for job, agent in enumerate(agents):
        work[agent] += instance.durations[job]
    return [amount / max(room, 1) for amount, room in zip(work, instance.places, strict=True)]


# --- the first plan --------------------------------------------------------------------------------------------------


def _listed(instance: Instance) -> Plan:
    """Longest tail first, each job to the agent that ends it earliest."""
    count = len(instance.durations)
    depth = {job: at for at, job in enumerate(instance.order())}
    order = sorted(range(count), key=lambda job: (-instance.tails[job], depth[job], job))
    order = _parents_first(instance, order)
    rooms = [[0] * room for room in instance.places]
    ends = [0] * count
    agents = [-1] * count
    work = [0] * len(instance.places)
    for job in order:
        ready = max((ends[parent] for parent in instance.parents[job]), default=0)
        taken = {agents[other] for other in instance.apart.get(job, ())}
        able = [agent for agent in instance.eligible[job] if agent not in taken] or instance.eligible[job]
        agent = min(able, key=lambda a: (max(ready, rooms[a][0]), work[a] / instance.places[a]))
        ends[job] = max(ready, heappop(rooms[agent])) + instance.durations[job]
        heappush(rooms[agent], ends[job])
        work[agent] += instance.durations[job]
        agents[job] = agent
    return Plan(agents, _ranks(order))


def _parents_first(instance: Instance, order: Sequence[int]) -> list[int]:
    """The order, changed only where a job would stand before a parent (jobs that take no time)."""
    place = {job: at for at, job in enumerate(order)}
    left = [len(above) for above in instance.parents]
    ready = [(place[job], job) for job, count in enumerate(left) if not count]
    heapify(ready)
    sorted_jobs = []
    while ready:
        job = heappop(ready)[1]
        sorted_jobs.append(job)
        for child in instance.children[job]:
            left[child] -= 1
            if not left[child]:
                heappush(ready, (place[child], child))
    return sorted_jobs


def _ranks(order: Sequence[int]) -> list[int]:
    ranks = [0] * len(order)
    for rank, job in enumerate(order):
        ranks[job] = rank
    return ranks


# --- better plans ----------------------------------------------------------------------------------------------------


class _Search:
    """Moves along the chain of jobs that decides when the plan ends, by late acceptance hill climbing.

    A plan ends earlier only when some job of that chain starts earlier, and that one waits for a place, not for a
    parent: so it, or the job that holds the place, goes to another agent, or it goes before another job there. A worse
    plan is taken too when it is no worse than the one of ``_MEMORY`` moves ago (Burke & Bykov 2017), so that the search
    leaves a local optimum; the best one that was seen is the answer.
    """

    def __init__(self, instance: Instance, plan: Plan, makespan: int, least: int) -> None:
        self._instance = instance
        self._best = self._plan = plan
        self._now, self._record, self._least = makespan, makespan, least
        self._starts = simulate(instance, plan)[1]
        self._chance = Random(len(instance.durations))

    def search(self) -> Plan:
        """The best plan that was found in a bounded number of moves, from several beginnings where jobs are few."""
        count = len(self._starts)
        moves = min(_MOVES, _MOVED_JOBS // max(count, 1))
        rounds = _ROUNDS if count <= _FEW and not self._instance.apart else 1
        first = self._plan.ranks
        for number in range(rounds):
            if number:
                self._begin_anew(first)
            self._climb(moves // rounds)
        return self._best

    def _begin_anew(self, ranks: list[int]) -> None:
        """From agents by chance: what the first plan has wrong from the start is out of reach of single moves."""
        plan = Plan([self._any(able) for able in self._instance.eligible], ranks)
        self._take(plan, *simulate(self._instance, plan))

    def _climb(self, moves: int) -> None:
        memory = [self._now] * _MEMORY
        waits = self._waits()
        for turn in range(moves):
            if self._record <= self._least or not waits:
                break
            limit = max(self._now, memory[turn % _MEMORY])
            tried = self._neighbour(*self._any(waits))
            if tried is not None:
                ends, starts = simulate(self._instance, tried, limit)
                if ends <= limit:
                    self._take(tried, ends, starts)
                    waits = self._waits()
            memory[turn % _MEMORY] = self._now

    def _take(self, plan: Plan, ends: int, starts: list[int]) -> None:
        self._plan, self._now, self._starts = plan, ends, starts
        if ends < self._record:
            self._record, self._best = ends, plan

    def _waits(self) -> list[tuple[int, list[int]]]:
        """The jobs of one deciding chain that wait for a place, each with the jobs whose end gives it."""
        instance, starts, agents = self._instance, self._starts, self._plan.agents
        over: dict[int, list[int]] = {}
        for job, start in enumerate(starts):
            over.setdefault(start + instance.durations[job], []).append(job)
        found = []
        job = self._any(over[self._now])
        while starts[job]:
            now = starts[job]
            before = [parent for parent in instance.parents[job] if starts[parent] + instance.durations[parent] == now]
            if not before:
                before = [other for other in over.get(now, ()) if agents[other] == agents[job]]
                if not before:  # a job of higher priority took no time here
                    break
                found.append((job, before))
            job = self._any(before)
        return found

    def _neighbour(self, job: int, holders: list[int]) -> Plan | None:
        """Another plan in which the job could start earlier; None when the drawn move changes nothing."""
        draw = self._chance.random()
        if draw < _TO_OTHER_AGENT:
            moved = job if draw < _TO_OTHER_AGENT * 2 / 3 else self._any(holders)
            if len(self._instance.eligible[moved]) > 1:
                agents = self._given_away(moved)
                return Plan(agents, self._plan.ranks) if agents is not None else None
        return self._earlier(job)

    def _given_away(self, job: int) -> list[int] | None:
        """The job at another agent; sometimes in exchange for one that starts there at about that time."""
        agents, able = self._plan.agents, self._instance.eligible[job]
        target = self._any(able)
        if target == agents[job]:
            return None
        moved = _moved(self._instance, agents, job, target)
        if moved is not None and self._chance.random() < _IN_EXCHANGE and not self._instance.apart:
            others = self._near(job, target)
            if others:
                moved[self._any(others)] = agents[job]
        return moved

    def _near(self, job: int, agent: int) -> list[int]:
        starts, eligible, agents = self._starts, self._instance.eligible, self._plan.agents
        return [
            other
            for other, at in enumerate(agents)
            if at == agent and agents[job] in eligible[other] and abs(starts[other] - starts[job]) <= _NEAR
        ]

    def _earlier(self, job: int) -> Plan | None:
        """The job before another one of its agent that starts when it could have started itself, or before any."""
        starts, agents, durations = self._starts, self._plan.agents, self._instance.durations
        ready = max((starts[parent] + durations[parent] for parent in self._instance.parents[job]), default=0)
        there = [other for other, agent in enumerate(agents) if agent == agents[job] and other != job]
        ahead = self._any([other for other in there if ready <= starts[other] < starts[job]] or there)
        order = sorted(range(len(agents)), key=self._plan.ranks.__getitem__)
        order.remove(job)
        order.insert(order.index(ahead), job)
        return Plan(agents, _ranks(order))

    def _any(self, some: Sequence[_T]) -> _T:
        return some[int(self._chance.random() * len(some))]


def _moved(instance: Instance, agents: Sequence[int], job: int, target: int) -> list[int] | None:
    """The job at the target; two jobs of a group change places. None where that is not possible."""
    moved = list(agents)
    for other in instance.apart.get(job, ()):
        if moved[other] == target:
            if agents[job] not in instance.eligible[other]:
                return None
            moved[other] = agents[job]
    moved[job] = target
    return moved


def _evened(instance: Instance, plan: Plan) -> Plan:
    """Among plans that end as early: the lower peak of load, then the agents that come first."""
    limit, _ = simulate(instance, plan)
    evening = _Evening(instance, plan, limit)
    while evening.pass_over(_Evening.lowers):
        pass
    while evening.pass_over(_Evening.comes_first):
        pass
    return Plan(evening.agents, plan.ranks)


class _Evening:
    """Single jobs change their agent as long as the plan ends no later."""

    def __init__(self, instance: Instance, plan: Plan, limit: int) -> None:
        self.agents = list(plan.agents)
        self._instance = instance
        self._ranks = plan.ranks
        self._limit = limit
        self._budget = _MOVED_JOBS // max(len(plan.agents), 1)
        self._loads = loads(instance, plan.agents)

    def pass_over(self, wanted: Callable[[_Evening, int, int], bool]) -> bool:
        """Look at every job once; True when something changed."""
        changed = False
        for job in range(len(self.agents)):
            for agent in self._instance.eligible[job]:
                if self._budget > 0 and agent != self.agents[job] and wanted(self, job, agent):
                    changed = self._move(job, agent) or changed
        return changed

    def lowers(self, job: int, agent: int) -> bool:
        """True when the higher one of the two loads becomes lower."""
        return self._after(job, agent) < self._loads[self.agents[job]]

    def comes_first(self, job: int, agent: int) -> bool:
        """True when the agent comes first by id and the peak of load stays."""
        return agent < self.agents[job] and self._after(job, agent) <= max(self._loads)

    def _after(self, job: int, agent: int) -> float:
        return self._loads[agent] + self._share(job, agent)

    def _share(self, job: int, agent: int) -> float:
        return self._instance.durations[job] / max(self._instance.places[agent], 1)

    def _move(self, job: int, agent: int) -> bool:
        before = self.agents[job]
        if any(self.agents[other] == agent for other in self._instance.apart.get(job, ())):
            return False
        self._budget -= 1
        self.agents[job] = agent
        if simulate(self._instance, Plan(self.agents, self._ranks), self._limit)[0] > self._limit:
            self.agents[job] = before
            return False
        self._loads[agent] += self._share(job, agent)
        self._loads[before] -= self._share(job, before)
        return True


class _Exact:
    """Branch and bound over what starts when, for instances of a few jobs.

    At each moment some ready jobs are started, then time goes on. A job that was ready while an agent had a free place
    and did not start there cannot start there later: that would be waiting.
    """

    def __init__(self, instance: Instance, plan: Plan, makespan: int, least: int) -> None:
        self._instance = instance
        self._best = makespan
        self._plan = plan
        self._least = least
        self._nodes = 0
        self._agents = [-1] * len(instance.durations)
        self._starts = [0] * len(instance.durations)
        self._room = sum(instance.places)

    def search(self) -> Plan:
        """The best plan that was found."""
        left = [len(above) for above in self._instance.parents]
        ready = {job: frozenset(self._instance.eligible[job]) for job, count in enumerate(left) if not count}
        self._at(0, (), tuple(left), ready, tuple(self._instance.places))
        return self._plan

    def _at(
        self,
        now: int,
        running: tuple[tuple[int, int], ...],
        left: tuple[int, ...],
        ready: dict[int, frozenset[int]],
        free: tuple[int, ...],
    ) -> None:
        self._nodes += 1
        if self._nodes > _NODES or self._best <= self._least or self._bound(now, running, left, ready) >= self._best:
            return
        started = False
        for job in sorted(ready, key=lambda j: -self._instance.tails[j]):
            for agent in self._instance.eligible[job]:
                if agent in ready[job] and free[agent] and self._may(job, agent):
                    started = True
                    self._start(now, running, left, ready, free, job, agent)
        if running:
            self._wait(running, left, ready, free)
        elif not started and not ready:
            self._done(now)

    def _may(self, job: int, agent: int) -> bool:
        return all(self._agents[other] != agent for other in self._instance.apart.get(job, ()))

    def _start(
        self,
        now: int,
        running: tuple[tuple[int, int], ...],
        left: tuple[int, ...],
        ready: dict[int, frozenset[int]],
        free: tuple[int, ...],
        job: int,
        agent: int,
    ) -> None:
        priorities = self._instance.priorities
        rest = {
            other: able - {agent} if priorities[other] > priorities[job] else able
            for other, able in ready.items()
            if other != job
        }
        self._agents[job], self._starts[job] = agent, now
        ends = now + self._instance.durations[job]
        room = (*free[:agent], free[agent] - 1, *free[agent + 1 :])
        self._at(now, tuple(sorted((*running, (ends, job)))), left, rest, room)
        self._agents[job] = -1

    def _wait(
        self,
        running: tuple[tuple[int, int], ...],
        left: tuple[int, ...],
        ready: dict[int, frozenset[int]],
        free: tuple[int, ...],
    ) -> None:
        idle = frozenset(agent for agent, room in enumerate(free) if room)
        later = {job: able - idle for job, able in ready.items()}
        if not all(later.values()):
            return
        now = running[0][0]
        counts, rooms = list(left), list(free)
        for ends, job in running:
            if ends == now:
                rooms[self._agents[job]] += 1
                for child in self._instance.children[job]:
                    counts[child] -= 1
                    if not counts[child]:
                        later[child] = frozenset(self._instance.eligible[child])
        still = tuple(one for one in running if one[0] != now)
        self._at(now, still, tuple(counts), later, tuple(rooms))

    def _bound(
        self,
        now: int,
        running: tuple[tuple[int, int], ...],
        left: tuple[int, ...],
        ready: dict[int, frozenset[int]],
    ) -> int:
        tails, durations = self._instance.tails, self._instance.durations
        least = max((ends + tails[job] - durations[job] for ends, job in running), default=now)
        least = max(least, max((now + tails[job] for job in ready), default=now))
        open_work = sum(durations[job] for job in ready) + sum(
            durations[job] for job, count in enumerate(left) if count
        )
        open_work += sum(ends - now for ends, _ in running)
        return max(least, now - (-open_work // self._room))

    def _done(self, now: int) -> None:
        if now < self._best:
            order = sorted(range(len(self._starts)), key=lambda job: (self._starts[job], job))
            self._best, self._plan = now, Plan(list(self._agents), _ranks(order))
