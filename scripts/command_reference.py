"""The command line's reference page, made from what the commands say of themselves."""

import importlib
from collections.abc import Iterator

import click

from roundsman.cli.main import COMMANDS, module_of, program

HEAD = """\
# Command line reference

<!-- Made by scripts/generate_reference.py from the commands in roundsman.cli: do not edit. -->

Exit status: 0 done, 1 refused or failed with an explained error, 2 wrong usage. Errors go to
standard error as `code: what was expected and what was found; what to do`.
"""


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, max_content_width=96, terminal_width=96)
    return command.get_help(context)


def _pages() -> Iterator[str]:
    yield HEAD.rstrip("\n")
    yield f"\n## `roundsman`\n\n```text\n{_help(program, 'roundsman')}\n```"
    for name in COMMANDS:
        command = importlib.import_module(f"roundsman.cli.{module_of(name)}").command
        yield f"\n## `roundsman {name}`\n\n```text\n{_help(command, f'roundsman {name}')}\n```"
        for part, inner in getattr(command, "commands", {}).items():
            title = f"roundsman {name} {part}"
            yield f"\n### `{title}`\n\n```text\n{_help(inner, title)}\n```"


def command_line() -> str:
    """The whole page."""
    return "\n".join([*_pages(), ""])
