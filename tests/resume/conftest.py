"""Calls of `vrooli` in this process, with a store of their own."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vrooli_cli.cli.app import run_command_line
from vrooli_cli.journal import open_store
from vrooli_cli.journal.history import history_of
from vrooli_cli.model.history import RunHistory
from vrooli_cli.model.store import RunRecord


@dataclass
class Said:
    """What one call said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """A folder with a store, and `vrooli` in it."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.store = folder / "journal.db"
        self._capture = capture

    def __call__(self, *argv: str | Path) -> Said:
        self._capture.readouterr()
        code = run_command_line([str(word) for word in argv])
        said = self._capture.readouterr()
        return Said(code, said.out, said.err)

    def write(self, text: str, name: str = "r.yaml") -> Path:
        file = self.folder / name
        file.write_text(text)
        return file

    def history(self, run: str = "last") -> RunHistory:
        with closing(open_store(self.store)) as store:
            return history_of(store, run)

    def runs(self) -> list[RunRecord]:
        with closing(open_store(self.store)) as store:
            return store.runs()


@pytest.fixture
def vrooli(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VROOLI_STORE", str(tmp_path / "journal.db"))
    monkeypatch.setenv("VROOLI_VIEW", "plain")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Shell(tmp_path, capfd)
