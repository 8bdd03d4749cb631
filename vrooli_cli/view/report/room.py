"""How much of many texts is shown, so that a page stays small: short ones whole, long ones as beginning and end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from vrooli_cli.view.report.pieces import excerpt

LEAST: Final = 40
"""Characters that every text keeps, however many there are."""

Weigh = Callable[[str], int]
"""A text → the bytes that it takes on the page, escaped."""


def fitted(texts: Sequence[str], room: int, most: int, weigh: Weigh) -> list[str]:
    """Excerpts that together take at most ``room`` bytes.

    What the short ones do not need is left to the long ones.

    Args:
        texts: What there is to show.
        room: In bytes, for all of them.
        most: In characters, for one.
        weigh: What a text takes.
    """
    shown = [excerpt(text, most) for text in texts]
    weights = [weigh(text) for text in shown]
    cap = fair(weights, room)
    return [
        now if weight <= cap else excerpt(text, max(LEAST, len(now) * cap // weight))
        for text, now, weight in zip(texts, shown, weights, strict=True)
    ]


def fair(weights: Sequence[int], room: int) -> int:
    """The most that each may take so that all together take at most ``room``."""
    waiting = len(weights)
    for weight in sorted(weights):
        cap = room // waiting
        if weight > cap:
            return cap
        room, waiting = room - weight, waiting - 1
    return max(weights, default=0)
