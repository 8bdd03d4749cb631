"""A composite step around one that waits for a person waits as well, wherever a run is looked at."""

from __future__ import annotations

from tests.resume.conftest import Shell

CHILD = "steps:\n  - {id: ask, approval: 'Sure?'}\n"
ROUTINE = """
steps:
  - id: g
    parallel:
      - {id: c, routine: ./child.yaml}
      - {id: e, tool: echo, parameters: {message: 1}}
  - {id: l, for_each: [1, 2], approval: "Item {{ item }}?"}
  - {id: after, needs: [g, l], tool: echo, parameters: {message: done}}
"""


def test_what_is_around_a_suspended_step_is_suspended_too(vrooli: Shell) -> None:
    (vrooli.folder / "child.yaml").write_text(CHILD)
    said = vrooli("run", vrooli.write(ROUTINE), "-o", "json", "--no-input")
    shown = vrooli("runs", "show", "last", "-o", "json")
    for document in (said, shown):
        steps = {name: (one["status"], one.get("counts")) for name, one in document.json["steps"].items()}
        assert steps == {
            "g": ("suspended", {"suspended": 1, "completed": 1}),
            "l": ("suspended", {"suspended": 2}),
            "after": ("pending", None),
        }
    again = vrooli("approve", "last", "g/c/ask", "--resume", "-o", "json")
    shown = vrooli("runs", "show", "last", "-o", "json")
    for document in (again, shown):
        assert [one["status"] for one in document.json["steps"].values()] == ["completed", "suspended", "pending"]
