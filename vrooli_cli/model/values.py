"""Values: slots dataclasses that are quick to make, as classes and as objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def lean(*, kw_only: bool = False, frozen: bool = True) -> Callable[[type[T]], type[T]]:
    """A slots dataclass that is frozen for the type checker only; equal, hashed and shown by its fields.

    A really frozen one takes four times as long to make, and a step makes dozens of values. The class itself costs a
    tenth of a dataclass: hundreds are made at every start and few are used, so the method that makes objects is
    compiled with the first one. ``frozen=False``: the type checker lets everybody assign; it has no hash.
    """

    def make(cls: type[T]) -> type[T]:
        own = vars(cls)
        made: Any = dataclass(slots=True, kw_only=kw_only, init=False, repr=False, eq=False)(cls)
        for name, method in (("__eq__", _equal), ("__hash__", _hash if frozen else None), ("__repr__", _shown)):
            if own.get(name) is None:
                setattr(made, name, method)
        if "__init__" not in own:
            defer_init(made)
        return made  # type: ignore[no-any-return]

    return make


def defer_init(kind: Any) -> None:
    """Give a dataclass that was made with ``init=False`` its ``__init__``, compiled when it is first called."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__ = compiled = _compile_init(kind)
        compiled(self, *args, **kwargs)

    __init__.__qualname__ = f"{kind.__qualname__}.__init__"
    kind.__init__ = __init__


def _compile_init(kind: Any) -> Callable[..., None]:
    """What ``dataclass`` would have made: each parameter assigned, defaults and factories kept, then the rest."""
    known: dict[str, Any] = {"_absent": MISSING}
    parameters = [_parameter(one, known) for one in fields(kind) if one.init and not one.kw_only]
    named = [_parameter(one, known) for one in fields(kind) if one.init and one.kw_only]
    lines = [line for one in fields(kind) if (line := _assignment(one, known))]
    if hasattr(kind, "__post_init__"):
        lines.append("self.__post_init__()")
    signature = ", ".join(["self", *parameters, *(["*", *named] if named else [])])
    body = "".join(f"\n    {line}" for line in lines or ["pass"])
    exec(f"def __init__({signature}) -> None:{body}", known)  # noqa: S102 - names of fields, as dataclasses do
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    return made


def _parameter(one: Field[Any], known: dict[str, Any]) -> str:
    if one.default is MISSING:
        return one.name if one.default_factory is MISSING else f"{one.name}=_absent"
    known[f"_{one.name}"] = one.default
    return f"{one.name}=_{one.name}"


def _assignment(one: Field[Any], known: dict[str, Any]) -> str:
    """``self.x = x``; of a field that is no parameter its default, if it has one."""
    if one.default_factory is not MISSING:
        known[f"_{one.name}"] = one.default_factory
        made = f"_{one.name}()"
        return f"self.{one.name} = {f'{made} if {one.name} is _absent else {one.name}' if one.init else made}"
    if one.init:
        return f"self.{one.name} = {one.name}"
    if one.default is MISSING:
        return ""
    known[f"_{one.name}"] = one.default
    return f"self.{one.name} = _{one.name}"


def _values(one: Any) -> Any:
    kind: Any = type(one)
    return _reader(kind)(one)


@lru_cache(None)
def _reader(kind: Any) -> Callable[[Any], Any]:
    names = [name for name, about in kind.__dataclass_fields__.items() if about.compare]
    return attrgetter(*names) if names else lambda one: ()


def _equal(one: object, other: object) -> bool:
    return _values(one) == _values(other) if type(one) is type(other) else NotImplemented


def _hash(one: object) -> int:
    return hash(_values(one))


def _shown(one: Any) -> str:
    told = (f"{about.name}={getattr(one, about.name)!r}" for about in fields(one) if about.repr)
    return f"{type(one).__name__}({', '.join(told)})"
