"""One line of the screen: pieces of text with a style each, and its width in cells.

``rich.text.Text`` does the same and more; it takes five times as long to put together, which is most of what a picture
costs. :meth:`Line.rich` makes one where rich draws.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from vrooli_cli.view.text import cells, fit

if TYPE_CHECKING:
    from rich.text import Text

Part = tuple[str, str]
"""(text, style); the style is a name that rich knows, such as ``bold`` or ``red``, or empty."""

_ASCII = str.maketrans({"…": "~", "·": "-", "×": "x", "→": ">", "↑": "^", "↓": "v", "─": "-", "│": "|", "–": "-"})


_WORDS = re.compile(r"\s*\S+\s*?|\s+")


class Line:
    """Pieces side by side.

    Attributes:
        width: Cells that the line takes.
    """

    __slots__ = ("parts", "width")

    def __init__(self, *parts: Part | str) -> None:
        self.parts: list[Part] = []
        self.width = 0
        for part in parts:
            if isinstance(part, str):
                self.add(part)
            else:
                self.add(*part)

    def add(self, text: str, style: str = "") -> Line:
        """Add a piece at the end."""
        if text:
            self.parts.append((text, style))
            self.width += cells(text)
        return self

    def join(self, other: Line) -> Line:
        """Add all pieces of another line."""
        self.parts += other.parts
        self.width += other.width
        return self

    def pad(self, width: int) -> Line:
        """Fill up with blanks."""
        return self.add(" " * (width - self.width))

    def cut(self, width: int) -> Line:
        """The line in at most ``width`` cells; what is cut shows as ``…``."""
        if self.width <= width:
            return self
        kept = Line()
        for text, style in self.parts:
            room = width - kept.width
            if cells(text) >= room:  # something is cut here, or right after it
                return kept.add(fit(text + " " * (room + 1), room), style)
            kept.add(text, style)
        return kept

    def wrap(self, width: int, indent: int, most: int) -> list[Line]:
        """The line broken between words into at most ``most`` lines of ``width`` cells, the later ones indented."""
        lines = [Line()]
        for text, style in self.parts:
            for word in _WORDS.findall(text):
                if lines[-1].width + cells(word.rstrip()) > width and lines[-1].plain.strip() and len(lines) < most:
                    lines.append(Line(" " * indent))
                    word = word.lstrip()
                lines[-1].add(word, style)
        return [one.cut(width) for one in lines]

    def ascii(self, width: int) -> Line:
        """The same line without Unicode: our own signs by their ASCII kin, other letters escaped."""
        plain = Line()
        for text, style in self.parts:
            plain.add(_ascii(text), style)
        cut = plain.cut(width)
        cut.parts = [(_ascii(text), style) for text, style in cut.parts]
        return cut

    @property
    def plain(self) -> str:
        """The text without styles."""
        return "".join([text for text, _ in self.parts])

    def ansi(self, *, colour: bool) -> str:
        """The text with escape sequences; without ``colour`` only bold and dim are kept."""
        out: list[str] = []
        for text, style in self.parts:
            if style:
                begin, end = _codes(style, colour)
                out += (begin, text, end)
            else:
                out.append(text)
        return "".join(out)

    def rich(self) -> Text:
        """The same for rich."""
        from rich.text import Text

        text = Text()
        for piece, style in self.parts:
            text.append(piece, style)
        return text


def of_rich(text: Text) -> Line:
    """A line of rich's, with the styles that do not overlap."""
    line, plain, at = Line(), text.plain, 0
    for span in text.spans:
        if span.start >= at:
            line.add(plain[at : span.start]).add(plain[span.start : span.end], str(span.style))
            at = span.end
    return line.add(plain[at:])


def _ascii(text: str) -> str:
    return text if text.isascii() else text.translate(_ASCII).encode("ascii", "backslashreplace").decode()


@lru_cache(256)
def _codes(name: str, colour: bool) -> tuple[str, str]:
    from rich.color import ColorSystem
    from rich.style import Style

    style = Style.parse(name)
    begin, _, end = (
        (style if colour else style.without_color).render("\0", color_system=ColorSystem.STANDARD).partition("\0")
    )
    return begin, end
