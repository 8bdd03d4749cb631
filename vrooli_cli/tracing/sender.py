"""Finished spans → an OTLP endpoint, over HTTP, from a thread of its own.

The SDK is imported in that thread, so a run neither waits for it nor for the network. Whatever goes wrong is kept and
told once, at the end, by :meth:`Sender.close`; the run does not notice.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from typing import Any, Final

from vrooli_cli.model.version import VROOLI
from vrooli_cli.tracing.context import Place
from vrooli_cli.tracing.otlp import SCOPE
from vrooli_cli.tracing.settings import TraceSettings
from vrooli_cli.tracing.span import Span

FLUSH_SECONDS: Final = 3.0
"""The longest that the end of a run waits for an endpoint."""
_MOST: Final = 50_000  # spans that may wait; a collector that is gone must not take the memory
_BATCH: Final = 512  # spans of one request
_DELAY: Final = 2.0  # seconds until a span that is alone is sent
_LOGGER: Final = "opentelemetry"
_ERRNO: Final = re.compile(r"\[Errno -?\d+\] ([^'\"()]+)")


class Sender:
    """Takes spans from any thread.

    Args:
        settings: Where to.
    """

    def __init__(self, settings: TraceSettings) -> None:
        self._settings = settings
        self._waiting: deque[Span] = deque()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._ending = False
        self._lost = 0
        self._reason = ""
        self._troubled = False
        self._exporter: Any = None

    def put(self, span: Span) -> None:
        """Send it soon. Never waits, never raises."""
        if len(self._waiting) >= _MOST:
            self._lost += 1
            return
        self._waiting.append(span)
        if len(self._waiting) >= _BATCH:
            self._wake.set()

    def start(self) -> None:
        """Begin to get ready, as soon as it is known that there will be spans; once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="vrooli-traces", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """There will be no more spans: send what is left."""
        self._ending = True
        self._wake.set()

    def close(self, seconds: float = FLUSH_SECONDS) -> str | None:
        """Wait until everything is sent, for so long at most; what went wrong, in one line."""
        self.finish()
        thread = self._thread
        until = time.monotonic() + seconds
        while thread is not None and thread.is_alive() and time.monotonic() < until:
            thread.join(0.02)
            if self._troubled:  # the SDK would try again, and again, while somebody waits for a prompt
                self._stop_trying()
        if thread is not None and thread.is_alive():
            self._stop_trying()
            self._reason = self._reason or f"no answer within {seconds:g} s"
        lost = self._lost + len(self._waiting)
        if not lost and not self._reason:
            return None
        what = "the trace" if not lost else f"{lost} spans of the trace" if lost > 1 else "a span of the trace"
        return f"{what} could not be sent to {self._settings.shown}: {self._reason or 'too many at once'}"

    def _stop_trying(self) -> None:
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            exporter.shutdown()

    # in the thread

    def _work(self) -> None:
        complaints = _Complaints(self)
        logger = logging.getLogger(_LOGGER)
        logger.addHandler(complaints)
        try:
            self._exporter = exporter = self._made()
            encode = _Encoding()
            while self._send(exporter, encode):
                pass
        except _Unusable as error:
            self._reason = str(error)
        except ImportError:
            self._reason = "this needs an extra: pip install 'vrooli[otel]'"
        except Exception as error:  # a bug there must not be silent, and must not end the run
            self._reason = f"{type(error).__name__}: {error}"
        finally:
            logger.removeHandler(complaints)

    def _made(self) -> Any:
        if self._settings.protocol == "grpc":
            raise _Unusable("only OTLP over HTTP is spoken; set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and its port")
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=self._settings.endpoint)

    def _send(self, exporter: Any, encode: _Encoding) -> bool:
        """One batch; False when everything is sent, or nothing more can be."""
        if len(self._waiting) < _BATCH and not self._ending:
            self._wake.wait(_DELAY)
            self._wake.clear()
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        if not batch:
            return not self._ending
        if exporter.export([encode.span(one) for one in batch]).name != "SUCCESS":
            self._lost += len(batch)
            return not self._ending
        self._troubled = False
        self._reason = self._reason if self._lost else ""
        return True

    def complain(self, reason: str, *, again: bool) -> None:
        """What the SDK has to say of a request; ``again`` when it is about to try again."""
        self._troubled = self._troubled or again
        self._reason = reason


class _Unusable(Exception):
    """What was asked for cannot be done; says why."""


class _Complaints(logging.Handler):
    """The SDK's words on its failures, for our one line."""

    def __init__(self, sender: Sender) -> None:
        super().__init__(logging.WARNING)
        self._sender = sender

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the reason; the SDK's own ends (time-out, shutdown) say nothing new."""
        message = record.getMessage()
        if "retrying" in message:
            self._sender.complain(_short(record.args[0] if isinstance(record.args, tuple) else message), again=True)
        elif message.startswith("Failed to export") and isinstance(record.args, tuple) and len(record.args) == 3:
            _, status, reason = record.args
            self._sender.complain(f"{status} {_short(reason)}" if status else _short(reason), again=False)
        elif message.startswith(("Failed to encode", "Dropping")):
            self._sender.complain(_short(message), again=False)


def _short(error: object) -> str:
    """The cause in a chain of libraries' words."""
    text = " ".join(str(error).split())
    match = _ERRNO.search(text)
    if match is not None:
        return match[1].strip().lower()
    return "no answer in time" if "timed out" in text.lower() else text[:150]


class _Encoding:
    """Our spans as the SDK's."""

    def __init__(self) -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        said = {"service.name": SCOPE, "service.version": VROOLI, **OTELResourceDetector().detect().attributes}
        self._resource = Resource.create(said)
        self._scope = InstrumentationScope(SCOPE, VROOLI)

    def span(self, span: Span) -> Any:
        """One of them."""
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import Link, SpanKind, Status, StatusCode

        return ReadableSpan(
            name=span.name,
            context=_context(span.place),
            parent=_context(span.parent) if span.parent is not None else None,
            resource=self._resource,
            attributes=span.attributes,
            events=[Event(one.name, one.attributes, one.at_ns) for one in span.events],
            links=[Link(_context(place)) for place in span.links],
            kind=SpanKind.CLIENT if span.kind == "client" else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error is not None else Status(StatusCode.UNSET),
            start_time=span.began_ns,
            end_time=span.ended_ns,
            instrumentation_scope=self._scope,
        )


def _context(place: Place) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    flags = TraceFlags(TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([place.state]) if place.state else None
    return SpanContext(
        int(place.trace_id, 16), int(place.span_id, 16), is_remote=False, trace_flags=flags, trace_state=state
    )
