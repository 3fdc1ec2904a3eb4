"""A router that is real: FRRouting's own shell as the login shell of OpenSSH's server.

Both run with throw-away configuration, in a folder of their own and on a free port of the loopback
interface; nothing of the system's configuration is read or changed.
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.openssh import Server, logging_process, running_sshd, skip_where_missing

VTYSH = Path("/usr/bin/vtysh")
ZEBRA = Path("/usr/lib/frr/zebra")


@dataclass(frozen=True)
class Router:
    """A running router."""

    ssh: Server
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
    """A router with `configuration`, for as long as the context lasts; or the test is skipped."""
    skip_where_missing(VTYSH, ZEBRA)
    with _folder() as folder:
        host = socket.gethostname()
        vtysh = (str(VTYSH), "--vty_socket", str(folder), "--config_dir", str(folder))
        (folder / "zebra.conf").write_text(configuration(host))
        (folder / "vtysh.conf").write_text(f"banner motd line {host}# is no prompt #\n")
        shell = " ".join((*vtysh, "--histfile", f"{folder}/history"))
        with (
            logging_process(_zebra(folder), says="starting:"),
            running_sshd(folder, command=shell) as ssh,
        ):
            router = Router(ssh, vtysh)
            router.show("show version")  # answered once the configuration is read
            yield router


def _zebra(folder: Path) -> tuple[str, ...]:
    sockets = ("--vty_socket", str(folder), "-z", str(folder / "zserv.api"), "-P", "0")
    files = ("-f", str(folder / "zebra.conf"), "-i", str(folder / "zebra.pid"))
    return (str(ZEBRA), *sockets, *files, "--log", "stdout")


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
