"""The door of tier 1: a goal comes in, tasks are run by a team, a result goes out; no failure is raised.

``prepare`` makes everything that can be refused before anything runs; what it returns has only to be started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vrooli_cli.errors import DefinitionError, Problem, VrooliError
from vrooli_cli.ledger import ResourceTracker
from vrooli_cli.loading.bundle import refusal
from vrooli_cli.model import events as e
from vrooli_cli.model.organization import OrganisationSpec
from vrooli_cli.model.run import (
    ExecutionError,
    ExecutionResult,
    ExecutionStatus,
    ResourceUsage,
    StepResult,
    StepStatus,
    SwarmCoordinationInput,
    TierExecutionRequest,
    cancelled_error,
)
from vrooli_cli.model.swarm import AgentDefinition, SwarmBundle, SwarmDefinition
from vrooli_cli.tier1.decisions import SwarmOptions
from vrooli_cli.tier1.frozen import frozen_plan
from vrooli_cli.tier1.knowledge import KnowledgeBase
from vrooli_cli.tier1.machine import SwarmMachine
from vrooli_cli.tier1.plan import SwarmPlan, plan_swarm
from vrooli_cli.tier1.run import Earlier, Log, SwarmShell
from vrooli_cli.tier1.state import Part, Task
from vrooli_cli.tier1.stimuli import Resumed, Stimulus, SwarmStarted
from vrooli_cli.tier2.context import check_inputs
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.prepared import Opened, Opening, Prepared, RunOptions, Tier
from vrooli_cli.tier2.run import result_of
from vrooli_cli.tier2.state import Frame
from vrooli_cli.tier2.stimuli import Answered
from vrooli_cli.tier2.stimuli import Resumed as RunResumed
from vrooli_cli.tier2.tier import RunStateMachine
from vrooli_cli.tier3.registry import ToolRegistry

Missing = Callable[[SwarmPlan, Iterable[Sequence[str]]], VrooliError | None]
"""Says whether none of these models can be asked, e.g. for want of a key."""


class PreparedSwarm(Prepared):
    """A swarm that has only to be started.

    Attributes:
        plan: The compiled swarm.
    """

    tier = "tier1"

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
        super().__init__(shell, plan.summary(), opened, request, tracker)
        self.plan = plan
        self.machine = machine
        self.shell = shell
        self._knowledge = knowledge
        self._first = first

    @property
    def waiting(self) -> list[tuple[str, str]]:
        """Address and code of every step that waits for a person."""
        return [found for run in self.shell.runs for found in run.waiting]

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

    async def _go(self, now: int) -> None:
        await self.shell.run(replace(self._first, now=now) if self._first is not None else SwarmStarted(now))

    def _answer(self, given: Answered) -> None:
        self.shell.answer(given)

    def _let_go(self) -> None:
        if self._knowledge is not None:
            self._knowledge.close()

    def _result(self) -> ExecutionResult:
        machine = self.machine
        elapsed = machine.active_ns // 1_000_000
        waiting = {run.root.address: run.root for run in self.shell.waiting}
        status = ExecutionStatus(machine.status)
        return ExecutionResult(
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
            steps={f"task:{task.id}": self._task_result(task, waiting) for task in machine.tasks.values()},
        )

    def _error(self, status: ExecutionStatus) -> ExecutionError | None:
        """Why the swarm failed, or what it waits for."""
        if status is ExecutionStatus.SUSPENDED:
            told = [result_of(run, self.context, 0).error for run in self.shell.waiting]
            unknown = [error for error in told if error is not None and error.code == "OUTCOME_UNKNOWN"]
            return next(iter([*unknown, *told]), None)
        if self.machine.error is not None:
            return ExecutionError(**self.machine.error)
        return cancelled_error("tier1") if status is ExecutionStatus.CANCELLED else None

    def _task_result(self, task: Task, waiting: Mapping[str, Frame]) -> StepResult:
        """A task as its swarm's result tells it; ``waiting`` are the runs that wait for a person, by address."""
        status, reason, error = self._standing(task), None, task.error
        not_run = self.machine.not_run.get(task.id)
        if not_run is not None:
            status, reason = StepStatus(not_run["status"]), not_run["reason"]
        if error is not None and status is StepStatus.CANCELLED:
            reason, error = str(error.get("message", "")), None
        return StepResult(
            status=status,
            attempts=task.attempts,
            duration_ms=task.duration_ms,
            reused=task.done and task.id in self.machine.kept,
            result=task.result,
            error=ExecutionError(**error) if error is not None else None,
            reason=reason,
            counts=self._counts(task, waiting),
        )

    def _standing(self, one: Task | Part) -> StepStatus:
        if one.error is not None and one.error.get("code") == "CANCELLED":
            return StepStatus.CANCELLED
        waits = one.status is StepStatus.RUNNING and self.machine.status == "suspended"
        return StepStatus.SUSPENDED if waits else one.status

    def _counts(self, task: Task, waiting: Mapping[str, Frame]) -> dict[str, int] | None:
        """How many of a task's steps are where; of one that several agents do, how many of their parts."""
        if len(task.parts) == 1:
            (part,) = task.parts
            found = waiting[part.address].parts() if part.address in waiting else part.counts
            return dict(found) if found is not None else None
        counts: dict[str, int] = {}
        for part in task.parts:
            if part.status not in (StepStatus.PENDING, StepStatus.READY):
                status = self._standing(part).value
                counts[status] = counts.get(status, 0) + 1
        return counts or None


class SwarmStateMachine(Tier[PreparedSwarm]):
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
        super().__init__(tracker, opener)
        self.tools = tools
        self._tier2 = tier2
        self._missing = missing

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
        inputs = check_inputs(plan.swarm, asked.parameters, options.environ)
        asking = plan.asking()
        if options.plan_only:
            asking = asking[:1] if plan.needs_planner else []
        nobody = self._missing(plan, [models for models, _ in asking])
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
        knowledge = KnowledgeBase.of_texts(plan.bundle.knowledge) if swarm.knowledge else None
        opened = self._opener(
            Opening(
                context=context,
                allocation=allocation,
                options=options,
                bundle=plan.bundle,
                plan=plan,
                inputs=inputs,
                log=log,
                assume=resumed.assume if resumed is not None else {},
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
