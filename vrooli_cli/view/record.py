"""A picture of a run for papers: the same lines that a terminal shows, as an SVG that needs no font of the network."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from datetime import UTC, timedelta
from io import StringIO
from pathlib import Path

from rich.console import Console

from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.plan import PlanSummary
from vrooli_cli.view.frame import Look, draw
from vrooli_cli.view.line import Line
from vrooli_cli.view.pick import picture
from vrooli_cli.view.state import ViewState
from vrooli_cli.view.summary import final_summary

_FONT_FACES = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)


def record_svg(
    events: Sequence[ExecutionEvent],
    plan: PlanSummary | None,
    path: Path | str,
    width: int = 100,
    *,
    height: int = 32,
    moment: float = 1.0,
    credit_limit: int | None = None,
    title: str = "vrooli run",
) -> None:
    """Writes the screen of a recorded run as an SVG.

    Args:
        events: In order, with their facts.
        plan: The graph, when there is one.
        path: The file to write.
        width: Columns of the screen.
        height: Rows of the screen; a picture that needs fewer is shorter.
        moment: The share of the run's time that has passed in the picture; 1 adds the summary below the last screen.
        credit_limit: The limit beside the credits.
        title: What stands in the window's frame.
    """
    state = ViewState(plan, credit_limit=credit_limit)
    first, last = events[0].timestamp, events[-1].timestamp
    now = first + (last - first) * moment
    for event in events:
        if event.timestamp <= now:
            state.apply(event)
    look = Look(zone=UTC)
    lines = draw(picture(state, width, height, now + timedelta(milliseconds=1)), look)
    if moment >= 1:
        lines += [Line(), *final_summary(state, None, look=look, width=width)]
    console = Console(
        file=StringIO(), record=True, width=width, force_terminal=True, color_system="standard", legacy_windows=False
    )
    for text in lines:
        console.print(text.rich(), soft_wrap=True)
    svg = console.export_svg(title=title, code_format=_template(), unique_id="vrooli")
    Path(path).write_text(svg, encoding="utf-8")


def _template() -> str:
    """Rich's own SVG without its web fonts: the reader's monospace font is used, and nothing is fetched."""
    template: str = inspect.signature(Console.export_svg).parameters["code_format"].default
    return _FONT_FACES.sub("", template)
