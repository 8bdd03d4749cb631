"""Problems as lines for people and as JSON for programs. Nothing is coloured here.

::

    routine.yaml:4:11: no tool 'shel'
          tool: shel
                ^
      did you mean 'shell'?
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from vrooli_cli.errors import Problem
from vrooli_cli.loading.source import visible

SHOWN: Final = 100
"""Problems that are printed at most; the rest is counted."""


def format_problems(problems: Iterable[Problem]) -> str:
    """Every problem with its place, excerpt and hint, in the order of files and lines; at most 100 of them.

    Names and values from a hostile file cannot break out of their line: what moves a cursor is escaped.
    """
    in_order = sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column))
    blocks = [_block(problem) for problem in in_order[:SHOWN]]
    if len(in_order) > SHOWN:
        blocks.append(f"… and {len(in_order) - SHOWN:,} more")
    return "\n".join(blocks)


def problem_json(problem: Problem) -> dict[str, Any]:
    """The problem as ``validate -o json`` prints it; line and column are null where the file as a whole is meant."""
    return {
        "file": problem.file,
        "line": problem.line or None,
        "column": problem.column or None,
        "message": problem.message,
        "hint": problem.hint,
        "severity": "warning" if problem.warning else "error",
        "code": problem.code,
    }


def _block(problem: Problem) -> str:
    place = f"{problem.file}:{problem.line}:{problem.column}: " if problem.line else _file(problem)
    lines = [visible(f"{place}{'warning: ' if problem.warning else ''}{problem.message}")]
    lines += [f"    {line}" for line in problem.excerpt.split("\n") if problem.excerpt]
    if problem.hint:
        lines.append(f"  {visible(problem.hint)}")
    return "\n".join(lines)


def _file(problem: Problem) -> str:
    return f"{problem.file}: " if problem.file else ""
