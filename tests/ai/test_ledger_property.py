"""The property of the ledger: whatever happens to calls, no level is ever overspent, and what was answered is exact."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ai.desk import Desk
from tests.ai.virtual import run_virtually
from vrooli_cli.ledger import Account
from vrooli_cli.model.events import Event, LedgerReserved, LedgerSettled
from vrooli_cli.tier3.ai.faults import Fault, Kind
from vrooli_cli.tier3.ai.governor import Governor
from vrooli_cli.tier3.ai.live import LiveService
from vrooli_cli.tier3.ai.manager import AIServiceManager
from vrooli_cli.tier3.ai.models import Target
from vrooli_cli.tier3.ai.prices import Usage
from vrooli_cli.tier3.ai.wire import Assembly, size_of

DEFINITIONS: dict[str, Any] = {
    "default": {"model": "m", "price": {"input": 0.3, "output": 1.7}, "fallback": ["other"]},
    "other": {"model": "o", "price": {"input": 3, "output": 11}},
}
TROUBLES = ["bad answer", "silent", "throttled", "failed", "broken", "cut with usage", "words"]


LIMITS = st.sampled_from([300, 1_300, 2_500, 6_000, 20_000, 60_000, 10**6])


class Fickle:
    """A transport that answers, fails and breaks as it is told; it writes down what it would charge."""

    def __init__(self, trouble: float, rng: random.Random) -> None:
        self._trouble = trouble
        self._rng = rng
        self.charged = 0
        self.unknown = 0

    async def ready(self, target: Target) -> None:
        """Nothing to load."""

    async def send(
        self,
        target: Target,
        body: Mapping[str, Any],
        begun: Callable[[Mapping[str, str]], None],
        hear: Callable[[str], None],
    ) -> Assembly:
        fate = self._rng.choice(TROUBLES) if self._rng.random() < self._trouble else "good"
        await asyncio.sleep(self._rng.uniform(0.1, 3))
        bound = body["max_tokens"]
        size = size_of(body)
        usage = Usage(
            self._rng.choice([size, self._rng.randrange(1, size)]),
            self._rng.choice([bound, self._rng.randrange(0, bound + 1)]),
        )
        faults: dict[str, tuple[Kind, bool]] = {"throttled": ("throttled", True), "failed": ("failed", True)}
        if fate in faults:
            kind, unpaid = faults[fate]
            raise Fault(kind, fate, 429 if kind == "throttled" else 500, unpaid=unpaid)
        begun({})
        answer = Assembly(finish="stop")
        if fate in ("broken", "words", "silent"):
            self.unknown += 1
        if fate in ("broken", "words"):
            hear("half" if fate == "words" else "")
            raise Fault("failed", fate)
        if fate == "cut with usage":
            self.charged += target.price.credits(usage)
            raise Fault("failed", fate, usage=usage)
        answer.feed({"choices": [{"delta": {"content": '{"n": 1}' if fate == "good" else "nonsense"}}]})
        if fate != "silent":
            answer.usage = usage
            self.charged += target.price.credits(usage)
        return answer

    async def aclose(self) -> None:
        """Nothing to close."""


@settings(max_examples=50, deadline=None)
@given(
    limit=LIMITS,
    inner=st.lists(st.none() | LIMITS, min_size=1, max_size=3),
    trouble=st.sampled_from([0.0, 0.2, 0.6]),
    cutting=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_no_level_is_ever_overspent_and_what_was_answered_is_exact(
    limit: int, inner: list[int | None], trouble: float, cutting: bool, seed: int
) -> None:
    rng = random.Random(seed)
    fickle = Fickle(trouble, rng)
    service = LiveService(fickle, Governor(random.Random(seed)))
    manager = AIServiceManager(service, environ={"OPENAI_API_KEY": "k"})
    desk = Desk(manager.bind(DEFINITIONS), limit=limit)
    accounts = [desk.account, *(Account(f"task:{at}", most, desk.account) for at, most in enumerate(inner))]
    overspent: list[str] = []

    def watch(fact: Event) -> None:
        desk.facts.append(fact)
        for account in accounts:
            most = account.limit if account.limit is not None else 10**9
            if min(account.settled, account.uncertain, account.reserved) < 0 or account.used + account.reserved > most:
                overspent.append(
                    account.name
                )  # collected: an attempt takes whatever is raised here for its own failure

    async def one(number: int) -> None:
        await asyncio.sleep(rng.uniform(0, 20))
        mine = Desk(desk.scope.ai)
        mine.scope = desk.scope.child(account=rng.choice(accounts[1:]), emit=watch)
        schema = {"type": "object", "properties": {"n": {"const": 1}}}
        try:
            async with asyncio.timeout(rng.choice([None, rng.uniform(0, 9)]) if cutting else None):
                await mine.prompt(f"call {number}", output_schema=schema, max_tokens=rng.choice([1, 300, 3_000]))
        except TimeoutError:
            pass

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(14)))

    run_virtually(main())
    assert not overspent
    root = desk.account
    assert [account.reserved for account in accounts] == [0] * len(accounts)
    assert root.settled <= fickle.charged  # what was cancelled on its way back was charged and is uncertain here
    settled = sum(fact.credits for fact in desk.told(LedgerSettled) if not fact.estimated)
    assert settled == root.settled
    if not cutting:
        assert root.settled == fickle.charged
        assert sum(1 for fact in desk.told(LedgerSettled) if fact.estimated) == fickle.unknown
    opened, closed = desk.told(LedgerReserved), desk.told(LedgerSettled)
    assert ([fact.reservation for fact in opened] and len(opened) == len(closed)) or not opened
    again = Account("run", limit)
    again.restore(desk.facts)
    assert (again.settled, again.uncertain, again.reserved) == (root.settled, root.uncertain, 0)
