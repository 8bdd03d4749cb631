"""The end of a swarm: stopping, suspension, synthesis, handlers, verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vrooli_cli.errors import ExpressionError
from vrooli_cli.model import events as e
from vrooli_cli.model.clock import child_id
from vrooli_cli.tier1.decisions import Halt, Stage, task_error
from vrooli_cli.tier1.duties import Duties
from vrooli_cli.tier1.instructions import CancelTask, EndSwarm, RunHandler, StopAsking, StopHandler
from vrooli_cli.tier1.state import COMPLETED, PENDING, READY
from vrooli_cli.tier1.stimuli import ModelAnswered
from vrooli_cli.tier2.instructions import SetTimer
from vrooli_cli.tier2.stopping import FINALLY_NS


class Endings(Duties):
    """Brings a swarm to its end, a good one or not."""

    def _stop_all(self, halt: Halt) -> None:
        self._halt = halt
        if self._asked is not None:
            self._asked = None
            self._do(StopAsking())
        for address, part in list(self.running.items()):
            if address in self._suspensions:  # nothing runs there that could be stopped
                del self._suspensions[address]
                self._say_failed(part, task_error("CANCELLED", halt.reason, address))
            else:
                self._do(CancelTask(address, halt.reason))
        if self.stage is Stage.HANDLERS and self._handler and self._handler != "finally":
            self._do(StopHandler(self._handler))

    def _suspend(self) -> None:
        codes = set(self._suspensions.values())
        self._emit(
            e.SwarmSuspended(
                execution_id=self.root_id,
                goal=self.goal,
                tasks=tuple(self.running[address].task.id for address in self._suspensions),
                code="OUTCOME_UNKNOWN" if "OUTCOME_UNKNOWN" in codes else "APPROVAL_REQUIRED",
                duration_ms=self.elapsed_ms,
            )
        )
        self._do(EndSwarm("suspended"))

    def _drop_suspended(self) -> None:
        for address in list(self._suspensions):
            del self._suspensions[address]
            error = task_error("CANCELLED", "the swarm is stopping", address)
            self._say_failed(self.running[address], error)

    def _synthesize(self) -> None:
        self.stage = Stage.SYNTHESIS
        if self.plan.synthesis is not None:
            self._ask("synthesize")
        else:
            self._to_handlers()

    def _synthesized(self, stimulus: ModelAnswered) -> None:
        if stimulus.error is not None:
            self._failure = dict(stimulus.error)
        self.synthesis = stimulus.answer

    def _to_handlers(self) -> None:
        self.stage = Stage.HANDLERS
        if self.options.plan_only:
            self._end(*self._verdict())
        else:
            self._next_handler()

    def _next_handler(self) -> None:
        status, error, result = self._verdict()
        order = {"completed": ("success", "finally"), "failed": ("failure", "finally")}.get(status, ("finally",))
        for name in order:
            if name in self.plan.handlers and name not in self._handlers:
                self._handlers.append(name)
                self._handler = name
                execution_id = child_id(self.root_id, f"handlers.{name}", self.lives + 1)
                if self._halt is not None:
                    self._do(SetTimer(("handler",), self._now + FINALLY_NS))
                self._do(RunHandler(name, execution_id, status, error))
                return
        self._end(status, error, result)

    def _verdict(self) -> tuple[str, Mapping[str, Any] | None, Any]:
        if self._halt is not None:
            return ("cancelled", None, None) if self._halt.error is None else ("failed", self._halt.error, None)
        if self._failure is not None:
            return "failed", self._failure, None
        try:
            results = {task.id: task.result for task in self.tasks.values()}
            names = self.names(synthesis=self.synthesis)
            return "completed", None, self.plan.result(names, self.synthesis, results)
        except ExpressionError as error:
            return "failed", task_error("EXPRESSION_ERROR", f"outputs: {error.message}"), None

    def _end(self, status: str, error: Mapping[str, Any] | None, result: Any) -> None:
        self.stage = Stage.OVER
        common: dict[str, Any] = {
            "execution_id": self.root_id,
            "goal": self.goal,
            "duration_ms": self.elapsed_ms,
        }
        if status == "completed":
            done = sum(1 for task in self.tasks.values() if task.status is COMPLETED)
            self._emit(e.SwarmCompleted(tasks_completed=done, result=result, **common))
        elif status == "failed":
            assert error is not None
            self._emit(e.SwarmFailed(error=error, not_run=self._left_undone(), **common))
        else:
            reason = self._halt.reason if self._halt is not None else "cancelled"
            self._emit(e.SwarmCancelled(reason=reason, not_run=self._left_undone(), **common))
        self._do(EndSwarm(status))

    def _left_undone(self) -> dict[str, Any]:
        """What becomes of the tasks that have not begun: skipped below one that did not complete, else cancelled."""
        if self._halt is not None:
            reason = self._halt.reason
        else:
            step = (self._failure or {}).get("step") or "a task"
            reason = f"the swarm is stopping: {step} failed"
        found = {}
        for task in self.tasks.values():
            if task.status in (PENDING, READY):
                bad = [name for name in task.spec.dependencies if name in self.tasks and not self.tasks[name].done]
                skipped = {"status": "skipped", "reason": f"dependency {bad[0]} did not complete"} if bad else None
                found[task.id] = skipped or {"status": "cancelled", "reason": reason}
        return found
