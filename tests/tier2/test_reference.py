"""Random routines on the machine, against the slow and simple reference, and resumed wherever their process dies."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection
from random import Random
from typing import Any

from tests.tier2.reference import Loop, Reference, Spec, chance
from tests.tier2.simulate import World, failure, plan_of, step
from vrooli_cli.model import events as e
from vrooli_cli.model.routine import ChildRoutine, ForEach, Group, OnError, Routine, Step
from vrooli_cli.model.run import RetryPolicy
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.state import Node
from vrooli_cli.tier2.stimuli import Answered, CancelRequested
from vrooli_cli.tier3.scope import Outcome

RULES = ("none_failed", "none_failed", "none_failed", "all_succeeded", "all_done", "any_failed", "any_succeeded")
VERDICTS = {
    e.StepCompleted: "completed",
    e.StepFailed: "failed",
    e.StepSkipped: "skipped",
    e.StepCancelled: "cancelled",
}


def routine(chance: Random, depth: int = 0, prefix: str = "s", most: int = 7) -> tuple[Spec, ...]:
    """Up to seven steps, two levels of groups, child routines and loops below them."""
    made: list[Spec] = []
    pick = chance.choice
    for number in range(chance.randint(1, most)):
        name = f"{prefix}{number}"
        kind = pick(("leaf", "leaf", "group", "child")) if depth < 2 else "leaf"
        parents = tuple(sorted(chance.sample(range(number), min(number, chance.randint(0, 3)))))
        loop = None
        if chance.random() < 0.25:
            loop = Loop(chance.randint(0, 4), pick((None, 1, 2)), pick((True, False)))
        made.append(
            Spec(
                id=name,
                kind=kind,  # type: ignore[arg-type]
                parents=parents,
                rule=pick(RULES) if parents else "none_failed",
                when=chance.random() < 0.85,
                on_error=pick(("fail", "fail", "continue", "recover")),
                fails=pick((0, 0, 30, 70)),
                attempts=pick((1, 1, 2, 3)),
                delay=pick((0, 1, 200_001)),
                timeout=pick((None, None, chance.randint(1, 2_000_000))) if kind != "leaf" else None,
                loop=loop,
                inside=routine(chance, depth + 1, f"{name}_", 4) if kind != "leaf" else (),
            )
        )
    return tuple(made)


def built(specs: tuple[Spec, ...], guarded: Collection[str] = ()) -> Any:
    """The plan of random steps; those that are ``guarded`` need an approval."""
    children: dict[str, Routine] = {}
    return plan_of(_steps(specs, children, guarded), children=children)


def _steps(specs: tuple[Spec, ...], children: dict[str, Routine], guarded: Collection[str]) -> list[Step]:
    return [_step(spec, specs, children, guarded) for spec in specs]


def _step(spec: Spec, beside: tuple[Spec, ...], children: dict[str, Routine], guarded: Collection[str]) -> Step:
    keys: dict[str, Any] = {
        "after": tuple(beside[index].id for index in spec.parents),
        "trigger_rule": spec.rule,
        "when": spec.when,
        "has_when": True,
        "on_error": OnError(spec.on_error, 0),  # type: ignore[arg-type]
        "timeout_ms": spec.timeout,
        "approval_required": spec.id in guarded,
    }
    if spec.attempts > 1:
        keys["retry"] = RetryPolicy(
            max_attempts=spec.attempts, delay_ms=spec.delay, backoff=1, jitter=0, max_delay_ms=10**9
        )
    if spec.loop is not None:
        items = list(range(spec.loop.count))
        keys["for_each"] = ForEach(items, max_concurrent=spec.loop.at_once, fail_fast=spec.loop.fail_fast)
    if spec.kind == "leaf":
        return step(spec.id, **keys)
    if spec.kind == "group":
        return Step(
            id=spec.id, action=Group(tuple(_steps(spec.inside, children, guarded))), pointer=("steps", spec.id), **keys
        )
    name = f"routine-{spec.id}"
    children[name] = Routine(name=name, key=name, steps=tuple(_steps(spec.inside, children, guarded)))
    return Step(id=spec.id, action=ChildRoutine(name, name, {}), pointer=("steps", spec.id), **keys)


def leaves(specs: tuple[Spec, ...]) -> dict[str, Spec]:
    """Id → leaf; ids are unique in the whole tree."""
    found: dict[str, Spec] = {}
    for spec in specs:
        found |= leaves(spec.inside) if spec.inside else {spec.id: spec}
    return found


def world_of(
    specs: tuple[Spec, ...], seed: int, *, keep_going: bool, slots: int = 1000, guarded: Collection[str] = ()
) -> World:
    """The machine with a script that says what :func:`chance` says."""
    known = leaves(specs)

    def script(node: Node, address: str, attempt: int) -> tuple[Outcome, int]:
        number, ms = chance(seed, address, attempt)
        bad = number < known[node.plan.step.id].fails
        return (failure() if bad else Outcome(result=address)), ms

    return World(built(specs, guarded), script, MachineOptions(keep_going=keep_going, max_concurrent=slots))


def ends_of(world: World) -> dict[str, str]:
    """Address → the last verdict there."""
    return {x.step_id: VERDICTS[type(x)] for x in world.log if type(x) in VERDICTS}  # type: ignore[attr-defined]


SEEDS = range(int(os.environ.get("VROOLI_RANDOM_ROUTINES", "150")))
"""Random routines of each test; every one has its own number, which a failure names."""


def test_the_machine_does_what_the_reference_does() -> None:
    for seed in SEEDS:
        specs, keep_going = routine(Random(seed)), seed % 2 == 0
        world = world_of(specs, seed, keep_going=keep_going).run()
        said = Reference(specs, seed, keep_going=keep_going).run()
        assert ends_of(world) == said.ends, seed
        assert Counter(address for address, _ in world.started) == said.starts, seed
        assert world.status == said.status, seed


def test_a_cancel_at_any_moment_ends_as_in_the_reference() -> None:
    for seed in SEEDS:
        specs, keep_going, when = routine(Random(seed)), seed % 2 == 0, Random(seed).randint(1, 3_000_000)
        world = world_of(specs, seed, keep_going=keep_going)
        world.push(CancelRequested(0, "user"), when)
        world.run()
        said = Reference(specs, seed, keep_going=keep_going, cancel_at=when).run()
        assert ends_of(world) == said.ends, seed
        assert world.status == said.status, seed


def test_few_slots_are_never_exceeded_and_no_attempt_is_made_twice() -> None:
    for seed in SEEDS:
        slots = 1 + seed % 4
        world = world_of(routine(Random(seed)), seed, keep_going=True, slots=slots).run()
        assert world.peak <= slots, seed
        assert len(set(world.started)) == len(world.started), seed


def test_a_run_that_completes_ends_with_the_same_bytes_wherever_its_process_dies() -> None:
    for seed in SEEDS:
        chance = Random(seed)
        whole = world_of(routine(chance), seed, keep_going=False).run()
        cut = chance.choice([0, *whole.turns])
        again = whole.resumed_at(cut)
        twice = again.resumed_at(chance.choice([cut, *again.turns]))
        assert twice.status in ("completed", "failed"), seed
        if whole.status == "completed" and not _raced(whole):
            assert (again.status, told(again)) == ("completed", told(whole)), (seed, cut)
            assert (twice.status, told(twice)) == ("completed", told(whole)), (seed, cut)
            done = {x.step_id for x in whole.log[:cut] if isinstance(x, e.StepCompleted)}
            assert not {address for address, _ in again.started} & (done - _retried(whole, cut)), (seed, cut)


def test_a_suspended_run_ends_like_one_with_a_person_at_hand() -> None:
    for seed in SEEDS:
        specs = routine(Random(seed))
        guarded = {name for number, name in enumerate(sorted(leaves(specs))) if (number + seed) % 3 == 0}
        asked = world_of(specs, seed, keep_going=False, guarded=guarded)
        asked.everyone = True
        asked.run()
        alone = world_of(specs, seed, keep_going=False, guarded=guarded).run()
        for _ in range(100):
            if alone.status != "suspended":
                break
            answers = {name: Answered(0, name, True, "somebody") for name in alone.machine.suspended}
            assert answers, seed
            alone = alone.resumed_at(len(alone.log), answers=answers)
        assert alone.status in ("completed", "failed"), seed
        if asked.status == "completed" and not _raced(asked) and not _raced(alone):
            assert (alone.status, told(alone)) == ("completed", told(asked)), seed


def test_a_cancelled_run_can_go_on() -> None:
    for seed in SEEDS:
        chance = Random(seed)
        specs = routine(chance)
        stopped = world_of(specs, seed, keep_going=False)
        stopped.push(CancelRequested(0, "user"), chance.randint(1, 2_000_000))
        stopped.run()
        cut = chance.choice([0, *stopped.turns])
        again = stopped.resumed_at(cut)
        assert again.status in ("completed", "failed"), seed
        done = {x.step_id for x in stopped.log[:cut] if isinstance(x, e.StepCompleted)}
        if not any(isinstance(x, e.StepFailed | e.StepRetrying) for x in again.log):
            assert not {address for address, _ in again.started} & done, seed


def _raced(world: World) -> bool:
    """Another end is right after a cut: a time-out begins anew, and what failed without being taken is tried again."""
    timed = [x for x in world.log if isinstance(x, e.StepFailed | e.StepRetrying | e.StepCompleted) and x.error]
    late = any((x.error or {}).get("code") == "STEP_TIMEOUT" for x in timed)
    return late or any(isinstance(x, e.StepFailed) and not x.continued for x in world.log)


def _retried(world: World, cut: int) -> set[str]:
    """Everything inside a composite that is tried again: its parts are made again."""
    tops = [x.step_id for x in world.log if isinstance(x, e.StepRetrying)]
    done = {x.step_id for x in world.log[:cut] if isinstance(x, e.StepCompleted)}
    return {name for name in done if any(name.startswith(f"{top}/") for top in tops)}


def told(world: World) -> str:
    """All that a resumed run must agree on with the uncut one."""
    nodes = {node.address: [node.status.value, node.result, node.continued] for node in world.machine.root.nodes}
    return json.dumps([world.machine.result, nodes], sort_keys=True)
