"""A clean desk for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ai_cli.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty folder with a history of its own."""
    return Desk(tmp_path)
