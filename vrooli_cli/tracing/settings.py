"""What the environment says about traces, by the names that every OpenTelemetry SDK reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from vrooli_cli.tracing.context import Place, Trace

_TRUE = frozenset({"true", "1", "span_only", "span_and_event"})


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Where traces go, and what is in them.

    Attributes:
        endpoint: The whole URL that spans are posted to.
        protocol: What was asked for; only OTLP over HTTP is spoken.
        content: True when prompts, answers, arguments and results may be in the spans.
        sampler: ``always_on``, ``always_off`` or ``traceidratio``.
        ratio: The part of all traces that ``traceidratio`` records.
        by_parent: Whoever began the trace decides, and the sampler only on traces of our own.
    """

    endpoint: str
    protocol: str = ""
    content: bool = False
    sampler: str = "always_on"
    ratio: float = 1.0
    by_parent: bool = True

    @property
    def shown(self) -> str:
        """The endpoint without what may be secret in it."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def samples(self, trace_id: str, parent: Place | None) -> bool:
        """Whether a trace is recorded."""
        if self.by_parent and parent is not None:
            return parent.sampled
        if self.sampler == "traceidratio":
            return int(trace_id[16:], 16) < round(self.ratio * (1 << 64))
        return self.sampler != "always_off"

    def trace(self, run_id: str, arrived: Place | None, stored: Mapping[str, str] | None, life: int) -> Trace:
        """The trace of a run that begins or goes on.

        Args:
            run_id: The root run.
            arrived: The span of whoever started this process.
            stored: What an earlier life has kept of its trace; None when there was none.
            life: Which life of the run this is.
        """
        known = Trace.of_stored(run_id, stored)
        parent = known.parent if stored is not None else arrived
        trace_id = Trace(run_id, parent).trace_id
        cause = arrived if arrived is not None and (parent is None or arrived.span_id != parent.span_id) else None
        return Trace(run_id, parent, life, self.samples(trace_id, parent), cause)


def trace_settings(environ: Mapping[str, str]) -> TraceSettings | None:
    """None when no endpoint is named, or traces are turned off."""
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    if not endpoint and base:
        endpoint = f"{base.rstrip('/')}/v1/traces"
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not endpoint or exporter == "none" or _true(environ, "OTEL_SDK_DISABLED"):
        return None
    name, argument = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower(), environ.get("OTEL_TRACES_SAMPLER_ARG", "")
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    return TraceSettings(
        endpoint=endpoint,
        protocol=protocol.strip().lower(),
        content=_true(environ, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"),
        sampler=name.removeprefix("parentbased_") or "always_on",
        ratio=_ratio(argument),
        by_parent=not name or name.startswith("parentbased_"),
    )


def _true(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() in _TRUE


def _ratio(text: str) -> float:
    """A part of one; all of it when nothing sensible was said, as the specification wants."""
    try:
        ratio = float(text)
    except ValueError:
        return 1.0
    return ratio if 0 <= ratio <= 1 else 1.0
