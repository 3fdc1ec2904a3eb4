"""`roundsman worker`: leases work from a controller and does it, inside a network segment."""

import asyncio
import os
from pathlib import Path

import click

from roundsman import logs
from roundsman.worker.service import WorkerService, run_until_signalled
from roundsman.worker.settings_file import load

log = logs.get(__name__)


def _reference_only(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A token itself would be seen by everybody who lists this machine's processes."""
    if value is not None and not value.startswith(("env:", "file:")):
        raise click.BadParameter("give a reference, env:NAME or file:PATH, never the token itself")
    return value


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--controller",
    "controllers",
    multiple=True,
    help="Address of the controller, such as https://host:9400; may be repeated.",
)
@click.option(
    "--token",
    callback=_reference_only,
    help="Token for enrolment, by reference: env:NAME or file:PATH.",
)
@click.option("--name", help="Name for people; the host name unless set.")
@click.option("--state", type=click.Path(path_type=Path), help="Folder of what this worker keeps.")
@click.option("--tag", "tags", multiple=True, help="Serve devices with this tag; may be repeated.")
@click.option("--log-level", default="info", show_default=True, help="debug, info, warning, error.")
@click.option("--log-json", is_flag=True, help="Write each event as one JSON object.")
def command(  # noqa: PLR0917 - one parameter for each option, passed by name
    file: Path | None,
    controllers: tuple[str, ...],
    token: str | None,
    name: str | None,
    state: Path | None,
    tags: tuple[str, ...],
    log_level: str,
    log_json: bool,
) -> None:
    """Run a worker, told by its settings FILE, by options, or by both; options win.

    It only ever dials out. The first SIGTERM or SIGINT finishes what runs and hands it over, a
    second one ends at once; nothing that has ended is lost by either.
    """
    given = {
        "controller": list(controllers) or None,
        "token": token,
        "name": name,
        "state": state,
        "tags": list(tags) or None,
    }
    loaded = load(file, given=given, environ=os.environ)
    logs.configure(level=log_level, json=log_json)
    for warning in loaded.warnings:
        log.warning("configuration.warning", text=warning)
    asyncio.run(run_until_signalled(WorkerService(loaded.settings)))
