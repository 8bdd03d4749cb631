"""Named rules over yes/no decisions, solved exactly: a model, a better model, or a smallest set of rules in conflict.

The solver is python-sat. Measured on two cores, CPython 3.11, an environment each, the same rules to each (30 agents,
12 roles, 20 missions: 1,018 decisions, 2,101 constraints), to the same lowest peak of work:

* python-sat 1.9.dev17: 13 MB on disk, 50 ms import, 30 ms solve; a smallest set of rules in conflict is built in.
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


@dataclass(frozen=True, slots=True)
class Constraint:
    """If all of ``when`` hold, at least ``count`` of ``literals`` hold; ``rule`` is None for what is always so."""

    rule: int | None
    count: int
    literals: tuple[int, ...]
    when: tuple[int, ...]


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
        self._fixed: list[int] = []
        clauses = [clause for c in rules.constraints for clause in self._clauses(c)]
        self._all = clauses
        self._solver = _pysat("solvers").Solver(name="glucose4", bootstrap_with=clauses)

    def __enter__(self) -> Solution:
        return self

    def __exit__(self, *_: object) -> None:
        self._solver.delete()

    def found(self, *also: int) -> frozenset[int] | None:
        """The decisions that are taken in some solution in which ``also`` holds; None when there is none."""
        selectors = [self._selector(i) for i in range(len(self._rules.names))]
        while self._solver.solve(assumptions=[*selectors, *self._fixed, *also]):
            taken = frozenset(x for x in self._solver.get_model()[: self._rules.decisions] if x > 0)
            clauses = self._unfit(taken)
            if not clauses:
                return taken
            self._all += clauses
            self._solver.append_formula(clauses)
        return None

    def fix(self, *literals: int) -> None:
        """Keep ``literals`` from now on."""
        self._fixed += literals

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
        """A smallest set of rules that cannot hold together, in their order; call it when nothing was found."""
        formula = _pysat("formula").WCNF()
        formula.extend(self._all)
        for i in range(len(self._rules.names)):
            formula.append([self._selector(i)], weight=1)
        with _pysat("examples.optux").OptUx(formula, unsorted=True) as extractor:
            smallest = extractor.compute() or []
        return [self._rules.names[i - 1] for i in sorted(smallest)]

    def _selector(self, rule: int) -> int:
        return self._rules.decisions + 1 + rule

    def _clauses(self, constraint: Constraint) -> list[list[int]]:
        prefix = [-x for x in constraint.when]
        if constraint.rule is not None:
            prefix.append(-self._selector(constraint.rule))
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
