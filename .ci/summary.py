"""The result of ``vrooli run -o json`` as the outputs of a GitHub Action's step.

The summary of a run is vrooli's own; one that was refused has none, so it is written here.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any


def main(path: str) -> None:
    """Write what GitHub shows, where it says."""
    try:
        result: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = {"status": "failed", "result": None, "error": {"code": "INTERNAL", "message": "there is no result"}}
    _append("GITHUB_OUTPUT", output("status", result["status"]) + output("result", json.dumps(result["result"])))
    told = os.environ.get("GITHUB_STEP_SUMMARY")
    if told and not (Path(told).exists() and Path(told).stat().st_size):
        _append("GITHUB_STEP_SUMMARY", summary(result))


def output(name: str, value: str) -> str:
    """One output; its end is a text that the value cannot hold."""
    end = f"end-{uuid.uuid4()}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def summary(result: dict[str, Any]) -> str:
    """Markdown: the verdict, and why."""
    error = result.get("error") or {"code": "", "message": ""}
    return f"### ❌ {result['status']}\n\n**{error['code']}**\n\n    {_indented(error['message'])}\n"


def _indented(text: str) -> str:
    return text.replace("\r", "").replace("\n", "\n    ")


def _append(variable: str, text: str) -> None:
    place = os.environ.get(variable)
    if place:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main(sys.argv[1])
