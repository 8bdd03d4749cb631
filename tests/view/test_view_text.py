"""Text from outside is harmless, and words take the cells they are given."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.view.synthetic import HOSTILE
from vrooli_cli.view.text import block, count, duration, fit, fit_middle, line, plural, short, wrap

ANYTHING = st.text(st.characters(exclude_categories=())) | st.sampled_from(HOSTILE)


@given(ANYTHING)
def test_a_line_moves_no_cursor_and_hides_nothing(text: str) -> None:
    shown = line(text)
    assert shown.isprintable() or not shown
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for char in shown)


@given(ANYTHING)
def test_what_is_harmless_already_stays_as_it_is(text: str) -> None:
    assert line(line(text, 10_000), 100_000) == line(text, 10_000)


@given(ANYTHING)
def test_a_block_keeps_its_line_ends_and_nothing_else(text: str) -> None:
    assert all(part.isprintable() for part in block(text).split("\n"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("a\u200bb", "a\\u200bb"),
        ("[bold]x[/]", "[bold]x[/]"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("⚠️ ok", "⚠ ok"),
        ("\u0336struck", "\\u0336struck"),
        ("שלום 表示", "שלום 表示"),
        ("a\u00a0b", "a b"),
        (None, "None"),
    ],
)
def test_what_cannot_be_seen_shows_as_its_escape(text: object, shown: str) -> None:
    assert line(text) == shown


def test_at_most_three_marks_pile_on_a_letter() -> None:
    assert line("a" + "\u0301" * 50) == "a" + "\u0301" * 3


@given(ANYTHING, st.integers(0, 60))
def test_a_cut_text_takes_no_more_cells_than_given(text: str, width: int) -> None:
    for cut in (fit(line(text), width), fit_middle(line(text), width)):
        assert cell_len(cut) <= width


@given(ANYTHING, st.integers(2, 40), st.integers(0, 8))
def test_folded_lines_fit_and_are_the_last_ones(text: str, width: int, rows: int) -> None:
    lines = wrap(block(text), width, rows)
    assert len(lines) <= rows
    assert all(cell_len(part) <= width for part in lines)


def test_text_is_folded_between_words() -> None:
    assert wrap("one two three four", 9, 5) == ["one two", "three", "four"]
    assert wrap("abcdefghij", 4, 5) == ["abcd", "efgh", "ij"]


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (-1, "0ms"),
        (0, "0ms"),
        (999, "999ms"),
        (1000, "1.0s"),
        (59_949, "59.9s"),
        (59_951, "1m00s"),
        (184_000, "3m04s"),
        (3_599_499, "59m59s"),
        (3_600_000, "1h00m"),
        (7_500_000, "2h05m"),
        (273_600_000, "3d04h"),
    ],
)
def test_a_duration_in_words(ms: int, words: str) -> None:
    assert duration(ms) == words
    assert len(words) <= 6


def test_counts_in_words() -> None:
    assert [count(n) for n in (0, 12_400, 12_400_000)] == ["0", "12,400", "12.4M"]
    assert [short(n) for n in (940, 12_400, 999_999, 1_000_000)] == ["940", "12.4k", "1M", "1M"]
    assert [duration(59_999, whole=True), duration(61_000, whole=True)] == ["59s", "1m01s"]
    assert [plural(1, "step"), plural(2, "step")] == ["1 step", "2 steps"]
