"""Loops: ``for_each`` and ``matrix``, one child an item.

The items are looked at once, when the loop opens; children are made one after another as places for them come free, so
that a loop of 10,000 items is a cursor.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from vrooli_cli.errors import ExpressionError
from vrooli_cli.language.values import describe
from vrooli_cli.model import events as e
from vrooli_cli.tier2.decisions import expression_failed
from vrooli_cli.tier2.settling import Settling
from vrooli_cli.tier2.state import CANCELLED, RUNNING, Loop, Node
from vrooli_cli.tier2.stopping import stopping_reason


class Loops(Settling):
    """Opens loops, lets their children in and closes them."""

    def _expand(self, node: Node) -> None:
        try:
            items = self._items(node)
            keys = self._keys(node, items)
        except ExpressionError as error:
            self._fail(node, expression_failed(node, "for_each", error))
            return
        self._batch_started(node)
        self._emit(
            e.StepExpanded(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                count=len(items),
                items=items,
                keys=keys,
            )
        )

    def _items(self, node: Node) -> list[Any]:
        names = self.names(node)
        if node.plan.items is None:
            axes = []
            for axis, value in node.plan.axes:
                values = value.evaluate(names)
                if not isinstance(values, list):
                    raise ExpressionError(f"the matrix axis {axis!r} must be a list, not {describe(values)}")
                axes.append(values)
            labels = [axis for axis, _ in node.plan.axes]
            return [dict(zip(labels, combination, strict=True)) for combination in itertools.product(*axes)]
        items = node.plan.items.evaluate(names)
        if isinstance(items, Mapping):
            return [{"key": key, "value": value} for key, value in items.items()]
        if not isinstance(items, list | tuple):
            raise ExpressionError(f"for_each needs a list or a map, not {describe(items)}")
        return list(items)

    def _keys(self, node: Node, items: list[Any]) -> tuple[str, ...] | None:
        value = node.plan.key
        if value is None:
            return None
        loop = node.plan.step.for_each
        assert loop is not None
        keys: dict[str, int] = {}
        for index, item in enumerate(items):
            text = value.evaluate(self.names(node, {loop.alias: item, "index": index}))
            if isinstance(text, bool) or not isinstance(text, str | int):
                raise ExpressionError(f"the key of item {index} must be text, not {describe(text)}")
            key = _address_key(str(text))
            if key in keys:
                raise ExpressionError(f"the key {str(text)[:60]!r} names item {keys[key]} and item {index}")
            keys[key] = index
        return tuple(keys)

    def _loop_moves(self, node: Node) -> None:
        """A child started or ended, or the loop has just been opened."""
        loop = node.loop
        if loop is None or node.status is not RUNNING:
            return
        step = node.plan.step.for_each
        assert step is not None
        if loop.failure is not None and step.fail_fast and not self.options.keep_going:
            loop.stopped = True
        everything = loop.cursor >= len(loop.items)
        if loop.running:
            if not everything and not loop.stopped:
                self._queue_child(node, loop, step.max_concurrent)
        elif everything or loop.stopped:
            self._loop_ends(node, loop)
        else:
            self._queue_child(node, loop, step.max_concurrent)

    def _queue_child(self, node: Node, loop: Loop, limit: int | None) -> None:
        if not loop.queued and (limit is None or loop.running < limit):
            loop.queued = True
            self.heap.push(node, (*node.rank, loop.cursor))

    def _loop_ends(self, node: Node, loop: Loop) -> None:
        halt = node.frame.halt
        if loop.failure is not None:
            self._fail(node, dict(loop.failure))
        elif loop.cursor < len(loop.items) or loop.counts[CANCELLED]:
            reason = halt.reason if halt is not None else stopping_reason(node.frame)
            self._cancel_node(node, reason)
        else:
            results = [loop.children[index].result for index in range(len(loop.items))]
            self._complete(node, results)


def _address_key(text: str) -> str:
    """A loop key as it stands in addresses: percent-encoded, at most 80 characters and a hash."""
    encoded = quote(text, safe="-_").replace(".", "%2E").replace("~", "%7E")
    if len(encoded) <= 80:
        return encoded
    return f"{encoded[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
