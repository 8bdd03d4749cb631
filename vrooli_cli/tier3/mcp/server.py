"""One MCP server of one root run: started when it is first needed, asked, and ended with the run."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from time import monotonic
from typing import Any, Final

from vrooli_cli.errors import ToolError, VrooliError, did_you_mean, innermost
from vrooli_cli.language.schema import check_schema
from vrooli_cli.model.run import Effects
from vrooli_cli.tier3.mcp.transport import Told, stdio
from vrooli_cli.tier3.registry import Execute, Tool, ToolContext

START_SECONDS: Final = 60.0
"""The longest that a server may take until it has told its tools, where its ``timeout`` says nothing."""

_MOST_PAGES: Final = 100
_BETWEEN: Final = 0.2  # seconds between two words about progress: some servers tell every byte


class McpServer:
    """A server and the one task that holds its connection.

    Args:
        name: What its tools' names begin with.
        definition: ``command, args, env, cwd`` or ``url, headers``; ``timeout_ms``. Rendered.
        env: The whole environment of its process.
        pinned: Tool → digest, from ``vrooli.lock``; None takes whatever it offers.
        owned: See :func:`~.transport.stdio`.
    """

    def __init__(
        self,
        name: str,
        definition: Mapping[str, Any],
        env: Mapping[str, str],
        *,
        pinned: Mapping[str, str] | None = None,
        owned: Callable[[int, bool], None] | None = None,
    ) -> None:
        self.name = name
        self._definition = definition
        self._env = env
        self._pinned = pinned
        self._owned = owned or (lambda pid, lives: None)
        self._told = Told()
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[dict[str, Tool]] | None = None
        self._stop: asyncio.Event | None = None
        self._session: Any = None

    async def tools(self) -> dict[str, Tool]:
        """Its tools by their whole names; starts it, again when it has ended meanwhile.

        Raises:
            ToolError: It cannot be started, does not answer, or offers something else than was pinned.
        """
        if self._task is None or self._task.done():
            self._ready = asyncio.get_running_loop().create_future()
            self._stop = asyncio.Event()
            self._told = Told()
            self._task = asyncio.create_task(self._serve(self._ready, self._stop), name=f"mcp:{self.name}")
        assert self._ready is not None
        return await asyncio.shield(self._ready)

    async def aclose(self) -> None:
        """End it; returns when no process of it is left."""
        if self._task is None:
            return
        if self._stop is not None:
            self._stop.set()
        await asyncio.wait([self._task], timeout=8)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    # --- the task that holds the connection --------------------------------------------------------------------------

    async def _serve(self, ready: asyncio.Future[dict[str, Tool]], stop: asyncio.Event) -> None:
        try:
            async with self._connected() as session:
                self._session = session
                ready.set_result(await self._listed(session))
                await stop.wait()
        except asyncio.CancelledError:
            if not ready.done():
                ready.cancel()
            raise
        except BaseException as error:  # the SDK raises groups
            if not ready.done():
                ready.set_exception(self._failed(error))
                ready.exception()  # somebody waits for it, or nobody needs it any more
        finally:
            self._session = None

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        """A session that has shaken hands."""
        from mcp import ClientSession

        logging.getLogger("mcp").setLevel(logging.CRITICAL)  # what went wrong is in our error, once
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(self._patience):
                read, write = await stack.enter_async_context(self._streams())
                session = await stack.enter_async_context(ClientSession(read, write, client_info=_client()))
                await session.initialize()
            yield session

    @property
    def _patience(self) -> float:
        milliseconds = self._definition.get("timeout_ms")
        return START_SECONDS if milliseconds is None else milliseconds / 1000

    def _streams(self) -> Any:
        url = self._definition.get("url")
        if url:
            return _http(url, self._definition.get("headers") or {}, self._told)
        argv = [self._definition["command"], *map(str, self._definition.get("args") or ())]
        return stdio(argv, self._env, self._definition.get("cwd") or ".", self._told, self._owned)

    async def _listed(self, session: Any) -> dict[str, Tool]:
        from mcp_types import PaginatedRequestParams

        found: dict[str, Tool] = {}
        cursor = None
        async with asyncio.timeout(self._patience):
            for _ in range(_MOST_PAGES):
                page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor) if cursor else None)
                for raw in page.tools:
                    tool = tool_of(self.name, raw, self._calling(raw.name), self._definition.get("timeout_ms"))
                    found[tool.name] = tool
                cursor = page.next_cursor
                if not cursor:
                    break
        return found if self._pinned is None else self._as_pinned(found, self._pinned)

    def _as_pinned(self, found: Mapping[str, Tool], pinned: Mapping[str, str]) -> dict[str, Tool]:
        changed = [name for name, digest in pinned.items() if name in found and found[name].digest != digest]
        if changed:
            told = ", ".join(sorted(changed))
            message = f"description or schema of {told} changed since `vrooli tools lock`; look at it, then lock again"
            raise ToolError(message, code="PERMISSION_DENIED", retryable=False)
        return {name: tool for name, tool in found.items() if name in pinned}

    # --- calls -------------------------------------------------------------------------------------------------------

    def _calling(self, tool: str) -> Execute:
        async def execute(params: dict[str, Any], context: ToolContext, /) -> Any:
            return await self._called(tool, params, context)

        return execute

    async def _called(self, tool: str, params: dict[str, Any], context: ToolContext) -> Any:
        """One call; a cancel of it reaches the server as ``notifications/cancelled``, its progress becomes events."""
        await self.tools()
        session = self._session
        if session is None:
            raise self._failed(ConnectionError())
        from mcp import MCPError

        last = 0.0

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            nonlocal last
            now = monotonic()
            if now - last < _BETWEEN and progress != total:
                return
            last = now
            of = "" if total is None else f" of {total:g}"
            more = {} if total is None else {"total": total}
            context.emit(message or f"{progress:g}{of}", progress=progress, **more)

        try:
            result = await session.call_tool(tool, params, meta=dict(context.trace) or None, progress_callback=tell)
        except MCPError as error:
            if self._session is None or "closed" in error.message.lower():
                raise await self._ended() from None
            raise ToolError(f"{self.name}.{tool}: {_one_line(error.message)}", context={"rpc": error.code}) from None
        except RuntimeError as error:  # the SDK's word for a result that breaks the server's own schema
            raise ToolError(f"{self.name}.{tool}: {_one_line(str(error))}", code="OUTPUT_INVALID") from None
        return answer(f"{self.name}.{tool}", result)

    async def _ended(self) -> ToolError:
        """Why the connection is gone; the next call starts the server again."""
        if self._stop is not None:
            self._stop.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=8)
        code = self._told.exit_code
        how = "ended" if code is None else f"ended with {code}" if code >= 0 else f"was ended by signal {-code}"
        return ToolError(f"the MCP server {self.name!r} {how} in the middle of a call{self._told.line()}")

    def _failed(self, error: BaseException) -> ToolError:
        """One line for a server that could not be used."""
        cause = innermost(error)
        if isinstance(cause, ToolError):
            return ToolError(
                f"the MCP server {self.name!r}: {cause.message}", code=cause.code, retryable=cause.retryable
            )
        if isinstance(cause, ModuleNotFoundError) and (cause.name or "").startswith("mcp"):
            message = "MCP servers need an extra: pip install 'vrooli[mcp]'"
            return ToolError(message, retryable=False)
        if isinstance(cause, TimeoutError):
            how = f"did not answer within {self._patience:g} s"
        elif self._told.status is not None:
            key = "; is there a key in its `headers:`?" if self._told.status in (401, 403) else ""
            how = f"answered with the HTTP status {self._told.status}{key}"
        elif self._told.exit_code is not None:
            how = f"ended with {self._told.exit_code} before it answered"
        else:
            how = f"cannot be used ({type(cause).__name__}: {_one_line(str(cause))})"
        return ToolError(f"the MCP server {self.name!r} {how}{self._told.line()}")


def _client() -> Any:
    from mcp_types import Implementation

    from vrooli_cli.model.version import VROOLI

    return Implementation(name="vrooli", version=VROOLI)


@asynccontextmanager
async def _http(url: str, headers: Mapping[str, str], told: Told) -> AsyncIterator[Any]:
    async def note(response: Any) -> None:  # the SDK's error does not say it
        if response.is_error and response.request.method == "POST":
            told.status = response.status_code

    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    client = create_mcp_http_client(headers=dict(headers))
    client.event_hooks["response"].append(note)
    async with client, streamable_http_client(url, http_client=client) as streams:
        yield streams[0], streams[1]


def tool_of(server: str, raw: Any, execute: Execute, timeout_ms: int | None = None) -> Tool:
    """The tool that a server describes."""
    schema = dict(raw.input_schema)
    schema.setdefault("properties", {})
    if check_schema(schema):
        schema = {"type": "object", "properties": {}}  # the server itself will say what it does not like
    return Tool(
        name=f"{server}.{raw.name}",
        description=raw.description or raw.title or "",
        schema=schema,
        execute=execute,
        effects=_effects(raw.annotations),
        asks=True,
        origin=f"mcp:{server}",
        digest=digest_of(raw),
        timeout_ms=timeout_ms,
    )


def _effects(hints: Any) -> Effects:
    if hints is None:
        return "once"
    return "none" if hints.read_only_hint else "idempotent" if hints.idempotent_hint else "once"


def digest_of(raw: Any) -> str:
    """Changes when a tool's meaning may have changed: its description, its schemas, its hints."""
    plain = raw.model_dump(mode="json", by_alias=True, exclude_none=True)
    said = {
        key: plain.get(key) for key in ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
    }
    return sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()


def answer(name: str, result: Any) -> Any:
    """What a call gives: its structured content, else its one text, else the list of its blocks.

    Raises:
        ToolError: The server says that it failed.
    """
    blocks = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]
    if result.is_error:
        texts = [block["text"] for block in blocks if block.get("type") == "text"]
        told = _one_line(" ".join(texts)) or "it failed"
        raise ToolError(
            f"{name}: {told}", context={"content": blocks} if len(texts) != 1 else {"text": texts[0][:8000]}
        )
    if result.structured_content is not None:
        return result.structured_content
    if len(blocks) == 1 and blocks[0].get("type") == "text":
        return blocks[0]["text"]
    return blocks


def no_such_tool(name: str, known: Mapping[str, Tool]) -> VrooliError:
    """The error of a name that the server does not have."""
    server = name.partition(".")[0]
    hint = did_you_mean(name, known) or f"it has {', '.join(list(known)[:12]) or 'none'}"
    return VrooliError(f"the MCP server {server!r} has no tool {name!r}; {hint}", code="TOOL_NOT_FOUND", tier="tier3")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
