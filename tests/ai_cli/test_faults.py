"""What an endpoint can do wrong, as somebody at the command line sees it: a code, one line, an exit code."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.ai.server import Answer, Behaviour, good, refuse
from tests.ai_cli.desk import PRICE, Desk, paid, serving

SOON = {"retry-after-ms": "10"}


async def cut(answer: Answer) -> None:
    """Breaks the connection in the middle of the answer."""
    await answer.begin()
    await answer.chunk({"content": "Hel"})


async def malformed(answer: Answer) -> None:
    """Sends a chunk that is no JSON."""
    await answer.begin()
    await answer.raw(b'data: {"id": oops\n\n')


async def too_short(answer: Answer) -> None:
    """Stops at the bound of the answer."""
    await answer.begin()
    await answer.chunk({"content": "Hel"})
    await answer.chunk({}, "length")
    await answer.end()


async def filtered(answer: Answer) -> None:
    """Stops for the content filter."""
    await answer.begin()
    await answer.chunk({}, "content_filter")
    await answer.end()


async def never(answer: Answer) -> None:
    """Does not begin to answer."""
    await asyncio.sleep(30)


FAULTS: dict[str, tuple[Behaviour, str, str, int]] = {
    "storm": (refuse(429, "slow down", SOON), "AI_RATE_LIMITED", "takes no more requests now (429: slow down)", 6),
    "overloaded": (refuse(529, "busy", SOON), "AI_RATE_LIMITED", "failed (529: busy)", 6),
    "broken": (refuse(500, "oops\n\x1b[31mred", SOON), "AI_UNAVAILABLE", "failed (500: oops", 6),
    "later": (refuse(429, "tomorrow", {"retry-after": "86400"}), "AI_RATE_LIMITED", "429: tomorrow", 1),
    "quota": (refuse(429, "pay first", code="insufficient_quota"), "AI_UNAVAILABLE", "429: pay first", 1),
    "key": (refuse(401, "Incorrect API key: sk-test-1234"), "AI_UNAVAILABLE", "refused the key in FAULTS_KEY", 1),
    "unknown": (refuse(404, "no such model"), "AI_UNAVAILABLE", "knows no model 'm'", 1),
    "context": (refuse(400, "maximum context length is 8192"), "AI_UNAVAILABLE", "maximum context length is 8192", 1),
    "cut": (cut, "AI_UNAVAILABLE", "broke off before its end; a part of it was shown", 3),
    "malformed": (malformed, "AI_UNAVAILABLE", "sent something that is no chunk of an answer", 6),
    "length": (too_short, "AI_OUTPUT_INVALID", "was cut at 4096 tokens; raise max_tokens", 1),
    "filter": (filtered, "AI_REFUSED", "the content filter of filter stopped the answer", 1),
    "slow": (never, "STEP_TIMEOUT", "took longer than its time-out of 0.3 s", 1),
}


async def by_path(answer: Answer) -> None:
    """Does what the address says."""
    await FAULTS[answer.request.path.split("/")[2]][0](answer)


def test_every_fault_of_an_endpoint_is_a_code_and_one_line_after_bounded_tries(desk: Desk) -> None:
    with serving(by_path) as server:
        models = {
            name: {"model": "m", "base_url": f"{server.url}/{name}", "price": PRICE, "api_key_env": "FAULTS_KEY"}
            for name in FAULTS
        }
        steps: list[dict[str, Any]] = [
            {"id": name, "prompt": "Hello", "model": name, "on_error": "continue"} for name in FAULTS
        ]
        steps[-1]["timeout"] = "300ms"
        file = desk.write(steps, models=models, allocation={"max_concurrent_steps": 20})
        done = desk.vrooli("run", file, "--json", FAULTS_KEY="sk-test-1234")
        asked = [request.path.split("/")[2] for request in server.requests]
    assert done.code == 0, done.err
    for name, (_, code, words, tries) in FAULTS.items():
        error = done.json["steps"][name]["error"]
        assert (name, error["code"]) == (name, code)
        assert words in error["message"]
        assert "\n" not in error["message"]
        if name != "slow":  # the time-out may be over before a busy machine has sent anything
            assert (name, asked.count(name)) == (name, tries)
    assert "sk-test-1234" not in done.out + done.err
    assert "\x1b" not in done.out + done.err
    books = paid(server)
    assert done.credits >= books > 0


def test_no_key_is_exit_6_and_one_line_before_any_step(desk: Desk) -> None:
    write = {"id": "mark", "tool": "file_write", "parameters": {"path": "mark", "content": "x"}}
    file = desk.write([write, {"id": "a", "prompt": "Hello", "depends_on": ["mark"]}])
    done = desk.vrooli("run", file, "--json")
    assert done.code == 6
    assert done.json["error"]["code"] == "AI_UNAVAILABLE"
    assert done.err.splitlines() == [
        "vrooli: no key for the model gpt-4o-mini: set OPENAI_API_KEY, or replay a recording with --replay FILE"
    ]
    assert not (desk.folder / "mark").exists()


@pytest.mark.parametrize(("words", "code"), [(("--timeout", "1s"), 124), ((), 6)])
def test_what_ends_a_run_is_its_exit_code_and_one_line(words: tuple[str, ...], code: int, desk: Desk) -> None:
    with serving(never if code == 124 else refuse(404, "no such model")) as server:
        done = desk.vrooli("run", desk.write([{"id": "a", "prompt": "Hello"}], server.url), *words, "--view", "none")
    first, hint = done.err.splitlines()
    assert (done.code, first.startswith("vrooli: "), hint.startswith("  vrooli resume ")) == (code, True, True)


def test_the_fallback_list_is_followed_and_told(desk: Desk) -> None:
    with serving(refuse(404, "gone")) as dead, serving(good("Hi", given=7, made=3)) as alive:
        models = {
            "first": {"model": "m", "base_url": dead.url, "price": PRICE, "fallback": ["second"]},
            "second": {"model": "n", "base_url": alive.url, "price": PRICE},
        }
        file = desk.write([{"id": "a", "prompt": "Hello", "model": "first"}], models=models)
        done = desk.vrooli("run", file, "--json", "--events", "events.ndjson")
    assert (done.code, done.json["result"], done.credits) == (0, {"a": "Hi"}, 13)
    told = [one["payload"] for one in desk.events() if one["type"] == "tier3/ai/fallback"]
    assert [(one["model"], one["to_model"]) for one in told] == [("first", "second")]


def test_a_run_whose_model_is_gone_goes_on_with_another_and_keeps_it(desk: Desk) -> None:
    steps: list[dict[str, Any]] = [
        {"id": "ask", "prompt": "Hello"},
        {"id": "more", "prompt": "{{ steps.ask.result }} again"},
    ]
    gone = refuse(404, "no such model")
    with serving(gone) as dead, serving(good("Hi", given=7, made=3), gone, good("Bye", given=5, made=1)) as alive:
        models = {
            "default": {"model": "m", "base_url": dead.url, "price": PRICE},
            "other": {"model": "n", "base_url": alive.url, "price": PRICE},
        }
        first = desk.vrooli("run", desk.write(steps, models=models), "--json")
        assert (first.code, first.json["error"]["step"], first.credits) == (6, "ask", 0)
        second = desk.vrooli("resume", "last", "--model", "other", "--json")
        assert (second.code, second.json["error"]["step"], second.credits) == (6, "more", 13)
        assert second.json["steps"]["ask"]["result"] == "Hi"
        third = desk.vrooli("resume", "last", "--json")
        shown = desk.vrooli("runs", "show", "last", "--json")
        assert (third.code, third.json["result"]) == (0, {"more": "Bye"}), third.err
        assert third.credits == shown.credits == paid(alive) == 20
        assert (len(dead.requests), len(alive.requests)) == (1, 3)
        assert [request.body["model"] for request in alive.requests] == ["n", "n", "n"]


def test_another_model_without_a_price_is_refused_before_the_run_goes_on(desk: Desk) -> None:
    with serving(refuse(404, "no such model")) as server:
        desk.vrooli("run", desk.write([{"id": "a", "prompt": "Hello"}], server.url), "--json")
        done = desk.vrooli("resume", "last", "--model", "nobodys", "--json")
        assert (done.code, done.json["error"]["code"], len(server.requests)) == (2, "DEFINITION_INVALID", 1), done.out
        assert "the price of the model 'nobodys'" in done.err
        assert desk.vrooli("runs", "show", "last", "--json").json["error"]["code"] == "AI_UNAVAILABLE"


@pytest.mark.parametrize(
    "keys",
    [{}, {"retry": {"max_attempts": 2, "delay": 0, "on": ["AI_UNAVAILABLE"]}}],
    ids=["of itself", "because the step says so"],
)
def test_a_broken_stream_is_not_repeated_behind_the_back_of_who_saw_it_begin(keys: dict[str, Any], desk: Desk) -> None:
    """The step runs again whole, and says so."""
    with serving(cut, good("Hello")) as server:
        file = desk.write([{"id": "a", "prompt": "Hello", **keys}], server.url)
        done = desk.vrooli("run", file, "--json", "--events", "events.ndjson")
    assert (done.code, done.json["result"], len(server.requests)) == (0, {"a": "Hello"}, 2)
    assert done.json["steps"]["a"]["attempts"] == 2
    assert "a step retrying in" in done.err and "a part of it was shown, so the step has to begin anew" in done.err
    assert [one["type"] for one in desk.events()].count("tier2/step/retrying") == 1
    settled = [one["payload"] for one in desk.events() if one["type"] == "tier3/ledger/settled"]
    lost = [int(one["credits"]) for one in settled if one.get("estimated")]
    assert len(lost) == 1
    assert done.credits == paid(server) + lost[0]


def test_a_step_that_wants_one_attempt_does_not_begin_anew_after_a_broken_stream(desk: Desk) -> None:
    with serving(cut, good("Hello")) as server:
        step = {"id": "a", "prompt": "Hello", "retry": {"max_attempts": 1}}
        (desk.folder / desk.write([step], server.url)).rename(desk.folder / "child.yaml")
        done = desk.vrooli("run", desk.write([{"id": "call", "routine": "./child.yaml"}]), "--json")
    assert (done.code, done.json["error"]["code"], len(server.requests)) == (6, "AI_UNAVAILABLE", 1)


def test_a_swarm_asks_again_when_the_answer_with_its_plan_or_its_last_word_breaks_off(desk: Desk) -> None:
    task = {"id": "t", "description": "Do it", "dependencies": [], "required_capabilities": ["work"]}
    plan = json.dumps({"tasks": [{**task, "estimated_complexity": 1, "priority": "medium"}]})
    with serving(cut, good(plan), good("done"), cut, good("The last word")) as server:
        swarm = {
            "goal": "Something",
            "models": {"default": {"model": "m", "base_url": server.url, "price": PRICE}},
            "agents": [{"id": "a", "capabilities": ["work"]}],
            "synthesis": {"prompt": "Say it"},
        }
        (desk.folder / "swarm.yaml").write_text(json.dumps(swarm))
        done = desk.vrooli("run", "swarm.yaml", "--json")
    assert (done.code, len(server.requests)) == (0, 5), done.err
    assert "The last word" in done.out
    assert done.err.count("a part of it was shown") == 2
    assert done.credits > paid(server) > 0
