"""What the shell completes: routines of the project, tools, files. Quick, and silent whatever goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from vrooli_cli.model.store import Store

_SUFFIXES = (".yaml", ".yml")
_MOST = 200


def routines(incomplete: str) -> list[str]:
    """Names in ``routines/`` of the project, and YAML files and folders that begin so."""
    try:
        return sorted({*_names(incomplete), *_files(incomplete)})[:_MOST]
    except (OSError, ValueError):
        return []


def _names(incomplete: str) -> Iterator[str]:
    if "/" in incomplete:
        return
    from vrooli_cli.loading.project import find_project

    root = find_project(Path())
    if root is not None:
        for path in (root / "routines").glob(f"{incomplete}*"):
            if path.suffix in _SUFFIXES:
                yield path.name.split(".")[0] if path.name.count(".") == 1 else path.name


def _files(incomplete: str) -> Iterator[str]:
    folder, _, start = incomplete.rpartition("/")
    base = Path(folder or ("/" if incomplete.startswith("/") else "."))
    for path in base.iterdir():
        if path.name.startswith(start) and (start.startswith(".") or not path.name.startswith(".")):
            name = f"{folder}/{path.name}" if "/" in incomplete else path.name
            if path.suffix in _SUFFIXES:
                yield name
            elif path.is_dir() and start:
                yield f"{name}/"


def tools(incomplete: str) -> list[str]:
    """Names of tools."""
    from vrooli_cli.errors import VrooliError

    try:
        from vrooli_cli.cli.session import registry

        return sorted(tool.name for tool in registry() if tool.name.startswith(incomplete))
    except (VrooliError, OSError, ImportError):
        return []


def run_ids(incomplete: str) -> list[tuple[str, str]]:
    """Ids of the newest runs, each with its name and status."""
    from vrooli_cli.errors import VrooliError

    try:
        store = _store()
        found = [
            (run.id, f"{run.name} {run.status}") for run in store.runs(limit=_MOST) if run.id.startswith(incomplete)
        ]
        store.close()
    except (VrooliError, OSError, ImportError):
        return []
    return [*found, ("last", "the newest run")] if "last".startswith(incomplete) else found


def run_steps(ctx: typer.Context, incomplete: str) -> list[str]:
    """Paths of steps of the run that was named before."""
    from vrooli_cli.errors import VrooliError

    try:
        from vrooli_cli.journal.history import history_of

        store = _store()
        history = history_of(store, str(ctx.params.get("run") or "last"))
        store.close()
    except (VrooliError, OSError, ImportError):
        return []
    waiting = [step for step in history.asked if step.startswith(incomplete)]
    return waiting or [step for step in history.steps if step.startswith(incomplete)][:_MOST]


def _store() -> Store:
    import os

    from vrooli_cli.journal import open_store

    return open_store(os.environ.get("VROOLI_STORE") or None)
