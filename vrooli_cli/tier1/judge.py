"""The norms at the call: a judge of the gate that knows which roles an agent plays (spec swarm.md, "Normative")."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vrooli_cli.gate import Action, CompiledRule, Verdict, parse_rule
from vrooli_cli.model.events import Emit, Event, NormViolated, PermissionDenied
from vrooli_cli.tier1.moise.norms import Violation, prohibited
from vrooli_cli.tier1.organise import Organised, Play, roles_of

_RULE = "norm "


class NormJudge:
    """What the prohibitions of an organisation say of one agent's calls; the patterns are those of permissions.

    Args:
        organisation: The rules.
        plays: Who plays what now; a revision may change it.
        agent: Whose calls are judged.
        off: The norms whose condition does not hold now.
    """

    def __init__(
        self,
        organisation: Organised,
        plays: Callable[[], Sequence[Play]],
        agent: str,
        off: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._in_force = {frozenset[str](): organisation}
        self._plays = plays
        self._off = off
        self._agent = agent
        self._rules: dict[str, CompiledRule] = {}
        self._found: dict[str, Violation] = {}

    def judge(self, action: Action) -> Verdict | None:
        """A denial, or nothing: an organisation permits by leaving alone."""
        if action.agent != self._agent:
            return None
        roles = roles_of(self._plays(), self._agent)
        structure = self._organisation().structure
        found = prohibited(structure, self._agent, roles, lambda pattern: self._matches(pattern, action))
        if found is None:
            return None
        self._found[found.norm] = found
        reason = f"is against a norm: {found.message}"
        return Verdict("deny", f"{_RULE}{found.norm}", f"role {found.role}", reason, "NORM_VIOLATED")

    def _organisation(self) -> Organised:
        """The rules as far as they hold now."""
        off = self._off()
        known = self._in_force.get(off)
        if known is None:
            known = self._in_force[off] = self._in_force[frozenset()].without_norms(off)
        return known

    def _matches(self, pattern: str, action: Action) -> bool:
        rule = self._rules.get(pattern)
        if rule is None:
            rule = self._rules[pattern] = parse_rule(pattern, "norms")
        return rule.names(action.tool.name) and rule.matches(action, allowing=False)

    def telling(self, emit: Emit, task: str) -> Emit:
        """``emit``, saying ``norm/violated`` too where the gate refuses for a norm."""

        def told(fact: Event) -> None:
            emit(fact)
            if isinstance(fact, PermissionDenied) and fact.rule.startswith(_RULE):
                found = self._found.get(fact.rule.removeprefix(_RULE))
                if found is not None:
                    emit(
                        NormViolated(
                            execution_id=fact.execution_id,
                            norm=found.norm,
                            agent_id=found.agent,
                            role=found.role,
                            reason=found.message,
                            step_id=fact.step_id,
                            task_id=task,
                        )
                    )

        return told
