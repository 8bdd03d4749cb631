"""Good files, broken at random: whatever comes of it, only problems with a place come out, and quickly."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mistakes.test_places import problems_of

ROUTINES = sorted((Path(__file__).parents[2] / "routines").glob("*.yaml"))
MARKS = [
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "  ",
    "\t",
    "'",
    '"',
    "|",
    "&a ",
    "*a",
    "!x ",
    "{{",
    "}}",
    "{%",
    "#",
    "---\n",
]
WORDS = [
    "null",
    "1e999",
    "9" * 400,
    "a" * 3000,
    "steps:",
    "depends_on: [a]",
    "for_each: 5",
    "retry: {on: 1}",
    "when: '{{'",
]
ODD = [
    "\x00",
    "\x07",
    "\u202e",
    "\ufeff",
    "\r",
    "\\",
    "$(",
    "? ",
    "@",
    "%",
    "<<: ",
    "{{ steps.a.result }}",
    "{{ [0]*10**9 }}",
]
PIECES = st.sampled_from([*MARKS, *WORDS, *ODD])
Edits = list[tuple[float, int, int, str]]


def mutated(text: str, edits: Edits) -> str:
    """Pieces put in, taken out and repeated."""
    for place, length, times, piece in edits:
        at = int(place * len(text))
        text = text[:at] + piece + text[at : at + length] * (times - 1) + text[at + length :]
    return text


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=st.sampled_from(ROUTINES),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.integers(1, 4), PIECES), min_size=1, max_size=6),
)
def test_a_broken_file_gives_placed_problems_and_nothing_else(source: Path, edits: Edits, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    text = mutated(source.read_text(), edits)
    file.write_text(text)
    began = time.perf_counter()
    problems = problems_of(file)
    assert time.perf_counter() - began < 5
    lines = text.count("\n") + text.count("\r") + 1
    for problem in problems:
        if problem.file in (str(file), file.name):
            assert 1 <= problem.line <= lines, str(problem)
            assert problem.column >= 1
        assert problem.message == problem.message.strip()
        assert all(char.isprintable() for char in problem.message + problem.hint), repr(problem)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_line_end_gives_the_same_place(encoding: str, end: str, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes("steps:\n  - id: a\n    tol: é\n".replace("\n", end).encode(encoding))
    found = [(problem.line, problem.column) for problem in problems_of(file)]
    assert (3, 5) in found
