"""``python -m vrooli_cli``."""

from __future__ import annotations

import sys

from vrooli_cli.cli.main import main

sys.exit(main())
