"""Serving: where it may, until told to, losing nothing that it has begun to answer."""

import asyncio
import resource
import socket
import ssl
from pathlib import Path

import aiohttp
import msgspec
import pytest

from roundsman.archive.interface import Entry, Stored
from roundsman.config.records import Configuration, ControllerSettings, Listen, Role, Tls, Token
from roundsman.controller import server
from roundsman.controller.access import token_hash
from roundsman.controller.api import completion
from roundsman.controller.server import (
    OPEN_FILES,
    ServerError,
    _bind,
    check_listen,
    make_room,
    serve,
)
from roundsman.controller.service import Controller
from roundsman.ledger.memory import MemoryLedger
from roundsman.testing.clock import ManualClock
from roundsman.testing.memory_archive import MemoryArchive
from tests.controller import multipart
from tests.controller.certificates import make_tls
from tests.controller.serving import PERIOD, START, configuration, fleet, served

DUE = START + PERIOD
TOKENS = (Token(name="ada", role=Role.ADMINISTRATOR, hash=token_hash("of-ada")),)


def listening(listen: Listen, tokens: tuple[Token, ...] = ()) -> Configuration:
    settings = ControllerSettings(listen=listen, tokens=tokens)
    return msgspec.structs.replace(fleet(1), controller=settings)


def controller(configuration: Configuration, data: Path) -> Controller:
    clock = ManualClock(START)
    return Controller(
        configuration,
        ledger=MemoryLedger(),
        archive=MemoryArchive(clock),
        clock=clock,
        data=data,
    )


ANYWHERE = "0.0.0.0"  # noqa: S104 - that it is refused is the point


@pytest.mark.parametrize("host", [ANYWHERE, "::", "192.0.2.1", "router.example.net"])
def test_beyond_loopback_needs_tokens_and_tls_or_a_proxy(host: str) -> None:
    tls = Tls(certificate=Path("a"), private_key=Path("b"))
    with pytest.raises(ServerError, match="without tokens"):
        check_listen(Listen(host=host, tls=tls), open_access=True)
    with pytest.raises(ServerError, match="in the clear"):
        check_listen(Listen(host=host), open_access=False)
    check_listen(Listen(host=host, tls=tls), open_access=False)
    check_listen(Listen(host=host, behind_proxy=True), open_access=False)
    check_listen(Listen(), open_access=True)


async def test_it_refuses_before_it_touches_anything(tmp_path: Path) -> None:
    data = tmp_path / "data"
    refused = controller(listening(Listen(host=ANYWHERE, port=0)), data)
    with pytest.raises(ServerError, match=r"server\.refused: listen\.host 0\.0\.0\.0"):
        await serve(refused, stop=asyncio.Event(), ready=lambda _: pytest.fail("it served"))
    assert not data.exists()


def test_answers_on_a_kept_connection_do_not_wait_to_be_acknowledged() -> None:
    with _bind(Listen(port=0)) as bound, socket.create_connection(bound.getsockname()[:2]):
        accepted, _ = bound.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_an_answer_comes_in_one_piece(tmp_path: Path) -> None:
    async with served(fleet(1), tmp_path) as running:
        reader, writer = await asyncio.open_connection(*running.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: roundsman\r\n\r\n")
        head, _, body = (await reader.read(1 << 16)).partition(b"\r\n\r\n")
        assert b"200 OK" in head
        assert body
        writer.close()
        await writer.wait_closed()


async def test_an_address_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        second = controller(listening(Listen(port=port)), tmp_path)
        with pytest.raises(ServerError, match=f"listen 127.0.0.1:{port}"):
            await serve(second, stop=asyncio.Event(), ready=lambda _: None)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


async def test_tls(tmp_path: Path, tls: Tls) -> None:
    urls: asyncio.Queue[str] = asyncio.Queue()
    stop = asyncio.Event()
    secured = controller(listening(Listen(port=0, tls=tls), TOKENS), tmp_path)
    serving = asyncio.create_task(serve(secured, stop=stop, ready=urls.put_nowait))
    url = await urls.get()
    assert url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile=tls.certificate)
    async with (
        aiohttp.ClientSession() as http,
        http.get(
            f"{url}/worker/ping", ssl=trust, headers={"Authorization": "Bearer of-ada"}
        ) as response,
    ):
        assert response.status == 200
    stop.set()
    await serving


async def test_a_key_that_does_not_fit_is_named(tmp_path: Path, tls: Tls) -> None:
    wrong = Tls(certificate=tls.private_key, private_key=tls.private_key)
    with pytest.raises(ServerError, match=r"listen\.tls"):
        await serve(
            controller(listening(Listen(port=0, tls=wrong)), tmp_path),
            stop=asyncio.Event(),
            ready=lambda _: None,
        )


class SlowArchive(MemoryArchive):
    """Says when it began, and stores when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()
        self.may_store = asyncio.Event()
        self.closed = asyncio.Event()

    async def store(self, entry: Entry) -> Stored:
        self.began.set()
        await self.may_store.wait()
        assert not self.closed.is_set()
        return await super().store(entry)

    async def close(self) -> None:
        self.closed.set()


async def until_refused(address: tuple[str, int]) -> None:
    """Connect again and again until it fails: the listening socket closes soon after the stop."""
    while True:
        try:
            _, writer = await asyncio.open_connection(*address)
            writer.close()
            await writer.wait_closed()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue  # it stood in the backlog when the socket closed


async def test_a_stop_finishes_what_it_answers_and_takes_nothing_new(tmp_path: Path) -> None:
    """Fault 4: a stop right after the upload loses nothing that was, or will be, answered 200."""
    clock, archive = ManualClock(START), SlowArchive()
    async with served(fleet(1), tmp_path, clock=clock, archive=archive) as running:
        clock.advance(PERIOD)
        async with running.http.get("/worker/next") as response:
            assert response.status == 200
        body = multipart.completion("edge0", "show", DUE, b"x")

        async def upload() -> int:
            async with running.http.post(
                "/worker/complete", data=body, headers=multipart.HEADERS
            ) as response:
                await response.read()
                return response.status

        uploading = asyncio.create_task(upload())
        await archive.began.wait()
        running.stop.set()
        await until_refused(running.address)
        assert not archive.closed.is_set()
        archive.may_store.set()
        assert await uploading == 200
    assert archive.closed.is_set()
    assert [kept.content for kept in archive.kept["edge0", "show"]] == [b"x"]


async def test_before_it_stops_it_says_so_and_goes_on_for_a_while(tmp_path: Path) -> None:
    clock = ManualClock(START)
    drained = listening(Listen(drain_seconds=10))
    async with served(
        configuration(drained.slots.values(), drained.controller), tmp_path, clock=clock
    ) as running:
        running.stop.set()
        status, text = 200, ""
        while status == 200:
            async with running.http.get("/readyz") as response:
                status, text = response.status, await response.text()
        assert (status, "this controller is stopping" in text) == (503, True)
        clock.advance(9)
        async with running.http.get("/api/v1/jobs") as response:
            assert response.status == 200
        clock.advance(1)
        await until_refused(running.address)


async def test_a_client_that_falls_silent_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "SILENCE_SECONDS", 0.05)
    async with served(fleet(1), tmp_path) as running:
        reader, writer = await asyncio.open_connection(*running.address)
        writer.write(
            b"POST /worker/complete HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: %s\r\nContent-Length: 1000\r\n\r\n--%s\r\n"
            % (multipart.HEADERS["Content-Type"].encode(), multipart.BOUNDARY.encode())
        )
        head = await reader.readuntil(b"\r\n")
        writer.close()
    assert head == b"HTTP/1.1 408 Request Timeout\r\n"
    assert not list((tmp_path / "spool").iterdir())


async def test_a_connection_outlasts_what_its_users_keep_it_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.KEEP_ALIVE_SECONDS > 60
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.05)
    async with served(fleet(1), tmp_path) as running:
        reader, writer = await asyncio.open_connection(*running.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await reader.read()  # to the end: it is closed for as long as that
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_restart_clears_the_spool(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "leftover").write_bytes(b"half a result")
    async with served(fleet(1), tmp_path):
        assert not list((tmp_path / "spool").iterdir())


async def test_healthz_and_readyz(tmp_path: Path) -> None:
    async with served(fleet(1), tmp_path) as running:
        async with running.http.get("/healthz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with running.http.get("/readyz") as response:
            assert response.status == 200
            assert await response.json() == {
                "ready": True,
                "parts": {"ledger": "ok", "archive": "ok"},
            }
        await running.controller.ledger.close()
        async with running.http.get("/readyz") as response:
            assert response.status == 503
            answer = await response.json()
            assert answer["parts"]["ledger"].startswith("ledger.unavailable: ")
            assert answer["parts"]["archive"] == "ok"
        async with running.http.get("/healthz") as response:
            assert response.status == 200


@pytest.mark.parametrize("hard", [resource.RLIM_INFINITY, 524_288, 4096])
def test_there_is_room_for_as_many_workers_as_the_system_lets(
    hard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds a connection for good; the usual soft limit is 1,024."""
    wanted: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: wanted.append(limits))
    make_room()
    assert wanted == [(4096 if hard == 4096 else OPEN_FILES, hard)]
