"""Every sentence of the routine language as a case: a folder in ``tests/goldens/language`` (see ``story.py``).

A refused file has ``expected.txt``: the problems as they are printed. A run has ``expected.json``. With
``UPDATE_GOLDENS=1`` what is there is written instead of compared; read the difference before keeping it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.language_cases.story import Told, tell

CASES = Path(__file__).parent.parent / "goldens" / "language"
NAMES = sorted(path.name for path in CASES.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_the_case_ends_as_the_specification_says(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "case"
    shutil.copytree(CASES / name, folder)
    told = tell(folder)
    if os.environ.get("UPDATE_GOLDENS"):
        _write(CASES / name, told)
    elif isinstance(told, str):
        assert told == (CASES / name / "expected.txt").read_text()
    else:
        assert told.golden() == json.loads((CASES / name / "expected.json").read_text())


def _write(place: Path, told: Told | str) -> None:
    for old in ("expected.txt", "expected.json"):
        (place / old).unlink(missing_ok=True)
    if isinstance(told, str):
        (place / "expected.txt").write_text(told)
    else:
        text = json.dumps(told.golden(), indent=1, ensure_ascii=False)
        (place / "expected.json").write_text(text + "\n")
