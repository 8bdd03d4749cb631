"""An endpoint in a thread and the command line as a process beside it: a real SDK, a real socket, a real exit code."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ai.server import Behaviour, Server, endpoint

ROOT = Path(__file__).parent.parent.parent
VROOLI = (sys.executable, "-m", "vrooli_cli")
PRICE = {"input": 1, "output": 2}


@contextmanager
def serving(*plan: Behaviour) -> Iterator[Server]:
    """A running endpoint; ``plan`` says what it does with its requests."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opened = endpoint(*plan)
    server = asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.out)

    @property
    def credits(self) -> int:
        """What the result says was spent."""
        return int(self.json["resources_used"]["credits_used"])


@dataclass(frozen=True)
class Desk:
    """A folder with routines, and the environment of a clean machine."""

    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        """A clean environment, with a history of its own."""
        no = ("VROOLI_", "OPENAI_", "GITHUB_", "CI", "COLUMNS")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(no)}
        kept |= {"VROOLI_STORE": str(self.folder / "store.db"), "XDG_STATE_HOME": str(self.folder / "state")}
        return {**kept, "NO_COLOR": "1", **more}

    def vrooli(self, *words: object, cwd: Path | None = None, **more: str) -> Done:
        """A command line as a process of its own; a traceback fails the test."""
        done = subprocess.run(
            [*VROOLI, *map(str, words)],
            cwd=cwd or self.folder,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def write(self, steps: list[dict[str, Any]], url: str = "", **top: Any) -> str:
        """A routine whose default model is at ``url``; its name is what is passed on."""
        models = {"models": {"default": {"model": "m", "base_url": url, "price": PRICE}}} if url else {}
        text = json.dumps({"name": "r", **models, **top, "steps": steps})
        (self.folder / "r.yaml").write_text(text)
        return "r.yaml"

    def events(self, name: str = "events.ndjson") -> list[dict[str, Any]]:
        """What ``--events`` wrote."""
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


def paid(server: Server) -> int:
    """The credits that the endpoint's own books come to, at ``PRICE``, each call rounded up by itself."""
    return sum(given * PRICE["input"] + made * PRICE["output"] for given, made in server.books)
