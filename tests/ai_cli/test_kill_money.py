"""Paid calls in a fan-out whose process is killed at random: the endpoint's own books are the truth (spec ai.md).

``VROOLI_PAID_KILLS=100`` runs as many rounds; the suite runs one.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.ai.server import Answer
from tests.ai_cli.desk import PRICE, VROOLI, Desk, serving

ROUNDS = int(os.environ.get("VROOLI_PAID_KILLS", "1"))
ITEMS = 16


@dataclass
class Counting:
    """An endpoint whose every answer has usage of its own; it refuses now and then, and breaks some answers off.

    Attributes:
        charged: ``(input, output)`` → item, of every answer that it would charge for, whoever has received it.
        asked: Items in the order in which they were asked for.
        kill_at: The number of requests after which ``reached`` is set.
    """

    rng: random.Random
    kill_at: int = 0
    trouble: float = 0.15
    charged: dict[tuple[int, int], int] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, answer: Answer) -> None:
        item = int(re.findall(r"\d+", answer.request.body["messages"][-1]["content"])[0])
        self.asked.append(item)
        if len(self.asked) == self.kill_at:
            self.reached.set()
        if self.rng.random() < self.trouble / 2:
            await answer.error(429, "slow down", {"retry-after-ms": "20"})
            return
        given, made = 20, len(self.asked)
        self.charged[given, made] = item
        await answer.begin()
        await asyncio.sleep(self.rng.uniform(0, 0.05))
        if self.rng.random() < self.trouble / 2:
            return  # it is charged, and nobody learns for how much
        await answer.chunk({"content": f"answer {item}"}, "stop")
        await asyncio.sleep(self.rng.uniform(0, 0.03))
        await answer.end(given, made)


def cost(usage: tuple[int, int]) -> int:
    return usage[0] * PRICE["input"] + usage[1] * PRICE["output"]


class Books:
    """What the log of a run says of money, folded; never over the limit at any point."""

    def __init__(self, events: list[dict[str, Any]], limit: int) -> None:
        self.open: dict[str, int] = {}
        self.settled = self.uncertain = 0
        self.answers: list[tuple[int, int]] = []
        for event in events:
            payload = event["payload"]
            match event["type"]:
                case "tier3/ledger/reserved":
                    self.open[payload["reservation"]] = int(payload["credits"])
                case "tier3/ledger/settled":
                    self.open.pop(payload["reservation"])
                    if payload.get("estimated"):
                        self.uncertain += int(payload["credits"])
                    else:
                        self.settled += int(payload["credits"])
                case "tier3/ai/responded":
                    self.answers.append((payload["usage"]["input_tokens"], payload["usage"]["output_tokens"]))
            assert self.settled + self.uncertain + sum(self.open.values()) <= limit


def run_and_kill(desk: Desk, server: Counting, *words: str) -> None:
    """Begin, wait until the endpoint has heard enough, ``kill -9``."""
    process = subprocess.Popen(
        [*VROOLI, *words, "--view", "none", "--no-input"],
        cwd=desk.folder,
        env=desk.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None and not server.reached.wait(0.01):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_the_ledger_agrees_with_the_endpoint_however_often_the_process_is_killed(seed: int, tmp_path: Path) -> None:
    rng, desk, limit = random.Random(seed), Desk(tmp_path), 400_000
    model = Counting(rng, kill_at=rng.randrange(1, ITEMS))
    with serving(model) as server:
        step = {"id": "each", "for_each": f"{{{{ range({ITEMS}) | list }}}}", "prompt": "item {{ item }}"}
        file = desk.write([step], server.url, allocation={"max_credits": limit, "max_concurrent_steps": 6})
        run_and_kill(desk, model, "run", file)
        for _ in range(rng.randrange(0, 3) if ROUNDS > 1 else 0):
            model.kill_at, model.reached = len(model.asked) + rng.randrange(1, 8), threading.Event()
            run_and_kill(desk, model, "resume", "last")
        done = desk.vrooli("resume", "last", "--json")
    assert done.code == 0, done.out + done.err
    assert done.json["steps"]["each"]["result"] == [f"answer {item}" for item in range(ITEMS)]
    told = desk.vrooli("runs", "events", "last").out.splitlines()
    books = Books([json.loads(line) for line in told], limit)
    # Every answer that was kept is settled at the endpoint's own figure, and none was paid for twice.
    assert books.settled == sum(cost(usage) for usage in books.answers)
    assert set(books.answers) <= set(model.charged) and len(set(books.answers)) == len(books.answers) == ITEMS
    assert Counter(model.charged[usage] for usage in books.answers) == Counter(range(ITEMS))
    # What else the endpoint charges for is covered by what is counted as uncertain.
    lost = sum(map(cost, set(model.charged) - set(books.answers)))
    uncertain = books.uncertain + sum(books.open.values())
    assert lost <= uncertain and (uncertain == 0) == (lost == 0)
    assert done.credits == books.settled + uncertain <= limit
