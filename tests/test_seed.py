"""The seed's integration tests, in Python: only the spelling has changed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.run import (
    ExecutionContext,
    ExecutionStatus,
    ExecutionStrategy,
    ResourceAllocation,
    RoutineExecutionInput,
    StepDependency,
    StepExecutionInput,
    TierExecutionRequest,
    WorkflowDefinition,
    WorkflowStep,
)


def request_for(
    workflow: WorkflowDefinition, execution_id: str = "test-exec-1", **parameters: object
) -> TierExecutionRequest:
    """The seed's request."""
    return TierExecutionRequest(
        context=ExecutionContext(
            execution_id=execution_id,
            swarm_id="test-swarm-1",
            user_id="test-user",
            timestamp=datetime.now(UTC),
            correlation_id="test-correlation-1",
        ),
        allocation=ResourceAllocation(
            max_credits="1000", max_duration_ms=60_000, max_memory_mb=512, max_concurrent_steps=4
        ),
        input=RoutineExecutionInput(routine_id="test-routine", parameters=parameters, workflow=workflow),
    )


ECHO = WorkflowStep(
    id="step-1",
    name="Echo",
    tool_name="echo",
    parameters={"message": "{{input}}"},
    strategy=ExecutionStrategy.DETERMINISTIC,
)


async def test_a_simple_routine_runs_end_to_end() -> None:
    async with ExecutionArchitecture() as architecture:
        result = await architecture.tier2.execute(request_for(WorkflowDefinition(steps=(ECHO,)), input="Hello World"))
        assert result.success
        assert result.result == {"step-1": "Hello World"}
        assert await architecture.tier2.get_execution_status("test-exec-1") is ExecutionStatus.COMPLETED
        assert result.steps["step-1"].attempts == 1
        assert result.resources_used.steps_executed == 1


async def test_events_reach_subscribers_by_pattern_with_their_metadata() -> None:
    seen: list[ExecutionEvent] = []
    tier3: list[str] = []

    async def everything(event: ExecutionEvent) -> None:
        seen.append(event)

    async def executions(event: ExecutionEvent) -> None:
        tier3.append(event.type)

    async with ExecutionArchitecture() as architecture:
        await architecture.event_bus.subscribe("**", everything)
        await architecture.event_bus.subscribe("tier3/execution/*", executions)
        await architecture.tier2.execute(request_for(WorkflowDefinition(steps=(ECHO,)), input=1))
        await architecture.event_bus.barrier()
        assert tier3 == ["tier3/execution/started", "tier3/execution/completed"]
        assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
        assert seen[0].type == "tier2/routine/started"
        assert seen[-1].type == "tier2/routine/completed"
        assert {event.metadata.correlation_id for event in seen} == {"test-correlation-1"}
        assert seen[1].metadata.parent_event_id == seen[0].id
        assert [event.id for event in architecture.event_bus.history()] == [event.id for event in seen]


async def test_a_failure_is_a_result_and_not_an_exception() -> None:
    bad = WorkflowStep(id="bad", tool_name="fail", parameters={"message": "no"})
    after = WorkflowStep(id="after", tool_name="echo", parameters={"message": 1})
    workflow = WorkflowDefinition(steps=(bad, after), dependencies=(StepDependency(from_step="bad", to_step="after"),))
    async with ExecutionArchitecture() as architecture:
        result = await architecture.tier2.execute(request_for(workflow))
        assert not result.success
        assert result.error is not None
        assert (result.error.code, result.error.step) == ("TOOL_FAILED", "bad")
        assert result.steps["after"].status.value == "skipped"
        unknown = WorkflowDefinition(steps=(WorkflowStep(id="x", tool_name="ecko", parameters={}),))
        refused = await architecture.tier2.execute(request_for(unknown, "two"))
        assert refused.error is not None
        assert refused.error.code == "TOOL_NOT_FOUND"


async def test_a_run_can_be_watched_and_cancelled_from_another_task() -> None:
    slow = WorkflowStep(id="slow", tool_name="shell", parameters={"command": ["sleep", "30"]})
    async with ExecutionArchitecture() as architecture:
        running = asyncio.create_task(architecture.tier2.execute(request_for(WorkflowDefinition(steps=(slow,)))))
        await asyncio.sleep(0.2)
        assert await architecture.tier2.get_execution_status("test-exec-1") is ExecutionStatus.RUNNING
        await architecture.tier2.cancel_execution("test-exec-1")
        result = await asyncio.wait_for(running, 10)
        assert result.status is ExecutionStatus.CANCELLED
        with pytest.raises(KeyError):
            await architecture.tier2.get_execution_status("nobody")


async def test_tier_three_does_a_single_step() -> None:
    async with ExecutionArchitecture() as architecture:
        request = TierExecutionRequest(
            context=ExecutionContext(execution_id="one"),
            input=StepExecutionInput(step_id="s", tool_name="echo", parameters={"message": [1, {"a": None}]}),
        )
        result = await architecture.tier3.execute(request)
        assert result.success
        assert result.result == [1, {"a": None}]
        assert await architecture.tier3.get_execution_status("one") is ExecutionStatus.COMPLETED
