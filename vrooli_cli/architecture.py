"""The one place that wires the house: settings → journal, bus, ledger, gate and the three tiers.

::

    architecture = ExecutionArchitecture()
    result = await architecture.tier2.execute(TierExecutionRequest(…))

Nothing here decides anything; it makes things and hands them down.
"""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vrooli_cli.bus import EventBus
from vrooli_cli.errors import DefinitionError, Problem
from vrooli_cli.gate import Approver, Gate, Policy
from vrooli_cli.gate import check as check_permissions
from vrooli_cli.journal import open_store
from vrooli_cli.language.masking import Masker
from vrooli_cli.ledger import Account, ResourceTracker
from vrooli_cli.loading.bundle import LoadedBundle, refusal
from vrooli_cli.loading.inputs import resolve_secrets
from vrooli_cli.loading.project import NO_PROJECT, Project, Settings
from vrooli_cli.model.clock import Clock, Ids, RandomIds, SystemClock
from vrooli_cli.model.events import ApprovalGranted, EventMetadata
from vrooli_cli.model.routine import Bundle, Permissions, Routine
from vrooli_cli.model.run import (
    ExecutionContext,
    ExecutionOptions,
    ExecutionResult,
    ResourceAllocation,
    RoutineExecutionInput,
    TierExecutionRequest,
)
from vrooli_cli.model.store import RunRecord, Store
from vrooli_cli.tier2.context import RunContext
from vrooli_cli.tier2.plan import RoutinePlan
from vrooli_cli.tier2.tier import Opened, Opening, PreparedRun, RunOptions, RunStateMachine
from vrooli_cli.tier3.box import default_tools
from vrooli_cli.tier3.executor import UnifiedExecutor
from vrooli_cli.tier3.host import LocalHost
from vrooli_cli.tier3.memory import MemoryMeter
from vrooli_cli.tier3.registry import Tool, ToolRegistry
from vrooli_cli.tier3.scope import Scope
from vrooli_cli.tier3.strategies import StrategyFactory

DEFAULT_CREDITS = 1_000_000
DEFAULT_CONCURRENCY = 8


class ExecutionArchitecture:
    """Journal, bus, ledger, gate and three tiers, wired.

    Args:
        settings: What flags and environment say; the rest is default.
        project: The project around the files; for permissions, tools and stores.
        tools: Tools beside the ones in the box.
        ai: The seam to models, e.g. ``ScriptedAI(replies)``; None asks the endpoints that are configured.
        store: Where runs are kept; None keeps them in memory.
        clock: Time; a test freezes it.
        ids: New run ids; a test freezes them.
        approver: Who is asked; None defers, so that a run without a person is suspended.
        permissions: The outermost level of rules, from the command line.
        folder: Where relative paths of tools start; None is the current folder.
        environ: The environment that runs may look at; None is the process's.

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
        ai: Any = None,
        store: Store | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        approver: Approver | None = None,
        permissions: Permissions | None = None,
        folder: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.project = project or NO_PROJECT
        self.clock: Clock = clock or SystemClock()
        self.ids: Ids = ids or RandomIds()
        self.store: Store = store if store is not None else open_store(":memory:")
        self.event_bus = EventBus(self.store, self.clock)
        self.tools = ToolRegistry([*default_tools(), *(tools or ())])
        self.tracker = ResourceTracker(self.clock)
        self.host = LocalHost()
        self._environ = dict(os.environ if environ is None else environ)
        self._folder = folder or str(Path.cwd())
        self._approver = approver
        self._permissions = permissions or Permissions()
        self._ai = ai
        strategies = StrategyFactory(self.tools, ai)
        self.tier3 = UnifiedExecutor(
            self.tools, strategies, self.tracker, self.event_bus, scopes=self._scope_of_request
        )
        self.tier2 = RunStateMachine(self.tier3, self.tools, self.tracker, self._open)

    # -- what a caller does -------------------------------------------------------------------------------------------

    def check(self, loaded: LoadedBundle) -> list[Problem]:
        """Everything that is wrong with a bundle or worth a warning, with lines: loading's own, names, graph, rules."""
        return self._plan(loaded)[1]

    def prepare(
        self,
        loaded: LoadedBundle,
        inputs: Mapping[str, Any],
        *,
        options: RunOptions | None = None,
        allocation: ResourceAllocation | None = None,
        run_id: str | None = None,
    ) -> PreparedRun:
        """A run of a loaded routine that has only to be started.

        Raises:
            DefinitionError: With every problem of the bundle, placed.
            InputError: The inputs or secrets are not right.
            StoreError: The run cannot be written down.
        """
        plan, problems = self._plan(loaded)
        if plan is None:
            raise refusal(problems)
        bundle = loaded.bundle
        assert isinstance(bundle, Bundle)
        options = options or RunOptions()
        options = replace(options, environ=options.environ or self._environ)
        asked = RoutineExecutionInput(routine_id=bundle.routine.name, parameters=dict(inputs), bundle=bundle)
        request = TierExecutionRequest(
            context=self.context(run_id),
            input=asked,
            allocation=allocation or self.allocation(bundle.routine),
            options=ExecutionOptions(timeout_ms=self.settings.timeout_ms),
        )
        return self.tier2.prepare(request, options, plan=plan)

    def context(self, run_id: str | None = None) -> ExecutionContext:
        """A fresh context: who runs, when, and under which id."""
        run_id = run_id or self.ids.new()
        return ExecutionContext(execution_id=run_id, user_id=_user(), correlation_id=run_id, timestamp=self._now())

    def allocation(self, routine: Routine) -> ResourceAllocation:
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
        await self.event_bus.close()
        await self.host.aclose()
        self.store.close()

    async def __aenter__(self) -> ExecutionArchitecture:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    # -- wiring -------------------------------------------------------------------------------------------------------

    def _plan(self, loaded: LoadedBundle) -> tuple[RoutinePlan | None, list[Problem]]:
        problems = list(loaded.problems)
        bundle = loaded.bundle
        if not isinstance(bundle, Bundle):
            raise DefinitionError(
                [Problem((), "swarms cannot be run yet by this version", "run a routine", file=loaded.main)]
            )
        plan: RoutinePlan | None = None
        if bundle.routines and bundle.main in bundle.routines:
            plan, found = self.tier2.plan(bundle)
            problems.extend(loaded.place(found))
            problems.extend(self._check_rules(loaded, bundle))
        if any(not problem.warning for problem in problems):
            return None, problems
        return plan, problems

    def _check_rules(self, loaded: LoadedBundle, bundle: Bundle) -> list[Problem]:
        known = {tool.name: list(tool.schema.get("properties", {})) for tool in self.tools}
        problems: list[Problem] = []
        for key, routine in bundle.routines.items():
            servers = routine.extras.get("mcp_servers") or {}
            found = check_permissions(routine.permissions, pointer=("permissions",), tools=known, servers=list(servers))
            problems.extend(loaded.place(replace(problem, file=key) for problem in found))
        return problems

    def _open(self, opening: Opening) -> Opened:
        """Channel and scope of a new root run, or of one that goes on."""
        context = opening.context
        secrets = self._secrets(opening)
        masker = Masker(secrets) if secrets else None
        metadata = EventMetadata(context.correlation_id, context.user_id, context.swarm_id)
        channel = self.event_bus.open(self._record(opening), metadata, masker=masker)
        work = _WorkFolder(context.execution_id)
        if any("work_dir" in text for text in opening.bundle.texts.values()):
            work.path()
        scope = self._scope(opening, channel.publish, work)
        scope.synced = channel.synced
        scope.masker = masker
        scope.secrets = secrets

        async def close(result: ExecutionResult) -> None:
            await self._close_run(opening, channel, work, result)

        return Opened(channel=channel, scope=scope, narrow=self._narrowed, close=close, work_dir=work.place)

    def _secrets(self, opening: Opening) -> dict[str, str]:
        """Every value that must not leave the process: declared secrets, and inputs marked ``secret``."""
        found: dict[str, str] = {}
        for routine in opening.bundle.routines.values():
            values, _ = resolve_secrets(routine.secrets, opening.options.environ)
            found.update(values)
        for name, declared in opening.bundle.routine.inputs.items():
            value = opening.inputs.get(name)
            if declared.secret and isinstance(value, str) and value:
                found[name] = value
        return found

    def _record(self, opening: Opening) -> RunRecord:
        context, routine = opening.context, opening.bundle.routine
        secret = {name for name, declared in routine.inputs.items() if declared.secret}
        return RunRecord(
            id=context.execution_id,
            name=routine.name,
            path=routine.path,
            status="running",
            started_ns=self.clock.now_ns(),
            parent=context.parent_execution_id,
            user=context.user_id,
            definition={"main": opening.bundle.main, "texts": dict(opening.bundle.texts)},
            inputs={name: value for name, value in opening.inputs.items() if name not in secret},
            settings=dict(opening.options.settings),
            context=context.model_dump(mode="json"),
        )

    def _scope(self, opening: Opening, emit: Any, work: _WorkFolder) -> Scope:
        context, allocation, routine = opening.context, opening.allocation, opening.bundle.routine
        account = Account(context.execution_id, int(allocation.max_credits))
        gate = Gate(self._approver)
        for fact, _ in opening.log:
            if isinstance(fact, ApprovalGranted) and fact.digest:
                gate.grant(fact.execution_id, fact.step_id, fact.digest)
        account.restore(fact for fact, _ in opening.log)
        memory = MemoryMeter(allocation.max_memory_mb, emit=emit, execution_id=context.execution_id)
        return Scope(
            execution_id=context.execution_id,
            root_id=context.execution_id,
            emit=emit,
            account=account,
            gate=gate,
            policy=self._policy(routine.permissions),
            tools=self.tools,
            host=self.host,
            clock=self.clock,
            ai=self._ai,
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

    def _policy(self, routine: Permissions) -> Policy:
        policy = Policy()
        levels = (
            ("the command line", self._permissions),
            ("the project", self.project.permissions),
            ("the routine", routine),
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
        for name, declared in opening.bundle.routine.inputs.items():
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
        policy = above.policy.narrow(f"the routine {routine.name}", routine.permissions)
        return above.child(
            execution_id=run.execution_id,
            account=account,
            memory=memory,
            policy=policy if routine.permissions else above.policy,
            env=dict(run.env),
            strategies=(*above.strategies, *_strategy_levels(routine)),
        )

    def _scope_of_request(self, context: ExecutionContext, allocation: ResourceAllocation) -> Scope:
        """The handles of one step that tier 3 is asked for directly: its events are heard, and kept with its run."""
        record = RunRecord(
            id=context.execution_id, name="step", kind="step", status="running", started_ns=self.clock.now_ns()
        )
        metadata = EventMetadata(context.correlation_id, context.user_id, context.swarm_id)
        channel = self.event_bus.open(record, metadata)
        work = _WorkFolder(context.execution_id)
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
            ai=self._ai,
            folder=self._folder,
            roots=(self._folder, work.place),
            work_dir=work.path,
            memory=MemoryMeter(allocation.max_memory_mb, emit=channel.publish, execution_id=context.execution_id),
            synced=channel.synced,
            user_id=context.user_id,
            correlation_id=context.correlation_id,
        )

    async def _close_run(self, opening: Opening, channel: Any, work: _WorkFolder, result: ExecutionResult) -> None:
        """The run's last moments: nothing is said to be stored that is not."""
        await self.host.end_run(opening.context.execution_id, opening.options.grace_ms / 1000)
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
            work.remove()

    def _now(self) -> Any:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.clock.now_ns() / 1e9, UTC)


class _WorkFolder:
    """``run.work_dir``: a temporary folder of the run, made when somebody asks for it."""

    def __init__(self, run_id: str) -> None:
        safe = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in run_id)[:80]
        self.place = str(Path(tempfile.gettempdir(), f"vrooli-{safe}-{os.getpid()}"))

    def path(self) -> str:
        """The folder, there for nobody but this user."""
        Path(self.place).mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.place

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.place, ignore_errors=True)


def _strategy_levels(routine: Routine) -> tuple[tuple[str, Mapping[str, str]], ...]:
    return ((routine.path or routine.name, routine.policy),) if routine.policy else ()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return str(os.getuid()) if hasattr(os, "getuid") else ""
