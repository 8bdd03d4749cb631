"""What a start imports; each of these costs tens of milliseconds, every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("openai", "httpx", "jsonschema", "psutil", "jmespath", "mcp", "pysat", "genai_prices", "jinja2")
FLOORS = (
    "vrooli_cli.tier1",
    "vrooli_cli.model.organization",
    "vrooli_cli.tier3.strategies_ai",
    "vrooli_cli.journal.history",
)


def imported(folder: Path, *words: str) -> set[str]:
    """The modules in the process at the end of a command line."""
    code = (
        "import json, sys; from vrooli_cli.cli.main import main; code = main(sys.argv[1:]); "
        "sys.stderr.write(json.dumps(sorted(sys.modules))); sys.exit(code)"
    )
    environ = {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder), "COLUMNS": "80"}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True)
    modules: list[str] = json.loads(done.stderr.splitlines()[-1])
    return set(modules)


def test_a_run_of_one_tool_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("name: one\nsteps:\n  - { id: a, tool: echo, parameters: { message: 1 } }\n")
    modules = imported(tmp_path, "run", "one.yaml", "-q")
    assert sorted(name for name in (*HEAVY, *FLOORS) if name in modules) == []
    assert {"yaml", "networkx", "pydantic", "sqlite3"} <= modules  # the names are still the ones that would be seen
