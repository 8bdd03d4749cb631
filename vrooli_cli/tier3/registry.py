"""The tools there are: what a tool is, and the registry that finds, validates and calls them (spec tools.md)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from os.path import join
from time import monotonic
from typing import Any, NamedTuple, Protocol, TypeVar

from vrooli_cli.errors import DefinitionError, Problem, ToolError, VrooliError, did_you_mean
from vrooli_cli.gate import Action, Admission, ToolTraits, traits_of
from vrooli_cli.language.schema import Schema, Violation, compile_schema, types_of
from vrooli_cli.language.shell import told
from vrooli_cli.model.events import Event, ToolTold
from vrooli_cli.model.run import EFFECTS_ORDER, Effects
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.plain import plain_result
from vrooli_cli.tier3.processes import Command, Finished
from vrooli_cli.tier3.scope import Scope, ToolInvocation


class ToolParameter(NamedTuple):
    """One parameter, as the seed lists it."""

    name: str
    type: str
    required: bool
    description: str


T = TypeVar("T")


class Work(Protocol):
    """What a host lends to the tools that it calls."""

    async def in_thread(self, context: ToolContext, function: Callable[..., T], *arguments: Any) -> T:
        """Call a blocking function in a thread of ours."""

    async def run_command(self, context: ToolContext, command: Command) -> Finished:
        """Run a program to its end."""

    async def shared(self, context: ToolContext, key: str, make: Callable[[], Closing]) -> Any:
        """Something that is made once a root run and closed at its end, e.g. an HTTP client."""


class ToolContext:
    """What a tool may know of its call, and do beside answering.

    Attributes:
        call: The call as the host got it.
        scope: The run's handles, narrowed to this attempt.
        stopped: Set by the host when this call is to end (cancel or time-out).
        memory_mb: The most that commands of this call have used.
    """

    __slots__ = ("_loop", "_until", "_work", "call", "memory_mb", "scope", "stopped")

    def __init__(self, call: ToolInvocation, scope: Scope, work: Work) -> None:
        self.call = call
        self.scope = scope
        self.stopped = False
        self.memory_mb = 0
        self._work = work
        self._loop: asyncio.AbstractEventLoop | None = None  # set once the call is in a thread
        self._until = None if call.seconds is None else monotonic() + call.seconds

    @property
    def step_id(self) -> str:
        """The step's path in its root run."""
        return self.call.address

    @property
    def attempt(self) -> int:
        """Which try of the step this is, from 1."""
        return self.call.attempt

    @property
    def execution_id(self) -> str:
        """The execution that this call belongs to."""
        return self.scope.execution_id

    @property
    def root_id(self) -> str:
        """The root run; with ``step_id`` and ``attempt`` a key that makes a repeated call recognisable."""
        return self.scope.root_id

    @property
    def cancelled(self) -> bool:
        """True once the call is to stop: a blocking tool should look now and then, and return."""
        return self.stopped or (self.scope.cancelled is not None and self.scope.cancelled.is_set())

    @property
    def seconds_left(self) -> float | None:
        """What is left of the step's time-out; 0 once the call is cancelled, None without a limit."""
        if self.cancelled:
            return 0.0
        return None if self._until is None else max(0.0, self._until - monotonic())

    @property
    def work_dir(self) -> str:
        """A temporary folder of the run, made on first use and removed at its end."""
        return self.scope.work_dir()

    @property
    def trace(self) -> Mapping[str, str]:
        """``traceparent`` and ``tracestate`` for what this call does elsewhere; empty when nobody traces the run."""
        call, scope = self.call, self.scope
        if scope.traced is None:
            return {}
        return scope.traced(scope.execution_id, call.address, call.attempt, call.call_id)

    def emit(self, said: str | Event, **details: Any) -> None:
        """Say how the call gets on, from any thread: the event ``tier3/tool/told``, shown and kept.

        Args:
            said: A line for people; or a fact of the engine, as it is.
            details: For programs; values that JSON can say.
        """
        fact = said if isinstance(said, Event) else self._told(str(said), details)
        if self._loop is None:
            self.scope.emit(fact)
        else:
            self._loop.call_soon_threadsafe(self.scope.emit, fact)

    def _told(self, message: str, details: Mapping[str, Any]) -> ToolTold:
        call = self.call
        return ToolTold(
            execution_id=self.scope.execution_id,
            step_id=call.address,
            attempt=call.attempt,
            tool_name=call.tool,
            message=message,
            details=plain_result(details) if details else None,
            call_id=call.call_id,
        )

    def secret(self, name: str) -> str:
        """The value of a declared secret."""
        try:
            return self.scope.secrets[name]
        except KeyError:
            raise ToolError(f"no secret is called {name!r}", code="PARAMETER_INVALID", retryable=False) from None

    def path(self, parameter: str, value: str) -> str:
        """Where a path parameter leads: what the gate has checked, else from the folder vrooli was started in."""
        known = self.call.admission.paths.get(parameter)
        return known if known is not None else join(self.scope.folder, value)  # noqa: PTH118 - `..` and links stay

    async def admit(self, parameters: Mapping[str, Any]) -> Admission:
        """Ask the gate again, for what this call turns out to do beside (a redirect); raises what it refuses with."""
        scope, call = self.scope, self.call
        tool: Tool = scope.tools.require(call.tool)
        effects = tool.effects_for(parameters)
        action = Action(
            execution_id=scope.execution_id,
            address=call.address,
            tool=tool.traits,
            parameters=parameters,
            effects=max(effects, call.effects, key=EFFECTS_ORDER.__getitem__),
            written=call.written,
            agent=call.agent,
            folder=scope.folder,
            roots=scope.roots,
        )
        return await scope.gate.admit(action, scope.policy, scope.emit)

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a blocking function in a thread; a cancel ends it as far as Python can."""
        self._loop = asyncio.get_running_loop()
        return await self._work.in_thread(self, function, *arguments)

    async def run_command(self, command: Command) -> Finished:
        """Run a program to its end, or to the end of this call."""
        return await self._work.run_command(self, command)

    async def shared(self, key: str, make: Callable[[], Closing]) -> Any:
        """What ``make`` gave for this key in this root run; its ``aclose`` is awaited at the run's end."""
        return await self._work.shared(self, key, make)


class Closing(Protocol):
    """Something with an end."""

    async def aclose(self) -> None:
        """Let go of it."""


class Execute(Protocol):
    """What a tool does: validated parameters in, a JSON-able result out, ToolError on failure."""

    def __call__(self, params: dict[str, Any], context: ToolContext, /) -> Awaitable[Any]:
        """One call."""


@lean(kw_only=True)
class Tool:
    """One tool.

    Attributes:
        schema: JSON Schema of the parameters, ``type: object`` with ``properties`` in order of declaration.
        execute: Async; a blocking function is wrapped by the host's threads before it gets here.
        effects: What a call does to the world, unless ``effects_of`` knows better from the parameters.
        credits: What one call costs.
        main: The parameter that a permission rule's bare glob is matched with; "" is the first declared one.
        literal: Parameters taken from the file as they are, never rendered (``template.text``).
        expressions: Parameters that are expressions for the tool to evaluate (``assert.that``, ``table.where``); they
            arrive as :class:`vrooli_cli.language.expressions.BoundExpression`.
        bound: Names that the tool itself gives those expressions (``row``); tier 2 does not look for them.
        asks: True for tools that a model may only call after a person agreed (spec tools.md, defaults).
        instant: True for tools that answer at once, without waiting for anything: their attempts need no task.
        secrets: The declared secrets that a call may ask for.
        environ: The variables of vrooli's own environment that a call takes over.
        origin: ``box``, ``file:line`` or ``mcp:SERVER``.
        digest: Changes when the tool's meaning may have changed; part of a result's key.
        answers: What its result is, for people; models are not told.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    execute: Execute
    effects: Effects = "once"
    effects_of: Callable[[Mapping[str, Any]], Effects] | None = None
    credits: int = 0
    main: str = ""
    literal: frozenset[str] = frozenset()
    expressions: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()
    asks: bool = False
    instant: bool = False
    secrets: frozenset[str] = frozenset()
    environ: frozenset[str] = frozenset()
    origin: str = "box"
    digest: str = ""
    output_schema: Mapping[str, Any] | None = None
    timeout_ms: int | None = None
    answers: str = ""
    _memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def parameters(self) -> list[ToolParameter]:
        """The parameters as the seed lists them."""
        required = set(self.schema.get("required", ()))
        return [
            ToolParameter(name, _type_word(schema, self.schema), name in required, schema.get("description", ""))
            for name, schema in self.schema.get("properties", {}).items()
        ]

    @property
    def main_parameter(self) -> str:
        """The parameter that a permission rule's bare glob is matched with."""
        return self.main or next(iter(self.schema.get("properties", {})), "")

    def effects_for(self, params: Mapping[str, Any]) -> Effects:
        """What a call with these parameters does to the world."""
        return self.effects_of(params) if self.effects_of else self.effects

    @property
    def most_effects(self) -> Effects:
        """What a call may do at most, when whoever makes it chooses the parameters."""
        return "once" if self.effects_of else self.effects

    @property
    def traits(self) -> ToolTraits:
        """What the gate has to know of the tool; always the same object."""
        traits: ToolTraits | None = self._memo.get("traits")
        if traits is None:
            traits = traits_of(self.name, self.schema, main=self.main, asks=self.asks, origin=self.origin)
            self._memo["traits"] = traits
        return traits

    def plain(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters as schema, gate and log see them: an expression that the tool evaluates becomes its text."""
        if not self.expressions:
            command = params.get("command")
            return params if command is told(command) else {**params, "command": told(command)}
        return {key: _text_form(value) if key in self.expressions else value for key, value in params.items()}

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raises ToolError ``PARAMETER_INVALID`` that names every violation."""
        schema = self._compiled("parameters", self.schema)
        self._refuse(schema.check(params), "PARAMETER_INVALID")

    def check_parameter(self, name: str, value: Any) -> list[Violation]:
        """What is wrong with one parameter, known before the run because it is constant."""
        return self._compiled("parameters", self.schema).check_property(name, value)

    def validate_result(self, result: Any) -> None:
        """Raises ToolError ``OUTPUT_INVALID`` when the tool declares an output schema and breaks it."""
        if self.output_schema is not None:
            self._refuse(self._compiled("result", self.output_schema).check(result), "OUTPUT_INVALID")

    def _compiled(self, key: str, schema: Mapping[str, Any]) -> Schema:
        compiled: Schema | None = self._memo.get(key)
        if compiled is None:
            compiled = self._memo[key] = compile_schema(schema)
        return compiled

    def _refuse(self, violations: Sequence[Violation], code: str) -> None:
        if violations:
            told = "; ".join(str(violation) for violation in violations[:5])
            more = f"; and {len(violations) - 5} more" if len(violations) > 5 else ""
            raise ToolError(f"{self.name}: {told}{more}", code=code, retryable=False)


def _text_form(value: Any) -> Any:
    """What a schema and a reader of the log see of a bound expression."""
    if isinstance(value, list):
        return [_text_form(one) for one in value]
    if isinstance(value, str | int | float | Mapping) or value is None:
        return value
    return str(value)


def _type_word(schema: Any, whole: Mapping[str, Any]) -> str:
    names = types_of(schema, whole) if isinstance(schema, Mapping) else []
    return "|".join(dict.fromkeys(names)) or "any"


class ToolRegistry:
    """Name → tool. A clash of names is an error that shows both places."""

    def __init__(self, tools: Iterable[Tool] = (), parent: ToolRegistry | None = None) -> None:
        self._tools: dict[str, Tool] = {}
        self._parent = parent
        clashes = [problem for tool in tools if (problem := self._take(tool)) is not None]
        if clashes:
            raise DefinitionError(clashes)

    def register_tool(self, tool: Tool) -> None:
        """Add a tool; DefinitionError when its name is taken."""
        clash = self._take(tool)
        if clash is not None:
            raise DefinitionError([clash])

    def _take(self, tool: Tool) -> Problem | None:
        other = self.get_tool(tool.name)
        if other is not None:
            message = f"the tool {tool.name!r} is defined twice: {other.origin} and {tool.origin}"
            return Problem((), message, "rename one of them")
        self._tools[tool.name] = tool
        return None

    def overlay(self, tools: Iterable[Tool]) -> ToolRegistry:
        """These tools over the ones here: for a run, a child or an agent."""
        return ToolRegistry(tools, parent=self)

    def get_tool(self, name: str) -> Tool | None:
        """The tool of that name, or None."""
        found = self._tools.get(name)
        if found is None and self._parent is not None:
            return self._parent.get_tool(name)
        return found

    def get_all_tools(self) -> list[Tool]:
        """Every tool, by name."""
        return sorted(self, key=lambda tool: tool.name)

    def digest(self) -> str:
        """Changes when a tool may be described, checked or bound in another way; those of the box are vrooli's own."""
        told = [
            [tool.name]
            if tool.origin == "box"
            else [
                *(tool.name, tool.origin, tool.digest, tool.schema, tool.output_schema, tool.effects, tool.main),
                *(sorted(tool.literal), sorted(tool.expressions), sorted(tool.bound), tool.asks, tool.timeout_ms),
            ]
            for tool in self.get_all_tools()
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    def __iter__(self) -> Iterator[Tool]:
        yield from self._tools.values()
        if self._parent is not None:
            yield from self._parent

    def require(self, name: str) -> Tool:
        """The tool of that name; ``TOOL_NOT_FOUND`` with a suggestion."""
        tool = self.get_tool(name)
        if tool is None:
            hint = did_you_mean(name, [known.name for known in self])
            tail = f"; {hint}" if hint else ""
            raise VrooliError(f"there is no tool {name!r}{tail}", code="TOOL_NOT_FOUND", tier="tier3")
        return tool

    async def execute_tool(self, name: str, params: Mapping[str, Any], context: ToolContext) -> Any:
        """Find, validate, call: the seed's way in, without the gate; tier 3 goes through ``host`` and gate."""
        tool = self.require(name)
        tool.validate(params)
        return await tool.execute(dict(params), context)
