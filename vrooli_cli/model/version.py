"""Which vrooli this is, without the 20 ms that asking the installed package costs."""

from __future__ import annotations

from typing import Final

VROOLI: Final = "0.1.0"
