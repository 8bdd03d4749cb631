"""The project around a file, and the settings of a call (spec cli.md, "Verbs" and the paragraph on projects).

A project is the nearest folder upward with ``vrooli.yaml``, or with a ``routines/`` folder. Settings come from flags,
``VROOLI_*``, the file, ``vrooli.yaml`` and defaults, in this order; permissions are levels that only narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from vrooli_cli.errors import DefinitionError, InputError, Problem
from vrooli_cli.loading import forms
from vrooli_cli.loading.durations import parse_duration
from vrooli_cli.loading.files import read_content, shown
from vrooli_cli.loading.routine import (
    Base,
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
from vrooli_cli.loading.shapes import Findings
from vrooli_cli.loading.text import Limits, SourceMap, read_text
from vrooli_cli.model.routine import EventAgent, Permissions
from vrooli_cli.model.routine import Limits as Allocation

PROJECT_FILE = "vrooli.yaml"
ROUTINES = "routines"
TOOLS = "tools"


@dataclass(frozen=True, slots=True, kw_only=True)
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
    return project_of_text(read_content(file, shown(file), Limits()), root, file)


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


# Settings of a call


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What flags or ``VROOLI_*`` say; None (or empty) is "not said", so the level below decides.

    Attributes:
        tools: Folders of tools beside the project's.
        import_tools: Import tool files also where nothing is run.
        grace_ms: From TERM to KILL.
        store: The journal's file; ``no_store`` keeps it in memory.
    """

    model: str | None = None
    executor: str | None = None
    store: str | None = None
    view: Literal["live", "plain", "none"] | None = None
    output: Literal["text", "json", "yaml", "ndjson", "none"] | None = None
    schedule: Literal["eager", "batched"] | None = None
    timeout_ms: int | None = None
    grace_ms: int | None = None
    max_concurrent: int | None = None
    max_credits: int | None = None
    max_cost: float | None = None
    tools: tuple[str, ...] = ()
    import_tools: bool | None = None
    keep_going: bool | None = None
    no_store: bool | None = None
    no_cache: bool | None = None
    no_input: bool | None = None
    allow_unpriced: bool | None = None
    yes: bool | None = None

    def over(self, below: Settings) -> Settings:
        """These settings, with what they do not say taken from ``below``."""
        names = [f.name for f in fields(self)]
        gaps = {name: getattr(below, name) for name in names if getattr(self, name) in (None, ())}
        return replace(self, **gaps)

    def ceilings(self, file: Allocation) -> Allocation:
        """A file's allocation under these settings; the time-out of a run is the option's, not the allocation's."""
        limits = file
        credits_ = [c for c in (self.max_credits, _credits(self.max_cost)) if c is not None]
        if credits_:
            limits = replace(limits, max_credits=min(credits_))
        if self.max_concurrent is not None:
            limits = replace(limits, max_concurrent_steps=self.max_concurrent)
        return limits


def _credits(cost: float | None) -> int | None:
    return None if cost is None else round(cost * 1_000_000)


def settings_from_environment(environ: Mapping[str, str]) -> Settings:
    """What ``VROOLI_MODEL``, ``VROOLI_STORE`` and the others say; empty ones say nothing.

    Raises:
        InputError: With every variable that cannot be read, a line each.
    """
    read: dict[str, Any] = {}
    wrong = []
    for name, (variable, convert) in _VARIABLES.items():
        text = environ.get(variable, "").strip()
        if text:
            try:
                read[name] = convert(text)
            except ValueError as error:
                wrong.append(f"{variable}: {error}")
    if wrong:
        raise InputError("\n".join(wrong))
    return Settings(**read)


def _flag(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(f"expected 1 or 0, not {text!r}")
    return words[text.lower()]


def _whole(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least):
            raise ValueError(f"expected a whole number, at least {least}, not {text!r}")
        return int(text)

    return convert


def _cost(text: str) -> float:
    try:
        cost = float(text)
    except ValueError:
        cost = -1
    if not 0 <= cost < 1e12:
        raise ValueError(f"expected US dollars, not {text!r}")
    return cost


def _word(*words: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected one of {', '.join(words)}, not {text!r}")
        return text

    return convert


def _folders(text: str) -> tuple[str, ...]:
    return tuple(folder for folder in text.split(":") if folder)


_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "model": ("VROOLI_MODEL", str),
    "executor": ("VROOLI_EXECUTOR", str),
    "store": ("VROOLI_STORE", str),
    "view": ("VROOLI_VIEW", _word("live", "plain", "none")),
    "output": ("VROOLI_OUTPUT", _word("text", "json", "yaml", "ndjson", "none")),
    "schedule": ("VROOLI_SCHEDULE", _word("eager", "batched")),
    "timeout_ms": ("VROOLI_TIMEOUT", parse_duration),
    "grace_ms": ("VROOLI_GRACE", parse_duration),
    "max_concurrent": ("VROOLI_MAX_CONCURRENT", _whole(1)),
    "max_credits": ("VROOLI_MAX_CREDITS", _whole(0)),
    "max_cost": ("VROOLI_MAX_COST", _cost),
    "tools": ("VROOLI_TOOLS", _folders),
    "keep_going": ("VROOLI_KEEP_GOING", _flag),
    "no_store": ("VROOLI_NO_STORE", _flag),
    "no_cache": ("VROOLI_NO_CACHE", _flag),
    "no_input": ("VROOLI_NO_INPUT", _flag),
    "allow_unpriced": ("VROOLI_ALLOW_UNPRICED", _flag),
    "yes": ("VROOLI_YES", _flag),
}
VARIABLES: tuple[str, ...] = tuple(variable for variable, _ in _VARIABLES.values())
"""Every environment variable that vrooli reads as a setting."""
