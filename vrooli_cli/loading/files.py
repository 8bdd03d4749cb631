"""Names to files, and files to documents: regular ones of a bounded size, each failure one line."""

from __future__ import annotations

import errno
import os
import stat
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vrooli_cli.errors import DefinitionError, Problem
from vrooli_cli.loading.limits import Limits
from vrooli_cli.model.values import lean

if TYPE_CHECKING:
    from vrooli_cli.loading.text import Document

SUFFIXES = (".yaml", ".yml")
_MOST_ENTRIES = 2000  # of a folder that is searched for a name like the one that was not found


@lean()
class FileRead:
    """A file with its exact bytes, which the bundle's digest is made of."""

    content: bytes
    document: Document


def shown(path: Path) -> str:
    """A path as people are shown it: relative to where they are, when it is below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def read_regular(path: Path, name: str, limits: Limits) -> FileRead:
    """The document in a regular file.

    Raises:
        DefinitionError: It is not there, no regular file, not readable, too large, or not YAML.
    """
    from vrooli_cli.loading.text import read_text

    content = read_content(path, name, limits)
    return FileRead(content, read_text(content, name, limits))


def read_content(path: Path, name: str, limits: Limits) -> bytes:
    """The bytes of a regular file, one more than the limit at most; it never waits for a pipe.

    Raises:
        DefinitionError: See :func:`read_regular`.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(handle, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise DefinitionError([Problem((), _not_regular(mode), "pass YAML on stdin with -", file=name)])
            return file.read(limits.file_bytes + 1)
    except (OSError, ValueError) as error:
        raise DefinitionError([Problem((), _reason(error), file=name)]) from None


def _not_regular(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "this is a folder; a file was expected"
    return "this is a pipe or a device; a regular file was expected"


def _reason(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return "this is not the name of a file"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "there is no such file"
    if error.errno == errno.EISDIR:
        return "this is a folder; a file was expected"
    if error.errno == errno.EACCES:
        return "the file may not be read (permission denied)"
    return f"the file cannot be read ({os.strerror(error.errno or 0)})"


def kind_of_path(reference: str) -> Literal["file", "folder", "nothing"]:
    """What stands at a path; pipes and devices count as files, impossible names as nothing."""
    if not reference or "\0" in reference:
        return "nothing"
    try:
        mode = Path(reference).stat().st_mode
    except OSError as error:
        return "file" if error.errno in (errno.ELOOP, errno.EACCES) else "nothing"
    return "folder" if stat.S_ISDIR(mode) else "file"


def is_bare(reference: str) -> bool:
    """True for a name that is looked up in ``routines/``: no folder and no suffix of YAML."""
    return "/" not in reference and os.sep not in reference and not reference.lower().endswith(SUFFIXES)


def find_routine(reference: str, folder: Path, routines: Path | None) -> Path | None:
    """The file that a text in a file of ``folder`` names, or None.

    A path is relative to the folder; a bare name is looked up in ``routines``, with either suffix, then in the folder.
    """
    if not reference or "\0" in reference:
        return None
    beside = folder / reference
    if not is_bare(reference):
        in_routines = [routines / reference] if routines and "/" not in reference else []
        return next((path for path in (beside, *in_routines) if _is_there(path)), None)
    folders = [folder] if routines is None else [routines, folder]
    named = [place / f"{reference}{suffix}" for place in folders for suffix in SUFFIXES]
    return next((path for path in named if _is_there(path)), None)


def main_file(reference: str, routines: Path | None) -> Path | None:
    """The file that a command names: that path, or the routine of that name; a folder is told when it is read."""
    kind = kind_of_path(reference)
    if kind == "file" or (kind == "folder" and not is_bare(reference)):
        return Path(reference)
    return find_routine(reference, Path(), routines)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def like(reference: str, folder: Path, routines: Path | None) -> str:
    """``did you mean …?`` for the file nearest in name, of those that the text could have named."""
    path = Path(reference.replace("\0", ""))
    parent = "" if str(path.parent) == "." else f"{path.parent}/"
    known = {name: f"{parent}{name}" for name in _yaml_files(folder / path.parent)}
    if routines is not None and not parent:
        names = _yaml_files(routines)
        known |= {name: name for name in ([Path(name).stem for name in names] if is_bare(reference) else names)}
    from difflib import get_close_matches

    near = get_close_matches(path.name[:200], known, n=1, cutoff=0.6)
    return f"did you mean {known[near[0]]!r}?" if near else ""


def _yaml_files(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in islice(entries, _MOST_ENTRIES) if e.name.lower().endswith(SUFFIXES))
    except (OSError, ValueError):
        return []
