"""Which versions of a history stay: decided before anything is written.

All versions are noted by result in a database on the disk, gone through once more in that order,
and what stays is one bit each: memory grows with the number of results, hardly with that of their
versions.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from roundsman.archive.command import Git
from roundsman.archive.interface import Pair
from roundsman.archive.thinning_policy import Policy
from roundsman.archive.walking import Change, Commit, commits, withdrawals

_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE version (seq INTEGER PRIMARY KEY, slot INTEGER NOT NULL, at INTEGER NOT NULL,
                      blob BLOB NOT NULL, refused INTEGER NOT NULL);
CREATE TABLE other (blob BLOB PRIMARY KEY, path BLOB NOT NULL) WITHOUT ROWID;
"""
_BY_SLOT: Final = "SELECT slot, seq, at, blob, refused FROM version ORDER BY slot, seq"
_AT_ONCE: Final = 10_000
_DIGITS: Final = "@ABC"

_Row: TypeAlias = tuple[int, int, int, bytes, int]


class Slot:
    """One result, device and job, while its history is gone through."""

    __slots__ = ("blob", "kept", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.blob = b""
        """What it came to last."""
        self.kept = b""
        """What it came to last of what stays."""


class Slots:
    """All results of a history, met commit by commit, oldest first, line after line."""

    def __init__(self, pair: Callable[[bytes], Pair | None]) -> None:
        """`pair` says whose result is looked for at a path."""
        self._pair = pair
        self._slots: dict[Pair, Slot] = {}
        self._joined: dict[Pair, Slot] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._slots.keys() | self._joined.keys())

    def get(self, pair: Pair) -> Slot | None:
        """A result that was met on this line."""
        return self._slots.get(pair)

    def begin_line(self) -> None:
        """Go on with another line, which those before are joined to."""
        self._joined.update(self._slots)
        self._slots = {}

    def versions(self, commit: Commit) -> Iterator[tuple[Pair, Slot]]:
        """The results that a commit brought to another content, in the order of its paths."""
        for change in commit.changes:
            pair = self._pair(change.path) if is_file(change) else None
            if pair is None:
                continue
            slot = self._slots.get(pair)
            if slot is None:
                slot = self._slots[pair] = self._met(pair, change.blob)
            if slot.blob != change.blob:
                slot.blob = change.blob
                yield pair, slot

    def _met(self, pair: Pair, blob: bytes) -> Slot:
        """A result that this line did not have: one that was joined as it was, or another."""
        slot = self._joined.get(pair)
        if slot is None or slot.blob != blob:
            slot = Slot(self._count)
            self._count += 1
        return slot


class Plan(msgspec.Struct, frozen=True):
    """What stays."""

    stays: bytearray
    """A bit for each version, in the order in which `Slots` tells them."""
    versions: int
    kept: int
    slots: int
    commits: int

    def keeps(self, seq: int) -> bool:
        """Whether a version stays."""
        return bool(self.stays[seq >> 3] & 1 << (seq & 7))


def is_file(change: Change) -> bool:
    """Whether a path holds a plain file from now on."""
    return change.mode.startswith(b"100")


def decide(
    git: Git,
    ends: Sequence[bytes],
    pair: Callable[[bytes], Pair | None],
    policy: Policy,
    file: Path,
) -> Plan:
    """Decide which versions stay, with a database in `file`, which is new.

    `ends` are the newest commits of the lines, of which the last is the one that the others were
    joined to. Raises `ArchiveUnavailableError`, `sqlite3.Error`.
    """
    slots = Slots(pair)
    refused = {
        (bytes.fromhex(each.version), (each.device, each.job))
        for each in withdrawals(git, None, ends[-1])
        if each.kept is None
    }
    count = seen = 0
    with closing(sqlite3.connect(file)) as database:
        database.executescript(_SCHEMA)
        rows: list[_Row] = []
        for end in ends:
            slots.begin_line()
            for commit in commits(git, None, end):
                seen += 1
                for owner, slot in slots.versions(commit):
                    is_refused = (commit.id, owner) in refused
                    rows.append((slot.number, count, commit.at, slot.blob, is_refused))
                    count += 1
                if len(rows) >= _AT_ONCE:
                    _insert(database, rows)
                    rows = []
        _insert(database, rows)
        database.commit()
        stays = bytearray(count + 7 >> 3)
        kept = 0
        for _, seq, *_ in _staying(database, policy):
            stays[seq >> 3] |= 1 << (seq & 7)
            kept += 1
    return Plan(stays, count, kept, len(slots), seen)


def note_other(file: Path, blobs: dict[bytes, bytes]) -> None:
    """Note contents that are needed and are no result's, with the paths where they stand."""
    with closing(sqlite3.connect(file)) as database, database:
        database.executemany("INSERT OR IGNORE INTO other VALUES (?, ?)", blobs.items())


def contents(file: Path, plan: Plan) -> Generator[tuple[bytes, str], None, None]:
    """Every content that stays, each result's together, and a name that such have in common."""
    with closing(sqlite3.connect(file)) as database:
        for slot, seq, _, blob, _ in database.execute(_BY_SLOT):
            if plan.keeps(seq):
                yield blob, _name(slot)
        for blob, path in database.execute("SELECT blob, path FROM other ORDER BY path"):
            yield blob, path.decode(errors="replace").replace("\n", "?")


def _insert(database: sqlite3.Connection, rows: list[_Row]) -> None:
    insert = "INSERT INTO version (slot, seq, at, blob, refused) VALUES (?, ?, ?, ?, ?)"
    database.executemany(insert, rows)


def _staying(database: sqlite3.Connection, policy: Policy) -> Iterator[_Row]:
    """The versions that stay: of each result the first, the latest, and what the policy says.

    What would follow an equal content, now that those between are gone, is no version any more.
    """
    database.execute("CREATE INDEX by_slot ON version (slot, seq, at, blob, refused)")
    rows = _counting(database.execute(_BY_SLOT), policy)
    row = next(rows, None)
    before: _Row | None = None
    while row is not None:
        following = next(rows, None)
        first = before is None or before[0] != row[0]
        latest = following is None or following[0] != row[0]
        stays = first or latest or _is_last(policy, row[2], following)
        if stays and (before is None or first or before[3] != row[3]):
            yield row
            before = row
        row = following


def _counting(rows: Iterable[_Row], policy: Policy) -> Iterator[_Row]:
    """Those that may stay: what was refused is the last of no stretch of time."""
    slot = None
    for row in rows:
        if not row[4] or row[0] != slot or policy.bucket(row[2]) == ():
            yield row
        slot = row[0]


def _is_last(policy: Policy, at: int, following: _Row | None) -> bool:
    """Whether a version is the last of those that share a stretch of time."""
    bucket = policy.bucket(at)
    if bucket is None or following is None:
        return False
    return bucket == () or bucket != policy.bucket(following[2])


def _name(slot: int) -> str:
    """A name that git sorts by: it looks at the end of names only, and takes some for the same.

    Two bits of each character count, at a place of their own, so that no two results share one.
    """
    digits = [_DIGITS[slot >> 2 * place & 3] for place in range(13)]
    return "".join(reversed(digits))
