"""What an agent is given for a task: values for a routine, and one text for the agent that has none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from vrooli_cli.tier1.decompose import abridged, task_wire
from vrooli_cli.tier1.knowledge import Excerpt
from vrooli_cli.tier1.state import Part

_DEPENDENCY_LETTERS = 20_000


def task_inputs(
    part: Part, goal: str, dependencies: Mapping[str, Any], excerpts: Iterable[Excerpt] = ()
) -> dict[str, Any]:
    """``task``, ``goal`` and ``dependencies`` of a task's run."""
    wire = task_wire(part.task.spec)
    about = {**wire, "agent": part.agent, "briefing": briefing(part, goal, dependencies, excerpts)}
    return {"task": about, "goal": goal, "dependencies": dict(dependencies)}


def briefing(part: Part, goal: str, dependencies: Mapping[str, Any], excerpts: Iterable[Excerpt] = ()) -> str:
    """The task in words, with all that is known for it."""
    spec = part.task.spec
    sections = [
        f"The goal of the team:\n{goal}",
        f"Your task ({spec.id}):\n{spec.description or spec.id}",
    ]
    if dependencies:
        results = "\n\n".join(f"### {name}\n{_text(result)}" for name, result in dependencies.items())
        sections.append(f"Results of the tasks before it:\n\n{results}")
    found = "\n\n".join(f"[{one.source}]\n{one.text}" for one in excerpts)
    if found:
        sections.append(f"From the team's documents:\n\n{found}")
    sections.append("Answer with the result of your task.")
    return "\n\n".join(sections)


def _text(value: Any) -> str:
    short = abridged(value, _DEPENDENCY_LETTERS)
    return short if isinstance(short, str) else json.dumps(short, ensure_ascii=False, default=str)
