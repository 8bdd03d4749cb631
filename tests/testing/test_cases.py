"""``vrooli test``: what a case may say, what it is answered, and that it can touch nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from vrooli_cli import ExecutionArchitecture, ScriptedAI
from vrooli_cli.errors import DefinitionError
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.write import plain_yaml
from vrooli_cli.testing.cases import find_files, read_test_file
from vrooli_cli.testing.report import as_junit
from vrooli_cli.testing.running import Verdict, run_file
from vrooli_cli.tier3.ai.remembered import Cassette

VROOLI = str(Path(sys.executable).with_name("vrooli"))


async def verdict(folder: Path, routine: str, **case: Any) -> Verdict:
    """What becomes of one case of a routine."""
    (folder / "r.yaml").write_text(routine)
    (folder / "r.test.yaml").write_text(
        plain_yaml({"routine": "r.yaml", "cases": [{"name": "the case", **case}]}), encoding="utf-8"
    )
    (one,) = await run_file(read_test_file(folder / "r.test.yaml"))
    return one


async def passes(folder: Path, routine: str, **case: Any) -> Verdict:
    """A case that has to pass."""
    one = await verdict(folder, routine, **case)
    assert one.differences == ()
    return one


async def fails(folder: Path, routine: str, **case: Any) -> str:
    """The first difference of a case that has to fail."""
    one = await verdict(folder, routine, **case)
    assert one.differences
    return one.differences[0]


SHELL = """
steps:
  - {id: log, tool: shell, parameters: {command: [git, log, -n, 3], parse: lines}}
  - {id: count, tool: echo, parameters: {message: "{{ steps.log.result.value | length }}"}}
outputs: {count: "{{ steps.count.result }}"}
"""
ANSWER = {"stdout": "", "stderr": "", "exit_code": 0, "value": ["a", "b"]}


async def test_a_stub_answers_for_its_step_before_one_for_its_tool(tmp_path: Path) -> None:
    stubs = {"shell": {**ANSWER, "value": []}, "log": ANSWER}
    await passes(tmp_path, SHELL, stubs=stubs, expect={"outputs": {"count": 2}})
    await passes(tmp_path, SHELL, stubs={"shell": ANSWER}, expect={"outputs": {"count": 2}})


async def test_what_would_touch_the_world_is_refused_without_a_stub(tmp_path: Path) -> None:
    for tool in (
        f"tool: shell, parameters: {{command: [touch, {tmp_path}/made]}}",
        f"tool: file_write, parameters: {{path: {tmp_path}/made, content: x}}",
        "tool: http, parameters: {url: 'http://127.0.0.1:9/'}",
    ):
        told = await fails(tmp_path, f"steps: [{{id: a, {tool}}}]")
        assert "give it a stub, or say `live: true`" in told
    assert not (tmp_path / "made").exists()


async def test_live_lets_effects_happen(tmp_path: Path) -> None:
    routine = "steps: [{id: a, tool: file_write, parameters: {path: made.txt, content: x}}]"
    await passes(tmp_path, routine, live=True, expect={"calls": [{"tool": "file_write"}]})
    assert (tmp_path / "made.txt").read_text() == "x"


async def test_a_stub_can_fail_a_step_and_can_escape_the_word(tmp_path: Path) -> None:
    error = {"error": {"code": "NO_BRANCH", "message": "no such branch"}}
    one = await passes(tmp_path, SHELL, stubs={"log": error}, expect={"error": "NO_BRANCH", "steps": {"log": "failed"}})
    assert one.observed.steps["count"]["status"] == "skipped"
    routine = "steps: [{id: a, tool: shell, parameters: {command: [x]}}]\noutputs: {a: '{{ steps.a.result }}'}"
    await passes(tmp_path, routine, stubs={"a": {"result": error}}, expect={"outputs": {"a": error}})


async def test_parameters_and_permissions_are_checked_as_in_a_run(tmp_path: Path) -> None:
    routine = """
permissions: {deny: ["shell(rm *)"]}
inputs: {word: {}}
steps: [{id: a, tool: shell, parameters: {command: ["{{ word }}", "-r"]}}]
"""
    denied = await verdict(tmp_path, routine, inputs={"word": "rm"}, stubs={"a": ANSWER})
    assert denied.observed.error is not None
    assert denied.observed.error["code"] == "PERMISSION_DENIED"
    wrong = await verdict(tmp_path, routine, inputs={"word": [1]}, stubs={"a": ANSWER})
    assert wrong.observed.error is not None
    assert wrong.observed.error["code"] == "PARAMETER_INVALID"


async def test_stubs_reach_into_groups_loops_child_runs_and_handlers(tmp_path: Path) -> None:
    (tmp_path / "child.yaml").write_text("steps: [{id: inner, tool: shell, parameters: {command: [x]}}]")
    routine = """
steps:
  - id: group
    parallel: [{id: a, tool: shell, parameters: {command: [x]}}]
  - {id: each, for_each: [1, 2], tool: shell, parameters: {command: [x]}}
  - {id: call, routine: child.yaml}
  - {id: whole, routine: child.yaml}
handlers: {finally: [{id: f, tool: shell, parameters: {command: [x]}}]}
outputs: {group: "{{ steps.group.result.a }}", each: "{{ steps.each.result }}", call: "{{ steps.call.result.inner }}",
          whole: "{{ steps.whole.result }}"}
"""
    stubs = {"group/a": 1, "each[1]": "one", "each": "any", "call/inner": 2, "whole": 3, "handlers.finally/f": 4}
    await passes(
        tmp_path,
        routine,
        stubs=stubs,
        expect={
            "outputs": {"group": 1, "each": ["any", "one"], "call": 2, "whole": 3},
            "steps": {"group/a": "completed", "each[0]": "completed", "call/inner": "completed"},
        },
    )


async def test_a_stub_that_nothing_asks_for_is_a_mistake(tmp_path: Path) -> None:
    told = await fails(tmp_path, SHELL, stubs={"lgo": ANSWER})
    assert told == "nothing was run: stubs: there is no step and no tool 'lgo'; did you mean 'log'?"


PROMPT = """
steps:
  - id: notes
    prompt: Group these
    output_schema: {type: object, properties: {themes: {type: array, items: {type: string}}}, required: [themes]}
outputs: {themes: "{{ steps.notes.result.themes }}"}
"""


async def test_replies_answer_prompts_in_order_and_an_unscripted_one_fails(tmp_path: Path) -> None:
    await passes(
        tmp_path,
        PROMPT,
        replies=[{"themes": ["fixes"]}],
        expect={
            "outputs": {"themes": ["fixes"]},
            "that": ["steps.notes.attempts == 1"],
            "events": ["tier3/ai/responded"],
        },
    )
    assert "the case has no reply left for notes" in await fails(tmp_path, PROMPT)
    await passes(tmp_path, PROMPT, stubs={"notes": {"themes": []}}, expect={"outputs": {"themes": []}})
    assert "output_schema" in await fails(tmp_path, PROMPT, stubs={"notes": {"theme": []}})


async def test_replies_answer_prompts_also_where_the_rest_is_made_up(tmp_path: Path) -> None:
    keep = "  - {id: keep, tool: shell, parameters: {command: [keep]}}\n"
    routine = PROMPT.replace("steps:\n", f"steps:\n{keep}")
    replies = [{"themes": ["fixes"]}]
    await passes(tmp_path, routine, replies=replies, generate=True, expect={"steps": {"keep": "completed"}})
    assert "no reply left" in await fails(tmp_path, routine, replies=[{"theme": []}], generate=True)


async def test_a_model_that_calls_a_tool_is_answered_by_its_stub(tmp_path: Path) -> None:
    routine = "steps: [{id: ask, prompt: Look, tools: [shell]}]\noutputs: {said: '{{ steps.ask.result }}'}"
    call = {"tool_calls": [{"name": "shell", "arguments": {"command": ["ls"]}}]}
    await passes(
        tmp_path,
        routine,
        replies=[call, "done"],
        stubs={"shell": ANSWER},
        expect={"outputs": {"said": "done"}, "calls": [{"tool": "shell", "parameters": {"command": ["ls"]}}]},
    )


async def test_every_effect_can_be_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routine = """
inputs: {n: {type: integer, default: 3}}
steps:
  - {id: log, tool: shell, parameters: {command: [git, log], parse: lines}}
  - {id: page, tool: http, parameters: {url: "https://example.org"}}
  - {id: each, for_each: "{{ steps.log.result.value }}", prompt: "About {{ item }}"}
  - id: rated
    prompt: Rate it
    output_schema: {type: object, properties: {stars: {type: integer, minimum: 3}, why: {type: string}}}
  - {id: ok, tool: assert, parameters: {that: ["steps.rated.result.stars > 100"]}}
  - {id: ask, approval: Really?}
outputs: {stars: "{{ steps.rated.result.stars }}", page: "{{ steps.page.result.status }}"}
"""
    first = await passes(tmp_path, routine, generate=True, expect={"outputs": {"stars": 3, "page": 200}})
    again = await passes(tmp_path, routine, generate=True)
    assert first.observed.events == again.observed.events
    monkeypatch.setattr("vrooli_cli.tier2.run.TURN_SECONDS", 1e-6)  # as on a machine on which everything takes long
    slow = await passes(tmp_path, routine, generate=True)
    assert first.observed.events == slow.observed.events


async def test_time_and_ids_stand_still_and_nothing_waits(tmp_path: Path) -> None:
    routine = """
steps:
  - {id: nap, wait: 1h}
  - {id: poll, tool: shell, parameters: {command: [x]}, retry: {max_attempts: 3, delay: 10m}, on_error: continue}
outputs: {id: "{{ run.id }}", at: "{{ run.started_at }}", attempts: "{{ steps.poll.attempts }}"}
"""
    one = await passes(
        tmp_path,
        routine,
        clock="2026-03-04T05:06:07Z",
        stubs={"poll": {"error": {"code": "TOOL_FAILED", "message": "no"}}},
    )
    assert one.observed.outputs["id"] == "test"
    assert one.observed.outputs["at"].startswith("2026-03-04T05:06:07")
    assert one.observed.outputs["attempts"] == 3
    assert one.seconds < 5


async def test_approvals_are_answered_by_stubs_or_suspend(tmp_path: Path) -> None:
    routine = "steps: [{id: ask, approval: Really?}, {id: b, tool: echo, parameters: {message: x}, depends_on: [ask]}]"
    await passes(tmp_path, routine, expect={"status": "suspended", "steps": {"ask": "suspended"}})
    await passes(tmp_path, routine, stubs={"ask": True})
    await passes(tmp_path, routine, stubs={"ask": False}, expect={"error": "APPROVAL_DENIED"})


async def test_declared_secrets_are_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAL_TOKEN", "the-real-one")
    routine = """
secrets: {token: {env: REAL_TOKEN}}
steps: [{id: a, tool: shell, parameters: {command: [x], env: {T: "{{ secrets.token }}"}}}]
"""
    one = await passes(tmp_path, routine, stubs={"a": ANSWER})
    assert one.observed.calls[0]["parameters"]["env"] == {"T": "test-secret-token"}


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ({"outputs": {"count": 3}}, "outputs.count: expected 3, got 2"),
        ({"outputs": {"count": 2, "more": 1}}, "outputs: expected the key 'more', got the keys count"),
        ({"outputs": {}}, "outputs: got the key 'count' that was not expected, with 2"),
        ({"status": "failed"}, "status: expected failed, got completed"),
        ({"steps": {"log": "skipped"}}, "steps.log: expected skipped, got completed"),
        ({"steps": {"lgo": "completed"}}, "steps.lgo: expected \"completed\", got nothing; did you mean 'log'?"),
        (
            {"calls": [{"tool": "http"}]},
            'calls[0]: expected {"tool": "http"}, and no such call was made; calls: shell, echo',
        ),
        (
            {"calls": [{"tool": "shell", "parameters": {"command": ["git", "status", "*"]}}]},
            'calls[0].parameters.command[1]: expected "status", got "log"',
        ),
        ({"that": ["steps.log.attempts > 1"]}, "that[0]: steps.log.attempts > 1 is false: steps.log.attempts is 1"),
        ({"that": ["outputs.count"]}, "that[0]: outputs.count: it must give true, false or null, not 2"),
        ({"events": ["tier3/ai/*"]}, "events: expected tier3/ai/*; it did not happen"),
        ({"error": "TOOL_FAILED"}, "status: expected failed, got completed"),
    ],
)
async def test_the_first_difference_names_its_place(expect: dict[str, Any], difference: str, tmp_path: Path) -> None:
    assert await fails(tmp_path, SHELL, stubs={"log": ANSWER}, expect=expect) == difference


async def test_a_star_at_the_end_of_a_list_is_the_rest(tmp_path: Path) -> None:
    calls = [{"tool": "shell", "parameters": {"command": ["git", "*"]}}, "*"]
    await passes(tmp_path, SHELL, stubs={"log": ANSWER}, expect={"calls": calls})
    calls = [{"tool": "shell", "parameters": {"command": ["git"]}}]
    assert "got 4; the first one more is" in await fails(
        tmp_path, SHELL, stubs={"log": ANSWER}, expect={"calls": calls}
    )


async def test_a_routine_that_is_wrong_fails_its_cases_in_one_line(tmp_path: Path) -> None:
    told = await fails(tmp_path, "steps: [{id: a, tool: ecko, parameters: {message: 1}}]")
    assert told.startswith("nothing was run: ")
    assert "did you mean 'echo'?" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("routine: r.yaml\ncases: []\n", "cases"),
        ("routine: r.yaml\ncases: [{name: a}, {name: a}]\n", "another case is called 'a', too"),
        ("routine: r.yaml\ncases: [{name: a, replies: [1], cassette: c.yaml}]\n", "either `replies` or a `cassette`"),
        ("routine: r.yaml\ncases: [{name: a, clock: 2026-99-01}]\n", "not a time"),
        ("routine: r.yaml\ncases: [{name: a, stub: {}}]\n", "did you mean 'stubs'?"),
    ],
)
def test_a_wrong_test_file_is_told_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.test.yaml").write_text(text)
    with pytest.raises(DefinitionError) as wrong:
        read_test_file(tmp_path / "x.test.yaml")
    assert message in str(wrong.value.problems[0])
    assert wrong.value.problems[0].line


def test_test_files_are_found_below_folders_but_not_in_installed_things(tmp_path: Path) -> None:
    for place in ("b.test.yaml", "a/c.test.yml", ".hidden/d.test.yaml", "node_modules/e.test.yaml", "f.yaml"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("")
    found = [str(path.relative_to(tmp_path)) for path in find_files([], tmp_path)]
    assert found == ["b.test.yaml", "a/c.test.yml"]


def vrooli(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command as a process."""
    return subprocess.run([VROOLI, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_a_routine_stands_for_the_test_file_beside_it(tmp_path: Path) -> None:
    for name in ("r.yaml", "r.test.yaml", "alone.yaml"):
        (tmp_path / name).write_text("")
    found = find_files([str(tmp_path / name) for name in ("r.yaml", "r.test.yaml", "alone.yaml")], tmp_path)
    assert [path.name for path in found] == ["r.test.yaml", "alone.yaml"]


def test_the_command_tells_a_line_a_case_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(SHELL)
    case = "routine: r.yaml\ncases:\n"
    case += "  - {name: good, stubs: {log: {value: [a]}}, expect: {outputs: {count: 1}}}\n"
    case += "  - {name: bad <&>, stubs: {log: {value: [a]}}, expect: {outputs: {count: 2}}}\n"
    (tmp_path / "r.test.yaml").write_text(case)
    done = vrooli("test", "--junit", "j.xml", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == (
        "ok    r.test.yaml: good\nFAIL  r.test.yaml:4: bad <&>\n      outputs.count: expected 2, got 1\n"
    )
    assert done.stderr == "1 passed, 1 failed\n"
    suite = ET.parse(tmp_path / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [one.get("name") for one in suite.iter("testcase")] == ["good", "bad <&>"]
    data = json.loads(vrooli("test", "--json", folder=tmp_path).stdout)
    assert (data["passed"], data["failed"]) == (1, 1)
    assert data["cases"][1]["differences"] == ["outputs.count: expected 2, got 1"]
    assert vrooli("test", "-k", "good", folder=tmp_path).returncode == 0
    assert vrooli("test", "nothing.test.yaml", folder=tmp_path).returncode == 2


def test_update_writes_what_was_observed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(SHELL)
    before = (
        "# kept\nroutine: r.yaml\ncases:\n"
        "  - name: block   # kept, too\n"
        "    stubs: {log: {value: [a]}}\n"
        "    expect:\n"
        "      outputs:\n"
        "        count: 7\n"
        "\n"
        "      steps: {log: completed}\n"
        "  - {name: flow, stubs: {log: {value: [a, b]}}, expect: {outputs: {count: 9}}}\n"
        "  - name: nothing yet\n"
        "    stubs: {log: {value: []}}\n"
        "  - {name: says enough, stubs: {log: {value: []}}, expect: {that: [outputs.count == 0]}}\n"
    )
    (tmp_path / "r.test.yaml").write_text(before)
    done = vrooli("test", "--update", folder=tmp_path)
    assert (done.returncode, done.stdout.count("wrote ")) == (0, 3)
    after = before.replace("count: 7", "count: 1").replace("outputs: {count: 9}", 'outputs: {"count": 2}')
    after = after.replace(
        "    stubs: {log: {value: []}}\n  - {name: says",
        "    stubs: {log: {value: []}}\n    expect:\n      outputs:\n        count: 0\n  - {name: says",
    )
    assert (tmp_path / "r.test.yaml").read_text() == after
    assert vrooli("test", folder=tmp_path).returncode == 0


def test_the_routines_of_this_repository_pass_their_tests() -> None:
    done = vrooli("test", "routines", folder=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout


async def test_junit_survives_names_that_xml_cannot_hold(tmp_path: Path) -> None:
    one = await verdict(tmp_path, SHELL, name='a "b" <c> \x1b]0;x\x07', stubs={"log": ANSWER}, expect={"outputs": {}})
    (case,) = ET.fromstring(as_junit([one])).iter("testcase")
    assert case.get("name") == 'a "b" <c> \ufffd]0;x\ufffd'


async def test_a_cassette_answers_prompts_and_a_miss_fails(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(PROMPT)
    cassette = Cassette.record(tmp_path / "c.yaml")
    answers = ScriptedAI([{"themes": ["recorded"]}])
    async with ExecutionArchitecture(ai=answers, cassette=cassette) as architecture:
        await architecture.prepare(load_bundle(tmp_path / "r.yaml"), {}).run()
        await architecture.ai.aclose()
    await passes(tmp_path, PROMPT, cassette="c.yaml", expect={"outputs": {"themes": ["recorded"]}})
    changed = PROMPT.replace("Group these", "Group those")
    assert "those" in await fails(tmp_path, changed, cassette="c.yaml")
