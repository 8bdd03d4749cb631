"""Nested fan-outs: their cost per item is counted, and does not grow; their memory is measured in a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.peak import PEAK_MB
from tests.tier2.simulate import World, echo, plan_of, step
from vrooli_cli.model.routine import ChildRoutine, ForEach, Group, Input, Routine, Step
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.machine import RunMachine
from vrooli_cli.tier2.plan import RoutinePlan
from vrooli_cli.tier2.state import Node
from vrooli_cli.tier3.scope import Outcome


def nested(count: int) -> RoutinePlan:
    """``count`` items, each a group with a loop of ten."""
    inner = step("inner", "{{ a * 10 + b }}", for_each=ForEach("range(10) | list", alias="b"))
    return plan_of([Step(id="outer", action=Group((inner,)), for_each=ForEach(f"range({count}) | list", alias="a"))])


def called(count: int) -> RoutinePlan:
    """``count`` calls of a routine."""
    routine = Routine(name="c", key="c", inputs={"n": Input("n", {"type": "integer"})}, steps=(step("x", "{{ n }}"),))
    call = Step(
        id="each", action=ChildRoutine("c", "c", {"n": "{{ item }}"}), for_each=ForEach(f"range({count}) | list")
    )
    return plan_of([call], children={"c": routine})


class Counting(RunMachine):
    """A machine that counts its decisions."""

    decisions = 0
    most_nodes = 0

    def _advance(self) -> None:
        self.decisions += 1
        super()._advance()
        self.most_nodes = max(self.most_nodes, len(self.nodes))


@pytest.mark.parametrize("shape", [nested, called])
def test_an_item_costs_the_same_however_many_there_are(shape: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.tier2.simulate.RunMachine", Counting)
    monkeypatch.setattr("tests.tier2.simulate.check", lambda machine: None)  # it looks at everything after each turn

    def cost(count: int) -> tuple[float, float, int]:
        plan: RoutinePlan = shape(count)  # type: ignore[operator]

        def script(node: Node, address: str, attempt: int) -> Outcome:
            return echo(world.machine, node)

        world = World(plan, script, MachineOptions(max_concurrent=8))
        world.run()
        machine = world.machine
        assert isinstance(machine, Counting)
        assert not machine.spent and len(machine.frames) == 1, "what has ended is let go"
        return len(world.log) / count, machine.decisions / count, machine.most_nodes

    few, many = cost(100), cost(400)
    assert many[0] == pytest.approx(few[0], abs=0.1)  # the events of the run itself are shared by more items
    assert many[1] == pytest.approx(few[1], abs=0.1)
    assert many[2] <= few[2] + 8, "nodes at one moment: those at work, not those to come"


def peak_of(folder: Path, *words: str) -> tuple[Any, float]:
    """A run's result, and the megabytes of its process at their most."""
    code = f"import sys; from vrooli_cli.cli.main import main; code = main(sys.argv[1:]){PEAK_MB}"
    code += "\nprint(peak_mb(), file=sys.stderr); sys.exit(code)"
    command = [sys.executable, "-c", code, "run", "r.yaml", "-o", "json", "-q", "--store", str(folder / "s.db"), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["result"], float(done.stderr.splitlines()[-1])


def test_ten_thousand_nested_items_fit_in_200_megabytes(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "steps:\n"
        '- id: outer\n  for_each: {items: "range(100) | list", as: a}\n  parallel:\n'
        '  - {id: inner, for_each: {items: "range(100) | list", as: b},'
        ' tool: echo, with: {message: "{{ a * 100 + b }}"}}\n'
        "outputs: {sum: \"{{ steps.outer.result | map(attribute='inner') | map('sum') | sum }}\"}\n"
    )
    result, megabytes = peak_of(tmp_path)
    assert result == {"sum": sum(range(10_000))}
    assert megabytes < 200


def test_ten_thousand_steps_side_by_side_fit_in_150_megabytes(tmp_path: Path) -> None:
    """All of them are told as waiting in one commit; loading, planning and keeping the plan are counted, too."""
    steps = [f"- {{id: s{n}, tool: echo, with: {{message: {n}}}, needs: [first]}}" for n in range(9_998)]
    last = f"- {{id: last, tool: echo, with: {{message: done}}, needs: [{', '.join(f's{n}' for n in range(9_998))}]}}"
    first = "- {id: first, tool: echo, with: {message: begin}}"
    (tmp_path / "r.yaml").write_text("\n".join(["steps:", first, *steps, last]) + "\n")
    result, megabytes = peak_of(tmp_path)
    assert result == {"last": "done"}
    assert megabytes < 150
