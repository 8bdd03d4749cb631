"""A process that has imported vrooli once and forks for every command of the documentation.

A start of Python a command would cost more than all the commands. A request is a line of JSON on stdin:
``{argv, cwd, env, out, err}``, the last two files; the answer is a line with the exit code.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

_WARM = (
    *("vrooli_cli.architecture", "vrooli_cli.loading.bundle", "vrooli_cli.tier2.tier", "vrooli_cli.view.plain"),
    *("vrooli_cli.testing.running", "vrooli_cli.tier1.swarm", "vrooli_cli.tier3.box.web", "networkx", "jsonschema"),
    *("jinja2.sandbox", "httpx", "psutil", "rich.console", "vrooli_cli.tier3.box.data", "platformdirs", "genai_prices"),
)


def main() -> None:
    """Answer requests until stdin ends."""
    from vrooli_cli.cli.verbs import VERBS

    for name in (*_WARM, *dict.fromkeys(verb.module for verb in VERBS.values())):
        import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


def _become(request: dict[str, Any]) -> None:
    """Run one command line in this process, and end it."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    os.dup2(os.open(request["out"], flags, 0o600), 1)
    os.dup2(os.open(request["err"], flags, 0o600), 2)
    code = 70
    try:
        from vrooli_cli.cli.main import main

        sys.argv = ["vrooli", *request["argv"]]
        code = main(request["argv"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
