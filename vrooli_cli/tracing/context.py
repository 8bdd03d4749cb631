"""Which span is which: names that can be computed before a span ends, as W3C Trace Context carries them.

Everything is a hash of the run's id and of the place in it. So a step can tell a child process what it belongs to
while its own span is still open, a resume goes on in the same trace, and `vrooli runs export` names the same spans as
the run did when it was at work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_STATE_MOST = 512  # characters, as the recommendation wants


@dataclass(frozen=True, slots=True)
class Place:
    """One span of one trace, as another process names it (W3C Trace Context).

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        sampled: False when whoever began the trace does not record it.
        state: ``tracestate``, handed on as it is.
    """

    trace_id: str
    span_id: str
    sampled: bool = True
    state: str = ""

    @classmethod
    def parse(cls, traceparent: str, tracestate: str = "") -> Place | None:
        """The place that ``traceparent`` names; None when it is not one."""
        match = _TRACEPARENT.fullmatch(traceparent.strip())
        if match is None:
            return None
        state = tracestate.strip() if len(tracestate) <= _STATE_MOST and tracestate.isprintable() else ""
        return cls(match[1], match[2], bool(int(match[3], 16) & 1), state)

    def headers(self) -> dict[str, str]:
        """``traceparent`` and ``tracestate``, by the names that HTTP has for them."""
        found = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"}
        return found | {"tracestate": self.state} if self.state else found


def arriving(environ: Mapping[str, str]) -> Place | None:
    """The span of whoever started this process, from ``TRACEPARENT`` and ``TRACESTATE``."""
    return Place.parse(environ.get("TRACEPARENT", ""), environ.get("TRACESTATE", ""))


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of one run.

    Attributes:
        run_id: The root run.
        parent: The span that the run belongs to; None when it begins its own trace.
        life: 1, and one more with every resume: a span is never told twice under one id.
        sampled: False: the context is handed on, and nothing is recorded.
        cause: Who asked for this life, when that is not :attr:`parent`.
    """

    run_id: str
    parent: Place | None = None
    life: int = 1
    sampled: bool = True
    cause: Place | None = None

    @property
    def trace_id(self) -> str:
        """The trace that the run belongs to; of its own when it has no parent."""
        return self.parent.trace_id if self.parent is not None else _digest(32, "trace", self.run_id)

    def run(self, life: int | None = None) -> str:
        """The span of the run, in this life or in another one."""
        return _digest(16, self.run_id, str(life or self.life))

    def step(self, execution_id: str, address: str, again: int = 0) -> str:
        """The span of a step or of a task; ``again`` counts spans that would have the same name."""
        return self._span("step", execution_id, address, *([str(again)] if again else []))

    def tool(self, execution_id: str, address: str, attempt: int, call_id: str | None) -> str:
        """The span of a call of a tool; ``call_id`` is the model's, when a model chose the call."""
        return self._span("tool", execution_id, address, str(attempt), call_id or "")

    def model(self, execution_id: str, address: str, attempt: int, number: int) -> str:
        """The span of the ``number``-th request of an attempt to a model."""
        return self._span("model", execution_id, address, str(attempt), str(number))

    def at(self, span_id: str) -> Place:
        """A span of this trace, for others."""
        return Place(self.trace_id, span_id, self.sampled, self.parent.state if self.parent is not None else "")

    def carried(self, execution_id: str, address: str, attempt: int, call_id: str | None = None) -> dict[str, str]:
        """The headers of what a call of a tool does elsewhere."""
        return self.at(self.tool(execution_id, address, attempt, call_id)).headers()

    def stored(self) -> dict[str, Any]:
        """What the history keeps of it, for a resume and for an export."""
        return {} if self.parent is None else dict(self.parent.headers())

    @classmethod
    def of_stored(cls, run_id: str, stored: Mapping[str, Any] | None) -> Trace:
        """The trace of a run in the history."""
        stored = stored or {}
        return cls(run_id, Place.parse(str(stored.get("traceparent", "")), str(stored.get("tracestate", ""))))

    def _span(self, *parts: str) -> str:
        return _digest(16, self.run_id, str(self.life), *parts)


def _digest(digits: int, *parts: str) -> str:
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:digits]
