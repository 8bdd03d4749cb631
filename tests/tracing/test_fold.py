"""The fold of events into spans, and what the environment says about traces: no network, no SDK."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.tracing import Place, Span, SpanFold, Trace, arriving, trace_settings

RUN, CHILD = "run-1", "child-1"


def step(number: int, verb: str, **payload: Any) -> tuple[str, str, dict[str, Any]]:
    return f"tier3/{verb}", RUN, {"step_id": f"s{number}", "attempt": 1, **payload}


LOG: list[tuple[str, str, dict[str, Any]]] = [
    ("tier2/routine/started", RUN, {"routine": "r", "step_count": 3}),
    step(1, "execution/started", strategy="deterministic"),
    step(1, "tool/called", tool_name="echo", effects="none"),
    step(2, "execution/started", strategy="reasoning"),
    step(2, "ai/requested", model="fast", asked_model="gpt-5-mini", endpoint="api.groq.com:443"),
    step(2, "ai/throttled", model="fast", delay_ms=5, reason="429 slow down"),
    step(2, "ai/requested", model="fast", asked_model="gpt-5-mini", endpoint="api.groq.com:443"),
    step(1, "tool/returned", tool_name="echo", duration_ms=1, success=True),
    step(1, "execution/completed", duration_ms=1),
    ("tier2/step/completed", RUN, {"step_id": "s1", "attempts": 1}),
    step(2, "ai/responded", model="fast", answered_model="gpt-5-mini-2026", finish_reason="tool_calls"),
    step(2, "tool/called", tool_name="echo", effects="none", call_id="c1"),
    step(2, "tool/called", tool_name="echo", effects="none", call_id="c2"),
    step(2, "tool/returned", tool_name="echo", duration_ms=1, call_id="c2"),
    step(2, "execution/failed", duration_ms=1, error={"code": "TOOL_FAILED", "message": "no"}),
    ("tier2/step/failed", RUN, {"step_id": "s2", "error": {"code": "TOOL_FAILED", "message": "no"}}),
    ("tier2/step/ready", RUN, {"step_id": "sub"}),
    (
        "tier2/routine/started",
        CHILD,
        {"routine": "c", "step_count": 1, "parent_step_id": "sub", "parent_execution_id": RUN},
    ),
    ("tier3/execution/started", CHILD, {"step_id": "sub/in#1", "attempt": 1}),
    ("tier3/tool/called", CHILD, {"step_id": "sub/in#1", "attempt": 1, "tool_name": "echo", "effects": "none"}),
    ("tier3/tool/returned", CHILD, {"step_id": "sub/in#1", "attempt": 1, "tool_name": "echo", "duration_ms": 1}),
    ("tier2/step/completed", CHILD, {"step_id": "sub/in", "attempts": 1}),
    ("tier2/routine/completed", CHILD, {"routine": "c", "parent_step_id": "sub"}),
    ("tier2/step/completed", RUN, {"step_id": "sub", "attempts": 1}),
    ("tier2/routine/failed", RUN, {"routine": "r", "error": {"code": "TOOL_FAILED", "message": "no"}}),
]


def folded(log: list[tuple[str, str, dict[str, Any]]], *, close: bool = True) -> list[Span]:
    spans: list[Span] = []
    fold = SpanFold(Trace(RUN), "r", spans.append)
    for number, (type_, execution_id, payload) in enumerate(log, start=1):
        fold.apply(type_, execution_id, payload, number)
    if close:
        fold.close()
    return spans


@given(st.integers(1, len(LOG)))
def test_wherever_a_log_ends_every_span_ends_once_inside_its_parent(length: int) -> None:
    spans = folded(LOG[:length])
    by_id = {span.place.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert spans[-1].name == "invoke_workflow r"
    for span in spans:
        assert span.ended_ns is not None
        if span is not spans[-1]:
            assert span.parent is not None
            parent = by_id[span.parent.span_id]
            assert parent.began_ns <= span.began_ns <= span.ended_ns <= (parent.ended_ns or 0)


def test_a_request_names_the_model_and_endpoint_that_were_really_asked() -> None:
    first, second = [span for span in folded(LOG) if span.kind == "client"]
    assert first.name == second.name == "chat gpt-5-mini"
    assert first.attributes["error.type"] == "AI_RATE_LIMITED"
    assert first.error == "429 slow down"
    assert second.error is None
    assert second.attributes["gen_ai.provider.name"] == "groq"
    assert second.attributes["server.address"] == "api.groq.com"
    assert second.attributes["server.port"] == 443
    assert second.attributes["gen_ai.response.model"] == "gpt-5-mini-2026"


def test_a_child_routine_s_steps_are_inside_the_step_that_calls_it() -> None:
    spans = {span.name: span for span in folded(LOG) if "vrooli.step" in span.attributes}
    assert spans["in"].parent == spans["sub"].place
    assert spans["sub"].attributes["vrooli.routine"] == "c"


def test_a_call_that_a_failed_attempt_left_open_fails_with_it() -> None:
    calls = [span for span in folded(LOG) if span.attributes.get("gen_ai.tool.call.id")]
    assert {span.attributes["gen_ai.tool.call.id"]: span.error for span in calls} == {"c1": "no", "c2": None}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
    ],
)
def test_what_is_no_traceparent_begins_a_trace_of_its_own(text: str) -> None:
    assert arriving({"TRACEPARENT": text}) is None


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.booleans())
def test_a_place_is_read_as_it_was_written(trace: bytes, span: bytes, sampled: bool) -> None:
    place = Place(trace.hex(), span.hex(), sampled)
    assert Place.parse(place.headers()["traceparent"]) == (place if any(trace) and any(span) else None)


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/otlp/"}, "http://c:4318/otlp/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}, "http://c/x"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_the_usual_variables_say_where_traces_go(environ: dict[str, str], endpoint: str | None) -> None:
    settings = trace_settings(environ)
    assert (settings.endpoint if settings is not None else None) == endpoint


@pytest.mark.parametrize(
    ("sampler", "argument", "parent", "recorded"),
    [
        ("", "", None, True),
        ("", "", False, False),
        ("always_on", "", False, True),
        ("always_off", "", None, False),
        ("parentbased_always_off", "", None, False),
        ("parentbased_always_off", "", True, True),
        ("traceidratio", "0", None, False),
        ("traceidratio", "1", None, True),
        ("parentbased_traceidratio", "nonsense", None, True),
    ],
)
def test_the_usual_samplers_are_known(sampler: str, argument: str, parent: bool | None, recorded: bool) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c",
        "OTEL_TRACES_SAMPLER": sampler,
        "OTEL_TRACES_SAMPLER_ARG": argument,
    }
    settings = trace_settings(environ)
    assert settings is not None
    arrived = None if parent is None else Place("1" * 32, "2" * 16, parent)
    assert settings.trace(RUN, arrived, None, 1).sampled is recorded
