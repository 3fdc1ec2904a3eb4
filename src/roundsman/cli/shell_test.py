"""`roundsman shell-test HOST`: one session step by step, for the person who writes a platform."""

import sys

import click

from roundsman.cli.target import Target, target_options


@click.command("shell-test")
@target_options(host_needed=True)
def command(target: Target) -> None:
    """Log in to HOST, run commands, and show each step: what was asked, learned, proven, filtered.

    Nothing is kept. With a platform its standard job backup is run unless commands are given;
    without one, say which. At a failure the last lines are shown, with the pattern that came
    nearest, and what the platform file may lack. Of lines with secrets only the hidden form is
    shown. Exit status: 0, proven whole; 1, failed.
    """
    from rich.console import Console

    from roundsman.cli.attempt import KNOWN_HOSTS, attempt, secrets_of, show_ending
    from roundsman.cli.filtering import show_filters
    from roundsman.cli.steps import Steps
    from roundsman.wire.job import DetectedSecrets
    from roundsman.worker.sessions.host_keys import HostKeyStore
    from roundsman.worker.settings import HostKeyPolicy

    platform = target.find_platform()
    execution = target.execution(platform, (), DetectedSecrets.IGNORE)
    console = Console()
    known = platform.file.name if platform is not None else "no platform"
    console.print(f"{target.host} as {known}\n", style="bold", highlight=False)
    device, known_hosts = execution.device, target.known_hosts or KNOWN_HOSTS
    pinned = HostKeyStore(known_hosts, HostKeyPolicy.TRUST_ON_FIRST_USE).known(
        device.host, device.protocol.ssh.port, ()
    )
    steps = Steps(console, device.platform, secrets_of(device), known_before=bool(pinned))
    with attempt(
        execution,
        known_hosts=known_hosts,
        hear=steps.hear,
        recorded=False,
    ) as made:
        if made.ending.failure is not None:
            steps.show_failure()
            console.print()
            show_ending(console, made.ending, 0)
            sys.exit(1)
        whole = made.result.read()
        show_filters(console, platform, execution.job, whole)
        show_ending(console, made.ending, len(whole))
