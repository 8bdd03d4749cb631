"""An MCP server as a child process: lines of JSON over its stdin and stdout.

Our own and not the SDK's, for four reasons: the environment is cleared, what it says on stderr (or wrongly on stdout)
is kept for the error, its process group is known to whoever ends processes, and its end is always awaited.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import field
from typing import Any, Final

from vrooli_cli.errors import ToolError
from vrooli_cli.model.values import lean

_LONGEST_LINE: Final = 64 << 20
_TAIL: Final = 20  # lines of stderr that are kept
_POLITE: Final = 1.0  # seconds that a server has to end once its stdin is closed
_LAST: Final = 2.0  # seconds from TERM to KILL


@lean(frozen=False)
class Told:
    """What a server said that was no message.

    Attributes:
        exit_code: Once it has ended.
        status: The HTTP status with which it refused a request, of a server that has an address.
    """

    stderr: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))
    noise: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    exit_code: int | None = None
    status: int | None = None

    def line(self) -> str:
        """The last thing it said, for the end of an error; empty when there is nothing."""
        said = next((line.strip() for line in reversed(self.stderr) if line.strip()), "")
        if said:
            return f": {said[:300]}"
        if self.noise:
            return f"; on stdout it wrote what is no message: {self.noise[0][:100]!r}"
        return ""


@asynccontextmanager
async def stdio(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, told: Told, owned: Callable[[int, bool], None]
) -> AsyncIterator[tuple[Any, Any]]:
    """Start a server; the streams are what ``mcp.ClientSession`` takes.

    Args:
        argv: Program and arguments.
        env: Its whole environment.
        cwd: Its folder.
        told: Is filled while it lives.
        owned: Called with its process id and True once it runs, and with False once it has ended.

    Raises:
        ToolError: It cannot be started.
    """
    import anyio

    process = await _start(argv, env, cwd)
    owned(process.pid, True)
    inward, read = anyio.create_memory_object_stream[Any](0)
    write, outward = anyio.create_memory_object_stream[Any](0)
    tasks = [
        asyncio.create_task(_receive(process, inward, told), name="mcp:stdout"),
        asyncio.create_task(_send(process, outward, inward), name="mcp:stdin"),
        asyncio.create_task(_listen(process, told), name="mcp:stderr"),
    ]
    try:
        yield read, write
    finally:
        ending = asyncio.create_task(_end(process, told), name="mcp:end")
        while not ending.done():  # it is awaited whoever is impatient: its waits are bounded
            with suppress(asyncio.CancelledError):
                await asyncio.shield(ending)
        owned(process.pid, False)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for stream in (inward, read, write, outward):
            stream.close()


async def _start(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    if shutil.which(argv[0], path=env.get("PATH")) is None and "/" not in argv[0]:
        raise _no_program(argv[0])
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            limit=_LONGEST_LINE,
        )
    except FileNotFoundError as error:
        if error.filename != cwd:
            raise _no_program(argv[0]) from None
        raise ToolError(f"there is no folder {cwd!r}; make it, or check the name", retryable=False) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ToolError(f"{argv[0]!r} cannot be started: {str(reason).lower()}", retryable=False) from None


def _no_program(name: str) -> ToolError:
    return ToolError(f"there is no program {name!r}; install it, or check the name", retryable=False)


async def _receive(process: asyncio.subprocess.Process, inward: Any, told: Told) -> None:
    """Messages of the server; what is none is kept and passed over."""
    import anyio
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    assert process.stdout is not None
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, ValueError):  # ValueError: an endless line
        async for line in process.stdout:
            if not line.strip():
                continue
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                told.noise.append(line.decode("utf-8", "replace").strip())
                continue
            await inward.send(SessionMessage(message))
    inward.close()


async def _send(process: asyncio.subprocess.Process, outward: Any, inward: Any) -> None:
    """Messages to the server; when it takes none any more, nobody waits for an answer any more."""
    assert process.stdin is not None
    try:
        async for message in outward:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()
    except (OSError, RuntimeError):
        inward.close()


async def _listen(process: asyncio.subprocess.Process, told: Told) -> None:
    assert process.stderr is not None
    with suppress(ValueError):
        async for line in process.stderr:
            told.stderr.append(line.decode("utf-8", "replace").rstrip())
    while await process.stderr.read(1 << 16):  # a line without an end: it must not block the server
        pass


async def _end(process: asyncio.subprocess.Process, told: Told) -> None:
    """Close stdin, wait, TERM, wait, KILL: to its whole group, for its children are its own."""
    if process.stdin is not None:
        process.stdin.close()
    if not await _exited(process, _POLITE):
        _signal(process.pid, signal.SIGTERM)
        if not await _exited(process, _LAST):
            _signal(process.pid, signal.SIGKILL)
            await _exited(process, _LAST)
    _signal(process.pid, signal.SIGKILL)
    told.exit_code = process.returncode
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()  # pipes that a grandchild may still hold


async def _exited(process: asyncio.subprocess.Process, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        return process.returncode is not None
    return True


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
