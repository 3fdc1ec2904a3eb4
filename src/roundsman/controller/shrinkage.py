"""The shrink guard: a result that lost much of what was there is not believed at once.

A session that was cut short in a way that nobody noticed, and a filesystem that was half wiped,
look alike: much less than before. What lost more than a set share waits in quarantine until a
second result, or a person, confirms it.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import msgspec

from roundsman.archive.interface import Archive, VersionNotFoundError
from roundsman.config.records import ShrinkGuard
from roundsman.controller.spool import LOOKED_AT_BYTES, Received
from roundsman.ledger.interface import Extent, KeptResult, LeasedSlot, Quarantined

LEAST_BINARY_BYTES: Final = 1024
"""A binary content smaller than this may become whatever it likes."""
TOLERANCE: Final = 10
"""Two contents are of about the same size when they differ by at most one part in so many."""

SizeOf: TypeAlias = Callable[[tuple[str, str]], Awaitable[int | None]]
"""Tells how large the latest version of a device and job is."""


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard makes of a result."""

    kept: KeptResult
    """What is known of the slot's result once this one is dealt with."""
    loss: str | None = None
    """Why it is not to be stored; none: it is."""


def extent_of(content: Received) -> Extent:
    """How much a content that was received is."""
    return Extent(lines=None if content.binary else content.lines, size=content.size)


def has_shrunk(before: Extent, now: Extent, guard: ShrinkGuard) -> bool:
    """Whether more was lost than the guard allows; a small content may lose anything.

    Texts are told by their lines; where either is none, by their bytes.
    """
    if before.lines is not None and now.lines is not None:
        old, new, least = before.lines, now.lines, guard.least_lines
    else:
        old, new, least = before.size, now.size, LEAST_BINARY_BYTES
    return old >= least and (old - new) * 100 > guard.percent * old


def confirms(waiting: Quarantined, digest: str, now: Extent) -> bool:
    """Whether a second result is what waits in quarantine, or about as much."""
    if waiting.digest == digest:
        return True
    if waiting.extent.lines is not None and now.lines is not None:
        old, new = waiting.extent.lines, now.lines
    else:
        old, new = waiting.extent.size, now.size
    return abs(old - new) <= max(1, old // TOLERANCE)


def weigh(run_id: str, content: Received, before: KeptResult, guard: ShrinkGuard) -> Weighed:
    """What becomes of a result, after what is known from `before` it."""
    now = extent_of(content)
    stored = Weighed(kept=KeptResult(extent=now))
    if before.extent is None or not has_shrunk(before.extent, now, guard):
        return stored
    waiting = before.quarantined
    if waiting is not None and confirms(waiting, content.digest, now):
        return stored
    quarantined = Quarantined(run_id=run_id, digest=content.digest, extent=now)
    return Weighed(
        kept=KeptResult(extent=before.extent, quarantined=quarantined),
        loss=f"{_told(now)} where {_told(before.extent)} were before, a loss of more than "
        f"{guard.percent} %; it is in quarantine until the next result or a person confirms it",
    )


async def known_before(
    lease: LeasedSlot, guard: ShrinkGuard, now: Extent, archive: Archive, size_of: SizeOf
) -> KeptResult:
    """What is known of the slot's result: from the ledger, and where that is new, the archive.

    The archive is asked for a size first, and read only where `now` is clearly less: the first
    round over an adopted repository must not read all of it.
    """
    known = lease.result or KeptResult()
    if known.extent is not None or guard.percent == 100:
        return known
    size = await size_of((lease.device, lease.job))
    if size is None or now.size * TOLERANCE >= size * (TOLERANCE - 1):
        return known
    return msgspec.structs.replace(known, extent=await _archived(archive, lease.device, lease.job))


async def _archived(archive: Archive, device: str, job: str) -> Extent | None:
    size = lines = 0
    head = b""
    try:
        async for piece in archive.read(device, job):
            size += len(piece)
            lines += piece.count(b"\n")
            head += piece[: LOOKED_AT_BYTES - len(head)]
    except VersionNotFoundError:
        return None
    return Extent(lines=None if b"\0" in head else lines, size=size)


def _told(extent: Extent) -> str:
    return f"{extent.size:,} bytes" if extent.lines is None else f"{extent.lines:,} lines"
