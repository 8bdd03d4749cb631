"""The bus and its channels: number, encode, commit, tell; see the package's words on the order of things."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from vrooli_cli.bus.deltas import Deltas
from vrooli_cli.bus.lines import (
    BLOB_FIELDS,
    Kind,
    Shown,
    Stream,
    Told,
    decode,
    encode,
    event_as_told,
    line_as_told,
    replay,
    stamp_of,
)
from vrooli_cli.bus.listeners import Subscriber, handler_failed, name_of
from vrooli_cli.bus.writer import Writer
from vrooli_cli.errors import InputError, StoreError
from vrooli_cli.language.masking import Masker, show
from vrooli_cli.model.clock import Clock, RandomIds
from vrooli_cli.model.events import VERSION, AIDelta, Event, EventHandler, EventMetadata, ExecutionEvent
from vrooli_cli.model.store import Busy, LogBatch, RunRecord, Store

BLOB_BYTES: Final = 64 * 1024
"""An encoded ``result``, ``items`` or ``reply`` above this goes to a blob; the line names it."""
BUSY_SECONDS: Final = 30.0
"""A store that is locked for longer is told as failed."""
BlobKept = Callable[[Event, Callable[[bool], Any]], None]
"""Told of a fact and of what reads its result: True as people may see it, False as it was."""
_KNOWN_RUNS: Final = 64  # closed runs that `history` still reads


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
        self._subscribers: dict[tuple[str, EventHandler], Subscriber] = {}
        self._routes: dict[str, tuple[Subscriber, ...]] = {}
        self._kinds: dict[type[Event], Kind] = {}

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
            self._subscribers[pattern, handler] = Subscriber(pattern, handler)
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

    def _new_kind(self, kind: type[Event]) -> Kind:
        found = self._kinds[kind] = Kind(kind)
        return found

    def _route(self, type_: str) -> tuple[Subscriber, ...]:
        found = self._routes.get(type_)
        if found is None:
            found = tuple(one for one in self._subscribers.values() if one.matches(type_))
            if len(self._routes) > 4096:  # types that callers make up are not bounded
                self._routes.clear()
            self._routes[type_] = found
        return found


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
        self._name = encode(run_id)[1:-1]
        self._unsaved = next_seq
        self._masker = masker or None
        self._metadata = metadata
        self._streams: dict[str, Stream] = {run_id: Stream(run_id, metadata, self._masked)}
        self._pending: list[Event | ExecutionEvent] = []
        self._lines: list[bytes] = []
        self._told: list[Told] = []
        self._after: list[Callable[[], None]] = []
        self._blobbed: dict[str, str] = {}
        self._on_blob: list[BlobKept] = []
        self._folds: list[Callable[[ExecutionEvent], None]] = []
        self._kind_folds: dict[str, list[Callable[[ExecutionEvent], None]]] = {}
        self._on_failure: list[Callable[[StoreError], None]] = []
        self._turns: list[Callable[[], None]] = []
        self._failure_told = False
        self._writer: Writer | None = None
        self._deltas: Deltas | None = None
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
                self._deltas = Deltas(asyncio.get_running_loop(), self._accept)
            except RuntimeError:
                self._accept(fact)
                return
        self._deltas.add(fact)

    def adopt(self, execution_id: str, metadata: EventMetadata) -> None:
        """A child execution's metadata; without this it has the root's (and its own ``parent_event_id``)."""
        self._streams[execution_id] = Stream(execution_id, metadata, self._masked)
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
            behind = self._writer.ready()
            if behind is not None:
                behind.add_done_callback(lambda _: self.wake())
                return
        self._urgent = False
        for turn in self._turns:
            turn()

    def fold(self, callback: Callable[[ExecutionEvent], None], kinds: Collection[str] | None = None) -> None:
        """Give every event from now on to a pure fold, in order, after its commit. One that raises is dropped.

        Args:
            callback: Sync; it returns soon.
            kinds: Only events of these types; the others cost nothing then.
        """
        if kinds is None:
            self._folds.append(callback)
        for kind in kinds or ():
            self._kind_folds.setdefault(kind, []).append(callback)

    def sink(self, write: Callable[[bytes], None]) -> None:
        """Give every line from now on (whole NDJSON lines, volatile ones too) to ``write``, in a thread of ours.

        A sink that raises (a closed pipe) gets no more and is told as ``system/handler_failed``; the run goes on.
        """
        if self._writer is None:
            self._writer = Writer(self._sink_failed)
        self._writer.sinks.append(write)

    def on_blob(self, callback: BlobKept) -> None:
        """Called after the commit of a fact whose ``result`` went to a blob, with what reads it again."""
        self._on_blob.append(callback)

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
        if self._writer is not None and (behind := self._writer.ready()) is not None:
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
            if not self._lines:
                self._unsaved = self.next_seq
            usual = self._streams[self.run_id].own
            self._lines.append(b"#%d\t%b\t%b%b" % (VERSION, self._name, stamp_of(now), usual))
            for fact in pending:
                self._encode(fact, now, usual)
        count = self.next_seq - self._unsaved
        if not self._lines or not count or self.failure is not None:
            self._lines.clear()
            return None
        return LogBatch(self.key, self._unsaved, count, b"".join(self._lines))

    def _encode(self, fact: Event | ExecutionEvent, now: int, usual: bytes) -> None:
        stream = self._streams.get(fact.execution_id) or self._new_stream(fact.execution_id)
        if isinstance(fact, ExecutionEvent):
            self._encode_foreign(fact, stream, now)
            return
        kind = self._bus._kinds.get(type(fact)) or self._bus._new_kind(type(fact))
        payload = kind.payload(fact)
        seen = kept = encode(payload)
        seq = 0 if kind.volatile else self.next_seq
        shown = None
        if self._masker is not None or len(kept) > BLOB_BYTES:
            body = kept if len(kept) <= BLOB_BYTES else None
            del seen, kept  # what is large is not in memory a second time while it is put aside
            seen, kept, shown = self._careful(payload, body)
            if self._blobbed:
                self._put_aside(fact)
        self._told.append((fact, seq, now, (kind, stream.part, seen, stream.tail), payload, stream.metadata, shown))
        if seq:
            self.next_seq = seq + 1
            own = stream.own
            self._lines += (kind.short, kept, b"\n" if own is usual else own)
            if kind.starts:
                stream.belongs(replace(stream.metadata, parent_event_id=f"{self.run_id}-{seq}"))

    def _encode_foreign(self, event: ExecutionEvent, stream: Stream, now: int) -> None:
        seq = self.next_seq
        metadata = stream.metadata if event.metadata == EventMetadata() else event.metadata
        event = replace(event, seq=seq, id=event.id or f"{self.run_id}-{seq}", metadata=metadata)
        wire = event.wire() | {"payload": None, "metadata": None}
        head = encode(wire)[: -len('null,"metadata":null}')]
        tail = b',"metadata":' + self._masked(encode(metadata.wire())) + b"}\n"
        body = encode(event.payload)
        seen, kept, shown = self._careful(event.payload, body if len(body) <= BLOB_BYTES else None)
        self._blobbed.clear()
        self._told.append((event, seq, now, head + seen + tail, event.payload, metadata, shown))
        self._lines.append(head + kept + tail)
        self.next_seq += 1

    def _new_stream(self, execution_id: str) -> Stream:
        root = self._metadata
        stream = self._streams[execution_id] = Stream(execution_id, replace(root, parent_event_id=None), self._masked)
        self._bus._owners.setdefault(execution_id, self)
        return stream

    def _careful(self, payload: Mapping[str, Any], body: bytes | None) -> tuple[bytes, bytes, Shown | None]:
        """The payload for people, the payload for the log, and what may be shown of it if that is not all.

        A payload whose ``body`` is None is large, and its large fields go into blobs. The log has a secret as a
        sentinel, so that a resume can put it back; people see ``***``.
        """
        blobs: dict[str, bytes] = {}
        if body is None and self.failure is None:
            try:
                body = self._slim(payload, blobs)
            except StoreError as error:
                self._fail(error)
        if body is None:
            body = encode(payload)
        sealed = body if self._masker is None else self._masker.seal(body)
        seen = show(sealed) if sealed is not body else body
        shown = (seen, blobs) if seen != body or blobs else None
        return seen, sealed, shown

    def _slim(self, payload: Mapping[str, Any], blobs: dict[str, bytes]) -> bytes:
        """Put the large fields into blobs; ``blobs`` gets what people may see of those in which a secret stood."""
        slim = dict(payload)
        for name in BLOB_FIELDS:
            if name in slim and len(data := encode(slim[name])) > BLOB_BYTES:
                sealed = data if self._masker is None else self._masker.seal(data)
                if sealed != data and (seen := show(sealed)) != data:
                    blobs[name] = seen
                digest = self._blobbed[name] = self._store.put_blob(sealed)
                slim[name] = {"$blob": digest, "bytes": len(sealed)}
        return encode(slim)

    def _put_aside(self, fact: Event) -> None:
        """Tell, once it is committed, that a result of this fact can be had from the store."""
        digest = self._blobbed.get("result")
        self._blobbed.clear()
        if digest is not None:
            for callback in self._on_blob:
                self._after.append(partial(callback, fact, partial(self._read_blob, digest)))

    def _read_blob(self, digest: str, shown: bool) -> Any:
        data = self._store.get_blob(digest)
        return decode(show(data) if shown or self._masker is None else self._masker.unseal(data))

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
        if self._folds or self._kind_folds or self._bus._subscribers:
            for one in told:
                type_ = one[0].type
                routes, of_kind = self._bus._route(type_), self._kind_folds.get(type_)
                if routes or self._folds or of_kind:
                    event = event_as_told(one, self.run_id)
                    if self._folds:
                        self._fold(event, self._folds)
                    if of_kind:
                        self._fold(event, of_kind)
                    for subscriber in routes:
                        subscriber.put(self._accept, event)
        if self._writer is not None:
            self._writer.put(b"".join([line_as_told(one, self._name) for one in told]))

    def _fold(self, event: ExecutionEvent, folds: list[Callable[[ExecutionEvent], None]]) -> None:
        for fold in tuple(folds):
            try:
                fold(event)
            except Exception as error:
                folds.remove(fold)
                self._accept(handler_failed(self.run_id, name_of(fold), f"{type(error).__name__}: {error}"))

    def _sink_failed(self, write: Callable[[bytes], None], error: Exception) -> None:
        self._accept(handler_failed(self.run_id, name_of(write), f"{type(error).__name__}: {error}"))
