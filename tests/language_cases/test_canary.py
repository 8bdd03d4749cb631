"""A secret that everything is tried with: afterwards it is looked for in every byte that left the process."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from vrooli_cli.cli.app import run_command_line
from vrooli_cli.tier2.machine import RunMachine

CANARY = "C4n@ry \"s3cret'/+é&<pw>"
SECOND = "second-canary-0123456789"

ROUTINE = (Path(__file__).parent / "canary.yaml").read_text()


def forms(secret: str) -> list[bytes]:
    """What a reader of the bytes could recognise it by."""
    raw = secret.encode()
    found = [raw, json.dumps(secret)[1:-1].encode(), quote(secret).encode(), quote(secret, safe="").encode()]
    found += [
        json.dumps(json.dumps(secret)[1:-1])[1:-1].encode(),
        json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
    ]
    for pad in (b"", b"x", b"xy"):
        coded = base64.b64encode(pad + raw)
        found.append(coded[4:-4])
    return found


def leaks(folder: Path, streams: dict[str, bytes]) -> list[str]:
    """Where it was found."""
    places = dict(streams)
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in ("r.yaml",):
            places[str(path.relative_to(folder))] = path.read_bytes()
    return [
        f"{form!r} in {name}"
        for name, data in places.items()
        for s in (CANARY, SECOND)
        for form in forms(s)
        if form in data
    ]


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """The environment of a clean machine that has two secrets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VROOLI_", "GITHUB_"))}
    return kept | {
        "TOKEN": CANARY,
        "KEY": SECOND,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TMPDIR": str(tmp_path / "tmp"),
        "GITHUB_ACTIONS": "true",
    }


@pytest.mark.parametrize(
    "words", [("-o", "json", "-v"), ("-o", "ndjson", "--view", "plain"), ("-o", "yaml", "--debug"), ("--yes",)]
)
def test_a_secret_is_in_no_byte_that_leaves_the_process(
    words: tuple[str, ...], tmp_path: Path, surroundings: dict[str, str]
) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "r.yaml").write_text(ROUTINE)
    command = [sys.executable, "-m", "vrooli_cli", "run", "r.yaml", "--keep-going", "--events", "events.ndjson", *words]
    done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, timeout=50, check=False)
    assert done.returncode in (1, 5), done.stderr.decode()
    assert b"***" in (tmp_path / "events.ndjson").read_bytes()
    assert list((tmp_path / "state").rglob("*.db"))
    assert leaks(tmp_path, {"stdout": done.stdout, "stderr": done.stderr}) == []


def test_a_secret_is_in_no_crash_report(
    tmp_path: Path, surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(
        "inputs: {token: {type: string, secret: true, env: TOKEN}}\nsteps: [{id: a, wait: 0}]"
    )

    def broken(self: RunMachine, stimulus: object) -> None:
        raise RuntimeError(f"a bug that holds {CANARY} and {json.dumps(CANARY)}")

    monkeypatch.setattr(RunMachine, "handle", broken)
    for words in ((), ("--debug",), ("-o", "json")):
        assert run_command_line(["run", "r.yaml", *words]) == 70
        out, err = capfd.readouterr()
        assert "a bug" in err
        assert leaks(tmp_path, {"stdout": out.encode(), "stderr": err.encode()}) == []


def test_a_child_process_is_not_told_what_it_did_not_ask_for(tmp_path: Path, surroundings: dict[str, str]) -> None:
    (tmp_path / "tmp").mkdir()
    routine = (
        "inputs: {token: {type: string, secret: true, env: TOKEN}}\nsteps:\n"
        "- {id: quiet, tool: shell, with: {command: [env]}}\n"
        "- {id: asks, tool: shell, with: {command: [sh, -c, 'printf %s \"$T\" | wc -c'], env: {T: '{{ token }}'}}}\n"
        "- {id: list, tool: shell, with: {command: 'cat /proc/[0-9]*/cmdline 2>/dev/null || true'}, needs: [asks]}\n"
        "outputs: {env: '{{ steps.quiet.result.stdout }}', n: '{{ steps.asks.result.stdout | trim }}',"
        " ps: '{{ steps.list.result.stdout }}'}\n"
    )
    (tmp_path / "r.yaml").write_text(routine)
    command = [sys.executable, "-m", "vrooli_cli", "run", "r.yaml", "-o", "json", "-q"]
    done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, timeout=50, check=False)
    result = json.loads(done.stdout)["result"]
    assert {line.partition("=")[0] for line in result["env"].splitlines()} <= {"PATH", "HOME", "LANG", "TMPDIR", "PWD"}
    assert "***" not in result["env"] + result["ps"]
    assert int(result["n"]) == len(CANARY.encode())
