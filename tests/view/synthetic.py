"""Runs made up event by event, the same every time: what the tests of the view look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from vrooli_cli.model import events as e
from vrooli_cli.model.plan import PlannedStep, PlanSummary

START = datetime(2026, 1, 1, 9, 0, 0, tzinfo=UTC)
RUN = "1jb3k9x2a-7f3q0d2m"


class Teller:
    """Says facts with a clock of its own."""

    def __init__(self) -> None:
        self.now = START
        self.events: list[e.ExecutionEvent] = []

    def wait(self, ms: int) -> None:
        self.now += timedelta(milliseconds=ms)

    def say(self, fact: e.Event, after: int = 0) -> None:
        self.wait(after)
        self.events.append(told(fact, self.now, len(self.events) + 1))


def told(fact: e.Event, at: datetime = START, seq: int = 1) -> e.ExecutionEvent:
    return e.ExecutionEvent(
        type=fact.type,
        execution_id=fact.execution_id,
        payload={},
        tier=fact.tier,
        id=f"{RUN}-{seq}",
        seq=seq,
        timestamp=at,
        fact=fact,
    )


def error(message: str, code: str = "TOOL_FAILED", step: str | None = None, **context: Any) -> dict[str, Any]:
    return {"code": code, "message": message, "tier": "tier3", "step": step, "context": context}


def plan_of(batches: Sequence[Sequence[PlannedStep]], name: str, **nested: PlanSummary) -> PlanSummary:
    return PlanSummary(
        name=name,
        batches=tuple(tuple(step.id for step in batch) for batch in batches),
        steps={step.id: step for batch in batches for step in batch},
        nested=nested,
    )


def tool(step_id: str, label: str = "shell", **more: Any) -> PlannedStep:
    return PlannedStep(id=step_id, kind="tool", label=label, strategy="deterministic", **more)


def prompt(step_id: str, model: str = "gpt-4o-mini", strategy: str = "conversational") -> PlannedStep:
    return PlannedStep(id=step_id, kind="prompt", label=model, strategy=strategy)


def begin(teller: Teller, step_id: str, planned: PlannedStep | None = None, attempt: int = 1) -> None:
    is_prompt = planned is not None and planned.kind == "prompt"
    label = planned.label if planned else "shell"
    teller.say(
        e.ExecutionStarted(
            execution_id=RUN,
            step_id=step_id,
            attempt=attempt,
            strategy=planned.strategy if planned else "deterministic",
            tool_name=None if is_prompt else label,
            model=label if is_prompt else None,
        )
    )


def finish(teller: Teller, step_id: str, ms: int, attempts: int = 1) -> None:
    teller.say(
        e.ExecutionCompleted(execution_id=RUN, step_id=step_id, attempt=attempts, duration_ms=ms, resources_used={})
    )
    teller.say(e.StepCompleted(execution_id=RUN, step_id=step_id, result={}, attempts=attempts, duration_ms=ms))


def fail(teller: Teller, step_id: str, ms: int, why: str, **more: Any) -> None:
    wire = error(why, step=step_id, **more)
    teller.say(e.ExecutionFailed(execution_id=RUN, step_id=step_id, attempt=1, duration_ms=ms, error=wire))
    teller.say(e.StepFailed(execution_id=RUN, step_id=step_id, error=wire, attempts=1, duration_ms=ms))


def spend(teller: Teller, step_id: str, credits: int, number: int) -> None:
    key = f"r{number}"
    teller.say(
        e.LedgerReserved(execution_id=RUN, step_id=step_id, reservation=key, credits=credits * 4, account=step_id)
    )
    teller.say(e.LedgerSettled(execution_id=RUN, step_id=step_id, reservation=key, credits=credits, account=step_id))


def started(teller: Teller, plan: PlanSummary) -> None:
    count = sum(len(batch) for batch in plan.batches)
    teller.say(e.RoutineStarted(execution_id=RUN, routine=plan.name, step_count=count, inputs={}))


NOTES = """## What is new

The loader now survives hostile files: size, depth, alias and node limits hold before anything is composed, and every
leaked error of the parser becomes one clear line with the file, the line and a caret under the place.

## Fixed

- A retry no longer holds a slot while it waits.
- `--keep-going` runs exactly what does not depend on the failure"""


def small_plan() -> PlanSummary:
    return plan_of(
        [
            [tool("log", "git.log"), tool("tags", "git.tags")],
            [tool("fetch", "http", loop="for_each"), prompt("summarize")],
            [prompt("review", "gpt-4o", "reasoning"), tool("publish")],
        ],
        "release-notes",
    )


def small_run() -> tuple[PlanSummary, list[e.ExecutionEvent], datetime]:
    """Six steps: a loop with a failure in it, a model at work, one that was throttled; stopped in the middle."""
    plan, teller = small_plan(), Teller()
    steps = plan.steps
    started(teller, plan)
    teller.say(e.BatchStarted(execution_id=RUN, batch=0, steps=("log", "tags"), count=2))
    begin(teller, "log", steps["log"])
    begin(teller, "tags", steps["tags"])
    teller.wait(140)
    finish(teller, "log", 140)
    teller.say(
        e.StepRetrying(execution_id=RUN, step_id="tags", attempt=1, delay_ms=900, error=error("no such ref: v0.9"))
    )
    begin_loop(teller, "fetch", 40)
    for item in range(12):
        begin(teller, f"fetch[{item}]", steps["fetch"])
        teller.wait(90)
        if item == 7:
            fail(teller, "fetch[7]", 90, "404 Not Found: https://example.org/pulls/7")
        else:
            finish(teller, f"fetch[{item}]", 90)
    begin(teller, "tags", steps["tags"], attempt=2)
    finish(teller, "tags", 60, attempts=2)
    begin(teller, "fetch[12]", steps["fetch"])
    begin(teller, "fetch[13]", steps["fetch"])
    begin(teller, "summarize", steps["summarize"])
    spend(teller, "summarize", 1240, 1)
    teller.say(e.AIRequested(execution_id=RUN, step_id="summarize", attempt=1, model="gpt-4o-mini"))
    for start in range(0, len(NOTES), 60):
        teller.say(e.AIDelta(execution_id=RUN, step_id="summarize", attempt=1, text=NOTES[start : start + 60]), 50)
    teller.wait(2300)
    return plan, teller.events, teller.now


def begin_loop(teller: Teller, step_id: str, count: int) -> None:
    teller.say(e.StepExpanded(execution_id=RUN, step_id=step_id, count=count, items=list(range(count))))


def wide_plan(batches: int, each: int, name: str = "align-genomes") -> PlanSummary:
    tools = ("shell", "file_read", "http", "table", "python.align")
    return plan_of(
        [
            [tool(f"{('split', 'align', 'sort', 'merge', 'report')[b % 5]}-{n:04}", tools[b % 5]) for n in range(each)]
            for b in range(batches)
        ],
        name,
    )


def wide_run(batches: int, each: int, upto: float) -> tuple[PlanSummary, list[e.ExecutionEvent], datetime]:
    """Layers of steps, eight at once; one in 400 fails, one in 90 is tried twice; stopped after a share of it."""
    plan, teller = wide_plan(batches, each), Teller()
    started(teller, plan)
    names = [name for batch in plan.batches for name in batch]
    stop = int(len(names) * upto)
    for position in range(min(stop + 8, len(names))):
        begin(teller, names[position], plan.steps[names[position]])
        teller.wait(23)
        if position >= 8:
            _verdict(teller, names[position - 8], position - 8)
    for ended in range(max(0, len(names) - 8), stop):
        _verdict(teller, names[ended], ended)
    teller.wait(1800)
    return plan, teller.events, teller.now


def _verdict(teller: Teller, name: str, number: int) -> None:
    if number % 400 == 399:
        fail(teller, name, 180, f"exit 1: samtools: truncated file chunk-{number}.bam", exit_code=1)
    else:
        finish(teller, name, 150 + number % 70, attempts=2 if number % 90 == 89 else 1)


def swarm_run(agents: int = 20, tasks: int = 100) -> tuple[None, list[e.ExecutionEvent], datetime]:
    """A swarm in its second phase: everybody has a task or two, one norm was broken, one task failed."""
    teller = Teller()
    goal = "Review the storage engine, find what loses data, and write a plan to repair it"
    team = [f"{('analyst', 'coder', 'tester', 'writer')[n % 4]}-{n:02}" for n in range(agents)]
    graph = [_task(number, tasks) for number in range(tasks)]
    assigned = {task["id"]: team[number % agents] for number, task in enumerate(graph)}
    teller.say(e.SwarmStarted(execution_id=RUN, goal=goal, agent_count=agents, swarm="storage-review"))
    teller.say(e.GoalDecomposed(execution_id=RUN, goal=goal, tasks=graph, source="model"), 900)
    teller.say(
        e.TeamFormed(
            execution_id=RUN,
            assignments={task: {"agent": agent, "reason": "least load"} for task, agent in assigned.items()},
            agents=[{"id": agent, "max_concurrent_tasks": 2} for agent in team],
            roles={agent: [agent.partition("-")[0]] for agent in team},
        )
    )
    ids = [task["id"] for task in graph]
    first = max(1, tasks // 4)
    teller.say(e.PhaseStarted(execution_id=RUN, phase=0, tasks=tuple(ids[:first])))
    for number in range(first):
        _task_began(teller, ids[number], assigned[ids[number]])
        teller.wait(210)
        _task_over(teller, ids[number], assigned[ids[number]], number)
    teller.say(e.PhaseCompleted(execution_id=RUN, phase=0))
    teller.say(e.PhaseStarted(execution_id=RUN, phase=1, tasks=tuple(ids[first : 2 * first])))
    if agents > 3:
        teller.say(
            e.NormViolated(
                execution_id=RUN, norm="n2", agent_id=team[3], role="writer", reason="may not use shell", step_id="x"
            )
        )
    for number in range(first, min(first + agents - 2, tasks)):
        _task_began(teller, ids[number], assigned[ids[number]])
        teller.wait(130)
    teller.wait(3100)
    return None, teller.events, teller.now


def _task(number: int, tasks: int) -> dict[str, Any]:
    first = max(1, tasks // 4)
    words = ("read", "trace", "measure", "write")[number * 4 // tasks % 4]
    return {
        "id": f"{words}-{number:03}",
        "description": f"{words} part {number}",
        "dependencies": [_task(number - first, tasks)["id"]] if number >= first else [],
        "required_capabilities": [],
        "estimated_complexity": 3,
        "priority": "medium",
    }


def _task_began(teller: Teller, task: str, agent: str) -> None:
    teller.say(
        e.TaskStarted(execution_id=RUN, task_id=task, agent_id=agent, attempt=1, task_execution_id=f"{RUN}-{task}")
    )
    teller.say(e.RoutineStarted(execution_id=f"{RUN}-{task}", routine=task, step_count=1, parent_execution_id=RUN))
    teller.say(
        e.ExecutionStarted(
            execution_id=f"{RUN}-{task}",
            step_id=f"task:{task}/do",
            attempt=1,
            strategy="reasoning",
            model="gpt-4o-mini",
        )
    )


def _task_over(teller: Teller, task: str, agent: str, number: int) -> None:
    inner = f"task:{task}/do"
    spend(teller, inner, 310 + number, number)
    if number == 9:
        wire = error("the model answered with a call that no tool has", "AI_OUTPUT_INVALID", step=inner)
        teller.say(e.StepFailed(execution_id=f"{RUN}-{task}", step_id=inner, error=wire, duration_ms=190))
        teller.say(e.TaskFailed(execution_id=RUN, task_id=task, agent_id=agent, error=wire, duration_ms=190))
        return
    teller.say(e.StepCompleted(execution_id=f"{RUN}-{task}", step_id=inner, duration_ms=200))
    teller.say(e.TaskCompleted(execution_id=RUN, task_id=task, agent_id=agent, duration_ms=205, credits=310 + number))


HOSTILE = (
    "red \x1b[31malert\x1b[0m",
    "[bold red]markup[/] and [link=file:///etc/passwd]click[/link]",
    "right\u202eto left\u2066",
    "two\nlines\r\nhere\ttab",
    "zero\u200bwidth\u2060\ufeffjoin\u200d",
    "wide 表示テスト 한국어 🙂",
    "pile z\u0300\u0301\u0302\u0303\u0304\u0305\u0306 up",
    "title \x1b]0;owned\x07 bell \x07 \x9b31m c1",
    "hidden \U000e0041\U000e0042 tags \u3164 filler \u00ad",
    "lone \ud800 surrogate \ue000token\ue001",
)


def hostile_run() -> tuple[PlanSummary, list[e.ExecutionEvent], datetime]:
    """Every place that carries outside text carries hostile text."""
    steps = [tool(text, text) for text in HOSTILE]
    plan, teller = plan_of([steps], HOSTILE[0]), Teller()
    started(teller, plan)
    for number, text in enumerate(HOSTILE):
        begin(teller, text, steps[number])
        teller.wait(100)
        if number % 3 == 0:
            fail(teller, text, 100, text, stderr="\n".join(HOSTILE))
        elif number % 3 == 1:
            teller.say(e.StepRetrying(execution_id=RUN, step_id=text, attempt=1, delay_ms=5000, error=error(text)))
    teller.say(e.AIDelta(execution_id=RUN, step_id=HOSTILE[2], attempt=1, text="\n".join(HOSTILE)))
    return plan, teller.events, teller.now


def tail_of(events: Sequence[e.ExecutionEvent], count: int) -> Iterator[e.ExecutionEvent]:
    yield from events[-count:]
