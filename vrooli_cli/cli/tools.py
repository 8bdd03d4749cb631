"""``vrooli tools list``, ``show`` and ``call``: the registry at the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vrooli_cli.cli.complete import parameters as parameter_names
from vrooli_cli.cli.complete import tools as tool_names
from vrooli_cli.cli.console import Invocation, one_line
from vrooli_cli.cli.help import VerbCommand, VerbGroup
from vrooli_cli.cli.options import Debug, Folders, Json, choice, positive_duration
from vrooli_cli.errors import InputError, VrooliError, did_you_mean

if TYPE_CHECKING:
    from vrooli_cli.loading.project import Project, Settings
    from vrooli_cli.model.run import ExecutionResult
    from vrooli_cli.tier3.registry import Tool, ToolRegistry

app = typer.Typer(add_completion=False, rich_markup_mode=None)
family = typer.Typer(
    cls=VerbGroup,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=False,
    help="List and show the tools, and call one.",
)
app.add_typer(family, name="tools")

Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="FORMAT",
        **choice("text", "json"),
        help="text (default) or json.",
    ),
]
ToolName = Annotated[str, typer.Argument(metavar="NAME", help="A tool's name.", autocompletion=tool_names)]


@family.command("list", cls=VerbCommand)
def list_tools(
    ctx: typer.Context, tools: Folders = None, output: Output = "text", json: Json = False, debug: Debug = False
) -> int:
    """List the tools that a file may name: the box's, the project's, and those that vrooli.lock pins."""
    from vrooli_cli.cli.output import Stdout

    call: Invocation = ctx.obj
    call.debug = debug
    known = _known(call, tools).get_all_tools()
    stdout = Stdout(call)
    if json or output == "json":
        stdout.json([about(tool) for tool in known])
    else:
        stdout.text(_table(call, known))
        _tell_unpinned(call)
    stdout.check()
    return 0


def _tell_unpinned(call: Invocation) -> None:
    """Servers whose tools nobody knows before they run: listing does not start them."""
    from vrooli_cli.cli.console import Console
    from vrooli_cli.loading.project import load_project
    from vrooli_cli.tier3.mcp import read_lock

    project = load_project()
    known = read_lock(project.root) or {}
    unknown = [name for name in project.base.mcp_servers if name not in known]
    if unknown:
        told = f"the MCP server{'s' * (len(unknown) > 1)} {', '.join(unknown)}"
        Console(call).say(f"not listed: the tools of {told}; `vrooli tools lock` asks for them and pins them")


def _known(call: Invocation, folders: list[str] | None, *, importing: bool = False) -> ToolRegistry:
    """The tools there are; tool files that are broken are told and take nothing else with them."""
    from dataclasses import replace

    from vrooli_cli.cli.console import Console
    from vrooli_cli.cli.session import custom_registry, settings_of
    from vrooli_cli.loading.project import load_project
    from vrooli_cli.tier3.mcp import pinned_tools, read_lock

    known, problems = custom_registry(settings_of(call, tools=tuple(folders or ())).tools, importing=importing)
    Console(call).problems(replace(problem, warning=True) for problem in problems)
    return known.overlay(pinned_tools(read_lock(load_project().root)))


def about(tool: Tool) -> dict[str, Any]:
    """A tool in ``-o json``."""
    return {
        "name": tool.name,
        "description": tool.description,
        "effects": tool.effects,
        "origin": tool.origin,
        "parameters": dict(tool.schema),
        **({"result": dict(tool.output_schema)} if tool.output_schema is not None else {}),
        **({"credits": tool.credits} if tool.credits else {}),
    }


def _table(call: Invocation, tools: list[Tool]) -> str:
    from vrooli_cli.cli.planned import Paper

    paper = Paper(call)
    wide = max((len(tool.name) for tool in tools), default=0)
    for tool in tools:
        first = (tool.description.strip().splitlines() or [""])[0]
        paper.row([(tool.name, wide, "1"), (tool.effects, 10, "33" if tool.effects == "once" else "2")], first, "")
    return paper.text()


@family.command("show", cls=VerbCommand)
def show(
    ctx: typer.Context,
    name: ToolName,
    tools: Folders = None,
    output: Output = "text",
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show a tool's description, parameters, effects and origin.

    Its file is imported, so that every type is known.
    """
    from vrooli_cli.cli.output import Stdout

    call: Invocation = ctx.obj
    call.debug = debug
    stdout, tool = Stdout(call), _tool(call, name, tools)
    if json or output == "json":
        stdout.json(about(tool))
    else:
        stdout.text(_page(call, tool))
    stdout.check()
    return 0


def _tool(call: Invocation, name: str, folders: list[str] | None) -> Tool:
    known = _known(call, folders, importing=True)
    return _of_server(call, name) or _found(known, name)


def _found(known: ToolRegistry, name: str) -> Tool:
    tool = known.get_tool(name)
    if tool is None:
        hint = did_you_mean(name, [one.name for one in known]) or "`vrooli tools list` shows them"
        raise VrooliError(f"there is no tool {name!r}; {hint}", code="TOOL_NOT_FOUND")
    return tool


def _of_server(call: Invocation, name: str) -> Tool | None:
    """The tool of one of the project's MCP servers, which is asked for it."""
    from vrooli_cli.loading.inputs import resolve_secrets
    from vrooli_cli.loading.project import load_project

    project, server = load_project(), name.partition(".")[0]
    if "." not in name or server not in project.base.mcp_servers:
        return None
    import asyncio

    from vrooli_cli.tier3.mcp import listed

    secrets = resolve_secrets(project.base.secrets, call.environ)
    found = asyncio.run(listed({server: project.base.mcp_servers[server]}, secrets, {}))[server]
    if name not in found:
        from vrooli_cli.tier3.mcp.server import no_such_tool

        raise no_such_tool(name, found)
    return found[name]


def _page(call: Invocation, tool: Tool) -> str:
    from vrooli_cli.cli.planned import Paper

    paper = Paper(call)
    paper.head(tool.name, f"{tool.effects} · from {tool.origin}")
    for line in tool.description.strip().splitlines():
        paper.row([], line, "")
    if tool.answers:
        paper.row([], f"Gives {tool.answers}.", "")
    if tool.parameters:
        paper.head("Parameters")
    wide = max((len(parameter.name) for parameter in tool.parameters), default=0)
    kinds = min(24, max((len(parameter.type) for parameter in tool.parameters), default=0))
    for parameter in tool.parameters:
        need = "required  " if parameter.required else ""
        cells = [(parameter.name, wide, "1"), (parameter.type, kinds, "36")]
        paper.row(cells, need + _more(tool, parameter.name, parameter.description), "")
    paper.head("JSON Schema", f"vrooli tools show {tool.name} --json")
    return paper.text()


def _more(tool: Tool, name: str, description: str) -> str:
    schema = tool.schema.get("properties", {}).get(name, {})
    words = [description.strip().rstrip(".")]
    if isinstance(schema, dict) and "enum" in schema:
        words.append(f"one of {', '.join(one_line(word) for word in schema['enum'])}")
    if isinstance(schema, dict) and "default" in schema:
        words.append(f"default {one_line(schema['default'])}")
    return "; ".join(word for word in words if word)


@family.command("call", cls=VerbCommand)
def call_tool(
    ctx: typer.Context,
    name: ToolName,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--parameter",
            metavar="NAME=VALUE",
            help="A parameter; =@FILE takes a file's content.",
            autocompletion=parameter_names,
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="FORMAT",
            **choice("text", "json", "yaml"),
            help="text, json or yaml.",
        ),
    ] = "text",
    json: Json = False,
    timeout: Annotated[
        int | None, typer.Option(metavar="D", parser=positive_duration, help="The call's time: 30s.")
    ] = None,
    allow: Annotated[list[str] | None, typer.Option(metavar="RULE", help="Allow only what matches.")] = None,
    deny: Annotated[list[str] | None, typer.Option(metavar="RULE", help="Deny what matches.")] = None,
    tools: Folders = None,
    yes: Annotated[bool, typer.Option("--yes", help="Grant every ask.")] = False,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never prompt.")] = False,
    debug: Debug = False,
) -> int:
    """Call one tool, once, through the same gate as a step; its result is on stdout.

    A value is read as JSON where the parameter is no text: -p 'rows=[{"a": 1}]'.
    """
    import asyncio

    from vrooli_cli.cli.session import command_line_rules, settings_of

    call: Invocation = ctx.obj
    call.debug = debug
    settings = settings_of(call, timeout_ms=timeout, yes=yes, no_input=no_input, tools=tuple(tools or ()))
    rules = command_line_rules(allow or (), deny or (), settings.tools)
    remote = _of_server(call, name)
    result = asyncio.run(_called(call, settings, name, remote, parameters or [], rules))
    return _answer(call, result, "json" if json else output)


def _parameters(tool: Tool, texts: list[str]) -> dict[str, Any]:
    """The parameters, converted to what the schema says.

    Raises:
        InputError: One is unknown, or cannot be converted; a line each.
    """
    from vrooli_cli.cli.session import pairs
    from vrooli_cli.loading.inputs import resolve_inputs
    from vrooli_cli.model.routine import Input

    properties = tool.schema.get("properties", {})
    required = set(tool.schema.get("required", ()))
    given = pairs(texts, "-p")
    if not properties or tool.schema.get("additionalProperties") is not False:
        properties = {**{name: {} for name in given}, **properties}
    declared = {
        key: Input(key, _alone(schema, tool.schema), required=key in required) for key, schema in properties.items()
    }
    try:
        values = resolve_inputs(declared, given)
    except InputError as error:
        text = error.message.replace("input ", "parameter ").replace("inputs", "parameters").replace("-i ", "-p ")
        raise InputError(text) from None
    return {key: value for key, value in values.items() if key in given}


def _alone(schema: Any, whole: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of one parameter so that it can stand without the tool's: with the definitions that it refers to."""
    shared = {name: whole[name] for name in ("$defs", "definitions") if name in whole}
    return {**shared, **schema} if isinstance(schema, dict) else {}


async def _called(
    call: Invocation, settings: Settings, name: str, remote: Tool | None, texts: list[str], permissions: Any
) -> ExecutionResult:
    """The call; tool files are imported for it, so that all of a tool's schema is known."""
    import asyncio

    from vrooli_cli.architecture import ExecutionArchitecture
    from vrooli_cli.cli.console import Console
    from vrooli_cli.cli.session import approver_of
    from vrooli_cli.cli.signals import Signals
    from vrooli_cli.language.masking import Masker
    from vrooli_cli.loading.project import load_project
    from vrooli_cli.model.run import ExecutionOptions, ResourceAllocation, StepExecutionInput, TierExecutionRequest

    architecture = ExecutionArchitecture(
        settings,
        project=load_project(),
        approver=approver_of(settings),
        permissions=permissions,
        environ=call.environ,
    )
    async with architecture:
        Console(call).problems(architecture.tool_warnings)
        if architecture.project_secrets:
            call.masker = Masker(architecture.project_secrets)
        parameters = _parameters(remote or _found(architecture.tools, name), texts)
        architecture.offer([name])
        context = architecture.context()
        request = TierExecutionRequest(
            context=context,
            input=StepExecutionInput(step_id="call", tool_name=name, parameters=parameters),
            allocation=ResourceAllocation(max_duration_ms=settings.timeout_ms),
            options=ExecutionOptions(timeout_ms=settings.timeout_ms),
        )
        working = asyncio.ensure_future(architecture.tier3.execute(request))
        signals = Signals(working.cancel, architecture.host.processes.kill_all)
        with signals, redirect_stdout(sys.stderr):
            try:
                return await working
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None


def _answer(call: Invocation, result: ExecutionResult, format_: str) -> int:
    from vrooli_cli.cli.output import Stdout, outputs_text
    from vrooli_cli.errors import exit_code

    stdout = Stdout(call)
    if result.error is not None:
        from vrooli_cli.cli.console import Console

        tail = str(result.error.context.get("stderr") or "").strip()
        Console(call).error(f"{result.error.code}: {result.error.message}" + (f"\n{tail[-2000:]}" if tail else ""))
        return exit_code(result.error.code, ran=result.error.code != "PARAMETER_INVALID")
    if format_ == "text":
        value = result.result
        many = isinstance(value, dict) and len(value) > 1
        stdout.text(outputs_text(True, value if many else {"result": value}))
    else:
        stdout.document(result.result, format_)
    stdout.check()
    return 0


@family.command("lock", cls=VerbCommand)
def lock(ctx: typer.Context, debug: Debug = False) -> int:
    """Pin the tools of the project's MCP servers: what they are now is written to vrooli.lock beside vrooli.yaml.

    With that file a tool whose description or schema has changed is refused until it is locked again.
    """
    import asyncio

    from vrooli_cli.cli.console import Console
    from vrooli_cli.loading.inputs import resolve_secrets
    from vrooli_cli.loading.project import load_project
    from vrooli_cli.tier3.mcp import LOCK_FILE, listed, lock_text, read_lock

    call: Invocation = ctx.obj
    call.debug = debug
    project = load_project()
    if project.root is None:
        raise InputError("there is no project here; `vrooli init` makes one")
    definitions, secrets = _servers(project)
    if not definitions:
        raise InputError("no mcp_servers are defined in vrooli.yaml or in the routines of this project")
    values = resolve_secrets(secrets, call.environ)
    path = project.root / LOCK_FILE
    before = read_lock(project.root) or {}
    found = asyncio.run(listed(definitions, values, {}))
    path.write_text(lock_text(found), encoding="utf-8")
    console = Console(call)
    for line in _changes(before, found):
        console.say(line)
    count = sum(map(len, found.values()))
    console.say(f"locked {count} tools of {len(found)} MCP servers in {path.name}")
    return 0


def _servers(project: Project) -> tuple[dict[str, Any], dict[str, str]]:
    """The servers that the project and its routines define, and the secrets that these may use."""
    from vrooli_cli.errors import DefinitionError
    from vrooli_cli.loading.bundle import load_bundle

    definitions: dict[str, Any] = dict(project.base.mcp_servers)
    secrets: dict[str, str] = dict(project.base.secrets)
    files = sorted(project.routines.glob("*.y*ml")) if project.routines is not None else []
    for path in files:
        if path.stem.endswith(".test"):
            continue
        try:
            made = load_bundle(path, project=project, raises=False).definition
        except DefinitionError:
            continue  # `vrooli validate` tells what is wrong with it
        for name, definition in (made.extras.get("mcp_servers") or {}).items():
            if definitions.setdefault(name, definition) != definition:
                raise InputError(f"{path.name} defines the MCP server {name!r} in another way; give it another name")
        secrets |= made.secrets
    return definitions, secrets


def _changes(before: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Tool]]) -> list[str]:
    """What is new, gone or different since the last lock."""
    old = {f"{server}.{name}": entry["digest"] for server, tools in before.items() for name, entry in tools.items()}
    new = {name: tool.digest for tools in found.values() for name, tool in tools.items()}
    lines = [f"new      {name}" for name in sorted(new.keys() - old.keys()) if before]
    lines += [f"gone     {name}" for name in sorted(old.keys() - new.keys())]
    return lines + [f"changed  {name}" for name in sorted(new.keys() & old.keys()) if new[name] != old[name]]
