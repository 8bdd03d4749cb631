"""What is said to people, on stderr: errors, problems with their place, notes; and the call that all verbs share."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from vrooli_cli.errors import Problem
    from vrooli_cli.language.masking import Masker

_PLACE = re.compile(r"(?P<place>(?:[^\n]*?:\d+:\d+:|\S[^\n]*?:) )(?P<warning>warning: )?(?P<text>.*)")
_CARET = re.compile(r" +\^")


@dataclass(slots=True)
class Invocation:
    """One call of ``vrooli``, from its arguments to its exit; travels as ``typer.Context.obj``.

    Attributes:
        verb: The verb's name, once it is known.
        masker: Hides the run's secrets in whatever is still printed or written, once a run is prepared.
        wrote: True once something was written to stdout.
    """

    argv: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    verb: str = ""
    debug: bool = False
    masker: Masker | None = None
    wrote: bool = False

    def option(self, *names: str) -> str | None:
        """The value that an option was given, read from the raw arguments: for errors before they were understood."""
        found: str | None = None
        words = list(self.argv)
        for at, word in enumerate(words):
            if word == "--":
                break
            for name in names:
                if word == name and at + 1 < len(words):
                    found = words[at + 1]
                elif name.startswith("--") and word.startswith(f"{name}="):
                    found = word[len(name) + 1 :]
                elif not name.startswith("--") and word.startswith(name) and len(word) > len(name):
                    found = word[len(name) :].removeprefix("=")
        return found

    def format(self) -> str:
        """The format that results were asked for, as far as can be seen; ``text`` when nothing was said."""
        if "--json" in self.argv:
            return "json"
        return self.option("-o", "--output") or self.environ.get("VROOLI_OUTPUT", "").strip() or "text"

    def masked(self, text: str) -> str:
        """The text without the run's secrets."""
        return self.masker.mask_text(text) if self.masker is not None else text


def coloured(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """True when text for people may have colours there: ``NO_COLOR``, then ``FORCE_COLOR``, then the terminal."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream is not None and stream.isatty() and environ.get("TERM", "") not in ("dumb", "unknown")


class Console:
    """stderr.

    Args:
        call: For its environment and its secrets.
        stream: Another one, for tests.
    """

    def __init__(self, call: Invocation, stream: TextIO | None = None) -> None:
        self._call = call
        self._stream = stream or sys.stderr
        self._colour = coloured(self._stream, call.environ)

    def say(self, text: str) -> None:
        """Lines as they are; a stderr that takes nothing stops nobody."""
        with suppress(OSError, ValueError):
            self._stream.write(self._call.masked(text).rstrip("\n") + "\n")
            self._stream.flush()

    def style(self, text: str, codes: str) -> str:
        """The text in a style, where styles are shown."""
        return f"\x1b[{codes}m{text}\x1b[0m" if self._colour and text else text

    def error(self, message: str) -> None:
        """What went wrong; further lines of it are indented."""
        first, *more = visible_lines(message) or ["it failed, and nothing more is known"]
        self.say("\n".join([f"{self.style('vrooli:', '1;31')} {first}", *(f"  {line}" for line in more)]))

    def warning(self, message: str) -> None:
        """What is worth knowing."""
        first, *more = visible_lines(message) or [""]
        self.say("\n".join([f"{self.style('vrooli: warning:', '1;33')} {first}", *(f"  {line}" for line in more)]))

    def problems(self, problems: Iterable[Problem]) -> None:
        """Every problem with its place, source line and caret; for CI as annotations too."""
        from vrooli_cli.loading.report import format_problems

        problems = list(problems)
        if not problems:
            return
        text = format_problems(problems)
        self.say("\n".join(map(self._problem_line, text.split("\n"))) if self._colour else text)
        for problem in problems[:50]:
            level = "warning" if problem.warning else "error"
            hint = f" ({problem.hint})" if problem.hint else ""
            self.annotate(level, problem.message + hint, problem.file, problem.line, problem.column)

    def _problem_line(self, line: str) -> str:
        if line.startswith("    "):
            return self.style(line, "1;31") if _CARET.fullmatch(line) else line
        if line.startswith("  "):
            return self.style(line, "2")
        match = _PLACE.fullmatch(line)
        if match is None:
            return line
        warning = self.style(match["warning"] or "", "1;33")
        return f"{self.style(match['place'].rstrip(), '1')} {warning}{match['text']}"

    def annotate(self, level: str, message: str, file: str = "", line: int = 0, column: int = 0) -> None:
        """A workflow command that GitHub shows beside the line, when it is GitHub that runs this."""
        if self._call.environ.get("GITHUB_ACTIONS") != "true":
            return
        place = [f"file={_property(self._in_workspace(file))}"] if file else []
        place += [f"line={line}"] if file and line else []
        place += [f"col={column}"] if file and line and column else []
        self.say(f"::{level} {','.join(place)}::{_data(message)}")

    def _in_workspace(self, file: str) -> str:
        """A path from the checkout's root, as GitHub looks it up, wherever vrooli was started in it."""
        workspace = self._call.environ.get("GITHUB_WORKSPACE", "")
        path = os.path.relpath(file, workspace) if workspace else file
        return file if path.startswith("..") else path


def visible_lines(text: str) -> list[str]:
    """The lines of a message with nothing in them that moves a cursor."""
    from vrooli_cli.loading.source import visible

    return [visible(line) for line in text.strip().splitlines()]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def one_line(value: Any, limit: int = 0) -> str:
    """A value in one harmless line, cut to ``limit`` characters when that is not 0."""
    import json

    from vrooli_cli.loading.source import visible

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = visible(text.replace("\n", "⏎"))
    return text if not limit or len(text) <= limit else text[: max(1, limit - 1)] + "…"
