"""HTML as text that is escaped where it enters: a :class:`Markup` is made of markup, and of text by escaping it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from vrooli_cli.view.text import block, line

_VOID = frozenset({"br", "input"})

Attribute = str | int | float | bool | None


class Markup(str):
    """Text that is HTML already; plain strings are not, and are escaped wherever they are put."""

    __slots__ = ()


def text(value: object, limit: int = 400) -> Markup:
    """Others' words in one line, harmless in every way: no tags, no control characters."""
    return Markup(escape(line(value, limit), quote=False))


def lines(value: str) -> Markup:
    """Others' words in many lines."""
    return Markup(escape(block(value), quote=False))


def tag(name: str, *inside: object, **attributes: Attribute) -> Markup:
    """An element; ``cls`` is class, ``_`` in names is ``-``; what is inside and no Markup is escaped.

    An attribute that is None or False is left out.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = "class" if key == "cls" else key.rstrip("_").replace("_", "-")
        written.append(f" {key}" if value is True else f' {key}="{escape(_plain(value))}"')
    begin = f"<{name}{''.join(written)}>"
    return Markup(begin) if name in _VOID else Markup(f"{begin}{''.join(map(_inner, inside))}</{name}>")


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Parts one after another."""
    return Markup(between.join(map(_inner, parts)))


def data_block(value: Any, identity: str) -> Markup:
    """Data for the page's script; nothing in it can end the element or be anything but data."""
    return Markup(f'<script type="application/json" id="{identity}">{_as_data(value)}</script>')


def data_bytes(value: Any) -> int:
    """How many bytes a value takes in a :func:`data_block`."""
    return len(_as_data(value).encode())


def _as_data(value: Any) -> str:
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    for char in "<>&\u2028\u2029":
        written = written.replace(char, f"\\u{ord(char):04x}")
    return written


def _inner(value: object) -> str:
    return value if isinstance(value, Markup) else str(text(value, 100_000)) if value is not None else ""


def _plain(value: Attribute) -> str:
    return f"{value:.6g}" if isinstance(value, float) else line(value, 2_000)
