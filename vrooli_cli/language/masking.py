"""Secrets at the one place where data leaves the process (spec tools.md, "Secrets"; engine.md (h)).

A :class:`Masker` knows each secret in the forms in which programs write it: as it is, escaped for JSON once and twice,
for URLs, for HTML, for a shell, in base64 at its three offsets, and line by line. It works on encoded bytes with one
compiled alternation, so its four callers (events, stored results, what is printed, cassettes) need one function.

For people a secret becomes ``***``. The journal instead stores a *sentinel* that names secret and form
(:meth:`Masker.seal`), so that a resumed run, which is given the secrets again, continues with the same bytes.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MASK = "***"
MIN_LENGTH = 4  # letters; a shorter secret is masked only where it is a whole value
MIN_LINE = 16  # letters of a line of a secret that are worth masking by themselves

_OPEN, _CLOSE = "\ue000", "\ue001"
_SENTINEL = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*?):([^:{_OPEN}{_CLOSE}]*){_CLOSE}".encode())
_PERCENT = re.compile("%[0-9A-F]{2}")
_JSON_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
# A text of these letters alone, or with a quote in it, can be found in JSON outside of its strings.
_STRUCTURE = frozenset("0123456789+-.eEtruefalsn[]{},: \t\n")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _json(text: str, *, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def _base64(secret: str) -> Iterator[tuple[str, str]]:
    """What base64 of any data with the secret in it must contain, by the secret's offset modulo 3."""
    import base64  # most runs have no secret, and start without these modules

    data = _encoded(secret)
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + data).decode()
        inner = text[-(-8 * offset // 6) : 8 * (offset + len(data)) // 6]
        yield f"base64-{offset}", inner
        yield f"base64url-{offset}", inner.replace("+", "-").replace("/", "_")


def _written(text: str) -> Iterator[tuple[str, str]]:
    """The ways to write a text, as (name of the form, the text in it)."""
    import html
    from urllib.parse import quote, quote_plus

    yield "raw", text
    for name, ascii_only in (("json", False), ("json-ascii", True)):
        once = _json(text, ascii_only=ascii_only)
        yield name, once
        yield f"{name}-twice", _json(once, ascii_only=ascii_only)
    data = _encoded(text)
    for name, url in (("url", quote(data, safe="")), ("url-path", quote(data)), ("url-plus", quote_plus(data))):
        yield name, url
        yield f"{name}-lower", _PERCENT.sub(lambda match: match[0].lower(), url)
    yield "shell", text.replace("'", "'\"'\"'")
    yield "shell-backslash", text.replace("'", "'\\''")
    yield "html", html.escape(text)
    yield "html-decimal", html.escape(text).replace("&#x27;", "&#39;")
    yield "html-text", html.escape(text, quote=False)


def forms(secret: str) -> dict[str, str]:
    """Every form of one secret: name of the form → text."""
    found = dict(_written(secret))
    found.update(_base64(secret))
    lines = secret.splitlines()
    if len(lines) > 1:
        for number, line in enumerate(lines):
            if len(line.strip()) >= MIN_LINE:
                found.update((f"line{number}-{name}", text) for name, text in _written(line.strip()))
    return found


class Masker:
    """Replaces secrets. False, and without any cost, when there are none.

    Args:
        secrets: Name → value. An empty value is no secret.
    """

    __slots__ = ("_bytes", "_forms", "_odd", "_secrets", "_sentinels", "_short", "_short_values", "_text")

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = {name: value for name, value in secrets.items() if value}
        short = {value for value in self._secrets.values() if len(value) < MIN_LENGTH}
        self._sentinels: dict[bytes, bytes] = {}
        long: set[str] = set()
        for name, value in self._secrets.items():
            for form, text in forms(value).items():
                self._sentinels.setdefault(_encoded(text), _encoded(f"{_OPEN}{name}:{form}{_CLOSE}"))
                if value not in short:
                    long.add(text)
        self._odd = any('"' in text or _STRUCTURE.issuperset(text) for text in long)
        self._forms = sorted(long)
        ordered = sorted(long, key=lambda text: (-len(text), text))
        self._text = re.compile("|".join(map(re.escape, ordered))) if long else None
        every = [re.escape(_encoded(text)) for text in ordered]
        self._short_values = short
        self._short = {_encoded(_json(value, ascii_only=flag)) for value in short for flag in (False, True)}
        every += [b'(?<=")' + re.escape(text) + b'(?=")' for text in self._short]  # a whole text of JSON
        self._bytes = re.compile(b"|".join(every)) if every else None

    def __bool__(self) -> bool:
        return bool(self._secrets)

    @property
    def short_names(self) -> list[str]:
        """The names of secrets that are too short to be masked inside of a text."""
        return [name for name, value in self._secrets.items() if value in self._short_values]

    def mask(self, data: bytes) -> bytes:
        """The bytes with every secret as ``***``; what is JSON (whole, or line by line) stays JSON."""
        return self._replaced(data, lambda _: MASK.encode())

    def mask_text(self, text: str) -> str:
        """The same for text; a short secret stays, see :meth:`mask_value`."""
        return text if self._text is None else self._text.sub(MASK, text)

    def mask_value(self, value: Any) -> Any:
        """Plain data with every secret in its texts masked, a short secret where it is the whole text."""
        if not self._secrets:
            return value
        if isinstance(value, str):
            return MASK if value in self._short_values else self.mask_text(value)
        if isinstance(value, Mapping):
            return {self.mask_value(key): self.mask_value(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.mask_value(one) for one in value]
        return value

    def stream(self) -> MaskStream:
        """A masker for a text that comes in pieces."""
        return MaskStream(self._text, self._forms)

    # -- the journal --

    def seal(self, data: bytes) -> bytes:
        """The bytes with every secret as a sentinel that names secret and form; :meth:`unseal` is the inverse.

        A sentinel that stands in the data already (a tool may print anything) is made harmless.
        """
        if self._bytes is None:
            return data
        mark = _encoded(_OPEN)
        plain = data.replace(mark, _encoded(f"{_OPEN}:{_CLOSE}")) if mark in data else data
        return self._replaced(plain, lambda match: self._sentinels[match[0]])

    def unseal(self, data: bytes) -> bytes:
        """The bytes with the secrets put back, each in the form in which it was found; unknown names stay sealed."""

        def restore(match: re.Match[bytes]) -> bytes:
            name, form = match[1].decode("utf-8", "surrogatepass"), match[2].decode()
            if not name:
                return _encoded(_OPEN)
            secret = self._secrets.get(name)
            return match[0] if secret is None else _encoded(forms(secret).get(form, secret))

        return _SENTINEL.sub(restore, data) if self._secrets else data

    # -- one replacement for both --

    def _replaced(self, data: bytes, write: Callable[[re.Match[bytes]], bytes]) -> bytes:
        if self._bytes is None or not self._bytes.search(data):
            return data
        if self._odd:
            try:
                return b"\n".join([self._document(line, write) for line in data.split(b"\n")])
            except (ValueError, RecursionError):
                pass  # not JSON
        return self._bytes.sub(write, data)

    def _document(self, line: bytes, write: Callable[[re.Match[bytes]], bytes]) -> bytes:
        """One line of JSON, for secrets such as ``2024`` or ``"},{"`` that stand in it outside of its texts, too."""
        pattern = self._bytes
        if pattern is None or not line.strip():
            return line
        json.loads(line)  # only to know that it is JSON

        def text(match: re.Match[bytes]) -> bytes:
            inside = match[0][1:-1]
            whole = pattern.search(match[0]) if inside in self._short else None
            return b'"' + (write(whole) if whole else pattern.sub(write, inside)) + b'"'

        return _JSON_TEXT.sub(text, line)


class MaskStream:
    """Masks a text that comes in pieces: a secret that is cut by their borders is found, too.

    What might still become a secret is kept back: the longest end of the text that begins one. The pieces that come
    out, joined, are what :meth:`Masker.mask_text` makes of the whole.
    """

    __slots__ = ("_first", "_forms", "_held", "_longest", "_pattern")

    def __init__(self, pattern: re.Pattern[str] | None, sorted_forms: list[str]) -> None:
        self._pattern = pattern
        self._forms = sorted_forms
        self._first = frozenset(text[0] for text in sorted_forms)
        self._longest = max(map(len, sorted_forms), default=0)
        self._held = ""

    def feed(self, text: str) -> str:
        """The next piece; what of the text so far is safe to show."""
        if self._pattern is None:
            return text
        text = self._held + text
        out: list[str] = []
        start = 0
        while True:
            held = self._held_from(text, start)
            match = self._pattern.search(text, start)
            if match is None or match.start() >= held:
                break
            out += (text[start : match.start()], MASK)
            start = match.end()
        out.append(text[start:held])
        self._held = text[held:]
        return "".join(out)

    def close(self) -> str:
        """What was kept back, at the end of the text."""
        held, self._held = self._held, ""
        return held if self._pattern is None else self._pattern.sub(MASK, held)

    def _held_from(self, text: str, start: int) -> int:
        """Where the longest end of the text begins that is the beginning, and not the whole, of a form."""
        for index in range(max(start, len(text) - self._longest + 1), len(text)):
            if text[index] in self._first and self._begins(text[index:]):
                return index
        return len(text)

    def _begins(self, end: str) -> bool:
        at = bisect_left(self._forms, end)
        while at < len(self._forms) and self._forms[at] == end:
            at += 1
        return at < len(self._forms) and self._forms[at].startswith(end)


def show(sealed: bytes) -> bytes:
    """What people see of bytes that were sealed: ``***`` for every sentinel; no secret is needed for it."""
    return _SENTINEL.sub(lambda match: MASK.encode() if match[1] else _encoded(_OPEN), sealed)
