"""Named rules over yes/no decisions, solved exactly: a model, a better model, or a smallest set of rules in conflict.

The solver is python-sat. Measured on two cores, CPython 3.11, an environment each, the same rules to each (30 agents,
12 roles, 20 missions: 1,018 decisions, 2,101 constraints), to the same lowest peak of work:

* python-sat 1.9.dev17: 13 MB on disk, 50 ms import, 30 ms solve; sets of rules in conflict, smallest ones.
* highspy 1.15.1 (needs numpy): 83 MB on disk, 160 ms import, 110 ms solve; no sets of rules in conflict.
* ortools 9.15 (needs pandas): 245 MB on disk, 560 ms import, 45 ms solve; a sufficient set, not a smallest one.

It is imported when the first organisation is allocated, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from vrooli_cli.errors import VrooliError

MAX_CALLS = 2000
"""How often a smaller conflict is looked for; organisations that people write need some dozens."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """If all of ``when`` hold, at least ``count`` of ``literals`` hold; ``rule`` is None for what is always so."""

    rule: int | None
    count: int
    literals: tuple[int, ...]
    when: tuple[int, ...]

    def holds(self, taken: frozenset[int]) -> bool:
        """True when it is kept by taking exactly these decisions."""
        if not all((x in taken) if x > 0 else (-x not in taken) for x in self.when):
            return True
        return sum((x in taken) if x > 0 else (-x not in taken) for x in self.literals) >= self.count


class Rules:
    """Decisions, numbered from 1 (a negative number is "not"), and the named rules on them."""

    def __init__(self) -> None:
        self.decisions = 0
        self.names: list[str] = []
        self.constraints: list[Constraint] = []
        self._numbers: dict[str, int] = {}

    def decision(self) -> int:
        """A new decision."""
        self.decisions += 1
        return self.decisions

    def at_least(self, count: int, literals: Iterable[int], rule: str | None, when: Iterable[int] = ()) -> None:
        """Demand ``count`` of the literals, if all of ``when`` hold; constraints of one name are one rule."""
        number = None
        if rule is not None:
            number = self._numbers.setdefault(rule, len(self._numbers))
            if number == len(self.names):
                self.names.append(rule)
        if count > 0:
            self.constraints.append(Constraint(number, count, tuple(literals), tuple(when)))

    def at_most(self, count: int, literals: Iterable[int], rule: str | None, when: Iterable[int] = ()) -> None:
        """Allow no more than ``count`` of the literals, if all of ``when`` hold."""
        negated = tuple(-x for x in literals)
        self.at_least(len(negated) - count, negated, rule, when)

    def implies(self, condition: int, literals: Iterable[int], rule: str | None) -> None:
        """Demand one of the literals wherever ``condition`` holds."""
        self.at_least(1, literals, rule, (condition,))


class Solution:
    """An exact solver on one set of rules; solutions are the same for the same rules.

    Args:
        rules: The rules.
        unfit: Clauses that a solution breaks for reasons that the rules do not spell out; none when it is fit.
    """

    def __init__(self, rules: Rules, unfit: Callable[[frozenset[int]], list[list[int]]] = lambda _: []) -> None:
        self._rules = rules
        self._unfit = unfit
        self._top = rules.decisions + len(rules.names)
        self._assumed = [rules.decisions + 1 + i for i in range(len(rules.names))]
        self._named: dict[int, list[Constraint]] = {x: [] for x in self._assumed}
        for constraint in rules.constraints:
            if constraint.rule is not None:
                self._named[self._assumed[constraint.rule]].append(constraint)
        clauses = [clause for c in rules.constraints for clause in self._clauses(c)]
        self._solver = _pysat("solvers").Solver(name="glucose4", bootstrap_with=clauses)

    def __enter__(self) -> Solution:
        return self

    def __exit__(self, *_: object) -> None:
        self._solver.delete()

    def found(self, *also: int) -> frozenset[int] | None:
        """The decisions that are taken in some solution in which ``also`` holds; None when there is none."""
        return self._model([*self._assumed, *also])

    def fix(self, *literals: int) -> None:
        """Keep the rules and ``literals`` from now on; there must be a solution with them."""
        self._solver.append_formula([[x] for x in (*self._assumed, *literals)])
        self._assumed = []

    def minimize(self, best: frozenset[int], sums: Sequence[Sequence[int]]) -> frozenset[int]:
        """A solution in which the largest of the sums is as low as it can be, and is kept so.

        Args:
            best: A solution to begin with.
            sums: Lists of decisions; one that stands several times weighs as much.
        """
        peak = max((_taken(s, best) for s in sums), default=0)
        if peak == 0:
            self.fix(*(-x for s in sums for x in s))
            return best
        counters = [self._counter(s, peak) for s in sums if s]
        while peak > 0:
            lower = [-c[peak - 1] for c in counters if len(c) >= peak]
            better = self.found(*lower)
            if better is None:
                break
            best = better
            peak = max(_taken(s, best) for s in sums)
        self.fix(*(-c[peak] for c in counters if len(c) > peak))
        return best

    def prefer(self, best: frozenset[int], wishes: Iterable[int]) -> frozenset[int]:
        """The solution that takes each wish, in their order, if the earlier ones leave room for it."""
        for wish in wishes:
            better = best if wish in best else self.found(wish)
            self.fix(wish if better is not None else -wish)
            best = better if better is not None else best
        return best

    def conflict(self) -> list[str]:
        """A smallest set of rules that cannot hold together, in their order; call it when nothing was found.

        Rules are dropped from the solver's own reason until none can be left out. Then smaller sets are looked for, by
        implicit hitting sets (Ignatiev et al. 2015): what a conflict must break every way of keeping the rest. Past
        :data:`MAX_CALLS` questions the set from which no rule can be left out is the answer.
        """
        smallest = self._irreducible()
        with _pysat("examples.hitman").Hitman(solver="glucose4", htype="sorted") as hitman:
            for _ in range(MAX_CALLS):
                candidate = hitman.get() or []
                if len(candidate) >= len(smallest):
                    break
                taken = self._model(candidate)
                if taken is None:
                    smallest = candidate
                    break
                hitman.hit(self._correction(taken))
        return [self._rules.names[x - self._rules.decisions - 1] for x in sorted(smallest)]

    def _irreducible(self) -> list[int]:
        """Rules in conflict of which each is needed."""
        core = self._reason(self._assumed)
        for rule in list(core):
            without = [x for x in core if x != rule]
            if rule in core and self._model(without) is None:
                core = self._reason(without)
        return core

    def _reason(self, assumed: list[int]) -> list[int]:
        self._solver.solve(assumptions=assumed)
        return sorted(self._solver.get_core() or [])

    def _correction(self, taken: frozenset[int]) -> list[int]:
        """A smallest-by-inclusion set of rules without which the others hold, beginning with what ``taken`` breaks."""
        left = self._broken(taken, self._assumed)
        kept = [x for x in self._assumed if x not in left]
        for rule in list(left):
            if rule in left and (more := self._model([*kept, rule])) is not None:
                still = self._broken(more, left)
                kept += [x for x in left if x not in still]
                left = still
        return left

    def _broken(self, taken: frozenset[int], rules: Iterable[int]) -> list[int]:
        """Those of ``rules`` that do not hold when exactly ``taken`` is decided."""
        return [x for x in rules if not all(c.holds(taken) for c in self._named[x])]

    def _model(self, assumed: Iterable[int]) -> frozenset[int] | None:
        assumptions = list(assumed)
        while self._solver.solve(assumptions=assumptions):
            taken = frozenset(x for x in self._solver.get_model()[: self._rules.decisions] if x > 0)
            clauses = self._unfit(taken)
            if not clauses:
                return taken
            self._solver.append_formula(clauses)
        return None

    def _clauses(self, constraint: Constraint) -> list[list[int]]:
        prefix = [-x for x in constraint.when]
        if constraint.rule is not None:
            prefix.append(-(self._rules.decisions + 1 + constraint.rule))
        literals, count = list(constraint.literals), constraint.count
        if count > len(literals):
            return [prefix]
        if count == 1:
            return [prefix + literals]
        if count == len(literals):
            return [[*prefix, x] for x in literals]
        encoded = _pysat("card").CardEnc.atleast(literals, bound=count, top_id=self._top, encoding=1)
        self._top = max(self._top, encoded.nv)
        return [prefix + clause for clause in encoded.clauses]

    def _counter(self, terms: Sequence[int], limit: int) -> list[int]:
        """Literals of which the i-th (from 0) holds if more than i of ``terms`` do, up to ``limit``."""
        with _pysat("card").ITotalizer(list(terms), ubound=limit, top_id=self._top) as totalizer:
            self._top = max(self._top, totalizer.top_id)
            self._solver.append_formula(totalizer.cnf.clauses)
            return list(totalizer.rhs)


def _taken(terms: Sequence[int], solution: frozenset[int]) -> int:
    return sum(1 for x in terms if x in solution)


def _pysat(module: str) -> Any:
    """A module of python-sat, which has no types; this is the one place that imports it."""
    try:
        return import_module(f"pysat.{module}")
    except ImportError:
        message = "allocating agents to an organisation needs the package python-sat: pip install python-sat"
        raise VrooliError(message, tier="tier1") from None
