"""Spans as OTLP/JSON: what ``POST /v1/traces`` of a collector takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from vrooli_cli.model.version import VROOLI
from vrooli_cli.tracing.context import Place
from vrooli_cli.tracing.span import Span

SCOPE: Final = "vrooli"
"""The instrumentation scope, and the service's name when nobody gives it another one."""
_KIND: Final = {"internal": 1, "client": 3}
_ERROR: Final = 2


def as_otlp(spans: Iterable[Span]) -> dict[str, Any]:
    """One request of all these spans."""
    resource = {"attributes": _attributes({"service.name": SCOPE, "service.version": VROOLI})}
    scope = {"name": SCOPE, "version": VROOLI}
    return {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": list(map(_span, spans))}]}]
    }


def _span(span: Span) -> dict[str, Any]:
    made: dict[str, Any] = {
        "traceId": span.place.trace_id,
        "spanId": span.place.span_id,
        "parentSpanId": span.parent.span_id if span.parent is not None else "",
        "name": span.name,
        "kind": _KIND[span.kind],
        "startTimeUnixNano": str(span.began_ns),
        "endTimeUnixNano": str(span.began_ns if span.ended_ns is None else span.ended_ns),
        "attributes": _attributes(span.attributes),
        "status": {"code": _ERROR, "message": span.error} if span.error is not None else {},
    }
    if span.place.state:
        made["traceState"] = span.place.state
    if span.events:
        made["events"] = [
            {"name": one.name, "timeUnixNano": str(one.at_ns), "attributes": _attributes(one.attributes)}
            for one in span.events
        ]
    if span.links:
        made["links"] = [_link(place) for place in span.links]
    return made


def _link(place: Place) -> dict[str, Any]:
    return {"traceId": place.trace_id, "spanId": place.span_id}


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _any(value)} for name, value in values.items()]


def _any(value: Any) -> dict[str, Any]:
    """OTLP's AnyValue; 64-bit integers are text in its JSON."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_any(one) for one in value]}}
    return {"stringValue": str(value)}
