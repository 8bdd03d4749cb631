"""A terminal small enough to read: what the painter writes, kept as rows of text."""

from __future__ import annotations

import re

_PARTS = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Terminal:
    """Rows, a cursor, and whether it is shown; rows that leave at the top are kept in ``history``."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.width = width
        self.rows = [""] * height
        self.row = self.column = 0
        self.shown = self.wraps = True
        self.history: list[str] = []

    def feed(self, text: str) -> None:
        position = 0
        while position < len(text):
            match = _PARTS.match(text, position)
            assert match is not None, f"a sequence nobody knows: {text[position : position + 20]!r}"
            position = match.end()
            private, numbers, final, move, plain = match.groups()
            if final:
                self._control(final, numbers, private=bool(private))
            elif move:
                self._move(move)
            else:
                self._put(plain)

    def _move(self, move: str) -> None:
        self.column = 0  # a terminal makes \r\n of \n
        if move == "\r":
            return
        if self.row < len(self.rows) - 1:
            self.row += 1
        else:
            self.history.append(self.rows.pop(0))
            self.rows.append("")

    def _put(self, text: str) -> None:
        assert text.isprintable(), f"a control character got through: {text!r}"
        row = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = (row[: self.column] + text + row[self.column + len(text) :])[: self.width]
        self.column = min(self.column + len(text), self.width - 1)

    def _control(self, final: str, numbers: str, *, private: bool) -> None:
        number = int(numbers.partition(";")[0] or 0)
        if private:
            if number == 25:
                self.shown = final == "h"
            elif number == 7:
                self.wraps = final == "h"
        elif final == "A":
            self.row = max(0, self.row - max(number, 1))
        elif final == "B":
            self.row = min(len(self.rows) - 1, self.row + max(number, 1))
        elif final == "K":
            self.rows[self.row] = "" if number == 2 else self.rows[self.row][: self.column]
        elif final == "J":
            self.rows[self.row] = self.rows[self.row][: self.column]
            self.rows[self.row + 1 :] = [""] * (len(self.rows) - self.row - 1)
        else:
            assert final == "m", f"a sequence nobody knows: {final}"

    def text(self) -> str:
        return "\n".join(row.rstrip() for row in [*self.history, *self.rows]).rstrip("\n")
