"""The report: one HTML page that needs no network, no server and no script to be read.

Everything a person wants first stands first: did it work, and if not, why. The script only filters, opens a step's
details and listens to the keyboard; a content policy allows that one script and nothing else, so that nothing which a
tool or a model wrote could run even if it were not escaped, which it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

from vrooli_cli.model.history import ModelCall, RunHistory, StepHistory
from vrooli_cli.model.plan import PlanSummary
from vrooli_cli.view.report.graph import SIGNS, graph_svg
from vrooli_cli.view.report.markup import Markup, data_block, joined, lines, tag, text
from vrooli_cli.view.report.timeline import MOST_ROWS, Axis, Row, critical_path, rows_of, tasks_plan
from vrooli_cli.view.text import block, duration, line

DETAILS_BYTES: Final = 400_000
PROMPTS_BYTES: Final = 250_000
MOST_EVENTS: Final = 4_000
MOST_STEPS: Final = 3_000
MOST_OPEN: Final = 8
"""Of more outputs each is shown as its beginning."""
_UNSAID = frozenset({"step_id", "resources_used", "success", "inputs", "messages", "steps", "started_ns", "routine"})
_NOISE = ("tier3/ledger/", "tier2/batch/")

Wire = Mapping[str, Any]


def report_page(history: RunHistory, plan: PlanSummary | None = None, events: Iterable[Wire] = ()) -> str:
    """The page.

    Args:
        history: The run; its large values may still be stand-ins.
        plan: The graph, when the definition could be planned.
        events: The run's events, masked.
    """
    script, style = _own("report.js"), _own("report.css")
    plan = tasks_plan(history) or plan
    critical = critical_path(history, plan)
    sections = [
        ("failure", _failure(history)),
        ("result", _result(history)),
        ("graph", _graph(history, plan, critical)),
        ("timeline", _timeline(history, plan, critical)),
        ("steps", _steps(history)),
        ("prompts", _prompts(history)),
        ("cost", _cost(history)),
        ("events", _events()),
    ]
    there = [(name, section) for name, section in sections if section]
    data = {"steps": _details(history), "events": _event_rows(history, events)}
    body = joined(
        [
            _header(history),
            _nav(there, waits=history.status == "suspended"),
            tag("main", *(section for _, section in there)),
            _dialog(),
            _footer(history),
            data_block(data, "data"),
            Markup(f"<script>{script}</script>"),
        ]
    )
    title = f"{history.record.name} {history.status}"
    head = joined(
        [
            Markup('<meta charset="utf-8">'),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup('<meta name="color-scheme" content="light dark">'),
            tag("title", title),
            Markup(f"<style>{style}</style>"),
        ]
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _own(name: str) -> str:
    return files("vrooli_cli.view.report").joinpath(name).read_text("utf-8")


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"


# --- the top ---------------------------------------------------------------------------------------------------------


def _header(history: RunHistory) -> Markup:
    run = history.record
    status = tag("span", f"{SIGNS.get(history.status, '')} {history.status}", cls=f"badge {history.status}")
    tops = [step for step in history.steps.values() if step.is_top]
    done = sum(step.status == "completed" for step in tops)
    facts = [
        ("run", run.id),
        ("began", _moment(history.began_ns)),
        ("took", duration(history.active_ns // 1_000_000)),
        ("steps", f"{done} of {len(tops)} completed"),
        ("credits", f"{history.credits:,} (${history.credits / 1e6:,.4f})" if history.credits else ""),
        ("memory", f"{history.memory_mb:,} MB" if history.memory_mb else ""),
        ("lives", str(history.lives) if history.lives > 1 else ""),
        ("file", run.path),
        ("by", run.user),
    ]
    shown = [tag("li", f"{name} ", tag("b", value)) for name, value in facts if value]
    goal = tag("p", history.goal) if history.goal else ""
    return tag("header", tag("h1", text(run.name), status), goal, tag("ul", *shown, cls="facts"))


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _nav(sections: Sequence[tuple[str, Markup]], *, waits: bool) -> Markup:
    names = {"failure": "waits"} if waits else {}
    links = [tag("li", tag("a", names.get(name, name).capitalize(), href=f"#{name}")) for name, _ in sections]
    return tag("nav", tag("ul", *links), aria_label="Sections")


def _section(identity: str, title: str, *inside: object, cls: str | None = None) -> Markup:
    return tag("section", tag("h2", title), *inside, id=identity, cls=cls)


# --- what failed -----------------------------------------------------------------------------------------------------


def _failure(history: RunHistory) -> Markup:
    if history.status == "completed":
        return Markup("")
    if history.status == "suspended":
        waits = [step for step in history.steps.values() if step.status == "suspended" and step.code]
        told = [
            tag(
                "p",
                tag("b", step.address),
                ": ",
                step.reason or step.code,
                tag("br"),
                history.asked.get(step.address, ""),
            )
            for step in waits[:50]
        ]
        return _section("failure", "It waits for an answer", *told, cls="waits")
    failed = [step for step in history.steps.values() if step.status == "failed"]
    if not history.error and not failed:
        return Markup("")
    first = history.error or {}
    where = first.get("step") or ""
    told = [_error(where, first, history.steps.get(where))] if first else []
    others = [step for step in failed if step.address != where and not _passed_on(step)]
    if others:
        rows = [_other(step) for step in others[:50]]
        more = f" (the first 50 of {len(others)})" if len(others) > 50 else ""
        told += [tag("h3", f"Failed as well{more}"), tag("table", tag("tbody", *rows))]
    return _section("failure", "What failed, and why", *told, cls="bad")


def _other(step: StepHistory) -> Markup:
    taken = tag("span", " (on_error goes on)", cls="dim") if step.continued else ""
    cells = tag("td", step.address, cls="mono nowrap"), tag("td", *_said(step.error), taken)
    return tag("tr", *cells, data_step=step.address, tabindex=0)


def _passed_on(step: StepHistory) -> bool:
    """A composite that failed because of what is inside it."""
    inner = (step.error or {}).get("step")
    return isinstance(inner, str) and inner != step.address


def _said(error: Wire | None) -> list[object]:
    error = error or {}
    return [tag("b", error.get("code", ""), cls="failed"), " ", error.get("message", "")]


def _error(where: str, error: Wire, step: StepHistory | None) -> Markup:
    parts: list[object] = []
    if where:
        parts.append(
            tag("p", tag("b", where, cls="mono"), f" · {step.attempts} attempts" if step and step.attempts > 1 else "")
        )
    parts.append(tag("p", *_said(error)))
    context = error.get("context") or {}
    for name, value in context.items():
        if isinstance(value, str) and value and ("\n" in value.strip() or name in ("stdout", "stderr", "traceback")):
            parts += [tag("h3", name), tag("pre", lines(value[-6_000:]), tabindex=0)]
        elif value not in (None, "", {}, []):
            parts.append(tag("p", f"{name}: ", tag("code", _brief(value, 600))))
    if error.get("cause"):
        parts.append(tag("p", "cause: ", tag("code", error["cause"])))
    return tag("div", *parts)


def _result(history: RunHistory) -> Markup:
    if history.status != "completed":
        return Markup("")
    value = history.result
    if isinstance(value, Mapping) and not _is_stand_in(value):
        closed = len(value) > MOST_OPEN
        rows = [
            tag("tr", tag("td", name, cls="mono nowrap"), tag("td", _value(one, closed=closed)))
            for name, one in value.items()
        ]
        return _section("result", "Result", tag("table", tag("tbody", *rows))) if rows else Markup("")
    return _section("result", "Result", _value(value)) if value is not None else Markup("")


def _value(value: object, *, closed: bool = False) -> Markup:
    """A value; ``closed`` shows a large one as its beginning, to be opened."""
    shown = value if isinstance(value, str) else _json(value)
    shown = shown.rstrip("\n")
    cut = shown[:20_000] + (f"\n… {len(shown):,} characters" if len(shown) > 20_000 else "")
    if "\n" not in cut and len(cut) <= 120:
        return tag("code", cut)
    whole = tag("pre", lines(cut), tabindex=0)
    if not closed:
        return whole
    begin = line(value if isinstance(value, str) else _json(value, None), 90)
    return tag("details", tag("summary", tag("code", begin)), whole)


def _is_stand_in(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"$blob", "bytes"}


def _json(value: object, indent: int | None = 2) -> str:
    if _is_stand_in(value):
        assert isinstance(value, Mapping)
        return f"({value['bytes']:,} bytes, kept beside the journal)"
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def _brief(value: object, limit: int) -> str:
    return line(value if isinstance(value, str) else _json(value, None), limit)


# --- graph and timeline ----------------------------------------------------------------------------------------------


def _graph(history: RunHistory, plan: PlanSummary | None, critical: Sequence[str]) -> Markup:
    if plan is None or not plan.steps:
        return Markup("")
    drawing = tag(
        "div", graph_svg(history, plan, critical), cls="scroll", tabindex=0, role="region", aria_label="Graph"
    )
    shown = {step.status for step in history.steps.values() if step.is_top} | {"completed"}
    signs = [tag("span", tag("b", SIGNS[status], cls=status), f" {status}") for status in SIGNS if status in shown]
    legend = tag("div", *signs, tag("span", tag("i"), "critical path") if critical else "", cls="legend")
    return _section("graph", "Graph", drawing, legend)


def _scroll(label: str, inside: Markup) -> Markup:
    """Something large in a window of its own, which the keyboard can scroll."""
    return tag("div", inside, cls="scroll", tabindex=0, role="region", aria_label=label)


def _timeline(history: RunHistory, plan: PlanSummary | None, critical: Sequence[str]) -> Markup:
    axis = Axis(history.stretches)
    batch_of = {name: number for number, batch in enumerate(plan.batches) for name in batch} if plan else {}
    rows = rows_of(history, axis, batch_of, critical)
    if not rows:
        return Markup("")
    shown = rows if len(rows) <= MOST_ROWS else _most_telling(rows)
    note = f"The {len(shown):,} most telling of {len(rows):,} rows." if len(shown) < len(rows) else ""
    inside: list[object] = [_axis(axis)]
    group: tuple[int, str] | None = None
    for row in shown:
        if (row.batch, row.agent) != group and (plan is not None or row.agent):
            group = row.batch, row.agent
            inside.append(tag("div", _group(row, batch_of), cls="group"))
        inside.append(_row(row, axis))
    told = _path_in_words(history, critical)
    chart = _scroll("Timeline", tag("div", *inside, cls="gantt"))
    return _section("timeline", "Timeline", told, tag("p", note, cls="dim") if note else "", chart)


def _group(row: Row, batch_of: Mapping[str, int]) -> str:
    what = "Phase" if row.address.startswith("task:") else "Batch"
    batch = (
        f"{what} {row.batch + 1}" if row.batch < len(batch_of) and batch_of else "After the graph" if batch_of else ""
    )
    return " · ".join(word for word in (batch, row.agent) if word)


def _most_telling(rows: list[Row]) -> list[Row]:
    """Failures, the critical path, outer steps before inner ones, the longest first; in their own order."""
    ranked = sorted(rows, key=lambda row: (row.status != "failed", not row.critical, row.depth, -row.duration_ms))
    kept = {id(row) for row in ranked[:MOST_ROWS]}
    return [row for row in rows if id(row) in kept]


def _axis(axis: Axis) -> Markup:
    ticks = []
    for ms in axis.ticks():
        part = axis.part(ms)
        ticks.append(tag("span", duration(round(ms)), style=f"left:{part:.2%}", cls="end" if part > 0.96 else None))
    return tag("div", *ticks, cls="axis", aria_hidden="true")


def _row(row: Row, axis: Axis) -> Markup:
    bars = [
        tag(
            "span",
            cls=f"bar {bar.status}{' soft' if bar.soft else ''}",
            style=f"left:{bar.left * 100:.3f}%;width:{bar.width * 100:.3f}%",
            title=bar.title,
        )
        for bar in row.bars
    ]
    cuts = [tag("span", cls="cut", style=f"left:{at * 100:.3f}%", title="the run went on") for at in axis.breaks]
    indent = f"padding-left:{min(row.depth, 6) * 10}px" if row.depth else None
    return tag(
        "div",
        tag("span", row.address, cls="label", title=row.address, style=indent),
        tag("span", *bars, *cuts, cls="lane"),
        tag("span", duration(row.duration_ms) if row.duration_ms else "", cls="took"),
        cls=f"row{' critical' if row.critical else ''}",
        data_step=row.address,
        tabindex=0,
        role="button",
        aria_label=f"{row.address}, {row.status}",
    )


def _path_in_words(history: RunHistory, critical: Sequence[str]) -> Markup:
    if not critical:
        return Markup("")
    spent = sum(history.steps[name].duration_ms for name in critical)
    names = [
        tag("code", text(name, 40))
        for name in (critical if len(critical) <= 12 else [*critical[:6], "…", *critical[-5:]])
    ]
    words = f"The end waited for {len(critical)} step{'s' if len(critical) != 1 else ''} ({duration(spent)}): "
    return tag("p", words, joined(names, " → "))


# --- steps -----------------------------------------------------------------------------------------------------------


def _steps(history: RunHistory) -> Markup:
    steps = list(history.steps.values())
    if not steps:
        return Markup("")
    shown = steps
    if len(steps) > MOST_STEPS:
        ranked = sorted(steps, key=lambda step: (step.status != "failed", not step.is_top))[:MOST_STEPS]
        chosen = {step.address for step in ranked}
        shown = [step for step in steps if step.address in chosen]
    paid = any(step.credits for step in steps)
    head = tag(
        "tr",
        *(tag("th", name) for name in ("Step", "Status", "What")),
        tag("th", "Attempts", cls="n wide"),
        tag("th", "Took", cls="n"),
        tag("th", "Credits", cls="n") if paid else "",
        tag("th", "Why", cls="wide"),
    )
    rows = [_step_row(step, paid=paid) for step in shown]
    statuses = sorted({step.status for step in steps}, key=list(SIGNS).index)
    boxes = [
        tag("label", tag("input", type="checkbox", checked=True, data_status=status), f" {status}", cls=status)
        for status in statuses
    ]
    filters = tag(
        "div",
        tag("input", type="search", id="step-filter", placeholder="Filter steps ( / )", aria_label="Filter steps"),
        *boxes,
        tag("span", id="steps-shown", cls="dim", aria_live="polite"),
        cls="filters",
    )
    note = f"{len(shown):,} of {len(steps):,} steps." if len(shown) < len(steps) else ""
    table = tag("table", tag("thead", head), tag("tbody", *rows), id="steps-table")
    return _section(
        "steps", "Steps", filters, tag("p", note, cls="dim") if note else "", tag("div", table, cls="scroll")
    )


def _step_row(step: StepHistory, *, paid: bool) -> Markup:
    again = " (reused)" if step.reused else " (recovered)" if step.recovered else ""
    what = " ".join(
        word
        for word in (step.label, f"×{step.total}" if step.total is not None else "", step.agent)
        if word and not (word == step.label and word.casefold() == step.agent.casefold())
    )
    error = step.error or {}
    why = f"{error['code']}: {error['message']}" if error.get("code") else step.reason or step.again
    return tag(
        "tr",
        tag("td", step.address, cls="mono"),
        tag("td", f"{SIGNS.get(step.status, '')} {step.status}{again}", cls=f"nowrap {step.status}"),
        tag("td", what),
        tag("td", str(step.attempts) if step.attempts > 1 else "", cls="n wide"),
        tag("td", duration(step.duration_ms) if step.began_ns else "", cls="n"),
        tag("td", f"{step.credits:,}" if step.credits else "", cls="n") if paid else "",
        tag("td", text(why, 300), cls="wide"),
        data_step=step.address,
        data_is=step.status,
        tabindex=0,
    )


def _details(history: RunHistory) -> list[dict[str, Any]]:
    """What the dialog shows of each step."""
    steps = list(history.steps.values())
    room = max(160, min(8_000, DETAILS_BYTES // max(1, len(steps))))
    return [_detail(step, room) for step in steps[: DETAILS_BYTES // 160]]


def _detail(step: StepHistory, room: int) -> dict[str, Any]:
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
        texts.append(["Error", _excerpt(_error_text(step.error), max(room, 1_500))])
    if step.result is not None:
        texts.append(["Result", _excerpt(step.result if isinstance(step.result, str) else _json(step.result), room)])
    return {
        "address": line(step.address, 400),
        "status": step.status,
        "about": " · ".join(line(word, 80) for word in about if word),
        "reason": line(step.reason or step.again, 400) if step.reason or step.again else "",
        "texts": texts,
    }


def _error_text(error: Wire) -> str:
    told = [f"{error.get('code')}: {error.get('message')}"]
    for name, value in (error.get("context") or {}).items():
        told.append(f"{name}: {value if isinstance(value, str) else _json(value, None)}")
    return "\n".join(told)


def _excerpt(value: str, room: int) -> str:
    if len(value) <= room:
        return block(value)
    return (
        f"{block(value[: room * 2 // 3])}\n… {len(value) - room:,} characters left out …\n{block(value[-room // 3 :])}"
    )


# --- models, cost, events --------------------------------------------------------------------------------------------


def _prompts(history: RunHistory) -> Markup:
    if not history.calls:
        return Markup("")
    room = max(300, PROMPTS_BYTES // len(history.calls) // 3)
    calls = [_call(call, room) for call in history.calls[: PROMPTS_BYTES // 900]]
    left = len(history.calls) - len(calls)
    note = tag("p", f"{left:,} more are in the journal.", cls="dim") if left else ""
    return _section("prompts", f"Prompts and answers ({len(history.calls):,})", *calls, note)


def _call(call: ModelCall, room: int) -> Markup:
    usage = ", ".join(f"{name} {value:,}" for name, value in call.usage.items() if isinstance(value, int) and value)
    facts = [call.model, duration(call.duration_ms), usage, f"{call.credits:,} credits" if call.credits else ""]
    turn = f" turn {call.turn}" if call.turn > 1 else ""
    head = tag(
        "summary",
        tag("b", f"{call.address}{turn}", cls="mono"),
        " ",
        tag("span", " · ".join(filter(None, facts)), cls="dim"),
    )
    said: list[object] = []
    for message in call.messages if isinstance(call.messages, list) else []:
        if isinstance(message, Mapping):
            content = message.get("content")
            shown = content if isinstance(content, str) else _json(content)
            said += _message(message.get("role", ""), shown, room)
    if call.text:
        said += _message("answer", call.text, room)
    if call.tool_calls:
        said += _message("tool calls", _json(call.tool_calls), room)
    return tag("details", head, *said, cls="call", open=False)


def _message(role: object, said: str, room: int) -> list[Markup]:
    return [tag("div", role, cls="role"), tag("pre", lines(_excerpt(said, room)))]


def _cost(history: RunHistory) -> Markup:
    if not history.credits and not history.calls:
        return Markup("")
    models: dict[str, list[int]] = {}
    for call in history.calls:
        line_ = models.setdefault(call.model, [0, 0, 0, 0])
        line_[0] += 1
        line_[1] += int(call.usage.get("input_tokens") or call.usage.get("prompt_tokens") or 0)
        line_[2] += int(call.usage.get("output_tokens") or call.usage.get("completion_tokens") or 0)
        line_[3] += call.credits
    tables: list[object] = []
    if models:
        head = ("Model", "Calls", "Tokens in", "Tokens out", "Credits", "USD")
        body = [_cost_row(name, [*numbers, f"${numbers[3] / 1e6:,.4f}"]) for name, numbers in sorted(models.items())]
        tables.append(_cost_table(head, body))
    steps = sorted((step for step in history.steps.values() if step.credits), key=lambda step: -step.credits)
    if steps:
        most = steps[0].credits
        body = [
            _cost_row(
                step.address, [tag("span", cls="share", style=f"width:{step.credits / most * 90:.1f}px"), step.credits]
            )
            for step in steps[:40]
        ]
        tables.append(_cost_table(("Step", "", "Credits"), body))
    total = tag("p", f"{history.credits:,} credits in all (${history.credits / 1e6:,.4f}).")
    return _section("cost", "Cost", total, *tables)


def _share(part: float) -> Markup:
    return tag("span", cls="share", style=f"width:{part * 90:.1f}px")


def _cost_table(head: Sequence[str], body: Sequence[Markup]) -> Markup:
    names = [tag("th", name, cls=None if number == 0 else "n") for number, name in enumerate(head)]
    return tag("table", tag("thead", tag("tr", *names)), tag("tbody", *body))


def _cost_row(name: str, cells: Sequence[object]) -> Markup:
    shown = [cell if isinstance(cell, str) else f"{cell:,}" for cell in cells]
    return tag("tr", tag("td", name, cls="mono"), *(tag("td", cell, cls="n") for cell in shown))


def _events() -> Markup:
    boxes = [
        tag("label", tag("input", type="checkbox", checked=True, data_tier=tier), f" {tier}")
        for tier in ("tier1", "tier2", "tier3", "other")
    ]
    filters = tag(
        "div",
        tag("input", type="search", id="event-filter", placeholder="Filter events ( e )", aria_label="Filter events"),
        *boxes,
        tag("span", id="events-shown", cls="dim", aria_live="polite"),
        cls="filters",
    )
    names = [tag("th", "#", cls="n"), tag("th", "At", cls="n"), *(tag("th", name) for name in ("Type", "Step", "What"))]
    table = tag("table", tag("thead", tag("tr", *names)), tag("tbody", id="events-body"))
    more = tag("button", "Show more", id="more", type="button", hidden=True)
    return _section("events", "Events", filters, tag("div", table, cls="scroll"), more)


def _event_rows(history: RunHistory, events: Iterable[Wire]) -> list[list[Any]]:
    """Number, time since the start, type, step and a few words of each event; of very many the first and the last."""
    told = [event for event in events if not event["type"].startswith(_NOISE)]
    if len(told) > MOST_EVENTS:
        half = MOST_EVENTS // 2
        bad = [event for event in told[half:-half] if event["type"].endswith(("failed", "denied", "exhausted"))]
        told = [*told[:half], *bad[:MOST_EVENTS], *told[-half:]]
    began = history.began_ns / 1e9
    return [_event_row(event, began) for event in told]


def _event_row(event: Wire, began: float) -> list[Any]:
    payload = event["payload"]
    at = max(0.0, datetime.fromisoformat(event["timestamp"]).timestamp() - began)
    step = line(payload.get("step_id") or "", 200)
    return [event["seq"], f"{at:.3f}", line(event["type"], 80), step, line(_words(payload), 160)]


def _words(payload: Wire) -> str:
    error = payload.get("error")
    if isinstance(error, Mapping):
        return f"{error.get('code')}: {error.get('message')}"
    told = []
    for name, value in payload.items():
        if name in _UNSAID or (name == "attempt" and value == 1):
            continue
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            told.append(f"{name} {value}" if name not in ("reason", "text", "prompt") else str(value))
        elif name in ("parameters", "result", "values"):
            told.append(_json(value, None)[:120])
    return " · ".join(told)


def _dialog() -> Markup:
    head = tag("header", tag("h2", id="step-name", cls="mono"), tag("button", "Close", id="close", type="button"))
    return tag("dialog", head, tag("div", id="step-body"), id="step", aria_labelledby="step-name")


def _footer(history: RunHistory) -> Markup:
    keys = {"/": "steps", "e": "events", "n": "next failure", "j k": "rows", "Enter": "details", "Esc": "close"}
    told = joined([joined([tag("kbd", key), f" {what}"]) for key, what in keys.items()], " · ")
    origin = f"Written by vrooli from the journal of {history.record.id}."
    return tag("footer", tag("p", "Keys: ", told, cls="keys"), tag("p", origin))
