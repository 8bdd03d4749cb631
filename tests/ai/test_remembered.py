"""Cassettes, the cache between runs, and what a miss says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ai.desk import Desk, code, result
from vrooli_cli.errors import DefinitionError, VrooliError
from vrooli_cli.loading.text import read_text
from vrooli_cli.model.events import AIResponded, LedgerSettled
from vrooli_cli.tier3.ai.manager import AIServiceManager
from vrooli_cli.tier3.ai.remembered import Cassette, first_difference
from vrooli_cli.tier3.ai.scripted import ScriptedAI
from vrooli_cli.tier3.ai.service import AIRequest

PRICED = {"default": {"model": "m", "price": {"input": 1, "output": 1}}}


def echo(request: AIRequest) -> dict[str, Any]:
    return {
        "text": f"re: {request.messages[-1]['content']}",
        "usage": {"input_tokens": len(request.messages), "output_tokens": 7},
    }


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def recorded(path: Path, *prompts: str, secrets: dict[str, str] | None = None, **keys: Any) -> Desk:
    manager = AIServiceManager(ScriptedAI([echo] * 99), cassette=Cassette.record(path))
    desk = Desk(manager.bind(PRICED), secrets=secrets)
    await asyncio.gather(*(desk.prompt(text, address=f"s[{at}]", **keys) for at, text in enumerate(prompts)))
    await manager.aclose()
    return desk


def replaying(path: Path, **keys: Any) -> Desk:
    return Desk(AIServiceManager(cassette=Cassette.replay(path)).bind(PRICED), **keys)


async def test_a_recording_answers_without_a_model_and_charges_what_was_charged(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    before = await recorded(path, *(f"item {n}" for n in range(12)))
    after = replaying(path)
    texts = await asyncio.gather(*(after.prompt(f"item {n}", address=f"s[{n}]") for n in reversed(range(12))))
    assert [result(one) for one in texts] == [f"re: item {n}" for n in reversed(range(12))]
    assert after.account.settled == before.account.settled == 12 * 8
    assert len(after.told(AIResponded)) == len(after.told(LedgerSettled)) == 12


async def test_a_cassette_is_yaml_for_people_in_the_order_of_the_steps(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    await recorded(path, *(f"line one\nitem {n}" for n in range(11)))
    data = read_text(path.read_bytes(), "c.yaml").data
    assert [one["step"] for one in data["exchanges"]] == [f"s[{n}]" for n in range(11)]
    assert list(data["exchanges"][0]) == ["step", "turn", "hash", "request", "reply"]
    assert "content: |-\n" in path.read_text() and files(tmp_path) == ["c.yaml"]


async def test_equal_requests_are_answered_by_step_and_no_more_often_than_recorded(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    manager = AIServiceManager(ScriptedAI(["first", "second"]), cassette=Cassette.record(path))
    desk = Desk(manager.bind())
    await desk.prompt("same", address="a")
    await desk.prompt("same", address="b")
    await manager.aclose()
    after = replaying(path)
    assert result(await after.prompt("same", address="b")) == "second"
    assert result(await after.prompt("same", address="a")) == "first"
    outcome = await after.prompt("same", address="a")
    assert code(outcome) == "AI_UNAVAILABLE"
    assert "recorded 2 times and is asked once more" in outcome.error.message  # type: ignore[union-attr]


async def test_a_miss_names_the_nearest_request_and_the_first_difference(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    await recorded(path, "weigh the apples", "peel the pears")
    outcome = await replaying(path).prompt("peel the plums", address="s[1]")
    message = outcome.error.message  # type: ignore[union-attr]
    assert code(outcome) == "AI_UNAVAILABLE" and "\n" not in message
    assert "nearest is exchange 2 (s[1], turn 1)" in message
    assert "messages[0].content, character 11: recorded 'peel the pears', asked 'peel the plums'" in message


async def test_a_changed_setting_is_named_as_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    await recorded(path, "one", temperature=0.2)
    outcome = await replaying(path).prompt("one", address="s[0]", temperature=0.7)
    assert "temperature: recorded 0.2, asked 0.7" in outcome.error.message  # type: ignore[union-attr]


async def test_no_secret_reaches_a_cassette_and_another_value_still_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    await recorded(path, "say s3cr3t-one", secrets={"token": "s3cr3t-one"}, reveal=("token",))
    assert "s3cr3t" not in path.read_text()
    after = replaying(path, secrets={"token": "other-value"})
    assert result(await after.prompt("say other-value", address="s[0]", reveal=("token",))) == "re: say ***"


async def test_what_was_answered_before_a_failure_is_written(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    manager = AIServiceManager(ScriptedAI(["one"]), cassette=Cassette.record(path))
    desk = Desk(manager.bind())
    await desk.prompt("a")
    assert code(await desk.prompt("b")) == "AI_UNAVAILABLE"
    await manager.aclose()
    assert len(Cassette.replay(path).exchanges) == 1


async def test_a_cassette_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(VrooliError, match="there is no folder"):
        Cassette.record(tmp_path / "no" / "c.yaml")
    cassette = Cassette.record(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").mkdir()
    with pytest.raises(VrooliError, match="cannot be written") as caught:
        cassette.save()
    assert caught.value.code == "STORE_ERROR" and files(tmp_path) == ["c.yaml"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\n", "this is no cassette"),
        ("cassette: 2\nexchanges: []\n", "format 1"),
        ("cassette: 1\nexchanges:\n  - {request: 1, reply: {}}\n", "has a `request`"),
        ("cassette: 1\nexchanges:\n  - {request: {}, reply: {tool_calls: [{}]}}\n", "list of maps with a `name`"),
    ],
)
def test_a_file_that_is_no_cassette_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(DefinitionError, match=words) as caught:
        Cassette.replay(path)
    assert caught.value.problems[0].line > 0


async def test_tool_calls_are_recorded_and_replayed(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    script = [{"tool_calls": [{"name": "math.add", "arguments": {"a": 1, "b": 2}}]}, "three"]
    manager = AIServiceManager(ScriptedAI(script), cassette=Cassette.record(path))
    assert result(await Desk(manager.bind()).prompt("go", tools=("math.*",))) == "three"
    await manager.aclose()
    assert result(await replaying(path).prompt("go", tools=("math.*",))) == "three"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN, PLAIN)
def test_a_first_difference_is_found_exactly_when_there_is_one(left: Any, right: Any) -> None:
    told = first_difference(left, right)
    assert (told == "nothing") == (left == right) and "\n" not in told


@given(st.text(max_size=60), st.text(max_size=20))
async def test_any_text_survives_a_recording(text: str, name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        manager = AIServiceManager(ScriptedAI([f"x{text}"]), cassette=Cassette.record(path))
        desk = Desk(manager.bind())
        assert result(await desk.prompt(text, address=name)) == f"x{text}"
        await manager.aclose()
        assert result(await replaying(path).prompt(text, address=name)) == f"x{text}"
