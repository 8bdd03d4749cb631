"""Answers from a list: for tests, demos and ``vrooli test``; no network, no key (spec ai.md, "Provider").

A script is a list of replies, given out in the order in which they are asked for, or a map of step path → list (a path
may be a glob, ``"*"`` is for the rest), where parallel steps ask. A reply is:

* text: the answer;
* a map: the answer as JSON, unless its keys are of these: ``tool_calls: [{name, arguments}]``, ``text``, ``json`` (the
  answer as JSON, whatever its keys), ``refusal``, ``finish_reason``, ``usage: {input_tokens, output_tokens}``,
  ``error: {code, message}`` (the step's model fails so);
* in Python, also a function of the request that gives one of those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from vrooli_cli.errors import ERROR_CODES, DefinitionError, Problem, VrooliError
from vrooli_cli.tier3.ai.prices import Usage
from vrooli_cli.tier3.ai.service import AIReply, AIRequest, Anybody, Caller, ToolUse, deliver
from vrooli_cli.tier3.scope import Scope

_KEYS: Final = frozenset({"text", "json", "tool_calls", "refusal", "finish_reason", "usage", "error", "model"})
_MARKS: Final = _KEYS - {"text", "usage", "model"}


class ScriptedAI:
    """A model that says what it was told to say.

    Args:
        replies: A list of replies, or step path → list.
        name: What a message about the script calls it.

    Attributes:
        requests: Everything that was asked, in order.
    """

    def __init__(self, replies: Sequence[Any] | Mapping[str, Any], *, name: str = "the script") -> None:
        scripts = replies if isinstance(replies, Mapping) else {"*": replies}
        self._scripts = {path: _listed(script) for path, script in scripts.items()}
        self._used = dict.fromkeys(self._scripts, 0)
        self._name = name
        self.requests: list[AIRequest] = []

    @property
    def left(self) -> int:
        """How many replies nobody has asked for."""
        return sum(len(script) - self._used[path] for path, script in self._scripts.items())

    async def ask(self, request: AIRequest, scope: Scope, caller: Caller | None = None) -> AIReply:
        """See :class:`~vrooli_cli.tier3.ai.service.AIService`; a script that is used up is ``AI_UNAVAILABLE``."""
        self.requests.append(request)
        raw = self._next(request)
        if callable(raw):
            raw = raw(request)
        return await deliver(reply_of_script(raw, request), request, scope, caller or Anybody())

    async def aclose(self) -> None:
        """Nothing to close."""

    def _next(self, request: AIRequest) -> Any:
        for path, script in self._scripts.items():
            if not (path == request.address or fnmatchcase(request.address, path)):
                continue
            if self._used[path] < len(script):
                self._used[path] += 1
                return script[self._used[path] - 1]
        asked = len(self.requests)
        message = f"{self._name} has no reply left for {request.address or 'this'} (request {asked})"
        raise VrooliError(f"{message}; add one", code="AI_UNAVAILABLE", tier="tier3", context={"retryable": False})


def _listed(script: Any) -> list[Any]:
    return list(script) if isinstance(script, list | tuple) else [script]


def reply_of_script(raw: Any, request: AIRequest) -> AIReply:
    """The reply that one entry of a script means.

    Raises:
        VrooliError: The entry is an ``error``.
    """
    model = request.targets[0].name if request.targets else (request.models or ("scripted",))[0]
    if not _is_control(raw, request):
        return AIReply(text=raw if isinstance(raw, str) else _json(raw), model=model)
    if "error" in raw:
        raise _error(raw["error"])
    calls = tuple(_call(one, number) for number, one in enumerate(raw.get("tool_calls") or ()))
    text = _json(raw["json"]) if "json" in raw else str(raw.get("text") or "")
    usage = Usage.read(raw.get("usage"))
    return AIReply(
        text=text,
        tool_calls=calls,
        finish_reason=raw.get("finish_reason") or ("tool_calls" if calls else "stop"),
        model=raw.get("model") or model,
        usage=usage,
        credits=request.targets[0].price.credits(usage) if usage and request.targets else 0,
        refusal=raw.get("refusal"),
        max_tokens=request.max_tokens,
    )


def _is_control(raw: Any, request: AIRequest) -> bool:
    if not isinstance(raw, Mapping) or not raw or not _KEYS.issuperset(raw):
        return False
    if _MARKS.intersection(raw):
        return True
    return "text" in raw and (len(raw) > 1 or request.output_schema is None)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _call(raw: Any, number: int) -> ToolUse:
    if isinstance(raw, str):
        return ToolUse(f"call_{number}", raw, "{}")
    name = raw.get("name") or raw.get("tool") or ""
    arguments = raw.get("arguments", raw.get("parameters", {}))
    text = arguments if isinstance(arguments, str) else _json(arguments)
    return ToolUse(str(raw.get("id", f"call_{number}")), name, text)


def _error(raw: Any) -> VrooliError:
    told: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {"message": str(raw)}
    code = told.get("code", "AI_UNAVAILABLE")
    return VrooliError(
        str(told.get("message", "the script fails here")),
        code=code if code in ERROR_CODES else "AI_UNAVAILABLE",
        tier="tier3",
        context=told.get("context"),
    )


def load_script(path: str | Path) -> ScriptedAI:
    """The script in a YAML file: a list of replies, a map of step path → replies, or either under ``replies:``.

    Raises:
        DefinitionError: The file cannot be read or is neither.
    """
    from vrooli_cli.loading.text import read_file

    document = read_file(path)
    data = document.data
    if isinstance(data, Mapping) and set(data) == {"replies"}:
        data = data["replies"]
    if not isinstance(data, list | Mapping):
        problem = Problem((), "a script of replies is a list, or a map of step path and list", file=str(path))
        raise DefinitionError([document.source.place(problem)])
    return ScriptedAI(data, name=str(path))
