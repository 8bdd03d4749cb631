"""The seam between the engine and the journal: what a store of runs must be able to do (spec engine.md, c)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from vrooli_cli.model.values import lean

UNREADABLE: Final = (
    "the journal is damaged, a line in it cannot be read; move the store away, restore a copy or pass another"
    " --store FILE"
)
"""What the readers of a log say of a line that is no JSON."""


class LogBatch(NamedTuple):
    """The events of one run in one commit, a line each.

    A line is an event's whole JSON object, or what makes it different from the others: its type and its payload with a
    tab between them, followed by execution id and metadata where they are not the usual ones. Before such lines stands
    ``#`` with what they share: version, run id, time, execution id, metadata. A tab or newline inside JSON is escaped.
    ``Store.read`` gives whole objects; a step's events take a third of the room in the file.

    Attributes:
        run: The run's key in this store.
        first: ``seq`` of the first event.
        count: How many events.
        data: The lines, each ended by a newline; those with ``#`` do not count.
    """

    run: int
    first: int
    count: int  # type: ignore[assignment]
    data: bytes


@lean()
class RunRecord:
    """A run as the history lists it: written at its start, at a change of status and at its end.

    Attributes:
        definition: The texts of the bundle's files by key, so that ``resume`` needs no file.
        inputs: The inputs as given, secrets left out.
        settings: The flags that a resume keeps (limits, schedule, model, …).
    """

    id: str
    name: str
    kind: str = "routine"
    path: str = ""
    status: str = "pending"
    started_ns: int = 0
    ended_ns: int | None = None
    parent: str | None = None
    user: str = ""
    error_code: str | None = None
    credits: int = 0
    definition: Mapping[str, Any] | None = None
    inputs: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None


class Lease(Protocol):
    """The right to work on a run; gone with its process at the latest."""

    def note(self, data: bytes) -> None:
        """Leave word for whoever finds the run dead: lines, in place of those noted before."""

    def release(self) -> None:
        """Let others work on the run. A second call does nothing."""


class Store(Protocol):
    """Where runs are kept. Every method is called on the loop's thread and returns soon.

    Each may raise :class:`vrooli_cli.errors.StoreError`, one line; :class:`Busy` says "the same again in a moment".
    """

    def open_run(self, record: RunRecord) -> int:
        """Write a new run's row durably; its key."""

    def update_run(self, key: int, **changes: Any) -> None:
        """Change columns of the run's row."""

    def append(self, batches: Sequence[LogBatch]) -> None:
        """All batches in one transaction, or none."""

    def read(self, key: int, first: int = 0) -> Iterator[bytes]:
        """The run's lines from event ``first`` on, in order."""

    def find(self, run_id: str) -> tuple[int, RunRecord]:
        """The run with this id, unique prefix, or ``last``; UnknownRunError when there is none or several."""

    def runs(
        self,
        status: str | None = None,
        name: str | None = None,
        since_ns: int | None = None,
        limit: int | None = None,
    ) -> list[RunRecord]:
        """The history, newest first, without definition, inputs, settings and context."""

    def payloads(self, kind: str, name: str | None = None, since_ns: int | None = None) -> Iterator[tuple[str, bytes]]:
        """(run id, payload) of every event of one type, of all runs or of those that :meth:`runs` would list."""

    def last_payloads(self, kinds: Mapping[str, str]) -> dict[str, bytes]:
        """Run id → payload of the last event of the type that ``kinds`` has for it, if it is among its log's last."""

    def lease(self, run_id: str) -> Lease | None:
        """The right to work on a run; None when a living process has it."""

    def is_alive(self, run_id: str) -> bool:
        """Whether a living process works on the run."""

    def notes(self, run_id: str) -> bytes:
        """What a dead owner of the run noted in its lease."""

    def send(self, run_id: str, command: Mapping[str, Any]) -> None:
        """Leave a command (approve, reject, cancel) for whoever works on the run."""

    def commands(self, run_key: int) -> list[tuple[int, dict[str, Any]]]:
        """The commands left for a run and not forgotten, oldest first, each with its number."""

    def forget(self, run_key: int, numbers: Sequence[int] | None = None) -> None:
        """Drop commands that have been obeyed; without numbers all of the run."""

    def cache_get(self, key: str) -> bytes | None:
        """A result kept across runs, unless it has expired."""

    def cache_put(
        self, key: str, data: bytes, *, ttl_ms: int | None = None, run: int | None = None, address: str = ""
    ) -> None:
        """Keep a result across runs; ``run``, ``address``: whose it was."""

    def plan_get(self, key: str) -> bytes | None:
        """A stored, checked plan."""

    def plan_put(self, key: str, data: bytes) -> None:
        """Keep a checked plan, for as long as it is among the newest."""

    def prune(self, older_than_ns: int | None = None, keep: int | None = None) -> int:
        """Forget runs that are over; how many."""

    def put_blob(self, data: bytes) -> str:
        """Keep a large value beside the log; its sha256 in hex."""

    def get_blob(self, digest: str) -> bytes:
        """What :meth:`put_blob` kept."""

    async def synced(self) -> None:
        """Return once everything appended so far would survive a power loss."""

    def close(self) -> None:
        """Write what is left and let go of the file."""


class Busy(Exception):
    """Another process is writing at this moment; the same call again in a few milliseconds."""
