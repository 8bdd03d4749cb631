"""The timers that a machine has set, on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vrooli_cli.model.clock import Clock
from vrooli_cli.tier2.instructions import ClearTimer, SetTimer
from vrooli_cli.tier2.stimuli import TimerFired, TimerKey


class Timers:
    """Sets and clears timers by key, and tells of each that has come.

    Args:
        clock: What the machine's times are in.
        tell: Takes the stimulus.
    """

    def __init__(self, clock: Clock, tell: Callable[[TimerFired], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._handles: dict[TimerKey, asyncio.TimerHandle] = {}

    def set(self, order: SetTimer) -> None:
        """Set a timer; one of the same key is forgotten."""
        self.clear(ClearTimer(order.key))
        delay = max(0.0, (order.at - self._clock.now_ns()) / 1e9)
        self._handles[order.key] = asyncio.get_running_loop().call_later(delay, self._fire, order.key)

    def clear(self, order: ClearTimer) -> None:
        """Forget a timer, if it is set."""
        handle = self._handles.pop(order.key, None)
        if handle is not None:
            handle.cancel()

    def close(self) -> None:
        """Forget them all."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()

    def _fire(self, key: TimerKey) -> None:
        del self._handles[key]
        self._tell(TimerFired(self._clock.now_ns(), key))
