"""Test files as they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from vrooli_cli.errors import DefinitionError, InputError
from vrooli_cli.loading import forms
from vrooli_cli.loading.files import read_content, shown
from vrooli_cli.loading.routine import findings_of, placed
from vrooli_cli.loading.shapes import Findings
from vrooli_cli.loading.text import Limits, SourceMap, read_text

SUFFIXES: Final = (".test.yaml", ".test.yml")
START_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z: the time of a case that says none."""

_SKIPPED: Final = frozenset({"node_modules", "__pycache__", "site-packages", "build", "dist"})
_MOST_FILES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a case is to come to; only what is said is looked at.

    Attributes:
        status: None is ``completed``, or ``failed`` where an error is expected.
        has_outputs: True when ``outputs`` was said (null, too).
        error: A code, or some of the error's fields.
        that: Expressions, as written.
    """

    status: str | None = None
    outputs: Any = None
    has_outputs: bool = False
    error: Any = None
    steps: Mapping[str, Any] = field(default_factory=dict)
    calls: tuple[Any, ...] = ()
    that: tuple[Any, ...] = ()
    events: tuple[str, ...] = ()

    @property
    def final_status(self) -> str:
        """The status that the run must end with."""
        return self.status or ("failed" if self.error is not None else "completed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run of the routine.

    Attributes:
        index: Its place in the file.
        clock_ns: The time that stands still.
        replies: None when there is no scripted model.
    """

    name: str
    index: int
    line: int
    inputs: Mapping[str, Any] = field(default_factory=dict)
    stubs: Mapping[str, Any] = field(default_factory=dict)
    replies: tuple[Any, ...] | None = None
    cassette: str | None = None
    clock_ns: int = START_NS
    generate: bool = False
    live: bool = False
    expect: Expected = field(default_factory=Expected)


@dataclass(frozen=True, slots=True)
class TestFile:
    """One ``*.test.yaml``.

    Attributes:
        name: As people are shown it.
        routine: The path of the routine, as written; relative to the file.
    """

    __test__ = False  # for pytest

    path: Path
    name: str
    routine: str
    cases: tuple[Case, ...]
    source: SourceMap

    @property
    def folder(self) -> Path:
        """What its paths are relative to."""
        return self.path.resolve().parent


def find_files(places: Iterable[str], start: Path) -> list[Path]:
    """The test files that are meant: files, a routine's own one beside it, folders with all below; else ``start``.

    Raises:
        InputError: A place is not there, or holds no test.
    """
    found: dict[Path, None] = {}
    for place in map(Path, places):
        if place.is_dir():
            below = list(_below(place))
            if not below:
                raise InputError(f"there is no *.test.yaml below {place}")
            found.update(dict.fromkeys(below))
        elif place.is_file():
            found[_test_of(place)] = None
        else:
            raise InputError(f"there is no such file: {place}")
    if not found:
        found.update(dict.fromkeys(_below(start)))
    return list(found)


def _test_of(file: Path) -> Path:
    """The test file beside a routine; any other file as it is."""
    beside = file.with_suffix(f".test{file.suffix}")
    return beside if not file.stem.endswith(".test") and beside.is_file() else file


def _below(folder: Path) -> Iterator[Path]:
    """Test files in and below a folder, by name; not in hidden folders and those of installed or built things."""
    pending, count = [folder], 0
    while pending and count < _MOST_FILES:
        here = pending.pop(0)
        try:
            entries = sorted(here.iterdir())
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                if not entry.name.startswith(".") and entry.name not in _SKIPPED:
                    pending.append(entry)
            elif entry.name.endswith(SUFFIXES):
                count += 1
                yield entry


def read_test_file(path: Path) -> TestFile:
    """The cases of a file.

    Raises:
        DefinitionError: With every problem, placed.
    """
    name = shown(path)
    document = read_text(read_content(path, name, Limits()), name)
    findings = findings_of(document.source)
    made = forms.TEST.read({} if document.data is None else document.data, (), findings)
    cases = [] if findings.count else [_case(one, n, document.source, findings) for n, one in enumerate(made["cases"])]
    twins = {one.name for n, one in enumerate(cases) if any(other.name == one.name for other in cases[:n])}
    for one in cases:
        if one.name in twins:
            findings.add(("cases", one.index, "name"), f"another case is called {one.name!r}, too")
    if findings.count:
        raise DefinitionError(placed(findings, document.source))
    return TestFile(path, name, made["routine"], tuple(cases), document.source)


def _case(made: Mapping[str, Any], index: int, source: SourceMap, findings: Findings) -> Case:
    at = ("cases", index)
    if made.get("replies") is not None and made.get("cassette"):
        findings.add((*at, "cassette"), "a case has either `replies` or a `cassette`")
    clock = START_NS
    if "clock" in made:
        try:
            clock = _nanoseconds(made["clock"])
        except ValueError as error:
            findings.add((*at, "clock"), f"this is not a time: {error}", "write 2026-01-01T00:00:00Z")
    expect = made.get("expect") or {}
    return Case(
        name=made["name"],
        index=index,
        line=source.locate(at)[0],
        inputs=made.get("inputs") or {},
        stubs=made.get("stubs") or {},
        replies=made.get("replies"),
        cassette=made.get("cassette"),
        clock_ns=clock,
        generate=bool(made.get("generate")),
        live=bool(made.get("live")),
        expect=Expected(
            **{key: value for key, value in expect.items() if value is not None or key == "outputs"},
            has_outputs="outputs" in expect,
        ),
    )


def _nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text.strip())
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = round(moment.timestamp() * 1_000_000) * 1000
    if seconds < 0:
        raise ValueError("it is before 1970")
    return seconds
