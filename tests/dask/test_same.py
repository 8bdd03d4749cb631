"""The same routines here and on a cluster: the same events, the same result."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.dask.conftest import Cluster, House, Project
from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.project import load_project
from vrooli_cli.tier2.prepared import RunOptions

TOOLS = '''
from ._shared import doubled
import spare

@tool(effects="none")
def double(x: int) -> int:
    """Doubles."""
    return doubled(x) * spare.ONE

@tool(effects="none")
def refuse(x: str, context: ToolContext) -> str:
    """Fails in its own way."""
    raise ToolError(f"no {x}", code="NOT_THERE", retryable=False, context={"x": x, "attempt": context.attempt})

@tool(effects="none")
def crash() -> int:
    """Fails in a way that nobody foresaw."""
    return 1 // 0

@tool(effects="none")
def odd():
    """Gives what JSON cannot say."""
    return {"a": [1, {2, 3}]}

@tool(effects="none", timeout="200ms")
async def slow() -> str:
    """Takes longer than it may."""
    import asyncio
    await asyncio.sleep(10)
    return "never"

@tool(effects="none")
def flaky(context: ToolContext) -> int:
    """Works with the second attempt."""
    if context.attempt == 1:
        raise ToolError("not yet")
    return context.attempt

@tool(effects="none")
def tell(context: ToolContext) -> str:
    """Says that something happened."""
    from vrooli_cli.model.events import ResourcesWarning
    for used in range(3):
        context.emit(ResourcesWarning(execution_id=context.execution_id, resource="tea", used=used, limit=3))
    return context.step_id

@tool(effects="none", secrets=["token"])
def with_secret(context: ToolContext) -> int:
    """Is given the secret that it asks for."""
    return len(context.secret("token"))

@tool(effects="none")
def without_secret(context: ToolContext) -> int:
    """Is not given one that it does not ask for."""
    return len(context.secret("token"))

@tool(effects="none")
def big(n: int) -> str:
    """A long text."""
    return "x" * n
'''
COMMAND = """
name: shout
description: Shouts.
parameters: {text: {type: string}}
command: [./shout.sh, "{{ text }}"]
env: {FROM_HERE: null, SET: "{{ text }}"}
result: text
effects: none
"""
SCRIPT = """#!/bin/sh
echo "$1! ${FROM_HERE:-nothing} $SET ${ONLY_ON_WORKERS:-clean}"
"""
GRAB = f"{sys.executable} -c 'x = bytearray(200 << 20); import time; time.sleep(20)'"


def step(id: str, tool: str, **more: Any) -> dict[str, Any]:
    """A step; what is none of its keys is a parameter."""
    keys = ("timeout", "on_error", "retry", "for_each", "allocation", "effects", "needs", "output_schema")
    own = {key: more.pop(key) for key in keys if key in more}
    return {"id": id, "tool": tool, "parameters": more, **own}


def failing(id: str, tool: str, **more: Any) -> dict[str, Any]:
    """A step that fails, and the run goes on."""
    return step(id, tool, on_error="continue", **more)


def steps(url: str) -> list[dict[str, Any]]:
    """One of everything that a step can do and suffer."""
    hostile = "a b; touch owned; $(touch owned) '\" \\"
    return [
        step("argv", "shell", command=["printf", "%s|", hostile, 3]),
        step("line", "shell", command="echo {{ vars.hostile }}; echo err >&2; pwd", stdin="ignored"),
        step("stdin", "shell", command=["cat"], stdin={"a": [1, "ü"]}, parse="json"),
        step("env", "shell", command="echo $A $B ${ONLY_ON_WORKERS:-clean}", env={"A": "x"}),
        step("code", "shell", command="exit 3", ok_codes=[0, 3]),
        failing("fails", "shell", command="echo out; echo bad news >&2; exit 4"),
        failing("killed", "shell", command="kill -9 $$"),
        failing("missing", "shell", command=["no-such-program"]),
        failing("nowhere", "shell", command=["true"], cwd="no/such/folder"),
        failing("late", "shell", command="trap '' TERM; sleep 20; echo {{ steps.code.status }}", timeout="300ms"),
        failing("hungry", "shell", command=GRAB, allocation={"max_memory_mb": 60}),
        step("long", "shell", command="head -c 2000000 /dev/zero | tr '\\0' x"),
        step("folder", "shell", command="cd {{ run.work_dir }} && touch here && ls"),
        step("double", "double", x="{{ steps.code.result.exit_code }}"),
        failing("refuse", "refuse", x="tea", retry={"max_attempts": 3, "delay": 0}),
        failing("crash", "crash"),
        failing("odd", "odd"),
        failing("slow", "slow"),
        failing("invalid", "double", x="{{ 'text' }}"),
        failing("shape", "double", x=1, output_schema={"type": "string"}),
        step("flaky", "flaky", retry={"max_attempts": 2, "delay": 0}),
        step("tell", "tell"),
        step("with_secret", "with_secret"),
        failing("without_secret", "without_secret"),
        step("big", "big", n=200_000),
        step("shout", "shout", text="hey"),
        step("each", "double", x="{{ item }}", for_each={"items": list(range(12))}),
        step("get", "http", url=f"{url}/moved"),
        failing("gone", "http", url=f"{url}/nothing", expect_status=[200]),
        failing("refused", "http", url=f"{url}/elsewhere"),
        step("here", "echo", message="{{ steps.double.result }}"),
        failing("assert", "assert", that=["steps.big.result | length == 3"]),
    ]


@dataclass
class Ended:
    """A run as far as two of them can be equal."""

    result: Any
    events: dict[str, list[Any]]


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path in ("/moved", "/elsewhere"):
            self.send_response(302)
            self.send_header("Location", "/here" if self.path == "/moved" else "http://denied.test:9/")
            self.end_headers()
            return
        body = b'{"n": 1}' if self.path == "/here" else b"no"
        self.send_response(200 if self.path == "/here" else 404)
        self.send_header("Content-Type", "application/json" if self.path == "/here" else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_header(self, keyword: str, value: str) -> None:
        if keyword not in ("Date", "Server"):
            super().send_header(keyword, value)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """A web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def routine(folder: Path, url: str) -> str:
    """The routine as a file."""
    path = folder / "same.yaml"
    whole = {
        "name": "same",
        "inputs": {"token": {"type": "string", "secret": True}},
        "vars": {"hostile": "a b; touch owned; $(touch owned) '\" \\"},
        "env": {"B": "from the routine"},
        "allocation": {"max_concurrent_steps": 2, "max_memory_mb": 4000},
        "permissions": {"deny": ["http(host=denied.test)"]},
        "steps": steps(url),
    }
    path.write_text(json.dumps(whole))
    return str(path)


_TIMES = ("duration_ms", "resources_used", "memory_used_mb", "elapsed_ms", "started_at", "started_ns", "used")


def plain(value: Any) -> Any:
    """Without what differs between any two runs."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if key not in _TIMES}
    if isinstance(value, str):
        return re.sub(r"used \d+ MiB", "used MiB", value)
    return [plain(one) for one in value] if isinstance(value, list) else value


async def ended(house: ExecutionArchitecture, path: str) -> Ended:
    """Run it to its end."""
    events: list[Any] = []
    loaded = load_bundle(path, project=load_project(Path(path).parent))
    prepared = house.prepare(
        loaded, {"token": "s3cr3t-token"}, options=RunOptions(grace_ms=200, keep_going=True), run_id="same-run"
    )
    prepared.channel.fold(events.append)
    result = (await prepared.run()).wire()
    by_step: dict[str, list[Any]] = {}
    for event in events:
        wire = event.wire()
        by_step.setdefault(wire["payload"].get("step_id", ""), []).append([wire["type"], plain(wire["payload"])])
    by_step[""].sort(key=json.dumps)  # batches end in the order of the last steps
    return Ended(plain({key: result[key] for key in ("success", "status", "error", "steps", "result")}), by_step)


async def test_a_routine_ends_on_a_cluster_as_it_does_here(
    cluster: Cluster, house: House, project: Project, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_HERE", "taken over")
    folder = project(kit=TOOLS, _shared="def doubled(x): return x * 2\n")
    (folder / "tools" / "_hidden").mkdir()
    (folder / "tools" / "spare.py").write_text("ONE = 1\n")
    (folder / "tools" / "shout.yaml").write_text(COMMAND)
    (folder / "tools" / "shout.sh").write_text(SCRIPT)
    (folder / "tools" / "shout.sh").chmod(0o755)
    path = routine(folder, url)
    here = await ended(house("local", folder, "here"), path)
    far = await ended(house(f"dask:{cluster.address}", folder, "far"), path)
    failed = {one["id"] for one in steps(url) if one.get("on_error")}
    assert {key for key, one in here.result["steps"].items() if one["status"] == "failed"} == failed
    assert far.events.keys() == here.events.keys()
    for step_id, told in here.events.items():
        assert far.events[step_id] == told, step_id
    assert far.result == here.result
    assert not (folder / "owned").exists()
