"""Named rules: what is found keeps them, what is least is least, a conflict is a smallest one."""

from __future__ import annotations

from itertools import combinations, product

from hypothesis import given, settings
from hypothesis import strategies as st

from vrooli_cli.tier1.moise.solver import Constraint, Rules, Solution

LITERALS = st.sampled_from([1, 2, 3, 4, -1, -2, -3, -4])
CONSTRAINTS = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.lists(LITERALS, max_size=4, unique_by=abs),
        st.lists(LITERALS, max_size=2, unique_by=abs),
        st.sampled_from(["p", "q", "r", "s", "t"]),
    ),
    max_size=9,
)


def rules_of(constraints: list[tuple[int, list[int], list[int], str]]) -> Rules:
    rules = Rules()
    for _ in range(4):
        rules.decision()
    for count, literals, when, name in constraints:
        rules.at_least(count, literals, name, when)
    return rules


def holds(constraint: Constraint, taken: set[int]) -> bool:
    def true(x: int) -> bool:
        return x in taken if x > 0 else -x not in taken

    return not all(map(true, constraint.when)) or sum(map(true, constraint.literals)) >= constraint.count


def worlds(rules: Rules, kept: set[int]) -> list[set[int]]:
    """All ways to decide in which the rules numbered ``kept`` hold, written down without the solver."""
    ways = [{i + 1 for i, yes in enumerate(bits) if yes} for bits in product([False, True], repeat=4)]
    return [w for w in ways if all(holds(c, w) for c in rules.constraints if c.rule in kept)]


@settings(max_examples=200, deadline=None)
@given(CONSTRAINTS)
def test_a_solution_is_found_exactly_when_there_is_one(
    constraints: list[tuple[int, list[int], list[int], str]],
) -> None:
    rules = rules_of(constraints)
    everything = set(range(len(rules.names)))
    with Solution(rules) as solution:
        taken = solution.found()
        if taken is not None:
            assert taken in worlds(rules, everything)
            return
        conflict = {rules.names.index(name) for name in solution.conflict()}
        assert worlds(rules, everything) == worlds(rules, conflict) == []
        for size in range(len(conflict)):
            for fewer in combinations(everything, size):
                assert worlds(rules, set(fewer)), "a smaller conflict"


@settings(max_examples=150, deadline=None)
@given(CONSTRAINTS, st.lists(st.lists(st.integers(1, 4), max_size=5), min_size=1, max_size=3))
def test_the_largest_sum_is_as_low_as_it_can_be(
    constraints: list[tuple[int, list[int], list[int], str]], sums: list[list[int]]
) -> None:
    rules = rules_of(constraints)
    possible = worlds(rules, set(range(len(rules.names))))
    with Solution(rules) as solution:
        found = solution.found()
        if found is None:
            return
        best = solution.minimize(found, sums)
        least = min(max(sum(x in w for x in s) for s in sums) for w in possible)
        assert max(sum(x in best for x in s) for s in sums) == least
        allowed = [w for w in possible if max(sum(x in w for x in s) for s in sums) == least]
        preferred = solution.prefer(best, [1, 2, 3, 4])
        assert preferred == max(allowed, key=lambda w: [x in w for x in (1, 2, 3, 4)])


def test_at_most_and_conditions() -> None:
    rules = Rules()
    a, b, c = (rules.decision() for _ in range(3))
    rules.at_least(2, [a, b, c], "two")
    rules.at_most(1, [a, b], "not both", [c])
    rules.implies(a, [b], "a brings b")
    with Solution(rules) as solution:
        assert solution.found(c) == frozenset({b, c})
        assert solution.found(a) == frozenset({a, b})
        assert solution.found(a, c) is None
