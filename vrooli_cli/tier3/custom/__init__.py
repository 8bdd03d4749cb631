"""Tools that people write: Python functions, programs, installed packages (spec tools.md).

::

    load_tools      everything that a project, ``--tools`` and installed packages bring, and what is wrong with it
    problems_of_file    what is wrong with one tool file
    author.tool     the decorator that makes a function a tool (``from vrooli_cli import tool``)

A file is *read* for ``validate`` and ``plan``, and *imported* for a run. What is broken is a problem with its line, and
takes nothing else with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from vrooli_cli.errors import DefinitionError, InputError, Problem
from vrooli_cli.loading.files import shown
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.registry import Tool

GROUP: Final = "vrooli.tools"
"""The entry point group of installed packages that bring tools."""


@lean()
class CustomTools:
    """What was found.

    Attributes:
        problems: Placed; each takes only its own file's tools away.
    """

    tools: tuple[Tool, ...] = ()
    problems: tuple[Problem, ...] = ()


def load_tools(folders: Iterable[Path], *, importing: bool, installed: bool = True) -> CustomTools:
    """The tools of these folders, and of installed packages.

    Args:
        folders: Each one's ``*.py`` and ``*.yaml``, not those that begin with ``_`` or ``.``; a folder that is given
            twice counts once.
        importing: False reads Python files without running any of their code; their tools cannot be called then.
        installed: False leaves installed packages out.

    Raises:
        InputError: There is no such folder.
    """
    tools: list[Tool] = []
    problems: list[Problem] = []
    seen: set[Path] = set()
    for folder in folders:
        try:
            resolved = folder.resolve()
            files = sorted(resolved.iterdir())
        except OSError as error:
            reason = "there is no such folder" if not folder.is_dir() else (error.strerror or "it cannot be read")
            raise InputError(f"tools: {shown(folder)}: {reason}") from None
        if resolved in seen:
            continue
        seen.add(resolved)
        for file in files:
            if not file.name.startswith(("_", ".")) and file.is_file():
                found, wrong = _of_file(file, importing)
                tools += found
                problems += wrong
    if installed:
        found, wrong = _installed(importing)
        tools += found
        problems += wrong
    return CustomTools(tuple(tools), tuple(problems))


def problems_of_file(path: Path) -> list[Problem] | None:
    """What is wrong with one tool file, which is read and not imported; None for a YAML file that defines no tool."""
    from vrooli_cli.tier3.custom.command import is_command_file

    return _of_file(path, importing=False)[1] if path.suffix == ".py" or is_command_file(path) else None


def _installed(importing: bool) -> tuple[list[Tool], list[Problem]]:
    """Tools of installed packages, if any package offers some: ``importlib.metadata`` is slow to say so."""
    wanted = f"[{GROUP}]".encode()
    for folder in map(Path, sys.path):
        if _offers(folder, wanted):
            from vrooli_cli.tier3.custom.installed import installed_tools

            return installed_tools(importing)
    return [], []


def _offers(folder: Path, wanted: bytes) -> bool:
    """True when a package in a folder of ``sys.path`` has that group: a look at a hundred small files."""
    if folder.suffix in (".egg", ".whl", ".zip") and folder.is_file():
        return True
    with suppress(OSError), os.scandir(folder) as entries:
        return any(wanted in _points_of(one.path) for one in entries if one.name.endswith((".dist-info", ".egg-info")))
    return False


def _points_of(package: str) -> bytes:
    try:
        return Path(package, "entry_points.txt").read_bytes()
    except OSError:
        return b""


def _of_file(path: Path, importing: bool) -> tuple[list[Tool], list[Problem]]:
    if path.suffix == ".py":
        from vrooli_cli.tier3.custom.python import import_tools, read_tools
        from vrooli_cli.tier3.custom.reading import read_python

        file = read_python(path, shown(path))
        return import_tools(file) if importing else read_tools(file)
    from vrooli_cli.tier3.custom.command import command_tool, is_command_file

    if not is_command_file(path):
        return [], []
    from vrooli_cli.loading.tools import read_command_tool

    try:
        return [command_tool(read_command_tool(path))], []
    except DefinitionError as error:
        return [], list(error.problems)
