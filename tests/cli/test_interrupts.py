"""A run full of stubborn processes, interrupted at any moment: nobody is left, and the terminal is as it was."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import VROOLI, Write, environment

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


def stubborn(mark: str) -> list[dict[str, object]]:
    """Everything that a shell can do not to be stopped; ``mark`` is how long they sleep, and how they are found."""
    scripts = {
        "session": f"setsid sleep {mark} & sleep {mark} & wait",
        "deaf": f"trap '' TERM INT HUP; setsid sh -c \"trap '' TERM; sleep {mark}; sleep {mark}\" & sleep {mark}; wait",
        "gone": f"nohup sleep {mark} >/dev/null 2>&1 & echo started",
        "nested": f"sh -c 'sh -c \"sleep {mark}\"; true'; true",
        "piped": f"(sleep {mark} | cat); true",
    }
    steps: list[dict[str, object]] = [
        {"id": name, "tool": "shell", "with": {"command": script}} for name, script in scripts.items()
    ]
    loop: dict[str, object] = {"id": "loop", "for_each": [1, 2], "tool": "shell", "with": {"command": ["sleep", mark]}}
    return [*steps, loop, {"id": "ask", "approval": "Go on?"}]


def left(mark: str) -> list[list[str]]:
    """Command lines of living processes that have the mark."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if any(mark in word for word in words) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(words)
    return found


def read(terminal: int, seconds: float) -> bytes:
    """What comes out of a terminal within so long, or until it is silent for good."""
    until, out = time.monotonic() + seconds, b""
    while (rest := until - time.monotonic()) > 0:
        if select.select([terminal], [], [], rest)[0]:
            try:
                out += os.read(terminal, 65536)
            except OSError:
                break
    return out


@pytest.mark.parametrize(
    ("numbers", "moment", "code"),
    [
        ((signal.SIGINT,), 0.6, 130),
        ((signal.SIGTERM,), 1.1, 143),
        ((signal.SIGINT,), 1.7, 130),
        ((signal.SIGTERM, signal.SIGTERM), 1.4, 143),
        ((signal.SIGINT, signal.SIGINT), 2.0, 130),
        ((signal.SIGHUP,), 1.5, 143),
    ],
)
def test_nobody_is_left_and_the_terminal_is_as_it_was(
    write: Write, folder: Path, numbers: tuple[int, ...], moment: float, code: int
) -> None:
    mark = str(10_000_000 + os.getpid() * 10 + round(moment * 10) % 10)
    write("r.yaml", json.dumps({"steps": stubborn(mark)}))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(slave)
    running = subprocess.Popen(
        [*VROOLI, "run", "r.yaml", "--grace", "300ms"],
        cwd=folder,
        env=environment(folder, TERM="xterm-256color"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    out = read(master, moment)
    began = time.monotonic()
    for number in numbers:
        running.send_signal(number)
        time.sleep(0.02)
    while running.poll() is None and time.monotonic() - began < 15:
        out += read(master, 0.05)
    took = time.monotonic() - began
    out += read(master, 0.1)
    assert left(mark) == []
    assert running.poll() in (code, -numbers[0])  # before our first line the signal is Python's own
    assert took < 8, out[-2000:]
    assert termios.tcgetattr(slave) == before
    assert out.rfind(SHOW) >= out.rfind(HIDE)
    assert b"Traceback" not in out or running.returncode < 0
    os.close(master)
    os.close(slave)
