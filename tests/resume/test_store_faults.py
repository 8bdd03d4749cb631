"""A store that cannot be written, or that many want at once: one line, and never success for what is not stored."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.resume.conftest import Shell
from vrooli_cli.journal import open_store

STARTS = int(os.environ.get("VROOLI_STARTS", "10"))

MUCH = """
steps:
  - id: each
    for_each: "{{ range(160) | list }}"
    effects: none
    tool: shell
    parameters: {command: "echo {{ item }}; head -c 3000 /dev/zero | tr '\\\\0' x"}
outputs: {n: "{{ steps.each.result | length }}"}
"""


def test_a_full_disk_is_one_line_and_never_success(vrooli: Shell) -> None:
    """A limit on the size of files stands for the disk: to SQLite both are writes that fail."""
    file = vrooli.write(MUCH)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))

    argv = [sys.executable, "-m", "vrooli_cli", "run", str(file), "-o", "json", "--view", "none", "-j", "2"]
    done = subprocess.run(
        argv, cwd=vrooli.folder, capture_output=True, text=True, preexec_fn=limited, check=False, timeout=50
    )
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert result["success"] is False
    assert result["error"]["code"] == "STORE_ERROR"
    assert "Traceback" not in done.stderr
    listed = vrooli.runs()[0]
    assert listed.status == "failed"
    said = vrooli("resume", "last", "-o", "json")
    assert said.code == 0
    assert said.json["result"] == {"n": 160}


@pytest.mark.parametrize("place", ["/proc/no/journal.db", ".", "no/such/folder/journal.db"])
def test_a_place_that_cannot_be_written_is_one_line(vrooli: Shell, place: str) -> None:
    said = vrooli("run", vrooli.write("steps: [{id: a, tool: echo, parameters: {message: 1}}]"), "--store", place)
    assert said.code == 1
    assert len(said.err.strip().splitlines()) == 1
    assert "the store" in said.err


def test_a_file_that_is_no_store_is_one_line_and_stays_as_it_is(vrooli: Shell) -> None:
    vrooli.store.write_text("my diary, page one\n" * 100)
    for argv in (["runs", "list"], ["resume", "last"], ["report"]):
        said = vrooli(*argv)
        assert said.code == 1
        assert len(said.err.strip().splitlines()) == 1
    assert vrooli.store.read_text().startswith("my diary")


def test_many_processes_start_in_one_new_store_at_once(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("steps: [{id: a, tool: echo, parameters: {message: 1}}, {id: b, depends_on: [a], wait: 5ms}]")
    script = Path(__file__).with_name("killer.py")
    argv = [sys.executable, str(script), str(tmp_path), str(file), str(STARTS), "together"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=50)
    told = json.loads(done.stdout)
    assert told == {"codes": [0] * STARTS, "said": []}
    with closing(open_store(tmp_path / "journal.db")) as store:
        runs = store.runs()
        assert len(runs) == STARTS
        assert {run.status for run in runs} == {"completed"}
        events = {run.id: sum(1 for _ in store.read(store.find(run.id)[0])) for run in runs}
    assert len(set(events.values())) == 1
