"""``vrooli test --update``: what was observed becomes what is expected, for a person to read in the diff."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from vrooli_cli.loading.patch import replace_value
from vrooli_cli.testing.compare import differences
from vrooli_cli.testing.running import Verdict


def update(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Write the outputs of completed cases into their file; the cases that were changed.

    A case has its outputs written when it expects some that differ, or when it expects nothing else of them (no
    ``that``, no made-up data).
    """
    verdicts = [one for one in verdicts if _is_wanted(one)]
    if not verdicts:
        return []
    path = verdicts[0].file.path
    text = path.read_text(encoding="utf-8-sig")
    for verdict in verdicts:
        at = ("cases", verdict.case.index)
        outputs = verdict.observed.outputs
        try:
            text = replace_value(text, (*at, "expect", "outputs"), outputs)
        except LookupError:
            text = replace_value(text, (*at, "expect"), {"outputs": outputs})
    _write(path, text)
    return verdicts


def _is_wanted(verdict: Verdict) -> bool:
    expect, observed = verdict.case.expect, verdict.observed
    if observed.status != "completed" or expect.final_status != "completed":
        return False
    if expect.has_outputs:
        return any(differences(expect.outputs, observed.outputs, "", exact=True))
    return not expect.that and not verdict.case.generate


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(path.stat().st_mode & 0o777)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
