"""The traces of one process: settings and sender, and a fold for each run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from vrooli_cli.model.clock import ns_of
from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.tracing.context import Trace, arriving
from vrooli_cli.tracing.fold import SpanFold
from vrooli_cli.tracing.sender import Sender
from vrooli_cli.tracing.settings import TraceSettings, trace_settings


class Tracer:
    """Follows runs, and sends what they become.

    Args:
        settings: Where to, and what.
        environ: Where the span of whoever started us is named.
    """

    def __init__(self, settings: TraceSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._arrived = arriving(environ)
        self._sender = Sender(settings)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Tracer | None:
        """None when the environment does not ask for traces."""
        settings = trace_settings(environ)
        return None if settings is None else cls(settings, environ)

    def trace(self, run_id: str, stored: Mapping[str, str] | None, life: int) -> Trace:
        """The trace of a run that begins (``stored`` is None then) or goes on."""
        return self._settings.trace(run_id, self._arrived, stored, life)

    def follow(
        self, trace: Trace, name: str, *, kind: str, user: str
    ) -> tuple[SpanFold, Callable[[ExecutionEvent], None]] | None:
        """What a channel gives its events to, and its fold; None for a trace that nobody records."""
        if not trace.sampled:
            return None
        self._sender.start()
        fold = SpanFold(trace, name, self._sender.put, content=self._settings.content, kind=kind, user=user)

        def apply(event: ExecutionEvent) -> None:
            fold.apply(event.type, event.execution_id, event.payload, ns_of(event.timestamp))

        return fold, apply

    def finish(self) -> None:
        """No run follows."""
        self._sender.finish()

    async def close(self) -> str | None:
        """Wait until everything is sent, a few seconds at most; what went wrong, in one line."""
        return await asyncio.to_thread(self._sender.close)
