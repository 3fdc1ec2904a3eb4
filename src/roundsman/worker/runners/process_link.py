"""A worker's connection to a keeper: one that is found, or one that is started."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from roundsman import logs
from roundsman.worker.runners.process_messages import (
    Configure,
    Incoming,
    State,
    ToKeeper,
    ToRunner,
    send,
    socket_address,
    to_runner,
)
from roundsman.worker.runners.process_policy import SEARCH_PATH

log = logs.get(__name__)

SERVER: Final = "roundsman.worker.runners.process_server"
"""The module that is a keeper."""

_PATTERN: Final = "keeper-*.sock"
_LOG_BYTES: Final = 1 << 20  # a log that is longer is begun anew
_ANSWER_SECONDS: Final = 30.0  # for a keeper to start; it takes a fraction of a second


class KeeperLink:
    """An open connection; `state` is what the keeper said first."""

    def __init__(
        self, incoming: Incoming[ToRunner], writer: asyncio.StreamWriter, state: State
    ) -> None:
        """Made by `find` and `launch`."""
        self.state = state
        self._incoming = incoming
        self._writer = writer
        self._receiving: asyncio.Task[None] | None = None

    def send(self, message: ToKeeper) -> None:
        """Queue a message."""
        send(self._writer, message)

    def receive(self, take: Callable[[ToRunner], None], ended: Callable[[], None]) -> None:
        """Give each message to `take` from now on, and call `ended` when the keeper has gone."""

        async def run() -> None:
            while (message := await self._incoming.next()) is not None:
                take(message)
            self._writer.close()
            ended()

        self._receiving = asyncio.create_task(run(), name="keeper")

    async def close(self) -> None:
        """Let go of it; it goes on as long as it has processes."""
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.wait({self._receiving})
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def find(state: Path, configure: Configure) -> list[KeeperLink]:
    """Every keeper of this worker that is still there."""
    links = []
    for name in sorted(await asyncio.to_thread(lambda: list(state.glob(_PATTERN)))):
        link = await _connect(state, name.name, configure)
        if link is None:
            name.unlink(missing_ok=True)
        else:
            links.append(link)
    return links


async def launch(state: Path, folder: Path, configure: Configure) -> KeeperLink:
    """Start a keeper that has its sockets in `state` and its records in `folder`.

    Raises `OSError` when it does not come up; its log says why.
    """
    name = f"keeper-{uuid.uuid4().hex[:12]}.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        with _opened(state) as directory:
            listening.bind(socket_address(directory, name))
        listening.listen()
        _start(state, folder, name, listening.fileno())
    link = await _connect(state, name, configure)
    if link is None:
        raise OSError(0, f"its keeper did not start, see {state / 'keeper.log'}")
    log.info("keeper.started", socket=name)
    return link


def _start(state: Path, folder: Path, name: str, listening: int) -> None:
    path = state / "keeper.log"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES:
            flags |= os.O_TRUNC
    output = os.open(path, flags, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", SERVER, folder, state / name, str(listening)],
            env={"PATH": SEARCH_PATH, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(listening,),
            start_new_session=True,
        )
    finally:
        os.close(output)
    process.returncode = 0  # it is to outlive this process: nobody waits for it here


async def _connect(state: Path, name: str, configure: Configure) -> KeeperLink | None:
    try:
        with _opened(state) as directory:
            reader, writer = await asyncio.open_unix_connection(socket_address(directory, name))
    except OSError:
        return None
    incoming = Incoming(reader, to_runner)
    send(writer, configure)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            said = await incoming.next()
    except TimeoutError:
        said = None
    if isinstance(said, State):
        return KeeperLink(incoming, writer, said)
    writer.close()
    return None


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
