"""stdout: the result and nothing else, in the format that was asked for (spec cli.md, "run").

Bytes are written to the descriptor itself and are masked right before. A reader that goes away (``| head``) ends the
writing and nothing else; any other failure (a full disk) is an error, for a result that was not delivered is none.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vrooli_cli.cli.console import Invocation
from vrooli_cli.errors import InputError, VrooliError, did_you_mean

if TYPE_CHECKING:
    from vrooli_cli.model.run import ExecutionError

STDOUT = 1
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN)
_COLOUR_OR_CONTROL = re.compile("(\x1b\\[[0-9;:]*m)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Stdout:
    """The one who writes to stdout. ``write`` may be called from any thread.

    Attributes:
        gone: The reader has left; nothing more is written.
        failure: Why it could not be written, if it could not.
    """

    def __init__(self, call: Invocation, fd: int = STDOUT) -> None:
        self._call = call
        self._fd = fd
        self._turn = threading.Lock()
        self.gone = False
        self.failure: OSError | None = None

    def write(self, data: bytes) -> None:
        """All of it, or nothing more ever."""
        with self._turn:
            self._call.wrote = self._call.wrote or bool(data)
            left = memoryview(data)
            while left and not self.gone:
                left = left[self._some(left) :]

    def _some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # another process made the shared pipe non-blocking
            _wait_writable(self._fd)
            return 0
        except OSError as error:
            self.gone = True
            if error.errno not in _GONE:
                self.failure = error
            return len(data)

    def masked(self, data: bytes) -> bytes:
        """The bytes without the run's secrets."""
        masker = self._call.masker
        return masker.mask(data) if masker is not None else data

    def text(self, text: str) -> None:
        """Text, masked; bytes that were no UTF-8 when they came in go out as they came.

        On a terminal, and only there, what a tool or a model said cannot move the cursor, set the title or fill the
        clipboard: colours pass, every other control character is seen as its escape.
        """
        try:
            data = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            data = text.encode("utf-8", "replace")
        data = self.masked(data)
        self.write(_harmless(data) if os.isatty(self._fd) else data)

    def json(self, value: Any, *, indent: int | None = 2) -> None:
        """One JSON document and a newline."""
        self.write(self.masked(as_json(value, indent=indent)))

    def document(self, value: Any, format_: str) -> None:
        """One document as ``json`` or ``yaml``."""
        if format_ == "yaml":
            from vrooli_cli.loading.write import plain_yaml

            self.text(plain_yaml(_speakable(value)))
        else:
            self.json(value)

    def check(self) -> None:
        """Raises VrooliError when something could not be delivered for another reason than a reader that left."""
        if self.failure is not None:
            raise VrooliError(f"the result could not be written to stdout: {self.failure.strerror}", code="TOOL_FAILED")


def _harmless(data: bytes) -> bytes:
    from vrooli_cli.view.text import escape

    text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    shown = _COLOUR_OR_CONTROL.sub(lambda match: match[1] or escape(match[0]), text)
    return shown.encode("utf-8", "surrogateescape")


def _wait_writable(fd: int) -> None:
    import select

    select.select([], [fd], [], 1.0)


def as_json(value: Any, *, indent: int | None = None, compact: bool = False) -> bytes:
    """JSON with a newline; letters outside ASCII stay readable, what is no Unicode is escaped."""
    between = (",", ":") if compact else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False, default=str, separators=between)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _speakable(value: Any) -> Any:
    """Plain data for YAML: maps, lists, text, numbers; anything else as text."""
    return json.loads(as_json(value))


def outputs_text(declared: bool, result: Any) -> str:
    """What ``-o text`` prints: one string as it is, one other scalar as JSON, all else as a YAML map by name."""
    if declared and isinstance(result, str):  # a swarm's last word
        return result if result.endswith("\n") else f"{result}\n"
    if not declared or not isinstance(result, Mapping) or not result:
        return ""
    if len(result) == 1:
        value = next(iter(result.values()))
        if isinstance(value, str):
            return value if value.endswith("\n") else f"{value}\n"
        if not isinstance(value, Mapping | list | tuple):
            return json.dumps(value, ensure_ascii=False) + "\n"
    from vrooli_cli.loading.write import plain_yaml

    return plain_yaml(_speakable(result))


def field_path(path: str) -> list[str]:
    """``a.b[0].c`` as its parts.

    Raises:
        InputError: It names nothing.
    """
    parts = [part for part in path.replace("[", ".").replace("]", "").split(".") if part.strip()]
    if not parts:
        raise InputError("--field needs the name of an output, for example --field summary or --field report.rows[0]")
    return parts


def field_text(result: Any, path: str) -> str:
    """One output, raw: text as it is (with a newline at its end), everything else as JSON.

    Raises:
        InputError: There is no such output.
    """
    value, seen = result, ""
    for part in field_path(path):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.lstrip("-").isdigit() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            raise InputError(f"--field {path}: {_nothing(value, part, seen)}")
        seen = f"{seen}.{part}" if seen else part
    if isinstance(value, str):
        return value if value.endswith("\n") else f"{value}\n"
    return json.dumps(value, ensure_ascii=False) + "\n"


def _nothing(value: Any, part: str, seen: str) -> str:
    place = f"{seen} has" if seen else "the outputs have"
    if isinstance(value, Mapping):
        names = [str(name) for name in value]
        hint = did_you_mean(part, names) or (f"there is {', '.join(names[:12])}" if names else "there is nothing in it")
        return f"{place} no {part!r}; {hint}"
    if isinstance(value, list | tuple):
        return f"{place} {len(value)} items, and no item {part!r}"
    return f"{place} no parts"


def refusal_wire(error: ExecutionError) -> dict[str, Any]:
    """The ExecutionResult of a run that was refused before it had an id."""
    from vrooli_cli.model.run import ExecutionContext, ExecutionResult, ExecutionStatus, user_name

    context = ExecutionContext(execution_id="", user_id=user_name())
    result = ExecutionResult(success=False, status=ExecutionStatus.FAILED, context=context, error=error)
    wire = result.wire()
    wire["context"]["execution_id"] = None
    wire["context"]["correlation_id"] = None
    return wire


def result_line(wire: Mapping[str, Any], seq: int) -> bytes:
    """The last line of a stream of events."""
    return as_json({"v": 1, "seq": seq, "type": "result", **wire}, compact=True)
