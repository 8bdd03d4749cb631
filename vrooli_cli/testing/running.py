"""One case, from its inputs to its verdict."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.bus.listeners import matches as pattern_matches
from vrooli_cli.errors import DefinitionError, ExpressionError, InputError, VrooliError, did_you_mean
from vrooli_cli.language.expressions import compile_value
from vrooli_cli.loading.bundle import LoadedBundle, load_bundle, steps_of
from vrooli_cli.loading.files import shown
from vrooli_cli.loading.inputs import resolve_inputs
from vrooli_cli.loading.project import Settings, load_project
from vrooli_cli.model.addresses import TASK, static
from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.routine import Bundle, ChildRoutine, Group, Repeat, Routine, Step, ToolCall
from vrooli_cli.model.run import ExecutionError, ExecutionResult
from vrooli_cli.testing.cases import Case, TestFile
from vrooli_cli.testing.compare import REST, differences, matches, told
from vrooli_cli.testing.stubs import Recorder, StubApprover, Stubbed, Stubs
from vrooli_cli.tier3.environment import KEPT
from vrooli_cli.tier3.registry import ToolRegistry

RUN_ID = "test"


class FrozenClock:
    """Time that stands still."""

    def __init__(self, now_ns: int) -> None:
        self._now = now_ns

    def now_ns(self) -> int:
        """Always the same."""
        return self._now

    def monotonic(self) -> float:
        """Always the same."""
        return self._now / 1e9


class FixedIds:
    """``test``, ``test-2``, …"""

    def __init__(self) -> None:
        self._count = 0

    def new(self) -> str:
        """The next one."""
        self._count += 1
        return RUN_ID if self._count == 1 else f"{RUN_ID}-{self._count}"


@dataclass(slots=True)
class Observed:
    """What a run came to.

    Attributes:
        steps: Path → status, attempts, result, error.
        events: As NDJSON lines, without what is never the same.
        refusal: Why nothing was run.
    """

    status: str = "failed"
    outputs: Any = None
    error: Mapping[str, Any] | None = None
    credits: int = 0
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    refusal: VrooliError | None = None

    def names(self) -> dict[str, Any]:
        """What the expressions under ``that`` see."""
        return {
            "status": self.status,
            "outputs": self.outputs,
            "steps": self.steps,
            "calls": self.calls,
            "events": self.events,
            "credits": self.credits,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """A case and what became of it.

    Attributes:
        differences: None of them is a pass.
        seconds: Real ones.
    """

    file: TestFile
    case: Case
    observed: Observed
    differences: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """True when all is as expected."""
        return not self.differences


async def run_case(file: TestFile, case: Case, settings: Settings | None = None) -> Verdict:
    """Run one case, and compare. A failure of any kind is a difference; nothing but a bug is raised."""
    began = perf_counter()
    observed = Observed()
    try:
        observed = await _observe(file, case, settings or Settings())
    except DefinitionError as error:
        observed.refusal = error
        observed.error = ExecutionError.of(error).wire()
    except (InputError, VrooliError) as error:
        observed.refusal = error
        observed.error = ExecutionError.of(error).wire()
    found = tuple(_differences(case, observed))
    return Verdict(file, case, observed, found, perf_counter() - began)


# Running


async def _observe(file: TestFile, case: Case, settings: Settings) -> Observed:
    project = load_project(file.folder)
    loaded = load_bundle(_place(file, file.routine), project=project, raises=False)
    stubs, recorder = Stubs(case.stubs), Recorder()
    architecture = ExecutionArchitecture(
        replace(settings, executor="local"),
        project=project,
        **_model(file, case),
        clock=FrozenClock(case.clock_ns),
        ids=FixedIds(),
        approver=StubApprover(stubs, generate=case.generate),
        folder=str(file.folder),
        environ=_environment(loaded),
    )
    events: list[ExecutionEvent] = []
    async with architecture:
        _check_stubs(stubs, loaded, architecture.tools)
        runner = architecture.tier2.runner
        scripted = bool(case.replies) or case.cassette is not None
        architecture.tier2.runner = Stubbed(
            runner, stubs, recorder, generate=case.generate, scripted=scripted, live=case.live
        )
        prompt = loaded if case.live else _without_waiting(loaded, stubs)
        values = resolve_inputs(loaded.definition.inputs, {}, case.inputs)
        prepared = architecture.prepare(prompt, values)
        prepared.channel.fold(events.append)
        result = await prepared.run()
    if prepared.bug is not None:
        raise prepared.bug
    return _observed(result, recorder, events)


def _place(file: TestFile, path: str) -> str:
    return shown(file.folder / path)


def _model(file: TestFile, case: Case) -> dict[str, Any]:
    """Who answers prompts: a script, or a cassette; nobody else, ever."""
    from vrooli_cli.tier3.ai.scripted import ScriptedAI

    script = {"ai": ScriptedAI(case.replies or (), name="the case")}
    if case.cassette is None:
        return script
    from vrooli_cli.tier3.ai.remembered import Cassette

    return script | {"cassette": Cassette.replay(_place(file, case.cassette))}


def _environment(loaded: LoadedBundle) -> dict[str, str]:
    """The same on every machine: what every child gets, and made-up values for declared secrets."""
    environ = {name: os.environ[name] for name in KEPT if name in os.environ}
    for routine in loaded.bundle.routines.values():
        environ |= {variable: f"test-secret-{name}" for name, variable in routine.secrets.items()}
    return environ


def _check_stubs(stubs: Stubs, loaded: LoadedBundle, tools: ToolRegistry) -> None:
    """Raises InputError for a stub that nothing can ask for: a test would pass for the wrong reason."""
    paths = set(_paths(loaded))
    names = {tool.name for tool in tools} | _named_tools(loaded)
    for name in stubs:
        if name not in paths and name not in names and not _is_inside_loop(name, paths):
            hint = did_you_mean(name, [*paths, *names])
            raise InputError(f"stubs: there is no step and no tool {name!r}{f'; {hint}' if hint else ''}")


def _is_inside_loop(name: str, paths: set[str]) -> bool:
    return static(name) in paths or name.startswith(TASK)


def _named_tools(loaded: LoadedBundle) -> set[str]:
    steps = (step for routine in loaded.bundle.routines.values() for step in steps_of(routine))
    return {step.action.tool for step in steps if isinstance(step.action, ToolCall)}


def _paths(loaded: LoadedBundle) -> Iterator[str]:
    """The path of every step that the bundle can reach, without items and turns."""
    bundle = loaded.bundle
    if isinstance(bundle, Bundle) and bundle.main in bundle.routines:
        yield from _paths_in(bundle, bundle.routine, "", 0)
        return
    for routine in bundle.routines.values():
        for step in steps_of(routine):
            yield step.id


def _paths_in(bundle: Bundle, routine: Routine, prefix: str, depth: int) -> Iterator[str]:
    graphs = [(prefix, routine.steps)]
    graphs += [(f"{prefix}handlers.{name}/", steps) for name, steps in routine.handlers.items()]
    for place, steps in graphs:
        for step in steps:
            yield from _paths_of(bundle, step, place, depth)


def _paths_of(bundle: Bundle, step: Step, prefix: str, depth: int) -> Iterator[str]:
    path = f"{prefix}{step.id}"
    yield path
    if isinstance(step.action, Group):
        for inner in step.action.steps:
            yield from _paths_of(bundle, inner, f"{path}/", depth)
    elif isinstance(step.action, ChildRoutine) and step.action.target in bundle.routines and depth < 16:
        yield from _paths_in(bundle, bundle.routines[step.action.target], f"{path}/", depth + 1)


def _without_waiting(loaded: LoadedBundle, stubs: Stubs) -> LoadedBundle:
    """The same routines, with no pause between attempts and turns, and with stubs in the place of child runs."""
    bundle = loaded.bundle
    routines = {key: _hurried(routine, stubs, key == loaded.main) for key, routine in bundle.routines.items()}
    return replace(loaded, bundle=replace(bundle, routines=routines))


def _hurried(routine: Routine, stubs: Stubs, is_main: bool) -> Routine:
    handlers = {
        name: tuple(_hurried_step(step, stubs, f"handlers.{name}/" if is_main else None) for step in steps)
        for name, steps in routine.handlers.items()
    }
    steps = tuple(_hurried_step(step, stubs, "" if is_main else None) for step in routine.steps)
    return replace(routine, steps=steps, handlers=handlers)


def _hurried_step(step: Step, stubs: Stubs, prefix: str | None) -> Step:
    changes: dict[str, Any] = {}
    path = None if prefix is None else f"{prefix}{step.id}"
    if step.retry is not None and step.retry.delay_ms:
        changes["retry"] = replace(step.retry, delay_ms=0)
    if step.repeat is not None and step.repeat.delay_ms:
        changes["repeat"] = Repeat(step.repeat.until, step.repeat.max, 0)
    if path is not None and stubs.of_step(path) is not None and isinstance(step.action, ChildRoutine | Group):
        changes["action"] = ToolCall("echo", {"message": None})
    elif isinstance(step.action, Group):
        inner = tuple(_hurried_step(one, stubs, None if path is None else f"{path}/") for one in step.action.steps)
        changes["action"] = replace(step.action, steps=inner)
    return replace(step, **changes) if changes else step


def _observed(result: ExecutionResult, recorder: Recorder, events: list[ExecutionEvent]) -> Observed:
    steps: dict[str, dict[str, Any]] = {}
    lines = []
    for event in events:
        lines.append({"type": event.type, "execution_id": event.execution_id, "payload": _plain(event.payload)})
        step = event.payload.get("step_id")
        family, _, what = event.type.rpartition("/")
        if step and family == "tier2/step" and what in _FINAL:
            steps.setdefault(step, {"status": "pending"})["status"] = _FINAL[what]
        elif step and family == "tier3/execution" and what == "started":
            steps.setdefault(step, {"status": "pending"})["attempts"] = event.payload.get("attempt")
    for path, told_ in result.steps.items():
        known = steps.setdefault(path, {})
        known |= {"attempts": told_.attempts, "result": told_.result, "duration_ms": told_.duration_ms}
        known |= {"status": told_.status.value, "error": told_.error.wire() if told_.error else None}
    return Observed(
        status=result.status.value,
        outputs=result.result,
        error=result.error.wire() if result.error else None,
        credits=int(result.resources_used.credits_used),
        steps=steps,
        calls=recorder.calls,
        events=lines,
    )


_FINAL: Mapping[str, str] = {
    **{name: name for name in ("completed", "failed", "cancelled", "skipped", "suspended")},
    "reused": "completed",
}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


# Comparing


def _differences(case: Case, observed: Observed) -> Iterator[str]:
    expect = case.expect
    if observed.refusal is not None and expect.error is None:
        yield f"nothing was run: {_first_problem(observed.refusal)}"
        return
    if observed.status != expect.final_status:
        why = ""
        if observed.error is not None:
            step = f"{observed.error['step']}: " if observed.error.get("step") else ""
            why = f" ({step}{observed.error['code']}: {observed.error['message']})"
        yield f"status: expected {expect.final_status}, got {observed.status}{why}"
    if expect.has_outputs:
        yield from differences(expect.outputs, observed.outputs, "outputs", exact=True)
    if expect.error is not None:
        wanted = {"code": expect.error} if isinstance(expect.error, str) else expect.error
        yield from differences(wanted, observed.error, "error", exact=False)
    yield from _step_differences(expect.steps, observed)
    yield from _call_differences(expect.calls, observed)
    yield from _event_differences(expect.events, observed)
    for n, condition in enumerate(expect.that):
        yield from _condition(condition, n, observed)


def _first_problem(error: VrooliError) -> str:
    problems = getattr(error, "problems", ())
    text = str(problems[0]) if problems else error.message
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    return text.replace("\n", "; ") + more


def _step_differences(expected: Mapping[str, Any], observed: Observed) -> Iterator[str]:
    for path, wanted in expected.items():
        got = observed.steps.get(path)
        if got is None:
            hint = did_you_mean(path, observed.steps) or "no such step was reached"
            yield f"steps.{path}: expected {told(wanted)}, got nothing; {hint}"
        elif isinstance(wanted, str):
            if got["status"] != wanted:
                reason = f" ({got['error']['code']}: {got['error']['message']})" if got.get("error") else ""
                yield f"steps.{path}: expected {wanted}, got {got['status']}{reason}"
        else:
            yield from differences(wanted, got, f"steps.{path}", exact=False)


def _call_differences(expected: tuple[Any, ...], observed: Observed) -> Iterator[str]:
    """Each expected call is one that was made; further ones may have been."""
    left = list(observed.calls)
    for n, wanted in enumerate(one for one in expected if one != REST):
        found = next((call for call in left if matches(wanted, call)), None)
        if found is not None:
            left.remove(found)
            continue
        nearest = next(
            (call for call in left if isinstance(wanted, Mapping) and call["tool"] == wanted.get("tool")), None
        )
        if nearest is not None:
            yield from differences(wanted, nearest, f"calls[{n}]", exact=False)
        else:
            made = ", ".join(dict.fromkeys(call["tool"] for call in observed.calls)) or "none"
            yield f"calls[{n}]: expected {told(wanted)}, and no such call was made; calls: {made}"


def _event_differences(expected: tuple[str, ...], observed: Observed) -> Iterator[str]:
    types = list(dict.fromkeys(event["type"] for event in observed.events))
    for pattern in expected:
        if not any(pattern_matches(pattern, type_) for type_ in types):
            hint = did_you_mean(pattern, types) or "it did not happen"
            yield f"events: expected {pattern}; {hint}"


def _condition(condition: Any, n: int, observed: Observed) -> Iterator[str]:
    """A ``that``: true, or a difference with the values of what it names."""
    if not isinstance(condition, str):
        if condition is not True:
            yield f"that[{n}]: {told(condition)} is not true"
        return
    names = observed.names()
    dashed = observed.steps.keys()
    try:
        value = compile_value(condition, mode="expression", dashed=dashed)
        holds = value.evaluate(names)
    except ExpressionError as error:
        yield f"that[{n}]: {condition}: {error.message}"
        return
    if holds is True:
        return
    if holds is not None and not isinstance(holds, bool):
        yield f"that[{n}]: {condition}: it must give true, false or null, not {told(holds)}"
        return
    seen = dict.fromkeys(reference.path for reference in value.references)
    values = "; ".join(f"{'.'.join(map(str, path))} is {told(_at(names, path))}" for path in list(seen)[:3])
    yield f"that[{n}]: {condition} is false{f': {values}' if values else ''}"


def _at(names: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        try:
            names = names[part]
        except (LookupError, TypeError):
            return None
    return names


async def run_file(
    file: TestFile,
    settings: Settings | None = None,
    only: str = "",
    tell: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """Every case of a file whose name holds ``only``, one after another; each is told when it has ended."""
    verdicts = []
    for case in file.cases:
        if only.lower() in case.name.lower():
            verdicts.append(await run_case(file, case, settings))
            if tell is not None:
                tell(verdicts[-1])
    return verdicts
