"""Values: slots dataclasses that are quick to make, as classes and as objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def lean(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """A slots dataclass that is frozen for the type checker only; equal, hashed and shown by its fields.

    A really frozen one takes four times as long to make, and a step makes dozens of values. A class gets one generated
    method instead of six: hundreds of classes are made at every start.
    """

    def make(cls: type[T]) -> type[T]:
        own = vars(cls)
        made: Any = dataclass(slots=True, kw_only=kw_only, repr=False, eq=False)(cls)
        for name, method in (("__eq__", _equal), ("__hash__", _hash), ("__repr__", _shown)):
            if own.get(name) is None:
                setattr(made, name, method)
        return made  # type: ignore[no-any-return]

    return make


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
    fields = [about for about in one.__dataclass_fields__.values() if about.repr]
    return f"{type(one).__name__}({', '.join(f'{about.name}={getattr(one, about.name)!r}' for about in fields)})"
