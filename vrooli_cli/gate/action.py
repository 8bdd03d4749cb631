"""What is about to happen, in the words that rules are written in: texts, paths after links, hosts and addresses."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from vrooli_cli.model.run import Effects
from vrooli_cli.model.values import lean

_HOST = re.compile(r"[a-z0-9_.:-]+")
# Parameters of the box that are paths although their schema need not say so.
_BOX_PATHS: dict[str, tuple[str, ...]] = {
    "file_read": ("path",),
    "file_write": ("path",),
    "file_list": ("root", "glob"),
    "template": ("path",),
}


@lean(kw_only=True, eq=False)
class ToolTraits:
    """What the gate has to know of a tool; made once a tool (:func:`traits_of`), compared by identity.

    Attributes:
        main: The parameter that a rule's bare glob is matched with.
        parameters: The names of the declared parameters.
        defaults: What a parameter is when a call leaves it out.
        asks: A model may call it only after a person agreed.
        confined: Its paths must lie in the allowed roots unless a rule says otherwise.
        command: The parameter that is a command: an argv list, or a text that only bare rules match; "" for none.
        url: The parameter that is a URL; "" for none.
        paths: The parameters that are paths.
    """

    name: str
    main: str = ""
    parameters: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    asks: bool = False
    confined: bool = False
    command: str = ""
    url: str = ""
    paths: tuple[str, ...] = ()


def traits_of(
    name: str, schema: Mapping[str, Any], *, main: str = "", asks: bool = False, origin: str = "box"
) -> ToolTraits:
    """The traits of a tool, from its JSON Schema.

    A main parameter called ``command``, ``url`` or ``path`` is what its name says; so is one whose schema says
    ``format: uri`` or ``format: path``.

    Args:
        name: The tool's name.
        schema: JSON Schema of its parameters.
        main: Its main parameter; "" is the first declared one.
        asks: See :class:`ToolTraits`.
        origin: ``box`` for the tools that vrooli brings; only those are confined to the allowed roots.
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    main = main or next(iter(properties), "")
    formats = {key: value.get("format") for key, value in properties.items() if isinstance(value, Mapping)}
    paths = dict.fromkeys(_BOX_PATHS.get(name, ()) if origin == "box" else ())
    paths |= dict.fromkeys(key for key, said in formats.items() if said == "path" or (key == main == "path"))
    urls = [key for key, said in formats.items() if said in ("uri", "url") or (key == main == "url")]
    return ToolTraits(
        name=name,
        main=main,
        parameters=tuple(properties),
        defaults={
            key: value["default"]
            for key, value in properties.items()
            if isinstance(value, Mapping) and "default" in value
        },
        asks=asks,
        confined=origin == "box" and name in _BOX_PATHS,
        command=main if main == "command" else "",
        url=urls[0] if urls else "",
        paths=tuple(paths),
    )


class WebAddress(NamedTuple):
    """A URL as the client reads it: ``host`` is lower case ASCII without a trailing dot or brackets.

    Attributes:
        port: None for the scheme's own.
        paths: Path and query, as sent and with percent-escapes decoded and dots resolved: rules that allow must match
            both, so that ``/public/%2e%2e/admin`` is not taken for something public.
    """

    scheme: str
    host: str
    port: int | None
    paths: tuple[str, ...]

    @property
    def authority(self) -> str:
        """``host`` or ``host:port``, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def texts(self) -> tuple[str, ...]:
        """The URL in the forms that a server may read it in, without user info and fragment."""
        return tuple(f"{self.scheme}://{self.authority}{path}" for path in self.paths)


def web_address(url: str) -> WebAddress | None:
    """``url`` as httpx reads it (the parser must be the one that connects); None when it is not an absolute URL."""
    import httpx

    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii").lower().strip("[]").rstrip(".")
        sent = parsed.raw_path.decode("ascii")
    except (httpx.InvalidURL, UnicodeError, TypeError, ValueError):
        return None
    if not parsed.scheme or not _HOST.fullmatch(host):
        return None
    path, mark, query = sent.partition("?")
    plain = unquote(path).replace("\\", "/")
    resolved = os.path.normpath("/" + plain.lstrip("/")) + ("/" if plain.endswith("/") and plain.strip("/") else "")
    return WebAddress(parsed.scheme, host, parsed.port, tuple(dict.fromkeys((sent or "/", resolved + mark + query))))


def text_of(value: Any) -> str:
    """A parameter as the text that a glob is matched with: text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return repr(type(value))


def argv_text(argv: list[Any] | tuple[Any, ...]) -> str:
    """An argv list as shell-joined text: an argument with a blank is quoted, so it cannot pass for two."""
    return shlex.join(text_of(part) for part in argv)


def one_line(text: str) -> str:
    """Text from outside for people: what does not print, or turns the reading direction, is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class Place(NamedTuple):
    """A path parameter: ``real`` after resolving links (None when it cannot be), ``written`` before."""

    real: str | None
    written: str


def place_of(path: str, folder: str) -> Place:
    """Where a path leads, from ``folder``; a tail that does not exist yet is kept as it is."""
    written = os.path.normpath(os.path.join(folder, path))  # noqa: PTH118 - text before links, pathlib keeps `..`
    try:
        return Place(os.path.realpath(os.path.join(folder, path)), os.path.abspath(written))  # noqa: PTH100, PTH118
    except (ValueError, OSError):  # a NUL in it, a name too long
        return Place(None, written)


def is_wild(text: str) -> bool:
    """True when a file pattern's part can stand for more than itself."""
    return any(mark in text for mark in "*?[")


def pattern_place(pattern: str, folder: str) -> Place:
    """Where a file pattern leads: links of its fixed part are resolved; ``..`` behind a wildcard leads nowhere."""
    parts = PurePosixPath(pattern).parts
    fixed = next((at for at, part in enumerate(parts) if is_wild(part)), len(parts))
    start, rest = place_of(os.path.join("", *parts[:fixed]), folder), "/".join(parts[fixed:])  # noqa: PTH118
    if not rest:
        return start
    written = f"{start.written.rstrip('/')}/{rest}"
    if start.real is None or ".." in parts[fixed:]:
        return Place(None, written)
    return Place(f"{start.real.rstrip('/')}/{rest}", written)


@lean(kw_only=True)
class Action:
    """One call that somebody wants to make.

    Attributes:
        execution_id: The execution that news is said of.
        address: The step's path in its root run.
        parameters: Rendered and validated.
        effects: What this call does to the world.
        written: True when a person wrote the call in a file; False when a model chose it.
        agent: The swarm's agent that acts.
        folder: Where vrooli was started; relative paths start here.
        roots: The folders that confined tools may touch without a rule.
    """

    execution_id: str
    address: str
    tool: ToolTraits
    parameters: Mapping[str, Any]
    effects: Effects = "once"
    written: bool = True
    agent: str | None = None
    folder: str = "."
    roots: tuple[str, ...] = ()
    _memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def value(self, parameter: str) -> Any:
        """The parameter's value, or the default that its schema gives; None when there is neither."""
        found = self.parameters.get(parameter)
        return self.tool.defaults.get(parameter) if found is None else found

    @property
    def main(self) -> Any:
        """The main argument's value."""
        return self.value(self.tool.main)

    @property
    def command_texts(self) -> tuple[str, ...]:
        """The argv list as shell-joined text, and with its program's bare name (``rm x`` for ``/bin/rm x``).

        Empty for a command that is one text: only a rule without a glob can speak of it.
        """
        if "command" not in self._memo:
            argv = self.value(self.tool.command)
            texts: tuple[str, ...] = ()
            if isinstance(argv, (list, tuple)) and argv:
                program = text_of(argv[0])
                bare = [program.rpartition("/")[2], *argv[1:]]
                texts = (argv_text(argv), argv_text(bare)) if "/" in program else (argv_text(argv),)
            self._memo["command"] = texts
        known: tuple[str, ...] = self._memo["command"]
        return known

    @property
    def places(self) -> Mapping[str, Place]:
        """Path parameter → where it leads, for those that the call gives."""
        if "places" not in self._memo:
            self._memo["places"] = {
                name: self._place(name, value)
                for name in self.tool.paths
                if (value := self.value(name)) is not None and value != ""
            }
        places: Mapping[str, Place] = self._memo["places"]
        return places

    def _place(self, name: str, value: Any) -> Place:
        if name == "glob":
            start = place_of(text_of(self.value("root") or "."), self.folder)
            return pattern_place(text_of(value), start.real or start.written)
        return place_of(text_of(value), self.folder)

    @property
    def web(self) -> WebAddress | None:
        """The URL that the call is about; None when there is none or it cannot be read."""
        if "web" not in self._memo:
            url = self.value(self.tool.url) if self.tool.url else None
            self._memo["web"] = web_address(text_of(url)) if url is not None else None
        web: WebAddress | None = self._memo["web"]
        return web

    def resolved(self, host: str) -> tuple[str, ...]:
        """The addresses that the gate found for ``host``, itself first when it is one; empty before it asked."""
        names: Mapping[str, tuple[str, ...]] = self._memo.get("addresses", {})
        return names.get(host, ())

    def keep_addresses(self, names: Mapping[str, tuple[str, ...]]) -> None:
        """What name resolution said, for the judges that follow; only the gate calls this."""
        self._memo["addresses"] = dict(names)

    def told(self, limit: int = 80, mask: Callable[[str], str] = str) -> str:
        """Tool and main argument for people, on one line without control characters.

        Args:
            limit: Characters of the argument; the middle of a longer one is left out.
            mask: Replaces secrets; it has to see the whole text, nobody recognises half a secret.
        """
        main = self.main
        if main is None:
            return self.tool.name
        text = argv_text(main) if self.tool.command and isinstance(main, (list, tuple)) else text_of(main)
        text = mask(text)
        clean = one_line(text if len(text) <= 3 * limit else f"{text[: 2 * limit]}{text[-limit:]}")
        if len(clean) > limit:
            clean = f"{clean[: limit - 15]} … {clean[-12:]}"
        return f"{self.tool.name}({clean})" if clean else self.tool.name
