"""The two strategies that ask a model: one loop with two names (spec ai.md, "Strategies"; engine.md m.1).

*conversational* is the loop without tools. *reasoning* has tools: ask → make the calls that the model wants, each
through the one door that a written step uses → give the results back → ask again, until the model answers without a
call. A tool step with ``strategy: reasoning`` is the same loop with that one tool, which must be called; its result is
the step's.

What bounds it: ``max_turns`` rounds of calls, two repairs of an answer that does not fit, the ledger, the time-out.
Everything that was asked, answered, called and returned stands in the log as events; after a crash the loop runs from
its start and is given what stands there (:class:`~vrooli_cli.tier3.ai.remembered.Memo`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from vrooli_cli.errors import VrooliError, did_you_mean
from vrooli_cli.language.expressions import BoundExpression
from vrooli_cli.language.masking import Masker
from vrooli_cli.model.run import ExecutionStrategy
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.ai.remembered import Memo, RememberedCall, memo_of
from vrooli_cli.tier3.ai.service import MAX_TOKENS, AIReply, AIRequest, AIService, ToolOffer, ToolUse
from vrooli_cli.tier3.attempt import Attempt, stronger
from vrooli_cli.tier3.registry import Tool, ToolRegistry
from vrooli_cli.tier3.strategies import OutputSchemas, StrategyExecutor

REPAIRS: Final = 2
_MOST_CALLS: Final = 64  # of one turn
_AT_ONCE: Final = 16
_RESULT: Final = 64 * 1024  # characters of a tool's answer that a model is given
_FENCE: Final = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
# The end of the step, whatever the model would say to it.
_FATAL: Final = frozenset(
    {"CREDITS_EXHAUSTED", "CANCELLED", "INTERNAL", "MEMORY_EXCEEDED", "OUTCOME_UNKNOWN", "RUN_TIMEOUT", "STORE_ERROR"}
)


def make_strategy(strategy: ExecutionStrategy, tools: ToolRegistry | None, ai: AIService | None) -> StrategyExecutor:
    """The executor of a strategy that needs a model.

    Args:
        strategy: Conversational or reasoning.
        tools: Not used: an attempt brings its own.
        ai: Who is asked when an attempt's scope brings nobody.
    """
    del tools
    return ReasoningStrategy(ai) if strategy is ExecutionStrategy.REASONING else ConversationalStrategy(ai)


class ConversationalStrategy:
    """One conversation from ``system``, blackboard context and ``prompt``; no tools."""

    def __init__(self, ai: AIService | None = None) -> None:
        self._ai = ai
        self._schemas = OutputSchemas()

    async def execute(self, attempt: Attempt) -> Any:
        """The answer: text, or the value of ``output_schema``."""
        if attempt.call.kind == "tool":
            message = "a tool step cannot be conversational: it calls a tool; use reasoning or deterministic"
            raise VrooliError(message, code="PARAMETER_INVALID", tier="tier3")
        return await _Conversation(attempt, _service(attempt, self._ai), self._schemas).run()


class ReasoningStrategy:
    """Plan, act, check, conclude: a conversation in which the model may call tools."""

    def __init__(self, ai: AIService | None = None) -> None:
        self._ai = ai
        self._schemas = OutputSchemas()

    async def execute(self, attempt: Attempt) -> Any:
        """The answer; of a tool step, what the tool returned."""
        service = _service(attempt, self._ai)
        if attempt.call.kind == "tool":
            return await _Chosen(attempt, service, self._schemas).run()
        tools = offered(attempt.call.prompt.get("tools") or (), attempt.tools)
        return await _Conversation(attempt, service, self._schemas, tools).run()


def _service(attempt: Attempt, ai: AIService | None) -> AIService:
    found: AIService | None = attempt.scope.ai or ai
    if found is None:
        message = "this step asks a model, and no model is configured here"
        raise VrooliError(message, code="AI_UNAVAILABLE", tier="tier3", context={"retryable": False})
    return found


def offered(patterns: Sequence[str], registry: ToolRegistry) -> list[Tool]:
    """The tools that names and globs mean, in their order, each once.

    Raises:
        VrooliError: ``TOOL_NOT_FOUND`` for a pattern that means none.
    """
    found: dict[str, Tool] = {}
    every = registry.get_all_tools()
    for pattern in patterns:
        exact = registry.get_tool(pattern)
        matching = [exact] if exact else [tool for tool in every if fnmatchcase(tool.name, pattern)]
        if not matching:
            registry.require(pattern)
        found |= {tool.name: tool for tool in matching}
    return list(found.values())


@lean()
class _Called:
    """How one call of a model ended: a result, or an error."""

    result: Any = None
    error: VrooliError | None = None


class _Conversation:
    """One attempt's conversation with a model."""

    def __init__(
        self, attempt: Attempt, service: AIService, schemas: OutputSchemas, tools: Sequence[Tool] = ()
    ) -> None:
        self._attempt = attempt
        self._service = service
        self._schemas = schemas
        self._tools = {tool.name: tool for tool in tools}
        self._memo: Memo | None = memo_of(service)
        self._prompt = attempt.call.prompt
        self._schema = attempt.call.output_schema
        self._hidden = _hidden(attempt.scope.secrets, self._prompt.get("reveal") or ())
        self._messages: list[dict[str, Any]] = self._opening()
        self._max_turns: int = self._prompt.get("max_turns") or 8
        self._asked = 0
        self._rounds = 0
        self._repairs = 0
        self._told = 0
        self._ids: set[str] = set()

    async def run(self) -> Any:
        """Ask, act and ask again until there is an answer that fits."""
        while True:
            reply = await self._ask()
            reply.check()
            if reply.tool_calls and self._tools:
                await self._act(reply)
                continue
            value, problems = self._judged(reply)
            if not problems:
                return value
            self._repair(reply, problems)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _opening(self) -> list[dict[str, Any]]:
        """The conversation as the step wrote it; VrooliError when a secret that is not revealed stands in it."""
        prompt = self._prompt
        messages: list[dict[str, Any]] = []
        if prompt.get("system"):
            messages.append({"role": "system", "content": prompt["system"]})
        messages += [dict(message) for message in prompt.get("messages") or ()]
        messages.append({"role": "user", "content": self._question()})
        for message in messages:
            self._require_no_secret(message["content"])
        return messages

    def _question(self) -> str:
        """The prompt, after what the step wants known from the blackboard."""
        known: Mapping[str, Any] = self._prompt.get("context_values") or {}
        parts = [f"{name}:\n{_as_text(value)}" for name, value in known.items()]
        return "\n\n".join((*parts, str(self._prompt.get("prompt", ""))))

    def _require_no_secret(self, text: str) -> None:
        if self._hidden is None or self._hidden.mask_text(text) == text:
            return
        secrets = self._attempt.scope.secrets
        names = [name for name, value in secrets.items() if Masker({name: value}).mask_text(text) != text]
        told = ", ".join(repr(name) for name in names)
        message = f"the prompt holds the secret {told}; list it under `reveal:` if the model may see it"
        raise VrooliError(message, code="PARAMETER_INVALID", tier="tier3")

    async def _ask(self) -> AIReply:
        self._asked += 1
        prompt, call = self._prompt, self._attempt.call
        request = AIRequest(
            messages=tuple(self._messages),
            models=call.models,
            tools=tuple(ToolOffer(tool.name, tool.description, tool.schema) for tool in self._tools.values()),
            tool_choice=self._choice(),
            output_schema=self._schema,
            temperature=prompt.get("temperature"),
            max_tokens=prompt.get("max_tokens") or MAX_TOKENS,
            seed=prompt.get("seed"),
            stop=tuple(prompt.get("stop") or ()),
            address=call.address,
            attempt=call.attempt,
            turn=self._asked,
            told=self._told,
            priority=call.priority,
        )
        reply = await self._service.ask(request, self._attempt.scope, self._attempt)
        self._told = len(self._messages)
        return reply

    def _choice(self) -> str:
        """In the last turn the model has to conclude."""
        return "none" if self._tools and self._rounds >= self._max_turns - 1 > 0 else "auto"

    # --- judging ------------------------------------------------------------------------------------------------------

    def _judged(self, reply: AIReply) -> tuple[Any, list[str]]:
        """The value of an answer, and everything that is wrong with it."""
        if reply.tool_calls:
            return None, ["you called a tool, but none was offered"]
        if not reply.text.strip():
            return None, ["the answer was empty"]
        if self._schema is None:
            return reply.text, []
        value, problem = read_json(reply.text, self._schema)
        if problem:
            return None, [problem]
        return value, [str(one) for one in self._schemas.compiled(self._schema).check(value)]

    def _repair(self, reply: AIReply, problems: Sequence[str]) -> None:
        """Tell the model exactly what is wrong; AI_OUTPUT_INVALID when it has been told twice."""
        if self._repairs == REPAIRS:
            told = "; ".join(problems[:5])
            message = f"the answer of {reply.model} is not usable after {REPAIRS} repairs: {told}"
            raise VrooliError(message, code="AI_OUTPUT_INVALID", tier="tier3", context={"problems": list(problems)})
        self._repairs += 1
        if reply.text.strip():
            self._messages.append({"role": "assistant", "content": reply.text})
        self._told = len(self._messages)
        lines = "\n".join(f"- {problem}" for problem in problems)
        wanted = "" if self._schema is None else " Answer again with the whole JSON value and nothing else."
        self._messages.append({"role": "user", "content": f"That answer cannot be used:\n{lines}\n{wanted}".rstrip()})

    # --- acting -------------------------------------------------------------------------------------------------------

    async def _act(self, reply: AIReply) -> None:
        """Make the calls of one turn, at the same time; results go back in the order of the calls."""
        self._rounds += 1
        if self._rounds >= self._max_turns:
            message = f"{reply.model} still calls tools after {self._max_turns} turns; raise max_turns"
            raise VrooliError(message, code="AI_OUTPUT_INVALID", tier="tier3", context={"max_turns": self._max_turns})
        calls = self._named(reply.tool_calls)
        self._messages.append(
            {"role": "assistant", "content": reply.text or None, "tool_calls": [call.wire() for call in calls]}
        )
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int, use: ToolUse) -> _Called:
            if number >= _MOST_CALLS:
                return _Called(error=_told(f"at most {_MOST_CALLS} calls are made in one turn; call it again"))
            async with room:
                return await self._called(use)

        ended = await asyncio.gather(*(one(number, use) for number, use in enumerate(calls)))
        for use, how in zip(calls, ended, strict=True):
            self._messages.append({"role": "tool", "tool_call_id": use.id, "content": self._returned(how)})
        self._told = len(self._messages)
        for how in ended:
            if how.error is not None and how.error.code in _FATAL:
                raise how.error

    def _named(self, uses: Sequence[ToolUse]) -> list[ToolUse]:
        """The calls with ids that no other call of this attempt has: the journal knows them by it."""
        named: list[ToolUse] = []
        for number, use in enumerate(uses):
            base = use.id or f"call_{self._asked}_{number}"
            name, again = base, 1
            while name in self._ids:
                again += 1
                name = f"{base}_{again}"
            self._ids.add(name)
            named.append(ToolUse(name, use.name, use.arguments))
        return named

    async def _called(self, use: ToolUse) -> _Called:
        """One call, through the door; what was called before a crash is not called again."""
        tool = self._tools.get(use.name)
        if tool is None:
            return _Called(error=self._unknown(use.name))
        arguments, problem = read_json(use.arguments or "{}", {"type": "object"})
        if problem or not isinstance(arguments, dict):
            return _Called(error=_told(f"the arguments are not a JSON object: {problem or type(arguments).__name__}"))
        call, scope = self._attempt.call, self._attempt.scope
        known = self._memo.call(scope.execution_id, call.address, call.attempt, use.id) if self._memo else None
        try:
            if known is not None and self._stands(known):
                return self._known(known)
            return _Called(await self._through_the_door(tool, arguments, use.id))
        except VrooliError as error:
            return _Called(error=error)

    async def _through_the_door(self, tool: Tool, arguments: dict[str, Any], call_id: str) -> Any:
        bound = {name: _bound(value) if name in tool.expressions else value for name, value in arguments.items()}
        return await self._attempt.call_tool(tool, bound, written=False, call_id=call_id)

    def _stands(self, known: RememberedCall) -> bool:
        """True when a call that was made before is not made again."""
        return known.returned is not None or known.effects == "once"

    def _known(self, known: RememberedCall) -> _Called:
        """What the log says of a call; a ``once`` call that was under way is not made again."""
        attempt = self._attempt
        returned = known.returned
        if returned is None:
            message = f"{known.tool} was called and the process ended; nobody knows whether it has happened"
            return _Called(error=VrooliError(message, code="OUTCOME_UNKNOWN", tier="tier3"))
        attempt.effects = stronger(attempt.effects, known.effects)  # type: ignore[arg-type]
        attempt.credits += returned.credits or 0
        if returned.success:
            return _Called(returned.result)
        error = dict(returned.error or {})
        return _Called(error=_told(str(error.get("message", "")), str(error.get("code", "TOOL_FAILED"))))

    def _unknown(self, name: str) -> VrooliError:
        hint = did_you_mean(name, self._tools)
        there = ", ".join(self._tools)
        return _told(f"there is no tool {name!r} here; {hint or f'the tools are {there}'}", "TOOL_NOT_FOUND")

    def _returned(self, how: _Called) -> str:
        """What the model is told of a call: never a secret, never without bound."""
        text = _as_text(how.result) if how.error is None else f"error {how.error.code}: {how.error.message}"
        if self._hidden is not None:
            text = self._hidden.mask_text(text)
        if len(text) > _RESULT:
            text = f"{text[:_RESULT]}\n… (cut; {len(text):,} characters in all)"
        return text


class _Chosen(_Conversation):
    """A tool step whose arguments a model chooses: one tool, one call, its result."""

    def __init__(self, attempt: Attempt, service: AIService, schemas: OutputSchemas) -> None:
        self._tool = attempt.tools.require(attempt.call.tool)
        super().__init__(attempt, service, schemas, [self._tool])
        self._schema = None

    async def run(self) -> Any:
        """The result of the first call whose arguments are valid; a failure of the tool is the step's."""
        while True:
            reply = await self._ask()
            reply.check()
            if not reply.tool_calls:
                self._repair(reply, [f"call the tool {self._tool.name}; there was no call"])
                continue
            use = self._named(reply.tool_calls[:1])[0]
            how = await self._called(use)
            if how.error is None:
                return self._fitting(how.result)
            if how.error.code not in ("PARAMETER_INVALID", "TOOL_NOT_FOUND", "AI_OUTPUT_INVALID"):
                raise how.error
            self._messages.append({"role": "assistant", "content": reply.text or None, "tool_calls": [use.wire()]})
            self._messages.append({"role": "tool", "tool_call_id": use.id, "content": self._returned(how)})
            self._told = len(self._messages)
            self._repair(AIReply(model=reply.model), [how.error.message])

    def _question(self) -> str:
        tool, call = self._tool, self._attempt.call
        hints = json.dumps(tool.plain(call.parameters), ensure_ascii=False, indent=2, default=str)
        return f"Call the tool {tool.name} once, with arguments that fit its schema. Hints for them:\n{hints}"

    def _choice(self) -> str:
        return self._tool.name

    def _fitting(self, result: Any) -> Any:
        schema = self._attempt.call.output_schema
        if schema is not None:
            self._schemas.check(schema, result)
        return result

    def _stands(self, known: RememberedCall) -> bool:
        """A call that failed was the attempt; the next one makes it again, as with a step that names its arguments."""
        returned = known.returned
        again = returned is not None and not returned.success and returned.attempt < self._attempt.call.attempt
        return super()._stands(known) and not again

    async def _through_the_door(self, tool: Tool, arguments: dict[str, Any], call_id: str) -> Any:
        bound = {name: _bound(value) if name in tool.expressions else value for name, value in arguments.items()}
        effects = self._attempt.call.effects
        return await self._attempt.call_tool(tool, bound, written=False, effects=effects, call_id=call_id)


# --- texts and values -------------------------------------------------------------------------------------------------


def read_json(text: str, schema: Mapping[str, Any]) -> tuple[Any, str]:
    """The JSON value in an answer, a code fence around it aside; or what is wrong with it.

    A schema that wants text takes an answer that is no JSON as that text.
    """
    fenced = _FENCE.match(text)
    inner = fenced[1] if fenced else text
    try:
        return json.loads(inner, parse_constant=_refuse_constant), ""
    except RecursionError:
        return None, "the answer is nested too deeply"
    except ValueError as error:
        if schema.get("type") == "string":
            return text, ""
        if isinstance(error, json.JSONDecodeError):
            return None, f"the answer is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        return None, f"the answer is not JSON: {error}"


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not in JSON")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _bound(value: Any) -> Any:
    """A model's expression for a tool that evaluates it: it sees the tool's own names and no others."""
    if isinstance(value, list):
        return [_bound(one) for one in value]
    return BoundExpression(value, {}) if isinstance(value, str) else value


def _hidden(secrets: Mapping[str, str], reveal: Sequence[str]) -> Masker | None:
    """Masks every secret that the model may not see; None when there is none."""
    kept = {name: value for name, value in secrets.items() if name not in reveal}
    return Masker(kept) if any(kept.values()) else None


def _told(message: str, code: str = "AI_OUTPUT_INVALID") -> VrooliError:
    return VrooliError(message, code=code, tier="tier3")


__all__ = ["ConversationalStrategy", "ReasoningStrategy", "make_strategy", "offered", "read_json"]
