"""The tools there are: what a tool is, and the registry that finds, validates and calls them (spec tools.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from vrooli_cli.errors import DefinitionError, Problem, ToolError, VrooliError, did_you_mean
from vrooli_cli.language.schema import Schema, compile_schema
from vrooli_cli.model.run import Effects
from vrooli_cli.tier3.scope import Scope, StepCall


class ToolParameter(NamedTuple):
    """One parameter, as the seed lists it."""

    name: str
    type: str
    required: bool
    description: str


class ToolContext:
    """What a tool may know of its call, and do beside answering.

    Attributes:
        step_id: The step's path.
        attempt: Counts from 1.
        scope: The run's handles, narrowed to this attempt.
    """

    __slots__ = ("attempt", "call", "scope", "step_id")

    def __init__(self, call: StepCall, scope: Scope) -> None:
        self.call = call
        self.scope = scope
        self.step_id = call.address
        self.attempt = call.attempt

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
        """True once the step is to stop: a blocking tool should look now and then, and return."""
        return self.scope.cancelled is not None and self.scope.cancelled.is_set()

    @property
    def work_dir(self) -> str:
        """A temporary folder of the run, made on first use and removed at its end."""
        return self.scope.work_dir()

    def secret(self, name: str) -> str:
        """The value of a declared secret."""
        try:
            return self.scope.secrets[name]
        except KeyError:
            raise ToolError(f"no secret is called {name!r}", code="PARAMETER_INVALID") from None


class Execute(Protocol):
    """What a tool does: validated parameters in, a JSON-able result out, ToolError on failure."""

    def __call__(self, params: dict[str, Any], context: ToolContext, /) -> Awaitable[Any]:
        """One call."""


@dataclass(frozen=True, slots=True, kw_only=True)
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
        origin: ``box``, ``file:line`` or ``mcp:SERVER``.
        digest: Changes when the tool's meaning may have changed; part of a result's key.
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
    origin: str = "box"
    digest: str = ""
    output_schema: Mapping[str, Any] | None = None
    timeout_ms: int | None = None
    _compiled: list[Schema] = field(default_factory=list, repr=False, compare=False)

    @property
    def parameters(self) -> list[ToolParameter]:
        """The parameters as the seed lists them."""
        required = set(self.schema.get("required", ()))
        return [
            ToolParameter(name, _type_word(schema), name in required, schema.get("description", ""))
            for name, schema in self.schema.get("properties", {}).items()
        ]

    @property
    def main_parameter(self) -> str:
        """The parameter that a permission rule's bare glob is matched with."""
        return self.main or next(iter(self.schema.get("properties", {})), "")

    def effects_for(self, params: Mapping[str, Any]) -> Effects:
        """What a call with these parameters does to the world."""
        return self.effects_of(params) if self.effects_of else self.effects

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raises ToolError ``PARAMETER_INVALID`` that names every violation."""
        if not self._compiled:
            self._compiled.append(compile_schema(self.schema))
        violations = self._compiled[0].check(params)
        if violations:
            told = "; ".join(str(violation) for violation in violations[:5])
            raise ToolError(f"{self.name}: {told}", code="PARAMETER_INVALID", retryable=False)


def _type_word(schema: Any) -> str:
    word = schema.get("type", "any") if isinstance(schema, Mapping) else "any"
    return "|".join(word) if isinstance(word, list) else str(word)


class ToolRegistry:
    """Name → tool. A clash of names is an error that shows both places."""

    def __init__(self, tools: Iterable[Tool] = (), parent: ToolRegistry | None = None) -> None:
        self._tools: dict[str, Tool] = {}
        self._parent = parent
        for tool in tools:
            self.register_tool(tool)

    def register_tool(self, tool: Tool) -> None:
        """Add a tool; DefinitionError when its name is taken."""
        other = self.get_tool(tool.name)
        if other is not None:
            message = f"the tool {tool.name!r} is defined twice: {other.origin} and {tool.origin}"
            raise DefinitionError([Problem((), message, "rename one of them")])
        self._tools[tool.name] = tool

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
