"""A swarm as tier 1 sees it: a goal, agents, what binds them, and a plan as far as the file gives one (spec swarm.md).

Loading makes these values from a file; :class:`SubTask` is also what the goal decomposer makes of a model's answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from vrooli_cli.errors import Pointer
from vrooli_cli.model.routine import Defaults, Definition, Limits, Permissions, Routine
from vrooli_cli.model.run import Agent
from vrooli_cli.model.values import lean

DEFAULT_COMPLEXITY = 5
MOST_TASKS = 200


@lean(kw_only=True)
class SubTask:
    """A part of the goal.

    Attributes:
        dependencies: Tasks whose results it needs.
        estimated_complexity: 1 to 10; the planner's measure of duration.
        priority: 0 low, 1 medium, 2 high.
    """

    id: str
    description: str = ""
    dependencies: tuple[str, ...] = ()
    required_capabilities: tuple[str, ...] = ()
    estimated_complexity: int = DEFAULT_COMPLEXITY
    priority: int = 1
    pointer: Pointer = ()


@lean(kw_only=True)
class AgentDefinition:
    """A member of the swarm as the file describes it.

    Attributes:
        reference: The routine with which it does a task, as written; None is one reasoning step.
        target: That routine's key in the bundle.
    """

    id: str
    capabilities: tuple[str, ...]
    name: str = ""
    description: str = ""
    max_concurrent_tasks: int = 1
    current_load: int = 0
    model: tuple[str, ...] = ()
    system: str | None = None
    tools: tuple[str, ...] = ()
    reference: str | None = None
    target: str = ""
    permissions: Permissions = field(default_factory=Permissions)
    reveal: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    pointer: Pointer = ()

    @property
    def agent(self) -> Agent:
        """The member as the public API names it."""
        return Agent(
            id=self.id,
            capabilities=self.capabilities,
            name=self.name,
            current_load=self.current_load,
            max_concurrent_tasks=self.max_concurrent_tasks,
        )


@lean()
class Assignment:
    """Who does a task, and why: one line of a frozen plan."""

    agent: str
    reason: str = ""


@lean()
class Planner:
    """Who divides the goal into tasks."""

    model: tuple[str, ...] = ()
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@lean()
class Synthesis:
    """The model's last word over the results of the tasks."""

    prompt: str
    model: tuple[str, ...] = ()
    system: str | None = None
    output_schema: Mapping[str, Any] | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@lean(kw_only=True)
class SwarmDefinition(Definition):
    """A whole swarm.

    Attributes:
        tasks: The parts of the goal; None: a model is asked for them.
        constraints: A MOISE+ organisation as plain data; None when there is none, or when it is XML.
        constraints_key: The key of the file that the constraints came from: for XML its text is in the bundle's
            ``texts``; "" when they are inline.
        assignments: Task id → who does it; empty: tier 1 decides.
        knowledge: Files and globs as written, relative to ``folder``.
        folder: The folder of the file: what its paths are relative to.
        defaults: For the steps that tier 1 makes for tasks; the handlers' steps have them already.
    """

    goal: str
    agents: tuple[AgentDefinition, ...]
    tasks: tuple[SubTask, ...] | None = None
    constraints: Mapping[str, Any] | None = None
    constraints_key: str = ""
    leader: str | None = None
    planner: Planner = field(default_factory=Planner)
    assignments: Mapping[str, Assignment] = field(default_factory=dict)
    synthesis: Synthesis | None = None
    knowledge: tuple[str, ...] = ()
    folder: str = ""
    defaults: Defaults = field(default_factory=Defaults)


@lean()
class SwarmBundle:
    """The closed world of a swarm run: the swarm and every routine that it can reach.

    Attributes:
        routines: Key → routine: the agents', the event agents' and their children's.
        digest: sha256 over the bytes of every file, in order of key.
        texts: Key → the file's text, the constraints' file and what it includes too.
        origin: As in :class:`vrooli_cli.model.routine.Bundle`, with ``knowledge``.
        knowledge: Name → text of the files of ``knowledge``, by path.
    """

    swarm: SwarmDefinition
    routines: Mapping[str, Routine] = field(default_factory=dict)
    digest: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    knowledge: Mapping[str, str] = field(default_factory=dict)
