"""Runs that pay for every call, ended by ``kill -9``, SIGINT and SIGTERM at any event, against an endpoint's books."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("VROOLI_KILLS", "0"))
"""Set for a long search: so many kills of every kind, with 200 steps in the fan-out."""
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(24 * 3600 if KILLS else 90)
def test_no_call_whose_answer_was_told_is_paid_again(tmp_path: Path) -> None:
    kinds = "fan-out,nested,swarm" + (",once,gates" if KILLS else "")
    argv = [sys.executable, "-m", "tests.resume.paid", str(tmp_path), kinds, str(KILLS or 2), str(200 if KILLS else 6)]
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(argv, capture_output=True, text=True, env=environ, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert {kind: one["wrong"] for kind, one in told.items()} == {kind: [] for kind in kinds.split(",")}
    assert sum(one["killed"] for one in told.values()) >= (KILLS or 2) * len(told) * 0.7, (
        "some end before they are killed"
    )
