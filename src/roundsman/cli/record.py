"""`roundsman record HOST`: a session as a recorded dialogue, its secrets hidden."""

import asyncio
import sys
from pathlib import Path

import click

from roundsman.cli.target import Target, target_options
from roundsman.errors import InvalidError


class RecordingUnreadableError(InvalidError):
    """What the controller keeps is no recording."""

    code = "recording.unreadable"


@click.command()
@target_options(host_needed=False)
@click.option(
    "--run", "run_id", help="Instead of HOST: a failed run, of which the controller has it."
)
@click.option("--controller", help="With --run: address of the controller.")
@click.option("--token", help="With --run: a reader's token, by reference: env:NAME or file:PATH.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write; NAME#anything#simulation.yaml beside NAME.yaml is found by platform test.",
)
def command(
    target: Target,
    run_id: str | None,
    controller: str | None,
    token: str | None,
    output: Path,
) -> None:
    """Log in to HOST, run commands, and write what was said as a recorded dialogue.

    Credentials, what the platform's filters hide and what looks like a secret are hidden; host
    names and addresses are not. `roundsman platform test` plays the file to the session engine. A
    session that fails is recorded as far as it went. Exit status: 0, proven whole; 1, failed.

    With --run the session of a failed run is written instead, as its worker recorded it: its
    beginning and its end.
    """
    if (run_id is None) == (target.host is None):
        raise click.UsageError("give either HOST or --run")
    if run_id is None:
        _record(target, output)
    elif controller is None:
        raise click.UsageError("--run needs --controller")
    else:
        output.write_text(asyncio.run(_fetch(run_id, controller, token)), "utf-8")
        click.echo(f"recorded in {output}", err=True)


async def _fetch(run_id: str, controller: str, token: str | None) -> str:
    """The recording that the controller keeps of a run."""
    from roundsman.cli.attempt import secret_by_reference
    from roundsman.client import ControllerClient
    from roundsman.worker.recording import unpack

    secret = secret_by_reference("--token", token) if token is not None else None
    async with ControllerClient(controller, token=secret) as client:
        data = await client.manage.recording(run_id)
    try:
        return unpack(data)
    except ValueError as error:
        raise RecordingUnreadableError(f"the recording of run {run_id}: {error}") from None


def _record(target: Target, output: Path) -> None:
    """Log in and record."""
    from rich.console import Console

    from roundsman.cli.attempt import (
        KNOWN_HOSTS,
        LiveTranscript,
        attempt,
        secrets_of,
        show_ending,
    )
    from roundsman.wire.job import DetectedSecrets

    platform = target.find_platform()
    secrets = platform.secrets if platform is not None else ()
    execution = target.execution(platform, secrets, DetectedSecrets.REPORT)
    console = Console(stderr=True)
    live = LiveTranscript(console, secrets_of(execution.device))
    with attempt(
        execution, known_hosts=target.known_hosts or KNOWN_HOSTS, hear=live.hear, recorded=True
    ) as made:
        live.end()
        if made.recording is not None:
            output.write_text(made.recording, "utf-8")
            console.print(f"recorded in {output}", highlight=False)
        show_ending(console, made.ending, len(made.result.read()))
        if made.ending.failure is not None:
            sys.exit(1)
