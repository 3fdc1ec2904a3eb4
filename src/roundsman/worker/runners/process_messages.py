"""What a worker and its keeper tell each other, through a socket in the worker's state folder."""

import asyncio
import contextlib
import struct
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec

from roundsman.secret import Secret
from roundsman.wire.control import Bound, ProcessChanged, StartProcess, StopFinished
from roundsman.worker.policy import Policy

_LENGTH: Final = struct.Struct("<I")
_MAX_BYTES: Final = 8 << 20  # a start is at most one message of the control channel
_READ_BYTES: Final = 1 << 16

Message = TypeVar("Message")


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages."""


class Configure(_Message, frozen=True, kw_only=True):
    """The worker's first message, and a later one; the keeper answers with `State`."""

    policy: Policy
    tags: tuple[str, ...] = ()
    replaced: bool = False
    """Whether what is to be started is asked of another keeper from now on."""


class Mask(_Message, frozen=True, kw_only=True):
    """Texts that must not be seen in any output from now on."""

    secrets: tuple[Secret, ...]


class Start(_Message, frozen=True, kw_only=True):
    """Start it; answered by `Changed`."""

    asked: StartProcess


class Stop(_Message, frozen=True, kw_only=True):
    """End it with all that it started; answered by `Stopped`."""

    process_id: str
    grace_seconds: float | None = None


class Acknowledge(_Message, frozen=True, kw_only=True):
    """The controller keeps how it ended."""

    process_id: str


class Watch(_Message, frozen=True, kw_only=True):
    """Say once when its output is longer than this; answered by `Grew`, or by its end."""

    process_id: str
    size: int


ToKeeper = Configure | Mask | Start | Stop | Acknowledge | Watch


class State(_Message, frozen=True, kw_only=True):
    """All that the keeper knows."""

    version: str
    bounds: tuple[Bound, ...]
    open: tuple[ProcessChanged, ...]
    """Running, or ended and not acknowledged."""


class Changed(_Message, frozen=True, kw_only=True):
    """A process reached a new state."""

    change: ProcessChanged


class Stopped(_Message, frozen=True, kw_only=True):
    """A stop came to its end."""

    answer: StopFinished


class Grew(_Message, frozen=True, kw_only=True):
    """There is more output than when it was asked for."""

    process_id: str


ToRunner = State | Changed | Stopped | Grew


def _encode_other(value: Any) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value)


def _decode_other(wanted: Any, value: Any) -> Any:
    return wanted(value)  # a path or a secret, from its text


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)
to_keeper: "msgspec.msgpack.Decoder[ToKeeper]" = msgspec.msgpack.Decoder(
    ToKeeper,
    dec_hook=_decode_other,
)
to_runner: "msgspec.msgpack.Decoder[ToRunner]" = msgspec.msgpack.Decoder(ToRunner)


def send(writer: asyncio.StreamWriter, message: ToKeeper | ToRunner) -> None:
    """Queue a message; towards one who has gone it is lost."""
    body = _encoder.encode(message)
    with contextlib.suppress(ConnectionError):
        writer.write(_LENGTH.pack(len(body)) + body)


class Incoming(Generic[Message]):
    """The messages that come over a connection; what has come together is read at once."""

    def __init__(
        self, reader: asyncio.StreamReader, decoder: "msgspec.msgpack.Decoder[Message]"
    ) -> None:
        """Nothing is read yet."""
        self._reader = reader
        self._decoder = decoder
        self._unread = bytearray()

    async def next(self) -> Message | None:
        """The next message; none when the other side has gone."""
        while (body := self._whole()) is None:
            if self._length() > _MAX_BYTES:
                return None
            try:
                data = await self._reader.read(_READ_BYTES)
            except ConnectionError:
                return None
            if not data:
                return None
            self._unread += data
        return self._decoder.decode(body)

    def _length(self) -> int:
        """Of the next message; 0 while that is not known."""
        if len(self._unread) < _LENGTH.size:
            return 0
        (length,) = _LENGTH.unpack_from(self._unread)
        return int(length)

    def _whole(self) -> bytes | None:
        """The next message, taken out, if all of it is there."""
        end = _LENGTH.size + self._length()
        if end == _LENGTH.size or len(self._unread) < end:
            return None
        body = bytes(self._unread[_LENGTH.size : end])
        del self._unread[:end]
        return body


def socket_address(folder: int, name: str) -> str:
    """How a socket of an open folder is named, whatever the length of its path."""
    return str(Path("/proc/self/fd") / str(folder) / name)
