"""Instructions: what the machine of a swarm asks of its shell, beside timers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vrooli_cli.model.values import lean
from vrooli_cli.tier1.decompose import Message
from vrooli_cli.tier1.stimuli import Purpose
from vrooli_cli.tier2.instructions import ClearTimer, SetTimer


@lean()
class AskModel:
    """Ask the model; ``messages`` are given for decompositions, a synthesis is a prompt of the file."""

    purpose: Purpose
    attempt: int
    messages: tuple[Message, ...] = ()


@lean()
class StopAsking:
    """The model's answer is no longer wanted."""


@lean()
class StartTask:
    """Run a task as a child run; ``again``: go on with the run that has this execution id."""

    task: str
    agent: str
    address: str
    attempt: int
    execution_id: str
    again: bool = False


@lean()
class CancelTask:
    """Stop a task's run."""

    address: str
    reason: str


@lean()
class RunHandler:
    """Run the steps of a handler; ``status`` and ``error`` are what ``run`` says in them."""

    name: str
    execution_id: str
    status: str
    error: Mapping[str, Any] | None


@lean()
class StopHandler:
    """The handler has had its time."""

    name: str


@lean()
class EndSwarm:
    """The swarm is over, or suspended."""

    status: str


Instruction = (
    AskModel | StopAsking | StartTask | CancelTask | RunHandler | StopHandler | SetTimer | ClearTimer | EndSwarm
)
