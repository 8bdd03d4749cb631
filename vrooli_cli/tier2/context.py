"""What the steps of one routine run share, and how values find their way in and out of it.

The seed's names: a :class:`RunContext` holds the inputs and variables of one routine run, with its parent; the
:class:`BlackboardManager` is one for a whole run tree; the :class:`VariableResolver` gives texts their meaning; the
:class:`ContextManager` makes contexts and checks what a child routine is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from vrooli_cli.errors import InputError, did_you_mean
from vrooli_cli.language.expressions import compile_value
from vrooli_cli.language.schema import coerce_text, compile_schema
from vrooli_cli.model.routine import Definition, Input
from vrooli_cli.tier2.plan import RoutinePlan


class BlackboardManager(Mapping[str, Any]):
    """The values that a run tree shares: what ``export`` writes and ``blackboard.k`` reads.

    A swarm's runs share one; ``authors`` remembers which agent wrote a key, so that communication links can decide who
    reads it.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self.authors: dict[str, str] = {}

    def write(self, values: Mapping[str, Any], author: str | None = None) -> None:
        """Write keys; a later write of the same key wins."""
        self._values.update(values)
        if author is not None:
            self.authors.update(dict.fromkeys(values, author))

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class RunContext:
    """One routine run: its inputs, its variables and the facts of ``run.*``.

    Attributes:
        vars: Run variables; changed by ``set`` alone, through ``RunState.evolve``.
        status: What ``run.status`` says; handlers see the verdict.
        parent: The run that called this one.
    """

    __slots__ = (
        "blackboard",
        "env",
        "error",
        "execution_id",
        "inputs",
        "name",
        "parent",
        "plan",
        "secrets",
        "started_ns",
        "status",
        "vars",
        "work_dir",
    )

    def __init__(
        self,
        plan: RoutinePlan,
        execution_id: str,
        inputs: Mapping[str, Any],
        blackboard: BlackboardManager,
        parent: RunContext | None = None,
    ) -> None:
        self.plan = plan
        self.execution_id = execution_id
        self.inputs = inputs
        self.blackboard = blackboard
        self.parent = parent
        self.name = plan.routine.name
        self.vars: dict[str, Any] = {}
        self.env: Mapping[str, str] = {}
        self.secrets: Mapping[str, str] = {}
        self.status = "running"
        self.error: Mapping[str, Any] | None = None
        self.started_ns = 0
        self.work_dir = ""

    @property
    def run_id(self) -> str:
        """The seed's name of :attr:`execution_id`."""
        return self.execution_id

    @property
    def parent_run_id(self) -> str | None:
        """The execution id of the run that called this one."""
        return self.parent.execution_id if self.parent is not None else None

    def set_variable(self, name: str, value: Any) -> None:
        """Set a run variable."""
        self.vars[name] = value

    def get_variable(self, name: str) -> Any:
        """A run variable or, failing that, an input; None when there is neither."""
        return self.vars.get(name, self.inputs.get(name))

    def has_variable(self, name: str) -> bool:
        """True when there is such a variable or input."""
        return name in self.vars or name in self.inputs

    def export_to_parent(self, key: str, value: Any) -> None:
        """Write to the blackboard, which the parent and all its children read."""
        self.blackboard.write({key: value})

    def facts(self) -> dict[str, Any]:
        """What ``run`` is in expressions."""
        started = datetime.fromtimestamp(self.started_ns / 1e9, UTC).isoformat(timespec="milliseconds")
        return {
            "id": self.execution_id,
            "name": self.name,
            "started_at": started.replace("+00:00", "Z"),
            "status": self.status,
            "error": dict(self.error) if self.error is not None else None,
            "work_dir": self.work_dir,
        }


class VariableResolver:
    """Gives plain data with ``{{ }}`` in it its meaning in a run, outside of a running graph."""

    def resolve(self, value: Any, context: RunContext, previous_results: Mapping[str, Any]) -> Any:
        """The value with every text rendered once; raises ExpressionError.

        Args:
            value: Any plain data.
            context: Whose inputs and variables are seen.
            previous_results: Step id → result.
        """
        steps = {name: {"result": result, "status": "completed"} for name, result in previous_results.items()}
        names: dict[str, Any] = {
            **context.inputs,
            "inputs": context.inputs,
            "vars": context.vars,
            "env": context.env,
            "blackboard": context.blackboard,
            "run": context.facts(),
            "steps": steps,
        }
        return compile_value(value, dashed=steps.keys()).evaluate(names)


class ContextManager:
    """Makes run contexts."""

    def __init__(self, blackboard: BlackboardManager | None = None, resolver: VariableResolver | None = None) -> None:
        self.blackboard_manager = blackboard or BlackboardManager()
        self.variable_resolver = resolver or VariableResolver()

    def create_run_context(
        self,
        plan: RoutinePlan,
        execution_id: str,
        parameters: Mapping[str, Any],
        parent: RunContext | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> RunContext:
        """A context with checked inputs; raises InputError that names everything wrong."""
        inputs = check_inputs(plan.routine, parameters, environ or {})
        return RunContext(plan, execution_id, inputs, self.blackboard_manager, parent)

    def resolve_step_parameters(
        self, parameters: Mapping[str, Any], context: RunContext, previous_results: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The parameters of one step, rendered."""
        return {
            name: self.variable_resolver.resolve(value, context, previous_results) for name, value in parameters.items()
        }

    def export_results(self, context: RunContext, results: Mapping[str, Any]) -> None:
        """Write results to the blackboard under their names."""
        context.blackboard.write(results)


def check_inputs(definition: Definition, given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The inputs of a run: given, from the environment, or the default; raises InputError that lists every problem.

    Values keep their type here; text from a command line has been converted before (``loading``).
    """
    wrong: list[str] = []
    for name in given:
        if name not in definition.inputs:
            hint = did_you_mean(name, definition.inputs) or f"it takes {', '.join(definition.inputs) or 'none'}"
            wrong.append(f"{definition.name} has no input {name!r} ({hint})")
    values: dict[str, Any] = {}
    for name, declared in definition.inputs.items():
        try:
            values[name] = _one_input(declared, given, environ)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("; ".join(wrong), context={"problems": wrong} if len(wrong) > 1 else None)
    return values


def _one_input(declared: Input, given: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    name = declared.name
    if name in given:
        value = given[name]
    elif declared.env is not None and environ.get(declared.env):
        value = coerce_text(environ[declared.env], declared.schema)
    elif declared.has_default:
        return declared.default
    elif declared.required:
        source = f" (or set {declared.env})" if declared.env else ""
        raise ValueError(f"the input {name!r} is required: give it with -i {name}=…{source}")
    else:
        return None
    if value is None and not declared.required:
        return None
    violations = compile_schema(declared.schema).check(value) if declared.schema else []
    if violations:
        raise ValueError(f"the input {name!r} is not valid: {violations[0]}")
    return value
