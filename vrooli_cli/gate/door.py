"""The door itself: who is asked before an effect, in which order, and how a refusal is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import field
from enum import Enum
from typing import Any, Literal, Protocol

from vrooli_cli.errors import ToolError, VrooliError
from vrooli_cli.gate.action import Action, ToolTraits
from vrooli_cli.gate.policy import Policy, Verdict, judge_strategy, strictest
from vrooli_cli.gate.report import suggested_rule
from vrooli_cli.language.shell import told
from vrooli_cli.model.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    Emit,
    PermissionDenied,
    SafetyPreAction,
    SafetyVerdict,
)
from vrooli_cli.model.run import Effects
from vrooli_cli.model.values import lean


class Judge(Protocol):
    """Says what it thinks of a call: sync, pure, without I/O (norms, communication links)."""

    def judge(self, action: Action) -> Verdict | None:
        """The verdict; None for "not my business"."""


class Guard(Protocol):
    """Looks at a call before it happens: a barrier agent. Silence, an error and anything but allow are deny.

    Attributes:
        name: For events and refusals.
        timeout: Seconds; 2 for a guard that is a tool, 30 for a prompt or a routine.
    """

    @property
    def name(self) -> str:
        """For events and refusals."""

    @property
    def timeout(self) -> float:
        """Seconds that an answer may take."""

    def listens(self, action: Action) -> bool:
        """True when this guard wants to see the call."""

    async def review(self, action: Action) -> Verdict:
        """The verdict."""


@lean(kw_only=True)
class Question:
    """What a person is asked.

    Attributes:
        address: The step's path.
        prompt: One line without control characters.
        digest: Of what was asked: a grant holds for this address and digest only.
        kind: ``permission`` (may this call be made) or ``approval`` (a step of the routine).
        rule: Rule and source by which the question is asked.
        suggestion: A rule that would make it unnecessary.
        timeout_ms: None waits for ever.
    """

    address: str
    prompt: str
    digest: str
    execution_id: str = ""
    kind: Literal["permission", "approval"] = "approval"
    tool: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    rule: str = ""
    suggestion: str = ""
    agent: str | None = None
    timeout_ms: int | None = None


@lean()
class Answer:
    """What was answered, and by whom."""

    approved: bool
    by: str
    comment: str | None = None


class Deferred(Enum):
    """Nobody is there to answer now."""

    DEFERRED = "deferred"


DEFERRED = Deferred.DEFERRED
_NO_TERMINAL = "no terminal"


class Approver(Protocol):
    """Somebody who can say yes."""

    async def ask(self, question: Question) -> Answer | Deferred:
        """The answer, or DEFERRED when nobody can answer now."""


class AutoApprove:
    """``--yes``: grants everything."""

    async def ask(self, question: Question) -> Answer | Deferred:
        """Yes."""
        return Answer(True, "--yes")


class Refuse:
    """``--no-input``: nobody is asked, so the answer is no."""

    async def ask(self, question: Question) -> Answer | Deferred:
        """No."""
        return Answer(False, "--no-input")


class Defer:
    """No terminal: an approval waits for `vrooli approve`, an ``ask`` rule becomes a denial."""

    async def ask(self, question: Question) -> Answer | Deferred:
        """Later."""
        return DEFERRED


Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Host name → its addresses; raises OSError when there are none."""


async def resolve(host: str, timeout: float = 10.0) -> Sequence[str]:
    """The addresses of a host, by a thread of our own: a name server that hangs must not hold the process's end.

    Raises:
        OSError: The name is unknown, or there was no answer in ``timeout`` seconds.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def look_up() -> None:
        addresses: list[str] = []
        failure: Exception | None = None
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            addresses = [str(entry[4][0]).partition("%")[0] for entry in entries]
        except (OSError, UnicodeError) as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits for the answer
            loop.call_soon_threadsafe(_settle, found, addresses, failure)

    threading.Thread(target=look_up, name=f"resolve:{host}", daemon=True).start()
    async with asyncio.timeout(timeout):
        return await found


def _settle(future: asyncio.Future[list[str]], value: list[str], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(OSError(str(error)))


@lean()
class Admission:
    """What was looked at when a call was let in; the tool uses these and does not look again.

    Attributes:
        addresses: Host → the addresses that the rules were checked with: connect to these only. Empty when no rule
            is about addresses.
        paths: Path parameter → the path after links that the rules were checked with.
    """

    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)


_FREE = Admission()


class Gate:
    """One door for every effect of every tier.

    Args:
        approver: Who is asked.
        judges: Beside the policy that each call brings: norms, communication links.
        guards: Barrier agents, registered when the run is wired.
        resolver: How host names become addresses.
    """

    __slots__ = ("_grants", "_guards", "_judges", "_resolve", "approver")

    def __init__(
        self,
        approver: Approver | None = None,
        *,
        judges: Iterable[Judge] = (),
        guards: Iterable[Guard] = (),
        resolver: Resolve = resolve,
    ) -> None:
        self.approver: Approver = approver or Defer()
        self._judges = tuple(judges)
        self._guards = list(guards)
        self._resolve = resolver
        self._grants: set[tuple[str, str, str]] = set()

    def with_judges(self, *judges: Judge, resolver: Resolve | None = None) -> Gate:
        """The same door with more judges, for a child or an agent; guards and grants are shared."""
        gate = Gate(self.approver, judges=(*self._judges, *judges), resolver=resolver or self._resolve)
        gate._guards, gate._grants = self._guards, self._grants
        return gate

    def add_guard(self, guard: Guard) -> None:
        """From now on ``guard`` sees what it listens to."""
        self._guards.append(guard)

    def grant(self, execution_id: str, address: str, digest: str) -> None:
        """A person has said yes to this before (a resumed run tells what its log says)."""
        self._grants.add((execution_id, address, digest))

    def quick(self, tool: ToolTraits, policy: Policy, effects: Effects, *, written: bool = True) -> bool:
        """True when the call need not be looked at: no Action has to be made and :meth:`admit` would let it in."""
        if self._judges or (self._guards and effects != "none"):
            return False
        return policy.quick(tool, written, effects)

    def judge(self, action: Action, policy: Policy) -> Verdict:
        """The verdict of policy and judges together; what a person or a guard would say is not in it."""
        said = strictest([policy.judge(action), *(judge.judge(action) for judge in self._judges)])
        assert said is not None  # the policy always says something
        return said

    async def admit(
        self,
        action: Action,
        policy: Policy,
        emit: Emit,
        *,
        waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
        mask: Callable[[str], str] = str,
    ) -> Admission:
        """Return when the call may be made.

        Args:
            action: The call.
            policy: The rules in force for it.
            emit: Told of questions, answers, guards' verdicts and refusals.
            waiting: Entered while a person is asked, e.g. to stop the step's clock.
            mask: Replaces secrets (``Masker.mask_text``); texts for people are shortened here, and half a secret
                would pass the mask at the exit.

        Returns:
            Addresses and paths that were checked, for the tool to use.

        Raises:
            VrooliError: ``PERMISSION_DENIED`` (or the judge's own code, ``NORM_VIOLATED``); context holds ``tool``,
                ``rule`` and ``source``.
            ToolError: ``TOOL_FAILED``: rules speak of addresses and the host has none.
        """
        addresses = await self._addresses(action, policy)
        verdict = self.judge(action, policy)
        if verdict.decision != "deny":
            verdict = await self._guarded(action, emit) or verdict
        if verdict.decision == "ask":
            question = _question(action, verdict, mask)
            verdict = await self._consent(question, verdict, emit, waiting)
        if verdict.decision == "deny":
            raise _refused(
                emit,
                verdict,
                action.execution_id,
                action.address,
                action.tool.name,
                action.told(mask=mask),
                action.agent,
            )
        paths = {name: place.real for name, place in action.places.items() if place.real is not None}
        return Admission(addresses, paths) if addresses or paths else _FREE

    async def admit_strategy(
        self,
        strategy: str,
        levels: Iterable[tuple[str, Mapping[str, str]]],
        *,
        execution_id: str,
        address: str,
        emit: Emit,
        waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Return when ``policy: {strategies: …}`` lets the step use this strategy; else as :meth:`admit`."""
        verdict = judge_strategy(levels, strategy)
        if verdict.decision == "ask":
            question = Question(
                address=address,
                prompt=f"{address} wants to use the strategy {strategy}. Allow it?",
                digest=digest_of("strategy", {"strategy": strategy}),
                execution_id=execution_id,
                kind="permission",
                rule=verdict.place,
            )
            verdict = await self._consent(question, verdict, emit, waiting)
        if verdict.decision == "deny":
            raise _refused(emit, verdict, execution_id, address, strategy, strategy, None)

    async def _addresses(self, action: Action, policy: Policy) -> dict[str, tuple[str, ...]]:
        names = policy.wants_addresses(action)
        if not names:
            return {}
        found = await asyncio.gather(*(self._look_up(name) for name in names))
        known = dict(zip(names, found, strict=True))
        if not known[names[0]]:
            message = f"the host {names[0]!r} cannot be resolved; a permission rule has to be checked on its addresses"
            raise ToolError(message, context={"host": names[0]})
        action.keep_addresses(known)
        return {names[0]: known[names[0]]}

    async def _look_up(self, host: str) -> tuple[str, ...]:
        try:
            found = [_plain_address(one) for one in await self._resolve(host)]
        except (OSError, TimeoutError):
            return ()
        return tuple(dict.fromkeys(found + [_UNSPECIFIED[one] for one in found if one in _UNSPECIFIED]))

    async def _guarded(self, action: Action, emit: Emit) -> Verdict | None:
        """The first refusal of the guards that listen; None when there is none."""
        if action.effects == "none" or not self._guards:
            return None
        guards = [guard for guard in self._guards if guard.listens(action)]
        if not guards:
            return None
        emit(
            SafetyPreAction(
                execution_id=action.execution_id,
                step_id=action.address,
                tool_name=action.tool.name,
                effects=action.effects,
                parameters=action.parameters,
                agent_id=action.agent,
            )
        )
        verdicts = await asyncio.gather(*(_reviewed(guard, action) for guard in guards))
        for guard, said in zip(guards, verdicts, strict=True):
            emit(
                SafetyVerdict(
                    execution_id=action.execution_id,
                    step_id=action.address,
                    guard=guard.name,
                    verdict=said.decision,
                    reason=said.reason or None,
                )
            )
        return next((said for said in verdicts if said.decision == "deny"), None)

    async def _consent(
        self,
        question: Question,
        verdict: Verdict,
        emit: Emit,
        waiting: Callable[[], AbstractContextManager[object]],
    ) -> Verdict:
        """A person's word on an ``ask``: the verdict with which the call goes in, or is refused."""
        key = (question.execution_id, question.address, question.digest)
        if key in self._grants:
            return Verdict("allow", verdict.rule, verdict.source)
        step, digest = question.address, question.digest
        emit(ApprovalRequested(execution_id=question.execution_id, step_id=step, prompt=question.prompt, digest=digest))
        with waiting():
            answer = await self.approver.ask(question)
        if isinstance(answer, Deferred):
            answer = Answer(False, _NO_TERMINAL)
        kind = ApprovalGranted if answer.approved else ApprovalDenied
        emit(
            kind(
                execution_id=question.execution_id,
                step_id=step,
                by=answer.by,
                comment=answer.comment,
                digest=digest,
            )
        )
        if answer.approved:
            self._grants.add(key)
            return Verdict("allow", verdict.rule, verdict.source)
        reason = f"{verdict.reason}; {_not_given(answer, question, verdict)}"
        return Verdict("deny", verdict.rule, verdict.source, reason, verdict.code)


def _not_given(answer: Answer, question: Question, verdict: Verdict) -> str:
    """Why there is no consent, and what to do."""
    if answer.by not in _NOBODY:
        comment = f": {answer.comment}" if answer.comment else ""
        return f"{answer.by} said no{comment}"
    way = "change that rule"
    if verdict.rule == "default" and question.suggestion:
        way = f"allow it with a rule such as {question.suggestion}"
    return f"{_NOBODY[answer.by]}; run with --yes, or {way}"


_NOBODY = {_NO_TERMINAL: "there is no terminal to ask at", "--no-input": "--no-input keeps vrooli from asking"}


# A connection to "no address" ends on this machine.
_UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def _plain_address(address: str) -> str:
    """An address in its usual form; an IPv4 one in IPv6 clothes as IPv4."""
    import ipaddress

    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


async def _reviewed(guard: Guard, action: Action) -> Verdict:
    """A guard's verdict, or the denial that its silence or its failure is."""
    try:
        async with asyncio.timeout(guard.timeout):
            said = await guard.review(action)
    except TimeoutError:
        return _guard_denies(guard, f"got no answer from the guard {guard.name!r} in {guard.timeout:g} s")
    except Exception as error:
        return _guard_denies(guard, f"could not be reviewed by the guard {guard.name!r}: {error}")
    if isinstance(said, Verdict) and said.decision == "allow":
        return said
    reason = said.reason if isinstance(said, Verdict) and said.reason else "it gave no reason"
    return _guard_denies(guard, f"is denied by the guard {guard.name!r}: {reason}")


def _guard_denies(guard: Guard, reason: str) -> Verdict:
    return Verdict("deny", f"guard {guard.name}", "events", reason)


def digest_of(tool: str, parameters: Mapping[str, Any]) -> str:
    """What a grant is bound to: sha256 over the tool and its rendered parameters."""
    try:
        shown = {name: told(value) for name, value in parameters.items()}
        text = json.dumps([tool, shown], sort_keys=True, ensure_ascii=False, default=repr)
    except (TypeError, ValueError, RecursionError):
        text = repr((tool, parameters))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _question(action: Action, verdict: Verdict, mask: Callable[[str], str]) -> Question:
    who = f"{action.agent} ({action.address})" if action.agent else action.address
    return Question(
        address=action.address,
        prompt=f"{who} wants to call {action.told(200, mask)}. Allow it?",
        digest=digest_of(action.tool.name, action.parameters),
        execution_id=action.execution_id,
        kind="permission",
        tool=action.tool.name,
        parameters=action.parameters,
        rule=verdict.place,
        suggestion=suggested_rule(action),
        agent=action.agent,
    )


def _refused(
    emit: Emit, verdict: Verdict, execution_id: str, address: str, name: str, told: str, agent: str | None
) -> VrooliError:
    """The refusal as an event and as the error to raise."""
    emit(
        PermissionDenied(
            execution_id=execution_id,
            step_id=address,
            tool_name=name,
            rule=verdict.rule,
            source=verdict.source,
            reason=verdict.reason,
            agent_id=agent,
        )
    )
    return VrooliError(
        f"{told} {verdict.reason}",
        code=verdict.code,
        tier="tier3",
        step=address,
        context={"tool": name, "rule": verdict.rule, "source": verdict.source},
    )
