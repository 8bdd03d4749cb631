"""The brain of tier 1: stimulus in, events and instructions out. No clock, no randomness, no I/O.

The same shape as tier 2's machine: ``handle`` is the only door, *decide* (this module and the classes that it stands
on, see :class:`~vrooli_cli.tier1.decisions.Deciding`) makes events, *evolve* (:mod:`vrooli_cli.tier1.state`) applies
each at once; resume is the fold of the log and then ``handle(Resumed(…))``.
What stops a swarm and who is being asked are no facts: a swarm that goes on starts without them.

Stages: decompose → team → tasks (with adapting) → synthesis → handlers → end (spec swarm.md).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from vrooli_cli.errors import ExpressionError, IllegalMove
from vrooli_cli.model import events as e
from vrooli_cli.model.clock import child_id
from vrooli_cli.tier1.decisions import Halt, Stage, task_error
from vrooli_cli.tier1.instructions import Instruction, StartTask, StopHandler
from vrooli_cli.tier1.organise import roles_of
from vrooli_cli.tier1.planning import Planning
from vrooli_cli.tier1.state import READY, Part, Task
from vrooli_cli.tier1.stimuli import (
    HandlerEnded,
    ModelAnswered,
    Resumed,
    Stimulus,
    SwarmStarted,
    TaskAnswered,
    TaskEnded,
)
from vrooli_cli.tier2.instructions import ClearTimer, SetTimer, Turn
from vrooli_cli.tier2.stimuli import CancelRequested, TimerFired


class SwarmMachine(Planning):
    """One swarm; see :class:`~vrooli_cli.tier1.decisions.Deciding` for what it is made of."""

    def handle(self, stimulus: Stimulus) -> Turn[Instruction]:
        """Take in one stimulus; the state is changed by the events that are returned, and by nothing else."""
        self._now = stimulus.now
        _DECIDE[type(stimulus)](self, stimulus)
        self._advance()
        turn = Turn(self._events, self._instructions)
        self._events, self._instructions = [], []
        return turn

    # -- stimuli ------------------------------------------------------------------------------------------------------

    def _on_started(self, stimulus: SwarmStarted) -> None:
        self._say_started()
        self._begin()

    def _say_started(self) -> None:
        try:
            goal, failure = str(self.plan.goal.evaluate(self.names())), None
        except ExpressionError as error:
            goal, failure = self.plan.swarm.goal, task_error(error.code, f"goal: {error.message}")
        self._emit(
            e.SwarmStarted(
                execution_id=self.root_id,
                goal=goal,
                agent_count=len(self.crew),
                swarm=self.plan.swarm.name,
                inputs=dict(self.inputs),
            )
        )
        if failure is not None:
            self._stop_all(Halt("the goal has no value", failure))

    def _begin(self) -> None:
        if self.options.max_duration_ms is not None:
            left = self.options.max_duration_ms * 1_000_000 - self.active_ns
            self._do(SetTimer(("duration",), self._now + max(0, left)))
        if self._halt is not None:
            return
        if not self.decomposed:
            self._decompose()
        elif not self.formed:
            self._form(tuple(task.spec for task in self.tasks.values()))
        else:
            self._set_to_work()

    def _on_resumed(self, stimulus: Resumed) -> None:
        if self.status == "pending":
            self._on_started(SwarmStarted(stimulus.now))
            return
        self._emit(e.SwarmResumed(execution_id=self.root_id, goal=self.goal, resumption=self.resumptions + 1))
        self._begin()

    def _on_answered(self, stimulus: ModelAnswered) -> None:
        if self._asked != stimulus.purpose:
            return
        self._asked = None
        if self._halt is not None:
            return
        if stimulus.purpose == "synthesize":
            self._synthesized(stimulus)
        elif stimulus.error is not None:
            self._not_planned(stimulus.error)
        else:
            self._planned(stimulus)

    def _on_task_ended(self, stimulus: TaskEnded) -> None:
        part = self.running.get(stimulus.address)
        if part is None:
            return  # a late word of a run that was given up
        if stimulus.status == "suspended" and self._halt is None and part.task.id not in self.left:
            self._suspensions[stimulus.address] = stimulus.code or "APPROVAL_REQUIRED"
            return
        self._suspensions.pop(stimulus.address, None)
        if stimulus.status == "completed":
            self._completed(part, stimulus)
        else:
            self._failed(part, stimulus)

    def _on_task_answered(self, stimulus: TaskAnswered) -> None:
        part = self.running.get(stimulus.address)
        if part is not None and self._suspensions.pop(stimulus.address, None) is not None:
            self._do(StartTask(part.task.id, part.agent, part.address, part.attempt, part.execution_id, again=True))

    def _on_handler_ended(self, stimulus: HandlerEnded) -> None:
        if self._handler != stimulus.name:
            return
        self._handler = ""
        self._do(ClearTimer(("handler",)))
        if stimulus.status != "completed" and self._failure is None and self._halt is None:
            error = stimulus.error or task_error("CANCELLED", f"the handler {stimulus.name!r} was stopped")
            self._failure = dict(error)

    def _on_timer(self, stimulus: TimerFired) -> None:
        kind, *rest = stimulus.key
        if kind == "duration" and self._halt is None and not self.over:
            limit = self.options.max_duration_ms or 0
            message = f"the swarm took longer than {limit / 1000:g} s"
            self._stop_all(Halt("the swarm's time is up", task_error("RUN_TIMEOUT", message)))
        elif kind == "handler" and self._handler:
            self._do(StopHandler(self._handler))
        elif kind == "duty":
            self._overdue((rest[0], rest[1], rest[2]))

    def _on_cancel(self, stimulus: CancelRequested) -> None:
        if self.over or self._halt is not None:
            return
        self._stop_all(Halt(stimulus.reason, stimulus.error))

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _start_ready(self) -> None:
        for crewman in self.crew.values():
            held = []
            while crewman.queue and len(crewman.busy) < crewman.room:
                entry = heappop(crewman.queue)
                part = entry[4]
                if part.status is not READY or self.tasks.get(part.task.id) is not part.task:
                    continue
                if self._must_wait(part.task):
                    held.append(entry)
                else:
                    self._start(part)
            for entry in held:
                heappush(crewman.queue, entry)

    def _must_wait(self, task: Task) -> bool:
        """With ``schedule: batched`` a phase starts when the one before it has ended."""
        if self.schedule != "batched":
            return False
        return any(other.phase < task.phase and not other.done for other in self.tasks.values())

    def _start(self, part: Part) -> None:
        task = part.task
        if task.phase not in self.phases_seen:
            names = tuple(other.id for other in self.tasks.values() if other.phase == task.phase)
            self._emit(e.PhaseStarted(execution_id=self.root_id, phase=task.phase, tasks=names))
        if self._forbidden(part):
            return
        again = part.again
        attempt = part.attempt if again else part.attempt + 1
        execution_id = child_id(self.root_id, part.base, attempt)
        self._emit(
            e.TaskStarted(
                execution_id=self.root_id,
                task_id=task.id,
                agent_id=part.agent,
                attempt=attempt,
                task_execution_id=execution_id,
            )
        )
        self._do(StartTask(task.id, part.agent, part.address, attempt, execution_id, again))

    def _forbidden(self, part: Part) -> bool:
        """The norms are asked again where the work begins: who may not do a goal does not start it."""
        organisation = self._organisation(part.agent)
        if organisation is None:
            return False
        violation = organisation.not_permitted(part.agent, part.task.id, roles_of(self.plays, part.agent))
        if violation is None:
            return False
        self._emit(
            e.NormViolated(
                execution_id=self.root_id,
                norm=violation.norm,
                agent_id=violation.agent,
                role=violation.role,
                reason=violation.message,
                task_id=part.task.id,
                step_id=part.address,
            )
        )
        self._say_failed(part, task_error("NORM_VIOLATED", violation.message, part.address))
        self._adapt(part)
        return True

    def _completed(self, part: Part, stimulus: TaskEnded) -> None:
        task = part.task
        self._emit(
            e.TaskCompleted(
                execution_id=self.root_id,
                task_id=task.id,
                agent_id=part.agent,
                result=stimulus.result,
                duration_ms=stimulus.duration_ms,
                credits=stimulus.credits,
                counts=stimulus.counts,
            )
        )
        if self.tasks.get(task.id) is task and task.done:
            self._fulfil(task)
            self._end_phase(task.phase)

    def _end_phase(self, phase: int) -> None:
        if phase not in self.phases_seen or phase in self.phases_done:
            return
        if all(task.done for task in self.tasks.values() if task.phase == phase):
            self._emit(e.PhaseCompleted(execution_id=self.root_id, phase=phase))

    def _failed(self, part: Part, stimulus: TaskEnded) -> None:
        reason = self._halt.reason if self._halt is not None else "the task was stopped"
        error = dict(stimulus.error or task_error("CANCELLED", reason, part.address))
        error["step"] = error.get("step") or part.address
        abandoned = self.tasks.get(part.task.id) is not part.task
        self._say_failed(part, error, stimulus.duration_ms, stimulus.effects, stimulus.counts)
        if self._halt is None and not abandoned:
            self._adapt(part)

    # -- the loop of a turn -------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        if self.stage is Stage.WORKING:
            self._watch_goals()
            if self._halt is None and (self._failure is None or self.options.keep_going):
                self._start_ready()
        if self.over or self.status == "suspended" or self._asked is not None or self._handler or self._works():
            return
        if self.stage in (Stage.PLANNING, Stage.WORKING, Stage.REVISING):
            self._tasks_over()
        elif self.stage is Stage.SYNTHESIS:
            self._to_handlers()
        elif self.stage is Stage.HANDLERS:
            self._next_handler()

    def _works(self) -> bool:
        """True while some task's run is at work and not only waiting for a person."""
        return len(self.running) > len(self._suspensions)

    def _tasks_over(self) -> None:
        """Nothing runs, and nothing can start."""
        if self._halt is not None:
            self._to_handlers()
        elif self._failure is not None:
            self._drop_suspended()
            self._to_handlers()
        elif self._suspensions:
            self._suspend()
        elif self.formed and all(task.done for task in self.tasks.values()):
            self._synthesize()
        else:
            story = [f"{task.id}: {task.status.value}" for task in self.tasks.values() if not task.done][:20]
            raise IllegalMove(f"the swarm is stuck: nothing runs and nothing waits, open are {story}")


_DECIDE: dict[type, Callable[[SwarmMachine, Any], None]] = {
    SwarmStarted: SwarmMachine._on_started,
    Resumed: SwarmMachine._on_resumed,
    ModelAnswered: SwarmMachine._on_answered,
    TaskEnded: SwarmMachine._on_task_ended,
    TaskAnswered: SwarmMachine._on_task_answered,
    HandlerEnded: SwarmMachine._on_handler_ended,
    TimerFired: SwarmMachine._on_timer,
    CancelRequested: SwarmMachine._on_cancel,
}
