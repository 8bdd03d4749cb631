"""The processes of this machine, as far as a command's family is concerned.

Linux is read from ``/proc`` directly (some 10 us a process); elsewhere psutil tells the same.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_LINUX = sys.platform == "linux"
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_JUST = 5.0  # seconds ago, at most: what has just begun
_PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    """One line of the table; ``pid`` and ``start`` together are never used twice.

    Attributes:
        session: The session's id; a command of ours begins one of its own.
        start: When it began, in the system's own unit.
        rss: Resident memory in bytes.
    """

    pid: int
    parent: int
    session: int
    start: float
    rss: int
    zombie: bool


def become_subreaper() -> bool:
    """Orphans of our descendants become our children instead of init's; False where the system has no such thing."""
    if not _LINUX:
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def look_up(pid: int) -> Process | None:
    """The process of that id; None when there is none."""
    return _from_proc(pid) if _LINUX else _from_psutil(pid)


def now() -> float:
    """This moment, in the unit of ``start``."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS // 1 if _LINUX else time.time()


class Starts:
    """When children began that have just begun.

    The system's clock tells without a look at the child, which would cost a tenth of what starting it does. Where the
    table goes by another clock, as in some sandboxes, each is looked at; the first one tells which it is.
    """

    def __init__(self) -> None:
        self._clock_is_theirs: bool | None = None

    def latest(self, pid: int) -> float:
        """A moment not before the start of this child, and before that of any later process of its id."""
        if self._clock_is_theirs:
            return now()
        found = look_up(pid)
        if found is None:
            return 0.0
        if self._clock_is_theirs is None:
            self._clock_is_theirs = 0 <= now() - found.start < _JUST * (_TICKS if _LINUX else 1)
        return found.start


def table() -> dict[int, Process]:
    """Every process there is."""
    pids: Iterable[int]
    if _LINUX:
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - twice as quick
    else:
        import psutil

        pids = psutil.pids()
    return {pid: found for pid in pids if (found := look_up(pid)) is not None}


def family(root: int) -> dict[int, Process]:
    """The descendants of a process, itself left out; read along the kernel's lists of children where it has them."""
    if not _LINUX or not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        return descendants(table(), [root])
    found: dict[int, Process] = {}
    queue = deque([root])
    while queue:
        for pid in _children(queue.popleft()):
            process = _from_proc(pid)
            if process is not None and pid not in found:
                found[pid] = process
                queue.append(pid)
    return found


def descendants(known: dict[int, Process], roots: Iterable[int]) -> dict[int, Process]:
    """Those in the table that descend from one of ``roots``, the roots left out."""
    children: dict[int, list[Process]] = {}
    for process in known.values():
        children.setdefault(process.parent, []).append(process)
    found: dict[int, Process] = {}
    queue = deque(roots)
    while queue:
        for process in children.get(queue.popleft(), ()):
            if process.pid not in found:
                found[process.pid] = process
                queue.append(process.pid)
    return found


def _children(pid: int) -> list[int]:
    pids: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                pids += [int(one) for one in file.read().split()]
    except OSError:
        pass
    return pids


def _from_proc(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            text = file.read()
    except OSError:
        return None
    # "pid (name) state parent group session …"; the name may hold blanks and brackets.
    fields = text[text.rfind(b")") + 2 :].split()
    return Process(
        pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        start=float(fields[19]),
        rss=int(fields[21]) * _PAGE,
        zombie=fields[0] in (b"Z", b"X"),
    )


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def _from_psutil(pid: int) -> Process | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Process(
                pid,
                parent=process.ppid(),
                session=os.getsid(pid),
                start=process.create_time(),
                rss=_rss(process),
                zombie=process.status() == psutil.STATUS_ZOMBIE,
            )
    except (psutil.Error, OSError):
        return None


def _rss(process: object) -> int:
    import psutil

    try:
        return int(process.memory_info().rss)  # type: ignore[attr-defined]
    except (psutil.Error, OSError):
        return 0
