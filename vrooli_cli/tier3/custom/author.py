"""``@tool``: what authors of tools import. Light on purpose: no schema is made before a registry asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, overload

from vrooli_cli.model.run import Effects
from vrooli_cli.model.values import lean

MARK: Final = "__vrooli_tool__"
"""The attribute of a function that is a tool; holds a :class:`ToolMark`."""

F = TypeVar("F", bound=Callable[..., Any])


@lean(kw_only=True)
class ToolMark:
    """What the decorator was told.

    Attributes:
        name: None is the function's own.
        description: None is the docstring.
        effects: What a call does to the world (spec routine.md, "Effects and retry").
        credits: What one call costs.
        secrets: The declared secrets that ``ToolContext.secret`` may give to this tool.
        timeout: Seconds that a call may take, or a duration such as ``30s``; None is no limit of its own.
        main: The parameter that a permission rule's bare glob is matched with; "" is the first one.
    """

    name: str | None = None
    description: str | None = None
    effects: Effects = "once"
    credits: int = 0
    secrets: tuple[str, ...] = ()
    timeout: float | str | None = None
    main: str = ""


@overload
def tool(function: F, /) -> F: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effects: Effects = "once",
    credits: int = 0,
    secrets: Iterable[str] = (),
    timeout: float | str | None = None,
    main: str = "",
) -> Callable[[F], F]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    effects: Effects = "once",
    credits: int = 0,
    secrets: Iterable[str] = (),
    timeout: float | str | None = None,
    main: str = "",
) -> Any:
    """Make a function a tool that routines and models may call; the function itself stays as it is.

    Type hints and docstring become the JSON Schema of its parameters; a parameter with the hint
    :class:`~vrooli_cli.tier3.registry.ToolContext` is given what the tool may know of its call. A function that is not
    async runs in a thread. It fails by raising :class:`~vrooli_cli.errors.ToolError`::

        @tool(effects="none")
        def word_count(text: str, top: int = 10) -> dict[str, int]:
            \"\"\"Count the words of a text, most frequent first.\"\"\"

    Args:
        function: Given when it is written without parentheses.
        name: What files call it; default: the function's name.
        description: Default: the docstring.
        effects: ``none``, ``idempotent`` or ``once``.
        credits: What one call costs, a whole number.
        secrets: The names of secrets that it asks for.
        timeout: Seconds, or a duration such as ``30s``.
        main: The parameter that permission rules are matched with; default: the first.
    """
    mark = ToolMark(
        name=name,
        description=description,
        effects=effects,
        credits=credits,
        secrets=(secrets,) if isinstance(secrets, str) else tuple(secrets),
        timeout=timeout,
        main=main,
    )

    def marked(wanted: F) -> F:
        setattr(wanted, MARK, mark)
        return wanted

    return marked if function is None else marked(function)
