"""Values made without a compiled ``__init__`` and with one are the same, and are those of ``dataclasses``."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.model.values import lean

MANY = 20
"""Objects after which every class has its compiled ``__init__``."""


def _base(make: Callable[[type], type]) -> Any:
    @make
    class Base:
        kind: ClassVar[str] = "base"
        first: int
        second: str = "two"

    return Base


def _derived(make: Callable[[type], type], base: Any) -> Any:
    @make
    class Derived(base):  # type: ignore[misc]
        second: str = "zwei"
        items: list[int] = field(default_factory=list)
        hidden: int = field(default=7, init=False, compare=False)
        named: str = field(default="n", kw_only=True)
        twice: int = field(default=0, init=False)

        def __post_init__(self) -> None:
            self.twice = self.first * 2

    return Derived


def _pair() -> tuple[Any, Any]:
    ours = _derived(lean(), _base(lean()))
    theirs = _derived(dataclasses.dataclass(slots=True), _base(dataclasses.dataclass(slots=True)))
    return ours, theirs


def _made(kind: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    try:
        return dataclasses.asdict(kind(*args, **kwargs))
    except TypeError:
        return TypeError


_NAMES = st.sampled_from(["first", "second", "items", "hidden", "named", "other"])


@given(st.lists(st.integers(0, 9), max_size=4), st.dictionaries(_NAMES, st.integers(0, 9), max_size=4))
def test_any_arguments_make_what_a_dataclass_makes_early_and_late(args: list[int], kwargs: dict[str, int]) -> None:
    ours, theirs = _pair()
    expected = _made(theirs, tuple(args), kwargs)
    assert _made(ours, tuple(args), kwargs) == expected
    for number in range(MANY):
        ours(number)
    assert _made(ours, tuple(args), kwargs) == expected


def test_a_factory_makes_a_new_object_each_time() -> None:
    ours, _ = _pair()
    made = [ours(1) for _ in range(MANY)]
    assert len({id(one.items) for one in made}) == MANY


def test_what_dataclasses_tell_of_a_class_is_what_they_tell_of_their_own() -> None:
    ours, theirs = _pair()
    about = [(one.name, one.type, one.init, one.kw_only, one.compare) for one in dataclasses.fields(ours)]
    assert about == [(one.name, one.type, one.init, one.kw_only, one.compare) for one in dataclasses.fields(theirs)]
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.__slots__ == theirs.__slots__
    assert not hasattr(ours(1), "__dict__")
    assert dataclasses.is_dataclass(ours)


def test_a_value_can_be_replaced_copied_and_taken_apart() -> None:
    ours, _ = _pair()
    one = ours(3, named="x")
    assert dataclasses.replace(one, first=4) == ours(4, named="x")
    assert copy.copy(one) == one
    match one:
        case ours(first, second, named="x"):
            assert (first, second) == (3, "zwei")
        case _:
            pytest.fail("not taken apart")


@lean()
class Point:
    """A value of a module, for pickle."""

    x: int
    y: int = 0


def test_a_value_survives_pickle() -> None:
    assert pickle.loads(pickle.dumps(Point(1, y=2))) == Point(1, 2)
