"""Verdicts as lines, as JSON, and as JUnit's XML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from vrooli_cli.testing.running import Verdict

# What XML 1.0 cannot hold, in no form.
_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def summary(verdicts: Sequence[Verdict]) -> str:
    """``3 passed, 1 failed``."""
    failed = sum(not one.passed for one in verdicts)
    passed = len(verdicts) - failed
    return f"{passed} passed, {failed} failed" if failed else f"{passed} passed"


def as_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What ``-o json`` prints."""
    failed = sum(not one.passed for one in verdicts)
    return {"passed": len(verdicts) - failed, "failed": failed, "cases": [_case(one) for one in verdicts]}


def _case(verdict: Verdict) -> dict[str, Any]:
    observed = verdict.observed
    return {
        "file": verdict.file.name,
        "line": verdict.case.line,
        "name": verdict.case.name,
        "passed": verdict.passed,
        "differences": list(verdict.differences),
        "status": None if observed.refusal is not None else observed.status,
        "outputs": observed.outputs,
        "error": observed.error,
        "duration_ms": round(verdict.seconds * 1000),
    }


def as_junit(verdicts: Sequence[Verdict]) -> str:
    """A suite a file, a case a case."""
    suites: dict[str, list[Verdict]] = {}
    for one in verdicts:
        suites.setdefault(one.file.name, []).append(one)
    inner = "".join(_suite(name, cases) for name, cases in suites.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites {_counts(verdicts)}>\n{inner}</testsuites>\n'


def _counts(verdicts: Sequence[Verdict]) -> str:
    failed = sum(not one.passed for one in verdicts)
    seconds = sum(one.seconds for one in verdicts)
    return f'tests="{len(verdicts)}" failures="{failed}" errors="0" time="{seconds:.3f}"'


def _suite(name: str, verdicts: Sequence[Verdict]) -> str:
    cases = "".join(map(_junit_case, verdicts))
    return f"  <testsuite name={_attribute(name)} {_counts(verdicts)}>\n{cases}  </testsuite>\n"


def _junit_case(verdict: Verdict) -> str:
    head = (
        f"    <testcase classname={_attribute(verdict.file.name)} name={_attribute(verdict.case.name)}"
        f' file={_attribute(verdict.file.name)} line="{verdict.case.line}" time="{verdict.seconds:.3f}"'
    )
    if verdict.passed:
        return f"{head}/>\n"
    body = escape(_clean("\n".join(verdict.differences)))
    return f"{head}>\n      <failure message={_attribute(verdict.differences[0])}>{body}</failure>\n    </testcase>\n"


def _attribute(text: str) -> str:
    return quoteattr(_clean(text), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)


def is_passed(verdicts: Iterable[Verdict]) -> bool:
    """True when every case is as expected."""
    return all(one.passed for one in verdicts)
