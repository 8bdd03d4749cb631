"""The views behind one door: live on a terminal, nothing at all, and the choice between them.

The loop folds events and, at most twelve times a second, takes a picture of what is visible; the scribe's thread makes
lines of it and writes. If it is still writing, the picture is not taken (engine.md (j)).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.plan import PlanSummary
from vrooli_cli.view.frame import Look, draw
from vrooli_cli.view.line import Line, of_rich
from vrooli_cli.view.pick import picture
from vrooli_cli.view.plain import PlainView
from vrooli_cli.view.screen import Screen
from vrooli_cli.view.state import ViewState
from vrooli_cli.view.summary import final_summary
from vrooli_cli.view.terminal import Painter, Scribe
from vrooli_cli.view.text import block

if TYPE_CHECKING:
    from rich.text import Text

INTERVAL = 1 / 12
"""Seconds from one picture to the next, at the least."""
SHARE = 25
"""A picture is followed by a pause of 25 times its cost: at most 4 % of the time goes into drawing."""
CLOCK = 1.0
"""Seconds after which a picture is taken though nothing happened: the clock moves."""
FIRST = 0.12
"""Seconds before the first picture: a run that is over sooner leaves only its summary."""
PATIENCE = 2.0
"""Seconds that the end of a run waits for a terminal that takes nothing."""


class View(Protocol):
    """What a run shows itself on. Nothing here ever stops or delays the run.

    Whoever calls ``start`` calls ``stop`` when the run is over, or ``restore`` on every other way out, before anything
    else is written to the terminal.
    """

    def apply(self, event: ExecutionEvent) -> None:
        """Take an event in: sync, quick, never raises."""

    def start(self) -> None:
        """Begin to show; called on the loop."""

    async def stop(self, result_wire: Mapping[str, Any] | None, *, hint: str | None = None) -> None:
        """End, and leave the summary; ``hint`` is as in :func:`vrooli_cli.view.summary.final_summary`."""

    def print(self, text: str | Text | Line) -> None:
        """Show lines for people now; never waits."""

    def paused(self) -> AbstractAsyncContextManager[None]:
        """While inside, nothing is drawn and the terminal is the caller's: for prompts, one at a time."""

    def restore(self) -> None:
        """Leave the terminal as it was, at once: for a way out on which nothing may be awaited."""


class NullView:
    """Shows nothing; what is printed goes to the stream, if there is one."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._scribe = Scribe(stream) if stream is not None else None

    def apply(self, event: ExecutionEvent) -> None:
        """Nothing."""

    def start(self) -> None:
        """Ready for what is printed."""
        if self._scribe is not None:
            self._scribe.start()

    async def stop(self, result_wire: Mapping[str, Any] | None, *, hint: str | None = None) -> None:
        """Writes what was printed."""
        if self._scribe is not None:
            await self._scribe.close(PATIENCE)

    def print(self, text: str | Text | Line) -> None:
        """Lines for people."""
        if self._scribe is not None:
            self._scribe.say(_harmless(text, colour=False))

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Whatever was printed is on the terminal first."""
        if self._scribe is not None:
            await self._scribe.told(PATIENCE)
        yield

    def restore(self) -> None:
        """Nothing was changed."""


class LiveView:
    """One screen at the end of the terminal, painted over in place; gone at the end, but for the summary.

    Args:
        console_file: The terminal, usually stderr.
        plan: The graph, when there is one.
        credit_limit: Shown beside the credits.
        environ: For ``NO_COLOR`` and ``COLUMNS``.

    Attributes:
        frames: Pictures taken.
        skipped: Pictures not taken because the terminal had not yet taken the last one.
    """

    def __init__(
        self,
        console_file: TextIO,
        plan: PlanSummary | None = None,
        *,
        run_id: str = "",
        credit_limit: int | None = None,
        environ: Mapping[str, str] | None = None,
        look: Look | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self.state = ViewState(plan, run_id=run_id, credit_limit=credit_limit)
        self.look = look or Look(unicode=speaks_unicode(console_file))
        self.colour = not self._environ.get("NO_COLOR")
        self.scribe = Scribe(console_file)
        self.painter = Painter(self.scribe, colour=self.colour)
        self.frames = self.skipped = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._drawn_at = 0.0
        self._size = (0, 0)
        self._paused = 0
        self._held: list[str] = []
        self._turn = asyncio.Lock()
        self._before: dict[signal.Signals, Any] = {}

    def apply(self, event: ExecutionEvent) -> None:
        """Take an event in."""
        self.state.apply(event)

    def start(self) -> None:
        """Begin to draw; the terminal's resize and the return from Ctrl-Z are noticed from now on."""
        self._loop = asyncio.get_running_loop()
        self.scribe.start()
        for number, handler in ((signal.SIGWINCH, self._resized), (signal.SIGCONT, self._continued)):
            with contextlib.suppress(ValueError):  # not on the main thread: the next tick sees the size anyway
                self._before[number] = signal.signal(number, handler)
        self._timer = self._loop.call_later(FIRST, self._tick)

    # Handlers of Python, not of the loop: they run before the tick that a stopped process is late for.
    def _resized(self, number: int, frame: object) -> None:
        self.state.dirty = True

    def _continued(self, number: int, frame: object) -> None:
        self.painter.moved = self.state.dirty = True

    def _tick(self) -> None:
        loop = self._loop
        if loop is None:
            return
        now = loop.time()
        cost = self._take(now) if not self._paused else 0.0
        pause = max(INTERVAL, SHARE * (cost + self.scribe.cost))
        self._timer = loop.call_later(pause, self._tick)

    def _take(self, now: float) -> float:
        """Take a picture if there is news; the seconds it cost."""
        size = self.size()
        if not (self.state.dirty or size != self._size or now - self._drawn_at >= CLOCK):
            return 0.0
        if self.painter.busy:
            self.skipped += 1
            return 0.0
        began = time.perf_counter()
        self.state.dirty = False
        screen = picture(self.state, *size, datetime.now(UTC))
        self._drawn_at, self._size = now, size
        self.frames += 1
        self.painter.busy = True
        self.scribe.post(lambda: self._draw(screen))
        return time.perf_counter() - began

    def _draw(self, screen: Screen) -> None:
        try:
            if not self._paused:
                self.painter.paint(draw(screen, self.look), screen.width)
        finally:
            self.painter.busy = False

    def size(self) -> tuple[int, int]:
        """Columns and rows; ``COLUMNS`` may make it narrower, never wider than it is."""
        try:
            size = os.get_terminal_size(self.scribe.fd if self.scribe.fd is not None else 2)
        except OSError:
            size = shutil.get_terminal_size()
        columns = self._environ.get("COLUMNS", "")
        width = min(size.columns, int(columns)) if columns.isdecimal() and int(columns) > 0 else size.columns
        return max(width, 1), max(size.lines, 2)

    def print(self, text: str | Text | Line) -> None:
        """Lines for people, above the picture; during a prompt they wait for its end."""
        lines = _harmless(text, colour=self.colour)
        if self._paused:
            self._held.append(lines)
        else:
            self.scribe.post(lambda: self.painter.above(lines))
            self.state.dirty = True

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """The picture is taken away and the terminal is the caller's; a second caller waits for the first."""
        async with self._turn:
            self._paused += 1
            self.scribe.post(self.painter.erase)
            await self.scribe.told(PATIENCE)
            try:
                yield
            finally:
                self._paused -= 1
                held, self._held = self._held, []
                for lines in held:
                    self.scribe.post(lambda lines=lines: self.painter.above(lines))  # type: ignore[misc]
                self.state.dirty = True

    async def stop(self, result_wire: Mapping[str, Any] | None, *, hint: str | None = None) -> None:
        """Take the picture away and leave the summary."""
        self._end_timer()
        lines = final_summary(self.state, result_wire, hint, look=self.look, width=self.size()[0])
        text = "".join(self._held) + "".join(line.ansi(colour=self.colour) + "\n" for line in lines)
        self.scribe.post(self.painter.close)
        self.scribe.say(text)
        if not await self.scribe.close(PATIENCE):
            self.painter.restore()

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None
        while self._before:
            number, handler = self._before.popitem()
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(number, handler)

    def restore(self) -> None:
        """No picture, no hidden cursor, at once and without waiting."""
        self.painter.restore()


def _harmless(text: str | Text | Line, *, colour: bool) -> str:
    if isinstance(text, str):
        return block(text).rstrip("\n") + "\n"
    line = text if isinstance(text, Line) else of_rich(text)  # rich's: whoever made it has imported rich
    return line.ansi(colour=colour) + "\n"


def speaks_unicode(stream: TextIO) -> bool:
    """True when the stream's encoding is a form of UTF."""
    return str(getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def make_view(
    kind: Literal["live", "plain", "none"] | None,
    stream: TextIO,
    plan: PlanSummary | None = None,
    *,
    run_id: str = "",
    credit_limit: int | None = None,
    level: int = 0,
    environ: Mapping[str, str] | None = None,
) -> View:
    """The view that was asked for; with None, live on a terminal that can, plain elsewhere.

    Args:
        kind: As ``--view`` says.
        stream: Usually stderr.
        plan: The graph, when there is one.
        run_id: Shown beside the name; the first event's, when it is left out.
        credit_limit: The root account's limit.
        level: -1 for ``-q``, 1 for ``-v``; a quiet run is never live.
        environ: ``TERM=dumb`` cannot be live; ``CI`` is plain unless live is asked for.
    """
    environ = os.environ if environ is None else environ
    able = stream.isatty() and environ.get("TERM", "") not in ("dumb", "unknown")
    if kind is None:
        kind = "live" if able and not environ.get("CI") and level >= 0 else "plain"
    if kind == "none":
        return NullView(stream)
    if kind == "live" and able and level >= 0:
        return LiveView(stream, plan, run_id=run_id, credit_limit=credit_limit, environ=environ)
    return PlainView(stream, plan, run_id=run_id, credit_limit=credit_limit, level=level, environ=environ)
