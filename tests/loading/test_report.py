"""Problems as lines for people and as JSON for programs."""

from __future__ import annotations

import json

from vrooli_cli.errors import Problem
from vrooli_cli.loading.report import format_problems, problem_json
from vrooli_cli.loading.text import read_text


def placed(line: int = 1, message: str = "m", *, file: str = "f.yaml", column: int = 1, hint: str = "") -> Problem:
    return Problem((), message, hint, file=file, line=line, column=column)


def test_a_problem_is_a_line_an_excerpt_a_caret_and_a_hint() -> None:
    source = read_text("steps:\n  - tool: shel\n", "r.yaml").source
    problem = source.place(Problem(("steps", 0, "tool"), "no tool 'shel'", "did you mean 'shell'?"))
    assert format_problems([problem]) == (
        "r.yaml:2:11: no tool 'shel'\n      - tool: shel\n              ^\n  did you mean 'shell'?"
    )


def test_problems_stand_in_the_order_of_file_line_and_column() -> None:
    problems = [placed(2), placed(1, column=9), placed(1, column=2), placed(10), placed(1, file="a.yaml"), placed(0)]
    heads = [line.removesuffix(" m") for line in format_problems(problems).split("\n")]
    assert heads == ["a.yaml:1:1:", "f.yaml:", "f.yaml:1:2:", "f.yaml:1:9:", "f.yaml:2:1:", "f.yaml:10:1:"]


def test_at_most_a_hundred_are_printed_and_the_rest_is_counted() -> None:
    lines = format_problems(placed(line) for line in range(1, 1235)).split("\n")
    assert len(lines) == 101
    assert lines[-1] == "… and 1,134 more"
    assert len(format_problems(placed(line) for line in range(1, 101)).split("\n")) == 100


def test_a_warning_is_marked() -> None:
    assert format_problems([Problem((), "m", warning=True, file="f", line=1, column=2)]) == "f:1:2: warning: m"


def test_hostile_text_cannot_break_out_of_its_line() -> None:
    evil = "x\x1b[2J\n\u202eevil\r\u2028"
    told = format_problems([placed(1, evil, file=evil, hint=evil)])
    assert len(told.split("\n")) == 2
    assert not set(told) & set("\x1b\u202e\r\u2028")


def test_no_problems_are_no_text() -> None:
    assert format_problems([]) == ""


def test_the_json_form_has_place_message_hint_severity_and_code() -> None:
    problem = Problem(("a",), "m", "h", code="CYCLE", warning=True, file="f", line=3, column=4, excerpt="x\n^")
    assert problem_json(problem) == {
        "file": "f", "line": 3, "column": 4, "message": "m", "hint": "h", "severity": "warning", "code": "CYCLE",
    }  # fmt: skip
    whole = problem_json(Problem((), "m", file="f"))
    assert (whole["line"], whole["column"], whole["severity"]) == (None, None, "error")
    assert json.loads(json.dumps(whole)) == whole
