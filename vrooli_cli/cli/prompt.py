"""Asking a person on the terminal, one question at a time, with the view out of the way (spec cli.md, "The live view").

stdin and stderr must be terminals; stdout may be a pipe. The line is read with the loop's own reader, so a question
that is no longer asked (the run was stopped, its time is over) holds nothing and nobody.
"""

from __future__ import annotations

import asyncio
import os
import sys
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from vrooli_cli.cli.console import one_line, visible_lines
from vrooli_cli.gate import DEFERRED, Answer, Deferred, Question
from vrooli_cli.model.run import user_name

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

_YES, _NO, _LATER = ("y", "yes"), ("n", "no"), ("l", "later")
_SHOWN = 300  # characters of what a call was given


class Pausing(Protocol):
    """What the prompt needs of a view."""

    def paused(self) -> AbstractAsyncContextManager[None]:
        """While inside, the terminal is the caller's."""


def can_ask() -> bool:
    """True when a person sits there: stdin and stderr are terminals."""
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except ValueError:  # one of them is closed
        return False


class TerminalApprover:
    """An :class:`vrooli_cli.gate.Approver`.

    Attributes:
        view: Whose drawing stops while a question is open; set once there is one.
    """

    def __init__(self, view: Pausing | None = None) -> None:
        self.view = view
        self._turn = asyncio.Lock()

    async def ask(self, question: Question) -> Answer | Deferred:
        """What the person says; DEFERRED for "later" and for the end of the input."""
        async with self._turn:
            if self.view is None:
                return await self._asked(question)
            async with self.view.paused():
                return await self._asked(question)

    async def _asked(self, question: Question) -> Answer | Deferred:
        _tell("\n".join(_words(question)) + "\n")
        with suppress(termios.error):
            termios.tcflush(0, termios.TCIFLUSH)  # what was typed before the question is no answer to it
        try:
            while True:
                _tell("  [y]es, [n]o or [l]ater; words after it are a comment: ")
                said = await _line()
                if said is None:
                    _tell("\n")
                    return DEFERRED
                answer = understood(said)
                if answer is not None:
                    return answer
        except asyncio.CancelledError:
            _tell("\n  (no longer asked)\n")
            raise


def understood(said: str) -> Answer | Deferred | None:
    """What a line means; None when it is no answer."""
    word, _, rest = said.strip().partition(" ")
    word = word.lower().rstrip(",.:")
    if word in _LATER:
        return DEFERRED
    if word in _YES or word in _NO:
        return Answer(word in _YES, user_name(), rest.strip() or None)
    return None


def _words(question: Question) -> list[str]:
    """The question; every part of it was written by others."""
    head = "May this be done?" if question.kind == "permission" else "Approval"
    first, *more = visible_lines(question.prompt) or [""]
    lines = [f"? {head} {one_line(question.address, 120)}: {first}", *(f"  {line}" for line in more)]
    if question.tool and question.parameters:
        lines.append(f"  {question.tool} {one_line(dict(question.parameters), _SHOWN)}")
    if question.rule:
        lines.append(f"  asked by {one_line(question.rule, 120)}")
    if question.suggestion:
        lines.append(f"  --allow '{one_line(question.suggestion, 120)}' would let it through")
    return lines


def _tell(text: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


async def _line() -> str | None:
    """One line of the terminal; None at the end of input."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(0, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(0)
    try:
        data = os.read(0, 4096)
    except OSError:  # the terminal is gone
        return None
    return data.decode("utf-8", "replace") if data else None
