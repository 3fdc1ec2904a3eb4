"""`roundsman archive`: look at an archive, make it small, and take files out of it."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from roundsman.archive import adopting, checking, exporting
from roundsman.archive.adopted import AdoptedPath
from roundsman.clock import SystemClock
from roundsman.errors import ConflictError

_LAYOUTS: Final = {
    "oxidized": ("{device}", "{group}/{device}"),
    "rancid": ("configs/{device}", "{group}/configs/{device}"),
    "roundsman": (),
}
_COMMIT: Final = re.compile(r"[0-9a-f]{7,40}")

_REPOSITORY = click.argument("repository", type=click.Path(path_type=Path))


class ArchiveDamagedError(ConflictError):
    """Something in the archive is not as it should be."""

    code = "archive.damaged"


@click.group()
def command() -> None:
    """The archive, from outside. REPOSITORY is the folder archive.git in the data folder."""


@command.command()
@_REPOSITORY
def verify(repository: Path) -> None:
    """Read every byte of REPOSITORY, and say what is damaged.

    Looks at git's objects, at contents kept beside git, and at pointers to what is not there. Works
    beside a running controller.
    """
    found = 0
    for complaint in checking.complaints(checking.open_repository(repository)):
        found += 1
        click.echo(complaint)
    if found:
        raise ArchiveDamagedError(
            f"{repository}: {found} things are wrong, named above",
            remedy="a controller sets a damaged repository aside and rebuilds it",
        )
    click.echo(f"{repository}: good")


@command.command()
@_REPOSITORY
def stats(repository: Path) -> None:
    """Say what REPOSITORY holds, and how large it is. Works beside a running controller."""
    found = checking.statistics(checking.open_repository(repository))
    for name, value in (
        ("branch", f"{found.branch.removeprefix('refs/heads/')} at {found.tip or 'no commit'}"),
        ("files", f"{found.files:,}"),
        ("versions", f"{found.versions:,}"),
        ("commits", f"{found.commits:,}"),
        ("beside git", f"{found.large:,} of {found.large_bytes:,} bytes"),
        ("on disk", f"{found.bytes:,} bytes"),
        ("packs", f"{found.packs:,}, and {found.loose:,} loose objects"),
    ):
        click.echo(f"{name:12} {value}")


@command.command()
@_REPOSITORY
def compact(repository: Path) -> None:
    """Write REPOSITORY anew as one pack, as small as git makes it.

    A running controller does so by itself, bit by bit; beside it this is refused.
    """
    git = checking.open_repository(repository)
    before = checking.statistics(git).bytes
    checking.compact(git)
    click.echo(f"{before:,} bytes before, {checking.statistics(git).bytes:,} now")


@command.command()
@_REPOSITORY
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--at", help="As of this time, ISO 8601; UTC unless it says otherwise.")
@click.option("--commit", help="As of this commit: its id, or at least 7 digits of it.")
def export(repository: Path, folder: Path, at: str | None, commit: str | None) -> None:
    """Write the latest files of REPOSITORY into FOLDER, which must not be there yet.

    What is kept beside git is written as itself. Links and submodules, which others may have
    pushed, are left out. Works beside a running controller.
    """
    git = checking.open_repository(repository)
    if commit is not None and at is not None:
        raise click.UsageError("--at and --commit exclude each other")
    if commit is not None:
        if not _COMMIT.fullmatch(commit):
            raise click.BadParameter("expected 7 to 40 hexadecimal digits", param_hint="--commit")
        chosen = exporting.commit_named(git, commit)
    else:
        chosen = exporting.commit_at(git, None if at is None else _seconds(at))
    for omission in exporting.export(git, chosen, folder):
        click.echo(f"left out: {omission}", err=True)
    click.echo(f"{folder}: the files of {chosen.hex()}")


@command.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("repository", type=click.Path(path_type=Path))
@click.option(
    "--layout",
    "layouts",
    multiple=True,
    default=("roundsman",),
    help="`roundsman` (the default), `oxidized`, `rancid`, or a template of your own such as "
    "`{group}/{device}`; several are tried in order.",
)
@click.option("--job", help="The job whose results they are, where the layout has no {job}.")
@click.option("--dry-run", is_flag=True, help="Only say which file would be whose.")
def adopt(
    sources: tuple[Path, ...],
    repository: Path,
    layouts: tuple[str, ...],
    job: str | None,
    dry_run: bool,
) -> None:
    """Make the archive REPOSITORY, not there yet, of the git repositories SOURCES.

    Their history comes over as it is. When a controller starts on it, files that are results move
    to where its paths say, in one commit; others stay. SOURCES are not changed.
    """
    templates = [path for layout in layouts for path in _LAYOUTS.get(layout, (layout,))]
    paths = [AdoptedPath(path, None if "{job}" in path else job).check() for path in templates]
    mapped = [*adopting.survey(sources, paths)]
    if dry_run:
        for item in mapped:
            owner = "stays" if item.pair is None else "{1} on {0}".format(*item.pair)
            click.echo(f"{item.path}: {owner}")
        for clash in adopting.clashes(mapped):
            click.echo(f"cannot be adopted: {clash}")
    else:
        adopting.adopt(sources, repository, paths, now=SystemClock().now())
    results = sum(item.pair is not None for item in mapped)
    click.echo(f"{results:,} results, {len(mapped) - results:,} other files")


def _seconds(text: str) -> float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            "expected a time such as 2026-03-01T12:00:00Z", param_hint="--at"
        ) from None
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
