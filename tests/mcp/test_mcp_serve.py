"""``vrooli mcp serve`` and ``vrooli tools lock``: asked by the SDK's own client, and by the command line."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("mcp", reason="the extra `mcp` is not installed")

from mcp import ClientSession, StdioServerParameters, stdio_client

from tests.resume.conftest import Shell, vrooli
from vrooli_cli.loading.write import plain_yaml

__all__ = ["vrooli"]

VROOLI = str(Path(sys.executable).with_name("vrooli"))

HELLO = """
description: Says hello.
inputs:
  name: {type: string, description: Who is greeted}
  times: {type: integer, default: 2}
steps:
  - {id: a, tool: echo, parameters: {message: "Hello {{ name }}"}}
  - {id: b, tool: echo, parameters: {message: "{{ [steps.a.result] * times }}"}}
outputs: {said: "{{ steps.b.result }}"}
"""
SLOW = """
inputs: {mark: {type: string}}
steps:
  - {id: a, tool: shell, parameters: {command: [sh, -c, 'echo $$ > "$0"; sleep 60', "{{ mark }}"]}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a good, a slow and a broken routine."""
    (tmp_path / "routines").mkdir()
    (tmp_path / "routines" / "hello.yaml").write_text(HELLO)
    (tmp_path / "routines" / "slow.yaml").write_text(SLOW)
    (tmp_path / "routines" / "ask.yaml").write_text("steps: [{id: sure, approval: Really?}]\n")
    (tmp_path / "routines" / "broken.yaml").write_text("steps: []\n")
    (tmp_path / "routines" / "hello.test.yaml").write_text("routine: hello.yaml\ncases: [{name: a}]\n")
    return tmp_path


@asynccontextmanager
async def client(folder: Path, *flags: str) -> AsyncIterator[ClientSession]:
    """A session with ``vrooli mcp serve`` in a folder."""
    command = StdioServerParameters(command=VROOLI, args=["mcp", "serve", *(flags or ("--no-store",))], cwd=folder)
    with (folder / "stderr").open("w") as errors:
        async with stdio_client(command, errlog=errors) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            yield session


async def test_routines_are_tools_with_their_inputs_as_schema_and_progress(project: Path) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with client(project) as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(tools) == {"hello", "slow", "ask"}
        assert tools["hello"].description == "Says hello."
        assert tools["hello"].input_schema == {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "Who is greeted"},
                "times": {"type": "integer", "default": 2},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
        done: Any = await session.call_tool("hello", {"name": "Ada"}, progress_callback=note)
        assert (done.structured_content, done.is_error) == ({"said": ["Hello Ada", "Hello Ada"]}, False)
        wrong: Any = await session.call_tool("hello", {"nam": "Ada"})
        assert wrong.is_error
        assert "did you mean 'name'?" in wrong.content[0].text
        unknown: Any = await session.call_tool("nobody", {})
        assert unknown.is_error
    assert (project / "stderr").read_text().count("broken.yaml:1:") == 1
    assert told == [(1, 2, "a completed"), (2, 2, "b completed")]


async def test_a_run_that_waits_says_which_command_answers_and_a_broken_routine_what_is_wrong(project: Path) -> None:
    async with client(project, "--store", "s.db") as session:
        waits: Any = await session.call_tool("ask", {})
        broken: Any = await session.call_tool("broken", {})
    assert waits.is_error
    first, command = waits.content[0].text.splitlines()
    assert "APPROVAL_REQUIRED" in first
    words = shlex.split(command)
    assert (words[:2], words[3:]) == (["vrooli", "approve"], ["sure", "--resume", "--store", "s.db"])
    answered = await asyncio.to_thread(subprocess.run, [VROOLI, *words[1:]], cwd=project, capture_output=True)
    assert answered.returncode == 0
    assert "broken.yaml:1:" in broken.content[0].text


async def test_a_cancelled_call_stops_its_run(project: Path) -> None:
    mark = project / "mark"
    async with client(project) as session:
        calling = asyncio.create_task(session.call_tool("slow", {"mark": str(mark)}))
        while not mark.exists() or not mark.read_text().strip():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
        calling.cancel()
        await asyncio.wait([calling])
        pid = int(mark.read_text())
        for _ in range(200):
            if not psutil.pid_exists(pid):
                break
            await asyncio.sleep(0.05)
        assert not psutil.pid_exists(pid)
        again: Any = await session.call_tool("hello", {"name": "B"})
        assert not again.is_error


def test_tools_lock_pins_what_servers_offer(http: str, vrooli: Shell) -> None:
    vrooli.write(plain_yaml({"mcp_servers": {"t": {"url": http}}}), "vrooli.yaml")
    listed = vrooli("tools", "list")
    assert "t.add" not in listed.out
    assert "the MCP server t; `vrooli tools lock`" in listed.err
    done = vrooli("tools", "lock")
    assert (done.code, done.err) == (0, "locked 11 tools of 1 MCP servers in vrooli.lock\n")
    assert {tool["name"] for tool in vrooli("tools", "list", "--json").json} > {"t.add", "t.say", "shell"}
    assert vrooli("tools", "list").err == ""
    locked = json.loads((vrooli.folder / "vrooli.lock").read_text())
    tools = locked["mcp_servers"]["t"]
    assert tools["add"]["effects"] == "none"
    tools["add"]["digest"] = "0"
    tools["old"] = tools.pop("say")
    vrooli.write(json.dumps(locked), "vrooli.lock")
    assert vrooli("tools", "lock").err.splitlines()[:3] == ["new      t.say", "gone     t.old", "changed  t.add"]


def test_one_server_that_cannot_be_asked_locks_nothing_and_stays_nowhere(http: str, vrooli: Shell) -> None:
    servers = {"t": {"url": http}, "no": {"command": "there-is-no-such-program"}}
    vrooli.write(plain_yaml({"mcp_servers": servers}), "vrooli.yaml")
    done = vrooli("tools", "lock")
    assert done.code == 1
    assert "the MCP server 'no': there is no program 'there-is-no-such-program'" in done.err
    assert not (vrooli.folder / "vrooli.lock").exists()


def test_tools_call_asks_a_server_of_the_project(http: str, vrooli: Shell) -> None:
    vrooli.write(plain_yaml({"mcp_servers": {"t": {"url": http}}}), "vrooli.yaml")
    done = vrooli("tools", "call", "t.add", "-p", "a=2", "-o", "json", "--allow", "t.*")
    assert (done.code, done.json) == (0, {"result": 3}), done.err
    wrong = vrooli("tools", "call", "t.ad")
    assert wrong.code == 2
    assert "did you mean 't.add'?" in wrong.err
    denied = vrooli("tools", "call", "t.add", "-p", "a=2", "--deny", "t.*")
    assert denied.code == 3
    assert "t.*" in denied.err
    mistyped = vrooli("tools", "call", "t.add", "-p", "a=2", "--deny", "shel")
    assert mistyped.code == 2
    assert "did you mean 'shell'?" in mistyped.err
