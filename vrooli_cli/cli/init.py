"""``vrooli init``: a project that runs and tests at once, with no key."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from vrooli_cli.cli.console import Console, Invocation
from vrooli_cli.cli.help import VerbCommand
from vrooli_cli.cli.options import Debug
from vrooli_cli.errors import InputError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_SCHEMAS = ".vrooli"
_NAMES = {"gitignore": ".gitignore"}  # a file of that name would be one of this repository
_KINDS = ("routine", "swarm", "test", "project", "tool")


@app.command("init", cls=VerbCommand)
def init(
    ctx: typer.Context,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where; made when it is not there.")] = ".",
    debug: Debug = False,
) -> int:
    """Write a project: a routine, a tool, a test, `vrooli.yaml`, and schemas for editors.

    Nothing that is there is overwritten but the schemas, which are vrooli's own.
    """
    call: Invocation = ctx.obj
    call.debug = debug
    console, place = Console(call), Path(folder)
    written, kept = _write(place)
    for name in written:
        console.say(f"wrote {place / name}")
    for name in kept:
        console.say(f"kept  {place / name}, which was there")
    console.say("")
    console.say("Next:")
    go = "" if place.resolve() == Path.cwd() else f"cd {shlex.quote(folder)} && "
    console.say(f"  {go}vrooli run words")
    console.say(f"  {go}vrooli test")
    return 0


def _write(place: Path) -> tuple[list[str], list[str]]:
    """The names of the files that were written, and of those that were there.

    Raises:
        InputError: Something cannot be written.
    """
    from vrooli_cli.loading.schemas import json_schema

    written: list[str] = []
    kept: list[str] = []
    try:
        for name, content in _templates(files("vrooli_cli") / "templates" / "project"):
            (written if _made(place / name, content) else kept).append(name)
        for kind in _KINDS:
            name = f"{_SCHEMAS}/{kind}.schema.json"
            _schema(place / name, json_schema(kind))  # type: ignore[arg-type]
            written.append(name)
    except OSError as error:
        raise InputError(
            f"{error.filename or place} cannot be written: {(error.strerror or str(error)).lower()}"
        ) from None
    return written, kept


def _templates(folder: Traversable, before: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        name = before + _NAMES.get(entry.name, entry.name)
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _templates(entry, f"{name}/")
        else:
            yield name, entry.read_bytes()


def _made(path: Path, content: bytes) -> bool:
    """Write a new file; False when there is something of that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(21, "there is a folder of that name", str(path)) from None
        return False
    return True


def _schema(path: Path, schema: object) -> None:
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@app.command("-", hidden=True)
def _nothing() -> None:
    """Typer makes no group of a single command."""
