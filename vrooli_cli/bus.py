"""The way of news: from a fact, through one commit, to everybody who listens (spec engine.md, c and d).

``Channel.publish`` only puts a fact into a list. The first publish of a loop iteration schedules one flush, and a flush
takes what all channels hold: number, encode, mask, **commit**, and only then instructions (``after_commit``), folds,
sinks and subscribers. So nobody sees an event, and nothing starts because of one, before the log holds it; and a
hundred steps that end together cost one commit.

Three ways out, in the order of their promise:

========== ================================ ====================================================================
fold       sync, in order, may not raise    the view's state
sink       bytes, in order, nothing lost    ``-o ndjson``, ``--events``; a writer thread behind an 8 MiB buffer
subscriber async, 5 s a call, 10,000 queued handlers of ``EventBus.subscribe``; the oldest are dropped when it is slow
========== ================================ ====================================================================

The only back-pressure of the house is a full sink: while ``Channel.full``, no turn (``before_flush``) is taken; whoever
drives a run without turns awaits ``Channel.ready()``. Everything here runs on the loop's thread but the writer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from json import dumps, loads
from typing import Any, Final

from pydantic_core import from_json, to_json

from vrooli_cli.errors import InputError, StoreError
from vrooli_cli.language.masking import Masker, show
from vrooli_cli.model.clock import Clock, RandomIds
from vrooli_cli.model.events import (
    VERSION,
    AIDelta,
    Event,
    EventHandler,
    EventMetadata,
    ExecutionEvent,
    HandlerFailed,
    RoutineStarted,
    SwarmStarted,
    fact_of,
)
from vrooli_cli.model.store import Busy, LogBatch, RunRecord, Store

BLOB_BYTES: Final = 64 * 1024
"""An encoded ``result``, ``items`` or ``reply`` above this goes to a blob; the line names it."""
SINK_BYTES: Final = 8 * 1024 * 1024
"""What may wait for the writer thread before ``Channel.full``."""
QUEUE_EVENTS: Final = 10_000
"""What may wait for one subscriber before the oldest is dropped."""
HANDLER_SECONDS: Final = 5.0
DELTA_SECONDS: Final = 0.05
BUSY_SECONDS: Final = 30.0
"""A store that is locked for longer is told as failed."""

_BLOB_FIELDS = ("result", "items", "reply")
_TOLD_FAILURES = 100  # of one subscriber: a handler that always fails must not fill the log
_KNOWN_RUNS = 64  # closed runs that `history` still reads


class EventBus:
    """One for all root runs of a process; each run has its :class:`Channel`.

    Args:
        store: Where channels are written.
        clock: One look a flush; all events of a flush have one time.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._channels: dict[str, Channel] = {}
        self._owners: dict[str, Channel] = {}
        self._closed: dict[str, tuple[int, int]] = {}
        self._own: Channel | None = None
        self._dirty: list[Channel] = []
        self._handle: asyncio.Handle | None = None
        self._busy_since: float | None = None
        self._delivering = False
        self._subscribers: dict[tuple[str, EventHandler], _Subscriber] = {}
        self._routes: dict[str, tuple[_Subscriber, ...]] = {}
        self._kinds: dict[type[Event], _Kind] = {}

    # --- the seed's door ----------------------------------------------------------------------------------------------

    async def emit(self, event: ExecutionEvent) -> None:
        """Publish an event of any type; returns at once, handlers are not waited for.

        It joins the channel of the run whose ``execution_id`` it names; an event of no open run is kept under a run
        of its own (kind ``events``), so that :meth:`history` has it too.
        """
        channel = self._owners.get(event.execution_id) or self._own or self._open_own()
        channel._accept(event if event.fact is None else event.fact)

    async def subscribe(self, pattern: str, handler: EventHandler) -> None:
        """Call ``handler`` with every event from now on whose type matches.

        Args:
            pattern: Segments with ``/``; ``*`` is one segment, ``**`` zero or more: ``tier3/*/failed``, ``**``.
            handler: Async, one event at a time in the order of ``seq``. It has 5 s a call; what it raises becomes a
                ``system/handler_failed`` event and disturbs nobody else.
        """
        if (pattern, handler) not in self._subscribers:
            self._subscribers[pattern, handler] = _Subscriber(pattern, handler)
            self._routes.clear()

    async def unsubscribe(self, pattern: str, handler: EventHandler) -> None:
        """Forget the pair; what is queued for it is dropped. A pair that is not subscribed is no error."""
        subscriber = self._subscribers.pop((pattern, handler), None)
        if subscriber is not None:
            self._routes.clear()
            await subscriber.stop()

    async def barrier(self, timeout: float = 2.0) -> bool:
        """Wait until everything emitted before this call is committed and every handler has handled it.

        A handler may call it; it does not wait for itself. False when ``timeout`` (seconds) was too short.
        """
        try:
            async with asyncio.timeout(timeout):
                self.flush()
                for channel in list(self._channels.values()):
                    with suppress(StoreError):
                        await channel.committed()
                behind = [subscriber.caught_up() for subscriber in self._subscribers.values()]
                await asyncio.gather(*[done for done in behind if done is not None])
        except TimeoutError:
            return False
        return True

    def history(self, n: int | None = None) -> list[ExecutionEvent]:
        """The last ``n`` stored events (all without ``n``) of the open and the lately closed runs, from the log.

        Runs stand in the order in which they were opened. Volatile events are not there; a large result stands as
        ``{"$blob": sha256, "bytes": n}``.
        """
        self.flush()
        runs = [*self._closed.values(), *((channel.key, channel.next_seq) for channel in self._channels.values())]
        found: deque[ExecutionEvent] = deque()
        for key, end in reversed(runs):
            wanted = None if n is None else n - len(found)
            if wanted is not None and wanted <= 0:
                break
            first = 1 if wanted is None else max(1, end - wanted)
            found.extendleft(reversed(list(replay(self._store, key, first))))
        return list(found)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def open(
        self,
        record: RunRecord,
        metadata: EventMetadata,
        *,
        masker: Masker | None = None,
        key: int | None = None,
        next_seq: int = 1,
    ) -> Channel:
        """The stream of one root run.

        Args:
            record: Its row in the history; written durably when the run is new.
            metadata: Of the root's events; a ``parent_event_id`` in it holds until the root has started.
            masker: Takes secrets out of every byte; None when the run has none.
            key: The run's key in the store when it goes on.
            next_seq: The number of the next event of a run that goes on.

        Raises:
            StoreError: The row could not be written.
            InputError: The run is open here already.
        """
        if record.id in self._channels:
            raise InputError(f"the run {record.id!r} is at work already; give the new one another id")
        if key is None:
            key = self._store.open_run(record)
        elif next_seq > 1 and metadata.parent_event_id is None:
            metadata = replace(metadata, parent_event_id=f"{record.id}-1")  # a log begins with its root's start
        channel = Channel(self, self._store, record.id, key, metadata, masker, next_seq)
        self._channels[record.id] = self._owners[record.id] = channel
        self._closed.pop(record.id, None)
        return channel

    def _open_own(self) -> Channel:
        now = self._clock.now_ns()
        record = RunRecord(id=RandomIds().new(), name="events", kind="events", status="completed", started_ns=now)
        self._own = self.open(record, EventMetadata())
        return self._own

    def _forget(self, channel: Channel) -> None:
        self._channels.pop(channel.run_id, None)
        self._owners = {name: owner for name, owner in self._owners.items() if owner is not channel}
        if self._own is channel:
            self._own = None
        self._closed[channel.run_id] = (channel.key, channel.next_seq)
        if len(self._closed) > _KNOWN_RUNS:
            del self._closed[next(iter(self._closed))]

    async def close(self) -> None:
        """Commit and deliver what is left, close every channel and end every handler; no task remains."""
        for channel in list(self._channels.values()):
            await channel.close()
        for subscriber in list(self._subscribers.values()):
            await subscriber.stop()
        self._subscribers.clear()
        self._routes.clear()

    # --- the flush ----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Commit and deliver everything published so far, now; a flush in a callback of a flush waits its turn."""
        if self._delivering or not self._dirty:
            return
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for channel in tuple(self._dirty):
            channel._take_turns()
        dirty, self._dirty = self._dirty, []
        now = self._clock.now_ns()
        batches = [batch for channel in dirty if (batch := channel._sealed(now)) is not None]
        try:
            if batches:
                self._store.append(batches)
                self._busy_since = None
        except Busy:
            if not self._waited_too_long():
                self._dirty = dirty
                self._later()
                return
            error = StoreError("the store stayed locked by another process; see who holds it, or pass another --store")
            self._fail(dirty, error)
        except StoreError as error:
            self._fail(dirty, error)
        self._deliver(dirty)

    def _fail(self, dirty: list[Channel], error: StoreError) -> None:
        self._busy_since = None
        for channel in dirty:
            channel._fail(error)

    def _deliver(self, dirty: list[Channel]) -> None:
        self._delivering = True
        try:
            for channel in dirty:
                channel._queued = False
            for channel in dirty:
                channel._tell_failure()
                channel._run_callbacks()
                channel._deliver()
        finally:
            self._delivering = False

    def _queue(self, channel: Channel) -> None:
        channel._queued = True
        self._dirty.append(channel)
        if self._handle is None:
            try:
                self._handle = asyncio.get_running_loop().call_soon(self._flush_soon)
            except RuntimeError:  # no loop runs here: the next explicit flush takes it
                return

    def _waited_too_long(self) -> bool:
        now = time.monotonic()
        if self._busy_since is None:
            self._busy_since = now
        return now - self._busy_since > BUSY_SECONDS

    def _flush_soon(self) -> None:
        self._handle = None
        self.flush()

    def _later(self) -> None:
        jitter = 0.001 + (time.monotonic_ns() >> 10) % 20 / 1000  # the low bits differ between processes
        with suppress(RuntimeError):
            self._handle = asyncio.get_running_loop().call_later(jitter, self._flush_soon)

    def _new_kind(self, kind: type[Event]) -> _Kind:
        found = self._kinds[kind] = _Kind(kind)
        return found

    def _route(self, type_: str) -> tuple[_Subscriber, ...]:
        found = self._routes.get(type_)
        if found is None:
            found = tuple(one for one in self._subscribers.values() if one.matches(type_))
            if len(self._routes) > 4096:  # types that callers make up are not bounded
                self._routes.clear()
            self._routes[type_] = found
        return found


class _Stream:
    """What is the same on every line of one execution, encoded once."""

    __slots__ = ("_masked", "metadata", "part", "tail")

    def __init__(self, execution_id: str, metadata: EventMetadata, masked: Callable[[bytes], bytes]) -> None:
        self.part = f'","execution_id":{_json(execution_id).decode()},"tier":'
        self._masked = masked
        self.belongs(metadata)

    def belongs(self, metadata: EventMetadata) -> None:
        """From now on this metadata."""
        self.metadata = metadata
        self.tail = b',"metadata":' + self._masked(_json(metadata.wire())) + b"}\n"


class _Kind:
    """What is the same on every line of one class of facts: its text, and a quick way to its payload."""

    __slots__ = ("after", "before", "payload", "starts", "volatile")

    def __init__(self, kind: type[Event]) -> None:
        self.before = f'","type":"{kind.type}","timestamp":"'
        self.after = (f'"{kind.tier}"' if kind.tier else "null") + ',"payload":'
        self.payload = _payload_of(kind)
        self.starts = kind is RoutineStarted or kind is SwarmStarted
        self.volatile = kind.volatile


def _payload_of(kind: type[Event]) -> Callable[[Event], dict[str, Any]]:
    """``Event.payload`` unrolled for one class, as dataclasses make their methods: a seventh of the time."""
    lines = ["def payload(fact):", " found = {}"]
    for field in dataclasses.fields(kind):
        if field.name != "execution_id":
            wire = field.metadata.get("wire", field.name)
            lines += [f" value = fact.{field.name}", f" if value is not None: found[{wire!r}] = value"]
    names: dict[str, Any] = {}
    exec("\n".join([*lines, " return found"]), names)  # noqa: S102 - the text is made of our own field names
    made: Callable[[Event], dict[str, Any]] = names["payload"]
    return made


_Shown = tuple[bytes, dict[str, bytes]]
"""What people may see of a payload in which something was masked: its bytes, and those of its blobs."""
_Told = tuple[Event | ExecutionEvent, int, int, bytes, Mapping[str, Any], EventMetadata, _Shown | None]
"""An event between encoding and delivery: fact, seq, time, line, payload, metadata, what may be shown."""


class Channel:
    """The stream of one root run. Made by :meth:`EventBus.open`.

    Attributes:
        run_id: The root run's id.
        key: Its key in the store.
        next_seq: The number that the next event gets.
        failure: Why the store takes no more; None while all is well. Events are still delivered then, so that people
            see the failure, and ``after_commit`` still runs, so that a run can end: who *starts* something in it looks
            here first.
    """

    def __init__(
        self,
        bus: EventBus,
        store: Store,
        run_id: str,
        key: int,
        metadata: EventMetadata,
        masker: Masker | None,
        next_seq: int,
    ) -> None:
        self.run_id = run_id
        self.key = key
        self.next_seq = next_seq
        self.failure: StoreError | None = None
        self._bus = bus
        self._store = store
        self._name = _json(run_id).decode()[1:-1]
        self._masker = masker or None
        self._metadata = metadata
        self._streams: dict[str, _Stream] = {run_id: _Stream(run_id, metadata, self._masked)}
        self._pending: list[Event | ExecutionEvent] = []
        self._lines: list[bytes] = []
        self._told: list[_Told] = []
        self._after: list[Callable[[], None]] = []
        self._folds: list[Callable[[ExecutionEvent], None]] = []
        self._on_failure: list[Callable[[StoreError], None]] = []
        self._turns: list[Callable[[], None]] = []
        self._failure_told = False
        self._writer: _Writer | None = None
        self._deltas: _Deltas | None = None
        self._queued = False
        self._closed = False
        self._urgent = False

    # --- in -----------------------------------------------------------------------------------------------------------

    def publish(self, fact: Event) -> None:
        """Say that something happened (this is an ``Emit``). Never waits, never raises; nothing after the close."""
        if fact.volatile and type(fact) is AIDelta:
            self._delta(fact)
            return
        if self._deltas is not None:
            self._deltas.overtake(fact)
        if not self._closed:
            self._pending.append(fact)
            if not self._queued:
                self._bus._queue(self)

    def _accept(self, fact: Event | ExecutionEvent) -> None:
        if self._closed:
            return
        self._pending.append(fact)
        if not self._queued:
            self._bus._queue(self)

    def _delta(self, fact: AIDelta) -> None:
        if self._deltas is None:
            try:
                self._deltas = _Deltas(asyncio.get_running_loop(), self._accept)
            except RuntimeError:
                self._accept(fact)
                return
        self._deltas.add(fact)

    def adopt(self, execution_id: str, metadata: EventMetadata) -> None:
        """A child execution's metadata; without this it has the root's (and its own ``parent_event_id``)."""
        self._streams[execution_id] = _Stream(execution_id, metadata, self._masked)
        self._bus._owners[execution_id] = self

    # --- out ----------------------------------------------------------------------------------------------------------

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run once, right after the commit that holds all that was published before; in the next flush when none waits.

        Callbacks run before anybody sees the events. See :attr:`failure` for what holds once the store has failed.
        """
        self._after.append(callback)
        if not self._queued:
            self._bus._queue(self)

    def before_flush(self, turn: Callable[[], None]) -> None:
        """Call ``turn`` at the beginning of every flush of this channel: what it publishes is in the same commit."""
        self._turns.append(turn)

    def forget(self, turn: Callable[[], None]) -> None:
        """No longer call ``turn``."""
        self._turns.remove(turn)

    def wake(self, *, urgent: bool = False) -> None:
        """See to it that this loop iteration ends in a flush, and so in a turn.

        Args:
            urgent: Take the turn although sinks are behind: a cancel must not wait for whoever reads our stdout.
        """
        self._urgent = self._urgent or urgent
        if not self._queued and not self._closed:
            self._bus._queue(self)

    def _take_turns(self) -> None:
        """Back-pressure: while a sink is 8 MiB behind, nothing new is decided; its reader's progress wakes us."""
        if self._writer is not None and self._writer.full and not self._urgent:
            behind = self._writer.below(SINK_BYTES // 2)
            if behind is not None:
                behind.add_done_callback(lambda _: self.wake())
                return
        self._urgent = False
        for turn in self._turns:
            turn()

    def fold(self, callback: Callable[[ExecutionEvent], None]) -> None:
        """Give every event from now on to a pure fold, in order, after its commit. One that raises is dropped."""
        self._folds.append(callback)

    def sink(self, write: Callable[[bytes], None]) -> None:
        """Give every line from now on (whole NDJSON lines, volatile ones too) to ``write``, in a thread of ours.

        A sink that raises (a closed pipe) gets no more and is told as ``system/handler_failed``; the run goes on.
        """
        if self._writer is None:
            self._writer = _Writer(self._sink_failed)
        self._writer.sinks.append(write)

    def on_failure(self, callback: Callable[[StoreError], None]) -> None:
        """Called once when the store has failed for good, before the callbacks of that flush; at once if it has."""
        if self._failure_told and self.failure is not None:
            callback(self.failure)
        else:
            self._on_failure.append(callback)

    @property
    def full(self) -> bool:
        """Sinks are 8 MiB behind; await :meth:`ready` before the next turn."""
        return self._writer is not None and self._writer.full

    async def ready(self) -> None:
        """Return once the sinks have caught up; at once when there is none or it is not behind."""
        if self._writer is not None and (behind := self._writer.below(SINK_BYTES // 2)) is not None:
            await behind

    def flush(self) -> None:
        """Commit and deliver everything published so far, on all channels of the bus."""
        self._bus.flush()

    async def committed(self) -> None:
        """Return once everything published so far is in the log (needed only before a paid request).

        Raises:
            StoreError: The store has failed; what was published may be lost.
        """
        if self._queued:
            done = asyncio.get_running_loop().create_future()
            self.after_commit(lambda: None if done.done() else done.set_result(None))
            await done
        if self.failure is not None:
            raise StoreError(self.failure.message)

    async def synced(self) -> None:
        """Return once everything published so far would survive a power loss (only before a ``once`` effect).

        Raises:
            StoreError: The store has failed; what was published may be lost.
        """
        await self.committed()
        await self._store.synced()

    async def close(self) -> None:
        """Commit and deliver what is left, and wait until the sinks have written it all."""
        if self._deltas is not None:
            self._deltas.close()
        self._bus.flush()
        while self._queued:
            with suppress(StoreError):
                await self.committed()
        self._closed = True
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        if self._bus._channels.get(self.run_id) is self:
            self._bus._forget(self)

    # --- encoding -----------------------------------------------------------------------------------------------------

    def _sealed(self, now: int) -> LogBatch | None:
        """Number and encode what is pending; the batch of all lines that are not in the store yet."""
        if self._pending:
            pending, self._pending = self._pending, []
            stamp = _stamp(now)
            for fact in pending:
                self._encode(fact, now, stamp)
        if not self._lines or self.failure is not None:
            self._lines.clear()
            return None
        count = len(self._lines)
        return LogBatch(self.key, self.next_seq - count, count, b"".join(self._lines))

    def _encode(self, fact: Event | ExecutionEvent, now: int, stamp: str) -> None:
        stream = self._streams.get(fact.execution_id) or self._new_stream(fact.execution_id)
        if isinstance(fact, ExecutionEvent):
            self._encode_foreign(fact, stream, now)
            return
        kind = self._bus._kinds.get(type(fact)) or self._bus._new_kind(type(fact))
        payload = kind.payload(fact)
        body = _json(payload)
        seq = 0 if kind.volatile else self.next_seq
        head = (
            f'{{"v":{VERSION},"seq":{seq},"id":"{self._name}-{seq}{kind.before}{stamp}{stream.part}{kind.after}'
        ).encode()
        shown = None
        if self._masker is None and len(body) <= BLOB_BYTES:
            line = kept = head + body + stream.tail
        else:
            line, kept, shown = self._careful(head, payload, body, stream.tail)
        self._told.append((fact, seq, now, line, payload, stream.metadata, shown))
        if seq:
            self.next_seq = seq + 1
            self._lines.append(kept)
            if kind.starts:
                stream.belongs(replace(stream.metadata, parent_event_id=f"{self.run_id}-{seq}"))

    def _encode_foreign(self, event: ExecutionEvent, stream: _Stream, now: int) -> None:
        seq = self.next_seq
        metadata = stream.metadata if event.metadata == EventMetadata() else event.metadata
        event = replace(event, seq=seq, id=event.id or f"{self.run_id}-{seq}", metadata=metadata)
        wire = event.wire() | {"payload": None, "metadata": None}
        head = _json(wire)[: -len('null,"metadata":null}')]
        tail = b',"metadata":' + self._masked(_json(metadata.wire())) + b"}\n"
        line, kept, shown = self._careful(head, event.payload, _json(event.payload), tail)
        self._told.append((event, seq, now, line, event.payload, metadata, shown))
        self._lines.append(kept)
        self.next_seq += 1

    def _new_stream(self, execution_id: str) -> _Stream:
        root = self._metadata
        stream = self._streams[execution_id] = _Stream(execution_id, replace(root, parent_event_id=None), self._masked)
        self._bus._owners.setdefault(execution_id, self)
        return stream

    def _careful(
        self, head: bytes, payload: Mapping[str, Any], body: bytes, tail: bytes
    ) -> tuple[bytes, bytes, _Shown | None]:
        """The line for people, the line for the log, and what may be shown of the payload if that is not all.

        Large fields go into blobs. The log has a secret as a sentinel, so that a resume can put it back; people see
        ``***``.
        """
        blobs: dict[str, bytes] = {}
        if len(body) > BLOB_BYTES and self.failure is None:
            try:
                body = self._slim(payload, blobs)
            except StoreError as error:
                self._fail(error)
        sealed = body if self._masker is None else self._masker.seal(body)
        seen = show(sealed) if sealed is not body else body
        shown = (seen, blobs) if seen != body or blobs else None
        return head + seen + tail, head + sealed + tail, shown

    def _slim(self, payload: Mapping[str, Any], blobs: dict[str, bytes]) -> bytes:
        """Put the large fields into blobs; ``blobs`` gets what people may see of those in which a secret stood."""
        slim = dict(payload)
        for name in _BLOB_FIELDS:
            if name in slim and len(data := _json(slim[name])) > BLOB_BYTES:
                sealed = data if self._masker is None else self._masker.seal(data)
                if sealed != data and (seen := show(sealed)) != data:
                    blobs[name] = seen
                slim[name] = {"$blob": self._store.put_blob(sealed), "bytes": len(sealed)}
        return _json(slim)

    def _masked(self, data: bytes) -> bytes:
        return data if self._masker is None else self._masker.mask(data)

    # --- delivery -----------------------------------------------------------------------------------------------------

    def _fail(self, error: StoreError) -> None:
        if self.failure is None:
            self.failure = error
        self._lines.clear()

    def _tell_failure(self) -> None:
        if self.failure is not None and not self._failure_told:
            self._failure_told = True
            for callback in self._on_failure:
                self._guarded(callback, self.failure)

    def _run_callbacks(self) -> None:
        self._lines.clear()
        after, self._after = self._after, []
        for callback in after:
            self._guarded(callback)

    def _guarded(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            callback(*args)
        except Exception as error:  # a bug of the caller must not cost the others their events
            context = {"message": f"a callback of the run {self.run_id} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _deliver(self) -> None:
        told, self._told = self._told, []
        if not told:
            return
        if self._folds or self._bus._subscribers:
            for one in told:
                routes = self._bus._route(one[0].type)
                if routes or self._folds:
                    event = _event(one, self.run_id)
                    if self._folds:
                        self._fold(event)
                    for subscriber in routes:
                        subscriber.put(self, event)
        if self._writer is not None:
            self._writer.put(b"".join([one[3] for one in told]))

    def _fold(self, event: ExecutionEvent) -> None:
        for fold in tuple(self._folds):
            try:
                fold(event)
            except Exception as error:
                self._folds.remove(fold)
                self._accept(_failed_event(self.run_id, _name(fold), f"{type(error).__name__}: {error}"))

    def _sink_failed(self, write: Callable[[bytes], None], error: Exception) -> None:
        self._accept(_failed_event(self.run_id, _name(write), f"{type(error).__name__}: {error}"))


def _event(told: _Told, run_id: str) -> ExecutionEvent:
    """The event that folds and subscribers see."""
    fact, seq, at, _, payload, metadata, shown = told
    if shown is not None:
        payload = decode(shown[0]) | {name: decode(data) for name, data in shown[1].items()}
    if isinstance(fact, ExecutionEvent):
        return fact if shown is None else replace(fact, payload=payload)
    kind, execution_id = type(fact), fact.execution_id
    return ExecutionEvent(
        type=kind.type,
        execution_id=execution_id,
        payload=payload,
        tier=kind.tier,
        id=f"{run_id}-{seq}",
        seq=seq,
        timestamp=_moment(at),
        metadata=metadata,
        fact=fact if shown is None else _fact(kind.type, execution_id, payload),
    )


def replay(
    store: Store, key: int, first: int = 0, *, masker: Masker | None = None, whole: bool = False
) -> Iterator[ExecutionEvent]:
    """The stored events of a run, from number ``first`` on.

    Args:
        store: Where the run is.
        key: The run's key there.
        first: The first number wanted.
        masker: Puts the secrets back that it knows, for a resume; without one every secret is ``***``, for people.
        whole: Read large results from their blobs; without it they stand as ``{"$blob": sha256, "bytes": n}``.

    Raises:
        StoreError: The log or a large result cannot be read.
    """
    opened = masker.unseal if masker else show
    for line in store.read(key, first):
        event = event_of(decode(opened(line)))
        if whole and (large := [name for name in _BLOB_FIELDS if _is_blob(event.payload.get(name))]):
            values = {name: decode(opened(store.get_blob(event.payload[name]["$blob"]))) for name in large}
            payload = {**event.payload, **values}
            event = replace(event, payload=payload, fact=_fact(event.type, event.execution_id, payload))
        yield event


def _is_blob(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"$blob", "bytes"}


def event_of(wire: Mapping[str, Any]) -> ExecutionEvent:
    """The event in a decoded line of the log; of a type that this version does not know it has no ``fact``."""
    return ExecutionEvent(
        type=wire["type"],
        execution_id=wire["execution_id"],
        payload=wire["payload"],
        tier=wire["tier"],
        id=wire["id"],
        seq=wire["seq"],
        timestamp=datetime.fromisoformat(wire["timestamp"]),
        metadata=EventMetadata(**wire["metadata"]),
        fact=_fact(wire["type"], wire["execution_id"], wire["payload"]),
    )


def _fact(type_: str, execution_id: str, payload: Mapping[str, Any]) -> Event | None:
    try:
        return fact_of({"type": type_, "execution_id": execution_id, "payload": payload})
    except TypeError:  # a caller used one of our types with a payload of its own
        return None


def decode(line: bytes) -> Any:
    """The data in a line or a blob."""
    try:
        return from_json(line, cache_strings="keys")
    except ValueError:
        return loads(line)  # nested more than 200 deep


# --- text ------------------------------------------------------------------------------------------------------------


@lru_cache(4)
def _second(seconds: int) -> tuple[datetime, str]:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment, moment.strftime("%Y-%m-%dT%H:%M:%S.")


def _stamp(ns: int) -> str:
    """A time as the wire has it; only its microseconds are made anew within a second."""
    return f"{_second(ns // 1_000_000_000)[1]}{ns // 1000 % 1_000_000:06d}Z"


@lru_cache(4)
def _moment(ns: int) -> datetime:
    return _second(ns // 1_000_000_000)[0].replace(microsecond=ns // 1000 % 1_000_000)


def _json(value: Any) -> bytes:
    """JSON of anything: what has no JSON form becomes text, for a fact may never be lost over its spelling."""
    try:
        return to_json(value, fallback=_plain, inf_nan_mode="null")
    except (ValueError, UnicodeError, TypeError, RecursionError):
        return dumps(_cleaned(value, 0), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _cleaned(value: Any, depth: int) -> Any:
    """Without lone surrogates, bytes that are not UTF-8, endless numbers, and nesting beyond what JSON readers take."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return value if value - value == 0 else None
    if depth > 400:
        return f"[nested more than 400 deep: {type(value).__name__}]"
    if isinstance(value, Mapping):
        return {str(_cleaned(str(key), depth)): _cleaned(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_cleaned(item, depth + 1) for item in value]
    return _cleaned(str(value), depth)


@lru_cache(512)
def _pattern(pattern: str) -> re.Pattern[str]:
    """``*`` is one segment, ``**`` zero or more; every other character stands for itself."""
    rule = ""
    for segment in pattern.split("/"):
        if segment == "**":
            rule += "(?:/[^/]+)*"
        else:
            rule += "/" + "[^/]*".join(map(re.escape, segment.split("*")))
    return re.compile(rule)


def matches(pattern: str, type_: str) -> bool:
    """Whether a subscription to ``pattern`` gets events of this type."""
    return _pattern(pattern).fullmatch("/" + type_) is not None


def _name(callback: object) -> str:
    name = getattr(callback, "__qualname__", None) or type(callback).__qualname__
    return f"{getattr(callback, '__module__', '')}.{name}"


def _failed_event(execution_id: str, handler: str, message: str, dropped: int | None = None) -> HandlerFailed:
    return HandlerFailed(execution_id=execution_id, handler=handler, message=message, dropped=dropped)


# --- subscribers -----------------------------------------------------------------------------------------------------


class _Subscriber:
    """One handler with its queue. A task exists only while there is something to handle."""

    def __init__(self, pattern: str, handler: EventHandler) -> None:
        self.pattern = pattern
        self.name = _name(handler)
        self._handler = handler
        self._queue: deque[tuple[Channel, ExecutionEvent]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._put = self._done = 0
        self._dropped = 0
        self._failures = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def matches(self, type_: str) -> bool:
        return matches(self.pattern, type_)

    def put(self, channel: Channel, event: ExecutionEvent) -> None:
        if len(self._queue) >= QUEUE_EVENTS:
            self._queue.popleft()
            self._dropped += 1
            self._done += 1
        self._queue.append((channel, event))
        self._put += 1
        if self._task is None:
            with suppress(RuntimeError):  # no loop runs: the next event starts it
                loop = asyncio.get_running_loop()
                self._task = loop.create_task(self._work(), name=f"subscriber:{self.name}")

    def caught_up(self) -> asyncio.Future[None] | None:
        """Done once everything that is queued now is handled; None when it is, or when the handler itself asks."""
        if self._done >= self._put or self._task is None or self._task is asyncio.current_task():
            return None
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._put, done))
        return done

    async def stop(self) -> None:
        """Drop what is queued and end the task."""
        self._queue.clear()
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task], timeout=HANDLER_SECONDS)

    async def _work(self) -> None:
        try:
            while self._queue:
                channel, event = self._queue.popleft()
                if self._dropped:
                    self._tell_dropped(channel, event)
                await self._call(channel, event)
                self._done += 1
                self._wake()
                if self._done % 64 == 0:  # a handler that never waits must not keep the loop
                    await asyncio.sleep(0)
        finally:
            self._task = None
            self._done = self._put - len(self._queue)
            self._wake()

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._done:
            done = self._waiting.pop(0)[1]
            if not done.done():
                done.set_result(None)

    async def _call(self, channel: Channel, event: ExecutionEvent) -> None:
        try:
            async with asyncio.timeout(HANDLER_SECONDS) as limit:
                await self._handler(event)
        except TimeoutError as error:
            late = f"took longer than {HANDLER_SECONDS:g} s and was stopped"
            self._tell_failed(channel, event, late if limit.expired() else f"TimeoutError: {error}")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._tell_failed(channel, event, "cancelled itself")
        except Exception as error:
            self._tell_failed(channel, event, f"{type(error).__name__}: {error}")

    def _tell_failed(self, channel: Channel, event: ExecutionEvent, message: str) -> None:
        self._failures += 1
        if event.type == HandlerFailed.type or self._failures > _TOLD_FAILURES:  # it would answer itself for ever
            return
        if self._failures == _TOLD_FAILURES:
            message += " (its later failures are not told)"
        channel._accept(_failed_event(event.execution_id, self.name, message))

    def _tell_dropped(self, channel: Channel, event: ExecutionEvent) -> None:
        dropped, self._dropped = self._dropped, 0
        message = f"too slow: {dropped} events were dropped, the oldest first"
        channel._accept(_failed_event(event.execution_id, self.name, message, dropped))


# --- streams of text -------------------------------------------------------------------------------------------------


class _Held:
    """The text of one step that waits for its time."""

    __slots__ = ("attempt", "due", "parts")

    def __init__(self, attempt: int, due: float) -> None:
        self.attempt = attempt
        self.due = due
        self.parts: list[str] = []


class _Deltas:
    """Puts pieces of streamed text together: at most 20 events a second for one step, in order with its others."""

    def __init__(self, loop: asyncio.AbstractEventLoop, accept: Callable[[Event], None]) -> None:
        self._loop = loop
        self._accept = accept
        self._held: dict[tuple[str, str], _Held] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, fact: AIDelta) -> None:
        key = fact.execution_id, fact.step_id
        now = self._loop.time()
        held = self._held.get(key)
        if held is not None and held.attempt != fact.attempt:
            self._release(key, held)
            held = None
        if held is None or (held.due <= now and not held.parts):
            self._held[key] = _Held(fact.attempt, now + DELTA_SECONDS)
            self._accept(fact)
            return
        held.parts.append(fact.text)
        if self._timer is None:
            self._timer = self._loop.call_at(held.due, self._tick)

    def overtake(self, fact: Event) -> None:
        """Another event of a step: the text before it goes first."""
        if self._held:
            key = fact.execution_id, getattr(fact, "step_id", "")
            held = self._held.get(key)
            if held is not None:
                self._release(key, held)

    def _release(self, key: tuple[str, str], held: _Held) -> None:
        if held.parts:
            text = "".join(held.parts)
            held.parts = []
            self._accept(AIDelta(execution_id=key[0], step_id=key[1], attempt=held.attempt, text=text))

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        for key, held in list(self._held.items()):
            if held.due > now:
                continue
            if held.parts:
                self._release(key, held)
                held.due = now + DELTA_SECONDS
            else:
                del self._held[key]
        if self._held:
            self._timer = self._loop.call_at(min(held.due for held in self._held.values()), self._tick)

    def close(self) -> None:
        """Give out what is held."""
        for key, held in self._held.items():
            self._release(key, held)
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


# --- sinks -----------------------------------------------------------------------------------------------------------


class _Writer:
    """The thread that writes a run's lines, so that a slow pipe never holds the loop.

    Attributes:
        full: More than 8 MiB wait.
    """

    def __init__(self, failed: Callable[[Callable[[bytes], None], Exception], None]) -> None:
        self.sinks: list[Callable[[bytes], None]] = []
        self._failed = failed
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def full(self) -> bool:
        return self._size >= SINK_BYTES

    def put(self, data: bytes) -> None:
        if self._thread is None:
            with suppress(RuntimeError):
                self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="vrooli-sink", daemon=True)
            self._thread.start()
        with self._changed:
            self._queue.append(data)
            self._size += len(data)
            self._changed.notify()

    def below(self, size: int) -> asyncio.Future[None] | None:
        """Done once no more than ``size`` bytes wait; None when that is so."""
        with self._changed:
            if self._size <= size:
                return None
            self._loop = asyncio.get_running_loop()
            done: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append((size, done))
        return done

    async def close(self) -> None:
        """Wait until all is written, then end the thread."""
        if (behind := self.below(0)) is not None:
            await behind
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        for data in self._chunks():
            for write in tuple(self.sinks):
                try:
                    write(data)
                except Exception as error:
                    self.sinks.remove(write)
                    self._on_loop(self._failed, write, error)
            with self._changed:
                self._size -= len(data)
                if self._waiting:
                    self._on_loop(self._wake)

    def _chunks(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not self._queue:
                    if self._ended:
                        return
                    self._changed.wait()
                parts = [self._queue.popleft()]
                size = len(parts[0])
                while self._queue and size < 1 << 20:
                    parts.append(self._queue.popleft())
                    size += len(parts[-1])
            yield b"".join(parts)

    def _on_loop(self, callback: Callable[..., None], *args: Any) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(callback, *args)

    def _wake(self) -> None:
        still = []
        for size, done in self._waiting:
            if self._size > size:
                still.append((size, done))
            elif not done.done():
                done.set_result(None)
        self._waiting = still
