"""Where tool calls run: the :class:`ToolHost` seam, and the host that is this process.

A call arrives as plain data and leaves as plain data, so a host may be another machine (spec engine.md, a and l).
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, Final, TypeVar

from vrooli_cli.errors import ERROR_CODES, ToolError, VrooliError
from vrooli_cli.model.run import ExecutionError
from vrooli_cli.tier3.processes import Command, Finished, Processes
from vrooli_cli.tier3.registry import Closing, Execute, Tool, ToolContext
from vrooli_cli.tier3.scope import Scope, ToolHost, ToolInvocation, ToolOutcome
from vrooli_cli.tier3.threads import Threads

T = TypeVar("T")

# Verdicts of the engine: a tool that says one of these has only failed.
_NOT_A_TOOLS: Final = frozenset(
    {"CANCELLED", "RUN_TIMEOUT", "STEP_TIMEOUT", "INTERNAL", "INTERRUPTED", "OUTCOME_UNKNOWN", "STORE_ERROR"}
)


class LocalHost:
    """This process: async tools on the loop, blocking ones in threads, commands as child processes.

    Args:
        threads: Blocking calls at one moment.
    """

    def __init__(self, *, threads: int = 64) -> None:
        self.processes = Processes()
        self.threads = Threads(threads)
        self._shared: dict[str, dict[str, asyncio.Future[Closing]]] = {}

    async def call(self, tool_call: ToolInvocation, scope: Scope) -> ToolOutcome:
        """See :class:`ToolHost`."""
        try:
            tool: Tool = scope.tools.require(tool_call.tool)
        except VrooliError as error:
            return ToolOutcome(error=ExecutionError.of(error, step=tool_call.address, tier="tier3"))
        context = ToolContext(tool_call, scope, self)
        try:
            result = await _within(tool, context)
        except asyncio.CancelledError as error:
            context.stopped = True
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return ToolOutcome(error=_told(error, tool, tool_call), memory_mb=context.memory_mb)
        except (Exception, SystemExit) as error:
            return ToolOutcome(error=_told(error, tool, tool_call), memory_mb=context.memory_mb)
        return ToolOutcome(result, None, context.memory_mb)

    async def in_thread(self, context: ToolContext, function: Callable[..., T], *arguments: Any) -> T:
        """Call a blocking function in a thread of ours; a cancel sets ``context.cancelled`` first."""

        def stop() -> None:
            context.stopped = True

        return await self.threads.run(function, *arguments, stop=stop, grace=context.scope.grace)

    async def run_command(self, context: ToolContext, command: Command) -> Finished:
        """Run a program; its memory counts for the step, and for the run."""
        scope = context.scope
        finished = await self.processes.run(
            command,
            run=scope.root_id,
            step=context.step_id,
            grace=scope.grace,
            limit_mb=context.call.memory_mb,
            meter=scope.memory,
        )
        context.memory_mb = max(context.memory_mb, finished.memory_mb)
        return finished

    async def shared(self, context: ToolContext, key: str, make: Callable[[], Closing]) -> Any:
        """What ``make`` gave for this key in this root run; made once, in a thread, for it may read certificates."""
        kept = self._shared.setdefault(context.root_id, {})
        while (making := kept.get(key)) is not None:  # again when the one who made it was cancelled
            await asyncio.wait([making])
            if not making.cancelled():
                return making.result()
        making = kept[key] = asyncio.get_running_loop().create_future()
        try:
            made = await self.threads.run(make, grace=context.scope.grace)
        except BaseException:
            del kept[key]
            making.cancel()
            raise
        making.set_result(made)
        return made

    async def end_run(self, root_id: str, grace: float = 5.0) -> None:
        """The root run is over: close what its calls shared and end every process that they left behind."""
        made = [one.result() for one in self._shared.pop(root_id, {}).values() if one.done() and not one.cancelled()]
        await asyncio.gather(*(one.aclose() for one in made))
        await self.processes.end_run(root_id, grace)

    async def aclose(self, grace: float = 5.0) -> None:
        """Every run is over."""
        for root_id in list(self._shared):
            await self.end_run(root_id, grace)
        await self.processes.aclose(grace)


async def _within(tool: Tool, context: ToolContext) -> Any:
    """The tool's answer, within the time-out that the tool itself declares, if it does."""
    params = dict(context.call.parameters)
    if tool.timeout_ms is None:
        return await tool.execute(params, context)
    try:
        async with asyncio.timeout(tool.timeout_ms / 1000) as clock:
            return await tool.execute(params, context)
    except TimeoutError:
        if not clock.expired():
            raise
        message = f"{tool.name} took longer than its time-out of {tool.timeout_ms / 1000:g} s"
        raise VrooliError(message, code="STEP_TIMEOUT", tier="tier3") from None


def _told(error: BaseException, tool: Tool, call: ToolInvocation) -> ExecutionError:
    """The value of what a tool raised; what the box itself raises unforeseen is a bug of vrooli."""
    if isinstance(error, ToolError):
        return error_of(error, call.address)
    if isinstance(error, VrooliError):
        return ExecutionError.of(error, step=call.address, tier="tier3")
    first = (str(error).strip().splitlines() or [""])[0][:300]
    cause = f"{type(error).__name__}: {first}" if first else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    if tool.origin == "box":
        text = "".join(traceback.format_exception(error))
        return ExecutionError(
            code="INTERNAL",
            message=f"{tool.name} failed in a way that nobody foresaw: {cause}",
            tier="tier3",
            step=call.address,
            context={"traceback": text[-8_000:]},
            cause=cause,
        )
    context = {"exception": type(error).__name__}
    if frames:
        context["at"] = f"{frames[-1].filename}:{frames[-1].lineno}"
    return ExecutionError(
        code="TOOL_FAILED",
        message=f"{tool.name} failed: {cause}",
        tier="tier3",
        step=call.address,
        context=context,
        cause=cause,
    )


def error_of(error: ToolError, step: str) -> ExecutionError:
    """The value of a ToolError: its own code also in the context, for ``retry.on``.

    A tool that says a code which is a verdict of the engine has only failed.
    """
    told = ExecutionError.of(error, step=step, tier="tier3")
    code, context = told.code, dict(told.context)
    if code not in ERROR_CODES or code in _NOT_A_TOOLS:
        context["code"] = code
    if code in _NOT_A_TOOLS:
        code = "TOOL_FAILED"
    if not error.retryable:
        context["retryable"] = False
    return replace(told, code=code, context=context)


def blocking(function: Callable[[dict[str, Any], ToolContext], Any]) -> Execute:
    """A tool's ``execute`` from a blocking function of the same two arguments; it runs in a thread."""

    @wraps(function)
    async def execute(params: dict[str, Any], context: ToolContext, /) -> Any:
        return await context.in_thread(function, params, context)

    return execute


__all__ = ["LocalHost", "ToolHost", "ToolInvocation", "ToolOutcome", "blocking", "error_of"]
