"""Tools of a project at the command line: listed, shown, called and run; a broken file is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

VROOLI = str(Path(sys.executable).with_name("vrooli"))


def vrooli(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command as a process."""
    environment = {**os.environ, "NO_COLOR": "1", "VROOLI_NO_STORE": "1"}
    return subprocess.run(
        [VROOLI, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a Python tool that prints, a command tool, a broken file, and a folder of further tools."""
    for folder in ("routines", "tools", "more"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tools" / "shout.py").write_text(
        "from vrooli_cli import tool\n\n@tool(effects='none')\ndef shout(text: str) -> str:\n"
        "    print('a word for people')\n    return text.upper()\n"
    )
    (tmp_path / "tools" / "count.yaml").write_text(
        "parameters: {path: {type: string}}\ncommand: [wc, -c, '{{ path }}']\neffects: none\n"
    )
    (tmp_path / "tools" / "broken.py").write_text("from vrooli_cli import tool\nimport surely_not_there\n")
    (tmp_path / "more" / "extra.yaml").write_text("command: [echo, extra]\neffects: none\n")
    (tmp_path / "routines" / "r.yaml").write_text(
        "steps:\n"
        "  - {id: a, tool: shout, parameters: {text: hi}}\n"
        "  - {id: b, tool: count, parameters: {path: routines/r.yaml}}\n"
        "outputs: {said: '{{ steps.a.result }}'}\n"
    )
    return tmp_path


def test_a_run_uses_the_project_s_tools_and_keeps_stdout_for_the_result(project: Path) -> None:
    done = vrooli("run", "r", "--view", "none", folder=project)
    assert (done.returncode, done.stdout) == (0, "HI\n"), done.stderr
    assert "a word for people" in done.stderr
    assert "tools/broken.py:2:1: warning: the tool file cannot be imported: ModuleNotFoundError" in done.stderr


def test_validate_and_plan_import_nothing(project: Path) -> None:
    (project / "tools" / "shout.py").write_text(
        (project / "tools" / "shout.py").read_text() + "\nraise SystemExit('imported')\n"
    )
    for verb in ("validate", "plan"):
        done = vrooli(verb, "r", folder=project)
        assert (done.returncode, done.stderr) == (0, "")
    (project / "routines" / "r.yaml").write_text("steps: [{id: a, tool: shout, parameters: {txt: hi}}]\n")
    wrong = vrooli("validate", "r", folder=project)
    assert wrong.returncode == 2
    assert "has no parameter 'txt'" in wrong.stderr
    assert "imported" in vrooli("validate", "r", "--import-tools", folder=project).stderr


def test_validate_knows_tool_files_and_the_project_file(project: Path) -> None:
    (project / "vrooli.yaml").write_text("defalts: {}\n")
    (project / "tools" / "count.yaml").write_text("command: wc\n")
    (project / "tools" / "shout.py").write_text("from vrooli_cli import tool\n\n@tool(efects=1)\ndef f(): ...\n")
    files = ("vrooli.yaml", "tools/count.yaml", "tools/shout.py")
    told = json.loads(vrooli("validate", *files, "-o", "json", folder=project).stdout)
    assert [(one["file"], one["line"]) for one in told] == list(zip(files, (1, 1, 4), strict=True))
    (project / "vrooli.yaml").write_text("")
    assert vrooli("validate", "vrooli.yaml", "tools/broken.py", folder=project).returncode == 0
    (project / "more" / "extra.yaml").write_text("steps: [{id: a, wait: 1ms}]\n")
    assert vrooli("validate", "more/extra.yaml", folder=project).returncode == 0


def test_a_tool_of_a_broken_file_is_missed_with_the_reason(project: Path) -> None:
    broken = project / "tools" / "broken.py"
    broken.write_text(broken.read_text() + "@tool\ndef lost() -> int:\n    return 1\n")
    (project / "routines" / "r.yaml").write_text("steps: [{id: a, tool: lost}]\n")
    done = vrooli("run", "r", folder=project)
    assert done.returncode == 2
    assert "there is no tool 'lost'" in done.stderr
    assert "tools/broken.py:2:1: the tool file cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr


def test_tools_are_listed_shown_and_called(project: Path) -> None:
    names = [one["name"] for one in json.loads(vrooli("tools", "list", "--json", folder=project).stdout)]
    assert {"shout", "count", "shell"} <= set(names)
    assert "extra" not in names
    shown = json.loads(vrooli("tools", "show", "shout", "--json", folder=project).stdout)
    assert (shown["effects"], shown["origin"]) == ("none", "tools/shout.py:3")
    assert shown["parameters"]["properties"] == {"text": {"type": "string"}}
    called = vrooli("tools", "call", "shout", "-p", "text=hey", folder=project)
    assert (called.returncode, called.stdout) == (0, "HEY\n")
    assert vrooli("tools", "call", "extra", "--tools", "more", folder=project).stdout == "extra\n"
    assert "there is no such folder" in vrooli("run", "r", "--tools", "nowhere", folder=project).stderr


def test_a_call_knows_the_whole_schema_of_a_tool_that_takes_a_model(project: Path) -> None:
    (project / "tools" / "broken.py").unlink()
    (project / "tools" / "move.py").write_text(
        "from pydantic import BaseModel\nfrom vrooli_cli import tool\n\n"
        "class Point(BaseModel):\n    x: int\n    y: int = 0\n\n"
        "@tool(effects='none')\ndef move(point: Point) -> Point:\n    return Point(x=point.x, y=point.y + 1)\n"
    )
    done = vrooli("tools", "call", "move", "-p", 'point={"x": 1}', "-o", "json", folder=project)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"x": 1, "y": 1}), done.stderr
    wrong = vrooli("tools", "call", "move", "-p", 'point={"y": 1}', folder=project)
    assert (wrong.returncode, wrong.stderr) == (2, "vrooli: parameter 'point': 'x' is missing\n")


def test_show_and_call_know_what_only_an_import_shows(project: Path) -> None:
    (project / "tools" / "broken.py").unlink()
    (project / "tools" / "move.py").write_text(
        "import enum\nfrom pydantic import BaseModel\nfrom vrooli_cli import tool\n\n"
        "class Point(BaseModel):\n    x: int\n\n"
        "class Way(enum.IntEnum):\n    UP = 1\n\n"
        "@tool(effects='none')\ndef move(point: Point | None = None, way: Way = Way.UP) -> str:\n"
        "    return f'{point!r} {way.name}'\n"
    )
    shown = vrooli("tools", "show", "move", folder=project).stdout
    assert "point  object|null  default null" in shown
    assert "way    integer      default 1" in shown
    done = vrooli("tools", "call", "move", "-p", 'point={"x": 1}', folder=project)
    assert (done.returncode, done.stdout) == (0, "Point(x=1) UP\n"), done.stderr


def test_a_call_has_the_secrets_of_the_project_and_masks_them(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "tools" / "broken.py").unlink()
    (project / "vrooli.yaml").write_text("secrets: {token: {env: MY_TOKEN}, other: {env: NOT_SET}}\n")
    (project / "tools" / "who.py").write_text(
        "from vrooli_cli import ToolContext, tool\n\n@tool(effects='none', secrets='token')\n"
        "def who(context: ToolContext) -> str:\n"
        "    token = context.secret('token')\n    return f'{len(token)} {token}'\n"
    )
    monkeypatch.setenv("MY_TOKEN", "abc-1234")
    done = vrooli("tools", "call", "who", folder=project)
    assert (done.returncode, done.stdout) == (0, "8 ***\n"), done.stderr
