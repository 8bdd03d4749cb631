"""``vrooli run``: a file, its inputs and flags become a run."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from vrooli_cli.cli.complete import routines
from vrooli_cli.cli.console import Console, Invocation
from vrooli_cli.cli.help import VerbCommand
from vrooli_cli.cli.options import Debug, Json, choice, dollars, duration, positive_duration, whole
from vrooli_cli.errors import InputError, VrooliError

if TYPE_CHECKING:
    from vrooli_cli.architecture import ExecutionArchitecture
    from vrooli_cli.cli.drive import How
    from vrooli_cli.cli.session import Stdin
    from vrooli_cli.loading.bundle import LoadedBundle
    from vrooli_cli.loading.project import Settings
    from vrooli_cli.model.routine import Permissions

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_INPUT, _OUTPUT, _LIMITS, _CONTROL, _MODELS, _KEPT = (
    "Inputs",
    "Output",
    "Limits",
    "Control",
    "Models",
    "What is kept",
)

# Flags whose engine is not part of this version: parsed, so that a script learns it in one line.
_LATER = ("executor",)


@dataclass(frozen=True, slots=True, kw_only=True)
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
            rich_help_panel=_INPUT,
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Inputs from a JSON or YAML map; - is stdin.", rich_help_panel=_INPUT),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FORMAT",
            **choice("text", "json", "yaml", "ndjson", "none"),
            help="What stdout gets: text (default), json, yaml, ndjson or none.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    json: Json = False,
    field: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Print one output, raw: summary, report.rows[0].", rich_help_panel=_OUTPUT),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            **choice("live", "plain", "none"),
            help="What stderr shows: live (default on a terminal), plain or none.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the events as NDJSON to a file, too.", rich_help_panel=_OUTPUT),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Say only what went wrong.", rich_help_panel=_OUTPUT)
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say everything.", rich_help_panel=_OUTPUT)] = False,
    debug: Debug = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what each step would do; do nothing.",
            rich_help_panel=_CONTROL,
        ),
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going", help="After a failure, run all that does not depend on it.", rich_help_panel=_CONTROL
        ),
    ] = False,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            **choice("eager", "batched"),
            help="eager (default): a step starts when its own dependencies are done; batched: batch by batch.",
            rich_help_panel=_CONTROL,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Grant every approval and ask.", rich_help_panel=_CONTROL)] = False,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never prompt.", rich_help_panel=_CONTROL)] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="Allow only what matches: 'shell(git *)'.", rich_help_panel=_CONTROL),
    ] = None,
    deny: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="Deny what matches.", rich_help_panel=_CONTROL)
    ] = None,
    pass_exit: Annotated[
        bool, typer.Option("-x", help="Exit with a failed shell step's own exit code.", rich_help_panel=_CONTROL)
    ] = False,
    max_concurrent: Annotated[
        int | None,
        typer.Option(
            "-j",
            "--max-concurrent",
            metavar="N",
            parser=whole(1),
            help="Steps at work at one moment (default 8).",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    timeout: Annotated[
        int | None,
        typer.Option(
            metavar="D", parser=positive_duration, help="The run's time: 90s, 10m. Exit 124.", rich_help_panel=_LIMITS
        ),
    ] = None,
    grace: Annotated[
        int | None,
        typer.Option(
            metavar="D", parser=duration, help="From TERM to KILL when a step is stopped (5s).", rich_help_panel=_LIMITS
        ),
    ] = None,
    max_credits: Annotated[
        int | None,
        typer.Option(metavar="N", parser=whole(0), help="Credits; a million is 1 USD.", rich_help_panel=_LIMITS),
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(metavar="USD", parser=dollars, help="The same in USD.", rich_help_panel=_LIMITS)
    ] = None,
    tools: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="A folder of tools beside the project's.", rich_help_panel=_CONTROL),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The journal; default: in your state folder.", rich_help_panel=_KEPT),
    ] = None,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Keep nothing of this run.", rich_help_panel=_KEPT)
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Reuse no result of an earlier run.", rich_help_panel=_KEPT)
    ] = False,
    junit: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a JUnit file: a test case a step.", rich_help_panel=_OUTPUT),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a page about the run: HTML, self-contained.", rich_help_panel=_OUTPUT),
    ] = None,
    plan_only: Annotated[
        bool,
        typer.Option(
            "--plan-only", help="A swarm: stop after planning and print the frozen plan.", rich_help_panel=_CONTROL
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The default model (or VROOLI_MODEL).", rich_help_panel=_MODELS),
    ] = None,
    allow_unpriced: Annotated[
        bool,
        typer.Option("--allow-unpriced", help="Count a model without a known price as 0.", rich_help_panel=_MODELS),
    ] = False,
    record: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write every model exchange to a cassette.", rich_help_panel=_MODELS),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Answer from a cassette: no network, no key.", rich_help_panel=_MODELS),
    ] = None,
    executor: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> int:
    """Run a routine or a swarm.

    stdout gets the result and nothing else; what happens is shown on stderr.
    """
    flags = dict(locals())
    call: Invocation = ctx.obj
    call.debug = debug
    _not_yet(flags)
    from vrooli_cli.cli.report import check_papers
    from vrooli_cli.cli.session import command_line_rules, settings_of

    settings = settings_of(
        call,
        output="json" if json else output,
        view=view,
        schedule=schedule,
        timeout_ms=timeout,
        grace_ms=grace,
        max_concurrent=max_concurrent,
        max_credits=max_credits,
        max_cost=max_cost,
        keep_going=keep_going,
        store=store,
        no_store=no_store,
        no_cache=no_cache,
        no_input=no_input,
        yes=yes,
        model=model,
        allow_unpriced=allow_unpriced,
        tools=tuple(tools or ()),
    )
    if record and replay:
        raise InputError("--record and --replay contradict each other")
    if json and output not in (None, "json"):
        raise InputError(f"--json is short for -o json, so -o {output} contradicts it")
    if store and no_store:
        raise InputError("--store and --no-store contradict each other")
    check_papers(junit, report)
    how = _how(settings, field=field, level=verbose - quiet, events=events, pass_exit=pass_exit, store=store)
    asked = _Asked(
        file=file,
        inputs=tuple(input or ()),
        values=inputs,
        how=replace(how, junit=junit, report=report),
        permissions=command_line_rules(allow or (), deny or (), settings.tools),
        dry_run=dry_run,
        plan_only=plan_only,
        record=record,
        replay=replay,
    )
    return _run(call, settings, asked)


def _not_yet(flags: dict[str, Any]) -> None:
    for name in _LATER:
        if flags[name] not in (None, False):
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} does not work yet in this version of vrooli; leave it out")


def _how(
    settings: Settings, *, field: str | None, level: int, events: str | None, pass_exit: bool, store: str | None
) -> How:
    from vrooli_cli.cli.drive import How
    from vrooli_cli.cli.output import field_path

    format_ = settings.output or "text"
    if field is not None:
        field_path(field)
        if format_ != "text":
            raise InputError(f"--field prints one output raw, so it does not go with -o {format_}")
    return How(
        format=format_,
        field=field,
        view=settings.view,
        level=level,
        events=events,
        pass_exit=pass_exit,
        kept=not settings.no_store,
        store=store,
    )


def _run(call: Invocation, settings: Settings, asked: _Asked) -> int:
    import asyncio

    from vrooli_cli.cli.drive import leave, open_events
    from vrooli_cli.cli.session import Stdin, approver_of, architecture_of, cassette_of, open_journal

    stdin = Stdin()
    loaded = load(asked.file, stdin)
    values = inputs_of(call, loaded, settings, asked.inputs, asked.values, stdin)
    _field_exists(loaded, asked.how)
    if asked.dry_run:
        return _dry(call, loaded, settings, asked, values)
    if loaded.warnings and asked.how.level >= 0:
        Console(call).problems(loaded.warnings)
    approver = approver_of(settings)
    cassette = cassette_of(asked.record, asked.replay)
    store = open_journal(settings, loaded.project)
    architecture = architecture_of(
        call, loaded, settings, store=store, approver=approver, permissions=asked.permissions, cassette=cassette
    )
    events = open_events(asked.how)
    threads = threading.enumerate()
    if asked.plan_only:
        return asyncio.run(_print_plan(call, architecture, loaded, values))
    code = asyncio.run(_execute(call, architecture, loaded, values, settings, asked.how, approver, events))
    return leave(code, threads)


async def _print_plan(
    call: Invocation, architecture: ExecutionArchitecture, loaded: LoadedBundle, values: dict[str, Any]
) -> int:
    """``--plan-only``: tasks and team as a swarm file, which runs without a planning call."""
    from vrooli_cli.cli.output import Stdout
    from vrooli_cli.tier1.swarm import PreparedSwarm

    async with architecture:
        prepared = architecture.prepare(loaded, values)
        if not isinstance(prepared, PreparedSwarm):
            raise InputError("--plan-only is for swarms; `vrooli plan FILE` shows the plan of a routine")
        call.masker = prepared.scope.masker
        Stdout(call).text(await prepared.plan_only())
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
    from vrooli_cli.cli.session import kept_settings
    from vrooli_cli.tier2.tier import RunOptions

    options = RunOptions(
        keep_going=bool(settings.keep_going),
        schedule=settings.schedule,
        timeout_ms=settings.timeout_ms,
        grace_ms=5000 if settings.grace_ms is None else settings.grace_ms,
        settings=kept_settings(settings),
        cache=not settings.no_cache,
    )
    try:
        prepared = architecture.prepare(loaded, values, options=options)
    except VrooliError:
        await architecture.close()
        raise
    if how.level >= 0:
        Console(call).problems(architecture.tool_warnings)
    return await drive(call, architecture, loaded, prepared, how, approver, events)


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
    from vrooli_cli.loading.bundle import refusal
    from vrooli_cli.loading.inputs import read_values, resolve_inputs

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
