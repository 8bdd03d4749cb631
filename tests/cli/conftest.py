"""The command line as a process, and, where no process is needed, as a function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vrooli_cli.cli.app import run_command_line

VROOLI = (sys.executable, "-m", "vrooli_cli")
ECHO: dict[str, Any] = {"id": "a", "tool": "echo", "parameters": {"message": "hi"}}


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """stdout as NDJSON."""
        return [json.loads(line) for line in self.out.splitlines()]


Call = Callable[..., Done]
Write = Callable[..., str]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A clean environment, with a history of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VROOLI_", "GITHUB_", "CI"))}
    kept |= {"VROOLI_STORE": str(folder / "store.db"), "XDG_STATE_HOME": str(folder / "state"), "NO_COLOR": "1"}
    return {**kept, **more}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one, with the environment of a clean machine."""
    for name in os.environ:
        if name.startswith(("VROOLI_", "GITHUB_", "CI", "FORCE_COLOR")):
            monkeypatch.delenv(name)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes a routine; its name is what is passed on."""

    def write(name: str, steps: list[dict[str, Any]] | str, **top: Any) -> str:
        text = steps if isinstance(steps, str) else json.dumps({"name": Path(name).stem, **top, "steps": steps})
        (folder / name).write_text(text)
        return name

    return write


@pytest.fixture
def call(folder: Path, capfd: pytest.CaptureFixture[str]) -> Call:
    """A command line in this process; everything but signals, ptys and pipes."""

    def call(*words: object) -> Done:
        capfd.readouterr()
        code = run_command_line([str(word) for word in words])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Done(code, out, err)

    return call


@pytest.fixture
def process(folder: Path) -> Call:
    """A command line as a process of its own."""

    def process(*words: object, stdin: str = "", **more: str) -> Done:
        command = [*VROOLI, *map(str, words)]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(folder, **more),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return process
