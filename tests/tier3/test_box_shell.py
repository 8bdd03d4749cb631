"""``shell``: argv and text, environment, input, what is made of the answer, how it fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tier3.conftest import Bench
from vrooli_cli.language.shell import RenderedScript
from vrooli_cli.tier3.box.shell import TAIL, parsed


async def test_a_list_is_argv_and_no_shell_sees_it(bench: Bench) -> None:
    result = await bench.result("shell", command=["printf", "%s|", "$HOME", "a b", "*", 5, True, "; exit 3"])
    assert result == {"stdout": "$HOME|a b|*|5|true|; exit 3|", "stderr": "", "exit_code": 0}


async def test_a_text_is_shell(bench: Bench) -> None:
    assert (await bench.result("shell", command="echo $((6 * 7)) | tr 4 5"))["stdout"] == "52\n"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_a_value_reaches_the_program_byte_for_byte(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    async def main() -> None:
        bench = Bench(tmp_path_factory.getbasetemp())
        plain = await bench.result("shell", command=["printf", "%s", value])
        carried = RenderedScript('__vr1=$VROOLI_1; unset VROOLI_1; printf %s "${__vr1}"', {"VROOLI_1": value})
        script = await bench.result("shell", command=carried)
        piped = await bench.result("shell", command=["cat"], stdin=value)
        assert plain["stdout"] == script["stdout"] == piped["stdout"] == value

    asyncio.run(main())


async def test_a_childs_environment_is_cleared(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "secret")
    monkeypatch.setenv("LANG", "C.UTF-8")
    bench.scope.env = {"FROM_ROUTINE": "1"}
    result = await bench.result("shell", command=["env"], env={"MINE": "x y", "N": 3}, parse="lines")
    names = {line.partition("=")[0] for line in result["value"]}
    assert {"FROM_ROUTINE=1", "MINE=x y", "N=3"} <= set(result["value"])
    assert names <= {"PATH", "HOME", "LANG", "TMPDIR", "FROM_ROUTINE", "MINE", "N"} and "PATH" in names


@pytest.mark.parametrize(("name", "value"), [("A=B", "x"), ("", "x"), ("A", "x\0y")])
async def test_an_impossible_variable_is_refused(bench: Bench, name: str, value: str) -> None:
    assert (await bench.error("shell", command=["true"], env={name: value})).code == "PARAMETER_INVALID"


async def test_cwd_starts_where_vrooli_was_started(bench: Bench) -> None:
    (bench.folder / "sub").mkdir()
    result = await bench.result("shell", command=["pwd", "-P"], cwd="sub")
    assert result["stdout"].strip() == str((bench.folder / "sub").resolve())
    error = await bench.error("shell", command=["pwd"], cwd="nowhere")
    assert "cannot be entered" in error.message


@pytest.mark.parametrize(
    ("parse", "value"),
    [("text", '{"a": [1, null]}'), ("lines", ['{"a": [1, null]}']), ("json", {"a": [1, None]})],
)
async def test_stdout_is_parsed_as_asked(bench: Bench, parse: str, value: Any) -> None:
    result = await bench.result("shell", command=["echo", '{"a": [1, null]}'], parse=parse)
    assert result["value"] == value and result["stdout"] == '{"a": [1, null]}\n'


def test_lines_are_lines_and_nothing_else_breaks_them() -> None:
    assert parsed("a\r\nb\n\nc\x0bd\u2028e", "lines") == ["a", "b", "", "c\x0bd\u2028e"]
    assert parsed("", "lines") == []


@pytest.mark.parametrize("output", ["", "nope", "NaN", '{"a": 1', "[" * 100_000])
async def test_what_is_not_json_fails_with_one_line(bench: Bench, output: str) -> None:
    error = await bench.error("shell", command=["cat"], stdin=output, parse="json")
    assert error.code == "OUTPUT_INVALID" and "\n" not in error.message and len(error.message) < 300


async def test_output_beyond_the_cap_is_marked_and_not_parsed(bench: Bench) -> None:
    result = await bench.result("shell", command="head -c 2000000 /dev/zero | tr '\\0' x")
    assert result["truncated"] is True and len(result["stdout"]) == 1 << 20
    error = await bench.error("shell", command="head -c 2000000 /dev/zero | tr '\\0' 1", parse="json")
    assert error.code == "OUTPUT_INVALID" and "1 MiB" in error.message


async def test_bytes_that_are_no_text_become_the_replacement_character(bench: Bench) -> None:
    assert (await bench.result("shell", command="printf 'a\\377b'"))["stdout"] == "a\ufffdb"


async def test_a_failure_says_who_how_and_the_last_words(bench: Bench) -> None:
    error = await bench.error("shell", command="echo out; echo first >&2; echo 'no such branch' >&2; exit 4")
    assert error.code == "TOOL_FAILED" and error.message == "the command exited with 4: no such branch"
    assert error.context == {"exit_code": 4, "stdout": "out\n", "stderr": "first\nno such branch\n"}


async def test_only_the_tails_are_kept(bench: Bench) -> None:
    error = await bench.error("shell", command="yes é | head -c 100001 >&2; exit 1")
    tail = error.context["stderr"]
    assert len(tail.encode()) <= TAIL + 4 and tail[0] == "…" and "\ufffd" not in tail[:-2]


async def test_ok_codes_are_a_success(bench: Bench) -> None:
    assert (await bench.result("shell", command="exit 1", ok_codes=[0, 1]))["exit_code"] == 1
    assert (await bench.result("shell", command="exit 1", ok_codes=1))["exit_code"] == 1
    assert (await bench.error("shell", command="true", ok_codes=[1])).context["exit_code"] == 0


@pytest.mark.parametrize("command", [[], "", [""], [None], [["a"]], 5, {"a": 1}])
async def test_what_is_no_command_is_refused(bench: Bench, command: Any) -> None:
    assert (await bench.error("shell", command=command)).code == "PARAMETER_INVALID"


async def test_a_structured_stdin_is_json(bench: Bench) -> None:
    assert (await bench.result("shell", command=["cat"], stdin={"a": [1]}, parse="json"))["value"] == {"a": [1]}


async def test_memory_of_the_step_is_told_and_held(bench: Bench) -> None:
    script = "import time; block = bytearray(90 << 20); time.sleep(0.5)"
    outcome = await bench.do("shell", {"command": ["python3", "-c", script]})
    assert outcome.error is None and outcome.memory_mb >= 90
    over = await bench.do("shell", {"command": ["python3", "-c", script + ".real"]}, memory_mb=50)
    assert over.error is not None and over.error.code == "MEMORY_EXCEEDED" and over.error.context["limit"] == 50
