"""A real cluster: a scheduler and three workers, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.journal import open_store
from vrooli_cli.loading.project import load_project
from vrooli_cli.loading.settings import Settings

HEAD = """
import os, time
from vrooli_cli import tool, ToolContext, ToolError
"""


@dataclass
class Member:
    """A scheduler or a worker."""

    pid: int
    address: str

    def kill(self) -> None:
        """End it as a power cut would."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    @property
    def lives(self) -> bool:
        """True while the process is there."""
        return psutil.pid_exists(self.pid) and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE


@dataclass
class Farm:
    """Starts members."""

    process: subprocess.Popen[str]
    folder: Path
    logs: list[Path] = field(default_factory=list)

    def scheduler(self, port: int = 0) -> Member:
        """A scheduler on this machine."""
        return self._ask(lambda log: {"scheduler": log, "port": port})

    def worker(self, scheduler: Member, **more: Any) -> Member:
        """A worker of it, with four threads."""
        return self._ask(lambda log: {"worker": scheduler.address, "log": log, **more})

    def _ask(self, request: Callable[[str], dict[str, Any]]) -> Member:
        log = self.folder / f"{len(self.logs)}.log"
        self.logs.append(log)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request(str(log))) + "\n")
        self.process.stdin.flush()
        member = Member(**json.loads(self.process.stdout.readline()))
        assert member.address, log.read_text()
        return member


@dataclass
class Cluster:
    """A scheduler with its workers."""

    farm: Farm
    scheduler: Member
    workers: list[Member]

    @property
    def address(self) -> str:
        """Where the scheduler is."""
        return self.scheduler.address

    def complete(self) -> None:
        """Workers that a test has killed are replaced."""
        self.workers = [worker for worker in self.workers if worker.lives]
        while len(self.workers) < 3:
            self.workers.append(self.farm.worker(self.scheduler))


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Where members come from; they end with it."""
    yield from farming(tmp_path_factory.mktemp("dask"))


def farming(folder: Path) -> Iterator[Farm]:
    """A farm with its logs in ``folder``."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.dask.farm"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ONLY_ON_WORKERS": "1"},
    ) as process:
        yield Farm(process, folder)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="session")
def shared(farm: Farm) -> Cluster:
    """The cluster of all tests."""
    return Cluster(farm, farm.scheduler(), [])


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """The cluster, with three workers."""
    shared.complete()
    return shared


Project = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Writes tools, and gives the folder of their project."""

    def project(**files: str) -> Path:
        folder = tmp_path / "project"
        (folder / "tools").mkdir(parents=True, exist_ok=True)
        (folder / "vrooli.yaml").touch()
        for name, text in files.items():
            head = HEAD if not name.startswith("_") else ""
            (folder / "tools" / f"{name}.py").write_text(head + text)
        return folder

    return project


House = Callable[..., ExecutionArchitecture]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Makes houses over one history; they are closed after the test."""
    made: list[ExecutionArchitecture] = []

    def house(executor: str, folder: Path | None = None, history: str = "store", **more: Any) -> ExecutionArchitecture:
        folder = folder or tmp_path
        architecture = ExecutionArchitecture(
            Settings(executor=executor, **more),
            project=load_project(folder),
            store=open_store(tmp_path / f"{history}.db"),
            folder=str(folder),
        )
        made.append(architecture)
        return architecture

    yield house
    for architecture in made:
        await architecture.close()
