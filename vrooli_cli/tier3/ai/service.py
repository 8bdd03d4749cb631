"""The seam to models: what is asked, what is answered, and the one method by which (spec ai.md, "Provider").

Implementations: :class:`~vrooli_cli.tier3.ai.live.LiveService` (endpoints),
:class:`~vrooli_cli.tier3.ai.scripted.ScriptedAI` (a list) and :class:`~vrooli_cli.tier3.ai.remembered.Remembered`
(memo, cassette, cache; wraps another one). :class:`~vrooli_cli.tier3.ai.manager.AIServiceManager` puts them together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field
from typing import Any, Protocol

from vrooli_cli.errors import VrooliError
from vrooli_cli.language.masking import Masker
from vrooli_cli.model.events import AIDelta, AIRequested, AIResponded
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.ai.models import Target
from vrooli_cli.tier3.ai.prices import Usage
from vrooli_cli.tier3.scope import Scope

MAX_TOKENS = 4_096
"""The longest answer where nobody says otherwise; always sent, so that every call has a worst case."""


@lean()
class ToolOffer:
    """A tool that the model may call: its real name, and the exact JSON Schema of its parameters."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@lean()
class ToolUse:
    """A call that the model wants made.

    Attributes:
        id: The model's name of the call; may be missing or repeat.
        name: The tool, by its real name where it is one that was offered.
        arguments: JSON text as the model wrote it, valid or not.
    """

    id: str
    name: str
    arguments: str

    def wire(self) -> dict[str, Any]:
        """As it stands in a message of Chat Completions."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> ToolUse:
        """The inverse of :meth:`wire`."""
        function = raw["function"]
        return cls(raw.get("id", ""), function["name"], function["arguments"])


@lean(kw_only=True)
class AIRequest:
    """One question to a model.

    Attributes:
        messages: As Chat Completions has them, tools by their real names.
        models: Names as the file says, in order of fallback; empty is the default model.
        tools: What the model may call.
        tool_choice: ``auto``, ``none``, or the name of the one tool that it must call.
        output_schema: What a structured answer must fit; the asker checks it, an endpoint may help.
        max_tokens: Of the answer.
        address: The step that asks; with ``attempt`` and ``turn`` for events.
        nth: Which of several equal requests of one attempt this is, from 0.
        told: How many of the messages earlier ``ai/requested`` events of this attempt have told.
        targets: Where to ask; filled in by the manager's binding.
    """

    messages: tuple[Mapping[str, Any], ...]
    models: tuple[str, ...] = ()
    tools: tuple[ToolOffer, ...] = ()
    tool_choice: str = "auto"
    output_schema: Mapping[str, Any] | None = None
    temperature: float | None = None
    max_tokens: int = MAX_TOKENS
    seed: int | None = None
    stop: tuple[str, ...] = ()
    address: str = ""
    attempt: int = 1
    turn: int = 1
    nth: int = 0
    told: int = 0
    priority: int = 1
    targets: tuple[Target, ...] = ()

    def canonical(self, masker: Masker | None = None) -> dict[str, Any]:
        """What makes this request this request, as plain data without secrets: what cassettes keep and hash."""
        plain: dict[str, Any] = {"models": list(self.models), "messages": [dict(one) for one in self.messages]}
        if self.tools:
            plain["tools"] = [
                {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
                for tool in self.tools
            ]
            plain["tool_choice"] = self.tool_choice
        for name in ("output_schema", "temperature", "max_tokens", "seed"):
            value = getattr(self, name)
            if value is not None:
                plain[name] = value
        if self.stop:
            plain["stop"] = list(self.stop)
        masked: dict[str, Any] = masker.mask_value(plain) if masker else plain
        return masked


def digest_of(canonical: Mapping[str, Any]) -> str:
    """The hash that names a request."""
    text = json.dumps(canonical, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@lean(kw_only=True)
class AIReply:
    """What a model answered.

    Attributes:
        finish_reason: ``stop``, ``tool_calls``, ``length`` or ``content_filter``.
        model: The name of the model that answered, as the file calls it.
        usage: None when the endpoint did not say.
        credits: What this answer has cost, failed tries before it included.
        refusal: The model's own words of refusal.
        shrunk: The ledger had lowered ``max_tokens`` to what was left.
        max_tokens: What the answer was limited to.
        answered_model: What the endpoint says it was, when that is not the name it was asked by.
    """

    text: str = ""
    tool_calls: tuple[ToolUse, ...] = ()
    finish_reason: str = "stop"
    model: str = ""
    usage: Usage | None = None
    credits: int = 0
    refusal: str | None = None
    shrunk: bool = False
    max_tokens: int = MAX_TOKENS
    answered_model: str | None = None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The seed's way to the text: ``reply.choices[0].message.content``."""
        return (Choice(Message(self.text)),)

    def check(self) -> None:
        """Raises for an answer that is none: refused, filtered, or cut off (spec ai.md, "Strategies").

        Raises:
            VrooliError: ``AI_REFUSED``, ``AI_OUTPUT_INVALID``, or ``CREDITS_EXHAUSTED`` for an answer that was cut
                because the ledger had no more.
        """
        if self.refusal is not None:
            raise _odd("AI_REFUSED", f"{self.model} refused: {_one_line(self.refusal) or 'without a reason'}")
        if self.finish_reason == "content_filter":
            raise _odd("AI_REFUSED", f"the content filter of {self.model} stopped the answer")
        if self.finish_reason == "length" and self.shrunk:
            message = f"the answer of {self.model} was cut at {self.max_tokens} tokens, all that the credits allowed"
            raise _odd("CREDITS_EXHAUSTED", f"{message}; raise --max-credits (or allocation.max_credits)")
        if self.finish_reason == "length":
            message = f"the answer of {self.model} was cut at {self.max_tokens} tokens"
            raise _odd("AI_OUTPUT_INVALID", f"{message}; raise max_tokens or ask for less", finish_reason="length")


@lean()
class Message:
    """The text of a :class:`Choice`."""

    content: str


@lean()
class Choice:
    """The one answer of a reply, under the names of the seed."""

    message: Message


def _odd(code: str, message: str, **context: Any) -> VrooliError:
    return VrooliError(message, code=code, tier="tier3", context=context)


def _one_line(text: str, limit: int = 200) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= limit else f"{plain[:limit]}…"


class Caller(Protocol):
    """Who waits for the answer: an :class:`~vrooli_cli.tier3.attempt.Attempt`, or :class:`Anybody`.

    Attributes:
        credits: What was spent on its behalf, failed tries included; the service adds to it.
    """

    credits: int

    def waiting(self) -> AbstractContextManager[None]:
        """Entered while the call queues, so that a step's time-out stands still."""


@lean(frozen=False)
class Anybody:
    """A caller without a clock."""

    credits: int = 0

    def waiting(self) -> AbstractContextManager[None]:
        """Nothing stands still."""
        return nullcontext()


class AIService(Protocol):
    """Answers questions."""

    async def ask(self, request: AIRequest, scope: Scope, caller: Caller | None = None) -> AIReply:
        """The model's answer, reserved and settled in ``scope.account`` and told through ``scope.emit``.

        An answer that is none (refused, cut off) is returned as well; :meth:`AIReply.check` raises for it.

        Raises:
            VrooliError: ``AI_UNAVAILABLE``, ``AI_RATE_LIMITED`` when no model of the list could answer,
                ``CREDITS_EXHAUSTED`` when the call was not made for want of credits.
        """


@lean()
class Told:
    """Tells the two events around one answer; every service that answers uses it, so that they read alike."""

    request: AIRequest
    scope: Scope
    model: str
    started: float = field(default=0.0)

    @classmethod
    def requested(
        cls, request: AIRequest, scope: Scope, model: str, *, target: Target | None = None, first: bool = True
    ) -> Told:
        """Say that ``model`` is about to be asked, there; messages that were told before are left out."""
        news = [dict(one) for one in request.messages[request.told :]] if first else None
        scope.emit(
            AIRequested(
                execution_id=scope.execution_id,
                step_id=request.address,
                attempt=request.attempt,
                model=model,
                turn=request.turn,
                messages=news or None,
                tools=tuple(tool.name for tool in request.tools) or None if first else None,
                asked_model=target.model if target is not None and target.model != model else None,
                endpoint=target.place if target is not None else None,
                unpriced=True if target is not None and not target.price.known else None,
            )
        )
        return cls(request, scope, model, scope.clock.monotonic())

    def responded(self, reply: AIReply) -> None:
        """Say what was answered; with this the exchange can be remembered."""
        request, scope = self.request, self.scope
        rest: dict[str, Any] = {}
        if reply.refusal is not None:
            rest["refusal"] = reply.refusal
        if reply.shrunk:
            rest["shrunk"] = True
        rest["max_tokens"] = reply.max_tokens
        scope.emit(
            AIResponded(
                execution_id=scope.execution_id,
                step_id=request.address,
                attempt=request.attempt,
                model=reply.model,
                duration_ms=round((scope.clock.monotonic() - self.started) * 1000),
                turn=request.turn,
                finish_reason=reply.finish_reason,
                usage=reply.usage.wire() if reply.usage else None,
                credits=reply.credits,
                text=reply.text or None,
                tool_calls=[one.wire() for one in reply.tool_calls] or None,
                request_hash=digest_of(request.canonical(scope.masker)),
                nth=request.nth,
                reply=rest,
                answered_model=reply.answered_model,
            )
        )


def reply_of(fact: AIResponded) -> AIReply:
    """The reply that an ``ai/responded`` event tells of."""
    rest = fact.reply or {}
    return AIReply(
        text=fact.text or "",
        tool_calls=tuple(ToolUse.read(one) for one in fact.tool_calls or ()),
        finish_reason=fact.finish_reason or "stop",
        model=fact.model,
        usage=Usage.read(fact.usage),
        credits=fact.credits or 0,
        refusal=rest.get("refusal"),
        shrunk=bool(rest.get("shrunk")),
        max_tokens=rest.get("max_tokens", MAX_TOKENS),
    )


async def deliver(reply: AIReply, request: AIRequest, scope: Scope, caller: Caller) -> AIReply:
    """Give an answer that is known beforehand, from a script or a cassette: charged and told like a live one."""
    held = await scope.account.reserve(
        reply.credits, execution_id=scope.execution_id, step_id=request.address, emit=scope.emit
    )
    told = Told.requested(request, scope, reply.model)
    stream = Deltas(request, scope)
    stream.feed(reply.text)
    stream.close()
    scope.account.settle(held, reply.credits)
    caller.credits += reply.credits
    told.responded(reply)
    return reply


class Deltas:
    """Tells text as it streams, secrets masked over the borders of the pieces.

    Attributes:
        spoke: True once somebody may have seen a part of the answer.
    """

    __slots__ = ("_mask", "_request", "_scope", "spoke")

    def __init__(self, request: AIRequest, scope: Scope) -> None:
        self._request = request
        self._scope = scope
        self._mask = scope.masker.stream() if scope.masker else None
        self.spoke = False

    def feed(self, text: str) -> None:
        """The next piece."""
        self._tell(self._mask.feed(text) if self._mask else text)

    def close(self) -> None:
        """The end of the answer."""
        if self._mask:
            self._tell(self._mask.close())

    def _tell(self, text: str) -> None:
        if not text:
            return
        self.spoke = True
        request = self._request
        self._scope.emit(
            AIDelta(execution_id=self._scope.execution_id, step_id=request.address, attempt=request.attempt, text=text)
        )
