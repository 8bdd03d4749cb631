"""The events: a list that the page's script filters, written as numbers that point into lists of types and places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from vrooli_cli.model.history import RunHistory
from vrooli_cli.view.report.markup import Markup, data_bytes, tag
from vrooli_cli.view.report.pieces import as_json, scroll, section
from vrooli_cli.view.report.room import fitted
from vrooli_cli.view.text import duration, line

MOST_EVENTS: Final = 4_000
_MOST_WORDS: Final = 160  # characters of one
_UNSAID: Final = frozenset(
    {"step_id", "resources_used", "success", "inputs", "messages", "steps", "started_ns", "routine", "request_hash"}
    | {"nth", "parent_execution_id", "task_execution_id"}
)
_PLAIN: Final = frozenset({"reason", "text", "prompt", "tool_name", "model", "strategy", "agent_id", "task_id"})
"""Values that say by themselves what they are."""
_NOISE: Final = ("tier3/ledger/", "tier2/batch/")

Wire = Mapping[str, Any]


def events_table() -> Markup:
    """The filters and the table, which the script fills."""
    boxes = [
        tag("label", tag("input", type="checkbox", checked=True, data_tier=tier), f" {tier}")
        for tier in ("tier1", "tier2", "tier3", "other")
    ]
    filters = tag(
        "div",
        tag("input", type="search", id="event-filter", placeholder="Filter events ( e )", aria_label="Filter events"),
        *boxes,
        tag("span", id="events-shown", cls="dim", aria_live="polite"),
        cls="filters",
    )
    heads = (("#", "n wide"), ("At", "n"), ("Type", None), ("Step", None), ("What", "wide"))
    names = [tag("th", name, cls=cls) for name, cls in heads]
    table = tag("table", tag("thead", tag("tr", *names)), tag("tbody", id="events-body"))
    more = tag("button", "Show more", id="more", type="button", hidden=True)
    return section("events", "Events", filters, scroll("Events", table), more)


def event_data(history: RunHistory, events: Iterable[Wire], room: int) -> dict[str, list[Any]]:
    """What the script shows: ``types``, ``places``, and in ``events`` rows ``[number, time, type, place, words]``.

    Of very many events the first and the last, and the failures between them.
    """
    told = _chosen([event for event in events if not event["type"].startswith(_NOISE)])
    words = fitted([line(_words(event["payload"]), _MOST_WORDS) for event in told], room, _MOST_WORDS, data_bytes)
    types: dict[str, int] = {}
    places: dict[str, int] = {}
    rows = []
    began = history.began_ns / 1e9
    for event, said in zip(told, words, strict=True):
        at = max(0.0, datetime.fromisoformat(event["timestamp"]).timestamp() - began)
        type_, where = line(event["type"], 80), line(event["payload"].get("step_id") or "", 200)
        kind, place = types.setdefault(type_, len(types)), places.setdefault(where, len(places))
        rows.append([event["seq"], f"{at:.3f}", kind, place, said])
    return {"types": list(types), "places": list(places), "events": rows}


def _chosen(events: list[Wire]) -> list[Wire]:
    if len(events) <= MOST_EVENTS:
        return events
    half = MOST_EVENTS // 2
    bad = [event for event in events[half:-half] if event["type"].endswith(("failed", "denied", "exhausted"))]
    return [*events[:half], *bad[:MOST_EVENTS], *events[-half:]]


def _words(payload: Wire) -> str:
    error = payload.get("error")
    if isinstance(error, Mapping):
        return f"{error.get('code')}: {error.get('message')}"
    told = []
    for name, value in payload.items():
        if name in _UNSAID or (name == "attempt" and value == 1):
            continue
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            told.append(str(value) if name in _PLAIN else f"{name.removesuffix('_ms')} {_shown(name, value)}")
        elif name in ("parameters", "result", "values"):
            told.append(as_json(value, None)[:120])
    return " · ".join(told)


def _shown(name: str, value: str | float) -> str:
    return duration(round(value)) if name.endswith("_ms") and not isinstance(value, str) else str(value)
