"""Which files an XML organisation includes, so that they are read with it; what they mean is tier 1's."""

from __future__ import annotations

import re
from pathlib import Path

MOST_INCLUDES = 32
"""Of one organisation, counted each time that one is followed."""


def included_names(text: str) -> list[str]:
    """What the ``include-group-specification`` elements of an XML text name, as far as it can be parsed."""
    from xml.parsers import expat

    names: list[str] = []
    parser = expat.ParserCreate("utf-8", namespace_separator=" ")

    def start(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(" ")[2] == "include-group-specification" and "uri" in attributes:
            names.append(attributes["uri"])

    def doctype(*_: object) -> None:
        raise ValueError("a document type is refused where the organisation is read")

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except (expat.ExpatError, ValueError):
        return names
    return names


def is_plain_name(uri: str) -> bool:
    """True for the name of a file without any folder, drive or escape in it."""
    return uri not in (".", "..") and re.fullmatch(r"[^/\\:%\x00]+", uri) is not None


def beside(file: Path, uri: str) -> Path | None:
    """The file of that plain name in the folder of ``file``; None when it would lead elsewhere, by a link too."""
    if not is_plain_name(uri):
        return None
    found = file.parent / uri
    try:
        return found if found.resolve().parent == file.parent.resolve() else None
    except (OSError, RuntimeError):  # a loop of links
        return None
