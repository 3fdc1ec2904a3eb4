"""A network of which tests say when it is slow, cut, or holds back what was sent."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Self

HOST = "127.0.0.1"
_BLOCK = 1 << 16


class Link:
    """One connection through a proxy."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self._open = asyncio.Event()
        self._open.set()
        self.sent = 0
        """Bytes that came from who connected."""
        self.closed = asyncio.Event()
        """Set once it is gone at either end, or was cut."""

    def hold(self) -> None:
        """Bring nothing more to who connected, for now."""
        self._open.clear()

    def release(self) -> None:
        """Bring what was held, and all that follows."""
        self._open.set()

    def cut(self) -> None:
        """Drop it, at both ends."""
        self.closed.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect onwards, and carry both ways until it is closed."""
        onwards: asyncio.StreamWriter | None = None
        try:
            answers, onwards = await asyncio.open_connection(HOST, self._proxy.target())
            ways = [
                asyncio.create_task(self._carry(reader, onwards, self._count)),
                asyncio.create_task(self._carry(answers, writer, self._when_open)),
            ]
            await self.closed.wait()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # nobody there: who connected finds out
        finally:
            self.closed.set()
            for end in (writer, onwards):
                if end is not None:
                    end.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        before: Callable[[bytes], Awaitable[None]],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_BLOCK):
                await before(data)
                if self._proxy.delay:
                    await asyncio.sleep(self._proxy.delay)
                writer.write(data)
                await writer.drain()
        self.closed.set()

    async def _count(self, data: bytes) -> None:
        self.sent += len(data)

    async def _when_open(self, _: bytes) -> None:
        await self._open.wait()


class Proxy:
    """Listens on a port of the loopback interface, and connects each who comes to another one."""

    def __init__(self, target: int | Callable[[], int]) -> None:
        """Lead to this port."""
        self.target = target if callable(target) else lambda: target
        self.port = 0
        self.links: list[Link] = []
        """All there ever were, in the order in which they came."""
        self.delay = 0.0
        """Seconds by which each piece is late, each way."""
        self.refusing = False
        """Whether who comes is turned away."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._came, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it listens, for HTTP."""
        return f"http://{HOST}:{self.port}"

    def cut(self) -> None:
        """Drop every connection."""
        for link in self.links:
            link.cut()

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        link = Link(self)
        self.links.append(link)
        await link.carry(reader, writer)
