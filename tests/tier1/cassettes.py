"""Makes the cassettes of the swarms in ``routines/``: ``python -m tests.tier1.cassettes`` after a prompt has changed.

The answers stand here; the requests are what vrooli asks today, and what the tools said is what they say of the data
that is shipped.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from vrooli_cli.architecture import ExecutionArchitecture
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.model.run import ExecutionResult
from vrooli_cli.tier3.ai.remembered import Cassette
from vrooli_cli.tier3.ai.scripted import ScriptedAI

ROOT = Path(__file__).parents[2]
SWARMS = ("sales-analysis", "code-review", "research")


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def said(text: Any, spent: tuple[int, int] = (600, 150)) -> dict[str, Any]:
    usage = {"input_tokens": spent[0], "output_tokens": spent[1]}
    return {"text": text, "usage": usage} if isinstance(text, str) else {"json": text, "usage": usage}


def task(id: str, description: str, capability: str, size: int, *after: str) -> dict[str, Any]:
    return {
        "id": id,
        "description": description,
        "dependencies": list(after),
        "required_capabilities": [capability],
        "estimated_complexity": size,
        "priority": "medium",
    }


CSV = "routines/data/sales.csv"
SALES: dict[str, list[Any]] = {
    "plan": [
        said(
            {
                "tasks": [
                    task("quality", f"Say which rows of {CSV} have missing values.", "data_analysis", 2),
                    task("products", f"Count orders by product in {CSV}.", "data_analysis", 3),
                    task("regions", f"Count orders by region in {CSV}.", "data_analysis", 3),
                    task(
                        "report",
                        "Write a summary of the findings for a manager, with a warning about missing values.",
                        "content_generation",
                        4,
                        "quality",
                        "products",
                        "regions",
                    ),
                ]
            }
        )
    ],
    "task:quality/work": [
        call("file_read", path=CSV, format="csv"),
        said("Order 1007 has no units and order 1011 has no date; all other rows are complete."),
    ],
    "task:products/work": [
        call("file_read", path=CSV, format="csv"),
        said("Orders by product: Kettle 5, Toaster 4, Blender 3."),
    ],
    "task:regions/work": [
        call("file_read", path=CSV, format="csv"),
        said("Orders by region: North 4, South 3, West 3, East 2."),
    ],
    "task:report/work": [
        said(
            "Kettles are ordered most (5 of 12), and most orders come from the North (4 of 12). "
            "Two rows are incomplete."
        )
    ],
    "synthesis": [
        said(
            "# Sales summary\n\n"
            "- 12 orders; kettles lead with 5, before toasters (4) and blenders (3).\n"
            "- Most orders come from the North (4), the fewest from the East (2).\n\n"
            "Order 1007 has no units and order 1011 no date: check them before the numbers are used."
        )
    ],
}

DIFF = "routines/data/change.diff"
REVIEW: dict[str, list[Any]] = {
    "task:verdict/work": [
        said(
            "send back\n\n"
            '1. `d = eval(self.codes.get(code, "0"))` runs text as code (security).\n'
            "2. The check that a discount is between 0 and 100 percent is gone, so a total can become negative "
            "(correctness).\n"
            "3. `d` and `t` say nothing to the next reader (readability)."
        )
    ],
}
FINDINGS = {
    "correctness": "1. The check `if not 0 <= percent <= 100` is gone: a code of 150 makes the total negative.",
    "security": '1. `d = eval(self.codes.get(code, "0"))` runs whatever stands in `codes` as code.',
    "readability": "1. `d` and `t` say nothing; `discount` now takes a code, and its name does not tell.",
}

RESEARCH: dict[str, list[Any]] = {
    "plan": [
        said(
            {
                "tasks": [
                    task("largest", "Which whale is the largest, and how large?", "research", 2),
                    task("diving", "How deep and how long do sperm whales dive?", "research", 2),
                    task("whaling", "What did whaling do to blue whales and to sperm whales?", "research", 4),
                    task("answer", "Put the findings together.", "editing", 3, "largest", "diving", "whaling"),
                ]
            }
        )
    ],
    "task:largest/work": [
        call("knowledge_search", query="largest whale length weight"),
        said("The blue whale: up to 29.9 m and about 190 tonnes [data/whales/blue-whale.md:1]."),
    ],
    "task:diving/work": [
        call("knowledge_search", query="sperm whale dive depth minutes"),
        said(
            "They hunt at 400 to 1,200 m, can pass 2,000 m, and stay for 45 to 90 minutes "
            "[data/whales/sperm-whale.md:1]."
        ),
    ],
    "task:whaling/work": [
        call("knowledge_search", query="whaling hunted before moratorium protected", limit=3),
        said(
            "Antarctic blue whales fell from some 240,000 to fewer than 2,000 [data/whales/blue-whale.md:1]; "
            "sperm whales from about 1.1 million to about a third of that [data/whales/sperm-whale.md:1]."
        ),
    ],
    "task:answer/work": [said("All three questions are answered; the numbers of animals are estimates.")],
    "synthesis": [
        said(
            "The blue whale is the largest: up to 29.9 m and about 190 tonnes [data/whales/blue-whale.md:1]. "
            "Sperm whales hunt at 400 to 1,200 m, can pass 2,000 m, and stay for 45 to 90 minutes "
            "[data/whales/sperm-whale.md:1]. Whaling brought Antarctic blue whales from some 240,000 to fewer than "
            "2,000 [data/whales/blue-whale.md:1], and left about a third of some 1.1 million sperm whales "
            "[data/whales/sperm-whale.md:1]."
        )
    ],
}


def reviewer(request: Any) -> Any:
    """What one of the three reviewers says: who it is stands in its persona."""
    system = str(request.messages[0]["content"])
    name = next(
        key
        for key, word in (("correctness", "meant"), ("security", "abuse"), ("readability", "reader"))
        if word in system
    )
    turns = sum(1 for message in request.messages if message["role"] == "tool")
    if turns == 0:
        return call("file_read", path=DIFF)
    if turns == 1 and name == "readability":
        return call("file_write", path="review.md", content=FINDINGS[name])
    return said(FINDINGS[name])


def script_of(name: str) -> ScriptedAI:
    """The model of one swarm."""
    if name == "sales-analysis":
        return ScriptedAI(SALES)
    if name == "research":
        return ScriptedAI(RESEARCH)
    return ScriptedAI({"task:review*": [reviewer] * 20, **REVIEW})


def cassette_of(name: str) -> Path:
    """Where its cassette is."""
    return ROOT / "routines" / "cassettes" / f"{name}.yaml"


async def play(name: str, cassette: Cassette, ai: ScriptedAI | None = None) -> tuple[ExecutionResult, Any]:
    """Run a swarm from the repository's root; the architecture is closed when it returns."""
    loaded = load_bundle(ROOT / "routines" / f"{name}.yaml")
    environ = {"PATH": os.environ["PATH"]}
    async with ExecutionArchitecture(
        ai=ai, cassette=cassette, folder=str(ROOT), project=loaded.project, environ=environ
    ) as architecture:
        prepared = architecture.prepare(loaded, {})
        result = await prepared.run()
        return result, architecture.event_bus.history()


async def _record() -> None:
    for name in SWARMS:
        cassette = Cassette.record(cassette_of(name))
        result, _ = await play(name, cassette, script_of(name))
        if not result.success:
            raise SystemExit(f"{name}: {result.error}")
        sys.stdout.write(f"{cassette.path}: {len(cassette.exchanges)} exchanges\n")


if __name__ == "__main__":
    asyncio.run(_record())
