"""``vrooli run``: a file, its inputs and flags become a run."""

from __future__ import annotations

import threading
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from vrooli_cli.cli.complete import inputs as input_names
from vrooli_cli.cli.complete import routines
from vrooli_cli.cli.console import Console, Invocation
from vrooli_cli.cli.flags import (
    CONTROL,
    INPUT,
    KEPT,
    MODELS,
    Allow,
    AllowUnpriced,
    Deny,
    Events,
    Executor,
    Field,
    Grace,
    Junit,
    KeepGoing,
    MaxConcurrent,
    MaxCost,
    MaxCredits,
    Model,
    NoCache,
    NoInput,
    Output,
    PassExit,
    Quiet,
    Report,
    Schedule,
    StoreFile,
    Timeout,
    Verbose,
    View,
    Yes,
    given,
    how_of,
    options_of,
)
from vrooli_cli.cli.help import VerbCommand
from vrooli_cli.cli.options import Debug, Json
from vrooli_cli.errors import InputError, VrooliError
from vrooli_cli.model.values import lean

if TYPE_CHECKING:
    from vrooli_cli.architecture import ExecutionArchitecture
    from vrooli_cli.cli.drive import How
    from vrooli_cli.cli.session import Stdin
    from vrooli_cli.loading.bundle import LoadedBundle
    from vrooli_cli.loading.project import Settings
    from vrooli_cli.model.routine import Permissions
    from vrooli_cli.model.store import Store

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@lean(kw_only=True)
class _Asked:
    """What the flags of one call say, beside the settings."""

    file: str
    inputs: tuple[str, ...]
    values: str | None
    how: How
    permissions: Permissions
    dry_run: bool
    plan_only: bool
    record: str | None
    replay: str | None


@app.command("run", cls=VerbCommand)
def run(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE-OR-NAME",
            help="A YAML file, the name of a routine in routines/ of the project, or - for YAML on stdin.",
            autocompletion=routines,
        ),
    ],
    input: Annotated[
        list[str] | None,
        typer.Option(
            "-i",
            "--input",
            metavar="NAME=VALUE",
            help="An input; =@FILE takes a file's content, =- takes stdin.",
            rich_help_panel=INPUT,
            autocompletion=input_names,
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Inputs from a JSON or YAML map; - is stdin.", rich_help_panel=INPUT),
    ] = None,
    output: Output = None,
    json: Json = False,
    field: Field = None,
    view: View = None,
    events: Events = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what each step would do; do nothing.",
            rich_help_panel=CONTROL,
        ),
    ] = False,
    keep_going: KeepGoing = False,
    schedule: Schedule = None,
    executor: Executor = None,
    yes: Yes = False,
    no_input: NoInput = False,
    allow: Allow = None,
    deny: Deny = None,
    pass_exit: PassExit = False,
    max_concurrent: MaxConcurrent = None,
    timeout: Timeout = None,
    grace: Grace = None,
    max_credits: MaxCredits = None,
    max_cost: MaxCost = None,
    tools: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="A folder of tools beside the project's.", rich_help_panel=CONTROL),
    ] = None,
    store: StoreFile = None,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Keep nothing of this run.", rich_help_panel=KEPT)
    ] = False,
    no_cache: NoCache = False,
    junit: Junit = None,
    report: Report = None,
    plan_only: Annotated[
        bool,
        typer.Option(
            "--plan-only", help="A swarm: stop after planning and print the frozen plan.", rich_help_panel=CONTROL
        ),
    ] = False,
    model: Model = None,
    allow_unpriced: AllowUnpriced = False,
    record: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write every model exchange to a cassette.", rich_help_panel=MODELS),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Answer from a cassette: no network, no key.", rich_help_panel=MODELS),
    ] = None,
) -> int:
    """Run a routine or a swarm.

    stdout gets the result and nothing else; what happens is shown on stderr.
    """
    call: Invocation = ctx.obj
    call.debug = debug
    from vrooli_cli.cli.session import command_line_rules, settings_of

    said = given(ctx.params)
    settings = settings_of(call, **said.settings)
    if record and replay:
        raise InputError("--record and --replay contradict each other")
    asked = _Asked(
        file=file,
        inputs=said.inputs,
        values=inputs,
        how=how_of(settings, said),
        permissions=command_line_rules(said.allow, said.deny, settings.tools),
        dry_run=dry_run,
        plan_only=plan_only,
        record=record,
        replay=replay,
    )
    return _run(call, settings, asked)


def _run(call: Invocation, settings: Settings, asked: _Asked) -> int:
    import asyncio

    from vrooli_cli.cli.drive import leave, open_events
    from vrooli_cli.cli.session import Stdin, approver_of, architecture_of, cassette_of, open_journal

    stdin = Stdin()
    stdin.share(_readers_of_stdin(asked))
    store, loaded = recalled(asked.file, settings, dry_run=asked.dry_run)
    try:
        loaded = loaded or load(asked.file, stdin)
        values = inputs_of(call, loaded, settings, asked.inputs, asked.values, stdin)
        _field_exists(loaded, asked.how)
    except BaseException:
        if store is not None:
            store.close()
        raise
    if asked.dry_run:
        return _dry(call, loaded, settings, asked, values)
    if loaded.warnings and asked.how.level >= 0:
        Console(call).problems(loaded.warnings)
    approver = approver_of(settings)
    cassette = cassette_of(asked.record, asked.replay)
    store = store or open_journal(settings, loaded.project)
    architecture = architecture_of(
        call, loaded, settings, store=store, approver=approver, permissions=asked.permissions, cassette=cassette
    )
    events = open_events(asked.how)
    threads = threading.enumerate()
    if asked.plan_only:
        return asyncio.run(_print_plan(call, architecture, loaded, values, asked.how.format))
    code = asyncio.run(_execute(call, architecture, loaded, values, settings, asked.how, approver, events))
    return leave(code, threads)


def _readers_of_stdin(asked: _Asked) -> list[str]:
    """What the command line wants stdin for."""
    from vrooli_cli.cli.session import pairs

    readers = ["the routine (-)"] if asked.file == "-" else []
    readers += [f"-i {name}=-" for name, text in pairs(asked.inputs, "-i").items() if text == "-"]
    return [*readers, "--inputs -"] if asked.values == "-" else readers


async def _print_plan(
    call: Invocation, architecture: ExecutionArchitecture, loaded: LoadedBundle, values: dict[str, Any], form: str
) -> int:
    """``--plan-only``: tasks and team as a swarm file, in YAML or JSON, which runs without a planning call."""
    import json

    from vrooli_cli.cli.output import Stdout
    from vrooli_cli.loading.text import read_text
    from vrooli_cli.tier1.swarm import PreparedSwarm
    from vrooli_cli.tier2.prepared import RunOptions

    async with architecture:
        prepared = architecture.prepare(loaded, values, options=RunOptions(plan_only=True))
        if not isinstance(prepared, PreparedSwarm):
            raise InputError("--plan-only is for swarms; `vrooli plan FILE` shows the plan of a routine")
        call.masker = prepared.scope.masker
        plan = await prepared.plan_only()
        if form == "json":
            plan = json.dumps(read_text(plan.encode(), "plan").data, indent=2, ensure_ascii=False)
        Stdout(call).text(plan)
    return 0


async def _execute(
    call: Invocation,
    architecture: ExecutionArchitecture,
    loaded: LoadedBundle,
    values: dict[str, Any],
    settings: Settings,
    how: How,
    approver: object,
    events: IO[bytes] | None,
) -> int:
    from vrooli_cli.cli.drive import drive

    try:
        prepared = architecture.prepare(loaded, values, options=options_of(settings))
    except VrooliError:
        await architecture.close()
        raise
    if how.level >= 0:
        Console(call).problems(architecture.tool_warnings)
    return await drive(call, architecture, loaded, prepared, how, approver, events)


def recalled(file: str, settings: Settings, *, dry_run: bool) -> tuple[Store | None, LoadedBundle | None]:
    """The journal, if it is known where and that it is there; and the file from its stored plan, if it has one."""
    from vrooli_cli.cli.session import known_journal
    from vrooli_cli.loading.recall import recall

    store = known_journal(settings, file) if file != "-" and not dry_run else None
    return store, recall(file, store) if store is not None else None


def load(file: str, stdin: Stdin) -> LoadedBundle:
    """The file with everything it reaches, and its problems.

    Raises:
        DefinitionError: It cannot be read at all.
    """
    from vrooli_cli.loading.bundle import STDIN, load_bundle

    text = stdin.read("the routine (-)") if file == STDIN else None
    return load_bundle(file, stdin=text, raises=False)


def inputs_of(
    call: Invocation,
    loaded: LoadedBundle,
    settings: Settings,
    texts: tuple[str, ...],
    file: str | None,
    stdin: Stdin,
) -> dict[str, Any]:
    """The value of every input.

    Raises:
        DefinitionError: The file is wrong; that is told before what is wrong with its inputs.
        InputError: Inputs are missing, unknown or invalid.
    """
    from vrooli_cli.cli.session import pairs, problems_of
    from vrooli_cli.loading.inputs import read_values, resolve_inputs
    from vrooli_cli.loading.loaded import refusal

    given = pairs(texts, "-i")
    for name, text in given.items():
        if text == "-":
            given[name] = stdin.read(f"-i {name}=-").decode("utf-8", "replace")
            given[name] = f"@{given[name]}" if given[name].startswith("@") else given[name]
    try:
        read = None if file != "-" else (lambda: stdin.read("--inputs -").decode("utf-8", "replace"))
        values = read_values(file, read_stdin=read) if file is not None else {}
        return resolve_inputs(loaded.definition.inputs, given, values, call.environ)
    except InputError:
        wrong = [problem for problem in problems_of(call, loaded, settings) if not problem.warning]
        if wrong:
            raise refusal(wrong) from None
        raise


def _field_exists(loaded: LoadedBundle, how: How) -> None:
    from vrooli_cli.cli.output import field_path
    from vrooli_cli.errors import did_you_mean

    outputs = loaded.definition.outputs
    if how.field is None or outputs is None:
        return
    first = field_path(how.field)[0]
    if first not in outputs:
        hint = did_you_mean(first, outputs) or f"its outputs are {', '.join(outputs) or 'none'}"
        raise InputError(f"--field {how.field}: there is no output {first!r}; {hint}")


def _dry(call: Invocation, loaded: LoadedBundle, settings: Settings, asked: _Asked, values: dict[str, Any]) -> int:
    from vrooli_cli.cli.planned import print_dry_run

    return print_dry_run(call, loaded, settings, asked.how.format, values)


@app.command("-", hidden=True)
def _nothing() -> None:
    """Typer makes no group of a single command."""
