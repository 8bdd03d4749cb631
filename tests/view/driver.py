"""A run on a real terminal for the terminal tests: ``python -m tests.view.driver small|big|swarm MODE SECONDS``.

MODE: ``stop`` ends well, ``fail`` ends failed, ``raise`` dies of an exception, ``leave`` leaves as a second Ctrl-C
does, ``prompt`` asks a question in the middle.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.view import synthetic
from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.plan import PlanSummary
from vrooli_cli.view.live import LiveView

RUNS: dict[str, Callable[[], tuple[PlanSummary | None, list[ExecutionEvent], datetime]]] = {
    "small": synthetic.small_run,
    "big": lambda: synthetic.wide_run(5, 1600, 0.3),
    "swarm": synthetic.swarm_run,
}


async def play(name: str, mode: str, seconds: float) -> None:
    plan, events, _ = RUNS[name]()
    view = LiveView(sys.stderr, plan, run_id=synthetic.RUN, credit_limit=1_000_000)
    view.start()
    try:
        await happen(view, events, mode, seconds)
    except BaseException:
        view.restore()
        raise
    failed = mode == "fail"
    result: dict[str, Any] = {"status": "failed" if failed else "completed", "duration_ms": 2345, "result": {"n": 1}}
    await view.stop(result)
    print(f"frames {view.frames} skipped {view.skipped}")


async def happen(view: LiveView, events: list[ExecutionEvent], mode: str, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number, event in enumerate(events):
        view.apply(dataclasses.replace(event, timestamp=datetime.now(UTC)))
        ahead = began + seconds * number / len(events) - loop.time()
        if ahead > 0:
            await asyncio.sleep(ahead)
        if number == len(events) // 2:
            await middle(view, mode)
    view.print("a notice above the picture")
    await asyncio.sleep(0.3)
    if mode == "leave":
        view.restore()
        os._exit(130)


async def middle(view: LiveView, mode: str) -> None:
    if mode == "raise":
        await asyncio.sleep(0.5)
        raise RuntimeError("the run met a bug")
    if mode == "prompt":
        async with view.paused():
            sys.stderr.write("Ship it? [y/N] ")
            sys.stderr.flush()
            await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(play(sys.argv[1], sys.argv[2], float(sys.argv[3])))
