"""A plan in words and pictures: ``vrooli plan`` and ``--dry-run`` as text, JSON, Mermaid and Graphviz."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vrooli_cli.cli.console import Invocation, coloured, one_line
from vrooli_cli.cli.output import Stdout, as_json, refusal_wire
from vrooli_cli.errors import InputError

if TYPE_CHECKING:
    from vrooli_cli.architecture import ExecutionArchitecture
    from vrooli_cli.cli.costs import Estimate
    from vrooli_cli.gate import EffectsReport, PlannedCall
    from vrooli_cli.language.expressions import Value
    from vrooli_cli.loading.bundle import LoadedBundle
    from vrooli_cli.loading.project import Settings
    from vrooli_cli.model.plan import PlanSummary
    from vrooli_cli.tier2.dry import DryStep
    from vrooli_cli.tier2.plan import GraphPlan, RoutinePlan, StepPlan
    from vrooli_cli.tier3.registry import ToolRegistry

_NARROWEST = 60
_SHOWN = 60  # steps of a plan, and rules; a small one is shown whole
_KIND_WORDS = {"prompt": "asks a model", "wait": "waits", "approval": "asks a person", "parallel": "group"}


class Picture:
    """Everything that is said about a plan."""

    def __init__(self, plan: RoutinePlan, architecture: ExecutionArchitecture) -> None:
        from vrooli_cli.cli.costs import estimate
        from vrooli_cli.gate import effects_report
        from vrooli_cli.tier2.plan import summarise

        self.plan = plan
        self.summary: PlanSummary = summarise(plan)
        self.report: EffectsReport = effects_report(planned_calls(plan, architecture.tools))
        self.models: dict[str, list[str]] = models_of(plan)
        self.estimate: Estimate = estimate(architecture, plan)

    def wire(self) -> dict[str, Any]:
        """The documented JSON (spec cli.md, ``plan``)."""
        path = critical_path(self.summary)
        return {"name": self.summary.name, **plan_wire(self.summary, path, self.report, self.models, self.estimate)}


def plan_wire(
    summary: PlanSummary,
    path: Sequence[str],
    report: EffectsReport,
    models: Mapping[str, Sequence[str]],
    estimate: Estimate,
) -> dict[str, Any]:
    """What the JSON of every plan has: graph, critical path, effects and rules, models, cost."""
    return {
        "batches": [list(batch) for batch in summary.batches],
        "edges": [{"from": parent, "to": child} for parent, child in summary.edges],
        "critical_path": path,
        "effects": [
            {"step": line.address, "tool": line.tool, "effects": line.effects, "rule": line.rule}
            | ({"chosen_by": "model"} if line.chosen else {})
            for line in report.effects
        ],
        "permissions": {"allow": list(report.rules)},
        "models": [
            {"name": name, "asks": list(estimate.asks.get(name, ())), "steps": steps} for name, steps in models.items()
        ],
        "cost": {"low": estimate.cost.low, "high": estimate.cost.high},
    }


# --- what is in a plan -----------------------------------------------------------------------------------------------


def _walk(plan: RoutinePlan, prefix: str = "") -> Iterator[tuple[str, StepPlan]]:
    """Every step with its path, those of groups, child routines and handlers too."""

    def graph(steps: GraphPlan, before: str) -> Iterator[tuple[str, StepPlan]]:
        for step in steps.steps:
            path = before + step.step.id
            yield path, step
            if step.inside is not None:
                yield from graph(step.inside, f"{path}/")
            elif step.child is not None:
                yield from _walk(step.child, f"{path}/")

    yield from graph(plan.graph, prefix)
    for name, handler in plan.handlers.items():
        yield from graph(handler, f"{prefix}handlers.{name}/")


def planned_calls(plan: RoutinePlan, tools: ToolRegistry, prefix: str = "") -> Iterator[PlannedCall]:
    """Every tool call that the file writes, as far as it is known, and those that its models may choose to make."""
    from vrooli_cli.gate import PlannedCall
    from vrooli_cli.model.routine import Prompt

    for path, step in _walk(plan, prefix):
        if isinstance(step.step.action, Prompt) and step.step.action.tools:
            from vrooli_cli.tier3.strategies_ai import offered

            for tool in offered(step.step.action.tools, tools):
                yield PlannedCall(path, tool.traits, tool.most_effects, chosen=True)
        if step.kind != "tool" or step.tool is None or step.parameters is None:
            continue
        values = step.parameters.values
        effects = step.effects or step.tool.most_effects
        main = step.tool.main_parameter
        known = known_parts(values[main]) if main in values else None
        yield PlannedCall(path, step.tool.traits, effects, known)


def known_parts(value: Value) -> Any:
    """What of a value is known before the run; see :class:`vrooli_cli.gate.PlannedCall`."""
    from vrooli_cli.language.expressions import compile_value

    if value.is_constant:
        return value.evaluate({})
    if isinstance(value.raw, list):
        parts = [compile_value(one, problems=[]) for one in value.raw]
        return [known_parts(part) for part in parts]
    if isinstance(value.raw, str) and len(value.segments) > 1:
        return tuple(part if isinstance(part, str) else None for part in value.segments)
    return None


def models_of(plan: RoutinePlan, prefix: str = "") -> dict[str, list[str]]:
    """Model → the steps that ask it."""
    models: dict[str, list[str]] = {}
    for path, step in _walk(plan, prefix):
        strategy = step.step.strategy
        if step.kind == "prompt" or (strategy is not None and strategy.value == "reasoning"):
            models.setdefault(step.step.model[0] if step.step.model else "default", []).append(path)
    return models


def critical_path(summary: PlanSummary, sizes: Mapping[str, int] | None = None) -> list[str]:
    """The longest chain of steps: by known waiting time among those of most steps, or of the greatest size."""
    best: dict[str, tuple[int, int]] = {}
    before: dict[str, str] = {}
    for batch in summary.batches:
        for name in batch:
            step = summary.steps[name]
            longest = max(step.parents, key=lambda parent: best[parent], default=None)
            steps, waits = best[longest] if longest is not None else (0, 0)
            best[name] = (steps + (sizes[name] if sizes else 1), waits + (step.duration_ms or 0))
            if longest is not None:
                before[name] = longest
    path: list[str] = []
    at = max(best, key=lambda name: best[name], default=None)
    while at is not None:
        path.append(at)
        at = before.get(at)
    return path[::-1]


# --- as text ---------------------------------------------------------------------------------------------------------


class Paper:
    """Lines for a terminal, or for a file."""

    def __init__(self, call: Invocation) -> None:
        self.width = max(_NARROWEST, shutil.get_terminal_size((100, 24)).columns)
        self._colour = coloured(sys.stdout, call.environ)
        self._cut = sys.stdout.isatty()
        self.lines: list[str] = []

    def style(self, text: str, codes: str) -> str:
        """The text in a style, where styles are shown."""
        return f"\x1b[{codes}m{text}\x1b[0m" if self._colour and text else text

    def head(self, text: str, note: str = "") -> None:
        """A heading, after an empty line."""
        if self.lines:
            self.lines.append("")
        self.lines.append(self.style(text, "1") + (self.style(f"  {note}", "2") if note else ""))

    def row(self, cells: Sequence[tuple[str, int, str]], rest: str = "", rest_style: str = "2") -> None:
        """Cells of (text, width, style), then text up to the edge of the terminal."""
        out, used = ["  "], 2
        for text, width, style in cells:
            shown = one_line(text, width) if width else one_line(text)
            out.append(self.style(shown, style) + " " * (width - len(shown) + 2 if width else 2))
            used += (width or len(shown)) + 2
        room = max(10, self.width - used - 1) if self._cut else 0
        out.append(self.style(one_line(rest, room), rest_style) if rest else "")
        self.lines.append("".join(out).rstrip())

    def wrapped(self, words: Sequence[str], between: str) -> None:
        """Words one after another over as many lines as they need."""
        line = "  "
        for at, word in enumerate(words):
            piece = one_line(word) + (between if at < len(words) - 1 else "")
            if len(line) + len(piece) > self.width - 1 and line.strip():
                self.lines.append(line.rstrip())
                line = "    "
            line += piece
        self.lines.append(line.rstrip())

    def text(self) -> str:
        """The whole."""
        return "\n".join(self.lines) + "\n"


def plan_text(call: Invocation, picture: Picture) -> str:
    """A plan for people."""
    paper, summary = Paper(call), picture.summary
    count = len(summary.steps)
    words = f"{count:,} step{'s' if count != 1 else ''} in {len(summary.batches):,} batch"
    paper.head(summary.name, words + ("es" if len(summary.batches) != 1 else ""))
    if summary.description:
        paper.row([], summary.description.strip().splitlines()[0], "")
    _batches(paper, summary)
    for path, inner in summary.nested.items():
        if path.startswith("handlers."):
            paper.head(path, "after the graph")
            _batches(paper, inner, numbered=False)
    chain = critical_path(summary)
    if len(chain) > 1:
        paper.head("Critical path", f"{len(chain):,} steps")
        print_chain(paper, chain)
    print_effects(paper, picture.report)
    if picture.models:
        paper.head("Models")
        for name, steps in picture.models.items():
            asked = " → ".join(picture.estimate.asks[name])
            listed = [*steps[:24], f"… {len(steps) - 24:,} more"] if len(steps) > 25 else steps
            paper.row([(name if asked == name else f"{name} ({asked})", 0, "")], ", ".join(listed))
    print_cost(paper, picture.estimate)
    return paper.text()


def print_chain(paper: Paper, chain: Sequence[str]) -> None:
    """A path through the graph, its middle left out when it is long."""
    paper.wrapped(chain if len(chain) <= 24 else [*chain[:12], "…", *chain[-11:]], " → ")


def print_cost(paper: Paper, estimate: Estimate) -> None:
    """Nothing for a routine that costs nothing."""
    low, high = estimate.cost.low, estimate.cost.high
    if not high:
        return
    note = f"${low / 1e6:,.4f} to ${high / 1e6:,.4f}"
    paper.head("Cost", f"{low:,} to {high:,} credits, {note}")
    if not estimate.bounded:
        paper.row([], "the most is the ceiling of the run: texts, items or answers of tools are known to the run only")


def _batches(paper: Paper, summary: PlanSummary, *, numbered: bool = True) -> None:
    """Every batch, with all of its steps where there is room; else some of each, so that the graph's shape is seen."""
    wide = min(28, max((len(name) for name in summary.steps), default=0))
    tools = min(24, max((len(_does(summary, name)) for name in summary.steps), default=0))
    if numbered:
        paper.head("Batches")
    total = len(summary.batches)
    head, tail = (total, total) if total <= 30 else (20, total - 9)
    left = summary.batches[head:tail]
    each = _share([len(batch) for batch in (*summary.batches[:head], *summary.batches[tail:])], _SHOWN)
    digits = len(str(total))
    for number, batch in enumerate(summary.batches, 1):
        if head < number <= tail:
            if number == head + 1:
                paper.row([], f"… {len(left):,} more batches, {sum(map(len, left)):,} steps")
            continue
        for at, name in enumerate(batch):
            mark = [(str(number) if at == 0 else "", digits, "36")] if numbered else []
            if at == each and len(batch) > each + 1:
                paper.row(mark, f"… {len(batch) - each:,} more")
                break
            step = summary.steps[name]
            after = f"after {', '.join(step.parents[:6])}{', …' if len(step.parents) > 6 else ''}"
            paper.row(
                [*mark, (name, wide, "1"), (_does(summary, name), tools, "")], after if step.parents else step.name
            )


def _share(sizes: Sequence[int], room: int) -> int:
    """How many of each may be shown so that all take about ``room`` rows: at least one."""
    least, most = 1, max(sizes, default=1)
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if sum(min(size, middle) for size in sizes) <= room else (least, middle - 1)
    return least


def _does(summary: PlanSummary, name: str) -> str:
    step = summary.steps[name]
    what = step.label or _KIND_WORDS.get(step.kind, step.kind)
    if step.kind == "prompt":
        what = f"{step.strategy or 'prompt'} {step.label}"
    elif step.kind == "wait" and step.duration_ms is not None:
        what = f"waits {step.duration_ms / 1000:g}s"
    return f"{what} ×{step.loop}" if step.loop else what


def print_effects(paper: Paper, report: EffectsReport) -> None:
    """Every call with effects, made or offered to a model, and the rules that would allow just these."""
    effects = report.effects
    if not effects:
        paper.head("Effects", "none: every tool of this file is free of them")
        return
    paper.head("Effects")
    wide = min(28, max(len(line.address) for line in effects))
    tools = max(len(line.tool) for line in effects)
    for line in effects[:40]:
        colour = "33" if line.effects == "once" else ""
        said = f"{line.rule}  if a model calls it" if line.chosen else line.rule
        paper.row([(line.address, wide, ""), (line.tool, tools, ""), (line.effects, 10, colour)], said)
    if len(effects) > 40:
        paper.row([], f"… {len(effects) - 40:,} more")
    paper.head("Rules", "the narrowest that would do")
    paper.lines.append("  permissions:")
    paper.lines.append("    allow:")
    paper.lines += [f"      - {as_json(rule).decode().strip()}" for rule in report.rules[:_SHOWN]]
    if len(report.rules) > _SHOWN:
        paper.lines.append(f"      # … {len(report.rules) - _SHOWN:,} more: `vrooli plan -o json` has them all")


# --- as pictures -----------------------------------------------------------------------------------------------------


def mermaid(summary: PlanSummary) -> str:
    """A flow chart that GitHub and many editors draw."""
    ids = {name: f"s{number}" for number, name in enumerate(summary.steps)}
    lines = ["flowchart LR"]
    for name, step in summary.steps.items():
        about = f"<br/><small>{_html(_does(summary, name))}</small>" if step.label or step.kind != "tool" else ""
        lines.append(f'  {ids[name]}["{_html(name)}{about}"]')
    lines += [f"  {ids[parent]} --> {ids[child]}" for parent, child in summary.edges]
    return "\n".join(lines) + "\n"


def _html(text: str) -> str:
    return re.sub(r"[^\w .:*/@+×-]", lambda found: f"#{ord(found[0])};", one_line(text))


def dot(summary: PlanSummary) -> str:
    """Graphviz."""
    lines = [f"digraph {_quoted(summary.name)} {{", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    labels = {name: f"{name}\n{_does(summary, name)}" for name in summary.steps}
    lines += [f"  {_quoted(name)} [label={_quoted(label)}];" for name, label in labels.items()]
    lines += [f"  {_quoted(parent)} -> {_quoted(child)};" for parent, child in summary.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    parts = [one_line(part).replace("\\", "\\\\").replace('"', '\\"') for part in text.split("\n")]
    return '"' + "\\n".join(parts) + '"'


# --- dry runs --------------------------------------------------------------------------------------------------------


def routine_plan(architecture: ExecutionArchitecture, loaded: LoadedBundle) -> RoutinePlan:
    """The plan of a sound routine.

    Raises:
        DefinitionError: With everything that is wrong.
        InputError: It is a swarm.
    """
    from vrooli_cli.tier2.plan import RoutinePlan

    plan = architecture.plan(loaded)
    if not isinstance(plan, RoutinePlan):
        raise InputError("a swarm has no plan of steps, but one of tasks")
    return plan


def print_dry_run(
    call: Invocation, loaded: LoadedBundle, settings: Settings, format_: str, values: Mapping[str, Any]
) -> int:
    """What each step would do, on stdout."""
    import asyncio

    from vrooli_cli.cli.planned_swarm import dry_swarm
    from vrooli_cli.cli.session import architecture_of
    from vrooli_cli.model.swarm import SwarmBundle
    from vrooli_cli.tier2.dry import dry_run

    async def planned() -> Mapping[str, DryStep]:
        async with architecture_of(call, loaded, settings) as architecture:
            if isinstance(loaded.bundle, SwarmBundle):
                return dry_swarm(architecture, loaded)
            return dry_run(routine_plan(architecture, loaded), values, call.environ)

    steps = asyncio.run(planned())
    stdout = Stdout(call)
    if format_ == "text":
        stdout.text(_dry_text(call, steps.values()))
    elif format_ != "none":
        wire = _dry_wire({path: step.wire() for path, step in steps.items()})
        if format_ == "ndjson":
            stdout.json({"v": 1, "seq": 1, "type": "result", **wire}, indent=None)
        else:
            stdout.document(wire, format_)
    stdout.check()
    return 0


def _dry_text(call: Invocation, steps: Collection[DryStep]) -> str:
    paper = Paper(call)
    wide = min(32, max((len(step.address) for step in steps), default=0))
    labels = min(16, max((len(_dry_label(step)) for step in steps), default=0))
    for step in steps:
        said = [step.reason] if step.reason else []
        said += [f"{step.count:,} items"] if step.count is not None else []
        said += [f"{name}: {one_line(value, 400)}" for name, value in step.parameters.items()]
        colour = {"pending": "32", "skipped": "2", "unknown": "33"}[step.status]
        paper.row(
            [(step.status, 7, colour), (step.address, wide, "1"), (_dry_label(step), labels, "")], ", ".join(said)
        )
    return paper.text()


def _dry_label(step: DryStep) -> str:
    return step.label or _KIND_WORDS.get(step.kind, step.kind)


def _dry_wire(steps: Mapping[str, Any]) -> dict[str, Any]:
    """The ExecutionResult of a run that has not begun."""
    from vrooli_cli.model.run import ExecutionError

    wire = refusal_wire(ExecutionError(code="INTERNAL", message=""))
    return {**wire, "success": True, "status": "pending", "error": None, "steps": dict(steps)}
