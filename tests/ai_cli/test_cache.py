"""``cache:`` on a step that asks a model: other runs of the same question are free, unless ``--no-cache`` is said."""

from __future__ import annotations

import pytest

from tests.ai.server import good
from tests.ai_cli.desk import Desk, serving


@pytest.mark.parametrize("rule", [{"ttl": "1h"}, True])
def test_a_cached_answer_is_neither_asked_for_nor_paid_again_by_another_run(rule: object, desk: Desk) -> None:
    with serving(good("Good day")) as server:
        file = desk.write([{"id": "ask", "prompt": "Hello", "cache": rule}], server.url)
        runs = [desk.vrooli("run", file, "--json", *flags) for flags in ((), (), ("--no-cache",))]
    assert [done.json["result"] for done in runs] == [{"ask": "Good day"}] * 3
    assert [done.credits for done in runs] == [20, 0, 20]
    assert [done.json["steps"]["ask"]["reused"] for done in runs] == [False, True, False]
    assert len(server.requests) == 2


def test_a_recording_is_whole_and_a_replay_charged_whatever_the_cache_holds(desk: Desk) -> None:
    with serving(good("Good day")) as server:
        file = desk.write([{"id": "ask", "prompt": "Hello", "cache": True}], server.url)
        runs = [
            desk.vrooli("run", file, "--json", *flags)
            for flags in ((), ("--record", "tape.yaml"), ("--replay", "tape.yaml"), ())
        ]
    assert [done.credits for done in runs] == [20, 20, 20, 0]
    assert len(server.requests) == 2
