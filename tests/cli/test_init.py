"""``vrooli init``: what it writes runs and tests at once, in an empty folder, from an installed wheel, with no key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
VROOLI = str(Path(sys.executable).with_name("vrooli"))


def vrooli(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command as a process, with no key in its environment."""
    environment = {name: value for name, value in os.environ.items() if "KEY" not in name and "TOKEN" not in name}
    environment |= {"VROOLI_STORE": str(folder / ".store.db"), "NO_COLOR": "1"}
    command = [VROOLI, *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False, encoding="utf-8"
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project."""
    folder = tmp_path_factory.mktemp("empty")
    done = vrooli("init", folder=folder)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("Next:\n  vrooli run words\n  vrooli test\n")
    return folder


def test_a_fresh_project_runs_tests_and_is_valid(project: Path) -> None:
    run = vrooli("run", "words", folder=project)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("Most frequent in README.md:\n")
    assert " × vrooli\n" in run.stdout
    test = vrooli("test", folder=project)
    assert test.returncode == 0, test.stdout
    assert test.stdout.count("ok ") == 2
    files = sorted(str(path.relative_to(project)) for path in (project / "routines").iterdir())
    valid = vrooli("validate", *files, folder=project)
    assert (valid.returncode, valid.stdout, valid.stderr) == (0, "", "")


def test_the_headers_name_schemas_that_another_validator_takes(project: Path) -> None:
    for path in [project / "vrooli.yaml", *(project / "routines").iterdir()]:
        head = path.read_text().splitlines()[0]
        assert head.startswith("# yaml-language-server: $schema=")
        schema = json.loads((path.parent / head.partition("$schema=")[2]).read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        data = yaml.safe_load(path.read_text())
        validator.validate(data)
        assert list(validator.iter_errors({**data, "no_such_key": 1}))


def test_what_is_there_is_kept(project: Path, tmp_path: Path) -> None:
    (tmp_path / "vrooli.yaml").write_text("# mine\n")
    (tmp_path / "README.md").write_text("mine\n")
    done = vrooli("init", ".", folder=tmp_path)
    assert done.returncode == 0
    assert "kept  vrooli.yaml, which was there\n" in done.stderr
    assert (tmp_path / "vrooli.yaml").read_text() == "# mine\n"
    assert (tmp_path / "README.md").read_text() == "mine\n"
    assert (tmp_path / "routines" / "words.yaml").is_file()


def test_a_place_that_cannot_hold_a_project_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = vrooli("init", "file", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "vrooli: file cannot be written: file exists\n"
    there = vrooli("init", "a b/c", folder=tmp_path)
    assert "  cd 'a b/c' && vrooli run words\n" in there.stderr


def test_the_wheel_holds_the_templates(tmp_path: Path) -> None:
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    pytest.importorskip("hatchling", reason="the build backend is not installed here")
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = zipfile.ZipFile(tmp_path / done.stdout.split()[-1]).namelist()
    for path in (ROOT / "vrooli_cli" / "templates").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert str(path.relative_to(ROOT)) in names
