"""A span as plain data, before any SDK or encoding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from vrooli_cli.tracing.context import Place


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened at one moment of a span."""

    name: str
    at_ns: int
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Span:
    """One piece of work.

    Attributes:
        parent: The span that it belongs to; None for the first of a trace.
        ended_ns: None while it is at work.
        error: Why it failed; None when it did not. ``error.type`` is among the attributes.
        links: Spans that it has to do with, beside its parent.
    """

    place: Place
    parent: Place | None
    name: str
    began_ns: int
    kind: Literal["internal", "client"] = "internal"
    attributes: dict[str, Any] = field(default_factory=dict)
    events: list[SpanEvent] = field(default_factory=list)
    links: list[Place] = field(default_factory=list)
    ended_ns: int | None = None
    error: str | None = None
