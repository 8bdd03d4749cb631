"""Addresses: where in a run a step is, and the only place that takes one apart.

``group/inner``, ``call/inner``: a step of a group, of a child routine. ``fan[key]``: one item of a loop; the key is
percent-encoded. ``poll#3``: one turn of a repeat. ``handlers.finally/f``: a step of a handler. ``task:load/inner``,
``task:load[1]@2/inner``: inside a swarm's task; the second of its agents, the second try.
"""

from __future__ import annotations

import re

from vrooli_cli.model.values import lean

HANDLER = "handlers."
TASK = "task:"
_MADE = re.compile(r"\[[^\]]*\]|#\d+")
_ROOT = re.compile(r"[^/\[#@]*")
# These are seldom needed: they are compiled when they are.
_KEY = r"\[[^\]]*\]"
_TASK = TASK + r"(?P<task>[^/\[@]+)(\[(?P<index>\d+)\])?(@(?P<attempt>\d+))?"


@lean()
class TaskPlace:
    """A task of a swarm, which of its agents is at it, and at which try."""

    task: str
    index: int = 0
    attempt: int = 1


def static(address: str) -> str:
    """As the file knows it: without the items of loops and the turns of repeats, which are made as it runs."""
    return _MADE.sub("", address)


def made_at(address: str) -> int:
    """Where the first item or turn stands in an address; -1 when there is none."""
    made = _MADE.search(address)
    return made.start() if made is not None else -1


def any_item(address: str) -> str:
    """The same for every item of the loops around it: ``fan[]/x`` of ``fan[3]/x``."""
    return re.sub(_KEY, "[]", address)


def root_of(address: str) -> str:
    """What an address begins with: the step, or task, of the outermost graph."""
    found = _ROOT.match(address)
    return found[0] if found is not None else address


def is_inner(address: str) -> bool:
    """True for what lies inside of a step, and for an item or turn of one."""
    return any(mark in address for mark in "/[#")


def turn_of(address: str) -> int:
    """The turn at the end of an address; 0 when there is none."""
    turn = address.rpartition("#")[2] if "#" in address else ""
    return int(turn) if turn.isdecimal() and len(turn) < 10 else 0


def without_turn(address: str) -> str:
    """Without the turn at its end: ``poll`` of ``poll#3``."""
    if "#" not in address:
        return address
    base, _, turn = address.rpartition("#")
    return base if turn.isdecimal() else address


def around_of(address: str) -> str:
    """The address of the composite that a step is directly inside of; empty for a step of the root graph."""
    if address.endswith("]"):
        return address[: address.rindex("[")]
    around = address.rpartition("/")[0]
    if is_handler(around):
        around = around.rpartition("/")[0]
    return without_turn(around)


def is_handler(address: str) -> bool:
    """True for a handler itself, of the run or of a child routine."""
    return address.rpartition("/")[2].startswith(HANDLER)


def in_handler(address: str) -> bool:
    """True for a step of a handler's own graph."""
    return is_handler(address.rpartition("/")[0])


def task_of(part: str) -> TaskPlace | None:
    """What the first part of an address says of a task; None when it is of none."""
    found = re.fullmatch(_TASK, part)
    return TaskPlace(found["task"], int(found["index"] or 0), int(found["attempt"] or 1)) if found is not None else None
