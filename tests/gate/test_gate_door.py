from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from vrooli_cli.errors import VrooliError, exit_code
from vrooli_cli.gate import (
    Action,
    Answer,
    Approver,
    AutoApprove,
    Defer,
    Deferred,
    Gate,
    Policy,
    Question,
    Refuse,
    Verdict,
    digest_of,
)
from vrooli_cli.model.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    Event,
    PermissionDenied,
    SafetyPreAction,
    SafetyVerdict,
)

Call = Callable[..., Action]
Make = Callable[..., Policy]


@dataclass
class Person:
    """Answers as told, and keeps the questions."""

    answer: Answer | Deferred
    asked: list[Question] = field(default_factory=list)

    async def ask(self, question: Question) -> Answer | Deferred:
        self.asked.append(question)
        return self.answer


@dataclass
class Watch:
    """A guard that does as told."""

    does: Callable[[Action], Verdict]
    name: str = "watch"
    timeout: float = 0.05
    wants: bool = True
    seen: int = 0
    delay: float = 0

    def listens(self, action: Action) -> bool:
        return self.wants

    async def review(self, action: Action) -> Verdict:
        self.seen += 1
        await asyncio.sleep(self.delay)
        return self.does(action)


ALLOW = Verdict("allow", "", "")
DENY = Verdict("deny", "", "", "smells")


class Norm:
    def judge(self, action: Action) -> Verdict | None:
        if action.agent != "bob":
            return None
        return Verdict("deny", "norm n3", "org.yaml:4", "is prohibited to bob as player by norm n3", "NORM_VIOLATED")


async def refusal(gate: Gate, action: Action, policy: Policy, said: list[Event]) -> VrooliError:
    with pytest.raises(VrooliError) as caught:
        await gate.admit(action, policy, said.append)
    return caught.value


async def test_a_denial_tells_rule_file_line_and_what_to_do_and_is_an_event(call: Call, policy: Make) -> None:
    said: list[Event] = []
    error = await refusal(Gate(), call("shell", command=["rm", "-rf", "x"]), policy(deny=["shell(rm *)"]), said)
    assert error.code == "PERMISSION_DENIED"
    assert exit_code(error.code, ran=True) == 3
    assert error.message == (
        "shell(rm -rf x) is denied by the rule 'shell(rm *)' (r.yaml:7) of the routine; change the rule, or the call"
    )
    assert error.context == {"tool": "shell", "rule": "deny: shell(rm *)", "source": "r.yaml:7"}
    assert (error.step, error.tier) == ("step", "tier3")
    [event] = said
    assert isinstance(event, PermissionDenied)
    assert (event.step_id, event.tool_name, event.source) == ("step", "shell", "r.yaml:7")


async def test_the_common_case_says_nothing(call: Call) -> None:
    said: list[Event] = []
    await Gate().admit(call("echo", message="x"), Policy(), said.append)
    await Gate().admit(call("shell", command="ls"), Policy(), said.append)
    assert said == []


@pytest.mark.parametrize(
    ("approver", "words"),
    [
        (Defer(), "no terminal"),
        (Refuse(), "--no-input"),
        (Person(Answer(False, "ann", "not today")), "ann said no: not today"),
    ],
)
async def test_an_ask_that_nobody_grants_is_a_denial(approver: Approver, words: str, call: Call, policy: Make) -> None:
    said: list[Event] = []
    error = await refusal(Gate(approver), call("shell", command=["git", "push"]), policy(ask=["shell"]), said)
    assert error.code == "PERMISSION_DENIED"
    assert words in error.message
    assert "(r.yaml:7)" in error.message
    assert [type(event) for event in said] == [ApprovalRequested, ApprovalDenied, PermissionDenied]


async def test_a_models_call_without_a_terminal_says_which_rule_would_do(call: Call) -> None:
    error = await refusal(Gate(), call("shell", command=["git", "push"], _written=False), Policy(), [])
    assert error.message == (
        "shell(git push) was chosen by a model and needs a person's consent; there is no terminal to ask at; "
        "run with --yes, or allow it with a rule such as shell(git push)"
    )


async def test_a_long_secret_is_masked_before_the_text_is_shortened(call: Call, policy: Make) -> None:
    secret = "s3cr3t" * 30
    person = Person(Answer(False, "ann"))
    said: list[Event] = []
    with pytest.raises(VrooliError) as caught:
        await Gate(person).admit(
            call("shell", command=["echo", "x" * 40 + secret]),
            policy(ask=["shell"]),
            said.append,
            mask=lambda text: text.replace(secret, "***"),
        )
    assert "s3cr3t" not in caught.value.message + person.asked[0].prompt
    assert "s3cr3t" not in str([event.payload() for event in said])


async def test_yes_grants_every_ask(call: Call, policy: Make) -> None:
    said: list[Event] = []
    await Gate(AutoApprove()).admit(call("shell", command=["ls"]), policy(ask=["shell"]), said.append)
    requested, granted = said
    assert isinstance(requested, ApprovalRequested)
    assert isinstance(granted, ApprovalGranted)
    assert granted.by == "--yes"
    assert granted.digest == requested.digest


async def test_a_grant_holds_for_the_same_call_at_the_same_place_only(call: Call, policy: Make) -> None:
    person = Person(Answer(True, "ann"))
    gate, asking = Gate(person), policy(ask=["shell"])

    async def count(action: Action) -> int:
        await gate.admit(action, asking, lambda _: None)
        return len(person.asked)

    assert await count(call("shell", command=["ls"])) == 1
    assert await count(call("shell", command=["ls"])) == 1
    assert await count(call("shell", command=["ls", "-a"])) == 2
    other = call("shell", command=["ls"])
    elsewhere = Action(execution_id="run", address="other", tool=other.tool, parameters=other.parameters)
    assert await count(elsewhere) == 3
    await gate.with_judges(Norm()).admit(elsewhere, asking, lambda _: None)
    assert len(person.asked) == 3


async def test_a_grant_of_the_log_is_not_asked_again(call: Call, policy: Make) -> None:
    gate = Gate(Defer())
    action = call("shell", command=["ls"])
    gate.grant("run", "step", digest_of("shell", action.parameters))
    await gate.admit(action, policy(ask=["shell"]), lambda _: None)


async def test_the_question_shows_the_call_on_one_clean_line(call: Call, policy: Make) -> None:
    person = Person(Answer(True, "ann"))
    action = call("shell", command=["echo", "\x1b[2Jhi\nall \u202e", "x" * 500, "END"], _agent="bob")
    await Gate(person).admit(action, policy(ask=["shell"]), lambda _: None)
    [question] = person.asked
    assert question.kind == "permission"
    assert question.prompt.startswith("bob (step) wants to call shell(")
    assert question.prompt.isprintable()
    assert "END" in question.prompt
    assert len(question.prompt) < 300


async def test_the_clock_stops_only_while_a_person_is_asked(call: Call, policy: Make) -> None:
    stopped: list[str] = []

    @contextlib.contextmanager
    def waiting() -> Iterator[None]:
        stopped.append("in")
        yield
        stopped.append("out")

    gate = Gate(AutoApprove())
    await gate.admit(call("echo", message="x"), Policy(), lambda _: None, waiting=waiting)
    assert stopped == []
    await gate.admit(call("shell", command=["ls"]), policy(ask=["shell"]), lambda _: None, waiting=waiting)
    assert stopped == ["in", "out"]


async def test_a_norm_refuses_with_its_own_code(call: Call, policy: Make) -> None:
    said: list[Event] = []
    gate = Gate(AutoApprove(), judges=[Norm()])
    error = await refusal(gate, call("echo", message="x", _agent="bob"), policy(ask=["echo"]), said)
    assert error.code == "NORM_VIOLATED"
    assert exit_code(error.code, ran=True) == 3
    assert [type(event) for event in said] == [PermissionDenied]
    await gate.admit(call("echo", message="x", _agent="eve"), Policy(), said.append)


def test_judges_and_guards_close_the_quick_way(call: Call) -> None:
    echo, shell = call("echo").tool, call("shell").tool
    assert Gate().quick(shell, Policy(), "once")
    assert not Gate(judges=[Norm()]).quick(echo, Policy(), "none")
    guarded = Gate(guards=[Watch(lambda _: ALLOW)])
    assert guarded.quick(echo, Policy(), "none")
    assert not guarded.quick(shell, Policy(), "once")


async def test_a_guard_is_heard_before_the_effect_and_reported(call: Call) -> None:
    said: list[Event] = []
    watch = Watch(lambda _: ALLOW)
    gate = Gate()
    gate.add_guard(watch)
    await gate.admit(call("shell", command="ls"), Policy(), said.append)
    before, after = said
    assert isinstance(before, SafetyPreAction)
    assert isinstance(after, SafetyVerdict)
    assert (after.guard, after.verdict) == ("watch", "allow")


async def test_nothing_is_said_where_no_guard_listens_or_nothing_is_done(call: Call) -> None:
    said: list[Event] = []
    deaf, keen = Watch(lambda _: DENY, wants=False), Watch(lambda _: DENY)
    await Gate(guards=[deaf]).admit(call("shell", command="ls"), Policy(), said.append)
    await Gate(guards=[keen]).admit(call("echo", message="x", _effects="none"), Policy(), said.append)
    assert said == []
    assert keen.seen == 0


def _fails(_: Action) -> Verdict:
    raise RuntimeError("broken guard")


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        (Watch(lambda _: DENY), "denied by the guard 'watch': smells"),
        (Watch(_fails), "broken guard"),
        (Watch(lambda _: ALLOW, delay=5), "no answer from the guard 'watch' in 0.05 s"),
        (Watch(lambda _: Verdict("ask", "", "")), "gave no reason"),
        (Watch(lambda _: {"verdict": "allow"}), "gave no reason"),  # type: ignore[arg-type, return-value]
    ],
)
async def test_a_guard_that_does_not_say_allow_in_time_denies(guard: Watch, words: str, call: Call) -> None:
    said: list[Event] = []
    gate = Gate(AutoApprove(), guards=[Watch(lambda _: ALLOW, name="other"), guard])
    error = await refusal(gate, call("shell", command="ls"), Policy(), said)
    assert error.code == "PERMISSION_DENIED"
    assert words in error.message
    assert [type(event) for event in said] == [SafetyPreAction, SafetyVerdict, SafetyVerdict, PermissionDenied]


async def test_a_guard_is_asked_before_a_person_and_not_about_what_is_denied(call: Call, policy: Make) -> None:
    person, watch = Person(Answer(True, "ann")), Watch(lambda _: DENY)
    gate = Gate(person, guards=[watch])
    await refusal(gate, call("shell", command=["ls"]), policy(ask=["shell"]), [])
    assert (watch.seen, person.asked) == (1, [])
    await refusal(gate, call("shell", command=["ls"]), policy(deny=["shell"]), [])
    assert watch.seen == 1


async def test_cancelling_a_waiting_question_or_review_lets_go_at_once(call: Call, policy: Make) -> None:
    class Never:
        async def ask(self, question: Question) -> Answer | Deferred:
            await asyncio.Event().wait()
            raise AssertionError

    slow = Watch(lambda _: ALLOW, delay=60, timeout=60)
    for gate in (Gate(Never()), Gate(AutoApprove(), guards=[slow])):
        task = asyncio.create_task(
            gate.admit(call("shell", command=["ls"]), policy(ask=["shell"]), lambda _: None), name="admit"
        )
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1


async def test_checked_paths_are_handed_on(call: Call) -> None:
    admission = await Gate().admit(call("file_read", path="./a/../b", _folder="/tmp"), Policy(), lambda _: None)
    assert admission.paths == {"path": "/tmp/b"}


async def test_a_strategy_may_be_forbidden_or_asked_for() -> None:
    said: list[Event] = []
    levels = [("vrooli.yaml:3", {"conversational": "deny", "reasoning": "ask"})]

    async def admit(gate: Gate, strategy: str) -> None:
        await gate.admit_strategy(strategy, levels, execution_id="run", address="talk", emit=said.append)

    for strategy, gate in (("conversational", Gate(AutoApprove())), ("reasoning", Gate())):
        with pytest.raises(VrooliError, match=strategy) as caught:
            await admit(gate, strategy)
        assert caught.value.code == "PERMISSION_DENIED"
        assert caught.value.context["source"] == "vrooli.yaml:3"
    await admit(Gate(AutoApprove()), "reasoning")
    await admit(Gate(), "deterministic")
    assert [type(event) for event in said] == [
        PermissionDenied,
        ApprovalRequested,
        ApprovalDenied,
        PermissionDenied,
        ApprovalRequested,
        ApprovalGranted,
    ]
