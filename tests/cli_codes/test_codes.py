"""Every row of the table of exit codes, with the code in the JSON result; signals and some rows by real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vrooli_cli.cli.app import run_command_line

HOG = "import time; x = bytearray(300 << 20); time.sleep(20)"
PRICED = "from vrooli_cli import tool\n\n\n@tool(effects='none', credits=3)\ndef dear() -> int:\n    return 1\n"
APPROVAL = "steps: [{id: ok, approval: Ship?}]"


@dataclass(frozen=True)
class Row:
    """One way to end: a routine, what is said on the command line, the exit code, and the error's code."""

    code: int
    error: str | None
    routine: str
    words: Sequence[str] = ()


ROWS = {
    "success": Row(0, None, "steps: [{id: a, tool: echo, with: {message: 1}}]"),
    "step-failed": Row(1, "TOOL_FAILED", "steps: [{id: a, tool: fail, with: {message: no}}]"),
    "own-code": Row(1, "MINE", "steps: [{id: a, tool: fail, with: {message: no, code: MINE}}]"),
    "step-timeout": Row(1, "STEP_TIMEOUT", "steps: [{id: a, wait: 9s, timeout: 50ms}]"),
    "exhausted": Row(
        1, "REPEAT_EXHAUSTED", "steps: [{id: a, tool: echo, with: {message: 1}, repeat: {until: false, max: 2}}]"
    ),
    "expression": Row(
        1,
        "EXPRESSION_ERROR",
        "steps: [{id: a, tool: echo, with: {message: {}}}, {id: b, tool: echo, with: "
        "{message: '{{ steps.a.result.x }}'}}]",
    ),
    "child-input": Row(
        1,
        "INPUT_INVALID",
        "steps: [{id: a, tool: echo, with: {message: x}}, {id: b, routine: child.yaml, with: "
        "{n: '{{ steps.a.result }}'}}]",
    ),
    "definition": Row(2, "DEFINITION_INVALID", "steps: [{id: a, toool: echo}]"),
    "cycle": Row(
        2,
        "CYCLE",
        "steps: [{id: a, wait: 0, needs: [b]}, {id: b, wait: 0, needs: [a]}]",
    ),
    "no-tool": Row(2, "TOOL_NOT_FOUND", "steps: [{id: a, tool: ehco}]"),
    "input": Row(2, "INPUT_INVALID", "inputs: {n: {type: integer}}\nsteps: [{id: a, wait: 0}]", ("-i", "n=x")),
    "denied": Row(
        3, "PERMISSION_DENIED", "permissions: {deny: [shell]}\nsteps: [{id: a, tool: shell, with: {command: [ls]}}]"
    ),
    "asked": Row(
        3, "PERMISSION_DENIED", "permissions: {ask: [shell]}\nsteps: [{id: a, tool: shell, with: {command: [ls]}}]"
    ),
    "rejected": Row(3, "APPROVAL_DENIED", "steps: [{id: ok, approval: {prompt: Ship?, timeout: 100ms}}]"),
    "credits": Row(4, "CREDITS_EXHAUSTED", "steps: [{id: a, tool: dear}]", ("--max-credits", "2")),
    "memory": Row(
        4,
        "MEMORY_EXCEEDED",
        "allocation: {max_memory_mb: 100}\n"
        f"steps: [{{id: a, tool: shell, with: {{command: [python3, -c, '{HOG}']}}}}]",
    ),
    "memory-of-a-group": Row(
        4,
        "MEMORY_EXCEEDED",
        "steps: [{id: g, allocation: {max_memory_mb: 100}, parallel: "
        f"[{{id: a, tool: shell, with: {{command: [python3, -c, '{HOG}']}}}}]}}]",
    ),
    "suspended": Row(5, "APPROVAL_REQUIRED", APPROVAL),
    "suspended-no-input": Row(5, "APPROVAL_REQUIRED", APPROVAL, ("--no-input",)),
    "yes": Row(0, None, APPROVAL, ("--yes",)),
    "no-key": Row(6, "AI_UNAVAILABLE", "steps: [{id: a, prompt: hello}]"),
    "run-timeout": Row(124, "RUN_TIMEOUT", "steps: [{id: a, wait: 9s}]", ("--timeout", "100ms")),
    "run-timeout-of-the-file": Row(124, "RUN_TIMEOUT", "allocation: {max_duration: 100ms}\nsteps: [{id: a, wait: 9s}]"),
    "passed-through": Row(7, "TOOL_FAILED", "steps: [{id: a, tool: shell, with: {command: exit 7}}]", ("-x",)),
    "keep-going": Row(
        1,
        "FIRST",
        "steps: [{id: a, tool: fail, with: {message: x, code: FIRST}}, {id: w, wait: 50ms}, "
        "{id: b, tool: fail, with: {message: x, code: SECOND}, needs: [w]}]",
        ("--keep-going",),
    ),
}


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A clean machine's, with a history of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VROOLI_", "OPENAI_", "GITHUB_"))}
    return kept | {"VROOLI_STORE": str(folder / "store.db"), "NO_COLOR": "1"} | dict(more or {})


def start(folder: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """The command as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "vrooli_cli", *words],
        cwd=folder,
        env=environment(folder, more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def vrooli(folder: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    process = start(folder, *words)
    out, err = process.communicate(timeout=50)
    assert "Traceback" not in out + err
    return process.returncode, out, err


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a child routine, and a tool that costs."""
    (tmp_path / "child.yaml").write_text("inputs: {n: {type: integer}}\nsteps: [{id: x, wait: 0}]")
    (tmp_path / "vrooli.yaml").write_text("{}\n")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "priced.py").write_text(PRICED)
    return tmp_path


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    """The command line in this process, in the project's folder."""
    clean = environment(project)
    for name in set(os.environ) - set(clean):
        monkeypatch.delenv(name)
    for name, value in clean.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project)

    def call(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run_command_line(list(words))
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call


@pytest.mark.parametrize("name", ROWS)
def test_the_exit_code_of_every_row(name: str, project: Path, here: Here) -> None:
    row = ROWS[name]
    (project / "r.yaml").write_text(row.routine)
    code, out, err = here("run", "r.yaml", "-o", "json", *row.words)
    told(row, code, out, err)


@pytest.mark.parametrize("name", ["success", "definition", "memory", "run-timeout", "suspended"])
def test_a_process_ends_in_the_same_code(name: str, project: Path) -> None:
    row = ROWS[name]
    (project / "r.yaml").write_text(row.routine)
    told(row, *vrooli(project, "run", "r.yaml", "-o", "json", *row.words))


def told(row: Row, code: int, out: str, err: str) -> None:
    """What a row promises."""
    result: dict[str, Any] = json.loads(out)
    assert (code, result["error"] and result["error"]["code"]) == (row.code, row.error), err
    assert result["success"] is (row.code == 0)
    assert code == 0 or err.strip(), "a failure is told to people, too"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "no-such-file.yaml"),
        ("run", "r.yaml", "--no-such-flag"),
        ("run", "r.yaml", "-j", "0"),
        ("run", "r.yaml", "--timeout", "soon"),
        ("run", "r.yaml", "-i", "nothing=1"),
        ("validate", "no-such-file.yaml"),
        ("resume", "no-such-run"),
        ("frobnicate",),
    ],
)
def test_a_mistake_in_the_call_is_two(words: Sequence[str], project: Path, here: Here) -> None:
    (project / "r.yaml").write_text("steps: [{id: a, wait: 0}]")
    code, out, err = here(*words)
    assert (code, out) == (2, "")
    assert err.strip()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_in_its_own_code_after_finally(number: int, code: int, project: Path) -> None:
    (project / "r.yaml").write_text(
        "steps: [{id: a, tool: shell, with: {command: 'touch begun; sleep 30'}}]\n"
        "handlers: {finally: [{id: l, tool: shell, with: {command: 'touch tidied'}}]}"
    )
    process = start(project, "run", "r.yaml", "-o", "json")
    until = time.monotonic() + 30
    while not (project / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert json.loads(out)["status"] == "cancelled"
    assert (project / "tidied").exists()


def test_a_suspended_run_names_the_command_that_answers_nested_ones_too(project: Path, here: Here) -> None:
    (project / "r.yaml").write_text(
        "steps:\n"
        "  - {id: g, parallel: [{id: ask, approval: go?}]}\n"
        "  - {id: e, for_each: [1], approval: go?}\n"
        "  - {id: c, routine: asks.yaml}\n"
    )
    (project / "asks.yaml").write_text("steps: [{id: ask, approval: go?}]")
    code, _, err = here("run", "r.yaml")
    assert code == 5
    for address in ("g/ask", "e[0]", "c/ask"):
        assert any("vrooli approve" in line and address in line for line in err.splitlines()), (address, err)
