"""What the specification says of a routine, as slowly and simply as it can be said: a second machine, for comparison.

It knows nothing of events, heaps, counters or resume. At every moment of its time it looks at every step of the whole
tree, again and again, until nothing changes; then it goes to the next moment at which something ends. It shares with
the real machine only the random routines (:class:`Spec`) and the outcomes of attempts (:func:`chance`).
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["", "completed", "failed", "taken", "skipped", "left out", "cancelled"]
"""``taken`` failed and ``on_error: continue`` took it; ``left out`` was skipped because of a failure above it."""

CLEANING = ("all_done", "any_failed")


@dataclass(frozen=True)
class Loop:
    """A ``for_each`` over ``range(count)``."""

    count: int
    at_once: int | None
    fail_fast: bool


@dataclass(frozen=True)
class Spec:
    """One random step.

    Attributes:
        fails: Of 100 attempts, how many fail; for what has no inside.
        attempts, delay: Of ``retry``; 1 attempt is none.
        timeout: Milliseconds; for a group or a routine.
    """

    id: str
    kind: Literal["leaf", "group", "child"] = "leaf"
    parents: tuple[int, ...] = ()
    rule: str = "none_failed"
    when: bool = True
    on_error: str = "fail"
    fails: int = 0
    attempts: int = 1
    delay: int = 0
    timeout: int | None = None
    loop: Loop | None = None
    inside: tuple[Spec, ...] = ()


def chance(seed: int, address: str, attempt: int) -> tuple[int, int]:
    """The fate of an attempt: a number below 100 (under ``fails`` it fails), and how many milliseconds it takes."""
    number = zlib.crc32(f"{seed}/{address}/{attempt}".encode())
    return number % 100, 1 + zlib.crc32(f"{address}*{seed}*{attempt}".encode()) % 1_000_000


@dataclass
class Graph:
    """Steps side by side."""

    world: Reference
    prefix: str
    owner: One | None
    specs: tuple[Spec, ...]
    stopping: bool = False
    halt: str = ""  # "soft": nothing starts; "cancel", "timeout": what runs is stopped, too
    steps: list[One] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.steps = [One(self, spec, self.prefix + spec.id) for spec in self.specs]

    def below_a_failure(self, step: One) -> bool:
        parents = [self.steps[index] for index in step.spec.parents]
        return any(parent.verdict == "failed" or self.below_a_failure(parent) for parent in parents)

    def stop(self, how: str) -> None:
        """Nothing starts any more; with another word than "soft", what runs is stopped."""
        if self.halt in ("cancel", "timeout") or (self.halt and how == "soft"):
            return
        self.halt = how
        for step in self.steps:
            step.stop("cancel" if how == "timeout" else how)  # the time is this graph's, not that of what is inside

    @property
    def over(self) -> bool:
        return all(step.verdict for step in self.steps)


@dataclass
class One:
    """A step, or one child of a loop."""

    graph: Graph
    spec: Spec
    address: str
    loop: One | None = None
    verdict: Verdict = ""
    state: str = "pending"  # running, waiting
    tries: int = 0
    at: int | None = None  # when the attempt ends, or the next one begins
    until: int | None = None  # when the time-out comes
    fate: int = 0
    inside: Graph | None = None
    children: list[One] = field(default_factory=list)
    stopped: bool = False

    # -- looking ------------------------------------------------------------------------------------------------------

    def all(self) -> Iterator[One]:
        yield self
        for child in self.children:
            yield from child.all()
        for step in self.inside.steps if self.inside else ():
            yield from step.all()

    @property
    def is_loop(self) -> bool:
        return self.spec.loop is not None and self.loop is None

    @property
    def world(self) -> Reference:
        return self.graph.world

    def look(self) -> bool:
        """Whether something changed."""
        if self.verdict:
            return False
        if self.state == "pending":
            return self.consider()
        if self.is_loop:
            return self.go_round()
        if self.state == "waiting":
            return self.world.now == self.at and self.begin()
        if self.inside is not None:
            return self.look_inside()
        return self.world.now == self.at and self.ended()

    def consider(self) -> bool:
        graph, spec = self.graph, self.spec
        parents = [graph.steps[index].verdict for index in spec.parents]
        if graph.halt:
            return self.end("cancelled")
        cleaning = spec.rule in CLEANING
        if graph.stopping and not cleaning:
            return self.end("left out" if graph.below_a_failure(self) else "cancelled")
        if not all(parents):
            return False
        bad = "failed" in parents or "left out" in parents
        holds = {
            "none_failed": not bad and not (parents and all(said == "skipped" for said in parents)),
            "all_succeeded": all(said == "completed" for said in parents),
            "all_done": True,
            "any_failed": bad or "taken" in parents,
            "any_succeeded": "completed" in parents,
        }[spec.rule]
        if not holds:
            return self.end("left out" if bad else "skipped")
        if graph.stopping and not graph.below_a_failure(self):
            return self.end("cancelled")
        if not spec.when:
            return self.end("left out" if bad or graph.stopping else "skipped")
        return self.begin()

    # -- doing --------------------------------------------------------------------------------------------------------

    def begin(self) -> bool:
        self.state, now = "running", self.world.now
        if self.is_loop:
            return True
        self.tries += 1
        if self.spec.kind == "leaf":
            self.world.starts[self.address] += 1
            self.fate, ms = chance(self.world.seed, self.address, self.world.starts[self.address])
            self.at = now + ms
        else:
            self.inside = Graph(self.world, self.address + "/", self, self.spec.inside)
            self.until = now + self.spec.timeout if self.spec.timeout is not None else None
        return True

    def ended(self) -> bool:
        return self.end("completed") if self.fate >= self.spec.fails else self.failed()

    def look_inside(self) -> bool:
        inside = self.inside
        assert inside is not None
        if self.until == self.world.now and not inside.over:
            inside.stop("timeout")
        if not inside.over:
            return False
        said = [step.verdict for step in inside.steps]
        if inside.halt == "cancel":
            return self.end("cancelled")
        if inside.halt == "timeout" or "failed" in said:
            return self.failed()
        return self.end("cancelled" if inside.halt and "cancelled" in said else "completed")

    def failed(self) -> bool:
        leaving = self.graph.halt or self.graph.stopping or (self.loop is not None and self.loop.stopped)
        if self.tries < self.spec.attempts and not leaving:
            self.state, self.at = "waiting", self.world.now + self.spec.delay
            return True
        return self.end({"fail": "failed", "continue": "taken", "recover": "completed"}[self.spec.on_error])  # type: ignore[arg-type]

    def go_round(self) -> bool:
        loop = self.spec.loop
        assert loop is not None
        said = [child.verdict for child in self.children]
        if "failed" in said and loop.fail_fast and not self.world.keep_going:
            self.stopped = True
        if len(said) < loop.count and not self.stopped and said.count("") < (loop.at_once or loop.count):
            child = One(self.graph, self.spec, f"{self.address}[{len(said)}]", self)
            self.children.append(child)
            return child.begin()
        if "" in said or (len(said) < loop.count and not self.stopped):
            return False
        if "failed" in said:
            return self.end("failed")
        return self.end("cancelled" if len(said) < loop.count or "cancelled" in said else "completed")

    def stop(self, how: str) -> None:
        if self.verdict:
            return
        if self.state != "running":
            self.end("cancelled")
        elif self.is_loop:
            self.stopped = True
            for child in self.children:
                child.stop(how)
        elif self.inside is not None:
            self.inside.stop(how)
        elif how != "soft":
            self.end("cancelled")

    def end(self, verdict: Verdict) -> bool:
        self.verdict = verdict
        self.world.ends[self.address] = "failed" if verdict == "taken" else verdict.replace("left out", "skipped")
        if verdict == "failed" and self.loop is None and not self.world.keep_going and not self.graph.stopping:
            self.graph.stopping = True
            for step in self.graph.steps:
                if step.state == "running":
                    step.stop("soft")
                elif step.state == "waiting" and not step.verdict:
                    step.end("cancelled")
        return True


class Reference:
    """Runs it.

    Attributes:
        ends: Address → the last verdict there.
        starts: Address → attempts.
    """

    def __init__(self, specs: tuple[Spec, ...], seed: int, *, keep_going: bool, cancel_at: int | None = None) -> None:
        self.seed = seed
        self.keep_going = keep_going
        self.now = 0
        self.ends: dict[str, str] = {}
        self.starts: Counter[str] = Counter()
        self._cancel_at = cancel_at
        self._root = Graph(self, "", None, specs)

    def everything(self) -> list[One]:
        return [one for step in self._root.steps for one in step.all()]

    def run(self) -> Reference:
        """To the end."""
        while True:
            if self.now == self._cancel_at:
                self._root.stop("cancel")
            while [one for one in self.everything() if one.look()]:
                pass
            if self._root.over:
                return self
            times = [at for one in self.everything() if not one.verdict for at in (one.at, one.until, self._cancel_at)]
            self.now = min(at for at in times if at is not None and at > self.now)

    @property
    def status(self) -> str:
        """Of the run."""
        if self._root.halt:
            return "cancelled"
        return "failed" if any(step.verdict == "failed" for step in self._root.steps) else "completed"
