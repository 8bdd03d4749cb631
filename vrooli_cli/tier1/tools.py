"""Tools that tier 1 lays over the registry of a task: the swarm's knowledge, and the blackboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vrooli_cli.errors import ToolError
from vrooli_cli.model.events import ContextExported
from vrooli_cli.tier1.board import AgentBoard
from vrooli_cli.tier1.knowledge import KnowledgeBase
from vrooli_cli.tier3.registry import Tool, ToolContext

_MOST_EXCERPTS = 20


def swarm_tools(knowledge: KnowledgeBase | None = None, board: AgentBoard | None = None) -> list[Tool]:
    """``knowledge_search``, ``blackboard_read`` and ``blackboard_write`` for one agent.

    Args:
        knowledge: What is searched; None finds nothing.
        board: The blackboard as the agent sees it.
    """

    async def search(params: dict[str, Any], context: ToolContext, /) -> Any:
        del context
        found = knowledge.search(params["query"], params.get("limit", 5)) if knowledge is not None else []
        return [{"source": excerpt.source, "text": excerpt.text} for excerpt in found]

    async def read(params: dict[str, Any], context: ToolContext, /) -> Any:
        del context
        key = params.get("key")
        values: Mapping[str, Any] = board if board is not None else {}
        if key is None:
            return sorted(values)
        if key not in values:
            raise ToolError(f"the blackboard has no {key!r} for you", code="NOT_FOUND", retryable=False)
        return values[key]

    async def write(params: dict[str, Any], context: ToolContext, /) -> Any:
        values = {params["key"]: params["value"]}
        if board is not None:
            board.write(values)
        context.emit(ContextExported(execution_id=context.execution_id, step_id=context.step_id, values=values))
        return {"key": params["key"]}

    return [
        Tool(
            name="knowledge_search",
            description="Search the swarm's documents. Gives excerpts with the file and line they come from.",
            schema=_schema(
                {
                    "query": {"type": "string", "description": "Words to look for."},
                    "limit": {"type": "integer", "minimum": 1, "maximum": _MOST_EXCERPTS, "default": 5},
                },
                "query",
            ),
            execute=search,
            effects="none",
            origin="swarm",
        ),
        Tool(
            name="blackboard_read",
            description="Read a value that a member of the team has put on the blackboard; without a key, the keys.",
            schema=_schema({"key": {"type": "string", "description": "A task's id, or an exported name."}}),
            execute=read,
            effects="none",
            origin="swarm",
        ),
        Tool(
            name="blackboard_write",
            description="Put a value on the blackboard, where the other members of the team find it.",
            schema=_schema({"key": {"type": "string", "minLength": 1}, "value": {}}, "key", "value"),
            execute=write,
            effects="idempotent",
            origin="swarm",
        ),
    ]


def _schema(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
