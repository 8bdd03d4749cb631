"""Running commands: read to the end, stopped with everything they started, measured while they live.

::

    Processes.run      start in a session of its own → exit (pidfd) and both pipes at their end → Finished
      cancel           TERM to the group, grace, then KILL to the group and to all that descends from it
      Processes._look  one sampler, four times a second, only while there is something to look at
    Processes.end_run  what commands have left behind in the background ends with their run
    Processes.kill_all the second Ctrl-C: KILL, at once, to everybody

A command's end is the exit of its own process, and then at most a second for the pipes: a background grandchild that
holds them must not hold the step. That grandchild lives on until the run ends, as a server does that a later step uses.

On Linux this process is a child subreaper, so whoever left its command's family by ``setsid`` and a double fork becomes
our child and is found (spec engine.md, g). A process in *our* session was started by somebody else in this process and
is never touched.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from typing import IO, ClassVar, Final, NamedTuple
from weakref import WeakSet

from vrooli_cli.errors import ToolError, VrooliError
from vrooli_cli.model.values import lean
from vrooli_cli.tier3 import proctable
from vrooli_cli.tier3.guard import Guard
from vrooli_cli.tier3.memory import MIB, MemoryMeter, exceeded
from vrooli_cli.tier3.proctable import Process

CAP: Final = 1 << 20
"""Bytes of stdout, and of stderr, that are kept."""

_DRAIN = 1.0  # seconds that the pipes have after the exit
_SAMPLE = 0.25  # seconds between two looks at the memory
_CHUNK = 1 << 16
_LAST_WORD = 2.0  # seconds that killed processes have to disappear


@lean(kw_only=True)
class Command:
    """A program to run.

    Attributes:
        argv: Program and arguments.
        executable: Where the program is; None is looked for by its name, in PATH.
        env: The whole environment.
        stdin: What it reads; None is nothing (``/dev/null``).
        cap: Bytes kept of stdout, and of stderr.
    """

    argv: Sequence[str]
    cwd: str = "."
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes | None = None
    cap: int = CAP
    executable: str | None = None


@lean(kw_only=True)
class Finished:
    """How a program ended.

    Attributes:
        exit_code: 0 to 255; 128 + n when signal n ended it, as shells say.
        signal: The signal that ended it; None when it exited.
        truncated: True when more came than was kept.
        memory_mb: The most resident memory that was seen of it and its descendants.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False
    signal: int | None = None
    memory_mb: int = 0


class AtWork(NamedTuple):
    """A command of which something runs.

    Attributes:
        session: Its session, which is its process group and the pid of its first process.
        start: When that one began or a moment later, in the process table's unit.
        step: The path of the step that it belongs to.
        program: What was started.
    """

    session: int
    start: float
    step: str
    program: str


class Processes:
    """The commands of one host, over all its runs.

    Several hosts may be at work in one process, and the system knows only the process as parent. So each knows of the
    others: what is theirs is no stray of ours.
    """

    _all: ClassVar[WeakSet[Processes]] = WeakSet()

    def __init__(self) -> None:
        self._all.add(self)
        self._live: dict[int, _Child] = {}
        self._left: dict[int, _Left] = {}  # session → what a command that has ended left behind in it
        self._timer: asyncio.TimerHandle | None = None
        self._spared: set[int] = set()
        self._owned: set[int] = set()
        self._servers_guard = Guard(self.spare, politely=True)
        self._starts = proctable.Starts()
        self._since: float | None = None  # when our first command began, in the table's unit
        self.noting: Callable[[str], None] | None = None
        """Told the root run of every command that has just begun; see :meth:`at_work`."""

    def __len__(self) -> int:
        """How many commands are running."""
        return len(self._live)

    def spare(self, *pids: int) -> None:
        """Children of this process with a session of their own that are not ours to end."""
        self._spared.update(pids)

    def own(self, pid: int, lives: bool) -> None:
        """A child that somebody else ends (an MCP server): :meth:`spare` it while it lives.

        Its group hears :meth:`kill_all`, a guard ends it should this process be killed, and what leaves its group is a
        stray one for :meth:`end_run`.
        """
        if lives:
            if self._since is None:
                proctable.become_subreaper()
            found = proctable.look_up(pid)
            self._note_first(found.start if found else 0.0)
        for pids in (self._spared, self._owned):
            pids.add(pid) if lives else pids.discard(pid)
        if self._owned:
            self._servers_guard.watch(self._owned)
        else:
            self._servers_guard.close()

    def at_work(self, run: str) -> list[AtWork]:
        """The commands of a root run that are running, and those that have left something running behind."""
        live = [(child.pid, child.seen, child.share) for child in self._live.values()]
        left = [(session, one.seen, one.share) for session, one in self._left.items()]
        return [
            AtWork(session, seen.get(session, 0.0), share.step, share.program)
            for session, seen, share in (*live, *left)
            if share.run == run
        ]

    async def run(
        self,
        command: Command,
        *,
        run: str = "",
        step: str = "",
        grace: float = 5.0,
        limit_mb: int | None = None,
        meter: MemoryMeter | None = None,
    ) -> Finished:
        """Run a program to its end.

        A cancel ends it first: TERM to its group, ``grace`` seconds, KILL to all that is left of its family. A second
        cancel skips the grace.

        Args:
            command: What to run.
            run: The root run, for :meth:`end_run`.
            step: The step's path, for errors.
            grace: Seconds from TERM to KILL.
            limit_mb: The most resident memory of its own.
            meter: What it counts for beside.

        Raises:
            ToolError: ``TOOL_FAILED``: the program cannot be started.
            VrooliError: ``MEMORY_EXCEEDED``: it was ended for it.
        """
        child = self._start(command, _Share(run, step, command.argv[0], limit_mb, meter))
        try:
            await child.done
            if child.failure is not None:
                await self._sweep(lambda: self._remains(child))
                raise child.failure
        except asyncio.CancelledError:
            await self._stop(child, grace)
            raise
        finally:
            self._forget(child)
        return child.finished()

    def kill_all(self) -> None:
        """KILL to every command, to what they left behind and to all their descendants; returns at once."""
        for child in self._live.values():
            child.send(signal.SIGKILL)
        for session in (*self._left, *self._owned):
            signal_group(session, signal.SIGKILL)
        _kill(self._everything())

    async def end_run(self, run: str, grace: float = 5.0) -> None:
        """End what the commands of a finished run have left behind: TERM, grace, KILL."""
        sessions = {session for session, left in self._left.items() if left.share.run == run}
        if not sessions and (self._live or self._since is None):
            return

        def remains() -> list[Process]:
            known = proctable.table()
            members = [one for one in known.values() if one.session in sessions and not one.zombie]
            return members + self._orphans(known, alone=not self._live and sessions >= self._left.keys())

        if remains():
            for session in sessions:
                signal_group(session, signal.SIGTERM)
            await self._until(lambda: not any(_group_exists(session) for session in sessions), grace if sessions else 0)
            await self._sweep(remains)
        self._reap(proctable.family(os.getpid()), strays=not self._live)
        for session in sessions:
            left = self._left.pop(session, None)
            if left is not None:
                left.share.update(0)
        self._rest()

    async def aclose(self, grace: float = 5.0) -> None:
        """End everything that any run has left behind."""
        for run in {left.share.run for left in self._left.values()} or {""}:
            await self.end_run(run, grace)

    # --- one command -------------------------------------------------------------------------------------------------

    def _start(self, command: Command, share: _Share) -> _Child:
        if self._since is None:
            proctable.become_subreaper()
        child = _Child(command, share, self._starts)
        self._live[child.pid] = child
        self._note_first(child.since)
        if self.noting is not None:
            self.noting(share.run)
        if self._timer is None:
            self._timer = child.loop.call_later(_SAMPLE, self._look)
        return child

    def _note_first(self, since: float) -> None:
        """A child of ours has begun. Orphans that are younger than the first one, and come to us, are ours, too."""
        if self._since is None:
            self._since = since

    def _forget(self, child: _Child) -> None:
        child.close()
        self._live.pop(child.pid, None)
        if _group_exists(child.pid):
            self._left[child.pid] = _Left(child.share, child.seen)
        else:
            child.share.update(0)
        self._rest()

    def _rest(self) -> None:
        if self._timer is not None and not self._live and not self._left:
            self._timer.cancel()
            self._timer = None

    async def _stop(self, child: _Child, grace: float) -> None:
        """TERM to the group, grace, then KILL to everybody who is left."""
        leader = proctable.look_up(child.pid)
        child.keep([*proctable.family(child.pid).values(), *([leader] if leader else [])])
        child.send(signal.SIGTERM)
        child.send(signal.SIGCONT)  # a stopped process hears TERM only then
        await self._until(lambda: child.exited and not self._group_lives(child.pid), grace)
        await self._sweep(lambda: self._remains(child))

    def _group_lives(self, group: int) -> bool:
        if not _group_exists(group):
            return False
        known = proctable.family(os.getpid())
        self._reap(known)
        return any(one.session == group and not one.zombie for one in known.values())

    async def _until(self, over: Callable[[], bool], seconds: float) -> None:
        """Wait for ``over``, at most so long; a cancel ends the waiting."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + seconds, 0.005
        with suppress(asyncio.CancelledError):
            while not over() and loop.time() < end:
                await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
                pause = min(pause * 1.5, 0.1)

    async def _sweep(self, remains: Callable[[], list[Process]]) -> None:
        """KILL until nobody remains; who does not go within two seconds (a hung disk) is left to the system."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _LAST_WORD
        while (found := remains()) and loop.time() < end:
            _kill(found)
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        self._reap(proctable.family(os.getpid()), strays=len(self._live) <= 1)

    def _remains(self, child: _Child) -> list[Process]:
        """Everybody of the command's family who still lives."""
        known = proctable.table()
        seen = {pid: known[pid] for pid, start in child.seen.items() if pid in known and known[pid].start == start}
        own = {one.pid: one for one in known.values() if one.session == child.pid or one.pid == child.pid}
        roots = [child.pid, *seen, *own]
        found = {**seen, **own, **proctable.descendants(known, roots)}
        alone = self._live.keys() <= {child.pid}
        for one in self._orphans(known, alone=alone):
            if one.start >= child.since:
                found[one.pid] = one
        child.keep(found.values())
        return [one for one in found.values() if not one.zombie]

    # --- everybody ---------------------------------------------------------------------------------------------------

    def _orphans(self, known: dict[int, Process], *, alone: bool) -> list[Process]:
        """Children of ours, and their descendants, that no command accounts for: they left its session and died up.

        While several commands run nobody can say whose they are; they are left for the last one.
        """
        if not alone or self._since is None or any(other._live for other in self._others()):
            return []
        strays = [one for one in self._adopted(known) if one.session not in self._left]
        family = proctable.descendants(known, [one.pid for one in strays])
        return [one for one in (*strays, *family.values()) if not one.zombie]

    def _others(self) -> list[Processes]:
        return [one for one in self._all if one is not self]

    def _adopted(self, known: Mapping[int, Process]) -> list[Process]:
        theirs = {pid for one in self._others() for pid in (*one._live, *one._left, *one._spared)}
        me, since = os.getpid(), self._since or 0.0
        ours = os.getsid(0)
        return [
            one
            for one in known.values()
            if one.parent == me
            and one.session != ours
            and theirs.isdisjoint((one.pid, one.session))
            and one.pid not in self._live
            and one.pid not in self._spared
            and one.start >= since
        ]

    def _everything(self) -> list[Process]:
        known = proctable.table()
        roots = [*self._live, *self._owned, *(one.pid for one in self._adopted(known))]
        members = [one for one in known.values() if one.session in self._live or one.session in self._left]
        return [*members, *(known[pid] for pid in roots if pid in known), *proctable.descendants(known, roots).values()]

    def _reap(self, known: Mapping[int, Process], *, strays: bool = False) -> None:
        """Take the exit status of dead orphans, so that no zombie stays; of strays only where they would be ended."""
        for one in self._adopted(known):
            ours = strays or one.session in self._left or one.session in self._live
            if one.zombie and (ours or self._was_seen(one)):
                with suppress(ChildProcessError):
                    os.waitpid(one.pid, os.WNOHANG)

    def _was_seen(self, one: Process) -> bool:
        """True when it, or the leader of its session, belongs to a command's family."""
        seen = [child.seen for child in self._live.values()] + [left.seen for left in self._left.values()]
        return any(family.get(one.pid) == one.start or one.session in family for family in seen)

    # --- memory ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """One sample: who lives, what they use, who has to go for it."""
        known = proctable.family(os.getpid())
        self._reap(known)
        for pid, child in self._live.items():
            family = [one for one in known.values() if one.session == pid]
            family += [one for one in proctable.descendants(known, [pid]).values() if one.session != pid]
            child.keep(family)
            child.share.update(sum(one.rss for one in family))
        for session, left in list(self._left.items()):
            family = [one for one in known.values() if one.session == session and not one.zombie]
            left.share.update(sum(one.rss for one in family))
            if not family:
                del self._left[session]
        self._judge()
        self._timer = asyncio.get_running_loop().call_later(_SAMPLE, self._look)
        self._rest()

    def _judge(self) -> None:
        """End the commands that are over their own limit, and the largest one below each meter that is over its."""
        for child in self._live.values():
            if child.share.over:
                self._fail(child, exceeded(child.share.used_mb, child.share.limit_mb or 0, "the command"))
        shares = [child.share for child in self._live.values()] + [left.share for left in self._left.values()]
        meters = {meter: None for share in shares if share.meter is not None for meter in share.meter.line()}
        for meter in meters:
            meter.settle()
            below = [child for child in self._live.values() if child.failure is None and child.share.below(meter)]
            if meter.exceeded and below:
                largest = max(below, key=lambda child: child.share.used)
                self._fail(largest, meter.refusal(largest.share.step))

    def _fail(self, child: _Child, error: VrooliError) -> None:
        if child.failure is None and not child.exited:
            child.failure = error
            child.send(signal.SIGKILL)


class _Share:
    """What one command, or what it left behind, adds to its run's memory."""

    __slots__ = ("limit_mb", "meter", "peak", "program", "run", "step", "used")

    def __init__(self, run: str, step: str, program: str, limit_mb: int | None, meter: MemoryMeter | None) -> None:
        self.run = run
        self.step = step
        self.program = program
        self.limit_mb = limit_mb
        self.meter = meter
        self.used = 0
        self.peak = 0

    @property
    def used_mb(self) -> int:
        return -(-self.used // MIB)

    @property
    def over(self) -> bool:
        return self.limit_mb is not None and self.used > self.limit_mb * MIB

    def below(self, meter: MemoryMeter) -> bool:
        return self.meter is not None and meter in self.meter.line()

    def update(self, used: int) -> None:
        if self.meter is not None and used != self.used:
            self.meter.change(used - self.used)
        self.used = used
        self.peak = max(self.peak, used)


@lean()
class _Left:
    """The session of a command that has ended, while it has members."""

    share: _Share
    seen: dict[int, float]


class _Child:
    """One running command: its pipes and its exit, read on the loop."""

    def __init__(self, command: Command, share: _Share, starts: proctable.Starts) -> None:
        self.loop = asyncio.get_running_loop()
        self.share = share
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.failure: VrooliError | None = None
        self._cap = command.cap
        before = proctable.now()
        self._process = _spawn(command)
        self.pid = self._process.pid
        self.seen = {self.pid: starts.latest(self.pid)}  # pid → start of everybody who was seen in the family
        self.since = min(before, self.seen[self.pid])  # nothing of it began earlier
        self.exited = False
        self._truncated = False
        self._timer: asyncio.TimerHandle | None = None
        self._kept: dict[int, bytearray] = {}
        self._open: dict[int, IO[bytes]] = {}
        self._out, self._err = (self._listen(pipe) for pipe in (self._process.stdout, self._process.stderr))
        self._input = memoryview(command.stdin or b"")
        if self._process.stdin is not None:
            self._feed_from(self._process.stdin)
        self._pidfd = self._watch_exit()

    def keep(self, family: Iterable[Process]) -> None:
        """Remember who belongs to this command."""
        for one in family:
            self.seen.setdefault(one.pid, one.start)

    def send(self, number: int) -> None:
        """Send a signal to the command's group."""
        if self.exited:
            signal_group(self.pid, number)
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def finished(self) -> Finished:
        """How it ended."""
        code = self._process.returncode
        assert code is not None
        return Finished(
            exit_code=code if code >= 0 else 128 - code,
            stdout=bytes(self._kept[self._out]),
            stderr=bytes(self._kept[self._err]),
            truncated=self._truncated,
            signal=-code if code < 0 else None,
            memory_mb=-(-self.share.peak // MIB),
        )

    def close(self) -> None:
        """Let go of every descriptor."""
        if self._timer is not None:
            self._timer.cancel()
        for number in list(self._open):
            self._shut(number)
        self._end_input()
        if self._pidfd >= 0:
            self.loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if not self.exited and self._process.poll() is None:
            self._process.returncode = -signal.SIGKILL  # it does not go: a hung disk; there is nothing left to wait for

    # --- stdout and stderr ---

    def _listen(self, pipe: IO[bytes] | None) -> int:
        assert pipe is not None
        number = pipe.fileno()
        os.set_blocking(number, False)
        self._kept[number] = bytearray()
        self._open[number] = pipe
        self.loop.add_reader(number, self._read, number)
        return number

    def _read(self, number: int) -> bool:
        """Take what there is; False when there is nothing more for now."""
        try:
            data = os.read(number, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._shut(number)
            self._check()
            return False
        kept = self._kept[number]
        room = self._cap - len(kept)
        if len(data) > room:
            self._truncated = True
            data = data[:room]
        kept += data
        return True

    def _shut(self, number: int) -> None:
        pipe = self._open.pop(number, None)
        if pipe is not None:
            self.loop.remove_reader(number)
            pipe.close()

    # --- stdin ---

    def _feed_from(self, pipe: IO[bytes]) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._feed()
        if self._input:
            self.loop.add_writer(pipe.fileno(), self._feed)

    def _feed(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            while self._input:
                self._input = self._input[os.write(pipe.fileno(), self._input[:_CHUNK]) :]
        except BlockingIOError:
            return
        except OSError:  # it does not want to read: its own business
            self._input = self._input[:0]
        self._end_input()

    def _end_input(self) -> None:
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed:
            self.loop.remove_writer(pipe.fileno())
            pipe.close()

    # --- the exit ---

    def _watch_exit(self) -> int:
        """A descriptor that becomes readable at the exit; -1 when a thread waits instead."""
        try:
            number = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, an old kernel, a sandbox
            threading.Thread(target=self._wait, name=f"vrooli-wait-{self.pid}", daemon=True).start()
            return -1
        self.loop.add_reader(number, self._has_exited)
        return number

    def _wait(self) -> None:
        self._process.wait()
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self.loop.call_soon_threadsafe(self._has_exited)

    def _has_exited(self) -> None:
        if self.exited or self._process.poll() is None:
            return
        self.exited = True
        if self._pidfd >= 0:
            self.loop.remove_reader(self._pidfd)
        for number in list(self._open):  # what it wrote last is in the pipe by now
            while self._read(number) and len(self._kept[number]) < self._cap:
                pass
        self._check()
        if not self.done.done():
            self._timer = self.loop.call_later(_DRAIN, self._finish)

    def _check(self) -> None:
        if self.exited and not self._open:
            self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _spawn(command: Command) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command.argv),
            executable=command.executable,
            stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=command.cwd,
            env=dict(command.env),
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        raise _not_started(command, error) from None


def _not_started(command: Command, error: OSError | ValueError) -> ToolError:
    """One line for a program that cannot be started, with the exit code that a shell would give."""
    program = command.argv[0] if command.argv else ""
    if isinstance(error, ValueError):  # a NUL, or half of a surrogate pair
        return ToolError(f"the command cannot be passed on: {error}", code="PARAMETER_INVALID", retryable=False)
    if error.errno == errno.E2BIG:
        message = f"the command for {program!r:.60} is longer than the system takes; pass long values by `stdin:`"
        return ToolError(message, code="PARAMETER_INVALID", retryable=False)
    context = {"exit_code": 127 if isinstance(error, FileNotFoundError) else 126}
    if error.filename == command.cwd and error.filename != program:
        message = f"the folder {command.cwd!r} cannot be entered: {_reason(error)}"
    elif isinstance(error, FileNotFoundError):
        where = "" if "/" in program else ", nor in a folder of PATH"
        message = f"there is no program {program!r}{where}; install it, or check the name"
    elif isinstance(error, PermissionError):
        message = f"the program {program!r} may not be executed; check its mode (chmod +x)"
    else:
        message = f"the program {program!r} cannot be started: {_reason(error)}"
    return ToolError(message, retryable=False, context=context)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def signal_group(group: int, number: int) -> None:
    """Send a signal to a group; nothing when it is gone, or not ours."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _kill(processes: Iterable[Process]) -> None:
    """KILL to each that is still who it was."""
    for one in processes:
        now = proctable.look_up(one.pid)
        if now is not None and now.start == one.start and one.pid != os.getpid():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(one.pid, signal.SIGKILL)
