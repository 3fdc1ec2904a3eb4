"""`roundsman check FILE`: is this configuration good?"""

import os
from pathlib import Path

import click

from roundsman.config.load import load


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Say everything that is wrong with a configuration FILE (.yaml, .yml, .json or .toml).

    Nothing is started and nothing is written. The secrets that the file refers to must be there.
    """
    configuration = load(file, environ=os.environ)
    for warning in configuration.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"{file}: good: {len(configuration.devices)} devices, {len(configuration.jobs)} jobs, "
        f"{len(configuration.slots)} slots"
    )
