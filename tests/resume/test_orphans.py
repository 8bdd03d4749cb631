"""Commands that outlive a run whose process was killed: told, ended when that is asked for, not mistaken for others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from tests.resume.conftest import Shell
from vrooli_cli.journal import open_store
from vrooli_cli.tier3 import orphans, proctable
from vrooli_cli.tier3.processes import AtWork

T = TypeVar("T")
SLEEPS_ONCE = """
steps:
  - id: long
    tool: shell
    effects: idempotent
    parameters: {command: "test -e second || { touch second; sleep 60 & exec sleep 60; }"}
"""


@pytest.fixture
def killed(vrooli: Shell) -> Iterator[int]:
    """The session of a command whose vrooli was killed while it ran."""
    argv = [sys.executable, "-m", "vrooli_cli", "run", str(vrooli.write(SLEEPS_ONCE)), "--view", "none"]
    process = subprocess.Popen(argv, cwd=vrooli.folder)
    (lease,) = _wait_for(lambda: [one for one in _leases(vrooli) if one.read_bytes().endswith(b"\n")])
    _wait_for(lambda: (vrooli.folder / "second").exists())
    process.kill()
    process.wait()
    (command,) = orphans.living(lease.read_bytes())
    assert (command.step, command.program) == ("long", "sh")
    yield command.session
    with suppress(ProcessLookupError):
        os.killpg(command.session, signal.SIGKILL)


def _leases(vrooli: Shell) -> list[Path]:
    return list(Path(f"{vrooli.store}.locks").glob("[!.]*"))


def _wait_for(look: Callable[[], T]) -> T:
    end = time.monotonic() + 20
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def _lives(session: int) -> bool:
    return any(one.session == session and not one.zombie for one in proctable.table().values())


def test_what_a_killed_run_has_left_at_work_is_told(vrooli: Shell, killed: int) -> None:
    said = vrooli("resume", "last", "--view", "none")
    assert said.code == 0
    assert f"sh of the step long (process group {killed}) is still at work" in said.err
    assert f"kill -- -{killed}" in said.err
    assert _lives(killed)
    assert _leases(vrooli) == []


def test_it_is_ended_when_that_is_asked_for(vrooli: Shell, killed: int) -> None:
    said = vrooli("resume", "last", "--view", "none", "--kill-orphans")
    assert said.code == 0
    assert f"ended what the run had left behind: sh of the step long (process group {killed})" in said.err
    assert not _lives(killed)


def test_it_is_still_known_when_the_next_process_is_killed_too(vrooli: Shell, killed: int) -> None:
    store = open_store(vrooli.store)
    run = store.runs()[0].id
    lease = store.lease(run)
    assert lease is not None
    lease.note(orphans.note([AtWork(1, 1.0, "another", "sh")]))
    assert [one.session for one in orphans.living(store.notes(run))] == [killed]
    lease.release()
    store.close()


@pytest.mark.parametrize("ignores", [False, True])
def test_whoever_ignores_term_is_killed(ignores: bool) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    argv = [sys.executable, "-c", script] if ignores else ["sh", "-c", "echo; sleep 60"]
    with subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = proctable.look_up(process.pid)
        assert found is not None
        assert orphans.end([AtWork(process.pid, found.start, "s", "sh")], grace=0.2) == []
        assert process.wait() in (-signal.SIGTERM, -signal.SIGKILL)


def test_another_process_of_the_same_number_is_not_touched() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        found = proctable.look_up(process.pid)
        assert found is not None
        one = AtWork(process.pid, found.start, "s", "sleep")
        notes = orphans.note([one])
        assert orphans.living(notes) == [one]
        earlier = orphans.note([one._replace(start=found.start - 1)])
        of_another_boot = notes.replace(notes.rstrip(b'"]\n')[-12:], b"0" * 12)
        half = notes[: len(notes) // 2]
        assert [orphans.living(text) for text in (earlier, of_another_boot, half, b"", b"7\nnull\n")] == [[]] * 5
        process.kill()


def test_no_secret_is_noted(vrooli: Shell) -> None:
    file = vrooli.write("""
inputs: {token: {type: string, secret: true}}
steps:
  - id: each
    for_each: {items: ["{{ token }}"], key: "{{ item }}"}
    tool: shell
    parameters: {command: "until grep -s each journal.db.locks/* > seen; do sleep 0.01; done"}
""")
    assert vrooli("run", file, "-i", "token=canary-0815").code == 0
    seen = (vrooli.folder / "seen").read_text()
    assert "each[***]" in seen
    assert "canary-0815" not in seen
