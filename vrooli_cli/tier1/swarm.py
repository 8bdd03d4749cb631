"""The door of tier 1: a goal comes in, tasks are run by a team, a result goes out; no failure is raised.

``prepare`` makes everything that can be refused before anything runs; what it returns has only to be started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vrooli_cli.errors import DefinitionError, Problem, StoreError, VrooliError
from vrooli_cli.ledger import ResourceTracker
from vrooli_cli.loading.bundle import refusal
from vrooli_cli.model import events as e
from vrooli_cli.model.organization import OrganisationSpec
from vrooli_cli.model.routine import Routine
from vrooli_cli.model.run import (
    ExecutionError,
    ExecutionResult,
    ExecutionStatus,
    ResourceUsage,
    StepResult,
    StepStatus,
    SwarmCoordinationInput,
    TierExecutionRequest,
)
from vrooli_cli.model.swarm import AgentDefinition, SwarmBundle, SwarmDefinition
from vrooli_cli.tier1.decompose import no_model
from vrooli_cli.tier1.frozen import frozen_plan
from vrooli_cli.tier1.knowledge import KnowledgeBase
from vrooli_cli.tier1.machine import Resumed, Stimulus, SwarmMachine, SwarmOptions, SwarmStarted
from vrooli_cli.tier1.plan import SwarmPlan, plan_swarm
from vrooli_cli.tier1.run import Earlier, Log, SwarmShell
from vrooli_cli.tier1.state import SKIPPED, Task
from vrooli_cli.tier2.context import check_inputs
from vrooli_cli.tier2.machine import MachineOptions
from vrooli_cli.tier2.machine import Resumed as RunResumed
from vrooli_cli.tier2.run import result_of
from vrooli_cli.tier2.tier import INBOX_SECONDS, Opened, Opening, RunOptions, RunStateMachine, answer_in
from vrooli_cli.tier3.registry import ToolRegistry
from vrooli_cli.tier3.scope import Scope

Missing = Callable[[SwarmPlan, Iterable[Sequence[str]]], VrooliError | None]
"""Says whether none of these models can be asked, e.g. for want of a key."""


class PreparedSwarm:
    """A swarm that has only to be started.

    Attributes:
        plan: The compiled swarm.
        summary: The task graph as a view may see it.
        channel: Where a view, files and handlers listen.
        bug: What ended the swarm if it was a bug of ours.
    """

    def __init__(
        self,
        plan: SwarmPlan,
        machine: SwarmMachine,
        shell: SwarmShell,
        opened: Opened,
        request: TierExecutionRequest,
        tracker: ResourceTracker,
        knowledge: KnowledgeBase | None,
        first: Stimulus | None,
    ) -> None:
        self.plan = plan
        self.machine = machine
        self.shell = shell
        self.context = request.context
        self.summary = plan.summary()
        self.channel = opened.channel
        self.scope: Scope = opened.scope
        self.bug: Exception | None = None
        self._opened = opened
        self._tracker = tracker
        self._allocation = request.allocation
        self._knowledge = knowledge
        self._first = first

    @property
    def run_id(self) -> str:
        """The execution id of the swarm."""
        return self.context.execution_id

    @property
    def waiting(self) -> list[tuple[str, str]]:
        """Address and code of every step that waits for a person."""
        return [found for run in self.shell.runs for found in run.waiting]

    def cancel(self, reason: str = "user") -> None:
        """Ask the swarm to stop."""
        self.shell.cancel(reason)

    async def run(self) -> ExecutionResult:
        """Run to the end or the suspension.

        Raises:
            asyncio.CancelledError: The caller was cancelled; every task has been stopped.
        """
        await self._tracker.start_tracking(
            self.run_id, self._allocation, account=self.scope.account, cancel=lambda: self.cancel("user")
        )
        inbox = asyncio.create_task(self._listen(), name=f"inbox:{self.run_id}")
        try:
            now = self.scope.clock.now_ns()
            await self.shell.run(replace(self._first, now=now) if self._first is not None else SwarmStarted(now))
        except* Exception as bugs:
            self.bug = _innermost(bugs)
        finally:
            inbox.cancel()
            if self._knowledge is not None:
                self._knowledge.close()
        await self._opened.settle()
        result = self._result()
        try:
            await self._opened.close(result)
        except VrooliError as error:  # what cannot be stored has not succeeded
            result = _failed(result, ExecutionError.of(error))
        self._tracker.set_status(self.run_id, result.status)
        await self._tracker.stop_tracking(self.run_id)
        return result

    async def plan_only(self) -> str:
        """Decompose, form the team, and stop: the plan as a swarm file.

        Raises:
            VrooliError: There is no plan, or no team.
        """
        self.machine.options = replace(self.machine.options, plan_only=True)
        result = await self.run()
        if result.error is not None:
            error = result.error
            raise VrooliError(error.message, code=error.code, tier=error.tier, context=error.context)
        if not result.success:
            raise VrooliError("the planning was stopped", code="CANCELLED", tier="tier1")
        tasks = list(self.machine.tasks.values())
        assignments = {
            task.id: {
                "agent": task.parts[0].agent,
                "agents": [part.agent for part in task.parts],
                "reason": self.machine.reasons.get(task.id, ""),
            }
            for task in tasks
        }
        swarm, texts = self.plan.swarm, self.plan.bundle.texts
        specs = [task.spec for task in tasks]
        return frozen_plan(swarm, specs, assignments, text=texts.get(swarm.key, ""), makespan=self.machine.makespan)

    async def _listen(self) -> None:
        """Does what other processes ask of this swarm: answers of approvals, a cancel."""
        while self._opened.commands is not None:
            await asyncio.sleep(INBOX_SECONDS)
            try:
                commands = self._opened.commands()
            except StoreError:  # whoever needs the store is told by the channel
                continue
            for command in commands:
                given = answer_in(command, self.scope.clock.now_ns())
                if command.get("do") == "cancel":
                    self.cancel("user")
                elif given is not None:
                    self.shell.answer(given)

    def _result(self) -> ExecutionResult:
        machine = self.machine
        elapsed = machine.active_ns // 1_000_000
        status = ExecutionStatus(machine.status)
        result = ExecutionResult(
            success=status is ExecutionStatus.COMPLETED,
            status=status,
            context=self.context,
            result=machine.result,
            error=self._error(status),
            resources_used=ResourceUsage(
                credits_used=str(self.scope.account.used),
                duration_ms=elapsed,
                memory_used_mb=self.shell.memory_mb,
                steps_executed=self.shell.steps_executed,
            ),
            duration_ms=elapsed,
            steps={f"task:{task.id}": self._task_result(task) for task in machine.tasks.values()},
        )
        if self.bug is not None:
            cause = f"{type(self.bug).__name__}: {self.bug}"[:500]
            error = ExecutionError(code="INTERNAL", message="a bug in vrooli ended the run", tier="tier1", cause=cause)
            return _failed(result, error)
        if self.channel.failure is not None and result.success:
            return _failed(result, ExecutionError.of(self.channel.failure, tier="tier1"))
        return result

    def _error(self, status: ExecutionStatus) -> ExecutionError | None:
        """Why the swarm failed, or what it waits for."""
        if status is ExecutionStatus.SUSPENDED:
            told = [result_of(run, self.context, 0).error for run in self.shell.waiting]
            unknown = [error for error in told if error is not None and error.code == "OUTCOME_UNKNOWN"]
            return next(iter([*unknown, *told]), None)
        return ExecutionError(**self.machine.error) if self.machine.error is not None else None

    def _task_result(self, task: Task) -> StepResult:
        status, reason = task.status, None
        if status in (StepStatus.PENDING, StepStatus.READY) and self.machine.over:
            status = SKIPPED if task.waiting else StepStatus.CANCELLED
            reason = self.machine.why_not(task)
        error = task.error
        if error is not None and error.get("code") == "CANCELLED":
            status, reason, error = StepStatus.CANCELLED, str(error.get("message", "")), None
        elif status is StepStatus.RUNNING and self.machine.status == "suspended":
            status = StepStatus.SUSPENDED
        return StepResult(
            status=status,
            attempts=task.attempts,
            duration_ms=task.duration_ms,
            reused=task.done and task.id in self.machine.kept,
            result=task.result,
            error=ExecutionError(**error) if error is not None else None,
            reason=reason,
        )


def _innermost(bugs: BaseExceptionGroup[Exception]) -> Exception:
    first = bugs.exceptions[0]
    return _innermost(first) if isinstance(first, BaseExceptionGroup) else first


def _failed(result: ExecutionResult, error: ExecutionError) -> ExecutionResult:
    changes = {"success": False, "status": ExecutionStatus.FAILED, "error": error, "result": None}
    return result.model_copy(update=changes)


class SwarmStateMachine:
    """Runs swarms.

    Args:
        tier2: Runs the tasks.
        tools: The tools that files may name.
        tracker: Who is at work, for status and cancel.
        opener: Makes channel and scope of a new root run.
        missing: Whether a model could be asked.
    """

    def __init__(
        self,
        tier2: RunStateMachine,
        tools: ToolRegistry,
        tracker: ResourceTracker,
        opener: Callable[[Opening], Opened],
        *,
        missing: Missing = lambda plan, models: None,
    ) -> None:
        self.tools = tools
        self._tier2 = tier2
        self._tracker = tracker
        self._opener = opener
        self._missing = missing
        self._active: dict[str, PreparedSwarm] = {}

    def plan(self, bundle: SwarmBundle) -> tuple[SwarmPlan | None, list[Problem]]:
        """The plan of a swarm, or None; and all that is wrong or worth a warning. Problems name their file by key."""
        return plan_swarm(bundle, self.tools)

    def prepare(
        self,
        request: TierExecutionRequest,
        options: RunOptions | None = None,
        *,
        plan: SwarmPlan | None = None,
        log: Log = (),
        resumed: RunResumed | None = None,
    ) -> PreparedSwarm:
        """Everything that can be refused before a task runs.

        Args:
            request: With a SwarmCoordinationInput; ``parameters`` of its bundle are in ``inputs``.
            options: How to run.
            plan: When the caller has planned the bundle already.
            log: The facts of the swarm's earlier life, with their times.
            resumed: How a swarm with a ``log`` goes on.

        Raises:
            DefinitionError: The swarm cannot be run as it is written.
            InputError: Its inputs are not right.
            VrooliError: ``AI_UNAVAILABLE``: a model has to be asked, and nobody can be.
            StoreError: The run cannot be written down.
        """
        asked = request.input
        if not isinstance(asked, SwarmCoordinationInput):
            raise TypeError("tier 1 executes a SwarmCoordinationInput")
        options = options or RunOptions()
        if plan is None:
            plan, problems = self.plan(asked.bundle or bundle_of_input(asked))
            if plan is None:
                raise refusal(problems)
        inputs = check_inputs(_as_routine(plan.swarm), asked.parameters, options.environ)
        nobody = self._missing(plan, [models for models, _ in plan.asking()])
        if nobody is not None and not log:
            raise nobody
        planner = self._missing(plan, [plan.swarm.planner.model or plan.planner_models])
        return self._prepared(request, options, plan, inputs, log, resumed, can_ask=planner is None)

    def _prepared(
        self,
        request: TierExecutionRequest,
        options: RunOptions,
        plan: SwarmPlan,
        inputs: Mapping[str, Any],
        log: Log,
        resumed: RunResumed | None,
        *,
        can_ask: bool,
    ) -> PreparedSwarm:
        context, allocation, swarm = request.context, request.allocation, plan.swarm
        knowledge = KnowledgeBase.of_files(swarm.knowledge, swarm.folder) if swarm.knowledge else None
        opened = self._opener(
            Opening(
                context=context,
                allocation=allocation,
                options=options,
                bundle=plan.bundle,
                plan=plan,
                inputs=inputs,
                log=log,
            )
        )
        scope = opened.scope
        scope.slots = asyncio.Semaphore(allocation.max_concurrent_steps)
        limits = (allocation.max_duration_ms, request.options.timeout_ms, options.timeout_ms)
        machine = SwarmMachine(
            plan,
            context.execution_id,
            inputs,
            SwarmOptions(
                keep_going=options.keep_going,
                schedule=options.schedule,
                max_duration_ms=min((limit for limit in limits if limit is not None), default=None),
                environ=options.environ,
                work_dir=opened.work_dir,
                can_ask=can_ask,
            ),
            lookup=(lambda text: knowledge.search(text)) if knowledge is not None else None,
        )
        for fact, at in log:
            machine.evolve(fact, at)
        machine.kept = {task.id for task in machine.tasks.values() if task.done}
        shell = SwarmShell(
            machine,
            opened.channel,
            self._tier2,
            scope,
            opened.narrow,
            MachineOptions(
                max_concurrent=allocation.max_concurrent_steps,
                keep_going=options.keep_going,
                grace_ms=options.grace_ms,
                environ=options.environ,
                work_dir=opened.work_dir,
            ),
            knowledge=knowledge,
            earlier=_earlier(context.execution_id, log, resumed),
        )
        first = Resumed(resumed.now) if resumed is not None else None
        prepared = PreparedSwarm(plan, machine, shell, opened, request, self._tracker, knowledge, first)
        self._active[context.execution_id] = prepared
        return prepared

    async def execute(self, request: TierExecutionRequest) -> ExecutionResult:
        """Reach a goal; every failure is a result. See :meth:`prepare` for what is refused (``status: failed``)."""
        try:
            prepared = self.prepare(request)
        except VrooliError as error:
            failed = ExecutionStatus.FAILED
            told = ExecutionError.of(error)
            return ExecutionResult(success=False, status=failed, context=request.context, error=told)
        try:
            return await prepared.run()
        finally:
            self._active.pop(prepared.run_id, None)

    async def get_execution_status(self, execution_id: str) -> ExecutionStatus:
        """Where a swarm, a task's run or a run in it is; UnknownRunError (a KeyError) for an unknown id."""
        for prepared in self._active.values():
            status = prepared.shell.status_of(execution_id)
            if status is not None:
                return status
        return await self._tracker.get_execution_status(execution_id)

    async def cancel_execution(self, execution_id: str) -> None:
        """Ask a swarm to stop, from any task; its ``execute`` returns with status ``cancelled``."""
        await self._tracker.cancel_execution(execution_id)


def ask_nobody(plan: SwarmPlan, models: Iterable[Sequence[str]]) -> VrooliError | None:
    """:data:`Missing` where there is no model at all."""
    del plan, models
    return no_model()


def bundle_of_input(asked: SwarmCoordinationInput) -> SwarmBundle:
    """The bundle of a goal and agents that were given as the seed's types; it has no file."""
    if not asked.available_agents:
        raise DefinitionError([Problem(("agents",), "a swarm needs at least one agent")])
    agents = tuple(
        AgentDefinition(
            id=agent.id,
            capabilities=tuple(agent.capabilities),
            name=agent.name,
            current_load=agent.current_load,
            max_concurrent_tasks=agent.max_concurrent_tasks,
            pointer=("agents", n),
        )
        for n, agent in enumerate(asked.available_agents)
    )
    constraints = asked.constraints
    if isinstance(constraints, OrganisationSpec):
        from vrooli_cli.tier1.moise.spec import organisation_to_data

        constraints = organisation_to_data(constraints)
    leader = asked.team_configuration.leader if asked.team_configuration is not None else None
    swarm = SwarmDefinition(
        name="swarm", goal=asked.goal, agents=agents, key="swarm", constraints=constraints, leader=leader
    )
    return SwarmBundle(swarm)


def _as_routine(swarm: SwarmDefinition) -> Routine:
    """The inputs of a swarm as a routine's, which is what is checked."""
    return Routine(name=swarm.name, steps=(), inputs=swarm.inputs)


def _earlier(root_id: str, log: Log, resumed: RunResumed | None) -> Earlier:
    """The facts of a log by the task's run, or handler, that they belong to."""
    owners: dict[str, str] = {}
    logs: dict[str, list[tuple[e.Event, int]]] = {}
    for fact, at in log:
        if isinstance(fact, e.TaskStarted):
            owners[fact.task_execution_id] = fact.task_execution_id
        elif isinstance(fact, e.RoutineStarted) and fact.execution_id not in owners:
            parent = fact.parent_execution_id or ""
            if parent == root_id and (fact.parent_step_id or "").startswith("handlers."):
                owners[fact.execution_id] = fact.execution_id
            elif parent in owners:
                owners[fact.execution_id] = owners[parent]
        owner = owners.get(fact.execution_id)
        if owner is not None:
            logs.setdefault(owner, []).append((fact, at))
    if resumed is None:
        return Earlier(logs=logs)
    return Earlier(logs=logs, answers=resumed.answers, assume=resumed.assume)
