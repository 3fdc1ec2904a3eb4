"""Commit objects: who, when, and which executions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from roundsman.archive.interface import Entry, Withdrawal

JOINING: Final = "Join what others pushed"
WITHDRAWING: Final = "Withdraw "
"""So begins the first line of a commit that withdraws."""
OVERVIEWS: Final = "Bring overviews up to date"
_IDENTITY: Final = "Roundsman <roundsman@localhost>"
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999, the last that a date can say


def subject(entries: Sequence[Entry]) -> str:
    """First line of the message."""
    if len(entries) == 1:
        entry = entries[0]
        return f"{entry.device} {entry.job}, due {_date(entry.due)}"
    return f"{len(entries)} results"


def commit_object(tree: bytes, parent: bytes | None, entries: Sequence[Entry], now: float) -> bytes:
    """The commit of one result, or of several that share it.

    The author's time is when the newest of them ended, the committer's is `now`.
    """
    ended = max(entry.ended_at for entry in entries)
    lines = [subject(entries), "", *(line for entry in entries for line in _trailers(entry))]
    return _commit(tree, [] if parent is None else [parent], ended, now, lines)


def moving_commit(tree: bytes, parent: bytes, templates: Sequence[str], now: float) -> bytes:
    """The commit that moves all results to where the paths now say."""
    lines = ["Move results to their new paths", "", *templates]
    return _commit(tree, [parent], now, now, lines)


def overview_commit(tree: bytes, parent: bytes, now: float) -> bytes:
    """The commit of overviews alone: they were asked for, or others changed what they show."""
    return _commit(tree, [parent], now, now, [OVERVIEWS])


def joining_commit(tree: bytes, ours: bytes, theirs: bytes, now: float) -> bytes:
    """The commit that stands on ours and on what others pushed to a remote."""
    return _commit(tree, [ours, theirs], now, now, [JOINING])


def withdrawing_subject(withdrawn: Sequence[Withdrawal]) -> str:
    """First line of the message of the commit that withdraws these."""
    if len(withdrawn) == 1:
        return f"{WITHDRAWING}{withdrawn[0].device} {withdrawn[0].job}"
    return f"{WITHDRAWING}{len(withdrawn)} results"


def withdrawing_commit(
    tree: bytes, parent: bytes, withdrawn: Sequence[Withdrawal], now: float
) -> bytes:
    """The commit that says of others that they are not what was kept of their runs."""
    lines = [withdrawing_subject(withdrawn), ""]
    for each in withdrawn:
        trailers = {
            "Withdrawn": each.version,
            "Device": each.device,
            "Job": each.job,
            "Kept": each.kept or "",
        }
        lines += [f"Roundsman-{key}: {value}" for key, value in trailers.items() if value]
    return _commit(tree, [parent], now, now, lines)


def _commit(
    tree: bytes, parents: Sequence[bytes], author: float, committer: float, message: Sequence[str]
) -> bytes:
    lines = [
        f"tree {tree.hex()}",
        *(f"parent {parent.hex()}" for parent in parents),
        f"author {_IDENTITY} {seconds(author)} +0000",
        f"committer {_IDENTITY} {seconds(committer)} +0000",
        "",
        *message,
        "",
    ]
    return "\n".join(lines).encode()


def _trailers(entry: Entry) -> list[str]:
    trailers = {
        "Run": entry.run_id,
        "Device": entry.device,
        "Job": entry.job,
        "Due": _date(entry.due),
        "Worker": entry.worker_id,
    }
    return [f"Roundsman-{key}: {_one_line(value)}" for key, value in trailers.items() if value]


@lru_cache(1 << 8)
def _date(instant: float) -> str:
    return datetime.fromtimestamp(seconds(instant), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(instant: float) -> int:
    """An instant in whole seconds, such as a commit can say."""
    return int(max(0, min(instant, _LAST_SECOND)))


def _one_line(value: str) -> str:
    """No value may end its line, and begin one of its own."""
    if value.isprintable():
        return value
    return "".join(letter if letter.isprintable() else "?" for letter in value)
