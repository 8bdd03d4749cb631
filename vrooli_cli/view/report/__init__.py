"""One self-contained page about a run: what failed, the graph, the timeline, prompts, events, cost."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["report_page"]


def __getattr__(name: str) -> Any:
    """Import on first use: a run that is not reported needs none of it."""
    if name != "report_page":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("vrooli_cli.view.report.page").report_page
