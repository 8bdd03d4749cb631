"""The flags of the verbs that run something, and what they say together.

A verb declares in its signature which of them it takes; :func:`given` reads what was said from the parameters of the
call, so that no verb maps flags to settings by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vrooli_cli.cli.complete import open_runs, run_ids, run_steps
from vrooli_cli.cli.options import choice, dollars, duration, executor, positive_duration, whole
from vrooli_cli.errors import InputError
from vrooli_cli.model.values import lean

if TYPE_CHECKING:
    from vrooli_cli.cli.drive import How
    from vrooli_cli.loading.project import Settings
    from vrooli_cli.tier2.prepared import RunOptions

INPUT, OUTPUT, LIMITS, CONTROL, MODELS, KEPT = "Inputs", "Output", "Limits", "Control", "Models", "What is kept"
"""The headings of ``--help``."""

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="An id, the beginning of one, or last.", show_default=False, autocompletion=run_ids
    ),
]
OpenRun = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="An id, the beginning of one, or last.", show_default=False, autocompletion=open_runs
    ),
]
StepPath = Annotated[
    str, typer.Argument(metavar="STEP", help="The step's path.", show_default=False, autocompletion=run_steps)
]
StoreFile = Annotated[
    str | None,
    typer.Option("--store", metavar="FILE", help="The journal; default: in your state folder.", rich_help_panel=KEPT),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FORMAT",
        **choice("text", "json", "yaml", "ndjson", "none"),
        help="What stdout gets: text (default), json, yaml, ndjson or none.",
        rich_help_panel=OUTPUT,
    ),
]
Field = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Print one output, raw: summary, report.rows[0].", rich_help_panel=OUTPUT),
]
View = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        **choice("live", "plain", "none"),
        help="What stderr shows: live (default on a terminal), plain or none.",
        rich_help_panel=OUTPUT,
    ),
]
Events = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the events as NDJSON to a file, too.", rich_help_panel=OUTPUT)
]
Junit = Annotated[
    str | None,
    typer.Option("--junit", metavar="FILE", help="Write a JUnit file: a test case a step.", rich_help_panel=OUTPUT),
]
Report = Annotated[
    str | None,
    typer.Option(
        "--report", metavar="FILE", help="Write a page about the run: HTML, self-contained.", rich_help_panel=OUTPUT
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say only what went wrong.", rich_help_panel=OUTPUT)]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say everything.", rich_help_panel=OUTPUT)]
KeepGoing = Annotated[
    bool,
    typer.Option("--keep-going", help="After a failure, run all that does not depend on it.", rich_help_panel=CONTROL),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        **choice("eager", "batched"),
        help="eager (default): a step starts when its own dependencies are done; batched: batch by batch.",
        rich_help_panel=CONTROL,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Grant every approval and ask.", rich_help_panel=CONTROL)]
NoInput = Annotated[bool, typer.Option("--no-input", help="Never prompt.", rich_help_panel=CONTROL)]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE", help="Allow only what matches: 'shell(git *)'.", rich_help_panel=CONTROL),
]
Deny = Annotated[list[str] | None, typer.Option(metavar="RULE", help="Deny what matches.", rich_help_panel=CONTROL)]
PassExit = Annotated[
    bool, typer.Option("-x", help="Exit with a failed shell step's own exit code.", rich_help_panel=CONTROL)
]
MaxConcurrent = Annotated[
    int | None,
    typer.Option(
        "-j",
        "--max-concurrent",
        metavar="N",
        parser=whole(1),
        help="Steps at work at one moment (default 8).",
        rich_help_panel=LIMITS,
    ),
]
Timeout = Annotated[
    int | None,
    typer.Option(
        metavar="D", parser=positive_duration, help="The run's time in all: 90s, 10m. Exit 124.", rich_help_panel=LIMITS
    ),
]
Grace = Annotated[
    int | None,
    typer.Option(
        metavar="D", parser=duration, help="From TERM to KILL when a step is stopped (5s).", rich_help_panel=LIMITS
    ),
]
MaxCredits = Annotated[
    int | None,
    typer.Option(metavar="N", parser=whole(0), help="Credits in all; a million is 1 USD.", rich_help_panel=LIMITS),
]
MaxCost = Annotated[
    float | None, typer.Option(metavar="USD", parser=dollars, help="The same in USD.", rich_help_panel=LIMITS)
]
AllowUnpriced = Annotated[
    bool,
    typer.Option("--allow-unpriced", help="Count a model without a known price as 0.", rich_help_panel=MODELS),
]
Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="The default model (or VROOLI_MODEL).", rich_help_panel=MODELS)
]
Executor = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        parser=executor,
        help="Where tools run: local, dask:local or dask://HOST:PORT, a Dask cluster.",
        rich_help_panel=CONTROL,
    ),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Use and keep no result of `cache:` steps.", rich_help_panel=KEPT)
]

# Flags that stand over settings of the environment or of the recorded run, by the setting's name.
_SETTINGS = {
    "view": "view",
    "schedule": "schedule",
    "executor": "executor",
    "timeout": "timeout_ms",
    "grace": "grace_ms",
    "max_concurrent": "max_concurrent",
    "max_credits": "max_credits",
    "max_cost": "max_cost",
    "keep_going": "keep_going",
    "store": "store",
    "no_store": "no_store",
    "no_cache": "no_cache",
    "no_input": "no_input",
    "yes": "yes",
    "model": "model",
    "allow_unpriced": "allow_unpriced",
}


@lean(kw_only=True)
class Given:
    """What the flags of a call say.

    Attributes:
        settings: Those that stand over other settings.
        assume: ``STEP=done`` and the like, as typed.
        kill_orphans: End what a dead process of the run has left at work.
        inputs: ``NAME=VALUE``, as typed.
        level: -1 for ``-q``, 1 for ``-v``.
    """

    settings: Mapping[str, Any]
    assume: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    field: str | None = None
    events: str | None = None
    junit: str | None = None
    report: str | None = None
    store: str | None = None
    level: int = 0
    pass_exit: bool = False
    kill_orphans: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


def given(params: Mapping[str, Any]) -> Given:
    """What the parameters of a call say; raises InputError where they contradict each other."""
    output, store = params.get("output"), params.get("store")
    if params.get("json") and output not in (None, "json"):
        raise InputError(f"--json is short for -o json, so -o {output} contradicts it")
    if store and params.get("no_store"):
        raise InputError("--store and --no-store contradict each other")
    settings = {setting: params.get(flag) for flag, setting in _SETTINGS.items()}
    settings |= {"output": "json" if params.get("json") else output, "tools": tuple(params.get("tools") or ())}
    return Given(
        settings=settings,
        assume=tuple(params.get("assume") or ()),
        inputs=tuple(params.get("input") or ()),
        field=params.get("field"),
        events=params.get("events"),
        junit=params.get("junit"),
        report=params.get("report"),
        store=store,
        level=params.get("verbose", False) - params.get("quiet", False),
        pass_exit=params.get("pass_exit", False),
        kill_orphans=params.get("kill_orphans", False),
        allow=tuple(params.get("allow") or ()),
        deny=tuple(params.get("deny") or ()),
    )


def how_of(settings: Settings, said: Given) -> How:
    """How the run is shown, and what is printed of it; raises InputError where that cannot be."""
    from vrooli_cli.cli.drive import How
    from vrooli_cli.cli.output import field_path
    from vrooli_cli.cli.report import check_papers

    check_papers(said.junit, said.report)
    format_ = settings.output or "text"
    if said.field is not None:
        field_path(said.field)
        if format_ != "text":
            raise InputError(f"--field prints one output raw, so it does not go with -o {format_}")
    return How(
        format=format_,
        field=said.field,
        view=settings.view,
        level=said.level,
        events=said.events,
        junit=said.junit,
        report=said.report,
        pass_exit=said.pass_exit,
        kept=not settings.no_store,
        store=said.store,
    )


def options_of(settings: Settings) -> RunOptions:
    """How to run, from settings."""
    from vrooli_cli.cli.session import kept_settings
    from vrooli_cli.tier2.prepared import RunOptions

    return RunOptions(
        keep_going=bool(settings.keep_going),
        schedule=settings.schedule,
        timeout_ms=settings.timeout_ms,
        grace_ms=5000 if settings.grace_ms is None else settings.grace_ms,
        settings=kept_settings(settings),
        cache=not settings.no_cache,
    )
