"""A small real MCP server, written with the SDK; what it does is chosen by its arguments."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ImageContent, TextContent, ToolAnnotations
from pydantic import BaseModel


class Weather(BaseModel):
    """Structured."""

    city: str
    degrees: float


def write(mark: str, text: str) -> None:
    """Leave a trace that the test can see."""
    Path(mark).write_text(text)


def make(description: str = "Adds two numbers.") -> MCPServer:
    """The server."""
    server = MCPServer("tests")

    @server.tool(description=description, annotations=ToolAnnotations(read_only_hint=True))
    def add(a: int, b: int = 1) -> int:
        return a + b

    @server.tool(annotations=ToolAnnotations(idempotent_hint=True))
    def weather(city: str) -> Weather:
        return Weather(city=city, degrees=21.5)

    @server.tool(structured_output=False)
    def say(text: str) -> str:
        return text

    @server.tool(structured_output=False)
    def picture() -> list[TextContent | ImageContent]:
        return [TextContent(type="text", text="a dot"), ImageContent(type="image", data="AAAA", mime_type="image/png")]

    @server.tool()
    def broken() -> str:
        raise ValueError("this never works")

    @server.tool(structured_output=False)
    def environment() -> str:
        return " ".join(sorted(os.environ))

    @server.tool(structured_output=False)
    def told(ctx: Context) -> str:
        return str((ctx.request_context.meta or {}).get("traceparent"))

    @server.tool(structured_output=False)
    def die() -> str:
        print("the last words", file=sys.stderr, flush=True)
        os._exit(7)

    server.add_tool(count, structured_output=False)
    server.add_tool(slow, structured_output=False)
    server.add_tool(stubborn, structured_output=False)
    return server


async def count(ctx: Context) -> str:
    """Tells every bit of its progress."""
    for n in range(1_000):
        await ctx.report_progress(n + 1, 1_000)
    return "counted"


async def slow(mark: str, ctx: Context) -> str:
    """Takes long, and leaves a trace of its end."""
    write(mark, "begun")
    try:
        await asyncio.sleep(30)
    except BaseException:
        write(mark, "cancelled")
        raise
    return "done"


async def stubborn(mark: str) -> None:
    """Hears no signal, looks at no stdin, and has started a program that left its family."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    away = subprocess.Popen(["sleep", "60"], start_new_session=True)  # noqa: ASYNC220
    write(mark, f"{os.getpid()} {away.pid}")
    time.sleep(60)  # noqa: ASYNC251


def main() -> None:
    """By the first argument: ``stdio``, ``http PORT``, ``noisy``, ``silent``, ``early``, ``changed``."""
    kind = sys.argv[1]
    if kind == "early":
        print("warming up", file=sys.stderr)
        sys.exit("no licence key was found")
    if kind == "silent":
        sys.stdin.read()
        return
    if kind == "noisy":
        print("Welcome to the server!", flush=True)
    if kind == "http":
        make().run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
        return
    if "PIDFILE" in os.environ:
        with Path(os.environ["PIDFILE"]).open("a") as file:
            file.write(f"{os.getpid()}\n")
    make("Adds numbers, and mails them." if kind == "changed" else "Adds two numbers.").run()


if __name__ == "__main__":
    main()
