"""Finds the verb, and is the one place where an error becomes a line and an exit code.

Nothing of the engine is imported here; a verb's module is imported when the verb is called, and the engine inside its
functions, so that ``--help`` costs hardly more than typer itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from inspect import get_annotations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vrooli_cli.cli.complete import script as completion_script
from vrooli_cli.cli.console import Console, Invocation, coloured
from vrooli_cli.cli.help import read_plainly
from vrooli_cli.cli.verbs import VERBS
from vrooli_cli.errors import DefinitionError, InputError, VrooliError, did_you_mean, exit_code

if TYPE_CHECKING:
    from vrooli_cli.model.run import ExecutionError

USAGE = 2
INTERRUPTED = 130

_ABOUT = "Runs declarative YAML routines and AI swarms, in one process."


class Stopped(BaseException):
    """The verb was interrupted; typer would make an exit code of KeyboardInterrupt and say nothing."""


class LazyGroup(TyperGroup):
    """The verbs of :data:`VERBS`; each module is imported when its verb is asked for."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The flags before the verb."""
        return read_plainly(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """Every verb."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb's command, or None."""
        if cmd_name not in VERBS:
            return None
        if isinstance(ctx.obj, Invocation):
            ctx.obj.verb = cmd_name
        return _command(import_module(VERBS[cmd_name].module).app, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Call the verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that the first argument names."""
        name = args[0] if args else ""
        if name and name not in VERBS and not ctx.resilient_parsing:
            raise InputError(_no_verb(name))
        found = super().resolve_command(ctx, args)
        if not ctx.resilient_parsing:
            _refuse_bytes(args)
        return found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """One screen, made of the table of verbs alone."""
        del ctx
        formatter.write(help_text(coloured(sys.stdout, os.environ)))


def _command(app: typer.Typer, name: str) -> Any:
    """The command or the family of that name, and no other of its module: each costs some milliseconds to make."""
    for info in app.registered_commands:
        if info.name == name and info.callback is not None:
            # Typer reads the hints three times; text would be compiled each time.
            info.callback.__annotations__ = get_annotations(info.callback, eval_str=True)
            return typer.main.get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None)
    return typer.main.get_group(app).commands[name]


def _no_verb(name: str) -> str:
    if name.startswith("-"):
        return f"there is no option {name!r} before the verb; flags stand after it: `vrooli run FILE {name}`"
    hint = did_you_mean(name, VERBS)
    if hint:
        return f"there is no verb {name!r}; {hint}"
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        return f"there is no verb {name!r}; did you mean `vrooli run {name}`?"
    return f"there is no verb {name!r}; there is {', '.join(VERBS)}"


def help_text(colour: bool) -> str:
    """What ``vrooli --help`` prints."""

    def head(text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if colour else text

    width = max(map(len, VERBS)) + 2
    verbs = "\n".join(f"  {name:<{width}}{verb.about}" for name, verb in VERBS.items())
    return f"""{head("Usage:")} vrooli VERB [ARGUMENTS] [OPTIONS]

{_ABOUT}

{head("Verbs:")}
{verbs}

{head("Options:")}
  --help                Show this, or after a verb its flags
  --version             Show the version
  --install-completion  Complete verbs, flags, routines and tools in this shell
  --show-completion     Print the completion script

`vrooli VERB --help` tells the rest. Exit codes: 0 done, 1 failed, 2 refused,
3 denied, 4 over the limit, 5 suspended, 6 no model, 124 timed out.
"""


app = typer.Typer(
    name="vrooli",
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"vrooli {version('vrooli')}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    del version
    if ctx.invoked_subcommand is None:
        raise InputError("a verb is needed; `vrooli --help` shows them")


def run_command_line(argv: Sequence[str]) -> int:
    """One command line; the exit code. Raises nothing but KeyboardInterrupt; no traceback without ``--debug``."""
    call = Invocation(list(argv))
    try:
        return _called(call)
    except VrooliError as error:
        _show_traceback(call)
        return refuse(call, error)
    except Stopped:
        return interrupted(call)
    except typer.Abort:
        return INTERRUPTED
    except typer.TyperException as error:
        return refuse(call, InputError(_usage(call, error)))
    except RecursionError:
        return refuse(call, VrooliError("this is nested too deeply to be understood", code="DEFINITION_INVALID"))
    except Exception as bug:
        if isinstance(bug, FileNotFoundError) and _folder_is_gone():
            return refuse(call, InputError("the folder that you are in is not there any more; go to another one"))
        return bug_found(call, bug)


def _called(call: Invocation) -> int:
    completing = call.environ.get("_VROOLI_COMPLETE", "")
    if not call.argv and not completing:
        sys.stderr.write(help_text(coloured(sys.stderr, call.environ)))
        return USAGE
    if completing.startswith("source_") and (script := completion_script(completing.removeprefix("source_"))):
        sys.stdout.write(script)
        return 0
    command = typer.main.get_command(app)
    try:
        code = command.main(list(call.argv), prog_name="vrooli", standalone_mode=False, obj=call)
    except typer.Exit as left:
        code = left.exit_code
    return code if isinstance(code, int) else 0


def _refuse_bytes(argv: Iterable[str]) -> None:
    """InputError for an argument that is not UTF-8: neither the journal nor JSON could hold it."""
    for argument in argv:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = argument.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise InputError(
                f"the argument '{shown}' is not UTF-8 text; give the file or the value another name"
            ) from None


def _folder_is_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def interrupted(call: Invocation) -> int:
    """Somebody stopped the call before its run began: a line, and with ``-o json`` a result."""
    from vrooli_cli.cli.output import Stdout

    result = call.verb in VERBS and VERBS[call.verb].result
    Console(call).error("interrupted before anything was run" if result and not call.wrote else "interrupted")
    if result:
        from vrooli_cli.model.run import ExecutionError

        told = ExecutionError(code="CANCELLED", message="interrupted before anything was run")
        _print_refusal(call, told, Stdout(call))
    return INTERRUPTED


def refuse(call: Invocation, error: VrooliError) -> int:
    """Tell an error that ended the call; the exit code. With ``-o json`` its result, too."""
    from vrooli_cli.cli.output import Stdout

    console = Console(call)
    if isinstance(error, DefinitionError) and error.problems:
        console.problems(error.problems)
    else:
        console.error(error.message)
        console.annotate("error", error.message)
    if call.verb in VERBS and VERBS[call.verb].result:
        _print_refusal(call, _value(error), Stdout(call))
    return exit_code(error.code)


def _value(error: VrooliError) -> ExecutionError:
    from vrooli_cli.loading.report import problem_json
    from vrooli_cli.model.run import ExecutionError

    value = ExecutionError.of(error)
    if isinstance(error, DefinitionError):
        problems = [problem_json(problem) for problem in error.problems[:100]]
        value = replace(value, context={**value.context, "problems": problems})
    return value


def _print_refusal(call: Invocation, error: ExecutionError, stdout: Any) -> None:
    from vrooli_cli.cli.output import refusal_wire, result_line

    if call.wrote:  # a result stands there already, or a part of one
        return
    format_ = call.format()
    if format_ in ("json", "yaml"):
        stdout.document(refusal_wire(error), format_)
    elif format_ == "ndjson":
        stdout.write(stdout.masked(result_line(refusal_wire(error), 1)))


def bug_found(call: Invocation, bug: BaseException) -> int:
    """A bug of ours: a file with the details, a line, and with ``-o json`` a result."""
    from vrooli_cli.cli.crash import report_bug
    from vrooli_cli.cli.output import Stdout

    code = report_bug(call, bug)
    if call.verb in VERBS and VERBS[call.verb].result:
        from vrooli_cli.model.run import ExecutionError

        told = ExecutionError(code="INTERNAL", message="a bug in vrooli", cause=f"{type(bug).__name__}: {bug}"[:500])
        _print_refusal(call, told, Stdout(call))
    return code


def _usage(call: Invocation, error: Any) -> str:
    """A mistake on the command line in one or two lines."""
    message = str(error.format_message()).rstrip(".")
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and isinstance(option, str):
        context = getattr(error, "ctx", None)
        known = [name for one in context.command.params for name in one.opts] if context else []
        hint = did_you_mean(option, known)
        message = f"there is no option {option!r}{f'; {hint}' if hint else ''}"
    if not call.verb and any(word in VERBS for word in call.argv):
        return f"{message}\nflags stand after the verb: `vrooli VERB FILE {option or '…'}`"
    help_ = f"vrooli {call.verb} --help" if call.verb else "vrooli --help"
    return f"{message[:1].lower()}{message[1:]}\n`{help_}` shows what there is"


def _show_traceback(call: Invocation) -> None:
    if "--debug" in call.argv:
        import traceback

        Console(call).say(traceback.format_exc())
