"""Every way in which vrooli can refuse or fail, and the exit code that each one ends in.

::

    VrooliError                  anything a person can be told in one line; carries code, tier, step, context
    ├── DefinitionError          the file is wrong (holds every Problem found, not only the first)
    ├── InputError               an input is missing, unknown or invalid
    ├── ToolError                a tool failed; the class that authors of tools raise
    ├── ExpressionError          an expression could not be evaluated
    ├── StoreError               the journal cannot be written or read
    ├── OrganisationError        an operation that the organisation's rules refuse
    └── UnknownRunError          no run has that id
    IllegalMove                  a bug: a machine was asked for a move that is not in its table

Mistakes of the user are raised and shown at one place (``cli.main``), without a traceback. The failure of a step is a
*value* (``model.run.ExecutionError``) and an event; it is never raised through the engine. What is wrong with a file
is a value too, a :class:`Problem` with a pointer: every floor has a ``check`` that returns problems; only ``loading``
knows lines and turns a pointer into ``file:line:column`` with the source line and a caret.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

Tier = Literal["tier1", "tier2", "tier3"]

_MANY = 400  # from here on only names of the same beginning and about the same length are compared

# Exit codes by error code (spec cli.md, "Exit codes"); what is not named here ends in 1.
EXIT_CODES: dict[str, int] = {
    "DEFINITION_INVALID": 2,
    "INPUT_INVALID": 2,
    "CYCLE": 2,
    "TOOL_NOT_FOUND": 2,
    "TEAM_INFEASIBLE": 2,
    "PERMISSION_DENIED": 3,
    "APPROVAL_DENIED": 3,
    "NORM_VIOLATED": 3,
    "CREDITS_EXHAUSTED": 4,
    "MEMORY_EXCEEDED": 4,
    "APPROVAL_REQUIRED": 5,
    "OUTCOME_UNKNOWN": 5,
    "AI_UNAVAILABLE": 6,
    "AI_RATE_LIMITED": 6,
    "INTERNAL": 70,
    "RUN_TIMEOUT": 124,
    "CANCELLED": 130,
}

# Every code that a result or an event may carry (spec routine.md, "Errors").
ERROR_CODES: frozenset[str] = frozenset(EXIT_CODES) | {
    "PARAMETER_INVALID",
    "TOOL_FAILED",
    "OUTPUT_INVALID",
    "EXPRESSION_ERROR",
    "STEP_TIMEOUT",
    "INTERRUPTED",
    "AI_REFUSED",
    "AI_OUTPUT_INVALID",
    "DECOMPOSITION_INVALID",
    "STORE_ERROR",
    "REPEAT_EXHAUSTED",
}

# Found before anything ran: the run is refused with 2. Found while running, the same code is an ordinary failure (1).
_LOAD_ONLY = frozenset({"DEFINITION_INVALID", "INPUT_INVALID", "CYCLE", "TOOL_NOT_FOUND", "TEAM_INFEASIBLE"})


def exit_code(code: str, *, ran: bool = False) -> int:
    """The process's exit status for an error code.

    Args:
        code: One of :data:`ERROR_CODES`, or a tool's own code.
        ran: True when a step had already been started, so that "nothing was run" (2) would be a lie.
    """
    if ran and code in _LOAD_ONLY:
        return 1
    return EXIT_CODES.get(code, 1)


Pointer = tuple[str | int, ...]
"""The way from the document's root to a value: mapping keys and list positions, e.g. ``("steps", 3, "tool")``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a definition.

    Attributes:
        pointer: Where, as keys and positions from the root.
        message: What is wrong and what was expected, one line.
        hint: What to do, one line; empty when the message says it all.
        code: The error code of a run that is refused for it.
        at_key: Point at the mapping key rather than at its value.
        warning: True for what is worth saying but stops nothing.
        within: The words in the value's text that are meant, if they can be found there.
        file: The file's name when it is not the main one (a child routine).
        line: 1-based, filled in by loading.
        column: 1-based, filled in by loading.
        excerpt: The source line with a caret under it, filled in by loading; control characters escaped.
    """

    pointer: Pointer
    message: str
    hint: str = ""
    code: str = "DEFINITION_INVALID"
    at_key: bool = False
    warning: bool = False
    within: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    excerpt: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: " if self.file else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the known word nearest to ``word``; empty when none is near."""
    if len(word) > 200:  # difflib is quadratic; nobody mistypes a word this long
        return ""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


class Guesses:
    """Suggestions within a budget: a generated file may have thousands of unknown names beside thousands of known ones.

    Attributes:
        left: Comparisons that may still be made; each is some 10 us of difflib.
    """

    __slots__ = ("left",)

    def __init__(self, budget: int = 20_000) -> None:
        self.left = budget

    def near(self, word: str, known: Callable[[], Collection[str]]) -> str:
        """``did you mean 'x'?``, or nothing when none is near or what guessing may cost has been used up."""
        if self.left <= 0:
            return ""
        names = known()
        near = names
        if len(names) > _MANY:
            begins, length = word[:1], len(word)
            near = [name for name in names if name[:1] == begins and abs(len(name) - length) <= 2]
            near = sorted(near, key=lambda name: name[-4:] != word[-4:])[:_MANY]  # numbers stand at the end
        self.left -= len(near) + len(names) // 100
        return did_you_mean(word, near)


class VrooliError(Exception):
    """Something that a person can be told in one line.

    Attributes:
        code: The stable code that scripts rely on.
        message: One sentence: what was expected, and what to do.
        tier: The tier that found it; None before a tier ran.
        step: The path of the step, if one was at work.
        context: JSON-able details, e.g. ``exit_code`` or the tail of stderr.
    """

    code: str = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        tier: Tier | None = None,
        step: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.tier: Tier | None = tier
        self.step = step
        self.context: dict[str, Any] = dict(context or {})


class DefinitionError(VrooliError):
    """The file cannot be run as it is written; ``problems`` holds everything that is wrong with it."""

    code = "DEFINITION_INVALID"

    def __init__(self, problems: Sequence[Problem], *, code: str | None = None) -> None:
        self.problems = tuple(problems)
        first = str(self.problems[0]) if self.problems else "the definition is not valid"
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        super().__init__(first + more, code=code)


class InputError(VrooliError):
    """An input of the run is missing, unknown or not valid."""

    code = "INPUT_INVALID"


class ExpressionError(VrooliError):
    """An expression failed when it was evaluated: a missing field, a wrong type, a limit."""

    code = "EXPRESSION_ERROR"


class ToolError(VrooliError):
    """The way for a tool to fail.

    ``raise ToolError("no such branch", code="NOT_FOUND", retryable=False)``. A tool's own code stands in
    ``context["code"]`` as well as in :attr:`code`, so that ``retry: {on: [NOT_FOUND]}`` can name it.

    Attributes:
        retryable: False keeps a ``retry`` that does not name the code from trying again.
    """

    code = "TOOL_FAILED"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool = True,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code, tier="tier3", context=context)
        self.retryable = retryable


class StoreError(VrooliError):
    """The journal cannot be opened, read or written: full disk, read-only folder, damaged or locked file."""

    code = "STORE_ERROR"


class OrganisationError(VrooliError):
    """An operation that the rules of an organisation refuse; the organisation is unchanged.

    Attributes:
        kind: ``consistency``, ``cardinality`` or ``not_enabled`` (spec swarm.md, "The organisation engine").
    """

    code = "NORM_VIOLATED"

    def __init__(self, kind: Literal["consistency", "cardinality", "not_enabled"], message: str) -> None:
        super().__init__(message, tier="tier1")
        self.kind = kind


class UnknownRunError(VrooliError, KeyError):
    """No run of that id is known here."""

    code = "INPUT_INVALID"

    def __str__(self) -> str:
        return self.message


class IllegalMove(AssertionError):
    """A machine was asked for a move that its table does not have: a bug in vrooli, told with the node's story."""


def innermost(error: BaseException) -> BaseException:
    """The first error in groups of errors, however deep: what a task group was left with."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
