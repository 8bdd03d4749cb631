"""Large results, by the hash of their content: files beside the store, or a dict for a store in memory."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from vrooli_cli.errors import StoreError
from vrooli_cli.journal.faults import os_fault

_YOUNG_SECONDS: Final = 3600  # a run may be about to name such a file


class Blobs:
    """Content by sha256; ``folder`` is None for a store in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        """Keep ``data`` through a power loss; its sha256 in hex. What is there already is not written again.

        Raises:
            StoreError: It cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        if self._folder is None:
            self._memory[digest] = data
            return digest
        path = self._path(digest)
        try:
            if path.exists():
                os.utime(path)  # young again: no prune removes it before its row is there
            else:
                self._write(path, data)
        except OSError as error:
            raise os_fault(error, str(self._folder)) from error
        return digest

    def get(self, digest: str) -> bytes:
        """What :meth:`put` kept.

        Raises:
            StoreError: It is not there, or it is not what was kept.
        """
        if self._folder is None:
            data = self._memory.get(digest)
        else:
            try:
                data = self._path(digest).read_bytes()
            except OSError:
                data = None
        if data is None:
            raise StoreError(
                f"the result {digest[:12]}… is missing beside the store; it was removed, run its step again"
            )
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"the result {digest[:12]}… beside the store is damaged; run its step again")
        return data

    def old(self) -> Iterator[str]:
        """Every digest that may be removed when no run names it."""
        if self._folder is None:
            yield from tuple(self._memory)
            return
        latest = time.time() - _YOUNG_SECONDS
        for path in self._folder.glob("??/*"):
            with suppress(OSError):
                if path.stat().st_mtime < latest:
                    yield path.name

    def remove(self, digest: str) -> None:
        """Forget one; no error when it is not there."""
        self._memory.pop(digest, None)
        if self._folder is not None:
            with suppress(OSError):
                self._path(digest).unlink()

    def _path(self, digest: str) -> Path:
        assert self._folder is not None
        return self._folder / digest[:2] / digest

    def _write(self, path: Path, data: bytes) -> None:
        """Whole or not at all: written beside, fsynced, renamed, and the folder fsynced."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
        except OSError:
            with suppress(OSError):
                beside.unlink()
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
