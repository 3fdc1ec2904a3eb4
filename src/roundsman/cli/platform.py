"""`roundsman platform`: which platforms there are, what one says, and whether a file is good."""

import asyncio
import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from roundsman.errors import RoundsmanError

if TYPE_CHECKING:
    from roundsman.platforms.load import Platform
    from roundsman.simulator.replay import Replayed


class PlatformTestError(RoundsmanError):
    """A recorded dialogue is not read as it should be."""

    code = "platform.test_failed"


@click.group()
def command() -> None:
    """Platforms: what is known of the operating systems of devices."""


@command.command("list")
@click.argument("text", default="")
def list_(text: str) -> None:
    """List platforms whose names or descriptions hold TEXT.

    Name, how its facts are known, what it is, and its other names.
    """
    from roundsman.platforms import load

    for name in load.own_names():
        file = load.by_name(name).file
        line = f"{name:24} {file.verified:11} {file.description}"
        if file.names:
            line += f" ({', '.join(file.names)})"
        if text.lower() in line.lower():
            click.echo(line)


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Show the file of the platform NAME; it may begin one of your own.

    NAME may also be an alias, or the path of a file.
    """
    from roundsman.platforms import load

    click.echo(load.find(name, Path()).path.read_text("utf-8"), nl=False)


@command.command()
@click.argument("file")
@click.argument("dialogues", nargs=-1, type=click.Path(path_type=Path, exists=True))
def test(file: str, dialogues: tuple[Path, ...]) -> None:
    """Say everything that is wrong with a platform FILE, and try it on recorded DIALOGUES.

    FILE may also be the name of a platform. Without DIALOGUES those beside FILE are taken:
    NAME#*simulation.yaml, where NAME is the platform's. Each is read by the session engine, from
    login to the end of each standard job, and what the filters change is shown: what they hide
    is shown, too.
    """
    from roundsman.platforms import load

    platform = load.find(file, Path())
    known = platform.file
    click.echo(
        f"{platform.path}: good: {len(known.prompts)} prompts, {len(platform.noise)} noise and "
        f"{len(platform.secrets)} secret filters, standard jobs: {', '.join(known.standard) or '-'}"
    )
    beside = sorted(platform.path.parent.glob(f"{known.name}#*simulation.yaml"))
    failed = [path for path in dialogues or beside if not _try(platform, path)]
    if failed:
        raise PlatformTestError(
            f"{len(failed)} of {len(dialogues or beside)} dialogues are not read as they should be"
        )


def _try(platform: "Platform", path: Path) -> bool:
    """Replay one dialogue and say what came of it; whether all was well."""
    from roundsman.simulator.recorded import read_recording
    from roundsman.simulator.replay import replay

    recording = read_recording(path)
    good = True
    for name, commands in platform.standard.items():
        click.echo(f"\n{path.name}: {name}")
        try:
            came = asyncio.run(replay(recording, platform.session, commands))
        except TimeoutError:
            click.echo("  failed: no prompt of the platform came, or it did not come again")
            good = False
            continue
        except RoundsmanError as error:
            click.echo(f"  failed: {error}")
            good = False
            continue
        for one in came:
            verdict, well = _verdict(one)
            click.echo(f"  {'  ' if well else '! '}{one.command.command}: {verdict}")
            good = good and well
        for line in _changes(platform, came):
            click.echo(f"  {line}")
    return good


def _verdict(one: "Replayed") -> tuple[str, bool]:
    """What is to be said of one command, and whether it is well."""
    if one.text is None:
        return "not in this dialogue", True
    if one.complaint is not None:
        return f"rejected: its answer matches {one.complaint!r}", one.command.optional
    verdict = f"{one.text.count(bytes([10]))} lines"
    if one.command.end is None:
        return verdict, True
    whole = re.search(rf"(?m)(?:{one.command.end})\s*\Z", one.text.decode("utf-8", "replace"))
    return verdict + ("" if whole else f", not ending with {one.command.end!r}"), whole is not None


def _changes(platform: "Platform", came: "list[Replayed]") -> Iterator[str]:
    """The lines that the filters change, before and after."""
    from roundsman.worker.scrubbers import Scrubbers

    raw = b"".join(one.text for one in came if one.text is not None and one.complaint is None)
    kept = b"".join(Scrubbers([*platform.noise, *platform.secrets]).apply([raw]))
    before, after = (text.decode("utf-8", "replace").splitlines() for text in (raw, kept))
    for line in difflib.unified_diff(before, after, lineterm="", n=0):
        if not line.startswith(("---", "+++", "@@")):
            yield line
