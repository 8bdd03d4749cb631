"""``vrooli test``: cases beside a routine, run offline, with no key, the same each time (spec testing.md).

::

    cases       *.test.yaml → TestFile, every problem placed
    stubs       StepRunner and ToolHost around the real ones: answers, made-up values, refused effects
    generate    JSON Schema → a value that fits, always the same
    compare     what was expected → the differences, the first one first
    running     a case → a verdict
    report      verdicts → lines, JSON, JUnit
    golden      observed outputs → the test file
"""

from __future__ import annotations
