"""`roundsman token NAME`: a new credential for the controller."""

import click

from roundsman.config.records import Role
from roundsman.controller.access import new_token


@click.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.ADMINISTRATOR.value,
    show_default=True,
    help="What its bearer may do.",
)
def command(name: str, role: str) -> None:
    """Make a token for NAME: 256 random bits, shown once, and the entry that makes it known.

    The token goes to standard output alone, so that it can be redirected into a file; the entry,
    which holds only its hash, goes to standard error.
    """
    made = new_token()
    click.echo(made.token.reveal())
    click.echo(
        "Put this into the configuration; the token itself is not kept anywhere:\n\n"
        "controller:\n"
        "  tokens:\n"
        f"    - name: {name}\n"
        f"      role: {role}\n"
        f"      hash: {made.hash}",
        err=True,
    )
