"""The ceiling of a run holds, whatever runs beside what: the endpoint's books are the truth."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.ai.server import Answer
from tests.ai_cli.desk import Desk, paid, serving


async def dear(answer: Answer) -> None:
    """Uses all that it may: one token a byte, and every token of the answer."""
    size = sum(len(one["content"]) for one in answer.request.body["messages"])
    await asyncio.sleep(0.01)
    await answer.text("x", given=size, made=answer.request.body["max_tokens"])


def test_fifty_steps_at_once_never_pass_the_ceiling(desk: Desk) -> None:
    ask = {"id": "all", "for_each": "{{ range(50) | list }}", "prompt": "Say {{ item }}", "max_tokens": 100}
    with serving(dear) as server:
        file = desk.write([ask], server.url, allocation={"max_concurrent_steps": 50})
        done = desk.vrooli("run", file, "--max-cost", "0.003", "--json", "--keep-going")
    assert (done.code, done.json["error"]["code"]) == (4, "CREDITS_EXHAUSTED")
    assert 2000 < paid(server) == done.credits <= 3000


def test_what_the_result_says_is_what_the_endpoint_has_in_its_books(desk: Desk) -> None:
    ask = {"id": "all", "for_each": "{{ range(50) | list }}", "prompt": "Say {{ item }}", "max_tokens": 100}
    with serving(dear) as server:
        done = desk.vrooli("run", desk.write([ask], server.url, allocation={"max_concurrent_steps": 50}), "--json")
    assert (done.code, len(server.books)) == (0, 50)
    assert done.credits == paid(server)
    summary = done.err.splitlines()[-1]
    assert f"{done.credits:,} credits" in summary
    costs = desk.vrooli("runs", "cost", "--json")
    assert (costs.code, f"{done.credits}" in re.sub(r"\D+", " ", costs.out)) == (0, True)


@pytest.mark.parametrize("words", [("--max-credits", "0"), ("--max-cost", "0"), ("--max-cost", "0.0000004")])
def test_a_ceiling_of_nothing_buys_nothing(words: tuple[str, str], desk: Desk) -> None:
    with serving(dear) as server:
        done = desk.vrooli("run", desk.write([{"id": "ask", "prompt": "Hello"}], server.url), *words, "--json")
    assert (done.code, done.json["error"]["code"], done.credits) == (4, "CREDITS_EXHAUSTED", 0)
    assert server.requests == []


def test_what_a_model_without_a_price_was_asked_counts_as_nothing_and_the_summary_says_so(desk: Desk) -> None:
    with serving(dear) as server:
        elsewhere = server.url.replace("127.0.0.1", "0.0.0.0")  # reaches this machine, and is no loopback address
        models = {"odd": {"model": "m", "base_url": elsewhere, "api_key_env": None}}
        file = desk.write([{"id": "ask", "prompt": "Hello", "model": "odd"}], models=models)
        refused, done = desk.vrooli("run", file), desk.vrooli("run", file, "--allow-unpriced", "--json")
    assert refused.code == 2 and "the price of the model 'odd'" in refused.err
    assert (done.code, done.credits) == (0, 0)
    assert "! counted as 0 credits, for nobody knows the price: odd" in done.err.replace("⚠", "!")
