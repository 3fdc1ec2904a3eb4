"""What runs over an SSH connection: terminals, commands, files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncssh

from roundsman.wire.device import Credentials
from roundsman.worker.sessions.channel import WINDOW_COLUMNS
from roundsman.worker.sessions.errors import ClosedEarlyError, FileError, RefusedError, quote

# Bytes that a device may send ahead of our reading. asyncssh's own default of 2 MiB would be
# 400 MB at 200 sessions.
RECEIVE_WINDOW: Final = 1 << 18

PACKET: Final = 1 << 15

# Window heights of 0 mean "no height" (RFC 4254): a pager then has nothing to page by.
_WINDOW_ROWS: Final = 0


class SshConnection:
    """A connection that is logged in."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, credentials: Credentials | None
    ) -> None:
        """Use a connection that these credentials opened; none where none were asked for."""
        self._connection = self.raw = connection
        self.credentials = credentials

    @property
    def host_key(self) -> str | None:
        """Kind and fingerprint of the device's key."""
        key = self._connection.get_server_host_key()
        return f"{key.get_algorithm()} {key.get_fingerprint()}" if key is not None else None

    async def open_terminal(self) -> "SshChannel":
        """A terminal with the device's shell.

        The terminal is `dumb`, so that line editors draw as little as they can.
        """
        return await self._open(
            request_pty="force", term_type="dumb", term_size=(WINDOW_COLUMNS, _WINDOW_ROWS)
        )

    async def open_command(self, command: str) -> "SshChannel":
        """One command, run without a shell and without a terminal."""
        return await self._open(command=command)

    async def _open(self, **session: Any) -> "SshChannel":
        channel = SshChannel()
        try:
            await self._connection.create_session(
                lambda: channel,
                encoding=None,
                window=RECEIVE_WINDOW,
                max_pktsize=PACKET,
                **session,
            )
        except asyncssh.ChannelOpenError as error:
            raise RefusedError(f"the device opened no session: {quote(error.reason)}") from None
        except (OSError, asyncssh.DisconnectError) as error:
            raise _closed(error) from None
        return channel

    @asynccontextmanager
    async def open_files(self) -> AsyncIterator[asyncssh.SFTPClient]:
        """The device's files, over SFTP."""
        try:
            client = await self._connection.start_sftp_client()
        except (asyncssh.ChannelOpenError, asyncssh.SFTPError) as error:
            raise FileError(
                f"the device offers no SFTP: {quote(error.reason)}",
                remedy="set the job's transfer to one that it offers, such as scp",
            ) from None
        except (OSError, asyncssh.DisconnectError) as error:
            raise _closed(error) from None
        try:
            yield client
        finally:
            client.exit()


class SshChannel(asyncssh.SSHClientSession[bytes]):
    """A `Channel` over SSH: what came and was not read yet waits here, bounded by the window."""

    def __init__(self) -> None:
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._received = bytearray()
        self._closed = False
        self._lost: Exception | None = None
        self._reader: asyncio.Future[None] | None = None  # waits for more to come, or the end
        self._gone = asyncio.Event()
        self.exit_status: int | None = None
        """With which status a command ended, if the device said so."""
        self.broken = False
        """Whether the stream ended otherwise than by the device's own will."""

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Remember where to write."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Keep what came; ask for no more while much is unread. Both output streams are one."""
        self._received += data
        if self._channel is not None and len(self._received) >= RECEIVE_WINDOW:
            self._channel.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The device will write no more."""
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is closed, for whichever reason."""
        self.broken |= exc is not None
        self._lost = exc
        self._gone.set()
        self._end()

    def exit_status_received(self, status: int) -> None:
        """The command ended."""
        self.exit_status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """The command was ended."""
        self.broken = True

    async def wait_closed(self) -> None:
        """Until no more can come, neither output nor a status."""
        await self._gone.wait()

    def _end(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def read(self) -> bytes:
        """Whatever has come; empty once the device has closed. For one reader at a time."""
        while not self._received:
            if self._lost is not None:
                raise _closed(self._lost)
            if self._closed:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = bytes(self._received)
        self._received.clear()
        if self._channel is not None and not self._closed:
            self._channel.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        """Send soon."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data)


def _closed(error: Exception) -> ClosedEarlyError:
    return ClosedEarlyError(f"the connection to the device was lost: {quote(str(error))}")
