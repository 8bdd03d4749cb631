"""``vrooli``: the process around a command line, from its first moment to its last flush.

Nothing is imported here before the signals and the streams are in order, so that Ctrl-C in the first milliseconds, or a
closed stdout, ends as quietly as at any other time.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

_IMPORTING = "<frozen importlib._bootstrap>"  # the file of the frames that hold the lock of imports
_MOMENT = 0.002


class Interrupted(KeyboardInterrupt):
    """A signal before the run has its own handlers, or after it has given them back."""


class Ears:
    """Hears SIGINT, SIGTERM and SIGHUP while no run is at work.

    Nothing is raised inside the import machinery: between two of its lines it holds the one lock of all imports, and
    every other thread would wait for that for ever. There the signal is heard again a moment later.

    Attributes:
        number: What was heard, or 0. Python drops an exception that is raised in a callback of its own (of a weak
            reference, say), so a run looks here before it begins.
    """

    def __init__(self) -> None:
        self.number = 0
        self._again = False

    def open(self) -> None:
        """From now on they raise :class:`Interrupted`."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # `nohup` wants it ignored
                signal.signal(number, self._heard)

    def close(self) -> None:
        """From now on they are nobody's business: the exit code is known."""
        self.settle()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def settle(self) -> int:
        """What was heard, or 0; from here on it is the caller's, and nothing is raised for it any more."""
        if self._again:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._again = False
        return self.number

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGALRM:
            self.number = signal.SIGTERM if number == signal.SIGHUP else number
        if frame is not None and frame.f_code.co_filename == _IMPORTING:
            self._again = True
            signal.signal(signal.SIGALRM, self._heard)
            signal.setitimer(signal.ITIMER_REAL, _MOMENT)
            return
        raise Interrupted


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code. No traceback ever reaches a person, save with ``--debug``."""
    ears = Ears()
    try:
        ears.open()
        _open_streams()
        gc.set_threshold(500_000, 20, 50)  # what a start makes stays: looking through it again and again finds nothing
        from vrooli_cli.cli.app import run_command_line

        code = run_command_line(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    ears.close()
    _flush()
    return 128 + ears.number if ears.number else code


def _open_streams() -> None:
    """stdin, stdout and stderr exist, so that no file of ours ever gets their numbers."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - open as long as the process


def _flush() -> None:
    """The interpreter's own last flush must find nothing to complain about."""
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


if __name__ == "__main__":
    sys.exit(main())
