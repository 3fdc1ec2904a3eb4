"""Which SSH host keys of devices are accepted, and the keys pinned so far."""

import os
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from roundsman.worker.sessions.errors import HostKeyError
from roundsman.worker.settings import HostKeyPolicy


class HostKeyStore:
    """The keys pinned by one worker, in a file of OpenSSH's `known_hosts` format.

    One line a key: `[host]:port type base64`. Lines are only ever appended, each in one write.
    People may edit the file: it is read again when it has changed. Other lines (comments, hashed
    names, markers) are left alone and not used.
    """

    def __init__(self, path: Path, policy: HostKeyPolicy) -> None:
        """Use the file at `path`, which need not be there yet; its folder must."""
        self._path = path
        self._policy = policy
        self._pinned: dict[str, list[asyncssh.SSHKey]] = {}
        self._read_state: tuple[int, int, int] | None = None

    def known(self, host: str, port: int, given: Sequence[str]) -> list[asyncssh.SSHKey]:
        """The keys that `host` may show: those `given` with the device, else those pinned.

        Raises `HostKeyError` when a given one cannot be read.
        """
        if given:
            return [_read_given(text, host) for text in given]
        self._refresh()
        return self._pinned.get(_address(host, port), [])

    def check(self, host: str, port: int, shown: asyncssh.SSHKey, given: Sequence[str]) -> None:
        """Accept the key that `host` has shown, pinning it if it is the first; or `HostKeyError`.

        With keys `given` only these count, and nothing is pinned.
        """
        address = _address(host, port)
        known = self.known(host, port, given)
        if shown in known:
            return
        if known:
            origin = "given with the device" if given else f"pinned in {self._path}"
            raise HostKeyError(
                f"the host key of {address} is not the one {origin}: expected "
                f"{' or '.join(_describe(key) for key in known)}, got {_describe(shown)}",
                remedy="if the device was replaced or given a new key, "
                + (
                    "change protocol.ssh.host_keys of the device; "
                    if given
                    else f"remove the line that begins with {address} from {self._path}; "
                )
                + "if not, someone may be listening in",
            )
        if self._policy is HostKeyPolicy.KNOWN:
            raise HostKeyError(
                f"the host key of {address} is not known: got {_describe(shown)}",
                remedy="check the fingerprint, then give the key as protocol.ssh.host_keys of the "
                f"device: {_line(shown)}",
            )
        self._pin(address, shown)

    def _pin(self, address: str, key: asyncssh.SSHKey) -> None:
        line = f"{address} {_line(key)}\n".encode()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, mode=0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # the last line was cut off, or edited without an end
            os.write(descriptor, line)
            self._pinned.setdefault(address, []).append(key)
            self._read_state = _state(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _refresh(self) -> None:
        """Read the file again if it is not as we left it."""
        try:
            state = _state(self._path.stat())
        except FileNotFoundError:
            self._pinned, self._read_state = {}, None
            return
        if state == self._read_state:
            return
        pinned: dict[str, list[asyncssh.SSHKey]] = {}
        for line in self._path.read_text("utf-8", "replace").splitlines():
            address, _, text = line.partition(" ")
            if not address.startswith("["):
                continue
            try:
                key = asyncssh.import_public_key(text)
            except asyncssh.KeyImportError:
                continue
            pinned.setdefault(address, []).append(key)
        self._pinned, self._read_state = pinned, state


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _address(host: str, port: int) -> str:
    return f"[{host.lower()}]:{port}"


def _line(key: asyncssh.SSHKey) -> str:
    kind, data = key.export_public_key("openssh").decode().split()[:2]
    return f"{kind} {data}"


def _describe(key: asyncssh.SSHKey) -> str:
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


def _read_given(text: str, host: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(text)
    except asyncssh.KeyImportError:
        raise HostKeyError(
            f"a host key given for {host} cannot be read: expected OpenSSH's public key format, "
            f"such as 'ssh-ed25519 AAAA…', got {text[:40]!r}",
            remedy="correct protocol.ssh.host_keys of the device",
        ) from None
