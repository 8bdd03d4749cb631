"""The documentation is true: files are valid, commands print what is said, the reference is the program's own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scripts import reference
from tests.docs.pages import DOCS, ROOT, Block, Place, blocks, matches, new_zygote, pages

_STEP = "\nsteps:\n  - {id: only, tool: echo, parameters: {message: hi}}\n"


@pytest.fixture(scope="module")
def zygote() -> Iterator[subprocess.Popen[str]]:
    """One warm process for all pages."""
    process = new_zygote()
    yield process
    assert process.stdin and process.stdout
    process.stdin.close()
    process.wait(timeout=20)
    process.stdout.close()


@pytest.fixture
def place(tmp_path: Path, zygote: subprocess.Popen[str]) -> Place:
    """An empty folder."""
    return Place(tmp_path, zygote)


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(DOCS)))
def test_every_file_is_valid_and_every_command_prints_what_the_page_says(page: Path, place: Place) -> None:
    if page.stem == "mcp":
        pytest.importorskip("mcp")
    name = page.relative_to(ROOT)
    start, files = place.folder, []
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.title:
            place.write(block.title, block.body)
        if block.lang == "yaml" and _is_valid(block):
            files.append(block.title or f"line-{block.line}.yaml")
            (start / files[-1]).write_text(block.body + (_STEP if block.mark == "part" else ""), encoding="utf-8")
        elif block.lang == "console" and not block.mark.startswith("not run"):
            _check_commands(block, place, f"{name}:{block.line}")
    place.folder = start
    printed = place.run(f"vrooli validate {' '.join(files)}", stderr=True) if files else ""
    assert (place.code, printed) == (0, ""), name


def _is_valid(block: Block) -> bool:
    """Not one that is wrong on purpose, and a routine: no project, tool, cassette, nor a workflow of GitHub's."""
    data = yaml.safe_load(block.body)
    another = block.title == "vrooli.yaml" or {"jobs", "command", "cassette"} & data.keys()
    return block.mark != "not valid" and not another


def _check_commands(block: Block, place: Place, where: str) -> None:
    expected_code = False
    for command, expected in block.commands:
        if command != "echo $?":
            assert not expected_code or place.code == 0, f"{where}: the exit code {place.code} is not shown"
        printed = place.run(command, stderr=block.mark == "stderr")
        assert matches(expected, printed), f"{where}: $ {command}\n{printed}"
        expected_code = True
    assert place.code == 0, f"{where}: the exit code {place.code} is not shown"


def test_the_reference_is_what_the_program_says_now() -> None:
    made = reference.pages()
    committed = {path.name: path.read_text(encoding="utf-8") for path in reference.FOLDER.glob("*.md")}
    stale = sorted(name for name in made.keys() | committed.keys() if made.get(name) != committed.get(name))
    assert stale == [], "write them again with `make docs`"


def test_every_page_stands_in_the_contents() -> None:
    contents = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert contents == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


def test_a_wildcard_stands_for_text_of_a_line_or_for_lines() -> None:
    assert matches("run …: done\n…\nend\n", "run 1a: done\na\nb\nend\n")
    assert matches("a\n", "a")
    assert not matches("run …\nend\n", "run a\nb\nend\n")
    assert not matches("a\n", "b\n")
