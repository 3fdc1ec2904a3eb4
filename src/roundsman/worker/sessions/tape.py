"""What a session's two sides said, byte for byte, bounded: the first of it and the last."""

import re
from typing import IO, Final, NamedTuple

from roundsman.worker.sessions.events import Came, Event, Hear, Purpose, Sent, nobody

HEAD_BYTES: Final = 1 << 15
TAIL_BYTES: Final = 1 << 17
"""So much of what came is kept of a session: its beginning, with the login, and its end."""
# The rest of a private key, of which the beginning is left out: it is not known for one any more.
_KEY_BODY: Final = re.compile(
    rb"(?:[ \t]*[A-Za-z0-9+/=]{32,}[ \t\r]*\n)+[ \t]*[A-Za-z0-9+/=]*[ \t\r]*\n"
)
_MOST_SENT: Final = 4000
"""Of what was sent at most about as many pieces, the first ones and the last."""


class Said(NamedTuple):
    """What was sent, and what came until more was sent."""

    sent: bytes | None
    """None for what came before anything was sent."""
    purpose: Purpose | None
    came: bytes


class _Mark(NamedTuple):
    at: int
    """How much had come."""
    sent: bytes
    purpose: Purpose


class Tape:
    """Keeps what it hears; `then` hears it too."""

    def __init__(
        self,
        file: IO[bytes],
        *,
        head_bytes: int = HEAD_BYTES,
        tail_bytes: int = TAIL_BYTES,
        then: Hear = nobody,
    ) -> None:
        """Keep it in `file`, which is empty, and grows no larger than head and tail."""
        self._file = file
        self._head = head_bytes
        self._tail = tail_bytes
        self._then = then
        self._size = 0
        self._marks: list[_Mark] = []

    def hear(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case Came(data=data):
                self._keep(data)
            case Sent(data=data, purpose=purpose):
                self._marks.append(_Mark(self._size, data, purpose))
                if len(self._marks) > _MOST_SENT:
                    del self._marks[_MOST_SENT // 4 : _MOST_SENT // 2]
            case _:
                pass
        self._then(event)

    def _keep(self, data: bytes) -> None:
        """Write the first of it once, and the last of it round and round."""
        rest = memoryview(data)
        while rest:
            if self._size < self._head:
                place, room = self._size, self._head - self._size
            else:
                turn = (self._size - self._head) % self._tail
                place, room = self._head + turn, self._tail - turn
            self._file.seek(place)
            self._file.write(rest[:room])
            self._size += len(rest[:room])
            rest = rest[room:]

    def said(self) -> list[Said]:
        """Everything that is kept, in order; where some is left out, a line says so."""
        self._file.seek(0)
        head = self._file.read(min(self._size, self._head))
        tail = self._read_tail()
        left_out = b""
        if len(head) + len(tail) < self._size:
            head = head[: head.rfind(b"\n") + 1]
            tail = tail[tail.find(b"\n") + 1 :]
            if body := _KEY_BODY.match(tail):
                tail = tail[body.end() :]
            left_out = b"[%d bytes left out]\r\n" % (self._size - len(head) - len(tail))
        came = head + left_out + tail
        shift = self._size - len(came)
        marks = [m for m in self._marks if not len(head) < m.at < self._size - len(tail)]
        places = [m.at if m.at <= len(head) else m.at - shift for m in marks]
        ends = [*places, len(came)]
        found = [Said(None, None, came[: ends[0]])]
        for mark, begin, end in zip(marks, ends, ends[1:], strict=False):
            found.append(Said(mark.sent, mark.purpose, came[begin:end]))
        return found

    def _read_tail(self) -> bytes:
        """The last of it, in order."""
        size = max(0, self._size - self._head)
        self._file.seek(self._head)
        held = self._file.read(min(size, self._tail))
        turn = size % self._tail if size > self._tail else 0
        return held[turn:] + held[:turn]
