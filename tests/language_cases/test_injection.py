"""No value becomes code, whatever it says, wherever it comes from, wherever it goes; with real shells."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.model.run import ExecutionResult

HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    '"; touch pwned #',
    "\"$(touch pwned)\"'$(touch pwned)'",
    "x\ntouch pwned\n",
    "x\n",
    "\nE\ntouch pwned\n",
    "; touch pwned &",
    "| touch pwned",
    "> pwned",
    "a[$(touch pwned)]",
    "${IFS}touch${IFS}pwned",
    "$HOME $USER ~ * ? [a-z]",
    "-n",
    "--help",
    "\\",
    "\\'\\\"\\$x\\`",
    "%s%n%d",
    "  two  spaces\t",
    "{{ 7 * 7 }}",
    "{% for x in [1] %}pwned{% endfor %}",
    "{{ ''.__class__.__mro__ }}",
    "{# no #}",
    "!!python/object/apply:os.system ['touch pwned']",
    "../../../../etc/passwd",
    "é ☃ \u202e \x1b[31m",
    "",
]

# Every place of a string command that may carry a value; each ends in a byte that no value has.
COMMAND = r"""
printf '%s\001' {{ V }} "{{ V }}" '{{ V }}' "<{{ V }}>" a{{ V }}z "$(printf '%s.' "{{ V }}")"
x={{ V }}; printf '%s\001' "$x"
f() { printf '%s\001' "$1" {{ V }}; }; f "{{ V }}"
case {{ V }} in {{ V }}) printf 'same\001';; *) printf 'other\001';; esac
[ {{ V }} = "{{ V }}" ] && printf 'equal\001'
sh -c 'printf "%s\001" "$1"' _ {{ V }}
cat <<E
{{ V }}
E
"""


def expected(value: str) -> str:
    """What the command has to print."""
    words = [value, value, value, f"<{value}>", f"a{value}z", f"{value}.", value, value, value, "same", "equal", value]
    return "".join(f"{word}\x01" for word in words) + f"{value}\n"


STEPS = """
  - {id: shell, tool: shell, with: {command: COMMAND}}
  - {id: argv, tool: shell, with: {command: [printf, "%s\\x01", "{{ V }}", "<{{ V }}>"]}}
  - {id: env, tool: shell, with: {command: 'printf %s "$VALUE"', env: {VALUE: "{{ V }}"}}}
  - {id: stdin, tool: shell, with: {command: [cat], stdin: "{{ V }}"}}
  - {id: text, tool: echo, with: {message: "<{{ V }}>"}}
  - {id: template, tool: template, with: {text: "<{{ value }}>", data: {value: "{{ V }}"}}}
  - {id: f, tool: file_write, with: {path: "{{ run.work_dir }}/v", content: "{{ V }}", mode: overwrite, format: text}}
  - {id: back, tool: shell, with: {command: [cat, "{{ run.work_dir }}/v"]}, needs: [f]}
  - {id: query, tool: query, with: {data: {v: "{{ V }}"}, expression: v}}
"""


def steps(value: str, indent: str = "") -> str:
    """The steps, with this expression as the value."""
    text = STEPS.replace("COMMAND", json.dumps(COMMAND)).replace("V }}", f"{value} }}}}")
    return "".join(f"{indent}{line}\n" for line in text.strip("\n").splitlines())


def check(results: dict[str, Any], value: str) -> None:
    """Every place has had the value, byte for byte."""
    assert results["shell"]["stdout"] == expected(value)
    assert results["argv"]["stdout"] == f"{value}\x01<{value}>\x01"
    assert results["env"]["stdout"] == value
    assert results["stdin"]["stdout"] == value
    assert results["text"] == results["template"] == f"<{value}>"
    assert results["back"]["stdout"] == value
    assert results["query"] == value


@pytest.fixture(params=["dash", "bash"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ExecutionArchitecture]:
    """A house in which ``sh`` is one or the other shell."""
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"there is no {request.param} here")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to(shell)
    environ = {"PATH": f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
    async with ExecutionArchitecture(folder=str(tmp_path), environ=environ) as architecture:
        yield architecture


async def run(house: ExecutionArchitecture, folder: Path, text: str, **inputs: Any) -> ExecutionResult:
    """The result of a routine that has to succeed."""
    (folder / "r.yaml").write_text(text)
    result = await house.prepare(load_bundle(folder / "r.yaml"), inputs).run()
    assert result.success, result.error
    assert not (folder / "pwned").exists()
    return result


async def test_items_of_a_loop_never_become_code(
    house: ExecutionArchitecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin")
    which = "steps: [{id: a, tool: shell, with: {command: 'echo ${BASH_VERSION:+bash}'}}]"
    said = (await run(house, tmp_path, which)).steps["a"].result["stdout"].strip()
    assert said == ("bash" if (tmp_path / "bin" / "sh").resolve().name == "bash" else "")
    inner = steps("item", "    ").replace("run.work_dir }}/v", "run.work_dir }}/v{{ index }}")
    text = f"inputs: {{all: {{type: array}}}}\nsteps:\n- id: each\n  for_each: all\n  parallel:\n{inner}"
    result = await run(house, tmp_path, text, all=HOSTILE)
    for value, results in zip(HOSTILE, result.steps["each"].result, strict=True):
        check(results, value)


@pytest.mark.parametrize("value", [HOSTILE[4] + HOSTILE[7] + "{{ 1 }}"])
async def test_inputs_step_outputs_variables_and_file_contents_never_become_code(
    house: ExecutionArchitecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin")
    (tmp_path / "hostile.txt").write_text(value)
    sources = {
        "inputs.value": "",
        "vars.copy": 'vars: {copy: "{{ value }}"}\n',
        "steps.say.result": "",
        "steps.read.result": "",
        "blackboard.told": "",
    }
    for source, top in sources.items():
        text = (
            f"inputs: {{value: {{type: string}}}}\n{top}steps:\n"
            '- {id: say, tool: echo, with: {message: "{{ value }}"}, export: {told: "{{ result }}"}}\n'
            "- {id: read, tool: file_read, with: {path: hostile.txt}}\n"
            f"- {{id: all, needs: [say, read], parallel: [\n{_flow(source)}\n]}}\n"
        )
        result = await run(house, tmp_path, text, value=value)
        check(result.steps["all"].result, value)


def _flow(source: str) -> str:
    return ",\n".join(line.strip().removeprefix("- ") for line in steps(source).splitlines())


async def test_a_value_with_a_nul_or_beyond_the_kernel_s_limit_is_refused(
    house: ExecutionArchitecture, tmp_path: Path
) -> None:
    for value in ("a\0b", "x" * 200_000):
        for command in ('"printf %s {{ value }}"', '[printf, "%s", "{{ value }}"]'):
            text = f"inputs: {{value: {{type: string}}}}\nsteps: [{{id: a, tool: shell, with: {{command: {command}}}}}]"
            (tmp_path / "r.yaml").write_text(text)
            result = await house.prepare(load_bundle(tmp_path / "r.yaml"), {"value": value}).run()
            assert result.error is not None
            assert result.error.code == "PARAMETER_INVALID", (command, result.error)
            assert len(value) < 10 or "stdin" in result.error.message


async def test_a_value_in_a_query_stays_one_value(tmp_path: Path) -> None:
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        seen.append(request.split(b" ")[1].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = (
        "inputs: {all: {type: array}}\nsteps:\n- id: each\n  for_each: {items: all, max_concurrent: 1}\n"
        f'  tool: http\n  with: {{url: "http://127.0.0.1:{port}/p", query: {{q: "{{{{ item }}}}", after: kept}}}}\n'
    )
    async with ExecutionArchitecture(folder=str(tmp_path)) as house:
        await run(house, tmp_path, text, all=[*HOSTILE, "a&after=evil#x", "%00%0d%0aX: y"])
    server.close()
    values = [parse_qs(urlsplit(target).query, keep_blank_values=True) for target in seen]
    assert [value["q"] for value in values] == [[value] for value in [*HOSTILE, "a&after=evil#x", "%00%0d%0aX: y"]]
    assert all(value["after"] == ["kept"] for value in values)


async def test_a_header_cannot_be_split(tmp_path: Path) -> None:
    text = (
        "inputs: {value: {type: string}}\nsteps: [{id: a, tool: http, with: "
        '{url: "http://127.0.0.1:9/", headers: {X-Value: "{{ value }}"}}}]'
    )
    (tmp_path / "r.yaml").write_text(text)
    async with ExecutionArchitecture(folder=str(tmp_path)) as house:
        result = await house.prepare(load_bundle(tmp_path / "r.yaml"), {"value": "a\r\nX-Evil: 1"}).run()
    assert result.error is not None
    assert result.error.code == "PARAMETER_INVALID"
