"""What only a cluster can do: lose workers, lose its scheduler, have resources, be somewhere else."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest

from tests.dask.conftest import Cluster, Farm, House, Project
from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.gate import Admission
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.project import load_project
from vrooli_cli.model.events import ExecutionEvent
from vrooli_cli.model.run import Effects, ExecutionResult
from vrooli_cli.tier2.prepared import RunOptions
from vrooli_cli.tier2.tier import PreparedRun
from vrooli_cli.tier3.dask.cluster import _LEAST, _MOST_ONCE, Flight, _Lane
from vrooli_cli.tier3.dask.wire import FarCall, Sealed
from vrooli_cli.tier3.scope import ToolInvocation

TOOLS = '''
@tool(effects="none")
def where(seconds: float = 0) -> int:
    """The worker's process."""
    time.sleep(seconds)
    return os.getpid()

@tool(effects="none")
def mark(path: str, seconds: float = 0) -> int:
    """Notes that it was called, then takes its time."""
    with open(path, "a") as file:
        print(os.getpid(), file=file, flush=True)
    time.sleep(seconds)
    return os.getpid()

@tool
def mark_once(path: str, seconds: float = 0) -> int:
    """The same, and it must not happen twice."""
    return mark(path, seconds)

@tool
def note_once(path: str, item: int) -> int:
    """Leaves its item, and must not leave it twice."""
    with open(path, "a") as file:
        print(item, file=file, flush=True)
    time.sleep(0.002)
    return os.getpid()

@tool(effects="none")
def poison(path: str, item: int) -> int:
    """Short; the fifth item takes its worker with it, four times."""
    deaths = len(open(path).read()) if os.path.exists(path) else 0
    if item == 5 and deaths < 4:
        with open(path, "a") as file:
            file.write("x")
        os.kill(os.getpid(), 9)
    return item

@tool(effects="none")
def gather(path: str, item: int) -> int:
    """Comes, and waits until all are told to go."""
    with open(path, "a") as file:
        print(item, file=file, flush=True)
    while not os.path.exists(path + ".go"):
        time.sleep(0.02)
    return item

@tool(effects="none", secrets=["token"])
def use(context: ToolContext) -> int:
    """Uses a secret, and fails with it in its hands."""
    value = context.secret("token")
    raise ToolError(f"could not use it ({len(value)})")
'''


def prepared(house: ExecutionArchitecture, folder: Path, text: str, **inputs: Any) -> PreparedRun:
    """A run of a routine that has only to be started."""
    path = folder / "r.yaml"
    path.write_text(text)
    made = house.prepare(load_bundle(str(path), project=load_project(folder)), inputs, options=RunOptions(grace_ms=300))
    assert isinstance(made, PreparedRun)
    return made


def many_once(marks: Path, calls: int) -> str:
    """So many short `once` calls side by side, each leaving its item in ``marks``, after some that show how short."""
    return f"""
allocation: {{max_concurrent_steps: {calls}}}
steps:
  - {{id: warm, tool: note_once, parameters: {{path: /dev/null, item: 0}}, for_each: {{items: [1, 2, 3, 4, 5, 6]}}}}
  - id: once
    needs: [warm]
    tool: note_once
    parameters: {{path: {marks}, item: "{{{{ n }}}}"}}
    for_each: {{items: "{{{{ range({calls}) | list }}}}", as: n, fail_fast: false}}
"""


async def ended(house: ExecutionArchitecture, folder: Path, text: str, **inputs: Any) -> ExecutionResult:
    """How a routine ends."""
    return await prepared(house, folder, text, **inputs).run()


async def until(what: Callable[[], Any], seconds: float = 15) -> Any:
    """What it gives once that is something."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it does not happen"
        await asyncio.sleep(0.02)
    return found


def processes_with(marker: str) -> list[psutil.Process]:
    """Everybody whose command line has the marker."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(marker in word for word in words):
            found.append(process)
    return found


def keys_seen(dask_scheduler: Any) -> list[str]:
    """Every key that a scheduler remembers."""
    return [str(entry[0]) for entry in dask_scheduler.transition_log]


def places_of(run_id: str, dask_scheduler: Any) -> list[str]:
    """The places for `once` tasks of a run that a scheduler still has."""
    return [name for name in dask_scheduler.extensions["queues"].queues if run_id in name]


async def nothing_is_left(cluster: Cluster, run_id: str) -> None:
    """The scheduler forgets the places of a run that is over."""
    async with distributed.Client(cluster.address, asynchronous=True, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        end = time.monotonic() + 15
        while left := await client.run_on_scheduler(places_of, run_id):
            assert time.monotonic() < end, left
            await asyncio.sleep(0.02)


def pids_in(path: Path) -> list[int]:
    """Who has left a mark."""
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def far(cluster: Cluster, house: House, project: Project) -> tuple[ExecutionArchitecture, Path]:
    """A house whose tools run on the cluster, and its project."""
    folder = project(kit=TOOLS)
    return house(f"dask:{cluster.address}", folder), folder


Far = tuple[ExecutionArchitecture, Path]


async def test_steps_run_on_all_workers_and_not_here(far: Far, cluster: Cluster) -> None:
    text = "steps: [{id: w, tool: where, parameters: {seconds: 0.1}, for_each: {items: [1, 2, 3, 4, 5, 6]}}]"
    result = await ended(*far, text)
    assert set(result.result["w"]) == {worker.pid for worker in cluster.workers}


async def test_many_short_calls_share_tasks_and_a_slow_one_does_not_hold_them_up(far: Far, cluster: Cluster) -> None:
    seconds = [0] * 150 + [2] + [0] * 149
    house, folder = far
    text = f"""
allocation: {{max_concurrent_steps: 400}}
steps:
  - {{id: w, tool: where, for_each: {{items: {seconds}, as: s}}, parameters: {{seconds: "{{{{ s }}}}"}}}}
"""
    run = prepared(house, folder, text)
    ended_at: dict[str, float] = {}

    def note(event: ExecutionEvent) -> None:
        if event.type == "tier3/execution/completed":
            ended_at[event.payload["step_id"]] = time.monotonic()

    run.channel.fold(note)
    result = await run.run()
    assert len(result.result["w"]) == 300
    assert set(result.result["w"]) == {worker.pid for worker in cluster.workers}
    slow = ended_at.pop("w[150]")
    assert max(ended_at.values()) < slow - 0.5


async def test_a_worker_that_joins_late_has_the_tools(far: Far, cluster: Cluster) -> None:
    text = "steps: [{id: w, tool: where, parameters: {seconds: 0.2}, for_each: {items: [1, 2, 3, 4, 5, 6, 7, 8]}}]"
    assert (await ended(*far, text)).success
    late = cluster.farm.worker(cluster.scheduler, threads=8)
    try:
        result = await ended(*far, text)
        assert late.pid in result.result["w"]
    finally:
        late.kill()


async def test_the_tools_of_two_projects_do_not_meet(cluster: Cluster, house: House, tmp_path: Path) -> None:
    found = []
    for n in (1, 2):
        folder = tmp_path / str(n)
        (folder / "tools").mkdir(parents=True)
        (folder / "vrooli.yaml").touch()
        (folder / "tools" / "helper.py").write_text(f"NUMBER = {n}\n")
        (folder / "tools" / "_own.py").write_text(f"NUMBER = {n}0\n")
        (folder / "tools" / "t.py").write_text(
            "import helper\nfrom vrooli_cli import tool\nfrom ._own import NUMBER\n\n@tool(effects='none')\n"
            "def number() -> int:\n    return helper.NUMBER + NUMBER\n"
        )
        text = "steps: [{id: n, tool: number, for_each: {items: [1, 2, 3, 4, 5, 6]}}]"
        found.append((await ended(house(f"dask:{cluster.address}", folder), folder, text)).result["n"])
    assert found == [[11] * 6, [22] * 6]


async def test_a_call_whose_worker_dies_is_made_again_elsewhere(far: Far, tmp_path: Path, cluster: Cluster) -> None:
    marks = tmp_path / "marks"
    run = prepared(*far, f"steps: [{{id: m, tool: mark, parameters: {{path: {marks}, seconds: 1}}}}]")
    working = asyncio.create_task(run.run())
    (first,) = await until(lambda: pids_in(marks))
    os.kill(first, 9)
    result = await working
    assert result.success
    assert result.result["m"] == pids_in(marks)[1] != first
    assert result.steps["m"].attempts == 1


async def test_a_once_call_whose_worker_dies_is_not_made_again(far: Far, tmp_path: Path, cluster: Cluster) -> None:
    marks = tmp_path / "marks"
    house, folder = far
    step = (
        f"{{id: m, tool: mark_once, parameters: {{path: {marks}, seconds: 1}}, retry: {{max_attempts: 3, delay: 0}}}}"
    )
    run = prepared(house, folder, f"steps: [{step}]")
    working = asyncio.create_task(run.run())
    (first,) = await until(lambda: pids_in(marks))
    os.kill(first, 9)
    result = await working
    assert result.error is not None
    assert result.error.code == "OUTCOME_UNKNOWN"
    resumed = house.resume(run.run_id)
    assert (await resumed.run()).status.value == "suspended"
    assert resumed.waiting == [("m", "OUTCOME_UNKNOWN")]
    assert pids_in(marks) == [first]
    assert (await house.resume(run.run_id, assume={"m": "done"}).run()).success
    assert pids_in(marks) == [first]


async def test_short_once_calls_share_tasks_and_none_happens_twice_when_a_worker_dies(
    far: Far, tmp_path: Path, cluster: Cluster
) -> None:
    marks = tmp_path / "marks"
    calls, threads = 600, 4
    house, folder = far
    run = prepared(house, folder, many_once(marks, calls))
    ended_as: dict[int, str] = {}

    def note(event: ExecutionEvent) -> None:
        step = str(event.payload.get("step_id"))
        if event.type in ("tier2/step/completed", "tier2/step/failed") and step.startswith("once["):
            ended_as[int(step[5:-1])] = event.payload["error"]["code"] if event.type.endswith("failed") else ""

    run.channel.fold(note)
    working = asyncio.create_task(run.run())
    await until(lambda: len(pids_in(marks)) > calls // 4)
    cluster.workers[0].kill()
    await working
    happened = set(pids_in(marks))
    assert len(pids_in(marks)) == len(happened)
    assert set(ended_as) == set(range(calls))
    unknown = {n for n, code in ended_as.items() if code}
    assert {ended_as[n] for n in unknown} <= {"OUTCOME_UNKNOWN"}
    assert len(unknown - happened) <= threads * _MOST_ONCE  # those that shared a task with one that had begun
    assert set(range(calls)) - unknown <= happened
    async with distributed.Client(cluster.address, asynchronous=True, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        keys = await client.run_on_scheduler(keys_seen)
    assert len({key for key in keys if run.run_id in key and ":once[" in key}) < calls / 2
    await nothing_is_left(cluster, run.run_id)


async def test_a_cancelled_run_begins_nothing_any_more_and_a_resume_does_nothing_twice(
    far: Far, tmp_path: Path, cluster: Cluster
) -> None:
    marks = tmp_path / "marks"
    house, folder = far
    run = prepared(house, folder, many_once(marks, 600))
    working = asyncio.create_task(run.run())
    await until(lambda: len(pids_in(marks)) > 150)
    run.cancel("user")
    assert (await working).status.value == "cancelled"
    happened = pids_in(marks)
    await asyncio.sleep(0.5)
    assert pids_in(marks) == happened
    assert len(happened) < 600
    await nothing_is_left(cluster, run.run_id)
    resumed = house.resume(run.run_id)
    await resumed.run()
    unknown = {int(address[5:-1]) for address, _ in resumed.waiting}
    assert len(unknown) <= 12 * _MOST_ONCE
    assert len(pids_in(marks)) == len(set(pids_in(marks)))
    assert set(range(600)) - unknown <= set(pids_in(marks))


def flight(tool: str, effects: Effects) -> Flight:
    """A call that has not been sent."""
    call = ToolInvocation(tool=tool, parameters={}, address="s", attempt=1, effects=effects, admission=Admission())
    return Flight(
        FarCall(
            invocation=call,
            key="k",
            number=1,
            topic="",
            version="",
            toolbox="",
            execution_id="",
            root_id="",
            folder="",
        )
    )


async def test_calls_share_a_task_only_when_their_tool_and_their_effects_are_the_same() -> None:
    lane = _Lane({})
    first = flight("t", "none")
    for other in (flight("t", "once"), flight("u", "none")):
        called_off = flight("t", "none")
        called_off.landed = True
        lane.waiting.extend((called_off, other))
        assert lane.next(like=first) is None  # also behind one that nobody waits for any more
        assert lane.next() is other
    lane.waiting.append(same := flight("t", "none"))
    assert lane.next(like=first) is same


async def test_a_call_that_kills_its_workers_does_not_fail_those_that_shared_its_task(
    farm: Farm, house: House, project: Project, tmp_path: Path
) -> None:
    scheduler = farm.scheduler()
    workers = [farm.worker(scheduler, threads=1) for _ in range(6)]
    text = f"""
allocation: {{max_concurrent_steps: 100}}
steps:
  - {{id: warm, tool: poison, parameters: {{path: {tmp_path}/deaths, item: 0}}, for_each: {{items: [1, 2, 3, 4]}}}}
  - id: p
    needs: [warm]
    tool: poison
    parameters: {{path: {tmp_path}/deaths, item: "{{{{ n }}}}"}}
    for_each: {{items: "{{{{ range(100) | list }}}}", as: n}}
"""
    folder = project(kit=TOOLS)
    result = await ended(house(f"dask:{scheduler.address}", folder), folder, text)
    assert result.success, result.error
    assert result.result["p"] == list(range(100))
    assert [worker.lives for worker in workers].count(False) == 4
    for member in (*workers, scheduler):
        member.kill()


async def test_workers_that_join_are_given_what_waits_for_none_to_end(
    farm: Farm, house: House, project: Project, tmp_path: Path
) -> None:
    scheduler = farm.scheduler()
    members = [scheduler, farm.worker(scheduler, threads=1)]
    marks, folder = tmp_path / "marks", project(kit=TOOLS)
    text = f"""
allocation: {{max_concurrent_steps: 50}}
steps:
  - id: g
    tool: gather
    parameters: {{path: {marks}, item: "{{{{ n }}}}"}}
    for_each: {{items: "{{{{ range(50) | list }}}}", as: n}}
"""
    working = asyncio.create_task(prepared(house(f"dask:{scheduler.address}", folder), folder, text).run())
    await until(lambda: pids_in(marks))
    members.append(farm.worker(scheduler, threads=60))

    await until(lambda: len(pids_in(marks)) > _LEAST)
    marks.with_suffix(".go").touch()
    assert (await working).success
    for member in members:
        member.kill()


async def test_a_cancel_while_the_cluster_is_being_connected_leaves_nothing_in_doubt(
    cluster: Cluster, house: House, project: Project, tmp_path: Path
) -> None:
    marks, folder = tmp_path / "marks", project(kit=TOOLS)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        run = prepared(
            house(f"dask:tcp://127.0.0.1:{mute.getsockname()[1]}", folder),
            folder,
            f"steps: [{{id: m, tool: mark_once, parameters: {{path: {marks}}}}}]",
        )
        called = asyncio.Event()
        run.channel.fold(lambda event: called.set() if event.type == "tier3/tool/called" else None)
        working = asyncio.create_task(run.run())
        await called.wait()
        await asyncio.sleep(0.1)
        run.cancel("user")
        assert (await working).status.value == "cancelled"
    assert (await house(f"dask:{cluster.address}", folder).resume(run.run_id).run()).success
    assert len(pids_in(marks)) == 1


async def test_a_worker_that_dies_while_the_tools_are_brought_does_not_fail_the_run(
    cluster: Cluster, house: House, project: Project, tmp_path: Path
) -> None:
    dies = f"""
if 'ONLY_ON_WORKERS' in os.environ:
    try:
        os.open({str(tmp_path / "first")!r}, os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        pass
    else:
        os.kill(os.getpid(), 9)
"""
    folder = project(kit=dies + TOOLS)
    result = await ended(house(f"dask:{cluster.address}", folder), folder, "steps: [{id: w, tool: where}]")
    assert result.success, result.error
    assert [worker.lives for worker in cluster.workers].count(False) == 1


async def test_two_runs_that_bring_the_same_tools_at_one_moment_both_have_them(
    cluster: Cluster, house: House, project: Project
) -> None:
    loads_long = "if 'ONLY_ON_WORKERS' in os.environ:\n    time.sleep(1)\n"
    folder = project(kit=loads_long + TOOLS)
    first = asyncio.create_task(
        ended(house(f"dask:{cluster.address}", folder), folder, "steps: [{id: w, tool: where}]")
    )
    await asyncio.sleep(0.3)
    results = (
        await ended(house(f"dask:{cluster.address}", folder), folder, "steps: [{id: w, tool: where}]"),
        await first,
    )
    assert [result.error for result in results] == [None, None]


async def test_what_a_dead_worker_ran_is_dead_too(far: Far, tmp_path: Path, cluster: Cluster) -> None:
    marker = f"sleep 71.{os.getpid()}"
    run = prepared(*far, f"steps: [{{id: s, tool: shell, effects: none, parameters: {{command: '{marker}; true'}}}}]")
    working = asyncio.create_task(run.run())
    first = (await until(lambda: processes_with(marker)))[0]
    worker = first.parent()
    assert worker is not None
    worker.kill()
    await until(lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE)
    await until(lambda: processes_with(marker))  # again, elsewhere
    run.cancel("user")
    assert (await working).status.value == "cancelled"
    assert not processes_with(marker)


@pytest.mark.parametrize("what", ["shell", "python"])
async def test_a_cancel_ends_what_runs_on_workers(far: Far, tmp_path: Path, what: str) -> None:
    marker, marks = f"71.5{os.getpid()}", tmp_path / "marks"
    shell = f"trap '' TERM; setsid sleep {marker} & sleep {marker}"
    steps = {
        "shell": f'{{id: s, tool: shell, parameters: {{command: "{shell}"}}}}',
        "python": f"{{id: s, tool: mark, parameters: {{path: {marks}, seconds: 20}}}}",
    }
    run = prepared(*far, f"steps: [{steps[what]}]")
    working = asyncio.create_task(run.run())
    await until(lambda: processes_with(marker) if what == "shell" else pids_in(marks))
    began = time.monotonic()
    run.cancel("user")
    result = await working
    assert result.status.value == "cancelled"
    assert time.monotonic() - began < 5
    assert not processes_with(marker)


async def test_the_time_out_of_a_step_stands_still_while_it_queues(far: Far, cluster: Cluster) -> None:
    steps = "steps: [{id: w, tool: where, timeout: 700ms, parameters: {seconds: 0.3}, for_each: {items: [%s]}}]"
    many = ", ".join(str(n) for n in range(36))  # three rounds of twelve
    house, folder = far
    run = prepared(house, folder, "allocation: {max_concurrent_steps: 100}\n" + steps % many)
    result = await run.run()
    assert result.success, result.error


async def test_the_largest_command_goes_when_all_together_use_too_much(far: Far, tmp_path: Path) -> None:
    script = tmp_path / "grab.py"
    script.write_text("import sys, time\nx = bytearray(int(sys.argv[1]) << 20)\ntime.sleep(float(sys.argv[2]))\n")
    step = "{id: %s, tool: shell, parameters: {command: [python3, %s, %d, %s]}}"
    text = f"steps: [{step % ('large', script, 120, 20)}, {step % ('small', script, 60, 1.5)}]"
    result = await ended(*far, "allocation: {max_memory_mb: 160}\n" + text)
    assert result.error is not None
    assert (result.error.code, result.error.step) == ("MEMORY_EXCEEDED", "large")
    assert result.steps["small"].status.value == "completed"


async def test_resources_choose_the_worker(far: Far, cluster: Cluster) -> None:
    step = "steps: [{id: w, tool: where, resources: {gpu: 1}, for_each: {items: [1, 2, 3]}}]"
    refused = await ended(*far, step)
    assert refused.error is not None
    assert "no worker of the Dask cluster" in refused.error.message
    assert 'gpu=1"' in refused.error.message
    special = cluster.farm.worker(cluster.scheduler, resources={"gpu": 1})
    try:
        result = await ended(*far, step)
        assert set(result.result["w"]) == {special.pid}
    finally:
        special.kill()


async def test_secrets_stand_in_no_log_of_the_cluster(far: Far, cluster: Cluster) -> None:
    secret = "hush-hush-8731"
    text = """
inputs: {token: {type: string, secret: true}}
steps:
  - {id: use, tool: use, on_error: continue}
  - {id: env, tool: shell, parameters: {command: "test -n $T; exit 1", env: {T: "{{ token }}"}}, on_error: continue}
  - {id: each, tool: where, for_each: {items: ["{{ token }}"], key: item}}
"""
    result = await ended(*far, text, token=secret)
    assert result.success, result.error
    assert result.steps["env"].error is not None
    assert result.steps["env"].error.context["exit_code"] == 1
    logs = [log.read_text() for log in cluster.farm.logs]
    assert any("vrooli" in log for log in logs)
    assert not any(secret in log for log in logs)
    async with distributed.Client(cluster.address, asynchronous=True, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        keys = await client.run_on_scheduler(keys_seen)
    assert any("each[***]" in key for key in keys)
    assert not any(secret in key for key in keys)
    assert repr(Sealed.of({"token": secret})) == "<call>"


async def test_a_scheduler_that_is_not_there_is_one_line_and_a_run_that_can_go_on(
    farm: Farm, cluster: Cluster, house: House, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vrooli_cli.tier3.dask.cluster._CONNECT", 0.5)
    folder = project(kit=TOOLS)
    nobody = house("dask://127.0.0.1:9", folder)
    run = prepared(nobody, folder, "steps: [{id: w, tool: where}]")
    result = await run.run()
    assert result.error is not None
    assert result.error.code == "INTERRUPTED"
    assert result.error.message.count("\n") == 0
    assert "tcp://127.0.0.1:9 does not answer" in result.error.message
    resumed = house(f"dask:{cluster.address}", folder).resume(run.run_id)
    assert (await resumed.run()).success


async def test_a_scheduler_that_goes_midway_leaves_a_run_that_can_go_on(
    farm: Farm, cluster: Cluster, house: House, project: Project, tmp_path: Path
) -> None:
    scheduler = farm.scheduler()
    worker = farm.worker(scheduler)
    marks, folder = tmp_path / "marks", project(kit=TOOLS)
    text = f"""
steps:
  - {{id: first, tool: where}}
  - {{id: second, needs: [first], tool: mark, parameters: {{path: {marks}, seconds: 1.5}}}}
  - {{id: once, needs: [first], tool: mark_once, parameters: {{path: {marks}2, seconds: 1.5}}, on_error: continue}}
"""
    run = prepared(house(f"dask:{scheduler.address}", folder), folder, text)
    working = asyncio.create_task(run.run())
    await until(lambda: pids_in(marks) and pids_in(Path(f"{marks}2")))
    scheduler.kill()
    result = await working
    worker.kill()
    assert result.error is not None
    assert (result.error.code, result.error.step) == ("INTERRUPTED", "second")
    assert "is gone" in result.error.message
    assert result.steps["once"].error is not None
    assert result.steps["once"].error.code == "OUTCOME_UNKNOWN"
    resumed = await house(f"dask:{cluster.address}", folder).resume(run.run_id).run()
    assert resumed.steps["first"].result == worker.pid  # not done again
    assert resumed.steps["second"].status.value == "completed"
    assert pids_in(Path(f"{marks}2")) == [worker.pid]


async def test_without_the_extra_a_step_says_what_to_install(
    house: House, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("vrooli_cli.tier3.dask.")]:
        if module.endswith((".cluster", ".worker")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "distributed", None)
    folder = project(kit=TOOLS)
    result = await ended(house("dask:local", folder), folder, "steps: [{id: w, tool: where}]")
    assert result.error is not None
    assert result.error.message == "steps on a Dask cluster need an extra: pip install 'vrooli[dask]'"


async def test_workers_must_have_this_vrooli(farm: Farm, house: House, project: Project, tmp_path: Path) -> None:
    other = tmp_path / "other" / "vrooli-0.99.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: vrooli\nVersion: 0.99.0\n")
    scheduler = farm.scheduler()
    worker = farm.worker(scheduler, path=[str(other.parent)])
    folder = project(kit=TOOLS)
    try:
        result = await ended(house(f"dask:{scheduler.address}", folder), folder, "steps: [{id: w, tool: where}]")
        assert result.error is not None
        assert f"{worker.address} has vrooli 0.99.0, and this is" in result.error.message
    finally:
        worker.kill()
        scheduler.kill()
