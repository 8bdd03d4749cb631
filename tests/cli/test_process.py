"""The command as a process: signals, pipes, closed streams, a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.cli.conftest import ECHO, VROOLI, Call, Write, environment

STUBBORN = {"id": "a", "tool": "shell", "parameters": {"command": "trap '' TERM; echo $$ > pid; sleep 60 & wait; wait"}}


def start(folder: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*VROOLI, *words],
        cwd=folder,
        env=environment(folder, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, seconds: float = 20) -> str:
    """The text of a file, once it is there."""
    until = time.monotonic() + seconds
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.02)
    return path.read_text().strip()


def gone(group: int) -> bool:
    """True when no process of the group runs; a dead one that nobody has buried yet does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            return False
    return True


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_cleanly_and_leaves_no_child(write: Write, folder: Path, number: int, code: int) -> None:
    running = start(folder, "run", write("r.yaml", [STUBBORN]), "--grace", "200ms", "-o", "json")
    group = int(wait_for(folder / "pid"))
    running.send_signal(number)
    out, err = running.communicate(timeout=20)
    assert running.returncode == code and gone(group)
    told = json.loads(out)
    assert told["status"] == "cancelled" and "vrooli resume " in err and "Traceback" not in err
    assert told["error"]["code"] == "CANCELLED" and told["error"]["step"] is None
    shown = subprocess.run([*VROOLI, "runs", "show", "last", "--json"], env=environment(folder), capture_output=True)
    assert json.loads(shown.stdout)["error"] == told["error"]


def test_a_second_signal_leaves_at_once_and_kills_the_children(write: Write, folder: Path) -> None:
    running = start(folder, "run", write("r.yaml", [STUBBORN]), "--grace", "50s")
    group = int(wait_for(folder / "pid"))
    running.send_signal(signal.SIGINT)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    before = time.monotonic()
    _, err = running.communicate(timeout=20)
    assert time.monotonic() - before < 5 and running.returncode == 130 and "Traceback" not in err
    time.sleep(0.1)
    assert gone(group)


def test_a_signal_at_any_moment_of_the_start_is_quiet(write: Write, folder: Path) -> None:
    file = write("r.yaml", [{"id": "w", "wait": "30s"}])
    for number, delay in ((signal.SIGINT, 0.1), (signal.SIGTERM, 0.3), (signal.SIGINT, 0.5)):
        running = start(folder, "run", file)
        time.sleep(delay)
        running.send_signal(number)
        _, err = running.communicate(timeout=20)
        # before the first line of ours, the signal is Python's own
        assert running.returncode in (128 + number, -number)
        assert "Traceback" not in err or "vrooli_cli/cli/main.py" not in err


def test_a_reader_that_leaves_stops_nothing(write: Write, folder: Path) -> None:
    steps = [*({**ECHO, "id": f"s{n}"} for n in range(40)), {"id": "w", "wait": "200ms"}]
    last = {"id": "t", "tool": "shell", "parameters": {"command": "touch done"}, "depends_on": ["w"]}
    file = write("r.yaml", [*steps, last])
    line = f"{' '.join(VROOLI)} run {file} -o ndjson -q | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0" and done.stderr == "" and (folder / "done").exists()


def test_a_result_that_cannot_be_written_is_an_error(write: Write, folder: Path) -> None:
    file = write("r.yaml", [ECHO], outputs={"o": "{{ steps.a.result }}"})
    full = subprocess.run(
        ["bash", "-c", f"{' '.join(VROOLI)} run {file} -q > /dev/full"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
    )
    assert full.returncode == 1 and "No space left" in full.stderr and len(full.stderr.splitlines()) == 1
    closed = subprocess.run(
        ["bash", "-c", f"{' '.join(VROOLI)} run {file} -q <&- >&- 2>&-"], cwd=folder, env=environment(folder)
    )
    assert closed.returncode == 0


def test_a_module_and_a_routine_on_stdin(process: Call) -> None:
    done = process("run", "-", "-q", stdin=json.dumps({"steps": [ECHO], "outputs": {"o": "{{ steps.a.result }}"}}))
    assert (done.code, done.out) == (0, "hi\n")


def on_a_terminal(folder: Path, words: list[str], answers: dict[str, str], **more: str) -> tuple[int, str]:
    """Run it on a pty that is stdin and stderr (stdout is a pipe), and answer what it asks."""
    leader, follower = pty.openpty()
    running = subprocess.Popen(
        [*VROOLI, *words],
        cwd=folder,
        env={**environment(folder, **more), "TERM": "xterm-256color"},
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that ^C is a signal
    )
    os.close(follower)
    seen, left, until = "", dict(answers), time.monotonic() + 30
    while time.monotonic() < until:
        ready, _, _ = select.select([leader], [], [], 0.2)
        if ready:
            try:
                data = os.read(leader, 65536)
            except OSError:
                break
            seen += data.decode("utf-8", "replace")
        elif running.poll() is not None:
            break
        for question in [question for question in left if question in seen]:
            os.write(leader, left.pop(question).encode())
    try:
        printed, _ = running.communicate(timeout=10)
    finally:
        running.kill()
        os.close(leader)
    seen, code = seen + printed.decode(), running.returncode
    assert "Traceback" not in seen
    return code, seen


def test_a_person_is_asked_on_the_terminal(write: Write, folder: Path) -> None:
    file = write("r.yaml", [{"id": "ok", "approval": "Ship \u001b[31mit?"}], outputs={"o": "{{ steps.ok.result }}"})
    code, seen = on_a_terminal(folder, ["run", file], {"[l]ater": "hm\ny fine by me\n"})
    assert code == 0 and "Approval ok: Ship \\x1b[31mit?" in seen and "comment: fine by me" in seen
    code, seen = on_a_terminal(folder, ["run", file], {"[l]ater": "later\n"})
    assert code == 5 and "vrooli approve " in seen
    code, seen = on_a_terminal(folder, ["run", file], {"[l]ater": "n\n"})
    assert code == 3
    code, seen = on_a_terminal(folder, ["run", file, "--no-input"], {})
    assert code == 5 and "[l]ater" not in seen


def test_ctrl_c_at_a_question_and_on_the_live_view_leaves_the_terminal_clean(write: Write, folder: Path) -> None:
    file = write("r.yaml", [{"id": "ok", "approval": "Ship?"}, {"id": "w", "wait": "20s"}])
    code, seen = on_a_terminal(folder, ["run", file], {"[l]ater": "\x03"})
    assert code in (130, 143) and seen.count("\x1b[?25l") <= seen.count("\x1b[?25h")


def test_a_result_moves_no_cursor_on_a_terminal_and_is_exact_in_a_pipe(write: Write, folder: Path) -> None:
    said = "a\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jb\r\n\tc\x9b"
    file = write("r.yaml", [{**ECHO, "parameters": {"message": said}}], outputs={"o": "{{ steps.a.result }}"})
    leader, follower = pty.openpty()
    plain = termios.tcgetattr(follower)
    plain[1] &= ~termios.OPOST
    termios.tcsetattr(follower, termios.TCSANOW, plain)
    words = [*VROOLI, "run", file, "--view", "none"]
    subprocess.run(words, env=environment(folder), stdin=subprocess.DEVNULL, stdout=follower, timeout=30, check=True)
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert shown == "a\x1b[31mred\x1b[0m \\x1b]0;title\\x07\\x1b[2Jb\n\tc\\x9b\n"
    piped = subprocess.run(words, env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert piped.stdout.decode() == said + "\n"


@pytest.mark.parametrize("words", [("run", b"caf\xe9.yaml"), ("resume", b"\xe9"), ("run", "r.yaml", "-i", b"x=\xe9")])
def test_an_argument_that_is_not_utf_8_is_refused_with_a_result(
    write: Write, folder: Path, words: tuple[str | bytes, ...]
) -> None:
    write("r.yaml", [ECHO], inputs={"x": {"type": "string", "required": False}})
    done = subprocess.run([*VROOLI, *words, "--json"], cwd=folder, env=environment(folder), capture_output=True)
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["code"] == "INPUT_INVALID"
    assert b"is not UTF-8 text" in done.stderr


def test_a_user_whose_name_is_not_utf_8_can_run(write: Write, folder: Path) -> None:
    named = {**os.environb, **{key.encode(): value.encode() for key, value in environment(folder).items()}}
    named |= {b"LOGNAME": b"\xe9", b"USER": b"\xe9"}
    file = write("r.yaml", [ECHO])
    done = subprocess.run([*VROOLI, "run", file, "--json"], cwd=folder, env=named, capture_output=True)
    assert done.returncode == 0 and json.loads(done.stdout)["context"]["user_id"] == "?"


@pytest.mark.parametrize("verb", ["run", "validate"])
def test_a_folder_that_is_gone_is_told_in_one_line(write: Write, folder: Path, verb: str) -> None:
    file = folder / write("r.yaml", [ECHO])
    gone = folder / "gone"
    gone.mkdir()
    script = 'rmdir "$PWD" && exec "$@"'
    command = ["sh", "-c", script, "sh", *VROOLI, verb, str(file)]
    done = subprocess.run(command, cwd=gone, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "is not there any more" in done.stderr


@pytest.mark.parametrize(
    "words", [("-", "-i", "x=-"), ("-", "--inputs", "-"), ("r.yaml", "-i", "x=-", "--inputs", "-")]
)
def test_stdin_that_two_want_is_refused_before_it_is_read(write: Write, process: Call, words: tuple[str, ...]) -> None:
    write("r.yaml", [ECHO], inputs={"x": {"type": "string", "required": False}})
    done = process("run", *words, "--json", stdin="no routine: [")
    assert done.code == 2 and done.json["error"]["code"] == "INPUT_INVALID" and "stdin is read by" in done.err


def test_a_short_secret_is_warned_of(write: Write, process: Call) -> None:
    file = write("r.yaml", [ECHO], inputs={"tok": {"type": "string", "secret": True}})
    assert "the secret 'tok' is short" in process("run", file, "-i", "tok=abc").err
    assert "is short" not in process("run", file, "-i", "tok=abcd").err
    assert process("run", file, "-i", "tok=abc", "-q").err == ""
    declared = write("d.yaml", [ECHO], secrets={"pin": {"env": "PIN"}})
    assert process("run", declared, PIN="abc").err.count("the secret 'pin' is short") == 1
