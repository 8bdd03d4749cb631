"""A conversation that ends badly after it has done something that may happen only once."""

from __future__ import annotations

from tests.ai.server import Answer
from tests.ai_cli.desk import Desk, serving
from tests.ai_cli.test_kill import STEP, line

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def test_a_conversation_without_a_usable_answer_is_not_begun_again_by_itself(desk: Desk) -> None:
    answers = iter([1, 0, 0, 0] * 2)  # a call, and three times an answer that cannot be used

    async def model(answer: Answer) -> None:
        await (answer.calls(line(1)) if next(answers) else answer.text("no"))

    with serving(model) as server:
        file = desk.write([{**STEP, "output_schema": SCHEMA}], server.url, permissions={"allow": ["file_write"]})
        first = desk.vrooli("run", file, "--json")
        assert (first.code, first.json["error"]["code"]) == (1, "AI_OUTPUT_INVALID")
        again = desk.vrooli("resume", "last", "--assume", "work=rerun", "--json")
        assert (again.code, again.json["error"]["code"]) == (1, "AI_OUTPUT_INVALID")
        asked = desk.vrooli("resume", "last", "--json")
    assert (asked.code, asked.json["status"], asked.json["error"]["code"]) == (5, "suspended", "OUTCOME_UNKNOWN")
    assert (len(server.requests), (desk.folder / "lines").read_text()) == (8, "1\n1\n")
