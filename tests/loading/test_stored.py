"""A bundle read again from what a run's record holds: the same world, with no file on disk."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from vrooli_cli.errors import DefinitionError
from vrooli_cli.loading.bundle import LoadedBundle, load_bundle, load_stored
from vrooli_cli.model.routine import Bundle

MAIN = """
steps:
  - {id: a, routine: child, with: {x: 1}}
  - {id: b, routine: ./beside/other.yaml}
  - {id: c, tool: echo, parameters: {message: "{{ steps.a.result }}"}}
"""


def recorded(loaded: LoadedBundle) -> dict[str, object]:
    return {"texts": dict(loaded.bundle.texts), **loaded.bundle.origin}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "routines").mkdir()
    (tmp_path / "beside").mkdir()
    (tmp_path / "vrooli.yaml").write_text("permissions: {deny: ['http(*)']}\n")
    (tmp_path / "main.yaml").write_text(MAIN)
    (tmp_path / "routines" / "child.yaml").write_text("inputs: {x: {type: integer}}\nsteps: [{id: s, wait: 1ms}]")
    (tmp_path / "beside" / "other.yaml").write_text("steps: [{id: s, routine: ./deep.yaml}]")
    (tmp_path / "beside" / "deep.yaml").write_text("steps: [{id: s, wait: 1ms}]")
    return tmp_path


def test_the_record_gives_the_same_bundle_when_every_file_is_gone(files: Path) -> None:
    loaded = load_bundle(files / "main.yaml")
    shutil.rmtree(files)
    again = load_stored(recorded(loaded))
    assert again.bundle == loaded.bundle
    assert again.project.permissions == loaded.project.permissions
    assert again.main == loaded.main
    assert again.sources[again.main].locate(("steps", 2)) == loaded.sources[loaded.main].locate(("steps", 2))


def test_the_record_is_not_changed_by_a_file_that_was_edited(files: Path) -> None:
    loaded = load_bundle(files / "main.yaml")
    (files / "routines" / "child.yaml").write_text("steps: [{id: other, wait: 1ms}]")
    again = load_stored(recorded(loaded)).bundle
    assert isinstance(again, Bundle)
    assert isinstance(loaded.bundle, Bundle)
    assert again.routines == loaded.bundle.routines


def test_a_routine_from_stdin_is_recorded_too() -> None:
    loaded = load_bundle("-", stdin=b"steps: [{id: a, wait: 1ms}]")
    assert load_stored(recorded(loaded)).bundle == loaded.bundle


@pytest.mark.parametrize("missing", ["main", "texts"])
def test_a_run_without_a_file_says_so(files: Path, missing: str) -> None:
    definition = recorded(load_bundle(files / "main.yaml"))
    del definition[missing]
    with pytest.raises(DefinitionError, match="not recorded"):
        load_stored(definition)


def test_a_record_that_lost_a_file_names_it(files: Path) -> None:
    loaded = load_bundle(files / "main.yaml")
    texts = {key: text for key, text in loaded.bundle.texts.items() if "child" not in key}
    with pytest.raises(DefinitionError, match="does not hold 'child'"):
        load_stored(recorded(replace(loaded, bundle=replace(loaded.bundle, texts=texts))))
