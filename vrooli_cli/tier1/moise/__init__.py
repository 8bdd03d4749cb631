"""MOISE+ organisations: load a specification, ask what its rules allow, allocate agents to it.

Usable on its own, without the rest of vrooli::

    org = Organisation(load_organisation("os.xml"))
    org.add_agent("ana")
    org.create_group("team", "t1")
    org.adopt_role("ana", "leader", "t1")      # or OrganisationError, and nothing has changed
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vrooli_cli.errors import OrganisationError
    from vrooli_cli.model.organization import OrganisationSpec
    from vrooli_cli.tier1.moise.organisation import GoalState, Organisation
    from vrooli_cli.tier1.moise.xml import load_organisation

__all__ = ["GoalState", "Organisation", "OrganisationError", "OrganisationSpec", "load_organisation"]

_HOME = {
    "GoalState": "vrooli_cli.tier1.moise.organisation",
    "Organisation": "vrooli_cli.tier1.moise.organisation",
    "OrganisationError": "vrooli_cli.errors",
    "OrganisationSpec": "vrooli_cli.model.organization",
    "load_organisation": "vrooli_cli.tier1.moise.xml",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
