"""Duties: what an organisation obliges its members to, and what is told when a deadline passes (spec swarm.md)."""

from __future__ import annotations

from vrooli_cli.model import events as e
from vrooli_cli.tier1.decisions import Deciding
from vrooli_cli.tier1.organise import Duty, roles_of
from vrooli_cli.tier1.state import Task
from vrooli_cli.tier2.instructions import ClearTimer, SetTimer


class Duties(Deciding):
    """Watches over obligations."""

    def _watch_duties(self) -> None:
        organisation = self._organisation()
        if organisation is None:
            return
        assignments = {task.id: [part.agent for part in task.parts] for task in self.tasks.values()}
        for duty in organisation.duties(self.plays, assignments):
            self._watch(duty, self.formed_ns)

    def _watch_goals(self) -> None:
        """Duties that begin when a goal can be worked on."""
        organisation = self._organisation() if self.agenda else None
        while self.agenda:
            task = self.agenda.popleft()
            if organisation is None or self.tasks.get(task.id) is not task:
                continue
            for part in task.parts:
                duty = organisation.goal_duty(task.id, part.agent, roles_of(self.plays, part.agent))
                if duty is not None:
                    self._watch(duty, task.ready_ns)

    def _watch(self, duty: Duty, since: int) -> None:
        if duty.key in self._duties or duty.key in self.fulfilled:
            return
        self._duties[duty.key] = duty
        if duty.seconds is not None:
            times = 1 + self.violated.get(duty.key, 0)
            self._do(SetTimer(("duty", *duty.key), since + int(duty.seconds * 1e9) * times))

    def _overdue(self, key: tuple[str, str, str]) -> None:
        duty = self._duties.get(key)
        if duty is None or key in self.fulfilled or self.over or duty.norm in self.norms_off(duty.agent):
            return
        organisation = self.plan.organisation
        assert organisation is not None
        levels = organisation.superiors(self.plays, duty.agent)
        told = self.violated.get(key, 0)
        above = ", ".join(levels[min(told, len(levels) - 1)]) if levels else None
        open_tasks = ", ".join(name for name in duty.tasks if not self._is_done(name))
        message = f"norm {duty.norm!r} is not fulfilled in time: {open_tasks} is open"
        self._emit(
            e.NormViolated(
                execution_id=self.root_id,
                norm=duty.norm,
                agent_id=duty.agent,
                role=duty.role,
                reason=message,
                task_id=key[2] or None,
                escalated_to=above,
            )
        )
        if told + 1 < len(levels) and duty.seconds is not None:
            self._do(SetTimer(("duty", *key), self._now + int(duty.seconds * 1e9)))

    def _is_done(self, name: str) -> bool:
        task = self.tasks.get(name)
        return task is not None and task.done

    def _fulfil(self, task: Task) -> None:
        for key, duty in list(self._duties.items()):
            if task.id not in duty.tasks or key in self.fulfilled:
                continue
            if all(self._is_done(name) for name in duty.tasks):
                self._emit(
                    e.NormFulfilled(
                        execution_id=self.root_id,
                        norm=duty.norm,
                        agent_id=duty.agent,
                        role=duty.role,
                        task_id=key[2] or None,
                    )
                )
                self._do(ClearTimer(("duty", *key)))
