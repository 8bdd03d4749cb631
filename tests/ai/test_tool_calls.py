"""Tool calls in bulk: any schema goes out to the letter, any arguments that fit it come in to the letter."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ai.desk import Desk, result
from tests.ai.server import Answer, endpoint, good
from vrooli_cli.tier3.ai.manager import AIServiceManager
from vrooli_cli.tier3.ai.openai import OpenAIService
from vrooli_cli.tier3.ai.scripted import ScriptedAI
from vrooli_cli.tier3.ai.wire import _NAME
from vrooli_cli.tier3.registry import Tool, ToolContext

Case = tuple[dict[str, Any], Any]  # a schema, and a value that fits it
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
KEY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


def _one(schema: dict[str, Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Case]:
    return st.tuples(st.just(schema), values)


def _enum(words: list[str]) -> st.SearchStrategy[Case]:
    return _one({"type": "string", "enum": words, "description": "One of “these”.\n"}, st.sampled_from(words))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([5.0, -0.0, 1e300, 0.1, 1e-7])
LEAVES: st.SearchStrategy[Case] = st.one_of(
    _one({"type": "string"}, TEXT | st.sampled_from(["", "null", "5", "true", "{{ x }}", "${HOME}", "\u2028", "🙂"])),
    _one({"type": "integer"}, st.integers() | st.sampled_from([0, 2**53 + 1, -(10**30)])),
    _one({"type": "number"}, NUMBERS),
    _one({"type": "boolean"}, st.booleans()),
    _one({"type": ["string", "null"], "default": "x"}, st.none() | TEXT),
    _one({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}]}, st.lists(TEXT, max_size=3)),
    _one({}, st.none() | st.booleans() | TEXT),
    st.lists(TEXT, min_size=1, max_size=4, unique=True).flatmap(_enum),
)


def _deeper(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    lists = st.lists(inner, max_size=3).map(
        lambda cases: ({"type": "array", "items": {"anyOf": [one[0] for one in cases] or [{}]}}, [c[1] for c in cases])
    )
    return lists | _object(inner)


@st.composite
def _object(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    """Some properties are required, some left out."""
    fields = draw(st.dictionaries(KEY, inner, max_size=4))
    left_out = {name for name in fields if draw(st.integers(0, 3)) == 0}
    schema = {
        "type": "object",
        "properties": {name: case[0] for name, case in fields.items()},
        "required": [name for name in fields if name not in left_out],
    }
    return schema, {name: case[1] for name, case in fields.items() if name not in left_out}


CASES = _object(st.recursive(LEAVES, _deeper, max_leaves=6))
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="*?["), min_size=1)
BOX = st.dictionaries(
    NAMES | st.sampled_from(["git.status", "git_status", "a/b", "über.tool", "x" * 80]), CASES, min_size=1, max_size=4
)


def _tool(name: str, schema: dict[str, Any], heard: list[tuple[str, str]]) -> Tool:
    async def note(params: dict[str, Any], context: ToolContext) -> Any:
        heard.append((name, json.dumps(params)))  # tells 5 from 5.0 and true from 1
        return params

    return Tool(name=name, description="", schema=schema, execute=note, effects="none", origin="test")


def _wanted(box: dict[str, Case]) -> list[tuple[str, str]]:
    return sorted((name, json.dumps(value)) for name, (_, value) in box.items())


@settings(max_examples=60, deadline=None)
@given(BOX, st.booleans())
def test_a_scripted_model_calls_any_tool_with_any_arguments(box: dict[str, Case], as_text: bool) -> None:
    async def main() -> None:
        heard: list[tuple[str, str]] = []
        calls = [
            {"name": name, "arguments": json.dumps(value) if as_text else value} for name, (_, value) in box.items()
        ]
        tools = tuple(_tool(name, schema, heard) for name, (schema, _) in box.items())
        script = ScriptedAI([{"tool_calls": calls}, "done"])
        desk = Desk(script, tools=tools)
        assert result(await desk.prompt(tools=tuple(box))) == "done"
        assert sorted(heard) == _wanted(box)
        assert {offer.name: offer.parameters for offer in script.requests[0].tools} == {
            name: schema for name, (schema, _) in box.items()
        }

    asyncio.run(main())


@settings(max_examples=10, deadline=None)
@given(BOX, st.integers(1, 7), st.booleans())
def test_an_endpoint_is_told_any_schema_and_calls_with_any_arguments(
    box: dict[str, Case], size: int, escaped: bool
) -> None:
    heard: list[tuple[str, str]] = []
    offered: dict[str, Any] = {}

    async def calls(answer: Answer) -> None:
        """Calls every tool at once, by the names that it was told, in pieces that cut through escapes."""
        await answer.begin()
        for index, (one, (_, value)) in enumerate(zip(answer.request.body["tools"], box.values(), strict=True)):
            name = one["function"]["name"]
            offered[name] = one["function"]["parameters"]
            text = json.dumps(value, ensure_ascii=escaped)
            head = {"index": index, "id": f"id{index}", "type": "function", "function": {"name": name, "arguments": ""}}
            await answer.chunk({"tool_calls": [head]})
            for at in range(0, len(text), size):
                piece = {"index": index, "function": {"arguments": text[at : at + size]}}
                await answer.chunk({"tool_calls": [piece]})
        await answer.chunk({}, "tool_calls")
        await answer.end()

    async def main() -> list[dict[str, Any]]:
        async with endpoint(calls, good("done")) as server:
            service = OpenAIService()
            manager = AIServiceManager(service)
            ai = manager.bind({"default": {"model": "m", "base_url": server.url}})
            desk = Desk(ai, tools=tuple(_tool(name, schema, heard) for name, (schema, _) in box.items()))
            assert result(await desk.prompt(tools=tuple(box))) == "done"
            await service.aclose()
        messages: list[dict[str, Any]] = server.requests[1].body["messages"]
        return messages

    messages = asyncio.run(main())
    assert sorted(heard) == _wanted(box)
    assert all(_NAME.fullmatch(name) for name in offered) and len(offered) == len(box)
    assert list(offered.values()) == [schema for schema, _ in box.values()]
    returned = [one for one in messages if one["role"] == "tool"]
    assert [one["tool_call_id"] for one in returned] == [f"id{index}" for index in range(len(box))]
    assert [json.loads(one["content"]) for one in returned] == [value for _, value in box.values()]
