"""JSON Schema of parameters, in few words."""

from __future__ import annotations

from typing import Any


def schema(required: tuple[str, ...] = (), /, **properties: dict[str, Any]) -> dict[str, Any]:
    """An object with these properties, in this order, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def text(description: str, **more: Any) -> dict[str, Any]:
    """Text."""
    return {"type": "string", "description": description, **more}


def anything(description: str) -> dict[str, Any]:
    """Any value."""
    return {"description": description}


def integer(description: str, **more: Any) -> dict[str, Any]:
    """A whole number."""
    return {"type": "integer", "description": description, **more}


def texts(description: str) -> dict[str, Any]:
    """A map of names to texts; numbers and true/false are written as text."""
    scalar = {"type": ["string", "number", "boolean"]}
    return {"type": "object", "additionalProperties": scalar, "description": description}
