"""How a step ends: completed, failed, or what ``on_error`` makes of it; and its ``set`` and ``export``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vrooli_cli.errors import ExpressionError
from vrooli_cli.model import events as e
from vrooli_cli.model.run import AFTER_A_BREAK, BROKEN_OFF, DENIALS, NEVER_TAKEN, ExecutionError, next_delay
from vrooli_cli.tier2.decisions import expression_failed
from vrooli_cli.tier2.state import Node
from vrooli_cli.tier2.stopping import Stopping


class Settling(Stopping):
    """Has the last word on a step."""

    def _settle_failure(self, node: Node, error: Mapping[str, Any]) -> None:
        """No further attempt: what ``on_error`` makes of it."""
        policy = node.plan.step.on_error
        code = error["code"]
        if policy.kind == "fail" or code in NEVER_TAKEN or node.is_loop:
            self._fail(node, error)
        elif policy.kind == "recover":
            assert node.plan.recover is not None
            try:
                value = node.plan.recover.evaluate(self.names(node, {"error": dict(error)}))
            except ExpressionError as failure:
                self._fail(node, expression_failed(node, "on_error.recover", failure))
                return
            self._complete(node, value, error=error)
        else:
            self._fail(node, error, continued=code not in DENIALS)

    def _fail(self, node: Node, error: Mapping[str, Any], *, continued: bool = False) -> None:
        self._unwatch_time(node)
        self._emit(
            e.StepFailed(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                error=error,
                attempts=node.attempts,
                duration_ms=self._duration(node),
                continued=True if continued else None,
                effects=None if node.effects == "none" else node.effects,
            )
        )
        if not continued and node.parent is None and not self.options.keep_going and not node.frame.stopping:
            self._stop(node.frame)

    def _complete(self, node: Node, result: Any, error: Mapping[str, Any] | None = None) -> None:
        self._unwatch_time(node)
        if not self._assign(node, result, recovered=error is not None):
            return
        self._emit(
            e.StepCompleted(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                result=result,
                attempts=node.attempts,
                duration_ms=self._duration(node),
                recovered=True if error is not None else None,
                error=error,
                effects=None if node.effects == "none" else node.effects,
            )
        )

    def _assign(self, node: Node, result: Any, *, recovered: bool = False) -> bool:
        """``set`` and ``export`` of a step that has a result; False when that failed, and the step with it."""
        plan = node.plan
        if not (plan.set or plan.export) or node.parent is not None:
            return True
        names = self.names(node, {"result": result})
        try:
            values = {name: value.evaluate(names) for name, value in plan.set}
            exports = {name: value.evaluate(names) for name, value in plan.export}
        except ExpressionError as failure:
            wrong = expression_failed(node, "set or export", failure)
            if recovered:  # `recover` has had its turn
                self._fail(node, wrong)
            else:
                self._settle_failure(node, wrong)
            return False
        execution_id = node.frame.run.execution_id
        if values:
            self._emit(e.ContextSet(execution_id=execution_id, step_id=node.address, values=values))
        if exports:
            self._emit(e.ContextExported(execution_id=execution_id, step_id=node.address, values=exports))
        return True

    def _retry_delay(self, node: Node, error: Mapping[str, Any]) -> int | None:
        policy = node.plan.step.retry
        if policy is None and node.plan.kind in ("prompt", "tool") and error.get("context", {}).get(BROKEN_OFF):
            policy = AFTER_A_BREAK
        if policy is None or (node.effects == "once" and not policy.written):
            return None
        delay = next_delay(policy, node.attempts, ExecutionError(**error), self.root_id, node.here)
        if delay is None or node.plan.retry_when is None:
            return delay
        try:
            wanted = node.plan.retry_when.evaluate(self.names(node, {"error": dict(error)}))
        except ExpressionError:
            return None
        return delay if wanted else None
