"""MCP servers as tools, against real servers that are written with the SDK: over stdio, and HTTP on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

pytest.importorskip("mcp", reason="the extra `mcp` is not installed")

from vrooli_cli import ExecutionArchitecture, ScriptedAI
from vrooli_cli.errors import DefinitionError
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.project import Project
from vrooli_cli.loading.write import plain_yaml
from vrooli_cli.model.run import ExecutionResult
from vrooli_cli.tier3.mcp import LOCK_FILE, lock_text
from vrooli_cli.tier3.mcp.server import McpServer
from vrooli_cli.tracing import Trace

SERVER = str(Path(__file__).with_name("server_of_tests.py"))


def stdio(*words: str, **more: Any) -> dict[str, Any]:
    """A server as a file defines it."""
    return {"command": sys.executable, "args": [SERVER, *(words or ("stdio",))], **more}


async def run(folder: Path, steps: list[dict[str, Any]], *, ai: Any = None, **servers: Any) -> ExecutionResult:
    """A routine of these steps with these servers; no process of it is left, however it ends."""
    path = folder / "r.yaml"
    path.write_text(plain_yaml({"mcp_servers": servers, "steps": steps}))
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    async with ExecutionArchitecture(ai=ai, project=Project(root=folder)) as architecture:
        result = await architecture.prepare(load_bundle(path), {}).run()
        assert {one.pid for one in psutil.Process().children(recursive=True)} <= before
    return result


def error_of(result: ExecutionResult) -> str:
    """The message of a failed run."""
    assert result.error is not None
    assert "\n" not in result.error.message
    return result.error.message


async def test_results_are_structured_content_or_one_text_or_blocks(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [
        {"id": "add", "tool": "a.add", "parameters": {"a": 2, "b": 3}},
        {"id": "weather", "tool": "a.weather", "parameters": {"city": "Rome"}},
        {"id": "say", "tool": "a.say", "parameters": {"text": "hello"}},
        {"id": "picture", "tool": "a.picture"},
        {"id": "other", "tool": "b.say", "parameters": {"text": "the same name on another server"}},
    ]
    result = await run(tmp_path, steps, a=stdio("noisy"), b=stdio())
    assert result.result == {
        "add": {"result": 5},
        "weather": {"city": "Rome", "degrees": 21.5},
        "say": "hello",
        "picture": [
            {"type": "text", "text": "a dot"},
            {"type": "image", "data": "AAAA", "mimeType": "image/png"},
        ],
        "other": "the same name on another server",
    }


async def test_a_server_is_started_once_when_a_step_names_it_with_a_cleared_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "x")
    steps: list[dict[str, Any]] = [{"id": f"s{n}", "tool": "a.say", "parameters": {"text": str(n)}} for n in range(5)]
    steps.append({"id": "e", "tool": "a.environment"})
    files = {name: str(tmp_path / name) for name in ("a", "b")}
    result = await run(tmp_path, steps, a=stdio(env={"PIDFILE": files["a"]}), b=stdio(env={"PIDFILE": files["b"]}))
    assert result.success
    assert len((tmp_path / "a").read_text().split()) == 1
    assert not (tmp_path / "b").exists()
    assert set(result.result["e"].split()) <= {"PATH", "HOME", "LANG", "TMPDIR", "PIDFILE", "LC_CTYPE"}


async def test_calls_are_validated_by_the_server_s_schema_and_an_error_result_is_a_failure(
    http: str, tmp_path: Path
) -> None:
    a = {"url": http}
    result = await run(tmp_path, [{"id": "s", "tool": "a.add", "parameters": {"a": "two"}}], a=a)
    assert error_of(result) == "a.add: a: must be an integer, not text"
    result = await run(tmp_path, [{"id": "s", "tool": "a.ad", "parameters": {}}], a=a)
    assert error_of(result) == "the MCP server 'a' has no tool 'a.ad'; did you mean 'a.add'?"
    result = await run(tmp_path, [{"id": "s", "tool": "a.broken"}], a=a)
    assert error_of(result).startswith("a.broken: ")


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"command": "surely-not-installed"}, "there is no program 'surely-not-installed'; install it, or check"),
        (stdio("early"), "the MCP server 'a' ended with 1 before it answered: no licence key was found"),
        (stdio("silent", timeout="500ms"), "the MCP server 'a' did not answer within 0.5 s"),
        ({"command": "cat", "timeout": "500ms"}, "the MCP server 'a'"),
        ({"url": "http://127.0.0.1:9/mcp"}, "the MCP server 'a'"),
    ],
)
async def test_a_server_that_cannot_be_used_is_one_line(
    definition: dict[str, Any], message: str, tmp_path: Path
) -> None:
    result = await run(tmp_path, [{"id": "s", "tool": "a.say", "parameters": {"text": "x"}}], a=definition)
    assert message in error_of(result)


@pytest.mark.parametrize(("status", "told"), [(401, "401; is there a key in its `headers:`?"), (502, "502")])
async def test_a_server_over_http_that_refuses_is_told_with_its_status(status: int, told: str, tmp_path: Path) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(status, explain="<html>long</html>")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        definition = {"url": f"http://127.0.0.1:{server.server_port}/mcp"}
        result = await run(tmp_path, [{"id": "s", "tool": "a.say", "parameters": {"text": "x"}}], a=definition)
    finally:
        server.shutdown()
        server.server_close()
    assert error_of(result) == f"the MCP server 'a' answered with the HTTP status {told}"


async def test_a_server_that_dies_in_a_call_is_told_and_started_again(tmp_path: Path) -> None:
    steps = [
        {"id": "die", "tool": "a.die", "on_error": {"recover": "{{ error.message }}"}},
        {"id": "say", "tool": "a.say", "parameters": {"text": "again"}, "depends_on": ["die"]},
    ]
    result = await run(tmp_path, steps, a=stdio())
    assert result.result == {"say": "again"}
    assert result.steps["die"].result == "the MCP server 'a' ended with 7 in the middle of a call: the last words"


async def test_a_time_out_and_a_cancel_reach_the_server(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    steps = [{"id": "s", "tool": "a.slow", "parameters": {"mark": str(mark)}, "timeout": "3s"}]
    result = await run(tmp_path, steps, a=stdio())
    assert result.error is not None
    assert result.error.code == "STEP_TIMEOUT"
    assert mark.read_text() == "cancelled"


async def test_a_model_is_offered_the_real_schemas(http: str, tmp_path: Path) -> None:
    call = {"tool_calls": [{"name": "a.add", "arguments": {"a": 1, "b": 2}}]}
    ai = ScriptedAI([call, "three"])
    steps = [{"id": "ask", "prompt": "Add", "tools": ["a.*"]}]
    result = await run(tmp_path, steps, ai=ai, a={"url": http})
    assert result.result == {"ask": "three"}
    offered = {offer.name: offer for offer in ai.requests[0].tools}
    assert offered["a.add"].parameters["properties"]["a"]["type"] == "integer"
    assert "a.say" in offered


async def test_a_server_over_http_works_alike(http: str, tmp_path: Path) -> None:
    steps = [
        {"id": "add", "tool": "web.add", "parameters": {"a": 4}},
        {"id": "say", "tool": "web.say", "parameters": {"text": "hello"}},
    ]
    result = await run(tmp_path, steps, web={"url": http, "headers": {"x-test": "1"}})
    assert result.result == {"add": {"result": 5}, "say": "hello"}


async def test_a_call_says_which_span_it_belongs_to(http: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(plain_yaml({"mcp_servers": {"a": {"url": http}}, "steps": [{"id": "s", "tool": "a.told"}]}))
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    async with ExecutionArchitecture(environ=environ) as architecture:
        result = await architecture.prepare(load_bundle(path), {}, run_id="run-1").run()
    assert result.result == {"s": Trace("run-1").carried("run-1", "s", 1)["traceparent"]}


async def test_what_a_server_tells_of_its_progress_is_an_event_now_and_then(http: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(plain_yaml({"mcp_servers": {"a": {"url": http}}, "steps": [{"id": "s", "tool": "a.count"}]}))
    told: list[Any] = []
    async with ExecutionArchitecture() as architecture:
        prepared = architecture.prepare(load_bundle(path), {})
        prepared.channel.fold(told.append, kinds=["tier3/tool/told"])
        assert (await prepared.run()).result == {"s": "counted"}
    assert 2 <= len(told) < 500
    assert (told[0].payload["tool_name"], told[0].payload["step_id"]) == ("a.count", "s")
    assert (told[-1].payload["message"], told[-1].payload["details"]["total"]) == ("1000 of 1000", 1_000)


async def test_a_locked_tool_that_changed_is_refused_and_its_schema_is_known_before(http: str, tmp_path: Path) -> None:
    same = {"url": http}
    server = McpServer("a", same, dict(os.environ))
    tools = await server.tools()
    await server.aclose()
    assert (tools["a.add"].effects, tools["a.weather"].effects, tools["a.say"].effects) == (
        "none",
        "idempotent",
        "once",
    )
    (tmp_path / LOCK_FILE).write_text(lock_text({"a": tools}))
    steps = [{"id": "s", "tool": "a.add", "parameters": {"a": 1}}]
    assert (await run(tmp_path, steps, a=same)).result == {"s": {"result": 2}}
    changed = await run(tmp_path, steps, a=stdio("changed"))
    assert changed.error is not None
    assert changed.error.code == "PERMISSION_DENIED"
    assert "a.add changed since `vrooli tools lock`" in error_of(changed)
    with pytest.raises(DefinitionError, match="must be an integer"):
        await run(tmp_path, [{"id": "s", "tool": "a.add", "parameters": {"a": "x"}}], a=stdio())
    with pytest.raises(DefinitionError, match=r"did you mean 'a\.add'"):
        await run(tmp_path, [{"id": "s", "tool": "a.ad", "parameters": {"a": 1}}], a=stdio())
    (tmp_path / LOCK_FILE).write_text("{}")
    with pytest.raises(DefinitionError, match="no lock file"):
        await run(tmp_path, steps, a=stdio())


async def test_a_server_that_the_lock_file_does_not_have_runs_unpinned_with_a_warning(
    http: str, tmp_path: Path
) -> None:
    (tmp_path / LOCK_FILE).write_text(lock_text({}))
    steps = [{"id": "s", "tool": "a.add", "parameters": {"a": 1}}]
    assert (await run(tmp_path, steps, a={"url": http}, unused=stdio("early"))).result == {"s": {"result": 2}}
    async with ExecutionArchitecture(project=Project(root=tmp_path)) as architecture:
        told = [str(one) for one in architecture.check(load_bundle(tmp_path / "r.yaml")) if one.warning]
    assert len(told) == 1
    assert "vrooli.lock does not have the MCP server 'a': its tools run unpinned" in told[0]


async def test_two_definitions_of_one_name_are_told(tmp_path: Path) -> None:
    child = {"mcp_servers": {"a": {"command": "other"}}, "steps": [{"id": "x", "tool": "a.say", "parameters": {}}]}
    (tmp_path / "child.yaml").write_text(plain_yaml(child))
    with pytest.raises(DefinitionError, match="defined in two ways"):
        await run(tmp_path, [{"id": "c", "routine": "child.yaml"}], a=stdio())


async def test_servers_end_when_the_run_is_cancelled(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "r.yaml"
    steps = [{"id": "s", "tool": "a.slow", "parameters": {"mark": str(mark)}}]
    path.write_text(plain_yaml({"mcp_servers": {"a": stdio()}, "steps": steps}))
    async with ExecutionArchitecture() as architecture:
        prepared = architecture.prepare(load_bundle(path), {})
        running = asyncio.create_task(prepared.run())
        while not mark.exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
        prepared.cancel()
        result = await running
    assert result.status == "cancelled"
    assert mark.read_text() == "cancelled"
    assert not [one for one in psutil.Process().children(recursive=True) if "stdio" in one.cmdline()]


def test_killing_the_command_leaves_no_server(tmp_path: Path) -> None:
    mark, pids = tmp_path / "mark", tmp_path / "pids"
    server = stdio(env={"PIDFILE": str(pids)})
    steps = [{"id": "s", "tool": "a.slow", "parameters": {"mark": str(mark)}}]
    (tmp_path / "r.yaml").write_text(plain_yaml({"mcp_servers": {"a": server}, "steps": steps}))
    vrooli = str(Path(sys.executable).with_name("vrooli"))
    process = subprocess.Popen([vrooli, "run", "r.yaml", "--no-store"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    for _ in range(400):
        if mark.exists():
            break
        time.sleep(0.05)
    process.terminate()
    assert process.wait(15) == 143
    assert not [pid for pid in map(int, pids.read_text().split()) if psutil.pid_exists(pid)]
    assert json.loads(json.dumps(mark.read_text())) == "cancelled"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_server_that_hears_nothing_ends_with_the_command(number: signal.Signals, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    steps = [{"id": "s", "tool": "a.stubborn", "parameters": {"mark": str(mark)}}]
    (tmp_path / "r.yaml").write_text(plain_yaml({"mcp_servers": {"a": stdio()}, "steps": steps}))
    vrooli = str(Path(sys.executable).with_name("vrooli"))
    command = [vrooli, "run", "r.yaml", "--no-store", "--grace", "200ms"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            if mark.exists() and mark.read_text():
                break
            time.sleep(0.05)
        server, away = map(psutil.Process, map(int, mark.read_text().split()))
        process.send_signal(number)
    # who left the server's family is only found by a command that still lives
    _, alive = psutil.wait_procs([server, away] if number == signal.SIGINT else [server], timeout=10)
    assert alive == []
    if number == signal.SIGKILL:
        away.kill()
