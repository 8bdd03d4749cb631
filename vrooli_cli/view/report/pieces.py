"""What every part of the report is built with: sections, windows that scroll, values as text."""

from __future__ import annotations

import json
from collections.abc import Mapping

from vrooli_cli.view.report.markup import Markup, lines, tag
from vrooli_cli.view.text import block, line

_BOTH_ENDS = 240  # characters from which on a text is shown by its beginning and its end


def section(identity: str, title: str, *inside: object, cls: str | None = None) -> Markup:
    """A part of the page that the navigation can name."""
    return tag("section", tag("h2", title), *inside, id=identity, cls=cls)


def scroll(label: str, inside: Markup) -> Markup:
    """Something large in a window of its own, which the keyboard can scroll."""
    return tag("div", inside, cls="scroll", tabindex=0, role="region", aria_label=label)


def is_stand_in(value: object) -> bool:
    """True for the stand-in of a value that is too large for the log."""
    return isinstance(value, Mapping) and value.keys() == {"$blob", "bytes"}


def as_json(value: object, indent: int | None = 2) -> str:
    """A value as JSON, in many lines or (``indent=None``) in one."""
    if is_stand_in(value):
        assert isinstance(value, Mapping)
        return f"({value['bytes']:,} bytes, kept beside the journal)"
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def brief(value: object, limit: int) -> str:
    """A value in one line of so many characters."""
    return line(value if isinstance(value, str) else as_json(value, None), limit)


def excerpt(value: str, room: int) -> str:
    """Text of at most ``room`` characters: of more, the beginning and the end, or of very few the beginning."""
    if len(value) <= room:
        return block(value)
    if room < _BOTH_ENDS:
        return f"{block(value[: room - 1])}…"
    room -= len("\n… 1,000,000 characters left out …\n")
    return (
        f"{block(value[: room * 2 // 3])}\n… {len(value) - room:,} characters left out …\n{block(value[-room // 3 :])}"
    )


def shown(value: object, *, closed: bool = False) -> Markup:
    """A value to look at; ``closed`` shows a large one as its beginning, to be opened."""
    text = (value if isinstance(value, str) else as_json(value)).rstrip("\n")
    cut = text[:20_000] + (f"\n… {len(text):,} characters" if len(text) > 20_000 else "")
    if "\n" not in cut and len(cut) <= 120:
        return tag("code", cut)
    whole = tag("pre", lines(cut), tabindex=0)
    return tag("details", tag("summary", tag("code", brief(value, 90))), whole) if closed else whole


def named(values: Mapping[str, object], *, closed: bool) -> Markup:
    """A table of names and values."""
    rows = [
        tag("tr", tag("td", name, cls="mono nowrap"), tag("td", shown(value, closed=closed)))
        for name, value in values.items()
    ]
    return tag("table", tag("tbody", *rows), cls="named")
