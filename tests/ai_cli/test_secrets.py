"""A secret reaches a model only where the file says so, and no paper of the run ever."""

from __future__ import annotations

from typing import Any

from tests.ai.server import good
from tests.ai_cli.desk import Desk, serving

SECRET = "hunter2-7f3a"
DECLARED: dict[str, Any] = {"secrets": {"pin": {"env": "PIN"}}}
ASK: dict[str, Any] = {"id": "a", "prompt": "My pin is {{ secrets.pin }}"}


def test_a_prompt_with_a_secret_that_is_not_revealed_is_refused_when_the_file_is_loaded(desk: Desk) -> None:
    with serving(good()) as server:
        done = desk.vrooli("run", desk.write([ASK], server.url, **DECLARED), PIN=SECRET)
    assert (done.code, server.requests) == (2, [])
    assert "reveal" in done.err


def test_a_revealed_secret_reaches_the_model_and_nothing_else(desk: Desk) -> None:
    with serving(good(f"It is {SECRET}.")) as server:
        file = desk.write([{**ASK, "reveal": ["pin"]}], server.url, **DECLARED)
        done = desk.vrooli("run", file, "--events", "events.ndjson", "--record", "c.yaml", "-v", PIN=SECRET)
    assert done.code == 0, done.err
    assert SECRET in server.requests[0].body["messages"][0]["content"]
    kept = [path for path in desk.folder.rglob("*") if path.is_file() and path.name != "r.yaml"]
    assert {"c.yaml", "events.ndjson", "store.db"} <= {path.name for path in kept}
    assert [path.name for path in kept if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in done.out + done.err
    again = desk.vrooli("run", file, "--replay", "c.yaml", "--json", PIN=SECRET)
    assert (again.code, SECRET in again.out) == (0, False)


def test_what_a_tool_finds_is_masked_before_a_model_sees_it(desk: Desk) -> None:
    asked = iter((("shell", {"command": ["printenv", "PIN"]}),))

    async def behave(answer: Any) -> None:
        call = next(asked, None)
        await (answer.calls(call) if call else answer.text("Done"))

    with serving(behave) as server:
        step = {"id": "a", "prompt": "Look", "tools": ["shell"]}
        allowed = {"allow": ["shell(printenv *)"]}
        file = desk.write([step], server.url, **DECLARED, env={"PIN": "{{ secrets.pin }}"}, permissions=allowed)
        done = desk.vrooli("run", file, "--json", PIN=SECRET)
    assert (done.code, len(server.requests)) == (0, 2), done.out
    answered = server.requests[1].body["messages"][-1]
    assert answered["role"] == "tool"
    assert SECRET not in answered["content"]
    assert "***" in answered["content"]
