"""The result of ``vrooli run -o json`` as the outputs and the summary of a GitHub Action's step."""

from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

_CUT = 2_000
_MARKS = {"completed": "✅", "failed": "❌", "skipped": "⏭️", "cancelled": "🚫", "suspended": "⏸️"}


def main(path: str) -> None:
    """Write both, where GitHub says."""
    try:
        result: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = {"status": "failed", "result": None, "error": {"code": "INTERNAL", "message": "there is no result"}}
    _append("GITHUB_OUTPUT", output("status", result["status"]) + output("result", json.dumps(result["result"])))
    _append("GITHUB_STEP_SUMMARY", summary(result))


def output(name: str, value: str) -> str:
    """One output; its end is a text that the value cannot hold."""
    end = f"end-{uuid.uuid4()}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def summary(result: dict[str, Any]) -> str:
    """Markdown: the verdict, the outputs, the steps."""
    lines = [f"### {_MARKS.get(result['status'], '')} {result['status']}", ""]
    error = result.get("error")
    if error:
        lines += [f"**{error['code']}**: {_cell(error['message'])}", ""]
    outputs = result["result"] if isinstance(result["result"], dict) else {}
    if outputs:
        lines += ["| output | value |", "| --- | --- |"]
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in outputs.items()]
        lines.append("")
    steps = result.get("steps") or {}
    if steps:
        lines += ["| step | status | time |", "| --- | --- | ---: |"]
        lines += [
            f"| {_cell(path)} | {_MARKS.get(step['status'], '')} {step['status']} | {step.get('duration_ms', 0)} ms |"
            for path, step in list(steps.items())[:200]
        ]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= _CUT else f"{text[:_CUT]}…"
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;").replace("`", "&#96;")
    return escaped.replace("\r", "").replace("\n", "<br>")


def _append(variable: str, text: str) -> None:
    place = os.environ.get(variable)
    if place:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main(sys.argv[1])
