"""``vrooli report``, and the papers that a run leaves: ``--report``, ``--junit``, annotations, GitHub's summary."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrooli_cli.cli.complete import run_ids
from vrooli_cli.cli.console import Console, Invocation
from vrooli_cli.cli.help import VerbCommand
from vrooli_cli.cli.options import Debug
from vrooli_cli.errors import InputError, StoreError, VrooliError
from vrooli_cli.model.values import lean

if TYPE_CHECKING:
    from vrooli_cli.model.history import RunHistory, StepHistory
    from vrooli_cli.model.plan import PlanSummary
    from vrooli_cli.model.store import Store

app = typer.Typer(add_completion=False, rich_markup_mode=None)

SUMMARY = "GITHUB_STEP_SUMMARY"
_MOST_ANNOTATIONS = 10  # as many as GitHub shows of one step of a job


@app.command("report", cls=VerbCommand)
def report(
    ctx: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="An id, the beginning of one, or last.", autocompletion=run_ids)
    ] = "last",
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Where to write it (default: report-RUN.html).")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="FILE", help="The journal; default: in your state folder.")
    ] = None,
    debug: Debug = False,
) -> int:
    """Write one self-contained page about a run: what failed, graph, timeline, steps, prompts, events, cost."""
    from vrooli_cli.cli.session import store_of
    from vrooli_cli.journal.history import history_of

    call: Invocation = ctx.obj
    call.debug = debug
    with closing(store_of(call, store)) as journal:
        history = history_of(journal, run)
        page = _page(history, journal, _plan_of(history))
    place = Path(file or f"report-{history.record.id}.html")
    try:
        place.write_text(page, "utf-8", "replace")
    except OSError as error:
        raise InputError(f"{place} cannot be written: {error.strerror}") from None
    Console(call).say(str(place))
    return 0


def _page(history: RunHistory, store: Store, plan: PlanSummary | None) -> str:
    from vrooli_cli.journal.history import events, whole
    from vrooli_cli.view.report.page import report_page

    result = history.result
    if isinstance(result, dict):
        history.result = whole(result, store)
    return report_page(history, plan, events(store, history.key))


def _plan_of(history: RunHistory) -> PlanSummary | None:
    """The graph of the recorded definition; None when this version cannot plan it."""
    from vrooli_cli.cli.session import plan_to_look_at
    from vrooli_cli.loading.bundle import load_stored
    from vrooli_cli.model.routine import Bundle
    from vrooli_cli.tier2.plan import summarise

    try:
        bundle = load_stored(history.record.definition or {}).bundle
        if not isinstance(bundle, Bundle):
            return None
        return summarise(plan_to_look_at(bundle))
    except VrooliError:
        return None


# --- what a run leaves -----------------------------------------------------------------------------------------------


Locate = Callable[[str], tuple[str, int, int]]
"""Address → file, line and column of a step."""


@lean(frozen=False)
class Papers:
    """What is to be written at the end of a run; made before the journal is closed.

    Attributes:
        history: None when the journal cannot be read any more.
    """

    call: Invocation
    history: RunHistory | None
    junit: str | None = None
    report: str | None = None
    page: str = ""
    locate: Locate | None = None

    def write(self, console: Console) -> None:
        """Write them all; what cannot be written is a warning."""
        history = self.history
        if history is None:
            if self.junit or self.report:
                console.warning("the journal could not be read, so no report and no JUnit file were written")
            return
        if self.junit:
            from vrooli_cli.view.report.junit import junit_xml

            places = (lambda address: self._place(address)[:2]) if self.locate else None
            self._put(console, "--junit", self.junit, junit_xml(history, places))
        if self.report:
            self._put(console, "--report", self.report, self.page)
        if self.call.environ.get(SUMMARY):
            from vrooli_cli.view.report.markdown import summary_markdown

            self._put(console, SUMMARY, self.call.environ[SUMMARY], summary_markdown(history), append=True)
        self._annotate(console, history)

    def _put(self, console: Console, what: str, place: str, text: str, *, append: bool = False) -> None:
        try:
            with Path(place).open("a" if append else "w", encoding="utf-8", errors="replace") as file:
                file.write(self.call.masked(text))
        except OSError as error:
            console.warning(f"{what}: {place} cannot be written: {error.strerror}")

    def _place(self, address: str) -> tuple[str, int, int]:
        return self.locate(address) if self.locate is not None else ("", 0, 0)

    def _annotate(self, console: Console, history: RunHistory) -> None:
        """Further failures, beside their steps; the first one is told with the result."""
        first = (history.error or {}).get("step")
        failed = [step for step in history.steps.values() if _is_own_failure(step) and step.address != first]
        for step in failed[: _MOST_ANNOTATIONS - 1]:
            error = step.error or {}
            level = "warning" if step.continued else "error"
            message = f"{step.address}: {error.get('code')}: {error.get('message')}"
            console.annotate(level, message, *self._place(step.address))


def _is_own_failure(step: StepHistory) -> bool:
    inner = (step.error or {}).get("step")
    return step.status == "failed" and inner in (None, step.address)


def gather(
    call: Invocation,
    store: Store,
    run_id: str,
    *,
    junit: str | None,
    report: str | None,
    plan: PlanSummary | None,
    locate: Locate | None,
) -> Papers | None:
    """What the journal says of the run that has just ended; None when nobody wants it."""
    on_github = call.environ.get("GITHUB_ACTIONS") == "true"
    if not (junit or report or call.environ.get(SUMMARY) or on_github):
        return None
    from vrooli_cli.journal.history import history_of, whole

    try:
        history = history_of(store, run_id)
        history.record = replace(history.record, error_code=None)
        history.result = whole(history.result, store)
        page = _page(history, store, plan) if report else ""
    except StoreError:
        return Papers(call, None, junit, report)
    return Papers(call, history, junit, report, page, locate)


def check_papers(*places: str | None) -> None:
    """Raises InputError for a file that certainly cannot be written, before anything runs."""
    for place in places:
        if place and not Path(place).absolute().parent.is_dir():
            raise InputError(f"{place} cannot be written: there is no folder {Path(place).absolute().parent}")
        if place and Path(place).is_dir():
            raise InputError(f"{place} cannot be written: it is a folder")
