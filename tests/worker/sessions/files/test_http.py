"""Files over HTTP and HTTPS, from servers of aiohttp and from bare sockets."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import encode_basic_auth, web

from roundsman.simulator.device import HOST
from roundsman.wire.device import Http, Https, Tls
from roundsman.wire.job import Transfer
from roundsman.wire.run import FailureClass
from tests.worker.sessions.files.bench import PASSWORD, USER, FileBench
from tests.worker.sessions.files.certificates import Certificate, make

CONTENT = b"hostname r1\n" + bytes(range(256)) * 3000
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, certificate: Certificate | None = None) -> AsyncIterator[int]:
    """The port of a server that answers everything so."""
    runner = web.ServerRunner(web.Server(handler))  # type: ignore[arg-type] # any callable will do
    await runner.setup()
    site = web.TCPSite(
        runner, HOST, 0, ssl_context=certificate.server_context() if certificate else None
    )
    await site.start()
    assert site._server is not None
    port: int = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined] # of asyncio
    try:
        yield port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """The port of a server that answers each connection with the next of these, and closes it."""
    left = iter(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(left))
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def plain(request: web.Request) -> web.Response:
    if request.path != "/backup.swb":
        return web.Response(status=404)
    return web.Response(body=CONTENT)


async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(CONTENT)
    return response


async def basic(request: web.Request) -> web.Response:
    wanted = encode_basic_auth(USER, PASSWORD, "utf-8")
    if request.headers.get("Authorization") != wanted:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="sw"'})
    return web.Response(body=CONTENT)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


async def digest(request: web.Request) -> web.Response:
    """As SwOS asks."""
    says = dict(re.findall(r'(\w+)="?([^",]+)', request.headers.get("Authorization", "")))
    one = _md5(f"{USER}:CRS305:{PASSWORD}")
    two = _md5(f"GET:{request.path}")
    parts = (one, "abc1", says.get("nc", ""), says.get("cnonce", ""), "auth", two)
    if says.get("response") != _md5(":".join(parts)):
        challenge = 'Digest realm="CRS305", qop="auth", nonce="abc1", stale=FALSE'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})
    return web.Response(body=CONTENT)


@pytest.mark.parametrize("handler", [plain, chunked, basic, digest])
async def test_a_file_is_fetched(site: FileBench, handler: Handler) -> None:
    async with serving(handler) as port:
        assert await site.run(Transfer.HTTP, "/backup.swb", http=Http(port=port)) == CONTENT


async def test_names_may_do_without_a_slash_and_have_queries(site: FileBench) -> None:
    async def asked(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.path_qs}\n")

    async with serving(asked) as port:
        names = ("cfg/a b.txt", "/get?file=running%20config&x=1")
        got = await site.run(Transfer.HTTP, *names, http=Http(port=port))
    assert got == b"/cfg/a%20b.txt\n/get?file=running%20config&x=1\n"


@pytest.mark.parametrize("handler", [basic, digest])
async def test_a_wrong_password(site: FileBench, handler: Handler) -> None:
    async with serving(handler) as port:
        failure, text = await site.fail(
            Transfer.HTTP, "/backup.swb", http=Http(port=port), password="wrong"
        )
    assert failure is FailureClass.AUTHENTICATION
    assert "did not accept the credentials of user 'admin'" in text


async def test_credentials_are_tried_in_order(site: FileBench) -> None:
    async with serving(digest) as port:
        http = Http(port=port)
        got = await site.run(
            Transfer.HTTP, "/x", password="old", further=("older", PASSWORD), http=http
        )
        assert got == CONTENT
        failure, _ = await site.fail(
            Transfer.HTTP, "/x", password="old", further=("older",), http=http
        )
    assert failure is FailureClass.AUTHENTICATION


async def test_what_is_not_there(site: FileBench) -> None:
    async with serving(plain) as port:
        failure, text = await site.fail(Transfer.HTTP, "/other", http=Http(port=port))
    assert failure is FailureClass.FILE
    assert "there is no file '/other'" in text


async def test_a_login_page_is_no_file(site: FileBench) -> None:
    async def login(_: web.Request) -> web.Response:
        return web.Response(text="<html>Log in</html>", content_type="text/html")

    async with serving(login) as port:
        failure, text = await site.fail(Transfer.HTTP, "/config.cfg", http=Http(port=port))
    assert failure is FailureClass.FILE
    assert "came a web page" in text


async def test_too_much(site: FileBench) -> None:
    async with serving(chunked) as port:
        failure, _ = await site.fail(Transfer.HTTP, "/x", http=Http(port=port), max_bytes=1000)
    assert failure is FailureClass.TOO_LARGE


async def test_redirects_stay_on_the_host(site: FileBench) -> None:
    async def moved(request: web.Request) -> web.Response:
        match request.path:
            case "/here":
                return web.Response(status=302, headers={"Location": "/there"})
            case "/there":
                return web.Response(body=CONTENT)
            case "/round":
                return web.Response(status=301, headers={"Location": "/round"})
        return web.Response(status=302, headers={"Location": "http://localhost/there"})

    async with serving(moved) as port:
        assert await site.run(Transfer.HTTP, "/here", http=Http(port=port)) == CONTENT
        failure, text = await site.fail(Transfer.HTTP, "/away", http=Http(port=port))
        assert failure is FailureClass.FILE
        assert "is redirected to http://localhost: expected http://127.0.0.1" in text
        failure, text = await site.fail(Transfer.HTTP, "/round", http=Http(port=port))
        assert failure is FailureClass.FILE
        assert "not reached after 5 redirects" in text


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhostname r1\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhostn\r\n",
    ],
    ids=["length", "chunks"],
)
async def test_a_file_that_is_cut_off(site: FileBench, answer: bytes) -> None:
    async with answering(answer) as port:
        failure, text = await site.fail(Transfer.HTTP, "/x", http=Http(port=port))
    assert failure is FailureClass.CLOSED_EARLY
    assert "closed the connection within '/x'" in text


async def test_without_a_length_it_must_come_the_same_twice(site: FileBench) -> None:
    answer = b"HTTP/1.0 200 OK\r\n\r\nhostname r1\nend\n"
    async with answering(answer, answer) as port:
        got = await site.run(Transfer.HTTP, "/x", http=Http(port=port))
    assert got == b"hostname r1\nend\n"
    async with answering(answer[:-4], answer) as port:
        failure, text = await site.fail(Transfer.HTTP, "/x", http=Http(port=port))
    assert failure is FailureClass.UNVERIFIED
    assert "does not say how long '/x' is" in text


async def test_what_does_not_speak_http(site: FileBench) -> None:
    async with answering(b"SSH-2.0-device\r\n\r\n") as port:
        failure, _ = await site.fail(Transfer.HTTP, "/x", http=Http(port=port))
    assert failure is FailureClass.REFUSED


async def test_nobody_listens(site: FileBench, unused_port: int) -> None:
    failure, text = await site.fail(Transfer.HTTP, "/x", http=Http(port=unused_port))
    assert failure is FailureClass.REFUSED
    assert f"127.0.0.1 port {unused_port} refused the connection" in text
    failure, _ = await site.fail(Transfer.HTTP, "/x", host="nowhere.invalid")
    assert failure is FailureClass.UNREACHABLE


async def test_certificates_are_checked(site: FileBench, certificate: Certificate) -> None:
    async with serving(basic, certificate) as port:
        https = Https(port=port)

        async def fetched(tls: Tls) -> bytes:
            return await site.run(Transfer.HTTPS, "/x", https=https, tls=tls)

        assert await fetched(Tls(ca=certificate.pem)) == CONTENT
        assert await fetched(Tls(fingerprints=("0" * 64, certificate.fingerprint))) == CONTENT
        for tls in (
            Tls(),
            Tls(ca=make(site.folder).pem),
            Tls(ca=certificate.pem, fingerprints=("0" * 64,)),
        ):
            failure, text = await site.fail(Transfer.HTTPS, "/x", https=https, tls=tls)
            assert failure is FailureClass.HOST_KEY
            assert "the certificate of 127.0.0.1" in text


async def test_a_certificate_for_another_host(site: FileBench) -> None:
    other = make(site.folder, address="192.0.2.1")
    async with serving(plain, other) as port:
        failure, text = await site.fail(
            Transfer.HTTPS, "/x", https=Https(port=port), tls=Tls(ca=other.pem)
        )
    assert failure is FailureClass.HOST_KEY
    assert "IP address mismatch" in text


async def test_a_server_without_tls(site: FileBench) -> None:
    async with serving(plain) as port:
        failure, _ = await site.fail(Transfer.HTTPS, "/x", https=Https(port=port))
    assert failure is FailureClass.REFUSED
