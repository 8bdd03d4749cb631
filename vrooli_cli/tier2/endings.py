"""The end of a graph: of a group, of a handler, of a routine with its handlers, of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vrooli_cli.errors import ExpressionError
from vrooli_cli.model import events as e
from vrooli_cli.tier2.attempts import Attempts
from vrooli_cli.tier2.decisions import step_error
from vrooli_cli.tier2.instructions import EndRun
from vrooli_cli.tier2.state import CANCELLED, COMPLETED, RUNNING, Frame, Names, Phase


class Endings(Attempts):
    """Says what has become of a graph all of whose steps have ended, and goes on one frame further out."""

    def _conclude(self, frame: Frame) -> None:
        """Every node of a frame has ended."""
        if frame.remaining or frame.phase is Phase.OVER:
            return
        if frame.home is not None:
            if frame.home.handler is frame:
                frame.home.handler = None
                self._next_handler(frame.home)
        elif frame.is_routine:
            if frame.phase is Phase.MAIN:
                self._next_handler(frame)
        else:
            self._group_ends(frame)

    def _group_ends(self, frame: Frame) -> None:
        owner = frame.owner
        assert owner is not None
        if owner.inside is not frame or owner.status is not RUNNING:
            return
        halt = frame.halt
        if halt is not None and halt.error is not None:
            self._attempt_failed(owner, halt.error)
        elif halt is not None and halt.hard:
            self._cancel_node(owner, halt.reason)
        elif frame.failure is not None:
            self._attempt_failed(owner, frame.failure)
        elif halt is not None and any(node.status is CANCELLED for node in frame.nodes):
            self._cancel_node(owner, halt.reason)
        else:
            self._succeeded(owner, {node.plan.step.id: node.result for node in frame.nodes})

    def _next_handler(self, frame: Frame) -> None:
        """After the graph: success or failure, then finally; then the end (spec routine.md, ``handlers``)."""
        status, error, result = self._verdict(frame)
        order = {"completed": ("success", "finally"), "failed": ("failure", "finally")}.get(status, ("finally",))
        for name in order:
            if name in frame.run.plan.handlers and name not in frame.handlers:
                frame.run.status, frame.run.error = status, error
                path = f"{frame.prefix}handlers.{name}"
                self._emit(e.StepReady(execution_id=frame.run.execution_id, step_id=path))
                if self._cancelled is not None or self._halt_around(frame) is not None:
                    self._finally_timer(frame)
                return
        self._routine_over(frame, status, error, result)

    def _verdict(self, frame: Frame) -> tuple[str, Mapping[str, Any] | None, Any]:
        """Status, error and result of a routine whose graph has ended, with the handlers that have run so far."""
        halt = frame.halt or (self._cancelled if frame is self.root else None)
        if halt is not None and halt.hard:
            return ("failed", halt.error, None) if halt.error is not None else ("cancelled", None, None)
        if frame.failure is not None:
            return "failed", frame.failure, None
        if halt is not None and any(node.status is CANCELLED for node in frame.nodes):
            return "cancelled", None, None
        for handler in frame.handlers.values():
            if handler.failure is not None:
                return "failed", handler.failure, None
        try:
            return "completed", None, self._result(frame)
        except ExpressionError as failure:
            return "failed", step_error("EXPRESSION_ERROR", f"outputs: {failure.message}", None), None

    def _result(self, frame: Frame) -> Any:
        outputs = frame.run.plan.outputs
        if outputs is not None:
            names = Names(frame, None, self.blackboard)
            return {name: value.evaluate(names) for name, value in outputs}
        return {
            node.plan.step.id: node.result
            for node in frame.nodes
            if node.status is COMPLETED and not node.plan.children
        }

    def _routine_over(self, frame: Frame, status: str, error: Mapping[str, Any] | None, result: Any) -> None:
        run = frame.run
        owner = frame.owner
        common: dict[str, Any] = {
            "execution_id": run.execution_id,
            "routine": run.name,
            "duration_ms": self._elapsed() if owner is None else max(0, self._now - run.started_ns) // 1_000_000,
            "parent_step_id": owner.here if owner is not None else None,
        }
        if status == "completed":
            self._emit(e.RoutineCompleted(result=result, **common))
        elif status == "failed":
            assert error is not None
            self._emit(e.RoutineFailed(error=error, **common))
        else:
            halt = frame.halt or self._cancelled
            self._emit(e.RoutineCancelled(reason=halt.reason if halt is not None else "cancelled", **common))
        if owner is None:
            self._do(EndRun(status))
        elif status == "completed":
            self._succeeded(owner, result)
        elif status == "failed":
            assert error is not None
            self._attempt_failed(owner, error)
        else:
            halt = frame.halt
            self._cancel_node(owner, halt.reason if halt is not None else "cancelled")
