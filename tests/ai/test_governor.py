"""The governor in virtual time, against endpoints with limits of every common kind."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass, field

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


@dataclass
class Endpoint:
    """Serves ``at_once`` calls at a time and ``a_minute`` in any 60 s; notes every early retry."""

    at_once: int = 10
    a_minute: int = 300
    latency: float = 1.0
    asks: float | None = 1.0
    headers: bool = False
    rng: random.Random = field(default_factory=lambda: random.Random(3))
    busy: int = 0
    peak: int = 0
    refusals: int = 0
    early: int = 0
    served: deque[float] = field(default_factory=deque)
    forbidden: dict[str, float] = field(default_factory=dict)

    async def serve(self, body: str) -> tuple[bool, dict[str, str]]:
        now = asyncio.get_running_loop().time()
        self.early += now < self.forbidden.get(body, 0.0) - 1e-9
        while self.served and self.served[0] <= now - 60:
            self.served.popleft()
        left = self.a_minute - len(self.served)
        reset = self.served[0] + 60 - now if self.served else 0.0
        headers = self._figures(max(0, left - 1), reset) if self.headers else {}
        await asyncio.sleep(0.005)
        if self.busy >= self.at_once or left <= 0:
            return False, headers | self._refuse(body, now, reset if left <= 0 else None)
        self.served.append(now)
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        await asyncio.sleep(self.latency * self.rng.uniform(0.7, 1.3))
        self.busy -= 1
        return True, headers

    def _figures(self, left: int, reset: float) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": str(self.a_minute),
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{reset:.3f}s",
        }

    def _refuse(self, body: str, now: float, reset: float | None) -> dict[str, str]:
        self.refusals += 1
        if self.asks is None:
            return {}
        asked = math.ceil(reset) if reset is not None else self.asks
        self.forbidden[body] = now + asked
        return {"retry-after": str(asked)}


async def _one(governor: Governor, endpoint: Endpoint, body: str) -> bool:
    async with governor.call(ROAD, body) as call:
        while True:
            try:
                await call.permit()
            except Throttled:
                return False
            served, headers = await endpoint.serve(body)
            if served:
                call.answered(headers, 0.0)
                return True
            if call.refused("throttled", headers, 0.0) is None:
                return False


def crowd(endpoint: Endpoint, count: int, *, same: bool = False) -> tuple[int, float]:
    """How many of ``count`` parallel calls were served, and in how many seconds."""

    async def main() -> list[bool]:
        governor = Governor(random.Random(7))
        bodies = ["same" if same else str(number) for number in range(count)]
        return await asyncio.gather(*(_one(governor, endpoint, body) for body in bodies))

    served, took = run_virtually(main())
    return sum(served), took


@pytest.mark.parametrize("headers", [False, True])
@pytest.mark.parametrize("asks", [1.0, None])
@pytest.mark.parametrize("latency", [1.0, 3.0])
def test_a_hundred_calls_reach_four_fifths_of_the_limit(headers: bool, asks: float | None, latency: float) -> None:
    endpoint = Endpoint(latency=latency, asks=asks, headers=headers)
    served, took = crowd(endpoint, 100)
    ideal = 100 * latency / endpoint.at_once
    assert served == 100 and ideal / took >= 0.8
    assert endpoint.peak == 10 and endpoint.refusals <= 5 and endpoint.early == 0


@pytest.mark.parametrize("headers", [False, True])
def test_a_minute_limit_is_kept_without_a_storm(headers: bool) -> None:
    endpoint = Endpoint(latency=0.3, headers=headers)
    served, took = crowd(endpoint, 700)
    ideal = 120 + 100 * 0.3 / 10
    assert served == 700 and ideal / took >= 0.8
    assert endpoint.refusals <= 0.06 * 700 and endpoint.early == 0


def test_identical_bodies_wait_with_the_one_that_was_refused() -> None:
    endpoint = Endpoint(latency=1.0, asks=1.0)
    served, took = crowd(endpoint, 100, same=True)
    assert served == 100 and endpoint.early == 0
    assert 10 / took >= 0.7


def test_an_endpoint_that_always_refuses_is_left_alone_after_six_tries_a_call() -> None:
    endpoint = Endpoint(at_once=0, asks=1.0)
    served, _ = crowd(endpoint, 20)
    assert served == 0 and endpoint.refusals <= 20 * MAX_ATTEMPTS and endpoint.early == 0


def test_a_retry_after_beyond_patience_ends_the_call_at_once() -> None:
    served, took = crowd(Endpoint(at_once=0, asks=3600.0), 1)
    assert served == 0 and took < 1


def test_a_lane_that_says_nothing_is_left_for_long_turns_new_calls_away() -> None:
    async def main() -> None:
        governor = Governor(random.Random(1))
        figures = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}
        async with governor.call(ROAD, "a") as call:
            await call.permit()
            call.answered(figures, 0.0)
        async with governor.call(ROAD, "b") as call:
            with pytest.raises(Throttled):
                await call.permit()

    run_virtually(main())


def test_nothing_is_sent_before_the_reset_when_nothing_is_left() -> None:
    async def main() -> float:
        governor = Governor(random.Random(1))
        async with governor.call(ROAD, "a") as call:
            await call.permit()
            call.answered({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s"}, 0.0)
        async with governor.call(ROAD, "b") as call:
            await call.permit()
            return asyncio.get_running_loop().time()

    assert run_virtually(main())[0] == 20.0


def test_a_cancelled_wait_leaves_no_place_taken() -> None:
    async def main() -> None:
        governor = Governor(random.Random(1))

        async def hold(seconds: float) -> None:
            async with governor.call(ROAD, str(seconds)) as call:
                await call.permit()
                await asyncio.sleep(seconds)
                call.answered({}, 0.0)

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
                call.answered({}, 0.0)

        first = [one(f"first{number}", 1) for number in range(4)]
        await asyncio.gather(*first, one("low", 0), one("a", 1), one("b", 1), one("high", 2))
        return order[4:]

    assert run_virtually(main())[0] == ["high", "a", "b", "low"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5", 1.5),
        ("20ms", 0.02),
        ("6m0s", 360.0),
        ("1h1m1s", 3661.0),
        ("Thu, 01 Jan 1970 00:01:30 GMT", 80.0),
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
                lane.answered(turn)
                lane.leave(turn)
            else:
                lane.refused(turn, now, 1.0, "throttled")
                lane.queue(turn)
        before = int(lane.window)
        go, _ = lane.ready(now)
        flying += go
        assert lane.flying == len(flying) and (not go or lane.flying <= before)
        assert lane.window >= 1
