"""From a function's parameters to JSON Schema and back: pydantic makes the schema and the arguments of a call.

A signature is made in two ways, with the same code behind: from a live function (:func:`signature_of`), and from hints
that were read off a syntax tree without importing anything (``reading``), where a hint that is not known is any value.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from vrooli_cli.errors import ToolError
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.registry import ToolContext

UNSET: Final = inspect.Parameter.empty
_ARGUMENTS = re.compile(r"^(?:Args|Arguments|Parameters):\s*$", re.MULTILINE)
_SECTION = re.compile(
    r"^(?:Returns|Raises|Yields|Examples?|Notes?|Attributes|Warns|See Also|References):?\s*$", re.MULTILINE
)
_ENTRY = re.compile(r"^\s*\*{0,2}(?P<name>[A-Za-z_]\w*)\s*(?:\([^)]*\))?\s*:\s*(?P<about>.*)$")


class Unfit(Exception):
    """A function that cannot be a tool; the text says why, in one line."""


@lean()
class Argument:
    """One parameter of a tool.

    Attributes:
        hint: A type; ``Any`` where nothing is known.
        default: :data:`UNSET` when it has none.
    """

    name: str
    hint: Any = Any
    default: Any = UNSET
    about: str = ""


@dataclass(frozen=True)
class Signature:
    """What a function takes and gives.

    Attributes:
        arguments: In order, without the one that takes the context.
        context: The name of that one; None when there is none.
        result: The hint of what it gives; :data:`UNSET` when nothing is said.
    """

    arguments: tuple[Argument, ...]
    context: str | None = None
    result: Any = UNSET

    @cached_property
    def _model(self) -> Any:
        """A pydantic model with these fields; their own names are aliases, so that any name will do."""
        from pydantic import ConfigDict, Field, create_model

        fields: dict[str, Any] = {}
        for n, one in enumerate(self.arguments):
            default = ... if one.default is UNSET else one.default
            fields[f"p{n}"] = (one.hint, Field(default, alias=one.name, description=one.about or None))
        config = ConfigDict(extra="forbid", title="parameters")
        try:
            return create_model("Parameters", __config__=config, **fields)
        except Exception as error:  # pydantic's own, and whatever a hint's class raises
            raise Unfit(_first_line(error)) from None

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the parameters.

        Raises:
            Unfit: JSON cannot say what a hint means.
        """
        from pydantic.errors import PydanticUserError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a default that JSON cannot say is left out of the schema
                schema = self._model.model_json_schema(by_alias=True)
        except PydanticUserError as error:
            raise Unfit(_first_line(error)) from None
        schema.setdefault("properties", {})
        clean: dict[str, Any] = _untitled(schema)
        order = {"type": "object", "properties": clean.pop("properties"), "required": clean.pop("required", [])}
        return {**order, "additionalProperties": False, **{k: v for k, v in clean.items() if k not in order}}

    @cached_property
    def _result(self) -> Any:
        """The adapter of the result's hint; None where it says nothing."""
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        if self.result in (UNSET, None, Any, type(None)):
            return None
        try:
            return TypeAdapter(self.result)
        except (PydanticUserError, TypeError, NameError):
            return None

    def result_schema(self) -> dict[str, Any] | None:
        """JSON Schema of the result; None where the hint says nothing that JSON can say."""
        from pydantic.errors import PydanticUserError

        if self._result is None:
            return None
        try:
            schema: dict[str, Any] = _untitled(self._result.json_schema(mode="serialization"))
        except PydanticUserError:
            return None
        return schema or None

    def bind(self, params: Mapping[str, Any], name: str) -> dict[str, Any]:
        """The arguments of a call, as the hints want them.

        Raises:
            ToolError: ``PARAMETER_INVALID``.
        """
        from pydantic import ValidationError

        try:
            made = self._model.model_validate(dict(params))
        except ValidationError as error:
            told = "; ".join(f"{_place(one['loc'])}: {one['msg']}" for one in error.errors(include_url=False)[:5])
            raise ToolError(f"{name}: {told}", code="PARAMETER_INVALID", retryable=False) from None
        return {one.name: getattr(made, f"p{n}") for n, one in enumerate(self.arguments)}

    def plain(self, result: Any) -> Any:
        """A result as plain data: what the hint can serialise is serialised, the rest stays and is checked later."""
        if self._result is None or type(result) in (str, int, float, bool, type(None)):
            return result
        from pydantic_core import PydanticSerializationError

        try:
            return self._result.dump_python(result, mode="json", by_alias=True, warnings=False)
        except PydanticSerializationError:
            return result


def signature_of(function: Callable[..., Any]) -> Signature:
    """The signature of a live function.

    Raises:
        Unfit: It takes what cannot be named, or a hint cannot be resolved.
    """
    try:
        hints = {name: _welcome(one) for name, one in get_type_hints(function, include_extras=True).items()}
    except Exception as error:  # a hint is code of the author
        raise Unfit(f"its hints cannot be resolved: {_first_line(error)}") from None
    abouts = argument_texts(inspect.getdoc(function) or "")
    arguments, context = [], None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD and parameter.kind is not parameter.KEYWORD_ONLY:
            raise Unfit(f"{parameter}: every parameter of a tool needs a name of its own")
        hint = hints.get(parameter.name, Any)
        if hint is ToolContext or ToolContext in get_args(hint):
            context = parameter.name
        else:
            about = abouts.get(parameter.name, "")
            arguments.append(Argument(parameter.name, hint, parameter.default, about))
    return Signature(tuple(arguments), context, hints.get("return", UNSET))


def _welcome(hint: Any, inside: tuple[Any, ...] = ()) -> Any:
    """A hint as pydantic takes it: before Python 3.12 it refuses a TypedDict of ``typing``.

    Args:
        hint: Any hint.
        inside: The TypedDicts around it; one that names itself is any map there.
    """
    if is_typeddict(hint):
        return dict[str, Any] if hint in inside else _extended(hint, (*inside, hint))
    origin, parts = get_origin(hint), get_args(hint)
    if origin is None or origin is Literal:
        return hint
    if origin is Annotated:
        return Annotated[_welcome(parts[0], inside), *parts[1:]]
    made = tuple(one if isinstance(one, list) else _welcome(one, inside) for one in parts)
    if all(new is old for new, old in zip(made, parts, strict=True)):
        return hint
    return Union[made] if origin in (Union, UnionType) else origin[made]  # noqa: UP007 - made at run time


def _extended(typed: Any, inside: tuple[Any, ...]) -> Any:
    """The same TypedDict, made by ``typing_extensions`` (a dependency of pydantic)."""
    import typing_extensions

    fields = {}
    for name, hint in get_type_hints(typed, include_extras=True).items():
        bare = get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint
        needed = Required if name in typed.__required_keys__ else NotRequired
        fields[name] = needed[_welcome(bare, inside)]
    made: Any = typing_extensions.TypedDict(typed.__name__, fields)  # type: ignore[misc]
    made.__doc__ = typed.__doc__
    return made


def summary(doc: str) -> str:
    """A docstring without its sections: the description of the tool."""
    doc = inspect.cleandoc(doc)
    cuts = [match.start() for pattern in (_ARGUMENTS, _SECTION) if (match := pattern.search(doc))]
    return doc[: min(cuts, default=len(doc))].strip()


def argument_texts(doc: str) -> dict[str, str]:
    """Parameter → what a docstring's ``Args:`` section says of it."""
    start = _ARGUMENTS.search(inspect.cleandoc(doc))
    if start is None:
        return {}
    body = inspect.cleandoc(doc)[start.end() :]
    end = _SECTION.search(body)
    lines = body[: end.start() if end else None].splitlines()
    found: dict[str, str] = {}
    depth, name = -1, ""
    for line in lines:
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        depth = indent if depth < 0 else depth
        entry = _ENTRY.match(line) if indent == depth else None
        if entry is not None:
            name = entry["name"]
            found[name] = entry["about"].strip()
        elif name and indent > depth:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _untitled(schema: Any, *, names: bool = False) -> Any:
    """Without the titles that pydantic makes up; ``names`` is true for a map of properties, which may be called so."""
    if isinstance(schema, Mapping):
        kept = {key: value for key, value in schema.items() if names or key != "title" or not isinstance(value, str)}
        return {
            key: value
            if key in ("default", "const", "enum", "examples") and not names
            else _untitled(value, names=not names and key in ("properties", "$defs", "patternProperties"))
            for key, value in kept.items()
        }
    if isinstance(schema, list):
        return [_untitled(one) for one in schema]
    return schema


def _place(path: Sequence[Any]) -> str:
    return ".".join(str(part) for part in path) or "the parameters"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
