"""Stimuli: what the machine of a swarm is told, beside a timer that has come and a request to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from vrooli_cli.model.values import lean
from vrooli_cli.tier2.stimuli import CancelRequested, TimerFired

Purpose = Literal["decompose", "revise", "synthesize"]
"""What the model is asked for."""


@lean()
class SwarmStarted:
    """Begin."""

    now: int


@lean()
class Resumed:
    """Go on after a suspension, a failure, a cancel or a crash."""

    now: int


@lean()
class ModelAnswered:
    """The model has answered, or could not.

    Attributes:
        answer: Text for a decomposition; the result of a synthesis.
        error: Why there is no answer.
    """

    now: int
    purpose: Purpose
    attempt: int
    answer: Any = None
    error: Mapping[str, Any] | None = None


@lean()
class TaskEnded:
    """A task's run has ended, or is suspended.

    Attributes:
        status: ``completed``, ``failed``, ``cancelled`` or ``suspended``.
        code: Of a suspension.
        counts: How many of its steps are where; None when it made none.
    """

    now: int
    address: str
    status: str
    result: Any = None
    error: Mapping[str, Any] | None = None
    effects: str = "none"
    credits: int = 0
    duration_ms: int = 0
    code: str = ""
    counts: Mapping[str, int] | None = None


@lean()
class TaskAnswered:
    """A person has answered what a suspended task waits for."""

    now: int
    address: str


@lean()
class HandlerEnded:
    """The steps of a handler have ended."""

    now: int
    name: str
    status: str
    error: Mapping[str, Any] | None = None


Stimulus = (
    SwarmStarted | Resumed | ModelAnswered | TaskEnded | TaskAnswered | HandlerEnded | TimerFired | CancelRequested
)
