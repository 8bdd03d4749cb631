"""Knowledge: files in a full-text index, found by words, with the place of every excerpt."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrooli_cli.errors import DefinitionError
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.tier1.knowledge import CHUNK_LETTERS, KnowledgeBase, chunks


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_an_excerpt_names_its_file_and_line(tmp_path: Path) -> None:
    long = "\n".join(f"Nothing of note on line {n}, really nothing at all." for n in range(60))
    write(tmp_path, docs__a_dot_md=f"{long}\n\n# Whales\n\nA whale is a mammal.\n", docs__b_dot_md="Sharks are fish.\n")
    base = KnowledgeBase.of_files(["docs/*.md"], tmp_path)
    (best, *_) = base.search("Which animals are mammals, whales?", 3)
    assert best.source == "docs/a.md:62"
    assert "A whale is a mammal." in best.text
    assert base.search("shark")[0].source == "docs/b.md:1"
    base.close()


def test_folders_and_globs_name_files_and_binary_ones_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, docs__x__a_dot_txt="alpha", docs__b_dot_txt="beta")
    (tmp_path / "docs" / "c.bin").write_bytes(b"gamma\0\1\2")
    assert KnowledgeBase.of_files(["docs"], tmp_path).files == ["docs/b.txt", "docs/x/a.txt"]
    assert KnowledgeBase.of_files(["docs/**/*.txt", "docs/b.txt"], tmp_path).files == ["docs/b.txt", "docs/x/a.txt"]


def test_a_pattern_without_a_file_is_a_problem_with_its_place(tmp_path: Path) -> None:
    write(tmp_path, a_dot_md="x")
    (tmp_path / "s.yaml").write_text("goal: g\nagents: [{id: a, capabilities: [c]}]\nknowledge: [a.md, none/*.md]\n")
    with pytest.raises(DefinitionError) as raised:
        load_bundle(tmp_path / "s.yaml")
    (problem,) = raised.value.problems
    assert (problem.line, problem.message) == (3, "no file is 'none/*.md'")


@settings(max_examples=100, deadline=None)
@given(st.text(), st.integers(-1, 5))
def test_no_query_is_an_error(query: str, limit: int) -> None:
    base = KnowledgeBase()
    base.add("a.md", "some words to be found AND NOT near *")
    assert len(base.search(query, limit)) <= max(limit, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"), max_size=300)))
def test_every_line_is_in_a_chunk_that_is_not_too_long(lines: list[str]) -> None:
    found = list(chunks("\n".join(lines)))
    assert all(len(text) <= CHUNK_LETTERS + 1 for _, text in found)
    assert [n for n, _ in found] == sorted(n for n, _ in found)
    whole = "\n".join(text for _, text in found)
    assert all(line.strip() in whole for line in lines)
