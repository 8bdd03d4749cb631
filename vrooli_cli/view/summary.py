"""What stays on the terminal when a run is over: what failed and why, what came out, time, credits, what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from shlex import quote
from typing import Any

from vrooli_cli.view.board import CANCELLED, COMPLETED, FAILED, SKIPPED, SUSPENDED
from vrooli_cli.view.frame import COLOURS, Look
from vrooli_cli.view.line import Line
from vrooli_cli.view.state import Failure, ViewState, stderr_tail
from vrooli_cli.view.text import REASON_LIMIT, cells, count, duration, line, plural
from vrooli_cli.view.told import ALERT, reason_of

FAILURES_SHOWN = 5
OUTPUTS_SHOWN = 8
REASON_ROWS = 8
_STATES = {"completed": COMPLETED, "failed": FAILED, "suspended": SUSPENDED}


def final_summary(
    state: ViewState,
    result: Mapping[str, Any] | None,
    hint: str | None = None,
    *,
    look: Look | None = None,
    width: int = 80,
    now: datetime | None = None,
) -> list[Line]:
    """The lines that a run leaves behind.

    Args:
        state: What the events said.
        result: The ExecutionResult on the wire; without one, what the events said.
        hint: The command that goes on; None names ``vrooli resume`` or ``vrooli approve``, ``""`` names nothing.
        look: What the terminal can show.
        width: Its columns; reasons are broken there and other lines cut, but never below 60.
        now: For the time of a run that has not ended.
    """
    look = look or Look()
    status = str((result or {}).get("status") or state.status)
    width = max(width, 60)
    lines = _failures(state, result, look, width) if status != "completed" else _continued(state, look)
    lines += _questions(state, look) if status == "suspended" else []
    lines += _outputs(result, look)
    lines += _unpriced(state, look)
    lines.append(_verdict(state, result, status, look, width, now))
    lines += [Line(("  ", ""), (command, "bold")) for command in _commands(state, status, hint)]
    cut = [_cut(text, width) for text in lines]
    return cut if look.unicode else [text.ascii(4_000) for text in cut]


def _cut(text: Line, width: int) -> Line:
    """A command is shown whole; all else is cut."""
    return text if text.plain.startswith("  vrooli") else text.cut(width)


def _failures(state: ViewState, result: Mapping[str, Any] | None, look: Look, width: int) -> list[Line]:
    causes = [failure for failure in state.failed.values() if not failure.continued and not _passed_on(state, failure)]
    lines: list[Line] = []
    for failure in causes[:FAILURES_SHOWN]:
        lines += _failure(failure.name, failure.code, failure.message, failure.tail, look, width)
    error = (result or {}).get("error")
    code, message = reason_of(error, REASON_LIMIT) if error else state.error
    if (code or message) and not any(failure.code == code and failure.message == message for failure in causes):
        step = line(error.get("step") or "", 120) if isinstance(error, Mapping) else ""
        lines += _failure(step or state.name or "run", code, message, stderr_tail(error), look, width)
    more = len(causes) - FAILURES_SHOWN + max(0, state.failures - len(state.failed))
    if more > 0 and causes:
        lines.append(Line((f"  … {plural(more, 'more failure')}", "dim")))
    return lines


def _passed_on(state: ViewState, failure: Failure) -> bool:
    """True when a step inside of it failed, is listed itself, and this failure only passes it on."""
    return bool(failure.cause) and failure.cause in state.failed


def _failure(name: str, code: str, message: str, tail: tuple[str, ...], look: Look, width: int) -> list[Line]:
    head = Line((f"{look.sign(FAILED)} ", "red"), (name, "bold"))
    head.add(f"  {code}", "red") if code else None
    head.add(f"  {message}")
    return [*head.wrap(width, 2, REASON_ROWS), *(Line(("  │ ", "dim"), (part, "dim")) for part in tail)]


def _continued(state: ViewState, look: Look) -> list[Line]:
    """A run may succeed although steps failed (``on_error: continue``); it says so in a line."""
    if not state.board.counts[FAILED]:
        return []
    first = next(iter(state.failed.values()), None)
    text = Line((f"{look.sign(ALERT)} ", "yellow")).add(
        f"{plural(state.board.counts[FAILED], 'step')} failed and did not stop the run"
    )
    return [text.add(f": {first.name}: {first.message}" if first else "", "dim")]


def _questions(state: ViewState, look: Look) -> list[Line]:
    lines = []
    for address, (question, _) in list(state.asked.items())[:FAILURES_SHOWN]:
        lines.append(
            Line((f"{look.sign(SUSPENDED)} ", COLOURS[SUSPENDED]), (line(address, 120), "bold"), " waits: ", question)
        )
    return lines


def _outputs(result: Mapping[str, Any] | None, look: Look) -> list[Line]:
    value = (result or {}).get("result")
    if value is None:
        return []
    named = list(value.items()) if isinstance(value, Mapping) else [("result", value)]
    names = [line(name, 40) for name, _ in named[:OUTPUTS_SHOWN]]
    widest = max((cells(name) for name in names), default=0)
    lines = [
        Line("  ", (name + " " * (widest - cells(name)), "dim"), "  ", in_short(item))
        for name, (_, item) in zip(names, named, strict=False)
    ]
    if len(named) > OUTPUTS_SHOWN:
        lines.append(Line((f"  … {plural(len(named) - OUTPUTS_SHOWN, 'more output')}", "dim")))
    return lines


def _unpriced(state: ViewState, look: Look) -> list[Line]:
    """What was not counted (``--allow-unpriced``)."""
    if not state.unpriced:
        return []
    text = Line((f"{look.sign(ALERT)} ", "yellow"))
    return [text.add(f"counted as 0 credits, for nobody knows the price: {', '.join(state.unpriced)}")]


def in_short(value: Any) -> str:
    """A value in a few words, however large it is."""
    if isinstance(value, str):
        first = line(value.strip().partition("\n")[0].strip(), 80)
        return first if len(value) <= 80 and "\n" not in value.strip() else f"{first} ({count(len(value))} characters)"
    if isinstance(value, Mapping):
        names = ", ".join(line(name, 24) for name in list(value)[:4])
        return f"{{{names}{', …' if len(value) > 4 else ''}}}"
    if isinstance(value, (list, tuple)):
        return plural(len(value), "item")
    return (
        {True: "true", False: "false", None: "null"}.get(value, line(value, 80)) if _simple(value) else line(value, 80)
    )


def _simple(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _verdict(
    state: ViewState, result: Mapping[str, Any] | None, status: str, look: Look, width: int, now: datetime | None
) -> Line:
    board, mark = state.board, _STATES.get(status, SKIPPED)
    text = Line((look.sign(mark), COLOURS[mark]), " ", (state.name or "run", "bold"), f" {status}")
    ms = (result or {}).get("duration_ms")
    if type(ms) is not int:
        ms = state.elapsed_ms(now or state.seen or datetime.now().astimezone())
    text.add(f" {'in' if status == 'completed' else 'after'} {duration(ms)}")
    noun = "task" if state.crew is not None else "step"
    went = board.counts[COMPLETED]
    parts = [plural(went, noun) if went == board.total else f"{count(went)}/{count(board.total)} {noun}s"]
    parts += [f"{count(board.counts[SKIPPED])} skipped"] if board.counts[SKIPPED] else []
    parts += [f"{count(board.counts[CANCELLED])} cancelled"] if board.counts[CANCELLED] else []
    parts += [f"{count(_credits(state, result))} credits"] if _credits(state, result) else []
    parts += [state.run_id] if state.run_id else []
    for part in parts:
        if text.width + 3 + cells(part) <= width:
            text.add(f" {look.dot} {part}", "dim")
    return text


def _credits(state: ViewState, result: Mapping[str, Any] | None) -> int:
    used = ((result or {}).get("resources_used") or {}).get("credits_used")
    return int(used) if isinstance(used, str) and used.isdecimal() else state.credits


def _commands(state: ViewState, status: str, hint: str | None) -> list[str]:
    if hint is not None:
        return [hint] if hint else []
    if state.started is None or status not in ("failed", "cancelled", "suspended"):
        return []
    if status == "suspended" and state.asked:
        asked = list(state.asked.items())[:FAILURES_SHOWN]
        return [_answer(state.run_id, quote(line(address, 120)), code) for address, (_, code) in asked]
    unknown = [failure for failure in state.failed.values() if failure.code == "OUTCOME_UNKNOWN"]
    told = [failure for failure in unknown if not failure.continued and not _passed_on(state, failure)]
    if told:
        return [_answer(state.run_id, quote(failure.name), failure.code) for failure in told[:FAILURES_SHOWN]]
    return [f"vrooli resume {state.run_id}"]


def _answer(run_id: str, step: str, code: str) -> str:
    if code == "OUTCOME_UNKNOWN":
        return f"vrooli resume {run_id} --assume {step}=done  (or =failed, =rerun)"
    return f"vrooli approve {run_id} {step}"
