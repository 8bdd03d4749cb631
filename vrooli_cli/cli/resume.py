"""``vrooli resume``, ``approve`` and ``reject``: a run that did not come to its end goes on under its own id."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vrooli_cli.cli.complete import OUTCOMES, assumptions
from vrooli_cli.cli.console import Console, Invocation
from vrooli_cli.cli.flags import (
    CONTROL,
    Allow,
    Deny,
    Events,
    Executor,
    Field,
    Given,
    Grace,
    Junit,
    KeepGoing,
    MaxConcurrent,
    MaxCost,
    MaxCredits,
    Model,
    NoInput,
    OpenRun,
    Output,
    PassExit,
    Quiet,
    Report,
    Schedule,
    StepPath,
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
from vrooli_cli.errors import InputError, StoreError, VrooliError, did_you_mean
from vrooli_cli.model.run import CONVERSATION_OVER

if TYPE_CHECKING:
    from vrooli_cli.cli.drive import How
    from vrooli_cli.loading.bundle import LoadedBundle
    from vrooli_cli.loading.project import Settings
    from vrooli_cli.model.history import RunHistory, StepHistory
    from vrooli_cli.model.routine import Permissions
    from vrooli_cli.model.store import RunRecord, Store
    from vrooli_cli.tier3.processes import AtWork

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_TOLD = {"approve": "approved", "reject": "rejected"}
_LAST_MOMENT = 0.3  # seconds in which a command that is left over may end by itself before it is told
_MOST_TOLD = 5

SecretInputs = Annotated[
    list[str] | None,
    typer.Option("-i", "--input", metavar="NAME=VALUE", help="A secret input: secrets are never stored."),
]


@app.command("resume", cls=VerbCommand)
def resume(
    ctx: typer.Context,
    run: OpenRun,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP=WHAT",
            help="What became of a step whose outcome nobody knows: done, failed or rerun (also of a completed one).",
            rich_help_panel=CONTROL,
            autocompletion=assumptions,
        ),
    ] = None,
    kill_orphans: Annotated[
        bool,
        typer.Option(
            "--kill-orphans",
            help="End the commands that a killed process of the run has left at work.",
            rich_help_panel=CONTROL,
        ),
    ] = False,
    input: SecretInputs = None,
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
    model: Model = None,
    store: StoreFile = None,
) -> int:
    """Go on with a run that failed, was stopped, was suspended or died.

    What has completed is not done again. The definition is the one that was recorded when the run began.
    """
    call: Invocation = ctx.obj
    call.debug = debug
    return go_on(call, run, given(ctx.params))


@app.command("approve", cls=VerbCommand)
def approve(
    ctx: typer.Context,
    run: OpenRun,
    step: StepPath,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="A word for the record.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run at once.")] = False,
    input: SecretInputs = None,
    output: Output = None,
    json: Json = False,
    view: View = None,
    debug: Debug = False,
    store: StoreFile = None,
) -> int:
    """Say yes to a step that waits for approval, of a suspended run or of one at work in another process."""
    return _answer(ctx, "approve")


@app.command("reject", cls=VerbCommand)
def reject(
    ctx: typer.Context,
    run: OpenRun,
    step: StepPath,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run at once.")] = False,
    input: SecretInputs = None,
    output: Output = None,
    json: Json = False,
    view: View = None,
    debug: Debug = False,
    store: StoreFile = None,
) -> int:
    """Say no to a step that waits for approval: the step fails with APPROVAL_DENIED."""
    return _answer(ctx, "reject")


# --- resume ----------------------------------------------------------------------------------------------------------


def go_on(call: Invocation, run: str, said: Given) -> int:
    """Resume a run; the exit code. One that has completed prints its result again."""
    from vrooli_cli.architecture import recorded_bundle
    from vrooli_cli.cli.drive import leave, open_events
    from vrooli_cli.cli.session import settings_of, store_of
    from vrooli_cli.journal.history import settle

    store = store_of(call, said.store)
    try:
        _, record = settle(store, run)
        if record.kind == "step":
            raise InputError(f"{record.id!r} was one step that a program asked for; only runs can be resumed")
        if store.is_alive(record.id):
            raise InputError(f"the run {record.id} is at work; `vrooli runs logs -f {record.id}` shows what it does")
        settings = settings_of(call, **said.settings).over(recorded_settings(record))
        loaded = recorded_bundle(record, store)
        how = how_of(settings, said)
        if record.status == "completed":
            return _print_again(call, store, record, loaded, how)
        _see_to_orphans(call, store.notes(record.id), 5000 if settings.grace_ms is None else settings.grace_ms, said)
        assume = _assumed(store, record, said.assume)
        inputs = secret_inputs(call, loaded, settings, said.inputs)
        events = open_events(how)
        threads = threading.enumerate()
        code = asyncio.run(_resume(call, store, record, loaded, settings, said, how, inputs, assume, events))
    finally:
        store.close()
    return leave(code, threads)


async def _resume(
    call: Invocation,
    store: Store,
    record: RunRecord,
    loaded: LoadedBundle,
    settings: Settings,
    said: Given,
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
        permissions=permissions_of(record, said),
        folder=(record.settings or {}).get("folder"),
    )
    try:
        options = options_of(settings)
        prepared = architecture.resume(record.id, loaded=loaded, inputs=inputs, assume=assume, options=options)
    except VrooliError:
        await architecture.close()
        raise
    return await drive(call, architecture, loaded, prepared, how, approver, events)


def recorded_settings(record: RunRecord) -> Settings:
    """The settings under which the run began."""
    from vrooli_cli.loading.settings import Settings

    known = {field.name for field in fields(Settings)}
    return Settings(**{name: value for name, value in (record.settings or {}).items() if name in known})


def permissions_of(record: RunRecord, said: Given) -> Permissions:
    """The level of the command line: as given now, else as it was when the run began."""
    from vrooli_cli.architecture import recorded_permissions
    from vrooli_cli.cli.session import command_line_rules

    if said.allow or said.deny:
        return command_line_rules(said.allow, said.deny)
    return recorded_permissions(record.settings or {})


def _see_to_orphans(call: Invocation, notes: bytes, grace_ms: int, said: Given) -> None:
    """Commands that a killed process of the run has left at work: ended when that was asked for, else told.

    Raises:
        VrooliError: They cannot be ended.
    """
    if not notes:
        return
    import time

    from vrooli_cli.tier3.orphans import end, living

    until = time.monotonic() + _LAST_MOMENT
    while (found := living(notes)) and not said.kill_orphans and time.monotonic() < until:
        time.sleep(0.02)
    if said.kill_orphans:
        kept = end(found, grace_ms / 1000)
        if kept:
            raise InputError(f"{_at_work(kept)} cannot be ended; end it by hand and resume again")
        if found and said.level >= 0:
            Console(call).say(f"ended what the run had left behind: {_at_work(found)}")
    elif found:
        groups = " ".join(f"-{one.session}" for one in found)
        Console(call).warning(
            f"{_at_work(found)} is still at work beside this run: the process that started it was killed"
            f"\nend it with --kill-orphans, or with: kill -- {groups}"
        )


def _at_work(commands: list[AtWork]) -> str:
    told = [f"{one.program} of the step {one.step} (process group {one.session})" for one in commands[:_MOST_TOLD]]
    more = [f"{len(commands) - _MOST_TOLD} more"] if len(commands) > _MOST_TOLD else []
    return ", ".join((*told, *more))


def _assumed(store: Store, record: RunRecord, texts: tuple[str, ...]) -> dict[str, str]:
    """``--assume``: for steps whose outcome is unknown, and for completed ``once`` steps that are to happen again."""
    from vrooli_cli.cli.session import pairs

    assume = pairs(texts, "--assume")
    if not assume:
        return {}
    from vrooli_cli.journal.history import history_of

    history = history_of(store, record.id)
    open_ = _unknown(history)
    for step, word in assume.items():
        if word not in OUTCOMES:
            raise InputError(f"--assume {step}={word}: expected {', '.join(OUTCOMES)}")
        if step not in open_ and not _may_happen_again(history, step, word):
            known = f"unknown is the outcome of {', '.join(open_)}" if open_ else "no step's outcome is unknown"
            raise InputError(f"--assume {step}: {did_you_mean(step, open_) or known}")
    return assume


def _unknown(history: RunHistory) -> list[str]:
    """Steps that were under way when the run was stopped or died, whose worker died, or that are asked about since."""
    return [
        step.address
        for step in history.steps.values()
        if step.code == "OUTCOME_UNKNOWN"
        or (step.status == "failed" and (step.error or {}).get("code") == "OUTCOME_UNKNOWN")
        or (step.spans and history.interrupted and step.spans[-1].ended_ns is None)
        or (step.spans and step.status == "cancelled" and step.effects == "once")
        or (step.status == "failed" and step.effects == "once" and _has_ended_talking(step))
    ]


def _has_ended_talking(step: StepHistory) -> bool:
    """A failed conversation with a model that a resume does not go on with."""
    return step.strategy not in ("", "deterministic") and (step.error or {}).get("code") in CONVERSATION_OVER


def _may_happen_again(history: RunHistory, address: str, word: str) -> bool:
    """True for ``rerun`` of a completed ``once`` step that a resume can reach; raises InputError for other words."""
    from vrooli_cli.model.addresses import around_of

    step = history.steps.get(address)
    if step is None or step.status != "completed" or step.effects != "once":
        return False
    if word != "rerun":
        raise InputError(f"--assume {address}={word}: it has completed; only {address}=rerun can be said of it")
    around = around_of(address)
    while around:
        if history.steps[around].status == "completed":
            raise InputError(f"--assume {address}=rerun: {around} around it has completed; say it of {around}")
        around = around_of(around)
    return True


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
    from vrooli_cli.journal.history import history_of, is_blob, result_of

    history = history_of(store, record.id)
    lost: list[str] = []
    result = result_of(history, store, lost=lost)
    if lost and is_blob(result.result):
        raise StoreError(lost[0])
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


def _answer(ctx: typer.Context, word: str) -> int:
    from vrooli_cli.cli.session import store_of
    from vrooli_cli.journal.history import history_of
    from vrooli_cli.model.run import user_name

    call: Invocation = ctx.obj
    said, params = given(ctx.params), ctx.params
    call.debug = params["debug"]
    run, step, goes_on = params["run"], params["step"], params["resume"]
    with closing(store_of(call, said.store)) as store:
        history = history_of(store, run)
        record = history.record
        _waits(history, step)
        alive = store.is_alive(record.id)
        if alive and goes_on:
            raise InputError(f"the run {record.id} is at work and goes on by itself; leave out --resume")
        before = [one for _, one in store.commands(history.key) if one.get("step") == step and one.get("do") in _TOLD]
        store.send(record.id, {"do": word, "step": step, "by": user_name(), "comment": params["comment"]})
    if goes_on:
        return go_on(call, record.id, said)
    instead = f" (in place of an answer that {before[-1].get('by')} gave: {_TOLD[before[-1]['do']]})" if before else ""
    option = f" --store {said.store}" if said.store else ""
    then = "the run goes on within a second" if alive else f"go on with: vrooli resume {record.id}{option}"
    Console(call).say(f"{step} is {_TOLD[word]}{instead}; {then}")
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
