from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrooli_cli.gate import Action, Policy

Call = Callable[..., Action]
Make = Callable[..., Policy]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``work/`` where vrooli was started, ``safe/`` and ``secret/`` beside it; links out of ``work``."""
    work = tmp_path / "work"
    for folder in ("work/out", "work/src", "secret", "safe"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "secret/key").write_text("k")
    (work / "escape").symlink_to(tmp_path / "secret")
    (work / "out/link").symlink_to(tmp_path / "secret/key")
    (work / "hidden").symlink_to(work / "src")
    (work / "loop").symlink_to(work / "loop")
    (work / "dangling").symlink_to(tmp_path / "secret/new")
    monkeypatch.chdir(work)
    return tmp_path


@pytest.mark.parametrize("path", ["a.txt", "out/new/deep/file", "./src/../a", "{work}/x", "hidden/a", "out//b", "."])
def test_paths_inside_the_folder_are_allowed_without_a_rule(path: str, house: Path, call: Call) -> None:
    action = call("file_write", path=path.format(work=house / "work"), _folder=str(house / "work"))
    assert Policy().judge(action).decision == "allow"


@pytest.mark.parametrize(
    "path",
    [
        "../secret/key",
        "escape/key",
        "escape/new/tail",
        "out/link",
        "dangling",
        "/etc/passwd",
        "src/../../secret/key",
        "nowhere/../../secret/key",
        "hidden/../../secret/key",
        "/proc/self/root/etc/passwd",
        "{work}/../secret/key",
        "{work}-other/file",
        "a\0b",
    ],
)
def test_paths_that_lead_outside_are_denied_whatever_way_they_take(path: str, house: Path, call: Call) -> None:
    action = call("file_read", path=path.format(work=house / "work"), _folder=str(house / "work"))
    verdict = Policy().judge(action)
    assert verdict.decision == "deny"
    assert verdict.rule == "default"


def test_roots_are_opened_by_the_caller_and_their_links_resolved(house: Path, call: Call) -> None:
    (house / "project").symlink_to(house / "safe")
    action = call("file_read", path=str(house / "safe/x"), _roots=(str(house / "project"),))
    assert Policy().judge(action).decision == "allow"
    action = call("file_read", path=str(house / "safely"), _roots=(str(house / "project"),))
    assert Policy().judge(action).decision == "deny"


def test_only_a_rule_about_paths_opens_a_place_outside(house: Path, call: Call, policy: Make) -> None:
    action = call("file_read", path=str(house / "secret/key"), _folder=str(house / "work"))
    assert policy(allow=["file_read"]).judge(action).decision == "deny"
    assert policy(allow=["file_read(../secret/*)"]).judge(action).decision == "allow"
    assert policy(allow=["file_read", f"file_read({house}/secret/*)"]).judge(action).decision == "allow"
    assert policy(allow=["file_read(*)"]).judge(action).decision == "allow"
    assert policy(ask=["file_read(../secret/*)"]).judge(action).decision == "ask"
    assert policy(allow=["file_write(../secret/*)"]).judge(action).decision == "deny"


def test_an_allow_rule_does_not_reach_through_links(house: Path, call: Call, policy: Make) -> None:
    out = policy(allow=["file_write(out/*)"])
    where = {"_folder": str(house / "work")}
    assert out.judge(call("file_write", path="out/a", **where)).decision == "allow"
    assert out.judge(call("file_write", path="out/new/a", **where)).decision == "allow"
    assert out.judge(call("file_write", path="out/link", **where)).decision == "deny"
    assert out.judge(call("file_write", path="out/../src/a", **where)).decision == "deny"
    assert out.judge(call("file_write", path="src/../out/a", **where)).decision == "allow"


def test_a_denial_holds_for_the_path_before_and_after_its_links(house: Path, call: Call, policy: Make) -> None:
    where = {"_folder": str(house / "work")}
    for rule in ("file_*(src/*)", "file_*(hidden/*)", "file_*(*/key.pem)", "file_*(src)", "file_*(hidden/)"):
        denying = policy(deny=[rule])
        assert denying.judge(call("file_read", path="hidden/key.pem", **where)).decision == "deny"
        assert denying.judge(call("file_read", path="src/key.pem", **where)).decision == "deny"
        assert denying.judge(call("file_read", path="out/key.txt", **where)).decision == "allow"


def test_a_path_that_cannot_be_resolved_is_not_let_past_a_denial(call: Call, policy: Make) -> None:
    assert policy(deny=["file_read(/elsewhere/x)"]).judge(call("file_read", path="a\0b")).rule.startswith("deny: ")


def test_a_home_folder_may_be_written_with_a_tilde(
    house: Path, call: Call, policy: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(house / "safe"))
    action = call("file_read", path=str(house / "safe/.ssh/id"), _roots=(str(house),))
    assert policy(deny=["file_read(~/.ssh/*)"]).judge(action).decision == "deny"


@pytest.mark.parametrize(
    ("rule", "path", "matches"),
    [
        ("file_read(src/**/*.py)", "src/a.py", True),
        ("file_read(src/**/*.py)", "src/x/y/a.py", True),
        ("file_read(src/**/test.py)", "src/mytest.py", False),
        ("file_read(src/**)", "src/x/y", True),
        ("file_read(src)", "src", True),
        ("file_read(src)", "src/a", False),
        ("file_read(src/)", "src/a", True),
        ("file_read(*.md)", "docs/a.md", True),
        ("file_read(./src/?.py)", "src/a.py", True),
    ],
)
def test_path_globs(rule: str, path: str, matches: bool, house: Path, call: Call, policy: Make) -> None:
    action = call("file_read", path=path, _folder=str(house / "work"))
    assert policy(allow=[rule]).judge(action).decision == ("allow" if matches else "deny")


@pytest.mark.parametrize(
    ("glob", "root", "decision"),
    [
        ("**/*.py", ".", "allow"),
        ("src/*", ".", "allow"),
        ("escape/*", ".", "deny"),
        ("../secret/*", ".", "deny"),
        ("*/../../secret/*", ".", "deny"),
        ("/etc/*", ".", "deny"),
        ("*", "/etc", "deny"),
        ("*", "escape", "deny"),
    ],
)
def test_a_listing_stays_inside_too(glob: str, root: str, decision: str, house: Path, call: Call) -> None:
    action = call("file_list", glob=glob, root=root, _folder=str(house / "work"))
    assert Policy().judge(action).decision == decision


def test_a_rule_about_the_root_opens_that_root_and_nothing_else(house: Path, call: Call, policy: Make) -> None:
    opened = policy(allow=["file_list(root=../secret)"])
    where = {"_folder": str(house / "work"), "root": "../secret"}
    assert opened.judge(call("file_list", glob="*", **where)).decision == "allow"
    assert opened.judge(call("file_list", glob="../safe/*", **where)).decision == "deny"


PARTS = st.lists(st.sampled_from(["..", ".", "src", "out", "escape", "hidden", "link", "new", "loop"]), max_size=6)


@given(parts=PARTS)
def test_no_path_that_is_let_in_leads_outside(
    parts: list[str], tmp_path_factory: pytest.TempPathFactory, call: Call
) -> None:
    base = tmp_path_factory.getbasetemp() / "walk"
    work = base / "work"
    if not work.exists():
        for folder in ("work/out", "work/src", "secret"):
            (base / folder).mkdir(parents=True)
        (work / "escape").symlink_to("../secret")
        (work / "src/link").symlink_to("../../secret")
        (work / "out/hidden").symlink_to("../src")
        (work / "loop").symlink_to("loop")
    path = "/".join(parts)
    action = call("file_read", path=path, _folder=str(work))
    if Policy().judge(action).decision == "allow":
        real = os.path.realpath(work / path)
        assert real == str(work) or real.startswith(f"{work}/")
