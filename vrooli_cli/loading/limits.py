"""How large a file may be; apart from what reads it, so that a start that reads nothing imports no yaml."""

from __future__ import annotations

from vrooli_cli.model.values import lean


@lean()
class Limits:
    """What a file may ask of the reader. Within the defaults the worst file stays under 5 s and 500 MB.

    Attributes:
        file_bytes: Bytes of the file.
        depth: Collections inside each other, aliases expanded. Routines written by people stay under 20, and recursive
            readers (JSON Schema takes about a dozen Python frames a level) inside Python's 1,000 frames.
        nodes: Values, aliases expanded; keys are not counted. A step has about eight.
        anchors: Values that aliases may name.
        characters: Characters that aliases may add to the text.
        problems: Problems of the text that are collected before the reading stops.
    """

    file_bytes: int = 16 * 1024 * 1024
    depth: int = 64
    nodes: int = 1_000_000
    anchors: int = 10_000
    characters: int = 16 * 1024 * 1024
    problems: int = 100
