"""``tools/*.yaml``: a program of any language as a tool (spec tools.md, "Command").

::

    name: count_lines
    description: Counts the lines of a file.
    parameters: {path: {type: string, format: path}}
    command: [wc, -l, "{{ path }}"]
    result: text
    effects: none
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, cast

from vrooli_cli.errors import DefinitionError, Pointer, Problem
from vrooli_cli.language.expressions import Value, compile_value
from vrooli_cli.language.schema import compile_schema
from vrooli_cli.loading import forms
from vrooli_cli.loading.files import read_content, shown
from vrooli_cli.loading.routine import findings_of, is_schema, placed
from vrooli_cli.loading.shapes import Duration, Findings, Form, Key, ListOf, Text, Word
from vrooli_cli.loading.text import Limits, SourceMap, read_text
from vrooli_cli.model.run import Effects
from vrooli_cli.model.values import lean

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
"""What a tool may be called; a dot separates an MCP server from its tools."""

_SECRETS = "secrets"
_NAMES_MEANT = "the parameters, and secrets.NAME"

COMMAND_TOOL = Form(
    "a command tool",
    "A program of any language as a tool that routines may name.",
    {
        "name": Key(Text("a tool's name", NAME, static=True), "What files call it; default: the file's name."),
        "description": Key(forms.PROSE, "What it does, for people and models."),
        "parameters": Key(forms.INPUTS, "Name → JSON Schema, with `default` and `required`."),
        "command": Key(
            ListOf(forms.EnvironmentText(), "a list of the program and its arguments", least=1),
            "The program and its arguments; `{{ name }}` is a parameter. No shell is involved.",
            required=True,
            examples=(["wc", "-l", "{{ path }}"],),
        ),
        "stdin": Key(Word(("json",)), "json: the parameters come as one JSON object on stdin, too."),
        "result": Key(Word(("json", "text", "lines")), "What the program's output is.", default="text"),
        "effects": Key(Word(("none", "idempotent", "once")), "What a call does to the world.", default="once"),
        "timeout": Key(Duration(), "The longest that a call may take."),
        "env": Key(forms.ENV, "Environment beside PATH, HOME, LANG and TMPDIR; values may use parameters and secrets."),
    },
)


@lean(kw_only=True)
class CommandDefinition:
    """What the file of a command tool says.

    Attributes:
        schema: JSON Schema of the parameters.
        defaults: Parameter → its default.
        command: The program and its arguments.
        env: Variable → its value; a variable that is only named is taken over from vrooli's own environment.
        inherited: The names of those.
        secrets: The secrets that ``command`` and ``env`` use.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    defaults: Mapping[str, Any]
    command: tuple[Value, ...]
    stdin: bool
    result: Literal["json", "text", "lines"]
    effects: Effects
    timeout_ms: int | None
    env: Mapping[str, Value]
    inherited: tuple[str, ...]
    secrets: frozenset[str]
    file: Path
    line: int = 1
    text: str = field(default="", repr=False)


def read_command_tool(path: Path, limits: Limits = Limits()) -> CommandDefinition:  # noqa: B008 - frozen
    """The tool that a file describes.

    Raises:
        DefinitionError: With every problem of the file, placed.
    """
    document = read_text(read_content(path, shown(path), limits), shown(path), limits)
    findings = findings_of(document.source)
    made = COMMAND_TOOL.read(document.data, (), findings)
    tool = None if findings.count else _tool(made, path, document.source, findings)
    if tool is None or findings.count:
        raise DefinitionError(placed(findings, document.source))
    return tool


def _tool(made: Mapping[str, Any], path: Path, source: SourceMap, findings: Findings) -> CommandDefinition | None:
    name = made.get("name") or path.stem
    if not NAME.fullmatch(name):
        findings.add((), f"the file's name {name!r} cannot be a tool's name", "give it a `name`")
    schema, defaults = _parameters(made.get("parameters", {}), findings)
    known = frozenset(schema["properties"])
    compiler = _Compiler(known, findings)
    command = tuple(compiler.value(text, ("command", n)) for n, text in enumerate(made["command"]))
    env = made.get("env") or {}
    values = {key: compiler.value(text, ("env", key)) for key, text in env.items() if text is not None}
    if not command[0].raw.strip():
        findings.add(("command", 0), "the program is empty")
    compiler.no_secrets_in(command)
    if findings.count:
        return None
    return CommandDefinition(
        name=name,
        description=made.get("description", ""),
        schema=schema,
        defaults=defaults,
        command=command,
        stdin=made.get("stdin") == "json",
        result=made.get("result", "text"),
        effects=cast(Effects, made.get("effects", "once")),
        timeout_ms=made.get("timeout"),
        env=values,
        inherited=tuple(key for key, text in env.items() if text is None),
        secrets=frozenset(compiler.secrets),
        file=path,
        text=source.text,
    )


def _parameters(made: Mapping[str, Any], findings: Findings) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters as one JSON Schema, and the defaults."""
    properties, required, defaults = {}, [], {}
    for name, entry in made.items():
        at: Pointer = ("parameters", name)
        for key in ("secret", "env"):
            if entry.get(key):
                findings.add((*at, key), f"`{key}` is for inputs of routines; a tool takes a secret by `env:`")
        schema = {key: value for key, value in entry.items() if key in forms.SCHEMA_KEYWORDS}
        needed = entry.get("required")
        if isinstance(needed, list):
            schema["required"], needed = needed, None
        if "default" in entry:
            schema["default"] = defaults[name] = entry["default"]
        elif needed is None or needed:
            required.append(name)
        if name == _SECRETS:
            findings.add(at, "`secrets` means something in expressions and cannot be a parameter", at_key=True)
        if is_schema(schema, at, findings) and "default" in entry:
            for violation in compile_schema(schema).check(entry["default"]):
                findings.add((*at, "default", *violation.path), f"the default of {name!r} does not fit: {violation}")
        properties[name] = schema
    whole = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return whole, defaults


class _Compiler:
    """Compiles the texts of one file, and notes what they name."""

    def __init__(self, known: frozenset[str], findings: Findings) -> None:
        self._known = known
        self._findings = findings
        self.secrets: set[str] = set()

    def value(self, text: str, at: Pointer) -> Value:
        problems: list[Problem] = []
        value = compile_value(text, pointer=at, problems=problems)
        for problem in problems:
            self._findings.add(problem.pointer, problem.message, problem.hint)
        for reference in value.references:
            root, *rest = reference.path
            if root == _SECRETS and rest:
                self.secrets.add(str(rest[0]))
            elif root not in self._known:
                hint = self._findings.suggest(root, self._known) or f"there is {_NAMES_MEANT}"
                self._findings.add(at, f"there is no parameter {root!r}", hint)
        return value

    def no_secrets_in(self, command: tuple[Value, ...]) -> None:
        """A command line is shown to everybody on the machine (spec tools.md, "Secrets")."""
        for n, value in enumerate(command):
            if any(reference.path[0] == _SECRETS for reference in value.references):
                self._findings.add(
                    ("command", n), "a secret in a command is seen by everybody on this machine", "use `env:`"
                )
