"""Who may call what, shown how, from where."""

import base64
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from roundsman.config.records import ControllerSettings, Role, Token
from roundsman.controller.access import (
    Access,
    OriginError,
    Principal,
    UnauthenticatedError,
    new_token,
    token_hash,
)
from roundsman.testing.clock import ManualClock
from roundsman.wire.worker import Worker
from tests.controller import multipart
from tests.controller.serving import (
    PERIOD,
    START,
    Served,
    configuration,
    device,
    job,
    served,
    slot,
)

DUE = START + PERIOD


def basic(user: str, token: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


TOKENS = (
    Token(name="ada", role=Role.ADMINISTRATOR, hash=token_hash("of-ada")),
    Token(name="rita", role=Role.READER, hash=token_hash("of-rita")),
    Token(
        name="walter", role=Role.WORKER, hash=token_hash("of-walter").upper().replace("SHA", "sha")
    ),
    Token(name="ams", role=Role.WORKER, hash=token_hash("of-ams"), tags=("ams",)),
)


def test_a_new_token_is_long_and_only_its_hash_is_kept() -> None:
    first, second = new_token(), new_token()
    assert first.token != second.token
    assert len(first.token.reveal()) >= 43
    assert first.hash == token_hash(first.token.reveal())
    assert first.token.reveal() not in repr(first)


def test_bearer_and_basic_are_both_understood() -> None:
    known = Access(TOKENS)
    ada = Principal(name="ada", role=Role.ADMINISTRATOR)
    assert known.authenticate("Bearer of-ada") == ada
    assert known.authenticate("bearer  of-ada") == ada
    assert known.authenticate(basic("ada", "of-ada")) == ada
    assert known.authenticate(basic("walter", "of-walter")).role is Role.WORKER
    assert known.authenticate("Bearer of-ams").tags == frozenset({"ams"})


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer nobody",
        "Bearer of-ada2",
        "of-ada",
        "Digest of-ada",
        basic("ada", "of-rita"),
        basic("rita", "of-ada"),
        basic("", "of-ada"),
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Bearer \udcff",
    ],
)
def test_anything_else_is_not(header: str | None) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        Access(TOKENS).authenticate(header)
    assert "of-" not in str(caught.value)


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 10."""
    compared: list[tuple[object, object]] = []

    real = hmac.compare_digest

    def spy(first: Any, second: Any) -> bool:
        compared.append((first, second))
        return real(first, second)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    known = Access(TOKENS)
    known.authenticate(basic("ada", "of-ada"))
    assert compared == [(token_hash("of-ada"), token_hash("of-ada")), (b"ada", b"ada")]


def test_opening_or_closing_takes_a_restart() -> None:
    known = Access(TOKENS)
    assert not known.set_tokens(())
    assert known.set_tokens(TOKENS[:1])
    with pytest.raises(UnauthenticatedError):
        known.authenticate("Bearer of-rita")
    assert not Access(()).set_tokens(TOKENS)


def test_an_open_controller_takes_everyone_but_unknown_bearers() -> None:
    known = Access(())
    for header in [None, basic("anyone", "anything")]:
        assert known.authenticate(header).role is Role.ADMINISTRATOR
    with pytest.raises(UnauthenticatedError):
        known.authenticate("Bearer of-a-removed-worker")


LOCAL = {"host": "localhost:9400"}


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        (LOCAL, True),
        ({"host": "127.0.0.1:9400"}, True),
        ({"host": "[::1]:9400"}, True),
        ({"host": "LocalHost"}, True),
        ({"host": "localhost.example.net"}, False),
        ({"host": "127.0.0.1.example.net"}, False),
        ({**LOCAL, "origin": "http://localhost:9400"}, True),
        ({**LOCAL, "sec-fetch-site": "same-origin"}, True),
        ({**LOCAL, "sec-fetch-site": "none"}, True),
        ({}, False),
        ({"host": "rebound.example.net:9400"}, False),
        ({"host": "[:9400"}, False),
        ({**LOCAL, "origin": "https://evil.example.net"}, False),
        ({**LOCAL, "origin": "http://localhost:8080"}, False),
        ({**LOCAL, "origin": "null"}, False),
        ({**LOCAL, "sec-fetch-site": "cross-site"}, False),
        ({**LOCAL, "sec-fetch-site": "same-site"}, False),
    ],
)
def test_a_web_page_of_another_site_reaches_nothing(headers: dict[str, str], allowed: bool) -> None:
    if allowed:
        Access(()).check_origin(headers)
    else:
        with pytest.raises(OriginError):
            Access(()).check_origin(headers)


def test_with_tokens_any_host_will_do_but_not_any_page() -> None:
    known = Access(TOKENS)
    known.check_origin({"host": "roundsman.example.net"})
    with pytest.raises(OriginError):
        known.check_origin({"host": "r.example.net", "origin": "https://evil.example.net"})
    known.check_origin(
        {"host": "x", "origin": "https://app.example.net", "authorization": "Bearer t"}
    )


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Served]:
    """With tokens; three devices due, one of them tagged ams."""
    show = job("show")
    slots = [slot(device(*names), show) for names in [("a", "ams"), ("b", "fra"), ("c",)]]
    clock = ManualClock(START)
    settings = ControllerSettings(tokens=TOKENS)
    async with served(configuration(slots, settings), tmp_path, clock=clock) as running:
        clock.advance(PERIOD)
        yield running


async def names(served: Served, authorization: str) -> list[str]:
    async with served.http.get(
        "/worker/next", headers={"Authorization": authorization}
    ) as response:
        assert response.status == 200
        return sorted(item["device"]["name"] for item in await response.json())


async def post(served: Served, authorization: str, body: bytes) -> tuple[int, str]:
    async with served.http.post(
        "/worker/complete",
        data=body,
        headers={**multipart.HEADERS, "Authorization": authorization},
    ) as response:
        answer = await response.json()
        return response.status, answer.get("code", "")


async def test_without_a_credential_401_says_how(closed: Served) -> None:
    async with closed.http.get("/worker/next") as response:
        assert response.status == 401
        challenge = ", ".join(response.headers.getall("WWW-Authenticate"))
        assert "Bearer realm=" in challenge
        assert "Basic realm=" in challenge
        assert (await response.json())["code"] == "access.unauthenticated"
    assert (await post(closed, "Bearer nobody", b""))[0] == 401


async def test_a_role_that_may_not_is_403(closed: Served) -> None:
    async with closed.http.get(
        "/worker/next", headers={"Authorization": "Bearer of-rita"}
    ) as response:
        assert response.status == 403
        assert "role reader may not do this" in (await response.json())["error"]
    assert (await post(closed, "Bearer of-rita", b""))[0] == 403


async def test_a_credential_narrows_to_its_tags(closed: Served) -> None:
    assert await names(closed, "Bearer of-ams") == ["a"]
    assert await names(closed, basic("walter", "of-walter")) == ["b", "c"]
    body = multipart.completion("b", "show", DUE, b"x")
    assert await post(closed, "Bearer of-ams", body) == (403, "access.forbidden")
    assert await post(closed, "Bearer of-walter", body) == (200, "")


async def test_an_enrolled_worker_acts_for_itself_alone(closed: Served) -> None:
    """Its leases last as long as a heartbeat is due; those of others it cannot end."""
    token = new_token()
    worker = Worker(
        worker_id="11111111-2222-3333-4444-555555555555",
        name="ams-1",
        tags=(),
        version="",
        enrolled_at=START,
        seen_at=START,
        allowed_tags=("ams", "fra"),
    )
    controller = closed.controller
    await controller.ledger.add_worker(worker, token.hash)
    await controller.access.refresh_workers(controller.ledger)
    own = f"Bearer {token.token.reveal()}"
    async with closed.http.get("/worker/next?max=1", headers={"Authorization": own}) as response:
        [execution] = await response.json()
    assert execution["device"]["name"] == "a"
    assert execution["lease"]["expires_at"] == DUE + 120
    assert await names(closed, "Bearer of-walter") == ["b", "c"]
    mine = multipart.completion("a", "show", DUE, b"x")
    others = multipart.completion("b", "show", DUE, b"x")
    assert await post(closed, own, others) == (409, "lease.lost")
    assert await post(closed, basic(worker.worker_id, token.token.reveal()), mine) == (200, "")
    await controller.ledger.remove_worker(worker.worker_id)
    await controller.access.refresh_workers(controller.ledger)
    assert (await post(closed, own, mine))[0] == 401


async def test_health_asks_for_nothing(closed: Served) -> None:
    for path in ["/healthz", "/readyz"]:
        async with closed.http.get(path, headers={"Host": "probe.example.net"}) as response:
            assert response.status == 200


async def test_no_credential_and_no_device_password_is_logged(
    closed: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    with structlog.testing.capture_logs() as events:
        await names(closed, "Bearer of-walter")
        await post(closed, basic("walter", "of-walterx"), b"")
        await post(closed, "Bearer of-walter", multipart.completion("b", "show", DUE, b"x"))
    text = str(events) + "".join(capsys.readouterr())
    assert "of-walter" not in text
    assert "hunter2" not in text
