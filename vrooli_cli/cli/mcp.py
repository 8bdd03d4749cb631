"""``vrooli mcp serve``: the routines of a project as tools for other MCP clients, over stdin and stdout."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vrooli_cli.cli.console import Console, Invocation
from vrooli_cli.cli.help import VerbCommand, VerbGroup
from vrooli_cli.cli.options import Debug, Folders
from vrooli_cli.errors import DefinitionError, InputError, Problem, VrooliError
from vrooli_cli.model.addresses import is_inner

if TYPE_CHECKING:
    from vrooli_cli.loading.bundle import LoadedBundle
    from vrooli_cli.loading.project import Project, Settings
    from vrooli_cli.model.run import ExecutionResult

app = typer.Typer(add_completion=False, rich_markup_mode=None)
family = typer.Typer(
    cls=VerbGroup,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=False,
    help="Offer the project's routines to other programs by the Model Context Protocol.",
)
app.add_typer(family, name="mcp")


@family.command("serve", cls=VerbCommand)
def serve(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Grant every approval and ask.")] = False,
    store: Annotated[str | None, typer.Option(metavar="FILE", help="The journal of the runs.")] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep nothing of the runs.")] = False,
    tools: Folders = None,
    debug: Debug = False,
) -> int:
    """Serve the routines of this project as MCP tools on stdin and stdout, until stdin ends.

    Each routine is a tool, its inputs are the schema; steps that end are told as progress, and a cancel stops the run.
    """
    from vrooli_cli.cli.session import settings_of
    from vrooli_cli.loading.project import load_project

    call: Invocation = ctx.obj
    call.debug = debug
    settings = settings_of(call, store=store, no_store=no_store, yes=yes, no_input=not yes, tools=tuple(tools or ()))
    project = load_project()
    if project.routines is None:
        raise InputError("there is no routines/ folder here; `vrooli init` makes a project")
    try:
        import mcp  # noqa: F401 - told before anything else
    except ModuleNotFoundError:
        raise InputError("this needs an extra: pip install 'vrooli[mcp]'") from None
    asyncio.run(_Serving(call, settings, project).run())
    return 0


class _Serving:
    """The routines of a project, behind a low-level server of the SDK."""

    def __init__(self, call: Invocation, settings: Settings, project: Project) -> None:
        self._call = call
        self._settings = settings
        self._project = project
        self._told: set[Problem] = set()

    async def run(self) -> None:
        """Until the client goes."""
        from mcp.server.lowlevel.server import Server
        from mcp.server.stdio import stdio_server

        from vrooli_cli.model.version import VROOLI

        server: Any = Server("vrooli", version=VROOLI, on_list_tools=self._list, on_call_tool=self._called)
        Console(self._call).say(f"serving {len(self._routines())} routines of {self._project.root} over MCP")
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    def _routines(self) -> dict[str, LoadedBundle]:
        """Name → routine, as the files are now; one that is wrong is told on stderr, once, and left out."""
        found: dict[str, LoadedBundle] = {}
        for name, path in self._files().items():
            try:
                found[name] = self._loaded(path)
            except DefinitionError as error:
                new = [problem for problem in error.problems if problem not in self._told]
                self._told.update(new)
                Console(self._call).problems(new)
        return found

    def _files(self) -> dict[str, Path]:
        assert self._project.routines is not None
        paths = sorted(self._project.routines.iterdir())
        return {one.stem: one for one in paths if one.suffix in (".yaml", ".yml") and not one.stem.endswith(".test")}

    def _loaded(self, path: Path) -> LoadedBundle:
        from vrooli_cli.loading.bundle import load_bundle

        return load_bundle(path, project=self._project)

    async def _list(self, context: Any, params: Any) -> Any:
        from mcp_types import ListToolsResult, Tool

        del context, params
        tools = [
            Tool(name=name, description=loaded.definition.description or None, input_schema=inputs_schema(loaded))
            for name, loaded in self._routines().items()
        ]
        return ListToolsResult(tools=tools)

    async def _called(self, context: Any, params: Any) -> Any:
        path = self._files().get(params.name)
        if path is None:
            return _failure(f"there is no routine {params.name!r}")
        try:
            arguments = params.arguments or {}
            return await self._run(self._loaded(path), arguments, context.session, _trace_of(params))
        except VrooliError as error:
            return _failure(f"{error.code}: {error.message}")

    async def _run(
        self, loaded: LoadedBundle, arguments: Mapping[str, Any], session: Any, trace: Mapping[str, str]
    ) -> Any:
        """The answer of one run; a cancel of the call stops it, and waits until it has stopped."""
        from vrooli_cli.cli.drive import How, commands
        from vrooli_cli.cli.session import approver_of, architecture_of, open_journal
        from vrooli_cli.loading.inputs import resolve_inputs

        values = resolve_inputs(loaded.definition.inputs, {}, arguments, self._call.environ)
        store = open_journal(self._settings, self._project)
        call = replace(self._call, environ={**self._call.environ, **trace})
        architecture = architecture_of(call, loaded, self._settings, store=store, approver=approver_of(self._settings))
        async with architecture:
            prepared = architecture.prepare(loaded, values)
            progress = _Progress(session, len(prepared.summary.steps))
            prepared.channel.fold(progress.apply)
            running = asyncio.ensure_future(prepared.run())
            telling = asyncio.ensure_future(progress.tell())
            try:
                result = masked(await asyncio.shield(running), prepared.scope.masker)
                how = How(kept=not self._settings.no_store, store=self._settings.store)
                return _answer(result, commands(result, prepared, how))
            except asyncio.CancelledError:
                prepared.cancel("the client cancelled the call")
                await asyncio.wait([running])
                raise
            finally:
                progress.end()
                await asyncio.wait([telling], timeout=2)
                telling.cancel()


def _trace_of(params: Any) -> dict[str, str]:
    """The span that the call belongs to, as a child process would be told."""
    meta = params.meta or {}
    return {name.upper(): str(meta[name]) for name in ("traceparent", "tracestate") if meta.get(name)}


def masked(result: ExecutionResult, masker: Any) -> ExecutionResult:
    """The result without the run's secrets: it leaves the process."""
    if masker is None:
        return result
    changes: dict[str, Any] = {"result": masker.mask_value(result.result)}
    if result.error is not None:
        changes["error"] = replace(result.error, message=masker.mask_text(result.error.message))
    return replace(result, **changes)


class _Progress:
    """Steps of the root graph that have ended, told to the client as they do."""

    def __init__(self, session: Any, total: int) -> None:
        self._session = session
        self._total = total
        self._ended: asyncio.Queue[str | None] = asyncio.Queue()

    def apply(self, event: Any) -> None:
        """One event."""
        family, _, what = event.type.rpartition("/")
        step = event.payload.get("step_id") or ""
        if family == "tier2/step" and what in ("completed", "failed", "skipped", "reused") and not is_inner(step):
            self._ended.put_nowait(f"{step} {what}")

    def end(self) -> None:
        """Nothing more will happen."""
        self._ended.put_nowait(None)

    async def tell(self) -> None:
        """Until the end."""
        count = 0
        while (message := await self._ended.get()) is not None:
            count += 1
            await self._session.report_progress(count, self._total, message)


def inputs_schema(loaded: LoadedBundle) -> dict[str, Any]:
    """The inputs of a routine as JSON Schema; those that are read from the environment may be left out."""
    properties, required = {}, []
    for name, declared in loaded.definition.inputs.items():
        schema = dict(declared.schema)
        if declared.description:
            schema["description"] = declared.description
        if declared.has_default:
            schema["default"] = declared.default
        elif declared.required and not declared.env:
            required.append(name)
        properties[name] = schema
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _answer(result: ExecutionResult, next_: Sequence[str]) -> Any:
    """The result as the client gets it; of a run that has stopped also the commands with which a person goes on."""
    from mcp_types import CallToolResult, TextContent

    from vrooli_cli.cli.output import as_json, outputs_text

    if not result.success:
        error = result.error
        step = f"{error.step}: " if error and error.step else ""
        told = f"{step}{error.code}: {error.message}" if error else f"the run ended {result.status.value}"
        return _failure("\n".join([told, *next_]))
    value = result.result
    text = outputs_text(True, value) or as_json(value).decode()
    structured = value if isinstance(value, dict) else {"result": value}
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=structured)


def _failure(message: str) -> Any:
    from mcp_types import CallToolResult, TextContent

    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)
