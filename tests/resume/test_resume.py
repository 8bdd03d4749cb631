"""`vrooli resume`, `approve`, `reject`: a run goes on under its own id and recorded definition."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.resume.conftest import Shell
from vrooli_cli.journal import open_store

GATED = """
inputs: {who: {type: string, default: me}}
steps:
  - {id: a, tool: shell, parameters: {command: "echo x >> a.marks; echo {{ who }}"}}
  - id: gate
    effects: idempotent
    tool: shell
    parameters: {command: "test -e open || exit 3; echo through"}
  - {id: c, tool: echo, parameters: {message: "{{ steps.a.result.stdout }}{{ steps.gate.result.stdout }}"}}
outputs: {all: "{{ steps.c.result }}"}
"""
ASKING = """
steps:
  - {id: before, tool: echo, parameters: {message: 1}}
  - id: each
    for_each: [x, y]
    parallel:
      - {id: ask, approval: "may {{ item }}?"}
  - {id: after, tool: echo, parameters: {message: "{{ steps.each.result }}"}}
outputs: {all: "{{ steps.after.result }}"}
"""


def test_a_failed_run_goes_on_and_repeats_nothing_that_completed(vrooli: Shell) -> None:
    assert vrooli("run", vrooli.write(GATED)).code == 1
    (vrooli.folder / "open").touch()
    said = vrooli("resume", "last", "-o", "json")
    assert said.code == 0
    assert said.json["result"] == {"all": "me\nthrough\n"}
    assert said.json["steps"]["a"]["reused"] is True
    assert said.json["steps"]["gate"]["reused"] is False
    assert (vrooli.folder / "a.marks").read_text() == "x\n"
    assert len(vrooli.runs()) == 1


def test_what_goes_on_inside_a_group_or_loop_is_an_attempt_of_this_life(vrooli: Shell) -> None:
    gate = "{id: gate, effects: idempotent, tool: shell, parameters: {command: 'sleep 0.1; test -e open'}}"
    loop = gate.replace("id: gate", "id: loop, needs: [g], for_each: [1, 2]")
    vrooli("run", vrooli.write(f"steps:\n  - id: g\n    parallel: [{gate}]\n  - {loop}\n"))
    (vrooli.folder / "open").touch()
    steps = vrooli("resume", "last", "-o", "json").json["steps"]
    for name in ("g", "loop"):
        assert steps[name]["attempts"] == 1
        assert 100 <= steps[name]["duration_ms"] < 10_000


def test_the_definition_is_the_recorded_one_and_needs_no_file(vrooli: Shell) -> None:
    file = vrooli.write(GATED)
    vrooli("run", file, "-i", "who=you")
    file.unlink()
    (vrooli.folder / "open").touch()
    assert vrooli("resume", "last").out == "you\nthrough\n"


def test_relative_paths_start_where_the_run_began(vrooli: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    vrooli("run", vrooli.write(GATED))
    (vrooli.folder / "open").touch()
    (vrooli.folder / "elsewhere").mkdir()
    monkeypatch.chdir(vrooli.folder / "elsewhere")
    assert vrooli("resume", "last").code == 0


def test_a_completed_run_prints_its_result_again(vrooli: Shell) -> None:
    (vrooli.folder / "open").touch()
    first = vrooli("run", vrooli.write(GATED), "-o", "json").json
    again = vrooli("resume", "last", "-o", "json")
    assert again.code == 0
    assert again.json == first
    assert vrooli("resume", "last").out == "me\nthrough\n"
    assert vrooli("resume", "last", "--field", "all").out == "me\nthrough\n"


@pytest.mark.parametrize("verb", ["resume", "approve", "reject"])
def test_an_unknown_run_is_a_usage_error(vrooli: Shell, verb: str) -> None:
    said = vrooli(verb, "nope", *(() if verb == "resume" else ("s",)))
    assert said.code == 2
    assert "no run has the id 'nope'" in said.err


def test_approvals_in_loops_and_groups_are_given_later(vrooli: Shell) -> None:
    said = vrooli("run", vrooli.write(ASKING), "--no-input", "-o", "json")
    assert said.code == 5
    assert said.json["status"] == "suspended"
    assert said.json["error"]["code"] == "APPROVAL_REQUIRED"
    assert "vrooli approve" in said.err
    assert vrooli("approve", "last", "each[0]/ask", "--comment", "fine").code == 0
    said = vrooli("resume", "last", "--no-input")
    assert said.code == 5
    said = vrooli("approve", "last", "each[1]/ask", "--resume", "-o", "json")
    assert said.code == 0
    comments = [one["ask"]["comment"] for one in said.json["result"]["all"]]
    assert comments == ["fine", None]


def test_a_rejection_fails_the_step(vrooli: Shell) -> None:
    vrooli("run", vrooli.write("steps: [{id: ask, approval: sure?}]"), "--no-input")
    said = vrooli("reject", "last", "ask", "--comment", "no", "--resume", "-o", "json")
    assert said.code == 3
    assert said.json["error"]["code"] == "APPROVAL_DENIED"


def test_only_what_waits_can_be_approved(vrooli: Shell) -> None:
    vrooli("run", vrooli.write(ASKING), "--no-input")
    said = vrooli("approve", "last", "each[0]/asc")
    assert said.code == 2
    assert "did you mean 'each[0]/ask'?" in said.err
    (vrooli.folder / "open").touch()
    vrooli("run", vrooli.write(GATED))
    assert "no approval is open" in vrooli("approve", "last", "a").err


def test_limits_of_a_resume_are_its_own(vrooli: Shell) -> None:
    file = vrooli.write("steps: [{id: a, effects: none, tool: shell, parameters: {command: sleep 0.6}}]")
    assert vrooli("run", file, "--timeout", "100ms").code == 124
    assert vrooli("resume", "last", "--timeout", "200ms").code == 124
    assert vrooli("resume", "last", "--timeout", "20s").code == 0


def test_the_time_of_all_lives_counts(vrooli: Shell) -> None:
    text = "allocation: {max_duration: 300ms}\nsteps: [{id: a, wait: 200ms}, {id: b, tool: fail}]"
    file = vrooli.write(text.replace("{id: b", "{id: b, depends_on: [a]"))
    assert vrooli("run", file).code == 1
    first = vrooli.history().active_ns
    assert vrooli("resume", "last").code == 1
    assert vrooli.history().active_ns >= first
    assert first >= 190_000_000


def test_a_secret_is_asked_for_again_and_never_stored(vrooli: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GATED.replace("who: {type: string, default: me}", "who: {type: string, secret: true, env: WHO}")
    text = (
        text.replace("echo {{ who }}", 'echo "$W"')
        .replace("a.marks; ", "a.marks; ")
        .replace('a.marks; echo "$W""}', 'a.marks; echo $W", env: {W: "{{ who }}"}}')
    )
    assert vrooli("run", vrooli.write(text), "-i", "who=canary-9f3").code == 1
    (vrooli.folder / "open").touch()
    missing = vrooli("resume", "last", "--no-input")
    assert missing.code == 2
    assert "'who'" in missing.err
    monkeypatch.setenv("WHO", "canary-9f3")
    said = vrooli("resume", "last", "-o", "json", "--no-input")
    assert said.code == 0
    assert said.json["result"] == {"all": "***\nthrough\n"}
    assert "inputs of" not in said.err
    refused = vrooli("resume", "last", "-i", "other=1")
    assert refused.code == 0  # it has completed: nothing is asked


# --- processes that die ----------------------------------------------------------------------------------------------


def started(vrooli: Shell, *argv: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vrooli_cli", *argv]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=vrooli.folder)


def until(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


ONCE = """
steps:
  - {id: a, tool: echo, parameters: {message: 1}}
  - id: pay
    depends_on: [a]
    tool: shell
    parameters: {command: "echo $$ > pid; echo x >> paid; test -e quick || exec sleep 30"}
  - {id: b, tool: echo, parameters: {message: "{{ steps.pay.result }}"}}
"""


@pytest.mark.parametrize(("word", "code", "paid"), [("done", 0, 1), ("failed", 1, 1), ("rerun", 0, 2)])
def test_a_once_step_in_flight_is_unknown_until_somebody_says(vrooli: Shell, word: str, code: int, paid: int) -> None:
    process = started(vrooli, "run", str(vrooli.write(ONCE)))
    until((vrooli.folder / "paid").exists)
    assert vrooli("resume", "last").code == 2  # it is alive
    process.send_signal(signal.SIGKILL)
    process.communicate()
    os.kill(int((vrooli.folder / "pid").read_text()), signal.SIGKILL)
    listed = vrooli.runs()[0]
    assert (listed.status, listed.error_code) == ("failed", "INTERRUPTED")
    said = vrooli("resume", "last", "-o", "json")
    assert said.code == 5
    assert said.json["error"]["code"] == "OUTCOME_UNKNOWN"
    assert re.search(r"vrooli resume \S+ --assume pay=done", said.err)
    assert vrooli("approve", "last", "pay").code == 2
    (vrooli.folder / "quick").touch()
    said = vrooli("resume", "last", "--assume", f"pay={word}")
    assert said.code == code
    assert len((vrooli.folder / "paid").read_text().splitlines()) == paid


def test_assume_is_only_for_what_is_unknown(vrooli: Shell) -> None:
    vrooli("run", vrooli.write(GATED))
    assert "no step's outcome is unknown" in vrooli("resume", "last", "--assume", "gate=done").err
    assert "expected done, failed, rerun" in vrooli("resume", "last", "--assume", "gate=maybe").err


def test_a_run_at_work_takes_answers_and_a_cancel_from_another_process(vrooli: Shell) -> None:
    text = "steps: [{id: slow, wait: 60s}, {id: ask, approval: {prompt: sure?, timeout: 50s}}]"
    process = started(vrooli, "run", str(vrooli.write(text)), "--no-input", "-o", "json")
    until(lambda: vrooli.store.exists() and vrooli.runs())
    until(lambda: "ask" in vrooli.history().asked)
    said = vrooli("approve", "last", "ask")
    assert said.code == 0
    assert "within a second" in said.err
    until(lambda: (step := vrooli.history().steps.get("ask")) is not None and step.status == "completed")
    with closing(open_store(vrooli.store)) as store:
        store.send(vrooli.runs()[0].id, {"do": "cancel"})
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert '"approved": true' in out


def test_a_run_is_never_resumed_by_two(vrooli: Shell) -> None:
    text = "steps: [{id: slow, effects: none, tool: shell, parameters: {command: sleep 2}}, {id: f, tool: fail}]"
    vrooli("run", vrooli.write(text.replace("{id: f", "{id: f, depends_on: [slow]").replace("sleep 2", "exit 1")))
    many = [started(vrooli, "resume", "last") for _ in range(3)]
    for process in many:
        process.communicate(timeout=30)
    codes = [process.returncode for process in many]
    assert 1 in codes
    assert set(codes) <= {1, 2}
    assert vrooli.history().lives - 1 == codes.count(1)


def test_a_dead_store_is_told_in_one_line(vrooli: Shell) -> None:
    vrooli("run", vrooli.write(GATED))
    data = bytearray(vrooli.store.read_bytes())
    data[:100] = b"\xff" * 100
    vrooli.store.write_bytes(bytes(data))
    for leftover in vrooli.folder.glob("journal.db-*"):
        leftover.unlink()
    said = vrooli("resume", "last")
    assert said.code == 1
    assert len(said.err.strip().splitlines()) == 1


def test_a_work_folder_waits_for_the_run_to_complete(vrooli: Shell) -> None:
    text = """
steps:
  - {id: a, tool: shell, parameters: {command: 'echo kept > "$D/x"', env: {D: "{{ run.work_dir }}"}}}
  - {id: gate, depends_on: [a], effects: none, tool: shell, parameters: {command: "test -e open"}}
  - {id: b, tool: shell, parameters: {command: ["cat", "{{ run.work_dir }}/x"]}, depends_on: [gate]}
outputs: {x: "{{ steps.b.result.stdout }}", d: "{{ run.work_dir }}"}
"""
    assert vrooli("run", vrooli.write(text)).code == 1
    (vrooli.folder / "open").touch()
    said = vrooli("resume", "last", "-o", "json")
    assert said.json["result"]["x"] == "kept\n"
    assert not Path(said.json["result"]["d"]).exists()
