"""Who is at work, what it has used, and how it is stopped."""

from __future__ import annotations

import pytest

from vrooli_cli.errors import InputError
from vrooli_cli.ledger import Account, ResourceTracker
from vrooli_cli.model.run import ExecutionStatus, ResourceAllocation


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now_ns(self) -> int:
        return round(self.seconds * 1e9)

    def monotonic(self) -> float:
        return self.seconds


async def test_usage_counts_while_it_runs_and_stands_still_after() -> None:
    clock = Clock()
    tracker = ResourceTracker(clock)
    account = Account("e1", 1000)
    account.charge(7, execution_id="e1", step_id="before")
    await tracker.start_tracking("e1", ResourceAllocation(), account=account)
    account.charge(30, execution_id="e1", step_id="s")
    tracker.note("e1", steps=2, memory_mb=50)
    tracker.note("e1", steps=1, memory_mb=20)
    clock.seconds += 1.5
    usage = await tracker.get_usage("e1")
    assert (usage.credits_used, usage.duration_ms, usage.memory_used_mb, usage.steps_executed) == ("30", 1500, 50, 3)
    await tracker.stop_tracking("e1")
    await tracker.stop_tracking("e1")
    account.charge(30, execution_id="e1", step_id="later")
    clock.seconds += 1
    assert await tracker.get_usage("e1") == usage


async def test_the_status_is_what_its_tier_says_and_stays_known() -> None:
    tracker = ResourceTracker()
    await tracker.start_tracking("e1", ResourceAllocation())
    assert await tracker.get_execution_status("e1") is ExecutionStatus.RUNNING
    tracker.set_status("e1", ExecutionStatus.COMPLETED)
    await tracker.stop_tracking("e1")
    assert await tracker.get_execution_status("e1") is ExecutionStatus.COMPLETED


async def test_a_cancel_reaches_what_runs_and_only_that() -> None:
    tracker = ResourceTracker()
    told: list[str] = []
    await tracker.start_tracking("e1", cancel=lambda: told.append("e1"))
    await tracker.start_tracking("e2", cancel=lambda: told.append("e2"))
    await tracker.cancel_execution("e1")
    await tracker.stop_tracking("e2")
    await tracker.cancel_execution("e2")
    assert told == ["e1"]


async def test_an_id_is_at_work_once_and_may_be_used_again_after() -> None:
    tracker = ResourceTracker()
    await tracker.start_tracking("e1")
    with pytest.raises(InputError, match="at work already"):
        await tracker.start_tracking("e1")
    await tracker.stop_tracking("e1")
    await tracker.start_tracking("e1")
    assert await tracker.get_execution_status("e1") is ExecutionStatus.RUNNING


async def test_an_unknown_execution_is_a_key_error() -> None:
    tracker = ResourceTracker()
    for ask in (
        tracker.get_usage,
        tracker.get_execution_status,
        tracker.cancel_execution,
        tracker.stop_tracking,
    ):
        with pytest.raises(KeyError, match="no execution 'nobody'"):
            await ask("nobody")
    with pytest.raises(KeyError):
        tracker.set_status("nobody", ExecutionStatus.FAILED)


async def test_what_has_ended_is_not_remembered_for_ever() -> None:
    tracker = ResourceTracker()
    for index in range(10_001):
        await tracker.start_tracking(str(index))
        await tracker.stop_tracking(str(index))
    with pytest.raises(KeyError):
        await tracker.get_usage("0")
    await tracker.get_usage("1")
