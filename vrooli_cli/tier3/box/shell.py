"""``shell``: run a program, or a line of shell."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from vrooli_cli.errors import ToolError
from vrooli_cli.language.shell import RenderedScript
from vrooli_cli.language.values import text_of
from vrooli_cli.tier3.box.schemas import schema, text, texts
from vrooli_cli.tier3.environment import child_environment
from vrooli_cli.tier3.processes import CAP, Command, Finished
from vrooli_cli.tier3.registry import Tool, ToolContext

TAIL = 2_048
"""Bytes of each stream that an error keeps."""


async def _shell(params: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    argv, carried = _argv(params["command"])
    env = child_environment(context, params.get("env", {}), carried)
    command = Command(
        argv=argv,
        executable=None if isinstance(params["command"], list | tuple) else _shell_of(env.get("PATH", "")),
        cwd=context.path("cwd", params.get("cwd", ".")),
        env=env,
        stdin=_input(params.get("stdin")),
    )
    finished = await context.run_command(command)
    ok_codes = params.get("ok_codes", [0])
    if finished.exit_code not in ([ok_codes] if isinstance(ok_codes, int) else ok_codes):
        raise failure(argv, finished)
    return answer(finished, params.get("parse"))


def _argv(command: Any) -> tuple[list[str], Mapping[str, str]]:
    """What to start, and the variables that a rendered script brings its values in."""
    if isinstance(command, list | tuple):
        argv = [text_of(part) for part in command]
        if not argv[0]:
            raise ToolError("shell: the command's program is empty", code="PARAMETER_INVALID", retryable=False)
        return argv, {}
    environment = command.environment if isinstance(command, RenderedScript) else {}
    return ["sh", "-c", str(command)], environment


def _shell_of(path: str) -> str | None:
    """Where ``sh`` is; None lets the system look, which tries to start it in one folder of PATH after another."""
    found = _find_shell(path)
    return found if found is not None and os.access(found, os.X_OK) else None


@lru_cache(16)
def _find_shell(path: str) -> str | None:
    places = [f"{folder}/sh" for folder in path.split(os.pathsep)]
    if not all(place.startswith("/") for place in places):
        return None  # it depends on where a command runs
    return next((place for place in places if os.access(place, os.X_OK) and Path(place).is_file()), None)


def _input(value: Any) -> bytes | None:
    return None if value is None else text_of(value).encode("utf-8", "replace")


def answer(finished: Finished, parse: str | None) -> dict[str, Any]:
    """``{stdout, stderr, exit_code}``, ``value`` when parsed, ``truncated`` when something is missing."""
    result: dict[str, Any] = {
        "stdout": finished.stdout.decode("utf-8", "replace"),
        "stderr": finished.stderr.decode("utf-8", "replace"),
        "exit_code": finished.exit_code,
    }
    if finished.truncated:
        result["truncated"] = True
    if parse is not None:
        if len(finished.stdout) >= CAP and finished.truncated:
            message = f"stdout is longer than {CAP >> 20} MiB and cannot be parsed; write it to a file instead"
            raise ToolError(message, code="OUTPUT_INVALID", retryable=False)
        result["value"] = parsed(result["stdout"], parse)
    return result


def parsed(stdout: str, parse: str) -> Any:
    """The text of stdout as ``text`` (without its last line break), as ``lines``, or as ``json``."""
    if parse == "text":
        return stdout.removesuffix("\n").removesuffix("\r")
    if parse == "lines":
        lines = stdout.split("\n")
        return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
    try:
        return json.loads(stdout, parse_constant=_no_constant)
    except RecursionError:
        raise ToolError("stdout is JSON that is nested too deeply", code="OUTPUT_INVALID") from None
    except ValueError as error:
        begins = f"; it begins with {stdout[:60]!r}" if stdout.strip() else "; it is empty"
        raise ToolError(f"stdout is not JSON: {error}{begins}", code="OUTPUT_INVALID") from None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def failure(argv: list[str], finished: Finished) -> ToolError:
    """One line: who ended how, and the last thing it said; more is in the context."""
    shown = "the command" if argv[:2] == ["sh", "-c"] else repr(argv[0])
    if finished.signal is not None:
        how = f"was ended by {_signal_name(finished.signal)}"
    else:
        how = f"exited with {finished.exit_code}"
    stderr, stdout = _tail(finished.stderr), _tail(finished.stdout)
    said = next((line.strip() for line in reversed((stderr or stdout).splitlines()) if line.strip()), "")
    context = {"exit_code": finished.exit_code, "stdout": stdout, "stderr": stderr}
    return ToolError(f"{shown} {how}{f': {said[:200]}' if said else ''}", context=context)


def _tail(data: bytes) -> str:
    """The last bytes as text, beginning at a character's border."""
    if len(data) <= TAIL:
        return data.decode("utf-8", "replace")
    tail = data[-TAIL:]
    start = next((at for at, byte in enumerate(tail[:4]) if byte & 0xC0 != 0x80), 0)
    return "…" + tail[start:].decode("utf-8", "replace")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


SHELL = Tool(
    name="shell",
    description="Runs a program (a list: no shell is involved) or a line of shell (a text: `sh -c`).",
    answers="`{stdout, stderr, exit_code}`, with `parse` also `value`; and `truncated` when a stream had over 1 MiB",
    schema=schema(
        ("command",),
        command={
            "type": ["array", "string"],
            "items": {"type": ["string", "number", "boolean"]},
            "minItems": 1,
            "minLength": 1,
            "description": "A list of program and arguments, or a text for `sh -c`.",
        },
        cwd=text("The folder to run in, from where vrooli was started.", default="."),
        env=texts("Environment variables beside PATH, HOME, LANG, TMPDIR and the routine's `env:`."),
        stdin={
            "type": ["string", "number", "boolean", "array", "object", "null"],
            "description": "What the program reads: text as it is, a list or a map as JSON. Default: nothing.",
        },
        parse=text("What stdout is; the answer's `value`.", enum=["text", "json", "lines"]),
        ok_codes={
            "type": ["array", "integer"],
            "items": {"type": "integer"},
            "default": [0],
            "description": "The exit codes that are a success.",
        },
    ),
    execute=_shell,
    effects="once",
    main="command",
    asks=True,
)
