"""Files over SFTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

import asyncssh

from roundsman.wire.device import Device
from roundsman.worker.sessions.access import Access
from roundsman.worker.sessions.errors import ClosedEarlyError, FileError
from roundsman.worker.sessions.files.interface import Write

_BLOCK: Final = 1 << 18


@asynccontextmanager
async def open_files(device: Device, access: Access) -> AsyncIterator["SftpFiles"]:
    """Log in and open SFTP; on leaving, log out."""
    async with (
        access.ssh(device) as connection,
        connection.open_files() as client,
    ):
        yield SftpFiles(client)


class SftpFiles:
    """`Files` over one SFTP session."""

    def __init__(self, client: asyncssh.SFTPClient) -> None:
        self._client = client

    async def fetch(self, name: str, write: Write) -> None:
        """See `Files`. The end is where the device says so, and not before the announced length."""
        came = 0
        try:
            async with self._client.open(name, "rb", encoding=None) as source:
                announced = await _length(source)
                while block := cast("bytes", await source.read(_BLOCK)):  # no encoding: bytes
                    came += len(block)
                    write(block)
        except asyncssh.SFTPNoSuchFile:
            raise FileError(f"there is no file {name!r} on the device") from None
        except asyncssh.SFTPPermissionDenied:
            raise FileError(f"the file {name!r} may not be read by this user") from None
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError):
            raise ClosedEarlyError(f"the device closed the connection within {name!r}") from None
        except asyncssh.SFTPError as error:
            raise FileError(f"the file {name!r} cannot be read: {error.reason!r}") from None
        # More than announced is a file that grew, or one that has no length, as those of /proc.
        if announced is not None and came < announced:
            raise ClosedEarlyError(
                f"the file {name!r} is not whole: the device announced {announced} bytes, and "
                f"{came} came"
            )


async def _length(source: asyncssh.SFTPClientFile) -> int | None:
    try:
        return (await source.stat()).size
    except (asyncssh.SFTPOpUnsupported, asyncssh.SFTPFailure):
        return None
