"""Traits of the tools in the box as the registry would make them, and short ways to say a rule and a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from vrooli_cli.gate import Action, Policy, ToolTraits, traits_of
from vrooli_cli.model.routine import Permissions, Rule


def _schema(*names: str, **extra: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {**{name: {} for name in names}, **extra}}


@pytest.fixture(scope="session")
def tools() -> dict[str, ToolTraits]:
    """The tools that these tests call."""
    return {
        "echo": traits_of("echo", _schema("message")),
        "shell": traits_of("shell", _schema("command", "cwd"), asks=True),
        "http": traits_of("http", _schema("url", method={"default": "GET"}), asks=True),
        "file_read": traits_of("file_read", _schema("path")),
        "file_write": traits_of("file_write", _schema("path", "content"), asks=True),
        "file_list": traits_of("file_list", _schema("glob", root={"default": "."})),
        "git.status": traits_of("git.status", _schema("repo"), asks=True, origin="mcp:git"),
        "git.log": traits_of("git.log", _schema("repo"), asks=True, origin="mcp:git"),
    }


@pytest.fixture(scope="session")
def call(tools: dict[str, ToolTraits]) -> Callable[..., Action]:
    """``call("shell", command=["ls"])``; keywords of the Action itself begin with ``_``."""

    def make(tool: str, **parameters: Any) -> Action:
        own = {key[1:]: parameters.pop(key) for key in list(parameters) if key.startswith("_")}
        return Action(execution_id="run", address="step", tool=tools[tool], parameters=parameters, **own)

    return make


@pytest.fixture(scope="session")
def policy() -> Callable[..., Policy]:
    """A policy of one level."""

    def make(name: str = "routine", **lists: Iterable[str]) -> Policy:
        made = {effect: tuple(Rule(text, "r.yaml:7") for text in texts) for effect, texts in lists.items()}
        return Policy().narrow(name, Permissions(**made))

    return make
