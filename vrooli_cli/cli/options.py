"""The flags that several verbs share, and how their values are read; a wrong one is told in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from vrooli_cli.errors import did_you_mean


def choice(*words: str) -> dict[str, Any]:
    """Keywords of an option that is one of these words: how it is read, and what the shell offers."""

    def read(text: str) -> str:
        if text not in words:
            hint = did_you_mean(text, words)
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(words)}{f'; {hint}' if hint else ''}")
        return text

    def offer(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return {"parser": read, "autocompletion": offer}


def duration(text: str) -> int:
    """Milliseconds."""
    from vrooli_cli.loading.durations import parse_duration

    try:
        milliseconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return milliseconds


def positive_duration(text: str) -> int:
    """Milliseconds, at least one."""
    milliseconds = duration(text)
    if not milliseconds:
        raise typer.BadParameter("a time-out is longer than 0")
    return milliseconds


def executor(text: str) -> str:
    """Where tool calls run: ``local``, ``dask:local`` or ``dask://HOST:PORT``."""
    from vrooli_cli.loading.settings import executor as read

    try:
        return read(text.strip())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def whole(least: int) -> Callable[[str], int]:
    """A reader of whole numbers."""

    def read(text: str) -> int:
        clean = text.strip().replace("_", "")
        if not (clean.isascii() and clean.isdigit() and len(clean) <= 18 and int(clean) >= least):
            raise typer.BadParameter(f"expected a whole number, at least {least}, not {text!r}")
        return int(clean)

    return read


def dollars(text: str) -> float:
    """An amount of US dollars."""
    try:
        amount = float(text.removeprefix("$"))
    except ValueError:
        amount = -1.0
    if not 0 <= amount < 1e12:
        raise typer.BadParameter(f"expected US dollars, for example 0.50, not {text!r}")
    return amount


Json = Annotated[bool, typer.Option("--json", help="Short for -o json.", rich_help_panel="Output")]
Folders = Annotated[
    list[str] | None, typer.Option("--tools", metavar="DIR", help="A folder of tools beside the project's.")
]
ImportTools = Annotated[
    bool, typer.Option("--import-tools", help="Import the Python files of tools, too; without it they are only read.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.", rich_help_panel="Output")]
