"""Addresses are taken apart in one place: what each form means."""

from __future__ import annotations

import pytest

from vrooli_cli.model.addresses import (
    TaskPlace,
    any_item,
    around_of,
    is_inner,
    made_at,
    root_of,
    static,
    task_of,
    turn_of,
    without_turn,
)


@pytest.mark.parametrize(
    ("address", "as_written", "root", "around", "without"),
    [
        ("a", "a", "a", "", "a"),
        ("g/a", "g/a", "g", "g", "g/a"),
        ("fan[3]", "fan", "fan", "fan", "fan[3]"),
        ("fan[a%2Fb]/x", "fan/x", "fan", "fan[a%2Fb]", "fan[a%2Fb]/x"),
        ("poll#3", "poll", "poll", "", "poll"),
        ("poll#3/x[1]#12", "poll/x", "poll", "poll", "poll#3/x[1]"),
        ("poll#3/x", "poll/x", "poll", "poll", "poll#3/x"),
        ("handlers.finally/f", "handlers.finally/f", "handlers.finally", "", "handlers.finally/f"),
        ("call/handlers.failure/f", "call/handlers.failure/f", "call", "call", "call/handlers.failure/f"),
        ("task:t[1]@2/x", "task:t@2/x", "task:t", "task:t[1]@2", "task:t[1]@2/x"),
        ("a#b", "a#b", "a", "", "a#b"),
    ],
)
def test_the_parts_of_an_address(address: str, as_written: str, root: str, around: str, without: str) -> None:
    assert static(address) == as_written
    assert root_of(address) == root
    assert around_of(address) == around
    assert without_turn(address) == without
    assert is_inner(address) == any(mark in address for mark in "/[#")


def test_turns_and_items() -> None:
    assert [turn_of(one) for one in ("poll#3", "poll", "a/poll#12", "a#b", "a#" + "9" * 20)] == [3, 0, 12, 0, 0]
    assert any_item("fan[3]/x[a%5D]#2") == "fan[]/x[]#2"
    assert (made_at("a/fan[3]#1"), made_at("a/poll#1"), made_at("a/b")) == (5, 6, -1)


def test_the_place_of_a_task() -> None:
    assert task_of("task:t") == TaskPlace("t")
    assert task_of("task:s.t[1]@3") == TaskPlace("s.t", 1, 3)
    assert task_of("task:t@2") == TaskPlace("t", attempt=2)
    assert task_of("t") is None and task_of("task:") is None and task_of("task:t/x") is None
