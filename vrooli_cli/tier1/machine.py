"""The brain of tier 1: stimulus in, events and instructions out. No clock, no randomness, no I/O.

The same shape as tier 2's machine: ``handle`` is the only door, *decide* (this module) makes events, *evolve*
(:mod:`vrooli_cli.tier1.state`) applies each at once; resume is the fold of the log and then ``handle(Resumed(…))``.
What stops a swarm and who is being asked are no facts: a swarm that goes on starts without them.

Stages: decompose → team → tasks (with adapting) → synthesis → handlers → end (spec swarm.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from typing import Any, Literal

from vrooli_cli.errors import ExpressionError, IllegalMove, VrooliError
from vrooli_cli.model import events as e
from vrooli_cli.model.clock import child_id
from vrooli_cli.model.run import EFFECTS_ORDER, NEVER_TAKEN
from vrooli_cli.model.swarm import SubTask
from vrooli_cli.tier1.board import SwarmBlackboard
from vrooli_cli.tier1.decompose import MOST_REPAIRS, Message, invalid, task_wire
from vrooli_cli.tier1.knowledge import Excerpt
from vrooli_cli.tier1.names import SwarmNames, run_facts
from vrooli_cli.tier1.organise import Duty, roles_of
from vrooli_cli.tier1.plan import SwarmPlan
from vrooli_cli.tier1.state import (
    COMPLETED,
    FAILED,
    READY,
    RUNNING,
    Part,
    SwarmState,
    Task,
)
from vrooli_cli.tier1.team import TeamStructure
from vrooli_cli.tier2.machine import FINALLY_NS

TimerKey = tuple[str, ...]
Purpose = Literal["decompose", "revise", "synthesize"]

# Failures that another agent would meet as well, or that a person has decided.
_NO_OTHER_AGENT = (NEVER_TAKEN - {"RUN_TIMEOUT"}) | {"APPROVAL_DENIED", "OUTCOME_UNKNOWN", "INTERNAL"}

# --- stimuli ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SwarmStarted:
    """Begin."""

    now: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """Go on after a suspension, a failure, a cancel or a crash."""

    now: int


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """The model has answered, or could not.

    Attributes:
        answer: Text for a decomposition; the result of a synthesis.
        error: Why there is no answer.
    """

    now: int
    purpose: Purpose
    attempt: int
    answer: Any = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task's run has ended, or is suspended.

    Attributes:
        status: ``completed``, ``failed``, ``cancelled`` or ``suspended``.
        code: Of a suspension.
    """

    now: int
    address: str
    status: str
    result: Any = None
    error: Mapping[str, Any] | None = None
    effects: str = "none"
    credits: int = 0
    duration_ms: int = 0
    code: str = ""


@dataclass(frozen=True, slots=True)
class TaskAnswered:
    """A person has answered what a suspended task waits for."""

    now: int
    address: str


@dataclass(frozen=True, slots=True)
class HandlerEnded:
    """The steps of a handler have ended."""

    now: int
    name: str
    status: str
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer that was set has come."""

    now: int
    key: TimerKey


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Stop: by a user, a signal, or a store that failed."""

    now: int
    reason: str
    error: Mapping[str, Any] | None = None


Stimulus = (
    SwarmStarted | Resumed | ModelAnswered | TaskEnded | TaskAnswered | HandlerEnded | TimerFired | CancelRequested
)

# --- instructions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AskModel:
    """Ask the model; ``messages`` are given for decompositions, a synthesis is a prompt of the file."""

    purpose: Purpose
    attempt: int
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class StopAsking:
    """The model's answer is no longer wanted."""


@dataclass(frozen=True, slots=True)
class StartTask:
    """Run a task as a child run; ``again``: go on with the run that has this execution id."""

    task: str
    agent: str
    address: str
    attempt: int
    execution_id: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class CancelTask:
    """Stop a task's run."""

    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunHandler:
    """Run the steps of a handler; ``status`` and ``error`` are what ``run`` says in them."""

    name: str
    execution_id: str
    status: str
    error: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class StopHandler:
    """The handler has had its time."""

    name: str


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Tell me at ``at`` (nanoseconds since 1970)."""

    key: TimerKey
    at: int


@dataclass(frozen=True, slots=True)
class ClearTimer:
    """Never mind."""

    key: TimerKey


@dataclass(frozen=True, slots=True)
class EndSwarm:
    """The swarm is over, or suspended."""

    status: str


Instruction = (
    AskModel | StopAsking | StartTask | CancelTask | RunHandler | StopHandler | SetTimer | ClearTimer | EndSwarm
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one stimulus: first the events are made durable, then the instructions are performed."""

    events: Sequence[e.Event]
    instructions: Sequence[Instruction]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmOptions:
    """How a swarm is run; none of it is part of its meaning.

    Attributes:
        plan_only: End when there is a team.
        can_ask: True when a model could be asked to plan again.
    """

    keep_going: bool = False
    schedule: str | None = None
    max_duration_ms: int | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    work_dir: str = ""
    plan_only: bool = False
    can_ask: bool = False


class Stage(Enum):
    """Where a swarm is."""

    PLANNING = "planning"
    WORKING = "working"
    REVISING = "revising"
    SYNTHESIS = "synthesis"
    HANDLERS = "handlers"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class _Halt:
    """Why everything stops, and as what it ends; without an error it ends as cancelled."""

    reason: str
    error: Mapping[str, Any] | None = None


class SwarmMachine(SwarmState):
    """One swarm.

    Args:
        plan: The swarm, compiled.
        execution_id: Of its run.
        inputs: Checked.
        options: How it is run.
        blackboard: Shared with the tasks' runs.
        lookup: What the swarm's knowledge says of a text.
    """

    def __init__(
        self,
        plan: SwarmPlan,
        execution_id: str,
        inputs: Mapping[str, Any],
        options: SwarmOptions,
        *,
        blackboard: SwarmBlackboard | None = None,
        lookup: Callable[[str], Sequence[Excerpt]] | None = None,
    ) -> None:
        board = blackboard if blackboard is not None else SwarmBlackboard()
        super().__init__(execution_id, plan.agents, board)
        self.plan = plan
        self.options = options
        self.schedule = options.schedule or plan.swarm.schedule
        self.inputs = inputs
        self.stage = Stage.PLANNING
        self.synthesis: Any = None
        self._lookup = lookup or (lambda text: ())
        self._settings: dict[str, Any] | None = None
        #: Tasks that had completed before this process; their results are reused.
        self.kept: set[str] = set()
        self._events: list[e.Event] = []
        self._instructions: list[Instruction] = []
        self._now = 0
        self._halt: _Halt | None = None
        self._failure: Mapping[str, Any] | None = None
        self._asked: Purpose | None = None
        self._messages: list[Message] = []
        self._handlers: list[str] = []
        self._handler = ""
        self._suspensions: dict[str, str] = {}
        self._duties: dict[tuple[str, str, str], Duty] = {}
        self._reason_of_revision = ""
        self._failed_before: frozenset[str] = frozenset()

    # -- the door -----------------------------------------------------------------------------------------------------

    def handle(self, stimulus: Stimulus) -> Turn:
        """Take in one stimulus; the state is changed by the events that are returned, and by nothing else."""
        self._now = stimulus.now
        _DECIDE[type(stimulus)](self, stimulus)
        self._advance()
        turn = Turn(self._events, self._instructions)
        self._events, self._instructions = [], []
        return turn

    @property
    def over(self) -> bool:
        """True at a real end; False while running and when suspended."""
        return self.stage is Stage.OVER

    @property
    def elapsed_ms(self) -> int:
        """Active milliseconds over all lives."""
        running = max(0, self._now - self.started_ns) if self.status == "running" else 0
        return (self.active_ns + running) // 1_000_000

    def names(self, **extra: Any) -> SwarmNames:
        """The names that the texts of the file see; raises ExpressionError when ``vars`` have no value."""
        return SwarmNames(self, self.settings(), self.plan.task_ids or (), extra)

    def settings(self) -> dict[str, Any]:
        """What ``vars``, ``env``, ``secrets`` and ``run`` are."""
        run = run_facts(self, self.plan.swarm.name, self.options.work_dir)
        if self._settings is None:
            self._settings = self.plan.settings(self.inputs, self.options.environ, run)
        return {**self._settings, "run": run}

    # -- stimuli ------------------------------------------------------------------------------------------------------

    def _on_started(self, stimulus: SwarmStarted) -> None:
        self._say_started()
        self._begin()

    def _say_started(self) -> None:
        try:
            goal, failure = str(self.plan.goal.evaluate(self.names())), None
        except ExpressionError as error:
            goal, failure = self.plan.swarm.goal, _error(error.code, f"goal: {error.message}")
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
            self._stop_all(_Halt("the goal has no value", failure))

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
            error = stimulus.error or _error("CANCELLED", f"the handler {stimulus.name!r} was stopped")
            self._failure = dict(error)

    def _on_timer(self, stimulus: TimerFired) -> None:
        kind, *rest = stimulus.key
        if kind == "duration" and self._halt is None and not self.over:
            limit = self.options.max_duration_ms or 0
            message = f"the swarm took longer than {limit / 1000:g} s"
            self._stop_all(_Halt("the swarm's time is up", _error("RUN_TIMEOUT", message)))
        elif kind == "handler" and self._handler:
            self._do(StopHandler(self._handler))
        elif kind == "duty":
            self._overdue((rest[0], rest[1], rest[2]))

    def _on_cancel(self, stimulus: CancelRequested) -> None:
        if self.over or self._halt is not None:
            return
        self._stop_all(_Halt(stimulus.reason, stimulus.error))

    def _stop_all(self, halt: _Halt) -> None:
        self._halt = halt
        if self._asked is not None:
            self._asked = None
            self._do(StopAsking())
        for address, part in list(self.running.items()):
            if address in self._suspensions:  # nothing runs there that could be stopped
                del self._suspensions[address]
                self._say_failed(part, _error("CANCELLED", halt.reason, address), 0, "none")
            else:
                self._do(CancelTask(address, halt.reason))
        if self.stage is Stage.HANDLERS and self._handler and self._handler != "finally":
            self._do(StopHandler(self._handler))

    # -- decompose ----------------------------------------------------------------------------------------------------

    def _decompose(self) -> None:
        plan = self.plan
        try:
            if plan.given is not None:
                self._say_tasks(plan.rendered_tasks(self.names()), "given")
            elif plan.organisation is not None and plan.organisation.graph.tasks:
                allocation = plan.organisation.allocate(plan.agents)
                self._say_tasks(plan.organisation.tasks(allocation), "scheme")
            else:
                question = plan.decomposer.question(self.goal, plan.agents, self._lookup(self.goal))
                self._ask("decompose", question)
        except VrooliError as error:
            self._stop_all(_Halt("there is no plan", _of(error)))

    def _say_tasks(self, tasks: Sequence[SubTask], source: str, repairs: int = 0) -> None:
        self._emit(
            e.GoalDecomposed(
                execution_id=self.root_id,
                goal=self.goal,
                tasks=[task_wire(task) for task in tasks],
                source=source,
                repairs=repairs,
            )
        )
        self._form(tuple(tasks))

    def _ask(self, purpose: Purpose, messages: Sequence[Message] = (), attempt: int = 1) -> None:
        self._asked = purpose
        self._messages = list(messages)
        self._do(AskModel(purpose, attempt, tuple(messages)))

    def _planned(self, stimulus: ModelAnswered) -> None:
        """The model's plan: taken, or sent back with all that is wrong."""
        revising = stimulus.purpose == "revise"
        kept = [task.id for task in self.tasks.values() if revising and _is_kept(task)]
        answer = str(stimulus.answer)
        reading = self.plan.decomposer.read(answer, self.plan.agents, kept)
        if not reading.violations:
            if revising:
                self._take_revision(reading.tasks)
            else:
                self._say_tasks(reading.tasks, "model", repairs=stimulus.attempt - 1)
        elif stimulus.attempt <= MOST_REPAIRS:
            messages = self._messages + self.plan.decomposer.repair(answer, reading.violations)
            self._ask(stimulus.purpose, messages, stimulus.attempt + 1)
        else:
            self._not_planned(_of(invalid(reading.violations)))

    def _not_planned(self, error: Mapping[str, Any]) -> None:
        if self.stage is Stage.REVISING:
            self._give_up(f"and no other plan could be made: {error['message']}")
        else:
            self._stop_all(_Halt("there is no plan", error))

    # -- team ---------------------------------------------------------------------------------------------------------

    def _form(self, tasks: tuple[SubTask, ...]) -> None:
        try:
            team = self.plan.form(tasks)
        except VrooliError as error:
            self._stop_all(_Halt("there is no team", _of(error)))
            return
        self._emit(
            e.TeamFormed(
                execution_id=self.root_id,
                assignments=_placed(team),
                agents=[_member(one.agent) for one in self.crew.values()],
                roles={agent: list(roles) for agent, roles in team.roles.items()} or None,
                makespan=team.makespan,
                leader=team.leader,
                organisation=team.organisation,
            )
        )
        self._say_assigned(tasks, team)
        if self.options.plan_only:
            self._end("completed", None, None)
        else:
            self._set_to_work()

    def _say_assigned(self, tasks: Sequence[SubTask], team: TeamStructure) -> None:
        for task in tasks:
            placed = team.placements[task.id]
            for agent in placed.agents:
                self._emit(
                    e.TaskAssigned(execution_id=self.root_id, task_id=task.id, agent_id=agent, reason=placed.reason)
                )

    def _set_to_work(self) -> None:
        self.stage = Stage.WORKING
        self._watch_duties()

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
        organisation = self.plan.organisation
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
        self._say_failed(part, _error("NORM_VIOLATED", violation.message, part.address), 0, "none")
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
        error = dict(stimulus.error or _error("CANCELLED", reason, part.address))
        error["step"] = error.get("step") or part.address
        abandoned = self.tasks.get(part.task.id) is not part.task
        self._say_failed(part, error, stimulus.duration_ms, stimulus.effects)
        if self._halt is None and not abandoned:
            self._adapt(part)

    def _say_failed(self, part: Part, error: Mapping[str, Any], duration_ms: int, effects: str) -> None:
        self._emit(
            e.TaskFailed(
                execution_id=self.root_id,
                task_id=part.task.id,
                agent_id=part.agent,
                error=error,
                duration_ms=duration_ms,
                effects=None if effects == "none" else effects,
            )
        )

    # -- adapt --------------------------------------------------------------------------------------------------------

    def _adapt(self, part: Part) -> None:
        """Another agent, another branch, another plan; or the end."""
        error = part.error or {}
        ways = (self._reassign, self._other_branch, self._revise)
        if not self._may_repeat(part, error) or not any(way(part) for way in ways):
            self._lose(part)

    def _may_repeat(self, part: Part, error: Mapping[str, Any]) -> bool:
        if self._failure is not None and not self.options.keep_going:
            return False
        code = error.get("code")
        if code == "CREDITS_EXHAUSTED":  # an agent's own ceiling is not the others'
            return ">" in str((error.get("context") or {}).get("account", ""))
        return code not in _NO_OTHER_AGENT

    def _reassign(self, part: Part) -> bool:
        if EFFECTS_ORDER[part.effects] >= EFFECTS_ORDER["once"]:
            return False
        agent = self._successor(part)
        if agent is None:
            return False
        code = (part.error or {}).get("code", "")
        needed = ", ".join(sorted(part.task.spec.required_capabilities)) or "do it"
        reason = f"{part.agent} failed ({code}); {agent} is capable of {needed}, permitted, and the least busy"
        self._emit(
            e.TaskReassigned(
                execution_id=self.root_id,
                task_id=part.task.id,
                agent_id=agent,
                from_agent=part.agent,
                reason=reason,
            )
        )
        now_with = {"agent": agent, "reason": reason}
        update = {part.task.id: now_with}
        self._emit(e.TeamUpdated(execution_id=self.root_id, assignments=update, reason=reason))
        return True

    def _successor(self, part: Part) -> str | None:
        """The capable and permitted agent with the least to do that has not had the task."""
        needed = set(part.task.spec.required_capabilities)
        others = {one.agent for one in part.task.parts}
        able = [
            crewman
            for name, crewman in self.crew.items()
            if name not in part.tried
            and name not in others
            and crewman.room
            and needed <= set(crewman.agent.capabilities)
            and self._permitted(name, part.task.id)
        ]
        if not able:
            return None
        best = min(able, key=lambda one: ((len(one.busy) + len(one.queue)) / one.room, one.agent.id))
        return best.agent.id

    def _permitted(self, agent: str, task: str) -> bool:
        organisation = self.plan.organisation
        if organisation is None:
            return True
        return organisation.not_permitted(agent, task, roles_of(self.plays, agent)) is None

    def _other_branch(self, part: Part) -> bool:
        """A choice falls back to another branch, the innermost first, if some team can do it."""
        organisation = self.plan.organisation
        goal = organisation.goal_of(part.task.id) if organisation is not None and self.source == "scheme" else None
        if organisation is None or goal is None:
            return False
        for choice, number in reversed(goal.branches):
            names = organisation.branches(choice)
            tried = {name: list(gone) for name, gone in self.tried.items()}
            tried.setdefault(choice, []).append(names[number])
            if len(tried[choice]) >= len(names):
                continue
            rest = organisation.without(tried)
            try:
                allocation = rest.allocate(self.plan.agents)
                tasks = self._with_kept(rest.tasks(allocation))
                team = rest.team(allocation, tasks, self.plan.agents, leader=self.leader)
            except VrooliError:
                continue
            code = (part.error or {}).get("code", "")
            reason = f"{part.task.id} failed ({code}); {choice} is tried by another branch than {names[number]}"
            self._say_revised(tasks, team, reason, "choice", tried)
            return True
        return False

    def _with_kept(self, tasks: Sequence[SubTask]) -> tuple[SubTask, ...]:
        """The tasks; and those of the present plan that are done and that others outside may still read."""
        names = {task.id for task in tasks}
        return (*(task.spec for task in self.tasks.values() if task.done and task.id not in names), *tasks)

    def _revise(self, part: Part) -> bool:
        """Ask the model for another plan of the open part, once; nothing new starts meanwhile."""
        plan = self.plan
        frozen = bool(plan.swarm.assignments)
        if self.revisions or frozen or not self.options.can_ask or self._asked is not None:
            return False
        if EFFECTS_ORDER[part.effects] >= EFFECTS_ORDER["once"]:
            return False
        self.stage = Stage.REVISING
        self._failure = part.error
        code = (part.error or {}).get("code", "")
        self._reason_of_revision = f"{part.task.id} failed ({code}) and no other agent could take it over"
        self._failed_before = self._failed_tasks()
        self._ask("revise", self._revision())
        return True

    def _failed_tasks(self) -> frozenset[str]:
        return frozenset(task.id for task in self.tasks.values() if task.status is FAILED)

    def _revision(self) -> list[Message]:
        tasks = self.tasks.values()
        return self.plan.decomposer.revision(
            self.goal,
            self.plan.agents,
            self._lookup(self.goal),
            done={task.id: task.result for task in tasks if task.done},
            running=[task.spec for task in tasks if _is_kept(task) and not task.done],
            failed={task.id: dict(task.error or {}) for task in tasks if task.status is FAILED},
            left=[task.spec for task in tasks if not _is_kept(task) and task.status is not FAILED],
        )

    def _take_revision(self, tasks: Sequence[SubTask]) -> None:
        if self._failed_tasks() != self._failed_before:
            self._give_up("and another task failed while a new plan was made")
            return
        kept = [task for task in self.tasks.values() if _is_kept(task)]
        whole = (*(task.spec for task in kept), *tasks)
        try:
            team = self.plan.form(whole, fixed={task.id: [part.agent for part in task.parts] for task in kept})
        except VrooliError as error:
            self._give_up(f"and no team can do the new plan: {error.message}")
            return
        self._failure = None
        self.stage = Stage.WORKING
        self._say_revised(whole, team, self._reason_of_revision, "model", None)

    def _say_revised(
        self,
        tasks: Sequence[SubTask],
        team: TeamStructure,
        reason: str,
        source: str,
        tried: Mapping[str, list[str]] | None,
    ) -> None:
        before = dict(self.tasks)
        assignments = _placed(team)
        for task in before.values():
            if _is_kept(task) and task.id in assignments:
                agents = [part.agent for part in task.parts]
                assignments[task.id] |= {"agent": agents[0], "reason": self.reasons.get(task.id, "")}
                if len(agents) > 1:
                    assignments[task.id]["agents"] = agents
        self._emit(
            e.PlanRevised(
                execution_id=self.root_id,
                tasks=[task_wire(task) for task in tasks],
                assignments=assignments,
                reason=reason,
                source=source,
                tried=tried,
                organisation=team.organisation,
                roles={agent: list(roles) for agent, roles in team.roles.items()} or None,
            )
        )
        self._say_assigned([task for task in tasks if self.tasks[task.id] is not before.get(task.id)], team)
        for address, part in self.running.items():
            if self.tasks.get(part.task.id) is not part.task:
                self._do(CancelTask(address, "the plan was revised"))
        self._watch_duties()

    def _give_up(self, why: str) -> None:
        """The revision came to nothing: what failed stays failed."""
        self.stage = Stage.WORKING
        if self._failure is not None:
            self._failure = {**self._failure, "message": f"{self._failure['message']} ({why})"}

    def _lose(self, part: Part) -> None:
        """The task stays failed: the swarm fails, at once or, with ``--keep-going``, when all else is done."""
        if self._failure is None:
            self._failure = part.error

    # -- duties -------------------------------------------------------------------------------------------------------

    def _watch_duties(self) -> None:
        organisation = self.plan.organisation
        if organisation is None:
            return
        assignments = {task.id: [part.agent for part in task.parts] for task in self.tasks.values()}
        for duty in organisation.duties(self.plays, assignments):
            self._watch(duty, self.formed_ns)

    def _watch_goals(self) -> None:
        """Duties that begin when a goal can be worked on."""
        organisation = self.plan.organisation
        while self.agenda:
            task = self.agenda.popleft()
            if organisation is None or self.tasks.get(task.id) is not task:
                continue
            for part in task.parts:
                duty = organisation.goal_duty(task.id, part.agent, roles_of(self.plays, part.agent))
                if duty is not None:
                    self._watch(duty, task.ready_ns)

    def _watch(self, duty: Duty, since: int) -> None:
        if duty.key in self._duties or duty.key in self.fulfilled:
            return
        self._duties[duty.key] = duty
        if duty.seconds is not None:
            times = 1 + self.violated.get(duty.key, 0)
            self._do(SetTimer(("duty", *duty.key), since + int(duty.seconds * 1e9) * times))

    def _overdue(self, key: tuple[str, str, str]) -> None:
        duty = self._duties.get(key)
        if duty is None or key in self.fulfilled or self.over:
            return
        organisation = self.plan.organisation
        assert organisation is not None
        levels = organisation.superiors(self.plays, duty.agent)
        told = self.violated.get(key, 0)
        above = ", ".join(levels[min(told, len(levels) - 1)]) if levels else None
        open_tasks = ", ".join(name for name in duty.tasks if not self._is_done(name))
        message = f"{duty.agent} ({duty.role}) has not fulfilled norm {duty.norm!r} in time: {open_tasks} is open"
        self._emit(
            e.NormViolated(
                execution_id=self.root_id,
                norm=duty.norm,
                agent_id=duty.agent,
                role=duty.role,
                reason=message,
                task_id=key[2] or None,
                escalated_to=above,
            )
        )
        if told + 1 < len(levels) and duty.seconds is not None:
            self._do(SetTimer(("duty", *key), self._now + int(duty.seconds * 1e9)))

    def _is_done(self, name: str) -> bool:
        task = self.tasks.get(name)
        return task is not None and task.done

    def _fulfil(self, task: Task) -> None:
        for key, duty in list(self._duties.items()):
            if task.id not in duty.tasks or key in self.fulfilled:
                continue
            if all(self._is_done(name) for name in duty.tasks):
                self._emit(
                    e.NormFulfilled(
                        execution_id=self.root_id,
                        norm=duty.norm,
                        agent_id=duty.agent,
                        role=duty.role,
                        task_id=key[2] or None,
                    )
                )
                self._do(ClearTimer(("duty", *key)))

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
            self._say_failed(self.running[address], _error("CANCELLED", "the swarm is stopping", address), 0, "none")

    # -- the end ------------------------------------------------------------------------------------------------------

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
            return "failed", _error("EXPRESSION_ERROR", f"outputs: {error.message}"), None

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
            self._emit(e.SwarmFailed(error=error, **common))
        else:
            reason = self._halt.reason if self._halt is not None else "cancelled"
            self._emit(e.SwarmCancelled(reason=reason, **common))
        self._do(EndSwarm(status))

    # -- small things -------------------------------------------------------------------------------------------------

    def why_not(self, task: Task) -> str:
        """Why a task that has not completed did not run."""
        if task.waiting:
            bad = [name for name in task.spec.dependencies if name in self.tasks and not self.tasks[name].done]
            return f"dependency {bad[0]} did not complete" if bad else "its dependencies did not complete"
        if self._halt is not None:
            return self._halt.reason
        step = (self._failure or {}).get("step") or "a task"
        return f"the swarm is stopping: {step} failed"

    def _emit(self, event: e.Event) -> None:
        self._events.append(event)
        self.evolve(event, self._now)

    def _do(self, instruction: Instruction) -> None:
        self._instructions.append(instruction)


def _is_kept(task: Task) -> bool:
    """Done or at work: a revision leaves it alone."""
    return task.status in (COMPLETED, RUNNING)


def _placed(team: TeamStructure) -> dict[str, Any]:
    wire = team.wire()
    for name, placed in team.placements.items():
        wire[name]["start"] = placed.start
    return wire


def _member(agent: Any) -> dict[str, Any]:
    return {
        "id": agent.id,
        "name": agent.name,
        "capabilities": list(agent.capabilities),
        "max_concurrent_tasks": agent.max_concurrent_tasks,
        "current_load": agent.current_load,
    }


def _of(error: VrooliError) -> dict[str, Any]:
    made = _error(error.code, error.message)
    if error.context:
        made["context"] = error.context
    return made


def _error(code: str, message: str, step: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "tier": "tier1", "step": step}


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
