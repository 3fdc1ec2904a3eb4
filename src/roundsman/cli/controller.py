"""`roundsman controller FILE`: knows the devices and the jobs, serves workers and people."""

import asyncio
import ctypes
import gc
import signal
from pathlib import Path

import click

from roundsman.cli.compose import (
    Reloader,
    build_controller,
    read_configuration,
    signals,
    start_logging,
)
from roundsman.controller.server import serve


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Run a controller with the configuration FILE.

    SIGTERM or SIGINT stops it once it has answered what it is answering; SIGHUP reads the
    configuration again, and a bad one leaves the old one in force.
    """
    asyncio.run(run(file))


async def run(file: Path) -> None:
    """Serve until told to stop. Raises `ConfigurationError`, `ServerError`, `UnavailableError`."""
    configuration = read_configuration(file)
    start_logging(configuration)
    controller = await build_controller(configuration, lambda: read_configuration(file))
    stop = asyncio.Event()
    handlers = {
        signal.SIGTERM: stop.set,
        signal.SIGINT: stop.set,
        signal.SIGHUP: Reloader(controller).request,
    }
    with signals(handlers):
        await serve(controller, stop=stop, ready=_ready)


def _ready(url: str) -> None:
    _settle()
    click.echo(f"Serving on {url}")


def _settle() -> None:
    """Give back what reading the configuration took, and keep the collector off what stands now.

    To go through a large fleet takes it as long as a second, again and again.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
