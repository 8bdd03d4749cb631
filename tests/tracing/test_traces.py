"""Runs as traces: what a real OTLP receiver is sent, and what calls to elsewhere carry."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.resume.conftest import Shell, vrooli
from tests.tracing.conftest import CLIENT, INTERNAL, Receiver, Seen
from vrooli_cli import ExecutionArchitecture, ScriptedAI
from vrooli_cli.gate import AutoApprove
from vrooli_cli.journal import open_store
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.write import plain_yaml
from vrooli_cli.model.run import ExecutionResult
from vrooli_cli.tracing import Sender, Span, Trace, trace_settings
from vrooli_cli.tracing.context import Place

__all__ = ["vrooli"]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def traced(
    folder: Path, collector: Receiver, definition: Mapping[str, Any], *, ai: Any = None, **environ: str
) -> ExecutionResult:
    """Run it with an endpoint; everything has arrived when this returns."""
    path = folder / "r.yaml"
    path.write_text(plain_yaml(dict(definition)))
    env = {"PATH": os.environ["PATH"], "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **environ}
    async with ExecutionArchitecture(ai=ai, environ=env, folder=str(folder)) as architecture:
        return await architecture.prepare(load_bundle(path), {}, run_id="run-1").run()


def shell(id_: str, command: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "tool": "shell", "parameters": {"command": command}, **more}


def well_formed(spans: list[Seen]) -> None:
    """One trace, no span twice, every parent there and around its children."""
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans)
    assert len({span.trace for span in spans}) == 1
    for span in spans:
        assert span.raw.start_time_unix_nano <= span.raw.end_time_unix_nano
        if span.parent in by_id:
            parent = by_id[span.parent].raw
            assert parent.start_time_unix_nano <= span.raw.start_time_unix_nano
            assert span.raw.end_time_unix_nano <= parent.end_time_unix_nano


async def test_a_run_its_steps_and_its_calls_are_one_tree(tmp_path: Path, collector: Receiver) -> None:
    steps = [
        shell("a", "true"),
        {"id": "each", "for_each": [1, 2], "tool": "echo", "parameters": {"message": "{{ item }}"}},
        {"id": "both", "parallel": [{"id": "in", "tool": "echo", "parameters": {"message": 1}}]},
        {"id": "again", "repeat": {"until": "iteration == 2"}, "tool": "echo", "parameters": {"message": 1}},
        {"id": "never", "when": "false", "tool": "echo", "parameters": {"message": 1}},
    ]
    assert (await traced(tmp_path, collector, {"name": "tree", "steps": steps})).success
    well_formed(collector.spans)
    run = collector.named("invoke_workflow tree")
    assert run.parent == ""
    assert collector.children(run) == ["a", "again", "both", "each"]
    assert collector.children(collector.named("both")) == ["in"]
    items = [span for span in collector.spans if span.attributes.get("vrooli.step", "").startswith("each[")]
    assert [collector.children(item) for item in items] == [["execute_tool echo"]] * 2
    assert collector.children(collector.named("again")) == ["execute_tool echo"] * 2
    assert {span.raw.kind for span in collector.spans} == {INTERNAL}
    assert all(span.error is None for span in collector.spans)
    called = collector.named("execute_tool shell").attributes
    assert called["gen_ai.operation.name"] == "execute_tool"
    assert called["gen_ai.tool.name"] == "shell"
    resource = run.resource
    assert resource["service.name"] == "vrooli"
    assert resource["telemetry.sdk.name"] == "opentelemetry"


def agent() -> tuple[dict[str, Any], ScriptedAI]:
    usage = {"input_tokens": 11, "output_tokens": 7}
    call = {"id": "call_9", "name": "echo", "arguments": {"message": "the loud word"}}
    ai = ScriptedAI([{"tool_calls": [call], "usage": usage}, {"text": "the answer", "usage": usage}])
    step = {"id": "think", "prompt": "the quiet question", "tools": ["echo"], "strategy": "reasoning"}
    return {"name": "agent", "steps": [step]}, ai


async def test_models_agents_and_tools_follow_the_conventions_of_generative_ai(
    tmp_path: Path, collector: Receiver
) -> None:
    definition, ai = agent()
    assert (await traced(tmp_path, collector, definition, ai=ai)).success
    well_formed(collector.spans)
    step = collector.named("invoke_agent think")
    assert step.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert step.attributes["gen_ai.agent.name"] == "think"
    chats = [span for span in collector.spans if span.parent == step.id and span.raw.kind == CLIENT]
    assert len(chats) == 2
    first, last = (chat.attributes for chat in chats)
    assert chats[0].name == f"chat {first['gen_ai.request.model']}"
    assert first["gen_ai.operation.name"] == "chat"
    assert first["gen_ai.provider.name"] == "openai"
    assert first["gen_ai.response.model"]
    assert first["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert last["gen_ai.response.finish_reasons"] == ["stop"]
    assert (first["gen_ai.usage.input_tokens"], first["gen_ai.usage.output_tokens"]) == (11, 7)
    tool = collector.named("execute_tool echo")
    assert tool.parent == step.id
    assert tool.attributes["gen_ai.tool.call.id"] == "call_9"


async def test_what_was_asked_and_answered_stays_out_of_a_trace(tmp_path: Path, collector: Receiver) -> None:
    definition, ai = agent()
    await traced(tmp_path, collector, definition, ai=ai)
    for word in (b"quiet question", b"loud word", b"the answer"):
        assert word not in collector.raw


async def test_what_was_asked_and_answered_is_there_when_somebody_wants_it(tmp_path: Path, collector: Receiver) -> None:
    definition, ai = agent()
    await traced(tmp_path, collector, definition, ai=ai, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="true")
    chats = [span.attributes for span in collector.spans if span.raw.kind == CLIENT]
    assert "the quiet question" in chats[0]["gen_ai.input.messages"]
    assert '"type": "tool_call_response"' in chats[1]["gen_ai.input.messages"]
    assert "the answer" in chats[1]["gen_ai.output.messages"]
    tool = collector.named("execute_tool echo").attributes
    assert "the loud word" in tool["gen_ai.tool.call.arguments"]
    assert "the loud word" in tool["gen_ai.tool.call.result"]


async def test_each_task_of_a_swarm_is_an_agent_at_work(tmp_path: Path, collector: Receiver) -> None:
    swarm = {
        "name": "team",
        "goal": "two things",
        "agents": [{"id": "ann", "name": "Ann", "capabilities": ["x"]}],
        "tasks": [
            {"id": "one", "description": "first", "required_capabilities": ["x"]},
            {"id": "two", "description": "second", "required_capabilities": ["x"], "dependencies": ["one"]},
        ],
    }
    result = await traced(tmp_path, collector, swarm, ai=ScriptedAI(["1", "2"]))
    assert result.success, result.error
    well_formed(collector.spans)
    run = collector.named("invoke_workflow team")
    assert collector.children(run) == ["invoke_agent ann", "invoke_agent ann"]
    tasks = [span for span in collector.spans if span.name == "invoke_agent ann"]
    assert {span.attributes["vrooli.step"] for span in tasks} == {"task:one", "task:two"}
    assert run.attributes["vrooli.run.kind"] == "swarm"


async def test_a_failure_has_its_type_and_every_attempt(tmp_path: Path, collector: Receiver) -> None:
    retry = {"max_attempts": 2, "max_delay": "1ms"}
    await traced(tmp_path, collector, {"name": "bad", "steps": [shell("no", "echo why >&2; exit 3", retry=retry)]})
    step = collector.named("no")
    assert step.error == "the command exited with 3: why"
    assert step.attributes["error.type"] == "TOOL_FAILED"
    assert [attributes["vrooli.attempt"] for name, attributes in step.events if name == "exception"] == [1, 2]
    assert collector.children(step) == ["execute_tool shell"] * 2
    run = collector.named("invoke_workflow bad")
    assert run.attributes["error.type"] == "TOOL_FAILED"
    assert run.attributes["vrooli.run.status"] == "failed"


async def test_no_secret_is_in_a_trace(tmp_path: Path, collector: Receiver) -> None:
    step = shell("leak", 'echo "$KEY" >&2; exit 1')
    step["parameters"]["env"] = {"KEY": "{{ secrets.key }}"}
    definition = {"secrets": {"key": {"env": "THE_KEY"}}, "steps": [step]}
    settings = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true", "THE_KEY": "tr0ub4dor"}
    result = await traced(tmp_path, collector, definition, **settings)
    assert not result.success
    assert b"***" in collector.raw
    assert b"tr0ub4dor" not in collector.raw


async def test_a_child_process_knows_the_call_that_started_it(tmp_path: Path, collector: Receiver) -> None:
    told = {"o": "{{ steps.env.result.stdout }}"}
    definition = {"steps": [shell("env", "echo $TRACEPARENT,$TRACESTATE")], "outputs": told}
    result = await traced(tmp_path, collector, definition, TRACEPARENT=PARENT, TRACESTATE="a=b")
    call = collector.named("execute_tool shell")
    assert result.result == {"o": f"00-{call.trace}-{call.id}-01,a=b\n"}
    assert collector.named("invoke_workflow r").parent == "b7ad6b7169203331"
    assert call.trace == "0af7651916cd43dd8448eb211c80319c"


async def test_an_http_request_names_its_call(tmp_path: Path, collector: Receiver) -> None:
    heard: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers["traceparent"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    own = {"id": "own", "tool": "http", "parameters": {"url": url, "headers": {"Traceparent": PARENT}}}
    steps = [{"id": "ask", "tool": "http", "parameters": {"url": url}}, {**own, "depends_on": ["ask"]}]
    result = await traced(tmp_path, collector, {"steps": steps})
    server.shutdown()
    server.server_close()
    assert result.success, result.error
    ask = next(span for span in collector.spans if span.name == "ask")
    call = next(span for span in collector.spans if span.parent == ask.id)
    assert heard == [f"00-{call.trace}-{call.id}-01", PARENT]


async def test_whoever_began_the_trace_says_whether_it_is_recorded(tmp_path: Path, collector: Receiver) -> None:
    definition = {"steps": [shell("env", "echo $TRACEPARENT")], "outputs": {"o": "{{ steps.env.result.stdout }}"}}
    result = await traced(tmp_path, collector, definition, TRACEPARENT=f"{PARENT[:-2]}00")
    assert result.result["o"].endswith("-00\n")
    assert result.result["o"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert collector.spans == []


async def test_a_suspended_run_goes_on_in_its_trace(tmp_path: Path, collector: Receiver) -> None:
    after_it = {"id": "a", "tool": "echo", "parameters": {"message": 1}, "depends_on": ["go"]}
    (tmp_path / "r.yaml").write_text(plain_yaml({"steps": [{"id": "go", "approval": {"prompt": "ok?"}}, after_it]}))
    store = tmp_path / "journal.db"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "TRACEPARENT": PARENT}
    async with ExecutionArchitecture(store=open_store(store), environ=env) as architecture:
        first = await architecture.prepare(load_bundle(tmp_path / "r.yaml"), {}, run_id="run-1").run()
    assert first.status.value == "suspended"
    before = collector.named("invoke_workflow r")
    other = PARENT.replace("b7ad", "c7ad")
    async with ExecutionArchitecture(
        store=open_store(store), environ=env | {"TRACEPARENT": other}, approver=AutoApprove()
    ) as architecture:
        assert (await architecture.resume("run-1").run()).success
    after = next(span for span in collector.spans if span.name == before.name and span is not before)
    assert before.attributes["vrooli.run.status"] == "suspended"
    assert before.error is None
    assert (after.trace, after.parent) == (before.trace, before.id)
    assert after.attributes["vrooli.run.life"] == 2
    assert [link.span_id.hex() for link in after.raw.links] == [before.id, "c7ad6b7169203331"]
    assert collector.children(after) == ["a"]


def test_a_run_of_the_history_has_the_spans_that_it_sent(
    vrooli: Shell, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly")
    monkeypatch.setenv("TRACEPARENT", PARENT)
    said = vrooli("run", vrooli.write(plain_yaml({"name": "r", "steps": [shell("a", "true"), shell("b", "exit 2")]})))
    assert said.code == 1
    assert "warning" not in said.err
    sent = sorted((span.trace, span.id, span.parent, span.name) for span in collector.spans)
    assert collector.spans[0].resource["service.name"] == "nightly"
    assert collector.requests[0]["x-key"] == "abc"
    exported = vrooli("runs", "export", "last", "-o", "otlp").json["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert sorted((one["traceId"], one["spanId"], one["parentSpanId"], one["name"]) for one in exported) == sent


def dead(collector: Receiver) -> None:
    collector.url = "http://127.0.0.1:9"


def refusing(collector: Receiver) -> None:
    collector.status = 400


def busy(collector: Receiver) -> None:
    collector.status = 503


@pytest.mark.parametrize(
    ("how", "why"), [(dead, "connection refused"), (refusing, "400 Bad Request"), (busy, "Service Unavailable")]
)
def test_a_collector_that_takes_nothing_costs_one_line(
    vrooli: Shell,
    collector: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[Receiver], None],
    why: str,
) -> None:
    how(collector)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    said = vrooli("run", vrooli.write(plain_yaml({"steps": [shell("a", "true")]})), "--view", "none", "-o", "none")
    assert said.code == 0
    (line,) = said.err.splitlines()
    assert line == f"vrooli: warning: 3 spans of the trace could not be sent to {collector.url}/v1/traces: {why}"


def test_a_collector_that_hangs_is_left_after_a_moment(collector: Receiver) -> None:
    collector.slow = 30
    settings = trace_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.replace("//", "//me:word@")})
    assert settings is not None
    sender = Sender(settings)
    sender.start()
    sender.put(Span(Place("1" * 32, "2" * 16), None, "one", 1, ended_ns=2))
    began = time.monotonic()
    told = sender.close(0.5)
    assert time.monotonic() - began < 3
    assert told == f"the trace could not be sent to {collector.url}/v1/traces: no answer within 0.5 s"


def test_a_collector_that_comes_back_gets_what_waited(collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrooli_cli.tracing.sender._DELAY", 0.01)
    collector.status = 503
    settings = trace_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert settings is not None
    sender = Sender(settings)
    sender.start()
    sender.put(Span(Place("1" * 32, "2" * 16), None, "one", 1, ended_ns=2))
    while not collector.refused:
        time.sleep(0.01)
    collector.status = 200
    while not collector.spans:
        time.sleep(0.01)
    assert sender.close() is None


def test_without_the_extra_there_is_one_line(vrooli: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    said = vrooli("run", vrooli.write("steps: [{id: a, tool: echo, parameters: {message: 1}}]"), "--view", "none")
    assert said.code == 0
    assert said.err.count("\n") == 1
    assert "pip install 'vrooli[otel]'" in said.err


def test_without_an_endpoint_nothing_of_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("steps: [{id: a, tool: echo, parameters: {message: 1}}]")
    program = (
        "import sys; from vrooli_cli.cli.app import run_command_line;"
        "code = run_command_line(['run', 'r.yaml', '--no-store']);"
        "print(code, [name for name in sys.modules if name.startswith(('opentelemetry', 'vrooli_cli.tracing'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


async def test_a_run_that_is_stopped_ends_all_its_spans(tmp_path: Path, collector: Receiver) -> None:
    (tmp_path / "r.yaml").write_text("steps: [{id: long, tool: shell, parameters: {command: sleep 60}}]")
    env = {"PATH": os.environ["PATH"], "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    async with ExecutionArchitecture(environ=env) as architecture:
        prepared = architecture.prepare(load_bundle(tmp_path / "r.yaml"), {})
        started = asyncio.Event()
        prepared.channel.fold(lambda event: started.set() if event.type == "tier3/tool/called" else None)
        running = asyncio.create_task(prepared.run())
        await started.wait()
        prepared.cancel()
        await running
    well_formed(collector.spans)
    assert [span.attributes["error.type"] for span in collector.spans] == ["CANCELLED"] * 3


def test_a_trace_of_its_own_has_the_same_ids_everywhere() -> None:
    one = Trace("run-1")
    assert one.trace_id == Trace.of_stored("run-1", one.stored()).trace_id
    assert Trace.of_stored("run-1", None).run() == one.run()
    assert one.run() != Trace("run-1", life=2).run()
