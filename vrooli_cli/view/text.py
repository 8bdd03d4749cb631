r"""Text from outside made harmless, and the small words of the screen: cut to cells, durations, counts.

Names, messages, prompts and what models say are data. A control character, a bidirectional override or an invisible
letter in them must neither move the cursor nor hide what is written, so each becomes its escape (``\x1b``,
``\u202e``) and is seen. Markup needs nothing: no text from outside is ever parsed as markup (``rich.text.Text``).
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from urllib.parse import unquote

LINE_LIMIT = 240
"""Characters of one line of outside text that are kept at the most."""
REASON_LIMIT = 800
"""The same of a reason that is shown whole, over several lines, when a run is over."""

_ODD = re.compile(r"[^ -~]")
_ODD_IN_BLOCK = re.compile(r"[^ -~\n]")
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # that pile up on a letter
# What the view itself writes beside ASCII; each takes one column, which needs no table of widths.
_OUR_SIGNS = dict.fromkeys(map(ord, "…·→↑↓↻–×│─━╸○●✓✗⊘"))
_SELECTORS = frozenset("\ufe0e\ufe0f")
# Letters and marks that print as nothing though Unicode calls them printable.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0") | {
    chr(code) for code in range(0xFE00, 0xFE0E)
}
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def line(value: object, limit: int = LINE_LIMIT) -> str:
    """One harmless line of at most ``limit`` characters of the source; what is cut shows as ``…``."""
    text = value if type(value) is str else str(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return _tamed(_ODD.sub(_replace, text))


def place(address: object, limit: int = LINE_LIMIT) -> str:
    """An address as people read it: the keys of loops as they were, not percent-encoded. Commands take the address."""
    text = address if type(address) is str else str(address)
    return line(unquote(text) if "%" in text else text, limit)


def block(text: str) -> str:
    r"""Harmless text that keeps its line ends, for text that streams; tabs become spaces, ``\r\n`` one line end."""
    text = text.replace("\r\n", "\n").replace("\t", "    ")
    return _tamed(_ODD_IN_BLOCK.sub(_replace, text))


def _replace(match: re.Match[str]) -> str:
    return _shown(match[0])


@lru_cache(4096)
def _shown(char: str) -> str:
    if char in _SELECTORS:  # they only choose between two pictures of the sign before them, of unequal width
        return ""
    if unicodedata.category(char) == "Zs":
        return " "
    if char.isprintable() and char not in _UNSEEN:
        return char
    return escape(char)


def escape(char: str) -> str:
    """The visible escape of one character, as Python writes it."""
    code = ord(char)
    return _NAMED.get(char) or (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def _tamed(text: str) -> str:
    """No mark may sit on our own signs, and at most three may pile on one letter."""
    if text.isascii():
        return text
    if unicodedata.category(text[0])[0] == "M":
        text = escape(text[0]) + text[1:]
    return _pile().sub(r"\1", text)


@cache
def _pile() -> re.Pattern[str]:
    """More than three marks on one letter; a pattern that takes a millisecond to make, and few need it."""
    return re.compile(f"([{_MARKS}]{{3}})[\u0300-\u20ff\ufe20-\ufe2f]*")


def cells(text: str) -> int:
    """Columns of the terminal that the text takes."""
    return len(text) if text.isascii() or text.translate(_OUR_SIGNS).isascii() else _cells(text)


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def fit(text: str, width: int) -> str:
    """The text in at most ``width`` cells; what is cut shows as ``…``."""
    if cells(text) <= width:
        return text
    if width <= 1:
        return "…"[: max(width, 0)]
    if text.isascii():
        return text[: width - 1] + "…"
    used = 0
    for position, char in enumerate(text):
        used += _cells(char)
        if used > width - 1:
            return text[:position] + "…"
    return text


def fit_middle(text: str, width: int) -> str:
    """Like :func:`fit`, but keeps both ends: for paths, which differ at their ends."""
    if cells(text) <= width or width < 8 or not text.isascii():
        return fit(text, width)
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"


def wrap(text: str, width: int, rows: int) -> list[str]:
    """The last ``rows`` lines of the text, folded at ``width`` cells, between words where there are any."""
    wanted: list[str] = []
    for source in reversed(text.rstrip("\n").split("\n")):
        wanted[:0] = _fold(source, width)
        if len(wanted) >= rows:
            break
    wanted = wanted[-rows:] if rows > 0 else []
    while wanted and not wanted[0].strip():
        del wanted[0]
    return wanted


def _fold(source: str, width: int) -> list[str]:
    lines: list[str] = []
    while cells(source) > width > 0:
        cut = len(fit(source, width + 1)) - 1
        space = source.rfind(" ", cut // 2, cut + 1)
        cut = space if space > 0 else max(cut, 1)
        lines.append(source[:cut].rstrip())
        source = source[cut:].lstrip()
    return [*lines, source]


def duration(ms: int, *, whole: bool = False) -> str:
    """``12ms``, ``1.2s``, ``3m04s``, ``2h05m``, ``3d04h``; ``whole``: no parts of seconds, for what still runs."""
    if ms < 0:
        ms = 0
    if whole and ms < 60_000:
        return f"{ms // 1000}s"
    if ms < 1000:
        return f"{ms}ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f}s"
    seconds = (ms + 500) // 1000
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86_400}d{seconds % 86_400 // 3600:02}h"


def count(number: int) -> str:
    """``12,400``; from ten million on ``12.4M``, so that a column keeps its width."""
    if number < 10_000_000:
        return f"{number:,}"
    if number < 10_000_000_000:
        return f"{number / 1e6:,.1f}M"
    return f"{number / 1e9:,.1f}G"


def short(number: int) -> str:
    """``940``, ``12.4k``, ``1M``: where a rough figure will do."""
    if number < 1000:
        return str(number)
    text = f"{number / 1000:.1f}k" if number < 999_950 else f"{number / 1e6:.1f}M"
    return text.replace(".0", "")


def plural(number: int, noun: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"
