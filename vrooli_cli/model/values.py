"""Values: slots dataclasses that are quick to make, as classes and as objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def lean(*, kw_only: bool = False, frozen: bool = True, eq: bool = True) -> Callable[[type[T]], type[T]]:
    """A slots dataclass that is frozen for the type checker only; equal, hashed and shown by its fields.

    A really frozen one takes four times as long to make, and a step makes dozens of values. The class itself costs a
    tenth of a dataclass: hundreds are made at every start and few are used, so the method that makes objects is
    compiled with the first one. ``frozen=False``: the type checker lets everybody assign; it has no hash. ``eq=False``:
    each is equal to itself only.
    """

    def make(cls: type[T]) -> type[T]:
        made = slotted(cls, kw_only=kw_only)
        own = vars(cls)
        by_fields = (("__eq__", _equal), ("__hash__", _hash if frozen else None)) if eq else ()
        for name, method in (*by_fields, ("__repr__", _shown)):
            if own.get(name) is None:
                setattr(made, name, method)
        return made

    return make


def slotted(cls: type[T], *, kw_only: bool = False) -> type[T]:
    """The class with a slot a field; what ``dataclasses`` knows of it is made when somebody asks.

    ``dataclasses.fields``, ``replace``, ``asdict`` and patterns by position work as with ``dataclass(slots=True)``;
    ``__init__`` is compiled when it has been called some times. ``__eq__``, ``__hash__`` and ``__repr__`` are those of
    ``cls``.
    """
    about = dict(vars(cls))
    types: dict[str, Any] = about.get("__annotations__", {})
    names = [name for name, kind in types.items() if not str(kind).startswith("ClassVar")]
    given = {name: about.pop(name) for name in names if name in about}
    taken = {name for base in cls.__mro__[1:] for name in vars(base).get("__slots__", ())}
    about["__slots__"] = tuple(name for name in names if name not in taken)
    about.pop("__dict__", None)
    about.pop("__weakref__", None)
    later = _Fields({name: types[name] for name in names}, given, kw_only)
    about["__dataclass_fields__"] = later
    about["__dataclass_params__"] = vars(_Plain)["__dataclass_params__"]
    about["__match_args__"] = _Positions()
    kind: Any = type(cls)  # ABCMeta, for some
    made = kind(cls.__name__, cls.__bases__, about)
    made.__qualname__ = cls.__qualname__
    later.owner = made
    if "__init__" not in about:
        _defer_init(made)
    return made  # type: ignore[no-any-return]


@dataclass(init=False, repr=False, eq=False)
class _Plain:
    """Whose parameters are those of every slotted class."""


class _Fields:
    """``__dataclass_fields__`` of a class until it is first read."""

    __slots__ = ("given", "kw_only", "owner", "types")

    def __init__(self, types: dict[str, Any], given: dict[str, Any], kw_only: bool) -> None:
        self.types, self.given, self.kw_only = types, given, kw_only
        self.owner: Any = None

    def __get__(self, one: object, kind: object) -> dict[str, Field[Any]]:
        owner = self.owner
        about = {"__annotations__": self.types, "__module__": owner.__module__, **self.given}
        about["__doc__"] = "-"  # else dataclass() has inspect write a signature
        alone: Any = dataclass(init=False, repr=False, eq=False, kw_only=self.kw_only)(type(owner.__name__, (), about))
        known: dict[str, Field[Any]] = {}
        for base in owner.__mro__[-1:0:-1]:
            known.update(getattr(base, "__dataclass_fields__", {}))
        owner.__dataclass_fields__ = known | {one.name: one for one in fields(alone)}
        return owner.__dataclass_fields__  # type: ignore[no-any-return]

    def parts(self) -> Iterator[Part]:
        """The fields at a tenth of the cost of those that ``dataclasses`` knows."""
        for name in self.types:
            about = self.given.get(name, MISSING)
            if not isinstance(about, Field):
                yield Part(name, not self.kw_only, True, about, MISSING, {})
                continue
            kw_only = self.kw_only if about.kw_only is MISSING else about.kw_only
            yield Part(name, not kw_only, about.init, about.default, about.default_factory, about.metadata)


class Part(NamedTuple):
    """A field, as far as making and writing an object needs it.

    Attributes:
        positional: It may be given by position.
        init: It is a parameter of ``__init__``.
    """

    name: str
    positional: bool
    init: bool
    default: Any
    factory: Any
    metadata: Mapping[Any, Any]


class _Positions:
    """``__match_args__`` of a class."""

    __slots__ = ()

    def __get__(self, one: object, kind: Any) -> tuple[str, ...]:
        return tuple(one.name for one in fields(kind) if one.init and not one.kw_only)


_RARE = 6  # objects; compiling costs as much as making some thirty without


def _defer_init(kind: Any) -> None:
    """Give a class its ``__init__``: slow for the first objects, then compiled."""
    left = _RARE
    parts: list[Part] = []

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal left
        left -= 1
        if left == _RARE - 1:
            parts.extend(parts_of(kind))
        if left < 0 or not _filled(self, parts, args, kwargs):
            kind.__init__ = compiled = _compile_init(kind)
            compiled(self, *args, **kwargs)
        elif hasattr(self, "__post_init__"):
            self.__post_init__()

    __init__.__qualname__ = f"{kind.__qualname__}.__init__"
    kind.__init__ = __init__


def parts_of(kind: Any) -> list[Part]:
    """The fields of a class, those of its bases first; a field that is given anew keeps its place."""
    known: dict[str, Part] = {}
    for base in reversed(kind.__mro__):
        later = vars(base).get("__dataclass_fields__")
        if isinstance(later, _Fields):
            known.update((one.name, one) for one in later.parts())
        elif later is not None:
            known.update((one.name, _part(one)) for one in later.values())
    return list(known.values())


def _part(one: Field[Any]) -> Part:
    return Part(one.name, not one.kw_only, one.init, one.default, one.default_factory, one.metadata)


def _filled(one: Any, parts: list[Part], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Assign every field; False where the arguments are not those that the class takes."""
    taken, named = 0, 0
    for name, positional, init, default, factory, _ in parts:
        if positional and init and taken < len(args):
            value = args[taken]
            taken += 1
        elif init and name in kwargs:
            value = kwargs[name]
            named += 1
        elif factory is not MISSING:
            value = factory()
        elif default is not MISSING:
            value = default
        elif init:
            return False
        else:
            continue
        setattr(one, name, value)
    return taken == len(args) and named == len(kwargs)


def _compile_init(kind: Any) -> Callable[..., None]:
    """What ``dataclass`` would have made: each parameter assigned, defaults and factories kept, then the rest."""
    known: dict[str, Any] = {"_absent": MISSING}
    parts = parts_of(kind)
    parameters = [_parameter(one, known) for one in parts if one.init and one.positional]
    named = [_parameter(one, known) for one in parts if one.init and not one.positional]
    lines = [line for one in parts if (line := _assignment(one, known))]
    if hasattr(kind, "__post_init__"):
        lines.append("self.__post_init__()")
    signature = ", ".join(["self", *parameters, *(["*", *named] if named else [])])
    body = "".join(f"\n    {line}" for line in lines or ["pass"])
    exec(f"def __init__({signature}) -> None:{body}", known)  # noqa: S102 - names of fields, as dataclasses do
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    return made


def _parameter(one: Part, known: dict[str, Any]) -> str:
    if one.default is MISSING:
        return one.name if one.factory is MISSING else f"{one.name}=_absent"
    known[f"_{one.name}"] = one.default
    return f"{one.name}=_{one.name}"


def _assignment(one: Part, known: dict[str, Any]) -> str:
    """``self.x = x``; of a field that is no parameter its default, if it has one."""
    if one.factory is not MISSING:
        known[f"_{one.name}"] = one.factory
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
