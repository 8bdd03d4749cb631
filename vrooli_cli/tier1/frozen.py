"""A plan as a file (``--plan-only``): a swarm with its tasks and who does them, to be read, edited, checked and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vrooli_cli.loading.text import read_text
from vrooli_cli.loading.write import plain_yaml
from vrooli_cli.model.swarm import SubTask, SwarmDefinition
from vrooli_cli.tier1.decompose import task_wire

_NOT_KEPT = ("tasks", "assignments")
_MARKS = ("{{", "{%", "{#")
_DEFAULTS: Mapping[str, Any] = {"dependencies": [], "required_capabilities": [], "priority": "medium"}


def frozen_plan(
    definition: SwarmDefinition,
    tasks: Sequence[SubTask],
    assignments: Mapping[str, Mapping[str, Any]],
    *,
    text: str = "",
    makespan: int | None = None,
) -> str:
    """A swarm file that runs without a planning call.

    Args:
        definition: The swarm.
        tasks: Of its plan; those that the file gave keep the file's own text.
        assignments: Task → ``{agent, reason}``, and ``agents`` where a goal has several.
        text: The swarm's file: whatever stands in it stands in the plan too. Without it goal and agents are written.
        makespan: When the last task is expected to end.
    """
    data = dict(read_text(text.encode(), definition.path or "swarm").data) if text else _written(definition)
    kept = {key: value for key, value in data.items() if key not in _NOT_KEPT}
    kept["tasks"] = [_task(task, definition) for task in tasks]
    kept["assignments"] = {task.id: _assignment(assignments[task.id]) for task in tasks if task.id in assignments}
    expected = f"; expected to take {makespan} units of complexity" if makespan else ""
    head = f"# The plan of {definition.path or definition.name}: {len(tasks)} tasks{expected}.\n"
    return (
        f"{head}# Running this file makes no planning call; keep it beside the files that it names.\n{plain_yaml(kept)}"
    )


def _task(task: SubTask, definition: SwarmDefinition) -> dict[str, Any]:
    written = next((one for one in definition.tasks or () if one.id == task.id), None)
    wire = task_wire(task)
    wire["description"] = written.description if written is not None else literal(task.description)
    return {key: value for key, value in wire.items() if _DEFAULTS.get(key) != value}


def _assignment(entry: Mapping[str, Any]) -> dict[str, Any]:
    reason = entry.get("reason", "")
    others = ", ".join(entry.get("agents", ())[1:])
    told = f" (with {others})" if others else ""
    return {"agent": entry["agent"], "reason": reason.removesuffix(told) + told}


def literal(text: str) -> str:
    """Text of a model as text of a file: what looks like an expression stays what it is."""
    if not any(mark in text for mark in _MARKS):
        return text
    made, at = [], 0
    while at < len(text):
        if text[at : at + 2] in _MARKS:
            made.append("{{ '" + text[at : at + 2] + "' }}")
            at += 2
        else:
            made.append(text[at])
            at += 1
    return "".join(made)


def _written(definition: SwarmDefinition) -> dict[str, Any]:
    """The main keys of a swarm that has no file."""
    data: dict[str, Any] = {"name": definition.name, "goal": definition.goal}
    data["agents"] = [
        {"id": agent.id, **({"name": agent.name} if agent.name else {}), "capabilities": list(agent.capabilities)}
        | ({"max_concurrent_tasks": agent.max_concurrent_tasks} if agent.max_concurrent_tasks != 1 else {})
        for agent in definition.agents
    ]
    if definition.constraints is not None:
        data["constraints"] = definition.constraints
    if definition.leader is not None:
        data["team"] = {"leader": definition.leader}
    return data
