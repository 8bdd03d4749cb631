"""``vrooli runs …``: what the journal remembers. RUN is an id, a unique beginning of one, or ``last``."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vrooli_cli.cli.complete import run_ids
from vrooli_cli.cli.console import Console, Invocation, one_line
from vrooli_cli.cli.flags import Run, StoreFile
from vrooli_cli.cli.help import VerbCommand, VerbGroup
from vrooli_cli.cli.options import Debug, Json, choice, whole
from vrooli_cli.errors import InputError

if TYPE_CHECKING:
    from vrooli_cli.cli.output import Stdout
    from vrooli_cli.cli.planned import Paper
    from vrooli_cli.journal.cost import Cost
    from vrooli_cli.journal.diff import Change, RunDiff
    from vrooli_cli.model.history import RunHistory
    from vrooli_cli.model.run import StepResult
    from vrooli_cli.model.store import RunRecord, Store

app = typer.Typer(add_completion=False, rich_markup_mode=None)
family = typer.Typer(
    cls=VerbGroup,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=False,
    help="List, show, follow, compare, add up, export and prune runs.",
)
app.add_typer(family, name="runs")

_STATUSES = ("running", "suspended", "completed", "failed", "cancelled")
_FOLLOWED_SECONDS = 0.2
_LATEST = 2**63 - 1  # what SQLite can compare
_STYLES = {"completed": "32", "failed": "31", "suspended": "33", "running": "36", "cancelled": "33"}
_MOST_ON_SCREEN = 100  # steps, and outputs, that a terminal gets
_PLAIN = {"pending": 1, "skipped": 1, "cancelled": 1, "completed": 2}  # what is told after the others, and last

From = Annotated[int | None, typer.Option("--from", metavar="SEQ", parser=whole(1), help="From this number on.")]
Output = Annotated[
    str, typer.Option("-o", "--output", metavar="FORMAT", **choice("text", "json"), help="text or json.")
]
Lines = Annotated[
    str, typer.Option("-o", "--output", metavar="FORMAT", **choice("ndjson", "json"), help="ndjson, or json: a list.")
]
By = Annotated[
    str, typer.Option(metavar="WHAT", **choice("run", "routine", "model", "day"), help="run, routine, model or day.")
]
Status = Annotated[
    str | None, typer.Option(metavar="STATUS", **choice(*_STATUSES), help="Only these: " + ", ".join(_STATUSES) + ".")
]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this routine or swarm.")]
Since = Annotated[str | None, typer.Option(metavar="WHEN", help="Only runs since then: 2d, 90m, 2026-01-31.")]
Limit = Annotated[int | None, typer.Option("-n", "--limit", metavar="N", parser=whole(1), help="At most so many (20).")]


@contextmanager
def looking(ctx: typer.Context) -> Iterator[tuple[Store, Stdout]]:
    """The journal and stdout of a call; closed at the end, when what was printed is known to have arrived."""
    from vrooli_cli.cli.output import Stdout
    from vrooli_cli.cli.session import store_of

    call: Invocation = ctx.obj
    call.debug = ctx.params["debug"]
    stdout = Stdout(call)
    with closing(store_of(call, ctx.params["store"])) as journal:
        yield journal, stdout
    stdout.check()


def as_json(ctx: typer.Context) -> bool:
    """Whether ``--json`` or ``-o json`` was said."""
    return bool(ctx.params["json"]) or ctx.params["output"] == "json"


def moment(text: str | None) -> int | None:
    """``2d`` ago, or a date, as nanoseconds since 1970.

    Raises:
        InputError: It is neither.
    """
    if text is None:
        return None
    from vrooli_cli.loading.durations import parse_duration

    try:
        return time.time_ns() - parse_duration(text) * 1_000_000
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is no time; expected how long ago (2d, 90m) or a date (2026-01-31)") from None
    return min(round(at.astimezone().timestamp() * 1e9), _LATEST)


# --- list ------------------------------------------------------------------------------------------------------------


@family.command("list", cls=VerbCommand)
def list_runs(
    ctx: typer.Context,
    status: Status = None,
    name: Name = None,
    since: Since = None,
    limit: Limit = None,
    output: Output = "text",
    json: Json = False,
    store: StoreFile = None,
    debug: Debug = False,
) -> int:
    """List runs, the newest first."""
    from vrooli_cli.journal.history import active_ms

    with looking(ctx) as (journal, stdout):
        runs = journal.runs(status=status, name=name, since_ns=moment(since), limit=limit or 20)
        took = active_ms(journal, runs)
        if as_json(ctx):
            stdout.json([row(run, took.get(run.id)) for run in runs])
        elif runs:
            stdout.text(_table(ctx.obj, runs, took))
        else:
            Console(ctx.obj).say("there is no such run")
    return 0


def row(run: RunRecord, took: int | None) -> dict[str, Any]:
    """A run in ``runs list -o json``; it took so many milliseconds, those between its lives not among them."""
    return {
        "id": run.id,
        "name": run.name,
        "kind": run.kind,
        "path": run.path,
        "status": run.status,
        "error_code": run.error_code,
        "started": _iso(run.started_ns),
        "duration_ms": took,
        "credits": str(run.credits),
        "user": run.user,
    }


def _iso(ns: int) -> str:
    from datetime import UTC

    text = datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _local(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _table(call: Invocation, runs: list[RunRecord], times: Mapping[str, int]) -> str:
    from vrooli_cli.cli.planned import Paper

    paper = Paper(call)
    ids = max(len(run.id) for run in runs)
    names = min(32, max(len(run.name) for run in runs))
    for run in runs:
        took = _span(times[run.id]) if run.id in times else ""
        cells = [
            (run.id, min(ids, 40), ""),
            (run.name, names, "1"),
            (run.status, 9, _STYLES.get(run.status, "")),
            (_local(run.started_ns), 19, "2"),
            (took, 7, ""),
        ]
        paper.row(cells, " ".join(part for part in (run.error_code or "", _money(run.credits)) if part))
    return paper.text()


def _span(ms: int) -> str:
    from vrooli_cli.view.text import duration

    return duration(ms)


def _money(credits_: int) -> str:
    return f"{credits_:,} credits" if credits_ else ""


# --- show ------------------------------------------------------------------------------------------------------------


@family.command("show", cls=VerbCommand)
def show(
    ctx: typer.Context,
    run: Run = "last",
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FORMAT", **choice("text", "json", "yaml"), help="text, json or yaml."),
    ] = "text",
    json: Json = False,
    store: StoreFile = None,
    debug: Debug = False,
) -> int:
    """Show how a run stands: every step, what failed and why, what it gave.

    A terminal gets at most 100 steps, first those that did not just complete; a
    pipe gets all. -o json prints the ExecutionResult so far.
    """
    from vrooli_cli.journal.history import history_of, result_of

    lost: list[str] = []
    with looking(ctx) as (journal, stdout):
        history = history_of(journal, run)
        if json or output != "text":
            wire = result_of(history, journal, known_steps(history), lost).wire()
            stdout.document(wire, "json" if json else output)
        else:
            stdout.text(_page(ctx.obj, history, journal, lost))
        tell_lost(ctx.obj, lost)
    return 0


def tell_lost(call: Invocation, lost: list[str]) -> None:
    """Large results that are not beside the store any more."""
    for line in lost:
        Console(call).warning(line)


def known_steps(history: RunHistory) -> list[str]:
    """The ids of the root graph in the order of the file; for a run that has not ended, whose log names only some."""
    from vrooli_cli.errors import VrooliError
    from vrooli_cli.loading.bundle import load_stored
    from vrooli_cli.model.routine import Routine

    if history.ended:
        return []
    try:
        made = load_stored(history.record.definition or {}).definition
    except VrooliError:
        return []
    return [step.id for step in made.steps] if isinstance(made, Routine) else []


def _page(call: Invocation, history: RunHistory, store: Store, lost: list[str]) -> str:
    from vrooli_cli.cli.planned import Paper
    from vrooli_cli.journal.history import result_of

    paper, run = Paper(call), history.record
    paper.head(run.name, f"{run.id}  {run.path}")
    took = _span(history.active_ns // 1_000_000)
    words = [f"{_local(history.began_ns)}", took, _money(history.credits)]
    words += [f"{history.lives} lives"] if history.lives > 1 else []
    paper.row([(history.status, 9, _STYLES.get(history.status, ""))], "  ".join(word for word in words if word))
    if history.error:
        step = f"{history.error['step']}: " if history.error.get("step") else ""
        paper.row([], f"{step}{history.error['code']}: {history.error['message']}", "31")
    if history.inputs:
        paper.head("inputs")
        for given, value in history.inputs.items():
            paper.row([(given, 20, "")], _short(value), "")
    result = result_of(history, store, known_steps(history), lost)
    most = _MOST_ON_SCREEN if sys.stdout.isatty() else None
    _steps_of(paper, result.steps, most)
    if result.result is not None:
        paper.head("result")
        outputs = result.result if isinstance(result.result, dict) else {"": result.result}
        for output, value in list(outputs.items())[:most]:
            paper.row([(output, 20, "")], _short(value), "")
        if most is not None and len(outputs) > most:
            paper.row([], f"… {len(outputs) - most:,} more; -o json has them all")
    return paper.text()


def _steps_of(paper: Paper, steps: Mapping[str, StepResult], most: int | None) -> None:
    """A row for each step; of more than fit in ``most``, how many stand how, and those that did not just complete."""
    shown = list(steps.items())
    if most is None or len(shown) <= most:
        paper.head("steps")
    else:
        counts = Counter(step.status.value for step in steps.values())
        paper.head("steps", ", ".join(f"{count:,} {status}" for status, count in counts.most_common()))
        shown = sorted(shown, key=lambda one: _PLAIN.get(one[1].status.value, 0))[:most]
    wide = min(40, max((len(name) for name, _ in shown), default=0))
    for path, one in shown:
        _step_row(paper, path, wide, one)
    if len(shown) < len(steps):
        paper.row([], f"… {len(steps) - len(shown):,} more; `vrooli runs show RUN | less` or -o json has them all")


def _step_row(paper: Paper, name: str, wide: int, step: StepResult) -> None:
    again = "reused" if step.reused else f"{step.attempts} attempts" if step.attempts > 1 else ""
    parts = " ".join(f"{count} {status}" for status, count in (step.counts or {}).items())
    why = f"{step.error.code}: {step.error.message}" if step.error else step.reason or ""
    status = step.status.value
    took = _span(step.duration_ms) if step.duration_ms else ""
    cells = [(name, wide, "1"), (status, 9, _STYLES.get(status, "2")), (took, 7, "")]
    paper.row(cells, "  ".join(word for word in (again, parts, why) if word))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json_module.dumps(value, ensure_ascii=False, default=str)
    return one_line(text, 500)


# --- events and logs -------------------------------------------------------------------------------------------------


@family.command("events", cls=VerbCommand)
def events(
    ctx: typer.Context,
    run: Run = "last",
    type: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only these types: tier3/*/failed, **/failed.")
    ] = None,
    step: Annotated[str | None, typer.Option(metavar="STEP", help="Only of this step and what is inside it.")] = None,
    first: From = None,
    output: Lines = "ndjson",
    json: Json = False,
    store: StoreFile = None,
    debug: Debug = False,
) -> int:
    """Print the events of a run, one JSON object a line."""
    with looking(ctx) as (journal, stdout):
        key, _ = journal.find(run)
        lines = _lines(journal, key, first or 1, type, step)
        if as_json(ctx):
            stdout.json([json_module.loads(line) for line in lines])
        else:
            _write_lines(stdout, lines)
    return 0


def _lines(journal: Store, key: int, first: int, type_: str | None, step: str | None) -> Iterator[bytes]:
    """The lines that are wanted, as they were written."""
    from vrooli_cli.bus import matches
    from vrooli_cli.journal.history import decode
    from vrooli_cli.language.masking import show as shown

    for raw in journal.read(key, first):
        line = shown(raw)
        if type_ is not None or step is not None:
            event = decode(line)
            at = event["payload"].get("step_id") or ""
            inside = step is None or at == step or (at.startswith(step) and at[len(step)] in "/[#")
            if not inside or (type_ is not None and not matches(type_, event["type"])):
                continue
        yield line


def _write_lines(stdout: Stdout, lines: Iterator[bytes]) -> None:
    waiting: list[bytes] = []
    for line in lines:
        waiting.append(line)
        if len(waiting) >= 500:
            stdout.write(b"".join(waiting))
            waiting.clear()
        if stdout.gone:
            return
    stdout.write(b"".join(waiting))


@family.command("logs", cls=VerbCommand)
def logs(
    ctx: typer.Context,
    run: Run = "last",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as the run does, until it ends.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Every event that says something.")] = False,
    store: StoreFile = None,
    debug: Debug = False,
) -> int:
    """Print what happened, a line each, as `--view plain` would have."""
    with looking(ctx) as (journal, stdout):
        key, record = journal.find(run)
        teller = _teller(stdout, ctx.obj, verbose=verbose)
        seen = 0
        while not stdout.gone:
            alive = follow and journal.is_alive(record.id)  # asked before reading: what it wrote last is read, too
            for event in _new_events(journal, key, seen + 1):
                teller(event)
                seen = event.seq
            if not alive:
                break
            time.sleep(_FOLLOWED_SECONDS)
    return 0


def _new_events(journal: Store, key: int, first: int) -> Iterator[Any]:
    from vrooli_cli.bus import replay

    return replay(journal, key, first)


def _teller(stdout: Stdout, call: Invocation, *, verbose: bool) -> Any:
    """Writes an event as the plain view does, at once."""
    from vrooli_cli.view.plain import PlainView
    from vrooli_cli.view.terminal import Scribe

    class Straight(Scribe):
        def say(self, text: str) -> None:
            stdout.text(text)

    view = PlainView(sys.stdout, level=1 if verbose else 0, environ=call.environ)
    view.scribe = Straight(sys.stdout)
    return view.apply


# --- diff, cost ------------------------------------------------------------------------------------------------------


@family.command("diff", cls=VerbCommand)
def diff(
    ctx: typer.Context,
    one: Annotated[str, typer.Argument(metavar="A", help="A run.", show_default=False, autocompletion=run_ids)],
    other: Annotated[str, typer.Argument(metavar="B", help="Another run.", show_default=False, autocompletion=run_ids)],
    output: Output = "text",
    json: Json = False,
    store: StoreFile = None,
    debug: Debug = False,
) -> int:
    """Compare two runs: inputs, definition, path, outputs and prompts. Exit 0 when they are the same, 1 when not.

    Time and credits are shown, and make no difference.
    """
    from vrooli_cli.journal.diff import compare
    from vrooli_cli.journal.history import history_of

    with looking(ctx) as (journal, stdout):
        found = compare(history_of(journal, one), history_of(journal, other), journal)
        if as_json(ctx):
            stdout.json(found.wire())
        else:
            stdout.text(_differences(ctx.obj, found))
    return 0 if found.same else 1


def _differences(call: Invocation, found: RunDiff) -> str:
    from vrooli_cli.cli.planned import Paper

    paper = Paper(call)
    for name, changes in (("inputs", found.inputs), ("path", found.path), ("outputs", found.outputs)):
        _changes(paper, name, changes)
    if found.definition:
        paper.head("definition")
        for line in found.definition:
            style = {"+": "32", "-": "31", "@": "36"}.get(line[:1], "")
            paper.lines.append("  " + paper.style(one_line(line), style))
    _changes(paper, "prompts", found.prompts)
    before, after = found.duration_ms
    paper.head("time", f"{_span(before)} → {_span(after)}")
    if any(found.credits):
        paper.head("credits", f"{found.credits[0]:,} → {found.credits[1]:,}")
    return paper.text()


def _changes(paper: Paper, name: str, changes: list[Change]) -> None:
    from vrooli_cli.journal.diff import MISSING

    if not changes:
        return
    paper.head(name)
    for change in changes:
        paper.row([], change.where, "1")
        for sign, value, style in (("-", change.before, "31"), ("+", change.after, "32")):
            if value is not MISSING:
                paper.row([], f"  {sign} {_short(value)}", style)


@family.command("cost", cls=VerbCommand)
def cost(
    ctx: typer.Context,
    by: By = "routine",
    name: Name = None,
    since: Since = None,
    output: Output = "text",
    json: Json = False,
    store: StoreFile = None,
    debug: Debug = False,
) -> int:
    """Add up what runs have cost; a million credits is one US dollar."""
    from vrooli_cli.journal.cost import costs

    with looking(ctx) as (journal, stdout):
        found = costs(journal, by, name, moment(since))
        if as_json(ctx):
            stdout.json([line.wire(by) for line in found])
        else:
            stdout.text(_bill(ctx.obj, found))
    return 0


def _bill(call: Invocation, found: list[Cost]) -> str:
    from vrooli_cli.cli.planned import Paper

    paper = Paper(call)
    wide = min(48, max(map(len, ("in all", *(line.name for line in found)))))
    for line in found:
        tokens = f"{line.calls:,} calls, {line.input_tokens:,} + {line.output_tokens:,} tokens" if line.calls else ""
        cells = [
            (line.name, wide, "1"),
            (f"{line.credits:,}".rjust(14), 14, ""),
            (f"${line.credits / 1e6:,.4f}", 10, "2"),
        ]
        paper.row(cells, tokens or f"{line.runs:,} run{'s' if line.runs != 1 else ''}")
    total = sum(line.credits for line in found)
    paper.row([("in all", wide, "1"), (f"{total:,}".rjust(14), 14, "1"), (f"${total / 1e6:,.4f}", 10, "2")])
    return paper.text()


# --- export, prune ---------------------------------------------------------------------------------------------------


@family.command("export", cls=VerbCommand)
def export(
    ctx: typer.Context,
    run: Run = "last",
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="FORMAT",
            **choice("json", "otlp"),
            help="json (everything), or otlp (a trace, as an OpenTelemetry collector takes it).",
        ),
    ] = "json",
    json: Json = False,
    store: StoreFile = None,
    debug: Debug = False,
) -> int:
    """Print a run for other programs."""
    from vrooli_cli.journal.export import as_document

    lost: list[str] = []
    with looking(ctx) as (journal, stdout):
        if output == "otlp" and not json:
            stdout.json(_trace_of(journal, run), indent=None)
        else:
            stdout.json(as_document(journal, run, lost), indent=None)
        tell_lost(ctx.obj, lost)
    return 0


def _trace_of(journal: Store, run: str) -> dict[str, Any]:
    """The run as the spans that it sent, or would have sent, when it was at work."""
    from vrooli_cli.journal.history import events, settle, time_of
    from vrooli_cli.tracing import Span, SpanFold, Trace, as_otlp

    key, record = settle(journal, run)
    spans: list[Span] = []
    trace = Trace.of_stored(record.id, (record.settings or {}).get("trace"))
    fold = SpanFold(trace, record.name, spans.append, kind=record.kind, user=record.user)
    for event in events(journal, key):
        fold.apply(event["type"], event["execution_id"], event["payload"], time_of(event))
    fold.close()
    return as_otlp(spans)


@family.command("prune", cls=VerbCommand)
def prune(
    ctx: typer.Context,
    older_than: Annotated[str | None, typer.Option(metavar="WHEN", help="Forget runs started before: 30d.")] = None,
    keep: Annotated[
        int | None, typer.Option(metavar="N", parser=whole(0), help="Forget all but the newest so many.")
    ] = None,
    output: Output = "text",
    json: Json = False,
    store: StoreFile = None,
    debug: Debug = False,
) -> int:
    """Forget runs that are over. Runs at work and suspended ones stay."""
    if older_than is None and keep is None:
        raise InputError("say what may go: --older-than 30d, --keep 100, or both")
    with looking(ctx) as (journal, stdout):
        forgotten = journal.prune(older_than_ns=moment(older_than), keep=keep)
        if as_json(ctx):
            stdout.json({"forgotten": forgotten})
        else:
            Console(ctx.obj).say(f"{forgotten:,} run{'s' if forgotten != 1 else ''} forgotten")
    return 0
