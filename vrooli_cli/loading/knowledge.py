"""The files of a swarm's ``knowledge``: found by paths and globs, read once when the swarm is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 8 * 1024 * 1024
"""Of one file; what is behind is not read."""
MOST_ALTOGETHER = 64 * 1024 * 1024
"""Bytes of all files, as they are part of what is recorded of a run; further files are not read."""
MOST_FILES = 5_000


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


def knowledge_texts(files: Iterable[Path], folder: str | Path) -> tuple[dict[str, str], bool]:
    """Name → text of the files, by path, each once; those that cannot be read or hold no text are left out.

    Args:
        files: What :func:`matching` found.
        folder: The swarm's; a name is relative to it where the file is below.

    Returns:
        The texts, and False when some were left out because together they exceed :data:`MOST_ALTOGETHER`.
    """
    texts: dict[str, str] = {}
    left = MOST_ALTOGETHER
    for path in sorted(set(files)):
        data = _text_bytes(path)
        if data is None:
            continue
        if len(data) > left:
            return texts, False
        if len(texts) >= MOST_FILES:
            break
        left -= len(data)
        texts[_shown(path, Path(folder))] = data.decode("utf-8", "replace")
    return texts, True


def read_knowledge(patterns: Sequence[str], folder: str | Path) -> dict[str, str]:
    """Name → text of all files that the patterns name, as far as the limits go."""
    return knowledge_texts((path for pattern in patterns for path in matching(pattern, folder)), folder)[0]


def _text_bytes(path: Path) -> bytes | None:
    with suppress(OSError), path.open("rb") as stream:
        data = stream.read(MOST_BYTES)
        return None if b"\0" in data[:8192] else data
    return None


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
