"""Rows of the log: what :class:`vrooli_cli.model.store.LogBatch` keeps short, and the whole lines it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_TIERS: Final = {b"tier1": b'"tier1"', b"tier2": b'"tier2"', b"tier3": b'"tier3"'}
_WHOLE: Final = (
    b'{"v":%b,"seq":%d,"id":"%b-%d","type":"%b","timestamp":"%b","execution_id":%b,"tier":%b,"payload":%b,'
    b'"metadata":%b}\n'
)


def lines_of(data: bytes, first: int) -> list[bytes]:
    """The events of a row as whole lines, each with its newline; ``first`` is the number of the first one."""
    if not data.startswith(b"#"):
        return data.splitlines(keepends=True)
    found: list[bytes] = []
    version = name = stamp = execution = metadata = b""
    for line in data.splitlines(keepends=True):
        if line.startswith(b"{"):
            found.append(line)
        elif line.startswith(b"#"):
            version, name, stamp, execution, metadata = line[1:-1].split(b"\t")
        else:
            kind, body, *own = line[:-1].split(b"\t")
            whose, about = own or (execution, metadata)
            tier = _TIERS.get(kind.partition(b"/")[0], b"null")
            seq = first + len(found)
            found.append(_WHOLE % (version, seq, name, seq, kind, stamp, whose, tier, body, about))
    return found


def payloads_of(data: bytes, kind: bytes) -> Iterator[bytes]:
    """The payloads of the events of one type in a row, as they are kept; no other line is looked into."""
    short, written = kind + b"\t", b'"type":"%b"' % kind
    for line in data.splitlines():
        if line.startswith(short):
            yield line.split(b"\t", 2)[1]
        elif line.startswith(b"{") and written in line.partition(b'"payload":')[0]:
            yield line.partition(b'"payload":')[2].rpartition(b',"metadata":')[0]
