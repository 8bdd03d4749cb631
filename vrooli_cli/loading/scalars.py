"""What an unquoted YAML scalar means: the core schema of YAML 1.2, narrowed (spec routine.md, "YAML").

========================  ==========================================================================================
``null Null NULL ~`` and  null. Only as a value; as a mapping key every scalar is its text.
the empty scalar
``true false``            the booleans. ``True`` and ``TRUE`` are text, with a warning; ``yes no on off y n`` are text.
``12 -3 +4 0x1F 0o17``    integers. No leading zero (``007`` is text), no ``_``, no base 60.
``1.5 .5 5. 1e3 -2.5E-3`` floats. No leading zero here either.
``.inf -.inf .nan``       refused, as is ``1e999``: results are JSON, which has no such number.
over 300 characters       such a number is refused: no double holds it, and to convert it takes quadratic time.
everything else           text, dates too.
========================  ==========================================================================================
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Final

Scalar = str | int | float | bool | None

NUMBER_LENGTH: Final = 300
"""Characters that a number may have; the largest double has 309 digits."""

PLAINLY_TEXT: Final = frozenset("ABCDEGHIJKLMOPQRSUVWXYZabcdeghijklmopqrsuvwxyz/_{$<=^():;,\\")
"""First characters that make a scalar text whatever follows."""

_WORDS: Final[dict[str, Scalar]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "false": False,
}
_CAPITAL_BOOLEANS: Final = frozenset({"True", "TRUE", "False", "FALSE"})
_MAY_BE_NUMBER: Final = frozenset("0123456789+-.")
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*+)")
_RADIX: Final = re.compile(r"0x[0-9a-fA-F]++|0o[0-7]++")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]++|(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?)(?:[eE][-+]?[0-9]++)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class Doubtful(Exception):
    """A scalar that must not be taken silently.

    Attributes:
        message: What is wrong with it, one line.
        hint: What to write instead.
        value: What it means all the same, when ``fatal`` is False.
        fatal: False when a warning is enough.
    """

    def __init__(self, message: str, hint: str, *, value: Scalar = None, fatal: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.value = value
        self.fatal = fatal


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar.

    Raises:
        Doubtful: For a number that JSON cannot hold, and, not fatal, for a boolean in capitals.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in _MAY_BE_NUMBER:
        return _number(text)
    if text in _CAPITAL_BOOLEANS:
        right = text.lower()
        raise Doubtful(
            f"{text} is text here: only true and false are booleans",
            f'write {right}, or "{text}" if text is meant',
            value=text,
            fatal=False,
        )
    return text


def _number(text: str) -> Scalar:
    if _INTEGER.fullmatch(text):
        _check_length(text)
        return int(text)
    if _FLOAT.fullmatch(text):
        _check_length(text)
        value = float(text)
        if not isfinite(value):
            raise Doubtful(f"the number {text[:40]} is too large for a double", "put it in quotes if text is meant")
        return value
    if _RADIX.fullmatch(text):
        _check_length(text)
        return int(text, 0)
    if _NOT_FINITE.fullmatch(text):
        raise Doubtful(f"{text} is not a number that JSON can hold", "use a finite number, or quotes if text is meant")
    return text


def _check_length(text: str) -> None:
    if len(text) > NUMBER_LENGTH:
        raise Doubtful(
            f"a number of {len(text):,} characters; at most {NUMBER_LENGTH} are read as a number",
            "put it in quotes if text is meant",
        )
