"""Programs as tools: parameters go in as arguments or as JSON on stdin, never as the text of a shell."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from vrooli_cli.errors import ToolError
from vrooli_cli.language.values import json_of, text_of
from vrooli_cli.loading.files import shown
from vrooli_cli.loading.tools import CommandDefinition
from vrooli_cli.tier3.box.shell import failure, parsed
from vrooli_cli.tier3.environment import child_environment
from vrooli_cli.tier3.processes import CAP, Command
from vrooli_cli.tier3.registry import Execute, Tool, ToolContext


def command_tool(definition: CommandDefinition) -> Tool:
    """The tool that a ``tools/*.yaml`` describes."""
    program = _program(definition)
    return Tool(
        name=definition.name,
        description=definition.description,
        schema=definition.schema,
        execute=_calling(definition, program),
        effects=definition.effects,
        asks=True,
        secrets=definition.secrets,
        environ=frozenset(definition.inherited),
        origin=shown(definition.file),
        digest=sha256(f"{definition.text}\0{shutil.which(program) or program}".encode()).hexdigest(),
        timeout_ms=definition.timeout_ms,
    )


def _program(definition: CommandDefinition) -> str:
    """The program as it is started: one with a slash is relative to the tool's own file."""
    raw = str(definition.command[0].raw)
    if "{{" in raw or "/" not in raw or raw.startswith("/"):
        return raw
    return str(definition.file.resolve().parent / raw)


def _calling(definition: CommandDefinition, program: str) -> Execute:
    async def execute(params: dict[str, Any], context: ToolContext, /) -> Any:
        given = {**dict.fromkeys(definition.schema["properties"]), **definition.defaults, **params}
        names = {**given, "secrets": _secrets(definition, context)}
        command = Command(
            argv=_argv(definition, program, names),
            cwd=context.scope.folder,
            env=child_environment(context, _inherited(definition, context), _environment(definition, names)),
            stdin=json_of({**definition.defaults, **params}).encode("utf-8", "replace") if definition.stdin else None,
            cap=max(CAP, 16 << 20) if definition.result == "json" else CAP,
        )
        finished = await context.run_command(command)
        if finished.exit_code != 0:
            raise failure(list(command.argv), finished)
        if finished.truncated:
            told = f"{definition.name} wrote more than {command.cap >> 20} MiB; let it write a file and give the path"
            raise ToolError(told, code="OUTPUT_INVALID", retryable=False)
        return parsed(finished.stdout.decode("utf-8", "replace"), definition.result)

    return execute


def _argv(definition: CommandDefinition, program: str, names: Mapping[str, Any]) -> list[str]:
    """Program and arguments: a value that is null gives none, one that is a list gives one each."""
    argv: list[str] = []
    for n, part in enumerate(definition.command):
        value = program if n == 0 and part.is_constant else part.evaluate(names)
        if isinstance(value, list | tuple):
            argv += [text_of(one) for one in value]
        elif value is not None:
            argv.append(text_of(value))
    if not argv or not argv[0]:
        raise ToolError(f"{definition.name}: the program is empty", code="PARAMETER_INVALID", retryable=False)
    return argv


def _secrets(definition: CommandDefinition, context: ToolContext) -> dict[str, str]:
    """The secrets that the file names; one that the run does not have is told."""
    return {name: context.secret(name) for name in definition.secrets}


def _inherited(definition: CommandDefinition, context: ToolContext) -> dict[str, str]:
    environ = context.scope.environ
    return {name: environ[name] for name in definition.inherited if name in environ}


def _environment(definition: CommandDefinition, names: Mapping[str, Any]) -> dict[str, str]:
    return {name: text_of(value.evaluate(names)) for name, value in definition.env.items()}


def is_command_file(path: Path) -> bool:
    """True for a YAML file that is a tool, and not a test."""
    return path.suffix in (".yaml", ".yml") and not path.stem.endswith(".test")
