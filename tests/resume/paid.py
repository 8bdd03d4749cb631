"""Runs that pay for every call, killed at any event, against an endpoint that counts; a process of its own.

``python -m tests.resume.paid FOLDER KINDS KILLS STEPS`` prints one JSON document: what was wrong, how much was tried.
The endpoint is another process and writes its books before it answers. Lives are forks of one warm process.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import openai

import tests.resume.killer as killer
from tests.ai.server import Answer, endpoint
from vrooli_cli.cli.main import main
from vrooli_cli.journal import open_store
from vrooli_cli.journal.history import history_of

WARM = (openai, killer.WARM)
DEADLINE = 120.0  # seconds of one life, on a busy machine
MARK = re.compile(r"<<(\d+) ([^>]+)>>")
GOAL = re.compile(r"<<run (\d+)>>")

Call = tuple[int, str]
"""Which run, and which call of it: ``s7``, ``s8#1`` for the first turn of a model's step."""


# --- the endpoint ----------------------------------------------------------------------------------------------------


class Till:
    """An endpoint for models and for plain POSTs whose books another process can read."""

    def __init__(self, folder: Path) -> None:
        self.books = folder / "books"
        self.books.touch()
        self._counted, self._read_until = Counter[Call](), 0
        self._refused: set[tuple[str, str]] = set()
        ready, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ready)
            asyncio.run(self._serve(told))
            os._exit(0)
        os.close(told)
        with os.fdopen(ready) as said:
            self.url = said.read()

    def counts(self) -> Counter[Call]:
        """How often each call has arrived."""
        with self.books.open("rb") as books:
            books.seek(self._read_until)
            new = books.read()
        new = new[: new.rfind(b"\n") + 1]
        self._read_until += len(new)
        self._counted.update((run, call) for run, call in map(json.loads, new.splitlines()))
        return Counter(self._counted)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    async def _serve(self, told: int) -> None:
        self._file = os.open(self.books, os.O_WRONLY | os.O_APPEND)
        async with endpoint(self._answer) as server:
            os.write(told, server.url.removesuffix("/v1").encode())
            os.close(told)
            await asyncio.Event().wait()

    def _note(self, run: int, call: str) -> None:
        os.write(self._file, json.dumps([run, call]).encode() + b"\n")

    async def _answer(self, answer: Answer) -> None:
        if not answer.request.path.endswith("/chat/completions"):
            run, _, call = answer.request.path.removeprefix("/pay/").partition("/")
            if call.endswith("flaky") and (run, call) not in self._refused:
                self._refused.add((run, call))
                await answer.json({"error": "not yet"}, status=503)
                return
            self._note(int(run), call)
            await answer.json({"paid": call})
            return
        messages = answer.request.body["messages"]
        text = json.dumps(messages)
        marked, turn = MARK.search(text), sum(one["role"] == "assistant" for one in messages) + 1
        if marked is None:
            run = GOAL.findall(text)[0]
            self._note(int(run), f"plan#{turn}")
            await answer.text(json.dumps(plan(int(run))))
            return
        call = marked[2]
        self._note(int(marked[1]), f"{call}#{turn}")
        if turn == 1 and "turns" in call:
            await answer.calls(("echo", {"message": f"from {call}"}))
        else:
            await answer.text(f"answer to {call}, turn {turn}")


def plan(run: int) -> dict[str, Any]:
    """Twelve tasks in three phases."""
    tasks = [
        {
            "id": f"t{number}",
            "description": f"Do <<{run} task:t{number}/work{'-turns' if number % 3 == 0 else ''}>>",
            "dependencies": [f"t{number - 4}"] if number >= 4 else [],
            "required_capabilities": ["work"],
            "estimated_complexity": 1 + number % 3,
            "priority": "medium",
        }
        for number in range(12)
    ]
    return {"tasks": tasks}


# --- the files -------------------------------------------------------------------------------------------------------


def pay(call: str, **keys: Any) -> dict[str, Any]:
    """A POST that costs."""
    parameters = {"url": f"{{{{ till }}}}/pay/{{{{ number }}}}/{call}", "method": "POST", "json": {"a": 1}}
    return {"tool": "http", "effects": "idempotent", "parameters": parameters, **keys}


def ask(call: str, **keys: Any) -> dict[str, Any]:
    """A model call that costs."""
    return {"prompt": f"<<{{{{ number }}}} {call}>>", **keys}


INPUTS = {"till": {"type": "string"}, "number": {"type": "integer"}}


def fan_out(steps: int) -> dict[str, Any]:
    """Half POSTs, half model calls, some of them with a turn of tools."""
    made = []
    for n in range(steps):
        if n % 2 == 0:
            made.append({"id": f"s{n}", **pay(f"s{n}")})
        elif n % 10 == 1:
            made.append({"id": f"turns{n}", **ask(f"turns{n}", tools=["echo"])})
        else:
            made.append({"id": f"s{n}", **ask(f"s{n}")})
    told = [f"{{{{ steps.{s['id']}.result{'.json.paid' if 'tool' in s else ''} }}}}" for s in made]
    join = {"id": "join", "tool": "echo", "parameters": {"message": told}}
    return {"inputs": INPUTS, "steps": [*made, join], "outputs": {"all": "{{ steps.join.result }}"}}


def once(steps: int) -> dict[str, Any]:
    """POSTs that must not happen twice whatever becomes of them."""
    made = [{"id": f"s{n}", **pay(f"s{n}", effects="once")} for n in range(steps)]
    told = [f"{{{{ steps.s{n}.status }}}}" for n in range(steps)]
    join = {"id": "join", "tool": "echo", "parameters": {"message": told}}
    return {"inputs": INPUTS, "steps": [*made, join], "outputs": {"all": "{{ steps.join.result }}"}}


def nested(steps: int) -> dict[str, Any]:
    """Loops in loops, a repeat, a child routine, a handler, variables and the blackboard."""
    wide = max(2, round((steps / 5) ** 0.5))
    inner = {
        "id": "inner",
        "for_each": {"items": list(range(wide)), "as": "n"},
        **pay("outer[{{ item }}]/inner[{{ n }}]"),
    }
    poll = {
        "id": "poll",
        "repeat": {"until": "iteration >= 3", "max": 5},
        **ask("outer[{{ item }}]/poll[{{ iteration }}]"),
    }
    given = {"till": "{{ till }}", "number": "{{ number }}", "name": "outer[{{ item }}]/child"}
    child = {"id": "child", "routine": "child.yaml", "parameters": given}
    first = {"id": "first", **pay("first"), "set": {"seen": 5}, "export": {"k": "{{ result.json.paid }}"}}
    outer = {
        "id": "outer",
        "for_each": {"items": [f"i{n}" for n in range(wide)], "key": "{{ item }}", "max_concurrent": 3},
        "depends_on": ["first"],
        "parallel": [inner, poll, child],
    }
    kept = "{{ [steps.outer.result | string | replace('date', ''), blackboard.k] }}"
    last = {"id": "last", "depends_on": ["outer"], "tool": "echo", "parameters": {"message": kept}}
    parts = "{{ steps.outer.result | length }}"
    return {
        "inputs": INPUTS,
        "vars": {"seen": 0},
        "steps": [first, outer, last],
        "handlers": {"finally": [{"id": "end", **pay("handlers.finally/end")}]},
        "outputs": {"all": "{{ steps.last.result | length }}", "seen": "{{ vars.seen }}", "parts": parts},
    }


def gates(steps: int) -> dict[str, Any]:
    """Approvals, retries of what is refused at first, steps that may fail, a handler."""
    made: list[dict[str, Any]] = []
    for n in range(max(1, steps // 6)):
        before = [f"b{n - 1}"] if n else []
        retry = {"max_attempts": 4, "delay": "5ms", "backoff": 1}
        made += [
            {"id": f"g{n}", "approval": f"Part {n}?", "depends_on": before},
            {"id": f"a{n}", **pay(f"a{n}"), "depends_on": [f"g{n}"]},
            {"id": f"r{n}flaky", **pay(f"r{n}flaky"), "retry": retry, "depends_on": [f"g{n}"]},
            {"id": f"m{n}", **ask(f"m{n}-turns", tools=["echo"]), "depends_on": [f"g{n}"]},
            {"id": f"f{n}", "tool": "fail", "on_error": "continue", "depends_on": [f"g{n}"]},
            {"id": f"b{n}", **pay(f"b{n}"), "depends_on": [f"a{n}", f"r{n}flaky", f"m{n}", f"f{n}"]},
        ]
    told = [f"{{{{ steps.{one['id']}.status }}}}" for one in made]
    join = {"id": "join", "depends_on": [made[-1]["id"]], "tool": "echo", "parameters": {"message": told}}
    handlers = {"success": [{"id": "yes", **pay("handlers.success/yes")}]}
    outputs = {"all": "{{ steps.join.result }}"}
    return {"inputs": INPUTS, "steps": [*made, join], "handlers": handlers, "outputs": outputs}


CHILD = {
    "name": "child",
    "inputs": {**INPUTS, "name": {"type": "string"}},
    "steps": [
        {"id": "a", **pay("{{ name }}/a")},
        {"id": "b", "depends_on": ["a"], **ask("{{ name }}/b-turns", tools=["echo"])},
    ],
    "outputs": {"b": "{{ steps.b.result }}", "a": "{{ steps.a.result.json.paid }}"},
}


def swarm(steps: int) -> dict[str, Any]:
    """A goal that a model divides, twelve tasks of two agents, a last word."""
    agent = {"capabilities": ["work"], "max_concurrent_tasks": 2, "tools": ["echo"]}
    return {
        "goal": "Reach <<run {{ number }}>>",
        "inputs": INPUTS,
        "agents": [{"id": "one", **agent}, {"id": "two", **agent}],
        "synthesis": {"prompt": "<<{{ number }} synthesis>> {{ tasks }}"},
        "outputs": {"word": "{{ synthesis }}", **{f"t{n}": f"{{{{ tasks.t{n}.result }}}}" for n in range(12)}},
    }


FILES: dict[str, Callable[[int], dict[str, Any]]] = {
    "fan-out": fan_out,
    "once": once,
    "nested": nested,
    "gates": gates,
    "swarm": swarm,
}


# --- the lives -------------------------------------------------------------------------------------------------------


class Life:
    """One process, whose events we read as they come, and which we may end.

    Attributes:
        seen: The lines that it said.
        code: Its exit code, negative for the signal that ended it.
    """

    def __init__(self, argv: list[str], errors: Path, end: Callable[[int, int, float], int] | None = None) -> None:
        """``end`` gets the pid, the number of lines so far and the age; the signal it sends, or 0."""
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            os.dup2(write, 1)
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os._exit(main(argv))
        os.close(write)
        self.lines: list[bytes] = []
        self.late = False
        self._read(read, end)
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, read: int, end: Callable[[int, int, float], int] | None) -> None:
        import select

        began, kept = time.monotonic(), b""
        while True:
            age = time.monotonic() - began
            if end is not None and (sent := end(self.pid, len(self.lines), age)):
                os.kill(self.pid, sent)
                if sent == signal.SIGKILL:
                    end = None
            if age > DEADLINE:
                self.late = True
                os.kill(self.pid, signal.SIGKILL)
            if not select.select([read], [], [], 0.002 if end is not None else 1)[0]:
                continue
            data = os.read(read, 65536)
            if not data:
                break
            *whole, kept = (kept + data).split(b"\n")
            self.lines += whole
        os.close(read)

    @property
    def result(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.lines[-1])
        return told


def after_lines(number: int, sent: int = signal.SIGKILL) -> Callable[[int, int, float], int]:
    """A signal as soon as so many events were told."""
    done = False

    def end(pid: int, lines: int, age: float) -> int:
        nonlocal done
        if lines < number or done:
            return 0
        done = True
        return sent

    return end


def after_seconds(seconds: float, sent: int = signal.SIGKILL) -> Callable[[int, int, float], int]:
    """A signal at a moment."""
    done = False

    def end(pid: int, lines: int, age: float) -> int:
        nonlocal done
        if age < seconds or done:
            return 0
        done = True
        return sent

    return end


class Counting:
    """Cuts runs of one file and compares with the books of the endpoint."""

    def __init__(self, folder: Path, kind: str, steps: int) -> None:
        self.folder, self.kind = folder, kind
        self.till = Till(folder)
        self.file = folder / "r.yaml"
        models = {"default": {"model": "m", "base_url": f"{self.till.url}/v1", "price": {"input": 1, "output": 2}}}
        allow = {"permissions": {"allow": ["http", "echo"]}}
        made = {"name": kind, "models": models, **allow, **FILES[kind](steps)}
        made.setdefault("allocation", {"max_concurrent_steps": 8})
        self.file.write_text(json.dumps(made))
        (folder / "child.yaml").write_text(json.dumps({**CHILD, "models": models, **allow}))
        self.store = folder / "journal.db"
        self.flags = ["--store", str(self.store), "--view", "none", "-o", "ndjson", "--no-input"]
        self.random = random.Random(7)
        self.wrong: list[str] = []
        self.lives = self.killed = self.calls_again = 0

    def life(self, argv: list[str], number: int, end: Callable[[int, int, float], int] | None = None) -> Life:
        self.lives += 1
        life = Life([*argv, *self.flags], self.folder / f"err{number}", end)
        if life.late:
            self.wrong.append(f"run {number}: {argv[0]} took more than {DEADLINE} s")
        return life

    def start(self, number: int) -> list[str]:
        asks = number % 2 and self.kind == "gates"
        said = [] if asks else ["--yes"]  # where nobody is asked, a life goes through every part
        return ["run", str(self.file), "-i", f"till={self.till.url}", "-i", f"number={number}", *said]

    def uncut(self) -> None:
        began = time.monotonic()
        life = self.life(self.start(0), 0)
        self.seconds = time.monotonic() - began
        if life.code != 0:
            raise RuntimeError((self.folder / "err0").read_text() + repr(life.lines[-1:]))
        self.events = len(life.lines)
        self.expected = json.dumps(life.result["result"])
        self.steps_end = {name: step["status"] for name, step in life.result["steps"].items()}
        if [count for count in self.till.counts().values() if count != 1]:
            self.wrong.append("the uncut run calls twice")
        self.calls = sum(run == 0 for run, _ in self.till.counts())

    def completed(self, run: str) -> set[str]:
        """The calls that the journal knows the answer of."""
        with closing(open_store(self.store)) as store:
            history = history_of(store, run)
            calls = {f"{one.address}#{one.turn}" for one in history.calls}
            return calls | {s.address for s in history.steps.values() if s.status == "completed"}

    def check(self, number: int, done: Counter[Call]) -> None:
        counts = self.till.counts()
        for call, count in done.items():
            if counts[call] != count and not call[1].startswith("handlers."):  # a stopped run's end, and its real one
                self.wrong.append(f"run {number}: {call[1]} had completed and was made again")

    def books_of(self, number: int, run: str) -> Counter[Call]:
        """How often the completed calls were made until now."""
        known, counts = self.completed(run), self.till.counts()
        return Counter({at: n for at, n in counts.items() if at[0] == number and names(at[1]) & known})

    def cut(self, number: int, end: Callable[[int, int, float], int] | None, again: bool) -> None:
        life = self.life(self.start(number), number, end)
        run, done = "", Counter[Call]()
        for _ in range(60):
            self.check(number, done)
            if life.code == 0 or life.late:
                break
            if life.code in (-signal.SIGKILL, 130, 143, 5):
                self.killed += life.code != 5
            else:
                self.wrong.append(f"run {number}: exit {life.code}: {self.told(number)}")
                return
            run = run or self.find(number)
            if not run:  # it died before it began: nothing was told, nothing may have been paid
                if any(at[0] == number for at in self.till.counts()):
                    self.wrong.append(f"run {number}: paid before it was in the journal")
                life = self.life(self.start(number), number)
                continue
            done = self.books_of(number, run)
            assume = self.assumptions(number, life) if life.code == 5 else []
            later = after_lines(self.random.randrange(1, 60)) if again and not assume else None
            again = again and self.random.random() < 0.5
            life = self.life(["resume", run, *assume], number, later)
        self.check_end(number, life)

    def check_end(self, number: int, life: Life) -> None:
        """The same result as the uncut run, and every call made."""
        if life.code != 0:
            self.wrong.append(f"run {number}: exit {life.code}: {self.told(number)}")
            return
        result = life.result
        if json.dumps(result["result"]) != self.expected:
            self.wrong.append(f"run {number}: another result: {json.dumps(result['result'])[:300]}")
        if {n for n, s in result["steps"].items() if s["status"] != self.steps_end[n]}:
            self.wrong.append(f"run {number}: steps that ended otherwise")
        counts = {at: n for at, n in self.till.counts().items() if at[0] == number}
        if len(counts) != self.calls:
            self.wrong.append(f"run {number}: {len(counts)} calls, not {self.calls}")
        self.calls_again += sum(counts.values()) - len(counts)
        if self.kind == "once" and sum(counts.values()) != len(counts):
            self.wrong.append(f"run {number}: a call that must happen once happened again")

    def told(self, number: int) -> str:
        return (self.folder / f"err{number}").read_text()[:500]

    def find(self, number: int) -> str:
        with closing(open_store(self.store)) as store:
            for record in store.runs(limit=3):
                _, whole = store.find(record.id)
                if (whole.inputs or {}).get("number") == number:
                    return record.id
        return ""

    def approve(self, number: int, run: str, step: str) -> None:
        """A word from another process."""
        self.lives += 1
        life = Life(["approve", run, step, "--store", str(self.store)], self.folder / f"err{number}")
        if life.code != 0:
            self.wrong.append(f"run {number}: approve {step}: exit {life.code}: {self.told(number)}")

    def assumptions(self, number: int, life: Life) -> list[str]:
        """For steps whose outcome nobody knows, what the endpoint knows; what waits for an approval gets it."""
        counts, words = self.till.counts(), []
        for name, step in life.result["steps"].items():
            if step["status"] == "suspended" and step["reason"] == "APPROVAL_REQUIRED":
                self.approve(number, life.result["context"]["execution_id"], name)
            elif step["status"] == "suspended":
                words += ["--assume", f"{name}={'done' if counts[number, name] else 'rerun'}"]
        return words


def names(call: str) -> set[str]:
    """The addresses that a call of the books may have in the journal."""
    base = call.replace("-turns", "")
    step, _, turn = base.partition("#")
    if not turn:
        return {base, *iteration(step, "")}
    return {base, *iteration(step, f"#{turn}")}


def iteration(step: str, turn: str) -> set[str]:
    """``poll[2]`` of the files above is the turn ``poll#2`` of a repeated step."""
    found = re.fullmatch(r"(.*/poll)\[(\d+)\]", step)
    return {f"{found[1]}#{found[2]}{turn}"} if found else set()


def cut_everywhere(folder: Path, kind: str, kills: int, steps: int) -> dict[str, Any]:
    """Runs of one kind, killed after every event in turn, and at random moments, and stopped by signals."""
    counting = Counting(folder, kind, steps)
    try:
        counting.uncut()
        pick = counting.random
        for number in range(1, kills + 1):
            way = number % 8
            if way == 3:
                end = after_seconds(pick.random() * counting.seconds)
            elif way == 2:
                end = after_lines(pick.randrange(1, counting.events), pick.choice([signal.SIGTERM, signal.SIGINT]))
            else:
                end = after_lines(1 + (number - 1) * counting.events // kills)
            counting.cut(number, end, again=number % 3 == 1 or kind == "gates")
            if kills > 50 and number % 50 == 0:
                sys.stderr.write(f"{kind}: {number} of {kills}, wrong: {counting.wrong}\n")
    finally:
        counting.till.close()
    told = {name: getattr(counting, name) for name in ("wrong", "killed", "lives", "events", "calls", "calls_again")}
    return {**told, "seconds": round(counting.seconds, 2)}


def all_kinds(folder: Path, kinds: list[str], kills: int, steps: int) -> dict[str, Any]:
    """What came of each kind."""
    told = {}
    for kind in kinds:
        (folder / kind).mkdir()
        told[kind] = cut_everywhere(folder / kind, kind, kills, steps)
    return told


if __name__ == "__main__":
    made = all_kinds(Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4]))
    sys.stdout.write(json.dumps(made, indent=1))
