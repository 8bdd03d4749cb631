"""The cassettes beside the routines are what a recording gives today, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.ai_cli.desk import ROOT, Desk
from tests.ai_cli.record import CASSETTES, INPUTS, recorded


@pytest.mark.parametrize("name", INPUTS)
def test_a_recording_made_now_is_the_cassette_that_is_kept(name: str, desk: Desk) -> None:
    done = recorded(name, desk.folder / "new.yaml", desk)
    assert done.code == 0, done.err
    assert (desk.folder / "new.yaml").read_bytes() == (CASSETTES / f"{name}.yaml").read_bytes()


def test_cassettes_hold_nothing_of_the_machine_that_made_them() -> None:
    for cassette in CASSETTES.glob("*.yaml"):
        text = cassette.read_text()
        assert str(ROOT) not in text
        assert not re.search(r"/tmp/|/home/|/root/|127\.0\.0\.1", text)
        assert Path(ROOT / "routines" / cassette.name).is_file()
