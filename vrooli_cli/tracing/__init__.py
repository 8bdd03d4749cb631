"""Traces for OpenTelemetry: what happened in a run as spans, and the context that calls to elsewhere carry.

::

    Tracer      what the architecture has of all this: settings, sender, a fold for each run
    Trace       names the spans of one run before they exist, so that a call can say what it belongs to
    SpanFold    events → finished spans; the same for a run at work and for one in the history
    Sender      finished spans → an OTLP endpoint, from a thread of its own
    as_otlp     spans as OTLP/JSON

Names follow OpenTelemetry's semantic conventions, those of generative AI for models, agents and tools. Imported only
when somebody wants a trace; the SDK (extra ``otel``) only by :mod:`vrooli_cli.tracing.sender`, in its thread.
"""

from vrooli_cli.tracing.context import Place, Trace, arriving
from vrooli_cli.tracing.fold import SpanFold
from vrooli_cli.tracing.otlp import as_otlp
from vrooli_cli.tracing.sender import Sender
from vrooli_cli.tracing.settings import TraceSettings, trace_settings
from vrooli_cli.tracing.span import Span, SpanEvent
from vrooli_cli.tracing.tracer import Tracer

__all__ = [
    "Place",
    "Sender",
    "Span",
    "SpanEvent",
    "SpanFold",
    "Trace",
    "TraceSettings",
    "Tracer",
    "arriving",
    "as_otlp",
    "trace_settings",
]
