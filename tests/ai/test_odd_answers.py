"""What servers that call themselves compatible really send, byte for byte, and what becomes of it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.ai.desk import code, result
from tests.ai.server import Answer, Behaviour, good
from tests.ai.test_openai import asked
from vrooli_cli.tier3.ai import governor

USAGE = {"prompt_tokens": 10, "completion_tokens": 5}


def piece(delta: Any = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def lines(*chunks: dict[str, Any], end: str = "\n\n", prefix: str = "data: ", done: bool = True) -> bytes:
    words = [json.dumps(one) for one in chunks] + (["[DONE]"] if done else [])
    return "".join(f"{prefix}{word}{end}" for word in words).encode()


def sse(body: bytes, kind: str = "text/event-stream", headers: dict[str, str] | None = None) -> Behaviour:
    async def behave(answer: Answer) -> None:
        await answer.head(200, headers or {}, kind)
        await answer.raw(body)

    return behave


def page(status: int, body: str, kind: str = "text/html", headers: dict[str, str] | None = None) -> Behaviour:
    async def behave(answer: Answer) -> None:
        await answer.head(status, headers or {}, kind)
        await answer.raw(body.encode())

    return behave


ROLE, HI, STOP = piece({"role": "assistant", "content": ""}), piece({"content": "Hi"}), piece({}, "stop", usage=USAGE)
WHOLE = {"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}], "usage": USAGE}


@pytest.mark.parametrize(
    "behaviour",
    [
        sse(lines(ROLE, HI, STOP, end="\r\n\r\n")),
        sse(lines(ROLE, HI, STOP, prefix="data:")),
        sse(b": ping\n\n" + lines(ROLE, done=False) + b": keep-alive\n\n\n\n" + lines(HI, STOP)),
        sse(b"event: message\nid: 7\nretry: 10\n" + lines(ROLE, HI, STOP)),
        sse(lines(ROLE, piece({"content": None}), piece(None), {"choices": []}, HI, STOP)),
        sse(lines(ROLE, HI, STOP, done=False)),
        sse(lines(HI, STOP), "text/event-stream; charset=utf-8"),
        sse(lines(piece({"content": "Hi"}, "stop", usage=USAGE))),
        sse(lines(ROLE, piece({"content": "Hi"}, usage=USAGE), piece({}, "stop"))),
        sse(lines(ROLE, piece({"content": [{"type": "text", "text": "Hi"}]}), STOP)),
        sse(lines(ROLE, piece({"reasoning_content": "hm"}), HI, STOP)),
        sse(gzip.compress(lines(ROLE, HI, STOP)), headers={"content-encoding": "gzip"}),
        sse(json.dumps(WHOLE).encode(), "application/json"),
        sse(json.dumps(WHOLE).encode(), "application/json; charset=utf-8"),
        sse(b"\xef\xbb\xbf" + json.dumps(WHOLE).encode(), "application/json"),
    ],
    ids=[
        "crlf",
        "no blank after data:",
        "comments",
        "event and id",
        "null content, null delta, no choices",
        "no [DONE]",
        "charset",
        "one chunk",
        "usage in the middle",
        "content in parts",
        "reasoning",
        "gzip",
        "json for a stream",
        "json with charset",
        "json with a mark",
    ],
)
async def test_a_good_answer_is_taken_in_whichever_way_it_is_written(behaviour: Behaviour) -> None:
    async with asked(behaviour) as (desk, server):
        assert result(await desk.prompt()) == "Hi"
        assert len(server.requests) == 1
        assert desk.account.settled == 20 and desk.account.uncertain == desk.account.reserved == 0


def call(*fragments: dict[str, Any]) -> list[dict[str, Any]]:
    return [piece({"tool_calls": [one]}) for one in fragments]


def part(index: int | None = None, *, name: str | None = None, text: Any = None, **more: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", text)) if value is not None}
    return ({} if index is None else {"index": index}) | ({"function": function} if function else {}) | more


ADD = '{"a": 1, "b": 2}'


@pytest.mark.parametrize(
    ("fragments", "finish"),
    [
        (call(part(0, name="math_add", text="", id="x"), part(0, text=ADD[:5]), part(0, text=ADD[5:])), "tool_calls"),
        (call(part(name="math_add", text=ADD, id="x")), "tool_calls"),
        (call(part(name="math_add", id="x"), part(text=ADD[:5]), part(text=ADD[5:])), "tool_calls"),
        (call(part(0, name="math_add", text=ADD[:5]), part(0, text=ADD[5:], id="last")), "tool_calls"),
        (call(part(0, name="math_", id="x"), part(0, name="add", text=ADD)), "tool_calls"),
        (call(*(part(0, name="math_add", text=one, id="x") for one in (ADD[:5], ADD[5:]))), "tool_calls"),
        (call(part(0, name="math_add", text={"a": 1, "b": 2}, id="x")), "tool_calls"),
        (call(part(0, name="math_add", text=ADD, id="x")), "stop"),
        (call(part(0, name="math_add", text=ADD, id=None, type="function")), "function_call"),
        ([piece({"function_call": {"name": "math_add", "arguments": ADD}})], "function_call"),
        (call(part(3, name="math_add", text=ADD, id="x")), "tool_calls"),
    ],
)
async def test_a_call_is_put_together_from_whatever_pieces(fragments: list[dict[str, Any]], finish: str) -> None:
    body = lines(ROLE, *fragments, piece({}, finish, usage=USAGE))
    async with asked(sse(body), good("done")) as (desk, server):
        assert result(await desk.prompt(tools=("math.add",))) == "done"
    (told,) = [one for one in server.requests[1].body["messages"] if one["role"] == "tool"]
    assert told["content"] == '{"sum": 3}'


async def test_interleaved_calls_keep_their_own_arguments() -> None:
    other = '{"a": 5, "b": 6}'
    pieces = call(
        part(0, name="math_add", id="x"),
        part(1, name="math_add", id="y"),
        part(1, text=other[:6]),
        part(0, text=ADD[:3]),
        part(1, text=other[6:]),
        part(0, text=ADD[3:]),
    )
    async with asked(sse(lines(*pieces, piece({}, "tool_calls", usage=USAGE))), good("done")) as (desk, server):
        assert result(await desk.prompt(tools=("math.add",))) == "done"
    told = [one["content"] for one in server.requests[1].body["messages"] if one["role"] == "tool"]
    assert told == ['{"sum": 3}', '{"sum": 11}']


PROXY = "<html><head><title>502 Bad Gateway</title></head>\n<body>\n<h1>nginx</h1></body></html>"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (page(200, "<html><title>Sign in</title></html>"), "no answer of a model (text/html): Sign in"),
        (page(200, ""), "no answer of a model (text/html)"),
        (page(200, "", "text/plain"), "broke off"),
        (page(200, '{"error": {"message": "overloaded"}}', "application/json"), "overloaded"),
        (page(200, '{"error": "out of memory"}', "application/json"), "out of memory"),
        (page(200, "[]", "application/json"), "broke off"),
        (page(200, '{"choices": []}', "application/json"), "broke off"),
        (page(200, '{"choices": [{"message"', "application/json"), "JSONDecodeError"),
        (page(502, PROXY), "502 Bad Gateway"),
        (sse(lines(ROLE, done=False) + b'data: {"error": {"message": "CUDA out of memory"}}\n\n'), "CUDA"),
        (sse(lines(ROLE, {"error": {"message": "late trouble"}}, done=False)), "late trouble"),
        (sse(b"\x00\xff\xfe not text at all"), "UnicodeDecodeError"),
        (sse(b"not gzip", headers={"content-encoding": "gzip"}), ""),
    ],
)
async def test_what_is_no_answer_is_asked_for_again_and_then_told_in_one_line(
    behaviour: Behaviour, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(governor, "_BASE", {"failed": 0.001, "throttled": 0.001})
    async with asked(behaviour, good("at last")) as (desk, server):
        assert result(await desk.prompt()) == "at last"
        assert len(server.requests) == 2
    async with asked(behaviour) as (desk, server):
        outcome = await desk.prompt()
        assert code(outcome) == "AI_UNAVAILABLE" and len(server.requests) == 6
        message = outcome.error.message  # type: ignore[union-attr]
        assert words in message and "\n" not in message and "<" not in message and len(message) < 400
        assert desk.account.reserved == 0
