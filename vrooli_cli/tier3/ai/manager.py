"""AIServiceManager: what a process knows of models, and the service that each routine's runs get from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vrooli_cli.errors import Pointer, Problem, VrooliError
from vrooli_cli.tier3.scope import Scope

if TYPE_CHECKING:  # whoever brings or asks a model imports them: a run without one starts without them
    from vrooli_cli.tier3.ai.governor import Governor
    from vrooli_cli.tier3.ai.models import Models
    from vrooli_cli.tier3.ai.remembered import Cassette, Memo
    from vrooli_cli.tier3.ai.service import AIReply, AIRequest, AIService, Caller


class AIServiceManager:
    """One an architecture.

    Args:
        service: Who answers; None for OpenAI-compatible endpoints (:class:`~.openai.OpenAIService`, made when it is
            first asked).
        environ: Where keys, ``OPENAI_BASE_URL`` and ``VROOLI_MODEL`` are read; nothing else of it is looked at.
        model: ``--model``.
        allow_unpriced: ``--allow-unpriced``.
        cassette: ``--record`` or ``--replay``.
        governor: Shared lanes; tests bring their own.
    """

    def __init__(
        self,
        service: AIService | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        model: str | None = None,
        allow_unpriced: bool = False,
        cassette: Cassette | None = None,
        governor: Governor | None = None,
    ) -> None:
        self._service = service
        self._is_live = service is None or _asks_endpoints(service)
        self._environ = environ if environ is not None else {}
        self._model = model
        self._allow_unpriced = allow_unpriced
        self.cassette = cassette
        self._governor = governor
        self._plain: BoundAI | None = None

    @property
    def is_live(self) -> bool:
        """True when an endpoint may be asked, so that keys and prices matter."""
        return self._is_live and (self.cassette is None or self.cassette.mode == "record")

    def bind(self, definitions: Mapping[str, Mapping[str, Any]] | None = None, memo: Memo | None = None) -> BoundAI:
        """The service for the runs of one routine.

        Args:
            definitions: The routine's ``models`` (``Routine.extras["models"]``).
            memo: What a resumed run was answered before.
        """
        return BoundAI(self, definitions, memo)

    def models(self, definitions: Mapping[str, Mapping[str, Any]] | None) -> Models:
        """Names → targets under these definitions."""
        from vrooli_cli.tier3.ai.models import Models

        return Models(
            definitions,
            self._environ,
            default=self._model,
            allow_unpriced=self._allow_unpriced or not self.is_live,
        )

    async def ask(self, request: AIRequest, scope: Scope, caller: Caller | None = None) -> AIReply:
        """Ask with no definitions but the process's own."""
        self._plain = self._plain or self.bind()
        return await self._plain.ask(request, scope, caller)

    async def generate_completion(
        self,
        *,
        messages: Sequence[Mapping[str, Any]],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        scope: Scope | None = None,
    ) -> AIReply:
        """The seed's way: one question, one answer, in ``reply.choices[0].message.content``.

        Args:
            messages: ``{role, content}`` each.
            model: A name; None is the default model.
            temperature: None is the endpoint's own.
            max_tokens: Of the answer; None is what a step asks for that does not say.
            scope: Whose credits are spent and who is told; None for nobody's.

        Raises:
            VrooliError: As :meth:`AIReply.check` and :class:`~.service.AIService`.
        """
        from vrooli_cli.tier3.ai.service import MAX_TOKENS, AIRequest

        request = AIRequest(
            messages=tuple(messages),
            models=(model,) if model else (),
            temperature=temperature,
            max_tokens=max_tokens or MAX_TOKENS,
        )
        reply = await self.ask(request, scope or _alone())
        reply.check()
        return reply

    async def aclose(self) -> None:
        """Write the cassette and close every connection; called at the process's end, whatever happened."""
        try:
            if self.cassette is not None:
                self.cassette.save()
        finally:
            close = getattr(self._service, "aclose", None)
            if close is not None:
                await close()

    def service(self) -> AIService:
        """Who answers what is not remembered."""
        if self._service is None:
            from vrooli_cli.tier3.ai.openai import OpenAIService

            self._service = OpenAIService(self._governor)
        return self._service


class BoundAI:
    """The models of one routine behind the seam: names become targets, then memo, cassette and service are asked."""

    def __init__(
        self, manager: AIServiceManager, definitions: Mapping[str, Mapping[str, Any]] | None, memo: Memo | None
    ) -> None:
        self._manager = manager
        self._definitions = definitions
        self._memo = memo

    @cached_property
    def models(self) -> Models:
        """What the names of models lead to."""
        return self._manager.models(self._definitions)

    @cached_property
    def inner(self) -> AIService:
        """Memo, cassette, service; what is not there is left out."""
        manager = self._manager
        service: AIService = _Lazy(manager)
        if manager.cassette is not None or self._memo:
            from vrooli_cli.tier3.ai.remembered import Remembered

            if manager.cassette is not None:
                service = Remembered(None if manager.cassette.mode == "replay" else service, manager.cassette)
            if self._memo:
                service = Remembered(service, self._memo)
        return service

    async def ask(self, request: AIRequest, scope: Scope, caller: Caller | None = None) -> AIReply:
        """See :class:`~.service.AIService`."""
        named = replace(request, models=self.models.names(request.models), targets=self.models.targets(request.models))
        return await self.inner.ask(named, scope, caller)

    def with_models(self, definitions: Mapping[str, Mapping[str, Any]] | None) -> BoundAI:
        """The same for a child routine with definitions of its own; the memo stays, it is the root run's."""
        return self._manager.bind(definitions, self._memo)

    def check(self, used: Iterable[tuple[Sequence[str], Pointer]]) -> list[Problem]:
        """What is wrong with the models that steps name; nothing matters when no endpoint is asked."""
        return self.models.check(used) if self._manager.is_live else []

    def missing(self, used: Iterable[Sequence[str]]) -> VrooliError | None:
        """``AI_UNAVAILABLE`` (exit 6) when a step's models have no key; to be asked before any step runs."""
        return self.models.missing(used) if self._manager.is_live else None

    def cost(
        self, size: int, *, names: Sequence[str] = (), max_tokens: int | None = None, asks: int = 1
    ) -> tuple[int, int]:
        """The least and the most credits of a prompt step that is not retried, for ``vrooli plan``.

        Args:
            size: UTF-8 bytes of everything that is sent first: texts, tool schemas, output schema.
            names: The step's models; of several the dearest counts.
            max_tokens: Of one answer.
            asks: How often the model is asked at most: 3 with an ``output_schema`` (two repairs), ``max_turns`` more
                with tools. What tools answer is not known before, so it is not in the figures.
        """
        from vrooli_cli.tier3.ai.service import MAX_TOKENS

        bound = max_tokens or MAX_TOKENS
        prices = [target.price for target in self.models.targets(names)]
        least = min(price.low(size // 4) for price in prices)
        # An answer of n tokens is at most some 4 n bytes of the next request.
        most = max(sum(price.worst(size + turn * 4 * bound, bound) for turn in range(asks)) for price in prices)
        return least, most


class _Lazy:
    """The manager's service, made when it is first asked."""

    def __init__(self, manager: AIServiceManager) -> None:
        self._manager = manager

    async def ask(self, request: AIRequest, scope: Scope, caller: Caller | None = None) -> AIReply:
        return await self._manager.service().ask(request, scope, caller)


def _asks_endpoints(service: AIService) -> bool:
    from vrooli_cli.tier3.ai.live import LiveService

    return isinstance(service, LiveService)


def _alone() -> Scope:
    """Handles for a question that belongs to no run."""
    from vrooli_cli.gate import Gate, Policy
    from vrooli_cli.ledger import Account
    from vrooli_cli.model.clock import SystemClock
    from vrooli_cli.tier3.host import LocalHost
    from vrooli_cli.tier3.registry import ToolRegistry

    return Scope(
        execution_id="",
        root_id="",
        emit=lambda _: None,
        account=Account("ai"),
        gate=Gate(),
        policy=Policy(),
        tools=ToolRegistry(),
        host=LocalHost(),
        clock=SystemClock(),
    )
