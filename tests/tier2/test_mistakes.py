"""What is wrong with very many steps is said without comparing every name with every other."""

from __future__ import annotations

import difflib
from typing import Any

import pytest

from tests.tier2.simulate import step, tools
from vrooli_cli import errors
from vrooli_cli.errors import Problem
from vrooli_cli.model.routine import Bundle, Routine, Step
from vrooli_cli.tier2.plan import DependencyResolver


def problems_of(steps: list[Step]) -> list[Problem]:
    resolver = DependencyResolver(Bundle("main", {"main": Routine(name="r", steps=tuple(steps), key="main")}), tools())
    resolver.create_execution_plan()
    return resolver.problems


@pytest.mark.parametrize("count", [1_000, 4_000])
def test_suggestions_have_a_budget(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    compared = 0

    def counted(word: str, possibilities: list[str], **more: Any) -> list[str]:
        nonlocal compared
        compared += len(possibilities)
        return difflib.get_close_matches(word, possibilities, **more)

    monkeypatch.setattr(errors, "get_close_matches", counted)
    found = problems_of(
        [step(f"count_{i:05}", f"{{{{ steps.cuont_{i:05}.result + vars.n{i} }}}}") for i in range(count)]
    )
    unknown = [problem for problem in found if "there is no step" in problem.message]
    assert len(unknown) == count and len(found) == 2 * count
    assert [problem.hint for problem in unknown[:9]] == [f"did you mean 'count_{i:05}'?" for i in range(9)]
    assert unknown[-1].hint == "check the id"
    assert compared < 21_000
