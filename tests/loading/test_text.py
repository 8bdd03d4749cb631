"""Text to data: YAML 1.2 scalars, what is refused and how it is told, places, encodings, limits."""

from __future__ import annotations

import gc
import io
import json
import math
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.errors import DefinitionError, Problem
from vrooli_cli.loading.report import format_problems
from vrooli_cli.loading.source import SourceMap, visible
from vrooli_cli.loading.text import Limits, read_file, read_stream, read_text

GOLDENS = Path(__file__).parent.parent / "goldens" / "yaml"


def data_of(text: str | bytes, limits: Limits = Limits()) -> Any:  # noqa: B008
    return read_text(text, "f.yaml", limits).data


def problems_of(text: str | bytes, limits: Limits = Limits()) -> tuple[Problem, ...]:  # noqa: B008
    with pytest.raises(DefinitionError) as caught:
        read_text(text, "f.yaml", limits)
    return caught.value.problems


def places_of(text: str | bytes, limits: Limits = Limits()) -> list[tuple[int, int, str]]:  # noqa: B008
    return [(problem.line, problem.column, problem.message) for problem in problems_of(text, limits)]


@pytest.fixture(params=["libyaml", "pure Python"])
def either_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pure Python":
        monkeypatch.setattr(yaml, "__with_libyaml__", False)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML has no libyaml here")
    return str(request.param)


# Scalars ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *[(word, None) for word in ["", "~", "null", "Null", "NULL"]],
        ("true", True),
        ("false", False),
        *[(word, word) for word in ["yes", "Yes", "no", "on", "On", "off", "y", "n", "Y", "N", "nULL", "tRUE"]],
        ("0", 0),
        ("-0", 0),
        ("12", 12),
        ("+12", 12),
        ("-12", -12),
        ("0x1F", 31),
        ("0o17", 15),
        *[
            (word, word)
            for word in ["007", "-01", "0b11", "1_000", "12:30", "12:30:45", "0x", "0o8", "0X1F", "+0x1", "1a"]
        ],
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("-2.5E-3", -0.0025),
        *[(word, word) for word in ["00.5", ".", "..", "1.2.3", "1e", "e3", "+", "-.", "1_0.5", "190:20:30.15"]],
        *[
            (word, word)
            for word in ["2001-01-01", "2001-12-14t21:59:43.10-05:00", "=", "1 2", "/path", "(x)", "0 0 * * *"]
        ],
        ('"12"', "12"),
        ("'true'", "true"),
        ('""', ""),
        ('"\\x00\\e"', "\x00\x1b"),
        ("|\n  12\n", "12\n"),
        (">\n  a\n  b\n", "a b\n"),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(written: str, value: Any, either_parser: str) -> None:
    read = data_of(f"k: {written}\n")["k"]
    assert read == value
    assert type(read) is type(value)
    if "\n" not in written:
        assert data_of(f"[{written or 'null'}, {{k: {written}}}]") == [value, {"k": value}]


def test_a_zero_with_a_sign_keeps_it_as_a_float() -> None:
    assert math.copysign(1, data_of("-0.0")) == -1


@pytest.mark.parametrize("word", ["True", "TRUE", "False", "FALSE"])
def test_a_boolean_in_capitals_is_text_and_is_warned_about(word: str) -> None:
    document = read_text(f"a: 1\nb: {word}\n", "f.yaml")
    assert document.data == {"a": 1, "b": word}
    (warning,) = document.warnings
    assert (warning.line, warning.column, warning.warning) == (2, 4, True)
    assert word in warning.message


@pytest.mark.parametrize(
    "written", [".inf", "-.Inf", "+.INF", ".nan", ".NaN", "1e999", "-1e999", "9" * 301, "0x" + "f" * 300]
)
def test_a_number_that_json_cannot_hold_is_refused_with_its_place(written: str) -> None:
    assert [(line, column) for line, column, _ in places_of(f"a: 1\nb: {written}\nc: [{written}]\n")] == [
        (2, 4),
        (3, 5),
    ]


def test_a_number_of_300_digits_is_read_and_10_to_the_5000_is_refused_in_one_line() -> None:
    assert data_of("9" * 300) == 10**300 - 1
    (problem,) = problems_of(f"k: 1{'0' * 5000}")
    assert problem.message == "a number of 5,001 characters; at most 300 are read as a number"


@pytest.mark.parametrize(
    "key", ["1", "1.5", "true", "null", "~", "on", "no", "y", "2001-01-01", ".inf", "007", "True", "=", "0x1F"]
)
def test_a_mapping_key_is_the_text_as_it_is_written(key: str, either_parser: str) -> None:
    assert data_of(f"{key}: x\n") == {key: "x"}
    assert data_of(f"{{{key}: x, '{key}2': y}}") == {key: "x", f"{key}2": "y"}


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag", ["!x", "!!str", "!!python/object/apply:os.system", "!<tag:yaml.org,2002:int>", "!", "!!binary"]
)
def test_a_tag_is_refused_wherever_it_stands(tag: str, either_parser: str) -> None:
    for text, place in [
        (f"a: {tag} 1\n", (1, 4)),
        (f"a: {tag} [1]\n", (1, 4)),
        (f"a:\n  - {tag} {{b: 1}}\n", (2, 5)),
        (f"{tag} a: 1\n", (1, 1)),
        (f"{tag} x", (1, 1)),
        (f"a: &b {tag} x", (1, 4)),
    ]:
        assert [(line, column) for line, column, _ in places_of(text)] == [place], text
        assert "tags" in problems_of(text)[0].message


def test_equal_keys_are_refused_with_both_lines(either_parser: str) -> None:
    text = "a: 1\nb:\n  c: 1\n  d: 2\n  c: [3]\n'a': 2\nb: 3\n"
    assert places_of(text) == [
        (5, 3, "the key 'c' is already there, in line 3"),
        (6, 1, "the key 'a' is already there, in line 1"),
        (7, 1, "the key 'b' is already there, in line 2"),
    ]


def test_keys_that_differ_only_in_their_type_in_other_schemas_are_different_or_equal_as_text() -> None:
    assert data_of("1: a\n01: b\n1.0: c\ntrue: d\nTrue: e\n") == {
        "1": "a",
        "01": "b",
        "1.0": "c",
        "true": "d",
        "True": "e",
    }
    assert places_of("1: a\n'1': b\n") == [(2, 1, "the key '1' is already there, in line 1")]


def test_all_problems_that_can_be_skipped_are_reported_at_once() -> None:
    text = "a: !x 1\nb: .nan\n<<: {c: 1}\nd: *none\na: 2\ne: True\n"
    assert [line for line, _, _ in places_of(text)] == [1, 2, 3, 4, 5]


def test_problems_before_a_mistake_of_syntax_are_reported_with_it() -> None:
    assert [line for line, _, _ in places_of("a: 1\na: 2\nb: [1\n")] == [2, 3]


@pytest.mark.parametrize("text", ["<<: {a: 1}", "a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\n", "<<: 1\n<<: 2\n"])
def test_merge_keys_are_refused_and_quoted_ones_are_text(text: str, either_parser: str) -> None:
    assert all("merge keys" in problem.message for problem in problems_of(text))
    assert data_of('"<<": 1') == {"<<": 1}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("? [a]\n: b\n", (1, 3)),
        ("? {a: 1}\n: b\n", (1, 3)),
        ("[a]: b\n", (1, 1)),
        ("{[a, b]: c}", (1, 2)),
        ("a: &x [1]\n*x : 2\n", (2, 1)),
    ],
)
def test_a_key_that_is_no_text_is_refused(text: str, place: tuple[int, int]) -> None:
    (problem,) = problems_of(text)
    assert (problem.line, problem.column) == place
    assert problem.message == "a key must be text, not a list or a map"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\n---\nb: 2\n", 2),
        ("a: 1\n---\n", 2),
        ("--- a\n--- b\n", 2),
        ("a: 1\n...\n# c\n---\nb: 2\n", 4),
        ("---\n---\n", 1),
    ],
)
def test_a_second_document_is_refused_with_its_line(text: str, line: int, either_parser: str) -> None:
    (problem,) = problems_of(text)
    assert problem.line == line


@pytest.mark.parametrize(
    "text",
    ["---\na: 1\n", "--- # x\na: 1\n...\n", "%YAML 1.2\n---\na: 1\n", "# c\n%YAML 1.1\n--- {a: 1}\n...\n# end\n\n"],
)
def test_one_document_may_be_marked_as_such(text: str) -> None:
    assert data_of(text) == {"a": 1}


@pytest.mark.parametrize(
    "text", ["%TAG ! x\n---\na: 1", "%YAML 1.2\n%YAML 1.2\n---\na", "%FOO\n---\na: 1", "%YAML 3.0\n---\na", "%"]
)
def test_other_directives_are_refused(text: str) -> None:
    (problem,) = problems_of(text)
    assert "directives" in problem.message


@pytest.mark.parametrize(
    "text", ["", "\n", "  \n\n", "# only a comment", "---\n", "---\n...\n", "\ufeff", b"\xef\xbb\xbf\n", "...\n"]
)
def test_an_empty_file_is_one_line(text: str | bytes, either_parser: str) -> None:
    (problem,) = problems_of(text)
    assert problem.message == "the file is empty"


def test_an_explicit_null_is_no_empty_file() -> None:
    assert data_of("null") is None
    assert data_of("~\n") is None


# Anchors and aliases ------------------------------------------------------------------------------------------------


def test_anchors_and_aliases_share_values_keys_included(either_parser: str) -> None:
    text = "a: &one 1\nb: &list [x, &y yes]\nc: *list\nd: [*one, *y]\n*y : e\n&k f: g\nh: *k\ni: &one 2\nj: *one\n"
    data = data_of(text)
    assert data == {
        "a": 1, "b": ["x", "yes"], "c": ["x", "yes"], "d": [1, "yes"], "yes": "e", "f": "g", "h": "f", "i": 2, "j": 2,
    }  # fmt: skip
    assert data["c"] is data["b"]


def test_an_alias_of_a_number_as_a_key_is_its_text() -> None:
    assert data_of("a: &n 0x1F\n*n : b\n") == {"a": 31, "0x1F": "b"}


@pytest.mark.parametrize(("text", "place"), [("a: &x [*x]", (1, 8)), ("&x\na: {b: [1, *x]}", (2, 12))])
def test_a_value_that_contains_itself_is_refused(text: str, place: tuple[int, int]) -> None:
    (problem,) = problems_of(text)
    assert "contains itself" in problem.message
    assert (problem.line, problem.column) == place


def test_an_unknown_alias_is_refused_with_the_nearest_anchor() -> None:
    (problem,) = problems_of("a: &base 1\nb: *bsae\n")
    assert (problem.line, problem.column, problem.hint) == (2, 4, "did you mean 'base'?")


def laughs(levels: int, width: int = 10) -> str:
    lines = ["a0: &a0 x"]
    lines += [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * width)}]" for i in range(levels)]
    return "\n".join(lines)


def test_expanded_aliases_count_against_the_nodes_before_anything_is_composed() -> None:
    assert data_of(laughs(4))["a4"][9][9][9][9] == "x"
    (problem,) = problems_of(laughs(30))
    assert problem.message == "more than 1,000,000 values, aliases expanded"
    assert problem.line == 7


def expanded(data: Any) -> int:
    inside = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return 1 + sum(expanded(value) for value in inside)


@given(st.integers(0, 4), st.integers(1, 4), st.booleans())
def test_the_node_limit_is_exactly_the_size_of_the_expanded_data(levels: int, width: int, as_key: bool) -> None:
    text = laughs(levels, width) + ("\n*a0 : {b: *a0}" if as_key else "")
    size = expanded(data_of(text))
    assert data_of(text, Limits(nodes=size))
    assert problems_of(text, Limits(nodes=size - 1))


def test_a_long_text_cannot_be_multiplied_by_aliases() -> None:
    text = f"- &a {'x' * 1000}\n- &b [*a, *a]\n- [*b, *b]\n"
    assert data_of(text, Limits(characters=7000))
    (problem,) = problems_of(text, Limits(characters=5000))
    assert problem.message.startswith("aliases make this file longer")


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("[[[x]]]", 3),
        ("a:\n  - - b: 1", 4),
        ("- &a [x]\n- &b [*a]\n- &c {k: *b}\n- [*c]", 5),
        ("- &a [&b [x]]\n- [*a]", 4),
    ],
)
def test_the_depth_limit_is_exact_and_holds_for_aliases(text: str, depth: int, either_parser: str) -> None:
    assert data_of(text, Limits(depth=depth))
    (problem,) = problems_of(text, Limits(depth=depth - 1))
    assert problem.message == f"more than {depth - 1} levels inside each other"


def test_a_chain_of_aliases_cannot_nest_deeper_than_the_limit() -> None:
    chain = "- &a0 [x]\n" + "".join(f"- &a{i + 1} [*a{i}]\n" for i in range(100_000))
    (problem,) = problems_of(chain)
    assert problem.line == 64


def test_the_anchor_limit_is_exact() -> None:
    text = "".join(f"- &a{number} x\n" for number in range(10))
    assert data_of(text, Limits(anchors=10)) == ["x"] * 10
    assert places_of(text, Limits(anchors=9)) == [(10, 3, "more than 9 anchors")]


def test_the_file_limit_counts_bytes_and_no_more_is_read() -> None:
    limits = Limits(file_bytes=100)
    assert data_of(b"a" * 100, limits)
    stream = io.BytesIO(b"a" * 1000)
    with pytest.raises(DefinitionError, match="larger than"):
        read_stream(stream, limits=limits)
    assert stream.tell() == 101


# Encodings and line ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_give_the_same_data_and_places(encoding: str, end: str, either_parser: str) -> None:
    text = end.join(["a: grün", "b: |", "  x", "", "  😀 y", "c: [1,", "  !z 2]", ""])
    mark = {"utf-16-be": b"\xfe\xff", "utf-16-le": b"\xff\xfe"}.get(encoding, b"")
    assert data_of(mark + text.replace("!z ", "").encode(encoding)) == {"a": "grün", "b": "x\n\n😀 y\n", "c": [1, 2]}
    assert [(line, column) for line, column, _ in places_of(mark + text.encode(encoding))] == [(7, 3)]


@pytest.mark.parametrize(
    ("raw", "line", "column"),
    [
        (b"a: caf\xe9\n", 1, 7),
        (b"\xc3\xa4: 1\nb: \xff", 2, 4),
        (b"a\r\nb\rc \xc3", 3, 3),
        (b"\xed\xa0\x80", 1, 1),
        (b"\xff\xfea\x00\n\x00\x00\xd8a\x00", 2, 1),
    ],
)
def test_a_byte_that_is_no_text_is_refused_at_its_place(raw: bytes, line: int, column: int) -> None:
    (problem,) = problems_of(raw)
    assert (problem.line, problem.column) == (line, column)
    assert "byte 0x" in problem.message


@pytest.mark.parametrize("char", ["\0", "\x01", "\x1b", "\x7f", "\x9f", "\ufffe", "\uffff", "\ud800"])
def test_control_characters_and_non_characters_are_refused_and_shown_escaped(char: str, either_parser: str) -> None:
    (problem,) = problems_of(f"a: 1\nb: x{char}\n")
    assert (problem.line, problem.column) == (2, 5)
    assert f"U+{ord(char):04X}" in problem.message
    assert char not in problem.excerpt


@pytest.mark.parametrize("char", ["\x85", "\u2028", "\u2029"])
def test_nel_and_its_kin_end_no_line_when_lines_are_counted(char: str) -> None:
    (problem,) = problems_of(f"a: {char} 1\nb: !x 2\n")
    assert (problem.line, problem.column) == (2, 4)


# Places -------------------------------------------------------------------------------------------------------------


def test_places_of_values_and_keys_and_of_the_nearest_ancestor(either_parser: str) -> None:
    text = "name: x\nsteps:\n  - id: a\n    with: {k: 'v', l: [1, 2]}\n  - &two\n    id: b\n  - *two\nempty:\n1: one\n"
    source = read_text(text, "f.yaml").source
    assert source.locate(()) == (1, 1)
    assert source.locate(("name",)) == (1, 7)
    assert source.locate(("name",), at_key=True) == (1, 1)
    assert source.locate(("steps", 0, "with", "l", 1)) == (4, 27)
    assert source.locate(("steps", 0, "with", "l"), at_key=True) == (4, 20)
    assert source.locate(("steps", 1)) == (5, 5)
    assert source.locate(("steps", 2)) == (7, 5)
    assert source.locate(("steps", 2, "id")) == (6, 9)
    assert source.locate(("empty",)) == (8, 7)
    assert source.locate(("1",)) == (9, 4)
    assert source.locate(("steps", 0, "tool"), at_key=True) == (3, 5)
    assert source.locate(("steps", 9, "tool", "x")) == (3, 3)
    assert source.locate(("nothing", 0)) == (1, 1)
    assert source.locate(("name", "x")) == (1, 7)


def every_pointer(data: Any, pointer: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    yield pointer, data
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from every_pointer(value, (*pointer, key))


WORD = st.text(alphabet="abcü😀", min_size=1, max_size=4)
TREE = st.recursive(
    WORD | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORD, inner, max_size=4),
    max_leaves=15,
)


@given(TREE, st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_every_pointer_leads_to_where_its_value_is_written(tree: Any, flow: bool, end: str) -> None:
    text = json.dumps(tree, ensure_ascii=False, indent=2) if flow else yaml.safe_dump(tree, allow_unicode=True)
    lines = text.split("\n")
    document = read_text(text.replace("\n", end), "f.yaml")
    for pointer, value in every_pointer(document.data):
        line, column = document.source.locate(pointer)
        rest = lines[line - 1][column - 1 :]
        if isinstance(value, str | int):
            assert rest.lstrip("\"'").startswith(str(value))
        if pointer and isinstance(pointer[-1], str):
            line, column = document.source.locate(pointer, at_key=True)
            assert lines[line - 1][column - 1 :].lstrip("\"'").startswith(pointer[-1])


def test_place_fills_a_problem_and_leaves_placed_and_foreign_ones_alone() -> None:
    source = read_text("a: 1\nsteps:\n  - tool: shel\n", "f.yaml").source
    problem = source.place(Problem(("steps", 0, "tool"), "no tool 'shel'", "did you mean 'shell'?"))
    assert str(problem) == "f.yaml:3:11: no tool 'shel' (did you mean 'shell'?)"
    assert problem.excerpt == "  - tool: shel\n          ^"
    assert source.place(problem) is problem
    foreign = Problem((), "x", file="child.yaml")
    assert source.place(foreign) is foreign


@pytest.mark.parametrize(
    ("line", "column", "excerpt"),
    [
        ("key: value", 6, "key: value\n     ^"),
        ("\tkey:\tvalue", 7, "    key:    value\n            ^"),
        ("日本: 語", 5, "日本: 語\n      ^"),
        ("e\u0301: x", 5, "e\u0301: x\n   ^"),
        ("a\x1b[31mb: c", 8, "a\\x1b[31mb: c\n          ^"),
        ("\u202eab: c", 6, "\\u202eab: c\n          ^"),
        ("x" * 60 + "!" + "y" * 60, 61, "…" + "x" * 50 + "!" + "y" * 23 + "…\n" + " " * 51 + "^"),
        ("!" + "y" * 200, 1, "!" + "y" * 74 + "…\n^"),
        ("x" * 500 + "!", 501, "…" + "x" * 50 + "!\n" + " " * 51 + "^"),
    ],
)
def test_an_excerpt_shows_the_caret_under_its_character(line: str, column: int, excerpt: str) -> None:
    source = SourceMap("f", f"before\n{line}\nafter")
    problem = source.problem(len("before\n") + column - 1, "m")
    assert (problem.line, problem.column) == (2, column)
    assert problem.excerpt == excerpt


@given(st.text(max_size=300), st.integers(0, 300))
def test_an_excerpt_is_two_printable_lines_of_at_most_76_cells(text: str, offset: int) -> None:
    excerpt = SourceMap("f", text).excerpt(offset)
    lines = excerpt.split("\n")
    assert not text.strip() or len(lines) == 2
    assert all(sum(unicodedata.category(char) not in {"Mn", "Me"} for char in line) <= 76 for line in lines)
    assert all(visible(line) == line for line in lines)


# The machine --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a: 1", "a: [", "a: \0", ""])
def test_the_collector_is_as_it_was_after_reading(text: str) -> None:
    for was_on in (True, False):
        (gc.enable if was_on else gc.disable)()
        try:
            read_text(text, "f.yaml")
        except DefinitionError:
            pass
        finally:
            now_on = gc.isenabled()
            gc.enable()
        assert now_on is was_on


@pytest.mark.parametrize(
    ("leak", "said"),
    [
        (ValueError("chr() arg not in range"), "this cannot be read as YAML (ValueError)"),
        (OverflowError(), "this cannot be read as YAML (OverflowError)"),
        (AttributeError("x"), "this cannot be read as YAML (AttributeError)"),
        (RecursionError(), "too many levels inside each other for this Python; nest less"),
        (MemoryError(), "there is not enough memory to read this file"),
    ],
)
def test_whatever_leaks_out_of_the_parser_becomes_one_line_with_the_best_place(
    leak: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    real: Any = yaml.parser.Parser.get_event

    def get_event(parser: Any) -> Any:
        event = real(parser)
        if getattr(event, "value", None) == "boom":
            raise leak
        return event

    monkeypatch.setattr(yaml.parser.Parser, "get_event", get_event)
    ((line, _, message),) = places_of("a: 1\nb:\n  c: 2\nd: boom\n")
    assert message == said
    assert line == 4


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML has no libyaml here")
def test_reading_with_places_costs_at_most_1_3_times_the_safe_loader_of_libyaml() -> None:
    step = "  - id: s{0}\n    tool: echo\n    parameters: {{message: 'no {0}', n: {0}}}\n    retry:\n      delay: 3\n"
    text = "steps:\n" + "".join(step.format(number) for number in range(500))

    def seconds(read: Callable[[], object]) -> float:
        start = time.perf_counter()
        read()
        return time.perf_counter() - start

    gc.disable()
    try:
        pairs = [
            (seconds(lambda: read_text(text, "f.yaml")), seconds(lambda: yaml.load(text, Loader=yaml.CSafeLoader)))
            for _ in range(7)
        ]
    finally:
        gc.enable()
    assert min(ours for ours, _ in pairs) < 1.3 * min(theirs for _, theirs in pairs)  # measured: 0.5


def test_a_depth_that_the_user_raised_beyond_python_is_one_line() -> None:
    deep = Limits(depth=10_000)
    (problem,) = problems_of("[" * 5000 + "]" * 5000, deep)
    assert "for this Python" in problem.message


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    cases: list[tuple[str | Path, str]] = [
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "folder"),
        ("a\0b", "cannot be read"),
    ]
    for path, said in cases:
        with pytest.raises(DefinitionError, match=said) as caught:
            read_file(path)
        (problem,) = caught.value.problems
        assert problem.file
        assert "\0" not in problem.file


def test_a_file_is_read_and_named_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"a: 1\r\n")
    document = read_file(path)
    assert document.data == {"a": 1}
    assert document.source.name == str(path)


# What people are told -----------------------------------------------------------------------------------------------


def mistakes() -> list[tuple[str, str]]:
    """Source and report of each case; a line of `=` stands between cases, a line of `-` between the two, → is a tab."""
    golden = (GOLDENS / "mistakes.txt").read_text(encoding="utf-8").removesuffix("\n")
    cases = [case.split("\n-----\n") for case in golden.split("\n=====\n")]
    return [(source.replace("→", "\t"), report) for source, report in cases]


def test_mistakes_of_syntax_are_told_as_in_the_golden_file() -> None:
    assert len(mistakes()) > 30
    assert [format_problems(problems_of(source)) for source, _ in mistakes()] == [report for _, report in mistakes()]


def test_the_pure_python_parser_gives_the_same_places_for_the_golden_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [source for source, _ in mistakes()]
    with_libyaml = [[(line, message) for line, _, message in places_of(source)] for source in sources]
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert [[(line, message) for line, _, message in places_of(source)] for source in sources] == with_libyaml


# Fuzz ---------------------------------------------------------------------------------------------------------------

GOOD = """\
name: release-notes   # comment
inputs: {repo: {type: string, default: "."}, 'limit': {type: integer, default: 50}}
vars: &v
  - |
    text {{ x }}
  - >-
    folded
    more
steps:
- id: log
  parameters: {command: [git, -C, "{{ repo }}", "-n\\t{{ limit }}"], n: -1.5e3, t: 2001-01-01}
  ? plain
  : *v
- {id: notes, when: "{{ a == 'b' }}"}
outputs: ~
"""


def survives(raw: bytes) -> None:
    try:
        document = read_text(raw, "f.yaml")
    except DefinitionError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.line >= 1
            assert problem.column >= 1
            assert visible(str(problem)) == str(problem)
        assert format_problems(error.problems)
    else:
        for pointer, _ in every_pointer(document.data):
            assert document.source.locate(pointer) >= (1, 1)
        json.dumps(document.data, allow_nan=False)


@given(st.binary(max_size=200))
def test_random_bytes_give_data_or_a_definition_error(raw: bytes) -> None:
    survives(raw)


@given(st.text(alphabet="ab1:-?,[]{}#&*!|>'\"%@` \n\t\\.~<=\r\x85\u2028é😀\0", max_size=40))
def test_random_yaml_gives_data_or_a_definition_error(text: str) -> None:
    survives(text.encode())


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD)),
            st.integers(0, 6),
            st.text(alphabet=":-?,[]{}#&*!|>'\"%\n\t\\ a\x00\x1b", max_size=4),
        ),
        max_size=4,
    )
)
def test_a_mutated_good_file_gives_data_or_a_definition_error(edits: list[tuple[int, int, str]]) -> None:
    text = GOOD
    for at, cut, put in edits:
        text = text[:at] + put + text[at + cut :]
    survives(text.encode())


@given(st.text(alphabet="ab1:-?,[]{}#&*'\" \n", max_size=30))
def test_both_parsers_give_the_same_data(text: str) -> None:
    results = []
    for with_libyaml in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not with_libyaml:
                patch.setattr(yaml, "__with_libyaml__", False)
            try:
                results.append((True, data_of(text)))
            except DefinitionError as error:
                results.append((False, len(error.problems) > 0))
    assert results[0] == results[1]
