"""``vrooli resume``, ``approve`` and ``reject``: a run that did not come to its end goes on under its own id."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vrooli_cli.cli.complete import run_ids, run_steps
from vrooli_cli.cli.console import Console, Invocation
from vrooli_cli.cli.help import VerbCommand
from vrooli_cli.cli.options import Debug, Json, choice, dollars, duration, positive_duration, whole
from vrooli_cli.errors import InputError, VrooliError, did_you_mean

if TYPE_CHECKING:
    from vrooli_cli.cli.drive import How
    from vrooli_cli.loading.bundle import LoadedBundle
    from vrooli_cli.loading.project import Settings
    from vrooli_cli.model.history import RunHistory
    from vrooli_cli.model.routine import Permissions
    from vrooli_cli.model.store import RunRecord, Store

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_OUTPUT, _LIMITS, _CONTROL = "Output", "Limits", "Control"
_ASSUMED = ("done", "failed", "rerun")

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="An id, the beginning of one, or last.", show_default=False, autocompletion=run_ids
    ),
]
StepPath = Annotated[
    str, typer.Argument(metavar="STEP", help="The step's path.", show_default=False, autocompletion=run_steps)
]
StoreFile = Annotated[
    str | None, typer.Option("--store", metavar="FILE", help="The journal; default: in your state folder.")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("-i", "--input", metavar="NAME=VALUE", help="A secret input: secrets are never stored."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FORMAT",
        **choice("text", "json", "yaml", "ndjson", "none"),
        help="What stdout gets: text (default), json, yaml, ndjson or none.",
        rich_help_panel=_OUTPUT,
    ),
]
Field = Annotated[
    str | None, typer.Option(metavar="PATH", help="Print one output, raw: summary.", rich_help_panel=_OUTPUT)
]
View = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        **choice("live", "plain", "none"),
        help="What stderr shows: live (default on a terminal), plain or none.",
        rich_help_panel=_OUTPUT,
    ),
]
Events = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the events as NDJSON to a file.", rich_help_panel=_OUTPUT)
]
Junit = Annotated[
    str | None, typer.Option("--junit", metavar="FILE", help="Write a JUnit file.", rich_help_panel=_OUTPUT)
]
Report = Annotated[
    str | None, typer.Option("--report", metavar="FILE", help="Write a report page.", rich_help_panel=_OUTPUT)
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say only what went wrong.", rich_help_panel=_OUTPUT)]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say everything.", rich_help_panel=_OUTPUT)]
KeepGoing = Annotated[
    bool,
    typer.Option("--keep-going", help="After a failure, run all that does not depend on it.", rich_help_panel=_CONTROL),
]
Schedule = Annotated[
    str | None,
    typer.Option(metavar="KIND", **choice("eager", "batched"), help="eager or batched.", rich_help_panel=_CONTROL),
]
Yes = Annotated[bool, typer.Option("--yes", help="Grant every approval and ask.", rich_help_panel=_CONTROL)]
NoInput = Annotated[bool, typer.Option("--no-input", help="Never prompt.", rich_help_panel=_CONTROL)]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE", help="Allow only what matches: 'shell(git *)'.", rich_help_panel=_CONTROL),
]
Deny = Annotated[list[str] | None, typer.Option(metavar="RULE", help="Deny what matches.", rich_help_panel=_CONTROL)]
PassExit = Annotated[
    bool, typer.Option("-x", help="Exit with a failed shell step's own exit code.", rich_help_panel=_CONTROL)
]
MaxConcurrent = Annotated[
    int | None,
    typer.Option(
        "-j", "--max-concurrent", metavar="N", parser=whole(1), help="Steps at work.", rich_help_panel=_LIMITS
    ),
]
Timeout = Annotated[
    int | None,
    typer.Option(metavar="D", parser=positive_duration, help="The run's time, all lives.", rich_help_panel=_LIMITS),
]
Grace = Annotated[
    int | None, typer.Option(metavar="D", parser=duration, help="From TERM to KILL (5s).", rich_help_panel=_LIMITS)
]
MaxCredits = Annotated[
    int | None, typer.Option(metavar="N", parser=whole(0), help="Credits, all lives.", rich_help_panel=_LIMITS)
]
MaxCost = Annotated[
    float | None, typer.Option(metavar="USD", parser=dollars, help="The same in USD.", rich_help_panel=_LIMITS)
]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="Another model.", rich_help_panel=_CONTROL)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """How a run goes on.

    Attributes:
        flags: What the flags say, beside the recorded settings.
        assume: ``STEP=done`` and the like, as typed.
        inputs: Secret inputs, as typed.
    """

    flags: Mapping[str, Any]
    assume: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    field: str | None = None
    events: str | None = None
    level: int = 0
    pass_exit: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@app.command("resume", cls=VerbCommand)
def resume(
    ctx: typer.Context,
    run: Run,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP=WHAT",
            help="What became of a step whose outcome nobody knows: done, failed or rerun.",
            rich_help_panel=_CONTROL,
        ),
    ] = None,
    input: Inputs = None,
    output: Output = None,
    json: Json = False,
    field: Field = None,
    view: View = None,
    events: Events = None,
    junit: Junit = None,
    report: Report = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    keep_going: KeepGoing = False,
    schedule: Schedule = None,
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
    model: Model = None,
    store: StoreFile = None,
) -> int:
    """Go on with a run that failed, was stopped, was suspended or died.

    What has completed is not done again. The definition is the one that was recorded when the run began.
    """
    flags = {
        "output": "json" if json else output,
        "view": view,
        "schedule": schedule,
        "timeout_ms": timeout,
        "grace_ms": grace,
        "max_concurrent": max_concurrent,
        "max_credits": max_credits,
        "max_cost": max_cost,
        "keep_going": keep_going,
        "model": model,
        "store": store,
        "no_input": no_input,
        "yes": yes,
        "junit": junit,
        "report": report,
    }
    call: Invocation = ctx.obj
    call.debug = debug
    going = Going(
        flags=flags,
        assume=tuple(assume or ()),
        inputs=tuple(input or ()),
        field=field,
        events=events,
        level=verbose - quiet,
        pass_exit=pass_exit,
        allow=tuple(allow or ()),
        deny=tuple(deny or ()),
    )
    return go_on(call, run, going)


@app.command("approve", cls=VerbCommand)
def approve(
    ctx: typer.Context,
    run: Run,
    step: StepPath,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="A word for the record.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run at once.")] = False,
    input: Inputs = None,
    output: Output = None,
    json: Json = False,
    view: View = None,
    debug: Debug = False,
    store: StoreFile = None,
) -> int:
    """Say yes to a step that waits for approval, of a suspended run or of one at work in another process."""
    flags = {"output": "json" if json else output, "view": view, "store": store}
    going = Going(flags=flags, inputs=tuple(input or ())) if resume else None
    return _answer(ctx.obj, run, step, "approve", comment, store, going, debug)


@app.command("reject", cls=VerbCommand)
def reject(
    ctx: typer.Context,
    run: Run,
    step: StepPath,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run at once.")] = False,
    input: Inputs = None,
    output: Output = None,
    json: Json = False,
    view: View = None,
    debug: Debug = False,
    store: StoreFile = None,
) -> int:
    """Say no to a step that waits for approval: the step fails with APPROVAL_DENIED."""
    flags = {"output": "json" if json else output, "view": view, "store": store}
    going = Going(flags=flags, inputs=tuple(input or ())) if resume else None
    return _answer(ctx.obj, run, step, "reject", comment, store, going, debug)


# --- resume ----------------------------------------------------------------------------------------------------------


def store_of(call: Invocation, store: str | None) -> Store:
    """The journal that a verb of the history looks into.

    Raises:
        StoreError: It cannot be opened.
    """
    from vrooli_cli.cli.session import open_journal, settings_of
    from vrooli_cli.journal import open_store
    from vrooli_cli.loading.project import load_project

    settings = settings_of(call, store=store)
    return open_journal(settings, load_project()) or open_store(None)


def go_on(call: Invocation, run: str, going: Going) -> int:
    """Resume a run; the exit code. One that has completed prints its result again."""
    from vrooli_cli.cli.drive import leave, open_events
    from vrooli_cli.cli.session import settings_of
    from vrooli_cli.journal.history import settle
    from vrooli_cli.loading.bundle import load_stored

    store = store_of(call, going.flags.get("store"))
    try:
        _, record = settle(store, run)
        if record.kind == "step":
            raise InputError(f"{record.id!r} was one step that a program asked for; only runs can be resumed")
        if store.is_alive(record.id):
            raise InputError(f"the run {record.id} is at work; `vrooli runs logs -f {record.id}` shows what it does")
        settings = settings_of(call, **going.flags).over(recorded_settings(record))
        loaded = load_stored(record.definition or {})
        how = how_of(settings, going)
        if record.status == "completed":
            return _print_again(call, store, record, loaded, how)
        assume = _assumed(store, record, going.assume)
        inputs = secret_inputs(call, loaded, settings, going.inputs)
        events = open_events(how)
        threads = threading.enumerate()
        code = asyncio.run(_resume(call, store, record, loaded, settings, going, how, inputs, assume, events))
    finally:
        store.close()
    return leave(code, threads)


async def _resume(
    call: Invocation,
    store: Store,
    record: RunRecord,
    loaded: LoadedBundle,
    settings: Settings,
    going: Going,
    how: How,
    inputs: Mapping[str, Any],
    assume: Mapping[str, str],
    events: Any,
) -> int:
    from vrooli_cli.cli.drive import drive
    from vrooli_cli.cli.session import approver_of, architecture_of

    approver = approver_of(settings)
    architecture = architecture_of(
        call,
        loaded,
        settings,
        store=store,
        approver=approver,
        permissions=permissions_of(record, going),
        folder=(record.settings or {}).get("folder"),
    )
    try:
        options = options_of(settings)
        prepared = architecture.resume(record.id, loaded=loaded, inputs=inputs, assume=assume, options=options)
    except VrooliError:
        await architecture.close()
        raise
    return await drive(call, architecture, loaded, prepared, how, approver, events)


def options_of(settings: Settings) -> Any:
    """How to run, from settings."""
    from vrooli_cli.cli.session import kept_settings
    from vrooli_cli.tier2.tier import RunOptions

    return RunOptions(
        keep_going=bool(settings.keep_going),
        schedule=settings.schedule,
        timeout_ms=settings.timeout_ms,
        grace_ms=5000 if settings.grace_ms is None else settings.grace_ms,
        settings=kept_settings(settings),
    )


def recorded_settings(record: RunRecord) -> Settings:
    """The settings under which the run began."""
    from vrooli_cli.loading.project import Settings

    known = {field.name for field in fields(Settings)}
    return Settings(**{name: value for name, value in (record.settings or {}).items() if name in known})


def permissions_of(record: RunRecord, going: Going) -> Permissions:
    """The level of the command line: as given now, else as it was when the run began."""
    from vrooli_cli.architecture import recorded_permissions
    from vrooli_cli.cli.session import command_line_rules

    if going.allow or going.deny:
        return command_line_rules(going.allow, going.deny)
    return recorded_permissions(record.settings or {})


def how_of(settings: Settings, going: Going) -> How:
    """How the run is shown, and what is printed of it."""
    from vrooli_cli.cli.drive import How
    from vrooli_cli.cli.output import field_path
    from vrooli_cli.cli.report import check_papers

    check_papers(going.flags.get("junit"), going.flags.get("report"))
    format_ = settings.output or "text"
    if going.field is not None:
        field_path(going.field)
        if format_ != "text":
            raise InputError(f"--field prints one output raw, so it does not go with -o {format_}")
    return How(
        format=format_,
        field=going.field,
        view=settings.view,
        level=going.level,
        events=going.events,
        junit=going.flags.get("junit"),
        report=going.flags.get("report"),
        pass_exit=going.pass_exit,
        kept=True,
        store=going.flags.get("store"),
    )


def _assumed(store: Store, record: RunRecord, texts: tuple[str, ...]) -> dict[str, str]:
    """``--assume``: only for steps whose outcome is unknown."""
    from vrooli_cli.cli.session import pairs

    assume = pairs(texts, "--assume")
    if not assume:
        return {}
    from vrooli_cli.journal.history import history_of

    open_ = _unknown(history_of(store, record.id))
    for step, word in assume.items():
        if word not in _ASSUMED:
            raise InputError(f"--assume {step}={word}: expected {', '.join(_ASSUMED)}")
        if step not in open_:
            known = f"unknown is the outcome of {', '.join(open_)}" if open_ else "no step's outcome is unknown"
            raise InputError(f"--assume {step}: {did_you_mean(step, open_) or known}")
    return assume


def _unknown(history: RunHistory) -> list[str]:
    """Steps that were under way when the process died, or that are asked about since."""
    return [
        step.address
        for step in history.steps.values()
        if step.code == "OUTCOME_UNKNOWN" or (history.interrupted and step.spans and step.spans[-1].ended_ns is None)
    ]


def secret_inputs(call: Invocation, loaded: LoadedBundle, settings: Settings, texts: tuple[str, ...]) -> dict[str, Any]:
    """The secret inputs of a recorded run, which are never stored: from ``-i``, their variable, or a prompt.

    Raises:
        InputError: One is missing, not valid, or no secret.
    """
    from vrooli_cli.cli.prompt import can_ask
    from vrooli_cli.cli.session import Stdin, pairs
    from vrooli_cli.loading.inputs import resolve_inputs

    declared = {name: one for name, one in loaded.definition.inputs.items() if one.secret}
    given = pairs(texts, "-i")
    for name in given:
        if name not in declared:
            told = "is recorded with the run; `vrooli rerun` takes other inputs"
            raise InputError(f"-i {name}: {told if name in loaded.definition.inputs else 'there is no such input'}")
    stdin = Stdin()
    for name, text in given.items():
        if text == "-":
            given[name] = stdin.read(f"-i {name}=-").decode("utf-8", "replace")
    asks = can_ask() and not settings.no_input
    for name, one in declared.items():
        in_environment = one.env is not None and call.environ.get(one.env)
        if asks and one.required and name not in given and not in_environment:
            given[name] = _asked(name)
    return {
        name: value for name, value in resolve_inputs(declared, given, {}, call.environ).items() if value is not None
    }


def _asked(name: str) -> str:
    """A secret, typed without being shown."""
    import getpass

    text = getpass.getpass(f"{name} (a secret input, it is not shown): ", sys.stderr)
    return f"@{text}" if text.startswith("@") else text


def _print_again(call: Invocation, store: Store, record: RunRecord, loaded: LoadedBundle, how: How) -> int:
    """The result of a run that has completed."""
    from vrooli_cli.cli.drive import declares
    from vrooli_cli.cli.output import Stdout, field_text, outputs_text, result_line
    from vrooli_cli.journal.history import history_of, result_of

    history = history_of(store, record.id)
    result = result_of(history, store)
    stdout = Stdout(call)
    if how.level >= 0:
        Console(call).say(f"the run {record.id} has completed; this is its result again")
    if how.format in ("json", "yaml"):
        stdout.document(result.wire(), how.format)
    elif how.format == "ndjson":
        stdout.write(result_line(result.wire(), history.events + 1))
    elif how.field:
        stdout.text(field_text(result.result, how.field))
    elif how.format == "text":
        stdout.text(outputs_text(declares(loaded.definition), result.result))
    stdout.check()
    return 0


# --- approve and reject ----------------------------------------------------------------------------------------------


def _answer(
    call: Invocation,
    run: str,
    step: str,
    word: str,
    comment: str | None,
    place: str | None,
    going: Going | None,
    debug: bool,
) -> int:
    from vrooli_cli.cli.output import user_name
    from vrooli_cli.journal.history import history_of

    call.debug = debug
    with closing(store_of(call, place)) as store:
        history = history_of(store, run)
        record = history.record
        _waits(history, step)
        alive = store.is_alive(record.id)
        if alive and going is not None:
            raise InputError(f"the run {record.id} is at work and goes on by itself; leave out --resume")
        store.send(record.id, {"do": word, "step": step, "by": user_name(), "comment": comment})
    if going is not None:
        return go_on(call, record.id, going)
    said = "approved" if word == "approve" else "rejected"
    option = f" --store {place}" if place else ""
    then = "the run goes on within a second" if alive else f"go on with: vrooli resume {record.id}{option}"
    Console(call).say(f"{step} is {said}; {then}")
    return 0


def _waits(history: RunHistory, step: str) -> None:
    """InputError unless the step waits for an approval."""
    if history.ended or history.interrupted:
        told = "has ended" if history.ended else "was interrupted; resume it first"
        raise InputError(f"the run {history.record.id} {told}, and no approval is open")
    found = history.steps.get(step)
    if found is not None and found.code == "OUTCOME_UNKNOWN" and found.status == "suspended":
        raise InputError(
            f"{step} waits for no approval: nobody knows whether it happened; "
            f"`vrooli resume {history.record.id} --assume {step}=done` (or =failed, =rerun) says it"
        )
    if step not in history.asked:
        waiting = ", ".join(history.asked) or "none"
        hint = did_you_mean(step, history.asked) or f"waiting: {waiting}"
        raise InputError(f"{step} waits for no approval; {hint}")
