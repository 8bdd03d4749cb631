"""The documentation as something that can be run: its pages, their blocks, and what each command really prints.

The conventions of a page, all but the marks visible to its readers:

* A fenced block with a ``title`` is a file; it is there for every command that follows on the page.
* A ``console`` block has commands after ``$ `` (a line that ends in a backslash goes on), each with its stdout. ``…``
  stands for any text, on a line of its own for any lines. ``echo $?`` shows an exit code other than 0.
* A mark is a comment on the line above a block: ``<!-- stderr -->`` shows stderr before stdout,
  ``<!-- not run: why -->`` is for what only a person can do, ``<!-- not valid -->`` is for files that are wrong on
  purpose, ``<!-- part -->`` for some keys of a routine.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(?P<lang>[a-z]+)?(?P<rest>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
_MARK = re.compile(r"<!-- ([^>]*) -->\n\Z")
# What no two runs have in common.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?")
_DURATION = re.compile(r"\b\d+(\.\d+)?(ms|s)\b")
_RUN = re.compile(r"\b[0-9a-z]{9}-[0-9a-z]{8}\b")
_GAP = re.compile(r"(?<=\S) {2,}")
_SETTING = re.compile(r"[A-Z_]+=")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``start`` and ``end`` are where its body stands in the page."""

    lang: str
    title: str
    mark: str
    body: str
    start: int
    end: int
    line: int

    @property
    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command with what it printed."""
        for part in re.split(r"^\$ ", self.body, flags=re.MULTILINE)[1:]:
            found = re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL)
            assert found
            yield found[1], found[2]


def pages() -> list[Path]:
    """The pages that people wrote; the benchmarks have a program of their own."""
    return sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "reference" and path.stem != "benchmarks")


def blocks(text: str) -> list[Block]:
    """Every fenced block of a page, in order."""
    made = []
    for found in _FENCE.finditer(text):
        title, mark = _TITLE.search(found["rest"]), _MARK.search(text[: found.start()])
        line = text.count("\n", 0, found.start()) + 1
        at = found.span("body")
        made.append(
            Block(found["lang"] or "", title[1] if title else "", mark[1] if mark else "", found["body"], *at, line)
        )
    return made


def matches(expected: str, printed: str) -> bool:
    """``…`` is any text of a line, or any lines when it stands alone; what differs from run to run does not count."""
    pattern = ""
    for line in _steady(expected).strip("\n").split("\n"):
        alone = line.strip() == "…"
        pattern += r"(?:[^\n]*\n)*?" if alone else re.escape(line).replace("…", "[^\n]*?") + "\n"
    return re.fullmatch(pattern, _steady(printed).strip("\n") + "\n") is not None


def _steady(text: str) -> str:
    """The text without times, durations, ids of runs, and the widths of columns that hang on them."""
    for volatile in (_TIME, _DURATION, _RUN):
        text = volatile.sub("0", text)
    return _GAP.sub("  ", text)


@dataclass
class Place:
    """An empty folder in which the commands of one page are run, in order, by somebody without a key."""

    home: Path
    zygote: subprocess.Popen[str]
    folder: Path = field(init=False)
    env: dict[str, str] = field(init=False)
    code: int = 0

    def __post_init__(self) -> None:
        self.folder = self.home / "work"
        self.folder.mkdir()
        self.env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "COLUMNS": "100",
            "XDG_STATE_HOME": str(self.home / "state"),
            "PYTHONUTF8": "1",
            "TZ": "UTC",
            "LOGNAME": "ada",
            "USER": "ada",
            **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

    def write(self, name: str, text: str) -> None:
        """Write a file of the page."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, command: str, *, stderr: bool = False) -> str:
        """Run a command as it was typed; what it printed. Its exit code is in ``code``."""
        command = command.replace("\\\n", " ")
        if command == "echo $?":
            shown, self.code = f"{self.code}\n", 0
            return shown
        words = shlex.split(command)
        if words[0] == "export":
            self.env |= dict(word.split("=", 1) for word in words[1:])
            return ""
        if words[0] == "cd":
            self.folder = (self.folder / words[1]).resolve()
            return ""
        out, err = self.home / "out", self.home / "err"
        out.write_text("")
        err.write_text("")
        code = self._started(command, words, out, err)
        self.code = code if code >= 0 else 128 - code  # as a shell tells a signal
        return (err.read_text(encoding="utf-8") if stderr else "") + out.read_text(encoding="utf-8")

    def _started(self, command: str, words: list[str], out: Path, err: Path) -> int:
        env = dict(self.env)
        while words and _SETTING.match(words[0]):
            name, _, value = words.pop(0).partition("=")
            env[name] = value
        if words[0] == "vrooli" and words[-2:-1] == [">"]:
            out = self.folder / words[-1]
            out.write_text("")
            words, command = words[:-2], command.rpartition(">")[0]
        if words[0] != "vrooli" or self._needs_a_shell(command):
            with out.open("a") as stdout, err.open("a") as stderr:
                done = subprocess.run(
                    ["bash", "-c", command],
                    cwd=self.folder,
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    timeout=30,
                    check=False,
                )
            return done.returncode
        request = {"argv": words[1:], "cwd": str(self.folder), "env": env, "out": str(out), "err": str(err)}
        assert self.zygote.stdin and self.zygote.stdout
        self.zygote.stdin.write(json.dumps(request) + "\n")
        self.zygote.stdin.flush()
        return int(self.zygote.stdout.readline())

    @staticmethod
    def _needs_a_shell(command: str) -> bool:
        signs = shlex.shlex(command, posix=True, punctuation_chars="|<>;&")
        signs.whitespace_split = True
        return "$(" in command or any(set(word) <= set("|<>;&") for word in signs)


def new_zygote() -> subprocess.Popen[str]:
    """The process that forks for every command."""
    return subprocess.Popen(
        [sys.executable, "-X", "utf8", "-m", "tests.docs.zygote"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
