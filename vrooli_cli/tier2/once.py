"""What has happened and must not happen twice, at places that are opened anew by a retry around them or by a resume.

A place is known by its address, but the child of a loop without ``key`` by its item: when the items are computed again,
another one may stand at its position, and it may stand at another.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from vrooli_cli.model.run import ExecutionStrategy
from vrooli_cli.tier2.state import COMPLETED, FAILED, Node


class Once:
    """``once`` effects of steps that have been left behind.

    Attributes:
        allowed: Addresses of steps that a person wants to happen again (``--assume STEP=rerun``), until they do.
    """

    def __init__(self) -> None:
        self.allowed: set[str] = set()
        self._results: dict[str, list[Any]] = {}
        self._doubtful: set[str] = set()
        self._turns: dict[str, tuple[int, Any]] = {}  # of a ``repeat``: the turn it is in, and the result before it

    def allows(self, node: Node) -> bool:
        """True when a person wants this step to happen again, whatever it has done."""
        return node.address in self.allowed or node.here in self.allowed

    def begin(self, node: Node) -> None:
        """A step begins: nobody has allowed it to happen once more after this."""
        self.allowed -= {node.address, node.here}

    def leave(self, node: Node) -> None:
        """A step whose place is opened anew: note what it has done."""
        if self.allows(node):
            return
        if node.status is COMPLETED and node.effects == "once":
            self._results.setdefault(_place(node), []).append(node.result)
            return
        if is_doubtful(node) or (asks_a_model(node) and node.effects == "once"):
            self._doubtful.add(_place(node))
        if node.effects == "once" and node.turn > 1:
            self._turns[_place(node)] = (node.turn, node.previous)

    def inherit(self, node: Node) -> None:
        """A step at a new place: whether nobody knows what it did at the old one, and which turns it has behind it."""
        if not self._doubtful and not self._turns:
            return
        place = _place(node)
        node.unknown = place in self._doubtful
        self._doubtful.discard(place)
        if place in self._turns:
            node.turn, node.previous = self._turns.pop(place)
            node.effects = "once"

    def results(self, node: Node) -> list[Any]:
        """The result that stands for this step, in a list; an empty one when it has to be made."""
        return self._results.get(_place(node), [])[:1] if self._results else []

    def use(self, node: Node) -> None:
        """The result that stands has been used: it does not stand for another step."""
        standing = self._results.get(_place(node))
        if standing:
            standing.pop(0)
            node.carried_out("once")


def is_doubtful(node: Node) -> bool:
    """True when nobody knows what a step has done, so that a person says what has become of it."""
    return node.unknown or (node.status is FAILED and (node.error or {}).get("code") == "OUTCOME_UNKNOWN")


def asks_a_model(node: Node) -> bool:
    """True for a step that is a conversation with a model, whose effects are of its own making."""
    return node.plan.kind == "prompt" or node.plan.step.strategy is ExecutionStrategy.REASONING


def _place(node: Node) -> str:
    place, up = node.address, node if node.parent is not None else node.frame.container
    while up is not None:
        loop = up.parent.loop if up.parent is not None else None
        if up.parent is not None and loop is not None and loop.keys is None:
            text = json.dumps(up.item, sort_keys=True, default=str, ensure_ascii=False)
            item = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            place = f"{up.parent.address}[={item}]{place[len(up.address) :]}"
        up = up.parent or up.frame.container
    return place
