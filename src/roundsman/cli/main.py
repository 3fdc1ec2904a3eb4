"""The program `roundsman`: finds the command that was asked for and runs it.

A command's module is imported only when it is asked for, so that `roundsman --version` does not
pay for the controller's libraries.
"""

import importlib
import sys
from typing import Final, cast

import click

from roundsman import __version__
from roundsman.errors import RoundsmanError

COMMANDS: Final = {
    "up": "Run a controller and one worker together, for a small site.",
    "controller": "Run a controller.",
    "worker": "Run a worker.",
    "exec": "Run a command on workers, side by side and live.",
    "run": "Run one job on one device now, without a controller.",
    "shell-test": "Log in to a device and show each step, for writing a platform.",
    "record": "Write a session with a device as a recorded dialogue.",
    "platform": "List, show and test platforms: what is known of devices' operating systems.",
    "simulate": "Play devices from recorded dialogues and state machines.",
    "check": "Say everything that is wrong with a configuration file.",
    "archive": "Check, measure, compact, thin, export and begin the archive.",
    "ledger": "Bring the ledger to the schema of this release.",
    "token": "Make a token and the hash that goes into the configuration.",
    "demo": "Show the whole of it on a simulated fleet.",
}
"""Command to its one-line help. Each lives in the module of its name beside this one."""


def module_of(command: str) -> str:
    """The module that a command lives in."""
    return command.replace("-", "_")


class _CommandsOnDemand(click.Group):
    """Commands whose modules are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which help shows them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and take its `command` from it."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"roundsman.cli.{module_of(cmd_name)}")
        return cast("click.Command", module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table above, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_CommandsOnDemand, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="roundsman %(version)s")
def program() -> None:
    """Make the rounds of a network: back up devices into git, run commands on workers."""


def main() -> None:
    """Run the program; the one place where errors become text on a terminal and an exit status.

    Exit status: 0 done, 1 refused or failed with an explained error, 2 wrong usage.
    """
    try:
        program()
    except RoundsmanError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
