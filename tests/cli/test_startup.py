"""What a start imports; each of these costs tens of milliseconds, every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("openai", "httpx", "jsonschema", "psutil", "jmespath", "mcp", "pysat", "jinja2", "pydantic", "rich")
OURS = (
    "vrooli_cli.tier1",
    "vrooli_cli.model.organization",
    "vrooli_cli.tier3.strategies_ai",
    "vrooli_cli.tier3.ai.live",
    "vrooli_cli.journal.history",
)
STORED = ("networkx", "yaml", "vrooli_cli.loading.bundle", "vrooli_cli.loading.forms")
GOLDENS = Path(__file__).parent.parent / "goldens" / "imports"
ONE = "name: one\nsteps:\n  - { id: a, tool: echo, parameters: { message: 1 } }\n"


def imported(folder: Path, *words: str) -> list[str]:
    """What is in the process at the end of a command line."""
    code = (
        "import json, sys; from vrooli_cli.cli.main import main; code = main(sys.argv[1:]); "
        "print(json.dumps(sorted(sys.modules)), file=sys.__stderr__); sys.exit(code)"
    )
    environ = {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder), "COLUMNS": "80"}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True)
    modules: list[str] = json.loads(done.stderr.splitlines()[-1])
    return modules


def golden(name: str, modules: list[str]) -> None:
    """Compare packages (ours: the floors) with the list that was read and kept; UPDATE_GOLDENS=1 writes it anew."""
    file = GOLDENS / f"{name}.txt"
    packages = {".".join(module.split(".")[: 2 if module.startswith("vrooli_cli.") else 1]) for module in modules}
    dear = {"asyncio", "importlib.metadata", "sqlite3", "ssl"} & set(modules)
    own = sys.stdlib_module_names | {"__main__", "sitecustomize", "cython_runtime"}
    found = sorted({one for one in packages if one not in own and not one.startswith("_")} | dear)
    if os.environ.get("UPDATE_GOLDENS"):
        file.write_text("".join(f"{one}\n" for one in found))
    assert found == file.read_text().split()


def test_what_help_imports(tmp_path: Path) -> None:
    golden("help", imported(tmp_path, "--help"))


def test_what_runs_import(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(ONE)
    cold = imported(tmp_path, "run", "one.yaml", "-q")
    golden("cold-run", cold)
    stored = imported(tmp_path, "run", "one.yaml", "-q")
    golden("stored-run", stored)
    assert sorted({*HEAVY, *OURS} & set(cold)) == []
    assert {*STORED} <= set(cold) - set(stored)  # the names are still the ones that would be seen
