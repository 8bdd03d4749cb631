"""What a swarm may look up: files in SQLite's full-text search, in memory, with the place of every excerpt."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vrooli_cli.errors import Problem, VrooliError

CHUNK_LETTERS = 1_200
"""An excerpt is about so long: whole paragraphs as far as they fit."""
MOST_BYTES = 8 * 1024 * 1024
"""Of one file; what is behind is not indexed."""
MOST_FILES = 5_000
MOST_CHUNKS = 200_000
_WORD = re.compile(r"\w+")
_MOST_WORDS = 40  # of a query


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A piece of a file.

    Attributes:
        source: ``docs/a.md:12``: the file as the swarm names it, and the line where the piece begins.
    """

    source: str
    text: str


class KnowledgeBase:
    """Excerpts, found by words; the best match first (BM25). Made once a run and closed with it."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.chunks = 0
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self._db.execute(
                "CREATE VIRTUAL TABLE excerpts USING fts5(text, source UNINDEXED, tokenize='porter unicode61')"
            )
        except sqlite3.OperationalError as error:
            message = f"the SQLite of this Python has no full-text search (FTS5), which `knowledge` needs: {error}"
            raise VrooliError(message, code="DEFINITION_INVALID", tier="tier1") from None

    @classmethod
    def of_files(cls, patterns: Sequence[str], folder: str | Path) -> KnowledgeBase:
        """The files that match, relative to ``folder``; binary ones are left out."""
        base = cls()
        for path in sorted(dict.fromkeys(path for pattern in patterns for path in matching(pattern, folder))):
            base.add_file(path, _shown(path, Path(folder)))
        return base

    def add_file(self, path: Path, name: str) -> None:
        """Index a file under ``name``; one that cannot be read or holds no text is left out."""
        with suppress(OSError):
            with path.open("rb") as stream:
                data = stream.read(MOST_BYTES)
            if b"\0" not in data[:8192]:
                self.add(name, data.decode("utf-8", "replace"))

    def add(self, name: str, text: str) -> None:
        """Index a text under ``name``."""
        if len(self.files) >= MOST_FILES:
            return
        self.files.append(name)
        rows = [(chunk, f"{name}:{line}") for line, chunk in chunks(text)][: MOST_CHUNKS - self.chunks]
        self.chunks += len(rows)
        self._db.executemany("INSERT INTO excerpts(text, source) VALUES (?, ?)", rows)

    def search(self, text: str, k: int = 5) -> list[Excerpt]:
        """The ``k`` excerpts that share the most telling words with ``text``; whatever the text, nothing is raised."""
        words = list(dict.fromkeys(_WORD.findall(text.lower())))[:_MOST_WORDS]
        if not words or k < 1:
            return []
        query = " OR ".join(f'"{word}"' for word in words)
        rows = self._db.execute(
            "SELECT source, text FROM excerpts WHERE excerpts MATCH ? ORDER BY bm25(excerpts), rowid LIMIT ?",
            (query, k),
        )
        return [Excerpt(source, found) for source, found in rows]

    def close(self) -> None:
        """Let go of the index."""
        self._db.close()


def matching(pattern: str, folder: str | Path) -> list[Path]:
    """The regular files that a path or a glob names, beside the swarm; in order."""
    base = Path(folder)
    with suppress(OSError, ValueError, NotImplementedError, IndexError):
        if not any(mark in pattern for mark in "*?["):
            path = base / pattern
            if path.is_dir():
                return _files(path.rglob("*"))
            return [path] if path.is_file() else []
        whole = Path(pattern)
        if whole.is_absolute():
            return _files(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))))
        return _files(base.glob(pattern))
    return []


def check_knowledge(patterns: Sequence[str], folder: str | Path) -> list[Problem]:
    """The patterns that name no file."""
    return [
        Problem(("knowledge", n), f"no file is {pattern!r}", "paths and globs are relative to the swarm's file")
        for n, pattern in enumerate(patterns)
        if not matching(pattern, folder)
    ]


def chunks(text: str) -> Iterator[tuple[int, str]]:
    """Pieces of about :data:`CHUNK_LETTERS` with the number of their first line: paragraphs where possible."""
    piece: list[str] = []
    size, first = 0, 1
    for number, line in enumerate(_short_lines(text), 1):
        new_part = not line.strip() or line.startswith("#")
        if piece and (size + len(line) > CHUNK_LETTERS or (new_part and size > CHUNK_LETTERS // 2)):
            yield first, "\n".join(piece).strip()
            piece, size = [], 0
        if not piece:
            if not line.strip():
                continue
            first = number
        piece.append(line)
        size += len(line) + 1
    if piece:
        yield first, "\n".join(piece).strip()


def _short_lines(text: str) -> Iterable[str]:
    """The lines; of a very long one only the beginning (its rest would not be found by line anyway)."""
    return (line[:CHUNK_LETTERS] for line in text.splitlines())


def _files(paths: Iterable[Path]) -> list[Path]:
    found = []
    for path in paths:
        if path.is_file():
            found.append(path)
            if len(found) >= MOST_FILES:
                break
    return sorted(found)


def _shown(path: Path, folder: Path) -> str:
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return str(path)
