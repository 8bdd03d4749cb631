"""``UnifiedExecutor.execute``: the seed's interface of tier 3."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.tier3.conftest import Bench
from vrooli_cli.ledger import ResourceTracker
from vrooli_cli.model.run import (
    ExecutionContext,
    ExecutionOptions,
    ExecutionResult,
    ExecutionStatus,
    ResourceAllocation,
    RetryPolicy,
    RoutineExecutionInput,
    StepExecutionInput,
    TierExecutionRequest,
)
from vrooli_cli.model.tiers import TierCommunicationInterface
from vrooli_cli.tier3.executor import UnifiedExecutor
from vrooli_cli.tier3.strategies import StrategyFactory


def request(tool: str, parameters: dict[str, Any], **more: Any) -> TierExecutionRequest:
    return TierExecutionRequest(
        context=ExecutionContext(execution_id="e1"),
        input=StepExecutionInput(step_id="s", tool_name=tool, parameters=parameters),
        **more,
    )


@pytest.fixture
def door(bench: Bench) -> UnifiedExecutor:
    def scopes(context: ExecutionContext, allocation: ResourceAllocation) -> Any:
        return bench.scope.child(execution_id=context.execution_id, root_id=context.execution_id, cancelled=None)

    return UnifiedExecutor(bench.tools, StrategyFactory(bench.tools), ResourceTracker(), scopes=scopes)


async def test_a_step_is_done_and_its_story_told(bench: Bench, door: UnifiedExecutor) -> None:
    tier: TierCommunicationInterface = door
    result = await tier.execute(request("echo", {"message": {"a": 1}}))
    assert result.success and result.result == {"a": 1} and result.status is ExecutionStatus.COMPLETED
    assert result.resources_used.steps_executed == 1
    assert await door.get_execution_status("e1") is ExecutionStatus.COMPLETED
    assert bench.types() == [
        "tier3/execution/started",
        "tier3/tool/called",
        "tier3/tool/returned",
        "tier3/execution/completed",
    ]


async def test_a_failure_is_a_result(bench: Bench, door: UnifiedExecutor) -> None:
    result = await door.execute(request("shell", {"command": "exit 3"}))
    assert not result.success and result.error is not None and result.error.context["exit_code"] == 3
    assert await door.get_execution_status("e1") is ExecutionStatus.FAILED
    assert bench.types()[-1] == "tier3/execution/failed"


async def test_the_requests_retry_policy_is_followed(bench: Bench, door: UnifiedExecutor) -> None:
    script = f"echo x >> {bench.folder}/tries; test $(wc -l < {bench.folder}/tries) -ge 3"
    policy = RetryPolicy(max_attempts=5, delay_ms=1)
    result = await door.execute(request("shell", {"command": script}, options=ExecutionOptions(retry_policy=policy)))
    assert result.success and result.steps["s"].attempts == 3
    assert bench.types().count("tier3/execution/started") == 3


async def test_what_is_never_retried_is_not(bench: Bench, door: UnifiedExecutor) -> None:
    policy = RetryPolicy(max_attempts=5, delay_ms=1)
    result = await door.execute(request("echo", {}, options=ExecutionOptions(retry_policy=policy)))
    assert result.error is not None and result.error.code == "PARAMETER_INVALID" and result.steps["s"].attempts == 1


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.05])
async def test_it_is_cancelled_from_another_task_at_any_moment(
    bench: Bench, door: UnifiedExecutor, pause: float
) -> None:
    task = asyncio.create_task(door.execute(request("shell", {"command": "sleep 30"})))
    await asyncio.sleep(pause)
    assert await door.get_execution_status("e1") is ExecutionStatus.RUNNING
    await door.cancel_execution("e1")
    await door.cancel_execution("e1")
    result = await task
    assert isinstance(result, ExecutionResult) and result.status is ExecutionStatus.CANCELLED
    assert await door.get_execution_status("e1") is ExecutionStatus.CANCELLED
    assert bench.types()[-1] == "tier3/execution/cancelled" and len(bench.host.processes) == 0


async def test_a_cancel_between_two_attempts_returns_at_once(bench: Bench, door: UnifiedExecutor) -> None:
    policy = RetryPolicy(max_attempts=5, delay_ms=30_000)
    asked = request("fail", {"message": "x"}, options=ExecutionOptions(retry_policy=policy))
    task = asyncio.create_task(door.execute(asked))
    await asyncio.sleep(0.05)
    await door.cancel_execution("e1")
    assert (await asyncio.wait_for(task, 2)).status is ExecutionStatus.CANCELLED


async def test_the_caller_may_be_cancelled_too(bench: Bench, door: UnifiedExecutor) -> None:
    task = asyncio.create_task(door.execute(request("shell", {"command": "sleep 30"})))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await door.get_execution_status("e1") is ExecutionStatus.CANCELLED
    assert len(bench.host.processes) == 0


async def test_the_request_as_a_whole_has_a_duration(bench: Bench, door: UnifiedExecutor) -> None:
    asked = request("shell", {"command": "sleep 30"}, options=ExecutionOptions(timeout_ms=80))
    result = await door.execute(asked)
    assert result.error is not None and result.error.code == "RUN_TIMEOUT" and result.status is ExecutionStatus.FAILED
    assert bench.types()[-1] == "tier3/execution/failed"


async def test_an_unknown_execution_is_a_key_error(door: UnifiedExecutor) -> None:
    with pytest.raises(KeyError):
        await door.get_execution_status("nobody")
    with pytest.raises(KeyError):
        await door.cancel_execution("nobody")


async def test_another_tiers_input_is_a_mistake_of_the_program(door: UnifiedExecutor) -> None:
    wrong = TierExecutionRequest(
        context=ExecutionContext(execution_id="e1"), input=RoutineExecutionInput(routine_id="r")
    )
    with pytest.raises(TypeError, match="StepExecutionInput"):
        await door.execute(wrong)
