"""One session from a terminal: the worker's own runner, without a controller."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import click
from rich.console import Console
from rich.text import Text

from roundsman.clock import SystemClock
from roundsman.config.secrets import Secrets
from roundsman.secret import Secret
from roundsman.wire.device import Device
from roundsman.wire.execution import Execution
from roundsman.worker import running
from roundsman.worker.runners.device import SessionRunner
from roundsman.worker.runners.interface import ResultFile
from roundsman.worker.running import Ending
from roundsman.worker.sessions.events import Came, Connected, Event, Hear, Sent
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.sessions.terminal import LineRenderer
from roundsman.worker.settings import HostKeyPolicy

KNOWN_HOSTS: Final = Path(click.get_app_dir("roundsman")) / "known_hosts"
MASK: Final = "********"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How one session ended."""

    ending: Ending
    result: BinaryIO
    """What it brought; empty when it failed."""
    recording: str | None


@contextlib.contextmanager
def attempt(
    execution: Execution, *, known_hosts: Path, hear: Hear, recorded: bool
) -> Iterator[Attempt]:
    """Carry it out; `hear` is told what happens. Keys seen first are pinned in `known_hosts`."""
    known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = HostKeyStore(known_hosts, HostKeyPolicy.TRUST_ON_FIRST_USE)
    runner = SessionRunner(store, hear=hear, whole_tapes=recorded)
    with (
        contextlib.closing(runner),
        tempfile.TemporaryDirectory(prefix="roundsman-") as folder,
        (Path(folder) / "result").open("w+b") as file,
    ):
        result = ResultFile(file, max_bytes=execution.job.max_bytes, scratch_folder=Path(folder))
        ending = asyncio.run(running.run(runner, execution, result, SystemClock()))
        if ending.failure is not None:
            result.clear()
        file.seek(0)
        yield Attempt(ending=ending, result=file, recording=result.recording)


def secret_by_reference(name: str, reference: str) -> Secret:
    """The secret that `env:NAME` or `file:PATH` stands for, given as the option of that name."""
    if not reference.startswith(("env:", "file:")):
        raise click.BadParameter(
            f"{name}: give a reference, env:NAME or file:PATH, never the secret itself"
        )
    try:
        return Secrets(os.environ, Path.cwd()).fetch(reference)
    except ValueError as error:
        raise click.BadParameter(f"{name}: {error}") from None


def secrets_of(device: Device) -> list[str]:
    """Everything in a device's credentials that must not be shown, longest first."""
    secrets = {
        secret.reveal()
        for host in (device, *device.jump_hosts)
        for known in host.all_credentials
        for secret in (known.password, known.passphrase, known.enable)
        if secret
    }
    return sorted(secrets, key=len, reverse=True)


class LiveTranscript:
    """Shows what a device says as it comes, in whole lines, without the credentials."""

    def __init__(self, console: Console, secrets: list[str]) -> None:
        """Show it there."""
        self._console = console
        self._secrets = secrets
        self._screen = LineRenderer()

    def hear(self, event: Event) -> None:
        """Take what comes next."""
        match event:
            case Connected(where=where, host_key=host_key):
                key = f", host key {host_key}" if host_key else ""
                text = f"connected to {where}{key}"
                self._console.print(text, style="bold", highlight=False, soft_wrap=True)
            case Came(data=data):
                for line in self._screen.feed(data).split(b"\n")[:-1]:
                    self._show(line)
            case Sent():
                pass
            case _:
                pass

    def end(self) -> None:
        """Show the line that was not ended."""
        if self._screen.line:
            self._show(self._screen.line)

    def _show(self, line: bytes) -> None:
        self._console.print(Text(readable(line, self._secrets)), style="dim", soft_wrap=True)


def readable(data: bytes, secrets: list[str]) -> str:
    """A line for a terminal: printable, without credentials."""
    text = data.decode("utf-8", "replace")
    for secret in secrets:
        text = text.replace(secret, MASK)
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def show_ending(console: Console, ending: Ending, size: int, *, is_proven: bool = True) -> None:
    """Say how it ended, what looks like a secret in it, and what can be done.

    `is_proven` is false of what netmiko read: it takes a pattern for the end of an output.
    """
    for found in ending.detected_secrets:
        console.print(
            f"looks like a secret: {found.detector}, {found.count} in all, first on line "
            f"{found.line}",
            style="yellow",
            highlight=False,
        )
    if ending.failure is None and is_proven:
        console.print(f"proven whole: {size} bytes", style="bold green", highlight=False)
    elif ending.failure is None:
        less = f"whole as far as netmiko can tell: {size} bytes"
        console.print(less, style="bold yellow", highlight=False)
    else:
        text = Text(f"failed: {ending.failure_class or 'other'}: ", style="bold red")
        console.print(text + Text(ending.failure, style="not bold"), soft_wrap=True)
