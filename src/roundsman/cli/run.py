"""`roundsman run DEVICE JOB`: one job at once, from the terminal, without a controller."""

import os
import shutil
import sys
from pathlib import Path

import click

from roundsman.errors import NotFoundError


class NoSuchSlotError(NotFoundError):
    """The configuration has no such device, or no such job on it."""

    code = "slot.not_found"


@click.command()
@click.argument("device")
@click.argument("job")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="roundsman.yaml",
    show_default=True,
    help="The configuration file, as the controller reads it.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write the result here, not to stdout."
)
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    help="Keep the session as a recorded dialogue, also when it fails; secrets are hidden.",
)
@click.option(
    "--known-hosts",
    type=click.Path(path_type=Path),
    help="File of pinned host keys; one of your own account unless set.",
)
def command(  # noqa: PLR0917 - one parameter for each option, passed by name
    device: str,
    job: str,
    config: Path,
    output: Path | None,
    save: Path | None,
    known_hosts: Path | None,
) -> None:
    """Run one JOB on one DEVICE now, in this process, and show what is said.

    The session is the worker's own: it proves, filters and looks for secrets as it always does.
    The transcript goes to standard error, with the credentials masked; the result goes to standard
    output or to a file. Exit status: 0, proven whole; 1, failed, with the failure's class.
    """
    from rich.console import Console

    from roundsman import logs
    from roundsman.cli.attempt import (
        KNOWN_HOSTS,
        LiveTranscript,
        attempt,
        secrets_of,
        show_ending,
    )
    from roundsman.clock import SystemClock
    from roundsman.config.load import load
    from roundsman.documents.problems import did_you_mean
    from roundsman.wire.execution import Execution

    logs.configure(level="warning")  # to standard error: the result is not to be mixed with them
    configuration = load(config, environ=os.environ)
    slot = configuration.slots.get((device, job))
    if slot is None:
        named = [known for name, known in configuration.slots if name == device]
        raise NoSuchSlotError(
            f"{config} has no job {job!r} on a device {device!r}",
            remedy=did_you_mean(job, named) or did_you_mean(device, list(configuration.devices)),
        )
    console = Console(stderr=True)
    live = LiveTranscript(console, secrets_of(slot.device))
    execution = Execution(device=slot.device, job=slot.job, timestamp=int(SystemClock().now()))
    with attempt(
        execution, known_hosts=known_hosts or KNOWN_HOSTS, hear=live.hear, recorded=save is not None
    ) as made:
        live.end()
        size = os.fstat(made.result.fileno()).st_size
        show_ending(console, made.ending, size, is_proven=slot.device.netmiko is None)
        if save is not None and made.recording is not None:
            save.write_text(made.recording, "utf-8")
            console.print(f"recorded in {save}", highlight=False)
        if made.ending.failure is not None:
            sys.exit(1)
        if output is None:
            shutil.copyfileobj(made.result, sys.stdout.buffer)
        else:
            with output.open("wb") as file:
                shutil.copyfileobj(made.result, file)
