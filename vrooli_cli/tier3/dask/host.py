"""The host whose calls run on the workers of a Dask cluster; what cannot travel runs in this process, as ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from vrooli_cli.errors import VrooliError
from vrooli_cli.model.run import ExecutionError
from vrooli_cli.model.version import VROOLI
from vrooli_cli.tier3.dask.wire import TRAVELLING, FarCall, Gone, Lost, unknown_outcome
from vrooli_cli.tier3.host import LocalHost
from vrooli_cli.tier3.memory import MemoryMeter
from vrooli_cli.tier3.registry import Tool, ToolContext
from vrooli_cli.tier3.scope import CalledOff, Scope, ToolInvocation, ToolOutcome

if TYPE_CHECKING:
    from vrooli_cli.tier3.dask.cluster import Cluster, Flight

_ARRIVAL = 1.0  # seconds in which the outcome of a call that has ended is here
_PAUSE = 10.0  # seconds in which a cluster that did not answer is not asked again


class DaskHost(LocalHost):
    """Python and command tools, ``shell`` and ``http`` on workers; all else here.

    The other tools of the box touch vrooli's own files or are done at once; MCP servers are started once a run, and
    tools of an embedding program live in its memory.

    Args:
        local: What runs here; this host is the same one, so that there is one place that knows every process.
        address: The scheduler's, or ``local`` for a cluster of its own.
        tools: The tools that may travel beside ``shell`` and ``http``.
        folders: Their files.
    """

    queues = True

    def __init__(self, local: LocalHost, address: str, tools: Iterable[Tool], folders: Sequence[Path]) -> None:
        self.processes = local.processes
        self.threads = local.threads
        self._shared = local._shared
        self.address = address
        self._travelling = {tool.name: tool for tool in (*TRAVELLING, *tools)}
        self._folders = tuple(folders)
        self._cluster: Cluster | None = None
        self._connecting: asyncio.Task[Cluster] | None = None
        self._refused: tuple[float, Exception] | None = None
        self._numbers = count(1)
        self._calls: dict[str, dict[int, _Use]] = {}  # root run → number → what its call uses
        self._places: dict[str, str] = {}  # root run → its work folder
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, tool_call: ToolInvocation, scope: Scope) -> ToolOutcome:
        """See :class:`~vrooli_cli.tier3.scope.ToolHost`."""
        tool: Tool | None = scope.tools.get_tool(tool_call.tool)
        if tool is None or self._travelling.get(tool.name) is not tool:
            return await super().call(tool_call, scope)
        waiting = scope.waiting()  # its time-out stands still until a worker begins
        waiting.__enter__()
        use = _Use(tool_call, scope, waiting)
        try:
            return await self._performed(use, tool)
        except asyncio.CancelledError as cancel:
            if use.flight is None:  # it was not sent
                raise CalledOff(cancel, None) from None
            raise
        except VrooliError as error:
            return ToolOutcome(error=ExecutionError.of(error, step=tool_call.address, tier="tier3"))
        finally:
            use.begun()
            self._tidy(use)

    async def _performed(self, use: _Use, tool: Tool) -> ToolOutcome:
        flight: Flight | None = None
        step, once = use.call.address, use.call.effects == "once"
        try:
            cluster = await self._connected()
            if use.call.resources and not await cluster.can_have(use.call.resources):
                return ToolOutcome(error=_no_such_worker(use.call.resources, self.address, step))
            call = self._far(use, tool, cluster)
            self._calls.setdefault(use.scope.root_id, {})[call.number] = use
            flight = use.flight = cluster.send(call, lambda kind, value: self._hear(use, kind, value))
            outcome = await self._outcome(cluster, flight)
        except Gone as gone:
            message = f"{gone}; start it again, and `vrooli resume` goes on"
            if flight is not None and flight.begun and once:
                return ToolOutcome(error=unknown_outcome(step, str(gone)))
            return ToolOutcome(error=ExecutionError(code="INTERRUPTED", message=message, tier="tier3", step=step))
        except Lost as lost:
            if flight is not None and flight.begun and once:
                return ToolOutcome(error=unknown_outcome(step, str(lost)))
            return ToolOutcome(error=ExecutionError(code="TOOL_FAILED", message=str(lost), tier="tier3", step=step))
        if use.failure is not None:
            use.weigh(0)  # its worker has yet to say so, and the next largest must not go for what is freed
            return ToolOutcome(error=ExecutionError.of(use.failure, step=step, tier="tier3"), memory_mb=use.peak_mb)
        if outcome is None:
            return ToolOutcome(error=unknown_outcome(step, "Dask has ended it") if once else _taken_back(step))
        return outcome

    async def _outcome(self, cluster: Cluster, flight: Flight) -> ToolOutcome | None:
        """The outcome; a cancel ends the call on its worker first, a second one without grace."""
        try:
            return await asyncio.shield(flight.done)
        except asyncio.CancelledError as cancel:
            await self._stop(cluster, flight)
            if flight.once:
                raise await _called_off(cancel, flight) from None
            raise
        finally:
            cluster.land(flight)

    async def _stop(self, cluster: Cluster, flight: Flight) -> None:
        stopping = self._begin(cluster.stop(flight))
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            hard = self._begin(cluster.stop(flight, hard=True))
            await asyncio.wait([stopping, hard])

    def _begin(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name="vrooli-dask-stop")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- the cluster -------------------------------------------------------------------------------------------------

    async def _connected(self) -> Cluster:
        """The cluster, connected with the first call that travels, and again once it was gone."""
        if self._cluster is not None and not self._cluster.gone:
            return self._cluster
        if self._refused is not None and monotonic() - self._refused[0] < _PAUSE:
            raise self._refused[1]
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="vrooli-dask-connect")
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())  # it is told below
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Cluster:
        try:
            if self._cluster is not None:
                await self._cluster.close()
            cluster = await self.threads.run(_imported)
            self._cluster = await cluster.connect(self.address, self._folders)
        except Exception as error:
            self._refused = (monotonic(), error)
            raise
        finally:
            self._connecting = None
        return self._cluster

    def _far(self, use: _Use, tool: Tool, cluster: Cluster) -> FarCall:
        """The call as it travels: with the secrets that its tool asks for, and no others."""
        call, scope = use.call, use.scope
        number = next(self._numbers)
        address = call.address
        if scope.masker is not None:  # Dask's logs and pages show keys
            address = scope.masker.mask_text(address)
        return FarCall(
            invocation=call,
            key=f"vrooli-{call.tool}-{scope.root_id}:{address}@{call.attempt}+{cluster.topic[-8:]}.{number}",
            number=number,
            topic=cluster.topic,
            version=VROOLI,
            toolbox=cluster.toolbox,
            execution_id=scope.execution_id,
            root_id=scope.root_id,
            folder=scope.folder,
            roots=scope.roots,
            work_dir=self._work_dir(scope),
            grace=scope.grace,
            secrets={name: scope.secrets[name] for name in tool.secrets if name in scope.secrets},
            environ={name: scope.environ[name] for name in tool.environ if name in scope.environ},
            env=scope.env,
            trace=dict(ToolContext(call, scope, self).trace),
            metered=scope.memory is not None and any(meter.limit_mb is not None for meter in scope.memory.line()),
        )

    def _work_dir(self, scope: Scope) -> str:
        place = self._places.get(scope.root_id)
        if place is None:
            place = self._places[scope.root_id] = scope.work_dir()
        return place

    # --- news of a call ----------------------------------------------------------------------------------------------

    def _hear(self, use: _Use, kind: str, value: Any) -> None:
        if kind == "event":
            use.scope.emit(value)
        elif kind == "began":
            use.begun()
        elif kind == "memory":
            self._weigh(use, value)
        elif kind == "admit":
            self._begin(self._admit(use, *value))

    async def _admit(self, use: _Use, number: int, worker: str, parameters: Mapping[str, Any]) -> None:
        """Ask the gate for what a call turns out to do beside, and tell it."""
        told: Any
        try:
            told = await ToolContext(use.call, use.scope, self).admit(parameters)
        except VrooliError as error:
            told = error
        if self._cluster is not None and use.flight is not None:
            call = use.flight.call
            await self._cluster.tell(worker, (call.topic, call.number), number, told)

    def _weigh(self, use: _Use, used: int) -> None:
        """What the commands of a call use has changed; the largest call under a meter that is over has to go."""
        meter = use.scope.memory
        if meter is None:
            return
        use.weigh(used)
        for one in meter.line():
            one.settle()
            if one.exceeded:
                self._relieve(one)

    def _relieve(self, meter: MemoryMeter) -> None:
        below = [use for use in self._in_flight() if use.scope.memory is not None and meter in use.scope.memory.line()]
        if below and not any(use.failure for use in below):
            largest = max(below, key=lambda use: use.used)
            largest.failure = meter.refusal(largest.call.address)
            if self._cluster is not None and largest.flight is not None:
                self._begin(self._cluster.stop(largest.flight, hard=True))

    def _tidy(self, use: _Use) -> None:
        """After a call: remembered is only what it has left behind and what uses memory."""
        if use.flight is not None and not use.used and self._cluster is not None:
            number = use.flight.call.number
            self._cluster.forget([number])
            self._calls.get(use.scope.root_id, {}).pop(number, None)

    def _in_flight(self) -> list[_Use]:
        return [
            use
            for calls in self._calls.values()
            for use in calls.values()
            if use.flight is not None and not use.flight.landed
        ]

    # --- the end -----------------------------------------------------------------------------------------------------

    async def end_run(self, root_id: str, grace: float = 5.0) -> None:
        """The root run is over, here and on the workers."""
        calls = self._calls.pop(root_id, {})
        if self._cluster is not None and root_id in self._places:
            await self._cluster.end_run(root_id, grace)
            self._cluster.forget(calls)
        self._places.pop(root_id, None)
        for use in calls.values():
            use.weigh(0)
        await super().end_run(root_id, grace)

    async def aclose(self, grace: float = 5.0) -> None:
        """Every run is over: let go of the cluster."""
        await super().aclose(grace)
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._cluster is not None:
            await self._cluster.close()
            self._cluster = None


@dataclass(slots=True, eq=False)
class _Use:
    """One call that travels, and what its commands use of a machine.

    Attributes:
        waiting: In it the step's time-out stands still; None once a worker has begun.
        used: Bytes, now.
        failure: Why it was ended, when that was for memory.
    """

    call: ToolInvocation
    scope: Scope
    waiting: Any = None
    flight: Flight | None = None
    used: int = 0
    peak: int = 0
    failure: VrooliError | None = None

    @property
    def peak_mb(self) -> int:
        return -(-self.peak >> 20)

    def begun(self) -> None:
        """A worker has begun, or nobody waits any more."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.__exit__(None, None, None)

    def weigh(self, used: int) -> None:
        """It uses so many bytes now."""
        if self.scope.memory is not None and used != self.used:
            self.scope.memory.change(used - self.used)
        self.used = used
        self.peak = max(self.peak, used)


def _imported() -> type[Cluster]:
    """The part that needs ``distributed``; half a second, so it is imported in a thread."""
    try:
        module = import_module("vrooli_cli.tier3.dask.cluster")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("dask", "distributed"):
            raise
        message = "steps on a Dask cluster need an extra: pip install 'vrooli[dask]'"
        raise VrooliError(message, code="TOOL_FAILED", tier="tier3", context={"retryable": False}) from None
    made: type[Cluster] = module.Cluster
    return made


async def _called_off(cancel: asyncio.CancelledError, flight: Flight) -> asyncio.CancelledError:
    """What a cancel of a call says whose effect nobody wants twice."""
    if not flight.begun:
        return CalledOff(cancel, None)
    with suppress(Exception):
        async with asyncio.timeout(_ARRIVAL):
            outcome = await flight.done
            return cancel if outcome is None else CalledOff(cancel, outcome)
    return cancel


def _taken_back(step: str) -> ExecutionError:
    message = "Dask has taken the call from its worker before it was done"
    return ExecutionError(code="INTERRUPTED", message=message, tier="tier3", step=step)


def _no_such_worker(resources: Mapping[str, float], address: str, step: str) -> ExecutionError:
    wanted = [f"{name}={amount:g}" for name, amount in resources.items()]
    where, then = f"the Dask cluster at {address}", f'start one: dask worker {address} --resources "{" ".join(wanted)}"'
    if address == "local":
        where, then = "a local cluster", "name a scheduler whose workers have it"
    message = f"no worker of {where} has {' and '.join(wanted)}; {then}"
    return ExecutionError(code="TOOL_FAILED", message=message, tier="tier3", step=step)


__all__ = ["DaskHost"]
