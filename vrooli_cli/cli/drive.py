"""A prepared run from its start to its exit code: view, streams of events, signals, result.

Whatever prepares a run (``run``, later ``resume`` and others) drives it with :func:`drive`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from vrooli_cli.cli.console import Console, Invocation
from vrooli_cli.cli.crash import report_bug
from vrooli_cli.cli.output import Stdout, as_json, field_text, outputs_text, result_line
from vrooli_cli.cli.prompt import TerminalApprover
from vrooli_cli.cli.signals import Signals
from vrooli_cli.cli.signals import exit_code as signal_code
from vrooli_cli.errors import InputError, exit_code
from vrooli_cli.language.shorten import cut
from vrooli_cli.model.addresses import HANDLER, task_of
from vrooli_cli.model.run import ExecutionResult, ExecutionStatus
from vrooli_cli.model.values import lean
from vrooli_cli.tier2.run import RESULT_LIMIT

if TYPE_CHECKING:
    from vrooli_cli.architecture import ExecutionArchitecture
    from vrooli_cli.cli.report import Papers
    from vrooli_cli.errors import Pointer
    from vrooli_cli.loading.bundle import LoadedBundle
    from vrooli_cli.model.routine import Routine
    from vrooli_cli.model.swarm import SwarmDefinition
    from vrooli_cli.tier1.plan import AgentPlan
    from vrooli_cli.tier1.swarm import PreparedSwarm
    from vrooli_cli.tier2.plan import RoutinePlan
    from vrooli_cli.tier2.tier import PreparedRun
    from vrooli_cli.view import View

_AT_A_TIME = 100  # steps of a result that are encoded together


@lean(kw_only=True)
class How:
    """How a run is shown, and what is printed of it.

    Attributes:
        format: One of ``text``, ``json``, ``yaml``, ``ndjson``, ``none``.
        field: The one output that is printed, raw.
        view: None chooses by the terminal.
        level: -1 for ``-q``, 1 for ``-v``.
        events: A file for the events.
        junit, report: Files for the papers of the run.
        pass_exit: ``-x``.
        kept: False when the run is in memory only, so that nothing can go on with it.
        store: What ``--store`` said; commands that are shown repeat it.
    """

    format: str = "text"
    field: str | None = None
    view: Literal["live", "plain", "none"] | None = None
    level: int = 0
    events: str | None = None
    junit: str | None = None
    report: str | None = None
    pass_exit: bool = False
    kept: bool = True
    store: str | None = None


class _Copies:
    """Where events go besides the view: stdout with ``-o ndjson``, the file of ``--events``."""

    def __init__(self, how: How, stdout: Stdout, file: IO[bytes] | None) -> None:
        self._stdout = stdout if how.format == "ndjson" else None
        self._file = file

    @property
    def any(self) -> bool:
        """True when somebody gets events."""
        return self._stdout is not None or self._file is not None

    def attach(self, prepared: PreparedRun | PreparedSwarm) -> None:
        if self._stdout is not None:
            prepared.channel.sink(self._stdout.write)
        if self._file is not None:
            prepared.channel.sink(self._write)

    def _write(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
            self._file.flush()

    def end(self, line: bytes) -> str | None:
        """The last line, and why the file is not complete if it is not."""
        if self._stdout is not None:
            self._stdout.write(line)
        if self._file is None:
            return None
        try:
            self._write(line)
            self._file.close()
        except OSError as error:
            return str(error.strerror)
        return None


def open_events(how: How) -> IO[bytes] | None:
    """The file of ``--events``.

    Raises:
        InputError: It cannot be written.
    """
    if how.events is None:
        return None
    try:
        return Path(how.events).open("wb")  # closed with the last line
    except OSError as error:
        raise InputError(f"--events: {how.events} cannot be written: {error.strerror}") from None


async def drive(
    call: Invocation,
    architecture: ExecutionArchitecture,
    loaded: LoadedBundle,
    prepared: PreparedRun | PreparedSwarm,
    how: How,
    approver: object = None,
    file: IO[bytes] | None = None,
) -> int:
    """Run it, show it, print its result; the exit code."""
    from vrooli_cli.view import NullView, make_view

    call.masker = prepared.scope.masker
    if call.masker is not None and how.level >= 0:
        for name in call.masker.short_names:
            Console(call).warning(f"the secret {name!r} is short: it is masked only where it is a whole value")
    stdout = Stdout(call)
    limit = prepared.scope.account.limit
    view = make_view(
        how.view,
        sys.stderr,
        prepared.summary,
        run_id=prepared.run_id,
        credit_limit=limit,
        level=how.level,
        environ=call.environ,
    )
    if isinstance(approver, TerminalApprover):
        approver.view = view
    copies = _Copies(how, stdout, file)
    copies.attach(prepared)
    _remind(view, architecture, prepared)
    if not isinstance(view, NullView):  # it looks at nothing, and so nothing is made to be looked at
        prepared.channel.fold(view.apply)
    signals = Signals(lambda: _stop(prepared, view, how), lambda: _abandon(architecture, view))
    _settle_memory()
    view.start()
    try:
        with signals, redirect_stdout(sys.stderr):  # what a tool prints is for people
            result = await prepared.run()
            papers = _papers(call, architecture, loaded, prepared, how)
            await architecture.close()
    except BaseException:
        view.restore()
        raise
    wire = _wire(stdout, result, with_steps=copies.any or how.format in ("json", "yaml"))
    await view.stop(_shown_last(wire, prepared, how), hint=_hint(result, prepared, how))
    lost = copies.end(stdout.masked(result_line(wire, prepared.channel.next_seq))) if copies.any else None
    ended = _Ended(call, loaded, prepared, how, result, wire)
    ended.tell(lost)
    if papers is not None:
        papers.write(Console(call))
    code = ended.print(stdout) or ended.code(signals.received)
    untold = await architecture.traces_sent()
    if untold is not None:
        Console(call).warning(untold)
    return code


def _settle_memory() -> None:
    """From here on the collector looks only at what the run makes: modules and plan stay as long as the process."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _papers(
    call: Invocation,
    architecture: ExecutionArchitecture,
    loaded: LoadedBundle,
    prepared: PreparedRun | PreparedSwarm,
    how: How,
) -> Papers | None:
    from vrooli_cli.cli.report import gather

    return gather(
        call,
        architecture.store,
        prepared.run_id,
        junit=how.junit,
        report=how.report,
        plan=prepared.summary,
        locate=lambda address: locate(prepared, loaded, address),
    )


def _remind(view: View, architecture: ExecutionArchitecture, prepared: PreparedRun | PreparedSwarm) -> None:
    """A run that goes on is shown with what it has done before."""
    state = getattr(view, "state", None)
    if state is None or prepared.channel.next_seq <= 1:
        return
    from vrooli_cli.bus import replay

    for event in replay(architecture.store, prepared.channel.key):
        state.apply(event)


def _stop(prepared: PreparedRun | PreparedSwarm, view: View, how: How) -> None:
    if how.level >= 0:
        view.print("stopping: what runs gets a moment to end; once more (Ctrl-C) leaves at once")
    prepared.cancel("user")


def _abandon(architecture: ExecutionArchitecture, view: View) -> None:
    view.restore()
    architecture.host.processes.kill_all()


def _wire(stdout: Stdout, result: ExecutionResult, *, with_steps: bool) -> dict[str, Any]:
    """The result as it leaves the process: no secrets, nothing huge.

    Steps are encoded some at a time: of all that thousands of them have given there is no second copy.
    """
    wire = _masked(stdout, replace(result, steps={}).wire())
    names = list(result.steps) if with_steps else []
    for at in range(0, len(names), _AT_A_TIME):
        some = {name: result.steps[name].wire() for name in names[at : at + _AT_A_TIME]}
        for name, step in _masked(stdout, some).items():
            _shorten(step)
            wire["steps"][name] = step
    return wire


def _masked(stdout: Stdout, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Before anything is cut: half a secret is not known."""
    masked: dict[str, Any] = json.loads(stdout.masked(as_json(wire)))
    return masked


def _shown_last(wire: dict[str, Any], prepared: PreparedRun | PreparedSwarm, how: How) -> dict[str, Any]:
    """What the summary is made of: without the outputs, where the terminal shows them right below it anyway."""
    printed = how.format == "text" and declares(prepared.plan.routine)
    if wire["status"] == ExecutionStatus.SUSPENDED:  # the view says what it waits for; that is no failure
        wire = {**wire, "error": None}
    return {**wire, "result": None} if printed and sys.stdout.isatty() else wire


def _shorten(step: dict[str, Any]) -> None:
    """A step's result above 64 KiB is cut (spec cli.md)."""
    value = step.get("result")
    if value is None or isinstance(value, bool | int | float):
        return
    if (len(value) if isinstance(value, str) else len(as_json(value))) > RESULT_LIMIT:
        step |= {"result": cut(value, RESULT_LIMIT), "truncated": True}


def declares(definition: Routine | SwarmDefinition) -> bool:
    """True when the file says what its result is: outputs, or a synthesis."""
    return definition.outputs is not None or getattr(definition, "synthesis", None) is not None


def _hint(result: ExecutionResult, prepared: PreparedRun | PreparedSwarm, how: How) -> str | None:
    """The command that goes on, when the view cannot know it."""
    if not how.kept:
        return ""
    if how.store is None or result.success:
        return None
    return next(iter(commands(result, prepared, how)), "")


def commands(result: ExecutionResult, prepared: PreparedRun | PreparedSwarm, how: How) -> list[str]:
    """What a person may type next."""
    if result.success or not how.kept:
        return []
    import shlex

    run = result.context.execution_id
    store = f" --store {shlex.quote(how.store)}" if how.store else ""
    asked: list[tuple[str, str]] = []
    if result.status is ExecutionStatus.SUSPENDED:
        asked = prepared.waiting[:5]
    elif result.error is not None and result.error.code == "OUTCOME_UNKNOWN" and result.error.step:
        asked = [(result.error.step, result.error.code)]
    told = []
    for address, reason in asked:
        step = shlex.quote(address)
        unknown = reason == "OUTCOME_UNKNOWN"
        told.append(
            f"vrooli resume {run} --assume {step}=done{store}  (or =failed, =rerun)"
            if unknown
            else f"vrooli approve {run} {step} --resume{store}"
        )
    return told or [f"vrooli resume {run}{store}"]


@lean(frozen=False)
class _Ended:
    """A run that is over, and what there is to say."""

    call: Invocation
    loaded: LoadedBundle
    prepared: PreparedRun | PreparedSwarm
    how: How
    result: ExecutionResult
    wire: dict[str, Any]

    def tell(self, lost: str | None) -> None:
        """What the view does not say."""
        console, error = Console(self.call), self.wire["error"]
        if self.how.view == "none" and not self.result.success:
            step = f"{error['step']}: " if error is not None and error.get("step") else ""
            status = self.result.status.value
            console.error(f"{step}{error['code']}: {error['message']}" if error is not None else f"the run is {status}")
            for command in commands(self.result, self.prepared, self.how):
                console.say(f"  {command}")
        if self.result.status is ExecutionStatus.SUSPENDED and not self.how.kept:
            console.error("the run waits for an answer, but it was not stored; run it again with --yes or a store")
        if error is not None:
            self._annotate(console, error)
        if lost is not None:
            console.warning(f"--events: {self.how.events} is not complete: {lost}")

    def _annotate(self, console: Console, error: Mapping[str, Any]) -> None:
        if self.call.environ.get("GITHUB_ACTIONS") != "true":
            return
        file, line, column = locate(self.prepared, self.loaded, error.get("step") or "")
        step = f"{error['step']}: " if error.get("step") else ""
        console.annotate("error", f"{step}{error['code']}: {error['message']}", file, line, column)

    def print(self, stdout: Stdout) -> int:
        """The result on stdout; an exit code when that failed."""
        if self.how.format in ("json", "yaml") and not self.how.field:
            stdout.document(self.wire, self.how.format)
        elif self.how.format == "text" and self.result.success:
            try:
                stdout.text(self._text())
            except InputError as error:
                Console(self.call).error(error.message)
                return 1
        stdout.check()
        return 0

    def _text(self) -> str:
        if self.how.field:
            return field_text(self.result.result, self.how.field)
        return outputs_text(declares(self.prepared.plan.routine), self.result.result)

    def code(self, received: int) -> int:
        """The exit code of the table in cli.md."""
        result, error = self.result, self.result.error
        if result.success:
            return 0
        bug = self._bug()
        if bug:
            return bug
        if result.status is ExecutionStatus.SUSPENDED:
            return 5
        if result.status is ExecutionStatus.CANCELLED or error is None:
            return signal_code(received) if received else 130
        if error.code == "CANCELLED" and received:
            return signal_code(received)
        passed = error.context.get("exit_code")
        if self.how.pass_exit and error.code == "TOOL_FAILED" and isinstance(passed, int) and 0 < passed < 256:
            return passed
        return exit_code(error.code, ran=any(step.attempts for step in result.steps.values()))

    def _bug(self) -> int:
        error = self.result.error
        if self.prepared.bug is not None:
            return report_bug(self.call, self.prepared.bug)
        if error is not None and error.code == "INTERNAL":
            details = error.context.get("traceback") or f"{error.step}: {error.message}\n{error.cause or ''}"
            return report_bug(self.call, str(details))
        return 0


def locate(prepared: PreparedRun | PreparedSwarm, loaded: LoadedBundle, address: str) -> tuple[str, int, int]:
    """File, line and column of the step at an address; of the file alone when it is not known."""
    from vrooli_cli.tier2.plan import NoSuchStep, RoutinePlan

    whole, inside = prepared.plan, address
    plan: RoutinePlan | None = whole if isinstance(whole, RoutinePlan) else None
    found: tuple[Routine | SwarmDefinition, Pointer] | None = None
    if not isinstance(whole, RoutinePlan):
        first, _, inside = address.partition("/")
        at_work = _task_at(prepared, first)
        if at_work is not None:
            pointer, member = at_work
            found = (whole.swarm, pointer)
            plan = member.plan if member.has_routine else None
        elif first.startswith(HANDLER):
            plan = whole.handlers.get(first.removeprefix(HANDLER))
    if plan is not None:
        with suppress(NoSuchStep):
            for passed in plan.along(inside):
                found = (passed.owner.routine, passed.step.step.pointer)
    file, where = found or (whole.routine, None)
    source = loaded.sources.get(file.key)
    return (source.name, *source.locate(where)) if source is not None and where is not None else (file.path, 0, 0)


def _task_at(prepared: PreparedRun | PreparedSwarm, address: str) -> tuple[Pointer, AgentPlan] | None:
    """Where the file speaks of a task, and how the agent that had it at this try does it; None when unknown."""
    from vrooli_cli.tier1.swarm import PreparedSwarm

    named = task_of(address)
    if named is None or not isinstance(prepared, PreparedSwarm):
        return None
    machine, swarm = prepared.machine, prepared.plan.swarm
    task = machine.tasks.get(named.task) or machine.left.get(named.task)
    if task is None or named.index >= len(task.parts):
        return None
    part = task.parts[named.index]
    agent = part.tried[named.attempt - 1] if named.attempt <= len(part.tried) else part.agent
    member = prepared.plan.members[agent]
    pointer = task.spec.pointer or next((one.pointer for one in swarm.tasks or () if one.id == task.id), ())
    return pointer or member.definition.pointer, member


def leave(code: int, before: Collection[threading.Thread]) -> int:
    """The exit code; at once when the run abandoned a thread, which Python would otherwise trip over at its end."""
    if any(thread not in before for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    return code
