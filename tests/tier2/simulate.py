"""A world for the pure machine: virtual time, a script of outcomes, and checks after every turn."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vrooli_cli.model import events as e
from vrooli_cli.model.routine import Bundle, Routine, Step, ToolCall
from vrooli_cli.model.run import Effects, ExecutionError
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.instructions import (
    AskApproval,
    CancelAttempt,
    ClearTimer,
    EndRun,
    KillAttempt,
    SetTimer,
    StartAttempt,
)
from vrooli_cli.tier2.machine import RunMachine
from vrooli_cli.tier2.plan import DependencyResolver, RoutinePlan
from vrooli_cli.tier2.state import TERMINAL, Node
from vrooli_cli.tier2.stimuli import Answered, AttemptEnded, Resumed, RunStarted, Stimulus, TimerFired
from vrooli_cli.tier3.registry import Tool, ToolContext, ToolRegistry
from vrooli_cli.tier3.scope import Outcome

START = 1_700_000_000_000_000_000
MS = 1_000_000


async def _nothing(params: dict[str, Any], context: ToolContext, /) -> Any:
    raise NotImplementedError  # the machine calls no tool: the script says what came of it


def tools() -> ToolRegistry:
    """echo, and two tools of other effects; none of them is ever called."""
    schema = {"type": "object", "properties": {"message": {}}}
    kinds: tuple[tuple[str, Effects], ...] = (("echo", "none"), ("read", "idempotent"), ("pay", "once"))
    return ToolRegistry(
        Tool(name=name, description="", schema=schema, execute=_nothing, effects=effects) for name, effects in kinds
    )


def step(id: str, message: Any = "x", *, tool: str = "echo", **keys: Any) -> Step:
    """A tool step."""
    return Step(id=id, action=ToolCall(tool, {"message": message}), pointer=("steps", id), **keys)


def plan_of(steps: Sequence[Step], *, children: Mapping[str, Routine] | None = None, **keys: Any) -> RoutinePlan:
    """The plan of a routine; fails the test when the file would be refused."""
    routine = Routine(name="r", steps=tuple(steps), key="main", **keys)
    resolver = DependencyResolver(Bundle("main", {"main": routine, **(children or {})}), tools())
    plan = resolver.create_execution_plan()
    assert not resolver.problems, [str(problem) for problem in resolver.problems]
    return plan


Script = Callable[[Node, str, int], Outcome | tuple[Outcome, int]]
"""(node, address, attempt) → what comes of it, and after how many milliseconds (1 by default)."""


def failure(code: str = "TOOL_FAILED", message: str = "no") -> Outcome:
    """An attempt that failed."""
    return Outcome(error=ExecutionError(code=code, message=message))


@dataclass
class World:
    """Runs a machine to its end, as a shell would, in virtual time."""

    plan: RoutinePlan
    script: Script | None = None
    options: MachineOptions = field(default_factory=MachineOptions)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, bool | None] = field(default_factory=dict)
    log: list[e.Event] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)  # how long the log was after each turn: what a commit can end with
    now: int = START
    status: str | None = None
    peak: int = 0
    everyone: bool = False  # every question is answered with yes

    def __post_init__(self) -> None:
        self.machine = RunMachine(self.plan, "run", self.inputs, self.options)
        self._queue: list[tuple[int, int, Stimulus]] = []
        self._count = 0
        self._cancelled_timers: set[int] = set()
        self._timers: dict[tuple[str, ...], int] = {}
        self.started: list[tuple[str, int]] = []

    def run(self, first: Stimulus | None = None, *, limit: int = 100_000) -> World:
        """Until the machine says that the run has ended."""
        self.push(first or RunStarted(self.now), 0)
        for _ in range(limit):
            if self.status is not None:
                return self
            if not self._queue:
                raise AssertionError(f"the world stands still; the machine says {self.machine.status}")
            at, number, stimulus = heapq.heappop(self._queue)
            if number in self._cancelled_timers:
                continue
            self.now = max(self.now, at)
            self._tell(stimulus)
        raise AssertionError("the run does not end")

    def push(self, stimulus: Stimulus, delay_ms: int) -> int:
        """A stimulus for later."""
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay_ms * MS, self._count, stimulus))
        return self._count

    def _tell(self, stimulus: Stimulus) -> None:
        object.__setattr__(stimulus, "now", self.now)
        turn = self.machine.handle(stimulus)
        self.log.extend(turn.events)
        self.times.extend([self.now] * len(turn.events))
        self.turns.append(len(self.log))
        check(self.machine)
        self.peak = max(self.peak, len(self.machine.running))
        for instruction in turn.instructions:
            self._perform(instruction)

    def _perform(self, order: Any) -> None:
        if isinstance(order, StartAttempt):
            self.started.append((order.address, order.attempt))
            said = self._outcome(order)
            outcome, delay = said if isinstance(said, tuple) else (said, 1)
            self.push(AttemptEnded(0, order.address, order.attempt, outcome), delay)
        elif isinstance(order, CancelAttempt | KillAttempt):
            attempt = self.machine.running[order.address].attempt
            gone = Outcome(error=ExecutionError(code="CANCELLED", message="stopped"))
            self.push(AttemptEnded(0, order.address, attempt, gone), 0)
        elif isinstance(order, SetTimer):
            self._clear(order.key)
            self._timers[order.key] = self.push(TimerFired(0, order.key), max(0, -(-(order.at - self.now) // MS)))
        elif isinstance(order, ClearTimer):
            self._clear(order.key)
        elif isinstance(order, AskApproval):
            answer = True if self.everyone else self.answers.get(order.address)
            self.push(Answered(0, order.address, answer, by="test"), 1)
        elif isinstance(order, EndRun):
            self.status = order.status

    def _clear(self, key: tuple[str, ...]) -> None:
        number = self._timers.pop(key, None)
        if number is not None:
            self._cancelled_timers.add(number)

    def _outcome(self, order: StartAttempt) -> Outcome | tuple[Outcome, int]:
        if self.script is not None:
            return self.script(order.node, order.address, order.attempt)
        return echo(self.machine, order.node)

    # -- what a test asks ---------------------------------------------------------------------------------------------

    @property
    def statuses(self) -> dict[str, str]:
        """Root step id → status."""
        return {node.plan.step.id: node.status.value for node in self.machine.root.nodes}

    @property
    def results(self) -> dict[str, Any]:
        """Root step id → result."""
        return {node.plan.step.id: node.result for node in self.machine.root.nodes}

    def types(self, of: str | None = None) -> list[str]:
        """The event types in order, of one step or of all."""
        return [event.type for event in self.log if of is None or getattr(event, "step_id", None) == of]

    def resumed_at(self, prefix: int, **resume: Any) -> World:
        """What becomes of the run when its process dies after ``prefix`` events and it is resumed."""
        other = World(self.plan, self.script, self.options, self.inputs, self.answers)
        other.now = (self.times[prefix - 1] if prefix else START) + 5 * MS
        for event, at in zip(self.log[:prefix], self.times[:prefix], strict=True):
            other.machine.evolve(event, at)
        other.log, other.times = self.log[:prefix], self.times[:prefix]
        if other.machine.over and other.machine.status == "completed":
            other.status = "completed"
            return other
        first: Stimulus = Resumed(0, **resume) if prefix else RunStarted(0)
        return other.run(first)


def echo(machine: RunMachine, node: Node) -> Outcome:
    """What the tool echo would answer."""
    assert node.plan.parameters is not None
    return Outcome(result=node.plan.parameters.render(machine.names(node)).get("message"))


def check(machine: RunMachine) -> None:
    """What is true of every machine after every turn."""
    assert 0 <= machine.limiter.used <= machine.limiter.limit, "slots"
    assert machine.limiter.used == len(machine.running), "one slot an attempt"
    for frame in machine.frames.values():
        assert frame.remaining == sum(1 for node in frame.nodes if node.status not in TERMINAL), frame.address
        for node in frame.nodes:
            waiting = sum(1 for parent in node.plan.parents if frame.nodes[parent].status not in TERMINAL)
            assert node.waiting == waiting, node.address
            if node.status.value in ("running", "completed") and not node.reused:
                assert not waiting, f"{node.address} did not wait for its parents"
    for address, node in machine.running.items():
        assert node.here == address
