"""What a device writes, line by line, as it comes."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from roundsman.worker.sessions.channel import Channel
from roundsman.worker.sessions.errors import ClosedEarlyError, TooLargeError
from roundsman.worker.sessions.events import Came, Hear, Purpose, Sent, nobody
from roundsman.worker.sessions.terminal import LineRenderer
from roundsman.worker.sessions.transcript import Span, Transcript

_REMEMBERED: Final = 8
"""Finished lines that are remembered: twice what may come with each prompt, and two prompts."""

_LONGEST_BEFORE: Final = 1024
"""Bytes of each of them that are looked at for a question."""


class Line(NamedTuple):
    """A line that came."""

    start: int
    """Where it begins in the transcript."""
    text: bytes
    """Without trailing blanks."""


class Lines:
    """A device's channel, read line by line into the transcript."""

    def __init__(self, channel: Channel, transcript: Transcript, hear: Hear = nobody) -> None:
        """Read from `channel`; all that comes, drawn as text, goes to `transcript`."""
        self._hear = hear
        self._channel = channel
        self._transcript = transcript
        self.screen = LineRenderer()
        self.finished: deque[Line] = deque(maxlen=_REMEMBERED)
        """The last lines that were ended."""

    @property
    def position(self) -> int:
        """Where in the transcript the line being written will begin."""
        return self._transcript.size

    @property
    def current(self) -> Line:
        """The line being written."""
        return Line(self._transcript.size, self.screen.line.rstrip())

    def text_before(self) -> bytes:
        """The last finished lines, for questions that reach over line ends."""
        return b"".join(line.text[-_LONGEST_BEFORE:] + b"\n" for line in self.finished)

    def first_line_of(self, span: Span, most: int) -> bytes:
        """The first line of a part of the transcript; of one longer than `most` bytes, nothing."""
        start, end = span
        text = b"".join(self._transcript.read(Span(start, min(end, start + most))))
        line, line_end, _ = text.partition(b"\n")
        return line if line_end or len(text) == end - start else b""

    def send(self, data: bytes, purpose: Purpose) -> None:
        """Send."""
        self._hear(Sent(data, purpose))
        self._channel.write(data)

    async def receive(self, silence: float | None = None) -> bytes | None:
        """Take what comes next; return the lines it finished, or none after a silence (seconds)."""
        if silence is None:
            data = await self._channel.read()
        else:
            try:
                async with asyncio.timeout(silence):
                    data = await self._channel.read()
            except TimeoutError:
                return None
        if not data:
            raise ClosedEarlyError("the device closed the session before its prompt came")
        self._hear(Came(data))
        finished = self.screen.feed(data)
        if replies := self.screen.take_replies():
            self.send(replies, Purpose.ANSWER)
        if finished:
            self.finished.extend(self._last_of(finished))
            self._transcript.write(finished)
        return finished

    def _last_of(self, finished: bytes) -> Iterator[Line]:
        """The last of some finished lines."""
        start = len(finished)
        noted: list[Line] = []
        while start and len(noted) < _REMEMBERED:
            end, start = start, finished.rfind(b"\n", 0, start - 1) + 1
            noted.append(Line(self._transcript.size + start, finished[start:end].rstrip()))
        return reversed(noted)

    def give_up(self) -> None:
        """Add the unfinished line to the transcript; nothing is read any more."""
        with suppress(TooLargeError):
            self._transcript.write(self.screen.line)
