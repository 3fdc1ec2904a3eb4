"""The store of pinned host keys."""

from pathlib import Path

import asyncssh
import pytest

from roundsman.worker.sessions.errors import HostKeyError
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.settings import HostKeyPolicy

KEYS = [asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def store(path: Path, policy: HostKeyPolicy = HostKeyPolicy.TRUST_ON_FIRST_USE) -> HostKeyStore:
    return HostKeyStore(path, policy)


def test_pins_last_and_are_by_host_and_port(path: Path) -> None:
    """Fault 10: no host-key check."""
    first = store(path)
    first.check("R1.example", 22, KEYS[0], ())
    first.check("r1.example", 2222, KEYS[1], ())
    again = store(path, HostKeyPolicy.KNOWN)
    again.check("r1.example", 22, KEYS[0], ())
    again.check("r1.example", 2222, KEYS[1], ())
    with pytest.raises(HostKeyError, match="is not the one pinned"):
        again.check("r1.example", 22, KEYS[1], ())
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_is_one_that_openssh_reads(path: Path) -> None:
    store(path).check("192.0.2.1", 2222, KEYS[0], ())
    known = asyncssh.read_known_hosts(str(path)).match("192.0.2.1", "192.0.2.1", 2222)
    assert set(known[0]) == {KEYS[0]}


def test_what_people_write_into_the_file_counts_at_once(path: Path) -> None:
    keys = store(path)
    keys.check("r1", 22, KEYS[0], ())
    line = KEYS[1].export_public_key().decode().strip()
    path.write_text(f"# a comment\nr2 {line}\n[r1]:22 {line} a remark\n[r1]:22 ssh-ed25519 broken")
    keys.check("r1", 22, KEYS[1], ())
    with pytest.raises(HostKeyError):
        keys.check("r1", 22, KEYS[0], ())
    keys.check("r3", 22, KEYS[2], ())  # appended on a line of its own
    assert store(path).known("r3", 22, ()) == [KEYS[2]]
    assert store(path).known("r1", 22, ()) == [KEYS[1]]


def test_a_given_key_that_cannot_be_read(path: Path) -> None:
    with pytest.raises(HostKeyError, match="cannot be read: expected OpenSSH's public key format"):
        store(path).known("r1", 22, ["ssh-ed25519 nonsense"])
