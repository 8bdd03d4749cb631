"""The names that the texts of a swarm see: inputs, goal, tasks, blackboard, vars, env, run (spec swarm.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vrooli_cli.tier1.machine import SwarmMachine

TASK_FIELDS = ("result", "status", "agent")
_ROOTS = ("inputs", "goal", "tasks", "blackboard", "vars", "env", "secrets", "run")
_NOT_DONE = {"result": None, "status": "skipped", "agent": None}


class SwarmNames(Mapping[str, Any]):
    """Every name of a swarm's expressions, looked up only when asked for."""

    __slots__ = ("_extra", "_machine")

    def __init__(self, machine: SwarmMachine, extra: Mapping[str, Any] | None = None) -> None:
        self._machine = machine
        self._extra = extra or {}

    def __getitem__(self, name: str) -> Any:
        machine = self._machine
        if name in self._extra:
            return self._extra[name]
        if name in machine.inputs:
            return machine.inputs[name]
        if name == "goal":
            return machine.goal
        if name == "tasks":
            return tasks_view(machine)
        if name == "inputs":
            return machine.inputs
        if name == "blackboard":
            return machine.blackboard
        if name == "run":
            return facts(machine)
        if name in ("vars", "env", "secrets"):
            return machine.plan.settings(machine, name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        yield from _ROOTS
        yield from self._extra
        yield from self._machine.inputs

    def __len__(self) -> int:
        return sum(1 for _ in self)


def tasks_view(machine: SwarmMachine) -> dict[str, Any]:
    """Task id → ``{result, status, agent}``; a task of a branch that was not taken is skipped."""
    view = {name: dict(_NOT_DONE) for name in machine.plan.task_ids or ()}
    for task in (*machine.left.values(), *machine.tasks.values()):
        view[task.id] = task.view()
    return view


def facts(machine: SwarmMachine) -> dict[str, Any]:
    """What ``run`` is."""
    started = datetime.fromtimestamp(machine.first_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return {
        "id": machine.root_id,
        "name": machine.plan.swarm.name,
        "started_at": started.replace("+00:00", "Z"),
        "status": machine.status,
        "error": dict(machine.error) if machine.error is not None else None,
        "work_dir": machine.options.work_dir,
    }
