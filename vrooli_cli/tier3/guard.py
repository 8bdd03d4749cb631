"""What must not outlive this process, however it ends: a small shell waits for that, and ends process groups.

kill -9 and the out-of-memory killer leave no time to end anything. All the same the kernel closes our end of the
shell's pipe, on every system.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

_READ: Final = "while read -r line; do set -- $line; done"  # the last line holds: our end of the pipe is closed now
_POLITELY: Final = '[ $# = 0 ] || { for one; do kill -TERM "-$one"; done; sleep 1; }'
_KILL: Final = 'for one; do kill -KILL "-$one"; done'


class Guard:
    """Ends the groups that it was told of last when this process has ended.

    Args:
        begun: Told of the shell's process, which nobody should take for a stray one.
        politely: True sends TERM, and KILL a second later; False sends KILL at once.
    """

    def __init__(self, begun: Callable[[int], None], *, politely: bool) -> None:
        self._begun = begun
        self._script = "; ".join([_READ, *([_POLITELY] if politely else []), _KILL])
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, groups: Iterable[int]) -> None:
        """From now on, exactly these."""
        if self._process is None:
            self._process = subprocess.Popen(
                ["sh", "-c", self._script],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)  # a guard that is stopped must not stop us
            self._begun(self._process.pid)
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(" ".join(map(str, groups)).encode() + b"\n")

    def close(self) -> None:
        """It does what it is there for, and ends."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
