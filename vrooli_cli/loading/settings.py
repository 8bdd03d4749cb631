"""What a call says by its flags and ``VROOLI_*`` (spec cli.md, "Settings")."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, Literal

from vrooli_cli.errors import InputError
from vrooli_cli.loading.durations import parse_duration
from vrooli_cli.model.routine import Limits as Allocation
from vrooli_cli.model.values import lean


@lean(kw_only=True)
class Settings:
    """What flags or ``VROOLI_*`` say; None (or empty) is "not said", so the level below decides.

    Attributes:
        tools: Folders of tools beside the project's.
        import_tools: Import tool files also where nothing is run.
        grace_ms: From TERM to KILL.
        store: The journal's file; ``no_store`` keeps it in memory.
    """

    model: str | None = None
    executor: str | None = None
    store: str | None = None
    view: Literal["live", "plain", "none"] | None = None
    output: Literal["text", "json", "yaml", "ndjson", "none"] | None = None
    schedule: Literal["eager", "batched"] | None = None
    timeout_ms: int | None = None
    grace_ms: int | None = None
    max_concurrent: int | None = None
    max_credits: int | None = None
    max_cost: float | None = None
    tools: tuple[str, ...] = ()
    import_tools: bool | None = None
    keep_going: bool | None = None
    no_store: bool | None = None
    no_cache: bool | None = None
    no_input: bool | None = None
    allow_unpriced: bool | None = None
    yes: bool | None = None

    def over(self, below: Settings) -> Settings:
        """These settings, with what they do not say taken from ``below``."""
        names = [f.name for f in fields(self)]
        gaps = {name: getattr(below, name) for name in names if getattr(self, name) in (None, ())}
        return replace(self, **gaps)

    def executor_over(self, written: Mapping[str, Any] | None) -> str:
        """Where tools run: what is said here, else what a file or its project has written, else ``local``."""
        return self.executor or (f"dask:{written['dask']}" if written else "local")

    def ceilings(self, file: Allocation) -> Allocation:
        """A file's allocation under these settings; the time-out of a run is the option's, not the allocation's."""
        limits = file
        credits_ = [c for c in (self.max_credits, _credits(self.max_cost)) if c is not None]
        if credits_:
            limits = replace(limits, max_credits=min(credits_))
        if self.max_concurrent is not None:
            limits = replace(limits, max_concurrent_steps=self.max_concurrent)
        return limits


def _credits(cost: float | None) -> int | None:
    return None if cost is None else round(cost * 1_000_000)


def settings_from_environment(environ: Mapping[str, str]) -> Settings:
    """What ``VROOLI_MODEL``, ``VROOLI_STORE`` and the others say; empty ones say nothing.

    Raises:
        InputError: With every variable that cannot be read, a line each.
    """
    read: dict[str, Any] = {}
    wrong = []
    for name, (variable, convert) in _VARIABLES.items():
        text = environ.get(variable, "").strip()
        if text:
            try:
                read[name] = convert(text)
            except ValueError as error:
                wrong.append(f"{variable}: {error}")
    if wrong:
        raise InputError("\n".join(wrong))
    return Settings(**read)


def _flag(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(f"expected 1 or 0, not {text!r}")
    return words[text.lower()]


def _whole(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least):
            raise ValueError(f"expected a whole number, at least {least}, not {text!r}")
        return int(text)

    return convert


def _cost(text: str) -> float:
    try:
        cost = float(text)
    except ValueError:
        cost = -1
    if not 0 <= cost < 1e12:
        raise ValueError(f"expected US dollars, not {text!r}")
    return cost


def _word(*words: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected one of {', '.join(words)}, not {text!r}")
        return text

    return convert


SCHEDULER: Final = re.compile(r"local|(?:dask|tcp|tls|ws|wss|ucx)://(?:[^\s/:\[\]]+|\[[0-9a-fA-F:.]+\]):\d+")
"""The address of a Dask scheduler, or ``local`` for a cluster on this machine that ends with the run."""


def executor(text: str) -> str:
    """``local``, ``dask:local``, ``dask://HOST:PORT`` or ``dask:ADDRESS``, as ``--executor`` takes it.

    Raises:
        ValueError: It is none of them.
    """
    if text != "local" and not (text.startswith("dask:") and SCHEDULER.fullmatch(scheduler_address(text))):
        raise ValueError(f"expected local, dask:local or dask://HOST:PORT, not {text!r}")
    return text


def scheduler_address(text: str) -> str:
    """The scheduler's address in what ``--executor`` or a file says, as Dask wants it; "" when tools run here."""
    if text == "local":
        return ""
    address = text if text.startswith("dask://") else text.removeprefix("dask:")
    return f"tcp://{address.removeprefix('dask://')}" if address.startswith("dask://") else address


def _folders(text: str) -> tuple[str, ...]:
    return tuple(folder for folder in text.split(":") if folder)


_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "model": ("VROOLI_MODEL", str),
    "executor": ("VROOLI_EXECUTOR", executor),
    "store": ("VROOLI_STORE", str),
    "view": ("VROOLI_VIEW", _word("live", "plain", "none")),
    "output": ("VROOLI_OUTPUT", _word("text", "json", "yaml", "ndjson", "none")),
    "schedule": ("VROOLI_SCHEDULE", _word("eager", "batched")),
    "timeout_ms": ("VROOLI_TIMEOUT", parse_duration),
    "grace_ms": ("VROOLI_GRACE", parse_duration),
    "max_concurrent": ("VROOLI_MAX_CONCURRENT", _whole(1)),
    "max_credits": ("VROOLI_MAX_CREDITS", _whole(0)),
    "max_cost": ("VROOLI_MAX_COST", _cost),
    "tools": ("VROOLI_TOOLS", _folders),
    "keep_going": ("VROOLI_KEEP_GOING", _flag),
    "no_store": ("VROOLI_NO_STORE", _flag),
    "no_cache": ("VROOLI_NO_CACHE", _flag),
    "no_input": ("VROOLI_NO_INPUT", _flag),
    "allow_unpriced": ("VROOLI_ALLOW_UNPRICED", _flag),
    "yes": ("VROOLI_YES", _flag),
}
VARIABLES: tuple[str, ...] = tuple(variable for variable, _ in _VARIABLES.values())
"""Every environment variable that vrooli reads as a setting."""
