"""A routine as the engine sees it: every shorthand of the file spelled out, every name resolved (spec routine.md).

Loading makes these values and nothing else does; texts with ``{{ }}`` are still raw here and are compiled by tier 2's
plan. ``pointer`` leads back into the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from vrooli_cli.errors import Pointer
from vrooli_cli.model.run import Effects, ExecutionStrategy, RetryPolicy
from vrooli_cli.model.values import lean

TriggerRule = Literal["none_failed", "all_succeeded", "all_done", "any_failed", "any_succeeded"]
PRIORITIES: dict[str, int] = {"low": 0, "medium": 1, "high": 2}


@lean()
class ToolCall:
    """``tool: NAME`` with ``parameters``."""

    tool: str
    parameters: Mapping[str, Any]


@lean()
class Prompt:
    """``prompt: TEXT`` and what goes with it (spec ai.md)."""

    prompt: str
    system: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    tools: tuple[str, ...] = ()
    max_turns: int = 8
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    reveal: tuple[str, ...] = ()


@lean()
class ChildRoutine:
    """``routine: NAME-OR-PATH``; ``target`` is its key in the bundle."""

    reference: str
    target: str
    parameters: Mapping[str, Any]


@lean()
class Group:
    """``parallel: [STEP, …]``: its own small graph."""

    steps: tuple[Step, ...]


@lean()
class Wait:
    """``wait: 10s``; ``duration`` is milliseconds, or text with ``{{ }}`` that gives a duration."""

    duration: int | str


@lean()
class Approval:
    """``approval: …``: asks a person."""

    prompt: str
    timeout_ms: int | None = None
    on_timeout: Literal["reject", "approve"] = "reject"


Action = ToolCall | Prompt | ChildRoutine | Group | Wait | Approval


@lean()
class ForEach:
    """``for_each`` and ``matrix``.

    Attributes:
        items: EXPR that gives a list or a map; for a matrix the map axis → EXPR or list.
        matrix: True when ``items`` is a matrix.
        alias: The name of the item in expressions.
        key: EXPR that names a child, unique text; None is the index.
    """

    items: Any
    matrix: bool = False
    alias: str = "item"
    key: Any = None
    max_concurrent: int | None = None
    fail_fast: bool = True


@lean()
class Repeat:
    """``repeat``: again until EXPR over ``result`` holds."""

    until: Any
    max: int = 100
    delay_ms: int = 0


@lean()
class OnError:
    """What becomes of a failure: ``fail``, ``continue``, or ``recover`` with a value."""

    kind: Literal["fail", "continue", "recover"] = "fail"
    value: Any = None


@lean()
class Limits:
    """``allocation`` as written; None is "as the level above"."""

    max_credits: int | None = None
    max_duration_ms: int | None = None
    max_memory_mb: int | None = None
    max_concurrent_steps: int | None = None


@lean()
class CacheRule:
    """``cache: {ttl, key}``: reuse across runs."""

    ttl_ms: int | None = None
    key: Any = None


@lean(kw_only=True)
class Step:
    """One step, every default filled in.

    Attributes:
        pointer: The step's place in its file.
        after: Ids it waits for because the file says so (``depends_on``, ``dependencies``, ``parallel_branches``);
            the edges that references imply are added by tier 2's plan.
        branch: The branch of ``parallel_branches`` that it belongs to; an edge between two branches is an error, an
            implied one too.
        strategy: How tier 3 does it; None for actions that are not a step of tier 3's strategies (group, wait, …).
        effects: As written; None is "as the tool says".
        set, export: Values by name, assigned once the step has completed.
    """

    id: str
    action: Action
    pointer: Pointer = ()
    name: str = ""
    description: str = ""
    priority: int = 1
    after: tuple[str, ...] = ()
    branch: str = ""
    strategy: ExecutionStrategy | None = None
    model: tuple[str, ...] = ()
    output_schema: Mapping[str, Any] | None = None
    when: Any = None
    has_when: bool = False
    trigger_rule: TriggerRule = "none_failed"
    for_each: ForEach | None = None
    repeat: Repeat | None = None
    retry: RetryPolicy | None = None
    timeout_ms: int | None = None
    on_error: OnError = field(default_factory=OnError)
    effects: Effects | None = None
    cache: CacheRule | None = None
    approval_required: bool = False
    set: Mapping[str, Any] = field(default_factory=dict)
    export: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits | None = None
    resources: Mapping[str, float] = field(default_factory=dict)


@lean()
class Defaults:
    """``defaults``: what holds for steps that do not say otherwise; merged into the steps when they are loaded."""

    timeout_ms: int | None = None
    retry: RetryPolicy | None = None
    on_error: OnError | None = None
    strategy: ExecutionStrategy | None = None
    model: tuple[str, ...] = ()


@lean(kw_only=True)
class EventAgent:
    """One entry of ``events``: something that listens and acts outside the critical path (spec swarm.md).

    Attributes:
        subscribe: The pattern of event types.
        action: A tool, a model or a routine.
        when: EXPR over ``event``; has a meaning only with ``has_when``.
        barrier: The action that an event speaks of waits for this agent's verdict.
    """

    subscribe: str
    action: ToolCall | Prompt | ChildRoutine
    name: str = ""
    when: Any = None
    has_when: bool = False
    model: tuple[str, ...] = ()
    barrier: bool = False
    max_runs: int = 10
    timeout_ms: int | None = None
    pointer: Pointer = ()


@lean()
class Input:
    """A declared input; ``schema`` holds its JSON Schema keywords only."""

    name: str
    schema: Mapping[str, Any]
    default: Any = None
    has_default: bool = False
    required: bool = True
    secret: bool = False
    env: str | None = None
    description: str = ""
    pointer: Pointer = ()


@lean()
class Rule:
    """A permission rule as written, with the place that a refusal names.

    Attributes:
        text: ``tool``, ``tool(glob)`` or ``tool(arg=glob)``.
        source: ``file:line`` or ``--deny``.
    """

    text: str
    source: str = ""


@lean()
class Permissions:
    """One level of rules; deny wins, then ask, then allow (spec tools.md, "Permissions")."""

    allow: tuple[Rule, ...] = ()
    ask: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.allow or self.ask or self.deny)


HANDLERS = ("success", "failure", "finally")


@lean(kw_only=True)
class Definition:
    """What a routine and a swarm have in common: all around the work itself.

    Attributes:
        path: The file's name as the user gave it, or ``-``.
        key: Its key in the bundle.
        env: Environment names to take over (value None) or to set.
        secrets: Secret name → environment variable.
        outputs: None when the file declares none.
        policy: Strategy → ``allow``, ``ask`` or ``deny``.
        events: Agents that listen while it runs.
        extras: Keys whose engine is another room's, as plain data in their long form: ``models`` (name → model,
            base_url, api_key_env, price, provider, fallback, stream), ``mcp_servers`` (name → command, args, env, cwd
            or url, headers; timeout_ms), ``executor`` ({dask: ADDRESS}; not there: here).
    """

    name: str
    path: str = ""
    key: str = ""
    description: str = ""
    version: str = ""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    vars: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str | None] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    permissions: Permissions = field(default_factory=Permissions)
    policy: Mapping[str, str] = field(default_factory=dict)
    schedule: Literal["eager", "batched"] = "eager"
    handlers: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    outputs: Mapping[str, Any] | None = None
    events: tuple[EventAgent, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)


@lean(kw_only=True)
class Routine(Definition):
    """A whole routine."""

    steps: tuple[Step, ...]


@lean()
class Bundle:
    """The closed world of a run: the main routine and every routine that it can reach; read once, never again.

    Attributes:
        main: The key of the routine to run.
        routines: Key → routine; a key is the file's resolved path, or a made-up name for one that has no file.
        digest: sha256 over the bytes of every file, in order of key.
        texts: Key → the file's text, kept for `resume` and `runs diff`.
        origin: What a loader needs beside the texts to read the bundle again without any file: ``main``, ``names``
            (key → shown name), ``references`` (key → text in that file → key), ``digest``, ``project``. Plain data.
    """

    main: str
    routines: Mapping[str, Routine]
    digest: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def routine(self) -> Routine:
        """The routine to run."""
        return self.routines[self.main]
