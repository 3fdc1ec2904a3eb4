"""Pagers: turning their pages, and removing what they leave in the output."""

from roundsman.worker.sessions.events import Purpose
from roundsman.worker.sessions.lines import Lines
from roundsman.worker.sessions.manners import Manners
from roundsman.worker.sessions.terminal import Strike


class Pages:
    """Turns the pages of one device's pagers."""

    def __init__(self, lines: Lines, manners: Manners, *, first: float, repeated: float) -> None:
        """`first` and `repeated` are the shell's patience, in seconds."""
        self._lines = lines
        self._manners = manners
        self._first = first
        self._repeated = repeated
        self._wipe: bool | None = None  # whether pagers wipe their line; none: not known

    async def turn(self, *, patient: bool) -> bool | None:
        """If a pager waits, go on; whether its line was removed, or none if there is no pager."""
        pager = self._manners.pager(self._lines.current.text)
        if pager is None:
            return None
        surely = patient or not self._wipe
        if surely and await self._lines.receive(self._first) is not None:
            return True  # it went on: it was text
        screen = self._lines.screen
        screen.strike(Strike.SURELY if surely else Strike.IF_WIPED)
        self._lines.send(pager.key.encode(), Purpose.PAGE)
        while screen.struck is None:
            silence = None if surely else self._repeated
            if await self._lines.receive(silence) is None:
                self._lines.send(
                    pager.key.encode(), Purpose.PAGE
                )  # the one before had come too soon
        if screen.struck:
            self._wipe = True
        return screen.struck or surely
