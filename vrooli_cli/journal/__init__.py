"""Where runs are kept: one SQLite file for history and event log, large results beside it (spec engine.md, c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vrooli_cli.journal.lease import Lease
    from vrooli_cli.journal.store import SqliteStore, default_store_path, open_store

__all__ = ["Lease", "SqliteStore", "default_store_path", "open_store"]


def __getattr__(name: str) -> Any:
    """Import on first use: ``vrooli --help`` needs no sqlite3."""
    if name == "Lease":
        from vrooli_cli.journal.lease import Lease

        return Lease
    if name in __all__:
        from vrooli_cli.journal import store

        return getattr(store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
