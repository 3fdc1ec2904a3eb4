"""Versions as git's history tells them, for a list of versions that is missing or behind."""

import heapq
import re
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from typing import IO, Final, NamedTuple, cast

import msgspec

from roundsman.archive.command import Git
from roundsman.archive.commits import JOINING
from roundsman.archive.interface import Execution, Pair, Withdrawal
from roundsman.archive.large import parse_pointer

LOOKED_AT: Final = 8000
"""Bytes of a content among which a NUL says that it is no text, as git has it."""

_TRAILERS: Final = ("Roundsman-Run", "Roundsman-Device", "Roundsman-Job")
_FORMAT: Final = (
    "%x01%x00%H%x00%P%x00%ct%x00%at%x00%s%x00%(trailers:"
    + "".join(f"key={key}," for key in _TRAILERS)
    + "unfold)%x00"
)
WITHDRAWN: Final = "-"
_COMMIT_ID: Final = re.compile(r"[0-9a-f]{40}")
_ASKED: Final = 256
_PIECE: Final = 1 << 18


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one path."""

    device: str
    job: str
    commit: bytes
    blob: bytes
    at: int
    """When it was committed, Unix seconds."""
    ended_at: int
    """When its run ended."""
    subject: str
    run_id: str | None = None
    size: int | None = None
    """Its bytes; of a pointer, those of the content it stands for."""
    lines: int | None = None
    """Its line ends; none: it is no text, or is kept beside the repository."""
    joined: bool = False
    """Whether it came by a line of others that was joined."""


def extent(content: bytes) -> tuple[int, int | None]:
    r"""Size and lines of what stands in git; `Kept` has their meaning.

    >>> extent(b"one\ntwo\n"), extent(b"a\0\n")
    ((8, 2), (3, None))
    """
    pointer = parse_pointer(content)
    if pointer is not None:
        return pointer.size, None
    return len(content), None if b"\0" in content[:LOOKED_AT] else content.count(b"\n")


class Change(NamedTuple):
    """What a commit says of one path, as against its first parent."""

    status: bytes
    """`A`, `M`, `D`, or `T` where a file became a link or the like."""
    mode: bytes
    blob: bytes
    """Its id; twenty zeros where the path is gone."""
    path: bytes


class Commit(msgspec.Struct, frozen=True):
    """A commit, and what it changed."""

    id: bytes
    parents: tuple[bytes, ...]
    at: int
    """When it was committed, Unix seconds."""
    authored_at: int
    subject: str
    trailers: str
    """Those of ours."""
    changes: list[Change]
    joined: bool = False
    """Whether it is of a line that was joined."""


def commits(
    git: Git, reached: bytes | None, tip: bytes, beside: Sequence[bytes] = ()
) -> Iterator[Commit]:
    """What `git log` tells, first parents only, oldest first; nothing that `beside` stands on.

    The output is split at NUL. A commit is the mark, then the fields of the format; a change is
    the field `:modes blobs status`, then the path.
    """
    span = tip.hex() if reached is None else f"{reached.hex()}..{tip.hex()}"
    fields = git.records(
        "log", "-z", "--reverse", "--first-parent", "-m", "--root", "--raw", "--no-abbrev",
        "--no-renames", f"--format={_FORMAT}", span,
        *(f"^{other.hex()}" for other in beside), "--",
    )  # fmt: skip
    commit: Commit | None = None
    for field in fields:
        if field.lstrip(b"\n") == b"\x01":
            if commit is not None:
                yield commit
            [name], parents = (_ids(next(fields)) for _ in range(2))
            at, authored_at = next(fields), next(fields)
            subject, trailers = (next(fields).decode(errors="replace") for _ in range(2))
            commit = Commit(name, parents, int(at), int(authored_at), subject, trailers, [])
        elif commit is not None and (said := field.lstrip(b"\n")).startswith(b":"):
            commit.changes.append(_change(said, next(fields)))
    if commit is not None:
        yield commit


def _with_joined(
    git: Git, reached: bytes | None, tip: bytes, beside: Sequence[bytes] = ()
) -> Iterator[Commit]:
    """The same, and before each commit that joins the line of others, theirs.

    So another archive that pushes to the same remote tells of a result by the same commit.
    """
    known = (*beside, *(() if reached is None else (reached,)))
    for commit in commits(git, reached, tip, beside):
        if _is_joining(commit):
            ours, theirs = commit.parents
            for other in _with_joined(git, ours, theirs, known):
                yield msgspec.structs.replace(other, joined=True)
        yield commit


def _is_joining(commit: Commit) -> bool:
    return len(commit.parents) == 2 and commit.subject == JOINING


def _standing(git: Git, commit: bytes, paths: Collection[bytes]) -> dict[bytes, bytes]:
    """The content that each of these paths has in a commit, if it has any."""
    asked = b"".join(commit.hex().encode() + b":" + path + b"\n" for path in paths)
    done = subprocess.run(
        git.arguments("cat-file", "--batch-check=%(objectname) %(objecttype)"),
        input=asked,
        capture_output=True,
        check=False,
        env=git.environment,
    )
    answers = done.stdout.splitlines()
    if done.returncode or len(answers) != len(paths):
        raise git.failure("cat-file", done.returncode, done.stderr)
    return {
        path: bytes.fromhex(answer[:40].decode())
        for path, answer in zip(paths, answers, strict=True)
        if answer.endswith(b" blob")
    }


def _change(said: bytes, path: bytes) -> Change:
    _, mode, _, blob, status = said.split()
    return Change(status, mode, bytes.fromhex(blob.decode()), path)


def _ids(field: bytes) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(name) for name in field.decode().split())


def changes(
    git: Git,
    pair: Callable[[bytes], tuple[str, str] | None],
    reached: bytes | None,
    tip: bytes,
    joined: Sequence[bytes] = (),
) -> Iterator[Kept]:
    """Each content that a path came to, oldest first; `pair` says whose a path is.

    `joined` are the newest commits of other histories, told among the first parents by their times.
    Sizes are not known to it.
    """
    # Of one second the others come first: what joined them stands on them.
    own = _with_joined(git, reached, tip, joined)  # those are told by themselves
    told = [*(commits(git, None, other) for other in joined), own]
    last: dict[bytes, Kept] = {}
    joining: Commit | None = None
    for commit in heapq.merge(*told, key=attrgetter("at")):
        if _is_joining(commit):  # what it brought was told with the commits that it joined
            joining = commit
            continue
        for kept, path in _kept(commit, pair):
            last[path] = kept
            yield kept
    if joining is None:
        return
    for path, blob in _standing(git, tip, last).items():
        if last[path].blob != blob:  # both lines had changed it
            about = {"commit": joining.id, "at": joining.at, "ended_at": joining.authored_at}
            yield msgspec.structs.replace(
                last[path], blob=blob, subject=joining.subject, run_id=None, **about
            )


def withdrawals(git: Git, reached: bytes | None, tip: bytes) -> list[Withdrawal]:
    """What commits withdraw that are below `tip` and not below `reached`."""
    keys = ("Withdrawn", "Device", "Job", "Kept")
    asked = "".join(f"key=Roundsman-{key}," for key in keys)
    told = git.lines(
        *("log", "--fixed-strings", "--grep=Roundsman-Withdrawn: "),
        *(f"--format=%(trailers:{asked}unfold)", "--end-of-options"),
        tip.hex() if reached is None else f"{reached.hex()}..{tip.hex()}",
    )
    found: list[dict[str, str]] = []
    for line in told:
        key, _, value = line.decode(errors="replace").partition(": ")
        if key == "Roundsman-Withdrawn":
            found.append({})
        if found and value:
            found[-1][key.removeprefix("Roundsman-")] = value
    return [
        Withdrawal(
            device=each["Device"],
            job=each["Job"],
            version=each["Withdrawn"],
            kept=each.get("Kept"),
        )
        for each in found
        if {"Device", "Job"} <= each.keys()
        and _COMMIT_ID.fullmatch(each["Withdrawn"])
        and _COMMIT_ID.fullmatch(each.get("Kept", each["Withdrawn"]))
    ]


def execution(git: Git, commit: str, pair: Pair) -> Execution | None:
    """Of which execution of a device and job a commit holds the result, if it says so."""
    keys = (*_TRAILERS, "Roundsman-Due", "Roundsman-Worker")
    asked = "".join(f"key={key}," for key in keys)
    trailers = git.run("log", "-1", f"--format=%(trailers:{asked}unfold)", commit).decode()
    results: list[dict[str, str]] = []
    for line in trailers.splitlines():
        key, _, value = line.partition(": ")
        if key == keys[0]:
            results.append({})
        if results:
            results[-1][key] = value
    for result in results:
        if (result.get(keys[1]), result.get(keys[2])) == pair:
            with suppress(KeyError, ValueError, OverflowError):  # others may push what they like
                due = datetime.fromisoformat(result[keys[3]])
                return Execution(due=int(due.timestamp()), worker_id=result.get(keys[4]))
    return None


def dues(git: Git, reached: bytes | None, tip: bytes) -> dict[Pair, str]:
    """The newest due time of each device and job of which results came between two commits.

    As commits have it: by their order as texts they are ordered in time. What is withdrawn counts
    as `WITHDRAWN`, which is before all of them.
    """
    told = withdrawals(git, reached, tip)
    withdrawn = {(each.version, (each.device, each.job)) for each in told}
    keys = ("Commit", "Roundsman-Device", "Roundsman-Job", "Roundsman-Due")
    asked = "".join(f"key={key}," for key in keys)
    span = tip.hex() if reached is None else f"{reached.hex()}..{tip.hex()}"
    # Also of what came before: what was put back instead gives way to any result.
    found: dict[Pair, str] = dict.fromkeys(((each.device, each.job) for each in told), WITHDRAWN)
    said: dict[str, str] = {}
    for line in git.lines("log", f"--format=Commit: %H%n%(trailers:{asked}unfold)", span):
        key, _, value = line.decode(errors="replace").partition(": ")
        said[key] = value
        if key == keys[3]:
            commit, *pair = (said.get(each, "") for each in keys[:3])
            about = (pair[0], pair[1])
            due = WITHDRAWN if (commit, about) in withdrawn else value
            found[about] = max(found.get(about, ""), due)
    return found


def _kept(
    commit: Commit, pair: Callable[[bytes], tuple[str, str] | None]
) -> Iterator[tuple[Kept, bytes]]:
    """What a commit brought, and by which path."""
    runs: dict[tuple[str, str], str] | None = None
    for change in commit.changes:
        owner = pair(change.path)
        if owner is not None and change.mode.startswith(b"100"):
            runs = _runs(commit.trailers) if runs is None else runs
            kept = Kept(
                device=owner[0],
                job=owner[1],
                commit=commit.id,
                blob=change.blob,
                at=commit.at,
                ended_at=commit.authored_at,
                subject=commit.subject,
                run_id=runs.get(owner),
                joined=commit.joined,
            )
            yield kept, change.path


def _runs(trailers: str) -> dict[tuple[str, str], str]:
    """Device and job to the id of the run, of each result that a commit names."""
    values = [line.partition(": ")[::2] for line in trailers.splitlines()]
    runs = {}
    for (first, run), (second, device), (third, job) in zip(
        values, values[1:], values[2:], strict=False
    ):
        if (first, second, third) == _TRAILERS:
            runs[device, job] = run
    return runs


def measured(git: Git, blobs: Collection[bytes]) -> dict[bytes, tuple[int, int | None]]:
    """Size and lines of each blob, in constant memory. Raises `ArchiveUnavailableError`."""
    wanted = [*blobs]
    found: dict[bytes, tuple[int, int | None]] = {}
    if not wanted:
        return found
    with subprocess.Popen(
        git.arguments("cat-file", "--batch"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=git.environment,
    ) as process:
        stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        for start in range(0, len(wanted), _ASKED):
            some = wanted[start : start + _ASKED]
            stdin.write(b"".join([blob.hex().encode() + b"\n" for blob in some]))
            stdin.flush()
            for blob in some:
                head = stdout.readline().split()
                if len(head) != 3:
                    process.kill()
                    raise git.failure("cat-file", 0, f"{blob.hex()}: {head!r}".encode())
                found[blob] = _measure(stdout, int(head[2]))
                stdout.read(1)
    return found


def _measure(stream: IO[bytes], size: int) -> tuple[int, int | None]:
    """The same as `extent`, of so many bytes of a stream."""
    first = stream.read(min(size, _PIECE))
    said, lines = extent(first)
    rest = size - len(first)
    while rest > 0:
        piece = stream.read(min(rest, _PIECE))
        rest -= len(piece) or rest
        said += len(piece)
        lines = None if lines is None else lines + piece.count(b"\n")
    return said, lines
