"""A run as a JUnit file: a test case a step, as CI servers read it.

A failure that ``on_error`` took is no failed test: the run may have succeeded. What never ran is skipped, and says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from vrooli_cli.model.history import RunHistory, StepHistory
from vrooli_cli.view.text import block, line

Places = Callable[[str], tuple[str, int]]
"""Address → file and line; line 0 when it is not known."""

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RAN = frozenset({"completed", "failed"})


def junit_xml(history: RunHistory, places: Places | None = None) -> str:
    """The file's text; valid XML whatever the steps have printed."""
    steps = list(history.steps.values())
    cases = [_case(history, step, places) for step in steps]
    if history.status not in ("completed", "suspended") and not any(map(_failed, steps)):
        cases.append(_run_case(history))
    failures = sum("<failure" in case for case in cases)
    skipped = sum("<skipped" in case for case in cases)
    count = f'tests="{len(cases)}" failures="{failures}" errors="0" skipped="{skipped}" time="{_seconds(history)}"'
    stamp = datetime.fromtimestamp(history.began_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    name = _attribute(history.record.name)
    body = "\n".join(cases)
    run = f'<property name="run" value={_attribute(history.record.id)}/>'
    properties = f"    <properties>\n      {run}\n    </properties>"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name={name} {count}>\n'
        f'  <testsuite name={name} timestamp="{stamp}" {count}>\n{properties}\n{body}\n  </testsuite>\n</testsuites>\n'
    )


def _seconds(history: RunHistory) -> str:
    return f"{history.active_ns / 1e9:.3f}"


def _failed(step: StepHistory) -> bool:
    return step.status == "failed" and not step.continued


def _case(history: RunHistory, step: StepHistory, places: Places | None) -> str:
    place = ""
    if places is not None:
        file, number = places(step.address)
        place = f" file={_attribute(file)}" + (f' line="{number}"' if number else "") if file else ""
    head = (
        f"    <testcase classname={_attribute(history.record.name)} name={_attribute(step.address)}"
        f' time="{step.duration_ms / 1000:.3f}"{place}'
    )
    inside = _inside(step)
    return f"{head}>\n{inside}\n    </testcase>" if inside else f"{head}/>"


def _inside(step: StepHistory) -> str:
    error = step.error or {}
    said = f"{error.get('code')}: {error.get('message')}"
    if _failed(step):
        return _failure(error)
    if step.status == "failed":
        return f"      <skipped message={_attribute(f'failed, and on_error goes on: {said}')}/>"
    if step.status not in _RAN:
        reason = f"{step.status}: {step.reason}" if step.reason else step.status
        return f"      <skipped message={_attribute(reason)}/>"
    if step.recovered and error:
        return f"      <system-err>{_text(f'recovered from {said}')}</system-err>"
    return ""


def _failure(error: Mapping[str, Any]) -> str:
    code, message = str(error.get("code", "")), str(error.get("message", ""))
    context = error.get("context") or {}
    told = [f"{code}: {message}", *(f"{name}: {value}" for name, value in context.items() if not _is_output(name))]
    about = f"type={_attribute(code)} message={_attribute(message)}"
    failure = f"      <failure {about}>{_text(chr(10).join(told))}</failure>"
    outputs = [
        f"      <{element}>{_text(str(context[name]))}</{element}>"
        for name, element in (("stdout", "system-out"), ("stderr", "system-err"))
        if context.get(name)
    ]
    return "\n".join([failure, *outputs])


def _is_output(name: str) -> bool:
    return name in ("stdout", "stderr", "traceback")


def _run_case(history: RunHistory) -> str:
    error = history.error or {"code": history.status.upper(), "message": f"the run was {history.status}"}
    name = _attribute(history.record.name)
    return f'    <testcase classname={name} name="(run)" time="0.000">\n{_failure(error)}\n    </testcase>'


def _attribute(value: str) -> str:
    return quoteattr(_NO_XML.sub("\ufffd", line(value, 1_000)))


def _text(value: str) -> str:
    return escape(_NO_XML.sub("\ufffd", block(value[-60_000:])))
