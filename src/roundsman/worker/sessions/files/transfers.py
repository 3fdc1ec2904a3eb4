"""Which protocol a job's files are fetched by."""

from contextlib import AbstractAsyncContextManager, nullcontext

from roundsman.wire.device import Device, ProtocolType
from roundsman.wire.job import Compression, File, Transfer
from roundsman.worker.sessions.access import Access
from roundsman.worker.sessions.errors import FileError
from roundsman.worker.sessions.files import ftp, http, sftp
from roundsman.worker.sessions.files.gunzip import Gunzip
from roundsman.worker.sessions.files.interface import Files, Write
from roundsman.worker.sessions.files.scp import ScpFiles
from roundsman.worker.sessions.files.tftp import TftpFiles


def open_files(
    device: Device,
    transfer: Transfer,
    access: Access,
    *,
    connect_seconds: float,
    login_seconds: float,
) -> AbstractAsyncContextManager[Files]:
    """The device's files by that transfer, and by no other: none is tried in its place.

    `connect_seconds` bounds the wait for the device's answer, `login_seconds` the login after it.
    """
    if transfer.over_ssh and device.protocol.type is ProtocolType.TELNET:
        raise FileError(
            f"the device speaks Telnet, and {transfer} needs SSH",
            remedy="set the job's transfer to one that the device offers",
        )
    if device.jump_hosts and not transfer.over_ssh:
        raise FileError(
            f"the device is behind jump hosts, through which {transfer} does not go",
            remedy="set the job's transfer to sftp or scp",
        )
    match transfer:
        case Transfer.SFTP:
            return sftp.open_files(device, access)
        case Transfer.SCP:
            return nullcontext(ScpFiles(device, access))
        case Transfer.TFTP:
            return nullcontext(TftpFiles(device, access.deadline, connect_seconds))
        case Transfer.FTP:
            return ftp.open_files(device, access.deadline, connect_seconds, login_seconds)
        case Transfer.FTPS:
            return ftp.open_files(device, access.deadline, connect_seconds, login_seconds, tls=True)
        case Transfer.HTTP:
            return http.open_files(device, access.deadline, connect_seconds)
        case Transfer.HTTPS:
            return http.open_files(device, access.deadline, connect_seconds, tls=True)


async def fetch(files: Files, file: File, write: Write) -> None:
    """Read one file to its end, unpacked. No more is unpacked than `write` takes."""
    if file.compression is not Compression.GZIP:
        await files.fetch(file.name, write)
        return
    unpacker = Gunzip(file.name)

    def unpack(block: bytes) -> None:
        for piece in unpacker.feed(block):
            write(piece)

    await files.fetch(file.name, unpack)
    unpacker.finish()
