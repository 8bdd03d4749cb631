"""A run resumes with what it began with: knowledge, an XML organisation, its includes. A rerun reads the files anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.resume.conftest import Shell
from vrooli_cli.loading.bundle import load_bundle

ORGANISATION = """<organisational-specification os-version="0.8" xmlns="http://moise.sourceforge.net/os">
<structural-specification>
<role-definitions><role id="worker"/></role-definitions>
<group-specification id="g"><roles><role id="worker" min="1" max="2"/></roles>
<subgroups><include-group-specification uri="inner.xml"/></subgroups></group-specification>
</structural-specification>
<functional-specification><scheme id="s">
<goal id="root"><plan operator="sequence"><goal id="one"/><goal id="two"/></plan></goal>
<mission id="m" min="1" max="1"><goal id="one"/><goal id="two"/></mission>
</scheme></functional-specification>
<normative-specification><norm id="n" type="obligation" role="worker" mission="m"/></normative-specification>
</organisational-specification>"""
INNER = """<group-specification id="inner" xmlns="http://moise.sourceforge.net/os">
<roles><role id="worker" min="0" max="1"/></roles></group-specification>"""
SWARM = """
name: s
goal: g
agents: [{id: ana, capabilities: [], routine: do.yaml}]
constraints: os.xml
knowledge: [facts/*.md]
outputs: {all: "{{ tasks.two.result }}"}
"""
DO = """
steps:
  - {id: look, tool: knowledge_search, parameters: {query: whales}}
  - {id: gate, tool: shell, effects: idempotent, parameters: {command: "test -e open"}}
  - {id: say, tool: echo, parameters: {message: "{{ steps.look.result }}"}}
outputs: {text: "{{ steps.say.result }}"}
"""


@pytest.fixture
def began(vrooli: Shell) -> Shell:
    """A swarm that failed in its first task; the second has not looked anything up yet."""
    (vrooli.folder / "facts").mkdir()
    vrooli.write("Whales weigh 190 tons.", "facts/a.md")
    vrooli.write(ORGANISATION, "os.xml")
    vrooli.write(INNER, "inner.xml")
    vrooli.write(DO, "do.yaml")
    said = vrooli("run", vrooli.write(SWARM, "s.yaml"))
    assert said.code == 1, said.err
    (vrooli.folder / "open").touch()
    return vrooli


@pytest.mark.parametrize("name", ["facts/a.md", "os.xml", "inner.xml"])
@pytest.mark.parametrize("change", [lambda file: file.unlink(), lambda file: file.write_text("Whales are <small")])
def test_a_resumed_swarm_uses_what_it_began_with(began: Shell, name: str, change: Callable[..., object]) -> None:
    change(began.folder / name)
    said = began("resume", "last")
    assert said.code == 0, said.err
    assert "190 tons" in said.out


def test_a_knowledge_file_that_is_added_later_is_not_looked_up(began: Shell) -> None:
    began.write("Whales whales whales sing.", "facts/b.md")
    said = began("resume", "last")
    assert "190 tons" in said.out
    assert "sing" not in said.out


def test_a_new_run_reads_the_files_as_they_are_now(began: Shell) -> None:
    began.write("Whales sing.", "facts/a.md")
    said = began("rerun", "last")
    assert said.code == 0, said.err
    assert "sing" in said.out
    assert "190 tons" not in said.out


@pytest.mark.parametrize("name", ["facts/a.md", "os.xml", "inner.xml"])
def test_the_digest_covers_every_file(began: Shell, name: str) -> None:
    before = load_bundle(began.folder / "s.yaml").bundle.digest
    file = began.folder / name
    file.write_text(file.read_text() + "\n")
    assert load_bundle(began.folder / "s.yaml").bundle.digest != before
