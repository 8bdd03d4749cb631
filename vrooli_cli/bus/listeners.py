"""Handlers of ``EventBus.subscribe``: patterns, one queue and one task each, and what happens to those that fail."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Final

from vrooli_cli.model.events import Event, EventHandler, ExecutionEvent, HandlerFailed

QUEUE_EVENTS: Final = 10_000
"""What may wait for one subscriber before the oldest is dropped."""
HANDLER_SECONDS: Final = 5.0
_TOLD_FAILURES: Final = 100  # of one subscriber: a handler that always fails must not fill the log

Accept = Callable[[Event], None]
"""Where the news of a failure goes: into the run whose event was handled."""


@lru_cache(512)
def _pattern(pattern: str) -> re.Pattern[str]:
    """``*`` is one segment, ``**`` zero or more; every other character stands for itself."""
    rule = ""
    for segment in pattern.split("/"):
        if segment == "**":
            rule += "(?:/[^/]+)*"
        else:
            rule += "/" + "[^/]*".join(map(re.escape, segment.split("*")))
    return re.compile(rule)


def matches(pattern: str, type_: str) -> bool:
    """Whether a subscription to ``pattern`` gets events of this type."""
    return _pattern(pattern).fullmatch("/" + type_) is not None


def name_of(callback: object) -> str:
    """What people call a handler: its module and name."""
    name = getattr(callback, "__qualname__", None) or type(callback).__qualname__
    return f"{getattr(callback, '__module__', '')}.{name}"


def handler_failed(execution_id: str, handler: str, message: str, dropped: int | None = None) -> HandlerFailed:
    """The fact that somebody who listens did not do well."""
    return HandlerFailed(execution_id=execution_id, handler=handler, message=message, dropped=dropped)


class Subscriber:
    """One handler with its queue. A task exists only while there is something to handle."""

    def __init__(self, pattern: str, handler: EventHandler) -> None:
        self.pattern = pattern
        self.name = name_of(handler)
        self._handler = handler
        self._queue: deque[tuple[Accept, ExecutionEvent]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._put = self._done = 0
        self._dropped = 0
        self._failures = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def matches(self, type_: str) -> bool:
        """Whether this handler gets events of that type."""
        return matches(self.pattern, type_)

    def put(self, accept: Accept, event: ExecutionEvent) -> None:
        """Queue an event; news of a failure over it goes to ``accept``. Drops the oldest when the queue is full."""
        if len(self._queue) >= QUEUE_EVENTS:
            self._queue.popleft()
            self._dropped += 1
            self._done += 1
        self._queue.append((accept, event))
        self._put += 1
        if self._task is None:
            with suppress(RuntimeError):  # no loop runs: the next event starts it
                loop = asyncio.get_running_loop()
                self._task = loop.create_task(self._work(), name=f"subscriber:{self.name}")

    def caught_up(self) -> asyncio.Future[None] | None:
        """Done once everything that is queued now is handled; None when it is, or when the handler itself asks."""
        if self._done >= self._put or self._task is None or self._task is asyncio.current_task():
            return None
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._put, done))
        return done

    async def stop(self) -> None:
        """Drop what is queued and end the task."""
        self._queue.clear()
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task], timeout=HANDLER_SECONDS)

    async def _work(self) -> None:
        try:
            while self._queue:
                accept, event = self._queue.popleft()
                if self._dropped:
                    self._tell_dropped(accept, event)
                await self._call(accept, event)
                self._done += 1
                self._wake()
                if self._done % 64 == 0:  # a handler that never waits must not keep the loop
                    await asyncio.sleep(0)
        finally:
            self._task = None
            self._done = self._put - len(self._queue)
            self._wake()

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._done:
            done = self._waiting.pop(0)[1]
            if not done.done():
                done.set_result(None)

    async def _call(self, accept: Accept, event: ExecutionEvent) -> None:
        try:
            async with asyncio.timeout(HANDLER_SECONDS) as limit:
                await self._handler(event)
        except TimeoutError as error:
            late = f"took longer than {HANDLER_SECONDS:g} s and was stopped"
            self._tell_failed(accept, event, late if limit.expired() else f"TimeoutError: {error}")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._tell_failed(accept, event, "cancelled itself")
        except Exception as error:
            self._tell_failed(accept, event, f"{type(error).__name__}: {error}")

    def _tell_failed(self, accept: Accept, event: ExecutionEvent, message: str) -> None:
        self._failures += 1
        if event.type == HandlerFailed.type or self._failures > _TOLD_FAILURES:  # it would answer itself for ever
            return
        if self._failures == _TOLD_FAILURES:
            message += " (its later failures are not told)"
        accept(handler_failed(event.execution_id, self.name, message))

    def _tell_dropped(self, accept: Accept, event: ExecutionEvent) -> None:
        dropped, self._dropped = self._dropped, 0
        message = f"too slow: {dropped} events were dropped, the oldest first"
        accept(handler_failed(event.execution_id, self.name, message, dropped))
