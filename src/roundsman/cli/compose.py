"""How the programs are put together: which drivers serve, and what is read from where."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from roundsman import logs
from roundsman.archive.git import GitArchive
from roundsman.clock import SystemClock
from roundsman.config.load import load
from roundsman.config.records import Configuration, LogFormat
from roundsman.controller.service import Controller
from roundsman.errors import RoundsmanError
from roundsman.ledger.drivers import open_configured

log = logs.get(__name__)

ARCHIVE_FOLDER = "archive.git"


def read_configuration(file: Path) -> Configuration:
    """Read a configuration file with this process' environment. Raises `ConfigurationError`."""
    return load(file, environ=os.environ)


def start_logging(configuration: Configuration) -> None:
    """Begin to log as configured, and say what the configuration's reader should know."""
    settings = configuration.controller.log
    logs.configure(level=settings.level, json=settings.format is LogFormat.JSON)
    for warning in configuration.warnings:
        log.warning("configuration.warning", text=warning)


async def build_controller(
    configuration: Configuration, read_again: Callable[[], Configuration]
) -> Controller:
    """A controller on the ledger that is configured and a local git repository.

    Its data folder is locked from here on. Raises `LedgerUnavailableError`, `DriverMissingError`.
    """
    data = configuration.controller.data
    ledger, clock = await open_configured(configuration.controller.ledger, data, SystemClock())
    return Controller(
        configuration,
        ledger=ledger,
        archive=GitArchive(
            data / ARCHIVE_FOLDER, clock, configuration.controller.archive, apart=True
        ),
        clock=clock,
        data=data,
        load=read_again,
    )


@contextmanager
def signals(handlers: dict[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Call these on the running event loop when the signals come."""
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


class Reloader:
    """Reloads a controller's configuration on request, one after another, and logs a refusal."""

    def __init__(self, controller: Controller) -> None:
        """Reload this one."""
        self._controller = controller
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self) -> None:
        """Reload soon; for a signal handler."""
        task = asyncio.get_running_loop().create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        try:
            await self._controller.reloading.reload()
        except RoundsmanError as error:
            log.warning("configuration.not_reloaded", code=error.code)
