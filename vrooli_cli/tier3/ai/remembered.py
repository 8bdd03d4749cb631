"""Answers that were given before: one wrapper around a service, two stores (spec engine.md, c and m.2).

* :class:`Memo`: what this very run was answered before its process died. Given again without a word and without a
  charge: both stand in the log.
* :class:`Cassette`: a YAML file of exchanges, ``--record`` and ``--replay``. Told and charged like a live answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import unquote

from vrooli_cli.errors import DefinitionError, InputError, Problem, VrooliError
from vrooli_cli.model.events import (
    AIResponded,
    Event,
    ExecutionCancelled,
    ExecutionFailed,
    RoutineResumed,
    ToolCalled,
    ToolReturned,
)
from vrooli_cli.model.run import CONVERSATION_OVER
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.ai.prices import Usage
from vrooli_cli.tier3.ai.service import (
    AIReply,
    AIRequest,
    AIService,
    Anybody,
    Caller,
    ToolUse,
    deliver,
    digest_of,
    reply_of,
)
from vrooli_cli.tier3.scope import Scope
from vrooli_cli.view.text import place as readable

FORMAT: Final = 1
_CUT_OFF: Final = frozenset({"AI_UNAVAILABLE", "AI_RATE_LIMITED", "CREDITS_EXHAUSTED", "STORE_ERROR"})


@lean()
class Exchange:
    """A request in the form in which it is remembered.

    Attributes:
        execution_id: Of the execution that asks.
        canonical: Without secrets.
        digest: Of ``canonical``.
    """

    execution_id: str
    request: AIRequest
    canonical: Mapping[str, Any]
    digest: str


class Store(Protocol):
    """Where answers are kept.

    Attributes:
        silent: An answer from here is neither told nor charged again.
    """

    silent: bool

    def find(self, exchange: Exchange) -> AIReply | None:
        """The answer, or None to go on and ask.

        Raises:
            VrooliError: It is not here and there is nobody else to ask.
        """

    def keep(self, exchange: Exchange, reply: AIReply, scope: Scope) -> None:
        """Remember an answer that somebody else gave."""


class Remembered:
    """A service in front of which a store is asked first.

    Attributes:
        inner: Who answers what the store does not know; None for a store that must know all.
    """

    def __init__(self, inner: AIService | None, store: Store) -> None:
        self.inner = inner
        self.store = store

    async def ask(self, request: AIRequest, scope: Scope, caller: Caller | None = None) -> AIReply:
        """See :class:`~vrooli_cli.tier3.ai.service.AIService`."""
        caller = caller or Anybody()
        canonical = request.canonical(scope.masker)
        exchange = Exchange(scope.execution_id, request, canonical, digest_of(canonical))
        known = self.store.find(exchange)
        if known is not None:
            if self.store.silent:
                caller.credits += known.credits
                return known
            return await deliver(known, request, scope, caller)
        if self.inner is None:
            raise VrooliError("there is no model to ask", code="AI_UNAVAILABLE", tier="tier3")
        reply = await self.inner.ask(request, scope, caller)
        self.store.keep(exchange, reply, scope)
        return reply


# --- after a crash ----------------------------------------------------------------------------------------------------


@lean()
class RememberedCall:
    """A tool call that a model chose before the process died.

    Attributes:
        returned: None when it was under way: nobody knows what it did.
    """

    tool: str
    effects: str
    parameters: Mapping[str, Any]
    returned: ToolReturned | None = None


class Memo:
    """What attempts that were cut off had been answered, by models and by tools that models had called.

    An attempt that was stopped, or that failed because there was no answer or no credit, is gone on with by the next
    one: what it was answered holds there, too, and is not paid twice. So is one that had carried out a ``once`` effect
    and failed for another reason outside the conversation, so that the effect does not happen again.
    """

    silent = True

    def __init__(self) -> None:
        self._replies: dict[tuple[str, str, int, str, int], AIReply] = {}
        self._calls: dict[tuple[str, str, int, str], RememberedCall] = {}
        self._continued: set[tuple[str, str, int]] = set()

    @classmethod
    def from_facts(cls, facts: Iterable[Event], assume: Mapping[str, str] | None = None) -> Memo:
        """The memo of a log; attempts that have ended do no harm, nobody asks for them.

        Args:
            facts: What the log holds.
            assume: What a person says now of steps whose outcome is unknown, as the log has what was said before.
        """
        memo = cls()
        for fact in facts:
            if isinstance(fact, RoutineResumed):
                memo._do_again(fact.assume or {})
            elif isinstance(fact, AIResponded):
                if fact.request_hash is not None:
                    key = fact.execution_id, fact.step_id, fact.attempt, fact.request_hash, fact.nth or 0
                    memo._replies[key] = reply_of(fact)
            elif isinstance(fact, ToolCalled) and fact.call_id is not None:
                place = fact.execution_id, fact.step_id, fact.attempt, fact.call_id
                memo._calls[place] = RememberedCall(fact.tool_name, fact.effects, fact.parameters or {})
            elif isinstance(fact, ToolReturned) and fact.call_id is not None:
                place = fact.execution_id, fact.step_id, fact.attempt, fact.call_id
                if place in memo._calls and (fact.error or {}).get("code") != "CANCELLED":
                    memo._calls[place] = replace(memo._calls[place], returned=fact)
            elif (isinstance(fact, ExecutionFailed) and _is_gone_on_with(fact)) or (
                isinstance(fact, ExecutionCancelled) and not fact.interrupted
            ):
                memo._continued.add((fact.execution_id, fact.step_id, fact.attempt + 1))
        memo._do_again(assume or {})
        return memo

    def _do_again(self, assume: Mapping[str, str]) -> None:
        """Forget the calls under way in steps that a person wants to happen again; what had returned stands."""
        again = {step for step, word in assume.items() if word == "rerun"}
        if again:
            under_way = [place for place, call in self._calls.items() if call.returned is None and place[1] in again]
            for place in under_way:
                del self._calls[place]

    def _attempts(self, execution_id: str, address: str, attempt: int) -> Iterator[int]:
        """The attempts whose answers hold in this one: its own, then those that it goes on with, last first."""
        yield attempt
        while (execution_id, address, attempt) in self._continued:
            attempt -= 1
            yield attempt

    def __bool__(self) -> bool:
        return bool(self._replies or self._calls)

    def find(self, exchange: Exchange) -> AIReply | None:
        """The answer to the same question of the same attempt, or of one that it goes on with: that one was charged."""
        run, request = exchange.execution_id, exchange.request
        for attempt in self._attempts(run, request.address, request.attempt):
            known = self._replies.get((run, request.address, attempt, exchange.digest, request.nth))
            if known is not None:
                return known if attempt == request.attempt else replace(known, credits=0)
        return None

    def keep(self, exchange: Exchange, reply: AIReply, scope: Scope) -> None:
        """Nothing to do: ``ai/responded`` in the log is the memory."""

    def call(self, execution_id: str, address: str, attempt: int, call_id: str) -> RememberedCall | None:
        """A tool call of that attempt, or of one that it goes on with, if it was made."""
        for one in self._attempts(execution_id, address, attempt):
            known = self._calls.get((execution_id, address, one, call_id))
            if known is not None:
                return known
        return None


def _is_gone_on_with(fact: ExecutionFailed) -> bool:
    """True for a failed attempt whose conversation was sound, and that was cut off or must not happen again."""
    code = (fact.error or {}).get("code")
    if code in _CUT_OFF:
        return True
    return fact.effects == "once" and code not in CONVERSATION_OVER


def memo_of(service: object) -> Memo | None:
    """The memo in a chain of services, for the tool calls between two questions."""
    while service is not None:
        store = getattr(service, "store", None)
        if isinstance(store, Memo):
            return store
        service = getattr(service, "inner", None)
    return None


# --- cassettes --------------------------------------------------------------------------------------------------------


@lean(frozen=False)
class Recorded:
    """One exchange of a cassette; its step is written as people read it, loop keys not percent-encoded."""

    step: str
    turn: int
    digest: str
    request: Mapping[str, Any]
    reply: Mapping[str, Any]
    attempt: int = 1
    nth: int = 0
    used: bool = False

    def wire(self) -> dict[str, Any]:
        """As it stands in the file."""
        place: dict[str, Any] = {"step": self.step, "turn": self.turn}
        if self.attempt > 1:
            place["attempt"] = self.attempt
        if self.nth:
            place["nth"] = self.nth
        return {**place, "hash": self.digest, "request": self.request, "reply": self.reply}


@lean(frozen=False)
class Cassette:
    """A file of exchanges; made by :meth:`record` or :meth:`replay`."""

    path: Path
    mode: Literal["record", "replay"]
    exchanges: list[Recorded] = field(default_factory=list)
    silent: bool = False

    @classmethod
    def record(cls, path: str | Path) -> Cassette:
        """A cassette that keeps what is answered from now on; :meth:`save` writes it.

        Raises:
            InputError: There is no such folder, or it is one.
        """
        cassette = cls(Path(path), "record")
        if not cassette.path.absolute().parent.is_dir():
            raise InputError(f"--record {path}: there is no folder {cassette.path.parent}")
        if cassette.path.is_dir():
            raise InputError(f"--record {path} cannot be written: it is a folder")
        return cassette

    @classmethod
    def replay(cls, path: str | Path) -> Cassette:
        """The cassette in a file, to answer from.

        Raises:
            DefinitionError: It cannot be read, or is no cassette.
        """
        from vrooli_cli.loading.text import read_file

        document = read_file(path)
        exchanges, problems = _read(document.data)
        if problems:
            raise DefinitionError([document.source.place(problem) for problem in problems])
        return cls(Path(path), "replay", exchanges)

    def find(self, exchange: Exchange) -> AIReply | None:
        """The recorded answer; of several to equal requests the one of the same step first, then in order."""
        if self.mode == "record":
            return None
        equal = [one for one in self.exchanges if one.digest == exchange.digest and not one.used]
        if not equal:
            raise self._miss(exchange)
        request = exchange.request
        place = unquote(request.address), request.attempt, request.nth
        found = next((one for one in equal if (unquote(one.step), one.attempt, one.nth) == place), None)
        found = found or next((one for one in equal if unquote(one.step) == place[0]), None) or equal[0]
        found.used = True
        return _reply_from(found.reply)

    def keep(self, exchange: Exchange, reply: AIReply, scope: Scope) -> None:
        """Add an exchange, secrets masked."""
        plain = _reply_wire(reply)
        request = exchange.request
        self.exchanges.append(
            Recorded(
                unquote(request.address),
                request.turn,
                exchange.digest,
                exchange.canonical,
                scope.masker.mask_value(plain) if scope.masker else plain,
                request.attempt,
                request.nth,
            )
        )

    def save(self) -> None:
        """Write the file whole or not at all; the order of exchanges does not depend on timing.

        Raises:
            VrooliError: ``STORE_ERROR`` when it cannot be written.
        """
        if self.mode == "replay":
            return
        from vrooli_cli.loading.write import plain_yaml

        ordered = sorted(self.exchanges, key=lambda one: (_natural(one.step), one.attempt, one.turn, one.nth))
        text = plain_yaml({"cassette": FORMAT, "exchanges": [_plain(one.wire()) for one in ordered]})
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(self.path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            message = f"the cassette {self.path} cannot be written: {error.strerror or error}"
            raise VrooliError(message, code="STORE_ERROR") from None

    def _miss(self, exchange: Exchange) -> VrooliError:
        request = exchange.request
        asked = f"{self.path} has no answer to {readable(request.address) or 'the request'}, turn {request.turn}"
        nearest = max(self.exchanges, key=lambda one: _likeness(one, exchange), default=None)
        if nearest is None:
            tail = "it is empty"
        elif nearest.digest == exchange.digest:
            count = sum(1 for one in self.exchanges if one.digest == exchange.digest)
            tail = f"this request was recorded {count} {'time' if count == 1 else 'times'} and is asked once more"
        else:
            number = self.exchanges.index(nearest) + 1
            difference = first_difference(nearest.request, exchange.canonical)
            step = readable(nearest.step)
            tail = f"nearest is exchange {number} ({step}, turn {nearest.turn}), which differs at {difference}"
        message = f"{asked}; {tail}. Record it again with --record"
        return VrooliError(message, code="AI_UNAVAILABLE", tier="tier3", context={"retryable": False})


def _plain(value: Any) -> Any:
    """Lists and maps of their own kinds, for the writer."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _natural(path: str) -> tuple[tuple[int, int | str], ...]:
    """Paths in the order in which people count: ``each[2]`` before ``each[10]``."""
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path))


def _reply_wire(reply: AIReply) -> dict[str, Any]:
    plain: dict[str, Any] = {"model": reply.model, "finish_reason": reply.finish_reason}
    if reply.text:
        plain["text"] = reply.text
    if reply.tool_calls:
        plain["tool_calls"] = [
            {"id": call.id, "name": call.name, "arguments": call.arguments} for call in reply.tool_calls
        ]
    if reply.refusal is not None:
        plain["refusal"] = reply.refusal
    if reply.shrunk:
        plain["shrunk"] = True
    if reply.usage is not None:
        plain["usage"] = reply.usage.wire()
    return plain | {"max_tokens": reply.max_tokens, "credits": reply.credits}


def _reply_from(plain: Mapping[str, Any]) -> AIReply:
    calls = plain.get("tool_calls") or ()
    return AIReply(
        text=plain.get("text") or "",
        tool_calls=tuple(ToolUse(str(one.get("id", "")), one["name"], one.get("arguments", "{}")) for one in calls),
        finish_reason=plain.get("finish_reason", "stop"),
        model=plain.get("model", ""),
        usage=Usage.read(plain.get("usage")),
        credits=plain.get("credits", 0),
        refusal=plain.get("refusal"),
        shrunk=bool(plain.get("shrunk")),
        max_tokens=plain.get("max_tokens", 0),
    )


def _read(data: Any) -> tuple[list[Recorded], list[Problem]]:
    if not isinstance(data, Mapping) or "cassette" not in data or not isinstance(data.get("exchanges"), list):
        return [], [Problem((), "this is no cassette: `cassette: 1` and `exchanges:` were expected")]
    if data["cassette"] != FORMAT:
        return [], [Problem(("cassette",), f"this vrooli reads cassettes of format {FORMAT}")]
    found: list[Recorded] = []
    problems: list[Problem] = []
    for number, raw in enumerate(data["exchanges"]):
        problem = _wrong(raw)
        if problem:
            problems.append(Problem(("exchanges", number), problem))
            continue
        request = raw["request"]
        place = str(raw.get("step", "")), raw.get("turn", 1)
        # The hash is computed from what stands in the file: whoever edits a request means it.
        found.append(
            Recorded(*place, digest_of(request), request, raw["reply"], raw.get("attempt", 1), raw.get("nth", 0))
        )
    return found, problems


def _wrong(raw: Any) -> str:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("request"), Mapping):
        return "an exchange has a `request`, a map"
    reply = raw.get("reply")
    if not isinstance(reply, Mapping) or not isinstance(reply.get("credits", 0), int):
        return "an exchange has a `reply`, a map, with `credits` as a whole number"
    calls = reply.get("tool_calls") or []
    if not isinstance(calls, list) or not all(isinstance(one, Mapping) and "name" in one for one in calls):
        return "`tool_calls` of a reply is a list of maps with a `name`"
    return ""


# --- where two requests differ ----------------------------------------------------------------------------------------


def first_difference(recorded: Any, asked: Any) -> str:
    """Where two requests begin to differ, with both sides shortened, on one line."""
    for place, left, right in _differences(recorded, asked, ""):
        if isinstance(left, str) and isinstance(right, str):
            at = _agreement(left, right)
            start = max(0, at - 12)
            sides = f"recorded {_shown(left[start:])}, asked {_shown(right[start:])}"
            return f"{place}, character {at + 1}: {sides}"
        return f"{place}: recorded {_shown(left)}, asked {_shown(right)}"
    return "nothing"


def _agreement(left: str, right: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = zip(left, right, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))


_ABSENT: Final = object()


def _differences(left: Any, right: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in dict.fromkeys((*left, *right)):
            inner = f"{place}.{key}" if place else str(key)
            yield from _differences(left.get(key, _ABSENT), right.get(key, _ABSENT), inner)
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        for at in range(max(len(left), len(right))):
            one = left[at] if at < len(left) else _ABSENT
            other = right[at] if at < len(right) else _ABSENT
            yield from _differences(one, other, f"{place}[{at}]")
    elif left != right:
        yield place or "the request", left, right


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 48 else f"{text[:44]} …{text[-1]}"


def _likeness(recorded: Recorded, exchange: Exchange) -> tuple[int, int, int, int]:
    """How near a recorded exchange is: its step and turn, what the requests share, how far their texts agree."""
    ours, theirs = exchange.canonical, recorded.request
    same = sum(1 for key, value in ours.items() if theirs.get(key) == value)
    texts = _texts(theirs), _texts(ours)
    return (
        int(recorded.digest == exchange.digest),
        int(unquote(recorded.step) == unquote(exchange.request.address)) + int(recorded.turn == exchange.request.turn),
        same,
        _agreement(*texts),
    )


def _texts(canonical: Mapping[str, Any]) -> str:
    messages = canonical.get("messages")
    if not isinstance(messages, list | tuple):
        return ""
    return "\n".join(str(one.get("content")) for one in messages if isinstance(one, Mapping))
