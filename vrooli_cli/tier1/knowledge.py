"""What a swarm may look up: texts in SQLite's full-text search, in memory, with the place of every excerpt."""

from __future__ import annotations

import re
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vrooli_cli.errors import VrooliError
from vrooli_cli.loading.knowledge import MOST_FILES, read_knowledge

CHUNK_LETTERS = 1_200
"""An excerpt is about so long: whole paragraphs as far as they fit."""
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
        weakref.finalize(self, self._db.close)  # also where nobody closes it
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
        return cls.of_texts(read_knowledge(patterns, folder))

    @classmethod
    def of_texts(cls, texts: Mapping[str, str]) -> KnowledgeBase:
        """Name → text, as a swarm's bundle holds them."""
        base = cls()
        for name, text in texts.items():
            base.add(name, text)
        return base

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
