"""What other processes ask of a run; nothing is forgotten before what came of it stands in the log."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from vrooli_cli.errors import StoreError
from vrooli_cli.model.events import ApprovalDenied, ApprovalGranted, ExecutionEvent
from vrooli_cli.model.store import Store

ANSWERED = (ApprovalGranted.type, ApprovalDenied.type)
"""The events after which an answer need not be kept."""


class Inbox:
    """The commands that are left for one run, as its owner reads them.

    Args:
        store: Where they are left.
        run_key: Of the run.
    """

    def __init__(self, store: Store, run_key: int) -> None:
        self._store = store
        self._key = run_key
        self._open: dict[int, str] = {}  # by number: the step of an answer that is not in the log yet

    def new(self) -> list[Mapping[str, Any]]:
        """What was left since the last call, oldest first. A process that dies now will read it again.

        Raises:
            StoreError: The store cannot be read.
        """
        found: list[Mapping[str, Any]] = []
        for number, command in self._store.commands(self._key):
            if number in self._open:
                continue
            if command.get("do") in ("approve", "reject"):
                self._open[number] = str(command.get("step"))
            else:
                self._store.forget(self._key, [number])
            found.append(command)
        return found

    def note(self, event: ExecutionEvent) -> None:
        """An answer stands in the log (an event of :data:`ANSWERED`): its command has been obeyed."""
        step = event.payload["step_id"]
        numbers = [number for number, one in self._open.items() if one == step]
        if numbers:
            with suppress(StoreError):  # a failed store tells by itself, and what is left over is not answered twice
                self._store.forget(self._key, numbers)
                for number in numbers:
                    del self._open[number]

    def clear(self) -> None:
        """Forget everything: the run has ended, and nobody waits for an answer."""
        with suppress(StoreError):
            self._store.forget(self._key)
