"""Values that are too large to be shown, cut so that their shape stays (spec cli.md, "run")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def cut(value: Any, room: int) -> Any:
    """About ``room`` characters of a value, with its shape: texts and lists lose their ends, maps their largest values.

    So a command's ``exit_code`` is still there when its ``stdout`` was long.
    """
    if isinstance(value, str):
        return value[:room]
    size = _size(value)
    if size <= room:
        return value
    if isinstance(value, Mapping):
        return _cut_map(value, room)
    if not isinstance(value, list | tuple):
        return None
    kept: list[Any] = []
    for item in value:
        size = _size(item)
        if size > room:
            return [*kept, cut(item, room)] if room > 0 and not kept else kept
        kept.append(item)
        room -= size + 1
    return kept


def _cut_map(value: Mapping[str, Any], room: int) -> dict[str, Any]:
    """The small values whole; the large ones share what is left. Keys are lost only where they alone are too much."""
    sizes: dict[str, int] = {}
    for key, item in value.items():
        room -= len(key) + 5
        if room < 0:
            break
        sizes[key] = _size(item)
    kept: dict[str, Any] = {}
    for left, key in zip(range(len(sizes), 0, -1), sorted(sizes, key=sizes.__getitem__), strict=True):
        share = max(0, room) // left
        kept[key] = value[key] if sizes[key] <= share else cut(value[key], share)
        room -= min(sizes[key], share)
    return {key: kept[key] for key in sizes}


def _size(value: Any) -> int:
    return len(value) + 2 if isinstance(value, str) else len(json.dumps(value, ensure_ascii=False, default=str))
