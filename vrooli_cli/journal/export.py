"""A run for other programs: one JSON document. Its trace is made by :mod:`vrooli_cli.tracing`."""

from __future__ import annotations

from typing import Any

from vrooli_cli.journal.history import events, fold, result_of
from vrooli_cli.model.store import Store


def as_document(store: Store, run_id: str, lost: list[str] | None = None) -> dict[str, Any]:
    """Everything that the journal knows of a run: its row, definition, result and events.

    ``lost`` gets a line for every large result that is missing or damaged.
    """
    key, record = store.find(run_id)
    lines = list(events(store, key))
    history = fold(key, record, lines)
    return {
        "v": 1,
        "run": {
            "id": record.id,
            "name": record.name,
            "kind": record.kind,
            "path": record.path,
            "status": history.status,
            "user": record.user,
            "started_ns": record.started_ns,
            "ended_ns": record.ended_ns,
            "lives": history.lives,
            "settings": record.settings,
            "inputs": history.inputs,
            "definition": record.definition,
        },
        "result": result_of(history, store, lost=lost).wire(),
        "events": lines,
    }
