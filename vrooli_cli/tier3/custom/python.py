"""Python functions as tools: the file is read (:mod:`.reading`), or imported to be run."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from vrooli_cli.errors import Problem, ToolError
from vrooli_cli.loading.durations import parse_duration
from vrooli_cli.loading.files import shown
from vrooli_cli.loading.tools import NAME
from vrooli_cli.model.run import EFFECTS_ORDER
from vrooli_cli.tier3.custom.author import MARK, ToolMark
from vrooli_cli.tier3.custom.reading import ReadFile, at_line
from vrooli_cli.tier3.custom.signature import Signature, Unfit, signature_of, summary
from vrooli_cli.tier3.registry import Execute, Tool, ToolContext

_MOST_CREDITS: Final = 10**15


def read_tools(file: ReadFile) -> tuple[list[Tool], list[Problem]]:
    """The tools of a file that nobody has imported: right in every point, but they cannot be called."""
    tools, problems = [], list(file.problems)
    for found in file.tools:
        try:
            made = tool_of(found.name, found.mark, found.signature, found.doc, _not_imported)
        except Unfit as error:
            problems.append(at_line(file.name, found.line, f"the tool {found.name!r}: {error}", file.path))
            continue
        tools.append(replace(made, origin=f"{file.name}:{found.line}", digest=file.digest))
    return tools, problems


async def _not_imported(params: dict[str, Any], context: ToolContext, /) -> NoReturn:
    raise ToolError("this tool was only read, not imported", retryable=False)


def import_tools(file: ReadFile) -> tuple[list[Tool], list[Problem]]:
    """The tools of a file, ready to be called. Importing runs the file's code; what it prints goes to stderr."""
    if not file.wanted or not file.text:
        return [], list(file.problems)
    try:
        module = _imported(file.path)
    except (Exception, SystemExit) as error:
        return [], [_import_problem(file, error)]
    tools, problems = [], []
    for name, function in marked_in(module):
        line = _line_of(function)
        try:
            made = tool_of_function(function)
        except Unfit as error:
            problems.append(at_line(file.name, line, f"the tool {name!r}: {error}", file.path))
            continue
        tools.append(replace(made, origin=f"{file.name}:{line}", digest=file.digest))
    return tools, problems


def _imported(path: Path) -> ModuleType:
    """The module of a tool file, in a package of its folder's own: ``from ._shared import x`` works, names never clash.

    Its folder is searched last, so that ``import helpers`` works and nothing of the standard library is hidden.
    """
    folder = str(path.parent)
    package = f"vrooli_tools_{sha256(folder.encode()).hexdigest()[:12]}"
    if package not in sys.modules:
        made = ModuleType(package)
        made.__path__ = [folder]
        sys.modules[package] = made
    if folder not in sys.path:
        sys.path.append(folder)
    name = f"{package}.{path.stem}"
    sys.modules.pop(name, None)  # what stands in the file now is what counts
    importlib.invalidate_caches()
    with redirect_stdout(sys.stderr):
        return importlib.import_module(name)


def _import_problem(file: ReadFile, error: BaseException) -> Problem:
    """One line: what went wrong, at the line of the tool file that it went through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file.path)]
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    told = f"{type(error).__name__}: {first}"[:300] if first else type(error).__name__
    if isinstance(error, SystemExit):
        told = f"it ends the program ({told})"
    hint = "install it where vrooli is installed" if isinstance(error, ModuleNotFoundError) else ""
    return at_line(
        file.name, (lines[-1] if lines else 1) or 1, f"the tool file cannot be imported: {told}", file.path, hint
    )


def marked_in(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The tools that a module defines, or takes over from an installed package."""
    package = module.__name__.rpartition(".")[0]
    for name, value in list(vars(module).items()):
        home = getattr(value, "__module__", None)
        own = home == module.__name__ or not (package and isinstance(home, str) and home.startswith(f"{package}."))
        if callable(value) and own and isinstance(getattr(value, MARK, None), ToolMark):
            yield name, value


def tool_of_function(function: Callable[..., Any]) -> Tool:
    """The tool that a decorated function is.

    Raises:
        Unfit: It cannot be one.
    """
    mark: ToolMark = getattr(function, MARK, ToolMark())
    signature = signature_of(function)
    name = str(mark.name or getattr(function, "__name__", ""))
    return tool_of(name, mark, signature, inspect.getdoc(function) or "", _calling(function, signature, mark, name))


def tool_of(name: str, mark: ToolMark, signature: Signature, doc: str, execute: Execute) -> Tool:
    """The tool of a signature.

    Raises:
        Unfit: A name, hint or word of the decorator is not right.
    """
    schema = signature.schema()
    return Tool(
        name=_name(name),
        description=(mark.description or summary(doc)).strip(),
        schema=schema,
        execute=execute,
        effects=_effects(mark),
        credits=_credits(mark),
        main=_main(mark, schema),
        asks=mark.effects != "none",
        secrets=frozenset(mark.secrets),
        output_schema=signature.result_schema(),
        timeout_ms=_timeout(mark),
        origin="Python",
    )


def _name(name: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Unfit(f"{name!r} cannot be a tool's name: letters, digits, _ and -, no digit first")
    return name


def _effects(mark: ToolMark) -> Any:
    if mark.effects not in EFFECTS_ORDER:
        raise Unfit(f"effects is one of {', '.join(EFFECTS_ORDER)}, not {mark.effects!r}")
    return mark.effects


def _credits(mark: ToolMark) -> int:
    if isinstance(mark.credits, bool) or not isinstance(mark.credits, int) or not 0 <= mark.credits <= _MOST_CREDITS:
        raise Unfit(f"credits is a whole number, not {mark.credits!r}")
    return mark.credits


def _main(mark: ToolMark, schema: Any) -> str:
    if mark.main and mark.main not in schema["properties"]:
        raise Unfit(f"main={mark.main!r} is none of its parameters")
    return mark.main


def _timeout(mark: ToolMark) -> int | None:
    if mark.timeout is None:
        return None
    try:
        milliseconds = parse_duration(mark.timeout)
    except (ValueError, TypeError):
        milliseconds = 0
    if milliseconds <= 0:
        raise Unfit(f"timeout is seconds or a duration such as 30s, not {mark.timeout!r}")
    return milliseconds


def _calling(function: Callable[..., Any], signature: Signature, mark: ToolMark, name: str) -> Execute:
    """What a call does: bind, call (in a thread unless it is async), and make the answer plain."""
    is_async = inspect.iscoroutinefunction(function)

    async def execute(params: dict[str, Any], context: ToolContext, /) -> Any:
        known = context.scope.secrets
        if known:
            asked = {key: known[key] for key in mark.secrets if key in known}
            context.scope = context.scope.child(secrets=asked)
        arguments = signature.bind(params, name)
        if signature.context is not None:
            arguments[signature.context] = context
        if is_async:
            result = await function(**arguments)
        else:
            result = await context.in_thread(partial(function, **arguments))
        return signature.plain(result)

    return execute


def _line_of(function: Callable[..., Any]) -> int:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_firstlineno if code is not None else 1


def origin_of(function: Callable[..., Any]) -> str:
    """``file:line`` of a live function."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{shown(Path(code.co_filename))}:{code.co_firstlineno}" if code is not None else repr(function)
