"""How a run, or a part of it, is stopped.

What stops it (a :class:`Halt`, ``stopping``) is no fact: a run that goes on starts without it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from vrooli_cli.model import events as e
from vrooli_cli.tier2.decisions import Deciding
from vrooli_cli.tier2.instructions import CancelAttempt, ClearTimer, SetTimer
from vrooli_cli.tier2.state import (
    COMPLETED,
    FAILED,
    RETRYING,
    RUNNING,
    SKIPPED,
    SUSPENDED,
    TERMINAL,
    Frame,
    Halt,
    Node,
    Phase,
)

SECOND = 1_000_000_000
FINALLY_NS = 30 * SECOND
"""How long the handlers may take once the run has been cancelled or its time is up (spec routine.md)."""


class Stopping(Deciding):
    """Halts graphs and what is in them; takes out what a failure has made pointless."""

    def _halt_of(self, node: Node) -> Halt | None:
        """What stops this node from outside, nearest first."""
        return self._halt_around(node.frame) or self._cancelled

    def _halt_around(self, frame: Frame) -> Halt | None:
        """What stops this graph and everything in it; a handler goes on when its routine was stopped."""
        around: Frame | None = frame
        while around is not None:
            if around.halt is not None and around.halt.hard:
                return around.halt
            around = around.owner.frame if around.owner is not None else None
        return None

    def _leaving(self, node: Node) -> str:
        """Why nothing new may start here, or ""."""
        frame = node.frame
        if frame.halt is not None:
            return frame.halt.reason
        if frame.stopping:
            return stopping_reason(frame)
        if node.parent is not None and node.parent.loop is not None and node.parent.loop.stopped:
            return "another item of the loop failed"
        return ""

    def _stop(self, frame: Frame) -> None:
        """The first failure that nobody took: only what is downstream of it, and asks for failures, still starts."""
        frame.stopping = True
        self._taint(frame)
        reason = stopping_reason(frame)
        for index in itertools.chain.from_iterable(frame.graph.batches):
            node = frame.nodes[index]
            if node.status in TERMINAL:
                continue
            if node.status is RUNNING:
                self._stop_inside(node, Halt(reason, hard=False))
            elif node.status in (RETRYING, SUSPENDED) or node.asking:
                self._cancel_node(node, reason)
            elif node.plan.step.trigger_rule in ("all_done", "any_failed"):
                continue
            elif node.tainted:
                self._skip(node, blames(node), tainted=True)
            else:
                self._cancel_node(node, reason)

    def _taint(self, frame: Frame) -> None:
        """Marks everything downstream of a failure; batches are in topological order, so one pass does."""
        bad = {n.plan.index for n in frame.nodes if n.status is FAILED and not n.continued}
        for batch in frame.graph.batches:
            for index in batch:
                node = frame.nodes[index]
                if node.status not in TERMINAL and any(parent in bad for parent in node.plan.parents):
                    bad.add(index)
                    node.tainted = True

    def _stop_inside(self, node: Node, halt: Halt) -> None:
        """What a halt does to a running step: composite ones are halted inside, attempts only by a hard one."""
        loop, inside = node.loop, node.inside
        if loop is not None:
            loop.stopped = True
            for child in list(loop.children.values()):
                if child.status is RUNNING:
                    self._stop_inside(child, halt)
                elif child.status not in TERMINAL:
                    self._cancel_node(child, halt.reason)
            self.agenda.append(("loop", node))
        elif inside is not None:
            self._halt_frame(inside, halt)
        elif halt.hard:
            self._do(CancelAttempt(node.here))

    def _halt_started(self, what: tuple[Frame, Mapping[str, Any]]) -> None:
        """A routine whose ``vars`` have no value cannot begin."""
        frame, error = what
        self._halt_frame(frame, Halt("its variables have no value", hard=True, error=error))

    def _halt_frame(self, frame: Frame, halt: Halt) -> None:
        if frame.halt is not None and (frame.halt.hard or not halt.hard):
            return
        frame.halt = halt
        for node in frame.nodes:
            if node.status is RUNNING:
                self._stop_inside(node, Halt(halt.reason, hard=halt.hard))
            elif node.status not in TERMINAL:
                self._cancel_node(node, halt.reason)
        handler = frame.handler
        if handler is not None and frame.phase is not Phase.FINALLY:
            self._halt_frame(handler, halt)
        elif handler is not None and halt.hard:
            self._finally_timer(frame)

    def _finally_timer(self, frame: Frame) -> None:
        self._do(SetTimer(("finally", frame.run.execution_id), self._now + FINALLY_NS))

    def _unwatch_time(self, node: Node) -> None:
        if node.plan.timeout_ms is not None and node.inside is not None:
            self._do(ClearTimer(("timeout", node.address, str(node.attempt))))
            if node.inside.is_routine and node.inside.run.plan.routine.limits.max_duration_ms is not None:
                self._do(ClearTimer(("duration", node.inside.run.execution_id)))

    def _cancel_node(self, node: Node, reason: str) -> None:
        self._unwatch_time(node)
        if node.status is RETRYING:
            self._do(ClearTimer(("retry", node.address)))
        if node.asking or node.status is SUSPENDED:
            self._waited.discard(node.address)
            self._do(ClearTimer(("approval", node.address)))
        self._emit(
            e.StepCancelled(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                reason=reason,
                attempts=node.attempts,
                duration_ms=self._duration(node) if node.started_ns else 0,
            )
        )

    def _skip(self, node: Node, reason: str, *, tainted: bool = False) -> None:
        self._emit(
            e.StepSkipped(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                reason=reason,
                tainted=True if tainted else None,
            )
        )


def bad_parents(node: Node) -> list[Node]:
    """Parents that did not complete, the worst first: failed, left out because of a failure, any other."""
    parents = [node.frame.nodes[index] for index in node.plan.parents]
    bad = [other for other in parents if other.status is not COMPLETED]
    return sorted(bad, key=lambda other: (other.status is not FAILED or other.continued, not other.tainted))


def blames(node: Node) -> str:
    """Why a step below a failure is left out, by its nearest cause."""
    for parent in bad_parents(node):
        if parent.status is FAILED:
            return f"dependency {parent.plan.step.id} failed"
        if parent.status is SKIPPED:
            return f"dependency {parent.plan.step.id} was skipped"
    return stopping_reason(node.frame)


def stopping_reason(frame: Frame) -> str:
    """What the steps are told that a failure keeps from starting."""
    failed = frame.failure or {}
    return f"the run is stopping: {failed.get('step') or 'a step'} failed"
