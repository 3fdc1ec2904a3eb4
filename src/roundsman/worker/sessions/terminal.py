"""The bytes of a terminal as lines of text.

Devices draw on a terminal: they end lines with CR LF (some with CR CR LF), colour their prompts,
wipe out a character or a line that they had written. What a person would read on the screen is
what is kept, for the simple cases: CR and cursor movements within a line, overwriting, erasing
and inserting in a line, wiping the screen. What positions on the screen as a whole is left out.
Bytes are cells: nothing is decoded, so that what the device sent in whichever encoding is kept.

What devices ask of terminals (where the cursor is, how wide the screen is, what kind of terminal
it is) is answered: some wait for it before they show their prompt.
"""

import re
from enum import Enum, auto
from typing import Final

from roundsman.worker.sessions.channel import WINDOW_COLUMNS

_TEXT_CONTROLS: Final = b"\t\n\x0b\x0c"
_CONTROLS: Final = bytes(set(range(0x20)) | {0x7F})
_DRAWING: Final = bytes(set(_CONTROLS) - set(_TEXT_CONTROLS))
# From the first carriage return of a run on: a long run without a line end is looked at once.
_LINE_END: Final = re.compile(rb"(?<!\r)\r+\n")

_CSI: Final = rb"\x1b\[(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])"
_STRING: Final = rb"\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
_ESCAPE: Final = rb"\x1b[ -/]*(?P<escape>[0-OQ-WYZ\\`-~])"
_TOKEN: Final = re.compile(
    rb"(?P<text>[^\x00-\x08\x0e-\x1f\x7f\r]+)|"
    + b"|".join((_CSI, _STRING, _ESCAPE))
    + rb"|(?P<control>[\x00-\x1f\x7f])"
)
# An escape sequence of which the end has not come yet.
_UNFINISHED: Final = re.compile(
    rb"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?|\r+)\Z"
)

_IDENTITY: Final = b"\x1b[?1;0c"
"""A VT100 without options."""

_LONGEST_ESCAPE: Final = 4096
_LONGEST_LINE: Final = 1 << 16
_KEPT: Final = 1 << 12  # of a longer one

_LONGEST_MOVE: Final = 9999
_MOST_REPLIES: Final = 100
"""So often a terminal's questions are answered. Output that is full of them is no dialogue."""


class Strike(Enum):
    """How sure it is that a line is a pager's."""

    SURELY = auto()
    """It is: it is removed however the device goes on, and its line end with it."""
    IF_WIPED = auto()
    """It may be text, or not have come as a whole: it is removed if the device goes back on its
    line, as pagers do, before it ends it."""


class LineRenderer:
    """Turns a stream of bytes into a stream of finished lines, and the line being written.

    The result does not depend on how the stream is cut into pieces. Holds one line; a line of
    more than 64 KiB is given out in parts, and what was given can no longer be overwritten.
    """

    def __init__(self) -> None:
        self._held = b""  # the beginning of something whose end has not come
        self._cells = bytearray()
        self._column = 0
        self._written_to = 0  # where the last text written ends
        self._moved_back = False
        self._wiped = 0  # columns of the pager's line as which this one began
        self.continued = False
        """Whether the line being written began further back than what is held of it."""
        self.overdrawn = False
        """Whether other text was written over text of this line, which is then lost."""
        self._row = b""  # of the last cursor addressing
        self._asked_column = 0  # to which the cursor was sent, if it still is there
        self._height = 1  # the row in which the cursor would be, as far as it was sent somewhere
        self._replies = bytearray()
        self._replied = 0
        self._striking: Strike | None = None
        self.struck: bool | None = None
        """What became of the last line to be struck: whether the device wiped it out. None while
        that is open."""

    @property
    def line(self) -> bytes:
        """The line being written, as it reads now; the end of it when `continued`.

        Empty as long as it waits to be struck out.
        """
        return b"" if self._striking else bytes(self._cells)

    def take_replies(self) -> bytes:
        """What a terminal sends by itself since it was asked: where its cursor is, what it is."""
        replies = bytes(self._replies)
        self._replies.clear()
        return replies

    def strike(self, how: "Strike") -> None:
        """Take the line being written for a pager's, and remove it once the device goes on."""
        self._striking = how
        self.struck = None

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return the lines that they finished, each ended by LF."""
        data = self._held + data
        self._held = b""
        end = max(0, len(data) - _LONGEST_ESCAPE)
        # Looked for at every place, that would take as long as all the rest.
        may_be_cut = data.endswith(b"\r") or data.find(b"\x1b", end) >= 0
        if may_be_cut and (cut := _UNFINISHED.search(data, end)):
            self._held = data[cut.start() :]
            data = data[: cut.start()]
        data = data.replace(b"\r\n", b"\n")
        if self._striking:
            return self._feed_drawn(_LINE_END.sub(b"\n", data))
        if len(data) == len(data.translate(None, _DRAWING)):
            return self._feed_plain(data)
        return self._feed_drawn(_LINE_END.sub(b"\n", data))

    def _feed_plain(self, data: bytes) -> bytes:
        """The quick way for nearly everything: text and line ends only."""
        end = data.rfind(b"\n") + 1
        if end == 0:
            self._write(data)
            return self._overflow()
        first = data.find(b"\n")
        self._write(data[:first])
        finished = self._finish() + data[first + 1 : end]
        self._write(data[end:])
        return finished + self._overflow()

    def _feed_drawn(self, data: bytes) -> bytes:
        """Line by line, for what holds control characters."""
        finished = bytearray()
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._draw(line)
            if self._striking is Strike.SURELY:
                self._strike(wiped=False)  # and the line end belongs to it
                continue
            if self._striking:
                self._striking = None
                self.struck = False
            finished += self._finish()
        self._draw(rest)
        finished += self._overflow()
        return bytes(finished)

    def _draw(self, data: bytes) -> None:
        for token in _TOKEN.finditer(data):
            if text := token["text"]:
                if self._striking is Strike.SURELY:
                    self._strike(wiped=False)
                self._write(text)
            elif final := token["final"]:
                if self._striking and final in b"KDGHfJ":
                    self._strike(wiped=True)
                self._control_sequence(final, token["parameters"])
            elif token["escape"]:
                if token["escape"] == b"Z":
                    self._reply(_IDENTITY)
                elif token["escape"] == b"c":
                    self._clear()
            elif token["control"] in {b"\r", b"\b"}:
                if self._striking:
                    self._strike(wiped=True)
                self._move_to(0 if token["control"] == b"\r" else self._column - 1)
            # Bells, paddings, colours and titles leave no trace on the text.

    def _strike(self, *, wiped: bool) -> None:
        self._striking = None
        self.struck = wiped
        self._wiped = len(self._cells) if wiped else 0
        self._cells.clear()
        self._column = self._written_to = 0

    def _control_sequence(self, final: bytes, parameters: bytes) -> None:
        number = _number(parameters)
        match final:
            case b"K":
                self._erase(number or 0)
            case b"C":
                self._asked_column = self._column + 1 + (number or 1)
                self._move_to(min(self._column + (number or 1), len(self._cells)))
            case b"D":
                self._move_to(self._column - (number or 1))
            case b"G":
                self._move_to(min((number or 1) - 1, len(self._cells)))
            case b"H" | b"f":
                self._address(parameters)
            case b"J":
                self._erase_screen(number or 0)
            case b"X":
                self._cells[self._column : self._column + (number or 1)] = b" " * min(
                    number or 1, max(0, len(self._cells) - self._column)
                )
            case b"P":
                del self._cells[self._column : self._column + (number or 1)]
            case b"@":
                self._cells[self._column : self._column] = b" " * (number or 1)
            case b"A" | b"B":
                by = (number or 1) * (-1 if final == b"A" else 1)
                self._height = min(max(self._height + by, 1), _LONGEST_MOVE)
            case b"n" | b"c" | b"t":
                self._answer(parameters + final)
            case _:
                pass

    def _answer(self, question: bytes) -> None:
        """Answer what terminals are asked. Some devices and shells wait for it."""
        match question:
            case b"6n":
                column = min(self._asked_column or self._column + 1, WINDOW_COLUMNS)
                self._reply(b"\x1b[%d;%dR" % (self._height, column))
            case b"5n":
                self._reply(b"\x1b[0n")
            case b"c" | b"0c":
                self._reply(_IDENTITY)
            case b"18t":
                self._reply(b"\x1b[8;%d;%dt" % (_LONGEST_MOVE, WINDOW_COLUMNS))

    def _reply(self, reply: bytes) -> None:
        self._replied += 1
        if self._replied <= _MOST_REPLIES:
            self._replies += reply

    def _erase_screen(self, which: int) -> None:
        if which >= 2:
            self._clear()
        else:
            self._erase(which)

    def _clear(self) -> None:
        """Begin the line anew: the screen was wiped with it."""
        self._cells.clear()
        self._column = self._written_to = 0
        self.overdrawn = False

    def _address(self, parameters: bytes) -> None:
        """Move within the row; what lies in other rows is beyond a stream of lines."""
        row, _, column = parameters.partition(b";")
        self._height = _number(row) or 1
        # How wide the screen is, devices find out by going too far to the right.
        self._asked_column = _number(column) or 1
        if row == self._row and column:
            self._move_to(min(self._asked_column - 1, len(self._cells)))
        self._row = row

    def _write(self, text: bytes) -> None:
        if not text:
            return
        self._asked_column = 0
        end = self._column + len(text)
        if self._column < len(self._cells):
            lost = self._cells[self._column : end]
            self.overdrawn |= any(
                old not in (new, 0x20) for old, new in zip(lost, text, strict=False)
            )
        self._cells[self._column : end] = text
        self._column = self._written_to = end
        if self.overdrawn and not self._cells.strip(b" "):
            self.overdrawn = False  # wiped out as a whole: that was on purpose

    def _move_to(self, column: int) -> None:
        column = max(column, 0)
        self._moved_back |= column < self._column
        self._column = column

    def _erase(self, which: int) -> None:
        if which in {0, 2}:
            del self._cells[self._column :]
        if which in {1, 2}:
            self._cells[: self._column] = b" " * self._column

    def _finish(self) -> bytes:
        """The line, ended; a new one begins."""
        # What was wiped out with blanks is not text.
        end = min(self._column, self._written_to)
        if 0 < self._wiped <= len(self._cells) and not self._cells.strip(b" "):
            self._cells.clear()
        elif (self._moved_back or self._wiped) and not self._cells[end:].strip(b" "):
            del self._cells[end:]
        self._cells += b"\n"
        return self._begin()

    def _overflow(self) -> bytes:
        """The beginning of a line that is too long; its end may be a prompt."""
        count = len(self._cells) - _KEPT
        if len(self._cells) <= _LONGEST_LINE:
            return b""
        given = bytes(self._cells[:count])
        del self._cells[:count]
        self._column = max(0, self._column - count)
        self._written_to = max(0, self._written_to - count)
        self._wiped = 0
        self.continued = True
        return given

    def _begin(self) -> bytes:
        given = bytes(self._cells)
        self._cells.clear()
        self._column = self._written_to = 0
        self._moved_back = self.overdrawn = self.continued = False
        self._wiped = 0
        return given


def _number(digits: bytes) -> int | None:
    """A number of a control sequence, no larger than any screen."""
    return min(int(digits[:9]), _LONGEST_MOVE) if digits.isdigit() else None
