"""``vrooli rerun``: the same file as it is now, with the same inputs, as a new run that uses what has not changed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vrooli_cli.cli.complete import run_steps
from vrooli_cli.cli.console import Console, Invocation, one_line
from vrooli_cli.cli.flags import (
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
    NoCache,
    NoInput,
    Output,
    PassExit,
    Quiet,
    Report,
    Run,
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
from vrooli_cli.cli.resume import permissions_of, recorded_settings, secret_inputs
from vrooli_cli.errors import InputError, VrooliError, did_you_mean
from vrooli_cli.model.addresses import is_handler, made_at
from vrooli_cli.model.values import lean

if TYPE_CHECKING:
    from vrooli_cli.loading.bundle import LoadedBundle
    from vrooli_cli.loading.project import Settings
    from vrooli_cli.model.events import ExecutionEvent
    from vrooli_cli.model.store import RunRecord, Store
    from vrooli_cli.tier2.plan import Passed, RoutinePlan
    from vrooli_cli.tier2.prepared import RunOptions

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_WHAT = "What runs"
_MOST_TOLD = 60


@app.command("rerun", cls=VerbCommand)
def rerun(
    ctx: typer.Context,
    run: Run,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STEP",
            help="This step and all that come after it; what is unchanged is reused.",
            rich_help_panel=_WHAT,
            autocompletion=run_steps,
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="STEP",
            help="This step; what is unchanged is reused.",
            rich_help_panel=_WHAT,
            autocompletion=run_steps,
        ),
    ] = None,
    failed: Annotated[
        bool,
        typer.Option("--failed", help="What did not complete; what is unchanged is reused.", rich_help_panel=_WHAT),
    ] = False,
    no_cache: NoCache = False,
    input: Annotated[
        list[str] | None,
        typer.Option("-i", "--input", metavar="NAME=VALUE", help="Another value; secrets are asked for again."),
    ] = None,
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
    """Run a run's file again, as it is now, with the same inputs.

    Without --from, --only or --failed everything runs. With one, each step's result is used again where nothing that it
    depends on has changed; the reasons are told.
    """
    call: Invocation = ctx.obj
    call.debug = debug
    if sum((start is not None, only is not None, failed)) > 1:
        raise InputError("--from, --only and --failed contradict each other; give one of them")
    return _again(call, run, given(ctx.params), _Selection(start, only, failed))


@lean()
class _Selection:
    """Which steps run whatever is unchanged."""

    start: str | None
    only: str | None
    failed: bool

    @property
    def reuses(self) -> bool:
        return self.failed or self.start is not None or self.only is not None


def _again(call: Invocation, run: str, said: Given, selection: _Selection) -> int:
    import asyncio

    from vrooli_cli.cli.drive import leave, open_events
    from vrooli_cli.cli.session import settings_of, store_of

    with closing(store_of(call, said.store)) as store:
        _, record = store.find(run)
        settings = settings_of(call, **said.settings).over(recorded_settings(record))
        loaded = _load(record)
        inputs = _inputs(call, loaded, settings, record, said.inputs)
        options = _options(store, settings, record, loaded, selection)
        how = how_of(settings, said)
        if loaded.warnings and how.level >= 0:
            Console(call).problems(loaded.warnings)
        events = open_events(how)
        threads = threading.enumerate()
        code = asyncio.run(_run(call, store, record, loaded, settings, said, inputs, options, how, events))
    return leave(code, threads)


async def _run(
    call: Invocation,
    store: Store,
    record: RunRecord,
    loaded: LoadedBundle,
    settings: Settings,
    said: Given,
    inputs: Mapping[str, Any],
    options: RunOptions,
    how: Any,
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
        prepared = architecture.prepare(loaded, inputs, options=options)
    except VrooliError:
        await architecture.close()
        raise
    reasons = _Reasons()
    if options.earlier is not None:
        prepared.channel.fold(reasons.hear)
    code = await drive(call, architecture, loaded, prepared, how, approver, events)
    if how.level >= 0:
        reasons.tell(Console(call))
    return code


def _load(record: RunRecord) -> LoadedBundle:
    """The file as it is now.

    Raises:
        InputError: The run had none.
        DefinitionError: It is gone, or wrong.
    """
    from vrooli_cli.loading.bundle import STDIN, load_bundle

    main = str((record.definition or {}).get("main", ""))
    if not main or main == STDIN or not Path(main).is_absolute():
        raise InputError(f"the run {record.id} was not started from a file, so there is nothing to run again")
    return load_bundle(main, raises=False)


def _inputs(
    call: Invocation, loaded: LoadedBundle, settings: Settings, record: RunRecord, texts: tuple[str, ...]
) -> dict[str, Any]:
    """The recorded inputs, over them what is given now; secrets are asked for again."""
    from vrooli_cli.cli.session import pairs
    from vrooli_cli.loading.bundle import refusal
    from vrooli_cli.loading.inputs import resolve_inputs

    if not loaded.sound:
        raise refusal(loaded.problems)
    declared = loaded.definition.inputs
    given = pairs(texts, "-i")
    secret = tuple(f"{name}={text}" for name, text in given.items() if name in declared and declared[name].secret)
    secrets = secret_inputs(call, loaded, settings, secret)
    open_ = {name: text for name, text in given.items() if not (name in declared and declared[name].secret)}
    kept = {name: value for name, value in _unsealed(record, secrets, loaded, call).items() if name in declared}
    return resolve_inputs(declared, open_, {**kept, **secrets}, call.environ)


def _unsealed(record: RunRecord, secrets: Mapping[str, Any], loaded: LoadedBundle, call: Invocation) -> dict[str, Any]:
    """The recorded inputs with the secrets put back that stood in them."""
    import json

    from vrooli_cli.language.masking import Masker

    declared = loaded.definition.secrets
    known = {name: call.environ.get(variable, "") for name, variable in declared.items()}
    masker = Masker({**known, **{name: value for name, value in secrets.items() if isinstance(value, str)}})
    text = json.dumps(dict(record.inputs or {}), ensure_ascii=False)
    return dict(json.loads(masker.unseal(text.encode("utf-8", "surrogatepass"))))


def _options(
    store: Store, settings: Settings, record: RunRecord, loaded: LoadedBundle, selection: _Selection
) -> RunOptions:
    options = options_of(settings)
    if not selection.reuses:
        return options
    return replace(options, earlier=record.id, forced=_forced(store, record, loaded, selection))


def _forced(store: Store, record: RunRecord, loaded: LoadedBundle, selection: _Selection) -> tuple[str, ...]:
    """The addresses that run in any case.

    Raises:
        InputError: There is no such step.
    """
    from vrooli_cli.cli.session import plan_to_look_at
    from vrooli_cli.model.routine import Bundle

    if not isinstance(loaded.bundle, Bundle):
        hint = "a swarm is run again as a whole, and `vrooli resume` goes on with one that has failed"
        raise InputError(f"--from, --only and --failed are for routines; {hint}")
    wanted = selection.start or selection.only
    if wanted is None:
        return ()
    levels = _levels(plan_to_look_at(loaded.bundle), wanted)
    _check_was_there(store, record, wanted)
    if selection.only is not None:
        return (wanted,)
    return (wanted, *(f"{level.around}{name}" for level in levels for name in _after(level)))


def _levels(plan: RoutinePlan, address: str) -> list[Passed]:
    """The steps that an address leads through.

    Raises:
        InputError: One of them is not there.
    """
    from vrooli_cli.tier2.plan import NoSuchStep

    try:
        levels = list(plan.along(address))
    except NoSuchStep as missing:
        around, ids = missing.around.rstrip("/"), missing.ids
        where = f"the steps of {around} are" if around else "its steps are"
        inside = f"{where} {', '.join(ids[:20])}" if ids else f"{around} has no steps inside"
        raise InputError(f"there is no step {address!r}; {did_you_mean(missing.name, ids) or inside}") from None
    if is_handler(address):
        raise InputError(f"{address!r} is no step; name one that is inside, as in {address}/STEP")
    return levels


def _check_was_there(store: Store, record: RunRecord, wanted: str) -> None:
    """InputError when the earlier run had no such item or turn: there is nothing of it that could be made again."""
    made = made_at(wanted)
    if made < 0:
        return
    from vrooli_cli.journal.history import history_of

    history = history_of(store, record.id)
    known = {span.address for step in history.steps.values() for span in step.spans} | history.steps.keys()
    if wanted not in known:
        around = wanted[:made]
        items = [one for one in known if one.startswith(around) and made_at(one) >= 0]
        hint = did_you_mean(wanted, items) or f"it had {', '.join(sorted(items)[:10]) or 'none'}"
        raise InputError(f"the run {record.id} had no {wanted!r}; {hint}")


def _after(level: Passed) -> list[str]:
    """The ids of all that comes after a step in its graph."""
    steps = level.graph.steps
    after: dict[int, None] = {}
    waiting = [level.step.index]
    while waiting:
        for child in steps[waiting.pop()].children:
            if child not in after:
                after[child] = None
                waiting.append(child)
    return [steps[index].step.id for index in after]


@lean(frozen=False)
class _Reasons:
    """Why each step was reused, or ran again."""

    told: dict[str, tuple[str, str]] = field(default_factory=dict)

    def hear(self, event: ExecutionEvent) -> None:
        """Note an event."""
        payload = event.payload
        if event.type == "tier2/step/reused":
            self.told[payload["step_id"]] = ("reused", payload.get("reason", ""))
        elif event.type == "tier3/execution/started" and payload.get("reason"):
            self.told[payload["step_id"]] = ("ran", payload["reason"])

    def tell(self, console: Console) -> None:
        """A line a step; of very many only some, and first of those that ran."""
        wide = min(40, max(map(len, self.told), default=0))
        told = list(self.told.items())
        if len(told) > _MOST_TOLD:
            told = sorted(told, key=lambda one: one[1][0] == "reused")[:_MOST_TOLD]
        for address, (what, why) in told:
            console.say(f"  {what:<6}  {one_line(address, 60):<{wide}}  {one_line(why, 160)}")
        if len(self.told) > _MOST_TOLD:
            reused = sum(what == "reused" for what, _ in self.told.values())
            console.say(f"  … {len(self.told):,} steps in all, {reused:,} reused")
