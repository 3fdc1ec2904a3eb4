"""`roundsman archive`: look at an archive, make it small, and take files out of it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final

import click

from roundsman.archive import adopting, checking, exporting, thinning
from roundsman.archive.adopted import AdoptedPath
from roundsman.archive.thinning_line import Fate
from roundsman.archive.thinning_policy import EXAMPLE, Policy
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
        chosen = [exporting.commit_named(git, commit)]
    else:
        chosen = exporting.commits_at(git, None if at is None else _seconds(at))
    for omission in exporting.export(git, chosen, folder):
        click.echo(f"left out: {omission}", err=True)
    click.echo(f"{folder}: the files of {', '.join(each.hex() for each in chosen)}")


@command.command()
@_REPOSITORY
@click.argument("new", required=False, type=click.Path(path_type=Path))
@click.option("--keep", "policy", required=True, help=f"Which versions stay, such as `{EXAMPLE}`.")
@click.option(
    "--replace",
    is_flag=True,
    help="Put the new repository in the place of the old one, which stays beside it as it is.",
)
@click.option("--dry-run", is_flag=True, help="Only say how many versions would stay.")
@click.option(
    "--report",
    type=click.File("x", encoding="utf-8", lazy=False),
    help="Write into this new file what became of each version, tab-separated: kept or dropped, "
    "device, job, time, commit, and the commit in the new repository.",
)
def thin(
    repository: Path,
    new: Path | None,
    *,
    policy: str,
    replace: bool,
    dry_run: bool,
    report: IO[str] | None,
) -> None:
    """Write REPOSITORY anew as NEW, without the versions that a policy by age drops.

    The first and the latest version of each result stay in any case. REPOSITORY is only read, as of
    the commit that its branch names at the beginning, so this works beside a running controller;
    with --replace it is refused beside one. Commits after the first version that goes have new
    ids, so NEW cannot be pushed to where REPOSITORY was pushed to.
    """
    if (new is None) != (replace or dry_run):
        raise click.UsageError("expected either NEW, --replace or --dry-run")
    source = checking.open_repository(repository)
    now = SystemClock().now()
    parsed = Policy.parse(policy, now)
    for line in parsed.said():
        click.echo(line)
    if dry_run:
        with TemporaryDirectory() as scratch:
            found = thinning.count(source, parsed, Path(scratch) / "versions.sqlite")
        click.echo(f"{found.kept:,} of {found.versions:,} versions of {found.results:,} results")
        return
    told = (lambda _: None) if report is None else _teller(report)
    if new is None:
        done = thinning.thin_and_replace(source, parsed, now=now, report=told)
    else:
        done = thinning.thin(source, new, parsed, now=now, report=told)
    for name, value in (
        ("read up to", done.tip),
        ("written up to", done.new_tip),
        ("versions", f"{done.versions_kept:,} of {done.versions:,} of {done.results:,} results"),
        ("commits", f"{done.commits_kept:,} of {done.commits:,}"),
        ("beside git", f"{done.contents_left:,} contents left out"),
        *(("left out", name) for name in done.references_left),
        *(() if done.kept_as is None else (("before", f"is kept as {done.kept_as}"),)),
    ):
        click.echo(f"{name:14} {value}")


def _teller(report: IO[str]) -> Callable[[Fate], None]:
    """What writes a line for each version."""

    def tell(fate: Fate) -> None:
        at = datetime.fromtimestamp(fate.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        new = "" if fate.new is None else fate.new.hex()
        words = ("kept" if new else "dropped", *fate.pair, at, fate.old.hex(), new)
        report.write("\t".join(words) + "\n")

    return tell


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
