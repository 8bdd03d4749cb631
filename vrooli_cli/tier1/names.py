"""The names that the texts of a swarm see: inputs, goal, tasks, blackboard, vars, env, run (spec swarm.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from vrooli_cli.tier1.state import SwarmState

TASK_FIELDS = ("result", "status", "agent")
ROOTS = ("inputs", "goal", "tasks", "blackboard", "vars", "env", "secrets", "run")


class SwarmNames(Mapping[str, Any]):
    """Every name of a swarm's expressions, looked up only when asked for.

    Args:
        state: The swarm.
        settings: What ``vars``, ``env``, ``secrets`` and ``run`` are.
        tasks: Every task that the file knows of, also of branches that are not taken.
        extra: Names for one text.
    """

    __slots__ = ("_extra", "_settings", "_state", "_tasks")

    def __init__(
        self,
        state: SwarmState,
        settings: Mapping[str, Any],
        tasks: Iterable[str] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._state = state
        self._settings = settings
        self._tasks = tasks
        self._extra = extra or {}

    def __getitem__(self, name: str) -> Any:
        state = self._state
        if name in self._extra:
            return self._extra[name]
        if name in state.inputs:
            return state.inputs[name]
        if name == "inputs":
            return state.inputs
        if name == "goal":
            return state.goal
        if name == "tasks":
            return tasks_view(state, self._tasks)
        if name == "blackboard":
            return state.blackboard
        return self._settings[name]

    def __iter__(self) -> Iterator[str]:
        yield from ROOTS
        yield from self._extra
        yield from self._state.inputs

    def __len__(self) -> int:
        return sum(1 for _ in self)


def tasks_view(state: SwarmState, known: Iterable[str] = ()) -> dict[str, Any]:
    """Task id → ``{result, status, agent}``; a task of a branch that was not taken is skipped."""
    view: dict[str, Any] = {name: {"result": None, "status": "skipped", "agent": None} for name in known}
    for task in (*state.left.values(), *state.tasks.values()):
        view[task.id] = task.view()
    return view


def run_facts(state: SwarmState, name: str, work_dir: str) -> dict[str, Any]:
    """What ``run`` is."""
    started = datetime.fromtimestamp(state.first_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return {
        "id": state.root_id,
        "name": name,
        "started_at": started.replace("+00:00", "Z"),
        "status": state.status,
        "error": dict(state.error) if state.error is not None else None,
        "work_dir": work_dir,
    }
