"""Files over FTP and FTPS, from pyftpdlib and from scripted servers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

from roundsman.simulator.device import HOST
from roundsman.wire.device import Ftp, Tls
from roundsman.wire.job import Transfer
from roundsman.wire.run import FailureClass
from tests.worker.sessions.files.bench import PASSWORD, USER, FileBench
from tests.worker.sessions.files.certificates import Certificate

CONTENT = b"hostname r1\n" + bytes(range(256)) * 3000


@contextmanager
def serving(folder: Path, kind: type[FTPHandler] = FTPHandler) -> Iterator[Ftp]:
    """A server of that folder, in a thread."""
    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, PASSWORD, str(folder), perm="elr")
    handler = type("Handler", (kind,), {"authorizer": authorizer, "auth_failed_timeout": 0})
    loop = IOLoop()
    server = FTPServer((HOST, 0), handler, ioloop=loop)
    ending = threading.Event()

    def serve() -> None:
        while not ending.is_set():
            loop.loop(timeout=0.01, blocking=False)
        server.close_all()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Ftp(port=server.address[1])
    finally:
        ending.set()
        thread.join()


@contextmanager
def serving_tls(folder: Path, certificate: Certificate) -> Iterator[Ftp]:
    class Encrypted(TLS_FTPHandler):  # type: ignore[misc] # the package has no types
        certfile = str(certificate.file)
        tls_control_required = True
        tls_data_required = True

    with serving(folder, Encrypted) as ftp:
        yield ftp


@asynccontextmanager
async def scripted(**answers: bytes) -> AsyncIterator[Ftp]:
    """A server that answers each command so, and lets in everybody."""
    known = {
        "USER": b"331 password?\r\n",
        "PASS": b"230 in\r\n",
        "TYPE": b"200 ok\r\n",
        "SIZE": b"502 what\r\n",
        "EPSV": b"502 what\r\n",
        "RETR": b"150 here\r\n226 done\r\n",
        **answers,
    }

    begun: list[asyncio.StreamWriter] = []

    async def data(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(writer)
        writer.write(known.get("DATA", CONTENT))
        writer.close()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(writer)
        writer.write(known.get("HELLO", b"220-old\r\n220 ready\r\n"))
        while line := await reader.readline():
            verb = line.split()[0].decode()
            if verb == "PASV":
                port = transfers.sockets[0].getsockname()[1]
                # An address that leads elsewhere: not to be followed.
                writer.write(b"227 ok (192,0,2,1,%d,%d)\r\n" % divmod(port, 256))
            elif not known[verb]:
                break
            else:
                writer.write(known[verb])
        writer.close()

    transfers = await asyncio.start_server(data, HOST, 0)
    server = await asyncio.start_server(control, HOST, 0)
    async with server, transfers:
        yield Ftp(port=server.sockets[0].getsockname()[1])
        for writer in begun:
            writer.transport.abort()


async def test_files_are_fetched(site: FileBench, tmp_path: Path) -> None:
    (tmp_path / "config.ini").write_bytes(CONTENT)
    (tmp_path / "two words").write_bytes(b"more\r\n")
    with serving(tmp_path) as ftp:
        got = await site.run(Transfer.FTP, "config.ini", "/two words", ftp=ftp)
    assert got == CONTENT + b"more\r\n"


async def test_files_are_fetched_over_tls(
    site: FileBench, tmp_path: Path, certificate: Certificate
) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    with serving_tls(tmp_path, certificate) as ftp:
        for tls in (Tls(ca=certificate.pem), Tls(fingerprints=(certificate.fingerprint,))):
            assert await site.run(Transfer.FTPS, "x", ftp=ftp, tls=tls) == CONTENT
        for tls in (Tls(), Tls(fingerprints=("0" * 64,))):
            failure, text = await site.fail(Transfer.FTPS, "x", ftp=ftp, tls=tls)
            assert failure is FailureClass.HOST_KEY
            assert "the certificate of 127.0.0.1" in text


async def test_tls_is_never_given_up(site: FileBench, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    with serving(tmp_path) as ftp:
        failure, _ = await site.fail(Transfer.FTPS, "x", ftp=ftp)
    assert failure is FailureClass.REFUSED


async def test_a_wrong_password_and_what_is_not_there(site: FileBench, tmp_path: Path) -> None:
    with serving(tmp_path) as ftp:
        failure, text = await site.fail(Transfer.FTP, "x", ftp=ftp, password="wrong")
        assert failure is FailureClass.AUTHENTICATION
        assert "did not accept the credentials of user 'admin'" in text
        failure, text = await site.fail(Transfer.FTP, "x", ftp=ftp)
        assert failure is FailureClass.FILE
        assert "there is no file 'x'" in text
        failure, text = await site.fail(Transfer.FTP, "x\r\nDELE y", ftp=ftp)
        assert failure is FailureClass.FILE


async def test_an_old_server(site: FileBench) -> None:
    """No EPSV, no SIZE, and an address of its own for the data: the device's is taken."""
    async with scripted() as ftp:
        assert await site.run(Transfer.FTP, "x", ftp=ftp) == CONTENT


@pytest.mark.parametrize(
    ("answers", "failure"),
    [
        ({"RETR": b"150 here\r\n426 broken\r\n"}, FailureClass.CLOSED_EARLY),
        ({"RETR": b"150 here\r\n"}, FailureClass.TIMED_OUT),
        ({"RETR": b""}, FailureClass.CLOSED_EARLY),
        ({"SIZE": b"213 1000000\r\n"}, FailureClass.CLOSED_EARLY),
        ({"RETR": b"450 busy\r\n"}, FailureClass.FILE),
        ({"USER": b"421 too many\r\n"}, FailureClass.REFUSED),
        ({"HELLO": b"421 too many\r\n"}, FailureClass.REFUSED),
        ({"USER": b""}, FailureClass.REFUSED),
    ],
    ids=["broken", "no end", "gone", "short", "busy", "full", "no welcome", "hangs up"],
)
async def test_what_goes_wrong(
    site: FileBench, answers: dict[str, bytes], failure: FailureClass
) -> None:
    site.seconds = 1
    async with scripted(**answers) as ftp:
        assert (await site.fail(Transfer.FTP, "x", ftp=ftp))[0] is failure


async def test_too_much(site: FileBench) -> None:
    async with scripted() as ftp:
        failure, _ = await site.fail(Transfer.FTP, "x", ftp=ftp, max_bytes=1000)
    assert failure is FailureClass.TOO_LARGE


async def test_nobody_listens(site: FileBench, unused_port: int) -> None:
    failure, _ = await site.fail(Transfer.FTP, "x", ftp=Ftp(port=unused_port))
    assert failure is FailureClass.REFUSED


async def test_tls_of_the_data_begins_when_the_transfer_has(
    site: FileBench, certificate: Certificate
) -> None:
    """As with most servers: they take up TLS there once they know what to send."""
    context, asked, sent = certificate.server_context(), asyncio.Event(), asyncio.Event()
    begun: list[asyncio.StreamWriter] = []

    async def data(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(writer)
        await asked.wait()
        await writer.start_tls(context)
        writer.write(CONTENT)
        await writer.drain()
        writer.close()
        sent.set()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(writer)
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            match line.split()[0]:
                case b"AUTH":
                    writer.write(b"234 go on\r\n")
                    await writer.start_tls(context)
                case b"USER":
                    writer.write(b"331 password?\r\n")
                case b"PASS":
                    writer.write(b"230 in\r\n")
                case b"SIZE":
                    writer.write(b"213 %d\r\n" % len(CONTENT))
                case b"EPSV":
                    port = transfers.sockets[0].getsockname()[1]
                    writer.write(b"229 ok (|||%d|)\r\n" % port)
                case b"RETR":
                    writer.write(b"150 here\r\n")
                    asked.set()
                    await sent.wait()
                    writer.write(b"226 done\r\n")
                case _:
                    writer.write(b"200 ok\r\n")

    transfers = await asyncio.start_server(data, HOST, 0)
    server = await asyncio.start_server(control, HOST, 0)
    async with server, transfers:
        ftp = Ftp(port=server.sockets[0].getsockname()[1])
        got = await site.run(Transfer.FTPS, "x", ftp=ftp, tls=Tls(ca=certificate.pem))
        for writer in begun:
            writer.transport.abort()
    assert got == CONTENT
