"""Stimuli: what the machine of a run is told. Every one says when; the machine has no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from vrooli_cli.model.values import lean
from vrooli_cli.tier3.scope import Outcome

TimerKey = tuple[str, ...]
"""What a timer is for, and whose: ``("retry", address)``."""


@lean()
class RunStarted:
    """Begin."""

    now: int


@lean()
class Answered:
    """A person answered; ``approved`` None says that nobody can answer here."""

    now: int
    address: str
    approved: bool | None
    by: str = ""
    comment: str | None = None


@lean()
class Resumed:
    """Go on after a suspension, a failure, a cancel or a crash.

    Attributes:
        assume: Address → ``done``, ``failed`` or ``rerun``, for steps whose outcome is unknown.
        answers: Address → the person's answer, given while no process ran.
    """

    now: int
    assume: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, Answered] = field(default_factory=dict)


@lean()
class AttemptEnded:
    """Tier 3 has an outcome."""

    now: int
    address: str
    attempt: int
    outcome: Outcome


@lean()
class TimerFired:
    """A timer that was set has come."""

    now: int
    key: TimerKey


@lean()
class LookedUp:
    """Whether a result of another run stands for a step that is about to start.

    Attributes:
        stands: True: ``result`` is the step's, and ``reason`` says why; False: it runs, and ``reason`` says why.
    """

    now: int
    address: str
    stands: bool
    result: Any = None
    reason: str = ""
    from_run: str = ""


@lean()
class CancelRequested:
    """Stop: by a user, a signal, a parent, or a store that failed."""

    now: int
    reason: str
    error: Mapping[str, Any] | None = None


Stimulus = RunStarted | Resumed | AttemptEnded | TimerFired | Answered | LookedUp | CancelRequested
