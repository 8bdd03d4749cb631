"""The live view on terminals: what is written, when, and what is left behind."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.view import synthetic
from tests.view.emulator import Terminal
from tests.view.synthetic import RUN
from vrooli_cli.model import events as e
from vrooli_cli.view import live
from vrooli_cli.view.line import Line
from vrooli_cli.view.live import LiveView, NullView, View, make_view
from vrooli_cli.view.plain import PlainView
from vrooli_cli.view.terminal import Painter, Scribe

ROOT = Path(__file__).parent.parent.parent


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def painter_on(stream: io.StringIO) -> Painter:
    return Painter(Scribe(stream), colour=True)


def shown(stream: io.StringIO, width: int = 80, height: int = 24) -> Terminal:
    terminal = Terminal(width, height)
    terminal.feed(stream.getvalue())
    return terminal


# --- the painter -----------------------------------------------------------------------------------------------------


def test_a_picture_is_painted_over_the_last_one() -> None:
    stream = Tty()
    painter = painter_on(stream)
    painter.paint([Line("one"), Line("two"), Line("three")], 80)
    painter.paint([Line("one"), Line("zwei")], 80)
    terminal = shown(stream)
    assert terminal.text() == "one\nzwei"
    assert terminal.shown and terminal.wraps


def test_a_line_that_did_not_change_is_not_written_again() -> None:
    stream = Tty()
    painter = painter_on(stream)
    painter.paint([Line("a long line that stays"), Line("1")], 80)
    before = len(stream.getvalue())
    painter.paint([Line("a long line that stays"), Line("2")], 80)
    assert "a long line" not in stream.getvalue()[before:]
    assert shown(stream).text() == "a long line that stays\n2"


def test_the_cursor_is_hidden_only_within_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Tty()
    painter = painter_on(stream)
    writes: list[str] = []
    monkeypatch.setattr(painter.scribe, "write", writes.append)
    painter.paint([Line("x")], 80)
    painter.above("notice\n")
    painter.paint([Line("y")], 80)
    painter.close()
    for text in writes:
        assert text.count("\x1b[?25l") == text.count("\x1b[?25h")
        assert text.count("\x1b[?7l") == text.count("\x1b[?7h")


def test_lines_above_the_picture_stay() -> None:
    stream = Tty()
    painter = painter_on(stream)
    painter.paint([Line("picture"), Line("of two lines")], 80)
    painter.above("a notice\n")
    painter.paint([Line("picture")], 80)
    painter.close()
    assert shown(stream).text() == "a notice"


def test_a_narrower_terminal_has_folded_the_lines_and_they_are_all_taken_away() -> None:
    stream = Tty()
    painter = painter_on(stream)
    painter.paint([Line("x" * 80), Line("y" * 30)], 80)
    narrow = Terminal(40, 24)
    narrow.rows[:3] = ["x" * 40, "x" * 40, "y" * 30]
    narrow.row = 3
    stream.truncate(0)
    stream.seek(0)
    painter.paint([Line("z" * 40)], 40)
    narrow.feed(stream.getvalue())
    assert narrow.text() == "z" * 40


def test_back_from_the_shell_the_picture_begins_at_the_cursor() -> None:
    stream = Tty()
    painter = painter_on(stream)
    painter.paint([Line("picture"), Line("two")], 80)
    stream.write("\r\nStopped\r\n$ ls\r\nfile\r\n")
    painter.moved = True
    painter.paint([Line("picture"), Line("three")], 80)
    painter.close()
    assert shown(stream).text() == "picture\ntwo\n\nStopped\n$ ls\nfile"


def test_after_the_way_out_nothing_is_painted() -> None:
    stream = Tty()
    painter = painter_on(stream)
    painter.paint([Line("picture")], 80)
    painter.restore()
    painter.paint([Line("late")], 80)
    assert shown(stream).text() == ""


def test_no_colour_keeps_bold_and_drops_colours() -> None:
    stream = Tty()
    painter = Painter(Scribe(stream), colour=False)
    painter.paint([Line(("a", "bold"), ("b", "red"))], 80)
    assert "\x1b[1m" in stream.getvalue() and "\x1b[31m" not in stream.getvalue()


def test_a_terminal_without_unicode_gets_escapes_and_never_an_error() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    view = LiveView(stream, synthetic.small_plan(), environ={})
    assert not view.look.unicode
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="ascii") as pipe:
        Scribe(pipe).write("naïve ✓\n")
    assert os.read(reader, 100) == b"na\\xefve \\u2713\n"
    os.close(reader)


# --- the view in a loop ----------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST", 0.0)


def now_told(fact: e.Event) -> e.ExecutionEvent:
    return synthetic.told(fact, datetime.now(UTC))


async def play(view: View, events: list[e.ExecutionEvent]) -> None:
    for event in events:
        view.apply(replace(event, timestamp=datetime.now(UTC)))
    await asyncio.sleep(0.05)


async def test_a_run_leaves_only_its_summary(quick: None) -> None:
    stream = Tty()
    plan, events, _ = synthetic.small_run()
    view = LiveView(stream, plan, run_id=RUN, environ={})
    view.start()
    await play(view, events)
    await view.stop({"status": "completed", "duration_ms": 10, "result": {"n": 1}})
    terminal = shown(stream)
    assert terminal.shown and terminal.wraps
    assert terminal.text().splitlines() == [
        "  n  1",
        "✓ release-notes completed in 10ms · 2/6 steps · 1,240 credits",
    ]
    assert view.frames >= 1


async def test_a_run_that_is_over_at_once_draws_nothing() -> None:
    stream = Tty()
    view = LiveView(stream, environ={})
    view.start()
    view.apply(now_told(e.RoutineStarted(execution_id=RUN, routine="r", step_count=1)))
    await view.stop(None)
    assert view.frames == 0


async def test_a_burst_of_events_is_one_picture(quick: None) -> None:
    plan, events, _ = synthetic.wide_run(5, 400, 1.0)
    view = LiveView(Tty(), plan, environ={})
    view.start()
    for event in events:
        view.apply(event)
    await asyncio.sleep(0.02)
    assert view.frames == 1
    await view.stop(None)


async def test_nothing_new_means_no_picture(quick: None) -> None:
    view = LiveView(Tty(), environ={})
    view.start()
    view.apply(now_told(e.RoutineStarted(execution_id=RUN, routine="r", step_count=1)))
    await asyncio.sleep(0.4)
    assert view.frames == 1
    await view.stop(None)


async def test_a_costly_picture_is_followed_by_a_longer_pause(quick: None) -> None:
    view = LiveView(Tty(), environ={})
    view.start()
    await asyncio.sleep(0.02)
    view.scribe.cost = 0.04  # as a slow machine would measure: 25 x 0.04 s is a second
    frames = view.frames
    await asyncio.sleep(0.15)
    view.scribe.cost = 0.04
    view.state.dirty = True
    await asyncio.sleep(0.5)
    assert view.frames <= frames + 1
    await view.stop(None)


async def test_a_terminal_that_takes_nothing_stops_nobody(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PATIENCE", 0.2)
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, 1031)  # F_GETPIPE_SZ
    stream = os.fdopen(writer, "w", encoding="utf-8")
    os.write(writer, b"x" * size)  # full: every write blocks from now on
    plan, events, _ = synthetic.small_run()
    view = LiveView(stream, plan, environ={})
    view.start()
    began = time.monotonic()
    for event in events:
        view.apply(event)
        await asyncio.sleep(0.004)
    await asyncio.sleep(0.2)
    view.print("a notice")
    assert view.frames == 1 and view.skipped >= 1
    await view.stop(None)
    assert time.monotonic() - began < 3
    emptied = threading.Thread(target=_drain, args=(reader,), daemon=True)
    emptied.start()
    await asyncio.sleep(0.1)
    stream.close()
    emptied.join(2)


def _drain(fd: int) -> None:
    with os.fdopen(fd, "rb") as pipe:
        while pipe.read(4096):
            pass


async def test_prompts_come_one_at_a_time_with_the_picture_away(quick: None) -> None:
    stream = Tty()
    plan, events, _ = synthetic.small_run()
    view = LiveView(stream, plan, environ={})
    view.start()
    await play(view, events)
    order: list[str] = []

    async def ask(name: str) -> None:
        async with view.paused():
            assert shown(stream).text().strip() == ""
            order.append(f"{name} in")
            frames = view.frames
            view.print("held until the end of the prompt")
            view.apply(now_told(e.StepReady(execution_id=RUN, step_id="review")))
            await asyncio.sleep(0.12)
            assert view.frames == frames
            order.append(f"{name} out")
            stream.truncate(0)
            stream.seek(0)

    await ask("a")
    await view.scribe.told(1)
    assert "held until" in stream.getvalue()
    stream.truncate(0)
    stream.seek(0)
    view.painter.moved = True
    await asyncio.gather(ask_alone(view, order, "b"), ask_alone(view, order, "c"))
    assert order == ["a in", "a out", "b in", "b out", "c in", "c out"]
    await view.stop(None)


async def ask_alone(view: View, order: list[str], name: str) -> None:
    async with view.paused():
        order.append(f"{name} in")
        await asyncio.sleep(0.01)
        order.append(f"{name} out")


async def test_a_notice_is_harmless() -> None:
    stream = Tty()
    view = LiveView(stream, environ={})
    view.start()
    view.print("evil \x1b[2J\x07 notice")
    await view.stop(None, hint="")
    assert "evil \\x1b[2J\\x07 notice" in shown(stream).text()


@pytest.mark.parametrize(
    ("environ", "tty", "kind", "level", "expected"),
    [
        ({"TERM": "xterm"}, True, None, 0, LiveView),
        ({"TERM": "dumb"}, True, None, 0, PlainView),
        ({"TERM": "dumb"}, True, "live", 0, PlainView),
        ({"TERM": "xterm", "CI": "true"}, True, None, 0, PlainView),
        ({"TERM": "xterm", "CI": "true"}, True, "live", 0, LiveView),
        ({"TERM": "xterm"}, False, None, 0, PlainView),
        ({"TERM": "xterm"}, False, "live", 0, PlainView),
        ({"TERM": "xterm"}, True, None, -1, PlainView),
        ({"TERM": "xterm"}, True, "plain", 0, PlainView),
        ({"TERM": "xterm"}, True, "none", 0, NullView),
    ],
)
def test_the_view_is_chosen_by_the_flag_and_the_terminal(
    environ: dict[str, str], tty: bool, kind: Any, level: int, expected: type
) -> None:
    stream = Tty() if tty else io.StringIO()
    assert type(make_view(kind, stream, environ=environ, level=level)) is expected


async def test_no_view_still_prints_what_people_must_know() -> None:
    stream = io.StringIO()
    view = NullView(stream)
    view.start()
    view.apply(now_told(e.RoutineStarted(execution_id=RUN, routine="r", step_count=1)))
    view.print("a \x1b warning")
    async with view.paused():
        assert stream.getvalue() == "a \\x1b warning\n"
    await view.stop({"status": "failed"})
    assert stream.getvalue() == "a \\x1b warning\n"


# --- real terminals --------------------------------------------------------------------------------------------------


def driven(*arguments: str, width: int = 80, height: int = 24) -> tuple[int, Terminal]:
    """The driver on a pty: its exit status, and the terminal it leaves."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environ.pop(name, None)
        os.execve(sys.executable, [sys.executable, "-m", "tests.view.driver", *arguments], environ)
    output = b"".join(_read(fd, answer=b"y\n" if "prompt" in arguments else b""))
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    terminal = Terminal(width, height)
    terminal.feed(output.decode().replace("\r\r\n", "\r\n").replace("\x1b[?1;2c", ""))
    return os.waitstatus_to_exitcode(status), terminal


def _read(fd: int, answer: bytes) -> Iterator[bytes]:
    limit = time.monotonic() + 20
    while time.monotonic() < limit and select.select([fd], [], [], 20)[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:  # the other side is closed
            return
        if not data:
            return
        if answer and b"[y/N]" in data:
            os.write(fd, answer)
        yield data


def test_on_a_pty_a_run_leaves_notices_and_summary_and_the_cursor() -> None:
    status, terminal = driven("small", "stop", "0.5")
    text = terminal.text()
    assert status == 0 and terminal.shown and terminal.wraps
    assert text.splitlines()[0] == "a notice above the picture"
    assert "✓ release-notes completed" in text and "batch" not in text


def test_on_a_pty_a_failed_run_ends_with_the_command_to_resume() -> None:
    _, terminal = driven("big", "fail", "0.5", width=60)
    lines = terminal.text().splitlines()
    assert f"  vrooli resume {RUN}" in lines
    assert not any("waiting" in part for part in lines)


def test_on_a_pty_an_exception_leaves_a_clean_terminal() -> None:
    status, terminal = driven("small", "raise", "0.3")
    assert status == 1 and terminal.shown and terminal.wraps
    assert "batch" not in terminal.text() and "the run met a bug" in terminal.text()


def test_on_a_pty_leaving_at_once_leaves_a_clean_terminal() -> None:
    status, terminal = driven("small", "leave", "0.5")
    assert status == 130 and terminal.shown and terminal.wraps
    assert terminal.text() == "a notice above the picture"


def test_on_a_pty_a_prompt_has_the_terminal_for_itself() -> None:
    status, terminal = driven("small", "prompt", "0.6")
    lines = terminal.text().splitlines()
    assert status == 0 and lines[0] == "Ship it? [y/N] y"
    assert "✓ release-notes completed" in terminal.text()


def test_on_a_pty_a_killed_run_leaves_a_cursor() -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        environ = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
        os.execve(sys.executable, [sys.executable, "-m", "tests.view.driver", "small", "stop", "30"], environ)
    output = b""
    limit = time.monotonic() + 10
    while output.count(b"\x1b[?25h") < 3 and time.monotonic() < limit:
        output += os.read(fd, 65536)
    os.kill(pid, signal.SIGKILL)
    output += b"".join(_read(fd, b""))
    os.waitpid(pid, 0)
    os.close(fd)
    assert output.rfind(b"\x1b[?25h") > output.rfind(b"\x1b[?25l")


TMUX = shutil.which("tmux")


@pytest.mark.skipif(TMUX is None, reason="tmux is not installed")
def test_in_tmux_the_screen_follows_a_resize_and_is_clean_at_the_end(tmp_path: Path) -> None:
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]

    def do(*arguments: str) -> str:
        return subprocess.run([*tmux, *arguments], check=True, capture_output=True, text=True, timeout=10).stdout

    run = f"{sys.executable} -m tests.view.driver small stop 2.5"
    command = f"cd {ROOT}; unset COLUMNS LINES; PYTHONPATH={ROOT} LANG=C.UTF-8 {run}; echo over; sleep 30"
    do("-u", "new-session", "-d", "-x", "100", "-y", "24", f"TERM=screen-256color sh -c '{command}'")
    try:
        _until(lambda: "release-notes" in do("capture-pane", "-p"))
        do("resize-window", "-x", "60", "-y", "24")
        _until(lambda: "cr" in do("capture-pane", "-p") and "credits" not in do("capture-pane", "-p"))
        screen = do("capture-pane", "-p")
        assert screen.count("release-notes") == 1 and all(len(part) <= 60 for part in screen.splitlines())
        do("resize-window", "-x", "120", "-y", "24")
        _until(lambda: "over" in do("capture-pane", "-p").splitlines())
        screen = do("capture-pane", "-p").rstrip()
        assert screen.count("release-notes") == 1 and "completed in" in screen and "batch" not in screen
        assert do("display-message", "-p", "#{cursor_flag}").strip() == "1"
    finally:
        do("kill-server")


def _until(holds: Any, seconds: float = 10) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.05)


async def test_a_hundred_thousand_events_leave_the_picture_half_a_second_behind_at_the_most(quick: None) -> None:
    """What counts is processor time: the loop waits for nothing, whatever else the machine does."""
    plan, events, _ = synthetic.wide_run(20, 1_000, 1.0)
    many = (events * (100_000 // len(events) + 1))[:100_000]
    view = LiveView(Tty(), plan, environ={})
    view.start()
    stale = worst = 0.0
    seen, began = view.frames, time.process_time()
    for at in range(0, len(many), 500):  # as commits bring them: some hundreds at once, then the loop goes on
        for event in many[at : at + 500]:
            view.apply(event)
        await asyncio.sleep(0)
        stale = time.process_time() - began
        if view.frames != seen or not view.state.dirty:
            worst, seen, began = max(worst, stale), view.frames, time.process_time()
    worst = max(worst, stale)
    assert worst < 0.5
    await asyncio.sleep(0.5)
    assert view.frames >= 2 and not view.state.dirty  # the picture shows the last event
    assert len(view.state.running) <= len(plan.steps)
    assert len(view.state.failed) <= 50
    assert view.scribe._jobs.qsize() <= 2  # pictures do not queue up behind a slow terminal
    await view.stop(None)
