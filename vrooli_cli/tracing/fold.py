"""Events → spans: a fold, like the view and the history, over what a run tells of itself.

==============  =======================  ================================================================
a run           ``invoke_workflow NAME``  parent: who started the process, if that is known
a swarm's task  ``invoke_agent AGENT``    parent: the run
a step          ``NAME``                  parent: the step around it, the task, or the run; a step in which a model
                                          works with tools, outside of a swarm's task, is ``invoke_agent NAME``
a tool call     ``execute_tool TOOL``     parent: the step
a request       ``chat MODEL``            parent: the step
==============  =======================  ================================================================

An attempt that fails is an event of its step's span, and so is what people and rules say (approvals, refusals). What is
inside a composite step comes after it, and its span ends last. Skipped and reused steps have taken no time: no span.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from vrooli_cli.model.addresses import around_of, is_handler, static, without_turn
from vrooli_cli.tracing.context import Trace
from vrooli_cli.tracing.span import Span, SpanEvent

_LONGEST: Final = 4096  # characters of one attribute that is text, but for captured content
_PROVIDERS: Final = (
    ("api.openai.com", "openai"),
    ("openai.azure.com", "azure.ai.openai"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.x.ai", "x_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
)

Payload = Mapping[str, Any]


class SpanFold:
    """Applies the events of one root run.

    Args:
        trace: Names the spans.
        name: The routine's or the swarm's.
        done: Takes every span as it ends.
        content: True to have prompts, answers, arguments and results in the spans.
        kind: ``routine`` or ``swarm``.
        user: Who runs it.
    """

    def __init__(
        self,
        trace: Trace,
        name: str,
        done: Callable[[Span], None],
        *,
        content: bool = False,
        kind: str = "routine",
        user: str = "",
    ) -> None:
        self._trace = trace
        self._name = name
        self._done = done
        self._content = content
        self._kind = kind
        self._user = user
        self._run: Span | None = None
        self._steps: dict[str, Span] = {}
        self._calls: dict[tuple[str, str, int, str], Span] = {}
        self._asked: dict[tuple[str, str, int], Span] = {}
        self._requests: dict[tuple[str, str, int], int] = {}
        self._talks: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
        self._used: dict[tuple[str, str], int] = {}
        self._credits: dict[str, int] = {}
        self._now = 0

    def apply(self, type_: str, execution_id: str, payload: Payload, at_ns: int) -> None:
        """One event; those of other types are passed over."""
        handler = _APPLY.get(type_)
        if handler is not None:
            self._now = at_ns
            handler(self, type_.rpartition("/")[2], execution_id, payload)

    def close(self, error: Mapping[str, Any] | None = None) -> None:
        """The run is over, whatever its events said: every span that is still open ends."""
        if self._run is not None:
            self._end_run("failed", error or {"code": "INTERRUPTED", "message": "the process of the run ended"})

    # the run

    def _run_began(self, verb: str, execution_id: str, payload: Payload) -> None:
        if execution_id != self._trace.run_id:
            owner = payload.get("parent_step_id")
            if owner is not None and verb == "started":
                span = self._begin(payload.get("parent_execution_id") or self._trace.run_id, owner)
                span.attributes.setdefault("vrooli.routine", payload.get("routine", ""))
            return
        if verb.endswith("resumed"):
            self.close()
            self._trace = replace(self._trace, life=1 + payload.get("resumption", 1))
        trace = self._trace
        again = trace.life > 1
        parent = trace.at(trace.run(1)) if again else trace.parent
        span = Span(trace.at(trace.run()), parent, f"invoke_workflow {self._name}", self._now)
        if again:
            span.links.append(trace.at(trace.run(trace.life - 1)))
        if trace.cause is not None:
            span.links.append(trace.cause)
        span.attributes = {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.workflow.name": self._name,
            "vrooli.run.id": trace.run_id,
            "vrooli.run.kind": self._kind,
            "vrooli.run.life": trace.life,
        }
        _put(span, {"user.id": self._user or None})
        self._run = span

    def _run_ended(self, verb: str, execution_id: str, payload: Payload) -> None:
        if execution_id == self._trace.run_id and self._run is not None:
            self._end_run(verb.removeprefix("coordination_"), payload.get("error"))

    def _end_run(self, status: str, error: Payload | None) -> None:
        for call in [*self._calls.values(), *self._asked.values()]:
            self._finish(call, {"code": "CANCELLED", "message": "the run ended"})
        inner = {"code": "CANCELLED", "message": "the run ended"} if status != "suspended" else None
        for address in reversed(list(self._steps)):
            self._end_step(address, "cancelled" if inner else "suspended", inner)
        for known in (self._calls, self._asked, self._requests, self._talks):
            known.clear()
        span, self._run = self._run, None
        if span is None:
            return
        if status == "cancelled" and error is None:
            error = {"code": "CANCELLED", "message": "the run was stopped"}
        credits = sum(self._credits.values())
        _put(span, {"vrooli.run.status": status, "vrooli.credits": credits or None})
        self._credits.clear()
        self._finish(span, error if status != "completed" else None)

    # steps and tasks

    def _begin(self, execution_id: str, address: str) -> Span:
        """The open span of a step; of one that begins now when there is none."""
        address = without_turn(address)
        span = self._steps.get(address)
        if span is not None:
            return span
        if self._run is None:  # only of a log whose beginning is lost
            self._run_began("started", self._trace.run_id, {})
        around = around_of(address)
        if around and not is_handler(around):
            self._begin(execution_id, around)
        place = self._trace.at(self._trace.step(execution_id, address, self._again(execution_id, address)))
        span = Span(place, self._nearest(around).place, _name(address), self._now)
        span.attributes["vrooli.step"] = address
        self._steps[address] = span
        return span

    def _again(self, execution_id: str, address: str) -> int:
        """How often there was a span for this place in this life."""
        key = execution_id, address
        count = self._used.get(key, 0)
        self._used[key] = count + 1
        return count

    def _nearest(self, address: str) -> Span:
        """The innermost open span around a place."""
        while address:
            span = self._steps.get(without_turn(address))
            if span is not None:
                return span
            address = around_of(address)
        assert self._run is not None
        return self._run

    def _step_began(self, verb: str, execution_id: str, payload: Payload) -> None:
        del verb
        if not is_handler(payload["step_id"]):
            self._begin(execution_id, payload["step_id"])

    def _attempt_began(self, verb: str, execution_id: str, payload: Payload) -> None:
        del verb
        address = payload["step_id"]
        span = self._begin(execution_id, address)
        strategy = payload.get("strategy")
        _put(span, {"vrooli.step.strategy": strategy, "vrooli.attempt": payload["attempt"]})
        if strategy == "reasoning" and not address.startswith("task:"):
            _as_agent(span, _name(address))

    def _attempt_ended(self, verb: str, execution_id: str, payload: Payload) -> None:
        """What the attempt left open ends with it; a failure is told where the step is."""
        address, attempt = payload["step_id"], payload["attempt"]
        error = payload.get("error") or {"code": "CANCELLED", "message": payload.get("reason") or "it was stopped"}
        for key in [key for key in self._calls if key[:3] == (execution_id, address, attempt)]:
            self._finish(self._calls.pop(key), error)
        self._attempt_done(verb, execution_id, payload)
        if (execution_id, address, attempt) in self._asked:
            self._finish(self._asked.pop((execution_id, address, attempt)), error)
        span = self._steps.get(without_turn(address))
        if verb == "failed" and span is not None:
            told = {"exception.type": error.get("code"), "exception.message": error.get("message")}
            self._tell(span, "exception", {**told, "vrooli.attempt": attempt})

    def _attempt_done(self, verb: str, execution_id: str, payload: Payload) -> None:
        del verb
        key = execution_id, payload["step_id"], payload["attempt"]
        self._talks.pop(key, None)
        self._requests.pop(key, None)

    def _step_ended(self, verb: str, execution_id: str, payload: Payload) -> None:
        address = payload["step_id"]
        error = payload.get("error") if verb == "failed" else None
        if address not in self._steps:
            if verb != "failed":
                return
            self._begin(execution_id, address)  # it failed before its first attempt
        if verb == "cancelled":
            error = {"code": "CANCELLED", "message": payload.get("reason") or "it was stopped"}
        _put(self._steps[address], {"vrooli.step.attempts": payload.get("attempts")})
        self._end_step(address, verb, error)

    def _end_step(self, address: str, status: str, error: Payload | None) -> None:
        span = self._steps.pop(address)
        credits = self._credits.pop(address, 0)
        around = without_turn(around_of(address))
        self._credits[around] = self._credits.get(around, 0) + credits
        _put(span, {"vrooli.step.status": status, "vrooli.credits": credits or None})
        self._finish(span, error)

    def _task_began(self, verb: str, execution_id: str, payload: Payload) -> None:
        del verb
        span = self._begin(execution_id, f"task:{payload['task_id']}")
        agent = payload.get("agent_id", "")
        _as_agent(span, agent)
        _put(span, {"gen_ai.agent.id": agent, "vrooli.attempt": payload.get("attempt")})

    def _task_ended(self, verb: str, execution_id: str, payload: Payload) -> None:
        del execution_id
        address = f"task:{payload['task_id']}"
        if address not in self._steps:
            return
        for inner in [one for one in reversed(self._steps) if one.startswith((f"{address}/", f"{address}["))]:
            self._end_step(inner, "cancelled", {"code": "CANCELLED", "message": "the task ended"})
        self._end_step(address, verb, payload.get("error") if verb == "failed" else None)

    # tools and models

    def _tool_called(self, verb: str, execution_id: str, payload: Payload) -> None:
        del verb
        address, attempt, call_id = payload["step_id"], payload["attempt"], payload.get("call_id")
        if self._run is None:
            return
        name = payload["tool_name"]
        place = self._trace.at(self._trace.tool(execution_id, address, attempt, call_id))
        span = Span(place, self._nearest(address).place, f"execute_tool {name}", self._now)
        span.attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": "function",
            "vrooli.tool.effects": payload.get("effects", ""),
            "vrooli.attempt": attempt,
        }
        _put(span, {"gen_ai.tool.call.id": call_id})
        if self._content:
            _put(span, {"gen_ai.tool.call.arguments": _text(payload.get("parameters"))})
        self._calls[execution_id, address, attempt, call_id or name] = span

    def _tool_returned(self, verb: str, execution_id: str, payload: Payload) -> None:
        del verb
        address, attempt, call_id = payload["step_id"], payload["attempt"], payload.get("call_id")
        span = self._calls.pop((execution_id, address, attempt, call_id or payload["tool_name"]), None)
        if span is None:
            return
        if self._content and payload.get("result") is not None:
            _put(span, {"gen_ai.tool.call.result": _text(payload["result"])})
            part = {"type": "tool_call_response", "id": call_id, "response": payload["result"]}
            self._talk(execution_id, payload).append({"role": "tool", "parts": [part]})
        self._finish(span, payload.get("error"))

    def _asking(self, verb: str, execution_id: str, payload: Payload) -> None:
        del verb
        key = execution_id, payload["step_id"], payload["attempt"]
        if self._run is None:
            return
        if key in self._asked:
            self._finish(self._asked.pop(key), {"code": "AI_UNAVAILABLE", "message": "the request was made again"})
        number = self._requests[key] = self._requests.get(key, 0) + 1
        model = payload.get("asked_model") or payload["model"]
        place = self._trace.at(self._trace.model(*key, number))
        span = Span(place, self._nearest(payload["step_id"]).place, f"chat {model}", self._now, "client")
        endpoint = payload.get("endpoint") or ""
        host, _, port = endpoint.rpartition(":")
        span.attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _provider(endpoint),
            "gen_ai.request.model": model,
            "vrooli.attempt": payload["attempt"],
            "vrooli.turn": payload.get("turn", 1),
        }
        _put(span, {"server.address": host or None, "server.port": int(port) if host and port.isdigit() else None})
        if self._content:
            self._talk(execution_id, payload).extend(map(_message, payload.get("messages") or ()))
            _put(span, {"gen_ai.input.messages": _text(self._talk(execution_id, payload))})
        self._asked[key] = span

    def _answered(self, verb: str, execution_id: str, payload: Payload) -> None:
        del verb
        span = self._asked.pop((execution_id, payload["step_id"], payload["attempt"]), None)
        if span is None:
            return
        usage = payload.get("usage") or {}
        reason = payload.get("finish_reason")
        _put(
            span,
            {
                "gen_ai.response.model": payload.get("answered_model") or span.attributes["gen_ai.request.model"],
                "gen_ai.response.finish_reasons": [reason] if reason else None,
                "gen_ai.usage.input_tokens": usage.get("input_tokens"),
                "gen_ai.usage.output_tokens": usage.get("output_tokens"),
                "gen_ai.usage.cache_read.input_tokens": usage.get("cached_input_tokens"),
                "vrooli.credits": payload.get("credits") or None,
            },
        )
        if self._content:
            said = _answer(payload)
            self._talk(execution_id, payload).append(said)
            _put(span, {"gen_ai.output.messages": _text([{**said, "finish_reason": reason or "stop"}])})
        self._finish(span, None)

    def _refused(self, verb: str, execution_id: str, payload: Payload) -> None:
        """An endpoint did not answer; the call waits, or another model is asked."""
        key = execution_id, payload["step_id"], payload["attempt"]
        code = "AI_RATE_LIMITED" if verb == "throttled" else "AI_UNAVAILABLE"
        if key in self._asked:
            self._finish(self._asked.pop(key), {"code": code, "message": payload.get("reason", "")})

    def _talk(self, execution_id: str, payload: Payload) -> list[dict[str, Any]]:
        """What was said so far in an attempt."""
        return self._talks.setdefault((execution_id, payload["step_id"], payload["attempt"]), [])

    # the rest

    def _settled(self, verb: str, execution_id: str, payload: Payload) -> None:
        del verb, execution_id
        address = without_turn(payload["step_id"])
        self._credits[address] = self._credits.get(address, 0) + payload["credits"]

    def _noted(self, verb: str, execution_id: str, payload: Payload) -> None:
        """What people, rules and limits said, where they said it."""
        del execution_id
        if self._run is None:
            return
        span = self._nearest(payload.get("step_id") or "")
        kept = {f"vrooli.{name}": one for name, one in payload.items() if isinstance(one, str | int | float)}
        kept.pop("vrooli.step_id", None)
        kept.pop("vrooli.digest", None)
        self._tell(span, f"vrooli.{verb}", kept)

    def _tell(self, span: Span, name: str, attributes: Mapping[str, Any]) -> None:
        cut = {key: _cut(value) for key, value in attributes.items() if value is not None}
        span.events.append(SpanEvent(name, self._now, cut))

    def _finish(self, span: Span, error: Payload | None) -> None:
        span.ended_ns = max(self._now, span.began_ns)
        if error:
            span.error = _cut(str(error.get("message") or error.get("code") or "it failed"))
            span.attributes["error.type"] = str(error.get("code") or "_OTHER")
        self._done(span)


def _put(span: Span, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is not None:
            span.attributes[name] = value


def _as_agent(span: Span, name: str) -> None:
    span.name = f"invoke_agent {name}"
    _put(span, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name})


def _name(address: str) -> str:
    """The step's own id: few spans differ in nothing but a loop's key, so many have one name."""
    return static(address).rpartition("/")[2]


def _cut(value: Any) -> Any:
    return value if not isinstance(value, str) or len(value) <= _LONGEST else f"{value[:_LONGEST]}…"


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _provider(endpoint: str) -> str:
    """Whose API it is; ``openai`` for every other endpoint, for that is the API that is spoken with it."""
    host = endpoint.rpartition(":")[0] or endpoint
    return next((name for tail, name in _PROVIDERS if host == tail or host.endswith(f".{tail}")), "openai")


def _message(raw: Any) -> dict[str, Any]:
    """A message of Chat Completions in the form of the semantic conventions."""
    role, content = str(raw.get("role", "user")), raw.get("content")
    return {"role": role, "parts": [{"type": "text", "content": content}] if content else []}


def _answer(payload: Payload) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "content": payload["text"]}] if payload.get("text") else []
    for call in payload.get("tool_calls") or ():
        function = call.get("function", call)
        arguments = function.get("arguments")
        parts.append({"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": arguments})
    return {"role": "assistant", "parts": parts}


_Apply = Callable[[SpanFold, str, str, Payload], None]


def _table() -> dict[str, _Apply]:
    table: dict[str, _Apply] = {}
    for kind in ("tier2/routine/", "tier1/swarm/coordination_"):
        table |= {f"{kind}{verb}": SpanFold._run_began for verb in ("started", "resumed")}
        table |= {f"{kind}{verb}": SpanFold._run_ended for verb in ("completed", "failed", "cancelled", "suspended")}
    table |= {f"tier2/step/{verb}": SpanFold._step_began for verb in ("ready", "expanded")}
    table |= {f"tier2/step/{verb}": SpanFold._step_ended for verb in ("completed", "failed", "cancelled")}
    table |= {f"tier3/execution/{verb}": SpanFold._attempt_ended for verb in ("failed", "cancelled")}
    table |= {f"tier1/task/{verb}": SpanFold._task_ended for verb in ("completed", "failed")}
    table |= {f"tier3/ai/{verb}": SpanFold._refused for verb in ("throttled", "fallback")}
    noted = (
        "tier2/step/suspended",
        "tier3/approval/requested",
        "tier3/approval/granted",
        "tier3/approval/denied",
        "tier3/permission/denied",
        "tier3/resources/exhausted",
        "tier1/norm/violated",
        "agent/finding",
    )
    return (
        table
        | dict.fromkeys(noted, SpanFold._noted)
        | {
            "tier3/execution/started": SpanFold._attempt_began,
            "tier3/execution/completed": SpanFold._attempt_done,
            "tier1/task/started": SpanFold._task_began,
            "tier3/tool/called": SpanFold._tool_called,
            "tier3/tool/returned": SpanFold._tool_returned,
            "tier3/ai/requested": SpanFold._asking,
            "tier3/ai/responded": SpanFold._answered,
            "tier3/ledger/settled": SpanFold._settled,
        }
    )


_APPLY: Final = _table()
