"""The governor in virtual time, against endpoints with limits of every common kind."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from heapq import heappop, heappush
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ai.virtual import run_virtually
from vrooli_cli.tier3.ai.governor import (
    MAX_ATTEMPTS,
    MAX_WAIT,
    Governor,
    Lane,
    Throttled,
    Turn,
    backoff,
    quotas,
    retry_after,
    seconds_of,
)

ROAD = ("http://x", "KEY", "m")


class Rolling:
    """So many in any minute."""

    def __init__(self, a_minute: int) -> None:
        self.limit = a_minute
        self._served: deque[float] = deque()

    def admit(self, now: float) -> float | None:
        """None when it is served, else seconds until the next is."""
        self._roll(now)
        if len(self._served) >= self.limit:
            return self._served[0] + 60 - now
        self._served.append(now)
        return None

    def figures(self, now: float) -> tuple[int, float]:
        self._roll(now)
        return self.limit - len(self._served), self._served[0] + 60 - now if self._served else 0.0

    def _roll(self, now: float) -> None:
        while self._served and self._served[0] <= now - 60:
            self._served.popleft()


class Fixed:
    """So many in each minute of the clock."""

    def __init__(self, a_minute: int, since: float = 0.0) -> None:
        self.limit = a_minute
        self._since = since
        self._minute = -1
        self._used = 0

    def admit(self, now: float) -> float | None:
        left, reset = self.figures(now)
        if not left:
            return reset
        self._used += 1
        return None

    def figures(self, now: float) -> tuple[int, float]:
        minute = int((now + self._since) // 60)
        if minute != self._minute:
            self._minute, self._used = minute, 0
        return self.limit - self._used, (minute + 1) * 60 - self._since - now


class Bucket:
    """Refilled all the time; never more than ``burst`` in it."""

    def __init__(self, a_minute: int, burst: int) -> None:
        self.limit = burst
        self._rate = a_minute / 60
        self._level = float(burst)
        self._at = 0.0

    def admit(self, now: float) -> float | None:
        self._fill(now)
        if self._level < 1 - 1e-9:
            return (1 - self._level) / self._rate
        self._level -= 1
        return None

    def figures(self, now: float) -> tuple[int, float]:
        self._fill(now)
        return int(self._level + 1e-9), (self.limit - self._level) / self._rate

    def _fill(self, now: float) -> None:
        self._level = min(self.limit, self._level + (now - self._at) * self._rate)
        self._at = now


EPOCH = 1_700_000_000.0
Asks = Literal["seconds", "exact", "ms", "date", "nothing"]


@dataclass
class Endpoint:
    """Serves ``at_once`` calls at a time, and as many as ``quota`` allows; notes every early retry."""

    at_once: int = 10
    quota: Rolling | Fixed | Bucket = field(default_factory=lambda: Rolling(300))
    latency: float = 1.0
    again: float = 1.0
    asks: Asks = "seconds"
    headers: bool = False
    lockstep: bool = False
    rng: random.Random = field(default_factory=lambda: random.Random(3))
    busy: int = 0
    peak: int = 0
    refusals: int = 0
    early: int = 0
    forbidden: dict[str, tuple[float, float]] = field(default_factory=dict)

    async def serve(self, body: str) -> tuple[bool, dict[str, str]]:
        loop = asyncio.get_running_loop()
        heard, until = self.forbidden.get(body, (0.0, 0.0))
        self.early += heard < loop.time() < until - 1e-9
        await self._travel()
        now = loop.time()
        wait = self.again if self.busy >= self.at_once else self.quota.admit(now)
        figures = self._figures(*self.quota.figures(now)) if self.headers else {}
        if wait is not None:
            asked = self._asked(now, wait)
            await self._travel()
            self.refusals += 1
            if self.asks != "nothing":
                self.forbidden[body] = loop.time(), now + wait
            return False, figures | asked
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        await asyncio.sleep(self.latency * (1 if self.lockstep else self.rng.uniform(0.7, 1.3)))
        self.busy -= 1
        await self._travel()
        return True, figures

    async def _travel(self) -> None:
        await asyncio.sleep(0.005 * self.rng.uniform(0.5, 1.5))

    def _figures(self, left: int, reset: float) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": str(self.quota.limit),
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{reset * 1000:.0f}ms" if reset < 1 else f"{reset:.3g}s",
        }

    def _asked(self, now: float, wait: float) -> dict[str, str]:
        match self.asks:
            case "seconds":
                return {"retry-after": str(math.ceil(wait))}
            case "exact":
                return {"retry-after": f"{wait + 0.0005:.3f}"}
            case "ms":
                return {"retry-after-ms": str(math.ceil(wait * 1000)), "retry-after": str(math.ceil(wait))}
            case "date":
                stamps = EPOCH + math.floor(now), EPOCH + math.floor(now) + math.ceil(wait)
                return dict(zip(("date", "retry-after"), (formatdate(at, usegmt=True) for at in stamps), strict=True))
            case "nothing":
                return {}


async def _one(governor: Governor, endpoint: Endpoint, body: str) -> bool:
    async with governor.call(ROAD, body) as call:
        while True:
            try:
                await call.permit()
            except Throttled:
                return False
            served, headers = await endpoint.serve(body)
            epoch = EPOCH + asyncio.get_running_loop().time()
            if served:
                call.heard(headers, epoch)
                call.answered()
                return True
            if call.refused("throttled", headers, epoch) is None:
                return False


def crowd(endpoint: Endpoint, count: int, *, same: bool = False) -> tuple[int, float]:
    """How many of ``count`` parallel calls were served, and in how many seconds."""

    async def main() -> list[bool]:
        governor = Governor(random.Random(7))
        bodies = ["same" if same else str(number) for number in range(count)]
        return await asyncio.gather(*(_one(governor, endpoint, body) for body in bodies))

    served, took = run_virtually(main())
    return sum(served), took


def ideal(count: int, latency: float, at_once: int = 10, quota: Rolling | Fixed | Bucket | None = None) -> float:
    """Seconds that somebody would need who knew the limits."""
    places, last, end = [0.0] * min(at_once, count), 0.0, 0.0
    for _ in range(count):
        at = max(last, heappop(places))
        while quota is not None and (wait := quota.admit(at)) is not None:
            at += wait + 1e-6
        last, end = at, max(end, at + latency)
        heappush(places, at + latency)
    return end


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize("asks", ["seconds", "exact", "ms", "date", "nothing"])
@pytest.mark.parametrize("latency", [1.0, 3.0])
def test_a_hundred_calls_reach_four_fifths_of_what_ten_at_once_allow(
    latency: float, asks: Asks, lockstep: bool
) -> None:
    endpoint = Endpoint(latency=latency, asks=asks, lockstep=lockstep)
    served, took = crowd(endpoint, 100)
    assert served == 100 and ideal(100, latency) / took >= 0.8
    assert endpoint.peak == 10 and endpoint.refusals <= 5 and endpoint.early == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_window_never_overshoots_by_more_than_half_of_what_is_served(seed: int) -> None:
    rng = random.Random(seed)
    at_once = rng.randrange(2, 30)
    endpoint = Endpoint(at_once, Rolling(10_000), rng.uniform(0.02, 2), rng.uniform(0.1, 3), lockstep=seed % 2 == 0)
    served, _ = crowd(endpoint, 150)
    assert served == 150 and endpoint.early == 0
    assert endpoint.refusals <= max(4, at_once // 2 + 1) + 4  # the first lesson, then a few single tries for more


QUOTAS: dict[str, Callable[[], Rolling | Fixed | Bucket]] = {
    "rolling": lambda: Rolling(300),
    "fixed": lambda: Fixed(300, 40),
    "bucket": lambda: Bucket(300, 300),
    "small bucket": lambda: Bucket(300, 10),
}


@pytest.mark.parametrize("kind", QUOTAS)
@pytest.mark.parametrize("latency", [0.3, 1.0])
@pytest.mark.parametrize("asks", ["seconds", "ms"])
@pytest.mark.parametrize("headers", [False, True])
def test_a_minute_limit_is_used_by_four_fifths_without_a_storm(
    kind: str, latency: float, asks: Asks, headers: bool
) -> None:
    endpoint = Endpoint(quota=QUOTAS[kind](), latency=latency, asks=asks, headers=headers)
    served, took = crowd(endpoint, 700)
    assert served == 700 and ideal(700, latency, quota=QUOTAS[kind]()) / took >= 0.8
    assert endpoint.refusals <= (0.02 if headers else 0.08) * 700 and endpoint.early == 0


def test_identical_bodies_wait_with_the_one_that_was_refused() -> None:
    endpoint = Endpoint(latency=1.0)
    served, took = crowd(endpoint, 100, same=True)
    assert served == 100 and endpoint.early == 0
    assert ideal(100, 1.0) / took >= 0.8


@pytest.mark.parametrize("latency", [0.2, 0.3, 0.5])
def test_identical_bodies_are_not_stopped_again_and_again_to_try_for_more(latency: float) -> None:
    endpoint = Endpoint(latency=latency, quota=Rolling(10_000))
    served, took = crowd(endpoint, 400, same=True)
    assert served == 400 and endpoint.early == 0
    assert ideal(400, latency) / took >= 0.8


def test_no_more_is_tried_when_a_refused_call_would_come_back_after_all_others_are_done() -> None:
    endpoint = Endpoint(latency=0.05, quota=Rolling(10_000))
    served, took = crowd(endpoint, 400)
    assert served == 400 and ideal(400, 0.05) / took >= 0.78


@pytest.mark.parametrize("kind", [lambda: Rolling(300), lambda: Fixed(300, 40)], ids=["rolling", "fixed"])
def test_an_endpoint_that_names_no_time_is_looked_at_again_before_long(kind: Callable[[], Rolling | Fixed]) -> None:
    endpoint = Endpoint(quota=kind(), latency=0.3, asks="nothing")
    served, took = crowd(endpoint, 700)
    assert served == 700 and ideal(700, 0.3, quota=kind()) / took >= 0.8
    assert endpoint.refusals <= 0.08 * 700


@pytest.mark.parametrize(("asks", "again"), [("seconds", 1.0), ("seconds", 60.0), ("nothing", 1.0)])
def test_an_endpoint_that_always_refuses_is_left_alone(asks: Asks, again: float) -> None:
    endpoint = Endpoint(at_once=0, asks=asks, again=again)
    served, took = crowd(endpoint, 50)
    assert served == 0 and endpoint.early == 0
    assert took <= 2 * MAX_WAIT and endpoint.refusals <= 70
    alone = Endpoint(at_once=0, asks=asks, again=again)
    served, took = crowd(alone, 1)
    assert served == 0 and took <= MAX_WAIT + 10 and 2 <= alone.refusals <= MAX_ATTEMPTS


def test_a_retry_after_of_a_whole_minute_is_waited_for() -> None:
    endpoint = Endpoint(quota=Fixed(4, 0.0), latency=0.1)
    served, took = crowd(endpoint, 12)
    assert served == 12 and took < 122 and endpoint.early == 0


def test_a_call_that_queues_behind_others_does_not_run_out_of_patience() -> None:
    endpoint = Endpoint(quota=Fixed(6, 0.0), latency=0.1)
    served, took = crowd(endpoint, 40)
    assert served == 40 and endpoint.early == 0
    assert ideal(40, 0.1, quota=Fixed(6, 0.0)) / took >= 0.8


def test_a_retry_after_beyond_patience_ends_the_call_at_once() -> None:
    served, took = crowd(Endpoint(at_once=0, again=3600.0), 1)
    assert served == 0 and took < 1


def test_a_lane_that_says_nothing_is_left_for_long_turns_new_calls_away() -> None:
    async def main() -> None:
        governor = Governor(random.Random(1))
        figures = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}
        async with governor.call(ROAD, "a") as call:
            await call.permit()
            call.heard(figures, 0.0)
            call.answered()
        async with governor.call(ROAD, "b") as call:
            with pytest.raises(Throttled):
                await call.permit()

    run_virtually(main())


def test_nothing_is_sent_before_the_reset_when_nothing_is_left() -> None:
    async def main() -> float:
        governor = Governor(random.Random(1))
        async with governor.call(ROAD, "a") as call:
            await call.permit()
            call.heard({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s"}, 0.0)
            call.answered()
        async with governor.call(ROAD, "b") as call:
            await call.permit()
            return asyncio.get_running_loop().time()

    assert run_virtually(main())[0] == 20.0


def test_retry_after_is_believed_rather_than_the_reset_of_the_whole_quota() -> None:
    async def main() -> float:
        governor = Governor(random.Random(1))
        figures = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s", "retry-after": "2"}
        async with governor.call(ROAD, "a") as call:
            await call.permit()
            assert call.refused("throttled", figures, 0.0) is not None
            await call.permit()
            return asyncio.get_running_loop().time()

    assert 2.0 <= run_virtually(main())[0] <= 2.5


def test_a_cancelled_wait_leaves_no_place_taken() -> None:
    async def main() -> None:
        governor = Governor(random.Random(1))

        async def hold(seconds: float) -> None:
            async with governor.call(ROAD, str(seconds)) as call:
                await call.permit()
                await asyncio.sleep(seconds)
                call.answered()

        tasks = [asyncio.create_task(hold(100 + number)) for number in range(8)]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        lane = governor.lane(ROAD)
        assert lane is not None and lane.flying == 0
        await hold(1)

    run_virtually(main())


def test_priority_goes_first_and_equals_keep_their_order() -> None:
    async def main() -> list[str]:
        governor, order = Governor(random.Random(1)), list[str]()

        async def one(name: str, priority: int) -> None:
            async with governor.call(ROAD, name, priority=priority) as call:
                await call.permit()
                order.append(name)
                await asyncio.sleep(1)
                call.answered()

        first = [one(f"first{number}", 1) for number in range(8)]
        await asyncio.gather(*first, one("low", 0), one("a", 1), one("b", 1), one("high", 2))
        return order[8:]

    assert run_virtually(main())[0] == ["high", "a", "b", "low"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5", 1.5),
        ("20ms", 0.02),
        ("6m0s", 360.0),
        ("1h1m1s", 3661.0),
        ("Thu, 01 Jan 1970 00:01:30 GMT", 80.0),
        ("1970-01-01T00:01:30Z", 80.0),
        ("1700000010", 1_700_000_010 - 10.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("-3", 0.0),
    ],
)
def test_delays_are_read_in_every_way_that_headers_write_them(text: str, seconds: float | None) -> None:
    assert seconds_of(text, 10.0) == seconds


def test_retry_after_in_milliseconds_is_more_exact() -> None:
    assert retry_after({"retry-after-ms": "250", "retry-after": "1"}, 0.0) == 0.25


def test_a_date_to_retry_after_is_counted_from_the_endpoint_s_own_clock() -> None:
    headers = {"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT", "date": "Thu, 01 Jan 1970 00:01:28 GMT"}
    assert retry_after(headers, 1_700_000_000.0) == 2.0


def test_quotas_are_read_under_their_several_names() -> None:
    assert quotas({"x-ratelimit-remaining-tokens": "7", "x-ratelimit-reset-tokens": "1s"}, 0.0)["tokens"].remaining == 7
    assert quotas({"ratelimit-remaining": "3", "ratelimit-reset": "9"}, 0.0)["requests"].reset == 9.0
    assert quotas({"x-ratelimit-remaining-requests": "x"}, 0.0) == {}


@given(st.text(max_size=30))
def test_no_header_text_breaks_the_reading(text: str) -> None:
    found = seconds_of(text, 0.0)
    assert found is None or (found >= 0 and math.isfinite(found))


@given(st.integers(1, 6), st.none() | st.floats(0, 60), st.randoms(use_true_random=False))
def test_a_retry_never_comes_before_what_was_asked_for(attempt: int, asked: float | None, rng: random.Random) -> None:
    delay = backoff("throttled", attempt, asked, rng)
    assert delay > 0 and delay <= MAX_WAIT + 1 and (asked is None or delay >= asked)


@given(st.lists(st.sampled_from(["send", "ok", "no", "late"]), max_size=80), st.randoms(use_true_random=False))
def test_the_window_is_never_exceeded_nor_lost(moves: list[str], rng: random.Random) -> None:
    lane, flying, now, number = Lane(), list[Turn](), 0.0, 0
    for move in moves:
        now += 0.1
        if move == "send":
            number += 1
            lane.queue(Turn(str(number)))
        elif move == "late":
            now += 30
        elif flying:
            turn = flying.pop(rng.randrange(len(flying)))
            if move == "ok":
                lane.answered(turn, now)
                lane.leave(turn)
            else:
                lane.refused(turn, now, 1.0, "throttled")
                lane.queue(turn)
        before = int(lane.window)
        go, _ = lane.ready(now)
        flying += go
        assert lane.flying == len(flying) and (not go or lane.flying <= before)
        assert lane.window >= 1
