"""Who waits for the steps that set a variable: every way to run comes out as if each reader waited for each of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tier2.simulate import World, failure, plan_of, step
from vrooli_cli.model.routine import OnError, Step
from vrooli_cli.tier2.decisions import MachineOptions
from vrooli_cli.tier2.state import Node
from vrooli_cli.tier3.scope import Outcome

RULES = ["none_failed", "none_failed", "all_succeeded", "all_done", "any_failed", "any_succeeded"]


def parents(steps: list[Step]) -> dict[str, list[str]]:
    """Step → those that it waits for."""
    graph = plan_of(steps).graph
    return {plan.step.id: [graph.steps[at].step.id for at in plan.parents] for plan in graph.steps}


def counting(number: int, **keys: Any) -> Step:
    """One more link of a chain that counts up."""
    after = (f"s{number - 1}",) if number else ()
    return step(f"s{number}", "{{ vars.n + 1 }}", after=after, set={"n": "{{ result }}"}, **keys)


def test_a_counter_of_many_steps_has_one_edge_a_step() -> None:
    graph = plan_of([counting(number) for number in range(1000)], vars={"n": 0}).graph
    assert [plan.parents for plan in graph.steps] == [(), *((number,) for number in range(999))]


def test_setters_that_do_not_read_are_waited_for_once() -> None:
    steps = [step(f"s{i}", after=(f"s{i - 1}",) if i else (), set={"n": i}) for i in range(100)]
    assert parents([*steps, step("r", "{{ vars.n }}")])["r"] == ["s99"]


def test_a_setter_that_may_not_run_does_not_stand_for_the_one_before_it() -> None:
    steps = [counting(0), counting(1, when=False, has_when=True), step("r", "{{ vars.n }}")]
    assert World(plan_of(steps, vars={"n": 0})).run().statuses["r"] == "completed"
    assert plan_of(steps, vars={"n": 0}).graph.by_id["r"].parents == (0, 1)


def test_a_reader_that_asks_how_each_ended_waits_for_each() -> None:
    steps = [*(counting(i) for i in range(5)), step("r", "{{ vars.n }}", trigger_rule="any_failed")]
    assert plan_of(steps, vars={"n": 0}).graph.by_id["r"].parents == (0, 1, 2, 3, 4)


def test_a_reader_in_the_middle_waits_for_those_above_it_only() -> None:
    steps = [step("a", set={"n": 1}), step("r", "{{ vars.n }}", after=("a",)), step("b", after=("r",), set={"n": 2})]
    assert parents(steps) == {"a": [], "r": ["a"], "b": ["r"]}


@st.composite
def graphs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to 12 steps; those that set the variable follow one another, with others between and beside them."""
    made: list[dict[str, Any]] = []
    writer: int | None = None
    for number in range(draw(st.integers(1, 12))):
        above = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        writes = draw(st.booleans())
        if writes and writer is not None:
            above.add(writer)
        writer = number if writes else writer
        made.append(
            {
                "above": above,
                "writes": writes,
                "reads": draw(st.booleans()),
                "rule": draw(st.sampled_from(RULES)),
                "when": draw(st.integers(0, 3)) != 0,
                "fails": draw(st.integers(0, 3)) == 0,
                "on_error": draw(st.sampled_from(["fail", "continue", "recover"])),
                "ms": draw(st.integers(1, 20)),
            }
        )
    return made


def below(graph: list[dict[str, Any]], at: int) -> set[int]:
    """All that wait for a step, as far as the file says."""
    found = {at}
    for number, one in enumerate(graph):
        if one["above"] & found:
            found.add(number)
    return found - {at}


def built(graph: list[dict[str, Any]], *, by_hand: bool) -> list[Step]:
    """The graph with its variable, or with an edge from every setter to every reader that it does not wait for."""
    steps = []
    for number, one in enumerate(graph):
        above = set(one["above"])
        if by_hand and one["reads"]:
            later = below(graph, number) | {number}
            above |= {at for at, other in enumerate(graph) if other["writes"] and at not in later}
        keys: dict[str, Any] = {} if one["when"] else {"when": False, "has_when": True}
        keys["set"] = {"n": number} if one["writes"] and not by_hand else {}
        message = "{{ vars.n }}" if one["reads"] and not by_hand else "x"
        after, on_error = tuple(f"s{at}" for at in sorted(above)), OnError(one["on_error"], 0)
        steps.append(step(f"s{number}", message, after=after, trigger_rule=one["rule"], on_error=on_error, **keys))
    return steps


@settings(max_examples=400, deadline=None)
@given(graphs(), st.booleans(), st.integers(1, 3))
def test_all_ends_are_those_of_a_graph_with_every_edge(
    graph: list[dict[str, Any]], keep_going: bool, slots: int
) -> None:
    def script(node: Node, address: str, attempt: int) -> tuple[Outcome, int]:
        one = graph[int(address[1:])]
        return (failure() if one["fails"] else Outcome(result=address)), one["ms"]

    options = MachineOptions(keep_going=keep_going, max_concurrent=slots)
    with_variable, with_edges = (
        World(plan_of(built(graph, by_hand=by_hand), vars={"n": 0}), script, options).run() for by_hand in (False, True)
    )
    assert with_variable.statuses == with_edges.statuses
    assert with_variable.started == with_edges.started
