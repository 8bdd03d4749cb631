"""vrooli: declarative YAML routines and AI swarms, run by three tiers in one process.

The public Python API; each name is imported when it is first used, so that the command line starts quickly::

    from vrooli_cli import ExecutionArchitecture, TierExecutionRequest

    async with ExecutionArchitecture() as architecture:
        result = await architecture.tier2.execute(TierExecutionRequest(...))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vrooli_cli.architecture import ExecutionArchitecture as ExecutionArchitecture
    from vrooli_cli.bus import EventBus as EventBus
    from vrooli_cli.errors import ToolError as ToolError
    from vrooli_cli.ledger import ResourceTracker as ResourceTracker
    from vrooli_cli.model.events import EventMetadata as EventMetadata
    from vrooli_cli.model.events import ExecutionEvent as ExecutionEvent
    from vrooli_cli.model.run import Agent as Agent
    from vrooli_cli.model.run import ExecutionContext as ExecutionContext
    from vrooli_cli.model.run import ExecutionError as ExecutionError
    from vrooli_cli.model.run import ExecutionOptions as ExecutionOptions
    from vrooli_cli.model.run import ExecutionResult as ExecutionResult
    from vrooli_cli.model.run import ExecutionStatus as ExecutionStatus
    from vrooli_cli.model.run import ExecutionStrategy as ExecutionStrategy
    from vrooli_cli.model.run import ParallelBranch as ParallelBranch
    from vrooli_cli.model.run import ResourceAllocation as ResourceAllocation
    from vrooli_cli.model.run import ResourceUsage as ResourceUsage
    from vrooli_cli.model.run import RetryPolicy as RetryPolicy
    from vrooli_cli.model.run import RoutineExecutionInput as RoutineExecutionInput
    from vrooli_cli.model.run import StepDependency as StepDependency
    from vrooli_cli.model.run import StepExecutionInput as StepExecutionInput
    from vrooli_cli.model.run import SwarmCoordinationInput as SwarmCoordinationInput
    from vrooli_cli.model.run import TeamConfiguration as TeamConfiguration
    from vrooli_cli.model.run import TierExecutionRequest as TierExecutionRequest
    from vrooli_cli.model.run import WorkflowDefinition as WorkflowDefinition
    from vrooli_cli.model.run import WorkflowStep as WorkflowStep
    from vrooli_cli.model.swarm import SubTask as SubTask
    from vrooli_cli.model.tiers import TierCommunicationInterface as TierCommunicationInterface
    from vrooli_cli.tier1.decompose import GoalDecomposer as GoalDecomposer
    from vrooli_cli.tier1.knowledge import KnowledgeBase as KnowledgeBase
    from vrooli_cli.tier1.moise.organizer import MOISEOrganizer as MOISEOrganizer
    from vrooli_cli.tier1.swarm import SwarmStateMachine as SwarmStateMachine
    from vrooli_cli.tier1.team import TeamManager as TeamManager
    from vrooli_cli.tier1.team import TeamStructure as TeamStructure
    from vrooli_cli.tier2.context import BlackboardManager as BlackboardManager
    from vrooli_cli.tier2.context import ContextManager as ContextManager
    from vrooli_cli.tier2.context import RunContext as RunContext
    from vrooli_cli.tier2.context import VariableResolver as VariableResolver
    from vrooli_cli.tier2.plan import DependencyResolver as DependencyResolver
    from vrooli_cli.tier2.tier import RunStateMachine as RunStateMachine
    from vrooli_cli.tier3.ai.manager import AIServiceManager as AIServiceManager
    from vrooli_cli.tier3.ai.scripted import ScriptedAI as ScriptedAI
    from vrooli_cli.tier3.custom.author import tool as tool
    from vrooli_cli.tier3.executor import UnifiedExecutor as UnifiedExecutor
    from vrooli_cli.tier3.registry import Tool as Tool
    from vrooli_cli.tier3.registry import ToolContext as ToolContext
    from vrooli_cli.tier3.registry import ToolParameter as ToolParameter
    from vrooli_cli.tier3.registry import ToolRegistry as ToolRegistry
    from vrooli_cli.tier3.strategies import StrategyFactory as StrategyFactory

_MODULES = {
    "architecture": ("ExecutionArchitecture",),
    "bus": ("EventBus",),
    "errors": ("ToolError",),
    "ledger": ("ResourceTracker",),
    "model.events": (
        "EventMetadata",
        "ExecutionEvent",
    ),
    "model.run": (
        "Agent",
        "ExecutionContext",
        "ExecutionError",
        "ExecutionOptions",
        "ExecutionResult",
        "ExecutionStatus",
        "ExecutionStrategy",
        "ParallelBranch",
        "ResourceAllocation",
        "ResourceUsage",
        "RetryPolicy",
        "RoutineExecutionInput",
        "StepDependency",
        "StepExecutionInput",
        "SwarmCoordinationInput",
        "TeamConfiguration",
        "TierExecutionRequest",
        "WorkflowDefinition",
        "WorkflowStep",
    ),
    "model.swarm": ("SubTask",),
    "model.tiers": ("TierCommunicationInterface",),
    "tier1.decompose": ("GoalDecomposer",),
    "tier1.knowledge": ("KnowledgeBase",),
    "tier1.moise.organizer": ("MOISEOrganizer",),
    "tier1.swarm": ("SwarmStateMachine",),
    "tier1.team": (
        "TeamManager",
        "TeamStructure",
    ),
    "tier2.context": (
        "BlackboardManager",
        "ContextManager",
        "RunContext",
        "VariableResolver",
    ),
    "tier2.plan": ("DependencyResolver",),
    "tier2.tier": ("RunStateMachine",),
    "tier3.ai.manager": ("AIServiceManager",),
    "tier3.ai.scripted": ("ScriptedAI",),
    "tier3.custom.author": ("tool",),
    "tier3.executor": ("UnifiedExecutor",),
    "tier3.registry": (
        "Tool",
        "ToolContext",
        "ToolParameter",
        "ToolRegistry",
    ),
    "tier3.strategies": ("StrategyFactory",),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """A public name, from the module that it lives in (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
