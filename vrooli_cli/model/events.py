"""Everything that can happen, as past-tense plain data: one class a type (spec cli.md, "Events").

A *fact* (:class:`Event`) is what a tier says; an :class:`ExecutionEvent` is a fact as it leaves the process: with its
number, its time and who asked for it. Facts are slots dataclasses without pydantic on their way, they are made five
times a step; :func:`fact_of` reads them back from the log, and ``events_schema`` describes the wire.

A field that is None is left out of the payload.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import field
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, ClassVar, TypeVar, dataclass_transform

from vrooli_cli.errors import Tier
from vrooli_cli.model.values import lean, slotted

VERSION = 1
E = TypeVar("E", bound="Event")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def fact(type_: str, *, volatile: bool = False) -> Callable[[type[E]], type[E]]:
    """Makes a class of :class:`Event` one kind of fact; the tier is the type's first segment."""

    def make(cls: type[E]) -> type[E]:
        # No generated method instead of four a class: sixty classes are made at every start, five are used.
        made = slotted(cls, kw_only=True)
        made.type = type_
        tier = type_.split("/", 1)[0]
        made.tier = tier if tier in ("tier1", "tier2", "tier3") else None  # type: ignore[assignment]
        made.volatile = volatile
        return made

    return make


@fact("")
class Event:
    """What happened; ``execution_id`` says in which execution.

    Frozen for the type checker only: a frozen dataclass takes four times as long to make, and a step makes five.
    """

    type: ClassVar[str] = ""
    tier: ClassVar[Tier | None] = None
    volatile: ClassVar[bool] = False

    execution_id: str

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.payload().items())
        return f"{type(self).__name__}(execution_id={self.execution_id!r}, {told})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.execution_id == other.execution_id and self.payload() == other.payload()

    def __hash__(self) -> int:
        return hash((type(self), self.execution_id))

    def payload(self) -> dict[str, Any]:
        """The fields beside ``execution_id`` that have a value."""
        names, read = _layout(type(self))
        return {name: value for name, value in zip(names, read(self), strict=True) if value is not None}


def _layout(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """The names of every field beside ``execution_id``, and what reads them all at once."""
    return _known_layout(kind)


@lru_cache(None)
def _known_layout(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(f.name for f in dataclasses.fields(kind) if f.name != "execution_id")
    if len(names) == 1:
        one = attrgetter(names[0])
        return names, lambda event: (one(event),)
    return names, attrgetter(*names) if names else lambda event: ()


Emit = Callable[[Event], None]
"""Says that something happened. Never waits, never raises; nobody sees it before it is in the log."""

# --- tier 2: one routine ---------------------------------------------------------------------------------------------


@fact("tier2/routine/started")
class RoutineStarted(Event):
    """A routine run began, the root one or a child; ``started_ns`` is what ``run.started_at`` says, in every life."""

    routine: str
    step_count: int
    inputs: Mapping[str, Any] | None = None
    parent_execution_id: str | None = None
    parent_step_id: str | None = None
    started_ns: int | None = None


@fact("tier2/routine/completed")
class RoutineCompleted(Event):
    """Every step has ended and the outputs are there."""

    routine: str
    result: Any = None
    duration_ms: int = 0
    parent_step_id: str | None = None


@fact("tier2/routine/failed")
class RoutineFailed(Event):
    """A failure that no ``on_error`` took, a time-out, or a failing ``finally``."""

    routine: str
    error: Mapping[str, Any]
    duration_ms: int = 0
    parent_step_id: str | None = None


@fact("tier2/routine/suspended")
class RoutineSuspended(Event):
    """Nothing can go on before a person has answered."""

    routine: str
    steps: tuple[str, ...]
    code: str = "APPROVAL_REQUIRED"
    duration_ms: int = 0


@fact("tier2/routine/resumed")
class RoutineResumed(Event):
    """The run goes on: what failed, was cancelled or was caught in flight is open again.

    ``active_ms`` is how long its earlier lives took, so that ``max_duration`` holds over all of them.
    """

    routine: str
    assume: Mapping[str, str] | None = None
    resumption: int = 1
    active_ms: int | None = None


@fact("tier2/routine/cancelled")
class RoutineCancelled(Event):
    """The run was stopped from outside, and everything it had started has ended."""

    routine: str
    reason: str
    duration_ms: int = 0
    parent_step_id: str | None = None


@fact("tier2/batch/started")
class BatchStarted(Event):
    """The first step of a topological batch started; ``steps`` names at most 100 of ``count``."""

    batch: int
    steps: tuple[str, ...]
    count: int


@fact("tier2/batch/completed")
class BatchCompleted(Event):
    """The last step of a batch ended."""

    batch: int
    count: int


@fact("tier2/step/ready")
class StepReady(Event):
    """A step may start and had to wait for a slot; or a composite step has opened its inside."""

    step_id: str


@fact("tier2/step/completed")
class StepCompleted(Event):
    """The step's own verdict, with its result; ``recovered`` when ``on_error`` gave the value."""

    step_id: str
    result: Any = None
    attempts: int = 1
    duration_ms: int = 0
    recovered: bool | None = None
    error: Mapping[str, Any] | None = None
    exports: Mapping[str, Any] | None = None
    effects: str | None = None


@fact("tier2/step/failed")
class StepFailed(Event):
    """The step's own verdict; ``continued`` when ``on_error: continue`` took it."""

    step_id: str
    error: Mapping[str, Any]
    attempts: int = 1
    duration_ms: int = 0
    continued: bool | None = None
    effects: str | None = None


@fact("tier2/step/cancelled")
class StepCancelled(Event):
    """The step was stopped, or never started because the run is stopping."""

    step_id: str
    reason: str
    attempts: int = 0
    duration_ms: int = 0


@fact("tier2/step/skipped")
class StepSkipped(Event):
    """The step will not run: its ``when``, its ``trigger_rule``, or a failure above it (``tainted``)."""

    step_id: str
    reason: str
    tainted: bool | None = None


@fact("tier2/step/retrying")
class StepRetrying(Event):
    """An attempt failed and another follows in ``delay_ms``; no slot is held meanwhile."""

    step_id: str
    attempt: int
    delay_ms: int
    error: Mapping[str, Any]


@fact("tier2/step/reused")
class StepReused(Event):
    """The result of an earlier run stands; ``reason`` says why."""

    step_id: str
    reason: str
    result: Any = None
    from_run: str | None = None


@fact("tier2/step/suspended")
class StepSuspended(Event):
    """The step waits for a person; ``deadline`` is when ``on_timeout`` answers (nanoseconds since 1970)."""

    step_id: str
    reason: str
    code: str = "APPROVAL_REQUIRED"
    prompt: str | None = None
    deadline: int | None = None


@fact("tier2/step/expanded")
class StepExpanded(Event):
    """A loop's items are known; they are never computed again."""

    step_id: str
    count: int
    items: Any
    keys: tuple[str, ...] | None = None


@fact("tier2/step/iterated")
class StepIterated(Event):
    """One turn of a ``repeat`` has ended and another follows."""

    step_id: str
    iteration: int
    result: Any = None
    delay_ms: int = 0


@fact("tier2/context/set")
class ContextSet(Event):
    """A step's ``set`` changed run variables."""

    step_id: str
    values: Mapping[str, Any]


@fact("tier2/context/exported")
class ContextExported(Event):
    """A step's ``export`` wrote to the blackboard."""

    step_id: str
    values: Mapping[str, Any]


# --- tier 3: one attempt ---------------------------------------------------------------------------------------------


@fact("tier3/execution/started")
class ExecutionStarted(Event):
    """An attempt began. Recorded by whoever decided it (tier 2's machine, or a direct call of tier 3).

    ``reason`` says in a rerun why the result of the earlier run does not stand.
    """

    step_id: str
    attempt: int
    strategy: str | None = None
    tool_name: str | None = None
    model: str | None = None
    effects: str | None = None
    reason: str | None = None


@fact("tier3/execution/completed")
class ExecutionCompleted(Event):
    """An attempt succeeded; the result itself is in ``step/completed``."""

    step_id: str
    attempt: int
    duration_ms: int
    success: bool = True
    resources_used: Mapping[str, Any] = field(default_factory=dict)
    effects: str | None = None


@fact("tier3/execution/failed")
class ExecutionFailed(Event):
    """An attempt failed."""

    step_id: str
    attempt: int
    duration_ms: int
    error: Mapping[str, Any]
    success: bool = False
    resources_used: Mapping[str, Any] = field(default_factory=dict)
    effects: str | None = None


@fact("tier3/execution/cancelled")
class ExecutionCancelled(Event):
    """An attempt was stopped; ``interrupted`` when its process had died."""

    step_id: str
    attempt: int
    reason: str
    duration_ms: int = 0
    interrupted: bool | None = None


@fact("tier3/tool/called")
class ToolCalled(Event):
    """A tool is about to be called; ``call_id`` is the model's, when a model chose the call."""

    step_id: str
    attempt: int
    tool_name: str
    effects: str
    parameters: Mapping[str, Any] | None = None
    call_id: str | None = None


@fact("tier3/tool/returned")
class ToolReturned(Event):
    """A tool answered or failed; ``result`` only for calls that a model chose (they are replayed after a crash).

    ``begun`` is false for a call that was stopped before: while it queued for another machine, or for the disk.
    """

    step_id: str
    attempt: int
    tool_name: str
    duration_ms: int
    success: bool = True
    credits: int | None = None
    error: Mapping[str, Any] | None = None
    result: Any = None
    call_id: str | None = None
    begun: bool | None = None


@fact("tier3/tool/told")
class ToolTold(Event):
    """A tool says how it gets on: ``ToolContext.emit``, and the progress that an MCP server tells."""

    step_id: str
    attempt: int
    tool_name: str
    message: str
    details: Mapping[str, Any] | None = None
    call_id: str | None = None


@fact("tier3/ai/requested")
class AIRequested(Event):
    """A request to a model is about to be sent; ``turn`` counts from 1.

    ``asked_model`` is what the endpoint (``host:port``) calls the model, when that is another name; ``unpriced`` says
    that nobody knows its price, so that it counts as 0.
    """

    step_id: str
    attempt: int
    model: str
    turn: int = 1
    messages: Any = None
    tools: tuple[str, ...] | None = None
    asked_model: str | None = None
    endpoint: str | None = None
    unpriced: bool | None = None


@fact("tier3/ai/delta", volatile=True)
class AIDelta(Event):
    """Text as it streams; coalesced, never stored."""

    step_id: str
    attempt: int
    text: str


@fact("tier3/ai/responded")
class AIResponded(Event):
    """A model answered. ``request_hash`` and ``nth`` name the exchange for replay after a crash.

    ``answered_model`` is the model that the endpoint says it was, when that is another name.
    """

    step_id: str
    attempt: int
    model: str
    duration_ms: int
    turn: int = 1
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    credits: int | None = None
    text: str | None = None
    tool_calls: Any = None
    request_hash: str | None = None
    nth: int | None = None
    reply: Any = None
    answered_model: str | None = None


@fact("tier3/ai/throttled")
class AIThrottled(Event):
    """An endpoint refused for now; the call waits."""

    step_id: str
    attempt: int
    model: str
    delay_ms: int
    reason: str


@fact("tier3/ai/fallback")
class AIFallback(Event):
    """A model could not answer; the next in the list is asked."""

    step_id: str
    attempt: int
    model: str
    to_model: str
    reason: str


@fact("tier3/ledger/reserved")
class LedgerReserved(Event):
    """The worst case of a call was set aside."""

    step_id: str
    reservation: str
    credits: int
    account: str


@fact("tier3/ledger/settled")
class LedgerSettled(Event):
    """A reservation ended: with what was really used, or ``estimated`` when nobody can know."""

    step_id: str
    reservation: str
    credits: int
    account: str
    estimated: bool | None = None


@fact("tier3/resources/warning")
class ResourcesWarning(Event):
    """80 % of a limit is used."""

    resource: str
    used: int
    limit: int
    step_id: str | None = None


@fact("tier3/resources/exhausted")
class ResourcesExhausted(Event):
    """A limit is reached and something was not done for it."""

    resource: str
    used: int
    limit: int
    step_id: str | None = None


@fact("tier3/approval/requested")
class ApprovalRequested(Event):
    """A person is asked."""

    step_id: str
    prompt: str
    digest: str | None = None


@fact("tier3/approval/granted")
class ApprovalGranted(Event):
    """A person, ``--yes`` or a time-out said yes; bound to the digest of what was shown."""

    step_id: str
    by: str
    comment: str | None = None
    digest: str | None = None


@fact("tier3/approval/denied")
class ApprovalDenied(Event):
    """A person, ``--no-input`` or a time-out said no."""

    step_id: str
    by: str
    comment: str | None = None
    digest: str | None = None


@fact("tier3/permission/denied")
class PermissionDenied(Event):
    """The gate refused an action; ``rule`` and ``source`` say by what."""

    step_id: str
    tool_name: str
    rule: str
    source: str
    reason: str
    agent_id: str | None = None


# --- tier 1: a swarm -------------------------------------------------------------------------------------------------


@fact("tier1/swarm/coordination_started")
class SwarmStarted(Event):
    """A swarm began to work on its goal."""

    goal: str
    agent_count: int
    swarm: str = ""
    inputs: Mapping[str, Any] | None = None


@fact("tier1/swarm/coordination_completed")
class SwarmCompleted(Event):
    """Every task has ended and the results are put together."""

    goal: str
    tasks_completed: int
    result: Any = None
    duration_ms: int = 0


@fact("tier1/swarm/coordination_failed")
class SwarmFailed(Event):
    """The goal was not reached; ``not_run`` is task → status and reason, of those that never began."""

    goal: str
    error: Mapping[str, Any]
    duration_ms: int = 0
    not_run: Mapping[str, Any] | None = None


@fact("tier1/swarm/coordination_suspended")
class SwarmSuspended(Event):
    """Nothing can go on before a person has answered."""

    goal: str
    tasks: tuple[str, ...]
    code: str = "APPROVAL_REQUIRED"
    duration_ms: int = 0


@fact("tier1/swarm/coordination_resumed")
class SwarmResumed(Event):
    """The swarm goes on."""

    goal: str
    resumption: int = 1


@fact("tier1/swarm/coordination_cancelled")
class SwarmCancelled(Event):
    """The swarm was stopped from outside; ``not_run`` is task → status and reason, of those that never began."""

    goal: str
    reason: str
    duration_ms: int = 0
    not_run: Mapping[str, Any] | None = None


@fact("tier1/goal/decomposed")
class GoalDecomposed(Event):
    """The goal has become tasks; ``source`` is ``given``, ``model`` or ``scheme``."""

    goal: str
    tasks: Any
    source: str
    repairs: int = 0


@fact("tier1/team/formed")
class TeamFormed(Event):
    """Every task has an agent and a reason; ``organisation`` holds groups, plays and commitments, if any."""

    assignments: Mapping[str, Any]
    agents: Any = None
    roles: Mapping[str, Any] | None = None
    makespan: float | None = None
    leader: str | None = None
    organisation: Mapping[str, Any] | None = None


@fact("tier1/team/updated")
class TeamUpdated(Event):
    """The team changed while the swarm runs."""

    assignments: Mapping[str, Any]
    reason: str


@fact("tier1/norm/violated")
class NormViolated(Event):
    """A norm was broken, or would have been: agent, role, norm and step."""

    norm: str
    agent_id: str
    role: str
    reason: str
    step_id: str | None = None
    task_id: str | None = None
    escalated_to: str | None = None


@fact("tier1/norm/fulfilled")
class NormFulfilled(Event):
    """An obligation was met."""

    norm: str
    agent_id: str
    role: str
    task_id: str | None = None


@fact("tier1/phase/started")
class PhaseStarted(Event):
    """The first task of a generation of the task graph started."""

    phase: int
    tasks: tuple[str, ...]


@fact("tier1/phase/completed")
class PhaseCompleted(Event):
    """The last task of a phase ended."""

    phase: int


@fact("tier1/task/assigned")
class TaskAssigned(Event):
    """A task has an agent."""

    task_id: str
    agent_id: str
    reason: str


@fact("tier1/task/started")
class TaskStarted(Event):
    """A task began as a child run."""

    task_id: str
    agent_id: str
    attempt: int
    task_execution_id: str


@fact("tier1/task/completed")
class TaskCompleted(Event):
    """A task succeeded; ``counts`` says how many of its steps are where."""

    task_id: str
    agent_id: str
    result: Any = None
    duration_ms: int = 0
    credits: int = 0
    counts: Mapping[str, int] | None = None


@fact("tier1/task/failed")
class TaskFailed(Event):
    """A task failed with this agent; ``counts`` says how many of its steps are where."""

    task_id: str
    agent_id: str
    error: Mapping[str, Any]
    duration_ms: int = 0
    effects: str | None = None
    counts: Mapping[str, int] | None = None


@fact("tier1/task/reassigned")
class TaskReassigned(Event):
    """Another agent tries."""

    task_id: str
    agent_id: str
    from_agent: str
    reason: str


@fact("tier1/plan/revised")
class PlanRevised(Event):
    """The open part of the plan was made anew, by the model or by another branch of a ``choice``.

    ``tasks`` are all that are in the plan now; ``tried`` is choice → the branches (goals) that have failed.
    """

    tasks: Any
    assignments: Mapping[str, Any]
    reason: str
    source: str = "model"
    tried: Mapping[str, Any] | None = None
    organisation: Mapping[str, Any] | None = None
    roles: Mapping[str, Any] | None = None


# --- across the tiers ------------------------------------------------------------------------------------------------


@fact("safety/pre_action")
class SafetyPreAction(Event):
    """An action with effects is about to happen and a guard listens."""

    step_id: str
    tool_name: str
    effects: str
    parameters: Mapping[str, Any] | None = None
    agent_id: str | None = None


@fact("safety/verdict")
class SafetyVerdict(Event):
    """What a guard said."""

    step_id: str
    guard: str
    verdict: str
    reason: str | None = None


@fact("agent/finding")
class AgentFinding(Event):
    """An event agent noticed something."""

    agent: str
    severity: str
    message: str
    step_id: str | None = None
    details: Mapping[str, Any] | None = None


@fact("system/handler_failed")
class HandlerFailed(Event):
    """A subscriber raised, took longer than its time, or fell behind and lost events (``dropped``)."""

    handler: str
    message: str
    dropped: int | None = None


def _concrete(kind: type[Event]) -> Iterable[type[Event]]:
    for child in kind.__subclasses__():
        yield child
        yield from _concrete(child)


@lru_cache(1)
def event_types() -> dict[str, type[Event]]:
    """Type text → class, for every event there is."""
    return {kind.type: kind for kind in _concrete(Event) if kind.type}


def fact_of(wire: Mapping[str, Any]) -> Event | None:
    """The fact in a line of the log; None for a type that this version does not know (a newer or a foreign one)."""
    kind = event_types().get(wire["type"])
    if kind is None:
        return None
    known = set(_layout(kind)[0])
    payload = {key: value for key, value in wire["payload"].items() if key in known}
    return kind(execution_id=wire["execution_id"], **payload)


@lean()
class EventMetadata:
    """Who asked, and what it belongs to."""

    correlation_id: str = ""
    user_id: str = ""
    swarm_id: str | None = None
    parent_event_id: str | None = None

    def wire(self) -> dict[str, Any]:
        """The plain form."""
        return {
            "correlation_id": self.correlation_id,
            "user_id": self.user_id,
            "swarm_id": self.swarm_id,
            "parent_event_id": self.parent_event_id,
        }


@lean(kw_only=True)
class ExecutionEvent:
    """An event as it leaves the process: the seed's envelope around a fact.

    Attributes:
        seq: Its number in the root run, from 1, without gaps but for volatile events (0).
        id: ``RUN-SEQ``.
        fact: The typed fact; None for an event that a caller of ``EventBus.emit`` made up.
    """

    type: str
    execution_id: str
    payload: Mapping[str, Any]
    tier: Tier | None = None
    id: str = ""
    seq: int = 0
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    metadata: EventMetadata = field(default_factory=EventMetadata)
    fact: Event | None = None

    def wire(self) -> dict[str, Any]:
        """One NDJSON line as data (spec cli.md, "Events")."""
        stamp = self.timestamp.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "v": VERSION,
            "seq": self.seq,
            "id": self.id,
            "type": self.type,
            "timestamp": stamp,
            "execution_id": self.execution_id,
            "tier": self.tier,
            "payload": dict(self.payload),
            "metadata": self.metadata.wire(),
        }


EventHandler = Callable[[ExecutionEvent], Awaitable[None]]
"""What a subscriber is: an async function of one event; it has 5 s a call and cannot disturb the run."""
