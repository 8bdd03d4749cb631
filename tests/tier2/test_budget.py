"""What a step costs, as whole numbers: a slow-down that comes of doing more is seen here without a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.journal import open_store
from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.routine import Bundle, ForEach, Routine, Step, ToolCall
from vrooli_cli.model.run import ExecutionContext, RoutineExecutionInput, TierExecutionRequest
from vrooli_cli.tier2 import run as shell
from vrooli_cli.tier2.plan import Parameters
from vrooli_cli.tier2.state import ReadyHeap

A_STEP = {
    "tier3/execution/started": 1,
    "tier3/tool/called": 1,
    "tier3/tool/returned": 1,
    "tier3/execution/completed": 1,
    "tier2/step/completed": 1,
}


def chain(count: int) -> list[Step]:
    messages = [1, *(f"{{{{ steps.s{i}.result }}}}" for i in range(count - 1))]
    return [Step(id=f"s{i}", action=ToolCall("echo", {"message": message})) for i, message in enumerate(messages)]


def fan(count: int) -> list[Step]:
    return [Step(id=f"s{i}", action=ToolCall("echo", {"message": 1})) for i in range(count)]


class Spent:
    """What one run did."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.statements: Counter[str] = Counter()
        self.renders = 0
        self.visits = 0

    def event(self, event: ExecutionEvent) -> None:
        self.events[event.type] += 1

    def statement(self, text: str) -> None:
        self.statements[text.split("(")[0]] += 1


async def spent(steps: list[Step], folder: Path, patch: pytest.MonkeyPatch) -> Spent:
    seen = Spent()
    render = Parameters.render

    def counted(self: Parameters, names: object) -> object:
        seen.renders += 1
        return render(self, names)  # type: ignore[arg-type]

    def visited(method: str) -> None:
        plain = getattr(ReadyHeap, method)

        def counted(self: ReadyHeap, *arguments: object) -> object:
            seen.visits += 1
            return plain(self, *arguments)

        patch.setattr(ReadyHeap, method, counted)

    store = open_store(folder / f"{len(steps)}.db")
    async with ExecutionArchitecture(store=store) as architecture:
        bundle = Bundle("m", {"m": Routine(name="m", steps=tuple(steps), key="m")})
        asked = RoutineExecutionInput(routine_id="m", bundle=bundle)
        request = TierExecutionRequest(context=ExecutionContext(execution_id="r"), input=asked)
        prepared = architecture.tier2.prepare(request)
        prepared.channel.fold(seen.event)
        patch.setattr(Parameters, "render", counted)
        for method in ("push", "pop"):
            visited(method)
        store._database.set_trace_callback(seen.statement)
        assert (await prepared.run()).success
        store._database.set_trace_callback(None)
    patch.undo()
    return seen


@pytest.mark.parametrize("count", [20, 200])
async def test_a_step_of_a_chain_costs_seven_events_one_render_and_one_statement(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "TURN_SECONDS", 0.0)  # a commit after every stimulus
    seen = await spent(chain(count), tmp_path, monkeypatch)
    batches = {"tier2/batch/started": count, "tier2/batch/completed": count}
    ends = {"tier2/routine/started": 1, "tier2/routine/completed": 1}
    assert seen.events == dict.fromkeys(A_STEP, count) | batches | ends
    assert seen.renders == count - 1  # the first has nothing to render
    assert seen.statements["INSERT INTO log VALUES"] == count + 1


@pytest.mark.parametrize("count", [20, 200])
async def test_steps_that_touch_nothing_share_a_commit(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "TURN_SECONDS", 60.0)
    seen = await spent(chain(count), tmp_path, monkeypatch)
    assert seen.events["tier2/step/completed"] == count
    assert seen.statements["INSERT INTO log VALUES"] == 2  # the first step waits for the commit of the run's start


@pytest.mark.parametrize("count", [20, 200])
async def test_steps_side_by_side_cost_five_events_each_and_share_their_commits(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "TURN_SECONDS", 60.0)
    monkeypatch.setattr(shell.RunShell, "_is_pure", lambda self, node: False)  # each waits for the commit of its start
    seen = await spent(fan(count), tmp_path, monkeypatch)
    waited = {"tier2/step/ready": count - 8}  # eight slots
    around = ("tier2/batch/started", "tier2/batch/completed", "tier2/routine/started", "tier2/routine/completed")
    assert seen.events == dict.fromkeys(A_STEP, count) | waited | dict.fromkeys(around, 1)
    assert seen.renders == 0
    assert seen.statements["INSERT INTO log VALUES"] == -(-count // 8) + 1


async def test_what_has_happened_at_once_is_taken_in_no_longer_than_a_turn_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a hundred steps that end together would begin their next ones together, after the last of them."""
    monkeypatch.setattr(shell, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(shell.RunShell, "_is_pure", lambda self, node: False)
    seen = await spent(fan(20), tmp_path, monkeypatch)
    assert seen.events["tier2/step/completed"] == 20
    assert seen.statements["INSERT INTO log VALUES"] == 20 + 1  # each end has a turn of its own, and none is forgotten


def loop(count: int) -> list[Step]:
    each = ForEach(items=f"{{{{ range({count}) | list }}}}")
    return [Step(id="each", action=ToolCall("echo", {"message": "{{ item }}"}), for_each=each)]


@pytest.mark.parametrize("count", [20, 200, 2_000])
@pytest.mark.parametrize("graph", [chain, fan, loop])
async def test_a_step_is_put_on_the_heap_and_taken_off_it_once_at_the_most(
    graph: Callable[[int], list[Step]], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing scans; a step that finds a free slot never sees the heap."""
    monkeypatch.setattr(shell, "TURN_SECONDS", 60.0)
    seen = await spent(graph(count), tmp_path, monkeypatch)
    least = 0 if graph is chain else count
    assert least <= seen.visits <= 2 * count + 50
