"""Random routines over many lives: they fail, are cancelled and die anywhere, and go on until they have completed.

Groups, loops, child routines, repeats, retries, approvals and handlers in each other; every third step pays. Whatever
happens, no place pays twice, the log says all that the machine knew, and a run that nothing hinders any more completes.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import Any

from tests.tier2.reference import chance
from tests.tier2.simulate import World, failure, plan_of, step
from vrooli_cli.model import events as e
from vrooli_cli.model.routine import Approval, ChildRoutine, ForEach, Group, OnError, Prompt, Repeat, Routine, Step
from vrooli_cli.model.run import ExecutionStrategy, RetryPolicy
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.instructions import StartAttempt
from vrooli_cli.tier2.machine import RunMachine
from vrooli_cli.tier2.plan import RoutinePlan
from vrooli_cli.tier2.state import Frame, Node
from vrooli_cli.tier2.stimuli import Answered, AttemptEnded, CancelRequested, Resumed, RunStarted, Stimulus
from vrooli_cli.tier3.scope import Outcome

SEEDS = range(int(os.environ.get("VROOLI_RANDOM_LIVES", "60")))
RULES = ("none_failed", "none_failed", "all_succeeded", "all_done", "any_failed", "any_succeeded")
HANDLERS = ("success", "failure", "finally")


class Maker:
    """Makes random routines."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._children: dict[str, Routine] = {}

    def plan(self) -> RoutinePlan:
        steps, handlers = self._steps(0, "s", 6), self._handlers(0, "h")
        return plan_of(steps, children=self._children, handlers=handlers)

    def _steps(self, depth: int, prefix: str, most: int) -> tuple[Step, ...]:
        count = self._random.randint(1, most)
        return tuple(self._step(depth, f"{prefix}{n}", [f"{prefix}{m}" for m in range(n)]) for n in range(count))

    def _handlers(self, depth: int, prefix: str) -> dict[str, tuple[Step, ...]]:
        return {
            name: self._steps(max(depth, 1), f"{prefix}{name[0]}", 2)
            for name in HANDLERS
            if self._random.random() < 0.25
        }

    def _step(self, depth: int, name: str, before: list[str]) -> Step:
        random = self._random
        after = tuple(sorted(random.sample(before, min(len(before), random.randint(0, 2)))))
        keys: dict[str, Any] = {
            "after": after,
            "trigger_rule": random.choice(RULES) if after else "none_failed",
            "on_error": OnError(random.choice(("fail", "fail", "fail", "continue", "recover")), 0),
        }
        if random.random() < 0.3:
            delay = random.choice((0, 5))
            keys["retry"] = RetryPolicy(max_attempts=2, delay_ms=delay, jitter=0, written=random.random() < 0.5)
        if random.random() < 0.25:
            limit = random.choice((None, 1, 2))
            keys["for_each"] = ForEach(
                list(range(random.randint(0, 3))), max_concurrent=limit, fail_fast=random.random() < 0.5
            )
        elif random.random() < 0.15:
            keys["repeat"] = Repeat("iteration >= 2", max=3, delay_ms=random.choice((0, 5)))
        kind = random.choice(("leaf", "leaf", "group", "child")) if depth < 3 else "leaf"
        if kind == "leaf":
            return self._leaf(name, keys)
        inside = self._steps(depth + 1, f"{name}_", 3)
        if kind == "group":
            return Step(id=name, action=Group(inside), pointer=("steps", name), **keys)
        target = f"routine-{name}"
        handlers = self._handlers(depth + 1, f"{name}_")
        self._children[target] = Routine(name=target, key=target, steps=inside, handlers=handlers)
        return Step(id=name, action=ChildRoutine(target, target, {}), pointer=("steps", name), **keys)

    def _leaf(self, name: str, keys: dict[str, Any]) -> Step:
        kind = self._random.choice(("echo",) * 6 + ("pay",) * 4 + ("approval", "prompt"))
        if kind in ("echo", "pay"):
            return step(name, tool=kind, **keys)
        keys.pop("retry", None)  # one written there would be consent
        if kind == "approval":
            return Step(id=name, action=Approval("Sure?"), pointer=("steps", name), **keys)
        talk = Prompt("Pay.", tools=("pay",))
        return Step(id=name, action=talk, strategy=ExecutionStrategy.REASONING, pointer=("steps", name), **keys)


def pays(node: Node) -> bool:
    """True for a step that pays; a conversation with a model does it by a call of its own."""
    return node.plan.label == "pay" or node.plan.kind == "prompt"


def call_of(node: Node) -> str | None:
    """The model's name of its call."""
    return "call" if node.plan.kind == "prompt" else None


class Life(World):
    """A world in which tools that pay say when they are called and when they have answered, as tier 3 does.

    Attributes:
        paid: What really happened: (how long the log was, address).
    """

    paid: list[tuple[int, str]]

    def _perform(self, order: Any) -> None:
        if isinstance(order, StartAttempt) and pays(order.node):
            self._say(
                e.ToolCalled(
                    execution_id="run",
                    step_id=order.address,
                    attempt=order.attempt,
                    tool_name="pay",
                    effects="once",
                    call_id=call_of(order.node),
                )
            )
        super()._perform(order)

    def _tell(self, stimulus: Stimulus) -> None:
        node = self.machine.running.get(stimulus.address) if isinstance(stimulus, AttemptEnded) else None
        if isinstance(stimulus, AttemptEnded) and node is not None and pays(node) and node.attempt == stimulus.attempt:
            error = stimulus.outcome.error
            refused = error is not None and error.code == "AI_REFUSED"
            told = error.wire() if error is not None and not refused else None
            self._say(
                e.ToolReturned(
                    execution_id="run",
                    step_id=stimulus.address,
                    attempt=stimulus.attempt,
                    tool_name="pay",
                    duration_ms=1,
                    success=not told,
                    error=told,
                    call_id=call_of(node),
                )
            )
        super()._tell(stimulus)

    def remembers(self, address: str) -> bool:
        """Whether a conversation that has paid goes on: the journal has its answers, unless it came to its own end."""
        ends = [x for x in self.log if isinstance(x, e.ExecutionFailed) and x.step_id == address]
        over = bool(ends) and ends[-1].error["code"] == "AI_REFUSED"
        return not over and any(one[1] == address for one in self.paid)

    def _say(self, fact: e.Event) -> None:
        self.machine.evolve(fact, self.now)
        self.log.append(fact)
        self.times.append(self.now)
        self.turns.append(len(self.log))

    def next(self, number: int, seed: int, cut: int, cancel_at: int | None) -> Life:
        """The life after this one, whose process died after ``cut`` events."""
        life = life_of(self.plan, self.options, seed, number)
        life.now = (self.times[cut - 1] if cut else self.now) + 5_000_000
        for event, at in zip(self.log[:cut], self.times[:cut], strict=True):
            life.machine.evolve(event, at)
        life.log, life.times = self.log[:cut], self.times[:cut]
        life.paid = [one for one in self.paid if one[0] <= cut]
        if cancel_at is not None:
            life.push(CancelRequested(0, "user"), cancel_at)
        life.run(self._word(cut == len(self.log)) if cut else RunStarted(0))
        return life

    def _word(self, answers: bool) -> Resumed:
        """What a person says who knows what has been paid."""
        waiting = self.machine.suspended if answers else {}
        paid = {address for _, address in self.paid}
        asked = [name for name, node in waiting.items() if node.reason != "OUTCOME_UNKNOWN"]
        unknown = {name: node for name, node in waiting.items() if node.reason == "OUTCOME_UNKNOWN"}
        return Resumed(
            0,
            assume={name: "done" if paid & {name, node.here} else "rerun" for name, node in unknown.items()},
            answers={name: Answered(0, name, True, "somebody") for name in asked},
        )


def life_of(plan: RoutinePlan, options: MachineOptions, seed: int, number: int) -> Life:
    """A life in which steps fail by chance, unless three were before it; what does not fail pays when it is called."""

    def script(node: Node, address: str, attempt: int) -> tuple[Outcome, int]:
        drawn, ms = chance(seed, f"{number}:{address}", attempt)
        answered = node.plan.kind == "prompt" and life.remembers(address)
        if number < 4 and drawn < 25:
            return Outcome(error=failure().error, effects="once" if answered else "none"), 1 + ms % 20
        if not pays(node):
            return Outcome(result=address), 1 + ms % 20
        if not answered:
            life.paid.append((len(life.log), address))
        refused = number < 4 and drawn < 40 and node.plan.kind == "prompt"
        return Outcome(address, failure("AI_REFUSED").error if refused else None, "once"), 1 + ms % 20

    life = Life(plan, script, options)
    life.paid = []
    return life


def known(machine: RunMachine) -> dict[str, Any]:
    """All that a machine knows of its steps, by address."""
    root = machine.root
    found: dict[str, Any] = {"": (machine.status, machine.error, machine.result)}

    def look(frame: Frame) -> None:
        for node in [*frame.nodes, *(node for handler in frame.handlers.values() for node in handler.nodes)]:
            see(node)

    def see(node: Node) -> None:
        facts = node.status, node.attempt, node.first, node.turn, node.result, node.error, node.unknown, node.effects
        found[node.address] = facts
        if node.inside is not None:
            look(node.inside)
        for child in node.loop.children.values() if node.loop is not None else ():
            see(child)

    look(root)
    return found


def check_log(life: Life, seed: int) -> None:
    """The log says all that the machine knew."""
    folded = RunMachine(life.plan, "run", {}, life.options)
    for event, at in zip(life.log, life.times, strict=True):
        folded.evolve(event, at)
    said, knew = known(folded), known(life.machine)
    other = {name: (said.get(name), knew.get(name)) for name in said | knew if said.get(name) != knew.get(name)}
    assert not other, seed


def test_a_run_of_many_lives_completes_and_pays_nothing_twice() -> None:
    for seed in SEEDS:
        random = Random(seed)
        options = MachineOptions(keep_going=random.random() < 0.3, max_concurrent=random.choice((1, 3, 100)))
        life = life_of(Maker(seed).plan(), options, seed, 1)
        if random.random() < 0.3:
            life.push(CancelRequested(0, "user"), random.randint(1, 60))
        life.run()
        for number in range(2, 100):
            check_log(life, seed)
            if life.status == "completed":
                break
            dies = number < 4 and random.random() < 0.5
            cut = random.choice(life.turns) if dies and life.turns else len(life.log)
            cancel_at = random.randint(1, 60) if number < 4 and random.random() < 0.3 else None
            life = life.next(number, seed, cut, cancel_at)
        assert life.status == "completed", (seed, life.machine.error)
        paid = Counter(address for _, address in life.paid if "handlers." not in address)
        assert not [address for address, times in paid.items() if times > 1], seed
