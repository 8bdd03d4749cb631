"""The swarms in ``routines/``: each runs from its cassette with no key, and the cassette is what vrooli asks today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tier1.cassettes import SWARMS, cassette_of, play, script_of
from vrooli_cli.tier3.ai.remembered import Cassette


@pytest.mark.parametrize("name", SWARMS)
async def test_a_shipped_swarm_runs_from_its_cassette_without_a_key(name: str) -> None:
    result, _ = await play(name, Cassette.replay(cassette_of(name)))
    assert result.success, result.error
    assert isinstance(result.result, dict)
    assert all(text.strip() for text in result.result.values())


@pytest.mark.parametrize("name", SWARMS)
async def test_a_cassette_holds_what_is_asked_today(name: str, tmp_path: Path) -> None:
    cassette = Cassette.record(tmp_path / "c.yaml")
    await play(name, cassette, script_of(name))
    shipped = Cassette.replay(cassette_of(name))
    again = "python -m tests.tier1.cassettes writes the cassettes anew"
    assert sorted(one.digest for one in cassette.exchanges) == sorted(one.digest for one in shipped.exchanges), again


def of(events: list[Any], type_: str) -> list[Any]:
    return [event.payload for event in events if event.type == type_]


async def test_the_reviewer_that_tries_to_write_is_stopped_by_the_norm() -> None:
    _, events = await play("code-review", Cassette.replay(cassette_of("code-review")))
    (violation,) = of(events, "tier1/norm/violated")
    assert (violation["agent_id"], violation["norm"]) == ("readability", "nobody-writes")
    assert {one["agent_id"] for one in of(events, "tier1/task/completed") if one["task_id"] == "review"} == {
        "correctness",
        "security",
        "readability",
    }
    assert {one["norm"] for one in of(events, "tier1/norm/fulfilled")} == {"reviewers-review", "lead-decides"}


async def test_the_researchers_work_side_by_side_and_look_things_up() -> None:
    _, events = await play("research", Cassette.replay(cassette_of("research")))
    by = {one["task_id"]: one["agent_id"] for one in of(events, "tier1/task/assigned")}
    assert {by["largest"], by["diving"], by["whaling"]} == {"ada", "ben"}
    assert len([one for one in of(events, "tier3/tool/called") if one["tool_name"] == "knowledge_search"]) == 3
