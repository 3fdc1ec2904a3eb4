"""Files over TFTP (RFC 1350), with the options blksize and tsize (RFC 2347 to 2349).

No library earned its place: those that are kept block a thread for each transfer, and none holds
the length that came against the one that was announced. Nothing is encrypted, nobody logs in.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Any, Final, NamedTuple

from roundsman.wire.device import Device
from roundsman.worker.deadline import LeaseDeadline
from roundsman.worker.sessions.errors import ClosedEarlyError, FileError, UnreachableError
from roundsman.worker.sessions.files.connecting import explain
from roundsman.worker.sessions.files.interface import Write, check_length

_BLOCK: Final = 1428
"""Asked for: what fits into one packet of Ethernet, with room for tunnels. No fragments."""

_BLOCK_BY_DEFAULT: Final = 512

_RESEND_SECONDS: Final = 1.0
"""Without an answer so long, ours was lost, or theirs: it is sent again."""

_RESENDS: Final = 8

_WAITING: Final = 64
"""Packets kept until they are looked at: one is in flight, the rest is noise."""

_LAST_NUMBER: Final = 65535


class _Kind(IntEnum):
    READ = 1
    DATA = 3
    ACK = 4
    ERROR = 5
    OPTIONS = 6


_NOT_FOUND: Final = 1
_NO_ACCESS: Final = 2
_UNKNOWN_PORT: Final = 5
_WITHOUT_OPTIONS: Final = frozenset({0, 4, 8})
"""Errors by which old servers answer options, which they should have passed over."""


class TftpFiles:
    """`Files` over TFTP: each is a conversation of its own."""

    def __init__(self, device: Device, deadline: LeaseDeadline, connect_seconds: float) -> None:
        self._deadline = deadline
        self._host = device.host
        self._port = device.protocol.tftp.port
        self._local_address = device.protocol.local_address
        self._connect_seconds = connect_seconds

    async def fetch(self, name: str, write: Write) -> None:
        """See `Files`. The end is the first block that is not full, and the announced length."""
        try:
            name.encode("ascii")
        except UnicodeEncodeError:
            raise FileError(f"the file {name!r} cannot be asked for: expected ASCII") from None
        for options in (True, False):
            async with self._conversation(name) as conversation:
                if await conversation.read(write, options=options):
                    return

    @asynccontextmanager
    async def _conversation(self, name: str) -> AsyncIterator["_Conversation"]:
        where = f"{self._host} port {self._port} (UDP)"
        loop = asyncio.get_running_loop()
        try:
            (family, _, _, _, address), *_ = await loop.getaddrinfo(
                self._host, self._port, type=socket.SOCK_DGRAM
            )
            anywhere = "::" if family is socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - as a client
            transport, protocol = await loop.create_datagram_endpoint(
                _Received, local_addr=(self._local_address or anywhere, 0)
            )
        except OSError as error:
            raise explain(error, where, self._connect_seconds) from None
        try:
            yield _Conversation(
                transport,
                protocol,
                address,
                name,
                deadline=self._deadline,
                connect_seconds=self._connect_seconds,
            )
        finally:
            transport.close()


class _Packet(NamedTuple):
    kind: int
    number: int
    """Of a block, or of an error."""
    content: bytes
    source: tuple[str, int]


class _Received(asyncio.DatagramProtocol):
    """Packets that came, a few at most."""

    def __init__(self) -> None:
        self.packets: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue(_WAITING)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Keep it, if there is room."""
        if not self.packets.full():
            self.packets.put_nowait((data, addr[:2]))


class _Conversation:
    """One transfer: what was sent last, and what is expected next."""

    def __init__(
        self,
        transport: asyncio.DatagramTransport,
        received: _Received,
        server: tuple[Any, ...],
        name: str,
        *,
        deadline: LeaseDeadline,
        connect_seconds: float,
    ) -> None:
        self._deadline = deadline
        self._transport = transport
        self._received = received
        self._server = server
        """Its own port from the first answer on."""
        self._address = server[0]
        self._answered = False
        self._name = name
        self._connect_seconds = connect_seconds
        self._last = b""
        self._block = _BLOCK_BY_DEFAULT
        self._announced: int | None = None

    async def read(self, write: Write, *, options: bool) -> bool:
        """Read the file; false when the server understands no options."""
        asked = [self._name.encode(), b"octet"]
        if options:
            asked += [b"blksize", str(_BLOCK).encode(), b"tsize", b"0"]
        self._send(struct.pack("!H", _Kind.READ) + b"\0".join(asked) + b"\0")
        packet = await self._next(_Kind.DATA, _Kind.OPTIONS, _Kind.ERROR)
        if packet.kind == _Kind.ERROR and options and packet.number in _WITHOUT_OPTIONS:
            return False
        try:
            if packet.kind == _Kind.OPTIONS:
                self._agree(packet.content)
                self._acknowledge(0)
                packet = await self._next(_Kind.DATA, _Kind.ERROR)
            await self._receive(packet, write)
        except BaseException:
            if not self._deadline.is_over:
                given_up = struct.pack("!HH", _Kind.ERROR, 0) + b"given up\0"
                self._transport.sendto(given_up, self._server)
            raise
        return True

    async def _receive(self, packet: _Packet, write: Write) -> None:
        expected, came = 1, 0
        while True:
            self._raise_if_error(packet)
            # After 65535 most servers count from 0 again, some from 1: both are told by what comes.
            if packet.number == expected or (expected == 0 and packet.number == 1):
                if len(packet.content) > self._block:
                    raise FileError(
                        f"the file {self._name!r} came in blocks of more than {self._block} bytes"
                    )
                came += len(packet.content)
                write(packet.content)
                self._acknowledge(packet.number)
                if len(packet.content) < self._block:
                    break
                expected = (packet.number + 1) % (_LAST_NUMBER + 1)
            elif packet.number == (expected - 1) % (_LAST_NUMBER + 1):
                self._send(self._last)  # they have not heard it
            packet = await self._next(_Kind.DATA, _Kind.ERROR)
        check_length(self._name, came, self._announced)

    def _agree(self, content: bytes) -> None:
        """Take over what the server makes of the options."""
        texts = content.split(b"\0")
        options = {key.lower(): value for key, value in zip(texts[::2], texts[1::2], strict=False)}
        block = options.get(b"blksize", str(_BLOCK_BY_DEFAULT).encode())
        if not block.isdigit() or not 8 <= int(block) <= _BLOCK:
            raise FileError(f"the device offers blocks of {block[:20]!r} bytes, {_BLOCK} at most")
        self._block = int(block)
        length = options.get(b"tsize", b"")
        self._announced = int(length) if length.isdigit() else None

    def _raise_if_error(self, packet: _Packet) -> None:
        if packet.kind != _Kind.ERROR:
            return
        if packet.number == _NOT_FOUND:
            raise FileError(f"there is no file {self._name!r} on the device")
        if packet.number == _NO_ACCESS:
            raise FileError(f"the file {self._name!r} may not be read")
        said = packet.content.split(b"\0")[0][:200].decode("utf-8", "replace")
        raise FileError(
            f"the file {self._name!r} cannot be read: the device answered error {packet.number}, "
            f"{said!r}"
        )

    def _acknowledge(self, number: int) -> None:
        self._send(struct.pack("!HH", _Kind.ACK, number))

    def _send(self, data: bytes) -> None:
        self._last = data
        self._deadline.check()
        self._transport.sendto(data, self._server)

    async def _next(self, *kinds: _Kind) -> _Packet:
        """The next packet of these kinds, asking again for it as often as it makes sense."""
        if not self._answered:
            try:
                async with asyncio.timeout(self._connect_seconds):
                    while True:
                        if packet := await self._within_a_moment(kinds):
                            return packet
                        self._send(self._last)
            except TimeoutError:
                raise UnreachableError(
                    f"{self._address} port {self._server[1]} (UDP) did not answer within "
                    f"{self._connect_seconds:g} s"
                ) from None
        for _ in range(_RESENDS):
            if packet := await self._within_a_moment(kinds):
                return packet
            self._send(self._last)
        raise ClosedEarlyError(
            f"the device fell silent within {self._name!r}: nothing came for "
            f"{_RESENDS * _RESEND_SECONDS:g} s"
        )

    async def _within_a_moment(self, kinds: tuple[_Kind, ...]) -> _Packet | None:
        try:
            async with asyncio.timeout(_RESEND_SECONDS):
                while True:
                    data, source = await self._received.packets.get()
                    packet = self._ours(data, source)
                    if packet is not None and packet.kind in kinds:
                        return packet
        except TimeoutError:
            return None

    def _ours(self, data: bytes, source: tuple[str, int]) -> _Packet | None:
        """The packet, if it belongs here: the first answer says which port the server took."""
        if source[0] != self._address or len(data) < 4:
            return None
        if self._answered and source != self._server[:2]:
            self._deadline.check()
            error = struct.pack("!HH", _Kind.ERROR, _UNKNOWN_PORT) + b"unknown transfer\0"
            self._transport.sendto(error, source)
            return None
        self._answered, self._server = True, source
        kind, number = struct.unpack("!HH", data[:4])
        if kind == _Kind.OPTIONS:  # it has no number
            return _Packet(kind, 0, data[2:], source)
        return _Packet(kind, number, data[4:], source)
