"""Who listens: patterns, handlers that are slow, wrong or many, sinks, the barrier and the history."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.bus import Channel, EventBus, event_of, listeners, matches, writer
from vrooli_cli.journal import SqliteStore
from vrooli_cli.model.clock import SystemClock
from vrooli_cli.model.events import EventMetadata, ExecutionEvent, HandlerFailed, StepReady, event_types
from vrooli_cli.model.store import RunRecord


@pytest.fixture
async def bus() -> AsyncIterator[EventBus]:
    store = SqliteStore()
    bus = EventBus(store, SystemClock())
    yield bus
    await bus.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    store.close()


@pytest.fixture
def channel(bus: EventBus) -> Channel:
    return bus.open(RunRecord(id="run1", name="r"), EventMetadata(user_id="u"))


def ready(step: object, run_id: str = "run1") -> StepReady:
    return StepReady(execution_id=run_id, step_id=str(step))


def recorder(into: list[Any]) -> Callable[[ExecutionEvent], Coroutine[Any, Any, None]]:
    async def record(event: ExecutionEvent) -> None:
        into.append(event)

    return record


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "type_", "expected"),
    [
        ("**", "tier2/step/ready", True),
        ("**", "custom", True),
        ("tier3/*/failed", "tier3/execution/failed", True),
        ("tier3/*/failed", "tier3/failed", False),
        ("tier3/*/failed", "tier3/a/b/failed", False),
        ("**/failed", "tier3/execution/failed", True),
        ("**/failed", "failed", True),
        ("**/failed", "tier3/execution/handler_failed", False),
        ("tier1/**", "tier1/goal/decomposed", True),
        ("tier1/**", "tier1", True),
        ("tier1/**", "tier10/goal", False),
        ("a/**/b/*", "a/b/c", True),
        ("a/**/b/*", "a/x/y/b/c", True),
        ("a/**/b/*", "a/x/y/b", False),
        ("tier2/step/ready", "tier2/step/ready", True),
        ("tier2.step.ready", "tier2/step/ready", False),
        ("tier2/st*/ready", "tier2/step/ready", True),
        ("*", "tier2/step/ready", False),
        ("tier2/step/(ready)", "tier2/step/ready", False),
    ],
)
def test_a_star_is_one_segment_and_two_are_any_number(pattern: str, type_: str, expected: bool) -> None:
    assert matches(pattern, type_) is expected


def simple(pattern: list[str], segments: list[str]) -> bool:
    """The rule, as slowly and plainly as it can be said."""
    if not pattern:
        return not segments
    if pattern[0] == "**":
        return any(simple(pattern[1:], segments[cut:]) for cut in range(len(segments) + 1))
    return bool(segments) and pattern[0] in ("*", segments[0]) and simple(pattern[1:], segments[1:])


@given(
    st.lists(st.sampled_from(["*", "**", "a", "b"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6),
)
def test_patterns_agree_with_the_rule_said_plainly(pattern: list[str], segments: list[str]) -> None:
    assert matches("/".join(pattern), "/".join(segments)) == simple(pattern, segments)


async def test_every_type_reaches_exactly_the_handlers_of_its_patterns(bus: EventBus, channel: Channel) -> None:
    patterns = ["**", "tier2/**", "**/failed", "*/step/*"]
    heard: dict[str, list[ExecutionEvent]] = {pattern: [] for pattern in patterns}
    for pattern in patterns:
        await bus.subscribe(pattern, recorder(heard[pattern]))
    for type_ in event_types():
        await bus.emit(ExecutionEvent(type=type_, execution_id="run1", payload={}))
    assert await bus.barrier()
    for pattern, type_ in product(patterns, event_types()):
        told = [event.type for event in heard[pattern]].count(type_)
        assert told == int(simple(pattern.split("/"), type_.split("/"))), (pattern, type_)


# --- handlers ---------------------------------------------------------------------------------------------------------


async def test_a_handler_gets_events_in_order_until_it_unsubscribes(bus: EventBus, channel: Channel) -> None:
    heard: list[ExecutionEvent] = []
    handler = recorder(heard)
    await bus.subscribe("**", handler)
    await bus.subscribe("**", handler)
    for index in range(500):
        channel.publish(ready(index))
        if index % 7 == 0:
            await asyncio.sleep(0)
    await bus.barrier()
    await bus.unsubscribe("**", handler)
    await bus.unsubscribe("**", handler)
    channel.publish(ready("late"))
    await bus.barrier()
    assert [event.seq for event in heard] == list(range(1, 501)), "and subscribing twice is subscribing once"


async def test_a_failing_handler_is_told_once_a_failure_and_hurts_nobody(bus: EventBus, channel: Channel) -> None:
    heard: list[ExecutionEvent] = []

    async def broken(event: ExecutionEvent) -> None:
        raise ValueError(f"about {event.type}")

    await bus.subscribe("**", broken)
    await bus.subscribe("**", recorder(heard))
    channel.publish(ready("a"))
    await bus.barrier()
    await bus.barrier()
    assert [event.type for event in heard] == [StepReady.type, HandlerFailed.type], "and never of its own failure"
    assert heard[1].payload["message"] == "ValueError: about tier2/step/ready"
    assert "broken" in heard[1].payload["handler"]


async def test_a_slow_handler_is_stopped_after_its_time(
    bus: EventBus, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "HANDLER_SECONDS", 0.05)
    heard: list[ExecutionEvent] = []

    async def slow(event: ExecutionEvent) -> None:
        await asyncio.sleep(10)

    await bus.subscribe("tier2/**", slow)
    await bus.subscribe("system/**", recorder(heard))
    channel.publish(ready("a"))
    await bus.barrier()
    await bus.barrier()
    assert [event.payload["message"] for event in heard] == ["took longer than 0.05 s and was stopped"]


async def test_a_handler_that_always_fails_does_not_fill_the_log(bus: EventBus, channel: Channel) -> None:
    async def broken(event: ExecutionEvent) -> None:
        raise asyncio.CancelledError

    await bus.subscribe("tier2/**", broken)
    for index in range(300):
        channel.publish(ready(index))
    await bus.barrier()
    told = [event for event in bus.history() if event.type == HandlerFailed.type]
    assert len(told) == 100
    assert "not told" in told[-1].payload["message"]


async def test_a_slow_handler_loses_the_oldest_and_is_told_how_many(
    bus: EventBus, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "QUEUE_EVENTS", 10)
    gate = asyncio.Event()
    heard: list[str] = []

    async def slow(event: ExecutionEvent) -> None:
        await gate.wait()
        heard.append(event.payload.get("step_id", event.type))

    await bus.subscribe("tier2/**", slow)
    for index in range(30):
        channel.publish(ready(index))
        channel.flush()
        await asyncio.sleep(0)
    gate.set()
    await bus.barrier()
    assert heard == ["0", *[str(index) for index in range(20, 30)]]
    (told,) = [event for event in bus.history() if event.type == HandlerFailed.type]
    assert told.payload["dropped"] == 19


async def test_a_handler_that_never_waits_leaves_the_loop_to_others(bus: EventBus, channel: Channel) -> None:
    turns = 0
    await bus.subscribe("**", recorder([]))
    for index in range(5000):
        channel.publish(ready(index))
    channel.flush()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await bus.barrier()
    task.cancel()
    assert turns > 50
    await asyncio.wait([task])


async def test_the_barrier_waits_for_what_was_before_it_and_not_for_ever(bus: EventBus, channel: Channel) -> None:
    heard: list[ExecutionEvent] = []

    async def slow(event: ExecutionEvent) -> None:
        await asyncio.sleep(0.002)
        heard.append(event)

    await bus.subscribe("**", slow)
    for index in range(20):
        channel.publish(ready(index))
    assert not await bus.barrier(timeout=0.01)
    assert len(heard) < 20
    assert await bus.barrier()
    assert len(heard) == 20


async def test_a_handler_may_call_the_barrier_itself(bus: EventBus, channel: Channel) -> None:
    answers: list[bool] = []

    async def curious(event: ExecutionEvent) -> None:
        answers.append(await bus.barrier(timeout=1))

    await bus.subscribe("**", curious)
    channel.publish(ready("a"))
    assert await bus.barrier()
    assert answers == [True]


async def test_a_handler_may_emit_and_unsubscribe_itself(bus: EventBus, channel: Channel) -> None:
    heard: list[str] = []

    async def once(event: ExecutionEvent) -> None:
        heard.append(event.type)
        await bus.unsubscribe("**", once)
        await bus.emit(ExecutionEvent(type="custom/answer", execution_id="run1", payload={"to": event.id}))

    await bus.subscribe("**", once)
    channel.publish(ready("a"))
    await bus.barrier()
    assert heard == [StepReady.type]
    assert [event.type for event in bus.history()] == [StepReady.type, "custom/answer"]


# --- emit and history -------------------------------------------------------------------------------------------------


async def test_anybody_may_emit_events_of_their_own(bus: EventBus) -> None:
    heard: list[ExecutionEvent] = []
    await bus.subscribe("custom/**", recorder(heard))
    at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    metadata = EventMetadata(correlation_id="mine", user_id="me")
    mine = ExecutionEvent(
        type="custom/thing", execution_id="e9", payload={"n": 1}, id='my "id"', timestamp=at, metadata=metadata
    )
    await bus.emit(mine)
    await bus.barrier()
    (event,) = heard
    assert (event.id, event.timestamp, event.metadata, event.payload) == ('my "id"', at, metadata, {"n": 1})
    assert bus.history() == heard


async def test_the_fact_of_an_emitted_event_joins_its_run(bus: EventBus, channel: Channel) -> None:
    fact = ready("a")
    await bus.emit(ExecutionEvent(type=fact.type, execution_id="run1", payload=fact.payload(), fact=fact))
    await bus.emit(ExecutionEvent(type="custom/x", execution_id="run1", payload={}))
    assert [(event.seq, event.type) for event in bus.history()] == [(1, StepReady.type), (2, "custom/x")]
    assert bus.history()[1].metadata.user_id == "u"


async def test_a_known_type_with_a_foreign_payload_is_an_event_without_a_fact(bus: EventBus, channel: Channel) -> None:
    await bus.emit(ExecutionEvent(type=StepReady.type, execution_id="run1", payload={"other": 1}))
    (event,) = bus.history()
    assert event.fact is None and event.payload == {"other": 1}


async def test_the_history_is_the_log_of_the_open_and_the_latest_runs(bus: EventBus, channel: Channel) -> None:
    for index in range(5):
        channel.publish(ready(index))
    await channel.close()
    other = bus.open(RunRecord(id="run2", name="r"), EventMetadata())
    for index in range(3):
        other.publish(ready(index, "run2"))
    assert [event.id for event in bus.history(4)] == ["run1-5", "run2-1", "run2-2", "run2-3"]
    assert [event.id for event in bus.history(2)] == ["run2-2", "run2-3"]
    assert len(bus.history()) == 8
    assert bus.history(0) == []
    assert bus.history()[0].fact == ready(0)


# --- sinks ------------------------------------------------------------------------------------------------------------


async def test_sinks_get_every_line_in_order_volatile_ones_too(bus: EventBus, channel: Channel) -> None:
    from vrooli_cli.model.events import AIDelta

    written: list[bytes] = []
    channel.sink(written.append)
    for index in range(1000):
        channel.publish(ready(index))
        if index % 10 == 0:
            await asyncio.sleep(0)
    channel.publish(AIDelta(execution_id="run1", step_id="s", attempt=1, text="hello"))
    await channel.close()
    events = [event_of(json.loads(line)) for line in b"".join(written).splitlines()]
    assert [event.seq for event in events] == [*range(1, 1001), 0]


async def test_a_sink_that_is_behind_asks_the_run_to_wait(
    bus: EventBus, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SINK_BYTES", 10_000)
    gate = threading.Event()
    written: list[bytes] = []

    def slow(data: bytes) -> None:
        gate.wait(5)
        written.append(data)

    channel.sink(slow)
    sent = 0
    while not channel.full:
        channel.publish(ready(sent))
        channel.flush()
        sent += 1
    waiting = asyncio.create_task(channel.ready())
    await asyncio.sleep(0.02)
    assert not waiting.done()
    gate.set()
    await asyncio.wait_for(waiting, 5)
    await channel.close()
    assert b"".join(written).count(b"\n") == sent


async def test_no_turn_is_taken_while_a_sink_is_behind_but_an_urgent_one(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SINK_BYTES", 10_000)
    gate = threading.Event()
    turns: list[bool] = []

    def slow(data: bytes) -> None:
        gate.wait(5)

    channel.sink(slow)
    channel.before_flush(lambda: turns.append(gate.is_set()))
    for index in range(100):
        channel.publish(ready(index))
    channel.flush()
    assert turns == [False]
    channel.wake()
    await asyncio.sleep(0.02)
    assert turns == [False]
    channel.wake(urgent=True)
    await asyncio.sleep(0)
    assert turns == [False, False]
    channel.wake()
    await asyncio.sleep(0.02)
    gate.set()
    await channel.ready()
    await asyncio.sleep(0.01)
    assert turns[2:] and all(turns[2:]), "woken by the reader's progress"


async def test_a_closed_pipe_stops_its_sink_and_not_the_run(bus: EventBus, channel: Channel) -> None:
    written: list[bytes] = []

    def closed(data: bytes) -> None:
        raise BrokenPipeError("nobody reads")

    channel.sink(closed)
    channel.sink(written.append)
    channel.publish(ready("a"))
    channel.flush()
    for _ in range(200):
        if len(bus.history()) == 2:
            break
        await asyncio.sleep(0.01)
    channel.publish(ready("b"))
    await channel.close()
    assert [event.type for event in bus.history()] == [StepReady.type, HandlerFailed.type, StepReady.type]
    assert b"".join(written).count(b"\n") == 3


async def test_a_run_without_sinks_is_always_ready(channel: Channel) -> None:
    assert not channel.full
    await asyncio.wait_for(channel.ready(), 1)
