"""Processes that die by ``kill -9``, at every commit, and runs that go on as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("VROOLI_KILLS", "0"))
"""Set for a long search: so many kills of every file, with 200 steps in the fan-out."""
STEPS = 200 if KILLS else 14

MARK = 'echo x >> "$FOLDER/$NAME"; echo "$NAME-$VALUE"'


def marked(name: str, value: str = "1") -> dict[str, Any]:
    """A tool call that leaves a line in a file of its address each time."""
    return {
        "tool": "shell",
        "effects": "idempotent",
        "parameters": {"command": MARK, "env": {"FOLDER": "{{ folder }}", "NAME": name, "VALUE": value}},
    }


FAN_OUT = {
    "inputs": {"folder": {"type": "string"}},
    "allocation": {"max_concurrent_steps": 4},
    "steps": [
        *({"id": f"s{n}", **marked(f"s{n}")} for n in range(STEPS)),
        {
            "id": "join",
            "tool": "echo",
            "parameters": {"message": [f"{{{{ steps.s{n}.result.stdout }}}}" for n in range(STEPS)]},
        },
    ],
    "outputs": {"all": "{{ steps.join.result }}"},
}

NESTED = {
    "inputs": {"folder": {"type": "string"}},
    "allocation": {"max_concurrent_steps": 3},
    "vars": {"seen": 0},
    "steps": [
        {"id": "first", **marked("first"), "set": {"seen": 5}, "export": {"k": "{{ result.stdout }}"}},
        {
            "id": "outer",
            "for_each": {"items": ["a", "b", "c"], "key": "{{ item }}"},
            "depends_on": ["first"],
            "parallel": [
                {
                    "id": "inner",
                    "for_each": {"items": [1, 2], "as": "n"},
                    **marked("outer[{{ item }}]-inner[{{ n - 1 }}]", "{{ vars.seen }}"),
                },
                {
                    "id": "poll",
                    "repeat": {"until": "iteration >= 2", "max": 4},
                    "tool": "echo",
                    "parameters": {"message": "{{ item }}{{ iteration }}"},
                },
            ],
        },
        {"id": "last", "tool": "echo", "parameters": {"message": "{{ [steps.outer.result, blackboard.k] }}"}},
    ],
    "handlers": {"finally": [{"id": "end", **marked("handlers.finally-end")}]},
    "outputs": {"all": "{{ steps.last.result }}", "seen": "{{ vars.seen }}"},
}


@pytest.mark.timeout(3600 if KILLS else 60)
@pytest.mark.parametrize(("routine", "kills"), [(FAN_OUT, 8), (NESTED, 8)], ids=["fan-out", "nested"])
def test_a_run_that_is_killed_at_any_commit_loses_and_repeats_nothing(
    tmp_path: Path, routine: dict[str, Any], kills: int
) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(json.dumps(routine))
    script = Path(__file__).with_name("killer.py")
    argv = [sys.executable, str(script), str(tmp_path), str(file), str(KILLS or kills)]
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(argv, capture_output=True, text=True, env=environ, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    assert told["killed"] >= (KILLS or kills) * 0.9
