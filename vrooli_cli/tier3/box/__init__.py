"""The tools that every vrooli has (spec routine.md, "Tools in the box")."""

from __future__ import annotations

from vrooli_cli.tier3.registry import Tool


def default_tools() -> list[Tool]:
    """The box, in the order of its table; what a tool needs beside the standard library is imported on first use."""
    from vrooli_cli.tier3.box import check, data, files, shell, table, web

    return [
        check.ECHO,
        shell.SHELL,
        web.HTTP,
        files.FILE_READ,
        files.FILE_WRITE,
        files.FILE_LIST,
        data.QUERY,
        data.TEMPLATE,
        table.TABLE,
        check.ASSERT,
        check.FAIL,
    ]
