"""A value put into the text of a YAML file in place of another; everything else stays as somebody wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from vrooli_cli.errors import Pointer
from vrooli_cli.loading.write import plain_yaml


def replace_value(text: str, pointer: Pointer, value: Any) -> str:
    """The text with ``value`` at ``pointer``; a last key that is not there yet is added to its map.

    Args:
        text: A file that the loader takes.
        pointer: Keys and positions from the root; all but a last key must be there.
        value: Plain data.

    Raises:
        LookupError: There is no such place.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    *before, last = pointer
    parent = _at(root, before)
    if not isinstance(parent, yaml.MappingNode):
        raise LookupError(f"there is no map at {before!r}")
    for key, node in parent.value:
        if key.value == last:
            return _replaced(text, parent, key, node, value)
    return _added(text, parent, str(last), value)


def _at(node: Any, pointer: list[str | int]) -> Any:
    for part in pointer:
        if isinstance(node, yaml.MappingNode):
            node = next((inner for key, inner in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            node = None
        if node is None:
            raise LookupError(f"there is nothing at {pointer!r}")
    return node


def _replaced(text: str, parent: Any, key: Any, node: Any, value: Any) -> str:
    start, end = key.end_mark.index, _end(text, node)
    if parent.flow_style:
        return f"{text[:start]}: {_flow(value)}{text[node.end_mark.index :]}"
    return f"{text[:start]}:{_block(value, key.start_mark.column)}{text[end:]}"


def _added(text: str, parent: Any, key: str, value: Any) -> str:
    if parent.flow_style:
        end = text.rindex("}", 0, parent.end_mark.index)
        comma = ", " if parent.value else ""
        return f"{text[:end].rstrip()}{comma}{key}: {_flow(value)}{text[end:]}"
    last = parent.value[-1][1]
    end = _end(text, last)
    column = parent.value[0][0].start_mark.column
    return f"{text[:end]}\n{' ' * column}{key}:{_block(value, column)}{text[end:]}"


def _end(text: str, node: Any) -> int:
    """Where a value ends: a block ends where the next token begins, so what stands between is not its."""
    end = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        header = text[node.start_mark.index : text.index("\n", node.start_mark.index)]
        return end - 1 if "+" in header.partition("#")[0] else len(text[:end].rstrip("\n"))
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        inner = node.value[-1]
        return _end(text, inner[1] if isinstance(inner, tuple) else inner)
    return int(end)


def _flow(value: Any) -> str:
    """In one line, as JSON, which YAML can read."""
    import json

    return json.dumps(value, ensure_ascii=False)


def _block(value: Any, column: int) -> str:
    """What stands behind ``key:``, beginning with the space or the line break."""
    text = plain_yaml(value).removesuffix("\n")
    if isinstance(value, str) or not isinstance(value, Mapping | list | tuple) or not value:
        lines = text.split("\n")
        indent = " " * column
        return " " + "\n".join([lines[0], *(f"{indent}{line}" if line else line for line in lines[1:])])
    indent = " " * (column + 2)
    return "\n" + "\n".join(f"{indent}{line}" if line else line for line in text.split("\n"))
