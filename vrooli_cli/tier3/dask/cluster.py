"""The connection to a Dask cluster: calls go out in batches, outcomes and news come back.

::

    Cluster.connect    scheduler, versions of the workers, station and tools on them
    Cluster.send       a call → a Flight, which its outcome ends; all calls of one loop iteration are one message
    Cluster.stop       ends calls on their workers, past the tasks, and returns when nothing of them is left
    Cluster._watch     once a second while there are calls: is the scheduler there, is anybody there to work

What travels is sealed, keys hold no secrets, and Dask's own logging is silent in this process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any, Final

import dask.config
from distributed import Client, LocalCluster

from vrooli_cli.errors import VrooliError
from vrooli_cli.model.version import VROOLI
from vrooli_cli.tier3.dask.wire import FarCall, Gone, Lost, Sealed, minor, pack
from vrooli_cli.tier3.dask.worker import (
    Name,
    Station,
    ToolsPlugin,
    answer,
    end_run,
    run_calls,
    stop_calls,
    versions_differ,
)
from vrooli_cli.tier3.scope import ToolOutcome

LOCAL: Final = "local"
"""The address that means: a cluster on this machine, for as long as this vrooli lives."""

_CONNECT = 10.0  # seconds for the scheduler to answer
_NOBODY = 60.0  # seconds for a worker to join a cluster that has none
_LOCAL_THREADS = 4  # calls at one moment on a worker of a local cluster
_MESSAGE = 4 << 20  # bytes of calls in one message
_AHEAD = 4  # tasks that Dask has of ours for each thread of the cluster; the rest waits here
_LEAST = 32  # tasks that Dask has of ours in any case
_SHORT = 0.05  # seconds: calls of a tool that take less on average share a task
_TOGETHER = 0.2  # seconds that the calls of one task may take together
_MOST = 64  # calls of one task
_TOGETHER_ONCE = 0.02  # seconds that `once` calls of one task may take together: when their worker dies, …
_MOST_ONCE = 4  # … nobody knows which of them have happened
_DOORS = 32  # questions to the scheduler at one moment, each with a connection of its own
_LAST_WORD = 5.0  # seconds beyond the grace that a worker has to say that a call has ended

News = Callable[[str, Any], None]
"""Hears what a call tells before its outcome: kind and value."""


class Cluster:
    """A connection.

    Attributes:
        address: Where the scheduler is; for people.
        toolbox: The name of the tools' plugin.
        topic: Where the news of this connection's calls goes.
        gone: Why the cluster cannot be used any more; "" while it can.
    """

    def __init__(self, address: str, client: Any, toolbox: str, local: Any) -> None:
        self.address = address
        self.toolbox = toolbox
        self.topic = f"vrooli-{os.urandom(8).hex()}"
        self.gone = ""
        self._client = client
        self._local = local
        self._news: dict[int, News] = {}
        self._lanes: dict[Resources, _Lane] = {}
        self._means: dict[str, float] = {}  # tool → seconds that its calls take here
        self._sending = False
        self._flights: dict[int, Flight] = {}
        self._stopping: dict[bool, tuple[list[Flight], asyncio.Task[None]]] = {}  # hard → calls, and what stops them
        self._background: set[asyncio.Task[None]] = set()
        self._doors = asyncio.Semaphore(_DOORS)
        self._watching: asyncio.Task[None] | None = None
        client.subscribe_topic(self.topic, self._heard)

    @classmethod
    async def connect(cls, address: str, folders: Sequence[Path]) -> Cluster:
        """Connect, see to it that the workers can be used, and give them the tools of these folders.

        Raises:
            Gone: The scheduler does not answer.
            VrooliError: The workers cannot be used, or the tools cannot be sent.
        """
        box = pack(folders)
        _silence()
        local = await _local_cluster() if address == LOCAL else None
        try:
            client = await _client(address, local, _CONNECT)
        except BaseException:
            if local is not None:
                await local.close()
            raise
        made = cls(address, client, box.name, local)
        try:
            await made._check_versions()
            await made._bring(Station(deaf=local is not None))
            await made._bring(ToolsPlugin(box))
        except OSError as error:
            await made.close()
            raise Gone(f"the Dask scheduler at {address} is gone: {_line(error)}") from None
        except BaseException:
            await made.close()
            raise
        return made

    async def close(self) -> None:
        """Let go of it; a local cluster ends."""
        patience = 0.2 if self.gone else 2.0
        self.gone = self.gone or "the connection is closed"
        if self._watching is not None:
            self._watching.cancel()
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            await asyncio.wait_for(self._client.close(timeout=patience), 10)
        if self._local is not None:
            with suppress(Exception):
                await asyncio.wait_for(self._local.close(timeout=10), 20)

    # --- calls -------------------------------------------------------------------------------------------------------

    def send(self, call: FarCall, news: News) -> Flight:
        """Send a call; its outcome comes as ``Flight.done``. Whoever sends it has to :meth:`land` it.

        Args:
            call: Goes out with all others of this iteration of the loop.
            news: Hears what it tells, also what it has left behind, until :meth:`forget`.

        Raises:
            Gone: The cluster is.
        """
        if self.gone:
            raise Gone(self.gone)
        flight = Flight(call)
        self._flights[call.number] = flight
        self._news[call.number] = news
        resources = tuple(sorted(call.invocation.resources.items()))
        self._lanes.setdefault(resources, _Lane(dict(resources))).waiting.append(flight)
        self._send_soon()
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="vrooli-dask-watch")
        return flight

    def land(self, flight: Flight) -> None:
        """Nobody waits for a call any more: once that is so for all calls of its task, the cluster forgets it."""
        self._flights.pop(flight.call.number, None)
        flight.landed = True
        flight.done.cancel()
        task = flight.task
        if task is not None and task.future is not None and task.landed:
            task.release(self._client, self.gone)

    def forget(self, numbers: Iterable[int]) -> None:
        """Nobody listens to these calls any more."""
        for number in numbers:
            self._news.pop(number, None)

    async def can_have(self, resources: Mapping[str, float]) -> bool:
        """False when there are workers, and none of them has these resources."""
        identity = await self._client.scheduler.identity(n_workers=-1)
        workers = list(identity["workers"].values())
        has = [one.get("resources") or {} for one in workers]
        return not workers or any(all(one.get(name, 0) >= n for name, n in resources.items()) for one in has)

    def _send_soon(self) -> None:
        if not self._sending:
            self._sending = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        """Everything that has become ready in this iteration of the loop, as far as the cluster has use for it."""
        self._sending = False
        threads = int(self._client.scheduler_info().get("total_threads", 0))
        for lane in self._lanes.values():
            most = max(_LEAST, _AHEAD * threads)
            free = most - lane.sent
            if free < most // 4 and len(lane.waiting) > free:  # a message for each arrival would cost the scheduler
                continue
            tasks: list[_Task] = []
            size = 0
            while lane.waiting and len(tasks) < free:
                task = _packed(self._together(lane, max(1, threads)))
                if task is not None:
                    tasks.append(task)
                    size += len(task.sealed.data)
                if size > _MESSAGE:
                    self._submit(lane, tasks)
                    free, tasks, size = free - len(tasks), [], 0
            if tasks:
                self._submit(lane, tasks)

    def _together(self, lane: _Lane, threads: int) -> list[Flight]:
        """The next calls that share a task: several only when they are short, and enough are left for every thread."""
        first = lane.next()
        if first is None:
            return []
        mean = self._means.get(first.call.invocation.tool, _SHORT)
        count = 1
        if mean < _SHORT and first.sociable:
            together, most = (_TOGETHER_ONCE, _MOST_ONCE) if first.once else (_TOGETHER, _MOST)
            count = min(-(-len(lane.waiting) // (2 * threads)), int(together / max(mean, 1e-4)), most)
        found = [first]
        while len(found) < count and (flight := lane.next(like=first)) is not None:
            found.append(flight)
        return found

    def _submit(self, lane: _Lane, tasks: list[_Task]) -> None:
        """Give tasks to Dask; those that may happen once have a place with the scheduler before."""
        lane.sent += len(tasks)
        once = [task for task in tasks if task.once]
        if once:
            self._begin(self._open_places(lane, once))
        self._map(lane, [task for task in tasks if not task.once])

    async def _open_places(self, lane: _Lane, tasks: list[_Task]) -> None:
        """A place for the name of the one worker that begins a task: see ``Station._claimed``."""

        async def open_place(task: _Task) -> None:
            async with self._doors:
                await self._client.scheduler.queue_create(name=task.key, client=self._client.id, maxsize=1)

        try:
            await asyncio.gather(*map(open_place, tasks))
        except Exception as error:  # the connection has just closed
            self._lost(error)
            return
        wanted: list[_Task] = []
        for task in tasks:
            if task.leave_out_landed():  # calls that were stopped in the meantime
                wanted.append(task)
            else:
                task.release(self._client, self.gone)
                self._arrived(lane)
        self._map(lane, wanted)

    async def _take_places(self, tasks: Iterable[_Task]) -> None:
        """Nobody wants these tasks: what no worker has begun never begins, and is known not to have."""

        async def take(task: _Task) -> None:
            me = self._client.id
            with suppress(Exception):  # a worker has it, or it is not there
                async with self._doors:
                    await self._client.scheduler.queue_put(name=task.key, client=me, key=None, data=me, timeout=0.05)
                for flight in task.flights:
                    flight.begun = False

        await asyncio.gather(*(take(task) for task in tasks if task.once and task.future is not None))

    def _map(self, lane: _Lane, tasks: list[_Task]) -> None:
        if not tasks or self.gone:
            return
        try:
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GiB"}):
                futures = self._client.map(
                    run_calls,
                    [task.sealed for task in tasks],
                    key=[task.key for task in tasks],
                    pure=False,
                    retries=0,
                    resources=lane.resources or None,
                )
        except Exception as error:  # the connection has just closed
            self._lost(error)
            return
        for task, future in zip(tasks, futures, strict=True):
            task.future = future
            for flight in task.flights:
                flight.begun = True
            task.waits = asyncio.create_task(self._arrive(lane, task), name=f"vrooli-dask:{task.key}")
            task.waits.add_done_callback(lambda _: self._arrived(lane))

    async def _arrive(self, lane: _Lane, task: _Task) -> None:
        """Wait for the outcomes of one task; Dask fetches those of many such waits together."""
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        try:
            for flight, (outcome, seconds) in zip(task.flights, (await task.future).open(), strict=True):
                flight.succeed(outcome)
                tool = flight.call.invocation.tool
                self._means[tool] = 0.8 * self._means.get(tool, seconds) + 0.2 * seconds
        except FutureCancelledError as error:
            known = error.reason == "scheduler-connection-lost" or self.gone
            task.fail(Gone(self._lost(None)) if known else Lost("Dask has dropped it"))
        except KilledWorker:
            if len(task.flights) > 1 and not task.once:  # one of them is to blame
                self._alone(lane, task)
            await self._take_places([task])
            task.fail(Lost("every worker that ran it died; has one of them enough memory for it?"))
        except Exception as error:  # e.g. a worker that does not have vrooli
            await self._take_places([task])
            task.fail(Lost(_line(error)))

    def _arrived(self, lane: _Lane) -> None:
        lane.sent -= 1
        if lane.waiting and not self.gone:
            self._send_soon()

    def _alone(self, lane: _Lane, task: _Task) -> None:
        """Send the calls of a task again, each by itself."""
        flights, task.flights = task.flights, []
        task.release(self._client, self.gone)
        for flight in flights:
            if not flight.done.done():
                flight.task = None
                flight.sociable = False
                flight.call.key += "+alone"
                lane.waiting.append(flight)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="vrooli-dask")
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    # --- stopping ----------------------------------------------------------------------------------------------------

    async def stop(self, flight: Flight, *, hard: bool = False) -> None:
        """End a call; returns when nothing that it has started is left, or its worker cannot be reached.

        All calls that are stopped in one iteration of the loop are one message to each worker, and return together.
        """
        if flight.task is None or flight.task.future is None:  # Dask does not have it, and will not
            flight.landed = True
            return
        if self.gone or flight.done.done():
            return
        stopping = self._stopping.get(hard)
        if stopping is None:
            flights: list[Flight] = []
            stopping = self._stopping[hard] = flights, self._begin(self._stop(flights, hard))
        stopping[0].append(flight)
        await asyncio.shield(stopping[1])

    async def _stop(self, flights: list[Flight], hard: bool) -> None:
        await asyncio.sleep(0)
        del self._stopping[hard]
        named: dict[Name, Flight] = {(flight.call.topic, flight.call.number): flight for flight in flights}
        stopped = set(flights)
        tasks = {flight.task for flight in flights if flight.task is not None}
        unwanted = {task for task in tasks if all(one.landed or one in stopped for one in task.flights)}
        keys = {task.key for task in tasks}
        with suppress(Exception):  # who cannot be reached any more cannot be told
            async with asyncio.timeout(max(flight.call.grace for flight in flights) + _LAST_WORD):
                await self._take_places(unwanted)
                processing = await self._client.processing()
                workers = [address for address, held in processing.items() if not keys.isdisjoint(held)]
                if unwanted != tasks or keys - {key for held in processing.values() for key in held}:
                    workers = list(processing)  # a task may go on for others that share it, wherever it comes to
                if workers:
                    asked = self._client.run(stop_calls, list(named), hard, workers=workers, on_error="ignore")
                    for never_begun in (await asked).values():
                        for name in never_begun:
                            named[name].begun = False

    async def end_run(self, root_id: str, grace: float) -> None:
        """A run is over: nothing of it stays on any worker."""
        if self.gone:
            return
        with suppress(Exception):  # who cannot be reached any more cannot be told
            async with asyncio.timeout(grace + _LAST_WORD):
                await self._client.run(end_run, root_id, grace, on_error="ignore")

    async def tell(self, worker: str, name: Name, number: int, told: Any) -> None:
        """Answer a question of a call."""
        with suppress(Exception):  # who cannot be reached any more cannot be told
            await self._client.run(answer, name, number, Sealed.of(told), workers=[worker], on_error="ignore")

    # --- news --------------------------------------------------------------------------------------------------------

    def _heard(self, event: tuple[float, Any]) -> None:
        number, kind, data = event[1]
        news = self._news.get(number)
        if kind == "ended" and number in self._flights:
            self._flights[number].succeed(pickle.loads(data))
        elif news is not None:
            news(kind, pickle.loads(data))

    async def _watch(self) -> None:
        """Tell every call when the cluster cannot do it any more; workers that have joined get what still waits."""
        alone_since: float | None = None
        while not self.gone:
            await asyncio.sleep(1)
            if not self._flights:
                alone_since = None
                continue
            comm = getattr(self._client, "scheduler_comm", None)
            if comm is None or comm.comm.closed() or self._client.status != "running":
                self._lost(None)
            elif self._client.scheduler_info()["n_workers"]:
                alone_since = None
                self._send_soon()
            else:
                alone_since = alone_since or monotonic()
                if monotonic() - alone_since > _NOBODY:
                    told = f"no worker has joined the Dask cluster at {self.address} for {_NOBODY:g} s"
                    flights = list(self._flights.values())
                    await self._take_places({flight.task for flight in flights if flight.task is not None})
                    for flight in flights:
                        flight.fail(Lost(f"{told}; start one: `dask worker {self.address}`"))

    def _lost(self, error: Exception | None) -> str:
        """The cluster is gone, for every call that there is and that comes."""
        if not self.gone:
            self.gone = f"the Dask scheduler at {self.address} is gone{f': {_line(error)}' if error else ''}"
            for flight in list(self._flights.values()):
                flight.fail(Gone(self.gone))
        return self.gone

    async def _bring(self, plugin: Any) -> None:
        """A plugin for all workers, and for those to come."""
        try:
            await self._client.register_plugin(plugin)
        except OSError:  # a worker has died in that moment, and the others have it; or the scheduler is gone
            async with asyncio.timeout(_CONNECT):
                await self._client.register_plugin(plugin)

    async def _check_versions(self) -> None:
        found = await self._client.run(version, "vrooli", on_error="return")
        other = {address: one for address, one in found.items() if isinstance(one, str) and minor(one) != minor(VROOLI)}
        without = [address for address, one in found.items() if isinstance(one, PackageNotFoundError)]
        if without:
            more = f" (and {len(without) - 1} more)" if len(without) > 1 else ""
            message = f"the Dask worker {without[0]}{more} has no vrooli"
            hint = f"install vrooli {minor(VROOLI)} where the workers run: pip install 'vrooli[dask]'"
            raise VrooliError(f"{message}; {hint}", code="TOOL_FAILED", tier="tier3")
        if other:
            raise VrooliError(versions_differ(VROOLI, other), code="TOOL_FAILED", tier="tier3")


Resources = tuple[tuple[str, float], ...]


class Flight:
    """One call on its way.

    Attributes:
        done: The outcome, or None when it was ended by :meth:`Cluster.stop` or by Dask; raises :class:`Gone` when the
            cluster is, and :class:`Lost` when the workers that ran it are.
        task: None before it was sent.
        landed: Nobody waits any more.
        begun: A worker may have begun it.
        once: It must not happen twice.
        sociable: It may share a task with others.
    """

    __slots__ = ("begun", "call", "done", "landed", "once", "sociable", "task")

    def __init__(self, call: FarCall) -> None:
        self.call = call
        self.done: asyncio.Future[ToolOutcome | None] = asyncio.get_running_loop().create_future()
        self.task: _Task | None = None
        self.landed = False
        self.begun = False
        self.once = call.invocation.effects == "once"
        self.sociable = True

    def is_like(self, other: Flight) -> bool:
        """True when they may share a task."""
        mine, its = self.call.invocation, other.call.invocation
        return self.sociable and (mine.tool, mine.effects) == (its.tool, its.effects)

    def succeed(self, outcome: ToolOutcome | None) -> None:
        """It has an outcome."""
        if not self.done.done():
            self.done.set_result(outcome)

    def fail(self, error: Exception) -> None:
        """It will have none."""
        if not self.done.done():
            self.done.set_exception(error)


class _Lane:
    """The calls that want the same resources.

    Attributes:
        waiting: Not sent yet, in order.
        sent: Tasks that Dask has.
    """

    __slots__ = ("resources", "sent", "waiting")

    def __init__(self, resources: dict[str, float]) -> None:
        self.resources = resources
        self.waiting: deque[Flight] = deque()
        self.sent = 0

    def next(self, like: Flight | None = None) -> Flight | None:
        """The first that somebody still waits for; None when it may not share a task with ``like``."""
        while self.waiting and self.waiting[0].landed:
            self.waiting.popleft()
        if not self.waiting or not (like is None or self.waiting[0].is_like(like)):
            return None
        return self.waiting.popleft()


class _Task:
    """What Dask sees: one call, or several short ones.

    Attributes:
        once: Its calls must not happen twice, so the worker that begins it says so first.
    """

    __slots__ = ("flights", "future", "key", "once", "sealed", "waits")

    def __init__(self, flights: list[Flight]) -> None:
        self.flights = flights
        self.once = flights[0].once
        self.key = flights[0].call.key
        self.future: Any = None
        self.waits: asyncio.Task[None] | None = None
        self._seal()
        for flight in flights:
            flight.task = self

    def _seal(self) -> None:
        self.sealed = Sealed.of((self.key, [flight.call for flight in self.flights]))

    def leave_out_landed(self) -> bool:
        """Before it is sent: without the calls that nobody waits for any more; False when none is left."""
        left = [flight for flight in self.flights if not flight.landed]
        if left and len(left) < len(self.flights):
            self.flights = left
            self._seal()
        return bool(left)

    @property
    def landed(self) -> bool:
        """Nobody waits for any of its calls any more."""
        return all(flight.landed for flight in self.flights)

    def fail(self, error: Exception) -> None:
        for flight in self.flights:
            flight.fail(error)

    def release(self, client: Any, gone: str) -> None:
        """Let the cluster forget it."""
        with suppress(Exception):
            if self.future is not None:
                self.future.release()
            if self.once and not gone:
                client._send_to_scheduler({"op": "queue_release", "name": self.key, "client": client.id})


def _packed(flights: list[Flight]) -> _Task | None:
    """The task of these calls; None when there is none, or when they cannot travel."""
    try:
        return _Task(flights) if flights else None
    except Exception as error:  # parameters that an embedding program made of what cannot be pickled
        for flight in flights:
            flight.fail(Lost(f"its parameters cannot be sent: {_line(error)}"))
        return None


async def census(address: str, seconds: float) -> tuple[int, int]:
    """How many workers a cluster has, and how many calls they take at one moment.

    Raises:
        Gone: Its scheduler does not answer.
    """
    _silence()
    client = await _client(address, None, seconds)
    info = client.scheduler_info()
    await client.close()
    return int(info["n_workers"]), int(info["total_threads"])


async def _local_cluster() -> Any:
    make: Any = LocalCluster  # Dask's hints are those of its blocking half
    workers = max(1, min(os.cpu_count() or 1, 8))
    return await make(
        n_workers=workers,
        threads_per_worker=_LOCAL_THREADS,
        asynchronous=True,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        silence_logs=logging.CRITICAL,
    )


async def _client(address: str, local: Any, seconds: float) -> Any:
    make: Any = Client
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions that differ are checked where they matter
            return await make(
                local if local is not None else address,
                asynchronous=True,
                set_as_default=False,
                timeout=seconds,
                name="vrooli",
            )
    except (OSError, ValueError) as error:
        told = f"the Dask scheduler at {address} does not answer within {seconds:g} s"
        if isinstance(error, ValueError):
            told = f"{address} is no address of a Dask scheduler: {_line(error)}"
        raise Gone(told) from None


def _silence() -> None:
    """What Dask has to say in this process, vrooli says itself, in one line."""
    for name in ("distributed", *list(logging.root.manager.loggerDict)):
        if name.split(".")[0] in ("distributed", "tornado", "bokeh"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return first[:300] or type(error).__name__
