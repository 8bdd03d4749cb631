"""Tools that people write: Python functions, programs, installed packages (spec tools.md).

::

    load_tools      everything that a project, ``--tools`` and installed packages bring, and what is wrong with it
    tool            the decorator that makes a function a tool (``from vrooli_cli import tool``)
"""

from __future__ import annotations
