import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from roundsman.client import ControllerClient
from roundsman.client.errors import (
    BusyError,
    CertificateError,
    ControllerError,
    FaultError,
    ForbiddenError,
    NotConnectedError,
    RefusedError,
    StaleError,
    TooLargeError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownError,
    UnreachableError,
)
from roundsman.client.retry import CallKind
from roundsman.client.transport import AddressError
from roundsman.secret import Secret
from roundsman.testing.clock import ManualClock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[str]]

TOKEN = "t0p-s3cret"


class ImpatientClock(ManualClock):
    """Sleeps not at all, and remembers for how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Answer everything by one handler; the address."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler, tls: ssl.SSLContext | None = None) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        runners.append(runner)
        return f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def get(client: ControllerClient, *, kind: CallKind = CallKind.LOOPED) -> bytes:
    return await client.call("GET", "/x", kind=kind)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, UnknownError),
        (405, RefusedError),
        (409, StaleError),
        (413, TooLargeError),
        (429, BusyError),
        (500, FaultError),
        (502, FaultError),
        (503, BusyError),
        (302, UnexpectedAnswerError),
    ],
)
@pytest.mark.parametrize("ours", [True, False])
async def test_each_status_is_a_kind_of_error(
    serve: Serve, status: int, kind: type[ControllerError], ours: bool
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        headers = {"Location": "http://127.0.0.1:1/", "Retry-After": "7"}
        if ours:
            body = {"error": "worker not found", "code": "worker.not_found"}
            return web.json_response(body, status=status, headers=headers)
        return web.Response(status=status, text="<html>", headers=headers)

    async with ControllerClient(await serve(answer), token=Secret(TOKEN)) as client:
        with pytest.raises(ControllerError) as caught:
            await get(client)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.ours, error.retry_after_seconds) == (status, ours, 7.0)
    assert error.about_subject is ours
    if ours:
        assert (error.text, error.answer_code) == ("worker not found", "worker.not_found")
    assert TOKEN not in f"{error} {error!r} {client!r} {vars(error)}"


async def test_a_path_that_is_not_served_says_nothing_of_its_subject(serve: Serve) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "Not Found", "code": "http.not_found"}, status=404)

    async with ControllerClient(await serve(answer)) as client:
        with pytest.raises(UnknownError) as caught:
            await get(client)
    assert not caught.value.about_subject


async def test_no_redirect_is_followed(serve: Serve) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with ControllerClient(await serve(answer), token=Secret(TOKEN)) as client:
        with pytest.raises(UnexpectedAnswerError):
            await get(client)
    assert seen == ["/x"]


async def test_an_answer_is_read_up_to_its_bound(serve: Serve) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(1 << 16))
        except ConnectionError:
            return response

    async with ControllerClient(await serve(answer)) as client:
        with pytest.raises(UnexpectedAnswerError, match="larger than 1000 bytes"):
            await client.call("GET", "/x", kind=CallKind.LOOPED, answer_bytes=1000)


async def test_what_is_not_json_is_an_unexpected_answer(serve: Serve) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>log in to the hotel</html>")

    async with ControllerClient(await serve(answer)) as client:
        with pytest.raises(UnexpectedAnswerError):
            await client.worker.next(limit=1, seconds=1)


async def test_the_token_travels_as_a_bearer_and_can_be_changed(serve: Serve) -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return web.Response()

    async with ControllerClient(await serve(answer), token=Secret("one")) as client:
        await get(client)
        client.use_token(Secret("two"))
        await get(client)
        client.use_token(None)
        await get(client)
    assert seen == ["Bearer one", "Bearer two", None]


async def test_a_base_path_and_a_query_are_kept_as_they_are(serve: Serve) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.raw_path)
        return web.json_response(None, status=204)

    async with ControllerClient(await serve(answer) + "/rounds/") as client:
        await client.worker.next(limit=2, seconds=15, tags=["a", "b c", "d&e"])
        with pytest.raises(UnexpectedAnswerError):
            await client.manage.device("a/b %")
    assert seen == [
        "/rounds/worker/next?max=2&seconds=15&tag=a&tag=b+c&tag=d%26e",
        "/rounds/api/v1/devices/a%2Fb%20%25",
    ]


@pytest.mark.parametrize(
    ("kind", "attempts"),
    [
        (CallKind.READ, 3),
        (CallKind.REPEATABLE, 3),
        (CallKind.ONCE, 1),
        (CallKind.LOOPED, 1),
    ],
)
@pytest.mark.parametrize("how", ["busy", "drop"])
async def test_what_may_be_repeated_is(
    serve: Serve, kind: CallKind, attempts: int, how: str
) -> None:
    count = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        if how == "drop":
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=503, headers={"Retry-After": "1"})

    clock = ImpatientClock()
    async with ControllerClient(await serve(answer), clock=clock) as client:
        with pytest.raises(BusyError if how == "busy" else UnreachableError):
            await client.call("POST", "/x", kind=kind, body=b"{}")
    assert count == attempts
    assert len(clock.slept) == attempts - 1
    assert all(seconds >= (1 if how == "busy" else 0) for seconds in clock.slept)


@pytest.mark.parametrize("kind", [CallKind.READ, CallKind.ONCE])
async def test_a_call_that_surely_never_arrived_is_repeated(kind: CallKind) -> None:
    clock = ImpatientClock()
    async with ControllerClient("http://127.0.0.1:1", clock=clock) as client:
        with pytest.raises(NotConnectedError, match="no connection"):
            await get(client, kind=kind)
    assert len(clock.slept) == 2


async def test_a_silent_controller_is_left_after_the_calls_time(serve: Serve) -> None:
    release = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    async with ControllerClient(await serve(answer)) as client:
        with pytest.raises(UnreachableError, match="no answer in time"):
            await client.call("GET", "/x", kind=CallKind.LOOPED, seconds=0.05)
    release.set()


async def test_200_calls_at_once_are_all_answered(serve: Serve) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="fine")

    async with ControllerClient(await serve(answer)) as client:
        answers = await asyncio.gather(*(get(client) for _ in range(200)))
    assert answers == [b"fine"] * 200


@pytest.mark.parametrize(
    "address", ["", "roundsman", "ftp://x", "http://", "http://x/?y=1", "http://[::1", "http://x:y"]
)
def test_an_address_that_cannot_be_used_is_said(address: str) -> None:
    with pytest.raises(AddressError, match="is not the address"):
        ControllerClient(address)


def test_credentials_in_the_address_are_refused_without_being_shown() -> None:
    with pytest.raises(AddressError) as caught:
        ControllerClient(f"https://me:{TOKEN}@roundsman.example.net")
    assert TOKEN not in str(caught.value)


async def test_a_websocket_opens_with_the_token_and_its_refusal_is_mapped(serve: Serve) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.send_str(request.path)
        await websocket.close()
        return websocket

    async with ControllerClient(await serve(answer)) as client:
        with pytest.raises(UnauthorizedError):
            async with client.websocket("/control"):
                pass
        client.use_token(Secret(TOKEN))
        async with client.websocket("/control") as websocket:
            assert await websocket.receive_str() == "/control"
            assert (await websocket.receive()).type is aiohttp.WSMsgType.CLOSE
    async with ControllerClient("http://127.0.0.1:1") as client:
        with pytest.raises(NotConnectedError):
            async with client.websocket("/control"):
                pass


def make_certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that signs itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "controller")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "certificate.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, private)
    return chain, context


async def test_tls_is_verified_by_the_ca_file(serve: Serve, tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response()

    chain, context = make_certificate(tmp_path)
    address = await serve(answer, context)
    async with ControllerClient(address, ca_file=chain) as client:
        await client.worker.ping()
    clock = ImpatientClock()
    async with ControllerClient(address, clock=clock) as client:
        with pytest.raises(CertificateError, match="no trust"):
            await client.worker.ping()
    assert clock.slept == []
    with pytest.raises(CertificateError, match="cannot be used as CA file"):
        ControllerClient(address, ca_file=tmp_path / "missing.pem")


def answering(status: int, said: list[str]) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        said.append(request.path)
        return web.Response(status=status)

    return answer


async def test_of_several_controllers_one_is_called_until_it_does_not_serve(serve: Serve) -> None:
    busy: list[str] = []
    well: list[str] = []
    addresses = [await serve(answering(503, busy)), await serve(answering(204, well))]

    async with ControllerClient(addresses, chance=random.Random(0)) as client:
        if str(client.url.origin()) == addresses[0]:
            with pytest.raises(BusyError):
                await get(client)
        for _ in range(5):
            await get(client)
    assert (len(busy) <= 1, len(well)) == (True, 5)


def test_which_of_several_is_called_first_is_chance() -> None:
    addresses = [f"http://127.0.0.1:{port}" for port in (1, 2, 3)]
    first = {ControllerClient(addresses, chance=random.Random(seed)).url for seed in range(50)}
    assert {str(url.origin()) for url in first} == set(addresses)


async def test_many_calls_that_fail_together_move_on_once(serve: Serve) -> None:
    well: list[str] = []
    address = await serve(answering(204, well))
    # Port 1 refuses; wherever it begins, at most two steps lead to the one that serves.
    addresses = ["http://127.0.0.1:1", address, "http://localhost:1"]
    async with ControllerClient(addresses, chance=random.Random(1)) as client:
        for _ in range(2):
            await asyncio.gather(*(get(client) for _ in range(9)), return_exceptions=True)
        await get(client)
    assert well


async def test_a_call_that_may_be_repeated_is_repeated_elsewhere(serve: Serve) -> None:
    well: list[str] = []
    addresses = ["http://127.0.0.1:1", await serve(answering(204, well))]
    for seed in range(4):
        async with ControllerClient(
            addresses, chance=random.Random(seed), clock=ImpatientClock()
        ) as client:
            await get(client, kind=CallKind.READ)
    assert len(well) == 4
