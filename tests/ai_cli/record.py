"""Makes the cassettes of ``routines/`` again: ``python -m tests.ai_cli.record``.

The routines run as they are, by the command line with ``--record``, through the real SDK, against an endpoint on
loopback that knows by heart what a good model would say. Tokens are counted as four bytes each.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.ai.server import Answer
from tests.ai_cli.desk import ROOT, Desk, Done, serving

CASSETTES = ROOT / "routines" / "cassettes"

INPUTS: dict[str, tuple[str, ...]] = {
    "change-review": ("-i", "diff=routines/data/retry.diff"),
    "log-explain": (),
    "translate": (),
}
"""What each routine is recorded with; the rest is as the routine says."""

_MESSAGE = {
    "subject": "Retry pages of the orders API that fail",
    "body": (
        "A page that cannot be fetched is asked for again, up to five times with a growing pause, so that a short "
        "outage does not end the whole import. After the last try an empty page is returned."
    ),
}
_REVIEW = {
    "summary": "Retrying is right, but a page that keeps failing now ends the import early and reports success.",
    "findings": [
        {
            "file": "fetch.py",
            "line": 16,
            "severity": "high",
            "what": "After the last try an empty list is returned, which fetch_all takes for the end: orders are lost.",
            "fix": "Raise the last error in place of `return []`.",
        },
        {
            "file": "fetch.py",
            "line": 14,
            "severity": "medium",
            "what": "Every exception is retried, also a 404 and a body that is no JSON, for half a minute in silence.",
            "fix": "Retry time-outs, connection errors, 429 and 5xx only.",
        },
        {
            "file": "fetch.py",
            "line": 15,
            "severity": "low",
            "what": "It also sleeps after the last try, 16 seconds for nothing.",
            "fix": "Sleep between tries only.",
        },
    ],
}
_LOG = {
    "summary": "The disk of the app is full, and its database refuses connections; two users have broken settings.",
    "causes": [
        {
            "title": "No space left on /var/lib/app",
            "severity": "critical",
            "likely_cause": "The file system that holds the app's data is full, so that nothing more can be written.",
            "lines": [9],
            "next_step": "Free space on /var/lib/app (old logs, temporary files), then restart the app.",
        },
        {
            "title": "The database refuses connections",
            "severity": "error",
            "likely_cause": "PostgreSQL on 10.0.0.12 and 10.0.0.13 did not take connections; line 7 shows a recovery.",
            "lines": [2, 4, 6],
            "next_step": "Look at the log of PostgreSQL between 09:00 and 09:06 for a restart or a full pool.",
        },
        {
            "title": "prefs.json of two users ends too early",
            "severity": "warning",
            "likely_cause": "The files were cut while they were written; a full disk does that.",
            "lines": [5, 8],
            "next_step": "Restore prefs.json of the users 1281 and 77, and write it atomically.",
        },
    ],
}
_PAGES = {
    "# Sundial\n": (
        "# Sundial\n\nSundial zeigt mit einer Zeile die Uhrzeit jedes Büros.\n\n"
        "- [Installation](install.md)\n- [Täglicher Gebrauch](use/daily.md)\n"
    ),
    "# Install\n": (
        "# Installation\n\nDu brauchst Python 3.11 oder neuer:\n\n```sh\npip install sundial\n```\n\n"
        "Führe dann `sundial --check` aus. Es gibt **ready** aus, wenn alle Uhren erreichbar sind.\n"
    ),
    "# Daily use\n": (
        "# Täglicher Gebrauch\n\n| Befehl | was er tut |\n| --- | --- |\n"
        "| `sundial now` | zeigt die Uhrzeit jedes Büros |\n"
        "| `sundial meet 10:00` | findet eine Stunde, in der alle arbeiten |\n\n"
        "Zurück zur [Übersicht](../README.md).\n"
    ),
}
_ANSWERS = {
    "Write the commit message": json.dumps(_MESSAGE, indent=2),
    "Review this change": json.dumps(_REVIEW, indent=2),
    "These lines of a log file": json.dumps(_LOG, indent=2),
}


async def good_model(answer: Answer) -> None:
    """What a good model would say, streamed, with usage."""
    messages = answer.request.body["messages"]
    question = messages[-1]["content"]
    known = _PAGES if "Translate this Markdown" in question else _ANSWERS
    text = next(said for mark, said in known.items() if mark in question)
    size = sum(len(one["content"].encode()) for one in messages)
    await answer.text(text, given=size // 4 + 8, made=len(text.encode()) // 4)


def recorded(name: str, cassette: Path, desk: Desk) -> Done:
    """Run a routine of the repository against the endpoint."""
    more = ("-i", f"to={desk.folder / 'translated'}") if name == "translate" else ()
    with serving(good_model) as server:
        return desk.vrooli(
            *("run", f"routines/{name}.yaml", *INPUTS[name], *more, "--record", cassette, "-o", "json"),
            cwd=ROOT,
            OPENAI_BASE_URL=server.url,
        )


def main() -> None:
    """Write every cassette."""
    for name in INPUTS:
        with tempfile.TemporaryDirectory() as folder:
            done = recorded(name, CASSETTES / f"{name}.yaml", Desk(Path(folder)))
            assert done.code == 0, done.err


if __name__ == "__main__":
    main()
