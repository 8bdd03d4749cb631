"""The table of the steps, and what its dialog tells of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vrooli_cli.model.addresses import around_of
from vrooli_cli.model.history import RunHistory, StepHistory
from vrooli_cli.view.report.graph import SIGNS
from vrooli_cli.view.report.markup import Markup, data_bytes, tag, text
from vrooli_cli.view.report.pieces import as_json, scroll, section
from vrooli_cli.view.report.room import fitted
from vrooli_cli.view.text import duration, line, place

MOST_STEPS: Final = 3_000
_MOST_TEXT: Final = 8_000  # characters of one result


def steps_table(history: RunHistory) -> Markup:
    """A row a step, what is inside a step below it; of very many what failed and the outer ones."""
    steps = _in_order(history)
    if not steps:
        return Markup("")
    shown = steps
    if len(steps) > MOST_STEPS:
        ranked = sorted(steps, key=lambda step: (step.status != "failed", not step.is_top))[:MOST_STEPS]
        chosen = {step.address for step in ranked}
        shown = [step for step in steps if step.address in chosen]
    paid = any(step.credits for step in steps)
    again = any(step.attempts > 1 for step in steps)
    head = tag(
        "tr",
        tag("th", "Step"),
        tag("th", "Status"),
        tag("th", "What", cls="wide"),
        tag("th", "Attempts", cls="n wide") if again else "",
        tag("th", "Took", cls="n"),
        tag("th", "Credits", cls="n wide") if paid else "",
        tag("th", "Why", cls="wide"),
    )
    rows = [_row(step, paid=paid, again=again) for step in shown]
    note = f"{len(shown):,} of {len(steps):,} steps." if len(shown) < len(steps) else ""
    table = tag("table", tag("thead", head), tag("tbody", *rows), id="steps-table")
    return section("steps", "Steps", _filters(steps), tag("p", note, cls="dim") if note else "", scroll("Steps", table))


def _in_order(history: RunHistory) -> list[StepHistory]:
    """Every step, in the order in which they were first heard of, and what is inside one right after it."""
    inside: dict[str, list[StepHistory]] = {}
    for step in history.steps.values():
        around = around_of(step.address)
        inside.setdefault(around if around in history.steps else "", []).append(step)
    found: list[StepHistory] = []
    waiting = inside.get("", [])[::-1]
    while waiting:
        step = waiting.pop()
        found.append(step)
        waiting += inside.get(step.address, [])[::-1]
    return found


def _filters(steps: list[StepHistory]) -> Markup:
    statuses = sorted({step.status for step in steps}, key=list(SIGNS).index)
    boxes = [
        tag("label", tag("input", type="checkbox", checked=True, data_status=status), f" {status}", cls=status)
        for status in statuses
    ]
    return tag(
        "div",
        tag("input", type="search", id="step-filter", placeholder="Filter steps ( / )", aria_label="Filter steps"),
        *boxes,
        tag("span", id="steps-shown", cls="dim", aria_live="polite"),
        cls="filters",
    )


def _row(step: StepHistory, *, paid: bool, again: bool) -> Markup:
    told = " (reused)" if step.reused else " (recovered)" if step.recovered else ""
    total = f"×{step.total}" if step.total is not None else ""
    agent = step.agent if step.agent.casefold() != step.label.casefold() else ""
    what = " · ".join(word for word in (" ".join(filter(None, (step.label, total))), agent) if word)
    error = step.error or {}
    why = f"{error['code']}: {error['message']}" if error.get("code") else step.reason or step.again
    depth = step.address.count("/") + step.address.count("[")
    indent = f"padding-left:{min(depth, 6) * 14}px" if depth else None
    return tag(
        "tr",
        tag("td", place(step.address, 120), cls="mono", style=indent),
        tag("td", f"{SIGNS.get(step.status, '')} {step.status}{told}", cls=f"nowrap {step.status}"),
        tag("td", what, cls="wide"),
        tag("td", str(step.attempts) if step.attempts > 1 else "", cls="n wide") if again else "",
        tag("td", duration(step.duration_ms) if step.began_ns else "", cls="n"),
        tag("td", f"{step.credits:,}" if step.credits else "", cls="n wide") if paid else "",
        tag("td", text(why, 300), cls="wide"),
        data_step=step.address,
        data_is=step.status,
        tabindex=0,
    )


def details(history: RunHistory, room: int) -> list[dict[str, Any]]:
    """What the dialog shows of each step, in about so many bytes."""
    asked = {call.address.partition("#")[0] for call in history.calls}
    made = [_detail(step, step.address in asked) for step in _in_order(history)]
    texts = [one for detail in made for one in detail["texts"]]
    room = max(0, room - data_bytes([{**detail, "texts": []} for detail in made]))
    for one, shown in zip(texts, fitted([said for _, said in texts], room, _MOST_TEXT, data_bytes), strict=True):
        one[1] = shown
    return made


def _detail(step: StepHistory, asked: bool) -> dict[str, Any]:
    about = [
        step.label,
        step.strategy,
        f"{step.attempts} attempt{'s' if step.attempts != 1 else ''}" if step.attempts else "",
        duration(step.duration_ms) if step.began_ns else "",
        f"{step.credits:,} credits" if step.credits else "",
        f"effects: {step.effects}" if step.effects else "",
        step.agent,
        "reused" if step.reused else "recovered by on_error" if step.recovered else "",
    ]
    texts = []
    if step.error:
        texts.append(["Error", _error_text(step.error)])
    if step.parameters:
        texts.append(["Parameters", parameters_text(step.parameters)])
    if step.result is not None:
        texts.append(["Result", step.result if isinstance(step.result, str) else as_json(step.result)])
    return {
        "address": line(step.address, 400),
        "status": step.status,
        "about": " · ".join(line(word, 80) for word in about if word),
        "reason": line(step.reason or step.again, 400) if step.reason or step.again else "",
        "texts": texts,
        "asked": asked,
    }


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """What a tool was called with, a line each; a command is one that can be pasted into a shell."""
    import shlex

    told = []
    for name, value in parameters.items():
        is_argv = name == "command" and isinstance(value, list) and all(isinstance(word, str) for word in value)
        shown = shlex.join(value) if is_argv else value if isinstance(value, str) else as_json(value, None)
        told.append(f"{name}: {shown}")
    return "\n".join(told)


def _error_text(error: Mapping[str, Any]) -> str:
    told = [f"{error.get('code')}: {error.get('message')}"]
    for name, value in (error.get("context") or {}).items():
        told.append(f"{name}: {value if isinstance(value, str) else as_json(value, None)}")
    return "\n".join(told)
