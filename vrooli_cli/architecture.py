"""The one place that wires the house: settings → journal, bus, ledger, gate and the three tiers.

::

    architecture = ExecutionArchitecture()
    result = await architecture.tier2.execute(TierExecutionRequest(…))

Nothing here decides anything; it makes things and hands them down.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrooli_cli.agents import EventAgents, plan_agents, watchers
from vrooli_cli.bus import Channel, EventBus, replay
from vrooli_cli.errors import InputError, Pointer, Problem, UnknownRunError, VrooliError
from vrooli_cli.gate import Approver, Gate, Policy
from vrooli_cli.gate import check as check_permissions
from vrooli_cli.journal import open_store
from vrooli_cli.journal.inbox import ANSWERED, Inbox
from vrooli_cli.language.masking import Masker
from vrooli_cli.ledger import Account, ResourceTracker
from vrooli_cli.loading.home import NO_PROJECT, Project
from vrooli_cli.loading.inputs import resolve_secrets
from vrooli_cli.loading.loaded import LoadedBundle, Recalled, refusal, steps_of
from vrooli_cli.loading.settings import Settings, scheduler_address
from vrooli_cli.model.clock import Clock, Ids, RandomIds, SystemClock, ns_of
from vrooli_cli.model.events import (
    ApprovalGranted,
    ApprovalRequested,
    Event,
    EventMetadata,
    ExecutionEvent,
    RoutineResumed,
    SwarmResumed,
)
from vrooli_cli.model.routine import Bundle, Permissions, Prompt, Routine, Rule, Step
from vrooli_cli.model.run import (
    ExecutionContext,
    ExecutionOptions,
    ExecutionResult,
    ExecutionStatus,
    ExecutionStrategy,
    ResourceAllocation,
    RoutineExecutionInput,
    SwarmCoordinationInput,
    TierExecutionRequest,
    user_name,
)
from vrooli_cli.model.store import Lease, RunRecord, Store
from vrooli_cli.model.swarm import SwarmBundle, SwarmDefinition
from vrooli_cli.model.values import lean
from vrooli_cli.model.version import VROOLI
from vrooli_cli.tier2.context import RunContext
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.plan import RoutinePlan
from vrooli_cli.tier2.prepared import Opened, Opening, RunOptions, answer_in
from vrooli_cli.tier2.reuse import EarlierRun, Reuse
from vrooli_cli.tier2.stimuli import Answered, Resumed
from vrooli_cli.tier2.stored import plan_again, written
from vrooli_cli.tier2.tier import PreparedRun, RunStateMachine
from vrooli_cli.tier3 import orphans
from vrooli_cli.tier3.ai.manager import AIServiceManager
from vrooli_cli.tier3.box import default_tools
from vrooli_cli.tier3.custom import load_tools
from vrooli_cli.tier3.executor import UnifiedExecutor
from vrooli_cli.tier3.host import LocalHost
from vrooli_cli.tier3.mcp import Servers, WithServers, read_lock, tools_named
from vrooli_cli.tier3.memory import MemoryMeter
from vrooli_cli.tier3.registry import Tool, ToolRegistry
from vrooli_cli.tier3.scope import Scope
from vrooli_cli.tier3.strategies import StrategyFactory

if TYPE_CHECKING:  # tier 1 is imported with the first swarm: a routine starts without it
    from vrooli_cli.tier1.plan import SwarmPlan
    from vrooli_cli.tier1.swarm import PreparedSwarm, SwarmStateMachine
    from vrooli_cli.tier3.ai.remembered import Cassette, Memo
    from vrooli_cli.tier3.ai.service import AIService
    from vrooli_cli.tracing import SpanFold, Trace, Tracer

DEFAULT_CREDITS = 1_000_000
DEFAULT_CONCURRENCY = 8


class _Past:
    """What a log tells of a run's earlier life, read once; of its events only the facts are kept.

    Attributes:
        facts: With their times.
        next_seq: The number of the next event.
        asked: Addresses whose approval was asked for and is not answered in the log.
    """

    def __init__(self, events: Iterable[ExecutionEvent]) -> None:
        self.facts: list[tuple[Event, int]] = []
        self.next_seq = 1
        self.asked: set[str] = set()
        for event in events:
            self.next_seq = event.seq + 1
            if event.fact is not None:
                self.facts.append((event.fact, ns_of(event.timestamp)))
            if event.type == ApprovalRequested.type:
                self.asked.add(event.payload["step_id"])
            elif event.type in ANSWERED:
                self.asked.discard(event.payload["step_id"])


@lean(frozen=False)
class _Life:
    """Where a run that goes on stands in the journal."""

    key: int
    next_seq: int
    lease: Lease
    trace: Mapping[str, str] | None = None


class ExecutionArchitecture:
    """Journal, bus, ledger, gate and three tiers, wired.

    Args:
        settings: What flags and environment say; the rest is default.
        project: The project around the files; for permissions, tools and stores.
        tools: Tools beside the ones in the box.
        ai: The seam to models, e.g. ``ScriptedAI(replies)``; None asks the endpoints that are configured.
        cassette: Model exchanges to record, or to answer from.
        store: Where runs are kept; None keeps them in memory.
        clock: Time; a test freezes it.
        ids: New run ids; a test freezes them.
        approver: Who is asked; None defers, so that a run without a person is suspended.
        permissions: The outermost level of rules, from the command line.
        folder: Where relative paths of tools start; None is the current folder.
        environ: The environment that runs may look at; None is the process's.
        import_tools: False reads the tool files of the project, of ``settings.tools`` and of installed packages without
            running any of their code: enough to check and to plan.

    Attributes:
        tier1, tier2, tier3: The tiers.
        event_bus: Where everything that happens can be heard.
        tools: The tools that files may name.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        project: Project | None = None,
        tools: Iterable[Tool] | None = None,
        ai: AIService | None = None,
        cassette: Cassette | None = None,
        store: Store | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        approver: Approver | None = None,
        permissions: Permissions | None = None,
        folder: str | None = None,
        environ: Mapping[str, str] | None = None,
        import_tools: bool = True,
    ) -> None:
        self.settings = settings or Settings()
        self.project = project or NO_PROJECT
        self.clock: Clock = clock or SystemClock()
        self.ids: Ids = ids or RandomIds()
        self._kept = store is not None
        self.store: Store = store if store is not None else open_store(":memory:")
        self.event_bus = EventBus(self.store, self.clock)
        folders = [*([self.project.tools] if self.project.tools else []), *map(Path, self.settings.tools)]
        self._custom = load_tools(folders, importing=import_tools)
        self.tools = ToolRegistry([*default_tools(), *self._custom.tools, *(tools or ())])
        self.tracker = ResourceTracker(self.clock)
        self.host = LocalHost()
        self.host.processes.noting = self._note_commands
        self._leases: dict[str, tuple[Lease, Masker | None]] = {}  # of the runs at work
        self._hosts: dict[str, LocalHost] = {}
        self._tool_folders = folders
        self._environ = dict(os.environ if environ is None else environ)
        self._folder = folder or str(Path.cwd())
        self._approver = approver
        self._permissions = permissions or Permissions()
        self.ai = AIServiceManager(
            ai,
            environ=self._environ,
            model=self.settings.model,
            allow_unpriced=bool(self.settings.allow_unpriced),
            cassette=cassette,
        )
        self._steps: dict[str, tuple[Channel, _WorkFolder]] = {}
        self._earlier: dict[str, _Life] = {}
        self._checked: tuple[LoadedBundle, Recalled] | None = None
        self._tracer = _tracer(self._environ)
        strategies = StrategyFactory(self.tools, self.ai)
        self.tier3 = UnifiedExecutor(
            self.tools,
            strategies,
            self.tracker,
            self.event_bus,
            scopes=self._scope_of_request,
            closing=self._close_step,
        )
        self._servers = Servers(lock=read_lock(self.project.root), owned=self.host.processes.own)
        runner = WithServers(self.tier3, self._servers)
        self.tier2 = RunStateMachine(runner, self.tools, self.tracker, self._open)

    @cached_property
    def tier1(self) -> SwarmStateMachine:
        """Tier 1, made when it is first asked for."""
        from vrooli_cli.tier1.swarm import SwarmStateMachine

        return SwarmStateMachine(self.tier2, self.tools, self.tracker, self._open, missing=self._no_model_to_plan)

    # -- what a caller does -------------------------------------------------------------------------------------------

    @property
    def tool_warnings(self) -> list[Problem]:
        """What is wrong with tool files; it takes nothing from the tools of other files."""
        return [replace(problem, warning=True) for problem in self._custom.problems]

    @cached_property
    def project_secrets(self) -> dict[str, str]:
        """The secrets of ``vrooli.yaml`` that the environment has: for a caller of :attr:`tier3` that has no file."""
        declared = self.project.base.secrets
        return {name: self._environ[variable] for name, variable in declared.items() if self._environ.get(variable)}

    def offer(self, names: Iterable[str]) -> None:
        """Make tools of the project's MCP servers known by name, for a caller of :attr:`tier3` that has no file."""
        self._servers.add(self.project.base.mcp_servers)
        for tool in self._servers.tools(names):
            if self.tools.get_tool(tool.name) is None:
                self.tools.register_tool(tool)

    def check(self, loaded: LoadedBundle) -> list[Problem]:
        """Everything that is wrong with a bundle or worth a warning, with lines: loading's own, names, graph, rules."""
        return self._plan(loaded)[1]

    def plan(self, loaded: LoadedBundle) -> RoutinePlan | SwarmPlan:
        """The plan of a sound routine or swarm.

        Raises:
            DefinitionError: With every problem of the bundle, placed.
        """
        plan, problems = self._plan(loaded)
        if plan is None:
            raise refusal(problems)
        return plan

    def prepare(
        self,
        loaded: LoadedBundle,
        inputs: Mapping[str, Any],
        *,
        options: RunOptions | None = None,
        allocation: ResourceAllocation | None = None,
        run_id: str | None = None,
    ) -> PreparedRun | PreparedSwarm:
        """A run of a loaded routine or swarm that has only to be started.

        Raises:
            DefinitionError: With every problem of the bundle, placed.
            InputError: The inputs or secrets are not right.
            StoreError: The run cannot be written down.
        """
        plan = self.plan(loaded)
        options = options or RunOptions()
        if not options.plan_only:
            self._need_models(loaded.bundle, plan)
        options = self._narrowed_options(options)
        context = self.context(run_id)
        if not isinstance(plan, RoutinePlan):
            context = replace(context, swarm_id=context.execution_id)
        request = TierExecutionRequest(
            context=context,
            input=_asked(plan, loaded.bundle, inputs),
            allocation=allocation or self.allocation(plan.routine),
            options=ExecutionOptions(timeout_ms=self.settings.timeout_ms),
        )
        if not isinstance(plan, RoutinePlan):
            return self.tier1.prepare(request, options, plan=plan)
        return self.tier2.prepare(request, options, plan=plan)

    def resume(
        self,
        run_id: str,
        *,
        loaded: LoadedBundle | None = None,
        inputs: Mapping[str, Any] | None = None,
        assume: Mapping[str, str] | None = None,
        options: RunOptions | None = None,
    ) -> PreparedRun | PreparedSwarm:
        """A run that goes on under its own id and recorded definition; it has only to be started.

        Args:
            run_id: An id, a unique prefix, or ``last``.
            loaded: The recorded definition, if the caller has loaded it already.
            inputs: Its secret inputs, which are never stored; those with ``env`` are read again by themselves.
            assume: Step → ``done``, ``failed`` or ``rerun``, for steps whose outcome is unknown.
            options: How to run now.

        Raises:
            UnknownRunError: There is no such run.
            DefinitionError: Its definition is not recorded, or this version does not take it any more.
            InputError: It is at work, has completed, or needs an input.
            StoreError: Its log cannot be read.
        """
        from vrooli_cli.journal.history import settle

        key, record = settle(self.store, run_id)
        lease = self._lease(record.id)
        try:
            return self._resumed(key, record, lease, loaded, inputs or {}, assume or {}, options)
        except BaseException:
            lease.release()
            raise
        finally:
            self._earlier.pop(record.id, None)

    def _lease(self, run_id: str) -> Lease:
        lease = self.store.lease(run_id)
        if lease is None:
            raise InputError(f"the run {run_id} is at work; `vrooli runs logs -f {run_id}` shows what it does")
        return lease

    def _resumed(
        self,
        key: int,
        record: RunRecord,
        lease: Lease,
        loaded: LoadedBundle | None,
        inputs: Mapping[str, Any],
        assume: Mapping[str, str],
        options: RunOptions | None,
    ) -> PreparedRun | PreparedSwarm:
        if record.status == "completed":
            raise InputError(f"the run {record.id!r} has completed; nothing is left to do")
        loaded = loaded or recorded_bundle(record, self.store)
        plan = self.plan(loaded)
        self._need_models(loaded.bundle, plan)
        routine = plan.routine
        options = options or RunOptions(settings=record.settings or {})
        options = self._reusing(self._narrowed_options(options), record)
        masker = Masker(self._known_secrets(loaded.bundle, inputs, options.environ))
        past = _Past(replay(self.store, key, masker=masker, whole=True))
        given = {**_unsealed(record.inputs or {}, masker), **inputs}
        request = TierExecutionRequest(
            context=ExecutionContext.recorded(record.context or {"execution_id": record.id}),
            input=_asked(plan, loaded.bundle, given),
            allocation=self.allocation(routine),
            options=ExecutionOptions(timeout_ms=self.settings.timeout_ms),
        )
        trace = (record.settings or {}).get("trace")
        self._earlier[record.id] = _Life(key, past.next_seq, lease, trace)
        answers = self._answers(key, past.asked)
        resumed = Resumed(self.clock.now_ns(), dict(assume), answers) if past.facts else None
        if not isinstance(plan, RoutinePlan):
            return self.tier1.prepare(request, options, plan=plan, log=past.facts, resumed=resumed)
        return self.tier2.prepare(request, options, plan=plan, log=past.facts, resumed=resumed)

    def _narrowed_options(self, options: RunOptions) -> RunOptions:
        """The options under what holds here: a cassette is whole, and charged as recorded, only without a cache."""
        cache = options.cache and self.ai.cassette is None
        return replace(options, environ=options.environ or self._environ, cache=cache)

    def _reusing(self, options: RunOptions, record: RunRecord) -> RunOptions:
        """What a ``rerun`` said of reuse holds in its later lives; without the earlier run everything runs."""
        said = record.settings or {}
        options = replace(options, cache=options.cache and said.get("cache", True))
        reuse = said.get("reuse")
        if reuse is None or options.earlier is not None:
            return options
        try:
            self.store.find(reuse["earlier"])
        except UnknownRunError:
            return options
        return replace(options, earlier=reuse["earlier"], forced=tuple(reuse["forced"]))

    def _answers(self, key: int, asked: Collection[str]) -> dict[str, Answered]:
        """What was answered while nobody worked on the run, to the questions that were open at its end."""
        now = self.clock.now_ns()
        answers = [answer for _, command in self.store.commands(key) if (answer := answer_in(command, now)) is not None]
        return {answer.address: answer for answer in answers if answer.address in asked}

    def _known_secrets(
        self, bundle: Bundle | SwarmBundle, inputs: Mapping[str, Any], environ: Mapping[str, str]
    ) -> dict[str, str]:
        """Every secret that is there before the inputs of a resumed run have been checked."""
        found = self._declared_secrets(bundle, environ)
        for name, one in _definition(bundle).inputs.items():
            value = inputs.get(name) or environ.get(one.env or "")
            if one.secret and isinstance(value, str) and value:
                found[name] = value
        return found

    def context(self, run_id: str | None = None) -> ExecutionContext:
        """A fresh context: who runs, when, and under which id."""
        run_id = run_id or self.ids.new()
        return ExecutionContext(execution_id=run_id, user_id=user_name(), correlation_id=run_id, timestamp=self._now())

    def allocation(self, routine: Routine | SwarmDefinition) -> ResourceAllocation:
        """The ceilings of a root run: the file's, under those of flags and environment."""
        limits = self.settings.ceilings(routine.limits)
        return ResourceAllocation(
            max_credits=str(limits.max_credits if limits.max_credits is not None else DEFAULT_CREDITS),
            max_duration_ms=limits.max_duration_ms,
            max_memory_mb=limits.max_memory_mb,
            max_concurrent_steps=limits.max_concurrent_steps or DEFAULT_CONCURRENCY,
        )

    async def close(self) -> None:
        """Let go of everything; no process, thread or file of ours is left."""
        try:
            await self.ai.aclose()
        finally:
            await self.event_bus.close()
            for host in (*self._hosts.values(), self.host):
                await host.aclose()
            self._remember()  # the run is over: nobody waits for it
            self.store.close()
            if self._tracer is not None:
                self._tracer.finish()

    async def traces_sent(self) -> str | None:
        """After :meth:`close`: wait until the last spans are sent, a few seconds at most.

        Returns:
            Why some are lost, in one line; None when none are, or when nobody asked for traces.
        """
        tracer, self._tracer = self._tracer, None
        return None if tracer is None else await tracer.close()

    async def __aenter__(self) -> ExecutionArchitecture:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
        await self.traces_sent()

    # -- wiring -------------------------------------------------------------------------------------------------------

    def _plan(self, loaded: LoadedBundle) -> tuple[RoutinePlan | SwarmPlan | None, list[Problem]]:
        problems = list(loaded.problems)
        bundle = loaded.bundle
        plan: RoutinePlan | SwarmPlan | None = None
        if isinstance(bundle, SwarmBundle) or bundle.main in bundle.routines:
            problems.extend(loaded.place(self._offer_servers(bundle)))
            plan, found = self._planned(loaded, {(problem.line, problem.message) for problem in problems})
            problems.extend(found)
            problems.extend(self._check_models(loaded, plan))
            problems.extend(self._broken_tool_files(problems))
        if any(not problem.warning for problem in problems):
            return None, problems
        return plan, problems

    def _planned(
        self, loaded: LoadedBundle, said: Collection[tuple[int, str]]
    ) -> tuple[RoutinePlan | SwarmPlan | None, list[Problem]]:
        """The plan and what is wrong with it; a plan that was checked before against the same tools is taken as it is.

        Args:
            loaded: With its problems, which are not told again.
            said: Their lines and messages.
        """
        bundle, recalled, tools = loaded.bundle, loaded.recalled, self.tools.digest()
        if isinstance(bundle, Bundle) and recalled is not None and recalled.tools == tools:
            again = plan_again(bundle, self.tools, recalled.plans)
            if again is not None:
                return again, list(recalled.problems)
        plan, found = self.tier1.plan(bundle) if isinstance(bundle, SwarmBundle) else self.tier2.plan(bundle)
        problems = [one for one in loaded.place(found) if (one.line, one.message) not in said]
        problems.extend(loaded.place(plan_agents(bundle, self.tools)[1]))
        problems.extend(self._check_rules(loaded))
        if isinstance(plan, RoutinePlan) and self._kept and all(problem.warning for problem in problems):
            plans = written(plan)
            if plans is not None:
                self._checked = loaded, Recalled(tools, plans, tuple(problems))
        return plan, problems

    def _remember(self) -> None:
        """Keep the last plan that was checked, so that the next start from its files is quick; never fails."""
        if self._checked is not None:
            from vrooli_cli.loading.recall import remember

            loaded, checked = self._checked
            self._checked = None
            remember(loaded, self.store, checked)

    def _no_model_to_plan(self, plan: SwarmPlan, models: Iterable[Sequence[str]]) -> VrooliError | None:
        """Why nobody can divide a swarm's goal; None when somebody can."""
        return self.ai.bind(plan.swarm.extras.get("models")).missing(models)

    def _check_models(self, loaded: LoadedBundle, plan: RoutinePlan | SwarmPlan | None) -> list[Problem]:
        """Models without a price, or with one that nobody can reach, at the steps that name them."""
        problems: list[Problem] = []
        if plan is not None and not isinstance(plan, RoutinePlan):
            found = self.ai.bind(plan.swarm.extras.get("models")).check(plan.asking())
            problems.extend(loaded.place(replace(problem, file=plan.swarm.key) for problem in found))
        for key, routine in loaded.bundle.routines.items():
            used = [(step.model, (*step.pointer, "model")) for step in _asking(routine)]
            if used:
                found = self.ai.bind(routine.extras.get("models")).check(used)
                problems.extend(loaded.place(replace(problem, file=key) for problem in found))
        return problems

    def _need_models(self, bundle: Bundle | SwarmBundle, plan: RoutinePlan | SwarmPlan) -> None:
        """Raises ``AI_UNAVAILABLE`` before any step runs that would be wasted."""
        asking = [(one.extras.get("models"), [step.model for step in _asking(one)]) for one in bundle.routines.values()]
        if not isinstance(plan, RoutinePlan):
            asking.append((plan.swarm.extras.get("models"), [models for models, _ in plan.asking()]))
        for definitions, used in asking:
            missing = self.ai.bind(definitions).missing(used) if used else None
            if missing is not None:
                raise missing

    def _offer_servers(self, bundle: Bundle | SwarmBundle) -> list[Problem]:
        """Make the tools of MCP servers known that the files name; nothing is started."""
        definitions = (_definition(bundle), *bundle.routines.values())
        problems = [
            problem for one in definitions for problem in self._servers.add(one.extras.get("mcp_servers") or {})
        ]
        names = [name for one in definitions for name in tools_named(one)]
        problems += self._servers.unpinned(names)
        for tool in self._servers.tools(names):
            if self.tools.get_tool(tool.name) is None:
                self.tools.register_tool(tool)
        return problems

    def _broken_tool_files(self, found: list[Problem]) -> list[Problem]:
        """What is wrong with tool files: a warning, unless the file names a tool that is not there."""
        missing = any(problem.code == "TOOL_NOT_FOUND" for problem in found)
        return [replace(problem, warning=not missing) for problem in self._custom.problems]

    def _check_rules(self, loaded: LoadedBundle) -> list[Problem]:
        known = {tool.name: list(tool.schema.get("properties", {})) for tool in self.tools}
        problems: list[Problem] = []
        for key, permissions, at, extras in _permission_levels(loaded.bundle):
            servers = list(extras.get("mcp_servers") or {})
            found = check_permissions(permissions, pointer=(*at, "permissions"), tools=known, servers=servers)
            problems.extend(loaded.place(replace(problem, file=key) for problem in found))
        return problems

    def _open(self, opening: Opening) -> Opened:
        """Channel and scope of a new root run, or of one that goes on."""
        context = opening.context
        secrets = self._secrets(opening)
        masker = Masker(secrets) if secrets else None
        metadata = EventMetadata(context.correlation_id, context.user_id, context.swarm_id)
        earlier = self._earlier_run(opening, masker)  # it may be unreadable: then nothing begins
        channel, lease = self._channel(opening, metadata, masker)
        self._leases[context.execution_id] = lease, masker
        try:
            work = _WorkFolder(context.execution_id)
            if any("work_dir" in text for text in opening.bundle.texts.values()):
                work.path()
            scope = self._scope(opening, channel.publish, work)
        except BaseException:
            self._release(context.execution_id)
            raise
        scope.synced = channel.synced
        scope.committed = channel.committed
        scope.masker = masker
        scope.secrets = secrets
        fold = self._follow(opening, channel, scope)
        agents = EventAgents(
            plan_agents(opening.bundle, self.tools)[0],
            watchers(self.project.agents, has_secrets=bool(secrets)),
            channel,
            scope,
            self.tier2,
            self._narrowed,
            opening.inputs,
            opening.options.environ,
        )

        inbox = Inbox(self.store, channel.key)
        channel.fold(inbox.note, ANSWERED)

        async def close(result: ExecutionResult) -> None:
            try:
                await self._close_run(opening, channel, work, result)
                if result.status is not ExecutionStatus.SUSPENDED:
                    inbox.clear()
            finally:
                self._release(context.execution_id)
                if fold is not None:
                    fold.close(result.error.wire() if result.error else None)

        return Opened(
            channel=channel,
            scope=scope,
            narrow=self._narrowed,
            close=close,
            work_dir=work.place,
            settle=agents.settle,
            inbox=inbox,
            reuse=Reuse(self.store, context.execution_id, channel.key, VROOLI, masker, earlier, opening.options.cache),
        )

    def _trace(self, opening: Opening) -> Trace | None:
        """The names of the run's spans; None when nobody asked for traces."""
        if self._tracer is None:
            return None
        run_id = opening.context.execution_id
        earlier = self._earlier.get(run_id)
        resumed = [fact for fact, _ in opening.log if isinstance(fact, RoutineResumed | SwarmResumed)]
        life = 2 + sum(fact.execution_id == run_id for fact in resumed) if opening.log else 1
        return self._tracer.trace(run_id, earlier.trace if earlier is not None else None, life)

    def _follow(self, opening: Opening, channel: Channel, scope: Scope) -> SpanFold | None:
        """Make spans of the run's events, and let its calls say what they belong to."""
        trace = self._trace(opening)
        if self._tracer is None or trace is None:
            return None
        scope.traced = trace.carried
        definition = _definition(opening.bundle)
        kind = "swarm" if isinstance(definition, SwarmDefinition) else "routine"
        followed = self._tracer.follow(trace, definition.name, kind=kind, user=opening.context.user_id)
        if followed is None:
            return None
        fold, apply = followed
        channel.fold(apply)
        return fold

    def _earlier_run(self, opening: Opening, masker: Masker | None) -> EarlierRun | None:
        """The run that is run again, with what each of its steps depended on.

        Raises:
            DefinitionError: Its definition is not recorded, or this version does not take it any more.
            StoreError: Its log cannot be read.
        """
        run_id = opening.options.earlier
        if run_id is None:
            return None
        environ = opening.options.environ
        from vrooli_cli.loading.bundle import load_stored

        key, record = self.store.find(run_id)
        bundle = load_stored(record.definition or {}).bundle
        plan, problems = self.tier2.plan(bundle) if isinstance(bundle, Bundle) else (None, [])
        if plan is None:
            raise refusal(problems)
        secret = {name: opening.inputs.get(name) for name, one in plan.routine.inputs.items() if one.secret}
        known = _unsealed(record.inputs or {}, masker) if masker is not None else record.inputs or {}
        events = replay(self.store, key, masker=masker, whole=True)
        return EarlierRun(
            record.id,
            plan,
            {**known, **secret},
            ((event.fact, ns_of(event.timestamp)) for event in events if event.fact is not None),
            MachineOptions(environ=environ),
            str((record.settings or {}).get("vrooli", "")),
            opening.options.forced,
        )

    def _channel(self, opening: Opening, metadata: EventMetadata, masker: Masker | None) -> tuple[Channel, Lease]:
        """The stream of a run, and the right to work on it."""
        record = self._record(opening, masker)
        life = self._earlier.get(record.id)
        if life is None:
            lease = self._lease(record.id)
            try:
                return self.event_bus.open(record, metadata, masker=masker), lease
            except BaseException:
                lease.release()
                raise
        channel = self.event_bus.open(record, metadata, masker=masker, key=life.key, next_seq=life.next_seq)
        self.store.update_run(life.key, status="running", ended_ns=None, error_code=None, settings=record.settings)
        return channel, life.lease

    def _note_commands(self, run_id: str) -> None:
        """A command of a run has begun: whoever finds the run dead is to know what may still be at work."""
        if run_id in self._leases:
            lease, masker = self._leases[run_id]
            notes = orphans.note(self.host.processes.at_work(run_id))
            lease.note(masker.mask(notes) if masker is not None else notes)

    def _release(self, run_id: str) -> None:
        lease, _ = self._leases.pop(run_id, (None, None))
        if lease is not None:
            lease.release()

    def _declared_secrets(self, bundle: Bundle | SwarmBundle, environ: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for declared in (_definition(bundle), *bundle.routines.values()):
            found.update(resolve_secrets(declared.secrets, environ))
            for name, one in declared.inputs.items():  # those of child routines read their variable, too
                if one.secret and one.env and environ.get(one.env):
                    found.setdefault(name, environ[one.env])
        return found

    def _secrets(self, opening: Opening) -> dict[str, str]:
        """Every value that must not leave the process: declared secrets, and inputs marked ``secret``."""
        found = self._declared_secrets(opening.bundle, opening.options.environ)
        for name, declared in _definition(opening.bundle).inputs.items():
            value = opening.inputs.get(name)
            if declared.secret and isinstance(value, str) and value:
                found[name] = value
        return found

    def _record(self, opening: Opening, masker: Masker | None) -> RunRecord:
        context, routine = opening.context, _definition(opening.bundle)
        secret = {name for name, declared in routine.inputs.items() if declared.secret}
        return RunRecord(
            id=context.execution_id,
            name=routine.name,
            kind="swarm" if isinstance(routine, SwarmDefinition) else "routine",
            path=routine.path,
            status="running",
            started_ns=self.clock.now_ns(),
            parent=context.parent_execution_id,
            user=context.user_id,
            definition={"texts": dict(opening.bundle.texts), **opening.bundle.origin},
            inputs=_sealed({name: value for name, value in opening.inputs.items() if name not in secret}, masker),
            settings={**opening.options.settings, **self._circumstances(opening)},
            context=context.record(),
        )

    def _circumstances(self, opening: Opening) -> dict[str, Any]:
        """What a resume needs to know of this call, beside the flags."""
        trace = self._trace(opening)
        traced = {} if trace is None else {"trace": trace.stored()}
        level = {name: [[rule.text, rule.source] for rule in rules] for name, rules in _rules(self._permissions)}
        known: dict[str, Any] = {"folder": self._folder, "vrooli": VROOLI} | traced
        options = opening.options
        if options.earlier is not None:
            known["reuse"] = {"earlier": options.earlier, "forced": list(options.forced)}
        if not options.cache:
            known["cache"] = False
        return known | ({"permissions": level} if self._permissions else {})

    def _scope(self, opening: Opening, emit: Any, work: _WorkFolder) -> Scope:
        context, allocation, routine = opening.context, opening.allocation, _definition(opening.bundle)
        account = Account(context.execution_id, int(allocation.max_credits))
        gate = Gate(self._approver)
        for fact, _ in opening.log:
            if isinstance(fact, ApprovalGranted) and fact.digest:
                gate.grant(fact.execution_id, fact.step_id, fact.digest)
        for lost in account.restore(fact for fact, _ in opening.log):
            emit(lost)
        memory = MemoryMeter(allocation.max_memory_mb, emit=emit, execution_id=context.execution_id)
        return Scope(
            execution_id=context.execution_id,
            root_id=context.execution_id,
            emit=emit,
            account=account,
            gate=gate,
            policy=self._policy(routine.permissions),
            tools=self.tools,
            host=self._host(routine),
            clock=self.clock,
            ai=self.ai.bind(routine.extras.get("models"), _memo(opening)),
            folder=self._folder,
            roots=self._roots(opening, work),
            work_dir=work.path,
            grace=opening.options.grace_ms / 1000,
            memory=memory,
            strategies=_strategy_levels(routine),
            user_id=context.user_id,
            correlation_id=context.correlation_id,
            swarm_id=context.swarm_id,
        )

    def _host(self, definition: Routine | SwarmDefinition) -> LocalHost:
        """Where the tool calls of a run are done: what a flag says, else the file or its project, else here."""
        address = scheduler_address(self.settings.executor_over(definition.extras.get("executor")))
        if not address:
            return self.host
        host = self._hosts.get(address)
        if host is None:
            from vrooli_cli.tier3.dask import DaskHost

            host = self._hosts[address] = DaskHost(self.host, address, self._custom.tools, self._tool_folders)
        return host

    def _policy(self, routine: Permissions) -> Policy:
        policy = Policy()
        levels = (
            ("command line", self._permissions),
            ("project", self.project.permissions),
            ("routine", routine),
        )
        for name, permissions in levels:
            if permissions:
                policy = policy.narrow(name, permissions)
        return policy

    def _roots(self, opening: Opening, work: _WorkFolder) -> tuple[str, ...]:
        """Where file tools may go without a rule (spec tools.md, "Permissions")."""
        roots = [self._folder, work.place]
        if self.project.root is not None:
            roots.append(str(self.project.root))
        for name, declared in _definition(opening.bundle).inputs.items():
            value = opening.inputs.get(name)
            if declared.schema.get("format") == "path" and isinstance(value, str) and value != declared.default:
                roots.append(str(Path(self._folder, value)))
        return tuple(roots)

    def _narrowed(self, run: RunContext, above: Scope) -> Scope:
        """The scope of a child run: its own account, rules and environment, inside its parent's."""
        routine = run.plan.routine
        account, memory = above.account, above.memory
        if routine.limits.max_credits is not None:
            account = Account(run.execution_id, routine.limits.max_credits, account)
        if routine.limits.max_memory_mb is not None:
            memory = MemoryMeter(routine.limits.max_memory_mb, memory, emit=above.emit, execution_id=run.execution_id)
        policy = above.policy.narrow(f"routine {routine.name}", routine.permissions)
        return above.child(
            execution_id=run.execution_id,
            account=account,
            memory=memory,
            policy=policy if routine.permissions else above.policy,
            host=self._host(routine) if routine.extras.get("executor") else above.host,
            ai=above.ai.with_models(routine.extras["models"]) if routine.extras.get("models") else above.ai,
            env=dict(run.env),
            strategies=(*above.strategies, *_strategy_levels(routine)),
        )

    def _scope_of_request(self, context: ExecutionContext, allocation: ResourceAllocation) -> Scope:
        """The handles of one step that tier 3 is asked for directly: its events are heard, and kept with its run."""
        record = RunRecord(
            id=context.execution_id, name="step", kind="step", status="running", started_ns=self.clock.now_ns()
        )
        metadata = EventMetadata(context.correlation_id, context.user_id, context.swarm_id)
        masker = Masker(self.project_secrets) if self.project_secrets else None
        channel = self.event_bus.open(record, metadata, masker=masker)
        work = _WorkFolder(context.execution_id)
        self._steps[context.execution_id] = (channel, work)
        return Scope(
            execution_id=context.execution_id,
            root_id=context.execution_id,
            emit=channel.publish,
            account=Account(context.execution_id, int(allocation.max_credits)),
            gate=Gate(self._approver),
            policy=self._policy(Permissions()),
            tools=self.tools,
            host=self.host,
            clock=self.clock,
            ai=self.ai.bind(),
            folder=self._folder,
            roots=(self._folder, work.place),
            work_dir=work.path,
            memory=MemoryMeter(allocation.max_memory_mb, emit=channel.publish, execution_id=context.execution_id),
            synced=channel.synced,
            user_id=context.user_id,
            correlation_id=context.correlation_id,
            secrets=self.project_secrets,
            masker=masker,
        )

    async def _close_step(self, scope: Scope, result: ExecutionResult) -> None:
        """The end of a step that tier 3 was asked for directly."""
        await self.host.end_run(scope.root_id, scope.grace)
        channel, work = self._steps.pop(scope.root_id)
        if channel.failure is None:
            await channel.committed()
            self.store.update_run(channel.key, status=result.status.value, ended_ns=self.clock.now_ns())
        await channel.close()
        work.remove()

    async def _close_run(self, opening: Opening, channel: Any, work: _WorkFolder, result: ExecutionResult) -> None:
        """The run's last moments: nothing is said to be stored that is not."""
        for host in (*self._hosts.values(), self.host):
            await host.end_run(opening.context.execution_id, opening.options.grace_ms / 1000)
        await self.event_bus.barrier()
        try:
            if channel.failure is None:
                await channel.committed()
                self.store.update_run(
                    channel.key,
                    status=result.status.value,
                    ended_ns=self.clock.now_ns(),
                    error_code=result.error.code if result.error else None,
                    credits=int(result.resources_used.credits_used),
                )
                await channel.synced()
        finally:
            await channel.close()
            if result.success or not self._kept:
                work.remove()

    def _now(self) -> Any:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.clock.now_ns() / 1e9, UTC)


def _tracer(environ: Mapping[str, str]) -> Tracer | None:
    """Imported only where somebody asks for traces."""
    if not any(environ.get(f"OTEL_EXPORTER_OTLP_{which}ENDPOINT") for which in ("", "TRACES_")):
        return None
    from vrooli_cli.tracing import Tracer

    return Tracer.of(environ)


def _rules(permissions: Permissions) -> tuple[tuple[str, tuple[Rule, ...]], ...]:
    return (("allow", permissions.allow), ("ask", permissions.ask), ("deny", permissions.deny))


def recorded_bundle(record: RunRecord, store: Store) -> LoadedBundle:
    """The definition under which a run began; from its checked plan, if the store has that.

    Raises:
        DefinitionError: It is not recorded, or this version does not take it any more.
    """
    from vrooli_cli.loading.recall import recall_recorded

    definition = record.definition or {}
    recalled = recall_recorded(definition, store)
    if recalled is not None:
        return recalled
    from vrooli_cli.loading.bundle import load_stored

    return load_stored(definition)


def recorded_permissions(settings: Mapping[str, Any]) -> Permissions:
    """The level of the command line under which a run began."""
    level = settings.get("permissions") or {}
    return Permissions(**{name: tuple(Rule(*rule) for rule in rules) for name, rules in level.items()})


def _sealed(values: Mapping[str, Any], masker: Masker | None) -> Mapping[str, Any]:
    """Inputs as the history keeps them: a secret that stands in another input is a sentinel there."""
    return values if masker is None else dict(json.loads(masker.seal(json.dumps(values, default=str).encode())))


def _unsealed(values: Mapping[str, Any], masker: Masker) -> Mapping[str, Any]:
    text = json.dumps(values, ensure_ascii=False)
    return dict(json.loads(masker.unseal(text.encode("utf-8", "surrogatepass")))) if masker else values


class _WorkFolder:
    """``run.work_dir``: a temporary folder of the run, made when somebody asks for it.

    It has the run's name and stays when a run that is kept has not completed, so that a resume finds in it what
    completed steps have left there.
    """

    def __init__(self, run_id: str) -> None:
        safe = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in run_id)[:80]
        self.place = str(Path(tempfile.gettempdir(), f"vrooli-{safe}"))

    def path(self) -> str:
        """The folder, there for nobody but this user.

        Raises:
            InputError: Somebody else has made a folder of this name.
        """
        folder = Path(self.place)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            raise InputError(f"the work folder {folder} belongs to another user; set TMPDIR to a folder of your own")
        return self.place

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.place, ignore_errors=True)


def _definition(bundle: Bundle | SwarmBundle) -> Routine | SwarmDefinition:
    """What a bundle is for."""
    return bundle.routine if isinstance(bundle, Bundle) else bundle.swarm


def _asked(
    plan: RoutinePlan | SwarmPlan, bundle: Bundle | SwarmBundle, inputs: Mapping[str, Any]
) -> RoutineExecutionInput | SwarmCoordinationInput:
    if not isinstance(plan, RoutinePlan):
        return SwarmCoordinationInput(goal=plan.swarm.goal, bundle=bundle, parameters=dict(inputs))
    return RoutineExecutionInput(routine_id=plan.routine.name, parameters=dict(inputs), bundle=bundle)


def _permission_levels(
    bundle: Bundle | SwarmBundle,
) -> Iterator[tuple[str, Permissions, Pointer, Mapping[str, Any]]]:
    """File, rules, place and extras of every level of a bundle: its swarm, that one's agents, its routines."""
    if isinstance(bundle, SwarmBundle):
        swarm = bundle.swarm
        yield swarm.key, swarm.permissions, (), swarm.extras
        for agent in swarm.agents:
            yield swarm.key, agent.permissions, agent.pointer, swarm.extras
    for key, routine in bundle.routines.items():
        yield key, routine.permissions, (), routine.extras


def _asking(routine: Routine) -> Iterator[Step]:
    """The steps of a routine that ask a model."""
    for step in steps_of(routine):
        if isinstance(step.action, Prompt) or step.strategy in (
            ExecutionStrategy.REASONING,
            ExecutionStrategy.CONVERSATIONAL,
        ):
            yield step


def _memo(opening: Opening) -> Memo | None:
    """What an earlier life of the run was answered, so that it is not paid for twice."""
    if not opening.log:
        return None
    from vrooli_cli.tier3.ai.remembered import Memo

    return Memo.from_facts((fact for fact, _ in opening.log), opening.assume)


def _strategy_levels(routine: Routine | SwarmDefinition) -> tuple[tuple[str, Mapping[str, str]], ...]:
    return ((routine.path or routine.name, routine.policy),) if routine.policy else ()
