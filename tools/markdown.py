"""Tools for folders of Markdown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from vrooli_cli import tool

_FENCE = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1[`~]*\s*$", re.M | re.S)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[[^\]\n]*\]\(\s*<?([^)\s>]+)")
_ELSEWHERE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//|#")


@tool(effects="idempotent")
def broken_links(page: str, root: str = ".") -> list[str]:
    """Relative links and images of a Markdown page whose target is not there.

    Args:
        page: Path of the page.
        root: What links that begin with a slash are relative to.

    Returns:
        A line for each: the page, the line number and the target.
    """
    path = Path(page)
    text = path.read_text(encoding="utf-8", errors="replace")
    text = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    text = _CODE.sub(lambda match: " " * len(match[0]), text)
    found = []
    for match in _LINK.finditer(text):
        target = unquote(re.sub(r"[#?].*$", "", match[1]))
        if not target or _ELSEWHERE.match(match[1]):
            continue
        place = Path(root, target.lstrip("/")) if target.startswith("/") else path.parent / target
        if not place.exists():
            found.append(f"{page}:{text.count(chr(10), 0, match.start()) + 1}: {match[1]}")
    return found
