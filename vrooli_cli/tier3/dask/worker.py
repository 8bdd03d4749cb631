"""The worker's end: calls run on a :class:`~vrooli_cli.tier3.host.LocalHost` in the worker's own process.

One :class:`Station` a worker serves every vrooli that uses the cluster; a :class:`ToolsPlugin` a project brings its
tools. Both are worker plugins, so a worker that joins late has them, too. Everything here is started by a task
(:func:`run_calls`) or by a message that goes past the tasks (:func:`stop_calls`, :func:`answer`, :func:`end_run`), and
nothing of it raises: Dask would write arguments into its logs.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import signal
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, Final, cast

from distributed import get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from vrooli_cli.errors import Problem, VrooliError
from vrooli_cli.gate import Action, Admission, Gate, Policy
from vrooli_cli.ledger import Account
from vrooli_cli.model.clock import SystemClock
from vrooli_cli.model.events import Emit, Event
from vrooli_cli.model.run import ExecutionError
from vrooli_cli.model.version import VROOLI
from vrooli_cli.tier3.custom import load_tools
from vrooli_cli.tier3.dask.wire import STATION, TOOLS, TRAVELLING, FarCall, Sealed, Toolbox, minor, unknown_outcome
from vrooli_cli.tier3.guard import Guard
from vrooli_cli.tier3.host import LocalHost
from vrooli_cli.tier3.memory import MemoryMeter
from vrooli_cli.tier3.plain import plain_result
from vrooli_cli.tier3.processes import Processes
from vrooli_cli.tier3.registry import ToolRegistry
from vrooli_cli.tier3.scope import Scope, ToolOutcome

_PATIENCE: Final = 0.1  # seconds that a call may take before the next one of its task begins
_REMEMBERED: Final = 10_000  # calls that were stopped and have not come, e.g. since another worker has them
_LOOK: Final = 0.02  # seconds until we look again for a plugin that is on its way here …
_LOOKS: Final = 500  # … so many times
_BACKSTOP: Final = 30.0  # seconds beyond a call's time-out: vrooli ends it itself, unless it cannot reach the worker

Name = tuple[str, int]
"""Topic and number: the name of a call."""

Ended = tuple[ToolOutcome | None, float]
"""A call's outcome, None when it was stopped, and the seconds that it took."""


# --- doors: what vrooli asks of a worker -----------------------------------------------------------------------------


async def run_calls(sealed: Sealed) -> Sealed:
    """Some calls, as one task: a list of outcome and seconds, whatever happens."""
    key: str
    calls: list[FarCall]
    key, calls = sealed.open()
    worker = get_worker()
    station = await _plugin(worker, STATION)
    if not isinstance(station, Station):
        told = f"the worker {worker.address} is not ready for vrooli; look into its log"
        return Sealed.of([(_refused(call, told), 0.0) for call in calls])
    return _sealed(await station.run(key, calls))


async def stop_calls(names: Iterable[Name], hard: bool, dask_worker: Any = None) -> list[Name]:
    """End calls with everything that they have started; those that this worker alone may begin, and never will.

    Args:
        names: Of calls; those that have not begun never begin here.
        hard: Without grace.
        dask_worker: Given by Dask.
    """
    station = dask_worker.plugins.get(STATION)
    return await station.stop(names, hard) if isinstance(station, Station) else []


async def answer(name: Name, number: int, sealed: Sealed, dask_worker: Any = None) -> None:
    """What the gate says to a question that a call on this worker has asked."""
    station = dask_worker.plugins.get(STATION)
    if isinstance(station, Station):
        station.answered((*name, number), sealed.open())


async def end_run(root_id: str, grace: float, dask_worker: Any = None) -> None:
    """A run is over: nothing that its calls shared or left behind stays."""
    station = dask_worker.plugins.get(STATION)
    if isinstance(station, Station):
        await station.end_run(root_id, grace)


# --- one worker ------------------------------------------------------------------------------------------------------


class Station(WorkerPlugin):  # type: ignore[misc, unused-ignore]
    """Runs calls on one worker.

    Args:
        deaf: Ctrl-C is not for this worker: it belongs to a vrooli in the same terminal.
    """

    idempotent = True

    def __init__(self, deaf: bool = False) -> None:
        self.name = STATION
        self._deaf = deaf

    def setup(self, worker: Any) -> None:
        """Called by Dask when the worker has begun, or when the plugin comes to it."""
        self.worker = worker
        self.host = _GuardedHost()
        self._running: dict[Name, asyncio.Task[ToolOutcome]] = {}
        self._names: dict[str, set[Name]] = {}  # Dask's key → the calls that run under it
        self._claims: set[Name] = set()  # `once` calls that this worker alone may begin, and has not
        self._unwanted: dict[Name, None] = {}  # calls that were stopped before they began, in order
        self._asked: dict[tuple[str, int, int], asyncio.Future[Any]] = {}
        self._folders: dict[str, str] = {}  # root run → the work folder that was made for it here
        if self._deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def teardown(self, worker: Any) -> None:
        """Called by Dask when the worker ends."""
        for task in self._running.values():
            task.cancel()
        self.host.processes.kill_all()
        self.host.guard.close()

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """Called by Dask: nobody wants a call any more that is at work (its vrooli has died, or stops it)."""
        if finish in ("cancelled", "released", "forgotten") and start in ("executing", "long-running"):
            names = self._names.get(str(key), set())
            self._never(names)
            for name in names & self._running.keys():
                self._running[name].cancel()

    async def run(self, key: str, calls: list[FarCall]) -> list[Ended]:
        """The calls of a task, which are all `once` or none is."""
        names = self._names[key] = {(call.topic, call.number) for call in calls}
        try:
            if calls[0].invocation.effects == "once":
                if not await self._claimed(key):
                    why = "the worker that ran it is gone"
                    return [(ToolOutcome(error=unknown_outcome(call.invocation.address, why)), 0.0) for call in calls]
                self._claims |= names - self._unwanted.keys()
            return await self._all(calls)
        finally:
            del self._names[key]
            self._claims -= names
            for name in names:
                self._unwanted.pop(name, None)

    async def _all(self, calls: list[FarCall]) -> list[Ended]:
        """Calls one after another; one that takes its time does not hold up the others."""
        begun: dict[int, asyncio.Task[Ended]] = {}
        told: set[int] = set()
        try:
            for call in calls:
                task = begun[call.number] = asyncio.create_task(self._one(call), name=f"vrooli:{call.number}")
                if len(calls) > 1:
                    await asyncio.wait([task], timeout=_PATIENCE)
                    if not task.done():
                        self._tell_ended(calls, begun, told)
            while pending := [task for task in begun.values() if not task.done()]:
                if len(calls) > 1:
                    self._tell_ended(calls, begun, told)
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            return [await task for task in begun.values()]
        except asyncio.CancelledError:  # the worker itself is ending
            for task in begun.values():
                task.cancel()
            raise

    def _tell_ended(self, calls: list[FarCall], begun: dict[int, asyncio.Task[Ended]], told: set[int]) -> None:
        """A call takes longer than was thought: the outcomes before it are told now, not with its own."""
        for call in calls:
            task = begun.get(call.number)
            if task is not None and task.done() and call.number not in told:
                told.add(call.number)
                self.tell(call, "ended", task.result()[0])

    async def _one(self, call: FarCall) -> Ended:
        """One call to its end; None when it was stopped."""
        name, began = (call.topic, call.number), monotonic()
        if name in self._unwanted or (call.invocation.effects == "once" and name not in self._claims):
            return None, 0.0
        if minor(call.version) != minor(VROOLI):
            return _refused(call, versions_differ(call.version, {self.worker.address: VROOLI})), 0.0
        self._claims.discard(name)
        task = self._running[name] = asyncio.create_task(self._outcome(call), name=f"vrooli:{call.number}")
        try:
            return await task, monotonic() - began
        except asyncio.CancelledError:
            if not task.done():
                raise
            return None, 0.0
        except Exception as error:  # of ours: Dask would write it into its log
            return ToolOutcome(error=_bug(call, error)), 0.0
        finally:
            del self._running[name]

    async def stop(self, names: Iterable[Name], hard: bool) -> list[Name]:
        """See :func:`stop_calls`."""
        names = [(topic, number) for topic, number in names]
        found = {name: task for name in names if (task := self._running.get(name)) is not None}
        never = [name for name in names if name in self._claims]
        self._never(name for name in names if name not in found)
        for task in found.values():
            task.cancel()
        if hard and found:
            await asyncio.sleep(0)  # the first cancel has to arrive before a second one can cut the grace
            for task in found.values():
                task.cancel()
        if found:
            await asyncio.wait(found.values())
        return never

    def _never(self, names: Iterable[Name]) -> None:
        """These calls do not begin here any more."""
        names = dict.fromkeys(names)
        self._claims -= names.keys()
        self._unwanted.update(names)
        while len(self._unwanted) > _REMEMBERED:
            del self._unwanted[next(iter(self._unwanted))]

    def answered(self, question: tuple[str, int, int], told: Any) -> None:
        """See :func:`answer`."""
        waiting = self._asked.get(question)
        if waiting is not None and not waiting.done():
            waiting.set_result(told)

    async def end_run(self, root_id: str, grace: float) -> None:
        """See :func:`end_run`."""
        await self.host.end_run(root_id, grace)
        folder = self._folders.pop(root_id, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def tell(self, call: FarCall, kind: str, value: Any = None) -> None:
        """News of a call for the vrooli that has sent it; from any thread."""
        self.worker.log_event(call.topic, [call.number, kind, pickle.dumps(value, protocol=5)])

    async def ask(self, call: FarCall, number: int, value: Any) -> Any:
        """A question to the gate; what it answers."""
        question = (call.topic, call.number, number)
        waiting = self._asked[question] = asyncio.get_running_loop().create_future()
        try:
            self.tell(call, "admit", (number, self.worker.address, value))
            return await waiting
        finally:
            del self._asked[question]

    def work_folder(self, call: FarCall) -> str:
        """The run's temporary folder on this machine."""
        with suppress(FileExistsError):
            Path(call.work_dir).mkdir(mode=0o700, parents=True)
            self._folders[call.root_id] = call.work_dir
        return call.work_dir

    async def _claimed(self, key: str) -> bool:
        """True for the one worker that may begin this task.

        Dask runs a task again when its worker has died, also when its outcome has arrived in the meantime. What may
        happen once has a place for one name with the scheduler (``Cluster._open_places``), there until vrooli has the
        outcome. When it is taken or gone, nobody may begin.
        """
        me = self.worker.address
        try:
            await self.worker.scheduler.queue_put(name=key, client=me, key=None, data=me, timeout=0.5)
        except Exception:  # taken (a time-out), gone (a KeyError), or the scheduler is
            return False
        return True

    async def _outcome(self, call: FarCall) -> ToolOutcome:
        box = await _plugin(self.worker, call.toolbox)
        name, address = call.invocation.tool, call.invocation.address
        if not isinstance(box, ToolsPlugin) or box.tools.get_tool(name) is None:
            problems = box.problems if isinstance(box, ToolsPlugin) else ()
            return ToolOutcome(error=_missing(name, address, self.worker.address, problems))
        if call.work_dir and call.work_dir.encode() in pickle.dumps(call.invocation.parameters):
            self.work_folder(call)
        if call.invocation.seconds is not None:
            self.tell(call, "began")
        limit = None if call.invocation.seconds is None else call.invocation.seconds + _BACKSTOP
        try:
            async with asyncio.timeout(limit):
                outcome = await self.host.call(call.invocation, self._scope(call, box.tools))
        except TimeoutError:
            return ToolOutcome(
                error=ExecutionError(code="STEP_TIMEOUT", message="the step took too long", step=address)
            )
        return _travelling(outcome, call, box)

    def _scope(self, call: FarCall, tools: ToolRegistry) -> Scope:
        def emit(fact: Event) -> None:
            self.tell(call, "event", fact)

        return Scope(
            execution_id=call.execution_id,
            root_id=call.root_id,
            emit=emit,
            account=Account(call.execution_id, 0),
            gate=cast(Gate, _FarGate(self, call)),
            policy=Policy(),
            tools=tools,
            host=self.host,
            clock=SystemClock(),
            secrets=call.secrets,
            environ=call.environ,
            env=call.env,
            folder=call.folder,
            roots=call.roots,
            work_dir=lambda: self.work_folder(call),
            grace=call.grace,
            memory=_FarMeter(self, call) if call.metered else None,
            traced=(lambda *_: call.trace) if call.trace else None,
        )


async def _plugin(worker: Any, name: str) -> Any:
    """A plugin; when another vrooli has only just brought it, it is on its way here, or loads its tools."""
    for _ in range(_LOOKS):
        if name in worker.plugins:
            break
        await asyncio.sleep(_LOOK)
    found = worker.plugins.get(name)
    if isinstance(found, ToolsPlugin) and not found.loading.done():
        await asyncio.wait([found.loading])
    return found


def _sealed(ended: list[Ended]) -> Sealed:
    """Outcomes, sealed; details of errors that cannot travel are told in words."""
    try:
        return Sealed.of(ended)
    except Exception:  # whatever a tool's author has put into a context
        for outcome, _ in ended:
            if outcome is not None and outcome.error is not None:
                context = {key: str(value) for key, value in outcome.error.context.items()}
                outcome.error = replace(outcome.error, context=context)
        return Sealed.of(ended)


def _travelling(outcome: ToolOutcome, call: FarCall, box: ToolsPlugin) -> ToolOutcome:
    """An outcome that can be sent: plain data, and places in tool files as the one who wrote them knows them."""
    if outcome.error is not None:
        at = outcome.error.context.get("at")
        if isinstance(at, str):
            context = {**outcome.error.context, "at": box.original(at)}
            outcome.error = replace(outcome.error, context=context)
        return outcome
    try:
        outcome.result = plain_result(outcome.result)
    except VrooliError as error:
        outcome.error = ExecutionError.of(error, step=call.invocation.address, tier="tier3")
        outcome.result = None
    return outcome


class _FarGate:
    """The gate as a call on a worker sees it: questions go to the vrooli that has sent the call."""

    def __init__(self, station: Station, call: FarCall) -> None:
        self._station = station
        self._call = call
        self._numbers = count()

    async def admit(self, action: Action, policy: Policy, emit: Emit) -> Admission:
        """What the gate says; raises what it refuses with."""
        told = await self._station.ask(self._call, next(self._numbers), action.parameters)
        if isinstance(told, VrooliError):
            raise told
        return cast(Admission, told)


class _FarMeter(MemoryMeter):
    """Tells vrooli what the commands of a call use, whenever that has changed."""

    __slots__ = ("_call", "_station", "_told")

    def __init__(self, station: Station, call: FarCall) -> None:
        super().__init__()
        self._station = station
        self._call = call
        self._told = 0

    def settle(self) -> None:
        super().settle()
        if self.used != self._told:
            self._told = self.used
            self._station.tell(self._call, "memory", self.used)


# --- tools -----------------------------------------------------------------------------------------------------------


class ToolsPlugin(WorkerPlugin):  # type: ignore[misc, unused-ignore]
    """A project's tools on one worker."""

    idempotent = True

    def __init__(self, box: Toolbox) -> None:
        self.name = box.name
        self._box = box

    async def setup(self, worker: Any) -> None:
        """Called by Dask: unpack and import the tools, in a thread."""
        self.place = Path(worker.local_directory, self.name)
        self.tools = ToolRegistry(TRAVELLING)
        self.problems: Sequence[Problem] = ()
        self.loading = asyncio.get_running_loop().run_in_executor(None, self._load)
        await self.loading

    def teardown(self, worker: Any) -> None:
        """Called by Dask when the worker ends."""
        shutil.rmtree(self.place, ignore_errors=True)

    def _load(self) -> None:
        folders = self._box.unpack(self.place)
        others = [place for place in sys.path if self._is_of_another(place)]
        for name, module in list(sys.modules.items()):
            if self._is_of_another(getattr(module, "__file__", None) or "") and not name.startswith("vrooli_tools_"):
                del sys.modules[name]  # `import helpers` means those of this project
        sys.path[:] = [place for place in sys.path if place not in others]
        try:
            custom = load_tools(folders, importing=True)
        finally:
            sys.path += others
        self.tools = ToolRegistry([*TRAVELLING, *custom.tools])
        self.problems = custom.problems

    def _is_of_another(self, path: str) -> bool:
        """True for a place in the tools of another project."""
        return f"{os.sep}{TOOLS}" in path and not path.startswith(str(self.place))

    def original(self, at: str) -> str:
        """``file:line`` where the file was packed."""
        for n, folder in enumerate(self._box.folders):
            inside = f"{self.place / str(n)}{os.sep}"
            if at.startswith(inside):
                return f"{folder}{os.sep}{at.removeprefix(inside)}"
        return at


def _missing(tool: str, step: str, worker: str, problems: Iterable[Problem]) -> ExecutionError:
    """Why a worker does not have a tool."""
    told = next((str(problem) for problem in problems if not problem.warning), "")
    why = f": {told}" if told else "; install its package where the workers run"
    message = f"the worker {worker} cannot run the tool {tool!r}{why}"
    return ExecutionError(code="TOOL_FAILED", message=message, tier="tier3", step=step)


# --- commands --------------------------------------------------------------------------------------------------------


class _GuardedHost(LocalHost):
    """A host whose commands do not outlive the worker, however that ends (kill -9, a nanny that has lost its vrooli).

    What they did must not go on beside the second try on another worker.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processes = _GuardedProcesses()
        self.guard = self.processes.guard


class _GuardedProcesses(Processes):
    """Tells the guard of every group of ours that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.guard = Guard(self.spare, politely=False)

    def _start(self, command: Any, share: Any) -> Any:
        child = super()._start(command, share)
        self.guard.watch((*self._live, *self._left))
        return child

    def _forget(self, child: Any) -> None:
        super()._forget(child)
        self.guard.watch((*self._live, *self._left))

    async def end_run(self, run: str, grace: float = 5.0) -> None:
        await super().end_run(run, grace)
        self.guard.watch((*self._live, *self._left))


# --- refusals --------------------------------------------------------------------------------------------------------


def versions_differ(ours: str, theirs: Mapping[str, str]) -> str:
    """One line about workers with another vrooli."""
    worker, version = next(iter(theirs.items()))
    more = f" (and {len(theirs) - 1} more)" if len(theirs) > 1 else ""
    return (
        f"the Dask worker {worker}{more} has vrooli {version}, and this is {ours}; "
        f"install vrooli {minor(ours)} where the workers run"
    )


def _bug(call: FarCall, error: Exception) -> ExecutionError:
    """What nobody foresaw, with all that is needed to find it."""
    return ExecutionError(
        code="INTERNAL",
        message=f"the worker failed in a way that nobody foresaw: {type(error).__name__}: {error}"[:500],
        tier="tier3",
        step=call.invocation.address,
        context={"traceback": "".join(traceback.format_exception(error))[-8_000:]},
    )


def _refused(call: FarCall, message: str) -> ToolOutcome:
    context = {"retryable": False}
    step = call.invocation.address
    return ToolOutcome(
        error=ExecutionError(code="TOOL_FAILED", message=message, tier="tier3", step=step, context=context)
    )
