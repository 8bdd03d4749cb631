r"""Mistakes that people make, each told at the line where it is.

``mistakes.txt`` holds small routine files, each after a line ``== NAME``; `` <<<`` marks the lines that are wrong.
Every problem must stand at one of them, and somebody must say something.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.errors import DefinitionError, Problem
from vrooli_cli.loading.bundle import load_bundle

MARK = " <<<"
_TABLE = "\n" + (Path(__file__).parent / "mistakes.txt").read_text()
CASES = dict(part.split("\n", 1) for part in _TABLE.split("\n== ")[1:])


def problems_of(file: Path) -> list[Problem]:
    """Everything that every floor says about a file."""
    try:
        loaded = load_bundle(file, raises=False)
    except DefinitionError as error:
        return list(error.problems)
    return ExecutionArchitecture().check(loaded)


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_told_at_its_line(name: str, tmp_path: Path) -> None:
    lines = CASES[name].split("\n")
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith(MARK)}
    assert wrong
    file = tmp_path / "r.yaml"
    file.write_text("\n".join(line.removesuffix(MARK) for line in lines))
    problems = problems_of(file)
    assert problems
    for problem in problems:
        assert problem.line in wrong, str(problem)
        assert "^" in problem.excerpt
        assert "\n" not in problem.message + problem.hint
    assert len({(problem.line, problem.column, problem.message) for problem in problems}) == len(problems)


def test_the_table_is_as_long_as_it_was() -> None:
    assert len(CASES) >= 75
