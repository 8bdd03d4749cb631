"""The values of a run's inputs: from flags, files, the environment and defaults (spec routine.md, "Inputs")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vrooli_cli.errors import DefinitionError, InputError, did_you_mean
from vrooli_cli.language.schema import coerce_text, compile_schema
from vrooli_cli.loading.files import read_content, read_regular
from vrooli_cli.loading.limits import Limits
from vrooli_cli.model.routine import Input

_LIMITS = Limits()


def resolve_inputs(
    inputs: Mapping[str, Input],
    texts: Mapping[str, str] | None = None,
    values: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    read_stdin: Callable[[], str] | None = None,
) -> dict[str, Any]:
    """The value of every declared input, in order of declaration; null for one that is optional and not given.

    Args:
        inputs: The declarations.
        texts: What ``-i`` gave: converted to the declared type; ``@file`` is the file's content, ``@@`` an ``@``, and
            ``-`` what ``read_stdin`` gives. They go before ``values``.
        values: What ``--inputs`` or a caller gave.
        environ: Where inputs with ``env`` are read when they are not given; an empty variable counts as not given.
        read_stdin: Reads stdin to its end.

    Raises:
        InputError: Something is missing, unknown or invalid; a line each, all at once. ``context["inputs"]`` has them
            by name.
    """
    texts, values, environ = texts or {}, values or {}, environ or {}
    wrong: dict[str, str] = {}
    for name in (*texts, *values):
        if name not in inputs:
            hint = did_you_mean(name, inputs) or f"its inputs are {', '.join(inputs) or 'none'}"
            wrong[name] = f"there is no input {name!r}; {hint}"
    resolved: dict[str, Any] = {}
    for name, declared in inputs.items():
        try:
            resolved[name] = _one(declared, texts, values, environ, read_stdin)
        except ValueError as error:
            wrong[name] = f"input {name!r}: {error}"
    if wrong:
        raise InputError("\n".join(wrong.values()), context={"inputs": wrong})
    return resolved


def _one(
    declared: Input,
    texts: Mapping[str, str],
    values: Mapping[str, Any],
    environ: Mapping[str, str],
    read_stdin: Callable[[], str] | None,
) -> Any:
    """One value; ValueError says in words what is wrong, without the value of a secret."""
    name = declared.name
    if name in texts:
        value = _converted(_text_of(texts[name], read_stdin), declared)
    elif name in values:
        value = values[name]
        if value is None and not declared.required:
            return None
    elif declared.env and environ.get(declared.env):
        value = _converted(environ[declared.env], declared)
    elif declared.has_default:
        return declared.default
    elif declared.required:
        raise ValueError(f"is missing; {_how_to_give(declared)}")
    else:
        return None
    _check(value, declared)
    return value


def _how_to_give(declared: Input) -> str:
    about = f" ({declared.description.splitlines()[0]})" if declared.description.strip() else ""
    variable = f" or set {declared.env}" if declared.env else ""
    return f"give it with -i {declared.name}=…{variable}{about}"


def _text_of(text: str, read_stdin: Callable[[], str] | None) -> str:
    if text == "-" and read_stdin is not None:
        return read_stdin()
    if text.startswith("@@"):
        return text[1:]
    if not text.startswith("@"):
        return text
    try:
        return read_content(Path(text[1:]), text[1:], _LIMITS).decode()
    except DefinitionError as error:
        raise ValueError(f"{error.problems[0]} (@ reads a file; write @@ for a text with @)") from None
    except UnicodeDecodeError:
        raise ValueError(f"{text[1:]} is not UTF-8 text") from None


def _converted(text: str, declared: Input) -> Any:
    try:
        return coerce_text(text, declared.schema)
    except ValueError as error:
        raise ValueError("the value does not fit" if declared.secret else str(error)) from None


def _check(value: Any, declared: Input) -> None:
    violations = compile_schema(declared.schema).check(value)
    if violations:
        raise ValueError("the value does not fit" if declared.secret else "; ".join(map(str, violations)))


def read_values(source: str, *, read_stdin: Callable[[], str] | None = None) -> dict[str, Any]:
    """The map in a file of ``--inputs`` (JSON or YAML), or on stdin for ``-``.

    Raises:
        InputError: It cannot be read, or holds no map.
    """
    from vrooli_cli.loading.shapes import found
    from vrooli_cli.loading.text import read_text

    try:
        if source == "-" and read_stdin is not None:
            document = read_text(read_stdin(), "<stdin>")
        else:
            document = read_regular(Path(source), source, _LIMITS).document
    except DefinitionError as error:
        raise InputError("\n".join(str(problem) for problem in error.problems)) from None
    if document.data is None:
        return {}
    if not isinstance(document.data, dict):
        raise InputError(f"{source}: expected a map of input names and values, not {found(document.data)}")
    return dict(document.data)


def resolve_secrets(secrets: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The value of every declared secret.

    Args:
        secrets: Name → environment variable.
        environ: The environment.

    Raises:
        InputError: A variable is not set; a line each.
    """
    missing = [
        f"secret {name!r}: the environment variable {variable} is not set"
        for name, variable in secrets.items()
        if not environ.get(variable)
    ]
    if missing:
        raise InputError("\n".join(missing))
    return {name: environ[variable] for name, variable in secrets.items()}
