"""Routines and projects as plain JSON data and back, for stored plans: never pickle, nothing that is not listed here.

A value becomes the map of its fields that are not as by default. What a field holds is told by the tables below; a
field that they do not name holds plain data and is taken as it is. Whoever stores compares what comes back with what
went in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from vrooli_cli.errors import Problem
from vrooli_cli.loading.home import Base, Project
from vrooli_cli.loading.limits import Limits as FileLimits
from vrooli_cli.model.routine import (
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


class Coder(NamedTuple):
    """To plain data and back; null stays null."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _maybe(coder: Coder) -> Coder:
    return Coder(
        lambda value: None if value is None else coder.encode(value),
        lambda plain: None if plain is None else coder.decode(plain),
    )


def _each(coder: Coder) -> Coder:
    return Coder(
        lambda values: [coder.encode(one) for one in values], lambda plain: tuple([coder.decode(one) for one in plain])
    )


def _by_name(coder: Coder) -> Coder:
    return Coder(
        lambda values: {name: coder.encode(one) for name, one in values.items()},
        lambda plain: {name: coder.decode(one) for name, one in plain.items()},
    )


def _record(kind: Any, **inside: Coder) -> Coder:
    """The coder of one class; ``inside`` those of its fields that hold no plain data."""

    def encode(value: Any) -> dict[str, Any]:
        made = {}
        defaults, read = _defaults(kind)
        for (name, default), one in zip(defaults, read(value), strict=True):
            if one is not default and (type(one) is not type(default) or one != default):
                made[name] = inside[name].encode(one) if name in inside else one
        return made

    def decode(plain: Mapping[str, Any]) -> Any:
        return kind(**{name: inside[name].decode(one) if name in inside else one for name, one in plain.items()})

    return _maybe(Coder(encode, decode))


@cache
def _defaults(kind: Any) -> tuple[list[tuple[str, Any]], Callable[[Any], tuple[Any, ...]]]:
    """Name and default of every field, and what reads them all at once."""
    made = []
    for field in fields(kind):
        factory = field.default_factory
        made.append((field.name, field.default if factory is MISSING else factory()))
    names = [name for name, _ in made]
    return made, attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)


def _listed(value: Any) -> Any:
    """Data in which sequences that loading has read are tuples (``enum``, ``fallback``, ``args``)."""
    if isinstance(value, tuple):
        return {_SEQUENCE: [_listed(one) for one in value]}
    return {name: _listed(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def _tupled(plain: Any) -> Any:
    if not isinstance(plain, dict):
        return plain
    if plain.keys() == {_SEQUENCE}:
        return tuple(_tupled(one) for one in plain[_SEQUENCE])
    return {name: _tupled(one) for name, one in plain.items()}


_SEQUENCE = "()"
_DATA = Coder(_listed, _tupled)
_TUPLE = Coder(list, tuple)
_STRATEGY = _maybe(Coder(str, ExecutionStrategy))
_PATH = _maybe(Coder(str, Path))
_RETRY = _record(RetryPolicy, on=_TUPLE)
_ON_ERROR = _record(OnError)
_CALL = _record(ToolCall)
_PROMPT = _record(Prompt, messages=_TUPLE, tools=_TUPLE, stop=_TUPLE, context=_TUPLE, reveal=_TUPLE)
_ROUTINE_CALL = _record(ChildRoutine)
_STEPS = _each(Coder(lambda step: _step().encode(step), lambda plain: _step().decode(plain)))  # a group holds steps
_ACTIONS: dict[type, Coder] = {
    ToolCall: _CALL,
    Prompt: _PROMPT,
    ChildRoutine: _ROUTINE_CALL,
    Group: _record(Group, steps=_STEPS),
    Wait: _record(Wait),
    Approval: _record(Approval),
}
_NAMED = {kind.__name__: coder for kind, coder in _ACTIONS.items()}
_ACTION = Coder(
    lambda action: [type(action).__name__, _ACTIONS[type(action)].encode(action)],
    lambda plain: _NAMED[plain[0]].decode(plain[1]),
)
_LIMITS = _record(Limits)
_STEP: Coder = _record(
    Step,
    action=_ACTION,
    pointer=_TUPLE,
    after=_TUPLE,
    strategy=_STRATEGY,
    model=_TUPLE,
    for_each=_record(ForEach),
    repeat=_record(Repeat),
    retry=_RETRY,
    on_error=_ON_ERROR,
    cache=_record(CacheRule),
    limits=_LIMITS,
)


def _step() -> Coder:
    return _STEP


_RULES = _each(_record(Rule))
_PERMISSIONS = _record(Permissions, allow=_RULES, ask=_RULES, deny=_RULES)
_AGENTS = _each(_record(EventAgent, action=_ACTION, model=_TUPLE, pointer=_TUPLE))
_DEFAULTS = _record(Defaults, retry=_RETRY, on_error=_ON_ERROR, strategy=_STRATEGY, model=_TUPLE)

ROUTINE = _record(
    Routine,
    steps=_STEPS,
    inputs=_by_name(_record(Input, schema=_DATA, pointer=_TUPLE)),
    limits=_LIMITS,
    permissions=_PERMISSIONS,
    handlers=_by_name(_STEPS),
    events=_AGENTS,
    extras=_DATA,
)
PROBLEM = _record(Problem, pointer=_TUPLE)
PROJECT = _record(
    Project,
    root=_PATH,
    file=_PATH,
    base=_record(Base, defaults=_DEFAULTS, limits=_LIMITS, models=_DATA, mcp_servers=_DATA, executor=_DATA),
    permissions=_PERMISSIONS,
    events=_AGENTS,
    limits=_record(FileLimits),
    warnings=_each(PROBLEM),
)
