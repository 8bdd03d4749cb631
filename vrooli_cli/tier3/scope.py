"""What goes down beside a request: the caller's live handles, and the values of one attempt.

A request is frozen data; a :class:`Scope` is alive. A Scope is made by narrowing its parent's (:meth:`Scope.child`), so
allocation, policy and tools can only shrink on the way down. News comes up as ``emit(fact)`` and as the returned
:class:`Outcome`, and in no other way.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field, replace
from typing import Any, Final, Literal, Protocol

from vrooli_cli.errors import VrooliError
from vrooli_cli.gate import Admission, Gate, Policy
from vrooli_cli.language.masking import Masker
from vrooli_cli.ledger import Account
from vrooli_cli.model.clock import Clock
from vrooli_cli.model.events import Emit
from vrooli_cli.model.run import Effects, ExecutionError, ExecutionStrategy
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.memory import MemoryMeter

STOP: Final = "stop"
"""``task.cancel(STOP)`` stops an attempt on purpose: its outcome is ``CANCELLED``. Any other cancel propagates."""


@lean(kw_only=True)
class StepCall:
    """One attempt of one step, rendered: what tier 2 hands to tier 3.

    Attributes:
        address: The step's path in its root run; with ``attempt`` it names this attempt everywhere.
        kind: ``tool``, ``prompt`` or ``wait``.
        parameters: Rendered; validated by tier 3.
        prompt: The rendered prompt keys (``prompt, system, messages, tools, …``) when ``kind`` is ``prompt``.
        effects: What the step says; None is "as the tool says".
        priority: The step's; it goes first where requests to a model queue.
        written: True when a person wrote this call in a file; False when a model chose it.
        wait_ms: For ``wait``.
        agent: The swarm's agent that acts, for norms and permissions.
        resources: Worker resources, e.g. ``{"gpu": 1}``.
    """

    address: str
    attempt: int
    kind: Literal["tool", "prompt", "wait"]
    strategy: ExecutionStrategy | None = None
    tool: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    prompt: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    output_schema: Mapping[str, Any] | None = None
    effects: Effects | None = None
    priority: int = 1
    timeout_ms: int | None = None
    memory_mb: int | None = None
    wait_ms: int = 0
    written: bool = True
    agent: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)


@lean()
class Outcome:
    """How an attempt ended: a value, never an exception.

    Attributes:
        error: None for success. Its code is ``CANCELLED`` when the attempt was stopped.
        effects: The strongest effect that was carried out, whatever the verdict.
        credits: Settled and uncertain credits of this attempt.
    """

    result: Any = None
    error: ExecutionError | None = None
    effects: Effects = "none"
    credits: int = 0
    memory_mb: int = 0

    @classmethod
    def failed(cls, error: VrooliError, *, step: str, effects: Effects = "none", credits: int = 0) -> Outcome:
        """The outcome of a raised error."""
        return cls(error=ExecutionError.of(error, step=step, tier="tier3"), effects=effects, credits=credits)


@lean(kw_only=True, frozen=False)
class ToolInvocation:
    """One call of one tool, let in by the gate: plain data that pickles, so that a host may be another process.

    Not frozen for the sake of speed, it is made once a call; nobody changes it.

    Attributes:
        tool: The tool's name; every host has the registry.
        parameters: Validated; expressions as ``BoundExpression``, a rendered script as ``RenderedScript``.
        address: The step's path.
        effects: What this call does to the world, a step's own word included.
        admission: Addresses and paths that the gate has checked; the tool uses these.
        seconds: What is left of the step's time-out when the call begins; None is no limit.
        memory_mb: The ceiling of the command that the call may start; None is no limit but the run's.
        call_id: The model's name of the call, when a model chose it.
    """

    tool: str
    parameters: Mapping[str, Any]
    address: str
    attempt: int
    effects: Effects
    admission: Admission
    seconds: float | None = None
    memory_mb: int | None = None
    written: bool = True
    agent: str | None = None
    call_id: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)


@lean(frozen=False)
class ToolOutcome:
    """How a call ended: a value that pickles, never an exception."""

    result: Any = None
    error: ExecutionError | None = None
    memory_mb: int = 0


class CalledOff(asyncio.CancelledError):
    """A cancel of a call that a host had sent elsewhere, with what is known of it.

    Attributes:
        outcome: How it had ended before the cancel came there; None when it had not begun, and never will.
    """

    def __init__(self, cancel: asyncio.CancelledError, outcome: ToolOutcome | None) -> None:
        super().__init__(*cancel.args)
        self.outcome = outcome


class ToolHost(Protocol):
    """Where tool calls run."""

    async def call(self, tool_call: ToolInvocation, scope: Scope) -> ToolOutcome:
        """One call that the gate has let in.

        Raises nothing but ``asyncio.CancelledError``: when it is known what has become of the call, :class:`CalledOff`.
        """


class StepRunner(Protocol):
    """Does one attempt: the executor, or a wrapper around one (stubs, dry run)."""

    async def attempt(self, call: StepCall, scope: Scope) -> Outcome:
        """Exactly one attempt. Raises nothing but ``asyncio.CancelledError``."""


def _process_environment() -> Mapping[str, str]:
    return os.environ


async def _durable() -> None:
    """Nothing to wait for: the default where there is no journal on disk."""


@lean(kw_only=True, frozen=False)
class Scope:
    """The live handles of one run, narrowed for one child or one attempt.

    Attributes:
        execution_id: The execution that news is said of.
        root_id: The root run; secrets, slots, account and log are the root's.
        emit: Says that something happened.
        account: Where credits are reserved and settled.
        gate: The one door for effects.
        policy: The levels of permission rules in force, outermost first.
        tools: Name → tool, as an overlay-able registry (``tier3.registry.ToolRegistry``).
        host: Where tool calls run (``tier3.host.ToolHost``).
        ai: The model seam (``tier3.ai.service.AIService``); None when nothing here may ask a model.
        masker: Replaces secrets in bytes that leave the process.
        secrets: Secret name → value, for tools that ask for them.
        env: What a child process gets beside PATH, HOME, LANG and TMPDIR.
        environ: The environment that vrooli was started in, for command tools that take over variables by name.
        folder: Where vrooli was started; relative paths of tools start here.
        roots: Folders that file tools may touch without a rule.
        work_dir: A temporary folder of the run, made on first use.
        grace: Seconds from TERM to KILL.
        synced: Returns once the log would survive a power loss; awaited before a ``once`` effect.
        committed: Returns once what was said so far is in the log; awaited before a paid request.
        cancelled: Set when all attempts of this scope are to stop; then, too, a cancel of theirs is an outcome.
        memory: What the commands of this run use together, and its limit.
        slots: Shared by the runs of a swarm: what all of them together may have at work. None: the run's own count is
            enough.
        agent: The swarm's agent whose task this run is; it stands on every call.
        strategies: The levels of ``policy: {strategies: …}``, as :meth:`Gate.admit_strategy` takes them.
        waiting: A host under which a call queues holds the step's time-out still with it.
        traced: The W3C trace headers of a call, from execution id, address, attempt and call id; None without a trace.
    """

    execution_id: str
    root_id: str
    emit: Emit
    account: Account
    gate: Gate
    policy: Policy
    tools: Any
    host: ToolHost
    clock: Clock
    ai: Any = None
    masker: Masker | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=_process_environment)
    folder: str = "."
    roots: tuple[str, ...] = ()
    work_dir: Callable[[], str] = str
    grace: float = 5.0
    synced: Callable[[], Awaitable[None]] = _durable
    committed: Callable[[], Awaitable[None]] = _durable
    cancelled: asyncio.Event | None = None
    memory: MemoryMeter | None = None
    slots: asyncio.Semaphore | None = None
    strategies: tuple[tuple[str, Mapping[str, str]], ...] = ()
    agent: str | None = None
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    traced: Callable[[str, str, int, str | None], Mapping[str, str]] | None = None
    user_id: str = ""
    correlation_id: str = ""
    swarm_id: str | None = None

    def child(self, **changes: Any) -> Scope:
        """The same handles, some of them narrowed."""
        return replace(self, **changes)
