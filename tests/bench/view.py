"""What the live view costs: one routine on a terminal of its own, with the view and without, in turn.

    python tests/bench/view.py [--steps 1000] [--rounds 3]

Said are the medians of: seconds from start to end; processor time of the view as a part of one core (the difference to
the run without, divided by the time of the run); and what was written to the terminal.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """One process, from start to end."""

    seconds: float
    processor: float
    written: int


def on_a_terminal(folder: Path, *words: str) -> Cost:
    """Run ``vrooli`` with a terminal that takes everything at once."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color"}
        environ |= {"HOME": str(folder), "XDG_STATE_HOME": str(folder)}
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, "-m", "vrooli_cli", *words], environ)
    written = 0
    while True:
        select.select([terminal], [], [])
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so when the other end is closed
            break
        if not data:
            break
        written += len(data)
    _, status, used = os.wait4(pid, 0)
    os.close(terminal)
    assert status == 0, os.waitstatus_to_exitcode(status)
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, written)


def compare(steps: int, rounds: int) -> dict[str, float]:
    """The medians of all rounds."""
    costs: dict[str, list[Cost]] = {"live": [], "none": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        routine = {"steps": [{"id": f"s{n}", "wait": "50ms"} for n in range(steps)]}
        (folder / "waits.yaml").write_text(json.dumps(routine))
        for number in range(rounds + 1):
            for view, of_view in costs.items():
                cost = on_a_terminal(folder, "run", "waits.yaml", "--view", view, "-j", "8")
                if number:  # the first fills the caches
                    of_view.append(cost)
    seconds = {view: statistics.median(cost.seconds for cost in found) for view, found in costs.items()}
    share = [
        (live.processor - none.processor) / live.seconds
        for live, none in zip(costs["live"], costs["none"], strict=True)
    ]
    return {
        "seconds with": seconds["live"],
        "seconds without": seconds["none"],
        "wall %": (seconds["live"] / seconds["none"] - 1) * 100,
        "core %": statistics.median(share) * 100,
        "bytes": statistics.median(cost.written for cost in costs["live"]),
    }


def main() -> None:
    """Parse the flags and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for name, value in compare(given.steps, given.rounds).items():
        sys.stdout.write(f"{name}: {value:.2f}\n")


if __name__ == "__main__":
    main()
