"""Answers put together from what servers really send, and names that the pattern forbids."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.tier3.ai.models import Target
from vrooli_cli.tier3.ai.service import AIRequest, ToolOffer, ToolUse
from vrooli_cli.tier3.ai.wire import _NAME, Assembly, Dialect, Names, body_of, is_strict, size_of


def assembled(*deltas: dict[str, Any]) -> Assembly:
    answer = Assembly()
    for delta in deltas:
        answer.feed({"choices": [{"index": 0, "delta": delta}]})
    return answer


def fragment(index: int | None = None, call_id: str | None = None, name: str | None = None, text: Any = None) -> Any:
    raw: dict[str, Any] = {"function": {}}
    if index is not None:
        raw["index"] = index
    if call_id is not None:
        raw["id"] = call_id
    if name is not None:
        raw["function"]["name"] = name
    if text is not None:
        raw["function"]["arguments"] = text
    return {"tool_calls": [raw]}


def uses(answer: Assembly) -> list[tuple[str, str, str]]:
    return [(one.id, one.name, one.arguments) for one in answer.tool_calls(Names([]))]


@pytest.mark.parametrize(
    ("fragments", "wanted"),
    [
        ([fragment(0, "a", "f", '{"x"'), fragment(0, None, None, ":1}")], [("a", "f", '{"x":1}')]),
        (
            [fragment(0, "a", "f"), fragment(1, "b", "g"), fragment(0, text="{}"), fragment(1, text="[]")],
            [("a", "f", "{}"), ("b", "g", "[]")],
        ),
        ([fragment(None, "a", "f", "{}"), fragment(None, "b", "f", "{}")], [("a", "f", "{}"), ("b", "f", "{}")]),
        ([fragment(0, "a", "f", "{}"), fragment(0, "b", "g", "{}")], [("a", "f", "{}"), ("b", "g", "{}")]),
        ([fragment(None, None, "f", "{}"), fragment(None, None, "g", "{}")], [("", "f", "{}"), ("", "g", "{}")]),
        ([fragment(None, None, "f"), fragment(text='{"x":'), fragment(text="1}")], [("", "f", '{"x":1}')]),
        ([fragment(0, "a", "f", "{"), fragment(0, "a", "f", "}")], [("a", "f", "{}")]),
        ([fragment(0, "a", "get_"), fragment(0, None, "all")], [("a", "get_all", "")]),
        ([fragment(0, "a", "f", {"x": 1})], [("a", "f", '{"x": 1}')]),
        ([{"function_call": {"name": "f", "arguments": "{}"}}], [("", "f", "{}")]),
    ],
)
def test_tool_calls_are_put_together_however_they_come(fragments: list[Any], wanted: list[Any]) -> None:
    answer = assembled(*fragments)
    assert uses(answer) == wanted
    answer.finish = "stop"
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("said", "meant"),
    [("stop", "stop"), ("end_turn", "stop"), ("max_tokens", "length"), ("SAFETY", "content_filter"), (None, "stop")],
)
def test_finish_reasons_are_four(said: str | None, meant: str) -> None:
    assert Assembly(finish=said).finish_reason == meant


def test_content_may_come_in_parts_and_other_choices_are_left_out() -> None:
    answer = assembled({"content": [{"type": "text", "text": "a"}, {"type": "x"}]}, {"content": None})
    answer.feed({"choices": [{"index": 1, "delta": {"content": "other"}}]})
    answer.feed({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    answer.feed({"choices": None, "usage": None})
    assert answer.text == "a" and answer.usage is not None and answer.usage.output_tokens == 2


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "index", "content", "tool_calls", "function", "id", "usage", "refusal"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(st.sampled_from(["choices", "usage"]), JUNK, max_size=2), max_size=5))
def test_no_chunk_breaks_the_assembly(chunks: list[dict[str, Any]]) -> None:
    answer = Assembly()
    for chunk in chunks:
        answer.feed(chunk)
        answer.feed_message(chunk)
    assert isinstance(answer.text, str) and answer.finish_reason


@given(st.lists(st.text(min_size=1, max_size=80), unique=True, max_size=12))
def test_names_are_mapped_without_collisions_and_back(real: list[str]) -> None:
    names = Names(real)
    safe = [names.safe(name) for name in real]
    assert all(_NAME.fullmatch(name) for name in safe) and len(set(safe)) == len(real)
    assert [names.real(name) for name in safe] == real
    assert all(names.safe(name) == name for name in real if _NAME.fullmatch(name))


def test_an_allowed_name_keeps_itself_beside_one_that_maps_to_it() -> None:
    names = Names(["git.status", "git_status"])
    assert names.safe("git_status") == "git_status" != names.safe("git.status")


def test_a_dialect_is_learned_from_refusals_and_nothing_else() -> None:
    request = AIRequest(messages=(), output_schema={"type": "object"}, tools=(ToolOffer("t", "", {}),))
    dialect = Dialect()
    assert not dialect.learn("maximum context length is 8192 tokens", request)
    assert dialect.learn("unknown field response_format", request) and not dialect.schema
    assert dialect.learn("use max_completion_tokens", request) and dialect.token_key == "max_completion_tokens"
    assert dialect.learn("extra field stream_options", request) and not dialect.usage
    assert dialect.learn("tool_choice is not supported", request) and not dialect.choice


@pytest.mark.parametrize(
    ("model", "key"),
    [("gpt-4o", "max_tokens"), ("o3-mini", "max_completion_tokens"), ("gpt-5", "max_completion_tokens")],
)
def test_the_bound_of_the_answer_has_the_name_that_the_model_knows(model: str, key: str) -> None:
    target = Target(model, model, "https://api.openai.com/v1")
    body = body_of(AIRequest(messages=()), target, Dialect.of(target), Names([]), 9)
    assert body[key] == 9


def test_a_schema_that_is_no_object_is_told_in_words() -> None:
    target = Target("m", "m", "http://x")
    request = AIRequest(messages=({"role": "user", "content": "x"},), output_schema={"type": "array"})
    body = body_of(request, target, Dialect(), Names([]), 9)
    assert "response_format" not in body and '"array"' in body["messages"][0]["content"]


A = {"a": {"type": "string"}}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "required": ["a"],
                "additionalProperties": False,
            },
            True,
        ),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}, False),
        ({"type": "object", "properties": {}}, False),
        ({"type": "string", "minLength": 1}, False),
        ({"type": "array", "items": {"type": "integer"}}, True),
        (True, False),
    ],
)
def test_strict_is_said_of_schemas_that_can_be_held_to_the_letter(schema: Any, strict: bool) -> None:
    assert is_strict(schema) is strict


@given(st.lists(st.text(max_size=50), min_size=1, max_size=5))
def test_the_size_of_a_request_is_at_least_a_token_a_byte_of_its_texts(texts: list[str]) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    size = size_of({"messages": messages})
    assert size >= sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) + 16 * len(texts)


def test_a_tool_use_survives_its_message() -> None:
    use = ToolUse("i", "git.status", json.dumps({"a": 1}))
    assert ToolUse.read(use.wire()) == use
