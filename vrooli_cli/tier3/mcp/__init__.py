"""Servers of the Model Context Protocol as tools: ``SERVER.TOOL`` (spec tools.md, "MCP").

::

    offered_tools   what validate and plan know of servers: what ``vrooli.lock`` pins, else that the names may be there
    WithServers     a StepRunner that starts the servers which a step names, before its attempt
    read_lock, write_lock    ``vrooli.lock``

A server is a thing that the calls of one root run share: made by the host on first use, ended by it with the run.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from vrooli_cli.errors import DefinitionError, ExpressionError, Problem, VrooliError
from vrooli_cli.gate import Admission
from vrooli_cli.language.expressions import compile_value
from vrooli_cli.language.values import text_of
from vrooli_cli.loading.loaded import steps_of
from vrooli_cli.model.routine import Prompt, Routine, ToolCall
from vrooli_cli.model.run import Effects
from vrooli_cli.model.swarm import SwarmDefinition
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.environment import KEPT
from vrooli_cli.tier3.host import LocalHost
from vrooli_cli.tier3.registry import Execute, Tool, ToolContext, ToolRegistry
from vrooli_cli.tier3.scope import Outcome, Scope, StepCall, StepRunner, ToolInvocation

if TYPE_CHECKING:
    from vrooli_cli.tier3.mcp.server import McpServer

LOCK_FILE: Final = "vrooli.lock"
_STARTED_AT_ONCE: Final = 4
_ANY: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}


@lean(frozen=False)
class Servers:
    """The servers that the files of an architecture define.

    Attributes:
        definitions: Name → what the file says.
        lock: Server → tool → its entry in ``vrooli.lock``; None without that file.
        owned: Told of every server's process, so that nobody takes it for a stray one.
    """

    definitions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    lock: Mapping[str, Mapping[str, Any]] | None = None
    owned: Callable[[int, bool], None] | None = None

    def add(self, definitions: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
        """Further servers; a problem for a name that means another one already."""
        problems = []
        for name, definition in definitions.items():
            if self.definitions.setdefault(name, definition) != definition:
                message = f"the MCP server {name!r} is defined in two ways by files that run together"
                problems.append(Problem(("mcp_servers", name), message, "give one of them another name"))
        return problems

    def tools(self, names: Iterable[str]) -> Iterator[Tool]:
        """The tools that are known without starting anything: pinned ones, and those that files name."""
        for server in self.definitions:
            for name, entry in (self.pins(server) or {}).items():
                yield self._pinned(server, name, entry)
        for name in names:
            server, dot, tool = name.partition(".")
            if dot and tool and self.pins(server) is None and server in self.definitions and not _is_glob(name):
                yield self._placeholder(server, name)

    def named(self, patterns: Iterable[str]) -> list[str]:
        """The servers that names or globs of tools mean."""
        heads = {pattern.partition(".")[0] for pattern in patterns}
        if any(map(_is_glob, heads)):
            return list(self.definitions)
        return [name for name in self.definitions if name in heads]

    def pins(self, server: str) -> Mapping[str, Any] | None:
        """Tool → entry of ``vrooli.lock``; None for a server that it does not have, whose tools run unpinned."""
        return None if self.lock is None else self.lock.get(server)

    def unpinned(self, names: Iterable[str]) -> list[Problem]:
        """A warning for each server that these names mean, and that a lock file which is there does not have."""
        if self.lock is None:
            return []
        return [
            Problem(
                ("mcp_servers", server),
                f"{LOCK_FILE} does not have the MCP server {server!r}: its tools run unpinned",
                "`vrooli tools lock` pins the servers of vrooli.yaml and of routines/",
                warning=True,
            )
            for server in self.named(names)
            if server not in self.lock
        ]

    def pinned(self, server: str) -> Mapping[str, str] | None:
        """Whole name → digest; None where nothing is pinned."""
        pins = self.pins(server)
        return None if pins is None else {f"{server}.{name}": entry["digest"] for name, entry in pins.items()}

    async def server(self, name: str, context: ToolContext) -> McpServer:
        """The run's server of that name; made once a root run, closed with it."""
        from vrooli_cli.tier3.mcp.server import McpServer

        definition, env = rendered(self.definitions[name], context.scope.secrets, context.scope.env)

        def make() -> McpServer:
            return McpServer(name, definition, env, pinned=self.pinned(name), owned=self.owned)

        made: McpServer = await context.shared(f"mcp:{name}", make)
        return made

    def _pinned(self, server: str, name: str, entry: Mapping[str, Any]) -> Tool:
        return Tool(
            name=f"{server}.{name}",
            description=entry.get("description", ""),
            schema=entry.get("schema") or _ANY,
            execute=self._starting(server, f"{server}.{name}"),
            effects=cast(Effects, entry.get("effects", "once")),
            asks=True,
            origin=f"mcp:{server}",
            digest=entry["digest"],
        )

    def _placeholder(self, server: str, name: str) -> Tool:
        return Tool(
            name=name,
            description="What it does, only its server knows.",
            schema=_ANY,
            execute=self._starting(server, name),
            asks=True,
            origin=f"mcp:{server}",
        )

    def _starting(self, server: str, name: str) -> Execute:
        """A call that starts the server when nobody has."""

        async def execute(params: dict[str, Any], context: ToolContext, /) -> Any:
            tools = await (await self.server(server, context)).tools()
            tool = _found(name, tools)
            tool.validate(params)
            return await tool.execute(params, context)

        return execute


def _is_glob(name: str) -> bool:
    return any(letter in name for letter in "*?[")


def _found(name: str, tools: Mapping[str, Tool]) -> Tool:
    if name in tools:
        return tools[name]
    from vrooli_cli.tier3.mcp.server import no_such_tool

    raise no_such_tool(name, tools)


class WithServers:
    """A :class:`~vrooli_cli.tier3.scope.StepRunner`: starts what a step needs, and lets it see the real tools.

    Args:
        inner: Does the attempt.
        servers: What files define; may grow while this lives.
    """

    def __init__(self, inner: StepRunner, servers: Servers) -> None:
        self._inner = inner
        self._servers = servers

    async def attempt(self, call: StepCall, scope: Scope) -> Outcome:
        """See :class:`~vrooli_cli.tier3.scope.StepRunner`."""
        if self._servers.definitions and isinstance(scope.host, LocalHost):
            wanted = self._servers.named([*([call.tool] if call.tool else []), *(call.prompt.get("tools") or ())])
            if wanted:
                try:
                    scope = await self._with(wanted, call, scope)
                except VrooliError as error:
                    return Outcome.failed(error, step=call.address)
        return await self._inner.attempt(call, scope)

    async def _with(self, names: Iterable[str], call: StepCall, scope: Scope) -> Scope:
        found: dict[str, Tool] = {}
        invocation = ToolInvocation(
            tool=call.tool,
            parameters={},
            address=call.address,
            attempt=call.attempt,
            effects="none",
            admission=Admission(),
        )
        context = ToolContext(invocation, scope, scope.host)  # type: ignore[arg-type]
        for name in names:
            tools = await (await self._servers.server(name, context)).tools()
            if call.tool.startswith(f"{name}."):
                _found(call.tool, tools)
            found |= tools
        return scope.child(tools=_Shadowing(found.values(), scope.tools))


class _Shadowing(ToolRegistry):
    """A registry over another one, whose tools of the same names it hides."""

    def __init__(self, tools: Iterable[Tool], below: ToolRegistry) -> None:
        super().__init__(parent=below)
        self._tools.update((tool.name, tool) for tool in tools)

    def __iter__(self) -> Iterator[Tool]:
        yield from self._tools.values()
        if self._parent is not None:
            yield from (tool for tool in self._parent if tool.name not in self._tools)


def rendered(
    definition: Mapping[str, Any], secrets: Mapping[str, str], env: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """A definition with its expressions (``secrets.NAME``, ``env.NAME``) evaluated, and its process's environment.

    Args:
        definition: As written.
        secrets: The run's secrets by name.
        env: What child processes of the run get.

    Raises:
        ExpressionError: A name is not known.
    """
    names = {"secrets": secrets, "env": env}

    def value(raw: Any) -> Any:
        if isinstance(raw, Mapping):
            return {key: value(one) for key, one in raw.items()}
        if isinstance(raw, list | tuple):
            return [value(one) for one in raw]
        if not isinstance(raw, str) or "{{" not in raw:
            return raw
        try:
            return text_of(compile_value(raw).evaluate(names))
        except ExpressionError as error:
            raise ExpressionError(f"mcp_servers: {error.message}") from None

    made = {key: value(raw) for key, raw in definition.items()}
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return made, {"PATH": os.defpath, **kept, **env, **_variables(made.get("env") or {})}


def _variables(env: Mapping[str, str | None]) -> dict[str, str]:
    """Variables with a value, and those of vrooli's own environment that are only named."""
    given = {name: os.environ.get(name) if value is None else value for name, value in env.items()}
    return {name: value for name, value in given.items() if value is not None}


async def listed(
    definitions: Mapping[str, Mapping[str, Any]], secrets: Mapping[str, str], env: Mapping[str, str]
) -> dict[str, dict[str, Tool]]:
    """What servers offer now, each started for it and ended again: server → whole name → tool.

    Raises:
        VrooliError: One cannot be used.
    """
    from vrooli_cli.tier3.mcp.server import McpServer

    at_once = asyncio.Semaphore(_STARTED_AT_ONCE)

    async def one(name: str) -> dict[str, Tool]:
        server = McpServer(name, *rendered(definitions[name], secrets, env))
        async with at_once:
            try:
                return await server.tools()
            finally:
                await server.aclose()

    asked = [asyncio.create_task(one(name), name=f"mcp:{name}") for name in definitions]
    try:
        return dict(zip(definitions, await asyncio.gather(*asked), strict=True))
    finally:  # none is left running when another one has failed
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


def pinned_tools(lock: Mapping[str, Mapping[str, Any]] | None) -> Iterator[Tool]:
    """Every tool of a lock file, to be looked at."""
    return Servers({server: {} for server in lock or {}}, lock=lock).tools(())


def tools_named(definition: Routine | SwarmDefinition) -> Iterator[str]:
    """Every name or glob of a tool that a file's steps, agents and event agents say."""
    actions = [step.action for step in steps_of(definition)] + [agent.action for agent in definition.events]
    for action in actions:
        if isinstance(action, ToolCall):
            yield action.tool
        elif isinstance(action, Prompt):
            yield from action.tools
    if isinstance(definition, SwarmDefinition):
        for agent in definition.agents:
            yield from agent.tools


# vrooli.lock


def read_lock(folder: Path | None) -> Mapping[str, Mapping[str, Any]] | None:
    """Server → tool → entry; None where there is no ``vrooli.lock``.

    Raises:
        DefinitionError: It is there and no lock file.
    """
    path = folder / LOCK_FILE if folder is not None else None
    if path is None or not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        servers: Mapping[str, Mapping[str, Any]] = data["mcp_servers"]
        if data["version"] != 1 or not all("digest" in one for tools in servers.values() for one in tools.values()):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        problem = Problem(
            (), "this is no lock file of this version", "write it with `vrooli tools lock`", file=str(path)
        )
        raise DefinitionError([problem]) from None
    return servers


def lock_text(servers: Mapping[str, Mapping[str, Tool]]) -> str:
    """The text of ``vrooli.lock``: sorted, so that its differences can be read."""
    entries = {
        server: {
            name.removeprefix(f"{server}."): {
                "description": tool.description,
                "effects": tool.effects,
                "schema": dict(tool.schema),
                "digest": tool.digest,
            }
            for name, tool in sorted(tools.items())
        }
        for server, tools in sorted(servers.items())
    }
    return json.dumps({"version": 1, "mcp_servers": entries}, indent=2, ensure_ascii=False) + "\n"
