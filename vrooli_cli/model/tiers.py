"""What every tier can be asked: the seed's one interface between the tiers."""

from __future__ import annotations

from typing import Protocol

from vrooli_cli.model.run import ExecutionResult, ExecutionStatus, TierExecutionRequest


class TierCommunicationInterface(Protocol):
    """A tier as its callers see it; ``execute`` of a tier takes live handles (``scope``) beside the request, too."""

    async def execute(self, request: TierExecutionRequest) -> ExecutionResult:
        """Do what is asked. A failure is a result, never an exception; only a cancel from outside propagates."""

    async def get_execution_status(self, execution_id: str) -> ExecutionStatus:
        """Where an execution is; UnknownRunError (a KeyError) for an id that nobody has given out."""

    async def cancel_execution(self, execution_id: str) -> None:
        """Ask an execution to stop; returns before it has. One that is over stays as it is."""
