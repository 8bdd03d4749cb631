"""What an event says in one line: a verb, whom it is about, a time and a few words; for the tail and for ``plain``.

The words of an event are taken when it happens, which is cheap, and become text when they are shown. What is left out
(`ledger/*`, `execution/completed`, `tool/*` of a written step…) says nothing that another line does not say as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from vrooli_cli.model import events as e
from vrooli_cli.model.addresses import TASK
from vrooli_cli.model.values import lean
from vrooli_cli.view.board import CANCELLED, COMPLETED, FAILED, READY, RETRYING, RUNNING, SKIPPED, SUSPENDED
from vrooli_cli.view.text import LINE_LIMIT, line, place

ALERT = 9
"""A mark beside the states of a step: something to look at that is nobody's state."""

Words = tuple[int, object, int, object]
"""(mark, subject, milliseconds or -1, what else there is to say: a text, an error on the wire, or a tuple of both)."""


@lean()
class Told:
    """One event, ready to be shown: all text is harmless.

    Attributes:
        type: Without the tier, e.g. ``step/completed``.
        mark: A state of ``board`` or :data:`ALERT`; chooses the sign and its colour.
        ms: A duration, or -1.
    """

    at: datetime
    tier: str
    type: str
    mark: int
    subject: str
    ms: int
    detail: str


Heard = tuple[datetime, type[e.Event], Words]
"""An event that says something, as it is kept: nothing is formatted or escaped before it is shown."""


def told_of(heard: Heard) -> Told:
    """An event that was kept, in one harmless line."""
    at, kind, (mark, subject, ms, detail) = heard
    ms = ms if type(ms) is int else -1
    name = kind.type if kind.tier is None else kind.type[6:]
    return Told(at, kind.tier or "", name, mark, place(subject, 100), ms, _sentence(detail))


def tell(event: e.ExecutionEvent, fact: e.Event) -> Told | None:
    """The event in one line, or None when it has nothing to tell a person."""
    words_of = WORDS_OF.get(type(fact))
    words = words_of(fact) if words_of is not None else None
    return told_of((event.timestamp, type(fact), words)) if words is not None else None


def _sentence(detail: object) -> str:
    parts = detail if isinstance(detail, tuple) else (detail,)
    return " ".join(_failure(part) if isinstance(part, Mapping) else line(part) for part in parts if part)


def reason_of(error: object, limit: int = LINE_LIMIT) -> tuple[str, str]:
    """(code, message) of an error on the wire, harmless; ``limit`` is the characters of the message."""
    if not isinstance(error, Mapping):
        return "", line(error, limit) if error else ""
    return line(error.get("code") or "", 60), line(error.get("message") or "", limit)


def _failure(error: object) -> str:
    code, message = reason_of(error)
    return f"{code}: {message}" if code and message else code or message


def _step_completed(f: e.StepCompleted) -> Words:
    tries = f"attempt {f.attempts}" if f.attempts > 1 else ""
    return COMPLETED, f.step_id, f.duration_ms, "recovered" if f.recovered else tries


def _step_failed(f: e.StepFailed) -> Words:
    return FAILED, f.step_id, f.duration_ms, (f.error, "(the run goes on)" if f.continued else None)


def _started(f: e.ExecutionStarted) -> Words:
    tries = f"attempt {f.attempt}" if f.attempt > 1 else None
    return RUNNING, f.step_id, -1, (f.strategy, f.model or f.tool_name, tries)


def _tool_called(f: e.ToolCalled) -> Words | None:
    return (RUNNING, f.step_id, -1, f"calls {f.tool_name}") if f.call_id else None


def _tool_returned(f: e.ToolReturned) -> Words | None:
    if not f.call_id:
        return None
    mark = COMPLETED if f.success else FAILED
    return mark, f.step_id, f.duration_ms, f.tool_name if f.success else (f"{f.tool_name}:", f.error)


def _responded(f: e.AIResponded) -> Words:
    return COMPLETED, f.step_id, f.duration_ms, f.model


def _throttled(f: e.AIThrottled) -> Words:
    return RETRYING, f.step_id, f.delay_ms, f"{f.model}: {f.reason}"


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(list(values)[:8])


def _routine_at(fact: e.RoutineStarted | e.RoutineCompleted | e.RoutineFailed) -> str:
    """A child routine is known by the step that runs it: a thousand of them have one name."""
    step = fact.parent_step_id
    return step if step and not step.startswith(TASK) else fact.routine


def _routine_started(fact: e.RoutineStarted) -> Words:
    subject = _routine_at(fact)
    steps = f"{fact.step_count:,} step{'' if fact.step_count == 1 else 's'}"
    return RUNNING, subject, -1, steps if subject == fact.routine else f"{fact.routine}, {steps}"


WORDS_OF: dict[type[e.Event], Callable[[Any], Words | None]] = {
    e.RoutineStarted: _routine_started,
    e.RoutineCompleted: lambda f: (COMPLETED, _routine_at(f), f.duration_ms, ""),
    e.RoutineFailed: lambda f: (FAILED, _routine_at(f), f.duration_ms, f.error),
    e.RoutineSuspended: lambda f: (SUSPENDED, f.routine, -1, f"waits for {', '.join(f.steps[:8])}"),
    e.RoutineResumed: lambda f: (RUNNING, f.routine, -1, f"resumption {f.resumption}"),
    e.RoutineCancelled: lambda f: (CANCELLED, f.routine, f.duration_ms, f.reason),
    e.BatchStarted: lambda f: (RUNNING, f"batch {f.batch + 1}", -1, f"{f.count:,} step{'' if f.count == 1 else 's'}"),
    e.BatchCompleted: lambda f: (COMPLETED, f"batch {f.batch + 1}", -1, ""),
    e.StepCompleted: _step_completed,
    e.StepFailed: _step_failed,
    e.StepCancelled: lambda f: (CANCELLED, f.step_id, f.duration_ms, f.reason),
    e.StepSkipped: lambda f: (SKIPPED, f.step_id, -1, f.reason),
    e.StepRetrying: lambda f: (RETRYING, f.step_id, f.delay_ms, f.error),
    e.StepReused: lambda f: (COMPLETED, f.step_id, -1, f.reason),
    e.StepSuspended: lambda f: (SUSPENDED, f.step_id, -1, f.prompt or f.reason),
    e.StepExpanded: lambda f: (RUNNING, f.step_id, -1, f"{f.count:,} item{'' if f.count == 1 else 's'}"),
    e.StepIterated: lambda f: (RUNNING, f.step_id, -1, f"turn {f.iteration} ended"),
    e.ContextExported: lambda f: (READY, f.step_id, -1, _names(f.values)),
    e.ExecutionStarted: _started,
    e.ToolCalled: _tool_called,
    e.ToolReturned: _tool_returned,
    e.ToolTold: lambda f: (RUNNING, f.step_id, -1, f"{f.tool_name}: {f.message}"),
    e.AIRequested: lambda f: (RUNNING, f.step_id, -1, f.model if f.turn == 1 else f"{f.model}, turn {f.turn}"),
    e.AIResponded: _responded,
    e.AIThrottled: _throttled,
    e.AIFallback: lambda f: (RETRYING, f.step_id, -1, f"{f.model} → {f.to_model}: {f.reason}"),
    e.ResourcesWarning: lambda f: (ALERT, f.resource, -1, f"{f.used} of {f.limit} used"),
    e.ResourcesExhausted: lambda f: (FAILED, f.resource, -1, f"the limit of {f.limit} is reached"),
    e.ApprovalRequested: lambda f: (SUSPENDED, f.step_id, -1, f.prompt),
    e.ApprovalGranted: lambda f: (COMPLETED, f.step_id, -1, f"by {f.by}"),
    e.ApprovalDenied: lambda f: (FAILED, f.step_id, -1, f"by {f.by}"),
    e.PermissionDenied: lambda f: (FAILED, f.step_id, -1, f"{f.tool_name}: {f.reason}"),
    e.SwarmStarted: lambda f: (RUNNING, f.swarm or "swarm", -1, f.goal),
    e.SwarmCompleted: lambda f: (COMPLETED, "swarm", f.duration_ms, f"{f.tasks_completed} tasks"),
    e.SwarmFailed: lambda f: (FAILED, "swarm", f.duration_ms, f.error),
    e.SwarmSuspended: lambda f: (SUSPENDED, "swarm", -1, f"waits for {', '.join(f.tasks[:8])}"),
    e.SwarmResumed: lambda f: (RUNNING, "swarm", -1, f"resumption {f.resumption}"),
    e.SwarmCancelled: lambda f: (CANCELLED, "swarm", f.duration_ms, f.reason),
    e.GoalDecomposed: lambda f: (COMPLETED, "goal", -1, f"{len(f.tasks)} tasks, {f.source}"),
    e.TeamFormed: lambda f: (COMPLETED, "team", -1, f"{len(f.assignments)} tasks assigned"),
    e.TeamUpdated: lambda f: (RUNNING, "team", -1, f.reason),
    e.NormViolated: lambda f: (ALERT, f.norm, -1, f"{f.agent_id} ({f.role}): {f.reason}"),
    e.NormFulfilled: lambda f: (COMPLETED, f.norm, -1, f"{f.agent_id} ({f.role})"),
    e.PhaseStarted: lambda f: (RUNNING, f"phase {f.phase + 1}", -1, f"{len(f.tasks)} tasks"),
    e.PhaseCompleted: lambda f: (COMPLETED, f"phase {f.phase + 1}", -1, ""),
    e.TaskAssigned: lambda f: (READY, f.task_id, -1, f"to {f.agent_id}: {f.reason}"),
    e.TaskStarted: lambda f: (RUNNING, f.task_id, -1, f.agent_id if f.attempt < 2 else f"{f.agent_id}, {f.attempt}."),
    e.TaskCompleted: lambda f: (COMPLETED, f.task_id, f.duration_ms, f.agent_id),
    e.TaskFailed: lambda f: (FAILED, f.task_id, f.duration_ms, (f"{f.agent_id}:", f.error)),
    e.TaskReassigned: lambda f: (RETRYING, f.task_id, -1, f"{f.from_agent} → {f.agent_id}: {f.reason}"),
    e.PlanRevised: lambda f: (RETRYING, "plan", -1, f.reason),
    e.SafetyVerdict: lambda f: (READY if f.verdict == "allow" else ALERT, f.step_id, -1, f"{f.guard}: {f.verdict}"),
    e.AgentFinding: lambda f: (ALERT, f.agent, -1, f"{f.severity}: {f.message}"),
    e.HandlerFailed: lambda f: (ALERT, f.handler, -1, f.message),
}
