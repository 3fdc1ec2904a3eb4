"""`roundsman exec --on tag=dallas -- command …`: one command on many workers, watched live."""

import asyncio
import sys
from pathlib import Path
from typing import Final

import click

LOCAL: Final = "http://127.0.0.1:9400"


@click.command()
@click.option(
    "--on",
    required=True,
    help="Which workers: tag=…, name=…, all, with not, and, or, and parentheses.",
)
@click.option("--controller", default=LOCAL, show_default=True, help="Address of the controller.")
@click.option("--token", help="An administrator's token, by reference: env:NAME or file:PATH.")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    help="PEM file of the authority that signed the controller's certificate.",
)
@click.option(
    "--width",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="On so many workers at once.",
)
@click.option(
    "--stop-above",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Failed on more than this share of all workers, no further one is given it.",
)
@click.option(
    "--time-to-live",
    type=click.FloatRange(0.1, 604_800),
    default=30.0,
    show_default=True,
    help="Seconds that a worker whose turn has come may be away.",
)
@click.option("--timeout", type=click.FloatRange(0.1), help="Seconds that it may run on a worker.")
@click.option(
    "--env",
    "environment",
    multiple=True,
    metavar="NAME=VALUE",
    help="A variable; may be given several times.",
)
@click.option(
    "--stdin",
    "with_input",
    is_flag=True,
    help="Have each read what comes on standard input, up to 256 KiB.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write JSON lines: each piece of output, at the end the report.",
)
@click.argument("command_line", nargs=-1, required=True, metavar="-- COMMAND [ARGUMENT]...")
def command(  # noqa: PLR0917 - one parameter for each option, passed by name
    on: str,
    controller: str,
    token: str | None,
    ca_file: Path | None,
    width: int,
    stop_above: float,
    time_to_live: float,
    timeout: float | None,
    environment: tuple[str, ...],
    with_input: bool,
    as_json: bool,
    command_line: tuple[str, ...],
) -> None:
    """Run COMMAND on workers, show what it writes side by side, and how it ended on each.

    COMMAND is a name of the workers' policies; its first argument, unless it begins with a dash, is
    taken for a script where the policy says so. Each line bears its worker's name.

    Ctrl-C ends it on all workers; a second one leaves at once, and the stop goes on by itself.

    Exit status: 0, it succeeded on every worker; 1, it did not; 130, stopped by Ctrl-C.
    """
    from roundsman import logs
    from roundsman.cli.attempt import secret_by_reference
    from roundsman.cli.execution import Execution, request_of
    from roundsman.cli.side_by_side import JsonLines, SideBySide

    logs.configure(level="error")
    request = request_of(
        command_line,
        on=on,
        width=width,
        stop_above=stop_above,
        time_to_live=time_to_live,
        wall_seconds=timeout,
        environment=environment,
        standard_input=sys.stdin.buffer.read() if with_input else b"",
    )
    execution = Execution(
        request,
        controller=controller,
        token=secret_by_reference("--token", token) if token is not None else None,
        ca_file=ca_file,
        shown=JsonLines(sys.stdout) if as_json else SideBySide(sys.stdout, sys.stderr),
    )
    sys.exit(asyncio.run(execution.run()))
