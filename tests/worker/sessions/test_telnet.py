"""Telnet: over real TCP, with its negotiation, its escapes and a login in the terminal."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import HOST
from roundsman.wire.device import Credentials, Device, Protocol, ProtocolType, Telnet
from roundsman.wire.job import File
from roundsman.wire.platform import Enable, Platform
from roundsman.wire.run import FailureClass
from tests.worker.sessions.conftest import Bench, commands, fetch

IAC, DO, WILL, SB, SE = b"\xff", b"\xfd", b"\xfb", b"\xfa", b"\xf0"
ECHO, TERMINAL_TYPE, WINDOW_SIZE = b"\x01", b"\x18", b"\x1f"
NEGOTIATION = (
    IAC + WILL + ECHO + IAC + DO + TERMINAL_TYPE + IAC + DO + WINDOW_SIZE
    + IAC + SB + TERMINAL_TYPE + b"\x01" + IAC + SE
)  # fmt: skip
CONFIG = "hostname r1\nbanner r1#\nr1>\nname caf\xe9 \xff\nend\n"


class Router:
    """A device behind Telnet."""

    def __init__(
        self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], pieces: int
    ) -> None:
        self._reader, self._writer = streams
        self._pieces = pieces

    async def serve(self) -> None:
        self._writer.write(NEGOTIATION)
        await self._say("\n# keep out #\n\nUsername: ")
        user = await self._line()
        await self._say(f"{user}\nPassword: ")
        if await self._line() != "letmein":
            await self._say("\n% Login invalid\n\nUsername: ")
            await self._line()
            return
        prompt = "r1>"
        await self._say(f"\n{prompt}")
        while (line := await self._line()) != "exit":
            await self._say(f"{line}\n")
            if line == "enable":
                await self._say("Password: ")
                prompt = "r1#" if await self._line() == "s3cret" else prompt
                await self._say("\n")
            elif line == "show run":
                await self._say(CONFIG)
            await self._say(prompt)

    async def _say(self, text: str) -> None:
        data = text.encode("latin-1").replace(b"\n", b"\r\n").replace(IAC, IAC + IAC)
        for start in range(0, len(data), self._pieces):
            self._writer.write(data[start : start + self._pieces])
            await self._writer.drain()
            await asyncio.sleep(0)

    async def _line(self) -> str:
        """A line that was sent, without negotiation; each must end as Telnet wants it."""
        line = bytearray()
        while not line.endswith(b"\r\n"):
            byte = await self._reader.readexactly(1)
            if byte == IAC:
                verb = await self._reader.readexactly(1)
                if verb == SB:
                    await self._reader.readuntil(IAC + SE)
                else:
                    await self._reader.readexactly(1)
            else:
                line += byte
        return line[:-2].decode()


@asynccontextmanager
async def router(
    pieces: int = 1 << 16, password: str = "letmein", platform: Platform | None = None
) -> AsyncIterator[Device]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Router((reader, writer), pieces).serve()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with listening(serve) as port:
        yield Device(
            name="r1",
            host=HOST,
            protocol=Protocol(type=ProtocolType.TELNET, telnet=Telnet(port=port)),
            credentials=Credentials(
                user="admin", password=Secret(password), enable=Secret("s3cret")
            ),
            platform=platform,
        )


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


IOS = Platform(
    name="ios", prompts=(r"[\w-]+(?:\(\S+\))?[>#]",), enable=Enable(prompt=r"[\w-]+(?:\(\S+\))?#")
)


@pytest.mark.parametrize("pieces", [1, 7, 1 << 16])
async def test_a_device_is_read_exactly_over_telnet(bench: Bench, pieces: int) -> None:
    """Fault 14, over the other transport."""
    async with router(pieces, platform=IOS) as device:
        result = await bench.run(device, commands("show run", ends_with="#"))
    assert result == CONFIG.encode("latin-1")


async def test_no_platform_is_needed(bench: Bench) -> None:
    async with router() as device:
        result = await bench.run(device, commands("show run", ends_with=">"))
    assert result == CONFIG.encode("latin-1")


async def test_a_wrong_password_is_said(bench: Bench) -> None:
    async with router(password="wrong") as device:
        failure, text = await bench.fail(device, commands("show run"))
    assert failure is FailureClass.AUTHENTICATION
    assert "'admin'" in text
    assert b"wrong" not in bench.evidence


async def test_files_do_not_come_over_telnet(bench: Bench) -> None:
    async with router() as device:
        failure, text = await bench.fail(device, fetch(File(name="/etc/config")))
    assert failure is FailureClass.FILE
    assert "Telnet" in text


async def test_a_port_where_nobody_listens_refuses(bench: Bench) -> None:
    async with router() as device:
        pass
    failure, _ = await bench.fail(device, commands("show run"))
    assert failure is FailureClass.REFUSED


async def test_a_device_that_hangs_up_during_the_login_is_a_failure(bench: Bench) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"login: ")
        await writer.drain()
        writer.close()

    async with listening(serve) as port:
        protocol = Protocol(type=ProtocolType.TELNET, telnet=Telnet(port=port))
        failure, _ = await bench.fail(
            Device(name="r1", host=HOST, protocol=protocol), commands("show run")
        )
    assert failure is FailureClass.CLOSED_EARLY


async def test_in_binary_enter_is_one_character(bench: Bench) -> None:
    """Debian's telnetd asks for binary: with two characters each Enter would be two lines."""
    typed = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(IAC + DO + b"\0" + b"r1#")
        while not typed.endswith(b"exit\r"):
            byte = await reader.readexactly(1)
            if byte == IAC:
                await reader.readexactly(2)
                continue
            typed.extend(byte)
            output = b"one\r\n" if typed.endswith(b"show\r") else b""
            writer.write(b"\r\n" + output + b"r1#" if byte in b"\r\n\0" else byte)
        writer.close()

    async with listening(serve) as port:
        protocol = Protocol(type=ProtocolType.TELNET, telnet=Telnet(port=port))
        device = Device(name="r1", host=HOST, protocol=protocol)
        assert await bench.run(device, commands("show")) == b"one\n"
    assert set(b"\n\0").isdisjoint(typed)
