"""The routines of this repository, run as a stranger would: on other data, by the command line, with no key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "routines").glob("*.yaml")))
def test_every_routine_of_the_repository_is_valid(file: str, tmp_path: Path) -> None:
    done = vrooli("validate", f"routines/{file}", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
