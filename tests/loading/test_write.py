"""`plain_yaml`: what is written reads back equal, here and in a reader of YAML 1.1."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.loading.text import read_text
from vrooli_cli.loading.write import plain_yaml

# Text that tempts a writer: words, numbers, indicators, white space, control and bidi characters, long lines.
TEMPTING = st.sampled_from(
    [
        *["y", "n", "yes", "No", "ON", "off", "true", "True", "FALSE", "null", "Null", "~", "0", "007", "1_000", "0b1"],
        *["12:30:45", "0x1F", "0o17", "1e3", "+.5", "5.", ".inf", "-.inf", ".nan", "2001-01-01", "=", "<<", "-", "?"],
        *[":", ",", "[", "]", "{", "}", "#", "&", "*", "!", "|", ">", "'", '"', "%", "@", "`", "---", "...", "a:"],
        *["a:b", "a#b", "a:\tb"],
        "a: b",
        "a #b",
        " a",
        "a ",
        "- a",
        "? a",
        "a:",
        ": a",
        "",
        " ",
        "\n",
        "\n\n",
        "a\n",
        "\na",
        " \n a",
        "a\n\n",
        "a\n  b",
        "\ta\nb",
        "a\n\tb\n",
        "a\r\nb",
        "a\x85b",
        "a\u2028b",
        "\ufeffa",
        "a\ufeff",
        "\u202eabc",
        "\x00",
        "\x1b[31m",
        "\x7f",
        "é",
        "日本語",
        "😀\n😀",
        "x" * 2000,
        "word " * 200,
        "--- a\nb",
        "...\n",
        "{{ x }}",
        "{% if %}",
        "\ud7ff",
        "\ue000",
        "\xad",
    ]
)
TEXT = st.one_of(
    TEMPTING,
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20),
    st.text(alphabet=" \n\t-:#ab'\"|", max_size=12),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False), TEXT
)
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


@given(DATA)
def test_what_is_written_reads_back_equal_in_our_reader(data: Any) -> None:
    assert read_text(plain_yaml(data), "data.yaml").data == data


@given(DATA)
def test_what_is_written_reads_back_equal_in_a_reader_of_yaml_1_1(data: Any) -> None:
    assert yaml.safe_load(plain_yaml(data)) == data


def test_types_survive_not_only_values() -> None:
    data = {"one": 1, "real": 1.0, "true": True, "big": 1e300, "text": "1", "none": None}
    back = read_text(plain_yaml(data), "data.yaml").data
    assert [type(value) for value in back.values()] == [int, float, bool, float, str, type(None)]


def test_the_style_is_block_with_keys_in_order_and_unicode_kept() -> None:
    data = {
        "name": "grün",
        "answer": "no",
        "steps": [{"id": "a", "command": ["git", "log"]}, [1, [2]], {}, []],
        "prompt": "Group:\n\n  - these\n",
        "last": "no newline\nat the end",
        "long": "word " * 60 + "end",
    }
    assert plain_yaml(data) == (
        "name: grün\n"
        'answer: "no"\n'
        "steps:\n"
        "  - id: a\n"
        "    command:\n"
        "      - git\n"
        "      - log\n"
        "  - - 1\n"
        "    - - 2\n"
        "  - {}\n"
        "  - []\n"
        "prompt: |\n"
        "  Group:\n"
        "\n"
        "    - these\n"
        "last: |-\n"
        "  no newline\n"
        "  at the end\n"
        f"long: {'word ' * 60}end\n"
    )


@pytest.mark.parametrize("value", [b"bytes", {1: 2}, {"a": object()}, [{"a": {1, 2}}], [b"x"]])
def test_what_is_not_plain_data_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        plain_yaml(value)


def test_numbers_that_are_not_finite_are_written_as_yaml_has_them() -> None:
    assert plain_yaml([float("inf"), float("-inf"), float("nan")]) == "- .inf\n- -.inf\n- .nan\n"
