"""One try of a step: what must be so before it, starting it, and what follows from how it ended.

Wrappers, outermost first: approval_required → repeat → retry → timeout → action. Approvals are here because a question
is either the first thing of a try or all of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vrooli_cli.errors import ExpressionError, IllegalMove, InputError
from vrooli_cli.language.shell import told
from vrooli_cli.model import events as e
from vrooli_cli.model.clock import child_id
from vrooli_cli.model.routine import Approval
from vrooli_cli.tier2.context import check_inputs
from vrooli_cli.tier2.decisions import expression_failed, step_error, yes_or_no
from vrooli_cli.tier2.instructions import AskApproval, ClearTimer, LookUp, SetTimer, StartAttempt
from vrooli_cli.tier2.loops import Loops
from vrooli_cli.tier2.state import PENDING, READY, RETRYING, SUSPENDED, Node
from vrooli_cli.tier2.stimuli import Answered

WAITED_APPROVAL_MS = 60_000
"""A gate that nobody here can answer is waited for when its time-out is at most this; else the run is suspended."""


class Attempts(Loops):
    """Begins tries and reads their ends."""

    def _prepare(self, node: Node) -> None:
        """Look for a result that stands, ask for approval where the step says so, then go on to the first attempt."""
        if self._looks_up(node):
            self._looking.add(node.address)
            self._do(LookUp(node, node.here))
            return
        if node.plan.step.approval_required:
            try:
                prompt, digest = self._approval_question(node)
            except (ExpressionError, InputError) as error:
                self._attempt_failed(node, expression_failed(node, "parameters", error))
                return
            if self.grants.get(node.address) != digest:
                self._ask(node, prompt, digest, None)
                return
        self._attempt(node)

    def _looks_up(self, node: Node) -> bool:
        options, plan = self.options, node.plan
        if not (options.reuse or (options.cache and plan.step.cache is not None)) or node.address in self._again:
            return False
        return plan.kind in ("tool", "prompt", "wait") and node.turn == 1 and not node.attempts

    def _reuse(self, node: Node, result: Any, reason: str, from_run: str | None) -> None:
        """A result that was made before stands; what the step sets and exports is made of it as always."""
        self._batch_started(node)
        if self._assign(node, result):
            execution_id = node.frame.run.execution_id
            event = e.StepReused(
                execution_id=execution_id, step_id=node.address, reason=reason, result=result, from_run=from_run
            )
            self._emit(event)

    def _attempt(self, node: Node) -> None:
        kind = node.plan.kind
        if kind in ("tool", "prompt", "wait"):
            self._queue(node)
        elif kind == "approval":
            self._ask_for_step(node)
        elif kind == "parallel":
            self._batch_started(node)
            self._emit(e.StepReady(execution_id=node.frame.run.execution_id, step_id=node.here))
            self._watch_time(node)
        else:
            self._call(node)

    def _queue(self, node: Node) -> None:
        limiter = self.limiter_of(node)
        if node.status is RETRYING:
            node.status = READY  # its delay is over; the fact is the next execution/started
        if limiter.full() is None:
            if not self.heap:  # the common case of a chain: nobody else waits
                self._start(node)
                return
        elif node.status is PENDING and node.parent is None:
            self._emit(e.StepReady(execution_id=node.frame.run.execution_id, step_id=node.here))
        self.heap.push(node)

    def _start(self, node: Node) -> None:
        step = node.plan.step
        self._batch_started(node)
        tool = node.plan.tool
        label = node.plan.label
        address = node.here
        attempt = node.attempt + 1
        self._emit(
            e.ExecutionStarted(
                execution_id=node.frame.run.execution_id,
                step_id=address,
                attempt=attempt,
                strategy=step.strategy.value if step.strategy is not None else None,
                tool_name=label if node.plan.kind == "tool" else None,
                model=label if node.plan.kind == "prompt" else None,
                effects=step.effects or (tool.effects if tool is not None else None),
                reason=self._again.pop(node.address, None) or None if self._again else None,
            )
        )
        self._do(StartAttempt(node, address, attempt))

    def _call(self, node: Node) -> None:
        """Open a child routine."""
        plan = node.plan.child
        parameters = node.plan.parameters
        if plan is None or parameters is None:
            raise IllegalMove(f"{node.address} calls a routine that was not planned")
        try:
            inputs = check_inputs(plan.routine, parameters.render(self.names(node)), self.options.environ)
        except (ExpressionError, InputError) as error:
            self._attempt_failed(node, expression_failed(node, "parameters", error))
            return
        self._batch_started(node)
        address = node.here
        execution_id = child_id(self.root_id, address, node.attempt + 1)
        self._emit(
            e.RoutineStarted(
                execution_id=execution_id,
                routine=plan.routine.name,
                step_count=plan.step_count,
                inputs=inputs,
                parent_execution_id=node.frame.run.execution_id,
                parent_step_id=address,
                started_ns=self._now,
            )
        )
        self._watch_time(node)

    def _watch_time(self, node: Node) -> None:
        """The time-out of a composite step, and the ``max_duration`` of the routine inside."""
        timeout = node.plan.timeout_ms
        if timeout is not None:
            self._do(SetTimer(("timeout", node.address, str(node.attempt)), self._now + timeout * 1_000_000))
        if node.inside is not None and node.inside.is_routine:
            run = node.inside.run
            limit = run.plan.routine.limits.max_duration_ms
            if limit is not None:
                self._do(SetTimer(("duration", run.execution_id), self._now + limit * 1_000_000))

    # -- their ends ---------------------------------------------------------------------------------------------------

    def _succeeded(self, node: Node, result: Any) -> None:
        repeat = node.plan.step.repeat
        if repeat is None:
            self._complete(node, result)
            return
        assert node.plan.until is not None
        try:
            done = yes_or_no("until", node.plan.until.evaluate(self.names(node, {"result": result})))
        except ExpressionError as error:
            self._settle_failure(node, expression_failed(node, "repeat.until", error))
            return
        if done:
            self._complete(node, result)
        elif node.turn >= repeat.max:
            message = f"`until` did not hold in {repeat.max} turns"
            self._settle_failure(node, step_error("REPEAT_EXHAUSTED", message, node.address))
        else:
            self._iterate(node, result, repeat.delay_ms)

    def _iterate(self, node: Node, result: Any, delay_ms: int) -> None:
        stopped = self._leaving(node)
        self._emit(
            e.StepIterated(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                iteration=node.turn,
                result=result,
                delay_ms=0 if stopped else delay_ms,
            )
        )
        if stopped:  # the turn is told all the same: it is not done again
            self._cancel_node(node, stopped)
        elif delay_ms:
            self._do(SetTimer(("retry", node.address), self._now + delay_ms * 1_000_000))
        else:
            self._attempt(node)

    def _attempt_failed(self, node: Node, error: Mapping[str, Any]) -> None:
        delay = None if self._leaving(node) else self._retry_delay(node, error)
        if delay is None:
            self._settle_failure(node, error)
            return
        self._emit(
            e.StepRetrying(
                execution_id=node.frame.run.execution_id,
                step_id=node.here,
                attempt=node.attempt,
                delay_ms=delay,
                error=error,
            )
        )
        if delay:
            self._do(SetTimer(("retry", node.address), self._now + delay * 1_000_000))
        else:
            self._retry_due(node.address)

    def _retry_due(self, address: str) -> None:
        node = self.nodes.get(address)
        if node is not None and node.status is RETRYING:
            self.delayed.discard(address)
            self._attempt(node)

    # -- approvals ----------------------------------------------------------------------------------------------------

    def _approval_question(self, node: Node) -> tuple[str, str]:
        plan = node.plan
        parts: dict[str, Any] = {}
        names = self.names(node)
        if plan.parameters is not None:
            parts["parameters"] = {name: told(one) for name, one in plan.parameters.render(names).items()}
        for name, value in plan.prompt:
            parts[name] = value.evaluate(names)
        shown = json.dumps(parts, default=str, ensure_ascii=False, sort_keys=True)
        digest = hashlib.sha256(f"{plan.label}\0{shown}".encode()).hexdigest()[:32]
        what = " ".join(word for word in (plan.kind, plan.label) if word)
        return f"Run {node.address} ({what}) with {shown[:2000]}?", digest

    def _ask_for_step(self, node: Node) -> None:
        action = node.plan.step.action
        assert isinstance(action, Approval)
        try:
            prompt = str(node.plan.prompt[0][1].evaluate(self.names(node)))
        except ExpressionError as error:
            self._attempt_failed(node, expression_failed(node, "approval", error))
            return
        deadline = None
        if action.timeout_ms is not None:
            deadline = node.deadline or self._now + action.timeout_ms * 1_000_000
            self._do(SetTimer(("approval", node.address), deadline))
        self._ask(node, prompt, "", deadline)

    def _ask(self, node: Node, prompt: str, digest: str, deadline: int | None) -> None:
        self._batch_started(node)
        self._emit(
            e.ApprovalRequested(
                execution_id=node.frame.run.execution_id, step_id=node.address, prompt=prompt, digest=digest or None
            )
        )
        given = self._answers.pop(node.address, None)
        if given is not None and given.approved is not None:
            self._answer(node, given)
        else:
            self._do(AskApproval(node.address, prompt, digest, deadline))

    def _ask_again(self, node: Node) -> None:
        """A suspended step of a run that goes on."""
        if node.status is not SUSPENDED:
            return
        if node.reason == "OUTCOME_UNKNOWN":
            self._unknown(node)
            return
        given = self._answers.pop(node.address, None)
        if given is not None and given.approved is not None:
            self._answer(node, given)
        elif node.deadline is not None and node.deadline <= self._now:
            self._approval_due(node.address)
        elif isinstance(node.plan.step.action, Approval):
            self._ask_for_step(node)
        else:
            self._prepare(node)

    def _answer(self, node: Node, answer: Answered) -> None:
        execution_id = node.frame.run.execution_id
        is_step = node.plan.kind == "approval"
        self._waited.discard(node.address)
        self._do(ClearTimer(("approval", node.address)))
        fact = e.ApprovalGranted if answer.approved else e.ApprovalDenied
        digest = None if is_step else self._approval_question(node)[1]
        self._emit(
            fact(
                execution_id=execution_id,
                step_id=node.address,
                by=answer.by,
                comment=answer.comment,
                digest=digest,
            )
        )
        if not answer.approved:
            said = f": {answer.comment}" if answer.comment else ""
            message = f"{answer.by or 'somebody'} rejected the step {node.address}{said}"
            self._attempt_failed(node, step_error("APPROVAL_DENIED", message, node.address))
        elif is_step:
            result = {"approved": True, "by": answer.by, "comment": answer.comment}
            self._succeeded(node, result)
        else:
            self._attempt(node)

    def _approval_due(self, address: str) -> None:
        node = self.nodes.get(address)
        action = node.plan.step.action if node is not None else None
        if node is None or not (node.asking or node.status is SUSPENDED) or not isinstance(action, Approval):
            return
        self._answer(node, Answered(self._now, address, action.on_timeout == "approve", by="timeout"))

    def _suspend(self, node: Node) -> None:
        action = node.plan.step.action
        deadline = None
        if isinstance(action, Approval) and action.timeout_ms is not None:
            if action.timeout_ms <= WAITED_APPROVAL_MS:
                self._waited.add(node.address)
            deadline = self._now + action.timeout_ms * 1_000_000
        self._emit(
            e.StepSuspended(
                execution_id=node.frame.run.execution_id,
                step_id=node.address,
                reason="it needs an approval, and nobody is here to give it",
                deadline=deadline,
            )
        )

    def _unknown(self, node: Node) -> None:
        """A ``once`` call was under way when the run was stopped or died, or made in a conversation that ended badly.

        Somebody may have said so now, ``done`` or ``failed``; what is to be made again (``rerun``) does not come here.
        """
        answer = self._assume.pop(node.address, None) or self._assume.pop(node.here, None)
        if answer is None:
            if node.status is not SUSPENDED:
                self._emit(
                    e.StepSuspended(
                        execution_id=node.frame.run.execution_id,
                        step_id=node.address,
                        reason="OUTCOME_UNKNOWN",
                        code="OUTCOME_UNKNOWN",
                    )
                )
            return
        node.unknown = False
        if answer == "done":
            self._complete(node, None)
        else:
            message = "nobody knows what it did, and it is assumed to have failed"
            self._settle_failure(node, step_error("TOOL_FAILED", message, node.address))
