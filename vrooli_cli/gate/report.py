"""What `vrooli plan` says before anything happens: the effects of a file, and the narrowest rules that would do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from vrooli_cli.gate.action import Action, ToolTraits, one_line, text_of
from vrooli_cli.gate.rules import MAX_RULE
from vrooli_cli.model.run import Effects
from vrooli_cli.model.values import lean

_BLANK_ENDS = re.compile(r"\A\s+|\s+\Z")
_LONG = 120


@lean()
class PlannedCall:
    """A call as far as it is known before the run.

    Attributes:
        main: The main argument: a value that is known; None when nothing of it is; a list whose elements are known
            or None (argv); a tuple of texts and None for a text that is known in parts.
        chosen: True where a model is offered the tool and decides; the effects are the most it may do.
    """

    address: str
    tool: ToolTraits
    effects: Effects
    main: Any = None
    chosen: bool = False


@lean()
class EffectLine:
    """One effect: who, what, how often it may happen, and the narrowest rule that allows it."""

    address: str
    tool: str
    effects: Effects
    rule: str
    chosen: bool = False


@lean()
class EffectsReport:
    """The effects of a file in the order of its steps, and the rules that would do for all of them."""

    effects: tuple[EffectLine, ...]
    rules: tuple[str, ...]


def effects_report(calls: Iterable[PlannedCall]) -> EffectsReport:
    """The effects of ``calls``; those without any are left out, they need no rule."""
    lines = tuple(
        EffectLine(call.address, call.tool.name, call.effects, narrowest_rule(call), call.chosen)
        for call in calls
        if call.effects != "none"
    )
    bare = {line.rule for line in lines if line.rule == line.tool}
    rules = sorted({line.rule for line in lines if line.rule in bare or line.tool not in bare})
    return EffectsReport(lines, tuple(rules))


def narrowest_rule(call: PlannedCall) -> str:
    """The narrowest rule that surely matches the call."""
    tool, main = call.tool, call.main
    if main is None:
        return tool.name
    glob = ""
    if tool.main == tool.command:
        glob = _argv_glob(main) if isinstance(main, list) else ""
    elif tool.main == tool.url:
        host = _static_host(main)
        return f"{tool.name}(host={host})" if host else tool.name
    elif tool.main in tool.paths:
        glob = _path_glob(main)
    if not glob or len(glob) > MAX_RULE - 100:
        return tool.name
    glob = _BLANK_ENDS.sub(lambda blank: "?" * len(blank[0]), glob)  # a rule's own ends are stripped
    ambiguous = glob.partition("=")[0].replace("-", "_").isidentifier() and "=" in glob
    return f"{tool.name}({tool.main}={glob})" if ambiguous else f"{tool.name}({glob})"


def suggested_rule(action: Action) -> str:
    """A rule for people that would allow this call; the bare tool where a narrower one would not be readable."""
    tool = action.tool
    rule = narrowest_rule(PlannedCall(action.address, tool, action.effects, action.main))
    return rule if len(rule) <= _LONG and one_line(rule) == rule else tool.name


def _argv_glob(argv: Sequence[Any]) -> str:
    """The fixed beginning of an argv list; `*` for what is not known."""
    fixed: list[str] = []
    for part in argv:
        if part is None or isinstance(part, tuple):
            return f"{shlex.join(fixed)} *" if fixed else ""
        fixed.append(text_of(part))
    text = shlex.join(fixed)
    return text if len(text) <= _LONG and text.strip() == text else f"{shlex.join(fixed[:2])} *"


def _static_host(main: Any) -> str:
    """The host of a URL whose beginning is known at least up to the path."""
    text = main if isinstance(main, str) else main[0] if isinstance(main, tuple) and main else None
    if not isinstance(text, str):
        return ""
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        return ""
    whole = isinstance(main, str) or bool(parts.path) or bool(parts.query)
    return host if whole and host and "*" not in host else ""


def _path_glob(main: Any) -> str:
    """A known path, or the folder of one that is known in parts."""
    if isinstance(main, str):
        path = main.rstrip("/")  # a rule's `out/` means what is in it
        return f"./{path}" if path.startswith("~") else path
    first = main[0] if isinstance(main, tuple) and main else None
    if not isinstance(first, str) or "/" not in first:
        return ""
    return f"{first.rpartition('/')[0]}/*"
