"""Writes ``docs/reference``: every page is made from what the program itself says, so that none can be out of date.

``python -m scripts.reference`` writes the pages; ``tests/docs`` compares the ones that are committed with
:func:`pages`.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
Schema = Mapping[str, Any]

# What a code means, in a sentence; `_error_rows` fails when a code of the program is missing here.
_MEANING = {
    "AI_OUTPUT_INVALID": "The model's answer did not fit `output_schema`, also not after two repairs.",
    "AI_RATE_LIMITED": "The endpoint and every fallback went on refusing: too many requests.",
    "AI_REFUSED": "The model refused to answer.",
    "AI_UNAVAILABLE": "No model could be reached, or there is no key for it, or the key was refused.",
    "APPROVAL_DENIED": "A person said no, or nobody answered in time.",
    "APPROVAL_REQUIRED": "A person has to answer; the run waits.",
    "CANCELLED": "Stopped by Ctrl-C, by SIGTERM, or by a failure elsewhere.",
    "CREDITS_EXHAUSTED": "The next call could cost more than is left; it was not made.",
    "CYCLE": "Steps wait for each other; the message shows the way round.",
    "DECOMPOSITION_INVALID": "The model could not divide the goal into tasks that hold together.",
    "DEFINITION_INVALID": "The file is wrong; every problem was shown with its line.",
    "EXPRESSION_ERROR": "An expression failed: a missing field, a wrong type, a limit.",
    "INPUT_INVALID": "An input is missing, unknown or does not fit; or a wrong flag, a missing file, an unknown run.",
    "INTERNAL": "A bug in vrooli.",
    "INTERRUPTED": "The process of the run died.",
    "MEMORY_EXCEEDED": "The child processes used more than `max_memory_mb`.",
    "NORM_VIOLATED": "A rule of the swarm's organisation forbids it.",
    "OUTCOME_UNKNOWN": "The process died in a step that must not happen twice; a person says what became of it.",
    "OUTPUT_INVALID": "A tool's result did not fit `output_schema`.",
    "PARAMETER_INVALID": "The parameters of a call do not fit the tool's schema.",
    "PERMISSION_DENIED": "A rule forbids the call, or nobody was there to be asked.",
    "REPEAT_EXHAUSTED": "`repeat` reached `max` and `until` was still false.",
    "RUN_TIMEOUT": "The run took longer than `max_duration` or `--timeout`.",
    "STEP_TIMEOUT": "One attempt of a step took longer than its `timeout`.",
    "STORE_ERROR": "The journal could not be written or read.",
    "TEAM_INFEASIBLE": "No team can do the tasks; the message names the rules in conflict.",
    "TOOL_FAILED": "A tool failed: exit code, HTTP status, or what the tool said.",
    "TOOL_NOT_FOUND": "There is no tool of that name.",
}


def pages() -> dict[str, str]:
    """File name → Markdown, for every page of the reference."""
    return {
        "cli.md": _cli(),
        "routine.md": _file("routine", "Keys of a routine"),
        "swarm.md": _file("swarm", "Keys of a swarm"),
        "test-file.md": _file("test", "Keys of a test file"),
        "project.md": _file("project", "Keys of vrooli.yaml"),
        "expressions.md": _expressions(),
        "tools.md": _tools(),
        "events.md": _events(),
        "codes.md": _codes(),
    }


def _page(title: str, about: str, parts: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", about, *parts]).rstrip() + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(lines)


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _code(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{_cell(text)}`"


# -- the command line ----------------------------------------------------------------------------------------------


@contextmanager
def _plain_terminal() -> Iterator[None]:
    """80 columns, no colour, whatever the machine is."""
    before = dict(os.environ)
    os.environ.pop("FORCE_COLOR", None)
    os.environ.update(COLUMNS="80", NO_COLOR="1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _help(*words: str) -> str:
    from vrooli_cli.cli.app import run_command_line

    out = io.StringIO()
    with _plain_terminal(), redirect_stdout(out):
        run_command_line([*words, "--help"])
    return out.getvalue().strip("\n")


def _cli() -> str:
    parts = [f"```text\n{_help()}\n```"]
    for verb, inner in _verbs():
        title = f"## vrooli {verb}" if not inner else f"### vrooli {verb} {inner}"
        parts += [title, f"```text\n{_help(verb, *inner.split())}\n```"]
    return _page("Command line", "What `--help` says, of every verb. Flags stand after the verb.", parts)


def _verbs() -> Iterator[tuple[str, str]]:
    """Verb and inner verb, the latter empty for the verb itself."""
    import typer

    from vrooli_cli.cli.app import app
    from vrooli_cli.cli.verbs import VERBS

    root: Any = typer.main.get_command(app)
    for verb in VERBS:
        yield verb, ""
        inner = getattr(root.get_command(typer.Context(root), verb), "commands", {})
        for name, command in inner.items():
            if not command.hidden:
                yield verb, name


# -- files ---------------------------------------------------------------------------------------------------------


def _file(kind: Any, title: str) -> str:
    from vrooli_cli.loading.schemas import json_schema

    schema = json_schema(kind)
    parts = [_keys(schema)]
    for name, form in schema["$defs"].items():
        if form.get("properties"):
            parts += [f"## {name.replace('-', ' ')} {{ #{name.lower()} }}", form["description"], _keys(form)]
    about = f"{schema['description']} `vrooli schema {kind}` prints the same as JSON Schema, for editors."
    return _page(title, about, parts)


def _keys(form: Schema) -> str:
    required = set(form.get("required", ()))
    rows = [
        (f"`{name}`" + (" (required)" if name in required else ""), _shape(key), _about(key))
        for name, key in form["properties"].items()
    ]
    return _table(("key", "value", "meaning"), rows)


def _about(key: Schema) -> str:
    words = [_cell(key.get("description", ""))]
    if "default" in key:
        words.append(f"Default: {_code(key['default'])}.")
    if "examples" in key:
        words.append(f"E.g. {', '.join(map(_code, key['examples']))}.")
    return " ".join(words)


def _shape(key: Schema) -> str:
    """A schema in a few words, with links to the maps of this page."""
    if "$ref" in key:
        name = key["$ref"].rpartition("/")[2]
        return "a JSON Schema" if name == "JSON-Schema" else f"[{name.replace('-', ' ')}](#{name.lower()})"
    if "enum" in key:
        return " \\| ".join(map(_code, key["enum"]))
    if "anyOf" in key:
        return ", or ".join(dict.fromkeys(map(_shape, key["anyOf"])))
    return _plain(key)


def _plain(key: Schema) -> str:
    kind = key.get("type")
    if kind == "array":
        inner = _shape(key["items"]) if key.get("items") else ""
        return f"list of {inner}" if inner else "list"
    if kind == "object":
        values = key.get("additionalProperties")
        return f"map of {_shape(values)}" if isinstance(values, Mapping) and values else "map"
    if str(key.get("description", "")).startswith("With units"):
        return "duration"
    names = {"string": "text", "boolean": "true or false", "integer": "whole number", None: "any value"}
    return ", ".join(names.get(one, str(one)) for one in (kind if isinstance(kind, list) else [kind]))


# -- the language --------------------------------------------------------------------------------------------------


_NAMES = {
    "inputs": "All inputs, by name: `inputs.repo` is `repo`.",
    "vars": "The run's variables: `vars:` of the file, then what steps `set`.",
    "env": "The environment that `env:` names.",
    "secrets": "The secrets that `secrets:` names; masked wherever they are shown.",
    "steps": "What became of a step. After `steps.ID.` (`steps['my-step'].` too) stands one of",
    "blackboard": "What steps `export`; the tasks of a swarm share it.",
    "item": "In a `for_each` or `matrix`: the item; `as:` gives it another name.",
    "index": "In a `for_each` or `matrix`: which item it is, from 0.",
    "previous": "In a `repeat`: the result of the round before; null in the first.",
    "iteration": "In a `repeat`: which round it is, from 1.",
    "result": "In `set`, `export` and `repeat.until`: the step's own result.",
    "error": "In `retry.when` and `on_error.recover`: the failure, with `code`, `message` and `context`.",
    "run": "The run itself. After `run.` stands one of",
}


def _expressions() -> str:
    from vrooli_cli.language import filters
    from vrooli_cli.loading.forms import RESERVED
    from vrooli_cli.tier2.plan import RUN_FIELDS, STEP_FIELDS

    assert set(_NAMES) == set(RESERVED)
    meanings = {"steps": STEP_FIELDS, "run": RUN_FIELDS}
    rows = [
        (f"`{name}`", " ".join([about, *(f"`{field}`" for field in meanings.get(name, ()))]))
        for name, about in _NAMES.items()
    ]
    parts = [
        "A value that is one whole `{{ … }}` keeps its type; with text around it, it becomes text.",
        "## Names",
        "An input is its own name. These names have a meaning of their own, and no input can have them:",
        _table(("name", "meaning"), rows),
    ]
    tables = (
        ("Filters", "`{{ value | name }}`", filters.FILTERS),
        ("Tests", "`{{ value is name }}`", filters.TESTS),
        ("Functions", "`{{ name(…) }}`", filters.FUNCTIONS),
        ("Methods of text", "`{{ text.name(…) }}`", filters.METHODS),
    )
    for title, usage, known in tables:
        rows = [(f"`{name}`", _literal(about)) for name, about in sorted(known.items())]
        parts += [f"## {title}", usage, _table(("name", "meaning"), rows)]
    about = "Everything that `{{ … }}` can call. Names and meaning are Jinja's; there is nothing with files or a clock."
    return _page("Expressions", about, parts)


def _literal(text: str) -> str:
    return _cell(text.replace("``", "`"))


# -- tools ---------------------------------------------------------------------------------------------------------


def _tools() -> str:
    from vrooli_cli.tier3.box import default_tools

    parts = []
    for tool in default_tools():
        parts += [f"## {tool.name}", tool.description.strip()]
        parts.append((f"Gives {tool.answers}. " if tool.answers else "") + f"Effects: `{tool.effects}`.")
        rows = [
            (
                f"`{one.name}`" + (" (required)" if one.required else ""),
                one.type.replace("|", ", "),
                _parameter(tool, one),
            )
            for one in tool.parameters
        ]
        if rows:
            parts.append(_table(("parameter", "type", "meaning"), rows))
    about = "The tools of every vrooli. `vrooli tools show NAME` shows one, also of your own, with its JSON Schema."
    return _page("Tools in the box", about, parts)


def _parameter(tool: Any, parameter: Any) -> str:
    schema = tool.schema.get("properties", {}).get(parameter.name, {})
    words = [_cell(parameter.description)]
    if isinstance(schema, Mapping) and "enum" in schema:
        words.append(f"One of {', '.join(map(_code, schema['enum']))}.")
    if isinstance(schema, Mapping) and "default" in schema:
        words.append(f"Default: {_code(schema['default'])}.")
    return " ".join(words)


# -- events and codes ----------------------------------------------------------------------------------------------


def _events() -> str:
    from vrooli_cli.model.events_schema import events_schema

    rows = []
    for one in events_schema()["$defs"]["event"]["oneOf"]:
        names = ", ".join(f"`{name}`" for name in one["properties"]["payload"].get("properties", {}))
        rows.append((f"`{one['properties']['type']['const']}`", _literal(one.get("description", "")), names))
    about = (
        "One JSON object a line, by `-o ndjson`, `--events FILE` and `vrooli runs events`; "
        "`vrooli schema events` prints the JSON Schema. The last line of a run has type `result`. "
        "In a pattern `*` is one segment and `**` is any number of them."
    )
    return _page("Events", about, [_table(("type", "meaning", "payload"), rows)])


def _codes() -> str:
    from vrooli_cli.errors import ERROR_CODES, exit_code

    rows = [(f"`{code}`", _MEANING[code], str(exit_code(code))) for code in sorted(ERROR_CODES)]
    exits = [
        ("0", "Success."),
        ("1", "The run, a test or a check failed: every code that is not named below."),
        ("2", "Refused: wrong usage, a wrong file, a wrong input. Nothing was run."),
        ("3", "Denied by a rule or by a person."),
        ("4", "Over a limit of credits or memory."),
        ("5", "Suspended; the message says which command answers."),
        ("6", "No model."),
        ("70", "A bug in vrooli; the message says where the details are."),
        ("124", "The run took too long."),
        ("130, 143", "Ctrl-C, SIGTERM: cancelled cleanly. A second Ctrl-C leaves at once."),
    ]
    found_late = "The codes of exit 2 end in 1 when they are found after a step has run."
    about = "`error.code` of a result, and the exit code that it ends in."
    return _page(
        "Error and exit codes",
        about,
        [
            "## Exit codes",
            _table(("exit code", "meaning"), exits),
            "## Error codes",
            _table(("code", "meaning", "exit code"), rows),
            found_late,
        ],
    )


def write() -> None:
    """Write every page; a page that the script does not make is removed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
