"""Files over TFTP, from a server that can be told to misbehave."""

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from roundsman.simulator.device import HOST
from roundsman.wire.device import Tftp
from roundsman.wire.job import Transfer
from roundsman.wire.run import FailureClass
from roundsman.worker.sessions.files import tftp
from tests.worker.sessions.files.bench import FileBench

READ, DATA, ACK, ERROR, OPTIONS = 1, 3, 4, 5, 6
Address = tuple[str, int]


@dataclass
class Server(asyncio.DatagramProtocol):
    """RFC 1350 and what may be wrong with it."""

    content: bytes
    options: bool = True
    block: int = 1428
    announced: int | None = None
    last: int = 65535
    first_after_the_last: int = 0
    lose: float = 0
    twice: bool = False
    by_strangers: bool = False
    silent_after: int | None = None
    refuses: int | None = None
    refuses_options: int | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    errors: list[int] = field(default_factory=list)
    asked: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.own: set[asyncio.BaseTransport] = set()
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if data[1] != READ:  # we speak from the server's port: not of this transfer, we are told
            assert data[:4] == struct.pack("!HH", ERROR, 5)
            return
        self.asked += 1
        if self.chance.random() >= self.lose:
            self.tasks.append(asyncio.create_task(self._converse(data, addr)))

    async def _converse(self, data: bytes, addr: Address) -> None:
        """Each request has a port of its own."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Conversation(self, data, addr), local_addr=(HOST, 0)
        )
        self.own.add(transport)

    def close(self) -> None:
        for transport in self.own:
            transport.close()


class Conversation(asyncio.DatagramProtocol):
    def __init__(self, server: Server, request: bytes, client: Address) -> None:
        self.server, self.client = server, client
        self.name, mode, *self.asked = request[2:].split(b"\0")
        assert mode == b"octet"
        self.options = bool(server.options and len(self.asked) > 1)
        self.block = server.block if self.options else 512
        self.sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)
        if self.server.refuses is not None:
            self.send(struct.pack("!HH", ERROR, self.server.refuses) + b"no\0")
        elif self.server.refuses_options is not None and len(self.asked) > 1:
            self.send(struct.pack("!HH", ERROR, self.server.refuses_options) + b"what\0")
        elif self.options:
            length = self.server.announced
            length = len(self.server.content) if length is None else length
            texts = (b"blksize", b"%d" % self.block, b"TSIZE", b"%d" % length)
            self.send(struct.pack("!H", OPTIONS) + b"\0".join(texts) + b"\0")
        else:
            self.send_block()

    def number(self, block: int) -> int:
        if block <= self.server.last:
            return block
        span = self.server.last + 1 - self.server.first_after_the_last
        return (block - self.server.last - 1) % span + self.server.first_after_the_last

    def send_block(self) -> None:
        self.sent += 1
        if self.server.silent_after is not None and self.sent > self.server.silent_after:
            return
        self.repeat()

    def repeat(self) -> None:
        start = (self.sent - 1) * self.block
        content = self.server.content[start : start + self.block]
        self.send(struct.pack("!HH", DATA, self.number(self.sent)) + content)

    def send(self, data: bytes) -> None:
        for _ in range(2 if self.server.twice else 1):
            if self.server.chance.random() >= self.server.lose:
                self.transport.sendto(data, self.client)
        if self.server.by_strangers:
            forged = struct.pack("!HH", DATA, self.number(self.sent) or 1) + b"forged"
            self.server.transport.sendto(forged, self.client)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        kind, number = struct.unpack("!HH", data[:4])
        if kind == ERROR:
            self.server.errors.append(number)
        elif kind == ACK and number == (self.number(self.sent) if self.sent else 0):
            if self.sent * self.block <= len(self.server.content) or not self.sent:
                self.send_block()
        elif kind == ACK and self.sent and self.server.lose:
            self.repeat()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Tftp]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: server, local_addr=(HOST, 0)
    )
    try:
        yield Tftp(port=transport.get_extra_info("sockname")[1])
    finally:
        server.close()
        transport.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resend soon: nothing gets lost on the way to oneself but what the server loses."""
    monkeypatch.setattr(tftp, "_RESEND_SECONDS", 0.05)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 1428, 2856, 100_000])
@pytest.mark.parametrize("options", [True, False])
async def test_a_file_is_fetched(
    site: FileBench, rng: random.Random, size: int, options: bool
) -> None:
    content = rng.randbytes(size) + (b"" if size else b"\n")
    async with serving(Server(content, options=options)) as port:
        assert await site.run(Transfer.TFTP, "startup-config", tftp=port) == content


@pytest.mark.parametrize("first_after_the_last", [0, 1])
async def test_more_blocks_than_numbers(
    site: FileBench, monkeypatch: pytest.MonkeyPatch, first_after_the_last: int
) -> None:
    """After 65535 comes 0 or 1; here after 255, since 65,536 answers take their time."""
    monkeypatch.setattr(tftp, "_LAST_NUMBER", 255)
    content = bytes(range(250)) * 22
    server = Server(content, block=8, last=255, first_after_the_last=first_after_the_last)
    async with serving(server) as port:
        assert await site.run(Transfer.TFTP, "x", tftp=port) == content


async def test_packets_that_are_lost_or_come_twice(site: FileBench, rng: random.Random) -> None:
    content = rng.randbytes(30_000)
    async with serving(Server(content, lose=0.2, twice=True, chance=rng)) as port:
        assert await site.run(Transfer.TFTP, "x", tftp=port) == content


async def test_packets_from_strangers(site: FileBench) -> None:
    content = bytes(5000)
    async with serving(Server(content, by_strangers=True)) as port:
        assert await site.run(Transfer.TFTP, "x", tftp=port) == content


@pytest.mark.parametrize("code", [0, 4, 8])
async def test_a_server_that_knows_no_options_and_says_so(site: FileBench, code: int) -> None:
    async with serving(Server(b"hostname r1\n", options=False, refuses_options=code)) as port:
        assert await site.run(Transfer.TFTP, "x", tftp=port) == b"hostname r1\n"


@pytest.mark.parametrize(
    ("server", "failure", "text"),
    [
        (Server(b"", refuses=1), FailureClass.FILE, "there is no file 'x'"),
        (Server(b"", refuses=2), FailureClass.FILE, "may not be read"),
        (Server(b"", refuses=3), FailureClass.FILE, "answered error 3, 'no'"),
        (Server(bytes(9999), silent_after=3), FailureClass.CLOSED_EARLY, "fell silent within 'x'"),
        (Server(bytes(100), announced=101), FailureClass.CLOSED_EARLY, "announced 101 bytes"),
        (Server(bytes(100), block=4), FailureClass.FILE, "offers blocks of b'4' bytes"),
    ],
    ids=["not there", "no access", "other", "silent", "short", "tiny blocks"],
)
async def test_what_goes_wrong(
    site: FileBench, server: Server, failure: FailureClass, text: str
) -> None:
    async with serving(server) as port:
        found = await site.fail(Transfer.TFTP, "x", tftp=port)
    assert found[0] is failure
    assert text in found[1]


async def test_too_much_and_the_server_is_told(site: FileBench) -> None:
    server = Server(bytes(2_000_000))
    async with serving(server) as port:
        failure, _ = await site.fail(Transfer.TFTP, "x", tftp=port, max_bytes=1000)
        assert failure is FailureClass.TOO_LARGE


async def test_nobody_answers(site: FileBench) -> None:
    site.limits = type(site.limits)(connect=0.3)
    server = Server(b"", lose=1)
    async with serving(server) as port:
        failure, text = await site.fail(Transfer.TFTP, "x", tftp=port)
    assert failure is FailureClass.UNREACHABLE
    assert "(UDP) did not answer within 0.3 s" in text
    assert server.asked > 2
