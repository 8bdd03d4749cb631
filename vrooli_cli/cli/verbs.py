"""The verbs there are, and where each lives; a family of verbs is added with its line here.

A module is imported when its verb is called. It has ``app``, a ``typer.Typer`` with commands or groups of these names.
A verb's function returns the exit code. What it cannot do it raises: ``cli.main`` shows every error at one place.
"""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """One verb.

    Attributes:
        module: Where its ``app`` is.
        about: What ``vrooli --help`` says.
        result: True when it prints an ExecutionResult, so that ``-o json`` gives one for every refusal as well.
    """

    module: str
    about: str
    result: bool = False


VERBS: dict[str, Verb] = {
    "run": Verb("vrooli_cli.cli.run", "Run a routine or a swarm", result=True),
    "resume": Verb("vrooli_cli.cli.resume", "Go on with a run that failed, was stopped or suspended", result=True),
    "rerun": Verb("vrooli_cli.cli.rerun", "Run a run's file again, reusing what has not changed", result=True),
    "approve": Verb("vrooli_cli.cli.resume", "Say yes to a step that waits for approval", result=True),
    "reject": Verb("vrooli_cli.cli.resume", "Say no to a step that waits for approval", result=True),
    "runs": Verb("vrooli_cli.cli.history", "List, show, follow, compare, add up, export and prune runs"),
    "report": Verb("vrooli_cli.cli.report", "Write one self-contained page about a run"),
    "validate": Verb("vrooli_cli.cli.check", "Say everything that is wrong with files, and run nothing"),
    "plan": Verb("vrooli_cli.cli.check", "Show batches, critical path, effects and the rules that would do"),
    "test": Verb("vrooli_cli.cli.test", "Run the cases of *.test.yaml, offline"),
    "tools": Verb("vrooli_cli.cli.tools", "List and show the tools there are, and call one"),
    "mcp": Verb("vrooli_cli.cli.mcp", "Offer the project's routines as tools to other MCP clients"),
    "init": Verb("vrooli_cli.cli.init", "Write a project that runs and tests at once, with no key"),
    "doctor": Verb("vrooli_cli.cli.doctor", "Say what is configured here, and whether the model answers"),
    "schema": Verb("vrooli_cli.cli.schema", "Print the JSON Schema of a kind of file, for editors"),
}
