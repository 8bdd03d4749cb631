"""What the shell completes: routines of the project, tools, runs, files. Quick, and silent whatever goes wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from vrooli_cli.model.store import Store
    from vrooli_cli.tier3.registry import ToolRegistry

_SUFFIXES = (".yaml", ".yml")
_TESTS = (".test.yaml", ".test.yml")
_NO_ROUTINE = (*_TESTS, "vrooli.yaml")
OUTCOMES = ("done", "failed", "rerun")
"""What `--assume` may say of a step."""
_MOST = 200


def script(shell: str) -> str | None:
    """What ``source_SHELL`` prints, where ours is better than typer's: a word with ``=`` in it, no blank behind it."""
    path = Path(__file__).parents[1] / "templates" / f"completion.{shell}"
    return path.read_text(encoding="utf-8") if shell in ("bash", "zsh") else None


def routines(incomplete: str) -> list[str]:
    """Names in ``routines/`` of the project, and YAML files and folders that begin so."""
    try:
        found = {*_names(incomplete), *_files(incomplete)}
    except (OSError, ValueError):
        return []
    return sorted(name for name in found if not name.endswith(_NO_ROUTINE))[:_MOST]


def tests(incomplete: str) -> list[str]:
    """Test files here and in ``routines/``, and folders."""
    try:
        found = {*_files(incomplete), *(_files(f"routines/{incomplete}") if "/" not in incomplete else ())}
    except (OSError, ValueError):
        found = set(_files(incomplete))
    return sorted(name for name in found if name.endswith((*_TESTS, "/")))[:_MOST]


def inputs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """``NAME=`` of every input of the routine that was named before; then the values, where they are few."""
    from vrooli_cli.errors import VrooliError

    file = _named(ctx, "file")
    if not file:
        return []
    try:
        from vrooli_cli.loading.bundle import load_bundle

        declared = load_bundle(file, raises=False).definition.inputs
    except (VrooliError, OSError, ImportError):
        return []
    return _assigned({name: one.schema for name, one in declared.items()}, incomplete)


def parameters(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The same for the parameters of the tool that was named before."""
    from vrooli_cli.errors import VrooliError

    try:
        name = _named(ctx, "name")
        found = next((tool for tool in _registry() if tool.name == name), None)
    except (VrooliError, OSError, ImportError):
        return []
    return _assigned(found.schema.get("properties", {}) if found is not None else {}, incomplete)


def _assigned(schemas: Mapping[str, Any], incomplete: str) -> list[tuple[str, str]]:
    """``NAME=``, or ``NAME=VALUE`` once that much stands there."""
    name, equals, _ = incomplete.partition("=")
    if not equals:
        told = [(f"{one}=", str(schema.get("description", ""))) for one, schema in schemas.items()]
    else:
        schema = schemas.get(name, {})
        values = ("true", "false") if schema.get("type") == "boolean" else schema.get("enum", ())
        told = [(f"{name}={value}", "") for value in values]
    return [one for one in told if one[0].startswith(incomplete)]


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
    """Names of tools, those of pinned MCP servers, too."""
    from vrooli_cli.errors import VrooliError

    try:
        return sorted(tool.name for tool in _registry() if tool.name.startswith(incomplete))
    except (VrooliError, OSError, ImportError):
        return []


def _registry() -> ToolRegistry:
    """The tools that are known without starting or importing anything."""
    from vrooli_cli.cli.session import registry
    from vrooli_cli.loading.project import load_project
    from vrooli_cli.tier3.mcp import pinned_tools, read_lock

    return registry().overlay(pinned_tools(read_lock(load_project().root)))


def run_ids(incomplete: str) -> list[tuple[str, str]]:
    """Ids of the newest runs, each with its name and status."""
    return _or_last(_runs(incomplete), incomplete)


def open_runs(incomplete: str) -> list[tuple[str, str]]:
    """Those that can be gone on with; all of them when none has stopped on its way."""
    found = _runs(incomplete)
    return [one for one in found if not one[1].endswith(" completed")] or _or_last(found, incomplete)


def _or_last(found: list[tuple[str, str]], incomplete: str) -> list[tuple[str, str]]:
    return [*found, ("last", "the newest run")] if "last".startswith(incomplete) else found


def _runs(incomplete: str) -> list[tuple[str, str]]:
    from vrooli_cli.errors import VrooliError

    try:
        store = _store()
        found = [
            (run.id, f"{run.name} {run.status}") for run in store.runs(limit=_MOST) if run.id.startswith(incomplete)
        ]
        store.close()
    except (VrooliError, OSError, ImportError):
        return []
    return found


def run_steps(ctx: typer.Context, incomplete: str) -> list[str]:
    """Paths of steps of the run that was named before."""
    from vrooli_cli.errors import VrooliError

    try:
        from vrooli_cli.journal.history import history_of

        store = _store()
        history = history_of(store, _named(ctx, "run") or "last")
        store.close()
    except (VrooliError, OSError, ImportError):
        return []
    waiting = [step for step in history.asked if step.startswith(incomplete)]
    return waiting or [step for step in history.steps if step.startswith(incomplete)][:_MOST]


def assumptions(ctx: typer.Context, incomplete: str) -> list[str]:
    """``STEP=done`` and the others, for the steps of the run that was named before."""
    step, equals, _ = incomplete.partition("=")
    steps = [step] if equals else run_steps(ctx, step)
    return [word for one in steps for word in (f"{one}={what}" for what in OUTCOMES) if word.startswith(incomplete)]


def _named(ctx: typer.Context, argument: str) -> str:
    """The verb's first argument; behind an option that has no value yet it stands among what was not understood."""
    return str(ctx.params.get(argument) or next((word for word in ctx.args if not word.startswith("-")), ""))


def _store() -> Store:
    import os

    from vrooli_cli.journal import open_store

    return open_store(os.environ.get("VROOLI_STORE") or None)
