"""The wire beneath both transports: a TCP connection that notices when its other end is gone."""

import asyncio
import socket
from ipaddress import ip_address
from typing import Any, Final

import aiohappyeyeballs

from roundsman.wire.device import Protocol
from roundsman.worker.deadline import LeaseDeadline
from roundsman.worker.sessions.errors import RefusedError, SessionError, UnreachableError
from roundsman.worker.sessions.limited import LimitedSocket

KEEPALIVE_COUNT: Final = 3
"""So many keep-alives may stay without an answer."""

_NEXT_ADDRESS_SECONDS: Final = 0.25
"""Until the next address of a name is tried beside the one before (RFC 8305)."""


async def connect(
    host: str, port: int, settings: Protocol, deadline: LeaseDeadline, *, seconds: float
) -> socket.socket:
    """Connect, within so many seconds; raises `UnreachableError` or `RefusedError`.

    Of the addresses that a name has, IPv6 and IPv4, the first to answer is taken. The socket sends
    nothing once `deadline` is over.
    """
    where = f"{host} port {port}"
    local = settings.local_address
    try:
        async with asyncio.timeout(seconds):
            connected = await aiohappyeyeballs.start_connection(
                await _addresses(host, port),
                local_addr_infos=await _addresses(local, 0) if local else None,
                happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
                socket_factory=lambda address: LimitedSocket.of(address, deadline),
            )
    except OSError as error:
        raise _explain(error, where, local, seconds) from None
    _keep_alive(connected, settings.keepalive_seconds)
    return connected


async def _addresses(host: str, port: int) -> list[Any]:
    """What `getaddrinfo` knows of a name; an address needs no thread to be looked up in."""
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if address is None or "%" in host:  # a zone has a number that only the system knows
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if address.version == 4:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]


def _keep_alive(connected: socket.socket, seconds: int) -> None:
    """Have the system ask whether the other end is there, and give up what it never received."""
    if not seconds:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    milliseconds = seconds * (KEEPALIVE_COUNT + 1) * 1000
    for name, value in (
        ("TCP_KEEPIDLE", seconds),
        ("TCP_KEEPINTVL", seconds),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", milliseconds),
    ):
        if hasattr(socket, name):  # Linux has all of them
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _explain(error: OSError, where: str, local: str | None, seconds: float) -> SessionError:
    from_ = f" from {local}" if local else ""
    match error:
        case TimeoutError():
            return UnreachableError(f"{where} did not answer within {seconds:g} s")
        case ConnectionRefusedError():
            return RefusedError(f"{where} refused the connection")
        case socket.gaierror():
            return UnreachableError(
                f"{where.split(' ', maxsplit=1)[0]} was not found: {error.strerror}"
            )
        case _:
            return UnreachableError(
                f"{where} cannot be reached{from_}: {error.strerror or error}",
                remedy="check protocol.local_address of the device: an address of the worker's "
                "machine, of the same family as the device's"
                if local
                else None,
            )
