"""Files over SCP: the program `scp` run as `scp -f` on the device's side, for want of SFTP.

asyncssh's own SCP client writes to files that it opens itself; this one streams, within the job's
limits. Each file has a connection of its own, as with the program: many devices end the connection
when their `scp` has ended.
"""

import shlex
from typing import Final

from roundsman.wire.device import Device
from roundsman.worker.sessions.access import Access
from roundsman.worker.sessions.errors import ClosedEarlyError, FileError
from roundsman.worker.sessions.files.interface import Write
from roundsman.worker.sessions.ssh_channel import SshChannel

_LONGEST_LINE: Final = 4096  # a mode, a length and a name

_GO_ON: Final = b"\0"
_COMPLAINTS: Final = (b"\x01", b"\x02")


class ScpFiles:
    """`Files` over SCP."""

    def __init__(self, device: Device, access: Access) -> None:
        self._device = device
        self._access = access

    async def fetch(self, name: str, write: Write) -> None:
        """See `Files`. The end is proven by the announced length and the device's word after it."""
        async with self._access.ssh(self._device) as connection:
            # Quoted only where a shell would read something else: many devices have none.
            channel = await connection.open_command(f"scp -f {shlex.quote(name)}")
            await _Receiver(channel, name).receive(write)


class _Receiver:
    """Our side of one transfer."""

    def __init__(self, channel: SshChannel, name: str) -> None:
        self._channel = channel
        self._name = name
        self._received = bytearray()

    async def receive(self, write: Write) -> None:
        """Read the one file."""
        self._channel.write(_GO_ON)
        left = await self._announced_length()
        self._channel.write(_GO_ON)
        while left:
            block = await self._some(left)
            left -= len(block)
            write(block)
        status = await self._some(1)
        if status != _GO_ON:
            complaint = await self._line() if status in _COMPLAINTS else b""
            raise FileError(
                f"the file {self._name!r} could not be read to its end: {_quoted(complaint)}"
            )
        self._channel.write(_GO_ON)

    async def _announced_length(self) -> int:
        line = await self._line()
        while line.startswith(b"T"):  # its times, which we did not ask for
            self._channel.write(_GO_ON)
            line = await self._line()
        if line[:1] in _COMPLAINTS:
            raise FileError(f"the file {self._name!r} cannot be read: {_quoted(line[1:])}")
        fields = line.split(b" ", 2)
        if not line.startswith(b"C") or len(fields) != 3 or not fields[1].isdigit():
            raise FileError(
                f"the device does not speak SCP: expected a file's length, got {_quoted(line)}",
                remedy="set transfer to one that the device offers, such as sftp",
            )
        return int(fields[1])

    async def _line(self) -> bytes:
        while (end := self._received.find(b"\n")) < 0 and len(self._received) < _LONGEST_LINE:
            if not await self._more():
                if not self._received:
                    raise self._closed()
                end = len(self._received)
                break
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    async def _some(self, most: int) -> bytes:
        """At least one byte, at most so many."""
        if not self._received and not await self._more():
            raise self._closed()
        block = bytes(self._received[:most])
        del self._received[:most]
        return block

    async def _more(self) -> bool:
        data = await self._channel.read()
        self._received += data
        return bool(data)

    def _closed(self) -> ClosedEarlyError:
        return ClosedEarlyError(f"the device closed the connection within {self._name!r}")


def _quoted(complaint: bytes) -> str:
    """What the device said of it: bounded, printable."""
    return repr(complaint[:200].decode("utf-8", "replace").strip())
