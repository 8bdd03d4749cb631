"""One answer from an endpoint: who is asked, when, for how much, and what becomes of a fault.

The only place where requests are repeated. For every model of the list in turn: permit of the governor → reservation →
``ai/requested`` → call → settled → ``ai/responded``. Each sending is its own reservation: one whose fate nobody knows
(a broken stream, a cancel) stays counted as uncertain, in full.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from vrooli_cli.errors import VrooliError
from vrooli_cli.ledger import Reservation
from vrooli_cli.model.events import AIFallback, AIThrottled
from vrooli_cli.model.run import BROKEN_OFF
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.ai.faults import Fault
from vrooli_cli.tier3.ai.governor import Call, Governor, Throttled
from vrooli_cli.tier3.ai.models import Target, no_key
from vrooli_cli.tier3.ai.service import AIReply, AIRequest, Anybody, Caller, Deltas, Told
from vrooli_cli.tier3.ai.wire import Assembly, Dialect, Names, body_of, digest_of_body, size_of
from vrooli_cli.tier3.scope import Scope

USEFUL: Final = 256
USEFUL_STRUCTURED: Final = 1_024
"""The least tokens of an answer that a call is still worth making for, when credits run out."""
_LESSONS: Final = 4  # about an endpoint's dialect, in one call


class Transport(Protocol):
    """Sends one request body to one endpoint, once."""

    async def send(
        self,
        target: Target,
        body: Mapping[str, Any],
        begun: Callable[[Mapping[str, str]], None],
        hear: Callable[[str], None],
    ) -> Assembly:
        """The whole answer; ``begun`` is told its headers (lower-case names) first, ``hear`` its text as it arrives.

        Raises:
            Fault: Anything else.
        """

    async def ready(self, target: Target) -> None:
        """Load what sending needs; awaited before every request, so that no clock runs while it takes its time."""

    async def aclose(self) -> None:
        """Close every connection."""


@lean(frozen=False)
class _Ask:
    """One request on its way: what all its tries share."""

    request: AIRequest
    scope: Scope
    caller: Caller
    names: Names
    credits: int = 0
    told: int = 0

    def spend(self, credits: int) -> None:
        """Something was paid, or may have been."""
        self.credits += credits
        self.caller.credits += credits


class LiveService:
    """Models behind endpoints.

    Args:
        transport: How a request travels.
        governor: When; shared by everything that uses the same endpoints.
    """

    def __init__(self, transport: Transport, governor: Governor | None = None) -> None:
        self._transport = transport
        self.governor = governor or Governor()
        self._dialects: dict[tuple[str, str], Dialect] = {}

    async def ask(self, request: AIRequest, scope: Scope, caller: Caller | None = None) -> AIReply:
        """See :class:`~vrooli_cli.tier3.ai.service.AIService`; ``request.targets`` says where."""
        ask = _Ask(request, scope, caller or Anybody(), Names(tool.name for tool in request.tools))
        targets = [target for target in request.targets if target.ready]
        if not targets:
            raise no_key(request.targets, "tier3")
        failed: list[tuple[Target, Fault]] = []
        for position, target in enumerate(targets):
            try:
                return await self._from(target, ask)
            except Fault as fault:
                failed.append((target, fault))
                if fault.spoke:
                    break
                if position + 1 < len(targets):
                    self._tell_fallback(ask, target, targets[position + 1], fault)
        raise _unanswered(failed)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    # --- one model ----------------------------------------------------------------------------------------------------

    async def _from(self, target: Target, ask: _Ask) -> AIReply:
        """The answer of one model, with as many tries as the governor gives; Fault when there is none."""
        request = ask.request
        dialect = self._dialects.setdefault((target.base_url, target.model), Dialect.of(target))
        body = body_of(request, target, dialect, ask.names, request.max_tokens)
        digest = digest_of_body(body)
        tokens = size_of(body) // 4 + request.max_tokens
        lessons = 0
        async with self.governor.call(target.lane, digest, priority=request.priority, tokens=tokens) as call:
            while True:
                await self._permit(call, ask, target)
                try:
                    reply = await self._try(target, ask, body, call)
                except Fault as fault:
                    if lessons < _LESSONS and fault.status in (400, 422) and dialect.learn(fault.message, request):
                        lessons += 1
                        body = body_of(request, target, dialect, ask.names, request.max_tokens)
                        call.landed(digest_of_body(body))
                        continue
                    self._again(call, ask, target, fault)
                except BaseException:
                    call.landed()
                    raise
                else:
                    call.answered()
                    return reply

    async def _permit(self, call: Call, ask: _Ask, target: Target) -> None:
        with ask.caller.waiting():
            await self._transport.ready(target)
            try:
                await call.permit()
            except Throttled as closed:
                raise Fault("throttled", closed.message, 429, unpaid=True) from None

    def _again(self, call: Call, ask: _Ask, target: Target, fault: Fault) -> None:
        """Let the governor say when the next try is; raises the fault when there is none."""
        if fault.kind == "refused" or fault.spoke:
            call.landed()
            raise fault
        delay = call.refused(fault.kind, fault.headers, time.time())
        if delay is None:
            raise fault
        ask.scope.emit(
            AIThrottled(
                execution_id=ask.scope.execution_id,
                step_id=ask.request.address,
                attempt=ask.request.attempt,
                model=target.name,
                delay_ms=round(delay * 1000),
                reason=fault.message,
            )
        )

    # --- one try ------------------------------------------------------------------------------------------------------

    async def _try(self, target: Target, ask: _Ask, body: dict[str, Any], call: Call) -> AIReply:
        """Reserve, send, settle."""
        request, scope = ask.request, ask.scope
        size = size_of(body)
        held, max_tokens = await self._reserve(target, ask, size)
        key = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
        stream = Deltas(request, scope)
        try:
            told = Told.requested(request, scope, target.name, target=target, first=not ask.told)
            ask.told += 1
            await _committed(scope)
            sent = {**body, key: max_tokens}
            answer = await self._transport.send(target, sent, lambda said: call.heard(said, time.time()), stream.feed)
        except Fault as fault:
            stream.close()
            fault.spoke = stream.spoke
            self._settle_fault(held, ask, target, fault)
            raise
        except BaseException:  # a cancel: the endpoint may well charge for it
            self._settle(held, ask, held.credits, estimated=True)
            raise
        stream.close()
        reply = self._reply(answer, target, ask, max_tokens)
        cost = held.credits if answer.usage is None else target.price.credits(answer.usage)
        self._settle(held, ask, cost, estimated=answer.usage is None)
        reply = replace(reply, credits=ask.credits)
        told.responded(reply)
        return reply

    async def _reserve(self, target: Target, ask: _Ask, size: int) -> tuple[Reservation, int]:
        """Set the worst case aside; the bound of the answer is what the ledger could grant."""
        request, scope, price = ask.request, ask.scope, target.price
        worst = price.worst(size, request.max_tokens)
        useful = USEFUL if request.output_schema is None else USEFUL_STRUCTURED
        with ask.caller.waiting():
            held = await scope.account.reserve(
                worst,
                execution_id=scope.execution_id,
                step_id=request.address,
                emit=scope.emit,
                useful_min=price.worst(size, min(useful, request.max_tokens)),
            )
        if held.credits >= worst:
            return held, request.max_tokens
        return held, max(1, min(request.max_tokens, price.fitting(held.credits, size)))

    def _reply(self, answer: Assembly, target: Target, ask: _Ask, max_tokens: int) -> AIReply:
        return AIReply(
            text=answer.text,
            tool_calls=answer.tool_calls(ask.names),
            finish_reason=answer.finish_reason,
            model=target.name,
            usage=answer.usage,
            refusal=answer.refusal,
            shrunk=max_tokens < ask.request.max_tokens,
            max_tokens=max_tokens,
            answered_model=answer.model if answer.model != target.model else None,
        )

    def _settle_fault(self, held: Reservation, ask: _Ask, target: Target, fault: Fault) -> None:
        if fault.usage is not None:
            self._settle(held, ask, target.price.credits(fault.usage))
        elif fault.unpaid:
            self._settle(held, ask, 0)
        else:
            self._settle(held, ask, held.credits, estimated=True)

    def _settle(self, held: Reservation, ask: _Ask, credits: int, *, estimated: bool = False) -> None:
        ask.scope.account.settle(held, credits, estimated=estimated)
        ask.spend(credits)

    def _tell_fallback(self, ask: _Ask, target: Target, other: Target, fault: Fault) -> None:
        ask.scope.emit(
            AIFallback(
                execution_id=ask.scope.execution_id,
                step_id=ask.request.address,
                attempt=ask.request.attempt,
                model=target.name,
                to_model=other.name,
                reason=fault.message,
            )
        )


async def _committed(scope: Scope) -> None:
    """The reservation is in the log before the request leaves: what a crash leaves open is counted."""
    committed: Callable[[], Awaitable[None]] | None = getattr(scope, "committed", None)
    await (committed() if committed is not None else asyncio.sleep(0))


def _unanswered(failed: list[tuple[Target, Fault]]) -> VrooliError:
    """Why nobody answered, in one line."""
    throttled = all(fault.kind == "throttled" and fault.status in (429, 529) for _, fault in failed)
    told = "; ".join(f"{target.name}: {fault.message}" for target, fault in failed)
    context: dict[str, Any] = {"models": [target.name for target, _ in failed]}
    last = failed[-1][1]
    if last.spoke:
        told += "; a part of it was shown, so the step has to begin anew"
        context[BROKEN_OFF] = True
    if last.status is not None:
        context["status"] = last.status
    if all(fault.kind == "refused" for _, fault in failed):
        context["retryable"] = False
    return VrooliError(told, code="AI_RATE_LIMITED" if throttled else "AI_UNAVAILABLE", tier="tier3", context=context)
