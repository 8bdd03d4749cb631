"""The routine's graph as SVG: a box a step, a column a batch, the critical path in its own colour."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from vrooli_cli.model.history import RunHistory
from vrooli_cli.model.plan import PlannedStep, PlanSummary
from vrooli_cli.view.report.layout import lay_out
from vrooli_cli.view.report.markup import Markup, joined, tag, text
from vrooli_cli.view.text import duration

SIGNS = {
    "completed": "✓",
    "failed": "✗",
    "skipped": "–",
    "cancelled": "■",
    "suspended": "‖",
    "running": "●",
    "retrying": "↻",
    "ready": "○",
    "pending": "○",
}
MOST_BOXES = 400
MOST_DOTS = 12_000
_WIDE, _HIGH, _ACROSS, _DOWN, _EDGE = 172, 36, 54, 12, 14


def graph_svg(history: RunHistory, plan: PlanSummary, critical: Sequence[str]) -> Markup:
    """The drawing; for more than 400 steps a dot a step, without edges."""
    if len(plan.steps) > MOST_BOXES:
        return _dots(history, plan)
    layout = lay_out(plan.batches, plan.edges)
    hot = set(pairwise(critical))
    edges = sorted(layout.ways.items(), key=lambda way: way[0] in hot)
    lines = [_edge(edge, way, critical=edge in hot) for edge, way in edges]
    boxes = [
        _box(history, plan.steps[name], *_corner(place), critical=name in critical)
        for name, place in layout.places.items()
    ]
    width = layout.columns * (_WIDE + _ACROSS) - _ACROSS + 2 * _EDGE
    height = max(1.0, layout.rows) * (_HIGH + _DOWN) - _DOWN + 2 * _EDGE
    return _svg(width, height, f"{len(plan.steps)} steps in {layout.columns} batches", joined([*lines, *boxes]))


def _svg(width: float, height: float, label: str, inside: Markup) -> Markup:
    view = f"0 0 {width:g} {height:g}"
    return tag(
        "svg", inside, cls="graph", viewBox=view, width=width, height=height, role="group", aria_label=f"Graph: {label}"
    )


def _corner(place: tuple[int, float]) -> tuple[float, float]:
    return _EDGE + place[0] * (_WIDE + _ACROSS), _EDGE + place[1] * (_HIGH + _DOWN)


def _edge(ends: tuple[str, str], way: Sequence[tuple[int, float]], *, critical: bool) -> Markup:
    """A curve from the right side of one box to the left side of the other, through its bends."""
    x, y = _corner(way[0])
    x, y = x + _WIDE, y + _HIGH / 2
    path = [f"M{x:g} {y:g}"]
    for index, place in enumerate(way[1:], 1):
        to_x, to_y = _corner(place)
        to_y += _HIGH / 2
        middle = (x + to_x) / 2
        path.append(f"C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}")
        x, y = to_x, to_y
        if index < len(way) - 1:
            x += _WIDE
            path.append(f"H{x:g}")
    drawn = " ".join(path)
    return tag("path", d=drawn, cls="edge critical" if critical else "edge", data_from=ends[0], data_to=ends[1])


def _box(history: RunHistory, planned: PlannedStep, x: float, y: float, *, critical: bool) -> Markup:
    step = history.steps.get(planned.id)
    status = step.status if step is not None else "pending"
    took = duration(step.duration_ms) if step is not None and step.duration_ms else ""
    kind = planned.label or planned.kind
    more = f" ×{step.total}" if step is not None and step.total is not None else ""
    sub = " · ".join(word for word in (text(kind, 19) + more, took) if word)
    inside = [
        tag("title", f"{planned.id}: {status}" + (f", {took}" if took else "")),
        tag("rect", x=x, y=y, width=_WIDE, height=_HIGH, rx=6, cls="box"),
        tag("rect", x=x, y=y + _HIGH - 3, width=_WIDE, height=3, rx=1, cls="rail", fill="none") if critical else "",
        tag("text", SIGNS.get(status, "○"), x=x + 9, y=y + 22, cls="sign"),
        tag("text", _cut(planned.id, 20), x=x + 26, y=y + 16, cls="name"),
        tag("text", Markup(sub), x=x + 26, y=y + 29, cls="sub"),
    ]
    return tag(
        "g",
        *inside,
        cls=f"node {status}{' critical' if critical else ''}",
        tabindex=0,
        role="button",
        data_step=planned.id,
    )


def _cut(name: str, limit: int) -> str:
    return name if len(name) <= limit else f"{name[: limit - 8]}…{name[-7:]}"


def _dots(history: RunHistory, plan: PlanSummary) -> Markup:
    """Very many steps: a block of dots a batch; what failed stands out."""
    size, per_column = 9, 40
    dots, x, tallest = [], float(_EDGE), 1
    drawn = 0
    for number, batch in enumerate(plan.batches):
        names = batch[: max(0, MOST_DOTS - drawn)]
        drawn += len(names)
        dots.append(tag("text", str(number + 1), x=x, y=11, cls="sub"))
        for index, name in enumerate(names):
            step = history.steps.get(name)
            status = step.status if step is not None else "pending"
            column, row = divmod(index, per_column)
            place = {"cx": x + 4 + column * size, "cy": 21 + row * size, "r": 3.4}
            title = tag("title", f"{name}: {status}") if status != "completed" else ""
            opens = {"data_step": name, "cls": f"node {status}"} if status == "failed" else {"cls": status}
            dots.append(tag("circle", title, fill="currentColor", **place, **opens))
        tallest = max(tallest, min(per_column, len(names)))
        x += max(1, -(-len(names) // per_column)) * size + 16
    return _svg(x + _EDGE, 30 + tallest * size, f"{len(plan.steps):,} steps", joined(dots))
