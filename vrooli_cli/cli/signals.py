"""Ctrl-C and SIGTERM: the first asks the run to stop, the second leaves at once (spec engine.md (g)).

Plain ``signal.signal`` handlers, not the loop's: they run between two bytecodes, so a second Ctrl-C is heard even while
the loop is busy. The first one only wakes the loop up.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from vrooli_cli.cli.main import Ears

_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """While inside, signals stop the run.

    Args:
        stop: Ask the run to stop; called on the loop, once.
        abandon: Kill every child and restore the terminal; called between two bytecodes, right before the exit.

    Attributes:
        received: The first signal, or 0.
    """

    def __init__(self, stop: Callable[[], object], abandon: Callable[[], object]) -> None:
        self._stop = stop
        self._abandon = abandon
        self._before: dict[int, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.received = 0

    def __enter__(self) -> Signals:
        self._loop = asyncio.get_running_loop()
        for number in _HEARD:
            before = signal.getsignal(number)
            if number != signal.SIGHUP or before != signal.SIG_IGN:  # `nohup` wants it ignored
                self._before[number] = before
                signal.signal(number, self._heard)
        for before in self._before.values():
            missed = getattr(before, "__self__", None)
            if isinstance(missed, Ears) and (told := missed.settle()):
                self._heard(told, None)
                break
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        del frame
        if not self.received and self._loop is not None:
            self.received = number
            self._loop.call_soon_threadsafe(self._stop)
            return
        try:
            self._abandon()
        finally:
            os._exit(exit_code(number))


def exit_code(number: int) -> int:
    """The exit code of a call that a signal ended; a terminal that went away counts as SIGTERM."""
    return 128 + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
