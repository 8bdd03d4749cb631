"""What was asked of models and what they answered, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from vrooli_cli.model.history import ModelCall, RunHistory
from vrooli_cli.view.report.markup import Markup, lines, tag
from vrooli_cli.view.report.pieces import as_json, section
from vrooli_cli.view.report.room import fitted
from vrooli_cli.view.text import duration, place

_MOST_CALLS: Final = 400
_MOST_TEXT: Final = 40_000  # characters of one message
_MOST_PAID: Final = 40


def prompts(history: RunHistory, room: int) -> Markup:
    """Every answered call, closed, in the order of the answers; their texts in at most so many bytes."""
    if not history.calls:
        return Markup("")
    calls = history.calls[:_MOST_CALLS]
    said = [_said(call) for call in calls]
    empty = [[(role, "") for role, _ in one] for one in said]
    frames = sum(_html_bytes(_call(call, one)) for call, one in zip(calls, empty, strict=True))
    whole = [text for one in said for _, text in one]
    texts = iter(fitted(whole, max(0, room - frames), _MOST_TEXT, _text_bytes))
    shown = [_call(call, [(role, next(texts)) for role, _ in one]) for call, one in zip(calls, said, strict=True)]
    left = len(history.calls) - len(calls)
    note = tag("p", f"{left:,} more are in the journal.", cls="dim") if left else ""
    every = tag("p", tag("button", "Open all", id="open-calls", type="button"), cls="filters")
    return section("prompts", f"Prompts and answers ({len(history.calls):,})", every, *shown, note)


def _html_bytes(made: Markup) -> int:
    return len(made.encode())


def _text_bytes(said: str) -> int:
    return _html_bytes(lines(said))


def _call(call: ModelCall, said: Iterable[tuple[object, str]]) -> Markup:
    tokens = [f"{value:,} tokens {way}" for way, value in zip(("in", "out"), _tokens(call), strict=True) if value]
    facts = [call.model, duration(call.duration_ms), *tokens, f"{call.credits:,} credits" if call.credits else ""]
    turn = f" turn {call.turn}" if call.turn > 1 else ""
    head = tag(
        "summary",
        tag("b", f"{place(call.address)}{turn}", cls="mono"),
        " ",
        tag("span", " · ".join(filter(None, facts)), cls="dim"),
    )
    messages = [
        part for role, text in said for part in (tag("div", role, cls="role"), tag("pre", lines(text), tabindex=0))
    ]
    return tag("details", head, *messages, cls="call", data_call=call.address.partition("#")[0])


def _said(call: ModelCall) -> list[tuple[object, str]]:
    """The conversation of one turn: who says what."""
    said: list[tuple[object, str]] = []
    for message in call.messages if isinstance(call.messages, list) else []:
        if isinstance(message, Mapping):
            content = message.get("content")
            said.append((message.get("role", ""), content if isinstance(content, str) else as_json(content)))
    if call.text:
        said.append(("answer", _laid_out(call.text)))
    said += [_tool_call(used) for used in call.tool_calls or ()]
    for tool, result in call.returned:
        said.append((f"{tool} returned", result if isinstance(result, str) else as_json(result)))
    return said


def _tool_call(used: object) -> tuple[str, str]:
    """What the model wants to call, and its arguments."""
    function = used.get("function") if isinstance(used, Mapping) else None
    if not isinstance(function, Mapping):
        return "calls", as_json(used)
    return f"calls {function.get('name')}", _laid_out(str(function.get("arguments") or ""))


def _laid_out(answer: str) -> str:
    """An answer that is an object or a list of JSON, a line a value; any other as it is."""
    if not answer.lstrip().startswith(("{", "[")):
        return answer
    try:
        return json.dumps(json.loads(answer), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return answer


def _tokens(call: ModelCall) -> tuple[int, int]:
    """Into the model, and out of it."""
    usage = call.usage
    read = usage.get("input_tokens") or usage.get("prompt_tokens") or 0
    written = usage.get("output_tokens") or usage.get("completion_tokens") or 0
    return int(read), int(written)


def cost(history: RunHistory) -> Markup:
    """The sum, by model and by step."""
    if not history.credits and not history.calls:
        return Markup("")
    models: dict[str, list[int]] = {}
    for call in history.calls:
        sums = models.setdefault(call.model, [0, 0, 0, 0])
        for index, number in enumerate((1, *_tokens(call), call.credits)):
            sums[index] += number
    tables: list[object] = []
    if models:
        head = ("Model", "Calls", "Tokens in", "Tokens out", "Credits", "USD")
        body = [_cost_row(name, [*numbers, f"${numbers[3] / 1e6:,.4f}"]) for name, numbers in sorted(models.items())]
        tables.append(_cost_table(head, body))
    steps = sorted((step for step in history.steps.values() if step.credits), key=lambda step: -step.credits)
    if steps:
        most = steps[0].credits
        body = [
            _cost_row(place(step.address), [_share(step.credits / most), step.credits]) for step in steps[:_MOST_PAID]
        ]
        tables.append(_cost_table(("Step", "", "Credits"), body))
    total = tag("p", f"{history.credits:,} credits in all (${history.credits / 1e6:,.4f}).")
    return section("cost", "Cost", total, *tables)


def _share(part: float) -> Markup:
    return tag("span", cls="share", style=f"width:{part * 90:.1f}px")


def _cost_table(head: Sequence[str], body: Sequence[Markup]) -> Markup:
    names = [tag("th", name, cls=None if number == 0 else "n") for number, name in enumerate(head)]
    return tag("div", tag("table", tag("thead", tag("tr", *names)), tag("tbody", *body)), cls="across")


def _cost_row(name: str, cells: Sequence[object]) -> Markup:
    shown = [cell if isinstance(cell, str) else f"{cell:,}" for cell in cells]
    return tag("tr", tag("td", name, cls="mono"), *(tag("td", cell, cls="n") for cell in shown))
