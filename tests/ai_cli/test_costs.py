"""What ``vrooli plan`` says of money holds: the run costs no less than low and no more than high."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.ai.server import Answer
from tests.ai_cli.desk import PRICE, Desk, serving
from vrooli_cli.cli.app import run_command_line

ASK: dict[str, Any] = {"id": "a", "prompt": "word " * 200, "max_tokens": 100}


def planned(desk: Desk, steps: list[dict[str, Any]], capfd: pytest.CaptureFixture[str], **top: Any) -> tuple[int, int]:
    """The cost of a plan, from low to high."""
    models = {"default": {"model": "m", "base_url": "http://127.0.0.1:9/v1", "price": PRICE}}
    (desk.folder / "p.yaml").write_text(json.dumps({"models": models, **top, "steps": steps}))
    capfd.readouterr()
    assert run_command_line(["plan", str(desk.folder / "p.yaml"), "--json"]) == 0
    cost = json.loads(capfd.readouterr().out)["cost"]
    return cost["low"], cost["high"]


def test_the_cost_counts_input_output_loops_retries_and_conditions(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    low, high = planned(desk, [ASK], capfd)
    assert 250 <= low <= 1000, "input tokens are counted"
    assert 3 * 1200 <= high <= 3 * 2400, "a token a byte, an answer at twice the price, and two repairs"
    assert planned(desk, [{**ASK, "for_each": [1, 2, 3]}], capfd) == (3 * low, 3 * high)
    assert planned(desk, [{**ASK, "matrix": {"x": [1, 2], "y": [1, 2]}}], capfd) == (4 * low, 4 * high)
    assert planned(desk, [{**ASK, "retry": {"max_attempts": 2}}], capfd) == (low, 2 * high)
    assert planned(desk, [{**ASK, "when": "run.id != 'x'"}], capfd) == (0, high)
    assert planned(desk, [{"id": "g", "parallel": [ASK, {**ASK, "id": "b"}]}], capfd) == (2 * low, 2 * high)
    cheap = {"default": {"model": "m", "base_url": "http://127.0.0.1:9/v1", "price": {"input": 0, "output": 0}}}
    assert planned(desk, [ASK], capfd, models=cheap) == (0, 0)


def test_what_only_the_run_knows_is_bounded_by_the_ceiling(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    echo = {"id": "e", "tool": "echo", "parameters": {"message": [1, 2]}}
    unknown = {**ASK, "prompt": "Say {{ steps.e.result }}"}
    each = {**ASK, "for_each": "{{ steps.e.result }}"}
    with_tools = {**ASK, "tools": ["echo"]}
    for step in (unknown, each, with_tools):
        low, high = planned(desk, [echo, step], capfd, allocation={"max_credits": 7000})
        assert (low < 1000, high) == (True, 7000)
    topic = {"topic": {"type": "string", "default": "cats"}}
    assert planned(desk, [{**ASK, "prompt": "Say {{ topic }}"}], capfd, inputs=topic)[1] < 7000


def test_a_real_run_costs_between_low_and_high(desk: Desk) -> None:
    async def honest(answer: Answer) -> None:
        size = sum(len(one["content"]) for one in answer.request.body["messages"])
        await answer.text("x", given=size // 3, made=answer.request.body["max_tokens"])

    schema = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
    with serving(honest) as server:
        file = desk.write([ASK, {**ASK, "id": "b", "output_schema": schema, "on_error": "continue"}], server.url)
        cost = desk.vrooli("plan", file, "--json").json["cost"]
        done = desk.vrooli("run", file, "--json")
    assert (done.code, len(server.books)) == (0, 4), "two repairs"
    assert cost["low"] <= done.credits <= cost["high"]
