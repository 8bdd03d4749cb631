"""Plain data to a :class:`Routine`: every shorthand spelled out, every problem found at once (spec routine.md).

``forms`` says what each key may hold; this module checks what hangs together: exactly one action a step, keys that fit
it, ids, the written edges of the graph, and what ``defaults`` and the project add. Expressions stay raw; tier 2's
plan compiles them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any, Literal, cast

from vrooli_cli.errors import ERROR_CODES, DefinitionError, Pointer, Problem
from vrooli_cli.language.schema import check_schema, compile_schema
from vrooli_cli.loading import forms
from vrooli_cli.loading.home import Base
from vrooli_cli.loading.shapes import Findings, any_of, found, label, shorten
from vrooli_cli.loading.source import SourceMap
from vrooli_cli.model.routine import (
    HANDLERS,
    PRIORITIES,
    Action,
    Approval,
    CacheRule,
    ChildRoutine,
    Defaults,
    EventAgent,
    ForEach,
    Group,
    Input,
    Limits,
    OnError,
    Permissions,
    Prompt,
    Repeat,
    Routine,
    Rule,
    Step,
    ToolCall,
    Wait,
)
from vrooli_cli.model.run import ExecutionStrategy, RetryPolicy

Kind = Literal["routine", "swarm"]
Made = dict[str, Any]

DEEPEST_GROUP = 32
"""How deep groups may be nested in each other."""

_PROMPT_KEYS = (
    *("system", "messages", "temperature", "max_tokens", "tools", "max_turns", "seed", "stop", "context", "reveal"),
)
# Keys that only some actions take; all others go with every action.
_ONLY_FOR: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_PROMPT_KEYS, ("prompt",)),
    "strategy": ("prompt", "tool"),
    "model": ("prompt", "tool"),
    "output_schema": ("prompt", "tool"),
    "parameters": ("tool", "routine"),
    "effects": ("tool", "prompt", "routine"),
    "cache": ("prompt", "tool"),
    "resources": ("tool",),
}
_NO_DEFAULTS = Defaults()
_FAIL = OnError()


_NO_BASE = Base()

Resolve = Callable[[str, Pointer, Findings], str]
"""Gives the bundle's key of the routine that a text names; what it does not find is a finding at the pointer."""


def _unresolved(reference: str, at: Pointer, findings: Findings) -> str:
    return ""


def build_routine(data: Any, *, path: str = "", key: str = "", source: SourceMap | None = None) -> Routine:
    """The routine that plain data describes.

    Raises:
        DefinitionError: With every problem, placed when ``source`` is given.
    """
    routine, problems = read_routine(data, path=path, key=key, source=source)
    wrong = [problem for problem in problems if not problem.warning]
    if wrong or routine is None:
        raise DefinitionError(wrong)
    return routine


def read_routine(
    data: Any,
    *,
    path: str = "",
    key: str = "",
    source: SourceMap | None = None,
    base: Base = _NO_BASE,
    resolve: Resolve = _unresolved,
) -> tuple[Routine | None, list[Problem]]:
    """The routine as far as it can be understood, and everything that is wrong with it.

    Args:
        data: What the file holds.
        path: The file's name for people; its stem is the default name.
        key: Its key in the bundle.
        source: Where things stand; problems are placed with it.
        base: What the project says.
        resolve: Finds the routines that it names; without it their targets stay empty.

    Returns:
        The routine; only as far as it could be understood when a problem is more than a warning: good for finding more
        problems, never for running. None when the file holds something else.
    """
    findings = findings_of(source)
    routine = None
    if kind_of(data, findings) == "swarm":
        findings.add((), "this is a swarm; a routine was expected here", "a routine has `steps`")
    elif not findings.count:
        routine = _routine(data, path, key, findings, base, resolve)
    return routine, placed(findings, source)


def findings_of(source: SourceMap | None) -> Findings:
    """An empty list of findings that tells places by their lines, when there are lines."""
    if source is None:
        return Findings()
    return Findings(lambda at: f"line {source.locate(at)[0]}")


def placed(findings: Findings, source: SourceMap | None) -> list[Problem]:
    """What was found, with its places and in order of the file."""
    if source is None:
        return findings.problems
    return sorted((source.place(problem) for problem in findings.problems), key=lambda p: (p.line, p.column))


def kind_of(data: Any, findings: Findings) -> Kind | None:
    """What a file is: what ``kind`` says, else known by ``steps`` or ``goal``; None after a finding."""
    if not isinstance(data, dict):
        what = "the file is empty" if data is None else f"the file holds {found(data)}"
        findings.add((), f"{what}; a routine is a map with `steps`, a swarm a map with `goal`")
        return None
    kind = data.get("kind")
    if kind in ("routine", "swarm"):
        return cast(Kind, kind)
    if "kind" in data:
        hint = findings.suggest(kind, ("routine", "swarm"))
        findings.add(("kind",), f"`kind` must be routine or swarm, not {found(kind)}", hint)
        return None
    if "steps" in data:
        return "routine"
    if "goal" in data:
        return "swarm"
    hint = _kind_hint(data, findings)
    findings.add((), "the file has neither `steps` (a routine) nor `goal` (a swarm)", hint)
    return None


def _kind_hint(data: Mapping[str, Any], findings: Findings) -> str:
    if "cases" in data:
        return "this looks like a test file: `vrooli test` runs it"
    if "command" in data:
        return "this looks like a command tool: it belongs into tools/"
    for key in data:
        hint = findings.suggest(key, ("steps", "goal"))
        if hint:
            return f"{key!r}: {hint}"
    return ""


def _routine(data: Mapping[str, Any], path: str, key: str, findings: Findings, base: Base, resolve: Resolve) -> Routine:
    made = forms.ROUTINE.read(data, (), findings)
    common = read_common(made, path, findings, base, resolve)
    reader = StepReader(findings, common.pop("defaults"), resolve)
    edges = reader.edges(made, data)
    steps = reader.graph(made.get("steps", ()), ("steps",), edges=edges)
    handlers = reader.handlers(made.get("handlers", {}), made.get("steps", ()))
    return Routine(steps=steps, handlers=handlers, path=path, key=key, **common)


# What a routine and a swarm have in common


def read_common(made: Made, path: str, findings: Findings, base: Base, resolve: Resolve = _unresolved) -> Made:
    """The fields that :class:`Routine` and ``SwarmDefinition`` share, by name, and ``defaults``."""
    secrets = {name: entry["env"] for name, entry in made.get("secrets", {}).items() if "env" in entry}
    return {
        "name": made.get("name") or default_name(path),
        "description": made.get("description", ""),
        "version": made.get("version", ""),
        "inputs": _inputs(made.get("inputs", {}), findings),
        "vars": made.get("vars", {}),
        "env": {**base.env, **(made.get("env") or {})},
        "secrets": {**base.secrets, **secrets},
        "defaults": over(read_defaults(made.get("defaults", {})), base.defaults),
        "limits": over(read_limits(made.get("allocation", {})), base.limits),
        "permissions": read_permissions(made.get("permissions", {}), ("permissions",), path, findings),
        "policy": _stricter(base.policy, read_policy(made)),
        "schedule": made.get("schedule", "eager"),
        "outputs": made.get("outputs"),
        "events": read_events(made.get("events", ()), findings, resolve),
        "extras": _extras(made, base),
    }


def default_name(path: str) -> str:
    """A name from the file's stem, in the letters that names have; ``stdin`` for ``-``."""
    if path == "-":
        return "stdin"
    stem = PurePath(path).stem.lower()
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in stem).lstrip("-_")
    return name or "routine"


def over(upper: Any, lower: Any) -> Any:
    """A value of slots in which each None (or empty) part of ``upper`` is taken from ``lower``."""
    gaps = {name: getattr(lower, name) for name in type(lower).__slots__ if getattr(upper, name) in (None, ())}
    return replace(upper, **gaps) if gaps else upper


_VERDICTS = ("allow", "ask", "deny")


def _stricter(outer: Mapping[str, str], inner: Mapping[str, str]) -> dict[str, str]:
    merged = dict(outer)
    for strategy, verdict in inner.items():
        merged[strategy] = max(verdict, merged.get(strategy, "allow"), key=_VERDICTS.index)
    return merged


def read_policy(made: Made) -> dict[str, str]:
    """Strategy → verdict."""
    strategies: dict[str, str] = made.get("policy", {}).get("strategies", {})
    return strategies


def read_defaults(made: Made) -> Defaults:
    """``defaults`` as read by its form."""
    retry = made.get("retry")
    return Defaults(
        timeout_ms=made.get("timeout"),
        retry=None if retry is None else read_retry(retry, written=False),
        on_error=OnError(*made["on_error"]) if "on_error" in made else None,
        strategy=ExecutionStrategy(made["strategy"]) if "strategy" in made else None,
        model=made.get("model", ()),
    )


def read_limits(made: Made) -> Limits:
    """``allocation`` as read by its form; ``max_cost`` is turned into credits."""
    credits_, cost = made.get("max_credits"), made.get("max_cost")
    if cost is not None:
        credits_ = min(round(cost * 1_000_000), credits_ if credits_ is not None else 2**63 - 1)
    return Limits(credits_, made.get("max_duration"), made.get("max_memory_mb"), made.get("max_concurrent_steps"))


def read_permissions(made: Made, at: Pointer, path: str, findings: Findings) -> Permissions:
    """One level of rules, each with the place that a refusal names."""
    if not made:
        return Permissions()

    def rules(verdict: str) -> tuple[Rule, ...]:
        texts = made.get(verdict, ())
        return tuple(Rule(text, _place(path, (*at, verdict, n), findings)) for n, text in enumerate(texts))

    return Permissions(allow=rules("allow"), ask=rules("ask"), deny=rules("deny"))


def _place(path: str, at: Pointer, findings: Findings) -> str:
    words = findings.where(at)
    return f"{path}:{words.removeprefix('line ')}" if path else words


def read_events(made: tuple[Made, ...], findings: Findings, resolve: Resolve = _unresolved) -> tuple[EventAgent, ...]:
    """``events`` as read by its form."""
    return tuple([_event_agent(entry, ("events", n), findings, resolve) for n, entry in enumerate(made) if entry])


def _event_agent(made: Made, at: Pointer, findings: Findings, resolve: Resolve) -> EventAgent:
    parameters = made.get("parameters", {})
    subscribe = made.get("subscribe", "**")
    if made.get("barrier") and subscribe != "safety/pre_action":
        findings.add((*at, "barrier"), "only an agent that subscribes to safety/pre_action can be a barrier")
    if "prompt" in made and parameters:
        findings.add(at, "`parameters` are for a tool or a routine, not for a prompt")
    action: ToolCall | Prompt | ChildRoutine
    if "tool" in made:
        action = ToolCall(made["tool"], parameters)
    elif "routine" in made:
        action = ChildRoutine(made["routine"], resolve(made["routine"], (*at, "routine"), findings), parameters)
    else:
        action = Prompt(made.get("prompt", ""), system=made.get("system"))
    return EventAgent(
        subscribe=subscribe,
        action=action,
        name=made.get("name", ""),
        when=made.get("when"),
        has_when="when" in made,
        model=made.get("model", ()),
        barrier=made.get("barrier", False),
        max_runs=made.get("max_runs", 10),
        timeout_ms=made.get("timeout"),
        pointer=at,
    )


def _extras(made: Made, base: Base) -> dict[str, Any]:
    extras = {
        "models": {**base.models, **read_models(made)},
        "mcp_servers": {**base.mcp_servers, **read_servers(made)},
        "executor": made.get("executor", base.executor),
    }
    return {name: value for name, value in extras.items() if value}


def read_models(made: Made) -> dict[str, Any]:
    """Name → what the model's form says, ``model`` filled in."""
    return {name: {"model": name, **entry} for name, entry in made.get("models", {}).items() if entry is not None}


def read_servers(made: Made) -> dict[str, Any]:
    """Name → what the server's form says, with ``timeout_ms``."""
    servers = {}
    for name, entry in made.get("mcp_servers", {}).items():
        server = dict(entry)
        if "timeout" in server:
            server["timeout_ms"] = server.pop("timeout")
        servers[name] = server
    return servers


def _inputs(made: Mapping[str, Made], findings: Findings) -> dict[str, Input]:
    return {name: _input(name, entry, findings) for name, entry in made.items()}


def _input(name: str, made: Made, findings: Findings) -> Input:
    at: Pointer = ("inputs", name)
    if name in forms.RESERVED:
        findings.add(at, f"{name!r} means something in expressions and cannot be an input", at_key=True)
    schema = {key: value for key, value in made.items() if key in forms.SCHEMA_KEYWORDS}
    required = made.get("required")
    if isinstance(required, list):  # JSON Schema's own, for the keys of an object
        schema["required"], required = required, None
    has_default = "default" in made
    if required and has_default:
        findings.warn((*at, "required"), f"{name!r} has a default, so it is never missing", "leave `required` out")
    default = made.get("default")
    if made.get("secret") and isinstance(default, str) and 0 < len(default) < 4:
        findings.warn((*at, "default"), "a secret shorter than 4 characters is masked only where it is the whole value")
    _check_schema(schema, made, at, findings)
    return Input(
        name=name,
        schema=schema,
        default=default,
        has_default=has_default,
        required=not has_default if required is None else bool(required) and not has_default,
        secret=made.get("secret", False),
        env=made.get("env"),
        description=made.get("description", ""),
        pointer=at,
    )


def _check_schema(schema: Made, made: Made, at: Pointer, findings: Findings) -> None:
    """The declaration is a JSON Schema, and the default satisfies it."""
    if is_schema(schema, at, findings) and "default" in made:
        for violation in compile_schema(schema).check(made["default"]):
            findings.add((*at, "default", *violation.path), f"the default of {at[-1]!r} does not fit: {violation}")


def is_schema(schema: Mapping[str, Any], at: Pointer, findings: Findings) -> bool:
    """True for a JSON Schema; what is wrong with another is found at its place."""
    wrong = check_schema(schema)
    for violation in wrong:
        place = (*at, *violation.path)
        findings.add(place, f"`{label(place)}`: {violation.message}")
    return not wrong


# Steps


Edges = dict[str, list[str]]


class StepReader:
    """Reads the steps of one file: its graph, the groups in it, its handlers."""

    __slots__ = ("_branches", "_defaults", "_findings", "_resolve")

    def __init__(self, findings: Findings, defaults: Defaults = _NO_DEFAULTS, resolve: Resolve = _unresolved) -> None:
        self._findings = findings
        self._defaults = defaults
        self._resolve = resolve
        self._branches: dict[str, str] = {}

    def edges(self, made: Made, data: Mapping[str, Any]) -> Edges:
        """``dependencies`` and ``parallel_branches`` as id → the ids before it."""
        steps = data.get("steps")
        known = dict.fromkeys(_ids(steps)) if isinstance(steps, list) else {}
        edges: Edges = {}
        names: set[str] = set()
        for n, branch in enumerate(made.get("parallel_branches", ())):
            self._branch(branch, ("parallel_branches", n), names, known, edges)
        for n, entry in enumerate(made.get("dependencies", ())):
            at: Pointer = ("dependencies", n)
            before, after = entry.get("from"), entry.get("to")
            if self._known(before, (*at, "from"), known) and self._known(after, (*at, "to"), known):
                self._edge(before, after, (*at, "from"), edges)
        return edges

    def _branch(self, made: Made, at: Pointer, names: set[str], known: Mapping[str, None], edges: Edges) -> None:
        name, before = made.get("id", str(at[-1])), ""
        if name in names:
            self._findings.add((*at, "id"), f"the branch {name!r} is there twice")
        names.add(name)
        for n, step in enumerate(made.get("steps", ())):
            place = (*at, "steps", n)
            if not self._known(step, place, known):
                continue
            other = self._branches.setdefault(step, name)
            if other != name:
                self._findings.add(place, f"{step!r} is in the branch {other!r} already")
            if before and before != step:
                edges.setdefault(step, []).append(before)
            before = step

    def _known(self, step: str | None, at: Pointer, known: Mapping[str, Any]) -> bool:
        if step is None or step in known:
            return step is not None
        self._findings.add(at, f"no step has the id {shorten(step)!r}", self._findings.suggest(step, known.keys()))
        return False

    def _edge(self, before: str, after: str, at: Pointer, edges: Edges) -> None:
        if before == after:
            self._findings.add(at, f"{after!r} depends on itself: {after} → {after}", code="CYCLE")
            return
        one, other = self._branches.get(before), self._branches.get(after)
        if one and other and one != other:
            message = f"{after!r} in the branch {other!r} cannot depend on {before!r} in the branch {one!r}"
            self._findings.add(at, message, "put them into one branch, or take one of them out of its branch")
        edges.setdefault(after, []).append(before)

    def handlers(self, made: Mapping[str, Any], steps: Any) -> dict[str, tuple[Step, ...]]:
        """``handlers``: kind → its own small graph."""
        self._branches = {}
        outer = (_places(steps, ("steps",)),) if made and isinstance(steps, list) else ()
        return {kind: self.graph(made[kind], ("handlers", kind), outer=outer) for kind in HANDLERS if made.get(kind)}

    def graph(
        self, raw: Any, at: Pointer, *, outer: tuple[Mapping[str, Pointer], ...] = (), edges: Edges | None = None
    ) -> tuple[Step, ...]:
        """The steps of one graph.

        Args:
            raw: The list as written.
            at: Where it stands.
            outer: Id → place of every graph around this one; their ids cannot be used again.
            edges: Edges that are written outside the steps.
        """
        if len(outer) > DEEPEST_GROUP:
            self._findings.add(at, f"groups are nested more than {DEEPEST_GROUP} deep")
            return ()
        places = _places(raw, at)
        edges = {} if edges is None else edges
        steps = []
        for n, entry in enumerate(raw):
            step = self._step(entry, (*at, n), places, outer, edges)
            if step is not None:
                steps.append(step)
        return tuple(steps)

    def _step(
        self, raw: Any, at: Pointer, places: dict[str, Pointer], outer: tuple[Mapping[str, Pointer], ...], edges: Edges
    ) -> Step | None:
        findings = self._findings
        made = forms.STEP.read(raw, at, findings)
        if not isinstance(raw, dict):
            return None
        step_id: str = made.get("id", "")
        self._check_id(step_id, at, places, outer)
        before = self._before(step_id, made, raw, at, places, outer, edges)
        action_key = self._action_key(raw, step_id, at)
        if action_key is not None:
            self._fitting(made, action_key, step_id, raw, at)
        if action_key is None or action_key not in made:
            # Something is wrong with it; it stands here so that those who name it are not found wrong as well.
            return Step(id=step_id, action=Wait(0), pointer=at, after=before) if step_id else None
        action = self._action(action_key, made, step_id, at, places, outer)
        strategy = self._strategy(action, made, at)
        return self._build(step_id, action, strategy, before, made, at)

    def _check_id(
        self, step_id: str, at: Pointer, places: Mapping[str, Pointer], outer: tuple[Mapping[str, Pointer], ...]
    ) -> None:
        if not step_id:
            return
        first = places.get(step_id, at)
        if first != at:
            message = f"the id {shorten(step_id)!r} is used twice, first at {self._findings.where((*first, 'id'))}"
            self._findings.add((*at, "id"), message)
        for scope in outer:
            if step_id in scope:
                there = self._findings.where((*scope[step_id], "id"))
                message = f"the id {shorten(step_id)!r} is used already by a step around this one, at {there}"
                self._findings.add((*at, "id"), message)

    def _before(
        self,
        step_id: str,
        made: Made,
        raw: Made,
        at: Pointer,
        places: Mapping[str, Pointer],
        outer: tuple[Mapping[str, Pointer], ...],
        edges: Edges,
    ) -> tuple[str, ...]:
        """The ids that the step waits for, each once, in the order written."""
        written: tuple[str, ...] = made.get("depends_on", ())
        for n, other in enumerate(written):
            place = (*at, "needs" if "needs" in raw else "depends_on", n)
            if other in places:
                if step_id:
                    self._edge(other, step_id, place, edges)
            elif any(other in scope for scope in outer):
                message = f"{other!r} is outside this graph; a step depends only on steps beside it"
                self._findings.add(place, message, "let the group depend on it, or name its result in an expression")
            else:
                self._known(other, place, places)
        return tuple(dict.fromkeys(edges.get(step_id, written))) if step_id else written

    def _action_key(self, raw: Made, step_id: str, at: Pointer) -> str | None:
        written = [action for action in forms.ACTIONS if action in raw]
        if len(written) == 1:
            return written[0]
        who = f"the step {step_id!r}" if step_id else "this step"
        if written:
            message = f"{who} has {' and '.join(f'`{a}`' for a in written)}; a step does exactly one thing"
            self._findings.add((*at, written[1]), message, "make two steps of it", at_key=True)
        elif not any(self._findings.suggest(key, forms.ACTIONS) for key in raw if key not in forms.STEP.names):
            message = f"{who} has nothing to do: it needs one of {any_of(forms.ACTIONS)}"
            self._findings.add(at, message)
        return None

    def _fitting(self, made: Made, action: str, step_id: str, raw: Made, at: Pointer) -> None:
        for key in made:
            takers = _ONLY_FOR.get(key)
            if takers is not None and action not in takers:
                written = key if key in raw else forms.STEP.keys[key].alias
                message = f"`{written}` is for {any_of(takers)} steps; {step_id or 'this'!r} is a {action} step"
                self._findings.add((*at, written), message, at_key=True)
        if "for_each" in made and "matrix" in made:
            self._findings.add((*at, "matrix"), "a step has `for_each` or `matrix`, not both", at_key=True)
        if "model" in made and action == "tool" and made.get("strategy") != "reasoning":
            message = "a tool step asks a model only with `strategy: reasoning`"
            self._findings.add((*at, "model"), message, at_key=True)

    def _action(
        self,
        key: str,
        made: Made,
        step_id: str,
        at: Pointer,
        places: Mapping[str, Pointer],
        outer: tuple[Mapping[str, Pointer], ...],
    ) -> Action:
        match key:
            case "tool":
                return ToolCall(made["tool"], made.get("parameters", {}))
            case "prompt":
                return _prompt(made)
            case "routine":
                target = self._resolve(made["routine"], (*at, "routine"), self._findings)
                return ChildRoutine(made["routine"], target, made.get("parameters", {}))
            case "parallel":
                inner = StepReader(self._findings, self._defaults, self._resolve)
                return Group(inner.graph(made["parallel"], (*at, "parallel"), outer=(*outer, places)))
            case "wait":
                return Wait(made["wait"])
        approval = made["approval"] or {}
        question = approval.get("prompt") or f"Go on with {made.get('name') or step_id!r}?"
        return Approval(question, approval.get("timeout"), approval.get("on_timeout", "reject"))

    def _strategy(self, action: Action, made: Made, at: Pointer) -> ExecutionStrategy | None:
        written = made.get("strategy")
        if isinstance(action, ToolCall):
            if written == "conversational":
                message = "a tool step is deterministic or reasoning; a conversation calls no tools"
                self._findings.add((*at, "strategy"), message)
            return ExecutionStrategy(written or "deterministic")
        if not isinstance(action, Prompt):
            return None
        if written == "deterministic":
            self._findings.add((*at, "strategy"), "a prompt asks a model: it is conversational or reasoning")
        if written == "conversational" and action.tools:
            self._findings.add((*at, "strategy"), "a conversation calls no tools", "write `strategy: reasoning`")
        if written:
            return ExecutionStrategy(written)
        if action.tools:
            return ExecutionStrategy.REASONING
        return self._defaults.strategy or ExecutionStrategy.CONVERSATIONAL

    def _build(
        self,
        step_id: str,
        action: Action,
        strategy: ExecutionStrategy | None,
        before: tuple[str, ...],
        made: Made,
        at: Pointer,
    ) -> Step:
        defaults = self._defaults
        # The steps in a group have the defaults themselves: the group would retry their retries.
        whole = isinstance(action, Group)
        retry, repeat, cache = made.get("retry"), made.get("repeat"), made.get("cache")
        if retry is not None and "on" in retry:
            self._check_codes(retry["on"], at)
        return Step(
            id=step_id,
            action=action,
            pointer=at,
            name=made.get("name", ""),
            description=made.get("description", ""),
            priority=PRIORITIES[made.get("priority", "medium")],
            after=before,
            branch=self._branches.get(step_id, ""),
            strategy=strategy,
            model=made.get("model", defaults.model if isinstance(action, Prompt) else ()),
            output_schema=self._output_schema(made, at),
            when=made.get("when"),
            has_when="when" in made,
            trigger_rule=made.get("trigger_rule", "none_failed"),
            for_each=self._for_each(made, at),
            repeat=None if repeat is None else Repeat(repeat["until"], repeat.get("max", 100), repeat.get("delay", 0)),
            retry=read_retry(retry) if retry is not None else None if whole else defaults.retry,
            timeout_ms=made.get("timeout", None if whole else defaults.timeout_ms),
            on_error=OnError(*made["on_error"]) if "on_error" in made else defaults.on_error or _FAIL,
            effects=made.get("effects"),
            cache=None if cache is None else CacheRule(cache.get("ttl"), cache.get("key")),
            approval_required=made.get("approval_required", False),
            set=made.get("set", {}),
            export=made.get("export", {}),
            limits=read_limits(made["allocation"]) if "allocation" in made else None,
            resources=made.get("resources", {}),
        )

    def _check_codes(self, codes: tuple[str, ...], at: Pointer) -> None:
        """A code may be a tool's own (``NOT_FOUND``), but one that is ours save for a letter or two is a slip."""
        for n, code in enumerate(codes):
            alike = () if code in ERROR_CODES else [one for one in ERROR_CODES if abs(len(one) - len(code)) <= 2]
            hint = self._findings.suggest(code, alike)
            if hint:
                self._findings.warn((*at, "retry", "on", n), f"no error of vrooli has the code {code}", hint)

    def _output_schema(self, made: Made, at: Pointer) -> Mapping[str, Any] | None:
        schema: Mapping[str, Any] | None = made.get("output_schema")
        if schema is not None:
            is_schema(schema, (*at, "output_schema"), self._findings)
        return schema

    def _for_each(self, made: Made, at: Pointer) -> ForEach | None:
        if "matrix" in made:
            if not made["matrix"]:
                self._findings.add((*at, "matrix"), "`matrix` needs at least one name with its values")
            return ForEach(made["matrix"], matrix=True)
        loop = made.get("for_each")
        if loop is None:
            return None
        alias = loop.get("as", "item")
        if alias != "item" and alias in forms.RESERVED:
            self._findings.add((*at, "for_each", "as"), f"{alias!r} means something else in expressions")
        return ForEach(
            loop["items"], False, alias, loop.get("key"), loop.get("max_concurrent"), loop.get("fail_fast", True)
        )


def _prompt(made: Made) -> Prompt:
    return Prompt(
        made["prompt"],
        system=made.get("system"),
        messages=made.get("messages", ()),
        tools=made.get("tools", ()),
        max_turns=made.get("max_turns", 8),
        temperature=made.get("temperature"),
        max_tokens=made.get("max_tokens"),
        seed=made.get("seed"),
        stop=made.get("stop", ()),
        context=made.get("context", ()),
        reveal=made.get("reveal", ()),
    )


_RETRY_FIELDS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("max_attempts", "max_attempts", int),
    ("delay", "delay_ms", int),
    ("backoff", "backoff", float),
    ("max_delay", "max_delay_ms", int),
    ("jitter", "jitter", float),
    ("on", "on", tuple),
)


def read_retry(made: Made, *, written: bool = True) -> RetryPolicy:
    """``retry`` as read by its form; ``written`` is False for one that comes from ``defaults``."""
    fields = {name: make(made[key]) for key, name, make in _RETRY_FIELDS if key in made}
    return RetryPolicy(**fields, when=made.get("when"), written=written)


def _ids(raw: list[Any]) -> list[str]:
    return [step["id"] for step in raw if isinstance(step, dict) and isinstance(step.get("id"), str)]


def _places(raw: list[Any], at: Pointer) -> dict[str, Pointer]:
    """Id → the first step that has it."""
    places: dict[str, Pointer] = {}
    for n, step in enumerate(raw):
        if isinstance(step, dict) and isinstance(step.get("id"), str):
            places.setdefault(step["id"], (*at, n))
    return places
