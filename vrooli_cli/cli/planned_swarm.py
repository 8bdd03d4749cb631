"""``vrooli plan`` of a swarm: the goal, the team with its loads and reasons, the phases, the cost from low to high.

Nothing is asked of a model: a goal without tasks is shown with its agents, and with the command that makes the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vrooli_cli.cli.costs import Estimate, estimate_swarm, tools_of_swarms
from vrooli_cli.cli.planned import (
    Paper,
    critical_path,
    models_of,
    plan_wire,
    planned_calls,
    print_chain,
    print_cost,
    print_effects,
)
from vrooli_cli.model.addresses import TASK, root_of
from vrooli_cli.view.text import plural

if TYPE_CHECKING:
    from vrooli_cli.architecture import ExecutionArchitecture
    from vrooli_cli.cli.console import Invocation
    from vrooli_cli.gate import EffectsReport, PlannedCall
    from vrooli_cli.loading.bundle import LoadedBundle
    from vrooli_cli.model.plan import PlanSummary
    from vrooli_cli.tier1.plan import SwarmPlan
    from vrooli_cli.tier1.team import TeamStructure
    from vrooli_cli.tier2.dry import DryStep
    from vrooli_cli.tier3.registry import ToolRegistry

_SHOWN = 200  # tasks, which is as many as a model may make
_ASKS_FOR_TASKS = "goal"
_ASKS_FOR_LAST_WORD = "synthesis"


class SwarmPicture:
    """Everything that is said about the plan of a swarm.

    Attributes:
        team: Who does what; None while a model has yet to make the tasks.
    """

    def __init__(self, plan: SwarmPlan, architecture: ExecutionArchitecture) -> None:
        from vrooli_cli.gate import effects_report

        self.plan = plan
        self.team: TeamStructure | None = plan.known_team
        self.summary: PlanSummary = plan.summary()
        self.report: EffectsReport = effects_report(self._calls(tools_of_swarms(architecture)))
        self.estimate: Estimate = estimate_swarm(architecture, plan)
        self.models = self._models()
        sizes = {task.id: task.estimated_complexity for task in plan.known_tasks}
        self.critical_path = critical_path(self.summary, sizes)

    def wire(self) -> dict[str, Any]:
        """The documented JSON (spec cli.md, ``plan``), with what a swarm has beside it."""
        team = self.team
        return {
            "name": self.summary.name,
            "kind": "swarm",
            "goal": self.plan.swarm.goal,
            "planned": team is not None,
            "team": [self.member(agent.id) for agent in self.plan.agents],
            "makespan": team.makespan if team is not None else None,
            "assignments": team.wire() if team is not None else {},
            **plan_wire(self.summary, self.critical_path, self.report, self.models, self.estimate),
        }

    def tasks_of(self, agent: str) -> list[str]:
        """The tasks that an agent has a part in, in the order of the plan."""
        placements = self.team.placements if self.team is not None else {}
        return [task for task, placed in placements.items() if agent in placed.agents]

    def member(self, agent: str) -> dict[str, Any]:
        """An agent with what it has to do."""
        definition, team = self.plan.members[agent].definition, self.team
        return {
            "agent": agent,
            "name": definition.name,
            "capabilities": list(definition.capabilities),
            "max_concurrent_tasks": definition.max_concurrent_tasks,
            "roles": list(team.roles.get(agent, ())) if team is not None else [],
            "leads": agent == self.plan.swarm.leader,
            "tasks": self.tasks_of(agent),
            "load": team.loads.get(agent, 0.0) if team is not None else 0.0,
        }

    def at_work(self) -> Iterator[tuple[str, str]]:
        """(address, agent) of every part of every task that is known."""
        for task, placed in (self.team.placements if self.team is not None else {}).items():
            for n, agent in enumerate(placed.agents):
                yield (f"{TASK}{task}[{n}]" if len(placed.agents) > 1 else f"{TASK}{task}"), agent

    def _calls(self, tools: ToolRegistry) -> Iterator[PlannedCall]:
        """Of the tasks; of what each agent may do while nobody knows its tasks."""
        unknown = ((f"agent:{agent.id}", agent.id) for agent in self.plan.agents) if self.team is None else ()
        for address, agent in (*self.at_work(), *unknown):
            yield from planned_calls(self.plan.members[agent].plan, tools, f"{address}/")

    def _models(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        plan, swarm = self.plan, self.plan.swarm
        if plan.needs_planner:
            first = next(iter(swarm.planner.model or plan.planner_models), "default")
            found.setdefault(first, []).append(_ASKS_FOR_TASKS)
        for address, agent in self.at_work():
            for name, steps in models_of(plan.members[agent].plan, f"{address}/").items():
                found.setdefault(name, []).extend(steps)
        if swarm.synthesis is not None:
            first = next(iter(swarm.synthesis.model or plan.planner_models), "default")
            found.setdefault(first, []).append(_ASKS_FOR_LAST_WORD)
        return found


def swarm_picture(architecture: ExecutionArchitecture, loaded: LoadedBundle) -> SwarmPicture:
    """The picture of a sound swarm.

    Raises:
        DefinitionError: With everything that is wrong.
    """
    from vrooli_cli.tier1.plan import SwarmPlan

    plan = architecture.plan(loaded)
    assert isinstance(plan, SwarmPlan), "routines have a picture of their own"
    return SwarmPicture(plan, architecture)


def dry_swarm(architecture: ExecutionArchitecture, loaded: LoadedBundle) -> dict[str, DryStep]:
    """What each task would be and who would do it, by address; the goal alone where a model has yet to divide it."""
    from vrooli_cli.tier2.dry import DryStep

    picture = swarm_picture(architecture, loaded)
    if picture.team is None:
        said = "a model divides the goal; `--plan-only` asks it and prints the plan"
        return {"goal": DryStep("goal", "unknown", "prompt", reason=said)}
    steps = {}
    tasks = {task.id: task for task in picture.plan.known_tasks}
    for address, agent in picture.at_work():
        task = tasks[root_of(address).removeprefix(TASK)]
        about = {"description": task.description, "dependencies": list(task.dependencies)}
        known = {name: value for name, value in about.items() if value}
        steps[address] = DryStep(address, "pending", "routine", agent, known)
    return steps


def swarm_plan_text(call: Invocation, picture: SwarmPicture) -> str:
    """The plan of a swarm for people."""
    paper, summary = Paper(call), picture.summary
    agents = plural(len(picture.plan.agents), "agent")
    if picture.team is None:
        paper.head(summary.name, f"a goal for {agents}; a model divides it")
    else:
        phases = plural(len(summary.batches), "phase")
        paper.head(summary.name, f"{plural(len(summary.steps), 'task')} in {phases} for {agents}")
    paper.wrapped(["Goal:", *picture.plan.swarm.goal.split()], " ")
    _team(paper, picture)
    if picture.team is None:
        paper.head("Tasks", "not known yet: planning asks a model")
        name = picture.plan.swarm.path or "FILE"
        paper.row([], f"vrooli run {name} --plan-only  makes the plan and prints it as a file that runs without asking")
    else:
        _phases(paper, picture, picture.team)
        if len(picture.critical_path) > 1:
            length = f"{plural(len(picture.critical_path), 'task')}; the team is done after {picture.team.makespan}"
            paper.head("Critical path", f"{length} units of complexity")
            print_chain(paper, picture.critical_path)
    print_effects(paper, picture.report)
    if picture.models:
        paper.head("Models")
        for name, steps in picture.models.items():
            asked = " → ".join(picture.estimate.asks.get(name, (name,)))
            paper.row([(name if asked == name else f"{name} ({asked})", 0, "")], ", ".join(steps))
    print_cost(paper, picture.estimate)
    return paper.text()


def _team(paper: Paper, picture: SwarmPicture) -> None:
    paper.head("Team")
    wide = min(24, max(len(agent.id) for agent in picture.plan.agents))
    for agent in picture.plan.agents:
        member = picture.member(agent.id)
        tasks = plural(len(member["tasks"]), "task")
        said = [f"{tasks}, load {member['load']:g}"] if picture.team is not None else []
        said += ["leads"] if member["leads"] else []
        said += [f"plays {', '.join(member['roles'])}"] if member["roles"] else []
        said += [f"capable of {', '.join(agent.capabilities)}"] if agent.capabilities else []
        said += [f"{agent.max_concurrent_tasks} at once"] if agent.max_concurrent_tasks > 1 else []
        paper.row([(agent.id, wide, "1")], "; ".join(said))


def _phases(paper: Paper, picture: SwarmPicture, team: TeamStructure) -> None:
    paper.head("Phases")
    summary = picture.summary
    wide = min(28, max((len(name) for name in summary.steps), default=0))
    labels = min(40, max((len(step.label) for step in summary.steps.values()), default=0))
    digits = len(str(len(summary.batches)))
    rows = 0
    for number, batch in enumerate(summary.batches, 1):
        for at, name in enumerate(batch):
            if rows == _SHOWN:
                paper.row([], f"… {len(summary.steps) - rows:,} more tasks")
                return
            rows += 1
            step = summary.steps[name]
            before = f"after {', '.join(step.parents[:6])}{', …' if len(step.parents) > 6 else ''}; "
            paper.row(
                [(str(number) if at == 0 else "", digits, "36"), (name, wide, "1"), (step.label, labels, "")],
                (before if step.parents else "") + team.placements[name].reason,
            )
