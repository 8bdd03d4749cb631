"""One case of the routine language: a folder with a routine, what is around it, and what has to come of it.

``routine.yaml`` is run through an ``ExecutionArchitecture``, in the time of a loop that jumps where nothing but time is
waited for, so that a case of hours takes milliseconds and its seconds are exact. ``case.json`` may say::

    inputs, environ   values of inputs; the environment that the run may look at
    options           fields of RunOptions: keep_going, schedule, timeout_ms
    answers           address → true or false: what the person says; who is not named is not there
    approver          "yes": every question is answered with yes
    cancel_at         seconds after which the run is cancelled
"""

from __future__ import annotations

import asyncio
import json
import re
import selectors
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.errors import ToolError
from vrooli_cli.gate import DEFERRED, Answer, AutoApprove, Deferred, Question
from vrooli_cli.journal import open_store
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.recall import recall
from vrooli_cli.loading.report import format_problems
from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.run import ExecutionResult
from vrooli_cli.model.store import Store
from vrooli_cli.tier2.prepared import RunOptions
from vrooli_cli.tier3.registry import Tool, ToolContext

TRACED = re.compile(r"tier2/step/(completed|failed|cancelled|skipped|retrying|reused|suspended|iterated)$")
_SHOWN = 60
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_REAL = re.compile(r"tool: *(shell|http|file_|assert|table|template|query)")


class _Jumping(selectors.SelectSelector):
    """Instead of waiting for a timer, time passes; a thread is waited for, for a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            return super().select(5)
        self.now += max(0.0, timeout) + 1e-9
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose time is the sum of all that would have been waited for."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


class LoopClock:
    """The loop's own time, from a fixed beginning."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._start = loop.time()

    def now_ns(self) -> int:
        return 1_700_000_000_000_000_000 + round((self._loop.time() - self._start) * 1e9)

    def monotonic(self) -> float:
        return self._loop.time()


class FixedIds:
    """One id for every run."""

    def new(self) -> str:
        return "run-0001"


class Person:
    """Says what the case says; anybody else is not there."""

    def __init__(self, answers: Mapping[str, bool]) -> None:
        self._answers = answers

    async def ask(self, question: Question) -> Answer | Deferred:
        said = self._answers.get(question.address)
        return DEFERRED if said is None else Answer(said, "tester")


@dataclass
class Stage:
    """The tools of the cases, and what they saw."""

    peak: int = 0
    now: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def tools(self) -> list[Tool]:
        def tool(name: str, execute: Any, properties: dict[str, Any], **more: Any) -> Tool:
            schema = {"type": "object", "properties": properties, "additionalProperties": False}
            return Tool(name=name, description=name, schema=schema, execute=execute, **more)

        key, number = {"type": "string"}, {"type": "number"}
        words = {"code": key, "message": key, "result": {}}
        return [
            tool("nap", self._nap, {"seconds": number}, effects="none"),
            tool("flaky", self._flaky, {"key": key, "fail_times": number, **words}, effects="none"),
            tool("count", self._count, {"key": key}, effects="once"),
            tool("price", self._price, {"n": number}, effects="none", credits=3),
        ]

    async def _nap(self, params: dict[str, Any], context: ToolContext, /) -> Any:
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await asyncio.sleep(params.get("seconds", 0))
        finally:
            self.now -= 1
        return params.get("seconds", 0)

    async def _flaky(self, params: dict[str, Any], context: ToolContext, /) -> Any:
        key = params["key"]
        self.counts[key] += 1
        number = self.counts[key]
        if number <= params.get("fail_times", 0):
            message = params.get("message", "try {n} fails").replace("{n}", str(number))
            raise ToolError(message, code=params.get("code"))
        return params.get("result", number)

    async def _count(self, params: dict[str, Any], context: ToolContext, /) -> Any:
        self.counts[params["key"]] += 1
        return self.counts[params["key"]]

    async def _price(self, params: dict[str, Any], context: ToolContext, /) -> Any:
        return params["n"]


@dataclass(frozen=True)
class Told:
    """What came of a case.

    Attributes:
        seconds: Virtual ones; None when the case needed real processes or threads.
        recalled: True when the run began from a stored plan.
    """

    result: ExecutionResult
    events: list[ExecutionEvent]
    peak: int
    seconds: float | None
    folder: str
    recalled: bool = False

    def golden(self) -> dict[str, Any]:
        """The parts that a case pins."""
        result, wire = self.result, self.result.wire()
        plain: dict[str, Any] = {"status": wire["status"], "result": _cut(wire["result"])}
        if result.error is not None:
            plain["error"] = {key: wire["error"][key] for key in ("code", "message", "tier", "step")}
            plain["error"]["message"] = plain["error"]["message"].replace(f"{self.folder}/", "")
        plain["steps"] = {path: _step(step) for path, step in wire["steps"].items()}
        if result.resources_used.credits_used != "0":
            plain["credits"] = result.resources_used.credits_used
        if self.peak:
            plain["peak"] = self.peak
        if self.seconds is not None and self.seconds > 0.001:
            plain["seconds"] = round(self.seconds, 2)
        plain["trace"] = self.trace()
        return plain

    def trace(self) -> list[str]:
        """The steps' verdicts, and who began and ended, in order."""
        lines = []
        for event in self.events:
            payload, kind = event.payload, event.type.rpartition("/")[2]
            if TRACED.match(event.type):
                lines.append(f"{kind} {payload['step_id']}")
            elif event.type == "tier3/execution/started":
                lines.append(f"try {payload['attempt']} {payload['step_id']}")
            elif event.type.startswith("tier2/routine/"):
                lines.append(f"routine {kind} {payload.get('parent_step_id') or ''}".rstrip())
            elif event.type.startswith(("tier3/permission/", "tier3/approval/")):
                lines.append(f"{event.type.partition('/')[2]} {payload['step_id']}")
        if len(lines) > _SHOWN:
            return [f"{len(lines)} lines, ending in {lines[-1]}"]
        return lines if self.seconds is not None else sorted(lines)  # real threads end in any order


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: step[key] for key in ("status", "attempts", "reason", "counts") if step.get(key)}
    if step.get("error"):
        plain["error"] = step["error"]["code"]
    if step.get("result") is not None and step["status"] == "completed":
        plain["result"] = _cut(step["result"])
    return plain


def _cut(value: Any) -> Any:
    text = _TIME.sub("TIME", json.dumps(value))
    value = json.loads(text)
    return value if len(text) <= 600 else f"{len(text)} characters of {type(value).__name__}"


def needs_real_time(folder: Path) -> bool:
    """True when processes or files take part: then time cannot jump."""
    return any(_REAL.search(path.read_text()) for path in folder.glob("*.yaml"))


def tell(folder: Path, store: Path | None = None) -> Told | str:
    """Run the case that stands in a folder (which it may write to); its problems as printed when it is refused.

    With a ``store`` the run is kept there, and begins from the stored plan if there is one.
    """
    real = needs_real_time(folder)
    loop = asyncio.new_event_loop() if real else JumpingLoop()
    try:
        return loop.run_until_complete(_tell(folder, loop, real, open_store(store) if store else None))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _tell(folder: Path, loop: asyncio.AbstractEventLoop, real: bool, store: Store | None) -> Told | str:
    case_file = folder / "case.json"
    case: dict[str, Any] = json.loads(case_file.read_text()) if case_file.exists() else {}
    stage = Stage()
    approver = AutoApprove() if case.get("approver") == "yes" else Person(case.get("answers", {}))
    async with ExecutionArchitecture(
        tools=stage.tools(),
        clock=None if real else LoopClock(loop),
        ids=FixedIds(),
        approver=approver,
        store=store,
        folder=str(folder),
        environ=case.get("environ", {"PATH": "/usr/bin:/bin"}),
    ) as house:
        file = folder / "routine.yaml"
        recalled = recall(str(file), store) if store is not None else None
        loaded = recalled or load_bundle(file, raises=False)
        problems = house.check(loaded)
        if any(not problem.warning for problem in problems):
            return format_problems(problems).replace(f"{folder}/", "") + "\n"
        run = house.prepare(loaded, case.get("inputs", {}), options=RunOptions(**case.get("options", {})))
        if "cancel_at" in case:
            loop.call_later(case["cancel_at"], run.cancel)
        began = loop.time()
        result = await run.run()
        seconds = None if real else loop.time() - began
        if run.bug is not None:
            raise run.bug
        told = house.event_bus.history()
        return Told(result, told, stage.peak, seconds, str(folder), recalled is not None)
