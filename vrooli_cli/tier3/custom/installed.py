"""Tools of installed packages: the entry point group ``vrooli.tools``.

An entry point names a decorated function, a :class:`~vrooli_cli.tier3.registry.Tool`, a module that holds such
functions, or a list of any of these.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vrooli_cli.errors import Problem
from vrooli_cli.tier3.custom.author import MARK
from vrooli_cli.tier3.custom.python import marked_in, read_tools, tool_of_function
from vrooli_cli.tier3.custom.reading import read_python
from vrooli_cli.tier3.custom.signature import Unfit
from vrooli_cli.tier3.registry import Tool

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def installed_tools(importing: bool, points: Iterable[EntryPoint] | None = None) -> tuple[list[Tool], list[Problem]]:
    """What installed packages bring; a package that is broken is one problem, and the others still load.

    Args:
        importing: False reads the packages' files and imports nothing.
        points: Default: those of this environment.
    """
    tools: list[Tool] = []
    problems: list[Problem] = []
    if points is None:
        points = _entry_points()
    for point in sorted(points, key=lambda one: one.name):
        found, wrong = _imported(point) if importing else _read(point)
        tools += found
        problems += wrong
    return tools, problems


def _entry_points() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points

    from vrooli_cli.tier3.custom import GROUP

    return entry_points(group=GROUP)


def _origin(point: EntryPoint) -> str:
    package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "a package"
    return f"{package} ({point.value})"


def _imported(point: EntryPoint) -> tuple[list[Tool], list[Problem]]:
    origin = _origin(point)
    try:
        with redirect_stdout(sys.stderr):
            loaded = point.load()
            found = list(_tools_in(loaded))
    except (Exception, SystemExit) as error:  # a package's code
        told = str(error) if isinstance(error, Unfit) else f"{type(error).__name__}: {error}"
        return [], [Problem((), f"its tools cannot be loaded: {told.splitlines()[0][:300]}", file=origin)]
    version = point.dist.version if point.dist is not None else ""
    return [replace(tool, origin=origin, digest=tool.digest or f"{point.value}@{version}") for tool in found], []


def _tools_in(loaded: Any) -> Iterable[Tool]:
    if isinstance(loaded, Tool):
        yield loaded
    elif isinstance(loaded, ModuleType):
        for _, function in marked_in(loaded):
            yield tool_of_function(function)
    elif hasattr(loaded, MARK):
        yield tool_of_function(loaded)
    elif isinstance(loaded, list | tuple):
        for one in loaded:
            yield from _tools_in(one)
    else:
        raise Unfit(f"expected a function under @tool, a module or a list of them, not a {type(loaded).__name__}")


def _read(point: EntryPoint) -> tuple[list[Tool], list[Problem]]:
    """The same from the package's source, as far as that can be found."""
    path = _source(point)
    if path is None:
        return [], []
    tools, problems = read_tools(read_python(path, _origin(point)))
    return [replace(one, origin=_origin(point)) for one in tools], problems


def _source(point: EntryPoint) -> Path | None:
    if point.dist is None:
        return None
    parts = point.module.split(".")
    for place in (Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py")):
        found = Path(str(point.dist.locate_file(str(place))))
        if found.is_file():
            return found
    return None
