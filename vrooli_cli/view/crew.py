"""The part of the screen's knowledge that only a swarm has: its goal, who is in the team, and what each one does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from vrooli_cli.view.text import line


class Member:
    """An agent of the team.

    Attributes:
        tasks: Task id → since when, for what it works on now.
    """

    __slots__ = ("id", "limit", "name", "roles", "tasks", "violations")

    def __init__(self, agent_id: str) -> None:
        self.id = agent_id
        self.name = line(agent_id, 60)
        self.roles = ""
        self.limit = 1
        self.tasks: dict[str, datetime] = {}
        self.violations = 0


class Crew:
    """Goal, members and norms.

    Attributes:
        members: Agent id → member, in the order of the file.
        busy: Members with work, in the order in which they got it.
        agent_of: Task id → agent id; the first of several.
        parts: Task id → how many agents do it, where there are several.
        tasks: The ids in the present plan.
        violations: Norms broken so far; ``last_violation`` is the latest in words.
    """

    __slots__ = (
        "_ended",
        "agent_of",
        "busy",
        "goal",
        "last_violation",
        "members",
        "parts",
        "tasks",
        "violations",
    )

    def __init__(self) -> None:
        self.goal = ""
        self.members: dict[str, Member] = {}
        self.busy: dict[str, Member] = {}
        self.agent_of: dict[str, str] = {}
        self.parts: dict[str, int] = {}
        self.tasks: set[str] = set()
        self._ended: dict[str, int] = {}
        self.violations = 0
        self.last_violation = ""

    def member(self, agent_id: str) -> Member:
        """The member of that id; a new one joins."""
        found = self.members.get(agent_id)
        if found is None:
            found = self.members[agent_id] = Member(agent_id)
        return found

    def form(self, agents: Any, roles: Any, assignments: Any) -> None:
        """The team as ``team/formed`` says it; ``agents`` is a list of agents or of their ids."""
        for agent in _items(agents):
            if isinstance(agent, Mapping):
                limit = agent.get("max_concurrent_tasks")
                self.member(str(agent.get("id"))).limit = limit if type(limit) is int and limit > 0 else 1
            else:
                self.member(str(agent))
        for agent_id, played in roles.items() if isinstance(roles, Mapping) else ():
            words = [str(role) for role in _items(played)] or [str(played)]
            self.member(str(agent_id)).roles = line(", ".join(words), 60)
        self.assign(assignments)

    def assign(self, assignments: Any) -> None:
        """Task id → agent id, or → ``{agent, reason}``."""
        if not isinstance(assignments, Mapping):
            return
        for task_id, agent in assignments.items():
            chosen = agent.get("agent", agent.get("agent_id", "")) if isinstance(agent, Mapping) else agent
            if chosen:
                self.agent_of[str(task_id)] = self.member(str(chosen)).id
            several = agent.get("agents") if isinstance(agent, Mapping) else None
            if isinstance(several, (list, tuple)):
                self.parts[str(task_id)] = len(several)

    def learn_tasks(self, tasks: Any) -> Iterator[list[str]]:
        """The phases of a task graph: generations by ``dependencies``; what lies on a cycle comes last."""
        needs = {
            str(task["id"]): {str(need) for need in _items(task.get("dependencies"))}
            for task in _items(tasks)
            if isinstance(task, Mapping) and "id" in task
        }
        self.tasks = set(needs)
        blocks: dict[str, list[str]] = {}
        open_needs = {}
        for task, wanted in needs.items():
            known = [need for need in wanted if need in needs]
            open_needs[task] = len(known)
            for need in known:
                blocks.setdefault(need, []).append(task)
        phase = [task for task, left in open_needs.items() if not left]
        while phase:
            yield phase
            following = []
            for task in phase:
                del open_needs[task]
                for blocked in blocks.get(task, ()):
                    open_needs[blocked] -= 1
                    if not open_needs[blocked]:
                        following.append(blocked)
            phase = following
        if open_needs:
            yield list(open_needs)

    def takes(self, agent_id: str, task_id: str, at: datetime) -> None:
        """An agent starts a task."""
        member = self.member(agent_id)
        self.agent_of[task_id] = agent_id
        member.tasks[task_id] = at
        self.busy[agent_id] = member

    def leaves(self, agent_id: str, task_id: str) -> None:
        """An agent has ended a task."""
        member = self.member(agent_id)
        member.tasks.pop(task_id, None)
        if not member.tasks:
            self.busy.pop(agent_id, None)

    def completes(self, task_id: str) -> bool:
        """An agent has completed its part; True when that was the last one of the task."""
        self._ended[task_id] = self._ended.get(task_id, 0) + 1
        return self._ended[task_id] >= self.parts.get(task_id, 1)

    def workers(self, task_id: str) -> list[Member]:
        """Who is at work on the task."""
        return [member for member in self.busy.values() if task_id in member.tasks]

    def progress(self, task_id: str) -> str:
        """How far a task of several agents is; empty for any other."""
        several = self.parts.get(task_id, 1)
        return f"{self._ended.get(task_id, 0)} of {several} done" if several > 1 else ""

    def idle(self) -> None:
        """Nobody works (a resumed swarm starts its open tasks again)."""
        for member in self.busy.values():
            member.tasks.clear()
        self.busy.clear()

    def violated(self, agent_id: str, norm: str, reason: str) -> None:
        """An agent broke a norm, or would have."""
        self.member(agent_id).violations += 1
        self.violations += 1
        self.last_violation = line(f"{agent_id}: {norm}: {reason}", 160)


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return [
            {**item, "id": item.get("id", key)} if isinstance(item, Mapping) else key for key, item in value.items()
        ]
    return value if isinstance(value, (list, tuple, set, frozenset)) else ()
