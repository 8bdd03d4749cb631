"""``echo``, ``assert`` and ``fail``: tools that touch nothing."""

from __future__ import annotations

from typing import Any

from vrooli_cli.errors import ExpressionError, ToolError
from vrooli_cli.language.expressions import BoundExpression
from vrooli_cli.tier3.box.schemas import anything, schema, text
from vrooli_cli.tier3.host import blocking
from vrooli_cli.tier3.registry import Tool, ToolContext

_SHOWN = 20  # false expressions that a message lists


async def _echo(params: dict[str, Any], context: ToolContext) -> Any:
    return params["message"]


def _assert(params: dict[str, Any], context: ToolContext) -> dict[str, int]:
    that = params["that"]
    conditions = that if isinstance(that, list) else [that]
    failed, broken = [], []
    for condition in conditions:
        try:
            if not _holds(condition):
                failed.append(str(condition))
        except ExpressionError as error:
            broken.append(f"{condition}: {error.message}")
    if failed or broken:
        raise _not_so(params.get("message"), failed, broken, len(conditions))
    return {"passed": len(conditions)}


def _holds(condition: Any) -> bool:
    """True, or false for false and null; anything else is a mistake, for it would be true whatever it says."""
    if isinstance(condition, str):
        condition = BoundExpression(condition, {})
    value = condition.evaluate() if isinstance(condition, BoundExpression) else condition
    if value is None or isinstance(value, bool):
        return bool(value)
    raise ExpressionError(f"it must give true, false or null, not {value!r:.60}")


def _not_so(message: str | None, failed: list[str], broken: list[str], count: int) -> ToolError:
    told = [f"not true: {condition}" for condition in failed] + [f"not known: {one}" for one in broken]
    more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    head = message or f"{len(told)} of {count} conditions do not hold"
    context: dict[str, Any] = {"failed": failed}
    if broken:
        context["broken"] = broken
    code = "TOOL_FAILED" if failed else "EXPRESSION_ERROR"
    return ToolError(f"{head}: {'; '.join(told[:_SHOWN])}{more}", code=code, context=context)


async def _fail(params: dict[str, Any], context: ToolContext) -> Any:
    raise ToolError(params.get("message") or "this step always fails", code=params.get("code"))


ECHO = Tool(
    name="echo",
    description="Gives its message back, with its type: for joining values, and for trying things out.",
    answers="the message",
    schema=schema(("message",), message=anything("Any value.")),
    execute=_echo,
    instant=True,
    effects="none",
)

_CONDITION = {"type": ["string", "boolean", "null"]}
ASSERT = Tool(
    name="assert",
    description="Fails, listing every condition that is not true.",
    answers="`{passed}`: how many conditions hold",
    schema=schema(
        ("that",),
        that={
            "type": ["array", "string", "boolean", "null"],
            "items": _CONDITION,
            "description": "Expressions that must give true, with or without braces.",
        },
        message=text("What to say in front of the list."),
    ),
    execute=blocking(_assert),
    effects="none",
    expressions=frozenset({"that"}),
)

FAIL = Tool(
    name="fail",
    description="Fails with a message and a code, so that `on_error`, `retry` and handlers can be reached on purpose.",
    schema=schema(
        (),
        message=text("What to say."),
        code=text("The error's code, which `retry.on` can name.", pattern="^[A-Z][A-Z0-9_]*$", default="TOOL_FAILED"),
    ),
    execute=_fail,
    instant=True,
    effects="none",
)
