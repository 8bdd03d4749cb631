"""Plain data to YAML: block style, keys in their order, Unicode kept, no line folded.

What is written reads back equal in :mod:`vrooli_cli.loading.text` and in readers of YAML 1.1 and 1.2 alike: whatever
either of them would take for something else than text stands in quotes. No YAML library is needed for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from typing import Any, Final

# Text that no reader takes for anything else, unless it is one of the words or looks like a number.
_SAFE: Final = re.compile(r"[A-Za-z_/\u00c0-\ud7ff][^\x00-\x1f\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]*")
_UNSAFE_INSIDE: Final = re.compile(r":(?:\s|\Z)|\s#|\s\Z")
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_LITERAL: Final = re.compile(r"[\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*")
_MUST_ESCAPE: Final = re.compile(
    r"""["\\\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufffe\uffff]"""
)
_SHORT_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_KEY_LENGTH: Final = 1000  # a simple key ends after 1,024 characters


def plain_yaml(data: Any) -> str:
    """``data`` as one YAML document that ends with a newline.

    Args:
        data: Maps with text keys, lists or tuples, text, numbers, booleans and None. ``inf`` and ``nan`` are written
            as YAML has them, though :mod:`~vrooli_cli.loading.text` refuses to read them.

    Raises:
        TypeError: For a value of any other type, and for a key that is not text.
    """
    lines: list[str] = []
    if isinstance(data, Mapping) and data:
        lines.extend(_map(data, ""))
    elif isinstance(data, Sequence) and not isinstance(data, str | bytes) and data:
        lines.extend(_list(data, ""))
    else:
        lines.append(_inline(data, ""))
    return "\n".join(lines) + "\n"


def _map(data: Mapping[Any, Any], indent: str) -> Iterator[str]:
    for key, value in data.items():
        name = _key(key)
        lead = f"{indent}{name}:" if len(name) <= _KEY_LENGTH else f"{indent}? {name}\n{indent}:"
        if isinstance(value, str) or not value or not isinstance(value, Mapping | Sequence):
            yield f"{lead} {_inline(value, indent)}"
        else:
            yield lead
            yield from _block(value, indent + "  ")


def _list(data: Sequence[Any], indent: str) -> Iterator[str]:
    for value in data:
        if isinstance(value, str) or not value or not isinstance(value, Mapping | Sequence):
            yield f"{indent}- {_inline(value, indent)}"
        else:  # the first line of what is inside stands beside the dash
            inside = _block(value, indent + "  ")
            yield f"{indent}- {next(inside)[len(indent) + 2 :]}"
            yield from inside


def _block(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        return _map(value, indent)
    if isinstance(value, bytes):
        raise TypeError("YAML here holds no bytes")
    return _list(value, indent)


def _inline(value: Any, indent: str) -> str:
    """A value that begins on the line of its key or dash; `indent` is that line's."""
    if isinstance(value, str):
        return _text(value, indent)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    raise TypeError(f"YAML here holds maps, lists, text, numbers, booleans and null, not {type(value).__name__}")


def _float(value: float) -> str:
    if isnan(value):
        return ".nan"
    if not isfinite(value):
        return ".inf" if value > 0 else "-.inf"
    digits = float.__repr__(value)
    # YAML 1.1 wants a point before the exponent
    return digits.replace("e", ".0e", 1) if "e" in digits and "." not in digits else digits


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key must be text, not {type(key).__name__}")
    return key if _is_safe(key) else _quoted(key)


def _text(text: str, indent: str) -> str:
    if "\n" in text:
        if text.strip("\n ") and _LITERAL.fullmatch(text):
            return _literal(text, indent)
    elif _is_safe(text):
        return text
    return _quoted(text)


def _is_safe(text: str) -> bool:
    return bool(_SAFE.fullmatch(text)) and not _UNSAFE_INSIDE.search(text) and text.lower() not in _WORDS


def _literal(text: str, indent: str) -> str:
    """A block after ``|``; the digit where the first line begins with white space, the sign for its last newlines."""
    digit = "2" if text[0] in " \t\n" else ""
    sign = "-" if text[-1] != "\n" else "+" if text.endswith("\n\n") else ""
    body = text[:-1] if sign != "-" else text
    return f"|{digit}{sign}\n" + "\n".join(f"{indent}  {line}" if line else "" for line in body.split("\n"))


def _quoted(text: str) -> str:
    return f'"{_MUST_ESCAPE.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
