"""What loading gives to the floors above: a closed world, and how to speak about the files that it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vrooli_cli.errors import DefinitionError, Problem
from vrooli_cli.loading.home import Project
from vrooli_cli.model.routine import Bundle, Group, Routine, Step
from vrooli_cli.model.swarm import SwarmBundle, SwarmDefinition
from vrooli_cli.model.values import lean

if TYPE_CHECKING:
    from vrooli_cli.loading.source import SourceMap


@lean()
class Recalled:
    """What was known of a bundle when it was planned before (:mod:`~vrooli_cli.loading.recall`).

    Attributes:
        tools: The digest of the tools that it was checked against.
        plans: The plans, as tier 2 wrote them.
        problems: The warnings of all floors above loading, placed.
    """

    tools: str
    plans: Any
    problems: tuple[Problem, ...] = ()


@lean()
class LoadedBundle:
    """What was loaded, and how to speak about it.

    Attributes:
        bundle: A routine's or a swarm's closed world.
        sources: Key → where everything stands in that file.
        problems: What was found, placed; only warnings unless it was asked for with ``raises=False``.
        project: The project that it was read in.
        asked: The path or name that it was loaded by; empty for stdin, and for the definition of a recorded run.
        recalled: Its checked plan, when it comes from the store.
    """

    bundle: Bundle | SwarmBundle
    sources: Mapping[str, SourceMap]
    problems: tuple[Problem, ...]
    project: Project
    asked: str = ""
    recalled: Recalled | None = None

    @property
    def sound(self) -> bool:
        """True when nothing but warnings was found, so that it may be run."""
        return all(problem.warning for problem in self.problems)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is worth saying but stops nothing."""
        return tuple(problem for problem in self.problems if problem.warning)

    @property
    def main(self) -> str:
        """The key of the file that was asked for."""
        return self.bundle.main if isinstance(self.bundle, Bundle) else self.bundle.swarm.key

    @property
    def definition(self) -> Routine | SwarmDefinition:
        """The routine or swarm that was asked for."""
        return self.bundle.routine if isinstance(self.bundle, Bundle) else self.bundle.swarm

    def place(self, problems: Iterable[Problem], key: str = "") -> list[Problem]:
        """Problems that other floors found, with their lines.

        The file is the one whose key a problem's ``file`` is, else that of ``key``, else the main one.
        """
        placed = []
        for problem in problems:
            source = None if problem.line else self.sources.get(problem.file or key or self.main)
            placed.append(source.place(replace(problem, file="")) if source is not None else problem)
        return placed


def refusal(problems: Iterable[Problem]) -> DefinitionError:
    """The error that these problems are; its code is theirs when they all have the same one."""
    wrong = [problem for problem in problems if not problem.warning]
    codes = {problem.code for problem in wrong}
    return DefinitionError(wrong, code=codes.pop() if len(codes) == 1 else None)


def steps_of(made: Routine | SwarmDefinition | None) -> Iterator[Step]:
    """Every step of a file: those in groups and handlers too."""
    if made is None:
        return
    pending: list[tuple[Step, ...]] = [made.steps] if isinstance(made, Routine) else []
    pending += made.handlers.values()
    while pending:
        for step in pending.pop():
            yield step
            if isinstance(step.action, Group):
                pending.append(step.action.steps)
