"""The same helper as for resumes."""

from __future__ import annotations

from tests.resume.conftest import Shell, vrooli

__all__ = ["Shell", "vrooli"]
