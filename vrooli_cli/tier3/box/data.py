"""``query`` and ``template``: pick from data, and write text from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vrooli_cli.errors import Problem, ToolError
from vrooli_cli.language.expressions import compile_value
from vrooli_cli.model.run import Effects
from vrooli_cli.tier3.box.files import read_bytes, text_from
from vrooli_cli.tier3.box.schemas import anything, schema, text
from vrooli_cli.tier3.host import blocking
from vrooli_cli.tier3.plain import plain_result
from vrooli_cli.tier3.registry import Tool, ToolContext


def _query(params: dict[str, Any], context: ToolContext) -> Any:
    import jmespath
    from jmespath.exceptions import JMESPathError, ParseError

    try:
        compiled = jmespath.compile(params["expression"])
    except (ParseError, RecursionError) as error:
        message = f"query: {params['expression']!r:.100} is not JMESPath: {_first_line(error)}"
        raise ToolError(message, code="PARAMETER_INVALID", retryable=False) from None
    except JMESPathError as error:
        raise ToolError(f"query: {_first_line(error)}", code="PARAMETER_INVALID", retryable=False) from None
    try:
        return compiled.search(plain_result(params["data"]))
    except (JMESPathError, RecursionError, ValueError, TypeError, ArithmeticError) as error:
        raise ToolError(f"query: {_first_line(error)}", code="EXPRESSION_ERROR", retryable=False) from None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _template(params: dict[str, Any], context: ToolContext) -> str:
    path = params.get("path")
    if (path is None) == (params.get("text") is None):
        message = "template: give either `text` or `path`"
        raise ToolError(message, code="PARAMETER_INVALID", retryable=False)
    source = params["text"] if path is None else text_from(read_bytes(context.path("path", path), path))
    problems: list[Problem] = []
    template = compile_value(source, mode="template", problems=problems)
    if problems:
        first = problems[0]
        hint = f" ({first.hint})" if first.hint else ""
        raise ToolError(f"template: {first.message}{hint}", code="PARAMETER_INVALID", retryable=False)
    rendered = template.evaluate(params.get("data") or {})
    return rendered if isinstance(rendered, str) else str(rendered)


def _template_effects(params: Mapping[str, Any]) -> Effects:
    return "idempotent" if params.get("path") is not None else "none"


QUERY = Tool(
    name="query",
    description="Picks from data with a JMESPath expression (jmespath.org).",
    answers="the value; null where there is none",
    schema=schema(
        ("data", "expression"),
        data=anything("Any value."),
        expression=text("JMESPath, e.g. `items[?price > `10`].name`.", minLength=1),
    ),
    execute=blocking(_query),
    effects="none",
    main="expression",
)

TEMPLATE = Tool(
    name="template",
    description="Writes text from a template ({{ }}, {% for %}, {% if %}) that sees `data` and nothing else.",
    answers="the text",
    schema=schema(
        (),
        text=text("The template; taken from the file as it stands."),
        path=text("A file that holds the template, instead of `text`.", format="path"),
        data={"type": ["object", "null"], "description": "The names that the template sees."},
    ),
    execute=blocking(_template),
    effects="none",
    effects_of=_template_effects,
    main="path",
    literal=frozenset({"text"}),
)
