"""What the machine of tier 1 knows: tasks, their parts, agents; and what each fact does to it.

A *task* is a part of the goal. It has one *part* for each agent that does it: one, or as many as a goal needs. Each try
of a part is a child run of tier 2 under an address of its own: ``task:load``, ``task:load@2`` for the next agent,
``task:review[1]`` for the second of several. Only ``evolve`` assigns to what a log must be able to rebuild.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heappush
from typing import Any

from vrooli_cli.errors import IllegalMove
from vrooli_cli.model import events as e
from vrooli_cli.model.clock import active_ns
from vrooli_cli.model.run import EFFECTS_ORDER, Agent, StepStatus
from vrooli_cli.model.swarm import SubTask
from vrooli_cli.tier1.board import SwarmBlackboard
from vrooli_cli.tier1.decompose import task_of
from vrooli_cli.tier1.organise import Play, plays_of

PENDING, READY, RUNNING, SUSPENDED, COMPLETED, FAILED, SKIPPED, CANCELLED = (
    StepStatus.PENDING,
    StepStatus.READY,
    StepStatus.RUNNING,
    StepStatus.SUSPENDED,
    StepStatus.COMPLETED,
    StepStatus.FAILED,
    StepStatus.SKIPPED,
    StepStatus.CANCELLED,
)


class Part:
    """One agent's share of a task.

    Attributes:
        attempt: Tries so far, over all agents; the number of the one at work.
        again: The next start goes on with the try of that number, after a resume.
        tried: Agents that have had it.
        effects: The strongest effect that a try has carried out.
        counts: How many steps of its last try were where at its end.
    """

    __slots__ = (
        "again",
        "agent",
        "attempt",
        "counts",
        "effects",
        "error",
        "execution_id",
        "index",
        "result",
        "started_ns",
        "status",
        "task",
        "tried",
    )

    def __init__(self, task: Task, index: int, agent: str, attempt: int = 0) -> None:
        self.task = task
        self.index = index
        self.agent = agent
        self.attempt = attempt
        self.again = False
        self.tried: list[str] = []
        self.status = PENDING
        self.execution_id = ""
        self.result: Any = None
        self.error: Mapping[str, Any] | None = None
        self.effects = "none"
        self.counts: Mapping[str, int] | None = None
        self.started_ns = 0

    @property
    def base(self) -> str:
        """The address of the first try."""
        name = f"task:{self.task.id}"
        return f"{name}[{self.index}]" if len(self.task.parts) > 1 else name

    @property
    def address(self) -> str:
        """Where the try at work runs."""
        return self.base if self.attempt <= 1 else f"{self.base}@{self.attempt}"


class Task:
    """A part of the goal.

    Attributes:
        order: Its place in the plan.
        phase: Its generation in the task graph.
        rank: When the team's schedule starts it; breaks ties of priority.
        waiting: Dependencies that have not completed.
        children: Tasks that depend on it.
        ready_ns: When its dependencies had completed.
    """

    __slots__ = (
        "children",
        "credits",
        "duration_ms",
        "order",
        "parts",
        "phase",
        "rank",
        "ready_ns",
        "spec",
        "waiting",
    )

    def __init__(self, spec: SubTask, order: int) -> None:
        self.spec = spec
        self.order = order
        self.phase = 0
        self.rank = order
        self.parts: list[Part] = []
        self.waiting = 0
        self.children: list[str] = []
        self.duration_ms = 0
        self.credits = 0
        self.ready_ns = 0

    @property
    def id(self) -> str:
        """Its name."""
        return self.spec.id

    @property
    def status(self) -> StepStatus:
        """The least finished of its parts, a failure before all."""
        found = {part.status for part in self.parts} or {PENDING}
        for status in (FAILED, RUNNING, SUSPENDED, READY, PENDING, CANCELLED):
            if status in found:
                return status
        return COMPLETED

    @property
    def done(self) -> bool:
        """True when every part has completed."""
        return self.status is COMPLETED

    @property
    def agent(self) -> Any:
        """Who does it: a name, or a list of names."""
        names = [part.agent for part in self.parts]
        return names[0] if len(names) == 1 else names or None

    @property
    def result(self) -> Any:
        """Its result; of several agents a map agent → result. None until it has completed."""
        if not self.done:
            return None
        return self.parts[0].result if len(self.parts) == 1 else {part.agent: part.result for part in self.parts}

    @property
    def error(self) -> Mapping[str, Any] | None:
        """Why it failed."""
        return next((part.error for part in self.parts if part.status is FAILED), None)

    @property
    def attempts(self) -> int:
        """Tries of all parts."""
        return sum(part.attempt for part in self.parts)

    def view(self) -> dict[str, Any]:
        """What ``tasks.ID`` is in expressions."""
        return {"result": self.result, "status": self.status.value, "agent": self.agent}


class Crewman:
    """An agent at work.

    Attributes:
        room: Tasks that it may do at one moment.
        busy: Its parts at work.
        queue: Parts that wait for a free place: (-priority, rank, order, part number, part).
    """

    __slots__ = ("agent", "busy", "queue", "room")

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.room = max(agent.max_concurrent_tasks - agent.current_load, 0)
        self.busy: set[str] = set()
        self.queue: list[tuple[int, int, int, int, Part]] = []


class SwarmState:
    """A swarm as the log tells it.

    Attributes:
        tasks: What is in the plan now, in its order.
        left: Tasks that a revision took out of the plan.
        formed: True once there is a team.
        running: Address → part at work.
        plays: Who plays what in the organisation.
        tried: Choice → branches that have failed.
        revisions: Plans that a model made anew.
        not_run: Once it is over: what became of the tasks that never began, as the log says.
        lives: How often the swarm had ended before it went on.
        violated: Duties that were not fulfilled in time → how often that was told.
        agenda: Tasks whose dependencies have completed, to be looked at.
        spent: Base address → tries made there, also by parts that a revision replaced.
    """

    def __init__(self, root_id: str, agents: Sequence[Agent], blackboard: SwarmBlackboard) -> None:
        self.root_id = root_id
        self.crew = {agent.id: Crewman(agent) for agent in sorted(agents, key=lambda agent: agent.id)}
        self.blackboard = blackboard
        self.inputs: Mapping[str, Any] = {}
        self.goal = ""
        self.tasks: dict[str, Task] = {}
        self.left: dict[str, Task] = {}
        self.source = ""
        self.decomposed = False
        self.formed = False
        self.formed_ns = 0
        self.leader: str | None = None
        self.makespan: int | None = None
        self.reasons: dict[str, str] = {}
        self.plays: tuple[Play, ...] = ()
        self.tried: dict[str, list[str]] = {}
        self.revisions = 0
        self.not_run: Mapping[str, Any] = {}
        self.running: dict[str, Part] = {}
        self.phases_seen: set[int] = set()
        self.phases_done: set[int] = set()
        self.violated: dict[tuple[str, str, str], int] = {}
        self.fulfilled: set[tuple[str, str, str]] = set()
        self.status = "pending"
        self.error: Mapping[str, Any] | None = None
        self.result: Any = None
        self.started_ns = 0
        self.first_ns = 0
        self.active_ns = 0
        self.resumptions = 0
        self.lives = 0
        self.agenda: deque[Task] = deque()
        self.spent: dict[str, int] = {}
        self._ended = False
        self._parts: dict[str, Part] = {}
        self._story: deque[str] = deque(maxlen=200)

    # -- finding things -----------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[Part]:
        """Every part of the plan."""
        for task in self.tasks.values():
            yield from task.parts

    def part_of(self, event: Any) -> Part:
        """The part that a ``task/*`` fact speaks of: the one of that task and agent."""
        task = self.tasks.get(event.task_id) or self.left.get(event.task_id)
        agent = getattr(event, "from_agent", None) or event.agent_id
        for part in task.parts if task is not None else ():
            if part.agent == agent:
                return part
        raise IllegalMove(f"{event.type}: no task {event.task_id!r} of {agent!r}; last moves: {list(self._story)}")

    # -- evolve -------------------------------------------------------------------------------------------------------

    def evolve(self, event: e.Event, now: int) -> None:
        """Apply one fact; one that does not fit raises IllegalMove with its story. Other tiers' facts pass by."""
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, now)

    def _move(self, part: Part, event: e.Event, legal: tuple[StepStatus, ...]) -> None:
        self._story.append(f"{event.type} {part.base} ({part.status.value})")
        if part.status not in legal:
            story = [line for line in self._story if f" {part.base} " in line]
            raise IllegalMove(f"{event.type} finds {part.base!r} {part.status.value}; its story: {story}")

    # the swarm

    def _started(self, event: e.SwarmStarted, now: int) -> None:
        self.status = "running"
        self.goal = event.goal
        self.started_ns = self.first_ns = now

    def _over(self, event: Any, now: int) -> None:
        self.active_ns = active_ns(event.duration_ms, self.active_ns, now - self.started_ns)
        self._ended = True
        if type(event) is e.SwarmCompleted:
            self.status, self.result = "completed", event.result
        elif type(event) is e.SwarmFailed:
            self.status, self.error = "failed", event.error
        else:
            self.status = "cancelled"
        if type(event) is not e.SwarmCompleted:
            self.not_run = event.not_run or {}

    def _suspended(self, event: e.SwarmSuspended, now: int) -> None:
        self.active_ns = active_ns(event.duration_ms, self.active_ns, now - self.started_ns)
        self.status = "suspended"

    def _resumed(self, event: e.SwarmResumed, now: int) -> None:
        self.status = "running"
        self.error = self.result = None
        self.not_run = {}
        self.resumptions = event.resumption
        self.started_ns = now
        self.lives += self._ended
        self._ended = False
        self.running.clear()
        self.agenda.clear()
        for crewman in self.crew.values():
            crewman.busy.clear()
            crewman.queue.clear()
        for part in self.parts():
            if part.status is COMPLETED:
                continue
            part.again = part.attempt > 0
            part.status = PENDING
            part.error = part.counts = None
            part.tried = [part.agent] if part.attempt else []
        self._recount(now)

    # the plan

    def _decomposed(self, event: e.GoalDecomposed, now: int) -> None:
        self.source = event.source
        self.decomposed = True
        self.tasks = {wire["id"]: Task(task_of(wire), order) for order, wire in enumerate(event.tasks)}
        self._connect(0)

    def _formed(self, event: e.TeamFormed, now: int) -> None:
        self.formed = True
        self.formed_ns = now
        self.leader = event.leader
        self.makespan = int(event.makespan) if event.makespan is not None else None
        self.plays = plays_of(event.organisation)
        self._assign(event.assignments)
        self._recount(now)

    def _assign(self, assignments: Mapping[str, Any]) -> None:
        for rank, (name, entry) in enumerate(assignments.items()):
            task = self.tasks.get(name)
            if task is None:
                continue
            task.rank = entry.get("start", rank)
            self.reasons[name] = entry.get("reason", "")
            if not task.parts:
                names = entry.get("agents") or [entry["agent"]]
                task.parts = [Part(task, index, agent) for index, agent in enumerate(names)]
                for part in task.parts:
                    part.attempt = self.spent.get(part.base, 0)

    def _revised(self, event: e.PlanRevised, now: int) -> None:
        before = self.tasks
        first = 1 + max((task.phase for task in before.values()), default=-1)
        self.tasks = {}
        for order, wire in enumerate(event.tasks):
            known = before.get(wire["id"])
            if known is None or known.status not in (COMPLETED, RUNNING):
                known = Task(task_of(wire), order)
            else:
                known.spec, known.order = task_of(wire), order
            self.tasks[wire["id"]] = known
        self.left |= {name: task for name, task in before.items() if self.tasks.get(name) is not task}
        self.revisions += event.source == "model"
        if event.tried is not None:
            self.tried = {choice: list(goals) for choice, goals in event.tried.items()}
        if event.organisation is not None:
            self.plays = plays_of(event.organisation)
        self._connect(first, kept=before)
        self._assign(event.assignments)
        self._recount(now)

    def _connect(self, first: int, kept: Mapping[str, Task] | None = None) -> None:
        """Children and phases; a task that was there before keeps its phase, new ones begin at ``first``."""
        import networkx as nx

        graph: Any = nx.DiGraph()
        for task in self.tasks.values():
            task.children = []
            if kept is None or kept.get(task.id) is not task:
                graph.add_node(task.id)
        for task in self.tasks.values():
            for name in task.spec.dependencies:
                if name in self.tasks:
                    self.tasks[name].children.append(task.id)
                    if name in graph and task.id in graph:
                        graph.add_edge(name, task.id)
        for phase, names in enumerate(nx.topological_generations(graph), first):
            for name in names:
                self.tasks[name].phase = phase

    def _recount(self, now: int) -> None:
        """Who waits for whom; what may start is looked at again."""
        for crewman in self.crew.values():
            crewman.queue.clear()
        for task in self.tasks.values():
            known = [self.tasks[name] for name in task.spec.dependencies if name in self.tasks]
            task.waiting = sum(1 for other in known if not other.done)
            if not task.waiting and not task.done and self.formed:
                self._is_ready(task, now)

    def _is_ready(self, task: Task, now: int) -> None:
        task.ready_ns = task.ready_ns or now
        self.agenda.append(task)
        for part in task.parts:
            if part.status in (PENDING, READY):
                self._queue(part)

    def _queue(self, part: Part) -> None:
        part.status = READY
        task = part.task
        entry = (-task.spec.priority, task.rank, task.order, part.index, part)
        heappush(self.crew[part.agent].queue, entry)

    # tasks

    def _task_started(self, event: e.TaskStarted, now: int) -> None:
        part = self.part_of(event)
        self._move(part, event, (READY,))
        part.status = RUNNING
        part.attempt = event.attempt
        part.again = False
        part.execution_id = event.task_execution_id
        part.started_ns = now
        if part.agent not in part.tried:
            part.tried.append(part.agent)
        self.spent[part.base] = max(self.spent.get(part.base, 0), event.attempt)
        self.running[part.address] = part
        self.crew[part.agent].busy.add(part.address)

    def _leave(self, part: Part) -> None:
        self.running.pop(part.address, None)
        self.crew[part.agent].busy.discard(part.address)

    def _task_completed(self, event: e.TaskCompleted, now: int) -> None:
        part = self.part_of(event)
        self._move(part, event, (RUNNING,))
        self._leave(part)
        part.status, part.result, part.error = COMPLETED, event.result, None
        part.counts = event.counts
        task = part.task
        task.duration_ms += event.duration_ms
        task.credits += event.credits
        if self.tasks.get(task.id) is not task or not task.done:
            return
        self.blackboard.put(task.id, task.result, [one.agent for one in task.parts])
        for name in task.children:
            child = self.tasks[name]
            child.waiting -= 1
            if not child.waiting:
                self._is_ready(child, now)

    def _task_failed(self, event: e.TaskFailed, now: int) -> None:
        part = self.part_of(event)
        self._move(part, event, (RUNNING, READY))
        self._leave(part)
        part.status, part.error = FAILED, event.error
        part.counts = event.counts or part.counts
        part.task.duration_ms += event.duration_ms
        if EFFECTS_ORDER.get(event.effects or "none", 0) > EFFECTS_ORDER[part.effects]:
            part.effects = event.effects or "none"

    def _task_reassigned(self, event: e.TaskReassigned, now: int) -> None:
        part = self.part_of(event)
        self._move(part, event, (FAILED,))
        part.agent = event.agent_id
        self.reasons[part.task.id] = event.reason
        self._queue(part)

    def _phase_started(self, event: e.PhaseStarted, now: int) -> None:
        self.phases_seen.add(event.phase)
        self.phases_done.discard(event.phase)

    def _phase_completed(self, event: e.PhaseCompleted, now: int) -> None:
        self.phases_done.add(event.phase)

    # norms, blackboard

    def _norm_violated(self, event: e.NormViolated, now: int) -> None:
        if event.execution_id != self.root_id:
            return  # a call that the gate refused
        key = (event.norm, event.agent_id, event.task_id or "")
        self.violated[key] = self.violated.get(key, 0) + 1

    def _norm_fulfilled(self, event: e.NormFulfilled, now: int) -> None:
        self.fulfilled.add((event.norm, event.agent_id, event.task_id or ""))

    def _exported(self, event: e.ContextExported, now: int) -> None:
        part = next((one for one in self.running.values() if one.execution_id == event.execution_id), None)
        address = event.step_id.split("/", 1)[0]
        part = part or self.running.get(address)
        self.blackboard.write(event.values, part.agent if part is not None else None)


_HANDLERS: dict[type[e.Event], Callable[[SwarmState, Any, int], None]] = {
    e.SwarmStarted: SwarmState._started,
    e.SwarmCompleted: SwarmState._over,
    e.SwarmFailed: SwarmState._over,
    e.SwarmCancelled: SwarmState._over,
    e.SwarmSuspended: SwarmState._suspended,
    e.SwarmResumed: SwarmState._resumed,
    e.GoalDecomposed: SwarmState._decomposed,
    e.TeamFormed: SwarmState._formed,
    e.PlanRevised: SwarmState._revised,
    e.TaskStarted: SwarmState._task_started,
    e.TaskCompleted: SwarmState._task_completed,
    e.TaskFailed: SwarmState._task_failed,
    e.TaskReassigned: SwarmState._task_reassigned,
    e.PhaseStarted: SwarmState._phase_started,
    e.PhaseCompleted: SwarmState._phase_completed,
    e.NormViolated: SwarmState._norm_violated,
    e.NormFulfilled: SwarmState._norm_fulfilled,
    e.ContextExported: SwarmState._exported,
}
