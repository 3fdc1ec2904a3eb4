"""OpenSSH's server with a throw-away configuration, on a free port of the loopback interface."""

import contextlib
import os
import pwd
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

SSHD = Path("/usr/sbin/sshd")


def skip_where_missing(*programs: Path) -> None:
    """Skip the test, with the reason, where there is no real server, or one of the programs."""
    missing = [str(path) for path in (SSHD, *programs) if not path.exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (see scripts/system-packages)")
    if os.geteuid() != 0:
        pytest.skip("only root may start sshd")


@dataclass(frozen=True)
class Server:
    """A running server, and who may log in."""

    port: int
    user: str
    private_key: str


@contextlib.contextmanager
def running_sshd(folder: Path, *, command: str | None = None) -> Iterator[Server]:
    """A server that lets the present user in; with `command` that instead of the login shell."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    port = _free_port()
    (folder / "authorized_keys").write_bytes(key.export_public_key())
    (folder / "host_key").touch(mode=0o600)
    (folder / "host_key").write_bytes(host_key.export_private_key())
    configuration = folder / "sshd_config"
    configuration.write_text(f"""ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
PermitRootLogin yes
UsePAM no
StrictModes no
PrintMotd no
PrintLastLog no
Subsystem sftp internal-sftp
{f"ForceCommand {command}" if command else ""}
""")
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
    sshd = (str(SSHD), "-D", "-e", "-f", str(configuration))
    with logging_process(sshd, says="listening on"):
        user = pwd.getpwuid(os.geteuid()).pw_name
        yield Server(port, user, key.export_private_key().decode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def logging_process(command: tuple[str, ...], *, says: str) -> Iterator[None]:
    """A program that runs as long as the context lasts, from when it logs that it is ready."""
    pipe, out = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, stdout=pipe, stderr=out, text=True, bufsize=1) as process:
        assert process.stdout is not None
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if says in line:
                    break
            else:
                raise AssertionError(f"{command[0]} ended: {''.join(lines)}")
            yield
        finally:
            process.terminate()
