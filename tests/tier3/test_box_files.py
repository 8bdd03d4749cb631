"""``file_read``, ``file_write``, ``file_list``: formats, atomicity, bounds, links."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.tier3.conftest import Bench


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "value"),
    [
        ("a.txt", b"one\r\ntwo", "one\r\ntwo"),
        ("a.md", "\ufeffé".encode(), "é"),
        ("a.txt", "é".encode("utf-16"), "é"),
        ("a.log", b"a\xffb", "a\ufffdb"),
        ("a.json", b'{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ("a.yaml", b"a: [1, yes, 012]\n", {"a": [1, "yes", "012"]}),
        ("a.csv", b'name,n\r\n"a, b",1\r\n\r\nc\r\n', [{"name": "a, b", "n": "1"}, {"name": "c", "n": None}]),
        ("a.tsv", b"x\ty\n1\t2\n", [{"x": "1", "y": "2"}]),
        ("empty.csv", b"", []),
    ],
)
async def test_a_file_is_read_by_its_suffix(bench: Bench, name: str, content: bytes, value: Any) -> None:
    (bench.folder / name).write_bytes(content)
    assert await bench.result("file_read", path=name) == value


async def test_a_format_can_be_named(bench: Bench) -> None:
    (bench.folder / "a.json").write_bytes(b'{"a": 1}\n\xff')
    assert await bench.result("file_read", path="a.json", format="lines") == ['{"a": 1}', "\ufffd"]
    read = await bench.result("file_read", path="a.json", format="bytes")
    assert base64.b64decode(read) == b'{"a": 1}\n\xff'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"{", "not JSON"),
        ("a.json", b"NaN", "not JSON"),
        ("a.json", b"[" * 200_000, "not JSON"),
        ("a.yaml", b"a: [", "a.yaml:1"),
        ("a.csv", b"a,b\n1,2,3\n", "line 2: 3 cells"),
        ("a.csv", b"a,a\n1,2\n", "two columns"),
        ("a.csv", b'a\n"x', "line 2"),
    ],
)
async def test_a_file_that_is_not_what_it_says_fails_in_one_line(
    bench: Bench, name: str, content: bytes, said: str
) -> None:
    (bench.folder / name).write_bytes(content)
    error = await bench.error("file_read", path=name)
    assert error.code == "TOOL_FAILED" and said in error.message and "\n" not in error.message


async def test_what_cannot_be_read_is_one_line(bench: Bench) -> None:
    os.mkfifo(bench.folder / "pipe")
    (bench.folder / "big").write_bytes(b"x" * ((16 << 20) + 1))
    assert "no such file" in (await bench.error("file_read", path="missing")).message
    assert "it is a folder" in (await bench.error("file_read", path=".")).message
    assert "not a regular file" in (await bench.error("file_read", path="pipe")).message
    assert "larger than 16 MiB" in (await bench.error("file_read", path="big")).message


async def test_outside_is_the_gates_business_also_through_a_link(bench: Bench) -> None:
    (bench.folder / "link").symlink_to("/etc/hostname")
    (bench.folder / "out").symlink_to("/tmp")
    for path in ("/etc/hostname", "link", "../up", "a\0b"):
        error = await bench.error("file_read", path=path)
        assert error.code == "PERMISSION_DENIED", path
    assert (await bench.error("file_write", path="out/x.txt", content="x")).code == "PERMISSION_DENIED"
    assert (await bench.error("file_list", glob="*", root="/etc")).code == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("name", "content", "more", "written"),
    [
        ("a.txt", "é\r\n", {}, "é\r\n".encode()),
        ("a.json", {"b": "é", "a": [1]}, {}, '{\n  "b": "é",\n  "a": [\n    1\n  ]\n}\n'.encode()),
        ("a.json", '{"raw": 1}', {}, b'{"raw": 1}'),
        ("a.json", "text", {"format": "json"}, b'"text"\n'),
        ("a.yaml", {"a": ["yes", 1]}, {}, b'a:\n  - "yes"\n  - 1\n'),
        ("a.csv", [{"a": 1, "b": "x,y"}, {"b": None, "c": True}], {}, b'a,b,c\n1,"x,y",\n,,true\n'),
        ("a.txt", ["one", 2], {"format": "lines"}, b"one\n2\n"),
        ("a.bin", "AAH/", {"format": "bytes"}, b"\x00\x01\xff"),
        ("deep/er/a.txt", "x", {}, b"x"),
    ],
)
async def test_a_file_is_written_in_its_format(
    bench: Bench, name: str, content: Any, more: dict[str, Any], written: bytes
) -> None:
    result = await bench.result("file_write", path=name, content=content, **more)
    assert (bench.folder / name).read_bytes() == written
    assert result == {"path": name, "bytes": len(written)}


async def test_what_was_written_reads_back(bench: Bench) -> None:
    rows = [{"a": "1", "b": 'q"u,o\nte'}, {"a": "", "b": "é"}]
    for name in ("r.csv", "r.tsv", "r.json", "r.yaml"):
        await bench.result("file_write", path=name, content=rows)
        assert await bench.result("file_read", path=name) == rows


async def test_create_never_replaces(bench: Bench) -> None:
    (bench.folder / "a").write_text("before")
    error = await bench.error("file_write", path="a", content="after")
    assert "is there already" in error.message and error.context["retryable"] is False
    assert (bench.folder / "a").read_text() == "before"
    assert names(bench.folder) == ["a"]


async def test_of_many_creators_one_wins(bench: Bench) -> None:
    outcomes = await asyncio.gather(*(bench.do("file_write", {"path": "one", "content": str(n)}) for n in range(12)))
    winners = [n for n, outcome in enumerate(outcomes) if outcome.error is None]
    assert len(winners) == 1 and (bench.folder / "one").read_text() == str(winners[0])
    assert names(bench.folder) == ["one"]


async def test_overwrite_keeps_the_mode_and_follows_a_link(bench: Bench) -> None:
    target = bench.folder / "script"
    target.write_text("old")
    target.chmod(0o750)
    (bench.folder / "link").symlink_to("script")
    await bench.result("file_write", path="link", content="new", mode="overwrite")
    assert target.read_text() == "new" and stat.S_IMODE(target.stat().st_mode) == 0o750
    assert (bench.folder / "link").is_symlink()


async def test_a_new_file_has_the_mode_that_the_umask_gives(bench: Bench) -> None:
    before = os.umask(0o027)
    try:
        await bench.result("file_write", path="n", content="x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((bench.folder / "n").stat().st_mode) == 0o640


async def test_a_reader_never_sees_half_a_file(bench: Bench) -> None:
    path = bench.folder / "a"
    sizes = [1_000_000, 2_000_000]
    await bench.result("file_write", path="a", content="x" * sizes[0])
    seen: set[int] = set()
    writing = asyncio.gather(
        *(bench.do("file_write", {"path": "a", "content": "x" * sizes[n % 2], "mode": "overwrite"}) for n in range(10))
    )
    while not writing.done():
        seen.add(len(path.read_bytes()))
        await asyncio.sleep(0)
    assert seen <= set(sizes)


async def test_append_adds_and_counts_as_once(bench: Bench) -> None:
    for content in ("a\n", "b\n"):
        outcome = await bench.do("file_write", {"path": "log", "content": content, "mode": "append"})
        assert outcome.effects == "once"
    assert (bench.folder / "log").read_text() == "a\nb\n"
    assert (await bench.do("file_write", {"path": "x", "content": ""})).effects == "idempotent"


async def test_rows_are_appended_under_the_columns_that_are_there(bench: Bench) -> None:
    for row in ({"b": 1, "a": 2}, {"a": 3, "b": 4}):
        await bench.result("file_write", path="t.csv", content=[row], mode="append")
    assert (bench.folder / "t.csv").read_text() == "b,a\n1,2\n4,3\n"
    assert (
        await bench.error("file_write", path="t.csv", content=[{"c": 1}], mode="append")
    ).code == "PARAMETER_INVALID"


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"path": "d", "content": "x", "mode": "overwrite"}, "it is a folder"),
        ({"path": "pipe", "content": "x", "mode": "append"}, "not a regular file"),
        ({"path": "file/x", "content": "x"}, "cannot be written"),
        ({"path": "n" * 300, "content": "x"}, "name too long"),
        ({"path": "b", "content": "!", "format": "bytes"}, "base64"),
        ({"path": "b", "content": {"a": 1}, "format": "csv"}, "list of maps"),
        ({"path": "b", "content": 1, "format": "lines"}, "takes a list"),
    ],
)
async def test_what_cannot_be_written_is_one_line_and_leaves_nothing(
    bench: Bench, params: dict[str, Any], said: str
) -> None:
    (bench.folder / "d").mkdir()
    (bench.folder / "file").write_text("")
    os.mkfifo(bench.folder / "pipe")
    before = names(bench.folder)
    error = await bench.error("file_write", **params)
    assert said in error.message and "\n" not in error.message
    assert names(bench.folder) == before


def tree(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.md", ["a.md"]),
        ("**/*.md", ["a.md", "docs/b.md", "docs/x/c.md"]),
        ("docs/**", ["docs/b.md", "docs/x/c.md", "docs/x/d.txt"]),
        ("docs/*/*.???", ["docs/x/d.txt"]),
        ("**/**/c.md", ["docs/x/c.md"]),
        ("docs/b.md", ["docs/b.md"]),
        ("[ab].md", ["a.md"]),
        (".git/*", [".git/config"]),
        ("**/.*", [".env"]),
        ("docs/../a.md", ["a.md"]),
        ("nothing/*", []),
        ("loop/*/*.md", []),
    ],
)
async def test_a_pattern_names_files_in_order(bench: Bench, glob: str, found: list[str]) -> None:
    tree(bench.folder, "a.md", "docs/b.md", "docs/x/c.md", "docs/x/d.txt", ".git/config", ".env")
    (bench.folder / "docs/x/loop").symlink_to(bench.folder)
    assert [entry["path"] for entry in await bench.result("file_list", glob=glob)] == found


async def test_an_entry_says_size_and_time_and_starts_at_the_root(bench: Bench) -> None:
    tree(bench.folder, "docs/b.md")
    os.utime(bench.folder / "docs/b.md", (0, 1_767_225_600))
    expected = [{"path": "docs/b.md", "size": 9, "modified": "2026-01-01T00:00:00Z"}]
    assert await bench.result("file_list", root="docs", glob="*.md") == expected
    absolute = str(bench.folder / "docs/*.md")
    assert (await bench.result("file_list", glob=absolute))[0]["path"] == str(bench.folder / "docs/b.md")
    assert "not a folder" in (await bench.error("file_list", root="docs/b.md", glob="*")).message


async def test_a_list_of_a_broken_link_and_a_pipe_leaves_them_out(bench: Bench) -> None:
    (bench.folder / "broken").symlink_to("nowhere")
    os.mkfifo(bench.folder / "pipe")
    tree(bench.folder, "real")
    assert [entry["path"] for entry in await bench.result("file_list", glob="*")] == ["real"]
