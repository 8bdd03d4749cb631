"""The JSON Schema of every kind of file, for editors: made from the table that the loader checks with (``forms``)."""

from __future__ import annotations

from typing import Any, Literal

from vrooli_cli.loading import forms
from vrooli_cli.loading.shapes import Definitions, Form
from vrooli_cli.loading.tools import COMMAND_TOOL

FileKind = Literal["routine", "swarm", "test", "project", "tool", "events"]
KINDS: tuple[FileKind, ...] = ("routine", "swarm", "test", "project", "tool", "events")

_FORMS: dict[str, tuple[str, Form]] = {
    "routine": ("vrooli routine", forms.ROUTINE),
    "swarm": ("vrooli swarm", forms.SWARM),
    "test": ("vrooli test", forms.TEST),
    "project": ("vrooli project", forms.PROJECT),
    "tool": ("vrooli command tool", COMMAND_TOOL),
}


def json_schema(kind: FileKind) -> dict[str, Any]:
    """The schema (draft 2020-12) of a kind of file, or of a line of events.

    It says all that JSON Schema can say: what hangs together over several places (ids, edges, expressions) only the
    loader checks.

    Raises:
        KeyError: There is no such kind.
    """
    if kind == "events":
        from vrooli_cli.model.events_schema import events_schema

        return events_schema()
    title, form = _FORMS[kind]
    definitions: Definitions = {}
    body = form.body(definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **body,
        "$defs": dict(sorted(definitions.items())),
    }
