"""When what was at work: rows and bars for the timeline, and the chain of steps that the run's time hung on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, log10

from vrooli_cli.model.addresses import around_of, root_of
from vrooli_cli.model.history import RunHistory, Span, StepHistory
from vrooli_cli.model.plan import PlannedStep, PlanSummary

MOST_ROWS = 600
GAP_PART = 0.015  # of the width, between two lives


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt, or the time a composite step was open; ``left`` and ``width`` are parts of the whole, 0 to 1."""

    left: float
    width: float
    status: str
    title: str
    soft: bool = False


@dataclass(slots=True)
class Row:
    """One step."""

    address: str
    status: str
    batch: int
    agent: str
    depth: int
    bars: list[Bar] = field(default_factory=list)
    critical: bool = False
    duration_ms: int = 0


class Axis:
    """Time on paper: the lives of a run one after another, without the time between them."""

    def __init__(self, stretches: Sequence[Sequence[int]]) -> None:
        self._stretches = [(begin, max(end, begin + 1)) for begin, end in stretches] or [(0, 1)]
        total = sum(end - begin for begin, end in self._stretches)
        gaps = len(self._stretches) - 1
        self.total_ms = total / 1e6
        self._scale = max(0.1, 1 - gaps * GAP_PART) / max(1, total)

    def at(self, ns: int) -> float:
        """Where a moment is, 0 to 1; what lies between two lives is at the beginning of the later one."""
        left = 0.0
        for begin, end in self._stretches:
            if ns <= end:
                return left + max(0, ns - begin) * self._scale
            left += (end - begin) * self._scale + GAP_PART
        return min(1.0, left - GAP_PART)

    def ticks(self) -> list[float]:
        """Round times for marks, milliseconds: seven at the most, the first is 0."""
        step = 10 ** floor(log10(max(self.total_ms, 0.01) / 6))
        step = next(step * factor for factor in (1, 2, 5, 10) if self.total_ms / (step * factor) <= 7)
        return [step * number for number in range(int(self.total_ms / step) + 1)]

    def part(self, ms: float) -> float:
        """Where so much time at work is, 0 to 1."""
        left, ns = 0.0, ms * 1e6
        for begin, end in self._stretches:
            if ns <= end - begin:
                break
            ns -= end - begin
            left += (end - begin) * self._scale + GAP_PART
        return min(1.0, left + ns * self._scale)

    @property
    def breaks(self) -> list[float]:
        """Where a later life begins."""
        return [self.at(begin) for begin, _ in self._stretches[1:]]


def tasks_plan(history: RunHistory) -> PlanSummary | None:
    """The tasks of a swarm as a graph, a batch a phase; None for a routine."""
    depth: dict[str, int] = {}
    left = dict(history.tasks)
    while left:
        free = [name for name, above in left.items() if not any(one in left for one in above)] or list(left)
        for name in free:
            depth[name] = 1 + max((depth[one] for one in left[name] if one in depth), default=-1)
        for name in free:
            del left[name]
    if not depth:
        return None
    phases = tuple(tuple(name for name in depth if depth[name] == level) for level in range(max(depth.values()) + 1))
    agents = {name: step.agent for name, step in history.steps.items() if f"{name}[0]" not in history.steps}
    steps = {
        name: PlannedStep(name, "task", agents.get(name, ""), parents=history.tasks[name]) for name in history.tasks
    }
    return PlanSummary(history.record.name, phases, steps)


def rows_of(history: RunHistory, axis: Axis, batch_of: Mapping[str, int], critical: Sequence[str]) -> list[Row]:
    """A row for every step that was at work, by batch, then by agent, then by start; inner ones under theirs."""
    path = set(critical)
    found = []
    for step in history.steps.values():
        if step.began_ns is None:
            continue
        top = root_of(step.address)
        depth = step.address.count("/") + step.address.count("[")
        agent = "" if f"{step.address}[0]" in history.steps else step.agent  # what several do stands above their parts
        row = Row(step.address, step.status, batch_of.get(top, len(batch_of)), agent, depth)
        row.bars = _bars(step, axis, history)
        row.critical = step.address in path
        row.duration_ms = step.duration_ms
        found.append(((row.batch, row.agent, top, _line_of(step, history)), row))
    found.sort(key=lambda entry: entry[0])
    return [row for _, row in found]


def _line_of(step: StepHistory, history: RunHistory) -> tuple[tuple[int, str], ...]:
    """When the step and all around it began, the outermost first: what is inside stands under it."""
    line = []
    address = step.address
    while address:
        around = history.steps.get(address)
        line.append(((around.began_ns if around is not None else None) or 0, address))
        address = around_of(address)
    return tuple(reversed(line))


def _bars(step: StepHistory, axis: Axis, history: RunHistory) -> list[Bar]:
    if not step.spans:
        assert step.began_ns is not None
        return [_bar(axis, step.began_ns, step.ended_ns or history.last_ns, step.status, step.address, soft=True)]
    many = len(step.spans) > 1
    return [
        _bar(
            axis,
            span.began_ns,
            span.ended_ns or _last_of(span, history),
            span.status if span.ended_ns else "cancelled" if span.status == "cancelled" else step.status,
            f"{span.address} attempt {span.attempt}" if many else span.address,
        )
        for span in step.spans
    ]


def _last_of(span: Span, history: RunHistory) -> int:
    """The end of an attempt that has none of its own: of the life in which its process died, or now."""
    return history.stretches[span.life - 1][1] if 0 < span.life < len(history.stretches) else history.last_ns


def _bar(axis: Axis, began: int, ended: int, status: str, title: str, *, soft: bool = False) -> Bar:
    left, right = axis.at(began), axis.at(max(began, ended))
    return Bar(left, max(0.0, right - left), status, title, soft)


def critical_path(history: RunHistory, plan: PlanSummary | None) -> list[str]:
    """The steps that the end of the run waited for, first to last: from the last one back over its latest parent."""
    if plan is None:
        return []
    ended = {name: step.ended_ns for name in plan.steps if (step := history.steps.get(name)) and step.began_ns}
    times = {name: at for name, at in ended.items() if at is not None}
    depth = {name: number for number, batch in enumerate(plan.batches) for name in batch}
    path: dict[str, None] = {}

    def latest(names: Iterable[str]) -> str | None:
        """Of several that ended in one commit the deepest: the others were waited for by it, or could have been."""
        return max(names, key=lambda one: (times[one], depth.get(one, 0)), default=None)

    name = latest(times)
    while name is not None and name not in path:
        path[name] = None
        name = latest(parent for parent in plan.steps[name].parents if parent in times)
    return [*reversed(path)]
