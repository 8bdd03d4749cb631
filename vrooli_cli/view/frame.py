"""Picture → lines of ``rich.text.Text``: columns, signs and colours; no table, no panel (engine.md, measured table).

Colours are the terminal's own sixteen, never black, white or bright ones, so they read on light and on dark; what a
colour says, a sign or a word says too. Every line fits the width to the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from rich.text import Text

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


@dataclass(frozen=True, slots=True)
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

    def bar(self, width: int, done: int, failed: int, total: int) -> Text:
        """A thin bar: what went well, what failed, what is left."""
        full, half, rest = ("━", "╸", "─") if self.unicode else ("#", "#", "-")
        text = Text()
        if total <= 0 or width <= 0:
            return text.append(rest * max(width, 0), "dim")
        ended = min(done + failed, total)
        halves = ended * width * 2 // total
        red = max(1, failed * width // total) if failed else 0
        green = max(0, halves // 2 - red)
        text.append(full * green, "green").append(full * min(red, width), "red")
        if halves % 2 and len(text) < width:
            text.append(half, "green")
        return text.append(rest * (width - len(text)), "dim")


def draw(screen: Screen, look: Look) -> list[Text]:
    """The lines of a picture, at most ``screen.height - 1``, each at most ``screen.width`` cells."""
    width = max(screen.width, 1)
    lines = [_title(screen, width, look)]
    if screen.height > 4:
        lines.append(_progress(screen, width, look))
    if screen.notice and screen.height > 12:
        lines.append(_cut(Text.assemble((f"{look.sign(ALERT)} ", "yellow"), (screen.notice, "yellow")), width))
    if screen.height > 12:
        lines.append(Text())
    if screen.team is not None:
        lines.extend(_team(screen.team, width, look))
    lines.extend(_body(screen, width, look))
    if screen.tail:
        lines.append(Text())
        lines.extend(_told(told, width, look) for told in screen.tail)
    if screen.speeches:
        lines.append(Text())
        for speech in screen.speeches:
            lines.extend(_speech(speech, width, look))
    lines = lines[: max(1, screen.height - 1)]
    return lines if look.unicode else [ascii_only(text, width) for text in lines]


def ascii_only(text: Text, width: int) -> Text:
    """The same line for a terminal without Unicode: our own signs by their ASCII kin, other letters escaped."""
    plain = Text()
    for start, stop, style in _pieces(text):
        piece = text.plain[start:stop].translate(_ASCII).encode("ascii", "backslashreplace").decode()
        plain.append(piece, style)
    cut = _cut(plain, width)
    return cut[:-1].append("~") if cut.plain.endswith("…") else cut


_ASCII = str.maketrans({"…": "~", "·": "-", "×": "x", "→": ">", "↑": "^", "↓": "v", "─": "-", "│": "|", "–": "-"})


def _pieces(text: Text) -> list[tuple[int, int, str]]:
    """The text as runs of one style (our lines never overlap spans)."""
    pieces, at = [], 0
    for span in text.spans:
        if span.start > at:
            pieces.append((at, span.start, ""))
        pieces.append((span.start, span.end, str(span.style)))
        at = span.end
    return [*pieces, (at, len(text.plain), "")]


def _cut(text: Text, width: int) -> Text:
    """The line in at most ``width`` cells."""
    kept = fit(text.plain, width)
    if kept == text.plain:
        return text
    short_text = text[: len(kept) - 1] if kept.endswith("…") else text[: len(kept)]
    return short_text.append("…") if kept.endswith("…") else short_text


def _pad(text: str, width: int) -> str:
    text = fit(text, width)
    return text + " " * (width - cells(text))


def _ends(left: Text, right: Text, width: int) -> Text:
    """Left and right text on one line; the left one gives way."""
    room = width - right.cell_len - 2
    if room < 8:
        return _cut(left, width)
    left = _cut(left, room)
    return left.append(" " * (width - left.cell_len - right.cell_len)).append_text(right)


# --- head ------------------------------------------------------------------------------------------------------------


def _title(screen: Screen, width: int, look: Look) -> Text:
    status = _RUN_STATES.get(screen.status, WAITING)
    left = Text.assemble((look.sign(status), COLOURS[status]), " ", (screen.name or "run", "bold"))
    if screen.status not in ("running", "pending"):
        left.append(f" {screen.status}", COLOURS[status])
    left.append(f"  {screen.run_id}", "dim")
    right = Text(duration(screen.elapsed_ms, whole=screen.status == "running"))
    money = _money(screen, wide=width >= 80)
    if money:
        right.append(f" {look.dot} ", "dim").append(money)
    return _ends(left, right, width)


def _money(screen: Screen, *, wide: bool) -> str:
    if not screen.credits and not screen.reserved and screen.credit_limit is None:
        return ""
    used = count(screen.credits) if wide else short(screen.credits)
    word = "credits" if wide else "cr"
    if screen.credit_limit is None:
        return f"{used} {word}"
    return f"{used} / {count(screen.credit_limit)} {word}" if wide else f"{used}/{short(screen.credit_limit)} {word}"


def _progress(screen: Screen, width: int, look: Look) -> Text:
    """A bar, the share that has ended, and the states that are worth a word while there is room for them."""
    bar = max(8, min(30, width // 4))
    failed = screen.counts[FAILED]
    line = look.bar(bar, screen.done - failed, failed, screen.total)
    line.append(f"  {count(screen.done)}/{count(screen.total)} {screen.noun}s")
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
        if line.cell_len + 3 + cells(words) <= width:
            line.append(f" {look.dot} ", "dim").append(words, style)
    return _cut(line, width)


# --- body ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
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
    tries = 3 if width >= 50 and any(row.attempt > 1 for row in rows) else 0
    time = 6 if width >= 30 else 0
    widest = max((row.credits for row in rows), default=0)
    credits = max(5, len(count(widest))) if widest and width >= 44 else 0
    strategy = 0
    if width >= _NARROW and any(row.strategy for row in rows):
        strategy = 14 if width >= _WIDE else 5
    fixed = gutter + 2 + sum(column + 2 for column in (tries, time, credits, strategy) if column)
    rest = max(width - fixed, 4)
    longest = max((cells(row.name) + 2 * row.depth for row in rows), default=4)
    name = min(longest, max(rest * 9 // 20, 8), rest)
    label = rest - name - 2
    return _Columns(gutter, name, strategy, label if label >= 8 else 0, tries, time, credits)


def _body(screen: Screen, width: int, look: Look) -> list[Text]:
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


def _row(row: Row, columns: _Columns, width: int, look: Look) -> Text:
    colour = COLOURS[row.status]
    quiet = row.status in (WAITING, READY, SKIPPED, CANCELLED)
    text = Text(_gutter(row.batch, columns.gutter), "dim") if columns.gutter else Text()
    text = Text().append_text(text)
    text.append("  " * row.depth).append(look.sign(row.status), colour).append(" ")
    name = columns.name - 2 * row.depth
    text.append(_padded_middle(row.name, name), "dim" if quiet else "bold" if row.status == FAILED else "")
    if columns.strategy:
        word = row.strategy if columns.strategy > 5 else _STRATEGIES.get(row.strategy, row.strategy)
        text.append("  ").append(_pad(word, columns.strategy), "dim")
    if columns.label:
        text.append("  ").append_text(_what(row, columns.label, look))
    for content, size in (
        (f"×{row.attempt}" if row.attempt > 1 else "", columns.tries),
        (duration(row.ms, whole=row.live) if row.ms >= 0 else "", columns.time),
        (count(row.credits) if row.credits else "", columns.credits),
    ):
        if size:
            text.append("  ").append(fit(content, size).rjust(size), colour if row.live else "dim")
    return _cut(text, width)


def _gutter(batch: int, size: int) -> str:
    return f"{batch if batch else '':>{size - 1}} "


def _padded_middle(text: str, width: int) -> str:
    text = fit_middle(text, width)
    return text + " " * max(0, width - cells(text))


def _what(row: Row, width: int, look: Look) -> Text:
    """Tool or model, a loop's progress, and the note; ``width`` cells."""
    text = Text()
    if row.composite and (row.total or row.done or row.failed):
        text.append_text(_loop(row, width, look))
    elif row.label and not (row.note and row.status in (FAILED, RETRYING, SUSPENDED)):
        text.append(fit(row.label, width), "dim" if row.status in (WAITING, READY) else "")
    if row.turn:
        text.append(f" #{row.turn}", "dim")
    if row.note:
        room = width - text.cell_len - (3 if text.plain else 0)
        if room >= 6:
            text.append(f" {look.dot} " if text.plain else "", "dim")
            text.append(
                fit(row.note, room), COLOURS[row.status] if row.status in (FAILED, RETRYING, SUSPENDED) else "dim"
            )
    text = _cut(text, width)
    return text.append(" " * (width - text.cell_len))


def _loop(row: Row, width: int, look: Look) -> Text:
    ended = row.done + row.failed
    words = f"{count(ended)}/{count(row.total)}" if row.total else count(ended)
    bar = min(16, width - len(words) - 1)
    text = look.bar(bar, row.done, row.failed, row.total).append(" ") if bar >= 6 and row.total else Text()
    text.append(words)
    if row.failed and text.cell_len + 10 <= width:
        text.append(f" {look.dot} ", "dim").append(f"{count(row.failed)} failed", "red")
    return text


def _bar(bar: Bar, columns: _Columns, width: int, look: Look) -> Text:
    failed = bar.tally[FAILED]
    done = sum(bar.tally[COMPLETED:])
    text = Text().append(_gutter(bar.batch, columns.gutter) if columns.gutter else "", "dim")
    text.append_text(look.bar(max(8, min(24, width // 4)), done - failed, failed, bar.size))
    text.append(f"  {count(done)}/{count(bar.size)}", "dim")
    return _cut(text, width)


def _more(more: More, columns: _Columns, width: int) -> Text:
    waiting = more.counts[WAITING] + more.counts[READY]
    parts = [f"{count(waiting)} waiting"] if waiting > 0 else []
    parts += [
        f"{count(more.counts[status])} {WORDS[status]}"
        for status in (RUNNING, RETRYING, SUSPENDED, FAILED, COMPLETED, SKIPPED, CANCELLED)
        if more.counts[status] > 0
    ]
    if not parts:
        return Text()
    return _cut(Text(" " * columns.gutter + "… " + ", ".join(parts), "dim"), width)


# --- team ------------------------------------------------------------------------------------------------------------


def _team(team: TeamPart, width: int, look: Look) -> list[Text]:
    lines = [_cut(Text.assemble(("goal  ", "dim"), team.goal), width)]
    columns = max(1, -(-len(team.places) // max(team.rows, 1)))
    each = (width - 6 - 2 * (columns - 1)) // columns
    name = min(max((cells(place.name) for place in team.places), default=4), max(6, each // 3))
    roles = min(max((cells(place.roles) for place in team.places), default=0), each // 4) if each >= 50 else 0
    for number in range(team.rows):
        text = Text("team  " if number == 0 else "      ", "dim")
        text = Text().append_text(text)
        for column in range(columns):
            position = number + column * team.rows
            if position < len(team.places):
                text.append("  " if column else "").append_text(_place(team.places[position], each, name, roles, look))
        lines.append(_cut(text, width))
    if any(team.others) or team.violations:
        lines.append(_cut(_team_rest(team, look), width))
    return [*lines, Text()]


def _place(place: Place, width: int, name: int, roles: int, look: Look) -> Text:
    status = RUNNING if place.load else WAITING
    text = Text().append(look.sign(status), COLOURS[status]).append(" ").append(_pad(place.name, name))
    if roles:
        text.append("  ").append(_pad(place.roles, roles), "dim")
    text.append(f"  {place.load}/{place.limit}", "" if place.load else "dim")
    if place.violations:
        text.append(f" {look.sign(ALERT)}{place.violations}", "yellow")
    room = width - text.cell_len - 2
    if room >= 4:
        text.append("  ").append(fit(place.doing or "idle", room), "" if place.load else "dim")
    text = _cut(text, width)
    return text.append(" " * (width - text.cell_len))


def _team_rest(team: TeamPart, look: Look) -> Text:
    busy, idle = team.others
    words = [f"{count(number)} more {word}" for number, word in ((busy, "busy"), (idle, "idle")) if number > 0]
    text = Text("      ")
    if words:
        text.append(f"… {', '.join(words)}  ", "dim")
    if team.violations:
        text.append(f"{look.sign(ALERT)} {plural(team.violations, 'norm')} violated", "yellow")
        text.append(f" {look.dot} {team.last_violation}", "dim")
    return text


# --- tail and speech -------------------------------------------------------------------------------------------------


def _told(told: Told, width: int, look: Look) -> Text:
    text = Text(told.at.astimezone(look.zone).strftime("%H:%M:%S"), "dim")
    text = Text().append_text(text)
    text.append("  ").append(f"{told.tier or 'system':<6}", TIER_COLOURS.get(told.tier, ""))
    if width >= 76:
        text.append(" ").append(_pad(told.type, 20), "dim")
    text.append(" ").append(look.sign(told.mark), COLOURS[told.mark]).append(" ").append(
        fit_middle(told.subject, width // 3)
    )
    if told.ms >= 0:
        text.append(f"  {duration(told.ms)}", "dim")
    if told.detail:
        text.append(f"  {told.detail}", "red" if told.mark == FAILED else "dim")
    return _cut(text, width)


def _speech(speech: Speech, width: int, look: Look) -> list[Text]:
    edge = "│ " if look.unicode else "| "
    head = Text.assemble((edge, "cyan"), (speech.name, "bold"))
    model = f" {look.dot} {speech.model}" if speech.model else ""
    head.append(f"{model} {look.dot} ~{short(max(1, speech.said // 4))} tokens", "dim")
    said = wrap(speech.text, width - 2, speech.rows)
    return [_cut(head, width), *(_cut(Text.assemble((edge, "cyan"), words), width) for words in said)]


def plain_lines(lines: Sequence[Text]) -> str:
    """The lines without any style, each without blanks at its end."""
    return "\n".join(text.plain.rstrip() for text in lines) + "\n"
