"""Ways to log in, and what is offered to devices."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import HOST
from roundsman.wire.device import Credentials, Device, Protocol, Ssh
from roundsman.wire.run import FailureClass
from roundsman.worker.sessions import algorithms
from tests.worker.sessions.conftest import Bench, commands

KEY = asyncssh.generate_private_key("ssh-ed25519")


async def serve(stdin: Any, stdout: Any, _: Any) -> None:
    """A shell with one command."""
    stdout.write("r1# ")
    async for line in stdin:
        match line.strip():
            case "exit":
                break
            case "show":
                stdout.write("shown\n")
        stdout.write("r1# ")
    stdout.close()


class Interactive(asyncssh.SSHServer):
    """Asks for name and password by questions."""

    def password_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> tuple[str, str, str, Sequence[tuple[str, bool]]]:
        return "", "Who are you?", "", [("Name: ", True), ("Secret: ", False)]

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        return list(responses) == ["backup", "right"]


class ByKey(asyncssh.SSHServer):
    """Knows one public key."""

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return key == KEY.convert_to_public()


@contextlib.asynccontextmanager
async def listening(
    door: type[asyncssh.SSHServer], *, ssh: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Device]:
    """A server, as a device without credentials."""
    host_keys = options.pop("server_host_keys", None) or [
        asyncssh.generate_private_key("ssh-ed25519")
    ]
    options.setdefault("session_factory", serve)
    server = await asyncssh.listen(
        HOST, 0, server_factory=door, server_host_keys=host_keys, **options
    )
    async with server:
        port = server.get_port()
        yield Device(name="r1", host=HOST, protocol=Protocol(ssh=Ssh(port=port, **(ssh or {}))))


def as_user(device: Device, **credentials: Any) -> Device:
    return Device(
        name=device.name,
        host=device.host,
        protocol=device.protocol,
        credentials=Credentials(user="backup", **credentials),
    )


async def test_questions_are_answered(bench: Bench) -> None:
    async with listening(Interactive) as device:
        right = as_user(device, password=Secret("right"))
        assert await bench.run(right, commands("show")) == b"shown\n"
        failure, text = await bench.fail(
            as_user(device, password=Secret("wr0ng")), commands("show")
        )
        assert failure is FailureClass.AUTHENTICATION
        assert "wr0ng" not in text


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
async def test_a_private_key_opens(bench: Bench, passphrase: str | None) -> None:
    key = KEY.export_private_key(passphrase=passphrase) if passphrase else KEY.export_private_key()
    async with listening(ByKey) as device:
        entry = as_user(
            device,
            private_key=Secret(key.decode()),
            passphrase=Secret(passphrase) if passphrase else None,
        )
        assert await bench.run(entry, commands("show")) == b"shown\n"


@pytest.mark.parametrize("passphrase", [None, "open simsim"])
async def test_a_private_key_that_cannot_be_read_is_not_shown(
    bench: Bench, passphrase: str | None
) -> None:
    key = KEY.export_private_key(passphrase="open sesame").decode()
    device = Device(
        name="r1",
        host=HOST,
        credentials=Credentials(
            user="backup",
            private_key=Secret(key),
            passphrase=Secret(passphrase) if passphrase else None,
        ),
    )
    failure, text = await bench.fail(device, commands("show"))
    assert failure is FailureClass.AUTHENTICATION
    assert "the private key of user 'backup' cannot be read" in text
    for secret in (key.splitlines()[1], "open simsim"):
        assert secret not in text


async def test_nothing_of_the_account_is_used(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account's key would be accepted; it must not be offered."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes(KEY.export_private_key())
    (tmp_path / ".ssh" / "config").write_text("Host *\n  User somebody\n  Port 1\n")
    async with listening(ByKey) as device:
        failure, _ = await bench.fail(as_user(device, password=Secret("x")), commands("show"))
        assert failure is FailureClass.AUTHENTICATION


async def test_cbc_ciphers_only_where_they_are_asked_for(bench: Bench) -> None:
    options: dict[str, Any] = {"encryption_algs": ["aes128-cbc"], "mac_algs": ["hmac-sha1"]}
    async with listening(ByKey, **options) as device:
        failure, text = await bench.fail(
            as_user(device, private_key=Secret(KEY.export_private_key().decode())), commands("show")
        )
        assert failure is FailureClass.REFUSED
        assert "have no way of speaking SSH in common" in text
    async with listening(ByKey, ssh={"include_cbc_ciphers": True}, **options) as device:
        entry = as_user(device, private_key=Secret(KEY.export_private_key().decode()))
        assert await bench.run(entry, commands("show")) == b"shown\n"


# cryptography warns of what is asked for here on purpose.
@pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")
@pytest.mark.parametrize(
    "key_exchange", ["diffie-hellman-group14-sha1", "diffie-hellman-group1-sha1"]
)
async def test_legacy_algorithms_only_where_they_are_asked_for(
    bench: Bench, key_exchange: str
) -> None:
    key = Secret(KEY.export_private_key().decode())
    options: dict[str, Any] = {"kex_algs": [key_exchange]}
    async with listening(ByKey, **options) as device:
        failure, _ = await bench.fail(as_user(device, private_key=key), commands("show"))
        assert failure is FailureClass.REFUSED
    async with listening(ByKey, ssh={"legacy_algorithms": True}, **options) as device:
        entry = as_user(device, private_key=key)
        assert await bench.run(entry, commands("show")) == b"shown\n"


def test_signatures_of_rsa_keys_with_sha_1_are_a_choice_too() -> None:
    assert "ssh-rsa" not in algorithms.host_key_algorithms(("ssh-rsa",))
    offered = algorithms.host_key_algorithms(("ssh-rsa",), include_legacy=True)
    assert offered[:3] == ("rsa-sha2-256", "rsa-sha2-512", "ssh-rsa")


async def test_a_device_with_several_host_keys_shows_the_known_one(bench: Bench) -> None:
    ed25519 = asyncssh.generate_private_key("ssh-ed25519")
    ecdsa = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    given = {"host_keys": (ecdsa.export_public_key().decode(),)}
    async with listening(ByKey, ssh=given, server_host_keys=[ed25519, ecdsa]) as device:
        entry = as_user(device, private_key=Secret(KEY.export_private_key().decode()))
        assert await bench.run(entry, commands("show")) == b"shown\n"
