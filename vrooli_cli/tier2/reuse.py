"""Results that need not be made again: of an earlier run (``vrooli rerun``), and of any run (``cache``).

What a result depends on are its *components*: the action, its rendered parameters, the tool and its version, the model
and its parameters. Two steps whose components are equal would do the same; the first component that differs is the
reason why a step runs again. Nothing of this is written while a run is at work: the components of an earlier run are
made again from its recorded definition and its log, by the same fold and the same rendering.

A secret is who asks, not what is asked: it is nowhere recorded, the one of today is put in its place on both sides, and
so a rotated secret changes no result.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from vrooli_cli.errors import VrooliError
from vrooli_cli.language.masking import Masker
from vrooli_cli.model import events as e
from vrooli_cli.model.addresses import any_item, turn_of, without_turn
from vrooli_cli.model.routine import Prompt
from vrooli_cli.model.store import Store
from vrooli_cli.model.values import lean
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.machine import RunMachine
from vrooli_cli.tier2.plan import RoutinePlan
from vrooli_cli.tier2.state import Node
from vrooli_cli.tier3.scope import Outcome

SCHEMA: Final = 1
"""Part of every key: another number and nothing that was kept before is used."""
MOST_CACHED_BYTES: Final = 16 * 1024 * 1024

_ENDS = re.compile(r"[/\[#]")  # where the address of what is around may end


@lean()
class Found:
    """A result that stands, and why."""

    result: Any
    reason: str
    from_run: str


@lean()
class Wanted:
    """What a look-up says.

    Attributes:
        found: None: the step runs.
        reason: Why it runs although there was an earlier run.
        key: Under which its result may be kept for other runs; empty when it may not.
    """

    found: Found | None = None
    reason: str = ""
    key: str = ""


def components(machine: RunMachine, node: Node, version: str) -> dict[str, Any]:
    """What the result of a step depends on, as plain data, in the order in which differences are told.

    Raises:
        ExpressionError: A text cannot be rendered.
    """
    plan, step = node.plan, node.plan.step
    names = machine.names(node)
    parts: dict[str, Any] = {"action": plan.kind}
    if plan.kind == "tool":
        assert plan.parameters is not None
        tool, rendered = plan.tool, plan.parameters.render(names)
        parts["tool"] = plan.label
        parts["the tool's version"] = (tool.digest if tool is not None else "") or version
        parts["parameters"] = tool.plain(rendered) if tool is not None else dict(rendered)
    elif plan.kind == "wait":
        assert plan.wait is not None
        parts["wait"] = plan.wait.evaluate(names)
    else:
        parts |= _prompt_parts(machine, node, names)
    if plan.by_model and step.strategy is not None:
        parts["strategy"], parts["model"] = step.strategy.value, list(step.model)
    if step.output_schema is not None:
        parts["output_schema"] = dict(step.output_schema)
    if step.repeat is not None:
        parts["repeat"] = [str(step.repeat.until), step.repeat.max]
    plain: dict[str, Any] = json.loads(json.dumps(parts, default=str))
    return plain


def _prompt_parts(machine: RunMachine, node: Node, names: Mapping[str, Any]) -> dict[str, Any]:
    action = node.plan.step.action
    assert isinstance(action, Prompt)
    parts: dict[str, Any] = {name: value.evaluate(names) for name, value in node.plan.prompt}
    parts["model"] = list(node.plan.step.model)
    for name in ("tools", "max_turns", "temperature", "max_tokens", "seed", "stop"):
        parts[name] = getattr(action, name)
    board = machine.blackboard
    parts["context"] = {key: board[key] for key in action.context if key in board}
    return parts


def key_of(parts: Any) -> str:
    """The hash of components."""
    text = json.dumps([SCHEMA, parts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The first component that is not the same: ``parameters.message differs``."""
    for name in dict.fromkeys((*after, *before)):
        left, right = before.get(name), after.get(name)
        if left == right:
            continue
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            inner = next((key for key in dict.fromkeys((*right, *left)) if left.get(key) != right.get(key)), "")
            return f"{name}.{inner} differs"
        return f"{name} differs"
    return "it differs"


@lean(frozen=False)
class Earlier:
    """What one step of the earlier run depended on, and gave."""

    address: str
    parts: dict[str, Any] | None = None
    result: Any = None
    done: bool = False
    from_run: str = ""


class EarlierRun:
    """The results of a run that has ended, by place and by content.

    Args:
        run_id: Its id.
        plan: Of its recorded definition.
        inputs: Its inputs.
        facts: Its log, large results in it.
        options: The environment under which it is read again.
        version: Of the vrooli that ran it.
        forced: Addresses that run again whatever is unchanged, with all that is inside them.
    """

    def __init__(
        self,
        run_id: str,
        plan: RoutinePlan,
        inputs: Mapping[str, Any],
        facts: Iterable[tuple[e.Event, int]],
        options: MachineOptions,
        version: str,
        forced: Sequence[str] = (),
    ) -> None:
        self.run_id = run_id
        self.forced = frozenset(forced)
        self._version = version
        self._steps: dict[str, Earlier] = {}
        machine = RunMachine(plan, run_id, inputs, options)
        for fact, at in facts:
            self._take(machine, fact, at)
        self._places: dict[tuple[str, str], Earlier] = {}
        for one in self._steps.values():
            if one.done and one.parts is not None:
                self._places.setdefault((any_item(one.address), key_of(one.parts)), one)

    def _take(self, machine: RunMachine, fact: e.Event, at: int) -> None:
        if isinstance(fact, e.StepReused):
            one = self._note(machine, fact.step_id)
            one.result, one.done, one.from_run = fact.result, True, fact.from_run or self.run_id
        machine.evolve(fact, at)
        if isinstance(fact, e.ExecutionStarted):
            address = fact.step_id
            if turn_of(address) <= 1:  # what a repeat begins with
                self._note(machine, without_turn(address))
        elif isinstance(fact, e.StepCompleted):
            done = self._steps.get(fact.step_id)
            if done is not None:
                done.result, done.done, done.from_run = fact.result, not fact.recovered, self.run_id
        elif isinstance(fact, e.StepFailed) and fact.step_id in self._steps:
            self._steps[fact.step_id].done = False

    def _note(self, machine: RunMachine, address: str) -> Earlier:
        one = self._steps[address] = Earlier(address)
        try:
            one.parts = components(machine, machine.node_at(address), self._version)
        except VrooliError:  # it could not be rendered then either
            one.parts = None
        return one

    def find(self, address: str, parts: Mapping[str, Any]) -> Wanted:
        """The result for a step of the new run, or why there is none."""
        if address in self.forced or any(address[: end.start()] in self.forced for end in _ENDS.finditer(address)):
            return Wanted(reason="it was asked for")
        one = self._steps.get(address)
        if one is not None and one.done and one.parts == parts:
            return Wanted(Found(one.result, f"unchanged since run {one.from_run}", one.from_run))
        other = self._places.get((any_item(address), key_of(parts)))
        if other is not None:
            reason = f"unchanged since run {other.from_run}, where it was {other.address}"
            return Wanted(Found(other.result, reason, other.from_run))
        if one is None or not one.done or one.parts is None:
            return Wanted(reason=f"it did not complete in run {self.run_id}")
        return Wanted(reason=difference(one.parts, parts))


@lean(frozen=False)
class Reuse:
    """Where a run looks before it does something, and keeps what others may use.

    Attributes:
        earlier: The run that is run again.
        cache: False with ``--no-cache``: nothing is taken from other runs, and nothing kept for them.
    """

    store: Store
    run_id: str
    run_key: int
    version: str
    masker: Masker | None = None
    earlier: EarlierRun | None = None
    cache: bool = True

    def look(self, machine: RunMachine, node: Node) -> Wanted:
        """What is known of a step that is about to start; raises ExpressionError when it cannot be rendered."""
        parts = components(machine, node, self.version)
        reason = ""
        if self.earlier is not None:
            wanted = self.earlier.find(node.address, parts)
            if wanted.found is not None:
                return wanted
            reason = wanted.reason
        key = self._key(machine, node, parts)
        if not key or (self.earlier is not None and reason == "it was asked for"):
            return Wanted(reason=reason, key=key)
        data = self.store.cache_get(key)
        if data is None:
            return Wanted(reason=reason, key=key)
        kept = json.loads(data)
        return Wanted(Found(kept["result"], f"kept by run {kept['run']} (cache)", kept["run"]))

    def _key(self, machine: RunMachine, node: Node, parts: Mapping[str, Any]) -> str:
        rule, plan = node.plan.step.cache, node.plan
        if rule is None or not self.cache or plan.why_not_cached(parts.get("parameters", {})):
            return ""
        if plan.cache_key is None:
            return key_of(parts)
        kept = {name: part for name, part in parts.items() if name not in ("parameters", "prompt", "messages")}
        return key_of([kept, plan.cache_key.evaluate(machine.names(node))])

    def keep(self, node: Node, key: str, outcome: Outcome) -> None:
        """Keep what an attempt gave, for other runs; never what a secret stands in, never what had an effect."""
        rule = node.plan.step.cache
        if rule is None or outcome.error is not None or outcome.effects != "none":
            return
        data = json.dumps({"run": self.run_id, "result": outcome.result}, ensure_ascii=False, default=str).encode(
            "utf-8", "surrogatepass"
        )
        if len(data) > MOST_CACHED_BYTES or (self.masker is not None and self.masker.seal(data) != data):
            return
        self.store.cache_put(key, data, ttl_ms=rule.ttl_ms, run=self.run_key, address=node.address)
