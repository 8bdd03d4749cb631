"""The most memory that a process of a test held, asked by a program that runs in it."""

from __future__ import annotations

from typing import Final

PEAK_MB: Final = """
def peak_mb():
    from pathlib import Path
    from resource import RUSAGE_SELF, getrusage

    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss begins with the peak of the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return getrusage(RUSAGE_SELF).ru_maxrss / 2**20
"""
"""Source of ``peak_mb()``: megabytes, of this process alone."""
