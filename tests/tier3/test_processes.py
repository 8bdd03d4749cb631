"""Commands: what they say, how they end, and that nobody of theirs stays."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from vrooli_cli.errors import ToolError, VrooliError
from vrooli_cli.model.events import Event
from vrooli_cli.tier3 import proctable
from vrooli_cli.tier3.memory import MemoryMeter
from vrooli_cli.tier3.processes import CAP, Command, Finished, Processes

ENV = {"PATH": os.environ.get("PATH", os.defpath)}
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")


def sh(script: str, **more: Any) -> Command:
    return Command(argv=["sh", "-c", script], env=ENV, **more)


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    made = Processes()
    yield made
    made.kill_all()
    await made.aclose(grace=0.2)


@pytest.fixture
def mark(tmp_path: Path) -> Callable[[], int]:
    """How many living processes have the test's folder in their arguments; scripts name it so that they are found."""

    def count() -> int:
        found = 0
        for process in psutil.process_iter(["cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or ())
            found += str(tmp_path) in line and process.info["status"] != psutil.STATUS_ZOMBIE
        return found

    return count


def zombies() -> int:
    """Dead children of this process that nobody has asked for."""
    return sum(1 for one in proctable.table().values() if one.parent == os.getpid() and one.zombie)


def descriptors() -> int:
    """Open descriptors of this process; 0 where nobody tells."""
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def sleeper(tmp_path: Path) -> Path:
    """A program whose arguments name the test's folder."""
    path = tmp_path / "sleeper"
    path.write_text("#!/bin/sh\nwhile :; do sleep 0.2; done\n")
    path.chmod(0o755)
    return path


async def eventually(holds: Callable[[], bool], seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.02)


async def test_both_streams_and_the_code_come_back(processes: Processes) -> None:
    finished = await processes.run(sh("printf out; printf err >&2; exit 7"))
    assert finished == Finished(exit_code=7, stdout=b"out", stderr=b"err")
    assert len(processes) == 0


async def test_stdin_is_nothing_unless_it_is_given(processes: Processes) -> None:
    assert (await processes.run(sh("cat; echo end"))).stdout == b"end\n"
    data = os.urandom(300_000)
    assert (await processes.run(Command(argv=["cat"], env=ENV, stdin=data))).stdout == data
    assert (await processes.run(Command(argv=["cat"], env=ENV, stdin=b""))).stdout == b""


async def test_a_program_that_does_not_read_its_stdin_is_no_failure(processes: Processes) -> None:
    finished = await processes.run(Command(argv=["true"], env=ENV, stdin=b"x" * 1_000_000))
    assert finished.exit_code == 0


async def test_a_flood_is_read_to_its_end_and_kept_to_the_cap(processes: Processes) -> None:
    finished = await processes.run(sh("head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2"))
    assert finished.exit_code == 0 and finished.truncated
    assert len(finished.stdout) == len(finished.stderr) == CAP
    exact = await processes.run(sh(f"head -c {CAP} /dev/zero"))
    assert len(exact.stdout) == CAP and not exact.truncated


async def test_a_signal_is_told_as_shells_tell_it(processes: Processes) -> None:
    finished = await processes.run(sh("kill -KILL $$"))
    assert (finished.exit_code, finished.signal) == (137, signal.SIGKILL)


@pytest.mark.parametrize(
    ("argv", "said", "code"),
    [
        (["no-such-program-here"], "there is no program 'no-such-program-here'", 127),
        (["./nope"], "there is no program './nope'", 127),
        (["/etc/passwd"], "may not be executed", 126),
        (["/"], "may not be executed", 126),
    ],
)
async def test_a_program_that_cannot_start_is_one_line(
    processes: Processes, argv: list[str], said: str, code: int
) -> None:
    with pytest.raises(ToolError) as caught:
        await processes.run(Command(argv=argv, env=ENV))
    assert said in caught.value.message and caught.value.context["exit_code"] == code
    assert not caught.value.retryable and len(processes) == 0


async def test_a_missing_folder_a_nul_and_too_much_are_one_line_each(processes: Processes, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"the folder .* cannot be entered"):
        await processes.run(Command(argv=["true"], env=ENV, cwd=str(tmp_path / "no")))
    with pytest.raises(ToolError, match="cannot be passed on"):
        await processes.run(Command(argv=["echo", "a\0b"], env=ENV))
    with pytest.raises(ToolError, match="stdin"):
        await processes.run(Command(argv=["echo", "x" * 5_000_000], env=ENV))


async def test_a_background_grandchild_does_not_hold_the_step_and_ends_with_the_run(
    processes: Processes, tmp_path: Path, mark: Callable[[], int]
) -> None:
    started = time.monotonic()
    finished = await processes.run(sh(f"echo up; {sleeper(tmp_path)} & echo told"), run="r")
    assert finished.stdout == b"up\ntold\n" and 0.5 < time.monotonic() - started < 3
    assert mark() == 1, "a server that a later step uses goes on"
    await processes.end_run("other")
    assert mark() == 1
    await processes.end_run("r", grace=0.3)
    assert mark() == 0 and zombies() == 0


async def test_a_grandchild_that_lets_go_of_the_pipes_costs_no_time(
    processes: Processes, tmp_path: Path, mark: Callable[[], int]
) -> None:
    started = time.monotonic()
    await processes.run(sh(f"{sleeper(tmp_path)} >/dev/null 2>&1 &"), run="r")
    assert time.monotonic() - started < 0.8 and mark() == 1
    await processes.end_run("r", grace=0.3)
    assert mark() == 0


@pytest.mark.parametrize(
    "script",
    [
        "{0}",
        "{0} & {0} & wait",
        "trap '' TERM; {0}; {0}",
        "(trap '' TERM; {0}) & (trap '' TERM HUP INT; {0}) & wait",
        pytest.param("setsid {0} & wait", marks=linux_only),
        pytest.param("(setsid setsid {0} &) ; {0}", marks=linux_only),
        pytest.param("trap '' TERM; setsid sh -c 'trap \"\" TERM; {0} & {0}' & {0}", marks=linux_only),
        "kill -STOP $$; {0}",
    ],
)
async def test_a_stop_leaves_nobody_of_the_family(
    processes: Processes, tmp_path: Path, mark: Callable[[], int], script: str
) -> None:
    task = asyncio.create_task(processes.run(sh(script.format(sleeper(tmp_path))), grace=0.3))
    await asyncio.sleep(0.25)
    assert mark() >= 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert mark() == 0 and zombies() == 0 and len(processes) == 0


async def test_a_command_that_heeds_TERM_is_not_killed(processes: Processes, tmp_path: Path) -> None:
    script = f"trap 'echo bye > {tmp_path}/bye; exit 0' TERM; while :; do sleep 0.02; done"
    task = asyncio.create_task(processes.run(sh(script), grace=5))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "bye").read_text() == "bye\n" and time.monotonic() - started < 2


async def test_a_second_cancel_skips_the_grace(processes: Processes, tmp_path: Path, mark: Callable[[], int]) -> None:
    task = asyncio.create_task(processes.run(sh(f"trap '' TERM; {sleeper(tmp_path)}; sleep 60 {tmp_path}"), grace=60))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    task.cancel()
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert mark() == 0 and time.monotonic() - started < 3


@linux_only
async def test_a_stop_spares_what_another_command_is_doing(
    processes: Processes, tmp_path: Path, mark: Callable[[], int]
) -> None:
    other = asyncio.create_task(processes.run(sh(f"setsid {sleeper(tmp_path)} & wait")))
    mine = asyncio.create_task(processes.run(sh("setsid sleep 60 & wait"), grace=0.2))
    await asyncio.sleep(0.2)
    assert mark() == 2, "the shell and its sleeper"
    mine.cancel()
    with pytest.raises(asyncio.CancelledError):
        await mine
    assert mark() == 2 and not other.done()
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other


async def test_children_of_somebody_else_in_this_process_are_left_alone(processes: Processes) -> None:
    foreign = await asyncio.create_subprocess_exec("sleep", "60")
    spared = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    processes.spare(spared.pid)
    await processes.run(sh("true"), run="r")
    await processes.end_run("r")
    processes.kill_all()
    await asyncio.sleep(0.05)
    assert foreign.returncode is None and spared.returncode is None
    for child in (foreign, spared):
        child.kill()
        await child.wait()


async def test_what_another_host_of_this_process_runs_is_left_alone(
    processes: Processes, tmp_path: Path, mark: Callable[[], int]
) -> None:
    await processes.run(sh("true"), run="mine")
    other = Processes()
    theirs = asyncio.create_task(other.run(sh(f"{sleeper(tmp_path)} & wait"), run="theirs"))
    await eventually(lambda: mark() == 2)
    await processes.run(sh("true"), run="mine")
    await processes.end_run("mine")
    processes.kill_all()
    await asyncio.sleep(0.05)
    assert mark() == 2 and not theirs.done()
    theirs.cancel()
    with pytest.raises(asyncio.CancelledError):
        await theirs
    assert mark() == 0


async def test_kill_all_ends_every_family_at_once(
    processes: Processes, tmp_path: Path, mark: Callable[[], int]
) -> None:
    program = sleeper(tmp_path)
    await processes.run(sh(f"{program} >/dev/null 2>&1 &"), run="r")
    tasks = [
        asyncio.create_task(processes.run(sh(f"trap '' TERM; setsid {program} & {program}"), run="r")) for _ in range(4)
    ]
    await asyncio.sleep(0.25)
    assert mark() >= 9
    started = time.monotonic()
    processes.kill_all()
    assert time.monotonic() - started < 1
    await eventually(lambda: mark() == 0)
    assert {finished.signal for finished in await asyncio.gather(*tasks)} == {signal.SIGKILL}


async def test_no_descriptor_and_no_zombie_stays(processes: Processes) -> None:
    await processes.run(sh("true"))
    before = descriptors()
    await asyncio.gather(*(processes.run(sh("echo x; exit 1"), run="r") for _ in range(40)))
    for _ in range(5):
        task = asyncio.create_task(processes.run(sh("sleep 9"), grace=0.2))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
    after = descriptors()
    assert after == before and zombies() == 0


async def test_a_waiting_thread_stands_in_where_there_is_no_pidfd(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(pid: int, flags: int = 0) -> int:
        raise OSError(38, "not implemented")

    monkeypatch.setattr(os, "pidfd_open", refused, raising=False)
    finished = await asyncio.gather(*(processes.run(sh(f"echo {n}; exit {n}")) for n in range(10)))
    assert [(one.exit_code, one.stdout) for one in finished] == [(n, f"{n}\n".encode()) for n in range(10)]
    task = asyncio.create_task(processes.run(sh("sleep 60"), grace=0.3))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


HOG = "import time; block = bytearray({mib} << 20); time.sleep(60)"


def hog(mib: int) -> Command:
    return Command(argv=[sys.executable, "-c", HOG.format(mib=mib)], env=ENV)


async def test_a_command_over_its_memory_is_ended(processes: Processes) -> None:
    started = time.monotonic()
    with pytest.raises(VrooliError) as caught:
        await processes.run(hog(150), limit_mb=100)
    assert caught.value.code == "MEMORY_EXCEEDED" and time.monotonic() - started < 10
    assert caught.value.context["limit"] == 100 and caught.value.context["used"] > 100
    assert zombies() == 0


async def test_a_grandchilds_memory_counts(processes: Processes) -> None:
    script = f"{sys.executable} -c '{HOG.format(mib=150)}' & wait"
    with pytest.raises(VrooliError, match="more than the 100 MiB"):
        await processes.run(sh(script), limit_mb=100)
    await eventually(lambda: zombies() == 0)


async def test_commands_together_are_held_to_the_runs_memory(processes: Processes) -> None:
    said: list[Event] = []
    meter = MemoryMeter(200, emit=said.append, execution_id="run")
    below = MemoryMeter(None, meter)
    small = asyncio.create_task(processes.run(hog(60), meter=below, step="small"))
    large = asyncio.create_task(processes.run(hog(170), meter=below, step="large"))
    with pytest.raises(VrooliError) as caught:
        await large
    assert caught.value.code == "MEMORY_EXCEEDED" and caught.value.context["limit"] == 200
    assert not small.done(), "the largest went, and that was enough"
    small.cancel()
    with pytest.raises(asyncio.CancelledError):
        await small
    assert [fact.type for fact in said] == ["tier3/resources/warning", "tier3/resources/exhausted"]
    assert meter.peak_mb > 200 and meter.used == 0


async def test_the_most_that_was_used_is_told(processes: Processes) -> None:
    source = "block = bytearray(80 << 20); import time; time.sleep(0.6)"
    finished = await processes.run(Command(argv=[sys.executable, "-c", source], env=ENV))
    assert 80 <= finished.memory_mb < 200


async def test_the_sampler_rests_when_there_is_nothing_to_see(processes: Processes) -> None:
    def looks() -> bool:
        return processes._timer is not None

    await processes.run(sh("true"))
    assert not looks()
    running = asyncio.create_task(processes.run(sh("sleep 0.1")))
    await asyncio.sleep(0.02)
    assert looks()
    await running
    assert not looks()


@linux_only
async def test_the_kernels_lists_and_the_whole_table_show_one_family(processes: Processes) -> None:
    task = asyncio.create_task(processes.run(sh("sleep 5 & sh -c 'sleep 5 & sleep 5' & wait"), grace=0.2))
    await asyncio.sleep(0.15)
    me = os.getpid()
    assert set(proctable.family(me)) == set(proctable.descendants(proctable.table(), [me])) != set()
    assert {pid: one._replace(rss=0) for pid, one in proctable.family(me).items()} == {
        pid: one._replace(rss=0) for pid, one in proctable.descendants(proctable.table(), [me]).items()
    }
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_psutil_tells_the_same_family(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    task = asyncio.create_task(processes.run(sh("sleep 5 & wait"), grace=0.2))
    await asyncio.sleep(0.1)
    expected = {(one.pid, one.parent, one.session) for one in proctable.family(os.getpid()).values()}
    monkeypatch.setattr(proctable, "_LINUX", False)
    found = {(one.pid, one.parent, one.session) for one in proctable.family(os.getpid()).values()}
    assert found == expected
    monkeypatch.undo()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_two_hundred_commands_cost_little_more_than_bare_spawning(processes: Processes) -> None:
    async def ours() -> None:
        await processes.run(Command(argv=["true"], env=ENV))

    async def bare() -> None:
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        child = await asyncio.create_subprocess_exec("true", stdin=nothing, stdout=pipe, stderr=pipe, env=ENV)
        await child.communicate()

    best: dict[Callable[[], Any], float] = {}
    for _ in range(4):
        for spawn in (ours, bare):
            started = time.perf_counter()
            for _ in range(50):
                await spawn()
            took = time.perf_counter() - started
            best[spawn] = min(took, best.get(spawn, took))
    assert best[ours] <= 1.25 * best[bare]


def test_when_a_child_began_is_told_by_the_clock_once_the_table_has_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, looks, look_up = proctable.Starts(), list[int](), proctable.look_up

    def looked_up(pid: int) -> proctable.Process | None:
        looks.append(pid)
        return look_up(pid)

    monkeypatch.setattr(proctable, "look_up", looked_up)
    children = [subprocess.Popen(["sleep", "30"]) for _ in range(2)]
    try:
        told = [starts.latest(child.pid) for child in children]
        assert looks == [children[0].pid]
        for child, latest in zip(children, told, strict=True):
            found = look_up(child.pid)
            assert found is not None
            assert found.start <= latest <= proctable.now()
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_where_the_table_goes_by_another_clock_every_child_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    now = proctable.now
    monkeypatch.setattr(proctable, "now", lambda: now() + 1e6)
    starts = proctable.Starts()
    with subprocess.Popen(["sleep", "30"]) as child:
        found = proctable.look_up(child.pid)
        assert found is not None
        assert [starts.latest(child.pid) for _ in range(2)] == [found.start] * 2
        child.kill()
