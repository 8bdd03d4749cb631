"""When a call may be sent: one lane per endpoint, key and model, shared by all steps of the process (engine.md, f).

::

    Lane        the rules, pure: every method takes the time
    Governor    its asyncio shell: ``async with governor.call(lane, body) as call: await call.permit()``

A lane sends at most ``window`` calls at once. The window begins small and grows by one with every answer, until the
first refusal teaches a *ceiling*: what was being served at that moment. From then on it grows by one after ten windows
of answers. A refused *call* waits; the lane goes on, unless the endpoint says that nothing is left, or a call that was
sent after the lesson is refused as well. While a refused call waits, calls with the same body wait with it: nobody
could tell them from an early retry.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Literal, Self

from vrooli_cli.errors import VrooliError

MAX_ATTEMPTS: Final = 6
MAX_WAIT: Final = 60.0
"""Seconds that one call may wait for its retries, all together; queueing for a permit does not count."""

_START: Final = 4.0
_WINDOWS_TO_GROW: Final = 10
Refusal = Literal["throttled", "failed"]
"""``throttled``: 429 and 529, the endpoint has too much to do. ``failed``: 5xx, a broken connection."""

# Seconds of exponential backoff. The waits of a call without Retry-After together outlast a window of a minute.
_BASE: Final[Mapping[Refusal, float]] = {"throttled": 2.0, "failed": 0.5}
_LONGEST: Final = 30.0
_HINT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

# --- what headers say -------------------------------------------------------------------------------------------------


def seconds_of(text: str | None, now_epoch: float) -> float | None:
    """A delay as headers write it: ``1.5``, ``20ms``, ``6m0s``, an HTTP date, or seconds since 1970."""
    text = (text or "").strip()
    if not text:
        return None
    parts = _HINT.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        number = float(text)
    except ValueError:
        return _until(text, now_epoch)
    if not math.isfinite(number):
        return None
    if number > 1e12:  # milliseconds since 1970
        number /= 1000
    return max(0.0, number - now_epoch if number > 1e9 else number)


def _until(text: str, now_epoch: float) -> float | None:
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return max(0.0, when.timestamp() - now_epoch)


def retry_after(headers: Mapping[str, str], now_epoch: float) -> float | None:
    """What ``Retry-After`` (or ``retry-after-ms``) asks for, in seconds."""
    exact = headers.get("retry-after-ms")
    if exact is not None:
        try:
            return max(0.0, float(exact) / 1000)
        except ValueError:
            pass
    return seconds_of(headers.get("retry-after"), now_epoch)


@dataclass(frozen=True, slots=True)
class Quota:
    """What an endpoint says is left of one thing until it is given again.

    Attributes:
        reset: Seconds until it is full again (or, with a fixed window, until the next one begins).
    """

    remaining: int
    reset: float
    limit: int | None = None


def quotas(headers: Mapping[str, str], now_epoch: float) -> dict[str, Quota]:
    """``requests`` and ``tokens`` → what is left, from ``x-ratelimit-*`` and the names related to them."""
    found: dict[str, Quota] = {}
    for thing, suffix in (("requests", "-requests"), ("tokens", "-tokens"), ("requests", "")):
        for prefix in ("x-ratelimit-", "ratelimit-"):
            left = _whole(headers.get(f"{prefix}remaining{suffix}"))
            if left is None or thing in found:
                continue
            reset = seconds_of(headers.get(f"{prefix}reset{suffix}"), now_epoch)
            if reset is not None:
                found[thing] = Quota(left, reset, _whole(headers.get(f"{prefix}limit{suffix}")))
    return found


def _whole(text: str | None) -> int | None:
    try:
        return max(0, int(float(text or "")))
    except (ValueError, OverflowError):
        return None


# --- the rules --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Budget:
    """A quota as last heard, and what was sent since."""

    remaining: int
    until: float
    spacing: float
    mark: int
    next_at: float = 0.0
    sent: int = 0


@dataclass(slots=True, eq=False)
class Turn:
    """One call in a lane: it waits, is sent, is refused, waits again, and ends.

    Attributes:
        body: Digest of what would be sent.
        tokens: What it may count for against a token quota.
        not_before: When it may be sent again.
        number: Its last sending, counted in the lane.
        waited: Seconds of waiting for tries, all together.
        delay: The last backoff that was our own choice.
    """

    body: str
    priority: int = 1
    tokens: int = 0
    order: int = 0
    not_before: float = 0.0
    number: int = 0
    attempts: int = 0
    waited: float = 0.0
    delay: float = 0.0
    flying: bool = False


@dataclass(slots=True)
class Lane:
    """The rules of one lane.

    Attributes:
        window: How many calls may be under way at once, a whole number of them.
        ceiling: None until the first refusal.
        paused_until: Nothing is sent before.
    """

    window: float = _START
    ceiling: float | None = None
    paused_until: float = 0.0
    flying: int = 0
    _sent: int = 0
    _dropped_at: int = 0
    _served_since: int = 0
    _answers: int = 0
    _lessons: int = 0
    _waiting: list[Turn] = field(default_factory=list)
    _held: dict[str, float] = field(default_factory=dict)
    _budgets: dict[str, _Budget] = field(default_factory=dict)
    _orders: int = 0

    def queue(self, turn: Turn) -> None:
        """Line up: by priority, then by arrival; a call that comes back keeps its place."""
        if not turn.order:
            self._orders += 1
            turn.order = self._orders
        self._waiting.append(turn)
        self._waiting.sort(key=lambda one: (-one.priority, one.order))

    def leave(self, turn: Turn) -> None:
        """The call ends, however it ends."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        self.landed(turn)

    def ready(self, now: float) -> tuple[list[Turn], float | None]:
        """The calls that may be sent now, already counted as sent; and when to look again if only time is missing."""
        go: list[Turn] = []
        later: float | None = None
        for turn in list(self._waiting):
            if self.flying >= int(self.window):
                return go, None
            held = self._held.get(turn.body, 0.0)
            at = max(turn.not_before, held, self.paused_until, self._paced(turn, now))
            if at > now:
                later = at if later is None else min(later, at)
                continue
            self._waiting.remove(turn)
            self._send(turn, now)
            go.append(turn)
        return go, later

    def _send(self, turn: Turn, now: float) -> None:
        self._sent += 1
        turn.number, turn.flying = self._sent, True
        turn.attempts += 1
        self.flying += 1
        for thing, budget in self._budgets.items():
            budget.sent += 1 if thing == "requests" else turn.tokens
            budget.next_at = now + budget.spacing if budget.remaining - budget.sent <= budget.mark else now

    def _paced(self, turn: Turn, now: float) -> float:
        """When the endpoint's own figures let the call go."""
        at = now
        for thing, budget in list(self._budgets.items()):
            if now >= budget.until:
                del self._budgets[thing]
                continue
            left = budget.remaining - budget.sent
            if left <= 0 or (thing == "tokens" and left < turn.tokens and self.flying):
                at = max(at, budget.until)
            else:
                at = max(at, budget.next_at)
        return at

    def hear(self, headers: Mapping[str, str], now: float, now_epoch: float) -> None:
        """Take what any response says of what is left."""
        for thing, quota in quotas(headers, now_epoch).items():
            known = self._budgets.get(thing)
            # The endpoint has not yet counted what is under way.
            under_way = self.flying if thing == "requests" else 0
            taken = (quota.limit or 0) - quota.remaining
            spacing = quota.reset / taken if taken > 0 else 0.0
            mark = max(1, quota.limit // 10) if quota.limit else 0
            if quota.remaining == 0:
                self.paused_until = max(self.paused_until, now + quota.reset)
            self._budgets[thing] = _Budget(
                quota.remaining, now + quota.reset, spacing, mark, known.next_at if known else 0.0, under_way
            )

    def answered(self, turn: Turn) -> None:
        """The call was served."""
        self.landed(turn)
        self._served_since += 1
        self._lessons = 0
        if self.ceiling is None:
            self.window += 1
            return
        self._answers += 1
        if self._answers >= _WINDOWS_TO_GROW * int(self.window):
            self._answers = 0
            self.window += 1

    def refused(self, turn: Turn, now: float, delay: float, kind: Refusal) -> None:
        """The call was turned away and comes again after ``delay`` seconds."""
        self.landed(turn)
        turn.not_before = now + delay
        turn.waited += delay
        self._held = {body: until for body, until in self._held.items() if until > now}
        self._held[turn.body] = max(turn.not_before, self._held.get(turn.body, 0.0))
        if kind == "failed":
            return
        served = max(1.0, float(self.flying))
        if turn.number <= self._dropped_at:  # sent before the last lesson: it can only make that more exact
            self.window = max(1.0, min(self.window, served + self._served_since))
        else:
            self.window = min(self.window, served)
            self._dropped_at, self._served_since = self._sent, 0
            self._lessons += 1
            if self._lessons >= 2:
                self.paused_until = max(self.paused_until, now + delay)
        self.ceiling = self.window
        self._answers = 0

    def landed(self, turn: Turn) -> None:
        """The call is over without a lesson: cancelled, not made, or refused for good."""
        if turn.flying:
            turn.flying = False
            self.flying -= 1


def backoff(kind: Refusal, attempt: int, asked: float | None, rng: random.Random, least: float = 0.0) -> float:
    """Seconds before the next try: what the endpoint asked for and a little more, else exponential with jitter.

    Args:
        kind: Why.
        attempt: How many tries there were, from 1.
        least: What it was the last time; a call whose troubles change still waits longer each time.
        asked: ``Retry-After`` in seconds; None when the endpoint did not say.
        rng: Where jitter comes from.
    """
    step = min(_LONGEST, _BASE[kind] * 2.0 ** (attempt - 1)) * rng.uniform(0.6, 1.0)
    step = max(step, min(_LONGEST, 1.25 * least))
    if asked is None:
        return step
    return max(asked + min(1.0, asked / 10) * rng.random(), step / 10)


# --- the shell --------------------------------------------------------------------------------------------------------


class Throttled(VrooliError):
    """The lane is closed for longer than a call may wait."""

    code = "AI_RATE_LIMITED"


class _Road:
    """A lane, those who wait for it, and the timer that looks again."""

    __slots__ = ("futures", "lane", "timer")

    def __init__(self) -> None:
        self.lane = Lane()
        self.futures: dict[Turn, asyncio.Future[None]] = {}
        self.timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Send off whoever may go; come back when time alone is missing."""
        loop = asyncio.get_running_loop()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        go, later = self.lane.ready(loop.time())
        for turn in go:
            future = self.futures.pop(turn)
            if not future.done():
                future.set_result(None)
        if later is not None:
            self.timer = loop.call_at(later, self.wake)


class Governor:
    """All lanes of the process.

    Args:
        rng: Where jitter comes from.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._roads: dict[tuple[str, ...], _Road] = {}

    def call(self, lane: tuple[str, ...], body: str, *, priority: int = 1, tokens: int = 0) -> Call:
        """One logical call: ``async with`` it, and ask for a permit before every sending."""
        road = self._roads.get(lane)
        if road is None:
            road = self._roads[lane] = _Road()
        return Call(road, Turn(body, priority, tokens), self._rng)

    def lane(self, lane: tuple[str, ...]) -> Lane | None:
        """The rules of a lane as they stand, to look at."""
        road = self._roads.get(lane)
        return road.lane if road else None


class Call:
    """One logical call with all its tries; made by :meth:`Governor.call`."""

    __slots__ = ("_rng", "_road", "turn")

    def __init__(self, road: _Road, turn: Turn, rng: random.Random) -> None:
        self._road = road
        self.turn = turn
        self._rng = rng

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._road.lane.leave(self.turn)
        self._road.wake()

    async def permit(self) -> None:
        """Return when the call may be sent; it is then counted as under way.

        Raises:
            Throttled: The endpoint has said that nothing is left for longer than a call may wait.
        """
        road, loop = self._road, asyncio.get_running_loop()
        closed = road.lane.paused_until - loop.time()
        if closed > MAX_WAIT:
            raise Throttled(f"the endpoint gives nothing for another {closed:.0f} s", context={"seconds": closed})
        future = road.futures[self.turn] = loop.create_future()
        road.lane.queue(self.turn)
        road.wake()
        try:
            await future
        except asyncio.CancelledError:
            road.futures.pop(self.turn, None)
            road.lane.leave(self.turn)
            road.wake()
            raise

    def answered(self, headers: Mapping[str, str], epoch: float) -> None:
        """The endpoint has served the call."""
        now = asyncio.get_running_loop().time()
        self._road.lane.answered(self.turn)
        self._road.lane.hear(headers, now, epoch)
        self._road.wake()

    def refused(self, kind: Refusal, headers: Mapping[str, str], epoch: float) -> float | None:
        """The endpoint has turned the call away for now.

        Returns:
            Seconds until its next try, which :meth:`permit` waits for; None when it has had its tries or its time.
        """
        lane, turn = self._road.lane, self.turn
        now = asyncio.get_running_loop().time()
        asked = retry_after(headers, epoch)
        delay = backoff(kind, turn.attempts, asked, self._rng, turn.delay)
        turn.delay = delay if asked is None else turn.delay
        lane.refused(turn, now, delay, kind)
        lane.hear(headers, now, epoch)
        spent = turn.attempts >= MAX_ATTEMPTS or turn.waited > MAX_WAIT
        self._road.wake()
        return None if spent else max(delay, lane.paused_until - now)

    def landed(self, body: str | None = None) -> None:
        """The sending is over and taught nothing; ``body`` is what will be sent next, if it has changed."""
        self._road.lane.landed(self.turn)
        if body is not None:
            self.turn.body = body
        self._road.wake()
