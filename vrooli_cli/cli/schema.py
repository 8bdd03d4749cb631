"""``vrooli schema KIND``."""

from __future__ import annotations

from typing import Annotated

import typer

from vrooli_cli.cli.console import Invocation
from vrooli_cli.cli.help import VerbCommand
from vrooli_cli.cli.options import Json, choice

KINDS = ("routine", "swarm", "test", "project", "tool", "events")
app = typer.Typer(add_completion=False, rich_markup_mode=None)


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


@app.command("schema", cls=VerbCommand)
def schema(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS), autocompletion=_kinds)] = "routine",
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FORMAT", **choice("json", "yaml"), help="json (default) or yaml."),
    ] = "json",
    json: Json = False,
) -> int:
    """Print the JSON Schema of a kind of file, for editors.

    Put `# yaml-language-server: $schema=FILE` on the first line of a routine, with what this prints in FILE.
    """
    from vrooli_cli.cli.output import Stdout
    from vrooli_cli.errors import InputError, did_you_mean
    from vrooli_cli.loading.schemas import json_schema

    call: Invocation = ctx.obj
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) or f"there is {', '.join(KINDS)}"
        raise InputError(f"there is no schema {kind!r}; {hint}")
    stdout = Stdout(call)
    stdout.document(json_schema(kind), "json" if json else output)  # type: ignore[arg-type]
    stdout.check()
    return 0


@app.command("-", hidden=True)
def _nothing() -> None:
    """Typer makes no group of a single command."""
