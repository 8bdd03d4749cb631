"""Prefect: a task a step in one flow, its own temporary server."""

import logging
import os

from shapes import SHAPES, Clock, asked, tell

workload, count, folder = asked()
os.environ |= {
    "PREFECT_HOME": folder,
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
}

from prefect import flow, task  # noqa: E402

logging.disable(logging.WARNING)


@task
def step() -> int:
    return 1


@flow
def work() -> int:
    clock = Clock()
    futures = {}
    for name, parents in SHAPES[workload](count):
        futures[name] = step.submit(wait_for=[futures[parent] for parent in parents])
    total = sum(future.result() for future in futures.values())
    tell(clock())
    return total


assert work() == count
