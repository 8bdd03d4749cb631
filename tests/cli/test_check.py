"""`validate`, `plan`, `tools`, `schema`, help and completion."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ECHO, VROOLI, Call, Write, environment
from vrooli_cli.cli.console import Console, Invocation
from vrooli_cli.cli.verbs import VERBS
from vrooli_cli.errors import Problem

LATER = {**ECHO, "id": "e", "parameters": {"message": "{{ steps.log.result.stdout }}"}}
GRAPH = [
    {"id": "log", "tool": "shell", "parameters": {"command": ["git", "log", "-n{{ n }}"]}},
    {"id": "each", "for_each": [1, 2], "tool": "echo", "parameters": {"message": "{{ item * 2 }}"}},
    {"id": "no", "when": "{{ n > 5 }}", **{k: v for k, v in ECHO.items() if k != "id"}},
    {**ECHO, "id": "after", "depends_on": ["no"]},
    {
        "id": "g",
        "parallel": [
            {"id": "w", "wait": "2s"},
            {**ECHO, "id": "e", "parameters": {"message": "{{ steps.log.result.stdout }}"}},
        ],
    },
    {"id": "end", "approval": "Go on?", "depends_on": ["g"]},
]
INPUTS = {"n": {"type": "integer", "default": 3}}


def test_validate_says_everything_at_once_or_nothing(write: Write, call: Call) -> None:
    good = write("good.yaml", [ECHO])
    assert call("validate", good) == call("validate", good, good)
    assert (call("validate", good).out, call("validate", good).err) == ("", "")
    bad = write("bad.yaml", "steps:\n- {id: a, tool: ecko}\n- {id: a, tol: x}\n")
    done = call("validate", good, bad, "none.yaml")
    assert done.code == 2 and done.out == ""
    for told in ("bad.yaml:2:", "bad.yaml:3:", "none.yaml: there is no such file"):
        assert told in done.err
    listed = call("validate", bad, "--json")
    assert listed.code == 2 and listed.err == ""
    assert {(one["file"], one["severity"]) for one in listed.json} == {("bad.yaml", "error")}
    assert call("validate", good, "-o", "json").json == []


def test_problems_are_coloured_where_colours_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    problem = Problem((), "no such key", "did you mean 'x'?", file="a b.yaml", line=2, column=3, excerpt="  y\n  ^")
    Console(Invocation([], {"FORCE_COLOR": "1"})).problems([problem])
    err = capfd.readouterr().err
    assert "\x1b[1ma b.yaml:2:3:\x1b[0m no such key\n" in err and "^\x1b[0m" in err and "\x1b[2m" in err
    Console(Invocation([], {})).problems([problem])
    assert capfd.readouterr().err == "a b.yaml:2:3: no such key\n      y\n      ^\n  did you mean 'x'?\n"


def test_plan_tells_what_a_model_may_choose_to_do(write: Write, call: Call) -> None:
    free = {"m": {"base_url": "http://127.0.0.1:1/v1", "model": "x", "price": {"input": 0, "output": 0}}}
    ask = {"id": "ask", "prompt": "hi", "model": "m", "tools": ["shell", "file_w*", "table"]}
    file = write("p.yaml", [ask], models=free)
    made = call("plan", file, "-o", "json").json
    assert [(one["tool"], one["effects"], one["chosen_by"]) for one in made["effects"]] == [
        ("shell", "once", "model"),
        ("file_write", "once", "model"),
    ]
    assert made["permissions"]["allow"] == ["file_write", "shell"]
    assert call("plan", file).out.count("if a model calls it") == 2
    agents = [{"id": "a", "capabilities": ["x"], "tools": ["shell"]}]
    swarm = write("s.yaml", json.dumps({"goal": "g", "agents": agents, "models": {"default": free["m"]}}))
    (line,) = call("plan", swarm, "-o", "json").json["effects"]
    assert (line["step"], line["tool"]) == ("agent:a/work", "shell")


def test_a_cache_that_would_keep_nothing_is_warned_of(write: Write, call: Call) -> None:
    date = {"tool": "shell", "parameters": {"command": ["date"]}, "cache": {"ttl": "1h"}}
    done = call("validate", write("c.yaml", [{"id": "a", **date}, {"id": "b", "effects": "none", **date}]))
    assert done.code == 0
    assert done.err.count("warning: nothing of this step is cached: its effects are `once`") == 1


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"tool": "http", "with": {"url": "http://x.test", "method": "post"}}, "its effects are `once`"),
        ({"tool": "http", "with": {"url": "{{ vars.url }}"}}, "its effects are `idempotent`"),
        ({"tool": "http", "with": {"url": "http://x.test", "method": "{{ vars.url }}"}}, ""),
        ({"tool": "http", "with": {"url": "http://x.test"}, "effects": "none"}, ""),
        ({"tool": "file_write", "with": {"path": "a", "content": "{{ vars.url }}"}}, "its effects are `idempotent`"),
        ({"tool": "file_write", "with": {"path": "a", "content": "", "mode": "append"}}, "its effects are `once`"),
        ({"tool": "template", "with": {"path": "a.txt"}}, "its effects are `idempotent`"),
        ({"tool": "template", "with": {"path": "{{ vars.url }}"}}, ""),
        ({"tool": "template", "with": {"text": "a"}}, ""),
        ({"tool": "echo", "with": {"message": "a"}, "repeat": {"until": "true"}}, "it repeats"),
        ({"tool": "echo", "with": {"message": "a"}}, ""),
    ],
)
def test_the_parameters_as_written_say_whether_a_cache_keeps_nothing(
    write: Write, call: Call, step: dict[str, Any], told: str
) -> None:
    done = call("validate", write("c.yaml", [{"id": "a", "cache": True, **step}], vars={"url": "http://x.test"}))
    assert done.code == 0, done.err
    assert (f"warning: nothing of this step is cached: {told}" in done.err) == bool(told)
    assert ("is cached" in done.err) == bool(told)


def test_a_method_that_is_computed_may_be_any(write: Write, call: Call) -> None:
    step = {"id": "a", "tool": "http", "with": {"url": "http://x.test", "method": "{{ vars.m }}"}}
    made = call("plan", write("p.yaml", [step], vars={"m": "GET"}), "-o", "json").json
    assert [one["effects"] for one in made["effects"]] == ["once"]


def test_plan_has_the_documented_parts(write: Write, call: Call) -> None:
    file = write("p.yaml", GRAPH, inputs=INPUTS, description="Notes.")
    plan = call("plan", file, "-o", "json").json
    assert plan["batches"] == [["log", "each", "no"], ["after", "g"], ["end"]]
    assert {"from": "log", "to": "g"} in plan["edges"] and len(plan["edges"]) == 3
    assert plan["critical_path"] == ["log", "g", "end"]
    assert plan["effects"] == [{"step": "log", "tool": "shell", "effects": "once", "rule": "shell(git log *)"}]
    assert plan["permissions"] == {"allow": ["shell(git log *)"]}
    assert plan["models"] == [] and plan["cost"] == {"low": 0, "high": 0}
    assert call("plan", file, "--format", "json").json == plan


def many(width: int, *, tool: str = "echo", key: str = "message") -> list[dict[str, Any]]:
    """First steps side by side, one more that waits for each of them, and one that waits for all of these."""
    first = [{"id": f"a{i}", "tool": tool, "with": {key: f"x{i} y"}} for i in range(width)]
    then = [{**step, "id": f"b{i}", "depends_on": [f"a{i}"]} for i, step in enumerate(first)]
    return [*first, *then, {**first[0], "id": "last", "depends_on": [step["id"] for step in then]}]


def test_the_plan_of_many_steps_shows_some_of_each_batch(write: Write, call: Call) -> None:
    text = call("plan", write("r.yaml", many(2_000))).out
    assert text.startswith("r  4,001 steps in 3 batches")
    assert text.count("… 1,971 more") == 2
    assert re.search(r"^  2  b0 +echo  after a0$", text, re.M) and re.search(
        r"^  3  last +echo  after b0, ", text, re.M
    )
    assert len(text.splitlines()) < 80


def test_the_plan_of_a_small_graph_is_shown_whole(write: Write, call: Call) -> None:
    assert "…" not in call("plan", write("r.yaml", many(29))).out.replace(", …", "")


def test_the_plan_of_a_long_chain_shows_its_ends(write: Write, call: Call) -> None:
    steps = [{"id": f"s{i}", "tool": "echo", "with": {"message": 1}} for i in range(5_000)]
    for i, step in enumerate(steps):
        step["depends_on"] = [f"s{i - 1}"] if i else []
    text = call("plan", write("r.yaml", steps)).out
    assert "… 4,971 more batches, 4,971 steps" in text
    assert re.search(r"^  5000  s4999 +echo  after s4998$", text, re.M)


def test_the_rules_of_many_steps_are_not_all_printed(write: Write, call: Call) -> None:
    steps = [{"id": f"s{i}", "tool": "shell", "with": {"command": [f"tool{i}", "x"]}} for i in range(500)]
    file = write("r.yaml", steps)
    text = call("plan", file).out
    assert "# … 440 more: `vrooli plan -o json` has them all" in text and len(text.splitlines()) < 190
    assert len(call("plan", file, "-o", "json").json["permissions"]["allow"]) == 500


def test_plan_as_text_and_pictures(write: Write, call: Call) -> None:
    file = write("p.yaml", GRAPH, inputs=INPUTS)
    text = call("plan", file).out
    assert "log → g → end" in text and "shell(git log *)" in text and "6 steps in 3 batches" in text
    assert all(len(line) <= 100 for line in text.splitlines())
    mermaid = call("plan", file, "-o", "mermaid").out
    assert mermaid.startswith("flowchart LR\n") and mermaid.count(" --> ") == 3
    assert call("plan", file, "-o", "dot").out.count(" -> ") == 3


SWARM = """
name: house
goal: Build {{ what }}
inputs: {what: {default: a house}}
agents:
- {id: ana, capabilities: [dig], routine: work.yaml}
- {id: ben, capabilities: [dig, build], routine: work.yaml, max_concurrent_tasks: 2}
TASKS
"""
TASKS = """
tasks:
- {id: ground, required_capabilities: [dig], estimated_complexity: 3}
- {id: walls, dependencies: [ground], required_capabilities: [build]}
- {id: garden, dependencies: [ground], required_capabilities: [dig]}
"""
WORK = [{"id": "w", "tool": "file_write", "parameters": {"path": "out.txt", "content": "x"}}]


def test_the_plan_of_a_swarm_shows_goal_team_phases_and_reasons_and_asks_no_model(write: Write, call: Call) -> None:
    write("work.yaml", WORK)
    given = write("given.yaml", SWARM.replace("TASKS", TASKS))
    made = call("plan", given, "--json").json
    assert made["goal"] == "Build {{ what }}" and made["planned"] and made["makespan"] == 8
    assert made["batches"] == [["ground"], ["walls", "garden"]]
    assert made["assignments"]["walls"] == {"agent": "ben", "reason": "the only agent capable of build"}
    assert {one["agent"]: one["tasks"] for one in made["team"]} == {"ana": ["ground"], "ben": ["walls", "garden"]}
    assert made["cost"] == {"low": 0, "high": 0}
    assert {one["step"] for one in made["effects"]} == {"task:ground/w", "task:walls/w", "task:garden/w"}
    text = call("plan", given).out
    for told in ("3 tasks in 2 phases for 2 agents", "Goal: Build", "only agent capable of build", "ground → walls"):
        assert told in text
    assert call("plan", given, "-o", "mermaid").out.startswith("flowchart")
    steps = call("run", given, "--dry-run", "-o", "json").json["steps"]
    assert steps["task:walls"] == {
        "status": "pending",
        "action": "routine",
        "name": "ben",
        "parameters": {"dependencies": ["ground"]},
    }


def test_planning_given_tasks_needs_no_model_though_running_them_does(write: Write, call: Call) -> None:
    asking = SWARM.replace("TASKS", TASKS).replace(", routine: work.yaml", "")
    given = write("given.yaml", asking)
    assert call("run", given).code == 6
    frozen = call("run", given, "--plan-only")
    assert frozen.code == 0, frozen.err
    assert call("validate", write("frozen.yaml", frozen.out)).code == 0
    again = call("run", "frozen.yaml", "--plan-only").out
    as_json = json.loads(call("run", "frozen.yaml", "--plan-only", "-o", "json").out)
    assert as_json["assignments"].keys() == {task["id"] for task in as_json["tasks"]}
    assert again.splitlines()[1:] == frozen.out.splitlines()[1:]


def test_the_plan_of_a_goal_says_that_planning_asks_a_model(write: Write, call: Call) -> None:
    write("work.yaml", WORK)
    goal = write("goal.yaml", SWARM.replace("TASKS", ""))
    done = call("plan", goal)
    assert done.code == 0
    assert "planning asks a model" in done.out and "--plan-only" in done.out
    made = call("plan", goal, "--json").json
    assert (made["planned"], made["batches"], made["assignments"]) == (False, [], {})
    assert 0 < made["cost"]["low"] < made["cost"]["high"]
    assert [(one["name"], one["steps"]) for one in made["models"]] == [("default", ["goal"])]


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not here")
def test_graphviz_reads_what_plan_writes(write: Write, call: Call) -> None:
    dot = call("plan", write("p.yaml", GRAPH, inputs=INPUTS), "-o", "dot").out
    subprocess.run(["dot", "-Tsvg"], input=dot, text=True, check=True, capture_output=True)


def test_a_dry_run_says_what_is_known_and_does_nothing(write: Write, call: Call, folder: Path) -> None:
    touch = {"id": "touch", "tool": "shell", "parameters": {"command": "touch done"}}
    file = write("p.yaml", [*GRAPH, touch], inputs=INPUTS, handlers={"failure": [{**ECHO, "id": "h"}]})
    done = call("run", file, "--dry-run", "--json")
    steps = done.json["steps"]
    assert done.code == 0 and done.json["status"] == "pending" and not (folder / "done").exists()
    assert {path: step["status"] for path, step in steps.items()} == {
        "log": "pending",
        "each": "pending",
        "each[0]": "pending",
        "each[1]": "pending",
        "no": "skipped",
        "after": "skipped",
        "g": "pending",
        "g/w": "pending",
        "g/e": "pending",
        "end": "pending",
        "touch": "pending",
        "handlers.failure/h": "unknown",
    }
    assert steps["log"]["parameters"] == {"command": ["git", "log", "-n3"]}
    assert steps["each[1]"]["parameters"] == {"message": 4}
    assert steps["g/e"]["parameters"] == {"message": "{{ steps.log.result.stdout }}"}
    assert not (folder / "store.db").exists()
    assert "skipped  no" in call("run", file, "--dry-run").out
    assert call("run", file, "--dry-run", "-i", "n=9", "--json").json["steps"]["after"]["status"] == "pending"


def test_a_dry_run_does_not_guess(write: Write, call: Call) -> None:
    write("child.yaml", [{**ECHO, "parameters": {"message": "{{ who }}"}}], inputs={"who": {"type": "string"}})
    steps = [
        {**ECHO, "set": {"v": 2}},
        {"id": "b", "when": "{{ steps.a.result == 'hi' }}", "tool": "echo", "parameters": {"message": "{{ vars.w }}"}},
        {**ECHO, "id": "c", "depends_on": ["b"], "parameters": {"message": "{{ vars.v }}"}},
        {**ECHO, "id": "d", "depends_on": ["a"], "trigger_rule": "any_failed"},
        {"id": "call", "routine": "child.yaml", "parameters": {"who": "{{ vars.w }}"}},
    ]
    shown = call("run", write("r.yaml", steps, vars={"v": 1, "w": "Ada"}), "--dry-run", "--json").json["steps"]
    assert [shown[name]["status"] for name in "bcd"] == ["unknown", "pending", "unknown"]
    assert shown["b"]["parameters"] == {"message": "Ada"} and shown["c"]["parameters"] == {"message": "{{ vars.v }}"}
    assert shown["call/a"]["parameters"] == {"message": "Ada"}


def test_tools_are_listed_shown_and_called(call: Call) -> None:
    names = [tool["name"] for tool in call("tools", "list", "--json").json]
    assert {"echo", "shell", "assert", "fail"} <= set(names) and all(
        name in call("tools", "list").out for name in names
    )
    assert "command" in call("tools", "show", "shell").out
    assert call("tools", "show", "echo", "--json").json["effects"] == "none"
    assert call("tools", "call", "echo", "-p", "message=hi").out == "hi\n"
    assert call("tools", "call", "shell", "-p", 'command=["printf", "x"]', "--json").json["stdout"] == "x"
    unknown = call("tools", "show", "shel")
    assert unknown.code == 2 and "did you mean 'shell'?" in unknown.err
    wrong = call("tools", "call", "shell", "-p", "cmd=x")
    assert wrong.code == 2 and "parameter 'command': is missing" in wrong.err
    assert call("tools", "call", "shell", "-p", "command=exit 3").code == 1
    denied = call("tools", "call", "shell", "-p", "command=true", "--deny", "shell")
    assert denied.code == 3 and "shell" in denied.err


def test_schemas_are_printed(call: Call) -> None:
    assert "steps" in call("schema", "routine").json["properties"]
    assert "did you mean 'swarm'?" in call("schema", "swrm").err


def test_help_names_every_verb_and_every_verb_has_help(call: Call) -> None:
    text = call("--help").out
    for name in VERBS:
        assert f"  {name} " in text
        page = call(name, "--help")
        assert page.code == 0 and page.out.startswith(f"Usage: vrooli {name}") and page.err == ""
    assert call().code == 2 and call("runn").code == 2
    assert "did you mean 'run'?" in call("runn").err
    assert "flags stand after the verb" in call("-o", "json", "run", "x.yaml").err
    assert call("--version").out.startswith("vrooli ")


def test_help_imports_no_engine(folder: Path) -> None:
    code = (
        "import sys; from vrooli_cli.cli.main import main; main(['--help']); main(['run', '--help']); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
        "; print([m for m in sys.modules if m.startswith('vrooli_cli.') and m.split('.')[1] not in ('cli', 'errors')"
        " and m not in ('vrooli_cli.model', 'vrooli_cli.model.values')])"
    )
    heavy = ["asyncio", "yaml", "networkx", "jinja2", "openai", "jsonschema", "httpx", "psutil", "sqlite3"]
    done = subprocess.run([VROOLI[0], "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"]


def test_the_shell_completes_verbs_flags_routines_and_tools(folder: Path) -> None:
    (folder / "routines").mkdir()
    (folder / "routines/release-notes.yaml").write_text(json.dumps({"steps": [ECHO]}))

    def complete(line: str) -> list[str]:
        words = environment(folder, _VROOLI_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(line.count(" ")))
        return subprocess.run(VROOLI, cwd=folder, env=words, capture_output=True, text=True).stdout.split()

    assert complete("vrooli va") == ["validate"]
    assert complete("vrooli run rel") == ["release-notes"]
    assert complete("vrooli run --keep") == ["--keep-going"]
    assert complete("vrooli run x -o y") == ["yaml"]
    assert complete("vrooli tools show file_r") == ["file_read"]
