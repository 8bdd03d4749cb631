"""What can go wrong between here and a model, as one exception with fields (spec ai.md, "Rate limits and faults")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from vrooli_cli.tier3.ai.prices import Usage

Kind = Literal["throttled", "failed", "refused"]
"""``throttled``: too much to do (429, 529). ``failed``: a fault that may pass. ``refused``: it will not pass."""

# Statuses of gateways: what stands behind them may have done, and charged, the work.
_GATEWAYS: Final = frozenset({502, 504, 520, 522, 523, 524})


@dataclass(eq=False)
class Fault(Exception):
    """An endpoint that did not answer, or a stream that broke off.

    Attributes:
        kind: What may be done about it.
        message: One line, beginning with what happened.
        status: The HTTP status; None when there was none.
        headers: Lower-case names.
        unpaid: The endpoint cannot have charged for it: never sent, or turned away.
        usage: What the endpoint had reported before it broke off.
        spoke: A part of the answer was shown already, so nothing may be repeated in silence.
    """

    kind: Kind
    message: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    unpaid: bool = False
    usage: Usage | None = None
    spoke: bool = False

    def __str__(self) -> str:
        return self.message


def fault_of_status(status: int, message: str, headers: Mapping[str, str], code: str = "") -> Fault:
    """The fault that an HTTP status is; ``code`` is the endpoint's own word for it."""
    unpaid = status not in _GATEWAYS
    return Fault(_kind(status, headers, code), message, status, headers, unpaid=unpaid)


def _kind(status: int, headers: Mapping[str, str], code: str) -> Kind:
    if headers.get("x-should-retry") == "false" or code in ("insufficient_quota", "billing_hard_limit_reached"):
        return "refused"
    if status in (429, 529) or (status == 503 and "retry-after" in headers):
        return "throttled"
    if status >= 500 or status in (408, 409, 425):
        return "failed"
    return "refused"
