"""What is written in one turn of the event loop goes out at once, whole and in order."""

import asyncio

import pytest

from roundsman.worker.sessions.gathering import Gathering


class Above(asyncio.Protocol):
    """What writes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Other:
    """The other end: all that came until the end of it."""

    def __init__(self) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received.set_result(await reader.read())
        writer.close()


async def connected(other: Other) -> tuple[asyncio.Server, Above]:
    server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    above = Above()
    address = server.sockets[0].getsockname()
    await asyncio.get_running_loop().create_connection(lambda: Gathering(above), *address)
    return server, above


@pytest.mark.parametrize("way", ["close", "abort", "write_eof"])
async def test_what_was_written_before_the_end_arrives(way: str) -> None:
    other = Other()
    server, above = await connected(other)
    async with server:
        for number in range(10):
            above.transport.write(b"%d," % number)
        assert above.transport.get_write_buffer_size() == 20
        getattr(above.transport, way)()
        assert await other.received == b"0,1,2,3,4,5,6,7,8,9,"
        assert await above.lost is None


async def test_large_writes_arrive_in_order() -> None:
    other = Other()
    server, above = await connected(other)
    sent = b""
    async with server:
        for number in range(50):
            sent += bytes([number]) * 100_000
            above.transport.write(bytes([number]) * 100_000)
            await asyncio.sleep(0)
        above.transport.close()
        assert await other.received == sent
        await above.lost


async def test_what_is_asked_of_the_transport_beneath_is_answered() -> None:
    other = Other()
    server, above = await connected(other)
    async with server:
        transport = above.transport
        assert transport.can_write_eof()
        assert transport.get_extra_info("peername") == server.sockets[0].getsockname()
        transport.set_write_buffer_limits(high=10)
        transport.pause_reading()
        assert not transport.is_reading()
        transport.resume_reading()
        assert transport.is_reading()
        assert not transport.is_closing()
        transport.close()
        assert transport.is_closing()
        await above.lost
