"""Between facts and bytes: the lines of the log and of NDJSON (spec cli.md, "Events"), and back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from json import dumps, loads
from typing import Any, Final

import orjson

from vrooli_cli.errors import StoreError
from vrooli_cli.language.masking import Masker, show
from vrooli_cli.model.events import (
    VERSION,
    Event,
    EventMetadata,
    ExecutionEvent,
    RoutineStarted,
    SwarmStarted,
    fact_of,
)
from vrooli_cli.model.store import UNREADABLE, Store
from vrooli_cli.model.values import parts_of

BLOB_FIELDS: Final = ("result", "items", "reply")
"""What may be large in a payload, and is kept beside the log then."""


class Stream:
    """What is the same on every line of one execution, encoded once."""

    __slots__ = ("_masked", "metadata", "own", "part", "tail")

    def __init__(self, execution_id: str, metadata: EventMetadata, masked: Callable[[bytes], bytes]) -> None:
        self.part = encode(execution_id)
        self._masked = masked
        self.belongs(metadata)

    def belongs(self, metadata: EventMetadata) -> None:
        """From now on this metadata."""
        self.metadata = metadata
        self.tail = self._masked(encode(metadata.wire()))
        self.own = b"\t%b\t%b\n" % (self.part, self.tail)  # as LogBatch has it


class Kind:
    """What is the same on every line of one class of facts: its text, and a quick way to its payload."""

    __slots__ = ("payload", "short", "starts", "volatile", "whole")

    def __init__(self, kind: type[Event]) -> None:
        tier = f'"{kind.tier}"' if kind.tier else "null"
        self.whole = (
            f'{{"v":{VERSION},"seq":%d,"id":"%b-%d","type":"{kind.type}","timestamp":"%b","execution_id":%b,'
            f'"tier":{tier},"payload":%b,"metadata":%b}}\n'
        ).encode()
        self.short = f"{kind.type}\t".encode()  # as LogBatch has it
        self.payload = _payload_of(kind)
        self.starts = kind is RoutineStarted or kind is SwarmStarted
        self.volatile = kind.volatile


def _payload_of(kind: type[Event]) -> Callable[[Event], dict[str, Any]]:
    """``Event.payload`` unrolled for one class, as dataclasses make their methods: a seventh of the time."""
    lines = ["def payload(fact):", " found = {}"]
    for part in parts_of(kind):
        if part.name != "execution_id":
            wire = part.metadata.get("wire", part.name)
            lines += [f" value = fact.{part.name}", f" if value is not None: found[{wire!r}] = value"]
    names: dict[str, Any] = {}
    exec("\n".join([*lines, " return found"]), names)  # noqa: S102 - the text is made of our own field names
    made: Callable[[Event], dict[str, Any]] = names["payload"]
    return made


Shown = tuple[bytes, dict[str, bytes]]
"""What people may see of a payload in which something was masked: its bytes, and those of its blobs."""
Parts = tuple[Kind, bytes, bytes, bytes]
"""What a line is made of beside its number and time: kind, execution id, payload, metadata."""
Told = tuple[Event | ExecutionEvent, int, int, bytes | Parts, Mapping[str, Any], EventMetadata, Shown | None]
"""An event between encoding and delivery: fact, seq, time, line, payload, metadata, what may be shown."""


def line_as_told(told: Told, name: bytes) -> bytes:
    """The line that sinks get; ``name`` is the run's id as JSON without its quotes."""
    line = told[3]
    if isinstance(line, bytes):
        return line
    kind, execution, body, metadata = line
    seq = told[1]
    return kind.whole % (seq, name, seq, stamp_of(told[2]), execution, body, metadata)


def event_as_told(told: Told, run_id: str) -> ExecutionEvent:
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
    quicken()
    for line in store.read(key, first):
        event = event_of(decode(opened(line)))
        if whole and (large := [name for name in BLOB_FIELDS if _is_blob(event.payload.get(name))]):
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


def quicken() -> None:
    """From here on lines are read by pydantic's code, in a third of the time.

    Importing it costs as much as ten thousand lines, so only who reads many asks for it. orjson, which writes them,
    is quicker still, but reads a number beyond 64 bits as a float.
    """
    import pydantic_core

    assert pydantic_core


def decode(line: bytes) -> Any:
    """The data in a line or a blob.

    Raises:
        StoreError: It is no JSON.
    """
    quick: Any = sys.modules.get("pydantic_core")
    if quick is not None:
        with suppress(ValueError):  # nested more than 200 deep
            return quick.from_json(line, cache_strings="keys")
    try:
        return loads(line)
    except ValueError as error:
        raise StoreError(UNREADABLE) from error


@lru_cache(4)
def _second(seconds: int) -> tuple[datetime, bytes]:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment, moment.strftime("%Y-%m-%dT%H:%M:%S.").encode()


def stamp_of(ns: int) -> bytes:
    """A time as the wire has it; only its microseconds are made anew within a second."""
    return b"%b%06dZ" % (_second(ns // 1_000_000_000)[1], ns // 1000 % 1_000_000)


@lru_cache(4)
def _moment(ns: int) -> datetime:
    return _second(ns // 1_000_000_000)[0].replace(microsecond=ns // 1000 % 1_000_000)


def encode(value: Any) -> bytes:
    """JSON of anything: what has no JSON form becomes text, for a fact may never be lost over its spelling.

    What orjson gives keeps the room that it was written in, 4 KiB at the least. A commit holds hundreds of such lines:
    copies take a thirtieth of the memory, and a tenth of the time that so much fresh memory would.
    """
    try:
        data = orjson.dumps(value, _plain, _AS_PLAIN)
        return data if len(data) > _ROOM else b"%b" % data
    except TypeError:  # a key that is no text, a number beyond 64 bits, a lone surrogate, nesting beyond 254
        return dumps(_cleaned(value, 0), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


_ROOM: Final = 4096
_AS_PLAIN: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def _plain(value: Any) -> Any:
    """What is no plain data, as pydantic spells it."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=lambda odd: dict(odd) if isinstance(odd, Mapping) else str(odd))


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
