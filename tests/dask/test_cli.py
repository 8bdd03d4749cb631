"""The command line with ``--executor``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import VROOLI, Call, Write, call, environment, folder, write
from tests.dask.conftest import Cluster
from vrooli_cli.tier3.dask.cluster import census
from vrooli_cli.tier3.dask.wire import Gone

__all__ = ["call", "folder", "write"]  # fixtures


def run(*words: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A call as a process: a run that has threads leaves without ceremony, and would take the tests with it."""
    command = [*VROOLI, *words]
    return subprocess.run(command, cwd=folder, env=environment(folder, **more), capture_output=True, text=True)


def test_a_flag_goes_before_the_file(write: Write, folder: Path, cluster: Cluster) -> None:
    step = {"id": "s", "tool": "shell", "parameters": {"command": "echo $PPID"}}
    outputs = {"pid": "{{ steps.s.result.stdout | trim }}"}
    name = write("r.yaml", [step], executor={"dask": "tcp://127.0.0.1:9"}, outputs=outputs)
    address = cluster.address.replace("tcp://", "dask://")
    done = run("run", name, "--executor", address, "--view", "none", folder=folder)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) in [worker.pid for worker in cluster.workers]
    assert done.stderr == ""


def test_a_once_step_whose_worker_died_is_exit_5_and_the_command_that_is_shown_answers_it(
    write: Write, folder: Path, cluster: Cluster
) -> None:
    step = {"id": "s", "tool": "shell", "parameters": {"command": "kill -9 $PPID; sleep 20"}}
    name = write("r.yaml", [step], executor={"dask": cluster.address})
    done = run("run", name, "--view", "none", folder=folder)
    assert done.returncode == 5, done.stderr
    assert "s: OUTCOME_UNKNOWN: the worker that ran it is gone; nobody knows whether it happened" in done.stderr
    shown = next(line for line in done.stderr.splitlines() if line.startswith("  vrooli resume"))
    assert shown.endswith("--assume s=done  (or =failed, =rerun)")
    answered = run(*shown.partition("  (")[0].removeprefix("  vrooli ").split(), "--view", "none", folder=folder)
    assert answered.returncode == 0, answered.stderr


async def test_doctor_counts_the_workers(cluster: Cluster) -> None:
    assert await census(cluster.address, 5) == (3, 12)
    with pytest.raises(Gone, match=r"tcp://127\.0\.0\.1:9 does not answer within 0\.2 s"):
        await census("tcp://127.0.0.1:9", 0.2)


@pytest.mark.parametrize("wrong", ["dask", "dask://", "dask://host", "tcp://host:1", "dask:nowhere", "dask://h:p"])
def test_an_executor_that_is_none_is_told_in_one_line(call: Call, write: Write, wrong: str) -> None:
    name = write("r.yaml", [{"id": "s", "tool": "echo", "parameters": {"message": "hi"}}])
    done = call("run", name, "--executor", wrong)
    assert done.code == 2
    assert f"expected local, dask:local or dask://HOST:PORT, not '{wrong}'" in done.err


def test_an_address_in_a_file_is_checked_when_it_is_loaded(call: Call, write: Write) -> None:
    name = write("r.yaml", 'executor: {dask: "scheduler"}\nsteps: [{id: s, tool: echo, parameters: {message: hi}}]\n')
    done = call("validate", name)
    assert done.code == 2
    assert "r.yaml:1:" in done.err
    assert "tcp://scheduler:8786" in done.err


def test_a_local_cluster_ends_with_its_vrooli_even_when_that_is_killed(tmp_path: Path) -> None:
    marker = f"sleep 72.{os.getpid()}"
    (tmp_path / "r.yaml").write_text(
        f"steps: [{{id: a, tool: shell, parameters: {{command: 'echo hi'}}}},"
        f" {{id: b, needs: [a], tool: shell, parameters: {{command: '{marker}; true'}}}}]"
    )
    command = [sys.executable, "-m", "vrooli_cli", "run", "r.yaml", "--executor", "dask:local", "--view", "plain"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        family: list[psutil.Process] = []
        end = time.monotonic() + 45
        while not any(marker in word for one in family for word in _words(one)):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.1)
            family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=10)
        assert [(one.pid, _words(one)) for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
