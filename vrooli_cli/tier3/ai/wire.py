"""Chat Completions as plain data: the body of a request, and an answer put together from what really arrives.

No client library here. Servers that call themselves compatible differ; what they do is taken by name:

* tool call fragments without an index, without an id, all with index 0, with the whole name in every piece;
* arguments as a map instead of text; the old ``function_call``; content as a list of parts;
* ``stop`` together with tool calls; ``finish_reason`` in words of their own; usage in every chunk, or in none;
* names of tools that their pattern forbids (``git.status``) are mapped and mapped back.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Final

from vrooli_cli.model.values import lean
from vrooli_cli.tier3.ai.models import Target
from vrooli_cli.tier3.ai.prices import MESSAGE_TOKENS, Usage
from vrooli_cli.tier3.ai.service import AIRequest, ToolUse

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# Models that refuse `max_tokens`, at endpoints that sell them under their own name.
_COMPLETION_TOKENS: Final = re.compile(r"(?:.*/)?(?:o\d|gpt-[5-9]|gpt-\d\d|codex|computer-use)")
_FINISHES: Final = {
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "refusal": "content_filter",
}
BROKEN_FINISHES: Final = frozenset({"error", "abort", "aborted", "network_error", "insufficient_system_resource"})
"""Words by which a server says in ``finish_reason`` that it failed."""


# --- requests ---------------------------------------------------------------------------------------------------------


@lean(frozen=False)
class Dialect:
    """What an endpoint has turned out to understand; learned from its refusals, once each.

    Attributes:
        schema: It takes ``response_format: json_schema``; else the schema is told in words.
        token_key: How it calls the bound of the answer.
        usage: It takes ``stream_options``.
        choice: It takes ``tool_choice``.
    """

    schema: bool = True
    token_key: str = "max_tokens"
    usage: bool = True
    choice: bool = True

    @classmethod
    def of(cls, target: Target) -> Dialect:
        """What is known before the first word."""
        first = cls()
        if target.ambient and _COMPLETION_TOKENS.match(target.model.lower()):
            first.token_key = "max_completion_tokens"
        return first

    def learn(self, message: str, request: AIRequest) -> bool:
        """Take a refusal of a request (400, 422) for a lesson; False when it teaches nothing about the dialect."""
        said = message.lower()
        if self.schema and request.output_schema is not None and _speaks_of(said, _SCHEMA_WORDS):
            self.schema = False
        elif self.token_key == "max_tokens" and "max_completion_tokens" in said:
            self.token_key = "max_completion_tokens"
        elif self.token_key == "max_completion_tokens" and "max_completion_tokens" in said:
            self.token_key = "max_tokens"
        elif self.usage and _speaks_of(said, ("stream_options", "include_usage")):
            self.usage = False
        elif self.choice and request.tools and "tool_choice" in said:
            self.choice = False
        else:
            return False
        return True


_SCHEMA_WORDS: Final = ("response_format", "json_schema", "response format", "structured output", "guided")


def _speaks_of(said: str, words: Iterable[str]) -> bool:
    return any(word in said for word in words)


class Names:
    """Tools' real names ↔ names that the endpoint's pattern allows, without collisions."""

    __slots__ = ("_real", "_safe")

    def __init__(self, real: Iterable[str]) -> None:
        self._safe: dict[str, str] = {}
        self._real: dict[str, str] = {}
        names = list(dict.fromkeys(real))
        for name in sorted(names, key=lambda name: _NAME.fullmatch(name) is None):  # what is allowed keeps its name
            self._add(name)

    def _add(self, name: str) -> None:
        safe = name
        if not _NAME.fullmatch(name):
            safe = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "tool"
        if safe in self._real:
            mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            safe = f"{safe[:55]}_{mark}"
        self._safe[name] = safe
        self._real[safe] = name

    def safe(self, name: str) -> str:
        """The name on the wire; a name that was never offered is made fit."""
        if name not in self._safe:
            self._add(name)
        return self._safe[name]

    def real(self, name: str) -> str:
        """The tool that a model means; what is not known stays as it was said."""
        return self._real.get(name, name)


def body_of(request: AIRequest, target: Target, dialect: Dialect, names: Names, max_tokens: int) -> dict[str, Any]:
    """The request body, in the words that the endpoint understands."""
    body: dict[str, Any] = {"model": target.model, "messages": _messages(request, dialect, names)}
    body[dialect.token_key] = max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tools:
        body["tools"] = [_offer(tool, names) for tool in request.tools]
        if request.tool_choice != "auto" and dialect.choice:
            body["tool_choice"] = _choice(request.tool_choice, names)
    if request.output_schema is not None and dialect.schema and _is_object(request.output_schema):
        body["response_format"] = {"type": "json_schema", "json_schema": _named_schema(request.output_schema)}
    body["stream"] = target.stream
    if target.stream and dialect.usage:
        body["stream_options"] = {"include_usage": True}
    return body


def _messages(request: AIRequest, dialect: Dialect, names: Names) -> list[dict[str, Any]]:
    messages = [_message(message, names) for message in request.messages]
    schema = request.output_schema
    if schema is not None and not (dialect.schema and _is_object(schema)):
        text = json.dumps(schema, ensure_ascii=False)
        told = f"Answer with one JSON value and nothing else. It must fit this JSON Schema:\n{text}"
        if messages and messages[0].get("role") == "system":
            messages[0] = {**messages[0], "content": f"{messages[0]['content']}\n\n{told}"}
        else:
            messages.insert(0, {"role": "system", "content": told})
    return messages


def _message(message: Mapping[str, Any], names: Names) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return dict(message)
    mapped = [
        {**call, "function": {**call["function"], "name": names.safe(call["function"]["name"])}} for call in calls
    ]
    return {**message, "tool_calls": mapped}


def _offer(tool: Any, names: Names) -> dict[str, Any]:
    function = {"name": names.safe(tool.name), "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _choice(choice: str, names: Names) -> Any:
    if choice in ("none", "required"):
        return choice
    return {"type": "function", "function": {"name": names.safe(choice)}}


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object"


def _named_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {"name": "answer", "schema": schema}
    return named | ({"strict": True} if is_strict(schema) else {})


_STRICT_KEYS: Final = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "description", "title"}
)


def is_strict(schema: Any) -> bool:
    """True when a schema is in the part of JSON Schema that endpoints enforce to the letter."""
    if not isinstance(schema, Mapping) or not _STRICT_KEYS.issuperset(schema) or "type" not in schema:
        return False
    if schema["type"] == "object":
        inner = schema.get("properties")
        if not isinstance(inner, Mapping) or schema.get("additionalProperties") is not False:
            return False
        return set(schema.get("required", ())) == set(inner) and all(map(is_strict, inner.values()))
    if schema["type"] == "array":
        return is_strict(schema.get("items"))
    return True


def size_of(body: Mapping[str, Any]) -> int:
    """The most input tokens that a body can be: one a UTF-8 byte of it, and 16 a message."""
    text = json.dumps(body, ensure_ascii=False, default=str)
    return len(text.encode("utf-8", "surrogatepass")) + MESSAGE_TOKENS * len(body["messages"])


def digest_of_body(body: Mapping[str, Any]) -> str:
    """What two identical requests have in common."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()


# --- answers ----------------------------------------------------------------------------------------------------------


@lean(frozen=False)
class _Fragments:
    """One tool call as its pieces arrive."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@lean(frozen=False)
class Assembly:
    """An answer as its pieces arrive, from a stream or as one message.

    Attributes:
        finish: As the endpoint said it; None while it has not.
        usage: The last that was heard.
        model: What the endpoint says that it is; None while it has not.
    """

    finish: str | None = None
    usage: Usage | None = None
    model: str | None = None
    _text: list[str] = field(default_factory=list)
    _refusal: list[str] = field(default_factory=list)
    _calls: list[_Fragments] = field(default_factory=list)
    _by_index: dict[int, _Fragments] = field(default_factory=dict)

    def feed(self, chunk: Mapping[str, Any]) -> str:
        """Take one chunk of a stream; the text that it adds."""
        self._note_usage(chunk)
        choice = _first(chunk.get("choices"))
        if choice is None:
            return ""
        text = self._take(choice.get("delta"))
        self._note_finish(choice)
        return text

    def feed_message(self, completion: Mapping[str, Any]) -> str:
        """Take a whole answer; its text. Without a ``finish_reason`` it is taken for complete, it did arrive."""
        self._note_usage(completion)
        choice = _first(completion.get("choices"))
        if choice is None:
            return ""
        text = self._take(choice.get("message"))
        self._note_finish(choice)
        self.finish = self.finish or "stop"
        return text

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._text)

    @property
    def refusal(self) -> str | None:
        """The model's words of refusal; None when it did not refuse."""
        return "".join(self._refusal) if self._refusal else None

    @property
    def finish_reason(self) -> str:
        """``finish`` in the four words of :class:`AIReply`; calls that are there count, whatever was said."""
        told = _FINISHES.get((self.finish or "").lower(), "stop")
        if self._calls and told == "stop":
            return "tool_calls"
        return "stop" if told == "tool_calls" and not self._calls else told

    def tool_calls(self, names: Names) -> tuple[ToolUse, ...]:
        """The calls in the order in which they began."""
        return tuple(ToolUse(one.id, names.real(one.name), "".join(one.arguments)) for one in self._calls)

    def _note_usage(self, chunk: Mapping[str, Any]) -> None:
        self.usage = Usage.read(chunk.get("usage")) or self.usage
        model = chunk.get("model")
        if isinstance(model, str) and model:
            self.model = model[:200]

    def _note_finish(self, choice: Mapping[str, Any]) -> None:
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self.finish = finish

    def _take(self, delta: Any) -> str:
        if not isinstance(delta, Mapping):
            return ""
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            self._refusal.append(refusal)
        calls = delta.get("tool_calls")
        for raw in calls if isinstance(calls, list) else ():
            if isinstance(raw, Mapping):
                self._take_call(raw)
        old = delta.get("function_call")
        if isinstance(old, Mapping):
            self._take_call({"index": 0, "function": old})
        text = _text_of(delta.get("content"))
        if text:
            self._text.append(text)
        return text

    def _take_call(self, raw: Mapping[str, Any]) -> None:
        function = raw.get("function")
        function = function if isinstance(function, Mapping) else {}
        name, call_id = function.get("name") or "", raw.get("id") or ""
        call = self._call_for(raw.get("index"), str(call_id), str(name))
        call.id = call.id or str(call_id)
        if name and name != call.name:
            call.name += str(name)
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:
            call.arguments.append(json.dumps(arguments, ensure_ascii=False))

    def _call_for(self, index: Any, call_id: str, name: str) -> _Fragments:
        """The call that a fragment belongs to: by index, unless its id says that it is another one."""
        number = index if isinstance(index, int) else None
        if number is not None:
            known = self._by_index.get(number)
            if known is not None and known.id and call_id not in ("", known.id):
                known = None
        elif call_id:
            known = next((one for one in self._calls if one.id == call_id), None)
        else:
            known = self._calls[-1] if self._calls else None
            if known is not None and name and known.arguments:
                known = None
        if known is None:
            known = _Fragments()
            self._calls.append(known)
        if number is not None:
            self._by_index[number] = known
        return known


def _first(choices: Any) -> Mapping[str, Any] | None:
    """The first choice; others were not asked for."""
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if isinstance(choice, Mapping) and choice.get("index") in (0, None):
            return choice
    return None


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(part for part in parts if isinstance(part, str))
    return ""
