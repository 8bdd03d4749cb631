"""A run for other programs: one JSON document, or a trace in OTLP/JSON (what ``POST /v1/traces`` takes).

The trace follows OpenTelemetry's semantic conventions, those of generative AI for requests to models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from vrooli_cli.journal.history import events, fold, result_of
from vrooli_cli.model.history import ModelCall, RunHistory, Span, StepHistory, around_of
from vrooli_cli.model.store import Store
from vrooli_cli.model.version import VROOLI

_OK, _ERROR = 1, 2
_INTERNAL, _CLIENT = 1, 3


def as_document(store: Store, run_id: str) -> dict[str, Any]:
    """Everything that the journal knows of a run: its row, definition, result and events."""
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
        "result": result_of(history, store).wire(),
        "events": lines,
    }


def as_otlp(history: RunHistory) -> dict[str, Any]:
    """The run as one trace: a span for the run, each step, each attempt and each request to a model."""
    run = history.record
    trace = _id(run.id, 32)
    root = _span(trace, "run", "", run.name, history.began_ns, history.last_ns)
    root["attributes"] = _attributes(
        {
            "vrooli.run.id": run.id,
            "vrooli.run.status": history.status,
            "vrooli.credits": history.credits,
            "user.id": run.user or None,
        }
    )
    _verdict(root, history.error if history.status == "failed" else None)
    spans = [root]
    for step in history.steps.values():
        spans.extend(_step(trace, history, step))
    spans.extend(_model_call(trace, call, number) for number, call in enumerate(history.calls))
    scope = {"name": "vrooli", "version": VROOLI}
    resource = {"attributes": _attributes({"service.name": "vrooli", "service.version": VROOLI})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]}


def _step(trace: str, history: RunHistory, step: StepHistory) -> list[dict[str, Any]]:
    if step.began_ns is None:
        return []
    around = around_of(step.address)
    parent = _id(f"step:{around}", 16) if around in history.steps else _id("run", 16)
    ended = step.ended_ns or history.last_ns
    span = _span(trace, f"step:{step.address}", parent, step.address, step.began_ns, ended)
    span["attributes"] = _attributes(
        {
            "vrooli.step": step.address,
            "vrooli.step.status": step.status,
            "vrooli.step.attempts": step.attempts,
            "vrooli.step.strategy": step.strategy or None,
            "vrooli.step.label": step.label or None,
            "vrooli.agent.id": step.agent or None,
            "vrooli.credits": step.credits or None,
        }
    )
    _verdict(span, step.error if step.status == "failed" else None)
    return [span, *(_attempt(trace, step, one, history.last_ns) for one in step.spans)]


def _attempt(trace: str, step: StepHistory, one: Span, last_ns: int) -> dict[str, Any]:
    name = f"{one.address}@{one.attempt}"
    identity = f"attempt:{name}:{one.life}"
    parent = _id(f"step:{step.address}", 16)
    span = _span(trace, identity, parent, name, one.began_ns, one.ended_ns or last_ns)
    span["attributes"] = _attributes({"vrooli.step": one.address, "vrooli.attempt": one.attempt})
    _verdict(span, {"message": one.status} if one.status != "completed" else None)
    return span


def _model_call(trace: str, call: ModelCall, number: int) -> dict[str, Any]:
    parent = _id(f"step:{call.address.partition('#')[0]}", 16)
    began = call.at_ns - call.duration_ms * 1_000_000
    span = _span(trace, f"model:{number}", parent, f"chat {call.model}", began, call.at_ns, kind=_CLIENT)
    span["attributes"] = _attributes(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": call.model,
            "gen_ai.response.finish_reasons": [call.finish_reason] if call.finish_reason else None,
            "gen_ai.usage.input_tokens": call.usage.get("input_tokens"),
            "gen_ai.usage.output_tokens": call.usage.get("output_tokens"),
            "vrooli.credits": call.credits,
        }
    )
    return span


def _span(
    trace: str, identity: str, parent: str, name: str, began_ns: int, ended_ns: int, *, kind: int = _INTERNAL
) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": _id(identity, 16),
        "parentSpanId": parent,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(began_ns),
        "endTimeUnixNano": str(max(began_ns, ended_ns)),
        "status": {"code": _OK},
    }


def _verdict(span: dict[str, Any], error: Mapping[str, Any] | None) -> None:
    if error:
        span["status"] = {"code": _ERROR, "message": str(error.get("message") or error.get("code") or "")}


def _id(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _any(value)} for name, value in values.items() if value is not None]


def _any(value: Any) -> dict[str, Any]:
    """OTLP's AnyValue; 64-bit integers are text in its JSON."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any(one) for one in value]}}
    return {"stringValue": str(value)}
