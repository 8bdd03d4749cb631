"""``cache:`` on a step that asks a model: other runs of the same question are free, unless ``--no-cache`` is said."""

from __future__ import annotations

from tests.ai.server import good
from tests.ai_cli.desk import Desk, serving


def test_a_cached_answer_is_neither_asked_for_nor_paid_again_by_another_run(desk: Desk) -> None:
    with serving(good("Good day")) as server:
        file = desk.write([{"id": "ask", "prompt": "Hello", "cache": {"ttl": "1h"}}], server.url)
        runs = [desk.vrooli("run", file, "--json", *flags) for flags in ((), (), ("--no-cache",))]
    assert [done.json["result"] for done in runs] == [{"ask": "Good day"}] * 3
    assert [done.credits for done in runs] == [20, 0, 20]
    assert [done.json["steps"]["ask"]["reused"] for done in runs] == [False, True, False]
    assert len(server.requests) == 2
