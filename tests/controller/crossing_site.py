"""Several controllers on one PostgreSQL ledger, each over real HTTP, and workers at any of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings, Listen, RemoteSettings, Tls
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.testing.postgresql_server import PASSWORD
from tests.controller.fleet_site import SETTINGS, FleetSite
from tests.controller.serving import configuration, served


@contextlib.asynccontextmanager
async def controller(url: str, data: Path, tls: Tls | None = None) -> AsyncIterator[FleetSite]:
    """One more controller on that ledger."""
    ledger = PostgresqlLedger(url, PASSWORD, folder=data, clock=SystemClock())
    # Named, and never used: nothing is taken in, and the archive is in memory.
    archive = ArchiveSettings(remotes={"shared": RemoteSettings(url="/shared.git")})
    settings = msgspec.structs.replace(SETTINGS, archive=archive, listen=Listen(tls=tls))
    empty = configuration([], settings)
    async with served(empty, data, ledger=ledger, clock=ledger.clock) as it:
        yield FleetSite(it)


@contextlib.asynccontextmanager
async def controllers(url: str, folder: Path, count: int) -> AsyncIterator[list[FleetSite]]:
    """So many controllers on that ledger."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(controller(url, folder / f"controller-{number}"))
            for number in range(count)
        ]


async def knows_workers(*sites: FleetSite) -> None:
    """Have the controllers learn who was enrolled elsewhere."""
    for site in sites:
        await site.controller.access.refresh_workers(site.controller.ledger)


class Pooler:
    """A proxy before PostgreSQL that swallows notifications, as a pool of transactions does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.swallowed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        forth = asyncio.create_task(_copy(reader, up_writer))
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = await up_reader.readexactly(5)
                    body = await up_reader.readexactly(int.from_bytes(head[1:]) - 4)
                    if head[:1] == b"A":
                        self.swallowed += 1
                        continue
                    writer.write(head + body)
                    await writer.drain()
        finally:
            forth.cancel()
            for each in (writer, up_writer):
                each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def pooler(url: str) -> AsyncIterator[tuple[Pooler, str]]:
    """Such a proxy before the server of a URL, and the URL that leads through it."""
    before, _, rest = url.rpartition(":")
    port, _, database = rest.partition("/")
    proxy = Pooler(int(port))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    through = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy, f"{before}:{through}/{database}?sslmode=disable"
