"""What every decision of a swarm's machine is made with: a turn's events and instructions, stages, errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from vrooli_cli.errors import ExpressionError, VrooliError
from vrooli_cli.language.expressions import Value
from vrooli_cli.model import events as e
from vrooli_cli.tier1.board import SwarmBlackboard
from vrooli_cli.tier1.decompose import Message
from vrooli_cli.tier1.instructions import AskModel, Instruction
from vrooli_cli.tier1.knowledge import Excerpt
from vrooli_cli.tier1.names import SwarmNames, run_facts
from vrooli_cli.tier1.organise import Duty, Organised
from vrooli_cli.tier1.plan import SwarmPlan
from vrooli_cli.tier1.state import Part, SwarmState
from vrooli_cli.tier1.stimuli import Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmOptions:
    """How a swarm is run; none of it is part of its meaning.

    Attributes:
        plan_only: End when there is a team.
        can_ask: True when a model could be asked to plan again.
    """

    keep_going: bool = False
    schedule: str | None = None
    max_duration_ms: int | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    work_dir: str = ""
    plan_only: bool = False
    can_ask: bool = False


class Stage(Enum):
    """Where a swarm is."""

    PLANNING = "planning"
    WORKING = "working"
    REVISING = "revising"
    SYNTHESIS = "synthesis"
    HANDLERS = "handlers"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Halt:
    """Why everything stops, and as what it ends; without an error it ends as cancelled."""

    reason: str
    error: Mapping[str, Any] | None = None


class Deciding(SwarmState):
    """A swarm, and one turn of it.

    The machine is a pile of classes, each in a module of its own, that call only themselves and those below:
    ``Deciding``, ``Duties``, ``Endings``, ``Adapting``, ``Planning``, and ``SwarmMachine`` on top.

    Args:
        plan: The swarm, compiled.
        execution_id: Of its run.
        inputs: Checked.
        options: How it is run.
        blackboard: Shared with the tasks' runs.
        lookup: What the swarm's knowledge says of a text.
    """

    def __init__(
        self,
        plan: SwarmPlan,
        execution_id: str,
        inputs: Mapping[str, Any],
        options: SwarmOptions,
        *,
        blackboard: SwarmBlackboard | None = None,
        lookup: Callable[[str], Sequence[Excerpt]] | None = None,
    ) -> None:
        board = blackboard if blackboard is not None else SwarmBlackboard()
        super().__init__(execution_id, plan.agents, board)
        self.plan = plan
        self.options = options
        self.schedule = options.schedule or plan.swarm.schedule
        self.inputs = inputs
        self.stage = Stage.PLANNING
        self.synthesis: Any = None
        self._lookup = lookup or (lambda text: ())
        self._settings: dict[str, Any] | None = None
        #: Tasks that had completed before this process; their results are reused.
        self.kept: set[str] = set()
        self._events: list[e.Event] = []
        self._instructions: list[Instruction] = []
        self._now = 0
        self._halt: Halt | None = None
        self._failure: Mapping[str, Any] | None = None
        self._asked: Purpose | None = None
        self._messages: list[Message] = []
        self._handlers: list[str] = []
        self._handler = ""
        self._suspensions: dict[str, str] = {}
        self._duties: dict[tuple[str, str, str], Duty] = {}
        self._reason_of_revision = ""
        self._failed_before: frozenset[str] = frozenset()

    @property
    def over(self) -> bool:
        """True at a real end; False while running and when suspended."""
        return self.stage is Stage.OVER

    @property
    def elapsed_ms(self) -> int:
        """Active milliseconds over all lives."""
        running = max(0, self._now - self.started_ns) if self.status == "running" else 0
        return (self.active_ns + running) // 1_000_000

    def names(self, **extra: Any) -> SwarmNames:
        """The names that the texts of the file see; raises ExpressionError when ``vars`` have no value."""
        return SwarmNames(self, self.settings(), self.plan.task_ids or (), extra)

    def settings(self) -> dict[str, Any]:
        """What ``vars``, ``env``, ``secrets`` and ``run`` are."""
        run = run_facts(self, self.plan.swarm.name, self.options.work_dir)
        if self._settings is None:
            self._settings = self.plan.settings(self.inputs, self.options.environ, run)
        return {**self._settings, "run": run}

    def norms_off(self, agent: str | None = None) -> frozenset[str]:
        """The norms whose condition is false now; one that cannot be evaluated holds.

        Args:
            agent: Whom they are asked about. Without one the plan is being made: then every prohibition holds, and
                so does what depends on how the tasks will go.
        """
        off = set()
        for norm in self.plan.organisation.spec.normative.norms if self.plan.organisation is not None else ():
            condition = self.plan.conditions.get(norm.id)
            if condition is None or (agent is None and (norm.type == "prohibition" or _is_about_tasks(condition))):
                continue
            try:
                if condition.evaluate(self.names(agent=agent)) in (False, None):
                    off.add(norm.id)
            except ExpressionError:
                continue
        return frozenset(off)

    def _organisation(self, agent: str | None = None) -> Organised | None:
        """The rules as far as they hold now."""
        whole = self.plan.organisation
        return whole.without_norms(self.norms_off(agent)) if whole is not None else None

    def _emit(self, event: e.Event) -> None:
        self._events.append(event)
        self.evolve(event, self._now)

    def _do(self, instruction: Instruction) -> None:
        self._instructions.append(instruction)

    def _ask(self, purpose: Purpose, messages: Sequence[Message] = (), attempt: int = 1) -> None:
        self._asked = purpose
        self._messages = list(messages)
        self._do(AskModel(purpose, attempt, tuple(messages)))

    def _say_failed(
        self,
        part: Part,
        error: Mapping[str, Any],
        duration_ms: int = 0,
        effects: str = "none",
        counts: Mapping[str, int] | None = None,
    ) -> None:
        self._emit(
            e.TaskFailed(
                execution_id=self.root_id,
                task_id=part.task.id,
                agent_id=part.agent,
                error=error,
                duration_ms=duration_ms,
                effects=None if effects == "none" else effects,
                counts=counts,
            )
        )


def _is_about_tasks(condition: Value) -> bool:
    return any(ref.path[0] in ("tasks", "blackboard") for ref in condition.references)


def told(error: VrooliError) -> dict[str, Any]:
    """A failure as events carry it."""
    made = task_error(error.code, error.message)
    if error.context:
        made["context"] = error.context
    return made


def task_error(code: str, message: str, step: str | None = None) -> dict[str, Any]:
    """An error of this tier, as events carry it."""
    return {"code": code, "message": message, "tier": "tier1", "step": step}
