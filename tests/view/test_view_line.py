"""Lines keep their width to the cell, whatever they are made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from vrooli_cli.view.line import Line, of_rich
from vrooli_cli.view.text import line

PARTS = st.lists(
    st.tuples(
        st.text(max_size=12).map(line) | st.sampled_from(["表示テスト", "🙂 ok", "é"]),
        st.sampled_from(["", "dim", "red"]),
    ),
    max_size=5,
)


@given(PARTS, st.integers(0, 30))
def test_a_cut_line_fits_and_an_uncut_one_is_whole(parts: list[tuple[str, str]], width: int) -> None:
    whole = Line(*parts)
    cut = whole.cut(width)
    assert whole.width == cell_len(whole.plain)
    assert cut.width == cell_len(cut.plain) <= width
    if whole.width <= width:
        assert cut.plain == whole.plain
    elif width:
        assert ("…" in cut.plain and whole.plain.startswith(cut.plain.partition("…")[0])) or "…" in whole.plain


@given(PARTS, st.integers(1, 40))
def test_a_line_without_unicode_is_ascii_and_fits(parts: list[tuple[str, str]], width: int) -> None:
    plain = Line(*parts).ascii(width)
    assert plain.plain.isascii() and len(plain.plain) <= width


@given(PARTS)
def test_rich_draws_the_same_line(parts: list[tuple[str, str]]) -> None:
    made = Line(*parts)
    assert made.rich().plain == made.plain
    assert of_rich(made.rich()).ansi(colour=True) == made.ansi(colour=True)


def test_styles_become_the_sequences_of_sixteen_colours() -> None:
    made = Line(("a", "bold"), "b", ("c", "red"))
    assert made.ansi(colour=True) == "\x1b[1ma\x1b[0mb\x1b[31mc\x1b[0m"
    assert made.ansi(colour=False) == "\x1b[1ma\x1b[0mbc"
    assert of_rich(Text("x", style="red").append("y", "bold")).plain == "xy"
