"""Nothing is overspent: single moves with their numbers, then any schedule at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vrooli_cli.errors import VrooliError
from vrooli_cli.ledger import Account, Reservation
from vrooli_cli.model.events import Event, LedgerReserved, LedgerSettled, ResourcesExhausted, ResourcesWarning


class Books:
    """Reserves for one call after another and keeps what was told."""

    def __init__(self) -> None:
        self.facts: list[Event] = []

    async def reserve(self, account: Account, worst: int, useful_min: int | None = None) -> Reservation:
        return await account.reserve(
            worst, execution_id="e", step_id="s", emit=self.facts.append, useful_min=useful_min
        )

    def charge(self, account: Account, credits: int) -> None:
        account.charge(credits, execution_id="e", step_id="s", emit=self.facts.append)

    def told(self, kind: type[Event]) -> list[Event]:
        return [fact for fact in self.facts if isinstance(fact, kind)]


@pytest.fixture
def books() -> Books:
    return Books()


def sums(account: Account) -> tuple[int, int, int]:
    return account.settled, account.uncertain, account.reserved


async def waiting(task: asyncio.Task[Any]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


async def test_a_reservation_counts_at_every_level_and_settles_to_what_was_used(books: Books) -> None:
    root = Account("run", 1000)
    task = Account("task:load", 500, root)
    held = await books.reserve(task, 400)
    assert sums(root) == sums(task) == (0, 0, 400)
    task.settle(held, 150)
    assert sums(root) == sums(task) == (150, 0, 0)
    assert books.facts == [
        LedgerReserved(execution_id="e", step_id="s", reservation="r1", credits=400, account="run>task:load"),
        LedgerSettled(execution_id="e", step_id="s", reservation="r1", credits=150, account="run>task:load"),
    ]


async def test_a_call_that_nobody_heard_the_end_of_is_uncertain_and_counts(books: Books) -> None:
    root = Account("run", 100)
    held = await books.reserve(root, 60)
    root.settle(held, 60, estimated=True)
    assert sums(root) == (0, 60, 0)
    with pytest.raises(VrooliError) as refused:
        await books.reserve(root, 41)
    assert refused.value.code == "CREDITS_EXHAUSTED"
    assert refused.value.context == {"limit": 100, "used": 60, "wanted": 41, "account": "run"}
    assert "40 of 100 are left" in refused.value.message


async def test_a_call_that_was_never_made_costs_nothing_and_is_told(books: Books) -> None:
    root = Account("run", 100)
    held = await books.reserve(root, 60)
    root.release(held)
    root.release(held)
    root.settle(held, 60)
    assert sums(root) == (0, 0, 0)
    assert [fact.credits for fact in books.facts if isinstance(fact, LedgerSettled)] == [0]


async def test_a_call_waits_only_for_what_others_have_set_aside(books: Books) -> None:
    root = Account("run", 100)
    first = await books.reserve(root, 80)
    second = asyncio.create_task(books.reserve(root, 90))
    assert await waiting(second)
    root.settle(first, 5)
    assert (await second).credits == 90
    with pytest.raises(VrooliError):
        await books.reserve(root, 96)


async def test_a_waiting_call_is_refused_as_soon_as_it_can_no_longer_fit(books: Books) -> None:
    root = Account("run", 100)
    first = await books.reserve(root, 80)
    second = asyncio.create_task(books.reserve(root, 90))
    assert await waiting(second)
    root.settle(first, 80)
    with pytest.raises(VrooliError):
        await second


async def test_a_call_is_shrunk_to_what_is_left_and_not_for_others_reservations(books: Books) -> None:
    root = Account("run", 100)
    root.settle(await books.reserve(root, 30), 30)
    assert root.left == 70
    other = await books.reserve(root, 60)
    shrunk = asyncio.create_task(books.reserve(root, 500, useful_min=50))
    assert await waiting(shrunk), "70 is what is left; that 60 of it are set aside is only a matter of time"
    root.release(other)
    assert (await shrunk).credits == 70
    root.release(shrunk.result())
    with pytest.raises(VrooliError):
        await books.reserve(root, 500, useful_min=71)
    assert (await books.reserve(root, 10, useful_min=71)).credits == 10, "a small call needs no more than itself"


async def test_first_come_first_served_at_the_account_that_lacks_room(books: Books) -> None:
    root = Account("run", 100)
    order: list[int] = []
    first = await books.reserve(root, 100)

    async def call(worst: int) -> None:
        held = await books.reserve(root, worst)
        order.append(worst)
        await asyncio.sleep(0)
        root.settle(held, 0)

    async with asyncio.TaskGroup() as tasks:
        for worst in (100, 1, 99, 2):
            tasks.create_task(call(worst))
            await asyncio.sleep(0)
        root.settle(first, 0)
    assert order == [100, 1, 99, 2], "a small call does not starve a large one"


async def test_a_line_at_one_account_holds_up_no_other(books: Books) -> None:
    root = Account("run", 100)
    narrow, wide = Account("a", 10, root), Account("b", None, root)
    held = await books.reserve(narrow, 10)
    stuck = asyncio.create_task(books.reserve(narrow, 5))
    assert await waiting(stuck)
    await books.reserve(wide, 90)
    narrow.release(held)
    await stuck


async def test_who_has_room_below_may_still_have_to_wait_above(books: Books) -> None:
    root = Account("run", 100)
    task = Account("task", 50, root)
    below = await books.reserve(task, 50)
    above = await books.reserve(root, 50)
    call = asyncio.create_task(books.reserve(task, 40))
    assert await waiting(call)
    more = asyncio.create_task(books.reserve(root, 50))
    assert await waiting(more)
    task.settle(below, 10)
    assert await waiting(call), "it stands behind the other now, at the root"
    root.release(above)
    assert (await more).credits == 50
    assert (await call).credits == 40


async def test_a_cancel_leaves_nothing_behind_and_lets_the_next_one_in(books: Books) -> None:
    root = Account("run", 100)
    first = await books.reserve(root, 60)
    large = asyncio.create_task(books.reserve(root, 90))
    small = asyncio.create_task(books.reserve(root, 40))
    assert await waiting(small), "in line behind the large one"
    large.cancel()
    assert (await small).credits == 40
    root.release(first)
    root.release(small.result())
    assert sums(root) == (0, 0, 0)


async def test_a_cancel_in_the_moment_of_the_grant_gives_it_back(books: Books) -> None:
    root = Account("run", 100)
    first = await books.reserve(root, 60)
    second = asyncio.create_task(books.reserve(root, 90))
    third = asyncio.create_task(books.reserve(root, 95))
    assert await waiting(third)
    root.release(first)
    second.cancel()
    assert (await third).credits == 95
    assert root.reserved == 95
    assert len(books.told(LedgerReserved)) == 2, "what nobody had is not told"


async def test_a_tool_is_charged_at_once_or_not_at_all(books: Books) -> None:
    root = Account("run", 100)
    task = Account("task", None, root)
    books.charge(task, 0)
    books.charge(task, 60)
    held = await books.reserve(task, 30)
    with pytest.raises(VrooliError, match="10 of 100 are left"):
        books.charge(task, 11)
    books.charge(task, 10)
    assert sums(root) == sums(task) == (70, 0, 30)
    task.release(held)
    assert [fact.credits for fact in books.facts if isinstance(fact, LedgerSettled)] == [60, 10, 0]


async def test_eighty_percent_is_told_once_an_account_and_so_is_the_end(books: Books) -> None:
    root = Account("run", 1000)
    task = Account("task", 100, root)
    for _ in range(10):
        books.charge(task, 10)
    for _ in range(3):
        with pytest.raises(VrooliError):
            books.charge(task, 10)
        with pytest.raises(VrooliError):
            await books.reserve(task, 1)
    assert books.told(ResourcesWarning) == [
        ResourcesWarning(execution_id="e", resource="credits", used=80, limit=100, step_id="s")
    ]
    assert books.told(ResourcesExhausted) == [
        ResourcesExhausted(execution_id="e", resource="credits", used=100, limit=100, step_id="s")
    ]
    assert sums(root) == (100, 0, 0)


async def test_an_endpoint_that_answers_too_much_is_the_truth_and_the_end(books: Books) -> None:
    root = Account("run", 100)
    root.settle(await books.reserve(root, 90), 130)
    assert root.settled == 130 and root.left == 0
    assert [fact.used for fact in books.facts if isinstance(fact, ResourcesExhausted)] == [130]
    with pytest.raises(VrooliError):
        await books.reserve(root, 1, useful_min=1)


async def test_without_a_limit_nothing_waits_and_a_limit_of_nothing_takes_nothing(books: Books) -> None:
    free = Account("run")
    assert free.left is None
    await books.reserve(free, 10**15)
    none = Account("run", 0)
    await books.reserve(none, 0)
    with pytest.raises(VrooliError):
        await books.reserve(none, 1)


# --- resume -----------------------------------------------------------------------------------------------------------


async def test_a_resume_counts_the_same_and_calls_open_reservations_uncertain(books: Books) -> None:
    root = Account("run", 1000)
    task = Account("task:load", 500, root)
    step = Account("step", None, task)
    task.settle(await books.reserve(step, 100), 70)
    root.settle(await books.reserve(root, 100), 20, estimated=True)
    books.charge(task, 5)
    await books.reserve(step, 200)

    again = Account("run", 400)
    lost = again.restore(books.facts)
    assert sums(again) == (75, 220, 0)
    assert [(fact.reservation, fact.credits, fact.estimated) for fact in lost] == [("r4", 200, True)]
    child = Account("task:load", 500, again)
    assert sums(child) == (75, 200, 0)
    assert sums(Account("step", None, child)) == (70, 200, 0)
    assert sums(Account("other", None, again)) == (0, 0, 0)
    assert again.left == 105, "under the new limit"
    assert (await books.reserve(again, 1)).id == "r5"
    third = Account("run", 400)
    assert third.restore([*books.facts[:-1], *lost]) == []
    assert sums(third) == (75, 220, 0)


async def test_a_warning_given_before_the_resume_is_not_given_again(books: Books) -> None:
    root = Account("run", 100)
    books.charge(root, 85)
    again = Account("run", 100)
    again.restore(books.facts)
    more = Books()
    more.charge(again, 5)
    assert more.told(ResourcesWarning) == []
    raised = Account("run", 200)
    raised.restore(books.facts)
    more.charge(raised, 80)
    assert len(more.told(ResourcesWarning)) == 1


# --- any schedule -----------------------------------------------------------------------------------------------------


class Schedule(RuleBasedStateMachine):
    """Calls begin, end, fail, are cancelled and are charged in any order; the ceilings hold, and everybody ends."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        root = Account("run", 100)
        left, right = Account("a", 60, root), Account("b", None, root)
        self.accounts = [root, left, right, Account("c", 30, left), Account("d", 50, right)]
        self.books = Books()
        self.calls: list[tuple[Account, asyncio.Task[Reservation]]] = []

    def turn(self, *, cancel: asyncio.Task[Any] | None = None) -> None:
        async def turns() -> None:
            if cancel is not None:
                cancel.cancel()
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    @rule(index=st.integers(0, 4), worst=st.integers(0, 120), useful=st.none() | st.integers(1, 60), wait=st.booleans())
    def call(self, index: int, worst: int, useful: int | None, wait: bool) -> None:
        account = self.accounts[index]
        task = self.loop.create_task(self.books.reserve(account, worst, useful))
        self.calls.append((account, task))
        if wait:
            self.turn()

    def pick(self, number: int) -> tuple[Account, asyncio.Task[Reservation]]:
        return self.calls.pop(number % len(self.calls))

    @precondition(lambda self: self.calls)
    @rule(number=st.integers(0, 50), part=st.integers(0, 100), estimated=st.booleans(), wait=st.booleans())
    def end(self, number: int, part: int, estimated: bool, wait: bool) -> None:
        account, task = self.pick(number)
        if not task.done():
            self.calls.append((account, task))
        elif not task.cancelled() and task.exception() is None:
            account.settle(task.result(), task.result().credits * part // 100, estimated=estimated)
        if wait:
            self.turn()

    @precondition(lambda self: self.calls)
    @rule(number=st.integers(0, 50), wait=st.booleans())
    def cancel(self, number: int, wait: bool) -> None:
        account, task = self.pick(number)
        task.cancel()
        if wait:
            self.turn()
        if not task.done() or not (task.cancelled() or task.exception()):
            self.calls.append((account, task))

    @rule(index=st.integers(0, 4), credits=st.integers(0, 20))
    def charge(self, index: int, credits: int) -> None:
        try:
            self.books.charge(self.accounts[index], credits)
        except VrooliError as error:
            assert error.code == "CREDITS_EXHAUSTED"

    @invariant()
    def no_ceiling_is_passed(self) -> None:
        for account in self.accounts:
            assert min(sums(account)) >= 0
            assert account.limit is None or sum(sums(account)) <= account.limit
        root = self.accounts[0]
        assert root.settled >= self.accounts[1].settled + self.accounts[2].settled

    @invariant()
    def the_log_says_the_same(self) -> None:
        again = Account("run", 100)
        again.restore(self.books.facts)
        assert again.settled == self.accounts[0].settled
        ended = {fact.reservation for fact in self.books.facts if isinstance(fact, LedgerSettled)}
        held = [fact for fact in self.books.facts if isinstance(fact, LedgerReserved) and fact.reservation not in ended]
        assert again.uncertain == self.accounts[0].uncertain + sum(fact.credits for fact in held)

    def teardown(self) -> None:
        """No deadlock: when every call that has its credits ends, every call that waits gets an answer."""
        try:
            self.end_all()
        finally:
            self.loop.close()

    def end_all(self) -> None:
        for _ in range(len(self.calls) + 1):
            self.turn()
            for account, task in self.calls:
                if task.done() and not task.cancelled() and task.exception() is None:
                    account.release(task.result())
        self.turn()
        assert all(task.done() for _, task in self.calls)
        assert all(account.reserved == 0 for account in self.accounts)
        for _, task in self.calls:
            if not task.cancelled():
                task.exception()


Schedule.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestNoScheduleOverspendsOrDeadlocks = Schedule.TestCase


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), st.booleans()), min_size=1, max_size=40))
def test_parallel_calls_never_pass_the_limit_while_they_sleep_and_fail(calls: list[tuple[int, int, bool]]) -> None:
    root = Account("run", 50)
    highest = 0

    async def call(worst: int, turns: int, fails: bool) -> None:
        nonlocal highest
        held = await root.reserve(worst, execution_id="e", step_id="s", useful_min=1)
        try:
            for _ in range(turns):
                highest = max(highest, sum(sums(root)))
                await asyncio.sleep(0)
            if fails:
                raise OSError
            root.settle(held, held.credits // 2)
        finally:
            root.release(held)

    async def main() -> None:
        await asyncio.wait_for(asyncio.gather(*(call(*one) for one in calls), return_exceptions=True), 5)

    asyncio.run(main())
    assert highest <= 50
    assert root.reserved == 0
