"""What people see of a run: a pure fold of events, drawn live on a terminal or written line by line.

The door: :class:`View` and :func:`make_view`; :class:`ViewState` for whoever wants to know without a terminal.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_DOOR = {
    "View": "live",
    "LiveView": "live",
    "NullView": "live",
    "make_view": "live",
    "PlainView": "plain",
    "ViewState": "state",
    "picture": "pick",
    "draw": "frame",
    "Look": "frame",
    "Line": "line",
    "final_summary": "summary",
    "record_svg": "record",
}
__all__ = list(_DOOR)


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_DOOR[name]}"), name)
