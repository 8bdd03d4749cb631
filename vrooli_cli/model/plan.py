"""What everybody may know of a plan without networkx: the view, reports, ``vrooli plan``, MCP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from vrooli_cli.model.values import lean


@lean()
class PlannedStep:
    """A step as the view and the plan print it.

    Attributes:
        kind: ``tool``, ``prompt``, ``routine``, ``parallel``, ``wait`` or ``approval``.
        label: The tool's or model's or routine's name.
        loop: ``for_each``, ``matrix``, ``repeat`` or empty.
        line: The step's line in its file, 0 when unknown.
        parents: The ids it waits for, written and implied.
    """

    id: str
    kind: str
    label: str = ""
    name: str = ""
    strategy: str = ""
    loop: str = ""
    line: int = 0
    parents: tuple[str, ...] = ()
    duration_ms: int | None = None


@lean()
class PlanSummary:
    """The batches of one graph; the graphs inside (groups, child routines, handlers) by the path of their step.

    Attributes:
        batches: Topological generations, each in file order.
        steps: Id → step.
        nested: Path → the plan inside, e.g. ``group``, ``call``, ``handlers.finally``.
    """

    name: str
    batches: tuple[tuple[str, ...], ...]
    steps: Mapping[str, PlannedStep]
    description: str = ""
    path: str = ""
    schedule: str = "eager"
    nested: Mapping[str, PlanSummary] = field(default_factory=dict)

    @property
    def edges(self) -> list[tuple[str, str]]:
        """(parent, child) pairs in file order of the child."""
        return [(parent, step.id) for step in self.steps.values() for parent in step.parents]
