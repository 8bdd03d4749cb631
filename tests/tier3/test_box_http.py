"""``http`` against a real server on this machine."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.tier3.conftest import Bench
from vrooli_cli.gate import Gate, Policy
from vrooli_cli.model.routine import Permissions, Rule


class Handler(BaseHTTPRequestHandler):
    """Answers by path; every request is kept."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, dict[str, str], bytes]]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _any(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append((self.command, self.path, headers, body))
        split = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        getattr(self, f"on_{split.path.strip('/').partition('/')[0] or 'root'}")(query, body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _any

    def reply(self, status: int, body: bytes = b"", kind: str = "text/plain", **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def on_root(self, query: dict[str, str], body: bytes) -> None:
        self.reply(200, b"hello")

    def on_echo(self, query: dict[str, str], body: bytes) -> None:
        data = {"method": self.command, "path": self.path, "body": body.decode()}
        self.reply(200, json.dumps(data).encode(), "application/json; charset=utf-8")

    def on_status(self, query: dict[str, str], body: bytes) -> None:
        self.reply(int(query["code"]), b"x" * int(query.get("size", "0")) + b"the end")

    def on_to(self, query: dict[str, str], body: bytes) -> None:
        self.reply(int(query.get("code", "302")), location=query["url"])

    def on_loop(self, query: dict[str, str], body: bytes) -> None:
        self.reply(302, location="/loop")

    def on_away(self, query: dict[str, str], body: bytes) -> None:
        self.reply(302, location="/secret")

    def on_slow(self, query: dict[str, str], body: bytes) -> None:
        time.sleep(float(query["s"]))
        with suppress(ConnectionError):  # nobody waits any more
            self.reply(200, b"late")

    def on_bomb(self, query: dict[str, str], body: bytes) -> None:
        self.reply(200, gzip.compress(b"\0" * 50_000_000), content_encoding="gzip")

    def on_latin(self, query: dict[str, str], body: bytes) -> None:
        self.reply(200, "é".encode("latin-1"), "text/plain; charset=latin-1")

    def on_broken(self, query: dict[str, str], body: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
        self.close_connection = True

    def on_garbage(self, query: dict[str, str], body: bytes) -> None:
        self.wfile.write(b"\x00\x01 what\r\n\r\n")
        self.close_connection = True

    def on_liar(self, query: dict[str, str], body: bytes) -> None:
        self.reply(200, b"{nope", "application/json")


class Server:
    """A server and what it has seen."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        handler = type("H", (Handler,), {"seen": self.seen})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


async def test_an_answer_has_status_headers_body_and_json(bench: Bench, server: Server) -> None:
    result = await bench.result("http", url=f"{server.url}/echo?a=1", query={"b": [1, "x y"], "c": True})
    assert result["status"] == 200 and result["headers"]["content-type"].startswith("application/json")
    assert result["json"] == json.loads(result["body"])
    assert result["json"]["path"] == "/echo?a=1&b=1&b=x+y&c=true"
    plain = await bench.result("http", url=server.url)
    assert (plain["body"], plain["json"]) == ("hello", None)


@pytest.mark.parametrize(
    ("params", "kind", "body"),
    [
        ({"json": {"a": "é"}}, "application/json", '{"a": "é"}'),
        ({"json": None}, "application/json", "null"),
        ({"form": {"a": "1 2", "b": [1, 2]}}, "application/x-www-form-urlencoded", "a=1+2&b=1&b=2"),
        ({"body": "raw é"}, None, "raw é"),
        ({"json": 1, "headers": {"Content-Type": "application/vnd.x+json"}}, "application/vnd.x+json", "1"),
    ],
)
async def test_a_body_is_sent_as_it_is_meant(
    bench: Bench, server: Server, params: dict[str, Any], kind: str | None, body: str
) -> None:
    outcome = await bench.do("http", {"url": f"{server.url}/echo", "method": "post", **params})
    assert outcome.error is None and outcome.effects == "once"
    method, _, headers, sent = server.seen[0]
    assert (method, headers.get("content-type"), sent.decode()) == ("POST", kind, body)


async def test_reading_may_be_repeated_and_writing_may_not(bench: Bench, server: Server) -> None:
    assert (await bench.do("http", {"url": server.url})).effects == "idempotent"
    assert (await bench.do("http", {"url": server.url, "method": "HEAD"})).effects == "idempotent"
    assert (await bench.do("http", {"url": server.url, "method": "DELETE"})).effects == "once"


async def test_from_400_on_it_fails_unless_that_is_expected(bench: Bench, server: Server) -> None:
    error = await bench.error("http", url=f"{server.url}/status?code=404&key=secret")
    assert error.code == "TOOL_FAILED" and error.context == {"status": 404, "body": "the end"}
    assert error.message == f"GET {server.url}/status answered 404 Not Found"
    url = f"{server.url}/status?code=404"
    assert (await bench.result("http", url=url, expect_status=404))["status"] == 404
    assert (await bench.result("http", url=url, expect_status=[200, 404]))["status"] == 404
    assert "expected 201" in (await bench.error("http", url=server.url, expect_status=201)).message
    long = await bench.error("http", url=f"{server.url}/status?code=500&size=9000")
    assert len(long.context["body"]) < 2_100


async def test_redirects_are_followed_as_browsers_do(bench: Bench, server: Server) -> None:
    url = f"{server.url}/to?url=/echo"
    assert (await bench.result("http", url=url))["json"]["path"] == "/echo"
    seen = (await bench.result("http", url=url, method="POST", json=1))["json"]
    assert (seen["method"], seen["body"]) == ("GET", "")
    kept = (await bench.result("http", url=f"{server.url}/to?code=307&url=/echo", method="POST", json=1))["json"]
    assert (kept["method"], kept["body"]) == ("POST", "1")
    stay = await bench.result("http", url=url, expect_status=302)
    assert stay["headers"]["location"] == "/echo"


async def test_an_endless_redirect_ends(bench: Bench, server: Server) -> None:
    error = await bench.error("http", url=f"{server.url}/loop")
    assert error.code == "TOOL_FAILED" and "more than 10 times" in error.message
    assert len(server.seen) == 11


async def test_each_redirect_passes_the_gate(bench: Bench, server: Server) -> None:
    rules = Permissions(deny=(Rule("http(*/secret*)", "r.yaml:9"),))
    bench.scope.policy = Policy().narrow("routine", rules)
    error = await bench.error("http", url=f"{server.url}/away")
    assert error.code == "PERMISSION_DENIED" and "r.yaml:9" in error.message
    assert [path for _, path, _, _ in server.seen] == ["/away"]


async def test_credentials_do_not_travel_to_another_host(bench: Bench, server: Server) -> None:
    other = Server()
    try:
        url = f"{server.url}/to?url={other.url}/"
        await bench.result("http", url=url, headers={"Authorization": "Bearer t"})
        assert server.seen[0][2]["authorization"] == "Bearer t" and "authorization" not in other.seen[0][2]
    finally:
        other.close()


async def test_the_connection_goes_to_the_addresses_that_were_checked(bench: Bench, server: Server) -> None:
    asked: list[str] = []

    async def resolve(host: str) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    bench.scope.gate = Gate(resolver=resolve)
    bench.scope.policy = Policy().narrow("routine", Permissions(deny=(Rule("http(host=10.*)", "r.yaml:1"),)))
    result = await bench.result("http", url=f"http://nowhere.invalid:{server.port}/echo")
    assert result["status"] == 200 and asked == ["nowhere.invalid"]
    assert server.seen[0][2]["host"] == f"nowhere.invalid:{server.port}"


async def test_a_body_over_the_limit_is_not_taken(bench: Bench, server: Server) -> None:
    error = await bench.error("http", url=f"{server.url}/status?code=200&size=5000", max_bytes=1000)
    assert error.code == "TOOL_FAILED" and "max_bytes (1,000)" in error.message
    bomb = await bench.error("http", url=f"{server.url}/bomb")
    assert "max_bytes" in bomb.message


async def test_text_is_decoded_as_the_server_says(bench: Bench, server: Server) -> None:
    assert (await bench.result("http", url=f"{server.url}/latin"))["body"] == "é"
    liar = await bench.result("http", url=f"{server.url}/liar")
    assert (liar["body"], liar["json"]) == ("{nope", None)


async def test_a_slow_server_meets_the_steps_time_out(bench: Bench, server: Server) -> None:
    started = time.monotonic()
    outcome = await bench.do("http", {"url": f"{server.url}/slow?s=2"}, timeout_ms=150)
    assert outcome.error is not None and outcome.error.code in {"STEP_TIMEOUT", "TOOL_FAILED"}
    assert time.monotonic() - started < 1.5


async def test_a_request_can_be_stopped(bench: Bench, server: Server) -> None:
    task = bench.start("http", {"url": f"{server.url}/slow?s=2"})
    await asyncio.sleep(0.3)
    outcome = await bench.stop(task)
    assert outcome.error is not None and outcome.error.code == "CANCELLED"


@pytest.mark.parametrize("path", ["broken", "garbage"])
async def test_a_broken_answer_is_one_line(bench: Bench, server: Server, path: str) -> None:
    error = await bench.error("http", url=f"{server.url}/{path}")
    assert error.code == "TOOL_FAILED" and error.message.startswith(f"GET {server.url}/{path}: ")


async def test_nobody_there_is_one_line(bench: Bench, server: Server) -> None:
    port = server.port
    server.close()
    error = await bench.error("http", url=f"http://127.0.0.1:{port}/")
    assert error.code == "TOOL_FAILED" and "no connection" in error.message
    server.__init__()  # type: ignore[misc]  # the fixture closes it once more


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "nonsense", "http://", "http://a b/", "file:///etc/passwd", "http://x:99999/"]
)
async def test_what_is_no_web_address_is_refused(bench: Bench, url: str) -> None:
    error = await bench.error("http", url=url)
    assert error.code in {"PARAMETER_INVALID", "TOOL_FAILED"} and "\n" not in error.message


@pytest.mark.parametrize(
    "params",
    [{"json": 1, "body": "x"}, {"method": "GE T"}, {"headers": {"a": "b\r\nc: d"}}, {"headers": {"a b": "c"}}],
)
async def test_a_request_that_makes_no_sense_is_refused(bench: Bench, server: Server, params: dict[str, Any]) -> None:
    error = await bench.error("http", url=server.url, **params)
    assert error.code in {"PARAMETER_INVALID", "TOOL_FAILED"} and server.seen == []


async def test_a_proxy_is_used_only_when_the_routine_names_it(
    bench: Bench, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert (await bench.result("http", url=server.url))["status"] == 200
    bench.scope.env = {"HTTP_PROXY": server.url}
    await bench.result("http", url="http://somewhere.invalid/echo")
    assert server.seen[-1][1] == "http://somewhere.invalid/echo"
    bench.scope.env = {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
    assert (await bench.result("http", url=server.url))["status"] == 200


async def test_one_client_a_run_and_it_ends_with_the_run(bench: Bench, server: Server) -> None:
    await asyncio.gather(*(bench.result("http", url=server.url) for _ in range(10)))
    (clients,) = bench.host._shared.values()
    (made,) = clients.values()
    client: Any = made.result()
    assert not client.is_closed
    await bench.host.end_run("run")
    assert client.is_closed and not bench.host._shared
