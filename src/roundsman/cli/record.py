"""`roundsman record HOST`: a session as a recorded dialogue, its secrets hidden."""

import sys
from pathlib import Path

import click

from roundsman.cli.target import Target, target_options


@click.command()
@target_options(host_needed=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write; NAME#anything#simulation.yaml beside NAME.yaml is found by platform test.",
)
def command(target: Target, output: Path) -> None:
    """Log in to HOST, run commands, and write what was said as a recorded dialogue.

    Credentials, what the platform's filters hide and what looks like a secret are hidden; host
    names and addresses are not. `roundsman platform test` plays the file to the session engine. A
    session that fails is recorded as far as it went. Exit status: 0, proven whole; 1, failed.
    """
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
