"""A scheme as a task graph: which work there is, what orders it, and which parts are alternatives (no model needed).

A task is a goal that somebody has to achieve: every leaf, and every goal above that is part of a mission. A goal that
nobody can be committed to follows from its plan and is no task. A sequence orders its parts, a parallel does not, a
choice makes them alternatives in the order of the file; ``depends-on`` orders besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vrooli_cli.model.organization import Goal, Scheme


@dataclass(frozen=True, slots=True)
class SchemeTask:
    """One goal as a task.

    Attributes:
        id: Of the task: the goal's, with ``SCHEME.`` before it where two schemes share the name.
        dependencies: Ids of the tasks that must be satisfied first; those of branches not picked do not count.
        agents: Committed agents who must achieve it; None is all of them.
        ttf: Time to fulfil, as written.
        branches: The alternatives that it belongs to, outermost first, as (choice, number of the branch).
    """

    id: str
    scheme: str
    goal: str
    description: str
    dependencies: tuple[str, ...]
    agents: int | None = None
    ttf: str | None = None
    branches: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SchemeGraph:
    """The tasks of one or more schemes.

    Attributes:
        tasks: By id, in an order in which each stands after its dependencies.
        choices: Id of a choice → how many branches it has; a branch is picked by its number, in the order to try.
    """

    tasks: Mapping[str, SchemeTask]
    choices: Mapping[str, int]

    def picked(self, picks: Mapping[str, int]) -> tuple[SchemeTask, ...]:
        """The tasks to do when each choice takes the branch ``picks`` gives for it, the first by default."""
        live = {
            task.id: task
            for task in self.tasks.values()
            if all(picks.get(choice, 0) == branch for choice, branch in task.branches)
        }
        return tuple(replace(t, dependencies=tuple(d for d in t.dependencies if d in live)) for t in live.values())


def scheme_graph(schemes: Iterable[Scheme]) -> SchemeGraph:
    """The tasks of the schemes, side by side."""
    all_schemes = tuple(schemes)
    names = [goal for scheme in all_schemes for goal in scheme.goals]
    shared = {goal for goal in names if names.count(goal) > 1} if len(all_schemes) > 1 else set()
    tasks: dict[str, SchemeTask] = {}
    choices: dict[str, int] = {}
    for scheme in all_schemes:
        walk = _Walk(scheme, shared)
        walk.visit(scheme.root, (), ())
        tasks |= {t.id: t for t in _in_order(walk.tasks)}
        choices |= walk.choices
    return SchemeGraph(tasks, choices)


class _Walk:
    """Collects the tasks of one scheme from its root down."""

    def __init__(self, scheme: Scheme, shared: set[str]) -> None:
        self.scheme = scheme
        self.shared = shared
        self.tasks: dict[str, SchemeTask] = {}
        self.choices: dict[str, int] = {}
        self._missions = {goal for mission in scheme.missions.values() for goal in mission.goals}

    def visit(self, name: str, before: tuple[str, ...], branches: tuple[tuple[str, int], ...]) -> None:
        """Add ``name`` and what is below it.

        Args:
            name: The goal.
            before: Ids of the tasks that come before everything in it.
            branches: The alternatives around it.
        """
        goal = self.scheme.goals[name]
        if goal.plan:
            if goal.plan.operator == "choice":
                self.choices[self._id(name)] = len(goal.plan.goals)
            earlier = before
            for number, sub in enumerate(goal.plan.goals):
                inside = (*branches, (self._id(name), number)) if goal.plan.operator == "choice" else branches
                self.visit(sub, earlier, inside)
                if goal.plan.operator == "sequence":
                    earlier = self._ends(sub)
        if self._is_task(goal):
            after = self._ends_of_plan(goal) if goal.plan else before
            more = [end for other in goal.depends_on for end in self._ends(other)]
            self.tasks[self._id(name)] = SchemeTask(
                id=self._id(name),
                scheme=self.scheme.id,
                goal=name,
                description=goal.description or name.replace("_", " "),
                dependencies=tuple(dict.fromkeys((*after, *more))),
                agents=goal.min,
                ttf=goal.ttf,
                branches=branches,
            )

    def _is_task(self, goal: Goal) -> bool:
        return goal.plan is None or goal.id in self._missions

    def _ends(self, name: str) -> tuple[str, ...]:
        """The tasks with which a goal is satisfied."""
        goal = self.scheme.goals[name]
        return (self._id(name),) if self._is_task(goal) else self._ends_of_plan(goal)

    def _ends_of_plan(self, goal: Goal) -> tuple[str, ...]:
        assert goal.plan
        last = goal.plan.goals[-1:] if goal.plan.operator == "sequence" else goal.plan.goals
        return tuple(end for sub in last for end in self._ends(sub))

    def _id(self, goal: str) -> str:
        return f"{self.scheme.id}.{goal}" if goal in self.shared else goal


def _in_order(tasks: Mapping[str, SchemeTask]) -> list[SchemeTask]:
    """The tasks, each after those that it depends on; a circle through ``depends-on`` is left as it stands."""
    done: dict[str, SchemeTask] = {}
    waiting = list(tasks.values())
    while waiting:
        ready = [t for t in waiting if all(d in done or d not in tasks for d in t.dependencies)] or waiting
        done |= {t.id: t for t in ready}
        waiting = [t for t in waiting if t.id not in done]
    return list(done.values())
