"""What other tools take from here: the GitHub Action, the pre-commit hooks, completions, ``doctor``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
VROOLI = str(Path(sys.executable).with_name("vrooli"))


def run(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command as a process; no key and no settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VROOLI_", "OPENAI_"))}
    kept |= {"VROOLI_STORE": str(folder / "s.db"), "NO_COLOR": "1", **environment}
    return subprocess.run(words, cwd=folder, env=kept, capture_output=True, text=True, timeout=60, check=False)


def test_the_action_runs_a_routine_and_writes_summary_and_outputs(tmp_path: Path) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    script = action["runs"]["steps"][-1]["run"]
    (tmp_path / "r.yaml").write_text(
        "inputs: {name: {}}\n"
        "steps: [{id: a, tool: echo, parameters: {message: 'Hi {{ name }}'}}]\n"
        "outputs: {said: '{{ steps.a.result }}'}\n"
    )
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    environment = {
        "ROUTINE": "r.yaml",
        "INPUTS": '{name: "$(touch pwned) `x` | <b>"}',
        "ARGS": "--view none",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_OUTPUT": str(outputs),
        "GITHUB_STEP_SUMMARY": str(summary),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = run("bash", "-e", "-c", script, folder=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "pwned").exists()
    assert "completed" in outputs.read_text()
    assert json.dumps({"said": "Hi $(touch pwned) `x` | <b>"}) in outputs.read_text()
    assert summary.read_text().count("completed") == 2  # of the run and of its step: told once
    assert "Hi $(touch pwned)" in summary.read_text()
    summary.unlink()  # every step has one of its own
    missing = run("bash", "-e", "-c", script, folder=tmp_path, **environment | {"ROUTINE": "no.yaml"})
    assert missing.returncode == 2
    assert "failed" in summary.read_text()
    assert "no.yaml" in summary.read_text()
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_annotations_name_files_from_the_root_of_the_checkout(tmp_path: Path) -> None:
    inner = tmp_path / "checkout" / "sub"
    inner.mkdir(parents=True)
    (inner / "wrong.yaml").write_text("steps: [{id: a, tol: echo}]\n")
    (inner / "failing.yaml").write_text("steps: [{id: a, tool: fail}]\n")
    github = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(tmp_path / "checkout")}
    assert (
        "::error file=sub/wrong.yaml,line=1,col=17::" in run(VROOLI, "run", "wrong.yaml", folder=inner, **github).stderr
    )
    assert "::error file=sub/failing.yaml,line=1," in run(VROOLI, "run", "failing.yaml", folder=inner, **github).stderr
    elsewhere = {**github, "GITHUB_WORKSPACE": str(tmp_path / "other")}
    assert "::error file=wrong.yaml," in run(VROOLI, "validate", "wrong.yaml", folder=inner, **elsewhere).stderr


def test_every_input_of_the_action_is_described() -> None:
    action: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    assert all(one["description"] for one in (*action["inputs"].values(), *action["outputs"].values()))


@pytest.mark.parametrize(
    "hook", yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()), ids=lambda one: one["id"]
)
def test_the_pre_commit_hooks_call_what_there_is(hook: dict[str, Any], tmp_path: Path) -> None:
    assert run(VROOLI, "init", ".", folder=tmp_path).returncode == 0
    files = [] if hook.get("pass_filenames") is False else ["routines/words.yaml", "routines/words.test.yaml"]
    words = hook["entry"].split()
    done = run(VROOLI, *words[1:], *files, folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("shell", "mark"), [("bash", "complete -"), ("zsh", "#compdef vrooli"), ("fish", "complete ")])
def test_there_is_a_completion_script_for_each_shell(shell: str, mark: str, tmp_path: Path) -> None:
    done = run(VROOLI, folder=tmp_path, _VROOLI_COMPLETE=f"source_{shell}")
    assert mark in done.stdout


def completed(folder: Path, *words: str) -> list[str]:
    """What bash is offered for the last word."""
    asked = {"_VROOLI_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    return run(VROOLI, folder=folder, **asked).stdout.split()


def test_names_of_routines_tests_and_inputs_are_completed(tmp_path: Path) -> None:
    (tmp_path / "routines").mkdir()
    (tmp_path / "vrooli.yaml").write_text("")
    for name in ("alpha", "alps", "beta"):
        text = "inputs: {word: {type: string}, wide: {type: string}}\nsteps: [{id: a, wait: 1s}]\n"
        (tmp_path / "routines" / f"{name}.yaml").write_text(text)
    (tmp_path / "routines" / "alpha.test.yaml").write_text("routine: alpha.yaml\ncases: [{name: a}]\n")
    assert completed(tmp_path, "vrooli", "run", "al") == ["alpha", "alps"]
    assert completed(tmp_path, "vrooli", "run", "alpha", "-i", "wo") == ["word="]
    assert completed(tmp_path, "vrooli", "test", "routines/al") == ["routines/alpha.test.yaml"]


def test_ids_and_steps_of_runs_are_completed(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("steps: [{id: one, approval: {prompt: ok?}}, {id: two, wait: 1ms}]\n")
    assert run(VROOLI, "run", "r.yaml", "--no-input", "--view", "none", folder=tmp_path).returncode == 5
    known = completed(tmp_path, "vrooli", "runs", "show", "")
    assert len(known) == 2
    assert known[-1] == "last"
    assert completed(tmp_path, "vrooli", "approve", known[0], "") == ["one"]
    assert completed(tmp_path, "vrooli", "resume", "last", "--assume", "one=") == [
        "one=done",
        "one=failed",
        "one=rerun",
    ]


BASH = """
source <(_VROOLI_COMPLETE=source_bash vrooli)
COMP_LINE=$1 COMP_POINT=${#1}
_vrooli_completion vrooli
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { :; }
_files() { print files }
_describe() { print -rl -- "${(@P)3}" $4 $5 }
source <(_VROOLI_COMPLETE=source_zsh vrooli)
words=("${(@s: :)1}") CURRENT=$#words
_vrooli_completion
"""


@pytest.mark.parametrize(("shell", "program"), [("bash", BASH), ("zsh", ZSH)])
def test_the_shell_itself_completes(shell: str, program: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    (tmp_path / "routines").mkdir()
    (tmp_path / "vrooli.yaml").write_text("")
    (tmp_path / "routines" / "alpha.yaml").write_text(
        "inputs: {lang: {type: string, enum: [de, en], description: 'Say: which'}, sure: {type: boolean}}\n"
        "steps: [{id: a, wait: 1ms}]\n"
    )
    path = f"{Path(VROOLI).parent}:{os.environ['PATH']}"

    def offered(line: str) -> list[str]:
        return run(shell, "-c", program, shell, line, folder=tmp_path, PATH=path).stdout.split("\n")[:-1]

    nothing, bare, told = {"bash": ([""], [], "lang="), "zsh": (["files"], ["-S"], "lang=:Say: which")}[shell]
    assert offered("vrooli run al") == ["alpha"]
    assert offered("vrooli run alpha -i la") == [told, *bare]
    before = "" if shell == "bash" else "lang="  # readline replaces only what stands behind the =
    assert offered("vrooli run alpha -i lang=") == [f"{before}de", f"{before}en"]
    assert offered("vrooli run alpha -i sure=t") == ["true" if shell == "bash" else "sure=true"]
    assert offered("vrooli run alpha --inputs no-such-f") == nothing


def test_parameters_of_a_tool_and_runs_that_can_go_on_are_completed(tmp_path: Path) -> None:
    assert completed(tmp_path, "vrooli", "tools", "call", "file_read", "-p", "pa") == ["path="]
    assert "format=csv" in completed(tmp_path, "vrooli", "tools", "call", "file_read", "-p", "format=")
    (tmp_path / "good.yaml").write_text("steps: [{id: a, wait: 1ms}]\n")
    (tmp_path / "bad.yaml").write_text("steps: [{id: a, tool: fail}]\n")
    for name in ("good", "bad"):
        run(VROOLI, "run", f"{name}.yaml", "--view", "none", folder=tmp_path)
    assert len(completed(tmp_path, "vrooli", "runs", "show", "")) == 3
    assert len(completed(tmp_path, "vrooli", "resume", "")) == 1


def test_doctor_tells_what_is_missing_and_shows_no_key(tmp_path: Path) -> None:
    done = run(VROOLI, "doctor", "--json", folder=tmp_path)
    assert done.returncode == 0
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert found["model"]["state"] == "note"
    assert "OPENAI_API_KEY is not set" in found["model"]["told"]
    assert found["store"]["told"] == str(tmp_path / "s.db")
    wrong = run(
        VROOLI, "doctor", folder=tmp_path, OPENAI_API_KEY="sk-very-secret", OPENAI_BASE_URL="http://127.0.0.1:9/v1"
    )
    assert wrong.returncode == 1
    assert "cannot be reached" in wrong.stdout
    assert "very-secret" not in wrong.stdout + wrong.stderr
    (tmp_path / "vrooli.yaml").write_text("no_such_key: 1\n")
    assert "vrooli.yaml:1:1" in run(VROOLI, "doctor", folder=tmp_path).stdout
