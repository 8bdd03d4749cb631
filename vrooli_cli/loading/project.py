"""The project around a file, and the settings of a call (spec cli.md, "Verbs" and the paragraph on projects).

A project is the nearest folder upward with ``vrooli.yaml``, or with a ``routines/`` folder. Settings come from flags,
``VROOLI_*``, the file, ``vrooli.yaml`` and defaults, in this order; permissions are levels that only narrow.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from vrooli_cli.errors import DefinitionError, Problem
from vrooli_cli.loading import forms
from vrooli_cli.loading.files import read_content, shown
from vrooli_cli.loading.home import NO_PROJECT, PROJECT_FILE, Base, Project, find_project
from vrooli_cli.loading.limits import Limits
from vrooli_cli.loading.routine import (
    findings_of,
    placed,
    read_defaults,
    read_events,
    read_limits,
    read_models,
    read_permissions,
    read_policy,
    read_servers,
)
from vrooli_cli.loading.settings import VARIABLES, Settings, settings_from_environment
from vrooli_cli.loading.shapes import Findings
from vrooli_cli.loading.source import SourceMap
from vrooli_cli.loading.text import read_text

__all__ = [
    "NO_PROJECT",
    "PROJECT_FILE",
    "VARIABLES",
    "Project",
    "Settings",
    "find_project",
    "load_project",
    "project_of_text",
    "read_project",
    "settings_from_environment",
]


def load_project(start: Path | str = ".") -> Project:
    """The project around a folder; an empty one when there is none.

    Raises:
        DefinitionError: ``vrooli.yaml`` is wrong; with every problem.
    """
    root = find_project(Path(start))
    if root is None:
        return NO_PROJECT
    file = root / PROJECT_FILE
    if not file.is_file():
        return Project(root=root)
    content = read_content(file, shown(file), Limits())
    return replace(project_of_text(content, root, file), digest=sha256(content).hexdigest())


def project_of_text(content: bytes | str, root: Path, file: Path | None) -> Project:
    """The project that the text of its ``vrooli.yaml`` describes.

    Raises:
        DefinitionError: It is wrong; with every problem.
    """
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        return Project(root=root, file=file)  # says only where the project is
    document = read_text(content, shown(file) if file is not None else PROJECT_FILE)
    project, problems = read_project(document.data, root=root, source=document.source)
    if project is None:
        raise DefinitionError(problems)
    warnings = (*document.warnings, *problems)
    return replace(project, text=document.source.text, source=document.source, warnings=warnings)


def read_project(
    data: Any, *, root: Path | None = None, source: SourceMap | None = None
) -> tuple[Project | None, list[Problem]]:
    """The project that plain data describes, or None; and everything that is wrong with it."""
    findings = findings_of(source)
    made = forms.PROJECT.read({} if data is None else data, (), findings)
    name = source.name if source is not None else PROJECT_FILE
    project = _project(made, root, name, findings)
    return (None if findings.count else project), placed(findings, source)


def _project(made: dict[str, Any], root: Path | None, name: str, findings: Findings) -> Project:
    secrets = {key: entry["env"] for key, entry in made.get("secrets", {}).items() if "env" in entry}
    return Project(
        root=root,
        file=root / PROJECT_FILE if root else None,
        base=Base(
            defaults=read_defaults(made.get("defaults", {})),
            limits=read_limits(made.get("allocation", {})),
            env=made.get("env") or {},
            secrets=secrets,
            policy=read_policy(made),
            models=read_models(made),
            mcp_servers=read_servers(made),
            executor=made.get("executor") or {},
        ),
        permissions=read_permissions(made.get("permissions", {}), ("permissions",), name, findings),
        events=read_events(made.get("events", ()), findings),
        limits=_file_limits(made.get("limits", {})),
        agents=made.get("agents", {}),
        store=made.get("store", {}),
    )


def _file_limits(made: dict[str, Any]) -> Limits:
    limits = Limits()
    size = round(made["file_mb"] * 2**20) if "file_mb" in made else limits.file_bytes
    return Limits(
        file_bytes=size,
        depth=made.get("depth", limits.depth),
        nodes=made.get("nodes", limits.nodes),
        characters=max(size, limits.characters),
    )
