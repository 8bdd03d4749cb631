"""The live view while a model speaks: its text as it streams, on a narrow terminal, never as control codes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios

from tests.ai.server import Answer
from tests.ai_cli.desk import VROOLI, Desk, serving


async def hostile(answer: Answer) -> None:
    """Says what would paint, retitle and mark up a careless terminal."""
    await answer.begin()
    for text in ("plain words ", "\x1b[31mred ", "\x1b]0;title\x07 ", "[bold]loud[/bold] ", "\u202eturned"):
        await answer.chunk({"content": text})
    await answer.chunk({}, "stop")
    await answer.end(given=1000, made=200)


def shown(desk: Desk, file: str, columns: int) -> str:
    """What a terminal of so many columns is sent."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    environment = {**desk.environment(), "TERM": "xterm-256color"}
    command = [*VROOLI, "run", file, "-o", "none"]
    with subprocess.Popen(command, cwd=desk.folder, env=environment, stdin=follower, stderr=follower) as process:
        os.close(follower)
        pieces: list[bytes] = []
        while select.select([leader], [], [], 40)[0]:
            try:
                piece = os.read(leader, 65536)
            except OSError:
                break
            if not piece:
                break
            pieces.append(piece)
        assert process.wait(20) == 0
    os.close(leader)
    return b"".join(pieces).decode(errors="replace")


def test_the_text_of_a_model_streams_escaped_with_its_credits(desk: Desk) -> None:
    with serving(hostile) as server:
        text = shown(desk, desk.write([{"id": "a", "prompt": "Speak"}], server.url), 60)
    assert "plain words" in text
    assert "\x1b[31mred" not in text
    assert "\x1b]0;title" not in text
    assert "\u202e" not in text
    assert "[bold]" in text
    assert "1,400 credits" in text
