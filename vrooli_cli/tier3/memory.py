"""What the commands of a run use of the machine's memory, summed up a tree of limits (spec engine.md, g).

One sampler (``processes.py``) measures; a :class:`MemoryMeter` adds up. A run has a meter, a child run one below it, so
a child can never use more than its parent has.
"""

from __future__ import annotations

from collections.abc import Iterator

from vrooli_cli.errors import VrooliError
from vrooli_cli.model.events import Emit, ResourcesExhausted, ResourcesWarning

MIB = 1 << 20
_WARN_AT = 0.8


class MemoryMeter:
    """The resident memory of everything below, now and at its most.

    Attributes:
        limit_mb: None is no limit of this level's own.
        used: Bytes at the last sample.
        peak: Bytes, the most that a sample has seen.
    """

    __slots__ = ("_emit", "_execution_id", "_parent", "_warned", "limit_mb", "peak", "used")

    def __init__(
        self,
        limit_mb: int | None = None,
        parent: MemoryMeter | None = None,
        *,
        emit: Emit | None = None,
        execution_id: str = "",
    ) -> None:
        self.limit_mb = limit_mb
        self.used = 0
        self.peak = 0
        self._parent = parent
        self._emit = emit
        self._execution_id = execution_id
        self._warned = False

    @property
    def peak_mb(self) -> int:
        """The most that was used, in MiB, rounded up."""
        return -(-self.peak // MIB)

    def line(self) -> Iterator[MemoryMeter]:
        """This meter and those above it."""
        meter: MemoryMeter | None = self
        while meter is not None:
            yield meter
            meter = meter._parent

    def change(self, delta: int) -> None:
        """Something below uses ``delta`` bytes more than at the last sample."""
        for meter in self.line():
            meter.used += delta

    def settle(self) -> None:
        """Every change of one sample has been told: keep the peak, and warn once at 80 % of the limit."""
        self.peak = max(self.peak, self.used)
        if self.limit_mb is None or self._warned or self.used < _WARN_AT * self.limit_mb * MIB:
            return
        self._warned = True
        if self._emit is not None:
            used = -(-self.used // MIB)
            fact = ResourcesWarning(
                execution_id=self._execution_id, resource="memory_mb", used=used, limit=self.limit_mb
            )
            self._emit(fact)

    @property
    def exceeded(self) -> bool:
        """True when the last sample was over the limit."""
        return self.limit_mb is not None and self.used > self.limit_mb * MIB

    def refusal(self, step: str) -> VrooliError:
        """The error of the step that has to go for it, told as an event too."""
        assert self.limit_mb is not None
        used = -(-self.used // MIB)
        if self._emit is not None:
            fact = ResourcesExhausted(
                execution_id=self._execution_id, resource="memory_mb", used=used, limit=self.limit_mb, step_id=step
            )
            self._emit(fact)
        return exceeded(used, self.limit_mb, "the commands of the run together")


def exceeded(used_mb: int, limit_mb: int, who: str) -> VrooliError:
    """``MEMORY_EXCEEDED``, with what was used and the limit in MiB."""
    return VrooliError(
        f"{who} used {used_mb} MiB of memory, more than the {limit_mb} MiB of allocation.max_memory_mb",
        code="MEMORY_EXCEEDED",
        tier="tier3",
        context={"used": used_mb, "limit": limit_mb},
    )
