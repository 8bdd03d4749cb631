"""Text to plain data: the door to YAML. Whatever the bytes are, the answer is a value or a :class:`DefinitionError`.

::

    document = read_file(Path("routine.yaml"))
    document.data                                   # maps, lists, text, numbers, booleans, None; do not change it
    document.source.locate(("steps", 3, "tool"))    # (line, column)
    document.source.place(problem)                  # the problem with file, line, column and excerpt

Encodings: UTF-8, and UTF-16 and UTF-32 with a byte order mark. Which scalar is what is told in
:mod:`~vrooli_cli.loading.scalars`; what is refused, and how the limits hold, in :mod:`~vrooli_cli.loading.compose`.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any, BinaryIO, Final

import yaml

from vrooli_cli.errors import DefinitionError, Problem
from vrooli_cli.loading.compose import Composer, Stop, collector_paused
from vrooli_cli.loading.limits import Limits
from vrooli_cli.loading.source import Places, SourceMap, visible
from vrooli_cli.loading.syntax import explain, unprintable
from vrooli_cli.model.values import lean

__all__ = ["Document", "Limits", "SourceMap", "read_file", "read_stream", "read_text"]

# The longer marks first: UTF-32-LE begins with the mark of UTF-16-LE.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What PyYAML lets out besides its own errors: limits of int and chr, bugs, and the machine's bounds.
_LEAKS: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError, MemoryError)


@lean()
class Document:
    """One file as it was read.

    Attributes:
        data: Maps with text keys, lists, and scalars. Aliases share values: never change it in place.
        source: Where everything stands.
        warnings: What is allowed but probably not meant, e.g. ``True``.
    """

    data: Any
    source: SourceMap
    warnings: tuple[Problem, ...] = ()


def read_file(path: str | Path, limits: Limits = Limits()) -> Document:  # noqa: B008 - frozen
    """The document in a file.

    Raises:
        DefinitionError: When it cannot be opened, is too large, or is not what :func:`read_text` takes.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as stream:
            return read_stream(stream, name, limits)
    except (OSError, ValueError) as error:
        raise DefinitionError([Problem((), _cannot_read(error), file=visible(name))]) from None


def read_stream(stream: BinaryIO, name: str = "<stdin>", limits: Limits = Limits()) -> Document:  # noqa: B008
    """The document that a binary stream holds; at most one byte more than the limit is read.

    Raises:
        DefinitionError: As :func:`read_text`.
        OSError: When reading fails.
    """
    return read_text(stream.read(limits.file_bytes + 1), name, limits)


def read_text(data: bytes | str, name: str, limits: Limits = Limits()) -> Document:  # noqa: B008
    """The document that these bytes are.

    Args:
        data: The file's content; a string counts as its UTF-8 bytes.
        name: How problems call the file.
        limits: What it may ask for.

    Raises:
        DefinitionError: With every problem found, each with line, column and excerpt.
    """
    name = visible(name)
    text = _decode(data, name, limits)
    places = Places()
    source = SourceMap(name, text, places)
    composer = Composer(source, places, limits)
    root = None
    try:
        with collector_paused():
            root = composer.compose()
    except Stop:
        pass
    except yaml.YAMLError as error:
        composer.problems.append(explain(error, source))
    except UnicodeEncodeError:  # a string, not bytes, with half a surrogate pair in it
        composer.problems.append(unprintable(source))
    except _LEAKS as error:
        composer.problems.append(source.problem(composer.offset, _leak(error)))
    problems = composer.finish()
    if problems:
        raise DefinitionError(problems)
    return Document(root, source, tuple(composer.warnings))


def _decode(data: bytes | str, name: str, limits: Limits) -> str:
    if len(data) > limits.file_bytes:
        message = f"the file is larger than {limits.file_bytes / 2**20:g} MiB"
        raise DefinitionError([Problem((), message, "split it, or raise limits.file_mb", file=name)])
    if isinstance(data, str):
        return _with_lf(data.removeprefix("\ufeff"))
    encoding, mark = next(((name, mark) for mark, name in _MARKS if data.startswith(mark)), ("utf-8", b""))
    body = data[len(mark) :] if mark else data
    try:
        return _with_lf(body.decode(encoding))
    except UnicodeDecodeError as error:
        raise DefinitionError([_undecodable(error, body, name, encoding)]) from None


def _with_lf(text: str) -> str:
    """YAML takes every line break for a LF; libyaml miscounts the characters of a CRLF."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _undecodable(error: UnicodeDecodeError, body: bytes, name: str, encoding: str) -> Problem:
    offset = len(_with_lf(body[: error.start].decode(encoding)))
    source = SourceMap(name, _with_lf(body.decode(encoding, "replace")))
    message = f"the byte 0x{body[error.start]:02X} is not {encoding.upper()} text"
    return source.problem(offset, message, "save the file as UTF-8")


def _cannot_read(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "this is a folder; a file was expected"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"the file cannot be read: {(reason or str(error)).lower()}"


def _leak(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to read this file"
    if isinstance(error, RecursionError):
        return "too many levels inside each other for this Python; nest less"
    return f"this cannot be read as YAML ({type(error).__name__})"
