"""The report: one HTML page that needs no network, no server and no script to be read.

Everything a person wants first stands first: did it work, and if not, why. The script only filters, opens a step's
details and listens to the keyboard; a content policy allows that one script and nothing else, so that nothing which a
tool or a model wrote could run even if it were not escaped, which it is.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

from vrooli_cli.model.history import RunHistory, StepHistory
from vrooli_cli.model.plan import PlanSummary
from vrooli_cli.view.report.calls import cost, prompts
from vrooli_cli.view.report.graph import SIGNS, graph_svg
from vrooli_cli.view.report.markup import Markup, data_block, data_bytes, joined, lines, tag, text
from vrooli_cli.view.report.news import event_data, events_table
from vrooli_cli.view.report.pieces import brief, is_stand_in, named, scroll, section, shown
from vrooli_cli.view.report.steps import details, parameters_text, steps_table
from vrooli_cli.view.report.timeline import MOST_ROWS, Axis, Row, critical_path, rows_of, tasks_plan
from vrooli_cli.view.text import duration, place

MOST_BYTES: Final = 860_000
"""What a page of a few hundred steps takes at the most; graph, timeline and table of very many steps take more."""
LEAST_BYTES: Final = 200_000
"""What is left for the texts in any case."""
MOST_OPEN: Final = 8
"""Of more outputs each is shown as its beginning."""
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
    critical = critical_path(history, plan) if history.ended else []
    sections = {
        "failure": _failure(history),
        "result": _result(history),
        "inputs": _inputs(history),
        "graph": _graph(history, plan, critical),
        "timeline": _timeline(history, plan, critical),
        "steps": steps_table(history),
        "prompts": Markup(""),
        "cost": cost(history),
        "events": events_table(),
    }
    room = max(LEAST_BYTES, MOST_BYTES - sum(len(one.encode()) for one in sections.values()))
    sections["prompts"] = prompts(history, room * 35 // 100)
    room -= len(sections["prompts"].encode())
    data = {"steps": details(history, room * 55 // 100)}
    room -= data_bytes(data)
    data |= event_data(history, events, room * 45 // 100)  # the rest is what the rows need beside their words
    there = [(name, section) for name, section in sections.items() if section]
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


# --- what failed -----------------------------------------------------------------------------------------------------


def _failure(history: RunHistory) -> Markup:
    if history.status == "completed":
        return Markup("")
    if history.status == "suspended":
        waits = [step for step in history.steps.values() if step.status == "suspended" and step.code]
        told = [
            tag(
                "p",
                tag("b", place(step.address), cls="mono"),
                ": ",
                step.reason or step.code,
                tag("br"),
                history.asked.get(step.address, ""),
                tag("br"),
                tag("code", _answer(history.record.id, step)),
            )
            for step in waits[:50]
        ]
        return section("failure", "It waits for an answer", *told, cls="waits")
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
    told.append(tag("p", "go on with: ", tag("code", f"vrooli resume {history.record.id}"), cls="dim"))
    return section("failure", "What failed, and why", *told, cls="bad")


def _answer(run: str, step: StepHistory) -> str:
    """The command that answers what a suspended step asks."""
    where = shlex.quote(step.address)
    if step.code == "OUTCOME_UNKNOWN":
        return f"vrooli resume {run} --assume {where}=done  (or =failed, =rerun)"
    return f"vrooli approve {run} {where} --resume"


def _other(step: StepHistory) -> Markup:
    taken = tag("span", " (on_error goes on)", cls="dim") if step.continued else ""
    cells = tag("td", place(step.address), cls="mono nowrap"), tag("td", *_said(step.error), taken)
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
            tag(
                "p",
                tag("b", place(where), cls="mono"),
                f" · {step.attempts} attempts" if step and step.attempts > 1 else "",
                data_step=where,
                tabindex=0,
                cls="link",
            )
        )
    parts.append(tag("p", *_said(error)))
    if step is not None and step.parameters:
        parts.append(tag("pre", lines(parameters_text(step.parameters)[:2_000]), tabindex=0))
    context = error.get("context") or {}
    for name, value in context.items():
        if isinstance(value, str) and value and ("\n" in value.strip() or name in ("stdout", "stderr", "traceback")):
            parts += [tag("h3", name), tag("pre", lines(value[-6_000:]), tabindex=0)]
        elif value not in (None, "", {}, []):
            parts.append(tag("p", f"{name}: ", tag("code", brief(value, 600))))
    if error.get("cause"):
        parts.append(tag("p", "cause: ", tag("code", error["cause"])))
    return tag("div", *parts)


def _result(history: RunHistory) -> Markup:
    value = history.result
    if history.status != "completed" or value is None or value == {}:
        return Markup("")
    if isinstance(value, Mapping) and not is_stand_in(value):
        return section("result", "Result", named(value, closed=len(value) > MOST_OPEN))
    return section("result", "Result", shown(value))


def _inputs(history: RunHistory) -> Markup:
    if not history.inputs:
        return Markup("")
    return section("inputs", "Inputs", named(history.inputs, closed=True))


# --- graph and timeline ----------------------------------------------------------------------------------------------


def _graph(history: RunHistory, plan: PlanSummary | None, critical: Sequence[str]) -> Markup:
    if plan is None or not plan.steps:
        return Markup("")
    drawing = scroll("Graph", graph_svg(history, plan, critical))
    there = {step.status for step in history.steps.values() if step.is_top} | {"completed"}
    signs = [tag("span", tag("b", SIGNS[status], cls=status), f" {status}") for status in SIGNS if status in there]
    fit = tag("button", "Fit the window", id="fit", type="button", hidden=True)
    legend = tag("div", *signs, tag("span", tag("i"), "critical path") if critical else "", fit, cls="legend")
    return section("graph", "Graph", drawing, legend)


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
    told = _path_in_words(history, axis, critical)
    chart = scroll("Timeline", tag("div", *inside, cls="gantt"))
    return section("timeline", "Timeline", told, tag("p", note, cls="dim") if note else "", chart)


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
    return tag("div", tag("div", *ticks), cls="axis", aria_hidden="true")


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
        tag("span", place(row.address), cls="label", title=row.address, style=indent),
        tag("span", *bars, *cuts, cls="lane"),
        tag("span", duration(row.duration_ms) if row.duration_ms else "", cls="took"),
        cls=f"row{' critical' if row.critical else ''}",
        data_step=row.address,
        tabindex=0,
        role="button",
        aria_label=f"{place(row.address)}, {row.status}",
    )


def _path_in_words(history: RunHistory, axis: Axis, critical: Sequence[str]) -> Markup:
    if not critical:
        return Markup("")
    spent = sum(history.steps[name].duration_ms for name in critical)
    names = [
        tag("code", place(name, 40))
        for name in (critical if len(critical) <= 12 else [*critical[:6], "…", *critical[-5:]])
    ]
    steps = f"{len(critical)} step{'s' if len(critical) != 1 else ''}"
    words = f"The end waited for {steps}, {duration(spent)} of {duration(round(axis.total_ms))}: "
    return tag("p", words, joined(names, " → "))


# --- below -----------------------------------------------------------------------------------------------------------


def _dialog() -> Markup:
    ways = [
        tag("button", title, id=name, type="button")
        for name, title in (("to-prompts", "Prompts"), ("to-events", "Events"), ("close", "Close"))
    ]
    head = tag("header", tag("h2", id="step-name", cls="mono"), tag("div", *ways, cls="nowrap"))
    return tag("dialog", head, tag("div", id="step-body"), id="step", aria_labelledby="step-name")


def _footer(history: RunHistory) -> Markup:
    keys = {
        "/": "steps",
        "e": "events",
        "n": "next failure",
        "j k": "rows",
        "Enter": "details",
        "z": "zoom",
        "Esc": "close",
    }
    told = joined([joined([tag("kbd", key), f" {what}"]) for key, what in keys.items()], " · ")
    origin = f"Written by vrooli from the journal of {history.record.id}."
    return tag("footer", tag("p", "Keys: ", told, cls="keys"), tag("p", origin))
