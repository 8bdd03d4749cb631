"""Whole graphs from a file through the three tiers, watched by the tool that every step calls."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.graphs.shapes import Graph, broken, chain, fan, layered, pipeline, tangled, timed
from vrooli_cli import ToolError
from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.journal import open_store
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.project import Settings
from vrooli_cli.model.run import ExecutionResult, StepStatus
from vrooli_cli.tier2.prepared import RunOptions
from vrooli_cli.tier3.registry import Tool, ToolContext

LONG = "a-name-of-a-step-as-long-as-generated-workflows-have-them-with-a-hash-at-its-end-" * 2


@dataclass
class Watch:
    """What the tool ``probe`` has seen."""

    began: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    early: list[tuple[str, str]] = field(default_factory=list)
    now: int = 0
    peak: int = 0
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)

    async def __call__(self, params: dict[str, Any], context: ToolContext, /) -> str:
        name = context.step_id
        self.early += [(name, parent) for parent in self.parents[name] if parent not in self.ended]
        self.began.append(name)
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await asyncio.sleep(params["seconds"])
            if params["fails"]:
                raise ToolError("as it was told to")
            return name
        finally:
            self.now -= 1
            self.ended.add(name)


async def run(graph: Graph, folder: Path, slots: int = 8, **options: Any) -> tuple[ExecutionResult, Watch, float]:
    """The result, what was seen, and the seconds from the start to the end of the run."""
    watch = Watch(parents=dict(graph.parents))
    kind = {"type": "object", "properties": {"seconds": {"type": "number"}, "fails": {"type": "boolean"}}}
    probe = Tool(name="probe", description="Watches.", schema=kind, execute=watch, effects="none")
    loaded = load_bundle(graph.write(folder))
    settings = Settings(max_concurrent=slots)
    async with ExecutionArchitecture(settings, store=open_store(folder / "store.db"), tools=[probe]) as architecture:
        prepared = architecture.prepare(loaded, {}, options=RunOptions(**options))
        began = time.perf_counter()
        result = await prepared.run()
        return result, watch, time.perf_counter() - began


SHAPES = {
    "a pipeline": pipeline(),
    "five in a row": chain(5),
    "a thousand in a row": chain(1000),
    "a thousand for one": fan(1000),
    "long names": layered(5, 20, 3, seed=1, prefix=LONG),
    "layers": layered(10, 100, 3, seed=2),
    "layers in any order": layered(10, 30, 4, seed=3).shuffled(3),
    "a tangle": tangled(400, seed=4),
    "a tangle in any order": tangled(400, seed=5).shuffled(5),
    "eight thousand": layered(40, 200, 3, seed=6),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("schedule", ["eager", "batched"])
async def test_each_step_runs_once_after_its_parents_within_the_limit(name: str, schedule: str, tmp_path: Path) -> None:
    if schedule == "batched" and name in ("eight thousand", "a thousand in a row"):
        pytest.skip("the smaller ones say the same")
    graph = SHAPES[name]
    result, watch, _ = await run(graph, tmp_path, slots=7, schedule=schedule)
    assert result.success
    assert Counter(watch.began) == Counter(graph.parents.keys())
    assert watch.early == []
    assert watch.peak <= 7
    assert {step.status for step in result.steps.values()} == {StepStatus.COMPLETED}


@pytest.mark.parametrize("slots", [1, 3, 16])
@pytest.mark.parametrize("seed", [1, 2])
async def test_no_slot_idles_while_a_step_could_start(slots: int, seed: int, tmp_path: Path) -> None:
    size = 12 if slots == 1 else 60
    graph = timed(tangled(size, seed).shuffled(seed), 0.02, 0.06, seed)
    ordered = Graph(tangled(size, seed).parents, graph.seconds)
    result, watch, seconds = await run(graph, tmp_path, slots=slots)
    assert result.success
    assert watch.peak <= slots
    assert seconds <= 1.3 * ordered.graham(slots) + 0.5
    assert seconds >= ordered.critical_path()


async def test_a_wide_graph_takes_as_long_as_its_longest_path(tmp_path: Path) -> None:
    graph = timed(layered(6, 20, 2, seed=9), 0.05, 0.15, 9)
    _, watch, seconds = await run(graph, tmp_path, slots=200)
    assert watch.early == []
    assert seconds <= 1.3 * graph.critical_path() + 0.3


@pytest.mark.parametrize("seed", range(6))
async def test_with_keep_going_exactly_the_descendants_of_failures_do_not_run(seed: int, tmp_path: Path) -> None:
    graph = broken(tangled(150, seed) if seed % 2 else layered(8, 25, 2, seed), 0.08, seed).shuffled(seed)
    result, watch, _ = await run(graph, tmp_path, keep_going=True)
    failed = {name for name, step in result.steps.items() if step.status is StepStatus.FAILED}
    skipped = {name for name, step in result.steps.items() if step.status is StepStatus.SKIPPED}
    assert skipped == graph.descendants(graph.failing)
    assert failed == graph.failing - skipped
    assert Counter(watch.began) == Counter(set(graph.parents) - skipped)
    assert watch.early == []
    assert result.success is not bool(failed)


@pytest.mark.parametrize("seed", range(4))
async def test_without_it_nothing_starts_after_the_first_failure(seed: int, tmp_path: Path) -> None:
    graph = broken(tangled(150, seed + 50), 0.1, seed)
    result, watch, _ = await run(graph, tmp_path, slots=1)
    first = next(number for number, name in enumerate(watch.began) if name in graph.failing)
    assert watch.began[first:] == [watch.began[first]]
    rest = set(graph.parents) - set(watch.began)
    below = graph.descendants({watch.began[first]})
    assert {name for name in rest if result.steps[name].status is StepStatus.SKIPPED} >= below
    assert all(result.steps[name].reason for name in rest)
    assert result.error is not None
    assert result.error.step == watch.began[first]
