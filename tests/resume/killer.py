"""Runs `vrooli` in forked processes that die by SIGKILL at a chosen commit, and resumes them; a process of its own.

``python killer.py FOLDER FILE KILLS`` prints one JSON document: what was wrong, and how much was tried. Everything is
imported once, so that a life of a run costs its own work and no start-up.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import jinja2.sandbox
import jsonschema
import networkx
import psutil
import yaml

import vrooli_cli.architecture
import vrooli_cli.cli.drive
import vrooli_cli.cli.resume
import vrooli_cli.cli.run
import vrooli_cli.tier2.run
import vrooli_cli.view.plain
from vrooli_cli.cli.main import main
from vrooli_cli.journal import open_store
from vrooli_cli.journal.history import history_of
from vrooli_cli.journal.store import SqliteStore

WARM = (jinja2.sandbox, jsonschema, networkx, psutil, yaml, vrooli_cli)


def deadly(kill_at: int, *, before: bool) -> None:
    """From now on the process dies at this commit, right before or right after it."""
    original = SqliteStore.append
    count = 0

    def append(self: SqliteStore, batches: Any) -> None:
        nonlocal count
        count += 1
        if count == kill_at and before:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, batches)
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    SqliteStore.append = append  # type: ignore[method-assign]


def life(argv: list[str], out: Path, kill_at: int = 0, *, before: bool = False) -> int:
    """One process; its exit code, negative for the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        for number in (1, 2):
            os.dup2(os.open(out if number == 1 else f"{out}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        if kill_at:
            deadly(kill_at, before=before)
        os._exit(main(argv))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def commits(store: Path, run: str) -> int:
    """How many commits the log of a run has."""
    import sqlite3

    database = sqlite3.connect(store)
    key = database.execute("SELECT key FROM runs WHERE id=?", (run,)).fetchone()[0]
    number = database.execute("SELECT count(*) FROM log WHERE place>>32=?", (key,)).fetchone()[0]
    database.close()
    return int(number)


class Killer:
    """Cuts runs of one file again and again."""

    def __init__(self, folder: Path, file: str) -> None:
        self.folder = folder
        self.file = file
        self.store = folder / "journal.db"
        self.wrong: list[str] = []
        self.killed = self.lives = 0
        self.flags = ["--store", str(self.store), "--view", "none", "-o", "json"]

    def result(self, out: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(out.read_text())
        return found

    def cut(self, number: int, kill_at: int, expected: Any) -> None:
        """One run that dies once or more often, until it completes; everything about it is checked."""
        place = self.folder / f"run{number}"
        place.mkdir()
        argv = ["run", self.file, "-i", f"folder={place}", *self.flags]
        done: dict[str, int] = {}
        code = life(argv, place / "out", kill_at, before=number % 2 == 0)
        run = ""
        for _ in range(50):
            self.lives += 1
            for address, lines in done.items():
                if self.marks(place, address) != lines:
                    self.wrong.append(f"run {number}: {address} had completed and was done again")
            if code != -signal.SIGKILL:
                break
            self.killed += 1
            store = open_store(self.store)
            try:
                run = run or store.find("last")[1].id
                history = history_of(store, run)
            finally:
                store.close()
            done = {s.address: self.marks(place, s.address) for s in history.steps.values() if s.status == "completed"}
            code = life(["resume", run, *self.flags], place / "out", kill_at + 3 if number % 3 == 0 else 0)
        if code != 0:
            self.wrong.append(f"run {number}: exit {code}: {Path(f'{place}/out.err').read_text()[:500]}")
        elif json.dumps(self.result(place / "out")["result"]) != expected:
            self.wrong.append(f"run {number}: another result than the uncut run")

    def marks(self, place: Path, address: str) -> int:
        mark = place / address.replace("/", "-")
        return len(mark.read_text().splitlines()) if mark.exists() else 0


def cut_everywhere(folder: Path, file: str, kills: int) -> dict[str, Any]:
    """Cut runs of a file at every commit, ``kills`` times in all."""
    killer = Killer(folder, file)
    uncut = folder / "uncut"
    uncut.mkdir()
    code = life(["run", file, "-i", f"folder={uncut}", *killer.flags], uncut / "out")
    if code != 0:
        return {"wrong": [f"uncut: exit {code}: {(uncut / 'out.err').read_text()}"]}
    result = killer.result(uncut / "out")
    count = commits(killer.store, result["context"]["execution_id"])
    for number in range(kills):
        kill_at = 1 + (number * count // kills if kills < count else number % count)
        killer.cut(number, kill_at, json.dumps(result["result"]))
    return {"wrong": killer.wrong, "killed": killer.killed, "lives": killer.lives, "commits": count}


def start_together(folder: Path, file: str, count: int) -> dict[str, Any]:
    """So many processes that start a run in one new store at the same moment."""
    ready, go = os.pipe()
    store = folder / "journal.db"
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.read(ready, 1)  # until the parent lets go
            for fd in (1, 2):
                os.dup2(os.open(folder / f"{number}.{fd}", os.O_WRONLY | os.O_CREAT), fd)
            os._exit(main(["run", file, "--store", str(store), "--view", "none"]))
        children.append(pid)
    os.close(ready)
    os.close(go)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    said = [(folder / f"{number}.2").read_text() for number in range(count)]
    return {"codes": codes, "said": [text for text in said if text]}


if __name__ == "__main__":
    what = start_together if len(sys.argv) > 4 else cut_everywhere
    sys.stdout.write(json.dumps(what(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
