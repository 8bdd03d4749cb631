"""The door of tier 2: a request comes in, a routine is planned and run, a result goes out; no failure is raised.

``prepare`` makes everything that can be refused before anything runs; what it returns is a run that has only to be
started, so that a view, files and signals can be attached to it first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vrooli_cli.bus import Channel
from vrooli_cli.errors import DefinitionError, Problem
from vrooli_cli.ledger import ResourceTracker
from vrooli_cli.loading.loaded import refusal
from vrooli_cli.model.events import Event
from vrooli_cli.model.routine import Bundle
from vrooli_cli.model.run import ExecutionResult, RoutineExecutionInput, TierExecutionRequest
from vrooli_cli.tier2.context import BlackboardManager, RunContext, check_inputs
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.machine import RunMachine
from vrooli_cli.tier2.plan import DependencyResolver, RoutinePlan, summarise
from vrooli_cli.tier2.prepared import Opened, Opening, Prepared, RunOptions, Tier
from vrooli_cli.tier2.run import RunShell, result_of
from vrooli_cli.tier2.stimuli import Answered, Resumed, RunStarted, Stimulus
from vrooli_cli.tier3.registry import ToolRegistry
from vrooli_cli.tier3.scope import Scope, StepRunner


class PreparedRun(Prepared):
    """A run of a routine that has only to be started."""

    tier = "tier2"

    def __init__(
        self,
        plan: RoutinePlan,
        machine: RunMachine,
        shell: RunShell,
        opened: Opened,
        request: TierExecutionRequest,
        tracker: ResourceTracker,
        first: Stimulus | None = None,
    ) -> None:
        super().__init__(shell, summarise(plan), opened, request, tracker)
        self.plan = plan
        self.machine = machine
        self.shell = shell
        self._first = first

    @property
    def waiting(self) -> list[tuple[str, str]]:
        """Address and code of every step that waits for a person."""
        return self.shell.waiting

    async def _go(self, now: int) -> None:
        await self.shell.run(replace(self._first, now=now) if self._first is not None else RunStarted(now))

    def _answer(self, given: Answered) -> None:
        self.shell.tell(given)

    def _result(self) -> ExecutionResult:
        machine = self.machine
        result = result_of(machine, self.context, machine.active_ns // 1_000_000)
        used = self.scope.account.used
        if used == machine.credits:
            return result
        return replace(result, resources_used=replace(result.resources_used, credits_used=str(used)))


class RunStateMachine(Tier[PreparedRun]):
    """Runs routines.

    Args:
        runner: Does attempts: tier 3's executor, or a wrapper around it.
        tools: The tools that files may name.
        tracker: Who is at work, for status and cancel.
        opener: Makes channel and scope of a new root run.
    """

    def __init__(
        self,
        runner: StepRunner,
        tools: ToolRegistry,
        tracker: ResourceTracker,
        opener: Callable[[Opening], Opened],
    ) -> None:
        super().__init__(tracker, opener)
        self.runner = runner
        self.tools = tools

    def plan(self, bundle: Bundle) -> tuple[RoutinePlan | None, list[Problem]]:
        """The plan of a bundle, or None; and all that is wrong or worth a warning. Problems name their file by key."""
        resolver = DependencyResolver(bundle, self.tools)
        plan = resolver.create_execution_plan()
        for key in bundle.routines:
            resolver.create_execution_plan(key)
        wrong = [problem for problem in resolver.problems if not problem.warning]
        return (None if wrong else plan), resolver.problems

    def prepare(
        self,
        request: TierExecutionRequest,
        options: RunOptions | None = None,
        *,
        plan: RoutinePlan | None = None,
        log: Sequence[tuple[Event, int]] = (),
        resumed: Resumed | None = None,
    ) -> PreparedRun:
        """Everything that can be refused before a step runs.

        Args:
            request: With a RoutineExecutionInput.
            options: How to run.
            plan: When the caller has planned the bundle already.
            log: The facts of the run's earlier life, with their times.
            resumed: How a run with a ``log`` goes on.

        Raises:
            DefinitionError: The routine cannot be run as it is written.
            InputError: Its inputs are not right.
            StoreError: The run cannot be written down.
        """
        asked = request.input
        if not isinstance(asked, RoutineExecutionInput):
            raise TypeError("tier 2 executes a RoutineExecutionInput")
        options = options or RunOptions()
        bundle = asked.bundle
        if bundle is None:
            if asked.workflow is None:
                raise DefinitionError([Problem((), "a routine needs a workflow or a bundle")])
            from vrooli_cli.loading.bundle import bundle_of_workflow

            bundle = bundle_of_workflow(asked.workflow, asked.routine_id, asked.parameters)
        if plan is None:
            plan, problems = self.plan(bundle)
            if plan is None:
                raise refusal(problems)
        inputs = check_inputs(plan.routine, asked.parameters, options.environ)
        return self._prepared(request, options, bundle, plan, inputs, log, resumed)

    def _prepared(
        self,
        request: TierExecutionRequest,
        options: RunOptions,
        bundle: Bundle,
        plan: RoutinePlan,
        inputs: Mapping[str, Any],
        log: Sequence[tuple[Event, int]],
        resumed: Resumed | None,
    ) -> PreparedRun:
        context, allocation = request.context, request.allocation
        opened = self._opener(
            Opening(
                context=context,
                allocation=allocation,
                options=options,
                bundle=bundle,
                plan=plan,
                inputs=inputs,
                log=log,
                assume=resumed.assume if resumed is not None else {},
            )
        )
        machine = RunMachine(
            plan,
            context.execution_id,
            inputs,
            _machine_options(request, options, opened.work_dir),
            blackboard=BlackboardManager(),
        )
        for fact, at in log:
            machine.evolve(fact, at)
        shell = RunShell(machine, opened.channel, self.runner, opened.scope, opened.narrow, opened.reuse)
        prepared = PreparedRun(plan, machine, shell, opened, request, self._tracker, resumed)
        self._active[context.execution_id] = prepared
        return prepared

    def child(
        self,
        plan: RoutinePlan,
        execution_id: str,
        inputs: Mapping[str, Any],
        *,
        address: str,
        parent_execution_id: str,
        channel: Channel,
        scope: Scope,
        narrow: Callable[[RunContext, Scope], Scope],
        options: MachineOptions,
        blackboard: BlackboardManager,
        log: Sequence[tuple[Event, int]] = (),
    ) -> RunShell:
        """A task of a swarm: a run of its own in the root's log, under ``address`` (``task:load``).

        Its events carry ``execution_id``, the addresses of its steps begin with ``address/``. The caller starts it with
        ``RunStarted`` (or ``Resumed`` after a ``log``) and reads its machine's ``status``, ``result`` and ``error``.
        """
        options = replace(options, parent_execution_id=parent_execution_id, parent_step_id=address)
        machine = RunMachine(plan, execution_id, inputs, options, address=address, blackboard=blackboard)
        for fact, at in log:
            machine.evolve(fact, at)
        return RunShell(machine, channel, self.runner, scope, narrow)


def _machine_options(request: TierExecutionRequest, options: RunOptions, work_dir: str) -> MachineOptions:
    limits = (request.allocation.max_duration_ms, request.options.timeout_ms, options.timeout_ms)
    durations = [limit for limit in limits if limit is not None]
    return MachineOptions(
        max_concurrent=request.allocation.max_concurrent_steps,
        keep_going=options.keep_going,
        schedule=options.schedule,
        max_duration_ms=min(durations) if durations else None,
        grace_ms=options.grace_ms,
        environ=options.environ,
        work_dir=work_dir,
        parent_execution_id=request.context.parent_execution_id,
        reuse=options.earlier is not None,
        cache=options.cache,
    )
