"""A run in a page of Markdown, for ``$GITHUB_STEP_SUMMARY``."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from vrooli_cli.model.history import RunHistory, StepHistory
from vrooli_cli.view.report.graph import SIGNS
from vrooli_cli.view.text import block, duration, line

MOST_ROWS = 200
_EMOJI = {"completed": "✅", "failed": "❌", "suspended": "⏸️", "cancelled": "⏹️", "running": "▶️"}
_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]()#+!|~<>"} | {"\n": " "})


def summary_markdown(history: RunHistory) -> str:
    """What happened, the failure first."""
    took = duration(history.active_ns // 1_000_000)
    facts = [took, f"{history.credits:,} credits" if history.credits else "", f"run `{_code(history.record.id)}`"]
    title = f"### {_EMOJI.get(history.status, '')} {_plain(history.record.name)} {history.status}"
    parts = [title, " · ".join(filter(None, facts))]
    if history.error and history.status != "completed":
        parts.append(_failure(history.error))
    tops = [step for step in history.steps.values() if step.is_top]
    if tops:
        parts.append(_table(tops))
    if history.status == "completed" and isinstance(history.result, dict) and history.result:
        parts.append(_outputs(history.result))
    return "\n\n".join(parts) + "\n"


def _failure(error: Any) -> str:
    step = f"**{_plain(error['step'])}**: " if error.get("step") else ""
    told = f"> {step}`{_code(error.get('code', ''))}` {_plain(error.get('message', ''))}"
    tail = (error.get("context") or {}).get("stderr")
    return told + (f"\n\n{_fenced(str(tail)[-3_000:])}" if tail else "")


def _table(steps: list[StepHistory]) -> str:
    ordered = sorted(steps, key=lambda step: step.status != "failed") if len(steps) > MOST_ROWS else steps
    rows = ["| step | status | took | |", "|---|---|--:|---|"]
    for step in ordered[:MOST_ROWS]:
        error = step.error or {}
        why = f"{error['code']}: {error['message']}" if error.get("code") else step.reason
        sign = SIGNS.get(step.status, "")
        took = duration(step.duration_ms) if step.began_ns else ""
        rows.append(f"| {_plain(step.address)} | {sign} {step.status} | {took} | {_plain(line(why, 200))} |")
    if len(steps) > MOST_ROWS:
        rows.append(f"\n{len(steps) - MOST_ROWS:,} more steps are not shown.")
    return "\n".join(rows)


def _outputs(result: dict[str, Any]) -> str:
    shown = []
    for name, value in list(result.items())[:20]:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        body = f"`{_code(text)}`" if len(text) <= 80 and "\n" not in text.strip() else f"\n\n{_fenced(text[:4_000])}"
        shown.append(f"**{_plain(name)}** {body}")
    return "\n\n".join(shown)


def _plain(text: object) -> str:
    """Text that is neither Markdown nor HTML."""
    return line(text, 500).translate(_SPECIAL)


def _code(text: str) -> str:
    return line(text.strip(), 200).replace("`", "'").replace("|", "\\|")


def _fenced(text: str) -> str:
    return f"<pre>{escape(block(text))}</pre>"
