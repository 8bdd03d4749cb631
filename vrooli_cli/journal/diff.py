"""What is different between two runs: inputs, definition, path, outputs, prompts; for the record, time and credits.

Two runs are *the same* when the first five are; no two runs take the same time.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from vrooli_cli.journal.history import is_blob, whole
from vrooli_cli.model.history import RunHistory
from vrooli_cli.model.store import Store
from vrooli_cli.model.values import lean

MISSING = object()


@lean()
class Change:
    """One value that is not the same; a side that has none is :data:`MISSING`.

    Attributes:
        where: The way to it, such as ``rows[0].name`` or a step's path.
    """

    where: str
    before: Any = MISSING
    after: Any = MISSING

    def wire(self) -> dict[str, Any]:
        """The plain form; a missing side is left out."""
        plain: dict[str, Any] = {"where": self.where}
        if self.before is not MISSING:
            plain["before"] = self.before
        if self.after is not MISSING:
            plain["after"] = self.after
        return plain


@lean(frozen=False)
class RunDiff:
    """Every difference between two runs.

    Attributes:
        definition: A unified diff of every text that changed, a line each.
        path: Steps that ended differently, or ran in only one of them.
    """

    inputs: list[Change] = field(default_factory=list)
    definition: list[str] = field(default_factory=list)
    path: list[Change] = field(default_factory=list)
    outputs: list[Change] = field(default_factory=list)
    prompts: list[Change] = field(default_factory=list)
    duration_ms: tuple[int, int] = (0, 0)
    credits: tuple[int, int] = (0, 0)

    @property
    def same(self) -> bool:
        """True when nothing differs that is not time or money."""
        return not (self.inputs or self.definition or self.path or self.outputs or self.prompts)

    def wire(self) -> dict[str, Any]:
        """The plain form of ``-o json``."""
        lists = {name: [change.wire() for change in getattr(self, name)] for name in ("inputs", "path", "outputs")}
        return {
            "same": self.same,
            **lists,
            "definition": self.definition,
            "prompts": [change.wire() for change in self.prompts],
            "duration_ms": list(self.duration_ms),
            "credits": list(self.credits),
        }


def compare(one: RunHistory, other: RunHistory, store: Store) -> RunDiff:
    """The differences from ``one`` to ``other``."""
    return RunDiff(
        inputs=list(changes(dict(one.inputs or {}), dict(other.inputs or {}))),
        definition=list(_texts(one, other)),
        path=_path(one, other),
        outputs=list(changes(_ending(one, store), _ending(other, store))),
        prompts=_prompts(one, other),
        duration_ms=(one.active_ns // 1_000_000, other.active_ns // 1_000_000),
        credits=(one.credits, other.credits),
    )


def changes(before: Any, after: Any, where: str = "") -> Iterator[Change]:
    """Where two plain values differ, as deep as both have the same shape."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            inner = f"{where}.{key}" if where else str(key)
            yield from changes(before.get(key, MISSING), after.get(key, MISSING), inner)
    elif isinstance(before, list) and isinstance(after, list):
        for at in range(max(len(before), len(after))):
            left = before[at] if at < len(before) else MISSING
            right = after[at] if at < len(after) else MISSING
            yield from changes(left, right, f"{where}[{at}]")
    elif type(before) is not type(after) or before != after:
        yield Change(where, before, after)


def _ending(history: RunHistory, store: Store) -> dict[str, Any]:
    """What a run gave: its result, or how it ended."""
    result = history.result if is_blob(history.result) else whole(history.result, store)
    error = history.error or {}
    ending: dict[str, Any] = {"status": history.status, "result": result}
    if error:
        ending["error"] = {"code": error.get("code"), "message": error.get("message"), "step": error.get("step")}
    return ending


def _texts(one: RunHistory, other: RunHistory) -> Iterator[str]:
    left, right = _named_texts(one), _named_texts(other)
    for name in dict.fromkeys((*left, *right)):
        before, after = left.get(name, "").splitlines(), right.get(name, "").splitlines()
        yield from difflib.unified_diff(
            before, after, f"{one.record.id}/{name}", f"{other.record.id}/{name}", "", "", 2, ""
        )


def _named_texts(history: RunHistory) -> dict[str, str]:
    definition = history.record.definition or {}
    names = definition.get("names") or {}
    main = definition.get("main")
    texts: Mapping[str, str] = definition.get("texts") or {}
    looked_up: Mapping[str, str] = definition.get("knowledge") or {}
    named = {"(the file)" if key == main else names.get(key, key): text for key, text in texts.items()}
    return {**looked_up, **named}


def _path(one: RunHistory, other: RunHistory) -> list[Change]:
    found = []
    for address in dict.fromkeys((*one.steps, *other.steps)):
        before, after = one.steps.get(address), other.steps.get(address)
        left = before.status if before is not None else MISSING
        right = after.status if after is not None else MISSING
        if left != right:
            found.append(Change(address, left, right))
    return found


def _prompts(one: RunHistory, other: RunHistory) -> list[Change]:
    left = {(call.address, call.turn): call.messages for call in one.calls}
    right = {(call.address, call.turn): call.messages for call in other.calls}
    found: list[Change] = []
    for place in dict.fromkeys((*left, *right)):
        address, turn = place
        where = address if turn == 1 else f"{address} (turn {turn})"
        found.extend(changes(left.get(place, MISSING), right.get(place, MISSING), where))
    return found
