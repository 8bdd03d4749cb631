"""Tool calls on the workers of a Dask cluster (spec engine.md, l); an extra: ``pip install 'vrooli[dask]'``.

::

    DaskHost        a ToolHost: what can travel goes to a worker, the rest stays in this process
    cluster         the connection: calls out in batches, outcomes and news back, stops, and what to do when it is gone
    wire            what travels: calls, outcomes and tool files, sealed so that no log shows what is in them
    worker          the other end: the same LocalHost, in the worker's process

Nothing here imports ``distributed`` before the first call that travels.
"""

from __future__ import annotations

from vrooli_cli.tier3.dask.host import DaskHost

__all__ = ["DaskHost"]
