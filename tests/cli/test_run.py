"""`vrooli run`: what stdout gets, what flags say, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.conftest import ECHO, Call, Write
from vrooli_cli.cli.output import as_json
from vrooli_cli.language.shorten import cut

FAIL = {"id": "bad", "tool": "fail", "parameters": {"message": "nope"}}


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("hi", "hi\n"),
        ("two\nlines\n", "two\nlines\n"),
        ("", "\n"),
        (5, "5\n"),
        (None, "null\n"),
        (True, "true\n"),
        ([1, 2], "o:\n  - 1\n  - 2\n"),
        ({"k": "v"}, "o:\n  k: v\n"),
    ],
)
def test_text_prints_the_one_output_as_it_is(write: Write, call: Call, message: object, printed: str) -> None:
    file = write("r.yaml", [{**ECHO, "parameters": {"message": message}}], outputs={"o": "{{ steps.a.result }}"})
    assert call("run", file, "-q").out == printed


def test_text_prints_declared_outputs_only(write: Write, call: Call) -> None:
    assert call("run", write("r.yaml", [ECHO]), "-q").out == ""
    file = write("two.yaml", [ECHO], outputs={"b": 1, "a": "{{ steps.a.result }}"})
    assert call("run", file, "-q").out == "b: 1\na: hi\n"


def test_json_and_yaml_are_one_result_and_quiet_is_quiet(write: Write, call: Call) -> None:
    file = write("r.yaml", [ECHO], outputs={"o": "{{ steps.a.result }}"})
    done = call("run", file, "--json", "-q")
    assert (done.code, done.err) == (0, "")
    assert done.json["result"] == {"o": "hi"} and done.json["context"]["execution_id"]
    assert "success: true\n" in call("run", file, "-o", "yaml", "-q").out
    assert call("run", file, "-o", "none", "-q").out == ""


def test_a_field_is_printed_raw(write: Write, call: Call) -> None:
    steps = [{**ECHO, "parameters": {"message": {"rows": [{"name": "Ada"}], "n": 1}}}]
    file = write("r.yaml", steps, outputs={"o": "{{ steps.a.result }}"})
    assert call("run", file, "-q", "--field", "o.rows[0].name").out == "Ada\n"
    assert call("run", file, "-q", "--field", "o.rows").out == '[{"name": "Ada"}]\n'
    refused = call("run", file, "--field", "p")
    assert refused.code == 2 and "there is no output 'p'" in refused.err
    missing = call("run", file, "-q", "--field", "o.row")
    assert missing.code == 1 and "did you mean 'rows'?" in missing.err and missing.out == ""


def test_ndjson_and_the_events_file_end_with_the_result(write: Write, call: Call, folder: Path) -> None:
    done = call("run", write("r.yaml", [ECHO]), "-o", "ndjson", "--events", "e.ndjson", "-q")
    copy = [json.loads(line) for line in (folder / "e.ndjson").read_text().splitlines()]
    assert copy == done.lines
    assert done.lines[-1]["type"] == "result" and done.lines[-1]["v"] == 1
    assert [line["seq"] for line in done.lines] == list(range(1, len(done.lines) + 1))


@pytest.mark.parametrize("format_", ["json", "ndjson"])
def test_every_refusal_is_a_result_too(write: Write, call: Call, format_: str) -> None:
    good = write("r.yaml", [ECHO], inputs={"n": {"type": "integer"}})
    bad = write("bad.yaml", "steps:\n- {id: a, tol: echo}\n")
    for code, words in {
        "DEFINITION_INVALID": ["none.yaml"],
        "INPUT_INVALID": [good, "-i", "n=x"],
        "STORE_ERROR": [good, "-i", "n=1", "--store", "/nowhere/at/all.db"],
    }.items():
        done = call("run", *words, "-o", format_)
        assert done.json["success"] is False and done.json["error"]["code"] == code
        assert done.json["error"]["tier"] is None and done.json["steps"] == {}
    assert call("run", bad, f"-o{format_}").json["error"]["context"]["problems"][0]["line"] == 2
    usage = call("run", good, "--frobnicate", "--output", format_)
    assert usage.code == 2 and usage.json["error"]["code"] == "INPUT_INVALID"


def test_the_file_is_judged_before_its_inputs(write: Write, call: Call) -> None:
    file = write("r.yaml", [{**ECHO, "tool": "ecko"}], inputs={"n": {"type": "integer"}})
    done = call("run", file)
    assert done.code == 2 and "did you mean 'echo'?" in done.err and "'n'" not in done.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--outptu", "json"], "did you mean '--output'?"),
        (["-o", "jsn"], "did you mean 'json'?"),
        (["-j", "0"], "at least 1"),
        (["--timeout", "5y"], "units are ms, s, m, h and d"),
        (["--timeout", "0"], "longer than 0"),
        (["--max-credits", "1.5"], "whole number"),
        (["--max-cost", "cheap"], "US dollars"),
        (["-i", "x"], "expected name=value"),
        (["-i", "x=1", "-i", "x=2"], "given twice"),
        (["--json", "-o", "yaml"], "contradicts"),
        (["--store", "s", "--no-store"], "contradict"),
        (["--field", "o", "--json"], "does not go with"),
        (["--allow", "shel(*)"], "did you mean 'shell'?"),
        (["--deny", "shell("], "closing parenthesis"),
        (["--record", "x", "--replay", "y"], "contradict"),
        (["--tools", "x"], "no such folder"),
        (["--events", "/nowhere/at/all"], "cannot be written"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_or_two_lines(
    write: Write, call: Call, words: list[str], told: str
) -> None:
    done = call("run", write("r.yaml", [ECHO]), *words)
    assert done.code == 2 and told in done.err
    assert (done.out == "") != ("--json" in words)
    assert len(done.err.splitlines()) <= 2


def test_settings_come_from_the_environment_and_flags_go_first(
    write: Write, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("r.yaml", [ECHO])
    monkeypatch.setenv("VROOLI_OUTPUT", "json")
    monkeypatch.setenv("VROOLI_VIEW", "none")
    assert call("run", file).json["success"] is True
    assert call("run", file, "-o", "none").out == ""
    monkeypatch.setenv("VROOLI_MAX_CONCURRENT", "many")
    assert "VROOLI_MAX_CONCURRENT" in call("run", file).err


def test_inputs_come_from_flags_files_and_stdin(write: Write, process: Call, folder: Path) -> None:
    file = write(
        "r.yaml", [ECHO], inputs={"t": {"type": "string"}, "n": {"type": "integer"}}, outputs={"o": "{{ t }}{{ n }}"}
    )
    (folder / "t.txt").write_text("from a file")
    assert process("run", file, "-q", "-i", "t=@t.txt", "-i", "n=5").out == "from a file5\n"
    assert process("run", file, "-q", "-i", "t=-", "-i", "n=5", stdin="@not a file").out == "@not a file5\n"
    assert process("run", file, "-q", "--inputs", "-", stdin="{t: x, n: 7}").out == "x7\n"
    both = process("run", "-", "-i", "t=-", stdin="steps: [{id: a, wait: 0s}]\ninputs: {t: {type: string}}")
    assert both.code == 2 and "stdin is read by the routine (-) already" in both.err


@pytest.mark.parametrize(
    ("steps", "words", "code"),
    [
        ([FAIL], [], 1),
        ([{"id": "w", "wait": "20s"}], ["--timeout", "100ms"], 124),
        ([ECHO], ["--deny", "echo"], 3),
        ([{"id": "ok", "approval": "Ship?"}], ["--no-input"], 5),
        ([{"id": "ok", "approval": "Ship?"}], ["--yes"], 0),
        ([{"id": "s", "tool": "shell", "parameters": {"command": "exit 7"}}], [], 1),
        ([{"id": "s", "tool": "shell", "parameters": {"command": "exit 7"}}], ["-x"], 7),
        ([{"id": "s", "tool": "nope"}], [], 2),
    ],
)
def test_exit_codes(write: Write, call: Call, steps: list[dict[str, object]], words: list[str], code: int) -> None:
    assert call("run", write("r.yaml", steps), "-q", *words).code == code


def test_what_failed_and_what_to_do_is_said_in_every_view(write: Write, call: Call) -> None:
    file = write("r.yaml", [FAIL])
    for words in (["--view", "plain"], ["--view", "none"], ["-q"], []):
        done = call("run", file, *words)
        assert "nope" in done.err and "vrooli resume " in done.err and done.out == ""
    ask = write("ask.yaml", [{"id": "ok", "approval": "Ship?"}])
    assert "vrooli approve " in call("run", ask, "--view", "none").err
    unkept = call("run", ask, "--no-store")
    assert unkept.code == 5 and "vrooli approve" not in unkept.err and "--yes" in unkept.err


def test_a_secret_is_on_neither_stream_in_any_format(write: Write, call: Call, folder: Path) -> None:
    file = write(
        "r.yaml",
        [{**ECHO, "parameters": {"message": "<{{ token }}>"}}, {**FAIL, "parameters": {"message": "{{ token }}"}}],
        inputs={"token": {"type": "string", "secret": True}},
        outputs={"o": "{{ steps.a.result }}"},
    )
    for format_ in ("text", "json", "yaml", "ndjson"):
        done = call("run", file, "-i", "token=hunter2-hunter2", "-o", format_, "-v", "--events", "e")
        assert "hunter2" not in done.out + done.err + (folder / "e").read_text()
        assert format_ == "text" or "***" in done.out
    dry = call("run", file, "-i", "token=hunter2-hunter2", "--dry-run")
    assert dry.code == 0 and "hunter2" not in dry.out


def test_a_large_step_result_is_cut_and_says_so(write: Write, call: Call) -> None:
    steps = [
        {**ECHO, "parameters": {"message": "x" * 70_000}},
        {**ECHO, "id": "b", "parameters": {"message": ["x" * 70_000, "y"]}},
        {
            "id": "c",
            "tool": "shell",
            "parameters": {"command": "head -c 80000 /dev/zero | tr '\\0' x; exit 3", "ok_codes": 3},
        },
    ]
    shown = call("run", write("r.yaml", steps), "--json", "-q").json["steps"]
    assert shown["a"]["truncated"] is True and len(shown["a"]["result"]) == 65_536
    assert shown["b"]["truncated"] is True and shown["b"]["result"] == ["x" * 65_536]
    whole = shown["c"]["result"]
    assert shown["c"]["truncated"] is True and (whole["exit_code"], whole["stderr"]) == (3, "")
    assert 60_000 < len(whole["stdout"]) <= 65_536


def test_the_history_cuts_a_large_result_as_the_run_did(write: Write, call: Call) -> None:
    large = {"n": 1, "blob": "x" * 70_000}
    steps = [{**ECHO, "id": name, "parameters": {"message": value}} for name, value in (("a", large), ("b", "y" * 7))]
    shown = call("run", write("r.yaml", steps), "--json", "-q").json["steps"]
    assert shown["a"]["result"]["n"] == 1 and shown["a"]["truncated"] is True
    assert call("runs", "show", "last", "--json").json["steps"] == shown


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_a_result_has_every_step_in_order(write: Write, call: Call, count: int) -> None:
    file = write("r.yaml", [{**ECHO, "id": f"s{i}", "parameters": {"message": i}} for i in range(count)])
    steps = call("run", file, "--json", "-q").json["steps"]
    assert [step["result"] for step in steps.values()] == list(range(count))


def test_a_secret_at_the_place_where_a_result_is_cut_is_whole_when_it_is_hidden(write: Write, call: Call) -> None:
    long = {**ECHO, "parameters": {"message": "{{ 'x' * 65530 }}{{ token }}{{ 'y' * 100 }}"}}
    file = write("r.yaml", [long], inputs={"token": {"type": "string", "secret": True}})
    done = call("run", file, "-i", "token=hunter2-hunter2", "--json", "-q")
    assert done.json["steps"]["a"]["truncated"] is True
    assert "hunter" not in done.out


@settings(max_examples=50)
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_cut_is_small_and_keeps_its_shape(value: Any) -> None:
    room = 20
    kept = cut(value, room)
    assert type(kept) is type(value) or kept is None
    if len(as_json(value)) <= room:
        assert kept == value
    if isinstance(kept, dict | list):
        assert len(as_json(kept)) <= room * 3


def test_ci_gets_annotations_with_the_line_of_the_step(
    write: Write, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    file = write("r.yaml", "steps:\n- id: g\n  parallel:\n  - {id: bad, tool: fail, parameters: {message: 'a%b'}}\n")
    done = call("run", file)
    assert "::error file=r.yaml,line=4,col=5::g/bad: TOOL_FAILED: a%25b\n" in done.err
    bad = write("bad.yaml", "steps:\n- {id: a, tol: echo}\n")
    assert "::error file=bad.yaml,line=2,col=11::'tol' is not a key" in call("validate", bad).err


def test_a_failure_inside_a_task_has_the_line_of_its_step(
    write: Write, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    write("work.yaml", "name: work\nsteps:\n- {id: w, tool: fail, parameters: {message: no}}\n")
    agents = "agents:\n- {id: a, capabilities: [], routine: work.yaml}\n"
    swarm = write("s.yaml", f"name: s\ngoal: g\n{agents}tasks:\n- {{id: t}}\n")
    done = call("run", swarm, "--junit", "j.xml")
    assert "::error file=work.yaml,line=3,col=3::task:t/w: TOOL_FAILED: no\n" in done.err
    told = Path("j.xml").read_text()
    assert 'file="work.yaml" line="3"' in told and 'file="s.yaml" line="6"' in told


def test_a_failure_inside_a_swarms_handler_has_the_line_of_its_step(write: Write, call: Call) -> None:
    handlers = "handlers:\n  finally:\n  - {id: f, tool: fail, parameters: {message: no}}\n"
    agents = "agents:\n- {id: a, capabilities: [], routine: work.yaml}\n"
    write("work.yaml", "name: work\nsteps:\n- {id: w, tool: echo, parameters: {message: x}}\n")
    swarm = write("s.yaml", f"name: s\ngoal: g\n{agents}tasks:\n- {{id: t}}\n{handlers}")
    call("run", swarm, "--junit", "j.xml")
    assert re.search(r'name="handlers.finally/f"[^>]* file="s.yaml" line="9"', Path("j.xml").read_text())


def test_a_bug_is_a_line_a_file_and_exit_70(
    write: Write, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*words: object, **more: object) -> None:
        raise AssertionError("the moon is full")

    monkeypatch.setattr("vrooli_cli.loading.bundle.load_bundle", broken)
    done = call("run", write("r.yaml", [ECHO]), "-o", "json")
    assert done.code == 70 and done.json["error"]["code"] == "INTERNAL"
    (file,) = (folder / "state/vrooli/crashes").iterdir()
    assert str(file) in done.err and "the moon is full" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_the_last_line_of_a_run_that_failed_counts_what_never_began(write: Write, call: Call) -> None:
    bad = {"id": "bad", "tool": "fail", "parameters": {"message": "no"}}
    steps = [bad, {**ECHO, "depends_on": ["bad"]}, {**bad, "id": "w"}, {**ECHO, "id": "v"}, {**ECHO, "id": "x"}]
    err = call("run", write("r.yaml", steps), "-j", 1, "--view", "plain").err
    assert re.search(r"^✗ r failed after \S+ · 0/5 steps · 1 skipped · 3 cancelled · ", err, re.M), err
