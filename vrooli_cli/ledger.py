"""Credits that cannot be overspent, and who is at work (spec engine.md, e; ai.md, "Credits").

An :class:`Account` is a ceiling, never a hold: only a call in flight sets something aside. At every level of the tree,
at every moment::

    settled + uncertain + reserved <= limit

*settled* is what calls have cost, *uncertain* what calls may have cost whose answer nobody received, *reserved* the
worst case of the calls in flight. (An endpoint that answers more than it was allowed to breaks this after the fact;
then settled is the truth, nothing more is granted and ``resources/exhausted`` says so.)

Nobody can deadlock: who holds a reservation waits for nothing but its own call, which has a time-out; so whoever waits
for a reservation is woken. Waiting is first come, first served at the account that lacks room, and a call waits only
when it would fit without what *others* have set aside; else it is shrunk or refused at once, so answers never depend
on timing. Single-threaded: everything is called on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from vrooli_cli.errors import InputError, UnknownRunError, VrooliError
from vrooli_cli.model.clock import Clock, SystemClock
from vrooli_cli.model.events import (
    Emit,
    Event,
    LedgerReserved,
    LedgerSettled,
    ResourcesExhausted,
    ResourcesWarning,
)
from vrooli_cli.model.run import ExecutionStatus, ResourceAllocation, ResourceUsage
from vrooli_cli.model.values import lean

WARNING_PERCENT: Final = 80
_PATH = ">"  # between addresses in a fact's `account`; no address holds it
_ENDED_RUNS = 10_000  # whose status a tracker still knows


def _unheard(fact: Event) -> None:
    """Nobody listens."""


@lean(frozen=False, eq=False)
class Reservation:
    """What one call in flight may cost.

    Attributes:
        id: Unique in the root run, also after a resume.
        credits: What was granted: the worst case asked for, or less when the call must be shrunk to it.
        open: False once it is settled or released.
    """

    id: str
    account: Account
    credits: int
    execution_id: str
    step_id: str
    emit: Emit
    open: bool = True


@lean(frozen=False, eq=False)
class _Waiter:
    """A call that waits in the line of one account."""

    worst: int
    useful_min: int | None
    source: Account
    granted: asyncio.Future[int]
    line: Account | None = None


@lean(frozen=False)
class _Ids:
    """The numbers of a tree's reservations, and what earlier processes have used, by path."""

    last: int = 0
    restored: dict[tuple[str, ...], tuple[int, int]] | None = None


class Account:
    """One level of a run's ledger: the root run, a task, a child run, a step.

    Args:
        address: Where in the run, e.g. ``task:load``; the root's is the run's id. A child that is made again after a
            resume (same address, same parent) has what it had used before.
        limit: Whole credits; None for no limit of its own.
        parent: The level above; None for the root.

    Attributes:
        settled: What answered calls have cost.
        uncertain: What calls may have cost whose answer nobody received.
        reserved: The worst case of the calls in flight.
    """

    def __init__(self, address: str, limit: int | None = None, parent: Account | None = None) -> None:
        self.address = address
        self.limit = limit
        self.parent = parent
        self.settled = self.uncertain = self.reserved = 0
        self._path: tuple[str, ...] = () if parent is None else (*parent._path, address)
        self._levels: tuple[Account, ...] = (self,) if parent is None else (self, *parent._levels)
        self._ids: _Ids = _Ids() if parent is None else parent._ids
        self._waiting: deque[_Waiter] = deque()
        self._warned = self._told = False
        if self._ids.restored is not None and self._path in self._ids.restored:
            self.settled, self.uncertain = self._ids.restored[self._path]
            self._warned = self._is_high()

    # --- what is there ------------------------------------------------------------------------------------------------

    @property
    def used(self) -> int:
        """Credits that are gone: settled and uncertain."""
        return self.settled + self.uncertain

    @property
    def left(self) -> int | None:
        """The most that one call may cost here when no other is in flight; None without any limit, never below 0.

        This is what a call is shrunk to: others' reservations are not in it, so that it does not depend on timing.
        """
        rooms = [level.limit - level.used for level in self._levels if level.limit is not None]
        return max(0, min(rooms)) if rooms else None

    @property
    def name(self) -> str:
        """The way from the root, as ``ledger/*`` events name the account."""
        return _PATH.join((self._levels[-1].address, *self._path))

    # --- reserve, settle, release -------------------------------------------------------------------------------------

    async def reserve(
        self,
        worst: int,
        *,
        execution_id: str,
        step_id: str,
        emit: Emit = _unheard,
        useful_min: int | None = None,
    ) -> Reservation:
        """Set the worst case of a call aside at every level, before the call is made.

        Does not wait when there is room. Waits in line when there would be room without others' reservations; a
        cancel while waiting leaves nothing behind. The caller must :meth:`settle` or :meth:`release` it whatever
        happens, and must not wait for anything but its own call meanwhile.

        Args:
            worst: Whole credits.
            execution_id: Of the ``ledger/*`` facts.
            step_id: Of the ``ledger/*`` facts.
            emit: Told ``ledger/reserved`` now and ``ledger/settled`` later; await ``committed()`` before the call.
            useful_min: The least that a shrunken call is worth making for; ``credits`` of the result is then between
                this and ``worst``. None: all or nothing.

        Raises:
            VrooliError: ``CREDITS_EXHAUSTED`` with ``limit``, ``used``, ``wanted`` and ``account`` in the context.
        """
        if worst < 0:
            raise ValueError("a reservation is not negative")
        try:
            granted, line = self._decide(worst, useful_min)
            if line is not None:
                granted = await self._wait(_Waiter(worst, useful_min, self, _future()), line)
        except VrooliError as error:
            self._tell_exhausted(error, execution_id, step_id, emit)
            raise
        held = Reservation(self._next_id(), self, granted, execution_id, step_id, emit)
        emit(
            LedgerReserved(
                execution_id=execution_id, step_id=step_id, reservation=held.id, credits=granted, account=self.name
            )
        )
        return held

    def settle(self, reservation: Reservation, credits: int, *, estimated: bool = False) -> None:
        """End a reservation with what the call has cost; ``estimated`` when nobody can know, then it is *uncertain*.

        Ending one that has ended does nothing, so ``finally: account.release(reservation)`` is safe.
        """
        if not reservation.open:
            return
        reservation.open = False
        for level in reservation.account._levels:
            level.reserved -= reservation.credits
        self._spend(reservation, credits, estimated=estimated)

    def release(self, reservation: Reservation) -> None:
        """End a reservation whose call was never made: it cost nothing."""
        self.settle(reservation, 0)

    def charge(self, credits: int, *, execution_id: str, step_id: str, emit: Emit = _unheard) -> None:
        """Take what a tool's call costs, at once or not at all.

        Raises:
            VrooliError: ``CREDITS_EXHAUSTED`` when it does not fit beside what is set aside; nothing was taken.
        """
        if credits <= 0:
            return
        for level in self._levels:
            if level.limit is not None and level.used + level.reserved + credits > level.limit:
                error = _exhausted(level, credits, level.used + level.reserved)
                self._tell_exhausted(error, execution_id, step_id, emit)
                raise error
        spent = Reservation(self._next_id(), self, credits, execution_id, step_id, emit, open=False)
        self._spend(spent, credits, estimated=False)

    def _spend(self, reservation: Reservation, credits: int, *, estimated: bool) -> None:
        account, emit = reservation.account, reservation.emit
        for level in account._levels:
            if estimated:
                level.uncertain += credits
            else:
                level.settled += credits
        emit(
            LedgerSettled(
                execution_id=reservation.execution_id,
                step_id=reservation.step_id,
                reservation=reservation.id,
                credits=credits,
                account=account.name,
                estimated=True if estimated else None,
            )
        )
        for level in account._levels:
            level._warn(reservation)
        for level in account._levels:
            level._wake()

    def _decide(self, worst: int, useful_min: int | None, waiter: _Waiter | None = None) -> tuple[int, Account | None]:
        """What is granted, and set aside already; or the account in whose line the call must wait.

        ``waiter`` is the one at the head of its line; the line it heads is not in its way.
        """
        granted = worst
        for level in self._levels:
            if level.limit is not None and granted > level.limit - level.used:
                granted = level.limit - level.used
                if useful_min is None or granted < useful_min:
                    raise _exhausted(level, worst, level.used)
        for level in self._levels:
            behind = bool(level._waiting) and (waiter is None or level._waiting[0] is not waiter)
            if level.limit is not None and (behind or level.used + level.reserved + granted > level.limit):
                return granted, level
        for level in self._levels:
            level.reserved += granted
        return granted, None

    async def _wait(self, waiter: _Waiter, line: Account) -> int:
        line._waiting.append(waiter)
        waiter.line = line
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """A cancelled call gives up its place, or what it was granted a moment ago."""
        done = waiter.granted
        if done.done() and not done.cancelled() and done.exception() is None:
            for level in self._levels:
                level.reserved -= done.result()
            for level in self._levels:
                level._wake()
        elif waiter.line is not None:
            line, waiter.line = waiter.line, None
            line._waiting.remove(waiter)
            line._wake()

    def _wake(self) -> None:
        """Serve this account's line from its head as far as there is room."""
        while self._waiting:
            waiter = self._waiting[0]
            line = None if waiter.granted.done() else waiter.source._serve(waiter)
            if line is self:
                return
            self._waiting.popleft()
            waiter.line = line
            if line is not None:  # there is room here now, but not at another level
                line._waiting.append(waiter)

    def _serve(self, waiter: _Waiter) -> Account | None:
        """Grant or refuse what the head of a line asks for; the account in whose line it must wait on."""
        try:
            granted, line = self._decide(waiter.worst, waiter.useful_min, waiter)
        except VrooliError as error:
            waiter.granted.set_exception(error)
            return None
        if line is None:
            waiter.granted.set_result(granted)
        return line

    # --- telling ------------------------------------------------------------------------------------------------------

    def _is_high(self) -> bool:
        return self.limit is not None and self.used > 0 and self.used * 100 >= self.limit * WARNING_PERCENT

    def _warn(self, by: Reservation) -> None:
        if self.limit is None:
            return
        if not self._warned and self._is_high():
            self._warned = True
            by.emit(
                ResourcesWarning(
                    execution_id=by.execution_id,
                    resource="credits",
                    used=self.used,
                    limit=self.limit,
                    step_id=by.step_id,
                )
            )
        if self.used > self.limit:
            self._exhaust(by.execution_id, by.step_id, by.emit)

    def _tell_exhausted(self, error: VrooliError, execution_id: str, step_id: str, emit: Emit) -> None:
        for level in self._levels:
            if level.name == error.context.get("account"):
                level._exhaust(execution_id, step_id, emit)

    def _exhaust(self, execution_id: str, step_id: str, emit: Emit) -> None:
        if not self._told and self.limit is not None:
            self._told = True
            emit(
                ResourcesExhausted(
                    execution_id=execution_id, resource="credits", used=self.used, limit=self.limit, step_id=step_id
                )
            )

    def _next_id(self) -> str:
        self._ids.last += 1
        return f"r{self._ids.last}"

    # --- after a resume -----------------------------------------------------------------------------------------------

    def restore(self, facts: Iterable[Event]) -> list[LedgerSettled]:
        """Count what earlier processes of this run have used; called once, on the root, before any child is made.

        A reservation that was never settled becomes uncertain: nobody knows what its call has cost.

        Returns:
            A fact for each of those, to be published, so that other readers of the log count the same.
        """
        if self.parent is not None:
            raise ValueError("the root account restores the tree")
        opened: dict[str, LedgerReserved] = {}
        totals: dict[tuple[str, ...], tuple[int, int]] = {}
        for fact in facts:
            if isinstance(fact, LedgerReserved):
                opened[fact.reservation] = fact
                self._seen(fact.reservation)
            elif isinstance(fact, LedgerSettled):
                opened.pop(fact.reservation, None)
                self._seen(fact.reservation)
                _count(totals, fact)
        lost = [_lost(fact) for fact in opened.values()]
        for one in lost:
            _count(totals, one)
        self._ids.restored = totals
        self.settled, self.uncertain = totals.get((), (0, 0))
        self._warned = self._is_high()
        return lost

    def _seen(self, reservation: str) -> None:
        number = reservation.removeprefix("r")
        if number.isdecimal():
            self._ids.last = max(self._ids.last, int(number))


def _future() -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


def _exhausted(level: Account, wanted: int, used: int) -> VrooliError:
    limit = level.limit or 0
    return VrooliError(
        f"{wanted} credits are needed and {max(0, limit - used)} of {limit} are left;"
        " raise --max-credits (or allocation.max_credits) and resume the run",
        code="CREDITS_EXHAUSTED",
        context={"limit": limit, "used": used, "wanted": wanted, "account": level.name},
    )


def _lost(fact: LedgerReserved) -> LedgerSettled:
    return LedgerSettled(
        execution_id=fact.execution_id,
        step_id=fact.step_id,
        reservation=fact.reservation,
        credits=fact.credits,
        account=fact.account,
        estimated=True,
    )


def _count(totals: dict[tuple[str, ...], tuple[int, int]], fact: LedgerSettled) -> None:
    for path in _prefixes(tuple(fact.account.split(_PATH)[1:])):
        settled, uncertain = totals.get(path, (0, 0))
        if fact.estimated:
            totals[path] = settled, uncertain + fact.credits
        else:
            totals[path] = settled + fact.credits, uncertain


def _prefixes(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (path[:length] for length in range(len(path) + 1))


# --- who is at work --------------------------------------------------------------------------------------------------


@lean(frozen=False)
class _Tracked:
    """One execution as its tier reports it."""

    status: ExecutionStatus
    started: float
    account: Account | None
    before: int
    cancel: Callable[[], None] | None
    ended: float | None = None
    steps: int = 0
    memory_mb: int = 0
    credits: int = 0


class ResourceTracker:
    """Which executions there are, what they use, and how to stop one; shared by all tiers of an architecture.

    An execution that has ended keeps its status and usage (the last 10,000 of them).
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._active: dict[str, _Tracked] = {}
        self._ended: OrderedDict[str, _Tracked] = OrderedDict()

    async def start_tracking(
        self,
        execution_id: str,
        allocation: ResourceAllocation | None = None,
        *,
        account: Account | None = None,
        cancel: Callable[[], None] | None = None,
    ) -> None:
        """An execution begins; its status is ``running``.

        Args:
            execution_id: Of an execution that is not at work already.
            allocation: Its ceilings; a tracker only reports, the account and the tiers hold them.
            account: Where its credits are counted; None when it has none.
            cancel: Called by :meth:`cancel_execution`; must return at once.

        Raises:
            InputError: An execution of this id is at work.
        """
        del allocation
        if execution_id in self._active:
            raise InputError(f"the execution {execution_id!r} is at work already; give the new one another id")
        self._ended.pop(execution_id, None)
        before = account.used if account is not None else 0
        self._active[execution_id] = _Tracked(ExecutionStatus.RUNNING, self._clock.monotonic(), account, before, cancel)

    async def stop_tracking(self, execution_id: str) -> None:
        """The execution is over; its usage stands still. A second call does nothing."""
        tracked = self._find(execution_id)
        if self._active.pop(execution_id, None) is None:
            return
        tracked.credits = _credits(tracked)
        tracked.ended = self._clock.monotonic()
        tracked.cancel = tracked.account = None
        self._ended[execution_id] = tracked
        if len(self._ended) > _ENDED_RUNS:
            self._ended.popitem(last=False)

    async def get_usage(self, execution_id: str) -> ResourceUsage:
        """What it has used so far; uncertain credits are counted.

        Raises:
            UnknownRunError: A KeyError: no execution of this id is known.
        """
        tracked = self._find(execution_id)
        end = self._clock.monotonic() if tracked.ended is None else tracked.ended
        return ResourceUsage(
            credits_used=str(_credits(tracked)),
            duration_ms=round((end - tracked.started) * 1000),
            memory_used_mb=tracked.memory_mb,
            steps_executed=tracked.steps,
        )

    async def get_execution_status(self, execution_id: str) -> ExecutionStatus:
        """Where it is.

        Raises:
            UnknownRunError: A KeyError: no execution of this id is known.
        """
        return self._find(execution_id).status

    async def cancel_execution(self, execution_id: str) -> None:
        """Ask it to stop; returns before it has. One that is over stays as it is.

        Raises:
            UnknownRunError: A KeyError: no execution of this id is known.
        """
        tracked = self._find(execution_id)
        if tracked.cancel is not None:
            tracked.cancel()

    def set_status(self, execution_id: str, status: ExecutionStatus) -> None:
        """Its tier says where it is; also after :meth:`stop_tracking`."""
        self._find(execution_id).status = status

    def note(self, execution_id: str, *, steps: int = 0, memory_mb: int = 0) -> None:
        """Its tier adds ``steps`` that have ended, and the memory seen now; the highest stays."""
        tracked = self._find(execution_id)
        tracked.steps += steps
        tracked.memory_mb = max(tracked.memory_mb, memory_mb)

    def _find(self, execution_id: str) -> _Tracked:
        tracked = self._active.get(execution_id) or self._ended.get(execution_id)
        if tracked is None:
            raise UnknownRunError(f"no execution {execution_id!r} is known here")
        return tracked


def _credits(tracked: _Tracked) -> int:
    return tracked.account.used - tracked.before if tracked.account is not None else tracked.credits
