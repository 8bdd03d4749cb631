"""From flags to an architecture: settings, store, permissions, who is asked. Shared by every verb that loads a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrooli_cli.cli.console import Invocation
from vrooli_cli.errors import InputError, StoreError

if TYPE_CHECKING:
    from vrooli_cli.architecture import ExecutionArchitecture
    from vrooli_cli.errors import Problem
    from vrooli_cli.gate import Approver
    from vrooli_cli.loading.bundle import LoadedBundle
    from vrooli_cli.loading.project import Project, Settings
    from vrooli_cli.model.routine import Bundle, Permissions
    from vrooli_cli.model.store import Store
    from vrooli_cli.tier2.plan import RoutinePlan
    from vrooli_cli.tier3.ai.remembered import Cassette
    from vrooli_cli.tier3.registry import ToolRegistry

# What a resume says again; the rest belongs to one call (store, view, output, prompts).
_KEPT = (
    *("model", "executor", "schedule", "timeout_ms", "grace_ms"),
    *("max_concurrent", "max_credits", "max_cost", "keep_going"),
)


def settings_of(call: Invocation, **flags: Any) -> Settings:
    """The settings of a call: flags over ``VROOLI_*``; a flag that was not given says nothing."""
    from vrooli_cli.loading.settings import Settings, settings_from_environment

    known = {field.name for field in fields(Settings)}
    said = {name: value for name, value in flags.items() if name in known and value is not None and value is not False}
    below = settings_from_environment(call.environ)
    if flags.get("store"):
        below = replace(below, no_store=None)
    if flags.get("no_store"):
        below = replace(below, store=None)
    return Settings(**said).over(below)


def kept_settings(settings: Settings) -> dict[str, Any]:
    """What the history keeps of them."""
    kept = {name: getattr(settings, name) for name in _KEPT}
    return {name: value for name, value in kept.items() if value is not None}


def open_journal(settings: Settings, project: Project) -> Store | None:
    """Where the run is kept; None keeps it in memory.

    Raises:
        StoreError: It cannot be opened.
    """
    if settings.no_store:
        return None
    from vrooli_cli.journal import open_store

    place = settings.store or project.store.get("path")
    if not settings.store and place and project.root is not None:
        place = str(project.root / place)
    return open_store(place, full=project.store.get("sync") == "full")


def known_journal(settings: Settings, file: str = "") -> Store | None:
    """The journal of a run of ``file``, or of this folder, before any file is read as YAML.

    None when it is not there yet, or when ``vrooli.yaml`` may name another one than the flags and the default.
    """
    from vrooli_cli.journal.store import default_store_path
    from vrooli_cli.loading.files import is_bare
    from vrooli_cli.loading.home import PROJECT_FILE, find_project

    root = find_project(Path() if is_bare(file) else Path(file).parent)
    project = root / PROJECT_FILE if root is not None else None
    try:
        named = project is not None and b"store" in project.read_bytes()
    except OSError:
        named = False
    place = Path(settings.store) if settings.store else default_store_path()
    if settings.no_store or named or not place.is_file():
        return None
    from vrooli_cli.journal import open_store

    try:
        return open_store(place)
    except StoreError:  # told when it is needed; what is wrong with the file is told first
        return None


def store_of(call: Invocation, store: str | None) -> Store:
    """The journal that a verb of the history looks into.

    Raises:
        StoreError: It cannot be opened.
    """
    settings = settings_of(call, store=store)
    known = known_journal(settings)
    if known is not None:
        return known
    from vrooli_cli.journal import open_store
    from vrooli_cli.loading.project import load_project

    return open_journal(settings, load_project()) or open_store(None)


def command_line_rules(allow: Iterable[str], deny: Iterable[str], folders: Iterable[str] = ()) -> Permissions:
    """``--allow`` and ``--deny`` as the outermost level.

    Raises:
        InputError: A rule is not one, or names nothing that there is.
    """
    from vrooli_cli.gate import check
    from vrooli_cli.model.routine import Permissions, Rule

    permissions = Permissions(
        allow=tuple(Rule(text, f"--allow {text}") for text in allow),
        deny=tuple(Rule(text, f"--deny {text}") for text in deny),
    )
    if permissions:
        tools = {tool.name: list(tool.schema.get("properties", {})) for tool in registry(folders)}
        named = [rule.text.partition("(")[0].partition(".") for rule in (*permissions.allow, *permissions.deny)]
        servers = [server for server, dot, _ in named if dot]  # no other tool's name has a dot
        found = check(permissions, pointer=(), tools=tools, servers=servers)
        wrong = [problem for problem in found if not problem.warning]
        if wrong:
            raise InputError("\n".join(f"--{problem.pointer[0]}: {problem}" for problem in wrong))
    return permissions


def registry(folders: Iterable[str] = ()) -> ToolRegistry:
    """The tools there are without a run: the box, the project's, those of ``folders``; nothing is imported.

    Raises:
        DefinitionError: Two have one name, or ``vrooli.yaml`` is wrong.
        InputError: There is no such folder.
    """
    return custom_registry(folders)[0]


def custom_registry(
    folders: Iterable[str] = (), *, importing: bool = False
) -> tuple[ToolRegistry, tuple[Problem, ...]]:
    """:func:`registry`, and what is wrong with tool files.

    Args:
        folders: Of ``--tools``.
        importing: True imports Python files, so that types which only the import shows are in the schemas.
    """
    from vrooli_cli.loading.project import load_project
    from vrooli_cli.tier3.box import default_tools
    from vrooli_cli.tier3.custom import load_tools
    from vrooli_cli.tier3.registry import ToolRegistry

    own = load_project().tools
    custom = load_tools([*([own] if own else []), *map(Path, folders)], importing=importing)
    return ToolRegistry([*default_tools(), *custom.tools]), custom.problems


def plan_to_look_at(bundle: Bundle) -> RoutinePlan:
    """The plan of a routine that is not run here: a tool that is not in this folder's project counts as known.

    Raises:
        DefinitionError: With everything else that is wrong.
    """
    from vrooli_cli.tier2.plan import DependencyResolver
    from vrooli_cli.tier3.box import default_tools
    from vrooli_cli.tier3.mcp import tools_named
    from vrooli_cli.tier3.registry import Tool, ToolContext, ToolRegistry

    async def nothing(parameters: dict[str, Any], context: ToolContext, /) -> None:
        """Nobody calls it."""

    box = {tool.name: tool for tool in default_tools()}
    named = {name for routine in bundle.routines.values() for name in tools_named(routine)} - box.keys()
    named = {name.replace("*", "any") for name in named}  # a tool that the glob finds
    others = [Tool(name=name, description="", schema={}, execute=nothing) for name in sorted(named)]
    return DependencyResolver(bundle, ToolRegistry([*box.values(), *others])).create_execution_plan()


def approver_of(settings: Settings) -> Approver:
    """Who is asked: ``--yes``, a person on the terminal, or nobody now."""
    from vrooli_cli.gate import AutoApprove, Defer

    if settings.yes:
        return AutoApprove()
    if settings.no_input:
        return Defer()
    from vrooli_cli.cli.prompt import TerminalApprover, can_ask

    return TerminalApprover() if can_ask() else Defer()


def architecture_of(
    call: Invocation,
    loaded: LoadedBundle,
    settings: Settings,
    *,
    store: Store | None = None,
    approver: Approver | None = None,
    permissions: Permissions | None = None,
    folder: str | None = None,
    cassette: Cassette | None = None,
) -> ExecutionArchitecture:
    """The house for a file; ``folder`` is where relative paths of tools start, when it is not the current one.

    Tool files are imported where somebody is asked, that is, where something is run.
    """
    from vrooli_cli.architecture import ExecutionArchitecture

    return ExecutionArchitecture(
        settings,
        project=loaded.project,
        store=store,
        approver=approver,
        permissions=permissions,
        folder=folder,
        cassette=cassette,
        environ=call.environ,
        import_tools=bool(settings.import_tools) or approver is not None,
    )


def cassette_of(record: str | None, replay: str | None) -> Cassette | None:
    """What ``--record`` writes or ``--replay`` answers from.

    Raises:
        InputError: There is no such folder to write to.
        DefinitionError: The file is no cassette.
    """
    if not record and not replay:
        return None
    from vrooli_cli.tier3.ai.remembered import Cassette

    return Cassette.record(record) if record else Cassette.replay(replay or "")


class Stdin:
    """stdin, which only one thing can read; whoever comes second is told."""

    def __init__(self) -> None:
        self._taken = ""

    @staticmethod
    def share(wishes: Sequence[str]) -> None:
        """InputError when more than one thing wants it; asked before anything is read."""
        if len(wishes) > 1:
            raise InputError(f"stdin is read by {wishes[0]} already, so {wishes[1]} cannot read it, too; use a file")

    def take(self, what: str) -> None:
        """Claim it for ``what``; InputError when something else has it."""
        if self._taken:
            self.share((self._taken, what))
        self._taken = what

    def read(self, what: str) -> bytes:
        """Everything, to its end.

        Raises:
            InputError: It is taken, or cannot be read.
        """
        self.take(what)
        try:
            return sys.stdin.buffer.read()
        except (OSError, ValueError) as error:
            raise InputError(f"stdin cannot be read: {error}") from None


def problems_of(call: Invocation, loaded: LoadedBundle, settings: Settings) -> list[Problem]:
    """Everything that any floor has to say about a file; nothing is run, stored or asked."""
    return architecture_of(call, loaded, settings).check(loaded)


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """``name=value`` arguments as a map.

    Raises:
        InputError: One has no ``=`` or no name, or a name stands twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} {text}: expected name=value")
        if name in found:
            raise InputError(f"{option}: {name!r} is given twice")
        found[name] = value
    return found


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A map of its own."""
    return dict(value)
