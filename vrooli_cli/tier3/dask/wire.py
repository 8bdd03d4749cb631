"""What travels between vrooli and a worker: plain data, pickled and sealed."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from vrooli_cli.errors import VrooliError
from vrooli_cli.model.run import ExecutionError
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.box.shell import SHELL
from vrooli_cli.tier3.box.web import HTTP
from vrooli_cli.tier3.scope import ToolInvocation

MAX_TOOLBOX: Final = 32 << 20
"""Bytes that all tool folders of a project may have together, packed."""

TRAVELLING: Final = (SHELL, HTTP)
"""The tools of the box that run on workers; the others touch vrooli's own files, or are done before they got there."""

TOOLS: Final = "vrooli-tools-"
"""How the names of the plugins with tools begin."""

STATION: Final = "vrooli-station"
"""The name of the plugin that runs calls on a worker."""


class Gone(Exception):
    """The cluster cannot be used any more; the text is one line for people."""


class Lost(Exception):
    """The outcome of one call will never come; the text is one line for people."""


class Sealed:
    """A pickled value whose ``repr`` tells nothing: Dask writes arguments of failing tasks into its logs.

    Attributes:
        data: The pickle.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    @classmethod
    def of(cls, value: Any) -> Sealed:
        """Seal a value."""
        return cls(pickle.dumps(value, protocol=5))

    def open(self) -> Any:
        """The value."""
        return pickle.loads(self.data)

    def __repr__(self) -> str:
        return "<call>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Sealed, (self.data,)

    def __sizeof__(self) -> int:
        return 64 + len(self.data)


@lean(kw_only=True, frozen=False)
class FarCall:
    """One call with what its tool may know of the run; secrets only those that the tool asks for.

    Attributes:
        key: The name of its task in Dask, unless it shares that of another call.
        number: With ``topic``, the call's name for as long as this vrooli lives.
        topic: Where its news goes.
        version: Of the vrooli that sends it.
        toolbox: The name of the plugin with the project's tools.
        environ: What the tool takes over of the environment that vrooli was started in.
        trace: The headers of the trace that it belongs to.
        metered: Somebody wants to know what its commands use while they run.
        work_dir: The run's temporary folder.
    """

    invocation: ToolInvocation
    key: str
    number: int
    topic: str
    version: str
    toolbox: str
    execution_id: str
    root_id: str
    folder: str
    roots: tuple[str, ...] = ()
    work_dir: str = ""
    grace: float = 5.0
    secrets: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    trace: Mapping[str, str] = field(default_factory=dict)
    metered: bool = False


@lean()
class Toolbox:
    """The tool folders of a project, packed.

    Attributes:
        name: Names the content: two projects, or two states of one, never meet.
        data: A zip archive; the first part of each name is the folder's number.
        folders: Where the folders are on the machine that packed them.
    """

    name: str
    data: bytes
    folders: tuple[str, ...]

    def unpack(self, place: Path) -> list[Path]:
        """Write the files below ``place``; the folders, in the order in which they were packed."""
        folders = [place / str(n) for n in range(len(self.folders))]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            for entry in archive.infolist():
                file = place / entry.filename
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(entry))
                file.chmod(entry.external_attr >> 16 & 0o777)
        return folders


def pack(folders: Sequence[Path]) -> Toolbox:
    """These folders with all that is in them but hidden files and caches.

    Raises:
        VrooliError: They are too large, or cannot be read.
    """
    resolved = list(dict.fromkeys(folder.resolve() for folder in folders))
    buffer, size = io.BytesIO(), 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, file in _files(resolved):
            try:
                data, mode = file.read_bytes(), file.stat().st_mode
            except OSError as error:
                told = f"the tool file {file} cannot be read: {error.strerror}"
                raise VrooliError(told, code="TOOL_FAILED", tier="tier3") from None
            size += len(data)
            if size > MAX_TOOLBOX:
                told = f"the tools hold more than {MAX_TOOLBOX >> 20} MiB, too much to send to workers"
                raise VrooliError(f"{told}; keep data elsewhere", code="TOOL_FAILED", tier="tier3")
            entry = zipfile.ZipInfo(name)  # without a time: the same files have the same name
            entry.external_attr = (mode & 0o777) << 16
            archive.writestr(entry, data)
    packed = buffer.getvalue()
    digest = sha256(packed + "\0".join(map(str, resolved)).encode()).hexdigest()[:16]
    return Toolbox(f"{TOOLS}{digest}", packed, tuple(map(str, resolved)))


def _files(folders: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Name in the archive and file, in an order that depends on names alone."""
    for n, folder in enumerate(folders):
        for where, inner, names in os.walk(folder, followlinks=True):
            inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__pycache__")
            for name in sorted(names):
                file = Path(where, name)
                if not name.startswith(".") and file.is_file():
                    yield f"{n}/{file.relative_to(folder).as_posix()}", file


def minor(version: str) -> str:
    """Major and minor: what vrooli and its workers must share."""
    return ".".join(version.split(".")[:2])


def unknown_outcome(step: str, why: str) -> ExecutionError:
    """Nobody knows whether the effect of a ``once`` step happened."""
    message = f"{why}; nobody knows whether it happened"
    return ExecutionError(code="OUTCOME_UNKNOWN", message=message, tier="tier3", step=step)
