"""Debian's Telnet server on a free port, started for each connection as inetd would."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TELNETD = Path("/usr/sbin/telnetd")
HOST = "127.0.0.1"


@dataclass(frozen=True)
class User:
    """Somebody who may log in."""

    name: str
    password: str


@contextlib.contextmanager
def passing_user(shell: str) -> Iterator[User]:
    """A user of this machine for as long as the context lasts; root alone can make one."""
    missing = [
        name for name in ("useradd", "userdel", "chpasswd", "login") if not shutil.which(name)
    ]
    if missing or os.geteuid() != 0:
        pytest.skip(f"a user cannot be made: not root, or no {', '.join(missing)}")
    user = User(f"rmtest{secrets.token_hex(4)}", secrets.token_hex(12))
    subprocess.run(["useradd", "-M", "-d", "/", "-s", shell, user.name], check=True)
    try:
        line = f"{user.name}:{user.password}\n"
        subprocess.run(["chpasswd"], input=line, text=True, check=True)
        yield user
    finally:
        subprocess.run(["userdel", user.name], check=True)


@contextlib.contextmanager
def running_telnetd(*options: str) -> Iterator[int]:
    """The port it listens on; or the test is skipped."""
    if not TELNETD.exists():
        pytest.skip(f"{TELNETD} not installed (see scripts/system-packages)")
    with socket.create_server((HOST, 0)) as listening:
        serving = threading.Thread(target=_serve, args=(listening, options))
        serving.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listening: socket.socket, options: tuple[str, ...]) -> None:
    processes = []
    with contextlib.suppress(OSError):  # shut down
        while True:
            connection, _ = listening.accept()
            with connection:
                command = (str(TELNETD), "-h", *options)
                end = connection.fileno()
                processes.append(subprocess.Popen(command, stdin=end, stdout=end, stderr=end))
    for process in processes:
        process.terminate()
        process.wait()
