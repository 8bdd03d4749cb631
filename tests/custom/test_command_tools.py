"""Programs as tools: values go in as arguments, environment or JSON on stdin, and never as the text of a shell."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.custom.test_python_tools import call
from vrooli_cli.errors import DefinitionError
from vrooli_cli.loading.tools import read_command_tool
from vrooli_cli.tier3.custom import load_tools

SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ.get('V'), sys.stdin.read()]))"


def write(folder: Path, text: str, name: str = "t.yaml") -> Path:
    """A tool file in ``folder``; PYTHON and SHOW stand for the interpreter and a program that shows what it got."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text.replace("PYTHON", json.dumps(sys.executable)).replace("SHOW", json.dumps(SHOW)))
    return path


async def result(folder: Path, **parameters: Any) -> Any:
    """The answer of a call that has to succeed."""
    done = await call(folder, "t", **parameters)
    assert done.error is None, done.error
    return done.result


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
async def test_a_value_arrives_byte_for_byte_in_every_place(value: str, tmp_path: Path) -> None:
    write(
        tmp_path,
        "parameters: {v: {type: string}}\ncommand: [PYTHON, -c, SHOW, '{{ v }}', 'a{{ v }}b']\n"
        "env: {V: '{{ v }}'}\nstdin: json\nresult: json\neffects: none\n",
    )
    argv, variable, stdin = await result(tmp_path, v=value)
    assert argv == [value, f"a{value}b"]
    assert variable == value
    assert json.loads(stdin) == {"v": value}


async def test_lists_give_one_argument_each_and_nothing_gives_none(tmp_path: Path) -> None:
    write(
        tmp_path,
        "parameters: {flags: {type: array, default: [-a, 1]}, more: {type: string, required: false}}\n"
        "command: [PYTHON, -c, SHOW, '{{ flags }}', '{{ more }}', 7]\nresult: json\n",
    )
    assert (await result(tmp_path))[0] == ["-a", "1", "7"]
    assert (await result(tmp_path, flags=[], more=""))[0] == ["", "7"]


async def test_defaults_are_part_of_what_a_program_reads(tmp_path: Path) -> None:
    write(
        tmp_path,
        "parameters: {a: {type: integer}, b: {default: [1]}}\ncommand: [PYTHON, -c, SHOW]\nstdin: json\nresult: json\n",
    )
    assert json.loads((await result(tmp_path, a=2))[2]) == {"a": 2, "b": [1]}


@pytest.mark.parametrize(("kind", "expected"), [("text", "a\nb"), ("lines", ["a", "b"]), ("json", "OUTPUT_INVALID")])
async def test_what_a_program_says_is_read_as_the_file_says(kind: str, expected: Any, tmp_path: Path) -> None:
    write(tmp_path, f"command: [printf, 'a\\nb\\n']\nresult: {kind}\n")
    done = await call(tmp_path, "t")
    assert (done.error.code if done.error else done.result) == expected


async def test_a_program_that_fails_is_told_with_its_code_and_last_words(tmp_path: Path) -> None:
    write(tmp_path, "command: [sh, -c, 'echo first; echo last words >&2; exit 9']\n")
    error = (await call(tmp_path, "t")).error
    assert error is not None
    assert (error.code, error.context["exit_code"]) == ("TOOL_FAILED", 9)
    assert error.message.endswith("exited with 9: last words")


async def test_a_program_beside_the_file_is_found_and_its_environment_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "bin" / "show"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\nenv\n")
    script.chmod(0o755)
    monkeypatch.setenv("HIDDEN", "x")
    monkeypatch.setenv("WANTED", "y")
    write(tmp_path, "command: [./bin/show]\nresult: lines\nenv: [WANTED]\n")
    names = {line.partition("=")[0] for line in await result(tmp_path)}
    assert "WANTED" in names
    assert names <= {"PATH", "HOME", "LANG", "TMPDIR", "WANTED", "PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}


async def test_a_time_out_ends_the_program(tmp_path: Path) -> None:
    write(tmp_path, "command: [sleep, 60]\ntimeout: 100ms\n")
    error = (await call(tmp_path, "t")).error
    assert error is not None
    assert error.code == "STEP_TIMEOUT"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("command: []\n", "command"),
        ("comand: [x]\n", "did you mean 'command'?"),
        ("command: [x, '{{ pat }}']\nparameters: {path: {type: string}}\n", "did you mean 'path'?"),
        ("command: [x, '{{ secrets.token }}']\n", "seen by everybody"),
        ("command: [x]\nresult: xml\n", "json, text or lines"),
        ("command: [x]\nparameters: {n: {type: integer, default: a}}\n", "the default of 'n' does not fit"),
        ("command: [x]\nname: a.b\n", "a tool's name"),
        ("command: [x, '{{ ']\n", "4"),
        ("- a list\n", "a map"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DefinitionError) as wrong:
        read_command_tool(path)
    problem = wrong.value.problems[0]
    assert problem.line >= 1
    assert message in f"{problem}" or message == "4"
    assert load_tools([tmp_path], importing=True, installed=False).tools == ()


def test_the_digest_changes_with_the_file(tmp_path: Path) -> None:
    digests = set()
    for text in ("command: [a]\n", "command: [b]\n", "command: [b]\neffects: none\n"):
        write(tmp_path, text)
        digests |= {tool.digest for tool in load_tools([tmp_path], importing=False, installed=False).tools}
    assert len(digests) == 3
