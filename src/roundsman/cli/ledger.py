"""`roundsman ledger`: what is done to the ledger beside serving from it."""

import asyncio
from pathlib import Path

import click

from roundsman.cli.compose import read_configuration
from roundsman.clock import SystemClock
from roundsman.ledger.drivers import migrate_configured


@click.group()
def command() -> None:
    """Look after the ledger, the database of slots, leases and runs."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
def migrate(file: Path) -> None:
    """Bring the ledger that the configuration FILE names to the schema of this release.

    A controller does the same when it starts. Of several that do it at once, one works and the
    others wait for it. There is no way back but a backup.
    """
    settings = read_configuration(file).controller
    version = asyncio.run(migrate_configured(settings.ledger, settings.data, SystemClock()))
    click.echo(f"The ledger has schema {version}.")
