"""Signals before, during and after a run, in this process; those of a whole process are in test_process.py."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from vrooli_cli.cli.main import Ears, Interrupted
from vrooli_cli.cli.signals import Signals

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    """The handlers of the tests' own process stay as they are."""
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)


async def test_a_signal_that_python_dropped_at_the_start_stops_the_run() -> None:
    ears = Ears()
    ears.open()
    with suppress(Interrupted):  # as the interpreter does in a callback of its own
        signal.raise_signal(signal.SIGINT)
    stopped: list[str] = []
    with Signals(lambda: stopped.append("stop"), lambda: stopped.append("leave")) as signals:
        await asyncio.sleep(0.01)
    assert stopped == ["stop"]
    assert signals.received == signal.SIGINT


def test_nothing_is_raised_where_the_lock_of_imports_is_held() -> None:
    ears = Ears()
    ears.open()
    before = signal.getsignal(signal.SIGALRM)
    # a signal at any line of the import machinery: the code is compiled under that file's name
    code = compile("import signal\nsignal.raise_signal(2)\nreached = True", "<frozen importlib._bootstrap>", "exec")
    seen: dict[str, object] = {}
    try:
        with pytest.raises(KeyboardInterrupt):
            exec(code, seen)
            time.sleep(1)
        assert seen["reached"] is True
        assert ears.number == signal.SIGINT
    finally:
        ears.settle()
        signal.signal(signal.SIGALRM, before)


async def test_a_run_that_begins_in_that_moment_is_stopped_and_not_interrupted_too() -> None:
    ears = Ears()
    ears.open()
    before = signal.getsignal(signal.SIGALRM)
    exec(compile("import signal; signal.raise_signal(15)", "<frozen importlib._bootstrap>", "exec"), {})
    stopped: list[str] = []
    with Signals(lambda: stopped.append("stop"), lambda: stopped.append("leave")):
        await asyncio.sleep(0.02)
    signal.signal(signal.SIGALRM, before)
    assert stopped == ["stop"]


async def test_a_run_that_heard_nothing_is_not_stopped() -> None:
    Ears().open()
    stopped: list[str] = []
    with Signals(lambda: stopped.append("stop"), lambda: stopped.append("leave")) as signals:
        await asyncio.sleep(0.01)
    assert stopped == []
    assert signals.received == 0


@pytest.mark.parametrize(("number", "told"), [(2, 2), (15, 15), (1, 15)])
def test_before_a_run_every_signal_interrupts(number: int, told: int) -> None:
    ears = Ears()
    ears.open()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert ears.number == told
    ears.close()
    signal.raise_signal(number)  # the exit code is known: it changes nothing


def test_nohup_is_respected() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Ears().open()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
