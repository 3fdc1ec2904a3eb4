"""How small `git gc --aggressive` would make a repository that it takes days for.

git compares an object with those of the same path first, so what it makes of some paths does not
depend on how many there are beside them. Of each kind of object (commits, the folders of each
depth, contents) a sample is packed as `gc --aggressive` packs, and counted for as many as there
are. Where whole paths are taken, with all their versions, the sample packs rather better than the
whole would: fewer strangers stand between two versions. `python -m bench.sampled FOLDER`; with
`--whole`, a repository small enough is packed by `gc --aggressive`, too, which says how good the
estimate is.
"""

import argparse
import random
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.report import Row
from bench.size import collected, packed
from roundsman.archive.indexing import VERSIONS

_VERSIONS: Final = 10_000
"""Of each kind, that are packed."""
_INDEX_BYTES: Final = 20 + 4 + 4
"""Of an object in a pack's index: its id, its check sum, its place (`gitformat-pack`)."""
_AGGRESSIVE: Final = ("--window=250", "--depth=50", "--no-reuse-delta", "--delta-base-offset")


@dataclass(frozen=True, slots=True)
class _Sample:
    """Some objects of one kind."""

    kind: str
    objects: Sequence[str]
    """As `git pack-objects` is told them: an id and a path."""
    versions: int
    """That they are of."""


class _Repository:
    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._folder = folder
        self._rng = rng
        listed = self.git("ls-tree", "-r", "--name-only", "HEAD", "--", "by_device")
        self._paths = {tuple(path.split("/")[-2:]): path for path in listed.splitlines()}
        with closing(self._index()) as index:
            self.versions: int = index.execute("SELECT count(*) FROM version").fetchone()[0]
            self._ids: dict[str, int] = {
                self._paths[device, job]: number
                for number, device, job in index.execute("SELECT id, device, job FROM path")
            }

    def git(self, *arguments: str, given: str = "") -> str:
        command = ["git", f"--git-dir={self._folder}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
        return done.stdout

    def samples(self) -> Iterator[_Sample]:
        """Of each kind of object."""
        latest = self.git("rev-list", f"--max-count={_VERSIONS}", "HEAD").split()
        yield _Sample("commits", [f"{commit} " for commit in latest], len(latest))
        for depth in range(next(iter(self._ids)).count("/") + 2):
            by_place: defaultdict[str, list[int]] = defaultdict(list)
            for path, number in self._ids.items():
                by_place["/".join(path.split("/")[:depth])].append(number)
            if len(by_place) == 1:
                (place,) = by_place
                named = [(commit, place) for commit in latest]
            else:
                named = [*self._of_some(by_place)]
            kind = f"folders like {named[0][1] or '/'}" if depth < self._depth else "contents"
            found = self._resolved(named)
            yield _Sample(kind, [*dict.fromkeys(found)], len(named))

    @property
    def _depth(self) -> int:
        return next(iter(self._ids)).count("/") + 1

    def _of_some(self, by_place: dict[str, list[int]]) -> Iterator[tuple[str, str]]:
        """Commits that changed something in a place, and the place, of as many as it takes."""
        places = sorted(by_place)
        self._rng.shuffle(places)
        count = 0
        with closing(self._index()) as index:
            for place in places:
                if count >= _VERSIONS:
                    return
                commits = [
                    row
                    for number in by_place[place]
                    for row in index.execute(
                        "SELECT seq, lower(hex(commit_id)) FROM version WHERE path = ?", (number,)
                    )
                ]
                for _, commit in sorted(commits)[-_VERSIONS:]:
                    yield commit, place
                    count += 1

    def _resolved(self, named: Sequence[tuple[str, str]]) -> Iterator[str]:
        asked = "".join(f"{commit}:{place}\n" for commit, place in named)
        ids = self.git("cat-file", "--batch-check=%(objectname)", given=asked).splitlines()
        for name, (_, place) in zip(ids, named, strict=True):
            if not name.endswith(" missing"):
                yield f"{name} {place}"

    def stands(self, sample: _Sample) -> int:
        """Bytes that the objects take as they are."""
        asked = "".join(f"{line.split(' ')[0]}\n" for line in sample.objects)
        sizes = self.git("cat-file", "--batch-check=%(objectsize:disk)", given=asked)
        return sum(map(int, sizes.split()))

    def aggressively(self, sample: _Sample) -> int:
        """Bytes that they take when git packs them as hard as it does."""
        command = ["git", f"--git-dir={self._folder}", "pack-objects", "--quiet", "--stdout"]
        given = "".join(f"{line}\n" for line in sample.objects).encode()
        done = subprocess.run(
            [*command, *_AGGRESSIVE], input=given, capture_output=True, check=True
        )
        return len(done.stdout)

    def _index(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self._folder / 'roundsman' / VERSIONS}?mode=ro", uri=True)


def estimate(folder: Path, rng: random.Random) -> list[Row]:
    """How the repository stands beside what `gc --aggressive` would make of it."""
    repository = _Repository(folder, rng)
    rows = []
    total = float(_beside_packs(folder))  # the graph of commits: git writes the same
    for sample in repository.samples():
        begun = time.monotonic()
        aggressive, stands = repository.aggressively(sample), repository.stands(sample)
        share = repository.versions / sample.versions
        total += share * (aggressive + _INDEX_BYTES * len(sample.objects))
        rows.append(
            Row(
                name=f"{sample.kind}, {len(sample.objects):,} in {time.monotonic() - begun:.0f} s",
                value=stands / len(sample.objects),
                unit="bytes each",
                compared_to=f"{aggressive / len(sample.objects):.1f} packed aggressively",
                ratio=stands / aggressive,
            )
        )
    size = packed(folder)
    estimated = Row(name="git gc --aggressive, estimated", value=total / 1e6, unit="MB")
    as_it_is = Row(
        name=f"as it is, {repository.versions:,} versions",
        value=size / 1e6,
        unit="MB",
        compared_to="the estimate",
        ratio=size / total,
    )
    return [*rows, estimated, as_it_is]


def _beside_packs(folder: Path) -> int:
    files = (folder / "objects" / "pack").iterdir()
    return packed(folder) - sum(
        path.stat().st_size for path in files if path.suffix in (".pack", ".idx")
    )


def main() -> None:
    """Estimate it for a repository that `bench.size` built."""
    parser = argparse.ArgumentParser(prog="python -m bench.sampled", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--whole", action="store_true", help="pack all of it, too")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    rows = estimate(given.folder / "archive.git", random.Random(given.seed))
    if given.whole:
        size, seconds = collected(given.folder / "archive.git", given.folder / "clone.git")
        rows.append(Row(name=f"git gc --aggressive, {seconds:.0f} s", value=size / 1e6, unit="MB"))
    for row in rows:
        ratio = "" if row.ratio is None else f"  {row.ratio:.2f} of {row.compared_to}"
        print(f"{row.name:60} {row.value:12,.1f} {row.unit}{ratio}")


if __name__ == "__main__":
    main()
