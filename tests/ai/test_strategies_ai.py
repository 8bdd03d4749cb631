"""Conversational and reasoning steps with a scripted model, through the executor's door."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.ai.desk import ADD, BOOM, PAY, Desk, code, result
from vrooli_cli.errors import DefinitionError
from vrooli_cli.gate import Gate, Policy, Refuse
from vrooli_cli.model.events import AIDelta, AIRequested, AIResponded, ToolCalled, ToolReturned
from vrooli_cli.model.routine import Permissions, Rule
from vrooli_cli.tier3.ai.manager import AIServiceManager
from vrooli_cli.tier3.ai.remembered import Memo
from vrooli_cli.tier3.ai.scripted import ScriptedAI, load_script
from vrooli_cli.tier3.ai.service import AIRequest

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


async def test_a_conversation_gives_its_text() -> None:
    ai = ScriptedAI(["Good day"])
    desk = Desk(ai)
    messages = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    keys: dict[str, Any] = {"system": "Be kind", "messages": messages, "context_values": {"facts": {"a": 1}}}
    assert result(await desk.prompt("And?", **keys)) == "Good day"
    sent = ai.requests[0].messages
    assert [one["role"] for one in sent] == ["system", "user", "assistant", "user"]
    assert sent[-1]["content"] == 'facts:\n{"a": 1}\n\nAnd?'
    assert not ai.requests[0].tools and "".join(one.text for one in desk.told(AIDelta)) == "Good day"


async def test_a_structured_answer_is_its_value_fence_or_not() -> None:
    desk = Desk(ScriptedAI([{"n": 3}, '```json\n{"n": 4}\n```']))
    assert result(await desk.prompt(output_schema=SCHEMA)) == {"n": 3}
    assert result(await desk.prompt(output_schema=SCHEMA)) == {"n": 4}


async def test_an_answer_is_repaired_with_the_exact_violations() -> None:
    ai = ScriptedAI(["nonsense", {"n": 0}, {"n": 1}])
    assert result(await Desk(ai).prompt(output_schema=SCHEMA)) == {"n": 1}
    first, second = (request.messages[-1]["content"] for request in ai.requests[1:])
    assert "not JSON" in first and "n: must be at least 1" in second
    assert ai.requests[2].messages[-2] == {"role": "assistant", "content": '{"n": 0}'}


async def test_nonsense_never_passes_when_repairs_have_run_out() -> None:
    desk = Desk(ScriptedAI([{"n": 0}] * 9))
    outcome = await desk.prompt(output_schema=SCHEMA)
    assert code(outcome) == "AI_OUTPUT_INVALID" and outcome.result is None
    assert len(desk.told(AIResponded)) == 3


async def test_an_empty_answer_is_asked_for_again_and_then_fails() -> None:
    assert result(await Desk(ScriptedAI(["", "there"])).prompt()) == "there"
    assert code(await Desk(ScriptedAI([" "] * 3)).prompt()) == "AI_OUTPUT_INVALID"


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ({"refusal": "I will not"}, "AI_REFUSED"),
        ({"text": "x", "finish_reason": "content_filter"}, "AI_REFUSED"),
        ({"text": "x", "finish_reason": "length"}, "AI_OUTPUT_INVALID"),
        ({"error": {"code": "AI_RATE_LIMITED", "message": "later"}}, "AI_RATE_LIMITED"),
        ({"tool_calls": ["rm"]}, "AI_OUTPUT_INVALID"),
    ],
)
async def test_answers_that_are_none_fail_by_name(reply: Any, wanted: str) -> None:
    assert code(await Desk(ScriptedAI([reply] * 3)).prompt()) == wanted


async def test_a_model_calls_tools_through_the_door_of_a_written_step() -> None:
    ai = ScriptedAI([call("math.add", a=1, b=2), "three"])
    desk = Desk(ai)
    assert result(await desk.prompt(tools=("math.*",))) == "three"
    (called,), (returned,) = desk.told(ToolCalled), desk.told(ToolReturned)
    assert called.parameters == {"a": 1, "b": 2} and called.call_id == returned.call_id == "call_0"
    assert returned.result == {"sum": 3} and ai.requests[1].messages[-1]["content"] == '{"sum": 3}'
    assert [tool.name for tool in ai.requests[0].tools] == ["math.add"]


async def test_calls_of_a_turn_run_together_and_return_in_order() -> None:
    many = {"tool_calls": [{"name": "slow", "arguments": {"seconds": s}} for s in (0.2, 0.1, 0.0)]}
    ai = ScriptedAI([many, "done"])
    desk = Desk(ai)
    begun = asyncio.get_running_loop().time()
    assert result(await desk.prompt(tools=("slow",))) == "done"
    assert asyncio.get_running_loop().time() - begun < 0.29
    assert [one["content"] for one in ai.requests[1].messages[-3:]] == ["slept 0.2", "slept 0.1", "slept 0.0"]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (call("boom"), "error TOOL_FAILED: boom failed: ValueError: no such thing"),
        (call("math.ad", a=1), "error TOOL_NOT_FOUND: there is no tool 'math.ad' here; did you mean 'math.add'?"),
        (call("pay", amount=1), "error TOOL_NOT_FOUND"),
        (call("math.add", a="x", b=2), "error PARAMETER_INVALID: math.add: a: must be a number"),
        ({"tool_calls": [{"name": "math.add", "arguments": '{"a": 1'}]}, "not a JSON object"),
        ({"tool_calls": [{"name": "math.add", "arguments": "[1]"}]}, "not a JSON object: list"),
    ],
)
async def test_what_goes_wrong_with_a_call_goes_back_to_the_model_as_text(reply: Any, words: str) -> None:
    ai = ScriptedAI([reply, "I see"])
    desk = Desk(ai, tools=(ADD, BOOM, PAY))
    assert result(await desk.prompt(tools=("math.add", "boom"))) == "I see"
    assert words in ai.requests[1].messages[-1]["content"]


async def test_a_denied_call_goes_back_to_the_model_and_is_not_made() -> None:
    ai = ScriptedAI([call("pay", amount=1), "then not"])
    policy = Policy().narrow("routine", Permissions(deny=(Rule("pay", "routine.yaml:3"),)))
    desk = Desk(ai, tools=(PAY,), policy=policy, gate=Gate(Refuse()))
    assert result(await desk.prompt(tools=("pay",))) == "then not"
    assert "PERMISSION_DENIED" in ai.requests[1].messages[-1]["content"] and not desk.told(ToolCalled)


async def test_endless_calls_end_at_max_turns_and_the_last_turn_must_conclude() -> None:
    ai = ScriptedAI([call("math.add", a=1, b=1)] * 20)
    desk = Desk(ai)
    outcome = await desk.prompt(tools=("math.add",), max_turns=3)
    assert code(outcome) == "AI_OUTPUT_INVALID" and "max_turns" in outcome.error.message  # type: ignore[union-attr]
    assert [one.tool_choice for one in ai.requests] == ["auto", "auto", "none"]
    assert len(desk.told(ToolCalled)) == 2


async def test_ids_that_repeat_or_are_missing_are_made_unique() -> None:
    same = {"tool_calls": [{"id": "x", "name": "slow", "arguments": {"seconds": 0}}] * 2}
    none = {"tool_calls": [{"id": "", "name": "slow", "arguments": {"seconds": 0}}]}
    desk = Desk(ScriptedAI([same, none, "done"]))
    assert result(await desk.prompt(tools=("slow",))) == "done"
    assert [one.call_id for one in desk.told(ToolCalled)] == ["x", "x_2", "call_2_0"]


async def test_a_glob_that_means_no_tool_is_refused() -> None:
    assert code(await Desk(ScriptedAI(["x"])).prompt(tools=("nope.*",))) == "TOOL_NOT_FOUND"


async def test_every_message_is_told_once() -> None:
    ai = ScriptedAI([call("math.add", a=1, b=2), {"n": 0}, {"n": 1}])
    desk = Desk(ai)
    assert result(await desk.prompt("Go", tools=("math.add",), output_schema=SCHEMA)) == {"n": 1}
    told = [[one["role"] for one in fact.messages or []] for fact in desk.told(AIRequested)]
    assert told == [["user"], [], ["user"]]


# --- a tool step with strategy: reasoning -----------------------------------------------------------------------------


async def test_a_model_chooses_the_arguments_of_one_tool() -> None:
    ai = ScriptedAI([call("math.add", a=20, b=22)])
    desk = Desk(ai)
    assert result(await desk.chosen("math.add", a=20)) == {"sum": 42}
    assert ai.requests[0].tool_choice == "math.add" and '"a": 20' in ai.requests[0].messages[-1]["content"]


async def test_chosen_arguments_are_validated_and_repaired_twice_at_most() -> None:
    good = call("math.add", a=1, b=1)
    assert result(await Desk(ScriptedAI([call("math.add", a="x"), "no", good])).chosen("math.add")) == {"sum": 2}
    assert code(await Desk(ScriptedAI([call("math.add")] * 9)).chosen("math.add")) == "AI_OUTPUT_INVALID"


async def test_a_chosen_call_that_fails_fails_the_step_with_its_own_code() -> None:
    assert code(await Desk(ScriptedAI([call("boom")])).chosen("boom")) == "TOOL_FAILED"


# --- secrets ----------------------------------------------------------------------------------------------------------


async def test_a_secret_in_a_prompt_is_refused_unless_it_is_revealed() -> None:
    secrets = {"token": "s3cr3t-value"}
    desk = Desk(ScriptedAI(["ok", "ok"]), secrets=secrets)
    outcome = await desk.prompt("use s3cr3t-value")
    assert code(outcome) == "PARAMETER_INVALID" and "'token'" in outcome.error.message  # type: ignore[union-attr]
    assert result(await desk.prompt("use s3cr3t-value", reveal=("token",))) == "ok"


async def test_a_tool_result_reaches_the_model_without_secrets_and_text_streams_masked() -> None:
    ai = ScriptedAI([call("slow", seconds=0), "your value: s3cr3t-value!"])
    desk = Desk(ai, secrets={"token": "slept 0"})
    assert "s3cr3t" in result(await desk.prompt(tools=("slow",)))
    assert ai.requests[1].messages[-1]["content"] == "***"
    desk = Desk(ScriptedAI(["your value: s3cr3t-value!"]), secrets={"token": "s3cr3t-value"})
    await desk.prompt()
    assert "".join(one.text for one in desk.told(AIDelta)) == "your value: ***!"


# --- after a crash ----------------------------------------------------------------------------------------------------


async def test_a_resumed_attempt_pays_and_does_nothing_twice() -> None:
    script = [call("math.add", a=1, b=2), call("math.add", a=3, b=4), "seven"]
    before = Desk(AIServiceManager(ScriptedAI(script)).bind())
    assert result(await before.prompt(tools=("math.add",))) == "seven"
    for cut in range(len(before.facts) + 1):
        log = before.facts[:cut]
        answered = sum(isinstance(fact, AIResponded) for fact in log)
        returned = sum(isinstance(fact, ToolReturned) for fact in log)
        rest = ScriptedAI(script[answered:])
        after = Desk(AIServiceManager(rest).bind(memo=Memo.from_facts(log)))
        assert result(await after.prompt(tools=("math.add",))) == "seven"
        assert len(rest.requests) == 3 - answered and len(after.told(ToolCalled)) == 2 - returned


async def test_a_once_call_that_was_under_way_is_never_made_again() -> None:
    script = [call("pay", amount=1, a=1, b=1), "paid"]
    before = Desk(AIServiceManager(ScriptedAI(script)).bind(), tools=(PAY,))
    assert result(await before.prompt(tools=("pay",))) == "paid"
    called = next(at for at, fact in enumerate(before.facts) if isinstance(fact, ToolCalled))
    memo = Memo.from_facts(before.facts[: called + 1])
    after = Desk(AIServiceManager(ScriptedAI(script[1:])).bind(memo=memo), tools=(PAY,))
    assert code(await after.prompt(tools=("pay",))) == "OUTCOME_UNKNOWN"
    assert not after.told(ToolCalled)


# --- scripts ----------------------------------------------------------------------------------------------------------


async def test_a_script_answers_by_step_path_and_says_when_it_is_used_up() -> None:
    desk = Desk(ScriptedAI({"one": ["1"], "each*": ["a", "b"]}))
    assert result(await desk.prompt(address="each[1]")) == "a"
    assert result(await desk.prompt(address="one")) == "1"
    outcome = await desk.prompt(address="one")
    assert code(outcome) == "AI_UNAVAILABLE" and "no reply left for one" in outcome.error.message  # type: ignore[union-attr]


async def test_a_scripted_reply_charges_its_usage() -> None:
    definitions = {"default": {"model": "m", "price": {"input": 2, "output": 3}}}
    reply = {"text": "x", "usage": {"input_tokens": 10, "output_tokens": 1}}
    desk = Desk(AIServiceManager(ScriptedAI([reply, reply])).bind(definitions), limit=30)
    assert (await desk.prompt()).credits == 23 == desk.account.settled
    assert code(await desk.prompt()) == "CREDITS_EXHAUSTED"


async def test_a_script_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text("replies:\n  - {tool_calls: [{name: math.add, arguments: {a: 1, b: 2}}]}\n  - three\n")
    assert result(await Desk(load_script(path)).prompt(tools=("math.add",))) == "three"
    path.write_text("just text\n")
    with pytest.raises(DefinitionError, match="a script of replies"):
        load_script(path)


async def test_a_reply_may_be_a_function_of_the_request() -> None:
    def shout(request: AIRequest) -> str:
        return str(request.messages[-1]["content"]).upper()

    assert result(await Desk(ScriptedAI([shout])).prompt("hello")) == "HELLO"


async def test_the_seeds_completion_gives_its_text() -> None:
    manager = AIServiceManager(ScriptedAI(["four"]))
    reply = await manager.generate_completion(
        model="gpt-4o", messages=[{"role": "user", "content": "2+2?"}], temperature=0.7, max_tokens=2000
    )
    assert reply.choices[0].message.content == "four"
