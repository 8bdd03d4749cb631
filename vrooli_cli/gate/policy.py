"""The levels of permission rules in force, and what they say of a call (spec tools.md, "Permissions").

Levels stand from the outside in: command line, project, routine, agent. Each says deny, ask, allow, or nothing; the
strictest word counts, so an inner level can take away and never give. A level that has an ``allow`` rule for a tool
denies the calls of it that none of its rules matches. Where no level says anything the defaults hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from vrooli_cli.gate.action import Action, Place, ToolTraits
from vrooli_cli.gate.report import suggested_rule
from vrooli_cli.gate.rules import CompiledRule, is_address, parse_rule
from vrooli_cli.model.routine import Permissions
from vrooli_cli.model.run import Effects
from vrooli_cli.model.values import lean

Decision = Literal["allow", "ask", "deny"]
STRICTNESS: dict[str, int] = {"allow": 0, "ask": 1, "deny": 2}


@lean()
class Verdict:
    """What a judge says.

    Attributes:
        rule: The rule as written, ``norm n1``, or ``default``.
        source: ``file:line``, the flag, or ``built in``.
        reason: Why, and what to do about it: the end of a sentence that begins with the call.
        code: The error's code when this verdict refuses the call.
    """

    decision: Decision
    rule: str
    source: str
    reason: str = ""
    code: str = "PERMISSION_DENIED"

    @property
    def place(self) -> str:
        """Rule and source for people."""
        return f"{self.rule} ({self.source})" if self.source else self.rule


BY_DEFAULT = Verdict("allow", "default", "built in", "is allowed where no rule says otherwise")
_MODELS_CHOICE = Verdict("ask", "default", "built in", "was chosen by a model and needs a person's consent")


def strictest(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """Deny before ask before allow; the first of equals; None when nobody said anything."""
    said = [verdict for verdict in verdicts if verdict is not None]
    return max(said, key=lambda verdict: STRICTNESS[verdict.decision]) if said else None


class _Level(NamedTuple):
    """One level, or what of it is about one tool."""

    name: str
    deny: tuple[CompiledRule, ...]
    ask: tuple[CompiledRule, ...]
    allow: tuple[CompiledRule, ...]

    def about(self, tool: str) -> _Level:
        return _Level(self.name, *(tuple(rule for rule in rules if rule.names(tool)) for rules in self[1:]))

    @property
    def rules(self) -> tuple[CompiledRule, ...]:
        return self.deny + self.ask + self.allow

    def judge(self, action: Action) -> Verdict | None:
        """The level's word; a closed level speaks by its first allow rule."""
        for rule in self.deny:
            if rule.matches(action, allowing=False):
                return Verdict("deny", f"deny: {rule.text}", rule.source, self._denied(rule))
        for rule in self.ask:
            if rule.matches(action, allowing=False):
                reason = f"needs a person's consent by {_cited(rule)}"
                return Verdict("ask", f"ask: {rule.text}", rule.source, reason)
        for rule in self.allow:
            if rule.matches(action, allowing=True):
                return Verdict("allow", f"allow: {rule.text}", rule.source, f"is allowed by {_cited(rule)}")
        if self.allow:
            first = self.allow[0]
            return Verdict("deny", f"allow: {first.text}", first.source, self._closed(first, action))
        return None

    def _denied(self, rule: CompiledRule) -> str:
        return f"is denied by {_cited(rule)} of the {self.name}; change the rule, or the call"

    def _closed(self, first: CompiledRule, action: Action) -> str:
        others = f" and {len(self.allow) - 1} more" if len(self.allow) > 1 else ""
        return (
            f"is not among the calls of {action.tool.name} that the {self.name} allows, by {_cited(first)}{others}; "
            f"add a rule there such as {suggested_rule(action)}, or change the call"
        )


def _cited(rule: CompiledRule) -> str:
    return f"the rule {rule.text!r} ({rule.source})" if rule.source else f"the rule {rule.text!r}"


class _View(NamedTuple):
    """What a policy says of one tool, ready to be asked."""

    levels: tuple[_Level, ...]
    plain: Verdict | None  # the same for every call, whatever its arguments
    addresses: bool  # some rule can only be judged with the host's addresses
    names: tuple[str, ...]  # host names in rules whose addresses are compared too


class Policy:
    """The rules in force for one run, child or agent; never changed, only narrowed.

    ``Policy().narrow("command line", …).narrow("project", …).narrow("routine", …)``
    """

    __slots__ = ("_levels", "_quick", "_views")

    def __init__(self, levels: tuple[_Level, ...] = ()) -> None:
        self._levels = levels
        self._views: dict[ToolTraits, _View] = {}
        self._quick: dict[tuple[ToolTraits, bool, Effects], bool] = {}

    @property
    def levels(self) -> tuple[str, ...]:
        """The names of the levels that have rules, outermost first."""
        return tuple(level.name for level in self._levels)

    def narrow(self, level_name: str, permissions: Permissions) -> Policy:
        """This policy with one more level inside; itself when the level has no rules.

        Raises:
            DefinitionError: A rule cannot be read (``rules.check`` tells all of them beforehand).
        """
        if not permissions:
            return self
        deny, ask, allow = (
            tuple(parse_rule(rule.text, rule.source) for rule in rules)
            for rules in (permissions.deny, permissions.ask, permissions.allow)
        )
        return Policy((*self._levels, _Level(level_name, deny, ask, allow)))

    def judge(self, action: Action) -> Verdict:
        """What rules and defaults say of the call. Pure, but for the links that paths are resolved by."""
        view = self._view(action.tool)
        verdict = strictest(level.judge(action) for level in view.levels)
        if verdict is not None and verdict.decision == "deny":
            return verdict
        if action.tool.confined and (outside := _outside(action, view.levels)):
            return outside
        return verdict or _by_default(action.tool, action.written, action.effects)

    def quick(self, tool: ToolTraits, written: bool, effects: Effects) -> bool:
        """True when every such call of the tool is allowed, whatever its arguments: one look-up after the first."""
        key = (tool, written, effects)
        known = self._quick.get(key)
        if known is None:
            known = self._quick[key] = self._always(tool, written, effects)
        return known

    def _always(self, tool: ToolTraits, written: bool, effects: Effects) -> bool:
        view = self._view(tool)
        if tool.confined:
            return False
        if not view.levels:
            return _by_default(tool, written, effects).decision == "allow"
        return view.plain is not None and view.plain.decision == "allow"

    def wants_addresses(self, action: Action) -> tuple[str, ...]:
        """The host names to resolve before :meth:`judge` can be asked: the call's own first; none when none matter."""
        view = self._view(action.tool)
        web = action.web if view.addresses else None
        return (web.host, *view.names) if web is not None else ()

    def _view(self, tool: ToolTraits) -> _View:
        view = self._views.get(tool)
        if view is None:
            levels = tuple(about for level in self._levels if (about := level.about(tool.name)).rules)
            names, addresses = _address_rules(levels, tool)
            view = self._views[tool] = _View(levels, _plain(levels, tool), addresses, names)
        return view


def _plain(levels: tuple[_Level, ...], tool: ToolTraits) -> Verdict | None:
    """The verdict over every call of the tool, when no rule looks at an argument."""
    if any(not rule.covers_all(tool.main) for level in levels for rule in level.rules):
        return None
    anything = Action(execution_id="", address="", tool=tool, parameters={})
    return strictest(level.judge(anything) for level in levels)


def _address_rules(levels: tuple[_Level, ...], tool: ToolTraits) -> tuple[tuple[str, ...], bool]:
    """The names in host rules that ask or deny, and whether any rule needs addresses at all."""
    if not tool.url or "host" in tool.parameters:
        return (), False
    strict = [rule for level in levels for rule in level.deny + level.ask if rule.argument == "host" and rule.glob]
    allows = [rule for level in levels for rule in level.allow if rule.argument == "host" and rule.glob]
    names = [rule.host for rule in strict if not is_address(rule.host) and not set("*?") & set(rule.host)]
    return tuple(dict.fromkeys(names)), bool(strict) or any(is_address(rule.host) for rule in allows)


def _by_default(tool: ToolTraits, written: bool, effects: Effects) -> Verdict:
    return _MODELS_CHOICE if tool.asks and not written and effects != "none" else BY_DEFAULT


def _outside(action: Action, levels: tuple[_Level, ...]) -> Verdict | None:
    """The refusal of a path outside the roots that no rule about *that path* speaks for.

    A bare ``file_read`` says who may read, not where: only ``file_read(/etc/*)`` opens a place.
    """
    roots = [os.path.realpath(root) for root in (*action.roots, action.folder)]
    needed = {name: place for name, place in action.places.items() if name != "root" or "glob" not in action.places}
    outside = {name: place for name, place in needed.items() if not _within(place, roots)}
    if not outside:
        return None
    rules = [rule for level in levels for rule in level.allow + level.ask if rule.glob is not None]
    opened = {rule.argument or action.tool.main for rule in rules if rule.matches(action, allowing=True)}
    roots = [place.real for name, place in action.places.items() if name in opened and place.real]
    for name, place in outside.items():
        if name not in opened and not _within(place, roots):
            return Verdict("deny", "default", "built in", _outside_reason(action.tool.name, place.real))
    return None


def _within(place: Place, roots: list[str]) -> bool:
    return place.real is not None and any(_inside(place.real, root) for root in roots)


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _outside_reason(tool: str, real: str | None) -> str:
    if real is None:
        return "is not a path that can be resolved"
    folder = real.rpartition("/")[0] or "/"
    return (
        f"leads to {real!r}, outside the folders that file tools may touch (where vrooli was started, the project, "
        f"run.work_dir, paths given as inputs); allow it with a rule such as {tool}({folder.rstrip('/')}/*)"
    )


def judge_strategy(levels: Iterable[tuple[str, Mapping[str, str]]], strategy: str) -> Verdict:
    """What ``policy: {strategies: …}`` says of a strategy (spec ai.md, "Strategies").

    Args:
        levels: Source (``routine.yaml:12``, ``vrooli.yaml:3``) and its map strategy → ``allow | ask | deny``; the
            strictest counts.
        strategy: Its name.
    """
    said = []
    for source, rules in levels:
        word = rules.get(strategy)
        if word == "deny":
            said.append(Verdict("deny", f"{strategy}: deny", source, "is a strategy that the policy forbids"))
        elif word == "ask":
            said.append(Verdict("ask", f"{strategy}: ask", source, "is a strategy that needs a person's consent"))
        elif word == "allow":
            said.append(Verdict("allow", f"{strategy}: allow", source, "is a strategy that the policy allows"))
    return strictest(said) or BY_DEFAULT


__all__ = ["BY_DEFAULT", "STRICTNESS", "Decision", "Policy", "Verdict", "judge_strategy", "strictest"]
