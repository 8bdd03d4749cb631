"""What runs have cost, added up: by run, routine, model or day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from vrooli_cli.journal.history import decode
from vrooli_cli.language.masking import show
from vrooli_cli.model.store import RunRecord, Store
from vrooli_cli.model.values import lean

BY: Final = ("run", "routine", "model", "day")
_RESPONDED: Final = "tier3/ai/responded"


@lean(frozen=False)
class Cost:
    """One line of the sum.

    Attributes:
        calls: Answered requests to models; counted by model only.
    """

    name: str
    runs: int = 0
    credits: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def wire(self, by: str) -> dict[str, str | int]:
        """The plain form of ``-o json``; credits are text, so that no reader rounds them."""
        plain: dict[str, str | int] = {by: self.name, "runs": self.runs, "credits": str(self.credits)}
        if by == "model":
            plain |= {"calls": self.calls, "input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        return plain


def costs(store: Store, by: str, name: str | None = None, since_ns: int | None = None) -> list[Cost]:
    """The sums, the most expensive first; days in order.

    Args:
        store: The journal.
        by: One of :data:`BY`.
        name: Only runs of this name.
        since_ns: Only runs started then or later.
    """
    found: dict[str, Cost] = {}
    if by == "model":
        _add_models(store.payloads(_RESPONDED, name, since_ns), found)
    else:
        called = _NAMES[by]
        for run in store.runs(name=name, since_ns=since_ns):
            line = found.setdefault(called(run), Cost(called(run)))
            line.runs += 1
            line.credits += run.credits
    if by == "day":
        return sorted(found.values(), key=lambda line: line.name)
    return sorted(found.values(), key=lambda line: (-line.credits, line.name))


def _add_models(answers: Iterable[tuple[str, bytes]], found: dict[str, Cost]) -> None:
    """The answers in the logs of these runs."""
    seen: set[tuple[str, str]] = set()
    for run_id, answer in answers:
        payload = decode(show(answer))
        name = payload["model"]
        cost = found.setdefault(name, Cost(name))
        usage = payload.get("usage") or {}
        cost.runs += (run_id, name) not in seen
        cost.calls += 1
        cost.credits += payload.get("credits") or 0
        cost.input_tokens += usage.get("input_tokens") or usage.get("prompt_tokens") or 0
        cost.output_tokens += usage.get("output_tokens") or usage.get("completion_tokens") or 0
        seen.add((run_id, name))


_NAMES: dict[str, Callable[[RunRecord], str]] = {
    "run": lambda run: run.id,
    "routine": lambda run: run.name,
    "day": lambda run: datetime.fromtimestamp(run.started_ns / 1e9).astimezone().date().isoformat(),
}
