"""An OpenAI-compatible endpoint on loopback that misbehaves on demand and keeps its own books."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Headers = Mapping[str, str]


@dataclass
class Request:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float


class Answer:
    """Writes one response; every way to end it badly is a method."""

    def __init__(self, writer: asyncio.StreamWriter, server: Server, request: Request) -> None:
        self._writer = writer
        self._server = server
        self.request = request

    async def head(self, status: int, headers: Headers, kind: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def json(self, value: Any, status: int = 200, headers: Headers | None = None) -> None:
        await self.head(status, headers or {}, "application/json")
        await self.raw(json.dumps(value).encode())

    async def error(self, status: int, message: str, headers: Headers | None = None, **more: Any) -> None:
        await self.json({"error": {"message": message, "type": "x", **more}}, status, headers)

    async def begin(self, headers: Headers | None = None) -> None:
        await self.head(200, headers or {}, "text/event-stream")

    async def chunk(self, delta: Any = None, finish: str | None = None, **more: Any) -> None:
        choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
        value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
        await self.raw(f"data: {json.dumps(value)}\n\n".encode())

    async def end(self, given: int | None = 10, made: int = 5) -> None:
        """Usage in the last chunk, written in the books, and the end."""
        if given is not None:
            usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
            await self.chunk(choices=[], usage=usage)
            self._server.books.append((given, made))
        await self.raw(b"data: [DONE]\n\n")

    async def text(self, text: str = "Hi", *, headers: Headers | None = None, given: int = 10, made: int = 5) -> None:
        """A whole good answer, in pieces."""
        if not self.request.body.get("stream"):
            message = {"role": "assistant", "content": text}
            usage = {"prompt_tokens": given, "completion_tokens": made}
            self._server.books.append((given, made))
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            await self.json({"id": "c", "choices": choices, "usage": usage}, headers=headers)
            return
        await self.begin(headers)
        await self.chunk({"role": "assistant", "content": ""})
        for at in range(0, len(text), 3):
            await self.chunk({"content": text[at : at + 3]})
        await self.chunk({}, "stop")
        await self.end(given, made)

    async def calls(self, *calls: tuple[str, Any], finish: str = "tool_calls") -> None:
        """A whole good answer that calls tools, several at once, arguments in pieces."""
        await self.begin()
        for index, (name, arguments) in enumerate(calls):
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            head = {"index": index, "id": f"id{index}", "type": "function", "function": {"name": name, "arguments": ""}}
            await self.chunk({"tool_calls": [head]})
            for at in range(0, len(text), 4):
                await self.chunk({"tool_calls": [{"index": index, "function": {"arguments": text[at : at + 4]}}]})
        await self.chunk({}, finish)
        await self.end()


Behaviour = Callable[[Answer], Awaitable[None]]


@dataclass
class Server:
    """What happened at the endpoint.

    Attributes:
        plan: What to do with the requests, one after the other; the last one is for the rest.
        books: ``(input, output)`` tokens of every answer that was sent to its end.
    """

    plan: list[Behaviour]
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    books: list[tuple[int, int]] = field(default_factory=list)
    busy: int = 0
    peak: int = 0
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def aclose(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:]) if k}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = head[0].split()[1]
        now = asyncio.get_running_loop().time()
        request = Request(path, headers, json.loads(body or b"{}"), now)
        self.requests.append(request)
        behave = self.plan[min(len(self.requests), len(self.plan)) - 1]
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            await behave(Answer(writer, self, request))
        finally:
            self.busy -= 1


@asynccontextmanager
async def endpoint(*plan: Behaviour) -> AsyncIterator[Server]:
    """A running endpoint; ``plan`` says what it does with its requests."""
    server = Server(list(plan))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield server
    finally:
        listening.close()
        await server.aclose()


def good(text: str = "Hi", **keys: Any) -> Behaviour:
    """Answers with a text."""

    async def behave(answer: Answer) -> None:
        await answer.text(text, **keys)

    return behave


def refuse(status: int, message: str = "no", headers: Headers | None = None, **more: Any) -> Behaviour:
    """Answers with an error."""

    async def behave(answer: Answer) -> None:
        await answer.error(status, message, headers, **more)

    return behave
