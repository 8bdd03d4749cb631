"""Blocking Python: pooled, told to stop, made to stop, abandoned."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from vrooli_cli.tier3.threads import Threads


def blocked(release: threading.Event) -> str:
    """Waits where no exception can reach it."""
    release.wait(20)
    return "late"


async def test_the_answer_and_the_exception_come_back() -> None:
    threads = Threads()
    assert await threads.run(lambda a, b: a + b, 2, 3) == 5
    with pytest.raises(KeyError, match="k"):
        await threads.run({}.__getitem__, "k")


async def test_an_idle_thread_is_used_again() -> None:
    threads = Threads()
    names = {await threads.run(threading.get_ident) for _ in range(20)}
    assert len(names) == 1


async def test_no_more_than_the_limit_at_once_and_in_order() -> None:
    threads, running, most, order = Threads(3), 0, 0, []
    lock = threading.Lock()

    def work(number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            order.append(number)
        time.sleep(0.01)
        with lock:
            running -= 1

    await asyncio.gather(*(threads.run(work, number) for number in range(12)))
    assert most == 3 and sorted(order[:3]) == [0, 1, 2] and len(order) == 12


async def test_a_hundred_sleeps_take_the_time_of_one() -> None:
    threads = Threads(100)
    started = time.monotonic()
    await asyncio.gather(*(threads.run(time.sleep, 0.05) for _ in range(100)))
    assert time.monotonic() - started < 0.6


async def test_a_cancel_tells_the_function_and_waits_for_it() -> None:
    stop, ended = threading.Event(), threading.Event()

    def work() -> None:
        stop.wait(10)
        ended.set()

    task = asyncio.create_task(Threads().run(work, stop=stop.set, grace=5))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_who_does_not_look_is_interrupted_after_the_grace() -> None:
    ended: list[str] = []

    def work() -> None:
        try:
            while True:
                time.sleep(0.001)
        except Exception:
            ended.append("swallowed")
        finally:
            ended.append("finally")

    threads = Threads(1)
    task = asyncio.create_task(threads.run(work, grace=0.05))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["finally"]
    assert await threads.run(lambda: "next") == "next", "the place is free again"


async def test_who_cannot_be_interrupted_is_abandoned() -> None:
    threads, release = Threads(1), threading.Event()
    task = asyncio.create_task(threads.run(blocked, release, grace=0.05))
    await asyncio.sleep(0.02)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 2
    assert await threads.run(lambda: "next") == "next"
    release.set()


async def test_a_second_cancel_skips_the_grace() -> None:
    release = threading.Event()
    task = asyncio.create_task(Threads().run(blocked, release, grace=60))
    await asyncio.sleep(0.02)
    started = time.monotonic()
    task.cancel()
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 3
    release.set()


async def test_a_cancelled_call_in_the_queue_gives_up_its_place() -> None:
    threads, release = Threads(1), threading.Event()
    first = asyncio.create_task(threads.run(blocked, release))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(threads.run(lambda: "second"))
    third = asyncio.create_task(threads.run(lambda: "third"))
    await asyncio.sleep(0)
    second.cancel()
    release.set()
    assert await first == "late" and await third == "third"
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_a_stop_iteration_does_not_break_the_loop() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await Threads().run(next, iter(()))


def test_a_blocked_thread_does_not_hold_the_end_of_the_loop() -> None:
    release = threading.Event()

    async def main() -> None:
        task = asyncio.create_task(Threads().run(blocked, release, grace=0.01))
        await asyncio.sleep(0.02)
        task.cancel()

    started = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started < 3
    release.set()
