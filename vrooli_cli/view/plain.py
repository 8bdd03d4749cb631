"""A line for each event that matters, with a time stamp: for log files, CI and terminals that can do no more.

Every line is one event, escaped, and begins with its time, so that nothing in a message can look like a line of its own
(nor like a workflow command of a CI system). Steps of a loop over 20 items, and of a run of over 200 steps, are told by
their failures and by a line at about every tenth of the way; ``-v`` tells all, ``-q`` only what went wrong.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any, TextIO

from vrooli_cli.model import events as e
from vrooli_cli.model.plan import PlanSummary
from vrooli_cli.view.board import FAILED, RETRYING, RUNNING, SUSPENDED
from vrooli_cli.view.frame import COLOURS, Look
from vrooli_cli.view.line import Line, of_rich
from vrooli_cli.view.state import ViewState, parent_address
from vrooli_cli.view.summary import final_summary
from vrooli_cli.view.terminal import Scribe
from vrooli_cli.view.text import block, count, duration, place
from vrooli_cli.view.told import ALERT, Told, tell

if TYPE_CHECKING:
    from rich.text import Text

LOOP_LIMIT = 20
RUN_LIMIT = 200
PATIENCE = 2.0

# What only -v tells: it says how, not what.
_DETAILS = frozenset(
    {
        "batch/started",
        "batch/completed",
        "step/iterated",
        "context/exported",
        "tool/called",
        "tool/returned",
        "ai/requested",
        "ai/responded",
        "task/assigned",
        "norm/fulfilled",
        "phase/started",
        "phase/completed",
        "safety/verdict",
    }
)
_ROUTINE_STEPS = frozenset({"execution/started", "step/completed", "step/skipped", "step/cancelled", "step/reused"})
_GRAVE = frozenset({FAILED, SUSPENDED, ALERT})


class PlainView:
    """One line an event.

    Args:
        stream: Where to; a stream that takes nothing stops nobody.
        level: -1 quiet, 0 normal, 1 verbose.
        environ: ``FORCE_COLOR`` turns colours on; ``NO_COLOR`` wins over it.
    """

    def __init__(
        self,
        stream: TextIO,
        plan: PlanSummary | None = None,
        *,
        run_id: str = "",
        credit_limit: int | None = None,
        level: int = 0,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self.state = ViewState(plan, run_id=run_id, credit_limit=credit_limit)
        self.level = level
        self.colour = bool(environ.get("FORCE_COLOR")) and not environ.get("NO_COLOR")
        self.styled = bool(environ.get("FORCE_COLOR"))
        self.scribe = Scribe(stream)
        self.look = Look(unicode=self.scribe.encoding.lower().startswith("utf"), zone=UTC)
        self._tenths: dict[str, int] = {}

    def apply(self, event: e.ExecutionEvent) -> None:
        """Fold the event, and tell it if it matters."""
        self.state.apply(event)
        fact = event.fact
        if fact is None:
            return
        try:
            told = tell(event, fact)
            if told is not None and self._matters(told, fact):
                self._write(told)
            if self.level >= 0 and isinstance(fact, (e.StepCompleted, e.StepFailed, e.StepSkipped)):
                self._progress(event, fact.step_id)
        except Exception:  # as in ViewState.apply
            self.state.ignored += 1

    def _matters(self, told: Told, fact: e.Event) -> bool:
        if self.level > 0:
            return True
        if self.level < 0:
            return told.mark in _GRAVE
        if told.mark == FAILED:
            return True
        if told.type in _DETAILS:
            return False
        if told.type in _ROUTINE_STEPS:
            return not self._one_of_many(str(getattr(fact, "step_id", "")))
        if isinstance(fact, e.RoutineStarted | e.RoutineCompleted) and fact.parent_step_id:
            return not self._one_of_many(fact.parent_step_id)
        return True

    def _one_of_many(self, address: str) -> bool:
        """True inside of a long loop, and everywhere in a long run."""
        if self.state.board.total > RUN_LIMIT:
            return True
        while address:
            address = parent_address(address)
            group = self.state.groups.get(address)
            if group is not None and group.total > LOOP_LIMIT:
                return True
        return False

    def _progress(self, event: e.ExecutionEvent, address: str) -> None:
        """A line at each tenth of a long loop and of a long run."""
        owner = parent_address(address)
        group = self.state.groups.get(owner)
        if group is not None and group.total > LOOP_LIMIT:
            self._tenth(event, owner, group.done, group.failed, group.total)
        board = self.state.board
        if not owner and board.total > RUN_LIMIT:
            failed = board.counts[FAILED]
            self._tenth(event, "", board.done - failed, failed, board.total)

    def _tenth(self, event: e.ExecutionEvent, name: str, done: int, failed: int, total: int) -> None:
        ended = done + failed
        tenth = ended * 10 // total
        if tenth <= self._tenths.get(name, 0):
            return
        self._tenths[name] = tenth
        words = f"{count(ended)}/{count(total)}" + (f", {count(failed)} failed" if failed else "")
        subject = place(name, 100) if name else self.state.name
        self._write(Told(event.timestamp, "tier2", "progress", RUNNING, subject, -1, words))

    def _write(self, told: Told) -> None:
        stamp = told.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = Line((stamp, "dim"), " ", (self.look.sign(told.mark), COLOURS[told.mark]))
        words = told.type.removeprefix(f"{told.subject}/")  # "team formed", not "team team formed"
        text.add(f" {told.subject} ").add(words.replace("/", " ").replace("_", " "), "dim")
        if told.ms >= 0:
            text.add(f" {'in ' if told.mark == RETRYING else ''}{duration(told.ms)}", "dim")
        if told.detail:
            text.add(f": {told.detail}", "red" if told.mark == FAILED else "")
        self.print(text)

    def start(self) -> None:
        """Begin to write."""
        self.scribe.start()

    async def stop(self, result_wire: Mapping[str, Any] | None, *, hint: str | None = None) -> None:
        """Write the summary; a quiet run that went well leaves nothing."""
        status = (result_wire or {}).get("status") or self.state.status
        if self.level >= 0 or status != "completed":
            for text in final_summary(self.state, result_wire, hint, look=self.look, width=200):
                self.print(text)
        await self.scribe.close(PATIENCE)

    def print(self, text: str | Text | Line) -> None:
        """Lines for people."""
        if isinstance(text, str):
            self.scribe.say(block(text).rstrip("\n") + "\n")
            return
        if not isinstance(text, Line):  # rich's: whoever made it has imported rich
            text = of_rich(text)
        if not self.look.unicode:
            text = text.ascii(4_000)
        words = text.ansi(colour=self.colour) if self.styled else text.plain
        self.scribe.say(words.rstrip() + "\n")

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Whatever was said is written first."""
        await self.scribe.told(PATIENCE)
        yield

    def restore(self) -> None:
        """Nothing was changed."""
