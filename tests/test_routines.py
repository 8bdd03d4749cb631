"""The routines of this repository, run as a stranger would: on other data, by the command line, with no key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FETCH = '''\
"""Reads pages of the orders API."""

import json
import time
import urllib.request


def fetch_page(url: str, page: int) -> list[dict]:
    """The orders of one page."""
    with urllib.request.urlopen(f"{url}?page={page}", timeout=10) as answer:
        return json.load(answer)


def fetch_all(url: str) -> list[dict]:
    """The orders of every page."""
    orders: list[dict] = []
    page = 1
    while batch := fetch_page(url, page):
        orders += batch
        page += 1
    return orders
'''
"""The file that ``routines/data/retry.diff`` changes."""


def vrooli(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command as a process, with a history of its own."""
    environment = {**os.environ, "VROOLI_STORE": str(folder / "store.db"), "NO_COLOR": "1"}
    command = [str(Path(sys.executable).with_name("vrooli")), *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def run(name: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A routine of the repository."""
    return vrooli("run", f"routines/{name}.yaml", *words, folder=folder)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small git history with a tag."""
    place = tmp_path / "repo"
    place.mkdir()

    def git(*words: str) -> None:
        author = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", "-C", str(place), *author, *words], check=True, capture_output=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "Add the old thing")
    git("tag", "v1")
    for message in ("Add a parser", "fix: crash on an empty file", "Tidy up; `rm -rf /` $(touch pwned)"):
        git("commit", "-q", "--allow-empty", "-m", message)
    return place


def test_release_notes_begin_at_the_last_tag(repository: Path, tmp_path: Path) -> None:
    done = run("release-notes", tmp_path, "-i", f"repo={repository}", "-i", "title=Next")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## Next\n")
    assert "### Fixed\n\n- fix: crash on an empty file (" in done.stdout
    assert "### New\n\n- Add a parser (" in done.stdout
    assert "$(touch pwned)" in done.stdout
    assert "the old thing" not in done.stdout
    everything = run("release-notes", tmp_path, "-i", f"repo={repository}", "-i", "since=v1~0", "-i", "limit=1")
    assert everything.stdout.count("\n- ") == 1


def test_csv_quality_counts_what_is_missing_and_can_fail(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text('id,"full name"\n1,Ada\n2,\n3,"Grace, H."\n')
    done = run("csv-quality", tmp_path, "-i", f"file={tmp_path / 'd.csv'}")
    assert done.returncode == 0, done.stderr
    assert "| full name | 1 (33.3 %) | 3 | Ada | Grace, H. |" in done.stdout
    strict = run("csv-quality", tmp_path, "-i", f"file={tmp_path / 'd.csv'}", "-i", "max_missing=10")
    assert strict.returncode == 1
    assert "more than 10" in strict.stderr
    (tmp_path / "empty.csv").write_text("id\n")
    assert run("csv-quality", tmp_path, "-i", f"file={tmp_path / 'empty.csv'}").returncode == 1


def test_link_check_finds_what_is_not_there(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "a b.md").write_text(
        "[good](c.md#x) [web](https://example.org) ![gone](img/no.png)\n```\n[code](no)\n```\n"
    )
    (pages / "c.md").write_text("[back](a%20b.md) [top](#top)\n[bad](../nowhere.md)\n")
    done = run("link-check", tmp_path, "-i", f"folder={pages}")
    assert done.returncode == 1
    assert "img/no.png" in done.stderr
    assert "../nowhere.md" in done.stderr
    assert "c.md#x" not in done.stderr
    assert run("link-check", tmp_path, "-i", "pattern=README.md").returncode == 0


def test_log_triage_clusters_what_is_the_same_but_for_numbers(tmp_path: Path) -> None:
    lines = [f"2026-01-01 10:00:{i:02} ERROR job {i} took {i * 7} ms | x" for i in range(5)] + ["INFO fine"]
    (tmp_path / "l.log").write_text("\n".join(lines) + "\n")
    done = run("log-triage", tmp_path, "-i", f"file={tmp_path / 'l.log'}")
    assert done.returncode == 0, done.stderr
    assert "| 5 | 2026-01-01 10:00:00 | 2026-01-01 10:00:04 |" in done.stdout
    quiet = run("log-triage", tmp_path, "-i", f"file={tmp_path / 'l.log'}", "-i", "levels=PANIC")
    assert "None." in quiet.stdout


def replayed(name: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A routine that asks a model, answered from its cassette."""
    return run(name, folder, "--replay", f"routines/cassettes/{name}.yaml", *words)


def test_change_review_writes_a_message_and_a_review_and_can_fail(tmp_path: Path) -> None:
    done = replayed("change-review", tmp_path, "-i", "diff=routines/data/retry.diff", "-i", "fail_on=high")
    assert (done.returncode, done.stdout) == (1, "")
    assert "The review has findings of severity high or worse" in done.stderr
    message = replayed("change-review", tmp_path, "-i", "diff=routines/data/retry.diff", "--field", "message")
    assert message.returncode == 0, message.stderr
    subject, empty, body = message.stdout.rstrip("\n").split("\n")
    assert (len(subject) <= 72, empty, body.endswith(".")) == (True, "", True)


def test_change_review_of_what_is_staged_asks_what_its_cassette_knows(tmp_path: Path) -> None:
    place = tmp_path / "repo"
    place.mkdir()

    def git(*words: str) -> None:
        author = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", "-C", str(place), *author, *words], check=True, capture_output=True)

    git("init", "-q")
    (place / "fetch.py").write_text(FETCH)
    git("add", ".")
    git("commit", "-q", "-m", "Before")
    git("apply", "--index", str(ROOT / "routines" / "data" / "retry.diff"))
    done = replayed("change-review", tmp_path, "-i", f"repo={place}", "--field", "review")
    assert (done.returncode, "`fetch.py:16`" in done.stdout) == (0, True), done.stderr
    git("commit", "-q", "-m", "After")
    nothing = replayed("change-review", tmp_path, "-i", f"repo={place}")
    assert (nothing.returncode, "Nothing to review" in nothing.stderr) == (1, True)


def test_log_explain_answers_with_causes_and_needs_no_model_for_a_log_without_errors(tmp_path: Path) -> None:
    done = replayed("log-explain", tmp_path, "-o", "json")
    assert done.returncode == 0, done.stderr
    causes = json.loads(done.stdout)["result"]["causes"]
    assert [cause["lines"] for cause in causes] == [[9], [2, 4, 6], [5, 8]]
    assert int(json.loads(done.stdout)["resources_used"]["credits_used"]) > 0
    (tmp_path / "quiet.log").write_text("INFO fine\n")
    quiet = replayed("log-explain", tmp_path, "-i", f"file={tmp_path / 'quiet.log'}", "--field", "summary")
    assert (quiet.returncode, quiet.stdout) == (0, "No errors.\n"), quiet.stderr


def test_translate_writes_every_page_under_its_own_name_within_its_budget(tmp_path: Path) -> None:
    done = replayed("translate", tmp_path, "-i", f"to={tmp_path / 'de'}", "-o", "json")
    assert done.returncode == 0, done.stderr
    pages = {str(path.relative_to(tmp_path / "de")): path.read_text() for path in (tmp_path / "de").rglob("*.md")}
    assert set(pages) == {"README.md", "install.md", "use/daily.md"}
    assert "[Übersicht](../README.md)" in pages["use/daily.md"]
    assert 0 < int(json.loads(done.stdout)["resources_used"]["credits_used"]) <= 200_000
    short = replayed("translate", tmp_path, "-i", f"to={tmp_path / 'no'}", "--max-credits", "10", "-o", "json")
    assert (short.returncode, json.loads(short.stdout)["error"]["code"]) == (4, "CREDITS_EXHAUSTED")


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "routines").glob("*.yaml")))
def test_every_routine_of_the_repository_is_valid(file: str, tmp_path: Path) -> None:
    done = vrooli("validate", f"routines/{file}", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
