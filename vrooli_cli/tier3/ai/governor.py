"""When a call may be sent: one lane per endpoint, key and model, shared by all steps of the process (engine.md, f).

::

    Lane        the rules, pure: every method takes the time
    Governor    its asyncio shell: ``async with governor.call(lane, body) as call: await call.permit()``

What is learned from a refusal:

* *too many at once*. A lane sends at most ``window`` calls at once. The window begins small and grows by half a call
  with every answer, until the first refusal teaches a *ceiling*: what was not refused of all that was under way. After
  some rounds of answers one more is tried, more seldom each time that it was refused, and only while those who wait
  would gain more by it than a refusal costs them. Only the refused call waits.
* *too many in a while*. When calls are refused and less at once did not help, the lane as a whole waits as long as the
  endpoint asks; what is served from one such pause to the next is its *pace*.

Where the endpoint tells figures (``x-ratelimit-*``) they are believed: what is left, minus what was sent since, and
what is given back steadily, if it is; so a lane that is told its quota is hardly ever refused. While a refused call
waits, calls with the same body wait with it: nobody could tell them from an early retry.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from bisect import insort
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Literal, Self

from vrooli_cli.errors import VrooliError
from vrooli_cli.model.values import lean

MAX_ATTEMPTS: Final = 6
MAX_WAIT: Final = 60.0
"""Seconds that one call may wait for its retries while nobody is served; queueing for a permit does not count."""

_START: Final = 8.0  # as many as a run has under way at once where nobody says otherwise
_PATIENCE: Final = 8
"""Windows of answers before a little more is tried."""
_MOST_PATIENCE: Final = 32
_ENOUGH: Final = 30  # answers that tell a pace
_STEP: Final = 0.1  # by which a pace grows at first
_GLANCE: Final = 0.25  # seconds between calls that are sent to hear new figures
_RESOLUTION: Final = 2.0  # seconds; resets are told as roughly as in "1m3s"
Refusal = Literal["throttled", "failed"]
"""``throttled``: 429 and 529, the endpoint has too much to do. ``failed``: 5xx, a broken connection."""

# Seconds of exponential backoff. The waits of a call without Retry-After together outlast a window of a minute.
_BASE: Final[Mapping[Refusal, float]] = {"throttled": 2.0, "failed": 0.5}
_LONGEST: Final = 30.0
_LONGEST_PAUSE: Final = 8.0  # of all calls, at an endpoint that does not say how long: one of them goes and looks
_JITTER: Final = 1.0  # seconds at most, beyond what was asked for
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
        when = _epoch_of(text)
        return None if when is None else max(0.0, when - now_epoch)
    if not math.isfinite(number):
        return None
    if number > 1e12:  # milliseconds since 1970
        number /= 1000
    return max(0.0, number - now_epoch if number > 1e9 else number)


def _epoch_of(text: str) -> float | None:
    """Seconds since 1970 of a date, as HTTP or as ISO 8601 writes it."""
    with suppress(TypeError, ValueError, IndexError, OverflowError):
        return parsedate_to_datetime(text).timestamp()
    with suppress(ValueError, OverflowError):
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return None


def retry_after(headers: Mapping[str, str], now_epoch: float) -> float | None:
    """What ``Retry-After`` (or ``retry-after-ms``) asks for, in seconds; a date is counted from the endpoint's own."""
    exact = headers.get("retry-after-ms")
    if exact is not None:
        try:
            return max(0.0, float(exact) / 1000)
        except ValueError:
            pass
    return seconds_of(headers.get("retry-after"), _epoch_of(headers.get("date", "")) or now_epoch)


@lean()
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


@dataclass(slots=True, eq=False)
class Turn:
    """One call in a lane: it waits, is sent, is refused, waits again, and ends.

    Attributes:
        body: Digest of what would be sent.
        tokens: What it may count for against a token quota.
        not_before: When it may be sent again.
        number: Its last sending, counted in the lane.
        among: How many calls were under way once it was sent, itself included.
        waited: Seconds of waiting for tries since anybody was last served.
        served: How many calls the lane had served when this one was last refused.
        delay: The last backoff that was our own choice.
    """

    body: str
    priority: int = 1
    tokens: int = 0
    order: int = 0
    not_before: float = 0.0
    number: int = 0
    among: int = 0
    attempts: int = 0
    waited: float = 0.0
    served: int = 0
    delay: float = 0.0
    sent_at: float = 0.0
    flying: bool = False


@dataclass(slots=True)
class _Budget:
    """What an endpoint's own figures allow: a quota as last heard, and what was sent since.

    Attributes:
        number: What was sent after this sending is not in ``remaining`` yet.
        told: The sending whose response told it; figures of an earlier one that arrive later are old.
        charge: What one call takes of it.
        spacing: Seconds until one unit is given back, if it is given back steadily.
        steady: True for a bucket that refills all the time, False for a window that begins anew, None before the
            figures have shown which.
    """

    remaining: float
    heard: float
    until: float
    number: int
    charge: float
    told: int = 0
    spacing: float = 0.0
    limit: int = 0
    steady: bool | None = None
    anchor: tuple[int, float] = (0, 0.0)
    next_at: float = 0.0

    def opens(self, now: float, sent: int) -> float:
        """When the next call fits."""
        left = self.remaining - self.charge * (sent - self.number)
        if self.steady:
            left += (now - self.heard) / self.spacing
            return now + max(0.0, self.charge - left) * self.spacing
        if left < min(self.charge, self.limit or self.charge):
            return self.until
        return self.next_at if self.steady is None and left <= self.limit / 10 else now

    def take(self, now: float) -> None:
        """A call is sent: the last tenth of a quota goes out evenly, should it be one that refills."""
        self.next_at = now + (self.spacing * self.charge if self.steady is None else 0.0)

    def renew(self, now: float, sent: int) -> None:
        """The time of its reset has come: one call goes and brings back new figures before the others follow."""
        if self.steady or now < self.until:
            return
        if self.remaining - self.charge * (sent - self.number) >= self.charge:
            self.remaining = math.inf
        else:
            self.remaining, self.number, self.until = self.charge, sent, now + _GLANCE

    def learn(self, quota: Quota, now: float, number: int) -> None:
        """Take newer figures, and from how they moved, what a call takes and in which way it is given back."""
        calls, until = number - self.told, now + quota.reset
        taken = (quota.limit or 0) - quota.remaining
        if self.limit and self.remaining < math.inf and calls > 0 and self.charge != 1:
            gone = self.remaining - quota.remaining + ((now - self.heard) / self.spacing if self.steady else 0.0)
            self.charge += (max(1.0, gone / calls) - self.charge) / 2
        if taken > 0 and quota.reset > 0:
            self.spacing = quota.reset / taken
        self.remaining, self.heard, self.number, self.told = quota.remaining, now, number, number
        self.until, self.limit = until, quota.limit or 0
        first, before = self.anchor
        moved = (number - first) * self.charge * self.spacing
        if not before or now >= before:
            self.anchor = number, until
        elif moved > _RESOLUTION:
            self.steady = until - before > moved / 2
            self.anchor = number, until


@dataclass(slots=True)
class Lane:
    """The rules of one lane.

    Attributes:
        window: How many calls may be under way at once, a whole number of them.
        ceiling: As many as were served at once when more were refused; None until the first refusal.
        pace: Calls a second, once the endpoint has refused what it could serve at once; None before.
        paused_until: Nothing is sent before.
        closed_since: The first refusal after which nothing has been served; None while calls are served.
        served: How many calls have been answered.
        strikes: How often everybody had to wait since then.
    """

    window: float = _START
    ceiling: int | None = None
    pace: float | None = None
    paused_until: float = 0.0
    closed_since: float | None = None
    strikes: int = 0
    served: int = 0
    flying: int = 0
    _sent: int = 0
    _lesson_at: int = 0
    _first_lesson: bool = False
    _step: float = _STEP
    _answers: int = 0
    _patience: int = _PATIENCE
    _slowed_at: tuple[float, int] | None = None
    _held_pace: float | None = None
    _calm: bool = True
    _next_at: float = 0.0
    _extra_at: float = 0.0
    _latency: float = 0.0
    _price: float = 1.0
    _waiting: list[Turn] = field(default_factory=list)
    _held: dict[str, float] = field(default_factory=dict)
    _budgets: dict[str, _Budget] = field(default_factory=dict)
    _orders: int = 0

    def queue(self, turn: Turn) -> None:
        """Line up: by priority, then by arrival; a call that comes back keeps its place."""
        if not turn.order:
            self._orders += 1
            turn.order = self._orders
        insort(self._waiting, turn, key=lambda one: (-one.priority, one.order))

    def leave(self, turn: Turn) -> None:
        """The call ends, however it ends."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        self.landed(turn)

    def landed(self, turn: Turn) -> None:
        """The sending is over without a lesson: cancelled, not made, or refused for good."""
        if turn.flying:
            turn.flying = False
            self.flying -= 1

    # --- sending ------------------------------------------------------------------------------------------------------

    def ready(self, now: float) -> tuple[list[Turn], float | None]:
        """The calls that may be sent now, already counted as sent; and when to look again if only time is missing."""
        go: list[Turn] = []
        later = math.inf
        # While nobody is served, those who have tried least try first.
        line = self._waiting if self.closed_since is None else sorted(self._waiting, key=lambda turn: turn.attempts)
        for turn in line:
            free = int(self.window) - self.flying
            if free <= 0:
                later = math.inf
                break
            opens = max(self.opens(now), self._extra_at if free == 1 else 0.0)
            at = max(turn.not_before, self._held.get(turn.body, 0.0), opens)
            if at <= now:
                self._send(turn, now)
                go.append(turn)
                continue
            later = min(later, at)
            if opens > now:
                break
        if go:
            self._waiting = [turn for turn in self._waiting if not turn.flying]
        return go, None if later == math.inf else later

    def opens(self, now: float) -> float:
        """When the endpoint takes the next call, whichever it is."""
        at = max(self.paused_until, self._next_at)
        for budget in self._budgets.values():
            budget.renew(now, self._sent)
            at = max(at, budget.opens(now, self._sent))
        return at

    def _send(self, turn: Turn, now: float) -> None:
        self._sent += 1
        self.flying += 1
        turn.number, turn.among, turn.sent_at, turn.flying = self._sent, self.flying, now, True
        turn.attempts += 1
        if self.pace:
            self._next_at = now + 1 / self.pace
        for budget in self._budgets.values():
            budget.take(now)

    # --- hearing ------------------------------------------------------------------------------------------------------

    def hear(
        self, turn: Turn, headers: Mapping[str, str], now: float, now_epoch: float, asked: float | None = None
    ) -> None:
        """Take what a response says of what is left; ``asked`` is its ``Retry-After``, which is more exact."""
        for thing, quota in quotas(headers, now_epoch).items():
            budget = self._budgets.get(thing)
            if budget is None:
                charge = 1.0 if thing == "requests" else max(2.0, float(turn.tokens))
                budget = self._budgets[thing] = _Budget(math.inf, now, now, 0, charge)
            if turn.number >= budget.told:
                budget.learn(quota, now, turn.number)
            if asked is not None:
                budget.until, budget.next_at = min(budget.until, now + asked), min(budget.next_at, now + asked)

    def answered(self, turn: Turn, now: float) -> None:
        """The call was served."""
        self.landed(turn)
        self._latency += (now - turn.sent_at - self._latency) / 4
        self.served += 1
        self.closed_since, self.strikes = None, 0
        since = turn.number > self._lesson_at
        self._calm = self._calm or since
        if self.ceiling is not None and since and turn.among > self.ceiling:
            self.ceiling, self._patience = turn.among, max(1, self._patience // 2)
        if len(self._waiting) < self.window / 2:
            return  # there is nothing to gain by more
        if self.ceiling is None:
            self.window += 0.5
        elif self.window < self.ceiling:
            self.window = min(self.ceiling, self.window + 1)
        else:
            self._try_more(now)

    def _try_more(self, now: float) -> None:
        """A little more is tried after some rounds of answers, and more seldom each time that it was too much."""
        self._answers += 1
        rounds = self._patience if self.pace is None else _PATIENCE
        if self._answers < rounds * (self.flying + 1) or not self._is_worth_a_refusal():
            return
        self._answers = 0
        if self.pace is not None:
            self._held_pace, self.pace = self.pace, self.pace * (1 + self._step)
            self._step = min(1.0, self._step * 2)
        if self.flying + 2 >= self.window:
            # Between two others, so that it tells of too many at once, and of nothing else.
            self._extra_at = now + self._latency / (2 * self.window)
            self.window += 1

    def _is_worth_a_refusal(self) -> bool:
        """Whether those who wait would gain more by one call more at once than a refusal of it would cost them.

        A refused call comes again after as long as the last one (``_price``), and so does every call with its body.
        """
        rest = len(self._waiting) * self._latency / self.window
        bodies = Counter(turn.body for turn in self._waiting)
        stopped = max(bodies.values(), default=0) / max(1, len(self._waiting))
        return rest > self._price and rest / (self.window + 1) > stopped * self._price

    def refused(self, turn: Turn, now: float, delay: float, kind: Refusal, pause: float | None = None) -> None:
        """The call was turned away and comes again after ``delay`` seconds; ``pause`` is for all, if all must wait."""
        self.landed(turn)
        turn.not_before = now + delay
        self._held = {body: until for body, until in self._held.items() if until > now}
        self._held[turn.body] = max(turn.not_before, self._held.get(turn.body, 0.0))
        if kind == "failed":
            return
        self.closed_since = now if self.closed_since is None else self.closed_since
        self._price = delay
        if turn.number > self._lesson_at:
            self._learn(now, delay if pause is None else pause)
        else:  # sent before the lesson: one more of those that were too many
            self.window = max(1.0, self.window - 1)
            if self._first_lesson:
                self.ceiling = int(self.window)

    def _learn(self, now: float, pause: float) -> None:
        """The first refusal of a call that was sent after the last lesson."""
        calm, self._calm = self._calm, False
        self._lesson_at, self._answers, self._step = self._sent, 0, _STEP
        self._first_lesson = self.ceiling is None
        if self.ceiling is None:
            self.window = max(1.0, min(self.window, float(self.flying)))
            self.ceiling = int(self.window)
        elif self.window > self.ceiling:  # more at once was tried, and was too much
            self.window = float(self.ceiling)
            self._patience = min(_MOST_PATIENCE, self._patience * 2)
        else:
            self.window = max(1.0, min(self.window, float(self.flying)))
            self.ceiling = max(int(self.window), self.ceiling - 1)
            self._patience = min(_MOST_PATIENCE, self._patience * 2)
        if not calm or not self.flying:
            self._slow_down(now, pause)

    def _slow_down(self, now: float, pause: float) -> None:
        """Less at once did not help: it is too much in a while, and whoever is sent now would be refused."""
        self.strikes += 1
        self.paused_until = max(self.paused_until, now + pause)
        if self.pace is not None:
            self.pace = self._held_pace or self.pace * 0.9
            self._held_pace = None
        elif self._slowed_at is None:
            self._slowed_at = now, self.served
        elif self.served >= self._slowed_at[1] + _ENOUGH:
            begun, served = self._slowed_at
            self.pace = (self.served - served) / max(now - begun, 1e-3)


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
    return max(asked + min(_JITTER, asked / 10) * rng.random(), step / 10)


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
        closed = self.lane.opens(loop.time()) - loop.time()
        if closed > MAX_WAIT + _JITTER:
            self.close(f"the endpoint gives nothing for another {closed:.0f} s")
        go, later = self.lane.ready(loop.time())
        for turn in go:
            future = self.futures.pop(turn)
            if not future.done():
                future.set_result(None)
        if later is not None:
            self.timer = loop.call_at(later, self.wake)

    def close(self, why: str) -> None:
        """Turn away everybody who waits."""
        waiting, self.futures = self.futures, {}
        for turn, future in waiting.items():
            self.lane.leave(turn)
            if not future.done():
                future.set_exception(Throttled(why))


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
        closed = road.lane.opens(loop.time()) - loop.time()
        if closed > MAX_WAIT + _JITTER:
            raise Throttled(f"the endpoint gives nothing for another {closed:.0f} s")
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

    def heard(self, headers: Mapping[str, str], epoch: float) -> None:
        """The endpoint has begun to answer, and says what is left."""
        self._road.lane.hear(self.turn, headers, asyncio.get_running_loop().time(), epoch)
        self._road.wake()

    def answered(self) -> None:
        """The endpoint has served the call."""
        self._road.lane.answered(self.turn, asyncio.get_running_loop().time())
        self._road.wake()

    def refused(self, kind: Refusal, headers: Mapping[str, str], epoch: float) -> float | None:
        """The endpoint has turned the call away for now.

        Returns:
            Seconds until its next try, which :meth:`permit` waits for; None when it has had its tries or its time.
        """
        road, lane, turn = self._road, self._road.lane, self.turn
        now = asyncio.get_running_loop().time()
        asked = retry_after(headers, epoch)
        delay = backoff(kind, turn.attempts, asked, self._rng, turn.delay)
        turn.delay = delay if asked is None else turn.delay
        if lane.served > turn.served:  # it queues behind others, at an endpoint that works
            turn.served, turn.waited = lane.served, 0.0
        turn.waited += delay if asked is None else asked
        lane.hear(turn, headers, now, epoch, asked)
        pause = delay if asked is not None else min(_LONGEST_PAUSE, backoff(kind, lane.strikes + 1, None, self._rng))
        lane.refused(turn, now, delay, kind, pause)
        closed = lane.closed_since is not None and now - lane.closed_since >= MAX_WAIT
        if closed:
            road.close(f"the endpoint has served nothing for {MAX_WAIT:g} s")
        road.wake()
        spent = closed or turn.attempts >= MAX_ATTEMPTS or turn.waited > MAX_WAIT
        return None if spent else max(delay, lane.paused_until - now)

    def landed(self, body: str | None = None) -> None:
        """The sending is over and taught nothing; ``body`` is what will be sent next, if it has changed."""
        self._road.lane.landed(self.turn)
        if body is not None:
            self.turn.body = body
        self._road.wake()
