"""The environment of child processes: cleared, then what somebody has named (spec tools.md, "Secrets")."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from vrooli_cli.errors import ToolError
from vrooli_cli.language.values import text_of
from vrooli_cli.tier3.registry import ToolContext

KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR")
"""What a child process gets of vrooli's own environment."""


def child_environment(context: ToolContext, *more: Mapping[str, Any]) -> dict[str, str]:
    """:data:`KEPT`, the trace that the call belongs to, the routine's ``env:``, and ``more``; later ones win.

    Raises:
        ToolError: ``PARAMETER_INVALID``: a name or a value that no environment can hold.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment.setdefault("PATH", os.defpath)
    environment.update((name.upper(), value) for name, value in context.trace.items())
    for names in (context.scope.env, *more):
        for name, value in names.items():
            environment[name] = text_of(value)
            if not name or "=" in name or "\0" in name or "\0" in environment[name]:
                message = f"the environment variable {name!r:.60} cannot be passed on: a NUL, an = or no name"
                raise ToolError(message, code="PARAMETER_INVALID", retryable=False)
    return environment
