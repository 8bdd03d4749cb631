"""A tool of your own: a function with type hints and a docstring."""

from __future__ import annotations

import re
from collections import Counter

from vrooli_cli import ToolError, tool


@tool(effects="none")
def word_count(text: str, top: int = 10) -> dict[str, int]:
    """Count the words of a text, most frequent first.

    Args:
        text: What is counted.
        top: At most this many words.
    """
    words = re.findall(r"\w+", text.lower())
    if not words:
        raise ToolError("the text has no words", code="NO_WORDS", retryable=False)
    return dict(Counter(words).most_common(top))
