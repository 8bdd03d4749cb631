"""The one thread that writes to stderr, and the painter that keeps a picture in place there.

A terminal that takes nothing (Ctrl-S, a full pipe, a stopped tmux) blocks this thread and nobody else: whoever has news
posts it and goes on. The cursor is hidden and line wrap is off only within one write, so that even ``kill -9`` between
two pictures leaves a terminal that works.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TextIO

from vrooli_cli.view.line import Line

Job = Callable[[], None]

BACKLOG = 50_000
"""Lines that may wait for a terminal that takes nothing; more are left out, and it says how many."""

_BEGIN = "\x1b[?2026h\x1b[?25l\x1b[?7l"
_END = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?2026l"


class Scribe:
    """Writes to one stream from a daemon thread, in the order of posting.

    Attributes:
        cost: Seconds of processor time that the last job took.
        dead: The stream is gone (its terminal was closed); everything is dropped from then on.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.cost = 0.0
        self.dead = False
        self.waiting = 0
        self._lost = 0
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            self.fd: int | None = stream.fileno()
        except (OSError, ValueError, AttributeError):
            self.fd = None

    def start(self) -> None:
        """Begin to write."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vrooli-view", daemon=True)
            self._thread.start()

    def post(self, job: Job) -> None:
        """Do something on the thread, after all that was posted before."""
        self._jobs.put(job)

    def say(self, text: str) -> None:
        """Write lines; never waits. Text must be harmless already."""
        if self.waiting >= BACKLOG:
            self._lost += 1
            return
        self.waiting += 1
        self.post(lambda: self._say(text))

    def _say(self, text: str) -> None:
        self.waiting -= 1
        lost, self._lost = self._lost, 0
        self.write(text + (f"… {lost} lines were left out: the terminal took nothing\n" if lost else ""))

    async def told(self, timeout: float) -> bool:
        """Wait until everything posted so far is written; False when that took longer than ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        self.post(lambda: _wake(loop, done))
        try:
            await asyncio.wait_for(done.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def close(self, timeout: float) -> bool:
        """Write what is left, then end the thread; False when the terminal did not take it in time."""
        if self._thread is None:
            return True
        written = await self.told(timeout)
        self._jobs.put(None)
        if written:
            self._thread.join(timeout)
        self._thread = None
        return written

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            began = time.thread_time()
            with contextlib.suppress(Exception):  # drawing must not end the thread that prompts and the summary need
                job()
            self.cost = time.thread_time() - began

    def write(self, text: str) -> None:
        """Write all of it, now, on the calling thread."""
        if self.dead or not text:
            return
        try:
            if self.fd is None:
                self.stream.write(text)
                self.stream.flush()
            else:
                self._write_fd(self.fd, text.encode(self.encoding, "backslashreplace"))
        except (OSError, ValueError):
            self.dead = True

    def _write_fd(self, fd: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(fd, left) :]
            except BlockingIOError:  # a child made the shared terminal non-blocking
                _takes(fd, 1000)

    def try_write(self, text: str) -> None:
        """Write a few bytes if the terminal takes them at once: for the way out, when nothing may be waited for."""
        if self.fd is None or (not self.dead and _takes(self.fd, 0)):
            self.write(text)


def _takes(fd: int, timeout_ms: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(timeout_ms))


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(event.set)
    except RuntimeError:  # the loop is gone, nobody waits any more
        return


class Painter:
    """Keeps a picture at the end of a terminal and paints over it; all methods run on the scribe's thread.

    Attributes:
        busy: True from the moment a picture was posted until it is on the terminal.
        moved: Set by whoever knows that others wrote in between (back from Ctrl-Z): the cursor is no longer below the
            last picture, so the next one begins where it is.
    """

    def __init__(self, scribe: Scribe, *, colour: bool) -> None:
        self.scribe = scribe
        self.colour = colour
        self.busy = False
        self.moved = False
        self.written = 0
        self._shown: list[str] = []
        self._cells: list[int] = []
        self._width = 0
        self._away = False
        self._closed = False

    def paint(self, lines: Sequence[Line], width: int) -> None:
        """Put a picture where the last one was; lines that did not change are not written again."""
        if self._closed or not self._in_front():
            return
        self._settle()
        fresh = [line.ansi(colour=self.colour) for line in lines]
        resized = width != self._width
        out = [_BEGIN, self._wipe(width) if resized else self._home(width)]
        if resized:
            self._shown = []
        before = len(self._shown)
        for position, text in enumerate(fresh):
            if position >= before or self._shown[position] != text:
                out.append("\x1b[K" + text)
            out.append("\r\n")
        out.append("\x1b[J" + _END)
        self._shown, self._width = fresh, width
        self._cells = [line.width for line in lines]
        self._write("".join(out))

    def _settle(self) -> None:
        if self.moved:
            self.moved = False
            self._shown, self._cells = [], []

    def _home(self, width: int) -> str:
        """To the first line of the last picture; a terminal that became narrower has folded its lines."""
        rows = self._rows(width)
        return f"\r\x1b[{rows}A" if rows else "\r"

    def _rows(self, width: int) -> int:
        if width >= self._width:
            return len(self._cells)
        return sum(max(1, -(-size // max(width, 1))) for size in self._cells)

    def _wipe(self, width: int) -> str:
        """The last picture taken away, row by row: tmux keeps in its history what is cleared from the corner on."""
        home = self._home(width)
        return home + "\x1b[2K\x1b[B" * self._rows(width) + "\x1b[J" + home

    def _in_front(self) -> bool:
        """False while the run is in the background of a shell that uses the terminal itself."""
        try:
            front = self.scribe.fd is None or os.tcgetpgrp(self.scribe.fd) == os.getpgrp()
        except OSError:
            front = True
        if front and self._away:
            self.moved = True
        self._away = not front
        return front

    def erase(self) -> None:
        """Take the picture away; the cursor stands where it began."""
        self._settle()
        if self._cells:
            self._write(_BEGIN + self._wipe(self._width) + _END)
        self._shown, self._cells = [], []

    def above(self, text: str) -> None:
        """Write lines above the picture; the next one follows below them."""
        self.erase()
        self._write(text)

    def _write(self, text: str) -> None:
        self.written += len(text)
        self.scribe.write(text)

    def restore(self) -> None:
        """From any thread, at any moment, without waiting: no picture is painted any more, the cursor is shown."""
        if self._closed:
            return
        self._closed = True
        gone = self._wipe(self._width) if self._cells and not (self.busy or self.moved) else "\r\x1b[J"
        self.scribe.try_write(gone + _END)

    def close(self) -> None:
        """The last picture is gone and none follows."""
        self.erase()
        self._closed = True
