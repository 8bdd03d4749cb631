"""``vrooli validate`` and ``vrooli plan``: everything that is known about files before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vrooli_cli.cli.complete import routines
from vrooli_cli.cli.console import Console, Invocation
from vrooli_cli.cli.flags import AllowUnpriced, Model
from vrooli_cli.cli.help import VerbCommand
from vrooli_cli.cli.options import Debug, Folders, ImportTools, Json, choice
from vrooli_cli.errors import DefinitionError, InputError

if TYPE_CHECKING:
    from vrooli_cli.cli.session import Stdin
    from vrooli_cli.errors import Problem
    from vrooli_cli.loading.project import Settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("validate", cls=VerbCommand)
def validate(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="Files, names of routines, or - for stdin.", autocompletion=routines),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="FORMAT",
            **choice("text", "json"),
            help="text on stderr, or a json list.",
        ),
    ] = "text",
    json: Json = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Leave warnings out.")] = False,
    tools: Folders = None,
    import_tools: ImportTools = False,
    model: Model = None,
    allow_unpriced: AllowUnpriced = False,
    debug: Debug = False,
) -> int:
    """Say everything that is wrong with files; run nothing, import no tool file, need no key.

    Routines, swarms, tests, vrooli.yaml and the files in the project's tools/ are known as what they are. Nothing is
    printed and the exit code is 0 when all is well; warnings are printed, too, and change nothing.
    """
    from vrooli_cli.cli.output import Stdout
    from vrooli_cli.cli.session import Stdin, settings_of
    from vrooli_cli.loading.report import problem_json

    call: Invocation = ctx.obj
    call.debug = debug
    settings = settings_of(
        call, tools=tuple(tools or ()), import_tools=import_tools, model=model, allow_unpriced=allow_unpriced
    )
    stdin = Stdin()
    found: list[Problem] = []
    for file in files:
        found += problem_list(call, settings, file, stdin)
    found = list(dict.fromkeys(problem for problem in found if not (quiet and problem.warning)))
    if json or output == "json":
        stdout = Stdout(call)
        stdout.json([problem_json(problem) for problem in found])
        stdout.check()
    else:
        Console(call).problems(found)
    return 2 if any(not problem.warning for problem in found) else 0


def problem_list(call: Invocation, settings: Settings, file: str, stdin: Stdin) -> list[Problem]:
    """Everything that any floor has to say about a file."""
    from vrooli_cli.cli.run import load
    from vrooli_cli.cli.session import problems_of

    try:
        found = _of_another_kind(Path(file))
        return problems_of(call, load(file, stdin), settings) if found is None else found
    except DefinitionError as error:
        return list(error.problems)


def _of_another_kind(path: Path) -> list[Problem] | None:
    """What is wrong with a test file, a project or a tool file; None when the file is none of them.

    Raises:
        DefinitionError: With what is wrong with it.
    """
    from vrooli_cli.loading.project import PROJECT_FILE, find_project, load_project

    if path.name.endswith((".test.yaml", ".test.yml")):
        from vrooli_cli.testing.cases import read_test_file

        read_test_file(path)
        return []
    if path.name == PROJECT_FILE and path.is_file():
        load_project(path.parent)
        return []
    root = find_project(path.parent)
    if root is not None and path.is_file() and path.resolve().parent == (root / "tools").resolve():
        from vrooli_cli.tier3.custom import problems_of_file

        return problems_of_file(path)
    return None


_PLAN_FORMATS = ("text", "json", "mermaid", "dot")


@app.command("plan", cls=VerbCommand)
def plan(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE-OR-NAME", help="A file, a routine's name, or -.", autocompletion=routines)
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            "--format",
            metavar="FORMAT",
            **choice(*_PLAN_FORMATS),
            help="text, json, mermaid or dot.",
        ),
    ] = "text",
    json: Json = False,
    tools: Folders = None,
    import_tools: ImportTools = False,
    model: Model = None,
    allow_unpriced: AllowUnpriced = False,
    debug: Debug = False,
) -> int:
    """Show batches, critical path, effects, the narrowest rules, the models and the cost; run nothing.

    Of a swarm: its goal, team and phases; no model is asked.
    """
    from vrooli_cli.cli.output import Stdout

    call: Invocation = ctx.obj
    call.debug = debug
    if json and output not in ("text", "json"):
        raise InputError(f"--json is short for -o json, so -o {output} contradicts it")
    from vrooli_cli.cli.session import settings_of

    settings = settings_of(
        call, tools=tuple(tools or ()), import_tools=import_tools, model=model, allow_unpriced=allow_unpriced
    )
    picture = _picture(call, file, settings)
    stdout = Stdout(call)
    _print(call, stdout, picture, "json" if json else output)
    stdout.check()
    return 0


def _picture(call: Invocation, file: str, settings: Settings) -> Any:
    import asyncio

    from vrooli_cli.cli.planned import Picture, routine_plan
    from vrooli_cli.cli.planned_swarm import SwarmPicture, swarm_picture
    from vrooli_cli.cli.run import load
    from vrooli_cli.cli.session import Stdin, architecture_of
    from vrooli_cli.model.swarm import SwarmBundle

    loaded = load(file, Stdin())

    async def planned() -> Picture | SwarmPicture:
        async with architecture_of(call, loaded, settings) as architecture:
            if isinstance(loaded.bundle, SwarmBundle):
                return swarm_picture(architecture, loaded)
            return Picture(routine_plan(architecture, loaded), architecture)

    picture = asyncio.run(planned())
    Console(call).problems(loaded.warnings)
    return picture


def _print(call: Invocation, stdout: Any, picture: Any, format_: str) -> None:
    from vrooli_cli.cli import planned

    if format_ == "json":
        stdout.json(picture.wire())
    elif format_ == "mermaid":
        stdout.text(planned.mermaid(picture.summary))
    elif format_ == "dot":
        stdout.text(planned.dot(picture.summary))
    elif isinstance(picture, planned.Picture):
        stdout.text(planned.plan_text(call, picture))
    else:
        from vrooli_cli.cli.planned_swarm import swarm_plan_text

        stdout.text(swarm_plan_text(call, picture))
