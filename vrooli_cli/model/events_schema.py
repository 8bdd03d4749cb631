"""The JSON Schema of an NDJSON line: an event, made from the classes of facts, or the result at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vrooli_cli.model.events import VERSION, event_types


def events_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12)."""
    from pydantic import TypeAdapter

    variants = []
    for kind in event_types().values():
        payload = TypeAdapter(kind).json_schema()
        payload["properties"].pop("execution_id", None)
        payload["required"] = [name for name in payload.get("required", []) if name != "execution_id"]
        payload.pop("title", None)
        description = payload.pop("description", "")
        variants.append(
            {
                "description": description,
                "properties": {"type": {"const": kind.type}, "tier": {"const": kind.tier}, "payload": payload},
            }
        )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vrooli events",
        "description": "One line of `-o ndjson` and `--events`; the last line of a run has type `result`.",
        "type": "object",
        "required": ["v", "seq", "type"],
        "properties": {
            "v": {"const": VERSION, "description": "The version of this format."},
            "seq": {
                "type": "integer",
                "minimum": 0,
                "description": "Its number in the root run, from 1; 0 for what is not stored.",
            },
            "type": {"type": "string", "description": "What happened, `tierN/…`; or `result`."},
        },
        "oneOf": [{"$ref": "#/$defs/event"}, {"$ref": "#/$defs/result"}],
        "$defs": {
            "event": {
                "description": "Something that happened.",
                "type": "object",
                "required": ["id", "timestamp", "execution_id", "tier", "payload", "metadata"],
                "properties": _ENVELOPE,
                "oneOf": variants,
            },
            "result": {
                "description": "The ExecutionResult, as `-o json` prints it.",
                "type": "object",
                "required": list(_RESULT),
                "properties": _RESULT,
            },
        },
    }


_NAME: Final = {"type": ["string", "null"]}
_ENVELOPE: Final[Mapping[str, Any]] = {
    "type": {"type": "string", "not": {"const": "result"}, "description": "What happened."},
    "id": {"type": "string", "description": "Unique: the root run and the number."},
    "timestamp": {"type": "string", "format": "date-time", "description": "When, in UTC."},
    "execution_id": {"type": "string", "description": "The run, or the child run, that it belongs to."},
    "tier": {"enum": ["tier1", "tier2", "tier3", None], "description": "Where it happened."},
    "payload": {"type": "object", "description": "What the type says."},
    "metadata": {
        "type": "object",
        "description": "Whose it is.",
        "properties": {
            "correlation_id": {"type": "string", "description": "Shared by everything that one request caused."},
            "user_id": {"type": "string", "description": "Who asked."},
            "swarm_id": {**_NAME, "description": "The swarm around it."},
            "parent_event_id": {**_NAME, "description": "The event that caused it."},
        },
    },
}
_RESULT: Final[Mapping[str, Any]] = {
    "type": {"const": "result", "description": "The last line."},
    "success": {"type": "boolean", "description": "True when the run is completed."},
    "status": {"type": "string", "description": "pending, running, suspended, completed, failed or cancelled."},
    "result": {"description": "The outputs; null when the run has failed."},
    "error": {"type": ["object", "null"], "description": "The first failure that nothing took: code, message, step."},
    "resources_used": {"type": "object", "description": "Credits, time, memory and steps."},
    "duration_ms": {"type": "integer", "minimum": 0, "description": "From the start to the end."},
    "context": {"type": "object", "description": "The ids of the run, its parent, swarm and user."},
    "steps": {"type": "object", "description": "Path → status, attempts, duration, result or error of each step."},
}
