"""From a goal to tasks and a team."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vrooli_cli.errors import VrooliError
from vrooli_cli.model import events as e
from vrooli_cli.model.swarm import SubTask
from vrooli_cli.tier1.adapting import Adapting, is_kept, placed
from vrooli_cli.tier1.decisions import Halt, Stage, told
from vrooli_cli.tier1.decompose import MOST_REPAIRS, invalid, task_wire
from vrooli_cli.tier1.stimuli import ModelAnswered


class Planning(Adapting):
    """Decomposes the goal, takes the plan or sends it back, and forms the team."""

    def _decompose(self) -> None:
        plan = self.plan
        try:
            if plan.given is not None:
                self._say_tasks(plan.rendered_tasks(self.names()), "given")
            elif (organisation := self._organisation()) is not None and organisation.graph.tasks:
                allocation = organisation.allocate(plan.agents)
                self._say_tasks(organisation.tasks(allocation), "scheme")
            else:
                question = plan.decomposer.question(self.goal, plan.agents, self._lookup(self.goal))
                self._ask("decompose", question)
        except VrooliError as error:
            self._stop_all(Halt("there is no plan", told(error)))

    def _say_tasks(self, tasks: Sequence[SubTask], source: str, repairs: int = 0) -> None:
        self._emit(
            e.GoalDecomposed(
                execution_id=self.root_id,
                goal=self.goal,
                tasks=[task_wire(task) for task in tasks],
                source=source,
                repairs=repairs,
            )
        )
        self._form(tuple(tasks))

    def _planned(self, stimulus: ModelAnswered) -> None:
        """The model's plan: taken, or sent back with all that is wrong."""
        revising = stimulus.purpose == "revise"
        kept = [task.id for task in self.tasks.values() if revising and is_kept(task)]
        answer = str(stimulus.answer)
        reading = self.plan.decomposer.read(answer, self.plan.agents, kept)
        if not reading.violations:
            if revising:
                self._take_revision(reading.tasks)
            else:
                self._say_tasks(reading.tasks, "model", repairs=stimulus.attempt - 1)
        elif stimulus.attempt <= MOST_REPAIRS:
            messages = self._messages + self.plan.decomposer.repair(answer, reading.violations)
            self._ask(stimulus.purpose, messages, stimulus.attempt + 1)
        else:
            self._not_planned(told(invalid(reading.violations)))

    def _not_planned(self, error: Mapping[str, Any]) -> None:
        if self.stage is Stage.REVISING:
            self._give_up(f"and no other plan could be made: {error['message']}")
        else:
            self._stop_all(Halt("there is no plan", error))

    def _form(self, tasks: tuple[SubTask, ...]) -> None:
        try:
            team = self.plan.form(tasks, off=self.norms_off())
        except VrooliError as error:
            self._stop_all(Halt("there is no team", told(error)))
            return
        self._emit(
            e.TeamFormed(
                execution_id=self.root_id,
                assignments=placed(team),
                agents=[_member(one.agent) for one in self.crew.values()],
                roles={agent: list(roles) for agent, roles in team.roles.items()} or None,
                makespan=team.makespan,
                leader=team.leader,
                organisation=team.organisation,
            )
        )
        self._say_assigned(tasks, team)
        if self.options.plan_only:
            self._end("completed", None, None)
        else:
            self._set_to_work()

    def _set_to_work(self) -> None:
        self.stage = Stage.WORKING
        self._watch_duties()


def _member(agent: Any) -> dict[str, Any]:
    return {
        "id": agent.id,
        "name": agent.name,
        "capabilities": list(agent.capabilities),
        "max_concurrent_tasks": agent.max_concurrent_tasks,
        "current_load": agent.current_load,
    }
