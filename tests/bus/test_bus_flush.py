"""From a fact to the log: numbers, lines, one commit, and nobody sees anything before it."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest

from vrooli_cli.bus import Channel, EventBus, decode, event_of, replay
from vrooli_cli.bus import channel as channel_module
from vrooli_cli.bus.channel import BLOB_BYTES
from vrooli_cli.bus.lines import encode
from vrooli_cli.errors import InputError, StoreError
from vrooli_cli.journal import SqliteStore
from vrooli_cli.language.masking import Masker
from vrooli_cli.model.clock import SystemClock
from vrooli_cli.model.events import (
    AIDelta,
    AIResponded,
    Event,
    EventMetadata,
    ExecutionEvent,
    HandlerFailed,
    RoutineStarted,
    StepCompleted,
    StepReady,
    StepSkipped,
)
from vrooli_cli.model.store import Busy, LogBatch, RunRecord


class StoreUnderTest(SqliteStore):
    """The real store in memory, which counts commits and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[list[LogBatch]] = []
        self.busy = 0
        self.broken: StoreError | None = None

    def append(self, batches: Sequence[LogBatch]) -> None:
        if self.busy:
            self.busy -= 1
            raise Busy("locked")
        if self.broken is not None:
            raise self.broken
        super().append(batches)
        self.commits.append(list(batches))


@pytest.fixture
def store() -> Iterator[StoreUnderTest]:
    store = StoreUnderTest()
    yield store
    store.close()


@pytest.fixture
async def bus(store: StoreUnderTest) -> AsyncIterator[EventBus]:
    bus = EventBus(store, SystemClock())
    yield bus
    await bus.close()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in left if task.get_name().startswith("subscriber:")]


def run(bus: EventBus, run_id: str = "run1", **changes: Any) -> Channel:
    return bus.open(RunRecord(id=run_id, name="r"), EventMetadata(correlation_id="c", user_id="u"), **changes)


def ready(step: str, run_id: str = "run1") -> StepReady:
    return StepReady(execution_id=run_id, step_id=step)


def started(run_id: str = "run1", **changes: Any) -> RoutineStarted:
    return RoutineStarted(execution_id=run_id, routine="r", step_count=1, **changes)


def lines(store: SqliteStore, channel: Channel) -> list[dict[str, Any]]:
    return [json.loads(line) for line in store.read(channel.key)]


async def test_a_line_is_what_the_event_says_of_itself(bus: EventBus, store: StoreUnderTest) -> None:
    channel = run(bus)
    seen: list[ExecutionEvent] = []
    channel.fold(seen.append)
    channel.publish(started(inputs={"a": None, "b": [1.5, "ü", None]}))
    channel.publish(StepCompleted(execution_id="run1", step_id="s", result={"x": None}, attempts=2))
    channel.publish(StepSkipped(execution_id="run1", step_id="t", reason='"quoted"\n'))
    channel.flush()
    assert lines(store, channel) == [event.wire() for event in seen]
    assert [list(line) for line in lines(store, channel)] == [list(event.wire()) for event in seen]
    assert seen[1].payload["result"] == {"x": None}, "a null inside a value is a value"
    assert seen[0].timestamp == datetime.fromisoformat(seen[0].wire()["timestamp"])


async def test_numbers_run_from_one_without_gaps_over_many_flushes(bus: EventBus, store: StoreUnderTest) -> None:
    channel = run(bus)
    for turn in range(20):
        for step in range(turn % 3 + 1):
            channel.publish(ready(f"{turn}-{step}"))
            channel.publish(AIDelta(execution_id="run1", step_id=f"{turn}-{step}", attempt=1, text="x"))
        await asyncio.sleep(0)
    channel.flush()
    written = lines(store, channel)
    assert [line["seq"] for line in written] == list(range(1, len(written) + 1))
    assert [line["id"] for line in written] == [f"run1-{line['seq']}" for line in written]


async def test_everything_of_one_loop_iteration_is_one_commit_for_all_runs(
    bus: EventBus, store: StoreUnderTest
) -> None:
    channels = [run(bus, f"run{index}") for index in range(3)]

    async def step(name: str) -> None:
        for channel in channels:
            channel.publish(ready(name, channel.run_id))

    async with asyncio.TaskGroup() as tasks:
        for index in range(100):
            tasks.create_task(step(str(index)))
    await asyncio.sleep(0)
    assert len(store.commits) == 1
    assert [batch.count for batch in store.commits[0]] == [100, 100, 100]


async def test_nobody_sees_an_event_before_its_commit_and_callbacks_come_first(
    bus: EventBus, store: StoreUnderTest
) -> None:
    channel = run(bus)
    told: list[str] = []
    channel.fold(lambda event: told.append(f"fold {event.seq} after {len(store.commits)} commits"))
    channel.publish(ready("a"))
    channel.after_commit(lambda: told.append(f"callback after {len(store.commits)} commits"))
    channel.publish(ready("b"))
    assert told == []
    await channel.committed()
    assert told == ["callback after 1 commits", "fold 1 after 1 commits", "fold 2 after 1 commits"]


async def test_a_callback_without_news_runs_in_the_next_flush(bus: EventBus, store: StoreUnderTest) -> None:
    channel = run(bus)
    told: list[int] = []
    channel.after_commit(lambda: told.append(1))
    assert told == []
    await asyncio.sleep(0)
    assert told == [1]
    assert store.commits == [], "nothing was there to write"


async def test_what_a_callback_publishes_comes_after_what_it_was_told_of(bus: EventBus) -> None:
    channel = run(bus)
    seen: list[str] = []
    channel.fold(lambda event: seen.append(event.payload["step_id"]))

    def more() -> None:
        channel.publish(ready("second"))
        channel.flush()

    channel.publish(ready("first"))
    channel.after_commit(more)
    await channel.committed()
    await channel.committed()
    assert seen == ["first", "second"]


async def test_a_turn_at_the_beginning_of_a_flush_is_in_its_commit(bus: EventBus, store: StoreUnderTest) -> None:
    channel = run(bus)
    turns = iter("ab")

    def turn() -> None:
        channel.publish(ready(next(turns)))

    channel.before_flush(turn)
    channel.publish(ready("0"))
    await asyncio.sleep(0)
    channel.wake()
    await asyncio.sleep(0)
    channel.forget(turn)
    channel.wake()
    await asyncio.sleep(0)
    assert [[batch.count for batch in commit] for commit in store.commits] == [[2], [1]]


async def test_a_fold_that_publishes_and_flushes_does_not_overtake_itself(bus: EventBus) -> None:
    channel = run(bus)
    seen: list[int] = []

    def more(event: ExecutionEvent) -> None:
        if event.seq < 4:
            channel.publish(ready("more"))
            channel.flush()

    channel.fold(more)
    channel.fold(lambda event: seen.append(event.seq))
    channel.publish(ready("first"))
    channel.publish(ready("second"))
    for _ in range(5):
        await channel.committed()
    assert seen == [1, 2, 3, 4, 5]


async def test_one_failing_callback_costs_the_others_nothing(bus: EventBus) -> None:
    channel = run(bus)
    loop = asyncio.get_running_loop()
    told: list[Any] = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    channel.after_commit(lambda: 1 / 0)  # type: ignore[arg-type]
    channel.after_commit(lambda: told.append("ran"))
    channel.flush()
    loop.set_exception_handler(None)
    assert [type(one) for one in told] == [ZeroDivisionError, str]


async def test_a_fold_that_raises_is_dropped_and_told(bus: EventBus) -> None:
    channel = run(bus)
    seen: list[ExecutionEvent] = []

    def bad(event: ExecutionEvent) -> None:
        raise KeyError("no")

    channel.fold(bad)
    channel.fold(seen.append)
    channel.publish(ready("a"))
    channel.flush()
    channel.flush()
    assert [event.type for event in seen] == [StepReady.type, HandlerFailed.type]
    assert "KeyError" in seen[1].payload["message"]


async def test_a_busy_store_is_tried_again_while_the_batch_grows(bus: EventBus, store: StoreUnderTest) -> None:
    channel = run(bus)
    seen: list[int] = []
    channel.fold(lambda event: seen.append(event.seq))
    store.busy = 3
    channel.publish(ready("a"))
    await asyncio.sleep(0)
    channel.publish(ready("b"))
    assert seen == []
    await channel.committed()
    assert seen == [1, 2]
    assert [[batch.count for batch in commit] for commit in store.commits] == [[2]]
    assert store.busy == 0


async def test_a_store_that_stays_locked_fails_in_the_end(
    bus: EventBus, store: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "BUSY_SECONDS", 0.05)
    channel = run(bus)
    store.busy = 10_000
    channel.publish(ready("a"))
    with pytest.raises(StoreError, match="locked by another process"):
        await channel.committed()
    store.busy = 0


async def test_a_failed_store_is_told_once_and_people_still_see_the_rest(bus: EventBus, store: StoreUnderTest) -> None:
    channel = run(bus)
    told: list[Any] = []
    channel.on_failure(told.append)
    channel.fold(lambda event: told.append(event.payload["step_id"]))
    store.broken = StoreError("the disk is full")
    channel.publish(ready("a"))
    channel.after_commit(lambda: told.append("callback"))
    channel.flush()
    store.broken = None
    channel.publish(ready("b"))
    channel.flush()
    assert channel.failure is told[0]
    assert told[1:] == ["callback", "a", "b"]
    assert store.commits == [], "a log with a hole would be no log"
    with pytest.raises(StoreError, match="disk is full"):
        await channel.committed()
    late: list[StoreError] = []
    channel.on_failure(late.append)
    assert late == [channel.failure]


async def test_a_resumed_run_goes_on_with_its_numbers_and_its_parent(bus: EventBus, store: StoreUnderTest) -> None:
    first = run(bus)
    first.publish(started())
    first.publish(ready("a"))
    await first.close()
    again = run(bus, key=first.key, next_seq=first.next_seq)
    again.publish(ready("b"))
    again.flush()
    assert [line["seq"] for line in lines(store, again)] == [1, 2, 3]
    assert lines(store, again)[2]["metadata"]["parent_event_id"] == "run1-1"


async def test_events_name_the_start_of_their_execution_as_parent(bus: EventBus, store: StoreUnderTest) -> None:
    channel = run(bus)
    channel.publish(started())
    channel.publish(ready("a"))
    channel.adopt("child", EventMetadata(correlation_id="other", user_id="u", swarm_id="sw"))
    channel.publish(started("child"))
    channel.publish(ready("x", "child"))
    channel.publish(ready("b"))
    channel.publish(ready("y", "stranger"))
    channel.flush()
    written = [line["metadata"] for line in lines(store, channel)]
    assert [line["parent_event_id"] for line in written] == [None, "run1-1", None, "run1-3", "run1-1", None]
    assert [line["correlation_id"] for line in written] == ["c", "c", "other", "other", "c", "c"]
    assert written[3]["swarm_id"] == "sw"


async def test_a_run_that_is_at_work_is_not_opened_twice(bus: EventBus) -> None:
    run(bus)
    with pytest.raises(InputError, match="at work already"):
        run(bus)


async def test_nothing_is_taken_after_the_close(bus: EventBus, store: StoreUnderTest) -> None:
    channel = run(bus)
    channel.publish(ready("a"))
    await channel.close()
    channel.publish(ready("late"))
    await bus.close()
    assert [line["payload"]["step_id"] for line in lines(store, channel)] == ["a"]


def test_without_a_loop_an_explicit_flush_commits(store: StoreUnderTest) -> None:
    bus = EventBus(store, SystemClock())
    channel = run(bus)
    channel.publish(ready("a"))
    channel.publish(AIDelta(execution_id="run1", step_id="a", attempt=1, text="x"))
    channel.flush()
    assert [line["payload"]["step_id"] for line in lines(store, channel)] == ["a"]
    asyncio.run(bus.close())


# --- values that have no JSON form ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": {1, 2}}, {"a": [1, 2]}),
        (float("nan"), None),
        (float("-inf"), None),
        ("bad \ud800 surrogate", "bad ��� surrogate"),
        (b"\xff\xfe", "��"),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (2**200, 2**200),
        (complex(1, 2), "1+2j"),
    ],
)
async def test_a_value_without_a_json_form_never_costs_the_event(
    bus: EventBus, store: StoreUnderTest, value: Any, expected: Any
) -> None:
    channel = run(bus)
    channel.publish(StepCompleted(execution_id="run1", step_id="s", result=value))
    channel.publish(ready("next"))
    channel.flush()
    written = lines(store, channel)
    assert written[0]["payload"]["result"] == expected
    assert written[1]["payload"]["step_id"] == "next"


async def test_a_value_that_is_nested_without_end_is_cut_and_told(bus: EventBus, store: StoreUnderTest) -> None:
    deep: list[Any] = []
    deep.append(deep)
    channel = run(bus)
    channel.publish(StepCompleted(execution_id="run1", step_id="s", result=deep))
    channel.flush()
    (line,) = store.read(channel.key)
    assert b"nested more than" in line
    assert event_of(decode(line)).payload["step_id"] == "s"


# --- large results and secrets ----------------------------------------------------------------------------------------


async def test_a_large_result_is_a_blob_and_the_line_names_it(bus: EventBus, store: StoreUnderTest) -> None:
    channel = run(bus)
    seen: list[ExecutionEvent] = []
    channel.fold(seen.append)
    large = "x" * (BLOB_BYTES + 1)
    channel.publish(StepCompleted(execution_id="run1", step_id="s", result=large))
    channel.publish(StepCompleted(execution_id="run1", step_id="t", result="x" * (BLOB_BYTES - 2)))
    channel.flush()
    first, second = lines(store, channel)
    assert first["payload"]["result"]["bytes"] == len(large) + 2
    assert json.loads(store.get_blob(first["payload"]["result"]["$blob"])) == large
    assert len(second["payload"]["result"]) == BLOB_BYTES - 2
    assert seen[0].payload["result"] == large, "the fold sees the value itself"


async def test_a_secret_is_in_no_line_no_blob_and_no_event_and_a_resume_gets_it_back(
    bus: EventBus, store: StoreUnderTest
) -> None:
    masker = Masker({"token": "hunter2 of old"})
    channel = run(bus, masker=masker)
    seen: list[ExecutionEvent] = []
    heard: list[bytes] = []
    channel.fold(seen.append)
    channel.sink(heard.append)
    results = [{"token": "hunter2 of old", "n": 1}, ["hunter2 of old"] * BLOB_BYTES, {"n": 2}]
    for index, result in enumerate(results):
        channel.publish(StepCompleted(execution_id="run1", step_id=str(index), result=result))
    channel.flush()
    await channel.close()
    written = b"".join(store.read(channel.key))
    blob = json.loads(written.splitlines()[1])["payload"]["result"]["$blob"]
    for text in (written, b"".join(heard), store.get_blob(blob), repr(seen).encode(), repr(bus.history()).encode()):
        assert b"hunter2" not in text
    shown = [{"token": "***", "n": 1}, ["***"] * BLOB_BYTES, {"n": 2}]
    assert [event.payload["result"] for event in seen] == shown
    assert [event.fact.result for event in seen if isinstance(event.fact, StepCompleted)] == shown
    assert [event.payload["result"] for event in replay(store, channel.key, whole=True)] == shown
    again = [event.fact for event in replay(store, channel.key, masker=masker, whole=True)]
    assert [fact.result for fact in again if isinstance(fact, StepCompleted)] == results
    assert [json.loads(line)["payload"] for line in b"".join(heard).splitlines()][::2] == [
        event.payload for event in seen[::2]
    ]


async def test_a_secret_that_looks_like_a_number_leaves_json_behind(bus: EventBus, store: StoreUnderTest) -> None:
    masker = Masker({"pin": "12345"})
    channel = run(bus, masker=masker)
    result = {"pin": "12345", "at": "a12345b", "ok": 7}
    channel.publish(StepCompleted(execution_id="run1", step_id="s", result={**result, "n": 12345}))
    channel.flush()
    (event,) = bus.history()
    assert event.payload["result"] | {"n": 0} == {"pin": "***", "at": "a***b", "ok": 7, "n": 0}
    (again,) = replay(store, channel.key, masker=masker)
    assert again.payload["result"] | {"n": 0} == result | {"n": 0}


# --- streamed text ----------------------------------------------------------------------------------------------------


def delta(text: str, step: str = "s", attempt: int = 1) -> AIDelta:
    return AIDelta(execution_id="run1", step_id=step, attempt=attempt, text=text)


async def test_streamed_text_is_told_twenty_times_a_second_whole_and_never_stored(
    bus: EventBus, store: StoreUnderTest
) -> None:
    channel = run(bus)
    seen: list[ExecutionEvent] = []
    channel.fold(seen.append)
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = ""
    while loop.time() < began + 0.3:
        for step in ("s", "t"):
            channel.publish(delta(f"{len(sent)} ", step))
        sent += f"{len(sent)} "
        await asyncio.sleep(0.001)
    spent = loop.time() - began
    await channel.close()
    for step in ("s", "t"):
        texts = [event.payload["text"] for event in seen if event.payload["step_id"] == step]
        assert "".join(texts) == sent
        assert len(texts) <= spent * 20 + 3
    assert {event.seq for event in seen} == {0}
    assert lines(store, channel) == []


async def test_text_comes_before_the_answer_it_belongs_to(bus: EventBus) -> None:
    channel = run(bus)
    told: list[str] = []
    channel.fold(lambda event: told.append(str(event.payload.get("text", event.type))))
    facts: list[Event] = [delta("a"), delta("b"), delta("c"), delta("other", "t"), delta("more", "t")]
    for fact in facts:
        channel.publish(fact)
    channel.publish(AIResponded(execution_id="run1", step_id="s", attempt=1, model="m", duration_ms=1))
    channel.publish(delta("again", attempt=2))
    await channel.close()
    assert told == ["a", "other", "bc", AIResponded.type, "again", "more"]


def test_the_lines_of_a_commit_take_no_more_room_than_their_bytes() -> None:
    tracemalloc.start()
    try:
        lines = [encode({"step_id": f"s{n}", "attempt": 1}) for n in range(1_000)]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 3 * sum(map(len, lines)) + 100_000
