"""A router that is real: FRRouting's own shell as the login shell of OpenSSH's server.

Both run with throw-away configuration, in a folder of their own and on a free port of the loopback
interface; nothing of the system's configuration is read or changed.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

SSHD = Path("/usr/sbin/sshd")
VTYSH = Path("/usr/bin/vtysh")
ZEBRA = Path("/usr/lib/frr/zebra")


def skip_where_impossible() -> None:
    """Skip the test, with the reason, where there is no real router to be had."""
    missing = [str(path) for path in (SSHD, VTYSH, ZEBRA) if not path.exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (apt-get install openssh-server frr)")
    if os.geteuid() != 0:
        pytest.skip("only root may start sshd and zebra")


@dataclass(frozen=True)
class Router:
    """A running router."""

    port: int
    user: str
    private_key: str
    vtysh: tuple[str, ...]
    """The command line of its shell."""

    def show(self, command: str) -> bytes:
        """What a command prints, without a session."""
        return subprocess.run([*self.vtysh, "-c", command], check=True, capture_output=True).stdout


def configuration(host: str) -> str:
    """More than two thousand lines, some of which look like prompts of this very router."""
    lines = [f"hostname {host}", "interface lo", f" description {host}# show version #", "exit"]
    # Not more of these: zebra takes a time that grows with the square of a list's length.
    for number in range(300):
        network = f"10.{number >> 8}.{number & 255}.0/24"
        lines.append(f"ip prefix-list LONG seq {5 * number + 5} permit {network}")
    for number in range(1, 500):
        description = f" description to the dog #{number} {host}#"
        lines += [f"route-map RM{number // 10} permit {number}", description, "exit"]
    return "\n".join([*lines, ""])


@contextlib.contextmanager
def running_router() -> Iterator[Router]:
    """A router with `configuration`, for as long as the context lasts."""
    with _folder() as folder:
        key = asyncssh.generate_private_key("ssh-ed25519")
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        host = socket.gethostname()
        port = _free_port()
        vtysh = (str(VTYSH), "--vty_socket", str(folder), "--config_dir", str(folder))
        (folder / "authorized_keys").write_bytes(key.export_public_key())
        (folder / "host_key").touch(mode=0o600)
        (folder / "host_key").write_bytes(host_key.export_private_key())
        (folder / "zebra.conf").write_text(configuration(host))
        (folder / "vtysh.conf").write_text(f"banner motd line {host}# is no prompt #\n")
        (folder / "sshd_config").write_text(_sshd_configuration(folder, port, vtysh))
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
        sshd = (str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config"))
        with _process(_zebra(folder), says="starting:"), _process(sshd, says="listening on"):
            user = pwd.getpwuid(os.geteuid()).pw_name
            router = Router(port, user, key.export_private_key().decode(), vtysh)
            router.show("show version")  # answered once the configuration is read
            yield router


def _zebra(folder: Path) -> tuple[str, ...]:
    sockets = ("--vty_socket", str(folder), "-z", str(folder / "zserv.api"), "-P", "0")
    files = ("-f", str(folder / "zebra.conf"), "-i", str(folder / "zebra.pid"))
    return (str(ZEBRA), *sockets, *files, "--log", "stdout")


def _sshd_configuration(folder: Path, port: int, vtysh: tuple[str, ...]) -> str:
    return f"""ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
PermitRootLogin yes
UsePAM no
StrictModes no
PrintMotd no
PrintLastLog no
ForceCommand {" ".join(vtysh)} --histfile {folder}/history
"""


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that the user `frr`, under whom zebra runs, may write to."""
    folder = Path(tempfile.mkdtemp(prefix="roundsman-frr-"))
    try:
        shutil.chown(folder, "frr", "frr")
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _process(command: tuple[str, ...], *, says: str) -> Iterator[None]:
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
