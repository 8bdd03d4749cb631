"""What every decision of the machine is made with: a turn's events and instructions, and the words for failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from vrooli_cli.errors import ExpressionError, VrooliError
from vrooli_cli.language.values import describe
from vrooli_cli.model import events as e
from vrooli_cli.model.values import lean
from vrooli_cli.tier2.context import BlackboardManager
from vrooli_cli.tier2.evolve import RunState
from vrooli_cli.tier2.instructions import Instruction
from vrooli_cli.tier2.plan import RoutinePlan
from vrooli_cli.tier2.state import Halt, Names, Node
from vrooli_cli.tier2.stimuli import Answered


@lean(kw_only=True)
class MachineOptions:
    """How a run is run; none of it is part of the routine's meaning.

    Attributes:
        environ: Where ``env``, ``secrets`` and inputs with ``env`` are read; it was looked at once, at the start.
        work_dir: What ``run.work_dir`` says.
        grace_ms: From "please stop" to "stop".
        reuse: Look up every step before it starts, not only those with ``cache``.
        cache: Look up those with ``cache``.
    """

    max_concurrent: int = 8
    keep_going: bool = False
    schedule: str | None = None
    max_duration_ms: int | None = None
    grace_ms: int = 5000
    environ: Mapping[str, str] = field(default_factory=dict)
    work_dir: str = ""
    parent_execution_id: str | None = None
    parent_step_id: str | None = None
    reuse: bool = False
    cache: bool = False


class Deciding(RunState):
    """A run, and one turn of it.

    The machine is a pile of classes, each in a module of its own, that call only themselves and those below:
    ``Deciding``, ``Stopping``, ``Settling``, ``Loops``, ``Attempts``, ``Endings``, and ``RunMachine`` on top.
    """

    def __init__(
        self,
        plan: RoutinePlan,
        execution_id: str,
        inputs: Mapping[str, Any],
        options: MachineOptions,
        *,
        address: str = "",
        blackboard: BlackboardManager | None = None,
    ) -> None:
        super().__init__(
            plan,
            execution_id,
            inputs,
            max_concurrent=options.max_concurrent,
            address=address,
            blackboard=blackboard,
            environ=options.environ,
            work_dir=options.work_dir,
        )
        self.options = options
        self.schedule = options.schedule or plan.routine.schedule
        self._events: list[e.Event] = []
        self._instructions: list[Instruction] = []
        self._now = 0
        self._cancelled: Halt | None = None
        self._answers: dict[str, Answered] = {}
        self._assume: dict[str, str] = {}
        self._waited: set[str] = set()
        self._looking: set[str] = set()
        self._again: dict[str, str] = {}

    def names(self, node: Node, extra: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The names that the texts of a node see."""
        return Names(node.frame, node, self.blackboard, extra)

    def _emit(self, event: e.Event) -> None:
        self._events.append(event)
        self.evolve(event, self._now)

    def _do(self, instruction: Instruction) -> None:
        self._instructions.append(instruction)

    def _duration(self, node: Node) -> int:
        return max(0, self._now - node.started_ns) // 1_000_000 if node.started_ns else 0

    def _elapsed(self) -> int:
        """Active milliseconds of the root run, over all its lives."""
        return (self.active_ns + max(0, self._now - self.started_ns)) // 1_000_000

    def _batch_started(self, node: Node) -> None:
        frame = node.frame
        batch = node.plan.batch
        if not frame.is_routine or frame.batch_seen[batch]:
            return
        members = frame.graph.batches[batch]
        self._emit(
            e.BatchStarted(
                execution_id=frame.run.execution_id,
                batch=batch,
                steps=tuple(frame.graph.steps[index].step.id for index in members[:100]),
                count=len(members),
            )
        )


def step_error(code: str, message: str, step: str | None) -> dict[str, Any]:
    """An error of this tier, as events carry it."""
    return {"code": code, "message": message, "tier": "tier2", "step": step}


def expression_failed(node: Node, where: str, error: VrooliError) -> dict[str, Any]:
    """The error of a step one of whose texts has no value."""
    code = "EXPRESSION_ERROR" if isinstance(error, ExpressionError) else error.code
    return step_error(code, f"{where}: {error.message}", node.address)


def yes_or_no(key: str, answer: Any) -> bool:
    """What a condition has given; null is no. Raises ExpressionError for anything else."""
    if answer is not None and not isinstance(answer, bool):
        raise ExpressionError(f"`{key}` must give true or false, not {describe(answer)}")
    return bool(answer)
