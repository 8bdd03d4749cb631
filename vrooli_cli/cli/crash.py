"""A bug in vrooli: its details go to a file, the person gets one line that says which (exit code 70)."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from vrooli_cli.cli.console import Console, Invocation

BUG = 70


def report_bug(call: Invocation, bug: BaseException | str) -> int:
    """Write down what is known, say where, and give the exit code. ``--debug`` shows the traceback as well."""
    details = bug if isinstance(bug, str) else "".join(traceback.format_exception(bug))
    console = Console(call)
    if call.debug or "--debug" in call.argv:
        console.say(details)
    what = details.strip().splitlines()[-1][:200] if details.strip() else "no details"
    try:
        place = f"the details are in {_written(call, details)}; please report it with that file"
    except OSError as error:
        place = f"the details could not be written ({error.strerror}); run it again with --debug to see them"
    console.error(f"this is a bug in vrooli: {what}\n{place}")
    return BUG


def _written(call: Invocation, details: str) -> Path:
    """The crash file, for nobody but this user; secrets masked."""
    from platformdirs import user_state_dir

    folder = Path(user_state_dir("vrooli")) / "crashes"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    text = call.masked(f"{_about()}\nvrooli {call.verb}\n\n{details}")
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as out:
        out.write(text)
    return file


def _about() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        mine = version("vrooli")
    except PackageNotFoundError:
        mine = "unknown"
    return f"vrooli {mine}, Python {sys.version.split()[0]}, {sys.platform}"
