"""Effects that may happen only once, over several lives of a run, as a user sees them."""

from __future__ import annotations

from tests.resume.conftest import Shell

ROUTINE = """
steps:
  - {id: check, tool: shell, effects: none, parameters: {command: "test -e open"}}
  - id: note
    needs: [check]
    trigger_rule: all_done
    tool: shell
    parameters: {command: "echo sent >> notes; echo sent"}
  - id: after
    needs: [note]
    trigger_rule: all_done
    tool: echo
    parameters: {message: "{{ steps.note.result.stdout }}"}
outputs: {said: "{{ steps.after.result }}"}
"""


def test_a_completed_once_step_below_what_is_done_again_is_reused(vrooli: Shell) -> None:
    assert vrooli("run", vrooli.write(ROUTINE)).code == 1
    (vrooli.folder / "open").touch()
    done = vrooli("resume", "last", "-o", "json")
    assert (done.code, done.json["result"]) == (0, {"said": "sent\n"})
    assert [done.json["steps"][name]["reused"] for name in ("check", "note", "after")] == [False, True, False]
    assert (vrooli.folder / "notes").read_text() == "sent\n"


def test_it_happens_again_when_somebody_says_so(vrooli: Shell) -> None:
    assert vrooli("run", vrooli.write(ROUTINE)).code == 1
    wrong = vrooli("resume", "last", "--assume", "note=done")
    assert (wrong.code, "only note=rerun can be said of it" in wrong.err) == (2, True)
    unknown = vrooli("resume", "last", "--assume", "after=rerun")
    assert (unknown.code, "no step's outcome is unknown" in unknown.err) == (2, True)
    assert vrooli("resume", "last", "--assume", "note=rerun").code == 1
    assert (vrooli.folder / "notes").read_text() == "sent\nsent\n"
    (vrooli.folder / "open").touch()
    assert vrooli("resume", "last").code == 0
    assert (vrooli.folder / "notes").read_text() == "sent\nsent\n"
