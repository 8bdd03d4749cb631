"""Help pages: flags in groups, one line each where it fits; plain text, quick to make, good in a pipe."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from vrooli_cli.cli.console import coloured

_WIDEST = 100
_COLUMN = 26  # where what a flag does begins, at the most


class Page:
    """Lines of help for a terminal, or for a file."""

    def __init__(self) -> None:
        columns = shutil.get_terminal_size((80, 24)).columns
        self.width = max(60, min(columns, _WIDEST)) - 1
        self._colour = coloured(sys.stdout, os.environ)
        self._lines: list[str] = []

    def head(self, text: str, rest: str = "") -> None:
        """A heading with what stands beside it."""
        if self._lines:
            self._lines.append("")
        self._lines.append((f"\x1b[1m{text}\x1b[0m" if self._colour else text) + rest)

    def paragraphs(self, text: str) -> None:
        """Paragraphs, folded to the width."""
        for paragraph in textwrap.dedent(text).strip().split("\n\n"):
            self._lines.append("")
            self._lines += textwrap.wrap(" ".join(paragraph.split()), self.width)

    def table(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and what they do."""
        rows = list(rows)
        column = min(_COLUMN, max((len(name) for name, _ in rows), default=0) + 4)
        for name, about in rows:
            folded = textwrap.wrap(about, self.width - column) or [""]
            if len(name) + 4 > column:
                self._lines.append(f"  {name}")
            else:
                self._lines.append(f"  {name:<{column - 2}}{folded.pop(0)}".rstrip())
            self._lines += [" " * column + line for line in folded]

    def text(self) -> str:
        """The whole."""
        return "\n".join(self._lines) + "\n"


class _Plain:
    """How a flag's words become its value: by the parser that the flag has; text and yes or no are what they are.

    Typer makes a pydantic adapter for each flag to do the same, and imports most of pydantic for it: more than all that
    a short run costs.
    """

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value; a parser's BadParameter is told which flag it speaks of."""
        try:
            if param.multiple or param.nargs == -1:
                return tuple(self._read(one) for one in value or ())
            return None if value is None else self._read(value)
        except typer.BadParameter as error:
            error.param, error.ctx = param, ctx
            raise


def read_plainly(params: list[Any]) -> list[Any]:
    """The same parameters; those that are text, a bare flag, or have a ``parser`` are read without pydantic."""
    for param in params:
        about = getattr(param, "type_descriptor", None)
        if about is None:
            continue
        parser = about.parameter_info.parser
        if parser is not None or about.annotation in (str, list[str], bool):
            plain = _Plain(parser or (_same if about.annotation is bool else str))
            param.get_runtime_param = lambda plain=plain: plain
    return params


def _same(value: Any) -> Any:
    return value


class VerbCommand(TyperCommand):
    """A verb whose help is a :class:`Page`, and whose flags are read without pydantic."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Arguments and flags."""
        return read_plainly(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Usage, what it does, arguments, flags by group."""
        page = Page()
        shown = [param for param in self.get_params(ctx) if not getattr(param, "hidden", False)]
        arguments = [param for param in shown if param.param_type_name == "argument"]
        options = [param for param in shown if param.param_type_name != "argument"]
        usage = " ".join([ctx.command_path, *(_argument(param) for param in arguments), "[OPTIONS]"])
        page.head("Usage:", f" {usage}")
        page.paragraphs(self.help or "")
        if arguments:
            page.head("Arguments:")
            page.table((str(param.metavar or param.name), _about(param)) for param in arguments)
        for panel, group in _panels(options):
            page.head(f"{panel}:")
            page.table((_flag(param), _about(param)) for param in group)
        formatter.write(page.text())


class VerbGroup(TyperGroup):
    """A family of verbs whose help is a :class:`Page`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The verbs of the family."""
        page = Page()
        page.head("Usage:", f" {ctx.command_path} VERB [ARGUMENTS] [OPTIONS]")
        page.paragraphs(self.help or "")
        page.head("Verbs:")
        known = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        page.table((name, command.get_short_help_str(200)) for name, command in known if command is not None)
        page.paragraphs(f"`{ctx.command_path} VERB --help` tells the rest.")
        formatter.write(page.text())


def _argument(param: Any) -> str:
    name = str(param.metavar or param.name)
    return name if param.required else f"[{name}]"


def _about(param: Any) -> str:
    return str(getattr(param, "help", None) or "")


def _flag(param: Any) -> str:
    names = sorted(param.opts, key=lambda name: (name.startswith("--"), name))
    lead = "" if not names[0].startswith("--") else "    "
    metavar = "" if param.is_flag else f" {param.metavar or 'TEXT'}"
    return f"{lead}{', '.join(names)}{metavar}"


def _panels(options: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    """The groups in the order of their first flag; those without one come last."""
    groups: dict[str, list[Any]] = {}
    for option in options:
        groups.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(option)
    rest = groups.pop("Options", [])
    yield from groups.items()
    if rest:
        yield "Options", rest
