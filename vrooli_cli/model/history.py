"""A run as its log tells it to people: what `runs show`, `diff`, `cost`, reports and JUnit files are made of.

Plain values; :mod:`vrooli_cli.journal.history` fills them. Nothing here can be resumed: secrets are ``***``, and large
results stand as ``{"$blob": sha256, "bytes": n}`` until somebody asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from vrooli_cli.model.addresses import TASK, around_of, is_inner
from vrooli_cli.model.store import RunRecord
from vrooli_cli.model.values import lean

TERMINAL = frozenset({"completed", "failed", "skipped", "cancelled"})
_HANDLER = re.compile(r"handlers\.(?:success|failure|finally)/")


@lean(frozen=False)
class Span:
    """One attempt: from its start to its end; ``ended_ns`` is None while it runs or when its process died."""

    address: str
    attempt: int
    began_ns: int
    ended_ns: int | None = None
    status: str = "running"
    life: int = 0


@lean(frozen=False)
class ModelCall:
    """One answered request to a model.

    Attributes:
        messages: What was asked, as the log has it; None when it does not.
        text: What was answered.
        returned: ``(tool, result or error)`` of every tool call of the answer, in the order in which they ended.
    """

    address: str
    model: str
    at_ns: int
    turn: int = 1
    duration_ms: int = 0
    credits: int = 0
    usage: Mapping[str, Any] = field(default_factory=dict)
    messages: Any = None
    text: str | None = None
    tool_calls: Any = None
    finish_reason: str | None = None
    returned: list[tuple[str, Any]] = field(default_factory=list)


@lean(frozen=False)
class StepHistory:
    """One step at one place of the run.

    Attributes:
        began_ns: When its first attempt or its inside began; None when it never did.
        total: Children of a loop; None when it is none.
        inside: Steps of the child routine; None when it is none.
        counts: How many of a task's steps were where at its end, when the log says it.
        label: The tool, model or routine.
        parameters: What its tool was called with, the last time; None when it has none.
        agent: Who did it, in a swarm.
    """

    address: str
    status: str = "pending"
    attempts: int = 0
    began_ns: int | None = None
    ended_ns: int | None = None
    duration_ms: int = 0
    reused: bool = False
    recovered: bool = False
    continued: bool = False
    tainted: bool = False
    result: Any = None
    error: Mapping[str, Any] | None = None
    reason: str = ""
    code: str = ""
    strategy: str = ""
    label: str = ""
    parameters: Mapping[str, Any] | None = None
    effects: str = ""
    credits: int = 0
    total: int | None = None
    inside: int | None = None
    counts: Mapping[str, int] | None = None
    agent: str = ""
    again: str = ""
    from_run: str = ""
    spans: list[Span] = field(default_factory=list)

    @property
    def is_top(self) -> bool:
        """True for what an ExecutionResult lists: one level deep, handlers' steps too."""
        handler = _HANDLER.match(self.address)
        if self.address.startswith(TASK) and "@" in self.address:
            return False  # a further try of a task
        return not is_inner(self.address[handler.end() :] if handler else self.address)


@lean(frozen=False)
class RunHistory:
    """A whole run, in all its lives.

    Attributes:
        key: Its key in the store.
        steps: Address → step, in the order in which they were first heard of.
        active_ns: How long it was at work, over all lives.
        tasks: Of a swarm, task address → addresses of the tasks it waits for, as last decomposed.
        asked: Address → prompt of every approval that nobody has answered.
        calls: Answered requests to models.
        path: What decided which steps ran: ``(address, status)`` in order of their ends.
        ended: True at a real end.
        stretches: From when to when each life was at work.
    """

    key: int
    record: RunRecord
    status: str = "pending"
    result: Any = None
    error: Mapping[str, Any] | None = None
    inputs: Mapping[str, Any] | None = None
    goal: str = ""
    began_ns: int = 0
    last_ns: int = 0
    active_ns: int = 0
    lives: int = 1
    credits: int = 0
    memory_mb: int = 0
    attempts: int = 0
    events: int = 0
    ended: bool = False
    interrupted: bool = False
    steps: dict[str, StepHistory] = field(default_factory=dict)
    tasks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    calls: list[ModelCall] = field(default_factory=list)
    path: list[tuple[str, str]] = field(default_factory=list)
    batches: dict[int, list[int]] = field(default_factory=dict)
    stretches: list[list[int]] = field(default_factory=list)

    @property
    def children(self) -> dict[str, list[StepHistory]]:
        """Composite address → the steps directly inside; of a loop its items."""
        found: dict[str, list[StepHistory]] = {}
        for step in self.steps.values():
            around = around_of(step.address)
            if around:
                found.setdefault(around, []).append(step)
        return found
