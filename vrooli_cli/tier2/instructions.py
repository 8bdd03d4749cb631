"""Instructions: what the machine of a run asks of its shell, and the turn that carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from vrooli_cli.model import events as e
from vrooli_cli.model.values import lean
from vrooli_cli.tier2.state import Node
from vrooli_cli.tier2.stimuli import TimerKey

I_co = TypeVar("I_co", covariant=True)


@lean()
class StartAttempt:
    """Have tier 3 do one attempt."""

    node: Node
    address: str
    attempt: int


@lean()
class CancelAttempt:
    """Stop an attempt, gently first."""

    address: str


@lean()
class KillAttempt:
    """Stop an attempt that did not stop in its grace time."""

    address: str


@lean()
class SetTimer:
    """Tell me at ``at`` (nanoseconds since 1970)."""

    key: TimerKey
    at: int


@lean()
class ClearTimer:
    """Never mind."""

    key: TimerKey


@lean()
class AskApproval:
    """Ask a person, or say that nobody is there."""

    address: str
    prompt: str
    digest: str
    deadline: int | None


@lean()
class LookUp:
    """See whether a result of another run stands for this step."""

    node: Node
    address: str


@lean()
class EndRun:
    """The root run is over, or suspended."""

    status: str


Instruction = StartAttempt | CancelAttempt | KillAttempt | SetTimer | ClearTimer | AskApproval | LookUp | EndRun


@lean()
class Turn(Generic[I_co]):
    """What came of one stimulus: first the events are made durable, then the instructions are performed."""

    events: Sequence[e.Event]
    instructions: Sequence[I_co]
