"""Event agents: what listens while a run works, outside of its critical path (spec swarm.md, "Event agents").

A user's agent is a small run of tier 2 for each event that it answers: its own execution id, the root's log and ledger,
every check that a written step passes. What such a run does, or says, starts no agent. A failure is an
``agent/finding`` and disturbs nobody; only a *barrier* on ``safety/pre_action`` makes somebody wait: the gate, for its
verdict.

Built in are two folds of events that find things out: :class:`Monitor` and :class:`Security`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vrooli_cli.bus import Channel
from vrooli_cli.bus.listeners import matches
from vrooli_cli.errors import ExpressionError, Problem, VrooliError, did_you_mean
from vrooli_cli.gate import Action, Gate, Verdict
from vrooli_cli.language.expressions import Value, compile_value
from vrooli_cli.ledger import Account
from vrooli_cli.model import events as e
from vrooli_cli.model.addresses import static
from vrooli_cli.model.clock import child_id
from vrooli_cli.model.routine import Bundle, ChildRoutine, EventAgent, Input, Prompt, Routine, Step
from vrooli_cli.model.run import ExecutionStrategy
from vrooli_cli.model.swarm import SwarmBundle, SwarmDefinition
from vrooli_cli.model.values import lean
from vrooli_cli.tier2.context import BlackboardManager, RunContext, check_inputs
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.plan import DependencyResolver, RoutinePlan
from vrooli_cli.tier2.stimuli import RunStarted
from vrooli_cli.tier2.tier import RunStateMachine
from vrooli_cli.tier3.registry import ToolRegistry
from vrooli_cli.tier3.scope import Scope

SETTLE_SECONDS = 30.0
"""How long the end of a run waits for its event agents."""
GUARD_SECONDS = 2.0
SLOW_GUARD_SECONDS = 30.0
"""What a guard's answer may take: a tool, and a prompt or a routine."""
_STEP = "do"
_AT_ONCE = 4  # steps of one agent's run
_BARRIER = e.SafetyPreAction.type
_VERDICT = {
    "type": "object",
    "properties": {"verdict": {"enum": ["allow", "deny"]}, "reason": {"type": "string"}},
    "required": ["verdict"],
}
_NAMES = ("event", "inputs", "env", "secrets", "vars", "run", "blackboard")


@lean()
class AgentPlan:
    """A user's agent, compiled.

    Attributes:
        name: In addresses and findings.
        when: Over ``event`` and the run's inputs; None is always.
        plan: One step that does what the agent does.
        home: The child routine that it belongs to, whose runs it listens to; "" listens to everything.
    """

    name: str
    definition: EventAgent
    when: Value | None
    plan: RoutinePlan
    home: str = ""

    @property
    def is_guard(self) -> bool:
        """True when an action waits for its verdict."""
        return self.definition.barrier and self.definition.subscribe == _BARRIER


def plan_agents(bundle: Bundle | SwarmBundle, tools: ToolRegistry) -> tuple[list[AgentPlan], list[Problem]]:
    """The event agents of a routine or swarm and of all that it can reach, and all that is wrong with them.

    They are all there before the first step, so that the barrier of a child routine is up before the child's first
    action. Problems name their file by key.
    """
    main = bundle.routine if isinstance(bundle, Bundle) else bundle.swarm
    owners: list[Routine | SwarmDefinition] = [main, *(one for one in bundle.routines.values() if one is not main)]
    listed = [(owner, agent) for owner in owners for agent in owner.events]
    if not listed:
        return [], []
    names = _names([agent for _, agent in listed])
    made = {
        f"events.{name}": _routine(agent, name, owner, bundle.routines)
        for name, (owner, agent) in zip(names, listed, strict=True)
    }
    resolver = DependencyResolver(Bundle("", {**bundle.routines, **made}), tools)
    problems: list[Problem] = []
    agents = []
    for name, (owner, agent) in zip(names, listed, strict=True):
        when = _when(agent, owner, problems)
        plan = resolver.create_execution_plan(f"events.{name}")
        agents.append(AgentPlan(name, agent, when, plan, "" if owner is main else owner.name))
    return agents, [*problems, *resolver.problems]


def _names(agents: Sequence[EventAgent]) -> list[str]:
    """What each agent is called, without two of a name."""
    names: list[str] = []
    for number, agent in enumerate(agents):
        name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in agent.name) or str(number)
        names.append(name if name not in names else f"{name}-{number}")
    return names


def _routine(agent: EventAgent, name: str, main: Routine | SwarmDefinition, routines: Mapping[str, Routine]) -> Routine:
    """The agent's action as a routine of one step."""
    action = agent.action
    if isinstance(action, ChildRoutine):
        child = routines.get(action.target)
        if child is not None and "event" in child.inputs and "event" not in action.parameters:
            action = replace(action, parameters={**action.parameters, "event": "{{ event }}"})
    is_prompt = isinstance(action, Prompt)
    step = Step(
        id=_STEP,
        action=action,
        pointer=agent.pointer,
        strategy=ExecutionStrategy.CONVERSATIONAL if is_prompt else None,
        model=agent.model,
        output_schema=_VERDICT if is_prompt and agent.barrier else None,
        timeout_ms=agent.timeout_ms,
    )
    return Routine(
        name=f"events.{name}",
        steps=(step,),
        path=main.path,
        key=main.key,
        inputs={**main.inputs, "event": Input("event", {})},
        vars=main.vars,
        env=main.env,
        secrets=main.secrets,
        extras={"models": main.extras["models"]} if "models" in main.extras else {},
    )


def _when(agent: EventAgent, main: Routine | SwarmDefinition, problems: list[Problem]) -> Value | None:
    if not agent.has_when:
        return None
    at = (*agent.pointer, "when")
    found: list[Problem] = []
    value = compile_value(agent.when, mode="expression", pointer=at, problems=found)
    problems += [replace(one, file=main.key) for one in found]
    for ref in value.references:
        root = str(ref.path[0])
        if root != "event" and root != "inputs" and root not in main.inputs:
            hint = did_you_mean(root, ["event", *main.inputs]) or "`when` is asked over `event` and the inputs"
            problems.append(Problem(at, f"there is no name {root!r} here", hint, file=main.key))
    return value


class EventAgents:
    """The agents that listen to one root run.

    Args:
        agents: The users'.
        watchers: The built-in ones.
        channel: Of the run.
        scope: Of the run.
        tier2: Runs what agents do.
        narrow: Narrows a scope for a routine.
        inputs: Of the run.
        environ: Where ``env`` is read.
    """

    def __init__(
        self,
        agents: Sequence[AgentPlan],
        watchers: Sequence[Watcher],
        channel: Channel,
        scope: Scope,
        tier2: RunStateMachine,
        narrow: Callable[[RunContext, Scope], Scope],
        inputs: Mapping[str, Any],
        environ: Mapping[str, str],
    ) -> None:
        self._listeners = [_Listener(agent) for agent in agents if not agent.is_guard]
        self._watchers = watchers
        self._channel = channel
        self._scope = scope
        self._tier2 = tier2
        self._narrow = narrow
        self._inputs = inputs
        self._environ = environ
        self._own: set[str] = set()
        self._homes = {agent.home for agent in agents if agent.home}
        #: Execution → the child routines with agents that it is a part of, and the inputs of each.
        self._within: dict[str, Mapping[str, Mapping[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        self._count: dict[str, int] = {}
        for watcher in watchers:
            self._own.add(child_id(channel.run_id, f"agents.{watcher.name}", 1))
            channel.fold(self._watching(watcher), watcher.kinds)
        if self._homes:
            channel.fold(self._enter, (e.RoutineStarted.type,))
        if self._listeners:
            channel.fold(self._hear)
        for agent in agents:
            if agent.is_guard:
                scope.gate.add_guard(_EventGuard(agent, self))

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Return when every agent has finished, after ``seconds`` at the latest; then they are stopped."""
        self._over = True
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            self._warn(task.get_name().partition("#")[0], f"did not finish in {seconds:g} s after the run's end")
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=self._scope.grace + 1)

    # -- listening ----------------------------------------------------------------------------------------------------

    def _hear(self, event: e.ExecutionEvent) -> None:
        if self._is_own(event) or self._over:
            return
        for listener in self._listeners:
            if listener.runs < listener.agent.definition.max_runs and listener.hears(event.type):
                inputs = self.inputs_for(listener.agent, event.execution_id)
                if inputs is not None:
                    self._consider(listener, event, inputs)

    def _enter(self, event: e.ExecutionEvent) -> None:
        """A routine has started: what happens in it is heard by the agents of every routine around it."""
        fact = event.fact
        if not isinstance(fact, e.RoutineStarted):
            return
        around = self._within.get(fact.parent_execution_id or "", {})
        if fact.routine in self._homes and event.execution_id != self._channel.run_id:
            around = {**around, fact.routine: fact.inputs or {}}
        if around:
            self._within[event.execution_id] = around

    def inputs_for(self, agent: AgentPlan, execution_id: str) -> Mapping[str, Any] | None:
        """The inputs that an agent's texts see when something happens there; None when it is none of its business."""
        return self._within.get(execution_id, {}).get(agent.home) if agent.home else self._inputs

    def _is_own(self, event: e.ExecutionEvent) -> bool:
        """True for what an event agent has caused; a child run of its run is its own as well."""
        if event.execution_id in self._own:
            return True
        if type(event.fact) is e.RoutineStarted and event.fact.parent_execution_id in self._own:
            self._own.add(event.execution_id)
            return True
        return False

    def _consider(self, listener: _Listener, event: e.ExecutionEvent, inputs: Mapping[str, Any]) -> None:
        agent = listener.agent
        wire = event.wire()
        if agent.when is not None:
            try:
                wanted = agent.when.evaluate({**inputs, "inputs": inputs, "event": wire})
            except ExpressionError as error:
                self._warn(agent.name, f"`when` failed: {error.message}")
                listener.runs += 1
                return
            if not wanted:
                return
        listener.runs += 1
        work = self._answer(listener, wire, inputs)
        task = asyncio.get_running_loop().create_task(work, name=f"{agent.name}#{listener.runs}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, listener: _Listener, wire: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        """One run of an agent; whatever goes wrong is a finding."""
        name = listener.agent.name
        try:
            async with listener.turn:
                await self.run(listener.agent, wire, inputs)
        except VrooliError as error:
            self._warn(name, f"failed: {error.message}", {"event": wire["id"], "code": error.code})
        except Exception as bug:
            self._warn(name, f"failed: {type(bug).__name__}: {bug}", {"event": wire["id"], "code": "INTERNAL"})

    async def run(self, agent: AgentPlan, wire: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
        """Do what an agent does for an event; the result of its one step.

        Raises:
            VrooliError: It failed, or would have to wait for a person.
        """
        address = self._next_address(agent.name)
        execution_id = child_id(self._scope.root_id, address, 1)
        self._own.add(execution_id)
        inputs = check_inputs(agent.plan.routine, {**given, "event": wire}, self._environ)
        board = BlackboardManager()
        scope = self._scope.child(
            execution_id=execution_id,
            account=Account(address, None, self._scope.account),
            gate=Gate(self._scope.gate.approver),
            slots=None,
            agent=None,
        )
        scope = self._narrow(RunContext(agent.plan, execution_id, inputs, board), scope)
        self._channel.adopt(execution_id, e.EventMetadata(scope.correlation_id, scope.user_id, scope.swarm_id))
        run = self._tier2.child(
            agent.plan,
            execution_id,
            inputs,
            address=address,
            parent_execution_id=self._scope.root_id,
            channel=self._channel,
            scope=scope,
            narrow=self._narrow,
            options=MachineOptions(max_concurrent=_AT_ONCE, environ=self._environ),
            blackboard=board,
        )
        await run.run(RunStarted(scope.clock.now_ns()))
        return _outcome(run.machine)

    def _next_address(self, name: str) -> str:
        self._count[name] = self._count.get(name, 0) + 1
        return f"events.{name}-{self._count[name]}"

    def _warn(self, agent: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        execution_id = child_id(self._scope.root_id, f"agents.{agent}", 1)
        self._own.add(execution_id)
        self._channel.publish(
            e.AgentFinding(execution_id=execution_id, agent=agent, severity="warning", message=message, details=details)
        )

    def _watching(self, watcher: Watcher) -> Callable[[e.ExecutionEvent], None]:
        execution_id = child_id(self._scope.root_id, f"agents.{watcher.name}", 1)

        def watch(event: e.ExecutionEvent) -> None:
            if event.fact is None:
                return
            for finding in watcher.hear(event.fact):
                self._channel.publish(replace_id(finding, execution_id))

        return watch


def replace_id(finding: e.AgentFinding, execution_id: str) -> e.AgentFinding:
    """The finding under the execution that it is said of."""
    return replace(finding, execution_id=execution_id)


def _outcome(machine: Any) -> Any:
    if machine.status == "completed":
        return machine.result.get(_STEP) if isinstance(machine.result, Mapping) else machine.result
    if machine.status == "suspended":
        raise VrooliError("it would have to wait for a person", code="APPROVAL_REQUIRED")
    error = machine.error or {"code": "CANCELLED", "message": "it was stopped"}
    raise VrooliError(error["message"], code=error["code"])


class _Listener:
    """A user's agent while it listens; its runs are made one after another."""

    def __init__(self, agent: AgentPlan) -> None:
        self.agent = agent
        self.runs = 0
        self.turn = asyncio.Lock()
        self._known: dict[str, bool] = {}

    def hears(self, type_: str) -> bool:
        """True for the types of events that it has subscribed to."""
        known = self._known.get(type_)
        if known is None:
            known = self._known[type_] = matches(self.agent.definition.subscribe, type_)
        return known


class _EventGuard:
    """A barrier agent as the gate sees it; ``max_runs`` does not bound it, for without an answer all is denied."""

    def __init__(self, agent: AgentPlan, agents: EventAgents) -> None:
        self._agent = agent
        self._agents = agents

    @property
    def name(self) -> str:
        """For events and refusals."""
        return self._agent.name

    @property
    def timeout(self) -> float:
        """Seconds that an answer may take; the agent's own ``timeout`` may only shorten it."""
        most = SLOW_GUARD_SECONDS if self._agent.plan.graph.steps[0].kind != "tool" else GUARD_SECONDS
        own = self._agent.definition.timeout_ms
        return most if own is None else min(most, own / 1000)

    def listens(self, action: Action) -> bool:
        """True for every call with effects that its ``when`` does not leave out; one that fails leaves none out."""
        when = self._agent.when
        inputs = self._agents.inputs_for(self._agent, action.execution_id)
        if inputs is None or when is None:
            return inputs is not None
        try:
            return bool(when.evaluate({**inputs, "inputs": inputs, "event": _told_action(action)}))
        except ExpressionError:
            return True

    async def review(self, action: Action) -> Verdict:
        """The verdict; anything but a clear ``allow`` is deny."""
        inputs = self._agents.inputs_for(self._agent, action.execution_id) or {}
        said = await self._agents.run(self._agent, _told_action(action), inputs)
        if isinstance(said, str):
            try:
                said = json.loads(said)
            except ValueError:
                said = None
        rule, source = f"guard {self.name}", "events"
        if isinstance(said, Mapping) and said.get("verdict") == "allow":
            return Verdict("allow", rule, source, str(said.get("reason") or ""))
        reason = said.get("reason") if isinstance(said, Mapping) else None
        return Verdict("deny", rule, source, str(reason or "its answer was no verdict"))


def _told_action(action: Action) -> dict[str, Any]:
    """The ``safety/pre_action`` event that a guard is asked about."""
    fact = e.SafetyPreAction(
        execution_id=action.execution_id,
        step_id=action.address,
        tool_name=action.tool.name,
        effects=action.effects,
        parameters=dict(action.parameters),
        agent_id=action.agent,
    )
    return e.ExecutionEvent(
        type=fact.type, execution_id=fact.execution_id, payload=fact.payload(), id=f"{action.execution_id}-guard"
    ).wire()


# --- built in --------------------------------------------------------------------------------------------------------


class Watcher:
    """A fold of events that finds something out.

    Attributes:
        name: As ``agents: {NAME: false}`` in ``vrooli.yaml`` turns it off.
        kinds: The types of events that it looks at.
    """

    name = ""
    kinds: tuple[str, ...] = ()

    def hear(self, fact: e.Event) -> Iterator[e.AgentFinding]:
        """What this fact shows."""
        raise NotImplementedError


def _finding(agent: str, message: str, step: str | None = None, **details: Any) -> e.AgentFinding:
    return e.AgentFinding(
        execution_id="", agent=agent, severity="warning", message=message, step_id=step, details=details or None
    )


class Monitor(Watcher):
    """Slow steps, the rate of errors, spending."""

    name = "monitor"
    kinds = (
        e.ExecutionCompleted.type,
        e.ExecutionFailed.type,
        e.LedgerSettled.type,
        e.ResourcesWarning.type,
    )
    SLOW_MS = 10_000
    SLOW_FACTOR = 5
    ENOUGH = 10
    _KEPT = 500

    def __init__(self) -> None:
        self._durations: list[int] = []
        self._good = self._bad = 0
        self._rate_told = False
        self._slow: set[str] = set()
        self._spent: dict[str, int] = {}

    def hear(self, fact: e.Event) -> Iterator[e.AgentFinding]:
        """See :class:`Watcher`."""
        if isinstance(fact, e.ExecutionCompleted):
            self._good += 1
            yield from self._duration(static(fact.step_id), fact.duration_ms)
        elif isinstance(fact, e.ExecutionFailed):
            self._bad += 1
            yield from self._rate()
        elif isinstance(fact, e.LedgerSettled):
            if fact.credits:
                step = static(fact.step_id)
                self._spent[step] = self._spent.get(step, 0) + fact.credits
        elif isinstance(fact, e.ResourcesWarning) and fact.resource == "credits":
            yield self._spending(fact)

    def _duration(self, step: str, ms: int) -> Iterator[e.AgentFinding]:
        if ms >= self.SLOW_MS and len(self._durations) >= self.ENOUGH and step not in self._slow:
            from statistics import median

            usual = median(self._durations)
            if ms > self.SLOW_FACTOR * usual:
                self._slow.add(step)
                message = f"{step} took {ms / 1000:.1f} s; half of the steps take less than {usual / 1000:.1f} s"
                yield _finding(self.name, message, step, duration_ms=ms, median_ms=usual)
        if len(self._durations) < self._KEPT:
            self._durations.append(ms)

    def _rate(self) -> Iterator[e.AgentFinding]:
        attempts = self._good + self._bad
        if attempts >= self.ENOUGH and self._bad * 2 >= attempts and not self._rate_told:
            self._rate_told = True
            message = f"{self._bad} of {attempts} attempts have failed"
            yield _finding(self.name, message, failed=self._bad, attempts=attempts)

    def _spending(self, fact: e.ResourcesWarning) -> e.AgentFinding:
        most = sorted(self._spent.items(), key=lambda one: (-one[1], one[0]))[:3]
        shares = ", ".join(f"{step} {credits:,}" for step, credits in most)
        percent = round(100 * fact.used / fact.limit) if fact.limit else 100
        message = f"{percent} % of {fact.limit:,} credits are used; most by {shares or fact.step_id}"
        return _finding(self.name, message, fact.step_id, used=fact.used, limit=fact.limit)


class Security(Watcher):
    """Secrets that turn up in outputs (they are masked there), calls that were denied, norms that were broken.

    Args:
        has_secrets: False when the run has none, so that no output has to be looked at.
    """

    name = "security"
    _MASK = "***"
    _MOST = 50

    def __init__(self, *, has_secrets: bool) -> None:
        self.kinds = (e.PermissionDenied.type, e.NormViolated.type)
        if has_secrets:
            self.kinds += (e.StepCompleted.type, e.ToolReturned.type, e.AIResponded.type)
        self._told: set[tuple[str, str]] = set()

    def hear(self, fact: e.Event) -> Iterator[e.AgentFinding]:
        """See :class:`Watcher`."""
        if isinstance(fact, e.PermissionDenied):
            if fact.rule.startswith("norm "):
                return  # told as what it is: a norm that was broken
            who = f"{fact.agent_id} ({fact.step_id})" if fact.agent_id else fact.step_id
            yield from self._once(
                ("denied", f"{fact.step_id} {fact.tool_name} {fact.rule}"),
                _finding(
                    self.name,
                    f"a call of {fact.tool_name} by {who} was denied by {fact.rule}",
                    fact.step_id,
                    rule=fact.rule,
                    source=fact.source,
                ),
            )
        elif isinstance(fact, e.NormViolated):
            yield from self._once(
                ("norm", f"{fact.agent_id} {fact.norm} {fact.step_id}"),
                _finding(self.name, f"{fact.agent_id} ({fact.role}) broke norm {fact.norm}", fact.step_id),
            )
        elif isinstance(fact, e.StepCompleted | e.ToolReturned | e.AIResponded):
            shown = fact.text if isinstance(fact, e.AIResponded) else fact.result
            if self._holds_secret(shown):
                step = static(fact.step_id)
                message = f"the output of {step} held a secret; it is masked wherever it is shown or kept"
                yield from self._once(("secret", step), _finding(self.name, message, fact.step_id))

    def _once(self, key: tuple[str, str], finding: e.AgentFinding) -> Iterator[e.AgentFinding]:
        if key not in self._told and len(self._told) < self._MOST:
            self._told.add(key)
            yield finding

    def _holds_secret(self, value: Any) -> bool:
        if isinstance(value, str):
            return self._MASK in value
        if isinstance(value, Mapping):
            return any(self._holds_secret(one) for pair in value.items() for one in pair)
        return isinstance(value, list | tuple) and any(self._holds_secret(one) for one in value)


def watchers(settings: Mapping[str, bool], *, has_secrets: bool) -> list[Watcher]:
    """The built-in agents that are not turned off."""
    made: list[Watcher] = [Monitor(), Security(has_secrets=has_secrets)]
    return [watcher for watcher in made if settings.get(watcher.name, True)]
