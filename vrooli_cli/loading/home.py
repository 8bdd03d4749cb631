"""The project around a file, as values: what it says for every file, and where it is.

Apart from what reads ``vrooli.yaml`` (:mod:`~vrooli_cli.loading.project`): a start from a stored plan reads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrooli_cli.errors import Problem
from vrooli_cli.loading.limits import Limits
from vrooli_cli.model.routine import Defaults, EventAgent, Permissions
from vrooli_cli.model.routine import Limits as Allocation
from vrooli_cli.model.values import lean

if TYPE_CHECKING:
    from vrooli_cli.loading.source import SourceMap

PROJECT_FILE = "vrooli.yaml"
ROUTINES = "routines"
TOOLS = "tools"


@lean()
class Base:
    """What a project says for every file in it; each part gives way to the file's own (spec cli.md, "Settings").

    ``policy`` only ever narrows; ``permissions`` are not here because they stay a level of their own.
    """

    defaults: Defaults = field(default_factory=Defaults)
    limits: Allocation = field(default_factory=Allocation)
    env: Mapping[str, str | None] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    policy: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    mcp_servers: Mapping[str, Any] = field(default_factory=dict)
    executor: Mapping[str, Any] = field(default_factory=dict)


@lean(kw_only=True)
class Project:
    """What holds for every file of a project.

    Attributes:
        root: Its folder; None when there is no project: then the rest is empty.
        file: The path of ``vrooli.yaml``, if there is one.
        base: What every file is read on top of: defaults, ceilings, environment, secrets, models, servers, policy.
        permissions: A level of its own, around the routine's.
        events: Agents that listen to every run of the project.
        limits: How large a file may be.
        agents: Built-in agent → whether it is on; what is not named is on.
        store: ``path`` and ``sync`` of the journal, as written.
        digest: sha256 of the bytes of ``vrooli.yaml``; empty when there is none.
    """

    root: Path | None = None
    file: Path | None = None
    base: Base = field(default_factory=Base)
    permissions: Permissions = field(default_factory=Permissions)
    events: tuple[EventAgent, ...] = ()
    limits: Limits = field(default_factory=Limits)
    agents: Mapping[str, bool] = field(default_factory=dict)
    store: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    source: SourceMap | None = None
    warnings: tuple[Problem, ...] = ()
    digest: str = ""

    @property
    def routines(self) -> Path | None:
        """The folder in which bare names are looked up, if it exists."""
        folder = self.root / ROUTINES if self.root else None
        return folder if folder and folder.is_dir() else None

    @property
    def tools(self) -> Path | None:
        """The folder of the project's own tools, if it exists."""
        folder = self.root / TOOLS if self.root else None
        return folder if folder and folder.is_dir() else None


NO_PROJECT = Project()


def find_project(start: Path) -> Path | None:
    """The nearest folder, from ``start`` upward, that has ``vrooli.yaml`` or a ``routines/`` folder."""
    try:
        start = start.resolve()
        for folder in (start, *start.parents):
            if (folder / PROJECT_FILE).is_file() or (folder / ROUTINES).is_dir():
                return folder
    except (OSError, RuntimeError):  # a folder that may not be looked into; a loop of links
        return None
    return None
