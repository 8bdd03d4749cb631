"""``table``: filter, group, sort and cut lists of maps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from vrooli_cli.errors import ExpressionError, ToolError, did_you_mean
from vrooli_cli.language.expressions import BoundExpression
from vrooli_cli.tier3.box.schemas import integer, schema
from vrooli_cli.tier3.host import blocking
from vrooli_cli.tier3.registry import Tool, ToolContext

Row = Mapping[str, Any]
_FUNCTIONS: Final = ("sum", "min", "max", "mean", "count")


def _table(params: dict[str, Any], context: ToolContext) -> list[Row]:
    """Where, then group and aggregate, then sort, then limit: the order in which SQL reads."""
    rows: list[Row] = params["rows"]
    if "where" in params:
        rows = _filtered(rows, params["where"], context)
    columns, wanted = _listed(params.get("group_by")), params.get("aggregate") or {}
    if columns or wanted:
        rows = _grouped(rows, columns, wanted)
    for name in reversed(_listed(params.get("sort"))):
        rows = _sorted(rows, name)
    limit = params.get("limit")
    return rows if limit is None else rows[:limit]


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


# --- where -----------------------------------------------------------------------------------------------------------


def _filtered(rows: list[Row], where: Any, context: ToolContext) -> list[Row]:
    condition = BoundExpression(where, {}) if isinstance(where, str) else where
    if not isinstance(condition, BoundExpression):  # a bare true, false or null
        return rows if condition else []
    return [row for at, row in enumerate(rows) if _holds(condition, row, at, context)]


def _holds(condition: BoundExpression, row: Row, at: int, context: ToolContext) -> bool:
    if context.cancelled:
        raise ToolError("stopped while filtering")
    try:
        value = condition.evaluate(row=row)
    except ExpressionError as error:
        message = f"where: {error.message} (in row {at}); for a column that may be missing, use default()"
        raise ToolError(message, code="EXPRESSION_ERROR", retryable=False) from None
    if value is not None and not isinstance(value, bool):
        message = f"where: it must give true, false or null, not {value!r:.60} (in row {at})"
        raise ToolError(message, code="EXPRESSION_ERROR", retryable=False)
    return bool(value)


# --- group and aggregate ---------------------------------------------------------------------------------------------


def _grouped(rows: list[Row], columns: list[str], wanted: Mapping[str, Any]) -> list[Row]:
    """One row a group, in the order in which the groups first appear; one in all without columns."""
    groups: dict[Any, list[Row]] = {} if columns else {(): rows}
    if columns:
        for row in rows:
            groups.setdefault(tuple(_order(row.get(column)) for column in columns), []).append(row)
    return [_summed_up(members, columns, wanted) for members in groups.values()]


def _summed_up(members: list[Row], columns: list[str], wanted: Mapping[str, Any]) -> Row:
    made = {column: members[0].get(column) for column in columns}
    for name, how in wanted.items():
        function, column = (how, None) if isinstance(how, str) else (how[0], how[1] if len(how) > 1 else None)
        made[name] = _aggregate(name, function, column, members)
    return made


def _aggregate(name: str, function: str, column: str | None, members: list[Row]) -> Any:
    """Null is left out, as SQL does; what remains of nothing is 0 for sum and count, null for the others."""
    if function not in _FUNCTIONS:
        hint = did_you_mean(function, _FUNCTIONS) or f"it is one of {', '.join(_FUNCTIONS)}"
        raise _wrong(f"aggregate.{name}: there is no function {function!r}; {hint}")
    if column is None:
        if function != "count":
            raise _wrong(f"aggregate.{name}: {function} needs a column, as in [{function}, price]")
        return len(members)
    values = [value for row in members if (value := row.get(column)) is not None]
    if function == "count":
        return len(values)
    if function in ("min", "max"):
        choose: Callable[..., Any] = min if function == "min" else max
        return choose(values, key=_order, default=None)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(f"aggregate.{name}: the column {column!r} holds {value!r:.40}, and {function} takes numbers")
    total = _total(values)
    if function == "sum":
        return total
    return total / len(values) if values else None


def _total(values: list[Any]) -> int | float:
    """Exact for whole numbers, rounded once for others: the order of the rows does not matter."""
    return sum(values) if all(isinstance(value, int) for value in values) else math.fsum(values)


def _wrong(message: str) -> ToolError:
    return ToolError(message, code="PARAMETER_INVALID", retryable=False)


# --- sort ------------------------------------------------------------------------------------------------------------


def _sorted(rows: list[Row], name: str) -> list[Row]:
    """By one column, equal rows in their order; ``-`` turns the order round, null and missing stay last."""
    down = name.startswith("-")
    column = name.removeprefix("-")
    known = [row for row in rows if row.get(column) is not None]
    unknown = [row for row in rows if row.get(column) is None]
    return sorted(known, key=lambda row: _order(row[column]), reverse=down) + unknown


def _order(value: Any) -> tuple[int, Any]:
    """A key under which values of any kinds have one order: true/false, numbers, text, the rest by its JSON."""
    if value is None:
        return (0, 0)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, int | float):
        return (2, value)
    if isinstance(value, str):
        return (3, value)
    return (4, json.dumps(value, sort_keys=True, ensure_ascii=False, default=dict))


_COLUMNS: dict[str, Any] = {"type": ["array", "string"], "items": {"type": "string"}}
TABLE = Tool(
    name="table",
    description="Filters, groups, sorts and cuts a list of maps.",
    answers="the rows, as a list of maps",
    schema=schema(
        ("rows",),
        rows={"type": "array", "items": {"type": "object"}, "description": "The rows, as maps from column to value."},
        where={
            "type": ["string", "boolean", "null"],
            "description": "An expression over `row` that must give true for the rows to keep.",
        },
        group_by={**_COLUMNS, "description": "Columns; one row comes out for each combination of their values."},
        aggregate={
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    {"type": "string", "const": "count"},
                    {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}},
                ]
            },
            "description": "New column → [sum, min, max, mean or count; column]. Null is left out.",
        },
        sort={**_COLUMNS, "description": "Columns, the first counts most; `-` in front turns the order round."},
        limit=integer("The most rows to give.", minimum=0),
    ),
    execute=blocking(_table),
    effects="none",
    main="rows",
    expressions=frozenset({"where"}),
    bound=frozenset({"row"}),
)
