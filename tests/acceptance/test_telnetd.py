"""Telnet as a real server speaks it, with a login by /bin/login."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundsman.secret import Secret
from roundsman.wire.device import Credentials, Device, Protocol, ProtocolType, Telnet
from roundsman.wire.platform import Platform
from roundsman.wire.run import FailureClass
from tests.acceptance.telnetd import HOST, User, passing_user, running_telnetd
from tests.worker.sessions.conftest import Bench, commands

UNIX = Platform(name="unix", prompts=(r"[\w.@:~/-]*[$#]",))
TEXT = "".join(f"line {number}\tdescription #\n" for number in range(20_000)) + "naïve $\nend\n"


def described(port: int, user: User | None = None) -> Device:
    credentials = None
    if user is not None:
        credentials = Credentials(user=user.name, password=Secret(user.password))
    telnet = Protocol(type=ProtocolType.TELNET, telnet=Telnet(port=port))
    return Device(name="box", host=HOST, protocol=telnet, credentials=credentials, platform=UNIX)


@pytest.fixture
def text() -> Iterator[Path]:
    """A file that any user may read."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(TEXT)
        file.flush()
        path = Path(file.name)
        path.chmod(0o644)
        yield path


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/dash"])
async def test_a_login_is_answered_and_all_is_read(shell: str, text: Path, tmp_path: Path) -> None:
    with passing_user(shell) as user, running_telnetd() as port:
        job = commands("stty -a", f"cat {text}", ends_with=None)
        read = await Bench(tmp_path).run(described(port, user), job)
    assert read.endswith(TEXT.encode())
    assert b"columns 511" in read


async def test_a_wrong_password_is_said(tmp_path: Path) -> None:
    with passing_user("/bin/dash") as user, running_telnetd() as port:
        device = described(port, User(user.name, "wrong"))
        failure, _ = await Bench(tmp_path).fail(device, commands("true", ends_with=None))
    assert failure is FailureClass.AUTHENTICATION


async def test_a_program_in_the_place_of_a_login_is_read(text: Path, tmp_path: Path) -> None:
    with running_telnetd("-E", "/bin/sh") as port:
        job = commands(f"cat {text}", ends_with=None)
        assert await Bench(tmp_path).run(described(port), job) == TEXT.encode()
