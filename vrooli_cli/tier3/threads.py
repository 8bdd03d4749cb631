"""Daemon threads for blocking Python: they can be told to stop, made to stop, and in the end abandoned.

``asyncio.to_thread`` is not used: its pool has six threads on two cores, and a call that hangs keeps the whole process
from ending (spec engine.md, table and g).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_LAST_WORD = 0.5  # seconds for a thread to end after an exception was raised in it


class Stopped(BaseException):
    """Raised inside a tool's thread that did not end by itself; not an Exception, so that no handler swallows it."""


class Threads:
    """A bounded pool of daemon threads; idle ones are used again, abandoned ones are not counted.

    Args:
        limit: Calls at one moment; further ones wait for their turn.
    """

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._busy = 0
        self._idle: list[_Worker] = []
        self._queue: deque[asyncio.Future[None]] = deque()

    async def run(
        self, function: Callable[..., T], *arguments: Any, stop: Callable[[], None] | None = None, grace: float = 5.0
    ) -> T:
        """What ``function(*arguments)`` returns, called in a thread.

        A cancel calls ``stop`` (so that the function can see it), waits ``grace`` seconds, raises :class:`Stopped` in
        the thread, waits half a second more, and leaves the thread to itself. A second cancel skips the waiting.
        """
        await self._turn()
        worker = self._idle.pop() if self._idle else _Worker()
        job = _Job(asyncio.get_running_loop(), function, arguments)
        worker.jobs.put(job)
        try:
            await job.done
        except asyncio.CancelledError:
            if stop is not None:
                stop()
            await self._end(worker, job, grace)
            raise
        finally:
            self._leave(worker, job)
        return job.outcome()  # type: ignore[no-any-return]

    async def _turn(self) -> None:
        if self._busy < self._limit:
            self._busy += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            else:
                self._queue.remove(turn)
            raise

    def _pass_on(self) -> None:
        """Give a free place to the first who waits, or count it as free."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1

    async def _end(self, worker: _Worker, job: _Job, grace: float) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([job.finished], timeout=grace)
        if not job.finished.done():
            worker.interrupt()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([job.finished], timeout=_LAST_WORD)

    def _leave(self, worker: _Worker, job: _Job) -> None:
        if job.finished.done() and not worker.interrupted:
            self._idle.append(worker)
        else:
            worker.jobs.put(None)  # should it ever come back, it ends
        self._pass_on()


class _Job:
    """One call: its answer travels back to the loop that asked."""

    __slots__ = ("_answer", "_error", "_loop", "arguments", "done", "finished", "function")

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[..., Any], arguments: tuple[Any, ...]):
        self.function = function
        self.arguments = arguments
        self.done: asyncio.Future[None] = loop.create_future()  # a cancel of the caller ends this one
        self.finished: asyncio.Future[None] = loop.create_future()  # only the thread ends this one
        self._loop = loop
        self._answer: Any = None
        self._error: BaseException | None = None

    def perform(self) -> None:
        """In the thread."""
        try:
            self._answer = self.function(*self.arguments)
        except BaseException as error:
            self._error = error
        with suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        for future in (self.finished, self.done):
            if not future.done():
                future.set_result(None)

    def outcome(self) -> Any:
        """On the loop, after ``done``."""
        error, self._error = self._error, None
        if isinstance(error, StopIteration | asyncio.CancelledError | Stopped | KeyboardInterrupt):
            raise RuntimeError(f"the function raised {type(error).__name__}") from error
        if error is not None:
            raise error
        return self._answer


class _Worker:
    """One daemon thread with its queue."""

    __slots__ = ("_thread", "interrupted", "jobs")

    def __init__(self) -> None:
        self.interrupted = False  # the exception may still be on its way: no further job for this thread
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="vrooli-tool", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            with suppress(Stopped):  # it may arrive between two jobs
                job = self.jobs.get()
                if job is None:
                    return
                job.perform()
                del job

    def interrupt(self) -> None:
        """Raise :class:`Stopped` in the thread, at its next step of Python code."""
        self.interrupted = True
        import ctypes

        if self._thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(Stopped))
