"""``python -m tests.docs.update PAGE…`` runs a page's commands and writes what they print into it.

Outputs that still match are left as they are; look at the difference before you believe it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.docs.pages import Block, Place, blocks, matches, new_zygote


def updated(text: str, place: Place) -> str:
    """The page with the outputs that its commands have now."""
    made, last = "", 0
    for block in blocks(text):
        if block.title:
            place.write(block.title, block.body)
        elif block.lang == "console" and not block.mark.startswith("not run"):
            made += text[last : block.start] + _ran(block, place)
            last = block.end
    return made + text[last:]


def _ran(block: Block, place: Place) -> str:
    body = ""
    for command, expected in block.commands:
        printed = place.run(command, stderr=block.mark == "stderr")
        kept = matches(expected, printed)
        body += f"$ {command}\n" + (expected if kept else printed)
        body = body if body.endswith("\n") else body + "\n"
    return body


def main(files: list[str]) -> None:
    """Rewrite the pages."""
    zygote = new_zygote()
    for file in files:
        with tempfile.TemporaryDirectory() as home:
            path = Path(file)
            path.write_text(updated(path.read_text(encoding="utf-8"), Place(Path(home), zygote)), encoding="utf-8")
    if zygote.stdin:
        zygote.stdin.close()
    zygote.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
