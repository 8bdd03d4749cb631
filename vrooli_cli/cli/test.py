"""``vrooli test``: the cases of ``*.test.yaml``, offline and the same each time."""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrooli_cli.cli.complete import tests
from vrooli_cli.cli.console import Console, Invocation, one_line
from vrooli_cli.cli.help import VerbCommand
from vrooli_cli.cli.options import Debug, Folders, Json, choice
from vrooli_cli.errors import DefinitionError, InputError, Problem

if TYPE_CHECKING:
    from vrooli_cli.loading.project import Settings
    from vrooli_cli.testing.cases import TestFile
    from vrooli_cli.testing.running import Verdict

__test__ = False  # for pytest

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("test", cls=VerbCommand)
def test(
    ctx: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE…",
            help="*.test.yaml files, routines that have one beside them, or folders; default: the project's.",
            autocompletion=tests,
        ),
    ] = None,
    only: Annotated[
        str, typer.Option("-k", "--only", metavar="TEXT", help="Only the cases whose name holds this.")
    ] = "",
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FORMAT", **choice("text", "json"), help="text (default) or json."),
    ] = "text",
    json: Json = False,
    junit: Annotated[str | None, typer.Option(metavar="FILE", help="Write JUnit's XML to a file, too.")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Write the observed outputs into the files as what is expected.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the cases that fail.")] = False,
    tools: Folders = None,
    debug: Debug = False,
) -> int:
    """Run test cases: offline, with no key, with the time standing still.

    A case runs its routine through all three tiers. What would touch the world is refused unless the case stubs it
    or says `live: true`. Exit 0: all passed; 1: some failed; 2: a test file is wrong.
    """
    from vrooli_cli.cli.session import settings_of
    from vrooli_cli.testing.report import is_passed

    call: Invocation = ctx.obj
    call.debug = debug
    found = _read(files or [])
    settings = settings_of(call, tools=tuple(tools or ()))
    printer = _Printer(call, "json" if json else output, quiet, update=update)
    verdicts = _run(found, settings, only, printer)
    if not verdicts:
        raise InputError(f"no case has {only!r} in its name" if only else "there are no cases")
    if update:
        return printer.updated(verdicts)
    if junit is not None:
        _write_junit(junit, verdicts)
    printer.end(verdicts)
    return 0 if is_passed(verdicts) else 1


def _read(places: list[str]) -> list[TestFile]:
    """Every file that is meant; all that is wrong with any of them is told at once."""
    from vrooli_cli.loading.project import find_project
    from vrooli_cli.testing.cases import find_files, read_test_file

    paths = find_files(places, find_project(Path()) or Path())
    if not paths:
        raise InputError("there is no *.test.yaml in this project; `vrooli init` writes one to begin with")
    files, problems = [], list[Problem]()
    for path in paths:
        try:
            files.append(read_test_file(path))
        except DefinitionError as error:
            problems += error.problems
    if problems:
        raise DefinitionError(problems)
    return files


def _run(files: list[TestFile], settings: Settings, only: str, printer: _Printer) -> list[Verdict]:
    import asyncio

    from vrooli_cli.testing.running import run_file

    verdicts: list[Verdict] = []
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="vrooli-test-") as folder, redirect_stdout(sys.stderr):
        tempfile.tempdir = folder  # two test runs at a time have one run id: their work folders must not meet
        try:
            for file in files:
                verdicts += asyncio.run(run_file(file, settings, only, printer.tell))
        finally:
            tempfile.tempdir = before
    return verdicts


class _Printer:
    """A line a case on stdout, as it ends; one document with ``-o json``."""

    def __init__(self, call: Invocation, format_: str, quiet: bool, *, update: bool) -> None:
        from vrooli_cli.cli.output import Stdout

        self._call = call
        self._stdout = Stdout(call)
        self._console = Console(call)
        self._format = format_
        self._quiet = quiet
        self._update = update

    def tell(self, verdict: Verdict) -> None:
        """One case has ended."""
        file, case = verdict.file.name, verdict.case
        if self._update:
            return
        if not verdict.passed:
            message = f"{case.name}: {verdict.differences[0]}"
            self._console.annotate("error", message, file, case.line)
        if self._format == "json" or (verdict.passed and self._quiet):
            return
        if verdict.passed:
            self._stdout.text(f"ok    {one_line(file)}: {one_line(case.name)}\n")
            return
        more = len(verdict.differences) - 1
        tail = f"  (and {more} more: -o json shows all)" if more else ""
        place = f"{one_line(file)}:{case.line}: {one_line(case.name)}"
        self._stdout.text(f"FAIL  {place}\n      {one_line(verdict.differences[0])}{tail}\n")

    def updated(self, verdicts: list[Verdict]) -> int:
        """Write goldens, and tell which; a case that fails for another reason stays a failure."""
        from vrooli_cli.testing.golden import update

        self._update = False
        changed: list[Verdict] = []
        for path in dict.fromkeys(one.file.path for one in verdicts):
            changed += update([one for one in verdicts if one.file.path == path])
        for one in changed:
            self._stdout.text(f"wrote {one_line(one.file.name)}: {one_line(one.case.name)}\n")
        others = [one for one in verdicts if any(not text.startswith("outputs") for text in one.differences)]
        for one in others:
            self.tell(one)
        self._console.say(f"{len(changed)} written, {len(others)} failed; read the difference before you keep it")
        self._stdout.check()
        return 1 if others else 0

    def end(self, verdicts: list[Verdict]) -> None:
        """All have ended."""
        from vrooli_cli.testing.report import as_json, summary

        if self._format == "json":
            self._stdout.json(as_json(verdicts))
        else:
            self._console.say(summary(verdicts))
        self._stdout.check()


def _write_junit(path: str, verdicts: list[Verdict]) -> None:
    from vrooli_cli.testing.report import as_junit

    try:
        Path(path).write_text(as_junit(verdicts), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--junit: {path} cannot be written: {error.strerror}") from None


@app.command("-", hidden=True)
def _nothing() -> None:
    """Typer makes no group of a single command."""
