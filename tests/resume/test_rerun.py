"""`vrooli rerun` and `cache`: what is unchanged is used again, and why is told."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.resume.conftest import Said, Shell

CHAIN = """
inputs: {who: {type: string, default: me}}
vars: {seen: none}
steps:
  - {id: a, tool: shell, parameters: {command: "echo a >> marks; echo {{ who }}"}, set: {seen: "{{ result.stdout }}"}}
  - {id: b, tool: shell, parameters: {command: "echo b >> marks; echo {{ steps.a.result.stdout }}"}}
  - {id: c, tool: shell, parameters: {command: "echo c >> marks; echo C {{ steps.b.result.stdout }}"}}
  - {id: side, tool: shell, parameters: {command: "echo side >> marks; echo {{ vars.seen }}"}, depends_on: [a]}
outputs: {c: "{{ steps.c.result.stdout }}", side: "{{ steps.side.result.stdout }}"}
"""


def marks(vrooli: Shell) -> str:
    """The steps that ran since the last look, in order of name."""
    file = vrooli.folder / "marks"
    words = sorted(file.read_text().split()) if file.exists() else []
    file.unlink(missing_ok=True)
    return " ".join(words)


def told(said: Said) -> dict[str, tuple[str, str]]:
    """Step → (reused or ran, why), from the lines at the end."""
    found = {}
    for line in said.err.splitlines():
        words = line.split(maxsplit=2)
        if line.startswith("  ") and words and words[0] in ("reused", "ran"):
            found[words[1]] = (words[0], words[2])
    return found


@pytest.fixture
def chain(vrooli: Shell) -> Shell:
    assert vrooli("run", vrooli.write(CHAIN)).code == 0
    assert marks(vrooli) == "a b c side"
    return vrooli


def test_without_a_selector_everything_runs(chain: Shell) -> None:
    assert chain("rerun", "last").code == 0
    assert marks(chain) == "a b c side"
    assert len(chain.runs()) == 2


def test_from_runs_a_step_and_what_comes_after_it(chain: Shell) -> None:
    said = chain("rerun", "last", "--from", "b")
    assert said.code == 0
    assert marks(chain) == "b c"
    reasons = told(said)
    assert reasons["a"][0] == reasons["side"][0] == "reused"
    assert "unchanged since run" in reasons["a"][1]
    assert reasons["b"] == reasons["c"] == ("ran", "it was asked for")


def test_only_runs_one_step_when_it_gives_the_same(chain: Shell) -> None:
    first = chain("runs", "show", "last", "-o", "json").json["result"]
    said = chain("rerun", "last", "--only", "b", "-o", "json")
    assert marks(chain) == "b"
    assert said.json["result"] == first
    assert said.json["steps"]["c"]["reused"] is True
    assert said.json["steps"]["c"]["attempts"] == 0


def test_an_edited_step_runs_with_what_depends_on_it_and_says_what_differs(chain: Shell) -> None:
    chain.write(CHAIN.replace("echo b >> marks; echo", "echo b >> marks; echo edited"))
    said = chain("rerun", "last", "--failed")
    assert said.out.startswith("c: ")
    assert marks(chain) == "b c"
    assert told(said)["b"] == ("ran", "parameters.command differs")
    assert told(said)["c"] == ("ran", "parameters.command differs")


def test_a_new_name_order_or_priority_changes_nothing(chain: Shell) -> None:
    chain.write(CHAIN.replace("{id: b,", "{id: b, name: Bee, description: x, priority: high, timeout: 1m,"))
    chain("rerun", "last", "--failed")
    assert marks(chain) == ""


def test_another_input_runs_what_uses_it(chain: Shell) -> None:
    said = chain("rerun", "last", "--failed", "-i", "who=you")
    assert said.code == 0
    assert marks(chain) == "a b c side"
    assert chain("rerun", "last", "--failed").code == 0
    assert marks(chain) == ""
    assert chain.history().inputs == {"who": "you"}


def test_failed_runs_only_what_did_not_complete(vrooli: Shell) -> None:
    text = CHAIN.replace("echo c >> marks;", "echo c >> marks; test -e open || exit 3;")
    vrooli("run", vrooli.write(text))
    assert marks(vrooli) == "a b c side" or True
    (vrooli.folder / "open").touch()
    said = vrooli("rerun", "last", "--failed")
    assert said.code == 0
    assert marks(vrooli) == "c"
    assert told(said)["c"] == ("ran", f"it did not complete in run {vrooli.runs()[1].id}")


def test_a_reused_step_sets_and_exports_as_always(vrooli: Shell) -> None:
    text = """
vars: {x: 0}
steps:
  - {id: a, tool: echo, parameters: {message: 5}, set: {x: "{{ result + 1 }}"}, export: {k: "{{ result + 2 }}"}}
  - {id: b, tool: echo, parameters: {message: "{{ vars.x }} {{ blackboard.k }}"}, depends_on: [a]}
outputs: {b: "{{ steps.b.result }}"}
"""
    assert vrooli("run", vrooli.write(text)).out == "6 7\n"
    assert vrooli("rerun", "last", "--only", "b").out == "6 7\n"


def test_items_of_a_loop_are_found_where_they_have_moved_to(vrooli: Shell) -> None:
    text = """
inputs: {items: {type: array}}
steps:
  - id: each
    for_each: "{{ items }}"
    parallel:
      - {id: in, tool: shell, parameters: {command: "echo {{ item }} >> marks; echo {{ item }}"}}
  - {id: poll, repeat: {until: iteration >= 2}, tool: shell, parameters: {command: "echo poll >> marks"}}
outputs: {all: "{{ steps.each.result }}"}
"""
    vrooli("run", vrooli.write(text), "-i", 'items=["x","y"]')
    assert marks(vrooli) == "poll poll x y"
    said = vrooli("rerun", "last", "--failed", "-i", 'items=["new","x","y"]', "-o", "json")
    assert marks(vrooli) == "new"
    assert [one["in"]["stdout"] for one in said.json["result"]["all"]] == ["new\n", "x\n", "y\n"]
    assert "where it was each[0]/in" in told(said)["each[1]/in"][1]


def test_a_run_that_was_rerun_can_be_rerun(chain: Shell) -> None:
    chain("rerun", "last", "--from", "c")
    assert marks(chain) == "c"
    said = chain("rerun", "last", "--from", "c")
    assert marks(chain) == "c"
    assert chain.runs()[2].id in told(said)["a"][1]


@pytest.mark.parametrize("flags", [["--from", "a", "--failed"], ["--from", "nope"], ["--only", "bb"]])
def test_wrong_selections_are_told(chain: Shell, flags: list[str]) -> None:
    assert chain("rerun", "last", *flags).code == 2
    assert marks(chain) == ""


NESTED = """
steps:
  - id: outer
    for_each: {items: [a, b], as: who, key: "{{ who }}"}
    parallel:
      - {id: x, tool: shell, effects: none, parameters: {command: "echo x$WHO >> marks", env: {WHO: "{{ who }}"}}}
      - id: y
        needs: [x]
        tool: shell
        effects: none
        parameters: {command: "echo y$WHO >> marks", env: {WHO: "{{ who }}"}}
  - {id: last, needs: [outer], tool: shell, effects: none, parameters: {command: "echo last >> marks"}}
handlers: {finally: [{id: end, tool: shell, effects: none, parameters: {command: "echo end >> marks"}}]}
"""


@pytest.mark.parametrize(
    ("flag", "address", "ran"),
    [
        ("--only", "outer[a]/x", "xa"),
        ("--from", "outer[a]/x", "last xa ya"),
        ("--from", "outer[b]", "last xb yb"),
        ("--only", "handlers.finally/end", "end"),
    ],
)
def test_a_step_that_is_inside_others_is_selected_by_its_path(vrooli: Shell, flag: str, address: str, ran: str) -> None:
    vrooli("run", vrooli.write(NESTED))
    (vrooli.folder / "marks").unlink()
    assert vrooli("rerun", "last", flag, address).code == 0
    assert marks(vrooli) == ran


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("outer[a]/z", "the steps of outer[a] are x, y"),
        ("outer[nobody at all, not ever]", "it had outer[a]"),
        ("outer[c]", "did you mean 'outer["),
        ("last[0]", "it had none"),
        ("last/x", "last has no steps inside"),
        ("handlers.finally", "is no step"),
        ("handlers.nope/end", "there is no step"),
        ("outer[a]/xx", "did you mean 'x'"),
    ],
)
def test_a_path_that_leads_nowhere_runs_nothing(vrooli: Shell, address: str, said: str) -> None:
    vrooli("run", vrooli.write(NESTED))
    done = vrooli("rerun", "last", "--only", address)
    assert (done.code, said in done.err) == (2, True), done.err
    assert len(vrooli.runs()) == 1


CACHED = """
inputs: {n: {type: integer, default: 1}}
steps:
  - id: a
    effects: none
    cache: {ttl: 1h}
    tool: shell
    parameters: {command: "echo a >> marks; echo {{ n }}"}
outputs: {a: "{{ steps.a.result.stdout }}"}
"""


def test_a_cached_step_is_reused_by_other_runs(vrooli: Shell) -> None:
    file = vrooli.write(CACHED)
    assert vrooli("run", file).out == "1\n"
    said = vrooli("run", file, "-o", "json")
    assert said.json["steps"]["a"]["reused"] is True
    assert said.json["result"] == {"a": "1\n"}
    assert marks(vrooli) == "a"
    assert vrooli("run", file, "-i", "n=2").out == "2\n"
    assert marks(vrooli) == "a"
    vrooli("run", file, "--no-cache")
    assert marks(vrooli) == "a"


def test_a_cached_result_has_its_time(vrooli: Shell) -> None:
    file = vrooli.write(CACHED.replace("1h", "200ms"))
    vrooli("run", file)
    time.sleep(0.25)
    vrooli("run", file)
    assert marks(vrooli) == "a a"


def test_a_key_of_ones_own_decides(vrooli: Shell) -> None:
    file = vrooli.write(CACHED.replace("{ttl: 1h}", "{ttl: 1h, key: '{{ n % 2 }}'}"))
    assert vrooli("run", file, "-i", "n=1").out == "1\n"
    assert vrooli("run", file, "-i", "n=3").out == "1\n"
    assert vrooli("run", file, "-i", "n=2").out == "2\n"


def test_what_had_an_effect_or_holds_a_secret_is_not_kept(vrooli: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    file = vrooli.write(CACHED.replace("effects: none", "effects: idempotent"))
    vrooli("run", file)
    vrooli("run", file)
    assert marks(vrooli) == "a a"
    monkeypatch.setenv("T", "s3cret-word")
    text = CACHED.replace("inputs:", "secrets: {T: {env: T}}\ninputs:").replace(
        'echo {{ n }}"}', 'echo $T", env: {T: "{{ secrets.T }}"}}'
    )
    file = vrooli.write(text, "s.yaml")
    vrooli("run", file)
    vrooli("run", file)
    assert marks(vrooli) == "a a"


def test_the_file_must_still_be_there(chain: Shell) -> None:
    Path(chain.folder / "r.yaml").unlink()
    assert chain("rerun", "last").code == 2


def test_a_rerun_that_was_cut_off_goes_on_reusing(vrooli: Shell) -> None:
    """The resume knows which run its results are of, and what was asked for."""
    text = CHAIN.replace("echo b >> marks;", "test ! -e stop || exit 1; echo b >> marks;")
    assert vrooli("run", vrooli.write(text)).code == 0
    assert marks(vrooli) == "a b c side"
    (vrooli.folder / "stop").touch()
    assert vrooli("rerun", "last", "--only", "b").code == 1
    (vrooli.folder / "stop").unlink()
    assert vrooli("resume", "last").code == 0
    assert marks(vrooli) == "b"
    steps = vrooli.history().steps
    assert {name for name, step in steps.items() if step.reused} == {"a", "side", "c"}


def test_a_swarm_is_run_again_as_a_whole(vrooli: Shell) -> None:
    (vrooli.folder / "do.yaml").write_text("name: do\nsteps:\n  - {id: x, tool: echo, parameters: {message: done}}\n")
    swarm = vrooli.folder / "s.yaml"
    swarm.write_text(
        "name: s\ngoal: g\nagents: [{id: a, capabilities: [], routine: do.yaml}]\ntasks: [{id: t, description: d}]\n"
    )
    assert vrooli("run", swarm).code == 0
    for words in (["--failed"], ["--from", "t"], ["--only", "t"]):
        said = vrooli("rerun", "last", *words)
        assert (said.code, "a swarm is run again as a whole" in said.err) == (2, True), said.err
    assert vrooli("rerun", "last").code == 0


WIDE = """
steps:
  - {id: a, tool: echo, parameters: {message: 1}}
  - {id: ab, tool: echo, parameters: {message: 1}}
  - {id: "a-b", tool: echo, parameters: {message: 1}}
  - {id: g, parallel: [{id: x, tool: echo, parameters: {message: 1}}, {id: y, tool: echo, parameters: {message: 2}}]}
  - {id: each, for_each: {items: [1, 2]}, tool: echo, parameters: {message: "{{ item }}"}}
  - {id: last, tool: echo, parameters: {message: 3}, depends_on: [a, ab, a-b, g, each]}
"""


def test_each_batch_is_announced_once_whatever_is_reused(vrooli: Shell) -> None:
    assert vrooli("run", vrooli.write(WIDE), "--events", "first.ndjson").code == 0
    assert vrooli("rerun", "last", "--failed", "--events", "again.ndjson").code == 0

    def batches(file: str) -> list[str]:
        types = [json.loads(line)["type"] for line in (vrooli.folder / file).read_text().splitlines()]
        return [type_.removeprefix("tier2/batch/") for type_ in types if "/batch/" in type_]

    assert batches("again.ndjson") == batches("first.ndjson") == ["started", "completed"] * 2


@pytest.mark.parametrize(
    ("chosen", "ran"),
    [("a", {"a"}), ("g", {"g/x", "g/y"}), ("g/x", {"g/x"}), ("each", {"each[0]", "each[1]"}), ("each[1]", {"each[1]"})],
)
def test_what_is_inside_of_a_chosen_step_runs_and_nothing_that_is_only_spelt_alike(
    vrooli: Shell, chosen: str, ran: set[str]
) -> None:
    assert vrooli("run", vrooli.write(WIDE)).code == 0
    reasons = told(vrooli("rerun", "last", "--only", chosen))
    assert {name for name, (what, _) in reasons.items() if what == "ran"} == ran


def test_of_very_many_steps_those_that_ran_are_told_first(vrooli: Shell) -> None:
    lines = [f"  - {{id: s{i}, tool: echo, parameters: {{message: 1}}}}" for i in range(200)]
    assert vrooli("run", vrooli.write("\n".join(["steps:", *lines]))).code == 0
    said = vrooli("rerun", "last", "--from", "s190")
    assert next(iter(told(said))) == "s190"
    assert "… 200 steps in all, 199 reused" in said.err
