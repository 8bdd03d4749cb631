"""What a run is asked for and what it answers: the seed's types, frozen.

These are the values of the public door (``architecture.tier2.execute(TierExecutionRequest(…))``) and of ``-o json``.
Times end in ``_ms``; credits are integers, strings on the wire (one credit is a millionth of a US dollar).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from vrooli_cli.errors import Tier, VrooliError
from vrooli_cli.model.values import lean

Priority = Literal["low", "medium", "high"]
Effects = Literal["none", "idempotent", "once"]
"""How often an action may happen: ``none`` leaves no trace, ``idempotent`` may be repeated, ``once`` must not be."""

EFFECTS_ORDER: dict[str, int] = {"none": 0, "idempotent": 1, "once": 2}


class ExecutionStatus(StrEnum):
    """Where a run is."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    """Where a step is."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    RETRYING = "retrying"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class ExecutionStrategy(StrEnum):
    """How tier 3 does a step (spec ai.md, "Strategies")."""

    CONVERSATIONAL = "conversational"
    REASONING = "reasoning"
    DETERMINISTIC = "deterministic"


def _whole(name: str, value: object, least: int) -> None:
    """Raises ValueError for what is not a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: expected a whole number, at least {least}, not {value!r}")


def _limit(name: str, value: object) -> None:
    """The same for a bound that may be missing, and is never 0."""
    if value is not None:
        _whole(name, value, 1)


@lean(kw_only=True)
class ExecutionContext:
    """Who runs what, and since when; the same on every tier."""

    execution_id: str
    swarm_id: str | None = None
    user_id: str = ""
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    correlation_id: str = ""
    parent_execution_id: str | None = None

    def record(self) -> dict[str, Any]:
        """The plain form in which the history keeps it."""
        return {**asdict(self), "timestamp": self.timestamp.isoformat().replace("+00:00", "Z")}

    @classmethod
    def recorded(cls, plain: Mapping[str, Any]) -> ExecutionContext:
        """The context that :meth:`record` wrote."""
        stamp = plain.get("timestamp")
        moment = {"timestamp": datetime.fromisoformat(stamp)} if isinstance(stamp, str) else {}
        return cls(**{**plain, **moment})


@lean(kw_only=True)
class ResourceAllocation:
    """Ceilings, never holds: what a request may use at the most.

    Attributes:
        max_credits: A whole number; given and shown as text so that no JSON reader rounds it.
        max_duration_ms: Active time over all resumes; None is no limit.
        max_memory_mb: Resident memory of the child processes together; None is no limit.
        max_concurrent_steps: Steps at work at one moment.
    """

    max_credits: str = "1000000"
    max_duration_ms: int | None = None
    max_memory_mb: int | None = None
    max_concurrent_steps: int = 8

    def __post_init__(self) -> None:
        credits_: object = self.max_credits
        text = str(credits_) if isinstance(credits_, int | str) and not isinstance(credits_, bool) else ""
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"max_credits: expected a whole number of credits, at least 0, not {credits_!r}")
        self.max_credits = text  # type: ignore[misc]
        _limit("max_duration_ms", self.max_duration_ms)
        _limit("max_memory_mb", self.max_memory_mb)
        _whole("max_concurrent_steps", self.max_concurrent_steps, 1)


@lean(kw_only=True)
class ResourceUsage:
    """What was used."""

    credits_used: str = "0"
    duration_ms: int = 0
    memory_used_mb: int = 0
    steps_executed: int = 0


@lean(kw_only=True)
class ExecutionError:
    """Why something failed, as a value (spec routine.md, "Errors").

    Attributes:
        code: One of :data:`vrooli_cli.errors.ERROR_CODES`, or a tool's own.
        message: One line.
        tier: The tier that found it; None before a tier ran.
        step: The step's path.
        context: JSON-able details.
        cause: The error under it, in words.
    """

    code: str
    message: str
    tier: Tier | None = None
    step: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    cause: str | None = None

    @classmethod
    def of(cls, error: VrooliError, *, step: str | None = None, tier: Tier | None = None) -> ExecutionError:
        """The value of a raised error."""
        cause = f"{type(error.__cause__).__name__}: {error.__cause__}"[:500] if error.__cause__ else None
        return cls(
            code=error.code,
            message=error.message,
            tier=error.tier or tier,
            step=error.step or step,
            context=error.context,
            cause=cause,
        )

    def wire(self) -> dict[str, Any]:
        """The plain form that results carry; ``cause`` only where there is one."""
        plain: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "tier": self.tier,
            "step": self.step,
            "context": self.context,
        }
        if self.cause:
            plain["cause"] = self.cause
        return plain


def cancelled_error(tier: Tier) -> ExecutionError:
    """The error of a run that was stopped from outside before anything in it had failed."""
    return ExecutionError(code="CANCELLED", message="the run was cancelled", tier=tier)


def waiting_error(code: str, steps: Sequence[str]) -> ExecutionError:
    """The error of a suspended run: ``steps`` wait, and the first of them is named."""
    what = "nobody knows whether it happened" if code == "OUTCOME_UNKNOWN" else "it waits for an approval"
    more = f" (and {len(steps) - 1} more)" if len(steps) > 1 else ""
    return ExecutionError(code=code, message=f"{steps[0]}: {what}{more}", tier="tier2", step=steps[0])


@lean(kw_only=True)
class RetryPolicy:
    """When to try again (spec routine.md, ``retry``).

    Attributes:
        max_attempts: Counts the first try.
        delay_ms: Before the second attempt.
        backoff: The factor from one delay to the next; 1 keeps it.
        max_delay_ms: No delay is longer.
        jitter: The part of a delay, 0 to 1, that is spread by a hash of run, step and attempt.
        on: Only these codes; empty is every code but those that are never retried.
        when: An expression over ``error``; evaluated by tier 2.
        written: True when the step itself says ``retry``: consent that holds for ``once`` effects as well.
    """

    max_attempts: int = 3
    delay_ms: int = 1000
    backoff: float = 2.0
    max_delay_ms: int = 60_000
    jitter: float = 0.1
    on: tuple[str, ...] = ()
    when: Any = None
    written: bool = True

    def __post_init__(self) -> None:
        _whole("max_attempts", self.max_attempts, 1)
        _whole("delay_ms", self.delay_ms, 0)
        _whole("max_delay_ms", self.max_delay_ms, 0)
        if self.max_attempts > 1000 or self.backoff < 1 or not 0 <= self.jitter <= 1:
            raise ValueError("expected at most 1000 for max_attempts, at least 1 for backoff, 0 to 1 for jitter")


# Never retried unless `on` names them (spec routine.md, "Effects and retry").
NEVER_RETRIED: frozenset[str] = frozenset(
    {
        "PERMISSION_DENIED",
        "NORM_VIOLATED",
        "APPROVAL_REQUIRED",
        "APPROVAL_DENIED",
        "PARAMETER_INVALID",
        "EXPRESSION_ERROR",
        "CREDITS_EXHAUSTED",
        "RUN_TIMEOUT",
        "CANCELLED",
        "OUTCOME_UNKNOWN",
        "MEMORY_EXCEEDED",
        "STORE_ERROR",
        "INTERNAL",
    }
)
# Failures with which a conversation with a model has come to its own end. After any other one the next attempt goes on
# where it broke; after these it would have to begin anew, and so would its effects.
CONVERSATION_OVER: frozenset[str] = frozenset({"AI_OUTPUT_INVALID", "AI_REFUSED", "OUTPUT_INVALID"})
# `on_error` never takes these (spec routine.md, "Conditions, loops, failure"); INTERRUPTED is a cluster that is gone.
NEVER_TAKEN: frozenset[str] = frozenset(
    {"RUN_TIMEOUT", "CANCELLED", "CREDITS_EXHAUSTED", "MEMORY_EXCEEDED", "STORE_ERROR", "INTERRUPTED"}
)
# A denial is taken only by `recover`, never by `continue`.
DENIALS: frozenset[str] = frozenset({"PERMISSION_DENIED", "APPROVAL_DENIED", "NORM_VIOLATED"})
# Of a model step without `retry` whose answer broke off when a part of it had been shown: it begins anew, and says so.
AFTER_A_BREAK = RetryPolicy(delay_ms=1000, written=False)
BROKEN_OFF = "broken_off"
"""True in the context of an error that says so."""


def next_delay(policy: RetryPolicy, attempt: int, error: ExecutionError, run_id: str, address: str) -> int | None:
    """Milliseconds to wait before the attempt after ``attempt``, or None when there is none.

    Pure: the jitter is a hash of the arguments, so a resumed run waits as long as the uncut one. ``policy.when`` is the
    caller's to ask, it needs the names of the run.
    """
    if attempt >= policy.max_attempts or not _retryable(policy, error):
        return None
    delay = min(policy.delay_ms * policy.backoff ** (attempt - 1), policy.max_delay_ms)
    if policy.jitter and delay:
        digest = hashlib.blake2b(f"{run_id}\0{address}\0{attempt}".encode(), digest_size=8).digest()
        spread = int.from_bytes(digest, "big") / 2**64 * 2 - 1
        delay *= 1 + policy.jitter * spread
    return max(0, round(delay))


def _retryable(policy: RetryPolicy, error: ExecutionError) -> bool:
    if policy.on:
        return error.code in policy.on or error.context.get("code") in policy.on
    return error.code not in NEVER_RETRIED and error.context.get("retryable") is not False


@lean(kw_only=True)
class ExecutionOptions:
    """Bounds of a request as a whole."""

    timeout_ms: int | None = None
    priority: Priority = "medium"
    retry_policy: RetryPolicy | None = None

    def __post_init__(self) -> None:
        _limit("timeout_ms", self.timeout_ms)


@lean(kw_only=True)
class StepDependency:
    """One edge: ``to_step`` starts after ``from_step``."""

    from_step: str
    to_step: str


@lean(kw_only=True)
class ParallelBranch:
    """Steps one after another, beside the other branches."""

    id: str
    steps: tuple[str, ...]


@lean(kw_only=True)
class WorkflowStep:
    """A step as the seed's API writes it: a tool, its parameters, a strategy."""

    id: str
    tool_name: str
    name: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    strategy: ExecutionStrategy = ExecutionStrategy.DETERMINISTIC
    timeout_ms: int | None = None

    def __post_init__(self) -> None:
        self.strategy = ExecutionStrategy(self.strategy)  # type: ignore[misc]
        _limit("timeout_ms", self.timeout_ms)


@lean(kw_only=True)
class WorkflowDefinition:
    """The graph of a routine as the seed's API writes it."""

    steps: tuple[WorkflowStep, ...]
    dependencies: tuple[StepDependency, ...] = ()
    parallel_branches: tuple[ParallelBranch, ...] = ()


@lean(kw_only=True)
class RoutineExecutionInput:
    """What tier 2 is asked: a workflow with its parameters, or a loaded bundle with its inputs.

    Attributes:
        routine_id: The name it is shown under.
        parameters: Values by input name.
        workflow: The graph; not needed when ``bundle`` is given.
        bundle: A :class:`vrooli_cli.model.routine.Bundle` that was loaded from files.
    """

    routine_id: str
    parameters: dict[str, Any] = field(default_factory=dict)
    workflow: WorkflowDefinition | None = None
    bundle: Any = None


@lean(kw_only=True)
class StepExecutionInput:
    """What tier 3 is asked: one step."""

    step_id: str
    tool_name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    strategy: ExecutionStrategy = ExecutionStrategy.DETERMINISTIC

    def __post_init__(self) -> None:
        self.strategy = ExecutionStrategy(self.strategy)  # type: ignore[misc]


@lean(kw_only=True)
class Agent:
    """A member of a swarm (spec swarm.md).

    Attributes:
        capabilities: What it can do; a task goes only to an agent that has all it requires.
        current_load: Places already taken elsewhere.
        max_concurrent_tasks: Tasks at one moment, never in total.
    """

    id: str
    capabilities: tuple[str, ...]
    name: str = ""
    current_load: int = 0
    max_concurrent_tasks: int = 1

    def __post_init__(self) -> None:
        self.capabilities = tuple(self.capabilities)  # type: ignore[misc]
        _whole("current_load", self.current_load, 0)
        _whole("max_concurrent_tasks", self.max_concurrent_tasks, 1)


@lean(kw_only=True)
class TeamConfiguration:
    """What the caller wants of the team."""

    leader: str | None = None


@lean(kw_only=True)
class SwarmCoordinationInput:
    """What tier 1 is asked: a goal and who is there; or a loaded swarm bundle with its inputs (``parameters``)."""

    goal: str
    available_agents: tuple[Agent, ...] = ()
    constraints: Any = None
    team_configuration: TeamConfiguration | None = None
    bundle: Any = None
    parameters: dict[str, Any] = field(default_factory=dict)


@lean(kw_only=True)
class TierExecutionRequest:
    """A request to a tier: frozen data; the caller's live handles travel beside it, in a Scope."""

    context: ExecutionContext
    input: RoutineExecutionInput | SwarmCoordinationInput | StepExecutionInput
    allocation: ResourceAllocation = field(default_factory=ResourceAllocation)
    options: ExecutionOptions = field(default_factory=ExecutionOptions)


@lean(kw_only=True)
class StepResult:
    """A step in an :class:`ExecutionResult` (spec cli.md)."""

    status: StepStatus
    attempts: int = 0
    duration_ms: int = 0
    reused: bool = False
    result: Any = None
    error: ExecutionError | None = None
    reason: str | None = None
    counts: dict[str, int] | None = None
    truncated: bool = False

    def wire(self) -> dict[str, Any]:
        """The plain form of ``-o json``: what has no meaning for this status is left out."""
        plain: dict[str, Any] = {"status": self.status.value}
        if self.status not in (StepStatus.SKIPPED, StepStatus.PENDING, StepStatus.CANCELLED) or self.attempts:
            plain |= {"attempts": self.attempts, "duration_ms": self.duration_ms, "reused": self.reused}
        if self.status is StepStatus.COMPLETED:
            plain["result"] = self.result
        if self.truncated:
            plain["truncated"] = True
        if self.error is not None:
            plain["error"] = self.error.wire()
        if self.reason:
            plain["reason"] = self.reason
        if self.counts is not None:
            plain["counts"] = self.counts
        return plain


def user_name() -> str:
    """Who runs this process; the ``user_id`` of its runs."""
    import getpass

    try:
        return getpass.getuser().encode("utf-8", "replace").decode()  # $USER may hold any bytes
    except (KeyError, OSError):  # a container without a passwd entry
        return str(os.getuid()) if hasattr(os, "getuid") else ""


@lean(kw_only=True)
class ExecutionResult:
    """What every tier answers, also when it was refused or failed: nothing is raised for a failure."""

    success: bool
    status: ExecutionStatus
    context: ExecutionContext
    result: Any = None
    error: ExecutionError | None = None
    resources_used: ResourceUsage = field(default_factory=ResourceUsage)
    duration_ms: int = 0
    steps: dict[str, StepResult] = field(default_factory=dict)

    def wire(self) -> dict[str, Any]:
        """The plain form of ``-o json`` (spec cli.md, "run")."""
        stamp = self.context.timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "success": self.success,
            "status": self.status.value,
            "result": self.result,
            "error": self.error.wire() if self.error else None,
            "resources_used": asdict(self.resources_used),
            "duration_ms": self.duration_ms,
            "context": {
                "execution_id": self.context.execution_id,
                "parent_execution_id": self.context.parent_execution_id,
                "swarm_id": self.context.swarm_id,
                "user_id": self.context.user_id,
                "timestamp": stamp,
                "correlation_id": self.context.correlation_id,
            },
            "steps": {path: step.wire() for path, step in self.steps.items()},
        }
