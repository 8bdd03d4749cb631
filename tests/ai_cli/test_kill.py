"""A process that dies in the middle of a model's work: nothing is paid twice, and nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from typing import Any

from tests.ai.server import Answer
from tests.ai_cli.desk import VROOLI, Desk, paid, serving

STEP: dict[str, Any] = {"id": "work", "prompt": "Write two lines", "tools": ["file_write"], "max_turns": 6}
BEFORE: dict[str, Any] = {"id": "before", "prompt": "Hello"}


def line(number: int) -> tuple[str, dict[str, Any]]:
    """A call with an effect that must happen once."""
    return "file_write", {"path": "lines", "content": f"{number}\n", "mode": "append"}


class Model:
    """Answers one step with text, the other by two turns of tool calls and an end; hangs once, at a turn."""

    def __init__(self, hang_at: int) -> None:
        self.hang_at = hang_at
        self.reached = threading.Event()
        self.turns: list[int] = []

    async def __call__(self, answer: Answer) -> None:
        messages = answer.request.body["messages"]
        if messages[0]["content"] == "Hello":
            await answer.text("Hi")
            return
        turn = sum(one["role"] == "assistant" for one in messages) + 1
        self.turns.append(turn)
        if turn == self.hang_at and not self.reached.is_set():
            await answer.begin()
            await answer.chunk({"content": "I am"})
            self.reached.set()
            await asyncio.sleep(60)
            return
        if turn < 3:
            await answer.calls(line(turn), line(turn + 10))
        else:
            await answer.text("Done")


def start_and_kill(desk: Desk, file: str, model: Model) -> None:
    """Run until the model hangs, then ``kill -9``."""
    process = subprocess.Popen(
        [*VROOLI, "run", file, "--view", "none", "--no-input"], cwd=desk.folder, env=desk.environment()
    )
    try:
        assert model.reached.wait(40)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)


def test_after_kill_9_no_answered_call_is_paid_again_and_no_effect_happens_again(desk: Desk) -> None:
    model = Model(hang_at=3)
    with serving(model) as server:
        file = desk.write(
            [BEFORE, {**STEP, "depends_on": ["before"]}], server.url, permissions={"allow": ["file_write"]}
        )
        start_and_kill(desk, file, model)
        done = desk.vrooli("resume", "last", "--json")
        books = paid(server)
    assert done.code == 0, done.out
    assert done.json["steps"]["work"]["result"] == "Done"
    assert sorted((desk.folder / "lines").read_text().split()) == ["1", "11", "12", "2"]
    assert sorted(model.turns) == [1, 2, 3, 3]
    assert len(server.requests) - len(model.turns) == 1, "the step that had completed was not asked again"
    unknown = done.credits - books
    assert unknown > 0, "the call that was cut off counts in full: the endpoint may charge for it"


def test_a_once_call_that_was_under_way_is_asked_about_and_made_again_only_when_a_person_says_so(desk: Desk) -> None:
    marker = desk.folder / "begun"

    async def model(answer: Answer) -> None:
        turn = sum(one["role"] == "assistant" for one in answer.request.body["messages"]) + 1
        slow = ("shell", {"command": "sleep 0.2; echo x >> begun; test -e quick || sleep 30"})
        await (answer.text("Done") if turn > 1 else answer.calls(slow, ("echo", {"message": "at once"})))

    with serving(model) as server:
        file = desk.write([{**STEP, "tools": ["shell", "echo"]}], server.url, permissions={"allow": ["shell", "echo"]})
        process = subprocess.Popen([*VROOLI, "run", file, "--view", "none"], cwd=desk.folder, env=desk.environment())
        try:
            for _ in range(400):
                if marker.exists():
                    break
                threading.Event().wait(0.1)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
        asked = desk.vrooli("resume", "last", "--json")
        assert (asked.code, asked.json["status"]) == (5, "suspended"), asked.out
        assert asked.json["error"]["code"] == "OUTCOME_UNKNOWN"
        assert (marker.read_text(), len(server.requests)) == ("x\n", 1)
        (desk.folder / "quick").touch()
        done = desk.vrooli("resume", "last", "--assume", "work=rerun", "--json")
    assert (done.code, done.json["result"]) == (0, {"work": "Done"}), done.out
    assert (marker.read_text(), len(server.requests)) == ("x\nx\n", 2), "the model's first turn stands"


def test_a_step_that_failed_after_an_effect_goes_on_where_its_conversation_broke(desk: Desk) -> None:
    refused = threading.Event()
    turns: list[int] = []

    async def model(answer: Answer) -> None:
        turn = sum(one["role"] == "assistant" for one in answer.request.body["messages"]) + 1
        turns.append(turn)
        if turn == 1:
            await answer.calls(line(1))
        elif not refused.is_set():
            refused.set()
            await answer.error(403, "not today")
        else:
            await answer.text("Done")

    with serving(model) as server:
        file = desk.write([STEP], server.url, permissions={"allow": ["file_write"]})
        first = desk.vrooli("run", file, "--json")
        done = desk.vrooli("resume", "last", "--json")
        books = paid(server)
    assert (first.code, first.json["error"]["code"]) == (6, "AI_UNAVAILABLE")
    assert (done.code, done.json["result"]) == (0, {"work": "Done"}), done.out
    assert ((desk.folder / "lines").read_text(), turns) == ("1\n", [1, 2, 2])
    assert done.credits == books
