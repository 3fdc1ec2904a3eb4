"""Once the lease may be another's, nothing more reaches a device, whichever way leads to it."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import HOST, KindDialogue, SimulatedDevice
from roundsman.simulator.kinds import IOS
from roundsman.simulator.terminal import Answer
from roundsman.testing.clock import ManualClock
from roundsman.wire.device import Credentials, Device, Ftp, Http, Protocol, ProtocolType, Telnet
from roundsman.wire.job import File, FileSet, Job, Transfer
from roundsman.worker.deadline import LeaseDeadline, LeaseExpiredError
from roundsman.worker.runners.interface import RunFailedError
from tests.proxies import Proxy
from tests.worker.sessions.conftest import Bench, commands, entry, fetch
from tests.worker.sessions.test_jump_hosts import Bastion

LEASE = 30.0


class Overslept(SimulatedDevice):
    """While its first command is under way, the worker's lease ends."""

    def __init__(self, clock: ManualClock, protocol: ProtocolType) -> None:
        super().__init__(IOS, "edge1", protocol=protocol, dialogue=lambda: _Dialogue(self))
        self.clock = clock
        self.typed: list[str] = []


class _Dialogue(KindDialogue):
    def __init__(self, device: Overslept) -> None:
        super().__init__(device)
        self._overslept = device

    def answer(self, line: str) -> Answer:
        self._overslept.typed.append(line)
        if line == "show version":
            self._overslept.clock.advance(LEASE)
        return super().answer(line)


def as_telnet(device: Device, port: int) -> Device:
    telnet = Protocol(type=ProtocolType.TELNET, telnet=Telnet(port=port))
    return msgspec.structs.replace(device, protocol=telnet)


def at(device: Device, port: int) -> Device:
    ssh = msgspec.structs.replace(device.protocol.ssh, port=port)
    return msgspec.structs.replace(
        device, protocol=msgspec.structs.replace(device.protocol, ssh=ssh)
    )


@pytest.mark.parametrize("way", ["ssh", "telnet", "jump host", "netmiko telnet"])
async def test_a_session_under_way_says_not_a_byte_more(bench: Bench, way: str) -> None:
    clock = ManualClock()
    telnet = way.endswith("telnet")
    device = Overslept(clock, ProtocolType.TELNET if telnet else ProtocolType.SSH)
    bastion = Bastion()
    async with device, Proxy(device.port) as proxy, bastion.open():
        configured = (as_telnet if telnet else at)(entry(device), proxy.port)
        if way == "jump host":
            configured = msgspec.structs.replace(configured, jump_hosts=(bastion.entry(),))
        if way.startswith("netmiko"):
            pytest.importorskip("netmiko")
            configured = msgspec.structs.replace(configured, netmiko="cisco_ios")
        said: list[int] = []
        advance = clock.advance

        def end_lease(seconds: float) -> None:
            advance(seconds)
            said.append(proxy.links[0].sent)

        clock.advance = end_lease  # type: ignore[method-assign] # to know when it was
        deadline = LeaseDeadline(clock, LEASE)
        with bench.runner() as runner:
            with pytest.raises((RunFailedError, LeaseExpiredError)):
                await bench.run(
                    configured,
                    commands("show version", "show running-config"),
                    runner=runner,
                    deadline=deadline,
                )
            await proxy.links[0].closed.wait()
        assert proxy.links[0].sent == said[0]
        assert len(proxy.links) == 1
    assert "show running-config" not in device.typed
    assert device.typed[-1] == "show version"


def _ssh(port: int) -> Device:
    return at(_device(), port)


def _http(port: int) -> Device:
    return _device(http=Http(port=port), ftp=Ftp(port=port))


def _device(**protocol: Any) -> Device:
    return Device(
        name="edge1",
        host=HOST,
        protocol=Protocol(**protocol),
        credentials=Credentials(user="u", password=Secret("p")),
    )


def files(transfer: Transfer) -> Job:
    job = fetch(File(name="config"))
    return msgspec.structs.replace(
        job, file_set=FileSet(files=(File(name="config"),), transfer=transfer)
    )


@pytest.mark.parametrize(
    ("make", "job"),
    [
        (_ssh, commands("show version")),
        (lambda port: as_telnet(_device(), port), commands("show version")),
        (_ssh, files(Transfer.SFTP)),
        (_ssh, files(Transfer.SCP)),
        (_http, files(Transfer.FTP)),
        (_http, files(Transfer.HTTP)),
    ],
    ids=["ssh", "telnet", "sftp", "scp", "ftp", "http"],
)
async def test_nothing_is_begun(bench: Bench, make: Callable[[int], Device], job: Job) -> None:
    came: asyncio.Queue[None] = asyncio.Queue()

    def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(None)
        writer.close()

    clock = ManualClock()
    deadline = LeaseDeadline(clock, 0)
    async with await asyncio.start_server(count, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((RunFailedError, LeaseExpiredError)):
            await bench.run(make(port), job, deadline=deadline)
        # One that comes now comes after whatever was sent before.
        _, writer = await asyncio.open_connection(HOST, port)
        writer.close()
        await came.get()
    assert came.empty()


async def test_tftp_sends_no_packet(bench: Bench) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((HOST, 0))
        listener.setblocking(False)
        device = _device()
        tftp = msgspec.structs.replace(device.protocol.tftp, port=listener.getsockname()[1])
        protocol = msgspec.structs.replace(device.protocol, tftp=tftp)
        device = msgspec.structs.replace(device, protocol=protocol)
        with pytest.raises((RunFailedError, LeaseExpiredError)):
            await bench.run(device, files(Transfer.TFTP), deadline=LeaseDeadline(ManualClock(), 0))
        with pytest.raises(BlockingIOError):
            listener.recv(1)
