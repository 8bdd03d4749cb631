"""Lossless sinks: ``-o ndjson`` and ``--events``, behind a thread and a buffer that says when it is full."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

SINK_BYTES: Final = 8 * 1024 * 1024
"""What may wait for the thread before :attr:`Writer.full`."""


class Writer:
    """The thread that writes a run's lines, so that a slow pipe never holds the loop."""

    def __init__(self, failed: Callable[[Callable[[bytes], None], Exception], None]) -> None:
        self.sinks: list[Callable[[bytes], None]] = []
        self._failed = failed
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def full(self) -> bool:
        """More than 8 MiB wait."""
        return self._size >= SINK_BYTES

    def put(self, data: bytes) -> None:
        """Whole lines for every sink; never waits."""
        if self._thread is None:
            with suppress(RuntimeError):
                self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="vrooli-sink", daemon=True)
            self._thread.start()
        with self._changed:
            self._queue.append(data)
            self._size += len(data)
            self._changed.notify()

    def ready(self) -> asyncio.Future[None] | None:
        """Done once half of the buffer is free again; None when it is."""
        return self.below(SINK_BYTES // 2)

    def below(self, size: int) -> asyncio.Future[None] | None:
        """Done once no more than ``size`` bytes wait; None when that is so."""
        with self._changed:
            if self._size <= size:
                return None
            self._loop = asyncio.get_running_loop()
            done: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append((size, done))
        return done

    async def close(self) -> None:
        """Wait until all is written, then end the thread."""
        if (behind := self.below(0)) is not None:
            await behind
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        for data in self._chunks():
            for write in tuple(self.sinks):
                try:
                    write(data)
                except Exception as error:
                    self.sinks.remove(write)
                    self._on_loop(self._failed, write, error)
            with self._changed:
                self._size -= len(data)
                if self._waiting:
                    self._on_loop(self._wake)

    def _chunks(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not self._queue:
                    if self._ended:
                        return
                    self._changed.wait()
                parts = [self._queue.popleft()]
                size = len(parts[0])
                while self._queue and size < 1 << 20:
                    parts.append(self._queue.popleft())
                    size += len(parts[-1])
            yield b"".join(parts)

    def _on_loop(self, callback: Callable[..., None], *args: Any) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(callback, *args)

    def _wake(self) -> None:
        still = []
        for size, done in self._waiting:
            if self._size > size:
                still.append((size, done))
            elif not done.done():
                done.set_result(None)
        self._waiting = still
