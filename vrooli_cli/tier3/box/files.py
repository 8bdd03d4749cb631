"""``file_read``, ``file_write`` and ``file_list``. Where they may go is the gate's business: it resolves links."""

from __future__ import annotations

import base64
import binascii
import codecs
import fnmatch
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from vrooli_cli.errors import DefinitionError, ToolError
from vrooli_cli.language.values import text_of
from vrooli_cli.model.run import Effects
from vrooli_cli.tier3.box.schemas import schema, text
from vrooli_cli.tier3.box.shell import parsed
from vrooli_cli.tier3.host import blocking
from vrooli_cli.tier3.registry import Tool, ToolContext

MAX_BYTES: Final = 16 << 20
MAX_FILES: Final = 100_000
_MAX_VISITED: Final = 1_000_000

_FORMATS: Final = ["text", "json", "yaml", "csv", "lines", "bytes"]
_BY_SUFFIX: Final = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".csv": "csv", ".tsv": "csv"}
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def _format_of(path: str) -> str:
    return _BY_SUFFIX.get(os.path.splitext(path)[1].lower(), "text")  # noqa: PTH122 - no object for a suffix


def _separator(path: str) -> str:
    return "\t" if path.lower().endswith(".tsv") else ","


def _failed(path: str, what: str, error: OSError | ValueError) -> ToolError:
    """One line for what the system would not do."""
    if isinstance(error, IsADirectoryError):
        return ToolError(f"{path!r} cannot be {what}: it is a folder", context={"path": path})
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return ToolError(f"{path!r} cannot be {what}: {reason}", context={"path": path})


# --- file_read -------------------------------------------------------------------------------------------------------


def _read(params: dict[str, Any], context: ToolContext) -> Any:
    path = params["path"]
    data = read_bytes(context.path("path", path), path)
    match params.get("format") or _format_of(path):
        case "bytes":
            return base64.b64encode(data).decode("ascii")
        case "yaml":
            return _yaml(data, path)
        case "json":
            return _json(text_from(data), path)
        case "csv":
            return _csv(text_from(data), path)
        case "lines":
            return parsed(text_from(data), "lines")
    return text_from(data)


def read_bytes(place: str, path: str) -> bytes:
    """A regular file's content, at most :data:`MAX_BYTES`.

    Args:
        place: Where it is.
        path: How errors call it.

    Raises:
        ToolError: ``TOOL_FAILED``, one line.
    """
    try:
        # A pipe without a writer would block for ever; a regular file takes no notice of O_NONBLOCK.
        number = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(number, "rb") as file:  # noqa: PTH123 - a descriptor
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode):
                raise ToolError(f"{path!r} is not a regular file", context={"path": path})
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _failed(path, "read", error) from None
    if len(data) > MAX_BYTES:
        message = f"{path!r} is larger than {MAX_BYTES >> 20} MiB; read a part of it with `shell`"
        raise ToolError(message, context={"path": path, "limit": MAX_BYTES})
    return data


def text_from(data: bytes) -> str:
    """UTF-8, or UTF-16 with a byte order mark; what cannot be decoded becomes U+FFFD. Line breaks stay as they are."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    return data.decode("utf-8", "replace")


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _json(source: str, path: str) -> Any:
    try:
        return json.loads(source, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"{path!r} is not JSON: {error}", context={"path": path}) from None


def _yaml(data: bytes, path: str) -> Any:
    from vrooli_cli.loading.text import read_text

    try:
        return read_text(data, path).data
    except DefinitionError as error:
        raise ToolError(str(error), context={"path": path}) from None


def _csv(source: str, path: str) -> list[dict[str, str | None]]:
    """A map a line, by the names of the first one; a cell that is not there is null."""
    import csv

    reader = csv.reader(io.StringIO(source, newline=""), delimiter=_separator(path), strict=True)
    try:
        names = next((line for line in reader if line), [])
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ToolError(f"{path!r} has two columns called {twice[0]!r}", context={"path": path})
        return [_csv_row(names, line, path, reader.line_num) for line in reader if line]
    except csv.Error as error:
        raise ToolError(f"{path!r}, line {reader.line_num}: {error}", context={"path": path}) from None


def _csv_row(names: list[str], line: list[str], path: str, number: int) -> dict[str, str | None]:
    if len(line) > len(names):
        message = f"{path!r}, line {number}: {len(line)} cells, and the first line names {len(names)}"
        raise ToolError(message, context={"path": path})
    return {name: line[at] if at < len(line) else None for at, name in enumerate(names)}


# --- file_write ------------------------------------------------------------------------------------------------------


def _write(params: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    path, content = params["path"], params["content"]
    place, mode = context.path("path", path), params.get("mode", "create")
    wanted = params.get("format") or ("text" if isinstance(content, str) else _format_of(path))
    try:
        _make_folder(os.path.dirname(place))  # noqa: PTH120
        data = _encoded(content, wanted, path, place if mode == "append" else None)
        if mode == "append":
            _append(place, data)
        else:
            _replace(place, data, must_be_new=mode == "create")
    except FileExistsError:
        message = f"{path!r} is there already; `mode: overwrite` replaces it"
        raise ToolError(message, retryable=False, context={"path": path}) from None
    except (OSError, ValueError) as error:
        raise _failed(path, "written", error) from None
    return {"path": path, "bytes": len(data)}


def _make_folder(folder: str) -> None:
    if folder:
        try:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        except FileExistsError:
            raise NotADirectoryError(0, f"{folder!r} is not a folder") from None


def _encoded(content: Any, wanted: str, path: str, appended_to: str | None) -> bytes:
    if wanted == "bytes":
        try:
            return base64.b64decode(content if isinstance(content, str) else "", validate=True)
        except (binascii.Error, ValueError) as error:
            raise _unfit(f"format: bytes takes base64 text: {error}") from None
    encoders: dict[str, Callable[[], str]] = {
        "json": lambda: _json_text(content, one_line=appended_to is not None),
        "yaml": lambda: _yaml_text(content),
        "csv": lambda: _csv_text(content, path, appended_to),
        "lines": lambda: _lines_text(content),
        "text": lambda: text_of(content),
    }
    return encoders[wanted]().encode("utf-8", "replace")


def _json_text(content: Any, *, one_line: bool) -> str:
    return json.dumps(content, ensure_ascii=False, indent=None if one_line else 2, default=dict) + "\n"


def _yaml_text(content: Any) -> str:
    from vrooli_cli.loading.write import plain_yaml

    return plain_yaml(content)


def _lines_text(content: Any) -> str:
    if not isinstance(content, list):
        raise _unfit("format: lines takes a list")
    return "".join(f"{text_of(line)}\n" for line in content)


def _csv_text(content: Any, path: str, appended_to: str | None) -> str:
    """Rows under the columns of the file that they are appended to, else of all rows in the order of appearance."""
    if not isinstance(content, list) or not all(isinstance(row, Mapping) for row in content):
        raise _unfit("format: csv takes a list of maps")
    import csv

    columns = _header(appended_to, path) if appended_to else []
    known = bool(columns)
    columns = columns or list(dict.fromkeys(name for row in content for name in row))
    strange = next((name for row in content for name in row if name not in set(columns)), None) if known else None
    if strange is not None:
        raise _unfit(f"{path!r} has no column {strange!r}")
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=_separator(path), lineterminator="\n")
    if columns and not known:
        writer.writerow(columns)
    writer.writerows([text_of(row.get(name)) for name in columns] for row in content)
    return out.getvalue()


def _header(place: str, path: str) -> list[str]:
    if not os.path.exists(place) or os.path.getsize(place) == 0:  # noqa: PTH110, PTH202
        return []
    import csv

    with open(place, "rb") as file:  # noqa: PTH123
        first = text_from(file.readline(1 << 20))
    return next(iter(csv.reader([first], delimiter=_separator(path))), [])


def _unfit(message: str) -> ToolError:
    return ToolError(f"file_write: {message}", code="PARAMETER_INVALID", retryable=False)


def _replace(place: str, data: bytes, *, must_be_new: bool) -> None:
    """All of ``data`` or what was there before: written beside, flushed to disk, then moved into its name.

    Raises:
        FileExistsError: It must be new and is not, also when somebody else was quicker.
    """
    before = _regular(place)
    if before is not None and must_be_new:
        raise FileExistsError
    # O_CREAT with 0666 lets the umask decide, which mkstemp does not.
    beside = os.path.join(os.path.dirname(place), f".{os.urandom(8).hex()}.tmp")  # noqa: PTH118, PTH120
    number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(number, "wb") as file:  # noqa: PTH123
            file.write(data)
            file.flush()
            if before is not None:
                os.fchmod(number, stat.S_IMODE(before.st_mode))
            os.fsync(number)
        _move(beside, place, must_be_new=must_be_new)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)  # noqa: PTH108
    _sync_folder(os.path.dirname(place) or ".")  # noqa: PTH120


def _move(beside: str, place: str, *, must_be_new: bool) -> None:
    if not must_be_new:
        os.replace(beside, place)  # noqa: PTH105
        return
    try:
        os.link(beside, place)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the name is claimed first, then filled in one move
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        os.replace(beside, place)  # noqa: PTH105


def _sync_folder(folder: str) -> None:
    with suppress(OSError):  # not every file system can
        number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _regular(place: str) -> os.stat_result | None:
    try:
        found = os.stat(place)  # noqa: PTH116
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    return found


def _append(place: str, data: bytes) -> None:
    """All of ``data`` at the end, or nothing."""
    _regular(place)
    number = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        before = os.fstat(number).st_size
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(number, left) :]
            os.fsync(number)
        except OSError:
            os.ftruncate(number, before)
            raise
    finally:
        os.close(number)


def _write_effects(params: Mapping[str, Any]) -> Effects:
    return "once" if params.get("mode") == "append" else "idempotent"


# --- file_list -------------------------------------------------------------------------------------------------------


def _list(params: dict[str, Any], context: ToolContext) -> list[dict[str, Any]]:
    root, pattern = params.get("root", "."), params["glob"]
    if pattern.startswith("/"):
        root, pattern = "/", pattern.lstrip("/")
        place = "/"
    else:
        place = context.path("root", root)
    if not os.path.isdir(place):  # noqa: PTH112
        raise ToolError(f"{root!r} is not a folder", context={"path": root})
    found = []
    for name in _Walk(place, pattern, context).files():
        with suppress(OSError):  # it went while we looked
            found.append(_entry(place, root, name))
    return sorted((entry for entry in found if entry), key=lambda entry: entry["path"])


def _entry(place: str, root: str, name: str) -> dict[str, Any]:
    status = os.stat(os.path.join(place, name))  # noqa: PTH116, PTH118
    if not stat.S_ISREG(status.st_mode):
        return {}
    modified = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    path = os.path.normpath(os.path.join(root, name))  # noqa: PTH118
    return {"path": path.encode("utf-8", "replace").decode(), "size": status.st_size, "modified": modified}


class _Walk:
    """The files below a folder that a pattern names; each once.

    ``*``, ``?`` and ``[…]`` stand for a part of one name, ``**`` for any number of folders. A name that begins with a
    dot is matched only by a part that does. Behind the first wildcard no link to a folder is followed: that is where
    loops are, and ways out of the root that the gate has not seen.
    """

    def __init__(self, place: str, pattern: str, context: ToolContext) -> None:
        self._place = place
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        self._parts = [part for at, part in enumerate(parts) if part != "**" or parts[at - 1 : at] != ["**"]]
        self._context = context
        self._visited = 0
        self._seen: set[str] = set()

    def files(self) -> Iterator[str]:
        """Paths relative to the folder."""
        if self._parts and self._parts[-1] == "**":
            self._parts.append("*")
        for name in self._below("", 0, wild=False):
            if name not in self._seen:
                self._seen.add(name)
                if len(self._seen) > MAX_FILES:
                    raise ToolError(f"file_list: more than {MAX_FILES:,} files; use a narrower glob")
                yield name

    def _below(self, folder: str, at: int, *, wild: bool) -> Iterator[str]:
        if at == len(self._parts):
            return
        part, last = self._parts[at], at == len(self._parts) - 1
        if part == "**":
            yield from self._below(folder, at + 1, wild=True)
            for name, is_folder in self._entries(folder):
                if is_folder and not name.startswith("."):
                    yield from self._below(_joined(folder, name), at, wild=True)
        elif not any(mark in part for mark in "*?["):
            yield from self._literal(folder, at, wild=wild)
        else:
            matches = re.compile(fnmatch.translate(part)).match
            for name, is_folder in self._entries(folder):
                if matches(name) and (not name.startswith(".") or part.startswith(".")):
                    if last:
                        yield _joined(folder, name)
                    elif is_folder:
                        yield from self._below(_joined(folder, name), at + 1, wild=True)

    def _literal(self, folder: str, at: int, *, wild: bool) -> Iterator[str]:
        inner = _joined(folder, self._parts[at])
        place = os.path.join(self._place, inner)  # noqa: PTH118
        if at == len(self._parts) - 1:
            if os.path.isfile(place):  # noqa: PTH113
                yield inner
        elif os.path.isdir(place) and not (wild and os.path.islink(place)):  # noqa: PTH112, PTH114
            yield from self._below(inner, at + 1, wild=wild)

    def _entries(self, folder: str) -> list[tuple[str, bool]]:
        """Names in a folder, and whether each is a folder itself; a folder that may not be read is empty."""
        if self._context.cancelled:
            raise ToolError("stopped while listing")
        try:
            with os.scandir(os.path.join(self._place, folder)) as entries:  # noqa: PTH118
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            return []
        self._visited += len(found)
        if self._visited > _MAX_VISITED:
            raise ToolError(f"file_list: more than {_MAX_VISITED:,} names to look at; use a narrower glob or root")
        return found


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


# --- the tools -------------------------------------------------------------------------------------------------------

_PATH = text("The file, from the folder vrooli was started in.", format="path", minLength=1)

FILE_READ = Tool(
    name="file_read",
    description="Reads a file as text, JSON, YAML, CSV (a list of maps), lines or base64; at most 16 MiB.",
    answers="the content, in the shape of its `format`",
    schema=schema(("path",), path=_PATH, format=text("Default: by the suffix, else text.", enum=_FORMATS)),
    execute=blocking(_read),
    effects="idempotent",
    main="path",
)

FILE_WRITE = Tool(
    name="file_write",
    description="Writes a file, whole or not at all; folders on the way are made.",
    answers="`{path, bytes}`",
    schema=schema(
        ("path", "content"),
        path=_PATH,
        content={"description": "Text, or the value that `format` writes: maps and lists, rows, lines, base64."},
        format=text("Default: text for a text, else by the suffix.", enum=_FORMATS),
        mode=text(
            "create: the file must not be there; overwrite: replaces it and keeps its mode; append: adds to it.",
            enum=["create", "overwrite", "append"],
            default="create",
        ),
    ),
    execute=blocking(_write),
    effects="idempotent",
    effects_of=_write_effects,
    main="path",
    asks=True,
)

FILE_LIST = Tool(
    name="file_list",
    description="Lists the files that a pattern names (`*`, `?`, `[…]`, `**` for any folders), sorted by path.",
    answers="a list of `{path, size, modified}`: with `root` in front, in bytes, as text like 2026-01-31T09:30:00Z",
    schema=schema(
        ("glob",),
        glob=text("The pattern, e.g. `docs/**/*.md`.", minLength=1),
        root=text("The folder that the pattern starts in.", format="path", default="."),
    ),
    execute=blocking(_list),
    effects="idempotent",
    main="glob",
)
