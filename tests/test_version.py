"""The version stands in two places; they say the same."""

from __future__ import annotations

import tomllib
from pathlib import Path

from vrooli_cli.model.version import VROOLI


def test_the_version_is_that_of_the_package() -> None:
    data = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert data["project"]["version"] == VROOLI
