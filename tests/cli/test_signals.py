"""Signals before, during and after a run, in this process; those of a whole process are in test_process.py."""

from __future__ import annotations

import asyncio
import signal
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
