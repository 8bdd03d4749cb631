"""The seam to models: what is asked, what is answered, and who answers (spec ai.md, "Provider").

::

    AIServiceManager            one an architecture: clients, governor, what the command line says of models
      .bind(definitions)        → BoundAI, the AIService of one routine's runs: names → targets, then
        memo                      a resumed run's own answers
        cassette                  --replay answers, --record keeps
        live | scripted           an endpoint or a list

Order of a paid call, always: slot → gate → permit of the governor → reservation → call (spec engine.md, e).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from vrooli_cli.errors import Problem, VrooliError
from vrooli_cli.tier3.ai.models import DEFAULT_MODEL, Models, Target
from vrooli_cli.tier3.scope import Scope
