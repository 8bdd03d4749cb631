"""What a case puts around tier 3: answers instead of the world (spec testing.md).

A step of a tool goes the whole way that it goes in life (parameters are validated, the gate is asked, credits are
charged, the answer is validated); only the host at its end is another one. A prompt that has a stub asks no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vrooli_cli.errors import ERROR_CODES, VrooliError
from vrooli_cli.gate import DEFERRED, Answer, Deferred, Question
from vrooli_cli.language.schema import compile_schema
from vrooli_cli.model.addresses import static
from vrooli_cli.model.run import ExecutionError, ExecutionStrategy
from vrooli_cli.testing.generate import CannotGenerate, generate
from vrooli_cli.tier3.registry import Tool
from vrooli_cli.tier3.scope import Outcome, Scope, StepCall, StepRunner, ToolHost, ToolInvocation, ToolOutcome
from vrooli_cli.tier3.strategies import strategy_of

# Tools of the box that read files of this machine and nothing else: the same each time, as the files are.
_READERS: Final = frozenset({"file_read", "file_list", "template"})
_ADDRESS: Final = "192.0.2.1"  # for documentation (RFC 5737): a test asks no name server


@dataclass(frozen=True, slots=True)
class Stub:
    """An answer."""

    result: Any = None
    error: ExecutionError | None = None

    @classmethod
    def read(cls, raw: Any) -> Stub:
        """What a test file says: ``{error: …}`` as the sole key fails, ``{result: …}`` escapes."""
        if isinstance(raw, Mapping) and set(raw) == {"result"}:
            return cls(raw["result"])
        if not isinstance(raw, Mapping) or set(raw) != {"error"}:
            return cls(raw)
        told: Mapping[str, Any] = raw["error"] if isinstance(raw["error"], Mapping) else {"message": str(raw["error"])}
        code = str(told.get("code", "TOOL_FAILED"))
        context: dict[str, Any] = dict(told.get("context") or {})
        if code not in ERROR_CODES:
            context["code"] = code
        message = str(told.get("message", "the stub fails"))
        return cls(error=ExecutionError(code=code, message=message, tier="tier3", context=context))

    def outcome(self, address: str) -> ToolOutcome:
        """As a host answers."""
        error = replace(self.error, step=address) if self.error is not None else None
        return ToolOutcome(result=self.result, error=error)


class Stubs:
    """The answers of one case, found by step path before tool name."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._stubs = {name: Stub.read(answer) for name, answer in raw.items()}

    def of_step(self, address: str) -> Stub | None:
        """By the path itself, or by the path without items of loops and turns of repeats."""
        for name in (address, static(address)):
            if name in self._stubs:
                return self._stubs[name]
        return None

    def of_tool(self, name: str) -> Stub | None:
        """By the tool's name."""
        return self._stubs.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stubs)


@dataclass(slots=True)
class Recorder:
    """Every call of a tool that was made."""

    calls: list[dict[str, Any]] = field(default_factory=list)

    def note(self, call: ToolInvocation, tool: Tool) -> None:
        """One call, with its parameters as plain data."""
        parameters = {key: _plain(value) for key, value in tool.plain(call.parameters).items()}
        self.calls.append({"tool": call.tool, "parameters": parameters, "step": call.address})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, str) else value


class Stubbed:
    """A :class:`~vrooli_cli.tier3.scope.StepRunner` around another one.

    Args:
        inner: Does the attempt.
        stubs: What the case answers itself.
        recorder: Is told of every call.
        generate: What has no stub is made up.
        scripted: The case has replies or a cassette: prompts ask for these, also where the rest is made up.
        live: What has no stub is done.
    """

    def __init__(
        self,
        inner: StepRunner,
        stubs: Stubs,
        recorder: Recorder,
        *,
        generate: bool,
        scripted: bool,
        live: bool,
    ) -> None:
        self._inner = inner
        self._stubs = stubs
        self._recorder = recorder
        self._generate = generate
        self._scripted = scripted
        self._live = live

    async def attempt(self, call: StepCall, scope: Scope) -> Outcome:
        """See :class:`~vrooli_cli.tier3.scope.StepRunner`."""
        stub = self._stubs.of_step(call.address)
        if call.kind == "wait" and not self._live:
            return self._answered(call, stub or Stub({"waited_ms": call.wait_ms}))
        if strategy_of(call) is not ExecutionStrategy.DETERMINISTIC or call.kind == "prompt":
            stub = stub or self._made_up(call)
            if stub is not None:
                return self._answered(call, stub)
        host = StubbedHost(scope.host, self._stubs, self._recorder, call, generate=self._generate, live=self._live)
        gate = scope.gate if self._live else scope.gate.with_judges(resolver=_nowhere)
        return await self._inner.attempt(call, scope.child(host=host, gate=gate))

    def _made_up(self, call: StepCall) -> Stub | None:
        if not self._generate or self._scripted:
            return None
        if call.kind == "tool":
            return _generated({}, call) if call.output_schema is None else _generated(call.output_schema, call)
        return _generated(call.output_schema or {"type": "string"}, call)

    @staticmethod
    def _answered(call: StepCall, stub: Stub) -> Outcome:
        """The outcome that the stub is; it must fit what the step promises."""
        if stub.error is not None:
            return Outcome(error=replace(stub.error, step=call.address))
        if call.output_schema is not None:
            wrong = compile_schema(call.output_schema).check(stub.result)
            if wrong:
                error = VrooliError(f"the stub does not fit output_schema: {wrong[0]}", code="OUTPUT_INVALID")
                return Outcome.failed(error, step=call.address)
        return Outcome(stub.result)


async def _nowhere(host: str) -> list[str]:
    del host
    return [_ADDRESS]


class StubbedHost:
    """A :class:`~vrooli_cli.tier3.scope.ToolHost` that answers from stubs, and refuses what would touch the world."""

    def __init__(
        self, inner: ToolHost, stubs: Stubs, recorder: Recorder, step: StepCall, *, generate: bool, live: bool
    ) -> None:
        self._inner = inner
        self._stubs = stubs
        self._recorder = recorder
        self._step = step
        self._generate = generate
        self._live = live

    async def call(self, tool_call: ToolInvocation, scope: Scope) -> ToolOutcome:
        """See :class:`~vrooli_cli.tier3.scope.ToolHost`."""
        tool: Tool = scope.tools.require(tool_call.tool)
        self._recorder.note(tool_call, tool)
        stub = self._stubs.of_step(tool_call.address) if tool_call.written else None
        stub = stub or self._stubs.of_tool(tool_call.tool)
        if stub is not None:
            return stub.outcome(tool_call.address)
        if self._generate and (not _is_pure(tool, tool_call) or tool_call.tool == "assert"):
            return self._generated(tool, tool_call)
        if self._live or _is_pure(tool, tool_call) or _only_reads(tool):
            return await self._inner.call(tool_call, scope)
        return _refused(tool_call)

    def _generated(self, tool: Tool, call: ToolInvocation) -> ToolOutcome:
        schema = self._step.output_schema or tool.output_schema or box_result(tool, call.parameters)
        return _generated(schema, self._step).outcome(call.address)


def _is_pure(tool: Tool, call: ToolInvocation) -> bool:
    """True for a call that leaves no trace; a step's own word counts, but servers are never asked."""
    return call.effects == "none" and not tool.origin.startswith("mcp:")


def _only_reads(tool: Tool) -> bool:
    return tool.origin == "box" and tool.name in _READERS


def _refused(call: ToolInvocation) -> ToolOutcome:
    message = f"a test does not let {call.tool!r} act: give it a stub, or say `live: true`"
    return ToolOutcome(error=ExecutionError(code="PERMISSION_DENIED", message=message, tier="tier3", step=call.address))


def _generated(schema: Mapping[str, Any], call: StepCall) -> Stub:
    try:
        return Stub(generate(schema, static(call.address).rpartition("/")[2]))
    except CannotGenerate as reason:
        message = f"no answer can be made up: {reason}; give it a stub"
        return Stub(error=ExecutionError(code="OUTPUT_INVALID", message=message, tier="tier3", step=call.address))


_SHELL_VALUES: Final[Mapping[str, Any]] = {"text": "text", "lines": ["text"], "json": {}}


def box_result(tool: Tool, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema of what a tool of the box answers (spec routine.md, "Tools in the box"); any value for another tool."""
    if tool.origin != "box":
        return {}
    parse = parameters.get("parse")
    return {
        "shell": _always(stdout="text\n", stderr="", exit_code=0, **({"value": _SHELL_VALUES[parse]} if parse else {})),
        "http": _always(status=200, headers={"content-type": "application/json"}, body="{}", json={}),
        "file_write": _always(path=str(parameters.get("path", "file.txt")), bytes=1),
        "file_list": {"const": [{"path": "file.txt", "size": 1, "modified": "2026-01-01T00:00:00Z"}]},
        "file_read": {"const": _file_content(parameters)},
        "assert": _always(passed=1),
    }.get(tool.name, {})


def _always(**value: Any) -> dict[str, Any]:
    return {"const": value}


def _file_content(parameters: Mapping[str, Any]) -> Any:
    kind = parameters.get("format") or str(parameters.get("path", "")).rpartition(".")[2].lower()
    return {"json": {}, "yaml": {}, "yml": {}, "csv": [{"column": "text"}], "lines": ["text"]}.get(kind, "text")


class StubApprover:
    """Answers approvals from the stubs (``true``, ``false`` or ``{approved, comment}``), else nobody is there.

    An ``ask`` rule is granted: whatever would then touch the world is refused anyway.
    """

    def __init__(self, stubs: Stubs, *, generate: bool = False) -> None:
        self._stubs = stubs
        self._generate = generate

    async def ask(self, question: Question) -> Answer | Deferred:
        """See :class:`~vrooli_cli.gate.Approver`."""
        if question.kind == "permission":
            return Answer(True, "the test")
        stub = self._stubs.of_step(question.address)
        if stub is None:
            return Answer(True, "the test") if self._generate else DEFERRED
        told = stub.result if isinstance(stub.result, Mapping) else {"approved": stub.result}
        comment = told.get("comment")
        return Answer(bool(told.get("approved")), str(told.get("by", "the test")), comment and str(comment))
