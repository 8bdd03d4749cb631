"""Commands that outlive a run whose process was killed: noted while they run, looked for before the run goes on.

A command has a session of its own, so ``kill -9`` of vrooli leaves it at work. Nobody may take another process for it:
a session's number is used again only after its last member is gone, and a leader that began later, or before the
machine was started anew, is not ours.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from vrooli_cli.tier3 import proctable
from vrooli_cli.tier3.processes import AtWork, signal_group

_LAST_WORD: Final = 2.0  # seconds that killed processes have to disappear


def note(commands: Iterable[AtWork]) -> bytes:
    """A line a command."""
    return b"".join(map(_line, commands))


def living(notes: bytes) -> list[AtWork]:
    """Those of the noted commands of which at least one process lives."""
    noted = {one.session: one for line in notes.splitlines() if (one := _read(line)) is not None}
    if not noted:
        return []
    known = proctable.table()
    at_work = {one.session for one in known.values() if not one.zombie}
    return [one for one in noted.values() if one.session in at_work and _is_ours(one, known.get(one.session))]


def end(commands: Iterable[AtWork], grace: float) -> list[AtWork]:
    """TERM to their groups, ``grace`` seconds, KILL; blocks. Those that are still there afterwards."""
    left = list(commands)
    for sent, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _LAST_WORD)):
        for one in left:
            signal_group(one.session, sent)
        until = time.monotonic() + seconds
        while (left := living(note(left))) and time.monotonic() < until:
            time.sleep(0.02)
    return left


@lru_cache(256)  # each start of a command notes all that run beside it again
def _line(command: AtWork) -> bytes:
    return json.dumps([*command, _boot()]).encode() + b"\n"


def _read(line: bytes) -> AtWork | None:
    """A noted line of this boot of the machine; None for any other, and for half a line."""
    try:
        session, start, step, program, boot = json.loads(line)
    except (ValueError, TypeError):
        return None
    return AtWork(session, start, step, program) if boot == _boot() else None


def _is_ours(command: AtWork, leader: proctable.Process | None) -> bool:
    return leader is None or leader.start <= command.start


@lru_cache(1)
def _boot() -> str:
    """Which start of the machine this is; where the table's times are absolute that says nothing new."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
