"""The seed's second integration test, in Python: only the spelling has changed, and the model is scripted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.model.run import (
    Agent,
    ExecutionContext,
    ExecutionStatus,
    ResourceAllocation,
    SwarmCoordinationInput,
    TierExecutionRequest,
)
from vrooli_cli.tier3.ai.scripted import ScriptedAI

AGENTS = (
    Agent(
        id="agent-1",
        name="Data Analyst",
        capabilities=("data_analysis", "visualization"),
        current_load=0,
        max_concurrent_tasks=3,
    ),
    Agent(
        id="agent-2",
        name="Report Writer",
        capabilities=("content_generation", "formatting"),
        current_load=0,
        max_concurrent_tasks=2,
    ),
)
PLAN = {
    "tasks": [
        {
            "id": "analyze",
            "description": "Analyze the sales data",
            "dependencies": [],
            "required_capabilities": ["data_analysis"],
            "estimated_complexity": 6,
            "priority": "high",
        },
        {
            "id": "report",
            "description": "Write the summary",
            "dependencies": ["analyze"],
            "required_capabilities": ["content_generation"],
            "estimated_complexity": 3,
            "priority": "medium",
        },
    ]
}


def request_for(**changes: Any) -> TierExecutionRequest:
    return TierExecutionRequest(
        context=ExecutionContext(
            execution_id="test-swarm-1",
            swarm_id="test-swarm-1",
            user_id="test-user",
            timestamp=datetime.now(UTC),
            correlation_id="test-correlation-1",
        ),
        allocation=ResourceAllocation(
            max_credits="5000", max_duration_ms=300_000, max_memory_mb=2048, max_concurrent_steps=8
        ),
        input=SwarmCoordinationInput(
            goal="Analyze sales data and create a summary report", available_agents=AGENTS, **changes
        ),
    )


async def test_a_swarm_reaches_its_goal_end_to_end() -> None:
    ai = ScriptedAI({"plan": [PLAN], "task:analyze/*": ["Sales grew by 8 %."], "task:report/*": ["A fine year."]})
    async with ExecutionArchitecture(ai=ai) as architecture:
        result = await architecture.tier1.execute(request_for())
        assert result.success, result.error
        assert result.result == {"analyze": "Sales grew by 8 %.", "report": "A fine year."}
        assert result.steps["task:report"].attempts == 1
        assert result.resources_used.steps_executed == 2
        assert await architecture.tier1.get_execution_status("test-swarm-1") is ExecutionStatus.COMPLETED
        facts = [event.fact for event in architecture.event_bus.history()]
        types = [fact.type for fact in facts if fact is not None and fact.type.startswith("tier1")]
        assert types == [
            "tier1/swarm/coordination_started",
            "tier1/goal/decomposed",
            "tier1/team/formed",
            "tier1/task/assigned",
            "tier1/task/assigned",
            "tier1/phase/started",
            "tier1/task/started",
            "tier1/task/completed",
            "tier1/phase/completed",
            "tier1/phase/started",
            "tier1/task/started",
            "tier1/task/completed",
            "tier1/phase/completed",
            "tier1/swarm/coordination_completed",
        ]
    question, first, second = ai.requests
    assert "data_analysis" in json.dumps(question.messages)
    assert "Data Analyst" in str(first.messages[0])
    assert "Sales grew by 8 %." in str(second.messages[-1])


async def test_a_tasks_run_is_a_child_with_its_own_id_and_the_same_correlation() -> None:
    ai = ScriptedAI({"plan": [PLAN], "*": ["a", "b"]})
    async with ExecutionArchitecture(ai=ai) as architecture:
        await architecture.tier1.execute(request_for())
        history = architecture.event_bus.history()
        started = [event for event in history if event.type == "tier2/routine/started"]
        assert len({event.execution_id for event in started}) == 2
        assert {event.payload["parent_execution_id"] for event in started} == {"test-swarm-1"}
        assert {event.payload["parent_step_id"] for event in started} == {"task:analyze", "task:report"}
        assert {event.metadata.correlation_id for event in history} == {"test-correlation-1"}
        assert {event.metadata.swarm_id for event in history} == {"test-swarm-1"}
        steps = [event.payload["step_id"] for event in history if event.type == "tier2/step/completed"]
        assert steps == ["task:analyze/work", "task:report/work"]


async def test_a_bad_plan_is_repaired_with_the_exact_violations() -> None:
    bad = {"tasks": [{"id": "a", "dependencies": ["a", "zz"], "required_capabilities": ["flying"]}]}
    ai = ScriptedAI({"plan": [bad, "no json at all", PLAN], "*": ["a", "b"]})
    async with ExecutionArchitecture(ai=ai) as architecture:
        result = await architecture.tier1.execute(request_for())
        assert result.success, result.error
        decomposed = [e.fact for e in architecture.event_bus.history() if e.type == "tier1/goal/decomposed"]
        assert decomposed[0].repairs == 2  # type: ignore[union-attr]
    told = str(ai.requests[1].messages[-1]["content"])
    assert "task 'a' depends on itself" in told
    assert "'zz', and there is no such task" in told
    assert "flying, which no agent has" in told
    assert "not JSON" in str(ai.requests[2].messages[-1]["content"])


async def test_a_plan_that_stays_bad_fails_after_two_repairs() -> None:
    ai = ScriptedAI({"plan": ["{}"] * 5})
    async with ExecutionArchitecture(ai=ai) as architecture:
        result = await architecture.tier1.execute(request_for())
        assert result.error is not None
        assert (result.status.value, result.error.code) == ("failed", "DECOMPOSITION_INVALID")
        assert len(ai.requests) == 3


async def test_without_a_model_the_goal_is_refused_before_anything_runs() -> None:
    async with ExecutionArchitecture() as architecture:
        result = await architecture.tier1.execute(request_for())
        assert result.error is not None
        assert result.error.code == "AI_UNAVAILABLE"
        assert architecture.event_bus.history() == []
