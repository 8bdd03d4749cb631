"""The real SDK over loopback, against an endpoint that does everything wrong that endpoints do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.ai.desk import Desk, code, result
from tests.ai.server import Answer, Behaviour, Server, endpoint, good, refuse
from vrooli_cli.model.events import (
    AIDelta,
    AIFallback,
    AIRequested,
    AIResponded,
    AIThrottled,
    LedgerReserved,
    ResourcesExhausted,
)
from vrooli_cli.tier3.ai.governor import Governor
from vrooli_cli.tier3.ai.manager import AIServiceManager
from vrooli_cli.tier3.ai.openai import OpenAIService, Timeouts

PRICE = {"input": 1, "output": 2}
QUICK = Timeouts(connect=1, first=0.4, stall=0.3, whole=2)


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrooli_cli.tier3.ai.governor._BASE", {"throttled": 0.02, "failed": 0.01})


@asynccontextmanager
async def asked(
    *plan: Behaviour, limit: int | None = None, patience: Timeouts = QUICK, **model: Any
) -> AsyncIterator[tuple[Desk, Server]]:
    """A desk whose default model is an endpoint that behaves as planned."""
    service = OpenAIService(Governor(random.Random(1)), patience)
    async with endpoint(*plan) as server:
        definition = {"model": "m", "base_url": server.url, "price": PRICE, **model}
        manager = AIServiceManager(service, environ={"KEY": "sk-123456", "OPENAI_API_KEY": "sk-ambient"})
        yield Desk(manager.bind({"default": definition}), limit=limit), server
        await service.aclose()


async def test_an_answer_is_streamed_settled_and_told() -> None:
    async with asked(good("Good morning")) as (desk, server):
        outcome = await desk.prompt("Hello", system="Be brief.", temperature=0.5, seed=7, stop=("END",))
        assert result(outcome) == "Good morning"
        assert outcome.credits == 10 + 2 * 5 == desk.account.settled and desk.account.reserved == 0
    body = server.requests[0].body
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
    assert body["max_tokens"] == 4096 and body["temperature"] == 0.5 and body["seed"] == 7 and body["stop"] == ["END"]
    assert [one["role"] for one in body["messages"]] == ["system", "user"]
    assert "".join(one.text for one in desk.told(AIDelta)) == "Good morning"
    (answer,) = desk.told(AIResponded)
    assert answer.usage == {"input_tokens": 10, "output_tokens": 5} and answer.credits == 20 and answer.request_hash


async def test_the_ledger_is_told_before_the_request_and_after_the_answer() -> None:
    async with asked(good()) as (desk, _):
        await desk.prompt()
    kinds = [type(fact).type.removeprefix("tier3/") for fact in desk.facts if not isinstance(fact, AIDelta)]
    assert kinds == ["ledger/reserved", "ai/requested", "ledger/settled", "ai/responded"]


async def test_an_endpoint_may_not_stream_when_it_was_told_so() -> None:
    async with asked(good("whole"), stream=False) as (desk, server):
        assert result(await desk.prompt()) == "whole"
    assert server.requests[0].body["stream"] is False and "stream_options" not in server.requests[0].body


async def test_an_endpoint_that_answers_whole_where_a_stream_was_wanted_is_understood() -> None:
    async def whole(answer: Answer) -> None:
        answer.request.body["stream"] = False
        await answer.text("whole")

    async with asked(whole) as (desk, _):
        assert result(await desk.prompt()) == "whole"


async def test_the_ambient_key_goes_to_no_other_host_and_loopback_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ambient")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Inner: 1\nAuthorization: Bearer sk-ambient")
    async with asked(good()) as (desk, server):
        assert result(await desk.prompt()) == "Hi"
    headers = server.requests[0].headers
    assert not {"authorization", "openai-organization", "x-inner"} & set(headers)
    async with asked(good(), api_key_env="KEY") as (desk, server):
        assert result(await desk.prompt()) == "Hi"
    assert server.requests[0].headers["authorization"] == "Bearer sk-123456"


async def _cut(answer: Answer) -> None:
    await answer.begin()
    await answer.chunk({"role": "assistant"})


async def _cut_after_words(answer: Answer) -> None:
    await answer.begin()
    await answer.chunk({"content": "half of "})
    await asyncio.sleep(0.05)


async def _garbage(answer: Answer) -> None:
    await answer.begin()
    await answer.raw(b'data: {"choices": [{"index\n\n')


async def _stall(answer: Answer) -> None:
    await answer.begin()
    await answer.chunk({"role": "assistant"})
    await asyncio.sleep(2)


async def _mute(answer: Answer) -> None:
    await asyncio.sleep(2)


async def _slam(answer: Answer) -> None:
    answer._writer.transport.abort()


async def _error_inside(answer: Answer) -> None:
    await answer.begin()
    await answer.raw(b'data: {"error": {"message": "overloaded"}}\n\n')


async def _strange(answer: Answer) -> None:
    await answer.begin()
    await answer.raw(b"data: [1, 2]\n\ndata: null\n\n")


@pytest.mark.parametrize(
    "fault", [_cut, _garbage, _stall, _mute, _slam, _error_inside, _strange, refuse(500), refuse(529), refuse(503)]
)
async def test_a_fault_before_the_first_word_is_tried_again(fault: Behaviour) -> None:
    async with asked(fault, good("At last")) as (desk, server):
        assert result(await desk.prompt()) == "At last"
    assert len(server.requests) == 2 and len(desk.told(AIThrottled)) == 1


async def test_a_stream_that_breaks_off_after_words_were_shown_fails_the_step_and_is_uncertain() -> None:
    async with asked(_cut_after_words, good("again")) as (desk, server):
        outcome = await desk.prompt()
        assert code(outcome) == "AI_UNAVAILABLE" and "broke off" in outcome.error.message  # type: ignore[union-attr]
        assert len(server.requests) == 1 and desk.account.settled == 0
        (held,) = desk.told(LedgerReserved)
        assert desk.account.uncertain == held.credits == outcome.credits > 0


async def test_usage_that_was_not_told_settles_at_the_reservation() -> None:
    async def silent(answer: Answer) -> None:
        await answer.begin()
        await answer.chunk({"content": "Hi"}, "stop")
        await answer.end(None)

    async with asked(silent) as (desk, _):
        assert result(await desk.prompt()) == "Hi"
        assert desk.account.uncertain == desk.told(LedgerReserved)[0].credits


@pytest.mark.parametrize(
    ("behaviour", "wanted", "words", "tries"),
    [
        (refuse(401, "Incorrect API key provided: sk-123456"), "AI_UNAVAILABLE", "the key in KEY", 1),
        (refuse(403, "no"), "AI_UNAVAILABLE", "403", 1),
        (refuse(404, "model not found"), "AI_UNAVAILABLE", "knows no model 'm'", 1),
        (refuse(400, "maximum context length is 8192 tokens"), "AI_UNAVAILABLE", "maximum context length", 1),
        (refuse(429, "slow down", {"retry-after": "0.01"}), "AI_RATE_LIMITED", "slow down", 6),
        (refuse(429, "slow down", {"retry-after": "3600"}), "AI_RATE_LIMITED", "slow down", 1),
        (refuse(429, "pay first", None, code="insufficient_quota"), "AI_UNAVAILABLE", "pay first", 1),
        (refuse(500, "oops"), "AI_UNAVAILABLE", "oops", 6),
        (refuse(307, "", {"location": "http://elsewhere/"}), "AI_UNAVAILABLE", "redirects to http://elsewhere/", 1),
    ],
)
async def test_a_refusal_has_its_code_and_a_bounded_number_of_tries(
    behaviour: Behaviour, wanted: str, words: str, tries: int
) -> None:
    async with asked(behaviour, api_key_env="KEY") as (desk, server):
        outcome = await desk.prompt()
    assert code(outcome) == wanted
    message = outcome.error.message  # type: ignore[union-attr]
    assert words in message and "\n" not in message and "sk-123456" not in message
    assert len(server.requests) == tries
    assert desk.account.used == desk.account.reserved == 0


async def test_a_server_that_is_not_there_costs_nothing() -> None:
    async with endpoint(good()) as server:
        url = server.url
    service = OpenAIService(timeouts=QUICK)
    manager = AIServiceManager(service)
    desk = Desk(manager.bind({"default": {"model": "m", "base_url": url, "price": PRICE}}))
    outcome = await desk.prompt()
    await service.aclose()
    assert code(outcome) == "AI_UNAVAILABLE" and desk.account.used == 0
    assert "cannot be reached" in outcome.error.message  # type: ignore[union-attr]


async def test_the_next_model_is_asked_when_one_cannot_answer() -> None:
    service = OpenAIService(timeouts=QUICK)
    async with endpoint(refuse(404)) as one, endpoint(good("second")) as two:
        manager = AIServiceManager(service)
        definitions: dict[str, dict[str, Any]] = {
            "default": {"model": "a", "base_url": one.url, "fallback": ["b"]},
            "b": {"model": "b", "base_url": two.url},
        }
        desk = Desk(manager.bind(definitions))
        assert result(await desk.prompt()) == "second"
        await service.aclose()
    (fallback,) = desk.told(AIFallback)
    assert (fallback.model, fallback.to_model) == ("a", "b")
    assert [one.model for one in desk.told(AIRequested)] == ["a", "b"]


@pytest.mark.parametrize(
    ("finish", "delta", "wanted"),
    [
        ("length", {"content": "half"}, "AI_OUTPUT_INVALID"),
        ("content_filter", {"content": "no"}, "AI_REFUSED"),
        ("stop", {"refusal": "I cannot"}, "AI_REFUSED"),
    ],
)
async def test_an_answer_that_is_none_fails_by_name(finish: str, delta: dict[str, Any], wanted: str) -> None:
    async def behave(answer: Answer) -> None:
        await answer.begin()
        await answer.chunk(delta)
        await answer.chunk({}, finish)
        await answer.end()

    async with asked(behave) as (desk, _):
        assert code(await desk.prompt()) == wanted
        assert desk.account.settled == 20


async def test_an_answer_cut_for_want_of_credits_says_so() -> None:
    async def cut(answer: Answer) -> None:
        bound = answer.request.body["max_tokens"]
        await answer.begin()
        await answer.chunk({"content": "half"}, "length")
        await answer.end(10, bound)

    async with asked(cut, limit=2000) as (desk, server):
        assert code(await desk.prompt()) == "CREDITS_EXHAUSTED"
        assert 256 <= server.requests[0].body["max_tokens"] < 4096
        assert desk.account.used <= 2000


async def test_a_call_that_does_not_fit_is_not_made() -> None:
    async with asked(good(), limit=300) as (desk, server):
        assert code(await desk.prompt()) == "CREDITS_EXHAUSTED"
        assert not server.requests


async def test_a_cancelled_call_is_uncertain_and_its_connection_closed() -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def wait(answer: Answer) -> None:
        await answer.begin()
        begun.set()
        try:
            while True:
                await answer.chunk({"role": "assistant"})
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    async with asked(wait) as (desk, _):
        task = asyncio.create_task(desk.prompt())
        await begun.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert desk.account.reserved == 0 and desk.account.uncertain > 0
        await asyncio.wait_for(closed.wait(), 2)


async def test_the_time_out_of_a_step_stands_still_while_its_call_waits_for_a_retry() -> None:
    async with asked(refuse(429, "later", {"retry-after": "0.6"}), good("now")) as (desk, _):
        assert result(await desk.prompt(timeout_ms=400)) == "now"


async def test_a_time_out_in_the_middle_of_a_call_leaves_its_cost_uncertain() -> None:
    async with asked(_mute) as (desk, _):
        assert code(await desk.prompt(timeout_ms=150)) == "STEP_TIMEOUT"
        assert desk.account.reserved == 0 and desk.account.uncertain > 0


async def test_an_endpoint_that_ignores_the_bound_is_charged_in_truth_and_stops_the_run() -> None:
    async with asked(good("long", given=10, made=5000), limit=2000) as (desk, server):
        assert result(await desk.prompt()) == "long"
        assert desk.account.settled == 10_010
        assert code(await desk.prompt()) == "CREDITS_EXHAUSTED" and len(server.requests) == 1
    assert desk.told(ResourcesExhausted)


# --- what endpoints do not understand ---------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


async def test_a_schema_goes_to_the_endpoint_to_the_letter() -> None:
    async with asked(good('{"n": 1}')) as (desk, server):
        assert result(await desk.prompt(output_schema=SCHEMA)) == {"n": 1}
    told = server.requests[0].body["response_format"]
    assert told == {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}


async def test_an_endpoint_without_schemas_is_told_in_words_once_and_for_all() -> None:
    plan = [refuse(400, "response_format json_schema is not supported"), good('{"n": 1}')]
    async with asked(*plan) as (desk, server):
        assert result(await desk.prompt(output_schema=SCHEMA)) == {"n": 1}
        assert result(await desk.prompt(output_schema=SCHEMA)) == {"n": 1}
    assert ["response_format" in one.body for one in server.requests] == [True, False, False]
    assert '"integer"' in server.requests[1].body["messages"][0]["content"]


async def test_a_model_that_wants_max_completion_tokens_gets_it() -> None:
    plan = [refuse(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."), good()]
    async with asked(*plan) as (desk, server):
        assert result(await desk.prompt(max_tokens=99)) == "Hi"
    assert server.requests[1].body["max_completion_tokens"] == 99 and "max_tokens" not in server.requests[1].body


async def test_tool_calls_of_one_turn_run_together_and_return_in_order() -> None:
    async def calls(answer: Answer) -> None:
        await answer.calls(("slow", {"seconds": 0.2}), ("math_add", {"a": 1, "b": 2}), finish="stop")

    async with asked(calls, good("done")) as (desk, server):
        assert result(await desk.prompt(tools=("*",))) == "done"
    offered = {one["function"]["name"]: one["function"]["parameters"] for one in server.requests[0].body["tools"]}
    assert set(offered) == {"math_add", "slow", "boom"}
    assert offered["math_add"] == desk.registry.require("math.add").schema
    told = server.requests[1].body["messages"]
    assert [one["role"] for one in told] == ["user", "assistant", "tool", "tool"]
    assert [one["function"]["name"] for one in told[1]["tool_calls"]] == ["slow", "math_add"]
    assert [one["content"] for one in told[2:]] == ["slept 0.2", '{"sum": 3}']
    assert [one["tool_call_id"] for one in told[2:]] == ["id0", "id1"]


async def test_a_hundred_parallel_calls_against_ten_at_once_all_succeed_without_a_storm() -> None:
    early: list[float] = []
    refused: dict[str, float] = {}

    async def limited(answer: Answer) -> None:
        text = answer.request.body["messages"][-1]["content"]
        if answer.request.at < refused.get(text, 0.0):
            early.append(answer.request.at)
        if server.busy > 10:
            refused[text] = answer.request.at + 0.3
            await answer.error(429, "too many", {"retry-after": "0.3"})
            return
        await asyncio.sleep(0.1)
        await answer.text("ok")

    async with asked(limited, patience=Timeouts()) as (desk, server):  # a busy machine is no fault of the endpoint
        begun = asyncio.get_running_loop().time()
        done = await asyncio.gather(*(desk.prompt(f"item {n}", address=f"each[{n}]") for n in range(100)))
        took = asyncio.get_running_loop().time() - begun
    assert all(one.error is None for one in done) and not early
    assert len(server.requests) <= 110
    assert took < 6.0  # 10 rounds of 0.1 s; that 80 % of the limit are reached is held in virtual time (test_governor)
    assert desk.account.settled == sum(given + 2 * made for given, made in server.books) == 100 * 20
