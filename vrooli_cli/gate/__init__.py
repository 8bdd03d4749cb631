"""One door for every effect of every tier: rules, grants and norms judge, guards review, a person may be asked.

The order never changes: every :class:`Judge` (deny, then ask, then allow), then every :class:`Guard`, then the
:class:`Approver`, and only where a verdict says ``ask`` (spec tools.md, "Permissions"; engine.md (m) 3).
"""

from vrooli_cli.gate.action import Action, ToolTraits, traits_of
from vrooli_cli.gate.door import (
    DEFERRED,
    Admission,
    Answer,
    Approver,
    AutoApprove,
    Defer,
    Deferred,
    Gate,
    Guard,
    Judge,
    Question,
    Refuse,
    digest_of,
)
from vrooli_cli.gate.policy import Policy, Verdict, judge_strategy
from vrooli_cli.gate.report import EffectLine, EffectsReport, PlannedCall, effects_report
from vrooli_cli.gate.rules import CompiledRule, Glob, check, parse_rule

__all__ = [
    "DEFERRED",
    "Action",
    "Admission",
    "Answer",
    "Approver",
    "AutoApprove",
    "CompiledRule",
    "Defer",
    "Deferred",
    "EffectLine",
    "EffectsReport",
    "Gate",
    "Glob",
    "Guard",
    "Judge",
    "PlannedCall",
    "Policy",
    "Question",
    "Refuse",
    "ToolTraits",
    "Verdict",
    "check",
    "digest_of",
    "effects_report",
    "judge_strategy",
    "parse_rule",
    "traits_of",
]
