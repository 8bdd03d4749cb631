"""One attempt: every way in which it can end, and what is said on the way."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from tests.tier3.conftest import Bench
from vrooli_cli.errors import StoreError, ToolError, VrooliError
from vrooli_cli.gate import Answer, AutoApprove, Deferred, Gate, Policy, Question
from vrooli_cli.ledger import Account
from vrooli_cli.model.events import ToolCalled, ToolReturned
from vrooli_cli.model.routine import Permissions, Rule
from vrooli_cli.model.run import ExecutionError
from vrooli_cli.tier3.host import LocalHost, blocking
from vrooli_cli.tier3.registry import Tool, ToolContext
from vrooli_cli.tier3.scope import STOP, CalledOff, Outcome, Scope, StepCall, ToolInvocation, ToolOutcome


def made(execute: Any, **more: Any) -> Tool:
    return Tool(
        **{"name": "t", "description": "", "schema": {"type": "object"}, "origin": "t.py:1", **more}, execute=execute
    )


async def test_a_tool_step_says_called_and_returned_and_gives_the_result(bench: Bench) -> None:
    outcome = await bench.do("echo", {"message": {"a": [1, 2.5, None]}})
    assert (outcome.result, outcome.error, outcome.effects) == ({"a": [1, 2.5, None]}, None, "none")
    assert bench.types() == ["tier3/tool/called", "tier3/tool/returned"]
    called, returned = bench.events
    assert isinstance(called, ToolCalled) and called.parameters == {"message": {"a": [1, 2.5, None]}}
    assert isinstance(returned, ToolReturned) and returned.success and returned.result is None


async def test_wrong_parameters_are_refused_before_anything_is_said(bench: Bench) -> None:
    error = await bench.error("echo", mesage=1)
    assert error.code == "PARAMETER_INVALID" and "did you mean 'message'" in error.message
    assert bench.events == []


async def test_an_unknown_tool_is_an_outcome_with_a_suggestion(bench: Bench) -> None:
    error = await bench.error("ecko", message=1)
    assert error.code == "TOOL_NOT_FOUND" and "'echo'" in error.message and error.step == "s"


async def test_a_denied_call_does_not_reach_the_tool(bench: Bench) -> None:
    bench.scope.policy = Policy().narrow("routine", Permissions(deny=(Rule("shell", "r.yaml:3"),)))
    outcome = await bench.do("shell", {"command": "touch made"})
    assert outcome.error is not None and outcome.error.code == "PERMISSION_DENIED"
    assert outcome.effects == "none" and not (bench.folder / "made").exists()
    assert bench.types() == ["tier3/permission/denied"]


async def test_what_a_model_chose_is_asked_whatever_effects_the_step_claims(bench: Bench) -> None:
    outcome = await bench.do("shell", {"command": "true"}, written=False, effects="none")
    assert outcome.error is not None and outcome.error.code == "PERMISSION_DENIED"


async def test_a_once_effect_waits_for_the_disk_after_it_was_said(bench: Bench) -> None:
    bench.scope.emit = lambda fact: bench.order.append(fact.type)

    async def synced() -> None:
        bench.order.append("synced")

    async def act(params: dict[str, Any], context: ToolContext) -> str:
        bench.order.append("act")
        return "done"

    bench.scope.synced = synced
    bench.add(made(act))
    assert (await bench.do("t")).effects == "once"
    assert bench.order == ["tier3/tool/called", "synced", "act", "tier3/tool/returned"]
    bench.order.clear()
    assert (await bench.do("t", effects="idempotent")).effects == "idempotent"
    assert bench.order == ["tier3/tool/called", "act", "tier3/tool/returned"]


async def test_a_log_that_cannot_be_written_stops_a_once_effect(bench: Bench) -> None:
    async def synced() -> None:
        raise StoreError("the disk is full")

    async def act(params: dict[str, Any], context: ToolContext) -> None:
        raise AssertionError("it was carried out")

    bench.scope.synced = synced
    bench.add(made(act))
    outcome = await bench.do("t")
    assert outcome.error is not None and outcome.error.code == "STORE_ERROR" and outcome.effects == "none"


async def test_a_failed_tool_keeps_its_own_code_for_retry(bench: Bench) -> None:
    async def fails(params: dict[str, Any], context: ToolContext) -> None:
        raise ToolError("no such branch", code="NOT_FOUND", retryable=False)

    bench.add(made(fails))
    error = await bench.error("t")
    assert (error.code, error.context) == ("NOT_FOUND", {"code": "NOT_FOUND", "retryable": False})


@pytest.mark.parametrize("code", ["CANCELLED", "INTERNAL", "RUN_TIMEOUT", "STORE_ERROR"])
async def test_a_tool_cannot_speak_the_engines_verdicts(bench: Bench, code: str) -> None:
    error = await bench.error("fail", message="x", code=code)
    assert (error.code, error.context["code"]) == ("TOOL_FAILED", code)


@pytest.mark.parametrize("raised", [KeyError("k"), SystemExit(3), asyncio.CancelledError(), TimeoutError("own")])
@pytest.mark.parametrize("in_thread", [False, True])
async def test_whatever_a_projects_tool_raises_is_a_failure_of_the_tool(
    bench: Bench, raised: BaseException, in_thread: bool
) -> None:
    def fails(params: dict[str, Any], context: ToolContext) -> None:
        raise raised

    async def fails_too(params: dict[str, Any], context: ToolContext) -> None:
        raise raised

    bench.add(made(blocking(fails) if in_thread else fails_too))
    outcome = await bench.do("t", timeout_ms=5_000)
    assert outcome.error is not None and outcome.error.code == "TOOL_FAILED"
    assert outcome.error.cause and "\n" not in outcome.error.message


async def test_what_the_box_did_not_foresee_is_a_bug_with_a_traceback(bench: Bench) -> None:
    async def fails(params: dict[str, Any], context: ToolContext) -> None:
        raise ZeroDivisionError

    bench.add(made(fails, origin="box"))
    error = await bench.error("t")
    assert error.code == "INTERNAL" and "test_executor" in error.context["traceback"]


async def test_output_schema_is_held(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert (await bench.do("echo", {"message": {"n": 1}}, output_schema=schema)).error is None
    outcome = await bench.do("echo", {"message": {"n": "1"}}, output_schema=schema)
    assert outcome.error is not None and outcome.error.code == "OUTPUT_INVALID" and "n:" in outcome.error.message


async def test_a_tools_own_output_schema_is_held(bench: Bench) -> None:
    async def gives(params: dict[str, Any], context: ToolContext) -> int:
        return 3

    bench.add(made(gives, output_schema={"type": "string"}))
    assert (await bench.error("t")).code == "OUTPUT_INVALID"
    returned = bench.events[-1]
    assert isinstance(returned, ToolReturned) and not returned.success


async def test_a_step_over_its_time_out_fails_with_STEP_TIMEOUT(bench: Bench) -> None:
    started = time.monotonic()
    outcome = await bench.do("shell", {"command": "sleep 30"}, timeout_ms=80)
    assert outcome.error is not None and outcome.error.code == "STEP_TIMEOUT" and outcome.effects == "once"
    assert time.monotonic() - started < 5


async def test_a_tool_may_have_a_time_out_of_its_own(bench: Bench) -> None:
    async def sleeps(params: dict[str, Any], context: ToolContext) -> None:
        await asyncio.sleep(30)

    bench.add(made(sleeps, timeout_ms=30))
    error = await bench.error("t")
    assert error.code == "STEP_TIMEOUT" and "0.03 s" in error.message


class SlowApprover:
    """A person who takes a while."""

    async def ask(self, question: Question) -> Answer | Deferred:
        await asyncio.sleep(0.15)
        return Answer(True, "me")


async def test_the_time_out_stands_still_while_a_person_is_asked(bench: Bench) -> None:
    bench.scope.gate = Gate(SlowApprover())
    outcome = await bench.do("shell", {"command": "true"}, written=False, timeout_ms=100)
    assert outcome.error is None


async def test_the_time_out_goes_on_after_a_person_was_asked(bench: Bench) -> None:
    bench.scope.gate = Gate(SlowApprover())
    outcome = await bench.do("shell", {"command": "sleep 30"}, written=False, timeout_ms=100)
    assert outcome.error is not None and outcome.error.code == "STEP_TIMEOUT"


async def test_our_own_cancel_is_an_outcome(bench: Bench) -> None:
    task = bench.start("shell", {"command": "sleep 30"})
    await asyncio.sleep(0.05)
    outcome = await bench.stop(task)
    assert outcome.error is not None and outcome.error.code == "CANCELLED" and outcome.effects == "once"
    assert not task.cancelling()
    assert bench.types() == ["tier3/tool/called", "tier3/tool/returned"]


async def test_a_stop_of_a_whole_scope_is_an_outcome_too(bench: Bench) -> None:
    bench.scope.cancelled = asyncio.Event()
    tasks = [bench.start("shell", {"command": "sleep 30"}, timeout_ms=20_000) for _ in range(3)]
    await asyncio.sleep(0.05)
    bench.scope.cancelled.set()
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks)
    assert [outcome.error.code for outcome in outcomes if outcome.error] == ["CANCELLED"] * 3


async def test_a_step_without_effects_costs_no_task_and_no_timer(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    made: list[str] = []
    loop.set_task_factory(lambda loop, coro, **more: made.append("task") or asyncio.Task(coro, loop=loop, **more))  # type: ignore[func-returns-value]
    before = len(loop._scheduled)  # type: ignore[attr-defined]
    for _ in range(5):
        await bench.result("echo", message=1)
    assert made == [] and len(loop._scheduled) == before  # type: ignore[attr-defined]
    loop.set_task_factory(None)


class _Elsewhere(LocalHost):
    """Calls run somewhere else: a cancel finds that they had not begun (``None``), or had ended."""

    def __init__(self, found: ToolOutcome | None) -> None:
        super().__init__()
        self._found = found

    async def call(self, tool_call: ToolInvocation, scope: Scope) -> ToolOutcome:
        """Never ends by itself."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as cancel:
            raise CalledOff(cancel, self._found) from None
        raise AssertionError("nobody has cancelled it")


async def _called_off(bench: Bench, found: ToolOutcome | None, **more: Any) -> tuple[Outcome, ToolReturned]:
    """How an attempt ends that is stopped, with what its host has found out."""
    bench.scope.host = _Elsewhere(found)
    bench.add(made(lambda params, context: None))
    task = bench.start("t", **more)
    await asyncio.sleep(0)
    task.cancel(STOP)
    outcome = await task
    assert not task.cancelling()
    returned = bench.events[-1]
    assert isinstance(returned, ToolReturned)
    return outcome, returned


async def test_a_call_that_was_stopped_while_it_queued_says_that_it_has_not_begun(bench: Bench) -> None:
    outcome, returned = await _called_off(bench, None)
    assert outcome.error is not None
    assert outcome.error.code == "CANCELLED"
    assert (returned.success, returned.begun) == (False, False)


async def test_a_call_that_was_stopped_while_the_log_went_to_the_disk_says_that_it_has_not_begun(bench: Bench) -> None:
    async def never() -> None:
        await asyncio.sleep(60)

    bench.scope.synced = never
    bench.add(made(lambda params, context: None))
    task = bench.start("t")
    await asyncio.sleep(0)
    task.cancel(STOP)
    outcome = await task
    returned = bench.events[-1]
    assert isinstance(returned, ToolReturned)
    assert (returned.success, returned.begun, outcome.effects) == (False, False, "none")


async def test_a_call_that_had_ended_before_the_stop_came_to_it_gives_its_result(bench: Bench) -> None:
    outcome, returned = await _called_off(bench, ToolOutcome("made"))
    assert (outcome.result, outcome.error, outcome.effects) == ("made", None, "once")
    assert (returned.success, returned.begun) == (True, None)


async def test_a_call_that_had_failed_before_the_stop_came_to_it_is_stopped_and_said_to_have_failed(
    bench: Bench,
) -> None:
    outcome, returned = await _called_off(bench, ToolOutcome(error=ExecutionError(code="TOOL_FAILED", message="no")))
    assert outcome.error is not None
    assert outcome.error.code == "CANCELLED"
    assert returned.error is not None
    assert returned.error["code"] == "TOOL_FAILED"


async def test_a_step_whose_call_had_not_begun_still_has_its_time_out(bench: Bench) -> None:
    bench.scope.host = _Elsewhere(None)
    bench.add(made(lambda params, context: None))
    outcome = await bench.do("t", timeout_ms=20)
    assert outcome.error is not None
    assert outcome.error.code == "STEP_TIMEOUT"


async def test_a_cancel_that_nobody_announced_propagates(bench: Bench) -> None:
    task = bench.start("shell", {"command": "sleep 30"})
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(bench.host.processes) == 0


async def test_a_wait_takes_its_time_and_says_so(bench: Bench) -> None:
    started = time.monotonic()
    outcome = await bench.executor.attempt(StepCall(address="w", attempt=1, kind="wait", wait_ms=60), bench.scope)
    assert outcome.result == {"waited_ms": 60} and time.monotonic() - started >= 0.06
    over = StepCall(address="w", attempt=1, kind="wait", wait_ms=60_000, timeout_ms=20)
    outcome = await bench.executor.attempt(over, bench.scope)
    assert outcome.error is not None and outcome.error.code == "STEP_TIMEOUT"


async def test_a_strategy_that_needs_a_model_says_so_when_there_is_none(bench: Bench) -> None:
    call = StepCall(address="p", attempt=1, kind="prompt", prompt={"prompt": "hello"})
    outcome = await bench.executor.attempt(call, bench.scope)
    assert outcome.error is not None
    assert outcome.error.code in {"AI_UNAVAILABLE", "INTERNAL"} or "model" in outcome.error.message


async def test_a_policy_can_forbid_a_strategy(bench: Bench) -> None:
    bench.scope.strategies = (("r.yaml:2", {"deterministic": "deny"}),)
    error = await bench.error("echo", message=1)
    assert error.code == "PERMISSION_DENIED" and bench.types() == ["tier3/permission/denied"]


async def test_tools_cost_their_credits_and_no_more_than_there_are(bench: Bench) -> None:
    async def costly(params: dict[str, Any], context: ToolContext) -> str:
        return "bought"

    bench.add(made(costly, credits=400))
    outcomes = [await bench.do("t") for _ in range(3)]
    assert [outcome.credits for outcome in outcomes] == [400, 400, 0]
    assert outcomes[2].error is not None and outcomes[2].error.code == "CREDITS_EXHAUSTED"
    assert bench.account.used == 800


async def test_a_childs_ledger_bounds_its_tools(bench: Bench) -> None:
    async def costly(params: dict[str, Any], context: ToolContext) -> str:
        return "bought"

    bench.add(made(costly, credits=5))
    bench.scope.account = Account("child", 4, bench.account)
    assert (await bench.error("t")).code == "CREDITS_EXHAUSTED"
    assert bench.account.used == 0


async def test_a_models_call_keeps_its_result_for_a_replay_and_a_written_one_does_not(bench: Bench) -> None:
    long = "x" * 5_000
    await bench.do("echo", {"message": long}, written=False)
    called, returned = bench.events
    assert isinstance(called, ToolCalled) and called.parameters == {"message": long}
    assert isinstance(returned, ToolReturned) and returned.result == long
    bench.events.clear()
    await bench.do("echo", {"message": long})
    called = bench.events[0]
    assert isinstance(called, ToolCalled) and called.parameters is not None
    assert len(called.parameters["message"]) < 2_100 and "5,000 characters" in called.parameters["message"]


async def test_a_blocking_tool_runs_off_the_loop_and_sees_the_cancel(bench: Bench) -> None:
    seen: list[str] = []

    def waits(params: dict[str, Any], context: ToolContext) -> None:
        seen.append(threading.current_thread().name)
        while not context.cancelled:
            time.sleep(0.002)
        seen.append("stopped")

    bench.add(made(blocking(waits)))
    task = bench.start("t")
    await asyncio.sleep(0.03)
    outcome = await bench.stop(task)
    assert outcome.error is not None and outcome.error.code == "CANCELLED"
    assert seen == ["vrooli-tool", "stopped"]


async def test_a_tool_sees_what_is_left_of_the_time_out(bench: Bench) -> None:
    seen: list[float | None] = []

    async def looks(params: dict[str, Any], context: ToolContext) -> None:
        seen.append(context.seconds_left)

    bench.add(made(looks))
    await bench.do("t")
    await bench.do("t", timeout_ms=2_000)
    assert seen[0] is None and seen[1] is not None and 1.5 < seen[1] <= 2


async def test_a_secret_is_given_to_who_asks_by_name(bench: Bench) -> None:
    async def asks(params: dict[str, Any], context: ToolContext) -> int:
        return len(context.secret(params["name"]))

    bench.scope.secrets = {"token": "abcdef"}
    bench.add(made(asks))
    assert await bench.result("t", name="token") == 6
    assert (await bench.error("t", name="tokn")).code == "PARAMETER_INVALID"


async def test_grants_from_yes_let_a_models_call_in(bench: Bench) -> None:
    bench.scope.gate = Gate(AutoApprove())
    assert (await bench.do("shell", {"command": "true"}, written=False)).error is None


async def test_five_hundred_attempts_side_by_side_keep_their_results_apart(bench: Bench) -> None:
    outcomes = await asyncio.gather(*(bench.do("echo", {"message": number}) for number in range(500)))
    assert [outcome.result for outcome in outcomes] == list(range(500))


async def test_an_error_of_vrooli_keeps_its_code(bench: Bench) -> None:
    async def fails(params: dict[str, Any], context: ToolContext) -> None:
        raise VrooliError("the norm says no", code="NORM_VIOLATED")

    bench.add(made(fails))
    assert (await bench.error("t")).code == "NORM_VIOLATED"
