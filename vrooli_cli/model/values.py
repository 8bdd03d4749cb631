"""Values that are made many times a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def lean(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """A slots dataclass that is frozen for the type checker only: a really frozen one takes four times as long to make.

    Nobody assigns to one; it is equal and hashed by its fields.
    """

    def make(cls: type[T]) -> type[T]:
        return dataclass(slots=True, kw_only=kw_only, unsafe_hash=True)(cls)

    return make
