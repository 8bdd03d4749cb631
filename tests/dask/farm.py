"""A process that has imported Dask once and forks a scheduler or a worker for every line on stdin.

A start of Python each would cost more than the tests. A request is JSON: ``{"scheduler": LOG}`` or ``{"worker":
ADDRESS, "log": LOG, "threads": N, "resources": {…}, "path": [FOLDER, …]}``; the answer ``{"pid": N, "address": …}``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from typing import Any

import distributed

import vrooli_cli.tier3.dask.worker  # noqa: F401 - what workers import with their first plugin


def main() -> None:
    """Answer requests until stdin ends; then everybody ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    children = []
    for line in sys.stdin:
        there, here = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(there)
            _become(json.loads(line), here)
        os.close(here)
        children.append(pid)
        with os.fdopen(there) as answer:
            address = answer.readline().strip()
        sys.stdout.write(json.dumps({"pid": pid, "address": address}) + "\n")
        sys.stdout.flush()
    for pid in children:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _become(request: dict[str, Any], answer: int) -> None:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = os.open(request.get("scheduler") or request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        logging.getLogger("distributed").setLevel(logging.INFO)
        sys.path[:0] = request.get("path", [])
        asyncio.run(_serve(request, answer))
        code = 0
    finally:
        os._exit(code)


async def _serve(request: dict[str, Any], answer: int) -> None:
    server: Any
    if "scheduler" in request:
        port = request.get("port", 0)
        server = distributed.Scheduler(host="127.0.0.1", port=port, dashboard=False)
    else:
        server = distributed.Worker(
            request["worker"],
            host="127.0.0.1",
            nthreads=request.get("threads", 4),
            resources=request.get("resources"),
            dashboard=False,
        )
    async with server:
        os.write(answer, f"{server.address}\n".encode())
        os.close(answer)
        await server.finished()


if __name__ == "__main__":
    main()
