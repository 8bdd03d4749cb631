"""Answers and cancels at the worst moment: between two commits, or before anything has begun."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.resume.conftest import Shell
from tests.resume.test_resume import started, until
from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.journal import open_store
from vrooli_cli.journal.inbox import Inbox
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.model.events import ApprovalGranted, ExecutionEvent
from vrooli_cli.model.store import RunRecord

ASK = "steps: [{id: ask, approval: {prompt: sure?}}, {id: b, depends_on: [ask], tool: echo, parameters: {message: hi}}]"


def test_an_answer_outlives_the_process_that_read_it(vrooli: Shell) -> None:
    async def read() -> None:
        async with ExecutionArchitecture(store=open_store(vrooli.store)) as house:
            house.resume(run)
            os._exit(0)  # it has read the answer, and dies before anything comes of it

    assert vrooli("run", vrooli.write(ASK)).code == 5
    run = vrooli.runs()[0].id
    assert vrooli("approve", run, "ask").code == 0
    child = os.fork()
    if child == 0:
        asyncio.run(read())
    assert os.waitpid(child, 0)[1] == 0
    assert vrooli("resume", run).code == 0
    with closing(open_store(vrooli.store)) as store:
        key, record = store.find(run)
        assert (record.status, store.commands(key)) == ("completed", [])


def test_the_last_of_several_answers_counts_and_says_so(vrooli: Shell) -> None:
    assert vrooli("run", vrooli.write(ASK)).code == 5
    assert "in place" not in vrooli("approve", "last", "ask").err
    assert "ask is rejected (in place of an answer that " in vrooli("reject", "last", "ask").err
    assert vrooli("resume", "last").code == 3


def granted(step: str) -> ExecutionEvent:
    return ExecutionEvent(type=ApprovalGranted.type, execution_id="r", payload={"step_id": step, "by": "me"})


def test_an_answer_is_kept_until_it_stands_in_the_log() -> None:
    store = open_store(":memory:")
    key = store.open_run(RunRecord(id="r", name="r"))
    inbox = Inbox(store, key)
    for step in ("a", "b"):
        store.send("r", {"do": "approve", "step": step})
    assert [command["step"] for command in inbox.new()] == ["a", "b"]
    assert inbox.new() == [], "each is obeyed once"
    inbox.note(granted("a"))
    assert [command["step"] for command in Inbox(store, key).new()] == ["b"], "the next life reads what is open"
    store.send("r", {"do": "cancel"})
    assert [command["do"] for command in inbox.new()] == ["cancel"]
    assert [command["do"] for _, command in store.commands(key)] == ["approve"], "a cancel is for one life"


@pytest.mark.parametrize("kind", ["routine", "swarm"])
async def test_a_run_that_is_cancelled_before_it_began_ends(tmp_path: Path, kind: str) -> None:
    steps = "[{id: a, tool: shell, parameters: {command: sleep 20}}]"
    agent = "{id: one, capabilities: [x], routine: r.yaml}"
    task = "{id: t, description: d, required_capabilities: [x]}"
    (tmp_path / "r.yaml").write_text(f"name: r\nsteps: {steps}\n")
    (tmp_path / "s.yaml").write_text(f"name: s\ngoal: g\nagents: [{agent}]\ntasks: [{task}]\n")
    async with ExecutionArchitecture(folder=str(tmp_path)) as house:
        loaded = load_bundle(str(tmp_path / ("r.yaml" if kind == "routine" else "s.yaml")))
        prepared: Any = house.prepare(loaded, {})
        prepared.cancel()
        result = await asyncio.wait_for(prepared.run(), 10)
    assert result.status.value == "cancelled"


def test_a_once_step_that_was_stopped_is_asked_about(vrooli: Shell) -> None:
    text = "steps: [{id: pay, tool: shell, parameters: {command: 'echo x >> paid; sleep 20'}}]"
    process = started(vrooli, "run", str(vrooli.write(text)))
    until((vrooli.folder / "paid").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    said = vrooli("resume", "last", "-o", "json")
    assert (said.code, said.json["error"]["code"]) == (5, "OUTCOME_UNKNOWN")
    assert vrooli("resume", "last", "--assume", "pay=done").code == 0
    assert (vrooli.folder / "paid").read_text() == "x\n"
