"""A scheme as a task graph."""

from __future__ import annotations

from typing import Any

from tests.moise.examples import kitchen
from vrooli_cli.model.organization import Scheme
from vrooli_cli.tier1.moise.schemes import SchemeGraph, scheme_graph
from vrooli_cli.tier1.moise.spec import organisation_from_data


def scheme(goals: dict[str, Any], missions: dict[str, Any] | None = None, name: str = "s") -> Scheme:
    data = {"functional": {"schemes": {name: {"goals": goals, "missions": missions or {}}}}}
    return organisation_from_data(data).functional.schemes[name]


def edges(graph: SchemeGraph) -> dict[str, tuple[str, ...]]:
    return {t.id: t.dependencies for t in graph.tasks.values()}


def test_a_sequence_orders_and_a_parallel_does_not() -> None:
    goals = {
        "root": {"plan": {"sequence": ["a", "both", "d"]}},
        "a": {},
        "both": {"plan": {"parallel": ["b", "c"]}},
        "b": {},
        "c": {},
        "d": {},
    }
    assert edges(scheme_graph([scheme(goals)])) == {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def test_a_goal_above_is_a_task_when_somebody_is_committed_to_it() -> None:
    goals = {"root": {"plan": {"sequence": ["a", "b"]}}, "a": {}, "b": {}}
    assert list(edges(scheme_graph([scheme(goals)]))) == ["a", "b"]
    committed = scheme(goals, {"m": {"goals": ["root"]}})
    assert edges(scheme_graph([committed]))["root"] == ("b",)


def test_branches_are_alternatives_and_dependants_wait_for_the_one_picked() -> None:
    goals = {
        "root": {"plan": {"sequence": ["way", "end"]}},
        "way": {"plan": {"choice": ["walk", "ride"]}},
        "walk": {},
        "ride": {"plan": {"sequence": ["buy", "board"]}},
        "buy": {},
        "board": {},
        "end": {},
    }
    graph = scheme_graph([scheme(goals)])
    assert graph.choices == {"way": 2}
    assert graph.tasks["board"].branches == (("way", 1),)
    assert graph.tasks["end"].dependencies == ("walk", "board")
    assert [t.id for t in graph.picked({})] == ["walk", "end"]
    second = graph.picked({"way": 1})
    assert [t.id for t in second] == ["buy", "board", "end"]
    assert second[-1].dependencies == ("board",)


def test_choices_within_choices_carry_both() -> None:
    goals = {
        "root": {"plan": {"choice": ["a", "more"]}},
        "a": {},
        "more": {"plan": {"choice": ["b", "c"]}},
        "b": {},
        "c": {},
    }
    graph = scheme_graph([scheme(goals)])
    assert graph.tasks["c"].branches == (("root", 1), ("more", 1))
    assert [t.id for t in graph.picked({"root": 1, "more": 1})] == ["c"]


def test_depends_on_orders_besides() -> None:
    goals = {"root": {"plan": {"parallel": ["b", "a"]}}, "b": {"depends_on": ["a"]}, "a": {}}
    graph = scheme_graph([scheme(goals)])
    assert list(edges(graph).items()) == [("a", ()), ("b", ("a",))], "and stands after what it waits for"


def test_tasks_keep_what_the_goal_says() -> None:
    graph = scheme_graph(kitchen().functional.schemes.values())
    assert (graph.tasks["soup"].agents, graph.tasks["roast"].agents) == (1, None)
    assert graph.tasks["planned"].ttf == "1h"
    assert graph.tasks["served"].dependencies == ("brought",)


def test_goals_of_one_name_in_two_schemes_are_told_apart() -> None:
    goals = {"root": {"plan": {"sequence": ["a", "b"]}}, "a": {}, "b": {}}
    other = {"top": {"plan": {"sequence": ["a"]}}, "a": {}}
    graph = scheme_graph([scheme(goals), scheme(other, name="t")])
    assert edges(graph) == {"s.a": (), "b": ("s.a",), "t.a": ()}


def test_a_circle_through_depends_on_ends() -> None:
    goals = {"root": {"plan": {"parallel": ["a", "b"]}}, "a": {"depends_on": ["b"]}, "b": {"depends_on": ["a"]}}
    assert set(edges(scheme_graph([scheme(goals)]))) == {"a", "b"}
