"""A canary in every place that a secret can reach: it is in no byte that is kept, and comes back with the resume."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest

from tests.resume.conftest import Shell
from vrooli_cli.tier2.machine import RunMachine

CANARY = 'c4nary "q" /9x&Zé'
FORMS = [
    CANARY,
    json.dumps(CANARY)[1:-1],
    json.dumps(CANARY, ensure_ascii=False)[1:-1],
    quote(CANARY, safe=""),
    base64.b64encode(CANARY.encode()).decode().rstrip("="),
    html.escape(CANARY),
]

ROUTINE = """
inputs:
  token: {type: string, secret: true, env: TOKEN}
  other: {type: string}
secrets: {SIGN: {env: SIGN}}
steps:
  - {id: plain, tool: echo, parameters: {message: "<{{ token }}>"}}
  - id: large
    tool: shell
    effects: none
    parameters:
      command: 'for i in $(seq 5000); do printf "%s-%s\\n" "$i" "$T"; done'
      env: {T: "{{ token }}"}
  - {id: coded, tool: shell, effects: none, parameters: {command: 'printf %s "$T" | base64', env: {T: "{{ token }}"}}}
  - {id: url, tool: echo, parameters: {message: "{{ token | urlencode }} {{ secrets.SIGN }}"}}
  - id: each
    for_each: ["{{ token }}", b]
    tool: echo
    parameters: {message: "{{ item }}"}
    set: {kept: "{{ result }}"}
    export: {shared: "{{ result }}"}
  - {id: refused, tool: fail, parameters: {message: "no {{ token }}"}, on_error: continue}
  - id: gate
    effects: none
    tool: shell
    parameters: {command: 'test -e open || { echo "not yet $T" >&2; exit 1; }', env: {T: "{{ token }}"}}
    depends_on: [plain, large, coded, url, each, refused]
  - id: last
    tool: echo
    depends_on: [gate]
    parameters:
      message:
        - "{{ steps.plain.result | length }}"
        - "{{ steps.large.result.stdout | length }}"
        - "{{ steps.plain.result == '<' ~ token ~ '>' }}"
        - "{{ steps.large.result.stdout.startswith('1-' ~ token) }}"
        - "{{ vars.kept | length }}"
        - "{{ blackboard.shared == vars.kept }}"
        - "{{ steps.coded.result.stdout | length }}"
        - "{{ other == 'x' ~ token }}"
        - "{{ steps.plain.result }}"
vars: {kept: null}
outputs: {all: "{{ steps.last.result }}"}
"""


@pytest.fixture
def secret(vrooli: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("TOKEN", CANARY)
    monkeypatch.setenv("SIGN", "s1gn-canary")
    return vrooli


@pytest.fixture
def papers(secret: Shell, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that a run can leave beside the journal."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(secret.folder / "summary.md"))
    return ["--events", "events.ndjson", "--junit", "junit.xml", "--report", "report.html"]


def searched(vrooli: Shell) -> int:
    """Looks at every byte of every file; how many files there were."""
    files = [path for path in vrooli.folder.rglob("*") if path.is_file()]
    for path in files:
        data = path.read_bytes()
        for form in (*FORMS, "s1gn-canary"):
            assert form.encode() not in data, f"{path.name} holds {form!r}"
    return len(files)


def test_no_byte_that_is_kept_holds_a_secret_and_a_resume_has_it_back(secret: Shell, papers: list[str]) -> None:
    vrooli = secret
    file = vrooli.write(ROUTINE)
    cut = vrooli("run", file, "-i", f"other=x{CANARY}", *papers)
    assert cut.code == 1
    assert all(form not in cut.out + cut.err for form in FORMS)
    assert list(vrooli.folder.glob("journal.db.blobs/*/*"))
    searched(vrooli)
    (vrooli.folder / "open").touch()
    resumed = vrooli("resume", "last", "-o", "json", "--events", "more.ndjson")
    assert resumed.code == 0, resumed.err
    assert all(form not in resumed.out + resumed.err for form in FORMS)
    uncut = vrooli("run", file, "-i", f"other=x{CANARY}", "-o", "json")
    assert resumed.json["result"] == uncut.json["result"]
    kept = len(CANARY)
    assert resumed.json["result"]["all"][:1] == [kept + 2]
    assert resumed.json["result"]["all"][2:4] == [True, True]
    assert resumed.json["result"]["all"][5] is True
    assert resumed.json["result"]["all"][7:] == [True, "<***>"]
    verbs = ("runs show last", "runs events last", "runs logs last", "runs export last", "runs export last -o otlp")
    for verb in (*verbs, "runs cost", "report last later.html"):
        said = vrooli(*verb.split())
        assert said.code == 0, said.err
        assert all(form not in said.out + said.err for form in FORMS)
    assert "***" in (vrooli.folder / "later.html").read_text()
    assert {"summary.md", "junit.xml", "report.html", "later.html"} <= {path.name for path in vrooli.folder.iterdir()}
    assert searched(vrooli) > 10


def test_a_crash_file_holds_no_secret(secret: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(machine: RunMachine, stimulus: object) -> None:
        raise RuntimeError(f"a bug that says {CANARY} and s1gn-canary")

    monkeypatch.setattr(RunMachine, "handle", bug)
    said = secret("run", secret.write(ROUTINE), "-i", "other=x")
    assert said.code == 70
    assert all(form not in said.out + said.err for form in FORMS)
    assert list((secret.folder / "state").rglob("*.txt"))
    searched(secret)


def test_a_secret_that_has_changed_takes_the_place_of_the_old_one(
    secret: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    vrooli = secret
    assert vrooli("run", vrooli.write(ROUTINE), "-i", "other=x").code == 1
    (vrooli.folder / "open").touch()
    monkeypatch.setenv("TOKEN", "another-one")
    said = vrooli("resume", "last", "-o", "json")
    assert said.json["result"]["all"][0] == len("another-one") + 2
    assert said.json["result"]["all"][2] is True
