"""A receiver of OTLP over HTTP, as a collector has one: what arrives is decoded by OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

UNSET, ERROR = 0, 2
INTERNAL, CLIENT = 1, 3


@dataclass(frozen=True)
class Seen:
    """One span as it arrived."""

    raw: Any
    resource: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.raw.name)

    @property
    def id(self) -> str:
        return str(self.raw.span_id.hex())

    @property
    def parent(self) -> str:
        return str(self.raw.parent_span_id.hex())

    @property
    def trace(self) -> str:
        return str(self.raw.trace_id.hex())

    @property
    def attributes(self) -> dict[str, Any]:
        return {one.key: value_of(one.value) for one in self.raw.attributes}

    @property
    def error(self) -> str | None:
        return str(self.raw.status.message) if self.raw.status.code == ERROR else None

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [(one.name, {a.key: value_of(a.value) for a in one.attributes}) for one in self.raw.events]


def value_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


@dataclass
class Receiver:
    """What arrived, and how it answers."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    raw: bytes = b""
    status: int = 200
    slow: float = 0.0
    refused: int = 0

    def named(self, name: str) -> Seen:
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, f"{name}: {[span.name for span in self.spans]}"
        return found[0]

    def children(self, span: Seen) -> list[str]:
        return sorted(one.name for one in self.spans if one.parent == span.id)

    def take(self, headers: dict[str, str], body: bytes) -> None:
        self.requests.append(headers)
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.raw += body
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for one in request.resource_spans:
            resource = {a.key: value_of(a.value) for a in one.resource.attributes}
            self.spans += [Seen(span, resource) for scope in one.scope_spans for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[Receiver]:
    """A receiver on the loopback."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(receiver.slow)
            if receiver.status == 200:
                receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            else:
                receiver.refused += 1
            self.send_response(receiver.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *args: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    yield receiver
    server.shutdown()
    server.server_close()
