"""Python functions as tools: read or imported, with one schema; broken files take nothing else with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from vrooli_cli import ExecutionArchitecture, StepExecutionInput, TierExecutionRequest
from vrooli_cli.errors import DefinitionError
from vrooli_cli.loading.project import Project, Settings
from vrooli_cli.model.run import ExecutionResult
from vrooli_cli.tier3.custom import CustomTools, load_tools
from vrooli_cli.tier3.registry import Tool

HEAD = """
from __future__ import annotations
import sys
from typing import Any, Literal, Optional
from vrooli_cli import ToolContext, ToolError, tool
"""


def write(folder: Path, name: str, text: str, head: str = HEAD) -> Path:
    """A tool file in ``folder``."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(head + text)
    return path


def both(folder: Path) -> tuple[CustomTools, CustomTools]:
    """The folder as it is read, and as it is imported."""
    return tuple(load_tools([folder], importing=importing, installed=False) for importing in (False, True))  # type: ignore[return-value]


def only(found: CustomTools) -> Tool:
    """The one tool."""
    assert not found.problems
    (tool,) = found.tools
    return tool


async def call(folder: Path, name: str, **parameters: Any) -> ExecutionResult:
    """One call through tier 3, with everything real."""
    async with ExecutionArchitecture(Settings(tools=(str(folder),))) as architecture:
        request = TierExecutionRequest(
            context=architecture.context(), input=StepExecutionInput(step_id="s", tool_name=name, parameters=parameters)
        )
        return await architecture.tier3.execute(request)


SIGNATURES = [
    "a: str",
    "a: int = 3, b: float = 0.5, c: bool = True",
    "a: list[str], b: dict[str, int] | None = None",
    "a: Literal['x', 'y'] = 'x', *, b: Optional[int] = None",
    "a, b=None",
    "a: Any, context: ToolContext",
    "a: 'list[dict[str, Any]]', context: ToolContext | None = None",
    "a: tuple[int, str], b: set[int]",
    "schema: str, json: int = 1, model_config: str = '', copy: bool = False",
    "",
]


@pytest.mark.parametrize("signature", SIGNATURES)
def test_a_file_that_is_only_read_has_the_schema_of_the_imported_one(signature: str, tmp_path: Path) -> None:
    write(
        tmp_path,
        "t.py",
        f'''
@tool(effects="none", credits=7, timeout="2s")
def t({signature}) -> dict[str, int]:
    """Does it.

    Args:
        a: The first,
            on two lines.
        b (int): The second.

    Returns:
        Something.
    """
    return {{}}
''',
    )
    read, imported = (only(found) for found in both(tmp_path))
    assert read.schema == imported.schema
    assert "context" not in read.schema["properties"]
    assert (
        read.output_schema == imported.output_schema == {"type": "object", "additionalProperties": {"type": "integer"}}
    )
    for tool in (read, imported):
        assert tool.description == "Does it."
        assert (tool.effects, tool.credits, tool.timeout_ms) == ("none", 7, 2000)
    assert (read.origin, read.digest) == (imported.origin, imported.digest)
    assert read.origin.endswith("t.py:7")
    if "a" in read.schema["properties"]:
        assert read.schema["properties"]["a"]["description"] == "The first, on two lines."


def test_reading_runs_no_code_and_importing_keeps_stdout_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "t.py", "print('side effect')\n@tool\ndef t() -> int:\n    return 1\n")
    read = load_tools([tmp_path], importing=False, installed=False)
    assert capsys.readouterr() == ("", "")
    assert only(read).effects == "once"  # nothing was declared
    only(load_tools([tmp_path], importing=True, installed=False))
    assert capsys.readouterr() == ("", "side effect\n")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("def broken(:\n", 6, "not Python"),
        ("\nimport surely_not_there\n", 7, "No module named 'surely_not_there'"),
        ("\n\nsys.exit(3)\n", 8, "ends the program"),
        ("def f():\n    1 / 0\n\nf()\n", 7, "ZeroDivisionError"),
        ("@tool(effects='sometimes')\ndef t(): ...\n", 6, "effects is one of none, idempotent, once"),
        ("@tool(credits=-1)\ndef t(): ...\n", 6, "credits is a whole number"),
        ("@tool(timeout='soon')\ndef t(): ...\n", 6, "timeout is seconds"),
        ("@tool(main='b')\ndef t(a: int): ...\n", 6, "none of its parameters"),
        ("@tool(name='no spaces')\ndef t(): ...\n", 6, "cannot be a tool's name"),
        ("@tool\ndef t(*words): ...\n", 6, "needs a name of its own"),
        ("class Odd: ...\n@tool\ndef t(a: Odd): ...\n", 7, "Odd"),
    ],
)
def test_a_broken_file_is_one_line_with_its_place_and_the_others_load(
    text: str, line: int, message: str, tmp_path: Path
) -> None:
    write(tmp_path, "bad.py", text)
    write(tmp_path, "good.py", "@tool\ndef good() -> int:\n    return 1\n")
    found = load_tools([tmp_path], importing=True, installed=False)
    assert [tool.name for tool in found.tools] == ["good"]
    (problem,) = found.problems
    assert problem.file.endswith("bad.py")
    assert problem.line == line
    assert message in problem.message
    assert "\n" not in problem.message


def test_files_that_are_no_tools_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("raise SystemExit('not a tool file')\n")
    write(tmp_path, "_shared.py", "raise RuntimeError\n")
    (tmp_path / "x.test.yaml").write_text("routine: x\n")
    (tmp_path / "notes.txt").write_text("…")
    assert both(tmp_path) == (CustomTools(), CustomTools())


def test_modules_beside_a_tool_file_can_be_imported_and_are_part_of_its_digest(tmp_path: Path) -> None:
    (tmp_path / "_shared.py").write_text("FACTOR = 2\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('the standard library comes first')\n")
    write(tmp_path, "t.py", "import json\nfrom ._shared import FACTOR\n@tool\ndef t() -> int:\n    return FACTOR\n")
    before = only(load_tools([tmp_path], importing=True, installed=False)).digest
    (tmp_path / "_shared.py").write_text("FACTOR = 3\n")
    assert only(load_tools([tmp_path], importing=False, installed=False)).digest != before


def test_a_clash_of_names_shows_both_places(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "@tool\ndef same(): ...\n")
    write(tmp_path, "b.py", "@tool(name='same')\ndef other(): ...\n")
    with pytest.raises(DefinitionError, match=r"'same' is defined twice: .*a\.py:6 and .*b\.py:6"):
        ExecutionArchitecture(Settings(tools=(str(tmp_path),)))
    write(tmp_path, "b.py", "@tool\ndef echo(): ...\n")
    with pytest.raises(DefinitionError, match=r"'echo' is defined twice: box and .*b\.py:6"):
        ExecutionArchitecture(project=Project(root=tmp_path.parent), settings=Settings(tools=(str(tmp_path),)))
    write(tmp_path, "c.py", "@tool\ndef same(): ...\n")
    with pytest.raises(DefinitionError) as every:
        ExecutionArchitecture(Settings(tools=(str(tmp_path),)))
    assert [problem.message.split(" is ")[0] for problem in every.value.problems] == [
        "the tool 'echo'",
        "the tool 'same'",
    ]


async def test_hints_make_the_arguments_and_the_answer_plain(tmp_path: Path) -> None:
    write(
        tmp_path,
        "t.py",
        """
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from pydantic import BaseModel

class Item(BaseModel):
    name: str
    price: float = 1.0

@dataclass
class Answer:
    day: date
    names: set[str]
    path: Path

@tool(effects="none")
def t(items: list[Item], start: date, days: int = 1) -> Answer:
    return Answer(start + timedelta(days=days), {item.name for item in items}, Path("a") / "b")
""",
        head=HEAD.replace("from __future__ import annotations\n", ""),
    )
    result = await call(tmp_path, "t", items=[{"name": "x"}], start="2026-01-31")
    assert result.result == {"day": "2026-02-01", "names": ["x"], "path": "a/b"}
    wrong = await call(tmp_path, "t", items=[{"name": 3}], start="2026-01-31")
    assert wrong.error is not None
    assert wrong.error.code == "PARAMETER_INVALID"
    assert "items" in wrong.error.message


async def test_a_typed_dict_of_the_standard_library_is_a_hint_on_every_python(tmp_path: Path) -> None:
    write(
        tmp_path,
        "t.py",
        """
from typing import Annotated, NotRequired, Required, TypedDict
from pydantic import Field

class Leaf(TypedDict):
    name: str
    size: NotRequired[int]

class Node(Leaf, total=False):
    \"\"\"Holds others.\"\"\"
    top: Required[bool]
    leaves: list[Leaf]
    inner: "Node"

@tool(effects="none")
def t(nodes: "dict[str, Annotated[Node, Field(description='One')]] | None", n: Optional[Leaf] = None) -> list[Leaf]:
    return [leaf for node in (nodes or {}).values() for leaf in node["leaves"]]
""",
        head=HEAD.replace("from __future__ import annotations\n", ""),
    )
    tool = only(load_tools([tmp_path], importing=True, installed=False))
    node = tool.schema["$defs"]["Node"]
    assert (node["description"], node["required"]) == ("Holds others.", ["name", "top"])
    assert node["additionalProperties"] is False or "additionalProperties" not in node
    result = await call(tmp_path, "t", nodes={"a": {"name": "a", "top": True, "leaves": [{"name": "x", "size": 1}]}})
    assert result.result == [{"name": "x", "size": 1}]
    wrong = await call(tmp_path, "t", nodes={"a": {"name": "a", "leaves": []}})
    assert wrong.error is not None
    assert "top" in wrong.error.message


async def test_an_answer_that_its_hint_does_not_allow_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "t.py", "@tool\ndef t() -> dict[str, int]:\n    return {'a': 'b'}\n")
    result = await call(tmp_path, "t")
    assert result.error is not None
    assert result.error.code == "OUTPUT_INVALID"


async def test_failures_are_told_with_their_own_code_or_their_line(tmp_path: Path) -> None:
    text = """
@tool
def own():
    raise ToolError("no such branch", code="NOT_FOUND", retryable=False)
@tool
async def foreign():
    return {}["key"]
"""
    write(tmp_path, "t.py", text)
    own = (await call(tmp_path, "own")).error
    assert own is not None
    assert (own.code, own.message, own.context["retryable"]) == ("NOT_FOUND", "no such branch", False)
    foreign = (await call(tmp_path, "foreign")).error
    assert foreign is not None
    assert foreign.code == "TOOL_FAILED"
    assert foreign.context["at"].endswith("t.py:12")


async def test_a_tool_sees_only_the_secrets_that_it_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "my-secret-value")
    monkeypatch.setenv("OTHER", "other-secret-value")
    text = """
@tool(secrets=["mine"])
def t(name: str, context: ToolContext) -> int:
    return len(context.secret(name))
"""
    write(tmp_path / "tools", "t.py", text)
    routine = tmp_path / "r.yaml"
    routine.write_text(
        "secrets: {mine: {env: MINE}, other: {env: OTHER}}\n"
        "steps:\n"
        "  - {id: a, tool: t, parameters: {name: mine}}\n"
        "  - {id: b, tool: t, parameters: {name: other}, on_error: continue}\n"
        "outputs: {a: '{{ steps.a.result }}', b: '{{ steps.b.error.code }}'}\n"
    )
    from vrooli_cli.loading.bundle import load_bundle

    async with ExecutionArchitecture(Settings(tools=(str(tmp_path / "tools"),))) as architecture:
        result = await architecture.prepare(load_bundle(routine), {}).run()
    assert result.result == {"a": 15, "b": "PARAMETER_INVALID"}


@pytest.mark.parametrize("word", ["def", "async def"])
async def test_a_tool_says_how_it_gets_on(word: str, tmp_path: Path) -> None:
    write(
        tmp_path,
        "t.py",
        f"""
@tool(effects="none")
{word} t(context: ToolContext) -> str:
    for n in range(3):
        context.emit("a row is read", rows=n)
    return "done"
""",
    )
    async with ExecutionArchitecture(Settings(tools=(str(tmp_path),))) as architecture:
        await architecture.tier3.execute(
            TierExecutionRequest(
                context=architecture.context(), input=StepExecutionInput(step_id="s", tool_name="t", parameters={})
            )
        )
        found = [event for event in architecture.event_bus.history() if event.type.startswith("tier3/tool/")]
    assert [event.type.rpartition("/")[2] for event in found] == ["called", "told", "told", "told", "returned"]
    assert [event.payload["details"] for event in found[1:4]] == [{"rows": 0}, {"rows": 1}, {"rows": 2}]
    assert (found[1].payload["message"], found[1].payload["step_id"]) == ("a row is read", "s")


async def test_a_time_out_reaches_a_blocking_tool(tmp_path: Path) -> None:
    text = """
@tool(timeout=0.2)
def t(context: ToolContext) -> None:
    import time
    while not context.cancelled:
        time.sleep(0.01)
    print("saw it", file=sys.stderr)
"""
    write(tmp_path, "t.py", text)
    result = await call(tmp_path, "t")
    assert result.error is not None
    assert (result.error.code, result.error.message) == ("STEP_TIMEOUT", "t took longer than its time-out of 0.2 s")


def test_tools_of_installed_packages_are_found_by_their_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "some_package_with_tools.py", "@tool\ndef from_a_package() -> int:\n    return 1\n")
    (tmp_path / "broken_package_with_tools.py").write_text("from vrooli_cli import tool\nimport surely_not_there\n")
    info = tmp_path / "some_package-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-package\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[vrooli.tools]\na = some_package_with_tools:from_a_package\nb = broken_package_with_tools\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    read = load_tools([], importing=False)
    assert "some_package_with_tools" not in sys.modules
    assert [tool.name for tool in read.tools] == ["from_a_package"]
    imported = load_tools([], importing=True)
    assert [tool.origin for tool in imported.tools] == ["some-package 1.2 (some_package_with_tools:from_a_package)"]
    assert imported.tools[0].schema == read.tools[0].schema
    (problem,) = imported.problems
    assert "surely_not_there" in problem.message
