"""The asyncio shell around the machine of tier 1: it performs instructions and tells what came of them.

The shell has no opinion. A task is a run of tier 2 in the root's log, with the root's slots and ledger, and with what
its agent may do: permissions, norms, its view of the blackboard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from vrooli_cli.bus import Channel
from vrooli_cli.errors import StoreError, VrooliError
from vrooli_cli.ledger import Account
from vrooli_cli.model.events import AIThrottled, Event, EventMetadata, ExecutionStarted
from vrooli_cli.model.routine import Limits
from vrooli_cli.model.run import (
    AFTER_A_BREAK,
    BROKEN_OFF,
    EFFECTS_ORDER,
    ExecutionError,
    ExecutionStatus,
    ExecutionStrategy,
    next_delay,
)
from vrooli_cli.tier1.board import AgentBoard, SwarmBlackboard
from vrooli_cli.tier1.briefing import task_inputs
from vrooli_cli.tier1.decompose import ADDRESS as PLANNING
from vrooli_cli.tier1.decompose import no_model
from vrooli_cli.tier1.instructions import (
    AskModel,
    CancelTask,
    EndSwarm,
    Instruction,
    RunHandler,
    StartTask,
    StopAsking,
    StopHandler,
)
from vrooli_cli.tier1.judge import NormJudge
from vrooli_cli.tier1.knowledge import KnowledgeBase
from vrooli_cli.tier1.machine import SwarmMachine
from vrooli_cli.tier1.names import tasks_view
from vrooli_cli.tier1.plan import TASK_STEP, AgentPlan
from vrooli_cli.tier1.state import Part
from vrooli_cli.tier1.stimuli import HandlerEnded, ModelAnswered, Stimulus, TaskAnswered, TaskEnded
from vrooli_cli.tier1.tools import swarm_tools
from vrooli_cli.tier2.context import RunContext, check_inputs
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.instructions import ClearTimer, SetTimer
from vrooli_cli.tier2.machine import RunMachine
from vrooli_cli.tier2.plan import RoutinePlan
from vrooli_cli.tier2.run import RunShell
from vrooli_cli.tier2.stimuli import Answered, CancelRequested, Resumed, RunStarted
from vrooli_cli.tier2.tier import RunStateMachine
from vrooli_cli.tier2.timers import Timers
from vrooli_cli.tier3.memory import MemoryMeter
from vrooli_cli.tier3.scope import Scope, StepCall

Log = Sequence[tuple[Event, int]]
_EXCERPTS = 3  # for each task
SYNTHESIS = "synthesis"
"""The step id of the model's last word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What a swarm that goes on knows of its runs.

    Attributes:
        logs: Execution id of a task's run → its facts.
        answers: Address → a person's answer, given while no process ran.
        assume: Address → ``done``, ``failed`` or ``rerun``.
    """

    logs: Mapping[str, Log] = field(default_factory=dict)
    answers: Mapping[str, Answered] = field(default_factory=dict)
    assume: Mapping[str, str] = field(default_factory=dict)

    @property
    def steps_executed(self) -> int:
        """Attempts in its earlier lives."""
        return sum(type(fact) is ExecutionStarted for log in self.logs.values() for fact, _ in log)


class SwarmShell:
    """Performs one swarm machine's instructions.

    Args:
        machine: The brain; nobody else may touch it while the shell runs.
        channel: Where events go; commits them.
        tier2: Runs tasks.
        scope: The handles of the swarm; those of tasks are narrowed from it.
        narrow: Narrows a scope for a routine.
        options: How runs of tasks are run.
        knowledge: What can be looked up.
        earlier: Of a swarm that goes on.
    """

    def __init__(
        self,
        machine: SwarmMachine,
        channel: Channel,
        tier2: RunStateMachine,
        scope: Scope,
        narrow: Callable[[RunContext, Scope], Scope],
        options: MachineOptions,
        *,
        knowledge: KnowledgeBase | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self.machine = machine
        self.memory_mb = 0
        self._channel = channel
        self._tier2 = tier2
        self._scope = scope
        self._clock = scope.clock
        self._narrow = narrow
        self._options = options
        self._knowledge = knowledge
        self._earlier = earlier or Earlier()
        self.steps_executed = self._earlier.steps_executed
        self._answers: dict[str, Answered] = dict(self._earlier.answers)
        self._assume: dict[str, str] = dict(self._earlier.assume)
        self._stimuli: list[Stimulus] = []
        self._runs: dict[str, RunShell] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._stopped: dict[str, str] = {}
        self._timers = Timers(scope.clock, self.tell)
        self._ended: asyncio.Future[str] | None = None
        self._group: asyncio.TaskGroup | None = None

    async def run(self, first: Stimulus) -> str:
        """From the first stimulus to the end or the suspension of the swarm; the status it ended with.

        A failure of a task never comes out of here; a cancel of the caller and a bug do.
        """
        self._ended = asyncio.get_running_loop().create_future()
        self._channel.before_flush(self._turn)
        self._channel.on_failure(self._store_failed)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._stimuli.insert(0, first)  # a cancel may have come before the swarm began
                self._channel.wake()
                status = await self._ended
                for task in (*self._tasks, *([self._asking] if self._asking else [])):
                    task.cancel()
        finally:
            self._timers.close()
            self._channel.forget(self._turn)
        return status

    def tell(self, stimulus: Stimulus) -> None:
        """A stimulus for the next turn."""
        self._stimuli.append(stimulus)
        self._channel.wake()

    @property
    def runs(self) -> tuple[RunShell, ...]:
        """The runs of tasks that are at work or suspended."""
        return tuple(self._runs.values())

    def cancel(self, reason: str) -> None:
        """Ask the swarm to stop; its tasks are stopped, its ``finally`` runs, and it ends."""
        self.tell(CancelRequested(self._clock.now_ns(), reason))

    def answer(self, given: Answered) -> None:
        """A person's answer from elsewhere: to the run at work, or to one that is suspended."""
        address = given.address.split("/", 1)[0]
        run = self._runs.get(address)
        if run is not None and run.machine.status != "suspended":
            run.tell(given)
        else:
            self._answers[given.address] = given
            self.tell(TaskAnswered(self._clock.now_ns(), address))

    def status_of(self, execution_id: str) -> ExecutionStatus | None:
        """The status of the swarm, of a task's run or of a run in it."""
        if execution_id == self.machine.root_id:
            return ExecutionStatus(self.machine.status)
        for run in self._runs.values():
            status = run.status_of(execution_id)
            if status is not None:
                return status
        return None

    @property
    def waiting(self) -> list[RunMachine]:
        """The tasks' runs that wait for a person."""
        return [run.machine for run in self._runs.values() if run.machine.status == "suspended"]

    # -- turns --------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Tell the machine all that happened since the last turn; called by the bus, right before it commits."""
        if not self._stimuli:
            return
        stimuli, self._stimuli = self._stimuli, []
        instructions: list[Instruction] = []
        try:
            for stimulus in stimuli:
                turn = self.machine.handle(stimulus)
                for event in turn.events:
                    self._channel.publish(event)
                instructions.extend(turn.instructions)
        except Exception as bug:  # the machine is pure: whatever it raises is a bug, and the swarm cannot go on
            self._give_up(bug)
            return
        if instructions:
            self._channel.after_commit(lambda: self._perform(instructions))

    def _perform(self, instructions: list[Instruction]) -> None:
        try:
            for instruction in instructions:
                _PERFORM[type(instruction)](self, instruction)
        except Exception as bug:
            self._give_up(bug)

    def _give_up(self, bug: Exception) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(bug)

    def _store_failed(self, error: StoreError) -> None:
        failure = ExecutionError(code="STORE_ERROR", message=error.message, tier="tier1")
        self.tell(CancelRequested(self._clock.now_ns(), "the journal cannot be written", failure.wire()))

    def _spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        assert self._group is not None
        task: asyncio.Task[None] = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _start_task(self, order: StartTask) -> None:
        self._spawn(self._task(order), order.address)

    def _cancel_task(self, order: CancelTask) -> None:
        self._stopped[order.address] = order.reason
        run = self._runs.get(order.address)
        if run is not None:
            run.cancel(order.reason)

    def _run_handler(self, order: RunHandler) -> None:
        self._spawn(self._handler(order), f"handlers.{order.name}")

    def _stop_handler(self, order: StopHandler) -> None:
        self._cancel_task(CancelTask(f"handlers.{order.name}", "the handlers have had their time"))

    def _ask(self, order: AskModel) -> None:
        self._asking = self._spawn(self._ask_model(order), f"ask:{order.purpose}")

    def _stop_asking(self, order: StopAsking) -> None:
        if self._asking is not None:
            self._asking.cancel()

    def _set_timer(self, order: SetTimer) -> None:
        self._timers.set(order)

    def _clear_timer(self, order: ClearTimer) -> None:
        self._timers.clear(order)

    def _end(self, order: EndSwarm) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(order.status)

    # -- tasks --------------------------------------------------------------------------------------------------------

    async def _task(self, order: StartTask) -> None:
        started = self._clock.now_ns()
        address = order.address
        try:
            run, scope = self._run_of(order)
        except VrooliError as error:
            told = ExecutionError.of(error, step=address, tier="tier1").wire()
            self.tell(TaskEnded(self._clock.now_ns(), address, "failed", error=told))
            return
        await self._run_to_its_end(run, address)
        machine = run.machine
        now = self._clock.now_ns()
        self.tell(
            TaskEnded(
                now,
                address,
                machine.status,
                result=self._result(order, machine),
                error=machine.error,
                effects=_effects(machine),
                credits=scope.account.used,
                duration_ms=max(0, now - started) // 1_000_000,
                code=_suspension(machine),
                counts=machine.root.parts(),
            )
        )

    async def _run_to_its_end(self, run: RunShell, address: str) -> None:
        machine = run.machine
        if machine.status == "completed":  # the process died between its end and the word of it
            return
        self._runs[address] = run
        before = machine.steps_executed
        if address in self._stopped:
            run.cancel(self._stopped[address])
        now = self._clock.now_ns()
        if machine.status == "pending":
            await run.run(RunStarted(now))
        else:
            await run.run(Resumed(now, self._assumed_of(address), self._answers_for(address)))
        self.steps_executed += machine.steps_executed - before
        self.memory_mb = max(self.memory_mb, machine.memory_mb)
        if machine.status != "suspended":
            self._runs.pop(address, None)

    def _assumed_of(self, address: str) -> dict[str, str]:
        """What was said of a task's steps; it is true of what they did before, and holds once."""
        names = [where for where in self._assume if where.split("/", 1)[0] == address]
        return {where: self._assume.pop(where) for where in names}

    def _answers_for(self, address: str) -> dict[str, Answered]:
        return {where: given for where, given in self._answers.items() if where.split("/", 1)[0] == address}

    def _run_of(self, order: StartTask) -> tuple[RunShell, Scope]:
        """The run of a task: a new one, one that a log tells of, or the one that was suspended here."""
        part = self.machine.running[order.address]
        member = self.machine.plan.members[order.agent]
        board = self._board(order.agent)
        scope = self._scope_of(order, part, member, board)
        known = self._runs.get(order.address)
        if known is not None:
            scope = self._narrow(known.machine.root.run, scope)
            return RunShell(known.machine, self._channel, self._tier2.runner, scope, self._narrow), scope
        inputs = self._inputs(part, member, board)
        log = self._earlier.logs.get(order.execution_id, ()) if order.again else ()
        scope = self._narrow(RunContext(member.plan, order.execution_id, inputs, board), scope)
        metadata = EventMetadata(scope.correlation_id, scope.user_id, scope.swarm_id)
        self._channel.adopt(order.execution_id, metadata)
        with self.machine.blackboard.unchanged():
            run = self._tier2.child(
                member.plan,
                order.execution_id,
                inputs,
                address=order.address,
                parent_execution_id=self.machine.root_id,
                channel=self._channel,
                scope=scope,
                narrow=self._narrow,
                options=self._options_of(member),
                blackboard=board,
                log=log,
            )
        return run, scope

    def _board(self, agent: str) -> AgentBoard:
        organisation = self.machine.plan.organisation
        if organisation is None:
            return AgentBoard(self.machine.blackboard, agent)
        machine = self.machine
        return AgentBoard(machine.blackboard, agent, lambda writer: organisation.readable(machine.plays, agent, writer))

    def _scope_of(self, order: StartTask, part: Part, member: AgentPlan, board: AgentBoard) -> Scope:
        """What the agent may do in this task, and on whose credits."""
        scope, agent = self._scope, member.definition
        gate, emit = scope.gate, scope.emit
        organisation = self.machine.plan.organisation
        if organisation is not None:
            off = partial(self.machine.norms_off, agent.id)
            judge = NormJudge(organisation, lambda: self.machine.plays, agent.id, off)
            gate, emit = gate.with_judges(judge), judge.telling(emit, part.task.id)
        memory = scope.memory
        if agent.limits.max_memory_mb is not None:
            memory = MemoryMeter(agent.limits.max_memory_mb, memory, emit=emit, execution_id=order.execution_id)
        return scope.child(
            execution_id=order.execution_id,
            account=Account(order.address, agent.limits.max_credits, scope.account),
            gate=gate,
            emit=emit,
            memory=memory,
            policy=scope.policy.narrow(f"agent {agent.id}", agent.permissions),
            tools=scope.tools.overlay(self._tools(board)),
            agent=agent.id,
        )

    def _tools(self, board: AgentBoard) -> list[Any]:
        known = self._scope.tools
        return [tool for tool in swarm_tools(self._knowledge, board) if known.get_tool(tool.name) is None]

    def _inputs(self, part: Part, member: AgentPlan, board: AgentBoard) -> dict[str, Any]:
        """What a task's routine is given, as far as it declares it; raises InputError."""
        machine = self.machine
        dependencies = {
            name: machine.tasks[name].result
            for name in part.task.spec.dependencies
            if name in machine.tasks and board.readable(name)
        }
        excerpts = self._lookup(part.task.spec.description) if not member.has_routine else ()
        given = {**machine.inputs, **task_inputs(part, machine.goal, dependencies, excerpts)}
        wanted = {name: value for name, value in given.items() if name in member.takes}
        return check_inputs(member.plan.routine, wanted, self._options.environ)

    def _lookup(self, text: str) -> Sequence[Any]:
        return self._knowledge.search(text, _EXCERPTS) if self._knowledge is not None else ()

    def _options_of(self, member: AgentPlan) -> MachineOptions:
        options, levels = self._options, (member.definition.limits, member.plan.routine.limits)
        return replace(
            options,
            max_concurrent=min([options.max_concurrent, *_given(levels, "max_concurrent_steps")]),
            max_duration_ms=min(_given(levels, "max_duration_ms"), default=None),
        )

    def _result(self, order: StartTask, machine: RunMachine) -> Any:
        if machine.status != "completed" or self.machine.plan.members[order.agent].has_routine:
            return machine.result
        return machine.result.get(TASK_STEP) if isinstance(machine.result, Mapping) else machine.result

    # -- handlers -----------------------------------------------------------------------------------------------------

    async def _handler(self, order: RunHandler) -> None:
        address = f"handlers.{order.name}"
        plan: RoutinePlan = self.machine.plan.handlers[order.name]
        machine = self.machine
        board = AgentBoard(machine.blackboard)
        given = {**machine.inputs, "goal": machine.goal, "tasks": tasks_view(machine, machine.plan.task_ids or ())}
        scope = self._scope.child(execution_id=order.execution_id, tools=self._scope.tools.overlay(self._tools(board)))
        self._channel.adopt(order.execution_id, EventMetadata(scope.correlation_id, scope.user_id, scope.swarm_id))
        with machine.blackboard.unchanged():
            run = self._tier2.child(
                plan,
                order.execution_id,
                given,
                address=address,
                parent_execution_id=machine.root_id,
                channel=self._channel,
                scope=scope,
                narrow=self._narrow,
                options=replace(self._options, max_duration_ms=None),
                blackboard=board,
                log=self._earlier.logs.get(order.execution_id, ()),
            )
        run.machine.root.run.status = order.status
        run.machine.root.run.error = order.error
        await self._run_to_its_end(run, address)
        ended = run.machine
        error = ended.error
        if ended.status == "suspended":
            message = "a handler cannot wait for a person"
            error = ExecutionError(code="APPROVAL_REQUIRED", message=message, tier="tier1", step=address).wire()
        self.tell(HandlerEnded(self._clock.now_ns(), order.name, ended.status, error))

    # -- the model ----------------------------------------------------------------------------------------------------

    async def _ask_model(self, order: AskModel) -> None:
        answer, error, tries, going_on = None, None, 0, True
        while going_on:
            tries, going_on = tries + 1, False
            try:
                answer = await (self._synthesize(order) if order.purpose == "synthesize" else self._plan(order))
            except VrooliError as failure:
                told = ExecutionError.of(failure, tier="tier1")
                going_on = await self._begins_anew(order, told, tries)
                error = None if going_on else told.wire()
        self.tell(ModelAnswered(self._clock.now_ns(), order.purpose, order.attempt, answer, error))

    async def _begins_anew(self, order: AskModel, error: ExecutionError, tries: int) -> bool:
        """Wait, and say so, before a question is asked again whose answer broke off; False for every other failure."""
        if not error.context.get(BROKEN_OFF):
            return False
        delay = next_delay(AFTER_A_BREAK, tries, error, self._scope.root_id, order.purpose)
        if delay is None:
            return False
        self._scope.emit(
            AIThrottled(
                execution_id=self._scope.execution_id,
                step_id=SYNTHESIS if order.purpose == "synthesize" else PLANNING,
                attempt=order.attempt,
                model=", ".join(error.context.get("models", ())),
                delay_ms=delay,
                reason=error.message,
            )
        )
        await asyncio.sleep(delay / 1000)
        return True

    async def _plan(self, order: AskModel) -> str:
        scope = self._scope
        if scope.ai is None:
            raise no_model()
        plan = self.machine.plan
        # A revision is asked under numbers of its own, so that a log is never read as the answer to the first plan.
        attempt = order.attempt + (10 if order.purpose == "revise" else 0)
        messages = scope.masker.mask_value(list(order.messages)) if scope.masker else order.messages
        request = plan.decomposer.request(messages, attempt=attempt, models=plan.planner_models)
        reply = await scope.ai.ask(request, scope)
        reply.check()
        text: str = reply.text
        return text

    async def _synthesize(self, order: AskModel) -> Any:
        plan = self.machine.plan
        synthesis = plan.swarm.synthesis
        assert synthesis is not None and plan.synthesis is not None
        names = self.machine.names()
        prompt: dict[str, Any] = {"prompt": plan.synthesis.evaluate(names)}
        if plan.synthesis_system is not None:
            prompt["system"] = plan.synthesis_system.evaluate(names)
        call = StepCall(
            address=SYNTHESIS,
            attempt=order.attempt,
            kind="prompt",
            strategy=ExecutionStrategy.CONVERSATIONAL,
            prompt=prompt | {"temperature": synthesis.temperature, "max_tokens": synthesis.max_tokens},
            output_schema=synthesis.output_schema,
            models=synthesis.model or plan.planner_models,
        )
        outcome = await self._tier2.runner.attempt(call, self._scope)
        if outcome.error is not None:
            error = outcome.error
            raise VrooliError(error.message, code=error.code, tier=error.tier, step=error.step, context=error.context)
        return outcome.result


_PERFORM: Mapping[type, Callable[[SwarmShell, Any], None]] = {
    AskModel: SwarmShell._ask,
    StopAsking: SwarmShell._stop_asking,
    StartTask: SwarmShell._start_task,
    CancelTask: SwarmShell._cancel_task,
    RunHandler: SwarmShell._run_handler,
    StopHandler: SwarmShell._stop_handler,
    SetTimer: SwarmShell._set_timer,
    ClearTimer: SwarmShell._clear_timer,
    EndSwarm: SwarmShell._end,
}


def _given(levels: Sequence[Limits], name: str) -> list[int]:
    return [value for level in levels if (value := getattr(level, name)) is not None]


def _effects(machine: RunMachine) -> str:
    """The strongest effect that a run has carried out."""
    nodes = [*machine.root.nodes, *(node for frame in machine.root.handlers.values() for node in frame.nodes)]
    return max((node.effects for node in nodes), key=EFFECTS_ORDER.__getitem__, default="none")


def _suspension(machine: RunMachine) -> str:
    if machine.status != "suspended":
        return ""
    unknown = any(node.reason == "OUTCOME_UNKNOWN" for node in machine.suspended.values())
    return "OUTCOME_UNKNOWN" if unknown else "APPROVAL_REQUIRED"


__all__ = ["Earlier", "SwarmBlackboard", "SwarmShell"]
