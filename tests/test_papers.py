"""What README and the other papers say is tried, so that it stays true."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from vrooli_cli.errors import ERROR_CODES, EXIT_CODES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of README in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_first_screen_is_a_sentence_an_install_a_routine_a_command_and_its_output() -> None:
    first = README.splitlines()[:40]
    text = "\n".join(first)
    assert first[2].endswith(".")
    for needed in ("pip install", "```yaml", "$ vrooli run", "docs/screen.svg"):
        assert needed in text, needed
    assert (ROOT / "docs" / "screen.svg").is_file()


def test_the_routine_of_readme_prints_what_readme_says(tmp_path: Path) -> None:
    (tmp_path / "todos.yaml").write_text(blocks("yaml")[0])
    source = tmp_path / "src" / "inner"
    source.mkdir(parents=True)
    (source / "a.py").write_text("# TODO one\n# TODO two\n")
    (source.parent / "b.py").write_text("x = 1\n")
    (source.parent / "c d.py").write_text("# TODO\n")
    command, output = re.match(r"\$ vrooli (.*)\n(.*\n)", blocks("console")[0]).groups()  # type: ignore[union-attr]
    environment = {**os.environ, "VROOLI_STORE": str(tmp_path / "store.db")}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("vrooli")), *command.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, output), done.stderr


def test_the_python_of_readme_runs() -> None:
    names: dict[str, object] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    main = names["main"]
    assert callable(main)
    asyncio.run(main())


def test_the_table_of_exit_codes_is_the_one_of_the_program() -> None:
    table = {}
    for row in re.findall(r"^\| (\d+)[^|]* \| (.*) \|$", README, re.M):
        table.update(dict.fromkeys(re.findall(r"`([A-Z]+(?:_[A-Z]+)+|CYCLE)`", row[1]), int(row[0])))
    assert table == {code: status for code, status in EXIT_CODES.items() if code not in ("INTERNAL", "CANCELLED")}
    assert set(EXIT_CODES) <= ERROR_CODES


def test_every_file_that_the_papers_link_to_is_there() -> None:
    for paper in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / paper).read_text()):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{paper}: {target}"
