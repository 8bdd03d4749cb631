"""What holds for every test: no real model, no history of this machine, no deadline that a busy machine breaks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the person who runs the tests: no key, no store, no settings."""
    for name in [name for name in os.environ if name.startswith(("VROOLI_", "OPENAI_", "OTEL_", "TRACE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(_state(tmp_path_factory)))
    _reap()


def _state(factory: pytest.TempPathFactory) -> Path:
    return factory.getbasetemp() / "state"


def _reap() -> None:
    """Orphans of processes that an earlier test killed: once a test has run commands, this process inherits them."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
