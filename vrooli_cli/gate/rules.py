"""Permission rules: what they look like, what is wrong with them, and which calls they match (spec tools.md).

A rule is ``tool``, ``tool(glob)`` or ``tool(arg=glob)``; the tool's name may be a glob too (``git.*``). In a glob ``*``
stands for any text, ``/`` and blanks included, ``?`` for one character, and everything else for itself; ``**`` is the
same as ``*``, but that ``/**/`` also matches a single ``/``. A glob is about the whole value.

An argument can be read in several ways (a path before and after its links, a URL with and without escapes). A rule
that allows must match *every* reading that could be the true one, a rule that asks or denies holds when *any* does.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from vrooli_cli.errors import DefinitionError, Pointer, Problem, did_you_mean
from vrooli_cli.gate.action import Action, Place, place_of, text_of
from vrooli_cli.model.routine import Permissions, Rule
from vrooli_cli.model.values import lean

MAX_RULE = 2_000
"""Characters of a rule; nobody writes a longer one."""

_NAME = re.compile(r"[A-Za-z0-9_.:/*?-]+")
_ARGUMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)=")
_IPV4 = re.compile(r"[0-9][0-9?*]*(\.[0-9?*]+){1,3}")
_PORTS = {"http": 80, "https": 443}


class Glob:
    """A compiled glob. Matching takes one pass over the text and never backtracks, whatever text and glob are."""

    __slots__ = ("_pieces", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces = [_piece(part) for part in re.split(r"\*+", text)]

    def matches(self, text: str) -> bool:
        """True when the glob describes the whole of ``text``."""
        first, *rest = self._pieces
        if not rest:
            return first.fits(text, 0) and len(text) == first.length
        last = rest.pop()
        end = len(text) - last.length
        at = first.length
        if at > end or not first.fits(text, 0) or not last.fits(text, end):
            return False
        for piece in rest:
            found = piece.find(text, at, end)
            if found < 0:
                return False
            at = found + piece.length
        return True


@lean()
class _Literal:
    """A piece between two stars without ``?``."""

    text: str
    length: int

    def fits(self, text: str, at: int) -> bool:
        return text.startswith(self.text, at)

    def find(self, text: str, start: int, end: int) -> int:
        return text.find(self.text, start, end)


@lean()
class _Holes:
    """A piece with ``?`` in it: a pattern of fixed length."""

    pattern: re.Pattern[str]
    length: int

    def fits(self, text: str, at: int) -> bool:
        return self.pattern.match(text, at, at + self.length) is not None

    def find(self, text: str, start: int, end: int) -> int:
        found = self.pattern.search(text, start, end)
        return found.start() if found else -1


def _piece(text: str) -> _Literal | _Holes:
    if "?" not in text:
        return _Literal(text, len(text))
    return _Holes(re.compile("".join("." if char == "?" else re.escape(char) for char in text), re.DOTALL), len(text))


@lru_cache(1024)
def _globs(text: str) -> tuple[Glob, ...]:
    """The glob and its variants in which a ``/**/`` is a single ``/`` (at most three of them vary)."""
    texts = [text]
    for _ in range(min(text.count("/**/"), 3)):
        texts += [one.replace("/**/", "/", 1) for one in texts]
    return tuple(Glob(one) for one in dict.fromkeys(texts))


def _any(pattern: str, text: str) -> bool:
    globs = _globs(pattern)
    return globs[0].matches(text) if len(globs) == 1 else any(glob.matches(text) for glob in globs)


@lean()
class CompiledRule:
    """A rule that can be asked whether it matches.

    Attributes:
        text: As written.
        source: ``file:line``, or the flag.
        tool: The glob of the tool's name.
        argument: The parameter that ``glob`` is about; "" is the main one.
        glob: None when the rule is about every call of the tool.
    """

    text: str
    source: str
    tool: str
    argument: str = ""
    glob: str | None = None

    @property
    def host(self) -> str:
        """The host pattern of a ``host=`` rule, as hosts are compared."""
        return _split_port(self.glob or "")[0]

    def names(self, tool: str) -> bool:
        """True when the rule is about this tool."""
        return self.tool == tool or _any(self.tool, tool)

    def covers_all(self, main: str) -> bool:
        """True when the rule is about every call: ``tool`` and ``tool(*)``."""
        return self.glob is None or (self.argument in ("", main) and not self.glob.strip("*"))

    def matches(self, action: Action, *, allowing: bool) -> bool:
        """True when the rule is about this call.

        Args:
            action: The call; its tool's name is not looked at again.
            allowing: True asks "surely about this call", False "possibly".
        """
        tool = action.tool
        if self.glob is None or self.covers_all(tool.main):
            return True
        argument = self.argument or tool.main
        if argument == "host" and tool.url and "host" not in tool.parameters:
            return _host_matches(self.glob, action, allowing)
        if argument == tool.url:
            return _url_matches(self.glob, action, allowing)
        if argument == tool.command:
            return _command_matches(self.glob, action, allowing)
        if argument in tool.paths:
            place = action.places.get(argument)
            return place is not None and _path_matches(self.glob, place, action.folder, allowing)
        value = action.value(argument)
        if value is None:
            return False
        if argument == "method" and tool.url:
            return _any(self.glob.lower(), text_of(value).lower())
        return _any(self.glob, text_of(value))


def _command_matches(glob: str, action: Action, allowing: bool) -> bool:
    """An argv list by its shell-joined text; a string command never: its text does not say what a shell will do."""
    texts = action.command_texts
    if allowing:
        texts = texts[:1]
    if any(_any(glob, text) for text in texts):
        return True
    return glob.endswith(" *") and any(_any(glob[:-2], text) for text in texts)  # `git *` is about `git` alone too


def _url_matches(glob: str, action: Action, allowing: bool) -> bool:
    """Part by part when the glob has a scheme, so that no ``*`` of the path reaches into the host."""
    web = action.web
    if web is None:
        return not allowing and _any(glob, text_of(action.value(action.tool.url)))
    if "://" not in glob:
        every = all if allowing else any
        return every(_any(glob, text) for text in web.texts)
    scheme, _, rest = glob.partition("://")
    authority, slash, path = rest.partition("/")
    path = slash + path if slash else "*" if authority.endswith("*") else "/"
    authorities = {web.authority} if allowing else {web.authority, web.host}
    if not _any(scheme.lower(), web.scheme) or not any(_any(_ascii_host(authority), one) for one in authorities):
        return False
    return (all if allowing else any)(_any(path, one) for one in web.paths)


def _host_matches(glob: str, action: Action, allowing: bool) -> bool:
    web = action.web
    if action.value(action.tool.url) is None:
        return False
    if web is None:
        return not allowing  # nobody can say where it goes
    pattern, port = _split_port(glob)
    if port and not _any(port, str(web.port or _PORTS.get(web.scheme, 0))):
        return False
    addresses = action.resolved(web.host)
    if allowing:
        if is_address(pattern):
            return bool(addresses) and all(_address_matches(pattern, one) for one in addresses)
        return _any(pattern, web.host)
    if _any(pattern, web.host) or any(_address_matches(pattern, one) for one in addresses):
        return True
    return bool(set(action.resolved(pattern)) & set(addresses))


def _split_port(glob: str) -> tuple[str, str]:
    """``host:port`` → both; IPv6 addresses stand in brackets when they have a port."""
    pattern = _ascii_host(glob)
    if pattern.startswith("["):
        host, _, port = pattern[1:].partition("]")
        return host, port.removeprefix(":")
    host, colon, port = pattern.partition(":")
    return (host, port) if colon and ":" not in port else (pattern, "")


def is_address(pattern: str) -> bool:
    """True for a host pattern that speaks of addresses (``10.*``, ``::1``, ``10.0.0.0/8``), not of names."""
    return ":" in pattern or "/" in pattern or _IPV4.fullmatch(pattern) is not None


def _address_matches(pattern: str, address: str) -> bool:
    import ipaddress

    try:
        if "/" in pattern:
            return ipaddress.ip_address(address) in ipaddress.ip_network(pattern, strict=False)
        return ipaddress.ip_address(address) == ipaddress.ip_address(pattern)
    except ValueError:
        return _any(pattern, address)


@lru_cache(256)
def _ascii_host(pattern: str) -> str:
    """A host pattern as hosts are compared: lower case, no trailing dot, labels beyond ASCII in their IDNA form."""
    labels = []
    for label in pattern.lower().rstrip(".").split("."):
        try:
            labels.append(label if label.isascii() else label.encode("idna").decode("ascii"))
        except UnicodeError:
            labels.append(label)
    return ".".join(labels)


def _path_matches(glob: str, place: Place, folder: str, allowing: bool) -> bool:
    """By the path after links; a rule that asks or denies also by the path as written.

    A relative glob starts at ``folder``, ``out/`` is ``out/*``. In a rule that asks or denies a glob that begins with
    ``*`` matches anywhere, and a path without wildcards stands for all below it too.
    """
    if glob.endswith("/"):
        glob += "*"
    if allowing:
        return place.real is not None and _any(_anchored(glob, folder).real or "", place.real)
    texts = {_folded(text) for text in place if text is not None}
    if glob.startswith("*"):
        return any(_any(_folded(glob), text) for text in texts)
    anchors = {_folded(anchor) for anchor in _anchored(glob, folder) if anchor is not None}
    if not any(mark in glob for mark in "*?"):
        anchors |= {f"{anchor}/*" for anchor in anchors}
    return place.real is None or any(_any(anchor, text) for anchor in anchors for text in texts)


def _anchored(glob: str, folder: str) -> Place:
    """A path glob from the root on, with the links of its fixed part resolved."""
    parts = PurePosixPath(os.path.expanduser(glob) if glob.startswith("~") else glob).parts  # noqa: PTH111
    fixed = next((at for at, part in enumerate(parts) if "*" in part or "?" in part), len(parts))
    start, rest = place_of(os.path.join("", *parts[:fixed]), folder), "/".join(parts[fixed:])  # noqa: PTH118
    if not rest:
        return start
    return Place(f"{(start.real or start.written).rstrip('/')}/{rest}", f"{start.written.rstrip('/')}/{rest}")


def _folded(path: str) -> str:
    """A path as the file system compares it, where that is not by its bytes."""
    if sys.platform == "darwin":
        import unicodedata

        return unicodedata.normalize("NFC", path).casefold()
    return path


def parse_rule(text: str, source: str = "") -> CompiledRule:
    """A rule from its text.

    Raises:
        DefinitionError: It is not ``tool``, ``tool(glob)`` or ``tool(arg=glob)``; says what is wrong.
    """
    problem = _syntax_problem(text)
    if problem:
        raise DefinitionError([Problem((), problem, _SHAPE, file=source)])
    tool, paren, inside = text.strip().partition("(")
    tool = tool.strip()
    if not paren:
        return CompiledRule(text, source, tool)
    glob = inside[:-1].strip()
    named = _ARGUMENT.match(glob)
    if named:
        return CompiledRule(text, source, tool, named[1], glob[named.end() :])
    return CompiledRule(text, source, tool, "", glob)


_SHAPE = "write `tool`, `tool(glob of its main argument)` or `tool(arg=glob)`, e.g. shell(git *) or http(host=*.x.org)"


def _syntax_problem(text: Any) -> str:
    """What is wrong with the rule's form; empty when nothing is."""
    if not isinstance(text, str) or not text.strip():
        return "a permission rule must be a text"
    if len(text) > MAX_RULE:
        return f"a permission rule has at most {MAX_RULE:,} characters, this one {len(text):,}"
    tool, paren, inside = text.strip().partition("(")
    if not _NAME.fullmatch(tool.strip()):
        return f"{tool.strip()!r} is not the name of a tool, nor a glob of names"
    if paren and not inside.endswith(")"):
        return f"the rule {text!r} has no closing parenthesis at its end"
    if paren and not inside[:-1].strip():
        return f"the rule {text!r} has nothing between its parentheses"
    return ""


def check(
    permissions: Permissions,
    *,
    pointer: Pointer = ("permissions",),
    tools: Mapping[str, Iterable[str]] | None = None,
    servers: Iterable[str] = (),
) -> list[Problem]:
    """Everything that is wrong, or surprising, with a level of rules.

    Args:
        permissions: The level.
        pointer: Where it stands in its file.
        tools: Tool name → its parameters; None does not look at names.
        servers: MCP servers, whose tools (``server.tool``) are not known before they run.
    """
    problems: list[Problem] = []
    for effect in ("allow", "ask", "deny"):
        rules: tuple[Rule, ...] = getattr(permissions, effect)
        for at, rule in enumerate(rules):
            where = (*pointer, effect, at)
            message = _syntax_problem(rule.text)
            if message:
                problems.append(Problem(where, message, _SHAPE))
                continue
            compiled = parse_rule(rule.text, rule.source)
            problems += _surprises(compiled, effect, where)
            if tools is not None and compiled.tool.partition(".")[0] not in set(servers):
                problems += _unknown_names(compiled, tools, where)
    return problems


def _unknown_names(rule: CompiledRule, tools: Mapping[str, Iterable[str]], where: Pointer) -> list[Problem]:
    named = [tool for tool in tools if rule.names(tool)]
    if not named:
        hint = did_you_mean(rule.tool, tools)
        return [Problem(where, f"the rule {rule.text!r} names no tool that is known here", hint, warning=not hint)]
    known = {name for tool in named for name in tools[tool]} | ({"host"} if "http" in named else set())
    if not rule.argument or rule.argument in known or len(named) > 1:
        return []
    hint = did_you_mean(rule.argument, known)
    main = next(iter(tools[named[0]]), "")
    hint = hint or (f"a text that holds `=` is written {named[0]}({main}={rule.argument}=…)" if main else "")
    return [Problem(where, f"the tool {named[0]!r} has no parameter {rule.argument!r}", hint)]


def _surprises(rule: CompiledRule, effect: str, where: Pointer) -> list[Problem]:
    narrow_command = rule.tool == "shell" and rule.argument in ("", "command") and not rule.covers_all("command")
    if effect != "allow" and narrow_command:
        message = f"the rule {rule.text!r} holds for argv lists only, not for commands that are one text"
        return [Problem(where, message, f"{effect} `shell` and allow the argv lists you need", warning=True)]
    urls = rule.tool == "http" and rule.argument in ("", "url") and not rule.covers_all("url")
    if effect == "allow" and urls and rule.glob and "://" not in rule.glob:
        message = f"the rule {rule.text!r} has no scheme, so it also matches other hosts that hold this text"
        return [Problem(where, message, "write http(host=…), or begin with https://", warning=True)]
    return []
