"""The XML of an organisation as a small tree with lines: nothing is fetched, no entity is known, all is bounded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from vrooli_cli.errors import DefinitionError, Problem

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_ELEMENTS = 100_000

_NAMESPACE = re.compile(r"https?://(moise\.sourceforge\.net|moise-lang\.github\.io)/os")
_SEPARATOR = "\n"


@dataclass(slots=True)
class Element:
    """An element: its local name, plain attributes, children, its own text, and where it starts."""

    name: str
    attributes: dict[str, str]
    line: int
    column: int
    file: Path
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> Iterator[Element]:
        """The children called ``name``."""
        return (c for c in self.children if c.name == name)

    def first(self, name: str) -> Element | None:
        """The first child called ``name``."""
        return next(self.all(name), None)

    def problem(self, message: str, hint: str = "") -> Problem:
        """Something that is wrong here."""
        return Problem((), message, hint, file=str(self.file), line=self.line, column=self.column)

    def of(self, outer: str, inner: str) -> list[Element]:
        """The ``inner`` children of all ``outer`` children."""
        return [c for o in self.all(outer) for c in o.all(inner)]


def parse_xml(text: bytes | str, file: Path) -> Element:
    """The tree of a text.

    Raises:
        DefinitionError: It is not well formed, too deep or too large, or has a document type.
    """
    parser = expat.ParserCreate("utf-8" if isinstance(text, str) else None, namespace_separator=_SEPARATOR)
    builder = _Builder(parser, file)
    try:
        parser.Parse(text.encode("utf-8", "replace") if isinstance(text, str) else text, True)
    except expat.ExpatError as error:
        message = f"not well-formed XML: {expat.ErrorString(error.code)}"
        raise _refusal(file, message, error.lineno, error.offset + 1) from None
    assert builder.root is not None  # a well-formed document has a root
    return builder.root


class _Builder:
    """Builds the tree from the parser's calls, and refuses what an organisation file has no use for."""

    def __init__(self, parser: expat.XMLParserType, file: Path) -> None:
        self.root: Element | None = None
        self._parser = parser
        self._file = file
        self._open: list[Element] = []
        self._count = 0
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._doctype

    def _refuse(self, message: str) -> DefinitionError:
        return _refusal(self._file, message, self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= MAX_DEPTH:
            raise self._refuse(f"elements are nested deeper than {MAX_DEPTH}")
        if self._count > MAX_ELEMENTS:
            raise self._refuse(f"more than {MAX_ELEMENTS} elements")
        namespace, _, local = name.rpartition(_SEPARATOR)
        if not _NAMESPACE.fullmatch(namespace):
            raise self._refuse(f"<{local}> is not in the namespace http://moise.sourceforge.net/os")
        plain = {k: v for k, v in attributes.items() if _SEPARATOR not in k}
        line, column = self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1
        element = Element(local, plain, line, column, self._file)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        self._open[-1].text += text

    def _doctype(self, *_: object) -> None:
        raise self._refuse("a document type (and with it, entities) is not allowed here")


def read_bounded(file: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DefinitionError: It cannot be read, or is larger than ``MAX_BYTES``.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refusal(file, f"cannot be read: {error.strerror or error}") from None
    if len(text) > MAX_BYTES:
        raise too_large(file)
    return text


def too_large(file: Path) -> DefinitionError:
    """The refusal of a file that is larger than ``MAX_BYTES``."""
    return _refusal(file, f"is larger than {MAX_BYTES // 2**20} MiB")


def _refusal(file: Path, message: str, line: int = 0, column: int = 0) -> DefinitionError:
    return DefinitionError([Problem((), message, file=str(file), line=line, column=column)])
