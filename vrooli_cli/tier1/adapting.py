"""What becomes of a task that failed: another agent, another branch of a choice, another plan; or the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vrooli_cli.errors import VrooliError
from vrooli_cli.model import events as e
from vrooli_cli.model.run import EFFECTS_ORDER, NEVER_TAKEN
from vrooli_cli.model.swarm import Assignment, SubTask
from vrooli_cli.tier1.decisions import Stage
from vrooli_cli.tier1.decompose import Message, task_wire
from vrooli_cli.tier1.endings import Endings
from vrooli_cli.tier1.instructions import CancelTask
from vrooli_cli.tier1.organise import roles_of
from vrooli_cli.tier1.state import COMPLETED, FAILED, RUNNING, Part, Task
from vrooli_cli.tier1.team import TeamStructure

# Failures that another agent would meet as well, or that a person has decided.
_NO_OTHER_AGENT = (NEVER_TAKEN - {"RUN_TIMEOUT"}) | {"APPROVAL_DENIED", "OUTCOME_UNKNOWN", "INTERNAL"}


class Adapting(Endings):
    """Goes on after a failure, while there is a way."""

    def _adapt(self, part: Part) -> None:
        """Another agent, another branch, another plan; or the end."""
        error = part.error or {}
        ways = (self._reassign, self._other_branch, self._revise)
        if not self._may_repeat(part, error) or not any(way(part) for way in ways):
            self._lose(part)

    def _may_repeat(self, part: Part, error: Mapping[str, Any]) -> bool:
        if self._failure is not None and not self.options.keep_going:
            return False
        code = error.get("code")
        if code == "CREDITS_EXHAUSTED":  # an agent's own ceiling is not the others'
            return ">" in str((error.get("context") or {}).get("account", ""))
        return code not in _NO_OTHER_AGENT

    def _reassign(self, part: Part) -> bool:
        if EFFECTS_ORDER[part.effects] >= EFFECTS_ORDER["once"]:
            return False
        agent = self._successor(part)
        if agent is None:
            return False
        code = (part.error or {}).get("code", "")
        needed = ", ".join(sorted(part.task.spec.required_capabilities)) or "do it"
        reason = f"{part.agent} failed ({code}); {agent} is capable of {needed}, permitted, and the least busy"
        self._emit(
            e.TaskReassigned(
                execution_id=self.root_id,
                task_id=part.task.id,
                agent_id=agent,
                from_agent=part.agent,
                reason=reason,
            )
        )
        now_with = {"agent": agent, "reason": reason}
        update = {part.task.id: now_with}
        self._emit(e.TeamUpdated(execution_id=self.root_id, assignments=update, reason=reason))
        return True

    def _successor(self, part: Part) -> str | None:
        """The capable and permitted agent with the least to do that has not had the task."""
        needed = set(part.task.spec.required_capabilities)
        others = {one.agent for one in part.task.parts}
        able = [
            crewman
            for name, crewman in self.crew.items()
            if name not in part.tried
            and name not in others
            and crewman.room
            and needed <= set(crewman.agent.capabilities)
            and self._permitted(name, part.task.id)
        ]
        if not able:
            return None
        best = min(able, key=lambda one: ((len(one.busy) + len(one.queue)) / one.room, one.agent.id))
        return best.agent.id

    def _permitted(self, agent: str, task: str) -> bool:
        organisation = self._organisation(agent)
        if organisation is None:
            return True
        return organisation.not_permitted(agent, task, roles_of(self.plays, agent)) is None

    def _other_branch(self, part: Part) -> bool:
        """A choice falls back to another branch, the innermost first, if some team can do it."""
        organisation = self._organisation()
        goal = organisation.goal_of(part.task.id) if organisation is not None else None
        if organisation is None or goal is None:
            return False
        for choice, number in reversed(goal.branches):
            names = organisation.branches(choice)
            tried = {name: list(gone) for name, gone in self.tried.items()}
            tried.setdefault(choice, []).append(names[number])
            if len(tried[choice]) >= len(names):
                continue
            rest = organisation.without(tried)
            given = {task.id: task.spec for task in self.tasks.values()} if self.source == "given" else {}
            free = [task for task in given.values() if organisation.goal_of(task.id) is None]
            try:
                allocation = rest.allocate(self.plan.agents, free)
                goals = rest.tasks(allocation)
                tasks = self._with_kept(organisation.instead(goals, given, choice) if given else goals)
                team = rest.team(allocation, tasks, self.plan.agents, fixed=self._still(tasks), leader=self.leader)
            except VrooliError:
                continue
            code = (part.error or {}).get("code", "")
            reason = f"{part.task.id} failed ({code}); {choice} is tried by another branch than {names[number]}"
            self._say_revised(tasks, team, reason, "choice", tried)
            return True
        return False

    def _still(self, tasks: Sequence[SubTask]) -> dict[str, Assignment]:
        """What the file assigns of these tasks."""
        names = {task.id for task in tasks}
        return {name: one for name, one in self.plan.swarm.assignments.items() if name in names}

    def _with_kept(self, tasks: Sequence[SubTask]) -> tuple[SubTask, ...]:
        """The tasks; and those of the present plan that are done and that others outside may still read."""
        names = {task.id for task in tasks}
        return (*(task.spec for task in self.tasks.values() if task.done and task.id not in names), *tasks)

    def _lose(self, part: Part) -> None:
        """The task stays failed: the swarm fails, at once or, with ``--keep-going``, when all else is done."""
        if self._failure is None:
            self._failure = part.error

    # -- another plan by the model ------------------------------------------------------------------------------------

    def _revise(self, part: Part) -> bool:
        """Ask the model for another plan of the open part, once; nothing new starts meanwhile."""
        plan = self.plan
        frozen = bool(plan.swarm.assignments)
        if self.revisions or frozen or not self.options.can_ask or self._asked is not None:
            return False
        if EFFECTS_ORDER[part.effects] >= EFFECTS_ORDER["once"]:
            return False
        self.stage = Stage.REVISING
        self._failure = part.error
        code = (part.error or {}).get("code", "")
        self._reason_of_revision = f"{part.task.id} failed ({code}) and no other agent could take it over"
        self._failed_before = self._failed_tasks()
        self._ask("revise", self._revision())
        return True

    def _failed_tasks(self) -> frozenset[str]:
        return frozenset(task.id for task in self.tasks.values() if task.status is FAILED)

    def _revision(self) -> list[Message]:
        tasks = self.tasks.values()
        return self.plan.decomposer.revision(
            self.goal,
            self.plan.agents,
            self._lookup(self.goal),
            done={task.id: task.result for task in tasks if task.done},
            running=[task.spec for task in tasks if is_kept(task) and not task.done],
            failed={task.id: dict(task.error or {}) for task in tasks if task.status is FAILED},
            left=[task.spec for task in tasks if not is_kept(task) and task.status is not FAILED],
        )

    def _take_revision(self, tasks: Sequence[SubTask]) -> None:
        if self._failed_tasks() != self._failed_before:
            self._give_up("and another task failed while a new plan was made")
            return
        kept = [task for task in self.tasks.values() if is_kept(task)]
        whole = (*(task.spec for task in kept), *tasks)
        try:
            had = {task.id: [part.agent for part in task.parts] for task in kept}
            team = self.plan.form(whole, had, self.norms_off())
        except VrooliError as error:
            self._give_up(f"and no team can do the new plan: {error.message}")
            return
        self._failure = None
        self.stage = Stage.WORKING
        self._say_revised(whole, team, self._reason_of_revision, "model", None)

    def _say_revised(
        self,
        tasks: Sequence[SubTask],
        team: TeamStructure,
        reason: str,
        source: str,
        tried: Mapping[str, list[str]] | None,
    ) -> None:
        before = dict(self.tasks)
        assignments = placed(team)
        for task in before.values():
            if is_kept(task) and task.id in assignments:
                agents = [part.agent for part in task.parts]
                assignments[task.id] |= {"agent": agents[0], "reason": self.reasons.get(task.id, "")}
                if len(agents) > 1:
                    assignments[task.id]["agents"] = agents
        self._emit(
            e.PlanRevised(
                execution_id=self.root_id,
                tasks=[task_wire(task) for task in tasks],
                assignments=assignments,
                reason=reason,
                source=source,
                tried=tried,
                organisation=team.organisation,
                roles={agent: list(roles) for agent, roles in team.roles.items()} or None,
            )
        )
        self._say_assigned([task for task in tasks if self.tasks[task.id] is not before.get(task.id)], team)
        for address, part in self.running.items():
            if self.tasks.get(part.task.id) is not part.task:
                self._do(CancelTask(address, "the plan was revised"))
        self._watch_duties()

    def _say_assigned(self, tasks: Sequence[SubTask], team: TeamStructure) -> None:
        for task in tasks:
            one = team.placements[task.id]
            for agent in one.agents:
                self._emit(
                    e.TaskAssigned(execution_id=self.root_id, task_id=task.id, agent_id=agent, reason=one.reason)
                )

    def _give_up(self, why: str) -> None:
        """The revision came to nothing: what failed stays failed."""
        self.stage = Stage.WORKING
        if self._failure is not None:
            self._failure = {**self._failure, "message": f"{self._failure['message']} ({why})"}


def is_kept(task: Task) -> bool:
    """Done or at work: a revision leaves it alone."""
    return task.status in (COMPLETED, RUNNING)


def placed(team: TeamStructure) -> dict[str, Any]:
    """Who does what, as events carry it, with the planned starts."""
    wire = team.wire()
    for name, one in team.placements.items():
        wire[name]["start"] = one.start
    return wire
