"""The log of a run, folded for people: one pass over its lines, no plan, no definition and no secrets needed.

The machine's own fold (:mod:`vrooli_cli.tier2.evolve`) knows more and must be exact; this one is told by any version's
log, by swarms too, and says what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from vrooli_cli.errors import StoreError
from vrooli_cli.language.masking import show
from vrooli_cli.language.shorten import cut
from vrooli_cli.model.addresses import TASK, around_of, in_handler, is_handler, without_turn
from vrooli_cli.model.clock import ns_of
from vrooli_cli.model.history import ModelCall, RunHistory, Span, StepHistory
from vrooli_cli.model.run import (
    ExecutionContext,
    ExecutionError,
    ExecutionResult,
    ExecutionStatus,
    ResourceUsage,
    StepResult,
    StepStatus,
    cancelled_error,
    waiting_error,
)
from vrooli_cli.model.store import UNREADABLE, RunRecord, Store
from vrooli_cli.model.values import lean

RESULT_LIMIT = 64 * 1024
INTERRUPTED = "INTERRUPTED"

Wire = Mapping[str, Any]


def events(store: Store, key: int, first: int = 1) -> Iterator[dict[str, Any]]:
    """The stored events of a run as people may see them, from number ``first`` on."""
    for line in store.read(key, first):
        yield decode(show(line))


def decode(line: bytes) -> dict[str, Any]:
    """One line of the log as data.

    Raises:
        StoreError: It is none.
    """
    from pydantic_core import from_json

    try:
        found: dict[str, Any] = from_json(line, cache_strings="keys")
    except ValueError:  # nested more than 200 deep
        from json import loads

        try:
            found = loads(line)
        except ValueError as error:
            raise StoreError(UNREADABLE) from error
    return found


def time_of(event: Wire) -> int:
    """When it happened, nanoseconds since 1970."""
    return ns_of(datetime.fromisoformat(event["timestamp"]))


def history_of(store: Store, run_id: str) -> RunHistory:
    """A run with all that its log says.

    Raises:
        UnknownRunError: There is no such run.
        StoreError: The log cannot be read.
    """
    key, record = store.find(run_id)
    return fold(key, record, events(store, key))


def active_ms(store: Store, runs: Sequence[RunRecord]) -> dict[str, int]:
    """How long each run has been at work, over all its lives; of one that is at work or whose process died nothing."""
    over = {run.id: run for run in runs if run.ended_ns is not None}
    kinds = {
        name: f"tier1/swarm/coordination_{run.status}" if run.kind == "swarm" else f"tier2/routine/{run.status}"
        for name, run in over.items()
    }
    ends = store.last_payloads(kinds)
    found: dict[str, int] = {}
    for name, run in over.items():
        told = None
        with suppress(StoreError):
            told = decode(ends[name]).get("duration_ms") if name in ends else None
        found[name] = told if told is not None else ((run.ended_ns or 0) - run.started_ns) // 1_000_000
    return found


def settle(store: Store, run_id: str) -> tuple[int, RunRecord]:
    """The run of that id, as its log says.

    A process may die between the commit of a run's end and the writing of its row in the list; such a run is not
    interrupted, and its row is put right here.

    Raises:
        UnknownRunError: There is no such run.
        StoreError: The store cannot be read or written.
    """
    key, record = store.find(run_id)
    if record.error_code != INTERRUPTED:
        return key, record
    history = fold(key, record, events(store, key))
    if history.interrupted or store.is_alive(record.id):
        return key, record
    code = history.error["code"] if history.error and history.status == "failed" else None
    changes: dict[str, Any] = {
        "status": history.status,
        "ended_ns": history.last_ns,
        "error_code": code,
        "credits": history.credits,
    }
    store.update_run(key, **changes)
    return key, replace(record, **changes)


def fold(key: int, record: RunRecord, lines: Iterable[Wire]) -> RunHistory:
    """The history that these events tell."""
    history = RunHistory(key, record, inputs=record.inputs, began_ns=record.started_ns, last_ns=record.started_ns)
    folder = _Folder(history)
    for event in lines:
        folder.apply(event)
    folder.close()
    return history


@lean(frozen=False)
class _Part:
    """What one agent has done of a task."""

    status: str = "pending"
    attempts: int = 0
    result: Any = None
    error: Wire | None = None


class _Folder:
    """Applies events to a history."""

    def __init__(self, history: RunHistory) -> None:
        self._run = history
        self._life_began = history.began_ns
        self._open: dict[str, Span] = {}
        self._asked: dict[tuple[str, int, int], Any] = {}
        self._reserved: dict[str, int] = {}
        self._agents: dict[str, str] = {}  # of a task's address, or of the execution of its part
        self._talks: dict[tuple[str, int], ModelCall] = {}  # by place and attempt: the last answer
        self._prompts: set[str] = set()  # steps that ask a model, and are not a tool's
        self._plan: dict[str, None] = {}  # the tasks that are in the plan now
        self._took: dict[str, int] = {}  # task → milliseconds
        self._parts: dict[str, dict[str, _Part]] = {}  # task → agent → what it did
        self._waiting: dict[str, tuple[str, Sequence[str]]] = {}  # suspended run of a task → code, steps that wait
        self._owners: dict[str, str] = {}  # execution of a child run → the step or task that it is
        self._now = history.began_ns

    def apply(self, event: Wire) -> None:
        """One event; of an unknown type it only counts."""
        run = self._run
        run.events += 1
        self._now = run.last_ns = time_of(event)
        handler = _APPLY.get(event["type"])
        if handler is not None:
            handler(self, event, event["payload"])
        if event["payload"].get("interrupted"):
            return  # said by the next life, of what the last one left open
        if not run.stretches or len(run.stretches) < run.lives:
            run.stretches.append([self._now, self._now])
        run.stretches[-1][1] = self._now

    def close(self) -> None:
        """The record has the last word on a run whose process has died."""
        run, record = self._run, self._run.record
        if run.status == "running":
            run.active_ns += max(0, run.last_ns - self._life_began)
        if record.error_code == INTERRUPTED and run.status in ("pending", "running"):
            run.interrupted, run.status = True, "failed"
            run.error = {"code": INTERRUPTED, "message": "the process of the run died", "tier": None, "step": None}
            for step in run.steps.values():
                if step.status in ("running", "ready", "retrying"):
                    step.status, step.reason = "cancelled", "the process died"
        run.credits += sum(self._reserved.values())

    # the run

    def _started(self, event: Wire, payload: Wire) -> None:
        run = self._run
        owner = payload.get("parent_step_id")
        if owner is None or event["execution_id"] == run.record.id:
            run.status = "running"
            run.began_ns = self._life_began = self._now
            run.inputs = payload.get("inputs", run.inputs)
            run.goal = payload.get("goal", "")
        else:
            execution = event["execution_id"]
            if execution in self._agents and owner.endswith("]"):
                self._agents[owner] = self._agents[execution]  # a part of a task that several agents do
            step = self._begin(owner)
            step.attempts, step.inside = max(1, step.attempts), payload.get("step_count")
            step.label = step.label or payload.get("routine", "")
            self._owners[execution] = owner

    def _ended(self, event: Wire, payload: Wire) -> None:
        run = self._run
        if event["execution_id"] != run.record.id:
            if event["type"] == "tier2/routine/suspended":
                self._waiting[event["execution_id"]] = (payload.get("code", "APPROVAL_REQUIRED"), payload["steps"])
            self._part_ended(event, payload)
            return
        run.status = event["type"].rpartition("/")[2].rpartition("_")[2]
        run.ended = run.status != "suspended"
        run.result = payload.get("result")
        run.error = payload.get("error")
        if run.status == "suspended":
            run.error = self._waiting_error(payload.get("code", "APPROVAL_REQUIRED"), payload)
            for step in [one for one in run.steps.values() if one.status == "suspended"]:
                around = around_of(step.address)
                while around in run.steps:  # nothing works any more: it waits for what is inside
                    run.steps[around].status = "suspended"
                    run.steps[around].attempts = max(1, run.steps[around].attempts)
                    around = around_of(around)
            for address in self._plan:
                if self._step(address).status == "pending" and not self._missing(address):
                    self._step(address).status = "ready"
        elif run.status != "completed":
            self._close_tasks(payload)
        if payload.get("duration_ms") is not None:
            run.active_ns = payload["duration_ms"] * 1_000_000  # of all lives
        else:
            run.active_ns += max(0, self._now - self._life_began)

    def _close_tasks(self, payload: Wire) -> None:
        """What became of the tasks that a swarm never began: as it says, or as it must have been in an older log."""
        if payload.get("not_run") is not None:
            for task_id, told in payload["not_run"].items():
                task = self._step(f"{TASK}{task_id}")
                task.status, task.reason = told["status"], told["reason"]
            return
        step = (self._run.error or {}).get("step") or "a task"
        reason = payload.get("reason") or f"the swarm is stopping: {step} failed"
        for address in self._plan:
            task = self._step(address)
            if task.status in ("pending", "ready"):
                missing = self._missing(address)
                task.status, task.reason = "cancelled", reason
                if missing:
                    task.status, task.reason = "skipped", f"dependency {missing.removeprefix(TASK)} did not complete"

    def _missing(self, address: str) -> str | None:
        """The first task of the plan that a task waits for and that has not completed."""
        before = (one for one in self._run.tasks[address] if one in self._plan)
        return next((one for one in before if self._step(one).status != "completed"), None)

    def _waiting_error(self, code: str, payload: Wire) -> Wire:
        """What the run waits for: a swarm for what the first of its tasks' runs with that code waits for."""
        first = next((steps for found, steps in self._waiting.values() if found == code), None)
        return waiting_error(code, payload.get("steps") or first or payload.get("tasks") or ("?",)).wire()

    def _part_ended(self, event: Wire, payload: Wire) -> None:
        """The run of one agent's part of a task; the verdict of tier 1 is on the task as a whole."""
        owner = self._owners.get(event["execution_id"], "")
        if owner.startswith(TASK) and owner not in self._run.tasks:
            for address in {owner, owner.partition("@")[0]} - self._run.tasks.keys():
                step = self._step(address)
                step.status, step.ended_ns = event["type"].rpartition("/")[2], self._now
                step.duration_ms, step.error = payload.get("duration_ms", 0), payload.get("error")

    def _resumed(self, event: Wire, payload: Wire) -> None:
        run = self._run
        if event["execution_id"] != run.record.id:
            return
        if payload.get("active_ms") is not None:
            run.active_ns = payload["active_ms"] * 1_000_000
        run.status, run.result, run.error, run.ended = "running", None, None, False
        self._waiting.clear()
        run.lives += 1
        self._life_began = self._now
        for span in self._open.values():
            span.status = "cancelled"
        self._open.clear()
        for part in (part for parts in self._parts.values() for part in parts.values()):
            if part.status != "completed":
                part.status = "pending"
        for step in run.steps.values():
            skipped = step.status == "skipped" and step.address not in run.tasks
            stands = step.status == "completed" or skipped or (step.status == "failed" and step.continued)
            if stands and not step.tainted:
                step.reused = step.status == "completed"
            elif step.status != "suspended" or not step.code:
                self._again(step)

    def _again(self, step: StepHistory) -> None:
        step.status, step.attempts, step.ended_ns, step.duration_ms = "pending", 0, None, 0
        step.error, step.reason, step.code, step.tainted, step.reused = None, "", "", False, False
        step.counts = None

    def _batch(self, event: Wire, payload: Wire) -> None:
        if event["execution_id"] != self._run.record.id:
            return
        if event["type"].endswith("started"):
            self._run.batches.setdefault(payload["batch"], [self._now, self._now])
        elif payload["batch"] in self._run.batches:
            self._run.batches[payload["batch"]][1] = self._now

    # steps

    def _step(self, address: str) -> StepHistory:
        step = self._run.steps.get(address)
        if step is None:
            step = self._run.steps[address] = StepHistory(address)
            step.agent = self._agents.get(address.partition("/")[0], "")
        return step

    def _begin(self, address: str) -> StepHistory:
        """A step is at work; so is everything around it."""
        step = self._step(without_turn(address))
        if step.status in ("completed", "failed", "skipped", "cancelled"):
            self._again(step)
        step.status, step.code = "running", ""
        if step.began_ns is None:
            step.began_ns = self._now
        around = around_of(step.address)
        if around and not is_handler(around):
            other = self._step(around)
            if other.status in ("pending", "ready"):
                self._begin(around).attempts = max(1, other.attempts)
        return step

    def _execution_started(self, event: Wire, payload: Wire) -> None:
        step = self._begin(payload["step_id"])
        step.attempts += 1
        step.strategy = payload.get("strategy") or step.strategy
        step.label = payload.get("tool_name") or payload.get("model") or step.label
        if not payload.get("tool_name"):
            self._prompts.add(step.address)
        step.effects = payload.get("effects") or step.effects
        step.again = payload.get("reason") or step.again
        step.reused = False
        span = Span(payload["step_id"], payload["attempt"], self._now, life=self._run.lives)
        step.spans.append(span)
        self._open[payload["step_id"]] = span
        self._run.attempts += 1

    def _tool_called(self, event: Wire, payload: Wire) -> None:
        step = self._run.steps.get(without_turn(payload["step_id"]))
        if step is not None and payload.get("call_id") is None:  # what a model chose stands in its answers
            step.parameters = payload.get("parameters")

    def _tool_returned(self, event: Wire, payload: Wire) -> None:
        call = self._talks.get((payload["step_id"], payload["attempt"]))
        if call is not None:
            call.returned.append((payload["tool_name"], payload.get("error") or payload.get("result")))

    def _execution_ended(self, event: Wire, payload: Wire) -> None:
        span = self._open.pop(payload["step_id"], None)
        if span is not None:
            span.ended_ns = None if payload.get("interrupted") else self._now
            span.status = event["type"].rpartition("/")[2]
        used = payload.get("resources_used") or {}
        self._run.memory_mb = max(self._run.memory_mb, int(used.get("memory_used_mb", 0)))

    def _ready(self, event: Wire, payload: Wire) -> None:
        if not is_handler(payload["step_id"]):
            step = self._step(without_turn(payload["step_id"]))
            if step.status in ("pending", "retrying"):
                step.status = "ready"

    def _expanded(self, event: Wire, payload: Wire) -> None:
        step = self._begin(payload["step_id"])
        step.attempts = max(1, step.attempts)
        step.total = payload["count"]

    def _verdict(self, event: Wire, payload: Wire) -> None:
        step = self._step(payload["step_id"])
        step.status = event["type"].rpartition("/")[2]
        step.ended_ns = self._now
        step.attempts = payload.get("attempts", step.attempts)
        step.duration_ms = payload.get("duration_ms", 0)
        step.result = payload.get("result")
        step.error = payload.get("error")
        step.effects = payload.get("effects") or step.effects
        step.reason, step.code = payload.get("reason", ""), ""
        step.recovered = bool(payload.get("recovered"))
        step.continued = bool(payload.get("continued"))
        step.tainted = bool(payload.get("tainted"))
        step.reused = False
        self._run.asked.pop(step.address, None)
        self._run.path.append((step.address, step.status))

    def _reused(self, event: Wire, payload: Wire) -> None:
        step = self._step(payload["step_id"])
        step.status, step.reused, step.result = "completed", True, payload.get("result")
        step.reason, step.from_run = payload.get("reason", ""), payload.get("from_run", "")
        step.ended_ns = self._now
        self._run.path.append((step.address, "completed"))

    def _retrying(self, event: Wire, payload: Wire) -> None:
        step = self._step(without_turn(payload["step_id"]))
        step.status, step.error = "retrying", payload.get("error")

    def _suspended(self, event: Wire, payload: Wire) -> None:
        step = self._step(payload["step_id"])
        step.status, step.reason = "suspended", payload.get("reason", "")
        step.code = payload.get("code", "APPROVAL_REQUIRED")

    def _approval(self, event: Wire, payload: Wire) -> None:
        address, asked = payload["step_id"], self._run.asked
        if event["type"].endswith("requested"):
            asked[address] = payload.get("prompt", "")
            return
        asked.pop(address, None)
        step = self._run.steps.get(address)
        if step is not None and step.status == "suspended":
            step.status, step.reason = "pending", ""

    # models and credits

    def _ai_requested(self, event: Wire, payload: Wire) -> None:
        place = payload["step_id"], payload["attempt"], payload.get("turn", 1)
        self._asked[place] = payload.get("messages")

    def _ai_responded(self, event: Wire, payload: Wire) -> None:
        place = payload["step_id"], payload["attempt"], payload.get("turn", 1)
        step = self._run.steps.get(without_turn(payload["step_id"]))
        if step is not None and step.address in self._prompts:
            step.label = payload["model"]  # the one that answered, of those that it may ask
        call = ModelCall(
            address=payload["step_id"],
            model=payload["model"],
            at_ns=self._now,
            turn=payload.get("turn", 1),
            duration_ms=payload.get("duration_ms", 0),
            credits=payload.get("credits") or 0,
            usage=payload.get("usage") or {},
            messages=self._asked.pop(place, None),
            text=payload.get("text"),
            tool_calls=payload.get("tool_calls"),
            finish_reason=payload.get("finish_reason"),
        )
        self._run.calls.append(call)
        self._talks[place[:2]] = call

    def _ledger(self, event: Wire, payload: Wire) -> None:
        name, credits_ = payload["reservation"], payload["credits"]
        if event["type"].endswith("reserved"):
            self._reserved[name] = credits_
            return
        self._reserved.pop(name, None)
        self._run.credits += credits_
        step = self._run.steps.get(without_turn(payload["step_id"]))
        if step is not None:
            step.credits += credits_

    # swarms

    def _decomposed(self, event: Wire, payload: Wire) -> None:
        self._formed(event, payload)
        tasks = payload.get("tasks") or ()
        self._plan = dict.fromkeys(f"{TASK}{task['id']}" for task in tasks)
        for task in tasks:
            self._run.tasks[f"{TASK}{task['id']}"] = tuple(f"{TASK}{one}" for one in task.get("dependencies") or ())

    def _assigned(self, event: Wire, payload: Wire) -> None:
        address = f"{TASK}{payload['task_id']}"
        self._agents[address] = payload["agent_id"]
        self._step(address).agent = payload["agent_id"]
        parts = self._parts.get(address, {})
        if payload.get("from_agent") in parts:  # the next one in its place
            kept = {
                payload["agent_id"] if name == payload["from_agent"] else name: part for name, part in parts.items()
            }
            self._parts[address] = kept

    def _task(self, event: Wire, payload: Wire) -> None:
        address = f"{TASK}{payload['task_id']}"
        parts = self._parts.setdefault(address, {})
        part = parts.setdefault(payload["agent_id"], _Part())
        verdict = event["type"].rpartition("/")[2]
        if verdict == "started":
            self._agents[payload.get("task_execution_id", "")] = payload.get("agent_id", "")
            step = self._begin(address)
            part.status, part.attempts = "running", payload.get("attempt", 1)
            step.attempts = sum(one.attempts for one in parts.values())
        else:
            step = self._step(address)
            part.status, part.result, part.error = verdict, payload.get("result"), payload.get("error")
            took = self._took[address] = self._took.get(address, 0) + payload.get("duration_ms", 0)  # of all tries
            step.ended_ns, step.duration_ms = self._now, took
            if len(parts) == 1:
                step.counts = payload.get("counts") or step.counts
            self._judge(step, parts)
        step.agent = payload.get("agent_id", step.agent)

    def _judge(self, step: StepHistory, parts: Mapping[str, _Part]) -> None:
        """A task is where the least finished of its agents' parts is, a failure before all."""
        found = {part.status for part in parts.values()}
        step.status = next((one for one in ("failed", "running", "pending") if one in found), "completed")
        step.error = next((part.error for part in parts.values() if part.status == "failed"), None)
        if step.error is not None and step.error["code"] == "CANCELLED":
            step.status, step.reason, step.error = "cancelled", step.error["message"], None
        if step.status == "completed":
            results = {agent: part.result for agent, part in parts.items()}
            step.result = results if len(results) > 1 else next(iter(results.values()))
        if step.status not in ("running", "pending"):
            self._run.path.append((step.address, step.status))

    def _formed(self, event: Wire, payload: Wire) -> None:
        """Who does which task; one that has begun stays with whom it is."""
        for task_id, placed in (payload.get("assignments") or {}).items():
            parts = self._parts.setdefault(f"{TASK}{task_id}", {})
            if not {"running", "completed"} & {part.status for part in parts.values()}:
                parts.clear()
                parts.update((agent, _Part()) for agent in placed.get("agents") or [placed["agent"]])


_Apply = Callable[[_Folder, Wire, Wire], None]


def _table() -> dict[str, _Apply]:
    table: dict[str, _Apply] = {}
    for word in ("completed", "failed", "cancelled", "suspended"):
        table[f"tier2/routine/{word}"] = table[f"tier1/swarm/coordination_{word}"] = _Folder._ended
    for kind in ("tier2/routine/", "tier1/swarm/coordination_"):
        table[f"{kind}started"], table[f"{kind}resumed"] = _Folder._started, _Folder._resumed
    for word in ("completed", "failed", "cancelled", "skipped"):
        table[f"tier2/step/{word}"] = _Folder._verdict
    for word in ("completed", "failed", "cancelled"):
        table[f"tier3/execution/{word}"] = _Folder._execution_ended
    for word in ("requested", "granted", "denied"):
        table[f"tier3/approval/{word}"] = _Folder._approval
    for word in ("started", "completed", "failed"):
        table[f"tier1/task/{word}"] = _Folder._task
    return table | {
        "tier2/batch/started": _Folder._batch,
        "tier2/batch/completed": _Folder._batch,
        "tier3/execution/started": _Folder._execution_started,
        "tier3/tool/called": _Folder._tool_called,
        "tier3/tool/returned": _Folder._tool_returned,
        "tier2/step/ready": _Folder._ready,
        "tier2/step/expanded": _Folder._expanded,
        "tier2/step/reused": _Folder._reused,
        "tier2/step/retrying": _Folder._retrying,
        "tier2/step/suspended": _Folder._suspended,
        "tier3/ai/requested": _Folder._ai_requested,
        "tier3/ai/responded": _Folder._ai_responded,
        "tier3/ledger/reserved": _Folder._ledger,
        "tier3/ledger/settled": _Folder._ledger,
        "tier1/goal/decomposed": _Folder._decomposed,
        "tier1/team/formed": _Folder._formed,
        "tier1/plan/revised": _Folder._decomposed,
        "tier1/task/assigned": _Folder._assigned,
        "tier1/task/reassigned": _Folder._assigned,
    }


_APPLY = _table()


# --- the ExecutionResult of a history --------------------------------------------------------------------------------


def result_of(
    history: RunHistory, store: Store, known: Iterable[str] = (), lost: list[str] | None = None
) -> ExecutionResult:
    """The ExecutionResult so far.

    Args:
        history: The run.
        store: Where its large results are.
        known: Ids of the steps there are, in order; those that the log does not speak of are pending.
        lost: Gets a line for every large result that is missing or damaged, and shown as its stand-in.
    """
    status = ExecutionStatus(history.status)
    usage = ResourceUsage(
        credits_used=str(history.credits),
        duration_ms=history.active_ns // 1_000_000,
        memory_used_mb=history.memory_mb,
        steps_executed=history.attempts,
    )
    context = history.record.context or {"execution_id": history.record.id}
    return ExecutionResult(
        success=status is ExecutionStatus.COMPLETED,
        status=status,
        context=ExecutionContext.recorded(context),
        result=whole(history.result, store, lost),
        error=_error(history),
        resources_used=usage,
        duration_ms=usage.duration_ms,
        steps=_steps(history, store, known, lost),
    )


def _error(history: RunHistory) -> ExecutionError | None:
    if history.error:
        return ExecutionError(**history.error)
    if history.status != "cancelled":
        return None
    return cancelled_error("tier1" if history.record.kind == "swarm" else "tier2")


def _steps(history: RunHistory, store: Store, known: Iterable[str], lost: list[str] | None) -> dict[str, StepResult]:
    steps = {name: StepHistory(name) for name in known}
    steps |= {step.address: step for step in history.steps.values() if step.is_top}
    children = history.children
    return {name: _step_result(step, children.get(name, ()), store, lost) for name, step in steps.items()}


def _step_result(
    step: StepHistory, children: Iterable[StepHistory], store: Store, lost: list[str] | None
) -> StepResult:
    counts = dict(step.counts) if step.counts is not None else _counts(step, children)
    result, truncated = _shortened(step.result, store, lost)
    return StepResult(
        status=StepStatus(step.status),
        attempts=step.attempts,
        duration_ms=step.duration_ms,
        reused=step.reused,
        result=result,
        error=ExecutionError(**step.error) if step.error and step.status != "retrying" else None,
        reason=(step.code if step.status == "suspended" else step.reason) or None,
        counts=counts if counts or step.total is not None else None,
        truncated=truncated,
    )


def _counts(step: StepHistory, children: Iterable[StepHistory]) -> dict[str, int]:
    """How many of a composite's parts are where; none of one that has not begun in this life of the run."""
    counts: dict[str, int] = {}
    if step.status in ("pending", "skipped", "cancelled") and not step.attempts:
        return counts
    for child in children:
        if not in_handler(child.address):
            counts[child.status] = counts.get(child.status, 0) + 1
    whole = step.total if step.total is not None else step.inside or 0
    if (left := whole - sum(counts.values())) > 0:
        counts["pending"] = counts.get("pending", 0) + left
    return counts


def _shortened(value: Any, store: Store, lost: list[str] | None) -> tuple[Any, bool]:
    """A step's result above 64 KiB is cut (spec cli.md)."""
    if not is_blob(value):
        return value, False
    found = whole(value, store, lost)
    if is_blob(found):  # it is lost
        return None, True
    shown = cut(found, RESULT_LIMIT)
    return shown, shown != found


def is_blob(value: Any) -> bool:
    """True for the stand-in of a large value."""
    return isinstance(value, Mapping) and value.keys() == {"$blob", "bytes"}


def whole(value: Any, store: Store, lost: list[str] | None = None) -> Any:
    """The value itself where its stand-in is given; the stand-in when it is lost, and a line about that in ``lost``."""
    if not is_blob(value):
        return value
    try:
        data = store.get_blob(value["$blob"])
    except StoreError as error:
        if lost is not None and error.message not in lost:
            lost.append(error.message)
        return value
    from pydantic_core import from_json

    return from_json(show(data))
