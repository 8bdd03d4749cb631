"""Files made to break the reader, at the full 16 MiB, in a process of their own: at most 5 s and 500 MB for each.

The table holds what other readers crash on or take minutes for. The files run one after another, so that the peak of
the process bounds each of them; each prints its seconds and what a person would be told.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.peak import PEAK_MB

PROGRAM = (
    PEAK_MB
    + """
import json, sys, time
from vrooli_cli.errors import DefinitionError
from vrooli_cli.loading.report import format_problems
from vrooli_cli.loading.text import read_text

SIZE = 16 * 2**20

def filled(unit, before="", after=""):
    return (before + unit * ((SIZE - len(before + after)) // len(unit)) + after).encode()

def numbered(line, before=""):
    lines, size = [before], len(before)
    for number in range(SIZE):
        text = line % number
        size += len(text)
        if size > SIZE:
            return "".join(lines).encode()
        lines.append(text)

FILES = {
    "[": lambda: filled("["),
    "{": lambda: filled("{"),
    "{a: ": lambda: filled("{a: "),
    "k: [": lambda: filled("k: ["),
    "[ lines": lambda: filled("[\\n"),
    "a: ": lambda: filled("a: "),
    "- - -": lambda: filled("- "),
    "? ? ?": lambda: filled("? "),
    "&a &a": lambda: filled("&a "),
    "*a *a": lambda: filled("*a "),
    "!": lambda: filled("!"),
    "quotes": lambda: filled('"'),
    "an open quote": lambda: filled("x ", '"'),
    "line ends": lambda: filled("\\n"),
    "tabs": lambda: filled("\\t"),
    "a comment": lambda: filled("#"),
    "NUL": lambda: filled("\\0"),
    "one long line": lambda: filled("x"),
    "a long number": lambda: filled("1", "a: "),
    "a long key": lambda: filled("x", "", ": 1"),
    "a million equal keys": lambda: filled("a: 1\\n"),
    "a million items": lambda: filled("- a\\n"),
    "%TAG": lambda: numbered("%%TAG !a%d! x\\n"),
    "%TAG after the end": lambda: numbered("%%TAG !a%d! x\\n", "a: 1\\n...\\n"),
    "a million anchors": lambda: numbered("- &a%d x\\n"),
    "a million aliases": lambda: filled("- *a\\n", "- &a x\\n"),
    "a long text and many aliases": lambda: filled("- *a\\n", "- &a " + "x" * 2**23 + "\\n"),
    "no UTF-8": lambda: b"\\xff" * SIZE,
    "17 MiB": lambda: b"a" * (SIZE + 2**20),
}
for name in sys.argv[1:] or FILES:
    data = FILES[name]()
    start = time.perf_counter()
    try:
        read_text(data, "f.yaml")
        told = ""
    except DefinitionError as error:
        told = format_problems(error.problems)
    seconds = time.perf_counter() - start
    print(json.dumps([name, seconds, peak_mb(), told]), flush=True)
"""
)

HARMLESS = {"one long line"}


@pytest.fixture(scope="module")
def rows() -> list[Any]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_no_hostile_file_takes_five_seconds_or_500_megabytes(rows: list[Any]) -> None:
    assert len(rows) > 25
    assert [(name, seconds) for name, seconds, _, _ in rows if seconds >= 5] == []
    assert [(name, megabytes) for name, _, megabytes, _ in rows if megabytes >= 500] == []


def test_every_hostile_file_is_told_in_a_few_short_lines(rows: list[Any]) -> None:
    told = {name: text for name, _, _, text in rows}
    assert {name for name, text in told.items() if not text} <= HARMLESS
    assert all(len(text) < 50_000 for text in told.values())
    assert all(len(line) < 200 for text in told.values() for line in text.splitlines())
