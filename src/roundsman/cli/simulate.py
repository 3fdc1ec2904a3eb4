"""`roundsman simulate`: devices played from files, to try a platform or a job on."""

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from roundsman.simulator.server import DialogueServer


@click.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
@click.option("--protocol", type=click.Choice(["ssh", "telnet"]), default="ssh", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the first; then upward.")
@click.option("--host", default="router", show_default=True, help="A state machine's own name.")
@click.option("--state", help="A state machine's first state. Default: the first in the file.")
@click.option("--user", help="Who is let in, with --password. Default: everybody, unasked.")
@click.option("--password", default="", help="What that user has to give.")
@click.option("--latency", type=float, default=0, help="Seconds before each answer.")
@click.option("--piece-bytes", type=click.IntRange(1), help="Write in pieces of so many bytes.")
@click.option("--piece-seconds", type=float, default=0, help="Seconds between two pieces.")
@click.option("--reset-after", type=int, help="Reset the connection after so many bytes.")
@click.option("--stall-after", type=int, help="Stop within an output after so many bytes.")
@click.option("--double-prompts", is_flag=True, help="Write each prompt twice.")
def command(  # noqa: PLR0917 - click passes them by name, one for each option
    files: tuple[Path, ...],
    protocol: str,
    port: int,
    host: str,
    state: str | None,
    user: str | None,
    password: str,
    latency: float,
    piece_bytes: int | None,
    piece_seconds: float,
    reset_after: int | None,
    stall_after: int | None,
    double_prompts: bool,
) -> None:
    """Play a device from each FILE, over SSH or Telnet, until Ctrl-C.

    A FILE holds a recorded dialogue, or a state machine (see `how-to/platforms`). Each device is
    given a port of the loopback interface; host:port and the file are printed, one line each.
    """
    from roundsman.simulator.faults import Faults
    from roundsman.simulator.played import read_dialogues
    from roundsman.simulator.server import DialogueServer, Login
    from roundsman.wire.device import ProtocolType

    faults = Faults(
        latency=latency,
        piece_bytes=piece_bytes,
        piece_seconds=piece_seconds,
        resets_after_bytes=reset_after,
        stalls_after_bytes=stall_after,
        doubles_prompt=double_prompts,
    )
    login = None if user is None else Login(user=user, password=password)
    servers = [
        DialogueServer(
            read_dialogues(file, host=host, state=state),
            protocol=ProtocolType(protocol),
            login=login,
            faults=faults,
            port=port + number if port else 0,
        )
        for number, file in enumerate(files)
    ]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(list(zip(files, servers, strict=True))))


async def _serve(played: "list[tuple[Path, DialogueServer]]") -> None:
    from roundsman.simulator.server import HOST

    async with contextlib.AsyncExitStack() as stack:
        for file, server in played:
            await stack.enter_async_context(server)
            click.echo(f"{HOST}:{server.port}  {file}")
        await asyncio.Event().wait()
