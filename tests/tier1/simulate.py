"""A world for the pure machine of tier 1: virtual time, a script of tasks and answers, and checks after every turn."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.tier2.simulate import tools
from vrooli_cli.model import events as e
from vrooli_cli.model.swarm import AgentDefinition, SubTask, SwarmBundle, SwarmDefinition
from vrooli_cli.tier1.decisions import SwarmOptions
from vrooli_cli.tier1.instructions import AskModel, CancelTask, EndSwarm, RunHandler, StartTask, StopHandler
from vrooli_cli.tier1.machine import SwarmMachine
from vrooli_cli.tier1.plan import SwarmPlan, plan_swarm
from vrooli_cli.tier1.state import COMPLETED, RUNNING
from vrooli_cli.tier1.stimuli import HandlerEnded, ModelAnswered, Resumed, Stimulus, SwarmStarted, TaskEnded
from vrooli_cli.tier2.instructions import ClearTimer, SetTimer
from vrooli_cli.tier2.stimuli import TimerFired

START = 1_700_000_000_000_000_000
MS = 1_000_000


def agent(id: str, *capabilities: str, places: int = 1, **keys: Any) -> AgentDefinition:
    return AgentDefinition(id=id, capabilities=capabilities, max_concurrent_tasks=places, **keys)


def task(id: str, *needs: str, after: Sequence[str] = (), size: int = 5, priority: int = 1) -> SubTask:
    return SubTask(
        id=id,
        description=f"do {id}",
        required_capabilities=needs,
        dependencies=tuple(after),
        estimated_complexity=size,
        priority=priority,
    )


def plan_of(agents: Sequence[AgentDefinition], tasks: Sequence[SubTask] | None = None, **keys: Any) -> SwarmPlan:
    """The plan of a swarm; fails the test when the file would be refused."""
    given = None if tasks is None else tuple(tasks)
    swarm = SwarmDefinition(name="s", goal="the goal", key="swarm", agents=tuple(agents), tasks=given, **keys)
    plan, problems = plan_swarm(SwarmBundle(swarm), tools())
    assert plan is not None, [str(problem) for problem in problems]
    return plan


@dataclass(frozen=True)
class End:
    """How a task's run ends, and after how many milliseconds."""

    status: str = "completed"
    result: Any = None
    code: str = "TOOL_FAILED"
    effects: str = "none"
    delay: int = 1
    account: str = ""


Script = Callable[[StartTask], End]


def failed(code: str = "TOOL_FAILED", **keys: Any) -> End:
    return End("failed", code=code, **keys)


@dataclass
class World:
    """Runs a machine to its end, as a shell would, in virtual time."""

    plan: SwarmPlan
    script: Script = lambda order: End(result=f"{order.task} by {order.agent}")
    options: SwarmOptions = field(default_factory=SwarmOptions)
    answers: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    handlers: Mapping[str, str] = field(default_factory=dict)
    log: list[e.Event] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    now: int = START
    status: str | None = None
    peak: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machine = SwarmMachine(self.plan, "run", {}, self.options)
        self._queue: list[tuple[int, int, Stimulus]] = []
        self._count = 0
        self._dropped: set[int] = set()
        self._timers: dict[tuple[str, ...], int] = {}
        self._asked: dict[str, int] = {}
        self._due: dict[str, int] = {}
        self.started: list[StartTask] = []
        self.questions: list[AskModel] = []
        self.handled: list[RunHandler] = []

    def run(self, first: Stimulus | None = None, *, limit: int = 20_000) -> World:
        """Until the machine says that the swarm has ended."""
        self.push(first or SwarmStarted(self.now), 0)
        for _ in range(limit):
            if self.status is not None:
                return self
            if not self._queue:
                raise AssertionError(f"the world stands still; the machine says {self.machine.status}")
            at, number, stimulus = heapq.heappop(self._queue)
            if number not in self._dropped:
                self.now = max(self.now, at)
                self._tell(stimulus)
        raise AssertionError("the swarm does not end")

    def push(self, stimulus: Stimulus, delay_ms: int) -> int:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay_ms * MS, self._count, stimulus))
        return self._count

    def _tell(self, stimulus: Stimulus) -> None:
        object.__setattr__(stimulus, "now", self.now)
        turn = self.machine.handle(stimulus)
        self.log.extend(turn.events)
        self.times.extend([self.now] * len(turn.events))
        check(self.machine)
        for name, crewman in self.machine.crew.items():
            self.peak[name] = max(self.peak.get(name, 0), len(crewman.busy))
        for instruction in turn.instructions:
            self._perform(instruction)

    def _perform(self, order: Any) -> None:
        if isinstance(order, StartTask):
            self.started.append(order)
            end = self.script(order)
            self._due[order.address] = self.push(_ended(order, end), end.delay)
        elif isinstance(order, CancelTask):
            self._dropped.add(self._due.pop(order.address))
            self.push(TaskEnded(0, order.address, "cancelled"), 0)
        elif isinstance(order, AskModel):
            self.questions.append(order)
            self._answer(order)
        elif isinstance(order, RunHandler):
            self.handled.append(order)
            status = self.handlers.get(order.name, "completed")
            error = None if status == "completed" else {"code": "TOOL_FAILED", "message": "handler", "step": None}
            self.push(HandlerEnded(0, order.name, status, error), 1)
        elif isinstance(order, StopHandler):
            self.push(HandlerEnded(0, order.name, "cancelled"), 0)
        elif isinstance(order, SetTimer):
            self._clear(order.key)
            self._timers[order.key] = self.push(TimerFired(0, order.key), max(0, -(-(order.at - self.now) // MS)))
        elif isinstance(order, ClearTimer):
            self._clear(order.key)
        elif isinstance(order, EndSwarm):
            self.status = order.status

    def _answer(self, order: AskModel) -> None:
        given = self.answers.get(order.purpose, ())
        used = self._asked.get(order.purpose, 0)
        self._asked[order.purpose] = used + 1
        answer = given[used] if used < len(given) else {"error": {"code": "AI_UNAVAILABLE", "message": "nobody"}}
        if isinstance(answer, dict) and "error" in answer:
            self.push(ModelAnswered(0, order.purpose, order.attempt, error=answer["error"]), 1)
        else:
            text = answer if isinstance(answer, str) else json.dumps(answer)
            self.push(ModelAnswered(0, order.purpose, order.attempt, text), 1)

    def _clear(self, key: tuple[str, ...]) -> None:
        number = self._timers.pop(key, None)
        if number is not None:
            self._dropped.add(number)

    # -- what a test asks ---------------------------------------------------------------------------------------------

    @property
    def statuses(self) -> dict[str, str]:
        return {name: task.status.value for name, task in self.machine.tasks.items()}

    @property
    def results(self) -> dict[str, Any]:
        return {name: task.result for name, task in self.machine.tasks.items()}

    def types(self) -> list[str]:
        return [event.type.removeprefix("tier1/") for event in self.log]

    def of(self, kind: type[e.Event]) -> list[Any]:
        return [event for event in self.log if type(event) is kind]

    def resumed_at(self, prefix: int) -> World:
        """What becomes of the swarm when its process dies after ``prefix`` events and it is resumed."""
        other = World(self.plan, self.script, self.options, self.answers, self.handlers)
        other.now = (self.times[prefix - 1] if prefix else START) + 5 * MS
        for event, at in zip(self.log[:prefix], self.times[:prefix], strict=True):
            other.machine.evolve(event, at)
        other.log, other.times = self.log[:prefix], self.times[:prefix]
        if other.machine.status == "completed":
            other.status = "completed"
            return other
        return other.run(Resumed(0) if prefix else None)


def _ended(order: StartTask, end: End) -> TaskEnded:
    error: dict[str, Any] | None = None
    if end.status == "failed":
        error = {"code": end.code, "message": "no", "tier": "tier3", "step": f"{order.address}/work"}
        if end.account:
            error["context"] = {"account": end.account}
    return TaskEnded(0, order.address, end.status, end.result, error, end.effects, duration_ms=end.delay)


def check(machine: SwarmMachine) -> None:
    """What is true of every machine after every turn."""
    for crewman in machine.crew.values():
        assert len(crewman.busy) <= crewman.room, "an agent has more at work than places"
    at_work = {
        part.address
        for task in (*machine.tasks.values(), *machine.left.values())
        for part in task.parts
        if part.status is RUNNING
    }
    assert at_work == set(machine.running)
    for one in machine.tasks.values():
        waiting = [name for name in one.spec.dependencies if name in machine.tasks and not machine.tasks[name].done]
        assert one.waiting == len(waiting), one.id
        if any(part.status in (RUNNING, COMPLETED) for part in one.parts):
            assert not waiting, f"{one.id} did not wait for its dependencies"
