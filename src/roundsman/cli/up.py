"""`roundsman up FILE`: a controller and one worker together, for a small site."""

import asyncio
import contextlib
import os
import platform
import signal
from pathlib import Path
from typing import Any

import click
import msgspec

from roundsman import logs
from roundsman.cli.compose import (
    Reloader,
    build_controller,
    read_configuration,
    signals,
    start_logging,
)
from roundsman.config.records import Configuration, Role, Token
from roundsman.controller.access import NewToken, new_token
from roundsman.controller.server import serve
from roundsman.secret import Secret
from roundsman.worker.service import WorkerService
from roundsman.worker.settings import WorkerSettings

log = logs.get(__name__)

POLICY = """\
# What may be started on this worker: scripts of one folder, by these. No controller can change it.
on_stop: stop
commands:
  bash: {scripts: scripts}
  sh: {scripts: scripts}
  python3: {scripts: scripts}
"""
"""Of the worker of `up`, until somebody writes another."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--url",
    help="Address under which the worker reaches the controller, where it differs from the one "
    "it listens on: with TLS, one that the certificate names.",
)
def command(file: Path, url: str | None) -> None:
    """Run a controller and one worker together, with the configuration FILE.

    Everything is kept in the data folder that FILE names: the ledger (SQLite), the archive (git),
    the worker's state in `worker/`, the scripts that may be started on it in `scripts/`, and its
    policy in `policy.yaml`, which is written once and then yours.

    The first SIGTERM or SIGINT finishes what runs, a second one ends at once; SIGHUP reads the
    configuration again, and a bad one leaves the old one in force.
    """
    asyncio.run(_Site(file, url).run())


class _Site:
    """A controller and its worker, from start to end."""

    def __init__(self, file: Path, url: str | None) -> None:
        self._file = file
        self._url = url
        self._made = new_token()
        self._stop_serving = asyncio.Event()
        self._worker: WorkerService | None = None
        self._signalled = False

    async def run(self) -> None:
        """Serve until told to stop, or until one of the two cannot go on."""
        configuration = self._read()
        start_logging(configuration)
        controller = await build_controller(configuration, self._read)
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        handlers = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: Reloader(controller).request,
        }
        with signals(handlers):
            serving = asyncio.create_task(
                serve(controller, stop=self._stop_serving, ready=listening.set_result)
            )
            either: set[asyncio.Future[Any]] = {serving, listening}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            try:
                if not serving.done():
                    await self._work(configuration, listening.result(), serving)
            finally:
                self._stop_serving.set()
                await serving

    def _read(self) -> Configuration:
        return _admit_worker(read_configuration(self._file), self._made)

    async def _work(
        self, configuration: Configuration, url: str, serving: "asyncio.Task[None]"
    ) -> None:
        token = self._made.token if configuration.controller.tokens else None
        worker = WorkerService(_worker_settings(configuration, self._url or url, token))
        working = asyncio.create_task(worker.run())
        self._worker = worker
        click.echo(f"Serving on {url}")
        if self._signalled:
            worker.stop()
        await asyncio.wait({serving, working}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            worker.cancel()
        await working

    def _on_stop(self) -> None:
        """First ask, then insist. Without a worker yet, the controller just stops."""
        if self._worker is None:
            self._stop_serving.set()
        elif self._signalled:
            self._worker.cancel()
        else:
            self._worker.stop()
        self._signalled = True


def _admit_worker(configuration: Configuration, made: NewToken) -> Configuration:
    """Let the worker beside the controller enrol, where anybody needs a token at all."""
    tokens = configuration.controller.tokens
    if not tokens:
        return configuration
    token = Token(name="up", role=Role.WORKER, hash=made.hash)
    settings = msgspec.structs.replace(configuration.controller, tokens=(*tokens, token))
    return msgspec.structs.replace(configuration, controller=settings)


def _worker_settings(
    configuration: Configuration, url: str, token: Secret | None
) -> WorkerSettings:
    data = configuration.controller.data
    (data / "scripts").mkdir(parents=True, exist_ok=True)
    policy = data / "policy.yaml"
    with contextlib.suppress(FileExistsError), policy.open("x") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(POLICY)
    tls = configuration.controller.listen.tls
    return WorkerSettings(
        controller=url,
        token=token,
        name=platform.node(),
        state=data / "worker",
        policy=policy,
        ca_file=tls.certificate if tls else None,
    )
