"""Picture → lines: columns, signs and colours; no table and no panel of rich, which cost ten times as much.

Colours are the terminal's own sixteen, never black, white or bright ones, so they read on light and on dark; what a
colour says, a sign or a word says too. Every line fits the width to the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo

from vrooli_cli.model.values import lean
from vrooli_cli.view.board import (
    CANCELLED,
    COMPLETED,
    FAILED,
    READY,
    RETRYING,
    RUNNING,
    SKIPPED,
    SUSPENDED,
    WAITING,
)
from vrooli_cli.view.line import Line
from vrooli_cli.view.screen import Bar, More, Place, Row, Screen, Speech, TeamPart
from vrooli_cli.view.text import cells, count, duration, fit, fit_middle, plural, short, wrap
from vrooli_cli.view.told import ALERT, Told

MIN_WIDTH = 20
_WIDE = 100
_NARROW = 60

COLOURS = {
    WAITING: "dim",
    READY: "dim",
    RUNNING: "cyan",
    RETRYING: "yellow",
    SUSPENDED: "magenta",
    COMPLETED: "green",
    FAILED: "red",
    SKIPPED: "dim",
    CANCELLED: "dim",
    ALERT: "yellow",
}
WORDS = {
    WAITING: "waiting",
    READY: "ready",
    RUNNING: "running",
    RETRYING: "retrying",
    SUSPENDED: "suspended",
    COMPLETED: "done",
    FAILED: "failed",
    SKIPPED: "skipped",
    CANCELLED: "cancelled",
}
TIER_COLOURS = {"tier1": "magenta", "tier2": "cyan", "tier3": "green", "": "yellow"}
_RUN_STATES = {
    "pending": WAITING,
    "running": RUNNING,
    "suspended": SUSPENDED,
    "completed": COMPLETED,
    "failed": FAILED,
    "cancelled": CANCELLED,
}
_STRATEGIES = {"deterministic": "det.", "conversational": "conv.", "reasoning": "reas."}


@lean()
class Look:
    """What the terminal can show.

    Attributes:
        unicode: Signs beyond ASCII; without them every line is ASCII, and other letters are escaped.
        zone: The time zone of the clock times in the tail; None is the machine's own.
    """

    unicode: bool = True
    zone: tzinfo | None = None

    def sign(self, status: int) -> str:
        """One cell for a state."""
        return ("○○●↻⏸✓✗–⊘!" if self.unicode else "..*~=+x--!")[status]

    @property
    def dot(self) -> str:
        """Between two parts of a line."""
        return "·" if self.unicode else "-"

    def bar(self, width: int, done: int, failed: int, total: int) -> Line:
        """A thin bar: what went well, what failed, what is left."""
        full, half, rest = ("━", "╸", "─") if self.unicode else ("#", "#", "-")
        text = Line()
        if total <= 0 or width <= 0:
            return text.add(rest * max(width, 0), "dim")
        ended = min(done + failed, total)
        halves = ended * width * 2 // total
        red = max(1, failed * width // total) if failed else 0
        green = max(0, halves // 2 - red)
        text.add(full * green, "green").add(full * min(red, width), "red")
        if halves % 2 and text.width < width:
            text.add(half, "green")
        return text.add(rest * (width - text.width), "dim")


def draw(screen: Screen, look: Look) -> list[Line]:
    """The lines of a picture, at most ``screen.height - 1``, each at most ``screen.width`` cells."""
    width = max(screen.width, 1)
    lines = [_title(screen, width, look)]
    if screen.height > 4:
        lines.append(_progress(screen, width, look))
    if screen.notice and screen.height > 12:
        lines.append(Line((f"{look.sign(ALERT)} ", "yellow"), (screen.notice, "yellow")).cut(width))
    if screen.height > 12:
        lines.append(Line())
    if screen.team is not None:
        lines.extend(_team(screen.team, width, look))
    lines.extend(_body(screen, width, look))
    if screen.tail:
        lines.append(Line())
        lines.extend(_told(told, width, look) for told in screen.tail)
    if screen.speeches:
        lines.append(Line())
        for speech in screen.speeches:
            lines.extend(_speech(speech, width, look))
    lines = lines[: max(1, screen.height - 1)]
    return lines if look.unicode else [text.ascii(width) for text in lines]


def _pad(text: str, width: int) -> str:
    text = fit(text, width)
    return text + " " * (width - cells(text))


def _ends(left: Line, right: Line, width: int) -> Line:
    """Left and right text on one line; the left one gives way."""
    room = width - right.width - 2
    if room < 8:
        return left.cut(width)
    left = left.cut(room)
    return left.add(" " * (width - left.width - right.width)).join(right)


# --- head ------------------------------------------------------------------------------------------------------------


def _title(screen: Screen, width: int, look: Look) -> Line:
    status = _RUN_STATES.get(screen.status, WAITING)
    left = Line((look.sign(status), COLOURS[status]), " ", (screen.name or "run", "bold"))
    if screen.status not in ("running", "pending"):
        left.add(f" {screen.status}", COLOURS[status])
    left.add(f"  {screen.run_id}", "dim")
    right = Line(duration(screen.elapsed_ms, whole=screen.status == "running"))
    money = _money(screen, wide=width >= 80)
    if money:
        right.add(f" {look.dot} ", "dim").add(money)
    return _ends(left, right, width)


def _money(screen: Screen, *, wide: bool) -> str:
    if not screen.credits and not screen.reserved and screen.credit_limit is None:
        return ""
    used = count(screen.credits) if wide else short(screen.credits)
    word = "credits" if wide else "cr"
    if screen.credit_limit is None:
        return f"{used} {word}"
    return f"{used} / {count(screen.credit_limit)} {word}" if wide else f"{used}/{short(screen.credit_limit)} {word}"


def _progress(screen: Screen, width: int, look: Look) -> Line:
    """A bar, the share that has ended, and the states that are worth a word while there is room for them."""
    bar = max(8, min(30, width // 4))
    failed = screen.counts[FAILED]
    line = look.bar(bar, screen.done - failed, failed, screen.total)
    line.add(f"  {count(screen.done)}/{count(screen.total)} {screen.noun}s")
    parts = [
        (f"{count(number)} {WORDS[status]}", COLOURS[status])
        for status in (FAILED, SUSPENDED, RUNNING, RETRYING, SKIPPED, CANCELLED)
        if (number := screen.counts[status])
    ]
    if screen.batches > 1:
        parts.append((f"{'phase' if screen.noun == 'task' else 'batch'} {screen.batch}/{screen.batches}", "dim"))
    if screen.tokens_in or screen.tokens_out:
        parts.append((f"{short(screen.tokens_in)}↑ {short(screen.tokens_out)}↓ tokens", "dim"))
    for words, style in parts:
        if line.width + 3 + cells(words) <= width:
            line.add(f" {look.dot} ", "dim").add(words, style)
    return line.cut(width)


# --- body ------------------------------------------------------------------------------------------------------------


@lean()
class _Columns:
    """Widths of the columns of the body; 0 leaves one out."""

    gutter: int
    name: int
    strategy: int
    label: int
    tries: int
    time: int
    credits: int


def _columns(screen: Screen, width: int) -> _Columns:
    rows = [row for row in screen.rows if isinstance(row, Row)]
    gutter = len(str(screen.batches)) + 1 if screen.batches > 1 else 0
    tries = 3 if width >= 80 or (width >= 50 and any(row.attempt > 1 for row in rows)) else 0
    time = 6 if width >= 30 else 0
    widest = max((row.credits for row in rows), default=0)
    credits = max(5, len(count(widest))) if widest and width >= 44 else 0
    strategy = 0
    if width >= _NARROW and any(row.strategy for row in rows):
        strategy = 14 if width >= _WIDE else 5
    fixed = gutter + 2 + sum(column + 2 for column in (tries, time, credits, strategy) if column)
    rest = max(width - fixed, 4)
    longest = max((cells(row.name) + 2 * row.depth for row in rows), default=4)
    longest = max(longest, 12)  # so that short names that come and go do not move the columns beside them
    beside = max((_wished(row) for row in rows), default=0)
    name = min(longest, max(rest * 9 // 20, rest - 2 - max(beside, 14), 8), rest)
    label = rest - name - 2
    return _Columns(gutter, name, strategy, label if label >= 8 else 0, tries, time, credits)


def _wished(row: Row) -> int:
    """Cells that a row would fill beside its name; a loop's bar can be short."""
    if row.composite and (row.total or row.done or row.failed):
        return 20 + (cells(row.note) + 3 if row.note else 0)
    return cells(row.label) + (cells(row.note) + 3 if row.note else 0)


def _body(screen: Screen, width: int, look: Look) -> list[Line]:
    columns = _columns(screen, width)
    lines = []
    for row in screen.rows:
        if isinstance(row, Row):
            lines.append(_row(row, columns, width, look))
        elif isinstance(row, Bar):
            lines.append(_bar(row, columns, width, look))
        else:
            lines.append(_more(row, columns, width))
    return lines


def _row(row: Row, columns: _Columns, width: int, look: Look) -> Line:
    colour = COLOURS[row.status]
    quiet = row.status in (WAITING, READY, SKIPPED, CANCELLED)
    text = Line((_gutter(row.batch, columns.gutter), "dim")) if columns.gutter else Line()
    text.add("  " * row.depth).add(look.sign(row.status), colour).add(" ")
    name = columns.name - 2 * row.depth
    text.add(_padded_middle(row.name, name), "dim" if quiet else "bold" if row.status == FAILED else "")
    if columns.strategy:
        word = row.strategy if columns.strategy > 5 else _STRATEGIES.get(row.strategy, row.strategy)
        text.add("  ").add(_pad(word, columns.strategy), "dim")
    if columns.label:
        text.add("  ").join(_what(row, columns.label, look))
    for content, size in (
        (f"×{row.attempt}" if row.attempt > 1 else "", columns.tries),
        (duration(row.ms, whole=row.live) if row.ms >= 0 else "", columns.time),
        (count(row.credits) if row.credits else "", columns.credits),
    ):
        if size:
            text.add("  ").add(fit(content, size).rjust(size), colour if row.live else "dim")
    return text.cut(width)


def _gutter(batch: int, size: int) -> str:
    return f"{batch if batch else '':>{size - 1}} "


def _padded_middle(text: str, width: int) -> str:
    text = fit_middle(text, width)
    return text + " " * max(0, width - cells(text))


def _what(row: Row, width: int, look: Look) -> Line:
    """Tool or model, a loop's progress, and the note; ``width`` cells."""
    text = Line()
    if row.composite and (row.total or row.done or row.failed):
        text.join(_loop(row, width, look))
    elif row.label and not (row.note and row.status in (FAILED, RETRYING, SUSPENDED)):
        text.add(fit(row.label, width), "dim" if row.status in (WAITING, READY) else "")
    if row.turn:
        text.add(f" #{row.turn}", "dim")
    if row.note:
        room = width - text.width - (3 if text.plain else 0)
        if room >= 6:
            text.add(f" {look.dot} " if text.plain else "", "dim")
            text.add(fit(row.note, room), COLOURS[row.status] if row.status in (FAILED, RETRYING, SUSPENDED) else "dim")
    text = text.cut(width)
    return text.pad(width)


def _loop(row: Row, width: int, look: Look) -> Line:
    ended = row.done + row.failed
    words = f"{count(ended)}/{count(row.total)}" if row.total else count(ended)
    bar = min(16, width - len(words) - 1)
    text = look.bar(bar, row.done, row.failed, row.total).add(" ") if bar >= 6 and row.total else Line()
    text.add(words)
    if row.failed and text.width + 10 <= width:
        text.add(f" {look.dot} ", "dim").add(f"{count(row.failed)} failed", "red")
    return text


def _bar(bar: Bar, columns: _Columns, width: int, look: Look) -> Line:
    failed = bar.tally[FAILED]
    done = sum(bar.tally[COMPLETED:])
    text = Line().add(_gutter(bar.batch, columns.gutter) if columns.gutter else "", "dim")
    text.join(look.bar(max(8, min(24, width // 4)), done - failed, failed, bar.size))
    text.add(f"  {count(done)}/{count(bar.size)}", "dim")
    return text.cut(width)


def _more(more: More, columns: _Columns, width: int) -> Line:
    waiting = more.counts[WAITING] + more.counts[READY]
    parts = [f"{count(waiting)} waiting"] if waiting > 0 else []
    parts += [
        f"{count(more.counts[status])} {WORDS[status]}"
        for status in (RUNNING, RETRYING, SUSPENDED, FAILED, COMPLETED, SKIPPED, CANCELLED)
        if more.counts[status] > 0
    ]
    if not parts:
        return Line()
    return Line((" " * columns.gutter + "… " + ", ".join(parts), "dim")).cut(width)


# --- team ------------------------------------------------------------------------------------------------------------


def _team(team: TeamPart, width: int, look: Look) -> list[Line]:
    lines = [Line(("goal  ", "dim"), team.goal).cut(width)]
    columns = max(1, -(-len(team.places) // max(team.rows, 1)))
    each = (width - 6 - 2 * (columns - 1)) // columns
    name = min(max((cells(place.name) for place in team.places), default=4), max(6, each // 3))
    roles = min(max((cells(place.roles) for place in team.places), default=0), each // 4) if each >= 50 else 0
    for number in range(team.rows):
        text = Line(("team  " if number == 0 else "      ", "dim"))
        for column in range(columns):
            position = number + column * team.rows
            if position < len(team.places):
                text.add("  " if column else "").join(_place(team.places[position], each, name, roles, look))
        lines.append(text.cut(width))
    if any(team.others) or team.violations:
        lines.append(_team_rest(team, look).cut(width))
    return [*lines, Line()]


def _place(place: Place, width: int, name: int, roles: int, look: Look) -> Line:
    status = RUNNING if place.load else WAITING
    text = Line().add(look.sign(status), COLOURS[status]).add(" ").add(_pad(place.name, name))
    if roles:
        text.add("  ").add(_pad(place.roles, roles), "dim")
    text.add(f"  {place.load}/{place.limit}", "" if place.load else "dim")
    if place.violations:
        text.add(f" {look.sign(ALERT)}{place.violations}", "yellow")
    room = width - text.width - 2
    if room >= 4:
        text.add("  ").add(fit(place.doing or "idle", room), "" if place.load else "dim")
    text = text.cut(width)
    return text.pad(width)


def _team_rest(team: TeamPart, look: Look) -> Line:
    busy, idle = team.others
    words = [f"{count(number)} more {word}" for number, word in ((busy, "busy"), (idle, "idle")) if number > 0]
    text = Line("      ")
    if words:
        text.add(f"… {', '.join(words)}  ", "dim")
    if team.violations:
        text.add(f"{look.sign(ALERT)} {plural(team.violations, 'norm')} violated", "yellow")
        text.add(f" {look.dot} {team.last_violation}", "dim")
    return text


# --- tail and speech -------------------------------------------------------------------------------------------------


def _told(told: Told, width: int, look: Look) -> Line:
    text = Line((told.at.astimezone(look.zone).strftime("%H:%M:%S"), "dim"))
    text.add("  ").add(f"{told.tier or 'system':<6}", TIER_COLOURS.get(told.tier, ""))
    if width >= 76:
        text.add(" ").add(_pad(told.type, 20), "dim")
    text.add(" ").add(look.sign(told.mark), COLOURS[told.mark]).add(" ").add(fit_middle(told.subject, width // 3))
    if told.ms >= 0:
        text.add(f"  {duration(told.ms)}", "dim")
    if told.detail:
        text.add(f"  {told.detail}", "red" if told.mark == FAILED else "dim")
    return text.cut(width)


def _speech(speech: Speech, width: int, look: Look) -> list[Line]:
    edge = "│ " if look.unicode else "| "
    head = Line((edge, "cyan"), (speech.name, "bold"))
    model = f" {look.dot} {speech.model}" if speech.model else ""
    head.add(f"{model} {look.dot} ~{short(max(1, speech.said // 4))} tokens", "dim")
    said = wrap(speech.text, width - 2, speech.rows)
    return [head.cut(width), *(Line((edge, "cyan"), words).cut(width) for words in said)]


def plain_lines(lines: Sequence[Line]) -> str:
    """The lines without any style, each without blanks at its end."""
    return "\n".join(text.plain.rstrip() for text in lines) + "\n"
