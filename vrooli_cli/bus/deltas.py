"""Streamed text on its way: put together, so that a fast model does not become a thousand events a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from vrooli_cli.model.events import AIDelta, Event

DELTA_SECONDS: Final = 0.05


class _Held:
    """The text of one step that waits for its time."""

    __slots__ = ("attempt", "due", "parts")

    def __init__(self, attempt: int, due: float) -> None:
        self.attempt = attempt
        self.due = due
        self.parts: list[str] = []


class Deltas:
    """Puts pieces of streamed text together: at most 20 events a second for one step, in order with its others."""

    def __init__(self, loop: asyncio.AbstractEventLoop, accept: Callable[[Event], None]) -> None:
        self._loop = loop
        self._accept = accept
        self._held: dict[tuple[str, str], _Held] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, fact: AIDelta) -> None:
        """A piece of text: passed on when the step's last was long enough ago, else kept until then."""
        key = fact.execution_id, fact.step_id
        now = self._loop.time()
        held = self._held.get(key)
        if held is not None and held.attempt != fact.attempt:
            self._release(key, held)
            held = None
        if held is None or (held.due <= now and not held.parts):
            self._held[key] = _Held(fact.attempt, now + DELTA_SECONDS)
            self._accept(fact)
            return
        held.parts.append(fact.text)
        if self._timer is None:
            self._timer = self._loop.call_at(held.due, self._tick)

    def overtake(self, fact: Event) -> None:
        """Another event of a step: the text before it goes first."""
        if self._held:
            key = fact.execution_id, getattr(fact, "step_id", "")
            held = self._held.get(key)
            if held is not None:
                self._release(key, held)

    def _release(self, key: tuple[str, str], held: _Held) -> None:
        if held.parts:
            text = "".join(held.parts)
            held.parts = []
            self._accept(AIDelta(execution_id=key[0], step_id=key[1], attempt=held.attempt, text=text))

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        for key, held in list(self._held.items()):
            if held.due > now:
                continue
            if held.parts:
                self._release(key, held)
                held.due = now + DELTA_SECONDS
            else:
                del self._held[key]
        if self._held:
            self._timer = self._loop.call_at(min(held.due for held in self._held.values()), self._tick)

    def close(self) -> None:
        """Give out what is held."""
        for key, held in self._held.items():
            self._release(key, held)
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
